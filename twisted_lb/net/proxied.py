"""PROXY headers: to backends, who is connected to us, as one is told in front of the first request; and what those of balancers in front
say for logs.
"""

from typing import Final

from twisted_lb.core.agreed import ToldByProxy
from twisted_lb.net.secured import Secured
from twisted_lb.wire.proxy_protocol import (
    AUTHORITY,
    CLIENT_CERT_CONN,
    CLIENT_CERT_SESS,
    CLIENT_SSL,
    SSL,
    ProxyHeader,
    proxy_v1,
    proxy_v2,
    ssl_value,
)

Place = tuple[str, int]

# So much of a value is logged: a common name and a host name are not longer, nor is what proxies make up themselves.
_MOST_BYTES: Final = 256


def proxy_header(version: int, source: Place, destination: Place, secured: Secured | None) -> bytes:
    """The header of this version for a client at `source` who has connected to `destination`, over TLS where `secured` says how. Version 2
    says that too: what was agreed on, the host that was asked for, and the name in the client's certificate.
    """
    if version == 1:
        return proxy_v1(*source, *destination)
    return proxy_v2(*source, *destination, () if secured is None else _tlvs(secured))


def _tlvs(secured: Secured) -> list[tuple[int, bytes]]:
    agreed = secured.agreed
    tlvs = [(AUTHORITY, secured.server_name.encode("utf-8"))] if secured.server_name else []
    certified, flags = secured.certified, CLIENT_SSL
    if certified:
        flags |= CLIENT_CERT_SESS if agreed.resumed else CLIENT_CERT_CONN | CLIENT_CERT_SESS
    name = secured.common_name[:255]
    return [*tlvs, (SSL, ssl_value(agreed.version, agreed.cipher, name, flags, verified=certified))]


def told_by(header: ProxyHeader) -> ToldByProxy | None:
    """What a header says of its connection for logs and explanations, beside addresses; None for nothing."""
    if not header.tlvs:
        return None
    ssl = header.ssl
    told = ToldByProxy(
        authority=_shown(header.authority.encode("utf-8", "backslashreplace")),
        alpn=_shown(header.alpn.encode("latin-1")),
        unique_id=_shown(header.unique_id),
        tls_version="" if ssl is None else _shown(ssl.version.encode("utf-8", "backslashreplace")),
        tls_cipher="" if ssl is None else _shown(ssl.cipher.encode("utf-8", "backslashreplace")),
        client_cn="" if ssl is None else _shown(ssl.common_name.encode("utf-8", "backslashreplace")),
        client_verified=ssl is not None and ssl.verified,
        aws_vpce_id=_shown(header.aws_vpce_id),
        azure_pel_id=_number(header.azure_pel_id),
        gcp_conn_id=_number(header.gcp_conn_id),
    )
    return told if told.said else None


def _number(value: int) -> str:
    return str(value) if value >= 0 else ""


def _shown(value: bytes) -> str:
    r"""Bytes from outside as printable ASCII, all others as `\xHH`, and not for ever."""
    return "".join([chr(byte) if 0x20 <= byte < 0x7F else f"\\x{byte:02x}" for byte in value[:_MOST_BYTES]])
