"""Lists of users to issue to: read from a file, and names that could be taken for one another."""
import csv
from collections.abc import Iterable
from typing import Optional

from dnnlib.images import ImageError, read_file
from dnnlib.util import UserError
from fingerprints.instances import check_name

HEADS = ('name', 'user')
LOOK_ALIKE = str.maketrans({'0': 'o', 'O': 'o', '1': 'l', 'I': 'l', '|': 'l', '-': '_', '.': '_'})


def read_names(path: str) -> list[str]:
    """The users in a file: a name a line, or CSV, whose column 'name' or 'user' counts, else its first.

    Raises:
        UserError: the file can't be read, holds no names, a name that can't be a user's, or one twice.
    """
    try:
        text = read_file(path).decode('utf-8-sig')
    except ImageError as error:
        raise UserError(f'{path}: {error}; name a file with one user a line, or CSV') from None
    except UnicodeDecodeError:
        raise UserError(f'{path} is not text in UTF-8; save it as CSV in UTF-8') from None
    found = _column(path, text)
    if not found:
        raise UserError(f'{path} holds no names; write one user a line')
    seen = {}
    for line, name in found:
        try:
            check_name(name)
        except UserError as error:
            raise UserError(f'{path}, line {line}: {error}') from None
        if name.lower() in seen:
            raise UserError(f'{path}, line {line}: {name!r} stands in line {seen[name.lower()]} already; remove one')
        seen[name.lower()] = line
    return [name for _, name in found]


def _column(path, text):
    """[(line, name)] of CSV or of a name a line. Empty lines do not count."""
    reader = csv.reader(text.splitlines())
    try:
        rows = [(reader.line_num, [cell.strip() for cell in row]) for row in reader if any(map(str.strip, row))]
    except csv.Error as error:
        raise UserError(f'{path}, line {reader.line_num}: {error}; write CSV, or one user a line') from None
    heads = [cell.lower() for cell in rows[0][1]] if rows else []
    column = next((heads.index(head) for head in HEADS if head in heads), None)
    if column is None:
        return [(line, cells[0]) for line, cells in rows]
    return [(line, cells[column] if column < len(cells) else '') for line, cells in rows[1:]]


def check_distinct(names: Iterable[str], known: Iterable[str]) -> None:
    """Raises UserError for a new name that a reader could take for a known one or another new one (O and 0, l and 1).

    Equal names, and those that differ in case only, are the registry's to refuse.
    """
    seen = {_shape(name): name for name in known}
    for name in names:
        other: Optional[str] = seen.setdefault(_shape(name), name)
        if other.lower() != name.lower():
            raise UserError(f'{name!r} can be taken for {other!r}; choose a name that no one can mistake')


def _shape(name):
    return name.translate(LOOK_ALIKE).lower()
