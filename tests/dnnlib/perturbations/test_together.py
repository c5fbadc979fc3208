"""files.py and tensors.py are written independently of each other: here each row of one is held against the other."""
import collections

import numpy as np
import pytest
import tensorflow as tf
from photographs import photographs

from dnnlib.images import to_float
from dnnlib.perturbations import files, tensors
from dnnlib.perturbations.table import COMBINED, TABLE, WAVES_GROUPS

SEED = (3, 5)

# The mean difference in grey levels that rounding to 8 bits leaves, at the worst of the strengths in the table. Apart
# from it: Pillow approximates a Gaussian by box filters (waves_blur); libjpeg computes in whole numbers (jpeg); a
# rotation is rounded again before it is turned back.
BOUNDS = collections.defaultdict(lambda: 0.5, {
    'blur': 0.3, 'erasing': 0.001, 'flip': 0.001, 'quarter_turn': 0.001,
    'median': 0.001, 'salt_and_pepper': 0.001, 'resize': 0.6, 'jpeg': 0.8, 'waves_jpeg': 0.8,
    'registered_rotation': 1.0,
    'waves_blur': 1.5, 'combination': 1.2, 'waves_geometric': 0.8, 'waves_photometric': 0.8,
    'waves_degradation': 3.0, 'waves_all': 4.0, 'signature_combination': 1.2})


class Drawn:
    """In place of a numpy Generator: answers, by the shape that is asked for, with what tensors.py drew."""

    def __init__(self, answers):
        self.answers = collections.defaultdict(list)
        for answer in answers:
            self.answers[np.shape(answer)].append(answer)

    def random(self, shape):
        return self.answers[shape if isinstance(shape, tuple) else (shape,)].pop(0)

    standard_normal = random


def draws_of(name, images, seed):
    """What the operation draws from `seed`, an array per draw of a picture: a list of [N, ...]."""
    shape = images.shape
    if name in ('crop', 'resized_crop', 'registered_crop', 'erasing'):
        return [tensors.uniforms(images, seed, 2)]
    if name == 'rotation':
        return [tensors.uniforms(images, seed, 1)]
    if name == 'registered_rotation':
        of_side, of_error = tf.unstack(tf.random.split(seed, 2))
        return [tensors.uniforms(images, of_side, 1), tensors.uniforms(images, of_error, 1)[:, None]]
    if name in ('noise', 'waves_noise'):
        return [tf.random.stateless_normal(shape, seed)]
    if name == 'salt_and_pepper':
        return [tf.random.stateless_uniform(shape[:3], seed)]
    if name == 'combination':
        seeds = tf.unstack(tf.random.split(seed, len(COMBINED) + 1))
        own = [draw for part, one in zip(COMBINED, seeds) for draw in draws_of(part, images, one)]
        return [tf.reshape(tensors.uniforms(images, seeds[-1], 2 * len(COMBINED)), [-1, len(COMBINED), 2]), *own]
    if name in WAVES_GROUPS:
        parts = WAVES_GROUPS[name]
        seeds = tf.unstack(tf.random.split(seed, len(parts)))
        return [draw for part, one in zip(parts, seeds) for draw in draws_of(part, images, one)]
    return []


@pytest.mark.parametrize('name', [name for name, row in TABLE.items() if row.trained])
def test_files_and_tensors_agree(name):
    pictures = photographs()
    images = tf.constant(to_float(pictures))
    draws = [draw.numpy() for draw in draws_of(name, images, SEED)]
    for value in TABLE[name].strengths:
        made = tensors.apply(name, images, tf.fill([len(images)], float(value)), SEED)
        levels = (made.numpy() + 1) * 127.5
        expected = np.concatenate([files.perturb(name, value, pictures[i:i + 1], Drawn([draw[i] for draw in draws]))
                                   for i in range(len(pictures))])
        assert expected.shape == pictures.shape and expected.dtype == np.uint8
        error = np.abs(levels - expected).mean()
        effect = np.abs(pictures.astype(float) - expected).mean()
        print(f'{name} {value}: {error:.3f} of {effect:.2f}')
        assert error <= BOUNDS[name], value
        if name != 'combination':
            assert effect > 0


def test_the_real_codec_makes_pillows_bytes():
    pictures = photographs()
    images = tf.constant(to_float(pictures))
    for quality in (10, 49, 50, 75, 95, 100):
        made = tensors.apply('jpeg_codec', images, tf.fill([len(images)], float(quality)), SEED)
        expected = files.perturb('jpeg', quality, pictures, None)
        np.testing.assert_array_equal(np.rint((made.numpy() + 1) * 127.5).astype(np.uint8), expected)
