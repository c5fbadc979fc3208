"""Marks that carry signs of their picture: sign maps, the decoder's reading of them, and its warm start.

A mark that is the same in every picture can be averaged out of some and added to others. So each picture multiplies its
marks by a map of signs of its own, s(z) = tanh(3 R z) of its latent, R drawn once (method bound), or one of its content
(method adopted, models/content.py). The decoder reads the signs, takes them off, and then reads the fingerprint: what
is common to many pictures of one user cancels, and a mark that is moved to another picture meets the wrong signs there.
"""
import numpy as np
import tensorflow as tf

from models.fingerprinted import clip
from models.layers import Dense

SHARPNESS = 3.0   # of tanh in the sign map: nearly signs, and still differentiable
RIDGE = 100.0     # of the warm start's regression
BATCH = 100       # images of the warm start that are drawn at once


def interpolation(size, side):
    """[size, side]: bilinear interpolation of `side` values, at the centres of their cells, to `size` pixels.

    A matrix product, unlike an image resize, has gradients of every order.
    """
    position = np.clip((np.arange(size) + 0.5) * side / size - 0.5, 0, side - 1)
    low = np.minimum(position.astype(int), max(side - 2, 0))
    matrix = np.zeros([size, side], np.float32)
    matrix[np.arange(size), low] = 1 - (position - low)
    matrix[np.arange(size), np.minimum(low + 1, side - 1)] += position - low
    return matrix


def spread(signs, size):
    """A sign map [N, side, side] as an image [N, size, size, 1]."""
    matrix = tf.constant(interpolation(size, signs.shape[1]), signs.dtype)
    return tf.einsum('yi,nij,xj->nyx', matrix, signs, matrix)[..., tf.newaxis]


def make_projection(keras_object, name, config):
    """R [latent_dim, side²] as a variable of a network or layer, which no phase trains."""
    return keras_object.add_weight(name=name, shape=[config.latent_dim, config.sign_map ** 2], trainable=False,
                                   initializer=tf.keras.initializers.RandomNormal(0, config.latent_dim ** -0.5))


def sign_map(latents, projection):
    """s(z) = tanh(3 R z) [N, side, side] of latents [N, latent_dim] and R [latent_dim, side²]."""
    side = int(projection.shape[1] ** 0.5)
    return tf.reshape(tf.tanh(SHARPNESS * tf.matmul(latents, projection)), [-1, side, side])


class SignedDecoder(tf.keras.Model):
    """What decoders of signed marks share: the pixels that are read, and the fingerprint from pixels and signs."""

    def __init__(self, config, resolution):
        super().__init__(name='F')
        self.resolution, self.side = resolution, config.sign_map
        self.read_side = min(resolution, config.read_side)
        self.num_pixels = 3 * self.read_side ** 2
        self.split = [config.latent_dim, config.fingerprint_bits]

    def make_reader(self, config):
        """Makes the layers that read the fingerprint."""
        pixels, units, impl = self.num_pixels, config.readout_units, config.impl
        self.read = Dense('F/read', pixels, units, act='lrelu', impl=impl)
        self.logits = Dense('F/logits', units, config.fingerprint_bits, impl=impl)
        self.logits_linear = Dense('F/logits_linear', pixels, config.fingerprint_bits, impl=impl)

    def pixels(self, images):
        """Images [N, H, W, 3], clipped and averaged down: [N, R, R, 3], R = read_side."""
        factor = self.resolution // self.read_side
        images = clip(images)
        return tf.nn.avg_pool2d(images, factor, factor, 'VALID') if factor > 1 else images

    def read_fingerprint(self, pixels, sign_logits, true_signs=None, teaching=None):
        """Fingerprint logits [N, bits] of pixels [N, R, R, 3], whose signs' logits [N, side²] were read.

        `teaching`: the share of `true_signs` [N, side, side] in the map that is taken off.
        """
        signs = tf.reshape(tf.tanh(sign_logits / 2), [-1, self.side, self.side])  # the mean of ±1 at these logits
        if teaching is not None:
            signs = teaching * true_signs + (1 - teaching) * signs
        unsigned = pixels * spread(signs, self.read_side)                         # [N, R, R, 3]
        unsigned = tf.reshape(unsigned, [-1, self.num_pixels])                    # [N, 3 R²]
        return self.logits(self.read(unsigned)) + self.logits_linear(unsigned)    # [N, bits]


def fit_linear(config, decoder, draw, fits_signs=True):
    """Fits a decoder's linear layers to images, by ridge regression, and silences its others until they are trained.

    Marks are nearly linear in the pixels once the signs are taken off, and so may the signs be: training begins with a
    decoder worth writing for. Targets are ±1 bits and ±1 signs; each layer is scaled so that its answers are log-odds
    under Gaussian errors.

    Args:
        config: the options of the run; `warm_start_images` 0 does nothing.
        decoder: a SignedDecoder.
        draw: (latents [N, latent_dim], codes [N, bits], seed [2]) -> (images [N, H, W, 3], signs [N, side, side]).
        fits_signs: whether it has the layers `signs` and `signs_linear`, which are fitted too.
    """
    count = config.warm_start_images
    if not count:
        return
    pixels, unsigned, codes, signs = _drawn_pixels(config, decoder, draw, count)
    _fit(decoder.logits_linear, decoder.logits, unsigned, codes)
    if fits_signs:
        _fit(decoder.signs_linear, decoder.signs, pixels, signs)


def _fit(layer, silenced, inputs, targets):
    weight, bias = ridge(inputs, targets)
    layer.weight.assign(weight / layer.weight_gain)
    layer.bias.assign(bias)
    silenced.weight.assign(tf.zeros_like(silenced.weight))


def drawn_noise(generator, count, seed):
    """A noise image [count, H, W, 1] for each convolution of a generator, from a seed [2]."""
    return [tf.random.stateless_normal([count, *shape], seed + [0, i])
            for i, shape in enumerate(generator.noise_shapes)]


def _drawn_pixels(config, decoder, draw, count):
    """Pixels [count, 3 R²], the same without their signs, ±1 codes [count, bits] and ±1 signs [count, side²]."""
    rng = np.random.default_rng([config.seed, 1])

    @tf.function(autograph=False)
    def pixels_of(latents, codes, seed):
        images, signs = draw(latents, codes, seed)
        pixels = decoder.pixels(images)
        unsigned = pixels * spread(signs, decoder.read_side)
        return [tf.reshape(value, [BATCH, -1]) for value in (pixels, unsigned, signs)]

    found = []
    for start in range(0, count, BATCH):
        latents = rng.standard_normal([BATCH, config.latent_dim]).astype(np.float32)
        codes = rng.integers(0, 2, [BATCH, config.fingerprint_bits]).astype(np.float32)
        pixels, unsigned, signs = pixels_of(latents, codes, tf.constant([config.seed, 1000 * start], tf.int32))
        found.append((pixels, unsigned, 2 * codes - 1, np.sign(signs)))
    return [np.concatenate(arrays)[:count] for arrays in zip(*found)]


def ridge(inputs, targets, held_out=0.2):
    """Weights [D, T] and biases [T] of a ridge regression of targets ±1 [N, T] on inputs [N, D], as log-odds.

    The answers are multiplied by 2 r / v, r their mean product with the targets and v their variance around it on the
    part held out: for Gaussian answers r · target + error, that is the log-odds of the target being 1.
    """
    count = int(len(inputs) * (1 - held_out))
    mean = inputs[:count].mean(0)
    centred = inputs - mean
    gram = centred[:count].T @ centred[:count] + RIDGE * np.eye(inputs.shape[1], dtype=inputs.dtype)
    weight = np.linalg.solve(gram, centred[:count].T @ targets[:count])           # [D, T]
    answers = centred[count:] @ weight
    agreement = np.mean(answers * targets[count:])
    scale = 2 * agreement / np.var(answers - agreement * targets[count:])
    return weight * scale, -mean @ weight * scale
