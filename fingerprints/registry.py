"""The registry: who was issued which fingerprint. A fold over an append-only ledger of events.

It holds the codes, which are secret: a SQLite file is created readable by its owner only, and a key encrypts the codes
within it. Nothing is ever changed or removed; what was handed out as a signed checkpoint proves that later.
"""
import contextlib
import copy
import dataclasses
import socket
import threading
from collections.abc import Iterator, Sequence
from typing import Any, Callable, Optional

import numpy as np
import sqlalchemy as sa

from dnnlib.util import UsageError, UserError
from fingerprints.clock import now, past_time
from fingerprints.codes import check_num_bits, code_to_text, draw_distant_code, users_possible
from fingerprints.database import Database, schema_version
from fingerprints.drafts import (
    Draft,
    abandoned_draft,
    about_issued,
    about_reserved,
    last_model,
    model_draft,
    registration,
    still_distant,
    takeover,
)
from fingerprints.instances import ISSUED, RESERVED, REVOKED, Contradiction, Instance, Model, State, check_name
from fingerprints.ledger import (
    CHECKPOINTS,
    EVENTS,
    META,
    SCHEMA,
    SCHEMA_VERSION,
    Chain,
    Event,
    Finding,
    read_notes,
    read_rows,
)
from fingerprints.merkle import Tree, consistency_proof, inclusion_proof
from fingerprints.notes import Checkpoint, SigningKey
from fingerprints.processes import current_actor, this_process
from fingerprints.sealing import Sealer, new_parameters
from fingerprints.verification import verify

Instances, Findings, Hashes = list[Instance], list[Finding], list[bytes]  # in Registry, `list` is a method


@dataclasses.dataclass
class Issue:
    """An instance being issued: the caller exports it with `code` [num_bits] uint8, sets `digest` and `instance`."""
    name: str
    code: np.ndarray
    digest: str = ''
    instance: str = ''


class Registry:
    """Who has which instance of which model.

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
            _check_version(connection, self.location)
        self._sealer = self._open_sealer(key)
        self._start_over()

    def _create(self, key):
        def first_event(connection):
            sealing = new_parameters(key) if key is not None else None
            first = Chain().next_event(now(), self._actor, 'registry_created', {'version': 2, 'sealing': sealing})
            connection.execute(EVENTS.insert().values(**first.row()))
        self._database.create_tables(SCHEMA, SCHEMA_VERSION, first_event)

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

    # --- models ---

    def register_model(self, model_digest: str, num_bits: int, minimum_distance: Optional[int] = None) -> None:
        """Adds a model that instances may be issued of. The first is added by the first issue by itself.

        Args:
            model_digest: of the snapshot.
            num_bits: its codes' length.
            minimum_distance: in how many bits any two codes differ at least; by default as many as a million users
                can have at no cost (`codes.default_minimum_distance`).

        Raises:
            UserError: the model is registered already, or a number is out of range.
        """
        draft = model_draft(model_digest, num_bits, minimum_distance)

        def drafts(state):
            if model_digest in state.models:
                raise UserError(f'the model {model_digest[:12]}… is registered already; issue from it')
            return [draft]
        self._append(drafts)

    def model(self) -> Optional[tuple[str, int]]:
        """Returns (model digest, num_bits) of the model registered last, or None before the first issue."""
        with self._current() as state:
            model = last_model(state)
            return (model.digest, model.num_bits) if model else None

    def models(self) -> Sequence[dict[str, Any]]:
        """Returns {model_digest, num_bits, minimum_distance, codes, users_possible} per model, the oldest first.

        codes: how many were drawn. users_possible: for how many a code is certain to be left
        (`codes.users_possible`); think of a new model when half of them are drawn.
        """
        with self._current() as state:
            return [{'model_digest': model.digest, 'num_bits': model.num_bits, 'codes': len(model.holders),
                     'minimum_distance': model.minimum_distance,
                     'users_possible': users_possible(model.num_bits, model.minimum_distance)}
                    for model in state.models.values()]

    # --- issuing ---

    @contextlib.contextmanager
    def issue(self, name: str, model_digest: str, num_bits: int, user: Optional[str] = None) -> Iterator[Issue]:
        """Issues an instance: reserves name and code, lets the caller export without any lock, records the outcome.

            with registry.issue('alice', model_digest, 128) as issue:
                export(issue.code, folder)
                issue.digest, issue.instance = sha256_folder(folder), folder

        If the block raises, the name is free again. If the process is killed, the reservation stays until the same
        command is given again, and `verify` names it. Either way the code counts in `codes` from the reservation on:
        no instance that got out of an export cut short is without a name.

        Args:
            name: the instance's, a safe folder name; the user's own for their only one.
            model_digest: the digest of the snapshot.
            num_bits: the code's length.
            user: whose the instance is, if not called the same.

        Raises:
            UserError: a bad or taken name, a model that is not registered while another is, or no free code left.
        """
        code, reservation = self._reserve(name, model_digest, num_bits, user or name)
        issue = Issue(name, code)
        try:
            yield issue
            assert issue.digest, 'the block must set the digest of the instance it exported'
        except BaseException as error:
            with contextlib.suppress(UserError):  # the block's own error counts; `verify` names what stays
                self._abandon(name, reservation, f'the export failed ({type(error).__name__})')
            raise
        fields = {'name': name, 'reservation': reservation, 'digest': issue.digest, 'location': str(issue.instance)}
        self._append(lambda state: [about_reserved(state, 'instance_issued', fields)])

    def _reserve(self, name, model_digest, num_bits, user):
        """Appends a reservation. Returns the code [num_bits] uint8 and the reservation's number."""
        check_name(name)
        check_name(user)
        check_num_bits(num_bits)
        self._check_codes_open()
        with self._current() as state:  # the code is drawn here, so that the lock need not be held for it
            registration(state, self.location, model_digest, num_bits)
            first = model_draft(model_digest, num_bits, None)[1]
            model = state.models.get(model_digest) or Model(model_digest, num_bits, first['minimum_distance'])
            known = len(model.holders)
            code = draw_distant_code(num_bits, model.minimum_distance, model.codes.packed())
        chosen = {}

        def drafts(state):
            events = registration(state, self.location, model_digest, num_bits)
            events += takeover(state, self.location, name)
            chosen['code'] = still_distant(code, state.models.get(model_digest), known)
            text = code_to_text(chosen['code'])
            chosen['seq'] = self._chain.size + len(events)
            fields = {'name': name, 'user': user, 'model_digest': model_digest, 'process': this_process(),
                      'code': self._sealer.seal(text, name) if self._sealer else text}
            return [*events, ('code_reserved', fields)]
        self._append(drafts)
        return chosen['code'], chosen['seq']

    def _abandon(self, name, reservation, reason):
        fields = {'name': name, 'reservation': reservation, 'reason': reason}
        self._append(lambda state: [about_reserved(state, 'reservation_abandoned', fields)])

    def abandon(self, name: str, reason: str = 'its command was killed') -> None:
        """Frees a name that a killed command on another machine has reserved. Its code still counts in `codes`.

        Raises UserError if the name has no open reservation, or its process still runs.
        """
        def drafts(state):
            instance = state.find(name)
            if instance is None or instance.state != RESERVED:
                raise UserError(f'{name!r} has no open reservation in {self.location}; verify lists those there are')
            if state.processes[name.lower()].get('host') == socket.gethostname():
                return takeover(state, self.location, name)
            return [abandoned_draft(instance, reason)]
        self._append(drafts)

    # --- reading ---

    def get(self, name: str) -> Instance:
        """Returns the Instance of that name, 'NAME#id' if it was abandoned. Raises UserError if there is none."""
        with self._current() as state:
            found = state.find(name) or next((one for one in state.history if one.name == name), None)
        if found is None:
            raise UserError(f'{self.location} knows no user {name!r}; list the registry to see the names')
        return copy.copy(found)

    def list(self) -> Instances:
        """Returns all issued Instances, revoked ones too, in the order of their reservation."""
        return [one for one in self.history() if one.state in (ISSUED, REVOKED)]

    def history(self) -> Instances:
        """Returns all Instances, reserved and abandoned ones too, in the order of their reservation."""
        with self._current() as state:
            return [copy.copy(one) for one in state.history]

    def codes(self, model_digest: Optional[str] = None) -> tuple[Sequence[str], np.ndarray]:
        """Returns (names, codes): U instances' names and their codes [U, num_bits] uint8, in the order of reservation.

        All codes ever drawn for the model (by default the one registered last): revoked users' instances are still out
        there, and an abandoned export may have got out.
        """
        self._check_codes_open()
        with self._current() as state:
            model = last_model(state) if model_digest is None else state.models.get(model_digest)
            if model is None:
                return [], np.zeros([0, 0], np.uint8)
            return [holder.name for holder in model.holders], model.codes.unpacked()

    def code(self, name: str) -> np.ndarray:
        """Returns the code [num_bits] uint8 of the instance of that name. Raises UserError if there is none."""
        names, codes = self.codes(self.get(name).model_digest)
        return codes[names.index(name)]

    def _check_codes_open(self):
        if self._is_sealed and self._sealer is None:
            raise UserError(f'the codes in {self.location} are encrypted; give the key or passphrase')

    def events(self) -> Iterator[Event]:
        """Yields all events in order; codes as the ledger holds them."""
        with self._database.transaction() as connection:
            chain = Chain()
            for row in read_rows(connection):
                event, findings = chain.follow(*row)
                if findings:
                    raise UserError(f'{self.location}: {findings[0].text}; verify it, and restore it from a copy')
                yield event

    # --- misuse and revocation ---

    def note_misuse(self, name: str, reason: str, known_at: Optional[str] = None) -> str:
        """Records that the owner knows of a misuse, from when on 96 hours are left to revoke. Returns the deadline.

        known_at: ISO 8601; now if not given; the earliest one noted counts.

        Raises:
            UserError: there is no such user, or the instance is revoked already. UsageError: a time that can't be read
                or is in the future.
        """
        fields = {'name': name, 'reason': reason, 'known_at': past_time(known_at) or now()}
        self._append(lambda state: [about_issued(state, self.location, 'misuse_known', fields)])
        return self.get(name).revocation_deadline

    def revoke(self, name: str, reason: str = '', known_at: Optional[str] = None) -> None:
        """Records that a user's instance is revoked. The code stays: copies are out there and must be attributed.

        known_at: when the owner knew of the reason, ISO 8601, if that sets a deadline.

        Raises:
            UserError: there is no such user, or the instance is revoked already. UsageError: a time that can't be read
                or is in the future.
        """
        fields = {'name': name, 'reason': reason, 'known_at': past_time(known_at)}
        self._append(lambda state: [about_issued(state, self.location, 'instance_revoked', fields)])

    def overdue(self, at: Optional[str] = None) -> Instances:
        """Returns the Instances whose misuse is known and whose 96 hours are over, while they are not revoked."""
        moment = at or now()
        return [one for one in self.list()
                if one.state == ISSUED and one.revocation_deadline and one.revocation_deadline < moment]

    def record_attribution(self, image_digest: str, findings: dict[str, Any]) -> None:
        """Records that an image, by its sha256, was attributed, and what was found (plain values, no codes)."""
        self._append(lambda state: [('image_attributed', {'image_digest': image_digest, 'findings': findings})])

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

    def inclusion_proof(self, seq: int, size: int) -> Hashes:
        """The hashes that lead from event `seq` to the root of a checkpoint of `size` (`merkle.verify_inclusion`)."""
        if not 0 <= seq < size:
            raise UsageError(f'event {seq} is not among the first {size}; use a later checkpoint')
        return inclusion_proof(self._leaves(size), seq)

    def consistency_proof(self, old_size: int, size: int) -> Hashes:
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

    def verify(self, notes: Sequence[str] = ()) -> Findings:
        """Checks every page, row, hash, link and rule. Returns what is wrong: an empty list if nothing is.

        Args:
            notes: checkpoints kept elsewhere. Without one, a ledger rewritten or cut off as a whole looks whole; the
                copies in the registry itself can be removed with it.
        """
        return verify(self._database, self._new_state(), notes)


def _check_version(connection, location):
    version = schema_version(connection, META)
    if version == '1':
        raise UserError(f'{location} is a registry of version 1; make one of version {SCHEMA_VERSION} of it: '
                        f'python -m fingerprints.migration {location} NEW')
    if version != SCHEMA_VERSION:
        raise UserError(f'{location} has schema version {version}, this program reads {SCHEMA_VERSION}; use the '
                        'program that wrote it')
