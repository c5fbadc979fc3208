"""Pictures that no instance has drawn, any number of them: crops of photographs, drawings, noise, other generators'."""
import io
from collections.abc import Iterator, Sequence
from typing import Callable

import numpy as np
from PIL import Image, ImageDraw

from datasets.archives import open_archive
from dnnlib.images import decode, to_uint8

LEAST_CROP = 0.4  # of a photograph's smaller side
AT_ONCE = 64      # pictures that a generator draws


def load_photographs(paths: Sequence[str]) -> list[bytes]:
    """The files of the image archives in `paths`. Raises UserError if one can't be read."""
    archives = [open_archive(path) for path in paths]
    return [archive.load(item) for archive in archives for item in archive.items]


def crop(photographs: Sequence[bytes], side: int, rng: np.random.Generator) -> np.ndarray:
    """A square somewhere in one of the photographs, of any size, mirrored or not: uint8 [side, side, 3]."""
    image = decode(photographs[rng.integers(len(photographs))])
    length = int(min(image.size) * rng.uniform(LEAST_CROP, 1))
    left, top = (int(rng.integers(size - length + 1)) for size in image.size)
    image = image.resize((side, side), Image.Resampling.LANCZOS, (left, top, left + length, top + length))
    pixels = np.asarray(image)
    return pixels[:, ::-1] if rng.random() < 0.5 else pixels


def noise(side: int, rng: np.random.Generator) -> np.ndarray:
    """Noise of some coarseness and strength around some grey: uint8 [side, side, 3]."""
    coarse = side // int(rng.choice([1, 2, 4, 8]))
    values = rng.uniform(0, 255) + rng.uniform(2, 120) * rng.standard_normal([coarse, coarse, 3])
    return _enlarged(np.clip(values, 0, 255).astype(np.uint8), side)


def flat(side: int, rng: np.random.Generator) -> np.ndarray:
    """One colour: uint8 [side, side, 3]."""
    return np.broadcast_to(rng.integers(0, 256, 3).astype(np.uint8), [side, side, 3])


def gradient(side: int, rng: np.random.Generator) -> np.ndarray:
    """Four colours, one in each corner, and what is between them: uint8 [side, side, 3]."""
    return _enlarged(rng.integers(0, 256, [2, 2, 3]).astype(np.uint8), side)


def drawing(side: int, rng: np.random.Generator) -> np.ndarray:
    """Lines, ellipses and rectangles in flat colours, as a diagram or a logo has: uint8 [side, side, 3]."""
    image = Image.new('RGB', (side, side), tuple(rng.integers(0, 256, 3).tolist()))
    pen = ImageDraw.Draw(image)
    for _ in range(rng.integers(2, 12)):
        (left, right), (top, bottom) = (sorted(rng.integers(0, side, 2).tolist()) for _ in range(2))
        shape, colour = (pen.line, pen.ellipse, pen.rectangle)[rng.integers(3)], tuple(rng.integers(0, 256, 3).tolist())
        shape((left, top, right, bottom), fill=colour)
    return np.asarray(image)


def recompressed(pixels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The picture after JPEG of some quality, as most that turn up are."""
    file = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels)).save(file, 'JPEG', quality=int(rng.integers(30, 96)))
    return np.asarray(decode(file.getvalue()))


class Drawn:
    """The pictures of a generator that is none of ours, one after the other: uint8 [side, side, 3] of (side, rng).

    generate: latents [N, latent_dim] → float images [N, H, W, 3] in [-1, 1].
    """

    def __init__(self, name: str, generate: Callable[[np.ndarray], np.ndarray], latent_dim: int):
        self.__name__, self.generate, self.latent_dim = name, generate, latent_dim
        self.drawn = []

    def __call__(self, side: int, rng: np.random.Generator) -> np.ndarray:
        if not self.drawn:
            self.drawn = list(to_uint8(self.generate(rng.standard_normal([AT_ONCE, self.latent_dim], np.float32))))
        image = Image.fromarray(self.drawn.pop())
        return np.asarray(image if image.size == (side, side) else image.resize((side, side), Image.Resampling.LANCZOS))


def _enlarged(pixels, side):
    return np.asarray(Image.fromarray(pixels).resize((side, side), Image.Resampling.BILINEAR))


def unrelated(photographs: Sequence[bytes], side: int, count: int, seed: int,
              generators: Sequence[Drawn] = ()) -> Iterator[tuple[str, np.ndarray]]:
    """Yields `count` (kind, uint8 [side, side, 3]): every second a crop of a photograph, half of all as JPEGs."""
    rng = np.random.default_rng(seed)
    others = (noise, flat, gradient, drawing, *generators)
    for number in range(count):
        make = others[number // 2 % len(others)]
        kind = make.__name__ if number % 2 else 'photograph'
        pixels = make(side, rng) if number % 2 else crop(photographs, side, rng)
        yield kind, recompressed(pixels, rng) if rng.random() < 0.5 else pixels
