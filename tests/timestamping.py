"""A timestamping authority for tests: certificates by `cryptography`, answers by the program openssl, or over HTTP."""
import contextlib
import datetime
import http.server
import os
import shutil
import subprocess
import threading

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

OPENSSL = shutil.which('openssl')
CONFIGURATION = '''
[tsa]
serial = {folder}/serial
crypto_device = builtin
signer_cert = {folder}/tsa.pem
certs = {folder}/root.pem
signer_key = {folder}/tsa.key
signer_digest = sha256
default_policy = 1.2.3.4
digests = sha256
accuracy = secs:1
ess_cert_id_alg = sha256
'''


def certificate(name, key, issuer, issuer_key, *extensions):
    """A certificate for `name`, signed by `issuer`, valid today."""
    today = datetime.datetime.now(datetime.timezone.utc)
    builder = x509.CertificateBuilder().subject_name(named(name)).issuer_name(named(issuer))
    builder = builder.public_key(key.public_key()).serial_number(x509.random_serial_number())
    builder = builder.not_valid_before(today - datetime.timedelta(days=1))
    builder = builder.not_valid_after(today + datetime.timedelta(days=9))
    for extension, critical in extensions:
        builder = builder.add_extension(extension, critical)
    return builder.sign(issuer_key, hashes.SHA256())


def named(name):
    return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])


class Authority:
    """Keys and certificates in a folder; `root` is the PEM file of the certificate to trust."""

    def __init__(self, folder, purpose=x509.ExtendedKeyUsageOID.TIME_STAMPING):
        self.folder, self.root = str(folder), f'{folder}/root.pem'
        root_key, key = (rsa.generate_private_key(65537, 2048) for _ in range(2))
        ca = (x509.BasicConstraints(ca=True, path_length=None), True)
        root = certificate('Test Root', root_key, 'Test Root', root_key, ca)
        self._write('root.pem', root.public_bytes(Encoding.PEM))
        purposes = [(x509.ExtendedKeyUsage([purpose]), True)]
        leaf = certificate('Test Authority', key, 'Test Root', root_key, *purposes)
        self._write('tsa.pem', leaf.public_bytes(Encoding.PEM))
        self._write('tsa.key', key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        self._write('serial', b'01\n')
        self._write('openssl.cnf', CONFIGURATION.format(folder=folder).encode())

    def _write(self, name, data):
        with open(os.path.join(self.folder, name), 'wb') as file:
            file.write(data)

    def answer(self, request):
        """The DER response to a DER request, by openssl."""
        self._write('request.tsq', request)
        subprocess.run([OPENSSL, 'ts', '-reply', '-config', f'{self.folder}/openssl.cnf', '-section', 'tsa',
                        '-queryfile', f'{self.folder}/request.tsq', '-out', f'{self.folder}/response.tsr'],
                       check=True, capture_output=True)
        with open(f'{self.folder}/response.tsr', 'rb') as file:
            return file.read()


@contextlib.contextmanager
def service(answer):
    """The address of a service on this machine that answers a POST with `answer(its body)`."""
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            assert self.headers['Content-Type'] == 'application/timestamp-query'
            body = answer(self.rfile.read(int(self.headers['Content-Length'])))
            self.send_response(200 if body else 503)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *arguments):
            pass

    with http.server.HTTPServer(('127.0.0.1', 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f'http://127.0.0.1:{server.server_port}'
        finally:
            server.shutdown()
            thread.join()
