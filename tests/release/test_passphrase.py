"""A passphrase typed at a terminal, as an owner types it: in a process of its own, at a pseudo-terminal."""
import os
import pty
import re
import select
import subprocess
import sys

import pytest

from dnnlib.util import UserError
from fingerprints.database import Database, is_absent
from fingerprints.registry import Registry
from fingerprints.sealing import ask_passphrase
from helpers import ROOT

SECRET = 'korrektes Pferd, geheftet für immer'
CREATE = """
import argparse, sys
sys.path.insert(0, sys.argv[1])
from dnnlib import cli
from release import books
parser = cli.ArgumentParser()
parser.add_argument('root')
def main(args):
    registry = books.open_registry(argparse.Namespace(registry='registry.sqlite', passphrase=True), create=True)
    with registry.issue('ann', 'a' * 64, 32) as issue:
        issue.digest = 'd' * 64
cli.run(parser, main)
"""


def typed(folder, answers, *command):
    """Runs Python at a terminal of its own, types an answer at each prompt; returns (exit code, all that was shown)."""
    child, terminal = pty.fork()
    if not child:
        os.chdir(folder)
        os.execv(sys.executable, [sys.executable, *command])
    shown = b''
    while True:
        assert select.select([terminal], [], [], 120)[0], shown
        try:
            part = os.read(terminal, 1 << 12)
        except OSError:  # Linux says so when the last process of a terminal has gone
            break
        shown += part
        if answers and re.search(rb': $', shown):
            os.write(terminal, answers.pop(0).encode())
    assert not answers, shown
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), shown.decode().replace('\r\n', '\n')


def create(folder, *answers):
    return typed(folder, list(answers), '-c', CREATE, ROOT)


def use(folder, *answers):
    return typed(folder, list(answers), os.path.join(ROOT, 'run_release.py'), 'code', 'ann', '--passphrase')


def test_it_is_asked_for_twice_when_new_once_later_and_never_shown(tmp_path):
    code, shown = create(tmp_path, SECRET + '\n', SECRET + '\n')
    assert (code, shown) == (0, 'passphrase of the codes: \nthe same again: \n')
    key = SECRET.encode()
    code = Registry(tmp_path / 'registry.sqlite', key=key).code('ann')
    rc, shown = use(tmp_path, SECRET + '\n')
    from fingerprints.spelling import code_to_words
    assert (rc, shown) == (0, f'passphrase of the codes: \n{code_to_words(code)}\n')
    rc, shown = use(tmp_path, SECRET[:-1] + '\n')
    assert rc == 1 and 'error: the key does not fit' in shown and SECRET[:-1] not in shown


@pytest.mark.parametrize('answers, message', [
    ((SECRET + '\n', SECRET + '!\n'), 'the two passphrases differ; give the command again'),
    (('short\n',), 'a key of 5 bytes is too short'),
    (('\4',), 'a passphrase is typed at a terminal, and none was')])
def test_a_passphrase_that_will_not_do_makes_nothing(tmp_path, answers, message):
    code, shown = create(tmp_path, *answers)
    assert code == 1 and f'error: {message}' in shown and 'short\n' not in shown and os.listdir(tmp_path) == []


def test_without_a_terminal_it_is_refused_in_one_line(tmp_path):
    Registry(tmp_path / 'registry.sqlite', create=True, key=SECRET.encode())
    done = subprocess.run([sys.executable, os.path.join(ROOT, 'run_release.py'), 'code', 'ann', '--passphrase'],
                          cwd=tmp_path, input=SECRET + '\n', capture_output=True, text=True, start_new_session=True)
    assert (done.returncode, done.stdout) == (1, '')
    assert done.stderr == ('run_release.py: error: a passphrase is typed at a terminal, and none was; '
                           'give --code-key=FILE\n')


def test_bytes_that_are_no_text_are_a_passphrase_too(monkeypatch):
    monkeypatch.setattr('getpass.getpass', lambda prompt: 'caf\udce9 au lait')
    assert ask_passphrase(twice=True) == b'caf\xe9 au lait'


def test_whether_there_is_a_registry_yet(tmp_path):
    path = tmp_path / 'r.sqlite'
    assert is_absent(str(path)) and not path.exists()
    path.touch()
    assert is_absent(str(path))
    Registry(path, create=True)
    assert not is_absent(str(path)) and not is_absent(f'sqlite:///{path}')
    with Database(str(path)).transaction(write=True) as connection:
        for table in ('registry_schema', 'events', 'checkpoints'):
            connection.exec_driver_sql(f'DROP TABLE {table}')
        connection.exec_driver_sql('CREATE TABLE recipes (name)')
    with pytest.raises(UserError, match='a database of something else'):
        is_absent(str(path))
