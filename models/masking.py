"""Texture masking: marks are stronger where a picture is busy, and weaker where it is flat and shows them.

    a(y) = (σ(y) + σ₀) / ‖σ(y) + σ₀‖

with σ the local standard deviation of luma and ‖·‖ the root mean square over the picture, so that every picture carries
as much as it would without. Eyes see a pattern the less, the more contrast lies under it (Legge and Foley 1980), and
so do the features of FID.
"""
import tensorflow as tf

from dnnlib.perturbations.tensors import grey_of
from models.fingerprinted import clip

WINDOW = 5         # a side, in pixels of the size that is read
FLAT = 0.05        # σ₀, on [−1, 1]


def contrast(images, side):
    """σ [N, side, side, 1] of images [N, H, W, 3], H = W a multiple of `side`, averaged down to it."""
    factor = images.shape[1] // side
    luma = tf.nn.avg_pool2d(grey_of(clip(images)), factor, factor, 'VALID')     # [N, side, side, 1]
    mean = tf.nn.avg_pool2d(luma, WINDOW, 1, 'SAME')
    square = tf.nn.avg_pool2d(tf.square(luma), WINDOW, 1, 'SAME')
    return tf.sqrt(tf.maximum(square - tf.square(mean), 1e-8))


def masking(images, side):
    """a(y) [N, side, side, 1] of images [N, H, W, 3]: of mean square 1 in each."""
    busy = contrast(images, side) + FLAT
    return busy * tf.math.rsqrt(tf.reduce_mean(tf.square(busy), axis=[1, 2, 3], keepdims=True))
