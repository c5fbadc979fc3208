"""What every method draws and reads with given weights, as text: TensorFlow 2.15 and 2.21 must agree on it.

A change must be made on purpose: `python tests/conformance/test_golden_pictures.py` writes the files anew.
"""
import os

import numpy as np
import pytest
import tensorflow as tf

from helpers import networks, tiny_config
from models.methods import METHODS

FOLDER = os.path.join(os.path.dirname(__file__), 'pictures')


def numbers(*shape, seed=0):
    """float32 normal numbers; NumPy promises to draw the same ones from a RandomState for ever (NEP 19)."""
    return np.random.RandomState(seed).standard_normal(shape).astype(np.float32)


def outputs(name):
    """{what: array} of a method's generate, decode and bake for two latents and two codes."""
    method, config = METHODS[name], tiny_config(method=name)
    nets = networks(config, 16)
    variables = [variable for net in nets.values() for variable in net.variables]
    for place, variable in enumerate(variables):
        drawn = numbers(*variable.shape, seed=place)
        if 'signs/components' in variable.name:
            drawn *= 0.02  # as small as fitted ones: many turns of a sine would multiply the last digits' differences
        variable.assign(drawn if variable.shape.rank > 1 else variable + 0.3 * drawn)  # a bias of 1 stays about 1
    latents, codes = tf.constant(numbers(2, config.latent_dim)), tf.constant([[0.0, 1] * 4, [1.0, 1, 0, 0] * 2])
    images = method.generate(nets, latents, codes)
    found = {'images': images[:, ::4, ::4]}
    if hasattr(method, 'bake'):
        found['logits'] = method.decode(nets, images)
        found['instance'] = method.bake(nets, codes[0])(latents)[:, ::4, ::4]
    return {what: np.asarray(values) for what, values in found.items()}


def path(name):
    return os.path.join(FOLDER, f'{name}.txt')


@pytest.mark.parametrize('name', METHODS)
def test_pictures_and_logits_are_those_of_either_tensorflow(name):
    found = outputs(name)
    with open(path(name)) as file:
        lines = [line.split() for line in file]
    golden = {what: np.array(values, np.float64) for what, *values in lines}
    assert golden.keys() == found.keys()
    for what, values in found.items():
        assert np.std(values) > 0.05
        np.testing.assert_allclose(values.ravel(), golden[what], rtol=1e-5, atol=1e-5, err_msg=what)


def test_every_golden_belongs_to_a_method():
    assert set(os.listdir(FOLDER)) == {f'{name}.txt' for name in METHODS}


if __name__ == '__main__':
    os.makedirs(FOLDER, exist_ok=True)
    for method_name in METHODS:
        with open(path(method_name), 'w') as file_to_write:
            for what, values in outputs(method_name).items():
                file_to_write.write(' '.join([what, *(f'{value:.6f}' for value in values.ravel())]) + '\n')
