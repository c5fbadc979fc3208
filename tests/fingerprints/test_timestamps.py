"""Timestamps by a local authority, verified offline by this project and by the program openssl, the oracle."""
import datetime
import subprocess
import sys

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import given
from hypothesis import strategies as st

from dnnlib.util import UsageError, UserError
from fingerprints import timestamps
from timestamping import OPENSSL, Authority, service

pytest.importorskip('rfc3161_client', reason='timestamps are not tested: the package rfc3161-client is not installed')
needs_openssl = pytest.mark.skipif(not OPENSSL, reason='there is no program openssl to be the timestamping authority')
DATA = b'example.com/fingerprints\n7\nAAAA\n'


@pytest.fixture(scope='module')
def authority(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp('authority'))


def roots(authority):
    with open(authority.root, 'rb') as file:
        return file.read()


def refused(authority, response, message, data=DATA, trusted=None, nonce=None):
    with pytest.raises(UserError, match=message) as caught:
        timestamps.check(response, data, trusted or roots(authority), nonce)
    assert '\n' not in str(caught.value)


@needs_openssl
def test_a_timestamp_tells_when_and_by_whom(authority):
    request = timestamps.make_request(DATA)
    found = timestamps.check(authority.answer(request.der), DATA, roots(authority), request.nonce)
    assert found.authority == 'CN=Test Authority'
    age = datetime.datetime.now(datetime.timezone.utc) - datetime.datetime.fromisoformat(found.time)
    assert abs(age) < datetime.timedelta(minutes=1)


@needs_openssl
def test_openssl_reads_the_request_and_verifies_the_same_response(authority, tmp_path):
    request = timestamps.make_request(DATA)
    note, query, response = (tmp_path / name for name in ('note', 'q.tsq', 'r.tsr'))
    query.write_bytes(request.der)
    shown = subprocess.run([OPENSSL, 'ts', '-query', '-in', query, '-text'], check=True, capture_output=True, text=True)
    assert 'Hash Algorithm: sha256' in shown.stdout and 'Certificate required: yes' in shown.stdout
    note.write_bytes(DATA)
    response.write_bytes(authority.answer(request.der))
    verify = [OPENSSL, 'ts', '-verify', '-data', note, '-in', response, '-CAfile', authority.root]
    assert subprocess.run(verify, capture_output=True).returncode == 0
    note.write_bytes(DATA + b' ')
    assert subprocess.run(verify, capture_output=True).returncode != 0
    refused(authority, response.read_bytes(), 'does not hold: Mismatch', data=DATA + b' ')


@needs_openssl
def test_what_does_not_hold_is_refused(authority, tmp_path):
    request = timestamps.make_request(DATA)
    response = authority.answer(request.der)
    refused(authority, response, 'Nonce mismatch', nonce=request.nonce + 1)
    refused(authority, response[:-1] + bytes([response[-1] ^ 1]), 'timestamp does not hold')
    refused(authority, response[:100], 'this is no RFC 3161 timestamp response')
    stranger = Authority(tmp_path)
    refused(authority, stranger.answer(request.der), 'timestamp does not hold')
    refused(authority, response, 'timestamp does not hold', trusted=roots(stranger))
    refused(authority, response, 'no certificate in the file', trusted=b'hello')


@needs_openssl
def test_every_changed_byte_is_found_or_changes_nothing(authority):
    """Bytes that no signature covers may change (the root's copy in the response, which nobody trusts): no matter."""
    request = timestamps.make_request(DATA)
    response = authority.answer(request.der)
    expected = timestamps.check(response, DATA, roots(authority))
    refusals = 0
    for place in range(0, len(response), 7):
        changed = bytearray(response)
        changed[place] ^= 0x55
        try:
            assert timestamps.check(bytes(changed), DATA, roots(authority)) == expected
        except UserError:
            refusals += 1
    assert refusals > 0.5 * len(response) / 7


@needs_openssl
def test_certificates_in_any_order_are_put_in_that_of_der(authority):
    """OpenSSL writes the authority's before the root's, whichever is smaller; the order is under no signature."""
    response = authority.answer(timestamps.make_request(DATA).der)
    ders = [x509.load_pem_x509_certificate(pem).public_bytes(Encoding.DER) for pem in
            (roots(authority), open(f'{authority.folder}/tsa.pem', 'rb').read())]
    at = min(map(response.index, ders))
    both = [response[:at] + first + second + response[at + len(first + second):]
            for first, second in (ders, reversed(ders))]
    assert response in both and len(set(both)) == 2
    assert timestamps.in_order(both[0]) == timestamps.in_order(both[1]) in both
    assert {timestamps.check(one, DATA, roots(authority)).authority for one in both} == {'CN=Test Authority'}


@given(st.binary(max_size=60))
def test_what_is_no_der_is_left_as_it_is(data):
    assert sorted(timestamps.in_order(data)) == sorted(data)
    with pytest.raises(UserError, match='this is no RFC 3161 timestamp response'):
        timestamps.check(data, DATA, b'')


@needs_openssl
def test_a_certificate_for_something_else_stamps_nothing(tmp_path):
    webserver = Authority(tmp_path, x509.ExtendedKeyUsageOID.SERVER_AUTH)
    with pytest.raises(subprocess.CalledProcessError):  # openssl itself refuses to stamp with it
        webserver.answer(timestamps.make_request(DATA).der)


@needs_openssl
def test_a_refusal_is_told_with_its_reason(authority):
    request = timestamps.make_request(DATA).der
    sha256, sha1 = bytes.fromhex('608648016503040201'), bytes.fromhex('608648016503040299')
    assert sha256 in request
    refused(authority, authority.answer(request.replace(sha256, sha1)), 'the service did not stamp it: REJECTION')


@needs_openssl
def test_a_service_is_asked_over_http(authority):
    request = timestamps.make_request(DATA)
    with service(authority.answer) as url:
        response = timestamps.ask(url, request)
    assert timestamps.check(response, DATA, roots(authority), request.nonce).authority == 'CN=Test Authority'


def test_a_service_that_fails_is_told_in_one_line():
    request = timestamps.make_request(DATA)
    with service(lambda body: b'') as url:
        with pytest.raises(UserError, match=f'{url} cannot be asked: Service Unavailable'):
            timestamps.ask(url, request)
    with pytest.raises(UserError, match='cannot be asked: .*refused'):
        timestamps.ask(url, request)
    for address in ('ftp://host/x', 'file:///etc/passwd', 'tsa.example'):
        with pytest.raises(UsageError, match='is no address of a timestamping service'):
            timestamps.ask(address, request)


def test_without_the_package_the_way_to_it_is_told(monkeypatch):
    monkeypatch.setitem(sys.modules, 'rfc3161_client', None)
    with pytest.raises(UserError, match=r"need the package rfc3161_client; pip install -e '.\[timestamps\]'"):
        timestamps.make_request(DATA)
