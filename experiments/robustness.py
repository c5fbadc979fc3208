"""What a fingerprint survives: a table of bit accuracy by perturbation and strength, and a picture of each.

    python -m experiments.robustness --run=results/photographs-config-e

The robustness experiment of Yu et al. 2022 (arXiv 2012.08726) on saved files, with the same latents and fingerprints
under each perturbation.
"""
import os

import numpy as np

from dnnlib import cli
from dnnlib.images import to_uint8
from dnnlib.pictures import labelled_rows, tile_zoom
from dnnlib.util import append_json_line, make_folder
from metrics.base import Options, generate_images, run_metric
from metrics.robustness import PERTURBATIONS, perturb
from training.snapshot import Snapshot

RATE = '1e-06'


def make_parser():
    """The command line."""
    parser = cli.ArgumentParser(prog='experiments/robustness.py', description=__doc__.split('\n')[0])
    parser.add_argument('--run', default='results/digits-quickstart', help="the training run's folder")
    parser.add_argument('--kimg', type=int, help='which snapshot (default: the latest)')
    parser.add_argument('--out', help='folder for the picture (default: RUN/pictures)')
    parser.add_argument('--num-images', type=int, default=500, help='images to generate')
    parser.add_argument('--seed', type=int, default=0, help='seed of latents, fingerprints and perturbations')
    return parser


def table(curves):
    """A Markdown table: a row per perturbation, bit accuracy and the share attributable at RATE by strength."""
    rows = []
    for name, curve in curves.items():
        cells = []
        for point in curve:
            strength = point.get(PERTURBATIONS[name].parameter)
            share = point['attributable'][RATE]
            said = f'{point["bit_accuracy"]:.3f}' + (f' ({share["share"]:.0%})' if share else '')
            cells.append(said if strength is None else f'{strength:g}: {said}')
        parameter = PERTURBATIONS[name].parameter
        rows.append(f'| {name}{f", {parameter}" if parameter else ""} | {" | ".join(cells)} |')
    width = max(len(curve) for curve in curves.values())
    head = f'| perturbation | bit accuracy (attributable at {RATE}) |' + ' |' * (width - 1)
    filled = [row + ' |' * (width - len(curve)) for row, curve in zip(rows, curves.values())]
    return '\n'.join([head, '|---' * (width + 1) + '|', *filled])


def picture(path, image, curves, seed):
    """Saves a uint8 image [H, W, 3] under every perturbation, a row each, with strength and mean bit accuracy below."""
    rows = [[perturb(name, strength, image[None], np.random.default_rng(seed))[0]
             for strength in PERTURBATIONS[name].strengths] for name in curves]
    captions = [[f'{strength:g}: {point["bit_accuracy"]:.3f}' for strength, point in
                 zip(PERTURBATIONS[name].strengths, curve)] for name, curve in curves.items()]
    labelled_rows(rows, list(curves), captions, tile_zoom(image.shape[0])).save(path)


def main(args):
    snapshot = Snapshot(args.run, args.kimg)
    model = snapshot.model()
    record = run_metric('robustness', model, None, Options(num_images=args.num_images, seed=args.seed))
    append_json_line(os.path.join(args.run, 'metrics.jsonl'), {'kimg': snapshot.kimg, **record})
    print(table(record['curves']))
    out = make_folder(args.out or os.path.join(args.run, 'pictures'))
    path = os.path.join(out, f'robustness_{snapshot.kimg:06d}.png')
    images, _ = next(generate_images(model, 1, args.seed, 'picture'))
    picture(path, to_uint8(images[0]), record['curves'], args.seed)
    print(f'{path} shows one image under each')


if __name__ == '__main__':
    cli.run(make_parser(), main)
