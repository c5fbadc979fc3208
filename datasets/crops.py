"""From a decoded image to a square one of the dataset's resolution. Pillow and NumPy only."""
import numpy as np
from PIL import Image

from dnnlib.images import ImageError


def centre_square(image, resolution, allow_upscale=False):
    """The largest centred square of an RGB image, resized by Lanczos: uint8 [resolution, resolution, 3].

    Raises:
        ImageError: that would enlarge it, and `allow_upscale` is not set.
    """
    width, height = image.size
    side = min(width, height)
    if side < resolution and not allow_upscale:
        raise ImageError(f'smaller than {resolution}x{resolution}')
    left, top = (width - side) // 2, (height - side) // 2
    box = (left, top, left + side, top + side)
    return np.asarray(image.resize((resolution, resolution), Image.Resampling.LANCZOS, box=box))


def celeba_square(image, resolution=128):
    """The paper's crop of an aligned CelebA image: 128×128 around x 89, y 121 (resized by Lanczos if not to 128).

    Raises:
        ImageError: the image is not one of the aligned ones, which are 178×218.
    """
    if image.size != (178, 218):
        raise ImageError('not 178x218 as the aligned CelebA images are')
    return centre_square(image.crop((89 - 64, 121 - 64, 89 + 64, 121 + 64)), resolution)
