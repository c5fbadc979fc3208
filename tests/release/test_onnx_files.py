"""Instances as ONNX files: the same pictures by ONNX Runtime, tested and signed as the folder is; in the ledger."""
import dataclasses
import hashlib
import os
import sys

import numpy as np
import pytest
from painting import BITS, SIDE, PaintedSnapshot

import run_release
from dnnlib.util import UsageError, UserError, sha256_folder
from fingerprints.codes import code_to_text
from fingerprints.registry import Registry
from helpers import ROOT, killed_before_its_event, old_registry, save_run
from release.drawing import Drawer
from release.issue import FIXED_TIME, HandOver, Issuer
from release.onnx_files import ABSENT, ONNX, OnnxExporter, onnx_pictures
from release.selftest import drawn
from release.signing import Signer, make_key, verify

LATENTS = np.random.default_rng(0).standard_normal([3, 6]).astype(np.float32)


@pytest.fixture
def registry(tmp_path):
    return Registry(str(tmp_path / 'registry.sqlite'), create=True)


@pytest.fixture
def exporter():
    for package in ('tf2onnx', 'onnxruntime'):
        pytest.importorskip(package, reason=f'{package} is not installed')
    return OnnxExporter()


@pytest.mark.parametrize('options', [{}, dict(preset='adopted', method='adopted', read_side=8)],
                         ids=['fingerprinted', 'adopted'])
def test_the_file_draws_what_the_folder_draws_and_tells_nothing_of_its_owner(registry, exporter, tmp_path, options):
    run = save_run(str(tmp_path / 'run'), **options)
    folder = Issuer(run, registry, str(tmp_path / 'instances'), hand_over=HandOver(onnx=exporter))('Zebedee').folder
    assert sorted(os.listdir(tmp_path / 'instances' / 'Zebedee')) == ['1', '1.onnx']
    assert os.stat(f'{folder}.onnx').st_mtime == FIXED_TIME
    with Drawer(folder) as drawer:
        assert np.abs(onnx_pictures(f'{folder}.onnx', LATENTS).astype(int) - drawer(LATENTS)).max() <= 1
    data = open(f'{folder}.onnx', 'rb').read()
    secrets = ['Zebedee', code_to_text(registry.code('Zebedee')), str(tmp_path), ROOT, sys.prefix, '.py"']
    assert not [text for text in secrets if text.encode() in data] and b'latents' in data
    assert registry.code('Zebedee').astype('<f4').tobytes() not in data


def test_it_is_tested_and_signed(registry, exporter, tmp_path):
    pytest.importorskip('model_signing', reason='model-signing is not installed')
    make_key(str(tmp_path / 'owner.pem'))
    (tmp_path / 'run').mkdir()
    make = Issuer(str(tmp_path / 'run'), registry, str(tmp_path / 'instances'), PaintedSnapshot(tmp_path),
                  HandOver(('png',), signer=Signer(str(tmp_path / 'owner.pem')), onnx=exporter))
    made = make('ann')
    assert made.onnx_test.matching == made.test.matching == {'png': (BITS,) * 8, 'jpeg': (BITS,) * 8}
    path = f'{made.folder}.onnx'
    verify(path, f'{path}.sig', f'{tmp_path}/owner.pem.pub')
    with open(path, 'ab') as file:
        file.write(b'x')
    with pytest.raises(UserError, match='is NOT as'):
        verify(path, f'{path}.sig', f'{tmp_path}/owner.pem.pub')


def test_a_file_that_does_not_read_is_refused(registry, exporter, tmp_path, monkeypatch):
    """The folder reads, the file made of it does not: another network's would be written, say."""
    monkeypatch.setattr('release.issue.onnx_pictures', lambda path, latents: 255 - onnx_pictures(path, latents))
    (tmp_path / 'run').mkdir()
    make = Issuer(str(tmp_path / 'run'), registry, str(tmp_path / 'instances'), PaintedSnapshot(tmp_path),
                  HandOver(('png',), onnx=exporter))
    with pytest.raises(UserError, match='ann as ONNX: its fingerprint does not read'):
        make('ann')
    assert os.listdir(tmp_path / 'instances') == [] and registry.list() == []


def test_a_file_made_later_is_tested_too(registry, tmp_path, monkeypatch, capsys):
    """By the command, whose packages are not everywhere: a file that tells of its folder, drawn grey or as that is."""
    (tmp_path / 'run').mkdir()
    snapshot = PaintedSnapshot(tmp_path)
    Issuer(str(tmp_path / 'run'), registry, str(tmp_path / 'instances'), snapshot)('ann')
    monkeypatch.setattr('training.snapshot.find_released', lambda run, digest: snapshot)
    monkeypatch.setattr('release.onnx_files.OnnxExporter', lambda: fingerprint_of)
    monkeypatch.setattr('release.issue.onnx_pictures',
                        lambda path, latents: np.zeros([len(latents), SIDE, SIDE, 3], np.uint8))
    words = ['reissue', 'ann', f'--run={tmp_path}/run', f'--registry={registry.location}']
    size = registry.size()
    with pytest.raises(UserError, match='^ann as ONNX: its fingerprint does not read .*; leave --onnx out, or give '):
        call(*words, '--onnx', f'--out={tmp_path}/again')
    assert os.listdir(tmp_path / 'again') == [] and registry.size() == size
    call(*words, '--onnx', '--selftest=false', f'--out={tmp_path}/untested')
    monkeypatch.setattr('release.issue.onnx_pictures', lambda path, latents: drawn(path[:-len(ONNX)]))
    assert 'PNG' not in capsys.readouterr().out
    call(*words, '--onnx', '--selftest=jpeg', f'--out={tmp_path}/again')
    assert f'is in the ledger now; ONNX: PNG 8 of 8 pictures read at 1e-06 ({BITS:.1f} of' in capsys.readouterr().out
    assert registry.get('ann').onnx_digests == (digest_of(tmp_path / 'again/ann/1.onnx'),) * 2
    with pytest.raises(UsageError, match='--selftest=jpeg goes with --onnx'):
        call(*words, '--selftest=jpeg', f'--out={tmp_path}/third')


def test_the_folder_that_is_written_again_needs_no_test(registry, tmp_path):
    """Issued untested, of a model that shows no fingerprint well: it got lost, and is owed to its user all the same."""
    (tmp_path / 'run').mkdir()
    faint = PaintedSnapshot(tmp_path, decode=lambda images: np.zeros([len(images), BITS]))
    Issuer(str(tmp_path / 'run'), registry, str(tmp_path / 'instances'), faint)('ann')
    make = Issuer(str(tmp_path / 'run'), registry, str(tmp_path / 'again'), faint, HandOver(('png',)))
    assert make.again(registry.get('ann')).test is None
    with pytest.raises(UserError, match='does not read'):
        make('ben')


@pytest.mark.parametrize('package', ['tf2onnx', 'onnxruntime'])
def test_without_the_packages_one_line_says_how(monkeypatch, package):
    monkeypatch.setitem(sys.modules, package, None)
    monkeypatch.setitem(sys.modules, f'{package}.convert', None)
    with pytest.raises(UserError) as caught:
        OnnxExporter()
    assert str(caught.value) == ABSENT and '\n' not in ABSENT


def fingerprint_of(folder, path):
    """In place of an exporter, whose packages are not everywhere: a file that tells of its folder."""
    with open(path, 'w') as file:
        file.write(f'a network of {sha256_folder(folder)}')


def digest_of(path):
    with open(path, 'rb') as file:
        return hashlib.sha256(file.read()).hexdigest()


def call(*words):
    return run_release.main(run_release.make_parser().parse_args(words)) or 0


@pytest.fixture
def books(run_dir, registry, tmp_path):
    """Issues to ann with an ONNX file, and to ben without: an Issuer that writes them, and one that does not."""
    with_onnx, without = (Issuer(run_dir, registry, str(tmp_path / 'instances'), hand_over=HandOver(onnx=onnx))
                          for onnx in (fingerprint_of, None))
    with_onnx('ann')
    without('ben')
    return with_onnx, without


def test_the_ledger_tells_which_onnx_file_was_handed_over(registry, books, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    digest = digest_of('instances/ann/1.onnx')
    assert [one.onnx_digests for one in registry.list()] == [(digest,), ()]
    events = [event for event in registry.events() if event.kind == 'instance_issued']
    assert events[0].fields['onnx_digest'] == digest != events[0].fields['digest']
    assert sorted(events[1].fields) == ['digest', 'location', 'name', 'reservation']  # as of programs before
    for words in (['key', 'key', '--name=example.com/books'], ['checkpoint', '--key=key', '--out=note'], ['verify'],
                  ['prove', str(events[0].seq), '--checkpoint=note', '--out=proof'], ['list'], ['notice', 'ann']):
        assert call(*words) == 0
    out = capsys.readouterr().out
    assert 'nothing was changed' in out and f', as ONNX {digest[:16]}…  active' in out
    assert out.count(', as ONNX') == 1 and f'  sha256 as ONNX   {digest}\n' in out
    assert call('check-proof', 'proof', '--public-key=key.pub') == 0 and digest in capsys.readouterr().out
    call('export', 'exported')
    call('import', 'exported', '--registry=copy')
    assert Registry('copy').history() == registry.history()


def test_a_ledger_of_before_knows_of_no_onnx_file(tmp_path):
    old_registry(tmp_path / 'old')
    call('upgrade', f'--registry={tmp_path}/old')
    old = Registry(str(tmp_path / 'old'))
    assert {one.onnx_digests for one in old.list()} == {()} and old.verify() == []


def test_every_file_made_later_is_entered_and_none_that_failed(registry, books, tmp_path):
    with_onnx, without = books
    first, size = registry.get('ann').onnx_digests, registry.size()
    without.out = str(tmp_path / 'less')
    assert without.again(registry.get('ann')).onnx_digest == '' and registry.size() == size
    registry.revoke('ben')
    with_onnx.out, made = str(tmp_path / 'again'), {}
    for name in ('ann', 'ben'):
        made[name] = with_onnx.again(registry.get(name)).onnx_digest
        assert made[name] == digest_of(f'{with_onnx.out}/{name}/1.onnx')
    assert registry.get('ann').onnx_digests == (*first, made['ann'])
    assert registry.get('ben').onnx_digests == (made['ben'],)
    assert registry.size() == size + 3 and registry.verify() == []
    with_onnx.out = str(tmp_path / 'third')
    with pytest.raises(UserError, match='not as issued'):
        with_onnx.again(dataclasses.replace(registry.get('ann'), digest='d' * 64))
    assert registry.size() == size + 3 and os.listdir(tmp_path / 'third') == []
    with pytest.raises(UserError, match="knows no user 'cid'"):
        registry.record_onnx('cid', 'd' * 64)


def test_killed_before_its_event_the_same_command_enters_the_file(registry, books, tmp_path, monkeypatch):
    with_onnx, without = books
    killed_before_its_event(monkeypatch, lambda: with_onnx('cid'))
    with pytest.raises(UserError, match='cid exists already'):  # its file would be handed over, and not be entered
        without('cid')
    made = with_onnx('cid')
    assert registry.get('cid').onnx_digests == (made.onnx_digest,) == (digest_of(f'{made.folder}.onnx'),)


def test_selftest_knows_each_file_by_its_digest(registry, exporter, tmp_path, monkeypatch, capsys):
    (tmp_path / 'run').mkdir()
    snapshot = PaintedSnapshot(tmp_path)
    monkeypatch.setattr('training.snapshot.find_released', lambda run, digest: snapshot)
    issuer = Issuer(str(tmp_path / 'run'), registry, str(tmp_path / 'instances'), snapshot,
                    HandOver(('png',), onnx=exporter))
    path = f'{issuer("ann").folder}.onnx'
    issuer.out = str(tmp_path / 'again')
    again = issuer.again(registry.get('ann'))
    assert again.onnx_test.matching == {'png': (BITS,) * 8, 'jpeg': (BITS,) * 8} and again.test is None
    later = f'{again.folder}.onnx'
    words = ['selftest', path, later, f'--registry={registry.location}', f'--run={tmp_path}/run']
    assert call(*words) == 0 and capsys.readouterr().out.count('(ann): PNG 8 of 8') == 2
    with open(path, 'ab') as file:
        file.write(b'x')
    with pytest.raises(UserError, match='is of no instance in .* or was changed'):
        call(*words)
