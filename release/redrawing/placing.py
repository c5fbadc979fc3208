"""How a picture lies in the model's: a part of it scaled up, or the whole turned; and pictures resampled so."""
from typing import Optional

import numpy as np
import tensorflow as tf

from release.search import Placement, sureness

SHARES = (0.9, 0.8, 0.7, 0.6, 0.5)  # of the side, of the parts that a search begins with
SPACING = 0.04                      # of the side, between their places
DEGREES = range(-45, 46, 3)         # of the turns that it begins with
WHOLLY = 0.9                        # share of a cell that shows the picture, if it is to count

# Placements are rows of 4: log of the side, down and right from the middle, in sides; radians.


def placements() -> dict[str, np.ndarray]:
    """What a search begins with, by kind, float32 [P, 4] each: the whole, parts of it, turns."""
    parts = []
    for share in SHARES:
        places = np.linspace(-0.5, 0.5, max(2, round((1 - share) / SPACING) + 1)) * (1 - share)
        parts += [[np.log(share), down, right, 0] for down in places for right in places]
    turns = [[0, 0, 0, np.radians(degrees)] for degrees in DEGREES if degrees]
    kinds = {'whole': [[0, 0, 0, 0]], 'part': parts, 'turn': turns}
    return {kind: np.array(found, np.float32) for kind, found in kinds.items()}


def as_searched(placement: Placement, size: int) -> np.ndarray:
    """The placement [4] of a picture of `size` pixels a side that a decoder's search put so."""
    middle = (np.array([placement.top, placement.left]) + placement.side / 2) / size - 0.5
    return np.array([np.log(placement.side / size), *middle, -np.radians(placement.degrees)], np.float32)


def where_to_begin(placement: Placement, searched: np.ndarray, as_it_is: np.ndarray, size: int) -> Optional[np.ndarray]:
    """as_searched, if logits [bits] are surer where the search put the picture than as it is; else None."""
    return as_searched(placement, size) if sureness(searched) > sureness(as_it_is) else None


def placed(images: tf.Tensor, placing: tf.Tensor, outside: str = 'NEAREST') -> tf.Tensor:
    """Images [N, H, W, C], H = W, seen through placements [N, 4]: bilinear, of the same size.

    outside: 'NEAREST' repeats the border, 'CONSTANT' shows 0.
    """
    middle = (tf.cast(tf.shape(images)[1], tf.float32) - 1) / 2
    side, size = tf.exp(placing[:, 0]), 2 * middle + 1
    along, across = side * tf.cos(placing[:, 3]), side * tf.sin(placing[:, 3])
    right = middle * (1 - along + across) + size * placing[:, 2]
    down = middle * (1 - across - along) + size * placing[:, 1]
    none = tf.zeros_like(along)
    matrices = tf.stack([along, -across, right, across, along, down, none, none], axis=1)    # [N, 8]
    return tf.raw_ops.ImageProjectiveTransformV3(
        images=images, transforms=matrices, output_shape=tf.shape(images)[1:3], fill_value=0.0,
        interpolation='BILINEAR', fill_mode=outside)


def averaged(images: tf.Tensor, placing: tf.Tensor, side: int) -> tf.Tensor:
    """Images [N, H, W, C] seen through placements [N, 4] and averaged down: [N, side, side, C]."""
    factor = images.shape[1] // side
    return tf.nn.avg_pool2d(placed(images, placing), factor, factor, 'VALID')


def pooled(luma: np.ndarray, side: int) -> np.ndarray:
    """Luma [N, H, W] averaged down to [N, side, side], of which H = W is a multiple."""
    count, size = luma.shape[:2]
    return luma.reshape(count, side, size // side, side, size // side).mean((2, 4))


def shown(placing: tf.Tensor, size: int) -> tf.Tensor:
    """Which pixels show the model's picture, and not what lies outside: 0 or 1, [N, size, size, 1]."""
    everywhere = tf.ones([tf.shape(placing)[0], size, size, 1])
    # A part lies within, but for the half pixel by which its border's centres may lie outside.
    inside = placed(everywhere, placing, 'CONSTANT') > 0.49
    return tf.cast(inside, tf.float32)


def views(luma: np.ndarray, placing: np.ndarray, side: int) -> tuple[np.ndarray, np.ndarray]:
    """Luma [N, S, S] seen through a placement [4] and averaged down, [N, side²]; which of these show it, bool [side²].
    """
    rows = tf.constant(np.tile(placing, [len(luma), 1]))
    seen = placed(tf.constant(luma[..., np.newaxis]), rows).numpy()[..., 0]
    where = pooled(shown(rows[:1], luma.shape[1]).numpy()[..., 0], side).reshape(-1) > WHOLLY
    return pooled(seen, side).reshape(len(luma), -1), where


def in_words(placing: np.ndarray) -> str:
    """'as a part: 80% of the side, 12% from the top, 5% from the left', 'turned by 12°' or 'as a whole'."""
    side, turn = float(np.exp(placing[0])), float(np.degrees(placing[3]))
    if side < 0.97:
        top, left = (max(0, round(100 * (0.5 + float(place) - side / 2))) for place in placing[1:3])
        return f'as a part: {100 * side:.0f}% of the side, {top}% from the top, {left}% from the left'
    return f'turned by {turn:.0f}°' if abs(turn) > 1 else 'as a whole'
