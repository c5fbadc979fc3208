"""Attribution: image files → decoder → registry → user, matching bits, p-value."""
import dataclasses
from typing import Optional

import numpy as np
from PIL import Image

from dnnlib.images import to_float
from dnnlib.util import progress
from fingerprints.attribution import Attribution, attribute
from release.issue import released_snapshot

BATCH = 64


@dataclasses.dataclass(frozen=True)
class Result:
    """One file's outcome: an Attribution, or an error in one line."""
    path: str
    attribution: Optional[Attribution] = None
    error: Optional[str] = None

    def record(self):
        """The result as a JSON object."""
        found = dataclasses.asdict(self.attribution) if self.attribution else {}
        return {'image': self.path, **found, **({'error': self.error} if self.error else {})}


def read_image(path, resolution):
    """A file as uint8 [resolution, resolution, 3]. Raises ValueError, in one line, for anything else.

    Images are taken as they are: scaling one would wash the fingerprint out unseen.
    """
    try:
        with Image.open(path) as image:
            if image.size != (resolution, resolution):
                width, height = image.size
                raise ValueError(f'is {width}x{height}, the model draws {resolution}x{resolution}; '
                                 'crop or scale it to that size first')
            return np.asarray(image.convert('RGB'))
    except Image.UnidentifiedImageError:
        raise ValueError('is not an image that can be read') from None
    except Image.DecompressionBombError:
        raise ValueError('is too large to open safely') from None
    except FileNotFoundError:
        raise ValueError('does not exist') from None
    except (OSError, SyntaxError) as error:  # Pillow raises SyntaxError for some broken PNGs
        raise ValueError(f'is damaged or unreadable ({str(error).strip()})') from None


class Attributor:
    """Names the users of image files, for one run and its registry.

    Raises:
        UserError: an empty registry, or one of another model than the run's.
    """

    def __init__(self, run_dir, registry):
        self.model = released_snapshot(run_dir, registry).model(BATCH)
        self.names, self.codes = registry.codes()

    def __call__(self, paths, fpr):
        """Yields a Result per path, in order. A file that can't be read has an error, and the rest goes on.

        fpr: the largest chance, over all users together, of naming anyone for an image that stems from none of them.
        """
        for start in progress(range(0, len(paths), BATCH), desc='attribute', unit='batch'):
            batch = paths[start:start + BATCH]
            images, errors = {}, {}
            for path in batch:
                try:
                    images[path] = read_image(path, self.model.resolution)
                except ValueError as error:
                    errors[path] = str(error)
            found = {}
            if images:
                logits = self.model.decode(to_float(np.stack(list(images.values()))))
                found = dict(zip(images, attribute(logits, self.names, self.codes, fpr)))
            for path in batch:
                yield Result(path, found.get(path), errors.get(path))
