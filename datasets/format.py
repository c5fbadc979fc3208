"""The dataset format: a folder of TFRecord shards and a manifest.

    manifest.json                      what is inside, with a sha256 per shard
    train-00000-of-00012.tfrecord      the images to train on
    eval-00000-of-00012.tfrecord       the images held out to measure against, none of them in train

Every record is a tf.train.Example: 'image', the raw uint8 RGB bytes in [H, W, 3] order, and 'shape', three int64.
All images of a dataset have one shape, so all records have one length, and the reader finds any of them by arithmetic:
every epoch is a true permutation of the whole split, a stream starts at any position at once, and each worker reads
only its own images. Any other TFRecord reader can read the shards as well.

TensorFlow is imported where it is used: it takes seconds, and opening, verifying and looking need none.
"""
import hashlib
import json
import os

import numpy as np

from dnnlib.util import UserError, read_json

MANIFEST = 'manifest.json'
PREVIEW = 'preview.png'
FORMAT_VERSION = 1
SPLITS = ('train', 'eval')
FRAME = 12  # bytes before a record's payload in a TFRecord: its length (8) and that length's checksum (4)


def encode_example(image):
    """One image as the bytes of a tf.train.Example; their number depends on the shape alone."""
    import tensorflow as tf
    return tf.train.Example(features=tf.train.Features(feature={
        'image': tf.train.Feature(bytes_list=tf.train.BytesList(value=[image.tobytes()])),
        'shape': tf.train.Feature(int64_list=tf.train.Int64List(value=image.shape)),
    })).SerializeToString(deterministic=True)


def record_layout(shape):
    """The length of a record in its shard, and where in it the pixels start, both in bytes."""
    zeros = np.zeros(shape, np.uint8)  # the byte before the pixels ends their length, so it is not 0: found once
    payload = encode_example(zeros)
    return FRAME + len(payload) + 4, FRAME + payload.index(zeros.tobytes())


def manifest_digest(shape, splits):
    """Identifies the images: sha256 over the shape and the names and sha256s of the shards."""
    shards = [[shard['file'], shard['sha256']] for split in SPLITS for shard in splits[split]['shards']]
    return hashlib.sha256(json.dumps([list(shape), shards]).encode()).hexdigest()


def check_manifest(path, manifest):
    """Raises UserError if a manifest read from `path` is of another format, or was altered."""
    try:
        if manifest['format'] != FORMAT_VERSION:
            raise UserError(f'{path} is of format {manifest["format"]}, this program reads {FORMAT_VERSION}; '
                            'make the dataset again')
        whole = manifest['digest'] == manifest_digest(manifest['shape'], manifest['splits']) and all(
            sum(shard['count'] for shard in split['shards']) == split['count'] and
            all(shard['bytes'] == shard['count'] * manifest['record_bytes'] for shard in split['shards'])
            for split in manifest['splits'].values())
        whole = whole and {'name', 'source', 'skipped', 'image_offset'} <= set(manifest)
    except (AttributeError, KeyError, TypeError):
        whole = False
    if not whole:
        raise UserError(f'{path} does not fit its own shards or digest; restore it or make the dataset again')


def check_length(path, expected):
    """Raises UserError if a shard is missing or not `expected` bytes long."""
    if not os.path.isfile(path):
        raise UserError(f'{path} is missing; restore it or make the dataset again')
    if os.path.getsize(path) != expected:
        raise UserError(f'{path} is {os.path.getsize(path)} bytes long instead of {expected}, so truncated or '
                        'overwritten; restore it or make the dataset again')


def is_only_dataset(path):
    """Whether a folder holds a dataset and nothing else, so that replacing it loses nothing but the dataset."""
    try:
        manifest = read_json(os.path.join(path, MANIFEST))
        shards = {shard['file'] for split in manifest['splits'].values() for shard in split['shards']}
        shards = {file for file in shards if file.endswith('.tfrecord')}
        return set(os.listdir(path)) <= shards | {MANIFEST, PREVIEW}
    except (UserError, OSError, AttributeError, KeyError, TypeError):
        return False
