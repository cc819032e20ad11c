"""Local replies: responses of our own, short, in the form the client prefers, and nothing about the inside."""

from http import HTTPStatus
from typing import Final

from twisted_lb.core.agreed import Agreed
from twisted_lb.core.grpc import code_of
from twisted_lb.wire.grammar import CRLF
from twisted_lb.wire.origin import Client
from twisted_lb.wire.request import RequestHead
from twisted_lb.wire.response import ResponseHead

_REASONS: Final = {
    400: b"Bad Request",
    403: b"Forbidden",
    404: b"Not Found",
    408: b"Request Timeout",
    413: b"Content Too Large",
    414: b"URI Too Long",
    429: b"Too Many Requests",
    431: b"Request Header Fields Too Large",
    500: b"Internal Server Error",
    501: b"Not Implemented",
    502: b"Bad Gateway",
    503: b"Service Unavailable",
    504: b"Gateway Timeout",
    505: b"HTTP Version Not Supported",
}

# A request id is shown in field values, HTML, JSON and the log: what is left out has a meaning in one of them.
_ID_BYTES: Final = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz-_.:/+=@"
_SAFE: Final = bytes(c if c in _ID_BYTES else 0x5F for c in range(256))
# Of what is no request its first two words are shown, as far as they are visible characters: a log line cannot be forged.
_SHOWN: Final = bytes(c if 0x21 <= c <= 0x7E else 0x5F for c in range(256))
_METHOD_SHOWN: Final = 32
_TARGET_SHOWN: Final = 1024

TEXT: Final = b"text/plain"
HTML: Final = b"text/html"
JSON: Final = b"application/json"

_PAGE: Final = (
    b"<!doctype html><meta charset=utf-8><title>%(status)d %(reason)b</title>"
    b"<h1>%(status)d %(reason)b</h1><p>Request %(id)b</p>\n"
)


# Fields that a TRACE must not show to whoever can read its answer (cross-site tracing).
_SECRET: Final = frozenset((b"authorization", b"cookie"))


class Claim:
    """What is known of a request that is refused before there is an exchange: the address that is connected, its first
    line, or as much of it as came, its field lines and its id, where they were read; `client` is the client's address
    where another one than the peer's is known (behind a trusted proxy). `peer_port`, `scheme`, `agreed`, and, where a head was
    read, `version` and `host` are as a Record has them.
    """

    __slots__ = (
        "agreed", "client", "host", "lines", "method", "peer", "peer_port", "request_id", "scheme", "target", "version",
    )  # fmt: skip

    def __init__(
        self, peer: str, line: bytes = b"", lines: bytes = b"", request_id: bytes = b"", client: str = ""
    ) -> None:
        method, _, rest = line[: _METHOD_SHOWN + 1 + _TARGET_SHOWN].partition(CRLF)[0].partition(b" ")
        self.peer: Final = peer
        self.client: Final = client or peer
        self.method: Final = method[:_METHOD_SHOWN].translate(_SHOWN)
        self.target: Final = rest.partition(b" ")[0][:_TARGET_SHOWN].translate(_SHOWN)
        self.lines: Final = lines
        self.request_id: bytes = request_id
        self.peer_port: int = 0
        self.scheme: bytes = b""
        self.version: int = 0
        self.host: bytes = b""
        self.agreed: Agreed | None = None

    def over(self, client: Client, peer_port: int) -> "Claim":
        """The claim itself: it came over the connection of this client, from this port."""
        self.scheme = client.scheme
        self.peer_port = peer_port
        return self


def claim_of(head: RequestHead, address: str, client: Client, peer_port: int) -> Claim:
    """What is known of a request whose head was read, of the client at this address, over the connection of this one."""
    claim = Claim(client.address.decode("ascii"), head.line, head.lines, head.fields.request_id, address)
    claim.version = head.fields.version
    claim.host = head.authority or head.fields.host
    return claim.over(client, peer_port)


class ErrorPage:
    """A replacement for the local reply with one status: a content type and a body."""

    def __init__(self, content_type: bytes, body: bytes) -> None:
        self.content_type: Final = content_type
        self.body: Final = body


# RFC 9110 10.1.1: what a client that expects it waits for before it sends its body.
CONTINUE: Final = ResponseHead(100, b"100 Continue", b"", 0, persistent=True)


def local_reply(
    status: int, request_id: bytes, accept: bytes = b"", page: ErrorPage | None = None, retry_after_s: int = 0
) -> tuple[ResponseHead, bytes]:
    """Head and body of a local reply; Retry-After only when a number of seconds is given.

    The id must be fit for a field value, HTML and JSON alike: `safe_id` sees to that.
    """
    reason = _REASONS.get(status) or reason_of(status)
    if page is not None:
        kind, body = page.content_type, page.body
    else:
        kind = preferred_type(accept)
        body = _body(kind, status, reason, request_id)
    lines = (
        b"Content-Type: %b; charset=utf-8\r\nContent-Length: %d\r\nCache-Control: no-store\r\nX-Request-ID: %b\r\n"
        % (
            kind,
            len(body),
            request_id,
        )
    )
    if retry_after_s > 0:
        lines += b"Retry-After: %d\r\n" % retry_after_s
    return ResponseHead(status, b"%d %b" % (status, reason), lines, len(body), persistent=True, dated=False), body


def grpc_reply(status: int, request_id: bytes, retry_after_s: int = 0) -> tuple[ResponseHead, bytes]:
    """Head and body, which is empty, of the local reply to a call of gRPC where others would get this status: trailers alone, in its words.
    Where a number of seconds is given the call is to be repeated no sooner.
    """
    reason = _REASONS.get(status) or reason_of(status)
    lines = b"Content-Type: application/grpc\r\nGrpc-Status: %d\r\nGrpc-Message: %b (%d), request %b\r\n" % (
        code_of(status),
        reason,
        status,
        request_id,
    )
    if retry_after_s > 0:
        lines += b"Grpc-Retry-Pushback-Ms: %d\r\n" % (retry_after_s * 1000)
    lines += b"X-Request-ID: %b\r\n" % request_id
    return ResponseHead(200, b"200 OK", lines, 0, persistent=True, dated=False, empty=True), b""


def reason_of(status: int) -> bytes:
    """The reason phrase of a status; empty for one that nobody has registered."""
    try:
        return HTTPStatus(status).phrase.encode("ascii")
    except ValueError:
        return b""


def final_answer(head: RequestHead) -> tuple[ResponseHead, bytes]:
    """Head and body of the local reply to an OPTIONS or TRACE whose hops are used up (RFC 9110 7.6.2): that of a final
    recipient. A TRACE gets back what came (9.3.8), without what tells who somebody is.
    """
    body = b""
    lines = b"Cache-Control: no-store\r\n"
    if head.method == b"TRACE":
        kept = [line for line in head.lines.splitlines(keepends=True) if line.partition(b":")[0].lower() not in _SECRET]
        body = head.line + b"".join(kept) + CRLF
        lines += b"Content-Type: message/http\r\n"
    lines += b"Content-Length: %d\r\n" % len(body)
    return ResponseHead(200, b"200 OK", lines, len(body), persistent=True, dated=False), body


def _body(kind: bytes, status: int, reason: bytes, request_id: bytes) -> bytes:
    if kind == JSON:
        return b'{"status": %d, "error": "%b", "request_id": "%b"}\n' % (status, reason, request_id)
    if kind == HTML:
        return _PAGE % {b"status": status, b"reason": reason, b"id": request_id}
    return b"%d %b\nrequest %b\n" % (status, reason, request_id)


def safe_id(request_id: bytes) -> bytes:
    """A client's request id as far as it is safe everywhere: at most 128 characters, none that has a meaning."""
    return request_id[:128].translate(_SAFE)


def preferred_type(accept: bytes) -> bytes:
    """The type of error body that an Accept field prefers (RFC 9110 12.5.1); text where it names none of ours."""
    best, best_quality = TEXT, 0.0
    for member in accept.lower().split(b","):
        media, *parameters = (part.strip(b" \t") for part in member.split(b";"))
        kind = JSON if media == JSON or media.endswith(b"+json") else media
        if kind in (TEXT, HTML, JSON):
            quality = _quality(parameters)
            if quality > best_quality:
                best, best_quality = kind, quality
    return best


def _quality(parameters: list[bytes]) -> float:
    for parameter in parameters:
        if parameter[:2] == b"q=":
            try:
                return min(max(float(parameter[2:]), 0.0), 1.0)
            except ValueError:
                return 0.0
    return 1.0


def accept_of(lines: bytes) -> bytes:
    """The list of the Accept fields among field lines; looked for only in a local reply."""
    members = []
    for line in lines.split(CRLF):
        name, _, value = line.partition(b":")
        if name.lower() == b"accept":
            members.append(value.strip(b" \t"))
    return b", ".join(members)
