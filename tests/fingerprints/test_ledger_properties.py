"""Whatever is done to a registry, in any order: it says what a plain dictionary says, and any change is found."""
import contextlib
import os
import shutil
import sqlite3
import tempfile

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from registries import DIGEST, MODEL, issue

from dnnlib.util import UserError
from fingerprints.notes import SigningKey
from fingerprints.registry import Registry
from fingerprints.transfer import export_ledger, import_ledger

KEY = SigningKey.generate('example.com/fingerprints')
NAMES = st.sampled_from(['ann', 'Ann', 'bob'])
ACTIONS = st.lists(st.tuples(st.sampled_from(['issue', 'fail', 'revoke', 'misuse', 'attribute', 'reopen']), NAMES),
                   max_size=12)


class Plain:
    """A registry as a dictionary: {name in small letters: 'issued' or 'revoked'}, and how many codes were drawn."""

    def __init__(self):
        self.states, self.codes = {}, 0

    def allows(self, action, name):
        """Whether the action may be done; does it."""
        state = self.states.get(name.lower())
        if action in ('issue', 'fail'):
            self.codes += state is None
            if state is None and action == 'issue':
                self.states[name.lower()] = 'issued'
            return state is None
        if action in ('revoke', 'misuse'):
            if state == 'issued' and action == 'revoke':
                self.states[name.lower()] = 'revoked'
            return state == 'issued'
        return True


def act(registry, action, name):
    if action == 'issue':
        issue(registry, name)
    elif action == 'fail':
        with contextlib.suppress(RuntimeError), registry.issue(name, MODEL, 32):
            raise RuntimeError
    elif action == 'revoke':
        registry.revoke(name, 'left')
    elif action == 'misuse':
        registry.note_misuse(name, 'sold it')
    elif action == 'attribute':
        registry.record_attribution(DIGEST, {'user': name})


@given(ACTIONS)
@settings(max_examples=25, deadline=None)
def test_any_sequence_of_actions_adds_up_to_what_a_dictionary_says(actions):
    plain = Plain()
    with tempfile.TemporaryDirectory() as folder:
        registry = Registry(f'{folder}/r.sqlite', create=True)
        for action, name in actions:
            registry = Registry(registry.location) if action == 'reopen' else registry
            before = registry.size()
            if plain.allows(action, name):
                act(registry, action, name)
            else:
                with pytest.raises(UserError):
                    act(registry, action, name)
                assert registry.size() == before  # what is refused leaves no trace
        assert {one.name.lower(): one.state for one in registry.list()} == plain.states
        assert len(registry.codes()[0]) == plain.codes and registry.verify() == []
        assert Registry(registry.location).history() == registry.history()
        export_ledger(registry, f'{folder}/l.jsonl')
        import_ledger(f'{folder}/l.jsonl', f'{folder}/again.sqlite')
        again = Registry(f'{folder}/again.sqlite')
        assert list(again.events()) == list(registry.events()) and again.history() == registry.history()


@pytest.fixture(scope='module')
def whole(tmp_path_factory):
    """The file of a registry of 8 events, and a checkpoint of it that was handed out."""
    registry = Registry(tmp_path_factory.mktemp('whole') / 'r.sqlite', create=True)
    for name in ('ann', 'bob'):
        issue(registry, name)
    registry.revoke('ann', 'left')
    registry.record_attribution(DIGEST, {'user': 'bob'})
    assert registry.size() == 8
    return registry.location, registry.checkpoint(KEY)


def changed_at(text, place, character):
    """The text with one character replaced by another one."""
    place %= len(text)
    other = character if character != text[place] else chr(ord(character) ^ 1)
    return text[:place] + other + text[place + 1:]


CHANGES = st.tuples(st.sampled_from(['event', 'hash', 'delete', 'swap', 'truncate']), st.integers(0, 7),
                    st.integers(0, 10 ** 6), st.characters(codec='ascii', exclude_categories=['Cc']))


@given(CHANGES)
@settings(max_examples=60, deadline=None)
def test_any_change_of_any_row_is_found_and_its_row_named(whole, change):
    location, note = whole
    kind, seq, place, character = change
    with tempfile.TemporaryDirectory() as folder:
        path = shutil.copy(location, os.path.join(folder, 'r.sqlite'))
        with contextlib.closing(sqlite3.connect(path)) as connection, connection:
            damage(connection, kind, seq, place, character)
        findings = Registry(path).verify([note])
    assert findings and findings[0].kind in {
        'event': ('edited',), 'hash': ('edited',), 'delete': ('deleted', 'truncated'), 'swap': ('reordered',),
        'truncate': ('truncated',)}[kind]
    emptied = kind == 'truncate' and seq == 0  # there is no row left to name
    assert findings[0].seq == (None if emptied else min(seq, 6) if kind == 'swap' else seq)


def damage(connection, kind, seq, place, character):
    """Does to a registry's rows, through SQLite itself, what no one should, after taking off what refuses it."""
    for [name] in connection.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
        connection.execute(f'DROP TRIGGER {name}')
    if kind in ('event', 'hash'):
        [[text]] = connection.execute(f'SELECT {kind} FROM events WHERE seq = ?', [seq])
        connection.execute(f'UPDATE events SET {kind} = ? WHERE seq = ?', [changed_at(text, place, character), seq])
    elif kind == 'delete':
        connection.execute('DELETE FROM events WHERE seq = ?', [seq])
    elif kind == 'truncate':
        connection.execute('DELETE FROM events WHERE seq >= ?', [seq])
    else:  # it and the next one
        first = min(seq, 6)
        for old, new in ((first, 100), (first + 1, first), (100, first + 1)):
            connection.execute('UPDATE events SET seq = ? WHERE seq = ?', [new, old])
