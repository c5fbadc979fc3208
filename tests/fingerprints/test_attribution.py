import numpy as np
import pytest

from dnnlib.util import UsageError, UserError
from fingerprints import attribution
from fingerprints.attribution import Attribution, attribute
from fingerprints.statistics import p_value, threshold


def logits_of(code, wrong=0):
    """Logits that read `code` with its first `wrong` bits flipped."""
    signs = np.asarray(code) * 2.0 - 1
    signs[:wrong] *= -1
    return signs * 3.5


def naive(logits, names, codes, fpr):
    """Attribution as one would explain it: compare with everyone, sort, apply the threshold."""
    results = []
    for row in logits:
        counts = [sum(int(value > 0) == bit for value, bit in zip(row, code)) for code in codes]
        best, second = sorted(range(len(codes)), key=lambda u: -counts[u])[:2]
        count, bits = counts[best], len(row)
        enough = threshold(bits, len(codes), fpr)
        named = enough is not None and count >= enough and counts[second] < count
        p = min(1, len(codes) * p_value(count, bits))
        results.append(Attribution(names[best] if named else None, names[best], count, bits, p,
                                   names[second], counts[second], len(codes)))
    return results


@pytest.mark.parametrize('bits, users, images', [(24, 7, 40), (32, 50, 70)])
def test_it_equals_the_naive_loop_across_block_borders(monkeypatch, bits, users, images):
    monkeypatch.setattr(attribution, 'USERS_AT_ONCE', 3)
    monkeypatch.setattr(attribution, 'IMAGES_AT_ONCE', 8)
    rng = np.random.default_rng(bits)
    codes, names = rng.integers(0, 2, (users, bits), dtype=np.uint8), [f'user{u}' for u in range(users)]
    logits = rng.normal(size=(images, bits))
    logits[:users] = [logits_of(code, wrong) for wrong, code in zip(rng.integers(0, 8, images), codes)][:images]
    expected = naive(logits, names, codes, 0.05)
    assert attribute(logits, names, codes, 0.05) == expected
    assert 2 <= sum(result.user is not None for result in expected) < images - 2


def test_the_threshold_decides():
    codes = np.random.default_rng(0).integers(0, 2, (2, 32), dtype=np.uint8)
    found = attribute([logits_of(codes[1], wrong) for wrong in (0, 6, 7)], ['ann', 'bob'], codes, 1e-3)
    assert [(result.user, result.best_user, result.matching) for result in found] == [
        ('bob', 'bob', 32), ('bob', 'bob', 26), (None, 'bob', 25)]
    assert found[0].p_value == 2 * 2.0 ** -32


def test_one_user_has_no_second():
    code = np.ones((1, 32), np.uint8)
    assert attribute([logits_of(code[0])], ['ann'], code, 1e-6) == [
        Attribution('ann', 'ann', 32, 32, 2.0 ** -32, None, None, 1)]


def test_a_tie_names_no_one():
    codes = np.zeros((2, 64), np.uint8)
    codes[0, 0] = codes[1, 1] = 1
    [result] = attribute([logits_of(np.zeros(64))], ['ann', 'bob'], codes, 1e-3)
    assert (result.user, result.best_user, result.second_user) == (None, 'ann', 'bob')
    assert result.matching == result.second_matching == 63 and result.p_value < 1e-15


def test_false_positives_stay_below_the_rate_even_for_a_decoder_that_always_says_the_same():
    rng, fpr, named = np.random.default_rng(0), 0.05, 0
    answer = logits_of(np.ones(32))[None]
    for _ in range(1000):
        codes = rng.integers(0, 2, (20, 32), dtype=np.uint8)
        named += attribute(answer, list('abcdefghijklmnopqrst'), codes, fpr)[0].user is not None
    assert 0 < named / 1000 <= fpr + 3 * np.sqrt(fpr * (1 - fpr) / 1000)


def test_no_images_are_no_attributions():
    assert attribute(np.zeros((0, 32)), ['ann'], np.ones((1, 32), np.uint8), 1e-3) == []


@pytest.mark.parametrize('logits, codes, fpr, error, message', [
    (np.ones((1, 32)), np.zeros((0, 32)), 1e-3, UserError, 'holds no users'),
    (np.ones((1, 16)), np.zeros((1, 32)), 1e-3, UserError, r'\[1, 16\].*32 bits'),
    (np.full((1, 32), np.nan), np.zeros((1, 32)), 1e-3, UserError, 'not finite'),
    (np.ones((1, 32)), np.zeros((1, 32)), 2, UsageError, 'rate of 2')])
def test_bad_input_is_refused(logits, codes, fpr, error, message):
    with pytest.raises(error, match=message):
        attribute(logits, ['ann'] * len(codes), codes, fpr)
