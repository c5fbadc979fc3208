import numpy as np
import pytest
from PIL import Image

from dnnlib.pictures import LABEL
from fingerprints.matching import Attribution
from release.attribute import Result
from release.report import AMPLIFICATION, attribution_table, residual_picture


def result(best, matching, second=5):
    return Result('x.png', Attribution(user=best, reason='named', best_user=best, matching=matching, num_bits=32,
                                       p_value=0.5, threshold=26, over_threshold=(best,), second_user='other',
                                       second_matching=second, users=2))


def test_attribution_table_counts():
    rows = [('alice', 'alice', [result('alice', 32), result('alice', 26), result('bob', 31), result('alice', 25)]),
            ('bob', 'bob', [result('bob', 31, second=31)]),  # a tie names no one
            ('real', None, [result('bob', 27), result('alice', 20)])]
    lines = attribution_table(rows, 32, 2, (1e-3, 1e-6)).splitlines()
    assert '≥26 of 32' in lines[0] and '≥30 of 32' in lines[0]
    assert lines[1].split() == ['alice', '4', '28.5', '2/4', 'right', '1/4', 'right']
    assert lines[2].split() == ['bob', '1', '31.0', '0/1', 'right', '0/1', 'right']
    assert lines[3].split() == ['real', '2', '23.5', '1/2', 'named', '0/2', 'named']


def test_attribution_table_where_no_number_of_bits_suffices():
    assert '0/1 right' in attribution_table([('a', 'a', [result('a', 8)])], 8, 2, (1e-6,))


@pytest.mark.parametrize('zoom', [1, 3])
def test_residual_picture(tmp_path, zoom):
    first = np.full([4, 8, 8, 3], 100, np.uint8)
    second = first.copy()
    second[1, 2, 3] += 2
    residual_picture(str(tmp_path / 'x.png'), {'a': first, 'b': second}, ['a', 'b'], zoom)
    with Image.open(tmp_path / 'x.png') as picture:
        pixels = np.asarray(picture)
    assert pixels.shape == (3 * 8 * zoom, LABEL + 4 * 8 * zoom, 3)
    residual = pixels[16 * zoom::zoom, LABEL::zoom]
    assert residual[0, 0, 0] == 127
    assert residual[2, 8 + 3, 0] == pytest.approx(127.5 - 2 * AMPLIFICATION, abs=1)
    assert (residual != 127).any(axis=2).sum() == 1
