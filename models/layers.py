"""Dense and convolution layers with equalized learning rate, and the modulated convolution.

Sources: equalized learning rate, Karras et al. 2018 (arXiv 1710.10196, section 4.1); modulated and demodulated
convolution, Karras et al. 2020 (arXiv 1912.04958, equations 1 to 3); its use for fingerprints, Yu et al. 2022
(arXiv 2012.08726, section 3). Tensors are NHWC float32.
"""
import math

import tensorflow as tf

from dnnlib.ops.fused_bias_act import fused_bias_act
from dnnlib.ops.upfirdn_2d import filter_kernel, upfirdn_2d
from models.limits import GROUP

DEMODULATION_EPSILON = 1e-8
FILTER = filter_kernel((1, 3, 3, 1))


def check_shape(name, tensor, *expected):
    """Raises ValueError, naming both, unless `tensor` has the shape `expected`; None stands for any size."""
    actual = tensor.shape.as_list()
    fits = len(actual) == len(expected) and all(
        want is None or have is None or want == have for have, want in zip(actual, expected))
    if not fits:
        wanted = ', '.join('N' if size is None else str(size) for size in expected)
        raise ValueError(f'{name} is of shape {actual}, expected [{wanted}]')


class EqualizedLayer(tf.keras.layers.Layer):
    """A layer whose weight is stored as N(0, 1) / lrmul and used times lrmul / sqrt(fan-in)."""

    def __init__(self, name, weight_shape, bias_units, lrmul=1.0, bias_init=0.0, impl='auto'):
        super().__init__(name=name)
        self.impl = impl
        self.weight_gain = lrmul / math.sqrt(math.prod(weight_shape[:-1]))
        self.bias_gain = lrmul
        self.weight = self.add_weight(
            name=f'{name}/weight', shape=weight_shape, initializer=tf.keras.initializers.RandomNormal(0, 1 / lrmul))
        self.bias = self.add_weight(
            name=f'{name}/bias', shape=[bias_units],
            initializer=tf.keras.initializers.Constant(bias_init / lrmul)) if bias_units else None

    @property
    def drawn_weight(self):
        """(the weight, the standard deviation it is drawn with): the only random values of a new layer."""
        return self.weight, 1 / self.bias_gain

    def scaled_weight(self):
        """The weight as it is used, [..., fan-out]."""
        return self.weight * self.weight_gain

    def scaled_bias(self):
        """The bias as it is used, [fan-out], or None."""
        return self.bias if self.bias is None or self.bias_gain == 1 else self.bias * self.bias_gain


class Dense(EqualizedLayer):
    """x [N, in] → act(x·W + b) [N, units], with act 'linear' or 'lrelu' (slope 0.2, gain √2)."""

    def __init__(self, name, in_units, units, act='linear', lrmul=1.0, bias_init=0.0, impl='auto'):
        super().__init__(name, [in_units, units], units, lrmul, bias_init, impl)
        self.act = act

    def call(self, x):
        x = tf.matmul(x, self.scaled_weight())                                              # [N, units]
        return fused_bias_act(x, self.scaled_bias(), act=self.act, impl=self.impl)          # [N, units]


def conv2d(x, weight):
    """x [N, H, W, in] * weight [k, k, in, out] → [N, H, W, out], same padding."""
    return tf.nn.conv2d(x, weight, strides=1, padding='SAME')


def upsample_conv2d(x, weight, impl='auto'):
    """Up-samples by 2, convolves with weight [3, 3, in, out] and low-pass filters: [N, H, W, in] → [N, 2H, 2W, out].

    The zeros of up-sampling are never multiplied: a transposed convolution of stride 2, then the FIR filter.
    """
    height, width, out = 2 * x.shape[1] + 1, 2 * x.shape[2] + 1, weight.shape[3]
    x = tf.nn.conv2d_transpose(x, tf.transpose(weight, [0, 1, 3, 2]), [tf.shape(x)[0], height, width, out],
                               strides=2, padding='VALID')
    # The gain of 4 makes up for the three of four pixels that up-sampling leaves 0.
    return upfirdn_2d(x, FILTER, pad=(1, 1), gain=4.0, impl=impl)     # [N, 2H, 2W, out]


def downsample_conv2d(x, weight, impl='auto'):
    """Low-pass filters, convolves with weight [3, 3, in, out], stride 2: [N, H, W, in] → [N, H/2, W/2, out]."""
    x = upfirdn_2d(x, FILTER, pad=(2, 2), impl=impl)            # [N, H + 1, W + 1, in]
    return tf.nn.conv2d(x, weight, strides=2, padding='VALID')  # [N, H/2, W/2, out]


class Conv2D(EqualizedLayer):
    """A convolution with bias and activation: [N, H, W, in] → [N, H, W, filters], or half the size with `down`."""

    def __init__(self, name, in_channels, filters, kernel_size, down=False, bias=True, act='lrelu', impl='auto'):
        super().__init__(name, [kernel_size, kernel_size, in_channels, filters], filters if bias else 0, impl=impl)
        self.down = down
        self.act = act

    def call(self, x):
        weight = self.scaled_weight()
        x = downsample_conv2d(x, weight, self.impl) if self.down else conv2d(x, weight)
        return fused_bias_act(x, self.scaled_bias(), act=self.act, impl=self.impl)


class SynthesisConv2D(EqualizedLayer):
    """A generator's convolution: [N, H, W, in] → [N, H, W, filters], or twice the size with `up`.

    With an `embedding_dim` its filters are modulated by s = affine(w) and, with `demodulate`, demodulated
    (arXiv 1912.04958, equations 1 and 3). Rather than a filter per sample, the input is scaled by s before a shared
    convolution and its output by 1/sqrt(Σ(w·s)² + ε) after it, which is equal. `embedding_dim` 0 makes it plain.
    With `noise`, an image of noise [N or 1, H, W, 1] times a learned scalar is added before the bias.
    """

    def __init__(self, name, in_channels, filters, kernel_size, embedding_dim=0, up=False, demodulate=True,
                 noise=True, act='lrelu', impl='auto'):
        super().__init__(name, [kernel_size, kernel_size, in_channels, filters], filters, impl=impl)
        self.up = up
        self.act = act
        self.demodulate = demodulate
        self.affine = Dense(f'{name}/affine', embedding_dim, in_channels, bias_init=1.0,
                            impl=impl) if embedding_dim else None
        self.noise_strength = self.add_weight(name=f'{name}/noise_strength', shape=[],
                                              initializer='zeros') if noise else None

    @property
    def modulated(self):
        return self.affine is not None

    def demodulation(self, weight, styles):
        """1/sqrt(Σ over k, k, in of (w·s)² + ε), [N, filters], from weight [k, k, in, filters], styles [N, in]."""
        energy = tf.reduce_sum(tf.square(weight), axis=[0, 1])    # [in, filters]
        # arXiv 1912.04958, equation 3, for every sample at once.
        squares = tf.matmul(tf.square(styles), energy)            # [N, filters]
        return tf.math.rsqrt(squares + DEMODULATION_EPSILON)      # [N, filters]

    def baked_weight(self, embedding):
        """The filters [k, k, in, filters] that one embedding [embedding_dim] makes of this layer (equations 1, 3)."""
        weight = self.scaled_weight()
        if not self.modulated:
            return weight
        # Equation 1: the filters times the style of their input channel.
        style = self.affine(embedding[tf.newaxis])[0]                     # [in]
        weight = weight * style[:, tf.newaxis]                            # [k, k, in, filters]
        if self.demodulate:
            # Equation 3: each filter at unit norm.
            energy = tf.reduce_sum(tf.square(weight), axis=[0, 1, 2])     # [filters]
            weight *= tf.math.rsqrt(energy + DEMODULATION_EPSILON)
        return weight

    def call(self, x, embedding=None, noise=None):
        """x [N, H, W, in], embedding [N, embedding_dim] where modulated, noise where the layer takes it."""
        weight, scale = self.scaled_weight(), None
        if self.modulated:
            styles = self.affine(embedding)                                    # [N, in]
            x = fused_bias_act(x, scale=styles, act='linear', impl=self.impl)  # [N, H, W, in]
            if self.demodulate:
                scale = self.demodulation(weight, styles)                      # [N, filters]
        # [N, H, W, filters], or [N, 2H, 2W, filters] with `up`
        x = upsample_conv2d(x, weight, self.impl) if self.up else conv2d(x, weight)
        return fused_bias_act(x, self.scaled_bias(), scale=scale, noise=noise, noise_strength=self.noise_strength,
                              act=self.act, impl=self.impl)


def minibatch_stddev(x):
    """Appends one map: the standard deviation over a group of samples, averaged over features and pixels.

    Karras et al. 2018 (arXiv 1710.10196, section 3). Groups are GROUP consecutive samples, so that a batch split over
    replicas has the same groups as the whole one; a smaller batch is one group. x [N, H, W, C] → [N, H, W, C + 1].

    Raises:
        ValueError: N is larger than GROUP and no multiple of it. An N that is not known when the graph is built must
            be a multiple.
    """
    count, height, width, channels = x.shape
    if count is not None and count > GROUP and count % GROUP:
        raise ValueError(f'a batch of {count} images can\'t be divided into groups of {GROUP}')
    group = GROUP if count is None else min(GROUP, count)
    y = tf.reshape(x, [-1, group, height, width, channels])              # [N/g, g, H, W, C]
    y = tf.sqrt(tf.math.reduce_variance(y, axis=1) + 1e-8)               # [N/g, H, W, C]
    y = tf.reduce_mean(y, axis=[1, 2, 3])                                # [N/g]
    y = tf.repeat(y, group)[:, tf.newaxis, tf.newaxis, tf.newaxis]       # [N, 1, 1, 1]
    return tf.concat([x, tf.tile(y, [1, height, width, 1])], axis=3)     # [N, H, W, C + 1]


class RunningMean(tf.keras.layers.Layer):
    """What moves towards the values it is shown: mean ← mean + decay · (value − mean); starts at 0."""

    def __init__(self, name, shape=()):
        super().__init__(name=name)
        self.mean = self.add_weight(name=f'{name}/mean', shape=shape, initializer='zeros', trainable=False,
                                    aggregation=tf.VariableAggregation.ONLY_FIRST_REPLICA)

    def call(self, value, decay):
        """Returns the moved mean, which the same value on every replica leaves the same everywhere."""
        self.mean.assign_add(decay * (value - self.mean))
        return self.mean.read_value()
