"""Pictures for the tests of perturbations: smooth, with edges and a little grain, in colours."""
import numpy as np
from scipy import ndimage


def photographs(count=3, size=64):
    """uint8 [count, size, size, 3]."""
    rng = np.random.default_rng(0)
    shades = ndimage.gaussian_filter(rng.normal(size=[count, size, size, 1]), [0, 2, 2, 0]) * 350
    colours = ndimage.gaussian_filter(rng.normal(size=[count, size, size, 3]), [0, 4, 4, 0]) * 250
    edges = 40 * (ndimage.gaussian_filter(rng.normal(size=[count, size, size, 1]), [0, 6, 6, 0]) > 0)
    grain = rng.normal(0, 3, [count, size, size, 1])
    return np.clip(110 + shades + colours + edges + grain, 0, 255).astype(np.uint8)
