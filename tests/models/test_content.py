"""Signs of a picture's content: what they are computed from, against NumPy, and what they survive."""
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image, ImageFilter

from helpers import tiny_config
from models.content import BORDER, CELLS, ContentSigns, cells


def pictures(count, seed=0, size=64):
    """Smooth random pictures, uint8 [N, size, size, 3]: noise of few pixels, enlarged."""
    small = np.random.default_rng(seed).integers(0, 256, [count, 12, 12, 3]).astype(np.uint8)
    return np.stack([np.asarray(Image.fromarray(image).resize([size, size], Image.Resampling.BICUBIC))
                     for image in small])


def to_float(images):
    return images.astype(np.float32) / 127.5 - 1


def expected_cells(images):
    """From the definition, in float64, picture by picture."""
    found = []
    for image in images.astype(float):
        luma = np.clip(image, -1, 1) @ np.array([0.299, 0.587, 0.114])
        size = len(luma) // CELLS
        means = luma.reshape(CELLS, size, CELLS, size).mean((1, 3))[BORDER:CELLS - BORDER, BORDER:CELLS - BORDER]
        found.append((means - means.mean()).ravel() / np.sqrt(means.var() + 0.03 ** 2))
    return np.array(found)


@pytest.mark.parametrize('size', [16, 32, 64])
def test_cells_are_the_middles_normalized_luma(size):
    images = 1.2 * to_float(pictures(5, size=size))
    np.testing.assert_allclose(cells(tf.constant(images)), expected_cells(images), atol=1e-4)


@pytest.fixture(scope='module')
def signs():
    layer = ContentSigns('signs', tiny_config('adopted', method='adopted', sign_map=10, sign_frequency=1.5))
    layer.fit(expected_cells(to_float(pictures(2000))), np.random.default_rng(1))
    return layer


def test_projections_are_of_the_principal_components(signs):
    """Each has deviation 1 in the mean, over the pictures, and sees of them what the first 24 eigenvectors do."""
    found = expected_cells(to_float(pictures(2000)))
    hashed = (found - signs.mean.numpy()) @ signs.projection.numpy()
    assert np.mean(np.square(hashed)) == pytest.approx(1, abs=0.1)
    values, vectors = np.linalg.eigh(np.cov(found.T))
    kept, left = vectors[:, -24:], vectors[:, :-24]
    np.testing.assert_allclose(left.T @ signs.projection.numpy(), 0, atol=1e-4)
    seen = kept.T @ signs.projection.numpy()                                        # each row alike: R is isotropic
    assert np.var(seen, axis=1) == pytest.approx(1 / values[-24:].sum(), rel=0.5)


def test_pictures_differ_and_signs_are_nearly_signs(signs):
    found = signs(tf.constant(to_float(pictures(200, seed=2)))).numpy().reshape(200, -1)
    assert np.mean(np.abs(found)) > 0.8
    agreement = found @ found.T / found.shape[1]
    assert np.abs(agreement[np.triu_indices(200, 1)]).mean() < 0.1


@pytest.mark.parametrize('change', [
    lambda image: image.filter(ImageFilter.GaussianBlur(1)),
    lambda image: image.resize([32, 32]).resize([64, 64]),
    lambda image: image.convert('L').convert('RGB'),
    lambda image: Image.fromarray(np.uint8(np.asarray(image) * 0.7 + 20))], ids=['blur', 'resize', 'grey', 'contrast'])
def test_signs_stay_what_they_are_under_ordinary_edits(signs, change):
    images = pictures(50, seed=3)
    changed = np.stack([np.asarray(change(Image.fromarray(image))) for image in images])
    before, after = (signs(tf.constant(to_float(batch))).numpy() > 0 for batch in (images, changed))
    assert np.mean(before == after) > 0.95


def test_similar_pictures_agree_less_the_faster_signs_change():
    images = pictures(300, seed=4)
    similar = np.uint8(0.8 * images + 0.2 * pictures(300, seed=5))
    agreement = []
    for frequency in (0.5, 2.5):
        layer = ContentSigns('signs', tiny_config('adopted', method='adopted', sign_map=10, sign_frequency=frequency))
        layer.fit(expected_cells(to_float(pictures(2000))), np.random.default_rng(1))
        first, second = (np.sign(layer(tf.constant(to_float(batch))).numpy()) for batch in (images, similar))
        agreement.append(np.mean(first * second))
    assert agreement[1] < agreement[0] - 0.1


def test_copies_are_equal(signs):
    other = ContentSigns('signs', tiny_config('adopted', method='adopted', sign_map=10, sign_frequency=1.5))
    images = tf.constant(to_float(pictures(3)))
    assert np.abs(other(images) - signs(images)).max() > 0.1
    other.copy_from(signs)
    np.testing.assert_array_equal(other(images), signs(images))
