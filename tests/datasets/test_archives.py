"""Folders, zips, LMDBs and TensorFlow Datasets: the same bytes out of each, and clear words for what is broken."""
import io
import os
import zipfile

import numpy as np
import pytest
from PIL import Image

from datasets import archives
from dnnlib import images
from dnnlib.images import ImageError
from dnnlib.util import UserError


def png(seed):
    file = io.BytesIO()
    Image.fromarray(np.random.RandomState(seed).randint(0, 256, [16, 16, 3]).astype(np.uint8)).save(file, 'PNG')
    return file.getvalue()


FILES = {'b/2.png': png(2), 'a.PNG': png(0), 'b/c/3.jpeg': png(3), 'notes.txt': b'text', '._a.png': b'rubbish'}
IMAGES = ['a.PNG', 'b/2.png', 'b/c/3.jpeg']


def make_folder(path, files=FILES):
    for name, data in files.items():
        full = os.path.join(path, name)
        os.makedirs(os.path.dirname(full), exist_ok=True)
        open(full, 'wb').write(data)
    return str(path)


def make_zip(path, files=FILES):
    with zipfile.ZipFile(path, 'w', zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return str(path)


@pytest.mark.parametrize('make, name', [(make_folder, 'folder'), (make_zip, 'images.zip')])
def test_a_folder_and_a_zip_hold_their_images_in_order(tmp_path, make, name):
    archive = archives.open_archive(make(tmp_path / name))
    assert (archive.items, archive.total) == (IMAGES, 3)
    assert archive.others == [('._a.png', 'not an image'), ('notes.txt', 'not an image')]
    assert [archive.name(item) for item in archive.items] == IMAGES
    assert [archive.load(item) for item in archive.items] == [FILES[name] for name in IMAGES]


def test_an_lmdb_gives_its_values_in_the_order_of_its_keys(tmp_path):
    lmdb = pytest.importorskip('lmdb')
    with lmdb.open(str(tmp_path / 'lmdb'), map_size=1 << 24) as environment, environment.begin(write=True) as writer:
        for key in (b'3', b'1', b'2'):
            writer.put(key, png(int(key)))
    os.unlink(tmp_path / 'lmdb' / 'lock.mdb')
    archive = archives.open_archive(str(tmp_path / 'lmdb'))
    assert [(archive.name(item), archive.load(item)) for item in archive.items] == [
        ('1', png(1)), ('2', png(2)), ('3', png(3))]
    assert archive.total == 3 and os.listdir(tmp_path / 'lmdb') == ['data.mdb']


def test_a_broken_lmdb_is_told(tmp_path):
    (tmp_path / 'data.mdb').write_bytes(b'no database' * 1000)
    with pytest.raises(UserError, match='no readable LMDB'):
        archives.open_archive(str(tmp_path))


def test_what_is_absent_or_no_archive_is_told(tmp_path):
    with pytest.raises(UserError, match='nowhere does not exist'):
        archives.open_archive(str(tmp_path / 'nowhere'))
    (tmp_path / 'photo.png').write_bytes(png(0))
    with pytest.raises(UserError, match='photo.png is neither a folder nor a readable zip'):
        archives.open_archive(str(tmp_path / 'photo.png'))
    whole = open(make_zip(tmp_path / 'whole.zip'), 'rb').read()
    (tmp_path / 'cut.zip').write_bytes(whole[:len(whole) // 2])
    with pytest.raises(UserError, match='cut.zip is neither'):
        archives.open_archive(str(tmp_path / 'cut.zip'))


def test_a_bomb_of_one_entry_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / 'bomb.zip', 'w', zipfile.ZIP_DEFLATED) as archive:
        with archive.open('bomb.png', 'w') as entry:
            for _ in range(257):
                entry.write(bytes(1 << 20))
    with pytest.raises(UserError, match='zip bomb: bomb.png would unpack to 269 MB'):
        archives.open_archive(str(tmp_path / 'bomb.zip'))


def test_a_bomb_of_many_entries_is_refused(tmp_path):
    path = make_zip(tmp_path / 'bomb.zip', {f'{index}.png': bytes(30 << 20) for index in range(10)})
    with pytest.raises(UserError, match='zip bomb: 0.3 MB would unpack to 315 MB'):
        archives.open_archive(path)


def test_an_entry_that_unpacks_to_more_than_it_says_is_cut_there(tmp_path):
    """The size in the directory is what was checked, so no more than that may be read."""
    data = open(make_zip(tmp_path / 'lying.zip', {'a.png': bytes(1 << 20)}), 'rb').read()
    true, false = (1 << 20).to_bytes(4, 'little'), (100).to_bytes(4, 'little')
    assert data.count(true) == 2
    (tmp_path / 'lying.zip').write_bytes(data.replace(true, false))
    archive = archives.open_archive(str(tmp_path / 'lying.zip'))
    with pytest.raises(ImageError, match='damaged'):
        archive.load('a.png')


def test_a_damaged_or_encrypted_entry_is_skipped_with_a_reason(tmp_path):
    data = bytearray(open(make_zip(tmp_path / 'a.zip', {'a.png': png(0), 'b.png': png(1)}), 'rb').read())
    data[100] ^= 255
    (tmp_path / 'damaged.zip').write_bytes(data)
    archive = archives.open_archive(str(tmp_path / 'damaged.zip'))
    assert archive.load('b.png') == png(1)
    with pytest.raises(ImageError, match='damaged or encrypted'):
        archive.load('a.png')
    archive = archives.open_archive(str(tmp_path / 'a.zip'))
    data[100] ^= 255
    for signature, flags in ((b'PK\3\4', 6), (b'PK\1\2', 8)):
        data[data.index(signature) + flags] |= 1  # says that the first entry is encrypted
    (tmp_path / 'encrypted.zip').write_bytes(data)
    with pytest.raises(ImageError, match='damaged or encrypted'):
        archives.open_archive(str(tmp_path / 'encrypted.zip')).load('a.png')


def test_names_that_climb_out_of_a_zip_lead_nowhere(tmp_path):
    (tmp_path / 'inside').mkdir()
    path = make_zip(tmp_path / 'inside' / 'climbing.zip', {'../../escaped.png': png(0), '/absolute.png': png(1)})
    archive = archives.open_archive(path)
    assert [archive.load(item) for item in archive.items] == [png(0), png(1)]
    assert os.listdir(tmp_path) == ['inside'] and os.listdir(tmp_path / 'inside') == ['climbing.zip']


def test_an_unreadable_file_is_skipped_with_a_reason(tmp_path, monkeypatch):
    archive = archives.open_archive(make_folder(tmp_path))
    os.unlink(tmp_path / 'a.PNG')
    with pytest.raises(ImageError, match='does not exist'):
        archive.load('a.PNG')
    monkeypatch.setattr(images, 'MAX_FILE_BYTES', 100)
    with pytest.raises(ImageError, match='larger than'):
        archive.load('b/2.png')


def test_tensorflow_datasets(tmp_path):
    """A prepared celeb_a of four images, made with TensorFlow Datasets' own writer."""
    tfds = pytest.importorskip('tensorflow_datasets')
    tf = pytest.importorskip('tensorflow')
    with pytest.raises(UserError, match='holds no prepared celeb_a; prepare it: .*download_and_prepare'):
        archives.open_tfds('celeb_a', str(tmp_path))
    pictures = np.random.RandomState(0).randint(0, 256, [4, 218, 178, 3]).astype(np.uint8)
    version = str(tfds.builder('celeb_a', data_dir=str(tmp_path)).version)
    features = tfds.features.FeaturesDict({'image': tfds.features.Image(shape=(218, 178, 3), encoding_format='png')})
    tfds.dataset_builders.store_as_tfds_dataset(
        name='celeb_a', version=version, features=features, data_dir=str(tmp_path),
        split_datasets={'train': tf.data.Dataset.from_tensor_slices({'image': pictures})})
    archive = archives.open_tfds('celeb_a', str(tmp_path))
    stored = [np.asarray(Image.open(io.BytesIO(archive.load(item)))) for item in archive.items]
    assert archive.total == len(stored) == 4
    assert sorted(image.tobytes() for image in stored) == sorted(image.tobytes() for image in pictures)
    shard, = (tmp_path / 'celeb_a' / version).glob('*.tfrecord*')
    os.truncate(shard, shard.stat().st_size - 9)
    with pytest.raises(UserError, match='celeb_a.* is damaged'):
        list(archives.open_tfds('celeb_a', str(tmp_path)).items)


def test_what_is_not_taken_is_named_with_its_reason(tmp_path):
    """Formats that are not accepted, links to folders (which may lead in circles), folders that can't be read."""
    make_folder(tmp_path / 'photos', {'a.png': png(0), 'b.avif': png(1), 'c/d.txt': b''})
    os.symlink('..', tmp_path / 'photos' / 'c' / 'round')
    archive = archives.open_archive(str(tmp_path / 'photos'))
    assert archive.items == ['a.png']
    assert archive.others == [
        ('b.avif', 'in a format that is not accepted; convert it to PNG'), ('c/d.txt', 'not an image'),
        ('c/round', 'a link to a folder, which is not followed')]


@pytest.mark.parametrize('kind', ['pipe', '/dev/zero', '/dev/random'])
def test_pipes_and_devices_among_the_images_are_skipped(tmp_path, kind):
    if kind == 'pipe':
        os.mkfifo(tmp_path / 'x.png')
    else:
        os.symlink(kind, tmp_path / 'x.png')
    archive = archives.open_archive(str(tmp_path))
    with pytest.raises(ImageError, match='named pipe, not a file|device, not a file'):
        archive.load('x.png')


def test_of_two_entries_of_one_name_the_first_is_noted(tmp_path):
    with zipfile.ZipFile(tmp_path / 'twice.zip', 'w') as archive:
        with pytest.warns(UserWarning, match='Duplicate name'):
            for seed in (1, 2):
                archive.writestr('a.png', png(seed))
    archive = archives.open_archive(str(tmp_path / 'twice.zip'))
    assert archive.load('a.png') == png(2)
    assert archive.others == [('a.png', 'replaced by a later entry of that name in the zip')]


def test_a_cut_zip_is_not_taken_for_the_zip_stored_in_it(tmp_path):
    inner = open(make_zip(tmp_path / 'inner.zip'), 'rb').read()
    with zipfile.ZipFile(tmp_path / 'outer.zip', 'w') as archive:
        archive.writestr('first.png', png(0))
        archive.writestr('inner.zip', inner)
        archive.writestr('last.png', png(1))
    whole = (tmp_path / 'outer.zip').read_bytes()
    (tmp_path / 'cut.zip').write_bytes(whole[:whole.index(inner) + len(inner)])
    assert archives.open_archive(str(tmp_path / 'outer.zip')).items == ['first.png', 'last.png']
    with pytest.raises(UserError, match='cut.zip is cut short'):
        archives.open_archive(str(tmp_path / 'cut.zip'))


def test_a_program_before_the_zip_does_not_matter(tmp_path):
    """As in zips that unpack themselves."""
    data = b'#!/bin/sh\n' + open(make_zip(tmp_path / 'a.zip'), 'rb').read()
    (tmp_path / 'self.zip').write_bytes(data)
    assert archives.open_archive(str(tmp_path / 'self.zip')).load('a.PNG') == png(0)
