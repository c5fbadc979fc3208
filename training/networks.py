"""The four networks: encoder E, generator G, discriminator D, decoder F; and the plain StyleGAN2 generator.

Yu et al. 2022 (arXiv 2012.08726, section 3) on StyleGAN2 config E (Karras et al. 2020, arXiv 1912.04958).
Each builds its variables once, in `__init__`. Images are NHWC RGB in [-1, 1].
"""
import math

import tensorflow as tf

from dnnlib.ops.fused_bias_act import fused_bias_act
from dnnlib.ops.upfirdn_2d import downsample_2d, upsample_2d
from training.config import check_resolution, feature_maps, parse_range
from training.layers import FILTER, Conv2D, Dense, EqualizedLayer, SynthesisConv2D, minibatch_stddev


def resolutions(resolution):
    """4, 8, ... up to and with `resolution`."""
    return [2 ** r for r in range(2, int(math.log2(resolution)) + 1)]


class Encoder(tf.keras.Model):
    """E: codes [N, in_dim] → embeddings [N, embedding_dim], `mapping_layers` dense layers with lrelu.

    Fed with fingerprints of 0 and 1 as they are; with `normalize` (the plain generator's mapping of latents) the
    codes are first scaled to a mean square of 1.
    """

    def __init__(self, config, in_dim, normalize=False):
        super().__init__(name='E')
        self.normalize = normalize
        widths = [in_dim] + [config.embedding_dim] * config.mapping_layers
        self.dense = [Dense(f'E/dense{i}', widths[i], widths[i + 1], act='lrelu', lrmul=config.mapping_lrmul,
                            impl=config.ops) for i in range(config.mapping_layers)]

    def call(self, codes):
        if self.normalize:
            codes *= tf.math.rsqrt(tf.reduce_mean(tf.square(codes), axis=1, keepdims=True) + 1e-8)
        for dense in self.dense:
            codes = dense(codes)
        return codes


class LatentInput(EqualizedLayer):
    """The fingerprinted generator's first layer: latents [N, latent_dim] → lrelu(dense) [N, 4, 4, channels]."""

    def __init__(self, name, latent_dim, channels, impl):
        super().__init__(name, [latent_dim, 16 * channels], channels, impl=impl)

    def call(self, latents):
        x = tf.matmul(latents, self.scaled_weight())
        x = tf.reshape(x, [-1, 4, 4, self.bias.shape[0]])
        return fused_bias_act(x, self.scaled_bias(), act='lrelu', impl=self.impl)


class ConstantInput(tf.keras.layers.Layer):
    """The plain generator's first layer: a learned constant [4, 4, channels], repeated for each latent."""

    def __init__(self, name, channels):
        super().__init__(name=name)
        self.constant = self.add_weight(name=f'{name}/constant', shape=[1, 4, 4, channels],
                                        initializer=tf.keras.initializers.RandomNormal(0, 1))

    def call(self, latents):
        return tf.tile(self.constant, [tf.shape(latents)[0], 1, 1, 1])


class Generator(tf.keras.Model):
    """G: latents [N, latent_dim] and embeddings [N, L, embedding_dim] → images [N, H, W, 3].

    L = `num_modulated`, the modulated layers (ToRGB among them) in the order they run; embeddings [N, embedding_dim]
    serve all of them. Outside `res_modulated_range` convolutions are plain. With `modulated=False` every one is: the
    network an instance is baked into. config.generator picks its input: the latents or a learned constant.
    """

    def __init__(self, config, resolution, modulated=True):
        super().__init__(name='G')
        check_resolution(resolution)
        self.resolution = resolution
        low, high = parse_range(config.res_modulated_range, 'res-modulated-range')
        channels = feature_maps(config, 1)
        if config.generator == 'stylegan2':
            self.input_layer = ConstantInput('G/input', channels)
        else:
            self.input_layer = LatentInput('G/input', config.latent_dim, channels, config.ops)
        self.convs, self.to_rgb, self.impl = [], [], config.ops
        for res in resolutions(resolution):
            embedding_dim = config.embedding_dim if modulated and low <= res <= high else 0
            filters = feature_maps(config, int(math.log2(res)) - 1)
            for up in ([True, False] if res > 4 else [False]):
                name = f'G/{res}x{res}/conv{"_up" if up else ""}'
                self.convs.append(SynthesisConv2D(name, channels, filters, 3, embedding_dim, up=up, impl=config.ops))
                channels = filters
            self.to_rgb.append(SynthesisConv2D(f'G/{res}x{res}/to_rgb', channels, 3, 1, embedding_dim,
                                               demodulate=False, noise=False, act='linear', impl=config.ops))
        self.fixed_noise = [self.add_weight(
            name=f'G/fixed_noise{i}', shape=[1, *shape], trainable=False,
            initializer=lambda shape, dtype, i=i: tf.random.stateless_normal(shape, [config.seed, i], dtype=dtype))
            for i, shape in enumerate(self.noise_shapes())]

    def layers_in_order(self):
        """Every SynthesisConv2D in the order it runs."""
        ordered = [self.convs[0], self.to_rgb[0]]
        for i, to_rgb in enumerate(self.to_rgb[1:]):
            ordered += [self.convs[2 * i + 1], self.convs[2 * i + 2], to_rgb]
        return ordered

    @property
    def num_modulated(self):
        return sum(layer.modulated for layer in self.layers_in_order())

    def noise_shapes(self):
        """[H, W, 1] of each convolution's noise image, in the order of `convs`."""
        return [[res, res, 1] for res in resolutions(self.resolution) for _ in range(1 if res == 4 else 2)]

    def broadcast(self, embeddings):
        """Embeddings [N, embedding_dim] → [N, L, embedding_dim], one copy per modulated layer."""
        return tf.repeat(embeddings[:, tf.newaxis], self.num_modulated, axis=1)

    def call(self, latents, embeddings=None, noise=None):
        """`noise`: a list of images [N, H, W, 1] for `convs`; None takes the fixed noise, as instances do."""
        noise = noise or self.fixed_noise
        if embeddings is not None and embeddings.shape.rank == 2:
            per_layer = [embeddings] * self.num_modulated
        else:
            per_layer = tf.unstack(embeddings, axis=1) if self.num_modulated else []
        per_layer, noise = iter(per_layer), iter(noise)

        def run(layer, x):
            return layer(x, next(per_layer) if layer.modulated else None,
                         next(noise) if layer.noise_strength is not None else None)

        x = run(self.convs[0], self.input_layer(latents))
        images = run(self.to_rgb[0], x)
        for i, to_rgb in enumerate(self.to_rgb[1:]):
            x = run(self.convs[2 * i + 1], x)
            x = run(self.convs[2 * i + 2], x)
            images = upsample_2d(images, FILTER, impl=self.impl) + run(to_rgb, x)
        return images


class ResidualBlock(tf.keras.layers.Layer):
    """x [N, H, W, in] → (conv(conv(x)) down 2 + skip(x)) / √2, [N, H/2, W/2, filters]."""

    def __init__(self, name, in_channels, filters, impl):
        super().__init__(name=name)
        self.impl = impl
        self.conv0 = Conv2D(f'{name}/conv0', in_channels, in_channels, 3, impl=impl)
        self.conv1 = Conv2D(f'{name}/conv1_down', in_channels, filters, 3, down=True, impl=impl)
        self.skip = Conv2D(f'{name}/skip', in_channels, filters, 1, bias=False, act='linear', impl=impl)

    def call(self, x):
        skip = self.skip(downsample_2d(x, FILTER, impl=self.impl))
        return (self.conv1(self.conv0(x)) + skip) * math.sqrt(0.5)


class ResidualNetwork(tf.keras.Model):
    """The residual tower of D and of F: images [N, H, W, 3] → [N, outputs]."""

    def __init__(self, config, resolution, outputs, minibatch_statistics, name):
        super().__init__(name=name)
        check_resolution(resolution)
        self.minibatch_statistics = minibatch_statistics
        stages = [int(math.log2(res)) for res in reversed(resolutions(resolution))]
        impl, channels = config.ops, feature_maps(config, stages[0] - 1)
        self.from_rgb = Conv2D(f'{name}/from_rgb', 3, channels, 1, impl=impl)
        self.blocks = [ResidualBlock(f'{name}/{2 ** r}x{2 ** r}', feature_maps(config, r - 1),
                                     feature_maps(config, r - 2), impl) for r in stages[:-1]]
        channels = feature_maps(config, 1)
        self.conv = Conv2D(f'{name}/4x4/conv', channels + minibatch_statistics, channels, 3, impl=impl)
        self.dense = Dense(f'{name}/4x4/dense', 16 * channels, channels, act='lrelu', impl=impl)
        self.out = Dense(f'{name}/output', channels, outputs, impl=impl)

    def call(self, images):
        x = self.from_rgb(images)
        for block in self.blocks:
            x = block(x)
        if self.minibatch_statistics:
            x = minibatch_stddev(x)
        x = self.conv(x)
        return self.out(self.dense(tf.reshape(x, [-1, x.shape[1] * x.shape[2] * x.shape[3]])))


class Discriminator(ResidualNetwork):
    """D: images [N, H, W, 3] → logits [N, 1], positive for real."""

    def __init__(self, config, resolution):
        super().__init__(config, resolution, 1, True, 'D')


class Decoder(ResidualNetwork):
    """F: images [N, H, W, 3] → latents [N, latent_dim] and fingerprint logits [N, fingerprint_bits].

    It sees images clipped to [−1, 1]: a generator trained with it hides nothing where no image file could keep it.
    """

    def __init__(self, config, resolution):
        super().__init__(config, resolution, config.latent_dim + config.fingerprint_bits, False, 'F')
        self.split = [config.latent_dim, config.fingerprint_bits]

    def call(self, images):
        return tf.split(super().call(tf.clip_by_value(images, -1.0, 1.0)), self.split, axis=1)
