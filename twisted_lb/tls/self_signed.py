"""A self-signed certificate, made in memory: for a first try and for machines of one's own, as no client trusts it by itself."""

import ipaddress
import re
import socket
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from twisted_lb.tls.certificate import SELF_SIGNED, Certificate
from twisted_lb.tls.parsing import made_of

_LASTS: Final = timedelta(days=90)
# A clock of a client that is a little behind finds it valid too.
_SLACK: Final = timedelta(minutes=5)
# A reload makes another one in its last third.
_RENEWED_BEFORE_S: Final = 30 * 86400
_LOCAL: Final = ("localhost", "127.0.0.1", "::1")


def self_signed(now: float, before: Certificate | None = None) -> Certificate:
    """A certificate for `localhost`, its addresses and this machine's name, ECDSA P-256, valid for 90 days of `now`, in seconds of
    the epoch; the one of `before` while it has a month left and is for the same names.
    """
    names = tuple(dict.fromkeys((*_LOCAL, *_host_names())))
    if before is not None and before.expires - now > _RENEWED_BEFORE_S and before.names == _in_order(names):
        return before
    return _made(now, names)


def _in_order(names: Sequence[str]) -> tuple[str, ...]:
    """Hosts first, as certificates are read."""
    return tuple(sorted(names, key=_is_an_address))


def _is_an_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _host_names() -> list[str]:
    """The name of this machine, where it can be in a certificate."""
    name = socket.gethostname().lower()
    return [name] if re.fullmatch(r"[a-z0-9_-]{1,63}(\.[a-z0-9_-]{1,63})*", name) else []


def _made(now: float, names: Sequence[str]) -> Certificate:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "twisted_lb"),
            x509.NameAttribute(NameOID.COMMON_NAME, "localhost (self-signed)"),
        ]
    )
    begin = datetime.fromtimestamp(now, UTC).replace(microsecond=0)
    alternatives: list[x509.GeneralName] = [
        x509.IPAddress(ipaddress.ip_address(name)) if _is_an_address(name) else x509.DNSName(name) for name in names
    ]
    leaf = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begin - _SLACK)
        .not_valid_after(begin + _LASTS)
        .add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return made_of(leaf, (leaf,), pem, (SELF_SIGNED,))
