"""From the decoder's logits to a user and a p-value."""
import dataclasses
import functools
from collections.abc import Sequence
from typing import Optional, Union

import numpy as np

from dnnlib.util import UserError
from fingerprints.codes import packed, unpacked
from fingerprints.evidence import rademacher_tail, soft_weights
from fingerprints.statistics import check_fpr, corrected, p_value, threshold

USERS_AT_ONCE = 1 << 14  # 16,384 codes of 128 bits as float32 are 8 MiB
IMAGES_AT_ONCE = 64      # their scores, 4 MiB
COUNTS_BITS = hasattr(np, 'bitwise_count')  # since NumPy 2; without it a matrix product counts them

NAMED, NOBODY, SEVERAL, TIE, UNREACHABLE, PAIR = 'named', 'nobody', 'several', 'tie', 'unreachable', 'pair'


@dataclasses.dataclass(frozen=True)
class PackedCodes:
    """Codes eight bits to a byte, so that ten million of 128 bits are 160 MB; they may lie in a file (numpy.memmap).

    data: uint8 [U, ceil(num_bits / 8)], as `fingerprints.codes.packed` makes them.
    """
    data: np.ndarray
    num_bits: int

    def __len__(self) -> int:
        return len(self.data)

    def bits(self, start: int, stop: int) -> np.ndarray:
        """The codes start to stop as float32 0/1 [n, num_bits]."""
        return unpacked(self.data[start:stop], self.num_bits).astype(np.float32)


@dataclasses.dataclass(frozen=True)
class Attribution:
    """What one image's logits say.

    user: the user named; None unless exactly one user's code reaches the threshold.
    reason: why. 'named'; 'nobody' reaches the threshold; 'several' do, which points to collusion or forgery; 'tie',
        several do and the two best agree equally well; 'unreachable', if all bits would not suffice for so many users;
        'pair' where fewer than two do and a pair was found (fingerprints.pairs).
    best_user, matching: the user whose code agrees most (of equals, the first), and in how many of `num_bits` bits.
    p_value: the chance that any of `users` codes agrees this well by luck, for an image that stems from none of them;
        or, if asked for, for all images and alignments tried.
    threshold: the fewest matching bits that name a user at the rate asked for; None if no number suffices.
    over_threshold: the names of all users that reach it, best first.
    second_user, second_matching: the runner-up; None if there is one user only.
    weight, weight_needed, weight_total: of a soft decision, where surely read bits count more: the weight of the bits
        that match, the least that names a user (None if none suffices) and that of all bits. Then they decide instead
        of `matching`, and `threshold` is None.
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
    weight: Optional[int] = None
    weight_needed: Optional[int] = None
    weight_total: Optional[int] = None


def attribute(logits: np.ndarray, names: Sequence[str], codes: Union[np.ndarray, PackedCodes], fpr: float,
              num_images: int = 1, num_alignments: int = 1, soft: bool = False) -> list[Attribution]:
    """Names the user whom each image stems from.

    Args:
        logits: the decoder's answers [N, num_bits]; a bit is read as 1 if its logit is positive.
        names: the users' names, U of them.
        codes: their codes [U, num_bits], 0/1, or PackedCodes. Revoked users belong here too: their instances are still
            out there.
        fpr: the largest acceptable chance, over all users together, of any user's passing for an image that stems from
            none of them.
        num_images: how many pictures are looked at until one is held against someone, if `fpr` is to hold for all of
            them together. 1: for each picture.
        num_alignments: in how many versions (mirrored, shifted ...) each picture is tried.
        soft: count bits by how surely they were read (fingerprints.evidence.soft_weights), not alike. To be chosen
            before looking, or p-values are to be doubled.

    Returns:
        A list of N Attributions.

    Raises:
        UserError: there are no users, the logits are of another number of bits, or not finite.
        UsageError: `fpr` is not between 0 and 1.
    """
    logits = np.asarray(logits)
    if not isinstance(codes, PackedCodes):
        codes = PackedCodes(packed(codes), np.asarray(codes).shape[1])
    _check(logits, names, codes, fpr)
    tried = (len(codes), num_images, num_alignments)
    decide = _SoftDecision if soft else _HardDecision
    decisions = [decide(row, fpr, tried) for row in logits]
    results = []
    for start in range(0, len(logits), IMAGES_AT_ONCE):
        group = decisions[start:start + IMAGES_AT_ONCE]
        for decision, candidates in zip(group, _candidates(group, codes)):
            results.append(decision.conclude(candidates, names, codes))
    return results


_threshold, _p_value = map(functools.lru_cache, (threshold, p_value))  # images ask for the same few again and again


class _HardDecision:
    """Compares codes with the bits that were read: the score of a code is the number that match.

    weights: float32 [num_bits] whole numbers; the score of a code is their sum over its ones plus `offset`.
    needed: the least score that names a user; None if none does.
    """

    def __init__(self, logits, fpr, tried):
        self.num_bits, self.tried = len(logits), tried
        read = logits > 0
        self.weights = np.where(read, 1, -1).astype(np.float32)
        self.offset = int(self.num_bits - read.sum())  # the zeros that were read match where a code has no one
        self.needed = _threshold(self.num_bits, tried[0], fpr, *tried[1:])

    def conclude(self, candidates, names, codes):
        """The Attribution that follows from candidates, [(user's index, score)], best first."""
        found = _outcome(candidates, names, self.needed)
        p = float(corrected(_p_value(found['matching'], self.num_bits), *self.tried))
        return Attribution(num_bits=self.num_bits, p_value=p, threshold=self.needed, **found)


class _SoftDecision:
    """Compares codes with the bits that were read, each weighed: the score is the weight of those that match."""

    def __init__(self, logits, fpr, tried):
        self.num_bits, self.tried = len(logits), tried
        self.read = logits > 0
        weights = soft_weights(logits)
        self.weights = weights.astype(np.float32)
        self.offset = int(-weights[weights < 0].sum())
        self.tail = corrected(rademacher_tail(weights), *tried)  # [W + 1], of each score
        enough = np.flatnonzero(self.tail <= fpr)
        self.needed = int(enough[0]) if enough.size else None

    def conclude(self, candidates, names, codes):
        """The Attribution that follows from candidates, [(user's index, score)], best first."""
        found = _outcome(candidates, names, self.needed)
        matching = [int((unpacked(codes.data[index], self.num_bits) == self.read).sum()) for index, _ in candidates[:2]]
        weight = found['matching']
        found.update(matching=matching[0], second_matching=matching[1] if len(matching) > 1 else None)
        return Attribution(num_bits=self.num_bits, p_value=float(self.tail[weight]), threshold=None, weight=weight,
                           weight_needed=self.needed, weight_total=len(self.tail) - 1, **found)


def _candidates(decisions, codes):
    """For each decision a list of (user's index, score), best first, of equals the first.

    Each list has the two best users and everyone who reaches what is needed. The codes are passed in blocks, so that
    ten million users need little more memory than their packed codes.
    """
    needed = np.array([np.inf if decision.needed is None else decision.needed for decision in decisions])
    candidates = [[] for _ in decisions]
    lowest = np.full(len(decisions), -np.inf)  # what a block's best must exceed to matter
    counts = COUNTS_BITS and isinstance(decisions[0], _HardDecision)
    for start, best, scores in (_counted if counts else _weighed)(decisions, codes):
        for number in np.flatnonzero((best > lowest) | (best >= needed)):
            row, found = scores(number), candidates[number]
            chosen = np.union1d(_best_two(row), np.flatnonzero(row >= needed[number]))
            found += [(start + int(index), int(row[index])) for index in chosen]
            found.sort(key=lambda candidate: (-candidate[1], candidate[0]))
            del found[max(2, sum(score >= needed[number] for _, score in found)):]
            if len(found) > 1:
                lowest[number] = found[1][1]
    return candidates


def _weighed(decisions, codes):
    """Yields for each block of users (its start, best scores [N], function: number → its scores [U], float32).

    A matrix product of weights and codes. Scores are whole numbers below 2^24, which float32 sums exactly.
    """
    weights = np.stack([decision.weights for decision in decisions])                         # [N, num_bits]
    offsets = np.array([decision.offset for decision in decisions])
    for start in range(0, len(codes), USERS_AT_ONCE):
        sums = weights @ codes.bits(start, start + USERS_AT_ONCE).T                          # [N, U]
        yield start, sums.max(axis=1) + offsets, lambda number: sums[number] + offsets[number]  # noqa: B023


def _counted(decisions, codes):
    """As _weighed, where each matching bit counts one: from the bits that differ, 64 of them at a time."""
    num_bits = codes.num_bits
    read = _words(packed(np.stack([decision.weights > 0 for decision in decisions])))        # [words, N]
    for start in range(0, len(codes), USERS_AT_ONCE):
        users = _words(codes.data[start:start + USERS_AT_ONCE])                              # [words, U]
        differ = np.zeros([len(decisions), users.shape[1]], np.uint8 if num_bits < 256 else np.uint16)
        for number, total in enumerate(differ):
            for word, column in zip(read[:, number], users):
                total += np.bitwise_count(column ^ word)
        yield (start, num_bits - differ.min(axis=1).astype(np.float32),
               lambda number: num_bits - differ[number].astype(np.float32))  # noqa: B023


def _words(data):
    """Packed codes [n, bytes] as uint64 [words, n], the last word padded with 0."""
    whole = np.zeros([len(data), -(-data.shape[1] // 8) * 8], np.uint8)
    whole[:, :data.shape[1]] = data
    return np.ascontiguousarray(whole.view(np.uint64).T)


def _best_two(row):
    """The indices of the two largest counts of row [U], float32, of equals the first; of one only if U is 1."""
    first = row.argmax()
    if len(row) == 1:
        return np.array([first])
    others = row.copy()
    others[first] = -np.inf
    return np.array([first, others.argmax()])


def _check(logits, names, codes, fpr):
    check_fpr(fpr)
    if not len(codes):
        raise UserError('the registry holds no users, so there is no one to attribute to; issue an instance first')
    assert len(names) == len(codes), (len(names), len(codes))
    if logits.ndim != 2 or logits.shape[1] != codes.num_bits:
        raise UserError(f"the decoder's answers are {list(logits.shape)}, the registry's codes have {codes.num_bits} "
                        'bits; use the registry that belongs to this decoder')
    if not np.isfinite(logits).all():
        raise UserError('the decoder answered with values that are not finite; use another snapshot')


def _outcome(candidates, names, needed):
    """The fields of an Attribution that follow from candidates, [(user's index, score)]: scores as matching bits."""
    (best, matching), (second, second_matching) = (candidates + [(None, None)])[:2]
    over = [index for index, score in candidates if needed is not None and score >= needed]
    reason = _reason(over, matching == second_matching, needed)
    return dict(user=names[best] if reason == NAMED else None, reason=reason, best_user=names[best], matching=matching,
                over_threshold=tuple(names[index] for index in over), users=len(names),
                second_user=None if second is None else names[second], second_matching=second_matching)


def _reason(over, best_are_equal, needed):
    if needed is None:
        return UNREACHABLE
    if not over:
        return NOBODY
    if len(over) == 1:
        return NAMED
    return TIE if best_are_equal else SEVERAL
