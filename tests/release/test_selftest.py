"""An instance that can't be traced is not handed over: drawn from its folder, saved, read back."""
import math
import os
import shutil

import numpy as np
import pytest
from painting import BITS, PaintedSnapshot, read

import run_release
from dnnlib.util import UserError
from fingerprints.registry import Registry
from release.issue import HandOver, Issuer
from release.selftest import SelfTest, check

PNG, BOTH = HandOver(('png',)), HandOver(('png', 'jpeg'))


@pytest.fixture
def registry(tmp_path):
    return Registry(str(tmp_path / 'registry.sqlite'), create=True)


def issuer(registry, tmp_path, hand_over=BOTH, **options):
    (tmp_path / 'run').mkdir()
    return Issuer(str(tmp_path / 'run'), registry, str(tmp_path / 'instances'),
                  PaintedSnapshot(tmp_path, **options), hand_over)


def needed_by_counting():
    """The fewest of BITS tosses whose tail is a millionth or less, by whole numbers."""
    tails = [sum(math.comb(BITS, k) for k in range(least, BITS + 1)) for least in range(BITS + 1)]
    return next(least for least, tail in enumerate(tails) if tail * 10 ** 6 <= 2 ** BITS)


def test_an_instance_that_reads_is_handed_over(registry, tmp_path):
    make = issuer(registry, tmp_path)
    for name in ('alice', 'bob'):
        test = make(name).test
        assert test.matching == {'png': (BITS,) * 8, 'jpeg': (BITS,) * 8} and test.passed
        assert test.needed == needed_by_counting()
    assert test.summary.startswith('PNG 8 of 8 pictures read at 1e-06 (64.0 of 64 bits in the mean), JPEG 8 of 8')
    assert [one.name for one in registry.list()] == ['alice', 'bob']


NOISE = np.random.default_rng(0)


@pytest.mark.parametrize('options', [
    dict(spoil=lambda code: NOISE.integers(0, 2, BITS)), dict(spoil=lambda code: 1 - code), dict(strength=0.0),
    dict(decode=lambda images: NOISE.standard_normal([len(images), BITS]))],
    ids=['other bits', 'inverted', 'no mark', 'a decoder that does not read'])
def test_one_that_does_not_read_is_refused_and_leaves_nothing(registry, tmp_path, options):
    make = issuer(registry, tmp_path, PNG, **options)
    with pytest.raises(UserError, match='alice: its fingerprint does not read .PNG 0 of 8 .*not handed over') as caught:
        make('alice')
    assert '\n' not in str(caught.value) and os.listdir(tmp_path / 'instances') == []
    assert [one.state for one in registry.history()] == ['abandoned'] and registry.verify() == []
    assert Issuer(make.run_dir, registry, make.out, make.snapshot)('alice').test is None  # --selftest=false


def test_a_mark_that_jpeg_takes_away(registry, tmp_path):
    """Of a level or two, it is in the PNG: enough by default, not if JPEG is asked for."""
    make = issuer(registry, tmp_path, PNG, strength=1.2 / 127.5,
                  decode=lambda images: read(np.where(NOISE_FREE(images), images, 0)))
    test = make('alice').test
    assert test.read('png') == 8 and test.read('jpeg') == 0
    make.hand_over = BOTH
    with pytest.raises(UserError, match='JPEG 0 of 8 .* half of the PNG and JPEG pictures'):
        make('bob')
    assert [one.name for one in registry.list()] == ['alice']


def NOISE_FREE(images):
    """Where a picture's blocks are flat, as only those that were never compressed with loss are."""
    blocks = images.reshape(-1, 8, 4, 8, 4, 3)
    flat = np.ptp(blocks, axis=(2, 4)).max((1, 2, 3)) < 1e-6
    return flat[:, None, None, None]


def test_half_of_the_pictures_decide():
    def made(right):
        return SelfTest({'png': (BITS,) * right + (40,) * (8 - right), 'jpeg': (0,) * 8}, ('png',), BITS, 52)
    check(made(4), 'alice')
    with pytest.raises(UserError, match='does not read'):
        check(made(3), 'alice')
    with pytest.raises(UserError, match='16 bits are too few to be read at 1e-06'):
        check(SelfTest({'png': (16,) * 8}, ('png',), 16, None), 'alice')


def test_the_commands(released, tmp_path, capsys, monkeypatch):
    """Untrained networks show no fingerprint: issue refuses, selftest says so of a folder."""
    run_dir, registry, instances = released
    where = [f'--run={run_dir}', f'--registry={tmp_path}/registry.sqlite']
    shutil.copy(registry.location, tmp_path / 'registry.sqlite')

    def call(*words):
        return run_release.main(run_release.make_parser().parse_args(words)) or 0

    with pytest.raises(UserError, match='16 bits are too few to be read at 1e-06'):
        call('issue', 'carol', f'--out={tmp_path}/instances', *where)
    assert os.listdir(tmp_path / 'instances') == []
    assert call('selftest', f'{instances}/alice/1', *where) == 1
    assert 'DOES NOT READ' in capsys.readouterr().out
    shutil.copytree(f'{instances}/alice/1', tmp_path / 'changed')
    (tmp_path / 'changed' / 'more').write_text('')
    with pytest.raises(UserError, match='is of no instance in .* or was changed'):
        call('selftest', f'{tmp_path}/changed', *where)
