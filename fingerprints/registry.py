"""The registry: which user was issued which fingerprint. SQLAlchemy; a SQLite file, or PostgreSQL by URL.

One registry belongs to one trained model, whose digest and number of bits it keeps. It holds the users' codes, which
are secret: a SQLite file is created readable by its owner only.
"""
import contextlib
import dataclasses
import datetime
import os
import re
from typing import Optional

import numpy as np
import sqlalchemy as sa

from dnnlib.util import UserError, make_folder
from fingerprints.codes import check_num_bits, code_to_text, draw_code, text_to_code

SCHEMA_VERSION = 1
DRAWS = 10_000  # attempts at a free code: plenty even when 254 of 256 eight-bit codes are taken
NAME = re.compile(r'[A-Za-z0-9][A-Za-z0-9._-]{0,63}')

SCHEMA = sa.MetaData()
META = sa.Table(
    'meta', SCHEMA,
    sa.Column('key', sa.String(32), primary_key=True),
    sa.Column('value', sa.String(255), nullable=False))
USERS = sa.Table(
    'users', SCHEMA,
    sa.Column('id', sa.Integer, primary_key=True),
    sa.Column('name', sa.String(64), nullable=False, unique=True),
    sa.Column('bits', sa.String(512), nullable=False, unique=True),
    sa.Column('issued_at', sa.String(32), nullable=False),
    sa.Column('model', sa.String(64), nullable=False),
    sa.Column('digest', sa.String(64), nullable=False),
    sa.Column('instance', sa.Text, nullable=False),
    sa.Column('revoked_at', sa.String(32)),
    sa.Column('reason', sa.Text))


@dataclasses.dataclass(frozen=True)
class User:
    """One row of the registry.

    bits: the code as text of 0 and 1. issued_at, revoked_at: UTC, ISO 8601. model: the digest of the snapshot the
    instance came from. digest: the sha256 of the instance's folder. instance: the instance's path as it was issued.
    """
    id: int
    name: str
    bits: str
    issued_at: str
    model: str
    digest: str
    instance: str
    revoked_at: Optional[str]
    reason: Optional[str]

    @property
    def code(self):
        """The code as [bits] uint8 0/1."""
        return text_to_code(self.bits)


@dataclasses.dataclass
class Issue:
    """An instance being issued: the caller exports it with `code` [bits] uint8 and sets `digest` and `instance`."""
    name: str
    code: np.ndarray
    digest: str = ''
    instance: str = ''


def check_name(name):
    """Returns `name` where it can be a user's and a folder's. Raises UserError where not."""
    if not NAME.fullmatch(name):
        raise UserError(f'{name!r} cannot be a user\'s name; use up to 64 letters, digits, ".", "_" and "-", '
                        'a letter or digit first')
    return name


class Registry:
    """The users of one trained model.

    Args:
        where: a SQLite file's path, or a database URL ('postgresql://user:password@host/name').
        create: make the file and the tables where they are absent.
        timeout: seconds to wait for another process that is issuing into the same SQLite file.

    Every method raises UserError, in one line, where the database can't be reached, read or written.
    """

    def __init__(self, where, create=False, timeout=120):
        self._url = _parse(str(where))
        self.where = self._url.database if self._sqlite else self._url.render_as_string(hide_password=True)
        if self._sqlite:
            _check_file(self.where, create)
        self._engine = _engine(self._url, timeout)
        if create:
            self._create()
        with self._transaction() as connection:
            version = _meta(connection).get('schema_version')
        if version != str(SCHEMA_VERSION):
            raise UserError(f'{self.where} has schema version {version}, this program reads {SCHEMA_VERSION}; '
                            'use the program that wrote it')

    @property
    def _sqlite(self):
        return self._url.get_backend_name() == 'sqlite'

    @contextlib.contextmanager
    def _transaction(self, write=False):
        """Yields a connection whose work is kept when the block ends well and undone when not."""
        try:
            with self._engine.connect().execution_options(write=write) as connection, connection.begin():
                yield connection
        except sa.exc.DBAPIError as error:
            raise UserError(_explain(self.where, error)) from None

    def _create(self):
        try:
            self._create_tables()
        except UserError:  # another process may have created the same tables meanwhile: then they are there now
            self._create_tables()

    def _create_tables(self):
        with self._transaction(write=True) as connection:
            present = set(sa.inspect(connection).get_table_names())
            if present - set(SCHEMA.tables) and 'meta' not in present:
                raise UserError(f'{self.where} is a database of something else; choose another registry')
            if 'meta' not in present:
                SCHEMA.create_all(connection)
                connection.execute(META.insert().values(key='schema_version', value=str(SCHEMA_VERSION)))

    def model(self):
        """Returns (model digest, bits) of the model this registry belongs to, or None before the first issue."""
        with self._transaction() as connection:
            meta = _meta(connection)
        return (meta['model'], int(meta['bits'])) if 'model' in meta else None

    @contextlib.contextmanager
    def issue(self, name, model, bits):
        """Issues an instance as one transaction, completed by the caller.

            with registry.issue('alice', model_digest, 128) as issue:
                export(issue.code, folder)
                issue.digest, issue.instance = sha256_folder(folder), folder

        Where the block raises, or the process dies, nothing stays. Processes issuing at once get different names and
        codes: the database's unique columns see to it. Export inside `atomic_folder` around this block, so that the
        folder appears only once the registry knows of it.

        Args:
            name: the new user's, a safe folder name, never used before.
            model: the digest of the snapshot; every user of a registry shares it.
            bits: the code's length.

        Raises:
            UserError: a bad or taken name, another model than the registry's, or no free code left.
        """
        check_name(name)
        check_num_bits(bits)
        with self._transaction(write=True) as connection:
            _claim_model(connection, self.where, model, bits)
            identity, code = _claim_user(connection, name, model, bits)
            issue = Issue(name, code)
            yield issue
            assert issue.digest, 'the block must set the digest of the instance it exported'
            connection.execute(USERS.update().where(USERS.c.id == identity).values(
                digest=issue.digest, instance=str(issue.instance)))

    def get(self, name):
        """Returns the User of that name. Raises UserError where there is none."""
        with self._transaction() as connection:
            row = connection.execute(USERS.select().where(USERS.c.name == name)).mappings().first()
        if row is None:
            raise UserError(f'{self.where} knows no user {name!r}; list the registry to see the names')
        return User(**row)

    def list(self):
        """Returns all Users, revoked ones too, in the order of their issue."""
        with self._transaction() as connection:
            return [User(**row) for row in connection.execute(USERS.select().order_by(USERS.c.id)).mappings()]

    def revoke(self, name, reason=''):
        """Notes that a user's instance is revoked. The code stays: copies are out there and must still be attributed.

        Raises:
            UserError: there is no such user, or the instance is revoked already.
        """
        with self._transaction(write=True) as connection:
            done = connection.execute(USERS.update().where(USERS.c.name == name, USERS.c.revoked_at.is_(None)).values(
                revoked_at=_now(), reason=reason)).rowcount
        if not done:
            user = self.get(name)  # raises where there is no such user
            raise UserError(f'{name!r} was revoked already, on {user.revoked_at}')

    def codes(self):
        """Returns (names, codes): U names and their codes [U, bits] uint8, revoked users' too, in order of issue."""
        with self._transaction() as connection:
            rows = connection.execute(sa.select(USERS.c.name, USERS.c.bits).order_by(USERS.c.id)).all()
            bits = int(_meta(connection).get('bits', 0))
        for name, text in rows:
            if len(text) != bits or text.strip('01'):
                raise UserError(f'{self.where} is corrupt: the code of {name!r} is not {bits} zeros and ones; '
                                'restore it from a copy')
        text = ''.join(text for _, text in rows).encode()
        return [name for name, _ in rows], (np.frombuffer(text, np.uint8) - ord('0')).reshape(len(rows), bits)


def _now():
    return datetime.datetime.now(datetime.timezone.utc).isoformat(timespec='seconds')


def _parse(where):
    if '://' not in where:
        return sa.URL.create('sqlite', database=os.path.abspath(where))
    try:
        url = sa.make_url(where)
    except (sa.exc.ArgumentError, ValueError):
        raise UserError('the registry URL cannot be read; write postgresql://user:password@host/name, '
                        'or give a file') from None
    return url.set(drivername='postgresql+psycopg') if url.drivername in ('postgres', 'postgresql') else url


def _check_file(path, create):
    """Creates an empty SQLite file for its owner's eyes only, or raises UserError where there is none to read."""
    if not path or path == ':memory:' or os.path.isdir(path):
        raise UserError(f'{path or "the registry"} is no file; name the registry\'s SQLite file')
    if os.path.exists(path):
        return
    if not create:
        raise UserError(f'there is no registry at {path}; issue an instance first, or name the right file')
    make_folder(os.path.dirname(path))
    with contextlib.suppress(FileExistsError):  # another process was faster
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))


def _engine(url, timeout):
    sqlite = url.get_backend_name() == 'sqlite'
    try:
        engine = sa.create_engine(url, poolclass=sa.NullPool, connect_args={'timeout': timeout} if sqlite else {})
    except sa.exc.NoSuchModuleError:
        raise UserError(f'{url.drivername!r} is no database this program knows; use SQLite or PostgreSQL') from None
    except ModuleNotFoundError as error:
        raise UserError(f'{url.drivername} needs the package {error.name}; pip install {error.name}') from None
    if sqlite:
        # Python's driver would begin a transaction only at the first INSERT. The lock is taken at once instead, so
        # that the second of two writers waits, and reads what the first has written.
        @sa.event.listens_for(engine, 'connect')
        def connect(connection, _):
            connection.isolation_level = None

        @sa.event.listens_for(engine, 'begin')
        def begin(connection):
            write = connection.get_execution_options().get('write')
            connection.exec_driver_sql('BEGIN IMMEDIATE' if write else 'BEGIN')
    return engine


def _explain(where, error):
    """Turns the database's complaint into one line with a remedy."""
    text = str(error.orig).strip().split('\n')[0]
    remedies = {
        'not a database': f'{where} is not a registry; name the right file',
        'no such table': f'{where} is not a registry; name the right file, or issue an instance first',
        'UndefinedTable': f'{where} holds no registry; issue an instance first',
        'malformed': f'{where} is corrupt; restore it from a copy',
        'locked': f'{where} is busy: another process is issuing; try again when it is done',
        'readonly': f'{where} cannot be written; check its permissions',
        'unable to open': f'{where} cannot be opened; check the path and its permissions'}
    found = [remedy for key, remedy in remedies.items() if key in text or key == type(error.orig).__name__]
    return found[0] if found else f'{where}: {text}; check the database'


def _meta(connection):
    return dict(connection.execute(sa.select(META.c.key, META.c.value)).all())


def _insert(connection, table, **values):
    """Inserts a row. Returns its primary key, or None where it collides with a unique column of another row."""
    try:
        with connection.begin_nested():
            return connection.execute(table.insert().values(**values)).inserted_primary_key[0]
    except sa.exc.IntegrityError:
        return None


def _claim_model(connection, where, model, bits):
    """Makes the registry the model's where it is no one's yet. Raises UserError where it is another's."""
    for key, value in {'model': model, 'bits': str(bits)}.items():
        present = _meta(connection).get(key)
        if present is None and _insert(connection, META, key=key, value=value) is None:
            present = _meta(connection)[key]  # another process was faster
        if present not in (None, value):
            raise UserError(f'{where} belongs to the model with {key} {present}, this one has {key} {value}; '
                            'use one registry per trained model')


def _claim_user(connection, name, model, bits):
    """Inserts the user with a code no one else has. Returns (id, code [bits] uint8)."""
    for _ in range(DRAWS):
        code = draw_code(bits)
        identity = _insert(connection, USERS, name=name, bits=code_to_text(code), issued_at=_now(), model=model,
                           digest='', instance='')
        if identity is not None:
            return identity, code
        if connection.execute(sa.select(USERS.c.id).where(USERS.c.name == name)).first():
            raise UserError(f'{name!r} has an instance already; choose another name')
    raise UserError(f'{DRAWS:,} draws found no code of {bits} bits that is still free; train a model with more bits')
