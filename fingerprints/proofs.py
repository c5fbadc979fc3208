"""Proofs as files: a stranger checks them with the owner's public key, without the registry and without the owner.

That an event was in the ledger at a checkpoint is C2SP's tlog-proof (the event is its 'extra'), so other programs read
it. That one checkpoint is the beginning of a later one is written as C2SP's witnesses take it: 'old SIZE', a hash a
line, and the later checkpoint.
"""
import base64
from collections.abc import Sequence

from dnnlib.util import UserError
from fingerprints.ledger import Event, parse_event
from fingerprints.merkle import leaf_hash, verify_consistency, verify_inclusion
from fingerprints.notes import Checkpoint, VerifierKey, decode_base64
from fingerprints.store import Store

INCLUSION = 'c2sp.org/tlog-proof@v1'
CONSISTENCY = 'old'


def event_proof(store: Store, seq: int, note: str) -> str:
    """The text of a file that shows that event `seq` was in the ledger when the checkpoint `note` was signed.

    The file holds the event's whole text: that of a 'code_reserved' event holds the user's code.

    Raises:
        UserError: the note is no checkpoint of this ledger, or was signed before that event.
    """
    checkpoint = Checkpoint.parse(note)
    hashes = store.inclusion_proof(seq, checkpoint.size)
    event = store.event(seq)
    leaf = leaf_hash(event.text.encode())
    if not verify_inclusion(leaf, seq, checkpoint.size, hashes, checkpoint.root):
        raise _foreign(store)
    head = [INCLUSION, f'extra {_base64(event.text.encode())}', f'index {seq}']
    return _text([*head, *map(_base64, hashes)], note)


def growth_proof(store: Store, old_note: str, note: str) -> str:
    """The text of a file that shows that the checkpoint `note` has all events of `old_note`, and only added to them.

    Raises:
        UserError: either is no checkpoint of this ledger, or `old_note` has more events.
    """
    old, new = Checkpoint.parse(old_note), Checkpoint.parse(note)
    hashes = store.consistency_proof(old.size, new.size)
    if not verify_consistency(old.size, old.root, new.size, new.root, hashes):
        raise _foreign(store)
    return _text([f'{CONSISTENCY} {old.size}', *map(_base64, hashes)], note)


def _foreign(store):
    return UserError(f'that is no checkpoint of the ledger in {store.location}; name one of its own, or verify it')


def _base64(data):
    return base64.b64encode(data).decode()


def _text(lines, note):
    return '\n'.join(lines) + '\n\n' + note


def check_event_proof(text: str, key: VerifierKey) -> tuple[Event, Checkpoint]:
    """Checks what `event_proof` wrote. Returns the event and the checkpoint that it was covered by.

    Raises:
        UserError: it is no such file, `key` did not sign its checkpoint, or it proves nothing.
    """
    lines, checkpoint = _open(text, key)
    if len(lines) < 3 or lines[0] != INCLUSION or not lines[1].startswith('extra ') or lines[2][:6] != 'index ':
        raise UserError(f'this is no proof of an event; its first lines read {INCLUSION}, extra, index')
    data, seq, hashes = decode_base64(lines[1][6:]), _number(lines[2][6:]), _hashes(lines[3:])
    if not verify_inclusion(leaf_hash(data or b''), seq, checkpoint.size, hashes, checkpoint.root):
        raise UserError(f'the proof does not hold: event {seq} was not in the ledger of that checkpoint as it is here')
    try:
        return parse_event(data.decode()), checkpoint
    except ValueError:
        raise UserError(f'entry {seq} is in that ledger, but is no event of a registry') from None


def check_growth_proof(text: str, old_note: str, key: VerifierKey) -> tuple[Checkpoint, Checkpoint]:
    """Checks what `growth_proof` wrote against the earlier checkpoint. Returns the earlier and the later one.

    Raises:
        UserError: it is no such file, `key` did not sign both checkpoints, or it proves nothing.
    """
    lines, new = _open(text, key)
    old = Checkpoint.parse(key.verify(old_note))
    if not lines or lines[0] != f'{CONSISTENCY} {old.size}':
        raise UserError(f'this is no proof that starts from a checkpoint of {old.size} events; '
                        f'its first line reads {CONSISTENCY} {old.size}')
    if not verify_consistency(old.size, old.root, new.size, new.root, _hashes(lines[1:])):
        raise UserError(f'the proof does not hold: the ledger of {new.size} events does not begin with that of '
                        f'{old.size}')
    return old, new


def _open(text: str, key: VerifierKey) -> tuple[Sequence[str], Checkpoint]:
    """The lines before the checkpoint, and the checkpoint, whose signature is checked."""
    head, _, note = text.partition('\n\n')
    return head.split('\n'), Checkpoint.parse(key.verify(note))


def _number(text):
    if not (text.isascii() and text.isdigit()) or len(text) > 18:
        raise UserError(f'{text[:20]!r} is no event\'s number; the proof was changed')
    return int(text)


def _hashes(lines):
    hashes = [decode_base64(line) for line in lines]
    if any(one is None or len(one) != 32 for one in hashes):
        raise UserError('a line of the proof is no hash; it was changed')
    return hashes
