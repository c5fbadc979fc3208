"""From the decoder's logits to a user and a p-value."""
import dataclasses
from collections.abc import Sequence
from typing import Optional

import numpy as np

from dnnlib.util import UserError
from fingerprints.codes import matching_bits
from fingerprints.statistics import check_fpr, corrected, p_value, threshold

USERS_AT_ONCE = 1 << 16  # 65,536 codes of 128 bits as float32 are 32 MiB
IMAGES_AT_ONCE = 64      # their counts, 8 MiB as int16

NAMED, NOBODY, SEVERAL, TIE, UNREACHABLE = 'named', 'nobody', 'several', 'tie', 'unreachable'


@dataclasses.dataclass(frozen=True)
class Attribution:
    """What one image's logits say.

    user: the user named; None unless exactly one user's code reaches the threshold.
    reason: why. 'named'; 'nobody' reaches the threshold; 'several' do, which points to collusion or forgery; 'tie',
        several do and the two best agree equally well; 'unreachable', if all bits would not suffice for so many users.
    best_user, matching: the user whose code agrees most (of equals, the first), and in how many of `num_bits` bits.
    p_value: the chance that any of `users` codes agrees this well by luck, for an image that stems from none of them;
        or, if asked for, for all images and alignments tried.
    threshold: the fewest matching bits that name a user at the rate asked for; None if no number suffices.
    over_threshold: the names of all users that reach it, best first.
    second_user, second_matching: the runner-up; None if there is one user only.
    """
    user: Optional[str]
    reason: str
    best_user: str
    matching: int
    num_bits: int
    p_value: float
    threshold: Optional[int]
    over_threshold: tuple[str, ...]
    second_user: Optional[str]
    second_matching: Optional[int]
    users: int


def attribute(logits: np.ndarray, names: Sequence[str], codes: np.ndarray, fpr: float, num_images: int = 1,
              num_alignments: int = 1) -> list[Attribution]:
    """Names the user whom each image stems from.

    Args:
        logits: the decoder's answers [N, num_bits]; a bit is read as 1 if its logit is positive.
        names: the users' names, U of them.
        codes: their codes [U, num_bits], 0/1. Revoked users belong here too: their instances are still out there.
        fpr: the largest acceptable chance, over all users together, of any user's passing for an image that stems from
            none of them.
        num_images: how many pictures are looked at until one is held against someone, if `fpr` is to hold for all of
            them together. 1: for each picture.
        num_alignments: in how many versions (mirrored, shifted ...) each picture is tried.

    Returns:
        A list of N Attributions.

    Raises:
        UserError: there are no users, the logits are of another number of bits, or not finite.
        UsageError: `fpr` is not between 0 and 1.
    """
    logits, codes = np.asarray(logits), np.asarray(codes)
    _check(logits, names, codes, fpr)
    tried = (len(codes), num_images, num_alignments)
    needed = threshold(codes.shape[1], len(codes), fpr, num_images, num_alignments)
    results = []
    for start in range(0, len(logits), IMAGES_AT_ONCE):
        read = logits[start:start + IMAGES_AT_ONCE] > 0
        for candidates in _candidates(read, codes, needed):
            results.append(_conclude(candidates, names, codes.shape[1], needed, tried))
    return results


def _candidates(read, codes, needed):
    """For each row of `read` [N, num_bits], a list of (user's index, matching bits), best first, of equals the first.

    Each list has the two best users and everyone who reaches `needed`. The codes are passed in blocks, so a million
    users need little more memory than their codes.
    """
    candidates = [[] for _ in read]
    for start in range(0, len(codes), USERS_AT_ONCE):
        matching = matching_bits(read, codes[start:start + USERS_AT_ONCE])
        for found, row in zip(candidates, matching):
            chosen = _best_two(row) if needed is None else np.union1d(_best_two(row), np.flatnonzero(row >= needed))
            found += [(start + int(index), int(row[index])) for index in chosen]
            found.sort(key=lambda candidate: (-candidate[1], candidate[0]))
            del found[max(2, sum(needed is not None and count >= needed for _, count in found)):]
    return candidates


def _best_two(row):
    """The indices of the two largest counts of row [U], of equals the first; of one only if U is 1."""
    first = row.argmax()
    if len(row) == 1:
        return np.array([first])
    others = row.copy()
    others[first] = -1
    return np.array([first, others.argmax()])


def _check(logits, names, codes, fpr):
    check_fpr(fpr)
    if not len(codes):
        raise UserError('the registry holds no users, so there is no one to attribute to; issue an instance first')
    assert len(names) == len(codes), (len(names), codes.shape)
    if logits.ndim != 2 or logits.shape[1] != codes.shape[1]:
        raise UserError(f"the decoder's answers are {list(logits.shape)}, the registry's codes have {codes.shape[1]} "
                        'bits; use the registry that belongs to this decoder')
    if not np.isfinite(logits).all():
        raise UserError('the decoder answered with values that are not finite; use another snapshot')


def _conclude(candidates, names, num_bits, needed, tried):
    """The Attribution that follows from one image's candidates."""
    (best, matching), (second, second_matching) = (candidates + [(None, None)])[:2]
    over = [index for index, count in candidates if needed is not None and count >= needed]
    reason = _reason(over, matching == second_matching, needed)
    return Attribution(
        user=names[best] if reason == NAMED else None, reason=reason, best_user=names[best], matching=matching,
        num_bits=num_bits, p_value=float(corrected(p_value(matching, num_bits), *tried)), threshold=needed,
        over_threshold=tuple(names[index] for index in over),
        second_user=None if second is None else names[second], second_matching=second_matching, users=len(names))


def _reason(over, best_are_equal, needed):
    if needed is None:
        return UNREACHABLE
    if not over:
        return NOBODY
    if len(over) == 1:
        return NAMED
    return TIE if best_are_equal else SEVERAL
