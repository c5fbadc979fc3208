"""What a number of matching bits proves: p-values, thresholds, confidence intervals."""
import math

import numpy as np
from scipy import stats

from dnnlib.util import UsageError


def p_value(matching, bits):
    """The chance that at least `matching` of `bits` bits agree by luck: P(Bin(bits, 1/2) >= matching), float64.

    `matching` may be an array. The null hypothesis is that of Yu et al. 2022 (the number of matching bits under random
    guessing). It holds exactly here: a user's code is drawn uniformly at random and independently of any image that
    does not stem from that user, so however biased or correlated the decoder's answers, each agrees with probability
    1/2 independently of the others.
    """
    return stats.binom.sf(np.asarray(matching) - 1, bits, 0.5)[()]


def corrected(p, num_users):
    """The p-value of the best of `num_users` comparisons: min(1, num_users · p), the union bound.

    The chance that any of several events happens is at most the sum of their chances, however they depend on each
    other, so nothing is assumed about the decoder. For an image of one user that is compared with another's code, the
    codes' being distinct costs a factor 2^bits / (2^bits - 1) at most, which no p-value shows.
    """
    return np.minimum(1.0, num_users * np.asarray(p, np.float64))[()]


def check_fpr(fpr):
    """Returns `fpr` where it is a probability strictly between 0 and 1. Raises UsageError where not."""
    if not 0 < fpr < 1:
        raise UsageError(f'a false-positive rate of {fpr} makes no sense; choose one between 0 and 1, 1e-6 for example')
    return fpr


def threshold(bits, num_users, fpr):
    """The fewest matching bits whose corrected p-value is at most `fpr`, or None where all bits would not suffice.

    Raises UsageError for an `fpr` outside (0, 1).
    """
    counts = np.arange(bits + 1)
    enough = counts[corrected(p_value(counts, bits), num_users) <= check_fpr(fpr)]
    return int(enough[0]) if enough.size else None


def accuracy_p_value(accuracy, bits):
    """The paper's p-value of a mean bit accuracy: that of the mean number of matching bits, rounded down."""
    return float(p_value(math.floor(accuracy * bits + 1e-9), bits))  # 1e-9: 0.29 · 100 is 28.999999999999996


def clopper_pearson(successes, trials, confidence=0.95):
    """The exact two-sided interval (low, high) for a share (Clopper and Pearson, 1934). Counts may be fractional."""
    tail = (1 - confidence) / 2
    low = stats.beta.ppf(tail, successes, trials - successes + 1) if successes > 0 else 0.0
    high = stats.beta.ppf(1 - tail, successes + 1, trials - successes) if successes < trials else 1.0
    return float(low), float(high)


def accuracy_interval(accuracies, bits, confidence=0.95):
    """The interval (low, high) for the mean bit accuracy, from each image's own accuracy [N] over `bits` bits.

    Images are independent, the bits of one image are not, so counting N·bits trials would promise too much. The
    Clopper-Pearson interval is taken at the effective number of trials that the spread between images tells (Korn and
    Graubard, 1998): between N and N·bits, and N where all images score alike.
    """
    accuracies = np.asarray(accuracies, np.float64)
    count, mean = len(accuracies), accuracies.mean()
    spread = accuracies.var(ddof=1) / count if count > 1 else 0.0
    trials = np.clip(mean * (1 - mean) / spread, count, count * bits) if spread > 0 else count
    return clopper_pearson(mean * trials, trials, confidence)
