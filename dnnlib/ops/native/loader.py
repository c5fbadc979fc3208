"""Loads the native ops, building them first where that was not done, and says who gets which implementation."""
import collections
import functools
import sys

import tensorflow as tf
from tensorflow.python.ops import control_flow_util

from dnnlib.ops.native import compiler
from dnnlib.util import UserError

IMPLS = ('auto', 'ref', 'portable', 'native')
CPU_TYPES = ('float32', 'float64')  # the GPU kernels know float32, float16 and bfloat16

Library = collections.namedtuple('Library', ['ops', 'info', 'problem'])  # ops is None where there is a problem


@functools.cache
def load():
    """The loaded ops, or the reason why there are none: built once per machine, loaded once per process."""
    try:
        path, info = compiler.build()
        ops = tf.load_op_library(path)
    except compiler.BuildError as error:
        return Library(None, {}, str(error))
    except (tf.errors.OpError, OSError) as error:  # a library that can't be loaded, a full disk
        return Library(None, {}, f'{str(error).splitlines()[0]}; mend that and run {compiler.COMMAND}')
    if tf.config.list_physical_devices('GPU') and not info['cuda']:
        return Library(ops, info, f'there is a GPU but {info["cuda_problem"]}')
    return Library(ops, info, None)


def resolve(impl, dtype='float32'):
    """The implementation that `impl` stands for here: 'ref' or 'native'.

    'auto' is 'native' where the ops load (building them first if need be) and have kernels for the dtype and for the
    GPU, if there is one; else 'ref', and the first time one line on stderr says why and what to do about it. What XLA
    compiles is always 'ref'. 'portable' is a 'ref' that other runtimes than TensorFlow read too.

    Raises:
        ValueError: an unknown impl, or 'native' inside tf.function(jit_compile=True).
        UserError: 'native' where the ops can't be loaded, with the reason and the remedy.
    """
    if impl not in IMPLS:
        raise ValueError(f'impl must be one of {", ".join(IMPLS)}, got {impl!r}')
    if impl == 'native' and compiled_by_xla():
        raise ValueError("XLA has no kernels for the native ops: pass impl='auto' inside tf.function(jit_compile=True)")
    if impl in ('ref', 'portable') or compiled_by_xla():
        return 'ref'
    found = load()
    if impl == 'native':
        if found.ops is None:
            raise UserError(f'the native ops are not available: {found.problem}')
        return 'native'
    if found.problem:
        _report(found.problem)
        return 'ref'
    half_on_cpu = tf.as_dtype(dtype).name not in CPU_TYPES and not tf.config.list_physical_devices('GPU')
    return 'ref' if half_on_cpu else 'native'


def compiled_by_xla():
    """Whether what is being traced is part of a tf.function(jit_compile=True)."""
    return control_flow_util.GraphOrParentsInXlaContext(tf.compat.v1.get_default_graph())


@functools.cache
def _report(problem):
    print(f'dnnlib: slower reference ops are used, because {problem}', file=sys.stderr, flush=True)
