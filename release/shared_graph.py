"""Pictures of many instances that share a graph, which is loaded once; the weights are read from each one's file.

Loading an instance, and what TensorFlow makes ready before it draws the first time, takes ten times as long as drawing
eight small pictures. All instances that one command issues have the same graph, though, so that only the numbers in it
need be read anew.
"""
import os

import numpy as np
import tensorflow as tf
from tensorflow.core.framework import tensor_pb2
from tensorflow.core.protobuf import saved_model_pb2
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

from release.export import MODEL, read_saved_model

SIGNATURE = 'serving_default'
WEIGHTS = (tf.float32.as_datatype_enum, tf.float16.as_datatype_enum)


class SharedGraph:
    """The 8-bit pictures of issued folders: SharedGraph()(folder, latents [N, latent_dim]) → uint8 [N, H, W, 3].

    A folder's saved_model.pb is read from disk at each call. Where all of it but the generator's weights is, byte for
    byte, what it was at the call before, the graph made then draws with the weights just read; else the folder is
    loaded as a whole.
    """

    def __init__(self):
        self._structure = None

    def __call__(self, folder: str, latents: np.ndarray) -> np.ndarray:
        """The pictures. Raises what reading and loading a damaged folder raises."""
        saved = read_saved_model(os.path.join(folder, MODEL))
        weights = _taken_out(saved)
        structure = saved.SerializeToString(deterministic=True)
        if structure != self._structure:
            self._load(folder, weights)
            self._structure = structure
        feeds = {self._places[name]: array for name, array in weights.items()}
        return self._session.run(self._images, {**feeds, self._latents: latents})

    def _load(self, folder, weights):
        """Makes the session: the signature's graph, with a place to be fed for each of the weights."""
        loaded = tf.saved_model.load(folder).signatures[SIGNATURE]
        inlined = convert_variables_to_constants_v2(loaded)  # it has no variables: this dissolves its functions
        graph_def = inlined.graph.as_graph_def()
        prefix = _prefix([node.name for node in graph_def.node], list(weights))
        self._session = tf.compat.v1.Session(graph=tf.Graph())
        with self._session.graph.as_default():
            self._places = {name: tf.compat.v1.placeholder(array.dtype, array.shape) for name, array in weights.items()}
            fed = {f'{prefix}{name}:0': place for name, place in self._places.items()}
            self._latents, self._images = tf.graph_util.import_graph_def(
                graph_def, fed, [inlined.inputs[0].name, inlined.outputs[0].name], name='')


def _taken_out(saved: saved_model_pb2.SavedModel) -> dict[str, np.ndarray]:
    """{name: array} of the weights, which are replaced in `saved` by empty tensors of their type and shape.

    They are the constants of floating point in the largest function: the generator.
    """
    generator = max(saved.meta_graphs[0].graph_def.library.function, key=lambda function: len(function.node_def))
    found = {}
    for node in generator.node_def:
        if node.op == 'Const' and node.attr['dtype'].type in WEIGHTS:
            tensor = node.attr['value'].tensor
            found[node.name] = tf.make_ndarray(tensor)
            tensor.CopyFrom(tensor_pb2.TensorProto(dtype=tensor.dtype, tensor_shape=tensor.tensor_shape))
    return found


def _prefix(names, weights):
    """What the names of a function's nodes got in front when it was dissolved into a graph of `names`."""
    known = set(names)
    return next(start for start in (name[:-len(weights[0])] for name in names if name.endswith(weights[0]))
                if known.issuperset(start + weight for weight in weights))
