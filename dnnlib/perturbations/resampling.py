"""Images moved, scaled and blurred: as matrices over rows and columns, one of each per image, in TensorFlow.

Scaling and blurring are linear and separable: an image X becomes R · X · Cᵀ. So every image of a batch may have its own
place and strength at the price of two batched matrix products, with exact gradients, compiled by XLA too.
"""
import numpy as np
import tensorflow as tf


def transform(images, rows, columns):
    """R · X · Cᵀ for each image and channel.

    Args:
        images: X, [N, H, W, 3].
        rows: R, [N, h, H].
        columns: C, [N, w, W].

    Returns: [N, h, w, 3].
    """
    planes = tf.transpose(images, [0, 3, 1, 2])                                             # [N, 3, H, W]
    planes = tf.matmul(tf.matmul(rows[:, None], planes), columns[:, None], transpose_b=True)  # [N, 3, h, w]
    return tf.transpose(planes, [0, 2, 3, 1])


def triangle(x):
    """The kernel of bilinear interpolation."""
    return tf.maximum(1 - tf.abs(x), 0)


def cubic(x):
    """The kernel of bicubic interpolation with a = −1/2 (Keys, 1981), which Pillow has."""
    x = tf.abs(x)
    near = (1.5 * x - 2.5) * x * x + 1
    far = ((-0.5 * x + 2.5) * x - 4) * x + 2
    return tf.where(x < 1, near, tf.where(x < 2, far, 0.0))


def resize_matrices(size, start, length, count, limit, kernel, beyond=False):
    """Matrices that take the pixels from `start` to `start + length` to `count` pixels, as Pillow's resize does.

    A kernel that shrinks is stretched as far, which averages what would alias; its weights add up to 1.

    Args:
        size: how many pixels there are. limit: how many rows the matrices get; those from `count` on are zero.
        start, length: float32 [N]. count: whole numbers as float32 [N].
        kernel: triangle or cubic.
        beyond: whether pixels outside of the part count where the kernel reaches them, as with Pillow's `box`; `start`
            and `length` are whole numbers else.

    Returns: float32 [N, limit, size].
    """
    start, length, count = (value[:, None, None] for value in (start, length, count))
    scale = length / count
    row = tf.range(limit, dtype=tf.float32)[None, :, None]
    column = tf.range(size, dtype=tf.float32)[None, None, :]
    centre = start + (row + 0.5) * scale
    weights = kernel((column + 0.5 - centre) / tf.maximum(scale, 1.0))                      # [N, limit, size]
    used = (column >= start) & (column < start + length) | beyond
    weights = tf.where(used & (row < count), weights, 0.0)
    return tf.math.divide_no_nan(weights, tf.reduce_sum(weights, axis=2, keepdims=True))


def crop(images, sides, places):
    """The part of each image whose side is `sides` of the image's, scaled back to full size, bilinear.

    Args:
        images: [N, H, W, 3].
        sides: shares of the side, [N]; the part is a whole number of pixels, 1 at least.
        places: from 0, the upper and left end, to 1, [N, 2].
    """
    matrices = []
    for axis, size in enumerate(images.shape[1:3]):
        length = tf.maximum(tf.round(sides * size), 1.0)                                    # [N]
        start = tf.minimum(tf.floor(places[:, axis] * (size - length + 1)), size - length)  # [N]
        matrices.append(_enlarging(size, start, length))
    return transform(images, *matrices)


def _enlarging(size, start, length, beyond=False):
    full = tf.fill(tf.shape(length), float(size))
    return resize_matrices(size, start, length, full, size, triangle, beyond)               # [N, size, size]


def registered_crop(images, sides, places):
    """As crop, but from between the pixels; then scaled down, bicubic, to the nearest whole pixels that it came from.

    Its edge is repeated around it. Arguments as in `crop`.
    """
    matrices = []
    for axis, size in enumerate(images.shape[1:3]):
        length = tf.maximum(sides * size, 1.0)                                              # [N]
        start = places[:, axis] * (size - length)                                           # [N]
        near = tf.round(length)                                                             # [N]
        near_start = tf.minimum(tf.round(start), size - near)                               # [N]
        zero, full = tf.zeros_like(near), tf.fill(tf.shape(near), float(size))
        back = resize_matrices(size, zero, full, near, size, cubic)                         # [N, size, size]
        row = tf.clip_by_value(tf.range(size, dtype=tf.float32) - near_start[:, None], 0.0, near[:, None] - 1)
        placed = tf.gather(back, tf.cast(row, tf.int32), batch_dims=1)                      # [N, size, size]
        matrices.append(tf.matmul(placed, _enlarging(size, start, length, beyond=True)))
    return transform(images, *matrices)


def there_and_back(images, sides, largest, kernel):
    """Scales each image to `sides` of its side, [N], at most `largest`, and back to its size."""
    matrices = []
    for size in images.shape[1:3]:
        count = tf.maximum(tf.round(sides * size), 1.0)                                     # [N]
        limit = int(np.ceil(largest * size))
        start, full = tf.zeros_like(count), tf.fill(tf.shape(count), float(size))
        there = resize_matrices(size, start, full, count, limit, kernel)                    # [N, limit, size]
        back = resize_matrices(limit, start, count, full, size, kernel)                     # [N, size, limit]
        matrices.append(tf.matmul(back, there))
    return transform(images, *matrices)


def gaussian_blur(images, sigmas, radii, border):
    """A Gaussian blur of each image.

    Args:
        images: [N, H, W, 3].
        sigmas: standard deviations in pixels, [N]; at 0 the image stays as it is.
        radii: how many pixels on each side the kernel has, [N], less than the image has.
        border: 'reflect' (without the edge pixel twice, OpenCV's default) or 'nearest' (Pillow's).
    """
    return transform(images, *(_blur_matrices(size, sigmas, radii, border) for size in images.shape[1:3]))


def _blur_matrices(size, sigmas, radii, border):
    """[N, size, size]: a matrix over the picture and as much again on both sides, folded back onto it."""
    sigmas, radii = sigmas[:, None, None], radii[:, None, None]
    distance = (tf.range(3 * size, dtype=tf.float32)[None, None, :] - size
                - tf.range(size, dtype=tf.float32)[None, :, None])                          # [1, size, 3 · size]
    spread = tf.exp(-0.5 * tf.square(distance / tf.maximum(sigmas, 1e-3)))
    weights = tf.where(tf.abs(distance) <= radii, spread, 0.0)
    weights /= tf.reduce_sum(weights, axis=2, keepdims=True)
    return tf.tensordot(weights, tf.constant(_folding(size, border)), 1)


def _folding(size, border):
    """[3 · size, size] of 0 and 1: which pixel stands for one that lies up to `size` outside."""
    position = np.arange(-size, 2 * size)
    if border == 'nearest':
        source = np.clip(position, 0, size - 1)
    else:
        period = max(2 * (size - 1), 1)
        source = (size - 1) - np.abs((position % period) - (size - 1))
    return (source[:, None] == np.arange(size)).astype(np.float32)


def rotate(images, degrees, outside):
    """Turns each image counter-clockwise about its middle, bilinear, as Pillow's rotate does.

    Args:
        images: [N, H, W, 3].
        degrees: [N].
        outside: the value of what comes from outside.
    """
    height, width = images.shape[1:3]
    angle = (degrees * (np.pi / 180))[:, None]
    y, x = (tf.reshape(axis, [1, -1]) for axis in tf.meshgrid(
        tf.range(height, dtype=tf.float32) + 0.5 - height / 2,
        tf.range(width, dtype=tf.float32) + 0.5 - width / 2, indexing='ij'))                # [1, H · W] each
    source_x = tf.cos(angle) * x - tf.sin(angle) * y + width / 2                            # [N, H · W]
    source_y = tf.sin(angle) * x + tf.cos(angle) * y + height / 2
    inside = (source_x >= 0) & (source_x < width) & (source_y >= 0) & (source_y < height)
    turned = tf.where(inside[:, :, None], _bilinear(images, source_y - 0.5, source_x - 0.5), outside)
    return tf.reshape(turned, tf.shape(images))


def _bilinear(images, y, x):
    """The images' values at positions [N, M] in pixels, of which the first pixel's middle is 0: [N, M, 3]."""
    height, width = images.shape[1:3]
    flat = tf.reshape(images, [-1, height * width, 3])
    top, left = tf.floor(y), tf.floor(x)

    def at(row, column):
        index = tf.clip_by_value(row, 0, height - 1) * width + tf.clip_by_value(column, 0, width - 1)
        return tf.gather(flat, tf.cast(index, tf.int32), batch_dims=1)

    down, right = (y - top)[:, :, None], (x - left)[:, :, None]
    upper = at(top, left) * (1 - right) + at(top, left + 1) * right
    lower = at(top + 1, left) * (1 - right) + at(top + 1, left + 1) * right
    return upper * (1 - down) + lower * down


def quarter_turns(images, turns):
    """Turns each square image counter-clockwise by `turns` [N] times 90 degrees."""
    turns = tf.cast(turns, tf.int32) % 4
    candidates = tf.stack([tf.image.rot90(images, k) for k in range(4)], axis=1)            # [N, 4, H, W, 3]
    return tf.gather(candidates, turns, batch_dims=1)
