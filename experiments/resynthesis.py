"""What re-synthesis tells: pictures of an instance, photographs with its mark pasted on, and photographs, drawn again.

    python -m experiments.resynthesis --run=RUN --dataset=photographs --images=20

The pasted mark is the best that a holder of two instances has: what the user's picture of the nearest latent that was
found has more than the mean of other users' pictures of it. It is one table: PSNR of the nearest picture that the
user's instance was found to draw, and how often that instance came nearer than those of three other users.
"""
import json

import numpy as np

from datasets.sources import find_dataset
from dnnlib import cli
from dnnlib.images import to_float, to_uint8
from dnnlib.util import UsageError
from fingerprints.codes import matching_bits
from fingerprints.statistics import threshold
from release.evidence.measured import own_pictures
from release.evidence.redrawn import OTHERS
from release.evidence.resynthesis import Resynthesizer
from training.snapshot import Snapshot

SPLIT = 'eval'
SEED = 7
MEANS = 32   # users whose mean picture is taken for the unmarked one
RATE = 1e-3


def make_parser():
    """The command line."""
    parser = cli.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('--run', required=True, help="the training run's folder")
    parser.add_argument('--kimg', type=int, help='its snapshot: the latest if not given')
    parser.add_argument('--dataset', required=True, help='photographs: the held-out ones of a dataset')
    parser.add_argument('--images', type=int, default=20, help='how many of each kind')
    return parser


def kinds(snapshot, codes, photographs, rng):
    """{kind: uint8 pictures [N, H, W, 3]}: of the first code's instance, photographs with its mark, photographs."""
    model, count = snapshot.model(), len(photographs)
    own = np.concatenate(list(own_pictures(model, codes[0], count, SEED)))
    latents = rng.standard_normal([count, model.latent_dim]).astype(np.float32)
    others = rng.integers(0, 2, [MEANS, len(codes[0])])
    marked = model.generate(latents, np.repeat(codes[:1], count, 0))
    unmarked = np.mean([model.generate(latents, np.repeat(one[np.newaxis], count, 0)) for one in others], axis=0)
    pasted = to_uint8(to_float(photographs) + marked - unmarked)
    return {'own': own, 'pasted': pasted, 'photograph': photographs}


def summary(kind, results, matching, num_bits):
    """One line's record of a kind of pictures, from their Redrawn and how many bits of the user each reads."""
    psnr = np.array([result.psnr for result in results])                             # [N, users]
    margin = psnr[:, 0] - psnr[:, 1:].max(axis=1)
    quartiles = np.quantile(psnr[:, 0], [0, 0.25, 0.5, 0.75, 1]).round(2).tolist()
    return {'kind': kind, 'images': len(results), 'psnr_quartiles': quartiles,
            'user_nearest': int((margin > 0).sum()), 'margin_median': round(float(np.median(margin)), 3),
            'named': int((matching >= threshold(num_bits, 1, RATE)).sum()), 'bits': float(matching.mean())}


def main(args):
    """Prints a JSON line per kind."""
    if args.images < 1:
        raise UsageError(f'--images={args.images}: take at least 1')
    snapshot, dataset = Snapshot(args.run, args.kimg, impl='ref'), find_dataset(args.dataset)
    rng = np.random.default_rng(SEED)
    codes = rng.integers(0, 2, [1 + OTHERS, snapshot.config.fingerprint_bits]).astype(np.float32)
    photographs = np.concatenate(list(dataset.images(SPLIT, args.images)))[:args.images]
    redraw = Resynthesizer(snapshot, codes)
    for kind, pictures in kinds(snapshot, codes, photographs, rng).items():
        read = snapshot.model().decode(to_float(pictures)) > 0
        line = summary(kind, redraw(pictures, kind), matching_bits(read, codes[:1])[:, 0], codes.shape[1])
        print(json.dumps(line), flush=True)


if __name__ == '__main__':
    cli.run(make_parser(), main)
