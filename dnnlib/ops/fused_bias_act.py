"""Fused scale, noise, bias, activation and gain, which stand between two convolutions: `ref` and `native`."""
import tensorflow as tf

from dnnlib.ops import native

# (slope below zero, factor on the result): √2 about keeps the variance (He et al. 2015, arXiv 1502.01852).
ACTIVATIONS = {'linear': (1.0, 1.0), 'lrelu': (0.2, 2 ** 0.5)}


def fused_bias_act(x, bias=None, scale=None, noise=None, noise_strength=None, act='lrelu', impl='auto'):
    """act(x · scale + noise · noise_strength + bias), differentiable to second order in every tensor.

    Args:
        x: [N, H, W, C] or [N, C] float.
        bias: [C], or None.
        scale: [N, C], or None: the demodulation (arXiv 1912.04958, eq. 3), moved behind the convolution.
        noise: [N or 1, H, W, 1], or None; only with four-dimensional x, and together with noise_strength.
        noise_strength: scalar tensor, or None.
        act: 'linear', or 'lrelu': leaky ReLU with slope 0.2 below zero, times √2.
        impl: 'ref' or 'portable', which are the same here (TensorFlow's own ops, what exported instances need),
            'native' (the custom op, an error if it can't be loaded) or 'auto' (native if it loads, ref inside
            `tf.function(jit_compile=True)`).

    Returns:
        A tensor of x's shape and dtype.

    Raises:
        ValueError: an unknown act or impl, or a shape that makes no sense; the message has the numbers.
    """
    x = tf.convert_to_tensor(x)
    bias, scale, noise, noise_strength = (
        t if t is None else tf.convert_to_tensor(t, x.dtype) for t in (bias, scale, noise, noise_strength))
    if act not in ACTIVATIONS:
        raise ValueError(f'act must be one of {", ".join(ACTIVATIONS)}, got {act!r}')
    alpha, gain = ACTIVATIONS[act]
    _check_shapes(x.shape, bias, scale, noise, noise_strength)
    if native.resolve(impl, x.dtype) == 'native':
        return native.fused_bias_act(x, bias, scale, noise, noise_strength, alpha, gain)
    return _ref(x, bias, scale, noise, noise_strength, alpha, gain)


def _check_shapes(shape, bias, scale, noise, noise_strength):
    if shape.rank not in (2, 4) or shape[-1] is None:
        raise ValueError(f'x must be [N, C] or [N, H, W, C] with static C, got {shape}')
    if (noise is None) != (noise_strength is None):
        raise ValueError('noise and noise_strength go together: give both or neither')
    if noise is not None and shape.rank != 4:
        raise ValueError(f'noise needs x [N, H, W, C], got {shape}')
    expected = [('bias', bias, [shape[-1]]), ('scale', scale, [shape[0], shape[-1]]),
                ('noise_strength', noise_strength, [])]
    if noise is not None:
        one = noise.shape.rank == 4 and noise.shape[0] == 1
        expected.append(('noise', noise, [1 if one else shape[0], *shape[1:3], 1]))
    for name, tensor, wanted in expected:
        if tensor is not None and not tensor.shape.is_compatible_with(wanted):
            raise ValueError(f'{name} must be {wanted} for x {shape}, got {tensor.shape}')


def _ref(x, bias, scale, noise, noise_strength, alpha, gain):
    """Positive gains go through leaky ReLU unchanged, so they are folded into the small tensors if there are any."""
    if scale is not None or noise is not None:
        return _ref_modulated(x, bias, scale, noise, noise_strength, alpha, gain)
    x = x if bias is None else tf.nn.bias_add(x, bias)
    x = x if alpha == 1 else tf.nn.leaky_relu(x, alpha)
    return x if gain == 1 else x * tf.constant(gain, x.dtype)


def _ref_modulated(x, bias, scale, noise, noise_strength, alpha, gain):
    gain = tf.constant(gain, x.dtype)
    if scale is not None:
        scale = scale * gain
        x = x * (scale if x.shape.rank == 2 else scale[:, None, None])
    else:
        x = x * gain
    x = x if noise is None else x + noise * (noise_strength * gain)
    x = x if bias is None else tf.nn.bias_add(x, bias * gain)
    return x if alpha == 1 else tf.nn.leaky_relu(x, alpha)
