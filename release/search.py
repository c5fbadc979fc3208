"""How a part of the model's picture, or a turned one, lay in it: found by how surely the decoder reads.

A crop, scaled back, is put at every place and size in turn, and the picture is turned by every angle, coarsely and then
around the best, by the mean absolute logit. That looks at no user's code, so that what is found is one more comparison
for the p-value, whatever the number of tries. Crops of turned pictures are not tried.
"""
from collections.abc import Iterable
from typing import Callable, NamedTuple

import numpy as np
from PIL import Image

from dnnlib.images import to_float
from dnnlib.perturbations.files import put_back, turn

LEAST_SHARE = 0.55   # of the side: of a smaller part too little of a fingerprint is left
COARSE = 32          # steps a side of the first round
MOST_DEGREES = 45    # beyond lie the quarter turns of release.alignments
COARSE_DEGREES = 3   # of the first round
KEPT = 6             # placements of the first round around which the second looks


class Placement(NamedTuple):
    """Side, top and left of a part, in pixels of the model's picture; or the degrees that a whole is turned back by."""
    side: int
    top: int
    left: int
    degrees: int = 0


def find_placement(image: np.ndarray, decode: Callable[[np.ndarray], np.ndarray]) -> tuple[Placement, np.ndarray]:
    """Finds how an image lies in the picture that it may be a part of, or that it may be turned from.

    Args:
        image: uint8 [H, W, 3], H = W, the part scaled to the model's size.
        decode: a metrics.base.Model's, float32 [N, H, W, 3] in [-1, 1] → logits [N, bits].

    Returns:
        (Placement, logits [bits]): the surest of all that were tried but the image as it is.
    """
    size = len(image)
    step = max(size // COARSE, 1)
    first = _tried(image, parts(size, step) + turns(size, COARSE_DEGREES), decode)
    best = sorted(first, key=lambda placement: -sureness(first[placement]))[:KEPT]
    near = {one for placement in best for one in around(placement, size, step)}
    found = {**first, **_tried(image, sorted(near - set(first)), decode)}
    surest = max(found, key=lambda placement: sureness(found[placement]))
    return surest, found[surest]


def sureness(logits: np.ndarray) -> float:
    """How surely bits were read: the mean absolute logit."""
    return float(np.abs(logits).mean())


def parts(size: int, step: int) -> list[Placement]:
    """Parts of a picture of `size` pixels a side, every `step` pixels in side, top and left."""
    sides = range(size - step, int(LEAST_SHARE * size), -step)
    return [Placement(side, top, left) for side in sides for top in range(0, size - side + 1, step)
            for left in range(0, size - side + 1, step)]


def turns(size: int, step: int) -> list[Placement]:
    """Turns of a whole picture, every `step` degrees in both directions."""
    return [Placement(size, 0, 0, sign * degrees) for degrees in range(step, MOST_DEGREES + 1, step)
            for sign in (-1, 1)]


def around(placement: Placement, size: int, step: int) -> list[Placement]:
    """Parts less than `step` pixels from one in side, top and left; turns less than COARSE_DEGREES from one."""
    side, top, left, degrees = placement
    if degrees:
        return [Placement(size, 0, 0, degrees + more) for more in range(1 - COARSE_DEGREES, COARSE_DEGREES)]
    near = range(1 - step, step)
    moved = [Placement(side + more, top + down, left + right) for more in near for down in near for right in near]
    return [one for one in moved if one.side < size and 0 <= min(one.top, one.left)
            and max(one.top, one.left) + one.side <= size]


def placed(image: np.ndarray, placement: Placement) -> np.ndarray:
    """An image [H, W, 3] where and how it lay, as a picture of its size."""
    picture = Image.fromarray(image)
    if placement.degrees:
        return np.asarray(turn(picture, placement.degrees))
    return np.asarray(put_back(picture, placement.side, placement.top, placement.left))


def in_words(placement: Placement, size: int) -> str:
    """'taken for a part: 80% of the side, 12% from the top, 5% from the left', or 'turned back by 12°'."""
    if placement.degrees:
        return f'turned back by {placement.degrees}°'
    side, top, left = (round(100 * value / size) for value in placement[:3])
    return f'taken for a part: {side}% of the side, {top}% from the top, {left}% from the left'


def _tried(image: np.ndarray, tried: Iterable[Placement], decode: Callable) -> dict[Placement, np.ndarray]:
    """{Placement: logits}."""
    tried = list(tried)
    if not tried:
        return {}
    return dict(zip(tried, decode(to_float(np.stack([placed(image, placement) for placement in tried])))))
