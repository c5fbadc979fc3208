"""The two sets of versions ("lanes") this project runs on, and everything that differs between them.

    Python 3.9 to 3.11     TensorFlow 2.15.1, whose tf.keras is Keras 2                        constraints.txt
    Python 3.12 and 3.13   TensorFlow 2.21, with Keras 2 from tf-keras instead of its Keras 3  constraints-3.12.txt

Importing dnnlib calls `prepare`, before TensorFlow is imported. The versions themselves are in setup.py. Imports no
TensorFlow.
"""
import contextlib
import importlib.abc
import importlib.machinery
import os
import subprocess
import sys

IS_SUPPORTED = (3, 9) <= sys.version_info[:2] <= (3, 13)
HAS_KERAS_3 = sys.version_info >= (3, 12)
TENSORFLOW = '2.21.0' if HAS_KERAS_3 else '2.15.1'
# What nvcc builds for without a GPU in sight, as far as it knows them. TensorFlow 2.15's CUDA 12.2 ends at Hopper.
CUDA_ARCHITECTURES = ('80', '90', '100', '120') if HAS_KERAS_3 else ('80', '90')
CONSTRAINTS = 'constraints-3.12.txt' if HAS_KERAS_3 else 'constraints.txt'
FILTER = os.path.join(os.path.dirname(os.path.abspath(__file__)), 'stderr_filter.py')


def prepare():
    """Sets what TensorFlow reads from the environment when it is imported. Call it once, before that."""
    # Messages at start would bury the one line a user should read.
    os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '3')
    # Takes of a GPU's memory what it needs instead of all there is, so that others can use it too.
    os.environ.setdefault('TF_FORCE_GPU_ALLOW_GROWTH', 'true')
    if HAS_KERAS_3:
        os.environ['TF_USE_LEGACY_KERAS'] = '1'  # the networks and their checkpoints are Keras 2's
        # TensorFlow 2.21 ignores TF_CPP_MIN_LOG_LEVEL while it is imported (its issue 100442).
        if os.environ['TF_CPP_MIN_LOG_LEVEL'] != '0' and 'tensorflow' not in sys.modules:
            sys.meta_path.insert(0, _QuietFinder())
    else:
        os.environ.pop('TF_USE_LEGACY_KERAS', None)  # needs tf-keras, which is not installed here


class _QuietFinder(importlib.abc.MetaPathFinder):
    """Finds tensorflow, once, with a loader that filters what its import prints."""

    def find_spec(self, fullname, path=None, target=None):
        if fullname != 'tensorflow':
            return None
        sys.meta_path.remove(self)
        spec = importlib.machinery.PathFinder.find_spec(fullname, path, target)
        if spec is not None and spec.loader is not None:
            execute = spec.loader.exec_module

            def execute_quietly(module):
                with _filtered_stderr():
                    execute(module)

            spec.loader.exec_module = execute_quietly
        return spec


@contextlib.contextmanager
def _filtered_stderr():
    """Sends file descriptor 2 through another process, which outlives this one should TensorFlow abort it."""
    sys.stderr.flush()
    process = subprocess.Popen([sys.executable, '-I', '-S', FILTER], stdin=subprocess.PIPE)
    saved = os.dup(2)
    os.dup2(process.stdin.fileno(), 2)
    try:
        yield
    finally:
        sys.stderr.flush()
        os.dup2(saved, 2)
        os.close(saved)
        process.stdin.close()
        process.wait()
