"""The commands that `pip install -e .` puts on PATH: fingerprint-train and the others (setup.py names them)."""
import os
import runpy
import sys


def _run(script):
    # As `python SCRIPT.py` does: this folder first, so that another package named datasets or metrics is not taken.
    sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
    runpy.run_module(script, run_name='__main__')


def train():
    """fingerprint-train: run_training.py."""
    _run('run_training')


def generate():
    """fingerprint-generate: run_generator.py."""
    _run('run_generator')


def metrics():
    """fingerprint-metrics: run_metrics.py."""
    _run('run_metrics')


def release():
    """fingerprint-release: run_release.py."""
    _run('run_release')


def dataset():
    """fingerprint-dataset: dataset_tool.py."""
    _run('dataset_tool')
