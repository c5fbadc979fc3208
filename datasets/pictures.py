"""From one encoded image to one square uint8 picture. Pillow and NumPy only.

Greyscale becomes RGB, 16 bits become 8, what is transparent is laid over white, the EXIF orientation is applied, of an
animation the first frame is taken. Colour profiles are not applied.
"""
import io
import warnings

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

FORMATS = ('JPEG', 'PNG', 'WEBP', 'BMP', 'GIF', 'TIFF', 'PPM')  # no EPS, say, for which Pillow runs another program
SUFFIXES = ('.jpg', '.jpeg', '.jfif', '.png', '.webp', '.bmp', '.gif', '.tif', '.tiff', '.ppm', '.pgm')

# What Pillow warns of, odd metadata or 89 million pixels, does not hinder; from 179 million pixels on it raises.
warnings.filterwarnings('ignore', module=r'PIL\.')


class Skip(Exception):
    """An image that can't be used. The message is the reason, worded to follow a count: '3 smaller than 32x32'."""


def decode(data):
    """Decodes the bytes of an image file to an upright Pillow image in RGB.

    Raises:
        Skip: not an image, truncated or damaged, too many pixels, or a pixel format with no range (float, 32 bits).
    """
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            image.load()
    except UnidentifiedImageError:
        raise Skip('not an image') from None
    except Image.DecompressionBombError:
        raise Skip('with more than 179 million pixels') from None
    except Exception:  # Pillow's decoders raise whatever a damaged file makes them trip over
        raise Skip('truncated or damaged') from None
    return _rgb(_upright(image))


def _upright(image):
    try:
        return ImageOps.exif_transpose(image)
    except Exception:  # the EXIF block is damaged, the pixels are not
        return image


def _rgb(image):
    """Converts any mode of Pillow's to RGB."""
    if image.mode == 'F' or (image.mode == 'I' and not 0 <= min(image.getextrema()) <= max(image.getextrema()) < 65536):
        raise Skip('in a pixel format without a range')
    if image.mode.startswith('I'):
        image = Image.fromarray(np.rint(np.asarray(image) / 257).astype(np.uint8))
    if image.has_transparency_data:
        image = image.convert('RGBA')
        white = Image.new('RGBA', image.size, 'white')
        return Image.alpha_composite(white, image).convert('RGB')
    return image.convert('RGB')


def centre_square(image, resolution, allow_upscale=False):
    """The largest centred square of an RGB image, resized by Lanczos: uint8 [resolution, resolution, 3].

    Raises:
        Skip: that would enlarge it, and `allow_upscale` is not set.
    """
    width, height = image.size
    side = min(width, height)
    if side < resolution and not allow_upscale:
        raise Skip(f'smaller than {resolution}x{resolution}')
    left, top = (width - side) // 2, (height - side) // 2
    box = (left, top, left + side, top + side)
    return np.asarray(image.resize((resolution, resolution), Image.Resampling.LANCZOS, box=box))


def celeba_square(image, resolution=128):
    """The paper's crop of an aligned CelebA image: 128×128 around x 89, y 121 (resized by Lanczos if not to 128).

    Raises:
        Skip: the image is not one of the aligned ones, which are 178×218.
    """
    if image.size != (178, 218):
        raise Skip('not 178x218 as the aligned CelebA images are')
    return centre_square(image.crop((89 - 64, 121 - 64, 89 + 64, 121 + 64)), resolution)
