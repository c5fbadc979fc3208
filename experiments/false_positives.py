"""Counts how often unrelated pictures are held against a user: pictures → decoder → random registries → p-values.

    python -m experiments.false_positives --run=results/demo/run --photographs ../shared/data/*.zip --alignments \\
        --generators results/photographs-config-e untrained

What the decoder says does not matter to the promise (fingerprints.statistics.p_value), nor do pictures that decode
alike; the codes must be random. Pictures that decode alike accuse the same user of one registry together, so there are
many registries, each asked for its share of the pictures.
"""
import collections
import os

import numpy as np
import tensorflow as tf

from dnnlib import cli
from dnnlib.images import to_float
from dnnlib.util import UsageError, progress
from experiments.unrelated import Drawn, load_photographs, unrelated
from fingerprints.codes import packed, unpacked
from fingerprints.matching import PackedCodes, attribute
from fingerprints.statistics import clopper_pearson, corrected, p_value, threshold
from models.methods import METHODS
from release.alignments import ALIGNMENTS, AS_IT_IS, best_alignment
from training.config import make_config
from training.snapshot import Snapshot

BATCH = 256
RATES = (1e-3, 1e-6)
UNTRAINED = 'untrained'
SMALL = dict(latent_dim=64, embedding_dim=64, fmap_base=1024, fmap_max=32, mapping_layers=2)  # what it is made of


def load_generators(runs, resolution, seed):
    """A Drawn for each run, whose pictures show all kinds of fingerprints if any; UNTRAINED: of random weights."""
    def drawn(run):
        model = untrained(resolution) if run == UNTRAINED else Snapshot(run).model(BATCH)
        rng = np.random.default_rng([seed, 1])

        def generate(latents):
            return model.generate(latents, rng.integers(0, 2, [len(latents), model.fingerprint_bits]))
        return Drawn(os.path.basename(os.path.normpath(run)), generate, model.latent_dim)
    return [drawn(run) for run in runs]


def untrained(resolution):
    """The Model of a small plain generator as it is before training."""
    method = METHODS['stylegan2']
    tf.keras.utils.set_random_seed(0)
    return method.as_model(method.networks(make_config('stylegan2', SMALL), resolution, ('M', 'G')), BATCH)


def decode_all(model, pictures, count, alignments):
    """(kinds, bits read, packed, uint8 [count, alignments, bytes]) of `count` (kind, uint8 picture)."""
    kinds, read, batch = [], [], []
    pictures = progress(pictures, total=count, desc='decode')
    for number, (kind, pixels) in enumerate(pictures, 1):
        kinds.append(kind)
        batch.append(pixels)
        if len(batch) == BATCH or number == count:
            images = np.stack(batch)
            read.append(np.stack([packed(model.decode(to_float(version(images))) > 0)
                                  for version in alignments.values()], axis=1))
            batch = []
    return np.array(kinds), np.concatenate(read)


def p_values(read, num_bits, users, registries, seed):
    """Each picture's p-value [N], corrected for users and alignments, against one of so many random registries."""
    rng, found = np.random.default_rng(seed), []
    for part in progress(np.array_split(read, registries), desc=f'{users} users', unit='registry'):
        codes = PackedCodes(rng.integers(0, 256, [users, -(-num_bits // 8)], np.uint8), num_bits)
        tried = part.shape[1]
        rows, number = np.unique(part.reshape(-1, part.shape[2]), axis=0, return_inverse=True)
        results = attribute(2.0 * unpacked(rows, num_bits) - 1, range(users), codes, RATES[0], num_alignments=tried)
        results = [results[index] for index in number.ravel()]  # what decodes alike is compared once
        found += [best_alignment(results[start:start + tried])[1].p_value for start in range(0, len(results), tried)]
    return np.array(found)


def lines(kinds, p, num_bits, users, tried, registries):
    """A line per rate and kind of picture: how many are held against a user, the interval, and what is promised."""
    for rate in RATES:
        needed = threshold(num_bits, users, rate, num_alignments=tried)
        exact = 0 if needed is None else corrected(p_value(needed, num_bits), users, num_alignments=tried)
        yield (f'{users:,} users, {registries} registries, {tried} alignments, rate {rate:g}: '
               f'{needed} of {num_bits} bits, by arithmetic at most {exact:.2g}')
        counts = collections.Counter(kinds.tolist())
        for kind in ('all', *sorted(counts)):
            chosen = p if kind == 'all' else p[kinds == kind]
            named = int((chosen <= rate).sum())
            low, high = clopper_pearson(named, len(chosen))
            verdict = 'within' if low <= rate else 'ABOVE'
            yield (f'  {kind:14} {named:6} of {len(chosen):7}  {named / len(chosen):.2e}  95%: {low:.1e} to {high:.1e}'
                   f'  {verdict} the rate')
        held = np.array([(part <= rate).sum() for part in np.array_split(p, registries)])
        error = 1.96 * held.std() * registries ** 0.5 / len(p)
        share = held.sum() / len(p)
        yield (f'  {(held > 0).sum()} of {registries} registries held a picture against anyone, one of them '
               f'{held.max()}; by the spread between them 95%: {max(0, share - error):.1e} to {share + error:.1e}')


def make_parser():
    """The command line."""
    parser = cli.ArgumentParser(prog='python -m experiments.false_positives', description=__doc__.split('\n')[0])
    parser.add_argument('--run', required=True, help="the training run's folder")
    parser.add_argument('--photographs', required=True, nargs='+', help='folders or zips of photographs')
    parser.add_argument('--generators', nargs='+', default=[], metavar='RUN', help='runs of other models, whose '
                        f'pictures are unrelated too; {UNTRAINED}: a generator of random weights')
    parser.add_argument('--pictures', type=int, default=100_000, help='how many pictures')
    parser.add_argument('--users', default='10000,1000000', help='numbers of users, separated by commas')
    parser.add_argument('--registries', type=int, default=100, help='how many registries of each number')
    parser.add_argument('--alignments', action='store_true', help='try each picture in 16 versions, as attribute does')
    parser.add_argument('--seed', type=int, default=0, help='seed of pictures and codes')
    return parser


def main(args):
    """Prints the counts."""
    counts = cli.numbers('--users', args.users)
    if not 1 <= args.registries <= args.pictures or min(counts) < 2 or args.seed < 0:
        raise UsageError('take at least 2 --users, 1 of --registries, as many --pictures, and a --seed of 0 or more')
    model = Snapshot(args.run).model(BATCH)
    if model.decode is None:
        raise UsageError(f'{args.run} was trained without fingerprints; take a run that has a decoder')
    alignments = ALIGNMENTS if args.alignments else {AS_IT_IS: ALIGNMENTS[AS_IT_IS]}
    generators = load_generators(args.generators, model.resolution, args.seed)
    pictures = unrelated(load_photographs(args.photographs), model.resolution, args.pictures, args.seed, generators)
    kinds, read = decode_all(model, pictures, args.pictures, alignments)
    different = len(np.unique(read[:, 0], axis=0))
    print(f'{len(kinds):,} pictures, which decode to {different:,} bit strings', flush=True)
    for users in counts:
        p = p_values(read, model.fingerprint_bits, users, args.registries, args.seed)
        print('\n'.join(lines(kinds, p, model.fingerprint_bits, users, len(alignments), args.registries)), flush=True)


if __name__ == '__main__':
    cli.run(make_parser(), main)
