"""Reading less the generator's own picture: bits of marks that nobody trained a decoder for, and none of moved ones."""
import numpy as np
import pytest
import tensorflow as tf

from dnnlib.images import to_float, to_uint8
from dnnlib.perturbations.files import perturb
from dnnlib.util import UserError
from helpers import save_run
from models import adopted
from models.signs import spread
from release.redrawing import inversion, reading
from release.redrawing.inversion import Inversion, Starts
from release.redrawing.left import clipped, least_squares
from release.redrawing.reading import Redrawer
from release.redrawing.styles import normalized
from training.snapshot import Snapshot

BITS = 16


@pytest.fixture(scope='module')
def snapshot(tmp_path_factory):
    """Untrained networks, whose templates are as they were drawn."""
    run = save_run(str(tmp_path_factory.mktemp('run')), 3, preset='adopted', method='adopted', read_side=16, sign_map=5,
                   mark_psnr=24.0, chroma_psnr=28.0, key_bits=3)
    snapshot = Snapshot(run)
    adopted.fit_signs(snapshot.config, snapshot.nets)
    return snapshot


@pytest.fixture(scope='module')
def redrawer(snapshot):
    return Redrawer(snapshot)


@pytest.fixture(scope='module')
def drawn(snapshot):
    """(latents [6, D], codes [6, bits], uint8 images) of six users."""
    rng = np.random.default_rng(1)
    latents = normalized(rng.standard_normal([6, snapshot.config.latent_dim]))
    codes = rng.integers(0, 2, [6, BITS]).astype(np.float32)
    return latents, codes, to_uint8(snapshot.model().generate(latents, codes))


def known(snapshot, latents):
    """What an Inversion of a picture is if all is found."""
    return Inversion(latents, np.zeros(4, np.float32), np.eye(4, 3), 1e-3)


@pytest.mark.parametrize('name, value, least', [('none', None, 1), ('noise', 0.05, 0.95)])
def test_bits_and_key_are_read_without_a_trained_decoder(snapshot, redrawer, drawn, rng, name, value, least):
    latents, codes, images = drawn
    images = images if name == 'none' else perturb(name, value, images, rng)
    found = [redrawer.read(image, known(snapshot, z)).redrawn for image, z in zip(to_float(images), latents)]
    assert np.mean([(one.logits > 0) == code for one, code in zip(found, codes)]) >= least
    assert min(one.coherence for one in found) > adopted.least_coherence(5)


def test_marks_that_an_instance_put_there_cohere_wholly(snapshot, redrawer, drawn):
    latents, codes, images = drawn
    found = [redrawer.read(image, known(snapshot, z)).redrawn for image, z in zip(to_float(images), latents)]
    assert min(one.coherence for one in found) > 0.98


def test_marks_of_another_picture_do_not_cohere(snapshot, redrawer, drawn):
    latents, codes, images = drawn
    plain = np.asarray(adopted.unmarked(snapshot.nets, adopted.styles(snapshot.nets, tf.constant(latents))))
    moved = to_uint8(plain + np.roll(to_float(images) - plain, 1, axis=0))
    found = [redrawer.read(image, known(snapshot, z)).redrawn for image, z in zip(to_float(moved), latents)]
    assert np.mean([one.coherence < adopted.least_coherence(5) for one in found]) > 0.6
    assert np.median([one.coherence for one in found]) < 0.5


class Known:
    """An Inverter that finds the latents `right` as a part, and those of another picture otherwise."""

    def __init__(self, inverter, right, wrong, nearer_part=True):
        for name in ('averages', 'weights', 'derivatives', 'draw'):
            setattr(self, name, getattr(inverter, name))
        self.followed, self.seen, self.shares, self._found = [], [], [], {True: right, False: wrong}
        self._kinds = ['part', 'whole', 'turn'] if nearer_part else ['whole', 'part', 'turn']

    def kinds(self, image):
        return self._kinds

    def starts(self, image, kind, given):
        return Starts(kind, None, None, None, np.zeros(1))

    def follow(self, image, starts):
        self.followed.append(starts.kind)
        self.seen.append(image)
        return iter([self._found[starts.kind == 'part']])

    def exactly(self, image, found, covariance):
        self.shares.append(float(np.trace(covariance)))
        return found


@pytest.fixture
def search(snapshot, drawn, monkeypatch):
    """(Redrawer, its Known) that reads the first image right as a part."""
    def make(**options):
        redrawer = Redrawer(snapshot)
        right, wrong = (known(snapshot, drawn[0][index]) for index in (0, 3))
        known_one = Known(redrawer._inverter, right, wrong._replace(error=1.0), **options)
        monkeypatch.setattr(redrawer, '_inverter', known_one)
        return redrawer, known_one
    return make


def test_the_first_that_surely_coheres_counts_else_that_which_leaves_least(search, redrawer, snapshot, drawn,
                                                                           monkeypatch):
    latents, codes, images = drawn
    image, (reader, inverter) = to_float(images[0]), search()
    right = redrawer.read(image, known(snapshot, latents[0]))
    monkeypatch.setattr(reading, 'LIKELY', 2.0)
    monkeypatch.setattr(reading, 'EVIDENT', -np.inf)
    monkeypatch.setattr(reading, 'SURE', right.beyond - 1e-3)
    assert np.array_equal(reader(image).logits, right.redrawn.logits) and inverter.followed == ['part']
    inverter.followed.clear()
    monkeypatch.setattr(reading, 'EVIDENT', np.inf)
    kept = reader(image, np.zeros(4, np.float32))
    assert np.array_equal(kept.logits, right.redrawn.logits)
    assert inverter.followed == ['given', 'part', 'whole', 'turn', 'given']  # and again where it leaves least


@pytest.mark.parametrize('evident, likely, followed', [
    (-np.inf, -5.0, ['whole']), (-np.inf, 5.0, ['whole', 'given', 'given']), (np.inf, -5.0, ['whole', 'part', 'turn']),
    (np.inf, 5.0, ['whole', 'part', 'turn', 'given'])])
def test_where_marks_are_evident_nothing_else_is_tried_but_other_latents_if_they_do_not_cohere(
        search, drawn, monkeypatch, evident, likely, followed):
    reader, inverter = search(nearer_part=False)
    for name, value in (('EVIDENT', evident), ('LIKELY', likely), ('SURE', 5.0)):
        monkeypatch.setattr(reading, name, value)
    reader(to_float(drawn[2][0]))
    assert inverter.followed == followed


def test_other_latents_are_sought_of_the_picture_less_its_marks(search, snapshot, drawn, monkeypatch):
    latents, _, images = drawn
    reader, inverter = search()
    for name, value in (('EVIDENT', -np.inf), ('LIKELY', 5.0), ('SURE', 5.0)):
        monkeypatch.setattr(reading, name, value)
    image = to_float(images[0])
    reader(image)
    plain = np.asarray(adopted.unmarked(snapshot.nets, adopted.styles(snapshot.nets, tf.constant(latents[:1]))))[0]
    first, *anew = (np.mean(inverter.averages(seen - np.clip(plain, -1, 1)) ** 2) for seen in inverter.seen)
    assert len(anew) == reading.ANEW and max(anew) < 0.2 * first


def test_marks_are_read_blindly_where_the_latent_is_wrong(snapshot, redrawer, drawn, rng):
    """Of a picture that is not yet the right one, signs are wrong; marks are found all the same."""
    latents, _, images = drawn
    plain = np.asarray(adopted.unmarked(snapshot.nets, adopted.styles(snapshot.nets, tf.constant(latents))))
    for image, z, bare in zip(to_float(images), latents, plain):
        near = normalized(z + 0.2 * rng.standard_normal(z.shape))
        read = redrawer.read(image, known(snapshot, near))
        added = redrawer._inverter.averages(image - np.clip(bare, -1, 1))
        assert np.mean((added - read.marks) ** 2) < 0.5 * np.mean(added ** 2)
        assert read.evident > 2


def test_marks_that_explain_nothing_are_none(snapshot, redrawer, drawn):
    latents, _, images = drawn
    right = redrawer.read(to_float(images[0]), known(snapshot, latents[0]))
    assert right.beyond == pytest.approx((right.redrawn.coherence - 0.75) / 0.25)
    assert right.redrawn.coheres and right.redrawn.explained > 10
    none = right._replace(redrawn=right.redrawn._replace(explained=reading.EXPLAINED - 0.1))
    assert none.beyond == -1 and not none.redrawn.coheres


def test_of_many_places_marks_are_sure_only_where_they_are_evident(snapshot, redrawer, drawn):
    latents, _, images = drawn
    right = redrawer.read(to_float(images[0]), known(snapshot, latents[0]))
    hidden = right._replace(evident=reading.EVIDENT - 1)
    weak = hidden._replace(redrawn=right.redrawn._replace(explained=reading.FIRMLY - 0.1))
    assert hidden.is_sure('whole') and not hidden.is_sure('part') and not weak.is_sure('whole')
    assert right._replace(evident=reading.EVIDENT).is_sure('part')


def test_marks_explain_of_noise_no_more_than_least_squares_does(snapshot, redrawer, drawn, rng):
    """That is 1 per bit, of what is left per pixel, and less for bits that count as surely as they are read."""
    plain = np.asarray(adopted.unmarked(snapshot.nets, adopted.styles(snapshot.nets, tf.constant(drawn[0]))))
    noisy = (plain + 0.2 * rng.standard_normal(plain.shape)).astype(np.float32)
    explained = [redrawer.read(image, known(snapshot, z)).redrawn.explained for image, z in zip(noisy, drawn[0])]
    assert -0.5 < min(explained) and max(explained) < reading.EXPLAINED


def test_marks_are_of_any_bits_and_signs_at_first_and_then_those_that_were_read(search, drawn, monkeypatch):
    for name in ('SURE', 'FIRMLY', 'DOUBTFUL'):
        monkeypatch.setattr(reading, name, -np.inf)
    reader, inverter = search(nearer_part=False)
    reader(to_float(drawn[2][0]))
    np.testing.assert_allclose(np.array(inverter.shares) / inverter.shares[0], [1, *[reading.MISREAD] * reading.AGAIN])
    monkeypatch.setattr(reading, 'DOUBTFUL', 2.0)
    monkeypatch.setattr(reading, 'EVIDENT', np.inf)
    inverter.shares.clear()
    reader(to_float(drawn[2][0]))
    assert len(inverter.shares) == 1


def test_the_covariance_is_that_of_marks_of_random_bits_and_signs(snapshot, redrawer, drawn, rng):
    found = known(snapshot, drawn[0][0])
    picture = redrawer._inverter.draw(tf.constant(drawn[0][:1]))
    unsigned = snapshot.method.unsigned(snapshot.nets, redrawer._marks, picture).numpy()
    side = snapshot.config.sign_map
    sample = []
    for _ in range(3000):
        signs, bits = rng.choice([-1, 1], [1, side, side]), rng.choice([-1, 1], BITS)
        marks = np.tensordot(bits, unsigned, 1) * spread(tf.constant(signs, tf.float32), unsigned.shape[1]).numpy()[0]
        sample.append(redrawer._inverter.averages(marks).ravel())
    sample, covariance = np.stack(sample), redrawer._covariance(found)
    np.testing.assert_allclose(np.mean(sample ** 2, 0), np.diag(covariance), rtol=0.3)
    directions = rng.standard_normal([sample.shape[1], 20])
    np.testing.assert_allclose(np.mean((sample @ directions) ** 2, 0),
                               np.einsum('pi,pq,qi->i', directions, covariance, directions), rtol=0.3)


def test_what_does_not_cohere_is_nobodys(search, drawn, monkeypatch):
    reader, _ = search()
    image = to_float(drawn[2][0])
    kept = reader(image)
    monkeypatch.setattr(reading, 'least_coherence', lambda side, share: 2.0)
    refused = reader(image)
    assert kept.coheres and not refused.coheres
    assert np.mean((refused.logits > 0) == (kept.logits > 0)) < 0.9
    np.testing.assert_allclose(np.abs(refused.logits), np.abs(kept.logits))


def test_of_a_part_more_has_to_cohere(snapshot, redrawer, drawn):
    latents, _, images = drawn
    part = known(snapshot, latents[0])._replace(placing=np.array([np.log(0.9), 0, 0, 0], np.float32))
    assert adopted.least_coherence(5) == pytest.approx(0.75)
    assert redrawer.read(to_float(images[0]), part).redrawn.least == pytest.approx(min(0.35 + 2 / (5 * 0.9), 0.8))


def test_marks_that_are_read_are_what_the_picture_has_more(snapshot, redrawer, drawn):
    latents, codes, images = drawn
    image, found = to_float(images[0]), known(snapshot, latents[0])
    plain = np.asarray(adopted.unmarked(snapshot.nets, adopted.styles(snapshot.nets, tf.constant(latents[:1]))))[0]
    read = redrawer.read(image, found)
    added = redrawer._inverter.averages(image - np.clip(plain, -1, 1))
    assert np.mean((added - read.marks) ** 2) < 0.1 * np.mean(added ** 2)
    assert read.left == pytest.approx(np.mean((added - read.marks) ** 2), rel=0.5)


def test_bits_that_spell_the_key_are_those_of_the_key_that_reads(redrawer):
    logits = np.linspace(-2, 3, BITS)
    spelled = redrawer._spelled(logits, 0b110)  # the lowest bit first
    np.testing.assert_array_equal(spelled[:3] > 0, [False, True, True])
    np.testing.assert_array_equal(np.abs(spelled), np.abs(logits))
    np.testing.assert_array_equal(spelled[3:], logits[3:])


def test_a_whole_reading_names_how_it_lay(redrawer, drawn):
    _, codes, images = drawn
    found = redrawer(to_float(images[0]))
    assert found.logits.shape == (BITS,) and found.in_words().startswith('drawn again ') and found.psnr > 10
    again = redrawer(to_float(images[0]))
    np.testing.assert_array_equal(found.logits, again.logits)


def test_the_moments_of_a_clipped_gaussian(rng):
    sample = rng.standard_normal(400_000)
    values = np.array([-1.3, -0.9, 0.0, 0.4, 1.0, 1.2])
    mean, slope, variance = clipped(values, 0.3)
    drawn = np.clip(values[:, np.newaxis] + 0.3 * sample, -1, 1)
    np.testing.assert_allclose(mean, drawn.mean(1), atol=2e-3)
    np.testing.assert_allclose(variance, np.maximum(drawn.var(1), inversion.LEAST_DEVIATION ** 2), atol=1e-3)
    more, _, _ = clipped(values + 1e-4, 0.3)
    np.testing.assert_allclose(slope, (more - mean) / 1e-4, atol=1e-3)


def test_least_squares_is_the_gaussian_posterior(rng):
    marks, target = rng.standard_normal([3, 40]), rng.standard_normal(40)
    bits, variances = least_squares(marks, target, 0.5)
    stacked = np.concatenate([marks.T / 0.5 ** 0.5, np.eye(3)])
    expected, *_ = np.linalg.lstsq(stacked, np.concatenate([target / 0.5 ** 0.5, np.zeros(3)]), rcond=None)
    np.testing.assert_allclose(bits, expected, atol=1e-10)
    np.testing.assert_allclose(variances, np.diag(np.linalg.inv(stacked.T @ stacked)), atol=1e-10)


def test_another_method_is_refused(tmp_path):
    snapshot = Snapshot(save_run(str(tmp_path / 'run')))
    with pytest.raises(UserError, match='method fingerprinted are not read by drawing them again'):
        Redrawer(snapshot)


@pytest.mark.parametrize('level', [-1, 0, 1])
def test_pictures_of_one_colour_are_told_like_any_other(redrawer, level):
    """Of white or black ones, which are cut off everywhere, an inversion may leave nothing at all."""
    found = redrawer.read(np.full([16, 16, 3], level, np.float32),
                          Inversion(normalized(np.ones(6)), np.zeros(4, np.float32), np.eye(4, 3), 0.0))
    assert np.isfinite(found.left) and np.isfinite(found.marks).all()
    found = found.redrawn
    assert np.isfinite(found.logits).all() and found.in_words() == 'drawn again as a whole, 54.2 dB'
