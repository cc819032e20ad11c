"""PEM: what is in a file of certificates and keys, each told by its number where it cannot be read."""

import re
from dataclasses import dataclass, field
from typing import Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key

from twisted_lb.tls.flaws import BadCertificate
from twisted_lb.tls.parsing import public_bytes

_BLOCK: Final = re.compile(rb"-----BEGIN ([A-Z0-9 ]+)-----.*?-----END \1-----", re.DOTALL)
_BEGIN: Final = re.compile(rb"-----BEGIN ([A-Z0-9 ]+)-----")
_CERTIFICATES: Final = (b"CERTIFICATE", b"X509 CERTIFICATE", b"TRUSTED CERTIFICATE")
_CRL: Final = b"X509 CRL"
# DER begins with a SEQUENCE of a length in two bytes or more.
_DER: Final = (b"\x30\x81", b"\x30\x82", b"\x30\x83")


@dataclass(frozen=True)
class Key:
    """A private key: its text, and its public half to be compared."""

    pem: bytes = field(repr=False)
    public: bytes = field(repr=False)
    path: str


@dataclass(frozen=True)
class Pem:
    """What was in a file: certificates, keys, in their order."""

    path: str
    certificates: tuple[x509.Certificate, ...]
    keys: tuple[Key, ...]

    @property
    def empty(self) -> bool:
        """Whether it has neither."""
        return not (self.certificates or self.keys)


def read_pem(path: str, data: bytes) -> Pem:
    """The certificates and keys in a file; BadCertificate for what cannot be read, nothing where there is no PEM in it."""
    certificates: list[x509.Certificate] = []
    keys: list[Key] = []
    for found in _blocks(path, data):
        kind, text = found[1], found[0]
        if kind in _CERTIFICATES:
            certificates.append(_certificate(path, text, len(certificates) + 1))
        elif kind.endswith(b"PRIVATE KEY"):
            keys.append(_key(path, text))
    return Pem(path, tuple(certificates), tuple(keys))


def read_crls(path: str, data: bytes) -> tuple[x509.CertificateRevocationList, ...]:
    """The revocation lists in a file, PEM or DER; BadCertificate for what is none."""
    try:
        if data.startswith(_DER):
            return (x509.load_der_x509_crl(data),)
        texts = [found[0] for found in _blocks(path, data) if found[1] == _CRL]
        lists = tuple(x509.load_pem_x509_crl(text) for text in texts)
    except ValueError as error:
        raise BadCertificate(f"{path}: is no revocation list: {error}") from None
    if not lists:
        raise BadCertificate(f"{path}: has no revocation list (X509 CRL)")
    return lists


def read_cas(path: str, data: bytes) -> tuple[x509.Certificate, ...]:
    """The certificates of CAs in a file; BadCertificate where there is none."""
    found = read_pem(path, data).certificates
    if not found:
        raise BadCertificate(f"{path}: has no certificate of a CA{_is_der(data)}")
    return found


def in_pem(some: tuple[x509.Certificate | x509.CertificateRevocationList, ...]) -> bytes:
    """Certificates or lists as OpenSSL reads them."""
    return b"".join(one.public_bytes(Encoding.PEM) for one in some)


def no_certificate(path: str, data: bytes) -> BadCertificate:
    """That a file has no certificate."""
    return BadCertificate(f"{path}: has no certificate{_is_der(data)}")


def _is_der(data: bytes) -> str:
    return ": it is DER, and should be PEM" if data.startswith(_DER) else " (PEM: -----BEGIN CERTIFICATE-----)"


def _blocks(path: str, data: bytes) -> list[re.Match[bytes]]:
    blocks = list(_BLOCK.finditer(data))
    if len(blocks) != len(_BEGIN.findall(data)):
        raise BadCertificate(f"{path}: is cut off: a -----BEGIN has no -----END")
    return blocks


def _certificate(path: str, text: bytes, number: int) -> x509.Certificate:
    try:
        found = x509.load_pem_x509_certificate(text.replace(b"X509 CERTIFICATE", b"CERTIFICATE"))
        public_bytes(found.public_key())
    except (ValueError, UnsupportedAlgorithm) as error:
        raise BadCertificate(f"{path}: certificate {number} cannot be read: {_first(error)}") from None
    return found


def _key(path: str, text: bytes) -> Key:
    try:
        key: PrivateKeyTypes = load_pem_private_key(text, None)
    except TypeError:
        # What cryptography says of a key that wants a passphrase.
        hint = "take it off with openssl pkey"
        raise BadCertificate(f"{path}: the key is encrypted, and nobody is asked for a passphrase: {hint}") from None
    except (ValueError, UnsupportedAlgorithm) as error:
        raise BadCertificate(f"{path}: the key cannot be read: {_first(error)}") from None
    return Key(text + b"\n", public_bytes(key.public_key()), path)


def _first(error: Exception) -> str:
    """The first sentence of what a library says."""
    return str(error).partition("\n")[0].partition(". ")[0][:120].rstrip(".") or type(error).__name__
