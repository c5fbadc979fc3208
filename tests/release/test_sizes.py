"""Pictures of other sizes than the model's: how each way sees them, against what was drawn."""
import numpy as np
import pytest
from PIL import Image

from dnnlib.images import ImageError
from release.alignments import AS_IT_IS
from release.sizes import fitted, without_border


def smooth(width, height):
    """A picture whose values change so slowly that scaling keeps them: red from left to right, green downwards."""
    across, down = np.meshgrid((np.arange(width) + 0.5) / width, (np.arange(height) + 0.5) / height)
    return np.rint(255 * np.stack([across, down, 0 * across], axis=2)).astype(np.uint8)


def test_a_picture_of_the_models_size_is_taken_as_it_is():
    image = np.random.default_rng(0).integers(0, 256, [16, 16, 3]).astype(np.uint8)
    image[:3] = 0  # a border is left where it is
    ways = fitted(Image.fromarray(image), 16)
    assert list(ways) == [AS_IT_IS]
    np.testing.assert_array_equal(ways[AS_IT_IS], image)


@pytest.mark.parametrize('side', [8, 12, 33, 100])
def test_a_square_is_scaled_as_a_whole(side):
    ways = fitted(Image.fromarray(smooth(side, side)), 16)
    assert list(ways) == ['resized']
    np.testing.assert_allclose(ways['resized'][2:-2, 2:-2], smooth(16, 16)[2:-2, 2:-2], atol=4)


def test_a_wide_picture_is_scaled_and_its_centre_is_too():
    image = smooth(64, 32)
    ways = fitted(Image.fromarray(image), 16)
    assert list(ways) == ['resized', 'centre square, resized']
    np.testing.assert_allclose(ways['resized'][2:-2, 2:-2], smooth(16, 16)[2:-2, 2:-2], atol=4)
    expected = image[:, 16:48].reshape(16, 2, 16, 2, 3).mean(axis=(1, 3))
    np.testing.assert_allclose(ways['centre square, resized'][2:-2, 2:-2], expected[2:-2, 2:-2], atol=4)


@pytest.mark.parametrize('colour', [0, 255])
@pytest.mark.parametrize('box', [(0, 10, 40, 50), (7, 0, 47, 40), (3, 4, 43, 44)])
def test_a_border_of_one_colour_is_trimmed_to_the_pixel(box, colour):
    """With a JPEG's deviations in the border; within, nothing is like it. The model's size: nothing is scaled."""
    rng = np.random.default_rng(1)
    content = rng.integers(90, 160, [40, 40, 3]).astype(np.uint8)
    image = np.clip(colour + rng.integers(-8, 9, [60, 50, 3]), 0, 255).astype(np.uint8)
    left, top, right, bottom = box
    image[top:bottom, left:right] = content
    assert without_border(image) == box
    np.testing.assert_array_equal(fitted(Image.fromarray(image), 40)['borders trimmed, resized'], content)


def test_there_is_no_border_in_one_colour_or_in_noise():
    assert without_border(np.full([20, 30, 3], 7, np.uint8)) is None
    assert without_border(np.random.default_rng(2).integers(0, 256, [20, 30, 3]).astype(np.uint8)) is None
    speck = np.zeros([40, 30, 3], np.uint8)
    speck[20, 10] = 255
    assert list(fitted(Image.fromarray(speck), 16)) == ['resized', 'centre square, resized']  # a pixel is no picture


@pytest.mark.parametrize('size, ok', [((8, 8), True), ((7, 8), False), ((100, 7), False), ((8, 900), True)])
def test_below_half_of_the_models_side_is_refused_with_the_reason(size, ok):
    image = Image.fromarray(smooth(*size))
    if ok:
        assert all(way.shape == (16, 16, 3) for way in fitted(image, 16).values())
    else:
        with pytest.raises(ImageError, match=f"is {size[0]}x{size[1]}, less than half the side of the model's 16x16"):
            fitted(image, 16)


def test_nothing_aliases():
    """Stripes finer than the model's pixels become grey, as they would not by picking pixels."""
    stripes = np.zeros([64, 64, 3], np.uint8)
    stripes[:, ::2] = 255
    np.testing.assert_allclose(fitted(Image.fromarray(stripes), 16)['resized'], 127, atol=12)
