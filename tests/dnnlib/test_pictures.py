"""Grids and labelled rows of tiles."""
import numpy as np
import pytest
from PIL import Image

from dnnlib.pictures import CAPTION, LABEL, grid, labelled_rows, residual, save_grid, tile_zoom


def test_grid():
    images = np.arange(3, dtype=np.uint8)[:, None, None, None] * np.ones([1, 2, 2, 3], np.uint8)
    tiles = grid(images, 2)
    assert tiles.shape == (4, 4, 3)
    np.testing.assert_array_equal(tiles[::2, ::2, 0], [[0, 1], [2, 0]])


def test_save_grid(tmp_path):
    save_grid(str(tmp_path / 'x.png'), np.full([4, 2, 2, 3], 7, np.uint8), 2, zoom=3)
    with Image.open(tmp_path / 'x.png') as image:
        assert image.size == (12, 12) and image.getpixel((5, 5)) == (7, 7, 7)


@pytest.mark.parametrize('zoom', [1, 3])
def test_labelled_rows(zoom):
    images = np.random.default_rng(0).integers(0, 256, [5, 20, 32, 3]).astype(np.uint8)
    canvas = labelled_rows([images[:3], images[3:]], ['three', 'two'], zoom=zoom)
    pixels = np.asarray(canvas)
    assert pixels.shape == (2 * 20 * zoom, LABEL + 3 * 32 * zoom, 3)
    tiles = pixels[:, LABEL:][zoom // 2::zoom, zoom // 2::zoom].reshape(2, 20, 3, 32, 3).swapaxes(1, 2)
    np.testing.assert_array_equal(tiles[0], images[:3])
    np.testing.assert_array_equal(tiles[1, :2], images[3:])
    assert (tiles[1, 2] == 255).all() and pixels[:, :LABEL].min() < 99


def test_captions_are_below_the_tiles():
    images = np.zeros([2, 20, 32, 3], np.uint8)
    pixels = np.asarray(labelled_rows([images], ['×'], [['one', '']]))
    below = pixels[20:, LABEL:]
    assert pixels.shape == (20 + CAPTION, LABEL + 64, 3)
    assert below[:, :32].min() < 100 and below[:, 32:].min() == 255


def test_residual():
    first = np.full([2, 2, 3], 100, np.uint8)
    second = first.copy()
    second[0, 0], second[0, 1], second[1, 0] = 98, 103, 0
    np.testing.assert_array_equal(residual(first, second, 4)[..., 0], [[135, 115], [255, 127]])


def test_tile_zoom():
    assert [tile_zoom(side) for side in (16, 32, 96, 128)] == [6, 3, 1, 1]
