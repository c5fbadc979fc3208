"""Re-synthesis: can the named user's instance draw the picture itself, and not only carry the mark that was read in it?

A mark is read from pixels and proves nothing about how it came there: it may have been pasted on a photograph. An
instance, though, draws its pictures from latents, and a picture that it drew it can draw again. So the latent that the
decoder F reads is refined by gradient until the instance's picture is as near as it gets, from several starts. How near
is near is told by pictures of both kinds, refined in the same way.
"""
import dataclasses
from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from dnnlib.images import to_float, to_uint8
from dnnlib.util import progress
from training.snapshot import Snapshot

GUESSES = 512                       # latents that are drawn, half of them by what F reads and half at random
STARTS = 6                          # the best of them are refined
BATCH = 64
SEARCH_STEPS, USER_STEPS = 200, 100
RATE = 0.1                          # Adam's first learning rate; it falls to 0 along a cosine
USER_RATE = 0.03
CHUNK = 10                          # steps between two moves of the progress bar
LENGTH_WEIGHT = 1e-6                # of |z|²: a mapping network that normalizes z gives its length no gradient
FIRST_DECAY, SECOND_DECAY, SMALL = 0.9, 0.99, 1e-8


@dataclasses.dataclass(frozen=True)
class Redrawn:
    """One picture, drawn again.

    psnr: in dB, of the nearest picture that each user's instance drew, float64 [U]; the files' 8 bits on both sides.
    pictures: those pictures, uint8 [U, H, W, 3]. latents: what they were drawn from, float32 [U, latent_dim].
    """
    psnr: np.ndarray
    pictures: np.ndarray
    latents: np.ndarray


class Resynthesizer:
    """Draws pictures again, by the instances of given users.

    Args:
        snapshot: the model that the instances came from. An instance draws what its snapshot draws with the user's
            code, but for rounding.
        codes: the users' codes [U, bits] of 0 and 1.
        seed: draws the starts.
    """

    def __init__(self, snapshot: Snapshot, codes: np.ndarray, seed: int = 0):
        self._snapshot, self._codes, self._seed = snapshot, np.asarray(codes, np.float32), seed
        self._latent_dim = snapshot.config.latent_dim
        rows = tf.TensorSpec([None, self._latent_dim])
        target = tf.TensorSpec([1, snapshot.resolution, snapshot.resolution, 3])
        number = tf.TensorSpec([])  # so that it is traced once, whatever the numbers
        self._steps = tf.function(self._take_steps, [rows, rows, rows, tf.TensorSpec([None, self._codes.shape[1]]),
                                                     target, number, number, number])

    def __call__(self, images: Sequence[np.ndarray], desc: str = 'redraw') -> list[Redrawn]:
        """A Redrawn for each of the uint8 images [H, W, 3].

        The search for a latent takes part for no user: it draws with a code of halves. From what it finds, each user's
        instance takes as many steps of its own.
        """
        total = len(images) * (SEARCH_STEPS + USER_STEPS)
        with progress(total=total, desc=desc, unit=' steps') as bar:
            return [self._redraw(image, number, bar) for number, image in enumerate(images)]

    def _redraw(self, image, number, bar):
        target = to_float(np.asarray(image))[np.newaxis]                                   # [1, H, W, 3]
        starts = self._starts(target, np.random.default_rng([self._seed, number]))         # [S, latent_dim]
        found, errors = self._refine(starts, self._nobody(STARTS), target, SEARCH_STEPS, RATE, bar)
        same = np.repeat(found[errors.argmin()][np.newaxis], len(self._codes), axis=0)     # [U, latent_dim]
        latents, _ = self._refine(same, self._codes, target, USER_STEPS, USER_RATE, bar)
        pictures = to_uint8(self._snapshot.method.generate(self._snapshot.nets, latents, self._codes).numpy())
        return Redrawn(psnr_of(pictures, np.asarray(image)), pictures, latents)

    def _starts(self, target, rng):
        """[STARTS, latent_dim]: of guesses by what F reads, and others at random, those whose pictures are nearest."""
        noise = rng.standard_normal([GUESSES, self._latent_dim], np.float32)
        half = GUESSES // 2
        read = self._snapshot.method.guess_latents(self._snapshot.nets, tf.constant(target), tf.constant(noise[:half]))
        guesses = np.concatenate([read.numpy(), noise[half:]])
        nobody = self._nobody(BATCH)
        errors = np.concatenate([self._squared(tf.constant(guesses[start:start + BATCH]), nobody, target).numpy()
                                 for start in range(0, GUESSES, BATCH)])
        return guesses[errors.argsort()[:STARTS]]

    def _nobody(self, count):
        """Codes of halves [count, bits]: no user's."""
        return tf.fill([count, self._codes.shape[1]], 0.5)

    def _refine(self, latents, codes, target, steps, rate, bar):
        """(latents [N, latent_dim], mean squared errors [N]) after `steps` steps of Adam from `latents`."""
        state = [tf.constant(latents), tf.zeros_like(latents), tf.zeros_like(latents)]
        for done in range(0, steps, CHUNK):
            *state, errors = self._steps(*state, tf.constant(codes), target, float(done), float(steps), rate)
            bar.update(CHUNK)
        return state[0].numpy(), errors.numpy()

    def _take_steps(self, latents, mean, square, codes, target, done, steps, rate):
        """CHUNK steps of Adam (arXiv 1412.6980): latents and both moments after them, the errors before the last."""
        errors = tf.zeros(tf.shape(latents)[:1])
        for number in tf.range(1, CHUNK + 1):
            gradient, errors = self._gradient(latents, codes, target)
            mean = FIRST_DECAY * mean + (1 - FIRST_DECAY) * gradient
            square = SECOND_DECAY * square + (1 - SECOND_DECAY) * gradient ** 2
            step = done + tf.cast(number, tf.float32)
            now = rate * 0.5 * (1 + tf.cos(np.pi * (step - 1) / steps))
            corrected = mean / (1 - FIRST_DECAY ** step)
            latents -= now * corrected / (tf.sqrt(square / (1 - SECOND_DECAY ** step)) + SMALL)
        return latents, mean, square, errors

    def _gradient(self, latents, codes, target):
        """(gradient [N, latent_dim], mean squared errors [N]) of the pictures drawn from latents [N, latent_dim]."""
        with tf.GradientTape() as tape:
            tape.watch(latents)
            errors = self._squared(latents, codes, target)
            loss = tf.reduce_sum(errors) + LENGTH_WEIGHT * tf.reduce_sum(tf.square(latents))
        return tape.gradient(loss, latents), errors

    def _squared(self, latents, codes, target):
        """The mean squared errors [N] of the pictures drawn from latents [N, latent_dim]."""
        images = self._snapshot.method.generate(self._snapshot.nets, latents, codes)        # [N, H, W, 3]
        return tf.reduce_mean(tf.square(images - target), axis=[1, 2, 3])


def psnr_of(pictures: np.ndarray, image: np.ndarray) -> np.ndarray:
    """In dB, float64 [N], of uint8 pictures [N, H, W, 3] to one image; an equal picture has that of half a grey level.

    Half a grey level is the most that rounding can have hidden.
    """
    error = np.mean((pictures.astype(np.float64) - image) ** 2, axis=(1, 2, 3))
    return 10 * np.log10(255 ** 2 / np.maximum(error, 0.25))
