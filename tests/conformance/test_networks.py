"""Every network of every method through one suite, and a guard that none is left out."""
import importlib
import pkgutil

import numpy as np
import pytest
import tensorflow as tf

import models
from helpers import networks, tiny_config
from models.methods import METHODS
from models.presets import ADOPTS

RESOLUTION, COUNT, DELTA = 16, 4, 1e-5
RNG = np.random.default_rng(0)
LATENTS, W = (RNG.standard_normal([COUNT, size]) for size in (6, 8))
IMAGES = RNG.uniform(-1, 1, [COUNT, RESOLUTION, RESOLUTION, 3])
CODES = RNG.integers(0, 2, [COUNT, 8]).astype(float)
# What each class is called with; a network class that is not here makes the guard below fail.
INPUTS = {'Encoder': [CODES], 'MappingNetwork': [LATENTS], 'Generator': [LATENTS, W], 'Discriminator': [IMAGES],
          'Decoder': [IMAGES], 'BoundGenerator': [LATENTS, W], 'BoundDecoder': [IMAGES],
          'Carriers': [CODES, IMAGES], 'AdoptedDecoder': [IMAGES], 'Marked': [LATENTS]}
# How a network is called with a wrong size.
WRONG = {'Encoder': [CODES[:, :5]], 'MappingNetwork': [LATENTS[:, :5]], 'Generator': [LATENTS[:, :5], W],
         'Discriminator': [IMAGES[:, :8]], 'Decoder': [IMAGES[:, :, :8]], 'BoundGenerator': [LATENTS[:, :5], W],
         'BoundDecoder': [IMAGES[:, :, :8]], 'Carriers': [CODES[:, :5], IMAGES], 'AdoptedDecoder': [IMAGES[:, :, :8]],
         'Marked': [LATENTS[:, :5]]}


def make(method, name):
    """One network of a method; 'baked' is what the method's `bake` returns."""
    nets = networks(tiny_config(method=method), RESOLUTION)
    return METHODS[method].bake(nets, CODES[0]) if name == 'baked' else nets[name]


def cases():
    """(method, network) of all there are; built of names alone, since tests are collected before devices are set up."""
    return [(name, net) for name, method in METHODS.items()
            for net in (*method.EVALUATED, *(['baked'] if hasattr(method, 'bake') else []),
                        *([] if name in ADOPTS else ['D'])) if net != 'mean_w']


def inputs_of(net, table, name):
    arrays = table[type(net).__name__]
    return [tf.constant(array, net.variables[0].dtype) for array in (arrays[:1] if name == 'baked' else arrays)]


def flat(outputs):
    return np.concatenate([np.ravel(part) for part in tf.nest.flatten(outputs)])


@pytest.fixture(params=cases(), ids=lambda case: '-'.join(case))
def case(request):
    return request.param


@pytest.fixture
def float64():
    tf.keras.backend.set_floatx('float64')
    yield
    tf.keras.backend.set_floatx('float32')


def test_every_network_class_is_in_this_suite():
    classes = set()
    for module in pkgutil.iter_modules(models.__path__, 'models.'):
        for name, value in vars(importlib.import_module(module.name)).items():
            if isinstance(value, type) and issubclass(value, tf.keras.Model) and value.__module__ == module.name:
                classes.add(name)
    built = {type(make(*one)).__name__ for one in cases()}
    for method in METHODS:
        nets = networks(tiny_config(method=method), RESOLUTION)
        assert {(method, name) for name, net in nets.items() if isinstance(net, tf.keras.Model)} <= set(cases())
    assert classes - {'ResidualNetwork', 'SignedDecoder'} == built == set(INPUTS) == set(WRONG)


def test_variables_are_made_once_with_names_of_their_own(case):
    net = make(*case)
    before = [variable.ref() for variable in net.variables]
    for _ in range(2):
        net(*inputs_of(net, INPUTS, case[1]))
    assert [variable.ref() for variable in net.variables] == before
    names = [variable.name for variable in net.variables]
    assert len(set(names)) == len(names)


def test_one_seed_makes_one_network_and_a_checkpoint_carries_it(case, tmp_path):
    first, twin = make(*case), make(*case)
    inputs = inputs_of(first, INPUTS, case[1])
    np.testing.assert_array_equal(flat(first(*inputs)), flat(twin(*inputs)))
    for variable in first.trainable_variables:
        variable.assign_add(0.1 * tf.random.stateless_normal(variable.shape, [1, 2]))
    assert np.abs(flat(first(*inputs)) - flat(twin(*inputs))).max() > 1e-3
    path = tf.train.Checkpoint(net=first).write(str(tmp_path / 'net'))
    tf.train.Checkpoint(net=twin).read(path).assert_consumed()
    np.testing.assert_array_equal(flat(first(*inputs)), flat(twin(*inputs)))


@pytest.mark.parametrize('jit_compile', [False, True])
def test_graph_and_xla_equal_eager(case, jit_compile):
    net = make(*case)
    inputs = inputs_of(net, INPUTS, case[1])
    graph = tf.function(lambda *args: net(*args), jit_compile=jit_compile)
    np.testing.assert_allclose(flat(graph(*inputs)), flat(net(*inputs)), atol=1e-4)


def test_saved_model(case, tmp_path):
    net = make(*case)
    inputs = inputs_of(net, INPUTS, case[1])
    specs = [tf.TensorSpec([None, *value.shape[1:]], value.dtype) for value in inputs]
    module = tf.Module()
    module.net = net
    module.call = tf.function(lambda *args: net(*args), input_signature=specs)
    tf.saved_model.save(module, str(tmp_path / 'net'))
    loaded = tf.saved_model.load(str(tmp_path / 'net'))
    np.testing.assert_allclose(flat(loaded.call(*inputs)), flat(net(*inputs)), atol=1e-5)


def test_every_variable_has_a_gradient(case):
    net = make(*case)
    with tf.GradientTape() as tape:
        loss = sum(tf.reduce_sum(part ** 2) for part in tf.nest.flatten(net(*inputs_of(net, INPUTS, case[1]))))
    gradients = tape.gradient(loss, net.trainable_variables)
    assert not [v.name for v, g in zip(net.trainable_variables, gradients) if g is None]


def test_second_order_gradient_against_finite_differences(case, float64):
    """d/dε of ‖∂y/∂x‖² along a random direction of the weights, as R1 and path length need it."""
    if case == ('adopted', 'baked'):
        pytest.skip('its signs are of clipped pictures, whose gradient jumps; nothing trains an instance')
    net = make(*case)
    inputs, weights = inputs_of(net, INPUTS, case[1]), net.trainable_variables
    directions = [tf.random.stateless_normal(weight.shape, [i, 3], dtype=tf.float64) for i, weight in
                  enumerate(weights)]
    length = tf.linalg.global_norm(directions)
    directions = [direction / length for direction in directions]

    @tf.function
    def penalty():
        with tf.GradientTape() as tape:
            tape.watch(inputs[-1])
            value = sum(tf.reduce_mean(part ** 2) for part in tf.nest.flatten(net(*inputs)))
        return tf.reduce_sum(tape.gradient(value, inputs[-1]) ** 2)

    with tf.GradientTape() as tape:
        value = penalty()
    gradients = tape.gradient(value, weights, unconnected_gradients=tf.UnconnectedGradients.ZERO)
    expected = sum(tf.reduce_sum(g * d) for g, d in zip(gradients, directions))
    ends = []
    for sign in (1, -2):
        for weight, direction in zip(weights, directions):
            weight.assign_add(sign * DELTA * direction)
        ends.append(penalty())
    assert float(ends[0] - ends[1]) / (2 * DELTA) == pytest.approx(float(expected), rel=1e-4)


def test_two_replicas_equal_the_whole_batch(case):
    """The halves of a batch give the halves of the whole batch's answer; D's groups of four stay together."""
    net = make(*case)
    whole = [tf.concat([value, value + 0.1], 0) for value in inputs_of(net, INPUTS, case[1])]
    halves = [net(*(value[start:start + COUNT] for value in whole)) for start in (0, COUNT)]
    together = [np.concatenate(parts) for parts in zip(*(tf.nest.flatten(half) for half in halves))]
    np.testing.assert_allclose(flat(together), flat(net(*whole)), atol=1e-5)


def test_a_wrong_size_is_refused_by_name(case):
    net = make(*case)
    with pytest.raises(ValueError, match=rf'{net.name}: .* is of shape .*expected \['):
        net(*inputs_of(net, WRONG, case[1]))

