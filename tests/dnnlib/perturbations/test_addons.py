"""Our operations against TensorFlow Addons', which ends with TensorFlow 2.15: both write them in TensorFlow, apart."""
import warnings

import numpy as np
import pytest
import tensorflow as tf
from photographs import photographs

from dnnlib.images import to_float
from dnnlib.lanes import HAS_KERAS_3
from dnnlib.perturbations import resampling, tensors
from dnnlib.perturbations.table import blur_sigma

pytestmark = pytest.mark.skipif(HAS_KERAS_3, reason='TensorFlow Addons ends with TensorFlow 2.15')
SEED = [3, 5]


@pytest.fixture(scope='module')
def addons():
    """tensorflow_addons.image, without its farewell."""
    with warnings.catch_warnings():
        warnings.filterwarnings('ignore', r'\s*TensorFlow Addons', UserWarning)
        import tensorflow_addons
    return tensorflow_addons.image


@pytest.fixture(scope='module')
def images():
    """[3, 128, 128, 3], as large as what a kernel of the blur refers to."""
    return tf.constant(to_float(photographs(3, 128)))


def test_rotation(addons, images):
    """Within the picture: at its edge Addons blends with what is outside, and Pillow, as we do, does not."""
    degrees = tf.constant([-37.0, 8.0, 45.0])
    expected = addons.rotate(images, degrees * (np.pi / 180), interpolation='bilinear', fill_value=-1.0)
    found = resampling.rotate(images, degrees, -1.0)
    middle = slice(40, 88)
    np.testing.assert_allclose(found[:, middle, middle], expected[:, middle, middle], rtol=0, atol=1e-5)
    assert np.mean(np.abs(found - expected) > 1e-5) < 0.03
    assert not np.allclose(found, images, atol=0.1)


@pytest.mark.parametrize('window', [3, 5])
def test_median(addons, images, window):
    images = images[:, :32, :32]
    found = tensors.apply('median', images, [window] * 3, SEED)[:, 2:-2, 2:-2]
    np.testing.assert_array_equal(found, addons.median_filter2d(images, window)[:, 2:-2, 2:-2])


@pytest.mark.parametrize('kernel', [3, 5, 7, 9])
def test_blur(addons, images, kernel):
    expected = addons.gaussian_filter2d(images, kernel, blur_sigma(kernel), padding='REFLECT')
    np.testing.assert_allclose(tensors.apply('blur', images, [kernel] * 3, SEED), expected, rtol=0, atol=1e-5)
