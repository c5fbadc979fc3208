"""Proofs over ledgers of someone else's: what the owner's key signed may still be no registry's. The rest is in
tests/release/test_books.py, with a stranger's own check."""
import base64

import pytest

from dnnlib.util import UserError
from fingerprints.merkle import Tree, leaf_hash
from fingerprints.notes import Checkpoint, SigningKey
from fingerprints.proofs import check_event_proof

KEY = SigningKey.generate('example.com/fingerprints')


def test_an_entry_that_is_no_event_is_told():
    for entry in (b'hello', b'\xff', b'[]'):
        note = KEY.sign(Checkpoint(KEY.name, 1, Tree([leaf_hash(entry)]).root()).text)
        text = f'c2sp.org/tlog-proof@v1\nextra {base64.b64encode(entry).decode()}\nindex 0\n\n{note}'
        with pytest.raises(UserError, match='entry 0 is in that ledger, but is no event of a registry'):
            check_event_proof(text, KEY.verifier)
