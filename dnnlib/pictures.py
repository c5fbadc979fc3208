"""Pictures for people to look at: grids of images, and rows of tiles with labels, captions. NumPy and Pillow only."""
import numpy as np
from PIL import Image, ImageDraw

from dnnlib.util import atomic_file

LABEL = 96    # pixels of width for the labels on the left
CAPTION = 16  # pixels of height for a caption below a tile


def tile_zoom(resolution, size=96):
    """How often to repeat a pixel so that an image of `resolution` pixels a side is shown at about `size`."""
    return max(1, size // resolution)


def enlarge(image, zoom):
    """Repeats each pixel of an image [H, W, C] `zoom` times each way."""
    return np.asarray(image).repeat(zoom, axis=0).repeat(zoom, axis=1)


def grid(images, columns):
    """Tiles uint8 images [N, H, W, 3] row by row into one [rows·H, columns·W, 3]; missing tiles are black."""
    images = np.asarray(images)
    count, height, width, channels = images.shape
    rows = -(-count // columns)
    tiles = np.zeros((rows * columns, height, width, channels), np.uint8)
    tiles[:count] = images
    return tiles.reshape(rows, columns, height, width, channels).swapaxes(1, 2).reshape(
        rows * height, columns * width, channels)


def save_grid(path, images, columns, zoom=1):
    """Saves uint8 images [N, H, W, 3] as one PNG grid, each pixel repeated `zoom` times each way."""
    save_png(path, Image.fromarray(enlarge(grid(images, columns), zoom)))


def save_png(path, image):
    """Saves a Pillow image as a PNG that is whole or not there."""
    with atomic_file(path, 'wb') as file:
        image.save(file, format='PNG')


def labelled_rows(rows, labels, captions=None, zoom=1):
    """Lays out rows of tiles, each row with a label on its left, on white.

    Args:
        rows: per row its uint8 images [H, W, 3], all of one size; rows may differ in length.
        labels: a text per row, LABEL pixels wide at most.
        captions: per row a text per image, which is written below it; None for no captions.
        zoom: how often each pixel is repeated each way.

    Returns:
        A Pillow image, LABEL + columns · W · zoom pixels wide; a row is H · zoom pixels high, and CAPTION more with
        captions.
    """
    height, width = (zoom * side for side in np.asarray(rows[0][0]).shape[:2])
    pitch = height + (CAPTION if captions else 0)
    canvas = Image.new('RGB', (LABEL + max(map(len, rows)) * width, len(rows) * pitch), 'white')
    pen = ImageDraw.Draw(canvas)
    for number, (row, label) in enumerate(zip(rows, labels)):
        top = number * pitch
        pen.text((6, top + height // 2 - 6), _writable(label), fill='black')
        for column, image in enumerate(row):
            left = LABEL + column * width
            canvas.paste(Image.fromarray(enlarge(image, zoom)), (left, top))
            if captions:
                pen.text((left + 4, top + height + 1), _writable(captions[number][column]), fill='black')
    return canvas


def _writable(text):
    """The text in the characters that Pillow's built-in font has."""
    return text.replace('−', '-').replace('×', 'x')


def residual(first, second, amplification):
    """The difference of two uint8 images, amplified, around grey: uint8 of the same shape."""
    difference = np.asarray(first, np.float32) - np.asarray(second, np.float32)
    return np.clip(127.5 + difference * amplification, 0, 255).astype(np.uint8)
