"""Instances as ONNX files, for runtimes other than TensorFlow. tf2onnx and ONNX Runtime are the extra `onnx`."""
import importlib
from types import ModuleType

import numpy as np
import tensorflow as tf
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

from dnnlib.images import to_uint8
from dnnlib.util import UserError

ONNX = '.onnx'  # beside the folder: instances/alice/1.onnx
OPSET = 17      # of 2022: what OpenVINO, TensorRT, Core ML and the browser's runtime of some years ago know as well
SIGNATURE = 'float'

ABSENT = ('tf2onnx or ONNX Runtime is not installed, or not for this Python; on 3.11 or newer: '
          "pip install -e '.[onnx]'; or leave --onnx out")


class OnnxExporter:
    """Writes issued folders as ONNX files: OnnxExporter()(folder, path). Raises UserError without the packages."""

    def __init__(self):
        self._converter, _ = _module('tf2onnx.convert'), _module('onnxruntime')

    def __call__(self, folder: str, path: str) -> None:
        """Converts what the folder's saved_model.pb holds.

        The file's input is `latents` [N, latent_dim] float32, its output `images` [N, H, W, 3] float32, in [-1, 1] but
        for overshoot. It is computed in float32.
        """
        function = convert_variables_to_constants_v2(tf.saved_model.load(folder).signatures[SIGNATURE])
        (given,), (made,) = function.inputs, function.outputs
        model, _ = self._converter.from_graph_def(
            function.graph.as_graph_def(), name='instance', input_names=[given.name], output_names=[made.name],
            tensors_to_rename={given.name: 'latents', made.name: 'images'}, opset=OPSET)
        with open(path, 'wb') as file:
            file.write(model.SerializeToString(deterministic=True))


def onnx_pictures(path: str, latents: np.ndarray) -> np.ndarray:
    """The pictures uint8 [N, H, W, 3] that ONNX Runtime draws from a file and latents [N, latent_dim]."""
    session = _module('onnxruntime').InferenceSession(path, providers=['CPUExecutionProvider'])
    images, = session.run(['images'], {'latents': latents})
    return to_uint8(images)


def _module(name) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ImportError:
        raise UserError(ABSENT) from None
