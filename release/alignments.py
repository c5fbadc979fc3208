"""Versions in which a picture may be tried, since an edit that anyone makes takes the fingerprint from the decoder.

Each is undone here: mirrored, turned by quarters, inverted. Trying them all is 16 comparisons instead of one, for which
the p-value is corrected (fingerprints.statistics.corrected).
"""
import dataclasses
from collections.abc import Sequence
from typing import Callable

import numpy as np

from fingerprints.matching import SEVERAL, TIE, Attribution

AS_IT_IS = 'as it is'


def _names():
    for inverted in (False, True):
        for mirrored in (False, True):
            for quarters in range(4):
                words = [*(['mirrored'] if mirrored else []), *([f'turned by {90 * quarters}°'] if quarters else []),
                         *(['inverted'] if inverted else [])]
                yield ', '.join(words) or AS_IT_IS, (quarters, mirrored, inverted)


def _version(quarters, mirrored, inverted):
    def apply(images):
        images = np.rot90(images, quarters, axes=(1, 2))
        images = images[:, :, ::-1] if mirrored else images
        return 255 - images if inverted else images
    return apply


# {name: function of uint8 images [N, H, W, 3], H = W, to the like}; the first leaves them as they are.
ALIGNMENTS: dict[str, Callable[[np.ndarray], np.ndarray]] = {name: _version(*parts) for name, parts in _names()}


def combined(way: str, alignment: str) -> str:
    """The name of a picture that was scaled in some way (release.sizes) and is tried in one of ALIGNMENTS."""
    return ', '.join(name for name in (way, alignment) if name != AS_IT_IS) or AS_IT_IS


def best_alignment(found: Sequence[Attribution]) -> tuple[int, Attribution]:
    """What the Attributions of one picture's versions say together.

    They must have been made with num_alignments = len(found), which corrects thresholds and p-values.

    Returns:
        (number of the version of the least p-value, of equals that of the most matching bits, then the first; the
        Attribution): that version's, but for users who reach the threshold in other versions, which counts as it does
        within one.
    """
    best = min(range(len(found)), key=lambda number: (found[number].p_value, -found[number].matching))
    reached = {}  # {user: most matching bits}, best first
    for one in sorted(found, key=lambda one: (one.p_value, -one.matching)):
        least = one.threshold or 0  # no number of bits decides where they are weighed
        known = [one.matching, one.second_matching] + [least] * len(one.over_threshold)
        for name, count in zip(one.over_threshold, known):
            reached[name] = max(count, reached.get(name, 0))
    if len(reached) == len(found[best].over_threshold):
        return best, found[best]
    over = sorted(reached, key=lambda name: -reached[name])
    reason = TIE if reached[over[0]] == reached[over[1]] else SEVERAL
    return best, dataclasses.replace(found[best], user=None, reason=reason, over_threshold=tuple(over),
                                     second_user=over[1], second_matching=reached[over[1]])
