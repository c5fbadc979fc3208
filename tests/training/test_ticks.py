"""The line of warning, and what must not bring it."""
import pytest

from helpers import tiny_config
from training.ticks import Ticks


@pytest.mark.parametrize('accuracies, warned', [
    ((0.5, 0.5, 0.5, 0.5), [2]),     # after 2 of 20 kimg, once
    ((0.6, 0.503, 0.5, 0.5), [2]),   # 8,000 bits: a standard deviation is 0.0056
    ((0.5, 0.53, 0.5, 0.5), []),
    ((0.5, 0.45, 0.9, 0.9), [2]),
    ((None, None, None, None), [])])
def test_a_fingerprint_read_by_chance_is_told_after_a_tenth_of_the_run(accuracies, warned):
    config, lines, found = tiny_config(total_kimg=20, tick_kimg=1), [], []
    ticks = Ticks(config, None, lines.append, 0, 20)
    for accuracy in accuracies:
        statistics = {'timing/images_per_second': 1.0}
        ticks.advance(statistics if accuracy is None else {**statistics, 'bit_accuracy_float': accuracy})
        if lines[-1].startswith('warning: '):
            found.append(ticks.kimg)
            assert f'{accuracy:.4f}' in lines[-1] and '--lambda-fingerprint' in lines[-1]
    assert found == warned


def test_a_resumed_run_is_not_told_again():
    lines = []
    ticks = Ticks(tiny_config(total_kimg=20, tick_kimg=1), None, lines.append, 2000, 20)
    ticks.advance({'timing/images_per_second': 1.0, 'bit_accuracy_float': 0.5})
    assert not [line for line in lines if line.startswith('warning: ')]


def test_a_run_that_is_over_is_not_told_what_to_try():
    lines = []
    ticks = Ticks(tiny_config(total_kimg=1, tick_kimg=1), None, lines.append, 0, 1)
    ticks.advance({'timing/images_per_second': 1.0, 'bit_accuracy_float': 0.5})
    assert ticks.done and len(lines) == 1
