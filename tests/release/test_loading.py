"""Instances load where this project is not: by TensorFlow's C API, OpenVINO and ONNX Runtime."""
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2

from fingerprints.registry import Registry
from helpers import save_run
from release.drawing import Drawer
from release.issue import issue

LATENTS = np.random.default_rng(0).standard_normal([3, 6]).astype(np.float32)


@pytest.fixture
def folder(released):
    return os.path.join(released[2], 'alice', '1')


def tensors(folder, signature):
    """(input, output) of a signature, by their names in the graph."""
    saved = saved_model_pb2.SavedModel()
    with open(os.path.join(folder, 'saved_model.pb'), 'rb') as file:
        saved.ParseFromString(file.read())
    found = saved.meta_graphs[0].signature_def[signature]
    return found.inputs['latents'].name, found.outputs['images'].name


def test_by_the_c_api(folder, tmp_path):
    compiler, home = shutil.which('gcc'), os.path.dirname(tf.__file__)
    if compiler is None:
        pytest.skip('gcc is not installed')
    libraries = [f'{home}/libtensorflow_cc.so.2', f'{home}/libtensorflow_framework.so.2']
    source, program = os.path.join(os.path.dirname(__file__), 'load_instance.c'), str(tmp_path / 'load')
    subprocess.run([compiler, source, '-o', program, f'-I{tf.sysconfig.get_include()}', *libraries,
                    f'-Wl,-rpath,{home}'], check=True)
    for signature, dtype in (('serving_default', np.uint8), ('float', np.float32)):
        done = subprocess.run([program, folder, '3', '6', *tensors(folder, signature)], input=LATENTS.tobytes(),
                              capture_output=True, check=True, env={**os.environ, 'TF_CPP_MIN_LOG_LEVEL': '2'})
        images = np.frombuffer(done.stdout, dtype).reshape(3, 16, 16, 3)
        expected = tf.saved_model.load(folder).signatures[signature](latents=tf.constant(LATENTS))['images']
        assert np.abs(images.astype(float) - expected.numpy()).max() <= (1 if dtype == np.uint8 else 1e-3)
    with Drawer(folder) as drawer:
        expected = np.clip(np.rint((images + 1) * 127.5), 0, 255)
        np.testing.assert_allclose(drawer(LATENTS).astype(float), expected, atol=1)


@pytest.mark.parametrize('name', ['alice', 'adopted'])
def test_operations_are_those_that_other_runtimes_have(folder, tmp_path, name):
    """ONNX's and OpenVINO's converters know no transposed depthwise convolution."""
    if name == 'adopted':
        run = save_run(str(tmp_path / 'run'), preset='adopted', method='adopted', read_side=8)
        registry = Registry(str(tmp_path / 'registry.sqlite'), create=True)
        folder, _ = issue(run, registry, 'alice', str(tmp_path / 'instances'))
    saved = saved_model_pb2.SavedModel()
    with open(os.path.join(folder, 'saved_model.pb'), 'rb') as file:
        saved.ParseFromString(file.read())
    ops = {node.op for function in saved.meta_graphs[0].graph_def.library.function for node in function.node_def}
    assert 'DepthwiseConv2dNative' in ops and 'DepthwiseConv2dNativeBackpropInput' not in ops


def test_by_openvino(folder):
    openvino = pytest.importorskip('openvino', reason='openvino is not installed')
    model = openvino.Core().read_model(folder)
    model.reshape({'latents': list(LATENTS.shape)})  # its CPU plugin refuses a batch of any size
    compiled = openvino.Core().compile_model(model, 'CPU', {'INFERENCE_PRECISION_HINT': 'f32'})
    (images,) = compiled({'latents': LATENTS}).values()
    with Drawer(folder) as drawer:
        np.testing.assert_allclose(images.astype(float), drawer(LATENTS), atol=1)


def test_by_onnx_runtime(folder, tmp_path):
    onnxruntime = pytest.importorskip('onnxruntime', reason='onnxruntime is not installed')
    pytest.importorskip('tf2onnx', reason='tf2onnx is not installed')
    path = str(tmp_path / 'instance.onnx')
    subprocess.run([sys.executable, '-m', 'tf2onnx.convert', '--saved-model', folder, '--signature_def', 'float',
                    '--output', path], check=True, capture_output=True)
    session = onnxruntime.InferenceSession(path, providers=['CPUExecutionProvider'])
    images, = session.run(None, {session.get_inputs()[0].name: LATENTS})
    expected = tf.saved_model.load(folder).signatures['float'](latents=tf.constant(LATENTS))['images']
    np.testing.assert_allclose(images, expected, atol=1e-3)
