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

GUESSES = 512                       # random latents whose pictures every image is compared with
READ = 64                           # latents that each image is also compared with: what F reads from it, blurred
ROUNDS = ((4, 20), (2, 20), (1, 40))  # of the search: how many latents per image take how many steps, the best go on
USER_STEPS = 20
ROWS = 32                           # pictures that are drawn at once
RATE = 0.1                          # Adam's first learning rate; it falls to 0 along a cosine
USER_RATE = 0.03
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
        latents = tf.TensorSpec([None, self._latent_dim])
        bits = tf.TensorSpec([None, self._codes.shape[1]])
        targets = tf.TensorSpec([None, snapshot.resolution, snapshot.resolution, 3])
        self._draw = tf.function(self._generate, [latents, bits], autograph=False)
        self._gradient = tf.function(self._find_gradient, [latents, bits, targets], autograph=False)

    def __call__(self, images: Sequence[np.ndarray], desc: str = 'redraw') -> list[Redrawn]:
        """A Redrawn for each of the uint8 images [H, W, 3]. The progress bar counts pictures that are drawn.

        The search for a latent takes part for no user: it draws with a code of halves. From what it finds, each user's
        instance takes as many steps of its own.
        """
        images, users = np.stack(images), len(self._codes)
        targets = to_float(images)                                                           # [P, H, W, 3]
        searched = sum(count * steps for count, steps in ROUNDS)
        total = GUESSES + len(images) * (READ + searched + users * (USER_STEPS + 1))
        with progress(total=total, desc=desc, unit=' pictures') as bar:
            found = self._search(targets, bar)                                               # [P, latent_dim]
            codes = np.tile(self._codes, [len(images), 1])                                   # [P · U, bits]
            adam = Adam(np.repeat(found, users, axis=0), USER_RATE, USER_STEPS)
            self._refine(adam, codes, np.repeat(targets, users, axis=0), USER_STEPS, bar)
            drawn = to_uint8(self._drawn(adam.values, codes, bar))                           # [P · U, H, W, 3]
        return [Redrawn(psnr_of(pictures, image), pictures, latents) for image, pictures, latents in
                zip(images, *(array.reshape([len(images), users, *array.shape[1:]]) for array in (drawn, adam.values)))]

    def _search(self, targets, bar):
        """The latents [P, latent_dim] whose pictures by a code of halves come nearest to targets [P, H, W, 3]."""
        latents = self._starts(targets, ROUNDS[0][0], bar)                                   # [P, S, latent_dim]
        adam = Adam(latents.reshape([-1, self._latent_dim]), RATE, sum(steps for _, steps in ROUNDS))
        errors = None
        for count, steps in ROUNDS:
            if errors is not None:
                adam.keep(_least(errors.reshape([len(targets), -1]), count))
            errors = self._refine(adam, self._nobody(len(adam.values)), np.repeat(targets, count, axis=0), steps, bar)
        return adam.values[_least(errors.reshape([len(targets), -1]), 1)]

    def _starts(self, targets, count, bar):
        """[P, count, latent_dim]: of random latents, and of those by what F reads, those whose pictures are nearest."""
        rng = np.random.default_rng(self._seed)
        common = rng.standard_normal([GUESSES, self._latent_dim], np.float32)
        pictures = self._drawn(common, self._nobody(GUESSES), bar)
        return np.stack([self._nearest(target, common, pictures, count, rng, bar) for target in targets])

    def _nearest(self, target, common, pictures, count, rng, bar):
        """[count, latent_dim]: of `common`, which draw `pictures`, and others by what F reads from one target."""
        noise = rng.standard_normal([READ, self._latent_dim], np.float32)
        image = tf.constant(target[np.newaxis])
        read = self._snapshot.method.guess_latents(self._snapshot.nets, image, tf.constant(noise)).numpy()
        drawn = np.concatenate([pictures, self._drawn(read, self._nobody(READ), bar)])
        errors = np.mean(np.square(drawn - target), axis=(1, 2, 3))
        return np.concatenate([common, read])[errors.argsort()[:count]]

    def _nobody(self, count):
        """Codes of halves [count, bits]: no user's."""
        return np.full([count, self._codes.shape[1]], 0.5, np.float32)

    def _refine(self, adam, codes, targets, steps, bar):
        """Takes steps from the latents [N, latent_dim] that Adam holds. Returns the errors [N] before the last."""
        for _ in range(steps):
            gradients, errors = zip(*(self._gradient(*rows) for rows in _blocks(adam.values, codes, targets)))
            adam.step(np.concatenate(gradients))
            bar.update(len(codes))
        return np.concatenate(errors)

    def _drawn(self, latents, codes, bar):
        """The pictures float32 [N, H, W, 3] of latents [N, latent_dim]."""
        drawn = []
        for rows in _blocks(latents, codes):
            drawn.append(self._draw(*rows).numpy())
            bar.update(len(drawn[-1]))
        return np.concatenate(drawn)

    def _generate(self, latents, codes):
        return self._snapshot.method.generate(self._snapshot.nets, latents, codes)           # [N, H, W, 3]

    def _find_gradient(self, latents, codes, targets):
        """(gradient [N, latent_dim], mean squared errors [N]) of the pictures drawn from latents [N, latent_dim]."""
        with tf.GradientTape() as tape:
            tape.watch(latents)
            errors = tf.reduce_mean(tf.square(self._generate(latents, codes) - targets), axis=[1, 2, 3])
            loss = tf.reduce_sum(errors) + LENGTH_WEIGHT * tf.reduce_sum(tf.square(latents))
        return tape.gradient(loss, latents), errors


class Adam:
    """Adam (arXiv 1412.6980) on rows, each by itself; its rate falls from `rate` to 0 along a cosine, in `steps`.

    values: the rows [N, D] as they are now.
    """

    def __init__(self, values: np.ndarray, rate: float, steps: int, second_decay: float = SECOND_DECAY):
        self.values, self._rate, self._steps, self._taken = values, rate, steps, 0
        self._second_decay = second_decay
        self._mean, self._square = np.zeros_like(values), np.zeros_like(values)

    def step(self, gradient: np.ndarray) -> None:
        """Takes one step against the gradient [N, D]."""
        rate = self._rate * 0.5 * (1 + np.cos(np.pi * self._taken / self._steps))
        self._taken += 1
        self._mean = FIRST_DECAY * self._mean + (1 - FIRST_DECAY) * gradient
        self._square = self._second_decay * self._square + (1 - self._second_decay) * gradient ** 2
        mean = self._mean / (1 - FIRST_DECAY ** self._taken)
        square = self._square / (1 - self._second_decay ** self._taken)
        self.values = self.values - np.float32(rate) * mean / (np.sqrt(square) + SMALL)

    def keep(self, rows: np.ndarray) -> None:
        """Goes on with these rows only."""
        self.values, self._mean, self._square = (array[rows] for array in (self.values, self._mean, self._square))


def _least(errors, count):
    """The numbers of the `count` least of each row of errors [P, S], counted through all rows: [P · count]."""
    order = errors.argsort(axis=1)[:, :count]                                                # [P, count]
    return (order + errors.shape[1] * np.arange(len(errors))[:, np.newaxis]).reshape(-1)


def _blocks(*arrays):
    """Yields ROWS rows of each array after the other, as tensors."""
    for start in range(0, len(arrays[0]), ROWS):
        yield [tf.constant(array[start:start + ROWS]) for array in arrays]


def psnr_of(pictures: np.ndarray, image: np.ndarray) -> np.ndarray:
    """In dB, float64 [N], of uint8 pictures [N, H, W, 3] to one image; an equal picture has that of half a grey level.

    Half a grey level is the most that rounding can have hidden.
    """
    error = np.mean((pictures.astype(np.float64) - image) ** 2, axis=(1, 2, 3))
    return 10 * np.log10(255 ** 2 / np.maximum(error, 0.25))
