import json

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from dnnlib.images import to_uint8
from dnnlib.util import UserError
from metrics.base import Model, Options, run_metric
from metrics.robustness import PERTURBATIONS, perturb

BITS = 16


def pictures(count=4, size=32):
    """Smooth colour pictures, uint8 [N, size, size, 3]."""
    values = np.random.default_rng(0).normal(size=[count, size, size, 3])
    return to_uint8(np.stack([ndimage.gaussian_filter(image, [2, 2, 0]) * 4 for image in values]))


def rng():
    return np.random.default_rng(1)


@pytest.mark.parametrize('name', list(PERTURBATIONS))
def test_each_strength_harms_more_than_the_one_before(name):
    images = pictures()
    errors = []
    for strength in PERTURBATIONS[name].strengths:
        perturbed = perturb(name, strength, images, rng())
        assert perturbed.dtype == np.uint8 and perturbed.shape == images.shape
        np.testing.assert_array_equal(perturbed, perturb(name, strength, images, rng()))
        errors.append(np.abs(perturbed.astype(float) - images).mean())
    if name == 'none':
        assert errors == [0]
    elif name == 'crop':  # where the crop lies is random, and so is the error
        assert min(errors) > 1 and errors[-1] > errors[0]
    else:
        assert 0 < errors[0] and errors == sorted(errors)


def test_a_crop_is_a_part_of_the_picture_at_full_size():
    ramp = np.broadcast_to(np.arange(64, dtype=np.uint8)[None, None, :, None] * 2, [8, 64, 64, 3]).copy()
    perturbed = perturb('crop', 0.5, ramp, rng())[:, :, :, 0].astype(float)
    np.testing.assert_allclose(perturbed[:, 5, 10:54], perturbed[:, 40, 10:54])
    steps = np.diff(perturbed[:, 5, 10:54], axis=1)
    np.testing.assert_allclose(steps.mean(axis=1), 1, atol=0.05)  # half of the slope: twice the size
    lefts = perturbed[:, 5, 0]
    assert len(set(lefts)) > 3 and lefts.min() >= 0 and lefts.max() <= 64 + 2


@pytest.mark.parametrize('sigma', [0.5, 1.5, 3.0])
def test_blur_is_nearly_scipys_gaussian(sigma):
    images = pictures()
    expected = [ndimage.gaussian_filter(image.astype(float), [sigma, sigma, 0], mode='nearest') for image in images]
    error = np.abs(perturb('blur', sigma, images, rng()) - np.stack(expected))
    assert error.mean() < 2  # Pillow's is a sum of boxes


def test_noise_has_the_deviation_it_says():
    grey = np.full([4, 64, 64, 3], 128, np.uint8)
    added = perturb('noise', 0.05, grey, rng()).astype(float) - 128
    assert added.std() == pytest.approx(0.05 * 255, rel=0.03) and abs(added.mean()) < 0.5
    assert np.corrcoef(added[..., 0].ravel(), added[..., 1].ravel())[0, 1] == pytest.approx(0, abs=0.05)


def test_jpeg_is_that_of_a_saved_file(tmp_path):
    images = pictures(2)
    for image, perturbed in zip(images, perturb('jpeg', 50, images, rng())):
        Image.fromarray(image).save(tmp_path / 'a.jpg', quality=50)
        np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / 'a.jpg')), perturbed)


def make_model(decode=True):
    """Bit i is how bright the i-th of 16 squares is: what blur and JPEG leave alone and a crop does not."""
    def generate(latents, fingerprints):
        squares = (fingerprints.reshape(-1, 4, 4, 1) * 2 - 1) * np.float32(0.3)
        return np.broadcast_to(squares.repeat(8, 1).repeat(8, 2), [len(latents), 32, 32, 3]).copy()

    def read(images):
        return images.mean(axis=3).reshape(-1, 4, 8, 4, 8).mean(axis=(2, 4)).reshape(-1, BITS)
    return Model(generate, read if decode else None, 6, BITS, 32, 16)


def test_curves_of_a_model_whose_weakness_is_known():
    record = run_metric('robustness', make_model(), None, Options(num_images=40))
    assert {name: len(curve) for name, curve in record['curves'].items()} == {
        name: len(kind.strengths) for name, kind in PERTURBATIONS.items()}
    for name in ('none', 'blur', 'jpeg', 'noise'):
        assert all(point['bit_accuracy'] > 0.99 for point in record['curves'][name]), name
    crops = record['curves']['crop']
    assert [point['side'] for point in crops] == [0.95, 0.9, 0.8, 0.7, 0.5]
    assert crops[0]['bit_accuracy'] > 0.95 > 0.8 > crops[-1]['bit_accuracy'] > 0.4
    points = [point['bit_accuracy'] for name, curve in record['curves'].items() if name != 'none' for point in curve]
    assert record['value'] == pytest.approx(np.mean(points))
    whole = record['curves']['none'][0]
    assert whole['attributable']['1e-03'] == {'threshold': 15, 'share': 1.0, 'interval': whole['interval']}
    assert record == {**run_metric('robustness', make_model(), None, Options(num_images=40)),
                      **{key: record[key] for key in ('seconds', 'time')}}
    json.dumps(record)


def test_without_a_decoder():
    with pytest.raises(UserError, match='robustness needs a decoder'):
        run_metric('robustness', make_model(decode=False), None, Options(num_images=4))
