"""Up-sample, filter and down-sample images: `ref` in TensorFlow's own ops, `native` in C++ and CUDA."""
import numbers

import numpy as np
import tensorflow as tf

from dnnlib.ops import native


def upfirdn_2d(x, kernel, up=1, down=1, pad=(0, 0), gain=1.0, impl='auto'):
    """Inserts zeros, pads, convolves with a fixed filter and keeps every `down`-th pixel, along height and width.

    As scipy.signal.upfirdn (true convolution: the filter is flipped) applied to both axes, except that each pixel is
    followed by `up - 1` zeros, the last one too, and that `pad` says how much of the result is kept:
    `out = (in · up + before + after - taps) // down + 1`. Differentiable to any order; its gradient is upfirdn again.

    Args:
        x: [N, H, W, C] float; H, W and C static, N may be unknown.
        kernel: NumPy filter, 1-D (separable: applied along both axes) or 2-D.
        up: zeros inserted make the images this many times as large, an int >= 1.
        down: keep one pixel out of this many along each axis, an int >= 1.
        pad: zeros added after the insertion, (before, after) for both axes or (top, bottom, left, right);
            negative numbers crop.
        gain: factor on the result.
        impl: 'ref' (TensorFlow's own ops), 'portable' (of those the ones that ONNX and OpenVINO have too: for exported
            instances), 'native' (the custom op, an error where it can't be loaded) or 'auto' (native where it loads,
            ref inside `tf.function(jit_compile=True)`).

    Returns:
        [N, H', W', C], of x's dtype.

    Raises:
        ValueError: a shape, size or filter that makes no sense; the message has the numbers.
    """
    x = tf.convert_to_tensor(x)
    kernel, pad = _checked(x.shape, kernel, up, down, pad)
    if native.resolve(impl, x.dtype) == 'native':
        return native.upfirdn_2d(x, kernel, up, down, pad, gain)
    if native.compiled_by_xla():
        return _shifted(x, kernel, up, down, pad, gain)
    kernel = np.outer(kernel, kernel) if kernel.ndim == 1 else kernel
    if impl == 'portable':
        return _filter_down(_insert_zeros(x, up), kernel * gain, down, pad)
    return _ref(x, kernel * gain, up, down, pad)


def filter_kernel(taps=(1, 3, 3, 1)):
    """The 1-D filter with these taps, normalised to sum 1: float64 [len(taps)]."""
    taps = np.asarray(taps, np.float64)
    if taps.ndim != 1 or not taps.size or not np.sum(taps):
        raise ValueError(f'taps must be numbers whose sum is not 0, got {taps.tolist()}')
    return taps / np.sum(taps)


def upsample_2d(x, kernel, impl='auto'):
    """Doubles height and width, [N, H, W, C] to [N, 2H, 2W, C], keeping the mean; aligned as in StyleGAN2."""
    taps = len(kernel)
    pad = ((taps - 2 + 1) // 2 + 1, (taps - 2) // 2)
    return upfirdn_2d(x, kernel, up=2, pad=pad, gain=4.0, impl=impl)


def downsample_2d(x, kernel, impl='auto'):
    """Halves height and width, [N, H, W, C] to [N, H/2, W/2, C], keeping the mean; aligned as in StyleGAN2."""
    taps = len(kernel)
    return upfirdn_2d(x, kernel, down=2, pad=((taps - 2 + 1) // 2, (taps - 2) // 2), impl=impl)


def _checked(shape, kernel, up, down, pad):
    """The filter as float64 and pad as (top, bottom, left, right). Raises ValueError where they don't fit `shape`."""
    if shape.rank != 4 or None in shape[1:]:
        raise ValueError(f'x must be [N, H, W, C] with static H, W and C, got {shape}')
    kernel = np.asarray(kernel, np.float64)
    if kernel.ndim not in (1, 2) or not kernel.size:
        raise ValueError(f'kernel must be a 1-D or 2-D filter, got shape {kernel.shape}')
    for name, factor in (('up', up), ('down', down)):
        if not isinstance(factor, numbers.Integral) or factor < 1:
            raise ValueError(f'{name} must be an integer >= 1, got {factor!r}')
    pad = tuple(int(p) for p in pad)
    if len(pad) not in (2, 4):
        raise ValueError(f'pad must be (before, after) or (top, bottom, left, right), got {pad}')
    pad = pad if len(pad) == 4 else pad * 2
    sizes = output_sizes(shape[1:3], _taps(kernel), up, down, pad)
    if min(sizes) < 1:
        raise ValueError(f'{shape[1]}x{shape[2]} images with up {up}, pad {pad} are smaller than the '
                         f'{"x".join(map(str, _taps(kernel)))} filter: nothing is left')
    return kernel, pad


def output_sizes(sizes, taps, up, down, pad):
    """(H', W') of upfirdn_2d's result from (H, W), the filter's (rows, columns) and the four paddings."""
    return tuple((size * up + before + after - k) // down + 1
                 for size, k, before, after in zip(sizes, taps, pad[::2], pad[1::2]))


def _taps(kernel):
    return kernel.shape * 2 if kernel.ndim == 1 else kernel.shape


def _ref(x, kernel, up, down, pad):
    """upfirdn_2d as a depthwise convolution, transposed where it up-samples: what oneDNN runs fastest on a CPU."""
    return _filter_down(x, kernel, down, pad) if up == 1 else _up_filter(x, kernel, up, down, pad)


def _depthwise(kernel, x):
    """The 2-D filter, flipped because TensorFlow correlates, as a depthwise convolution's [rows, columns, C, 1]."""
    kernel = tf.constant(kernel[::-1, ::-1, None, None], x.dtype)
    return tf.tile(kernel, [1, 1, x.shape[3], 1])


def _pad_or_crop(x, pad):
    """Zero-pads height and width by (top, bottom, left, right); negative numbers crop what is padded by then."""
    grow = [max(p, 0) for p in pad]
    x = tf.pad(x, [[0, 0], grow[:2], grow[2:], [0, 0]]) if any(grow) else x
    top, bottom, left, right = crop = [max(-p, 0) for p in pad]
    return x[:, top:x.shape[1] - bottom, left:x.shape[2] - right] if any(crop) else x


def _filter_down(x, kernel, down, pad):
    x = _pad_or_crop(x, pad)
    return tf.nn.depthwise_conv2d(x, _depthwise(kernel, x), [1, down, down, 1], 'VALID')


def _up_filter(x, kernel, up, down, pad):
    """A transposed convolution never multiplies the inserted zeros; its whole result is then padded or cropped."""
    whole = [(size - 1) * up + k for size, k in zip(x.shape[1:3], kernel.shape)]
    outs = output_sizes(x.shape[1:3], kernel.shape, up, 1, pad)
    before = [k - 1 - p for k, p in zip(kernel.shape, pad[::2])]
    after = [size - out - b for size, out, b in zip(whole, outs, before)]
    # The usual alignment is that of padding 'SAME', for which TensorFlow has a kernel four times as fast.
    same = all(out == size * up and b == (k - up) // 2 >= 0
               for size, out, k, b in zip(x.shape[1:3], outs, kernel.shape, before))
    y = tf.nn.depthwise_conv2d_backprop_input(
        [tf.shape(x)[0], *(outs if same else whole), x.shape[3]], _depthwise(kernel[::-1, ::-1], x), x,
        [1, up, up, 1], 'SAME' if same else 'VALID')
    if not same:
        y = _pad_or_crop(y, [-before[0], -after[0], -before[1], -after[1]])
    return y if down == 1 else y[:, ::down, ::down]


def _shifted(x, kernel, up, down, pad, gain):
    """upfirdn_2d as a sum of shifted images, one axis after the other where the filter is separable.

    For XLA, which fuses it into one pass; a training step on a CPU takes a quarter of the time that it takes with XLA's
    depthwise convolutions.
    """
    sizes = output_sizes(x.shape[1:3], _taps(kernel), up, down, pad)
    x = _pad_or_crop(_insert_zeros(x, up), pad)
    if kernel.ndim == 1:
        x = _weighted_sum([(tap * gain, x[:, _kept(i, sizes[0], down)]) for i, tap in enumerate(kernel[::-1])])
        return _weighted_sum([(tap, x[:, :, _kept(i, sizes[1], down)]) for i, tap in enumerate(kernel[::-1])])
    return _weighted_sum([(tap * gain, x[:, _kept(i, sizes[0], down), _kept(j, sizes[1], down)])
                          for (i, j), tap in np.ndenumerate(kernel[::-1, ::-1])])


def _kept(first, count, down):
    """The slice of `count` pixels from `first` on, every `down`-th."""
    return slice(first, first + (count - 1) * down + 1, down)


def _weighted_sum(terms):
    return tf.add_n([image * tf.constant(weight, image.dtype) for weight, image in terms])


def _insert_zeros(x, up):
    """Follows each pixel by up - 1 zeros: [N, H, W, C] → [N, H · up, W · up, C]."""
    if up == 1:
        return x
    height, width, channels = x.shape[1:]
    x = tf.pad(x[:, :, None, :, None], [[0, 0], [0, 0], [0, up - 1], [0, 0], [0, up - 1], [0, 0]])
    return tf.reshape(x, [-1, height * up, width * up, channels])
