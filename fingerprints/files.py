"""Small files of the owner's: keys, notes, proofs. New ones are whole or absent, and none is ever overwritten."""
import contextlib
import os
from collections.abc import Iterator
from typing import BinaryIO, Callable

from dnnlib.util import UserError, atomic_file

LARGEST = 1 << 20  # bytes of a file that is read whole


@contextlib.contextmanager
def new_file(path: str, private: bool = True) -> Iterator[BinaryIO]:
    """Opens a new file, by default for its owner's eyes only, which is there when the block ends well.

    Raises:
        UserError: the file exists already, or can't be written.
    """
    try:
        with atomic_file(path, 'wb', private, new=True) as file:
            yield file
    except FileExistsError:
        raise UserError(f'{path} exists already; choose another file') from None
    except OSError as error:
        raise UserError(f'{path} cannot be written: {error.strerror}; choose another file') from None


def new_key_pair(path: str, private: bytes, public_of: Callable[[bytes], bytes]) -> tuple[bytes, bool]:
    """Writes a new secret key, for its owner's eyes only, and its public half to PATH.pub.

    The secret key is in place first: nobody publishes the half of a key that there is not. Killed in between, the same
    call writes the public half of the key that is there.

    Args:
        path: of the secret key.
        private: its bytes.
        public_of: the public half of a secret key's bytes. Raises UserError for bytes that are none.

    Returns:
        (the public half, whether the key is `private` and not one that was there).

    Raises:
        UserError: PATH.pub exists already, or PATH and it is no such key, or they can't be written.
    """
    beside = f'{path}.pub'
    if os.path.lexists(path) and not os.path.lexists(beside):
        return _complete(path, beside, public_of), False
    public = public_of(private)
    with new_file(beside, private=False) as second, new_file(path) as first:  # what is entered last is in place first
        second.write(public)
        second.flush()  # if the disk is full, before the first is in place
        first.write(private)
    return public, True


def _complete(path, beside, public_of):
    """Writes the public half of the key at `path`, and returns it."""
    try:
        public = public_of(read_bytes(path))
    except UserError:
        raise UserError(f'{path} exists already; choose another file') from None
    with new_file(beside, private=False) as file:
        file.write(public)
    return public


def read_bytes(path: str) -> bytes:
    """The bytes of a small file. Raises UserError if it can't be read or is too large."""
    try:
        with open(path, 'rb') as file:
            data = file.read(LARGEST + 1)
    except OSError as error:
        raise UserError(f'{path} cannot be read: {error.strerror}; name the right file') from None
    if len(data) > LARGEST:
        raise UserError(f'{path} has more than {LARGEST} bytes, which none of these files has; name the right file')
    return data


def read_text(path: str) -> str:
    """The text of a small file. Raises UserError if it can't be read, is too large or is no text."""
    try:
        return read_bytes(path).decode()
    except UnicodeDecodeError:
        raise UserError(f'{path} is no text; name the right file') from None
