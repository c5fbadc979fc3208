"""What several test files need: the project's root, one tiny configuration, and a run folder of untrained networks."""
import os

from dnnlib.util import write_json

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
PATIENCE = 900  # seconds until a process that a test started counts as hung, on a machine however busy

# Networks that train in milliseconds; every phase occurs.
TINY = dict(method='fingerprinted', signed_codes=False, embedding_gain=1.0, lambda_latent=5.0, lambda_fingerprint='30',
            lambda_consistency='0:0-20:10', ema_kimg=2.0, readout_units=16, sign_map=2, warm_start_images=100,
            fmap_base=64, fmap_max=8, latent_dim=6, embedding_dim=8, fingerprint_bits=8, impl='ref', batch_size=8,
            tick_kimg=1, total_kimg=4, snapshot_ticks=1, metrics='none', path_length_weight=2.0,
            path_length_interval=4, r1_gamma=1.0)
BITS = 16


def tiny_config(preset='quickstart', **overrides):
    """A Config of TINY networks; keyword arguments override."""
    from training.config import make_config
    return make_config(preset, {**TINY, **overrides})


def flags_of(options):
    """The flags of run_training.py for {option: value}, without those that its method makes no use of."""
    from models.presets import UNUSED
    return [f'--{name.replace("_", "-")}={value}' for name, value in options.items()
            if name not in UNUSED[options['method']]]


def networks(config, resolution=16):
    """{name: network} of the config's method, untrained, always the same."""
    import tensorflow as tf

    from models.methods import METHODS
    tf.keras.utils.set_random_seed(0)
    return METHODS[config.method].networks(config, resolution)


def save_run(folder, seed=0, preset='quickstart', **overrides):
    """Writes training_options.json and one snapshot at 1 kimg; noise strengths and averages are not their initial 0."""
    import tensorflow as tf

    from training.config import to_record
    from training.state import TrainState
    config = tiny_config(preset, seed=seed, fingerprint_bits=BITS, **overrides)
    state = TrainState(config, 16)
    nets = [*state.nets.values(), *state.ema.values()]
    for i, variable in enumerate(variable for net in nets for variable in net.trainable_variables):
        if variable.shape.rank < 2:
            variable.assign_add(0.3 * tf.random.stateless_normal(variable.shape, [seed, i]))
    os.makedirs(folder, exist_ok=True)
    write_json(os.path.join(folder, 'training_options.json'),
               {'config': to_record(config), 'dataset': {'shape': [16, 16, 3], 'path': 'none'}})
    snapshots = os.path.join(folder, 'snapshots')
    tf.train.CheckpointManager(state.checkpoint(), snapshots, 1, checkpoint_name='snapshot').save(1)
    return folder


def write_dataset(path, name, source, train_images, eval_images, skipped=None):
    """Writes a dataset from two iterables of uint8 [H, W, 3], one per split; returns the Dataset."""
    from datasets.skipped import Skipped
    from datasets.writer import write_stream
    splits = []

    def images():
        for split, given in (('train', train_images), ('eval', eval_images)):
            for number, image in enumerate(given):
                splits.append(split)
                yield f'{split} {number}', image

    skipped = Skipped() if skipped is None else skipped
    return write_stream(path, name, source, images(), lambda index: splits[-1], skipped)


def leave_reservation(registry, name, model_digest, num_bits):
    """What a command on another machine leaves that was killed while it exported an instance."""
    import pytest

    from fingerprints.registry import Registry
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr('fingerprints.registry.this_process', lambda: {'host': 'elsewhere', 'pid': 7, 'started': None})
        patch.setattr(Registry, '_abandon', lambda *arguments: None)
        with pytest.raises(RuntimeError), registry.issue(name, model_digest, num_bits):
            raise RuntimeError


def old_registry(path):
    """A registry as an older program left it."""
    import contextlib
    import sqlite3
    with open(os.path.join(ROOT, 'tests/fingerprints/registry_version_2.sql')) as file, contextlib.closing(
            sqlite3.connect(path)) as connection:
        connection.executescript(file.read())


def make_registry(location, model_digest, codes):
    """A registry whose users have these codes {name: bits}: the operating system's randomness is made to be them."""
    import secrets

    import numpy as np
    import pytest

    from fingerprints.registry import Registry
    draws = [np.packbits(code).tobytes() for code in codes.values()]
    registry = Registry(location, create=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(secrets, 'token_bytes', lambda size: draws.pop(0))
        for name, code in codes.items():
            with registry.issue(name, model_digest, len(code)) as issued:
                issued.digest = 'd' * 64
    return registry


def killed_before_its_event(monkeypatch, command):
    """Runs an issuing command that leaves what kill -9 leaves between an instance's folder and its event."""
    import pytest

    from fingerprints.processes import this_process
    ended = os.fork()
    if not ended:
        os._exit(0)
    os.waitpid(ended, 0)
    with monkeypatch.context() as patch:
        patch.setattr('fingerprints.registry.this_process', lambda: {**this_process(), 'pid': ended})
        patch.setattr('fingerprints.registry.about_reserved', lambda *arguments: os._exit)
        with pytest.raises(TypeError):
            command()
