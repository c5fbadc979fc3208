"""SQLite always; PostgreSQL as well where REGISTRY_TEST_URL names an empty database (its tables are dropped)."""
import datetime
import multiprocessing
import os
import secrets
import signal
import sqlite3
import stat
import time

import numpy as np
import pytest
import sqlalchemy as sa

from dnnlib.util import UserError
from fingerprints import registry as module
from fingerprints.registry import Registry

MODEL, DIGEST = 'a' * 64, 'd' * 64
SPAWN = multiprocessing.get_context('spawn')
URL = os.environ.get('REGISTRY_TEST_URL')


@pytest.fixture(params=['sqlite', pytest.param('postgresql', marks=pytest.mark.skipif(
    not URL, reason='REGISTRY_TEST_URL names no PostgreSQL database'))])
def where(request, tmp_path):
    if request.param == 'sqlite':
        return str(tmp_path / 'registry.sqlite')
    engine = sa.create_engine(module._parse(URL))
    module.SCHEMA.drop_all(engine)
    engine.dispose()
    return URL


def issue(registry, name, bits=32, model=MODEL):
    with registry.issue(name, model, bits) as pending:
        pending.digest, pending.instance = DIGEST, f'instances/{name}'
    return pending.code


def issue_many(where, prefix, count):
    registry = Registry(where, create=True)
    for index in range(count):
        issue(registry, f'{prefix}{index}', bits=8)


def issue_slowly(where, name, outcomes):
    try:
        with Registry(where).issue(name, MODEL, 32) as pending:
            time.sleep(0.3)
            pending.digest = DIGEST
        outcomes.put('issued')
    except UserError as error:
        outcomes.put(str(error))


def die_while_issuing(where):
    with Registry(where, create=True).issue('ann', MODEL, 32):
        os.kill(os.getpid(), signal.SIGKILL)


def run(target, *arguments):
    process = SPAWN.Process(target=target, args=arguments)
    process.start()
    return process


def test_what_is_issued_is_found_again(where):
    registry = Registry(where, create=True)
    assert registry.model() is None and registry.list() == []
    codes = [issue(registry, name) for name in ('zoe', 'ann')]
    again = Registry(where)
    user = again.get('ann')
    assert (user.code == codes[1]).all()
    assert (user.name, user.model, user.digest, user.instance) == ('ann', MODEL, DIGEST, 'instances/ann')
    assert user.revoked_at is None and user.reason is None
    assert abs(datetime.datetime.now(datetime.timezone.utc) -
               datetime.datetime.fromisoformat(user.issued_at)) < datetime.timedelta(minutes=1)
    assert [user.name for user in again.list()] == ['zoe', 'ann']  # in the order of issue
    names, matrix = again.codes()
    assert names == ['zoe', 'ann'] and matrix.dtype == np.uint8 and (matrix == codes).all()
    assert again.model() == (MODEL, 32)


def test_an_empty_registry_has_no_codes(where):
    names, codes = Registry(where, create=True).codes()
    assert names == [] and codes.shape == (0, 0)


def test_a_failed_issue_leaves_nothing(where):
    registry = Registry(where, create=True)
    with pytest.raises(RuntimeError), registry.issue('ann', MODEL, 32):
        raise RuntimeError('the export failed')
    assert registry.list() == [] and registry.model() is None
    issue(registry, 'ann', bits=64, model='b' * 64)
    assert registry.model() == ('b' * 64, 64)


def test_an_instance_without_a_digest_is_not_issued(where):
    registry = Registry(where, create=True)
    with pytest.raises(AssertionError, match='digest'), registry.issue('ann', MODEL, 32):
        pass
    assert registry.list() == []


def test_a_killed_issue_leaves_nothing(where):
    process = run(die_while_issuing, where)
    process.join()
    assert process.exitcode == -signal.SIGKILL
    registry = Registry(where)
    assert registry.list() == []
    issue(registry, 'ann')


def test_processes_issuing_at_once_share_no_code(where):
    processes = [run(issue_many, where, prefix, 20) for prefix in 'ab']
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0]
    names, codes = Registry(where).codes()
    assert sorted(names) == sorted(f'{prefix}{index}' for prefix in 'ab' for index in range(20))
    assert len(np.unique(codes, axis=0)) == 40


def test_processes_issuing_the_same_name_at_once(where):
    Registry(where, create=True)
    outcomes = SPAWN.Queue()
    processes = [run(issue_slowly, where, 'ann', outcomes) for _ in range(2)]
    results = sorted(outcomes.get(timeout=60) for _ in processes)
    for process in processes:
        process.join()
    assert results == ["'ann' has an instance already; choose another name", 'issued']
    assert len(Registry(where).list()) == 1


def test_a_code_that_is_taken_is_drawn_again(where, monkeypatch):
    draws = [b'same', b'same', b'next']
    monkeypatch.setattr(secrets, 'token_bytes', lambda size: draws.pop(0))
    registry = Registry(where, create=True)
    codes = [issue(registry, name) for name in ('ann', 'bob')]
    assert [np.packbits(code).tobytes() for code in codes] == [b'same', b'next']


def test_a_registry_without_free_codes_says_so(where, monkeypatch):
    registry = Registry(where, create=True)
    monkeypatch.setattr(module, 'draw_code', lambda bits: np.zeros(bits, np.uint8))
    monkeypatch.setattr(module, 'DRAWS', 5)
    issue(registry, 'ann')
    with pytest.raises(UserError, match='5 draws found no code of 32 bits .* more bits'):
        issue(registry, 'bob')
    assert len(registry.list()) == 1


def test_the_database_itself_refuses_a_second_of_a_code(where):
    registry = Registry(where, create=True)
    issue(registry, 'ann')
    row = dict(registry._engine.connect().execute(module.USERS.select()).mappings().one(), id=2, name='bob')
    with pytest.raises(sa.exc.IntegrityError), registry._engine.begin() as connection:
        connection.execute(module.USERS.insert().values(**row))


def test_a_name_is_issued_once(where):
    registry = Registry(where, create=True)
    issue(registry, 'ann')
    registry.revoke('ann')
    with pytest.raises(UserError, match="'ann' has an instance already"):
        issue(registry, 'ann')


@pytest.mark.parametrize('name', ['', '.', '..', 'a/b', '-ann', 'ann\n', 'Zoë', 'a b', 'x' * 65])
def test_bad_names_are_refused(tmp_path, name):
    registry = Registry(tmp_path / 'r.sqlite', create=True)
    with pytest.raises(UserError, match="cannot be a user's name") as caught:
        issue(registry, name)
    assert '\n' not in str(caught.value) and registry.list() == []


@pytest.mark.parametrize('name', ['a', 'ann', '7', 'Ann-Lee_2.b', 'x' * 64])
def test_good_names_are_accepted(tmp_path, name):
    registry = Registry(tmp_path / 'r.sqlite', create=True)
    issue(registry, name)
    assert registry.get(name).name == name


def test_revoked_users_stay_attributable(where):
    registry = Registry(where, create=True)
    codes = [issue(registry, name) for name in ('ann', 'bob')]
    registry.revoke('ann', 'leaked')
    user = registry.get('ann')
    assert user.reason == 'leaked' and user.revoked_at >= user.issued_at
    assert registry.get('bob').revoked_at is None
    names, matrix = registry.codes()
    assert names == ['ann', 'bob'] and (matrix == codes).all()
    with pytest.raises(UserError, match="'ann' was revoked already, on 20"):
        registry.revoke('ann', 'again')
    assert registry.get('ann').reason == 'leaked'


def test_unknown_users_are_named(where):
    registry = Registry(where, create=True)
    for call in (registry.get, registry.revoke):
        with pytest.raises(UserError, match="knows no user 'eve'"):
            call('eve')


@pytest.mark.parametrize('model, bits, message', [
    ('b' * 64, 32, f'model {"a" * 64}, this one has model {"b" * 64}'), (MODEL, 64, 'bits 32, this one has bits 64')])
def test_another_models_instance_is_refused(where, model, bits, message):
    registry = Registry(where, create=True)
    issue(registry, 'ann')
    with pytest.raises(UserError, match=message):
        issue(registry, 'bob', bits, model)
    assert len(registry.list()) == 1


def test_a_reader_is_not_kept_waiting_by_an_issue(where):
    registry = Registry(where, create=True)
    issue(registry, 'ann')
    with registry.issue('bob', MODEL, 32) as pending:
        assert [user.name for user in Registry(where, timeout=0).list()] == ['ann']
        pending.digest = DIGEST


def test_a_busy_file_is_told(tmp_path):
    path = tmp_path / 'r.sqlite'
    registry = Registry(path, create=True)
    with registry.issue('ann', MODEL, 32) as pending:
        with pytest.raises(UserError, match='busy: another process is issuing'):
            issue(Registry(path, timeout=0.1), 'bob')
        pending.digest = DIGEST
    issue(registry, 'bob')


def test_the_file_is_for_its_owner_only(tmp_path):
    Registry(tmp_path / 'new' / 'r.sqlite', create=True)
    assert stat.S_IMODE((tmp_path / 'new' / 'r.sqlite').stat().st_mode) == 0o600


def test_a_file_of_something_else_is_refused(tmp_path):
    text, empty, other = (tmp_path / name for name in ('text', 'empty', 'other'))
    text.write_text('not a database, and longer than a header of SQLite, which is a hundred bytes. ' * 9)
    empty.touch()
    connection = sqlite3.connect(other)
    connection.execute('CREATE TABLE recipes (name)')
    connection.close()
    for path in (text, empty, other):
        before = path.read_bytes()
        with pytest.raises(UserError, match=f'{path.name} is not a registry'):
            Registry(path)
        if path is not empty:
            with pytest.raises(UserError, match='is not a registry|a database of something else'):
                Registry(path, create=True)
        assert path.read_bytes() == before


def test_a_corrupt_registry_is_told(tmp_path):
    path = tmp_path / 'r.sqlite'
    registry = Registry(path, create=True)
    issue(registry, 'ann')
    connection = sqlite3.connect(path)
    connection.execute("UPDATE users SET bits = '01'")
    connection.commit()
    with pytest.raises(UserError, match="corrupt: the code of 'ann' is not 32 zeros and ones"):
        registry.codes()
    connection.execute("UPDATE meta SET value = '9' WHERE key = 'schema_version'")
    connection.commit()
    connection.close()
    with pytest.raises(UserError, match='schema version 9, this program reads 1'):
        Registry(path)
    data = bytearray(path.read_bytes())
    data[4096:] = os.urandom(len(data) - 4096)
    path.write_bytes(data)
    with pytest.raises(UserError, match='corrupt|not a registry'):
        Registry(path)


@pytest.mark.parametrize('where, message', [
    ('{tmp}/absent.sqlite', 'there is no registry at .*absent.sqlite'),
    ('{tmp}', 'is no file'),
    ('sqlite://', 'is no file'),
    ('nosuch://host/name', "'nosuch' is no database"),
    ('postgresql://user:hush@:port/x', 'URL cannot be read')])
def test_a_registry_that_is_not_there(tmp_path, where, message):
    with pytest.raises(UserError, match=message) as caught:
        Registry(where.format(tmp=tmp_path))
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
