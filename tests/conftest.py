"""What tests share: the project's root on the path, and the photographs and FID network kept beside the project."""
import logging
import os
import sys

import pytest

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, ROOT)
import dnnlib  # noqa: E402, F401  (quiets TensorFlow before any test imports it)

logging.getLogger('tensorflow').setLevel(logging.ERROR)  # as the command lines do: it tells of every variable unread


@pytest.fixture(scope='session')
def shared():
    """Path of ../shared; the test is skipped where it is absent."""
    path = os.path.join(os.path.dirname(ROOT), 'shared')
    if not os.path.isdir(path):
        pytest.skip('the photographs in ../shared are absent')
    return path
