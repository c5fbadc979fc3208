"""Training speed and memory of the two sets of versions (dnnlib/lanes.py), one beside the other in one run:

    python -m benchmarks.lanes --python=.venv/bin/python,.venv-other/bin/python

Each Python gets a process of its own, and they take their steps in turn, so that what else the machine does meets both.
What counts is the CPU time of a step on one thread, which a shared machine disturbs little. The ratio is the second's
time by the first's: the median over rounds, each beside the one of the same round.
"""
import json
import os
import resource
import statistics
import subprocess
import sys
import time

from dnnlib import cli
from dnnlib.util import UsageError
from models.presets import PRESETS

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
ONE_THREAD = {'TF_NUM_INTRAOP_THREADS': '1', 'TF_NUM_INTEROP_THREADS': '1', 'OMP_NUM_THREADS': '1'}


def make_parser():
    """The command line."""
    parser = cli.ArgumentParser(prog='benchmarks/lanes.py', description=__doc__)
    parser.add_argument('--python', default=sys.executable, help='the Pythons to compare, comma-separated')
    parser.add_argument('--config', choices=list(PRESETS), default='quickstart', help='preset')
    parser.add_argument('--impl', choices=('ref', 'native'), default='ref', help='which operations')
    parser.add_argument('--rounds', type=int, default=4, help='rounds; the median counts')
    parser.add_argument('--steps', type=int, default=16, help='steps a round; 16 run every phase as often as due')
    parser.add_argument('--worker', action='store_true', help='(what this starts: takes steps when told to)')
    return parser


def serve(config, impl, steps):
    """Takes `steps` steps for each line read; prints a JSON line {seconds of CPU time a step, peak bytes} for each."""
    import tensorflow as tf

    from benchmarks.training_step import Subject, make_parser
    args = make_parser().parse_args([f'--config={config}'])
    begun = time.process_time()
    subject = Subject(args, impl, tf.distribute.get_strategy())
    subject.whole(steps)
    report(time.process_time() - begun, tf.__version__)
    for _ in sys.stdin:
        begun = time.process_time()
        subject.whole(steps)
        report((time.process_time() - begun) / steps, tf.__version__)


def report(seconds, version):
    """Prints what the other end reads."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(json.dumps({'seconds': seconds, 'peak': peak, 'tensorflow': version}), flush=True)


def start(python, args):
    """The worker of one Python. Raises UsageError if it can't be started."""
    command = [python, '-m', 'benchmarks.lanes', '--worker', f'--config={args.config}', f'--impl={args.impl}',
               f'--steps={args.steps}']
    try:
        return subprocess.Popen(command, cwd=ROOT, env={**os.environ, **ONE_THREAD}, text=True,
                                stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    except OSError as error:
        raise UsageError(f'--python={python}: {error.strerror}') from None


def answer(worker):
    """A worker's next line. Raises UsageError if it has ended, whose own error stands above."""
    line = worker.stdout.readline()
    if not line:
        raise UsageError(f'--python={worker.args[0]}: could not take the steps')
    return json.loads(line)


def main(args):
    if args.worker:
        serve(args.config, args.impl, args.steps)
        return
    workers = [start(os.path.abspath(python), args) for python in args.python.split(',')]
    try:
        begun = [answer(worker) for worker in workers]
        rounds = [[ask(worker) for worker in workers] for _ in range(args.rounds)]
    finally:
        for worker in workers:
            worker.kill()
            worker.wait()
    for place, first in enumerate(begun):
        ratio = statistics.median(one[place]['seconds'] / one[0]['seconds'] for one in rounds)
        print(f'TensorFlow {first["tensorflow"]:8} {args.config}, {args.impl}: '
              f'{1e3 * statistics.median(one[place]["seconds"] for one in rounds):7.1f} ms of CPU time a step, '
              f'{ratio:.2f} of the first; start {first["seconds"]:.1f} s; '
              f'peak {rounds[-1][place]["peak"] / 2 ** 20:.0f} MiB')


def ask(worker):
    """Lets a worker take its steps."""
    worker.stdin.write('\n')
    worker.stdin.flush()
    return answer(worker)


if __name__ == '__main__':
    cli.run(make_parser(), main)
