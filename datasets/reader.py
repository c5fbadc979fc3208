"""Reads datasets in the format of datasets/format.py: in order, and as tf.data streams that resume anywhere."""
import os

import numpy as np

from datasets.format import MANIFEST, SPLITS, check_length, check_manifest
from dnnlib.util import UserError, progress, read_json, sha256_file


def open_dataset(path):
    """Opens a dataset; reads its manifest and looks whether every shard is there in full length.

    Returns:
        The Dataset.

    Raises:
        UserError: no dataset there, a manifest of another format or altered, a shard missing or truncated.
    """
    manifest_path = os.path.join(path, MANIFEST)
    if not os.path.isfile(manifest_path):
        what = 'is no dataset (it has no manifest.json)' if os.path.exists(path) else 'does not exist'
        raise UserError(f'{path} {what}; make one with: python dataset_tool.py FOLDER_OR_ZIP --out={path}')
    manifest = read_json(manifest_path)
    check_manifest(manifest_path, manifest)
    for split in SPLITS:
        for shard in manifest['splits'][split]['shards']:
            check_length(os.path.join(path, shard['file']), shard['bytes'])
    return Dataset(path, manifest)


def _read_at(path, offset, image):
    """Fills an array with a file's bytes from an offset on."""
    try:
        with open(path, 'rb') as file:
            file.seek(offset)
            length = file.readinto(image)
    except OSError as error:
        raise UserError(f'{path} can no longer be read: {error.strerror}; restore it') from None
    if length != image.nbytes:
        raise UserError(f'{path} has become shorter while it was in use; restore it or make the dataset again')


class Dataset:
    """A dataset on disk, as `open_dataset` returns it.

    Attributes:
        path: its folder.
        name: what it is called in results.
        source: where it comes from, one line.
        digest: identifies its images, for caches.
        shape: (H, W, 3).
        skipped: {reason: count} of what the source held and the dataset does not.
    """

    def __init__(self, path, manifest):
        self.path, self.name, self.source = path, manifest['name'], manifest['source']
        self.digest, self.shape, self.skipped = manifest['digest'], tuple(manifest['shape']), manifest['skipped']
        self._splits = manifest['splits']
        self._record_bytes, self._image_offset = manifest['record_bytes'], manifest['image_offset']
        self._verified = set()

    @property
    def resolution(self):
        """Height and width in pixels."""
        return self.shape[0]

    @property
    def num_bytes(self):
        """The size of all shards together."""
        return sum(shard['bytes'] for shard in self._all_shards())

    def num_images(self, split):
        """The number of images in 'train' or 'eval'."""
        return self._splits[split]['count']

    def num_shards(self, split):
        """The number of files 'train' or 'eval' is kept in."""
        return len(self._splits[split]['shards'])

    def verify(self):
        """Reads every shard and compares its sha256. Raises UserError naming the first that differs."""
        for shard in progress(self._all_shards(), unit=' shards', desc=self.name):
            self._verify(shard)

    def _all_shards(self):
        return [shard for split in SPLITS for shard in self._splits[split]['shards']]

    def _verify(self, shard):
        path = os.path.join(self.path, shard['file'])
        check_length(path, shard['bytes'])
        if sha256_file(path) != shard['sha256']:
            raise UserError(f'{path} is damaged, its sha256 is not the manifest\'s; '
                            'restore it or make the dataset again')
        self._verified.add(shard['file'])

    def _verify_once(self, split, count):
        """Verifies the shards that hold the first `count` images of a split, unless that was done before."""
        first = 0
        for shard in self._splits[split]['shards']:
            if first < count and shard['file'] not in self._verified:
                self._verify(shard)
            first += shard['count']

    def _read(self, split, indices):
        """The images with these numbers, uint8 [N, H, W, 3]."""
        shards = self._splits[split]['shards']
        images = np.empty([len(indices), *self.shape], np.uint8)
        starts = np.cumsum([0] + [shard['count'] for shard in shards])
        for image, index in zip(images, indices):
            number = np.searchsorted(starts, index, side='right') - 1
            _read_at(os.path.join(self.path, shards[number]['file']),
                     (index - starts[number]) * self._record_bytes + self._image_offset, image)
        return images

    def _count(self, split):
        if not self.num_images(split):
            raise UserError(f'{self.path} has no {split} images; make the dataset again with a larger --eval-fraction')
        return self.num_images(split)

    def images(self, split, count=None, batch_size=64):
        """The first `count` images of a split in the order they are stored; all if that is None or more than there are.

        Yields:
            uint8 arrays [batch_size, H, W, 3], the last one maybe shorter.

        Raises:
            UserError: the split is empty, or a shard is damaged.
        """
        count = self._count(split) if count is None else min(count, self._count(split))
        for first in range(0, count, batch_size):
            indices = np.arange(first, min(first + batch_size, count))
            self._verify_once(split, indices[-1] + 1)
            yield self._read(split, indices)

    def batches(self, split, batch_size, seed, start_image=0, num_shards=1, shard_index=0):
        """An endless stream of batches that depends on (seed, position) alone.

        Epoch e is the permutation of the whole split that (seed, e) gives; a batch may reach over into the next epoch.
        The global batch of a step is num_shards · batch_size images; worker `shard_index` gets its slice of it, so that
        the workers together read what one worker with num_shards · batch_size would.

        The trade: the shards are mapped into memory and images gathered where the permutation sends the reader, not
        in sequence. That makes resuming free and shuffling exact, needs no buffer, and costs little on an SSD or once
        the files are in the page cache; a disk that can't seek fast is slow in the first epoch, and a file system must
        be able to map files. The sha256s of the split are checked before, in one sequential read, so that damage is an
        error here and not noise in the training; the shards must then be left alone.

        Args:
            split: 'train' or 'eval'.
            batch_size: images per batch and worker.
            seed: integer ≥ 0.
            start_image: how many images of the global stream were read before; the stream goes on right there.
            num_shards, shard_index: the number of workers and which of them this is.

        Returns:
            A tf.data.Dataset of uint8 [batch_size, H, W, 3].

        Raises:
            UserError: the split is empty or a shard is damaged.
        """
        import tensorflow as tf
        count = self._count(split)
        if not 0 <= shard_index < num_shards:
            raise ValueError(f'shard_index {shard_index} of {num_shards} workers')
        self._verify_once(split, count)

        def epoch(number):
            order = tf.range(count, dtype=tf.int64)
            order = tf.random.experimental.stateless_shuffle(order, [seed, number], alg='philox')
            return tf.data.Dataset.from_tensor_slices(order)

        epochs = tf.data.Dataset.range(start_image // count, np.iinfo(np.int64).max)
        steps = epochs.flat_map(epoch).skip(start_image % count).batch(num_shards * batch_size, drop_remainder=True)
        mine = steps.map(lambda indices: indices[shard_index * batch_size:(shard_index + 1) * batch_size])
        options = tf.data.Options()
        options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.OFF
        return mine.map(self._gatherer(split, batch_size)).prefetch(2).with_options(options)

    def _gatherer(self, split, batch_size):
        """A function from int64 indices [batch_size] to uint8 images [batch_size, H, W, 3], in TensorFlow ops alone.

        No Python runs in it: tf.data's threads waiting for the interpreter would hang a program that ends.
        """
        import tensorflow as tf
        shards = self._splits[split]['shards']
        with tf.device('CPU:0'):
            records = [tf.raw_ops.ImmutableConst(  # maps the file
                dtype=tf.uint8, shape=[shard['count'], self._record_bytes],
                memory_region_name=os.path.join(self.path, shard['file'])) for shard in shards]
        starts = np.cumsum([0] + [shard['count'] for shard in shards])

        def gather(indices):
            number = tf.searchsorted(starts, indices, side='right') - 1
            rows = tf.dynamic_partition(indices - tf.gather(starts, number), number, len(shards))
            places = tf.dynamic_partition(tf.range(batch_size), number, len(shards))
            found = tf.dynamic_stitch(places, [tf.gather(record, row) for record, row in zip(records, rows)])
            pixels = found[:, self._image_offset:self._image_offset + int(np.prod(self.shape))]
            return tf.reshape(pixels, [batch_size, *self.shape])
        return gather
