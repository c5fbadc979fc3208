"""The phases that every GAN of this project shares: path length regularization, the discriminator, and R1.

Karras et al. 2020 (arXiv 1912.04958, section 3.2 and appendix B). Each function returns the list of its phases: the
lazy ones are absent if their interval or weight is 0.
"""
import functools

import tensorflow as tf

from dnnlib.images import to_float_tensor
from models import losses
from models.phase import Phase


def path_length_phases(config, trains, sample, embed):
    """Path length regularization of G (and what maps to w), on half a batch.

    Args:
        config: the options of the run.
        trains: names of the networks it updates.
        sample: as models.phase.Phase has it; the batch has `latents` and `noise`.
        embed: (nets, batch) -> w [N, embedding_dim].
    """
    if not (config.path_length_weight and config.path_length_interval):
        return []
    return [Phase('path_length', trains, config.path_length_interval, (), max(config.batch_size // 2, 1),
                  functools.partial(_sample_with_directions, sample),
                  functools.partial(path_length_loss, config, embed),
                  measure=functools.partial(_mean_path_length, embed),
                  track=functools.partial(_track_path_length, config))]


def _sample_with_directions(sample, nets, seed, part):
    """(batch, y): besides the batch, an image [N, H, W, 3] of N(0, 1)/√(H · W) for each."""
    seeds = tf.unstack(tf.random.split(seed, 2))
    resolution = nets['G'].resolution
    return sample(nets, seeds[0], part), part.normal(seeds[1], [resolution, resolution, 3]) / resolution


def _path_lengths(embed, nets, batch_and_directions):
    """The path length of each image [N]."""
    batch, directions = batch_and_directions
    w = nets['G'].broadcast(embed(nets, batch))                                # [N, L, embedding_dim]
    return losses.path_lengths(lambda w: nets['G'](batch.latents, w, batch.noise), w, directions)   # [N]


def _mean_path_length(embed, nets, batch_and_directions):
    return tf.reduce_mean(_path_lengths(embed, nets, batch_and_directions))


def _track_path_length(config, nets, mean):
    """(the batch's mean, a after it has moved towards that)."""
    return mean, nets['path_length'](mean, config.path_length_decay)


def path_length_loss(config, embed, nets, batch_and_directions, mean, average):
    """weight · (path length − a)² (arXiv 1912.04958, equation 4).

    `mean` is that of the whole batch and `average`, a, the running mean after it: a depends on lengths that another
    part of the batch may hold, so that both are measured in a pass over all of it before this one.
    """
    lengths = _path_lengths(embed, nets, batch_and_directions)                 # [N]
    penalty, loss = path_length_penalty(lengths, mean, average, config.path_length_decay)
    return config.path_length_weight * loss, {'loss/path_length': penalty, 'path_length': mean}


def path_length_penalty(lengths, mean, average, decay):
    """(penalty, loss): the mean of (length − a)² and the same value with the gradient through a as well.

    As a moves by decay · (mean − a), a length l moves it by decay · dl / N: the penalty's derivative through a is
    −2 · (mean − a) · decay · d(mean). It is written so that parts of a batch add up to the whole batch's gradient.

    Args:
        lengths: [n] of this part of the batch.
        mean: of the lengths of the whole batch. average: a, moved towards it. Both without gradient.
        decay: of the running mean.
    """
    # Equation 4.
    penalty = tf.reduce_mean(tf.math.squared_difference(lengths, average))
    part_mean = tf.reduce_mean(lengths)
    return penalty, penalty - 2 * (mean - average) * decay * (part_mean - tf.stop_gradient(part_mean))


def discriminator_phases(config, sample, synthesize):
    """D on real and generated images, and its R1 regularization.

    Args:
        config: the options of the run.
        sample: as models.phase.Phase has it.
        synthesize: (nets, batch) -> images [N, H, W, 3].
    """
    found = [Phase('discriminator', ('D',), 1, ('reals',), config.batch_size, sample,
                   functools.partial(discriminator_loss, synthesize), config.r1_interval)]
    if config.r1_gamma and config.r1_interval:
        found.append(Phase('r1', ('D',), config.r1_interval, ('reals',), 0, None, functools.partial(r1_loss, config)))
    return found


def discriminator_loss(synthesize, nets, batch, reals):
    """Equation 1 of arXiv 2012.08726, the discriminator's side, on `reals` and as many generated images."""
    fakes = synthesize(nets, batch)                                            # [N, H, W, 3]
    real_logits, fake_logits = nets['D'](to_float_tensor(reals)), nets['D'](fakes)   # [N, 1] each
    loss = tf.reduce_mean(losses.discriminator_adversarial(real_logits, fake_logits))
    return loss, {'loss/discriminator': loss, 'logits/real': tf.reduce_mean(real_logits),
                  'logits/fake': tf.reduce_mean(fake_logits)}


def r1_loss(config, nets, batch, reals):
    """γ/2 · ‖∇x D(x)‖² at the real images (arXiv 1801.04406, equation 9). It generates nothing: `batch` is None."""
    penalty = tf.reduce_mean(losses.r1_penalty(nets['D'], to_float_tensor(reals)))
    return config.r1_gamma / 2 * penalty, {'loss/r1': penalty}
