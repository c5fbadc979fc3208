"""The dataset format: what is written is what is read, everywhere in the stream, and damage is told."""
import json
import os
import resource
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

from datasets import writer
from datasets.reader import open_dataset
from datasets.skipped import Skipped
from dnnlib.util import UserError
from helpers import PATIENCE, ROOT, write_dataset

TRAIN, EVAL = 23, 9


def make_images(count, seed=0, side=16):
    return np.random.RandomState(seed).randint(0, 256, [count, side, side, 3]).astype(np.uint8)


@pytest.fixture(scope='module')
def dataset(tmp_path_factory):
    """23 images to train on in three shards, 9 to evaluate in one."""
    patch = pytest.MonkeyPatch()
    patch.setattr(writer, 'SHARD_BYTES', 10 * 16 * 16 * 3)
    path = str(tmp_path_factory.mktemp('datasets') / 'noise')
    made = write_dataset(path, 'noise', 'random bytes', make_images(TRAIN), make_images(EVAL, seed=1))
    patch.undo()
    return made


@pytest.fixture
def copy(dataset, tmp_path):
    """The path of a copy that a test may damage, and its shards' names."""
    path = tmp_path / 'copy'
    path.mkdir()
    for name in os.listdir(dataset.path):
        (path / name).write_bytes(open(os.path.join(dataset.path, name), 'rb').read())
    return path


def read(dataset, steps, batch_size, **kwargs):
    batches = dataset.batches('train', batch_size, **kwargs).take(steps).as_numpy_iterator()
    return np.concatenate(list(batches))


def test_round_trip(dataset):
    assert (dataset.shape, dataset.resolution, dataset.name) == ((16, 16, 3), 16, 'noise')
    assert (dataset.num_images('train'), dataset.num_images('eval')) == (TRAIN, EVAL)
    assert (dataset.num_shards('train'), dataset.num_shards('eval')) == (3, 1)
    np.testing.assert_array_equal(np.concatenate(list(dataset.images('train', batch_size=7))), make_images(TRAIN))
    np.testing.assert_array_equal(np.concatenate(list(dataset.images('eval'))), make_images(EVAL, seed=1))
    dataset.verify()


@pytest.mark.parametrize('count, sizes', [(12, [5, 5, 2]), (5, [5]), (None, [5] * 4 + [3]), (1000, [5] * 4 + [3])])
def test_images_come_in_batches_up_to_a_count(dataset, count, sizes):
    assert [len(batch) for batch in dataset.images('train', count, batch_size=5)] == sizes


def test_shards_are_plain_tfrecords_of_examples(dataset):
    """Oracle: TensorFlow's own TFRecord reader and Example parser."""
    features = {'image': tf.io.FixedLenFeature([], tf.string), 'shape': tf.io.FixedLenFeature([3], tf.int64)}
    files = [os.path.join(dataset.path, f'train-{index:05}-of-00003.tfrecord') for index in range(3)]
    examples = [tf.io.parse_single_example(record, features) for record in tf.data.TFRecordDataset(files)]
    parsed = [tf.reshape(tf.io.decode_raw(example['image'], tf.uint8), example['shape']) for example in examples]
    np.testing.assert_array_equal(np.stack(parsed), make_images(TRAIN))


def test_the_same_images_give_the_same_bytes_and_other_images_another_digest(dataset, tmp_path):
    digests = [write_dataset(str(tmp_path / name), name, 'random bytes', iter(train), iter(evaluation)).digest
               for name, train, evaluation in [('a', make_images(TRAIN), make_images(EVAL, seed=1)),
                                               ('b', make_images(TRAIN), make_images(EVAL, seed=1)),
                                               ('c', make_images(TRAIN)[::-1], make_images(EVAL, seed=1)),
                                               ('d', make_images(TRAIN), make_images(EVAL, seed=2)),
                                               ('e', make_images(EVAL, seed=1), make_images(TRAIN))]]
    assert digests[0] == digests[1] and len(set(digests)) == 4


def test_duplicates_are_dropped_within_and_across_splits(tmp_path):
    train, evaluation = make_images(6), make_images(3, seed=1)
    skipped = Skipped()
    skipped.add('a.txt', 'not an image')
    skipped.add('b.txt', 'not an image')
    made = write_dataset(str(tmp_path / 'd'), 'd', 'random bytes', [*train, train[2], train[0]],
                                  [train[5], *evaluation, evaluation[0]], skipped)
    np.testing.assert_array_equal(np.concatenate(list(made.images('train'))), train)
    np.testing.assert_array_equal(np.concatenate(list(made.images('eval'))), evaluation)
    assert made.skipped == {'duplicate': 4, 'not an image': 2}


def test_an_image_of_one_value_is_found_in_its_record(tmp_path):
    """Whatever its pixels, an image starts at the same place of its record."""
    flat = np.stack([np.full([16, 16, 3], value, np.uint8) for value in range(256)])
    made = write_dataset(str(tmp_path / 'flat'), 'flat', 'flat', flat, [])
    np.testing.assert_array_equal(np.concatenate(list(made.images('train'))), flat)


def test_batches_have_static_shapes_and_are_reproducible(dataset):
    assert dataset.batches('train', 4, seed=3).element_spec == tf.TensorSpec([4, 16, 16, 3], tf.uint8)
    tf.random.set_seed(1)
    first = read(dataset, 20, 4, seed=3)
    tf.random.set_seed(2)
    np.testing.assert_array_equal(first, read(dataset, 20, 4, seed=3))
    assert (first != read(dataset, 20, 4, seed=4)).any()


def test_every_epoch_is_another_permutation(dataset):
    stream = read(dataset, 3, TRAIN, seed=0).reshape(3, TRAIN, -1)
    expected = sorted(image.tobytes() for image in make_images(TRAIN))
    for epoch in stream:
        assert sorted(image.tobytes() for image in epoch) == expected
    assert len({epoch.tobytes() for epoch in stream} | {make_images(TRAIN).tobytes()}) == 4


@pytest.mark.parametrize('start', [0, 1, 7, TRAIN - 1, TRAIN, TRAIN + 1, 2 * TRAIN, 3 * TRAIN + 5])
def test_a_stream_starts_anywhere_just_as_if_it_had_come_there(dataset, start):
    whole = read(dataset, 120, 1, seed=5)
    np.testing.assert_array_equal(read(dataset, 8, 4, seed=5, start_image=start), whole[start:start + 32])


@pytest.mark.parametrize('num_shards', [2, 3])
def test_workers_together_read_what_one_would(dataset, num_shards):
    whole = read(dataset, 10, 4 * num_shards, seed=5, start_image=6)
    parts = [read(dataset, 10, 4, seed=5, start_image=6, num_shards=num_shards, shard_index=index)
             for index in range(num_shards)]
    together = np.stack([part.reshape(10, 4, 16, 16, 3) for part in parts], axis=1)
    np.testing.assert_array_equal(together.reshape(whole.shape), whole)


def test_a_batch_may_be_larger_than_the_dataset(dataset):
    assert read(dataset, 1, 3 * TRAIN, seed=0).shape == (3 * TRAIN, 16, 16, 3)


def test_batches_go_through_a_distribution_strategy(dataset):
    strategy = tf.distribute.MirroredStrategy(['CPU:0'])
    batches = strategy.distribute_datasets_from_function(lambda context: dataset.batches('train', 4, seed=5))
    np.testing.assert_array_equal(next(iter(batches)).numpy(), read(dataset, 1, 4, seed=5))


def test_a_program_may_end_while_a_stream_is_open(dataset):
    """Threads of tf.data that are still reading must not keep a program from ending."""
    program = ('import sys; from datasets.reader import open_dataset\n'
               'batches = iter(open_dataset(sys.argv[1]).batches("train", 512, seed=0)); next(batches); sys.exit(3)')
    result = subprocess.run([sys.executable, '-c', program, dataset.path], cwd=ROOT, timeout=PATIENCE,
                            capture_output=True)
    assert result.returncode == 3


def test_an_empty_split_is_told(tmp_path):
    made = write_dataset(str(tmp_path / 'd'), 'd', 'random bytes', make_images(3), [])
    assert made.num_images('eval') == 0
    with pytest.raises(UserError, match='no eval images.*--eval-fraction'):
        next(made.images('eval'))
    with pytest.raises(UserError, match='no eval images'):
        made.batches('eval', 2, seed=0)


def write_nothing_raising(tmp_path, images, match):
    with pytest.raises(UserError, match=match) as caught:
        write_dataset(str(tmp_path / 'd'), 'd', 'some pictures', images, [])
    assert os.listdir(tmp_path) == [] and '\n' not in str(caught.value)


def test_wrong_images_leave_nothing_behind(tmp_path):
    write_nothing_raising(tmp_path, [], 'some pictures: 0 usable images')
    write_nothing_raising(tmp_path, [*make_images(2), *make_images(1, side=32)], r'\[32, 32, 3\].*\[16, 16, 3\]')
    write_nothing_raising(tmp_path, [np.zeros([16, 16], np.uint8)], r'uint8 \[16, 16\], not uint8 \[N, N, 3\]')
    write_nothing_raising(tmp_path, [np.zeros([16, 8, 3], np.uint8)], r'\[16, 8, 3\]')
    write_nothing_raising(tmp_path, [np.zeros([16, 16, 3], np.float32)], 'float32')


def test_a_failing_source_leaves_nothing_behind(tmp_path):
    def failing():
        yield from make_images(3)
        raise KeyboardInterrupt
    with pytest.raises(KeyboardInterrupt):
        write_dataset(str(tmp_path / 'd'), 'd', 'some pictures', failing(), [])
    assert os.listdir(tmp_path) == []


def test_a_full_disk_leaves_nothing_behind(tmp_path):
    """A limit on the size of files stands in for the full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, hard))
    try:
        write_nothing_raising(tmp_path, make_images(400), 'cannot write .*d: .*make room')
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_an_existing_folder_is_left_alone(tmp_path):
    (tmp_path / 'd').mkdir()
    with pytest.raises(UserError, match='exists already'):
        write_dataset(str(tmp_path / 'd'), 'd', 'random bytes', make_images(3), [])
    assert os.listdir(tmp_path / 'd') == []


def test_a_truncated_or_missing_shard_is_named_on_opening(copy):
    shard = copy / 'train-00001-of-00003.tfrecord'
    os.truncate(shard, shard.stat().st_size - 1)
    with pytest.raises(UserError, match='train-00001-of-00003.tfrecord is .* bytes long instead of .*truncated'):
        open_dataset(str(copy))
    shard.unlink()
    with pytest.raises(UserError, match='train-00001-of-00003.tfrecord is missing'):
        open_dataset(str(copy))


def test_a_flipped_bit_is_named_before_reading(copy):
    shard = copy / 'train-00002-of-00003.tfrecord'
    data = bytearray(shard.read_bytes())
    data[1000] ^= 1
    shard.write_bytes(data)
    damaged = 'train-00002-of-00003.tfrecord is damaged'
    with pytest.raises(UserError, match=damaged):
        open_dataset(str(copy)).verify()
    with pytest.raises(UserError, match=damaged):
        open_dataset(str(copy)).batches('train', 4, seed=0)
    with pytest.raises(UserError, match=damaged):
        list(open_dataset(str(copy)).images('train'))
    next(open_dataset(str(copy)).images('train', 20))  # the first two shards are whole
    next(open_dataset(str(copy)).images('eval'))


def test_a_shard_cut_while_in_use_is_named(copy):
    opened = open_dataset(str(copy))
    batches = opened.images('train', batch_size=1)
    next(batches)
    os.truncate(copy / 'train-00000-of-00003.tfrecord', 100)
    with pytest.raises(UserError, match='train-00000-of-00003.tfrecord has become shorter'):
        next(batches)


@pytest.mark.parametrize('change, match', [
    (lambda manifest: manifest.update(shape=[32, 32, 3]), 'does not fit'),
    (lambda manifest: manifest['splits']['train'].update(count=24), 'does not fit'),
    (lambda manifest: manifest['splits'].pop('eval'), 'does not fit'),
    (lambda manifest: manifest.pop('image_offset'), 'does not fit'),
    (lambda manifest: manifest.update(splits=[]), 'does not fit'),
    (lambda manifest: manifest.update(format=99), 'format 99, this program reads 1'),
])
def test_an_altered_manifest_is_refused(copy, change, match):
    manifest = json.loads((copy / 'manifest.json').read_text())
    change(manifest)
    (copy / 'manifest.json').write_text(json.dumps(manifest))
    with pytest.raises(UserError, match=match):
        open_dataset(str(copy))


@pytest.mark.parametrize('text', ['', '[]', '{"format": 1'])
def test_a_broken_manifest_is_refused(copy, text):
    (copy / 'manifest.json').write_text(text)
    with pytest.raises(UserError, match='manifest.json'):
        open_dataset(str(copy))


def test_no_dataset_is_told_with_the_remedy(tmp_path):
    with pytest.raises(UserError, match='nowhere does not exist; make one with: python dataset_tool.py'):
        open_dataset(str(tmp_path / 'nowhere'))
    with pytest.raises(UserError, match='no manifest.json'):
        open_dataset(str(tmp_path))


def test_the_manifest_holds_no_machine_paths(dataset):
    text = open(os.path.join(dataset.path, 'manifest.json')).read()
    assert os.path.dirname(dataset.path) not in text and '/tmp' not in text
