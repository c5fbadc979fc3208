"""The certificates that C2PA asks of a signer: a root of the owner's own, and a leaf that signs.

The C2PA specification (2.2, section 14.5.1) refuses a certificate that signed itself, so that there are two. The leaf
has what it asks for: version 3, no CA, a critical key usage of digitalSignature alone, an extended key usage of claim
signing and, for validators that do not know that yet, e-mail protection, and the identifiers of its own key and of the
root's.
"""
import datetime

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID, ObjectIdentifier

from dnnlib.util import UsageError

CLAIM_SIGNING = ObjectIdentifier('1.3.6.1.4.1.62558.2.1')   # c2pa-kp-claimSigning
EMAIL_PROTECTION = ObjectIdentifier('1.3.6.1.5.5.7.3.4')    # which validators before 2.2 look for
ROOT_DAYS, MOST_DAYS = 3650, 825
USAGES = ('digital_signature', 'content_commitment', 'key_encipherment', 'data_encipherment', 'key_agreement',
          'key_cert_sign', 'crl_sign', 'encipher_only', 'decipher_only')


def make_chain(organisation: str, days: int = 365) -> dict[str, bytes]:
    """New certificates and keys {file name: PEM}: root.pem, root.key, chain.pem (the leaf, then the root), signing.key.

    Args:
        organisation: what viewers show as the signer. days: how long the leaf is good for; the root is for ten years.

    Raises:
        UsageError: no organisation, one of more than 64 characters, or not of one line; `days` is out of range.
    """
    if not organisation.strip() or len(organisation) > 64 or not organisation.isprintable():
        raise UsageError(f'{organisation[:80]!r} cannot be an organisation; give 1 to 64 characters, in one line')
    if not 1 <= days <= MOST_DAYS:
        raise UsageError(f'a certificate for {days} days makes no sense; choose 1 to {MOST_DAYS}')
    root_key, key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    root_name = _name(organisation, 'Content Credentials root')
    root = _root(root_name, root_key)
    leaf = _leaf(_name(organisation, 'Content Credentials signer'), key, root_name, root_key, days)
    root_pem, leaf_pem = (one.public_bytes(serialization.Encoding.PEM) for one in (root, leaf))
    return {'root.pem': root_pem, 'root.key': _private(root_key), 'chain.pem': leaf_pem + root_pem,
            'signing.key': _private(key)}


def _name(organisation, role):
    return x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, organisation),
                      x509.NameAttribute(NameOID.COMMON_NAME, role)])


def _builder(subject, public, issuer, issuer_public, days):
    """What both certificates have: from five minutes ago, since clocks differ."""
    now = datetime.datetime.now(datetime.timezone.utc).replace(microsecond=0) - datetime.timedelta(minutes=5)
    builder = x509.CertificateBuilder(issuer, subject, public, x509.random_serial_number(), now,
                                      now + datetime.timedelta(days=days))
    builder = builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
    return builder.add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_public), critical=False)


def _root(name, key):
    builder = _builder(name, key.public_key(), name, key.public_key(), ROOT_DAYS)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    return builder.add_extension(_usage('key_cert_sign', 'crl_sign'), critical=True).sign(key, hashes.SHA256())


def _leaf(name, key, root_name, root_key, days):
    builder = _builder(name, key.public_key(), root_name, root_key.public_key(), days)
    builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
    builder = builder.add_extension(_usage('digital_signature'), critical=True)
    usages = x509.ExtendedKeyUsage([CLAIM_SIGNING, EMAIL_PROTECTION])
    return builder.add_extension(usages, critical=False).sign(root_key, hashes.SHA256())


def _usage(*names):
    return x509.KeyUsage(**{name: name in names for name in USAGES})


def _private(key):
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8,
                             serialization.NoEncryption())
