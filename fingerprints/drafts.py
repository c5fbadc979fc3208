"""Which events may follow: each function makes the draft of one, or says in one line why it must not be."""
from typing import Any, Optional

import numpy as np

from dnnlib.util import UserError
from fingerprints.codes import check_num_bits, default_minimum_distance, distances, draw_distant_code, packed
from fingerprints.instances import ABANDONED, RESERVED, REVOKED, Instance, Model, State
from fingerprints.processes import describe, has_ended

Draft = tuple[str, dict[str, Any]]  # an event's kind and fields


def last_model(state: State) -> Optional[Model]:
    """The model registered last; None if there is none."""
    return next(reversed(state.models.values()), None)


def model_draft(model_digest: str, num_bits: int, minimum_distance: Optional[int]) -> Draft:
    """The event that registers a model. Raises UserError if a number is out of range."""
    check_num_bits(num_bits)
    distance = default_minimum_distance(num_bits) if minimum_distance is None else minimum_distance
    if not 1 <= distance <= num_bits:
        raise UserError(f'a minimum distance of {distance} makes no sense for {num_bits} bits; choose 1 to {num_bits}')
    return 'model_registered', {'model_digest': model_digest, 'num_bits': num_bits, 'minimum_distance': distance}


def registration(state: State, location: str, model_digest: str, num_bits: int) -> list[Draft]:
    """The event that registers the first model; none if the model is known. Raises UserError if another is."""
    model = state.models.get(model_digest)
    if model is None and state.models:
        raise UserError(f'{location} belongs to the model {last_model(state).digest[:12]}…, this one is '
                        f'{model_digest[:12]}…; register the new model first, or use another registry')
    if model is not None and model.num_bits != num_bits:
        raise UserError(f'{location} has codes of {model.num_bits} bits for the model {model_digest[:12]}…, '
                        f'not {num_bits}; issue from the snapshot it was registered with')
    return [model_draft(model_digest, num_bits, None)] if model is None else []


def takeover(state: State, location: str, name: str) -> list[Draft]:
    """The event that ends a killed command's reservation of `name`; none if it is free. Raises UserError if not."""
    instance = state.find(name)
    if instance is None:
        return []
    if instance.state != RESERVED:
        raise UserError(f'{name!r} has an instance already{_spelled(instance, name)}; choose another name')
    process = state.processes[name.lower()]
    if not has_ended(process):
        raise UserError(f'{name!r} is being issued by {describe(process)} since {instance.reserved_at}; wait for it, '
                        f'or abandon the reservation in {location} if it is dead')
    return [abandoned_draft(instance, f'{describe(process)} was killed')]


def unfinished(state: State, name: str) -> Optional[Instance]:
    """The open reservation of `name` whose process is known to have ended; None if there is none."""
    instance = state.find(name)
    if instance is None or instance.state != RESERVED or not has_ended(state.processes[name.lower()]):
        return None
    return instance


def _spelled(instance, name):
    return '' if instance.name == name else f', spelled {instance.name!r}'


def abandoned_draft(instance: Instance, reason: str) -> Draft:
    """The event that frees an open reservation's name."""
    return 'reservation_abandoned', {'name': instance.name, 'reservation': instance.id, 'reason': reason}


def still_distant(code: np.ndarray, model: Optional[Model], known: int) -> np.ndarray:
    """`code`, if it keeps its distance from the codes that others drew since `known` were there; else a new one.

    Either way the code is uniform over those that keep their distance from all.
    """
    if model is None:
        return code
    fresh = model.codes.packed()[known:]
    if not len(fresh) or distances(packed(code), fresh).min() >= model.minimum_distance:
        return code
    return draw_distant_code(model.num_bits, model.minimum_distance, model.codes.packed())


def about_reserved(state: State, kind: str, fields: dict[str, Any]) -> Draft:
    """The draft of an event that ends a reservation. Raises UserError if it has been ended by someone else."""
    instance = state.find(fields['name'])
    if instance is None or instance.state != RESERVED or instance.id != fields['reservation']:
        raise UserError(f'the reservation of {fields["name"]!r} was abandoned meanwhile; remove what was exported for '
                        'it, and issue it again')
    return kind, fields


def about_issued(state: State, location: str, kind: str, fields: dict[str, Any], may_be_revoked: bool = False) -> Draft:
    """The draft of an event about an issued instance. Raises UserError if there is none, or it is revoked."""
    instance = state.find(fields['name'])
    if instance is None or instance.state in (RESERVED, ABANDONED):
        raise UserError(f'{location} knows no user {fields["name"]!r}; list the registry to see the names')
    if instance.state == REVOKED and not may_be_revoked:
        raise UserError(f'{instance.name!r} was revoked already, on {instance.revoked_at}')
    return kind, {**fields, 'name': instance.name}
