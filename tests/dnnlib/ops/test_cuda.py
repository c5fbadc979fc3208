"""The CUDA sources: compiled for every architecture, and their arithmetic run on the processor (DNNLIB_ON_HOST).

The launchers are called through ctypes on NumPy arrays, so that everything but the GPU's scheduling is exercised.
"""
import ctypes
import glob
import os
import shutil
import subprocess

import numpy as np
import pytest
import tensorflow as tf

from benchmarks.ops_cuda import POINTER, FusedBiasAct, Grad, GradGrad, Upfirdn2d, build
from dnnlib.lanes import CUDA_ARCHITECTURES
from dnnlib.ops.fused_bias_act import fused_bias_act
from dnnlib.ops.native import compiler
from dnnlib.ops.upfirdn_2d import output_sizes, upfirdn_2d

SOURCES = sorted(glob.glob(os.path.join(compiler.SOURCES, '*.cu.cc')))
TYPES = [(0, np.float32, 1e-5), (1, np.float16, 4e-3), (2, tf.bfloat16.as_numpy_dtype, 3e-2)]
TYPE_IDS = ['float32', 'float16', 'bfloat16']


def address(array):
    return None if array is None else array.ctypes.data


@pytest.fixture(scope='module')
def nvcc():
    path = shutil.which('nvcc')
    if path is None:
        pytest.skip('there is no nvcc on PATH')
    return path


@pytest.fixture(scope='module')
def on_host(nvcc, tmp_path_factory):
    """The launchers, built to run their kernels in a loop on the processor."""
    return build(str(tmp_path_factory.mktemp('cuda')), on_host=True, optimize='-O1')


@pytest.mark.parametrize('source', SOURCES, ids=os.path.basename)
def test_compiles_for_the_architectures_that_nvcc_knows(nvcc, source, tmp_path):
    known = subprocess.check_output([nvcc, '--list-gpu-arch'], text=True).split()
    flags = compiler.cuda_flags([arch for arch in CUDA_ARCHITECTURES if f'compute_{arch}' in known])
    result = subprocess.run([nvcc, *flags, '-Xcompiler', '-fPIC', '-c', source, '-o', str(tmp_path / 'kernels.o')],
                            capture_output=True, text=True)
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize('code, dtype, tolerance', TYPES, ids=TYPE_IDS)
@pytest.mark.parametrize('up, down, taps', [
    (1, 1, 4), (2, 1, 4), (1, 2, 4), (2, 2, 4), (3, 1, 5), (1, 1, 1), (2, 3, 8)])
def test_upfirdn_2d_arithmetic(on_host, code, dtype, tolerance, up, down, taps):
    random = np.random.default_rng(up * 100 + down * 10 + taps)
    for case in range(12):
        shape = (2, *(int(v) for v in random.integers(1, 14, 2)), int(random.choice([1, 3, 8, 16, 20])))
        pad = [int(v) for v in random.integers(-2, taps + 2, 4)]
        if min(shape[1] * up + sum(pad[:2]), shape[2] * up + sum(pad[2:])) < taps:
            continue
        separable = case % 3 > 0
        kernel = random.normal(size=taps if separable else (taps, taps)).astype(np.float32) / taps
        numbers = np.ascontiguousarray(np.concatenate([kernel, kernel]) if separable else kernel.ravel())
        x = random.normal(size=shape).astype(dtype)
        out_h, out_w = output_sizes(shape[1:3], (taps, taps), up, down, pad)
        y = np.full((2, out_h, out_w, shape[3]), np.nan, dtype)
        p = Upfirdn2d(*shape, out_h, out_w, up, down, pad[0], pad[2], taps, taps, separable, address(numbers))
        arguments = code, ctypes.byref(p), POINTER(address(x)), POINTER(address(y)), None
        assert on_host.dnnlib_upfirdn_2d_cuda(*arguments) == 0
        wanted = upfirdn_2d(x.astype(np.float64), kernel, up, down, pad, impl='ref')
        np.testing.assert_allclose(y.astype(np.float64), wanted, rtol=tolerance, atol=tolerance * 2,
                                   err_msg=f'{shape}, pad {pad}, separable {separable}')


def gradients(values, weights):
    """y, its first derivatives and those of <weights, first derivatives> in float64, by ref."""
    names = list(values)
    tensors = [tf.constant(value.astype(np.float64)) for value in values.values()]
    with tf.GradientTape() as outer:
        outer.watch(tensors)
        dy = tf.constant(weights['dy'].astype(np.float64))
        outer.watch(dy)
        with tf.GradientTape() as inner:
            inner.watch(tensors)
            y = fused_bias_act(impl='ref', **dict(zip(names, tensors)))
        first = dict(zip(names, inner.gradient(y, tensors, output_gradients=dy)))
        total = sum(tf.reduce_sum(first[name] * weights[name]) for name in names if name != 'noise')
    return y, first, dict(zip(['dy', *names], outer.gradient(total, [dy, *tensors], unconnected_gradients='zero')))


@pytest.mark.parametrize('code, dtype, tolerance', TYPES, ids=TYPE_IDS)
@pytest.mark.parametrize('parts', ['', 'bias', 'scale', 'noise', 'bias scale noise', 'bias noise', 'bias scale'])
@pytest.mark.parametrize('shape', [(3, 5, 7, 16), (2, 40, 40, 3), (70, 1, 1, 24), (2, 1, 1, 513)], ids=str)
def test_fused_bias_act_arithmetic(on_host, code, dtype, tolerance, parts, shape):
    n, pixels, c = shape[0], shape[1] * shape[2], shape[3]
    random = np.random.default_rng(c)

    def draw(*size):
        return random.normal(size=size).astype(dtype)

    has = {'bias': draw(c), 'scale': draw(n, c), 'noise': draw(n, *shape[1:3], 1)}
    values = {'x': draw(*shape), **{name: value for name, value in has.items() if name in parts.split()}}
    if 'noise' in values:
        values['noise_strength'] = draw()
    weights = {'dy': draw(*shape), **{name: draw(*np.shape(value)) for name, value in values.items()}}
    y, first, second = gradients(values, weights)
    get = {**dict.fromkeys(['scale', 'noise', 'bias', 'noise_strength']), **values}
    p = FusedBiasAct(n, pixels, c, address(get['bias']), address(get['scale']), address(get['noise']),
                     address(get['noise_strength']), pixels, 0.2, 2 ** 0.5)
    workspace = np.full(on_host.dnnlib_fused_bias_act_workspace(n, pixels, c) + 8, 1e30, np.float32)
    out = {name: np.full(np.shape(value), np.nan, dtype) for name, value in weights.items()}
    result = np.full(shape, np.nan, dtype)

    def close(own, wanted):
        scale = max(1, np.max(np.abs(wanted)))
        np.testing.assert_allclose(own.astype(np.float64) / scale, wanted / scale, rtol=0, atol=tolerance)

    def run(function, *arguments):
        assert getattr(on_host, function)(code, ctypes.byref(p), *arguments, None) == 0
        np.testing.assert_array_equal(workspace[-8:], np.float32(1e30))

    run('dnnlib_fused_bias_act_cuda', POINTER(address(values['x'])), POINTER(address(result)))
    close(result, y)
    sign_source = values['x'] if 'scale' in values else result
    given = [address(out[name]) if name in values else None for name in ('bias', 'scale', 'noise_strength')]
    g = Grad(address(weights['dy']), address(sign_source), address(out['x']), *given)
    run('dnnlib_fused_bias_act_grad_cuda', ctypes.byref(g), POINTER(address(workspace)))
    for name in values:
        if name != 'noise':
            close(out[name], first[name])
    given = [address(weights[name]) if name in values else None for name in ('bias', 'scale', 'noise_strength')]
    results = [address(out[name]) if name == 'dy' or 'scale' in values else None for name in ('dy', 'x', 'scale')
               if name in out or name == 'scale']
    gg = GradGrad(address(weights['x']), *given, address(weights['dy']), address(sign_source), *(results + [None])[:3])
    run('dnnlib_fused_bias_act_grad_grad_cuda', ctypes.byref(gg), POINTER(address(workspace)))
    for name in ('dy', 'x', 'scale') if 'scale' in values else ('dy',):
        close(out[name], second[name])


def test_a_filter_too_large_for_the_parameters_is_refused(on_host):
    kernel, x = np.ones(23 * 23, np.float32), np.zeros((1, 32, 32, 4), np.float32)
    p = Upfirdn2d(1, 32, 32, 4, 10, 10, 1, 1, 0, 0, 23, 23, False, address(kernel))
    assert on_host.dnnlib_upfirdn_2d_cuda(0, ctypes.byref(p), POINTER(address(x)), POINTER(address(x)), None) != 0
