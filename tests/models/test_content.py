"""Signs of a picture's content: what they are computed from, against NumPy, and what they survive."""
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image, ImageFilter

from helpers import tiny_config
from models.content import BORDER, CELLS, ContentSigns, bits_of_keys, cells, key_of


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


def make_signs(frequency=1.5, key_bits=3):
    return ContentSigns('signs', tiny_config('adopted', method='adopted', sign_map=10, sign_frequency=frequency,
                                             key_bits=key_bits))


def signs_of(layer, images, key=0):
    """Of float images, all by one key."""
    return layer(tf.constant(images), tf.fill([len(images)], key)).numpy()


@pytest.fixture(scope='module')
def signs():
    layer = make_signs()
    layer.fit(expected_cells(to_float(pictures(2000))), np.random.default_rng(1))
    return layer


def test_projections_are_of_the_principal_components(signs):
    """Each has deviation 1 in the mean, over the pictures, and sees of them what the first 24 eigenvectors do."""
    found = expected_cells(to_float(pictures(2000)))
    projections = np.concatenate(signs.components.numpy() @ signs.keys.numpy(), axis=1)
    assert np.mean(np.square((found - signs.mean.numpy()) @ projections)) == pytest.approx(1, abs=0.1)
    values, vectors = np.linalg.eigh(np.cov(found.T))
    kept, left = vectors[:, -24:], vectors[:, :-24]
    np.testing.assert_allclose(left.T @ projections, 0, atol=1e-4)
    seen = kept.T @ projections                                                     # each row alike: R is isotropic
    assert np.var(seen, axis=1) == pytest.approx(1 / values[-24:].sum(), rel=0.5)


def test_pictures_differ_and_signs_are_nearly_signs(signs):
    found = signs_of(signs, to_float(pictures(200, seed=2))).reshape(200, -1)
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
    before, after = (signs_of(signs, to_float(batch)) > 0 for batch in (images, changed))
    assert np.mean(before == after) > 0.95


def test_similar_pictures_agree_less_the_faster_signs_change():
    images = pictures(300, seed=4)
    similar = np.uint8(0.8 * images + 0.2 * pictures(300, seed=5))
    agreement = []
    for frequency in (0.5, 2.5):
        layer = make_signs(frequency)
        layer.fit(expected_cells(to_float(pictures(2000))), np.random.default_rng(1))
        first, second = (np.sign(signs_of(layer, to_float(batch))) for batch in (images, similar))
        agreement.append(np.mean(first * second))
    assert agreement[1] < agreement[0] - 0.1


def test_signs_by_two_keys_have_nothing_in_common(signs):
    images = to_float(pictures(200, seed=6))
    first, second = (np.sign(signs_of(signs, images, key)) for key in (0, 5))
    assert abs(np.mean(first * second)) < 0.05


def test_each_picture_is_signed_by_its_key_and_all_keys_are_computed_alike(signs):
    images, keys = to_float(pictures(4, seed=7)), np.array([3, 0, 7, 3])
    found = signs(tf.constant(images), tf.constant(keys)).numpy()
    hashed = (expected_cells(images) - signs.mean.numpy()) @ signs.components.numpy().astype(float)
    for number, key in enumerate(keys):
        logits = 3 * np.sin(1.5 * hashed[number] @ signs.keys.numpy()[key].astype(float))
        np.testing.assert_allclose(found[number], np.tanh(logits).reshape(10, 10), atol=1e-3)
        by_all = signs.all_logits(signs.content(tf.constant(images)))[number, key]
        np.testing.assert_allclose(by_all, logits, atol=1e-2)


def test_a_fingerprint_s_first_bits_are_the_number_of_its_key():
    codes = np.random.default_rng(0).integers(0, 2, [50, 20])
    expected = [int.from_bytes(np.packbits(code[:5], bitorder='little'), 'little') for code in codes]
    found = key_of(tf.constant(codes, tf.float32), 5).numpy()
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(bits_of_keys(5)[found], codes[:, :5])
    assert not key_of(tf.constant(codes), 0).numpy().any() and bits_of_keys(0).shape == (1, 0)


def test_copies_are_equal(signs):
    images = to_float(pictures(3))
    other = make_signs()
    assert np.abs(signs_of(other, images, 2) - signs_of(signs, images, 2)).max() > 0.1
    other.copy_from(signs)
    np.testing.assert_array_equal(signs_of(other, images, 2), signs_of(signs, images, 2))


def test_a_copy_of_one_key_knows_that_key_alone(signs):
    config = tiny_config('adopted', method='adopted', sign_map=10, sign_frequency=1.5, key_bits=3)
    one, images = ContentSigns('one', config, num_keys=1), to_float(pictures(3))
    one.copy_from(signs, 6)
    np.testing.assert_array_equal(signs_of(one, images), signs_of(signs, images, 6))
    assert one.keys.shape[0] == 1
