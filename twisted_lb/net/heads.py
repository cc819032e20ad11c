"""The heads of one connection: found in its bytes, understood, and not looked at again while they stay the same."""

from typing import TYPE_CHECKING, Final

from twisted_lb.wire.fields import Memory
from twisted_lb.wire.grammar import BLANK_LINE, CRLF, HOPELESS, BadMessage, Limits
from twisted_lb.wire.request import RequestFields, RequestHead, aimed_at, parse_request_line
from twisted_lb.wire.response import ResponseHead, parse_response
from twisted_lb.wire.rewrite import Client, upstream_tail

if TYPE_CHECKING:
    from twisted_lb.net.engine import Engine, Rules

_NOBODY: Final = Client(b"unknown")


class RequestHeads:
    """What a client sends between bodies, and what backends are told instead.

    `tail` is all of the last head as a backend gets it, behind method and target. `rest`, after each `take`, is what has
    not been used: what came behind the head, or the part of a head.
    """

    __slots__ = (
        "_block", "_engine", "_fields", "_head", "_memory", "_request", "_rules", "_searched", "_upgrade",
        "_version", "client", "rest", "tail",
    )  # fmt: skip

    def __init__(self, engine: "Engine") -> None:
        self.client: Client = _NOBODY
        self.tail: bytes = b""
        self.rest: bytes = b""
        self._engine: Final = engine
        self._searched: int = 0
        # The last head and its header block, and what follows from them.
        self._rules: Rules | None = None
        self._head: bytes = b""
        self._request: RequestHead | None = None
        self._version: int = 0
        self._block: bytes = b""
        self._fields: RequestFields | None = None
        self._upgrade: bytes = b""
        self._memory: Final = Memory()

    def take(self, data: bytes) -> RequestHead | None:
        """The head that `data` begins with; None when it is not complete. BadMessage as soon as it cannot be one."""
        rules = self._engine.rules
        request = self._request
        if request is not None and rules is self._rules and data.startswith(self._head):
            # The same as the last one to the byte: what was checked then is true now.
            self._searched = 0
            self.rest = data[len(self._head) :]
            return request
        if data[:2] == CRLF:
            # RFC 9112 2.2: an empty line before the request line is to be ignored.
            data = data[2:]
            self._searched = 0
        self.rest = data
        if data[:2] == CRLF:
            raise BadMessage(400, "empty lines before the request")
        end = data.find(BLANK_LINE, self._searched)
        if end < 0:
            _check_part(data, self._searched, rules.limits)
            self._searched = max(len(data) - 3, 0)
            return None
        if end > rules.limits.head_bytes:
            raise _too_long(data, rules.limits)
        self._searched = 0
        request = self._understand(data[:end], rules)
        self._request = request
        self._head = data[: end + 4]
        self.rest = data[end + 4 :]
        return request

    def _understand(self, head: bytes, rules: "Rules") -> RequestHead:
        """Parse a head; its block only if it is not the same as the last one on this connection."""
        line, _, block = head.partition(CRLF)
        method, target, version = parse_request_line(line, rules.limits)
        fields = self._fields
        if fields is None or block != self._block or version != self._version or rules is not self._rules:
            fields = self._engine.fields_of(version, block, self._memory)
            self._rules = rules
            self._version = version
            self._block = block
            self._fields = fields
            passing = rules.passing
            self._upgrade = passing.allowed_upgrade(fields)
            self.tail = upstream_tail(fields, self.client, passing.told, self._upgrade)
        authority = b""
        if target[:1] != b"/":
            target, authority = aimed_at(method, target, fields)
        return RequestHead(method, target, fields, self._upgrade, authority)


def _check_part(data: bytes, searched: int, limits: Limits) -> None:
    """What can no longer become a head is refused now, not when the time for it is over."""
    line, ended, _ = data.partition(CRLF)
    if HOPELESS.search(data, searched):
        raise BadMessage(400, "illegal character in the head")
    if ended and len(line) + len(CRLF) > searched + 3:
        parse_request_line(line, limits)
    # Its own line end is not counted, and a part of it may be here.
    if len(data) > limits.head_bytes + 3 or (not ended and len(data) > limits.line_bytes + 1):
        raise _too_long(data, limits)


def _too_long(data: bytes, limits: Limits) -> BadMessage:
    """A head, or what there is of it, that is too long: its line, or else all of it."""
    if data.find(CRLF, 0, limits.line_bytes + 2) < 0:
        return BadMessage(414, "request line too long")
    return BadMessage(431, "head too long")


class ResponseHeads:
    """What a backend sends between bodies. `last` is the last final head; `end`, after each `take`, where the head ends, its
    blank line included.
    """

    __slots__ = ("_bytes", "_engine", "_rules", "_searched", "end", "last")

    def __init__(self, engine: "Engine") -> None:
        self.last: ResponseHead | None = None
        self.end: int = 0
        self._engine: Final = engine
        self._searched: int = 0
        self._rules: Rules | None = None
        self._bytes: bytes = b""

    def take(self, data: bytes) -> ResponseHead | None:
        """The head that `data` begins with; None when it is not complete. BadMessage as soon as it cannot be one."""
        rules = self._engine.rules
        last = self.last
        if last is not None and rules is self._rules and data.startswith(self._bytes):
            # The same as the last one to the byte: what was checked then is true now.
            self._searched = 0
            self.end = len(self._bytes)
            return last
        end = data.find(BLANK_LINE, self._searched)
        limit = rules.limits.head_bytes
        if end > limit or (end < 0 and len(data) > limit + 3):
            raise BadMessage(502, "response head too long")
        if end < 0:
            if data.count(b"\n") != data.count(b"\r\n"):
                raise BadMessage(502, "bare LF")
            self._searched = max(len(data) - 3, 0)
            return None
        self._searched = 0
        self.end = end + len(BLANK_LINE)
        head = parse_response(data[:end], rules.limits, rules.response_lines)
        if head.status >= 200:
            self._rules = rules
            self._bytes = data[: self.end]
            self.last = head
        return head
