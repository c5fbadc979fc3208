"""What `attribute` is asked to look at: files, folders, lists of files and patterns, expanded to a list of files."""
import dataclasses
import glob
import os
import sys
from collections.abc import Iterable
from typing import Optional

from datasets.archives import NOT_AN_IMAGE, list_images
from dnnlib.util import UserError


@dataclasses.dataclass(frozen=True)
class Input:
    """A file to attribute; or, with `error`, why there is nothing to read under that name."""
    path: str
    error: Optional[str] = None


def find_inputs(words: Iterable[str]) -> tuple[list[Input], int]:
    """Expands what was typed.

    Args:
        words: each an image file; a folder, searched recursively for names that end as an image's does; '-' for a list
            on standard input or '@FILE' for one in a file, a name a line (or each ended by a zero byte), which may be
            those of folders; or, if there is no such file, a pattern as the shell's, '**' included.

    Returns:
        (inputs, others): the Inputs in order, and the number of files in the folders that no image format's name ends
        with.

    Raises:
        UserError: a list can't be read.
    """
    inputs, others = [], 0
    for word in words:
        for path in _listed(word):
            found, left_out = _expanded(path)
            inputs += found
            others += left_out
    return inputs, others


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


def _expanded(path):
    """(Inputs, number of other files) for one name."""
    if os.path.isdir(path):
        return _in_folder(path)
    if not os.path.lexists(path) and glob.has_magic(path):
        found = sorted(glob.glob(path, recursive=True))
        return [Input(name) for name in found] or [Input(path, 'matches no file')], 0
    return [Input(path)], 0


def _in_folder(path):
    try:
        names, others = list_images(path)
    except UserError as error:
        return [Input(path, str(error))], 0
    inputs = [Input(os.path.join(path, name)) for name in names]
    inputs += [Input(os.path.join(path, name), reason) for name, reason in others if reason != NOT_AN_IMAGE]
    if not inputs:
        inputs = [Input(path, 'a folder that holds no images')]
    return inputs, sum(reason == NOT_AN_IMAGE for _, reason in others)
