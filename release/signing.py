"""Signatures of instances, by OpenSSF's model-signing: a Sigstore bundle over every file, which its command verifies.

The package is the extra `signing`; there is none for Python 3.9 and 3.10 that TensorFlow's protobuf would bear.
"""
import importlib
import os
from types import ModuleType

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from dnnlib.util import UserError, printable
from fingerprints.files import new_file, read_bytes

SUFFIX = '.sig'  # beside the folder that is signed: instances/alice/1.sig

ABSENT = ("model-signing is not installed, or not for this Python; on 3.11 or newer: pip install -e '.[signing]'; or "
          'sign and verify with its own command, docs/serving.md says how')


def make_key(path: str) -> None:
    """Writes a new P-256 key for signing instances, in PEM, for its owner's eyes only, and its public half to PATH.pub.

    Raises UserError if either file exists.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    with new_file(path) as file, new_file(f'{path}.pub', private=False) as public:
        file.write(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8,
                                     serialization.NoEncryption()))
        public.write(key.public_key().public_bytes(serialization.Encoding.PEM,
                                                   serialization.PublicFormat.SubjectPublicKeyInfo))


class Signer:
    """Signs folders with a private key: Signer('owner.pem')(folder, signature).

    Raises UserError without the package, or for a file that is no key it takes.
    """

    def __init__(self, key: str):
        try:
            private = serialization.load_pem_private_key(read_bytes(key), None)
            fits = isinstance(private.curve, (ec.SECP256R1, ec.SECP384R1, ec.SECP521R1))
        except (ValueError, TypeError, AttributeError):  # no PEM; a passphrase; another kind of key
            fits = False
        if not fits:
            raise UserError(f'{key} is no private key of P-256, P-384 or P-521 without a passphrase; make one with '
                            'run_release.py signing-key')
        self._config = _module('model_signing.signing').Config().use_elliptic_key_signer(private_key=key)

    def __call__(self, folder: str, signature: str) -> None:
        """Signs all files of a folder, by their paths within it, and writes the new file `signature`.

        The bundle names the folder's last part only.
        """
        self._config.sign(folder, signature)


def verify(folder: str, signature: str, public_key: str) -> None:
    """Raises UserError unless the signature is of this key and every file of the folder is as it was signed.

    A file more or less is told, too.
    """
    verifying = _module('model_signing.verifying')
    for path in (signature, public_key):
        read_bytes(path)
    if not os.path.isdir(folder):
        raise UserError(f'{folder} is no folder; name that of the SavedModel, such as instances/alice/1')
    try:
        verifying.Config().use_elliptic_key_verifier(public_key=public_key).verify(folder, signature)
    except Exception as error:  # whatever the bytes of a forged bundle make the package trip over
        reason = printable(str(error).split('\n')[0]) or type(error).__name__
        raise UserError(f'{folder} is NOT as {signature} says ({reason}); do not use it, ask its owner for '
                        'another copy') from None


def _module(name) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ImportError:
        raise UserError(ABSENT) from None
