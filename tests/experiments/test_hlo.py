"""The training step as XLA modules: what is exported, that JAX runs it as TensorFlow does, and the way back."""
import dataclasses
import json
import os
import shutil
import subprocess
import sys
import zipfile

import numpy as np
import pytest
import tensorflow as tf
from helpers import ROOT

from datasets.tfrecord import open_dataset, write_dataset
from dnnlib.util import UsageError, UserError
from experiments import hlo
from training.config import flags_config, make_config
from training.evaluation import snapshot_model
from training.state import Snapshot, TrainState
from training.steps import TrainingSteps

FLAGS = ['--config=quickstart', '--fmap-base=32', '--fmap-max=4', '--latent-dim=6', '--embedding-dim=8',
         '--fingerprint-bits=8', '--batch-size=20', '--tick-kimg=1', '--total-kimg=2', '--snapshot-ticks=1',
         '--image-snapshot-ticks=1', '--consistency-ramp=1-2', '--path-length-weight=2', '--r1-gamma=1',
         # With Adam's usual ε a weight moves by its gradient's sign, that of rounding noise where there is none.
         '--adam-epsilon=0.01']
STEPS = 3


@pytest.fixture(scope='session')
def dataset(tmp_path_factory):
    path = str(tmp_path_factory.mktemp('data') / 'noise')
    images = np.random.default_rng(0).integers(0, 256, [100, 16, 16, 3], dtype=np.uint8)
    return write_dataset(path, 'noise', 'random pixels', images[:60], images[60:])


@pytest.fixture(scope='session')
def package(dataset, tmp_path_factory):
    path = str(tmp_path_factory.mktemp('hlo') / 'package')
    hlo.main(hlo.make_parser().parse_args(['export', f'--dataset={dataset.path}', f'--out={path}', *FLAGS]))
    return path


@pytest.fixture(scope='session')
def jax_python():
    """An interpreter that has JAX; the test is skipped where there is none."""
    python = os.environ.get('JAX_PYTHON') or os.path.join(ROOT, '.venv-jax', 'bin', 'python')
    if not os.path.exists(python):
        pytest.skip('there is no .venv-jax (make jax makes it) and JAX_PYTHON names no other')
    return python


def run(python, *args):
    environment = {**os.environ, 'XLA_FLAGS': '--xla_backend_optimization_level=0'}  # compiles in half of the time
    return subprocess.run([python, *args], cwd=ROOT, env=environment, text=True, capture_output=True, timeout=600)


def the_manifest(package):
    with open(os.path.join(package, 'manifest.json')) as file:
        return json.load(file)


def test_the_package_holds_every_phase_and_all_that_is_not_drawn(package, dataset):
    manifest = the_manifest(package)
    assert manifest['phases'] == [['generator', 1], ['path_length', 4], ['discriminator', 1], ['r1', 16]]
    assert set(manifest['steps']) == {
        'generator', 'generator_single', 'path_length', 'discriminator', 'r1', 'average', 'initialize', 'generate',
        'decode', 'bake', 'instance'}
    assert all(os.path.getsize(os.path.join(package, f'{name}.hlo')) > 1000 for name in manifest['steps'])
    state = TrainState(make_config('quickstart', {**the_flags(), 'ops': 'ref'}), 16)
    with np.load(os.path.join(package, 'state.npz')) as stored:
        drawn = set(manifest['variables']) - set(stored.files)
        for key, variable in hlo.state_variables(state).items():
            assert list(variable.shape) == manifest['variables'][key][0], key
            assert key in drawn or np.array_equal(stored[key], variable.numpy()), key
    assert 'nets/G/000' in drawn and 'optimizers/G/001' not in drawn
    with zipfile.ZipFile(os.path.join(package, 'reals.zip')) as archive:
        assert len(archive.namelist()) == dataset.num_images('train')


def the_flags():
    """FLAGS as overrides of a Config."""
    args = hlo.make_parser().parse_args(['export', '--dataset=x', '--out=y', *FLAGS])
    return dataclasses.asdict(flags_config(args))


def test_initial_weights_are_of_the_distribution_that_layers_draw_from():
    config = make_config('config-e', dict(fmap_base=64, fmap_max=16, ops='ref', fingerprint_bits=64))
    state, drawn = TrainState(config, 16), TrainState(config, 16)
    hlo.initialize(drawn, tf.constant([3, 4]))
    for name, net in drawn.nets.items():
        for fresh, other in zip(net.trainable_variables, state.nets[name].trainable_variables):
            if fresh.shape.rank < 2:
                np.testing.assert_array_equal(fresh, other)
                continue
            assert not np.array_equal(fresh, other), fresh.name
            if tf.size(fresh) > 500:
                assert np.std(fresh) == pytest.approx(np.std(other), rel=0.15), fresh.name
    for average, net in zip(drawn.averages['G'].variables, drawn.nets['G'].variables):
        np.testing.assert_array_equal(average, net)


SCRIPT = '''
import sys
import numpy as np
from experiments.hlo_run import Package, read_reals, run_step
package = Package(sys.argv[1])
package('initialize', seed=np.array([0, -1], np.int32))
package.save(sys.argv[2] + '/before.npz')
reals = read_reals(sys.argv[1])
np.save(sys.argv[2] + '/reals.npy', reals)
rows = [run_step(package, step, reals[20 * step:20 * step + 20]) for step in range(int(sys.argv[3]))]
np.savez(sys.argv[2] + '/statistics.npz', **{f'{i} {k}': v for i, row in enumerate(rows) for k, v in row.items()})
package.save(sys.argv[2] + '/after.npz')
rng = np.random.default_rng(0)
latents, bits = rng.standard_normal([20, 6]).astype(np.float32), rng.integers(0, 2, [20, 8]).astype(np.float32)
images = np.asarray(package('generate', latents=latents, fingerprints=bits)['result'])
package('bake', fingerprint=bits[0])
instance = np.asarray(package('instance', latents=latents)['result'])
logits = np.asarray(package('decode', images=images)['result'])
np.savez(sys.argv[2] + '/images.npz', latents=latents, bits=bits, images=images, instance=instance, logits=logits)
'''


@pytest.fixture(scope='session')
def jax_run(package, jax_python, tmp_path_factory):
    """The folder of what SCRIPT saves: a few steps of the package in JAX."""
    folder = str(tmp_path_factory.mktemp('jax'))
    ran = run(jax_python, '-c', SCRIPT, package, folder, str(STEPS))
    assert ran.returncode == 0, ran.stderr[-2000:]
    return folder


def test_jax_takes_the_steps_that_tensorflow_takes(package, jax_run):
    manifest = the_manifest(package)
    config = make_config('quickstart', {**the_flags(), 'ops': 'ref'})
    state = TrainState(config, 16)
    variables = hlo.state_variables(state)
    before = hlo.read_states([os.path.join(jax_run, 'before.npz')], manifest['variables'])
    after = hlo.read_states([os.path.join(jax_run, 'after.npz')], manifest['variables'])
    for key, variable in variables.items():
        variable.assign(before[key])
    reals = np.load(os.path.join(jax_run, 'reals.npy'))
    # XLA draws other numbers from a seed than TensorFlow's own kernels do, so both sides are XLA's.
    steps = TrainingSteps(config, state, tf.distribute.get_strategy(), jit_compile=True)
    with np.load(os.path.join(jax_run, 'statistics.npz')) as statistics:
        for step in range(STEPS):
            expected = steps(step, tf.constant(reals[20 * step:20 * step + 20]))
            for name, value in expected.items():
                assert float(statistics[f'{step} {name}']) == pytest.approx(float(value), rel=1e-4, abs=1e-5), name
    for name in ('nets/G', 'nets/F', 'nets/D', 'averages/G'):
        moved, apart = (np.sqrt(sum(np.sum(np.square(values[key] - other(key))) for key in variables
                                    if key.startswith(name)))
                        for values, other in ((after, before.__getitem__), (after, lambda key: variables[key].numpy())))
        assert moved > 0 and apart < 1e-3 * moved, (name, apart, moved)


def test_the_state_comes_back_to_tensorflow(package, jax_run, tmp_path):
    run_dir = str(tmp_path / 'run')
    hlo.main(hlo.make_parser().parse_args(['import', package, f'{jax_run}/after.npz', f'--run-dir={run_dir}']))
    model = snapshot_model(Snapshot(run_dir), 8)
    with np.load(os.path.join(jax_run, 'images.npz')) as seen:
        images = model.generate(seen['latents'], seen['bits'])
        rounded = np.clip(np.rint((images + 1) * 127.5), 0, 255)
        assert np.abs(rounded - seen['images']).max() <= 1
        np.testing.assert_allclose(model.decode(seen['images'] / np.float32(127.5) - 1), seen['logits'], atol=1e-3)
        # The baked instance draws what the modulated generator draws of the same fingerprint.
        assert np.abs(seen['instance'][0].astype(int) - seen['images'][0]).max() <= 1


def test_training_in_jax_resumes_and_its_parts_can_be_imported(package, jax_python, dataset, tmp_path):
    out, run_dir = str(tmp_path / 'out'), str(tmp_path / 'run')
    first = run(jax_python, '-m', 'experiments.hlo_run', package, f'--out={out}', '--total-kimg=1')
    assert first.returncode == 0, first.stderr[-2000:]
    again = run(jax_python, '-m', 'experiments.hlo_run', package, f'--out={out}')
    assert again.returncode == 0, again.stderr[-2000:]
    assert f'resuming {out} at 1 kimg' in again.stdout and 'done: 2 kimg' in again.stdout
    with open(os.path.join(out, 'stats.jsonl')) as file:
        assert [json.loads(line)['kimg'] for line in file] == [1, 2]
    assert sorted(name for name in os.listdir(out) if name.endswith(('npz', 'png'))) == [
        'evaluation-000001.npz', 'evaluation-000002.npz', 'fakes_000001.png', 'fakes_000002.png', 'state-000002.npz']
    parts = [str(tmp_path / 'a.npz'), str(tmp_path / 'b.npz')]
    with np.load(os.path.join(out, 'evaluation-000002.npz')) as whole:
        np.savez(parts[0], **{key: whole[key] for key in whole.files[::2]})
        np.savez(parts[1], **{key: whole[key] for key in whole.files[1::2]})
    parse = hlo.make_parser().parse_args
    with pytest.raises(UserError, match='every part'):
        hlo.main(parse(['import', package, parts[0], f'--run-dir={run_dir}']))
    hlo.main(parse(['import', package, *parts, f'--run-dir={run_dir}']))
    assert Snapshot(run_dir).kimg == 2
    damaged = str(tmp_path / 'state-000002.npz')
    with open(damaged, 'wb') as file:
        file.write(b'PK\3\4 and then nothing')
    with pytest.raises(UserError, match='damaged'):
        hlo.main(parse(['import', package, damaged, f'--run-dir={run_dir}-2']))
    assert not os.path.exists(f'{run_dir}-2')


SMALL = '''
import sys
import numpy as np
from dnnlib.util import UsageError, UserError
from experiments.hlo_run import Package
try:
    package = Package(sys.argv[1], ['average'])
    package.restore(sys.argv[2])
except UserError as error:
    print(error)
'''


def test_what_is_damaged_or_of_another_package_is_named(package, jax_python, tmp_path):
    state, cut, copy = str(tmp_path / 'state.npz'), str(tmp_path / 'cut.npz'), str(tmp_path / 'copy')
    np.savez(state, **{'nets/G/000': np.zeros(3)})
    with open(state, 'rb') as source, open(cut, 'wb') as target:
        target.write(source.read()[:100])
    shutil.copytree(package, copy)
    with open(os.path.join(copy, 'average.hlo'), 'r+b') as file:
        file.truncate(1000)
    for folder, path, words in ((package, state, 'is the state of another package'), (package, cut, 'is damaged'),
                                (copy, state, 'average.hlo: JAX')):
        ran = run(jax_python, '-c', SMALL, folder, path)
        assert words in ran.stdout and ran.stdout.count('\n') == 1, ran.stdout + ran.stderr[-1000:]


def test_times_and_profile(package, jax_python):
    ran = run(jax_python, '-m', 'experiments.hlo_run', package, '--time', '--profile', '--rounds=1')
    assert ran.returncode == 0, ran.stderr[-2000:]
    lines = ran.stdout.splitlines()
    (record,) = (json.loads(line) for line in lines if line.startswith('{'))
    assert set(record['seconds']) == {'whole step', *the_manifest(package)['steps']} - {'initialize'}
    assert record['seconds']['generator'] > record['seconds']['average'] > 0
    assert all('ms a step' in line for line in lines[-5:]) and 'images/s' in lines[1]


def test_an_interpreter_without_jax_is_one_line(package):
    ran = run(sys.executable, '-m', 'experiments.hlo_run', package)
    assert ran.returncode == 1 and ran.stderr.count('\n') == 1 and 'make jax' in ran.stderr


def test_a_missing_package_is_one_line(jax_python, tmp_path):
    ran = run(jax_python, '-m', 'experiments.hlo_run', str(tmp_path / 'nothing'))
    assert ran.returncode == 1 and ran.stderr.count('\n') == 1 and 'does not exist' in ran.stderr


def test_native_ops_cannot_be_exported(dataset, tmp_path):
    out = str(tmp_path / 'package')
    with pytest.raises(UsageError, match='--ops=native: .*leave the flag out'):
        hlo.main(hlo.make_parser().parse_args(['export', f'--dataset={dataset.path}', f'--out={out}', '--ops=native']))
    assert not os.path.exists(out)


def test_the_plain_generator_is_exported_too(dataset, tmp_path):
    out = str(tmp_path / 'package')
    flags = [flag for flag in FLAGS if not flag.startswith('--config=')]
    hlo.main(hlo.make_parser().parse_args(
        ['export', '--config=stylegan2', '--mapping-layers=2', f'--dataset={dataset.path}', f'--out={out}', *flags]))
    steps = the_manifest(out)['steps']
    assert 'decode' not in steps and 'generator_single' not in steps and 'generate' in steps
    assert open_dataset(dataset.path).digest == the_manifest(out)['dataset']['digest']
