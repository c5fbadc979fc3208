"""Bit accuracy: the share of fingerprint bits read back from the images; the value is that on saved PNG files."""
import os
import tempfile

import numpy as np
from PIL import Image

from dnnlib.images import to_float, to_uint8
from dnnlib.util import UserError, naming
from fingerprints.statistics import accuracy_interval, accuracy_p_value, clopper_pearson, threshold
from metrics.base import generate_images, metric, number_of_images

DEFAULT_IMAGES = 1000
RATES = (1e-3, 1e-6)


@metric('bit_accuracy')
def bit_accuracy(model, dataset, options):
    """Draws latents and fingerprints, generates, and reads the bits from float, uint8 and saved PNG images.

    Returns:
        value: the mean bit accuracy on PNG; likewise float, uint8, png.
        interval: the 95% confidence interval of the value, over images.
        p_value: as Yu et al. 2022 print it beside a mean bit accuracy: the chance that coin tosses get more bits right.
        per_bit: {min, mean, max} over the bits of each bit's accuracy on PNG.
        attributable: for each false-positive rate, the threshold in bits for a single user, the share of PNG images
            that reach it and that share's 95% interval; null where all bits would not suffice.

    Raises:
        UserError: the model has no decoder, or its answers are not finite.
    """
    check_decoder('bit_accuracy', model)
    count = number_of_images('bit_accuracy', options, DEFAULT_IMAGES)
    right = {kind: [] for kind in ('float', 'uint8', 'png')}
    with tempfile.TemporaryDirectory() as folder:
        for images, fingerprints in generate_images(model, count, options.seed, 'bit accuracy'):
            rounded = to_uint8(images)
            forms = {'float': images, 'uint8': to_float(rounded), 'png': to_float(through_png(rounded, folder))}
            for kind, form in forms.items():
                right[kind].append(read_bits(model, form) == fingerprints)
    right = {kind: np.concatenate(batches) for kind, batches in right.items()}
    return _summary(right)


def check_decoder(name, model):
    """Raises UserError where the metric `name` is asked of a model without a decoder."""
    if model.decode is None:
        raise UserError(f'{name} needs a decoder and this model has none; measure fid, or a fingerprinted model')


def through_png(images, folder):
    """Saves uint8 images [N, H, W, 3] as PNG files in `folder`, and returns what reading the files gives."""
    paths = [os.path.join(folder, f'{index}.png') for index in range(len(images))]
    for path, image in zip(paths, images):
        with naming(path):
            Image.fromarray(image).save(path)
    read = []
    for path in paths:
        with Image.open(path) as image:
            read.append(np.asarray(image))
    return np.stack(read)


def read_bits(model, images):
    """The bits [N, bits], as bool, that the decoder reads from images [N, H, W, 3] float32 in [-1, 1].

    Raises:
        UserError: an answer is not finite.
    """
    logits = np.asarray(model.decode(images))
    if not np.isfinite(logits).all():
        raise UserError('the decoder answered with values that are not finite; use an earlier snapshot')
    return logits > 0


def _summary(right):
    """The result from which bits were read right, {kind: bool [N, bits]}."""
    png = right['png']
    count, bits = png.shape
    value, per_bit = float(png.mean()), png.mean(axis=0)
    return {
        'value': value, **{kind: float(matrix.mean()) for kind, matrix in right.items()},
        'interval': accuracy_interval(png.mean(axis=1), bits), 'p_value': accuracy_p_value(value, bits),
        'per_bit': {'min': float(per_bit.min()), 'mean': float(per_bit.mean()), 'max': float(per_bit.max())},
        'attributable': {f'{fpr:.0e}': attributable(png.sum(axis=1), bits, fpr) for fpr in RATES},
        'bits': bits, 'images': count}


def attributable(matching, bits, fpr, num_users=1):
    """{threshold: the bits that name a user among `num_users` at this false-positive rate, share: of images with as
    many, interval}.

    `matching` is each image's number of bits read right, [N]. None where all bits would not suffice.
    """
    needed = threshold(bits, num_users, fpr)
    if needed is None:
        return None
    reached = int((matching >= needed).sum())
    return {'threshold': needed, 'share': reached / len(matching), 'interval': clopper_pearson(reached, len(matching))}
