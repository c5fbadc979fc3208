"""What a number of matching bits proves: p-values, thresholds, confidence intervals."""
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


def corrected(p: Numbers, num_users: int) -> Numbers:
    """The p-value of the best of `num_users` comparisons: min(1, num_users · p), the union bound.

    The chance that any of several events happens is at most the sum of their chances, however they depend on each
    other, so nothing is assumed about the decoder. For an image of one user that is compared with another's code, the
    codes' being distinct costs a factor 2^num_bits / (2^num_bits - 1) at most, which no p-value shows.
    """
    return np.minimum(1.0, num_users * np.asarray(p, np.float64))[()]


def check_fpr(fpr: float) -> None:
    """Raises UsageError unless `fpr` is a probability strictly between 0 and 1."""
    if not 0 < fpr < 1:
        raise UsageError(f'a false-positive rate of {fpr} makes no sense; choose one between 0 and 1, 1e-6 for example')


def threshold(num_bits: int, num_users: int, fpr: float) -> Optional[int]:
    """The fewest matching bits whose corrected p-value is at most `fpr`, or None if all bits would not suffice.

    Raises UsageError for an `fpr` outside (0, 1).
    """
    check_fpr(fpr)
    counts = np.arange(num_bits + 1)
    enough = counts[corrected(p_value(counts, num_bits), num_users) <= fpr]
    return int(enough[0]) if enough.size else None


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
