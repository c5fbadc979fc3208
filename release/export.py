"""Writing a baked generator as a SavedModel."""
import tensorflow as tf
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

from dnnlib.images import to_uint8_tensor


def export(generator: tf.keras.Model, folder: str) -> None:
    """Writes a baked generator as a SavedModel of constants and TensorFlow's own ops.

    Signatures, both of `latents` [N, latent_dim] float32 with N free: 'serving_default' returns `images`
    [N, H, W, 3] uint8; 'float' returns them as float32, in [-1, 1] but for overshoot.

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
