"""Two users who combined their instances, to hide both: found by the bits in which their codes agree.

Whoever averages two instances, or their pictures, or pastes halves together, keeps the bits that both codes share and
loses the others. About 3/4 of either code is left, which may name neither. All of what they share is left.

What is compared, for a pair a and b, the bits read r and codes of n bits:

1. *Does the picture stem from a, b or both, or from neither?* Of the m bits in which the codes agree, k were read as
   both have them. If it stems from neither, k is Binomial(m, 1/2), whatever the decoder does: given the set of bits in
   which they agree, c_a on that set is still uniform. With a minimum distance too: XOR both codes with any fixed vector
   and the distance stays, so every c_a is as likely as another given c_a + c_b (codes.draw_distant_code, 1.).
2. *Was the other one needed?* A picture of a's alone agrees with much of what a shares with anyone, so that 1. would
   accuse a's partners at random. Now let it stem from a, and b be innocent: then, given r and c_a, c_b is uniform. Of
   the w bits in which the picture contradicts c_a, b's code matches x, of the others y; these are Binomial(w, 1/2) and
   Binomial(n - w, 1/2), and independent, so CONTRADICTED · x + y has exact tails. If b took part, x is near w (what
   else would have contradicted a?), and y near 2/3 of n - w: the weight is the ratio of their log likelihood ratios.
   (A minimum distance may raise this p-value by a thousandth, as any user's: codes.distance_cost.)

With U users a pair is found if U(U - 1) · p_1 and 4(U - 1) · p_2, for either as the innocent one, are at most the rate.
So an innocent user is in a found pair with at most that chance, for pictures of nobody, of one user and of two: the
pairs of two innocents are at most U(U - 1) / 2, which costs half the rate, and those of an innocent and a guilty user
at most 2(U - 1), which costs the other half. (For g users who combined theirs it is at most 1/2 + g/4 of the rate.)

As ever, that rules out chance, not forgery.
"""
import dataclasses
import functools
from collections.abc import Sequence
from typing import Optional

import numpy as np
from scipy import stats

from dnnlib.util import UserError
from fingerprints.matching import PackedCodes
from fingerprints.statistics import check_fpr, p_value

MOST_USERS = 10_000  # 50 million pairs: seconds for each picture
AT_ONCE = 1024       # users compared with all others: 10,000 of them are 40 MB
CONTRADICTED = 5     # weight of a bit that speaks against the one and for the other


@dataclasses.dataclass(frozen=True)
class Pair:
    """Two users whose codes together explain a picture.

    users: their names; of several pairs found, those of the least p-value.
    agreeing, matching: in how many bits their codes agree, and how many of these were read so.
    p_value: the chance of finding a pair with an innocent user in it, corrected for all pairs and versions.
    found: how many pairs reach the rate. involved: the users in any of these, best pair first.
    """
    users: tuple[str, str]
    agreeing: int
    matching: int
    p_value: float
    found: int
    involved: tuple[str, ...]


class PairSearch:
    """Looks for pairs among users.

    Args:
        names: the users'. codes: theirs.

    Raises:
        UserError: there are more than MOST_USERS.
    """

    def __init__(self, names: Sequence[str], codes: PackedCodes):
        if len(codes) > MOST_USERS:
            raise UserError(f'pairs of {len(codes):,} users are too many to be compared; up to {MOST_USERS:,} users '
                            'are: attribute without --collusion')
        self.names, self.num_bits = names, codes.num_bits
        self._codes = codes.bits(0, len(codes))

    def __call__(self, logits: np.ndarray, fpr: float, tried: int = 1) -> Optional[Pair]:
        """The Pair that one picture's logits [num_bits] show, or None.

        Args:
            fpr: the largest acceptable chance of finding a pair with an innocent user in it.
            tried: in how many versions the picture is looked at.
        """
        check_fpr(fpr)
        if len(self._codes) < 2:
            return None
        wrong = (self._codes != (np.asarray(logits) > 0)).astype(np.float32)
        first, second, both_wrong = self._sharing(wrong, fpr / tried)
        counts = wrong.sum(axis=1).astype(np.int64)
        agreeing = self.num_bits - counts[first] - counts[second] + 2 * both_wrong
        matching = agreeing - both_wrong
        p = tried * np.maximum.reduce([
            self._shared_p(agreeing, matching), self._needed_p(counts[first], matching, both_wrong),
            self._needed_p(counts[second], matching, both_wrong)])
        order = np.argsort(p, kind='stable')[:int((p <= fpr).sum())]
        if not order.size:
            return None
        pairs = [(self.names[first[one]], self.names[second[one]]) for one in order]
        return Pair(pairs[0], int(agreeing[order[0]]), int(matching[order[0]]), float(p[order[0]]), len(pairs),
                    tuple(dict.fromkeys(name for pair in pairs for name in pair)))

    def findable(self, fpr: float, tried: int = 1) -> tuple[int, int]:
        """(how many pairs of these users can be found at a rate, how many there are).

        A pair can be found if the bits it shares are read right and half of the others as either user has them.
        """
        shared = np.arange(self.num_bits + 1)
        contradicted = (self.num_bits - shared) // 2
        p = tried * np.maximum(self._shared_p(shared, shared), self._needed_p(contradicted, shared, 0 * shared))
        numbers = np.zeros(self.num_bits + 1, np.int64)
        for start in range(0, len(self._codes), AT_ONCE):
            block, rest = self._codes[start:start + AT_ONCE] * 2 - 1, self._codes[start:] * 2 - 1
            above = np.triu(np.ones([len(block), len(rest)], bool), 1)
            numbers += np.bincount(((block @ rest.T)[above].astype(np.int64) + self.num_bits) // 2,
                                   minlength=self.num_bits + 1)
        return int(numbers[p <= fpr].sum()), int(numbers.sum())

    def _sharing(self, wrong, rate):
        """The pairs that pass 1. at a rate: the numbers of both users [P], and in how many bits both are wrong [P]."""
        needed = self._bits_to_share(rate)
        counts, found = wrong.sum(axis=1), []
        for start in range(0, len(wrong), AT_ONCE):
            block = wrong[start:start + AT_ONCE]
            both_wrong = block @ wrong[start:].T
            agreeing = self.num_bits - counts[start:start + AT_ONCE, None] - counts[start:] + 2 * both_wrong
            rows, columns = np.nonzero(np.triu(agreeing - both_wrong >= needed[agreeing.astype(np.int16)], 1))
            found.append((rows + start, columns + start, both_wrong[rows, columns].astype(np.int64)))
        return [np.concatenate(part) for part in zip(*found)]

    def _bits_to_share(self, rate):
        """The fewest of m agreeing bits that must match, for each m [num_bits + 1]; m + 1 if none suffices."""
        agreeing, matching = np.mgrid[:self.num_bits + 1, :self.num_bits + 1]
        return (self._shared_p(agreeing, matching) > rate).sum(axis=1)

    def _shared_p(self, agreeing, matching):
        """1., corrected."""
        users = len(self._codes)
        return users * (users - 1) * p_value(matching, agreeing)

    def _needed_p(self, contradicted, matching, both_wrong):
        """2., corrected: of a user's code beside that of another one, which the picture contradicts in so many bits."""
        scores, p = CONTRADICTED * (contradicted - both_wrong) + matching, np.empty(len(matching))
        for count in np.unique(contradicted):
            chosen = contradicted == count
            p[chosen] = needed_tail(int(count), self.num_bits)[scores[chosen]]
        return 4 * (len(self._codes) - 1) * p


@functools.lru_cache(maxsize=1024)
def needed_tail(contradicted: int, num_bits: int) -> np.ndarray:
    """The chances that a score of 2. is reached by luck: [CONTRADICTED · contradicted + the other bits + 1] float64.

    Two binomials, convolved; only positive numbers are added, so nothing cancels.
    """
    speaking = np.zeros(CONTRADICTED * contradicted + 1)
    speaking[::CONTRADICTED] = stats.binom.pmf(np.arange(contradicted + 1), contradicted, 0.5)
    others = num_bits - contradicted
    chances = np.convolve(speaking, stats.binom.pmf(np.arange(others + 1), others, 0.5))
    return np.minimum(chances[::-1].cumsum()[::-1], 1)
