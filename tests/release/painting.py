"""A model whose fingerprint is painted: 64 bits as blocks of 4×4 pixels of a 32×32 picture, brighter or darker."""
import types

import numpy as np
import tensorflow as tf

from metrics.base import Model

BITS, SIDE, BLOCK = 64, 32, 4


class Painted(tf.Module):
    """Latents [N, 5] → pictures of one grey, which the latent shifts, with blocks `strength` lighter or darker."""

    def __init__(self):
        super().__init__()
        self.config, self.resolution = types.SimpleNamespace(latent_dim=5), SIDE
        self.blocks = tf.Variable(tf.zeros([1, SIDE, SIDE, 1]))
        self.grey = tf.Variable(0.1)

    def __call__(self, latents):
        shade = self.grey + 0.05 * tf.tanh(latents[:, 0])
        return tf.tile(shade[:, None, None, None] + self.blocks, [1, 1, 1, 3])


def paint(strength, code, into):
    signs = np.repeat(np.repeat(2.0 * code.reshape(8, 8) - 1, BLOCK, 0), BLOCK, 1)
    into.blocks.assign(strength * signs[None, :, :, None])


def read(images):
    """Logits [N, BITS]: each block's mean less the picture's median."""
    blocks = images.reshape(-1, 8, BLOCK, 8, BLOCK, 3).mean((2, 4, 5)).reshape(-1, BITS)
    return blocks - (blocks.min(1, keepdims=True) + blocks.max(1, keepdims=True)) / 2


class PaintedSnapshot:
    """What release/issue.py takes of a Snapshot. `spoil` changes the code that is baked."""

    has_fingerprint, kimg, digest = True, 1, 'ab' * 32
    resolution, nets = SIDE, {}
    config = types.SimpleNamespace(fingerprint_bits=BITS)

    def __init__(self, folder, strength=0.3, spoil=lambda code: code, decode=read):
        self.path, self.decode = str(folder / 'snapshot-1'), decode
        (folder / 'snapshot-1.index').write_text('an index')

        def bake(nets, code, into=None):
            into = into or Painted()
            paint(strength, spoil(code), into)
            return into
        self.method = types.SimpleNamespace(bake=bake)

    def model(self):
        return Model(None, self.decode, 5, BITS, SIDE)
