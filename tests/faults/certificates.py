"""Certificates of the fault network: the same bytes in every process, so that a seed is the same story wherever it is told."""

import datetime as dt
import hashlib
import ssl
import tempfile
from functools import cache
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID
from faults.keylog import KEYS

# The host that clients name (SNI), and those of all backends that a town may have. A ticket says it, beside numbers of random length, all of it
# encrypted in blocks of 16 bytes: by its length all tickets are of one.
APP = "app.example"
BACKENDS = tuple("abcdefghijklmnopqrstuvwxyz")
# What a backend may show: what it should, or what nobody may believe.
RIGHT = "right"
WRONG = ("another name", "another authority", "expired")
# Of one length in all handshakes: an Ed25519 signature is, one of ECDSA is not.
_CIPHERS = "ECDHE-ECDSA-AES128-GCM-SHA256"
_SINCE = dt.datetime(2020, 1, 1, tzinfo=dt.UTC)
_LONG_GONE = dt.datetime(2021, 1, 1, tzinfo=dt.UTC)
_UNTIL = dt.datetime(2120, 1, 1, tzinfo=dt.UTC)


class Authority:
    """A CA of this name, by which its key is made."""

    def __init__(self, name: str) -> None:
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        self._key = _key(name)
        made = _builder(self._name, self._name, self._key, _UNTIL).add_extension(
            x509.BasicConstraints(ca=True, path_length=0), critical=True
        )
        self.pem = made.sign(self._key, None).public_bytes(Encoding.PEM)

    def leaf(self, *hosts: str, until: dt.datetime = _UNTIL) -> bytes:
        """A certificate for these hosts and its key, PEM."""
        key = _key(" ".join(hosts))
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, hosts[0])])
        made = _builder(name, self._name, key, until).add_extension(
            x509.SubjectAlternativeName([x509.DNSName(host) for host in hosts]), critical=False
        )
        certificate = made.sign(self._key, None).public_bytes(Encoding.PEM)
        return certificate + key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def _key(name: str) -> Ed25519PrivateKey:
    return Ed25519PrivateKey.from_private_bytes(hashlib.sha256(name.encode()).digest())


def _builder(
    subject: x509.Name, issuer: x509.Name, key: Ed25519PrivateKey, until: dt.datetime
) -> x509.CertificateBuilder:
    return x509.CertificateBuilder(
        issuer, subject, key.public_key(), serial_number=4711, not_valid_before=_SINCE, not_valid_after=until
    )


class Folder:
    """Files of certificates, as a configuration names them."""

    def __init__(self) -> None:
        self._kept = tempfile.TemporaryDirectory(prefix="faults-")
        self._place = Path(self._kept.name)
        known, unknown = Authority("the authority of all"), Authority("an authority of nobody")
        self.ca = self._write("ca.pem", known.pem)
        self.app = self._write("app.pem", known.leaf(APP))
        self.backends = {
            RIGHT: self._write("right.pem", known.leaf(*BACKENDS)),
            "another name": self._write("name.pem", known.leaf("elsewhere")),
            "another authority": self._write("unknown.pem", unknown.leaf(*BACKENDS)),
            "expired": self._write("expired.pem", known.leaf(*BACKENDS, until=_LONG_GONE)),
        }

    def _write(self, name: str, pem: bytes) -> str:
        path = self._place / name
        path.write_bytes(pem)
        path.chmod(0o600)
        return str(path)


@cache
def folder() -> Folder:
    """The one of this process."""
    return Folder()


@cache
def backend_context(shown: str, *, old: bool = False) -> ssl.SSLContext:
    """The context of a backend that shows this; an `old` one knows TLS 1.2 alone."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.set_ciphers(_CIPHERS)
    if old:
        context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION
    context.load_cert_chain(folder().backends[shown])
    return KEYS.listen(context)


@cache
def client_context(*, old: bool) -> ssl.SSLContext:
    """The context of clients, of which the `old` ones know TLS 1.2 alone."""
    context = ssl.create_default_context(cafile=folder().ca)
    context.set_ciphers(_CIPHERS)
    if old:
        context.maximum_version = ssl.TLSVersion.TLSv1_2
    return KEYS.listen(context)
