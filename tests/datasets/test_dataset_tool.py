"""The command line: what it makes and prints, and one clear line with the right exit code for what is wrong."""
import io
import os
import re
import subprocess
import sys
import zipfile

import numpy as np
import pytest
from PIL import Image

from datasets.reader import open_dataset
from helpers import ROOT


def tool(*words, cwd):
    command = [sys.executable, os.path.join(ROOT, 'dataset_tool.py'), *words]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True)


@pytest.fixture(scope='module')
def place(tmp_path_factory):
    """A working folder with photos.zip (70 images and a text), bomb.zip, empty/ and the dataset data/photos."""
    path = tmp_path_factory.mktemp('place')
    with zipfile.ZipFile(path / 'photos.zip', 'w') as archive:
        archive.writestr('LICENSE', 'anybody may')
        for seed in range(70):
            pixels = np.random.RandomState(seed).randint(0, 256, [40, 32, 3]).astype(np.uint8)
            file = io.BytesIO()
            Image.fromarray(pixels).save(file, 'PNG')
            archive.writestr(f'{seed}.png', file.getvalue())
    with zipfile.ZipFile(path / 'bomb.zip', 'w', zipfile.ZIP_DEFLATED) as archive:
        with archive.open('bomb.png', 'w') as entry:
            for _ in range(300):
                entry.write(bytes(1 << 20))
    (path / 'empty').mkdir()
    made = tool('photos.zip', '--out=data/photos', '--resolution=32', cwd=path)
    assert made.returncode == 0, made.stderr
    (path / 'printed.txt').write_text(made.stdout)
    return path


def test_what_is_made_and_printed(place):
    dataset = open_dataset(str(place / 'data' / 'photos'))
    assert (dataset.num_images('train'), dataset.num_images('eval')) == (35, 35)
    printed = (place / 'printed.txt').read_text()
    for part in ('data/photos: 32x32 images', 'train    35 images', 'eval     35 images', 'skipped  1 not an image',
                 dataset.digest, 'python run_training.py --dataset=data/photos'):
        assert part in printed
    with Image.open(place / 'data' / 'photos' / 'preview.png') as preview:
        tiles = np.asarray(preview).reshape(-1, 32, 8, 32, 3).swapaxes(1, 2).reshape(-1, 32, 32, 3)
    np.testing.assert_array_equal(tiles[:35], next(dataset.images('train')))


def test_verify_tells_whole_from_damaged(place):
    whole = tool('verify', 'data/photos', cwd=place)
    assert whole.returncode == 0 and '35 train and 35 eval images as they were written' in whole.stdout
    shard = place / 'data' / 'photos' / 'eval-00000-of-00001.tfrecord'
    data = shard.read_bytes()
    shard.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    damaged = tool('verify', 'data/photos', cwd=place)
    shard.write_bytes(data)
    assert damaged.returncode == 1 and 'eval-00000-of-00001.tfrecord is damaged' in damaged.stderr


def test_digits_need_nothing_but_their_name(tmp_path):
    made = tool('digits', cwd=tmp_path)
    assert made.returncode == 0 and 'data/digits: 32x32 images' in made.stdout and 'train    1500 images' in made.stdout
    assert sorted(os.listdir(tmp_path / 'data')) == ['digits']


def test_help_shows_the_calls():
    shown = tool('--help', cwd='.')
    assert shown.returncode == 0 and 'dataset_tool.py celeba --source=' in shown.stdout


@pytest.mark.parametrize('words, code, message', [
    ('photos.zip --out=data/photos --resolution=32', 1, 'data/photos exists already'),
    ('photos.zip --out=new --resolution=64', 1, 'photos.zip, centre squares.*0 usable.*70 smaller than 64x64'),
    ('nowhere.zip --out=new --resolution=32', 1, 'nowhere.zip does not exist'),
    ('empty --out=new --resolution=32', 1, '0 usable images'),
    ('bomb.zip --out=new --resolution=32', 1, 'zip bomb: bomb.png'),
    ('photos.zip --out=photos.zip/new --resolution=32', 1, 'cannot write'),
    ('celeba --source=nowhere --out=new', 1, 'nowhere does not exist'),
    ('verify nowhere', 1, 'nowhere does not exist; make one'),
    ('verify empty', 1, 'no manifest.json'),
    ('verify', 2, 'verify what'),
    ('photos.zip --out= --resolution=32', 2, '--out is empty; give a path'),
    ('photos.zip --out=new', 2, '--resolution is needed for photos.zip'),
    ('photos.zip --out=new --resolution=33', 2, '--resolution=33 is no power of two from 16 to 1024'),
    ('photos.zip --out=new --resolution=2048', 2, 'no power of two from 16 to 1024'),
    ('photos.zip --out=new --resolution=32 --eval_fraction=1', 2, '--eval-fraction=1.0 is not in'),
    ('photos.zip --out=new --resolution=32 --max-images=1', 2, '--max-images=1 is too few'),
    ('photos.zip --out=new --resolutoin=32', 2, 'did you mean --resolution'),
    ('photos.zip --source=celeba --resolution=32', 2, '--source does not go with photos.zip'),
    ('photos.zip another.zip --resolution=32', 2, 'another.zip does not go with photos.zip'),
    ('digits --allow-upscale', 2, '--allow-upscale does not go with digits'),
    ('celeba', 2, 'celeba is made from files, --source=FOLDER_OR_ZIP'),
    ('celeba --source=photos.zip --resolution=256', 2, '--resolution=256 is more than the 128'),
    ('', 2, 'required'),
])
def test_what_is_wrong_is_told_in_one_line(place, words, code, message):
    before = sorted(os.listdir(place)), sorted(os.listdir(place / 'data'))
    result = tool(*words.split(), cwd=place)
    line, = result.stderr.splitlines()[-1:]
    assert result.returncode == code and line.startswith('dataset_tool.py: error: ')
    assert re.search(message, line), line
    assert len(result.stderr.splitlines()) == 1 and result.stdout == ''
    assert before == (sorted(os.listdir(place)), sorted(os.listdir(place / 'data')))
