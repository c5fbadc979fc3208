import os
import zipfile

import numpy as np
import pytest
from PIL import Image
from scipy import linalg

from dnnlib.util import UsageError, UserError
from helpers import write_dataset
from metrics import fid
from metrics.base import Model, Options, run_metric
from metrics.fid import Moments, frechet_distance, real_moments


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def random_covariance(rng, dims, rank=None):
    root = rng.normal(size=[dims, rank or dims + 5])
    return root @ root.T / dims


def test_in_one_dimension_it_is_the_closed_form():
    assert frechet_distance([1.0], [[4.0]], [3.0], [[9.0]]) == pytest.approx((1 - 3) ** 2 + (2 - 3) ** 2)


def test_covariances_that_commute_have_a_closed_form(rng):
    basis, _ = np.linalg.qr(rng.normal(size=[40, 40]))
    one, two, shift = rng.uniform(0, 5, 40), rng.uniform(0, 5, 40), rng.normal(size=40)
    one[:7] = two[5:12] = 0  # singular both
    distance = frechet_distance(shift, basis * one @ basis.T, np.zeros(40), basis * two @ basis.T)
    assert distance == pytest.approx(shift @ shift + np.sum((np.sqrt(one) - np.sqrt(two)) ** 2), rel=1e-6)


def test_in_general_it_equals_the_matrix_square_root(rng):
    one, two = random_covariance(rng, 60), random_covariance(rng, 60)
    expected = np.trace(one + two - 2 * linalg.sqrtm(one @ two).real)
    assert frechet_distance(np.zeros(60), one, np.zeros(60), two) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize('rank', [None, 10])
def test_equal_gaussians_have_no_distance(rng, rank):
    covariance, mean = random_covariance(rng, 60, rank), rng.normal(size=60)
    assert 0 <= frechet_distance(mean, covariance, mean, covariance) < 1e-9


def test_it_is_symmetric_on_singular_covariances(rng):
    one, two = random_covariance(rng, 50, 20), random_covariance(rng, 50, 30)
    forth, back = (frechet_distance(np.zeros(50), a, np.zeros(50), b) for a, b in ((one, two), (two, one)))
    assert forth == pytest.approx(back, rel=1e-7) and forth > 0.1


def test_moments_equal_numpys_in_whatever_batches(rng):
    features = rng.normal(size=[101, 6]) * [1, 1, 1, 1, 1e-4, 1e-4] + [0, 1, 10, 1e3, 1e3, 0]
    for size in (1, 7, 101):
        moments = Moments(6)
        for start in range(0, 101, size):
            moments.add(features[start:start + size])
        assert moments.count == 101
        np.testing.assert_allclose(moments.mean, features.mean(axis=0), rtol=1e-12)
        expected = np.cov(features.T)
        scale = np.sqrt(np.outer(np.diag(expected), np.diag(expected)))
        np.testing.assert_allclose(moments.covariance / scale, expected / scale, atol=1e-8)


class ChannelMeans:
    """In place of Inception: three features an image."""
    name, dims, sha256 = 'fid3', 3, 'a' * 64

    def __init__(self, path=None):
        self.seen = 0

    def features(self, images):
        assert images.dtype == np.uint8
        self.seen += len(images)
        return images.mean(axis=(1, 2), dtype=np.float64)


def make_dataset(rng, path, train=4, evaluation=30):
    images = rng.integers(0, 256, [train + evaluation, 8, 8, 3], dtype=np.uint8)
    return write_dataset(str(path), 'noise', 'random numbers', images[:train], images[train:]), images[train:]


def make_model(images, batch_size=8):
    """A model that 'generates' the given uint8 images, one after the other, a third of a grey level too bright."""
    position = [0]

    def generate(latents, fingerprints):
        start, position[0] = position[0], position[0] + len(latents)
        return np.float32((images[np.arange(start, position[0]) % len(images)] + 1 / 3) / 127.5 - 1)
    return Model(generate, None, 4, 0, 8, batch_size)


def test_real_statistics_are_computed_once(rng, tmp_path):
    dataset, images = make_dataset(rng, tmp_path / 'data')
    network = ChannelMeans()
    first = real_moments(network, dataset, 'eval', 20)
    np.testing.assert_allclose(first.covariance, np.cov(images[:20].mean(axis=(1, 2)).T))
    again = real_moments(network, dataset, 'eval', 20)
    assert network.seen == 20 and again.count == 20
    assert (again.mean == first.mean).all() and (again.covariance == first.covariance).all()
    assert real_moments(network, dataset, 'eval', 30).count == 30 and network.seen == 50
    real_moments(network, dataset, 'train', 4)
    other = ChannelMeans()
    other.sha256 = 'b' * 64
    real_moments(other, dataset, 'eval', 20)
    assert network.seen == 54 and other.seen == 20 and len(os.listdir(tmp_path / 'cache' / 'fid')) == 4


@pytest.mark.parametrize('damage', ['text', 'cut', 'flipped', 'another key', 'no npz'])
def test_a_damaged_cache_is_computed_again(rng, tmp_path, damage):
    dataset, _ = make_dataset(rng, tmp_path / 'data')
    network = ChannelMeans()
    expected = real_moments(network, dataset, 'eval', 20)
    [name] = os.listdir(tmp_path / 'cache' / 'fid')
    path = tmp_path / 'cache' / 'fid' / name
    data = path.read_bytes()
    if damage == 'another key':
        expected.save(path, 'another')
    elif damage == 'no npz':
        with open(path, 'wb') as file:
            np.save(file, np.zeros(3))
    else:
        half = len(data) // 2
        path.write_bytes({'text': b'hello', 'cut': data[:half],
                          'flipped': data[:half] + bytes([data[half] ^ 255]) + data[half + 1:]}[damage])
    moments = real_moments(network, dataset, 'eval', 20)
    assert network.seen == 40 and (moments.covariance == expected.covariance).all()
    assert Moments.load(path, str(np.load(path)['key'])).count == 20  # and it is whole again


def test_moments_with_a_damaged_header_are_none(rng, tmp_path):
    """Of as many features as are parsed before a checksum is looked at: the network's, of which there are more."""
    path, moments = tmp_path / 'moments.npz', Moments(600)
    moments.add(rng.standard_normal([2, 600]))
    moments.save(str(path), 'key')
    assert Moments.load(str(path), 'key').count == 2 and Moments.load(str(path), 'other') is None
    data = path.read_bytes()
    start = data.index(b"{'descr'", data.index(b'mean.npy'))
    path.write_bytes(data[:start] + b"{('escr'" + data[start + 8:])
    assert Moments.load(str(path), 'key') is None


@pytest.fixture
def fake_network(monkeypatch):
    monkeypatch.setattr(fid, 'find_graph', lambda path: path)
    monkeypatch.setattr(fid, 'Inception', ChannelMeans)


def test_the_same_images_score_zero_after_rounding_and_others_do_not(rng, tmp_path, fake_network):
    dataset, images = make_dataset(rng, tmp_path / 'data')
    options = Options()
    record = run_metric('fid', make_model(images), dataset, options)
    assert record['metric'] == 'fid3' and record['value'] < 1e-9
    assert (record['images'], record['reals'], record['split'], record['features']) == (30, 30, 'eval', 3)
    assert record['full_rank'] and record['graph_sha256'] == 'a' * 64 and record['dataset'] == 'noise'
    assert run_metric('fid', make_model(images // 2), dataset, options)['value'] > 100
    few = run_metric('fid', make_model(images), dataset, Options(num_images=3))
    assert (few['images'], few['reals'], few['full_rank']) == (3, 3, False) and few['value'] < 1e-9
    many = run_metric('fid', make_model(images), dataset, Options(num_images=60))
    assert (many['images'], many['reals']) == (60, 30)


def test_bad_input_is_refused(rng, tmp_path, fake_network):
    dataset, images = make_dataset(rng, tmp_path / 'data')
    model = make_model(images)
    with pytest.raises(UserError, match='there is no dataset'):
        run_metric('fid', model, None, Options())
    with pytest.raises(UsageError, match='cannot be measured on 1 images; take at least 2'):
        run_metric('fid', model, dataset, Options(num_images=1))
    empty, _ = make_dataset(rng, tmp_path / 'empty', evaluation=0)
    with pytest.raises(UserError, match='has no eval images'):
        run_metric('fid', model, empty, Options())
    large = Model(model.generate, None, 4, 0, 16)
    with pytest.raises(UserError, match='images of 8 pixels, the model makes 16'):
        run_metric('fid', large, dataset, Options())


def test_on_the_cut_network_photographs_are_nearer_to_photographs_than_to_noise(rng, shared, tmp_path):
    with zipfile.ZipFile(os.path.join(shared, 'data', 'signs64.zip')) as archive:
        names = sorted(name for name in archive.namelist() if name.endswith(('.jpg', '.png', '.webp')))[:48]
        pictures = []
        for name in names:
            with archive.open(name) as file, Image.open(file) as image:
                pictures.append(np.asarray(image.convert('RGB').resize([64, 64])))
    pictures = np.stack(pictures)
    dataset = write_dataset(str(tmp_path / 'data'), 'signs', 'photographs', pictures[:1], pictures[1:24])
    options = Options(inception=os.path.join(shared, 'inception', 'inception-2015-12-05-mixed_7.pb'))
    noise = rng.integers(0, 256, [23, 64, 64, 3], dtype=np.uint8)

    def score(images):
        model = make_model(images)
        return run_metric('fid', Model(model.generate, None, 4, 0, 64, 23), dataset, options)
    same, near, far = (score(images) for images in (pictures[1:24], pictures[24:47], noise))
    assert [record['metric'] for record in (same, near, far)] == ['fid768'] * 3 and not same['full_rank']
    assert same['value'] < 1e-6 < near['value'] < far['value'] / 2
