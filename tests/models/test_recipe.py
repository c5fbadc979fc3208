"""What the published recipe has of its own, against float64 NumPy written from the equations."""
import math

import numpy as np
import pytest
import tensorflow as tf

from helpers import networks, tiny_config
from models import fingerprinted, plain
from models.adversarial import path_length_penalty
from models.fingerprinted import CLIPS
from models.methods import METHODS
from models.sampling import BatchPart, RandomNoise
from models.stylegan2 import LatentInput
from training.config import Config

RNG = np.random.default_rng(0)
WHOLE = BatchPart(8, 0, 8)


def fingerprinted_config(**overrides):
    return tiny_config('config-e', mapping_layers=1, mapping_lrmul=1.0, tick_kimg=1, **overrides)


@pytest.mark.parametrize('parts', [1, 4])
def test_path_length_pulls_its_running_mean_along(parts):
    """The gradient of mean (l − a)², a = old + decay · (mean l − old), by finite differences; parts add up to it."""
    slopes, theta, old, decay = RNG.normal(size=(8, 3)) + 1, RNG.normal(size=3), 0.7, 0.3

    def penalty(theta):
        lengths = slopes @ theta
        average = old + decay * (lengths.mean() - old)
        return np.mean((lengths - average) ** 2)

    expected = [(penalty(theta + 1e-6 * row) - penalty(theta - 1e-6 * row)) / 2e-6 for row in np.eye(3)]
    mean = (slopes @ theta).mean()
    values, gradients = [], []
    for rows in np.split(slopes, parts):
        variable = tf.Variable(theta)
        with tf.GradientTape() as tape:
            lengths = tf.linalg.matvec(rows, variable)
            value, loss = path_length_penalty(lengths, mean, old + decay * (mean - old), decay)
        values.append(value)
        gradients.append(tape.gradient(loss, variable))
        np.testing.assert_allclose(loss, value, rtol=1e-12)
    np.testing.assert_allclose(np.mean(values), penalty(theta), rtol=1e-12)
    np.testing.assert_allclose(np.mean(gradients, axis=0), expected, rtol=1e-6)


@pytest.mark.parametrize('kind, bias_units', [('output', 64), ('channel', 4)])
def test_bias_of_the_layer_that_takes_latents(kind, bias_units):
    layer = LatentInput('input', 4, fingerprinted_config(input_bias=kind))
    assert layer.bias.shape == [bias_units]
    bias = RNG.normal(size=bias_units)
    layer.bias.assign(bias)
    latents = RNG.normal(size=(3, 6))
    x = latents @ layer.weight.numpy().astype(float) / math.sqrt(6) + np.tile(bias, 64 // bias_units)
    expected = np.where(x > 0, x, 0.2 * x) * math.sqrt(2)
    np.testing.assert_allclose(layer(tf.constant(latents, tf.float32)), expected.reshape(3, 4, 4, 4), atol=1e-5)


@pytest.mark.parametrize('kind', CLIPS)
def test_clips(kind):
    images = np.array([-3.0, -1.0, -0.5, 0.5, 1.0, 3.0])
    for sign in (1, -1):
        x = tf.constant(images)
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = CLIPS[kind](x)
            loss = tf.reduce_sum(sign * y)
        np.testing.assert_array_equal(y, images if kind == 'none' else np.clip(images, -1, 1))
        passes = {'none': np.ones(6), 'clip': np.abs(images) <= 1,
                  # x moves by −gradient: inwards from 3 if the gradient is positive, from −3 if it is negative.
                  'straight_through': (np.abs(images) <= 1) | (np.sign(images) == sign)}[kind]
        np.testing.assert_array_equal(tape.gradient(loss, x), sign * passes)


def test_the_two_images_of_a_pair_have_noise_of_their_own():
    config = fingerprinted_config()
    nets = networks(config)
    own = fingerprinted.sample_batch(config, nets, [0, 1], WHOLE)
    shared_config = fingerprinted_config(consistency_noise='shared')
    shared = fingerprinted.sample_batch(shared_config, nets, [0, 1], WHOLE)
    for batch, same in ((own, False), (shared, True)):
        pair = fingerprinted.pair_up(batch)
        np.testing.assert_array_equal(pair.latents[:8], pair.latents[8:])
        np.testing.assert_array_equal(pair.fingerprints[8:], batch.other_fingerprints)
        for noise in pair.noise:
            assert np.array_equal(noise[:8], noise[8:]) == same
            assert same or abs(np.corrcoef(np.ravel(noise[:8]), np.ravel(noise[8:]))[0, 1]) < 0.25


@pytest.mark.parametrize('decode_pair', [False, True])
def test_what_the_decoder_reads_of_a_pair(decode_pair):
    config = fingerprinted_config(decode_pair=decode_pair)
    nets = networks(config)
    batch = fingerprinted.sample_batch(config, nets, [0, 1], WHOLE)
    pair = fingerprinted.pair_up(batch)
    images = fingerprinted.synthesize(nets, pair)
    read = pair if decode_pair else batch
    decoded, logits = (part.numpy().astype(float) for part in nets['F'](images[:len(read.latents)]))
    bits, p = read.fingerprints.numpy(), 1 / (1 + np.exp(-logits))
    _, terms = fingerprinted.generator_loss(config, nets, batch, 2.0, 2.0)
    assert float(terms['loss/latent']) == pytest.approx(np.mean((read.latents - decoded) ** 2), rel=1e-5)
    assert float(terms['loss/fingerprint']) == pytest.approx(
        -np.mean(bits * np.log(p) + (1 - bits) * np.log(1 - p)), rel=1e-5)
    images = images.numpy().astype(float)
    assert float(terms['loss/consistency']) == pytest.approx(np.mean((images[:8] - images[8:]) ** 2), rel=1e-5)


def plain_parts(**overrides):
    config = tiny_config('stylegan2', method='stylegan2', mapping_layers=1, mapping_lrmul=1.0, **overrides)
    return config, networks(config)


def test_styles_of_two_latents_are_mixed():
    config, nets = plain_parts(style_mixing=1.0)
    seen = set()
    for step in range(40):
        batch = plain.sample_batch(config, nets, [step, 0], BatchPart(2, 0, 2))
        crossover = int(batch.crossover)
        first, second = nets['M'](batch.latents).numpy(), nets['M'](batch.other_latents).numpy()
        w = plain.embed(nets, batch).numpy()
        for copy in range(nets['G'].num_styles):
            np.testing.assert_allclose(w[:, copy], first if copy < crossover else second, atol=1e-6)
        seen.add(crossover)
    assert seen == set(range(1, nets['G'].num_styles))


@pytest.mark.parametrize('probability', [0.0, 0.9])
def test_how_often_styles_are_mixed(probability):
    @tf.function
    def crossovers(steps):
        return tf.map_fn(lambda step: plain.draw_crossover(probability, tf.stack([step, 7]), 12), steps)

    share = np.mean(crossovers(tf.range(4000)) < 12)
    assert abs(share - probability) <= 5 * math.sqrt(probability * (1 - probability) / 4000)


def test_the_mean_w_is_tracked_and_truncates():
    config, nets = plain_parts(mean_w_decay=0.75)
    generator = plain.phases(config)[0]
    expected = np.zeros(8)
    for step in range(3):
        batch = plain.sample_batch(config, nets, [step, 0], WHOLE)
        generator.track(nets, generator.measure(nets, batch))
        expected = 0.75 * expected + 0.25 * nets['M'](batch.latents).numpy().astype(float).mean(0)
    np.testing.assert_allclose(nets['mean_w'].mean, expected, rtol=1e-5)
    latents, codes = RNG.normal(size=(2, 6)).astype(np.float32), np.zeros([2, 0], np.float32)
    w = nets['M'](latents).numpy()
    for psi in (0.0, 0.5, 1.0):
        images = plain.as_model(nets, truncation_psi=psi).generate(latents, codes)
        truncated = tf.constant(expected + psi * (w - expected), tf.float32)
        np.testing.assert_allclose(images, nets['G'](latents, truncated), atol=1e-4)
    assert np.abs(images[0] - images[1]).max() > 1e-3


@pytest.mark.parametrize('method', ['fingerprinted', 'bound', 'stylegan2'])
def test_random_noise_is_new_for_each_image_and_the_same_in_any_batches(method):
    config = tiny_config(method=method, sign_map=2)
    nets = networks(config)
    for layer in (layer for block in nets['G'].blocks for layer in block.layers_in_order):
        if layer.noise_strength is not None:
            layer.noise_strength.assign(1.0)
    latents, codes = np.repeat(RNG.normal(size=(1, 6)), 6, 0), np.zeros([6, 8 if method != 'stylegan2' else 0])

    def images(batch_size, seed=3):
        noisy = {**nets, 'G': RandomNoise(nets['G'], seed)}
        return METHODS[method].as_model(noisy, batch_size).generate(latents, codes)

    together = images(6)
    np.testing.assert_allclose(images(2), together, atol=1e-5)
    differences = [np.abs(a - b).mean() for i, a in enumerate(together) for b in together[:i]]
    assert min(differences) > 0.01
    assert np.abs(images(6, seed=4) - together).mean() > 0.01
    fixed = METHODS[method].as_model(nets).generate(latents, codes)
    np.testing.assert_allclose(fixed, np.repeat(fixed[:1], 6, 0), atol=1e-5)


# Trainable parameters of each layer of the published networks at 128×128: StyleGAN2's config E, whose first layer is a
# dense one of 512 inputs and 8,192 outputs with as many biases; and its discriminator without minibatch stddev and with
# 640 outputs.
PUBLISHED_G = {'input': 4202496, '4x4/conv': 2622465, '4x4/to_rgb': 264195,
               **{f'{res}x{res}/{layer}': count for res in (8, 16, 32)
                  for layer, count in (('conv_up', 2622465), ('conv', 2622465), ('to_rgb', 264195))},
               '64x64/conv_up': 1442561, '64x64/conv': 721409, '64x64/to_rgb': 132099,
               '128x128/conv_up': 426369, '128x128/conv': 213249, '128x128/to_rgb': 66051}
PUBLISHED_F = {'from_rgb': 512, '128x128/conv0': 147584, '128x128/conv1_down': 295168, '128x128/skip': 32768,
               '64x64/conv0': 590080, '64x64/conv1_down': 1180160, '64x64/skip': 131072,
               **{f'{res}x{res}/{layer}': count for res in (32, 16, 8)
                  for layer, count in (('conv0', 2359808), ('conv1_down', 2359808), ('skip', 262144))},
               '4x4/conv': 2359808, '4x4/dense': 4194816, 'output': 328320}


@pytest.mark.parametrize('name, published, total', [('G', PUBLISHED_G, 26618269), ('F', PUBLISHED_F, 24205568)])
def test_parameters_are_those_of_the_published_networks(name, published, total):
    kept = ('conv', 'to_rgb', 'conv_up', 'conv0', 'conv1_down', 'skip', 'dense')
    found = {}
    for variable in networks(Config(impl='ref'), 128)[name].trainable_variables:
        parts = variable.name.split('/')[1:]
        layer = '/'.join(parts[:2]) if parts[1] in kept else parts[0]
        found[layer] = found.get(layer, 0) + math.prod(variable.shape)
    assert found == published and sum(found.values()) == total
