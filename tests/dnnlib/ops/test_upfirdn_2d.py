"""upfirdn_2d against scipy.signal.upfirdn, numerical gradients, and native against ref to second order."""
import numpy as np
import pytest
import scipy.signal
import tensorflow as tf

from dnnlib.ops import native
from dnnlib.ops.upfirdn_2d import downsample_2d, filter_kernel, upfirdn_2d, upsample_2d

CHANNELS = (1, 2, 3, 4, 5, 7, 8, 12, 16, 17, 31, 32, 48, 64, 100, 127, 256, 513)


def random_filter(random, *shape):
    """Taps that float32 holds exactly, since the native op keeps its filter so."""
    return random.normal(size=shape).astype(np.float32).astype(np.float64)


def along(x, taps, up, down, before, after, axis):
    """scipy's whole result, of which `before` and `after` cut out a piece (zeros beyond its ends)."""
    x = np.moveaxis(x, axis, -1)
    whole = scipy.signal.upfirdn(taps, x, up=up)
    size = x.shape[-1] * up + before + after - len(taps) + 1
    y = np.zeros((*x.shape[:-1], size))
    for i in range(size):
        at = i + len(taps) - 1 - before
        if 0 <= at < whole.shape[-1]:
            y[..., i] = whole[..., at]
    return np.moveaxis(y[..., ::down], -1, axis)


def expected(x, kernel, up, down, pad):
    if kernel.ndim == 1:
        y = along(x, kernel, up, down, *pad[:2], axis=1)
        return along(y, kernel, up, down, *pad[2:], axis=2)
    rows = [along(x, taps, up, down, *pad[2:], axis=2) for taps in kernel]  # a 2-D filter is a sum of separable ones
    units = np.eye(len(kernel))
    return sum(along(row, unit, up, down, *pad[:2], axis=1) for row, unit in zip(rows, units))


def random_case(random, up, down, taps):
    """Odd and even sizes, paddings from a crop of 3 to more than the filter, such that something is left."""
    while True:
        height, width = random.integers(1, 12, 2)
        pad = [int(p) for p in random.integers(-3, taps + 3, 4)]
        if min(height * up + sum(pad[:2]), width * up + sum(pad[2:])) >= taps:
            return (int(random.integers(1, 4)), height, width, int(random.choice(CHANNELS))), pad


@pytest.mark.parametrize('taps', range(1, 9))
def test_every_up_down_and_filter_size_against_scipy(impl, taps):
    random = np.random.default_rng(taps)
    for up in (1, 2, 3):
        for down in (1, 2, 3):
            for two_dimensional in (False, False, True):
                shape, pad = random_case(random, up, down, taps)
                kernel = random_filter(random, taps, taps) if two_dimensional else random_filter(random, taps)
                x = random.normal(size=shape)
                y = upfirdn_2d(x, kernel, up, down, pad, impl=impl)
                message = f'x {shape}, up {up}, down {down}, pad {pad}, kernel {kernel.shape}'
                np.testing.assert_allclose(y, expected(x, kernel, up, down, pad), rtol=0, atol=1e-11, err_msg=message)


@pytest.mark.parametrize('channels', CHANNELS)
@pytest.mark.parametrize('up, down', [(1, 1), (2, 1), (1, 2)])
def test_symmetric_four_taps_and_their_gradient(impl, channels, up, down):
    """The cases with kernels of their own, at every kind of remainder of the channels, alignment and edge."""
    random = np.random.default_rng(channels)
    kernel = filter_kernel()
    for _ in range(3):
        shape, pad = random_case(random, up, down, 4)
        x = tf.constant(random.normal(size=(*shape[:3], channels)))
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = upfirdn_2d(x, kernel, up, down, pad, gain=1.5, impl=impl)
        np.testing.assert_allclose(y, 1.5 * expected(x.numpy(), kernel, up, down, pad), rtol=0, atol=1e-11)
        # <dy, A x> = <A* dy, x> for the adjoint, for any dy
        dy = random.normal(size=y.shape)
        left, right = np.sum(dy * y), np.sum(tape.gradient(y, x, output_gradients=tf.constant(dy)) * x)
        np.testing.assert_allclose(left, right, atol=1e-9 * max(1, np.sum(abs(dy * y))))


@pytest.mark.parametrize('up, down, pad, taps', [
    (1, 1, (2, 1), 4), (2, 1, (2, 1), 4), (1, 2, (1, 1), 4), (2, 1, (-1, 3, 2, -2), 4), (3, 2, (3, 1, 0, 2), 5)])
def test_numerical_gradients_of_both_orders(impl, up, down, pad, taps):
    random = np.random.default_rng(0)
    kernel = random_filter(random, taps)
    x = tf.constant(random.normal(size=(2, 5, 4, 2)))

    def gradient(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = tf.reduce_sum(upfirdn_2d(x ** 2, kernel, up, down, pad, impl=impl) ** 2)
        return tape.gradient(y, x)

    for function in (lambda x: upfirdn_2d(x, kernel, up, down, pad, impl=impl), gradient):
        (analytic,), (numeric,) = tf.test.compute_gradient(function, [x], delta=1e-4)
        np.testing.assert_allclose(analytic, numeric, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize('name', ['upsample', 'downsample', 'filter'])
def test_native_equals_ref_to_second_order(device, name):
    """As in R1: the gradient's squared norm is differentiated."""
    run = {'upsample': upsample_2d, 'downsample': downsample_2d,
           'filter': lambda x, kernel, impl: upfirdn_2d(x, kernel, pad=(2, 1), impl=impl)}[name]
    x = tf.constant(np.random.default_rng(0).normal(size=(2, 16, 16, 24)).astype(np.float32))

    @tf.function
    def orders(x, impl):
        with tf.GradientTape() as outer:
            outer.watch(x)
            with tf.GradientTape() as inner:
                inner.watch(x)
                y = run(x ** 2, filter_kernel(), impl)
            gradient = inner.gradient(y, x, output_gradients=y)
            penalty = tf.reduce_mean(gradient ** 2)
        return y, gradient, outer.gradient(penalty, x)

    for ref, own in zip(orders(x, 'ref'), orders(x, 'native')):
        np.testing.assert_allclose(own, ref, rtol=1e-5, atol=1e-5 * np.max(np.abs(ref)))


@pytest.mark.parametrize('up, down, pad', [(1, 1, (2, 1)), (2, 1, (2, 1)), (2, 2, (-1, 3)), (3, 2, (4, 0, -2, 5))])
def test_portable_equals_ref_without_transposed_convolutions(up, down, pad):
    x = np.random.default_rng(0).standard_normal([2, 7, 9, 3])
    options = dict(kernel=np.outer([1.0, 3, 2], [1, 2, 4, 1]), up=up, down=down, pad=pad, gain=1.5)
    np.testing.assert_allclose(upfirdn_2d(x, impl='portable', **options), upfirdn_2d(x, impl='ref', **options))
    traced = tf.function(lambda x: upfirdn_2d(x, impl='portable', **options)).get_concrete_function(x)
    assert 'DepthwiseConv2dNativeBackpropInput' not in {operation.type for operation in traced.graph.get_operations()}


def test_resampling_keeps_the_mean_and_the_alignment(impl):
    x = np.zeros((1, 8, 8, 1), np.float32)
    x[0, 4, 4] = 1
    kernel = filter_kernel()
    up = upsample_2d(x, kernel, impl)[0, :, :, 0].numpy()
    np.testing.assert_allclose(up.sum(), 4, rtol=1e-6)
    np.testing.assert_allclose(up[7:11, 9], np.array([1, 3, 3, 1]) * 3 / 16, rtol=1e-6)  # centred between 8 and 9
    down = downsample_2d(np.ones((1, 8, 8, 3), np.float32), kernel, impl)
    assert down.shape == (1, 4, 4, 3)
    np.testing.assert_allclose(down[0, 1:3, 1:3], 1, rtol=1e-6)


def test_batch_may_be_unknown_and_empty(impl):
    signature = [tf.TensorSpec([None, 4, 4, 3])]
    function = tf.function(lambda x: upsample_2d(x, filter_kernel(), impl), input_signature=signature)
    assert function.get_concrete_function().output_shapes.as_list() == [None, 8, 8, 3]
    assert function(tf.zeros([3, 4, 4, 3])).shape == (3, 8, 8, 3)
    assert function(tf.zeros([0, 4, 4, 3])).shape == (0, 8, 8, 3)


@pytest.mark.parametrize('up, down, pad, kernel', [
    (1, 1, (1, 1), filter_kernel()), (1, 1, (2, 2), filter_kernel()), (2, 1, (2, 1), filter_kernel()),
    (1, 2, (1, 1), filter_kernel()), (3, 2, (3, -2, -1, 4), np.arange(1.0, 6)),
    (2, 3, (2, 0, 1, 3), np.arange(1.0, 13).reshape(3, 4))])
def test_what_xla_compiles_is_the_same_to_second_order(up, down, pad, kernel):
    x = np.random.default_rng(0).normal(size=(2, 8, 7, 3))

    def run(x):
        with tf.GradientTape() as outer:
            outer.watch(x)
            with tf.GradientTape() as inner:
                inner.watch(x)
                y = upfirdn_2d(x, kernel, up, down, pad, gain=1.5)
                loss = tf.reduce_sum(y ** 3)
            gradient = inner.gradient(loss, x)
            penalty = tf.reduce_sum(gradient ** 2)
        return y, gradient, outer.gradient(penalty, x)

    for compiled, plain in zip(tf.function(run, jit_compile=True)(tf.constant(x)), run(tf.constant(x))):
        np.testing.assert_allclose(compiled, plain, rtol=1e-10, atol=1e-8 * np.abs(plain).max())


def test_the_native_op_is_refused_inside_what_xla_compiles():
    run = tf.function(lambda x: upsample_2d(x, filter_kernel(), 'native'), jit_compile=True)
    with pytest.raises(ValueError, match="impl='auto'"):
        run(tf.zeros([1, 4, 4, 3]))


def test_saved_model_keeps_the_gradient(impl, tmp_path):
    class Model(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec([None, 4, 4, 3])])
        def __call__(self, x):
            return upsample_2d(x, filter_kernel(), impl)

    tf.saved_model.save(Model(), str(tmp_path))
    x = tf.ones([1, 4, 4, 3])
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = tf.saved_model.load(str(tmp_path))(x)
    np.testing.assert_allclose(tape.gradient(y, x)[0, 1:3, 1:3], 4, rtol=1e-6)


@pytest.mark.parametrize('arguments, words', [
    ({'up': 0}, 'up.*0'), ({'down': 1.5}, 'down.*1.5'), ({'pad': (1, 2, 3)}, r'\(1, 2, 3\)'),
    ({'pad': (-4, -4)}, r'8x8.*4x4'), ({'kernel': np.ones([2, 2, 2])}, r'\(2, 2, 2\)')])
def test_wrong_arguments_are_named(impl, arguments, words):
    with pytest.raises(ValueError, match=words):
        upfirdn_2d(tf.zeros([1, 8, 8, 3]), **{'kernel': filter_kernel(), 'impl': impl, **arguments})


@pytest.mark.parametrize('shape, attributes, words', [
    ([8, 8, 3], {}, 'rank 4|N, H, W, C'), ([1, 8, 8, 3], {'kernel': [1.0] * 7}, '8 numbers, got 7'),
    ([1, 8, 8, 3], {'kernel_size': [4, -4]}, '4, -4'), ([1, 8, 8, 3], {'up': -2}, '-2'),
    ([1, 8, 8, 3], {'pad': [0, 0, 0]}, '4 numbers, got 3'), ([1, 2, 8, 3], {}, '2 and smaller than the kernel.s 4')])
@pytest.mark.parametrize('graph', [False, True])
def test_the_op_itself_checks_its_attributes(shape, attributes, words, graph):
    if native.load().ops is None:
        pytest.skip(f'no native ops: {native.load().problem}')
    attributes = {'kernel': [1.0] * 8, 'kernel_size': [4, 4], 'separable': True, 'pad': [0] * 4, **attributes}

    def run(x):
        return native.load().ops.dnnlib_upfirdn2d(x, **attributes)

    with pytest.raises((tf.errors.InvalidArgumentError, ValueError), match=words):
        (tf.function(run) if graph else run)(tf.zeros(shape))
