"""Fingerprints for a finished generator: marks that a trained StyleGAN2 is given without training it again.

The mapping network M and the generator G of a run of method stylegan2 stay as they are. Carriers C draw a mark for each
fingerprint, and each picture carries it with signs of its own, which its content gives it (models/content.py), and
most where it is busy (models/masking.py):

    x(z, c) = y + up(s(y)) · up(a(y) · m(c)),    y = G(z),    m(c) = Σ_k a_k · Σ_j ±T_jk / ‖T_k‖

with learned templates T_j, one per bit, added or subtracted as the bit is 1 or 0. k is a channel: luma, and two of
chroma. ‖·‖ is the root mean square over pixels and random fingerprints, so that the strengths a_k, and with them the
PSNR to G's own picture, are options and not what training makes of them. Only C and the decoder F are trained, on G's
own pictures; perturbations before F (`immunize`) make marks that survive them.

The first bits of a fingerprint choose the key by which content gives signs, so that one user's instance tells nothing
of the signs of users with another. F finds the key, and reads as nobody's what was not put there by an instance.

An instance holds M, G, its user's sum m(c) and key: neither a template, nor the code, nor another key.
"""
import dataclasses
import functools

import numpy as np
import tensorflow as tf

from dnnlib.ops.upfirdn_2d import upsample_2d
from metrics.base import batched
from models import losses
from models.content import ContentSigns, bits_of_keys, cells, key_of
from models.fingerprinted import model_of, weighted_sum
from models.immunization import perturbed
from models.layers import FILTER, Conv2D, Dense, check_shape
from models.limits import resolutions
from models.masking import masking
from models.phase import Phase
from models.sampling import sample_noise
from models.signs import SignedDecoder, drawn_noise, fit_linear, interpolation, spread
from models.stylegan2 import ConstantInput, Generator, MappingNetwork

NAME = 'adopted'
AVERAGED = ('C', 'F')
EVALUATED = ('M', 'G', 'C', 'F')
LEAST_SIDE = 8                       # of templates
# Luma and two of chroma (ITU-R BT.601, as JPEG has them) in red, green and blue, each of mean square 1.
COLOURS = np.array([[1, 1, 1], [0, -0.344136, 1.772], [1.402, -0.714136, 0]], np.float32)
COLOURS /= np.sqrt(np.mean(np.square(COLOURS), axis=1, keepdims=True))
TEMPLATE_STD = 0.25                  # they are normalized: the smaller, the faster Adam turns them
FILTERS = 6                          # convolutions of F's content filter
SIGN_IMAGES, SIGN_BATCH = 2000, 100  # pictures of G whose content the signs are fitted to


def amplitude(psnr):
    """The root mean square, on [−1, 1], of a difference of `psnr` dB."""
    return 2 * 10 ** (-psnr / 20)


def pyramid(images, impl):
    """The sum of images [N, 8, 8, C], [N, 16, 16, C], ... at the size of the last."""
    total = images[0]
    for image in images[1:]:
        total = upsample_2d(total, FILTER, impl=impl) + image
    return total


class Carriers(tf.keras.Model):
    """C: fingerprints [N, bits] of 0 and 1, images of G [N, H, W, 3] → what is added to them, [N, H, W, 3].

    Templates are sums over sides 8, 16, ... up to `read_side`, the finest that F reads; their channels are luma and
    two of chroma.
    """

    def __init__(self, config, resolution):
        super().__init__(name='C')
        self.num_bits, self.resolution, self.impl = config.fingerprint_bits, resolution, config.impl
        self.key_bits, self.masked = config.key_bits, config.texture_masking
        chroma = amplitude(config.chroma_psnr) / 2 ** 0.5
        self.strengths = [amplitude(config.mark_psnr), chroma, chroma]
        sides = [side for side in resolutions(min(resolution, config.read_side)) if side >= LEAST_SIDE]
        self.templates = [self._draw(f'C/{side}x{side}/templates', side) for side in sides]
        self.signs = ContentSigns('C/signs', config)

    def _draw(self, name, side):
        return self.add_weight(name=name, shape=[self.num_bits, side, side, 3],
                               initializer=tf.keras.initializers.RandomNormal(0, TEMPLATE_STD))

    def marks(self, fingerprints):
        """m(c) [N, R, R, 3] of fingerprints [N, bits], R the side that F reads; red, green and blue."""
        check_shape('C: fingerprints', fingerprints, None, self.num_bits)
        templates = pyramid(self.templates, self.impl)                                   # [bits, R, R, 3]
        power = tf.reduce_sum(tf.reduce_mean(tf.square(templates), axis=[1, 2]), axis=0)    # [3]
        scaled = templates * (self.strengths * tf.math.rsqrt(power + 1e-12))
        marks = tf.tensordot(2 * fingerprints - 1, scaled, 1)                               # [N, R, R, 3]
        return tf.tensordot(marks, tf.constant(COLOURS, marks.dtype), 1)

    def placed(self, fingerprints, images, signs):
        """What is added to images [N, H, W, 3] that have the signs [N, side, side]."""
        return place(self.marks(fingerprints), images, signs, self.masked, self.impl)

    def signs_of(self, images, fingerprints):
        """The signs [N, side, side] that images get by the keys of fingerprints."""
        return self.signs(images, key_of(fingerprints, self.key_bits))

    def call(self, fingerprints, images):
        return self.placed(fingerprints, images, self.signs_of(images, fingerprints))


def place(marks, images, signs, masked, impl):
    """Marks [N, R, R, 3], or [1, R, R, 3] for all, as images [N, H, W, 3] of such signs [N, side, side] carry them:
    [N, H, W, 3]. `masked`: most where images are busy."""
    return upsampled(marks * masking(images, marks.shape[1]) if masked else marks, images.shape[1], impl) * spread(
        signs, images.shape[1])


def upsampled(marks, resolution, impl):
    """Marks [N, R, R, 3] at the picture's size: [N, H, W, 3]."""
    while marks.shape[1] < resolution:
        marks = upsample_2d(marks, FILTER, impl=impl)
    return marks


class AdoptedDecoder(SignedDecoder):
    """F: images [N, H, W, 3] → fingerprint logits [N, bits], sign logits [N, side²].

    Small convolutions take the picture's content off what is read, as far as neighbouring pixels tell it. The signs are
    computed as C computes them, from content that is corrected by a layer that learns what perturbations do to it. The
    key is the one by which the picture reads most like a fingerprint of that key. Marks whose parts contradict each
    other were not put there by an instance: other bits are answered (`coherence_of`, `nobodys`).
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
        self.corrections = Dense('F/corrections', units, config.sign_components, impl=impl)
        self.signs = ContentSigns('F/signs', config)
        self.key_bits = config.key_bits
        self.make_reader(config)

    def pixels(self, images):
        """Images [N, H, W, 3], clipped, averaged down, less their content: [N, R, R, 3]."""
        return self._less_content(super().pixels(images))

    def _less_content(self, pixels):
        content = pixels
        for layer in self.content:
            content = layer(content)
        return pixels + self.content_gain * content                                # [N, R, R, 3]

    def call(self, images, keys=None, true_signs=None, teaching=None):
        """`keys` [N], if known; `teaching`: the share of `true_signs` [N, side, side] in the map that is read with."""
        check_shape('F: images', images, None, self.resolution, self.resolution, 3)
        pixels = super().pixels(images)                                            # [N, R, R, 3]
        hidden = self.hidden(tf.reshape(pixels, [-1, self.num_pixels]))            # [N, units]
        content = self.signs.content(images) + self.corrections(hidden)            # [N, components]
        pixels = self._less_content(pixels)
        likely, coherence = self.likely_keys(pixels, content) if keys is None else (keys, None)
        sign_logits = 2 * self.signs.logits(content, likely)     # a sign of tanh(l) is 1 with log-odds 2 l: [N, side²]
        logits = self.read_fingerprint(pixels, sign_logits, true_signs, teaching)  # [N, bits]
        if keys is None:
            logits = tf.where(coherence[:, tf.newaxis] < least_coherence(self.side), nobodys(logits), logits)
        return logits, sign_logits

    def likely_keys(self, pixels, content):
        """The likeliest keys [N], by the linear layer alone, of pixels [N, R, R, 3] and content [N, components], and
        how coherent [N] the marks are by them.
        """
        signs = tf.tanh(self.signs.all_logits(content))                            # [N, keys, side²]
        by_sign = self._by_sign(pixels)                                            # [N, side², bits]
        logits = tf.matmul(signs, by_sign) + self.logits_linear.scaled_bias()      # [N, keys, bits]
        keys = tf.argmax(key_likelihoods(logits, self.key_bits), axis=1, output_type=tf.int32)
        by_sign *= tf.gather(signs, keys, batch_dims=1)[:, :, tf.newaxis]
        return keys, coherence_of(by_sign, tf.gather(logits, keys, batch_dims=1))

    def _by_sign(self, pixels):
        """What each sign of the map is a factor of in the linear logits: [N, side², bits] of pixels [N, R, R, 3]."""
        matrix = tf.constant(interpolation(self.read_side, self.side), pixels.dtype)
        weight = tf.reshape(self.logits_linear.scaled_weight(), [self.read_side, self.read_side, 3, -1])
        by_pixel = tf.einsum('nyxc,yxcb->nyxb', pixels, weight)                    # [N, R, R, bits]
        by_sign = tf.einsum('nyxb,yi,xj->nijb', by_pixel, matrix, matrix)          # [N, side, side, bits]
        return tf.reshape(by_sign, [-1, self.side ** 2, by_pixel.shape[3]])


def key_likelihoods(logits, key_bits):
    """How likely each key is, [..., keys], by log-odds [..., keys, bits] of the bits that are read with it.

    A key whose own bits are b_j = ±1 is as likely as Σ_j b_j l_j over these plus Σ_j log cosh(l_j / 2) over the others,
    which may be either, tells. (Its own bits count twice: a wrong key reads others well where it happens to agree with
    the right one.)
    """
    spelled = tf.constant(2 * bits_of_keys(key_bits) - 1, logits.dtype)            # [keys, key_bits]
    own, others = logits[..., :key_bits], tf.abs(logits[..., key_bits:])
    log_cosh = others / 2 + tf.math.softplus(-others)                              # and a constant
    return tf.reduce_sum(own * spelled, axis=-1) + tf.reduce_sum(log_cosh, axis=-1)


def coherence_of(parts, logits):
    """Whether the parts [N, side², bits] of a picture say the same bits as their sums do, the logits [N, bits]: [N].

    From −1 to 1: each part is compared with the bits that all others say. Near 1 where marks are as an instance put
    them; of marks that were moved to another picture about half of the parts have the wrong sign, and even where enough
    agree by chance to read the bits, the others contradict.
    """
    told = tf.tanh((logits[:, tf.newaxis] - parts) / 2) * parts                    # [N, side², bits]
    told = tf.reduce_sum(told, axis=2)                                             # [N, side²]
    return tf.reduce_sum(told, axis=1) / (tf.reduce_sum(tf.abs(told), axis=1) + 1e-12)


def least_coherence(side, share=1.0):
    """Below which marks are not read as they say: the more, the fewer signs there are, of which more agree by chance.

    Measured at sides of 10, 8 and 6 (docs/adopted.md). Of less than 4 × 4, too few could contradict: there is no test.
    `share` is what is seen of the picture's side.
    """
    return min(0.35 + 2 / (side * share), 0.8) if side >= 4 else -1.0


def nobodys(logits):
    """Logits [N, bits] as sure as these, of other bits: each one's difference from the next. Nobody's code, and, unlike
    a constant, not the same for all pictures that have nothing to do with each other."""
    return logits * tf.sign(tf.roll(logits, -1, axis=1))


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
    plain_images = tf.stop_gradient(nets['G'](batch.latents, nets['M'](batch.latents), batch.noise))  # [N, H, W, 3]
    signs = nets['C'].signs_of(plain_images, batch.fingerprints)                      # [N, side, side]
    images = plain_images + nets['C'].placed(batch.fingerprints, plain_images, signs)
    images = perturbed(config, images, batch, strength)
    logits, sign_logits = nets['F'](images, key_of(batch.fingerprints, config.key_bits), signs, teaching)
    shares = tf.reshape((signs + 1) / 2, sign_logits.shape)                           # [N, side²]
    terms = {'loss/fingerprint': (lambda_fingerprint,
                                  losses.fingerprint_reconstruction(batch.fingerprints, logits)),
             'loss/sign': (config.lambda_sign, losses.fingerprint_reconstruction(shares, sign_logits))}
    return weighted_sum(terms, batch, logits)


def warm_start(config, nets):
    """Fits the signs to the content of G's pictures, and F's linear layer to those with the first marks."""
    generator, carriers, decoder = nets['G'], nets['C'], nets['F']
    fit_signs(config, nets)

    def draw(latents, codes, seed):
        images = generator(latents, nets['M'](latents), drawn_noise(generator, latents.shape[0], seed))
        signs = carriers.signs_of(images, codes)
        return images + carriers.placed(codes, images, signs), signs

    fit_linear(config, decoder, draw, fits_signs=False)
    decoder.corrections.weight.assign(tf.zeros_like(decoder.corrections.weight))


def fit_signs(config, nets):
    """Sets the signs of C and F to the content of G's pictures."""
    draw = tf.function(lambda latents: cells(nets['G'](latents, nets['M'](latents))), autograph=False)
    rng = np.random.default_rng([config.seed, 2])
    found = batched(draw, SIGN_BATCH, rng.standard_normal([SIGN_IMAGES, config.latent_dim]))
    nets['C'].signs.fit(found, rng)
    nets['F'].signs.copy_from(nets['C'].signs)


def styles(nets, latents):
    """w [N, embedding_dim] of latents [N, latent_dim]."""
    return nets['M'](latents)


def unmarked(nets, w):
    """G's own images [N, H, W, 3] of styles w [N, embedding_dim]."""
    none = tf.zeros([tf.shape(w)[0], nets['G'].config.latent_dim], w.dtype)  # it begins with a constant
    return nets['G'](none, w)


def generate(nets, latents, fingerprints):
    """Images [N, H, W, 3] of latents [N, latent_dim] and fingerprints [N, bits], with the fixed noise."""
    images = unmarked(nets, styles(nets, latents))
    return images + nets['C'](fingerprints, images)


def decode(nets, images):
    """Fingerprint logits [N, bits] of images [N, H, W, 3]."""
    return nets['F'](images)[0]


def bit_marks(nets):
    """What each bit adds to the pixels that are read if it is 1, and takes off if it is 0, before masking and signs:
    [bits, R, R, 3]."""
    carriers = nets['C']
    none = tf.fill([1, carriers.num_bits], 0.5)
    return carriers.marks(none + tf.eye(carriers.num_bits) / 2) - carriers.marks(none)


def unsigned(nets, marks, image):
    """Marks [N, R, R, 3] as an image [1, H, W, 3] without marks carries them, but for signs: [N, H, W, 3]."""
    carriers = nets['C']
    return place(marks, image, tf.ones([1, 1, 1]), carriers.masked, carriers.impl)


def signs_by_key(nets, images):
    """The signs that every key gives to images without marks: [N, keys, side²]."""
    signs = nets['C'].signs
    return tf.tanh(signs.all_logits(signs.content(images)))


def guess_latents(nets, image, noise):
    """Latents [N, latent_dim] to begin a search for an image's [1, H, W, 3] with: `noise` itself, for F reads none."""
    return noise


def as_model(nets, batch_size=64):
    """The metrics.base.Model of trained networks: M, G, C and F."""
    return model_of(nets, generate, decode, batch_size)


class Marked(tf.keras.Model):
    """What a user gets, latents → images [N, H, W, 3]: M, G, signs and their marks m(c), no templates, no code."""

    def __init__(self, config, resolution, marks):
        super().__init__(name='instance')
        self.config, self.resolution = config, resolution
        self.mapping, self.generator = MappingNetwork(config), Generator(config, resolution, ConstantInput)
        self.signs = ContentSigns('signs', config, num_keys=1)
        self.marks = self.add_weight(name='marks', shape=marks, trainable=False, initializer='zeros')

    def draw_noise(self, seed):
        """As the generator's."""
        self.generator.draw_noise(seed)

    def call(self, latents):
        check_shape('instance: latents', latents, None, self.config.latent_dim)
        images = self.generator(latents, self.mapping(latents))                    # [N, H, W, 3]
        signs = self.signs(images, tf.zeros_like(latents[:, 0], tf.int32))         # by the one key that it holds
        return images + place(self.marks, images, signs, self.config.texture_masking, self.config.impl)


def bake(nets, code, into=None):
    """The Marked generator of `code` [bits] of 0 and 1, of 'portable' ops. `into`: an earlier call's, to fill anew."""
    source, carriers = nets['G'], nets['C']
    code = tf.cast(code, carriers.templates[0].dtype)[tf.newaxis]                       # [1, bits]
    marks = carriers.marks(code)                                                        # [1, R, R, 3]
    if into is None:
        into = Marked(dataclasses.replace(source.config, impl='portable'), source.resolution, marks.shape)
    for taken, kept in ((nets['M'], into.mapping), (source, into.generator)):
        for variable, copied in zip(taken.variables, kept.variables):
            copied.assign(variable)
    into.signs.copy_from(carriers.signs, int(key_of(code, carriers.key_bits)[0]))
    into.marks.assign(marks)
    return into
