"""Styles: what a mapping network makes of latents, in coordinates in which a picture is found sooner than in latents.

Pictures follow styles more evenly than latents (Karras et al. 2019, arXiv 1812.04948, section 4), so that a search
among them bends less. Their principal components, each scaled to variance 1 over random latents, are its numbers;
latents that give the styles that were found come last.
"""
from typing import Callable

import numpy as np
import tensorflow as tf
from scipy.optimize import least_squares

SAMPLES = 10_000
LEAST_VARIANCE = 1e-8
EPSILON = 0.01         # finite difference of a latent's component
EVALUATIONS = 60       # of the mapping network, at most


def normalized(latents: np.ndarray) -> np.ndarray:
    """Latents [..., latent_dim] scaled to a mean square of 1, as mapping networks see them; float32."""
    return (latents / np.sqrt(np.mean(np.square(latents), axis=-1, keepdims=True))).astype(np.float32)


class Styles:
    """The principal components of a mapping network's styles, as many as latents have numbers, or styles if less.

    dim: how many.

    Args:
        mapping: latents [N, latent_dim] → styles [N, D], tensors.
        latent_dim: at least 1.
        rng: for random latents.
    """

    def __init__(self, mapping: Callable[[tf.Tensor], tf.Tensor], latent_dim: int, rng: np.random.Generator):
        self._map = tf.function(mapping, [tf.TensorSpec([None, latent_dim])], autograph=False)
        found = self._map(tf.constant(normalized(rng.standard_normal([SAMPLES, latent_dim])))).numpy()
        self._mean = found.mean(0)
        values, vectors = np.linalg.eigh(np.cov(found.T).reshape(found.shape[1], -1))
        self.dim = min(latent_dim, found.shape[1])
        self._axes = vectors[:, ::-1][:, :self.dim].astype(np.float32)                   # [D, dim]
        self._deviations = np.sqrt(np.maximum(values[::-1][:self.dim], LEAST_VARIANCE)).astype(np.float32)

    def numbers(self, latents: np.ndarray) -> np.ndarray:
        """The numbers [N, dim] of latents [N, latent_dim]."""
        return (self._map(tf.constant(latents)).numpy() - self._mean) @ self._axes / self._deviations

    def of(self, numbers: tf.Tensor) -> tf.Tensor:
        """Styles [N, D] of numbers [N, dim]."""
        return tf.matmul(numbers * self._deviations, self._axes, transpose_b=True) + self._mean

    def latents(self, numbers: np.ndarray, among: np.ndarray) -> np.ndarray:
        """Latents [latent_dim], of mean square 1, whose styles are nearest to numbers [dim] by least squares.

        Begun at the nearest of `among` [N, latent_dim].
        """
        def left(latents):
            return (self.numbers(normalized(latents)) - numbers) * self._deviations

        def jacobian(latents):
            near = left(np.concatenate([latents[np.newaxis], latents + EPSILON * np.eye(len(latents))]))
            return (near[1:] - near[0]).T / EPSILON

        start = among[np.argmin(np.sum(left(among) ** 2, axis=1))].astype(np.float64)
        found = least_squares(lambda latents: left(latents[np.newaxis])[0], start, jacobian, max_nfev=EVALUATIONS)
        return normalized(found.x)
