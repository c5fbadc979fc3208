"""The search for the place of a crop or the angle of a turn: what is tried, and that it finds them by itself."""
import numpy as np
import pytest
from PIL import Image

from dnnlib.images import to_float
from release.search import Placement, around, find_placement, in_words, parts, placed, sureness, turns

SIZE = 32
TEMPLATES = np.random.default_rng(0).choice([-1, 1], [24, SIZE // 2, SIZE // 2]).repeat(2, 1).repeat(2, 2)


def picture(code):
    """A picture with a bit for every template: a mark that can be read only in its place."""
    mark = np.einsum('j,jyx->yx', 2.0 * code - 1, TEMPLATES)
    return np.uint8(np.clip(128 + 8 * mark, 0, 255))[..., None].repeat(3, 2)


def decode(images):
    assert images.dtype == np.float32 and images.shape[1:] == (SIZE, SIZE, 3) and np.abs(images).max() <= 1
    levels = (images[..., 0] + 1) * 127.5
    marks = np.where(levels > 100, levels - 128.0, 0)  # corners of a turned picture tell nothing
    return np.einsum('nyx,jyx->nj', marks, TEMPLATES) / SIZE ** 2


def cropped(image, place):
    side, top, left = place
    return np.asarray(Image.fromarray(image).crop((left, top, left + side, top + side)).resize(
        (SIZE, SIZE), Image.Resampling.BILINEAR))


@pytest.mark.parametrize('place', [(28, 1, 4), (24, 8, 0), (25, 3, 5)])
def test_a_part_is_found_in_its_place_and_read(place):
    code = np.random.default_rng(1).integers(0, 2, 24)
    image = cropped(picture(code), place)
    found, logits = find_placement(image, decode)
    assert np.abs(np.subtract(found, (*place, 0))).max() <= 1
    assert np.mean((logits > 0) == code) > np.mean((decode(to_float(image[None]))[0] > 0) == code)
    assert np.mean((logits > 0) == code) > 0.95


@pytest.mark.parametrize('degrees', [17, -40])
def test_a_turned_picture_is_turned_back_and_read(degrees):
    code = np.random.default_rng(2).integers(0, 2, 24)
    image = np.asarray(Image.fromarray(picture(code)).rotate(degrees, Image.Resampling.BILINEAR))
    found, logits = find_placement(image, decode)
    assert found.side == SIZE and abs(found.degrees + degrees) <= 1
    assert np.mean((logits > 0) == code) > 0.95 > np.mean((decode(to_float(image[None]))[0] > 0) == code)


def test_every_place_is_tried_once_and_lies_within():
    tried = parts(64, 2)
    assert len(tried) == len(set(tried)) > 500
    for side, top, left, degrees in tried:
        assert degrees == 0
        assert 35 < side < 64 and 0 <= min(top, left) and max(top, left) + side <= 64
    near = around(Placement(62, 2, 1), 64, 2)
    assert (62, 2, 1, 0) in near and (63, 1, 1, 0) in near
    assert all(max(top, left) + side <= 64 for side, top, left, _ in near)
    assert around(Placement(30, 1, 1), 32, 1) == [(30, 1, 1, 0)]


def test_angles_in_both_directions_and_those_near():
    degrees = [one.degrees for one in turns(64, 3)]
    assert sorted(degrees) == [*range(-45, 0, 3), *range(3, 46, 3)]
    assert [one.degrees for one in around(Placement(64, 0, 0, -12), 64, 2)] == [-14, -13, -12, -11, -10]


def test_a_part_is_put_where_it_was_and_its_edge_repeated():
    image = picture(np.ones(24, int))
    back = placed(cropped(image, (32, 0, 0)), Placement(16, 4, 10))
    assert back.shape == image.shape and back.dtype == np.uint8
    expected = np.asarray(Image.fromarray(image).resize((16, 16), Image.Resampling.BICUBIC))
    np.testing.assert_array_equal(back[4:20, 10:26], expected)
    assert (back[:4, 10:26] == back[4, 10:26]).all() and (back[4:20, 26:] == back[4:20, 25:26]).all()


def test_words_and_sureness():
    assert in_words(Placement(48, 6, 3), 64) == 'taken for a part: 75% of the side, 9% from the top, 5% from the left'
    assert in_words(Placement(64, 0, 0, -12), 64) == 'turned back by -12°'
    assert sureness(np.array([-2.0, 4.0])) == 3
