"""Which options a method makes use of, found by watching it."""
import pytest
import tensorflow as tf

from helpers import tiny_config
from models.methods import METHODS
from models.presets import METHOD_NAMES, UNUSED
from models.sampling import BatchPart
from training.config import FIELDS

NAMES = [field.name for field in FIELDS]
# The options of networks and losses, in Config's first two sections, but for `method` itself.
OPTIONS = set(NAMES[1:NAMES.index('learning_rate')])


class Watched:
    """A Config that notes which of its options are read."""

    def __init__(self, config):
        self.config, self.read = config, set()

    def __getattr__(self, name):
        self.read.add(name)
        return getattr(self.config, name)


@pytest.mark.parametrize('name', METHOD_NAMES)
def test_a_method_reads_all_options_but_those_it_is_said_not_to_use(name):
    preset, method = 'stylegan2' if name == 'stylegan2' else 'config-e', METHODS[name]
    config = Watched(tiny_config(preset, method=name, mapping_layers=1))
    nets = method.networks(config, 16)
    if hasattr(method, 'warm_start'):
        method.warm_start(config, nets)
    for phase in method.phases(config):
        batch = phase.sample(nets, [0, 1], BatchPart(4, 0, 4)) if phase.sample else None
        tracked = phase.track(nets, phase.measure(nets, batch)) if phase.measure else ()
        phase.loss(nets, batch, *tracked, *(tf.zeros([4, 16, 16, 3]) if taken == 'reals' else 1.0
                                            for taken in phase.takes))
        config.read.update(phase.takes)
    assert OPTIONS - config.read == set(UNUSED[name])
