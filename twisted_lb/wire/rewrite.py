"""Rewriting of request heads for backends: X-Forwarded-*, Forwarded and Via, hop-by-hop fields, Upgrade, Host."""

from typing import Final

from mypy_extensions import mypyc_attr

from twisted_lb.wire.grammar import CHUNKED, CRLF, TOKEN
from twisted_lb.wire.request import RequestFields

_CHUNKED_LINE: Final = b"Transfer-Encoding: chunked\r\n"
_TE_LINES: Final = b"TE: trailers\r\nConnection: TE\r\n"


@mypyc_attr(acyclic=True, free_list_len=1)
class Client:
    """The client of a connection, as backends are told: its address, over which scheme and port it came, and whether it
    is a trusted proxy, whose claims about its own clients count.
    """

    def __init__(self, address: bytes, scheme: bytes = b"http", port: bytes = b"", *, trusted: bool = False) -> None:
        self.address: Final = address
        self.scheme: Final = scheme
        self.port: Final = port
        self.trusted: Final = trusted
        self._host: bytes = b""
        self._lines: bytes = b""

    def lines(self, host: bytes) -> bytes:
        """The X-Forwarded-* lines of a request to this host; kept, since the next one is mostly to the same host."""
        if not self._lines or host != self._host:
            self._host = host
            self._lines = _forwarded_lines(self.address, self.scheme, host, self.port)
        return self._lines


class Forwarding:
    """Forwarding beside X-Forwarded-*: RFC 7239 Forwarded, and Via with this name (empty: no Via)."""

    def __init__(self, *, forwarded: bool = False, via: bytes = b"") -> None:
        self.forwarded: Final = forwarded
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
    claims = fields.claims if client.trusted else None
    parts = [client.lines(fields.host) if claims is None else _trusted_lines(claims, client, fields.host)]
    chain = claims.get(b"forwarded", b"") if claims is not None else b""
    if forwarding.forwarded:
        element = _forwarded(client, fields.host)
        chain = chain + b", " + element if chain else element
    if chain:
        parts += [b"Forwarded: ", chain, CRLF]
    if forwarding.via:
        parts += [b"Via: 1.1 " if fields.version == 11 else b"Via: 1.0 ", forwarding.via, CRLF]
    if fields.framing == CHUNKED:
        parts.append(_CHUNKED_LINE)
    if upgrade:
        parts += [b"Upgrade: ", upgrade, b"\r\nConnection: Upgrade\r\n"]
    elif fields.te_trailers:
        parts.append(_TE_LINES)
    parts.append(CRLF)
    return b"".join(parts)


def _trusted_lines(claims: dict[bytes, bytes], client: Client, host: bytes) -> bytes:
    """The X-Forwarded-* lines for the client of a trusted proxy, by the proxy's claims."""
    before = claims.get(b"x-forwarded-for")
    return _forwarded_lines(
        before + b", " + client.address if before else client.address,
        claims.get(b"x-forwarded-proto", client.scheme),
        claims.get(b"x-forwarded-host", host),
        claims.get(b"x-forwarded-port", client.port),
    )


def _forwarded_lines(seen: bytes, scheme: bytes, host: bytes, port: bytes) -> bytes:
    lines = b"X-Forwarded-For: %b\r\nX-Forwarded-Proto: %b\r\n" % (seen, scheme)
    if host:
        lines += b"X-Forwarded-Host: " + host + CRLF
    if port:
        lines += b"X-Forwarded-Port: " + port + CRLF
    return lines


def _forwarded(client: Client, host: bytes) -> bytes:
    """One element of Forwarded (RFC 7239 section 4), quoted where it is no token: a host may hold semicolons."""
    who = client.address
    if b":" in who:
        who = b'"[%b]"' % who
    elif b"." not in who:
        who = b"unknown"  # section 6.2; so comes a client of a unix socket
    element = b"for=%b;proto=%b" % (who, client.scheme)
    if host:
        element += b';host="%b"' % host if host.translate(TOKEN) != host else b";host=" + host
    return element


def with_host(head: bytes, authority: bytes) -> bytes:
    """The upstream head of a request without Host (HTTP/1.0): the backend's own authority stands in."""
    return b"Host: " + authority + CRLF + head


def with_lines(head: bytes, lines: bytes) -> bytes:
    """The upstream head with more field lines, each ended by CRLF."""
    return head[:-2] + lines + CRLF
