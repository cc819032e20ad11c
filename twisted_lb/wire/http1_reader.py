"""The HTTP/1.1 reader: finds heads and bodies by turns in what a client sends. No I/O.

What is remembered of heads, by whom, until when: a connection remembers its last head and its last header block, as
bytes and as what they mean, and the lines of that block by position (`fields.Memory`); a listener remembers the first head
of the last new connection, and its block (`SharedFields`), since many clients send the same few fields, and some the same
request, on a connection each. All of it is a pure function of the bytes and the limits, and so it holds for as long as the
`Limits` object is the same.
"""

from typing import Final

from mypy_extensions import mypyc_attr

from twisted_lb.wire.block_pattern import BlockPattern, learn
from twisted_lb.wire.chunked import ChunkDecoder
from twisted_lb.wire.fields import Memory
from twisted_lb.wire.grammar import BLANK_LINE, CHUNKED, CRLF, ILLEGAL_IN_HEAD, BadMessage, Limits
from twisted_lb.wire.request import RequestFields, RequestHead, parse_request_fields, parse_request_line, resolve_target

_EMPTY_LINE: Final = (CRLF, b"\r\n\r")
# A connection whose blocks differ each time in another way is not learnt from any more.
_LESSONS_MOST: Final = 8


@mypyc_attr(acyclic=True)
class FirstHead:
    """The first head of a connection, as its bytes, and all that its reader knew then."""

    __slots__ = ("data", "fields", "limits", "lines", "request", "rest", "version")

    def __init__(
        self, data: bytes, limits: Limits, request: RequestHead, version: int, rest: bytes, lines: bytes
    ) -> None:
        self.data: Final = data
        self.limits: Final = limits
        self.request: Final = request
        self.fields: Final = request.fields
        self.version: Final = version
        self.rest: Final = rest
        self.lines: Final = lines


class SharedFields:
    """The last header block of a new connection and its meaning. `first`: the first head of the last one that sent
    nothing behind it.
    """

    __slots__ = ("_block", "_fields", "_limits", "_lines", "_version", "first", "lines")

    def __init__(self) -> None:
        self._version: int = 0
        self._block: bytes = b""
        self._fields: RequestFields | None = None
        self._lines: bytes = b""
        self._limits: Limits | None = None
        self.lines: bytes = b""
        self.first: FirstHead | None = None

    def understand(self, version: int, block: bytes, limits: Limits, memory: Memory) -> RequestFields:
        """The meaning of a header block with its last CRLF, mostly the one that was parsed last; `lines` are then those
        of it that go on. BadMessage as of parse_request_fields.
        """
        last = self._fields
        if last is not None and block == self._block and version == self._version and limits is self._limits:
            self.lines = self._lines
            return last
        first = not memory.lines
        fields, self.lines = parse_request_fields(version, block[:-2], limits, memory)
        if first:
            self._version = version
            self._block = block
            self._fields = fields
            self._lines = self.lines
            self._limits = limits
        return fields


@mypyc_attr(acyclic=True, free_list_len=1)
class Http1Reader:
    """A reader of the requests of one connection. `buffer` is what has come and is not used: a part of a head, requests
    that were sent ahead (pipelining, read-ahead), or a body that is not taken for now.

    `take_head`, then, if its framing says that there is a body, `begin_body` and `take_body` until `body_ended`;
    `body_bytes` is how much of it came so far, `trailers` are the field lines behind a chunked one.
    """

    __slots__ = (
        "_decoder", "_fields", "_head", "_lessons", "_limits", "_lines", "_memory", "_pattern", "_remaining", "_request",
        "_rest", "_searched", "_shared", "_version", "body_bytes", "body_ended", "buffer", "trailers",
    )  # fmt: skip

    def __init__(self, shared: SharedFields) -> None:
        self.buffer: bytes = b""
        self.body_bytes: int = 0
        self.body_ended: bool = True
        self.trailers: bytes = b""
        self._shared: Final = shared
        self._searched: int = 0
        self._limits: Limits | None = None
        self._head: bytes = b""
        self._request: RequestHead | None = None
        self._version: int = 0
        # Of the last head what stands behind the CR of its first line: LF, the header block, the blank line.
        self._rest: bytes = b""
        self._fields: RequestFields | None = None
        self._lines: bytes = b""
        self._pattern: BlockPattern | None = None
        self._lessons: int = 0
        self._memory: Final = Memory()
        self._remaining: int = 0
        self._decoder: ChunkDecoder | None = None

    def take_head(self, limits: Limits) -> RequestHead | None:
        """Take the head that the buffer begins with; None while it is not complete. BadMessage as soon as it cannot
        become one, with the buffer as it was.
        """
        data = self.buffer
        request = self._request
        if request is None:
            first = self._shared.first
            if first is not None and data == first.data and limits is first.limits:
                return self._take_first(first)
        elif limits is self._limits and data.startswith(self._head):
            # The same as the last head to the byte: what was checked then is true now.
            self._searched = 0
            self.buffer = data[len(self._head) :]
            return request
        if limits is self._limits and len(data) <= limits.head_bytes + 4 and data.endswith(BLANK_LINE):
            request = self._take_alike(data, limits)
            if request is not None:
                return request
        if data[:2] == CRLF:
            if data in _EMPTY_LINE:
                return None  # wherever it is cut: what follows may be a second one
            # RFC 9112 2.2: an empty line before the request line is to be ignored.
            self.buffer = data = data[2:]
            self._searched = 0
        if data[:2] == CRLF:
            raise BadMessage(400, "empty lines before the request")
        end = data.find(BLANK_LINE, self._searched)
        if end < 0:
            _check_part(data, self._searched, limits)
            self._searched = max(len(data) - 3, 0)
            return None
        if end > limits.head_bytes:
            raise _too_long(data, limits)
        self._searched = 0
        request = self._parse_head(data, end, limits)
        self._request = request
        if len(data) == end + 4:
            # Nothing behind it, as a rule. Cut only where it has to be: compiled, also a slice of everything is a copy.
            self._head = data
            self.buffer = b""
        else:
            self._head = data[: end + 4]
            self.buffer = data[end + 4 :]
        return request

    def _take_first(self, first: FirstHead) -> RequestHead:
        """Take the first head of this connection, which is the one of another to the byte."""
        self._searched = 0
        self._limits = first.limits
        self._version = first.version
        self._rest = first.rest
        self._fields = first.fields
        self._lines = first.lines
        self._head = first.data
        request = self._request = first.request
        self.buffer = b""
        return request

    def _take_alike(self, data: bytes, limits: Limits) -> RequestHead | None:
        """Take the head that all of `data` is, where its block is the last one, or one of the pattern of this connection. Its
        end is not looked for: there is no blank line in either, but at its end.
        """
        line, _, rest = data.partition(b"\r")
        pattern, lines = self._pattern, self._lines
        fields = self._fields
        expected = self._version
        if rest != self._rest or fields is None:
            if pattern is None:
                return None
            filled = pattern.fill(rest)
            if filled is None:
                return None
            lines, fields, expected = filled, pattern.fields, pattern.version
        if not line:
            return None  # an empty line before the request line
        method, target, version = parse_request_line(line, limits)
        if version != expected:
            return None
        self._searched = 0
        self._version = version
        self._rest = rest
        self._lines = lines
        self._fields = fields
        request = self._head_of(method, target, fields)
        self._request = request
        self._head = data
        self.buffer = b""
        return request

    def _parse_head(self, data: bytes, end: int, limits: Limits) -> RequestHead:
        """Parse the head that `data` begins with, whose last line ends at `end`; its block only if it is not like the last
        one on this connection.
        """
        line_end = data.find(CRLF)
        method, target, version = parse_request_line(data[:line_end], limits)
        rest = data[line_end + 1 : end + 4]
        fields = self._fields
        if fields is None or rest != self._rest or version != self._version or limits is not self._limits:
            fields = self._understand(version, rest, limits)
        request = self._head_of(method, target, fields)
        if self._request is None and len(data) == end + 4:
            self._shared.first = FirstHead(data, limits, request, self._version, self._rest, self._lines)
        return request

    def _head_of(self, method: bytes, target: bytes, fields: RequestFields) -> RequestHead:
        """The head of a request line and the meaning of its block, whose lines are those of this connection."""
        authority = b""
        if target[:1] != b"/":
            target, authority = resolve_target(method, target, fields)
        return RequestHead(method, target, fields, self._lines, authority)

    def _understand(self, version: int, rest: bytes, limits: Limits) -> RequestFields:
        """The meaning of a block that is not the last one, with what is around it: by the pattern of this connection, or the
        parser.
        """
        shared = self._shared
        same_limits = limits is self._limits
        if not same_limits:
            self._pattern = None
            self._memory.lines = []
        pattern = self._pattern
        if pattern is not None and pattern.version == version:
            lines = pattern.fill(rest)
            if lines is not None:
                self._version = version
                self._rest = rest
                self._lines = lines
                self._fields = pattern.fields
                return pattern.fields
        block = rest[1:-2]
        before = self._rest[1:-2] if same_limits and version == self._version else b""
        fields = shared.understand(version, block, limits, self._memory)
        self._lines = shared.lines
        self._limits = limits
        self._version = version
        self._rest = rest
        self._fields = fields
        if before and self._lessons < _LESSONS_MOST:
            self._lessons += 1
            self._pattern = learn(version, fields, block, shared.lines, before, pattern) or pattern
        return fields

    def begin_body(self, framing: int, limits: Limits) -> None:
        """Begin a body of this length in bytes, or CHUNKED: it follows the head."""
        self.body_bytes = 0
        self.body_ended = False
        self.trailers = b""
        if framing == CHUNKED:
            self._decoder = ChunkDecoder(limits)
        else:
            self._decoder = None
            self._remaining = framing

    def take_body(self, data: bytes) -> bytes:
        """The payload in `data`, perhaps none; what is behind the body's end goes to the buffer. BadMessage for a chunk
        or a trailer that is broken.
        """
        decoder = self._decoder
        if decoder is None:
            self.body_bytes += len(data)
            remaining = self._remaining - len(data)
            self._remaining = remaining
            if remaining > 0:
                return data
            self.body_ended = True
            if remaining == 0:
                return data
            self.body_bytes += remaining
            self.buffer = data[remaining:]
            return data[:remaining]
        payload = decoder.feed(data)
        self.body_bytes += len(payload)
        if decoder.done:
            self.body_ended = True
            self.buffer = decoder.rest
            self.trailers = decoder.trailers
            self._decoder = None
        return payload


def _check_part(data: bytes, searched: int, limits: Limits) -> None:
    """Check a part of a head: one that can no longer become a head is refused now, not when its time is over."""
    line, ended, _ = data.partition(CRLF)
    if ILLEGAL_IN_HEAD.search(data, searched):
        raise BadMessage(400, "illegal character in the head")
    if ended and len(line) + len(CRLF) > searched + 3:
        parse_request_line(line, limits)
    # The head's own line end is not counted, and a part of it may be here.
    if len(data) > limits.head_bytes + 3 or (not ended and len(data) > limits.line_bytes + 1):
        raise _too_long(data, limits)


def _too_long(data: bytes, limits: Limits) -> BadMessage:
    """The refusal of a head, or a part of one, that is too long: 414 for its line, else 431."""
    if data.find(CRLF, 0, limits.line_bytes + 2) < 0:
        return BadMessage(414, "request line too long")
    return BadMessage(431, "head too long")
