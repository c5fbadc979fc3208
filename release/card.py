"""The instance card: what a user, and whoever they ask, may know about an instance. Nothing of the owner's is in it."""
import os
from typing import Any

from dnnlib.util import sha256_file, write_json
from release.export import MODEL, SIGNATURES

CARD = 'instance_card.json'


def write_card(folder: str, generator: Any, model_name: str, licence: str) -> None:
    """Writes FOLDER/instance_card.json. The same model and licence give the same bytes.

    No code, no name of a user, no path and no time: it says what the SavedModel itself says, and what its owner wants
    said. `sha256` is that of saved_model.pb, in which all weights lie.

    Args:
        folder: of the SavedModel, complete.
        generator: what was exported: `config` and `resolution`.
        model_name: what the owner calls the model.
        licence: the licence's text.
    """
    side = generator.resolution
    write_json(os.path.join(folder, CARD), {
        'model': model_name,
        'format': 'TensorFlow SavedModel',
        'input': {'name': 'latents', 'dtype': 'float32', 'shape': [None, generator.config.latent_dim],
                  'distribution': 'standard normal'},
        'output': {'name': 'images', 'shape': [None, side, side, 3], 'colours': 'RGB'},
        'signatures': SIGNATURES,
        'sha256': {MODEL: sha256_file(os.path.join(folder, MODEL))},
        'marked': 'Pictures of this instance carry an invisible fingerprint, by which its owner can tell that it drew '
                  'them.',
        'licence': licence})
