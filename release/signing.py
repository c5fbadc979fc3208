"""Signatures of instances, by OpenSSF's model-signing: a Sigstore bundle over every file, which its command verifies.

The package is the extra `signing`; there is none for Python 3.9 and 3.10 that TensorFlow's protobuf would bear.
"""
import contextlib
import importlib
import os
import pathlib
import tempfile
from types import ModuleType
from typing import Optional

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from dnnlib.util import UserError, printable
from fingerprints.files import new_key_pair, read_bytes

SUFFIX = '.sig'  # beside the folder that is signed: instances/alice/1.sig
TOKEN = 'pkcs11:'

ABSENT = ("model-signing is not installed, or not for this Python; on 3.11 or newer: pip install -e '.[signing]'; or "
          'sign and verify with its own command, docs/serving.md says how')


def make_key(path: str) -> bool:
    """Writes a new P-256 key for signing instances, in PEM, for its owner's eyes only, and its public half to PATH.pub.

    Of a key that is there without its public half, it writes that. Returns whether the key is new.
    Raises UserError if PATH.pub exists, or PATH and it is no such key.
    """
    private = ec.generate_private_key(ec.SECP256R1()).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    _, is_new = new_key_pair(path, private, lambda data: _private_key(data, path).public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo))
    return is_new


class Signer:
    """Signs folders and files with a private key: Signer('owner.pem')(folder, signature).

    Args:
        key: its file in PEM, or the URI of a key in a PKCS#11 token (RFC 7512), 'pkcs11:token=...;object=...?...'.
        certificate: a file in PEM with the key's certificate and, after it, those that lead to its root, which is told
            in the signature; None for the bare key.

    Raises:
        UserError: without the package, for what is no key it takes, another key's certificate, or a certificate for a
            key in a token, which the package fails on.
    """

    def __init__(self, key: str, certificate: Optional[str] = None):
        in_token = key.startswith(TOKEN)
        if in_token and certificate:
            raise UserError("model-signing 1.1 can't put a certificate beside the signature of a key in a token; leave "
                            '--certificate out, and give your users the public key')
        if not in_token:
            _private_key(read_bytes(key), key)
        self._config = _module('model_signing.signing').Config()
        chain = _parted(certificate) if certificate else []
        try:
            if in_token:
                self._config.use_pkcs11_signer(pkcs11_uri=key)
            elif chain:
                with _written(chain) as paths:  # it refuses an empty chain, and takes one with the signer's own
                    self._config.use_certificate_signer(private_key=key, signing_certificate=paths[0],
                                                        certificate_chain=paths[1:] or paths)
            else:
                self._config.use_elliptic_key_signer(private_key=key)
        except Exception as error:  # what the package, and a token's own library below it, may say
            raise UserError(_refusal(key, certificate, in_token, error)) from None

    def __call__(self, path: str, signature: str) -> None:
        """Signs all files of a folder by their paths within it, or one file, and writes the new file `signature`.

        The bundle names the path's last part only.
        """
        self._config.sign(path, signature)


def _private_key(data, path):
    """The key in a file's bytes. Raises UserError unless it is one that the package takes."""
    try:
        private = serialization.load_pem_private_key(data, None)
        fits = isinstance(private.curve, (ec.SECP256R1, ec.SECP384R1, ec.SECP521R1))
    except (ValueError, TypeError, AttributeError):  # no PEM; a passphrase; another kind of key
        fits = False
    if not fits:
        raise UserError(f'{path} is no private key of P-256, P-384 or P-521 without a passphrase; make one with '
                        'run_release.py signing-key')
    return private


def _parted(path):
    """The certificates in a file, each in PEM. Raises UserError if it holds none."""
    try:
        found = x509.load_pem_x509_certificates(read_bytes(path))
    except ValueError:
        raise UserError(f'{path} holds no certificate in PEM; give the key\'s, and after it those that lead to its '
                        'root') from None
    return [one.public_bytes(serialization.Encoding.PEM) for one in found]


@contextlib.contextmanager
def _written(chain):
    """Paths of files with one certificate each, as the package wants them, while it reads them."""
    with tempfile.TemporaryDirectory() as folder:
        paths = [pathlib.Path(folder, f'{number}.pem') for number in range(len(chain))]
        for path, data in zip(paths, chain):
            path.write_bytes(data)
        yield paths


def _refusal(key, certificate, in_token, error):
    reason = printable(str(error).split('\n')[0]) or type(error).__name__
    if in_token and 'extra' in reason:
        return f"PKCS#11 needs the package PyKCS11: pip install -e '.[pkcs11]'; {key.split('?')[0]} was not looked for"
    if in_token:
        return (f'{key.split("?")[0]} can\'t sign ({reason}); name token, object, pin-value and module-path: '
                'pkcs11:token=...;object=...?pin-value=...&module-path=/usr/lib/softhsm/libsofthsm2.so')
    return f'{certificate} does not go with {key} ({reason}); put the key\'s own certificate first'


def verify(path: str, signature: str, public_key: Optional[str] = None, root: Optional[str] = None) -> None:
    """Raises UserError unless the signature is of this key and everything is as it was signed.

    A file more or less in a folder is told, too.

    Args:
        path: a folder or a file.
        signature: its signature's file.
        public_key: of the owner, in PEM; or
        root: a certificate in PEM, to which the one in the signature must lead.
    """
    verifying = _module('model_signing.verifying')
    for name in (signature, public_key or root):
        read_bytes(name)
    if not os.path.exists(path):
        raise UserError(f'{path} is not there; name the folder of the SavedModel, such as instances/alice/1')
    config = verifying.Config()
    try:
        if public_key:
            config.use_elliptic_key_verifier(public_key=public_key)
        else:
            config.use_certificate_verifier(certificate_chain=[pathlib.Path(root)])
        config.verify(path, signature)
    except Exception as error:  # whatever the bytes of a forged bundle make the package trip over
        reason = printable(str(error).split('\n')[0]) or type(error).__name__
        raise UserError(f'{path} is NOT as {signature} says ({reason}); do not use it, ask its owner for '
                        'another copy') from None


def _module(name) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ImportError:
        raise UserError(ABSENT) from None
