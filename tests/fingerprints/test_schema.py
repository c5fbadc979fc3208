"""Alembic's migrations: the same tables by every road, an older program's registry upgraded, rows never changed."""
import os
import signal
import subprocess
import sys

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from registries import MODEL, SPAWN, engine_of, execute, issue, tamper

from dnnlib.util import UserError
from fingerprints import schema
from fingerprints.database import Database
from fingerprints.ledger import SCHEMA
from fingerprints.notes import SigningKey
from fingerprints.registry import Registry
from helpers import ROOT

# What the program of version 2 wrote: its tables word for word, six events and a checkpoint.
with open(os.path.join(os.path.dirname(__file__), 'registry_version_2.sql')) as file:
    VERSION_2 = [statement for statement in file.read().split(';\n') if statement]


@pytest.fixture
def version_2(location):
    if '://' not in location:
        open(location, 'w').close()
    with engine_of(location).connect().execution_options(write=True) as connection, connection.begin():
        for statement in VERSION_2:
            connection.exec_driver_sql(statement)
    return location


def rows(location):
    with engine_of(location).connect() as connection:
        return [connection.exec_driver_sql(f'SELECT * FROM {table} ORDER BY 1').all()
                for table in ('events', 'checkpoints')]


def test_an_older_registry_is_refused_with_the_way_on_and_upgraded_in_place(version_2):
    before = rows(version_2)
    for create in (False, True):
        with pytest.raises(UserError, match="tables of version 2, this program's are 3; .*run_release.py upgrade"):
            Registry(version_2, create=create)
    assert rows(version_2) == before
    assert Database(version_2).upgrade() == '2' and Database(version_2).upgrade() == '3'
    assert rows(version_2) == before
    registry = Registry(version_2)
    assert registry.verify() == [] and len(registry.checkpoints()) == 1
    assert [(one.name, one.state) for one in registry.list()] == [('ann', 'issued'), ('bob', 'issued')]
    assert ''.join(map(str, registry.code('ann'))) == '10000110001000110010011100010100'
    issue(registry, 'cid')
    assert registry.verify() == [] and rows(version_2)[0][:6] == before[0]


def test_every_road_leads_to_the_tables_that_the_program_uses(version_2, tmp_path):
    """By Alembic's own comparison with the declared tables, and new and upgraded ones are the same."""
    Database(version_2).upgrade()
    with engine_of(version_2).connect() as connection:
        context = MigrationContext.configure(connection, opts={'version_table': schema.VERSION_TABLE})
        assert compare_metadata(context, SCHEMA) == [] and schema.version(connection) == schema.VERSION
        assert context.get_current_revision() == schema.VERSION


def test_a_new_sqlite_file_is_what_an_upgraded_one_is(tmp_path):
    old, new = str(tmp_path / 'old.sqlite'), str(tmp_path / 'new.sqlite')
    open(old, 'w').close()
    execute(old, *(statement.replace(':', '\\:') for statement in VERSION_2))
    Database(old).upgrade()
    Registry(new, create=True)
    made = []
    for path in (old, new):
        with engine_of(path).connect() as connection:
            made.append(sorted(connection.exec_driver_sql('SELECT name, sql FROM sqlite_master').all(), key=str))
    tables = [[(name, sql) for name, sql in one if sql] for one in made]
    assert tables[0] == tables[1] and len(tables[0]) == 9


def killed_in_the_middle(location):
    """Upgrades, and dies after the last statement, before the commit."""
    database = Database(location)

    @sa.event.listens_for(database._engine, 'commit')
    def commit(_):
        os.kill(os.getpid(), signal.SIGKILL)
    database.upgrade()


def test_an_upgrade_that_is_killed_leaves_the_old_registry(version_2):
    before = rows(version_2)
    process = SPAWN.Process(target=killed_in_the_middle, args=(version_2,))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    with engine_of(version_2).connect() as connection:
        assert schema.version(connection) == '2' and not sa.inspect(connection).has_table(schema.VERSION_TABLE)
    assert Database(version_2).upgrade() == '2' and rows(version_2) == before


@pytest.mark.parametrize('statement', ["UPDATE events SET event = 'x' WHERE seq = 2", 'DELETE FROM events',
                                       'UPDATE checkpoints SET size = 9', 'DELETE FROM checkpoints'])
def test_the_database_changes_and_deletes_nothing(location, statement):
    registry = Registry(location, create=True)
    issue(registry, 'ann')
    registry.checkpoint(SigningKey.generate('example.com/fingerprints'))
    before = rows(location)
    with pytest.raises(sa.exc.DBAPIError, match='the ledger is append-only'):
        execute(location, statement)
    assert rows(location) == before
    tamper(location, statement)  # an owner may, after dropping the triggers
    assert rows(location) != before


def test_sqlites_replace_changes_nothing_either(tmp_path):
    registry = Registry(tmp_path / 'r.sqlite', create=True)
    registry.register_model(MODEL, 32)
    before = rows(registry.location)
    with pytest.raises(sa.exc.DBAPIError, match='the ledger is append-only'):
        execute(registry.location, "INSERT OR REPLACE INTO events VALUES (1, 'x', 'y')")
    assert rows(registry.location) == before


def test_postgresqls_truncate_removes_nothing(postgresql):
    Registry(postgresql, create=True)
    with pytest.raises(sa.exc.DBAPIError, match='the ledger is append-only'):
        execute(postgresql, 'TRUNCATE events')


def test_a_folder_with_a_percent_sign_and_what_is_no_registry(tmp_path, monkeypatch):
    folder = tmp_path / '100%'
    folder.mkdir()
    os.symlink(os.path.join(ROOT, 'fingerprints'), folder / 'fingerprints')
    os.symlink(os.path.join(ROOT, 'dnnlib'), folder / 'dnnlib')
    code = 'from fingerprints.registry import Registry; print(Registry("r.sqlite", create=True).size())'
    done = subprocess.run([sys.executable, '-W', 'error', '-c', code], cwd=folder, capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ('1\n', '')
    (folder / 'empty').touch()
    with pytest.raises(UserError, match='empty is not a registry'):
        Database(str(folder / 'empty')).upgrade()
