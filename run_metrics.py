"""Measures a snapshot of a training run: one JSON line per metric, also appended to the run's metrics.jsonl."""
import json
import os

from dnnlib import cli
from dnnlib.util import UsageError, append_json_line


def make_parser():
    """The command line."""
    parser = cli.ArgumentParser(description=__doc__)
    parser.add_argument('--run', default='results/digits-quickstart', help="the training run's folder")
    parser.add_argument('--kimg', type=int, help='which snapshot (default: the latest)')
    parser.add_argument('--metrics', default='bit_accuracy', help='comma-separated: bit_accuracy, fid, '
                        'forgery, robustness')
    parser.add_argument('--num-images', type=int, help="images to generate (default: each metric's own)")
    parser.add_argument('--dataset', help="the reference, a name or folder (default: the run's own)")
    parser.add_argument('--data-dir', default='data', help='where datasets lie')
    parser.add_argument('--split', choices=['eval', 'train'], default='eval', help='part of the dataset for fid and '
                        'forgery')
    parser.add_argument('--inception', help='frozen Inception graph for fid (default: downloaded once and checked)')
    parser.add_argument('--batch-size', type=int, default=64, help='images generated at once')
    parser.add_argument('--random-noise', action='store_true', help='new noise for each image, as the published code '
                        "measures, instead of the model's fixed noise, which instances have; not for forgery")
    parser.add_argument('--seed', type=int, default=0, help='seed of latents and fingerprints')
    return parser


def main(args):
    if args.batch_size < 1:
        raise UsageError(f'--batch-size={args.batch_size}: must be at least 1')
    if args.seed < 0:
        raise UsageError(f'--seed={args.seed}: must be 0 or more')
    names = args.metrics.split(',')
    if args.random_noise and 'forgery' in names:
        raise UsageError('--random-noise: forgery is measured on what users hold, whose noise is fixed; leave out one '
                         'of the two')
    from datasets.sources import find_dataset
    from metrics.base import Options, check_metrics, run_metric
    from training.snapshot import Snapshot
    check_metrics(names)
    snapshot = Snapshot(args.run, args.kimg)
    # Bit accuracy and robustness compare with no real images; forgery does if there are any.
    wanted = args.dataset or ('fid' in names and snapshot.options['dataset']['path'])
    dataset = find_dataset(wanted, args.data_dir) if wanted else None
    options = Options(num_images=args.num_images, seed=args.seed, split=args.split, inception=args.inception)
    model = snapshot.model(args.batch_size, noise_seed=args.seed if args.random_noise else None)
    for name in names:
        record = {'kimg': snapshot.kimg, **run_metric(name, model, dataset, options)}
        append_json_line(os.path.join(args.run, 'metrics.jsonl'), record)
        print(json.dumps(record), flush=True)


if __name__ == '__main__':
    cli.run(make_parser(), main)
