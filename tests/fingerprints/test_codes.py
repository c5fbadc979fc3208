import itertools
import secrets
import subprocess
import sys

import numpy as np
import pytest
from scipy import stats

from dnnlib.util import UserError
from fingerprints.codes import (
    ONES,
    PLANNED_USERS,
    ball,
    code_to_text,
    default_minimum_distance,
    distance_cost,
    distances,
    draw_code,
    draw_distant_code,
    matching_bits,
    packed,
    text_to_code,
    unpacked,
    users_possible,
)


@pytest.mark.parametrize('bits', [8, 13, 32, 512])
def test_draws_are_zeros_and_ones_of_the_asked_length(bits):
    code = draw_code(bits)
    assert code.shape == (bits,) and code.dtype == np.uint8 and set(code) <= {0, 1}


def test_secure_draws_are_uniform():
    counts = np.zeros(256, int)
    for _ in range(25_600):
        counts[np.packbits(draw_code(8))[0]] += 1
    assert stats.chisquare(counts).pvalue > 1e-9


def test_a_code_is_the_secure_bytes_and_nothing_else(monkeypatch):
    monkeypatch.setattr(secrets, 'token_bytes', lambda size: bytes(range(0x81, 0x81 + size)))
    assert draw_code(13).tolist() == [1, 0, 0, 0, 0, 0, 0, 1, 1, 0, 0, 0, 0]


def test_the_operating_systems_randomness_is_the_only_source():
    np.random.seed(0)
    first = draw_code(64)
    np.random.seed(0)
    assert (draw_code(64) != first).any()
    with pytest.raises(TypeError):
        draw_code(64, np.random.default_rng(0))


@pytest.mark.parametrize('bits', [0, 7, 513])
def test_lengths_out_of_range_are_refused(bits):
    with pytest.raises(UserError, match=f'{bits} bits is out of range; a fingerprint has 8 to 512'):
        draw_code(bits)


def test_text_is_the_bits_in_order_and_goes_round():
    assert code_to_text([1, 0, 0, 0, 0, 0, 1, 1]) == '10000011'
    code = draw_code(37)
    assert (text_to_code(code_to_text(code)) == code).all()


@pytest.mark.parametrize('text, message', [('1010', '4 bits'), ('0101010²', "not '²'"), ('0101 0101', "not ' '")])
def test_bad_text_is_refused(text, message):
    with pytest.raises(UserError, match=message):
        text_to_code(text)


@pytest.mark.parametrize('bits', [9, 512])
def test_matching_bits_counts_what_a_loop_counts(bits):
    rng = np.random.default_rng(0)
    read, codes = rng.integers(0, 2, (3, 4, bits)), rng.integers(0, 2, (5, bits))
    codes[0], codes[1] = read[0, 0], 1 - read[0, 0]
    expected = [[[sum(a == b for a, b in zip(row, code)) for code in codes] for row in block] for block in read]
    assert matching_bits(read, codes).tolist() == expected
    assert matching_bits(read[0, 0] > 0, codes).tolist()[:2] == [bits, 0]


def test_fingerprints_leave_tensorflow_alone():
    script = ('import sys, fingerprints.codes, fingerprints.statistics, fingerprints.registry;'
              'import fingerprints.matching; print("tensorflow" in sys.modules)')
    output = subprocess.run([sys.executable, '-c', script], capture_output=True, text=True, check=True).stdout
    assert output == 'False\n'


def test_packing_goes_round():
    bits = np.random.default_rng(0).integers(0, 2, (5, 13), dtype=np.uint8)
    assert packed(bits).shape == (5, 2) and (unpacked(packed(bits), 13) == bits).all()


def test_distances_count_what_a_loop_counts():
    bits = np.random.default_rng(0).integers(0, 2, (6, 77), dtype=np.uint8)
    expected = [sum(a != b for a, b in zip(bits[0], other)) for other in bits[1:]]
    assert distances(packed(bits[0]), packed(bits[1:])).tolist() == expected


def test_balls_and_users_possible():
    assert ball(8, -1) == 0 and ball(8, 0) == 1 and ball(8, 2) == 1 + 8 + 28 and ball(8, 8) == 256
    assert users_possible(8, 1) == 256 and users_possible(8, 3) == 7  # of 256 / 37
    assert users_possible(128, default_minimum_distance(128)) >= 1000 * PLANNED_USERS


@pytest.mark.parametrize('bits, expected', [(8, 1), (32, 1), (48, 5), (64, 9), (128, 31), (512, 189)])
def test_the_default_minimum_distance_costs_a_thousandth_at_most(bits, expected):
    assert default_minimum_distance(bits) == expected
    if expected > 1:
        assert 1 <= distance_cost(bits, expected, PLANNED_USERS) <= 1.00101
        assert distance_cost(bits, expected + 1, PLANNED_USERS) > 1.00101


def test_codes_keep_their_distance_until_none_is_left():
    issued = np.zeros((0, 1), np.uint8)
    with pytest.raises(UserError, match='10,000 draws found no code of 8 bits .* 3 or more bits'):
        while True:
            issued = np.concatenate([issued, packed(draw_distant_code(8, 3, issued))[None]])
    assert len(issued) >= users_possible(8, 3)
    apart = ONES[issued ^ issued.T]
    assert apart[~np.eye(len(issued), dtype=bool)].min() >= 3


def sequences(bits, minimum_distance):
    """The exact joint chances of the first three codes, P [2^n, 2^n, 2^n], by enumeration of what rejection does."""
    words = np.arange(2 ** bits, dtype=np.uint8)
    far = ONES[words[:, None] ^ words] >= minimum_distance
    third = far[:, None, :] & far[None, :, :]
    chances = third / third.sum(axis=2, keepdims=True)
    second = far / far.sum(axis=1, keepdims=True)
    return chances * second[:, :, None] / 2 ** bits


def test_each_code_alone_is_exactly_uniform_and_pairs_cost_what_is_said():
    """The proof in draw_distant_code, by exhaustion: three codes of 7 bits at least 3 apart."""
    chances = sequences(7, 3)
    for others in ((1, 2), (0, 2), (0, 1)):
        np.testing.assert_allclose(chances.sum(axis=others), 1 / 128, rtol=1e-12)
    for other in (0, 1, 2):
        pair = chances.sum(axis=other)  # both orders, since it is symmetric or its transpose has the same largest value
        assert (pair * 128).max() * 128 <= distance_cost(7, 3, 3) * (1 + 1e-12)


def test_simulated_registries_with_a_minimum_distance_accuse_innocents_as_often_as_the_binomial_says(monkeypatch):
    """6,000 registries of 6 codes, 16 bits, 5 apart; the read bits are fixed, as an adversary may choose them."""
    rng, registries, users = np.random.default_rng(1), 6000, 6
    pool = iter(rng.bytes(20 * registries * users))
    monkeypatch.setattr(secrets, 'token_bytes', lambda size: bytes(itertools.islice(pool, size)))
    counts = np.zeros(17, int)
    for _ in range(registries):
        issued = np.zeros((0, 2), np.uint8)
        for _ in range(users):
            issued = np.concatenate([issued, packed(draw_distant_code(16, 5, issued))[None]])
        counts[ONES[issued[-1]].sum()] += 1
    expected = stats.binom.pmf(np.arange(17), 16, 0.5) * counts.sum()
    merged = [np.r_[x[:3].sum(), x[3:14], x[14:].sum()] for x in (counts, expected)]
    assert stats.chisquare(*merged).pvalue > 1e-6
