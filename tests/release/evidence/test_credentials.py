"""Content Credentials: what C2PA's own reader says of stamped files, and that their fingerprint is still read."""
import base64
import hashlib
import io
import os
import shutil
import stat

import numpy as np
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from PIL import Image

import run_release
from dnnlib.util import UsageError, UserError
from helpers import make_registry
from release.credentials import stamp as stamping
from release.credentials.certificates import make_chain


def command(*words):
    return run_release.main(run_release.make_parser().parse_args([str(word) for word in words])) or 0


@pytest.fixture(scope='module')
def certificate(tmp_path_factory):
    folder = str(tmp_path_factory.mktemp('certificates') / 'example')
    assert command('make-certificate', folder, '--organisation=Example Ltd') == 0
    return folder


@pytest.fixture
def stamper(certificate):
    pytest.importorskip('c2pa', reason='the package c2pa-python is not installed')
    return stamping.Stamper(certificate)


def encoded(kind, **options):
    data = io.BytesIO()
    pixels = np.random.default_rng(0).integers(0, 256, [32, 32, 3]).astype(np.uint8)
    Image.fromarray(pixels).save(data, kind, **options)
    return data.getvalue()


def test_the_chain_is_what_c2pa_asks_for(certificate):
    with open(os.path.join(certificate, 'chain.pem'), 'rb') as file:
        leaf, root = x509.load_pem_x509_certificates(file.read())
    leaf.verify_directly_issued_by(root)
    root.verify_directly_issued_by(root)
    assert leaf.version == x509.Version.v3 and isinstance(leaf.public_key().curve, ec.SECP256R1)
    usage = leaf.extensions.get_extension_for_class(x509.KeyUsage)
    assert usage.critical and usage.value.digital_signature and not usage.value.key_cert_sign
    extended = leaf.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert '1.3.6.1.4.1.62558.2.1' in [one.dotted_string for one in extended]
    assert '2.5.29.37.0' not in [one.dotted_string for one in extended]  # anyExtendedKeyUsage is forbidden
    assert not leaf.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    keys = leaf.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value.key_identifier
    assert keys == root.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value.digest
    assert (leaf.not_valid_after_utc - leaf.not_valid_before_utc).days == 365


def test_keys_are_their_owners_alone_and_nothing_is_replaced(certificate):
    assert stat.S_IMODE(os.stat(certificate).st_mode) == 0o700
    files = [os.path.join(certificate, name) for name in os.listdir(certificate)]
    assert {stat.S_IMODE(os.stat(path).st_mode) for path in files} == {0o600}
    with pytest.raises(UserError, match='exists already'):
        command('make-certificate', certificate, '--organisation=Other')


@pytest.mark.parametrize('name, days, said', [('', 365, 'organisation'), ('x' * 65, 365, 'organisation'),
                                              ('Example\nLtd', 365, 'organisation'),
                                              ('Example', 0, '0 days'), ('Example', 9999, '9999 days')])
def test_bad_certificates_are_refused(name, days, said):
    with pytest.raises(UsageError, match=said):
        make_chain(name, days)


@pytest.mark.parametrize('kind', ['PNG', 'JPEG', 'WEBP', 'TIFF', 'GIF'])
def test_a_stamped_file_validates_with_another_copy_of_the_library(stamper, certificate, kind):
    import c2pa
    data = encoded(kind)
    signed = stamper.stamp(data, kind, 'b3BhcXVl')
    with open(os.path.join(certificate, 'root.pem')) as file:
        context = c2pa.Context.from_dict({'trust': {'trust_anchors': file.read()}, 'verify': {'verify_trust': True}})
    reader = c2pa.Reader(stamping.TYPES[kind], io.BytesIO(signed), context=context)
    assert reader.get_validation_state() == 'Trusted'
    active = reader.get_active_manifest()
    labels = {one['label']: one['data'] for one in active['assertions']}
    assert labels['c2pa.soft-binding']['blocks'] == [{'scope': {}, 'value': 'b3BhcXVl'}]
    assert labels['c2pa.actions.v2']['actions'][0]['digitalSourceType'].endswith('/trainedAlgorithmicMedia')
    assert 'thumbnail' not in active and 'title' not in active
    before, after = (np.asarray(Image.open(io.BytesIO(one)).convert('RGB')) for one in (data, signed))
    assert (before == after).all()


def test_a_changed_pixel_or_manifest_no_longer_validates(stamper):
    signed = bytearray(stamper.stamp(encoded('PNG'), 'PNG', 'b3BhcXVl'))
    assert stamper.read(bytes(signed), 'PNG')['validation_state'] == 'Trusted'
    place = signed.rindex(b'IDAT') + 40
    signed[place] ^= 1
    assert stamper.read(bytes(signed), 'PNG')['validation_state'] == 'Invalid'


def test_another_owners_root_does_not_vouch_for_it(stamper, tmp_path):
    signed = stamper.stamp(encoded('PNG'), 'PNG', 'b3BhcXVl')
    command('make-certificate', tmp_path / 'other', '--organisation=Other')
    assert stamping.Stamper(str(tmp_path / 'other')).read(signed, 'PNG')['validation_state'] != 'Trusted'


def test_what_cannot_be_stamped_is_one_line(stamper, certificate, tmp_path):
    signed = stamper.stamp(encoded('PNG'), 'PNG', 'b3BhcXVl')
    with pytest.raises(UserError, match='has Content Credentials already'):
        stamper.stamp(signed, 'PNG', 'b3BhcXVl')
    with pytest.raises(UserError, match='a BMP file takes no'):
        stamper.stamp(encoded('BMP'), 'BMP', 'b3BhcXVl')
    with pytest.raises(UserError, match='chain.pem cannot be read'):
        stamping.Stamper(str(tmp_path))
    mixed = tmp_path / 'mixed'
    mixed.mkdir()
    files = {**make_chain('A'), 'signing.key': make_chain('B')['signing.key']}
    for name, data in files.items():
        (mixed / name).write_bytes(data)
    with pytest.raises(UserError) as error:
        stamping.Stamper(str(mixed)).stamp(encoded('PNG'), 'PNG', 'b3BhcXVl')
    assert '\n' not in str(error.value)


def test_pictures_are_stamped_by_the_fingerprint_that_is_read_in_them(stamper, certificate, project, codes, tmp_path,
                                                                      capsys, monkeypatch):
    """alice's picture is, what names nobody or is none is not. No name is in the file; it is attributed as before."""
    folder, _ = project
    registry = make_registry(str(tmp_path / 'registry.sqlite'), project[1].digest, codes)
    common = [f'--run={folder}/run', f'--registry={tmp_path}/registry.sqlite', '--fpr=1e-3']
    stamp = ['stamp', *common, f'--certificate={certificate}', f'--out={tmp_path}/out']
    (tmp_path / 'text.png').write_text('text')
    assert command(*stamp, '--fpr=1e-6', folder / 'a.png') == 1 and 'names nobody' in capsys.readouterr().out
    assert not os.path.exists(tmp_path / 'out')  # nothing was stamped
    assert command(*stamp, folder / 'a.png', tmp_path / 'text.png') == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].endswith('a.png: stamped') and lines[1].endswith('error: not an image') and len(lines) == 2
    assert os.listdir(tmp_path / 'out') == ['a.png']
    signed = (tmp_path / 'out' / 'a.png').read_bytes()
    assert b'alice' not in signed and str(folder).encode() not in signed and b'a.png' not in signed
    event = next(one for one in registry.events() if one.kind == 'instance_issued' and one.fields['name'] == 'alice')
    opaque = base64.b64encode(hashlib.sha256(b'\0' + event.text.encode()).digest()).decode()
    assert opaque.encode() in signed and stamping.opaque_id(registry, registry.get('alice')) == opaque
    assert command('attribute', *common, tmp_path / 'out' / 'a.png') == 0
    assert 'user alice  16 of 16 bits' in capsys.readouterr().out
    assert command(*stamp, folder / 'a.png') == 1 and 'exists already' in capsys.readouterr().out
    assert command(*stamp, folder / 'a.png', '--user=bob') == 1 and "not that of 'bob'" in capsys.readouterr().out
    with pytest.raises(UserError, match='zoe'):
        command(*stamp, folder / 'a.png', '--user=zoe')
    evil = tmp_path / 'x\ny.png: stamped'
    shutil.copy(folder / 'a.png', evil)
    for code in (0, 1):  # the second time it exists
        assert command(*stamp, evil) == code and capsys.readouterr().out.count('\n') == 1
    monkeypatch.setattr('dnnlib.images.read_file', lambda path: (folder / 'a.png').read_bytes() + b' ')
    assert command(*stamp[:-1], f'--out={tmp_path}/other', folder / 'a.png') == 1
    assert 'changed while it was read' in capsys.readouterr().out and not os.path.exists(tmp_path / 'other')
