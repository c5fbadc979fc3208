"""Marks whose signs nobody knows: bits and signs at once, but for one sign that is common to all."""
from types import SimpleNamespace

import numpy as np
import pytest

from release.redrawing.blind import read_blindly
from release.redrawing.left import Left

BITS, PARTS, PIXELS = 24, 9, 900


@pytest.fixture
def marks(rng):
    """(marks [bits, pixels], maps [parts, pixels], bits, signs) of parts that overlap a little."""
    maps = np.zeros([PARTS, PIXELS])
    for index in range(PARTS):
        maps[index, index * 100:(index + 1) * 100] = 1
    maps = np.stack([np.convolve(row, np.ones(15) / 15, 'same') for row in maps])
    return (rng.standard_normal([BITS, PIXELS]), maps, rng.choice([-1.0, 1.0], BITS), rng.choice([-1.0, 1.0], PARTS))


def left_by(target, nuisance=None):
    """Left, of a target [pixels] in units of 1, less what rows of a nuisance explain."""
    basis = np.linalg.qr((np.zeros([1, PIXELS]) if nuisance is None else nuisance).T)[0]

    def without(rows):
        return rows - (rows @ basis) @ basis.T

    def unexplained(told):
        return np.mean((target - told) ** 2)

    def explained(told, numbers):
        return (unexplained(0) - unexplained(told)) / numbers / unexplained(told) * (PIXELS - numbers)
    left = SimpleNamespace(whitened=without(target), without_nuisance=without, unexplained=unexplained,
                           explained=explained)
    left.bits = lambda rows: Left.bits(left, rows)
    return left


def test_marks_are_read_though_nobody_knows_their_signs(rng, marks):
    rows, maps, bits, signs = marks
    added = (bits @ rows) * (signs @ maps)
    noise = 3 * rng.standard_normal(PIXELS)
    found = read_blindly(left_by(added + noise), rows, maps)
    assert np.mean((found.marks - added) ** 2) < 0.1 * np.mean(added ** 2)
    assert found.left == pytest.approx(np.mean(noise ** 2), rel=0.2) and found.explained > 20


def test_noise_is_not_taken_for_marks(rng, marks):
    rows, maps, _, _ = marks
    noise = 3 * rng.standard_normal(PIXELS)
    assert read_blindly(left_by(noise), rows, maps).explained < 4


def test_signs_to_begin_with_are_mended(rng, marks):
    rows, maps, bits, signs = marks
    added = (bits @ rows) * (signs @ maps)
    wrong = signs * np.where(np.arange(PARTS) < 3, -1, 1)
    found = read_blindly(left_by(added + rng.standard_normal(PIXELS)), rows, maps, wrong)
    assert np.mean((found.marks - added) ** 2) < 0.05 * np.mean(added ** 2)


def test_what_an_error_of_the_latent_may_be_is_not_taken_for_marks(rng, marks):
    rows, maps, bits, signs = marks
    added, nuisance = (bits @ rows) * (signs @ maps), rng.standard_normal([5, PIXELS])
    target = added + 5 * rng.standard_normal(5) @ nuisance
    found = read_blindly(left_by(target, nuisance), rows, maps)
    assert np.mean((found.marks - added) ** 2) < 0.1 * np.mean(added ** 2)


def test_parts_that_are_not_shown_do_not_count(rng, marks):
    rows, maps, bits, signs = marks
    unseen = np.concatenate([maps, np.zeros([3, PIXELS])])
    target = (bits @ rows) * (signs @ maps) + rng.standard_normal(PIXELS)
    one, other = read_blindly(left_by(target), rows, maps), read_blindly(left_by(target), rows, unseen)
    np.testing.assert_allclose(one.marks, other.marks)
    assert one.explained == pytest.approx(other.explained)
