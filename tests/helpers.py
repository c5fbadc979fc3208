"""What several test files need: the project's root, and a run folder of small untrained networks."""
import dataclasses
import os

from dnnlib.util import write_json

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))

BITS = 16


def save_run(folder, seed=0, **overrides):
    """Writes training_options.json and one snapshot at 1 kimg; noise strengths and averages are not their initial 0."""
    import tensorflow as tf

    from training.config import make_config
    from training.state import TrainState
    config = make_config('quickstart', dict(fmap_base=64, fmap_max=8, latent_dim=6, embedding_dim=8, seed=seed,
                                            fingerprint_bits=BITS, ops='ref', **overrides))
    state = TrainState(config, 16)
    nets = [*state.nets.values(), *state.averages.values()]
    for i, variable in enumerate(variable for net in nets for variable in net.trainable_variables):
        if variable.shape.rank < 2:
            variable.assign_add(0.3 * tf.random.stateless_normal(variable.shape, [seed, i]))
    os.makedirs(folder, exist_ok=True)
    write_json(os.path.join(folder, 'training_options.json'),
               {'config': dataclasses.asdict(config), 'dataset': {'shape': [16, 16, 3], 'path': 'none'}})
    snapshots = os.path.join(folder, 'snapshots')
    tf.train.CheckpointManager(state.checkpoint(), snapshots, 1, checkpoint_name='snapshot').save(1)
    return folder
