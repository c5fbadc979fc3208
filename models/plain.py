"""The paper's baseline: StyleGAN2 config E without any fingerprint (Karras et al. 2020, arXiv 1912.04958)."""
import dataclasses
import functools

import tensorflow as tf

from metrics.base import Model, batched
from models import adversarial, losses
from models.layers import RunningMean
from models.phase import Phase
from models.sampling import sample_noise
from models.stylegan2 import ConstantInput, Discriminator, Generator, MappingNetwork

NAME = 'stylegan2'
AVERAGED = ('M', 'G')
EVALUATED = ('M', 'G', 'mean_w')


def networks(config, resolution, names=None):
    """{'M', 'G', 'D', 'path_length', 'mean_w'}: the networks of a run, untrained; those of `names` only, if given."""
    makers = {'M': lambda: MappingNetwork(config), 'G': lambda: Generator(config, resolution, ConstantInput),
              'D': lambda: Discriminator(config, resolution), 'path_length': lambda: RunningMean('path_length'),
              'mean_w': lambda: RunningMean('mean_w', [config.embedding_dim])}
    return {name: make() for name, make in makers.items() if names is None or name in names}


def phases(config):
    """The generator's adversarial loss; then path length, D, and R1."""
    sample = functools.partial(sample_batch, config)
    generator = Phase('generator', ('M', 'G'), 1, (), config.batch_size, sample,
                      functools.partial(generator_loss, config), config.path_length_interval,
                      measure=_mean_w, track=functools.partial(_track_mean_w, config))
    return [generator, *adversarial.path_length_phases(config, ('M', 'G'), sample, embed),
            *adversarial.discriminator_phases(config, sample, synthesize)]


@dataclasses.dataclass(frozen=True)
class Batch:
    """The random inputs of a phase: latents and a second set of them [N, latent_dim]; the first copy of w that is of
    the second set, a scalar; a noise image [N, H, W, 1] per convolution of G."""
    latents: tf.Tensor
    other_latents: tf.Tensor
    crossover: tf.Tensor
    noise: list


def sample_batch(config, nets, seed, part):
    """A Batch for the rows of `part`, from a seed [2]."""
    seeds = tf.unstack(tf.random.split(seed, 4))
    return Batch(part.normal(seeds[0], [config.latent_dim]), part.normal(seeds[2], [config.latent_dim]),
                 draw_crossover(config.style_mixing, seeds[3], nets['G'].num_styles),
                 sample_noise(part, seeds[1], nets['G'].noise_shapes))


def draw_crossover(probability, seed, num_styles):
    """The first copy of w that is another latent's: from 1 to num_styles − 1 with the given probability, else none
    (num_styles). One draw for the whole batch (Karras et al. 2019, arXiv 1812.04948, section 3.1)."""
    seeds = tf.unstack(tf.random.split(seed, 2))
    copy = tf.random.stateless_uniform([], seeds[0], 1, num_styles, tf.int32)
    return tf.where(tf.random.stateless_uniform([], seeds[1]) < probability, copy, num_styles)


def embed(nets, batch):
    """The mapped latents w [N, num_styles, embedding_dim] of a batch, mixed of two from `crossover` on."""
    first, second = (nets['G'].broadcast(nets['M'](latents)) for latents in (batch.latents, batch.other_latents))
    is_first = tf.range(nets['G'].num_styles) < batch.crossover            # [L]
    return tf.where(is_first[tf.newaxis, :, tf.newaxis], first, second)    # [N, L, embedding_dim]


def synthesize(nets, batch):
    """G's images [N, H, W, 3] of a batch."""
    return nets['G'](batch.latents, embed(nets, batch), batch.noise)


def _mean_w(nets, batch):
    """The mean of the first copy of w over a batch, [embedding_dim]."""
    return tf.reduce_mean(nets['M'](batch.latents), axis=0)


def _track_mean_w(config, nets, mean):
    """Moves the tracked mean w, of which the loss needs nothing."""
    nets['mean_w'](mean, 1 - config.mean_w_decay)
    return ()


def generator_loss(config, nets, batch):
    """Equation 1 of arXiv 2012.08726, the generator's side, non-saturating."""
    logits = nets['D'](synthesize(nets, batch))                            # [N, 1]
    loss = tf.reduce_mean(losses.generator_adversarial(logits))
    return loss, {'loss/adversarial': loss}


def generate(nets, latents, fingerprints, truncation_psi=1.0):
    """Images [N, H, W, 3] of latents [N, latent_dim], with the fixed noise; `fingerprints` [N, 0] play no part.

    w is moved towards its mean: w̄ + ψ · (w − w̄) (arXiv 1812.04948, appendix B).
    """
    w = nets['M'](latents)                                                 # [N, embedding_dim]
    if truncation_psi != 1:
        w = nets['mean_w'].mean + truncation_psi * (w - nets['mean_w'].mean)
    return nets['G'](latents, w)


def as_model(nets, batch_size=64, truncation_psi=1.0):
    """The metrics.base.Model of trained networks: M, G and the mean w. Its fingerprints have 0 bits."""
    compiled = tf.function(functools.partial(generate, nets, truncation_psi=truncation_psi), reduce_retracing=True,
                           autograph=False)
    return Model(generate=functools.partial(batched, compiled, batch_size), decode=None,
                 latent_dim=nets['M'].latent_dim, fingerprint_bits=0, resolution=nets['G'].resolution,
                 batch_size=batch_size)
