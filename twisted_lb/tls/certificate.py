"""A certificate: what it is for, until when, and its chain and key as OpenSSL takes them."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed448, ed25519, rsa
from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from twisted_lb.tls.flaws import SOON_S, Flaw, FlawKind, days

# Where one was read that was read nowhere.
SELF_SIGNED: Final = "self-signed"
_KINDS: Final = (
    (ec.EllipticCurvePublicKey, "ECDSA"),
    (rsa.RSAPublicKey, "RSA"),
    (ed25519.Ed25519PublicKey, "Ed25519"),
    (ed448.Ed448PublicKey, "Ed448"),
    (dsa.DSAPublicKey, "DSA"),
)


@dataclass(frozen=True)
class Certificate:
    """A certificate with its chain and key. `names` are the hosts and addresses that it is for, in lower case, `*.example.com` among
    them. `not_before` and `not_after` are its own, in seconds of the epoch; `expires` is when the first of the chain does.
    `sources` are the files that it was read from; `flaws` what is wrong with them whatever time it is.
    """

    names: tuple[str, ...]
    chain_pem: bytes = field(repr=False)
    key_pem: bytes = field(repr=False)
    not_before: float
    not_after: float
    expires: float
    key_type: str
    fingerprint: str
    serial: str
    issuer: str
    sources: tuple[str, ...] = ()
    flaws: tuple[Flaw, ...] = ()

    @property
    def label(self) -> str:
        """What messages and metrics call it: its first name, or where it was read."""
        return self.names[0] if self.names else self.where

    @property
    def where(self) -> str:
        """The file that it was read from."""
        return self.sources[0] if self.sources else "the certificate"

    def flaws_at(self, now: float) -> Iterator[Flaw]:
        """What is wrong with it at a moment, in seconds of the epoch."""
        yield from self.flaws
        if now < self.not_before:
            yield Flaw(FlawKind.NOT_YET, f"{self.where}: is not valid before {said(self.not_before)}")
        if now >= self.expires:
            whose = "" if self.expires == self.not_after else "a certificate of the chain "
            yield Flaw(FlawKind.EXPIRED, f"{self.where}: {whose}has expired on {said(self.expires)}: clients refuse it")
        elif self.expires - now < SOON_S:
            left = days(self.expires - now)
            yield Flaw(FlawKind.SOON, f"{self.where}: expires in {left}, on {said(self.expires)}")

    def __str__(self) -> str:
        return f"{self.label} ({self.key_type}, until {said(self.not_after)}, {self.fingerprint[:16]})"


def made_of(
    leaf: x509.Certificate,
    chain: tuple[x509.Certificate, ...],
    key_pem: bytes,
    sources: tuple[str, ...],
    flaws: tuple[Flaw, ...] = (),
) -> Certificate:
    """A certificate out of what was parsed; the chain begins with the leaf."""
    found = names_of(leaf)
    if not found:
        found = _common_name(leaf)
        text = f"{sources[0]}: names no host (no subjectAltName): clients refuse it"
        flaws = (*flaws, Flaw(FlawKind.NO_NAMES, text))
    return Certificate(
        names=found,
        chain_pem=b"".join(one.public_bytes(Encoding.PEM) for one in chain),
        key_pem=key_pem,
        not_before=leaf.not_valid_before_utc.timestamp(),
        not_after=leaf.not_valid_after_utc.timestamp(),
        expires=min(one.not_valid_after_utc.timestamp() for one in chain),
        key_type=key_type_of(leaf),
        fingerprint=leaf.fingerprint(hashes.SHA256()).hex(),
        serial=f"{leaf.serial_number:x}",
        issuer=leaf.issuer.rfc4514_string(),
        sources=sources,
        flaws=flaws,
    )


def names_of(leaf: x509.Certificate) -> tuple[str, ...]:
    """The hosts and addresses of its subjectAltName; ValueError where that cannot be read."""
    try:
        found = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return ()
    hosts = [name.lower().removesuffix(".") for name in found.get_values_for_type(x509.DNSName)]
    addresses = [str(one) for one in found.get_values_for_type(x509.IPAddress)]
    return tuple(dict.fromkeys([*hosts, *addresses]))


def _common_name(leaf: x509.Certificate) -> tuple[str, ...]:
    """What it is called where it names no host: old ones say their host there."""
    named = leaf.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)
    return tuple(str(one.value).lower() for one in named[:1] if str(one.value).isascii())


def key_type_of(leaf: x509.Certificate) -> str:
    """The kind of its key."""
    key = leaf.public_key()
    return next((name for kind, name in _KINDS if isinstance(key, kind)), "unknown")


def public_bytes(key: PublicKeyTypes) -> bytes:
    """A public key, to be compared."""
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def said(moment: float) -> str:
    """A moment of the epoch as messages say it: `2026-11-27`."""
    return datetime.fromtimestamp(moment, UTC).strftime("%Y-%m-%d")
