"""What the ledger's events add up to: models, instances and their codes, as a fold over the events."""
import dataclasses
import datetime
import re
from typing import Any, Callable, Optional

import numpy as np

from dnnlib.util import UserError
from fingerprints.codes import check_num_bits, packed, text_to_code, unpacked
from fingerprints.ledger import Event

NAME = re.compile(r'[A-Za-z0-9][A-Za-z0-9._-]{0,63}')
NOT_FOLDERS = re.compile(r'(con|prn|aux|nul|com[0-9]|lpt[0-9])(\..*)?', re.IGNORECASE)  # to Windows
HOURS_TO_REVOKE = 96
LARGEST_SEED = 2 ** 63

RESERVED, ISSUED, REVOKED, ABANDONED = 'reserved', 'issued', 'revoked', 'abandoned'


class Contradiction(Exception):
    """An event that can't follow from those before it."""


def check_name(name: str) -> None:
    """Raises UserError unless `name` can be a user's, and a folder's on any system."""
    if not NAME.fullmatch(name) or name.endswith('.') or NOT_FOLDERS.fullmatch(name):
        raise UserError(f'{name!r} cannot be a user\'s name; use up to 64 letters, digits, ".", "_" and "-", a letter '
                        'or digit first, no "." last, and no name that Windows keeps for itself')


@dataclasses.dataclass(frozen=True)
class Form:
    """In what, besides its code, an instance may differ from others of its model.

    noise_seed: draws fixed noise images of its own, 0 to 2⁶³ − 1; None if it has the model's.
    float16: whether its weights are stored in 16 bits.
    """
    noise_seed: Optional[int] = None
    float16: bool = False

    @property
    def fields(self) -> dict[str, Any]:
        """What the event of its reservation says of it: nothing of what is as usual."""
        given = {'noise_seed': self.noise_seed, 'float16': self.float16}
        return {key: value for key, value in given.items() if value is not None and value is not False}

    @classmethod
    def of_fields(cls, fields: dict[str, Any]) -> 'Form':
        """The Form in an event's fields. Raises ValueError if it is none."""
        seed, float16 = fields.get('noise_seed'), fields.get('float16', False)
        if type(float16) is not bool or not (seed is None or type(seed) is int and 0 <= seed < LARGEST_SEED):
            raise ValueError(f'noise_seed {seed!r} or float16 {float16!r} is none')
        return cls(seed, float16)


@dataclasses.dataclass
class Instance:
    """One instance, or the reservation of one.

    id: the number of the event that reserved its code. name: its own, and its folder's; 'NAME#id' once abandoned.
    user: whose it is. model_digest: of the snapshot it came from. state: 'reserved', 'issued', 'revoked', or
    'abandoned' (its export failed or was killed; its code still counts, since parts may have got out).
    digest: the sha256 of its folder. location: that folder when it was issued. onnx_digests: the sha256s of its ONNX
    files, but for those of programs that did not record them. Times are UTC, ISO 8601.
    known_at: when the owner knew of the misuse that asks for its revocation. form: what it differs in from others.
    """
    id: int
    name: str
    user: str
    model_digest: str
    state: str
    reserved_at: str
    issued_at: Optional[str] = None
    digest: str = ''
    location: str = ''
    known_at: Optional[str] = None
    revoked_at: Optional[str] = None
    reason: Optional[str] = None
    form: Form = Form()
    onnx_digests: tuple[str, ...] = ()

    @property
    def revocation_deadline(self) -> Optional[str]:
        """By when it must be revoked: 96 hours after the misuse was known. None if none is known."""
        if self.known_at is None:
            return None
        deadline = datetime.datetime.fromisoformat(self.known_at) + datetime.timedelta(hours=HOURS_TO_REVOKE)
        return deadline.isoformat(timespec='seconds')


class Codes:
    """A growing matrix of packed codes [U, bytes] uint8."""

    def __init__(self, num_bits: int):
        self._num_bits, self._count = num_bits, 0
        self._rows = np.zeros([16, -(-num_bits // 8)], np.uint8)

    def append(self, code: np.ndarray) -> None:
        """Adds a code [bits] 0/1."""
        if self._count == len(self._rows):
            self._rows = np.concatenate([self._rows, np.zeros_like(self._rows)])
        self._rows[self._count] = packed(code)
        self._count += 1

    def packed(self) -> np.ndarray:
        """The codes, eight bits a byte: [U, bytes] uint8."""
        return self._rows[:self._count]

    def unpacked(self) -> np.ndarray:
        """The codes [U, bits] uint8 0/1."""
        return unpacked(self.packed(), self._num_bits)


class Model:
    """A trained model that instances are issued of: its digest, its codes' length and least distance, and the codes.

    holders: the Instances whose codes these are, in the same order.
    """

    def __init__(self, digest: str, num_bits: int, minimum_distance: int):
        self.digest, self.num_bits, self.minimum_distance = digest, num_bits, minimum_distance
        self.codes, self.holders = Codes(num_bits), []


class State:
    """Models by digest, and instances by name, after the events applied so far.

    Args:
        unseal: turns a code as the ledger holds it into '0' and '1', given the instance's name; None if the codes are
            encrypted and there is no key: then `Model.codes` stay empty.
    """

    def __init__(self, unseal: Optional[Callable[[str, str], str]]):
        self._unseal = unseal
        self.models: dict[str, Model] = {}
        self.instances: dict[str, Instance] = {}  # those not abandoned, by name in small letters
        self.history: list[Instance] = []         # all, in the order of their reservation
        self.processes: dict[str, dict[str, Any]] = {}  # of open reservations, by name in small letters

    def find(self, name: str) -> Optional[Instance]:
        """The instance of that name, small and capital letters alike; None if there is none."""
        return self.instances.get(name.lower())

    def apply(self, event: Event) -> None:
        """Takes the next event. Raises Contradiction if it can't follow from those before."""
        handler = HANDLERS.get(event.kind)
        if handler is None:
            raise Contradiction(f'its kind {event.kind!r} is unknown; a newer program wrote it')
        try:
            handler(self, event, event.fields)
        except (KeyError, TypeError, ValueError, UserError) as error:
            raise Contradiction(f'its fields make no sense ({type(error).__name__}: {error})') from None

    def _created(self, event, fields):
        if event.seq:
            raise Contradiction('a registry is created once')

    def _model_registered(self, event, fields):
        digest, num_bits, distance = _text(fields, 'model_digest'), fields['num_bits'], fields['minimum_distance']
        if digest in self.models:
            raise Contradiction(f'the model {digest[:12]} is registered already')
        check_num_bits(num_bits)
        if not 1 <= distance <= num_bits or type(distance) is not int or type(num_bits) is not int:
            raise Contradiction(f'{distance} is no minimum distance of codes of {num_bits} bits')
        self.models[digest] = Model(digest, num_bits, distance)

    def _code_reserved(self, event, fields):
        name, user, model = _text(fields, 'name'), _text(fields, 'user'), self.models.get(fields['model_digest'])
        check_name(name)
        check_name(user)
        if self.find(name) or model is None:
            raise Contradiction(f'{name!r} has an instance already' if model else 'its model is not registered')
        instance = Instance(event.seq, name, user, model.digest, RESERVED, _when(event),
                            form=Form.of_fields(fields))
        process = _process(fields)
        if self._unseal is not None:
            code = text_to_code(self._unseal(_text(fields, 'code'), name))
            if len(code) != model.num_bits:
                raise Contradiction(f'its code has {len(code)} bits, its model {model.num_bits}')
            model.codes.append(code)
        model.holders.append(instance)
        self.instances[name.lower()] = instance
        self.history.append(instance)
        self.processes[name.lower()] = process

    def _open(self, fields):
        """The open reservation that an event of these fields ends."""
        instance = self.find(fields['name'])
        if instance is None or instance.state != RESERVED or instance.id != fields['reservation']:
            raise Contradiction(f'{fields["name"]!r} has no open reservation of event {fields["reservation"]}')
        del self.processes[instance.name.lower()]
        return instance

    def _issued(self, event, fields):
        instance = self._open(fields)
        instance.state, instance.issued_at = ISSUED, _when(event)
        instance.digest, instance.location = _text(fields, 'digest'), _text(fields, 'location')
        if 'onnx_digest' in fields:
            instance.onnx_digests = (_text(fields, 'onnx_digest'),)

    def _onnx_issued(self, event, fields):
        instance = self.find(fields['name'])
        if instance is None or instance.issued_at is None:
            raise Contradiction(f'{fields["name"]!r} was never issued')
        instance.onnx_digests += (_text(fields, 'onnx_digest'),)

    def _abandoned(self, event, fields):
        instance = self._open(fields)
        del self.instances[instance.name.lower()]  # the name is free again, the code is not
        instance.state, instance.reason = ABANDONED, _text(fields, 'reason')
        instance.name = f'{instance.name}#{instance.id}'

    def _issued_instance(self, fields):
        instance = self.find(fields['name'])
        if instance is None or instance.state != ISSUED:
            raise Contradiction(f'{fields["name"]!r} has no issued instance')
        return instance

    def _misuse_known(self, event, fields):
        instance = self._issued_instance(fields)
        instance.known_at = _earlier(instance.known_at, _text(fields, 'known_at'))
        instance.reason = _text(fields, 'reason')

    def _revoked(self, event, fields):
        instance = self._issued_instance(fields)
        instance.state, instance.revoked_at = REVOKED, _when(event)
        instance.reason = _text(fields, 'reason')
        instance.known_at = _earlier(instance.known_at, fields['known_at'])

    def _noted(self, event, fields):
        """Kinds that change nothing: who attributed or exported what is in the ledger itself."""


def _text(fields, key):
    if not isinstance(fields[key], str):
        raise ValueError(f'{key} is not a text')
    return fields[key]


def _when(event):
    """When it happened: when it was recorded, but for what was taken over from a registry of version 1."""
    return _earlier(None, event.fields.get('at', event.time))


def _earlier(known, time):
    """The earlier of two times, either of which may be None. Raises ValueError for what is no time of the ledger's."""
    if time is not None:
        datetime.datetime.fromisoformat(time)
    return min(filter(None, [known, time]), default=None)


def _process(fields):
    process = fields.get('process', {})
    if not isinstance(process, dict) or (process and (type(process['pid']) is not int or process['pid'] < 1)):
        raise ValueError('process is none')
    return process


HANDLERS = {
    'registry_created': State._created, 'model_registered': State._model_registered,
    'code_reserved': State._code_reserved, 'instance_issued': State._issued, 'onnx_issued': State._onnx_issued,
    'reservation_abandoned': State._abandoned, 'misuse_known': State._misuse_known,
    'instance_revoked': State._revoked, 'image_attributed': State._noted, 'ledger_exported': State._noted}
