"""Signed instances: what model-signing's own command verifies, and whatever was changed is told in one line."""
import datetime
import glob
import os
import shutil
import stat
import subprocess
import sys

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

import run_release
from dnnlib.util import UserError, sha256_folder
from fingerprints.registry import Registry
from release.issue import HandOver, Issuer
from release.signing import Signer, make_key, verify


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
        with pytest.raises(UserError, match='is NOT as|is not there|cannot be read') as caught:
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


def certificate(subject, key, issuer=None, issuer_key=None, authority=False):
    """A certificate of `subject` for `key`, by `issuer` or itself, as X.509 asks of signers and authorities."""
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, subject)])
    now = datetime.datetime.now(datetime.timezone.utc)
    usage = dict.fromkeys(['content_commitment', 'key_encipherment', 'data_encipherment', 'key_agreement', 'crl_sign',
                           'encipher_only', 'decipher_only'], False)
    signer = issuer_key or key
    return (x509.CertificateBuilder().subject_name(name).issuer_name(issuer.subject if issuer else name)
            .public_key(key.public_key()).serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(days=1)).not_valid_after(now + datetime.timedelta(days=30))
            .add_extension(x509.BasicConstraints(authority, None), critical=True)
            .add_extension(x509.KeyUsage(digital_signature=not authority, key_cert_sign=authority, **usage), True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), False)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CODE_SIGNING]), False)
            .sign(signer, hashes.SHA256()))


def write_pem(path, *certificates):
    path.write_bytes(b''.join(one.public_bytes(serialization.Encoding.PEM) for one in certificates))
    return str(path)


@pytest.fixture(scope='module')
def chain(tmp_path_factory):
    """(folder with key.pem, chain.pem, root.pem and stranger.pem; the root's key and certificate)."""
    place = tmp_path_factory.mktemp('chain')
    make_key(str(place / 'key.pem'))
    key = serialization.load_pem_private_key((place / 'key.pem').read_bytes(), None)
    keys = [ec.generate_private_key(ec.SECP256R1()) for _ in range(3)]
    root = certificate('root', keys[0], authority=True)
    between = certificate('between', keys[1], root, keys[0], authority=True)
    write_pem(place / 'chain.pem', certificate('owner', key, between, keys[1]), between)
    write_pem(place / 'root.pem', root)
    write_pem(place / 'stranger.pem', certificate('root', keys[2], authority=True))
    return place, keys[0], root


def verified_by_their_command(folder, signature, root, cwd):
    """Whether model-signing's own command takes it, as a customer runs it."""
    words = [sys.executable, '-I', '-m', 'model_signing', 'verify', 'certificate', str(folder), '--signature',
             str(signature), '--certificate_chain', str(root)]
    return subprocess.run(words, cwd=cwd, capture_output=True).returncode == 0


def test_a_certificate_chain_leads_to_the_root(run_dir, chain, tmp_path, capsys):
    pytest.importorskip('model_signing', reason='model-signing is not installed')
    place = chain[0]
    call('issue', 'alice', f'--run={run_dir}', f'--registry={tmp_path}/registry.sqlite', f'--out={tmp_path}/instances',
         f'--sign={place}/key.pem', f'--certificate={place}/chain.pem', '--selftest=false')
    folder = tmp_path / 'instances' / 'alice' / '1'
    assert call('verify-instance', str(folder), f'--root={place}/root.pem') == 0
    assert verified_by_their_command(folder, f'{folder}.sig', place / 'root.pem', tmp_path)
    for wrong in (f'--root={place}/stranger.pem', f'--public-key={place}/key.pem.pub'):
        with pytest.raises(UserError, match='is NOT as'):
            call('verify-instance', str(folder), wrong)
    (folder / 'more').write_text('')
    with pytest.raises(UserError, match='is NOT as'):
        call('verify-instance', str(folder), f'--root={place}/root.pem')


def test_certificates_that_do_not_fit(chain, tmp_path):
    pytest.importorskip('model_signing', reason='model-signing is not installed')
    place = chain[0]
    (tmp_path / 'text').write_text('none')
    with pytest.raises(UserError, match='holds no certificate in PEM'):
        Signer(str(place / 'key.pem'), str(tmp_path / 'text'))
    with pytest.raises(UserError, match='stranger.pem does not go with .*first') as caught:
        Signer(str(place / 'key.pem'), str(place / 'stranger.pem'))
    assert '\n' not in str(caught.value)


@pytest.fixture
def token(tmp_path, monkeypatch):
    """(URI of a key in a fresh SoftHSM token, its public half)."""
    pytest.importorskip('model_signing', reason='model-signing is not installed')
    library = pytest.importorskip('PyKCS11', reason='PyKCS11 is not installed')
    module = next(iter(glob.glob('/usr/lib*/**/libsofthsm2.so', recursive=True)), None)
    if module is None or shutil.which('softhsm2-util') is None:
        pytest.skip('softhsm2 is not installed')
    (tmp_path / 'tokens').mkdir()
    (tmp_path / 'softhsm2.conf').write_text(f'directories.tokendir = {tmp_path}/tokens\n')
    monkeypatch.setenv('SOFTHSM2_CONF', str(tmp_path / 'softhsm2.conf'))
    key = ec.generate_private_key(ec.SECP256R1())
    (tmp_path / 'imported.pem').write_bytes(key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()))
    for words in (['--init-token', '--free', '--label', 'owner', '--so-pin', '5678'],
                  ['--import', str(tmp_path / 'imported.pem'), '--token', 'owner', '--label', 'signer', '--id', 'a1']):
        subprocess.run(['softhsm2-util', *words, '--pin', '1234'], check=True, capture_output=True)
    assert library
    return f'pkcs11:token=owner;object=signer?pin-value=1234&module-path={module}', key


def test_a_key_in_a_token_signs(run_dir, token, chain, tmp_path):
    uri, key = token
    (tmp_path / 'key.pub').write_bytes(key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo))
    registry = Registry(str(tmp_path / 'registry.sqlite'), create=True)
    issuer = Issuer(run_dir, registry, str(tmp_path / 'instances'), hand_over=HandOver(signer=Signer(uri)))
    for name in ('alice', 'bob'):
        folder = issuer(name).folder
        verify(folder, f'{folder}.sig', f'{tmp_path}/key.pub')
    with pytest.raises(UserError, match='pkcs11:token=owner;object=other can.t sign') as caught:
        Signer(uri.replace('signer', 'other'))
    assert '1234' not in str(caught.value) and '\n' not in str(caught.value)
    with pytest.raises(UserError, match='leave --certificate out'):
        Signer(uri, str(chain[0] / 'chain.pem'))


def test_a_token_without_the_package_is_told(monkeypatch):
    pytest.importorskip('model_signing', reason='model-signing is not installed')
    monkeypatch.setitem(sys.modules, 'PyKCS11', None)
    monkeypatch.delitem(sys.modules, 'model_signing._signing.sign_pkcs11', raising=False)
    with pytest.raises(UserError, match=r"PKCS#11 needs the package PyKCS11: pip install -e '.\[pkcs11\]'") as caught:
        Signer('pkcs11:token=owner;object=signer?pin-value=1234')
    assert '1234' not in str(caught.value)
