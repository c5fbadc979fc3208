"""Marks bound to the picture that they sign: the fingerprinted method with signs that the latent draws.

A mark that is the same in every picture can be averaged out of some and added to others. Here a fingerprint modulates
learned carriers, and each picture multiplies them by signs of its own, s(z). The decoder first reads the signs, takes
them off, and then reads the fingerprint. What is common to many pictures of one user cancels, and a mark that is moved
to another picture meets the wrong signs there.

Networks, losses and baking are those of models/fingerprinted.py, but for the generator's carriers and the decoder.
"""
import numpy as np
import tensorflow as tf

from models import fingerprinted, losses
from models.fingerprinted import (  # noqa: F401  (as_model, bake, decode, generate: a method's functions)
    Encoder,
    as_model,
    bake,
    clip,
    decode,
    embed,
    generate,
    pair_up,
    sample_batch,
    synthesize,
)
from models.layers import Dense, RunningMean, check_shape
from models.stylegan2 import Discriminator, Generator, LatentInput, ResidualNetwork

NAME = 'bound'
AVERAGED = ('E', 'G')
EVALUATED = ('E', 'G', 'F')
SHARPNESS = 3.0   # of tanh in the sign map: nearly signs, and still differentiable
RIDGE = 100.0     # of the warm start's regression


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


class BoundGenerator(Generator):
    """G whose blocks from 8x8 on carry marks: before the last convolution, P · s(z) is added, P a learned carrier.

    s(z) = tanh(3 R z), a map [N, side, side] of nearly ±1; R is drawn once and never trained.
    """

    def __init__(self, config, resolution, input_layer, modulated=True):
        super().__init__(config, resolution, input_layer, modulated)
        self.side = config.sign_map
        self.projection = self.add_weight(
            name='G/signs', shape=[config.latent_dim, self.side ** 2], trainable=False,
            initializer=tf.keras.initializers.RandomNormal(0, config.latent_dim ** -0.5))
        self.carrier = [self.add_weight(
            name=f'G/{block.resolution}x{block.resolution}/carrier', shape=[block.resolution] * 2 + [block.filters],
            initializer=tf.keras.initializers.RandomNormal(0, 1)) for block in self.blocks[1:]]

    @property
    def plain_variables(self):
        return super().plain_variables + [self.projection, *self.carrier]

    def signs(self, latents):
        """s(z) [N, side, side] of latents [N, latent_dim]."""
        values = tf.tanh(SHARPNESS * tf.matmul(latents, self.projection))         # [N, side²]
        return tf.reshape(values, [-1, self.side, self.side])

    def carriers(self, latents):
        signs = self.signs(latents)
        return [None] + [self.config.carrier * spread(signs, carrier.shape[0]) * carrier for carrier in self.carrier]


class BoundDecoder(tf.keras.Model):
    """F: images [N, H, W, 3] → latents [N, latent_dim], fingerprint logits [N, bits], sign logits [N, side²].

    Latents and signs are read from a residual tower and from the pixels. The pixels are then multiplied by the sign
    map that was read, and the fingerprint is read from the product alone: a mark without the picture's signs, such as
    one averaged over many pictures, is noise to it. Images are clipped to [−1, 1] first.
    """

    def __init__(self, config, resolution):
        super().__init__(name='F')
        self.resolution, self.side = resolution, config.sign_map
        self.split = [config.latent_dim, config.fingerprint_bits]
        self.read_side = min(resolution, config.read_side)
        units, impl = config.readout_units, config.impl
        self.tower = ResidualNetwork('F/tower', config, resolution, units, minibatch_statistics=False)
        self.num_pixels = pixels = 3 * self.read_side ** 2
        signs = self.side ** 2
        self.hidden = Dense('F/hidden', units + pixels, units, act='lrelu', impl=impl)
        self.latents = Dense('F/latents', units, config.latent_dim, impl=impl)
        self.signs = Dense('F/signs', units, signs, impl=impl)
        self.signs_linear = Dense('F/signs_linear', pixels, signs, impl=impl)
        self.read = Dense('F/read', pixels, units, act='lrelu', impl=impl)
        self.logits = Dense('F/logits', units, config.fingerprint_bits, impl=impl)
        self.logits_linear = Dense('F/logits_linear', pixels, config.fingerprint_bits, impl=impl)

    def pixels(self, images):
        """Images [N, H, W, 3], clipped and averaged down: [N, R, R, 3], R = read_side."""
        factor = self.resolution // self.read_side
        images = clip(images)
        return tf.nn.avg_pool2d(images, factor, factor, 'VALID') if factor > 1 else images

    def call(self, images, true_signs=None, teaching=None):
        """`teaching`: the share of `true_signs` [N, side, side] in the map that the fingerprint is read with."""
        check_shape('F: images', images, None, self.resolution, self.resolution, 3)
        features = self.tower(clip(images))                                       # [N, units]
        pixels = self.pixels(images)                                              # [N, R, R, 3]
        flat = tf.reshape(pixels, [-1, self.num_pixels])                          # [N, 3 R²]
        hidden = self.hidden(tf.concat([features, flat], 1))                      # [N, units]
        sign_logits = self.signs(hidden) + self.signs_linear(flat)                # [N, side²]
        signs = tf.reshape(tf.tanh(sign_logits / 2), [-1, self.side, self.side])  # the mean of ±1 at these logits
        if teaching is not None:
            signs = teaching * true_signs + (1 - teaching) * signs
        unsigned = pixels * spread(signs, self.read_side)                         # [N, R, R, 3]
        unsigned = tf.reshape(unsigned, [-1, self.num_pixels])                    # [N, 3 R²]
        logits = self.logits(self.read(unsigned)) + self.logits_linear(unsigned)  # [N, bits]
        return self.latents(hidden), logits, sign_logits


def networks(config, resolution, names=None):
    """{'E', 'G', 'D', 'F', 'path_length'}: the networks of a run, untrained; those of `names` only, if given."""
    makers = {'E': lambda: Encoder(config), 'G': lambda: BoundGenerator(config, resolution, LatentInput),
              'D': lambda: Discriminator(config, resolution), 'F': lambda: BoundDecoder(config, resolution),
              'path_length': lambda: RunningMean('path_length')}
    return {name: make() for name, make in makers.items() if names is None or name in names}


def phases(config):
    """As the fingerprinted method's, with a generator loss that teaches F the signs."""
    takes = ('lambda_fingerprint', 'lambda_consistency', 'sign_teaching')
    return fingerprinted.phases_with(config, takes, generator_loss)


def generator_loss(config, nets, batch, lambda_fingerprint, lambda_consistency, teaching):
    """The fingerprinted method's loss, plus λ times the cross-entropy between the latents' signs and those F reads."""
    count = len(batch.latents)
    if lambda_consistency is not None:
        batch = pair_up(batch)
    images = synthesize(nets, batch)                                          # [N or 2N, H, W, 3]
    signs = nets['G'].signs(batch.latents)                                    # [.., side, side]
    decoded_latents, logits, sign_logits = nets['F'](images, signs, teaching)
    shares = tf.reshape((signs + 1) / 2, sign_logits.shape)                   # [.., side²]
    terms = fingerprinted.reconstruction_terms(config, nets, batch, images, count, decoded_latents, logits,
                                               lambda_fingerprint, lambda_consistency)
    terms['loss/sign'] = (config.lambda_sign, losses.fingerprint_reconstruction(shares, sign_logits))
    return fingerprinted.weighted_sum(terms, batch, logits)


def warm_start(config, nets):
    """Fits F's linear layers to images of the untrained generator, by ridge regression.

    An untrained generator's marks are nearly linear in the pixels once the signs are taken off, and so are the signs:
    this gives E and G from the first step on a decoder worth writing for. Targets are ±1 bits and ±1 signs; each
    layer is scaled so that its answers are log-odds under Gaussian errors.
    """
    count = config.warm_start_images
    if not count:
        return
    pixels, unsigned, codes, signs = _untrained_pixels(config, nets, count)
    for layer, inputs, targets in ((nets['F'].logits_linear, unsigned, codes),
                                   (nets['F'].signs_linear, pixels, signs)):
        weight, bias = ridge(inputs, targets)
        layer.weight.assign(weight / layer.weight_gain)
        layer.bias.assign(bias)
    for layer in (nets['F'].logits, nets['F'].signs):  # the rest is silent until it is trained
        layer.weight.assign(tf.zeros_like(layer.weight))


def _untrained_pixels(config, nets, count):
    """Pixels [count, 3 R²], the same without their signs, ±1 codes [count, bits] and ±1 signs [count, side²]."""
    generator, decoder, rng = nets['G'], nets['F'], np.random.default_rng([config.seed, 1])

    @tf.function
    def pixels_of(latents, fingerprints, seed):
        noise = [tf.random.stateless_normal([len(latents), *shape], seed + [0, i])
                 for i, shape in enumerate(generator.noise_shapes)]
        pixels = decoder.pixels(generator(latents, nets['E'](fingerprints), noise))
        signs = generator.signs(latents)
        unsigned = pixels * spread(signs, decoder.read_side)
        return [tf.reshape(value, [len(latents), -1]) for value in (pixels, unsigned, signs)]

    found = []
    size = 100
    for start in range(0, count, size):
        latents = rng.standard_normal([size, config.latent_dim]).astype(np.float32)
        codes = rng.integers(0, 2, [size, config.fingerprint_bits]).astype(np.float32)
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
