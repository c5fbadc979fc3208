"""Perturbations as the world applies them: to 8-bit pictures, with Pillow and NumPy. What fingerprints are measured on.

What a decoder was trained against plays no part here: tensors.py is written for itself, and a test holds the two
together, row by row. An operation is a function (image, value, rng) -> image of Pillow's RGB images of equal size;
`rng` is a numpy.random.Generator.
"""
import functools
import io
import math

import numpy as np
from PIL import Image, ImageEnhance, ImageFilter, features
from scipy import ndimage

from dnnlib.perturbations.table import (
    COMBINED,
    NONE,
    PAPER,
    REGISTERED_TURN,
    SIGNATURE,
    SIGNATURE_CHAIN,
    TABLE,
    WAVES,
    WAVES_GROUPS,
    blur_sigma,
    value_at,
)
from dnnlib.util import UsageError

BILINEAR, BICUBIC = Image.Resampling.BILINEAR, Image.Resampling.BICUBIC


def perturb(name, value, images, rng):
    """Perturbs pictures.

    Args:
        name: a perturbation of the table, or 'none'.
        value: in the unit that the table says.
        images: uint8 [N, H, W, 3], H = W.
        rng: numpy.random.Generator, of what else is random.

    Returns: uint8 [N, H, W, 3].
    """
    if name == NONE:
        return images
    return np.stack([np.asarray(OPERATIONS[name](Image.fromarray(image), value, rng)) for image in images])


def available(name):
    """Whether this Pillow can do it: it may come without AVIF."""
    return name != 'avif' or features.check('avif')


def check_names(text):
    """The perturbations that a comma-separated text names for measuring, each once: a tuple of names.

    'all' stands for the whole table but for what this Pillow can't write, 'paper', 'waves' and 'signature' for a
    source's rows.

    Raises:
        UsageError: there is no such perturbation, Pillow can't write its format, or no name is given.
    """
    groups = {'all': [name for name in TABLE if available(name)]}
    for group, source in (('paper', PAPER), ('waves', WAVES), ('signature', SIGNATURE)):
        groups[group] = [name for name, row in TABLE.items() if row.source == source]
    asked = [name.strip() for name in text.split(',') if name.strip()]
    names = tuple(dict.fromkeys(name for one in asked for name in groups.get(one, (one,))))
    for name in names:
        if name not in TABLE:
            raise UsageError(f'the perturbation {name!r} does not exist; choose from {", ".join([*groups, *TABLE])}, '
                             'separated by commas')
        if not available(name):
            raise UsageError(f'the perturbation {name!r} needs a Pillow with AVIF; leave it out, or install Pillow '
                             '11.3 or later from PyPI')
    if not names:
        raise UsageError(f'no perturbation is named; choose from {", ".join([*groups, *TABLE])}')
    return names


def crop(image, value, rng):
    return crop_to(image, value / 128, rng.random(2))


def resized_crop(image, value, rng):
    return crop_to(image, math.sqrt(value), rng.random(2))


def centre_crop(image, value, rng):
    return crop_to(image, math.sqrt(value), (0.5, 0.5))


def crop_to(image, side, place):
    """The part with `side` of the picture's side, `place` from 0 (upper, left) to 1, scaled back, bilinear."""
    size = max(1, round(side * image.width))
    top, left = (min(int(share * (image.width - size + 1)), image.width - size) for share in place)
    return image.crop((left, top, left + size, top + size)).resize(image.size, BILINEAR)


def put_back(image, side, top, left):
    """A crop that was scaled to the picture's size where it was in the picture, its edge repeated around it."""
    part = np.asarray(image.resize((side, side), BICUBIC))
    around = [(top, image.height - side - top), (left, image.width - side - left), (0, 0)]
    return Image.fromarray(np.pad(part, around, mode='edge'))


def registered_crop(image, value, rng):
    """A crop from between the pixels, put back at the nearest whole ones: what a search for its place finds."""
    side = value / 128 * image.width
    top, left = (share * (image.width - side) for share in rng.random(2))
    part = image.resize(image.size, BILINEAR, box=(left, top, left + side, top + side))
    near = round(side)
    return put_back(part, near, *(min(round(start), image.width - near) for start in (top, left)))


def registered_rotation(image, value, rng):
    """A rotation turned back, by at most half a degree too much or too little: what a search for its angle finds."""
    degrees = value if rng.random(1)[0] < 0.5 else -value
    too_much = REGISTERED_TURN * (2 * rng.random((1, 1))[0, 0] - 1)
    return turn(turn(image, degrees), too_much - degrees)


def turn(image, degrees):
    """A picture turned counter-clockwise; its corners become black."""
    return image.rotate(degrees, BILINEAR)


def resize(image, value, rng):
    return _there_and_back(image, math.sqrt(value), BILINEAR)


def screenshot(image, value, rng):
    """The picture as a viewer shows it at another zoom, grabbed and brought back to its size, bicubic."""
    return _there_and_back(image, value, BICUBIC)


def _there_and_back(image, side, kernel):
    size = max(1, round(side * image.width))
    return image.resize((size, size), kernel).resize(image.size, kernel)


def rotation(image, value, rng):
    """To the left or to the right, bilinear; the corners become black."""
    return turn(image, value if rng.random(1)[0] < 0.5 else -value)


def quarter_turn(image, value, rng):
    return image.rotate(value)


def flip(image, value, rng):
    return image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)


def blur(image, value, rng):
    """OpenCV's Gaussian blur of a kernel of `value` pixels at 128, edges reflected."""
    scale = image.width / 128
    radius = math.ceil((value - 1) / 2 * scale)
    if radius == 0:
        return image
    weights = np.exp(-0.5 * np.square(np.arange(-radius, radius + 1) / (blur_sigma(value) * scale)))
    pixels = np.asarray(image, np.float64)
    for axis in (0, 1):
        pixels = ndimage.correlate1d(pixels, weights / weights.sum(), axis, mode='mirror')
    return _picture(pixels)


def waves_blur(image, value, rng):
    return image.filter(ImageFilter.GaussianBlur(value * image.width / 512))


def noise(image, value, rng):
    return _picture(np.asarray(image) + 127.5 * value * rng.standard_normal((image.height, image.width, 3)))


def waves_noise(image, value, rng):
    return noise(image, 2 * value, rng)


def salt_and_pepper(image, value, rng):
    """A share of the pixels, half of them black and half of them white."""
    drawn = rng.random((image.height, image.width))[:, :, None]
    return _picture(np.where(drawn < value / 2, 0, np.where(drawn < value, 255, np.asarray(image))))


def erasing(image, value, rng):
    """A black square of a share of the area, somewhere within."""
    pixels = np.array(image)
    size = round(math.sqrt(value) * image.width)
    top, left = (min(int(share * (image.width - size + 1)), image.width - size) for share in rng.random(2))
    pixels[top:top + size, left:left + size] = 0
    return Image.fromarray(pixels)


def greyscale(image, value, rng):
    return image.convert('L').convert('RGB')


def quantization(image, value, rng):
    """Each channel in that many evenly spaced levels, black and white among them."""
    step = 255 / (value - 1)
    return _picture(np.rint(np.asarray(image) / step) * step)


def median(image, value, rng):
    return image.filter(ImageFilter.MedianFilter(value))


def _enhance(kind, image, value, rng):
    """Pillow's ImageEnhance: 1 is the picture as it is."""
    return kind(image).enhance(value)


def _compress(file_format, image, value, rng):
    """The picture as a file of a quality brings it back, with Pillow's defaults: chroma at half the resolution."""
    file = io.BytesIO()
    image.save(file, format=file_format, quality=round(value))
    with Image.open(file) as saved:
        return saved.convert('RGB')


def _picture(pixels):
    return Image.fromarray(np.clip(np.rint(pixels), 0, 255).astype(np.uint8))


def combination(image, value, rng):
    """The paper's: crop, blur, JPEG and noise in turn, each with chance 1/2, each value drawn up to the strength."""
    for name, (happens, share) in zip(COMBINED, rng.random((len(COMBINED), 2))):
        if happens < 0.5:
            image = OPERATIONS[name](image, value_at(name, value * share), rng)
    return image


def _in_turn(names, image, value, rng):
    """WAVES' combinations: each of `names` in turn, at the strength itself."""
    for name in names:
        image = OPERATIONS[name](image, value_at(name, value), rng)
    return image


def signature_combination(image, value, rng):
    for name, its_value in SIGNATURE_CHAIN:
        image = OPERATIONS[name](image, its_value, rng)
    return image


jpeg = functools.partial(_compress, 'JPEG')
OPERATIONS = {
    'crop': crop, 'blur': blur, 'jpeg': jpeg, 'noise': noise, 'combination': combination,
    'rotation': rotation, 'resized_crop': resized_crop, 'erasing': erasing,
    'brightness': functools.partial(_enhance, ImageEnhance.Brightness),
    'contrast': functools.partial(_enhance, ImageEnhance.Contrast),
    'waves_blur': waves_blur, 'waves_noise': waves_noise, 'waves_jpeg': jpeg,
    **{name: functools.partial(_in_turn, names) for name, names in WAVES_GROUPS.items()},
    'centre_crop': centre_crop, 'resize': resize,
    'saturation': functools.partial(_enhance, ImageEnhance.Color),
    'sharpness': functools.partial(_enhance, ImageEnhance.Sharpness),
    'signature_combination': signature_combination, 'quarter_turn': quarter_turn,
    'greyscale': greyscale, 'flip': flip, 'median': median, 'quantization': quantization,
    'salt_and_pepper': salt_and_pepper, 'registered_crop': registered_crop,
    'registered_rotation': registered_rotation, 'screenshot': screenshot,
    'webp': functools.partial(_compress, 'WEBP'), 'avif': functools.partial(_compress, 'AVIF'),
}
