"""The peer: what the certificate of a client says, in words that may stand in a header field."""

import hashlib
from collections.abc import Iterable, Mapping
from typing import Any, Final

# A longer subject is left out whole: a name that is cut is another name.
LONGEST_NAME: Final = 1024
# And so many characters of alternative names are said, whole ones.
LONGEST_NAMES: Final = 4096
_PLAIN: Final = frozenset(map(chr, range(0x20, 0x7F))) - {"%"}
# In a list of names the comma ends one.
_LISTED: Final = _PLAIN - {","}


class Peer:
    """What the certificate of a client says: `subject` and `issuer` as RFC 4514 has them (`CN=alice,O=Example`), `names` those of its
    subjectAltName (`DNS:alice.example.com,URI:spiffe://example.com/alice`), `serial` and `fingerprint` (SHA-256) in lower
    case hexadecimal. All of it is printable ASCII: what else there is, and `%`, is percent-encoded UTF-8. A name that is
    longer than LONGEST_NAME is empty.
    """

    __slots__ = ("fingerprint", "issuer", "names", "serial", "subject")

    def __init__(self, subject: str, issuer: str, names: str, serial: str, fingerprint: str) -> None:
        self.subject: Final = subject
        self.issuer: Final = issuer
        self.names: Final = names
        self.serial: Final = serial
        self.fingerprint: Final = fingerprint

    def lines(self) -> bytes:
        """The field lines that tell a backend of it; one that would be empty is left out."""
        said = (
            ("Subject", self.subject),
            ("Issuer", self.issuer),
            ("SAN", self.names),
            ("Serial", self.serial),
            ("Fingerprint", self.fingerprint),
        )
        return b"".join(f"X-Client-Cert-{name}: {value}\r\n".encode("ascii") for name, value in said if value)

    def __repr__(self) -> str:
        return f"<Peer {self.subject or self.fingerprint}>"


def peer_of(described: Mapping[str, Any] | None, der: bytes | None) -> Peer | None:
    """The peer by what `getpeercert()` and `getpeercert(True)` say of it; None where it has shown no certificate.

    What OpenSSL has accepted and the stricter parser of `cryptography` does not is told in OpenSSL's words.
    """
    if not der:
        return None
    from cryptography import x509  # late: it takes 9 MiB, for who asks for certificates

    fingerprint = hashlib.sha256(der).hexdigest()
    try:
        found = x509.load_der_x509_certificate(der)
        subject, issuer = found.subject.rfc4514_string(), found.issuer.rfc4514_string()
        serial = f"{found.serial_number:x}"
    except ValueError:
        return _described(described or {}, fingerprint)
    return Peer(_name(subject), _name(issuer), _names((described or {}).get("subjectAltName", ())), serial, fingerprint)


def _described(described: Mapping[str, Any], fingerprint: str) -> Peer:
    subject, issuer = (_relative(described.get(key, ())) for key in ("subject", "issuer"))
    serial = str(described.get("serialNumber", "")).lower().lstrip("0")
    names = _names(described.get("subjectAltName", ()))
    return Peer(_name(subject), _name(issuer), names, serial if serial.isalnum() else "", fingerprint)


def _relative(parts: Iterable[Any]) -> str:
    """A name as RFC 4514 writes it, out of OpenSSL's tuples: the last part first."""
    said = ["+".join(f"{key}={_escaped(str(value))}" for key, value in part) for part in parts]
    return ",".join(reversed(said))


def _escaped(value: str) -> str:
    return "".join(f"\\{one}" if one in ',+"\\<>;=' else one for one in value)


def _name(text: str) -> str:
    said = encoded(text)
    return said if len(said) <= LONGEST_NAME else ""


def _names(pairs: Iterable[Any]) -> str:
    """Alternative names, as many whole ones as there is room for."""
    said = ""
    for kind, value in pairs:
        more = f"{',' if said else ''}{_KIND.get(kind, kind)}:{encoded(_flat(value), _LISTED)}"
        if len(said) + len(more) > LONGEST_NAMES:
            break
        said += more
    return said


# How OpenSSL's words are mostly written elsewhere.
_KIND: Final = {"IP Address": "IP", "email": "email", "DirName": "dirName", "Registered ID": "RID"}


def _flat(value: Any) -> str:
    return value if isinstance(value, str) else _relative(value)


def encoded(text: str, plain: frozenset[str] = _PLAIN) -> str:
    """A text as printable ASCII: percent-encoded UTF-8 for all but plain characters."""
    text = text.strip()
    if plain.issuperset(text):
        return text
    return "".join(
        one if one in plain else "".join(f"%{byte:02X}" for byte in one.encode("utf-8", "surrogateescape"))
        for one in text
    )
