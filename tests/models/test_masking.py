"""Texture masking: SciPy's local deviation, the same power in every picture, and what carries marks more or less."""
import numpy as np
import pytest
import tensorflow as tf
from scipy.ndimage import uniform_filter

from models.masking import FLAT, WINDOW, contrast, masking

LUMA = [0.299, 0.587, 0.114]


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.mark.parametrize('side', [16, 8])
def test_contrast_is_scipys_local_deviation_of_luma(rng, side):
    images = rng.uniform(-1, 1, [2, 16, 16, 3])
    luma = (images @ LUMA).reshape(2, side, 16 // side, side, 16 // side).mean((2, 4))
    found = contrast(tf.constant(images, tf.float32), side).numpy()[..., 0]
    for one, expected in zip(luma, found):
        mean, square = (uniform_filter(value, WINDOW) for value in (one, one ** 2))
        inner = (slice(WINDOW // 2, -(WINDOW // 2)),) * 2
        np.testing.assert_allclose(expected[inner], np.sqrt(square - mean ** 2)[inner], atol=1e-5)


def test_every_picture_carries_as_much_and_busy_parts_more(rng):
    images = np.zeros([3, 16, 16, 3], np.float32)
    images[0, :8] = rng.uniform(-1, 1, [8, 16, 3])
    images[1] = 0.1 * rng.uniform(-1, 1, [16, 16, 3])
    found = masking(tf.constant(images), 16).numpy()
    np.testing.assert_allclose(np.mean(found ** 2, axis=(1, 2, 3)), 1, rtol=1e-5)
    assert found[0, :5].min() > 3 * found[0, 12:].max()
    np.testing.assert_allclose(found[2], 1, rtol=1e-5)             # a flat picture carries it everywhere
    assert found.min() > 0


def test_values_outside_count_as_they_are_shown():
    """What lies beyond black or white has no texture."""
    images = np.full([1, 16, 16, 3], 1.5, np.float32)
    images[0, ::2] = 1.2
    np.testing.assert_allclose(contrast(tf.constant(images), 16), 1e-4, atol=1e-3)
    np.testing.assert_allclose(masking(tf.constant(images), 16), 1, rtol=1e-3 / FLAT)
