"""Small files of the owner's: keys, notes, proofs. New ones are whole or absent, and none is ever overwritten."""
import contextlib
from collections.abc import Iterator
from typing import BinaryIO

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
