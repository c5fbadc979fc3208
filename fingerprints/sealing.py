"""Encrypting the codes in the ledger: without the key one can list, revoke and verify, but not issue nor attribute.

AES-256-GCM, under a key that scrypt makes of a passphrase or a key file's bytes, and of a salt in the ledger's first
event. A sealed code is bound to its instance's name: moved to another, it does not open.
"""
import base64
import getpass
import hashlib
import os
import secrets
import stat
import warnings
from typing import Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from dnnlib.util import UserError

SEALED = 'sealed:'
SCRYPT = {'n': 2 ** 15, 'r': 8, 'p': 1}  # 32 MiB and about a tenth of a second for each guess at a passphrase
NONCE = 12
MINIMUM = 8  # bytes of a passphrase


def read_key_file(path: str) -> bytes:
    """The bytes of a key file. Raises UserError if it can't be read, is too short, or others may read it."""
    try:
        with open(path, 'rb') as file:
            if stat.S_IMODE(os.fstat(file.fileno()).st_mode) & 0o077:
                raise UserError(f'{path} can be read by others than its owner; chmod 600 {path}')
            secret = file.read(1 << 16)
    except OSError as error:
        raise UserError(f'{path} cannot be read: {error.strerror}; name the key file') from None
    check_secret(secret)
    return secret


def ask_passphrase(twice: bool) -> bytes:
    """Asks for a passphrase at the terminal, which does not show it; `twice` for a new one. Returns its bytes in UTF-8.

    Raises:
        UserError: there is no terminal, nothing was typed, the passphrase is too short, or the second one differs.
    """
    secret = _typed('passphrase of the codes: ')
    check_secret(secret)
    if twice and _typed('the same again: ') != secret:
        raise UserError('the two passphrases differ; give the command again')
    return secret


def _typed(prompt):
    with warnings.catch_warnings():
        warnings.simplefilter('error', getpass.GetPassWarning)  # before it would read what everyone sees
        try:
            return getpass.getpass(prompt).encode('utf-8', 'surrogateescape')
        except (getpass.GetPassWarning, EOFError):
            raise UserError('a passphrase is typed at a terminal, and none was; give --code-key=FILE') from None


def check_secret(secret: bytes) -> None:
    """Raises UserError if a passphrase or a key file's bytes are too few."""
    if len(secret) < MINIMUM:
        raise UserError(f'a key of {len(secret)} bytes is too short; use a passphrase or file of at least {MINIMUM}')


def new_parameters(secret: bytes) -> dict[str, Any]:
    """What the ledger's first event keeps about a new key: the salt, and a test that tells a wrong key at once."""
    check_secret(secret)
    parameters = {'kdf': 'scrypt', **SCRYPT, 'salt': secrets.token_hex(16)}
    return {**parameters, 'test': _Cipher(secret, parameters).seal('test', '')}


class Sealer:
    """Seals and opens codes as text. Raises UserError if the key is not the registry's."""

    def __init__(self, secret: bytes, parameters: dict[str, Any], location: str):
        self._location = location
        if not isinstance(parameters, dict) or any(parameters.get(name) != value for name, value in SCRYPT.items()):
            raise UserError(f'{location} is encrypted in a way this program does not know; use the one that wrote it')
        self._cipher = _Cipher(secret, parameters)
        try:
            self._cipher.open(parameters['test'], '')
        except (InvalidTag, ValueError):
            raise UserError(f'the key does not fit {location}; give the one it was made with') from None

    def seal(self, text: str, name: str) -> str:
        """Encrypts the code of the instance `name`."""
        return self._cipher.seal(text, name)

    def unseal(self, sealed: str, name: str) -> str:
        """Decrypts it. Raises UserError if it was changed, or sealed for another name."""
        try:
            return self._cipher.open(sealed, name)
        except (InvalidTag, ValueError):
            raise UserError(f'the code of {name!r} in {self._location} does not open: it was changed') from None


class _Cipher:
    def __init__(self, secret, parameters):
        key = hashlib.scrypt(secret, salt=bytes.fromhex(parameters['salt']), maxmem=1 << 30, dklen=32, **SCRYPT)
        self._aes = AESGCM(key)

    def seal(self, text, name):
        nonce = secrets.token_bytes(NONCE)
        data = self._aes.encrypt(nonce, text.encode(), name.encode())
        return SEALED + base64.b64encode(nonce + data).decode()

    def open(self, sealed, name):
        data = base64.b64decode(sealed[len(SEALED):], validate=True)
        return self._aes.decrypt(data[:NONCE], data[NONCE:], name.encode()).decode()
