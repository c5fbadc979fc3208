"""`run_release.py report` as its user types it. The decoder is untrained, so users are made to fit what it reads."""
import base64
import hashlib
import html
import io
import json
import os
import signal
import stat
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image
from report_samples import CODE_BITS as BITS
from report_samples import INNOCENTS, SIDE
from scipy import stats

import run_release
from dnnlib.images import to_float, to_uint8
from dnnlib.util import UsageError, UserError
from fingerprints.notes import SigningKey
from helpers import ROOT, make_registry
from release.evidence import redrawn, resynthesis


@pytest.fixture
def report(project, tmp_path, monkeypatch, capsys):
    """A function that writes a report on a picture with users of given codes; returns (exit code, record, page)."""
    monkeypatch.setattr(resynthesis, 'ROUNDS', ((3, 4), (1, 6)))
    monkeypatch.setattr(resynthesis, 'USER_STEPS', 3)
    monkeypatch.setattr(resynthesis, 'GUESSES', 128)
    folder, _ = project

    def write(codes, *words, image='a.png', out='report.html'):
        location = str(tmp_path / 'registry.sqlite')
        if not os.path.exists(location):
            make_registry(location, project[1].digest, codes)
        args = ['report', str(folder / image), f'--run={folder}/run', f'--registry={location}', '--fpr=1e-3',
                f'--out={tmp_path / out}', f'--innocents={folder}/photographs', '--images=20', '--redraw=0', *words]
        code = run_release.main(run_release.make_parser().parse_args(args))
        assert capsys.readouterr().out.count('\n') == 2
        return code, json.loads((tmp_path / 'report.json').read_text()), (tmp_path / out).read_text()
    return write


def test_what_it_says_of_a_named_user(project, report, codes, tmp_path):
    code, record, page = report(codes)
    assert code == 0 and record['attribution']['user'] == 'alice'
    path = project[0] / 'a.png'
    assert record['picture']['sha256'] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert record['picture']['name'] == 'a.png'
    shown = np.asarray(Image.open(io.BytesIO(base64.b64decode(record['picture']['aligned_png']))))
    assert (shown == np.asarray(Image.open(path))).all()
    assert record['bits']['code'] == record['bits']['read'] == ''.join(map(str, codes['alice']))
    assert record['bits']['agree'] == '1' * BITS
    assert [(one['user'], one['matching']) for one in record['near']] == [('alice', 16), ('bob', 0)]
    assert record['near'][0]['p_value'] == pytest.approx(2 * 2 ** -16) and record['near'][1]['p_value'] == 1
    assert [row['value'] for row in record['validation']['accuracy'][:3]] == [0.875] * 3  # of the issued snapshot alone
    assert 'alice' in html.unescape(page) and 'Confidential' in page
    assert sorted(os.listdir(tmp_path)) == ['registry.sqlite', 'report.html', 'report.json']
    for name in ('report.html', 'report.json'):
        assert stat.S_IMODE(os.stat(tmp_path / name).st_mode) == 0o600


def test_the_likelihood_ratio_is_what_was_measured(project, report, codes):
    """Counted anew: pictures of alice's by the snapshot, the photographs, and exact binomial bounds by SciPy."""
    record = report(codes)[1]
    found, needed, model = record['likelihood'], record['attribution']['threshold'], project[1].model()
    rng = np.random.default_rng([0, 0])
    latents = rng.standard_normal([64, model.latent_dim], np.float32)[:20]
    own = to_uint8(model.generate(latents, np.repeat(codes['alice'][np.newaxis], 20, 0)))
    hits = ((model.decode(to_float(own)) > 0) == codes['alice']).sum(1)
    rng = np.random.default_rng(0)
    rng.integers(0, 256, [SIDE, SIDE, 3])
    innocents = rng.integers(0, 256, [INNOCENTS + 8, SIDE, SIDE, 3]).astype(np.uint8)[:INNOCENTS]
    agree = ((model.decode(to_float(innocents)) > 0) == codes['alice']).sum(1)
    false = np.maximum(agree, BITS - agree)
    assert (found['least_own'], found['most_innocent'], found['innocents']) == (hits.min(), false.max(), INNOCENTS)
    share = (hits >= needed).sum()
    low = stats.binomtest(int(share), 20).proportion_ci(0.9, 'exact').low
    high = stats.binomtest(int((false >= needed).sum()), INNOCENTS).proportion_ci(0.9, 'exact').high
    assert found['hit_rate'] == pytest.approx(low)
    assert found['ratio'] == pytest.approx(low / max(high, 3 / INNOCENTS))
    assert found['ratio'] <= found['hit_rate'] * INNOCENTS / 3


def test_nobody_is_named(project, report, codes):
    code, record, page = report({'bob': np.roll(codes['bob'], 1), 'carol': (np.arange(BITS) % 2).astype(np.uint8)})
    assert code == 3 and record['attribution']['reason'] == 'nobody'
    assert 'attributed to nobody' in page and 'Code drawn' not in page
    assert record['redrawn']['missing'].endswith('nobody reaches the threshold')
    assert 'missing' in record['likelihood'] and 'missing' in record['ledger']


def test_several_users_and_a_revoked_one(project, report, codes, tmp_path):
    other = codes['alice'].copy()
    other[0] ^= 1
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr('fingerprints.codes.default_minimum_distance', lambda bits: 1)
        patch.setattr('fingerprints.drafts.default_minimum_distance', lambda bits: 1, raising=False)
        registry = make_registry(str(tmp_path / 'registry.sqlite'), project[1].digest,
                                 {'alice': codes['alice'], 'eve': other})
    registry.revoke('eve', 'left')
    code, record, page = report({})
    assert code == 3 and record['attribution']['reason'] == 'several'
    assert '“alice” and “eve” each reach' in page and '“eve” was revoked on' in page


def test_a_hidden_code_is_in_neither_file(report, codes, tmp_path):
    text = ''.join(map(str, codes['alice']))
    assert text in json.dumps(report(codes)[1])
    for name in ('report.html', 'report.json'):
        os.unlink(tmp_path / name)
    _, record, page = report(codes, '--hide-code')
    assert text not in json.dumps(record) and set(record['bits']) == {'agree'}
    assert 'Confidential' not in page


def test_the_ledger_is_proven(report, codes, project, tmp_path):
    key = SigningKey.generate('example.com/fingerprints')
    (tmp_path / 'key.pub').write_text(key.verifier.text)
    registry = make_registry(str(tmp_path / 'registry.sqlite'), project[1].digest, codes)
    (tmp_path / 'note').write_text(registry.checkpoint(key))
    _, record, page = report(codes, f'--public-key={tmp_path}/key.pub', f'--checkpoint={tmp_path}/note')
    assert [proof['kind'] for proof in record['ledger']['proofs']] == ['code_reserved', 'instance_issued']
    assert record['ledger']['public_key'] == key.verifier.text and 'signature was checked' in page


def test_it_is_drawn_again(report, codes):
    _, record, page = report(codes, '--redraw=1')
    found = record['redrawn']
    assert np.shape(found['psnr']) == (1 + redrawn.OTHERS,) and np.shape(found['own']) == (1, 1 + redrawn.OTHERS)
    assert np.shape(found['photographs']) == (1, 1 + redrawn.OTHERS)
    drawn, picture = (np.asarray(Image.open(io.BytesIO(base64.b64decode(text)))).astype(float)
                      for text in (found['png'], record['picture']['aligned_png']))
    assert found['psnr'][0] == pytest.approx(10 * np.log10(255 ** 2 / np.mean((drawn - picture) ** 2)), abs=0.01)
    assert found['words'][0] in html.unescape(page)


@pytest.mark.parametrize('words, said', [
    (['--out=report'], 'ends in .html'), (['--fpr=2'], 'makes no sense'), (['--images=0'], 'give 1 to'),
    (['--innocents=/nowhere'], '/nowhere does not exist'), (['--public-key=/nowhere'], '/nowhere cannot be read')])
def test_bad_flags_are_one_line_and_write_nothing(report, codes, tmp_path, words, said):
    with pytest.raises(UserError, match=said) as error:
        report(codes, *words)
    assert '\n' not in str(error.value)
    assert os.listdir(tmp_path) == ['registry.sqlite']


def test_a_file_that_is_there_is_kept(report, codes, tmp_path):
    (tmp_path / 'report.json').write_text('mine')
    with pytest.raises(UserError, match='report.json exists already'):
        report(codes)
    assert (tmp_path / 'report.json').read_text() == 'mine' and not (tmp_path / 'report.html').exists()


def test_the_page_is_there_only_if_the_record_is(report, codes, tmp_path, monkeypatch):
    """Another process takes the page's name while the report is made: neither file of it is there, nor is that lost."""
    link = os.link

    def another_was_faster(source, target):
        if target.endswith('.html'):
            assert json.loads((tmp_path / 'report.json').read_text())['attribution']['user'] == 'alice'
            (tmp_path / 'report.html').write_text('mine')
        link(source, target)
    monkeypatch.setattr(os, 'link', another_was_faster)
    with pytest.raises(UserError, match='report.html exists already'):
        report(codes)
    assert sorted(os.listdir(tmp_path)) == ['registry.sqlite', 'report.html']
    assert (tmp_path / 'report.html').read_text() == 'mine'


def test_after_a_kill_between_its_files_the_same_command_makes_the_report(report, codes, tmp_path):
    killed = """
import os, signal, sys
from dnnlib.util import write_together
link = os.link
os.link = lambda source, path: os.kill(os.getpid(), signal.SIGKILL) if path.endswith('l') else link(source, path)
write_together({path: b'of the killed one' for path in sys.argv[1:]}, private=True)
"""
    paths = [str(tmp_path / f'report.{ending}') for ending in ('json', 'pdf', 'html')]
    assert subprocess.run([sys.executable, '-c', killed, *paths], cwd=ROOT).returncode == -signal.SIGKILL
    left = sorted(os.listdir(tmp_path))
    assert left[3:] == ['report.json', 'report.pdf'] and all(name.endswith('.incomplete') for name in left[:3])
    assert report(codes)[1]['attribution']['user'] == 'alice'
    assert sorted(os.listdir(tmp_path)) == ['registry.sqlite', 'report.html', 'report.json']


def test_what_is_no_picture_is_one_line(report, codes, project):
    (project[0] / 'text.png').write_text('text')
    with pytest.raises(UserError, match='text.png: not an image'):
        report(codes, image='text.png')
    with pytest.raises(UsageError):
        report(codes, '--out=.html')


def picture(*psnr):
    return np.array(psnr, float)


@pytest.mark.parametrize('found, own, photographs, first', [
    ([33, 32], [[32, 31], [34, 33]], [[20, 21], [22, 21]], 'draws the picture again'),
    ([21, 21], [[32, 31], [34, 33]], [[20, 21], [22, 21]], 'does not draw the picture again'),
    ([27, 26], [[32, 31], [34, 33]], [[20, 21], [22, 21]], 'not decided'),
    ([33, 32], [[21, 20], [34, 33]], [[20, 21], [22, 21]], 'not decided')])
def test_what_drawing_again_says(found, own, photographs, first):
    sentences = redrawn.meaning(picture(*found), np.array(own, float), np.array(photographs, float))
    assert first in sentences[0]


def test_users_are_told_apart_only_if_the_instances_own_pictures_are():
    photographs = np.array([[20.0, 19.9], [21, 21.5]])
    told = redrawn.meaning(picture(33, 32), np.array([[34.0, 30], [33, 31]]), photographs)[1]
    assert 'came nearest, by 1.00 dB' in told and '2.00 to 4.00 dB; for photographs, at most 0.10 dB' in told
    for found, own in (([33, 30], [[34.0, 30], [31, 32]]), ([30.05, 30], [[34.0, 30], [33, 31]])):
        assert 'does not tell the users apart' in redrawn.meaning(picture(*found), np.array(own), photographs)[1]
    assert 'no photographs' in redrawn.meaning(picture(33, 30), np.array([[34.0, 30]]), np.zeros([0, 2]))[0]


def test_a_picture_of_another_size_is_shown_as_it_was_read(report, codes, project, tmp_path):
    """Twice as large, each pixel repeated: what it was scaled to is read, and every way that was tried counts."""
    pixels = np.asarray(Image.open(project[0] / 'a.png')).repeat(2, 0).repeat(2, 1)
    Image.fromarray(pixels).save(project[0] / 'large.png')
    _, record, page = report(codes, image='large.png')
    assert (record['picture']['width'], record['picture']['alignment']) == (2 * SIDE, 'resized')
    shown = Image.open(io.BytesIO(base64.b64decode(record['picture']['aligned_png'])))
    assert shown.size == (SIDE, SIDE) and f'{2 * SIDE} × {2 * SIDE} pixels' in page
