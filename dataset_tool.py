#!/usr/bin/env python3
"""Makes a dataset of TFRecord shards out of images, or verifies one.

    python dataset_tool.py photos.zip --out=data/photos --resolution=64      any folder or zip of images
    python dataset_tool.py digits                                            handwritten digits, nothing to download
    python dataset_tool.py celeba --source=img_align_celeba.zip              the paper's datasets, from files or LMDB
    python dataset_tool.py lsun_bedroom --tfds-dir=~/tensorflow_datasets     ... or from TensorFlow Datasets
    python dataset_tool.py verify data/photos                                compares every shard's sha256
"""
import argparse
import os
import time

from datasets import sources
from datasets.format import PREVIEW, SPLITS
from datasets.reader import open_dataset
from dnnlib import cli, pictures
from dnnlib.util import UsageError, UserError, format_time, quoted

NAMED = ('digits', *sources.PAPER)


def make_parser():
    """The flags."""
    parser = cli.ArgumentParser(description=__doc__,
                                formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('what', metavar='SOURCE', help=f'a folder or zip of images, an LMDB folder, one of '
                        f'{", ".join(NAMED)}; or: verify')
    parser.add_argument('dataset', metavar='DATASET', nargs='?', help='with verify: the dataset\'s folder')
    parser.add_argument('--out', type=os.path.expanduser, metavar='FOLDER',
                        help='where to make the dataset (default: data/NAME)')
    parser.add_argument('--resolution', type=int, metavar='N', help='side in pixels, a power of two from 16 to 1024 '
                        '(default: 32 for digits, the paper\'s for its datasets; needed otherwise)')
    parser.add_argument('--source', type=os.path.expanduser, metavar='PATH',
                        help='celeba, lsun_*: folder or zip of images, or the LMDB folder')
    parser.add_argument('--tfds-dir', type=os.path.expanduser, metavar='FOLDER',
                        help='celeba, lsun_*: data_dir of TensorFlow Datasets instead')
    parser.add_argument('--max-images', type=int, metavar='N', help='take no more than N, both splits together')
    parser.add_argument('--eval-fraction', type=float, metavar='F', help='folder, zip: the share held out to measure '
                        'FID against (default: 0.5)')
    parser.add_argument('--allow-upscale', action='store_true', help='folder, zip: take images smaller than N as well')
    parser.add_argument('--list-skipped', action='store_true', help='name every file that is left out, with the reason')
    parser.add_argument('--force', action='store_true', help='replace the dataset at --out once the new one is whole; '
                        'a folder that holds anything else is never replaced')
    return parser


def check(args):
    """Raises UsageError for a flag out of range or one that the source does not know."""
    kind = args.what if args.what in ('verify', 'digits') else 'paper' if args.what in sources.PAPER else 'files'
    making = {'out', 'resolution', 'force', 'list_skipped'}
    known = {'verify': {'dataset'}, 'digits': making, 'paper': making | {'source', 'tfds_dir', 'max_images'},
             'files': making | {'max_images', 'eval_fraction', 'allow_upscale'}}[kind]
    for flag, value in vars(args).items():
        if value == '':
            name = 'SOURCE' if flag == 'what' else f'--{flag.replace("_", "-")}'
            raise UsageError(f'{name} is empty; give a path, or leave it out')
        if flag != 'what' and flag not in known and value not in (None, False):
            shown = value if flag == 'dataset' else f'--{flag.replace("_", "-")}'
            raise UsageError(f'{shown} does not go with {args.what}; leave it out')
    if kind == 'verify' and not args.dataset:
        raise UsageError('verify what? for example: python dataset_tool.py verify data/digits')
    if kind == 'files' and args.resolution is None:
        raise UsageError(f'--resolution is needed for {args.what}; for example --resolution=128')
    if kind == 'paper' and bool(args.source) == bool(args.tfds_dir):
        raise UsageError(f'{args.what} is made from files, --source=FOLDER_OR_ZIP, or from TensorFlow Datasets, '
                         '--tfds-dir=FOLDER; give one of the two')
    check_numbers(args)
    return kind


def check_numbers(args):
    """Raises UsageError for a number out of range."""
    if args.resolution is not None and args.resolution not in [2 ** i for i in range(4, 11)]:
        raise UsageError(f'--resolution={args.resolution} is no power of two from 16 to 1024')
    if args.what == 'celeba' and (args.resolution or 0) > 128:
        raise UsageError(f'--resolution={args.resolution} is more than the 128 which the crop of celeba has')
    if args.eval_fraction is not None and not 0 <= args.eval_fraction < 1:
        raise UsageError(f'--eval-fraction={args.eval_fraction} is not in [0, 1); 0.5 holds out every other image')
    if args.max_images is not None and args.max_images < 2:
        raise UsageError(f'--max-images={args.max_images} is too few; at least 2, one to train on and one held out')


def make_source(kind, args):
    """The Source that the flags describe."""
    if kind == 'digits':
        return sources.digits(args.resolution or 32)
    if kind == 'paper':
        return sources.paper(args.what, args.source, args.tfds_dir, args.resolution, args.max_images)
    if not os.path.exists(args.what):
        raise UserError(f'{args.what} does not exist; give a folder or zip of images, or one of {", ".join(NAMED)}')
    fraction = 0.5 if args.eval_fraction is None else args.eval_fraction
    return sources.files(args.what, args.resolution, fraction, args.max_images, args.allow_upscale)


def summarize(dataset, seconds):
    """Prints what the dataset holds, what was left out and why, and how to go on."""
    size = f'{dataset.resolution}x{dataset.resolution}'
    print(f'{dataset.path}: {size} images, {dataset.num_bytes / 1e6:.1f} MB, made in {format_time(seconds)}')
    for split in SPLITS:
        print(f'  {split:8} {dataset.num_images(split)} images, shards: {dataset.num_shards(split)}')
    skipped = ', '.join(f'{count} {reason}' for reason, count in dataset.skipped.items())
    print(f'  skipped  {skipped or "none"}')
    if dataset.num_images('train') == 1:
        print('  note     one image to train on is too few to learn from')
    if not dataset.num_images('eval'):
        print('  note     no images are held out, so FID has nothing to measure against; see --eval-fraction')
    print(f'  digest   {dataset.digest}')
    print(f'  preview  {os.path.join(dataset.path, PREVIEW)}')
    print(f'train with: python run_training.py --dataset={dataset.path}')


def main(args):
    """Makes or verifies a dataset; returns the exit code."""
    kind = check(args)
    if kind == 'verify':
        dataset = open_dataset(args.dataset)
        dataset.verify()
        counts = ' and '.join(f'{dataset.num_images(split)} {split}' for split in SPLITS)
        print(f'{args.dataset}: {counts} images as they were written, digest {dataset.digest}')
        return 0
    started = time.time()
    source = make_source(kind, args)
    try:
        dataset = source.write(args.out or os.path.join('data', source.name), replace=args.force)
    finally:  # also if too few are left: then the reasons are what one wants to see
        if args.list_skipped:
            list_skipped(source.skipped.names)
    first = next(dataset.images('train', min(64, dataset.num_images('train'))))
    pictures.save_grid(os.path.join(dataset.path, PREVIEW), first, columns=8)
    summarize(dataset, time.time() - started)
    return 0


def list_skipped(names):
    """Prints a line for each (name, reason) of what was left out."""
    for name, reason in names:
        print(f'skipped {quoted(name)}: {reason}')


if __name__ == '__main__':
    cli.run(make_parser(), main)
