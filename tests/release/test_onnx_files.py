"""Instances as ONNX files: the same pictures by ONNX Runtime, tested and signed as the folder is."""
import os
import sys

import numpy as np
import pytest
from painting import BITS, PaintedSnapshot

from dnnlib.util import UserError
from fingerprints.codes import code_to_text
from fingerprints.registry import Registry
from helpers import ROOT, save_run
from release.drawing import Drawer
from release.issue import FIXED_TIME, HandOver, Issuer
from release.onnx_files import ABSENT, OnnxExporter, onnx_pictures
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


@pytest.mark.parametrize('package', ['tf2onnx', 'onnxruntime'])
def test_without_the_packages_one_line_says_how(monkeypatch, package):
    monkeypatch.setitem(sys.modules, package, None)
    monkeypatch.setitem(sys.modules, f'{package}.convert', None)
    with pytest.raises(UserError) as caught:
        OnnxExporter()
    assert str(caught.value) == ABSENT and '\n' not in ABSENT
