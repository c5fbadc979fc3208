"""Files, folders, disks and servers as they should not be: one line each, nothing lost."""
import contextlib
import os
import sqlite3
import stat
import sys

import pytest
import sqlalchemy as sa
from registries import execute, issue, tamper

from dnnlib.util import UserError
from fingerprints.database import Database
from fingerprints.registry import Registry
from fingerprints.sealing import read_key_file


def test_the_file_is_for_its_owner_only(tmp_path):
    registry = Registry(tmp_path / 'new' / 'r.sqlite', create=True)
    with registry._database.transaction():
        modes = {name: stat.S_IMODE((tmp_path / 'new' / name).stat().st_mode) for name in os.listdir(tmp_path / 'new')}
    assert 'r.sqlite-wal' in modes and set(modes.values()) == {0o600}


def test_the_file_is_whole_between_commands(tmp_path):
    """Whoever copies the one file while nothing runs has everything: no log is left beside it."""
    issue(Registry(tmp_path / 'r.sqlite', create=True), 'ann')
    assert os.listdir(tmp_path) == ['r.sqlite']
    (tmp_path / 'copy.sqlite').write_bytes((tmp_path / 'r.sqlite').read_bytes())
    assert [user.name for user in Registry(tmp_path / 'copy.sqlite').list()] == ['ann']


def test_a_file_of_something_else_is_refused(tmp_path):
    text, empty, other = (tmp_path / name for name in ('text', 'empty', 'other'))
    text.write_text('not a database, and longer than a header of SQLite, which is a hundred bytes. ' * 9)
    empty.touch()
    with contextlib.closing(sqlite3.connect(other)) as connection:
        connection.execute('CREATE TABLE recipes (name)')
    for path in (text, empty, other):
        before = path.read_bytes()
        with pytest.raises(UserError, match=f'{path.name} is not a registry'):
            Registry(path)
        if path is not empty:
            with pytest.raises(UserError, match='is not a registry|a database of something else'):
                Registry(path, create=True)
        assert path.read_bytes() == before


def test_another_schema_is_refused(location):
    Registry(location, create=True)
    execute(location, "UPDATE registry_schema SET version_num = '9'")
    for use in (lambda: Registry(location), lambda: Database(location).upgrade()):
        with pytest.raises(UserError, match="tables of version 9, this program's are 3; use the program that wrote it"):
            use()
    execute(location, 'DELETE FROM registry_schema')
    with pytest.raises(UserError, match='tables of version unknown'):
        Registry(location)


def test_a_corrupted_page_is_named(tmp_path):
    path = tmp_path / 'r.sqlite'
    registry = Registry(path, create=True)
    for number in range(40):
        registry.record_attribution('f' * 64, {'number': number})
    data = bytearray(path.read_bytes())
    assert registry.verify() == [] and len(data) > 5 * 4096
    data[-4096:] = os.urandom(4096)
    path.write_bytes(data)
    findings = registry.verify()
    assert findings and {finding.kind for finding in findings} == {'page'}
    with pytest.raises(UserError, match='corrupt|not a registry|damaged'):
        Registry(path).list()
    data[4096:] = os.urandom(len(data) - 4096)
    path.write_bytes(data)
    assert {finding.kind for finding in registry.verify()} == {'page'}


def full_disk(registry):
    """Lets the SQLite file grow no further."""
    @sa.event.listens_for(registry._database._engine, 'connect')
    def connect(connection, _):
        pages = connection.execute('PRAGMA page_count').fetchone()[0]
        connection.execute(f'PRAGMA max_page_count = {pages}')


def test_a_full_disk_loses_nothing(tmp_path):
    path = tmp_path / 'r.sqlite'
    registry = Registry(path, create=True)
    issue(registry, 'ann')
    full_disk(registry)
    with pytest.raises(UserError, match='its disk is full; nothing was written'):
        for number in range(100):
            issue(registry, f'user{number}')
    again = Registry(path)
    assert again.verify() == [] or [finding.kind for finding in again.verify()] == ['leftover']
    assert [user.name for user in registry.list()] == [user.name for user in again.list()]
    count = len(again.list())
    issue(again, 'zoe')
    assert len(registry.list()) == count + 1 and registry.get('zoe').state == 'issued'


def as_nobody(function):
    """Runs a function in a child process that root's rights are taken from. Returns what it returns, as text."""
    read, write = os.pipe()
    child = os.fork()
    if not child:
        try:
            if os.geteuid() == 0:
                os.setgid(65534)
                os.setuid(65534)
            result = function()
        except UserError as error:
            result = str(error)
        os.write(write, str(result).encode())
        os._exit(0)
    os.close(write)
    os.waitpid(child, 0)
    with os.fdopen(read) as pipe:
        return pipe.read()


@pytest.fixture
def read_only(tmp_path):
    """A registry in a folder that may only be read, by everyone, and the folder made writable again."""
    path = tmp_path / 'folder' / 'r.sqlite'
    issue(Registry(path, create=True), 'ann')
    for parent in tmp_path.parents:
        if parent.name.startswith(('pytest', 'popen')):  # the latter by pytest-xdist
            parent.chmod(0o755)
    tmp_path.chmod(0o755)
    path.chmod(0o444)
    path.parent.chmod(0o555)
    yield path
    path.parent.chmod(0o755)


def test_a_read_only_registry_can_be_read(read_only):
    assert as_nobody(lambda: [user.name for user in Registry(read_only).list()]) == "['ann']"
    assert as_nobody(lambda: Registry(read_only).codes()[1].shape) == '(1, 32)'
    assert as_nobody(lambda: Registry(read_only).verify()) == '[]'
    assert 'r.sqlite cannot be written; check its permissions' in as_nobody(lambda: issue(Registry(read_only), 'bob'))


def test_a_read_only_registry_with_a_log_beside_it_is_told(read_only):
    read_only.parent.chmod(0o755)
    log = read_only.parent / 'r.sqlite-wal'
    log.write_bytes(b'x' * 100)
    read_only.parent.chmod(0o555)
    message = as_nobody(lambda: Registry(read_only))
    assert 'r.sqlite-wal beside it holds what is not yet in it; copy both to a folder' in message


def test_a_registry_of_others_cannot_be_opened(read_only):
    read_only.chmod(0o000)
    assert 'cannot be opened; check the path and its permissions' in as_nobody(lambda: Registry(read_only))


@pytest.mark.parametrize('location, message', [
    ('{tmp}/absent.sqlite', 'there is no registry at .*absent.sqlite'),
    ('{tmp}', 'is no file'),
    ('sqlite://', 'is no file'),
    ('nosuch://host/name', "'nosuch' is no database this program knows; use SQLite or PostgreSQL"),
    ('mysql://host/name', "'mysql' is no database"),
    ('postgresql://user:hush@:port/x', 'URL cannot be read')])
def test_a_registry_that_is_not_there(tmp_path, location, message):
    with pytest.raises(UserError, match=message) as caught:
        Registry(location.format(tmp=tmp_path))
    assert 'hush' not in str(caught.value)


def test_an_unwritable_path_is_told(tmp_path):
    (tmp_path / 'file').touch()
    with pytest.raises(UserError, match='cannot write to .*file'):
        Registry(tmp_path / 'file' / 'r.sqlite', create=True)


def test_an_unreachable_server_is_told_without_the_password():
    pytest.importorskip('psycopg')
    with pytest.raises(UserError, match='refused') as caught:
        Registry('postgresql://user:hush@127.0.0.1:1/name')
    assert 'hush' not in str(caught.value) and '\n' not in str(caught.value)


def test_a_missing_driver_is_told(monkeypatch):
    monkeypatch.setitem(sys.modules, 'psycopg', None)
    with pytest.raises(UserError, match=r"PostgreSQL needs the package psycopg; pip install -e '.\[postgresql\]'"):
        Registry('postgresql://user:hush@127.0.0.1:1/name')


def test_an_empty_database_is_told(postgresql):
    with pytest.raises(UserError, match='holds no registry; issue an instance first'):
        Registry(postgresql)


def test_postgresqls_roles_decide_who_may_append_and_no_one_may_change(postgresql):
    issue(Registry(postgresql, create=True), 'ann')
    roles = ['DROP ROLE IF EXISTS reader', 'DROP ROLE IF EXISTS issuer', 'CREATE ROLE reader LOGIN',
             'CREATE ROLE issuer LOGIN', 'GRANT USAGE ON SCHEMA public TO reader, issuer',
             'GRANT SELECT ON ALL TABLES IN SCHEMA public TO reader, issuer', 'GRANT INSERT ON events TO issuer']
    execute(postgresql, *roles)
    try:
        reader, issuer = (Registry(postgresql.replace('owner', role)) for role in ('reader', 'issuer'))
        issue(issuer, 'bob')
        assert [user.name for user in reader.list()] == ['ann', 'bob'] and reader.verify() == []
        with pytest.raises(UserError, match='does not let this role do that'):
            reader.revoke('bob')
        for statement in ("UPDATE events SET event = ''", 'DELETE FROM events', 'TRUNCATE events'):
            with pytest.raises(sa.exc.ProgrammingError, match='permission denied'):
                execute(postgresql.replace('owner', 'issuer'), statement)
        with pytest.raises(sa.exc.ProgrammingError, match='must be owner'):
            tamper(postgresql.replace('owner', 'issuer'))
    finally:
        execute(postgresql, 'DROP OWNED BY reader, issuer', 'DROP ROLE reader, issuer')


SECRET = b'correct horse battery staple'


def test_codes_are_encrypted_and_the_rest_is_open(location):
    registry = Registry(location, create=True, key=SECRET)
    codes = [issue(registry, name) for name in ('ann', 'bob')]
    assert (Registry(location, key=SECRET).codes()[1] == codes).all() and (registry.code('bob') == codes[1]).all()
    texts = [event.text for event in registry.events()]
    assert not any(''.join(map(str, code)) in text for code in codes for text in texts)
    keyless = Registry(location)
    assert [user.name for user in keyless.list()] == ['ann', 'bob'] and keyless.verify() == []
    keyless.revoke('ann')
    for call in (keyless.codes, lambda: keyless.code('ann'), lambda: issue(keyless, 'cid')):
        with pytest.raises(UserError, match='are encrypted; give the key or passphrase'):
            call()
    with pytest.raises(UserError, match='the key does not fit'):
        Registry(location, key=SECRET + b'!')
    assert registry.verify() == []


def test_a_sealed_code_moved_to_another_name_does_not_open(location):
    registry = Registry(location, create=True, key=SECRET)
    registry.register_model('a' * 64, 32)
    fields = []
    for name in ('ann', 'bob'):
        issue(registry, name)
        fields.append(list(registry.events())[-2].fields['code'])
    tamper(location, f"UPDATE events SET event = replace(event, '{fields[1]}', '{fields[0]}')".replace(':', '\\:'))
    findings = registry.verify()
    assert any(finding.kind == 'edited' for finding in findings)
    with pytest.raises(UserError, match="the code of 'bob' .* does not open: it was changed"):
        registry._sealer.unseal(fields[0], 'bob')


def test_keys_go_with_encrypted_registries_only(location):
    Registry(location, create=True)
    with pytest.raises(UserError, match='is not encrypted; open it without a key'):
        Registry(location, key=SECRET)


def test_an_unknown_encryption_is_told(location):
    Registry(location, create=True, key=SECRET)
    tamper(location, """UPDATE events SET event = replace(event, '32768', '1099511627776')""")
    with pytest.raises(UserError, match='encrypted in a way this program does not know'):
        Registry(location, key=SECRET)


def test_short_keys_are_refused(tmp_path):
    with pytest.raises(UserError, match='a key of 3 bytes is too short'):
        Registry(tmp_path / 'r.sqlite', create=True, key=b'abc')


def test_key_files(tmp_path):
    path = tmp_path / 'key'
    path.write_bytes(SECRET)
    path.chmod(0o600)
    assert read_key_file(str(path)) == SECRET
    path.chmod(0o640)
    with pytest.raises(UserError, match=f'{path} can be read by others than its owner; chmod 600'):
        read_key_file(str(path))
    with pytest.raises(UserError, match='absent cannot be read: No such file'):
        read_key_file(str(tmp_path / 'absent'))
