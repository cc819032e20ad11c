"""Rewriting of request heads for backends: who the client is, Via, hop-by-hop fields, Upgrade, Host."""

from typing import Final

from twisted_lb.wire.fields import without
from twisted_lb.wire.grammar import CHUNKED, CRLF
from twisted_lb.wire.origin import Client, Origin
from twisted_lb.wire.request import RequestFields

# What backends are told of a client's certificate, in lower case.
CERTIFICATE_FIELDS: Final = (
    b"x-client-cert-subject",
    b"x-client-cert-issuer",
    b"x-client-cert-san",
    b"x-client-cert-serial",
    b"x-client-cert-fingerprint",
)
_CHUNKED_LINE: Final = b"Transfer-Encoding: chunked\r\n"
_TE_LINES: Final = b"TE: trailers\r\nConnection: TE\r\n"


class Forwarding:
    """Forwarding beside X-Forwarded-*: RFC 7239 Forwarded, X-Real-IP, and Via with this name (empty: no Via)."""

    def __init__(self, *, forwarded: bool = False, real_ip: bool = False, via: bytes = b"") -> None:
        self.forwarded: Final = forwarded
        self.real_ip: Final = real_ip
        self.via: Final = via


_PLAIN: Final = Forwarding()


def upstream_head(lines: bytes, tail: bytes) -> bytes:
    """The request head for a backend behind its first line: the client's lines, and the tail of `upstream_tail`."""
    return lines + tail


def upstream_tail(
    fields: RequestFields, client: Client, forwarding: Forwarding = _PLAIN, upgrade: bytes = b""
) -> bytes:
    """The tail of an upstream head, behind the client's own lines: who the client is, how the body is framed, and the
    blank line. A pure function of header block, client and forwarding.

    `upgrade` is the protocol that the client may switch to. A client's own claims (X-Forwarded-*, Forwarded) were left
    out by the parser, and count only when it is trusted.
    """
    if client.trusted:
        parts = _told_by_proxy(fields, client, forwarding)
    else:
        parts = [client.lines(fields.host)]
        if forwarding.forwarded:
            parts += [b"Forwarded: ", Origin(client, fields.host, None).forwarded(), CRLF]
        if forwarding.real_ip:
            parts.append(_real_ip(client.address))
    if client.certificate:
        parts.append(client.certificate)
    if forwarding.via:
        parts += [b"Via: %d.%d " % (fields.version // 10, fields.version % 10), forwarding.via, CRLF]
    if fields.framing == CHUNKED:
        parts.append(_CHUNKED_LINE)
    if upgrade:
        parts += [b"Upgrade: ", upgrade, b"\r\nConnection: Upgrade\r\n"]
    elif fields.te_trailers:
        parts.append(_TE_LINES)
    parts.append(CRLF)
    return b"".join(parts)


def _told_by_proxy(fields: RequestFields, client: Client, forwarding: Forwarding) -> list[bytes]:
    """The lines about the client of a trusted proxy."""
    claims = fields.claims
    origin = Origin(client, fields.host, claims)
    parts = [origin.lines()]
    # A backend that was told it by the proxy goes on being told.
    if forwarding.forwarded or (claims is not None and b"forwarded" in claims):
        parts += [b"Forwarded: ", origin.forwarded(), CRLF]
    claimed = fields.claimed
    if client.certificate:
        for name in CERTIFICATE_FIELDS:  # its own is the one that we have seen
            claimed = without(claimed, name)
    if forwarding.real_ip:
        parts += [without(claimed, b"x-real-ip"), _real_ip(origin.address)]
    elif claimed:
        parts.append(claimed)
    return parts


def _real_ip(address: bytes) -> bytes:
    """The X-Real-IP line; none for a client without an IP address, which comes through a unix socket."""
    return b"X-Real-IP: " + address + CRLF if b"." in address or b":" in address else b""


def with_host(head: bytes, authority: bytes) -> bytes:
    """The upstream head of a request without Host (HTTP/1.0): the backend's own authority stands in."""
    return b"Host: " + authority + CRLF + head


def with_lines(head: bytes, lines: bytes) -> bytes:
    """The upstream head with more field lines, each ended by CRLF."""
    return head[:-2] + lines + CRLF
