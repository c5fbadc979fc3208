"""What a TensorFlow Serving server is given: its configuration, warm-up requests, and the owner's decoder."""
import io
import os
import re
import shutil
import stat
import textwrap
import types

import numpy as np
import pytest
import tensorflow as tf
from google.protobuf import text_format, wrappers_pb2
from PIL import Image

import run_release
from dnnlib.images import to_float
from dnnlib.util import UserError
from fingerprints.registry import Registry
from helpers import ROOT
from release.serving import _text, batching_config
from release.warmup import BATCH_SIZES, FILE, prediction_log
from training.snapshot import Snapshot


def call(*words):
    return run_release.main(run_release.make_parser().parse_args(words)) or 0


@pytest.fixture
def place(released, tmp_path):
    shutil.copy(released[1].location, tmp_path / 'registry.sqlite')
    shutil.copytree(released[2], tmp_path / 'instances')
    return tmp_path


def configured(place, *more):
    code = call('serve-config', f'--registry={place}/registry.sqlite', f'--instances={place}/instances',
                f'--out={place}/serving', *more)
    header, text = (place / 'serving' / 'models.config').read_text().split('\n', 1)
    assert header == '# Written by serve-config, which replaces this file.'
    return code, text


def test_live_instances_are_served_and_revoked_ones_are_not(place, capsys):
    code, text = configured(place, '--base=/models')
    assert code == 0 and text.splitlines() == [
        'model_config_list {', '  config { name: "alice" base_path: "/models/alice" model_platform: "tensorflow" }',
        '  config { name: "bob" base_path: "/models/bob" model_platform: "tensorflow" }', '}']
    Registry(f'{place}/registry.sqlite').revoke('alice')
    code, text = configured(place)
    assert code == 0 and 'alice' not in text and f'base_path: "{place}/instances/bob"' in text
    assert '1 instances, 1 revoked not in it' in capsys.readouterr().out


def test_a_changed_instance_is_left_out_and_a_revocation_does_not_wait_for_it(place, capsys):
    Registry(f'{place}/registry.sqlite').revoke('alice')
    (place / 'instances' / 'bob' / '1' / 'more').write_text('')
    code, text = configured(place)
    assert code == 1 and text == 'model_config_list {\n}\n'
    assert 'left out bob: ' in capsys.readouterr().out
    shutil.rmtree(place / 'instances' / 'bob')
    assert configured(place)[0] == 1
    assert 'is not there; name the folder' in capsys.readouterr().out


def test_a_decoder_beside_the_instances(place):
    assert 'name: "decoder" base_path: "/secret/decoder"' in configured(place, '--decoder=/secret/decoder')[1]
    with pytest.raises(UserError, match='--threads=0'):
        configured(place, '--threads=0')


@pytest.mark.parametrize('value', ['/models/a', 'a "quoted" \\ path', 'line\nbreak\x1b', 'grüße/模型', '\udcff'])
def test_texts_are_read_back_by_protobuf(value):
    found = text_format.Parse(f'value: {_text(value)}', wrappers_pb2.BytesValue())
    assert found.value == value.encode('utf-8', 'surrogateescape')


def test_batches_are_of_the_sizes_that_were_warmed_up(released):
    records = list(tf.data.TFRecordDataset(os.path.join(released[2], 'alice', '1', FILE)).as_numpy_iterator())
    assert records == [prediction_log('latents', np.zeros([size, 6], np.float32)) for size in BATCH_SIZES]
    lines = batching_config(4).splitlines()
    assert [int(line.split(': ')[1]) for line in lines if line.startswith('allowed_batch_sizes')] == list(BATCH_SIZES)
    assert f'max_batch_size {{ value: {max(BATCH_SIZES)} }}' in lines and 'num_batch_threads { value: 4 }' in lines


def test_warm_up_requests_are_those_of_servings_own_classes():
    """tensorflow-serving-api, where installed, parses them, and writes the same bytes."""
    apis = pytest.importorskip('tensorflow_serving.apis.prediction_log_pb2',
                               reason='tensorflow-serving-api is not installed')
    values = np.random.default_rng(0).standard_normal([200, 6]).astype(np.float32)
    log = apis.PredictionLog()
    log.predict_log.request.model_spec.signature_name = 'serving_default'
    log.predict_log.request.inputs['latents'].CopyFrom(tf.make_tensor_proto(values))
    assert prediction_log('latents', values) == log.SerializeToString()


@pytest.fixture(scope='module')
def decoder(released, tmp_path_factory):
    """(folder of the exported decoder, its signatures, the Snapshot)."""
    out = str(tmp_path_factory.mktemp('decoder') / 'out')
    call('export-decoder', f'--run={released[0]}', f'--registry={released[1].location}', f'--out={out}')
    loaded = tf.saved_model.load(f'{out}/1')
    return out, loaded, Snapshot(released[0], impl='ref')


def encoded(image, form, **options):
    file = io.BytesIO()
    Image.fromarray(image).save(file, form, **options)
    return file.getvalue()


def test_the_decoder_reads_pixels_and_files_as_attribution_does(decoder):
    _, loaded, snapshot = decoder
    images = np.random.default_rng(0).integers(0, 256, [4, 16, 16, 3], dtype=np.uint8)
    decode = snapshot.model().decode
    logits = loaded.signatures['serving_default'](images=tf.constant(images))['logits']
    np.testing.assert_allclose(logits, decode(to_float(images)), atol=1e-4)
    files = [encoded(images[0], 'PNG'), encoded(images[1], 'JPEG', quality=80), encoded(images[2], 'BMP'),
             encoded(images[3], 'JPEG', quality=95, subsampling=0)]
    pixels = np.stack([np.asarray(Image.open(io.BytesIO(file))) for file in files])
    logits = loaded.signatures['encoded'](files=tf.constant(files))['logits']
    np.testing.assert_allclose(logits, decode(to_float(pixels)), atol=1e-4)
    assert logits.shape == (4, 16)


@pytest.mark.parametrize('file', [b'', b'no picture', encoded(np.zeros([16, 17, 3], np.uint8), 'PNG'),
                                  encoded(np.zeros([8, 8, 3], np.uint8), 'JPEG')])
def test_a_wrong_file_fails_its_request(decoder, file):
    with pytest.raises(tf.errors.InvalidArgumentError):
        decoder[1].signatures['encoded'](files=tf.constant([file]))


def test_the_decoder_is_its_owners_alone_and_holds_no_generator(decoder):
    out, _, snapshot = decoder
    assert stat.S_IMODE(os.stat(out).st_mode) == 0o700
    data = b''.join(open(os.path.join(root, name), 'rb').read() for root, _, names in os.walk(out) for name in names)
    for net, expected in (('G', False), ('E', False), ('F', True)):
        kernels = [one.numpy().tobytes() for one in snapshot.nets[net].trainable_variables if one.shape.rank > 1]
        assert any(kernel in data for kernel in kernels) == expected, net


def clients():
    """{'REST', 'gRPC': the Python client of docs/serving.md}; that of gRPC with latents to send."""
    with open(os.path.join(ROOT, 'docs', 'serving.md'), encoding='utf-8') as file:
        text = file.read()
    section = text[text.index('## TensorFlow Serving'):text.index('**The decoder**')]
    blocks = [textwrap.dedent(block) for block in re.findall(r'(?:^ {4}.*\n|^\n)+', section, re.MULTILINE)]
    rest, grpc = (next(block for block in blocks if word in block)
                  for word in ('import numpy, requests', 'import grpc'))
    return {'REST': rest[rest.index('import numpy'):], 'gRPC': 'latents = numpy.zeros([4, 512])\n' + grpc}


def adapted(code, host, rest_port, grpc_port, latent_dim):
    """A client for another server, model size and nothing else: each text that is replaced must be there."""
    changes = {'localhost:8501': f'{host}:{rest_port}', 'localhost:8500': f'{host}:{grpc_port}',
               '512': str(latent_dim)}
    found = [old for old in changes if old in code]
    assert '512' in found and len(found) == 2
    for old in found:
        code = code.replace(old, changes[old])
    return code


@pytest.mark.parametrize('kind', ['REST', 'gRPC'])
def test_the_docs_clients_are_python(kind):
    compile(adapted(clients()[kind], 'host', 1, 2, 6), kind, 'exec')


def test_the_rest_client_sends_what_the_protocol_asks_for(monkeypatch):
    """To a stand-in that answers as TensorFlow Serving's REST API does: rows in 'instances', rows in 'predictions'."""
    requests, asked = pytest.importorskip('requests'), []

    def post(url, json, timeout):
        asked.append((url, np.shape(json['instances'])))
        return types.SimpleNamespace(json=lambda: {'predictions': np.full([4, 2, 2, 3], 7).tolist()})
    monkeypatch.setattr(requests, 'post', post)
    space = {}
    exec(adapted(clients()['REST'], 'host', 1, 2, 6), space)
    assert asked == [('http://host:1/v1/models/alice:predict', (4, 6))]
    assert space['images'].dtype == np.uint8 and (space['images'] == 7).all()


@pytest.mark.parametrize('kind', ['REST', 'gRPC'])
def test_the_docs_clients_against_a_real_server(kind):
    """Where TF_SERVING_ADDRESS, HOST:RESTPORT or HOST:RESTPORT:GRPCPORT, names a server with an instance 'alice'."""
    address = os.environ.get('TF_SERVING_ADDRESS')
    if not address:
        pytest.skip('TF_SERVING_ADDRESS is not set')
    for package in ('requests', *(['grpc', 'tensorflow_serving'] if kind == 'gRPC' else [])):
        pytest.importorskip(package, reason=f'{package} is not installed')
    import requests
    host, rest_port, grpc_port = (address.split(':') + ['8501', '8500'][address.count(':'):])[:3]
    metadata = requests.get(f'http://{host}:{rest_port}/v1/models/alice/metadata', timeout=60).json()
    given = metadata['metadata']['signature_def']['signature_def']['serving_default']['inputs']['latents']
    space = {}
    exec(adapted(clients()[kind], host, rest_port, grpc_port, int(given['tensor_shape']['dim'][1]['size'])), space)
    images = space['images']
    assert images.dtype == np.uint8 and images.shape[0] == 4 and images.shape[1] == images.shape[2]
    assert images.std() > 1
