"""Requests of HTTP/2 as HTTP/1.1 has them (RFC 9113 section 8): no field enters one but by the rules of HTTP/1.1 heads.

What is of HTTP/2 alone is looked at here: the pseudo-fields, cookies in crumbs, what may not be in a message. The rest becomes a
header block, which goes through the parser that those of HTTP/1.1 go through (request smuggling by downgrade).
"""

from typing import Final

from mypy_extensions import mypyc_attr

from twisted_lb.wire.fields import Memory, parse_trailers
from twisted_lb.wire.grammar import TARGET, TOKEN, BadMessage, Limits
from twisted_lb.wire.http2.hpack import (
    AUTHORITY,
    COOKIE,
    HOST,
    LENGTH,
    LINE,
    METHOD,
    PATH,
    PROTOCOL,
    SCHEME,
    TE,
    Entry,
)
from twisted_lb.wire.request import RequestFields, RequestHead, parse_request_fields, same_authority

HTTP2: Final = 20
_SCHEMES: Final = (b"http", b"https")
_TE_LINE: Final = b"te: trailers\r\nconnection: te\r\n"
_CHUNKED_LINE: Final = b"transfer-encoding: chunked\r\n"
# RFC 8441 5: in HTTP/1.1 an extended CONNECT is a GET with these lines, and a key.
_WEBSOCKET: Final = b"websocket"
_WEBSOCKET_LINES: Final = b"upgrade: websocket\r\nconnection: upgrade\r\n"
_WEBSOCKET_KEY: Final = b"sec-websocket-key"


@mypyc_attr(acyclic=True)
class RequestReader:
    """A reader of the requests of one connection, in their order. What it remembers is a pure function of the last one's fields and the
    limits. After each request `protocol` is what an extended CONNECT (RFC 8441) asks for, `websocket`; empty for any other. It is a GET then, as
    HTTP/1.1 has it, but for its Sec-WebSocket-Key, which is to be another one each time.
    """

    __slots__ = ("_entries", "_fields", "_limits", "_lines", "_memory", "_method", "_request", "_with_body", "protocol")

    def __init__(self) -> None:
        self.protocol: bytes = b""
        self._memory: Final = Memory()
        self._limits: Limits | None = None
        self._entries: list[Entry] = []
        self._with_body: bool = False
        self._method: bytes = b""
        self._fields: RequestFields | None = None
        self._lines: bytes = b""
        self._request: RequestHead | None = None

    def read(self, entries: list[Entry], path: bytes, limits: Limits, *, ended: bool) -> RequestHead:
        """The request that a field block says, with its path; `ended`: it has no body.

        BadMessage where it is none. With status 400 it is malformed (RFC 9113 8.1.1), else well formed, and to be answered so.
        """
        request = self._request
        if request is not None and entries == self._entries and self._with_body is not ended and limits is self._limits:
            # The same as the last one but for its path, which is the same quite often.
            if path == request.target:
                return request
        else:
            self._request = None
            self._understand(entries, limits, ended=ended)
        if path[:1] != b"/" and not (path == b"*" and self._method == b"OPTIONS"):
            raise BadMessage(400, ":path that is no path")
        if path.translate(TARGET) != path:
            raise BadMessage(400, "illegal character in :path")
        if len(path) > limits.line_bytes:
            raise BadMessage(414, ":path too long")
        fields = self._fields
        assert fields is not None
        request = RequestHead(self._method, path, fields, self._lines)
        self._request = request
        return request

    def _understand(self, entries: list[Entry], limits: Limits, *, ended: bool) -> None:  # noqa: PLR0912, PLR0915 - the one pass
        """What follows from all fields but the path."""
        method = scheme = authority = host = protocol = b""
        paths = hosts = 0
        in_fields = has_length = False
        lines: list[bytes] = []
        crumbs: list[bytes] = []
        for entry in entries:
            kind = entry.kind
            if kind == LINE:
                in_fields = True
                lines.append(entry.line)
            elif kind == COOKIE:
                in_fields = True
                crumbs.append(entry.value)
            elif kind == LENGTH:
                in_fields = has_length = True
                lines.append(entry.line)
            elif kind == TE:
                in_fields = True
                lines.append(_TE_LINE)
            elif kind == HOST:
                in_fields = True
                hosts += 1
                host = entry.value
            elif in_fields:
                raise BadMessage(400, _why(entry, "pseudo-field behind a field"))
            elif not entry.value:
                raise BadMessage(400, _why(entry, "pseudo-field without a value"))
            elif kind == METHOD and not method:
                method = entry.value
            elif kind == SCHEME and not scheme:
                scheme = entry.value
            elif kind == AUTHORITY and not authority:
                authority = entry.value
            elif kind == PATH and not paths:
                paths = 1
            elif kind == PROTOCOL and not protocol:
                protocol = entry.value
            else:
                raise BadMessage(400, _why(entry, "pseudo-field that comes twice, or is of no request"))
        self._check(method, scheme, protocol, paths)
        if protocol:
            if ended or has_length:
                raise BadMessage(400, "CONNECT that has an end")
            lines = [entry.line for entry in entries if entry.kind == LINE and entry.name != _WEBSOCKET_KEY]
            lines.append(_WEBSOCKET_LINES)
            method = b"GET"
        if hosts > 1:
            raise BadMessage(400, "more than one host")
        if hosts and authority and not same_authority(scheme + b":", authority, host):
            raise BadMessage(400, ":authority and host disagree")
        if not authority and not hosts:
            raise BadMessage(400, "neither :authority nor host")
        if crumbs:
            # RFC 9113 8.2.3: they are one field to whoever does not speak HTTP/2.
            lines.append(b"cookie: " + b"; ".join(crumbs) + b"\r\n")
        if not (ended or has_length or protocol):
            lines.append(_CHUNKED_LINE)
        block = b"host: " + (authority or host) + b"\r\n" + b"".join(lines)
        self._fields, self._lines = parse_request_fields(HTTP2, block[:-2], limits, self._memory)
        if ended and self._fields.framing > 0:
            raise BadMessage(400, "content-length without a body")
        self._limits = limits
        self._entries = entries
        self._with_body = not ended
        self._method = method
        self.protocol = protocol

    @staticmethod
    def _check(method: bytes, scheme: bytes, protocol: bytes, paths: int) -> None:
        """What pseudo-fields a request has (RFC 9113 8.3.1, 8.5; RFC 8441 4)."""
        if not method:
            raise BadMessage(400, "no :method")
        if method != b"GET" and method.translate(TOKEN) != method:
            raise BadMessage(400, "illegal :method")
        if method == b"CONNECT" and not protocol:
            if scheme or paths:
                raise BadMessage(400, "CONNECT with :scheme or :path")
            raise BadMessage(501, "CONNECT is not offered")
        if protocol and method != b"CONNECT":
            raise BadMessage(400, ":protocol without CONNECT")
        if not scheme:
            raise BadMessage(400, "no :scheme")
        if scheme not in _SCHEMES:
            raise BadMessage(400, "another :scheme than http and https")
        if not paths:
            raise BadMessage(400, "no :path")
        if protocol and protocol != _WEBSOCKET:
            raise BadMessage(501, "CONNECT for another :protocol than websocket")


def read_trailers(entries: list[Entry], limits: Limits) -> bytes:
    """Trailer fields as lines of HTTP/1.1 that go on, each ended by CRLF. BadMessage where they are malformed, or too much."""
    lines: list[bytes] = []
    for entry in entries:
        if not entry.line:
            raise BadMessage(400, _why(entry, "pseudo-field among the trailers"))
        lines.append(entry.line)
    block = b"".join(lines)
    if len(block) > limits.trailer_bytes:
        raise BadMessage(431, "trailers too long")
    return parse_trailers(block[:-2], limits) if block else b""


def _why(entry: Entry, otherwise: str) -> str:
    """What is wrong with a field that makes its message malformed."""
    return otherwise if entry.name[:1] == b":" else "field that no message of HTTP/2 may have"
