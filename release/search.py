"""Where in the model's picture a part of it lies: a crop, scaled back, is put where the decoder reads most surely.

Every place and size is tried in turn, coarsely and then around the best, by the mean absolute logit. That looks at no
user's code, so that what is found is one more comparison for the p-value, whatever the number of tries.
"""
from collections.abc import Iterable
from typing import Callable

import numpy as np
from PIL import Image

LEAST_SHARE = 0.55   # of the side: of a smaller part too little of a fingerprint is left
COARSE = 32          # steps a side of the first round
KEPT = 6             # places of the first round around which the second looks

Place = tuple[int, int, int]  # side, top and left of the part, in pixels of the model's picture


def find_part(image: np.ndarray, decode: Callable[[np.ndarray], np.ndarray]) -> tuple[Place, np.ndarray]:
    """Finds where an image lies in the picture that it may be a part of.

    Args:
        image: uint8 [H, W, 3], H = W, the part scaled to the model's size.
        decode: uint8 [N, H, W, 3] → logits [N, bits].

    Returns:
        (Place, logits [bits]): the surest of all that were tried but the whole.
    """
    size = len(image)
    step = max(size // COARSE, 1)
    first = _tried(image, places(size, step), decode)
    best = sorted(first, key=lambda place: -sureness(first[place]))[:KEPT]
    second = _tried(image, {near for place in best for near in around(place, size, step)} - set(first), decode)
    found = {**first, **second}
    place = max(found, key=lambda place: sureness(found[place]))
    return place, found[place]


def sureness(logits: np.ndarray) -> float:
    """How surely bits were read: the mean absolute logit."""
    return float(np.abs(logits).mean())


def places(size: int, step: int) -> list[Place]:
    """Parts of a picture of `size` pixels a side, every `step` pixels in side, top and left."""
    sides = range(size - step, int(LEAST_SHARE * size), -step)
    return [(side, top, left) for side in sides for top in range(0, size - side + 1, step)
            for left in range(0, size - side + 1, step)]


def around(place: Place, size: int, step: int) -> list[Place]:
    """The parts less than `step` pixels from a place in side, top and left, itself included."""
    near = range(1 - step, step)
    moved = [tuple(np.add(place, (side, top, left)).tolist()) for side in near for top in near for left in near]
    return [(side, top, left) for side, top, left in moved
            if side < size and 0 <= top <= size - side and 0 <= left <= size - side]


def put_back(image: np.ndarray, place: Place) -> np.ndarray:
    """An image scaled to its side and put at its place in a picture of its size; its edge is repeated around it."""
    size, (side, top, left) = len(image), place
    part = np.asarray(Image.fromarray(image).resize((side, side), Image.Resampling.BICUBIC))
    return np.pad(part, [(top, size - side - top), (left, size - side - left), (0, 0)], mode='edge')


def in_words(place: Place, size: int) -> str:
    """'taken for a part: 80% of the side, 12% from the top, 5% from the left'."""
    side, top, left = (round(100 * value / size) for value in place)
    return f'taken for a part: {side}% of the side, {top}% from the top, {left}% from the left'


def _tried(image: np.ndarray, tried: Iterable[Place], decode: Callable) -> dict[Place, np.ndarray]:
    """{Place: logits}."""
    tried = list(tried)
    if not tried:
        return {}
    return dict(zip(tried, decode(np.stack([put_back(image, place) for place in tried]))))
