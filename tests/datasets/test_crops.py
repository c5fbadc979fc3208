"""The square cut out of an image for a dataset."""
import numpy as np
import pytest
from PIL import Image

from datasets.crops import celeba_square, centre_square
from dnnlib.images import ImageError

RGB = np.random.RandomState(0).randint(0, 256, [12, 20, 3]).astype(np.uint8)


@pytest.mark.parametrize('height, width, rows, columns', [(16, 16, (0, 16), (0, 16)), (16, 20, (0, 16), (2, 18)),
                                                          (31, 16, (7, 23), (0, 16))])
def test_the_centre_square_is_a_slice_where_nothing_is_resized(height, width, rows, columns):
    pixels = np.random.RandomState(0).randint(0, 256, [height, width, 3]).astype(np.uint8)
    square = centre_square(Image.fromarray(pixels), 16)
    np.testing.assert_array_equal(square, pixels[slice(*rows), slice(*columns)])


def test_resizing_filters_what_is_too_fine():
    """A chequerboard of one-pixel fields becomes flat grey, a ramp stays a ramp."""
    chequers = (np.indices([128, 128]).sum(axis=0) % 2 * 255).astype(np.uint8)
    small = centre_square(Image.fromarray(chequers).convert('RGB'), 16)[2:-2, 2:-2].astype(int)
    assert np.abs(small - 127.5).max() < 3
    ramp = np.tile(np.arange(128, dtype=np.uint8), [128, 1])
    small = centre_square(Image.fromarray(ramp).convert('RGB'), 32)
    np.testing.assert_allclose(small[5, 2:-2, 0], np.arange(2, 30) * 4 + 1.5, atol=1)


def test_small_images_are_skipped_unless_upscaling_is_allowed():
    with pytest.raises(ImageError, match='smaller than 16x16'):
        centre_square(Image.fromarray(RGB), 16)
    assert centre_square(Image.fromarray(RGB), 16, allow_upscale=True).shape == (16, 16, 3)


def test_the_celeba_crop():
    """Oracle: rows 121 ± 64 and columns 89 ± 64 of the array."""
    pixels = np.random.RandomState(0).randint(0, 256, [218, 178, 3]).astype(np.uint8)
    np.testing.assert_array_equal(celeba_square(Image.fromarray(pixels)), pixels[57:185, 25:153])
    assert celeba_square(Image.fromarray(pixels), 32).shape == (32, 32, 3)
    with pytest.raises(ImageError, match='not 178x218'):
        celeba_square(Image.fromarray(pixels[:-1]))
