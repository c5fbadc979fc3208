"""kill -9 around issue, attribute and revoke; ten processes at once. REGISTRY_KILLS sets the number of rounds."""
import os
import random
import signal
import time

import numpy as np
import pytest
from registries import MODEL, issue, issue_many, issue_revoke_attribute_forever, run

from fingerprints.processes import describe, has_ended, this_process
from fingerprints.registry import Registry

ROUNDS = int(os.environ.get('REGISTRY_KILLS', 3))


def test_nothing_is_lost_or_half_there_after_kill_9(location):
    registry, events = Registry(location, create=True), []
    registry.register_model(MODEL, 32)
    for number in range(ROUNDS):
        before = registry.size()
        process = run(issue_revoke_attribute_forever, location, f'round{number}')
        while registry.size() == before:
            assert process.is_alive()
            time.sleep(0.001)
        time.sleep(random.uniform(0, 0.2))
        os.kill(process.pid, signal.SIGKILL)
        process.join()
        again = Registry(location)
        now = list(again.events())
        assert now[:len(events)] == events  # whatever was read once stays
        events = now
        leftovers = again.verify()
        assert {finding.kind for finding in leftovers} <= {'leftover'} and len(leftovers) <= 1
        for finding in leftovers:
            name = again.history()[-1].name
            assert repr(name) in finding.text and again.history()[-1].state == 'reserved'
            issue(again, name)
        assert again.verify() == []
    assert registry.verify() == [] and len(events) > ROUNDS


@pytest.mark.parametrize('processes, users', [(3, 5)])
def test_processes_at_once_draw_unique_codes(location, processes, users):
    Registry(location, create=True).register_model(MODEL, 32)
    running = [run(issue_many, location, f'p{number}-', users) for number in range(processes)]
    for process in running:
        process.join()
    assert [process.exitcode for process in running] == [0] * processes
    registry = Registry(location)
    names, codes = registry.codes()
    assert len(set(names)) == processes * users == len(np.unique(codes, axis=0)) and registry.verify() == []


def test_processes_are_told_apart():
    here = this_process()
    assert not has_ended(here) and describe(here) == f'process {os.getpid()} on {here["host"]}'
    assert has_ended({**here, 'started': here['started'] - 1})  # the number was given to another process since
    assert not has_ended({**here, 'host': 'elsewhere'}) and not has_ended({})
    child = os.fork()
    if not child:
        os._exit(0)
    os.waitpid(child, 0)
    assert has_ended({**here, 'pid': child}) and describe({}) == 'process unknown on an unknown host'


def test_where_the_system_tells_no_start_the_number_decides(monkeypatch):
    monkeypatch.setattr('builtins.open', lambda *arguments: (_ for _ in ()).throw(OSError()))
    here = this_process()
    assert here['started'] is None and not has_ended(here)
    monkeypatch.setattr(os, 'kill', lambda pid, number: (_ for _ in ()).throw(PermissionError()))
    assert not has_ended({**here, 'pid': 1})  # another user's process is a process too


def test_a_user_without_a_name_is_unknown(monkeypatch):
    from fingerprints import processes
    monkeypatch.setattr(processes.getpass, 'getuser', lambda: (_ for _ in ()).throw(KeyError('uid')))
    assert processes.current_actor().startswith('unknown@')
