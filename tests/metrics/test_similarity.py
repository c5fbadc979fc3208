import numpy as np
import pytest

from metrics.similarity import psnr, squared_error, ssim


def ramp():
    """A colour ramp, uint8 [24, 24, 3]."""
    return (np.add.outer(np.arange(24), 2 * np.arange(24))[..., None] + [0, 40, 90]).astype(np.uint8)


def degraded():
    """{name: (a version of `ramp`, SSIM to it)}, the values by scikit-image 0.26.0: structural_similarity(a, b,
    gaussian_weights=True, sigma=1.5, use_sample_covariance=False, data_range=255, channel_axis=-1)."""
    wide, noise = ramp().astype(int), np.random.default_rng(0).integers(-30, 31, [24, 24, 3])
    return {'noise': (np.clip(wide + noise, 0, 255), 0.22504216978974093),
            'darker': (np.clip(wide - 25, 0, 255), 0.7823123630530752),
            'inverted': (255 - wide, 0.29695990469879624),
            'shifted': (np.roll(wide, 3, axis=1), 0.9288506637969979)}


@pytest.mark.parametrize('name', list(degraded()))
def test_ssim_is_that_of_scikit_image(name):
    other, expected = degraded()[name]
    measured = ssim(np.stack([ramp(), ramp()]), np.stack([other.astype(np.uint8), ramp()]))
    np.testing.assert_allclose(measured, [expected, 1], rtol=1e-9)


def test_ssim_of_one_window_by_its_definition():
    """Wang et al. 2004, equations 12 to 16, on 11×11 pictures: there is one window, which is all of it."""
    a, b = np.random.default_rng(1).integers(0, 256, [2, 11, 11, 1], np.uint8)
    offsets = np.arange(-5, 6)
    weights = np.exp(-np.add.outer(offsets ** 2, offsets ** 2) / (2 * 1.5 ** 2))
    weights = (weights / weights.sum())[..., None]
    mean_a, mean_b = (weights * a).sum(), (weights * b).sum()
    spread_a, spread_b = (weights * (a - mean_a) ** 2).sum(), (weights * (b - mean_b) ** 2).sum()
    together = (weights * (a - mean_a) * (b - mean_b)).sum()
    expected = ((2 * mean_a * mean_b + 6.5025) * (2 * together + 58.5225)
                / ((mean_a ** 2 + mean_b ** 2 + 6.5025) * (spread_a + spread_b + 58.5225)))
    np.testing.assert_allclose(ssim(a[None], b[None]), [expected], rtol=1e-9)


def test_ssim_of_flat_pictures_and_of_small_ones():
    flat = np.full([1, 16, 16, 3], 100, np.uint8)
    np.testing.assert_allclose(ssim(flat, flat + 50), (2 * 100 * 150 + 6.5025) / (100 ** 2 + 150 ** 2 + 6.5025))
    assert ssim(flat[:, :10], flat[:, :10]) is None


def test_psnr_by_hand():
    black, white = np.zeros([2, 4, 4, 3], np.uint8), np.full([2, 4, 4, 3], 255, np.uint8)
    assert squared_error(black, white) == 255 ** 2 and psnr(255 ** 2) == 0
    assert psnr(squared_error(black, black + np.uint8(1))) == pytest.approx(48.1308, abs=1e-4)
    assert squared_error(white, white) == 0 and psnr(0.0) is None
