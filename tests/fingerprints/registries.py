"""What the tests of the registry share: issuing in one line, processes, and tampering with tables."""
import multiprocessing
import os
import signal
import time

import sqlalchemy as sa

from dnnlib.util import UserError
from fingerprints.database import Database
from fingerprints.registry import Registry

MODEL, DIGEST = 'a' * 64, 'd' * 64
SPAWN = multiprocessing.get_context('spawn')


def issue(registry, name, num_bits=32, model=MODEL, user=None):
    """Issues an instance without exporting any. Returns its code."""
    with registry.issue(name, model, num_bits, user) as pending:
        pending.digest, pending.instance = DIGEST, f'instances/{name}'
    return pending.code


def engine_of(location):
    """An engine that lets a test read and change the tables behind the registry's back."""
    return Database(location)._engine


def drop_triggers(connection):
    """What an owner would do first who wants to change the past."""
    if connection.dialect.name == 'postgresql':
        for table in ('events', 'checkpoints'):
            connection.exec_driver_sql(f'ALTER TABLE {table} DISABLE TRIGGER USER')
        return
    for name in connection.exec_driver_sql("SELECT name FROM sqlite_master WHERE type = 'trigger'").scalars().all():
        connection.exec_driver_sql(f'DROP TRIGGER {name}')


def tamper(location, *statements):
    execute(location, *statements, before=drop_triggers)


def execute(location, *statements, before=lambda connection: None):
    with engine_of(location).connect().execution_options(write=True) as connection, connection.begin():
        before(connection)
        for statement in statements:
            connection.execute(sa.text(statement))


def run(target, *arguments):
    process = SPAWN.Process(target=target, args=arguments)
    process.start()
    return process


def issue_many(location, prefix, count, num_bits=32):
    registry = Registry(location, create=True)
    for index in range(count):
        issue(registry, f'{prefix}{index}', num_bits)


def issue_slowly(location, name, outcomes):
    try:
        with Registry(location).issue(name, MODEL, 32) as pending:
            time.sleep(1)
            pending.digest = DIGEST
        outcomes.put('issued')
    except UserError as error:
        outcomes.put(str(error))


def die_while_issuing(location):
    with Registry(location, create=True).issue('ann', MODEL, 32):
        os.kill(os.getpid(), signal.SIGKILL)


def issue_revoke_attribute_forever(location, prefix):
    """What a busy owner does, until killed."""
    registry = Registry(location)
    for index in range(10 ** 6):
        issue(registry, f'{prefix}-{index}')
        registry.record_attribution(DIGEST, {'user': f'{prefix}-{index}'})
        registry.revoke(f'{prefix}-{index}', 'left')
