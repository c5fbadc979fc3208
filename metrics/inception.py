"""The network that FID is defined on: the frozen Inception graph of 2015-12-05, found or downloaded, and its features.

    feed   ExpandDims:0      float32 [N, H, W, 3], RGB in 0..255; the graph scales and resizes by itself
    fetch  pool_3:0          [N, 1, 1, 2048], the standard FID's features
    or     mixed_7/join:0    [N, 17, 17, 768], averaged over space, where the graph was cut there
"""
import dataclasses
import http.client
import os
import shutil
import tarfile
import tempfile
import urllib.request
import zlib

import numpy as np
import tensorflow as tf

from dnnlib.util import UserError, make_folder, progress, sha256_file

INPUT = 'ExpandDims:0'
OUTPUTS = ('pool_3', 'mixed_7/join')  # the first of these that the graph holds
GRAPH_VARIABLE = 'INCEPTION_GRAPH'
CACHE_VARIABLE = 'FINGERPRINTING_CACHE'
DOWNLOAD_ERRORS = (OSError, EOFError, ValueError, KeyError, http.client.HTTPException, tarfile.TarError, zlib.error)


@dataclasses.dataclass(frozen=True)
class Archive:
    """Where the frozen graph is published, and the sha256s that tell it has arrived whole."""
    url: str = 'https://download.tensorflow.org/models/image/imagenet/inception-2015-12-05.tgz'
    sha256: str = 'f6b539e07358fc4622efdd40cdb5577672c46cd416bbfccf9d4d2438f9b93a1c'
    member: str = 'classify_image_graph_def.pb'
    member_sha256: str = '009d6814d1bc560d4e7b236e170e9b2d5ca6f4b57bd8037f6db05776204415c6'


STANDARD = Archive()


def cache_folder():
    """Makes and returns the cache folder: $FINGERPRINTING_CACHE, else one in the user's cache."""
    user = os.environ.get('XDG_CACHE_HOME') or os.path.join(os.path.expanduser('~'), '.cache')
    return make_folder(os.environ.get(CACHE_VARIABLE) or os.path.join(user, 'stylegan2-fingerprinting'))


def find_graph(path=None, archive=STANDARD):
    """Returns the path of the frozen graph: `path`, else $INCEPTION_GRAPH, else the cached file, downloaded once.

    Raises:
        UserError: there is no such file, the cached one was altered, or the download failed.
    """
    path = path or os.environ.get(GRAPH_VARIABLE)
    if path:
        if not os.path.isfile(path):
            raise UserError(f'there is no FID network at {path}; give the path of {archive.member}')
        return path
    cached = os.path.join(cache_folder(), archive.member)
    if not os.path.exists(cached):
        _download(archive, cached)
    elif sha256_file(cached) != archive.member_sha256:
        raise UserError(f'{cached} is not the standard FID network; delete it and it is downloaded again')
    return cached


def _download(archive, target):
    """Downloads and unpacks the archive beside `target`, checks both sha256s, and only then moves the graph there."""
    with tempfile.TemporaryDirectory(dir=os.path.dirname(target)) as folder:
        packed, graph = os.path.join(folder, 'archive.tgz'), os.path.join(folder, archive.member)
        try:
            _fetch(archive.url, packed)
            _check(packed, archive.sha256)
            with tarfile.open(packed) as tar, tar.extractfile(archive.member) as member, open(graph, 'wb') as file:
                shutil.copyfileobj(member, file)
            _check(graph, archive.member_sha256)
            os.replace(graph, target)
        except DOWNLOAD_ERRORS as error:
            reason = getattr(error, 'reason', None) or error
            raise UserError(f'cannot download the FID network from {archive.url} ({reason}); fetch it elsewhere, '
                            f'and put its {archive.member} at {target}, or give its path') from None


def _fetch(url, path):
    with urllib.request.urlopen(url, timeout=30) as response, open(path, 'wb') as file:
        size = int(response.headers.get('Content-Length') or 0) or None
        with progress(total=size, unit='B', unit_scale=True, desc='FID network') as bar:
            for block in iter(lambda: response.read(1 << 16), b''):
                file.write(block)
                bar.update(len(block))


def _check(path, expected):
    if sha256_file(path) != expected:
        raise ValueError(f'{os.path.basename(path)} arrived with another sha256 than {expected[:16]}…')


class Inception:
    """The frozen graph, loaded.

    Attributes:
        name: 'fid2048' or 'fid768', by the features it gives.
        dims: their number.
        sha256: the graph file's.

    Raises:
        UserError: the file is no GraphDef, or lacks the nodes named above.
    """

    def __init__(self, path):
        self.sha256 = sha256_file(path)
        graph_def = _parse(path)
        nodes = {node.name for node in graph_def.node}
        output = next((name for name in OUTPUTS if name in nodes), None)
        if output is None or INPUT.split(':')[0] not in nodes:
            raise UserError(f'{path} is not the FID network: it lacks {INPUT} or {" and ".join(OUTPUTS)}; '
                            f'give {STANDARD.member} of {os.path.basename(STANDARD.url)}')
        self._function = _features(graph_def, f'{output}:0')
        self.dims = self.features(np.zeros([1, 8, 8, 3], np.uint8)).shape[1]
        self.name = f'fid{self.dims}'

    def features(self, images):
        """The features of uint8 images [N, H, W, 3]: float64 [N, dims]."""
        return self._function(images.astype(np.float32)).astype(np.float64)


def _parse(path):
    graph_def = tf.compat.v1.GraphDef()
    try:
        with open(path, 'rb') as file:
            graph_def.ParseFromString(file.read())
    except Exception as error:  # protobuf's DecodeError is a class of its C++ or its Python half, by installation
        raise UserError(f'{path} cannot be read as a frozen graph ({error}); download it again') from None
    return graph_def


def _features(graph_def, output):
    """The graph as a function from images to features.

    A session of its own, not a tf.function: the original graph is of 2015 and holds operations that only graphs marked
    as old may use. Feeding by `input_map` leaves the number of images free.
    """
    with tf.Graph().as_default() as graph:
        images = tf.compat.v1.placeholder(tf.float32, [None, None, None, 3])
        [maps] = tf.graph_util.import_graph_def(graph_def, input_map={INPUT: images}, return_elements=[output], name='')
        features = tf.reduce_mean(maps, axis=[1, 2])
    config = tf.compat.v1.ConfigProto()
    config.gpu_options.allow_growth = True
    return tf.compat.v1.Session(graph=graph, config=config).make_callable(features, [images])
