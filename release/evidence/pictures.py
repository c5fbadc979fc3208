"""Pictures as a page holds them within itself."""
import base64
import io

import numpy as np
from PIL import Image


def as_png(pixels: np.ndarray) -> str:
    """uint8 pixels [H, W, 3] as a PNG in Base64."""
    data = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels)).save(data, 'PNG', optimize=True)
    return base64.b64encode(data.getvalue()).decode()
