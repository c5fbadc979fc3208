"""What `attribute` is asked to look at: files, folders, archives, lists of files and patterns, one image at a time."""
import dataclasses
import glob
import os
import re
import sys
from collections.abc import Iterable, Iterator
from typing import Callable, Optional

from datasets.archives import NOT_AN_IMAGE, list_images
from dnnlib.images import read_file
from dnnlib.util import UserError
from release.members import is_archive, members

URL = re.compile(r'[A-Za-z][A-Za-z0-9+.-]+://')


@dataclasses.dataclass(frozen=True)
class Input:
    """A file to attribute; or, with `error`, why there is nothing to read under that name.

    load: reads its bytes, if it is an archive's member and not a file.
    held: how many bytes are in memory until it is let go.
    packed: it is an archive that was left whole.
    """
    path: str
    error: Optional[str] = None
    load: Optional[Callable[[], bytes]] = None
    held: int = 0
    packed: bool = False

    def read(self) -> bytes:
        """The file's bytes. Raises ImageError, also for what `error` says of a member, if it can't be read."""
        return self.load() if self.load else read_file(self.path)


class Inputs:
    """Expands what was typed, while it is iterated over: nothing but the names of one folder or zip is kept.

    Args:
        words: each an image file; a folder, searched recursively for names that end as an image's or an archive's
            does; a zip or tar of images, read in place; '-' for a list on standard input or '@FILE' for one in a file,
            a name a line (or each ended by a zero byte), which may be those of folders; or, if there is no such file,
            a pattern as the shell's, '**' included.
        unpack: archives' images, and not the archives.

    Yields Inputs, in order. An archive's member is called ARCHIVE!MEMBER.

    Attributes:
        others: after that, the number of files in the folders and archives that no image format's name ends with.

    Raises:
        UserError: a list can't be read.
    """

    def __init__(self, words: Iterable[str], unpack: bool = True):
        self.names = [name for word in words for name in _listed(word)]
        self.unpack, self.others = unpack, 0

    def __iter__(self) -> Iterator[Input]:
        self.others = 0
        for name in self.names:
            yield from self._expanded(name)

    def _expanded(self, path):
        if os.path.lexists(path):
            yield from self._in_folder(path) if os.path.isdir(path) else self._file(path)
        elif URL.match(path):
            yield Input(path, 'an address, which is not fetched; download it, and name the file')
        elif glob.has_magic(path):
            found = sorted(glob.glob(path, recursive=True))
            for name in found:
                yield from self._file(name)
            if not found:
                yield Input(path, 'matches no file')
        else:
            yield Input(path)

    def _file(self, path):
        packed = is_archive(path)
        yield from self.unpacked(path) if packed and self.unpack else [Input(path, packed=packed)]

    def unpacked(self, path: str) -> Iterator[Input]:
        """Yields the Inputs of an archive."""
        empty = True
        for member in members(path):
            if member.reason == NOT_AN_IMAGE:
                self.others += 1
                continue
            empty = False
            name = f'{path}!{member.name}' if member.name else path
            yield Input(name, member.reason, member.load, member.held)
        if empty:
            yield Input(path, 'an archive that holds no images')

    def _in_folder(self, path):
        try:
            names, others = list_images(path)
        except UserError as error:
            yield Input(path, str(error))
            return
        archives = [name for name, reason in others if reason == NOT_AN_IMAGE and is_archive(name)]
        self.others += sum(reason == NOT_AN_IMAGE for _, reason in others) - len(archives)
        refused = [(name, reason) for name, reason in others if reason != NOT_AN_IMAGE]
        if not (names or archives or refused):
            yield Input(path, 'a folder that holds no images')
        for name in names:
            yield Input(os.path.join(path, name))
        for name in archives:
            yield from self._file(os.path.join(path, name))
        for name, reason in refused:
            yield Input(os.path.join(path, name), reason)


def _listed(word):
    """The names in a list, if that is what a word stands for; else the word itself."""
    if word == '-':
        return _names(sys.stdin.buffer.read())
    if word.startswith('@'):
        try:
            with open(word[1:], 'rb') as file:
                return _names(file.read())
        except OSError as error:
            raise UserError(f'{word[1:]} cannot be read as a list of files ({error.strerror}); a file whose name '
                            f'begins with @ is given as ./{word}') from None
    return [word]


def _names(data):
    separator = b'\0' if b'\0' in data else b'\n'
    return [os.fsdecode(name) for name in data.split(separator) if name.strip()]
