"""Two logical CPU devices, so that replicas can be tested where there is no GPU."""
import pytest
import tensorflow as tf

from training.config import make_config

tf.config.set_logical_device_configuration(
    tf.config.list_physical_devices('CPU')[0], [tf.config.LogicalDeviceConfiguration()] * 2)

TINY = dict(fmap_base=64, fmap_max=8, latent_dim=6, embedding_dim=8, fingerprint_bits=8, ops='ref', batch_size=8,
            tick_kimg=1, total_kimg=3, snapshot_ticks=1, metrics='none', path_length_weight=2.0, r1_gamma=1.0)


@pytest.fixture
def tiny_config():
    """make_config for networks that train in milliseconds; keyword arguments override."""
    return lambda **overrides: make_config('quickstart', {**TINY, **overrides})
