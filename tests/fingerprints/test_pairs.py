"""Pairs of users: exact chances by enumeration, innocents by simulation, and what averaged pictures show."""
import itertools
import math
from fractions import Fraction

import numpy as np
import pytest
from scipy import stats

from dnnlib.util import UsageError, UserError
from fingerprints import pairs
from fingerprints.codes import packed
from fingerprints.matching import PackedCodes
from fingerprints.pairs import CONTRADICTED, MOST_USERS, PairSearch, needed_tail
from fingerprints.statistics import p_value

DRAWS = 1_000_000


def search(codes):
    return PairSearch([f'u{number}' for number in range(len(codes))], PackedCodes(packed(codes), codes.shape[1]))


def logits(bits):
    return np.asarray(bits) * 2.0 - 1


def averaged(rng, first, second):
    """What is read from two users' pictures, averaged: what they share, and a coin for each bit they don't."""
    return np.where(first == second, first, rng.integers(0, 2, first.shape))


def exact_tail(matching, bits):
    return Fraction(sum(math.comb(bits, k) for k in range(matching, bits + 1)), 2 ** bits)


def one_by_one(codes, read, tried):
    """{(a, b): p-value} of all pairs, bit by bit and in fractions."""
    users, found = len(codes), {}
    for a, b in itertools.combinations(range(users), 2):
        agreeing = [bit for bit in range(codes.shape[1]) if codes[a, bit] == codes[b, bit]]
        shared = users * (users - 1) * exact_tail(sum(read[bit] == codes[a, bit] for bit in agreeing), len(agreeing))
        needed = []
        for guilty, innocent in ((codes[a], codes[b]), (codes[b], codes[a])):
            weights = [CONTRADICTED if read[bit] != guilty[bit] else 1 for bit in range(len(read))]
            score = sum(weight for weight, bit, own in zip(weights, read, innocent) if bit == own)
            chances = {0: Fraction(1)}
            for weight in weights:
                moved = {}
                for value, chance in chances.items():
                    for reached in (value, value + weight):
                        moved[reached] = moved.get(reached, 0) + chance / 2
                chances = moved
            needed.append(4 * (users - 1) * sum(chance for value, chance in chances.items() if value >= score))
        found[a, b] = float(tried * max(shared, *needed))
    return found


@pytest.mark.parametrize('seed, tried', [(0, 1), (1, 1), (2, 3)])
def test_the_search_finds_what_all_pairs_compared_bit_by_bit_show(seed, tried, monkeypatch):
    monkeypatch.setattr(pairs, 'AT_ONCE', 3)
    rng = np.random.default_rng(seed)
    codes = rng.integers(0, 2, [8, 40]).astype(np.uint8)
    read = averaged(rng, codes[2], codes[5])
    expected = one_by_one(codes, read, tried)
    for fpr in (1e-4, 1e-2, 0.9):
        passing = sorted((p, pair) for pair, p in expected.items() if p <= fpr)
        found = search(codes)(logits(read), fpr, tried)
        assert (found is None) == (not passing)
        if found:
            assert found.users == tuple(f'u{number}' for number in passing[0][1]) and found.found == len(passing)
            assert found.p_value == pytest.approx(passing[0][0], rel=1e-9)
            agree = codes[passing[0][1][0]] == codes[passing[0][1][1]]
            assert (found.agreeing, found.matching) == (agree.sum(), (codes[passing[0][1][0]] == read)[agree].sum())
            assert set(found.involved) == {f'u{number}' for _, pair in passing for number in pair}
    assert min(expected.values()) < 0.9  # something was found


def test_chances_of_both_statistics_enumerated_over_all_codes_with_a_minimum_distance():
    """6 bits: every pair of codes at a distance of 2 or more, one fixed picture. No chance exceeds its p-value."""
    bits, read = 6, np.array([1, 0, 0, 1, 1, 1])
    codes = np.array(list(itertools.product([0, 1], repeat=bits)))
    first, second = (np.repeat(codes, 64, axis=0), np.tile(codes, [64, 1]))
    far = (first != second).sum(axis=1) >= 2
    agree = (first == second)[far]
    p = p_value((agree & (first[far] == read)).sum(axis=1), agree.sum(axis=1))
    for value in np.unique(p):
        assert (p <= value).mean() <= value * (1 + 1e-12)
    for guilty in codes[::7]:  # the other's code is uniform, whatever this one is
        wrong = guilty != read
        scores = (np.where(wrong, CONTRADICTED, 1) * (codes == read)).sum(axis=1)
        p = needed_tail(int(wrong.sum()), bits)[scores]
        for value in np.unique(p):
            assert (p <= value).mean() == pytest.approx(value, rel=1e-12)


READERS = {  # what a decoder may answer to a picture of nobody, or, given a code, to one of its user
    'constant': lambda rng, code: np.ones_like(code),
    'correlated': lambda rng, code: np.repeat(rng.integers(0, 2, [len(code), 4]), code.shape[1] // 4, axis=1),
    'right': lambda rng, code: code,
    'three in four': lambda rng, code: np.where(rng.random(code.shape) < 0.75, code, 1 - code),
    'the first half': lambda rng, code: np.where(np.arange(code.shape[1]) < code.shape[1] // 2, code, 1),
    'inverted': lambda rng, code: 1 - code}


def within(count, chance, draws=DRAWS):
    """Whether a count is one that a million draws with this chance give, but once in a million."""
    low, high = stats.binom.ppf([5e-7, 1 - 5e-7], draws, chance)
    return low <= count <= high


@pytest.mark.parametrize('kind', ['constant', 'correlated'])
def test_a_million_pairs_of_innocents_pass_as_often_as_the_binomial_says(kind):
    rng, bits, count = np.random.default_rng(3), 32, 0
    needed = np.array([(p_value(np.arange(bits + 1), m) > 1e-3).sum() for m in range(bits + 1)])
    for _ in range(10):
        first, second = rng.integers(0, 2, [2, DRAWS // 10, bits], np.uint8)
        read, agree = READERS[kind](rng, first), first == second
        count += ((agree & (first == read)).sum(axis=1) >= needed[agree.sum(axis=1)]).sum()
    chance = sum(stats.binom.pmf(m, bits, 0.5) * p_value(needed[m], m) for m in range(bits + 1))
    assert within(count, chance) and 2e-4 < chance <= 1e-3


@pytest.mark.parametrize('kind', READERS)
def test_a_million_innocents_beside_a_guilty_one_are_needed_as_seldom_as_said(kind):
    rng, bits, count, expected = np.random.default_rng(4), 32, 0, 0.0
    tails = [needed_tail(w, bits) for w in range(bits + 1)]
    reached = np.array([tail[tail <= 1e-3].max(initial=0) for tail in tails])  # the chance of p <= 1e-3
    for _ in range(10):
        guilty, innocent = rng.integers(0, 2, [2, DRAWS // 10, bits], np.uint8)
        wrong = READERS[kind](rng, guilty) != guilty
        scores = (np.where(wrong, CONTRADICTED, 1) * (innocent == np.where(wrong, 1 - guilty, guilty))).sum(axis=1)
        w = wrong.sum(axis=1)
        count += sum((tails[k][scores[w == k]] <= 1e-3).sum() for k in np.unique(w))
        expected += reached[w].mean() / 10
    assert within(count, expected) and expected <= 1e-3


@pytest.mark.parametrize('kind', READERS)
def test_registries_of_which_one_user_made_the_picture_show_innocents_no_more_than_the_rate(kind):
    """400 registries of 72 users, 2,556 pairs each: over a million comparisons, of pictures of one user or none."""
    rng, rate, runs = np.random.default_rng(5), 0.05, 400
    shown = 0
    for _ in range(runs):
        codes = rng.integers(0, 2, [72, 64], np.uint8)
        shown += search(codes)(logits(READERS[kind](rng, codes[:1])[0]), rate) is not None
    assert shown <= stats.binom.ppf(1 - 1e-6, runs, rate)


@pytest.mark.parametrize('bits, users, fpr, least', [
    (128, 100, 1e-6, 0.85), (128, 300, 1e-6, 0.8), (64, 10, 1e-3, 0.7)])
def test_averaged_pictures_show_their_two_users_and_nobody_else(bits, users, fpr, least):
    rng, right = np.random.default_rng(6), 0
    for _ in range(100):
        codes = rng.integers(0, 2, [users, bits], np.uint8)
        read = averaged(rng, codes[3], codes[7]) ^ (rng.random(bits) < 0.005)
        found = search(codes)(logits(read), fpr)
        assert found is None or set(found.involved) == {'u3', 'u7'}
        right += found is not None
    assert right >= least * 100


def test_three_users_are_found_by_their_pairs():
    rng = np.random.default_rng(7)
    codes = rng.integers(0, 2, [50, 128], np.uint8)
    found = search(codes)(logits(codes[:3].sum(axis=0) >= 2), 1e-6)
    assert set(found.involved) == {'u0', 'u1', 'u2'} and found.found == 3


def test_how_many_pairs_can_be_found(monkeypatch):
    monkeypatch.setattr(pairs, 'AT_ONCE', 4)
    codes = np.random.default_rng(8).integers(0, 2, [10, 64], np.uint8)
    expected = 0
    for a, b in itertools.combinations(codes, 2):
        apart = np.flatnonzero(a != b)
        read = a.copy()
        read[apart[::2]] = b[apart[::2]]  # half as the one, half as the other
        expected += search(codes)(logits(read), 1e-5) is not None
    assert search(codes).findable(1e-5) == (expected, 45) and 0 < expected < 45
    assert search(codes).findable(1e-5, 1000)[0] < expected


def test_one_user_makes_no_pair_and_too_many_are_refused():
    assert search(np.zeros([1, 16], np.uint8))(np.ones(16), 0.5) is None
    with pytest.raises(UserError, match='pairs of 10,001 users are too many to be compared; up to 10,000 users are'):
        search(np.zeros([MOST_USERS + 1, 8], np.uint8))
    with pytest.raises(UsageError, match='makes no sense'):
        search(np.zeros([2, 16], np.uint8))(np.ones(16), 1.5)
