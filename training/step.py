"""The training step: for each phase that is due, sample, loss, update; then the moving averages.

Every random number is a function of (run seed, step, phase) and is drawn for the whole batch, of which each replica
takes its share, in parts of --batch-per-replica images: a resumed run repeats the run it resumes, and any number of
replicas and of parts makes the same update.
"""
import tensorflow as tf

from models.sampling import BatchPart, phase_seed
from training.schedule import weight_at


class TrainStep:
    """Runs the steps of a TrainState under its distribution strategy.

    Args:
        config: Config.
        state: TrainState, made under `strategy.scope()`.
        strategy: tf.distribute.Strategy; the batch must divide by its replicas, a replica's share into parts.
        jit_compile: compile each phase with XLA (its ops must be 'ref').

    Attributes:
        compiled: {phase's name: tf.function}, of the arguments that `arguments` gives.
        update_ema: the tf.function that moves the averages.
    """

    def __init__(self, config, state, strategy, jit_compile=False):
        self.config, self.state, self.strategy = config, state, strategy
        self.replicas = strategy.num_replicas_in_sync
        share = config.batch_size // self.replicas
        self.parts = share // (config.batch_per_replica or share)
        self.compiled = {phase.name: tf.function(self._whole(phase), jit_compile=jit_compile, autograph=False)
                         for phase in state.phases}
        self.update_ema = tf.function(self._update_ema, jit_compile=jit_compile, autograph=False)

    def run(self, step, reals):
        """Runs the phases due at `step` (from 0) on uint8 or float images [N, H, W, 3].

        Returns {statistic: scalar tensor}, not yet fetched from the device.
        """
        statistics = {}
        for phase in self.state.phases:
            if step % phase.interval == 0:
                statistics.update(self.compiled[phase.name](*self.arguments(phase, step, reals)))
        self.update_ema()
        return statistics

    def arguments(self, phase, step, reals):
        """What a phase's function is given at a step: the seed [2], then what the phase takes."""
        values = [reals if name == 'reals' else weight_at(self.config, name, step) for name in phase.takes]
        tensors = [tf.constant(value, tf.float32) if isinstance(value, float) else value for value in values]
        return [tf.constant([self.config.seed, step], tf.int32), *tensors]

    def _whole(self, phase):
        """The phase over all replicas: (seed, *taken) -> {statistic: mean}."""
        def whole(seed, *taken):
            statistics = self.strategy.run(self._replica, args=(phase, seed, *taken))
            return {name: self.strategy.reduce(tf.distribute.ReduceOp.MEAN, value, axis=None)
                    for name, value in statistics.items()}
        return whole

    def _replica(self, phase, seed, *taken):
        """One replica's share of a phase: sample, loss and gradient of each part, update."""
        variables = {name: self.state.nets[name].trainable_variables for name in phase.trains}
        tracked = self._track(phase, seed)

        def part_gradients(index):
            batch = self._sample(phase, seed, index)
            part = [self._part(value, index) if name == 'reals' else value for name, value in zip(phase.takes, taken)]
            with tf.GradientTape(watch_accessed_variables=False) as tape:
                tape.watch(variables)
                loss, statistics = phase.loss(self.state.nets, batch, *tracked, *part)
                # A lazy phase stands for all the steps it leaves out; optimizers add up the replicas' gradients.
                loss = loss * (phase.interval / self.replicas)
            return tape.gradient(loss, variables, unconnected_gradients=tf.UnconnectedGradients.ZERO), statistics

        with tf.control_dependencies(tracked):  # not beside the pass that measured it
            gradients, statistics = mean_over_parts(part_gradients, self.parts)
        for name in phase.trains:
            self.state.optimizers[name].apply_gradients(zip(gradients[name], variables[name]))
        return statistics

    def _track(self, phase, seed):
        """What the phase's loss needs of the whole batch, of which a running mean moves on; () if nothing."""
        if phase.measure is None:
            return ()
        nets = self.state.nets
        mean = mean_over_parts(lambda index: phase.measure(nets, self._sample(phase, seed, index)), self.parts)
        mean = tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.MEAN, mean)
        return phase.track(nets, mean)

    def _sample(self, phase, seed, index):
        """A part of this replica's share of the phase's random batch; None if it generates nothing."""
        if phase.sample is None:
            return None
        length = phase.num_samples // (self.replicas * self.parts)
        replica = tf.distribute.get_replica_context().replica_id_in_sync_group
        part = BatchPart(phase.num_samples, (replica * self.parts + index) * length, length)
        return phase.sample(self.state.nets, phase_seed(seed, phase.name), part)

    def _part(self, reals, index):
        """A part of this replica's share of the real images."""
        length = reals.shape[0] // self.parts
        return tf.slice(reals, [index * length, 0, 0, 0], [length, *reals.shape[1:]])

    def _update_ema(self):
        """Moves the averages towards the networks: half-life ema_kimg thousand images."""
        rate = 1 - 0.5 ** (self.config.batch_size / (self.config.ema_kimg * 1000))
        for target, source in self.state.averaged_pairs():
            self.strategy.extended.update(
                target, lambda target, source: target.assign_add((source - target) * rate), args=(source,))


def mean_over_parts(function, parts):
    """The mean of what function(index) returns, tensors in any structure, over the indices 0 to `parts` − 1.

    The parts are computed one after another, by a loop, so that the memory of one serves all.
    """
    total = function(0)
    if parts == 1:
        return total

    def add(index, total):
        return index + 1, tf.nest.map_structure(tf.add, total, function(index))

    # The loop would else begin beside the first part, and the memory of two be needed.
    with tf.control_dependencies(tf.nest.flatten(total)):
        second = tf.identity(1)
    _, total = tf.while_loop(lambda index, _: index < parts, add, (second, total), parallel_iterations=1)
    return tf.nest.map_structure(lambda value: value / parts, total)
