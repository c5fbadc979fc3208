"""What the ledger can show of an instance: its events, proven to be among those that a signed checkpoint covers."""
import base64
from typing import Any, Optional

from dnnlib.util import UserError
from fingerprints.instances import Instance
from fingerprints.notes import Checkpoint, VerifierKey
from fingerprints.proofs import event_proof
from fingerprints.registry import Registry

NONE_COVERS = ('no signed checkpoint covers the events of this instance, so that this report cannot show when they '
               'were entered; the command checkpoint makes one, which must then be handed to someone else')


def proven_events(registry: Registry, instance: Instance, note: Optional[str], key: Optional[VerifierKey],
                  with_code: bool) -> dict[str, Any]:
    """The events of an instance with what proves each: its text, its number, the hashes that lead to the root.

    Args:
        registry: the ledger.
        instance: whose events.
        note: the signed checkpoint; None for the oldest in the registry that covers them, which says most.
        key: the owner's public key, with which the checkpoint is checked, if there is one.
        with_code: take the reservation too, whose text holds the code (encrypted, where the codes are).

    Returns:
        {checkpoint: the note, size, public_key: as it was checked with or None, proofs: [{kind, time, index, event,
        hashes in Base64}]}; or {missing: why}.

    Raises:
        UserError: `note` is no checkpoint of this ledger, was signed before these events, or not by `key`.
    """
    events = [event for event in registry.events() if _is_about(event, instance, with_code)]
    note = note or _oldest_covering(registry, max((event.seq for event in events), default=instance.id))
    if note is None:
        return {'missing': NONE_COVERS}
    if key:
        key.verify(note)
    checkpoint = Checkpoint.parse(note)
    late = [event.seq for event in events if event.seq >= checkpoint.size]
    if late:
        raise UserError(f'event {late[0]} of {instance.name!r} came after that checkpoint of {checkpoint.size} events; '
                        'name a later one, or leave --checkpoint out')
    proofs = []
    for event in events:
        event_proof(registry, event.seq, note)  # which refuses a checkpoint of another ledger
        hashes = registry.inclusion_proof(event.seq, checkpoint.size)
        proofs.append({'kind': event.kind, 'time': event.time, 'index': event.seq, 'event': event.text,
                       'hashes': [base64.b64encode(one).decode() for one in hashes]})
    return {'checkpoint': note, 'origin': checkpoint.origin, 'size': checkpoint.size,
            'public_key': key.text if key else None, 'proofs': proofs}


def _is_about(event, instance, with_code):
    """Whether an event reserved, issued or abandoned this very instance."""
    if event.seq == instance.id:
        return with_code
    return event.kind in ('instance_issued', 'reservation_abandoned') and event.fields['reservation'] == instance.id


def _oldest_covering(registry, seq):
    notes = [note for note in registry.checkpoints() if Checkpoint.parse(note).size > seq]
    return notes[0] if notes else None
