"""The registry: who was issued which fingerprint. A fold over an append-only ledger of events.

It holds the codes, which are secret: a SQLite file is created readable by its owner only, and a key encrypts the codes
within it. Nothing is ever changed or removed; what was handed out as a signed checkpoint proves that later.
"""
import contextlib
import copy
import dataclasses
import socket
from collections.abc import Iterator, Sequence
from typing import Any, Optional

import numpy as np

from dnnlib.util import UserError
from fingerprints.clock import now, past_time
from fingerprints.codes import check_num_bits, code_to_text, draw_distant_code, users_possible
from fingerprints.drafts import (
    abandoned_draft,
    about_issued,
    about_reserved,
    last_model,
    model_draft,
    registration,
    still_distant,
    takeover,
    unfinished,
)
from fingerprints.instances import ISSUED, RESERVED, REVOKED, Form, Instance, Model, check_name
from fingerprints.processes import this_process
from fingerprints.store import Store

Instances = list[Instance]  # in Registry, `list` is a method


@dataclasses.dataclass
class Issue:
    """An instance being issued: the caller exports it with `code` [num_bits] uint8, sets `digest` and `instance`.

    onnx_digest: set too if there is an ONNX file of it.
    """
    name: str
    code: np.ndarray
    digest: str = ''
    instance: str = ''
    onnx_digest: str = ''


class Registry(Store):
    """Who has which instance of which model: the ledger's `Store`, with what may be asked of it and done to it.

    Raises what `Store` raises.
    """

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
    def issue(self, name: str, model_digest: str, num_bits: int, user: Optional[str] = None,
              form: Optional[Form] = None) -> Iterator[Issue]:
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
            form: what it differs in from others, which the ledger remembers.

        Raises:
            UserError: a bad or taken name, a model that is not registered while another is, or no free code left.
        """
        code, reservation = self._reserve(name, model_digest, num_bits, user or name, form or Form())
        issue = Issue(name, code)
        try:
            yield issue
            assert issue.digest, 'the block must set the digest of the instance it exported'
        except BaseException as error:
            with contextlib.suppress(UserError):  # the block's own error counts; `verify` names what stays
                self._abandon(name, reservation, f'the export failed ({type(error).__name__})')
            raise
        self._enter(name, reservation, issue.digest, str(issue.instance), issue.onnx_digest)

    def _enter(self, name, reservation, digest, location, onnx_digest):
        fields = {'name': name, 'reservation': reservation, 'digest': digest, 'location': location}
        if onnx_digest:
            fields['onnx_digest'] = onnx_digest
        self._append(lambda state: [about_reserved(state, 'instance_issued', fields)])

    def _reserve(self, name, model_digest, num_bits, user, form):
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
                      'code': self._sealer.seal(text, name) if self._sealer else text, **form.fields}
            return [*events, ('code_reserved', fields)]
        self._append(drafts)
        return chosen['code'], chosen['seq']

    def _abandon(self, name, reservation, reason):
        fields = {'name': name, 'reservation': reservation, 'reason': reason}
        self._append(lambda state: [about_reserved(state, 'reservation_abandoned', fields)])

    def unfinished(self, name: str) -> Optional[Instance]:
        """Returns the reservation of `name` that a killed command of this machine left; None if there is none."""
        with self._current() as state:
            return copy.copy(unfinished(state, name))

    def finish(self, reservation: Instance, digest: str, instance: str, onnx_digest: str = '') -> None:
        """Records that a killed command had exported its instance whole.

        Args:
            reservation: what `unfinished` returned.
            digest: the sha256 of the exported folder, after the caller has seen that it holds this code.
            instance: the folder.
            onnx_digest: the sha256 of its ONNX file, if there is one.

        Raises:
            UserError: someone else ended the reservation meanwhile.
        """
        self._enter(reservation.name, reservation.id, digest, instance, onnx_digest)

    def record_onnx(self, name: str, onnx_digest: str) -> None:
        """Records the sha256 of an ONNX file that is made of an issued instance, revoked or not.

        Raises UserError if there is no such instance.
        """
        fields = {'name': name, 'onnx_digest': onnx_digest}
        self._append(lambda state: [about_issued(state, self.location, 'onnx_issued', fields, may_be_revoked=True)])

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
