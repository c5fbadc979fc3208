"""Stamping: a picture file with a signed C2PA manifest that says "made by a trained algorithm", and which fingerprint.

The manifest holds no name, thumbnail, title, place or time of the owner's. Its soft binding (the assertion
c2pa.soft-binding) says that the pixels carry a fingerprint, and names it by an opaque id: the hash of the event
in the ledger that issued the instance. To others it says nothing; the owner shows what it is with a proof of that.
"""
import base64
import io
import os
from typing import Any

from cryptography import x509

from dnnlib.util import UserError
from dnnlib.version import VERSION
from fingerprints.files import read_bytes, read_text
from fingerprints.instances import Instance
from fingerprints.merkle import leaf_hash
from fingerprints.registry import Registry

ALGORITHM = 'scalable-fingerprinting.128'  # of the soft binding; C2PA's list has none for generators' own fingerprints
TYPES = {'PNG': 'image/png', 'JPEG': 'image/jpeg', 'WEBP': 'image/webp', 'TIFF': 'image/tiff', 'GIF': 'image/gif'}
SOURCE = 'http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia'
MADE = {'action': 'c2pa.created', 'digitalSourceType': SOURCE}
CHAIN, KEY, ROOT = 'chain.pem', 'signing.key', 'root.pem'
TRUSTED = 'Trusted'


def package() -> Any:
    """The package c2pa. Raises UserError if it is not installed."""
    try:
        import c2pa
        return c2pa
    except ImportError:
        raise UserError("Content Credentials need the package c2pa-python: pip install -e '.[c2pa]' (Python 3.10 or "
                        'newer; there is none for 3.9)') from None


def opaque_id(registry: Registry, instance: Instance) -> str:
    """Base64 of the hash of the event that issued an instance: a leaf of the ledger's Merkle tree.

    It can't be guessed from names: the event holds the digest of the instance's files and of the event before it.

    Raises UserError if the instance was never issued.
    """
    for event in registry.events():
        if event.kind == 'instance_issued' and event.fields['reservation'] == instance.id:
            return base64.b64encode(leaf_hash(event.text.encode())).decode()
    raise UserError(f'{instance.name!r} was never issued, so its pictures are not stamped; issue it first')


def manifest(identity: str) -> dict[str, Any]:
    """The manifest's definition: what made the picture, and the fingerprint that its pixels carry."""
    return {
        'claim_generator_info': [{'name': 'scalable-fingerprinting', 'version': VERSION}],
        'assertions': [
            {'label': 'c2pa.actions.v2', 'data': {'actions': [MADE]}},
            {'label': 'c2pa.soft-binding', 'data': {'alg': ALGORITHM, 'blocks': [{'scope': {}, 'value': identity}]}}]}


class Stamper:
    """Signs pictures with the certificate in a folder (release.credentials.certificates).

    Raises:
        UserError: the package c2pa or a file is missing, or the certificate and its key can't sign.
    """

    def __init__(self, folder: str):
        self._c2pa = package()
        self._chain, self._key = (read_bytes(os.path.join(folder, name)) for name in (CHAIN, KEY))
        _check_certificates(read_bytes(os.path.join(folder, ROOT)), folder)
        anchors = read_text(os.path.join(folder, ROOT))
        # Nothing is fetched, no picture of the picture is kept, and only the owner's own root is trusted.
        self._settings = {'version': 1, 'builder': {'thumbnail': {'enabled': False}},
                          'trust': {'trust_anchors': anchors},
                          'verify': {'verify_trust': True, 'remote_manifest_fetch': False, 'ocsp_fetch': False}}

    def stamp(self, data: bytes, kind: str, identity: str) -> bytes:
        """The bytes of an image file with a manifest, which were read back and validated.

        Args:
            data: the file. kind: its format, a key of TYPES. identity: the opaque id.

        Raises:
            UserError: the format takes no manifest, the file has one already, or what was signed does not validate.
        """
        if kind not in TYPES:
            raise UserError(f'a {kind} file takes no Content Credentials; convert it to PNG or JPEG')
        if self.read(data, kind) is not None:
            raise UserError('it has Content Credentials already; stamp the file that the instance drew')
        signed = io.BytesIO()
        try:
            with self._context() as context, self._signer() as signer:
                with self._c2pa.Builder(manifest(identity), context=context) as builder:
                    builder.sign(signer, TYPES[kind], io.BytesIO(data), signed)
        except self._c2pa.C2paError as error:
            raise UserError(f'it cannot be signed: {_line(error)}') from None
        self._check(signed.getvalue(), kind, identity)
        return signed.getvalue()

    def read(self, data: bytes, kind: str) -> Any:
        """What C2PA's own reader says of a file, {validation_state, manifests, ...}; None if it has no manifest."""
        import json
        try:
            with self._context() as context:
                reader = self._c2pa.Reader.try_create(TYPES[kind], io.BytesIO(data), context=context)
                if reader is None:
                    return None
                with reader:
                    return json.loads(reader.json())
        except self._c2pa.C2paError as error:
            raise UserError(f'its Content Credentials cannot be read: {_line(error)}') from None

    def _check(self, signed, kind, identity):
        found = self.read(signed, kind)
        state = found.get('validation_state') if found else 'no manifest'
        active = found['manifests'][found['active_manifest']] if found else {'assertions': []}
        bindings = [one['data'] for one in active['assertions'] if one['label'] == 'c2pa.soft-binding']
        if state != TRUSTED or [one['blocks'][0]['value'] for one in bindings] != [identity] or 'thumbnail' in active:
            raise UserError(f'what was signed does not validate ({state}); check the certificate and its dates')

    def _context(self):
        return self._c2pa.Context.from_dict(self._settings)

    def _signer(self):
        info = self._c2pa.C2paSignerInfo(self._c2pa.C2paSigningAlg.ES256, self._chain, self._key, None)
        return self._c2pa.Signer.from_info(info)


def _check_certificates(pem, folder):
    try:
        x509.load_pem_x509_certificates(pem)
    except ValueError:
        raise UserError(f'{os.path.join(folder, ROOT)} holds no certificate; make-certificate makes such a '
                        'folder') from None


def _line(error):
    return str(error).split('\n')[0]
