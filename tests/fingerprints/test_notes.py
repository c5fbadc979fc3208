"""Go's golang.org/x/mod/sumdb/note is the oracle: its documentation has a key pair, a text and the signature."""
import base64

import pytest

from dnnlib.util import UserError
from fingerprints.notes import Checkpoint, SigningKey, VerifierKey

SIGNER = 'PRIVATE+KEY+PeterNeumann+c74f20a3+AYEKFALVFGyNhPJEMzD1QIDr+Y7hfZx09iUvxdXHKDFz'
VERIFIER = 'PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW'
TEXT = "If you think cryptography is the answer to your problem,\nthen you don't know what your problem is.\n"
SIGNATURE = 'x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM='
NOTE = f'{TEXT}\n— PeterNeumann {SIGNATURE}\n'


def test_signatures_are_those_of_go():
    key = SigningKey.parse(SIGNER)
    assert key.sign(TEXT) == NOTE
    assert key.text == SIGNER and key.verifier.text == VERIFIER
    assert VerifierKey.parse(f'{VERIFIER}\n').verify(NOTE) == TEXT


def test_a_new_key_goes_round():
    key = SigningKey.generate('example.com/fingerprints')
    again, verifier = SigningKey.parse(key.text), VerifierKey.parse(key.verifier.text)
    assert verifier.verify(again.sign('a\n')) == 'a\n'
    assert key.text != SigningKey.generate('example.com/fingerprints').text


def test_one_of_two_signatures_is_enough():
    other = SigningKey.generate('witness.example')
    both = NOTE + other.sign(TEXT).rpartition('\n\n')[2]
    assert other.verifier.verify(both) == VerifierKey.parse(VERIFIER).verify(both) == TEXT


@pytest.mark.parametrize('note, message', [
    (NOTE.replace('answer', 'cause'), 'does not fit the note; it was changed'),
    (NOTE.replace('— Peter', '— Pete'), 'not signed by PeterNeumann'),
    (NOTE.replace('x08go', 'y08go'), 'not signed by PeterNeumann'),
    (NOTE.replace('x08go', '*'), 'not signed by'),
    (NOTE.replace('nAM=', 'nAA='), 'does not fit'),
    (TEXT, 'not signed by'), ('', 'not signed by')])
def test_what_the_key_did_not_sign_is_refused(note, message):
    with pytest.raises(UserError, match=message):
        VerifierKey.parse(VERIFIER).verify(note)


@pytest.mark.parametrize('text', ['', 'x', VERIFIER[:-3], VERIFIER.replace('c74f', 'c74e'), SIGNER,
                                  VERIFIER.replace('Peter', 'Pete'), 'a+b+***'])
def test_what_is_no_public_key_is_refused(text):
    with pytest.raises(UserError, match='is not a public key'):
        VerifierKey.parse(text)


@pytest.mark.parametrize('text', ['', 'x', SIGNER[:-4], SIGNER.replace('c74f', 'c74e'), VERIFIER, SIGNER[:30]])
def test_what_is_no_signing_key_is_refused_and_not_repeated(text):
    with pytest.raises(UserError, match='is not a signing key') as caught:
        SigningKey.parse(text)
    assert 'AYEK' not in str(caught.value)


@pytest.mark.parametrize('name', ['', 'a b', 'a+b', 'a\nb'])
def test_names_that_break_the_format_are_refused(name):
    with pytest.raises(UserError, match="cannot be a key's name"):
        SigningKey.generate(name)


def test_checkpoints_go_round():
    checkpoint = Checkpoint('example.com/fingerprints', 7, bytes(range(32)))
    assert checkpoint.text == f'example.com/fingerprints\n7\n{base64.b64encode(bytes(range(32))).decode()}\n'
    key = SigningKey.generate('example.com/fingerprints')
    assert Checkpoint.parse(checkpoint.text) == Checkpoint.parse(key.sign(checkpoint.text)) == checkpoint


@pytest.mark.parametrize('text', ['', 'a\nb\nc\n', 'a\n-1\n' + 'A' * 43 + '=\n', 'a\n1\nAAAA\n',
                                  '\n1\n' + 'A' * 43 + '=\n', 'a\n²\n' + 'A' * 43 + '=\n', 'a\n1\n' + 'A' * 43 + '='])
def test_what_is_no_checkpoint_is_refused(text):
    with pytest.raises(UserError, match='is not a checkpoint'):
        Checkpoint.parse(text)
