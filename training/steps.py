"""The training step: a list of phases, each a compiled function that draws, differentiates and updates.

Every random number is a function of (run seed, step, phase) and is drawn for the whole batch, of which each replica
takes its slice: a resumed run repeats the run it resumes, and any number of replicas makes the same update.
"""
import dataclasses
import math
from typing import Callable

import tensorflow as tf

from training import losses
from training.config import consistency_weight, fingerprint_weight


@dataclasses.dataclass(frozen=True)
class Draw:
    """A batch of a phase's randomness. latents [N, latent_dim], fingerprints [N, bits] of 0 and 1 (as float), a second
    set of them, and a noise image [N, H, W, 1] per convolution of G."""
    latents: tf.Tensor
    fingerprints: tf.Tensor
    other_fingerprints: tf.Tensor
    noise: list


@dataclasses.dataclass(frozen=True)
class Phase:
    """One loss with the networks it updates, run every `interval` steps (lazy regularization)."""
    name: str
    nets: tuple[str, ...]
    interval: int
    loss: Callable


def synthesize(config, nets, latents, fingerprints, noise=None):
    """G's images [N, H, W, 3]: of the latents and E's embedding of the fingerprints, or of the mapped latents."""
    codes = latents if config.generator == 'stylegan2' else fingerprints
    return nets['G'](latents, nets['E'](codes), noise)


def draw(config, noise_shapes, seed, count, share):
    """Draws for `count` images of the whole batch and keeps the slice `share` = (offset, length). seed: int32 [2]."""
    seeds = tf.random.split(seed, 4)

    def keep(values):
        return tf.slice(values, [share[0], 0], [share[1], values.shape[1]])

    def bits(seed):
        return keep(tf.cast(tf.random.stateless_uniform([count, config.fingerprint_bits], seed) < 0.5, tf.float32))

    sizes = [math.prod(shape) for shape in noise_shapes]
    noise = tf.split(keep(tf.random.stateless_normal([count, sum(sizes)], seeds[3])), sizes, axis=1)
    return Draw(keep(tf.random.stateless_normal([count, config.latent_dim], seeds[0])), bits(seeds[1]), bits(seeds[2]),
                [tf.reshape(image, [share[1], *shape]) for image, shape in zip(noise, noise_shapes)])


class TrainingSteps:
    """Runs the phases of a step on a TrainState under its distribution strategy.

    Args:
        config: Config.
        state: TrainState, made under `strategy.scope()`.
        strategy: tf.distribute.Strategy; the batch must divide by its replicas.
        jit_compile: compile each phase with XLA (its ops must be 'ref').
    """

    def __init__(self, config, state, strategy, jit_compile=False):
        self.config, self.state, self.strategy = config, state, strategy
        self.replicas = strategy.num_replicas_in_sync
        self.noise_shapes = state.nets['G'].noise_shapes()
        trained = ('E', 'G', 'F') if state.fingerprinted else ('E', 'G')
        self.phases = [Phase('generator', trained, 1, self.generator_loss)]
        if config.path_length_weight:
            self.phases.append(Phase('path_length', ('E', 'G'), config.path_length_interval, self.path_length_loss))
        self.phases.append(Phase('discriminator', ('D',), 1, self.discriminator_loss))
        if config.r1_gamma:
            self.phases.append(Phase('r1', ('D',), config.r1_interval, self.r1_loss))
        self.functions = {phase.name: self._compile(index, phase, jit_compile)
                          for index, phase in enumerate(self.phases)}
        self.update_averages = tf.function(self._update_averages, jit_compile=jit_compile)

    def __call__(self, step, reals):
        """Runs the phases due at `step` (from 0) on uint8 or float images [N, H, W, 3].

        Returns {statistic: scalar tensor}, not yet fetched from the device.
        """
        statistics = {}
        for phase in self.phases:
            if step % phase.interval == 0:
                statistics.update(self.functions[phase.name](*self.arguments(phase.name, step, reals)))
        self.update_averages()
        return statistics

    def arguments(self, name, step, reals):
        """The arguments of the phase's function at a step: its real images, its seed [2], the losses' weights."""
        seed = tf.constant([self.config.seed, step], tf.int32)
        if name != 'generator':
            return [reals, seed] if name in ('discriminator', 'r1') else [seed]
        images = step * self.config.batch_size
        consistency = consistency_weight(self.config, images)
        # Without a consistency loss there is no second image to generate: another graph, not another value.
        return [seed, tf.constant(fingerprint_weight(self.config, images), tf.float32),
                tf.constant(consistency, tf.float32) if consistency else None]

    def _compile(self, index, phase, jit_compile):
        def replica(*args):
            nets = [self.state.nets[name] for name in phase.nets]
            variables = [net.trainable_variables for net in nets]
            with tf.GradientTape(watch_accessed_variables=False) as tape:
                tape.watch(variables)
                loss, statistics = phase.loss(index, *args)
                loss = loss * (phase.interval / self.replicas)
            gradients = tape.gradient(loss, variables, unconnected_gradients=tf.UnconnectedGradients.ZERO)
            for name, group, values in zip(phase.nets, gradients, variables):
                self.state.optimizers[name].apply_gradients(zip(group, values))
            return statistics

        def whole(*args):
            statistics = self.strategy.run(replica, args=args)
            return {name: self.strategy.reduce(tf.distribute.ReduceOp.MEAN, value, axis=None)
                    for name, value in statistics.items()}

        return tf.function(whole, jit_compile=jit_compile)

    def _draw(self, phase_index, seed, batch):
        replica = tf.distribute.get_replica_context().replica_id_in_sync_group
        share = batch // self.replicas
        seed = tf.random.fold_in(seed, phase_index)
        return draw(self.config, self.noise_shapes, seed, batch, (replica * share, share))

    def generator_loss(self, phase_index, seed, lambda_fingerprint, lambda_consistency):
        """λ-weighted sum of equations 1 to 4 (equation 5). No consistency loss where its weight is None.

        The second image of a consistency pair serves the reconstruction losses too: the same expectation of equations
        2 and 3 from twice the samples, at the price of one more pass of F.
        """
        config, nets = self.config, self.state.nets
        batch = self._draw(phase_index, seed, config.batch_size)
        if not self.state.fingerprinted:
            images = synthesize(config, nets, batch.latents, None, batch.noise)
            adversarial = tf.reduce_mean(losses.generator_adversarial(nets['D'](images)))
            return adversarial, {'loss/adversarial': adversarial}

        latents, fingerprints, noise = batch.latents, batch.fingerprints, batch.noise
        if lambda_consistency is not None:
            latents = tf.concat([latents, latents], 0)
            fingerprints = tf.concat([fingerprints, batch.other_fingerprints], 0)
            noise = [tf.concat([image, image], 0) for image in noise]
        images = synthesize(config, nets, latents, fingerprints, noise)
        statistics, loss = {}, 0.0
        if lambda_consistency is not None:
            pair = tf.split(images, 2, axis=0)
            statistics['loss/consistency'] = tf.reduce_mean(losses.consistency(*pair))
            loss += lambda_consistency * statistics['loss/consistency']
        decoded_latents, logits = nets['F'](images)
        judged = images[:len(batch.latents)]
        terms = {
            'loss/adversarial': (1.0, losses.generator_adversarial(nets['D'](judged))),
            'loss/latent': (config.lambda_latent, losses.latent_reconstruction(latents, decoded_latents)),
            'loss/fingerprint': (lambda_fingerprint, losses.fingerprint_reconstruction(fingerprints, logits)),
        }
        for name, (factor, values) in terms.items():
            statistics[name] = tf.reduce_mean(values)
            loss += factor * statistics[name]
        matches = tf.equal(logits > 0, fingerprints > 0.5)
        statistics['bit_accuracy_float'] = tf.reduce_mean(tf.cast(matches, tf.float32))
        return loss, statistics

    def path_length_loss(self, phase_index, seed):
        """weight · (path length − a)², a its running mean (arXiv 1912.04958, equation 4), on half a batch."""
        config, nets = self.config, self.state.nets
        batch = self._draw(phase_index, seed, max(config.batch_size // 2, self.replicas))
        codes = batch.latents if not self.state.fingerprinted else batch.fingerprints
        embeddings = nets['G'].broadcast(nets['E'](codes))
        resolution = nets['G'].resolution
        directions = self._draw_directions(phase_index, seed, len(batch.latents), resolution)
        lengths = losses.path_lengths(lambda w: nets['G'](batch.latents, w, batch.noise), embeddings, directions)
        context = tf.distribute.get_replica_context()
        mean = context.all_reduce(tf.distribute.ReduceOp.MEAN, tf.stop_gradient(tf.reduce_mean(lengths)))
        average = self.state.path_length + config.path_length_decay * (mean - self.state.path_length)
        self.state.path_length.assign(average)
        penalty = tf.reduce_mean(tf.math.squared_difference(lengths, average))
        return config.path_length_weight * penalty, {'loss/path_length': penalty, 'path_length': mean}

    def _draw_directions(self, phase_index, seed, share, resolution):
        replica = tf.distribute.get_replica_context().replica_id_in_sync_group
        seed = tf.random.fold_in(seed, len(self.phases) + phase_index)
        values = tf.random.stateless_normal([share * self.replicas, resolution, resolution, 3], seed)
        return tf.slice(values, [replica * share, 0, 0, 0], [share, *values.shape[1:]]) / resolution

    def discriminator_loss(self, phase_index, reals, seed):
        """Equation 1, the discriminator's side, on `reals` [N, H, W, 3] and as many generated images."""
        config, nets = self.config, self.state.nets
        batch = self._draw(phase_index, seed, config.batch_size)
        fakes = synthesize(config, nets, batch.latents, batch.fingerprints, batch.noise)
        real_logits, fake_logits = nets['D'](self.as_float(reals)), nets['D'](fakes)
        loss = tf.reduce_mean(losses.discriminator_adversarial(real_logits, fake_logits))
        return loss, {'loss/discriminator': loss, 'logits/real': tf.reduce_mean(real_logits),
                      'logits/fake': tf.reduce_mean(fake_logits)}

    def r1_loss(self, _, reals, seed):
        """γ/2 · ‖∇x D(x)‖² at the real images [N, H, W, 3] (arXiv 1801.04406, equation 9)."""
        penalty = tf.reduce_mean(losses.r1_penalty(self.state.nets['D'], self.as_float(reals)))
        return self.config.r1_gamma / 2 * penalty, {'loss/r1': penalty}

    @staticmethod
    def as_float(images):
        return tf.cast(images, tf.float32) / 127.5 - 1 if images.dtype == tf.uint8 else images

    def _update_averages(self):
        """Moves E's and G's averages towards them: half-life ema_kimg thousand images."""
        rate = 1 - 0.5 ** (self.config.batch_size / (self.config.ema_kimg * 1000))
        for name, average in self.state.averages.items():
            for target, source in zip(average.variables, self.state.nets[name].variables):
                self.strategy.extended.update(
                    target, lambda target, source: target.assign_add((source - target) * rate), args=(source,))
