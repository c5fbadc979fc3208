"""Signs that a picture's own content gives its marks: a rough hash of what it shows, the same before and after marking.

The middle of the picture in 10 × 10 cells of luma, normalized, is projected onto the principal components of the
generator's pictures, then at random, and folded by a sine:

    h = R_q C (n(cells(x)) − μ),    s_q(x) = tanh(3 · sin(ω h)),    n(y) = (y − mean y) / deviation of y

with C the first `sign_components` components, scaled so that each h has variance 1 over the generator's pictures if R
is drawn from N(0, 1). Low frequencies survive what pictures go through, so that the decoder computes the signs from the
picture that it is given, and needs no pilot. The sine makes the signs of two pictures that look alike differ: they
agree in the mean as exp(−ω² |h − h'|² / 2), while they would agree as the angle between h and h' without it. The
middle, because crops and turns leave it. Components keep their variances: what a perturbation changes is much the same
in all of them, so that whitened ones would bring in more of it than they tell pictures apart.

There are 2^key_bits keys R_q, and the first `key_bits` bits of a fingerprint say which is its user's. An instance holds
its own. So who opens it learns nothing of the signs of others' marks, and can neither take these off their pictures,
nor give them to pictures of theirs, unless both happen to have the same key.
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
    """s: images [N, H, W, 3], H = W ≥ 16, keys [N] → signs [N, side, side] in (−1, 1). No phase trains it.

    Until `fit`, cells are projected at random as they are. `num_keys`: how many it holds; all there are if None.
    """

    def __init__(self, name, config, num_keys=None):
        super().__init__(name=name)
        self.side, self.frequency, self.num_components = config.sign_map, config.sign_frequency, config.sign_components
        self.num_keys = 2 ** config.key_bits if num_keys is None else num_keys
        self.mean = self.add_weight(name=f'{name}/mean', shape=[INNER ** 2], trainable=False, initializer='zeros')
        deviation = 1 / INNER / self.num_components ** 0.5
        self.components = self.add_weight(name=f'{name}/components', shape=[INNER ** 2, self.num_components],
                                          trainable=False, initializer=tf.keras.initializers.RandomNormal(0, deviation))
        self.keys = self.add_weight(name=f'{name}/keys', shape=[self.num_keys, self.num_components, self.side ** 2],
                                    trainable=False, initializer=tf.keras.initializers.RandomNormal(0, 1))

    def content(self, images):
        """C (n(cells) − μ), what all keys begin with: [N, components]."""
        return tf.matmul(cells(images) - self.mean, self.components)

    def logits(self, content, keys):
        """What tanh makes signs of, of content [N, components] and keys [N]: [N, side²]."""
        hashed = tf.einsum('nc,ncs->ns', content, tf.gather(self.keys, keys))
        return SHARPNESS * tf.sin(self.frequency * hashed)

    def all_logits(self, content):
        """The same with every key: [N, keys, side²]."""
        return SHARPNESS * tf.sin(self.frequency * tf.einsum('nc,kcs->nks', content, self.keys))

    def call(self, images, keys):
        return tf.reshape(tf.tanh(self.logits(self.content(images), keys)), [-1, self.side, self.side])

    def fit(self, found, rng):
        """Takes the principal components of `found`, cells [N > INNER², INNER²], and draws keys anew."""
        mean = found.mean(0)
        _, values, components = np.linalg.svd(found - mean, full_matrices=False)
        kept = components[:self.num_components].T                                   # [INNER², components]
        deviation = np.sqrt(np.sum(values[:self.num_components] ** 2) / len(found))  # of all of them together
        self.mean.assign(mean)
        self.components.assign(kept / max(deviation, 1e-6))
        self.keys.assign(rng.standard_normal(self.keys.shape))

    def copy_from(self, other, key=None):
        """Takes over another's variables; of its keys, the one at `key`, or all."""
        self.mean.assign(other.mean)
        self.components.assign(other.components)
        self.keys.assign(other.keys if key is None else other.keys[key:key + 1])


def key_of(fingerprints, key_bits):
    """The number [N] of each fingerprint's key: its first bits, of [N, bits] of 0 and 1, the first the least."""
    powers = tf.constant(2 ** np.arange(key_bits), tf.int32)
    return tf.reduce_sum(tf.cast(fingerprints[:, :key_bits], tf.int32) * powers, axis=1)


def bits_of_keys(key_bits):
    """The bits that spell each key: [2^key_bits, key_bits] of 0 and 1."""
    return np.arange(2 ** key_bits)[:, np.newaxis] >> np.arange(key_bits) & 1
