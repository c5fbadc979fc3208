"""Inversion: the latent that a picture was drawn from, how it lay, and what became of its colours.

A generator's pictures are few numbers: as many as its latents have. So the latent is found from the picture by least
squares, though it was cropped, turned, compressed or drowned in noise since. From many random latents, whose pictures
are compared with it in every place, the most alike take steps of Adam; the nearest of these go on by
Levenberg-Marquardt: first among styles, which lead there, then among latents, which draw nothing else than the model
does. Nothing here knows of fingerprints: marks are part of what is not explained.
"""
import functools
from collections.abc import Iterator
from typing import Callable, NamedTuple, Optional

import numpy as np
import tensorflow as tf
from scipy.linalg import cholesky, solve_triangular

from release.redrawing.colours import SATURATED
from release.redrawing.fitting import Fitter
from release.redrawing.places import Places, principal
from release.redrawing.placing import placements, pooled, views
from release.redrawing.styles import Styles, normalized

GUESSES, DRAWN = 2000, 100       # random latents; how many pictures are drawn at once
ALIKE, LUMA_SIDE = 16, 32        # a side of the luma by which likeness is judged; at most, before it is placed
MOST_SATURATED, LEAST_ALIKE = 0.25, 40  # share of a cell, and cells that are left: of fewer, all are compared
# Of each kind of placement: how many are tried by Adam, and at most of one place,
STARTS = {'whole': 12, 'part': 48, 'turn': 16, 'given': 12}
OF_ONE_PLACE = {'whole': 12, 'part': 4, 'turn': 4, 'given': 12}
PLACES, UNLIKELY = 12, 80.0      # at most, of each kind; by how much less likely than another a kind is left out
TRIED = {'whole': 6, 'part': 14, 'turn': 6, 'given': 6}     # how many of these go on by Levenberg-Marquardt
BRIEF = 10                                                  # for so many rounds,
FOLLOWED = {'whole': 4, 'part': 6, 'turn': 4, 'given': 4}   # and how many, at most, to its end
TOGETHER = 2                     # of one place
STYLE_PRIOR = 4.0
LEAST_DEVIATION = 2 / 255        # on [-1, 1], of averages of pixels: rounding
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


class Starts(NamedTuple):
    """What Adam led to: the nearest of each place, and then the second of each; the nearest first of these.

    kind: of placements. places: [S], the index of the place that each began in, of those that are likely. numbers: of
    styles, [S, dim]. placings: [S, 4]. errors: [S], as an Inversion's.
    """
    kind: str
    places: np.ndarray
    numbers: np.ndarray
    placings: np.ndarray
    errors: np.ndarray


class Inverter:
    """Finds the latents of pictures.

    Args:
        mapping: latents [N, latent_dim] → styles [N, D].
        draw: styles [N, D] → pictures without marks, tensors [N, H, W, 3], H = W, a multiple of `side`.
        latent_dim: at least 1; each round draws so many pictures and a few more.
        resolution: H.
        side: of the averages of pixels that are compared.
        seed: of the random latents.
    """

    def __init__(self, mapping: Callable[[tf.Tensor], tf.Tensor], draw: Callable[[tf.Tensor], tf.Tensor],
                 latent_dim: int, resolution: int, side: int, seed: int = 0):
        rng = np.random.default_rng(seed)
        self.side, self._resolution = side, resolution
        self._latents = normalized(rng.standard_normal([GUESSES, latent_dim]))
        self._styles = Styles(mapping, latent_dim, rng)
        self._by_styles = Fitter(lambda numbers: draw(self._styles.of(numbers)), self._styles.dim, resolution, side,
                                 prior=STYLE_PRIOR)
        self._by_latents = Fitter(lambda latents: draw(mapping(latents)), latent_dim, resolution, side,
                                  settled=normalized)
        self.draw = self._by_latents.draw
        self.weights, self.derivatives = self._by_latents.weights, self._by_latents.derivatives

    def kinds(self, image: np.ndarray) -> list[str]:
        """Which an image [H, W, 3] may be of 'whole', a 'part' and a 'turn', the likeliest first."""
        likely = {kind: places.likely(image @ LUMA).max() - np.log(len(places.placements))
                  for kind, places in self._places.items()}
        kinds = [kind for kind in likely if likely[kind] > max(likely.values()) - UNLIKELY]
        return sorted(kinds, key=likely.get, reverse=True)

    def starts(self, image: np.ndarray, kind: str, given: Optional[np.ndarray] = None) -> Starts:
        """Where a search may begin for an image, float32 [H, W, 3] on [-1, 1], that is 'whole', a 'part', a 'turn', or
        'given' to lie about as the placement `given` [4] says."""
        likely = given[np.newaxis] if kind == 'given' else self._places[kind].likeliest(image @ LUMA, PLACES)
        latents, places = self._alike(image, likely, kind)
        found = self._by_styles.adam(self.averages(image), self._styles.numbers(latents), likely[places],
                                     moved=kind != 'whole')  # of a whole they would drift
        first = in_turn(places, found[-1])[:TRIED[kind]]
        return Starts(kind, *(rows[first] for rows in (places, *found)))

    def follow(self, image: np.ndarray, starts: Starts) -> Iterator[Inversion]:
        """Yields Inversions of an image [H, W, 3], of the nearest of what a few rounds from Starts lead to."""
        target = self.averages(image)
        tried = [self._by_styles.levenberg_marquardt(target, numbers, place, BRIEF)
                 for numbers, place in zip(starts.numbers, starts.placings)]
        errors = np.array([fit.error for fit in tried])
        for index in in_turn(starts.places, errors, TOGETHER)[:FOLLOWED[starts.kind]]:
            fit = self._by_styles.levenberg_marquardt(target, tried[index].numbers, tried[index].placing)
            latents = self._styles.latents(fit.numbers, self._latents)
            yield Inversion(*self._by_latents.levenberg_marquardt(target, latents, fit.placing))

    def exactly(self, image: np.ndarray, found: Inversion, covariance: np.ndarray) -> Inversion:
        """The Inversion of an image [H, W, 3], begun at what was found, by generalized least squares: `covariance`
        [side² · 3, side² · 3] is that of what was added to the picture, beside as much white noise as was left beyond
        it."""
        shown = max(self.weights(found.placing).mean(), 1e-6)
        noise = max(found.error - np.trace(covariance) / len(covariance) / shown, LEAST_DEVIATION ** 2)
        factor = cholesky(covariance + noise * np.eye(len(covariance)), lower=True)
        return Inversion(*self._by_latents.levenberg_marquardt(
            self.averages(image), found.latents, found.placing,
            whitened=lambda rows: solve_triangular(factor, rows.T, lower=True).T))

    def averages(self, image: np.ndarray) -> np.ndarray:
        """An image [H, W, 3] averaged down to [side, side, 3]."""
        factor = self._resolution // self.side
        return image.reshape(self.side, factor, self.side, factor, 3).mean((1, 3)).astype(np.float32)

    @functools.cached_property
    def _luma(self):
        """Luma of the random latents' pictures: [GUESSES, L, L]."""
        blocks = np.array_split(self._latents, GUESSES // DRAWN)
        side = min(LUMA_SIDE, self._resolution)
        return np.concatenate([pooled(self.draw(tf.constant(block)).numpy() @ LUMA, side) for block in blocks])

    @functools.cached_property
    def _places(self):
        """How likely each place of each kind is."""
        pictures = principal(self._luma)
        return {kind: Places(pictures, placings) for kind, placings in placements().items()}

    def _alike(self, image, placings, kind):
        """Latents [S, latent_dim] whose pictures are most like an image [H, W, 3] in one of placements [P, 4], and in
        which, [S]."""
        seen, where = zip(*(views(self._luma, placing, ALIKE) for placing in placings))
        luma = pooled(image[np.newaxis] @ LUMA, ALIKE).reshape(1, -1)
        saturated = pooled(np.abs(image).max(2)[np.newaxis] > SATURATED, ALIKE).reshape(-1)
        likeness = np.stack([alike(rows, luma, inside, saturated) for rows, inside in zip(seen, where)])
        chosen, taken = [], np.zeros(len(where), int)
        for index in likeness.ravel().argsort()[::-1]:
            place, guess = divmod(int(index), GUESSES)
            if taken[place] < OF_ONE_PLACE[kind]:
                taken[place] += 1
                chosen.append((guess, place))
            if len(chosen) == STARTS[kind]:
                break
        guesses, places = np.transpose(chosen)
        return self._latents[guesses], places


def in_turn(places: np.ndarray, errors: np.ndarray, together: int = 1) -> np.ndarray:
    """Indices [N] that sort by errors [N] the best of each of places [N], so many together, then the next of each."""
    nth, met = np.zeros(len(places), int), {}
    for index in np.argsort(errors):
        nth[index] = met[places[index]] = met.get(places[index], -1) + 1
    return np.lexsort([errors, nth // together])


def alike(seen: np.ndarray, luma: np.ndarray, inside: np.ndarray, saturated: np.ndarray) -> np.ndarray:
    """How alike what is seen, luma [N, ALIKE²], is to one of [1, ALIKE²]: correlations [N] of the cells inside, but for
    those that are largely `saturated` [ALIKE²], from 0 to 1, as long as enough others are left."""
    counted = inside & (saturated < MOST_SATURATED)
    counted = counted if counted.sum() >= LEAST_ALIKE else inside
    return _standardized(seen, counted) @ _standardized(luma, counted)[0]


def _standardized(rows, inside):
    """Rows [N, ALIKE²] where `inside` [ALIKE²], less their mean, of norm 1; float32."""
    rows = rows[:, inside] - rows[:, inside].mean(1, keepdims=True)
    return (rows / (np.linalg.norm(rows, axis=1, keepdims=True) + 1e-6)).astype(np.float32)
