"""Files in, users out: the decoder is untrained here, so users are made to fit what it reads."""
import csv
import io
import json
import math
import os
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

import run_release
from dnnlib.images import decode, read_file, to_float, to_uint8
from dnnlib.util import UsageError, UserError, sha256_file
from fingerprints.codes import code_to_text
from fingerprints.registry import Registry
from helpers import ROOT, make_registry, save_run
from release.attribute import Attributor
from release.redrawing.reading import Redrawer
from release.results import bits_needed
from training.snapshot import Snapshot, keep_released


@pytest.fixture
def picture(tmp_path):
    def save(name='image.png', size=(16, 16), mode='RGB', **options):
        image = Image.fromarray(np.random.default_rng(0).integers(0, 256, [*size[::-1], 3]).astype(np.uint8))
        path = str(tmp_path / name)
        image.convert(mode).save(path, **options)
        return path
    return save


def read_image(path, side):
    """A file as attribution reads it, uint8 [side, side, 3]."""
    return np.asarray(decode(read_file(path), side=side))


@pytest.fixture
def marked(released, picture, tmp_path):
    """A registry in which alice's code is exactly what the decoder reads from the picture."""
    run_dir, registry, _ = released
    path = picture()
    logits = Snapshot(run_dir).nets['F'](to_float(read_image(path, 16))[None])[1].numpy()[0]
    location = str(tmp_path / 'registry.sqlite')
    make_registry(location, registry.model()[0], {'alice': logits > 0, 'bob': logits <= 0})
    return run_dir, location, path


def test_names_the_user_of_a_file(marked):
    run_dir, location, path = marked
    (result,) = Attributor(run_dir, Registry(location))([path], 1e-3)
    assert result.attribution.user == 'alice' and result.attribution.matching == 16
    assert result.attribution.p_value == pytest.approx(2 * 2 ** -16)
    assert result.attribution.second_matching == 0
    (result,) = Attributor(run_dir, Registry(location))([path], 1e-6)  # 16 bits cannot prove that much
    assert result.attribution.user is None and result.attribution.best_user == 'alice'


def test_the_search_for_a_crop_is_one_comparison_more(marked):
    run_dir, location, path = marked
    attributor = Attributor(run_dir, Registry(location), search=True)
    (result,) = attributor([path], 1e-3)
    assert (result.attribution.user, result.alignment, result.tried) == ('alice', 'as it is', 2)
    assert result.attribution.p_value == pytest.approx(2 * 2 * 2 ** -16)
    (picture,) = next(attributor.read([path]))
    (versions,) = attributor.logits([picture])
    whole, part = versions
    assert whole == ('as it is', 'as it is') and part[0].startswith('taken for a part: ')
    assert versions[part].shape == (16,) and np.abs(versions[part] - versions[whole]).max() > 1e-3


def test_drawing_again_is_one_comparison_more(tmp_path):
    """Alice's picture of an untrained generator, whose marks need no decoder."""
    run_dir = save_run(str(tmp_path / 'run'), 3, preset='adopted', method='adopted', read_side=16, sign_map=5,
                       mark_psnr=24.0, chroma_psnr=28.0, key_bits=3)
    snapshot, code = Snapshot(run_dir), np.random.default_rng(0).integers(0, 2, 16)
    keep_released(run_dir, snapshot)
    location, path = str(tmp_path / 'registry.sqlite'), str(tmp_path / 'image.png')
    make_registry(location, snapshot.digest, {'alice': code > 0, 'bob': code == 0})
    image = snapshot.model().generate(np.ones([1, 6], np.float32), code[None].astype(np.float32))
    Image.fromarray(to_uint8(image)[0]).save(path)
    attributor = Attributor(run_dir, Registry(location), redraw=True)
    (result,) = attributor([path], 1e-3)
    assert result.tried == attributor.tried == 2 and attributor.provenance['redraw']
    (picture,) = next(attributor.read([path]))
    (versions,) = attributor.logits([picture])
    assert len(versions) == 2 and list(versions)[1][0].startswith('drawn again ')
    row = list(versions.values())[1]
    np.testing.assert_array_equal(row, Redrawer(attributor.snapshot)(to_float(to_uint8(image))[0]).logits)


def run(*args):
    return subprocess.run([sys.executable, 'run_release.py', *args], cwd=ROOT, capture_output=True, text=True)


def command(*words):
    """Runs run_release.py in this process. Returns its exit code; raises UserError."""
    return run_release.main(run_release.make_parser().parse_args([str(word) for word in words]))


@pytest.fixture
def attribute(marked):
    run_dir, location, _ = marked
    return lambda *words: command('attribute', f'--run={run_dir}', f'--registry={location}', '--fpr=1e-3', *words)


def records(text):
    return [json.loads(line) for line in text.splitlines()]


def test_bad_files_are_told_and_the_rest_goes_on(marked, attribute, picture, tmp_path, capsys):
    _, _, path = marked
    text = tmp_path / 'text.png'
    text.write_text('not an image')
    whole = open(picture('whole.jpg', size=(16, 16), quality=90), 'rb').read()
    (tmp_path / 'cut.jpg').write_bytes(whole[:len(whole) // 2])
    os.mkfifo(tmp_path / 'pipe.png')
    files = [str(text), picture('small.png', size=(32, 7)), str(tmp_path / 'cut.jpg'), '/nonexistent.png',
             str(tmp_path / 'pipe.png'), '/dev/zero', path]
    assert attribute('--json', *files) == 1
    captured = capsys.readouterr()
    assert captured.err.startswith('7 images: 6 errors, 1 named (alice 1); 15 of 16 bits must match')
    found = records(captured.out)
    assert [record['image'] for record in found] == files
    for record, message in zip(found, ('not an image', 'is 32x7, less than half', 'damaged', 'not exist', 'named pipe',
                                       'device')):
        assert message in record['error'] and '\n' not in record['error']
    assert found[-1]['user'] == 'alice' and 'error' not in found[-1]
    assert attribute(path) == 0
    printed = capsys.readouterr().out
    assert 'user alice  16 of 16 bits match  p 3.1e-05, corrected for 2 users' in printed
    assert '1 image: 1 named (alice 1); 15 of 16 bits must match' in printed


@pytest.mark.parametrize('mode', ['L', 'P', 'RGBA', '1', 'CMYK', 'I;16'])
def test_other_modes_become_rgb(picture, mode):
    path = picture('image.tif' if mode == 'CMYK' else 'image.png', mode=mode)
    assert read_image(path, 16).shape == (16, 16, 3)


def test_what_is_attributed_is_what_a_viewer_shows(marked, attribute, tmp_path, capsys):
    """A copy that EXIF turns upright is alice's; pixels hidden under full transparency are nobody's; of an animation
    the first frame counts; an EPS in disguise is not opened."""
    image = Image.open(marked[2])
    exif = Image.Exif()
    exif[0x0112] = 6
    image.transpose(Image.Transpose.ROTATE_90).save(tmp_path / 'turned.png', exif=exif)
    hidden = image.convert('RGBA')
    hidden.putalpha(0)
    hidden.save(tmp_path / 'hidden.png')
    image.save(tmp_path / 'moving.png', save_all=True, append_images=[Image.new('RGB', (16, 16))])
    image.save(tmp_path / 'eps.png', 'EPS')
    names = ['turned.png', 'hidden.png', 'moving.png', 'eps.png']
    assert attribute('--json', *(tmp_path / name for name in names)) == 1
    turned, hidden, moving, eps = records(capsys.readouterr().out)
    assert turned['user'] == moving['user'] == 'alice'
    assert hidden['user'] is None and eps['error'] == 'in a format that is not accepted; convert it to PNG'


def test_sixteen_bits_are_scaled_and_not_clipped(tmp_path):
    values = np.arange(256, dtype=np.uint16).reshape(16, 16)
    Image.fromarray(values * 257).save(tmp_path / 'deep.png')
    np.testing.assert_array_equal(read_image(str(tmp_path / 'deep.png'), 16)[..., 0], values)


def test_two_users_over_the_threshold_are_both_told_and_none_is_named(marked, tmp_path, capsys):
    """alice's code fits in all 16 bits, bob's in 15: 14 are enough at 1e-2."""
    run_dir, location, path = marked
    registry = Registry(location)
    code = registry.codes()[1][0]
    other = str(tmp_path / 'near.sqlite')
    make_registry(other, registry.model()[0], {'alice': code, 'bob': [*code[:-1], 1 - code[-1]]})

    def attribute(*words):
        return command('attribute', f'--run={run_dir}', f'--registry={other}', *words)
    assert attribute(path, '--fpr=1e-2') == 3
    assert 'no user, for 2 reach the 14 bits needed: alice, bob (collusion or forgery?)' in capsys.readouterr().out
    assert attribute(path, '--fpr=1e-2', '--json') == 3
    (record,) = records(capsys.readouterr().out)
    assert (record['user'], record['reason'], record['over_threshold']) == (None, 'several', ['alice', 'bob'])


def test_a_tie_is_told(marked, attribute, monkeypatch, capsys):
    """The registry refuses equal codes, so the second user's is slipped in behind it."""
    codes = Registry.codes
    monkeypatch.setattr(Registry, 'codes', lambda *of: (codes(*of)[0], codes(*of)[1][[0, 0]]))
    assert attribute(marked[2]) == 3
    assert 'no user, for 2 reach the 15 bits needed, the best two in equally many bits' in capsys.readouterr().out
    assert attribute(marked[2], '--json') == 3
    assert records(capsys.readouterr().out)[0]['reason'] == 'tie'


def test_a_revoked_user_is_called_revoked(marked, attribute, capsys):
    Registry(marked[1]).revoke('alice', 'left')
    attribute(marked[2])
    assert re.search(r'user alice \(revoked 20\d\d-.*\)  16 of 16', capsys.readouterr().out)
    attribute(marked[2], '--json')
    assert list(records(capsys.readouterr().out)[0]['revoked']) == ['alice']


def test_a_rate_that_cannot_be_reached_is_told(marked, attribute, capsys):
    assert attribute(marked[2], '--fpr=1e-6') == 3
    printed = capsys.readouterr().out
    assert 'too many users for 16 bits at this rate' in printed
    assert '16 bits are too few for 2 users at --fpr=1e-06' in printed and 'rate possible is 3.1e-05' in printed


def test_nobody(attribute, picture, tmp_path, capsys):
    Image.new('RGB', (16, 16), 'white').save(tmp_path / 'white.png')
    assert attribute(tmp_path / 'white.png') == 3
    assert re.search(r'no user \(nearest (alice|bob), 15 bits are needed\)', capsys.readouterr().out)


FORGED = 'a\nevil.png: user bob  16 of 16 bits match  p 1e-10, corrected for 2 users'


def test_no_file_name_can_pass_for_a_result(attribute, tmp_path, capsys):
    names = [FORGED, 'x.png: user bob  16 of 16 bits match', 'esc\x1b[31m.png', 'rtl\u202egnp.exe', 'latin\udce4.png']
    for name in names:
        (tmp_path / os.fsencode(name).decode('utf-8', 'surrogateescape')).write_bytes(b'')
    for name in names:
        attribute(f'{tmp_path}/{name}')
        printed = capsys.readouterr().out
        assert len(printed.splitlines()) == 2, printed
        assert printed.startswith(f'"{tmp_path}/') and 'user bob' not in printed.split('"')[2]
        assert all(char.isprintable() or char == '\n' for char in printed)
    attribute('--json', f'{tmp_path}/{names[-1]}')
    assert records(capsys.readouterr().out)[0]['image'] == f'{tmp_path}/latin\\xe4.png'


def test_folders_lists_and_patterns(marked, attribute, tmp_path, monkeypatch, capsys):
    folder = tmp_path / 'evidence' / 'deep'
    folder.mkdir(parents=True)
    for name in ('a.png', '@b.png', 'deep/c.png'):
        shutil.copy(marked[2], tmp_path / 'evidence' / name)
    (folder / 'notes.txt').write_text('x')
    (tmp_path / 'list').write_text(f'{tmp_path}/evidence/a.png\n\n{folder}\n')
    monkeypatch.chdir(tmp_path / 'evidence')

    def found(*words):
        attribute('--json', *words)
        return [record['image'] for record in records(capsys.readouterr().out)]

    assert found('.') == ['./@b.png', './a.png', './deep/c.png']
    assert found('**/*.png') == ['@b.png', 'a.png', 'deep/c.png']
    assert found(f'@{tmp_path}/list') == [f'{tmp_path}/evidence/a.png', f'{folder}/c.png']
    monkeypatch.setattr(sys, 'stdin', io.TextIOWrapper(io.BytesIO(b'a.png\0deep/c.png\0')))
    assert found('-') == ['a.png', 'deep/c.png']
    assert found('./@b.png') == ['./@b.png']
    with pytest.raises(UserError, match='none cannot be read as a list.*given as ./@none'):
        attribute('@none')
    assert attribute('*.gif') == 1 and '*.gif": error: matches no file' in capsys.readouterr().out
    assert attribute('deep') == 0
    assert '1 image: 1 named (alice 1), 1 other files in folders and archives left out' in capsys.readouterr().out


def test_csv_into_a_file(marked, attribute, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    shutil.copy(marked[2], '=1+2.png')
    assert attribute('--csv', '--out=new/results.csv', '=1+2.png', 'none.png') == 1
    assert capsys.readouterr().out.startswith('2 images: 1 named (alice 1), 1 error; ')
    with open('new/results.csv', newline='') as file:
        first, second = csv.DictReader(file)
    assert first['image'] == './=1+2.png' and first['user'] == 'alice' and first['error'] == ''
    assert first['sha256'] == sha256_file(marked[2]) and second['error'] == 'does not exist'
    assert first['model_digest'] == Snapshot(marked[0]).digest and first['snapshot_kimg'] == '1'
    with pytest.raises(UserError, match='new/results.csv: choose the name of a file that does not exist'):
        attribute('--csv', '--out=new/results.csv', '=1+2.png')
    assert os.listdir('new') == ['results.csv']


def test_json_says_what_a_result_rests_on(marked, attribute, capsys):
    attribute('--json', marked[2])
    captured = capsys.readouterr()
    (record,) = records(captured.out)
    assert record['sha256'] == sha256_file(marked[2]) and record['fpr'] == 1e-3 and record['threshold'] == 15
    assert record['model_digest'] == Snapshot(marked[0]).digest and record['snapshot_kimg'] == 1
    assert re.fullmatch(r'\d+\.\d+\.\d+', record['version'])
    assert '1 image: 1 named (alice 1); 15 of 16 bits must match at --fpr=0.001 with 2 users' in captured.err


@pytest.mark.parametrize('num_bits, users, fpr, expected', [
    (32, 200, 1e-6, '32 of 32 bits must match'), (32, 2, 1e-3, '26 of 32 bits'), (128, 10**6, 1e-6, '103 of 128 bits'),
    (32, 4295, 1e-6, 'the strictest rate possible is 1.1e-06; a model for this rate needs 33 bits'),
    (8, 256, 1e-6, 'no rate is possible; a model for this rate needs 28 bits')])
def test_bits_needed(num_bits, users, fpr, expected):
    """Oracle: the binomial tail in whole numbers."""
    said = bits_needed(num_bits, users, fpr)
    assert expected in said
    tails = [users * sum(math.comb(num_bits, k) for k in range(least, num_bits + 1)) / 2 ** num_bits
             for least in range(num_bits + 1)]
    enough = [least for least, tail in enumerate(tails) if tail <= fpr]
    assert said.startswith(f'{enough[0]} of' if enough else f'{num_bits} bits are too few')
    if not enough:
        bits = int(re.search('needs (\\d+) bits', said)[1])
        assert users / 2 ** bits <= fpr < users / 2 ** (bits - 1)


def test_the_list_has_codes_only_on_request(released, capsys):
    location, code = released[1].location, code_to_text(released[1].codes()[1][0])
    for words in ([], ['--json']):
        command('list', f'--registry={location}', *words)
        assert code not in capsys.readouterr().out
    command('list', f'--registry={location}', '--json', '--codes')
    assert code in capsys.readouterr().out
    with pytest.raises(UsageError, match='--codes goes with --json'):
        command('list', f'--registry={location}', '--codes')


def test_a_reason_with_control_characters_is_escaped(marked, capsys):
    command('revoke', 'bob', '--reason=a\nb\x1b[2J', f'--registry={marked[1]}')
    command('list', f'--registry={marked[1]}')
    printed = capsys.readouterr().out
    assert 'a\\nb\\x1b[2J' in printed and '\x1b' not in printed


def test_an_empty_list_in_json_is_empty(tmp_path, capsys):
    Registry(str(tmp_path / 'r.sqlite'), create=True)
    command('list', '--json', f'--registry={tmp_path}/r.sqlite')
    assert capsys.readouterr().out == ''


def test_after_the_demo_the_flags_to_use_are_told(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    os.makedirs('results/demo/run')
    open('results/demo/registry.sqlite', 'w').close()
    with pytest.raises(UserError, match='add --registry=results/demo/registry.sqlite$'):
        command('list')
    with pytest.raises(UserError, match='add --run=results/demo/run --registry=results/demo/registry.sqlite$'):
        command('attribute', 'x.png')
    with pytest.raises(UserError, match='there is no registry at .*mine.sqlite'):
        command('list', '--registry=mine.sqlite')


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


def test_issue_list_revoke_list(run_dir, tmp_path, capsys):
    """As the owner types them."""
    registry, out = f'--registry={tmp_path}/registry.sqlite', f'--out={tmp_path}/instances'
    command('issue', 'alice', 'bob', f'--run={run_dir}', '--selftest=false', registry, out)
    printed = capsys.readouterr().out
    assert printed.count('issued ') == 2 and '16 bits are too few for 2 users at --fpr=1e-06' in printed
    assert os.path.exists(tmp_path / 'instances' / 'bob' / '1' / 'saved_model.pb')
    command('revoke', 'alice', '--reason=left', registry)
    with pytest.raises(UserError, match='revoked already'):
        command('revoke', 'alice', registry)
    capsys.readouterr()
    command('list', registry)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2 and 'revoked' in lines[0] and 'left' in lines[0] and 'active' in lines[1]


@pytest.fixture
def averaged(released, picture, tmp_path):
    """A registry in which what is read is alice's and bob's, half and half, where their codes differ."""
    run_dir, registry, _ = released
    path = picture()
    read = Snapshot(run_dir).nets['F'](to_float(read_image(path, 16))[None])[1].numpy()[0] > 0
    at = np.arange(16)
    codes = {'alice': read ^ (at < 5), 'bob': read ^ ((at >= 5) & (at < 10))}
    location = str(tmp_path / 'registry.sqlite')
    make_registry(location, registry.model()[0], codes)
    return run_dir, location, path


def test_two_users_who_together_explain_a_picture_are_found(averaged, capsys):
    run_dir, location, path = averaged
    registry = Registry(location)
    registry.revoke('bob', '')
    words = ['attribute', path, f'--run={run_dir}', f'--registry={location}', '--fpr=0.1']
    assert command(*words) == 3 and '1 nobody' in capsys.readouterr().out
    assert command(*words, '--collusion', '--record') == 3
    line, last = capsys.readouterr().out.splitlines()
    # Of 6 shared bits 6; and the other user's code matches all 5 that speak against the one, and 6 of the other 11.
    scores = [(5 * x + y, math.comb(5, x) * math.comb(11, y)) for x in range(6) for y in range(12)]
    p = max(2 * 1 * 2 ** -6, 4 * 1 * sum(ways for score, ways in scores if score >= 31) * 2.0 ** -16)
    when = Registry(location).get('bob').revoked_at
    assert (f'no user, but two together: alice and bob (revoked {when}), in 6 of the 6 bits that their codes share, '
            f'p {p:.2g} (collusion or forgery?); alone nearest alice  11 of 16 bits match') in line
    assert '1 image: 1 pair; ' in last and last.endswith('; 1 of 1 pair of users could be found at this rate')
    assert command(*words, '--collusion', '--json') == 3
    (record,) = records(capsys.readouterr().out.splitlines()[0])
    assert (record['reason'], record['user'], record['collusion']) == ('pair', None, True)
    assert record['pair'] == {'users': ['alice', 'bob'], 'agreeing': 6, 'matching': 6, 'found': 1,
                              'p_value': pytest.approx(p), 'involved': ['alice', 'bob']}
    assert command(*words, '--collusion', '--csv') == 3
    (row,) = csv.DictReader(io.StringIO(capsys.readouterr().out))
    assert row['pair'] == 'alice bob' and float(row['pair_p_value']) == pytest.approx(p)


def test_a_pair_is_told_beside_users_who_reach_the_threshold_alone(averaged, capsys):
    run_dir, location, path = averaged
    words = ['attribute', path, f'--run={run_dir}', f'--registry={location}', '--fpr=0.3', '--collusion']
    assert command(*words) == 3
    line = capsys.readouterr().out.splitlines()[0]
    assert 'for 2 reach the 11 bits needed' in line and ', and two together: alice and bob, in 6 of the 6 bits' in line


def test_a_picture_of_one_user_shows_no_pair(marked, attribute, capsys):
    assert attribute(marked[2], '--collusion', '--search', '--json') == 0
    assert records(capsys.readouterr().out)[0]['pair'] is None


def test_what_must_match_counts_every_version_that_is_tried(marked, attribute, capsys):
    attribute(marked[2], '--search', '--alignments')
    line, last = capsys.readouterr().out.splitlines()
    assert line.endswith('corrected for 2 users and 17 alignments')
    assert last.endswith(bits_needed(16, 2, 1e-3, 17)) and '17 alignments' in last
