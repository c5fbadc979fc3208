"""The sources: which images they give, in which split, and what they leave out; and finding a dataset."""
import collections
import io
import os
import shutil
import zipfile

import numpy as np
import pytest
from PIL import Image

from datasets import archives, crops, sources
from dnnlib.util import UserError


def noise(seed, side=24):
    return np.random.RandomState(seed).randint(0, 256, [side, side, 3]).astype(np.uint8)


def encode(pixels, format='PNG'):
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, format)
    return file.getvalue()


@pytest.fixture
def folder(tmp_path):
    """Ten usable images of 24×24 and one of everything that is not."""
    path = tmp_path / 'photos'
    (path / 'deep' / 'deeper').mkdir(parents=True)
    for index in range(10):
        (path / ('deep/deeper' if index % 2 else '.') / f'{index}.png').write_bytes(encode(noise(index)))
    (path / 'again.png').write_bytes(encode(noise(3)))
    (path / 'small.png').write_bytes(encode(noise(11, side=15)))
    (path / 'cut.jpg').write_bytes(encode(noise(12, side=64), 'JPEG')[:900])
    (path / 'text.png').write_bytes(b'no image at all')
    (path / 'README.txt').write_bytes(b'about these images')
    return str(path)


SKIPPED = {'duplicate': 1, 'not an image': 2, 'smaller than 16x16': 1, 'truncated or damaged': 1}


def all_images(dataset, split):
    return np.concatenate(list(dataset.images(split)))


def test_a_folder_becomes_a_dataset_and_tells_what_it_skipped(folder, tmp_path):
    made = sources.files(folder, 16).write(str(tmp_path / 'made'))
    assert (made.name, made.shape, made.num_images('train'), made.num_images('eval')) == ('photos', (16, 16, 3), 5, 5)
    assert made.skipped == SKIPPED
    expected = [crops.centre_square(Image.fromarray(noise(seed)), 16).tobytes() for seed in range(10)]
    got = [image.tobytes() for split in ('train', 'eval') for image in all_images(made, split)]
    assert sorted(got) == sorted(expected)


def test_a_folder_and_the_zip_of_it_give_the_same_dataset_anywhere(folder, tmp_path):
    first = sources.files(folder, 16).write(str(tmp_path / 'first'))
    elsewhere = shutil.copytree(folder, str(tmp_path / 'elsewhere'))
    packed = shutil.make_archive(str(tmp_path / 'packed'), 'zip', folder)
    digests = {sources.files(path, 16).write(str(tmp_path / f'made{index}')).digest
               for index, path in enumerate((elsewhere, packed))}
    assert digests == {first.digest}


def test_max_images_and_eval_fraction(folder, tmp_path):
    whole = sources.files(folder, 16).write(str(tmp_path / 'whole'))
    part = sources.files(folder, 16, max_images=6).write(str(tmp_path / 'part'))
    np.testing.assert_array_equal(all_images(part, 'train'), all_images(whole, 'train')[:3])
    np.testing.assert_array_equal(all_images(part, 'eval'), all_images(whole, 'eval')[:3])
    tenth = sources.files(folder, 16, eval_fraction=0.1).write(str(tmp_path / 'tenth'))
    assert (tenth.num_images('train'), tenth.num_images('eval')) == (9, 1)
    none = sources.files(folder, 16, eval_fraction=0).write(str(tmp_path / 'none'))
    assert (none.num_images('train'), none.num_images('eval')) == (10, 0)


def test_upscaling_takes_the_small_one_too(folder, tmp_path):
    made = sources.files(folder, 16, allow_upscale=True).write(str(tmp_path / 'made'))
    assert made.num_images('train') + made.num_images('eval') == 11 and 'smaller than 16x16' not in made.skipped


@pytest.mark.parametrize('fraction', [0, 0.1, 0.25, 0.3, 1 / 3, 0.5, 0.9])
def test_any_first_part_is_split_by_the_fraction(fraction):
    split_of = sources.interleaved(fraction, max_images=1000)
    held_out = np.cumsum([split_of(index) == 'eval' for index in range(1000)])
    np.testing.assert_allclose(held_out, np.arange(1, 1001) * fraction, atol=1 + 1e-3)
    assert split_of(1000) is None


@pytest.mark.parametrize('content, match', [
    ({}, '0 usable images, at least one is needed to train on; skipped: nothing'),
    ({'notes.txt': b'text', 'a.png': b'text'}, '0 usable images.*skipped: 2 not an image'),
    ({'a.png': encode(noise(0, side=8))}, '0 usable images.*skipped: 1 smaller than 16x16')])
def test_a_folder_without_usable_images_is_told(tmp_path, content, match):
    (tmp_path / 'photos').mkdir()
    for name, data in content.items():
        (tmp_path / 'photos' / name).write_bytes(data)
    with pytest.raises(UserError, match=match) as caught:
        sources.files(str(tmp_path / 'photos'), 16).write(str(tmp_path / 'made'))
    assert os.listdir(tmp_path) == ['photos'] and str(tmp_path) not in str(caught.value)


def test_photographs_are_split_without_overlap(shared, tmp_path):
    made = sources.files(os.path.join(shared, 'data', 'clothing128.zip'), 32, max_images=400).write(str(tmp_path / 'd'))
    train, evaluation = all_images(made, 'train'), all_images(made, 'eval')
    assert train.shape == evaluation.shape == (200, 32, 32, 3)
    assert len({image.tobytes() for image in (*train, *evaluation)}) == 400
    assert 40 < train.mean() < 215 and train.std() > 30


@pytest.fixture
def aligned(tmp_path):
    """A zip of twelve images of CelebA's size and one of another."""
    random = np.random.RandomState(0)
    images = random.randint(0, 256, [12, 218, 178, 3]).astype(np.uint8)
    with zipfile.ZipFile(tmp_path / 'img_align_celeba.zip', 'w') as archive:
        for index in random.permutation(12):
            archive.writestr(f'img_align_celeba/{index + 1:06}.png', encode(images[index]))
        archive.writestr('img_align_celeba/000000.png', encode(noise(0, side=218)))
    return str(tmp_path / 'img_align_celeba.zip'), images


def test_celeba_is_cropped_and_split_in_the_order_of_its_names(aligned, tmp_path):
    path, images = aligned
    made = sources.paper('celeba', path, max_images=9).write(str(tmp_path / 'celeba'))
    np.testing.assert_array_equal(all_images(made, 'train'), images[:5, 57:185, 25:153])
    np.testing.assert_array_equal(all_images(made, 'eval'), images[5:9, 57:185, 25:153])
    assert made.skipped == {'not 178x218 as the aligned CelebA images are': 1}
    assert made.source == 'celeba from img_align_celeba.zip, 128x128 around (89, 121), at 128x128'


def test_a_paper_dataset_with_too_few_images_is_told(aligned, tmp_path):
    with pytest.raises(UserError, match='12 usable images, 60000 are needed; .*1 not 178x218'):
        sources.paper('celeba', aligned[0]).write(str(tmp_path / 'celeba'))


@pytest.mark.parametrize('name, side, half', [('celeba', 128, 30000), ('lsun_bedroom', 128, 30000),
                                              ('lsun_cat', 256, 50000)])
def test_the_papers_sizes(name, side, half, monkeypatch):
    empty = archives.Archive([], bytes, 10**6)
    monkeypatch.setattr(archives, 'open_archive', lambda path: empty)
    source = sources.paper(name, 'somewhere')
    splits = collections.Counter(source.split_of(index) for index in range(2 * half + 10))
    assert splits == {'train': half, 'eval': half, None: 10}
    assert [source.split_of(index) for index in (0, half - 1, half)] == ['train', 'train', 'eval']
    assert (source.minimum, source.total) == (2 * half, 2 * half) and f'at {side}x{side}' in source.description


def test_lsun_from_its_lmdb(tmp_path):
    lmdb = pytest.importorskip('lmdb')
    images = [np.random.RandomState(seed).randint(0, 256, [20, 30, 3]).astype(np.uint8) for seed in range(7)]
    with lmdb.open(str(tmp_path / 'cat'), map_size=1 << 24) as environment, environment.begin(write=True) as writer:
        for index, image in enumerate(images):
            file = io.BytesIO()
            Image.fromarray(image).save(file, 'WEBP', lossless=True)
            writer.put(b'%03d' % index, file.getvalue())
    made = sources.paper('lsun_cat', str(tmp_path / 'cat'), resolution=16, max_images=6).write(str(tmp_path / 'made'))
    expected = np.stack([crops.centre_square(Image.fromarray(image), 16) for image in images[:6]])
    np.testing.assert_array_equal(np.concatenate([all_images(made, 'train'), all_images(made, 'eval')]), expected)


def test_digits_are_white_on_black_and_all_there(tmp_path):
    made = sources.find_dataset('digits', str(tmp_path))
    train, evaluation = all_images(made, 'train'), all_images(made, 'eval')
    assert train.shape == (1500, 32, 32, 3) and evaluation.shape == (297, 32, 32, 3)
    assert train[:, 0, 0].mean() < 5 and train.max() == 255 and (train == train[..., :1]).all()
    from sklearn.datasets import load_digits
    means = [picture.mean() * 255 / 16 for picture in load_digits().images]
    got = [image.mean() for image in (*train, *evaluation)]
    np.testing.assert_allclose(sorted(got), sorted(means), atol=4)  # bicubic overshoot is clipped at black
    assert sources.digits().write(str(tmp_path / 'again')).digest == made.digest


def test_a_dataset_is_found_by_name_and_by_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    made = sources.find_dataset('digits')
    assert made.path == os.path.join('data', 'digits')
    for name in ('digits', 'data/digits', 'data/digits/', str(tmp_path / 'data' / 'digits')):
        assert sources.find_dataset(name).digest == made.digest
    shutil.move('data/digits', 'data/mine')
    assert sources.find_dataset('mine').digest == made.digest


@pytest.mark.parametrize('name, command', [
    ('celeba', 'dataset_tool.py celeba --source=FOLDER_OR_ZIP --out=data/celeba'),
    ('my photos.zip', "dataset_tool.py 'my photos.zip' '--out=data/my photos' --resolution=128"),
    ('there/celeba', 'dataset_tool.py celeba --source=FOLDER_OR_ZIP --out=there/celeba'),
    ('there/digits', 'dataset_tool.py digits --out=there/digits'),
    ('nowhere', 'dataset_tool.py FOLDER_OR_ZIP --out=data/nowhere --resolution=128')])
def test_a_missing_dataset_is_told_with_the_command_that_makes_it(tmp_path, monkeypatch, name, command):
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'my photos.zip').write_bytes(b'')
    with pytest.raises(UserError) as caught:
        sources.find_dataset(name)
    assert str(caught.value).replace("--out='data/my photos'", "'--out=data/my photos'").endswith(f'python {command}')


def test_two_workers_may_make_the_digits_at_once(tmp_path, monkeypatch):
    """The slower of the two finds the folder there when it is done."""
    write = sources.Source.write

    def beaten(source, path):
        write(sources.digits(), path)
        return write(source, path)

    monkeypatch.setattr(sources.Source, 'write', beaten)
    assert sources.find_dataset('digits', str(tmp_path)).num_images('train') == 1500
    assert os.listdir(tmp_path) == ['digits']


def test_threads_keep_the_order_and_stop_early():
    taken = []

    def endless():
        for index in range(10**9):
            taken.append(index)
            yield index

    results = sources._in_threads(lambda index: index ** 2, endless())
    assert [next(results) for _ in range(50)] == [index ** 2 for index in range(50)]
    results.close()
    assert len(taken) < 50 + 3 * os.cpu_count() + 2
