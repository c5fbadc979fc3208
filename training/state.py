"""Everything a run trains, in one tf.train.Checkpoint."""
import re

import tensorflow as tf

from dnnlib.util import UserError
from models.methods import METHODS


class TrainState(tf.Module):
    """The method's networks, their moving averages, an Adam state per trained network, and the images seen.

    Make it under the strategy's scope.

    Attributes:
        method: the module of models/ that config.method names. phases: its phases.
        nets, ema: {name: network}; `ema` has the averaged ones only.
        optimizers: {name: Adam}.
        images_seen: int64 variable.
    """

    def __init__(self, config, resolution):
        super().__init__(name='state')
        tf.keras.utils.set_random_seed(config.seed)
        self.method = METHODS[config.method]
        self.phases = self.method.phases(config)
        self.nets = self.method.networks(config, resolution)
        self.ema = self.method.networks(config, resolution, self.method.AVERAGED)
        self.copy_to_ema()
        self.optimizers = make_optimizers(config, self.nets, self.phases)
        self.images_seen = tf.Variable(0, trainable=False, name='images_seen', dtype=tf.int64,
                                       aggregation=tf.VariableAggregation.ONLY_FIRST_REPLICA)

    def copy_to_ema(self):
        """Sets the averages to the networks as they are now."""
        for average, net in self.averaged_pairs():
            average.assign(net)

    def evaluated_nets(self):
        """{name: network} that the method's as_model and bake take, the averaged ones as averages."""
        return {name: self.ema.get(name, self.nets[name]) for name in self.method.EVALUATED}

    def averaged_pairs(self):
        """[(variable of the average, variable of the network)]."""
        return [pair for name, average in self.ema.items()
                for pair in zip(average.variables, self.nets[name].variables)]

    def checkpoint(self):
        """The tf.train.Checkpoint of all of it."""
        return tf.train.Checkpoint(nets=self.nets, ema=self.ema, optimizers=self.optimizers,
                                   images_seen=self.images_seen)


def make_optimizers(config, nets, phases):
    """{name: Adam} for every network that a phase trains; networks trained together share their settings."""
    found = {}
    for phase in phases:
        for name in phase.trains:
            if name not in found:
                updates = sum(1 / other.interval for other in phases if name in other.trains)
                found[name] = make_optimizer(config, nets[name], phase.regularized_every, updates)
    return found


def make_optimizer(config, net, regularized_every, updates):
    """Adam with its slots built. With a regularizer every k steps: lr · k/(k+1), β^(k/(k+1)) (arXiv 1912.04958, B).

    `updates`: how many it makes in a step, in the mean.
    """
    ratio = regularized_every / (regularized_every + 1) if regularized_every else 1.0
    # The legacy class runs one fused kernel per variable; the newer one about ten.
    optimizer = tf.keras.optimizers.legacy.Adam(
        learning_rate=learning_rate(config, ratio, updates), beta_1=config.adam_beta1 ** ratio,
        beta_2=config.adam_beta2 ** ratio, epsilon=config.adam_epsilon)
    optimizer._create_all_weights(net.trainable_variables)  # so that a checkpoint is checked against all of them
    return optimizer


def learning_rate(config, ratio, updates):
    """`ratio` times the learning rate: a number if it stays, else a function of the updates made, `updates` a step."""
    rate = config.learning_rate
    if rate.start == rate.end:
        return rate.end * ratio
    return ScheduledRate(rate, ratio, config.batch_size / updates)


class ScheduledRate(tf.keras.optimizers.schedules.LearningRateSchedule):
    """`ratio` times a Schedule, as a function of an optimizer's updates, for each of which `images` were shown."""

    def __init__(self, schedule, ratio, images):
        super().__init__()
        self.schedule, self.ratio, self.images = schedule, ratio, images

    def __call__(self, updates):
        kimg = tf.cast(updates, tf.float32) * (self.images / 1000)
        start, begin, end, last = self.schedule
        share = tf.where(kimg < end, tf.maximum(kimg - begin, 0.0) / max(end - begin, 1e-9), 1.0)
        return self.ratio * (start + share * (last - start))


def restore(checkpoint, path, partial=False):
    """Restores a checkpoint: all that the file holds or, with `partial`, what `checkpoint` is made of.

    Raises:
        UserError: the file is corrupt or of another configuration.
    """
    try:
        status = checkpoint.restore(path).expect_partial()  # one error below instead of TensorFlow's list
        if partial:
            status.assert_existing_objects_matched()
        else:
            status.assert_consumed()
    except (AssertionError, tf.errors.OpError, ValueError, IndexError) as error:
        reason = re.sub(r'\{\{.*?\}\} | \[Op:\w+\]', '', str(error).strip().split('\n')[0])
        raise UserError(f'snapshot {path} is corrupt or of another configuration ({reason}); '
                        f'remove {path}.* to go on from the one before') from None
