"""The C++ and CUDA ops behind upfirdn_2d and fused_bias_act. Importing this registers their gradients."""
import numpy as np
import tensorflow as tf

from dnnlib.ops.native import gradients  # noqa: F401
from dnnlib.ops.native.loader import compiled_by_xla, load, resolve

__all__ = ['compiled_by_xla', 'fused_bias_act', 'load', 'resolve', 'upfirdn_2d']


def upfirdn_2d(x, kernel, up, down, pad, gain):
    """dnnlib.ops.upfirdn_2d by the custom op. `kernel` is a checked NumPy filter, pad has 4 numbers."""
    kernel = np.asarray(kernel)
    separable = kernel.ndim == 1
    size = kernel.shape * 2 if separable else kernel.shape
    taps = np.concatenate([kernel * gain, kernel]) if separable else kernel.ravel() * gain
    return load().ops.dnnlib_upfirdn2d(x, kernel=taps.tolist(), kernel_size=size, separable=separable, up=up,
                                          down=down, pad=pad)


def fused_bias_act(x, bias, scale, noise, noise_strength, alpha, gain):
    """dnnlib.ops.fused_bias_act by the custom op. The tensors are checked; alpha is 1 for a linear activation."""
    bias, scale, noise, noise_strength = (
        tf.zeros([0], x.dtype) if t is None else t for t in (bias, scale, noise, noise_strength))
    return load().ops.dnnlib_fused_bias_act(x, bias, scale, noise, noise_strength, alpha=alpha, gain=gain)
