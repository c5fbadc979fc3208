"""Writing a baked generator as a SavedModel."""
import os
import re

import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

from dnnlib.images import to_uint8_tensor

NUMBERED = re.compile(r'(.*_)(\d+)')  # how TensorFlow calls functions: __inference_pruned_2544


def export(generator: tf.keras.Model, folder: str) -> None:
    """Writes a baked generator as a SavedModel of constants and TensorFlow's own ops.

    Signatures, both of `latents` [N, latent_dim] float32 with N free: 'serving_default' returns `images`
    [N, H, W, 3] uint8; 'float' returns them as float32, in [-1, 1] but for overshoot.

    The bytes depend on the generator alone: a user can't tell from their instance how many were exported before it.

    Args:
        generator: what a method's `bake` returns: latents to images, with `config` and `resolution`.
        folder: where the SavedModel is written.
    """
    spec = tf.TensorSpec([None, generator.config.latent_dim], tf.float32, name='latents')
    concrete = tf.function(generator, input_signature=[spec]).get_concrete_function()
    frozen = convert_variables_to_constants_v2(concrete)
    shape = [None, generator.resolution, generator.resolution, 3]

    def as_float(latents):
        return {'images': tf.ensure_shape(frozen(latents)[0], shape)}

    def as_uint8(latents):
        return {'images': to_uint8_tensor(as_float(latents)['images'])}

    module = tf.Module()
    module.serve, module.serve_float = (tf.function(function, input_signature=[spec])
                                        for function in (as_uint8, as_float))
    tf.saved_model.save(module, folder, signatures={'serving_default': module.serve, 'float': module.serve_float})
    _number_from_0(folder)


def _number_from_0(folder):
    """Numbers a SavedModel's functions from 0. TensorFlow counts all that the process ever made, and orders by chance.

    Its fingerprint.pb, a checksum that loading does not need, is removed: it would no longer fit.
    """
    path = os.path.join(folder, 'saved_model.pb')
    saved = saved_model_pb2.SavedModel()
    with open(path, 'rb') as file:
        saved.ParseFromString(file.read())
    graph, = saved.meta_graphs
    functions = sorted(graph.graph_def.library.function, key=_number)
    names = {}
    for function in functions:
        names[function.signature.name] = NUMBERED.fullmatch(function.signature.name)[1] + str(len(names))
    del graph.graph_def.library.function[:]
    graph.graph_def.library.function.extend(functions)
    _rename_functions(graph, names)
    with open(path, 'wb') as file:
        file.write(saved.SerializeToString(deterministic=True))
    os.unlink(os.path.join(folder, 'fingerprint.pb'))


def _number(function):
    return int(NUMBERED.fullmatch(function.signature.name)[2])


def _rename_functions(graph, names):
    """Renames functions of a MetaGraphDef, {old name: new name}, wherever one is named."""
    nodes = list(graph.graph_def.node)
    for function in graph.graph_def.library.function:
        function.signature.name = names[function.signature.name]
        nodes += function.node_def
    for called in (attr.func for node in nodes for attr in node.attr.values() if attr.HasField('func')):
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
