"""Reading marks whose signs nobody knows yet: bits and signs at once, from what an inversion leaves of a picture.

Marks are the product of what bits make and of what signs make, so that each part of the sign map shows the same bits,
as they are or reversed. Where the picture that was drawn again is not yet the right one, neither are its signs; of
marks that are there, both follow all the same, but for one sign that is common to all.
"""
from typing import NamedTuple, Optional

import numpy as np

from release.redrawing.left import Left

ROUNDS = 10
CAUTION = 0.5       # share of the log-odds of a sign that is believed, since bits were read with it
SHOWN = 0.05        # of the most, that a part of the sign map must show of itself to count
LEAST_ENERGY = 1e-3  # of the most, of marks that are compared


class Blind(NamedTuple):
    """Marks that were read blindly.

    marks: [pixels], in Left's units. left, explained: Left.unexplained and Left.explained of them.
    """
    marks: np.ndarray
    left: float
    explained: float


def read_blindly(left: Left, marks: np.ndarray, maps: np.ndarray, signs: Optional[np.ndarray] = None) -> Blind:
    """Reads marks by alternating least squares of bits and signs.

    Args:
        left: what an inversion leaves.
        marks: of each bit, without signs, in its units, [bits, pixels].
        maps: the parts of the sign map, [P, pixels].
        signs: [P], to begin with; without them, those that go best with one row of bits.
    """
    shown = maps.sum(1) > SHOWN * maps.sum(1).max()
    maps = maps[shown]
    signs = _begun(left, marks, maps) if signs is None else signs[shown].astype(np.float64)
    for _ in range(ROUNDS):
        bits, noise = _bits(left, marks, signs @ maps)
        signs = _signs(left.whitened, left.without_nuisance((bits @ marks) * maps), signs, noise)
    told = (_bits(left, marks, signs @ maps)[0] @ marks) * (signs @ maps)
    return Blind(told, left.unexplained(told), left.explained(told, len(marks) + len(maps)))


def _begun(left, marks, maps):
    """Signs [P] of the product of bits and signs that is most alike each bit's mark in each part (first singular)."""
    alike = (maps * left.whitened) @ marks.T                                                 # [P, bits]
    energy = (maps ** 2) @ (marks ** 2).T
    return np.sign(np.linalg.svd(alike / np.sqrt(energy + LEAST_ENERGY * energy.max()))[0][:, 0])


def _bits(left, marks, signs):
    """Bits [bits] from −1 to 1, as sure as they are, by least squares with signs [pixels]; what they leave varies so
    much."""
    bits, variances, noise = left.bits(marks * signs)
    return np.tanh(bits / variances), noise


def _signs(target, parts, signs, noise):
    """Signs [P] from −1 to 1, as sure as they are, of parts [P, pixels] of a target [pixels], one after the other."""
    signs, told = signs.copy(), signs @ parts
    for index, part in enumerate(parts):
        others = told - signs[index] * part
        signs[index] = np.tanh(CAUTION * ((target - others) @ part) / noise)
        told = others + signs[index] * part
    return signs
