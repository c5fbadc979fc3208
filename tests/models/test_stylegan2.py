import math

import numpy as np
import pytest
import tensorflow as tf

from dnnlib.util import UsageError
from helpers import networks, tiny_config
from models.fingerprinted import Decoder, Encoder
from models.layers import SynthesisConv2D, minibatch_stddev, upsample_conv2d
from models.stylegan2 import Discriminator, Generator, LatentInput, check_resolution, feature_maps
from training.config import Config, make_config


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

    total = dense(latent, 16 * nf(1)) + modulated(nf(1), nf(1), 3, 1) + modulated(nf(1), 3, 1, 0)
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
    nets = networks(Config(impl='ref'), 128)
    assert count(nets['E']) == dense(128, 512) + 7 * dense(512, 512)
    assert count(nets['G']) == generator_parameters(128)
    assert count(nets['D']) == tower_parameters(128, 1, 1)
    assert count(nets['F']) == tower_parameters(128, 512 + 128, 0)


@pytest.mark.parametrize('resolution', [16, 32, 256])
@pytest.mark.parametrize('bits', [8, 128])
def test_shapes(resolution, bits):
    nets = networks(tiny_config(fmap_base=32, fingerprint_bits=bits), resolution)
    latents = tf.random.normal([2, 6])
    images = nets['G'](latents, nets['E'](tf.ones([2, bits])))
    assert images.shape == (2, resolution, resolution, 3)
    assert nets['D'](images).shape == (2, 1)
    decoded, logits = nets['F'](images)
    assert decoded.shape == (2, 6) and logits.shape == (2, bits)


def test_largest_network_builds():
    config = tiny_config(fmap_base=32, fmap_max=2)
    assert Generator(config, 1024, LatentInput)(tf.zeros([1, 6]), tf.zeros([1, 8])).shape == (1, 1024, 1024, 3)
    assert Discriminator(config, 1024)(tf.zeros([1, 1024, 1024, 3])).shape == (1, 1)


def test_initial_activations_are_of_unit_scale():
    """Equalized weights and the √2 of the leaky ReLU keep activations' mean square near 1; the FIR lowers it."""
    config = make_config('quickstart', dict(impl='ref'))
    tf.keras.utils.set_random_seed(0)
    embeddings = Encoder(config)(tf.random.normal([256, 32]))
    assert 0.7 < np.sqrt(np.mean(embeddings ** 2)) < 1.4
    generator = Generator(config, 32, LatentInput)
    x = generator.input_layer(tf.random.normal([64, 64]))
    for conv in [layer for layer in generator.layers_in_order if layer.noise_strength is not None]:
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


@pytest.mark.parametrize('count', [1, 2, 3])
def test_a_batch_smaller_than_a_group_is_one_group(count):
    x = np.random.default_rng(0).normal(size=(count, 4, 4, 3))
    expected = np.mean(np.sqrt(np.var(x, axis=0) + 1e-8))
    np.testing.assert_allclose(minibatch_stddev(tf.constant(x))[..., 3], np.full([count, 4, 4], expected), rtol=1e-6)


def test_minibatch_stddev_refuses_a_group_that_is_not_whole():
    with pytest.raises(ValueError, match='batch of 6 images'):
        minibatch_stddev(tf.zeros([6, 4, 4, 3]))


@pytest.mark.parametrize('method', ['fingerprinted', 'stylegan2'])
def test_a_range_that_meets_no_resolution_is_refused(method):
    with pytest.raises(UsageError, match='--res-modulated-range=32-64 .* take a range within 4-16'):
        networks(tiny_config(method=method, res_modulated_range='32-64'), 16)


def test_modulated_range():
    """Plain convolutions outside the range; the copies of w are those of StyleGAN2 whatever is modulated."""
    generator = Generator(tiny_config(res_modulated_range='8-16'), 32, LatentInput)
    full = Generator(tiny_config(), 32, LatentInput)
    assert sum(layer.modulated for layer in generator.layers_in_order) == 2 * 3  # up-convolution, convolution, ToRGB
    assert sum(layer.modulated for layer in full.layers_in_order) == 2 + 3 * 3
    assert generator.num_styles == full.num_styles == 8
    assert count(generator) < count(full)
    latents = tf.random.normal([1, 6])
    a, b = (generator(latents, generator.broadcast(w)) for w in tf.random.normal([2, 1, 8]))
    assert np.abs(a - b).max() > 1e-3


@pytest.mark.parametrize('resolution, copies', [(16, 6), (128, 12), (1024, 18)])
def test_copies_of_w_are_counted_as_stylegan2_does(resolution, copies):
    generator = Generator(tiny_config(fmap_max=1), resolution, LatentInput)
    assert generator.num_styles == copies == 2 * math.log2(resolution) - 2


def test_each_layer_takes_its_own_copy_of_w():
    """Changing one copy changes the styles of the layers that share it, and of no other."""
    generator = Generator(tiny_config(), 16, LatentInput)
    w = tf.random.stateless_normal([1, generator.num_styles, 8], [0, 1])
    users = [['4x4/conv'], ['4x4/to_rgb', '8x8/conv_up'], ['8x8/conv'], ['8x8/to_rgb', '16x16/conv_up'],
             ['16x16/conv'], ['16x16/to_rgb']]
    for copy, expected in enumerate(users):
        weights = [layer.affine.weight for layer in generator.layers_in_order]
        only = tf.one_hot(copy, generator.num_styles)[tf.newaxis, :, tf.newaxis]
        with tf.GradientTape() as tape:
            energy = tf.reduce_sum(generator(tf.ones([1, 6]), w * only) ** 2)
        gradients = tape.gradient(energy, weights)
        moved = [layer.name for layer, gradient in zip(generator.layers_in_order, gradients)
                 if np.abs(gradient).max() > 0]
        assert moved == [f'G/{name}' for name in expected]


def test_decoder_sees_what_a_file_can_hold():
    decoder = Decoder(tiny_config(clip_decoder='clip'), 16)
    images = 2 * tf.random.stateless_normal([2, 16, 16, 3], [0, 1])
    with tf.GradientTape() as tape:
        tape.watch(images)
        logits = decoder(images)[1]
    np.testing.assert_array_equal(logits, decoder(tf.clip_by_value(images, -1, 1))[1])
    gradient, outside = tape.gradient(logits, images).numpy(), np.abs(images.numpy()) > 1
    assert not gradient[outside].any() and gradient[~outside].any()


def test_plain_generator_depends_on_latents_through_modulation_only():
    nets = networks(tiny_config(method='stylegan2'))
    assert set(nets) == {'M', 'G', 'D', 'path_length', 'mean_w'}
    z = tf.random.normal([2, 6])
    w = nets['M'](z)
    np.testing.assert_array_equal(nets['G'](z, w), nets['G'](tf.zeros_like(z), w))
    assert np.abs(nets['G'](z, w)[0] - nets['G'](z, w)[1]).max() > 1e-3


@pytest.mark.parametrize('shape', [[2, 8, 8, 3], [2, 16, 16, 1], [16, 16, 3]])
def test_a_wrong_size_is_named(shape):
    nets = networks(tiny_config())
    for name in ('D', 'F'):
        with pytest.raises(ValueError, match=rf'{name}: images is of shape .*{shape[-2]}.*expected \[N, 16, 16, 3\]'):
            nets[name](tf.zeros(shape))


def test_channels_follow_the_formula():
    # 4x4 ... 1024x1024, StyleGAN2 config E.
    assert [feature_maps(Config(), 2 ** r) for r in range(2, 11)] == [512, 512, 512, 512, 256, 128, 64, 32, 16]
    assert feature_maps(Config(fmap_base=512, fmap_max=64), 4) == 64
    assert feature_maps(Config(fmap_base=512, fmap_max=64), 32) == 32
    assert feature_maps(Config(fmap_base=16), 512) == 1


@pytest.mark.parametrize('resolution', [8, 24, 2048])
def test_resolutions(resolution):
    with pytest.raises(UsageError, match=str(resolution)):
        check_resolution(resolution)
