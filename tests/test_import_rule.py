"""The one-way rule: a file imports only from its own folder and from those further left."""
import ast
import os
import subprocess
import sys

import pytest

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
FLOORS = ['dnnlib', 'fingerprints', 'datasets', 'metrics', 'models', 'training', 'release', 'baselines',
          'experiments']
LEAVES = {'release': 'baselines', 'baselines': 'release'}  # these two never meet
SCRIPTS = ['run_training.py', 'run_generator.py', 'run_metrics.py', 'run_release.py', 'dataset_tool.py']


def imported(path):
    """Top-level names of everything a file imports, inside functions too."""
    with open(path) as file:
        tree = ast.parse(file.read(), path)
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name.split('.')[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f'{path}: relative import'
            yield node.module.split('.')[0]


def violations(floor, path, names):
    allowed = FLOORS[:FLOORS.index(floor) + 1]
    return [f'{path}: {name}' for name in names
            if (name in FLOORS and name not in allowed) or name in ('benchmarks', 'tests', LEAVES.get(floor))
            or name.startswith('run_')]


def files(folder):
    for root, _, names in os.walk(os.path.join(ROOT, folder)):
        yield from (os.path.join(root, name) for name in names if name.endswith('.py'))


@pytest.mark.parametrize('floor', FLOORS)
def test_arrows_point_left(floor):
    paths = list(files(floor))
    assert paths or floor == 'baselines'  # which may be taken away
    assert not [line for path in paths for line in violations(floor, path, imported(path))]


def test_the_rule_would_notice():
    assert violations('metrics', 'x.py', ['training', 'dnnlib', 'numpy']) == ['x.py: training']
    assert violations('release', 'x.py', ['run_release', 'training']) == ['x.py: run_release']
    assert violations('baselines', 'x.py', ['release', 'models']) == ['x.py: release']


def test_a_run_names_no_network():
    """training/ takes methods from the dictionary: it imports no class of models/, and tests no method's name."""
    for path in files('training'):
        with open(path) as file:
            tree = ast.parse(file.read(), path)
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and node.module.split('.')[0] == 'models':
                assert node.module in ('models.limits', 'models.methods', 'models.presets', 'models.sampling'), path
            assert not (isinstance(node, ast.Constant) and node.value in ('stylegan2', 'fingerprinted')), path


def test_fingerprints_know_no_tensorflow():
    assert not [path for path in files('fingerprints') if {'tensorflow', 'keras'} & set(imported(path))]
    code = 'import sys, fingerprints.matching, fingerprints.registry; sys.exit("tensorflow" in sys.modules)'
    assert subprocess.run([sys.executable, '-c', code], cwd=ROOT).returncode == 0


@pytest.mark.parametrize('script', SCRIPTS)
def test_help_is_quick_and_clear(script):
    """--help needs no TensorFlow, and every flag says what it does."""
    code = f'import sys; sys.argv = ["{script}", "--help"]; import runpy\n' \
           f'try: runpy.run_path("{script}", run_name="__main__")\n' \
           'finally: assert "tensorflow" not in sys.modules'
    result = subprocess.run([sys.executable, '-c', code], cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith(f'usage: {script}')


def untyped(path):
    """Names of the public functions and methods in a file that leave an argument without a type."""
    with open(path) as file:
        tree = ast.parse(file.read(), path)

    def walk(body):
        for node in body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith('_'):
                yield from walk(node.body)
            elif isinstance(node, ast.FunctionDef) and (not node.name.startswith('_') or node.name == '__init__'):
                arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
                if any(one.annotation is None and one.arg != 'self' and one.arg != 'cls' for one in arguments):
                    yield node.name

    return list(walk(tree.body))


def test_what_others_call_in_a_legal_case_has_types():
    """Ruff asks for the types of what these functions return; this, for those of their arguments."""
    paths = [*files('fingerprints'), *files('release'), os.path.join(ROOT, 'metrics', 'base.py')]
    assert {path: untyped(path) for path in paths if untyped(path)} == {}
    assert untyped(os.path.join(ROOT, 'models', 'sampling.py')), 'the test would not notice'
