import dataclasses
import json
import os
import socket
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
from tensorflow.python.framework.ops import _EagerTensorBase as tensor_type

from training.state import TrainState
from training.steps import Draw, TrainingSteps, draw

sys.path.insert(0, os.path.dirname(__file__))
from replica_worker import run_steps  # noqa: E402

WORKER = os.path.join(os.path.dirname(__file__), 'replica_worker.py')


@pytest.fixture
def reals():
    return np.random.default_rng(0).integers(0, 256, [3, 8, 16, 16, 3]).astype(np.uint8)


def careful(tiny_config):
    # With Adam's usual ε a weight moves by the sign of its gradient, so that rounding in a gradient of nearly 0 would
    # show as a whole step; a larger one makes updates a smooth function of gradients.
    return tiny_config(consistency_ramp='0-0', path_length_interval=2, r1_interval=2, adam_epsilon=1e-2)


def assert_same(first, second):
    for step_a, step_b in zip(first[0], second[0]):
        assert step_a.keys() == step_b.keys()
        for name, value in step_a.items():
            assert step_b[name] == pytest.approx(value, rel=1e-4, abs=1e-5), name
    assert first[1].keys() == second[1].keys()
    for name, value in first[1].items():
        np.testing.assert_allclose(second[1][name], value, rtol=1e-4, atol=1e-5, err_msg=name)


def test_two_replicas_make_the_update_of_one(tiny_config, reals):
    config = careful(tiny_config)
    one = run_steps(config, tf.distribute.get_strategy(), reals)
    two = run_steps(config, tf.distribute.MirroredStrategy(['/cpu:0', '/cpu:1']), reals)
    assert_same(one, two)
    moved = [name for name in one[1] if name.startswith('gradient') and np.abs(one[1][name]).max() > 0]
    assert len(moved) > 0.9 * sum(name.startswith('gradient') for name in one[1])


def test_a_step_reads_nothing_back_from_the_device(tiny_config, reals, monkeypatch):
    config = tiny_config(consistency_ramp='0-0')
    steps = TrainingSteps(config, TrainState(config, 16), tf.distribute.get_strategy())
    images = tf.constant(reals[0])
    steps(0, images)
    reads = []
    read = tensor_type._numpy
    monkeypatch.setattr(tensor_type, '_numpy', lambda self: reads.append(self.shape) or read(self))
    statistics = [steps(step, images) for step in range(1, 18)]
    assert not reads
    assert np.isfinite(float(statistics[-1]['loss/adversarial'])) and len(reads) == 1


def free_ports(count):
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(('localhost', 0))
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


def test_two_processes_make_the_update_of_one(tiny_config, reals, tmp_path):
    config = careful(tiny_config)
    np.save(tmp_path / 'reals.npy', reals)
    (tmp_path / 'options.json').write_text(json.dumps(dataclasses.asdict(config)))
    addresses = [f'localhost:{port}' for port in free_ports(2)]
    processes = []
    for index in range(2):
        cluster = {'cluster': {'worker': addresses}, 'task': {'type': 'worker', 'index': index}}
        processes.append(subprocess.Popen(
            [sys.executable, WORKER, str(tmp_path), str(tmp_path / 'out')], stderr=subprocess.PIPE,
            env={**os.environ, 'TF_CONFIG': json.dumps(cluster)}))
    try:
        for process in processes:
            _, errors = process.communicate(timeout=240)
            assert process.returncode == 0, errors.decode()[-2000:]
    finally:
        for process in processes:
            process.kill()
    one = run_steps(config, tf.distribute.get_strategy(), reals)
    for index in range(2):
        with np.load(tmp_path / f'out-{index}.npz') as arrays:
            values = {name: arrays[name] for name in arrays.files}
        assert_same(one, (json.loads(str(values.pop('statistics'))), values))


def test_draws_are_shares_of_the_whole_batch(tiny_config):
    config, shapes, seed = tiny_config(), [[4, 4, 1], [8, 8, 1]], tf.constant([3, 5])

    def arrays(share):
        one = draw(config, shapes, seed, 8, share)
        return [one.latents, one.fingerprints, one.other_fingerprints, *one.noise]

    whole, first, second = arrays((0, 8)), arrays((0, 4)), arrays((4, 4))
    for all_of_it, a, b in zip(whole, first, second):
        np.testing.assert_array_equal(all_of_it, np.concatenate([a, b]))
    assert set(np.unique(whole[1])) == {0, 1}
    assert isinstance(draw(config, shapes, seed, 8, (0, 8)), Draw)
    assert np.any(whole[1] != whole[2])


def test_draws_are_standard(tiny_config):
    config = tiny_config(latent_dim=64, fingerprint_bits=64)
    one = draw(config, [[16, 16, 1]], tf.constant([0, 0]), 512, (0, 512))
    for values in (one.latents, one.noise[0]):
        assert abs(np.mean(values)) < 0.02 and abs(np.std(values) - 1) < 0.02
    assert abs(np.mean(one.fingerprints) - 0.5) < 0.02


def test_phases_follow_their_intervals(tiny_config, reals):
    config = tiny_config(path_length_interval=4, r1_interval=2)
    steps = TrainingSteps(config, TrainState(config, 16), tf.distribute.get_strategy())
    for step in range(5):
        statistics = steps(step, tf.constant(reals[0]))
        assert ('loss/path_length' in statistics) == (step % 4 == 0)
        assert ('loss/r1' in statistics) == (step % 2 == 0)


def test_lazy_regularization_scales_adam(tiny_config):
    optimizers = TrainState(tiny_config(path_length_interval=4, r1_interval=16, adam_beta2=0.99), 16).optimizers
    for name, interval in (('E', 4), ('G', 4), ('D', 16)):
        ratio = interval / (interval + 1)
        assert float(optimizers[name].learning_rate) == pytest.approx(0.005 * ratio)
        assert optimizers[name].get_config()['beta_2'] == pytest.approx(0.99 ** ratio)
    assert float(optimizers['F'].learning_rate) == pytest.approx(0.005)


def test_consistency_term_enters_with_its_weight(tiny_config, reals):
    config = tiny_config(consistency_ramp='0-0', path_length_weight=0.0, r1_gamma=0.0, lambda_latent=0.5)
    steps = TrainingSteps(config, TrainState(config, 16), tf.distribute.get_strategy())
    seed = tf.constant([0, 0])
    loss, terms = steps.generator_loss(0, seed, 5.0, 3.0)
    expected = (terms['loss/adversarial'] + 0.5 * terms['loss/latent'] + 5 * terms['loss/fingerprint']
                + 3 * terms['loss/consistency'])
    assert float(loss) == pytest.approx(float(expected), rel=1e-5)
    without, terms = steps.generator_loss(0, seed, 5.0, None)
    assert 'loss/consistency' not in terms and float(without) != pytest.approx(float(loss))


def test_ema_half_life(tiny_config):
    config = tiny_config(ema_kimg=0.08)  # ten batches of eight
    state = TrainState(config, 16)
    steps = TrainingSteps(config, state, tf.distribute.get_strategy())
    before = [v.numpy() for v in state.averages['G'].trainable_variables]
    for variable in state.nets['G'].trainable_variables:
        variable.assign_add(tf.ones_like(variable))
    for _ in range(10):
        steps.update_averages()
    for start, variable in zip(before, state.averages['G'].trainable_variables):
        np.testing.assert_allclose(variable - start, 0.5, rtol=1e-4)


def test_averages_start_equal(tiny_config):
    state = TrainState(tiny_config(), 16)
    for name, average in state.averages.items():
        for a, b in zip(average.variables, state.nets[name].variables):
            np.testing.assert_array_equal(a, b)


def test_plain_stylegan2_trains(tiny_config, reals):
    config = tiny_config(generator='stylegan2', r1_interval=1, path_length_interval=1)
    state = TrainState(config, 16)
    steps = TrainingSteps(config, state, tf.distribute.get_strategy())
    before = state.nets['G'].get_weights()
    statistics = steps(0, tf.constant(reals[0]))
    assert 'loss/fingerprint' not in statistics and 'loss/path_length' in statistics
    assert all(np.isfinite(float(value)) for value in statistics.values())
    assert any(np.any(a != b) for a, b in zip(before, state.nets['G'].get_weights()))


def test_steps_compile_with_xla(tiny_config, reals):
    config = tiny_config(consistency_ramp='0-0')
    plain = TrainingSteps(config, TrainState(config, 16), tf.distribute.get_strategy())
    compiled = TrainingSteps(config, TrainState(config, 16), tf.distribute.get_strategy(), jit_compile=True)
    for name in ('discriminator', 'r1'):
        args = plain.arguments(name, 0, tf.constant(reals[0]))
        expected, actual = plain.functions[name](*args), compiled.functions[name](*args)
        assert all(np.isfinite(float(value)) for value in actual.values())
        if name == 'r1':  # no randomness in it: XLA draws other numbers from the same seed
            assert float(actual['loss/r1']) == pytest.approx(float(expected['loss/r1']), rel=0.2)
