"""Every kind of damage is named, and the damaged registry is not used."""
import json

import pytest
from registries import DIGEST, MODEL, issue, tamper

from dnnlib.util import UserError
from fingerprints.ledger import parse_event
from fingerprints.merkle import leaf_hash, verify_consistency, verify_inclusion
from fingerprints.notes import Checkpoint, SigningKey
from fingerprints.registry import Registry

KEY = SigningKey.generate('example.com/fingerprints')


@pytest.fixture
def registry(location):
    """0 created, 1 model, 2 ann reserved, 3 issued, 4 bob reserved, 5 issued, 6 ann revoked."""
    registry = Registry(location, create=True, actor='owner')
    for name in ('ann', 'bob'):
        issue(registry, name)
    registry.revoke('ann', 'left')
    return registry


def kinds(registry, notes=()):
    return [(finding.seq, finding.kind) for finding in registry.verify(notes)]


def rewritten(registry, seq, change, follow=True):
    """SQL that changes an event and its hash, and with `follow` every later event so that the chain fits again."""
    previous, statements = None, []
    for event in list(registry.events())[seq:]:
        record = json.loads(event.text)
        if event.seq == seq:
            change(record)
        elif follow:
            record['previous'] = previous
        text = json.dumps(record, sort_keys=True, separators=(',', ':'))
        previous = leaf_hash(text.encode()).hex()
        statements.append(f"UPDATE events SET event = '{text}', hash = '{previous}' WHERE seq = {event.seq}")
        if not follow:
            break
    return [statement.replace(':', '\\:') for statement in statements]


def test_an_untouched_registry_has_no_findings(registry):
    assert registry.verify() == []
    assert [event.kind for event in registry.events()] == [
        'registry_created', 'model_registered', 'code_reserved', 'instance_issued', 'code_reserved', 'instance_issued',
        'instance_revoked']


SWAP = ['UPDATE events SET seq = 100 WHERE seq = 2', 'UPDATE events SET seq = 2 WHERE seq = 4',
        'UPDATE events SET seq = 4 WHERE seq = 100']


@pytest.mark.parametrize('statements, seq, kind', [
    (["UPDATE events SET event = replace(event, 'bob', 'eve') WHERE seq = 4"], 4, 'edited'),
    (["UPDATE events SET event = replace(event, 'left', 'lost') WHERE seq = 6"], 6, 'edited'),
    (["UPDATE events SET event = 'x' WHERE seq = 6"], 6, 'edited'),
    (["UPDATE events SET hash = 'not hexadecimal' WHERE seq = 6"], 6, 'edited'),
    (['DELETE FROM events WHERE seq = 3'], 3, 'deleted'),
    (['DELETE FROM events WHERE seq < 2'], 0, 'deleted'),
    (SWAP, 2, 'reordered'),
    (['DELETE FROM events WHERE seq = 3', 'UPDATE events SET seq = seq - 1 WHERE seq > 3'], 3, 'reordered')])
def test_damage_is_named_with_its_row(registry, location, statements, seq, kind):
    tamper(location, *statements)
    assert (seq, kind) in kinds(registry)
    with pytest.raises(UserError, match=f'damaged: .*{seq}') as caught:
        Registry(location).list()
    assert '\n' not in str(caught.value)


def test_an_event_replaced_with_its_hash_does_not_fit_the_next(registry, location):
    tamper(location, *rewritten(registry, 4, lambda record: record['fields'].update(name='eve'), follow=False))
    assert (5, 'edited') in kinds(registry)


@pytest.mark.parametrize('text', ['x', '[]', '{}', '{"seq":6}', '[' * 10000])
def test_an_event_that_is_none_is_named(registry, location, text):
    tamper(location, f"UPDATE events SET event = '{text}', hash = '{leaf_hash(text.encode()).hex()}' WHERE seq = 6"
           .replace(':', '\\:'))
    assert kinds(registry) == [(6, 'unreadable')]


def test_an_emptied_ledger_is_named(registry, location):
    tamper(location, 'DELETE FROM events')
    assert kinds(registry) == [(None, 'truncated')]
    with pytest.raises(UserError, match='tampered with or damaged: event 6 was changed or removed'):
        registry.list()


def test_a_registry_in_use_notices_that_its_past_was_replaced(registry, location):
    registry.list()
    tamper(location, *rewritten(registry, 5, lambda record: record['fields'].update(digest='e' * 64)))
    with pytest.raises(UserError, match='event 6 was changed or removed'):
        issue(registry, 'cid')


def test_what_a_checkpoint_covers_cannot_be_changed_even_with_a_chain_that_fits(registry, location):
    note = registry.checkpoint(KEY)
    assert KEY.verifier.verify(note) == Checkpoint.parse(note).text and Checkpoint.parse(note).size == 7
    assert registry.verify([note]) == [] and registry.checkpoints() == [note]
    assert registry.checkpoint(KEY) == note and registry.checkpoints() == [note]
    tamper(location, *rewritten(registry, 6, lambda record: record['fields'].update(reason='nothing')))
    assert kinds(registry) == [(None, 'rewritten')]
    tamper(location, 'DELETE FROM checkpoints')
    assert kinds(registry) == [] and kinds(registry, [note]) == [(None, 'rewritten')]


def test_a_ledger_cut_off_is_found_by_a_checkpoint(registry, location):
    note = registry.checkpoint(KEY)
    tamper(location, 'DELETE FROM events WHERE seq > 4')
    assert (5, 'truncated') in kinds(registry)
    tamper(location, 'DELETE FROM checkpoints')
    assert (5, 'truncated') not in kinds(registry) and (5, 'truncated') in kinds(registry, [note])


def test_what_is_no_checkpoint_is_told(registry):
    assert kinds(registry, ['hello']) == [(None, 'unreadable')]


@pytest.mark.parametrize('seq, change', [
    (1, {'num_bits': 10 ** 9}), (1, {'num_bits': '32'}), (1, {'minimum_distance': 0}), (1, {'minimum_distance': True}),
    (1, {'model_digest': ['a']}), (2, {'name': 'a/b'}), (2, {'user': 7}), (2, {'code': '01'}), (2, {'code': '2' * 32}),
    (2, {'code': '01' * 8}), (2, {'model_digest': 'b' * 64}), (2, {'process': 'p'}), (2, {'process': {'pid': -1}}),
    (2, {'at': 'soon'}), (3, {'reservation': 5}), (3, {'name': 'bob'}), (3, {'digest': None}), (4, {'name': 'ann'}),
    (4, {'name': 'ANN'}), (3, {'onnx_digest': None}),
    (6, {'name': 'eve'}), (6, {'known_at': 'soon'}), (6, {'known_at': 3}), (6, {'reason': None})])
def test_events_that_contradict_those_before_are_named(registry, location, seq, change):
    tamper(location, *rewritten(registry, seq, lambda record: record['fields'].update(change)))
    assert (seq, 'contradiction') in kinds(registry)
    with pytest.raises(UserError, match=f'event {seq} contradicts those before it'):
        Registry(location).list()


@pytest.mark.parametrize('kind, fields, message', [
    ('registry_created', {}, 'created once'), ('dance', {}, "kind 'dance' is unknown"),
    ('model_registered', {'model_digest': MODEL, 'num_bits': 32, 'minimum_distance': 1}, 'is registered already'),
    ('model_registered', {}, 'make no sense'), ('model_registered', {'model_digest': MODEL}, 'make no sense'),
    ('misuse_known', {'name': 'eve', 'known_at': '2026-01-01T00:00:00+00:00'}, "'eve' has no issued instance"),
    ('onnx_issued', {'name': 'eve', 'onnx_digest': DIGEST}, "'eve' was never issued"),
    ('onnx_issued', {'name': 'ann'}, 'make no sense')])
def test_events_out_of_place_are_named(registry, location, kind, fields, message):
    tamper(location, *rewritten(registry, 6, lambda record: record.update(kind=kind, fields=fields)))
    [finding] = registry.verify()
    assert finding.kind == 'contradiction' and message in finding.text


@pytest.mark.parametrize('change', [
    {'seq': '6'}, {'seq': True}, {'fields': []}, {'actor': None}, {'more': 1}, {'time': 5}])
def test_events_of_another_form_are_unreadable(registry, change):
    event = list(registry.events())[-1]
    record = {**json.loads(event.text), **change}
    with pytest.raises(ValueError):
        parse_event(json.dumps(record, sort_keys=True, separators=(',', ':')))
    with pytest.raises(ValueError, match='another way'):
        parse_event(json.dumps(json.loads(event.text)))
    assert parse_event(event.text) == event


def test_proofs_fit_the_checkpoints_and_nothing_else(registry):
    early = Checkpoint.parse(registry.checkpoint(KEY))
    issue(registry, 'cid')
    late = Checkpoint.parse(registry.checkpoint(KEY))
    proof = registry.consistency_proof(early.size, late.size)
    assert verify_consistency(early.size, early.root, late.size, late.root, proof)
    for event in list(registry.events())[:early.size]:
        leaf = leaf_hash(event.text.encode())
        for size, root in ((early.size, early.root), (late.size, late.root)):
            assert verify_inclusion(leaf, event.seq, size, registry.inclusion_proof(event.seq, size), root)
    assert not verify_inclusion(leaf_hash(b'forged'), 3, 7, registry.inclusion_proof(3, 7), early.root)
    for call, message in ((lambda: registry.inclusion_proof(7, 7), 'event 7 is not among the first 7'),
                          (lambda: registry.inclusion_proof(0, 10), 'has 9 events, not 10'),
                          (lambda: registry.consistency_proof(8, 7), 'checkpoint of 8 events is not the beginning'),
                          (lambda: registry.consistency_proof(0, 7), 'checkpoint of 0 events')):
        with pytest.raises(UserError, match=message):
            call()


def test_swapped_names_are_found_out(registry, location):
    """An insider who swaps two users' names is found out, though the table looks whole to the eye."""
    tamper(location, "UPDATE events SET event = replace(event, 'ann', 'tmp') WHERE seq IN (2, 3)",
           "UPDATE events SET event = replace(event, 'bob', 'ann') WHERE seq IN (4, 5)",
           "UPDATE events SET event = replace(event, 'tmp', 'bob') WHERE seq IN (2, 3)")
    assert [finding.kind for finding in registry.verify()][:4] == ['edited'] * 4
    with pytest.raises(UserError, match='event 2 was changed after it was written'):
        Registry(location).codes()


def test_reading_events_of_a_damaged_ledger_stops_there(registry, location):
    tamper(location, "UPDATE events SET event = 'x' WHERE seq = 3")
    seen = []
    with pytest.raises(UserError, match='event 3 was changed'):
        for event in registry.events():
            seen.append(event.seq)
    assert seen == [0, 1, 2]


def test_ledger_holds_what_it_must_and_no_more(registry):
    fields = [event.fields for event in registry.events()]
    assert fields[1] == {'model_digest': MODEL, 'num_bits': 32, 'minimum_distance': 1}
    assert fields[3] == {'name': 'ann', 'reservation': 2, 'digest': DIGEST, 'location': 'instances/ann'}
    assert fields[6] == {'name': 'ann', 'reason': 'left', 'known_at': None}
    assert {event.actor for event in registry.events()} == {'owner'}
