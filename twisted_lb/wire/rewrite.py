"""What a head becomes on its way through: to the backend with who the client is, to the client with how it ends."""

from typing import Final

from twisted_lb.wire.grammar import CHUNKED, CRLF
from twisted_lb.wire.request import RequestFields

_CHUNKED_LINE: Final = b"Transfer-Encoding: chunked\r\n"
_TE_LINES: Final = b"TE: trailers\r\nConnection: TE\r\n"


def upstream_tail(fields: RequestFields, client: bytes, scheme: bytes) -> bytes:
    """All of the backend's request head behind method and target: a pure function of the block and the connection.

    `client` is the address of the peer. What the client itself said in X-Forwarded-* was left out by the parser.
    """
    parts = [b" HTTP/1.1\r\n", fields.lines, b"X-Forwarded-For: ", client, b"\r\nX-Forwarded-Proto: ", scheme, CRLF]
    if fields.has_host and fields.host:
        parts += [b"X-Forwarded-Host: ", fields.host, CRLF]
    if fields.framing == CHUNKED:
        parts.append(_CHUNKED_LINE)
    if fields.te_trailers:
        parts.append(_TE_LINES)
    parts.append(CRLF)
    return b"".join(parts)


def with_host(tail: bytes, authority: bytes) -> bytes:
    """The tail for a request that came without a Host (HTTP/1.0): the backend's own authority stands in."""
    return b" HTTP/1.1\r\nHost: " + authority + tail[len(b" HTTP/1.1") :]
