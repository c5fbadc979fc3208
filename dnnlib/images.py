"""Images as files, as uint8 0..255 and as the networks' float32 in [-1, 1]: conversions, and the decoder of files.

Decoding: greyscale becomes RGB, 16 bits become 8, what is transparent is laid over white as a viewer would show it,
the EXIF orientation is applied, of an animation the first frame is taken. Colour profiles are not applied.

TensorFlow is imported only inside the functions that take tensors: it takes seconds.
"""
import io
import os
import stat
import threading

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

FORMATS = ('JPEG', 'PNG', 'WEBP', 'BMP', 'GIF', 'TIFF', 'PPM')  # no EPS, say, for which Pillow runs another program
SUFFIXES = ('.jpg', '.jpeg', '.jfif', '.png', '.webp', '.bmp', '.gif', '.tif', '.tiff', '.ppm', '.pgm')

# An upright RGB copy and one with transparency need up to 12 bytes a pixel at once: 1.6 GB for the largest image.
MAX_FILE_BYTES = 256 << 20
MAX_PIXELS = 1 << 27
LARGE_PIXELS = 1 << 24
LARGE_RATIO = 1100  # pixels a byte of a large image's file: photographs have 1 to 50, an empty grey page in PNG 1032
_one_large_image = threading.Lock()  # so that several threads do not need that memory several times

KINDS = {stat.S_IFDIR: 'folder', stat.S_IFIFO: 'named pipe', stat.S_IFSOCK: 'socket', stat.S_IFCHR: 'device',
         stat.S_IFBLK: 'device'}

# How files of well-known other formats begin: EPS, PDF, Photoshop, DDS, JPEG 2000, JPEG XL, icons.
OTHER_FORMATS = (b'%!PS', b'\xc5\xd0\xd3\xc6', b'%PDF', b'8BPS', b'DDS ', b'\0\0\0\x0cjP  ', b'\xff\x4f\xff\x51',
                 b'\0\0\0\x0cJXL ', b'\xff\x0a', b'\0\0\1\0', b'icns')
NOT_ACCEPTED = 'in a format that is not accepted; convert it to PNG'


class ImageError(Exception):
    """An image that can't be used. The message is the reason, in words that fit a count or a name before them."""


def to_uint8(images):
    """Rounds images [..., H, W, C] from [-1, 1] to uint8 0..255, clipping what lies outside."""
    return np.clip(np.rint((np.asarray(images, np.float32) + 1) * 127.5), 0, 255).astype(np.uint8)


def to_float(images):
    """Maps uint8 images 0..255 to float32 in [-1, 1]."""
    return np.asarray(images, np.float32) / 127.5 - 1


def to_uint8_tensor(images):
    """`to_uint8` in TensorFlow: float32 images [..., H, W, C] in [-1, 1] to uint8 0..255, rounded and clipped."""
    import tensorflow as tf
    return tf.cast(tf.clip_by_value(tf.round((images + 1) * 127.5), 0, 255), tf.uint8)


def to_float_tensor(images):
    """`to_float` in TensorFlow: uint8 images 0..255 to float32 in [-1, 1]; float images are returned as they are."""
    import tensorflow as tf
    return tf.cast(images, tf.float32) / 127.5 - 1 if images.dtype == tf.uint8 else images


def read_file(path):
    """Returns the bytes of a regular file, or of what a symbolic link to one leads to.

    Nothing else is opened, since reading from a named pipe may wait for ever and reading from a device may never end.

    Raises:
        ImageError: there is no such file, it is of another kind, unreadable, or of more than MAX_FILE_BYTES bytes.
    """
    try:
        _check_regular(os.stat(path))
        # O_NONBLOCK: should the file have become a pipe since, opening it does not wait for a writer.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
        with io.FileIO(descriptor) as file:
            _check_regular(os.fstat(descriptor))
            return _read_capped(file)
    except FileNotFoundError:
        raise ImageError('does not exist') from None
    except (OSError, ValueError) as error:  # ValueError: a zero byte within the name
        raise ImageError(f'unreadable ({getattr(error, "strerror", None) or error})') from None


def _check_regular(status):
    if not stat.S_ISREG(status.st_mode):
        raise ImageError(f'{KINDS.get(stat.S_IFMT(status.st_mode), "something special")}, not a file')
    if status.st_size > MAX_FILE_BYTES:
        raise ImageError(f'larger than {MAX_FILE_BYTES >> 20} MiB')


def _read_capped(file):
    """All bytes of an open FileIO. Its size is not relied on: a file may grow, and some under /proc are endless."""
    blocks, size = [], 0
    while True:
        block = file.read(1 << 20)
        if not block:  # None: nothing to read now, from what is no ordinary file
            return b''.join(blocks)
        blocks.append(block)
        size += len(block)
        if size > MAX_FILE_BYTES:
            raise ImageError(f'larger than {MAX_FILE_BYTES >> 20} MiB')


def decode(data, side=None):
    """Decodes the bytes of an image file to an upright Pillow image in RGB.

    Args:
        data: the file's bytes.
        side: if given, an image that is not side × side pixels is refused before its pixels are unpacked.

    Raises:
        ImageError: not an image, in another format than FORMATS, truncated or damaged, of more than MAX_PIXELS pixels
            or suspiciously many for its bytes, of the wrong size, or in a pixel format with no range (float, 32 bits).
    """
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            _check_size(image.size, side, len(data))
            if image.width * image.height <= LARGE_PIXELS:
                return _load(image)
            with _one_large_image:
                return _load(image)
    except ImageError:
        raise
    except UnidentifiedImageError:
        other = data.startswith(OTHER_FORMATS) or data[4:8] == b'ftyp'  # the latter: AVIF and HEIC
        raise ImageError(NOT_ACCEPTED if other else 'not an image') from None
    except Image.DecompressionBombError:  # Pillow's own limit, above ours
        raise ImageError(_TOO_MANY) from None
    except MemoryError:
        raise ImageError('too large for the memory there is') from None
    except Exception:  # Pillow's decoders raise whatever a damaged file makes them trip over
        raise ImageError('truncated or damaged') from None


_TOO_MANY = f'too large, more than {MAX_PIXELS / 1e6:.0f} million pixels'


def _check_size(size, side, num_bytes):
    width, height = size
    if width * height > MAX_PIXELS:
        raise ImageError(_TOO_MANY)
    if width * height > max(LARGE_PIXELS, LARGE_RATIO * num_bytes):
        raise ImageError('like a decompression bomb, many pixels out of few bytes')
    if side is not None and size != (side, side):
        raise ImageError(f'is {width}x{height}, not {side}x{side}; crop or scale it to that size first')


def _load(image):
    image.load()
    return _rgb(_upright(image))


def _upright(image):
    try:
        return ImageOps.exif_transpose(image)
    except MemoryError:
        raise
    except Exception:  # the EXIF block is damaged, the pixels are not
        return image


def _rgb(image):
    """Converts any mode of Pillow's to RGB."""
    if image.mode == 'F' or image.mode.startswith('I'):
        return _eight_bits(image).convert('RGB')
    if not image.has_transparency_data:
        return image.convert('RGB')
    image = image.convert('RGBA')
    white = Image.new('RGB', image.size, 'white')
    white.paste(image, mask=image.getchannel('A'))
    return white


def _eight_bits(image):
    """A greyscale image of 16 bits as one of 8, rounded to the nearest."""
    low, high = image.getextrema() if image.mode != 'F' else (-1, -1)
    if low < 0 or high > 65535:
        raise ImageError('in a pixel format without a range')
    values = np.asarray(image).astype(np.uint32)
    return Image.fromarray(((values + 128) // 257).astype(np.uint8))
