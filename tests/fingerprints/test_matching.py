import tracemalloc

import numpy as np
import pytest

from dnnlib.util import UsageError, UserError
from fingerprints import matching
from fingerprints.codes import packed
from fingerprints.evidence import soft_p_values, soft_weights
from fingerprints.matching import Attribution, PackedCodes, attribute
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
        order = sorted(range(len(codes)), key=lambda u: -counts[u])
        best, second = order[:2]
        bits = len(row)
        enough = threshold(bits, len(codes), fpr)
        over = [u for u in order if enough is not None and counts[u] >= enough]
        if enough is None:
            reason = 'unreachable'
        elif len(over) > 1:
            reason = 'tie' if counts[best] == counts[second] else 'several'
        else:
            reason = 'named' if over else 'nobody'
        results.append(Attribution(
            names[best] if reason == 'named' else None, reason, names[best], counts[best], bits,
            min(1, len(codes) * p_value(counts[best], bits)), enough, tuple(names[u] for u in over),
            names[second], counts[second], len(codes)))
    return results


@pytest.fixture(params=['a matrix product', 'counted bits'])
def either_way(request, monkeypatch):
    """Matching as with NumPy 1 and as with NumPy 2, whose bitwise_count is a table here where it is absent."""
    ones = np.array([bin(byte).count('1') for byte in range(256)], np.uint8)
    if not hasattr(np, 'bitwise_count'):
        monkeypatch.setattr(np, 'bitwise_count', lambda words: ones[words[..., None].view(np.uint8)].sum(
            axis=-1, dtype=np.uint8), raising=False)
    monkeypatch.setattr(matching, 'COUNTS_BITS', request.param == 'counted bits')


@pytest.mark.parametrize('bits, users, images', [(24, 7, 40), (32, 50, 70), (8, 40, 30), (128, 50, 70), (300, 9, 30)])
def test_it_equals_the_naive_loop_across_block_borders(monkeypatch, either_way, bits, users, images):
    monkeypatch.setattr(matching, 'USERS_AT_ONCE', 3)
    monkeypatch.setattr(matching, 'IMAGES_AT_ONCE', 8)
    rng = np.random.default_rng(bits)
    codes, names = rng.integers(0, 2, (users, bits), dtype=np.uint8), [f'user{u}' for u in range(users)]
    codes[3] = codes[2]
    codes[3, :3] ^= 1  # so that some images pass for both
    codes[5] = codes[4]  # and some tie
    logits = rng.normal(size=(images, bits))
    wrong = rng.integers(0, 8 if bits < 100 else bits // 2, images)
    logits[:users] = [logits_of(code, count) for count, code in zip(wrong, codes)][:images]
    expected = naive(logits, names, codes, 0.05)
    assert attribute(logits, names, codes, 0.05) == expected
    reasons = {result.reason for result in expected}
    assert reasons == ({'unreachable'} if bits == 8 else {'named', 'nobody', 'several', 'tie'})


def test_the_threshold_decides():
    codes = np.random.default_rng(0).integers(0, 2, (2, 32), dtype=np.uint8)
    found = attribute([logits_of(codes[1], wrong) for wrong in (0, 6, 7)], ['ann', 'bob'], codes, 1e-3)
    assert [(result.user, result.best_user, result.matching) for result in found] == [
        ('bob', 'bob', 32), ('bob', 'bob', 26), (None, 'bob', 25)]
    assert found[0].p_value == 2 * 2.0 ** -32


def test_pictures_and_alignments_tried_are_corrected_for():
    code = np.ones((1, 32), np.uint8)
    [result] = attribute([logits_of(code[0], 2)], ['ann'], code, 1e-6)
    assert result.user == 'ann'
    [result] = attribute([logits_of(code[0], 2)], ['ann'], code, 1e-6, num_images=50, num_alignments=2)
    assert result.user is None and result.p_value == pytest.approx(100 * p_value(30, 32))
    assert result.threshold == threshold(32, 100, 1e-6)


def test_one_user_has_no_second():
    code = np.ones((1, 32), np.uint8)
    assert attribute([logits_of(code[0])], ['ann'], code, 1e-6) == [
        Attribution('ann', 'named', 'ann', 32, 32, 2.0 ** -32, 30, ('ann',), None, None, 1)]


def test_two_over_the_threshold_are_both_told_and_neither_is_named():
    codes = np.random.default_rng(0).integers(0, 2, (3, 64), dtype=np.uint8)
    codes[2] = codes[0]
    codes[2, :4] ^= 1
    [result] = attribute([logits_of(codes[0], 1)], ['ann', 'bob', 'cid'], codes, 1e-3)
    assert (result.user, result.reason, result.over_threshold) == (None, 'several', ('ann', 'cid'))
    assert (result.matching, result.second_matching) == (63, 61) and result.p_value < 1e-15


def test_all_who_pass_are_told_however_many():
    codes = np.ones((200, 64), np.uint8)
    codes[np.arange(200), np.arange(200) % 64] = 0
    [result] = attribute([logits_of(np.ones(64))], [str(u) for u in range(200)], codes, 1e-3)
    assert result.reason == 'tie' and sorted(map(int, result.over_threshold)) == list(range(200))


def test_a_tie_names_no_one():
    codes = np.zeros((2, 64), np.uint8)
    codes[0, 0] = codes[1, 1] = 1
    [result] = attribute([logits_of(np.zeros(64))], ['ann', 'bob'], codes, 1e-3)
    assert (result.user, result.reason, result.best_user, result.second_user) == (None, 'tie', 'ann', 'bob')
    assert result.matching == result.second_matching == 63 and result.p_value < 1e-15


def test_equals_below_the_threshold_are_nobody():
    codes = np.zeros((2, 32), np.uint8)
    codes[0, :8] = codes[1, 8:16] = 1
    [result] = attribute([logits_of(np.zeros(32))], ['ann', 'bob'], codes, 1e-3)
    assert (result.reason, result.over_threshold, result.matching) == ('nobody', (), 24)


def test_a_rate_that_no_number_of_bits_reaches_says_so():
    code = np.ones((1, 16), np.uint8)
    [result] = attribute([logits_of(code[0])], ['ann'], code, 1e-6)
    assert (result.user, result.reason, result.threshold, result.best_user) == (None, 'unreachable', None, 'ann')


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


def naive_soft(row, names, codes, fpr, tries):
    """A soft decision by each code's own p-value: (user, those over the threshold, best user, p-value, weight)."""
    p = np.minimum(1, tries * soft_p_values(row, codes))
    weights = soft_weights(row)
    matching = [int(np.abs(weights[(code > 0) == (row > 0)]).sum()) for code in codes]
    order = sorted(range(len(codes)), key=lambda u: -matching[u])
    over = tuple(names[u] for u in order if p[u] <= fpr)
    return over[0] if len(over) == 1 else None, over, names[order[0]], p[order[0]], matching[order[0]]


@pytest.mark.parametrize('bits', [24, 37])
def test_soft_decisions_equal_each_codes_own_p_value_across_block_borders(monkeypatch, bits):
    """37 bits fill no whole number of bytes."""
    monkeypatch.setattr(matching, 'USERS_AT_ONCE', 3)
    monkeypatch.setattr(matching, 'IMAGES_AT_ONCE', 8)
    rng = np.random.default_rng(bits)
    codes, names = rng.integers(0, 2, (20, bits), dtype=np.uint8), [f'user{u}' for u in range(20)]
    codes[3] = codes[2]
    codes[3, :2] ^= 1
    logits = np.abs(rng.normal(size=(40, bits))) * np.where(codes[rng.integers(0, 20, 40)] > 0, 1, -1)
    logits *= np.where(rng.random(logits.shape) < 0.1, -0.3, 1)
    found = attribute(logits, names, codes, 0.05, num_alignments=2, soft=True)
    reasons = set()
    for one, row in zip(found, logits):
        user, over, best, p, weight = naive_soft(row, names, codes, 0.05, 40)
        assert (one.user, one.over_threshold, one.best_user, one.weight) == (user, over, best, weight)
        assert one.p_value == pytest.approx(p) and one.threshold is None
        assert one.matching == ((row > 0) == codes[names.index(best)]).sum()
        assert one.weight_total == np.abs(soft_weights(row)).sum()
        assert (one.weight >= one.weight_needed) == (p <= 0.05)
        reasons.add(one.reason)
    assert reasons >= {'named', 'several'}


def test_soft_out_of_reach_and_with_one_user():
    row = np.array([[3.0] + [0.001] * 15])
    [one] = attribute(row, ['ann'], np.ones((1, 16), np.uint8), 1e-6, soft=True)
    assert (one.user, one.reason, one.weight_needed, one.second_matching) == (None, 'unreachable', None, None)


def test_codes_may_lie_packed_in_a_file(tmp_path, monkeypatch):
    monkeypatch.setattr(matching, 'USERS_AT_ONCE', 16)
    rng = np.random.default_rng(0)
    codes = rng.integers(0, 2, (100, 44), dtype=np.uint8)
    packed(codes).tofile(tmp_path / 'codes')
    stored = PackedCodes(np.memmap(tmp_path / 'codes', np.uint8, 'r', shape=(100, 6)), 44)
    logits = rng.normal(size=(30, 44))
    for soft in (False, True):
        assert attribute(logits, range(100), stored, 1e-3, soft=soft) == \
            attribute(logits, range(100), codes, 1e-3, soft=soft)


def test_matching_needs_no_memory_for_the_users(either_way):
    """But for a block: a million users of 64 bits, 8 MB packed, would be 256 MB as float32."""
    data = np.random.default_rng(0).integers(0, 256, (1_000_000, 8), np.uint8)
    logits = np.random.default_rng(1).normal(size=(4, 64))
    tracemalloc.start()
    attribute(logits, range(len(data)), PackedCodes(data, 64), 1e-3)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 20 << 20
