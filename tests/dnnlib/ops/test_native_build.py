"""The build and the loader: without a compiler, with a broken one, with two processes at once."""
import os
import stat
import subprocess
import sys

import pytest

from dnnlib import lanes
from dnnlib.ops.native import compiler
from helpers import PATIENCE, ROOT

USE = '''
import numpy as np
from dnnlib.ops import native
from dnnlib.ops.upfirdn_2d import filter_kernel, upsample_2d
from dnnlib.util import UserError
x = np.ones([1, 4, 4, 3], np.float32)
assert np.allclose(upsample_2d(x, filter_kernel()), upsample_2d(x, filter_kernel(), 'ref'))
upsample_2d(x, filter_kernel())
try:
    print(native.resolve('auto'), native.resolve('native'))
except UserError as error:
    print(native.resolve('auto'), error)
'''


def python(code, tmp_path, path=None, **environment):
    """Starts Python with its own cache folder; `path` replaces PATH."""
    environment = {**os.environ, 'XDG_CACHE_HOME': str(tmp_path / 'cache'), 'PYTHONPATH': ROOT, **environment}
    environment['PATH'] = environment['PATH'] if path is None else str(path)
    return subprocess.Popen([sys.executable, '-c', code], env=environment, text=True, stdout=subprocess.PIPE,
                            stderr=subprocess.PIPE, cwd=ROOT)


def finish(process):
    out, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, err
    return out.strip(), [line for line in err.splitlines() if line.startswith('dnnlib:')]


def script(path, body):
    path.write_text('#!/bin/sh\n' + body)
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


def test_without_a_compiler_everything_works_and_one_line_says_why(tmp_path):
    (tmp_path / 'empty').mkdir()
    out, lines = finish(python(USE, tmp_path, path=tmp_path / 'empty'))
    assert out.startswith('ref the native ops are not available: there is no C++ compiler on PATH; install g++')
    assert len(lines) == 1 and 'python -m dnnlib.ops.native.build' in lines[0]


def test_a_failed_build_is_tried_once_remembered_and_reported_in_one_line(tmp_path):
    compiler = script(tmp_path / 'g++', f'case $1 in --version) echo 1;; *) echo x >> {tmp_path}/calls; '
                                        'echo "f.cc:1: error: no such luck" >&2; exit 1;; esac\n')
    for expected in (2, 1):  # lines: "building" and the problem; then only the problem
        out, lines = finish(python(USE, tmp_path, path=compiler.parent))
        assert out.startswith('ref') and len(lines) == expected
        assert 'no such luck' in lines[-1] and 'python -m dnnlib.ops.native.build' in lines[-1]
        calls = (tmp_path / 'calls').read_text()
    built = python('from dnnlib.ops.native import build; build.main()', tmp_path, path=compiler.parent)
    assert 'not built' in finish(built)[0]
    assert len((tmp_path / 'calls').read_text()) > len(calls)  # asked for by name, it tries again


def test_two_processes_build_once_and_nothing_half_built_is_seen(tmp_path):
    script(tmp_path / 'g++', f'''case $1 in --version) echo 1; exit;; -shared) echo x >> {tmp_path}/links;; esac
        /bin/sleep 0.3; while [ "$1" != -o ]; do shift; done; echo built > "$2"\n''')
    code = '''from dnnlib.ops.native import compiler; path, info = compiler.build(); print(path, open(path).read())'''
    outs = [finish(process)[0] for process in [python(code, tmp_path, path=tmp_path) for _ in range(2)]]
    assert outs[0] == outs[1] and outs[0].endswith('built')
    assert (tmp_path / 'links').read_text() == 'x\n'
    left = sorted(name.split('.')[-1] for name in os.listdir(tmp_path / 'cache' / 'dnnlib'))
    assert left == ['json', 'lock', 'so']
    (tmp_path / 'g++').unlink()  # a slim container keeps the cache and not the compiler
    assert finish(python(code, tmp_path, path=tmp_path))[0] == outs[0]


def test_the_cache_folder_need_not_be_writable(tmp_path):
    (tmp_path / 'cache').write_text('a file where the folder should be')
    out, lines = finish(python(USE, tmp_path))
    assert out.startswith('ref') and len(lines) == 1


@pytest.mark.parametrize('gpus, known, expected', [
    ('', '80 90 100 120', lanes.CUDA_ARCHITECTURES), ('', '80 90', ('80', '90')),
    ('12.0 8.0 8.0', '80 90 100 120', ('80', '120')), ('7.0', '80 90', ())])
def test_architectures_are_those_of_the_gpus_or_a_list_in_numerical_order(tmp_path, monkeypatch, gpus, known, expected):
    script(tmp_path / 'g++', 'echo 1')
    script(tmp_path / 'nvidia-smi', f'echo {gpus}')
    script(tmp_path / 'nvcc', f'for a in {known}; do echo compute_$a; done')
    monkeypatch.setenv('PATH', str(tmp_path))
    tools = compiler.toolchain()
    assert tools.architectures == expected
    if expected:  # code of the newest for GPUs that are newer still
        assert compiler.cuda_flags(expected)[-1] == f'arch=compute_{expected[-1]},code=compute_{expected[-1]}'


def test_an_nvcc_that_does_not_know_the_gpu_is_told_from_none(tmp_path):
    script(tmp_path / 'g++', 'while [ $# -gt 0 ]; do [ "$1" = -o ] && echo built > "$2"; shift; done')
    code = 'from dnnlib.ops.native import compiler; print(compiler.build()[1]["cuda_problem"])'
    assert 'no nvcc is on PATH' in finish(python(code, tmp_path, path=tmp_path))[0]
    script(tmp_path / 'nvidia-smi', 'echo 7.0')
    script(tmp_path / 'nvcc', 'echo compute_80')
    assert f'{tmp_path}/nvcc knows no GPU of this machine' in finish(python(code, tmp_path, path=tmp_path))[0]


def test_mirrored_strategy_over_two_devices_equals_one(tmp_path):
    from dnnlib.ops import native
    if native.load().ops is None:
        pytest.skip(f'no native ops: {native.load().problem}')
    code = '''
import numpy as np, tensorflow as tf
from dnnlib.ops.fused_bias_act import fused_bias_act
from dnnlib.ops.upfirdn_2d import downsample_2d, filter_kernel
tf.config.set_logical_device_configuration(
    tf.config.list_physical_devices('CPU')[0], [tf.config.LogicalDeviceConfiguration()] * 2)
strategy = tf.distribute.MirroredStrategy(['/CPU:0', '/CPU:1'])
with strategy.scope():
    bias = tf.Variable(tf.ones([3]))
x = np.random.default_rng(0).normal(size=[4, 8, 8, 3]).astype(np.float32)
def gradient(x):
    with tf.GradientTape() as outer:
        with tf.GradientTape() as inner:
            inner.watch(x)
            y = fused_bias_act(downsample_2d(x, filter_kernel(), 'native') ** 2, bias, impl='native')
        penalty = tf.reduce_sum(inner.gradient(y, x, output_gradients=y) ** 2)
    return outer.gradient(penalty, bias)
def replica(context):
    return gradient(tf.constant(x)[context.replica_id_in_sync_group * 2:][:2])
per_replica = tf.function(lambda: strategy.run(
    lambda: replica(tf.distribute.get_replica_context())))()
total = sum(strategy.experimental_local_results(per_replica))
np.testing.assert_allclose(total, gradient(tf.constant(x)), rtol=1e-4)
print('equal')
'''
    process = python(code, tmp_path, XDG_CACHE_HOME=os.environ.get('XDG_CACHE_HOME', ''))
    assert finish(process)[0].endswith('equal')
