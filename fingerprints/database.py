"""The database under the registry: a SQLite file, or PostgreSQL by URL; transactions, and errors in one line."""
import contextlib
import os
import shutil
import sqlite3
from collections.abc import Iterator, Sequence
from typing import Callable

import sqlalchemy as sa

from dnnlib.util import UserError, make_folder
from fingerprints import schema

LOG_INDEX = 1 << 15     # bytes that SQLite needs beside a file even to read it (NAME-shm)
APPEND_LOCK = 0x66696E676572  # PostgreSQL's advisory lock of whoever appends: 'finger'


class Database:
    """Where the ledger's rows are kept.

    Args:
        location: a SQLite file's path, or a database URL ('postgresql://user:password@host/name').
        create: make the SQLite file if it is absent, for its owner's eyes only.
        timeout: seconds to wait for another process that is appending.

    `location` is how errors name it, without a password. Everything raises UserError, in one line, if the database
    can't be reached, read or written.
    """

    def __init__(self, location: str, create: bool = False, timeout: float = 120):
        url = _parse(location)
        self.is_sqlite = url.get_backend_name() == 'sqlite'
        self.location = url.database if self.is_sqlite else url.render_as_string(hide_password=True)
        if self.is_sqlite:
            _check_file(self.location, create)
            self._engine = _sqlite_engine(self.location, timeout)
        else:
            self._engine = _postgresql_engine(url, timeout)

    @contextlib.contextmanager
    def transaction(self, write: bool = False) -> Iterator[sa.Connection]:
        """Yields a connection whose work is kept if the block ends well and undone if not.

        With `write`, the connection is the only one that may append until the block ends; readers go on.
        """
        try:
            with self._engine.connect().execution_options(write=write) as connection, connection.begin():
                yield connection
        except sa.exc.DBAPIError as error:
            raise UserError(_explain(self.location, error.orig)) from None

    def create_tables(self, fill: Callable[[sa.Connection], None]) -> bool:
        """Makes the tables and has `fill` insert their first rows, in one transaction. Returns whether it did.

        It does nothing if they are there. Raises UserError if the database holds something else.
        """
        with self.transaction() as connection:
            if _holds_registry(connection, self.location):
                return False
        if self.is_sqlite:
            self._write_ahead()
        with self.transaction(write=True) as connection:
            if _holds_registry(connection, self.location):  # another process was faster
                return False
            schema.upgrade(connection)
            fill(connection)
        return True

    def upgrade(self) -> str:
        """Brings the tables of an older program to this one's version, in one transaction. Returns what it was.

        Raises UserError if they are not a registry's, or of a version that can't be upgraded in place.
        """
        with self.transaction(write=True) as connection:
            found = schema.version(connection)
            if found != schema.VERSION:
                check_version(found, self.location, (schema.BEFORE_ALEMBIC,))
                schema.upgrade(connection, found)
        return found

    def _write_ahead(self):
        """Lets readers of the SQLite file go on while another process appends. The file remembers it."""
        try:
            with contextlib.closing(self._engine.raw_connection()) as connection:  # outside any transaction
                connection.cursor().execute('PRAGMA journal_mode = WAL')
        except sqlite3.Error as error:
            raise UserError(_explain(self.location, error)) from None

    def broken_pages(self) -> list[str]:
        """What SQLite finds damaged in its own file, a line each; nothing for other databases, which check theirs."""
        if not self.is_sqlite:
            return []
        try:
            with self.transaction() as connection:
                lines = connection.exec_driver_sql('PRAGMA integrity_check').scalars().all()
        except UserError as error:
            return [str(error)]
        return [line for line in lines if line != 'ok']


def is_absent(location: str) -> bool:
    """Whether no registry is at a location yet, of any version. Raises UserError if that can't be told."""
    url = _parse(str(location))
    if url.get_backend_name() == 'sqlite' and not os.path.exists(url.database or ''):
        return True
    database = Database(str(location))
    with database.transaction() as connection:
        return not _holds_registry(connection, database.location)


def _holds_registry(connection, location):
    """Whether a registry's tables are there, of any version. Raises UserError if those of another program are."""
    present = set(sa.inspect(connection).get_table_names())
    found = bool(present & {schema.META.name, schema.VERSION_TABLE})
    if present and not found:
        raise UserError(f'{location} is a database of something else; choose another registry')
    return found


def check_version(found: str, location: str, accepted: Sequence[str] = (schema.VERSION,)) -> None:
    """Raises UserError, with the way on, if the tables' version is none of those accepted."""
    if found in accepted:
        return
    if found == '1':
        raise UserError(f'{location} is a registry of version 1; make one of version {schema.VERSION} of it: '
                        f'python -m fingerprints.migration {location} NEW')
    if found == schema.BEFORE_ALEMBIC:
        raise UserError(f'{location} has tables of version {found}, this program\'s are {schema.VERSION}; make a copy, '
                        f'then: run_release.py upgrade --registry={location}')
    raise UserError(f'{location} has tables of version {found}, this program\'s are {schema.VERSION}; use the program '
                    'that wrote it')


def _parse(location):
    if '://' not in location:
        return sa.URL.create('sqlite', database=os.path.abspath(location))
    try:
        url = sa.make_url(location)
    except (sa.exc.ArgumentError, ValueError):
        raise UserError('the registry URL cannot be read; write postgresql://user:password@host/name, '
                        'or give a file') from None
    if url.drivername in ('postgres', 'postgresql'):
        url = url.set(drivername='postgresql+psycopg')
    if url.drivername not in ('sqlite', 'postgresql+psycopg'):
        raise UserError(f'{url.drivername!r} is no database this program knows; use SQLite or PostgreSQL')
    return url


def _check_file(path, create):
    """Creates an empty SQLite file for its owner's eyes only, or raises UserError if there is none to read."""
    if not path or path == ':memory:' or os.path.isdir(path):
        raise UserError(f'{path or "the registry"} is no file; name the registry\'s SQLite file')
    if os.path.exists(path):
        return
    if not create:
        raise UserError(f'there is no registry at {path}; issue an instance first, or name the right file')
    make_folder(os.path.dirname(path))
    with contextlib.suppress(FileExistsError):  # another process was faster
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))


def _sqlite_engine(path, timeout):
    url = sa.URL.create('sqlite', database=path)
    if not (os.access(path, os.W_OK) and os.access(os.path.dirname(path), os.W_OK)):
        url = _read_only_url(path)
    engine = sa.create_engine(url, poolclass=sa.NullPool, connect_args={'timeout': timeout})

    # Python's driver would begin a transaction only at the first INSERT. The lock is taken at once instead, so that the
    # second of two writers waits, and reads what the first has written.
    @sa.event.listens_for(engine, 'connect')
    def connect(connection, _):
        connection.isolation_level = None
        connection.execute('PRAGMA synchronous = FULL')  # what is committed survives a power cut

    @sa.event.listens_for(engine, 'begin')
    def begin(connection):
        connection.exec_driver_sql('BEGIN IMMEDIATE' if connection.get_execution_options().get('write') else 'BEGIN')
    return engine


def _read_only_url(path):
    """SQLite reads a write-ahead file from a read-only folder only if told that nobody writes meanwhile."""
    log = f'{path}-wal'
    if os.path.exists(log) and os.path.getsize(log):
        raise UserError(f'{path} cannot be written, and {os.path.basename(log)} beside it holds what is not yet in it; '
                        'copy both to a folder that can be written')
    return sa.URL.create('sqlite', database=f'file:{path}', query={'uri': 'true', 'mode': 'ro', 'immutable': '1'})


def _postgresql_engine(url, timeout):
    try:
        engine = sa.create_engine(url, poolclass=sa.NullPool, connect_args={'connect_timeout': 10})
    except ModuleNotFoundError as error:
        raise UserError(f"PostgreSQL needs the package {error.name}; pip install -e '.[postgresql]'") from None

    @sa.event.listens_for(engine, 'begin')
    def begin(connection):
        if connection.get_execution_options().get('write'):
            connection.exec_driver_sql(f"SET LOCAL lock_timeout = '{int(timeout * 1000)}ms'")
            connection.exec_driver_sql(f'SELECT pg_advisory_xact_lock({APPEND_LOCK})')
    return engine


def _is_full(path):
    """Whether a SQLite file's disk has no room for the index of its log, which SQLite calls a disk I/O error."""
    return shutil.disk_usage(os.path.dirname(path)).free < LOG_INDEX


def _explain(location, error):
    """Turns the database's complaint into one line with a remedy."""
    text = str(error).strip().split('\n')[0]
    if isinstance(error, sqlite3.Error) and 'disk I/O' in text and _is_full(location):
        text = 'full'
    remedies = {
        'not a database': f'{location} is not a registry; name the right file',
        'no such table': f'{location} is not a registry; name the right file, or issue an instance first',
        'UndefinedTable': f'{location} holds no registry; issue an instance first',
        'InsufficientPrivilege': f'{location} does not let this role do that ({text}); use a role that may',
        'malformed': f'{location} is corrupt; restore it from a copy',
        'locked': f'{location} is busy: another process is appending; try again when it is done',
        'LockNotAvailable': f'{location} is busy: another process is appending; try again when it is done',
        'full': f'{location} cannot be used, its disk is full; nothing was written; make room and try again',
        'disk I/O': f'{location} cannot be read or written ({text}); check its disk, restore it from a copy if need be',
        'readonly': f'{location} cannot be written; check its permissions',
        'unable to open': f'{location} cannot be opened; check the path and its permissions'}
    found = [remedy for key, remedy in remedies.items() if key in text or key == type(error).__name__]
    return found[0] if found else f'{location}: {text}; check the database'
