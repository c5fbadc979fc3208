"""Runs three steps as one of the processes that TF_CONFIG names and saves what they did; a test starts it."""
import json
import sys

import numpy as np
import tensorflow as tf

import dnnlib  # noqa: F401  (quiets TensorFlow before it is imported)
from models.layers import RunningMean
from training.config import make_config
from training.distribution import make_strategy, worker
from training.state import TrainState
from training.step import TrainStep


def run_steps(config, strategy, reals):
    """A step from the same start for each of global batches [S, N, 16, 16, 3].

    Returns the statistics of each, and {name: array} of first gradients (with β1 = 0 they are Adam's first slot after
    a step) and of weights after all.
    """
    with strategy.scope():
        state = TrainState(config, 16)
    train_step = TrainStep(config, state, strategy)
    index, count = worker(strategy)
    share = config.batch_size // strategy.num_replicas_in_sync
    replicas = strategy.num_replicas_in_sync // count

    def local(step):
        def value(context):
            start = (index * replicas + context.replica_id_in_sync_group % replicas) * share
            return tf.constant(reals[step][start:start + share])
        return strategy.experimental_distribute_values_from_function(value)

    statistics, arrays = [], {}
    for step in range(len(reals)):
        statistics.append({name: float(value) for name, value in train_step.run(step, local(step)).items()})
        if step == 0:
            for name, optimizer in state.optimizers.items():
                for variable in state.nets[name].trainable_variables:
                    slot = optimizer.get_slot(variable, 'm')
                    arrays[f'gradient {variable.name}'] = slot.numpy()
    for net in state.nets.values():
        arrays.update({f'weight {variable.name}': variable.numpy() for variable in net.trainable_variables})
    arrays.update({name: net.mean.numpy() for name, net in state.nets.items() if isinstance(net, RunningMean)})
    return statistics, arrays


def main():
    inputs, output = sys.argv[1:]
    with open(f'{inputs}/options.json') as file:
        config = make_config('quickstart', json.load(file))
    strategy = make_strategy(0)
    statistics, arrays = run_steps(config, strategy, np.load(f'{inputs}/reals.npy'))
    np.savez(f'{output}-{worker(strategy)[0]}.npz', statistics=json.dumps(statistics), **arrays)


if __name__ == '__main__':
    main()
