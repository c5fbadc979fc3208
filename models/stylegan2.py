"""StyleGAN2 config E: mapping network, generator, discriminator (Karras et al. 2020, arXiv 1912.04958).

The generator's first layer is a parameter: the learned constant of StyleGAN2, or the dense layer that the
fingerprinted method feeds with latents. Each network builds its variables once, in `__init__`. Images are NHWC RGB in
[-1, 1].
"""
import math

import tensorflow as tf

from dnnlib.ops.fused_bias_act import fused_bias_act
from dnnlib.ops.upfirdn_2d import downsample_2d, upsample_2d
from dnnlib.util import UserError
from models.layers import FILTER, Conv2D, Dense, EqualizedLayer, SynthesisConv2D, check_shape, minibatch_stddev
from models.limits import check_networks, check_resolution, is_modulated, resolutions


def feature_maps(config, resolution):
    """Channels of the convolutions at a resolution: clip(2 · fmap_base / resolution, 1, fmap_max)."""
    return min(max(2 * config.fmap_base // resolution, 1), config.fmap_max)


def dense_layers(name, in_dim, config):
    """`mapping_layers` dense layers with lrelu, from in_dim to embedding_dim: a list."""
    widths = [in_dim] + [config.embedding_dim] * config.mapping_layers
    return [Dense(f'{name}/dense{i}', widths[i], widths[i + 1], act='lrelu', lrmul=config.mapping_lrmul,
                  impl=config.impl) for i in range(config.mapping_layers)]


class MappingNetwork(tf.keras.Model):
    """Latents [N, latent_dim], scaled to a mean square of 1 → w [N, embedding_dim]."""

    def __init__(self, config):
        super().__init__(name='M')
        self.latent_dim = config.latent_dim
        self.dense = dense_layers('M', config.latent_dim, config)

    def call(self, latents):
        check_shape('M: latents', latents, None, self.latent_dim)
        mean_square = tf.reduce_mean(tf.square(latents), axis=1, keepdims=True)  # [N, 1]
        w = latents * tf.math.rsqrt(mean_square + 1e-8)                          # [N, latent_dim]
        for dense in self.dense:
            w = dense(w)                                                         # [N, embedding_dim]
        return w


class ConstantInput(tf.keras.layers.Layer):
    """StyleGAN2's first layer: a learned constant [4, 4, channels], repeated for each latent."""

    def __init__(self, name, channels, config):
        super().__init__(name=name)
        self.constant = self.add_weight(name=f'{name}/constant', shape=[1, 4, 4, channels],
                                        initializer=tf.keras.initializers.RandomNormal(0, 1))

    @property
    def drawn_weight(self):
        """(the constant, the standard deviation it is drawn with)."""
        return self.constant, 1.0

    def call(self, latents):
        return tf.tile(self.constant, [tf.shape(latents)[0], 1, 1, 1])  # [N, 4, 4, C]


class LatentInput(EqualizedLayer):
    """The fingerprinted generator's first layer: latents [N, latent_dim] → lrelu(dense) [N, 4, 4, channels].

    Its bias is one per output, the only constant of G that depends on the position, or one per channel.
    """

    def __init__(self, name, channels, config):
        bias_units = 16 * channels if config.input_bias == 'output' else channels
        super().__init__(name, [config.latent_dim, 16 * channels], bias_units, impl=config.impl)
        self.channels, self.per_output = channels, config.input_bias == 'output'

    def call(self, latents):
        x = tf.matmul(latents, self.scaled_weight())          # [N, 16 · C]
        if not self.per_output:
            x = tf.reshape(x, [-1, 4, 4, self.channels])      # [N, 4, 4, C]
        x = fused_bias_act(x, self.scaled_bias(), act='lrelu', impl=self.impl)
        return tf.reshape(x, [-1, 4, 4, self.channels])       # [N, 4, 4, C]


class SynthesisBlock(tf.keras.layers.Layer):
    """One resolution of G: [up-sampling convolution,] convolution, ToRGB added to the up-sampled picture so far.

    The lowest resolution has no up-sampling convolution. With `embedding_dim` 0 its convolutions are plain.
    """

    def __init__(self, name, resolution, in_channels, filters, embedding_dim, impl):
        super().__init__(name=name)
        self.resolution, self.filters, self.impl = resolution, filters, impl
        self.conv_up = None
        if resolution > 4:
            self.conv_up = SynthesisConv2D(f'{name}/conv_up', in_channels, filters, 3, embedding_dim, up=True,
                                           impl=impl)
            in_channels = filters
        self.conv = SynthesisConv2D(f'{name}/conv', in_channels, filters, 3, embedding_dim, impl=impl)
        self.to_rgb = SynthesisConv2D(f'{name}/to_rgb', filters, 3, 1, embedding_dim, demodulate=False, noise=False,
                                      act='linear', impl=impl)

    @property
    def layers_in_order(self):
        """Its SynthesisConv2D layers, in the order they run."""
        return [layer for layer in (self.conv_up, self.conv, self.to_rgb) if layer is not None]

    @property
    def noise_shapes(self):
        """[H, W, 1] of the noise image of each convolution."""
        return [[self.resolution, self.resolution, 1]] * (len(self.layers_in_order) - 1)

    def call(self, x, images, styles, noise, carrier=None):
        """x [N, H/2, W/2, in], images [N, H/2, W/2, 3]; `styles` and `noise` as many as layers and convolutions;
        `carrier` [N, H, W, C], if there is one, is added before the last convolution."""
        if self.conv_up is not None:
            x = self.conv_up(x, styles[0], noise[0])                  # [N, H, W, C]
            images = upsample_2d(images, FILTER, impl=self.impl)      # [N, H, W, 3]
        if carrier is not None:
            x = x + carrier                                           # [N, H, W, C]
        x = self.conv(x, styles[-2], noise[-1])                       # [N, H, W, C]
        rgb = self.to_rgb(x, styles[-1])                              # [N, H, W, 3]
        # Skip connections, arXiv 1912.04958, section 4.1.
        return x, rgb if images is None else images + rgb


class Generator(tf.keras.Model):
    """G: latents [N, latent_dim] and w [N, embedding_dim] → images [N, H, W, 3].

    Outside `res_modulated_range` convolutions are plain; with `modulated=False` every one is: the network that an
    instance is baked into.

    Args:
        config: the options of the networks.
        resolution: of the images.
        input_layer: ConstantInput or LatentInput.
        modulated: whether any convolution is.
    """

    def __init__(self, config, resolution, input_layer, modulated=True):
        super().__init__(name='G')
        check_networks(config, resolution)
        self.config, self.resolution = config, resolution
        channels = feature_maps(config, 4)
        self.input_layer = input_layer('G/input', channels, config)
        self.blocks = []
        for res in resolutions(resolution):
            embedding_dim = config.embedding_dim if modulated and is_modulated(config, res) else 0
            self.blocks.append(SynthesisBlock(f'G/{res}x{res}', res, channels, feature_maps(config, res),
                                              embedding_dim, config.impl))
            channels = feature_maps(config, res)
        self.fixed_noise = [self._fixed_noise(i, shape) for i, shape in enumerate(self.noise_shapes)]

    def _fixed_noise(self, index, shape):
        def initializer(shape, dtype):
            return tf.random.stateless_normal(shape, [self.config.seed, index], dtype=dtype)
        return self.add_weight(name=f'G/fixed_noise{index}', shape=[1, *shape], trainable=False,
                               initializer=initializer)

    @property
    def layers_in_order(self):
        """Every SynthesisConv2D in the order it runs."""
        return [layer for block in self.blocks for layer in block.layers_in_order]

    @property
    def noise_shapes(self):
        """[H, W, 1] of each convolution's noise image, in the order they run."""
        return [shape for block in self.blocks for shape in block.noise_shapes]

    def draw_noise(self, seed):
        """Draws fixed noise images of another seed. Raises UserError if no convolution adds any to its picture."""
        strengths = [layer.noise_strength for layer in self.layers_in_order if layer.noise_strength is not None]
        if not any(float(strength) for strength in strengths):
            raise UserError('this model learned to draw without noise (every strength is 0), so that its instances can '
                            'have no noise images of their own; leave --noise-seed, and a column noise_seed, out')
        for index, variable in enumerate(self.fixed_noise):
            variable.assign(tf.random.stateless_normal(variable.shape, [seed, index]))

    @property
    def plain_variables(self):
        """The variables outside the blocks, which no fingerprint changes."""
        return self.input_layer.variables + self.fixed_noise

    @property
    def num_styles(self):
        """Copies of w: 2 · log2(resolution) − 2. A ToRGB shares that of the next up-sampling convolution."""
        return 2 * len(self.blocks)

    def broadcast(self, w):
        """w [N, embedding_dim] → [N, num_styles, embedding_dim]; w that has as many copies stays as it is."""
        if w.shape.rank == 3:
            return w
        return tf.repeat(w[:, tf.newaxis], self.num_styles, axis=1)

    def _styles(self, w):
        """The copy of w for each layer of each block, from w of either rank; None for each without w."""
        if w is None or w.shape.rank == 2:
            copies = [w] * self.num_styles
        else:
            check_shape('G: w', w, None, self.num_styles, self.config.embedding_dim)
            copies = tf.unstack(w, axis=1)                        # each [N, embedding_dim]
        # 4x4 takes copies 0 and 1; each block after it begins with the last one of the block before.
        return [copies[0:2]] + [copies[i:i + 3] for i in range(1, self.num_styles - 2, 2)]

    def carriers(self, latents):
        """What is added before the last convolution of each block: nothing."""
        return [None] * len(self.blocks)

    def call(self, latents, w=None, noise=None):
        """Generates images.

        Args:
            latents: [N, latent_dim].
            w: [N, embedding_dim], or [N, num_styles, embedding_dim] with a copy per style input; None if no layer is
                modulated.
            noise: an image [N, H, W, 1] per convolution; None takes the fixed noise, as instances do.
        """
        check_shape('G: latents', latents, None, self.config.latent_dim)
        noise = noise or self.fixed_noise
        x, images, first = self.input_layer(latents), None, 0     # [N, 4, 4, C]
        for block, styles, carrier in zip(self.blocks, self._styles(w), self.carriers(latents)):
            count = len(block.noise_shapes)
            x, images = block(x, images, styles, noise[first:first + count], carrier)
            first += count
        return images                                             # [N, H, W, 3]


class ResidualBlock(tf.keras.layers.Layer):
    """x [N, H, W, in] → (conv(conv(x)) down 2 + skip(x)) / √2, [N, H/2, W/2, filters]."""

    def __init__(self, name, in_channels, filters, impl):
        super().__init__(name=name)
        self.impl = impl
        self.conv0 = Conv2D(f'{name}/conv0', in_channels, in_channels, 3, impl=impl)
        self.conv1 = Conv2D(f'{name}/conv1_down', in_channels, filters, 3, down=True, impl=impl)
        self.skip = Conv2D(f'{name}/skip', in_channels, filters, 1, bias=False, act='linear', impl=impl)

    def call(self, x):
        skip = self.skip(downsample_2d(x, FILTER, impl=self.impl))    # [N, H/2, W/2, C]
        x = self.conv1(self.conv0(x))                                 # [N, H/2, W/2, C]
        return (x + skip) * math.sqrt(0.5)


class ResidualNetwork(tf.keras.Model):
    """The residual tower of D and of F: images [N, H, W, 3] → [N, outputs]."""

    def __init__(self, name, config, resolution, outputs, minibatch_statistics):
        super().__init__(name=name)
        check_resolution(resolution)
        self.resolution, self.minibatch_statistics = resolution, minibatch_statistics
        impl, top = config.impl, feature_maps(config, resolution)
        self.from_rgb = Conv2D(f'{name}/from_rgb', 3, top, 1, impl=impl)
        self.blocks = [ResidualBlock(f'{name}/{res}x{res}', feature_maps(config, res), feature_maps(config, res // 2),
                                     impl) for res in reversed(resolutions(resolution)[1:])]
        channels = feature_maps(config, 4)
        in_channels = channels + 1 if minibatch_statistics else channels
        self.conv = Conv2D(f'{name}/4x4/conv', in_channels, channels, 3, impl=impl)
        self.dense = Dense(f'{name}/4x4/dense', 16 * channels, channels, act='lrelu', impl=impl)
        self.out = Dense(f'{name}/output', channels, outputs, impl=impl)

    def call(self, images):
        check_shape(f'{self.name}: images', images, None, self.resolution, self.resolution, 3)
        x = self.from_rgb(images)                 # [N, H, W, C]
        for block in self.blocks:
            x = block(x)                          # [N, H/2, W/2, C], ... to 4x4
        if self.minibatch_statistics:
            x = minibatch_stddev(x)               # [N, 4, 4, C + 1]
        x = self.conv(x)                          # [N, 4, 4, C]
        x = tf.reshape(x, [-1, 16 * x.shape[3]])  # [N, 16 · C]
        return self.out(self.dense(x))            # [N, outputs]


class Discriminator(ResidualNetwork):
    """D: images [N, H, W, 3] → logits [N, 1], positive for real."""

    def __init__(self, config, resolution):
        super().__init__('D', config, resolution, outputs=1, minibatch_statistics=True)
