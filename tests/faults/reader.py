"""A reader of HTTP/1.1 of its own: what a stream of bytes says, judged without the wire parser that is on trial.

It knows as much as the peers of the fault network say; h11 reads the same streams again, see `second_opinion`.
"""

import re
from collections.abc import Callable

import h11

UNTIL_CLOSE = -2
CHUNKED = -1

_REQUEST_LINE = re.compile(rb"([A-Z]+) (\S+) HTTP/1\.([01])")
_STATUS_LINE = re.compile(rb"HTTP/1\.([01]) ([1-5][0-9][0-9])(?: .*)?")
_FIELD = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([\x20-\x7e\x80-\xff\t]*)")
_CHUNK_SIZE = re.compile(rb"[0-9A-Fa-f]{1,8}")


class Message:
    """One message, as far as it came, interim answers included. `ends_at` is the offset behind it, None while it is not complete."""

    def __init__(self, begins_at: int) -> None:
        self.begins_at = begins_at
        self.final_at = begins_at  # behind interim answers
        self.head_ends_at: int | None = None
        self.ends_at: int | None = None
        self.method = b""
        self.target = b""
        self.status = 0
        self.version = 11
        self.fields: dict[bytes, bytes] = {}
        self.framing = 0
        self.body = bytearray()
        self.interim: list[int] = []
        self.cut = False  # by a reset: what came until then may be all, nobody can know

    @property
    def complete(self) -> bool:
        return self.ends_at is not None

    @property
    def closes(self) -> bool:
        """Whether its sender says that it is the last one."""
        options = self.fields.get(b"connection", b"").lower()
        return b"close" in options or (self.version == 10 and b"keep-alive" not in options)

    def get(self, name: str) -> str:
        return self.fields.get(name.encode(), b"").decode()

    def __repr__(self) -> str:
        what = f"{self.method.decode()} {self.target.decode()}" if self.method else str(self.status)
        return f"<{what} {'complete' if self.complete else 'incomplete'}, {len(self.body)} bytes of body>"


class Broken(Exception):
    """It is not HTTP/1.1."""


class Reader:
    """Takes a stream as it comes. `messages`: those that have begun; `broken`: why the stream can be read no further.

    Of answers, `method_of` says what the one with this index answers. After a 101 all is `tunnel`, and of requests after
    one of which `switched` says so, asked with its index for each that offers it.
    """

    def __init__(
        self,
        method_of: Callable[[int], bytes] | None = None,
        switched: Callable[[int], bool] = lambda index: False,
    ) -> None:
        self.messages: list[Message] = []
        self.broken = ""
        self.tunnel: bytearray | None = None
        self._method_of = method_of
        self._switched = switched
        self._buffer = b""
        self._offset = 0  # of the buffer's beginning
        self._message: Message | None = None
        self._interim: list[int] = []
        self._state = "head"
        self._left = 0

    def feed(self, data: bytes) -> "Reader":
        if self.tunnel is not None:
            self.tunnel += data
            return self
        self._buffer += data
        try:
            while not self.broken and self._step():
                pass
        except Broken as broken:
            self.broken = str(broken)
        return self

    def end(self, *, reset: bool = False) -> "Reader":
        """The stream ends: in order, or by a reset."""
        message = self._message
        if message is not None and self._state == "body" and message.framing == UNTIL_CLOSE:
            if reset:
                message.cut = True
            else:
                self._complete()
        return self

    @property
    def unread(self) -> bytes:
        """What follows the last message that could be read."""
        return self._buffer

    def _step(self) -> bool:
        if not self._buffer:
            return False
        if self.tunnel is not None:
            self.tunnel += self._buffer
            self._buffer = b""
            return False
        return {
            "head": self._head,
            "body": self._body,
            "size": self._size,
            "data": self._data,
            "data end": self._data_end,
            "trailers": self._trailers,
        }[self._state]()

    def _take(self, count: int) -> bytes:
        data, self._buffer = self._buffer[:count], self._buffer[count:]
        self._offset += len(data)
        return data

    def _line(self) -> bytes | None:
        end = self._buffer.find(b"\r\n")
        return None if end < 0 else self._take(end + 2)[:-2]

    def _head(self) -> bool:
        if self._message is None:
            self._message = Message(self._offset)
            self.messages.append(self._message)
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0:
            head = self._buffer
            if self._method_of is not None and not (head[:7] == b"HTTP/1."[: len(head)]):
                raise Broken("no status line")
            if head.count(b"\n") != head.count(b"\r\n"):
                raise Broken("bare LF")
            return False
        message = self._message
        lines = self._take(end + 4)[:-4].split(b"\r\n")
        message.head_ends_at = self._offset
        for line in lines[1:]:
            match = _FIELD.fullmatch(line)
            if match is None:
                raise Broken("illegal field")
            name = match[1].lower()
            if name in (b"content-length", b"transfer-encoding") and name in message.fields:
                raise Broken("framed twice")
            message.fields[name] = match[2].strip()
        if self._method_of is None:
            self._begin_request(message, lines[0])
        else:
            self._begin_response(message, lines[0])
        return True

    def _begin_request(self, message: Message, line: bytes) -> None:
        match = _REQUEST_LINE.fullmatch(line)
        if match is None:
            raise Broken("illegal request line")
        message.method, message.target = match[1], match[2]
        message.version = 10 + int(match[3])
        self._begin_body(message, 0)
        if b"upgrade" in message.fields and message.complete and self._switched(len(self.messages) - 1):
            self.tunnel = bytearray()

    def _begin_response(self, message: Message, line: bytes) -> None:
        match = _STATUS_LINE.fullmatch(line)
        if match is None:
            raise Broken("illegal status line")
        message.version, message.status = 10 + int(match[1]), int(match[2])
        if message.status == 101:
            message.interim = self._interim
            message.ends_at = self._offset
            self.tunnel = bytearray()
            return
        if message.status < 200:
            self._interim.append(message.status)
            begins_at = message.begins_at
            self.messages.pop()
            self._message = Message(begins_at)
            self._message.final_at = self._offset
            self.messages.append(self._message)
            return
        message.interim, self._interim = self._interim, []
        assert self._method_of is not None
        bodiless = message.status in (204, 304) or self._method_of(len(self.messages) - 1) == b"HEAD"
        self._begin_body(message, UNTIL_CLOSE, bodiless=bodiless)

    def _begin_body(self, message: Message, default: int, *, bodiless: bool = False) -> None:
        length, coding = message.fields.get(b"content-length"), message.fields.get(b"transfer-encoding")
        if coding is not None and (length is not None or coding.lower() != b"chunked"):
            raise Broken("unsafe framing")
        if length is not None and not length.isdigit():
            raise Broken("illegal length")
        message.framing = CHUNKED if coding is not None else int(length) if length is not None else default
        if bodiless or message.framing == 0:
            message.framing = 0
            self._complete()
        elif message.framing == CHUNKED:
            self._state = "size"
        else:
            self._state = "body"
            self._left = message.framing

    def _body(self) -> bool:
        assert self._message is not None
        data = self._take(self._left if self._left >= 0 else len(self._buffer))
        self._message.body += data
        if self._left >= 0:
            self._left -= len(data)
            if self._left == 0:
                self._complete()
        return True

    def _size(self) -> bool:
        line = self._line()
        if line is None:
            if not re.fullmatch(rb"[0-9A-Fa-f]*\r?", self._buffer):
                raise Broken("illegal chunk size")
            return False
        if not _CHUNK_SIZE.fullmatch(line):
            raise Broken("illegal chunk size")
        self._left = int(line, 16)
        self._state = "data" if self._left else "trailers"
        return True

    def _data(self) -> bool:
        assert self._message is not None
        data = self._take(self._left)
        self._message.body += data
        self._left -= len(data)
        if not self._left:
            self._state = "data end"
        return True

    def _data_end(self) -> bool:
        if self._buffer[:2] == b"\r\n":
            self._take(2)
            self._state = "size"
            return True
        if self._buffer != b"\r":
            raise Broken("chunk longer than its size")
        return False

    def _trailers(self) -> bool:
        line = self._line()
        if line == b"":
            self._complete()
        return line is not None

    def _complete(self) -> None:
        assert self._message is not None
        self._message.ends_at = self._offset
        self._message = None
        self._state = "head"


def read_both(asked: bytes, answered: bytes) -> tuple[Reader, Reader]:
    """Both directions of a connection, from its beginning."""

    def method_of(index: int) -> bytes:
        return requests.messages[index].method if index < len(requests.messages) else b"GET"

    def switched(index: int) -> bool:
        messages = Reader(method_of).feed(answered).messages
        return len(messages) > index and messages[index].status == 101

    requests = Reader(switched=switched)
    requests.feed(asked)
    return requests, Reader(method_of).feed(answered)


def second_opinion(message: Message, raw: bytes, method: bytes) -> str:
    """What h11 finds different about a complete answer with these bytes; empty when it agrees."""
    connection = h11.Connection(our_role=h11.CLIENT)
    connection.send(h11.Request(method=method, target="/", headers=[("Host", "a")]))
    connection.send(h11.EndOfMessage())
    connection.receive_data(raw)
    if message.framing == UNTIL_CLOSE:
        connection.receive_data(b"")
    body = bytearray()
    while True:
        try:
            event = connection.next_event()
        except h11.RemoteProtocolError as error:
            return f"h11: {error}"
        if isinstance(event, h11.Data):
            body += event.data
        elif isinstance(event, h11.EndOfMessage):
            break
        elif event is h11.NEED_DATA:
            return "h11 waits for more"
        elif isinstance(event, h11.Response) and event.status_code != message.status:
            return f"h11 reads status {event.status_code}"
    if body != message.body:
        return "h11 reads another body"
    return "h11 has bytes left" if connection.trailing_data[0] else ""
