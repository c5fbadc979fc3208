"""Pictures that an issued instance draws, without the run it came from."""
import os

import numpy as np
import tensorflow as tf
from PIL import Image

from dnnlib.pictures import save_grid, tile_zoom
from dnnlib.util import UserError, atomic_folder, printable, progress

BATCH = 64


class Drawer:
    """An instance's SavedModel as any serving client has it: latents to 8-bit pictures.

    It is loaded as TensorFlow's C API loads it, into a session of its own, and gone with it: thousands may follow
    each other in one process. Close it, or use it in a `with` block.

    Args:
        folder: of the SavedModel, such as instances/alice/1; the folder above, with one version in it, will do.

    Attributes: latent_dim, resolution.

    Raises:
        UserError: there is none, it is damaged, or no instance.
    """

    def __init__(self, folder: str):
        self.folder = folder
        self._session = tf.compat.v1.Session(graph=tf.Graph())
        try:
            with self._session.graph.as_default():
                loaded = tf.compat.v1.saved_model.load(self._session, ['serve'], _version_folder(folder))
            signature = loaded.signature_def['serving_default']
            self._latents, self._images = signature.inputs['latents'], signature.outputs['images']
            self.latent_dim = self._latents.tensor_shape.dim[1].size
            self.resolution = self._images.tensor_shape.dim[1].size
        except (OSError, RuntimeError, KeyError, ValueError, IndexError, TypeError, tf.errors.OpError) as error:
            self.close()
            reason = printable(str(error).split('\n')[0]) or type(error).__name__
            raise UserError(f'{folder} is not an instance, or damaged ({reason}); name the folder that was issued, '
                            'such as instances/alice/1') from None

    def __call__(self, latents: np.ndarray) -> np.ndarray:
        """The pictures, uint8 [N, H, W, 3], of latents [N, latent_dim]."""
        latents = np.asarray(latents, np.float32)
        drawn = [self._session.run(self._images.name, {self._latents.name: latents[start:start + BATCH]})
                 for start in progress(range(0, len(latents), BATCH), desc='draw', unit='batch')]
        return np.concatenate(drawn)

    def close(self) -> None:
        """Frees what the instance takes in memory."""
        self._session.close()

    def __enter__(self) -> 'Drawer':
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def _version_folder(folder):
    """The SavedModel's folder: this one, or the only one in it."""
    if os.path.exists(os.path.join(folder, 'saved_model.pb')):
        return folder
    inner = [os.path.join(folder, name) for name in os.listdir(folder)]
    found = [path for path in inner if os.path.exists(os.path.join(path, 'saved_model.pb'))]
    return found[0] if len(found) == 1 else folder


def save_pictures(folder: str, drawer: Drawer, side: int, seed: int) -> None:
    """Draws side × side pictures into a new folder: 0000.png and so on, and all of them in grid.png.

    Raises UserError if the folder exists.
    """
    with atomic_folder(folder) as temporary:
        latents = np.random.default_rng(seed).standard_normal([side * side, drawer.latent_dim])
        images = drawer(latents)
        for number, image in enumerate(images):
            Image.fromarray(image).save(os.path.join(temporary, f'{number:04d}.png'))
        save_grid(os.path.join(temporary, 'grid.png'), images, side, tile_zoom(drawer.resolution, 64))
