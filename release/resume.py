"""Results of attribution in a file of JSON lines that grows as they are found: a stopped command goes on with it."""
import contextlib
import fcntl
import json
import os
from collections.abc import Iterable, Iterator
from typing import Any, TextIO

from dnnlib.util import UserError, naming
from release.attribute import recorded_name
from release.inputs import Input
from release.results import ERROR, Tally

BEGINNING = '{"image": "'  # of every line


@contextlib.contextmanager
def growing_file(path: str) -> Iterator[TextIO]:
    """Opens a file to read and append to, which is made if absent. Nothing in it is changed.

    Raises:
        UserError: another command is writing it, it is no regular file, or it can't be opened.
    """
    if os.path.lexists(path) and not os.path.isfile(path):
        raise UserError(f'{path} cannot be written (not a regular file); choose another file')
    try:
        file = open(path, 'a+', encoding='utf-8', errors='replace')
    except OSError as error:
        raise UserError(f'{path} cannot be written ({error.strerror}); choose another file') from None
    with naming(path), file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(f'{path} is being written by another command; wait, or choose another file') from None
        yield file


def _whole_lines(path):
    """The number of bytes up to the end of the last whole line."""
    with open(path, 'rb') as file:
        return sum(len(line) for line in file if line.endswith(b'\n'))


def remaining(file: TextIO, inputs: Iterable[Input], context: dict[str, Any], users: int,
              tally: Tally) -> Iterator[Input]:
    """The inputs that the file has no line for yet; those it has are counted in `tally`.

    A half-written line at its end is cut off, once all before it is known to be of this attribution.

    Args:
        file: of `growing_file`; lines as `release.results.as_json` writes them, one per input in order.
        inputs: all of them. context, users: what every line must rest on.

    Raises:
        UserError: the file was made of other inputs, or rests on something else.
    """
    inputs = iter(inputs)
    file.seek(0)
    for number, line in enumerate(file, 1):
        if not line.endswith('\n'):
            _check_half(file.name, number, line)
            os.truncate(file.name, _whole_lines(file.name))
            break
        record = _parsed(file.name, number, line)
        one = next(inputs, None)
        if one is None or record['image'] != recorded_name(one.path):
            expected = 'nothing more' if one is None else recorded_name(one.path)
            raise UserError(f'{file.name}, line {number}, is about {record["image"]!r}, not {expected!r}: the images '
                            'are not those it was begun with; choose another file')
        _check_context(file.name, number, record, {**context, **({} if ERROR in record else {'users': users})})
        tally.count(ERROR if ERROR in record else record['reason'], record.get('user'))
    return inputs


def _parsed(path, number, line):
    try:
        record = json.loads(line)
        if isinstance(record, dict) and 'image' in record and (ERROR in record or 'reason' in record):
            return record
    except ValueError:
        pass
    raise UserError(f'{path}, line {number}, is no result of attribute --json; choose another file')


def _check_half(path, number, line):
    if not line.startswith(BEGINNING[:len(line)]):
        raise UserError(f'{path}, line {number}, is no result of attribute --json; choose another file')


def _check_context(path, number, record, expected):
    for key, value in expected.items():
        if record.get(key) != value:
            raise UserError(f'{path}, line {number}, was found with {key} {record.get(key)}, and now it is {value}; '
                            'choose another file')
