"""The three grids of a snapshot."""
import numpy as np

from dnnlib.images import to_uint8
from dnnlib.pictures import save_grid, tile_zoom

GRIDS = ('arbitrary', 'same_fingerprint', 'same_latent')


def write_grids(model, seed, path, side=8):
    """Writes the three grids of the lineage, side × side images each: `path` with {} in it takes the grid's name.

    arbitrary: every image its own latent and fingerprint; same_fingerprint: one fingerprint, each its own latent;
    same_latent: one latent, each its own fingerprint (the images should look alike).
    """
    rng = np.random.default_rng(seed)
    latents = rng.standard_normal([side * side, model.latent_dim])
    fingerprints = rng.integers(0, 2, [side * side, model.fingerprint_bits])
    zoom = tile_zoom(model.resolution, 64)
    inputs = ((latents, fingerprints), (latents, np.repeat(fingerprints[:1], side * side, 0)),
              (np.repeat(latents[:1], side * side, 0), fingerprints))
    for name, (z, c) in zip(GRIDS, inputs):
        save_grid(path.format(name), to_uint8(model.generate(z, c)), side, zoom)
