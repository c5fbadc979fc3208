"""Reading the fingerprint of a picture from what it has more than the generator's own picture of it.

Where a decoder reads a mark against the picture that bears it, most of what stands in its way is that picture. Once it
is known (release.redrawing.inversion), what is left is marks and noise, and marks are linear in the bits:

    t = clip(p + Σ_j ±d_j + J δ + n),    d_j = the mark of bit j with the signs of this picture and a key,

p the picture without marks, J its derivatives by latent and place, whose small errors δ are not to be taken for
marks, n Gaussian. Bits follow by least squares, weighted by how much of each pixel is not cut off; the key is the one
by which they are read most surely. No user's code takes part.
"""
from typing import NamedTuple, Optional

import numpy as np
import tensorflow as tf
from scipy.stats import norm

from dnnlib.util import UserError
from metrics.similarity import psnr
from models.adopted import coherence_of, key_likelihoods, least_coherence, nobodys
from models.signs import spread
from release.redrawing.colours import residual
from release.redrawing.inversion import Inversion, Inverter
from release.redrawing.placing import averaged, in_words
from training.snapshot import Snapshot

KINDS = 'given', 'whole', 'part', 'turn'  # of placements, in the order in which they are tried
SURE = 0.85              # coherence: by chance, or of a picture that lay otherwise, it gets to 0.8
KEYS = 6                 # of the likeliest, between which a fit decides
LEAST_DEVIATION = 2 / 255  # on [-1, 1], of averages of pixels: rounding
LEAST_ERROR = 0.25       # in grey levels squared: half a level is the most that rounding can have hidden
MOST_LOGIT = 30.0        # surer than that nothing is


class Redrawn(NamedTuple):
    """How a picture was read.

    logits: [bits]. coherence: of the marks (models.adopted.coherence_of). placing: how it lay. psnr: in dB, of the
    picture without marks to it.
    """
    logits: np.ndarray
    coherence: float
    placing: np.ndarray
    psnr: float

    def in_words(self) -> str:
        """'drawn again as a whole, 27.1 dB'."""
        return f'drawn again {in_words(self.placing)}, {self.psnr:.1f} dB'


class Redrawer:
    """Reads pictures of one model, in ten seconds to two minutes of processor time each.

    least: the coherence below which marks are nobody's.

    Args:
        snapshot: of a method whose marks are added to pictures: it has `bit_marks` and `signs_by_key`.
        seed: of the search for latents.

    Raises:
        UserError: it is of another method.
    """

    def __init__(self, snapshot: Snapshot, seed: int = 0):
        if not hasattr(snapshot.method, 'bit_marks'):
            raise UserError(f'pictures of method {snapshot.config.method} are not read by drawing them again, only '
                            'those of method adopted; leave --redraw out')
        self._nets, self._method, self._config = snapshot.nets, snapshot.method, snapshot.config
        self._side = min(self._config.read_side, snapshot.resolution)
        self._marks = self._method.bit_marks(self._nets)                                     # [bits, R, R, 3]
        self._bits = self._marks.shape[0]
        self._inverter = Inverter(lambda latents: self._method.styles(self._nets, latents),
                                  lambda styles: self._method.unmarked(self._nets, styles), self._config.latent_dim,
                                  snapshot.resolution, self._side, seed)
        self.least = least_coherence(self._config.sign_map)
        signs = self._config.sign_map
        self._maps = spread(tf.reshape(tf.eye(signs ** 2), [-1, signs, signs]), snapshot.resolution)  # [side², H, W, 1]

    def __call__(self, image: np.ndarray, given: Optional[np.ndarray] = None) -> Redrawn:
        """Reads an image, float32 [H, W, 3] on [-1, 1]: about where the placement `given` [4] says, if one is; as a
        whole; as a part; as a turn. The first whose marks surely cohere counts, else the one that leaves least of the
        picture; where its marks do not cohere, it is read as nobody's."""
        nearest = None
        for kind in KINDS:
            if kind == 'given' and given is None:
                continue
            for found in self._inverter(image, kind, given):
                redrawn = self.read(image, found)
                if redrawn.coherence >= SURE:  # more than any model's least
                    return redrawn
                nearest = redrawn if nearest is None or redrawn.psnr > nearest.psnr else nearest
        if nearest.coherence >= self.least:
            return nearest
        return nearest._replace(logits=nobodys(tf.constant(nearest.logits[np.newaxis]))[0].numpy())

    def read(self, image: np.ndarray, found: Inversion) -> Redrawn:
        """Reads an image whose Inversion is known, its marks coherent or not."""
        left = _Left(self._inverter, self._inverter.averages(image), found)
        picture = self._inverter.draw(tf.constant(found.latents[np.newaxis]))
        signs = self._method.signs_by_key(self._nets, picture)[0].numpy()                    # [keys, side²]
        marks = self._method.unsigned(self._nets, self._marks, picture)                      # [bits, H, W, 3]
        parts = self._parts(left, found, marks)                                              # [side², bits]
        matched = tf.tensordot(tf.constant(signs), tf.constant(parts), 1)                    # [keys, bits]
        likely = key_likelihoods(matched, self._config.key_bits).numpy().argsort()[::-1][:KEYS]
        fits = np.stack([self._fit(left, found, marks, signs[key]) for key in likely])       # [KEYS, bits]
        among = np.zeros_like(matched.numpy())
        among[likely] = fits                                                                 # of the others none counts
        surest = int(key_likelihoods(tf.constant(among), self._config.key_bits).numpy()[likely].argmax())
        own = parts * signs[likely[surest]][:, np.newaxis]
        coherence = coherence_of(tf.constant(own[np.newaxis]), tf.constant(own.sum(0)[np.newaxis]))
        return Redrawn(fits[surest], float(coherence[0]), found.placing,
                       psnr(max(found.error * 127.5 ** 2, LEAST_ERROR)))

    def _seen(self, images, found):
        """Images [N, H, W, C] of marks as the inversion's picture lies, averaged down: [N, side, side, C]."""
        return averaged(images, tf.constant(np.tile(found.placing, [images.shape[0], 1])), self._side)

    def _parts(self, left, found, marks):
        """Twice the product of what is left with each bit's mark in each part of the sign map: [side², bits], in
        log-odds."""
        marks = (self._seen(marks, found).numpy() @ found.colours[:3]).reshape(self._bits, -1) * left.slopes
        maps = self._seen(self._maps, found).numpy().repeat(3, axis=3).reshape(self._maps.shape[0], -1)
        return (2 * (maps * left.whitened) @ marks.T).astype(np.float32)

    def _fit(self, left, found, marks, signs):
        """Log-odds [bits] of the bits by least squares, with the signs [side²] of one key."""
        signs = tf.tensordot(tf.constant(signs[np.newaxis]), self._maps, 1)                  # [1, H, W, 1]
        marks = self._seen(marks * signs, found).numpy() @ found.colours[:3]
        marks = left.without_nuisance(marks.reshape(self._bits, -1) * left.slopes)           # [bits, pixels]
        # At first all that is left counts as noise, then what these bits don't explain.
        bits, _ = least_squares(marks, left.whitened, 1.0)
        bits, variances = least_squares(marks, left.whitened, np.mean(np.square(left.whitened - bits @ marks)))
        return np.clip(2 * bits / variances, -MOST_LOGIT, MOST_LOGIT).astype(np.float32)


def least_squares(marks: np.ndarray, target: np.ndarray, noise: float) -> tuple[np.ndarray, np.ndarray]:
    """Bits [B] around ±1 that explain a target [pixels] by marks [B, pixels] and noise of a variance; their variances.

    Bits are taken for Gaussian of variance 1 beforehand.
    """
    covariance = np.linalg.inv(marks @ marks.T / noise + np.eye(len(marks)))
    return covariance @ (marks @ target) / noise, np.diag(covariance)


class _Left:
    """What an inversion leaves of a picture, in units of its deviation, less what errors of the inversion may be.

    slopes [pixels]: by how much a change before cutting off shows, in the same units. whitened [pixels].
    """

    def __init__(self, inverter, target, found):
        inside = inverter.weights(found.placing)                                             # [side, side, 1]
        seen, by = inverter.derivatives(found.latents, found.placing)
        left, passed, _ = residual(seen, target, inside)
        deviation = max(np.sqrt(np.mean(left[passed > 0] ** 2)), LEAST_DEVIATION) if passed.any() else 1.0
        mapped = seen @ found.colours[:3] + found.colours[3]
        mean, slope, variance = clipped(mapped, deviation)
        weights = inside / np.sqrt(variance)
        self.slopes = (slope * weights).ravel()
        changes = ((by @ found.colours[:3]) * slope * weights).reshape(len(by), -1)
        self._nuisance = np.linalg.qr(changes.T)[0]                                          # [pixels, D]
        self.whitened = self.without_nuisance(((target - mean) * weights).reshape(1, -1))[0]

    def without_nuisance(self, rows):
        """Rows [N, pixels] less what derivatives by latent and place explain of them."""
        return rows - (rows @ self._nuisance) @ self._nuisance.T


def clipped(values: np.ndarray, deviation: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of Gaussians of these means and this deviation, clipped to [-1, 1]: the mean, its slope and the variance."""
    upper, lower = (1 - values) / deviation, (-1 - values) / deviation
    slope = norm.cdf(upper) - norm.cdf(lower)
    above, below = norm.sf(upper), norm.cdf(lower)
    mean = values * slope + deviation * (norm.pdf(lower) - norm.pdf(upper)) + above - below
    square = (values ** 2 + deviation ** 2) * slope + above + below + deviation * (
        (values - 1) * norm.pdf(lower) - (values + 1) * norm.pdf(upper))
    return mean, slope, np.maximum(square - mean ** 2, LEAST_DEVIATION ** 2)
