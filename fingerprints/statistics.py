"""What a number of matching bits proves: p-values, thresholds, power, confidence intervals.

A p-value rules out chance. It says nothing about forgery: whoever holds pictures of a user can copy their fingerprint.
"""
import math
from collections.abc import Sequence
from typing import Optional, Union

import numpy as np
from scipy import stats

from dnnlib.util import UsageError

Numbers = Union[float, Sequence[float], np.ndarray]


def p_value(matching: Numbers, num_bits: int) -> Numbers:
    """The chance that at least `matching` of `num_bits` bits agree by luck: P(Bin(num_bits, 1/2) >= matching), float64.

    `matching` may be an array. The null hypothesis is that of Yu et al. 2022 (the number of matching bits under random
    guessing). It holds exactly here: a user's code is drawn uniformly at random and independently of any image that
    does not stem from that user, so however biased or correlated the decoder's answers, each agrees with probability
    1/2 independently of the others.
    """
    return stats.binom.sf(np.asarray(matching) - 1, num_bits, 0.5)[()]


def log10_p_value(matching: int, num_bits: int) -> float:
    """log10 of `p_value`, summed in whole numbers, so that no size of `num_bits` underflows."""
    if not 0 <= matching <= num_bits:
        raise UsageError(f'{matching} of {num_bits} bits cannot match; count between 0 and {num_bits}')
    term, tail = 1, 1  # from k = num_bits downwards, (num_bits choose k)
    for k in range(num_bits, matching, -1):
        term = term * k // (num_bits - k + 1)
        tail += term
    return math.log10(tail) - num_bits * math.log10(2)


def corrected(p: Numbers, num_users: int, num_images: int = 1, num_alignments: int = 1) -> Numbers:
    """The p-value of the best of many comparisons: min(1, p · their number), the union bound.

    The comparisons are `num_users` codes with each of `num_images` pictures looked at, each in `num_alignments`
    versions (mirrored, shifted, scaled ...). The chance that any of several events happens is at most the sum of their
    chances, however they depend on each other, so nothing is assumed about the decoder, nor about the codes but that
    each alone is uniform. Pictures that were looked at and dropped count too.
    """
    return np.minimum(1.0, num_users * num_images * num_alignments * np.asarray(p, np.float64))[()]


def independent_corrected(p: Numbers, num_users: int) -> Numbers:
    """The exact chance that any of `num_users` independent codes does as well: 1 - (1 - p)^num_users.

    `corrected` bounds it from above, by a share of num_users · p / 2 at most: nothing at 1e-6, while at 1 this is 0.63.
    It holds for codes drawn without a minimum distance only, and for one picture.
    """
    with np.errstate(divide='ignore'):  # p = 1 gives log1p(-1), minus infinity, and so 1
        return -np.expm1(num_users * np.log1p(-np.asarray(p, np.float64)))[()]


def check_fpr(fpr: float) -> None:
    """Raises UsageError unless `fpr` is a probability strictly between 0 and 1."""
    if not 0 < fpr < 1:
        raise UsageError(f'a false-positive rate of {fpr} makes no sense; choose one between 0 and 1, 1e-6 for example')


def threshold(num_bits: int, num_users: int, fpr: float, num_images: int = 1, num_alignments: int = 1) -> Optional[int]:
    """The fewest matching bits whose corrected p-value is at most `fpr`, or None if all bits would not suffice.

    Raises UsageError for an `fpr` outside (0, 1).
    """
    check_fpr(fpr)
    counts = np.arange(num_bits + 1)
    enough = counts[corrected(p_value(counts, num_bits), num_users, num_images, num_alignments) <= fpr]
    return int(enough[0]) if enough.size else None


def bits_needed(num_users: int, fpr: float) -> int:
    """The fewest bits with which any of `num_users` can be named at `fpr`, if every bit is read right."""
    check_fpr(fpr)
    return math.ceil(math.log2(num_users / fpr))


def check_reachable(num_bits: int, num_users: int, fpr: float) -> None:
    """Raises UsageError if `num_bits` bits can name no one among `num_users` at `fpr`, however well they are read."""
    if threshold(num_bits, num_users, fpr) is None:
        raise UsageError(f'{num_bits} bits cannot name any of {num_users:,} users at a false-positive rate of {fpr:g}; '
                         f'that takes {bits_needed(num_users, fpr)} bits, or a rate of '
                         f'{corrected(2.0 ** -num_bits, num_users):.1g} or more')


def power(num_bits: int, needed: int, accuracy: float) -> float:
    """The chance that a true user's image has `needed` matching bits, if each is read right with chance `accuracy`.

    Bits are taken as independent, which a decoder's are not: `measured_power` knows better.
    """
    return float(stats.binom.sf(needed - 1, num_bits, accuracy))


def measured_power(matching: Sequence[int], needed: int) -> tuple[float, tuple[float, float]]:
    """The share of images with `needed` matching bits among those measured, `matching` [N], and its 95% interval."""
    reached = int((np.asarray(matching) >= needed).sum())
    return reached / len(matching), clopper_pearson(reached, len(matching))


def threshold_table(bits: Sequence[int], users: Sequence[int], fpr: float) -> str:
    """A Markdown table: for each number of bits and of users the threshold, and the share of bits that may be wrong."""
    rows = [['bits'] + [f'{count:,} users' for count in users], ['---'] * (1 + len(users))]
    for num_bits in bits:
        needed = [threshold(num_bits, count, fpr) for count in users]
        rows.append([str(num_bits)] + ['none' if k is None else f'{k} ({1 - k / num_bits:.0%})' for k in needed])
    return '\n'.join('| ' + ' | '.join(row) + ' |' for row in rows)


def accuracy_p_value(accuracy: float, num_bits: int) -> float:
    """The p-value that Yu et al. 2022 print beside a mean bit accuracy: P(X > floor(accuracy · num_bits)).

    X is the number of bits that coin tosses get right. Of the usual conventions only this one agrees with all ten
    bounds of their Table 1. At accuracy 1 no more bits than all can be right, and it is P(X = num_bits), not 0. It is
    the p-value of a mean, not of an image: print it to compare, never to attribute.
    """
    right = math.floor(accuracy * num_bits + 1e-9)  # 1e-9: 0.29 · 100 is 28.999999999999996
    return float(p_value(min(right + 1, num_bits), num_bits))


def clopper_pearson(successes: float, trials: float, confidence: float = 0.95) -> tuple[float, float]:
    """The exact two-sided interval (low, high) for a share (Clopper and Pearson, 1934). Counts may be fractional."""
    tail = (1 - confidence) / 2
    low = stats.beta.ppf(tail, successes, trials - successes + 1) if successes > 0 else 0.0
    high = stats.beta.ppf(1 - tail, successes + 1, trials - successes) if successes < trials else 1.0
    return float(low), float(high)


def accuracy_interval(accuracies: Numbers, num_bits: int, confidence: float = 0.95) -> tuple[float, float]:
    """The interval (low, high) for the mean bit accuracy, from each image's own accuracy [N] over `num_bits` bits.

    Images are independent, the bits of one image are not, so counting N·num_bits trials would promise too much. The
    Clopper-Pearson interval is taken at the effective number of trials that the spread between images tells (Korn and
    Graubard, 1998): between N and N·num_bits, and N if all images score alike.
    """
    accuracies = np.asarray(accuracies, np.float64)
    count, mean = len(accuracies), accuracies.mean()
    spread = accuracies.var(ddof=1) / count if count > 1 else 0.0
    trials = np.clip(mean * (1 - mean) / spread, count, count * num_bits) if spread > 0 else count
    return clopper_pearson(mean * trials, trials, confidence)
