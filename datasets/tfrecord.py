"""The dataset format: a folder of TFRecord shards and a manifest. Its writer and its tf.data reader.

    manifest.json                      what is inside, with a sha256 per shard
    train-00000-of-00012.tfrecord      the images to train on
    eval-00000-of-00012.tfrecord       the images held out to measure against, none of them in train

Every record is a tf.train.Example: 'image', the raw uint8 RGB bytes in [H, W, 3] order, and 'shape', three int64.
All images of a dataset have one shape, so all records have one length, and the reader finds any of them by arithmetic:
every epoch is a true permutation of the whole split, a stream starts at any position at once, and each worker reads
only its own images. Any other TFRecord reader can read the shards as well.

TensorFlow is imported where it is used: it takes seconds, and opening, verifying and looking need none.
"""
import contextlib
import hashlib
import itertools
import json
import os

import numpy as np

from datasets.skipped import Skipped
from dnnlib.util import UserError, atomic_folder, progress, read_json, sha256_file, write_json

MANIFEST = 'manifest.json'
PREVIEW = 'preview.png'
FORMAT_VERSION = 1
SPLITS = ('train', 'eval')
SHARD_BYTES = 128 << 20
FRAME = 12  # bytes before a record's payload in a TFRecord: its length (8) and that length's checksum (4)


def write_dataset(path, name, source, train_images, eval_images, skipped=None):
    """Writes a dataset from two iterables, one per split, without holding them in memory.

    An image whose pixels were seen before, in either split, is dropped and counted as 'duplicate': the splits can't
    overlap. The same images in the same order give the same digest.

    Args:
        path: the folder to make; it must not exist.
        name: what the dataset is called in results.
        source: where it comes from, one line without machine paths.
        train_images, eval_images: iterables of uint8 [H, W, 3], all of one shape, H = W.
        skipped: a Skipped which the iterables may fill while they are read.

    Returns:
        The Dataset.

    Raises:
        UserError: the folder exists or can't be written, an image has another shape or type, or none is to train on.
    """
    skipped, seen = Skipped() if skipped is None else skipped, set()
    pairs = ((split, image) for split, images in zip(SPLITS, (train_images, eval_images))
             for image in _distinct(enumerate(progress(images, unit=' images', desc=f'{name} {split}')), seen, skipped))
    return _write(path, name, source, pairs, skipped, minimum=1)


def write_stream(path, name, source, images, split_of, skipped, minimum=1, total=None, replace=False):
    """Writes a dataset from one stream; `split_of(i)` says where its i-th distinct image goes.

    Args:
        path, name, source, skipped: as in write_dataset.
        images: iterable of (name, uint8 [H, W, 3]).
        split_of: from the number of an image, duplicates not counted, to 'train', 'eval' or None: no more are needed.
        minimum: the least number of distinct images for which the dataset is worth making.
        total: how many images the stream has, for the progress bar, or None.
        replace: a dataset at `path` is replaced once the new one is whole; nothing else there ever is.

    Returns:
        The Dataset.

    Raises:
        UserError: as in write_dataset, or there are fewer than `minimum` images.
    """
    distinct = enumerate(_distinct(progress(images, total=total, unit=' images', desc=name), set(), skipped))
    pairs = ((split_of(index), image) for index, image in distinct)
    enough = itertools.takewhile(lambda pair: pair[0] is not None, pairs)
    return _write(path, name, source, enough, skipped, minimum, replace)


def _distinct(images, seen, skipped):
    """Of pairs (name, image), the images whose pixels are not in `seen` yet; notes the others."""
    for name, image in images:
        key = hashlib.blake2b(np.ascontiguousarray(image), digest_size=16).digest()
        if key in seen:
            skipped.add(name, 'duplicate')
        else:
            seen.add(key)
            yield image


def _write(path, name, source, pairs, skipped, minimum, replace=False):
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
        record_bytes, image_offset = _layout(shape)
        with _writing(path):
            splits = {split: {'count': writer.count, 'shards': writer.finish()} for split, writer in writers.items()}
            write_json(os.path.join(folder, MANIFEST), {
                'format': FORMAT_VERSION, 'name': name, 'source': source, 'shape': list(shape),
                'digest': _digest(shape, splits), 'record_bytes': record_bytes, 'image_offset': image_offset,
                'splits': splits, 'skipped': dict(sorted(skipped.items()))})
    return open_dataset(path)


def is_only_dataset(path):
    """Whether a folder holds a dataset and nothing else, so that replacing it loses nothing but the dataset."""
    try:
        manifest = read_json(os.path.join(path, MANIFEST))
        shards = {shard['file'] for split in manifest['splits'].values() for shard in split['shards']}
        shards = {file for file in shards if file.endswith('.tfrecord')}
        return set(os.listdir(path)) <= shards | {MANIFEST, PREVIEW}
    except (UserError, OSError, AttributeError, KeyError, TypeError):
        return False


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


def _example(image):
    """One image as the bytes of a tf.train.Example; their number depends on the shape alone."""
    import tensorflow as tf
    return tf.train.Example(features=tf.train.Features(feature={
        'image': tf.train.Feature(bytes_list=tf.train.BytesList(value=[image.tobytes()])),
        'shape': tf.train.Feature(int64_list=tf.train.Int64List(value=image.shape)),
    })).SerializeToString(deterministic=True)


def _layout(shape):
    """The length of a record in its shard, and where in it the pixels start, both in bytes."""
    zeros = np.zeros(shape, np.uint8)  # the byte before the pixels ends their length, so it is not 0: found once
    payload = _example(zeros)
    return FRAME + len(payload) + 4, FRAME + payload.index(zeros.tobytes())


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
        self.writer.write(_example(image))
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


def _digest(shape, splits):
    """Identifies the images: sha256 over the shape and the names and sha256s of the shards."""
    shards = [[shard['file'], shard['sha256']] for split in SPLITS for shard in splits[split]['shards']]
    return hashlib.sha256(json.dumps([list(shape), shards]).encode()).hexdigest()


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
    _check_manifest(manifest_path, manifest)
    for split in SPLITS:
        for shard in manifest['splits'][split]['shards']:
            _check_length(os.path.join(path, shard['file']), shard['bytes'])
    return Dataset(path, manifest)


def _check_manifest(path, manifest):
    try:
        if manifest['format'] != FORMAT_VERSION:
            raise UserError(f'{path} is of format {manifest["format"]}, this program reads {FORMAT_VERSION}; '
                            'make the dataset again')
        whole = manifest['digest'] == _digest(manifest['shape'], manifest['splits']) and all(
            sum(shard['count'] for shard in split['shards']) == split['count'] and
            all(shard['bytes'] == shard['count'] * manifest['record_bytes'] for shard in split['shards'])
            for split in manifest['splits'].values())
        whole = whole and {'name', 'source', 'skipped', 'image_offset'} <= set(manifest)
    except (AttributeError, KeyError, TypeError):
        whole = False
    if not whole:
        raise UserError(f'{path} does not fit its own shards or digest; restore it or make the dataset again')


def _check_length(path, expected):
    if not os.path.isfile(path):
        raise UserError(f'{path} is missing; restore it or make the dataset again')
    if os.path.getsize(path) != expected:
        raise UserError(f'{path} is {os.path.getsize(path)} bytes long instead of {expected}, so truncated or '
                        'overwritten; restore it or make the dataset again')


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
        _check_length(path, shard['bytes'])
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

    def batches(self, split, batch_size, seed, start_image=0, num_shards=1, shard_index=0, shuffle=True):
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
            shuffle: False for the order in which the images are stored, again and again.

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
            if shuffle:
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
