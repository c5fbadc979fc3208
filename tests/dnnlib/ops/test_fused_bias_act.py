"""fused_bias_act against NumPy, numerical gradients, and native against ref to second order."""
import itertools

import numpy as np
import pytest
import tensorflow as tf

from dnnlib.ops import native
from dnnlib.ops.fused_bias_act import fused_bias_act

PARTS = [parts for count in range(4) for parts in itertools.combinations(('bias', 'scale', 'noise'), count)]


def inputs(shape, parts, dtype=np.float64, one_noise=False):
    """Tensors by argument name, none of them near the kink of leaky ReLU's derivative."""
    random = np.random.default_rng(len(shape) + shape[-1])
    values = {'x': random.normal(size=shape)}
    if 'bias' in parts:
        values['bias'] = random.normal(size=shape[-1])
    if 'scale' in parts:
        values['scale'] = random.uniform(0.5, 1.5, size=(shape[0], shape[-1]))
    if 'noise' in parts:
        values['noise'] = random.normal(size=(1 if one_noise else shape[0], *shape[1:3], 1))
        values['noise_strength'] = np.array(0.7)
    return {name: tf.constant(value.astype(dtype)) for name, value in values.items()}


def numpy_result(x, bias=0, scale=1, noise=0, noise_strength=0, slope=0.2, gain=2 ** 0.5):
    scale = np.asarray(scale)
    v = x * (scale[:, None, None] if np.ndim(scale) and np.ndim(x) == 4 else scale) + noise * noise_strength + bias
    return np.where(v > 0, v, v * slope) * gain


@pytest.mark.parametrize('parts', PARTS, ids='+'.join)
@pytest.mark.parametrize('shape', [
    (2, 5, 3, 4), (3, 4, 4, 3), (1, 8, 8, 1), (2, 3, 3, 70), (2, 40, 40, 16), (2, 2, 2, 513)], ids=str)
def test_forward_is_the_formula(impl, shape, parts):
    for one_noise, (act, slope, gain) in itertools.product(
            (False, True), (('lrelu', 0.2, np.sqrt(2)), ('linear', 1, 1))):
        tensors = inputs(shape, parts, np.float32, one_noise)
        y = fused_bias_act(act=act, impl=impl, **tensors)
        arrays = {name: t.numpy().astype(np.float64) for name, t in tensors.items()}
        wanted = numpy_result(**arrays, slope=slope, gain=gain)
        np.testing.assert_allclose(y, wanted, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize('parts', [(), ('bias',), ('scale',), ('bias', 'scale')], ids='+'.join)
def test_dense_layers(impl, parts):
    tensors = inputs((5, 40), parts)
    wanted = numpy_result(**{name: t.numpy() for name, t in tensors.items()})
    np.testing.assert_allclose(fused_bias_act(impl=impl, **tensors), wanted, rtol=1e-6)


def first_gradients(names, values, impl, act):
    with tf.GradientTape() as tape:
        tape.watch(values)
        y = tf.reduce_mean(fused_bias_act(impl=impl, act=act, **dict(zip(names, values))) ** 2)
    return tape.gradient(y, values)


@pytest.mark.parametrize('act', ['lrelu', 'linear'])
@pytest.mark.parametrize('parts', PARTS, ids='+'.join)
def test_numerical_gradients_of_both_orders(impl, parts, act):
    tensors = inputs((2, 2, 3, 3), parts)
    names, values = list(tensors), list(tensors.values())

    def forward(*values):
        return fused_bias_act(impl=impl, act=act, **dict(zip(names, values)))

    def penalty(*values):  # of all first gradients at once, so that all mixed derivatives are in it
        return sum(tf.reduce_sum(tf.sin(g)) for g in first_gradients(names, values, impl, act))

    for function in (forward, penalty):
        analytic, numeric = tf.test.compute_gradient(function, values, delta=1e-5)
        for name, a, n in zip(names, analytic, numeric):
            np.testing.assert_allclose(a, n, rtol=1e-5, atol=1e-6, err_msg=name)


@pytest.mark.parametrize('shape', [(2, 8, 8, 3), (2, 7, 5, 40), (4, 16, 16, 64)], ids=str)
@pytest.mark.parametrize('parts', PARTS, ids='+'.join)
@pytest.mark.parametrize('one_noise', [False, True])
def test_native_equals_ref_to_second_order(device, shape, parts, one_noise):
    tensors = inputs(shape, parts, np.float32, one_noise)
    names, values = list(tensors), list(tensors.values())

    @tf.function
    def orders(values, impl):
        with tf.GradientTape() as tape:
            tape.watch(values)
            gradients = first_gradients(names, values, impl, 'lrelu')
            penalty = sum(tf.reduce_sum(g ** 2) for g in gradients)
        second = tape.gradient(penalty, values, unconnected_gradients='zero')
        return [fused_bias_act(impl=impl, **dict(zip(names, values))), *gradients, *second]

    for ref, own in zip(orders(values, 'ref'), orders(values, 'native')):
        np.testing.assert_allclose(own, ref, rtol=1e-5, atol=1e-5 * max(1e-3, np.max(np.abs(ref))))


def test_sums_do_not_depend_on_the_threads(impl):
    """The same numbers, bit for bit, every time: a resumed run must repeat the run it resumes."""
    tensors = inputs((4, 64, 64, 32), ('bias', 'scale', 'noise'), np.float32)
    names, values = list(tensors), list(tensors.values())
    if impl == 'ref':
        pytest.skip('TensorFlow\'s own sums are not ours to promise')
    runs = [first_gradients(names, values, impl, 'lrelu') for _ in range(5)]
    for run in runs[1:]:
        for a, b in zip(runs[0], run):
            np.testing.assert_array_equal(a, b)


def test_the_input_survives_when_it_is_used_again(impl):
    """The op writes into its input's memory where TensorFlow allows that, and only there."""
    @tf.function
    def both(x):
        x = x + 1
        return x, fused_bias_act(x, act='lrelu', impl=impl)

    x, y = both(tf.constant(-3.0, shape=[1, 4, 4, 8]))
    np.testing.assert_allclose(x, -2)
    np.testing.assert_allclose(y, -2 * 0.2 * np.sqrt(2), rtol=1e-6)


def test_unknown_batch_and_empty_batch(impl):
    signature = [tf.TensorSpec([None, 4, 4, 3]), tf.TensorSpec([None, 3])]
    function = tf.function(lambda x, scale: fused_bias_act(x, scale=scale, impl=impl), input_signature=signature)
    assert function(tf.zeros([3, 4, 4, 3]), tf.ones([3, 3])).shape == (3, 4, 4, 3)
    assert function(tf.zeros([0, 4, 4, 3]), tf.ones([0, 3])).shape == (0, 4, 4, 3)


def test_what_xla_compiles_is_the_same():
    tensors = inputs((2, 4, 4, 3), ('bias', 'scale', 'noise'), np.float32)
    compiled = tf.function(lambda **t: fused_bias_act(**t), jit_compile=True)
    np.testing.assert_allclose(compiled(**tensors), fused_bias_act(**tensors), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize('arguments, words', [
    ({'bias': np.zeros(4, np.float32)}, r'bias must be \[3\].*got \(4,\)'),
    ({'scale': np.zeros((1, 3), np.float32)}, r'scale must be \[2, 3\].*\(1, 3\)'),
    ({'noise': np.zeros((2, 4, 5, 1), np.float32), 'noise_strength': 1.0}, r'noise must be \[2, 4, 4, 1\]'),
    ({'noise': np.zeros((2, 4, 4, 1), np.float32)}, 'both or neither'),
    ({'act': 'relu'}, 'relu'), ({'impl': 'cuda'}, 'cuda')])
def test_wrong_arguments_are_named(arguments, words):
    with pytest.raises(ValueError, match=words):
        fused_bias_act(tf.zeros([2, 4, 4, 3]), **arguments)


@pytest.mark.parametrize('changed, words', [
    ({'bias': [4]}, r'bias must be \[C\] for x \[2,4,4,3\], got \[4\]'), ({'scale': [3, 3]}, r'scale.*got \[3,3\]'),
    ({'noise': [2, 4, 4, 2], 'strength': []}, r'noise.*got \[2,4,4,2\]'), ({'noise': [2, 4, 4, 1]}, 'go together'),
    ({'noise': [2, 4, 4, 1], 'strength': [2]}, r'strength must be a scalar.*got \[2\]'), ({'x': [3]}, 'rank|N, C')])
def test_the_op_itself_checks_its_inputs(changed, words):
    if native.load().ops is None:
        pytest.skip(f'no native ops: {native.load().problem}')
    shapes = {'x': [2, 4, 4, 3], 'bias': [0], 'scale': [0], 'noise': [0], 'strength': [0], **changed}
    with pytest.raises(tf.errors.InvalidArgumentError, match=words):
        native.load().ops.dnnlib_fused_bias_act(*(tf.zeros(shape) for shape in shapes.values()), alpha=0.2, gain=1.0)
