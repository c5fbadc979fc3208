"""RFC 3161 timestamps: someone else's signature on when a checkpoint was there, verified without any network.

What is stamped are the bytes of the checkpoint's file, so `openssl ts -verify -data NOTE -in RESPONSE -CAfile ROOT`
checks the same. Needs the package rfc3161-client, which verifies with the OpenSSL that it brings along.
"""
import dataclasses
import datetime
import http.client
import urllib.request
from typing import Any, Optional

from cryptography import x509

from dnnlib.util import UsageError, UserError

LARGEST = 1 << 20  # bytes of a response
SECONDS = 30       # to wait for a service
CERTIFICATES = 0xa0  # the tag of SignedData's certificates
CONTENT = 'application/timestamp-query'


def _package() -> Any:
    try:
        import rfc3161_client
    except ModuleNotFoundError as error:
        raise UserError(f"timestamps need the package {error.name}; pip install -e '.[timestamps]'") from None
    return rfc3161_client


def in_order(response: bytes) -> bytes:
    """The response with its certificates in the order that DER asks of a set, as the package asks too.

    OpenSSL's services keep another order, which no signature covers. What can't be parsed is returned as it is.
    """
    try:
        where = [(0, len(response))]
        for child in (0, 1, 1, 0):  # TimeStampResp, its token, the token's content, SignedData
            where = _children(response, *where[child])
        certificates = next((start, end) for start, end in where if response[start] == CERTIFICATES)
        found = _children(response, *certificates)
    except (IndexError, StopIteration):
        return response
    first, last = (found[0][0], found[-1][1]) if found else (0, 0)
    return response[:first] + b''.join(sorted(response[start:end] for start, end in found)) + response[last:]


def _children(data, start, end):
    """The (start, end) of each DER element within the one at `start`. Raises IndexError where it is cut off."""
    place, found = _content(data, start)[0], []
    while place < end:
        found.append((place, _content(data, place)[1]))
        place = found[-1][1]
    return found


def _content(data, start):
    """Where the content of the DER element at `start` begins, and where it ends."""
    length, begin = data[start + 1], start + 2
    if length >= 0x80:  # the length's own length; then the length
        begin += length - 0x80
        length = int.from_bytes(data[start + 2:begin], 'big')
    if begin + length > len(data):
        raise IndexError
    return begin, begin + length


@dataclasses.dataclass(frozen=True)
class Timestamp:
    """A verified timestamp. time: UTC, ISO 8601. authority: who signed it, the subject of its certificate."""
    time: str
    authority: str


@dataclasses.dataclass(frozen=True)
class Request:
    """A request as DER bytes, and the random number in it, which its answer repeats."""
    der: bytes
    nonce: int


def make_request(data: bytes) -> Request:
    """A request to stamp `data`: its SHA-256 and a random number; nothing else leaves the house."""
    client = _package()
    builder = client.TimestampRequestBuilder().data(data).hash_algorithm(client.HashAlgorithm.SHA256)
    request = builder.nonce(nonce=True).cert_request(cert_request=True).build()
    return Request(request.as_bytes(), request.nonce)


def ask(url: str, request: Request) -> bytes:
    """Sends a request to a timestamping service and returns its response's bytes, unchecked.

    Raises:
        UsageError: the URL is none of http or https. UserError: the service can't be reached or answers no response.
    """
    if not url.lower().startswith(('http://', 'https://')):
        raise UsageError(f'{url} is no address of a timestamping service; it begins with https:// or http://')
    try:
        question = urllib.request.Request(url, request.der, {'Content-Type': CONTENT})
        with urllib.request.urlopen(question, timeout=SECONDS) as answer:
            return answer.read(LARGEST)
    except (OSError, ValueError, http.client.HTTPException) as error:
        reason = getattr(error, 'reason', None) or error
        raise UserError(f'{url} cannot be asked: {reason}; check the address, or try another service') from None


def check(response: bytes, data: bytes, roots: bytes, nonce: Optional[int] = None) -> Timestamp:
    """Verifies a response: signed for `data`, by an authority that one of the `roots` vouched for at that time.

    Args:
        response: the DER bytes that the service answered.
        data: what was stamped.
        roots: the PEM certificates that are trusted: the service's root, got from elsewhere than from the response.
        nonce: the request's, if the response must be the answer to just that one.

    Raises:
        UserError: the response is none, was refused by the service, or does not hold.
    """
    client = _package()
    try:
        answer = client.decode_timestamp_response(in_order(response))
        status = client.PKIStatus(answer.status)
    except ValueError as error:
        raise UserError(f'this is no RFC 3161 timestamp response ({_line(error)}); ask the service again') from None
    if status != client.PKIStatus.GRANTED:
        reasons = '; '.join(map(str, answer.status_string)) or 'no reason given'
        raise UserError(f'the service did not stamp it: {status.name} ({reasons}); ask again, or another service')
    verifier = client.VerifierBuilder(roots=_certificates(roots), nonce=nonce).build()
    try:
        verifier.verify_message(answer, data)
    except (client.VerificationError, ValueError) as error:
        raise UserError(f'the timestamp does not hold: {_line(error)}; check which file it is for, and the '
                        'certificate of its authority') from None
    return Timestamp(answer.tst_info.gen_time.astimezone(datetime.timezone.utc).isoformat(), _authority(answer))


def _certificates(roots):
    try:
        return x509.load_pem_x509_certificates(roots)
    except ValueError:
        raise UserError('there is no certificate in the file of trusted ones; it holds PEM text, '
                        "'-----BEGIN CERTIFICATE-----'") from None


def _authority(answer):
    """The subject of the certificate whose key signed, which `check` has found to be among those in the answer."""
    [signer] = answer.signed_data.signer_infos
    certificates = map(x509.load_der_x509_certificate, answer.signed_data.certificates)
    return next(one.subject.rfc4514_string() for one in certificates
                if (one.issuer, one.serial_number) == (signer.issuer, signer.serial_number))


def _line(error):
    return str(error).split('\n')[0]
