"""The gradients of the native ops, registered by op name: every tape, tf.function and strategy finds them there."""
import numpy as np
import tensorflow as tf

from dnnlib.ops.native.loader import library


@tf.RegisterGradient('DnnlibUpfirdn2D')
def _upfirdn_2d_grad(op, dy):
    """The gradient of upfirdn is upfirdn by the flipped filter with up and down exchanged."""
    size, pad, up, down = ([int(v) for v in op.get_attr('kernel_size')], op.get_attr('pad'), op.get_attr('up'),
                           op.get_attr('down'))
    kernel = np.asarray(op.get_attr('kernel'))
    separable = op.get_attr('separable')
    flipped = np.concatenate([kernel[:size[0]][::-1], kernel[size[0]:][::-1]]) if separable else kernel[::-1]
    x_shape, y_shape = op.inputs[0].shape, op.outputs[0].shape
    pads = [p for axis in (0, 1)
            for p in (size[axis] - 1 - pad[2 * axis],
                      (x_shape[axis + 1] - 1) * up + 1 + pad[2 * axis] - y_shape[axis + 1] * down)]
    return library().ops.dnnlib_upfirdn2d(dy, kernel=flipped.tolist(), kernel_size=size, separable=separable, up=down,
                                          down=up, pad=pads)


def _absent(tensor):
    return tensor.shape.rank == 1 and tensor.shape[0] == 0


def _slopes(op):
    return {'alpha': op.get_attr('alpha'), 'gain': op.get_attr('gain')}


def _needs(op, index):
    """Whether the tape asks for this input's gradient. A graph does not say, but prunes what is not used."""
    skip = getattr(op, 'skip_input_indices', None)
    return skip is None or index not in skip


def _dnoise(dy, v, factor, noise, slopes):
    """The gradient of the noise, in TensorFlow's ops: training does not ask for it. `v` has the activation's sign."""
    above = tf.constant(slopes['gain'], dy.dtype)
    grad = dy * tf.where(v > 0, above, above * tf.constant(slopes['alpha'], dy.dtype)) * factor
    grad = tf.reduce_sum(grad, axis=3, keepdims=True)
    return tf.reduce_sum(grad, axis=0, keepdims=True) if noise.shape[0] == 1 else grad


def _activated(ref, scale, noise, strength, bias):
    """What the activation's sign is read from: recomputed where `ref` is x, `ref` itself where it is y."""
    if _absent(scale):
        return ref
    v = ref * scale[:, None, None] + noise * strength
    return v if _absent(bias) else v + bias


@tf.RegisterGradient('DnnlibFusedBiasAct')
def _fused_bias_act_grad(op, dy):
    """Keeps x where there is a scale, else y, else (linear) nothing."""
    x, scale, noise, strength, bias = op.inputs
    slopes = _slopes(op)
    ref = op.outputs[0] if _absent(scale) else x
    ref = dy if _absent(scale) and slopes['alpha'] == 1 else ref
    dx, dscale, dstrength, dbias = library().ops.dnnlib_fused_bias_act_grad(
        dy, ref, scale, noise, strength, bias, **slopes)
    dnoise = None
    if not _absent(noise) and _needs(op, 2):
        dnoise = _dnoise(dy, _activated(ref, scale, noise, strength, bias), strength, noise, slopes)
    return [dx, *(None if _absent(t) else d for t, d in (
        (scale, dscale), (noise, dnoise), (strength, dstrength), (bias, dbias)))]


@tf.RegisterGradient('DnnlibFusedBiasActGrad')
def _fused_bias_act_grad_grad(op, gdx, gdscale, gdstrength, gdbias):
    """The op is linear in dy, and in x and scale as far as they don't flip a sign."""
    dy, ref, scale, noise, strength, bias = op.inputs
    slopes = _slopes(op)
    modulated = not _absent(scale)
    ddy, dx, dscale = library().ops.dnnlib_fused_bias_act_grad_grad(
        gdx, gdscale, gdstrength, gdbias, dy if modulated else gdx, ref, scale, noise, strength, bias, **slopes)
    dnoise = None
    if not _absent(noise) and _needs(op, 3):
        dnoise = _dnoise(dy, _activated(ref, scale, noise, strength, bias), gdstrength, noise, slopes)
    return [ddy, dx if modulated else None, dscale if modulated else None, dnoise, None, None]
