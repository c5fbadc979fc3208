"""JPEG in TensorFlow, twice: written out in the graph, with a gradient; and the real codec, its gradient taken as 1.

In the graph stand the steps of a baseline JPEG with chroma at half the resolution, as libjpeg and so Pillow do them
(ITU-T T.81, and T.871 for the colours): what it makes differs from the codec's pictures by rounding alone. Only
rounding has no useful derivative. Its gradient here is that of Shin and Song's smooth rounding (2017),
round(x) + (x − round(x))³: near 0 for a coefficient that is lost, so that a generator learns not to write there.
"""
import numpy as np
import tensorflow as tf

from dnnlib.images import to_uint8_tensor

BLOCK = 8
LUMINANCE = np.array([
    [16, 11, 10, 16, 24, 40, 51, 61], [12, 12, 14, 19, 26, 58, 60, 55], [14, 13, 16, 24, 40, 57, 69, 56],
    [14, 17, 22, 29, 51, 87, 80, 62], [18, 22, 37, 56, 68, 109, 103, 77], [24, 35, 55, 64, 81, 104, 113, 92],
    [49, 64, 78, 87, 103, 121, 120, 101], [72, 92, 95, 98, 112, 100, 103, 99]], np.float32)      # T.81, table K.1
CHROMINANCE = np.array([
    [17, 18, 24, 47, 99, 99, 99, 99], [18, 21, 26, 66, 99, 99, 99, 99], [24, 26, 56, 99, 99, 99, 99, 99],
    [47, 66, 99, 99, 99, 99, 99, 99], *[[99] * 8] * 4], np.float32)                               # T.81, table K.2
RGB_TO_YCC = np.array([[0.299, 0.587, 0.114], [-0.168735892, -0.331264108, 0.5], [0.5, -0.418687589, -0.081312411]])
YCC_TO_RGB = np.array([[1, 0, 1.402], [1, -0.344136286, -0.714136286], [1, 1.772, 0]])           # T.871
DCT = np.array([[np.sqrt((2 if u else 1) / BLOCK) * np.cos((2 * x + 1) * u * np.pi / (2 * BLOCK))
                 for x in range(BLOCK)] for u in range(BLOCK)])                                    # T.81, A.3.3


def rounded(values):
    """The nearest whole number, with the gradient 3 (x − round(x))² of smooth rounding."""
    nearest = tf.stop_gradient(tf.round(values))
    smooth = (values - nearest) ** 3
    return nearest + smooth - tf.stop_gradient(smooth)


def straight(values):
    """The nearest whole number, with gradient 1."""
    return values + tf.stop_gradient(tf.round(values) - values)


def tables(quality):
    """The quantization tables of a quality [N], as libjpeg scales the standard's: two of float32 [N, 8, 8]."""
    quality = tf.clip_by_value(tf.round(quality), 1, 100)[:, None, None]
    scale = tf.where(quality < 50, tf.floor(5000 / quality), 200 - 2 * quality)
    return [tf.clip_by_value(tf.floor((table * scale + 50) / 100), 1, 255) for table in (LUMINANCE, CHROMINANCE)]


def in_graph(images, quality, rounding=rounded):
    """Images [N, H, W, 3] in [−1, 1] as a JPEG of quality [N], 1 to 100 and rounded, brings them back.

    `rounding` is of the coefficients: `rounded`, or `straight` for a gradient that passes as if nothing were lost.
    """
    height, width = images.shape[1:3]
    levels = straight(tf.clip_by_value((images + 1) * 127.5, 0, 255))                # 0..255
    levels = _padded(levels, 2 * BLOCK)                                              # [N, H', W', 3]
    colours = straight(tf.tensordot(levels, tf.constant(RGB_TO_YCC.T, tf.float32), 1)) - [128.0, 0.0, 0.0]
    luminance, chrominance = tables(quality)
    planes = [_coded(colours[..., 0], luminance, rounding)]                           # [N, H', W']
    for channel in (1, 2):
        half = _coded(_halved(colours[..., channel]), chrominance, rounding)          # [N, H'/2, W'/2]
        planes.append(_doubled(half))
    decoded = tf.stack(planes, axis=3) + [128.0, 0.0, 0.0]
    decoded = straight(tf.tensordot(decoded, tf.constant(YCC_TO_RGB.T, tf.float32), 1))
    return tf.clip_by_value(decoded[:, :height, :width], 0, 255) / 127.5 - 1


def codec(images, quality):
    """The same by the real codec, each image by itself; the gradient is taken as 1. On the CPU, and not under XLA."""
    pixels = to_uint8_tensor(images)

    def one(values):
        image, quality = values
        file = tf.raw_ops.EncodeJpegVariableQuality(images=image, quality=quality)
        return tf.io.decode_jpeg(file, channels=3, dct_method='INTEGER_ACCURATE')  # as Pillow decodes

    whole = tf.cast(tf.clip_by_value(tf.round(quality), 1, 100), tf.int32)
    decoded = tf.map_fn(one, (pixels, whole), fn_output_signature=tf.TensorSpec(images.shape[1:], tf.uint8))
    return images + tf.stop_gradient(tf.cast(decoded, tf.float32) / 127.5 - 1 - images)


def _padded(images, multiple):
    """The last row and column repeated until both sides are multiples."""
    for axis in (1, 2):
        size = images.shape[axis]
        index = np.minimum(np.arange(-(-size // multiple) * multiple), size - 1)
        images = images if len(index) == size else tf.gather(images, index, axis=axis)
    return images


def _halved(plane):
    """The rounded mean of each 2×2 pixels: [N, H, W] → [N, H/2, W/2]."""
    return straight(tf.nn.avg_pool2d(plane[..., None], 2, 2, 'VALID')[..., 0])


def _doubled(plane):
    """Twice as large by weights of 3/4 and 1/4, as libjpeg's "fancy upsampling": [N, H, W] → [N, 2H, 2W]."""
    rows, columns = (tf.constant(_doubling(size)) for size in plane.shape[1:3])
    return straight(tf.matmul(tf.matmul(rows[None], plane), columns[None], transpose_b=True))


def _doubling(size):
    """[2 · size, size]: each pixel between two takes 3/4 of the nearer; at the edge, all of the one there is."""
    index = np.arange(2 * size)
    near = index // 2
    far = np.clip(near + np.where(index % 2, 1, -1), 0, size - 1)
    pixels = np.eye(size, dtype=np.float32)
    return 0.75 * pixels[near] + 0.25 * pixels[far]


def _coded(plane, table, rounding):
    """A plane [N, H, W] around 0 in blocks of 8×8: transformed, quantized by `table` [N, 8, 8], transformed back."""
    height, width = plane.shape[1:3]
    blocks = tf.reshape(plane, [-1, height // BLOCK, BLOCK, width // BLOCK, BLOCK])
    blocks = tf.transpose(blocks, [0, 1, 3, 2, 4])                                    # [N, H/8, W/8, 8, 8]
    dct = tf.constant(DCT, tf.float32)
    coefficients = tf.matmul(dct, tf.matmul(blocks, dct, transpose_b=True))
    table = table[:, None, None]
    coefficients = rounding(coefficients / table) * table
    blocks = tf.matmul(dct, tf.matmul(coefficients, dct), transpose_a=True)
    plane = tf.reshape(tf.transpose(blocks, [0, 1, 3, 2, 4]), [-1, height, width])
    return tf.clip_by_value(straight(plane), -128, 127)
