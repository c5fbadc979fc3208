"""Pictures of any size, brought to the model's. Each way that is tried is one more comparison, and counted as such."""
from typing import Optional

import numpy as np
from PIL import Image

from dnnlib.images import ImageError
from release.alignments import AS_IT_IS

TOLERANCE = 16  # of 255: how much a border's pixels may differ from its corner's, as JPEG makes them
LEAST = 0.5     # of the model's side: below it too little of a fingerprint is left


def fitted(image: Image.Image, side: int) -> dict[str, np.ndarray]:
    """The ways to see a picture at the model's size.

    One of that size is taken as it is, since scaling would wash the fingerprint out unseen. Any other is scaled as a
    whole (most uploads keep all of a picture); its centre square is, if it is not square; and what is left without a
    border of one colour, if there is one. The ways depend on the picture alone.

    Args:
        image: RGB. side: the model's resolution in pixels.

    Returns:
        {way: uint8 [side, side, 3]}, one to three.

    Raises:
        ImageError: a side of the picture is below LEAST of the model's.
    """
    if image.size == (side, side):
        return {AS_IT_IS: np.asarray(image)}
    width, height = image.size
    if min(width, height) < LEAST * side:
        raise ImageError(f'is {width}x{height}, less than half the side of the model\'s {side}x{side}: too little of a '
                         'fingerprint is left')
    ways = {'resized': _scaled(image, None, side)}
    if width != height:
        ways['centre square, resized'] = _scaled(image, _centre(width, height), side)
    box = without_border(np.asarray(image))
    if box and min(box[2] - box[0], box[3] - box[1]) >= LEAST * side:
        ways['borders trimmed, resized'] = _scaled(image, box, side)
    return ways


def without_border(pixels: np.ndarray) -> Optional[tuple[int, int, int, int]]:
    """The box (left, top, right, bottom) of uint8 pixels [H, W, 3] within a border of one colour, that of the corner.

    None where there is no such border, or nothing else.
    """
    corner = pixels[0, 0].astype(np.int16)
    inside = []
    for axis in (0, 1):  # columns, then rows: by their extremes, which need little memory for a large picture
        high, low = (extreme(axis=axis).astype(np.int16) for extreme in (pixels.max, pixels.min))
        inside.append(np.flatnonzero(((high > corner + TOLERANCE) | (low < corner - TOLERANCE)).any(axis=1)))
    columns, rows = inside
    if not len(columns) or (len(columns), len(rows)) == pixels.shape[1::-1]:
        return None
    box = (int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1)
    return None if box == (0, 0, *pixels.shape[1::-1]) else box


def _centre(width, height):
    side = min(width, height)
    left, top = (width - side) // 2, (height - side) // 2
    return left, top, left + side, top + side


def _scaled(image, box, side):
    """What is within the box, scaled by Lanczos' filter, which Pillow widens so that nothing aliases."""
    image = image if box is None else image.crop(box)
    return np.asarray(image if image.size == (side, side) else image.resize((side, side), Image.Resampling.LANCZOS))
