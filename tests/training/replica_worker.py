"""Runs three steps as one of the processes that TF_CONFIG names and saves what they did; a test starts it."""
import json
import os
import sys

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))
import numpy as np  # noqa: E402
import tensorflow as tf  # noqa: E402

import dnnlib  # noqa: E402, F401
from training.config import make_config  # noqa: E402
from training.distribution import make_strategy, worker  # noqa: E402
from training.state import TrainState  # noqa: E402
from training.steps import TrainingSteps  # noqa: E402


def run_steps(config, strategy, reals):
    """Three steps from the same start on global batches [3, N, 16, 16, 3].

    Returns the statistics of each, and {name: array} of first gradients (with β1 = 0 they are Adam's first slot after
    a step) and of weights after all.
    """
    with strategy.scope():
        state = TrainState(config, 16)
    steps = TrainingSteps(config, state, strategy)
    index, count = worker(strategy)
    share = config.batch_size // strategy.num_replicas_in_sync
    replicas = strategy.num_replicas_in_sync // count

    def local(step):
        def value(context):
            start = (index * replicas + context.replica_id_in_sync_group % replicas) * share
            return tf.constant(reals[step][start:start + share])
        return strategy.experimental_distribute_values_from_function(value)

    statistics, arrays = [], {}
    for step in range(3):
        statistics.append({name: float(value) for name, value in steps(step, local(step)).items()})
        if step == 0:
            for name, net in state.nets.items():
                for variable in net.trainable_variables:
                    slot = state.optimizers[name].get_slot(variable, 'm')
                    arrays[f'gradient {variable.name}'] = slot.numpy()
    for net in state.nets.values():
        arrays.update({f'weight {variable.name}': variable.numpy() for variable in net.trainable_variables})
    arrays['path length'] = state.path_length.numpy()
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
