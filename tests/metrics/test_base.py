import json
import types

import numpy as np
import pytest

from dnnlib.util import UsageError, UserError
from metrics import base
from metrics.base import Model, Options, generate_images, run_metric

DATASET = types.SimpleNamespace(name='faces', digest='d' * 64)


def make_model(batch_size=4, bits=8, generate=None):
    """Images whose first pixels are the latents squashed and whose next ones are the bits."""
    def draw(latents, fingerprints):
        assert latents.dtype == fingerprints.dtype == np.float32
        assert latents.shape == (batch_size, 5) and fingerprints.shape == (batch_size, bits)
        images = np.zeros([batch_size, 4, 4, 3], np.float32)
        images[:, 0, 0, :] = np.tanh(latents[:, :3])
        images.reshape(batch_size, -1)[:, 3:3 + bits] = fingerprints
        return images
    return Model(generate or draw, None, 5, bits, 4, batch_size)


def collect(batch_size, count, seed=0):
    images, fingerprints = zip(*generate_images(make_model(batch_size), count, seed, 'test'))
    return np.concatenate(images), np.concatenate(fingerprints)


def test_images_depend_on_the_seed_and_not_on_the_batch_size():
    images, fingerprints = collect(4, 10)
    assert len(images) == len(fingerprints) == 10
    for other, equal in ((collect(7, 10), True), (collect(4, 10, seed=1), False)):
        assert np.array_equal(images, other[0]) == np.array_equal(fingerprints, other[1]) == equal
    assert (collect(3, 4)[0] == images[:4]).all()


def test_every_image_comes_with_its_own_fingerprint():
    images, fingerprints = collect(64, 200)
    assert (images.reshape(200, -1)[:, 3:11] == fingerprints).all()
    assert len(np.unique(images[:, 0, 0, 0])) == 200
    assert abs(fingerprints.mean() - 0.5) < 0.05


def test_images_that_are_not_finite_are_told():
    model = make_model(generate=lambda latents, fingerprints: np.full([4, 4, 4, 3], np.nan))
    with pytest.raises(UserError, match='not finite'):
        next(generate_images(model, 4, 0, 'test'))


def test_a_record_fits_one_json_line(monkeypatch):
    monkeypatch.setattr(base, 'METRICS', {})

    @base.metric('ones')
    def ones(model, dataset, options):
        return {'value': 1.0, 'images': options.num_images, 'interval': (0.5, 1.0)}

    record = json.loads(json.dumps(run_metric('ones', make_model(), DATASET, Options(num_images=3, seed=9))))
    assert (record['metric'], record['value'], record['images'], record['seed']) == ('ones', 1.0, 3, 9)
    assert record['noise'] == 'fixed'
    assert (record['dataset'], record['dataset_digest']) == ('faces', 'd' * 64)
    assert set(record['versions']) == {'tensorflow', 'numpy', 'python'}
    assert record['versions']['numpy'] == np.__version__ and record['seconds'] >= 0 and record['time'][:2] == '20'
    assert run_metric('ones', make_model(), None, Options())['dataset'] is None


def test_an_unknown_metric_is_told():
    import metrics  # noqa: F401
    with pytest.raises(UsageError, match="no metric 'fit'; choose from bit_accuracy, fid, forgery, robustness"):
        run_metric('fit', None, None, Options())
