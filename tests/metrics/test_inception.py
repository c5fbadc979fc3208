import functools
import hashlib
import http.server
import os
import tarfile
import threading

import numpy as np
import pytest
import tensorflow as tf

from dnnlib.util import UserError, sha256_file
from metrics.inception import Archive, Inception, cache_folder, find_graph

IMAGES = np.random.default_rng(0).integers(0, 256, [3, 8, 8, 3], dtype=np.uint8)


def write_old_graph(path, output='pool_3', feed='ExpandDims'):
    """A graph as in 2015: a batch of one by its shape, and an operation that later versions have removed."""
    graph = tf.compat.v1.GraphDef()

    def add(name, op, *inputs, **attributes):
        node = graph.node.add(name=name, op=op, input=inputs)
        for key, value in attributes.items():
            node.attr[key].CopyFrom(tf.compat.v1.AttrValue(**value))

    def constant(name, value):
        tensor = tf.make_tensor_proto(value)
        add(name, 'Const', dtype={'type': tensor.dtype}, value={'tensor': tensor})

    floats = {'type': tf.float32.as_datatype_enum}
    constant('picture', np.zeros([8, 8, 3], np.float32))
    constant('axis', np.int32(0))
    add(feed, 'ExpandDims', 'picture', 'axis', T=floats, Tdim={'type': tf.int32.as_datatype_enum})
    for name, value in {'mean': [100, 120, 140], 'variance': [4, 9, 16], 'beta': [1, 2, 3], 'gamma': [5, 6, 7]}.items():
        constant(name, np.float32(value))
    add(output, 'BatchNormWithGlobalNormalization', feed, 'mean', 'variance', 'beta', 'gamma', T=floats,
        variance_epsilon={'f': 1e-3}, scale_after_normalization={'b': True})
    path.write_bytes(graph.SerializeToString())
    return str(path)


@pytest.mark.parametrize('output', ['pool_3', 'mixed_7/join'])
def test_a_graph_of_2015_takes_any_number_of_images(tmp_path, output):
    network = Inception(write_old_graph(tmp_path / 'graph.pb', output))
    normalized = (IMAGES - [100, 120, 140]) / np.sqrt(np.array([4, 9, 16]) + 1e-3) * [5, 6, 7] + [1, 2, 3]
    features = network.features(IMAGES)
    assert features.dtype == np.float64 and network.name == 'fid3' and network.dims == 3
    np.testing.assert_allclose(features, normalized.mean(axis=(1, 2)), rtol=1e-5)
    assert network.sha256 == sha256_file(tmp_path / 'graph.pb')


def test_other_files_are_refused(tmp_path):
    (tmp_path / 'text').write_text('no graph')
    with pytest.raises(UserError, match='text cannot be read as a frozen graph') as caught:
        Inception(str(tmp_path / 'text'))
    assert '\n' not in str(caught.value)
    for output, feed in (('softmax', 'ExpandDims'), ('pool_3', 'input')):
        with pytest.raises(UserError, match='is not the FID network: it lacks'):
            Inception(write_old_graph(tmp_path / 'graph.pb', output, feed))


def test_the_cut_graph_gives_768_features_whatever_the_batch_and_the_size(shared):
    network = Inception(os.path.join(shared, 'inception', 'inception-2015-12-05-mixed_7.pb'))
    assert (network.name, network.dims) == ('fid768', 768)
    together = network.features(IMAGES)
    assert together.shape == (3, 768) and (together >= 0).all() and together.max() > 0.1  # after a ReLU
    one_by_one = np.concatenate([network.features(image[None]) for image in IMAGES])
    np.testing.assert_allclose(together, one_by_one, atol=1e-5)
    assert np.abs(together[0] - together[1]).max() > 0.1
    # The graph resizes bilinearly to 299×299 with the corner pixel at the corner: doing so outside changes nothing.
    large = tf.compat.v1.image.resize_bilinear(tf.constant(IMAGES[:1], tf.float32), [299, 299]).numpy()
    np.testing.assert_allclose(network.features(large), together[:1], atol=1e-4)


@pytest.fixture
def archive(tmp_path):
    """A served archive, and the log of what was asked for."""
    served = tmp_path / 'served'
    served.mkdir()
    graph = write_old_graph(served / 'classify_image_graph_def.pb')
    with tarfile.open(served / 'inception.tgz', 'w:gz') as tar:
        tar.add(graph, 'classify_image_graph_def.pb')
    requests = []

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *arguments):
            requests.append(self.path)

    server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), functools.partial(Handler, directory=str(served)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield Archive(f'http://127.0.0.1:{server.server_port}/inception.tgz', sha256_file(served / 'inception.tgz'),
                  'classify_image_graph_def.pb', sha256_file(graph)), requests
    server.shutdown()
    server.server_close()


def altered(archive, **changes):
    return Archive(**{**vars(archive), **changes})


@pytest.fixture(autouse=True)
def no_graph_by_environment(monkeypatch):
    monkeypatch.delenv('INCEPTION_GRAPH', raising=False)


def test_the_graph_is_downloaded_once(archive, tmp_path):
    archive, requests = archive
    path = find_graph(archive=archive)
    assert sha256_file(path) == archive.member_sha256 and os.listdir(tmp_path / 'cache') == [archive.member]
    assert find_graph(archive=archive) == path
    assert requests == ['/inception.tgz']
    assert Inception(path).dims == 3


@pytest.mark.parametrize('changes, reason', [
    ({'sha256': '0' * 64}, 'archive.tgz arrived with another sha256 than 0000'),
    ({'member_sha256': '0' * 64}, 'graph_def.pb arrived with another sha256'),
    ({'member': 'absent.pb'}, 'absent.pb'),
    ({'url': 'http://127.0.0.1:1/inception.tgz'}, 'refused')])
def test_a_failed_download_says_what_to_put_where(archive, tmp_path, changes, reason):
    archive = altered(archive[0], **changes)
    with pytest.raises(UserError, match='cannot download the FID network from http://127.0.0.1') as caught:
        find_graph(archive=archive)
    message = str(caught.value)
    assert reason in message and str(tmp_path / 'cache' / archive.member) in message and '\n' not in message
    assert os.listdir(tmp_path / 'cache') == []


def test_an_archive_cut_short_is_not_kept(archive, tmp_path):
    archive, _ = archive
    packed = tmp_path / 'served' / 'inception.tgz'
    packed.write_bytes(packed.read_bytes()[:100])
    digest = hashlib.sha256(packed.read_bytes()).hexdigest()  # even if its sha256 were right
    for changes in ({}, {'sha256': digest}):
        with pytest.raises(UserError, match='cannot download'):
            find_graph(archive=altered(archive, **changes))
    assert os.listdir(tmp_path / 'cache') == []


def test_an_altered_graph_in_the_cache_is_told(archive, tmp_path):
    (tmp_path / 'cache').mkdir()
    (tmp_path / 'cache' / archive[0].member).write_bytes(b'altered')
    with pytest.raises(UserError, match='delete it and it is downloaded again'):
        find_graph(archive=archive[0])
    assert archive[1] == []


def test_a_path_goes_before_the_environment_and_that_before_the_cache(tmp_path, monkeypatch):
    first, second = (write_old_graph(tmp_path / name) for name in ('first.pb', 'second.pb'))
    monkeypatch.setenv('INCEPTION_GRAPH', second)
    assert find_graph(first) == first and find_graph() == second
    with pytest.raises(UserError, match='no FID network at /absent.pb'):
        find_graph('/absent.pb')


def test_the_cache_folder_is_named_by_environment_or_the_users(tmp_path, monkeypatch):
    monkeypatch.delenv('FINGERPRINTING_CACHE', raising=False)
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path))
    assert cache_folder() == str(tmp_path / 'stylegan2-fingerprinting')
    monkeypatch.setenv('FINGERPRINTING_CACHE', str(tmp_path / 'mine'))
    assert cache_folder() == str(tmp_path / 'mine') and os.path.isdir(tmp_path / 'mine')
