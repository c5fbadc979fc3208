"""Random inputs of a training step, drawn for the whole batch, of which each replica takes its part."""
import dataclasses
import math
import zlib

import tensorflow as tf


def phase_seed(seed, name):
    """The seed [2] of a phase, from (run seed, step) [2] int32 and the phase's name.

    Both words of `seed` go through the generator whole, so that no two steps of a run share one, and the name enters
    by a one-to-one map, so that no two phases do.
    """
    hashed = tf.random.stateless_uniform([2], seed, minval=None, maxval=None, dtype=tf.int32)
    constant = zlib.crc32(name.encode()) & 0x7FFFFFFF
    return tf.bitwise.bitwise_xor(hashed, tf.constant([constant, 0], tf.int32))


@dataclasses.dataclass(frozen=True)
class BatchPart:
    """The rows from `offset` to `offset + length` of a batch of `count`: what one replica works on.

    Every draw is made for the whole batch and sliced, so that any number of replicas sees the same batch.
    """
    count: int
    offset: tf.Tensor
    length: int

    def normal(self, seed, shape):
        """N(0, 1), [length, *shape]."""
        return self._rows(tf.random.stateless_normal([self.count, math.prod(shape)], seed), shape)

    def bits(self, seed, num_bits):
        """0 and 1 as float32, each with probability ½, [length, num_bits]."""
        values = tf.random.stateless_uniform([self.count, num_bits], seed) < 0.5
        return self._rows(tf.cast(values, tf.float32), [num_bits])

    def _rows(self, values, shape):
        rows = tf.slice(values, [self.offset, 0], [self.length, values.shape[1]])  # [length, size]
        return tf.reshape(rows, [self.length, *shape])                             # [length, *shape]


def sample_noise(part, seed, shapes):
    """A noise image [length, H, W, 1] for each of `shapes` [H, W, 1]; one draw for all, which XLA compiles once."""
    return _noise_images(part.normal(seed, [sum(map(math.prod, shapes))]), shapes)


def _noise_images(values, shapes):
    """Images [N, H, W, 1] of the given `shapes` [H, W, 1], from rows [N, size] of as many values in all."""
    parts = tf.split(values, [math.prod(shape) for shape in shapes], axis=1)
    return [tf.reshape(value, [-1, *shape]) for value, shape in zip(parts, shapes)]


class RandomNoise:
    """A generator G in whose place it stands, with new noise for each image instead of G's fixed noise.

    The published code measures so. An image's noise depends on the seed and on how many images were drawn before it,
    not on the batches they came in.
    """

    def __init__(self, generator, seed):
        self.generator, self.resolution, self.seed = generator, generator.resolution, seed
        self.drawn = tf.Variable(0, trainable=False, name='drawn')

    def __call__(self, latents, w=None):
        """As models.stylegan2.Generator's call, without a choice of noise."""
        shapes = self.generator.noise_shapes
        size, count = sum(map(math.prod, shapes)), tf.shape(latents)[0]
        numbers = self.drawn + tf.range(count)                                         # [N]
        self.drawn.assign_add(count)
        values = tf.map_fn(lambda number: tf.random.stateless_normal([size], tf.stack([self.seed, number])), numbers,
                           fn_output_signature=tf.float32)                             # [N, size]
        return self.generator(latents, w, _noise_images(values, shapes))
