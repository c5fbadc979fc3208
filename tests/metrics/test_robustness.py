import json

import numpy as np
import pytest

from dnnlib.images import to_uint8
from dnnlib.perturbations.table import PAPER_NAMES, TABLE
from dnnlib.util import UserError
from fingerprints.statistics import threshold
from metrics import robustness
from metrics.base import Model, Options, run_metric
from metrics.fid import frechet_distance
from metrics.similarity import psnr, ssim

BITS = 16


def make_model(decode=True):
    """Bit i is how bright the i-th of 16 squares is: what blur and JPEG leave alone and a crop does not."""
    def generate(latents, fingerprints):
        squares = (fingerprints.reshape(-1, 4, 4, 1) * 2 - 1) * np.float32(0.3)
        return np.broadcast_to(squares.repeat(8, 1).repeat(8, 2), [len(latents), 32, 32, 3]).copy()

    def read(images):
        return images.mean(axis=3).reshape(-1, 4, 8, 4, 8).mean(axis=(2, 4)).reshape(-1, BITS)
    return Model(generate, read if decode else None, 6, BITS, 32, 16)


def test_curves_of_a_model_whose_weakness_is_known():
    record = run_metric('robustness', make_model(), None, Options(num_images=40))
    assert {name: [point['value'] for point in curve] for name, curve in record['curves'].items()} == {
        'none': [None], **{name: list(TABLE[name].strengths) for name in PAPER_NAMES}}
    for name in ('none', 'blur', 'jpeg', 'noise'):
        assert all(point['bit_accuracy'] > 0.99 for point in record['curves'][name]), name
    crops = [point['bit_accuracy'] for point in record['curves']['crop']]
    assert crops[0] > 0.8 > crops[-1] > 0.4
    points = [point['bit_accuracy'] for name in PAPER_NAMES for point in record['curves'][name]]
    assert record['value'] == pytest.approx(np.mean(points))
    whole = record['curves']['none'][0]
    assert whole['attributable']['1e-03'] == {'threshold': 15, 'share': 1.0, 'interval': whole['interval']}
    assert whole['attributable']['1e-06'] is None and whole['attributable_many'] is None  # 16 bits are too few
    assert whole['psnr'] is None and whole['ssim'] == pytest.approx(1)
    assert record['parameters']['crop'] == 'side of 128'
    assert record['fid'] is None and record['fid_missing'] == 'no Inception graph is named'
    assert record == {**run_metric('robustness', make_model(), None, Options(num_images=40)),
                      **{key: record[key] for key in ('seconds', 'time')}}
    json.dumps(record)


def test_perturbations_by_name_and_what_they_do_to_the_picture():
    model = make_model()
    record = run_metric('robustness', model, None, Options(num_images=20, perturbations=('flip', 'brightness')))
    assert list(record['curves']) == ['none', 'flip', 'brightness']
    flip, = record['curves']['flip']
    assert 0.4 < flip['bit_accuracy'] < 0.6
    fingerprints = (np.random.default_rng([0, 1]).random([20, BITS]) < 0.5).astype(np.float32)  # as base.py draws them
    pictures = to_uint8(model.generate(fingerprints, fingerprints))
    assert flip['bit_accuracy'] == np.mean(fingerprints.reshape(-1, 4, 4) == fingerprints.reshape(-1, 4, 4)[:, :, ::-1])
    error = np.mean(np.square(pictures.astype(float) - pictures[:, :, ::-1]))
    assert flip['psnr'] == pytest.approx(psnr(error), rel=1e-5)
    assert flip['ssim'] == pytest.approx(ssim(pictures[:, :, ::-1], pictures).mean())


def test_among_a_million_users():
    """A point whose pictures are read right but for as many bits as one user, or a million, may have wrong."""
    bits = 64
    needed = {users: threshold(bits, users, 1e-6) for users in (1, 10 ** 6)}
    fingerprints = np.ones([4, bits], np.uint8)
    answers = np.ones([4, bits], np.float32)
    for row, count in enumerate((bits, needed[10 ** 6], needed[1], needed[1] - 1)):
        answers[row, count:] = -1
    point = robustness.Point('none', None, 0, None)
    model = Model(None, lambda images: answers, 6, bits, 32, 4)
    point.add(model, np.zeros([4, 32, 32, 3], np.uint8), fingerprints)
    found = point.summary(point)
    assert found['attributable']['1e-06']['share'] == 0.75 and found['attributable_many']['share'] == 0.5
    assert found['attributable_many']['threshold'] == needed[10 ** 6] > needed[1]


class Channels:
    """In place of the FID network: the mean of each colour."""
    dims, name = 3, 'fid3'

    def __init__(self, path):
        self.path = path

    def features(self, images):
        return images.mean(axis=(1, 2))


def test_fid_of_perturbed_to_unperturbed_pictures(monkeypatch, tmp_path):
    monkeypatch.setattr(robustness, 'Inception', Channels)
    graph = tmp_path / 'graph.pb'
    graph.write_bytes(b'')
    options = Options(num_images=20, inception=str(graph), perturbations=('brightness', 'flip'))
    record = run_metric('robustness', make_model(), None, options)
    assert record['fid'] == 'fid3' and 'fid_missing' not in record
    assert record['curves']['none'][0]['fid'] == pytest.approx(0, abs=1e-6)
    assert record['curves']['flip'][0]['fid'] == pytest.approx(0, abs=1e-6)  # which leaves a picture's mean as it is
    fingerprints = (np.random.default_rng([0, 1]).random([20, BITS]) < 0.5).astype(np.float32)
    before = to_uint8(make_model().generate(fingerprints, fingerprints)).mean(axis=(1, 2))
    after = np.clip(before * 1.25, 0, 255)
    expected = frechet_distance(before.mean(0), np.cov(before.T), after.mean(0), np.cov(after.T))
    assert record['curves']['brightness'][0]['fid'] == pytest.approx(expected, rel=0.05)
    few = run_metric('robustness', make_model(), None, Options(3, inception=str(graph), perturbations=('flip',)))
    assert few['fid'] is None and few['fid_missing'] == '3 images are too few for fid3; take at least 4'


def test_without_a_decoder():
    with pytest.raises(UserError, match='robustness needs a decoder'):
        run_metric('robustness', make_model(decode=False), None, Options(num_images=4))
