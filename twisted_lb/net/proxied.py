"""PROXY headers to backends: who is connected to us, as a backend is told in front of the first request."""

from twisted_lb.net.secured import Secured
from twisted_lb.wire.proxy_protocol import (
    AUTHORITY,
    CLIENT_CERT_CONN,
    CLIENT_CERT_SESS,
    CLIENT_SSL,
    SSL,
    proxy_v1,
    proxy_v2,
    ssl_value,
)

Place = tuple[str, int]


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
