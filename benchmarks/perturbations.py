"""Times each perturbation of a training batch beside a training step: `python -m benchmarks.perturbations`.

With --dataset, also how far JPEG in the graph is from the real codec on a dataset's images, in grey levels.
"""
import statistics
import time

import numpy as np
import tensorflow as tf

from benchmarks.training_step import Subject
from datasets.sources import find_dataset
from dnnlib import cli
from dnnlib.images import to_float
from dnnlib.perturbations import jpeg, tensors
from dnnlib.perturbations.table import CODEC, TRAINED, check_names, row_of
from models.presets import PRESETS
from models.stylegan2 import check_resolution
from training.distribution import make_strategy, resolve_gpus

QUALITIES = (95, 90, 75, 50, 30, 10)
JPEG_IMAGES = 100


def make_parser():
    """The command line."""
    parser = cli.ArgumentParser(prog='benchmarks/perturbations.py', description=__doc__.split('\n')[0])
    parser.add_argument('--config', choices=list(PRESETS), default='quickstart', help='preset of the training step')
    parser.add_argument('--resolution', type=int, default=64, help='image size')
    parser.add_argument('--batch-size', type=int, default=8, help='images per step')
    parser.add_argument('--perturbations', default=','.join((*TRAINED, CODEC)),
                        help='comma-separated: names, all, paper (default: every one that can be trained against)')
    parser.add_argument('--rounds', type=int, default=5, help='rounds; the median counts')
    parser.add_argument('--steps', type=int, default=10, help='steps per round')
    parser.add_argument('--dataset', help='a dataset on whose images the two JPEGs are compared (default: none)')
    parser.add_argument('--data-dir', default='data', help='where datasets lie')
    # What benchmarks.training_step.Subject reads too.
    parser.set_defaults(without_consistency=False)
    return parser


def with_gradient(operation):
    """A compiled function (images, seed) -> images and their gradient, of an operation (images, seed) -> images."""
    @tf.function
    def run(images, seed):
        with tf.GradientTape() as tape:
            tape.watch(images)
            perturbed = operation(images, seed)
            loss = tf.reduce_sum(tf.square(perturbed))
        return perturbed, tape.gradient(loss, images)
    return run


def operations(names):
    """{what: an operation (images, seed) -> images}: each alone, in the middle of its range, and `perturb` by them."""
    def alone(name):
        row = row_of(name)
        value = row.strengths[0] if row.mild is None else (row.mild + row.severe) / 2
        return lambda images, seed: tensors.apply(name, images, tf.fill([len(images)], float(value)), seed)

    def drawn(images, seed):
        return tensors.perturb(images, seed, names, 1.0)

    return {**{name: alone(name) for name in names}, 'perturb by one of these': drawn}


def seconds(function, images, args):
    """(seconds to compile, the median over rounds of the seconds of one step)."""
    begun = time.perf_counter()
    function(images, tf.constant([0, 0]))
    compiling = time.perf_counter() - begun
    rounds = []
    for number in range(args.rounds):
        begun = time.perf_counter()
        for step in range(args.steps):
            result = function(images, tf.constant([number, step]))
        result[0].numpy()
        rounds.append((time.perf_counter() - begun) / args.steps)
    return compiling, statistics.median(rounds)


def step_seconds(args):
    """The median over rounds of the seconds of a whole training step without perturbations."""
    subject = Subject(args, 'auto', make_strategy(min(1, resolve_gpus(None))))
    subject.whole(16)  # compiles every phase
    return statistics.median(subject.whole(16) / 16 for _ in range(args.rounds))


def compare_jpegs(images):
    """Prints the mean and largest difference of JPEG in the graph to the codec, and the codec's own to the picture."""
    print('\nquality    graph to codec: mean, 99%, largest    codec to picture: mean    (grey levels)')
    for quality in QUALITIES:
        values = tf.fill([len(images)], float(quality))
        graph, codec = (jpeg.in_graph(images, values) * 127.5, jpeg.codec(images, values) * 127.5)
        error = np.abs(graph - codec)
        loss = np.abs(codec - images * 127.5).mean()
        print(f'{quality:7d}    {error.mean():20.2f}{np.quantile(error, 0.99):6.1f}{error.max():9.0f}    {loss:22.2f}')


def main(args):
    check_resolution(args.resolution)
    names = check_names(args.perturbations)
    step = step_seconds(args)
    print(f'{args.config} at {args.resolution}x{args.resolution}, batch {args.batch_size}, TensorFlow '
          f'{tf.__version__}: a step takes {1e3 * step:.1f} ms')
    size = [args.batch_size, args.resolution, args.resolution, 3]
    images = tf.random.stateless_uniform(size, [0, 0], -1, 1)
    print(f'{"forward and gradient":26}{"ms":>8}{"of a step":>12}{"to compile, s":>15}')
    for name, operation in operations(names).items():
        compiling, taken = seconds(with_gradient(operation), images, args)
        print(f'{name:26}{1e3 * taken:8.1f}{taken / step:12.1%}{compiling:15.1f}', flush=True)
    if args.dataset:
        dataset = find_dataset(args.dataset, args.data_dir)
        compare_jpegs(tf.constant(to_float(next(dataset.images('train', JPEG_IMAGES, JPEG_IMAGES)))))


if __name__ == '__main__':
    cli.run(make_parser(), main)
