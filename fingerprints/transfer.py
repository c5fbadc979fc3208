"""The ledger as a file of JSON lines: to keep a copy, to hand it over, to move it from SQLite to PostgreSQL.

The first line tells how many events there are and the root of their Merkle tree; a line per event follows, as the
ledger has it, then one per checkpoint. Whoever imports it gets the same events with the same hashes, or nothing.
"""
import itertools
import json
from collections.abc import Iterable, Iterator
from typing import Any

import sqlalchemy as sa

from dnnlib.util import UserError
from fingerprints.database import Database
from fingerprints.files import new_file
from fingerprints.instances import Contradiction, State
from fingerprints.ledger import BLOCK, CHECKPOINTS, EVENTS, VERSION, Chain
from fingerprints.merkle import Tree, leaf_hash
from fingerprints.notes import Checkpoint
from fingerprints.registry import Registry

FORMAT = 'fingerprint-ledger'
LONGEST = 1 << 20  # bytes of a line


def export_ledger(registry: Registry, path: str) -> int:
    """Writes the whole ledger to a new file, for its owner's eyes only. Returns the number of events.

    The export is itself recorded, as the last event in the file.

    Raises:
        UserError: the file exists already or can't be written, the registry can't be read or appended to.
    """
    with new_file(path) as file:
        return _write(registry, file)


def _write(registry, file):
    size, root = registry.record_export()
    head = json.dumps({'format': FORMAT, 'version': VERSION, 'events': size, 'root': root.hex()})
    events = (event.text for event in itertools.islice(registry.events(), size))
    notes = (json.dumps({'checkpoint': note}) for note in registry.checkpoints())
    file.writelines(f'{line}\n'.encode('ascii') for line in itertools.chain([head], events, notes))
    return size


def import_ledger(path: str, location: str) -> int:
    """Makes a registry at `location` of a file that `export_ledger` wrote. Returns the number of events.

    The whole file is checked before anything is made.

    Raises:
        UserError: the file can't be read, is cut off or was changed; there is a registry at `location` already.
    """
    for _ in _read(path):
        pass
    database, count = Database(location, create=True), 0

    def fill(connection: sa.Connection) -> None:
        nonlocal count
        for table, rows in itertools.groupby(_read(path), lambda pair: pair[0]):
            for block in _blocks(row for _, row in rows):
                connection.execute(table.insert(), block)
                count += len(block) if table is EVENTS else 0
    if not database.create_tables(fill):
        raise UserError(f'{database.location} holds a registry already; import into a new one')
    return count


def _blocks(rows):
    rows = iter(rows)
    while block := list(itertools.islice(rows, BLOCK)):
        yield block


def _read(path: str) -> Iterator[tuple[sa.Table, dict[str, Any]]]:
    """Yields (table, row) for every event and checkpoint of a file, checked. Raises UserError if anything is wrong."""
    try:
        with open(path, 'rb') as file:
            yield from _check(path, _lines(path, file))
    except OSError as error:
        raise UserError(f'{path} cannot be read: {error.strerror}; name the exported file') from None


def _lines(path, file):
    """The lines as text, without their ends."""
    for number in itertools.count(1):
        line = file.readline(LONGEST)
        if not line:
            return
        if not line.endswith(b'\n') or not line.isascii():
            raise UserError(f'{path}: line {number} is cut off, too long or not plain text; export it again')
        yield line[:-1].decode('ascii')


def _check(path: str, lines: Iterable[str]) -> Iterator[tuple[sa.Table, dict[str, Any]]]:
    lines = iter(lines)
    header = _parse(next(lines, ''))
    known = header.get('format') == FORMAT and header.get('version') == VERSION
    if not known or type(header.get('events')) is not int or header['events'] < 0:
        raise UserError(f'{path} is not an exported ledger of version {VERSION}; name an exported file')
    chain, tree, state = Chain(), Tree(), None
    for line in itertools.islice(lines, header['events']):
        state, row = _check_event(path, chain, state, line)
        tree.append(bytes.fromhex(row['hash']))
        yield EVENTS, row
    if not tree.size or tree.size != header['events'] or tree.root().hex() != header.get('root'):
        raise UserError(f'{path}: its events are not those that its first line tells of; export it again')
    for line in lines:
        note = _parse(line).get('checkpoint')
        if not isinstance(note, str):
            raise UserError(f'{path}: a line after the last event is no checkpoint; export it again')
        yield CHECKPOINTS, {'size': Checkpoint.parse(note).size, 'note': note}


def _check_event(path, chain, state, line):
    """Returns (state, row) after the next event. The first event tells whether the codes are encrypted."""
    row = {'seq': chain.size, 'event': line, 'hash': leaf_hash(line.encode()).hex()}
    event, findings = chain.follow(row['seq'], line, row['hash'])
    if findings:
        raise UserError(f'{path}: {findings[0].text}; export it again')
    if state is None:
        state = State(None if event.fields.get('sealing') else lambda code, name: code)
    try:
        state.apply(event)
    except Contradiction as error:
        raise UserError(f'{path}: event {event.seq} contradicts those before it: {error}') from None
    return state, row


def _parse(line):
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        return {}
    return record if isinstance(record, dict) else {}
