import math
from fractions import Fraction

import mpmath
import numpy as np
import pytest
from scipy import stats

from dnnlib.util import UsageError
from fingerprints import statistics


def exact_tail(matching, bits):
    return Fraction(sum(math.comb(bits, k) for k in range(matching, bits + 1)), 2 ** bits)


@pytest.mark.parametrize('bits', [8, 32, 128, 512])
def test_p_values_equal_the_exact_sums(bits):
    counts = np.arange(bits + 1)
    exact = np.array([float(exact_tail(k, bits)) for k in counts])
    np.testing.assert_allclose(statistics.p_value(counts, bits), exact, rtol=1e-11)
    assert statistics.p_value(bits, bits) > 0


def test_correction_is_the_union_bound():
    assert statistics.corrected(1e-9, 1000) == pytest.approx(1e-6)
    assert statistics.corrected([0.25, 1e-3], 10).tolist() == [1, 0.01]


@pytest.mark.parametrize('bits, users, fpr, expected', [
    (32, 2, 1e-3, 26), (32, 2, 1e-6, 30), (8, 1, 1e-3, None), (8, 1, 2.0 ** -8, 8), (8, 2, 2.0 ** -8, None)])
def test_thresholds(bits, users, fpr, expected):
    assert statistics.threshold(bits, users, fpr) == expected


@pytest.mark.parametrize('bits, users, fpr', [(32, 1, 1e-3), (128, 10 ** 6, 1e-6), (512, 7, 0.5)])
def test_a_threshold_is_the_smallest_count_that_suffices(bits, users, fpr):
    count = statistics.threshold(bits, users, fpr)
    assert users * exact_tail(count, bits) <= Fraction(fpr) < users * exact_tail(count - 1, bits)


def test_more_pictures_and_alignments_need_more_bits():
    assert statistics.corrected(1e-9, 10, num_images=100, num_alignments=3) == pytest.approx(3e-6)
    assert statistics.threshold(128, 10, 1e-6, 100, 3) == statistics.threshold(128, 3000, 1e-6)
    assert statistics.threshold(128, 10, 1e-6, 100, 3) > statistics.threshold(128, 10, 1e-6)


@pytest.mark.parametrize('bits', [8, 128, 512, 2000])
def test_logarithms_of_p_values_do_not_underflow(bits):
    with mpmath.workdps(50):
        for count in {0, 1, bits // 3, bits // 2, bits - 7, bits}:
            tail = sum(math.comb(bits, k) for k in range(count, bits + 1))
            expected = mpmath.log10(tail) - bits * mpmath.log10(2)
            assert statistics.log10_p_value(count, bits) == pytest.approx(float(expected), rel=1e-12, abs=1e-12)
    assert statistics.log10_p_value(bits, bits) == pytest.approx(-bits * math.log10(2))


@pytest.mark.parametrize('count', [-1, 129])
def test_impossible_counts_are_refused(count):
    with pytest.raises(UsageError, match=f'{count} of 128 bits cannot match'):
        statistics.log10_p_value(count, 128)


@pytest.mark.parametrize('p, users', [(2.0 ** -40, 10 ** 6), (0.25, 10), (1e-3, 1000), (1.0, 5), (0.0, 7)])
def test_correction_for_independent_codes_is_exact_and_below_the_union_bound(p, users):
    exact = float(1 - (1 - Fraction(p)) ** users) if users < 10 ** 4 else users * p - (users * p) ** 2 / 2
    assert statistics.independent_corrected(p, users) == pytest.approx(exact, rel=1e-9)
    union = statistics.corrected(p, users)
    assert union * (1 - users * p / 2) - 1e-15 <= statistics.independent_corrected(p, users) <= union


def test_corrections_against_simulated_registries():
    """200,000 registries of 50 independent 16-bit codes, compared with one fixed answer."""
    rng, runs, users = np.random.default_rng(0), 200_000, 50
    ones = np.unpackbits(np.arange(2 ** 16, dtype='>u2').view(np.uint8).reshape(-1, 2), axis=1).sum(axis=1)
    best = ones[rng.integers(0, 2 ** 16, (runs, users))].max(axis=1)
    for needed in (13, 14, 16):
        p = statistics.p_value(needed, 16)
        share = (best >= needed).mean()
        exact = statistics.independent_corrected(p, users)
        assert abs(share - exact) < 6 * math.sqrt(exact * (1 - exact) / runs)
        assert share <= statistics.corrected(p, users) + 6 * math.sqrt(exact / runs)


def test_power_is_the_chance_that_a_true_user_is_named():
    exact = sum(math.comb(128, k) * Fraction(9, 10) ** k * Fraction(1, 10) ** (128 - k) for k in range(103, 129))
    assert statistics.power(128, 103, 0.9) == pytest.approx(float(exact))
    share, (low, high) = statistics.measured_power([128, 103, 102, 90], 103)
    assert share == 0.5 and (low, high) == statistics.clopper_pearson(2, 4)


def test_the_table_of_thresholds():
    lines = statistics.threshold_table((32, 48, 128), (1, 10 ** 6), 1e-6).splitlines()
    assert lines == ['| bits | 1 users | 1,000,000 users |', '| --- | --- | --- |', '| 32 | 30 (6%) | none |',
                     '| 48 | 41 (15%) | 47 (2%) |', '| 128 | 92 (28%) | 103 (20%) |']


def test_a_rate_out_of_reach_is_told_with_the_bits_it_takes():
    statistics.check_reachable(32, 4294, 1e-6)
    with pytest.raises(UsageError, match='32 bits cannot name any of 5,000 users .* 1e-06; that takes 33 bits'):
        statistics.check_reachable(32, 5000, 1e-6)
    assert statistics.threshold(33, 5000, 1e-6) == 33 and statistics.bits_needed(1, 2.0 ** -8) == 8


@pytest.mark.parametrize('fpr', [0, 1, -1e-3, 2, float('nan')])
def test_senseless_rates_are_refused(fpr):
    with pytest.raises(UsageError, match='false-positive rate of'):
        statistics.threshold(32, 1, fpr)


@pytest.mark.parametrize('accuracy, printed', [
    (0.989, 1e-35), (0.991, 1e-35), (0.999, 1e-37), (0.987, 1e-35), (0.990, 1e-35),
    (0.983, 1e-34), (0.993, 1e-35), (0.999, 1e-37), (0.927, 1e-25), (0.896, 1e-21)])
def test_the_published_p_values_keep_the_bounds_printed_beside_them(accuracy, printed):
    """Table 1 of Yu et al. 2022, fingerprinted rows, CelebA then LSUN bedroom: 128 bits, "p <"."""
    exact = exact_tail(math.floor(Fraction(str(accuracy)) * 128) + 1, 128)
    assert statistics.accuracy_p_value(accuracy, 128) == pytest.approx(float(exact)) and exact < printed


def test_the_published_p_value_is_that_of_more_bits_than_the_mean():
    assert statistics.accuracy_p_value(1.0, 128) == 2.0 ** -128  # no more than all can be right
    assert statistics.accuracy_p_value(0.991, 128) == pytest.approx(float(exact_tail(127, 128)))  # of 126.8 bits
    assert statistics.accuracy_p_value(0.29, 100) == pytest.approx(float(exact_tail(30, 100)))
    assert statistics.accuracy_p_value(0, 8) == pytest.approx(float(exact_tail(1, 8)))


@pytest.mark.parametrize('successes, trials', [(0, 10), (3, 10), (10, 10), (991, 1000)])
def test_clopper_pearson_equals_scipys(successes, trials):
    expected = stats.binomtest(successes, trials).proportion_ci(0.95, 'exact')
    assert statistics.clopper_pearson(successes, trials) == pytest.approx((expected.low, expected.high))


def coverage(draw, truth, bits, runs=400):
    hits = 0
    for _ in range(runs):
        low, high = statistics.accuracy_interval(draw(), bits)
        hits += low <= truth <= high
    return hits / runs


def test_the_accuracy_interval_covers_where_an_images_bits_fail_together():
    rng, bits, images = np.random.default_rng(0), 32, 200

    def correlated():
        return rng.binomial(bits, rng.beta(9, 1, images)) / bits
    assert coverage(correlated, 0.9, bits) > 0.92
    naive = np.mean([np.ptp(statistics.clopper_pearson(correlated().mean() * images * bits, images * bits))
                     for _ in range(20)])
    honest = np.mean([np.ptp(statistics.accuracy_interval(correlated(), bits)) for _ in range(20)])
    assert honest > 1.5 * naive


def test_the_accuracy_interval_covers_independent_bits():
    rng = np.random.default_rng(0)
    assert coverage(lambda: rng.binomial(32, 0.97, 200) / 32, 0.97, 32) > 0.92


def test_a_perfect_score_does_not_claim_certainty():
    assert statistics.accuracy_interval(np.ones(100), 32) == statistics.clopper_pearson(100, 100)
