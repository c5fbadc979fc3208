"""What issuing costs: python -m benchmarks.issuing --run=RUN --users=20. The run is only read."""
import argparse
import os
import shutil
import tempfile
import time

import numpy as np

from dnnlib import cli
from fingerprints.registry import Registry
from release.issue import HandOver, Issuer
from training.snapshot import Snapshot


def seconds(issuer, names):
    """What each of the names takes to be issued: seconds on the clock, and of the processor."""
    times = []
    for name in names:
        started, worked = time.perf_counter(), time.process_time()
        issuer(name)
        times.append((time.perf_counter() - started, time.process_time() - worked))
    return times


def writing_seconds(folder):
    """How long it takes to write the bytes of an instance, synchronized."""
    data = [open(os.path.join(root, name), 'rb').read() for root, _, names in os.walk(folder) for name in names]
    with tempfile.TemporaryDirectory(dir=os.path.dirname(folder)) as place:
        started = time.perf_counter()
        for number, content in enumerate(data):
            with open(os.path.join(place, str(number)), 'wb') as file:
                file.write(content)
                os.fsync(file.fileno())
        return time.perf_counter() - started


def main(args):
    """Prints a table: the first instance, the median of the others, and of these without the bytes' writing."""
    print('| | first (s) | others, median (s) | of the processor (s) | beyond writing (s) | instances/minute |\n'
          '|---|---|---|---|---|---|')
    with tempfile.TemporaryDirectory() as place:
        # A copy, since `released` will be added to it.
        shutil.copytree(args.run, f'{place}/run', ignore=shutil.ignore_patterns('events', '*.png'))
        for label, hand_over in (('written', HandOver()), ('self-tested', HandOver(('png',)))):
            registry = Registry(f'{place}/{label}.sqlite', create=True)
            issuer = Issuer(f'{place}/run', registry, f'{place}/{label}', Snapshot(args.run, impl='ref'), hand_over)
            first, *others = seconds(issuer, [f'user{number}' for number in range(args.users)])
            median, worked = np.median(others, axis=0)
            beyond = median - writing_seconds(f'{place}/{label}/user0/1')
            print(f'| {label} | {first[0]:.1f} | {median:.2f} | {worked:.2f} | {beyond:.2f} | {60 / median:.0f} |',
                  flush=True)


def make_parser():
    """The command line."""
    parser = cli.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--run', required=True, help='a run whose fingerprints read')
    parser.add_argument('--users', type=int, default=20, help='how many to issue to, twice')
    return parser


if __name__ == '__main__':
    cli.run(make_parser(), main)
