"""Every term against float64 NumPy written from its equation; gradients against finite differences."""
import numpy as np
import pytest
import tensorflow as tf

from helpers import tiny_config
from models import losses
from models.stylegan2 import Generator, LatentInput, ResidualNetwork

RNG = np.random.default_rng(0)


@pytest.fixture
def float64():
    tf.keras.backend.set_floatx('float64')
    tf.keras.utils.set_random_seed(1)
    yield
    tf.keras.backend.set_floatx('float32')


@pytest.fixture
def config():
    return tiny_config(fmap_base=16, fmap_max=4, latent_dim=5, embedding_dim=6)


def softplus(x):
    return np.log(1 + np.exp(x))


def test_adversarial():
    real, fake = RNG.normal(size=(2, 7, 1)) * 3
    np.testing.assert_allclose(losses.generator_adversarial(fake), softplus(-fake[:, 0]), rtol=1e-12)
    np.testing.assert_allclose(losses.discriminator_adversarial(real, fake),
                               softplus(fake[:, 0]) + softplus(-real[:, 0]), rtol=1e-12)


def test_latent_reconstruction():
    z, decoded = RNG.normal(size=(2, 5, 9))
    np.testing.assert_allclose(losses.latent_reconstruction(z, decoded), np.mean((z - decoded) ** 2, 1), rtol=1e-12)


def test_fingerprint_reconstruction():
    logits = RNG.normal(size=(6, 11)) * 4
    bits = RNG.integers(0, 2, logits.shape).astype(float)
    p = 1 / (1 + np.exp(-logits))
    expected = -np.mean(bits * np.log(p) + (1 - bits) * np.log(1 - p), 1)
    np.testing.assert_allclose(losses.fingerprint_reconstruction(bits, logits), expected, rtol=1e-10)


def test_consistency():
    a, b = RNG.normal(size=(2, 3, 4, 4, 3))
    np.testing.assert_allclose(losses.consistency(a, b), np.mean((a - b) ** 2, (1, 2, 3)), rtol=1e-12)


def finite_differences(function, x, step=1e-5):
    """The gradient of a scalar function at x by central differences."""
    gradient = np.zeros(x.size)
    for i in range(x.size):
        delta = np.zeros(x.size)
        delta[i] = step
        delta = delta.reshape(x.shape)
        gradient[i] = (function(x + delta) - function(x - delta)) / (2 * step)
    return gradient.reshape(x.shape)


def test_r1_against_finite_differences(float64, config):
    net = ResidualNetwork('D', config, 16, 1, False)
    images = RNG.normal(size=(2, 16, 16, 3))
    batched = tf.function(lambda x: net(x)[:, 0])
    step = 1e-5
    for i in range(2):
        deltas = np.eye(images[i].size).reshape(-1, 16, 16, 3) * step
        gradient = (batched(images[i] + deltas).numpy() - batched(images[i] - deltas).numpy()) / (2 * step)
        np.testing.assert_allclose(losses.r1_penalty(net, tf.constant(images))[i], np.sum(gradient ** 2), rtol=1e-6)


def test_gradient_of_r1_against_finite_differences(float64, config):
    net = ResidualNetwork('D', config, 16, 1, False)
    images = tf.constant(RNG.normal(size=(2, 16, 16, 3)))
    penalty = tf.function(lambda: tf.reduce_mean(losses.r1_penalty(net, images)))
    for weight in (net.from_rgb.weight, net.blocks[0].conv1.weight, net.dense.weight):
        with tf.GradientTape() as tape:
            value = tf.reduce_mean(losses.r1_penalty(net, images))
        gradient, start = tape.gradient(value, weight).numpy(), weight.numpy()
        direction = RNG.normal(size=start.shape)
        direction /= np.linalg.norm(direction)
        ends = []
        for sign in (1, -1):
            weight.assign(start + sign * 1e-5 * direction)
            ends.append(penalty().numpy())
        weight.assign(start)
        np.testing.assert_allclose(np.sum(gradient * direction), (ends[0] - ends[1]) / 2e-5, rtol=1e-5)


def test_path_lengths_against_finite_differences(float64, config):
    generator = Generator(config, 16, LatentInput)
    latents = tf.constant(RNG.normal(size=(2, 5)))
    noise = [tf.constant(RNG.normal(size=(2, *shape))) for shape in generator.noise_shapes]
    embeddings = RNG.normal(size=(2, generator.num_styles, 6))
    directions = RNG.normal(size=(2, 16, 16, 3)) / 16

    @tf.function
    def projection(w):
        return tf.reduce_sum(generator(latents, w, noise) * directions)

    gradient = finite_differences(lambda w: projection(tf.constant(w)).numpy(), embeddings)
    expected = np.sqrt(np.mean(np.sum(gradient ** 2, 2), 1))
    lengths = losses.path_lengths(lambda w: generator(latents, w, noise), tf.constant(embeddings), directions)
    np.testing.assert_allclose(lengths, expected, rtol=1e-5)
