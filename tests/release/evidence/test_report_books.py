"""The ledger's proofs in a report, checked by the program in docs/evidence.md, which is not ours to import."""
import json
import os
import re
import subprocess
import sys

import pytest

from dnnlib.util import UserError
from fingerprints.notes import SigningKey
from fingerprints.registry import Registry
from helpers import ROOT
from release.evidence.books import proven_events

MODEL = 'a' * 64


def issue(registry, *names):
    for name in names:
        with registry.issue(name, MODEL, 32) as pending:
            pending.digest, pending.instance = 'd' * 64, f'instances/{name}/1'


@pytest.fixture
def registry(tmp_path):
    registry = Registry(str(tmp_path / 'registry.sqlite'), create=True, actor='owner')
    issue(registry, 'ann', 'bob', 'cecil')
    return registry


@pytest.fixture
def key():
    return SigningKey.generate('example.com/fingerprints')


@pytest.fixture(scope='module')
def program(tmp_path_factory):
    """The program in the docs, as a reader copies it."""
    with open(os.path.join(ROOT, 'docs', 'evidence.md'), encoding='utf-8') as file:
        (text,) = re.findall(r'^```python\n(.*?)^```', file.read(), re.DOTALL | re.MULTILINE)
    assert set(re.findall(r'^(?:import|from) (.*?)(?: import .*)?$', text, re.MULTILINE)) == {
        'base64, hashlib, json, sys', 'cryptography.hazmat.primitives.asymmetric.ed25519'}
    assert len(text.splitlines()) < 45
    path = tmp_path_factory.mktemp('docs') / 'check.py'
    path.write_text(text, encoding='utf-8')
    return str(path)


@pytest.fixture
def check(program, tmp_path):
    """Runs that program, away from the project, on a report whose ledger's part is given."""
    def run(ledger, key):
        path = tmp_path / 'report.json'
        path.write_text(json.dumps({'ledger': ledger}, ensure_ascii=False), encoding='utf-8')
        return subprocess.run([sys.executable, '-I', program, str(path), key], cwd=tmp_path, capture_output=True,
                              text=True)
    return run


def test_a_stranger_checks_the_proof_of_every_size_of_ledger(registry, key, check):
    ledgers = []
    for name in ('dora', 'emil', 'fay', 'gus'):
        registry.checkpoint(key)
        ledgers.append(proven_events(registry, registry.get('bob'), registry.checkpoints()[-1], key.verifier, True))
        issue(registry, name)
    for ledger in ledgers:
        done = check(ledger, key.verifier.text)
        assert done.returncode == 0, done.stderr
        assert [line.split()[10] for line in done.stdout.splitlines()] == ['code_reserved', 'instance_issued']
        assert done.stdout.count(' bob\n') == 2


@pytest.mark.parametrize('change, said', [
    (lambda ledger: ledger['proofs'][0].update(event=ledger['proofs'][0]['event'].replace('bob', 'ann')), 'changed'),
    (lambda ledger: ledger['proofs'][0].update(index=3), 'another event'),
    (lambda ledger: ledger['proofs'][0]['hashes'].pop(), 'too short'),
    (lambda ledger: ledger['proofs'][0]['hashes'].extend(ledger['proofs'][0]['hashes']), 'too long'),
    (lambda ledger: ledger['proofs'][0]['hashes'].reverse(), 'changed'),
    (lambda ledger: ledger.update(checkpoint=ledger['checkpoint'].replace('\n8\n', '\n9\n')), 'InvalidSignature')])
def test_what_was_changed_is_found_by_it(registry, key, check, change, said):
    registry.checkpoint(key)
    ledger = proven_events(registry, registry.get('bob'), None, None, True)
    assert ledger['size'] == 8 and check(ledger, key.verifier.text).returncode == 0
    change(ledger)
    done = check(ledger, key.verifier.text)
    assert done.returncode == 1 and said in done.stderr


def test_another_key_is_refused_by_it(registry, key, check):
    registry.checkpoint(key)
    ledger = proven_events(registry, registry.get('bob'), None, None, True)
    other = SigningKey.generate('example.com/fingerprints')
    assert 'signed by another key' in check(ledger, other.verifier.text).stderr
    with pytest.raises(UserError, match='not signed by'):
        proven_events(registry, registry.get('bob'), None, other.verifier, True)


def test_the_oldest_checkpoint_that_covers_is_taken(registry, key):
    early = registry.checkpoint(key)
    issue(registry, 'dora')
    registry.checkpoint(key)
    assert proven_events(registry, registry.get('bob'), None, key.verifier, True)['checkpoint'] == early
    assert proven_events(registry, registry.get('dora'), None, None, True)['size'] == 10
    with pytest.raises(UserError, match="of 'dora' came after that checkpoint of 8 events"):
        proven_events(registry, registry.get('dora'), early, None, True)


def test_without_a_checkpoint_it_says_so(registry):
    assert 'no signed checkpoint covers' in proven_events(registry, registry.get('bob'), None, None, True)['missing']


def test_a_checkpoint_of_another_ledger_is_refused(registry, key, tmp_path):
    other = Registry(str(tmp_path / 'other.sqlite'), create=True)
    issue(other, 'ann', 'bob', 'cecil')
    with pytest.raises(UserError, match='no checkpoint of the ledger'):
        proven_events(registry, registry.get('bob'), other.checkpoint(key), None, True)


def test_a_hidden_code_is_in_no_event(registry, key):
    registry.checkpoint(key)
    code = ''.join(map(str, registry.code('bob')))
    assert code in json.dumps(proven_events(registry, registry.get('bob'), None, None, True))
    hidden = proven_events(registry, registry.get('bob'), None, None, False)
    assert code not in json.dumps(hidden) and [proof['kind'] for proof in hidden['proofs']] == ['instance_issued']
