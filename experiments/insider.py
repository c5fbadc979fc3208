"""Who could frame alice, from her published pictures: an insider, bob, who opened his own instance of method adopted.

    python -m experiments.insider --run=RUN

An instance holds how signs follow from content, by its user's key. bob takes these signs off N of alice's pictures,
averages, keeps what is stronger than content would be (a Wiener filter, from the spectra of his own mark and of his own
generator's pictures), and adds it, with the right signs, to pictures of the generator that bear no mark. The attacks:

    same_key_N   alice happens to have bob's key
    other_key_N  she has another, as all but one user in 2^key_bits have
    nearest_N    bob adds to each picture what is left, after the filter, of the one of N of alice's whose content is
                 most like its own: no key is needed
"""
import json

import numpy as np
import tensorflow as tf

from dnnlib import cli
from dnnlib.images import to_float, to_uint8
from dnnlib.util import UsageError, progress
from fingerprints.codes import matching_bits
from fingerprints.statistics import threshold
from metrics.base import batched
from metrics.bit_accuracy import RATES
from metrics.similarity import psnr, squared_error
from models.adopted import COLOURS, upsampled
from models.content import key_of
from models.masking import masking
from models.signs import spread
from training.snapshot import Snapshot

METHOD = 'adopted'
PUBLISHED = (1, 10, 100, 1000)  # alice's pictures that bob has
USERS = 100                     # how many the thresholds are for
BATCH = 100
SEED = 7
# Red, green and blue in luma and chroma, as marks are drawn, and back.
TO_RGB = COLOURS.astype(np.float64)
FROM_RGB = np.linalg.inv(TO_RGB)


def make_parser():
    """The command line."""
    parser = cli.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('--run', required=True, help="the training run's folder, of method adopted")
    parser.add_argument('--kimg', type=int, help='its snapshot: the latest if not given')
    parser.add_argument('--images', type=int, default=400, help='how many forged pictures of each kind')
    return parser


class Opened:
    """What bob finds in an instance, and what he draws with it."""

    def __init__(self, snapshot):
        nets, self.config, self.resolution = snapshot.nets, snapshot.config, snapshot.resolution
        self.carriers = carriers = nets['C']
        self._draw = tf.function(lambda latents: nets['G'](latents, nets['M'](latents)), autograph=False)
        self._gains = tf.function(self._find_gains, autograph=False)
        self._mark = tf.function(carriers, autograph=False)
        self._content = tf.function(lambda images: carriers.signs.content(images), autograph=False)

    def unmarked(self, count, rng):
        """Pictures without a mark: float32 [count, H, W, 3]."""
        return batched(self._draw, BATCH, rng.standard_normal([count, self.config.latent_dim]).astype(np.float32))

    def gains(self, images, code):
        """By what pictures multiply marks, by the key of a code [bits]: signs, and masking if any, [N, H, W, 1]."""
        key = key_of(code[np.newaxis], self.config.key_bits)
        return batched(lambda part: self._gains(part, tf.repeat(key, len(part))), BATCH, images)

    def _find_gains(self, images, keys):
        gains = spread(self.carriers.signs(images, keys), self.resolution)
        if self.carriers.masked:
            side = min(self.resolution, self.config.read_side)
            gains *= upsampled(masking(images, side), self.resolution, self.carriers.impl)
        return gains

    def nearest(self, images, others):
        """The number, for each picture [N, H, W, 3], of that of `others` whose content is most like its own: [N]."""
        first, second = (batched(self._content, BATCH, part) for part in (images, others))
        return np.argmin(np.sum(np.square(first[:, np.newaxis] - second), axis=2), axis=1)

    def mark(self, code):
        """What an instance of `code` [bits] adds, before signs and masking: [H, W, 3]."""
        marks = self.carriers.marks(tf.constant(code[np.newaxis], tf.float32))
        return upsampled(marks, self.resolution, self.carriers.impl)[0].numpy()

    def published(self, code, count, rng):
        """Pictures with the mark of `code`, as files keep them: float32 [count, H, W, 3]."""
        images, row = self.unmarked(count, rng), tf.constant(code[np.newaxis], tf.float32)
        marks = batched(lambda part: self._mark(tf.repeat(row, len(part), axis=0), part), BATCH, images)
        return to_float(to_uint8(images + marks))


def spectrum(image):
    """The Fourier transform of each channel of images [..., H, W, 3], in luma and chroma."""
    return np.fft.fft2(image @ FROM_RGB, axes=(-3, -2))


def radial_mean(power):
    """The mean of each channel of power spectra [H, H, 3] over rings of one frequency, at every place of the ring."""
    frequency = np.fft.fftfreq(len(power), 1 / len(power))
    ring = np.rint(np.hypot(frequency[:, np.newaxis], frequency)).astype(int)
    counts = np.bincount(ring.ravel())
    return np.stack([(np.bincount(ring.ravel(), channel.ravel()) / counts)[ring]
                     for channel in np.moveaxis(power, -1, 0)], axis=-1)


def estimated_mark(pictures, gains, own_mark, content_power):
    """What pictures [N, H, W, 3] of one user have in common once their gains [N, H, W, 1] are off: [H, W, 3].

    Args:
        pictures: on [−1, 1]. gains: by what marks were multiplied.
        own_mark: a mark of about the same spectrum and strength, [H, W, 3].
        content_power: mean power spectrum of gains · unmarked pictures, [H, W, 3], in luma and chroma.
    """
    share = np.mean(np.square(gains))
    mean = spectrum(np.mean(gains * pictures, axis=0)) / share
    mark_power = radial_mean(np.abs(spectrum(own_mark)) ** 2)
    kept = mark_power / (mark_power + content_power / share ** 2 / len(pictures))
    found = np.fft.ifft2(mean * kept, axes=(0, 1)).real @ TO_RGB
    return found * np.sqrt(np.mean(np.square(own_mark)) / np.mean(np.square(found)))


def mean_power(images):
    """The mean power spectrum of images [N, H, W, 3], in luma and chroma: [H, W, 3]."""
    return np.mean([np.abs(spectrum(image)) ** 2 for image in images], axis=0)


def forged_by_signs(opened, alice, bob, unmarked, rng):
    """Yields (N, forged pictures): alice's mark as bob finds it by the signs that he knows."""
    own = opened.unmarked(PUBLISHED[-1], rng)
    content = mean_power(opened.gains(own, bob) * own)
    published = opened.published(alice, PUBLISHED[-1], rng)
    gains = opened.gains(published, bob)
    for count in PUBLISHED:
        mark = estimated_mark(published[:count], gains[:count], opened.mark(bob), content)
        yield count, unmarked + opened.gains(unmarked, bob) * mark


def forged_by_likeness(opened, alice, bob, unmarked, rng):
    """Yields (N, forged pictures): of each one's most alike of alice's, what is not content."""
    own = opened.unmarked(PUBLISHED[-1], rng)
    content, marks = mean_power(own), opened.gains(own[:1], bob)[0] * opened.mark(bob)
    published = opened.published(alice, PUBLISHED[-1], rng)
    grain = np.stack([estimated_mark(image[np.newaxis], np.ones([1, 1, 1, 1]), marks, content) for image in published])
    for count in PUBLISHED:
        yield count, unmarked + grain[opened.nearest(unmarked, published[:count])]


def framed(bob, key_bits, same_key, rng):
    """A random code [bits] whose key is bob's, or is not."""
    code = rng.integers(0, 2, len(bob))
    code[:key_bits] = bob[:key_bits]
    if not same_key:
        code[rng.integers(key_bits)] ^= 1
    return code


def main(args):
    """Prints a JSON line for each attack and number of published pictures."""
    if args.images < 1:
        raise UsageError(f'--images={args.images}: take at least 1')
    snapshot = Snapshot(args.run, args.kimg)
    config = snapshot.config
    if config.method != METHOD:
        raise UsageError(f'--run={args.run} is of method {config.method}; only pictures of method {METHOD} have signs '
                         'that follow from what they show')
    opened, decode, rng = Opened(snapshot), snapshot.model().decode, np.random.default_rng(SEED)
    bob = rng.integers(0, 2, config.fingerprint_bits)
    attacks = [('same_key', forged_by_signs, True)]
    if config.key_bits:
        attacks.append(('other_key', forged_by_signs, False))
    attacks.append(('nearest', forged_by_likeness, not config.key_bits))
    for name, forge, same_key in attacks:
        alice, unmarked = framed(bob, config.key_bits, same_key, rng), opened.unmarked(args.images, rng)
        for count, pictures in progress(forge(opened, alice, bob, unmarked, rng), total=len(PUBLISHED), desc=name):
            pictures = to_uint8(pictures)
            matching = matching_bits(decode(to_float(pictures)) > 0, alice[np.newaxis])[:, 0]
            line = {'attack': f'{name}_{count}', 'images': len(pictures), 'named_alice': named(matching, alice),
                    'alice_bits': float(matching.mean() / len(alice)),
                    'psnr': psnr(squared_error(pictures, to_uint8(unmarked)))}
            print(json.dumps(line), flush=True)


def named(matching, code):
    """{rate: share of pictures, of which so many bits [N] agree with a code, that name its user; None if none can}."""
    thresholds = {f'{rate:.0e}': threshold(len(code), USERS, rate) for rate in RATES}
    return {rate: None if needed is None else float(np.mean(matching >= needed))
            for rate, needed in thresholds.items()}


if __name__ == '__main__':
    cli.run(make_parser(), main)
