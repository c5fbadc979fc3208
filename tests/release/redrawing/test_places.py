"""How likely places are, compared with SciPy's Gaussians, and whether the right one is the likeliest."""
import numpy as np
import pytest
from scipy.ndimage import gaussian_filter
from scipy.stats import multivariate_normal

from release.redrawing import places
from release.redrawing.places import SEEN, Places, principal
from release.redrawing.placing import pooled, views

SIZE, FIELDS = 32, 12
PLACEMENTS = np.array([[np.log(0.6), down, right, 0] for down in (-0.2, 0, 0.2) for right in (-0.2, 0, 0.2)]
                      + [[0, 0, 0, 0], [0, 0, 0, 0.5], [0, 0, 0, -0.5], [np.log(0.6), 0.02, 0, 0]], np.float32)


@pytest.fixture(scope='module')
def pictures():
    """Luma of pictures [400, S, S] that are sums of smooth fields about one that is common to all."""
    rng = np.random.default_rng(3)
    fields = gaussian_filter(rng.standard_normal([FIELDS + 1, SIZE, SIZE]), (0, 3, 3))
    fields *= 0.1 / fields.std()
    return (fields[-1] * 2 + np.tensordot(rng.standard_normal([400, FIELDS]), fields[:-1], 1)).astype(np.float32)


@pytest.fixture(scope='module')
def found(pictures):
    return Places(principal(pictures), PLACEMENTS)


@pytest.mark.parametrize('index', [4, 9, 10])
def test_likelihoods_are_those_of_gaussians(pictures, found, index, rng):
    image = rng.uniform(-1, 1, [SIZE, SIZE]).astype(np.float32)
    seen, inside = views(pictures, PLACEMENTS[index], SEEN)
    seen, target = seen[:, inside].astype(np.float64), pooled(image[np.newaxis], SEEN).reshape(-1)[inside]
    likely = [multivariate_normal(seen.mean(0), np.cov(seen.T, bias=True) + noise * np.eye(len(target))).logpdf(target)
              for noise in places.NOISES]
    expected = max(likely) - np.log(2) * np.sum(~inside)
    assert inside.all() == (index != 10)
    assert found.likely(image)[index] == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize('index', range(12))
def test_the_place_that_a_picture_has_is_the_likeliest(pictures, found, index, rng):
    firsts = []
    for picture in pictures[:5]:
        seen, inside = views(picture[np.newaxis], PLACEMENTS[index], SIZE)
        image = np.where(inside, seen[0], -1).reshape(SIZE, SIZE) + 0.05 * rng.standard_normal([SIZE, SIZE])
        firsts.append(found.likely(image.astype(np.float32))[:12].argmax())
    assert firsts == [index] * 5


def test_the_likeliest_are_distinct_and_no_more_than_there_are(found, pictures):
    image = views(pictures[:1], PLACEMENTS[4], SIZE)[0].reshape(SIZE, SIZE)
    few, all_of_them = found.likeliest(image, 3), found.likeliest(image, 50)
    np.testing.assert_array_equal(few, all_of_them[:3])
    np.testing.assert_allclose(few[0], PLACEMENTS[4], atol=0.021)
    assert len(all_of_them) == len(PLACEMENTS) - 1  # one lies by another
