"""Signed notes and checkpoints: handed out, they keep everyone, the owner included, from changing the past unseen.

The formats are C2SP's signed-note and tlog-checkpoint, so other people's programs read and verify them: a text of
lines, an empty line, and a line '— NAME BASE64' per signature. Keys are Ed25519.
"""
import base64
import binascii
import dataclasses
import hashlib
from typing import Optional

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from dnnlib.util import UserError

ED25519 = b'\1'
PRIVATE = 'PRIVATE+KEY+'


def _key_id(name, public):
    return hashlib.sha256(f'{name}\n'.encode() + ED25519 + public).digest()[:4]


def _check_key_name(name):
    if not name or '+' in name or any(letter.isspace() for letter in name):
        raise UserError(f"{name!r} cannot be a key's name; use the owner's domain and a path, without spaces or '+', "
                        'for example example.com/fingerprints')


def decode_base64(text: str) -> Optional[bytes]:
    """What Base64 text stands for, or None if it is none."""
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return None


class VerifierKey:
    """The public half: whoever has it can verify notes. `text` is 'NAME+ID+BASE64'."""

    def __init__(self, name: str, public: bytes):
        self.name, self._public = name, public
        self.id = _key_id(name, public)

    @classmethod
    def parse(cls, text: str) -> 'VerifierKey':
        """Reads a key as `text` writes it. Raises UserError for anything else."""
        name, _, rest = text.strip().partition('+')
        identity, _, data = rest.partition('+')
        key = decode_base64(data)
        if not name or not key or key[:1] != ED25519 or len(key) != 33 or _key_id(name, key[1:]).hex() != identity:
            raise UserError(f'{text.strip()[:60]!r} is not a public key; it reads NAME+8 digits+Base64')
        return cls(name, key[1:])

    @property
    def text(self) -> str:
        return f'{self.name}+{self.id.hex()}+{base64.b64encode(ED25519 + self._public).decode()}'

    def verify(self, note: str) -> str:
        """The text of a note that this key signed. Raises UserError if it did not, or the note was changed."""
        text, _, signatures = note.rpartition('\n\n')
        for line in signatures.splitlines():
            parts = line.split(' ')
            data = decode_base64(parts[-1])
            if len(parts) == 3 and parts[:2] == ['—', self.name] and data and data[:4] == self.id:
                try:
                    Ed25519PublicKey.from_public_bytes(self._public).verify(data[4:], f'{text}\n'.encode())
                except InvalidSignature:
                    raise UserError(f'the signature of {self.name} does not fit the note; it was changed') from None
                return f'{text}\n'
        raise UserError(f'the note is not signed by {self.name} ({self.id.hex()}); give the key that signed it')


class SigningKey:
    """The secret half. `text` is 'PRIVATE+KEY+NAME+ID+BASE64': keep it apart from the registry."""

    def __init__(self, name: str, private: Ed25519PrivateKey):
        _check_key_name(name)
        self.name, self._private = name, private
        self.verifier = VerifierKey(name, private.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw))

    @classmethod
    def generate(cls, name: str) -> 'SigningKey':
        """A new key. `name` is the owner's domain and a path. Raises UserError for a name with spaces or '+'."""
        return cls(name, Ed25519PrivateKey.generate())

    @classmethod
    def parse(cls, text: str) -> 'SigningKey':
        """Reads a key as `text` writes it. Raises UserError, without repeating the key, for anything else."""
        name, _, rest = text.strip()[len(PRIVATE):].partition('+')
        identity, _, data = rest.partition('+')
        seed = decode_base64(data)
        if text.startswith(PRIVATE) and name and seed and seed[:1] == ED25519 and len(seed) == 33:
            key = cls(name, Ed25519PrivateKey.from_private_bytes(seed[1:]))
            if key.verifier.id.hex() == identity:
                return key
        raise UserError(f'this is not a signing key; it reads {PRIVATE}NAME+8 digits+Base64')

    @property
    def text(self) -> str:
        seed = self._private.private_bytes(Encoding.Raw, PrivateFormat.Raw, NoEncryption())
        return f'{PRIVATE}{self.name}+{self.verifier.id.hex()}+{base64.b64encode(ED25519 + seed).decode()}'

    def sign(self, text: str) -> str:
        """The signed note of a text whose lines all end in a newline."""
        assert text.endswith('\n'), text
        signature = self._private.sign(text.encode())
        return f'{text}\n— {self.name} {base64.b64encode(self.verifier.id + signature).decode()}\n'


@dataclasses.dataclass(frozen=True)
class Checkpoint:
    """The ledger at one moment: how many events it had, and the root of their Merkle tree, 32 bytes."""
    origin: str
    size: int
    root: bytes

    @property
    def text(self) -> str:
        return f'{self.origin}\n{self.size}\n{base64.b64encode(self.root).decode()}\n'

    @classmethod
    def parse(cls, text: str) -> 'Checkpoint':
        """Reads a checkpoint's text, or a signed note's without checking it. Raises UserError for anything else."""
        lines = text.split('\n')
        root = decode_base64(lines[2]) if len(lines) > 3 else None
        if not root or len(root) != 32 or not lines[0] or not (lines[1].isascii() and lines[1].isdigit()):
            raise UserError(f'{text[:40]!r} is not a checkpoint; it has three lines: a name, a size, a Base64 hash')
        return cls(lines[0], int(lines[1]), root)
