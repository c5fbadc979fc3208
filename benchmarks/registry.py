"""What a registry costs: opening it, verifying it, issuing into it, memory, and how long an append holds the lock.

    python -m benchmarks.registry --users=1000000
    python -m benchmarks.registry --users=1000 --processes=10 --location=postgresql://user@host/empty

The ledger of that many users is written in bulk, as an import would; then everything goes through the registry.
"""
import itertools
import multiprocessing
import os
import resource
import tempfile
import time

import numpy as np
import sqlalchemy as sa

from dnnlib import cli
from dnnlib.util import UserError
from fingerprints.clock import now
from fingerprints.codes import code_to_text, draw_code
from fingerprints.database import Database
from fingerprints.ledger import BLOCK, EVENTS, Chain
from fingerprints.registry import Registry

MODEL = 'a' * 64
NUM_BITS = 128


def drafts(users):
    """The kinds and fields of the events of a registry of that many users."""
    yield 'registry_created', {'version': 2, 'sealing': None}
    yield 'model_registered', {'model_digest': MODEL, 'num_bits': NUM_BITS, 'minimum_distance': 20}
    for number in range(users):
        name, reservation = f'user{number}', 2 + 2 * number
        yield 'code_reserved', {'name': name, 'user': name, 'model_digest': MODEL,
                                'code': code_to_text(draw_code(NUM_BITS))}
        yield 'instance_issued', {'name': name, 'reservation': reservation, 'digest': MODEL, 'location': f'out/{name}'}


def fill(connection, users):
    """Inserts the events of `drafts`."""
    chain, block, moment = Chain(), [], now()
    for kind, fields in drafts(users):
        block.append(chain.next_event(moment, 'benchmark', kind, fields).row())
        chain.size, chain.last = chain.size + 1, block[-1]['hash']
        if len(block) == BLOCK:
            connection.execute(EVENTS.insert(), block)
            block = []
    if block:
        connection.execute(EVENTS.insert(), block)


def seconds(function):
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def lock_times(registry):
    """A list that each append adds its seconds under the write lock to, its commit included."""
    times, engine = [], registry._database._engine

    @sa.event.listens_for(engine, 'after_cursor_execute')
    def locked(connection, cursor, statement, *_):
        if statement.startswith(('BEGIN IMMEDIATE', 'SELECT pg_advisory_xact_lock')):  # they wait until they have it
            connection.info.setdefault('locked', time.perf_counter())

    @sa.event.listens_for(engine, 'checkin')  # after the commit, before the connection is closed
    def committed(_, record):
        if 'locked' in record.info:
            times.append(time.perf_counter() - record.info.pop('locked'))
    return times


def issue_some(location, prefix, count):
    """Issues so many instances that nothing is exported for. Returns each append's seconds under the lock."""
    registry = Registry(location)
    registry.model()
    times = lock_times(registry)
    for number in range(count):
        with registry.issue(f'{prefix}{number}', MODEL, NUM_BITS) as issue:
            issue.digest = MODEL
    return times


def issue_at_once(location, processes, each):
    """Issues from several processes at once. Returns (seconds, the sorted seconds of all appends under the lock)."""
    start = time.perf_counter()
    with multiprocessing.get_context('spawn').Pool(processes) as pool:
        times = pool.starmap(issue_some, [(location, f'process{number}-', each) for number in range(processes)])
    return time.perf_counter() - start, sorted(itertools.chain(*times))


def repeated_codes(registry):
    """How many codes were issued twice, which must be none."""
    _, codes = registry.codes()
    return len(codes) - len(np.unique(np.packbits(codes, axis=1), axis=0))


def benchmark(location, users, processes, each):
    """Prints a table of what things cost in a new registry of so many users."""
    database = Database(location, create=True)
    took = seconds(lambda: database.create_tables(lambda connection: fill(connection, users)))
    print(f'{"bulk insert":32} {took:9.1f} s  {2 * users / took:,.0f} events/s')
    registry = Registry(location)
    print(f'{"opening, to the newest event":32} {seconds(registry.model):9.1f} s')
    print(f'{"opening again":32} {1000 * seconds(registry.model):9.1f} ms')
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f'{"memory, opened":32} {peak:9.0f} MiB')
    print(f'{"verify":32} {seconds(registry.verify):9.1f} s')
    print(f'{"all codes":32} {seconds(registry.codes):9.1f} s')
    took, locked = issue_at_once(location, processes, each)
    print(f'{f"issue, {processes} processes, {each} each":32} {processes * each / took:9.1f} /s, opening included')
    print(f'{"under the lock, median":32} {1000 * locked[len(locked) // 2]:9.1f} ms, commit included')
    print(f'{"under the lock, longest of":32} {1000 * locked[-1]:9.1f} ms, {len(locked)} appends')
    print(f'{"codes that two have":32} {repeated_codes(registry):9}')


def make_parser():
    """The command line."""
    parser = cli.ArgumentParser(prog='python -m benchmarks.registry', description=__doc__.split('\n')[0])
    parser.add_argument('--users', type=int, default=1_000_000, help='how many users the registry has')
    parser.add_argument('--processes', type=int, default=1, help='how many processes issue at once')
    parser.add_argument('--each', type=int, default=20, help='how many instances each of them issues')
    parser.add_argument('--location', help='an empty database to fill; by default a SQLite file in a temporary folder')
    return parser


def main(args):
    """Runs the benchmark in a temporary folder, or in the database named."""
    if args.users < 1:
        raise UserError(f'--users={args.users} measures nothing; give at least 1')
    with tempfile.TemporaryDirectory() as folder:
        benchmark(args.location or os.path.join(folder, 'registry.sqlite'), args.users, args.processes, args.each)


if __name__ == '__main__':
    cli.run(make_parser(), main)
