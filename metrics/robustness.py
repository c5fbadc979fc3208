"""Robustness: bit accuracy on files after cropping, blurring, JPEG compression, noise, and all of them together.

The perturbations of Yu et al. 2022 (arXiv 2012.08726), as the world applies them: to 8-bit pictures, by Pillow, saved
and read again. What a decoder was trained against plays no part in it.
"""
import dataclasses
import io
from typing import Callable

import numpy as np
from PIL import Image, ImageFilter

from dnnlib.images import to_float, to_uint8
from fingerprints.statistics import accuracy_interval
from metrics.base import generate_images, metric, number_of_images
from metrics.bit_accuracy import RATES, attributable, check_decoder, read_bits

DEFAULT_IMAGES = 500


def crop(image, side, rng):
    """A random square with `side` times the picture's side, resized back to it (bicubic)."""
    size = max(1, round(side * image.width))
    left, top = rng.integers(0, image.width - size + 1, 2)
    return image.crop((left, top, left + size, top + size)).resize(image.size, Image.Resampling.BICUBIC)


def blur(image, sigma, rng):
    """A Gaussian blur with a standard deviation of `sigma` pixels."""
    return image.filter(ImageFilter.GaussianBlur(sigma))


def jpeg(image, quality, rng):
    """A JPEG file with Pillow's defaults: chroma at half the resolution."""
    return _saved(image, format='JPEG', quality=int(quality))


def noise(image, deviation, rng):
    """Gaussian noise per pixel and channel; `deviation` is a share of the full range from black to white."""
    pixels = np.asarray(image, np.float32) + rng.normal(0, 255 * deviation, [image.height, image.width, 3])
    return Image.fromarray(np.clip(np.rint(pixels), 0, 255).astype(np.uint8))


def combination(image, strength, rng):
    """Crop, blur, noise and JPEG one after the other; at strength 1: 90% of the side, σ 0.5, 0.02, quality 75."""
    image = crop(image, 1 - 0.1 * strength, rng)
    image = blur(image, 0.5 * strength, rng)
    image = noise(image, 0.02 * strength, rng)
    return jpeg(image, 100 - 25 * strength, rng)


def _saved(image, **options):
    """The picture as a file brings it back; PNG if `options` don't say otherwise."""
    file = io.BytesIO()
    image.save(file, **{'format': 'PNG', **options})
    return Image.open(file).convert('RGB')


@dataclasses.dataclass(frozen=True)
class Perturbation:
    """A function (image, strength, rng) -> image of Pillow's, its strengths from weak to strong, and their name."""
    apply: Callable
    parameter: str
    strengths: tuple


PERTURBATIONS = {
    'none': Perturbation(lambda image, strength, rng: image, '', (0,)),
    'crop': Perturbation(crop, 'side', (0.95, 0.9, 0.8, 0.7, 0.5)),
    'blur': Perturbation(blur, 'sigma', (0.5, 1.0, 1.5, 2.0, 3.0)),
    'jpeg': Perturbation(jpeg, 'quality', (95, 90, 75, 50, 25)),
    'noise': Perturbation(noise, 'deviation', (0.01, 0.02, 0.05, 0.1, 0.2)),
    'combination': Perturbation(combination, 'strength', (0.25, 0.5, 1.0, 1.5, 2.0)),
}


def perturb(name, strength, images, rng):
    """Applies a perturbation to uint8 images [N, H, W, 3], saves and reads them; returns as many of the same shape."""
    apply = PERTURBATIONS[name].apply
    return np.stack([np.asarray(_saved(apply(Image.fromarray(image), strength, rng))) for image in images])


@metric('robustness')
def robustness(model, dataset, options):
    """Draws latents and fingerprints, generates, perturbs, saves, and reads the bits from the files.

    Returns:
        value: the mean over all perturbed points of the curves, 'none' left out.
        curves: {perturbation: [{strength's name: strength, bit_accuracy, interval (95%, over images), attributable: as
            bit_accuracy's}]}, from weak to strong.

    Raises:
        UserError: the model has no decoder, or its answers are not finite.
    """
    check_decoder('robustness', model)
    count = number_of_images('robustness', options, DEFAULT_IMAGES)
    points = [(name, strength) for name, kind in PERTURBATIONS.items() for strength in kind.strengths]
    rngs = {point: np.random.default_rng([options.seed, index]) for index, point in enumerate(points)}
    right = {point: [] for point in points}
    for images, fingerprints in generate_images(model, count, options.seed, 'robustness'):
        pictures = to_uint8(images)
        for point in points:
            bits = read_bits(model, to_float(perturb(*point, pictures, rngs[point])))
            right[point].append(bits == fingerprints)
    curves = {name: [] for name in PERTURBATIONS}
    for (name, strength), batches in right.items():
        parameter = PERTURBATIONS[name].parameter
        curves[name].append({**({parameter: strength} if parameter else {}), **_point(np.concatenate(batches))})
    perturbed = [point['bit_accuracy'] for name, curve in curves.items() if name != 'none' for point in curve]
    return {'value': float(np.mean(perturbed)), 'curves': curves, 'bits': model.fingerprint_bits, 'images': count}


def _point(right):
    count, bits = right.shape
    return {'bit_accuracy': float(right.mean()), 'interval': accuracy_interval(right.mean(axis=1), bits),
            'attributable': {f'{fpr:.0e}': attributable(right.sum(axis=1), bits, fpr) for fpr in RATES}}
