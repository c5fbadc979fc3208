"""Placements: what is seen through them, by SciPy's interpolation, and their names."""
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from scipy.ndimage import gaussian_filter, map_coordinates

from dnnlib.perturbations.files import put_back, turn
from release.redrawing.placing import as_searched, in_words, placed, placements, shown
from release.search import Placement

SIZE = 24


def expected(image, placing):
    """An image [H, W] seen through a placement, from its definition: a square around its middle, turned."""
    side, turn = np.exp(placing[0]), placing[3]
    middle = (SIZE - 1) / 2
    down, right = np.mgrid[:SIZE, :SIZE] - middle
    rows = middle + SIZE * placing[1] + side * (np.sin(turn) * right + np.cos(turn) * down)
    columns = middle + SIZE * placing[2] + side * (np.cos(turn) * right - np.sin(turn) * down)
    return map_coordinates(image, [rows, columns], order=1, mode='nearest')


@pytest.mark.parametrize('placing', [(0, 0, 0, 0), (np.log(0.7), 0.1, -0.12, 0), (0, 0, 0, 0.4),
                                     (np.log(0.6), -0.1, 0.05, -0.3)])
def test_a_picture_is_seen_as_scipy_interpolates(rng, placing):
    image = rng.standard_normal([SIZE, SIZE]).astype(np.float32)
    found = placed(tf.constant(image[np.newaxis, ..., np.newaxis]), tf.constant([placing], tf.float32))
    np.testing.assert_allclose(found.numpy()[0, ..., 0], expected(image, placing), atol=2e-4)


def test_a_whole_is_shown_everywhere_and_a_turned_ones_corners_are_not():
    whole, part, turned = shown(tf.constant([(0, 0, 0, 0), (np.log(0.5), 0.25, 0.25, 0), (0, 0, 0, np.pi / 4)],
                                            tf.float32), SIZE).numpy()[..., 0]
    assert whole.all() and part.all()
    down, right = np.abs(np.mgrid[:SIZE, :SIZE] - (SIZE - 1) / 2)
    far, near = down + right > SIZE / 2 ** 0.5 + 1, down + right < SIZE / 2 ** 0.5 - 2
    assert not turned[far].any() and turned[near].all()


def test_every_part_lies_within_and_turns_are_of_both_directions():
    kinds = placements()
    assert kinds['whole'].tolist() == [[0, 0, 0, 0]] and list(kinds) == ['whole', 'part', 'turn']
    sides = np.exp(kinds['part'][:, 0])
    assert 0.49 < sides.min() and sides.max() < 0.91
    assert (np.abs(kinds['part'][:, 1:3]).max(1) + sides / 2 <= 0.5 + 1e-6).all()
    assert np.unique(kinds['part'], axis=0).shape == kinds['part'].shape
    assert sorted(kinds['turn'][:, 3]) == pytest.approx(sorted(-kinds['turn'][:, 3]))


@pytest.mark.parametrize('found', [Placement(14, 3, 7), Placement(24, 0, 0, 20), Placement(24, 0, 0, -35)])
def test_what_a_decoders_search_puts_back_is_seen_so(rng, found):
    """A picture seen through the placement and put back as the search does is the picture again, where it is shown."""
    picture = gaussian_filter(rng.standard_normal([SIZE, SIZE]), 3)
    picture = (picture / np.abs(picture).max()).astype(np.float32)
    placing = tf.constant(as_searched(found, SIZE)[np.newaxis])
    seen = placed(tf.constant(picture[np.newaxis, ..., np.newaxis]), placing).numpy()[0, ..., 0]
    seen = Image.fromarray(np.uint8(np.round(seen * 127 + 127))).convert('RGB')
    again = turn(seen, found.degrees) if found.degrees else put_back(seen, *found[:3])
    again = (np.asarray(again)[..., 0] - 127.0) / 127
    inner = slice(5, -5) if found.degrees else slice(found.top + 1, found.top + found.side - 1)
    across = slice(5, -5) if found.degrees else slice(found.left + 1, found.left + found.side - 1)
    assert np.abs(again - picture)[inner, across].max() < 0.12


def test_words():
    assert in_words(np.zeros(4)) == 'as a whole'
    part = in_words(np.array([np.log(0.8), -0.1, 0.05, 0]))
    assert part == 'as a part: 80% of the side, 0% from the top, 15% from the left'
    assert in_words(np.array([0, 0, 0, -np.pi / 18])) == 'turned by -10°'
