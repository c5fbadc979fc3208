"""Where images come from, and finding the dataset made of them."""
import collections
import dataclasses
import os
from collections.abc import Callable, Iterable
from typing import Optional

import numpy as np
from PIL import Image

from datasets import tfrecord
from dnnlib.util import UserError


@dataclasses.dataclass
class Source:
    """A stream of images, ready to be written.

    Attributes:
        name: what the dataset is called in results.
        description: where it comes from, one line without machine paths.
        images: yields uint8 [N, N, 3]; counts what it leaves out in `skipped`.
        split_of: from the number of a distinct image to 'train', 'eval' or None: no more are needed.
        skipped: {reason: count}.
        minimum: the least number of distinct images for which the dataset is worth making.
        total: how many images there are at most, for the progress bar; None where that is not known.
    """
    name: str
    description: str
    images: Iterable[np.ndarray]
    split_of: Callable[[int], Optional[str]]
    skipped: collections.Counter
    minimum: int = 1
    total: Optional[int] = None

    def write(self, path):
        """Writes the dataset at `path` and returns it; raises UserError as tfrecord.write_stream does."""
        return tfrecord.write_stream(path, self.name, self.description, self.images, self.split_of, self.skipped,
                                     self.minimum, self.total)


def first_then(train, evaluation):
    """A split: the first `train` images to train on, the next `evaluation` to measure against."""
    return lambda index: 'train' if index < train else 'eval' if index < train + evaluation else None


def digits(resolution=32):
    """Scikit-learn's bundled handwritten digits: 1797 pictures of 8×8, white on black; 1500 to train on."""
    from sklearn.datasets import load_digits  # only here: its import takes half a second
    pictures = load_digits().images
    order = np.random.RandomState(0).permutation(len(pictures))

    def images():
        for picture in pictures[order]:
            small = Image.fromarray(np.rint(picture * (255 / 16)).astype(np.uint8))
            large = np.asarray(small.resize((resolution, resolution), Image.Resampling.BICUBIC))
            yield np.repeat(large[:, :, np.newaxis], 3, axis=2)

    return Source('digits', f'scikit-learn load_digits, bicubic to {resolution}x{resolution}', images(),
                  first_then(1500, len(pictures)), collections.Counter(), total=len(pictures))


def find_dataset(name_or_path, data_dir='data'):
    """Opens the dataset `data_dir/NAME` or the one at a path. `digits`, which needs no download, is made if absent.

    Returns:
        The tfrecord.Dataset.

    Raises:
        UserError: there is none, with the command that makes it; or it is damaged.
    """
    named = os.path.join(data_dir, name_or_path)
    for path in (named, name_or_path):
        if os.path.isfile(os.path.join(path, tfrecord.MANIFEST)):
            return tfrecord.open_dataset(path)
    if name_or_path == 'digits' and not os.path.exists(named):
        return _make_digits(named)
    raise UserError(f'there is no dataset {name_or_path}, neither in {data_dir} nor as a path; make it: '
                    f'{_command(name_or_path, data_dir)}')


def _make_digits(path):
    try:
        return digits().write(path)
    except (UserError, OSError):
        if not os.path.exists(path):  # else another worker was faster, and made the same
            raise
        return tfrecord.open_dataset(path)


def _command(name_or_path, data_dir):
    """The dataset_tool call that makes a missing dataset."""
    stem = os.path.splitext(os.path.basename(os.path.normpath(name_or_path)))[0]
    out = f'--out={os.path.join(data_dir, stem)}'
    if os.path.exists(name_or_path):
        return f'python dataset_tool.py {name_or_path} {out} --resolution=128'
    if name_or_path in ('celeba', 'lsun_bedroom', 'lsun_cat'):
        return f'python dataset_tool.py {name_or_path} --source=FOLDER_OR_ZIP {out}'
    return f'python dataset_tool.py FOLDER_OR_ZIP {out} --resolution=128'
