"""The ledger in its database, and the state that its events add up to: read, appended to, checked and proven."""
import contextlib
import copy
import threading
from collections.abc import Iterator, Sequence
from typing import Callable, Optional

import sqlalchemy as sa

from dnnlib.util import UsageError, UserError
from fingerprints import schema
from fingerprints.clock import now
from fingerprints.database import Database, check_version
from fingerprints.drafts import Draft
from fingerprints.instances import Contradiction, State
from fingerprints.ledger import (
    CHECKPOINTS,
    EVENTS,
    Chain,
    Event,
    Finding,
    parse_event,
    read_notes,
    read_rows,
)
from fingerprints.merkle import Tree, consistency_proof, inclusion_proof
from fingerprints.notes import Checkpoint, SigningKey
from fingerprints.processes import current_actor
from fingerprints.sealing import Sealer, new_parameters
from fingerprints.verification import verify


class Store:
    """A ledger in a database, and its fold.

    Args:
        location: a SQLite file's path, or a database URL ('postgresql://user:password@host/name').
        create: make the file and the tables if they are absent.
        timeout: seconds to wait for another process that is appending.
        key: a passphrase's or key file's bytes; a new registry's codes are encrypted with it. Without the key of an
            encrypted registry everything works but what needs the codes: issuing and attributing.
        actor: who acts, for the record; by default the system's user and host.

    Every method raises UserError, in one line, if the database can't be reached, read or written, or if its ledger was
    tampered with. One object may be used from several threads.
    """

    def __init__(self, location: str, create: bool = False, timeout: float = 120, key: Optional[bytes] = None,
                 actor: Optional[str] = None):
        self._database = Database(str(location), create, timeout)
        self.location = self._database.location
        self._actor = actor or current_actor()
        self._lock = threading.RLock()
        if create:
            self._create(key)
        with self._database.transaction() as connection:
            check_version(schema.version(connection), self.location)
        self._sealer = self._open_sealer(key)
        self._start_over()

    def _create(self, key):
        def first_event(connection):
            sealing = new_parameters(key) if key is not None else None
            first = Chain().next_event(now(), self._actor, 'registry_created', {'version': 2, 'sealing': sealing})
            connection.execute(EVENTS.insert().values(**first.row()))
        self._database.create_tables(first_event)

    # --- the fold ---

    def _start_over(self):
        self._chain, self._tree, self._state = Chain(), Tree(), self._new_state()

    def _new_state(self):
        if self._is_sealed and self._sealer is None:
            return State(None)
        return State(self._sealer.unseal if self._sealer else lambda code, name: code)

    def _open_sealer(self, key):
        """Reads from the first event whether the codes are encrypted. Returns the Sealer, None without key or need."""
        with self._database.transaction() as connection:
            _, text, stored = next(read_rows(connection), (0, '', ''))
        event, _ = Chain().follow(0, text, stored)
        parameters = event.fields.get('sealing') if event else None
        self._is_sealed = parameters is not None
        if self._is_sealed and key is not None:
            return Sealer(key, parameters, self.location)
        if key is not None:
            raise UserError(f'{self.location} is not encrypted; open it without a key')
        return None

    def _catch_up(self, connection):
        """Applies the events appended since the last time, checking each against its hash and its predecessor."""
        start = max(0, self._chain.size - 1)  # the last one known is read again, to see that it is still there
        rows = read_rows(connection, start)
        if self._chain.size and next(rows, (0, '', ''))[2] != self._chain.last:
            self._refuse(f'event {start} was changed or removed')
        for row in rows:
            event, findings = self._chain.follow(*row)
            problem = findings[0].text if findings else self._apply(event)
            if problem:
                self._refuse(problem)
            self._tree.append(bytes.fromhex(row[2]))

    def _refuse(self, problem):
        self._start_over()
        raise UserError(f'{self.location} was tampered with or damaged: {problem}; verify it, and restore it from a '
                        'copy')

    def _apply(self, event: Event) -> Optional[str]:
        """Applies an event to the state. Returns what is wrong with it, None if nothing is."""
        try:
            self._state.apply(event)
        except Contradiction as error:
            return f'event {event.seq} contradicts those before it: {error}'
        return None

    @contextlib.contextmanager
    def _current(self) -> Iterator[State]:
        """Yields the state as it is now."""
        with self._lock:
            with self._database.transaction() as connection:
                self._catch_up(connection)
            yield self._state

    def _append(self, drafts: Callable[[State], Sequence[Draft]]) -> None:
        """Appends the events that `drafts` makes of the state: all of them or none.

        It catches up before it takes the write lock: under the lock only what others appended meanwhile is left to do.
        What is appended is read back and applied before it is kept, so that nothing impossible gets into the ledger.
        """
        with self._current() as state:
            before = self._chain.size
            try:
                with self._database.transaction(write=True) as connection:
                    self._catch_up(connection)
                    before, chain = self._chain.size, copy.copy(self._chain)
                    for kind, fields in drafts(state):
                        row = chain.next_event(now(), self._actor, kind, fields).row()
                        connection.execute(EVENTS.insert().values(**row))
                        chain.follow(row['seq'], row['event'], row['hash'])
                    self._catch_up(connection)
            except BaseException:
                if self._chain.size != before:  # the state has what was not kept: the disk was full, for example
                    self._start_over()
                raise

    def _check_codes_open(self):
        if self._is_sealed and self._sealer is None:
            raise UserError(f'the codes in {self.location} are encrypted; give the key or passphrase (--code-key=FILE, '
                            '--passphrase)')

    def events(self) -> Iterator[Event]:
        """Yields all events in order; codes as the ledger holds them."""
        with self._database.transaction() as connection:
            chain = Chain()
            for row in read_rows(connection):
                event, findings = chain.follow(*row)
                if findings:
                    raise UserError(f'{self.location}: {findings[0].text}; verify it, and restore it from a copy')
                yield event

    def size(self) -> int:
        """Returns the number of events."""
        with self._current():
            return self._chain.size

    def event(self, seq: int) -> Event:
        """Returns event number `seq`, after everything was checked. Raises UsageError if there is none."""
        with self._current():
            if not 0 <= seq < self._chain.size:
                raise UsageError(f'{self.location} has no event {seq}; the last is {self._chain.size - 1}')
            with self._database.transaction() as connection:
                return parse_event(next(read_rows(connection, seq))[1])

    def record_export(self) -> tuple[int, bytes]:
        """Records that the ledger is exported. Returns (size, root) of the ledger, that event included."""
        with self._lock:
            self._append(lambda state: [('ledger_exported', {})])
            return self._chain.size, self._tree.root()

    # --- proofs ---

    def checkpoint(self, key: SigningKey) -> str:
        """Signs how many events there are and the root of their Merkle tree. Returns the note, and keeps a copy.

        Hand the note to someone else (a notary, a lawyer, a timestamping service): what it covers can't be changed
        unseen any more, by no one.
        """
        with self._current():
            note = key.sign(Checkpoint(key.name, self._tree.size, self._tree.root()).text)
            with self._database.transaction(write=True) as connection:
                size = self._tree.size
                if not connection.execute(sa.select(CHECKPOINTS.c.size).where(CHECKPOINTS.c.size == size)).first():
                    connection.execute(CHECKPOINTS.insert().values(size=size, note=note))
        return note

    def checkpoints(self) -> Sequence[str]:
        """Returns the signed notes of all checkpoints, the oldest first."""
        with self._database.transaction() as connection:
            return read_notes(connection)

    def inclusion_proof(self, seq: int, size: int) -> list[bytes]:
        """The hashes that lead from event `seq` to the root of a checkpoint of `size` (`merkle.verify_inclusion`)."""
        if not 0 <= seq < size:
            raise UsageError(f'event {seq} is not among the first {size}; use a later checkpoint')
        return inclusion_proof(self._leaves(size), seq)

    def consistency_proof(self, old_size: int, size: int) -> list[bytes]:
        """The hashes that show a checkpoint to be the beginning of a later one (`merkle.verify_consistency`)."""
        if not 0 < old_size <= size:
            raise UsageError(f'a checkpoint of {old_size} events is not the beginning of one of {size}')
        return consistency_proof(self._leaves(size), old_size)

    def _leaves(self, size):
        """The hashes of the first `size` events, after they were checked."""
        with self._current():
            if size > self._chain.size:
                raise UsageError(f'{self.location} has {self._chain.size} events, not {size}; use its own checkpoint')
            query = sa.select(EVENTS.c.hash).where(EVENTS.c.seq < size).order_by(EVENTS.c.seq)
            with self._database.transaction() as connection:
                return [bytes.fromhex(text) for text in connection.execute(query).scalars()]

    def verify(self, notes: Sequence[str] = ()) -> list[Finding]:
        """Checks every page, row, hash, link and rule. Returns what is wrong: an empty list if nothing is.

        Args:
            notes: checkpoints kept elsewhere. Without one, a ledger rewritten or cut off as a whole looks whole; the
                copies in the registry itself can be removed with it.
        """
        return verify(self._database, self._new_state(), notes)
