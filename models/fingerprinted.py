"""The method: a generator whose filters a fingerprint modulates, and a decoder that reads it from the pixels.

Yu et al. 2022 (arXiv 2012.08726, section 3) on StyleGAN2 config E. The encoder E embeds the fingerprint, the generator
G draws a latent with filters that the embedding scales, the discriminator D judges, the decoder F reads latent and
fingerprint back.
"""
import dataclasses
import functools

import tensorflow as tf

from metrics.base import Model, batched
from models import adversarial, losses
from models.immunization import perturbed
from models.layers import RunningMean, check_shape
from models.phase import Phase
from models.sampling import sample_noise
from models.stylegan2 import Discriminator, Generator, LatentInput, ResidualNetwork, dense_layers

NAME = 'fingerprinted'
AVERAGED = ('E', 'G')
EVALUATED = ('E', 'G', 'F')
READ_ERROR = 0.3      # standard deviation, about, of a latent that F reads
PERTURBATIONS = 17  # tells the seed of perturbations from the others of a phase


class Encoder(tf.keras.Model):
    """E: fingerprints [N, fingerprint_bits] of 0 and 1 → embeddings [N, embedding_dim], times `embedding_gain`.

    It takes 0 and 1 as they are, or as −1 and 1 with `signed_codes`.
    """

    def __init__(self, config):
        super().__init__(name='E')
        self.num_bits, self.gain, self.signed = config.fingerprint_bits, config.embedding_gain, config.signed_codes
        self.dense = dense_layers('E', config.fingerprint_bits, config)

    def call(self, fingerprints):
        check_shape('E: fingerprints', fingerprints, None, self.num_bits)
        x = 2 * fingerprints - 1 if self.signed else fingerprints
        for dense in self.dense:
            x = dense(x)                                          # [N, embedding_dim]
        return x * self.gain


class Decoder(ResidualNetwork):
    """F: images [N, H, W, 3] → latents [N, latent_dim] and fingerprint logits [N, fingerprint_bits].

    With `clip_decoder` 'clip' or 'straight_through' it sees images clipped to [−1, 1]: a generator trained with it
    hides nothing that an image file could not keep.
    """

    def __init__(self, config, resolution):
        outputs = config.latent_dim + config.fingerprint_bits
        super().__init__('F', config, resolution, outputs, minibatch_statistics=False)
        self.split = [config.latent_dim, config.fingerprint_bits]
        self.clip = CLIPS[config.clip_decoder]

    def call(self, images):
        outputs = super().call(self.clip(images))                     # [N, latent_dim + bits]
        return tf.split(outputs, self.split, axis=1)


def clip(images):
    """Images clipped to [−1, 1]; no gradient outside."""
    return tf.clip_by_value(images, -1.0, 1.0)


@tf.custom_gradient
def straight_through_clip(images):
    """Images clipped to [−1, 1]. Outside, a gradient passes if a step against it moves the value inwards."""
    def backward(gradient):
        return tf.where((tf.abs(images) <= 1) | (gradient * images > 0), gradient, tf.zeros_like(gradient))
    return clip(images), backward


CLIPS = {'none': tf.identity, 'clip': clip, 'straight_through': straight_through_clip}


def networks(config, resolution, names=None):
    """{'E', 'G', 'D', 'F', 'path_length'}: the networks of a run, untrained; those of `names` only, if given."""
    makers = {'E': lambda: Encoder(config), 'G': lambda: Generator(config, resolution, LatentInput),
              'D': lambda: Discriminator(config, resolution), 'F': lambda: Decoder(config, resolution),
              'path_length': lambda: RunningMean('path_length')}
    return {name: make() for name, make in makers.items() if names is None or name in names}


def phases(config):
    """One pass updates E, G and F from their summed loss; then path length, D, and R1 (arXiv 1912.04958, B)."""
    return phases_with(config, ('lambda_fingerprint', 'lambda_consistency', 'immunize_strength'), generator_loss)


def phases_with(config, takes, loss):
    """These phases with another generator loss: `loss`, as models.phase.Phase has it but for the config before all,
    and what it takes."""
    sample = functools.partial(sample_batch, config)
    generator = Phase('generator', ('E', 'G', 'F'), 1, takes, config.batch_size, sample,
                      functools.partial(loss, config), config.path_length_interval)
    return [generator, *adversarial.path_length_phases(config, ('E', 'G'), sample, embed),
            *adversarial.discriminator_phases(config, sample, synthesize)]


@dataclasses.dataclass(frozen=True)
class Batch:
    """The random inputs of a phase. latents [N, latent_dim]; fingerprints and a second set of them [N, bits], 0 and 1;
    a noise image [N, H, W, 1] per convolution of G, and those of the second image of a consistency pair; of
    perturbations the seed [2], and the place of the first image in the whole batch."""
    latents: tf.Tensor
    fingerprints: tf.Tensor
    other_fingerprints: tf.Tensor
    noise: list
    other_noise: list
    seed: tf.Tensor
    first: tf.Tensor


def sample_batch(config, nets, seed, part):
    """A Batch for the rows of `part`, from a seed [2]."""
    shared = config.consistency_noise == 'shared'
    seeds = tf.unstack(tf.random.split(seed, 4 if shared else 5))
    noise = sample_noise(part, seeds[3], nets['G'].noise_shapes)
    return Batch(part.normal(seeds[0], [config.latent_dim]), part.bits(seeds[1], config.fingerprint_bits),
                 part.bits(seeds[2], config.fingerprint_bits), noise,
                 noise if shared else sample_noise(part, seeds[4], nets['G'].noise_shapes),
                 tf.random.fold_in(seed, PERTURBATIONS), part.offset)


def embed(nets, batch):
    """The embeddings [N, embedding_dim] of a batch's fingerprints."""
    return nets['E'](batch.fingerprints)


def synthesize(nets, batch):
    """G's images [N, H, W, 3] of a batch."""
    return nets['G'](batch.latents, embed(nets, batch), batch.noise)


def pair_up(batch):
    """The batch twice over [2N], the latents the same: with its fingerprints and noise, then with the others."""
    return Batch(tf.concat([batch.latents, batch.latents], 0),
                 tf.concat([batch.fingerprints, batch.other_fingerprints], 0), batch.other_fingerprints,
                 [tf.concat(pair, 0) for pair in zip(batch.noise, batch.other_noise)], batch.other_noise,
                 batch.seed, batch.first)


def generator_loss(config, nets, batch, lambda_fingerprint, lambda_consistency, strength=None):
    """λ-weighted sum of equations 1 to 4 (equation 5). No consistency loss if its weight is None.

    F reads the first image of a consistency pair. With `decode_pair` it reads both: the same expectation of equations
    2 and 3 from twice the samples, at the price of one more pass of F. With `immunize` it reads them perturbed, at a
    strength that D and the consistency loss know nothing of.
    """
    count = batch.latents.shape[0]
    drawn = batch if lambda_consistency is None else pair_up(batch)
    images = synthesize(nets, drawn)                                       # [N or 2N, H, W, 3]
    read = drawn if config.decode_pair else batch
    seen = perturbed(config, images[:read.latents.shape[0]], batch, strength)
    decoded_latents, logits = nets['F'](seen)                              # [.., latent_dim], [.., bits]
    terms = reconstruction_terms(config, nets, read, images, count, decoded_latents, logits, lambda_fingerprint,
                                 lambda_consistency)
    return weighted_sum(terms, read, logits)


def reconstruction_terms(config, nets, batch, images, count, decoded_latents, logits, lambda_fingerprint,
                         lambda_consistency):
    """{name: (weight, value per image)} of equations 1 to 4; D judges the first `count` images."""
    judged = nets['D'](images[:count])                                     # [N, 1]
    terms = {
        'loss/adversarial': (1.0, losses.generator_adversarial(judged)),
        'loss/latent': (config.lambda_latent, losses.latent_reconstruction(batch.latents, decoded_latents)),
        'loss/fingerprint': (lambda_fingerprint, losses.fingerprint_reconstruction(batch.fingerprints, logits)),
    }
    if lambda_consistency is not None:
        terms['loss/consistency'] = (lambda_consistency, losses.consistency(images[:count], images[count:]))
    return terms


def weighted_sum(terms, batch, logits):
    """(loss, statistics): equation 5, the weighted sum of the terms' means, and what to show of it."""
    statistics = {name: tf.reduce_mean(values) for name, (_, values) in terms.items()}
    loss = sum(weight * statistics[name] for name, (weight, _) in terms.items())
    matches = tf.equal(logits > 0, batch.fingerprints > 0.5)
    statistics['bit_accuracy_float'] = tf.reduce_mean(tf.cast(matches, tf.float32))
    return loss, statistics


def generate(nets, latents, fingerprints):
    """Images [N, H, W, 3] of latents [N, latent_dim] and fingerprints [N, bits], with the fixed noise."""
    return nets['G'](latents, nets['E'](fingerprints))


def decode(nets, images):
    """Fingerprint logits [N, bits] of images [N, H, W, 3]."""
    return nets['F'](images)[1]


def guess_latents(nets, image, noise):
    """Latents [N, latent_dim] that F may have meant by what it reads in an image [1, H, W, 3].

    noise: [N, latent_dim], standard normal.
    """
    return nets['F'](image)[0] + READ_ERROR * noise


def as_model(nets, batch_size=64):
    """The metrics.base.Model of trained networks: E, G and F."""
    return model_of(nets, generate, decode, batch_size)


def model_of(nets, generate, decode, batch_size):
    """The metrics.base.Model of a method's `generate` and `decode` on trained networks, G and F among them."""
    compiled = [tf.function(functools.partial(function, nets), reduce_retracing=True, autograph=False)
                for function in (generate, decode)]
    generated, decoded = (functools.partial(batched, function, batch_size) for function in compiled)
    latent_dim, num_bits = nets['F'].split
    return Model(generate=generated, decode=decoded, latent_dim=latent_dim, fingerprint_bits=num_bits,
                 resolution=nets['G'].resolution, batch_size=batch_size)


def bake(nets, code, into=None):
    """The plain generator whose filters are those that `code` [bits] of 0 and 1 makes of G's.

    It is a Generator without modulated layers: each filter is modulated and demodulated once (arXiv 1912.04958,
    equations 1 and 3); biases, noise and the input layer are copied. Its ops are 'portable' ones. It takes latents
    [N, latent_dim], has `config` and `resolution`, and holds nothing else of the method.

    Args:
        nets: E and G.
        code: the fingerprint.
        into: what an earlier call returned, to be filled anew.
    """
    source = nets['G']
    if into is None:
        config = dataclasses.replace(source.config, impl='portable')
        into = type(source)(config, source.resolution, LatentInput, modulated=False)
    embedding = nets['E'](tf.cast(code, tf.float32)[tf.newaxis])[0]        # [embedding_dim]
    for layer, baked in zip(source.layers_in_order, into.layers_in_order):
        baked.weight.assign(layer.baked_weight(embedding) / baked.weight_gain)
        baked.bias.assign(layer.bias)
        if layer.noise_strength is not None:
            baked.noise_strength.assign(layer.noise_strength)
    for variable, baked in zip(source.plain_variables, into.plain_variables):
        baked.assign(variable)
    return into
