"""Inversion: the latent that a picture was drawn from, how it lay, and what became of its colours.

A generator's pictures are few numbers: as many as its latents have. So the latent is found from the picture by least
squares, though it was cropped, turned, compressed or drowned in noise since. From many random latents, whose pictures
are compared with it in every place, the most alike take steps of Adam; the nearest of these goes on by
Levenberg-Marquardt (Marquardt 1963), with the derivatives by finite differences, and the place and a map of colours
among what is fitted. Nothing here knows of fingerprints: marks are part of what is not explained.
"""
import functools
from typing import Callable, NamedTuple

import numpy as np
import tensorflow as tf

from release.evidence.resynthesis import Adam
from release.redrawing.placing import averaged, placed, placements, shown

GUESSES, DRAWN = 2000, 100       # random latents; how many pictures are drawn at once
ALIKE, LUMA_SIDE = 16, 32        # a side of the luma by which likeness is judged; at most, before it is placed
STARTS = {'whole': 6, 'part': 12, 'turn': 8}  # how many are tried by Adam, of each kind of placement,
OF_ONE_PLACE = {'whole': 6, 'part': 2, 'turn': 2}  # and at most of one
STEPS, RATE, SECOND_DECAY = 25, 0.1, 0.95
ROUNDS, LEAST_GAIN = 40, 5e-4    # of Levenberg-Marquardt, at most; it ends when the error falls by less
DAMPINGS = np.array([0.01, 0.1, 1, 10, 100])  # tried in each round, times that of the last
FIRST_DAMPING, LEAST_DAMPING, MOST_DAMPING = 1e-3, 1e-6, 10.0
EPSILON = 0.02                   # finite difference of a latent's component
PLACE_EPSILON = np.array([0.02, 0.01, 0.01, 0.02], np.float32)
PLACE_PRIOR = 20.0               # so that place does not run away where a picture hardly tells it
COLOUR_PRIOR = 10.0              # in pixels that say that colours are as they were
SATURATED = 0.99                 # a channel beyond this may have been cut off
LUMA = np.array([0.299, 0.587, 0.114], np.float32)


class Inversion(NamedTuple):
    """What was found of a picture.

    latents: float32 [latent_dim], of mean square 1. placing: float32 [4] (release.redrawing.placing).
    colours: float64 [4, 3], by which red, green, blue and 1 are multiplied. error: the mean square of what is left, on
    [-1, 1].
    """
    latents: np.ndarray
    placing: np.ndarray
    colours: np.ndarray
    error: float


def normalized(latents: np.ndarray) -> np.ndarray:
    """Latents [..., latent_dim] scaled to a mean square of 1, as mapping networks see them; float32."""
    return (latents / np.sqrt(np.mean(np.square(latents), axis=-1, keepdims=True))).astype(np.float32)


class Inverter:
    """Finds the latents of pictures.

    Args:
        draw: latents [N, latent_dim] → pictures without marks, tensors [N, H, W, 3], H = W, a multiple of `side`.
        latent_dim: at least 1; each round draws so many pictures and a few more.
        resolution: H.
        side: of the averages of pixels that are compared.
        seed: of the random latents.
    """

    def __init__(self, draw: Callable[[tf.Tensor], tf.Tensor], latent_dim: int, resolution: int, side: int,
                 seed: int = 0):
        self.side, self._dim, self._resolution = side, latent_dim, resolution
        latents, placing = tf.TensorSpec([None, latent_dim]), tf.TensorSpec([None, 4])
        pictures = tf.TensorSpec([None, resolution, resolution, 3])
        self.draw = tf.function(draw, [latents], autograph=False)
        self._averaged = tf.function(lambda images, place: averaged(images, place, side), [pictures, placing],
                                     autograph=False)
        self._seen = tf.function(lambda z, place: averaged(draw(z), place, side), [latents, placing], autograph=False)
        self._gradient = tf.function(self._find_gradient, [latents, tf.TensorSpec([None, side, side, 3]), placing],
                                     autograph=False)
        self._latents = normalized(np.random.default_rng(seed).standard_normal([GUESSES, latent_dim]))
        self._placements = placements()
        self._likenesses = functools.lru_cache(None)(self._find_likenesses)

    def __call__(self, image: np.ndarray, kind: str) -> Inversion:
        """The Inversion of an image, float32 [H, W, 3] on [-1, 1], that is 'whole', a 'part' or a 'turn'."""
        target = self.averages(image)
        latents, placing = self._adam(target, *self._starts(image, kind))
        return self._levenberg_marquardt(target, latents, placing)

    def averages(self, image: np.ndarray) -> np.ndarray:
        """An image [H, W, 3] averaged down to [side, side, 3]."""
        factor = self._resolution // self.side
        return image.reshape(self.side, factor, self.side, factor, 3).mean((1, 3)).astype(np.float32)

    def weights(self, placing: np.ndarray) -> np.ndarray:
        """Which averages show the picture: 0 or 1, [side, side, 1], of a placement [4]."""
        return shown(tf.constant(placing[np.newaxis]), self.side).numpy()[0]

    def derivatives(self, latents: np.ndarray, placing: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The averages [side, side, 3] that latents [latent_dim] give, and by what they change: [D, side, side, 3].

        D is latent_dim, and 4 of the placement.
        """
        near = normalized(np.concatenate([latents[np.newaxis], latents + EPSILON * np.eye(self._dim)]))
        pictures = self.draw(tf.constant(near))
        seen = self._averaged(pictures, tf.constant(np.tile(placing, [len(near), 1]))).numpy()
        moved = (placing + np.diag(PLACE_EPSILON)).astype(np.float32)
        shifted = self._averaged(tf.repeat(pictures[:1], 4, axis=0), tf.constant(moved)).numpy()
        by_place = (shifted - seen[0]) / PLACE_EPSILON[:, np.newaxis, np.newaxis, np.newaxis]
        return seen[0], np.concatenate([(seen[1:] - seen[0]) / EPSILON, by_place])

    @functools.cached_property
    def _luma(self):
        """Luma of the random latents' pictures: [GUESSES, L, L]."""
        blocks = np.array_split(self._latents, GUESSES // DRAWN)
        side = min(LUMA_SIDE, self._resolution)
        return np.concatenate([_pooled(self.draw(tf.constant(block)).numpy() @ LUMA, side) for block in blocks])

    def _find_likenesses(self, kind):
        """What pictures are compared with, in every place of a kind: luma [P, GUESSES, ALIKE²], of mean 0 and norm 1
        where shown; and where that is, [P, ALIKE²]."""
        alike, where = [], []
        for placing in self._placements[kind]:
            rows = tf.constant(np.tile(placing, [GUESSES, 1]))
            seen = placed(tf.constant(self._luma[..., np.newaxis]), rows).numpy()[..., 0]
            inside = _pooled(shown(rows[:1], self._luma.shape[1]).numpy()[..., 0], ALIKE).reshape(-1) > 0.9
            alike.append(_standardized(_pooled(seen, ALIKE).reshape(GUESSES, -1), inside))
            where.append(inside)
        return np.stack(alike), np.stack(where)

    def _starts(self, image, kind):
        """Latents [S, latent_dim] and placements [S, 4] whose pictures are most like an image [H, W, 3]."""
        alike, where = self._likenesses(kind)
        luma = _pooled(image[np.newaxis] @ LUMA, ALIKE).reshape(1, -1)
        likeness = np.stack([guesses @ _standardized(luma, inside)[0] for guesses, inside in zip(alike, where)])
        chosen, taken = [], np.zeros(len(where), int)
        for index in likeness.ravel().argsort()[::-1]:
            place, guess = divmod(int(index), GUESSES)
            if taken[place] < OF_ONE_PLACE[kind]:
                taken[place] += 1
                chosen.append((guess, place))
            if len(chosen) == STARTS[kind]:
                break
        guesses, places = np.transpose(chosen)
        return self._latents[guesses], self._placements[kind][places]

    def _find_gradient(self, latents, targets, placing):
        with tf.GradientTape() as tape:
            tape.watch(latents)
            seen = averaged(self.draw.python_function(latents), placing, self.side)      # [N, side, side, 3]
            inside = shown(placing, self.side)
            errors = tf.square(brightened(seen, targets, inside) - targets) * inside
            errors = tf.reduce_mean(errors, axis=[1, 2, 3]) / tf.reduce_mean(inside, axis=[1, 2, 3])
            loss = tf.reduce_sum(errors)
        return tape.gradient(loss, latents), errors

    def _adam(self, target, latents, placing):
        """The latents and placement that come nearest after STEPS of Adam from each of those given."""
        targets, rows = tf.constant(np.tile(target, [len(latents), 1, 1, 1])), tf.constant(placing)
        adam = Adam(latents, RATE, STEPS, SECOND_DECAY)
        for _ in range(STEPS):
            gradient, errors = (value.numpy() for value in self._gradient(tf.constant(adam.values), targets, rows))
            adam.step(gradient)
            adam.values = normalized(adam.values)
        nearest = int(np.argmin(errors))
        return adam.values[nearest], placing[nearest]

    def _levenberg_marquardt(self, target, latents, placing):
        damping, inside = FIRST_DAMPING, self.weights(placing)
        seen, by = self.derivatives(latents, placing)
        left, passed, colours = residual(seen, target, inside)
        error = np.mean(left ** 2)
        for _ in range(ROUNDS):
            steps = self._steps(by, left, passed, colours, damping)
            tried = normalized(latents + steps[:, :self._dim])
            places = (placing + steps[:, self._dim:]).astype(np.float32)
            pictures = self._seen(tf.constant(tried), tf.constant(places)).numpy()
            errors = [np.mean(residual(one, target, inside)[0] ** 2) for one in pictures]
            best = int(np.argmin(errors))
            if errors[best] > error * (1 - LEAST_GAIN):
                break
            latents, placing, error = tried[best], places[best], errors[best]
            damping = float(np.clip(damping * DAMPINGS[best], LEAST_DAMPING, MOST_DAMPING))
            inside = self.weights(placing)
            seen, by = self.derivatives(latents, placing)
            left, passed, colours = residual(seen, target, inside)
        return Inversion(latents, placing, colours, float(error / max(inside.mean(), 1e-6)))

    def _steps(self, by, left, passed, colours, damping):
        """[len(DAMPINGS), D]: one step for each damping."""
        slopes = ((by @ colours[:3]) * passed).reshape(len(by), -1)                          # [D, pixels]
        hessian, gradient = slopes @ slopes.T, slopes @ left.ravel()
        unit = np.trace(hessian[:self._dim, :self._dim]) / self._dim * np.eye(len(hessian))
        prior = np.diag([0.0] * self._dim + [PLACE_PRIOR] * 4)
        return np.stack([np.linalg.solve(hessian + damping * factor * unit + prior, gradient) for factor in DAMPINGS])


def brightened(seen: tf.Tensor, targets: tf.Tensor, inside: tf.Tensor) -> tf.Tensor:
    """What is seen, [N, S, S, 3], as bright and of such contrast as targets of that shape are, and cut off as they are.

    One factor and one summand by least squares; pixels that are saturated or not `inside` [N, S, S, 1] do not count.
    They are taken as given by gradients. (More freedom than that, and Adam finds latents of other pictures.)
    """
    counted = tf.cast(tf.reduce_max(tf.abs(targets), axis=3, keepdims=True) < SATURATED, seen.dtype) * inside
    total = 3 * tf.reduce_sum(counted, axis=[1, 2, 3], keepdims=True) + 1e-6

    def mean(values):
        return tf.reduce_sum(values * counted, axis=[1, 2, 3], keepdims=True) / total
    middle, wanted = mean(seen), mean(targets)
    prior = COLOUR_PRIOR / total
    factor = (mean((seen - middle) * (targets - wanted)) + prior) / (mean(tf.square(seen - middle)) + prior)
    factor, summand = tf.stop_gradient(factor), tf.stop_gradient(wanted - factor * middle)
    return tf.clip_by_value(factor * seen + summand, -1.0, 1.0)


def colour_map(seen: np.ndarray, target: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """The map of colours [4, 3] by least squares of what is seen, [S, S, 3], to a target; float64.

    Pixels that are saturated or not `inside` [S, S, 1] do not count.
    """
    pixels = np.concatenate([seen.reshape(-1, 3), np.ones([seen.size // 3, 1])], axis=1)
    wanted = target.reshape(-1, 3)
    counted = (np.abs(wanted).max(1, keepdims=True) < SATURATED) * inside.reshape(-1, 1)
    gram = (pixels * counted).T @ pixels + COLOUR_PRIOR * np.eye(4)
    return np.eye(4, 3) + np.linalg.solve(gram, (pixels * counted).T @ (wanted - pixels[:, :3]))


def residual(seen: np.ndarray, target: np.ndarray, inside: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """What of a target [S, S, 3] is not explained by what is seen; where its colours are not cut off; the colours."""
    colours = colour_map(seen, target, inside)
    mapped = seen @ colours[:3] + colours[3]
    return (target - np.clip(mapped, -1, 1)) * inside, (np.abs(mapped) < 1) * inside, colours


def _pooled(luma, side):
    """Luma [N, H, W] averaged down to [N, side, side]."""
    count, size = luma.shape[:2]
    return luma.reshape(count, side, size // side, side, size // side).mean((2, 4))


def _standardized(rows, inside):
    """Rows [N, ALIKE²] less their mean where `inside` [ALIKE²], 0 elsewhere, of norm 1; float32."""
    rows = np.where(inside, rows - rows[:, inside].mean(1, keepdims=True), 0)
    return (rows / (np.linalg.norm(rows, axis=1, keepdims=True) + 1e-6)).astype(np.float32)
