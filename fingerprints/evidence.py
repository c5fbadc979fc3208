"""Evidence beyond one image's number of matching bits: signed logits, several images, likelihood ratios.

Every p-value here rests on one fact: a user's code is uniform, and independent of any image that does not stem from
that user. So whatever is computed from the images alone (weights, pooled logits) may be chosen freely; only what is
compared with the code must be compared as announced.
"""
import dataclasses
from collections.abc import Sequence

import numpy as np

from dnnlib.util import UsageError, UserError
from fingerprints.codes import signs
from fingerprints.statistics import clopper_pearson

LEVELS = 100  # weights are whole numbers up to this, so that their sums have few values and exact chances
CAP = 3       # weights are capped at this many medians: one wild logit must not outvote all others


def soft_weights(logits: np.ndarray) -> np.ndarray:
    """Turns an image's logits [num_bits] into signed whole-number weights, int64 in -LEVELS..LEVELS.

    The sign is the bit that was read, the size how surely: proportional to the logit, capped at CAP medians. A function
    of the image alone, which is all that `soft_p_values` asks.

    Raises:
        UserError: a logit is not finite.
    """
    logits = np.asarray(logits, np.float64)
    if not np.isfinite(logits).all():
        raise UserError('the decoder answered with values that are not finite; use another snapshot')
    sizes = np.abs(logits)
    cap = CAP * float(np.median(sizes)) or float(sizes.max())  # a median of 0: most bits were not read at all
    if not 0 < cap < np.inf:  # no bit was read; or the logits are so large that three of them overflow
        return (np.sign(logits) * LEVELS).astype(np.int64)
    return (np.sign(logits) * np.rint(LEVELS * np.minimum(sizes / cap, 1))).astype(np.int64)


def rademacher_tail(weights: np.ndarray) -> np.ndarray:
    """The exact tails of a sum of whole-number weights with random signs.

    Args:
        weights: [n] whole numbers; only their sizes count. W is the sum of the sizes.

    Returns:
        tail [W + 1] float64: tail[k] = P(sum of ±|weights| >= 2k - W). (Every sum has the form 2k - W.)

    The chances come from n convolutions with (1/2, 1/2). Only positive numbers are added and halved, so nothing
    cancels, and each tail is right to a relative 1e-10; no normal approximation, no bound, is involved.
    """
    sizes = np.abs(np.asarray(weights, np.int64))
    chances = np.zeros(int(sizes.sum()) + 1)
    chances[0], reached = 1, 0
    for size in sizes[sizes > 0]:
        moved = chances[:reached + 1] / 2  # a plus raises k by the weight, a minus leaves it
        chances[:reached + 1] = moved
        chances[size:reached + size + 1] += moved
        reached += size
    return np.minimum(chances[::-1].cumsum()[::-1], 1)


def soft_p_values(logits: np.ndarray, codes: np.ndarray) -> np.ndarray:
    """The p-value of one image for each code, from how surely each bit was read: [U] float64, not yet corrected.

    The statistic is the sum over bits of weight · (+1 if the bit read is the code's, else -1). Under a uniform code
    that is independent of the image, it is a sum of the weights' sizes with random signs, for any decoder whatever;
    its tail is computed exactly. Choose between this and the number of matching bits before looking, or double the
    p-value.

    Args:
        logits: the decoder's answers [num_bits], or several images' by `pool`.
        codes: [U, num_bits] 0/1.

    Raises:
        UserError: a logit is not finite.
    """
    weights = soft_weights(logits)
    tail = rademacher_tail(weights)
    agreement = np.rint(signs(codes) @ weights.astype(np.float64)).astype(np.int64)
    return tail[(agreement + len(tail) - 1) // 2]


def pool(logits: np.ndarray) -> np.ndarray:
    """Pools the logits [N, num_bits] of N images of one source into one row of logits [num_bits].

    Each image votes with its `soft_weights`, so that none outvotes the others. The result depends on the images alone,
    so its p-values (`soft_p_values`, or those of its number of matching bits) hold although the images share one code,
    and however alike they are. To multiply the images' own p-values would be wrong: like images repeat one accident.
    That the images have one source must be known from elsewhere, or be counted as tries (`statistics.corrected`).

    Raises:
        UserError: there is no image, or a logit is not finite.
    """
    if not len(logits):
        raise UserError('there are no images to pool; give at least one')
    return np.sum([soft_weights(row) for row in logits], axis=0).astype(np.float64)


@dataclasses.dataclass(frozen=True)
class LikelihoodRatio:
    """How much more often the finding is seen on images of the user's instance than on images of no instance.

    ratio: a lower estimate. hit_rate: the share of own images with as many matching bits, its lower 95% bound.
    false_rate: that of innocents, its upper 95% bound, never below 3 / innocents. own_images, innocents: how many were
    measured. capped: whether no innocent reached as many bits, so that the ratio says only how many were
    measured.
    """
    ratio: float
    hit_rate: float
    false_rate: float
    own_images: int
    innocents: int
    capped: bool


def likelihood_ratio(matching: int, own: Sequence[int], innocents: Sequence[int]) -> LikelihoodRatio:
    """The likelihood ratio of "at least `matching` bits agree" between two propositions.

    The image stems from the user's instance; it stems from no instance of the registry.

    Args:
        matching: the number of matching bits of the image in question.
        own: measured numbers of matching bits of the model's own images with their own code.
        innocents: measured numbers for images of no instance: each with the best of all users, if the user in question
            was found by searching all of them. Images as the one in question: same kind, same processing.

    Nothing is claimed beyond what was measured: with n innocents none of which reached so many bits, the ratio is at
    most hit rate · n / 3 (the rule of three: their true rate is below 3 / n with 95% confidence).

    Raises:
        UsageError: no own images or no innocents.
    """
    if not len(own) or not len(innocents):
        raise UsageError(f'{len(own)} own images and {len(innocents)} innocents measure no likelihood ratio; '
                         'give at least one of each')
    hits, false = (int((np.asarray(counts) >= matching).sum()) for counts in (own, innocents))
    hit_rate, _ = clopper_pearson(hits, len(own), 0.9)  # 5% on either side
    _, measured = clopper_pearson(false, len(innocents), 0.9)
    false_rate = min(1.0, max(measured, 3 / len(innocents)))
    return LikelihoodRatio(hit_rate / false_rate, hit_rate, false_rate, len(own), len(innocents), false == 0)
