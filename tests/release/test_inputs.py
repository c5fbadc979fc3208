"""What is given to attribute, hostile archives among it: each odd thing is one line, and the rest goes on."""
import bz2
import gzip
import io
import lzma
import os
import tarfile
import zipfile

import numpy as np
import pytest

from datasets import archives
from dnnlib.images import ImageError
from mutants import mutate
from release import members
from release.inputs import Inputs


def make_zip(path, files):
    with zipfile.ZipFile(path, 'w', zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return str(path)


def tar_of(files):
    """The bytes of a tar of {name: bytes, or a TarInfo without content}."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode='w') as archive:
        for name, data in files.items():
            if isinstance(data, tarfile.TarInfo):
                archive.addfile(data)
                continue
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
    return buffer.getvalue()


def listed(*words):
    """[(path, what is read: bytes, or the reason why not)] and the number of other files."""
    inputs, found = Inputs(words), []
    for one in inputs:
        try:
            found.append((one.path, one.error or one.read()))
        except ImageError as error:
            found.append((one.path, str(error)))
    return found, inputs.others


def special(name, kind, target=''):
    entry = tarfile.TarInfo(name)
    entry.type, entry.linkname = kind, target
    return entry


def test_a_zips_images_are_read_in_place(tmp_path):
    path = make_zip(tmp_path / 'a.zip', {'b.png': b'2', 'a.png': b'1', 'deep/c.jpg': b'3', 'notes.txt': b'x'})
    assert listed(path) == ([(f'{path}!a.png', b'1'), (f'{path}!b.png', b'2'), (f'{path}!deep/c.jpg', b'3')], 1)
    assert os.listdir(tmp_path) == ['a.zip']


@pytest.mark.parametrize('suffix, pack', [('.tar', bytes), ('.tar.gz', gzip.compress), ('.TGZ', gzip.compress),
                                          ('.tar.bz2', bz2.compress), ('.tar.xz', lzma.compress)])
def test_a_tars_images_are_read_in_place(tmp_path, suffix, pack):
    path = str(tmp_path / f'a{suffix}')
    with open(path, 'wb') as file:
        file.write(pack(tar_of({'b.png': b'2' * 3_000_000, 'notes.txt': b'x', 'a.png': b'1'})))
    assert listed(path) == ([(f'{path}!b.png', b'2' * 3_000_000), (f'{path}!a.png', b'1')], 1)


def test_names_that_climb_out_write_nothing(tmp_path):
    os.mkdir(tmp_path / 'inside')
    files = {'../../climbing.png': b'1', '/absolute.png': b'2'}
    make_zip(tmp_path / 'inside' / 'a.zip', files)
    (tmp_path / 'inside' / 'b.tar').write_bytes(tar_of(files))
    for name in ('a.zip', 'b.tar'):
        found, _ = listed(str(tmp_path / 'inside' / name))
        assert [data for _, data in found] == [b'1', b'2']
    assert os.listdir(tmp_path) == ['inside'] and len(os.listdir(tmp_path / 'inside')) == 2


def test_what_is_nested_linked_or_encrypted_is_one_line_each(tmp_path):
    inner = tar_of({'x.png': b'1'})
    path = make_zip(tmp_path / 'a.zip', {'a.png': b'12345678', 'b.png': b'2', 'inner.tar': inner, 'inner.7z': b''})
    data = bytearray(open(path, 'rb').read())
    for signature, flags in ((b'PK\3\4', 6), (b'PK\1\2', 8)):
        data[data.index(signature) + flags] |= 1  # says that the first entry is encrypted
    open(path, 'wb').write(data)
    nested = 'an archive within an archive, which is not opened; unpack it first'
    assert listed(path) == ([(f'{path}!a.png', 'damaged or encrypted within the zip'), (f'{path}!b.png', b'2'),
                             (f'{path}!inner.7z', nested), (f'{path}!inner.tar', nested)], 0)
    entries = {'link.png': special('link.png', tarfile.SYMTYPE, '/etc/passwd'), 'a.png': b'1',
               'hard.png': special('hard.png', tarfile.LNKTYPE, 'a.png'), 'inner.tar': inner, 'b.png': b'2',
               'device.png': special('device.png', tarfile.CHRTYPE)}
    path = str(tmp_path / 'b.tar')
    open(path, 'wb').write(tar_of(entries))
    link = 'a link or something special, not a file'
    assert listed(path)[0] == [(f'{path}!{name}', said) for name, said in {
        'link.png': link, 'a.png': b'1', 'hard.png': link, 'inner.tar': nested, 'b.png': b'2',
        'device.png': link}.items()]


@pytest.fixture
def little(monkeypatch):
    """Bombs are small ones here: archives may unpack to 64 KiB, or to 200 times their size."""
    for module in (members, archives):
        monkeypatch.setattr(module, 'MAX_FILE_BYTES', 1 << 16)
    monkeypatch.setattr(members, 'CHUNK', 1 << 12)
    monkeypatch.setattr(members, 'HEADERS', 1 << 16)


def long_comment(size):
    """A tar's header of a comment of that many zeros, then nothing."""
    entry = special('comment', b'x')
    entry.size = size
    return entry.tobuf(tarfile.PAX_FORMAT) + bytes(size)


@pytest.mark.parametrize('name, data, said', [
    ('a.zip', {'a.png': bytes(1 << 17)}, 'looks like a zip bomb'),
    ('a.tar.gz', gzip.compress(tar_of({'a.png': b'1', 'b.txt': bytes(10 << 20)})), 'an archive bomb after 1 members'),
    ('a.tar', tar_of({'a.png': bytes(1 << 17), 'b.png': b'1'}), 'larger than'),
    ('a.tar.gz', gzip.compress(long_comment(1 << 20)), 'an archive bomb after 0'),
    ('a.tar', long_comment(1 << 20), 'an archive bomb after 0')], ids=['zip', 'tgz', 'large', 'tgz comment', 'comment'])
def test_bombs_are_given_up(tmp_path, little, name, data, said):
    path, good = tmp_path / name, make_zip(tmp_path / 'good.zip', {'a.png': b'1'})
    make_zip(path, data) if isinstance(data, dict) else path.write_bytes(data)
    found, _ = listed(str(path), good)
    assert [said in text for _, text in found if isinstance(text, str)] == [True]
    assert found[-1] == (f'{good}!a.png', b'1')


@pytest.mark.parametrize('name', ['a.zip', 'a.tar', 'a.tar.gz', 'a.tar.xz', 'a.tbz2'])
def test_what_is_no_archive_is_told(tmp_path, name):
    (tmp_path / name).write_bytes(b'this is no archive' * 100)
    ((path, said),), _ = listed(str(tmp_path / name))
    assert path == str(tmp_path / name) and isinstance(said, str) and '\n' not in said


def test_a_tar_that_is_cut_short_gives_what_came_before(tmp_path):
    path = str(tmp_path / 'a.tar')
    open(path, 'wb').write(tar_of({'a.png': b'1', 'b.png': bytes(5000)})[:3000])
    found, _ = listed(path)
    assert found[0] == (f'{path}!a.png', b'1') and 'cut short after 1 members' in found[1][1] and len(found) == 2


def test_empty_and_special_archives(tmp_path):
    make_zip(tmp_path / 'empty.zip', {})
    (tmp_path / 'text.tar').write_bytes(tar_of({'notes.txt': b'x'}))
    os.mkfifo(tmp_path / 'pipe.tar')
    os.mkfifo(tmp_path / 'pipe.zip')
    for name, left_out in (('empty.zip', 0), ('text.tar', 1)):
        path = str(tmp_path / name)
        assert listed(path) == ([(path, 'an archive that holds no images')], left_out)
    for name in ('pipe.tar', 'pipe.zip'):
        assert 'neither a folder nor a file' in listed(str(tmp_path / name))[0][0][1]


def test_archives_in_a_folder_are_read_too_and_addresses_are_refused(tmp_path):
    (tmp_path / 'a.png').write_bytes(b'1')
    make_zip(tmp_path / 'b.zip', {'b.png': b'2'})
    found, others = listed(str(tmp_path), 'https://example.com/*.png', 's3://bucket/a.png')
    assert found == [(f'{tmp_path}/a.png', b'1'), (f'{tmp_path}/b.zip!b.png', b'2'), *(
        (address, 'an address, which is not fetched; download it, and name the file')
        for address in ('https://example.com/*.png', 's3://bucket/a.png'))] and not others


def test_random_damage_raises_nothing(tmp_path):
    """Mutants of archives: whatever is read or told, it is one Input after the other."""
    files = {'a.png': b'1' * 700, 'deep/b.png': b'2' * 90, 'c.txt': b'3'}
    whole = {'m.zip': open(make_zip(tmp_path / 'whole.zip', files), 'rb').read(), 'm.tar': tar_of(files),
             'm.tar.gz': gzip.compress(tar_of(files)), 'm.tar.xz': lzma.compress(tar_of(files))}
    random, ways = np.random.RandomState(0), set()
    for number in range(400):
        name = sorted(whole)[number % 4]
        (tmp_path / name).write_bytes(mutate(whole[name], random))
        for _, said in listed(str(tmp_path / name))[0]:
            ways.add(type(said))
            assert isinstance(said, bytes) or '\n' not in said
    assert ways == {bytes, str}
