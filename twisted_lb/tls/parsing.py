"""Parsing of certificates: what one says of itself. Whoever imports this imports a library of 9 MiB."""

from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed448, ed25519, rsa
from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from twisted_lb.tls.certificate import Certificate
from twisted_lb.tls.flaws import Flaw, FlawKind

_KINDS: Final = (
    (ec.EllipticCurvePublicKey, "ECDSA"),
    (rsa.RSAPublicKey, "RSA"),
    (ed25519.Ed25519PublicKey, "Ed25519"),
    (ed448.Ed448PublicKey, "Ed448"),
    (dsa.DSAPublicKey, "DSA"),
)


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
