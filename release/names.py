"""Lists of users to issue to: read from a file, and names that could be taken for one another."""
import csv
from collections.abc import Iterable
from typing import Optional

from dnnlib.images import ImageError, read_file
from dnnlib.util import UserError
from fingerprints.instances import LARGEST_SEED, check_name

HEADS = ('name', 'user')
SEED = 'noise_seed'
LOOK_ALIKE = str.maketrans({'0': 'o', 'O': 'o', '1': 'l', 'I': 'l', '|': 'l', '-': '_', '.': '_'})


def read_names(path: str) -> dict[str, Optional[int]]:
    """{user: noise seed or None} of a file of a name a line, or of CSV, whose column 'name' or 'user' counts.

    In CSV without these it is the first column. A column 'noise_seed' beside them has the seeds, where it is not empty.

    Raises:
        UserError: the file can't be read, holds no names, a name that can't be a user's, one twice, or what is no seed.
    """
    try:
        text = read_file(path).decode('utf-8-sig')
    except ImageError as error:
        raise UserError(f'{path}: {error}; name a file with one user a line, or CSV') from None
    except UnicodeDecodeError:
        raise UserError(f'{path} is not text in UTF-8; save it as CSV in UTF-8') from None
    found = _columns(path, text)
    if not found:
        raise UserError(f'{path} holds no names; write one user a line')
    seen, seeds = {}, {}
    for line, name, seed in found:
        try:
            check_name(name)
            seeds[name] = _seed(seed)
        except UserError as error:
            raise UserError(f'{path}, line {line}: {error}') from None
        if name.lower() in seen:
            raise UserError(f'{path}, line {line}: {name!r} stands in line {seen[name.lower()]} already; remove one')
        seen[name.lower()] = line
    return seeds


def _seed(text):
    """The number that a cell holds, None for an empty one."""
    if not text:
        return None
    if not (text.isascii() and text.isdigit()) or len(text) > len(str(LARGEST_SEED)) or int(text) >= LARGEST_SEED:
        raise UserError(f'{SEED} {text[:30]!r} is no whole number from 0 to {LARGEST_SEED - 1}; write one, or leave it '
                        'empty')
    return int(text)


def _columns(path, text):
    """[(line, name, seed as text)] of CSV or of a name a line. Empty lines do not count."""
    reader = csv.reader(text.splitlines())
    try:
        rows = [(reader.line_num, [cell.strip() for cell in row]) for row in reader if any(map(str.strip, row))]
    except csv.Error as error:
        raise UserError(f'{path}, line {reader.line_num}: {error}; write CSV, or one user a line') from None
    heads = [cell.lower().replace('-', '_').replace(' ', '_') for cell in rows[0][1]] if rows else []
    column = next((heads.index(head) for head in HEADS if head in heads), None)
    if column is None and SEED in heads:  # without it, the head would be a user's name
        raise UserError(f"{path}, line {rows[0][0]}: a column {SEED!r} needs a column 'name' beside it; add its head")
    if column is None:
        return [(line, cells[0], '') for line, cells in rows]
    return [(line, _cell(cells, column), _cell(cells, heads.index(SEED)) if SEED in heads else '')
            for line, cells in rows[1:]]


def _cell(cells, column):
    return cells[column] if column < len(cells) else ''


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
