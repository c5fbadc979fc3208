import secrets
import subprocess
import sys

import numpy as np
import pytest
from scipy import stats

from dnnlib.util import UserError
from fingerprints.codes import code_to_text, draw_code, matching_bits, text_to_code


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
