"""Conversions, and decoding: every mode, orientation and kind of damage that an image file may bring."""
import io
import os
import socket
import struct
import subprocess
import sys
import time
import zlib

import numpy as np
import pytest
from PIL import Image

from dnnlib import images
from dnnlib.images import FORMATS, ImageError, decode, read_file, to_float, to_float_tensor, to_uint8, to_uint8_tensor
from helpers import PATIENCE, ROOT
from mutants import attempt, mutate, originals

RGB = np.random.RandomState(0).randint(0, 256, [12, 20, 3]).astype(np.uint8)
pytestmark = pytest.mark.filterwarnings('ignore:::PIL')


def encode(image, format='PNG', **options):
    file = io.BytesIO()
    image.save(file, format, **options)
    return file.getvalue()


def decoded(image, format='PNG', **options):
    return np.asarray(decode(encode(image, format, **options)))


def reason(data):
    with pytest.raises(ImageError) as caught:
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
    for data in (b'', b'some text', b'\xff\xd8\xff'):
        assert reason(data) == 'not an image'


@pytest.mark.parametrize('side, expected', [
    (50000, 'too large, more than 134 million pixels'), (12000, 'too large, more than 134 million pixels'),
    (11000, 'like a decompression bomb, many pixels out of few bytes'), (4000, 'truncated or damaged')])
def test_a_decompression_bomb_is_told_before_it_unpacks(side, expected):
    def chunk(kind, body):
        return struct.pack('>I', len(body)) + kind + body + struct.pack('>I', zlib.crc32(kind + body))
    header = struct.pack('>IIBBBBB', side, side, 8, 2, 0, 0, 0)
    chunks = chunk(b'IHDR', header), chunk(b'IDAT', zlib.compress(bytes(10**6))), chunk(b'IEND', b'')
    assert reason(b'\x89PNG\r\n\x1a\n' + b''.join(chunks)) == expected


def test_an_empty_page_of_a_large_scanner_is_no_bomb():
    assert decode(encode(Image.new('L', (5000, 5000), 'white'))).size == (5000, 5000)


@pytest.mark.filterwarnings('ignore')
def test_hundreds_of_mutants_of_every_format():
    """Each ends as an image or as a reason, within a second of work. tests/mutants.py tries as many as one likes."""
    random, outcomes = np.random.RandomState(7), set()
    made = originals()
    for format, data in made:
        mutant = mutate(data, random)
        begun = time.process_time()
        outcome = attempt(mutant)
        assert time.process_time() - begun < 1, format
        outcomes.add(outcome)
        assert format in (*FORMATS, 'MPO') or outcome in ('not an image', images.NOT_ACCEPTED,
                                                                  'truncated or damaged'), format
    assert len(made) > 500 and {'decoded', 'not an image', 'truncated or damaged'} <= outcomes


def test_pixels_without_a_range_are_told():
    for values in (np.ones([4, 4], np.float32), np.full([4, 4], 1 << 20, np.int32), np.full([4, 4], -1, np.int32)):
        assert reason(encode(Image.fromarray(values), 'TIFF')) == 'in a pixel format without a range'


def test_uint8_round_trip():
    values = np.arange(256, dtype=np.uint8)
    np.testing.assert_array_equal(to_uint8(to_float(values)), values)
    np.testing.assert_array_equal(to_uint8([-9, -1, 0.0, 1, 9]), [0, 0, 128, 255, 255])
    assert to_float(values).min() == -1 and to_float(values).max() == 1


def test_tensors_are_converted_as_arrays_are():
    values = np.linspace(-1.2, 1.2, 1001, dtype=np.float32)
    np.testing.assert_array_equal(to_uint8_tensor(values).numpy(), to_uint8(values))
    every = np.arange(256, dtype=np.uint8)
    np.testing.assert_array_equal(to_float_tensor(every).numpy(), to_float(every))


def test_importing_it_is_cheap():
    code = 'import sys, dnnlib.images; sys.exit("tensorflow" in sys.modules)'
    assert subprocess.run([sys.executable, '-c', code], cwd=ROOT).returncode == 0


def test_a_wrong_size_is_told_before_any_pixel_is_unpacked():
    data = encode(Image.fromarray(RGB))
    assert np.asarray(decode(encode(Image.fromarray(RGB[:12, :12])), side=12)).shape == (12, 12, 3)
    with pytest.raises(ImageError, match='is 20x12, not 12x12; crop or scale it'):
        decode(data[:60], side=12)  # the pixels are not even there


def test_what_runs_out_of_memory_says_so(monkeypatch):
    def fail(image):
        raise MemoryError
    monkeypatch.setattr(images, '_upright', fail)
    assert reason(encode(Image.fromarray(RGB))) == 'too large for the memory there is'


def test_deep_recursion_is_an_answer_too(monkeypatch):
    def fail(image):
        raise RecursionError
    monkeypatch.setattr(images, '_rgb', fail)
    assert reason(encode(Image.fromarray(RGB))) == 'truncated or damaged'


@pytest.mark.parametrize('format', ['EPS', 'ICO', 'DDS', 'AVIF', 'JPEG2000', 'PCX', 'SGI', 'TGA', 'PDF', 'SPIDER'])
def test_no_other_format_is_tried(format, monkeypatch):
    """EPS above all: Pillow would hand the file's PostScript to Ghostscript."""
    monkeypatch.setattr(subprocess, 'Popen', lambda *args, **kwargs: pytest.fail(f'runs {args}'))
    file = io.BytesIO()
    Image.fromarray(RGB).convert('F' if format == 'SPIDER' else 'RGB').save(file, format)
    known = format in ('EPS', 'ICO', 'DDS', 'AVIF', 'JPEG2000', 'PDF')
    assert reason(file.getvalue()) == (images.NOT_ACCEPTED if known else 'not an image')


def test_read_file_takes_regular_files_and_links_to_them(tmp_path):
    (tmp_path / 'a').write_bytes(b'abc')
    os.symlink('a', tmp_path / 'b')
    assert read_file(tmp_path / 'a') == read_file(str(tmp_path / 'b')) == b'abc'


def special(path, kind):
    if kind == 'folder':
        os.mkdir(path)
    elif kind == 'named pipe':
        os.mkfifo(path)
    elif kind == 'socket':
        with socket.socket(socket.AF_UNIX) as one:
            one.bind(path)
    else:
        os.symlink('/dev/zero', path)


@pytest.mark.parametrize('kind', ['folder', 'named pipe', 'socket', 'device'])
def test_read_file_refuses_every_other_kind_at_once(tmp_path, kind):
    special(str(tmp_path / 'x.png'), kind)
    code = 'import sys, dnnlib.images as i\ntry: i.read_file(sys.argv[1])\nexcept i.ImageError as e: print(e)'
    result = subprocess.run([sys.executable, '-c', code, tmp_path / 'x.png'], cwd=ROOT, text=True, timeout=PATIENCE,
                            capture_output=True)
    assert result.stdout == f'{kind}, not a file\n', result.stderr


def test_a_pipe_that_takes_the_place_of_a_file_does_not_hang(tmp_path, monkeypatch):
    """Between looking and opening another process may change what the name leads to."""
    (tmp_path / 'file').write_bytes(b'')
    os.mkfifo(tmp_path / 'pipe')
    look = os.stat
    monkeypatch.setattr(os, 'stat', lambda path: look(tmp_path / 'file'))
    with pytest.raises(ImageError, match='named pipe, not a file'):
        read_file(tmp_path / 'pipe')


def test_reading_is_capped_even_if_the_size_is_not_known(tmp_path, monkeypatch):
    """Files under /proc say that they are empty; some have no end."""
    assert read_file('/proc/self/status').startswith(b'Name:')
    (tmp_path / 'x').write_bytes(bytes(1000))
    monkeypatch.setattr(images, 'MAX_FILE_BYTES', 999)
    with pytest.raises(ImageError, match='larger than'):
        read_file(tmp_path / 'x')
    monkeypatch.setattr(images, 'MAX_FILE_BYTES', 100)
    with pytest.raises(ImageError, match='larger than'):
        read_file('/proc/self/status')


@pytest.mark.parametrize('name, message', [('none.png', 'does not exist'), ('a\0b', 'unreadable'),
                                           ('x' * 300, 'unreadable .File name too long.'),
                                           ('loop', 'unreadable .Too many levels')])
def test_what_cannot_be_read_is_told(tmp_path, name, message):
    os.symlink('loop', tmp_path / 'loop')
    with pytest.raises(ImageError, match=message):
        read_file(os.path.join(tmp_path, name))
