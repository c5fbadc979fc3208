import math

import numpy as np
import pytest
import tensorflow as tf

from training.config import Config, feature_maps, make_config
from training.layers import SynthesisConv2D, minibatch_stddev, upsample_conv2d
from training.networks import Decoder, Discriminator, Encoder, Generator
from training.state import make_networks

SMALL = dict(fmap_base=64, fmap_max=16, latent_dim=12, embedding_dim=10, fingerprint_bits=8, ops='ref')


def count(net):
    return sum(math.prod(v.shape) for v in net.trainable_variables)


def dense(units_in, units_out):
    return units_in * units_out + units_out


def generator_parameters(resolution, latent=512, w=512):
    """Worked out from the papers: dense input, then per resolution (up-)convs and a modulated ToRGB."""
    def modulated(fan_in, filters, kernel, noise):
        return kernel * kernel * fan_in * filters + filters + dense(w, fan_in) + noise

    def nf(stage):
        return min(8192 // 2 ** stage, 512)

    total = latent * 16 * nf(1) + nf(1) + modulated(nf(1), nf(1), 3, 1) + modulated(nf(1), 3, 1, 0)
    for r in range(3, int(math.log2(resolution)) + 1):
        total += modulated(nf(r - 2), nf(r - 1), 3, 1) + modulated(nf(r - 1), nf(r - 1), 3, 1)
        total += modulated(nf(r - 1), 3, 1, 0)
    return total


def tower_parameters(resolution, outputs, statistics):
    def nf(stage):
        return min(8192 // 2 ** stage, 512)

    top = int(math.log2(resolution))
    total = 3 * nf(top - 1) + nf(top - 1)
    for r in range(top, 2, -1):
        a, b = nf(r - 1), nf(r - 2)
        total += 9 * a * a + a + 9 * a * b + b + a * b
    return total + 9 * (nf(1) + statistics) * nf(1) + nf(1) + dense(16 * nf(1), nf(1)) + dense(nf(1), outputs)


def test_parameter_counts_of_config_e_at_128():
    nets = make_networks(Config(ops='ref'), 128)
    assert count(nets['E']) == dense(128, 512) + 7 * dense(512, 512)
    assert count(nets['G']) == generator_parameters(128)
    assert count(nets['D']) == tower_parameters(128, 1, 1)
    assert count(nets['F']) == tower_parameters(128, 512 + 128, 0)


@pytest.mark.parametrize('resolution', [16, 32, 256])
@pytest.mark.parametrize('bits', [8, 128])
def test_shapes(resolution, bits):
    config = make_config('quickstart', {**SMALL, 'fmap_base': 32, 'fingerprint_bits': bits})
    nets = make_networks(config, resolution)
    latents = tf.random.normal([2, 12])
    images = nets['G'](latents, nets['E'](tf.ones([2, bits])))
    assert images.shape == (2, resolution, resolution, 3)
    assert nets['D'](images).shape == (2, 1)
    decoded, logits = nets['F'](images)
    assert decoded.shape == (2, 12) and logits.shape == (2, bits)


def test_largest_network_builds():
    config = make_config('quickstart', {**SMALL, 'fmap_base': 32, 'fmap_max': 2})
    assert Generator(config, 1024)(tf.zeros([1, 12]), tf.zeros([1, 10])).shape == (1, 1024, 1024, 3)
    assert Discriminator(config, 1024)(tf.zeros([1, 1024, 1024, 3])).shape == (1, 1)


def test_initial_activations_are_of_unit_scale():
    """Equalized weights and the √2 of the leaky ReLU keep activations' mean square near 1; the FIR lowers it."""
    config = make_config('quickstart', dict(ops='ref'))
    tf.keras.utils.set_random_seed(0)
    embeddings = Encoder(config, 32)(tf.random.normal([256, 32]))
    assert 0.7 < np.sqrt(np.mean(embeddings ** 2)) < 1.4
    generator = Generator(config, 32)
    x = generator.input_layer(tf.random.normal([64, 64]))
    for conv in generator.convs:
        size = x.shape[1] * (2 if conv.up else 1)
        x = conv(x, embeddings[:64], tf.zeros([1, size, size, 1]))
        assert 0.3 < np.sqrt(np.mean(x ** 2)) < 1.6, conv.name


@pytest.mark.parametrize('up', [False, True])
@pytest.mark.parametrize('kernel, demodulate', [(3, True), (1, False)])
def test_modulation_by_activations_equals_modulation_by_filters(up, kernel, demodulate):
    if up and kernel == 1:
        pytest.skip('only 3x3 convolutions up-sample')
    tf.keras.utils.set_random_seed(0)
    layer = SynthesisConv2D('conv', 6, 5, kernel, 7, up=up, demodulate=demodulate, noise=False, act='linear',
                            impl='ref')
    layer.affine.bias.assign(tf.random.normal([6]))
    x, w = tf.random.normal([4, 8, 8, 6]), tf.random.normal([4, 7])
    for i in range(4):
        filters = layer.baked_weight(w[i])
        expected = upsample_conv2d(x[i:i + 1], filters, 'ref') if up else tf.nn.conv2d(x[i:i + 1], filters, 1, 'SAME')
        np.testing.assert_allclose(layer(x, w)[i:i + 1], expected, atol=2e-5)
    if demodulate:  # unit norm, the point of demodulation
        np.testing.assert_allclose(np.sum(layer.baked_weight(w[0]).numpy() ** 2, (0, 1, 2)), 1, rtol=1e-5)


def test_upsample_conv_against_zero_insertion():
    scipy_signal = pytest.importorskip('scipy.signal')
    rng = np.random.default_rng(0)
    x, weight = rng.normal(size=(1, 4, 4, 2)), rng.normal(size=(3, 3, 2, 1))
    fir = np.outer([1, 3, 3, 1], [1, 3, 3, 1]) / 64 * 4
    expected = 0
    for c in range(2):
        zeros = np.zeros((8, 8))
        zeros[::2, ::2] = x[0, :, :, c]
        expected = expected + scipy_signal.convolve(scipy_signal.convolve(zeros, weight[:, :, c, 0]), fir)
    actual = upsample_conv2d(tf.constant(x), tf.constant(weight), 'ref')[0, :, :, 0]
    np.testing.assert_allclose(actual, expected[2:-3, 2:-3], atol=1e-10)


def test_minibatch_stddev_against_numpy():
    x = np.random.default_rng(0).normal(size=(8, 4, 4, 3))
    y = minibatch_stddev(tf.constant(x)).numpy()
    np.testing.assert_array_equal(y[..., :3], x)
    for group in (slice(0, 4), slice(4, 8)):
        np.testing.assert_allclose(y[group, ..., 3], np.mean(np.std(x[group], axis=0)), rtol=1e-6)


def test_minibatch_statistics_do_not_cross_groups():
    x = tf.random.normal([8, 4, 4, 3])
    np.testing.assert_allclose(minibatch_stddev(x)[:4], minibatch_stddev(x[:4]), atol=1e-6)


def test_modulated_range():
    config = make_config('quickstart', {**SMALL, 'res_modulated_range': '8-16'})
    generator = Generator(config, 32)
    assert generator.num_modulated == 2 * 3  # of 4x4: conv, rgb; 8 to 32: up-conv, conv, rgb each
    latents = tf.random.normal([1, 12])
    full = Generator(make_config('quickstart', SMALL), 32)
    assert full.num_modulated == 2 + 3 * 3
    assert count(generator) < count(full)
    a, b = (generator(latents, generator.broadcast(w)) for w in tf.random.normal([2, 1, 10]))
    assert np.abs(a - b).max() > 1e-3


def test_decoder_sees_what_a_file_can_hold():
    decoder = Decoder(make_config('quickstart', SMALL), 16)
    images = 2 * tf.random.stateless_normal([2, 16, 16, 3], [0, 1])
    with tf.GradientTape() as tape:
        tape.watch(images)
        logits = decoder(images)[1]
    np.testing.assert_array_equal(logits, decoder(tf.clip_by_value(images, -1, 1))[1])
    gradient, outside = tape.gradient(logits, images).numpy(), np.abs(images.numpy()) > 1
    assert not gradient[outside].any() and gradient[~outside].any()


def test_plain_generator_depends_on_latents_through_modulation_only():
    config = make_config('stylegan2', SMALL)
    nets = make_networks(config, 16)
    assert set(nets) == {'E', 'G', 'D'}
    z = tf.random.normal([2, 12])
    w = nets['E'](z)
    np.testing.assert_array_equal(nets['G'](z, w), nets['G'](tf.zeros_like(z), w))
    assert np.abs(nets['G'](z, w)[0] - nets['G'](z, w)[1]).max() > 1e-3


@pytest.mark.parametrize('name', ['E', 'G', 'D', 'F'])
def test_network_contract(name, tmp_path):
    """Checkpoint, tf.function, gradient and determinism of every network."""
    config = make_config('quickstart', SMALL)
    inputs = {'E': [tf.ones([2, 8])], 'G': [tf.random.normal([2, 12]), tf.random.normal([2, 10])],
              'D': [tf.random.normal([2, 16, 16, 3])], 'F': [tf.random.normal([2, 16, 16, 3])]}[name]

    def make(seed):
        tf.keras.utils.set_random_seed(seed)
        return make_networks(config, 16)[name]

    def flat(net):
        return np.concatenate([np.ravel(part) for part in tf.nest.flatten(net(*inputs))])

    first, other = make(0), make(1)
    np.testing.assert_array_equal(flat(first), flat(make(0)))
    assert np.abs(flat(first) - flat(other)).max() > 1e-3
    path = tf.train.Checkpoint(net=first).write(str(tmp_path / 'net'))
    tf.train.Checkpoint(net=other).read(path).assert_consumed()
    np.testing.assert_array_equal(flat(first), flat(other))
    names = [v.name for v in first.variables]
    assert len(set(names)) == len(names)
    graph = tf.function(lambda *args: first(*args))
    np.testing.assert_allclose(tf.nest.flatten(graph(*inputs))[0], tf.nest.flatten(first(*inputs))[0], atol=1e-5)
    with tf.GradientTape() as tape:
        loss = sum(tf.reduce_sum(part ** 2) for part in tf.nest.flatten(first(*inputs)))
    gradients = tape.gradient(loss, first.trainable_variables)
    without = [v.name for v, g in zip(first.trainable_variables, gradients) if g is None]
    assert not without, without


def test_stages_follow_the_formula():
    assert feature_maps(Config(fmap_base=512, fmap_max=64), 1) == 64
    assert feature_maps(Config(fmap_base=512, fmap_max=64), 4) == 32
    assert feature_maps(Config(fmap_base=16), 8) == 1
