"""What tests share: photographs and the FID network kept beside the project, a run, a registry with two users."""
import logging
import os

import pytest

import dnnlib  # noqa: F401  (quiets TensorFlow before any test imports it)
from fingerprints.registry import Registry
from helpers import ROOT, save_run

logging.getLogger('tensorflow').setLevel(logging.ERROR)  # as the command lines do: it tells of every variable unread


@pytest.fixture(scope='session')
def shared():
    """Path of ../shared; the test is skipped if it is absent."""
    path = os.path.join(os.path.dirname(ROOT), 'shared')
    if not os.path.isdir(path):
        pytest.skip('the photographs in ../shared are absent')
    return path


@pytest.fixture(scope='session')
def run_dir(tmp_path_factory):
    """A run folder with one snapshot of small untrained networks."""
    return save_run(str(tmp_path_factory.mktemp('run')))


@pytest.fixture(scope='session')
def released(run_dir, tmp_path_factory):
    """(run folder, Registry, folder of instances) with users alice and bob."""
    from release.issue import issue
    folder = tmp_path_factory.mktemp('release')
    registry = Registry(str(folder / 'registry.sqlite'), create=True)
    for name in ('alice', 'bob'):
        issue(run_dir, registry, name, str(folder / 'instances'))
    return run_dir, registry, str(folder / 'instances')
