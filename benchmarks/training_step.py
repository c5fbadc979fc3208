"""Times the whole training step and each phase: `python -m benchmarks.training_step`; native ops against ref."""
import statistics
import time

import numpy as np
import tensorflow as tf

from dnnlib import cli
from dnnlib.ops import native
from dnnlib.util import UsageError
from models.presets import PRESETS
from models.stylegan2 import check_resolution
from training.config import make_config
from training.distribution import make_strategy, resolve_gpus
from training.state import TrainState
from training.step import TrainStep


def make_parser():
    """The command line."""
    parser = cli.ArgumentParser(prog='benchmarks/training_step.py', description=__doc__)
    parser.add_argument('--config', choices=list(PRESETS), default='quickstart', help='preset')
    parser.add_argument('--resolution', type=int, default=32, help='image size')
    parser.add_argument('--batch-size', type=int, help="images per step (default: the preset's)")
    parser.add_argument('--impl', default='ref,native', help='implementations to compare, comma-separated')
    parser.add_argument('--without-consistency', action='store_true',
                        help='time the step before the consistency ramp begins, with one image per latent')
    parser.add_argument('--rounds', type=int, default=5, help='interleaved rounds; the median counts')
    parser.add_argument('--steps', type=int, default=16, help='steps per round; 16 run every phase as often as due')
    parser.add_argument('--profile', action='store_true', help='print where the time goes, by TensorFlow op')
    return parser


class Subject:
    """One implementation's training steps, ready to be timed."""

    def __init__(self, args, impl, strategy):
        overrides = {'impl': impl, **({'batch_size': args.batch_size} if args.batch_size else {})}
        if args.without_consistency:
            overrides['lambda_consistency'] = '0'
        self.config = make_config(args.config, overrides)
        self.state = TrainState(self.config, args.resolution)
        self.step = TrainStep(self.config, self.state, strategy)
        shape = [self.config.batch_size, args.resolution, args.resolution, 3]
        self.reals = tf.constant(np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8))
        # From the end of the ramp on, every loss is in play.
        self.first = 10 ** 6 // self.config.batch_size * 16

    def whole(self, count):
        """Seconds of `count` whole steps."""
        begun = time.perf_counter()
        for step in range(self.first, self.first + count):
            result = self.step.run(step, self.reals)
        next(iter(result.values())).numpy()
        return time.perf_counter() - begun

    def phase(self, phase, count=4):
        """Seconds of one run of a models.phase.Phase."""
        args = self.step.arguments(phase, self.first, self.reals)
        begun = time.perf_counter()
        for _ in range(count):
            result = self.step.compiled[phase.name](*args)
        next(iter(result.values())).numpy()
        return (time.perf_counter() - begun) / count


def profile(subject, count, rows=12):
    """Prints the share of CPU time by op type over `count` steps, as TensorFlow's profiler attributes it."""
    import collections
    import glob
    import tempfile

    from tensorflow.python.framework import op_def_registry
    from tensorflow.tsl.profiler.protobuf import xplane_pb2
    with tempfile.TemporaryDirectory() as folder:
        with tf.profiler.experimental.Profile(folder):
            subject.whole(count)
        (path,) = glob.glob(f'{folder}/**/*.xplane.pb', recursive=True)
        space = xplane_pb2.XSpace()
        with open(path, 'rb') as file:
            space.ParseFromString(file.read())
    totals = collections.Counter()
    for plane in space.planes:
        if plane.name != '/host:CPU':
            continue
        for line in plane.lines:
            for event in line.events:
                name = plane.event_metadata[event.metadata_id].name
                kind = name.rpartition(':')[2]
                if kind != name and not kind.endswith('Call') and op_def_registry.get(kind) is not None:
                    totals[kind] += event.duration_ps
    whole = sum(totals.values())
    for name, picoseconds in totals.most_common(rows):
        print(f'    {name:40} {100 * picoseconds / whole:5.1f}%  {picoseconds / 1e9 / count:8.2f} ms a step')


def main(args):
    check_resolution(args.resolution)
    names = args.impl.split(',')
    if not set(names) <= set(native.loader.IMPLS):
        raise UsageError(f'--impl={args.impl}: choose from {", ".join(native.loader.IMPLS)}')
    strategy = make_strategy(min(1, resolve_gpus(None)))
    subjects = {name: Subject(args, name, strategy) for name in names}
    config = next(iter(subjects.values())).config
    phases = {phase.name: phase.interval for phase in next(iter(subjects.values())).state.phases}
    print(f'{args.config} at {args.resolution}x{args.resolution}, batch {config.batch_size}, TensorFlow '
          f'{tf.__version__}, {len(tf.config.list_physical_devices("GPU"))} GPUs')
    times = {(name, what): [] for name in names for what in ('whole step', *phases)}
    for round_index in range(args.rounds + 1):
        for name, subject in subjects.items():
            measured = {'whole step': subject.whole(args.steps) / args.steps,
                        **{phase.name: subject.phase(phase) for phase in subject.state.phases}}
            if round_index:  # the first round compiles
                for what, seconds in measured.items():
                    times[name, what].append(seconds)
    report(names, phases, times, config.batch_size)
    if args.profile:
        for name, subject in subjects.items():
            print(f'by op, {name}:')
            profile(subject, args.steps)


def report(names, phases, times, batch_size):
    """Prints milliseconds and images per second per phase, and each implementation's ratio to the first."""
    print(f'{"":24}' + ''.join(f'{name + " ms":>14}{"images/s":>12}' for name in names) + '   ratio')
    for what in ('whole step', *phases):
        medians = [statistics.median(times[name, what]) for name in names]
        cells = ''.join(f'{1e3 * median:14.1f}{batch_size / median:12.1f}' for median in medians)
        ratios = [statistics.median(a / b for a, b in zip(times[names[0], what], times[name, what]))
                  for name in names[1:]]
        label = what if what == 'whole step' else f'{what} (every {phases[what]})'
        print(f'{label:24}{cells}   ' + '  '.join(f'{ratio:.2f}x' for ratio in ratios))


if __name__ == '__main__':
    cli.run(make_parser(), main)
