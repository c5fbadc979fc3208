"""The datasets that can be made, each a stream of images and a split; and finding those that were made."""
import collections
import concurrent.futures
import dataclasses
import fractions
import functools
import hashlib
import os
import shlex
from collections.abc import Callable, Iterable
from typing import Optional

import numpy as np
from PIL import Image

from datasets import archives, crops, reader, writer
from datasets.format import MANIFEST
from datasets.skipped import Skipped
from dnnlib.images import ImageError, decode
from dnnlib.util import UserError

# Per dataset of the paper: resolution, images to train on and to measure against, its name in TensorFlow Datasets.
PAPER = {
    'celeba':       (128, 30000, 30000, 'celeb_a'),
    'lsun_bedroom': (128, 30000, 30000, 'lsun/bedroom'),
    'lsun_cat':     (256, 50000, 50000, 'lsun/cat'),
}
DIGITS_TRAIN = 1500


@dataclasses.dataclass
class Source:
    """A stream of images, ready to be written.

    Attributes:
        name: what the dataset is called in results.
        description: where it comes from, one line without machine paths.
        images: yields (name, uint8 [N, N, 3]); notes what it leaves out in `skipped`.
        split_of: from the number of a distinct image to 'train', 'eval' or None: no more are needed.
        skipped: how many were left out for which reason, and which.
        minimum: the least number of distinct images for which the dataset is worth making.
        total: how many images there are at most, for the progress bar; None where that is not known.
    """
    name: str
    description: str
    images: Iterable[tuple[str, np.ndarray]]
    split_of: Callable[[int], Optional[str]]
    skipped: Skipped
    minimum: int = 1
    total: Optional[int] = None

    def write(self, path, replace=False):
        """Writes the dataset at `path` and returns it; raises UserError as writer.write_stream does."""
        return writer.write_stream(path, self.name, self.description, self.images, self.split_of, self.skipped,
                                   self.minimum, self.total, replace)


def first_then(train, evaluation):
    """A split: the first `train` images to train on, the next `evaluation` to measure against."""
    return lambda index: 'train' if index < train else 'eval' if index < train + evaluation else None


def interleaved(eval_fraction, max_images=None):
    """A split: of any first n images, the whole part of n · eval_fraction to measure against, `max_images` in all."""
    fraction = fractions.Fraction(eval_fraction).limit_denominator(1000)

    def split_of(index):
        if max_images is not None and index >= max_images:
            return None
        return 'eval' if (index + 1) * fraction // 1 > index * fraction // 1 else 'train'
    return split_of


DIGITS_RESOLUTION = 32


def digits(resolution=DIGITS_RESOLUTION):
    """Scikit-learn's bundled handwritten digits: 1797 pictures of 8×8, white on black; 1500 to train on."""
    from sklearn.datasets import load_digits  # here: its import takes half a second
    small = load_digits().images
    order = np.random.RandomState(0).permutation(len(small))

    def images():
        for number, picture in zip(order, np.rint(small[order] * (255 / 16)).astype(np.uint8)):
            large = Image.fromarray(picture).resize((resolution, resolution), Image.Resampling.BICUBIC)
            yield f'digit {number}', np.asarray(large.convert('RGB'))

    return Source('digits', f'scikit-learn load_digits, bicubic to {resolution}x{resolution}', images(),
                  first_then(DIGITS_TRAIN, len(small)), Skipped(), total=len(small))


def files(path, resolution, eval_fraction=0.5, max_images=None, allow_upscale=False):
    """Any folder or zip of images, or an LMDB: centre squares, resized.

    Files come in the order of a hash of their names within the folder or zip, so that any first part is a fair sample;
    a folder and the zip of it give the same dataset.

    Args:
        path: the folder, zip or LMDB folder.
        resolution: side in pixels.
        eval_fraction: the share of the images held out to measure against.
        max_images: the most images to take, both splits together; None for all.
        allow_upscale: take images smaller than `resolution` as well.

    Raises:
        UserError: as archives.open_archive.
    """
    archive = archives.open_archive(path)
    if isinstance(archive.items, list):
        archive.items.sort(key=lambda name: hashlib.sha256(name.encode('utf-8', 'surrogateescape')).digest())
    fit = functools.partial(crops.centre_square, resolution=resolution, allow_upscale=allow_upscale)
    base = os.path.basename(os.path.abspath(path))
    skipped = _others(archive)
    total = archive.total if max_images is None else min(archive.total, max_images)
    return Source(os.path.splitext(base)[0], f'{base}, centre squares, Lanczos to {resolution}x{resolution}',
                  _decoded(archive, fit, skipped), interleaved(eval_fraction, max_images), skipped, total=total)


def paper(name, path=None, tfds_dir=None, resolution=None, max_images=None):
    """A dataset of the paper: 'celeba', 'lsun_bedroom' or 'lsun_cat'; its first images to train on, the next held out.

    CelebA's aligned images are cropped as the paper does; LSUN's are centre squares, resized. From files the order is
    that of their names, from an LMDB that of its keys, from TensorFlow Datasets that in which it has stored them.

    Args:
        name: which.
        path: a folder or zip of images, or the folder of the official LMDB.
        tfds_dir: instead of `path`, the data_dir of TensorFlow Datasets.
        resolution: side in pixels; None for the paper's.
        max_images: for a smaller dataset, the number of images in both splits together.

    Raises:
        UserError: as archives.open_archive and archives.open_tfds.
    """
    size, train, evaluation, tfds_name = PAPER[name]
    resolution = resolution or size
    if max_images is not None and max_images < train + evaluation:
        train, evaluation = max_images - max_images // 2, max_images // 2
    archive = archives.open_tfds(tfds_name, tfds_dir) if tfds_dir else archives.open_archive(path)
    fit, how = (crops.celeba_square, '128x128 around (89, 121)') if name == 'celeba' else (
        crops.centre_square, 'centre squares')
    origin = f'TensorFlow Datasets {tfds_name}' if tfds_dir else os.path.basename(os.path.abspath(path))
    skipped = _others(archive)
    return Source(name, f'{name} from {origin}, {how}, at {resolution}x{resolution}',
                  _decoded(archive, functools.partial(fit, resolution=resolution), skipped),
                  first_then(train, evaluation), skipped, train + evaluation, min(archive.total, train + evaluation))


def _others(archive):
    """A Skipped that begins with what an archive does not take for images."""
    skipped = Skipped()
    for name, reason in archive.others:
        skipped.add(name, reason)
    return skipped


def _decoded(archive, fit, skipped):
    """Loads, decodes and fits an archive's images; yields (name, uint8 [N, N, 3]) and notes those it can't use."""
    def picture(item):
        try:
            return archive.name(item), fit(decode(archive.load(item))), None
        except ImageError as error:
            return archive.name(item), None, str(error)

    for name, image, reason in _in_threads(picture, archive.items):
        if reason:
            skipped.add(name, reason)
        else:
            yield name, image


def _in_threads(function, items):
    """Like map, in one thread per core and a few items ahead. Pillow works without the interpreter's lock."""
    workers = os.cpu_count() or 1
    ahead = collections.deque()
    with concurrent.futures.ThreadPoolExecutor(workers) as pool:
        for item in items:
            ahead.append(pool.submit(function, item))
            if len(ahead) > 2 * workers:
                yield ahead.popleft().result()
        while ahead:
            yield ahead.popleft().result()


def find_dataset(name_or_path, data_dir='data'):
    """Opens the dataset `data_dir/NAME` or the one at a path. `digits`, which needs no download, is made if absent.

    Returns:
        The reader.Dataset.

    Raises:
        UserError: there is none, with the command that makes it; or it is damaged.
    """
    named = os.path.join(data_dir, name_or_path)
    for path in (named, name_or_path):
        if os.path.isfile(os.path.join(path, MANIFEST)):
            return reader.open_dataset(path)
    if name_or_path == 'digits' and not os.path.exists(named):
        return _make_digits(named)
    raise UserError(f'there is no dataset {name_or_path}, neither in {data_dir} nor as a path; make it: '
                    f'{_command(name_or_path, data_dir)}')


def expected_size(name_or_path, data_dir='data'):
    """(resolution, images to train on) of a dataset, also of one of the paper's, or the digits, before it is made.

    Raises: UserError as `find_dataset`.
    """
    there = [path for path in (os.path.join(data_dir, name_or_path), name_or_path)
             if os.path.isfile(os.path.join(path, MANIFEST))]
    if not there and name_or_path in PAPER:
        return PAPER[name_or_path][:2]
    if not there and name_or_path == 'digits':
        return DIGITS_RESOLUTION, DIGITS_TRAIN
    dataset = find_dataset(name_or_path, data_dir)
    return dataset.resolution, dataset.num_images('train')


def _make_digits(path):
    try:
        return digits().write(path)
    except (UserError, OSError):
        if not os.path.exists(path):  # else another worker was faster, and made the same
            raise
        return reader.open_dataset(path)


def _command(name_or_path, data_dir):
    """The dataset_tool call that makes a missing dataset."""
    stem = os.path.splitext(os.path.basename(os.path.normpath(name_or_path)))[0]
    is_absent_path = os.path.dirname(name_or_path) and not os.path.exists(name_or_path)
    out = f'--out={shlex.quote(name_or_path if is_absent_path else os.path.join(data_dir, stem))}'
    known = stem if name_or_path == stem or is_absent_path else None
    if known == 'digits':
        return f'python dataset_tool.py digits {out}'
    if known in PAPER:
        return f'python dataset_tool.py {known} --source=FOLDER_OR_ZIP {out}'
    source = shlex.quote(name_or_path) if os.path.exists(name_or_path) else 'FOLDER_OR_ZIP'
    return f'python dataset_tool.py {source} {out} --resolution=128'
