"""What attribution costs: matching against many users, and pictures a second through reading, decoding and matching.

    python -m benchmarks.release --users=10000,1000000,10000000
    python -m benchmarks.release --users=10000 --run=results/demo/run --pictures=2000

Codes are random and lie in a file, as a large registry's would; of the 64 pictures half show a user's code with 15% of
the bits wrong. "CPU" is the time of all cores together: on a busy machine it says more than the other.
"""
import functools
import os
import resource
import tempfile
import time

import numpy as np
from PIL import Image

from dnnlib import cli
from dnnlib.images import to_float
from dnnlib.util import UsageError
from fingerprints.codes import distances, packed, unpacked
from fingerprints.matching import PackedCodes, attribute

BITS = 128
BATCH = 64
WRONG = 0.15
BRUTE = 4         # pictures that brute force compares
BLOCK = 1 << 20


def random_codes(folder, users, num_bits=BITS):
    """PackedCodes of that many users in a file."""
    path = os.path.join(folder, f'codes{users}')
    rng = np.random.default_rng(users)
    with open(path, 'wb') as file:
        for start in range(0, users, BLOCK):
            file.write(rng.bytes(min(BLOCK, users - start) * num_bits // 8))
    return PackedCodes(np.memmap(path, np.uint8, 'r', shape=(users, num_bits // 8)), num_bits)


def some_logits(codes):
    """Logits [BATCH, BITS]: random, in the first half with the signs of a user's code but for some."""
    rng = np.random.default_rng(0)
    logits = np.abs(rng.normal(size=(BATCH, codes.num_bits)))
    shown = unpacked(codes.data[rng.integers(0, len(codes), BATCH)], codes.num_bits).astype(bool)
    shown[BATCH // 2:] = rng.random((BATCH - BATCH // 2, codes.num_bits)) < 0.5
    return np.where(shown != (rng.random(shown.shape) < WRONG), logits, -logits)


def brute_force(row, codes):
    """(index, matching bits) of the best user of one picture, by an exclusive or and a table of bit counts."""
    read, best = packed(row > 0), (0, -1)
    for start in range(0, len(codes), BLOCK):
        matching = codes.num_bits - distances(read, codes.data[start:start + BLOCK])
        if matching.max() > best[1]:
            best = start + int(matching.argmax()), int(matching.max())
    return best


def timed(function):
    """(result, wall seconds, CPU seconds)."""
    wall, cpu = time.perf_counter(), time.process_time()
    result = function()
    return result, time.perf_counter() - wall, time.process_time() - cpu


def match(users, repeats):
    """Prints what matching costs a picture, as it is and by brute force, which must agree."""
    with tempfile.TemporaryDirectory() as folder:
        codes = random_codes(folder, users)
        logits = some_logits(codes)
        match_once(codes, logits, users, repeats)


def match_once(codes, logits, users, repeats):
    names = range(users)
    for name, soft in (('bits', False), ('soft', True)):
        run = functools.partial(attribute, logits, names, codes, 1e-6, soft=soft)
        found, wall, cpu = min((timed(run) for _ in range(repeats)), key=lambda result: result[2])
        print_cost(users, name, wall, cpu, BATCH)
        if not soft:
            expected = [(one.best_user, one.matching) for one in found[:BRUTE]]
    brute, wall, cpu = timed(lambda: [brute_force(row, codes) for row in logits[:BRUTE]])
    assert brute == expected, (brute, expected)
    print_cost(users, 'brute force', wall, cpu, BRUTE)
    print(f'memory at most {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10} MiB')


def print_cost(users, name, wall, cpu, count):
    print(f'{users:>12,} users  {name:12} {1000 * wall / count:9.2f} ms  CPU {1000 * cpu / count:9.2f} ms a picture',
          flush=True)


def pictures(run_dir, users, count):
    """Prints pictures a second of a run's decoder: reading, decoding, matching, and all of it together."""
    from release.inputs import Input
    from release.reading import in_order, read_picture
    from training.snapshot import Snapshot
    model = Snapshot(run_dir).model(BATCH)
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, 'picture.png')
        noise = np.random.default_rng(0).integers(0, 256, [model.resolution, model.resolution, 3])
        Image.fromarray(noise.astype(np.uint8)).save(path)
        codes = random_codes(folder, users, model.fingerprint_bits)
        model.decode(to_float(noise[np.newaxis]))  # traced before it is timed
        read = functools.partial(read_picture, side=model.resolution)
        read, *times = timed(lambda: list(in_order(read, (Input(path) for _ in range(count)))))
        print_rate('read', count, *times)
        images = np.stack([one.versions['as it is'] for one in read])
        logits, *times = timed(lambda: model.decode(to_float(images)))
        print_rate('decode', count, *times)
        _, *times = timed(lambda: attribute(logits, range(users), codes, 1e-6))
        print_rate(f'match, {users:,} users', count, *times)


def print_rate(name, count, wall, cpu):
    print(f'{name:28} {count / wall:9.0f} pictures/s  CPU {1000 * cpu / count:9.2f} ms a picture')


def make_parser():
    """The command line."""
    parser = cli.ArgumentParser(prog='python -m benchmarks.release', description=__doc__.split('\n')[0])
    parser.add_argument('--users', default='10000,1000000', help='numbers of users, separated by commas')
    parser.add_argument('--repeats', type=int, default=3, help='how often each is timed; the least is printed')
    parser.add_argument('--run', help="a run's folder: its decoder's pictures a second, too")
    parser.add_argument('--pictures', type=int, default=1000, help='how many of them')
    return parser


def main(args):
    """Runs the benchmarks."""
    counts = cli.numbers('--users', args.users)
    if min([args.repeats, args.pictures, *counts]) < 1:
        raise UsageError('--users, --repeats and --pictures: give at least 1 of each')
    for users in counts:
        match(users, args.repeats)
    if args.run:
        pictures(args.run, counts[0], args.pictures)


if __name__ == '__main__':
    cli.run(make_parser(), main)
