"""A model as metrics and pictures use it: NumPy in, NumPy out, in batches, with fixed noise."""
import numpy as np
import tensorflow as tf

from dnnlib.images import save_grid, to_uint8
from metrics.base import Model


def make_model(config, encoder, generator, decoder, batch_size=64):
    """The metrics.base.Model of three networks (decoder None without fingerprints)."""
    @tf.function(reduce_retracing=True)
    def generate(latents, fingerprints):
        codes = latents if config.generator == 'stylegan2' else fingerprints
        return generator(latents, encoder(codes))

    @tf.function(reduce_retracing=True)
    def decode(images):
        return decoder(images)[1]

    return Model(
        generate=lambda latents, fingerprints: batched(generate, batch_size, latents, fingerprints),
        decode=(lambda images: batched(decode, batch_size, images)) if decoder else None,
        latent_dim=config.latent_dim, fingerprint_bits=config.fingerprint_bits, resolution=generator.resolution,
        batch_size=batch_size)


def snapshot_model(snapshot, batch_size=64):
    """The metrics.base.Model of a training.state.Snapshot."""
    return make_model(snapshot.config, snapshot.encoder, snapshot.generator, snapshot.decoder, batch_size)


def batched(function, batch_size, *arrays):
    """Applies `function` to float32 arrays [N, ...], `batch_size` rows at a time, and joins the results."""
    arrays = [np.asarray(array, np.float32) for array in arrays]
    return np.concatenate([function(*(tf.constant(array[i:i + batch_size]) for array in arrays)).numpy()
                           for i in range(0, len(arrays[0]), batch_size)])


def write_grids(model, seed, path, side=8):
    """Writes the three grids of the lineage, side × side images each: `path` with {} in it takes the grid's name.

    arbitrary: every image its own latent and fingerprint; same_fingerprint: one fingerprint, each its own latent;
    same_latent: one latent, each its own fingerprint (the images should look alike).
    """
    rng = np.random.default_rng(seed)
    latents = rng.standard_normal([side * side, model.latent_dim])
    fingerprints = rng.integers(0, 2, [side * side, model.fingerprint_bits])
    zoom = max(1, 64 // model.resolution)
    for name, z, c in (('arbitrary', latents, fingerprints),
                       ('same_fingerprint', latents, np.repeat(fingerprints[:1], side * side, 0)),
                       ('same_latent', np.repeat(latents[:1], side * side, 0), fingerprints)):
        save_grid(path.format(name), to_uint8(model.generate(z, c)), side, zoom)
