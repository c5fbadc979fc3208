"""Marks for a finished generator: their strength, what they are made of, what is trained, and what a user gets."""
import numpy as np
import pytest
import tensorflow as tf

from helpers import networks, tiny_config
from models import adopted
from models.immunization import perturbed
from models.sampling import BatchPart

RNG = np.random.default_rng(0)
# Arrays, not tensors: these are made while tests are collected, before devices are set up.
LATENTS = RNG.standard_normal([200, 6]).astype(np.float32)
CODES = RNG.integers(0, 2, [200, 8]).astype(np.float32)


@pytest.fixture(scope='module')
def config():
    return tiny_config('adopted', method='adopted', sign_map=3, mark_psnr=30.0, pilot_psnr=26.0)


@pytest.fixture(scope='module')
def nets(config):
    return networks(config)


def psnr(difference):
    return 10 * np.log10(4 / np.mean(np.square(difference)))  # the range is 2


def test_marks_and_pilot_are_as_strong_as_asked_for(nets):
    marks = nets['C'].marks(tf.constant(CODES)).numpy().astype(float)
    opposite = nets['C'].marks(tf.constant(1 - CODES)).numpy().astype(float)
    pilot = (marks + opposite) / 2                      # templates enter with the opposite signs
    np.testing.assert_allclose(pilot, np.repeat(pilot[:1], 200, 0), atol=1e-6)
    assert psnr(pilot) == pytest.approx(26, abs=1e-3)
    assert psnr(marks - pilot) == pytest.approx(30, abs=0.3)  # a mean over 200 random codes


def test_marks_are_the_sum_of_a_users_templates(nets):
    """Each bit adds the same, whatever the others are."""
    first, second = RNG.integers(0, 2, [2, 1, 8]).astype(np.float32)
    for bit in range(8):
        changes = []
        for code in (first, second):
            one, zero = code.copy(), code.copy()
            one[0, bit], zero[0, bit] = 1, 0
            changes.append(nets['C'].marks(tf.constant(one)) - nets['C'].marks(tf.constant(zero)))
        np.testing.assert_allclose(*changes, atol=1e-6)
        assert np.std(changes[0]) > 1e-3


def test_opposite_latents_carry_opposite_marks(nets):
    codes, latents = tf.constant(CODES), tf.constant(LATENTS)
    np.testing.assert_allclose(nets['C'](codes, latents), -nets['C'](codes, -latents), atol=1e-6)


def test_a_step_trains_carriers_and_decoder_alone(config, nets):
    phase, = adopted.phases(config)
    batch = phase.sample(nets, [0, 1], BatchPart(4, 0, 4))
    with tf.GradientTape() as tape:
        loss, statistics = phase.loss(nets, batch, 1.0, None, None)
    assert phase.trains == ('C', 'F') and np.isfinite(loss) and statistics['loss/sign'] > 0
    generator = nets['G'].trainable_variables + nets['M'].trainable_variables
    names = [variable.name for variable in nets['C'].trainable_variables]
    gradients = tape.gradient(loss, nets['C'].trainable_variables + generator)
    assert 'C/signs:0' not in names
    assert all(np.any(gradient) for gradient in gradients[:len(names)])
    assert gradients[len(names):] == [None] * len(generator)


def test_a_user_gets_their_own_marks_and_no_template(nets):
    first, second = (adopted.bake(nets, code) for code in CODES[:2])
    expected = adopted.generate(nets, tf.constant(LATENTS[:3]), tf.repeat(CODES[:1], 3, 0))
    np.testing.assert_allclose(first(tf.constant(LATENTS[:3])), expected, atol=1e-5)
    assert np.abs(first(tf.constant(LATENTS[:3])) - second(tf.constant(LATENTS[:3]))).max() > 1e-3
    shapes = {tuple(variable.shape) for net in (first,) for variable in net.variables}
    assert not shapes & {tuple(template.shape) for template in nets['C'].templates}
    again = adopted.bake(nets, CODES[0], into=second)
    np.testing.assert_array_equal(again(tf.constant(LATENTS[:3])), first(tf.constant(LATENTS[:3])))


def test_the_warm_start_reads_marks_that_nobody_has_trained():
    config = tiny_config('adopted', method='adopted', sign_map=2, mark_psnr=12.0, pilot_psnr=12.0,
                         warm_start_images=4000)
    nets = networks(config)
    adopted.warm_start(config, nets)
    logits = adopted.decode(nets, adopted.generate(nets, tf.constant(LATENTS), tf.constant(CODES)))
    assert np.mean((logits.numpy() > 0) == CODES) > 0.9


class TestImmunization:
    @pytest.fixture
    def batch(self, config, nets):
        return adopted.sample_batch(config, nets, tf.constant([3, 4]), BatchPart(4, 0, 4))

    def test_nothing_named_changes_nothing(self, config, batch):
        images = tf.random.stateless_uniform([4, 16, 16, 3], [0, 1], -2, 2)
        assert perturbed(config, images, batch, 1.0) is images

    def test_every_image_gets_its_own_and_pairs_differ(self, batch):
        config = tiny_config('adopted', method='adopted', immunize='noise')
        images = tf.zeros([8, 16, 16, 3])                # two for each of four latents
        spreads = np.std(perturbed(config, images, batch, 1.0), axis=(1, 2, 3))
        assert len(set(spreads[spreads > 0])) == np.sum(spreads > 0) > 1
        assert perturbed(config, images, batch, None) is images

    def test_a_share_of_a_batch_is_perturbed_as_in_the_whole(self, config, nets):
        config = tiny_config('adopted', method='adopted', immunize='noise,blur')
        images = tf.random.stateless_uniform([8, 16, 16, 3], [0, 1], -1, 1)
        whole, part = (adopted.sample_batch(config, nets, tf.constant([3, 4]), part)
                       for part in (BatchPart(8, 0, 8), BatchPart(8, 4, 4)))
        np.testing.assert_allclose(perturbed(config, images[4:], part, 1.0),
                                   perturbed(config, images, whole, 1.0)[4:], atol=1e-6)


def test_guessed_latents_have_the_signs_that_are_read_and_the_noise_otherwise(config, nets):
    """Of the noise, only what the signs determine is replaced: the change lies in the columns of R."""
    image = RNG.uniform(-1, 1, [1, 16, 16, 3]).astype(np.float32)
    noise = RNG.standard_normal([5, 20]).astype(np.float32)
    wide = networks(tiny_config('adopted', method='adopted', sign_map=3, latent_dim=20))
    guessed = adopted.guess_latents(wide, tf.constant(image), tf.constant(noise)).numpy()
    read = np.clip(np.tanh(wide['F'](image)[1].numpy() / 2), -0.95, 0.95)
    signs = wide['C'].signs(tf.constant(guessed)).numpy().reshape(5, 9)
    np.testing.assert_allclose(signs, np.repeat(read, 5, 0), atol=1e-4)
    projection = wide['C'].projection.numpy()
    change = (guessed - noise).T
    within = projection @ np.linalg.lstsq(projection, change, rcond=None)[0]
    np.testing.assert_allclose(change, within, atol=1e-4)
