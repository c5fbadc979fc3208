import numpy as np
from PIL import Image

from dnnlib.images import grid, save_grid, to_float, to_uint8


def test_uint8_round_trip():
    values = np.arange(256, dtype=np.uint8)
    np.testing.assert_array_equal(to_uint8(to_float(values)), values)
    np.testing.assert_array_equal(to_uint8([-9, -1, 0.0, 1, 9]), [0, 0, 128, 255, 255])
    assert to_float(values).min() == -1 and to_float(values).max() == 1


def test_grid():
    images = np.arange(3, dtype=np.uint8)[:, None, None, None] * np.ones([1, 2, 2, 3], np.uint8)
    tiles = grid(images, 2)
    assert tiles.shape == (4, 4, 3)
    np.testing.assert_array_equal(tiles[::2, ::2, 0], [[0, 1], [2, 0]])


def test_save_grid(tmp_path):
    save_grid(str(tmp_path / 'x.png'), np.full([4, 2, 2, 3], 7, np.uint8), 2, zoom=3)
    with Image.open(tmp_path / 'x.png') as image:
        assert image.size == (12, 12) and image.getpixel((5, 5)) == (7, 7, 7)
