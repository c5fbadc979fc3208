"""Images within zips and tars, read in place: nothing is written, and an archive within an archive is not opened.

A tar is read from its beginning to its end, once. Whatever an archive says of itself, no more than one member is in
memory at once, and what unpacks to absurd sizes is given up.
"""
import bz2
import dataclasses
import gzip
import lzma
import os
import tarfile
import zlib
from collections.abc import Iterator
from typing import BinaryIO, Callable, Optional

from datasets.archives import MAX_RATIO, NOT_AN_IMAGE, is_image, open_archive, other
from dnnlib.images import MAX_FILE_BYTES
from dnnlib.util import UserError

OPENERS = {'.tar': open, '.tar.gz': gzip.open, '.tgz': gzip.open, '.tar.bz2': bz2.open, '.tbz2': bz2.open,
           '.tar.xz': lzma.open, '.txz': lzma.open}
SUFFIXES = ('.zip', *OPENERS)
NESTED = ('.7z', '.rar', '.gz', '.bz2', '.xz', '.zst', *SUFFIXES)  # archives of all kinds, none of which is opened
CHUNK = 1 << 20
HEADERS = 16 * CHUNK  # more than this before a member's content are no headers
DAMAGED = (tarfile.TarError, zlib.error, lzma.LZMAError, EOFError, OSError, ValueError, OverflowError)


@dataclasses.dataclass(frozen=True)
class Member:
    """One file within an archive.

    reason: why it can't be attributed; NOT_AN_IMAGE, if its name is no image's. With an empty name: why no more of the
        archive can.
    load: returns its bytes; raises ImageError. held: how many bytes it keeps in memory.
    """
    name: str
    reason: Optional[str] = None
    load: Optional[Callable[[], bytes]] = None
    held: int = 0


def is_archive(path: str) -> bool:
    """Whether a file is taken for an archive, by its name."""
    return path.lower().endswith(SUFFIXES)


def members(path: str) -> Iterator[Member]:
    """Yields an archive's members, zips' in the order of their names, tars' as they come. Raises nothing."""
    try:
        yield from _zip_members(path) if path.lower().endswith('.zip') else _tar_members(path)
    except UserError as error:
        yield Member('', str(error))


def _zip_members(path):
    archive = open_archive(path)
    for name in archive.items:
        yield Member(name, load=lambda name=name: archive.load(name))
    for name, reason in archive.others:
        yield Member(name, _reason(name, reason))


def _reason(name, reason):
    nested = reason == NOT_AN_IMAGE and name.lower().endswith(NESTED)
    return 'an archive within an archive, which is not opened; unpack it first' if nested else reason


def _tar_members(path):
    if not os.path.isfile(path):
        raise UserError('neither a folder nor a file')
    opener = OPENERS[next(suffix for suffix in OPENERS if path.lower().endswith(suffix))]
    number = 0
    try:
        with opener(path, 'rb') as file:
            unpacked = _Limited(file, max(MAX_FILE_BYTES, MAX_RATIO * os.path.getsize(path)))
            for member in _walk(unpacked):
                number += 1
                yield member
    except _TooMuchError:
        yield Member('', f'looks like an archive bomb after {number} members; unpack it, and give the folder')
    except DAMAGED as error:
        reason = (str(error) or type(error).__name__).split('\n')[0]
        yield Member('', f'damaged or cut short after {number} members ({reason})')


class _TooMuchError(Exception):
    """An archive unpacks to more than it may."""


class _Limited:
    """A file that is read no further than it may be.

    total: how many bytes of it may be read. allowed: how many of them at once, until that is set anew: tarfile reads
    what a header calls a name or comment as a whole, however long.
    """

    def __init__(self, file: BinaryIO, total: int):
        self.file, self.total, self.allowed = file, total, HEADERS

    def read(self, size: int = -1) -> bytes:
        data = self.file.read(size)
        self.total -= len(data)
        self.allowed -= len(data)
        if self.total < 0 or self.allowed < 0:
            raise _TooMuchError
        return data


def _walk(unpacked):
    """Yields the Members of a tar that is read from `unpacked`, a _Limited."""
    with tarfile.open(fileobj=unpacked, mode='r|') as archive:
        while True:
            unpacked.allowed = HEADERS
            entry = archive.next()
            archive.members = []  # it would keep all it has seen
            if entry is None:
                return
            if not entry.isdir():
                yield _tar_member(archive, entry, unpacked)


def _tar_member(archive, entry, unpacked):
    if not entry.isfile() or entry.issparse():  # of holes alone it would be endless
        return Member(entry.name, 'a link or something special, not a file')
    wanted = is_image(entry.name) and entry.size <= MAX_FILE_BYTES
    blocks = []
    content = archive.extractfile(entry)
    while True:
        unpacked.allowed = HEADERS
        block = content.read(CHUNK)
        if not block:
            break
        if wanted:
            blocks.append(block)
    if not is_image(entry.name):
        return Member(entry.name, _reason(*other(entry.name)))
    if not wanted:
        return Member(entry.name, f'larger than {MAX_FILE_BYTES >> 20} MiB')
    data = b''.join(blocks)
    return Member(entry.name, load=lambda: data, held=len(data))
