"""Files in, users out: the decoder is untrained here, so users are made to fit what it reads."""
import json
import os
import subprocess
import sys

import numpy as np
import pytest
import sqlalchemy as sa
from helpers import ROOT, save_run
from PIL import Image

from dnnlib.images import to_float
from dnnlib.util import UserError
from fingerprints.registry import Registry
from release.attribute import Attributor, read_image
from training.state import Snapshot


@pytest.fixture
def picture(tmp_path):
    def save(name='image.png', size=(16, 16), mode='RGB', **options):
        image = Image.fromarray(np.random.default_rng(0).integers(0, 256, [*size[::-1], 3]).astype(np.uint8))
        path = str(tmp_path / name)
        image.convert(mode).save(path, **options)
        return path
    return save


@pytest.fixture
def marked(released, picture, tmp_path):
    """A registry in which alice's code is exactly what the decoder reads from the picture."""
    run_dir, registry, _ = released
    path = picture()
    logits = Snapshot(run_dir).decoder(to_float(read_image(path, 16))[None])[1].numpy()[0]
    where = str(tmp_path / 'registry.sqlite')
    with open(registry.where, 'rb') as source, open(where, 'wb') as target:
        target.write(source.read())
    with sa.create_engine(f'sqlite:///{where}').begin() as connection:
        for name, code in (('alice', logits > 0), ('bob', logits <= 0)):
            text = ''.join('01'[int(bit)] for bit in code)
            connection.execute(sa.text('UPDATE users SET bits = :bits WHERE name = :name'), dict(bits=text, name=name))
    return run_dir, where, path


def test_names_the_user_of_a_file(marked):
    run_dir, where, path = marked
    (result,) = Attributor(run_dir, Registry(where))([path], 1e-3)
    assert result.attribution.user == 'alice' and result.attribution.matching == 16
    assert result.attribution.p_value == pytest.approx(2 * 2 ** -16)
    assert result.attribution.second_matching == 0
    (result,) = Attributor(run_dir, Registry(where))([path], 1e-6)  # 16 bits cannot prove that much
    assert result.attribution.user is None and result.attribution.best_user == 'alice'


def run(*args):
    return subprocess.run([sys.executable, 'run_release.py', *args], cwd=ROOT, capture_output=True, text=True)


def test_bad_files_are_told_and_the_rest_goes_on(marked, picture, tmp_path):
    run_dir, where, path = marked
    text = tmp_path / 'text.png'
    text.write_text('not an image')
    whole = open(picture('whole.jpg', size=(16, 16), quality=90), 'rb').read()
    (tmp_path / 'cut.jpg').write_bytes(whole[:len(whole) // 2])
    files = [str(text), picture('large.png', size=(32, 16)), str(tmp_path / 'cut.jpg'), '/nonexistent.png',
             str(tmp_path), path]
    result = run('attribute', f'--run={run_dir}', f'--registry={where}', '--fpr=1e-3', '--json', *files)
    assert result.returncode == 1 and 'Traceback' not in result.stderr
    records = [json.loads(line) for line in result.stdout.splitlines()]
    assert [record['image'] for record in records] == files
    for record, message in zip(records, ('not an image', 'is 32x16, the model draws 16x16', 'damaged', 'not exist',
                                         'unreadable')):
        assert message in record['error'] and '\n' not in record['error']
    assert records[-1]['user'] == 'alice' and 'error' not in records[-1]
    printed = run('attribute', f'--run={run_dir}', f'--registry={where}', '--fpr=1e-3', path)
    assert printed.returncode == 0
    assert 'user alice  16 of 16 bits match  p 3.1e-05, corrected for 2 users' in printed.stdout


@pytest.mark.parametrize('mode', ['L', 'P', 'RGBA', '1'])
def test_other_modes_become_rgb(picture, mode):
    assert read_image(picture(mode=mode), 16).shape == (16, 16, 3)


def test_registry_of_another_model(released, tmp_path):
    other = save_run(str(tmp_path / 'other'), seed=3)
    with pytest.raises(UserError, match='does not hold the model'):
        Attributor(other, released[1])


def test_empty_registry(run_dir, tmp_path):
    with pytest.raises(UserError, match='holds no users'):
        Attributor(run_dir, Registry(str(tmp_path / 'empty.sqlite'), create=True))


@pytest.mark.parametrize('args, code, message', [
    (['list', '--registry=/nonexistent/registry.sqlite'], 1, 'there is no registry at'),
    (['attribute', '--fpr=2', 'image.png'], 2, 'false-positive rate'),
    (['issue'], 2, 'NAME'),
    (['issue', 'a/b'], 1, "'a/b' cannot be a user's name"),
    (['issue', 'x', 'x'], 2, 'the same name twice'),
    (['isue', 'x'], 2, 'invalid choice'),
])
def test_command_line_refusals(args, code, message):
    result = run(*args)
    assert result.returncode == code, result.stderr
    assert message in result.stderr and len(result.stderr.strip().split('\n')) == 1


def test_desk(run_dir, tmp_path):
    """issue, list, revoke, list, as the owner types them."""
    registry, out = f'--registry={tmp_path}/registry.sqlite', f'--out={tmp_path}/instances'
    result = run('issue', 'alice', 'bob', f'--run={run_dir}', registry, out)
    assert result.returncode == 0 and result.stdout.count('issued ') == 2, result.stderr
    assert os.path.exists(tmp_path / 'instances' / 'bob' / '1' / 'saved_model.pb')
    assert run('revoke', 'alice', '--reason=left', registry).returncode == 0
    again = run('revoke', 'alice', registry)
    assert again.returncode == 1 and 'revoked already' in again.stderr
    lines = run('list', registry).stdout.splitlines()
    assert len(lines) == 2 and 'revoked' in lines[0] and 'left' in lines[0] and 'active' in lines[1]
