"""Signed instances: what model-signing's own command verifies, and whatever was changed is told in one line."""
import os
import shutil
import stat
import subprocess
import sys

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519

import run_release
from dnnlib.util import UserError, sha256_folder
from fingerprints.registry import Registry
from release.issue import HandOver, Issuer
from release.signing import Signer, make_key


def call(*words):
    return run_release.main(run_release.make_parser().parse_args(words)) or 0


@pytest.fixture(scope='module')
def signed(run_dir, tmp_path_factory):
    """A folder with an instance of alice, its signature and the owner's keys."""
    pytest.importorskip('model_signing', reason='model-signing is not installed; there is none for Python 3.9 and 3.10')
    place = tmp_path_factory.mktemp('signed')
    make_key(str(place / 'owner.pem'))
    registry = Registry(str(place / 'registry.sqlite'), create=True)
    issued = Issuer(run_dir, registry, str(place / 'instances'),
                    hand_over=HandOver(signer=Signer(str(place / 'owner.pem'))))('alice')
    assert issued.digest == sha256_folder(issued.folder)  # the signature lies beside what the ledger knows
    return place


def test_model_signings_own_command_verifies_it(signed, tmp_path):
    """As a user does, where this project is not."""
    instance = signed / 'instances' / 'alice' / '1'
    words = [sys.executable, '-I', '-m', 'model_signing', 'verify', 'key', str(instance), '--signature',
             f'{instance}.sig', '--public_key', str(signed / 'owner.pem.pub')]
    assert subprocess.run(words, cwd=tmp_path, capture_output=True).returncode == 0
    shutil.copytree(instance, tmp_path / '1')
    (tmp_path / '1' / 'saved_model.pb').open('ab').write(b'x')
    words[6] = str(tmp_path / '1')
    assert subprocess.run(words, cwd=tmp_path, capture_output=True).returncode != 0


def test_our_command_says_the_same(signed, tmp_path, capsys):
    shutil.copytree(signed / 'instances' / 'alice', tmp_path / 'alice')
    folder, key = tmp_path / 'alice' / '1', f'--public-key={signed}/owner.pem.pub'
    assert call('verify-instance', f'{folder}/', key) == 0
    assert 'is as the owner of' in capsys.readouterr().out

    def refused(*more):
        with pytest.raises(UserError, match='is NOT as|no folder|cannot be read') as caught:
            call('verify-instance', str(folder), *(more or [key]))
        assert '\n' not in str(caught.value)

    (folder / 'more').write_text('')
    refused()
    (folder / 'more').unlink()
    call('verify-instance', str(folder), key)
    card = (folder / 'instance_card.json').read_bytes()
    (folder / 'instance_card.json').write_bytes(card.replace(b'StyleGAN2', b'StyleGAN3'))
    refused()
    (folder / 'instance_card.json').unlink()
    refused()
    (folder / 'instance_card.json').write_bytes(card)
    make_key(str(tmp_path / 'other.pem'))
    refused(f'--public-key={tmp_path}/other.pem.pub')
    refused(key, '--signature=absent.sig')
    signature = (tmp_path / 'alice' / '1.sig').read_text()
    (tmp_path / 'alice' / '1.sig').write_text(signature[:len(signature) // 2])
    refused()


def test_the_signature_names_neither_user_nor_machine(signed):
    data = (signed / 'instances' / 'alice' / '1.sig').read_bytes()
    assert b'alice' not in data and str(signed).encode() not in data and b'dsseEnvelope' in data
    import base64
    import json
    payload = base64.b64decode(json.loads(data)['dsseEnvelope']['payload'])
    assert b'alice' not in payload and str(signed).encode() not in payload and b'.incomplete' not in payload
    assert b'saved_model.pb' in payload


def test_keys(tmp_path, capsys):
    assert call('signing-key', f'{tmp_path}/key') == 0
    assert stat.S_IMODE(os.stat(tmp_path / 'key').st_mode) == 0o600
    with pytest.raises(UserError, match='exists already'):
        call('signing-key', f'{tmp_path}/key')
    other = ed25519.Ed25519PrivateKey.generate().private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    for name, data in (('ed25519', other), ('text', b'no key'), ('public', (tmp_path / 'key.pub').read_bytes())):
        (tmp_path / name).write_bytes(data)
        with pytest.raises(UserError, match='is no private key of P-256'):
            Signer(str(tmp_path / name))


def test_without_the_package_one_line_says_how(tmp_path, monkeypatch):
    make_key(str(tmp_path / 'key'))
    monkeypatch.setitem(sys.modules, 'model_signing', None)
    monkeypatch.setitem(sys.modules, 'model_signing.signing', None)
    with pytest.raises(UserError, match=r"not installed, or not for this Python; .*pip install -e '\.\[signing\]'"):
        Signer(str(tmp_path / 'key'))
