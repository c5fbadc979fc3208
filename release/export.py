"""Writing baked generators as SavedModels."""
import os
import re
import tempfile

import numpy as np
import tensorflow as tf
from tensorflow.core.framework import attr_value_pb2
from tensorflow.core.protobuf import saved_model_pb2
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

from dnnlib.images import to_uint8_tensor

SIGNATURES = {'serving_default': 'uint8, 0 to 255', 'float': 'float32, -1 to 1'}  # and what their images are
MODEL = 'saved_model.pb'
NUMBERED = re.compile(r'(.*_)(\d+)')  # how TensorFlow calls functions: __inference_pruned_2544


def export(generator: tf.keras.Model, folder: str) -> None:
    """Writes a baked generator as a SavedModel: `Template`'s, for one only."""
    Template(generator).write(folder)


class Template:
    """The SavedModel of a baked generator, of constants and TensorFlow's own ops, made once and filled many times.

    Signatures, both of `latents` [N, latent_dim] float32 with N free: 'serving_default' returns `images`
    [N, H, W, 3] uint8; 'float' returns them as float32, in [-1, 1] but for overshoot.

    The bytes depend on the generator alone: a user can't tell from their instance how many were exported before it,
    nor with how many threads.

    Args:
        generator: what a method's `bake` returns: latents to images, with `config` and `resolution`. Filled anew by
            `bake(..., into=generator)`, it is written with the same graph and its new numbers.
        float16: store the numbers in 16 bits. They are turned to float32 where they are used, and all is computed so.
    """

    def __init__(self, generator: tf.keras.Model, float16: bool = False):
        spec = tf.TensorSpec([None, generator.config.latent_dim], tf.float32, name='latents')
        concrete = tf.function(generator, input_signature=[spec]).get_concrete_function()
        with tempfile.TemporaryDirectory() as folder:
            _save(convert_variables_to_constants_v2(concrete), spec, generator.resolution, folder)
            self._saved = _numbered_from_0(read_saved_model(os.path.join(folder, MODEL)))
            self._others = _other_files(folder)
        self._constants = _constants_of(self._saved, concrete)
        self._dtype = np.float16 if float16 else np.float32
        if float16:
            _halve(self._saved, [node for _, nodes in self._constants for node in nodes])

    def write(self, folder: str) -> None:
        """Writes the generator as it is now into a new folder."""
        for variable, nodes in self._constants:
            tensor = tf.make_tensor_proto(variable.numpy().astype(self._dtype))
            for node in nodes:
                node.attr['value'].tensor.CopyFrom(tensor)
        for name, data in self._others.items():
            os.makedirs(os.path.dirname(os.path.join(folder, name)), exist_ok=True)
            _write(os.path.join(folder, name), data)
        _write(os.path.join(folder, MODEL), self._saved.SerializeToString(deterministic=True))


def _save(frozen, spec, resolution, folder):
    """Saves a frozen generator with its two signatures."""
    shape = [None, resolution, resolution, 3]

    def as_float(latents):
        return {'images': tf.ensure_shape(frozen(latents)[0], shape)}

    def as_uint8(latents):
        return {'images': to_uint8_tensor(as_float(latents)['images'])}

    module = tf.Module()
    module.serve, module.serve_float = (tf.function(function, input_signature=[spec])
                                        for function in (as_uint8, as_float))
    tf.saved_model.save(module, folder, signatures={'serving_default': module.serve, 'float': module.serve_float})


def read_saved_model(path: str) -> saved_model_pb2.SavedModel:
    """The message in a saved_model.pb. Raises DecodeError if it is damaged."""
    saved = saved_model_pb2.SavedModel()
    with open(path, 'rb') as file:
        saved.ParseFromString(file.read())
    return saved


def _write(path, data):
    with open(path, 'wb') as file:
        file.write(data)


def _other_files(folder):
    """{relative path: bytes} of all but the graph: an empty checkpoint.

    fingerprint.pb, a checksum of the graph that loading does not need, is left out: it would not fit any more.
    """
    found = {}
    for root, _, names in os.walk(folder):
        for name in set(names) - {MODEL, 'fingerprint.pb'}:
            path = os.path.join(root, name)
            with open(path, 'rb') as file:
                found[os.path.relpath(path, folder)] = file.read()
    return found


def _constants_of(saved, concrete):
    """[(variable, [its constants in the SavedModel])] of the function that was frozen.

    Freezing makes a constant of each captured variable, under the name by which the function captured it.
    """
    nodes = [node for function in saved.meta_graphs[0].graph_def.library.function for node in function.node_def]
    names = {id(outer): inner.op.name for outer, inner in concrete.graph.captures}
    found = []
    for variable in concrete.graph.variables:
        name = names[id(variable.handle)]
        constants = [node for node in nodes if node.name == name and node.op == 'Const']
        values = [tf.make_ndarray(node.attr['value'].tensor) for node in constants]
        assert values and all(np.array_equal(value, variable.numpy()) for value in values), name
        found.append((variable, constants))
    return found


def _halve(saved, constants):
    """Makes constants those of float16, each followed by a cast to float32 for all that takes it."""
    half, single = (attr_value_pb2.AttrValue(type=dtype.as_datatype_enum) for dtype in (tf.float16, tf.float32))
    names = {node.name for node in constants}
    for function in saved.meta_graphs[0].graph_def.library.function:
        halved = [node for node in function.node_def if node.name in names and node.op == 'Const']
        casts = {f'{node.name}:output:0': f'{node.name}/float32' for node in halved}
        for node in function.node_def:
            node.input[:] = [f'{casts[name]}:y:0' if name in casts else name for name in node.input]
        for node in halved:
            node.attr['dtype'].CopyFrom(half)
        for source, name in casts.items():
            cast = function.node_def.add(name=name, op='Cast', input=[source])
            cast.attr['SrcT'].CopyFrom(half)
            cast.attr['DstT'].CopyFrom(single)


def _numbered_from_0(saved):
    """Numbers a SavedModel's functions from 0: TensorFlow counts all of a process, and orders by chance."""
    graph, = saved.meta_graphs
    functions = sorted(graph.graph_def.library.function, key=_number)
    names = {}
    for function in functions:
        names[function.signature.name] = NUMBERED.fullmatch(function.signature.name)[1] + str(len(names))
    del graph.graph_def.library.function[:]
    graph.graph_def.library.function.extend(functions)
    _rename_functions(graph, names)
    for node in _nodes(graph):
        if 'config_proto' in node.attr:  # what the process that exports had set for itself, its threads for example
            node.attr['config_proto'].s = b''
    return saved


def _nodes(graph):
    """The nodes of a MetaGraphDef, its functions' included."""
    functions = graph.graph_def.library.function
    return [*graph.graph_def.node, *(node for function in functions for node in function.node_def)]


def _number(function):
    return int(NUMBERED.fullmatch(function.signature.name)[2])


def _rename_functions(graph, names):
    """Renames functions of a MetaGraphDef, {old name: new name}, wherever one is named."""
    for function in graph.graph_def.library.function:
        function.signature.name = names[function.signature.name]
    for called in (attr.func for node in _nodes(graph) for attr in node.attr.values() if attr.HasField('func')):
        called.name = names[called.name]
    objects = graph.object_graph_def
    for old, new in names.items():
        if old in objects.concrete_functions:
            objects.concrete_functions[new].CopyFrom(objects.concrete_functions.pop(old))
    for node in objects.nodes:
        if node.HasField('function'):
            node.function.concrete_functions[:] = [names[name] for name in node.function.concrete_functions]
        if node.HasField('bare_concrete_function'):
            bare = node.bare_concrete_function
            bare.concrete_function_name = names[bare.concrete_function_name]
