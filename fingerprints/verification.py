"""Checking a whole registry: every page, row, hash, link and rule, and the checkpoints that were handed out."""
import socket
from collections.abc import Sequence
from typing import Optional

from dnnlib.util import UserError
from fingerprints.database import Database
from fingerprints.instances import Contradiction, State
from fingerprints.ledger import Chain, Event, Finding, read_notes, read_rows
from fingerprints.merkle import Tree
from fingerprints.notes import Checkpoint
from fingerprints.processes import describe, has_ended, this_process

HERE, ELSEWHERE = 'the registry', 'the one handed out'


def verify(database: Database, state: State, notes: Sequence[str]) -> list[Finding]:
    """What is wrong with the registry in `database`; an empty list if nothing is.

    Args:
        state: an empty State, to apply the events to.
        notes: the texts of checkpoints kept elsewhere, to compare with besides those in the registry.

    Raises:
        UserError: the database can't be read at all.
    """
    pages = database.broken_pages()
    if pages:
        return [Finding(None, 'page', f'{database.location} is damaged: {line}') for line in pages]
    with database.transaction() as connection:
        stored = read_notes(connection)
        checkpoints, findings = _read_checkpoints([(HERE, text) for text in stored] +
                                                  [(ELSEWHERE, text) for text in notes])
        wanted = {checkpoint.size for _, checkpoint in checkpoints}
        chain, tree, roots = Chain(), Tree(), {}
        for row in read_rows(connection):
            event, found = chain.follow(*row)
            findings += found or _contradictions(state, event)
            tree.append(_leaf(row[2]))
            if tree.size in wanted:
                roots[tree.size] = tree.root()
    if not tree.size:
        findings.append(Finding(None, 'truncated', f'{database.location} has no events at all'))
    for origin, checkpoint in checkpoints:
        findings += _compare(origin, checkpoint, roots, tree.size)
    return findings + leftovers(state)


def _leaf(stored):
    """The hash in a row as bytes; something else's, if it is not even hexadecimal (the chain has told so already)."""
    try:
        return bytes.fromhex(stored)
    except ValueError:
        return stored.encode('utf-8', 'surrogatepass')


def _contradictions(state: State, event: Optional[Event]) -> list[Finding]:
    try:
        state.apply(event)
    except Contradiction as error:
        return [Finding(event.seq, 'contradiction', f'event {event.seq} contradicts those before it: {error}')]
    return []


def _read_checkpoints(texts):
    """([(origin, Checkpoint)], findings about those that can't be read)."""
    checkpoints, findings = [], []
    for origin, text in texts:
        try:
            checkpoints.append((origin, Checkpoint.parse(text)))
        except UserError as error:
            findings.append(Finding(None, 'unreadable', f'a checkpoint of {origin} cannot be read: {error}'))
    return checkpoints, findings


def _compare(origin, checkpoint, roots, size):
    """What a checkpoint shows to be missing or changed, given the tree's roots at each checkpoint's size."""
    if checkpoint.size > size:
        return [Finding(size, 'truncated', f'events {size} to {checkpoint.size - 1} are missing: a checkpoint of '
                        f'{origin} has {checkpoint.size} events')]
    if roots.get(checkpoint.size) != checkpoint.root:
        return [Finding(None, 'rewritten', f'the first {checkpoint.size} events are not those of a checkpoint of '
                        f'{origin}')]
    return []


def leftovers(state: State) -> list[Finding]:
    """A finding for each open reservation but those whose process still runs on this host."""
    findings = []
    for name, process in state.processes.items():
        if process == this_process() or (process.get('host') == socket.gethostname() and not has_ended(process)):
            continue
        instance = state.find(name)
        findings.append(Finding(
            instance.id, 'leftover', f'{instance.name!r} was reserved on {instance.reserved_at} by '
            f'{describe(process)} and never issued; issue it again, or abandon it, and remove what its export left'))
    return findings
