"""Which GPUs a run takes, and how one on a CPU divides the cores among TensorFlow's threads."""
import os
import subprocess
import sys

import pytest
import tensorflow as tf

from helpers import PATIENCE, ROOT
from training.distribution import make_strategy

CODE = '''
import tensorflow as tf
from training.distribution import make_strategy
{first}
make_strategy(0)
print(tf.config.threading.get_inter_op_parallelism_threads(), tf.config.threading.get_intra_op_parallelism_threads())
'''


def threads(first='', **environment):
    kept = {name: value for name, value in os.environ.items() if not name.startswith('TF_NUM_')}
    result = subprocess.run([sys.executable, '-c', CODE.format(first=first)], cwd=ROOT, env={**kept, **environment},
                            capture_output=True, text=True, timeout=PATIENCE)
    assert result.returncode == 0, result.stderr
    return tuple(map(int, result.stdout.split()))


def test_two_ops_at_once_share_the_cores():
    cores = len(os.sched_getaffinity(0))
    assert threads() == (min(cores, 2), max(cores // 2, 1))


@pytest.mark.parametrize('name', ['TF_NUM_INTEROP_THREADS', 'TF_NUM_INTRAOP_THREADS'])
def test_the_users_own_choice_stays(name):
    assert threads(**{name: '1'}) == (0, 0)


def test_a_process_that_has_computed_keeps_its_threads():
    assert threads(first='tf.constant(1.0) + 1') == (0, 0)


@pytest.mark.parametrize('num_gpus, devices', [
    (1, None), (2, ['/gpu:0', '/gpu:1']), (3, ['/gpu:0', '/gpu:1', '/gpu:2'])])
def test_a_run_takes_as_many_gpus_as_it_was_told(num_gpus, devices, monkeypatch):
    gpus, visible = ['first', 'second', 'third'], {}
    monkeypatch.delenv('TF_CONFIG', raising=False)
    monkeypatch.setattr(tf.config, 'list_physical_devices', lambda kind: gpus)
    monkeypatch.setattr(tf.config, 'set_visible_devices', lambda chosen, kind: visible.update({kind: chosen}))
    monkeypatch.setattr(tf.distribute, 'MirroredStrategy', lambda names: names)
    strategy = make_strategy(num_gpus)
    assert visible == {'GPU': gpus[:num_gpus]}
    assert strategy == devices if devices else strategy.num_replicas_in_sync == 1


def test_tensorflow_is_told_to_leave_memory_to_others():
    code = "import os, dnnlib; print(os.environ['TF_FORCE_GPU_ALLOW_GROWTH'])"
    told = subprocess.run([sys.executable, '-c', code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert told.stdout.strip() == os.environ.get('TF_FORCE_GPU_ALLOW_GROWTH', 'true')
