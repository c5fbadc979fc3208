"""How many pictures of users are named right: as they are, scaled, cropped, as JPEGs; one alone, and several together.

    python -m experiments.edited_pictures --run=results/demo/run

Pictures of some users of a large registry go the way that attribution's files go: saved, read, brought to the model's
size (release.sizes), decoded; of several ways to do that the surest read one counts, as for pictures of one source.
Together means: the evidence of so many edited pictures of one user, pooled. A search for crops (release.search) takes
seconds of CPU a picture, so that fewer go through it.
"""
import io

import numpy as np
from PIL import Image

from dnnlib import cli
from dnnlib.images import decode, to_float, to_uint8
from dnnlib.util import UsageError, progress
from fingerprints.codes import packed, unpacked
from fingerprints.evidence import pool
from fingerprints.matching import PackedCodes, attribute
from release.search import find_placement
from release.sizes import fitted
from training.snapshot import Snapshot

BATCH = 64
POOLED = (1, 4, 16)
RATES = (1e-3, 1e-6)


def saved(image, format='PNG', **options):
    """The image after it was saved and read again."""
    file = io.BytesIO()
    image.save(file, format, **options)
    return decode(file.getvalue())


def scaled(factor):
    """An edit that scales an image both ways."""
    return lambda image: image.resize([round(side * factor) for side in image.size], Image.Resampling.BICUBIC)


def cropped(share):
    """An edit that keeps the middle."""
    def edit(image):
        cut = [round(side * (1 - share) / 2) for side in image.size]
        return image.crop((*cut, image.width - cut[0], image.height - cut[1]))
    return edit


def boxed(image):
    """Black bars above and below, as a video has them."""
    framed = Image.new('RGB', (image.width, image.height + image.height // 2))
    framed.paste(image, (0, image.height // 4))
    return framed


# Those that save no JPEG save nothing: a PNG keeps every pixel, and to write and read a large one costs most of all.
EDITS = {'as they are': saved, 'scaled by 0.75': scaled(0.75), 'scaled by 2': scaled(2), 'scaled by 8': scaled(8),
         'cropped to 95%': cropped(0.95), 'cropped to 80%': cropped(0.8), 'boxed': boxed,
         'JPEG 75': lambda image: saved(image, 'JPEG', quality=75),
         'JPEG 90, then 75': lambda image: saved(saved(image, 'JPEG', quality=90), 'JPEG', quality=75)}

SEARCHED = 'cropped to 80%'


def draw_pictures(model, codes, count, seed):
    """uint8 [users, count, side, side, 3]: so many pictures of each of the codes [users, bits]."""
    rng, images = np.random.default_rng(seed), []
    for code in progress(codes, desc='draw', unit='user'):
        latents = rng.standard_normal([count, model.latent_dim], np.float32)
        images.append(to_uint8(model.generate(latents, np.repeat(code[np.newaxis], count, 0).astype(np.float32))))
    return np.stack(images)


def read(model, images, edit):
    """The surest version's logits [users, count, bits] of edited pictures, and in how many versions each was tried."""
    rows = []
    for pictures in progress(images, desc='read', unit='user'):
        versions = [list(fitted(edit(Image.fromarray(one)), model.resolution).values()) for one in pictures]
        logits = np.stack([model.decode(to_float(np.stack(way))) for way in zip(*versions)])  # [ways, count, bits]
        surest = np.abs(logits).mean(axis=2).argmax(axis=0)
        rows.append(logits[surest, np.arange(len(pictures))])
    return np.stack(rows)


def searched(model, images, edit):
    """The logits [users, count, bits] at the place where edited pictures, scaled as a whole, are read most surely."""
    def place(one):
        whole = next(iter(fitted(edit(Image.fromarray(one)), model.resolution).values()))
        return find_placement(whole, model.decode)[1]
    return np.stack([[place(one) for one in pictures] for pictures in progress(images, desc='search', unit='user')])


def grouped(logits, together):
    """The evidence [groups, bits] of groups of so many pictures of one user, from logits [users, count, bits]."""
    groups = logits[:, :logits.shape[1] // together * together].reshape(-1, together, logits.shape[2])
    return groups[:, 0] if together == 1 else np.stack([pool(group) for group in groups])


def named(rows, users, registry, soft):
    """[(share named right, number named wrong)] at the RATES of evidence [groups, bits], as much of each user."""
    found = attribute(rows, range(len(registry)), registry, RATES[0], soft=soft)
    truth = np.repeat(users, len(found) // len(users))
    results = []
    for rate in RATES:
        said = [at_rate(one, row, registry, rate, soft) for one, row in zip(found, rows)]
        right = sum(user == expected for user, expected in zip(said, truth))
        results.append((right / len(said), sum(user not in (None, expected) for user, expected in zip(said, truth))))
    return results


def at_rate(found, row, registry, rate, soft):
    """Whom an Attribution at RATES[0] names at a stricter rate: the best user if no other was near."""
    if len(found.over_threshold) > 1:
        return attribute(row[np.newaxis], range(len(registry)), registry, rate, soft=soft)[0].user
    return found.best_user if found.p_value <= rate else None


def line(name, logits, users, codes, registry):
    """A row of the table: the edit, bit accuracy, what is named right at both rates, and how often another is named."""
    cells, mistakes = [name, f'{((logits > 0) == codes[:, np.newaxis]).mean():.3f}'], 0
    for together in POOLED:
        rows = grouped(logits, together)
        for soft in (False, True):
            results = named(rows, users, registry, soft)
            cells.append(' / '.join(f'{100 * right:.1f}' for right, _ in results))
            mistakes += sum(wrong for _, wrong in results)
    return '| ' + ' | '.join([*cells, str(mistakes)]) + ' |'


def table(model, users, pictures, registered, seed, searching=0):
    """Yields the lines of a Markdown table: a row per edit, and one for crops that are searched for, of few users."""
    rng = np.random.default_rng([seed, 1])
    num_bits = model.fingerprint_bits
    registry = PackedCodes(packed(rng.integers(0, 2, [registered, num_bits], np.uint8)), num_bits)
    chosen = rng.choice(registered, users, replace=False)
    codes = unpacked(registry.data[chosen], num_bits)
    images = draw_pictures(model, codes, pictures, seed)
    yield f'{users * pictures:,} pictures of {users} of {registered:,} users; named right, %, at 1e-3 / 1e-6'
    yield '| edit | bit accuracy | ' + ' | '.join(f'{count} together{kind}' for count in POOLED
                                                  for kind in ('', ', soft')) + ' | named wrong |'
    yield '|' + '---|' * (3 + 2 * len(POOLED))
    for name, edit in EDITS.items():
        yield line(name, read(model, images, edit), chosen, codes, registry)
    if searching:
        few = images[:searching, :max(POOLED)]
        name = f'{SEARCHED}, searched for: {few.shape[0] * few.shape[1]} pictures'
        yield line(name, searched(model, few, EDITS[SEARCHED]), chosen[:searching], codes[:searching], registry)


def make_parser():
    """The command line."""
    parser = cli.ArgumentParser(prog='python -m experiments.edited_pictures', description=__doc__.split('\n')[0])
    parser.add_argument('--run', required=True, help="the training run's folder")
    parser.add_argument('--users', type=int, default=100, help='how many users have drawn pictures')
    parser.add_argument('--pictures', type=int, default=100, help='how many of each of them')
    parser.add_argument('--searched', type=int, default=0, help=f'users of whom {max(POOLED)} crops are searched for')
    parser.add_argument('--registered', type=int, default=10_000, help='how many users the registry has')
    parser.add_argument('--seed', type=int, default=0, help='seed of codes and pictures')
    return parser


def main(args):
    """Prints the table."""
    if not 0 <= args.searched <= args.users:
        raise UsageError(f'--searched={args.searched}: take 0 or more, and no more than --users')
    if not 1 <= args.users <= args.registered or args.pictures < max(POOLED) or args.seed < 0:
        raise UsageError(f'take 1 of --users at least, as many --registered, {max(POOLED)} --pictures, a --seed of 0')
    model = Snapshot(args.run).model(BATCH)
    if model.decode is None:
        raise UsageError(f'{args.run} was trained without fingerprints; take a run that has a decoder')
    for text in table(model, args.users, args.pictures, args.registered, args.seed, args.searched):
        print(text, flush=True)


if __name__ == '__main__':
    cli.run(make_parser(), main)
