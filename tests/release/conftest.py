"""A run folder with a snapshot, and a registry with two users issued from it."""
import os
import sys

import pytest

from fingerprints.registry import Registry
from release.instance import issue

sys.path.insert(0, os.path.dirname(__file__))
from run_folder import save_run  # noqa: E402


@pytest.fixture(scope='session')
def run_dir(tmp_path_factory):
    return save_run(str(tmp_path_factory.mktemp('run')))


@pytest.fixture(scope='session')
def released(run_dir, tmp_path_factory):
    """(run folder, Registry, folder of instances) with users alice and bob."""
    folder = tmp_path_factory.mktemp('release')
    registry = Registry(str(folder / 'registry.sqlite'), create=True)
    for name in ('alice', 'bob'):
        issue(run_dir, registry, name, str(folder / 'instances'))
    return run_dir, registry, str(folder / 'instances')
