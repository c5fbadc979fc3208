"""Signs that a picture's own content gives its marks: a rough hash of what it shows, the same before and after marking.

The middle of the picture in 10 × 10 cells of luma, normalized, is projected onto the principal components of the
generator's pictures, then at random, and folded by a sine:

    h = R C (n(cells(x)) − μ),    s(x) = tanh(3 · sin(ω h)),    n(y) = (y − mean y) / deviation of y

with C the first `sign_components` components and R drawn so that each h has variance 1 over the generator's pictures.
Low frequencies survive what pictures go through, so that the decoder computes the signs from the picture that it is
given, and needs no pilot. The sine makes the signs of two pictures that look alike differ: they agree in the mean as
exp(−ω² |h − h'|² / 2), while they would agree as the angle between h and h' without it. The middle, because crops
and turns leave it. Components keep their variances: what a perturbation changes is much the same in all of them, so
that whitened ones would bring in more of it than they tell pictures apart.
"""
import numpy as np
import tensorflow as tf

from dnnlib.perturbations.tensors import grey_of
from models.fingerprinted import clip
from models.signs import SHARPNESS

CELLS = 16                           # a side of the picture
BORDER = 3                           # of them on each side, which are not looked at
INNER = CELLS - 2 * BORDER
LEAST_DEVIATION = 0.03               # of a picture's cells: below, it has no content


def cells(images):
    """n(cells(x)) [N, INNER²] of images [N, H, W, 3]: normalized luma of the middle."""
    side = images.shape[1] // CELLS
    means = tf.nn.avg_pool2d(grey_of(clip(images)), side, side, 'VALID')            # [N, CELLS, CELLS, 1]
    means = means[:, BORDER:-BORDER, BORDER:-BORDER]
    means = tf.reshape(means, [-1, INNER ** 2])
    means -= tf.reduce_mean(means, axis=1, keepdims=True)
    return means * tf.math.rsqrt(tf.reduce_mean(tf.square(means), axis=1, keepdims=True) + LEAST_DEVIATION ** 2)


class ContentSigns(tf.keras.layers.Layer):
    """s: images [N, H, W, 3], H = W ≥ 16 → signs [N, side, side] in (−1, 1). No phase trains it.

    Until `fit`, cells are projected at random as they are.
    """

    def __init__(self, name, config):
        super().__init__(name=name)
        self.side, self.frequency, self.components = config.sign_map, config.sign_frequency, config.sign_components
        self.mean = self.add_weight(name=f'{name}/mean', shape=[INNER ** 2], trainable=False, initializer='zeros')
        self.projection = self.add_weight(name=f'{name}/projection', shape=[INNER ** 2, self.side ** 2],
                                          trainable=False,
                                          initializer=tf.keras.initializers.RandomNormal(0, 1 / INNER))

    def logits(self, images):
        """What tanh makes signs of: [N, side²]."""
        hashed = tf.matmul(cells(images) - self.mean, self.projection)              # [N, side²]
        return SHARPNESS * tf.sin(self.frequency * hashed)

    def call(self, images):
        return tf.reshape(tf.tanh(self.logits(images)), [-1, self.side, self.side])

    def fit(self, found, rng):
        """Projects onto the principal components of `found`, cells [N > INNER², INNER²], and draws anew."""
        mean = found.mean(0)
        _, values, components = np.linalg.svd(found - mean, full_matrices=False)
        kept = components[:self.components].T                                       # [INNER², components]
        deviation = np.sqrt(np.sum(values[:self.components] ** 2) / len(found))     # of all of them together
        drawn = rng.standard_normal([kept.shape[1], self.side ** 2])
        self.mean.assign(mean)
        self.projection.assign(kept @ drawn / max(deviation, 1e-6))

    def copy_from(self, other):
        """Takes over another's variables."""
        self.mean.assign(other.mean)
        self.projection.assign(other.projection)
