"""Writes datasets in the format of datasets/format.py."""
import contextlib
import hashlib
import itertools
import os

import numpy as np

from datasets.format import (
    FORMAT_VERSION,
    MANIFEST,
    SPLITS,
    encode_example,
    is_only_dataset,
    manifest_digest,
    record_layout,
)
from datasets.reader import open_dataset
from dnnlib.util import UserError, atomic_folder, progress, sha256_file, write_json

SHARD_BYTES = 128 << 20


def write_stream(path, name, source, images, split_of, skipped, minimum=1, total=None, replace=False):
    """Writes a dataset from one stream of images, without holding them in memory.

    An image whose pixels were seen before is dropped and noted as 'duplicate': the splits can't overlap. The same
    images in the same order give the same digest.

    Args:
        path: the folder to make.
        name: what the dataset is called in results.
        source: where it comes from, one line without machine paths.
        images: iterable of (name, uint8 [H, W, 3]), all of one shape, H = W.
        split_of: from the number of an image, duplicates not counted, to 'train', 'eval' or None: no more are needed.
        skipped: the Skipped that gets the duplicates, and that `images` may fill while they are read.
        minimum: the least number of distinct images for which the dataset is worth making.
        total: how many images the stream has, for the progress bar, or None.
        replace: a dataset at `path` is replaced once the new one is whole; nothing else there ever is.

    Returns:
        The Dataset.

    Raises:
        UserError: the folder exists or can't be written, an image has another shape or type, there is none to train on,
            or there are fewer than `minimum` images.
    """
    distinct = enumerate(_distinct(progress(images, total=total, unit=' images', desc=name), skipped))
    pairs = ((split_of(index), image) for index, image in distinct)
    enough = itertools.takewhile(lambda pair: pair[0] is not None, pairs)
    return _write(path, name, source, enough, skipped, minimum, replace)


def _distinct(images, skipped):
    """Of pairs (name, image), the images whose pixels were not seen yet; notes the others."""
    seen = set()
    for name, image in images:
        key = hashlib.blake2b(np.ascontiguousarray(image), digest_size=16).digest()
        if key in seen:
            skipped.add(name, 'duplicate')
        else:
            seen.add(key)
            yield image


def _write(path, name, source, pairs, skipped, minimum, replace):
    """Writes (split, image) pairs into shards and a manifest; all or nothing."""
    with atomic_folder(path, may_replace=is_only_dataset if replace else None) as folder:
        writers = {split: _SplitWriter(folder, split) for split in SPLITS}
        shape = None
        for split, image in pairs:
            shape = shape or image.shape
            _check_image(image, shape)
            with _writing(path):
                writers[split].add(image)
        _check_counts(source, {split: writer.count for split, writer in writers.items()}, skipped, minimum)
        record_bytes, image_offset = record_layout(shape)
        with _writing(path):
            splits = {split: {'count': writer.count, 'shards': writer.finish()} for split, writer in writers.items()}
            write_json(os.path.join(folder, MANIFEST), {
                'format': FORMAT_VERSION, 'name': name, 'source': source, 'shape': list(shape),
                'digest': manifest_digest(shape, splits), 'record_bytes': record_bytes, 'image_offset': image_offset,
                'splits': splits, 'skipped': dict(sorted(skipped.items()))})
    return open_dataset(path)


@contextlib.contextmanager
def _writing(path):
    """Turns what a full disk raises into a UserError."""
    import tensorflow as tf
    try:
        yield
    except (OSError, tf.errors.OpError) as error:
        reason = str(getattr(error, 'message', error)).split(';')[-1].strip()
        raise UserError(f'cannot write {path}: {reason}; make room or choose another folder') from None


def _check_image(image, shape):
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[0] != image.shape[1] or image.shape[2] != 3:
        raise UserError(f'an image is {image.dtype} {list(image.shape)}, not uint8 [N, N, 3]; crop and convert it')
    if image.shape != shape:
        raise UserError(f'an image is {list(image.shape)}, those before it {list(shape)}; give all of them one size')


def _check_counts(source, counts, skipped, minimum):
    count = sum(counts.values())
    if count and count >= minimum and counts['train']:
        return
    reasons = ', '.join(f'{number} {reason}' for reason, number in sorted(skipped.items())) or 'nothing'
    needed = f'{minimum} are needed' if minimum > 1 else 'at least one is needed to train on'
    raise UserError(f'{source}: {count} usable images, {needed}; skipped: {reasons}')


class _SplitWriter:
    """Writes one split's images into shards of about SHARD_BYTES; `finish` gives them their names."""

    def __init__(self, folder, split):
        self.folder, self.split, self.count, self.counts = folder, split, 0, []
        self.writer = None

    def add(self, image):
        import tensorflow as tf
        if not self.counts or (self.counts[-1] + 1) * image.nbytes > SHARD_BYTES:
            self.close()
            self.writer = tf.io.TFRecordWriter(self._part(len(self.counts)))
            self.counts.append(0)
        self.writer.write(encode_example(image))
        self.counts[-1] += 1
        self.count += 1

    def close(self):
        if self.writer:
            self.writer.close()

    def finish(self):
        """Closes and renames the shards; returns their manifest entries."""
        self.close()
        entries = []
        for index, count in enumerate(self.counts):
            file = f'{self.split}-{index:05}-of-{len(self.counts):05}.tfrecord'
            full = os.path.join(self.folder, file)
            os.rename(self._part(index), full)
            entries.append({'file': file, 'count': count, 'bytes': os.path.getsize(full), 'sha256': sha256_file(full)})
        return entries

    def _part(self, index):
        return os.path.join(self.folder, f'{self.split}-{index:05}.part')
