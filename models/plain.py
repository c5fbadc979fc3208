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
EVALUATED = ('M', 'G')


def networks(config, resolution):
    """{'M', 'G', 'D', 'path_length'}: the networks of a run, untrained."""
    return {'M': MappingNetwork(config), 'G': Generator(config, resolution, ConstantInput),
            'D': Discriminator(config, resolution), 'path_length': RunningMean('path_length')}


def phases(config):
    """The generator's adversarial loss; then path length, D, and R1."""
    sample = functools.partial(sample_batch, config)
    generator = Phase('generator', ('M', 'G'), 1, (), config.batch_size, sample, generator_loss,
                      config.path_length_interval)
    return [generator, *adversarial.path_length_phases(config, ('M', 'G'), sample, embed),
            *adversarial.discriminator_phases(config, sample, synthesize)]


@dataclasses.dataclass(frozen=True)
class Batch:
    """The random inputs of a phase: latents [N, latent_dim] and a noise image [N, H, W, 1] per convolution of G."""
    latents: tf.Tensor
    noise: list


def sample_batch(config, nets, seed, part):
    """A Batch for the rows of `part`, from a seed [2]."""
    seeds = tf.unstack(tf.random.split(seed, 2))
    return Batch(part.normal(seeds[0], [config.latent_dim]), sample_noise(part, seeds[1], nets['G'].noise_shapes))


def embed(nets, batch):
    """The mapped latents w [N, embedding_dim] of a batch."""
    return nets['M'](batch.latents)


def synthesize(nets, batch):
    """G's images [N, H, W, 3] of a batch."""
    return nets['G'](batch.latents, embed(nets, batch), batch.noise)


def generator_loss(nets, batch):
    """Equation 1 of arXiv 2012.08726, the generator's side, non-saturating."""
    logits = nets['D'](synthesize(nets, batch))                           # [N, 1]
    loss = tf.reduce_mean(losses.generator_adversarial(logits))
    return loss, {'loss/adversarial': loss}


def generate(nets, latents, fingerprints):
    """Images [N, H, W, 3] of latents [N, latent_dim], with the fixed noise; `fingerprints` [N, 0] play no part."""
    return nets['G'](latents, nets['M'](latents))


def as_model(nets, batch_size=64):
    """The metrics.base.Model of trained networks: M and G. Its fingerprints have 0 bits."""
    compiled = tf.function(functools.partial(generate, nets), reduce_retracing=True)
    return Model(generate=functools.partial(batched, compiled, batch_size), decode=None,
                 latent_dim=nets['M'].latent_dim, fingerprint_bits=0, resolution=nets['G'].resolution,
                 batch_size=batch_size)
