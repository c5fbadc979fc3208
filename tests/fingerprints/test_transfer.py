"""Export and import: the same events with the same hashes, or nothing; and registries of version 1."""
import json
import os
import sqlite3
import stat
import subprocess
import sys
import tempfile

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from registries import MODEL, issue, tamper

from dnnlib.util import UserError
from fingerprints.migration import migrate
from fingerprints.notes import SigningKey
from fingerprints.registry import Registry
from fingerprints.transfer import export_ledger, import_ledger

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
KEY = SigningKey.generate('example.com/fingerprints')


@pytest.fixture
def exported(tmp_path):
    """A registry with two users and a checkpoint, and the file it was exported to."""
    registry = Registry(tmp_path / 'source.sqlite', create=True)
    for name in ('ann', 'bob'):
        issue(registry, name)
    registry.checkpoint(KEY)
    path = str(tmp_path / 'ledger.jsonl')
    assert export_ledger(registry, path) == 7
    return registry, path


def test_what_is_exported_is_imported_whole(exported, location):
    registry, path = exported
    assert import_ledger(path, location) == 7
    again = Registry(location)
    assert list(again.events()) == list(registry.events()) and again.checkpoints() == registry.checkpoints()
    assert (again.codes()[1] == registry.codes()[1]).all() and again.list() == registry.list()
    assert again.verify(registry.checkpoints()) == []
    assert again.checkpoint(KEY) == registry.checkpoint(KEY)
    issue(again, 'cid')
    assert again.verify() == []


def test_the_file_is_for_its_owner_only_and_says_who_exported(exported):
    registry, path = exported
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
    assert list(registry.events())[-1].kind == 'ledger_exported'


def test_an_existing_file_is_kept(exported):
    registry, path = exported
    before = open(path).read()
    with pytest.raises(UserError, match='exists already'):
        export_ledger(registry, path)
    assert open(path).read() == before and registry.verify() == []


def test_a_file_that_cannot_be_made_is_told(exported, tmp_path):
    with pytest.raises(UserError, match='nowhere/x cannot be written'):
        export_ledger(exported[0], str(tmp_path / 'nowhere' / 'x'))


def test_a_full_disk_leaves_no_file(exported, tmp_path, monkeypatch):
    monkeypatch.setattr(os, 'fsync', lambda handle: os.write(os.open('/dev/full', os.O_WRONLY), b'x'))
    with pytest.raises(UserError, match='cannot be written: No space left on device'):
        export_ledger(exported[0], str(tmp_path / 'x'))
    assert not (tmp_path / 'x').exists()


def test_a_damaged_ledger_is_not_exported(exported, tmp_path):
    registry, _ = exported
    tamper(registry.location, "UPDATE events SET event = replace(event, 'bob', 'eve') WHERE seq = 4")
    with pytest.raises(UserError, match='event 4 was changed'):
        export_ledger(Registry(registry.location), str(tmp_path / 'x'))
    assert not (tmp_path / 'x').exists()


def test_a_registry_is_not_imported_over_another(exported, location):
    issue(Registry(location, create=True), 'eve')
    with pytest.raises(UserError, match='holds a registry already'):
        import_ledger(exported[1], location)
    assert [user.name for user in Registry(location).list()] == ['eve']


def header(lines, **change):
    return [json.dumps({**json.loads(lines[0]), **change}), *lines[1:]]


@pytest.mark.parametrize('change, message', [
    (lambda lines: [], 'is not an exported ledger'),
    (lambda lines: lines[1:], 'is not an exported ledger'),
    (lambda lines: ['[]', *lines[1:]], 'is not an exported ledger'),
    (lambda lines: header(lines, version='3'), 'is not an exported ledger of version 2'),
    (lambda lines: header(lines, events='7'), 'is not an exported ledger'),
    (lambda lines: header(lines, events=-1), 'is not an exported ledger'),
    (lambda lines: header(lines, events=0), 'its events are not those'),
    (lambda lines: header(lines, events=9), 'cannot be read'),
    (lambda lines: header(lines, events=6), 'its events are not those'),
    (lambda lines: header(lines, root='00'), 'its events are not those'),
    (lambda lines: lines[:5], 'its events are not those'),
    (lambda lines: lines[:4] + lines[5:], 'row 3 holds event 4'),
    (lambda lines: [line.replace('bob', 'eve') for line in lines], 'event 6 does not follow|does not follow'),
    (lambda lines: lines[:3] + lines[2:], 'row 2 holds event 1'),
    (lambda lines: lines + ['{}'], 'after the last event is no checkpoint'),
    (lambda lines: lines + ['{"checkpoint":"x"}'], 'is not a checkpoint'),
    (lambda lines: lines[:-1] + [lines[-1] + 'x' * 2 ** 20], 'line 9 is cut off, too long'),
    (lambda lines: lines[:-1] + ['é'], 'line 9 is cut off, too long or not plain text')])
def test_a_changed_file_makes_nothing(exported, tmp_path, change, message):
    path = tmp_path / 'changed.jsonl'
    path.write_text(''.join(f'{line}\n' for line in change(open(exported[1]).read().splitlines())))
    with pytest.raises(UserError, match=message) as caught:
        import_ledger(str(path), str(tmp_path / 'new.sqlite'))
    assert '\n' not in str(caught.value) and not (tmp_path / 'new.sqlite').exists()


def test_a_contradiction_in_a_file_is_told(tmp_path):
    registry = Registry(tmp_path / 'r.sqlite', create=True)
    registry.list()
    strange = registry._chain.next_event('2026-01-01', 'x', 'dance', {})  # it follows, in a chain that fits
    lines = [json.dumps({'format': 'fingerprint-ledger', 'version': '2', 'events': 2, 'root': ''})]
    path = tmp_path / 'l.jsonl'
    path.write_text('\n'.join(lines + [event.text for event in [*registry.events(), strange]]) + '\n')
    with pytest.raises(UserError, match="event 1 contradicts those before it: its kind 'dance' is unknown"):
        import_ledger(str(path), str(tmp_path / 'new.sqlite'))


def test_an_absent_file_is_told(tmp_path):
    with pytest.raises(UserError, match='absent cannot be read: No such file'):
        import_ledger(str(tmp_path / 'absent'), str(tmp_path / 'new.sqlite'))


@given(st.data())
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_changed_bytes_are_refused_in_one_line_or_change_nothing(exported, data):
    registry, path = exported
    original = open(path, 'rb').read()
    place = data.draw(st.integers(0, len(original) - 1))
    cut = data.draw(st.integers(0, 30))
    changed = original[:place] + data.draw(st.binary(max_size=30)) + original[place + cut:]
    other = f'{path}.changed'
    with open(other, 'wb') as file:
        file.write(changed)
    target = f'{path}.sqlite'
    try:
        import_ledger(other, target)
    except UserError as error:
        assert '\n' not in str(error) and not os.path.exists(target)
    else:  # spaces in the first line or in a checkpoint's, a checkpoint less: the events are the same
        again = Registry(target)
        assert list(again.events()) == list(registry.events())
        for end in ('', '-wal', '-shm'):
            if os.path.exists(target + end):
                os.unlink(target + end)


NAMES = st.sampled_from(['ann', 'bob', 'cid', 'dan'])
KINDS = st.sampled_from(['issue', 'fail', 'revoke', 'misuse', 'attribute', 'checkpoint', 'reopen'])
ACTIONS = st.lists(st.tuples(KINDS, NAMES), max_size=12)


@given(ACTIONS)
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_history_is_kept_and_goes_round(tmp_path, actions):
    """A plain dictionary is the oracle of what a registry has to know."""
    folder = tempfile.mkdtemp(dir=tmp_path)
    registry, known, notes = Registry(f'{folder}/r.sqlite', create=True), {}, []
    for action, name in actions:
        expected = {'issue': name not in known, 'revoke': known.get(name) == 'issued',
                    'misuse': known.get(name) == 'issued'}.get(action, True)
        try:
            if action == 'issue':
                issue(registry, name)
                known[name] = 'issued'
            elif action == 'fail' and name not in known:
                with pytest.raises(KeyError), registry.issue(name, MODEL, 32):
                    raise KeyError
            elif action == 'revoke':
                registry.revoke(name)
                known[name] = 'revoked'
            elif action == 'misuse':
                registry.note_misuse(name, 'x')
            elif action == 'attribute':
                registry.record_attribution('f' * 64, {'user': name})
            elif action == 'checkpoint':
                notes.append(registry.checkpoint(KEY))
            else:
                registry = Registry(f'{folder}/r.sqlite')
        except UserError:
            assert not expected
        else:
            assert expected
    assert {user.name: user.state for user in registry.list()} == known
    assert registry.verify(notes) == []
    export_ledger(registry, f'{folder}/l.jsonl')
    import_ledger(f'{folder}/l.jsonl', f'{folder}/again.sqlite')
    assert Registry(f'{folder}/again.sqlite').history() == registry.history()


VERSION_1 = '''
CREATE TABLE meta ("key" VARCHAR(32) NOT NULL PRIMARY KEY, value VARCHAR(255) NOT NULL);
CREATE TABLE users (id INTEGER NOT NULL PRIMARY KEY, name VARCHAR(64) NOT NULL UNIQUE,
    bits VARCHAR(512) NOT NULL UNIQUE, issued_at VARCHAR(32) NOT NULL, model VARCHAR(64) NOT NULL,
    digest VARCHAR(64) NOT NULL, instance TEXT NOT NULL, revoked_at VARCHAR(32), reason TEXT);
INSERT INTO meta VALUES ('schema_version', '1'), ('model', 'aaaa'), ('bits', '16');
INSERT INTO users VALUES
    (1, 'ann', '0101010101010101', '2026-01-02T03:04:05+00:00', 'aaaa', 'dd', 'instances/ann/1', NULL, NULL),
    (2, 'bob', '1111000011110000', '2026-02-02T03:04:05+00:00', 'aaaa', 'ee', 'instances/bob/1',
     '2026-03-02T03:04:05+00:00', 'left');
'''


@pytest.fixture
def version_1(tmp_path):
    path = tmp_path / 'old.sqlite'
    connection = sqlite3.connect(path)
    connection.executescript(VERSION_1)
    connection.close()
    return path


def test_a_registry_of_version_1_is_refused_with_the_way_on(version_1):
    before = version_1.read_bytes()
    for create in (False, True):
        with pytest.raises(UserError, match=f'of version 1; .* python -m fingerprints.migration {version_1}'):
            Registry(version_1, create=create)
    assert version_1.read_bytes() == before


def test_a_registry_of_version_1_is_taken_over(version_1, location):
    before = version_1.read_bytes()
    assert migrate(str(version_1), location) == 2
    registry = Registry(location)
    assert registry.verify() == [] and registry.model() == ('aaaa', 16)
    ann, bob = registry.list()
    assert (ann.name, ann.issued_at) == ('ann', '2026-01-02T03:04:05+00:00')
    assert (ann.digest, ann.location) == ('dd', 'instances/ann/1')
    assert (bob.state, bob.revoked_at, bob.reason) == ('revoked', '2026-03-02T03:04:05+00:00', 'left')
    assert [''.join(map(str, code)) for code in registry.codes()[1]] == ['0101010101010101', '1111000011110000']
    issue(registry, 'cid', 16, 'aaaa')
    assert registry.models()[0]['minimum_distance'] == 1 and version_1.read_bytes() == before
    for old, new, message in ((str(version_1), location, 'holds a registry already'),
                              (location, location, 'is a registry of version 3, not 1')):
        with pytest.raises(UserError, match=message):
            migrate(old, new)


def test_an_empty_registry_of_version_1_is_taken_over(version_1, tmp_path):
    with sqlite3.connect(version_1) as connection:
        connection.execute('DELETE FROM users')
        connection.execute("DELETE FROM meta WHERE key != 'schema_version'")
    assert migrate(str(version_1), str(tmp_path / 'new.sqlite')) == 0
    assert Registry(tmp_path / 'new.sqlite').model() is None


@pytest.mark.parametrize('statement', ["UPDATE users SET bits = '01' WHERE id = 1",
                                       "UPDATE users SET name = 'a/b' WHERE id = 1",
                                       "UPDATE meta SET value = 'x' WHERE key = 'bits'"])
def test_a_damaged_registry_of_version_1_makes_nothing(version_1, tmp_path, statement):
    with sqlite3.connect(version_1) as connection:
        connection.execute(statement)
    with pytest.raises(UserError, match='old.sqlite is damaged'):
        migrate(str(version_1), str(tmp_path / 'new.sqlite'))
    assert not (tmp_path / 'new.sqlite').exists()


def test_the_migration_is_a_command(version_1, tmp_path):
    done = subprocess.run([sys.executable, '-m', 'fingerprints.migration', version_1, tmp_path / 'new.sqlite'],
                          cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout.startswith('2 users are in'), done.stderr
    again = subprocess.run([sys.executable, '-m', 'fingerprints.migration', str(version_1)], cwd=ROOT,
                           capture_output=True, text=True)
    assert again.returncode == 2 and 'NEW' in again.stderr
