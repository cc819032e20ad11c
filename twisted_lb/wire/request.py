"""Request heads: what a client asks, checked as a whole before anything is forwarded (request smuggling)."""

from typing import Final

from mypy_extensions import mypyc_attr

from twisted_lb.wire.fields import Fields, Memory, parse_fields, unsafe_framing, without
from twisted_lb.wire.grammar import AUTHORITY, CHUNKED, CRLF, DIGITS, TARGET, TOKEN, BadMessage, Limits
from twisted_lb.wire.grpc import is_grpc

# RFC 9110 7.6.2: each proxy takes one off the Max-Forwards of these, and answers itself at 0; of others it may be ignored.
_COUNTED: Final = frozenset((b"OPTIONS", b"TRACE"))


@mypyc_attr(acyclic=True, free_list_len=1)
class RequestFields:
    """The meaning of a request's header block, beside the lines that just pass: a pure function of (version, block), so
    that a connection may keep the last one. `version` is 10, 11 or, of HTTP/2, 20.

    `framing` is the length of the body in bytes, 0 for none, or CHUNKED. `binds`: it may authenticate the connection to the
    backend (NTLM, Negotiate), which is its client's alone from then on. `grpc`: it is a call of gRPC, by what each of them says (`te: trailers`).
    """

    def __init__(self, version: int, fields: Fields, framing: int) -> None:
        self.version: Final = version
        self.host: Final = fields.host
        self.has_host: Final = fields.hosts == 1
        self.framing: Final = framing
        # RFC 9112 9.3: 1.1 persists unless it says close, 1.0 only if it asks.
        self.keep_alive: Final = not fields.close and (version >= 11 or fields.keep_alive)
        self.expects: Final[bool] = version >= 11 and fields.expects
        # RFC 9110 7.8: ignored on 1.0. With a body it would be unclear what is body and what is tunnel. On HTTP/2 it is an extended CONNECT.
        self.upgrade: Final = fields.upgrade if version >= 11 and framing == 0 else b""
        self.te_trailers: Final = fields.te_trailers
        self.request_id: Final = fields.request_id
        self.traced: Final = fields.traced
        self.claims: Final = fields.claims
        self.claimed: Final = fields.claimed
        self.max_forwards: Final = fields.max_forwards
        self.binds: Final = fields.binds
        self.grpc: Final = fields.te_trailers and is_grpc(fields.lines)


@mypyc_attr(acyclic=True, free_list_len=1)
class RequestHead:
    """The head of one request: its line, the meaning of its fields, the `lines` that go on to a backend, each ended by
    CRLF, and the authority of an absolute target. BadMessage where it counts hops (Max-Forwards), and not in a number.
    """

    def __init__(
        self, method: bytes, target: bytes, fields: RequestFields, lines: bytes, authority: bytes = b""
    ) -> None:
        if fields.max_forwards != -1 and method in _COUNTED:
            lines = _one_hop_less(lines, fields.max_forwards)
        self.method: Final = method
        self.target: Final = target
        # The request line for a backend.
        self.line: Final = method + b" " + target + b" HTTP/1.1\r\n"
        self.fields: Final = fields
        self.lines: Final = lines
        self.authority: Final = authority

    @property
    def goes_no_further(self) -> bool:
        """Whether its hops are used up (Max-Forwards: 0), so that it is to be answered here."""
        return self.fields.max_forwards == 0 and self.method in _COUNTED

    def __repr__(self) -> str:
        return f"<RequestHead {self.method.decode('ascii')} {self.target.decode('ascii')}>"


def _one_hop_less(lines: bytes, hops: int) -> bytes:
    """Field lines with one less in Max-Forwards (RFC 9110 7.6.2)."""
    if hops < 0:
        raise BadMessage(400, "Max-Forwards is not one number")
    less = b": %d\r\n" % max(hops - 1, 0)
    return b"".join(
        line.partition(b":")[0] + less if line[:13].lower() == b"max-forwards:" else line
        for line in lines.splitlines(keepends=True)
    )


def parse_request_line(line: bytes, limits: Limits) -> tuple[bytes, bytes, int]:
    """(method, target, version 10 or 11) of a request line; BadMessage as RFC 9112 section 3 asks."""
    if len(line) > limits.line_bytes:
        raise BadMessage(414, "request line too long")
    parts = line.split(b" ")
    if len(parts) != 3:
        raise BadMessage(400, "request line is not three words")
    method, target, version_text = parts
    if method != b"GET" and (not method or method.translate(TOKEN) != method):
        raise BadMessage(400, "illegal method")
    version = 11 if version_text == b"HTTP/1.1" else 10 if version_text == b"HTTP/1.0" else 0
    if not version:
        raise _bad_version(version_text)
    if target.translate(TARGET) != target:
        raise BadMessage(400, "illegal character in the target")
    if target[:1] != b"/" or method == b"CONNECT":
        _check_other_target(method, target)
    return method, target, version


def _bad_version(text: bytes) -> BadMessage:
    digits = text[5:6] + text[7:]
    if text[:5] == b"HTTP/" and text[6:7] == b"." and len(digits) == 2 and digits.translate(DIGITS) == digits:
        return BadMessage(505, "HTTP version not supported")
    return BadMessage(400, "illegal HTTP version")


def _check_other_target(method: bytes, target: bytes) -> None:
    """Check a target that is no path (RFC 9112 3.2): absolute-form, or `*` with OPTIONS. CONNECT is for forward
    proxies, whatever its target.
    """
    if method == b"CONNECT":
        raise BadMessage(501, "CONNECT is not offered")
    if target == b"*" and method == b"OPTIONS":
        return
    # RFC 9110 4.2.1 and 4.2.4: an http URI has a host, and no userinfo.
    absolute = target[:7].lower() == b"http://" or target[:8].lower() == b"https://"
    if absolute and AUTHORITY.fullmatch(target_authority(target)):
        return
    raise BadMessage(400, "illegal target")


def parse_request_fields(
    version: int, block: bytes, limits: Limits, memory: Memory | None = None
) -> tuple[RequestFields, bytes]:
    """Parse the header block of a request: its meaning, and the lines of it that go on; BadMessage when its framing or
    its Host is not beyond doubt. With `memory` it is cheaper, and the result the same.
    """
    fields = parse_fields(block, limits, memory)
    if fields.hosts > 1:
        raise BadMessage(400, "more than one Host")
    if fields.hosts == 0 and version >= 11:
        raise BadMessage(400, "no Host")  # RFC 9112 3.2
    if fields.hosts and (memory is None or fields.host != memory.host or not fields.host):
        if not AUTHORITY.fullmatch(fields.host):
            raise BadMessage(400, "illegal Host")
        if memory is not None:
            memory.host = fields.host
    # RFC 9110 10.1.1: an expectation on 1.0 is ignored, and so not passed on to a backend that would answer it.
    lines = fields.lines if version >= 11 or not fields.expects else without(fields.lines, b"expect")
    return RequestFields(version, fields, _request_framing(version, fields)), lines


def _request_framing(version: int, fields: Fields) -> int:
    """The framing of a request's body (RFC 9112 6.3); every doubtful case is refused (request smuggling)."""
    if not fields.codings:
        return max(fields.length, 0)
    if fields.length < 0 and version >= 11 and fields.codings.lower() == b"chunked":
        return CHUNKED
    why = unsafe_framing(version, fields)
    if why:
        raise BadMessage(400, why)
    raise BadMessage(501, "unknown transfer coding")


def parse_request(head: bytes, limits: Limits) -> RequestHead:
    """Parse a whole request head at once, given without its blank line. The fast path takes two steps instead."""
    line, _, block = head.partition(CRLF)
    method, target, version = parse_request_line(line, limits)
    fields, lines = parse_request_fields(version, block, limits)
    return RequestHead(method, target, fields, lines)


def origin_form(target: bytes, method: bytes = b"") -> bytes:
    """The target in the form that a backend is asked: absolute-form loses scheme and authority (RFC 9112 3.2.2)."""
    if target[:1] == b"/" or target == b"*":
        return target
    rest = target.partition(b"://")[2]
    for index in range(len(rest)):
        if rest[index] == 0x2F:  # a slash
            return rest[index:]
        if rest[index] == 0x3F:  # a question mark: RFC 9112 3.2.1 wants a path before the query
            return b"/" + rest[index:]
    return b"*" if method == b"OPTIONS" else b"/"  # RFC 9112 3.2.4: without a path it is the server that is meant


def resolve_target(method: bytes, target: bytes, fields: RequestFields) -> tuple[bytes, bytes]:
    """Resolve a target that may be no path: (target for a backend, authority). BadMessage if Host names another."""
    authority = target_authority(target)
    if authority and fields.has_host and not same_authority(target, authority, fields.host):
        raise BadMessage(400, "target and Host disagree")
    return origin_form(target, method), authority


def target_authority(target: bytes) -> bytes:
    """The authority of an absolute-form target, empty for the other forms."""
    if target[:1] == b"/" or target == b"*":
        return b""
    rest = target.partition(b"://")[2]
    return rest.partition(b"/")[0].partition(b"?")[0]


def same_authority(target: bytes, authority: bytes, host: bytes) -> bool:
    """Whether an absolute target and a Host mean the same place: case and a default port do not count (RFC 3986 6.2.3)."""
    default = b":443" if target[:6].lower() == b"https:" else b":80"
    return authority.lower().removesuffix(default) == host.lower().removesuffix(default)
