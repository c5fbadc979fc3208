import collections
import json
import os
import socket
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
from tensorflow.python.framework.ops import _EagerTensorBase as tensor_type

from helpers import PATIENCE, ROOT, networks, tiny_config
from models import fingerprinted
from models.sampling import BatchPart, phase_seed, sample_noise
from replica_worker import run_steps
from training.config import to_record
from training.state import TrainState
from training.step import TrainStep

PRESET_OF = {'fingerprinted': 'config-e', 'bound': 'quickstart', 'stylegan2': 'stylegan2'}
# Collective operations of two strategies in one process take each other's shapes.
ONE_BY_ONE = tf.distribute.ReductionToOneDevice()


@pytest.fixture
def reals():
    return np.random.default_rng(0).integers(0, 256, [3, 8, 16, 16, 3]).astype(np.uint8)


def smooth_config(**overrides):
    # With Adam's usual ε a weight moves by the sign of its gradient, so that rounding in a gradient of nearly 0 would
    # show as a whole step; a larger one makes updates a smooth function of gradients.
    return tiny_config(**{**dict(lambda_consistency='10', path_length_interval=2, r1_interval=2, adam_epsilon=1e-2),
                          **overrides})


def assert_same(first, second):
    for step_a, step_b in zip(first[0], second[0]):
        assert step_a.keys() == step_b.keys()
        for name, value in step_a.items():
            assert step_b[name] == pytest.approx(value, rel=1e-4, abs=1e-5), name
    assert first[1].keys() == second[1].keys()
    for name, value in first[1].items():
        np.testing.assert_allclose(second[1][name], value, rtol=1e-4, atol=1e-5, err_msg=name)


def test_two_replicas_make_the_update_of_one(reals):
    config = smooth_config()
    one = run_steps(config, tf.distribute.get_strategy(), reals)
    two = run_steps(config, tf.distribute.MirroredStrategy(['/cpu:0', '/cpu:1']), reals)
    assert_same(one, two)
    moved = [name for name in one[1] if name.startswith('gradient') and np.abs(one[1][name]).max() > 0]
    assert len(moved) > 0.9 * sum(name.startswith('gradient') for name in one[1])


def few_channels(method, batch_size, **overrides):
    """A configuration in which every phase is due at every step."""
    return smooth_config(**{**dict(
        preset=PRESET_OF[method], method=method, batch_size=batch_size,
        tick_kimg=batch_size // 4, total_kimg=batch_size, fmap_max=2, latent_dim=2, mapping_layers=1,
        mapping_lrmul=1.0, path_length_interval=1, r1_interval=1), **overrides})


@pytest.fixture
def eager():
    """Without graphs, of which sixteen replicas take minutes to build."""
    tf.config.run_functions_eagerly(True)
    yield
    tf.config.run_functions_eagerly(False)


def random_images(steps, batch_size):
    return np.random.default_rng(1).integers(0, 256, [steps, batch_size, 16, 16, 3]).astype(np.uint8)


@pytest.mark.parametrize('method, batch_size, count', [
    ('fingerprinted', 24, 3), ('fingerprinted', 32, 8), ('stylegan2', 16, 4), ('stylegan2', 64, 16)])
def test_any_number_of_replicas_makes_the_same_update(eager, method, batch_size, count):
    """One step; the smallest networks, and for most replicas those of the method that has the fewest."""
    images, config = random_images(1, batch_size), few_channels(method, batch_size)
    one = run_steps(config, tf.distribute.get_strategy(), images)
    assert {'path_length', 'loss/r1', 'loss/discriminator', 'loss/adversarial'} <= one[0][0].keys()
    strategy = tf.distribute.MirroredStrategy([f'/cpu:{i}' for i in range(count)], ONE_BY_ONE)
    assert_same(one, run_steps(config, strategy, images))


def assert_equal_to_1e_5(first, second):
    """Statistics and means, and each network's gradient by its norm; each tensor to what its sums lose by rounding."""
    for expected, found in zip(first[0], second[0]):
        assert found == pytest.approx(expected, rel=1e-5)
    assert first[1].keys() == second[1].keys()
    squares = collections.defaultdict(float)
    for name, value in first[1].items():
        kind, _, rest = name.partition(' ')
        if kind == 'gradient':
            net = rest.split('/')[0]
            squares[net] += np.sum(np.square(value))
            squares[f'error of {net}'] += np.sum(np.square(second[1][name] - value))
        tolerance = {'gradient': 1e-4 * np.abs(value).max() + 1e-9, 'weight': 1e-6}.get(kind)
        np.testing.assert_allclose(second[1][name], value, rtol=1e-5, atol=tolerance or 1e-7, err_msg=name)
    nets = [name for name in squares if not name.startswith('error')]
    assert 'D' in nets and all(squares[f'error of {net}'] <= 1e-10 * squares[net] for net in nets), squares


@pytest.mark.parametrize('method, length', [('fingerprinted', 4), ('bound', 8), ('stylegan2', 4)])
def test_parts_of_a_batch_make_the_update_of_the_whole(eager, method, length):
    """Two steps: the second sees what the first did to the running means of path lengths and of w."""
    images = random_images(2, 16)
    options = {'immunize': 'crop,noise'} if method == 'fingerprinted' else {}
    whole, parts = (run_steps(few_channels(method, 16, batch_per_replica=size, **options),
                              tf.distribute.get_strategy(), images) for size in (0, length))
    assert {'path_length', 'loss/r1'} <= whole[0][0].keys() and 'path_length' in whole[1]
    assert ('mean_w' in whole[1]) == (method == 'stylegan2')
    assert_equal_to_1e_5(whole, parts)


def test_parts_in_a_compiled_phase_save_memory():
    """A graph, in which the parts are a loop, one after another. Tensors below 256 KiB are not in what is counted."""
    images, found, memory = tf.random.stateless_uniform([32, 64, 64, 3], [0, 0], -1, 1), [], []
    for size in (0, 8):
        config = few_channels('stylegan2', 32, batch_per_replica=size, fmap_base=128, fmap_max=4)
        train_step = TrainStep(config, TrainState(config, 64), tf.distribute.get_strategy())
        (phase,) = [phase for phase in train_step.state.phases if phase.name == 'discriminator']
        run = train_step.compiled[phase.name].get_concrete_function(*train_step.arguments(phase, 0, images))
        before = tf.config.experimental.get_memory_info('CPU:0')['current']
        tf.config.experimental.reset_memory_stats('CPU:0')
        statistics = run(*train_step.arguments(phase, 0, images))
        memory.append(tf.config.experimental.get_memory_info('CPU:0')['peak'] - before)
        found.append([float(value) for value in statistics.values()] + train_step.state.nets['D'].get_weights())
    for whole, parts in zip(*found):
        np.testing.assert_allclose(parts, whole, rtol=1e-5, atol=1e-6)
    assert memory[1] < 0.4 * memory[0], memory


def test_a_step_reads_nothing_back_from_the_device(reals, monkeypatch):
    config = tiny_config(lambda_consistency='10')
    train_step = TrainStep(config, TrainState(config, 16), tf.distribute.get_strategy())
    images = tf.constant(reals[0])
    train_step.run(0, images)
    reads = []
    read = tensor_type._numpy
    monkeypatch.setattr(tensor_type, '_numpy', lambda self: reads.append(self.shape) or read(self))
    statistics = [train_step.run(step, images) for step in range(1, 18)]
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


def test_two_processes_make_the_update_of_one(reals, tmp_path):
    config = smooth_config()
    np.save(tmp_path / 'reals.npy', reals)
    (tmp_path / 'options.json').write_text(json.dumps(to_record(config)))
    addresses = [f'localhost:{port}' for port in free_ports(2)]
    processes = []
    for index in range(2):
        cluster = {'cluster': {'worker': addresses}, 'task': {'type': 'worker', 'index': index}}
        processes.append(subprocess.Popen(
            [sys.executable, '-m', 'replica_worker', str(tmp_path), str(tmp_path / 'out')], stderr=subprocess.PIPE,
            cwd=ROOT,
            env={**os.environ, 'TF_CONFIG': json.dumps(cluster), 'PYTHONPATH': f'{ROOT}:{ROOT}/tests/training'}))
    try:
        for process in processes:
            _, errors = process.communicate(timeout=PATIENCE)
            assert process.returncode == 0, errors.decode()[-2000:]
    finally:
        for process in processes:
            process.kill()
    one = run_steps(config, tf.distribute.get_strategy(), reals)
    for index in range(2):
        with np.load(tmp_path / f'out-{index}.npz') as arrays:
            values = {name: arrays[name] for name in arrays.files}
        assert_same(one, (json.loads(str(values.pop('statistics'))), values))


def test_replicas_draw_parts_of_the_whole_batch():
    config, seed = tiny_config(), tf.constant([3, 5])
    nets = networks(config)

    def arrays(offset, length):
        batch = fingerprinted.sample_batch(config, nets, seed, BatchPart(8, offset, length))
        return [batch.latents, batch.fingerprints, batch.other_fingerprints, *batch.noise]

    whole, first, second = arrays(0, 8), arrays(0, 4), arrays(4, 4)
    for all_of_it, a, b in zip(whole, first, second):
        np.testing.assert_array_equal(all_of_it, np.concatenate([a, b]))
    assert set(np.unique(whole[1])) == {0, 1}
    assert np.any(whole[1] != whole[2])


def test_random_inputs_are_standard():
    part = BatchPart(512, 0, 512)
    for values in (part.normal([0, 1], [64]), sample_noise(part, [0, 2], [[16, 16, 1], [8, 8, 1]])[0]):
        assert abs(np.mean(values)) < 0.02 and abs(np.std(values) - 1) < 0.02
    assert abs(np.mean(part.bits([0, 3], 64)) - 0.5) < 0.02


def test_no_two_steps_or_phases_share_a_seed():
    """Folding (run seed, step) into 32 bits, as tf.random.fold_in does, repeats 16 of config-e's 375,000 steps."""
    @tf.function
    def seeds(steps):
        return tf.map_fn(lambda step: phase_seed(tf.stack([0, step]), 'generator'), steps)

    count = 375_000
    found = seeds(tf.range(count)).numpy().astype(np.int64)
    assert len(np.unique(found[:, 0] * 2 ** 32 + found[:, 1])) == count
    assert phase_seed([0, 1], 'generator').numpy().tolist() != phase_seed([0, 1], 'discriminator').numpy().tolist()


def test_switching_a_phase_off_changes_no_other_phases_draws(reals):
    """D's first loss and R1's are those of the run with path length regularization."""
    def first_losses(**overrides):
        config = tiny_config(learning_rate=1e-30, **overrides)
        train_step = TrainStep(config, TrainState(config, 16), tf.distribute.get_strategy())
        return {name: float(value) for name, value in train_step.run(0, tf.constant(reals[0])).items()}

    both, without = first_losses(), first_losses(path_length_weight=0.0)
    assert 'loss/path_length' in both and 'loss/path_length' not in without
    assert without == {name: both[name] for name in without}


def test_phases_follow_their_intervals(reals):
    config = tiny_config(path_length_interval=4, r1_interval=2)
    train_step = TrainStep(config, TrainState(config, 16), tf.distribute.get_strategy())
    for step in range(5):
        statistics = train_step.run(step, tf.constant(reals[0]))
        assert ('loss/path_length' in statistics) == (step % 4 == 0)
        assert ('loss/r1' in statistics) == (step % 2 == 0)


@pytest.mark.parametrize('weight', [2.0, 0.0])
def test_lazy_regularization_scales_adam(weight):
    """F shares the settings of G, with which it is trained; a regularizer of weight 0 leaves the correction alone."""
    config = tiny_config(path_length_interval=4, path_length_weight=weight, r1_interval=16, adam_beta2=0.99)
    optimizers = TrainState(config, 16).optimizers
    assert set(optimizers) == {'E', 'G', 'D', 'F'}
    for name, interval in (('E', 4), ('G', 4), ('F', 4), ('D', 16)):
        ratio = interval / (interval + 1)
        assert float(optimizers[name].learning_rate) == pytest.approx(0.005 * ratio)
        assert optimizers[name].get_config()['beta_2'] == pytest.approx(0.99 ** ratio)


def test_without_a_regularizer_adam_is_as_given():
    optimizers = TrainState(tiny_config(path_length_interval=0, r1_interval=0), 16).optimizers
    assert {float(optimizer.learning_rate) for optimizer in optimizers.values()} == {np.float32(0.005)}


SCHEDULED = dict(path_length_interval=2, r1_interval=4)
UPDATES = {'G': 1.5, 'F': 1.0, 'D': 1.25}  # a step; F has the settings of G, and none of its regularizer's updates


@pytest.mark.parametrize('schedule', ['0.004:0.1-0.4:0.001', '0.004:0.2-0.2:0.001'])
def test_learning_rate_follows_its_schedule(schedule):
    config = tiny_config(learning_rate=schedule, **SCHEDULED)
    optimizers = TrainState(config, 16).optimizers
    for name, ratio in (('G', 2 / 3), ('F', 2 / 3), ('D', 4 / 5)):
        for step in range(0, 128, 4):
            rate = optimizers[name].learning_rate(step * UPDATES[name])
            assert float(rate) == pytest.approx(ratio * config.learning_rate.at(step * config.batch_size), rel=1e-5)


def test_updates_of_an_optimizer(reals):
    """What a scheduled learning rate counts on."""
    config = tiny_config(learning_rate='0.004:0.1-0.4:0.001', **SCHEDULED)
    train_step = TrainStep(config, TrainState(config, 16), tf.distribute.get_strategy())
    for step in range(4):
        train_step.run(step, tf.constant(reals[0]))
    assert {name: int(train_step.state.optimizers[name].iterations) / 4 for name in UPDATES} == UPDATES


def test_consistency_term_enters_with_its_weight(reals):
    config = tiny_config(lambda_consistency='10', path_length_weight=0.0, r1_gamma=0.0, lambda_latent=0.5)
    train_step = TrainStep(config, TrainState(config, 16), tf.distribute.get_strategy())
    nets = train_step.state.nets
    batch = fingerprinted.sample_batch(config, nets, [0, 0], BatchPart(8, 0, 8))
    loss, terms = fingerprinted.generator_loss(config, nets, batch, 5.0, 3.0)
    expected = (terms['loss/adversarial'] + 0.5 * terms['loss/latent'] + 5 * terms['loss/fingerprint']
                + 3 * terms['loss/consistency'])
    assert float(loss) == pytest.approx(float(expected), rel=1e-5)
    without, terms = fingerprinted.generator_loss(config, nets, batch, 5.0, None)
    assert 'loss/consistency' not in terms and float(without) != pytest.approx(float(loss))


def test_ema_half_life():
    config = tiny_config(ema_kimg=0.08)  # ten batches of eight
    state = TrainState(config, 16)
    train_step = TrainStep(config, state, tf.distribute.get_strategy())
    before = [v.numpy() for v in state.ema['G'].trainable_variables]
    for variable in state.nets['G'].trainable_variables:
        variable.assign_add(tf.ones_like(variable))
    for _ in range(10):
        train_step.update_ema()
    for start, variable in zip(before, state.ema['G'].trainable_variables):
        np.testing.assert_allclose(variable - start, 0.5, rtol=1e-4)


def test_averages_start_equal():
    state = TrainState(tiny_config(), 16)
    for name, average in state.ema.items():
        for a, b in zip(average.variables, state.nets[name].variables):
            np.testing.assert_array_equal(a, b)


def test_plain_stylegan2_trains(reals):
    config = tiny_config(method='stylegan2', r1_interval=1, path_length_interval=1)
    state = TrainState(config, 16)
    train_step = TrainStep(config, state, tf.distribute.get_strategy())
    before = state.nets['G'].get_weights()
    statistics = train_step.run(0, tf.constant(reals[0]))
    assert 'loss/fingerprint' not in statistics and 'loss/path_length' in statistics
    assert all(np.isfinite(float(value)) for value in statistics.values())
    assert any(np.any(a != b) for a, b in zip(before, state.nets['G'].get_weights()))


def test_steps_compile_with_xla(reals):
    config = tiny_config(lambda_consistency='10')
    plain = TrainStep(config, TrainState(config, 16), tf.distribute.get_strategy())
    compiled = TrainStep(config, TrainState(config, 16), tf.distribute.get_strategy(), jit_compile=True)
    for phase in plain.state.phases:
        if phase.trains != ('D',):
            continue
        args = plain.arguments(phase, 0, tf.constant(reals[0]))
        expected, actual = plain.compiled[phase.name](*args), compiled.compiled[phase.name](*args)
        assert all(np.isfinite(float(value)) for value in actual.values())
        if phase.name == 'r1':  # no randomness in it: XLA draws other numbers from the same seed
            assert float(actual['loss/r1']) == pytest.approx(float(expected['loss/r1']), rel=0.2)
