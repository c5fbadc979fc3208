"""Looks at a snapshot: the three grids, and how much the fingerprint changes a picture (residuals, amplified).

With --instance, draws pictures from an issued instance instead, without the run.
"""
import os

from dnnlib import cli
from dnnlib.util import UsageError, UserError, make_folder


def make_parser():
    """The command line."""
    parser = cli.ArgumentParser(description=__doc__)
    parser.add_argument('--run', default='results/digits-quickstart', help="the training run's folder")
    parser.add_argument('--instance', metavar='FOLDER', help='draw from an issued instance, such as instances/alice/1; '
                        '--out names the new folder for side * side pictures and their grid')
    parser.add_argument('--kimg', type=int, help='which snapshot (default: the latest)')
    parser.add_argument('--out', help='folder for the pictures (default: RUN/pictures; pictures there are replaced)')
    parser.add_argument('--side', type=int, default=8, help='images per side of a grid')
    parser.add_argument('--seed', type=int, default=0, help='seed of latents and fingerprints')
    parser.add_argument('--truncation-psi', type=float, default=1.0, help='of a stylegan2 run: how far w may be from '
                        'its mean, from 0 to 1 (default: 1, as far as it is)')
    return parser


def draw_instance(args):
    """Draws the pictures of --instance into the new folder --out."""
    if not args.out:
        raise UsageError('--instance needs --out=FOLDER, a new folder for the pictures')
    if args.kimg is not None or args.truncation_psi != 1:
        raise UsageError('--kimg and --truncation-psi do not go with --instance; leave them out')
    if os.path.lexists(args.out):  # before TensorFlow is imported
        raise UserError(f'{args.out} exists already; remove it or choose another folder')
    from release.drawing import Drawer, save_pictures
    save_pictures(args.out, Drawer(args.instance), args.side, args.seed)
    print(f'{args.side * args.side} pictures of the instance are in {args.out}')


def main(args):
    if not 1 <= args.side <= 64:
        raise UsageError(f'--side={args.side}: must be from 1 to 64')
    if args.seed < 0:
        raise UsageError(f'--seed={args.seed}: must be 0 or more')
    if not 0 <= args.truncation_psi <= 1:
        raise UsageError(f'--truncation-psi={args.truncation_psi}: must be from 0 to 1')
    if args.instance is not None:
        return draw_instance(args)
    import numpy as np

    from dnnlib.images import to_uint8
    from dnnlib.pictures import tile_zoom
    from release.report import residual_picture
    from training.grids import GRIDS, write_grids
    from training.snapshot import Snapshot
    snapshot = Snapshot(args.run, args.kimg)
    model = snapshot.model(truncation_psi=args.truncation_psi)
    out = make_folder(args.out or os.path.join(args.run, 'pictures'))
    path = os.path.join(out, f'{{}}_{snapshot.kimg:06d}.png')
    there = [name for name in map(path.format, (*GRIDS, 'residual')) if os.path.lexists(name)]
    if args.out and there:  # RUN/pictures is for these pictures alone, another folder may hold anything
        raise UserError(f'{there[0]} exists already; remove it or choose another --out')
    write_grids(model, args.seed, path, args.side)
    if model.fingerprint_bits:
        rng = np.random.default_rng(args.seed)
        latents = rng.standard_normal([args.side, model.latent_dim])
        codes = rng.integers(0, 2, [2, model.fingerprint_bits])
        images = {name: to_uint8(model.generate(latents, np.repeat(code[None], args.side, 0)))
                  for name, code in zip(('fingerprint 1', 'fingerprint 2'), codes)}
        residual_picture(path.format('residual'), images, list(images), tile_zoom(model.resolution))
    print(f'pictures of snapshot {snapshot.kimg} kimg are in {out}')


if __name__ == '__main__':
    cli.run(make_parser(), main)
