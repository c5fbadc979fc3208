"""Every test that takes `location` runs on SQLite and on a PostgreSQL server that is started for the tests."""
import glob
import os
import shutil
import socket
import subprocess
import tempfile

import pytest


def find_program(name):
    """PostgreSQL's program, on the path or where Debian keeps it; None if there is none."""
    debian = sorted(glob.glob(f'/usr/lib/postgresql/*/bin/{name}'))
    return shutil.which(name) or (debian[-1] if debian else None)


def unprivileged():
    """Arguments for subprocess: PostgreSQL refuses to run as root, so root starts it as nobody."""
    return dict(user='nobody', group='nogroup', extra_groups=[]) if os.geteuid() == 0 else {}


def free_port():
    with socket.socket() as taken:
        taken.bind(('127.0.0.1', 0))
        return taken.getsockname()[1]


@pytest.fixture(scope='session')
def postgresql_server():
    """The URL, without a database's name, of a server in a temporary folder on a free port."""
    pytest.importorskip('psycopg', reason='PostgreSQL is not tested: the package psycopg is not installed')
    if not find_program('initdb') or not find_program('pg_ctl'):
        pytest.skip('PostgreSQL is not tested: its programs are not installed (apt-get install postgresql)')
    folder = tempfile.mkdtemp(prefix='postgresql-')
    data, port, options = os.path.join(folder, 'data'), free_port(), unprivileged()
    if options:
        shutil.chown(folder, options['user'], options['group'])
    try:
        subprocess.run([find_program('initdb'), '--pgdata', data, '--auth=trust', '--username=owner', '--no-sync',
                        '--encoding=UTF8', '--locale=C'], check=True, capture_output=True, cwd=folder, **options)
        settings = f'-c listen_addresses=127.0.0.1 -c port={port} -c unix_socket_directories={folder} -c fsync=off'
        subprocess.run([find_program('pg_ctl'), '--pgdata', data, '--wait', '--log', os.path.join(folder, 'log'),
                        '--options', settings, 'start'], check=True, stdout=subprocess.DEVNULL, cwd=folder, **options)
        yield f'postgresql://owner@127.0.0.1:{port}'
    finally:
        subprocess.run([find_program('pg_ctl'), '--pgdata', data, '--mode=immediate', 'stop'], capture_output=True,
                       cwd=folder, **options)
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def postgresql(postgresql_server):
    """The URL of a database that is emptied."""
    import psycopg
    url = f'{postgresql_server}/postgres'
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute('DROP SCHEMA public CASCADE')
        connection.execute('CREATE SCHEMA public')
    return url


@pytest.fixture(params=['sqlite', 'postgresql'])
def location(request, tmp_path):
    """Where to make a registry."""
    if request.param == 'sqlite':
        return str(tmp_path / 'registry.sqlite')
    return request.getfixturevalue('postgresql')
