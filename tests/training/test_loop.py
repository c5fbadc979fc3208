"""The run as a user meets it: its folder, resume after a kill, and every way it refuses."""
import dataclasses
import json
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import time

import numpy as np
import pytest
import tensorflow as tf

from dnnlib.util import UsageError, UserError, read_json, read_json_lines, write_json
from helpers import PATIENCE, ROOT, TINY, flags_of, tiny_config, write_dataset
from training.config import Plan
from training.loop import train
from training.snapshot import Snapshot, list_snapshots, snapshot_files

FLAGS = {**TINY, 'lambda_consistency': '0:1-3:10'}


@pytest.fixture(scope='module')
def dataset(tmp_path_factory):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, [48, 16, 16, 3]).astype(np.uint8)
    return write_dataset(str(tmp_path_factory.mktemp('data') / 'noise'), 'noise', 'random pixels',
                         images[:40], images[40:])


def command(dataset, run_dir, **overrides):
    flags = {**FLAGS, **overrides, 'dataset': dataset.path, 'run_dir': run_dir, 'num_gpus': 0}
    return [sys.executable, 'run_training.py', '--config=quickstart', *flags_of(flags)]


def run(args, **kwargs):
    return subprocess.run(args, cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE, **kwargs)


@pytest.fixture(scope='module')
def finished(dataset, tmp_path_factory):
    """A run that nobody disturbed: its folder and what it printed."""
    folder = str(tmp_path_factory.mktemp('runs') / 'whole')
    result = run(command(dataset, folder, metrics='bit_accuracy', metric_images=16))
    assert result.returncode == 0, result.stderr
    return folder, result.stdout


def values(run_dir):
    path = list_snapshots(run_dir)[-1][1]
    reader = tf.train.load_checkpoint(path)
    return {name: reader.get_tensor(name) for name in reader.get_variable_to_shape_map()}


def losses(run_dir):
    return [{name: value for name, value in line.items() if name != 'images_per_second'}
            for line in read_json_lines(os.path.join(run_dir, 'stats.jsonl'))]


def test_run_folder(finished, dataset):
    folder, printed = finished
    names = set(os.listdir(folder))
    grids = {f'fakes_{kind}_{kimg:06d}.png' for kind in ('arbitrary', 'same_fingerprint', 'same_latent')
             for kimg in (0, 4)}
    assert {'training_options.json', 'log.txt', 'stats.jsonl', 'metrics.jsonl', 'reals.png', *grids} <= names
    assert any('tfevents' in name for name in os.listdir(os.path.join(folder, 'events')))
    assert [kimg for kimg, _ in list_snapshots(folder)] == [1, 2, 3, 4]
    assert read_json(os.path.join(folder, 'training_options.json'))['dataset']['digest'] == dataset.digest
    lines = losses(folder)
    assert [line['kimg'] for line in lines] == [1, 2, 3, 4]
    assert 'loss/consistency' not in lines[0] and 'loss/consistency' in lines[1]
    assert [line['kimg'] for line in read_json_lines(os.path.join(folder, 'metrics.jsonl'))] == [1, 2, 3, 4]
    assert re.search(r'kimg 4/4 .*img/s.*fingerprint \d', printed)


def test_finished_run_has_nothing_left_to_do(finished, dataset):
    folder, _ = finished
    before = losses(folder)
    result = run(command(dataset, folder, metrics='bit_accuracy', metric_images=16))
    assert result.returncode == 0 and 'resuming' in result.stdout and losses(folder) == before


def test_kill_and_resume_repeats_the_uninterrupted_run(finished, dataset, tmp_path):
    """kill -9 at random moments, a resume each time, then the same losses and the same bits in every variable."""
    folder, chance, kills = str(tmp_path / 'killed'), random.Random(time.time()), 0
    for _ in range(12):
        process = subprocess.Popen(command(dataset, folder), cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        # The third kill at the latest comes after training has begun, whatever the machine's speed.
        wait = chance.uniform(0, 3)
        while process.poll() is None and not os.path.exists(os.path.join(folder, 'snapshots', 'snapshot-1.index')):
            time.sleep(0.05)
        try:
            process.wait(wait if kills < 3 else PATIENCE)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            kills += 1
        output = process.communicate()[0].decode()
        assert process.returncode in (0, -signal.SIGKILL), output
        if process.returncode == 0:
            break
    assert kills, 'the run ended before it could be killed'
    assert process.returncode == 0
    assert losses(folder) == losses(finished[0])
    expected, actual = values(finished[0]), values(folder)
    assert expected.keys() == actual.keys()
    for name, value in expected.items():
        if name != 'save_counter/.ATTRIBUTES/VARIABLE_VALUE':  # how often this process saved
            np.testing.assert_array_equal(actual[name], value, err_msg=name)


def stopped(dataset, folder, number, line, pause):
    """Starts the run, sends it a signal a moment after it printed `line`; returns (exit code, what it printed)."""
    process = subprocess.Popen(command(dataset, folder, snapshot_ticks=4), cwd=ROOT, stdout=subprocess.PIPE,
                               stderr=subprocess.PIPE, text=True,
                               preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler))
    printed = []
    while not printed or line not in printed[-1]:
        printed.append(process.stdout.readline())
        assert printed[-1], process.communicate()
    time.sleep(pause)
    process.send_signal(number)
    more, error = process.communicate(timeout=PATIENCE)
    return process.returncode, ''.join(printed) + more, error


def test_a_run_that_is_told_to_stop_loses_nothing(finished, dataset, tmp_path):
    """SIGTERM, as Slurm and clouds send it, and Ctrl-C, within a tick: the same losses and bits as the whole run's."""
    folder = str(tmp_path / 'run')
    first = stopped(dataset, folder, signal.SIGTERM, 'kimg 1/4', 0.05)
    assert (first[0], first[2]) == (143, 'run_training.py: terminated\n'), first
    images = int(re.search(r'stopped after (\d+) images; the same command goes on', first[1])[1])
    assert images >= 1000 and images % FLAGS['batch_size'] == 0
    kept = os.path.join(folder, 'preempted')
    assert oct(os.stat(kept).st_mode)[-3:] == '700'
    assert {oct(os.stat(os.path.join(kept, name)).st_mode)[-3:] for name in os.listdir(kept)} == {'600'}
    second = stopped(dataset, folder, signal.SIGINT, 'resuming', 0.5)
    assert (second[0], second[2]) == (130, 'run_training.py: interrupted\n'), second
    result = run(command(dataset, folder, snapshot_ticks=4))
    assert result.returncode == 0 and f'resuming {folder} ' in result.stdout, result.stderr
    assert losses(folder) == losses(finished[0])
    expected, actual = values(finished[0]), values(folder)
    assert expected.keys() == actual.keys()
    for name, value in expected.items():
        if name != 'save_counter/.ATTRIBUTES/VARIABLE_VALUE':
            np.testing.assert_array_equal(actual[name], value, err_msg=name)
    assert not os.path.exists(kept)


def test_a_save_that_is_cut_off_leaves_nothing(dataset, tmp_path, monkeypatch):
    """A full disk at the second snapshot; and what a kill has left there goes with the next start."""
    def fail(self, checkpoint_number):
        if checkpoint_number == 2:
            os.makedirs(os.path.join(self.directory, 'snapshot-2_temp', 'part'))
            raise OSError(28, 'No space left on device')
        return save(self, checkpoint_number=checkpoint_number)

    save, snapshots = tf.train.CheckpointManager.save, tmp_path / 'snapshots'
    with monkeypatch.context() as patch, pytest.raises(OSError, match='No space left'):
        patch.setattr(tf.train.CheckpointManager, 'save', fail)
        train(plan(tmp_path, total_kimg=2), dataset)
    assert [kimg for kimg, _ in list_snapshots(str(tmp_path))] == [1] and not (snapshots / 'snapshot-2_temp').exists()
    for name in ('snapshot-3_temp', 'snapshot-mine_temp'):
        (snapshots / name).mkdir()
    assert train(plan(tmp_path, total_kimg=2), dataset) == 2
    assert not (snapshots / 'snapshot-3_temp').exists() and (snapshots / 'snapshot-mine_temp').exists()


def test_snapshots_are_their_owners_alone(finished):
    folder = os.path.join(finished[0], 'snapshots')
    assert oct(os.stat(folder).st_mode)[-3:] == '700'
    modes = {oct(os.stat(os.path.join(folder, name)).st_mode)[-3:] for name in os.listdir(folder)}
    assert modes == {'600'}


def plan(run_dir, **overrides):
    """A run without the lazy phases, which these tests are not about: it starts in half of the time."""
    return Plan('quickstart', tiny_config(**{'path_length_weight': 0.0, 'r1_gamma': 0.0, **overrides}), str(run_dir), 0)


def test_nan_stops_and_keeps_the_last_snapshot(dataset, tmp_path, monkeypatch):
    train(plan(tmp_path, total_kimg=1), dataset)
    path = list_snapshots(str(tmp_path))[-1][1]
    monkeypatch.setattr('training.step.weight_at', lambda config, name, step: float('nan'))
    with pytest.raises(UserError, match=f'NaN or infinite between 1 and 2 kimg; the last good snapshot is {path}'):
        train(plan(tmp_path, total_kimg=2), dataset)
    assert list_snapshots(str(tmp_path)) == [(1, path)]
    Snapshot(str(tmp_path))


def test_two_workers_train_and_resume(dataset, tmp_path):
    """The documented multi-host call: TF_CONFIG on each, one shared run folder, which only the chief writes."""
    def train_together(total_kimg):
        sockets = [socket.socket() for _ in range(2)]
        for one in sockets:
            one.bind(('localhost', 0))
        addresses = [f'localhost:{one.getsockname()[1]}' for one in sockets]
        for one in sockets:
            one.close()
        processes = []
        for index in range(2):
            cluster = {'cluster': {'worker': addresses}, 'task': {'type': 'worker', 'index': index}}
            processes.append(subprocess.Popen(
                command(dataset, str(tmp_path / 'run'), total_kimg=total_kimg, path_length_weight=0.0,
                        lambda_consistency='0:5-6:10'), cwd=ROOT, stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT, text=True, env={**os.environ, 'TF_CONFIG': json.dumps(cluster)}))
        try:
            outputs = [process.communicate(timeout=PATIENCE)[0] for process in processes]
        finally:
            for process in processes:
                process.kill()
        assert [process.returncode for process in processes] == [0, 0], outputs
        return outputs

    train_together(1)
    assert 'resuming' in train_together(2)[0]
    assert [line['kimg'] for line in losses(str(tmp_path / 'run'))] == [1, 2]
    assert [kimg for kimg, _ in list_snapshots(str(tmp_path / 'run'))] == [1, 2]
    with open(tmp_path / 'run' / 'log.txt') as file:
        assert len(file.readlines()) == 5  # two ticks, two ends, one resume: the chief's alone


def test_another_configuration_is_refused(finished, dataset):
    result = run(command(dataset, finished[0], fingerprint_bits=16, learning_rate=0.01))
    assert result.returncode == 1
    assert re.search(r"fingerprint-bits was 8, is 16; learning-rate was '0.005', is '0.01'.*--run-dir", result.stderr)
    assert len(result.stderr.strip().split('\n')) == 1


def test_a_start_that_failed_does_not_block_its_folder(dataset, tmp_path, monkeypatch):
    """Nothing is trained yet, so other options may take the folder."""
    def fail(*_):
        raise UserError('out of memory')

    with monkeypatch.context() as patch:
        patch.setattr('training.loop.TrainState', fail)
        with pytest.raises(UserError, match='out of memory'):
            train(plan(tmp_path, fmap_max=16, total_kimg=1), dataset)
    assert os.listdir(tmp_path) and train(plan(tmp_path, total_kimg=1), dataset) == 1


def test_more_kimg_continue_a_run(dataset, tmp_path):
    train(plan(tmp_path, total_kimg=1), dataset)
    assert train(plan(tmp_path, total_kimg=2), dataset) == 2


@pytest.mark.parametrize('damage', ['truncate', 'overwrite'])
def test_corrupt_snapshot(finished, dataset, tmp_path, damage):
    folder = str(tmp_path / 'run')
    shutil.copytree(finished[0], folder)
    path = list_snapshots(folder)[-1][1]
    with open(f'{path}.data-00000-of-00001', 'r+b') as file:
        size = file.seek(0, os.SEEK_END)
        if damage == 'truncate':
            file.truncate(size // 2)
        else:
            file.seek(size // 4)
            file.write(os.urandom(size // 2))
    config = dataclasses.replace(Snapshot(finished[0]).config, total_kimg=8)
    for use in (lambda: train(Plan('quickstart', config, folder, 0), dataset), lambda: Snapshot(folder)):
        with pytest.raises(UserError, match=f'snapshot {re.escape(path)} is corrupt') as caught:
            use()
        assert '\n' not in str(caught.value)
    for file in snapshot_files(path):
        os.unlink(file)
    assert Snapshot(folder).kimg == 3


def test_snapshot_that_does_not_fit_its_options(finished, dataset, tmp_path):
    folder = str(tmp_path / 'run')
    shutil.copytree(finished[0], folder)
    path = os.path.join(folder, 'training_options.json')
    options = read_json(path)
    options['config']['mapping_layers'] = 2
    write_json(path, options)
    result = run(command(dataset, folder, mapping_layers=2, metrics='bit_accuracy', metric_images=16, total_kimg=8))
    assert result.returncode == 1 and len(result.stderr.strip().split('\n')) == 1
    assert re.search(r'snapshot .* is corrupt or of another configuration .*; remove .*', result.stderr)


def test_two_processes_in_one_folder(dataset, tmp_path):
    import fcntl
    with open(tmp_path / '.lock0', 'w') as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(UserError, match='another process'):
            train(plan(tmp_path), dataset)


def test_snapshot_that_is_not_there(finished):
    with pytest.raises(UserError, match='no snapshot at 9 kimg; there are those at 1, 2, 3, 4'):
        Snapshot(finished[0], 9)
    with pytest.raises(UserError, match='does not exist'):
        Snapshot('/nonexistent')


@pytest.mark.parametrize('flags, code, message', [
    (['--config=quickstart', '--fingerprint_bits=64', '--dry-run'], 0, ''),
    (['--dataset=celeba', '--num-gpus=2', '--dry-run'], 0, ''),
    (['--dataset=cats', '--dry-run'], 1, 'there is no dataset cats'),
    (['--config=quickstart', '--metrics=bit_accuracy,foo', '--dry-run'], 2, "there is no metric 'foo'; choose from"),
    (['--config=quickstart', '--res-modulated-range=256-512', '--dry-run'], 2, 'meets none of the resolutions'),
    (['--config=quickstart', '--num-gpus=4', '--dry-run'], 2, '--batch-size=8 over 4 replicas'),
    (['--dry-run'], 2, '--dataset is missing'),
    (['--config=quickstart', '--fingerprint-bits=4'], 2, '--fingerprint-bits=4: must be at least 8'),
    (['--config=quickstart', '--num-gpu=1'], 2, 'did you mean --num-gpus?'),
    (['--config=fast'], 2, "invalid choice: 'fast'"),
    (['--config=quickstart', '--batch-size=12'], 2, 'no whole number of batches of 12; take a multiple of 3'),
    (['--config=quickstart', '--batch-per-replica=3'], 2, 'take one of 0, 4, 8 (0: all at once)'),
    (['--config=quickstart', '--decode-pair=false'], 2, '--decode-pair: --method=bound makes no use of it'),
    (['--dataset=celeba', '--data-dir=/nonexistent'], 1, 'dataset_tool.py'),
])
def test_command_line(flags, code, message, tmp_path):
    result = run([sys.executable, 'run_training.py', f'--run-dir={tmp_path}/run', *flags])
    assert result.returncode == code, result.stderr
    assert message in result.stderr
    assert result.stderr.count('\n') == (code != 0) and 'Traceback' not in result.stderr
    if code == 0:
        assert re.search(r'batch-size +(32|8)\n', result.stdout)
        assert not os.path.exists(tmp_path / 'run')


@pytest.mark.parametrize('words, message', [
    (['run_generator.py', '--seed=-1'], '--seed=-1: must be 0 or more'),
    (['run_generator.py', '--side=2000'], '--side=2000: must be from 1 to 64'),
    (['run_metrics.py', '--seed=-1'], '--seed=-1: must be 0 or more'),
    (['run_metrics.py', '--random-noise', '--metrics=fid,forgery'], '--random-noise: forgery is measured on what')])
def test_numbers_out_of_range_are_one_line(words, message):
    result = run([sys.executable, *words])
    assert result.returncode == 2 and message in result.stderr and len(result.stderr.strip().split('\n')) == 1


def test_bit_accuracy_needs_no_dataset(finished, tmp_path):
    """The run may have moved to where its images are not."""
    folder = str(tmp_path / 'run')
    shutil.copytree(finished[0], folder)
    path = os.path.join(folder, 'training_options.json')
    options = read_json(path)
    write_json(path, {**options, 'dataset': {**options['dataset'], 'path': '/absent'}})
    result = run([sys.executable, 'run_metrics.py', f'--run={folder}', '--num-images=8', '--random-noise'])
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout)['noise'] == 'random'
    result = run([sys.executable, 'run_metrics.py', f'--run={folder}', '--metrics=fid'])
    assert result.returncode == 1 and '/absent' in result.stderr


def test_more_gpus_than_there_are(dataset, tmp_path):
    if len(tf.config.list_physical_devices('GPU')) >= 99:
        pytest.skip('this machine has 99 GPUs')
    result = run(command(dataset, str(tmp_path / 'run'))[:-1] + ['--num-gpus=99'])
    assert result.returncode == 1
    assert '--num-gpus=99, but TensorFlow sees' in result.stderr and 'go on with --num-gpus=' in result.stderr


def test_unwritable_run_folder(dataset, tmp_path):
    (tmp_path / 'file').write_text('')
    result = run(command(dataset, str(tmp_path / 'file' / 'run')))
    assert result.returncode == 1 and 'cannot write to' in result.stderr and 'Traceback' not in result.stderr


def test_a_range_that_meets_no_resolution_leaves_no_run_folder(dataset, tmp_path):
    with pytest.raises(UsageError, match='--res-modulated-range=32-64'):
        train(plan(tmp_path / 'run', res_modulated_range='32-64'), dataset)
    assert not os.path.exists(tmp_path / 'run')
