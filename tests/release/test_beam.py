"""attribute-beam: the lines of attribute --json, from Beam's local runners."""
import glob
import json
import os
import sys
import zipfile

import numpy as np
import pytest
from PIL import Image

import run_release
from dnnlib.images import to_float
from dnnlib.util import UsageError, UserError
from fingerprints.matching import PackedCodes
from fingerprints.registry import Registry
from helpers import make_registry
from release import beam_flags
from release.attribute import Attributor, Users
from training.snapshot import Snapshot

pytest.importorskip('apache_beam', reason="pip install -e '.[beam]': there is none for Python 3.12 and newer")
SIDE = 16


def command(*words):
    return run_release.main(run_release.make_parser().parse_args([str(word) for word in words]))


@pytest.fixture
def pictures(tmp_path):
    """A folder: 70 pictures, more than a batch, some of them in a zip too; damaged ones; others."""
    folder, rng = tmp_path / 'pictures', np.random.default_rng(0)
    folder.mkdir()
    for number in range(70):
        side = SIDE if number % 3 else 2 * SIDE
        Image.fromarray(rng.integers(0, 256, [side, side, 3]).astype(np.uint8)).save(folder / f'{number}.png')
    with zipfile.ZipFile(folder / 'more.zip', 'w') as archive:
        for number in range(0, 20, 2):
            archive.write(folder / f'{number}.png', f'in {number}.png')
        archive.writestr('notes.txt', 'no image')
        archive.writestr('bad.png', 'no image either')
    (folder / 'damaged.png').write_bytes((folder / '1.png').read_bytes()[:100])
    (folder / 'caf\udce4.png').write_bytes((folder / '2.png').read_bytes())
    (folder / 'readme.txt').write_text('no image')
    (folder / 'zip.zip').write_text('no zip')
    return folder


@pytest.fixture
def released_to(released, pictures, tmp_path):
    """The flags of a registry in which alice has the code that is read from a picture; bob is revoked."""
    run_dir, registry, _ = released
    pixels = np.asarray(Image.open(pictures / '1.png'))
    bits = Snapshot(run_dir).nets['F'](to_float(pixels)[None])[1].numpy()[0] > 0
    location = str(tmp_path / 'registry.sqlite')
    users = {'alice': bits, 'bob': ~bits, 'carol': np.arange(16) % 2}
    make_registry(location, registry.model()[0], users).revoke('bob', 'left')
    return [f'--run={run_dir}', f'--registry={location}', '--fpr=1e-2']


def lines(out):
    return sorted(line for name in glob.glob(f'{out}-*') for line in open(name).read().splitlines())


@pytest.mark.parametrize('flags, beams', [
    ([], ['--pipeline=--direct_num_workers=2']),
    (['--alignments', '--collusion'], ['--runner=BundleBasedDirectRunner'])])
def test_its_lines_are_those_of_attribute(released_to, pictures, tmp_path, capsys, flags, beams):
    words, out = [pictures, '/nonexistent.png', *released_to, *flags], tmp_path / 'found'
    assert command('attribute', '--json', f'--out={tmp_path}/expected.jsonl', *words) == 1
    expected = capsys.readouterr().out
    assert command('attribute-beam', f'--out={out}', *beams, *words) == 1
    assert lines(out) == sorted((tmp_path / 'expected.jsonl').read_text().splitlines())
    records = [json.loads(line) for line in lines(out)]
    assert len(records) == 85 and sum('error' in record for record in records) == 4
    assert any(record.get('user') == 'alice' for record in records)
    counted = capsys.readouterr().out
    assert counted.startswith('85 images: ') and '4 errors' in counted
    assert counted.endswith(', 2 other files in folders and archives left out\n') and ', 2 other files' in expected


def test_nothing_is_left_behind_and_no_results_are_overwritten(released_to, pictures, tmp_path):
    words = [pictures / '1.png', *released_to, f'--out={tmp_path}/found']
    assert command('attribute-beam', *words, f'--working-folder={tmp_path}/meanwhile') == 0
    assert not os.path.exists(tmp_path / 'meanwhile')
    with pytest.raises(UserError, match='/found-00000-of-00001.jsonl already; choose another name$'):
        command('attribute-beam', *words)
    assert command('attribute-beam', *words[:-1], f'--out={tmp_path}/other', '--alignments') == 0


def test_what_the_workers_read_is_private_and_whole(tmp_path):
    from release.beam import read_users, working_folder, write_users
    codes = PackedCodes(np.array([[1, 2], [3, 255]], np.uint8), 12)
    users = Users('d' * 64, ['alice', 'bo"b'], codes, {'alice': 'now'})
    with working_folder(str(tmp_path / 'new')) as folder:
        assert os.stat(folder).st_mode & 0o77 == 0
        write_users(users, os.path.join(folder, 'users.npz'))
        found = read_users(os.path.join(folder, 'users.npz'))
    assert (found.codes.data == users.codes.data).all() and found.codes.num_bits == 12
    assert (found.model_digest, found.names, found.revoked) == (users.model_digest, users.names, users.revoked)
    with pytest.raises(UserError, match='exists already'), working_folder(str(tmp_path)):
        pass


def test_users_of_one_model_are_enough(released_to, pictures):
    run_dir, location = (word.split('=')[1] for word in released_to[:2])
    whole = Attributor(run_dir, Registry(location))
    (expected,), (found,) = (list(one([str(pictures / '1.png')], 1e-2))
                             for one in (whole, Attributor(run_dir, whole.users)))
    assert found == expected and found.attribution.user == 'alice'


@pytest.mark.parametrize('flags, kind, message', [
    (['--runner=SparkRunner'], UsageError, '--runner=SparkRunner: name a --working-folder'),
    (['--runner=NoRunner', '--working-folder=w'], UserError, 'Unexpected pipeline runner: NoRunner'),
    (["--pipeline='"], UsageError, 'No closing quotation'),
    (['--out=nowhere://x'], UserError, '--out=nowhere://x: Unable to get filesystem'),
    (['--working-folder=nowhere://x'], UserError, '--working-folder=nowhere://x: Unable to get filesystem')])
def test_one_line_for_what_cannot_be(released_to, pictures, tmp_path, monkeypatch, flags, kind, message):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(kind, match=message) as refused:
        command('attribute-beam', pictures / '1.png', '--out=found', *released_to, *flags)
    assert '\n' not in str(refused.value) and not glob.glob('found*') and not os.path.exists('w')


def test_where_beam_is_absent_it_says_how_to_get_it(released_to, monkeypatch):
    monkeypatch.setitem(sys.modules, 'apache_beam', None)
    with pytest.raises(UserError) as refused:
        command('attribute-beam', 'x.png', '--out=found', *released_to)
    assert str(refused.value) == beam_flags.INSTALL
