"""The name and shape of every variable of every preset, as text: snapshots and issued instances depend on them.

A change must be made on purpose: `python tests/conformance/test_goldens.py` writes the files anew.
"""
import os

import pytest

from models.methods import METHODS
from models.presets import PRESETS
from training.config import make_config

FOLDER = os.path.join(os.path.dirname(__file__), 'goldens')
RESOLUTION = 64  # shows every kind of block, and the wide networks in little memory


def listing(preset):
    """A line per variable that a run of the preset trains or keeps: network, name, shape."""
    config = make_config(preset, {'impl': 'ref'})
    nets = METHODS[config.method].networks(config, RESOLUTION)
    return ''.join(f'{key} {variable.name} {list(variable.shape)}\n' for key, net in nets.items()
                   for variable in net.variables)


def path(preset):
    return os.path.join(FOLDER, f'{preset}.txt')


@pytest.mark.parametrize('preset', PRESETS)
def test_variables_are_those_of_issued_models(preset):
    with open(path(preset)) as file:
        assert listing(preset) == file.read(), 'if this is meant, run this file and tell in CHANGELOG.md'


def test_every_golden_belongs_to_a_preset():
    assert set(os.listdir(FOLDER)) == {f'{preset}.txt' for preset in PRESETS}


if __name__ == '__main__':
    os.makedirs(FOLDER, exist_ok=True)
    for name in PRESETS:
        with open(path(name), 'w') as file:
            file.write(listing(name))
