"""Between network images (float, [-1, 1]) and pictures (uint8, files, grids). NumPy and Pillow only."""
import numpy as np
from PIL import Image


def to_uint8(images):
    """Rounds images [..., H, W, C] from [-1, 1] to uint8 0..255, clipping what lies outside."""
    return np.clip(np.rint((np.asarray(images, np.float32) + 1) * 127.5), 0, 255).astype(np.uint8)


def to_float(images):
    """Maps uint8 images 0..255 to float32 in [-1, 1]."""
    return np.asarray(images, np.float32) / 127.5 - 1


def to_uint8_tensor(images):
    """`to_uint8` of a TensorFlow tensor."""
    import tensorflow as tf
    return tf.cast(tf.clip_by_value(tf.round((images + 1) * 127.5), 0, 255), tf.uint8)


def to_float_tensor(images):
    """`to_float` of a TensorFlow tensor; one that is float already is returned as it is."""
    import tensorflow as tf
    return tf.cast(images, tf.float32) / 127.5 - 1 if images.dtype == tf.uint8 else images


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
    """Saves uint8 images as one PNG grid, each pixel repeated `zoom` times each way."""
    picture = grid(images, columns).repeat(zoom, axis=0).repeat(zoom, axis=1)
    Image.fromarray(picture).save(path, format='PNG')
