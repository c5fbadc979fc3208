"""Snapshots and instances written by the TensorFlow of one lane load in that of the other, with the same images."""
import os
import subprocess
import sys

import numpy as np
import pytest

from dnnlib.lanes import HAS_KERAS_3
from helpers import ROOT

WORKER = os.path.join(ROOT, 'tests', 'lane_worker.py')


@pytest.fixture(scope='module')
def other_python():
    """The interpreter of the other lane's environment, which .ci/run makes."""
    python = os.environ.get('OTHER_LANE_PYTHON') or os.path.join(ROOT, '.venv-other', 'bin', 'python')
    if not os.path.exists(python):
        pytest.skip('there is no .venv-other (.ci/run makes it) and OTHER_LANE_PYTHON names no other')
    code = 'from dnnlib.lanes import HAS_KERAS_3; print(HAS_KERAS_3)'
    other = subprocess.check_output([python, '-c', code], cwd=ROOT, text=True)
    assert other != f'{HAS_KERAS_3}\n', f'{python} is of the same lane as {sys.executable}'
    return python


def work(python, *arguments):
    environment = {**os.environ, 'PYTHONPATH': os.pathsep.join([ROOT, os.path.join(ROOT, 'tests')])}
    result = subprocess.run([python, WORKER, *map(str, arguments)], env=environment, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr[-2000:]


@pytest.mark.parametrize('ours_first', [True, False])
def test_snapshots_and_instances_load_in_the_other_lane_with_equal_images(other_python, tmp_path, ours_first):
    writer, reader = (sys.executable, other_python) if ours_first else (other_python, sys.executable)
    work(writer, 'make', tmp_path, tmp_path / 'written.npz')
    work(reader, 'draw', tmp_path, tmp_path / 'read.npz')
    written, read = np.load(tmp_path / 'written.npz'), np.load(tmp_path / 'read.npz')
    assert written.files == read.files and len(read.files) > 100
    for name in ('images', 'instance', 'logits'):
        assert np.std(read[name]) > 1e-3
        np.testing.assert_allclose(read[name], written[name], rtol=0, atol=1e-5, err_msg=name)
    for name in read.files[3:]:
        np.testing.assert_array_equal(read[name], written[name], err_msg=name)
    assert not np.allclose(read['images'], read['instance'], atol=1e-2)  # alice's code is another: not one image twice
