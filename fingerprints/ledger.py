"""The ledger: an append-only table of events, each chained to the one before, all of them leaves of a Merkle tree.

An event is one line of JSON: its number, time, actor, kind, the hash of the event before, and what happened. Its hash
is that of a leaf of the tree (`merkle`), so chain and tree use the same hashes.
"""
import dataclasses
import json
from collections.abc import Iterator, Sequence
from typing import Any, Optional

import sqlalchemy as sa

from fingerprints.merkle import leaf_hash

VERSION = '2'  # of the events and of exported files; the tables' own is `schema.VERSION`
BLOCK = 10_000  # rows read at once
FIRST = '0' * 64  # what the first event has in place of the hash of the one before
KINDS = {'seq': int, 'time': str, 'actor': str, 'kind': str, 'previous': str, 'fields': dict}  # of an event's parts
ENCODER = json.JSONEncoder(sort_keys=True, separators=(',', ':'), allow_nan=False)

SCHEMA = sa.MetaData()
EVENTS = sa.Table(
    'events', SCHEMA,
    sa.Column('seq', sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column('event', sa.Text, nullable=False),
    sa.Column('hash', sa.String(64), nullable=False))
CHECKPOINTS = sa.Table(
    'checkpoints', SCHEMA,
    sa.Column('size', sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column('note', sa.Text, nullable=False))


@dataclasses.dataclass(frozen=True)
class Event:
    """What happened: seq counts from 0; time is UTC, ISO 8601; previous is the hex hash of the event before."""
    seq: int
    time: str
    actor: str
    kind: str
    previous: str
    fields: dict[str, Any]

    @property
    def text(self) -> str:
        """The event's one line of JSON, the same for the same event: keys sorted, no spaces, ASCII."""
        record = {'seq': self.seq, 'time': self.time, 'actor': self.actor, 'kind': self.kind,
                  'previous': self.previous, 'fields': self.fields}
        return ENCODER.encode(record)

    def row(self) -> dict[str, Any]:
        """The event as a row of the table."""
        return {'seq': self.seq, 'event': self.text, 'hash': leaf_hash(self.text.encode()).hex()}


@dataclasses.dataclass(frozen=True)
class Finding:
    """What `Registry.verify` found: the event's number (None: no single one), the kind of damage, and one line.

    kinds: 'deleted', 'unreadable', 'edited', 'reordered', 'truncated', 'rewritten', 'contradiction', 'page',
    'leftover' (not damage: a command was killed).
    """
    seq: Optional[int]
    kind: str
    text: str


def parse_event(text: str) -> Event:
    """Reads an event's text. Raises ValueError if it is not one, or not as `Event.text` writes it."""
    record = json.loads(text)
    if not isinstance(record, dict) or record.keys() != KINDS.keys():
        raise ValueError('it lacks or adds fields')
    event = Event(**record)
    wrong = [name for name, kind in KINDS.items() if type(record[name]) is not kind]
    if wrong:
        raise ValueError(f'its {wrong[0]} is not what it must be')
    if event.text != text:
        raise ValueError('it is written in another way')
    return event


def read_rows(connection: sa.Connection, start: int = 0) -> Iterator[tuple[int, str, str]]:
    """Yields (seq, event text, hash) of all events from number `start` on, in order, without holding them all."""
    query = sa.select(EVENTS.c.seq, EVENTS.c.event, EVENTS.c.hash).where(EVENTS.c.seq >= start).order_by(EVENTS.c.seq)
    for row in connection.execute(query.execution_options(yield_per=BLOCK)):
        yield tuple(row)


def read_notes(connection: sa.Connection) -> Sequence[str]:
    """The signed notes of all checkpoints, the oldest first."""
    return connection.execute(sa.select(CHECKPOINTS.c.note).order_by(CHECKPOINTS.c.size)).scalars().all()


class Chain:
    """Checks rows one after the other: numbers without a gap, each hash that of its event, each event after its own
    predecessor. `size` and `last` (hex) are where the chain has come to."""

    def __init__(self):
        self.size, self.last = 0, FIRST

    def follow(self, seq: int, text: str, stored: str) -> tuple[Optional[Event], list[Finding]]:
        """Takes the next row. Returns its event, None if it can't be read, and what is wrong with it."""
        findings = []
        if seq != self.size:
            gap = f'event {self.size} is' if seq == self.size + 1 else f'events {self.size} to {seq - 1} are'
            findings.append(Finding(self.size, 'deleted', f'{gap} missing'))
        actual = leaf_hash(text.encode('utf-8', 'surrogatepass')).hex()
        if actual != stored:
            findings.append(Finding(seq, 'edited', f'event {seq} was changed after it was written'))
        event, problem = _try_parse(text)
        if event is None:
            findings.append(Finding(seq, 'unreadable', f'event {seq} cannot be read: {problem}'))
        elif event.seq != seq:
            findings.append(Finding(seq, 'reordered', f'row {seq} holds event {event.seq}'))
        elif event.previous != self.last and not findings:
            findings.append(Finding(seq, 'edited', f'event {seq} does not follow the one before it: one was replaced'))
        self.size, self.last = seq + 1, stored
        return event, findings

    def next_event(self, time: str, actor: str, kind: str, fields: dict[str, Any]) -> Event:
        """The event that would come next."""
        return Event(self.size, time, actor, kind, self.last, fields)


def _try_parse(text):
    """(event, None) or (None, why not)."""
    try:
        return parse_event(text), None
    except (ValueError, RecursionError) as error:
        return None, str(error).split('\n')[0]
