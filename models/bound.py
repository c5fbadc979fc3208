"""Marks bound to the picture that they sign: the fingerprinted method with signs that the latent draws.

A fingerprint modulates learned carriers, and each picture multiplies them by signs of its own, which the decoder reads
first and takes off (models/signs.py). Networks, losses and baking are those of models/fingerprinted.py, but for the
generator's carriers and the decoder.
"""
import tensorflow as tf

from models import fingerprinted, losses
from models.fingerprinted import (  # noqa: F401  (as_model, bake, decode, generate, guess_latents: a method's)
    Encoder,
    as_model,
    bake,
    clip,
    decode,
    embed,
    generate,
    guess_latents,
    pair_up,
    sample_batch,
    synthesize,
)
from models.immunization import perturbed
from models.layers import Dense, RunningMean, check_shape
from models.signs import SignedDecoder, drawn_noise, fit_linear, make_projection, sign_map, spread
from models.stylegan2 import Discriminator, Generator, LatentInput, ResidualNetwork

NAME = 'bound'
AVERAGED = ('E', 'G')
EVALUATED = ('E', 'G', 'F')


class BoundGenerator(Generator):
    """G whose blocks from 8x8 on carry marks: before the last convolution, P · s(z) is added, P a learned carrier.

    s(z) = tanh(3 R z), a map [N, side, side] of nearly ±1; R is drawn once and never trained.
    """

    def __init__(self, config, resolution, input_layer, modulated=True):
        super().__init__(config, resolution, input_layer, modulated)
        self.projection = make_projection(self, 'G/signs', config)
        self.carrier = [self.add_weight(
            name=f'G/{block.resolution}x{block.resolution}/carrier', shape=[block.resolution] * 2 + [block.filters],
            initializer=tf.keras.initializers.RandomNormal(0, 1)) for block in self.blocks[1:]]

    @property
    def plain_variables(self):
        return super().plain_variables + [self.projection, *self.carrier]

    def signs(self, latents):
        """s(z) [N, side, side] of latents [N, latent_dim]."""
        return sign_map(latents, self.projection)

    def carriers(self, latents):
        signs = self.signs(latents)
        return [None] + [self.config.carrier * spread(signs, carrier.shape[0]) * carrier for carrier in self.carrier]


class BoundDecoder(SignedDecoder):
    """F: images [N, H, W, 3] → latents [N, latent_dim], fingerprint logits [N, bits], sign logits [N, side²].

    Latents and signs are read from a residual tower and from the pixels. The pixels are then multiplied by the sign
    map that was read, and the fingerprint is read from the product alone: a mark without the picture's signs, such as
    one averaged over many pictures, is noise to it. Images are clipped to [−1, 1] first.
    """

    def __init__(self, config, resolution):
        super().__init__(config, resolution)
        units, impl = config.readout_units, config.impl
        self.tower = ResidualNetwork('F/tower', config, resolution, units, minibatch_statistics=False)
        self.hidden = Dense('F/hidden', units + self.num_pixels, units, act='lrelu', impl=impl)
        self.latents = Dense('F/latents', units, config.latent_dim, impl=impl)
        self.signs = Dense('F/signs', units, self.side ** 2, impl=impl)
        self.signs_linear = Dense('F/signs_linear', self.num_pixels, self.side ** 2, impl=impl)
        self.make_reader(config)

    def call(self, images, true_signs=None, teaching=None):
        """`teaching`: the share of `true_signs` [N, side, side] in the map that the fingerprint is read with."""
        check_shape('F: images', images, None, self.resolution, self.resolution, 3)
        features = self.tower(clip(images))                                       # [N, units]
        pixels = self.pixels(images)                                              # [N, R, R, 3]
        flat = tf.reshape(pixels, [-1, self.num_pixels])                          # [N, 3 R²]
        hidden = self.hidden(tf.concat([features, flat], 1))                      # [N, units]
        sign_logits = self.signs(hidden) + self.signs_linear(flat)                # [N, side²]
        logits = self.read_fingerprint(pixels, sign_logits, true_signs, teaching)
        return self.latents(hidden), logits, sign_logits


def networks(config, resolution, names=None):
    """{'E', 'G', 'D', 'F', 'path_length'}: the networks of a run, untrained; those of `names` only, if given."""
    makers = {'E': lambda: Encoder(config), 'G': lambda: BoundGenerator(config, resolution, LatentInput),
              'D': lambda: Discriminator(config, resolution), 'F': lambda: BoundDecoder(config, resolution),
              'path_length': lambda: RunningMean('path_length')}
    return {name: make() for name, make in makers.items() if names is None or name in names}


def phases(config):
    """As the fingerprinted method's, with a generator loss that teaches F the signs."""
    takes = ('lambda_fingerprint', 'lambda_consistency', 'sign_teaching', 'immunize_strength')
    return fingerprinted.phases_with(config, takes, generator_loss)


def generator_loss(config, nets, batch, lambda_fingerprint, lambda_consistency, teaching, strength=None):
    """The fingerprinted method's loss, plus λ times the cross-entropy between the latents' signs and those F reads."""
    count, single = batch.latents.shape[0], batch
    if lambda_consistency is not None:
        batch = pair_up(batch)
    images = synthesize(nets, batch)                                          # [N or 2N, H, W, 3]
    signs = nets['G'].signs(batch.latents)                                    # [.., side, side]
    seen = perturbed(config, images, single, strength)
    decoded_latents, logits, sign_logits = nets['F'](seen, signs, teaching)
    shares = tf.reshape((signs + 1) / 2, sign_logits.shape)                   # [.., side²]
    terms = fingerprinted.reconstruction_terms(config, nets, batch, images, count, decoded_latents, logits,
                                               lambda_fingerprint, lambda_consistency)
    terms['loss/sign'] = (config.lambda_sign, losses.fingerprint_reconstruction(shares, sign_logits))
    return fingerprinted.weighted_sum(terms, batch, logits)


def warm_start(config, nets):
    """Fits F's linear layers to images of the untrained generator (models/signs.py)."""
    generator = nets['G']

    def draw(latents, codes, seed):
        noise = drawn_noise(generator, latents.shape[0], seed)
        return generator(latents, nets['E'](codes), noise), generator.signs(latents)

    fit_linear(config, nets['F'], draw)
