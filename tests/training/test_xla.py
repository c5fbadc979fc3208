"""The training step as XLA modules: what is exported, that JAX runs it as TensorFlow does, and the way back."""
import json
import os
import shutil
import subprocess
import sys
import zipfile

import numpy as np
import pytest
import tensorflow as tf

from datasets.reader import open_dataset
from dnnlib.util import UsageError, UserError
from helpers import PATIENCE, ROOT, TINY, flags_of, tiny_config, write_dataset
from training import xla_export
from training.snapshot import Snapshot
from training.state import TrainState
from training.step import TrainStep

OPTIONS = {**TINY, 'fmap_base': 32, 'fmap_max': 4, 'batch_size': 20, 'total_kimg': 2, 'image_snapshot_ticks': 1,
           'lambda_consistency': '0:1-2:10', 'impl': 'auto',
           # With Adam's usual ε a weight moves by its gradient's sign, that of rounding noise if there is none.
           'adam_epsilon': 0.01}
STEPS = 3


@pytest.fixture(scope='session')
def dataset(tmp_path_factory):
    path = str(tmp_path_factory.mktemp('data') / 'noise')
    images = np.random.default_rng(0).integers(0, 256, [100, 16, 16, 3], dtype=np.uint8)
    return write_dataset(path, 'noise', 'random pixels', images[:60], images[60:])


def export(dataset, path, preset='quickstart', **overrides):
    flags = flags_of({**OPTIONS, **overrides})
    xla_export.main(xla_export.make_parser().parse_args(
        ['export', f'--config={preset}', f'--dataset={dataset.path}', f'--out={path}', *flags]))


def import_states(package, run_dir, *states):
    xla_export.main(xla_export.make_parser().parse_args(['import', package, *states, f'--run-dir={run_dir}']))


@pytest.fixture(scope='session')
def package(dataset, tmp_path_factory):
    path = str(tmp_path_factory.mktemp('xla') / 'package')
    export(dataset, path)
    return path


@pytest.fixture(scope='session')
def jax_python():
    """An interpreter that has JAX; the test is skipped where there is none."""
    python = os.environ.get('JAX_PYTHON') or os.path.join(ROOT, '.venv-jax', 'bin', 'python')
    if not os.path.exists(python):
        pytest.skip('there is no .venv-jax (make jax makes it) and JAX_PYTHON names no other')
    return python


def run(python, *args):
    # Without optimization it compiles in half of the time.
    environment = {**os.environ, 'PYTHONPATH': ROOT, 'XLA_FLAGS': '--xla_backend_optimization_level=0'}
    return subprocess.run([python, *args], cwd=ROOT, env=environment, text=True, capture_output=True, timeout=PATIENCE)


def the_manifest(package):
    with open(os.path.join(package, 'manifest.json')) as file:
        return json.load(file)


def test_the_package_holds_every_phase_and_all_that_is_not_drawn(package, dataset):
    manifest = the_manifest(package)
    assert manifest['phases'] == [
        ['generator', 1, ['lambda_fingerprint', 'lambda_consistency', 'immunize_strength']], ['path_length', 4, []],
        ['discriminator', 1, ['reals']], ['r1', 16, ['reals']]]
    assert set(manifest['steps']) == {
        'generator', 'generator-without-lambda_consistency', 'path_length', 'discriminator', 'r1', 'average',
        'initialize', 'generate', 'decode', 'bake', 'instance'}
    assert all(os.path.getsize(os.path.join(package, f'{name}.hlo')) > 1000 for name in manifest['steps'])
    state = TrainState(tiny_config(**{**OPTIONS, 'impl': 'ref'}), 16)
    with np.load(os.path.join(package, 'state.npz')) as stored:
        drawn = set(manifest['variables']) - set(stored.files)
        for key, variable in xla_export.state_variables(state).items():
            assert list(variable.shape) == manifest['variables'][key][0], key
            assert key in drawn or np.array_equal(stored[key], variable.numpy()), key
    assert 'nets/G/000' in drawn and 'optimizers/G/001' not in drawn
    with zipfile.ZipFile(os.path.join(package, 'reals.zip')) as archive:
        assert len(archive.namelist()) == dataset.num_images('train')


def test_initial_weights_are_of_the_distribution_that_layers_draw_from():
    config = tiny_config('config-e', fmap_max=16, fingerprint_bits=64, batch_size=32, tick_kimg=4)
    state, drawn = TrainState(config, 16), TrainState(config, 16)
    xla_export.initialize(drawn, tf.constant([3, 4]))
    for name, net in drawn.nets.items():
        for fresh, other in zip(net.trainable_variables, state.nets[name].trainable_variables):
            if fresh.shape.rank < 2:
                np.testing.assert_array_equal(fresh, other)
                continue
            assert not np.array_equal(fresh, other), fresh.name
            if tf.size(fresh) > 500:
                assert np.std(fresh) == pytest.approx(np.std(other), rel=0.15), fresh.name
    for average, net in zip(drawn.ema['G'].variables, drawn.nets['G'].variables):
        np.testing.assert_array_equal(average, net)


@pytest.fixture(scope='session')
def jax_run(package, jax_python, tmp_path_factory):
    """The folder of what jax_steps.py saves: a few steps of the package in JAX."""
    folder = str(tmp_path_factory.mktemp('jax'))
    ran = run(jax_python, 'tests/training/jax_steps.py', package, folder, str(STEPS))
    assert ran.returncode == 0, ran.stderr[-2000:]
    return folder


def test_jax_takes_the_steps_that_tensorflow_takes(package, jax_run):
    manifest = the_manifest(package)
    config = tiny_config(**{**OPTIONS, 'impl': 'ref'})
    state = TrainState(config, 16)
    variables = xla_export.state_variables(state)
    before = xla_export.read_states([os.path.join(jax_run, 'before.npz')], manifest['variables'])
    after = xla_export.read_states([os.path.join(jax_run, 'after.npz')], manifest['variables'])
    for key, variable in variables.items():
        variable.assign(before[key])
    reals = np.load(os.path.join(jax_run, 'reals.npy'))
    # XLA draws other numbers from a seed than TensorFlow's own kernels do, so both sides are XLA's.
    train_step = TrainStep(config, state, tf.distribute.get_strategy(), jit_compile=True)
    with np.load(os.path.join(jax_run, 'statistics.npz')) as statistics:
        for step in range(STEPS):
            expected = train_step.run(step, tf.constant(reals[20 * step:20 * step + 20]))
            for name, value in expected.items():
                assert float(statistics[f'{step} {name}']) == pytest.approx(float(value), rel=1e-4, abs=1e-5), name
    for name in ('nets/G', 'nets/F', 'nets/D', 'ema/G'):
        moved, apart = (np.sqrt(sum(np.sum(np.square(values[key] - other(key))) for key in variables
                                    if key.startswith(name)))
                        for values, other in ((after, before.__getitem__), (after, lambda key: variables[key].numpy())))
        assert moved > 0 and apart < 1e-3 * moved, (name, apart, moved)


def test_the_state_comes_back_to_tensorflow(package, jax_run, tmp_path):
    run_dir = str(tmp_path / 'run')
    import_states(package, run_dir, f'{jax_run}/after.npz')
    model = Snapshot(run_dir).model(8)
    with np.load(os.path.join(jax_run, 'images.npz')) as seen:
        images = model.generate(seen['latents'], seen['bits'])
        rounded = np.clip(np.rint((images + 1) * 127.5), 0, 255)
        assert np.abs(rounded - seen['images']).max() <= 1
        np.testing.assert_allclose(model.decode(seen['images'] / np.float32(127.5) - 1), seen['logits'], atol=1e-3)
        # The baked instance draws what the modulated generator draws of the same fingerprint.
        assert np.abs(seen['instance'][0].astype(int) - seen['images'][0]).max() <= 1


def test_training_in_jax_resumes_and_its_parts_can_be_imported(package, jax_python, dataset, tmp_path):
    out, run_dir = str(tmp_path / 'out'), str(tmp_path / 'run')
    first = run(jax_python, '-m', 'training.xla_run', package, f'--out={out}', '--total-kimg=1')
    assert first.returncode == 0, first.stderr[-2000:]
    again = run(jax_python, '-m', 'training.xla_run', package, f'--out={out}')
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
    with pytest.raises(UserError, match='every part'):
        import_states(package, run_dir, parts[0])
    import_states(package, run_dir, *parts)
    assert Snapshot(run_dir).kimg == 2
    damaged = str(tmp_path / 'state-000002.npz')
    with open(damaged, 'wb') as file:
        file.write(b'PK\3\4 and then nothing')
    with pytest.raises(UserError, match='damaged'):
        import_states(package, f'{run_dir}-2', damaged)
    assert not os.path.exists(f'{run_dir}-2')


def write_damaged(path):
    """A state whose array's header is no Python, and is parsed before its checksum is looked at."""
    np.savez(path, **{'nets/G/000': np.zeros(3000)})
    with open(path, 'r+b') as file:
        data = file.read()
        file.seek(data.index(b"{'descr'"))
        file.write(b"{('escr'")


def test_a_damaged_header_is_told_in_one_line(tmp_path):
    path = str(tmp_path / 'state.npz')
    write_damaged(path)
    with pytest.raises(UserError, match='state.npz is no state that xla_run.py saved, or damaged') as error:
        xla_export.read_states([path], {})
    assert '\n' not in str(error.value)


def test_what_is_damaged_or_of_another_package_is_named(package, jax_python, tmp_path):
    state, cut, header = (str(tmp_path / f'{name}.npz') for name in ('state', 'cut', 'header'))
    copy, starts = str(tmp_path / 'copy'), str(tmp_path / 'starts')
    np.savez(state, **{'nets/G/000': np.zeros(3)})
    with open(state, 'rb') as source, open(cut, 'wb') as target:
        target.write(source.read()[:100])
    write_damaged(header)
    shutil.copytree(package, copy)
    with open(os.path.join(copy, 'average.hlo'), 'r+b') as file:
        file.truncate(1000)
    shutil.copytree(package, starts)
    shutil.copy(cut, os.path.join(starts, 'state.npz'))
    for folder, path, words in ((package, state, 'is the state of another package'), (package, cut, 'is damaged'),
                                (package, header, 'is damaged'), (copy, state, 'average.hlo: JAX'),
                                (starts, state, 'starts/state.npz is damaged')):
        ran = run(jax_python, 'tests/training/jax_restore.py', folder, path)
        assert words in ran.stdout and ran.stdout.count('\n') == 1, ran.stdout + ran.stderr[-1000:]


def test_times_and_profile(package, jax_python):
    ran = run(jax_python, '-m', 'training.xla_run', package, '--time', '--profile', '--rounds=1')
    assert ran.returncode == 0, ran.stderr[-2000:]
    lines = ran.stdout.splitlines()
    (record,) = (json.loads(line) for line in lines if line.startswith('{'))
    assert set(record['seconds']) == {'whole step', *the_manifest(package)['steps']} - {'initialize'}
    assert record['seconds']['generator'] > record['seconds']['average'] > 0
    assert all('ms a step' in line for line in lines[-5:]) and 'images/s' in lines[1]


def test_memory_as_planned(package, jax_python):
    """What a step is given holds at least the variables that it names."""
    ran = run(jax_python, '-m', 'training.xla_run', package, '--memory')
    assert ran.returncode == 0, ran.stderr[-2000:]
    rows = {line.split()[0]: [float(cell) for cell in line.split()[1:]] for line in ran.stdout.splitlines()[2:]}
    manifest = the_manifest(package)
    assert set(rows) == set(manifest['steps'])
    shapes = {key: shape for key, (shape, _) in manifest['variables'].items()}
    held = sum(4 * np.prod(shapes[key]) for kind, key in manifest['steps']['generator']['parameters']
               if kind == 'variable')
    assert rows['generator'][0] >= held / 2 ** 30 - 1e-3 and rows['generator'][2] > 0


def test_an_interpreter_without_jax_is_one_line(package):
    ran = run(sys.executable, '-m', 'training.xla_run', package)
    assert ran.returncode == 1 and ran.stderr.count('\n') == 1 and 'make jax' in ran.stderr


def test_a_missing_package_is_one_line(jax_python, tmp_path):
    ran = run(jax_python, '-m', 'training.xla_run', str(tmp_path / 'nothing'))
    assert ran.returncode == 1 and ran.stderr.count('\n') == 1 and 'does not exist' in ran.stderr


def test_native_ops_cannot_be_exported(dataset, tmp_path):
    out = str(tmp_path / 'package')
    with pytest.raises(UsageError, match='--impl=native: .*leave the flag out'):
        export(dataset, out, impl='native')
    assert not os.path.exists(out)


@pytest.fixture(scope='session')
def plain_package(dataset, tmp_path_factory):
    path = str(tmp_path_factory.mktemp('plain') / 'package')
    export(dataset, path, preset='stylegan2', method='stylegan2', mapping_layers=2, total_kimg=1)
    return path


def test_the_plain_generator_is_exported_too(plain_package, dataset):
    out = plain_package
    steps = the_manifest(out)['steps']
    assert set(steps) == {'generator', 'path_length', 'discriminator', 'r1', 'average', 'initialize', 'generate'}
    assert steps['generate']['shapes'] == [[20, 6], [20, 0]]
    assert open_dataset(dataset.path).digest == the_manifest(out)['dataset']['digest']


def test_the_plain_generator_is_trained_and_drawn(plain_package, jax_python, tmp_path):
    """Its fingerprints have no bits, and a module has no parameter without elements."""
    out = tmp_path / 'run'
    ran = run(jax_python, '-m', 'training.xla_run', plain_package, f'--out={out}')
    assert ran.returncode == 0, ran.stderr[-2000:]
    assert {'fakes_000001.png', 'state-000001.npz'} <= set(os.listdir(out))


def test_every_module_is_stablehlo_alone(package, jax_python):
    """A GPU's plugin takes nothing else; a CPU's compiler does."""
    ran = run(jax_python, 'tests/training/jax_portable.py', package)
    assert ran.returncode == 0, ran.stderr[-2000:]
    names = ran.stdout.split()
    assert set(names) == set(the_manifest(package)['steps'])


@pytest.mark.parametrize('tf32, precision', [(False, 'highest'), (True, 'default')])
def test_modules_say_how_exactly_a_gpu_multiplies(tf32, precision, dataset, tmp_path, jax_python):
    """By default it rounds factors to 10 bits, where XLA's module doesn't ask for more."""
    out = str(tmp_path / 'package')
    export(dataset, out, preset='stylegan2', method='stylegan2', mapping_layers=2, path_length_interval=0,
           path_length_weight=0, tf32=tf32)
    ran = run(jax_python, 'tests/training/jax_portable.py', out, 'precisions')
    assert set(ran.stdout.lower().split()) == {precision}, ran.stderr[-2000:]
