"""Inversion: the latents of a small generator's pictures are found, whatever became of these."""
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from scipy.ndimage import gaussian_filter

from dnnlib.images import to_float
from dnnlib.perturbations.files import perturb
from release.redrawing import colours, inversion
from release.redrawing.colours import brightened, colour_map, residual
from release.redrawing.inversion import Inverter, in_turn
from release.redrawing.styles import Styles, normalized

SIZE, DIM = 32, 5
FIELDS = np.random.default_rng(0).standard_normal([DIM, SIZE, SIZE, 3])
FIELDS = gaussian_filter(FIELDS, (0, 3, 3, 0)).reshape(DIM, -1)
FIELDS = (FIELDS / FIELDS.std()).astype(np.float32)  # no tensor: devices are set up after tests are collected


def mapping(latents):
    """Styles [N, 2 DIM] that are bent, and more than latents."""
    return tf.concat([latents + 0.1 * tf.sin(3 * latents), 0.2 * tf.square(latents)], axis=1)


def drawn_by(styles):
    """Pictures [N, H, W, 3] that are not linear in the styles [N, 2 DIM]."""
    return tf.reshape(tf.tanh(0.7 * tf.matmul(styles[:, :DIM] + styles[:, DIM:], FIELDS)), [-1, SIZE, SIZE, 3])


def draw(latents):
    return drawn_by(mapping(latents))


@pytest.fixture(scope='module')
def inverter():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(inversion, 'GUESSES', 300)  # of few dimensions
        yield Inverter(mapping, drawn_by, DIM, SIZE, 16)


@pytest.fixture(scope='module')
def latents():
    return normalized(np.random.default_rng(5).standard_normal([3, DIM]))


def found_first(inverter, image, kind):
    return next(inverter.follow(image, inverter.starts(image, kind)))


def pictures(latents):
    return np.uint8(np.round((draw(tf.constant(latents)).numpy() + 1) * 127.5))


def errors(found, latents):
    """The mean squared error of what the found latents draw to what these do."""
    drawn = draw(tf.constant(np.stack([one.latents for one in found]))) - draw(tf.constant(latents))
    return np.mean(np.square(drawn), axis=(1, 2, 3))


@pytest.mark.parametrize('name, value, most', [('none', None, 1e-6), ('noise', 0.4, 6e-3), ('jpeg', 50, 1e-3),
                                               ('brightness', 1.5, 2e-2), ('greyscale', 1, 1e-3)])
def test_latents_are_found_whatever_became_of_the_picture(inverter, latents, rng, name, value, most):
    images = pictures(latents)
    images = images if name == 'none' else perturb(name, value, images, rng)
    found = [found_first(inverter, image, 'whole') for image in to_float(images)]
    assert errors(found, latents).max() < most
    assert all(np.isfinite(one.error) and np.isclose(np.mean(one.latents ** 2), 1, atol=1e-5) for one in found)


def test_the_place_of_a_part_and_the_angle_of_a_turn_are_found(inverter, latents):
    side, top, left = 22, 3, 8
    for picture, z in zip(pictures(latents), latents):
        cut = Image.fromarray(picture).crop((left, top, left + side, top + side))
        part = to_float(np.asarray(cut.resize((SIZE, SIZE), Image.Resampling.BILINEAR)))
        found = found_first(inverter, part, 'part')
        middle = (np.array([top, left]) + side / 2) / SIZE - 0.5
        np.testing.assert_allclose(found.placing, [np.log(side / SIZE), *middle, 0], atol=0.04)
        turned = Image.fromarray(picture).rotate(20, Image.Resampling.BILINEAR)
        found = found_first(inverter, to_float(np.asarray(turned)), 'turn')
        np.testing.assert_allclose(np.degrees(found.placing[3]), 20, atol=1.5)
        assert errors([found], z[np.newaxis])[0] < 3e-3


@pytest.mark.parametrize('unlikely, least', [(80.0, 1), (1e6, 3), (1e-6, 1)])
def test_a_whole_a_part_and_a_turn_are_told_apart(inverter, latents, monkeypatch, unlikely, least):
    monkeypatch.setattr(inversion, 'UNLIKELY', unlikely)
    for picture in pictures(latents):
        whole = Image.fromarray(picture)
        part = whole.crop((8, 3, 30, 25)).resize((SIZE, SIZE), Image.Resampling.BILINEAR)
        turned = whole.rotate(20, Image.Resampling.BILINEAR)
        kinds = [inverter.kinds(to_float(np.asarray(image))) for image in (whole, part, turned)]
        assert [first for first, *_ in kinds] == ['whole', 'part', 'turn']
        assert all(len(set(one)) == len(one) >= least for one in kinds) and (unlikely > 1 or len(kinds[0]) == 1)


def test_starts_are_the_nearest_first_and_know_the_place_of_a_part(inverter, latents):
    side, top, left = 22, 3, 8
    cut = Image.fromarray(pictures(latents)[0]).crop((left, top, left + side, top + side))
    part = to_float(np.asarray(cut.resize((SIZE, SIZE), Image.Resampling.BILINEAR)))
    starts = inverter.starts(part, 'part')
    assert len(starts.numbers) == len(starts.placings) == len(starts.errors) == inversion.TRIED['part']
    assert starts.errors[0] == starts.errors.min()
    middle = (np.array([top, left]) + side / 2) / SIZE - 0.5
    np.testing.assert_allclose(starts.placings[0, :3], [np.log(side / SIZE), *middle], atol=0.06)
    whole = inverter.starts(part, 'whole')
    assert whole.errors[0] > 2 * starts.errors[0]


def test_the_best_of_each_place_come_before_the_second_of_any():
    places, errors = np.array([7, 7, 2, 7, 2, 5]), np.array([0.1, 0.2, 0.4, 0.3, 0.5, 0.6])
    assert in_turn(places, errors).tolist() == [0, 2, 5, 1, 4, 3]
    assert in_turn(places, errors, 2).tolist() == [0, 1, 2, 4, 5, 3]


def test_what_is_known_to_be_marks_is_left_out_of_the_fit(inverter, latents, rng):
    """Marks of 20 dB that derivatives by latents explain in part."""
    _, by = inverter.derivatives(latents[0], np.zeros(4, np.float32))
    marks = np.tensordot(rng.standard_normal(DIM), by[:DIM], 1)
    marks = (0.1 * marks / np.sqrt(np.mean(marks ** 2))).astype(np.float32)
    marked = draw(tf.constant(latents[:1])).numpy()[0] + marks.repeat(SIZE // 16, 0).repeat(SIZE // 16, 1)
    image = np.clip(marked, -1, 1)
    found = found_first(inverter, image, 'whole')
    nothing = np.zeros([marks.size, marks.size])
    without = image - marks.repeat(SIZE // 16, 0).repeat(SIZE // 16, 1)
    again = inverter.exactly(without, found, nothing)
    assert errors([again], latents[:1])[0] < 0.3 * errors([found], latents[:1])[0]


def test_what_may_have_been_added_is_told_from_the_picture_by_its_covariance(inverter, latents, rng):
    """Patterns of 12 dB, each with a factor that nobody knows: generalized least squares looks where they are not."""
    patterns = gaussian_filter(rng.standard_normal([40, 16, 16, 3]), (0, 2, 2, 0))
    patterns *= 0.5 / np.sqrt(40) / patterns.std()
    gains = []
    for z in latents:
        added = np.tensordot(rng.standard_normal(40), patterns, 1).repeat(SIZE // 16, 0).repeat(SIZE // 16, 1)
        image = (draw(tf.constant(z[np.newaxis])).numpy()[0] + added).astype(np.float32)
        found = found_first(inverter, image, 'whole')
        rows = patterns.reshape(40, -1)
        exact = inverter.exactly(image, found, rows.T @ rows)
        gains.append(errors([exact], z[np.newaxis])[0] / errors([found], z[np.newaxis])[0])
    assert np.exp(np.mean(np.log(gains))) < 0.3


def test_derivatives_are_those_of_the_pictures(inverter, latents):
    seen, by = inverter.derivatives(latents[0], np.zeros(4, np.float32))
    np.testing.assert_allclose(seen, inverter.averages(draw(tf.constant(latents[:1])).numpy()[0]), atol=1e-6)

    def averages(direction):  # of latents that stay of mean square 1
        moved = tf.constant(normalized(latents[0] + direction)[np.newaxis])
        return inverter.averages(draw(moved).numpy()[0])
    for index in range(DIM):
        step = 1e-3 * np.eye(DIM)[index]
        np.testing.assert_allclose(by[index], (averages(step) - averages(-step)) / 2e-3, atol=0.07)
    assert by.shape == (DIM + 4, 16, 16, 3) and np.abs(by[DIM:]).max() > 0.1


def test_colours_are_those_of_least_squares(rng, monkeypatch):
    monkeypatch.setattr(colours, 'COLOUR_PRIOR', 1e-3)
    seen = rng.uniform(-0.5, 0.5, [8, 8, 3]).astype(np.float32)
    wanted = np.array([[0.9, 0.1, 0], [0, 0.8, 0.1], [0.1, 0, 1.1], [0.1, -0.1, 0.05]])
    target = seen @ wanted[:3] + wanted[3]
    inside = np.ones([8, 8, 1], np.float32)
    inside[:2], target[:2] = 0, 0.7                              # what lies outside does not count
    np.testing.assert_allclose(colour_map(seen, target, inside), wanted, atol=1e-3)
    left, passed, _ = residual(seen, target, inside)
    assert np.abs(left).max() < 1e-3 and not passed[:2].any() and passed[2:].all()


def test_brightness_and_contrast_are_those_of_least_squares(rng, monkeypatch):
    monkeypatch.setattr(colours, 'COLOUR_PRIOR', 1e-3)
    seen = rng.uniform(-0.5, 0.5, [2, 8, 8, 3]).astype(np.float32)
    targets = seen * np.float32(1.4) + np.array([0.2, -0.1], np.float32)[:, np.newaxis, np.newaxis, np.newaxis]
    inside = np.ones([2, 8, 8, 1], np.float32)
    inside[:, :2], targets[:, :2] = 0, 0.7
    found = brightened(tf.constant(seen), tf.constant(targets), tf.constant(inside)).numpy()
    np.testing.assert_allclose(found[:, 2:], np.clip(targets[:, 2:], -1, 1), atol=2e-3)


def test_what_is_cut_off_is_no_residual(rng):
    seen = rng.uniform(0.5, 2, [8, 8, 3]).astype(np.float32)
    left, passed, _ = residual(seen, np.clip(seen, -1, 1), np.ones([8, 8, 1], np.float32))
    assert np.abs(left).max() < 0.05 and (passed == 0).any()


class TestStyles:
    def test_numbers_are_of_variance_1_and_draw_the_principal_part(self, rng):
        styles = Styles(mapping, DIM, rng)
        latents = normalized(rng.standard_normal([5000, DIM]))
        numbers = styles.numbers(latents)
        np.testing.assert_allclose(np.cov(numbers.T), np.eye(DIM), atol=0.1)
        np.testing.assert_allclose(numbers.mean(0), 0, atol=0.05)
        whole, part = mapping(tf.constant(latents)).numpy(), styles.of(tf.constant(numbers)).numpy()
        left = whole.std(0)[DIM:] ** 2                                # what the least components hold
        np.testing.assert_allclose(np.mean(np.sum((whole - part) ** 2, axis=1)), np.sum(left), rtol=0.15)

    def test_of_fewer_styles_than_latents_all_count(self, rng):
        styles = Styles(lambda latents: latents[:, :2] * [1.0, 3.0], DIM, rng)
        latents = normalized(rng.standard_normal([9, DIM]))
        assert styles.dim == 2
        np.testing.assert_allclose(styles.of(tf.constant(styles.numbers(latents))), latents[:, :2] * [1, 3], atol=1e-4)
        found = styles.latents(styles.numbers(latents[:1])[0], latents[1:])
        np.testing.assert_allclose(found[:2], latents[0, :2], atol=1e-2)

    def test_latents_of_styles_are_those_that_give_them(self, rng):
        styles = Styles(mapping, DIM, rng)
        latents = normalized(rng.standard_normal([4, DIM]))
        among = normalized(rng.standard_normal([300, DIM]))
        for wanted, numbers in zip(latents, styles.numbers(latents)):
            np.testing.assert_allclose(styles.latents(numbers, among), wanted, atol=1e-3)
