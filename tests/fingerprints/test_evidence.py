"""Exact sums by enumeration and by fractions; innocents by simulation, with decoders that do their worst."""
import itertools
import math
from fractions import Fraction

import numpy as np
import pytest
from scipy import stats

from dnnlib.util import UsageError, UserError
from fingerprints import evidence
from fingerprints.codes import matching_bits
from fingerprints.statistics import independent_corrected, p_value, threshold

DRAWS = 1_000_000
BITS = 64


def exact_tails(weights):
    """For every possible t the number of sign choices whose sum is at least t, in whole numbers; and of all choices."""
    counts = {0: 1}
    for weight in map(int, weights):
        after = {}
        for total, count in counts.items():
            for signed in (weight, -weight):
                after[total + signed] = after.get(total + signed, 0) + count
        counts = after
    possible = sorted(counts, reverse=True)
    return dict(zip(possible, itertools.accumulate(counts[t] for t in possible))), 2 ** len(weights)


def innocent_codes(seed, draws=DRAWS, bits=BITS, block=100_000):
    rng = np.random.default_rng(seed)
    for _ in range(draws // block):
        yield np.unpackbits(rng.integers(0, 256, (block, bits // 8), dtype=np.uint8), axis=1)


def adversarial_logits(kind, bits=BITS):
    rng = np.random.default_rng(7)
    return {'constant': np.ones(bits),
            'alternating': np.resize([1.0, -1.0], bits),
            'biased': np.where(rng.random(bits) < 0.95, 1.0, -1.0) * rng.exponential(size=bits),
            'correlated': np.repeat(rng.normal(size=bits // 8), 8),
            'wild': rng.choice([-1, 1], bits) * 10.0 ** rng.uniform(-300, 300, bits),
            'one loud bit': np.r_[1e9, rng.normal(size=bits - 1)],
            'many silent bits': np.r_[np.zeros(bits - 9), rng.normal(size=9)],
            'another users code': np.random.default_rng(99).choice([-3.0, 3.0], bits)}[kind]


KINDS = ['constant', 'alternating', 'biased', 'correlated', 'wild', 'one loud bit', 'many silent bits',
         'another users code']


@pytest.mark.parametrize('weights', [[1], [3, 0, 5], [2, 2, 2, 2], [7, 1, 100, 13, 13, 6, 0, 99, 1, 50]])
def test_tails_equal_the_enumeration_of_all_signs(weights):
    total = sum(weights)
    sums = [sum(s * w for s, w in zip(signs, weights)) for signs in itertools.product([-1, 1], repeat=len(weights))]
    expected = [sum(s >= 2 * k - total for s in sums) / len(sums) for k in range(total + 1)]
    assert evidence.rademacher_tail(weights).tolist() == expected


@pytest.mark.parametrize('bits', [128, 512])
def test_tails_equal_exact_fractions_down_to_the_last(bits):
    weights = np.random.default_rng(bits).integers(1, 101, bits)
    tail, total = evidence.rademacher_tail(weights), weights.sum()
    exact, choices = exact_tails(weights)
    assert exact[total] == 1
    for t, count in list(exact.items())[::97]:
        assert tail[(t + total) // 2] == pytest.approx(float(Fraction(count, choices)), rel=1e-10)


def test_equal_logits_make_it_the_number_of_matching_bits():
    rng = np.random.default_rng(1)
    codes, read = rng.integers(0, 2, (50, 128)), rng.integers(0, 2, 128)
    found = evidence.soft_p_values((read * 2 - 1) * 0.37, codes)
    np.testing.assert_allclose(found, p_value(matching_bits(read, codes), 128), rtol=1e-9)


def test_the_best_p_value_is_that_of_all_signs_right():
    logits = np.random.default_rng(0).normal(size=128) + 10
    assert evidence.soft_p_values(logits, np.ones((1, 128)))[0] == 2.0 ** -128
    assert evidence.soft_p_values(logits, np.zeros((1, 128)))[0] == pytest.approx(1)


def test_a_decoder_that_says_nothing_proves_nothing():
    assert evidence.soft_p_values(np.zeros(32), np.ones((3, 32))).tolist() == [1, 1, 1]


@pytest.mark.parametrize('kind', KINDS)
def test_the_scale_of_the_logits_does_not_matter(kind):
    logits = adversarial_logits(kind)
    assert np.abs(evidence.soft_weights(logits)).max() <= evidence.LEVELS
    if kind != 'wild':
        assert (evidence.soft_weights(logits) == evidence.soft_weights(logits * 2.0 ** 40)).all()


def copies_of(kind):
    """Twenty pictures of one source, each with logits of another scale and a little noise of its own."""
    rng = np.random.default_rng(5)
    logits = evidence.soft_weights(adversarial_logits(kind)) + rng.normal(size=(20, BITS))
    return logits * 10.0 ** rng.uniform(-100, 100, (20, 1))


@pytest.mark.parametrize('pooled', [False, True])
@pytest.mark.parametrize('kind', KINDS)
def test_a_million_innocents_pass_as_often_as_their_p_value_says(kind, pooled):
    """P(p <= x) <= x, and no more than the draws' own scatter: the chance that a right program fails is 1e-9."""
    logits = evidence.pool(copies_of(kind)) if pooled else adversarial_logits(kind)
    tail = evidence.rademacher_tail(evidence.soft_weights(logits))
    soft = np.concatenate([evidence.soft_p_values(logits, codes) for codes in innocent_codes(3)])
    for rate in (0.1, 1e-3, 1e-6):
        exact = tail[tail <= rate].max(initial=0)  # the largest chance below the rate that the statistic can have
        low, high = stats.binom.ppf([5e-10, 1 - 5e-10], DRAWS, exact)
        assert low <= (soft <= rate).sum() <= high and exact <= rate


@pytest.mark.parametrize('kind', KINDS)
def test_a_million_innocents_match_as_many_bits_as_the_binomial_says(kind):
    read = adversarial_logits(kind) > 0
    counts = np.concatenate([matching_bits(read, codes) for codes in innocent_codes(4)])
    for needed in (45, 49, 52):  # p-values 7.8e-4, 1.2e-5 and 2.2e-7 of 64 bits
        low, high = stats.binom.ppf([5e-10, 1 - 5e-10], DRAWS, p_value(needed, BITS))
        assert low <= (counts >= needed).sum() <= high


@pytest.mark.parametrize('kind', ['constant', 'correlated'])
def test_a_million_registries_accuse_anyone_at_all_as_often_as_the_correction_says(kind):
    """Two users each, one picture of neither: at the threshold for both together, at least one of them passes."""
    read = adversarial_logits(kind) > 0
    best = np.concatenate([matching_bits(read, codes).reshape(-1, 2).max(axis=1)
                           for codes in innocent_codes(9, 2 * DRAWS)])
    for rate in (1e-3, 1e-6):
        needed = threshold(BITS, 2, rate)
        exact = independent_corrected(p_value(needed, BITS), 2)
        low, high = stats.binom.ppf([5e-10, 1 - 5e-10], DRAWS, exact)
        assert low <= (best >= needed).sum() <= high and exact <= rate


def test_multiplying_the_p_values_of_like_pictures_would_accuse_thousands():
    """Twenty copies of one picture prove what one does."""
    picture = np.random.default_rng(5).normal(size=BITS)
    alone = np.concatenate([evidence.soft_p_values(picture, codes) for codes in innocent_codes(6)])
    assert (alone ** 20 <= 1e-6).sum() > 100_000


@pytest.mark.parametrize('alike', [False, True])
def test_a_million_searches_through_pictures_and_alignments_accuse_as_rarely_as_promised(alike):
    """One innocent, three pictures in four alignments, the best of which is held against them."""
    versions = np.random.default_rng(11).random((12, BITS)) < 0.5
    if alike:  # the alignments of one picture read nearly the same
        versions = versions[:3].repeat(4, axis=0) ^ (np.random.default_rng(12).random((12, BITS)) < 0.02)
    best = np.concatenate([matching_bits(codes, versions).max(axis=1) for codes in innocent_codes(13)])
    for rate in (1e-3, 1e-6):
        needed = threshold(BITS, 1, rate, num_images=3, num_alignments=4)
        assert (best >= needed).sum() <= stats.binom.ppf(1 - 1e-9, DRAWS, rate)
    assert (best >= threshold(BITS, 1, 1e-3)).sum() > 2000  # twice what would be right without the correction


def test_pooling_many_weak_images_finds_the_user():
    rng = np.random.default_rng(8)
    code = rng.integers(0, 2, 128)
    logits = (code * 2 - 1) * 0.3 + rng.normal(size=(40, 128))
    alone = [evidence.soft_p_values(row, code[None])[0] for row in logits]
    assert np.median(alone) > 1e-6 and evidence.soft_p_values(evidence.pool(logits), code[None])[0] < 1e-20


def test_one_image_cannot_outvote_the_pool():
    quiet = np.tile([1.0, -1.0, 1.0, -1.0], (5, 8))
    loud = -1e9 * quiet[:1]
    assert (np.sign(evidence.pool(np.r_[quiet, loud])) == quiet[0]).all()


def test_soft_decisions_add_power_if_the_bits_differ_in_reliability():
    rng = np.random.default_rng(2)
    soft, hard = [], []
    for _ in range(200):
        code = rng.integers(0, 2, 128)
        logits = (code * 2 - 1) * rng.gamma(0.5, 2, 128) + rng.normal(size=128) * 1.2
        soft.append(evidence.soft_p_values(logits, code[None])[0])
        hard.append(p_value(matching_bits(logits > 0, code[None])[0], 128))
    assert np.median(np.log10(soft)) < np.median(np.log10(hard)) - 3


def test_the_likelihood_ratio_is_capped_by_what_was_measured():
    own, innocents = [120] * 99 + [60], [64] * 3000
    found = evidence.likelihood_ratio(110, own, innocents)
    assert found.capped and found.innocents == 3000 and found.own_images == 100
    assert found.false_rate == 3 / 3000
    low = stats.binomtest(99, 100, alternative='greater').proportion_ci(0.95).low
    assert found.hit_rate == pytest.approx(low) and found.ratio == pytest.approx(low * 1000)
    assert found.ratio <= 0.99 * 3000 / 3


def test_the_likelihood_ratio_with_hits_among_innocents():
    found = evidence.likelihood_ratio(70, [120] * 100, [64] * 990 + [70] * 10)
    high = stats.binomtest(10, 1000, alternative='less').proportion_ci(0.95).high
    assert not found.capped and found.false_rate == pytest.approx(high)
    assert found.ratio == pytest.approx(math.exp(math.log(0.05) / 100) / high)


def test_few_innocents_prove_nothing():
    found = evidence.likelihood_ratio(100, [120] * 1000, [64, 64])
    assert found.false_rate == 1 and found.ratio < 1


@pytest.mark.parametrize('call, error, message', [
    (lambda: evidence.likelihood_ratio(5, [], [1]), UsageError, '0 own images and 1 innocents'),
    (lambda: evidence.likelihood_ratio(5, [1], []), UsageError, '1 own images and 0 innocents'),
    (lambda: evidence.pool(np.zeros((0, 8))), UserError, 'no images to pool'),
    (lambda: evidence.soft_p_values([np.nan] * 8, np.ones((1, 8))), UserError, 'not finite'),
    (lambda: evidence.pool([[np.inf] * 8]), UserError, 'not finite')])
def test_bad_input_is_refused(call, error, message):
    with pytest.raises(error, match=message):
        call()
