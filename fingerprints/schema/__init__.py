"""The tables under the ledger, as a chain of Alembic's migrations in `versions`: one more for every change.

They change how events are kept, never an event: the ledger's hashes are those of before.
"""
import os
from typing import Any

import sqlalchemy as sa

VERSION = '3'                 # of the newest migration
VERSION_TABLE = 'registry_schema'
BEFORE_ALEMBIC = '2'          # the version that wrote its number into `meta` itself
META = sa.Table(
    'meta', sa.MetaData(),
    sa.Column('key', sa.String(32), primary_key=True),
    sa.Column('value', sa.String(255), nullable=False))


def version(connection: sa.Connection) -> str:
    """The version of a registry's tables; 'unknown' if they do not tell. Raises DBAPIError if there are none."""
    if sa.inspect(connection).has_table(VERSION_TABLE):
        query = sa.select(sa.column('version_num')).select_from(sa.table(VERSION_TABLE))
    else:
        query = sa.select(META.c.value).where(META.c.key == 'schema_version')
    return connection.execute(query).scalar() or 'unknown'


def upgrade(connection: sa.Connection, found: str = '') -> None:
    """Brings the tables to VERSION, within the connection's transaction: all of it is done or nothing.

    Args:
        connection: the only one that may write.
        found: the version of the tables that are there; empty if there are none.
    """
    from alembic import command  # here: opening a registry does not need it
    config = _config(connection)
    if found == BEFORE_ALEMBIC:
        command.stamp(config, found)
    command.upgrade(config, 'head')


def _config(connection) -> Any:
    from alembic.config import Config
    config = Config(attributes={'connection': connection, 'version_table': VERSION_TABLE})
    config.set_main_option('script_location', os.path.dirname(__file__).replace('%', '%%'))
    return config
