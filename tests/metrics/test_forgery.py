"""Forgery on models of NumPy whose answer is known. Grey level 130 is the middle; a bit is AMPLITUDE above or below."""
import json
import math

import numpy as np
import pytest

from dnnlib.images import to_uint8
from dnnlib.util import UsageError, UserError
from metrics.base import Model, Options, run_metric

BITS, SIDE, AMPLITUDE, CONTENT = 64, 16, 30, 60
PIXELS = SIDE * SIDE
MARK, SIGNS = slice(0, BITS), slice(BITS, 2 * BITS)  # which pixels hold the fingerprint and the latent's signs


class Photographs:
    """A dataset of `count` grey pictures with the signs of latents."""
    name, digest = 'grey', '0' * 64

    def __init__(self, count, resolution=SIDE):
        self.count, self.resolution = count, resolution

    def num_images(self, split):
        return self.count

    def images(self, split, count):
        levels = np.full([min(count, self.count), PIXELS, 3], 130, np.uint8)
        levels[:, SIGNS] += np.random.default_rng(0).choice(np.uint8([60, 196]), [len(levels), BITS, 1])  # 196: -60
        yield levels.reshape(-1, SIDE, SIDE, 3)


def make_model(marks, read, bits=BITS, batch_size=64):
    """marks(latents, codes ±1): grey levels [N, bits] of the mark; read(levels [N, PIXELS] around 130): logits."""
    def generate(latents, fingerprints):
        levels = np.full([len(latents), PIXELS], 130.0)
        levels[:, SIGNS] += CONTENT * np.sign(latents)
        levels[:, :bits] += marks(latents, 2 * fingerprints - 1)
        return np.repeat(levels.reshape(-1, SIDE, SIDE, 1) / 127.5 - 1, 3, axis=3).astype(np.float32)

    def decode(images):
        return read(to_uint8(images)[..., 0].reshape(-1, PIXELS).astype(int) - 130)
    return Model(generate, decode, BITS, bits, SIDE, batch_size)


def additive(**kwargs):
    """The same mark on every picture."""
    return make_model(lambda latents, codes: AMPLITUDE * codes, lambda levels: levels[:, MARK], **kwargs)


def keyed(**kwargs):
    """The latent draws the mark's signs; the decoder finds them in the picture."""
    return make_model(lambda latents, codes: AMPLITUDE * codes * np.sign(latents),
                      lambda levels: levels[:, MARK] * np.sign(levels[:, SIGNS]), **kwargs)


def uneven(**kwargs):
    """An additive mark, ten times as strong if the first latent is above 1, so that its mean overrules weak ones."""
    def marks(latents, codes):
        return np.where(latents[:, :1] > 1, 100, 10) * codes
    return make_model(marks, lambda levels: levels[:, MARK], **kwargs)


def measure(model, count=400, dataset=None):
    record = run_metric('forgery', model, dataset, Options(num_images=count))
    json.dumps(record, allow_nan=False)
    return record


def shares(record, attack, rate='1e-03'):
    return tuple(record['attacks'][attack][who][rate] for who in ('alice', 'bob', 'nobody'))


@pytest.fixture(scope='module')
def additive_record():
    return measure(additive(), dataset=Photographs(40))


@pytest.fixture(scope='module')
def keyed_record():
    return measure(keyed(), dataset=Photographs(40))


def test_an_additive_mark_is_copied(additive_record):
    for rate in ('1e-03', '1e-06'):
        assert shares(additive_record, 'alice_untouched', rate) == (1, 0, 0)
        assert shares(additive_record, 'bob_untouched', rate) == (0, 1, 0)
        for attack in ('two_instances', 'mean_100', 'photographs_100', 'photographs_1000'):
            assert shares(additive_record, attack, rate) == (1, 0, 0), attack
        for attack in ('removal_100', 'removal_1000'):
            assert shares(additive_record, attack, rate) == (0, 0, 1), attack
    # Marks of one strength cancel where the two users differ: there the sums are coin tosses, and zeros if averaged.
    common = additive_record['attacks']['bob_untouched']['alice_bits']
    assert 0.3 < common < 0.7 and additive_record['attacks']['bob_untouched']['bob_bits'] == 1
    for attack in ('stranger_100', 'stranger_1000', 'averaged'):
        outcome = additive_record['attacks'][attack]
        assert outcome['alice_bits'] + outcome['bob_bits'] == pytest.approx(1 + common)


def test_a_mark_keyed_by_the_latent_is_not(keyed_record):
    assert keyed_record['value'] == 0
    for attack in ('stranger_100', 'stranger_1000', 'bob_untouched'):
        assert shares(keyed_record, attack, '1e-06') == (0, 1, 0), attack
    for attack in ('removal_100', 'removal_1000', 'alice_untouched'):
        assert shares(keyed_record, attack, '1e-06') == (1, 0, 0), attack
    for attack in ('photographs_100', 'photographs_1000'):
        assert shares(keyed_record, attack) == (0, 0, 1), attack
    assert keyed_record['attacks']['photographs_1000']['alice_bits'] == pytest.approx(0.5, abs=0.1)
    assert shares(keyed_record, 'mean_100') == (1, 0, 0)  # mark and signs average to the same sum of signs
    # Of another latent the residual is as often right as wrong where the users differ, and nothing where they agree.
    common = keyed_record['attacks']['bob_untouched']['alice_bits']
    for bits in ('alice_bits', 'bob_bits'):
        assert keyed_record['attacks']['two_instances'][bits] == pytest.approx((1 + common) / 2, abs=0.02)
    assert keyed_record['summary'] == ('alice named 0.0 %, bob 100.0 %, removal 100.0 %, '
                                       f'{keyed_record["between_users"]["psnr"]:.1f} dB between users')


def test_a_residual_overrules_weaker_marks():
    record = measure(uneven(), 1000)
    weak = 0.8413  # P(N(0, 1) < 1); the mean strength is 10 · 0.84 + 100 · 0.16 = 24
    assert record['value'] == record['attacks']['stranger_100']['alice']['1e-03'] == pytest.approx(weak, abs=0.05)
    assert shares(record, 'stranger_1000', '1e-06') == pytest.approx((weak, 1 - weak, 0), abs=0.05)
    assert f'alice named {100 * record["value"]:.1f} %' in record['summary']


def test_psnr_against_the_closed_form(additive_record):
    """Between the users BITS of PIXELS pixels may differ, by 2 AMPLITUDE."""
    differing = 1 - additive_record['attacks']['bob_untouched']['alice_bits']
    error = differing * BITS / PIXELS * (2 * AMPLITUDE) ** 2
    expected = 10 * np.log10(255 ** 2 / error)
    assert additive_record['between_users']['psnr'] == pytest.approx(expected)
    assert additive_record['attacks']['two_instances']['psnr'] == pytest.approx(expected)
    assert additive_record['attacks']['averaged']['psnr'] == pytest.approx(expected + 20 * np.log10(2))
    assert additive_record['attacks']['bob_untouched']['psnr'] is None
    assert additive_record['attacks']['mean_100']['psnr'] is None
    photographs = additive_record['attacks']['photographs_1000']['psnr']  # AMPLITUDE on BITS of PIXELS pixels
    assert photographs == pytest.approx(10 * np.log10(255 ** 2 / (AMPLITUDE ** 2 * BITS / PIXELS)), abs=0.2)
    assert 0 < additive_record['between_users']['ssim'] < 1


def test_counts_pairs_and_thresholds(additive_record):
    assert {name: outcome['images'] for name, outcome in additive_record['attacks'].items()} == {
        'alice_untouched': 400, 'bob_untouched': 400, 'stranger_100': 400, 'stranger_1000': 400, 'removal_100': 400,
        'removal_1000': 400, 'two_instances': 400, 'averaged': 400, 'mean_100': 40, 'photographs_100': 160,
        'photographs_1000': 160}
    assert (additive_record['pairs'], additive_record['users'], additive_record['images']) == (4, 100, 400)
    for rate, needed in additive_record['thresholds'].items():  # the least that has a p-value below, times USERS
        tails = [100 * sum(math.comb(BITS, k) for k in range(least, BITS + 1)) / 2 ** BITS
                 for least in (needed - 1, needed)]
        assert tails[0] > float(rate) >= tails[1]
    record = measure(keyed(), 11)
    assert record['images'] == 11 and record['attacks']['two_instances']['images'] == 11
    assert not [name for name in record['attacks'] if name.startswith('photographs')]
    assert not [name for name in measure(keyed(), 8, Photographs(0))['attacks'] if name.startswith('photographs')]


def test_each_user_of_four_pairs_is_drawn():
    seen = set()

    def marks(latents, codes):
        seen.update({code.tobytes() for code in codes} if len({code.tobytes() for code in codes}) == 1 else ())
        return AMPLITUDE * codes
    measure(make_model(marks, lambda levels: levels[:, MARK]), 8)
    assert len(seen) == 8


def test_the_result_depends_on_the_seed_alone():
    def comparable(record):
        return {key: value for key, value in record.items() if key not in ('seconds', 'time')}
    first = measure(keyed(batch_size=64), 30)
    assert comparable(first) == comparable(measure(keyed(batch_size=7), 30))
    assert first['attacks'] != run_metric('forgery', keyed(), None, Options(num_images=30, seed=1))['attacks']


def test_a_decoder_that_answers_always_the_same_names_nobody():
    record = measure(make_model(lambda latents, codes: 0, lambda levels: np.ones([len(levels), BITS])))
    assert {shares(record, attack) for attack in record['attacks']} == {(0, 0, 1)}
    assert record['attacks']['stranger_100']['alice_bits'] == pytest.approx(0.5, abs=0.15)
    assert record['between_users'] == {'psnr': None, 'ssim': 1} and record['summary'].endswith('users alike')


def test_a_rate_out_of_reach_is_none():
    few = make_model(lambda latents, codes: AMPLITUDE * codes, lambda levels: levels[:, :8], bits=8)
    record = measure(few, 16)
    assert record['value'] is None and record['thresholds'] == {'1e-03': None, '1e-06': None}
    assert shares(record, 'alice_untouched') == (None, None, None)
    assert record['attacks']['two_instances']['alice_bits'] == 1
    assert record['summary'].startswith('8 bits cannot name one of 100 users at 1e-3, ')
    some = make_model(lambda latents, codes: AMPLITUDE * codes, lambda levels: levels[:, :20], bits=20)
    record = measure(some, 16)
    assert shares(record, 'alice_untouched') == (1, 0, 0)
    assert shares(record, 'alice_untouched', '1e-06') == (None, None, None)


def test_bad_input_is_refused():
    with pytest.raises(UsageError, match='forgery cannot be measured on 7 images; take at least 8'):
        measure(additive(), 7)
    with pytest.raises(UserError, match='images of 32 pixels a side, the model draws 16; name a dataset of that size'):
        measure(additive(), 8, Photographs(4, resolution=32))
    with pytest.raises(UserError, match='forgery needs a decoder'):
        measure(Model(lambda latents, codes: None, None, BITS, BITS, SIDE))
    with pytest.raises(UserError, match='generator made values that are not finite'):
        measure(make_model(lambda latents, codes: np.nan * codes, lambda levels: levels[:, MARK]), 8)
