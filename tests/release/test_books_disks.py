"""The books' commands on disks that are full or read-only: one line, nothing half-written, nothing lost."""
import os
import shutil
import subprocess

import pytest

import run_release
from dnnlib import cli
from dnnlib.util import UserError
from fingerprints.registry import Registry
from helpers import leave_reservation, old_registry

MODEL, DIGEST = 'a' * 64, 'd' * 64
FULL, READ_ONLY = 'full', 'read-only'


def mount(*words):
    done = subprocess.run(['mount', *words], capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f'a file system cannot be mounted here: {done.stderr.strip()}')


@pytest.fixture
def books(run_dir, tmp_path, monkeypatch):
    """What an owner has: a registry of two users, a key, a checkpoint and an export; an open reservation; a run."""
    monkeypatch.chdir(tmp_path)
    os.symlink(run_dir, 'run')
    registry = Registry('registry.sqlite', create=True)
    for name in ('ann', 'bob'):
        with registry.issue(name, MODEL, 16) as pending:
            pending.digest = DIGEST
    leave_reservation(registry, 'cid', MODEL, 16)
    for words in (['key', 'key', '--name=example.com/books'], ['checkpoint', '--key=key', '--out=note'],
                  ['export', 'exported.jsonl']):
        run_release.main(run_release.make_parser().parse_args(words))
    return registry


@pytest.fixture
def disk(books):
    """Puts a copy of the registry, as disk/registry.sqlite, on a file system of its own that then takes nothing."""
    os.mkdir('disk')
    mount('-t', 'tmpfs', '-o', 'size=512k', 'none', 'disk')
    path = os.path.abspath('disk')

    def prepare(kind):
        shutil.copy('registry.sqlite', 'disk/registry.sqlite')
        old_registry('disk/old.sqlite')
        if kind == READ_ONLY:
            mount('-o', 'remount,ro', 'disk')
        else:
            with pytest.raises(OSError), open('disk/filler', 'wb', buffering=0) as file:
                while True:
                    file.write(bytes(1024))
        return {name: open(os.path.join('disk', name), 'rb').read() for name in os.listdir('disk')}

    yield prepare
    subprocess.run(['umount', '--lazy', path], check=True)


ON_DISK = '--registry=disk/registry.sqlite'
COMMANDS = [
    ['key', 'disk/new.key', '--name=example.com/books'], ['key', 'disk/new.key', '--codes'],
    ['checkpoint', '--key=key', '--out=disk/new.note'], ['checkpoint', '--key=key', ON_DISK],
    ['prove', '3', '--checkpoint=note', '--out=disk/new.proof'], ['timestamp', 'note', '--request=disk/new.tsq'],
    ['export', 'disk/new.jsonl'], ['export', 'new.jsonl', ON_DISK], ['import', 'exported.jsonl', '--registry=disk/new'],
    ['notice', 'ann', '--out=disk/new.letter'], ['misuse', 'ann', '--reason=sold', ON_DISK], ['revoke', 'ann', ON_DISK],
    ['abandon', 'cid', ON_DISK], ['register', '--run=run', ON_DISK], ['upgrade', '--registry=disk/old.sqlite']]
READING = [['list', ON_DISK], ['verify', ON_DISK], ['history', ON_DISK], ['deadlines', ON_DISK],
           ['notice', 'ann', ON_DISK], ['code', 'ann', ON_DISK],
           ['prove', '3', '--checkpoint=note', '--out=new.proof', ON_DISK]]


@pytest.mark.parametrize('kind', [FULL, READ_ONLY])
def test_every_command_that_writes_says_so_and_changes_nothing(disk, kind):
    reason = {FULL: ('No space left', 'is full'), READ_ONLY: ('Read-only file system', 'cannot be written')}[kind]
    before = disk(kind)
    for words in COMMANDS:
        with pytest.raises(Exception) as caught:
            run_release.main(run_release.make_parser().parse_args(words))
        line = str(caught.value) if isinstance(caught.value, UserError) else cli.refused(caught.value)
        assert line and any(part in line for part in reason) and '\n' not in line, (words, line)
        # A database that could not be begun is an empty file, as a registry's is until its first event. The index that
        # SQLite could not begin, NAME-shm, holds nothing, and its next opening begins it anew.
        left = {name for name in os.listdir('disk') if name not in before and os.path.getsize(f'disk/{name}')}
        assert left <= {'registry.sqlite-shm', 'old.sqlite-shm'}, words
        assert all(open(f'disk/{name}', 'rb').read() == data for name, data in before.items()), words
        assert not os.path.exists('new.jsonl'), words


def test_every_command_that_only_reads_works_on_a_read_only_disk(disk):
    before = disk(READ_ONLY)
    for words in READING:
        assert run_release.main(run_release.make_parser().parse_args(words)) in (0, None), words
    assert {name: open(os.path.join('disk', name), 'rb').read() for name in os.listdir('disk')} == before


def test_reading_takes_32_kib_beside_the_file_or_says_so(disk):
    disk(FULL)
    with pytest.raises(UserError, match='registry.sqlite cannot be used, its disk is full; nothing was written'):
        Registry('disk/registry.sqlite')
    os.truncate('disk/filler', os.path.getsize('disk/filler') - (1 << 16))
    for words in READING:
        assert run_release.main(run_release.make_parser().parse_args(words)) in (0, None), words
