"""Marks that carry the picture's own signs: the map, the carriers, the regression that the decoder starts from."""
import numpy as np
import pytest
import tensorflow as tf
from scipy.ndimage import map_coordinates
from sklearn.linear_model import Ridge

from helpers import networks, tiny_config
from metrics.base import Options, run_metric
from models import bound
from models.sampling import BatchPart
from models.signs import RIDGE, ridge, spread

RNG = np.random.default_rng(0)


@pytest.fixture(scope='module')
def nets():
    return networks(tiny_config(method='bound', sign_map=3))


@pytest.mark.parametrize('side, size', [(4, 32), (6, 16), (1, 8), (3, 3), (8, 4)])
def test_the_sign_map_is_spread_bilinearly(side, size):
    """As scipy interpolates at pixel centres, clamped at the border."""
    signs = RNG.standard_normal([2, side, side])
    centres = (np.arange(size) + 0.5) * side / size - 0.5
    grid = np.meshgrid(centres, centres, indexing='ij')
    expected = [map_coordinates(one, grid, order=1, mode='nearest') for one in signs]
    np.testing.assert_allclose(spread(tf.constant(signs, tf.float32), size)[..., 0], expected, atol=1e-6)


def test_signs_are_nearly_plus_and_minus_one(nets):
    signs = nets['G'].signs(tf.constant(RNG.standard_normal([500, 6]), tf.float32)).numpy()
    assert signs.shape == (500, 3, 3) and np.abs(signs).max() <= 1 and np.abs(signs.mean()) < 0.1
    assert np.mean(np.abs(signs)) > 0.6


def test_carriers_are_multiplied_by_the_latents_signs(nets):
    """Latents of opposite signs carry opposite marks, so that the mean over many latents carries none."""
    latents = tf.constant(RNG.standard_normal([400, 6]), tf.float32)
    marks, opposite = nets['G'].carriers(latents), nets['G'].carriers(-latents)
    assert marks[0] is None and [mark.shape[1] for mark in marks[1:]] == [8, 16]
    for mark, other in zip(marks[1:], opposite[1:]):
        np.testing.assert_allclose(mark, -other, atol=1e-6)
        assert np.std(np.mean(mark, 0)) < 0.2 * np.std(mark)


def test_the_projection_of_signs_is_never_trained(nets):
    names = [variable.name for variable in nets['G'].trainable_variables]
    assert 'G/signs:0' not in names and 'G/8x8/carrier:0' in names


def test_the_decoder_takes_the_signs_off(nets):
    """With the true signs taught, a picture's pixels and a sign-flipped map give the answers of the flipped pixels."""
    images = tf.constant(RNG.uniform(-1, 1, [4, 16, 16, 3]), tf.float32)
    signs = tf.constant(RNG.choice([-1.0, 1.0], [4, 3, 3]), tf.float32)
    taught = nets['F'](images, signs, 1.0)[1]
    np.testing.assert_allclose(taught, nets['F'](images, signs, 1.0)[1], atol=1e-6)
    assert np.abs(taught - nets['F'](images, -signs, 1.0)[1]).max() > 1e-3
    flipped = nets['F'](-images, -signs, 1.0)[1]  # (−p) · (−s) = p · s
    np.testing.assert_allclose(taught, flipped, atol=1e-5)


def test_teaching_moves_from_the_true_signs_to_those_read(nets):
    images = tf.constant(RNG.uniform(-1, 1, [2, 16, 16, 3]), tf.float32)
    signs = tf.ones([2, 3, 3])
    read = nets['F'](images)
    np.testing.assert_allclose(nets['F'](images, signs, 0.0)[1], read[1], atol=1e-5)
    own = tf.reshape(tf.tanh(read[2] / 2), [2, 3, 3])
    np.testing.assert_allclose(nets['F'](images, own, 1.0)[1], read[1], atol=1e-5)


def test_the_regression_is_ridge_and_its_answers_are_log_odds():
    inputs, truth = RNG.standard_normal([4000, 20]), RNG.standard_normal([20, 3])
    targets = np.sign(inputs @ truth + 2 * RNG.standard_normal([4000, 3]))
    weight, bias = ridge(inputs, targets)
    reference = Ridge(alpha=RIDGE).fit(inputs[:3200], targets[:3200])
    for column in range(3):
        ratio = weight[:, column] / reference.coef_[column]
        np.testing.assert_allclose(ratio, ratio[0], rtol=0.05)
    share = 1 / (1 + np.exp(-(inputs @ weight + bias)))  # calibrated: of answers near p, a share of p is 1
    for low in (0.1, 0.3, 0.5, 0.7):
        near = (share > low) & (share < low + 0.2)
        assert np.mean(targets[near] > 0) == pytest.approx(np.mean(share[near]), abs=0.08)


def accuracy(nets):
    return run_metric('bit_accuracy', bound.as_model(nets), None, Options(num_images=200))['value']


def test_the_warm_start_reads_an_untrained_generator():
    config = tiny_config(method='bound', sign_map=2, warm_start_images=1500, carrier=1.0, embedding_gain=0.3,
                         signed_codes=True, fmap_max=16, embedding_dim=16)
    nets = networks(config)
    before = accuracy(nets)
    bound.warm_start(config, nets)
    assert abs(before - 0.5) < 0.1 and accuracy(nets) > 0.75


def test_the_sign_loss_is_cross_entropy(nets):
    config = tiny_config(method='bound', sign_map=3, lambda_sign=2.0)
    batch = bound.sample_batch(config, nets, [0, 1], BatchPart(4, 0, 4))
    loss, terms = bound.generator_loss(config, nets, batch, 5.0, None, 1.0)
    signs = nets['G'].signs(batch.latents)
    logits = nets['F'](bound.synthesize(nets, batch), signs, 1.0)[2].numpy()
    p, share = 1 / (1 + np.exp(-logits)), (signs.numpy().reshape(4, 9) + 1) / 2
    expected = -np.mean(share * np.log(p) + (1 - share) * np.log(1 - p))
    assert float(terms['loss/sign']) == pytest.approx(expected, rel=1e-4)
    total = terms['loss/adversarial'] + config.lambda_latent * terms['loss/latent'] + 5 * terms['loss/fingerprint']
    assert float(loss) == pytest.approx(float(total + 2 * terms['loss/sign']), rel=1e-4)
