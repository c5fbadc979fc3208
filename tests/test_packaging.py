"""Installing: editable only, with the commands on PATH; the pins of each Python; what importing TensorFlow prints."""
import importlib.metadata
import os
import platform
import shutil
import subprocess
import sys
import sysconfig

import pytest
from packaging.requirements import Requirement
from setuptools import find_packages

from dnnlib import lanes
from dnnlib.version import VERSION
from helpers import PATIENCE, ROOT

SCRIPTS = {'fingerprint-train': 'run_training.py', 'fingerprint-generate': 'run_generator.py',
           'fingerprint-metrics': 'run_metrics.py', 'fingerprint-release': 'run_release.py',
           'fingerprint-dataset': 'dataset_tool.py'}


def run(*command, **kwargs):
    return subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, **kwargs)


@pytest.fixture(scope='module')
def clone(tmp_path_factory):
    """A copy of what installing reads; the packages themselves are linked."""
    folder = tmp_path_factory.mktemp('install') / 'clone'
    folder.mkdir()
    for name in [*find_packages(ROOT, exclude=['*.*']), *SCRIPTS.values(), 'console_scripts.py']:
        os.symlink(os.path.join(ROOT, name), folder / name)
    for name in ('setup.py', 'pyproject.toml', 'build_backend.py'):
        shutil.copy(os.path.join(ROOT, name), folder)
    return folder


@pytest.fixture(scope='module')
def bin_folder(clone):
    """The bin folder of a fresh environment with the project installed by `pip install -e`, beside our dependencies."""
    environment = clone.parent / 'venv'
    subprocess.run([sys.executable, '-m', 'venv', '--without-pip', environment], check=True)
    site = sysconfig.get_path('purelib', 'venv', {'base': str(environment)}) if sys.version_info >= (3, 11) else (
        environment / 'lib' / f'python{sys.version_info[0]}.{sys.version_info[1]}' / 'site-packages')
    with open(os.path.join(site, 'dependencies.pth'), 'w') as file:
        file.write(sysconfig.get_path('purelib') + '\n')
    installed = run(sys.executable, '-m', 'pip', '--python', environment / 'bin' / 'python', 'install', '--quiet',
                    '--no-deps', '--no-build-isolation', '--ignore-installed', '-e', clone)
    assert installed.returncode == 0, installed.stderr
    return environment / 'bin'


def test_a_wheel_is_refused_in_one_line_that_says_what_to_do(clone, tmp_path):
    result = run(sys.executable, '-m', 'pip', 'wheel', '--no-deps', '--no-build-isolation', '-w', tmp_path, clone)
    assert result.returncode == 1
    said = [line.strip() for line in (result.stdout + result.stderr).splitlines() if line.strip().startswith('error: ')]
    assert 'error: this project runs from its own folder; install it there by: pip install -e .' in said
    assert not os.listdir(tmp_path)


def test_a_wheel_is_refused_before_anything_is_downloaded():
    result = run(sys.executable, '-c', 'import build_backend; build_backend.get_requires_for_build_wheel()', cwd=ROOT)
    assert result.returncode == 1 and len(result.stderr.splitlines()) == 1 and 'pip install -e .' in result.stderr


@pytest.mark.parametrize('command', SCRIPTS)
def test_commands_are_on_path_and_tell_their_version(bin_folder, command, tmp_path):
    result = run(bin_folder / command, '--version', cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert result.stdout == (f'scalable-fingerprinting {VERSION}, '
                             f'Python {platform.python_version()}, TensorFlow {lanes.TENSORFLOW}\n')


def test_pip_knows_the_version_that_the_commands_tell(bin_folder):
    code = 'import importlib.metadata as m; print(next(m.distributions(name="scalable-fingerprinting")).version)'
    assert run(bin_folder / 'python', '-c', code, cwd=bin_folder).stdout == f'{VERSION}\n'


def test_another_package_named_datasets_does_not_hide_ours(bin_folder, tmp_path):
    (tmp_path / 'datasets').mkdir()
    (tmp_path / 'datasets' / '__init__.py').write_text('raise SystemExit("the other datasets")\n')
    environment = {**os.environ, 'PYTHONPATH': str(tmp_path)}
    assert 'other' in run(bin_folder / 'python', '-c', 'import datasets', cwd=tmp_path, env=environment).stderr
    result = run(bin_folder / 'fingerprint-dataset', '--help', cwd=tmp_path, env=environment)
    assert result.returncode == 0 and 'usage: ' in result.stdout, result.stderr


@pytest.mark.parametrize('script', SCRIPTS.values())
def test_version_imports_no_tensorflow(script):
    code = f'import runpy, sys; sys.argv = ["{script}", "--version"]\n' \
           f'try: runpy.run_path("{script}", run_name="__main__")\nfinally: assert "tensorflow" not in sys.modules'
    result = run(sys.executable, '-c', code, cwd=ROOT)
    assert result.returncode == 0 and result.stdout.startswith('scalable-fingerprinting '), result.stderr


LIST_REQUIREMENTS = """
from distutils.core import run_setup
setup = run_setup('setup.py', stop_after='init')
print(*setup.install_requires, *setup.extras_require['test'], *setup.extras_require['beam'], sep='\\n')
"""


def pins(lines, python):
    """{name: '==version'} of the requirement lines that hold for this version of Python."""
    parsed = [Requirement(line.strip()) for line in lines]
    environment = {'python_version': python, 'python_full_version': python + '.1'}
    return {r.name.lower(): str(r.specifier) for r in parsed if not r.marker or r.marker.evaluate(environment)}


def required(python):
    """The pins of setup.py, its extras test and beam included."""
    result = run(sys.executable, '-c', LIST_REQUIREMENTS, cwd=ROOT)
    assert result.returncode == 0, result.stderr
    return pins(result.stdout.splitlines(), python)


@pytest.mark.parametrize('python, file', [('3.9', 'constraints.txt'), ('3.11', 'constraints.txt'),
                                          ('3.12', 'constraints-3.12.txt'), ('3.13', 'constraints-3.12.txt')])
def test_constraints_pin_what_is_required(python, file):
    with open(os.path.join(ROOT, file)) as lines:
        pinned = pins((line for line in lines if not line.startswith('#')), python)
    wanted = required(python)
    assert len(wanted) > 10
    assert {name: pinned.get(name) for name in wanted} == wanted


def test_this_python_has_its_versions():
    wanted = required('.'.join(map(str, sys.version_info[:2])))
    assert wanted['tensorflow'] == '==' + lanes.TENSORFLOW == '==' + importlib.metadata.version('tensorflow')
    assert os.path.exists(os.path.join(ROOT, lanes.CONSTRAINTS))
    assert lanes.IS_SUPPORTED


KERAS = """
import dnnlib, tensorflow as tf
print(tf.keras.optimizers.legacy.Adam is tf.keras.optimizers.Adam, sum(tf.ones([2])).numpy())
"""


def test_tensorflow_starts_silent_with_keras_2_whatever_the_environment_says():
    environment = {**os.environ, 'TF_USE_LEGACY_KERAS': '0' if lanes.HAS_KERAS_3 else '1'}
    result = run(sys.executable, '-c', KERAS, cwd=ROOT, env=environment)
    assert result.returncode == 0 and not result.stderr, result.stderr
    assert result.stdout == 'False 2.0\n'  # Keras 3 has no legacy optimizers: it would raise


@pytest.mark.parametrize('body, said', [
    ('os.write(2, b"F0000 00:00:1.0 1 guard.cc:1] no AVX\\n"); os.abort()', 'no AVX'),
    ('os.write(2, b"help\\n"); raise ImportError("libfoo.so is missing")', 'help\nImportError: libfoo.so is missing')])
def test_a_failing_import_of_tensorflow_is_not_hidden(tmp_path, body, said):
    (tmp_path / 'tensorflow.py').write_text(
        'import os\nos.write(2, b"I0000 00:00:1795527397.437963    6755 port.cc:153] oneDNN\\n")\n' + body)
    code = 'import sys, dnnlib; sys.excepthook = lambda t, e, tb: print(f"{t.__name__}: {e}", file=sys.stderr)\n' \
           'import tensorflow'
    result = run(sys.executable, '-c', code, cwd=ROOT, env={**os.environ, 'PYTHONPATH': str(tmp_path)})
    assert result.returncode and said in result.stderr
    assert ('oneDNN' in result.stderr) != lanes.HAS_KERAS_3
