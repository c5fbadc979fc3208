"""Decoding: every mode, orientation and kind of damage that a folder of images may bring."""
import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from datasets.pictures import Skip, celeba_square, centre_square, decode

RGB = np.random.RandomState(0).randint(0, 256, [12, 20, 3]).astype(np.uint8)


pytestmark = pytest.mark.filterwarnings('ignore:::PIL')


def encode(image, format='PNG', **options):
    file = io.BytesIO()
    image.save(file, format, **options)
    return file.getvalue()


def decoded(image, format='PNG', **options):
    return np.asarray(decode(encode(image, format, **options)))


def reason(data):
    with pytest.raises(Skip) as caught:
        decode(data)
    return str(caught.value)


@pytest.mark.parametrize('format, options', [('PNG', {}), ('BMP', {}), ('TIFF', {}), ('PPM', {}),
                                             ('WEBP', {'lossless': True})])
def test_lossless_formats_come_back_unchanged(format, options):
    np.testing.assert_array_equal(decoded(Image.fromarray(RGB), format, **options), RGB)


def test_greyscale_and_bilevel_become_rgb():
    grey = RGB[..., 0]
    np.testing.assert_array_equal(decoded(Image.fromarray(grey)), np.stack([grey] * 3, axis=2))
    bilevel = Image.fromarray(grey).point(lambda value: 255 * (value > 99), mode='1')
    np.testing.assert_array_equal(decoded(bilevel), np.stack([np.where(grey > 99, 255, 0)] * 3, axis=2))


def test_16_bits_become_8():
    grey = np.arange(256, dtype=np.uint16).reshape(16, 16)
    for low, high in ((0, 0), (-128, 0), (0, 128)):  # rounded to the nearest
        values = np.clip(grey.astype(int) * 257 + low + high, 0, 65535).astype(np.uint16)
        np.testing.assert_array_equal(decoded(Image.fromarray(values)), np.stack([grey] * 3, axis=2))


def test_cmyk_becomes_rgb():
    cmyk = np.zeros([2, 2, 4], np.uint8)
    cmyk[0, 1] = 0, 0, 0, 255
    cmyk[1, 0] = 255, 0, 0, 0
    expected = [[[255, 255, 255], [0, 0, 0]], [[0, 255, 255], [255, 255, 255]]]
    np.testing.assert_array_equal(decoded(Image.frombytes('CMYK', (2, 2), cmyk.tobytes()), 'TIFF'), expected)


def test_transparency_is_laid_over_white():
    alpha = np.random.RandomState(1).randint(0, 256, [12, 20, 1])
    expected = RGB * (alpha / 255) + 255 * (1 - alpha / 255)
    rgba = np.concatenate([RGB, alpha.astype(np.uint8)], axis=2)
    np.testing.assert_allclose(decoded(Image.fromarray(rgba)), expected, atol=1)
    grey = np.concatenate([RGB[..., :1], alpha.astype(np.uint8)], axis=2)
    np.testing.assert_allclose(decoded(Image.frombytes('LA', (20, 12), grey.tobytes())), expected[..., [0] * 3], atol=1)


def test_palettes_with_and_without_a_transparent_colour():
    image = Image.frombytes('P', (2, 2), bytes([0, 1, 2, 0]))
    image.putpalette([255, 0, 0, 0, 255, 0, 0, 0, 255])
    red, green, blue, white = [255, 0, 0], [0, 255, 0], [0, 0, 255], [255] * 3
    np.testing.assert_array_equal(decoded(image), [[red, green], [blue, red]])
    np.testing.assert_array_equal(decoded(image, transparency=1), [[red, white], [blue, red]])
    grey = Image.fromarray(np.array([[7, 9]], np.uint8))
    np.testing.assert_array_equal(decoded(grey, transparency=9), [[[7] * 3, white]])


@pytest.mark.parametrize('orientation, turned', [
    (1, RGB), (2, RGB[:, ::-1]), (3, RGB[::-1, ::-1]), (4, RGB[::-1]), (5, RGB.swapaxes(0, 1)),
    (6, np.rot90(RGB, -1)), (7, RGB[::-1, ::-1].swapaxes(0, 1)), (8, np.rot90(RGB, 1))])
def test_exif_orientation_is_applied(orientation, turned):
    exif = Image.Exif()
    exif[0x0112] = orientation
    np.testing.assert_array_equal(decoded(Image.fromarray(RGB), exif=exif), turned)


def test_a_damaged_exif_block_does_not_cost_the_image():
    data = encode(Image.fromarray(RGB), 'JPEG', exif=b'Exif\0\0MM\0*\0\0\0\x08\xff\xff nothing follows')
    assert np.asarray(decode(data)).shape == RGB.shape


def test_the_first_frame_of_an_animation():
    frames = [Image.new('RGB', (16, 16), colour) for colour in ('red', 'blue')]
    data = encode(frames[0], 'GIF', save_all=True, append_images=frames[1:])
    np.testing.assert_array_equal(np.asarray(decode(data)), np.full([16, 16, 3], [255, 0, 0]))


@pytest.mark.parametrize('format', ['JPEG', 'PNG', 'GIF', 'WEBP', 'BMP', 'TIFF'])
def test_a_truncated_file_is_told(format):
    data = encode(Image.fromarray(RGB.repeat(8, axis=0).repeat(8, axis=1)), format)
    assert reason(data[:len(data) * 2 // 3]) in ('truncated or damaged', 'not an image')


def test_what_is_no_image_is_told():
    for data in (b'', b'some text', b'\xff\xd8\xff', encode(Image.fromarray(RGB), 'EPS')):
        assert reason(data) == 'not an image'


def test_a_decompression_bomb_is_told_before_it_unpacks():
    def chunk(kind, body):
        return struct.pack('>I', len(body)) + kind + body + struct.pack('>I', zlib.crc32(kind + body))
    header = struct.pack('>IIBBBBB', 50000, 50000, 8, 2, 0, 0, 0)
    chunks = chunk(b'IHDR', header), chunk(b'IDAT', zlib.compress(bytes(10**6))), chunk(b'IEND', b'')
    assert reason(b'\x89PNG\r\n\x1a\n' + b''.join(chunks)) == 'with more than 179 million pixels'


def test_pixels_without_a_range_are_told():
    for values in (np.ones([4, 4], np.float32), np.full([4, 4], 1 << 20, np.int32), np.full([4, 4], -1, np.int32)):
        assert reason(encode(Image.fromarray(values), 'TIFF')) == 'in a pixel format without a range'


def test_damage_of_any_kind_is_a_reason_and_no_exception():
    random = np.random.RandomState(0)
    outcomes = set()
    for format in ('JPEG', 'PNG', 'GIF', 'WEBP', 'BMP', 'TIFF'):
        data = np.frombuffer(encode(Image.fromarray(RGB), format), np.uint8)
        for _ in range(60):
            damaged = data.copy()
            places = random.randint(0, len(data), 4)
            damaged[places] = random.randint(0, 256, 4)
            try:
                outcomes.add(decode(damaged.tobytes()).mode)
            except Skip as skip:
                outcomes.add(str(skip))
    assert {'RGB', 'truncated or damaged', 'not an image'} <= outcomes


@pytest.mark.parametrize('height, width, rows, columns', [(16, 16, (0, 16), (0, 16)), (16, 20, (0, 16), (2, 18)),
                                                          (31, 16, (7, 23), (0, 16))])
def test_the_centre_square_is_a_slice_where_nothing_is_resized(height, width, rows, columns):
    pixels = np.random.RandomState(0).randint(0, 256, [height, width, 3]).astype(np.uint8)
    square = centre_square(Image.fromarray(pixels), 16)
    np.testing.assert_array_equal(square, pixels[slice(*rows), slice(*columns)])


def test_resizing_filters_what_is_too_fine():
    """A chequerboard of one-pixel fields becomes flat grey, a ramp stays a ramp."""
    chequers = (np.indices([128, 128]).sum(axis=0) % 2 * 255).astype(np.uint8)
    small = centre_square(Image.fromarray(chequers).convert('RGB'), 16)[2:-2, 2:-2].astype(int)
    assert np.abs(small - 127.5).max() < 3
    ramp = np.tile(np.arange(128, dtype=np.uint8), [128, 1])
    small = centre_square(Image.fromarray(ramp).convert('RGB'), 32)
    np.testing.assert_allclose(small[5, 2:-2, 0], np.arange(2, 30) * 4 + 1.5, atol=1)


def test_small_images_are_skipped_unless_upscaling_is_allowed():
    with pytest.raises(Skip, match='smaller than 16x16'):
        centre_square(Image.fromarray(RGB), 16)
    assert centre_square(Image.fromarray(RGB), 16, allow_upscale=True).shape == (16, 16, 3)


def test_the_celeba_crop():
    """Oracle: rows 121 ± 64 and columns 89 ± 64 of the array."""
    pixels = np.random.RandomState(0).randint(0, 256, [218, 178, 3]).astype(np.uint8)
    np.testing.assert_array_equal(celeba_square(Image.fromarray(pixels)), pixels[57:185, 25:153])
    assert celeba_square(Image.fromarray(pixels), 32).shape == (32, 32, 3)
    with pytest.raises(Skip, match='not 178x218'):
        celeba_square(Image.fromarray(pixels[:-1]))
