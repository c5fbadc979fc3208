"""The gradients of the native ops, registered by op name: every tape, tf.function and strategy finds them there."""
import numpy as np
import tensorflow as tf

from dnnlib.ops.native.loader import load


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
    return load().ops.dnnlib_upfirdn2d(dy, kernel=flipped.tolist(), kernel_size=size, separable=separable, up=down,
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


def _activated(sign_source, bias, scale, noise, strength):
    """v, whose sign chooses the slope: computed again if there is a scale (`sign_source` is x then), else y itself."""
    if _absent(scale):
        return sign_source
    v = sign_source * scale[:, None, None] + noise * strength
    return v if _absent(bias) else v + bias


@tf.RegisterGradient('DnnlibFusedBiasAct')
def _fused_bias_act_grad(op, dy):
    """Saves x if there is a scale, y if there is only an activation, nothing if linear."""
    x, bias, scale, noise, strength = op.inputs
    slopes = _slopes(op)
    sign_source = op.outputs[0] if _absent(scale) else x
    sign_source = dy if _absent(scale) and slopes['alpha'] == 1 else sign_source
    dx, dbias, dscale, dstrength = load().ops.dnnlib_fused_bias_act_grad(
        dy, sign_source, bias, scale, noise, strength, **slopes)
    dnoise = None
    if not _absent(noise) and _needs(op, 3):
        dnoise = _dnoise(dy, _activated(sign_source, bias, scale, noise, strength), strength, noise, slopes)
    return [dx, *(None if _absent(t) else d for t, d in (
        (bias, dbias), (scale, dscale), (noise, dnoise), (strength, dstrength)))]


@tf.RegisterGradient('DnnlibFusedBiasActGrad')
def _fused_bias_act_grad_grad(op, gdx, gdbias, gdscale, gdstrength):
    """The op is linear in dy, and in x and scale as far as they don't flip a sign."""
    dy, sign_source, bias, scale, noise, strength = op.inputs
    slopes = _slopes(op)
    modulated = not _absent(scale)
    ddy, dx, dscale = load().ops.dnnlib_fused_bias_act_grad_grad(
        gdx, gdbias, gdscale, gdstrength, dy if modulated else gdx, sign_source, bias, scale, noise, strength, **slopes)
    dnoise = None
    if not _absent(noise) and _needs(op, 4):
        dnoise = _dnoise(dy, _activated(sign_source, bias, scale, noise, strength), gdstrength, noise, slopes)
    return [ddy, dx if modulated else None, None, dscale if modulated else None, dnoise, None]
