"""What --batch-per-replica saves and costs: `python -m benchmarks.batch_parts`; memory and time of a step."""
import json
import os
import resource
import subprocess
import sys
import time

import numpy as np
import tensorflow as tf

from dnnlib import cli
from dnnlib.util import UsageError
from models.presets import PRESETS
from training.config import make_config
from training.distribution import share_cores
from training.state import TrainState
from training.step import TrainStep

TIMED_STEPS = 3
GIB = 2 ** 30


def make_parser():
    """The command line."""
    parser = cli.ArgumentParser(prog='benchmarks/batch_parts.py', description=__doc__)
    parser.add_argument('--config', choices=list(PRESETS), default='config-e', help='preset')
    parser.add_argument('--resolution', type=int, default=64, help='image size')
    parser.add_argument('--fmap-base', type=int, default=2048, help="a quarter of config-e's feature maps")
    parser.add_argument('--batch-size', type=int, default=32, help='images a step')
    parser.add_argument('--parts', default='0,16,8,4', help='values of --batch-per-replica, comma-separated')
    parser.add_argument('--one', type=int, help='measure this value alone and print JSON')
    return parser


def measure(args, size):
    """What steps need: {'state': GiB of tensors before the first, 'tensors': GiB of them at most, 'process': GiB of
    the whole process at most, 'seconds': CPU seconds of a step without lazy phases}."""
    share_cores(2)
    config = make_config(args.config, dict(
        fmap_base=args.fmap_base, batch_size=args.batch_size, batch_per_replica=size, impl='ref', tick_kimg=4))
    step = TrainStep(config, TrainState(config, args.resolution), tf.distribute.get_strategy())
    shape = [config.batch_size, args.resolution, args.resolution, 3]
    reals = tf.constant(np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8))
    state = tf.config.experimental.get_memory_info('CPU:0')['current']
    step.run(0, reals)  # every phase is due
    begun = time.process_time()
    for number in range(1, 1 + TIMED_STEPS):
        result = step.run(number, reals)
    next(iter(result.values())).numpy()
    seconds = (time.process_time() - begun) / TIMED_STEPS
    process = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024  # in KiB on Linux
    tensors = tf.config.experimental.get_memory_info('CPU:0')['peak']
    return {'state': state / GIB, 'tensors': tensors / GIB, 'process': process / GIB, 'seconds': seconds}


def main(args):
    if args.one is not None:
        print(json.dumps(measure(args, args.one)))
        return
    first = None
    print('  images at once   GiB of tensors at most   state alone   of the process   CPU seconds a step   ratios')
    for text in args.parts.split(','):
        if not text.isdigit():
            raise UsageError(f'--parts={args.parts}: {text!r} is no number; expected such as 0,16,8,4')
        options = [f'--{name}={getattr(args, name.replace("-", "_"))}'
                   for name in ('config', 'resolution', 'fmap-base', 'batch-size')]
        command = [sys.executable, '-m', 'benchmarks.batch_parts', f'--one={text}', *options]
        # One arena: freed memory is then used again, whichever thread asks for it.
        result = subprocess.run(command, check=True, capture_output=True, text=True,
                                env={**os.environ, 'MALLOC_ARENA_MAX': '1'})
        found = json.loads(result.stdout.split('\n')[-2])
        first = first or found
        memory, seconds = (found[name] / first[name] for name in ('tensors', 'seconds'))
        print(f'  {int(text) or args.batch_size:14}   {found["tensors"]:22.2f}   {found["state"]:11.2f}   '
              f'{found["process"]:14.2f}   {found["seconds"]:18.1f}   '
              f'x{memory:.2f} memory, x{seconds:.2f} time', flush=True)


if __name__ == '__main__':
    cli.run(make_parser(), main)
