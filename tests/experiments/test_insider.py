"""What who opened an instance makes of another user's pictures: the estimate, against a mark that is known."""
import json

import numpy as np
import pytest
import tensorflow as tf

from dnnlib.util import UsageError
from experiments import insider
from helpers import save_run
from training.snapshot import Snapshot

SIDE = 16
RNG = np.random.default_rng(0)


def smooth(count):
    """Made-up content: sums of a few low frequencies, [count, SIDE, SIDE, 3]."""
    y, x = np.mgrid[:SIDE, :SIDE] / SIDE
    waves = [np.cos(2 * np.pi * (a * x + b * y + RNG.random())) for a in range(3) for b in range(3)]
    return 0.3 * np.einsum('nwc,wyx->nyxc', RNG.standard_normal([count, len(waves), 3]), np.array(waves))


def signs(count):
    """Of quarters of the picture."""
    return np.repeat(np.repeat(RNG.choice([-1.0, 1.0], [count, 2, 2, 1]), SIDE // 2, 1), SIDE // 2, 2)


def found(count, own_signs=None):
    """How the estimate from `count` pictures correlates with the mark."""
    mark, own = 0.1 * RNG.standard_normal([2, SIDE, SIDE, 3])
    content, given = smooth(500), signs(500)
    power = np.mean(np.abs(insider.spectrum(given * content)) ** 2, axis=0)
    pictures, given = smooth(count), signs(count)
    taken = given if own_signs is None else own_signs(count)
    estimate = insider.estimated_mark(pictures + given * mark, taken, own, power)
    assert np.mean(np.square(estimate)) == pytest.approx(np.mean(np.square(own)))
    return np.corrcoef(estimate.ravel(), mark.ravel())[0, 1]


def test_the_mark_is_found_with_more_and_more_pictures_if_their_signs_are_known():
    one, many = np.mean([found(1) for _ in range(5)]), found(200)
    assert many > 0.9 and 0.3 < one < many - 0.05
    assert abs(found(200, signs)) < 0.3


def test_luma_and_chroma_go_there_and_back():
    image = RNG.standard_normal([SIDE, SIDE, 3])
    back = np.fft.ifft2(insider.spectrum(image), axes=(0, 1)).real @ insider.TO_RGB
    np.testing.assert_allclose(back, image, atol=1e-12)


def test_ring_means():
    power = RNG.random([SIDE, SIDE, 3])
    mean = insider.radial_mean(power)
    np.testing.assert_allclose(mean[0, 0], power[0, 0])
    ring = [power[y, x] for y in (-1, 0, 1) for x in (-1, 0, 1) if (y, x) != (0, 0)]
    np.testing.assert_allclose(mean[1, 0], np.mean(ring, axis=0))  # √2 is nearer to 1 than to 2


def test_a_run_is_measured(tmp_path, capsys, monkeypatch):
    """With bob's key alice's mark is found and put on, with another it is not; 16 bits name nobody at 1e-6."""
    monkeypatch.setattr(insider, 'PUBLISHED', (1, 50))
    run = save_run(tmp_path / 'run', preset='adopted', method='adopted', mark_psnr=20.0, sign_map=4, key_bits=2)
    insider.main(insider.make_parser().parse_args([f'--run={run}', '--images=30']))
    lines = {line['attack']: line for line in map(json.loads, capsys.readouterr().out.splitlines())}
    assert list(lines) == [f'{name}_{count}' for name in ('same_key', 'other_key', 'nearest') for count in (1, 50)]
    assert {line['images'] for line in lines.values()} == {30}
    assert {line['named_alice']['1e-06'] for line in lines.values()} == {None}


@pytest.mark.parametrize('masked', [False, True])
def test_only_the_same_key_gives_the_mark_away(tmp_path, masked):
    run = save_run(tmp_path / 'run', preset='adopted', method='adopted', mark_psnr=15.0, sign_map=4, key_bits=2,
                   texture_masking=masked)
    opened, rng = insider.Opened(Snapshot(run)), np.random.default_rng(0)
    bob, unmarked = rng.integers(0, 2, 16), opened.unmarked(20, rng)
    likeness = []
    for same_key in (True, False):
        alice = insider.framed(bob, 2, same_key, rng)
        assert np.array_equal(alice[:2], bob[:2]) == same_key
        row = tf.constant(np.repeat(alice[np.newaxis], 20, 0), tf.float32)
        true = opened.carriers(row, tf.constant(unmarked)).numpy()
        assert np.mean(np.square(opened.gains(unmarked, alice) * opened.mark(alice) - true)) < 0.2 * np.mean(true ** 2)
        *_, (_, forged) = insider.forged_by_signs(opened, alice, bob, unmarked, rng)
        likeness.append(np.corrcoef((forged - unmarked).ravel(), true.ravel())[0, 1])
    assert likeness[0] > 0.2 > 0.05 > abs(likeness[1])  # an untrained generator's content is strong, and clipped


def test_other_methods_are_refused(tmp_path):
    run = save_run(tmp_path / 'run')
    with pytest.raises(UsageError, match='of method fingerprinted'):
        insider.main(insider.make_parser().parse_args([f'--run={run}']))
