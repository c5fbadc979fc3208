"""Damaged images of every format that Pillow can write, for tests of the decoder; also a program that tries many.

    python tests/mutants.py 20000 1    how many, and a seed; prints what came of them, the slowest, the most memory used
"""
import collections
import faulthandler
import io
import os
import resource
import sys
import time
import warnings

import numpy as np
from PIL import Image

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
from dnnlib.images import FORMATS, ImageError, decode  # noqa: E402

MODES = ('RGB', 'RGBA', 'L', 'LA', 'P', '1', 'I;16', 'I', 'F', 'CMYK', 'YCbCr', 'LAB')
OPTIONS = {'TIFF': ({}, {'compression': 'tiff_lzw'}, {'compression': 'packbits'},
                    {'compression': 'tiff_adobe_deflate'}),
           'JPEG': ({}, {'progressive': True}), 'WEBP': ({}, {'lossless': True}), 'PNG': ({}, {'bits': 4})}
TIFF_ONLY = {'1': 'group4', 'L': 'jpeg', 'RGB': 'jpeg'}  # in other modes, saving them so crashes Pillow 11.3
ANIMATED = ('GIF', 'PNG', 'WEBP', 'TIFF')


def originals():
    """A list of (format, bytes): an image of 24×20 in every format, mode and compression that Pillow can write.

    But for PDF, which it cannot read, and ICNS, which takes it seconds.
    """
    noise = np.random.RandomState(0).randint(0, 256, [20, 24, 3]).astype(np.uint8)
    made = []
    Image.init()
    for format in sorted(set(Image.SAVE) - {'PDF', 'ICNS'}):
        for mode in MODES:
            try:
                image = Image.fromarray(noise).convert('L').convert(mode) if mode in ('I;16', 'LAB') else \
                    Image.fromarray(noise).convert(mode)
            except ValueError:  # Pillow does not know how
                continue
            for options in OPTIONS.get(format, ({},)):
                made += _encoded(image, format, options)
            if format == 'TIFF' and mode in TIFF_ONLY:
                made += _encoded(image, format, {'compression': TIFF_ONLY[mode]})
    return made


def _encoded(image, format, options):
    exif = Image.Exif()
    exif[0x0112] = 6
    several = dict(save_all=True, append_images=[image, image]) if format in ANIMATED else {}
    found = []
    for more in ({}, {'exif': exif.tobytes(), 'dpi': (72, 72), 'comment': b'x' * 9}, several):
        file = io.BytesIO()
        try:
            image.save(file, format, **options, **more)
        except Exception:  # not every mode goes into every format
            continue
        found.append((format, file.getvalue()))
    return found


def mutate(data, random):
    """A damaged copy: bytes changed, runs removed, doubled or overwritten, lengths made extreme, the end cut off."""
    data = bytearray(data)
    for _ in range(random.randint(1, 4)):
        place = random.randint(0, min(len(data), random.choice([16, 64, 1 << 20, 1 << 20, 1 << 20]))) if data else 0
        kind = random.randint(6)
        length = random.randint(1, 9)
        if kind == 0:
            data[place:place + 1] = bytes([random.randint(256)])
        elif kind == 1:
            data[place:place + length] = b''
        elif kind == 2:
            data[place:place] = data[place:place + length]
        elif kind == 3:
            data[place:place + length] = random.choice([b'\xff' * 4, b'\0' * 4, b'\x7f\xff\xff\xff', b'\0\0\x80\0'])
        elif kind == 4:
            data[place:place + 1] = bytes([(data[place] if place < len(data) else 0) ^ 1 << random.randint(8)])
        else:
            data = data[:max(place, len(data) // 4)]
    return bytes(data)


def attempt(data, side=None):
    """What comes of decoding: 'decoded', or the reason. Raises whatever is no ImageError."""
    try:
        image = decode(data, side)
    except ImageError as error:
        return str(error)
    assert image.mode == 'RGB' and np.asarray(image).shape == (image.height, image.width, 3)
    return 'decoded'


def main(count, seed=1):
    """Decodes `count` mutants and prints the outcome."""
    faulthandler.enable()
    warnings.filterwarnings('ignore', module=r'PIL\.')
    random, made, outcomes = np.random.RandomState(seed), originals(), collections.Counter()
    slowest, slow_format, begun = 0, '', time.time()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for number in range(count):
        format, data = made[number % len(made)]
        mutant = mutate(data, random)
        started = time.time()
        outcomes[format in FORMATS, attempt(mutant).split(';')[0]] += 1
        if time.time() - started > slowest:
            slowest, slow_format = time.time() - started, format
            with open('/tmp/slowest_mutant', 'wb') as file:
                file.write(mutant)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(f'{count} mutants of {len(made)} files in {len({format for format, _ in made})} formats, '
          f'{time.time() - begun:.0f} s; slowest {slowest:.3f} s ({slow_format}); '
          f'memory {before >> 10} MiB before, {peak >> 10} MiB at most')
    for (accepted, outcome), number in outcomes.most_common():
        print(f'{number:8} {"accepted" if accepted else "other   "} {outcome}')


if __name__ == '__main__':
    main(*map(int, sys.argv[1:]))
