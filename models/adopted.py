"""Fingerprints for a finished generator: marks that a trained StyleGAN2 is given without training it again.

The mapping network M and the generator G of a run of method stylegan2 stay as they are. Carriers C draw a mark for each
fingerprint, and each picture carries it with signs of its own (models/signs.py):

    x(z, c) = G(z) + up(s(z)) · up(m(c)),    m(c) = a · Σ_j ±T_j / ‖T‖ + b · Q / ‖Q‖

with learned templates T_j, one per bit, added or subtracted as the bit is 1 or 0, and a learned pilot Q, which is the
same for all users and tells the decoder F the signs. ‖·‖ is the root mean square over pixels and random fingerprints,
so that a and b, and with them the PSNR to G's own picture, are options and not what training makes of them. Only C and
F are trained, on G's own pictures; perturbations before F (`immunize`) make marks that survive them.

An instance holds M, G and its user's sum m(c): neither a template nor the code.
"""
import dataclasses
import functools

import tensorflow as tf

from dnnlib.ops.upfirdn_2d import upsample_2d
from models import losses
from models.fingerprinted import model_of, weighted_sum
from models.immunization import perturbed
from models.layers import FILTER, Conv2D, Dense, check_shape
from models.limits import resolutions
from models.phase import Phase
from models.sampling import sample_noise
from models.signs import SHARPNESS, SignedDecoder, fit_linear, make_projection, sign_map, spread
from models.stylegan2 import ConstantInput, Generator, MappingNetwork

NAME = 'adopted'
AVERAGED = ('C', 'F')
EVALUATED = ('M', 'G', 'C', 'F')
LEAST_SIDE = 8                       # of templates
TEMPLATE_STD = 0.25                  # they are normalized: the smaller, the faster Adam turns them
SUREST = 0.95                        # a sign that is read as surely as this or more says no more about its latent
FILTERS = 6                          # convolutions of F's content filter


def amplitude(psnr):
    """The root mean square, on [−1, 1], of a difference of `psnr` dB."""
    return 2 * 10 ** (-psnr / 20)


def pyramid(images, impl):
    """The sum of images [N, 8, 8, C], [N, 16, 16, C], ... at the size of the last."""
    total = images[0]
    for image in images[1:]:
        total = upsample_2d(total, FILTER, impl=impl) + image
    return total


def normalized(images):
    """Images [N, H, W, C] divided by the root of the sum of their mean squares."""
    return images * tf.math.rsqrt(tf.reduce_sum(tf.reduce_mean(tf.square(images), axis=[1, 2, 3])) + 1e-12)


class Carriers(tf.keras.Model):
    """C: fingerprints [N, bits] of 0 and 1, latents [N, latent_dim] → what is added to pictures, [N, H, W, 1 or 3].

    Templates and pilot are sums over sides 8, 16, ... up to `read_side`, the finest that F reads.
    """

    def __init__(self, config, resolution):
        super().__init__(name='C')
        self.num_bits, self.resolution, self.channels = config.fingerprint_bits, resolution, config.mark_channels
        self.impl = config.impl
        self.strength, self.pilot_strength = amplitude(config.mark_psnr), amplitude(config.pilot_psnr)
        sides = [side for side in resolutions(min(resolution, config.read_side)) if side >= LEAST_SIDE]
        self.templates = [self._draw(f'C/{side}x{side}/templates', self.num_bits, side) for side in sides]
        self.pilots = [self._draw(f'C/{side}x{side}/pilot', 1, side) for side in sides]
        self.projection = make_projection(self, 'C/signs', config)

    def _draw(self, name, count, side):
        return self.add_weight(name=name, shape=[count, side, side, self.channels],
                               initializer=tf.keras.initializers.RandomNormal(0, TEMPLATE_STD))

    def marks(self, fingerprints):
        """m(c) [N, R, R, channels] of fingerprints [N, bits], R the side that F reads."""
        check_shape('C: fingerprints', fingerprints, None, self.num_bits)
        templates = self.strength * normalized(pyramid(self.templates, self.impl))       # [bits, R, R, C]
        pilot = self.pilot_strength * normalized(pyramid(self.pilots, self.impl))        # [1, R, R, C]
        return tf.tensordot(2 * fingerprints - 1, templates, 1) + pilot                  # [N, R, R, C]

    def signs(self, latents):
        """s(z) [N, side, side] of latents [N, latent_dim]."""
        return sign_map(latents, self.projection)

    def call(self, fingerprints, latents):
        return place(self.marks(fingerprints), self.signs(latents), self.resolution, self.impl)


def place(marks, signs, resolution, impl):
    """Marks [N, R, R, C] at the picture's size, times its signs [N, side, side]: [N, H, W, C]."""
    while marks.shape[1] < resolution:
        marks = upsample_2d(marks, FILTER, impl=impl)
    return marks * spread(signs, resolution)


class AdoptedDecoder(SignedDecoder):
    """F: images [N, H, W, 3] → fingerprint logits [N, bits], sign logits [N, side²].

    Small convolutions take the picture's content off what is read, as far as neighbouring pixels tell it.
    """

    def __init__(self, config, resolution):
        super().__init__(config, resolution)
        units, impl = config.readout_units, config.impl
        widths = [3] + [config.content_filters] * (FILTERS - 1) + [3]
        self.content = [Conv2D(f'F/content{i}', widths[i], widths[i + 1], 3, impl=impl,
                               act='lrelu' if i < FILTERS - 1 else 'linear') for i in range(FILTERS)]
        self.content_gain = self.add_weight(name='F/content_gain', shape=[],
                                            initializer=tf.keras.initializers.Constant(0.1))
        self.hidden = Dense('F/hidden', self.num_pixels, units, act='lrelu', impl=impl)
        self.signs = Dense('F/signs', units, self.side ** 2, impl=impl)
        self.make_reader(config)

    def pixels(self, images):
        """Images [N, H, W, 3], clipped, averaged down, less their content: [N, R, R, 3]."""
        pixels = super().pixels(images)
        content = pixels
        for layer in self.content:
            content = layer(content)
        return pixels + self.content_gain * content                                # [N, R, R, 3]

    def call(self, images, true_signs=None, teaching=None):
        """`teaching`: the share of `true_signs` [N, side, side] in the map that the fingerprint is read with."""
        check_shape('F: images', images, None, self.resolution, self.resolution, 3)
        pixels = self.pixels(images)                                               # [N, R, R, 3]
        flat = tf.reshape(pixels, [-1, self.num_pixels])                           # [N, 3 R²]
        sign_logits = self.signs(self.hidden(flat)) + self.signs_linear(flat)      # [N, side²]
        return self.read_fingerprint(pixels, sign_logits, true_signs, teaching), sign_logits


def networks(config, resolution, names=None):
    """{'M', 'G', 'C', 'F'}: mapping network and generator, taken over, and what is trained; those of `names` only."""
    makers = {'M': lambda: MappingNetwork(config), 'G': lambda: Generator(config, resolution, ConstantInput),
              'C': lambda: Carriers(config, resolution), 'F': lambda: AdoptedDecoder(config, resolution)}
    return {name: make() for name, make in makers.items() if names is None or name in names}


def phases(config):
    """One: carriers and decoder, from the fingerprints and signs that F reads."""
    return [Phase('carriers', ('C', 'F'), 1, ('lambda_fingerprint', 'sign_teaching', 'immunize_strength'),
                  config.batch_size, functools.partial(sample_batch, config),
                  functools.partial(carriers_loss, config))]


@dataclasses.dataclass(frozen=True)
class Batch:
    """The random inputs of a phase: latents [N, latent_dim], fingerprints [N, bits] of 0 and 1, a noise image
    [N, H, W, 1] per convolution of G, and the seed [2] of perturbations and the place of the first image."""
    latents: tf.Tensor
    fingerprints: tf.Tensor
    noise: list
    seed: tf.Tensor
    first: tf.Tensor


def sample_batch(config, nets, seed, part):
    """A Batch for the rows of `part`, from a seed [2]."""
    seeds = tf.unstack(tf.random.split(seed, 4))
    return Batch(part.normal(seeds[0], [config.latent_dim]), part.bits(seeds[1], config.fingerprint_bits),
                 sample_noise(part, seeds[2], nets['G'].noise_shapes), seeds[3], part.offset)


def carriers_loss(config, nets, batch, lambda_fingerprint, teaching, strength):
    """λ · the fingerprint's cross-entropy (equation 3 of arXiv 2012.08726) + λ · that of the signs."""
    plain_images = nets['G'](batch.latents, nets['M'](batch.latents), batch.noise)    # [N, H, W, 3]
    images = tf.stop_gradient(plain_images) + nets['C'](batch.fingerprints, batch.latents)
    images = perturbed(config, images, batch, strength)
    signs = nets['C'].signs(batch.latents)                                            # [N, side, side]
    logits, sign_logits = nets['F'](images, signs, teaching)
    shares = tf.reshape((signs + 1) / 2, sign_logits.shape)                           # [N, side²]
    terms = {'loss/fingerprint': (lambda_fingerprint,
                                  losses.fingerprint_reconstruction(batch.fingerprints, logits)),
             'loss/sign': (config.lambda_sign, losses.fingerprint_reconstruction(shares, sign_logits))}
    return weighted_sum(terms, batch, logits)


def warm_start(config, nets):
    """Fits F's linear layers to G's pictures with the first marks (models/signs.py)."""
    generator, carriers = nets['G'], nets['C']

    def draw(latents, codes, seed):
        noise = [tf.random.stateless_normal([len(latents), *shape], seed + [0, i])
                 for i, shape in enumerate(generator.noise_shapes)]
        images = generator(latents, nets['M'](latents), noise) + carriers(codes, latents)
        return images, carriers.signs(latents)

    fit_linear(config, nets['F'], draw)


def generate(nets, latents, fingerprints):
    """Images [N, H, W, 3] of latents [N, latent_dim] and fingerprints [N, bits], with the fixed noise."""
    return nets['G'](latents, nets['M'](latents)) + nets['C'](fingerprints, latents)


def decode(nets, images):
    """Fingerprint logits [N, bits] of images [N, H, W, 3]."""
    return nets['F'](images)[0]


def guess_latents(nets, image, noise):
    """Latents [N, latent_dim] with the signs that F reads in an image [1, H, W, 3]; the rest of them is `noise`.

    noise: [N, latent_dim], standard normal.
    """
    projection = nets['C'].projection                                                   # [latent_dim, side²]
    inverse = tf.linalg.pinv(projection)                                                # [side², latent_dim]
    signs = tf.clip_by_value(tf.tanh(nets['F'](image)[1] / 2), -SUREST, SUREST)         # [1, side²]
    wanted = tf.atanh(signs) / SHARPNESS                                                # z R, [1, side²]
    return noise + tf.matmul(wanted - tf.matmul(noise, projection), inverse)


def as_model(nets, batch_size=64):
    """The metrics.base.Model of trained networks: M, G, C and F."""
    return model_of(nets, generate, decode, batch_size)


class Marked(tf.keras.Model):
    """What a user gets, latents → images [N, H, W, 3]: M, G and their marks m(c), no templates, pilot or code."""

    def __init__(self, config, resolution, marks):
        super().__init__(name='instance')
        self.config, self.resolution = config, resolution
        self.mapping, self.generator = MappingNetwork(config), Generator(config, resolution, ConstantInput)
        self.projection = make_projection(self, 'signs', config)
        self.marks = self.add_weight(name='marks', shape=marks, trainable=False, initializer='zeros')

    def call(self, latents):
        check_shape('instance: latents', latents, None, self.config.latent_dim)
        images = self.generator(latents, self.mapping(latents))                    # [N, H, W, 3]
        return images + place(self.marks, sign_map(latents, self.projection), self.resolution, self.config.impl)


def bake(nets, code, into=None):
    """The Marked generator of `code` [bits] of 0 and 1, of 'ref' ops. `into`: what an earlier call returned, anew."""
    source, carriers = nets['G'], nets['C']
    marks = carriers.marks(tf.cast(code, carriers.projection.dtype)[tf.newaxis])        # [1, R, R, C]
    if into is None:
        into = Marked(dataclasses.replace(source.config, impl='ref'), source.resolution, marks.shape)
    for taken, kept in ((nets['M'], into.mapping), (source, into.generator)):
        for variable, copied in zip(taken.variables, kept.variables):
            copied.assign(variable)
    into.projection.assign(carriers.projection)
    into.marks.assign(marks)
    return into
