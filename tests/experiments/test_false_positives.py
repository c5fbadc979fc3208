"""Unrelated pictures, and the count of those that are held against a user."""
import io
import os

import numpy as np
import pytest
from PIL import Image

from dnnlib.util import UsageError
from experiments import false_positives
from experiments.unrelated import unrelated
from fingerprints.codes import packed
from fingerprints.statistics import p_value


@pytest.fixture
def photographs():
    found = []
    for seed in range(3):
        file = io.BytesIO()
        noise = np.random.default_rng(seed).integers(0, 256, [40, 50, 3]).astype(np.uint8)
        Image.fromarray(noise).save(file, 'PNG')
        found.append(file.getvalue())
    return found


def test_unrelated_pictures_are_of_all_kinds_and_the_same_each_time(photographs):
    first, second = (list(unrelated(photographs, 16, 400, 5)) for _ in range(2))
    assert [kind for kind, _ in first].count('photograph') == 200
    assert {kind for kind, _ in first} == {'photograph', 'noise', 'flat', 'gradient', 'drawing'}
    assert all(pixels.shape == (16, 16, 3) and pixels.dtype == np.uint8 for _, pixels in first)
    assert all((one == other).all() for (_, one), (_, other) in zip(first, second))
    assert len({pixels.tobytes() for _, pixels in first}) > 390


def test_p_values_are_those_of_the_best_version_and_user_of_each_registry():
    """Oracle: the same registries drawn anew, and every comparison made."""
    rng = np.random.default_rng(0)
    bits = rng.integers(0, 2, [40, 3, 24], np.uint8)  # 40 pictures in 3 versions
    bits[3], bits[7, 2] = bits[5], bits[1, 0]          # and some that decode alike
    found = false_positives.p_values(packed(bits), 24, 30, 4, seed=7)
    registries = np.random.default_rng(7)
    for part in range(4):
        codes = np.unpackbits(registries.integers(0, 256, (30, 3), np.uint8), axis=1)
        for number in range(10 * part, 10 * part + 10):
            matching = (bits[number][:, None] == codes).sum(axis=2).max()
            assert found[number] == pytest.approx(min(1, 30 * 3 * p_value(matching, 24)))


def test_the_lines_tell_what_is_above_the_rate():
    kinds = np.array(['flat', 'photograph'] * 500)
    p = np.where(kinds == 'flat', 1e-7, 0.5)
    said = list(false_positives.lines(kinds, p, 128, 10_000, 16, 100))
    assert said[0].startswith('10,000 users, 100 registries, 16 alignments, rate 0.001: ')
    assert said[1].split()[:4] == ['all', '500', 'of', '1000'] and said[1].endswith('ABOVE the rate')
    assert said[3].split()[:4] == ['photograph', '0', 'of', '500'] and said[3].endswith('within the rate')
    assert said[4].strip() == ('100 of 100 registries held a picture against anyone, one of them 5; by the spread '
                               'between them 95%: 5.0e-01 to 5.0e-01')
    p[:200] = 0.5  # 20 registries less: 4 pictures of a registry in the mean, spread by 2
    assert list(false_positives.lines(kinds, p, 128, 10_000, 16, 100))[4].endswith('3.6e-01 to 4.4e-01')


def test_other_generators_pictures_are_among_them(photographs, run_dir):
    """One of this project, of random fingerprints, and one of random weights: each a fifth of what is no photograph."""
    generators = false_positives.load_generators([run_dir, 'untrained'], 16, 3)
    first = list(unrelated(photographs, 16, 240, 5, generators))
    kinds = [kind for kind, _ in first]
    assert kinds.count('untrained') == kinds.count(os.path.basename(run_dir)) == 20 == kinds.count('flat')
    assert all(pixels.shape == (16, 16, 3) and pixels.dtype == np.uint8 for _, pixels in first)
    drawn = [generator(16, np.random.default_rng(0)) for generator in generators for _ in range(3)]
    assert len({pixels.tobytes() for pixels in drawn}) == 6 and min(pixels.std() for pixels in drawn) > 1
    assert generators[0](8, np.random.default_rng(0)).shape == (8, 8, 3)


def test_a_trained_run_is_measured_end_to_end(run_dir, photographs, tmp_path, capsys):
    """Of an untrained decoder, which says nearly the same of every picture: the promise holds all the same."""
    for number, data in enumerate(photographs):
        (tmp_path / f'{number}.png').write_bytes(data)
    words = [f'--run={run_dir}', f'--photographs={tmp_path}', '--pictures=64', '--users=50', '--registries=8',
             '--generators', 'untrained']
    false_positives.main(false_positives.make_parser().parse_args(words))
    printed = capsys.readouterr().out
    assert printed.startswith('64 pictures, which decode to ') and printed.count('within the rate') == 14
    for wrong in ('--users=x', '--users=1', '--registries=65', '--seed=-1'):
        with pytest.raises(UsageError):
            false_positives.main(false_positives.make_parser().parse_args([*words, wrong]))
