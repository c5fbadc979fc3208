"""kill -9 around `issue --names`: registry and folders are whole or named, and the same command goes on.

ISSUE_KILLS sets the number of rounds.
"""
import os
import random
import signal
import subprocess
import sys
import time

import pytest

import run_release
from dnnlib.util import INCOMPLETE, sha256_folder
from fingerprints.registry import Registry
from helpers import ROOT

ROUNDS = int(os.environ.get('ISSUE_KILLS', 2))
USERS = 4 * ROUNDS + 2
PATIENCE = 600  # seconds until a command on a busy machine must have issued something


def issue_in_a_child(words):
    """The process id of a fork that issues. This process must not have used TensorFlow yet, only imported it."""
    child = os.fork()
    if child:
        return child
    try:
        run_release.main(run_release.make_parser().parse_args(words))
        os._exit(0)
    finally:
        os._exit(1)


def killed_while_issuing(words, registry):
    """Kills a command within half a second of its first event. Whether it was still running."""
    before, child, last = registry.size(), issue_in_a_child(words), time.monotonic() + PATIENCE
    while registry.size() == before and os.waitpid(child, os.WNOHANG) == (0, 0):
        assert time.monotonic() < last
        time.sleep(0.005)
    time.sleep(random.uniform(0, 0.5))
    os.kill(child, signal.SIGKILL)
    return os.waitpid(child, 0)[1] == signal.SIGKILL


def check_whole(registry, instances):
    """Every issued instance's folder is what the ledger says; of anything else it is known whose it is."""
    leftovers = registry.verify()
    assert {finding.kind for finding in leftovers} <= {'leftover'} and len(leftovers) <= 1, leftovers
    issued = {one.name: one.digest for one in registry.list()}
    for name, digest in issued.items():
        assert sha256_folder(f'{instances}/{name}/1') == digest
    for name in set(os.listdir(instances)) - set(issued):
        assert name.endswith(INCOMPLETE) or any(repr(name) in finding.text for finding in leftovers), name


def rounds(place, run_dir):
    """What the test does, in a process of its own."""
    import release.issue  # noqa: F401  (once for all children)
    names = [f'customer{number}' for number in range(USERS)]
    with open(f'{place}/names.csv', 'w') as file:
        file.write('name\n' + '\n'.join(names) + '\n')
    words = ['issue', f'--names={place}/names.csv', f'--run={run_dir}', f'--registry={place}/registry.sqlite',
             f'--out={place}/instances', '--selftest=false']
    registry, killed = Registry(f'{place}/registry.sqlite', create=True), 0
    os.makedirs(f'{place}/instances')
    for _ in range(ROUNDS):
        if len(registry.list()) == USERS:
            break
        killed += killed_while_issuing(words, registry)
        check_whole(registry, f'{place}/instances')
    assert os.waitpid(issue_in_a_child(words), 0)[1] == 0
    check_whole(registry, f'{place}/instances')
    assert registry.verify() == [] and killed
    assert sorted(os.listdir(f'{place}/instances')) == sorted(names) == sorted(one.name for one in registry.list())
    print(f'{killed} kills, {len(registry.list())} issued, {len(registry.history())} reserved')


@pytest.mark.skipif(not hasattr(os, 'fork'), reason='there is no fork here')
def test_nothing_is_lost_or_half_there_after_kill_9(run_dir, tmp_path):
    done = subprocess.run([sys.executable, __file__, str(tmp_path), run_dir], cwd=ROOT, capture_output=True, text=True,
                          env={**os.environ, 'PYTHONPATH': os.pathsep.join([ROOT, os.path.join(ROOT, 'tests')])})
    assert done.returncode == 0, done.stderr
    print(done.stdout)


if __name__ == '__main__':
    rounds(*sys.argv[1:])
