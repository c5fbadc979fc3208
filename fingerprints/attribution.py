"""From the decoder's logits to a user and a p-value."""
import dataclasses
from typing import Optional

import numpy as np

from dnnlib.util import UserError
from fingerprints.codes import matching_bits
from fingerprints.statistics import check_fpr, corrected, p_value

USERS_AT_ONCE = 1 << 16  # 65,536 codes of 128 bits as float32 are 32 MiB
IMAGES_AT_ONCE = 64      # their counts, 8 MiB as int16


@dataclasses.dataclass(frozen=True)
class Attribution:
    """What one image's logits say.

    user: the user named, or None where the evidence does not reach the false-positive rate, or two users tie.
    best_user, matching: the user whose code agrees most, and in how many of `bits` bits.
    p_value: the chance that any of `users` codes agrees this well by luck, for an image that stems from none of them.
    second_user, second_matching: the runner-up; None where the registry holds one user only.
    """
    user: Optional[str]
    best_user: str
    matching: int
    bits: int
    p_value: float
    second_user: Optional[str]
    second_matching: Optional[int]
    users: int


def best_two(read, codes):
    """Finds the two codes [U, bits] that agree most with each row of `read` [N, bits] (of equals, the first).

    Returns (indices, counts), both int64 [N, 2], best first; [N, 1] where there is one code only. The codes are passed
    in blocks, so a million users need no more memory than their codes.
    """
    indices = np.zeros([len(read), 0], np.int64)
    counts = np.zeros([len(read), 0], np.int64)
    for start in range(0, len(codes), USERS_AT_ONCE):
        matching = matching_bits(read, codes[start:start + USERS_AT_ONCE])
        for _ in range(min(2, matching.shape[1])):
            best = matching.argmax(axis=1)[:, None]
            indices = np.concatenate([indices, best + start], axis=1)
            counts = np.concatenate([counts, np.take_along_axis(matching, best, axis=1)], axis=1)
            np.put_along_axis(matching, best, -1, axis=1)  # out of the way of the second best
        order = np.argsort(-counts, axis=1, kind='stable')[:, :2]
        indices, counts = np.take_along_axis(indices, order, axis=1), np.take_along_axis(counts, order, axis=1)
    return indices, counts


def attribute(logits, names, codes, fpr):
    """Names the user whom each image stems from.

    Args:
        logits: the decoder's answers [N, bits]; a bit is read as 1 where its logit is positive.
        names: the users' names, U of them.
        codes: their codes [U, bits], 0/1. Revoked users belong here too: their instances are still out there.
        fpr: the largest acceptable chance of naming anyone for an image that stems from no user.

    Returns:
        A list of N Attributions.

    Raises:
        UserError: the registry is empty, the logits are of another number of bits, or not finite.
        UsageError: `fpr` is not between 0 and 1.
    """
    logits, codes = np.asarray(logits), np.asarray(codes)
    _check(logits, names, codes, fpr)
    results = []
    for start in range(0, len(logits), IMAGES_AT_ONCE):
        indices, counts = best_two(logits[start:start + IMAGES_AT_ONCE] > 0, codes)
        p_values = corrected(p_value(counts[:, 0], codes.shape[1]), len(codes))
        results += [_conclude(*row, names, codes.shape, fpr) for row in zip(indices, counts, p_values)]
    return results


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


def _conclude(indices, counts, p, names, shape, fpr):
    second = len(indices) > 1
    tie = second and counts[0] == counts[1]  # naming one of two equals would be a coin toss
    best = names[indices[0]]
    return Attribution(
        user=best if p <= fpr and not tie else None, best_user=best, matching=int(counts[0]), bits=shape[1],
        p_value=float(p), second_user=names[indices[1]] if second else None,
        second_matching=int(counts[1]) if second else None, users=shape[0])
