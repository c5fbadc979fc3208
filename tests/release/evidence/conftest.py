"""A small run with what reports and stamps need of it. Its decoder is untrained: users are made to fit it."""
import numpy as np
import pytest
from PIL import Image
from report_samples import INNOCENTS, SIDE

from dnnlib.images import to_float
from dnnlib.util import append_json_line
from helpers import save_run, write_dataset
from training.snapshot import Snapshot, keep_released


@pytest.fixture(scope='session')
def project(tmp_path_factory):
    """(folder, Snapshot): a run, released, with metrics; a picture a.png; photographs."""
    folder = tmp_path_factory.mktemp('report')
    snapshot = Snapshot(save_run(str(folder / 'run')))
    keep_released(str(folder / 'run'), snapshot)
    for kimg, value in ((1, 0.875), (2, 0.123)):
        append_json_line(str(folder / 'run' / 'metrics.jsonl'), {
            'kimg': kimg, 'metric': 'bit_accuracy', 'value': value, 'float': value, 'uint8': value, 'png': value,
            'images': 10, 'attributable': {'1e-03': {'threshold': 15, 'share': 0.5, 'interval': [0.2, 0.8]}}})
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 256, [SIDE, SIDE, 3]).astype(np.uint8)).save(folder / 'a.png')
    photographs = rng.integers(0, 256, [INNOCENTS + 8, SIDE, SIDE, 3]).astype(np.uint8)
    write_dataset(str(folder / 'photographs'), 'noise', 'made', photographs[INNOCENTS:], photographs[:INNOCENTS])
    return folder, snapshot


def read_bits(project, name):
    folder, snapshot = project
    image = np.asarray(Image.open(folder / name))[np.newaxis]
    return (snapshot.model().decode(to_float(image))[0] > 0).astype(np.uint8)


@pytest.fixture
def codes(project):
    read = read_bits(project, 'a.png')
    return {'alice': read, 'bob': 1 - read}
