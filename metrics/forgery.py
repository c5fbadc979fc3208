"""Forgery: can one user's fingerprint be copied onto pictures that are not theirs, or be taken off their own?

A p-value rules out chance, not this. bob's picture of a latent is what is forged, alice is who is framed. Nobody here
has the decoder, the encoder or a code; what the attackers have:

    stranger_N      N pictures of alice's and N of other users', all of other latents. The residual, the mean of the
                    first minus the mean of the second, is added to bob's pictures.
    photographs_N   the same residual, added to real photographs
    removal_N       the same residual, subtracted from alice's pictures: is alice still named?
    mean_N          the mean picture of N of alice's
    two_instances   alice's instance and bob's: what alice's picture of one other latent has more than bob's is added
                    to bob's pictures. (Removal by such a residual is this with the names exchanged.)
    averaged        both instances: the pixel-wise mean of alice's and bob's pictures of the same latent

bob_untouched and alice_untouched are the pictures themselves: what the others are to be compared with.
"""
import dataclasses
from typing import Optional

import numpy as np

from dnnlib.images import to_float, to_uint8
from dnnlib.util import UserError, progress
from fingerprints.codes import matching_bits
from fingerprints.statistics import threshold
from metrics.base import check_finite, generate_images, metric, number_of_images
from metrics.bit_accuracy import RATES, check_decoder, read_bits
from metrics.similarity import psnr, squared_error, ssim

DEFAULT_IMAGES = 400
PAIRS = 4              # pairs of users; each has residuals of its own
USERS = 100            # how many the thresholds are for
FEW, MANY = 100, 1000  # pictures in a residual
STREAM = 100           # the first of the random streams used here; generate_images has 0 and 1


@dataclasses.dataclass(frozen=True)
class Pair:
    """Two users and their pictures.

    codes: alice's and bob's fingerprint, uint8 [2, bits]; never equal.
    alice, bob: their pictures of the same latents, uint8 [N, H, W, 3].
    means: means of FEW pictures of alice's each, all of other latents than those above, float32 [MANY / FEW, H, W, 3].
    """
    codes: np.ndarray
    alice: np.ndarray
    bob: np.ndarray
    means: np.ndarray


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What was read from the pictures of one attack and pair.

    matching: how many bits agree with alice's code and with bob's, int [N, 2].
    error: mean squared difference to the untouched pictures in grey levels²; None if there are none.
    """
    matching: np.ndarray
    error: Optional[float]


@metric('forgery')
def forgery(model, dataset, options):
    """Draws PAIRS pairs of users, forges, and reads the bits from uint8 pictures, which are what PNG files keep.

    A user counts as named if their code reaches the threshold for USERS users: at a rate of 1e-3 a picture that
    nobody tampered with names any user but its own once in a thousand times at most. `options.num_images` latents,
    400 by default, are spread over the pairs. All pairs share the pictures of others that residuals are made with.

    Returns:
        value: the share of bob's pictures that the residual of 100 pictures gets named alice at 1e-3; None if so few
            bits can't name anyone at that rate.
        summary: the main results in one line.
        attacks: {attack: {alice, bob, nobody: {rate: share of pictures that name them, or None as above}, alice_bits,
            bob_bits: mean shares of their bits, psnr: in dB, to the untouched picture (None if there is none or all
            are identical), images: how many}}. The photographs are the first of the dataset's split, each pair's the
            same; without a dataset, or if the split is empty, there are no such attacks. Both users may be named.
        between_users: {psnr, ssim} of alice's and bob's pictures of the same latents; psnr is None if all are
            identical, ssim if they are smaller than its window.
        thresholds: {rate: bits that name a user, None if all would not suffice}.

    Raises:
        UserError: the model has no decoder, its answers are not finite, or the dataset is of another resolution.
        UsageError: fewer images than two for each pair: a residual comes from another latent.
    """
    check_decoder('forgery', model)
    count = number_of_images('forgery', options, DEFAULT_IMAGES, 2 * PAIRS)
    sizes = [len(part) for part in np.array_split(np.arange(count), PAIRS)]
    photographs = _photographs(model, dataset, options.split, max(sizes))
    outcomes, errors, similarities = {}, [], []
    with progress(total=MANY + PAIRS * MANY + 2 * count, unit=' images', desc='forgery') as bar:
        others = _block_means(_others(model, options.seed), model, bar)
        for number, size in enumerate(sizes):
            pair = _draw_pair(model, np.random.default_rng([options.seed, STREAM + number]), size, bar)
            for name, pictures, untouched in _attacks(pair, others, photographs):
                outcomes.setdefault(name, []).append(_outcome(model, pair.codes, pictures, untouched))
            errors.append(squared_error(pair.alice, pair.bob))
            similarities.append(ssim(pair.alice, pair.bob))
    between = {'psnr': psnr(np.average(errors, weights=sizes)),
               'ssim': None if similarities[0] is None else float(np.concatenate(similarities).mean())}
    return _record(model.fingerprint_bits, count, outcomes, between)


def _photographs(model, dataset, split, count):
    """The first real images of a split, uint8 [≤ count, H, W, 3]; None if there is no dataset or the split is empty."""
    if dataset is None or not dataset.num_images(split):
        return None
    if dataset.resolution != model.resolution:
        raise UserError(f'the dataset has images of {dataset.resolution} pixels a side, the model draws '
                        f'{model.resolution}; name a dataset of that size')
    return np.concatenate(list(dataset.images(split, count)))


def _others(model, seed):
    """MANY pictures, each of another user and latent: yields uint8 batches."""
    for images, _ in generate_images(model, MANY, seed, 'pictures of others'):
        yield to_uint8(images)


def _pictures(model, latents, code):
    """One user's pictures of latents [N, latent_dim]: yields uint8 batches.

    The last batch is filled up by repeating latents and then cut, so that compiled networks meet one shape only.
    """
    size = model.batch_size
    fingerprints = np.tile(code.astype(np.float32), [size, 1])
    for start in range(0, len(latents), size):
        batch = latents[start:start + size]
        images = np.asarray(model.generate(np.resize(batch, [size, latents.shape[1]]), fingerprints))
        check_finite(images)
        yield to_uint8(images[:len(batch)])


def _block_means(batches, model, bar):
    """The means of each FEW of MANY pictures, which come in uint8 batches: float32 [MANY / FEW, H, W, 3]."""
    sums, start = np.zeros([MANY // FEW, model.resolution, model.resolution, 3]), 0
    for images in batches:
        np.add.at(sums, np.arange(start, start + len(images)) // FEW, images)
        start += len(images)
        bar.update(len(images))
    return (sums / FEW).astype(np.float32)


def _draw_pair(model, rng, size, bar):
    """A Pair with `size` latents; its codes and what its residuals are made of don't depend on `size`."""
    codes = rng.integers(0, 2, [2, model.fingerprint_bits], np.uint8)
    while (codes[0] == codes[1]).all():
        codes = rng.integers(0, 2, [2, model.fingerprint_bits], np.uint8)
    public = rng.standard_normal([MANY, model.latent_dim], np.float32)
    latents = rng.standard_normal([size, model.latent_dim], np.float32)
    means = _block_means(_pictures(model, public, codes[0]), model, bar)
    alice, bob = (np.concatenate(list(_pictures(model, latents, code))) for code in codes)
    bar.update(2 * size)
    return Pair(codes, alice, bob, means)


def _attacks(pair, others, photographs):
    """Yields (attack, its uint8 pictures, the untouched pictures or None)."""
    yield 'alice_untouched', pair.alice, pair.alice
    yield 'bob_untouched', pair.bob, pair.bob
    for count in (FEW, MANY):
        blocks = slice(count // FEW)
        residual = pair.means[blocks].mean(axis=0) - others[blocks].mean(axis=0)
        yield f'stranger_{count}', _add(pair.bob, residual), pair.bob
        yield f'removal_{count}', _add(pair.alice, -residual), pair.alice
        if photographs is not None:
            yield f'photographs_{count}', _add(photographs[:len(pair.bob)], residual), photographs[:len(pair.bob)]
    yield f'mean_{FEW}', _add(pair.means, 0), None
    # Each picture gets the residual of the next one's latent, the last that of the first.
    difference = pair.alice.astype(np.float32) - pair.bob
    yield 'two_instances', _add(pair.bob, np.roll(difference, -1, axis=0)), pair.bob
    yield 'averaged', _add(pair.bob, difference / 2), pair.bob


def _add(pictures, residual):
    """Pictures in grey levels plus a residual, as a file keeps them: rounded and clipped to uint8."""
    return np.clip(np.rint(pictures + np.asarray(residual, np.float32)), 0, 255).astype(np.uint8)


def _outcome(model, codes, pictures, untouched):
    matching = matching_bits(read_bits(model, to_float(pictures)), codes)       # [N, 2]
    return Outcome(matching, None if untouched is None else squared_error(pictures, untouched))


def _record(bits, count, outcomes, between):
    """The result, from {attack: its Outcome for each pair}."""
    thresholds = {f'{fpr:.0e}': threshold(bits, USERS, fpr) for fpr in RATES}
    attacks = {name: _joined(parts, bits, thresholds) for name, parts in outcomes.items()}
    value = attacks[f'stranger_{FEW}']['alice']['1e-03']
    return {'value': value, 'summary': _summary(attacks, between, bits), 'attacks': attacks, 'between_users': between,
            'thresholds': thresholds, 'users': USERS, 'pairs': PAIRS, 'bits': bits, 'images': count}


def _joined(parts, bits, thresholds):
    """What is kept of one attack's Outcomes."""
    matching = np.concatenate([part.matching for part in parts])                # [N, 2]
    named = {rate: None if needed is None else matching >= needed for rate, needed in thresholds.items()}
    shares = {'alice': lambda reached: reached[:, 0], 'bob': lambda reached: reached[:, 1],
              'nobody': lambda reached: ~reached.any(axis=1)}
    error = None if parts[0].error is None else np.average([part.error for part in parts],
                                                            weights=[len(part.matching) for part in parts])
    return {**{who: {rate: None if reached is None else float(choose(reached).mean())
                     for rate, reached in named.items()} for who, choose in shares.items()},
            'alice_bits': float(matching[:, 0].mean() / bits), 'bob_bits': float(matching[:, 1].mean() / bits),
            'psnr': None if error is None else psnr(error), 'images': len(matching)}


def _summary(attacks, between, bits):
    """'alice named 0.0 %, bob 99.2 %, removal 99.0 %, 28.1 dB between users'; at 1e-3, residuals of FEW pictures."""
    users = 'users alike' if between['psnr'] is None else f'{between["psnr"]:.1f} dB between users'
    forged, removal = attacks[f'stranger_{FEW}'], attacks[f'removal_{FEW}']
    shares = [forged['alice']['1e-03'], forged['bob']['1e-03'], removal['alice']['1e-03']]
    if None in shares:
        return f'{bits} bits cannot name one of {USERS} users at 1e-3, {users}'
    alice, bob, still = (100 * share for share in shares)
    return f'alice named {alice:.1f} %, bob {bob:.1f} %, removal {still:.1f} %, {users}'
