"""Small files of the owner's: keys, notes, proofs. New ones are whole or absent, and none is ever overwritten."""
import contextlib
import os
from collections.abc import Iterator
from typing import BinaryIO

from dnnlib.util import UserError

LARGEST = 1 << 20  # bytes of a file that is read whole


@contextlib.contextmanager
def new_file(path: str, mode: int = 0o600) -> Iterator[BinaryIO]:
    """Opens a new file, by default for its owner's eyes only; if the block fails, it is removed.

    Raises:
        UserError: the file exists already, or can't be written.
    """
    try:
        handle = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, mode)
    except FileExistsError:
        raise UserError(f'{path} exists already; choose another file') from None
    except OSError as error:
        raise _unwritable(path, error) from None
    try:
        with os.fdopen(handle, 'wb') as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        _remove(path)
        raise _unwritable(path, error) from None
    except BaseException:
        _remove(path)
        raise


def _unwritable(path, error):
    return UserError(f'{path} cannot be written: {error.strerror}; choose another file')


def _remove(path):
    with contextlib.suppress(OSError):
        os.unlink(path)


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
