"""Frames of HTTP/2 (RFC 9113 sections 4 and 6): those that we send as bytes, and a reader of those that a peer sends.

The reader checks what can be told from the bytes of a connection alone: sizes, paddings, which frames stand on which streams, and
that nothing comes between the frames of one field block. What is open, and which windows there are, is for its user to know.
"""

from typing import Final

from mypy_extensions import mypyc_attr

from twisted_lb.wire.http2.errors import (
    ENHANCE_YOUR_CALM,
    FLOW_CONTROL_ERROR,
    FRAME_SIZE_ERROR,
    PROTOCOL_ERROR,
    Http2Error,
)

PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
HEAD_BYTES: Final = 9
# RFC 9113 4.2: everybody takes frames of this size, and we say nothing of larger ones.
FRAME_BYTES: Final = 16384
WINDOW_MOST: Final = 0x7FFFFFFF
STREAM_MOST: Final = 0x7FFFFFFF
# RFC 9113 6.9.2: the windows of a connection and of its streams, until somebody says another size.
WINDOW_BYTES: Final = 65535

DATA: Final = 0x0
HEADERS: Final = 0x1
PRIORITY: Final = 0x2
RST_STREAM: Final = 0x3
SETTINGS: Final = 0x4
PUSH_PROMISE: Final = 0x5
PING: Final = 0x6
GOAWAY: Final = 0x7
WINDOW_UPDATE: Final = 0x8
CONTINUATION: Final = 0x9

END_STREAM: Final = 0x1
ACK: Final = 0x1
END_HEADERS: Final = 0x4
PADDED: Final = 0x8
WITH_PRIORITY: Final = 0x20

# Settings (RFC 9113 6.5.2, RFC 8441 3, RFC 9218 2.1).
HEADER_TABLE_SIZE: Final = 0x1
ENABLE_PUSH: Final = 0x2
MAX_CONCURRENT_STREAMS: Final = 0x3
INITIAL_WINDOW_SIZE: Final = 0x4
MAX_FRAME_SIZE: Final = 0x5
MAX_HEADER_LIST_SIZE: Final = 0x6
ENABLE_CONNECT_PROTOCOL: Final = 0x8
NO_RFC7540_PRIORITIES: Final = 0x9

# A field block with its continuations: so many of these, and so many bytes. Clients send a block of more than a frame in
# frames that are full.
_CONTINUATIONS_MOST: Final = 8
BLOCK_BYTES: Final = 65536

# Those of HEADERS that say how it is to be read.
_HEADERS_FLAGS: Final = END_HEADERS | PADDED | WITH_PRIORITY
# From here on a frame that has begun is completed by a copy of its own rest alone.
_WORTH_COMPLETING: Final = 4096

# What a reader does with what it is fed.
_READS: Final = 0
_HOLDS: Final = 1
_STOPPED: Final = 2


def frame_head(length: int, kind: int, flags: int, stream: int) -> bytes:
    """The head of a frame with a payload of so many bytes."""
    return (length << 48 | kind << 40 | flags << 32 | stream).to_bytes(HEAD_BYTES, "big")


def settings_frame(settings: dict[int, int]) -> bytes:
    """What we say of ourselves."""
    payload = b"".join([(name << 32 | value).to_bytes(6, "big") for name, value in settings.items()])
    return frame_head(len(payload), SETTINGS, 0, 0) + payload


SETTINGS_ACK: Final = frame_head(0, SETTINGS, ACK, 0)


def window_update(stream: int, more: int) -> bytes:
    """So many bytes more may come on a stream, or, on 0, on the connection."""
    return frame_head(4, WINDOW_UPDATE, 0, stream) + more.to_bytes(4, "big")


def reset_frame(stream: int, code: int) -> bytes:
    """A stream is over, with this error code."""
    return frame_head(4, RST_STREAM, 0, stream) + code.to_bytes(4, "big")


def goaway(last: int, code: int, reason: bytes = b"") -> bytes:
    """No stream above the `last` is or will be served; `reason` is for whoever looks at the bytes."""
    return frame_head(8 + len(reason), GOAWAY, 0, 0) + (last << 32 | code).to_bytes(8, "big") + reason


def ping(payload: bytes, *, ack: bool = False) -> bytes:
    """Eight bytes that are to come back, or come back."""
    return frame_head(8, PING, ACK if ack else 0, 0) + payload


def headers_frames(stream: int, block: bytes, *, ended: bool, most: int = FRAME_BYTES) -> list[bytes]:
    """A field block, in as many frames as it takes; `ended`: nothing comes on the stream behind it."""
    flags = END_STREAM if ended else 0
    size = len(block)
    if size <= most:
        return [frame_head(size, HEADERS, flags | END_HEADERS, stream), block]
    frames = [frame_head(most, HEADERS, flags, stream), block[:most]]
    for at in range(most, size, most):
        piece = block[at : at + most]
        frames += [frame_head(len(piece), CONTINUATION, END_HEADERS if at + most >= size else 0, stream), piece]
    return frames


@mypyc_attr(allow_interpreted_subclasses=True)
class FrameReceiver:
    """Who is told the frames of a peer, in their order. Http2Error from any of them ends the reading."""

    def block_received(self, stream: int, block: bytes, *, ended: bool) -> None:
        """A whole field block (HEADERS with its CONTINUATIONs); `ended`: with it the peer has said everything on this stream."""
        raise NotImplementedError

    def data_received(self, stream: int, data: bytes, size: int, *, ended: bool) -> None:
        """A piece of a body, perhaps empty; `size` is what it takes of the windows, padding included."""
        raise NotImplementedError

    def reset_received(self, stream: int, code: int) -> None:
        """The peer gives a stream up."""
        raise NotImplementedError

    def settings_received(self, settings: list[tuple[int, int]]) -> None:
        """What the peer says of itself, each with a value that it may have. It is to be acknowledged."""
        raise NotImplementedError

    def settings_acknowledged(self) -> None:
        """The peer goes by what we have said of ourselves."""
        raise NotImplementedError

    def ping_received(self, payload: bytes, *, ack: bool) -> None:
        """Eight bytes; without `ack` they are to go back."""
        raise NotImplementedError

    def goaway_received(self, last: int, code: int, reason: bytes) -> None:
        """The peer serves no stream of ours above the `last`, or opens none any more."""
        raise NotImplementedError

    def window_opened(self, stream: int, more: int) -> None:
        """So many bytes more may be sent, on a stream, or on the connection (0). More of 0 is an error of that stream."""
        raise NotImplementedError

    def priority_received(self, stream: int, fault: str) -> None:
        """What a stream was to depend on, which nobody heeds (RFC 9113 5.3.2). `fault`: why it is an error of that stream; of a frame that is
        too short it is its size.
        """
        raise NotImplementedError

    def unknown_received(self, kind: int) -> None:
        """A frame of a kind that nobody knows: it is ignored (RFC 9113 5.5)."""
        raise NotImplementedError


@mypyc_attr(acyclic=True)
class FrameReader:
    """A reader of the frames of one peer. `of_client`: it is a client, which sends a preface first and opens streams with odd numbers;
    else a server, whose first frame is SETTINGS too.
    """

    __slots__ = (
        "_block",
        "_block_ended",
        "_continuations",
        "_of_client",
        "_prefaced",
        "_rest",
        "_state",
        "_stream",
        "_told",
    )

    def __init__(self, *, of_client: bool) -> None:
        self._of_client: Final = of_client
        self._prefaced: bool = not of_client
        self._told: bool = False  # what the peer says of itself
        self._state: int = _READS
        self._rest: bytes = b""
        # The field block that has begun, and on which stream; 0 for none.
        self._stream: int = 0
        self._block: list[bytes] = []
        self._block_ended: bool = False
        self._continuations: int = 0

    @property
    def held(self) -> int:
        """How many bytes are kept of what is not complete."""
        return len(self._rest) + sum([len(part) for part in self._block])

    @property
    def in_head(self) -> bool:
        """Whether a part of a field block is here, and not all of it."""
        rest = self._rest
        return self._stream != 0 or (len(rest) > 3 and rest[3] == HEADERS)

    @property
    def in_data(self) -> int:
        """The stream of whose body a part is here in a frame that is not complete; 0 for none."""
        rest = self._rest
        if len(rest) < HEAD_BYTES or rest[3] != DATA:
            return 0
        return int.from_bytes(rest[5:HEAD_BYTES], "big") & STREAM_MOST

    def stop(self) -> None:
        """Read no more, also of what is being fed."""
        self._state = _STOPPED
        self._rest = b""
        self._block = []

    def hold(self) -> None:
        """Keep what comes from here on, also of what is being fed, until `go_on`."""
        if self._state == _READS:
            self._state = _HOLDS

    def go_on(self, receiver: FrameReceiver) -> None:
        """Read on after `hold`, first what is kept."""
        if self._state == _HOLDS:
            self._state = _READS
            if self._rest:
                self.feed(b"", receiver)

    def feed(self, data: bytes, receiver: FrameReceiver) -> None:
        """Take bytes of the peer, and tell the frames that are complete with them. Http2Error ends the connection."""
        if self._state != _READS:
            if self._state == _HOLDS:
                self._rest += data
            return
        at = 0
        if self._rest:
            at = self._complete(data, receiver)
            if at < 0:
                data = self._rest + data
                self._rest = b""
                at = 0
        if not self._prefaced:
            at = self._preface(data)
            if at < 0:
                return
        end = len(data)
        if self._state == _READS:
            at = self._frames(data, at, end, receiver)
        if at < end and self._state != _STOPPED:
            self._rest = data[at:] if at else data

    def _complete(self, data: bytes, receiver: FrameReceiver) -> int:
        """Complete a frame that is kept, of which the head is here and a long part may be: what comes behind it is not copied. Where that
        begins; -1, and nothing is done, where it is not worth it.
        """
        rest = self._rest
        if len(data) < _WORTH_COMPLETING or len(rest) < HEAD_BYTES or not self._prefaced:
            return -1
        missing = HEAD_BYTES + (rest[0] << 16 | rest[1] << 8 | rest[2]) - len(rest)
        if not 0 < missing <= len(data):
            return -1
        self._rest = b""
        self._frames(rest + data[:missing], 0, len(rest) + missing, receiver)
        return missing

    def _frames(self, data: bytes, at: int, end: int, receiver: FrameReceiver) -> int:
        """Tell the frames that are whole; where the first one begins that is not, or that is not to be told for now."""
        while end - at >= HEAD_BYTES:
            length = data[at] << 16 | data[at + 1] << 8 | data[at + 2]
            if length > FRAME_BYTES:
                raise Http2Error(FRAME_SIZE_ERROR, f"frame of {length} bytes")
            begin = at + HEAD_BYTES
            if begin + length > end:
                break
            kind, flags = data[at + 3], data[at + 4]
            stream = (data[at + 5] & 0x7F) << 24 | data[at + 6] << 16 | data[at + 7] << 8 | data[at + 8]
            at = begin + length
            if kind > HEADERS or not self._told or self._stream:
                self._other(kind, data[begin:at], flags, stream, receiver)
            elif kind == DATA:
                if stream and not flags & PADDED:  # as a rule, and then without a detour
                    receiver.data_received(stream, data[begin:at], length, ended=flags & END_STREAM != 0)
                else:
                    self._data(data, begin, at, flags, stream, receiver)
            elif stream and flags & _HEADERS_FLAGS == END_HEADERS:
                receiver.block_received(stream, data[begin:at], ended=flags & END_STREAM != 0)
            else:
                self._headers(data, begin, at, flags, stream, receiver)
            if self._state != _READS:
                break
        return at

    def _preface(self, data: bytes) -> int:
        """Where the frames begin; -1 while the preface is not complete."""
        if data.startswith(PREFACE):
            self._prefaced = True
            return len(PREFACE)
        if not PREFACE.startswith(data):
            raise Http2Error(PROTOCOL_ERROR, "no preface of HTTP/2")
        self._rest = data
        return -1

    def _data(self, data: bytes, begin: int, end: int, flags: int, stream: int, receiver: FrameReceiver) -> None:
        if not stream:
            raise Http2Error(PROTOCOL_ERROR, "DATA on no stream")
        size = end - begin
        if flags & PADDED:
            begin, end = _unpadded(data, begin, end)
        receiver.data_received(stream, data[begin:end], size, ended=flags & END_STREAM != 0)

    def _headers(self, data: bytes, begin: int, end: int, flags: int, stream: int, receiver: FrameReceiver) -> None:
        if not stream:
            raise Http2Error(PROTOCOL_ERROR, "HEADERS on no stream")
        if flags & PADDED:
            begin, end = _unpadded(data, begin, end)
        fault = ""
        if flags & WITH_PRIORITY:
            if end - begin < 5:
                raise Http2Error(FRAME_SIZE_ERROR, "HEADERS too short for its priority")
            fault = _of_itself(data, begin, stream)
            begin += 5
        ended = flags & END_STREAM != 0
        if flags & END_HEADERS:
            receiver.block_received(stream, data[begin:end], ended=ended)
            if fault and self._state != _STOPPED:
                receiver.priority_received(stream, fault)
        else:
            if fault:
                raise Http2Error(PROTOCOL_ERROR, fault)
            self._stream = stream
            self._block = [data[begin:end]]
            self._block_ended = ended
            self._continuations = 0

    def _continue(self, payload: bytes, flags: int, stream: int, receiver: FrameReceiver) -> None:
        """Empty ones count as others do: of them alone no bound of bytes would stop a flood."""
        if stream != self._stream or not stream:
            raise Http2Error(PROTOCOL_ERROR, "CONTINUATION of no field block")
        self._continuations += 1
        self._block.append(payload)
        if self._continuations > _CONTINUATIONS_MOST or self.held > BLOCK_BYTES:
            raise Http2Error(ENHANCE_YOUR_CALM, "field block in too many parts, or too long")
        if flags & END_HEADERS:
            block = b"".join(self._block)
            self._block = []
            self._stream = 0
            receiver.block_received(stream, block, ended=self._block_ended)

    def _other(self, kind: int, payload: bytes, flags: int, stream: int, receiver: FrameReceiver) -> None:
        if not self._told:
            if kind != SETTINGS or flags & ACK:
                raise Http2Error(PROTOCOL_ERROR, "no SETTINGS first")
            self._told = True
        if kind == CONTINUATION:
            self._continue(payload, flags, stream, receiver)
        elif self._stream:
            raise Http2Error(PROTOCOL_ERROR, "frame within a field block")
        elif kind == WINDOW_UPDATE:
            _sized(kind, payload, 4)
            more = int.from_bytes(payload, "big") & WINDOW_MOST
            if not more and not stream:
                raise Http2Error(PROTOCOL_ERROR, "WINDOW_UPDATE of 0")
            receiver.window_opened(stream, more)
        elif kind == RST_STREAM:
            _sized(kind, payload, 4)
            _on_a_stream(kind, stream)
            receiver.reset_received(stream, int.from_bytes(payload, "big"))
        elif kind == PRIORITY:
            _on_a_stream(kind, stream)
            fault = f"PRIORITY of {len(payload)} bytes" if len(payload) != 5 else _of_itself(payload, 0, stream)
            receiver.priority_received(stream, fault)
        elif kind == PUSH_PROMISE:
            raise Http2Error(PROTOCOL_ERROR, "PUSH_PROMISE, which nobody has asked for")
        elif kind in (SETTINGS, PING, GOAWAY):
            if stream:
                raise Http2Error(PROTOCOL_ERROR, f"{_NAMES[kind]} on a stream")
            self._of_connection(kind, payload, flags, receiver)
        else:
            receiver.unknown_received(kind)

    def _of_connection(self, kind: int, payload: bytes, flags: int, receiver: FrameReceiver) -> None:
        if kind == PING:
            _sized(kind, payload, 8)
            receiver.ping_received(payload, ack=flags & ACK != 0)
        elif kind == GOAWAY:
            if len(payload) < 8:
                raise Http2Error(FRAME_SIZE_ERROR, f"GOAWAY of {len(payload)} bytes")
            last = int.from_bytes(payload[:4], "big") & STREAM_MOST
            receiver.goaway_received(last, int.from_bytes(payload[4:8], "big"), payload[8:])
        elif flags & ACK:
            _sized(kind, payload, 0)
            receiver.settings_acknowledged()
        else:
            if len(payload) % 6:
                raise Http2Error(FRAME_SIZE_ERROR, f"SETTINGS of {len(payload)} bytes")
            receiver.settings_received(self._settings(payload))

    def _settings(self, payload: bytes) -> list[tuple[int, int]]:
        """The settings that a frame says, each with a value that it may have (RFC 9113 6.5.2)."""
        settings: list[tuple[int, int]] = []
        for at in range(0, len(payload), 6):
            name = payload[at] << 8 | payload[at + 1]
            value = int.from_bytes(payload[at + 2 : at + 6], "big")
            if name == INITIAL_WINDOW_SIZE and value > WINDOW_MOST:
                raise Http2Error(FLOW_CONTROL_ERROR, f"initial window of {value} bytes")
            if name == MAX_FRAME_SIZE and not FRAME_BYTES <= value <= 0xFFFFFF:
                raise Http2Error(PROTOCOL_ERROR, f"frames of at most {value} bytes")
            if name in (ENABLE_PUSH, ENABLE_CONNECT_PROTOCOL) and value > 1:
                raise Http2Error(PROTOCOL_ERROR, f"setting {name} of {value}")
            if name == ENABLE_PUSH and value and not self._of_client:
                raise Http2Error(PROTOCOL_ERROR, "server that asks for pushes")
            settings.append((name, value))
        return settings


_NAMES: Final = (
    "DATA",
    "HEADERS",
    "PRIORITY",
    "RST_STREAM",
    "SETTINGS",
    "PUSH_PROMISE",
    "PING",
    "GOAWAY",
    "WINDOW_UPDATE",
    "CONTINUATION",
)


def _unpadded(data: bytes, begin: int, end: int) -> tuple[int, int]:
    """From where to where a frame has something that counts."""
    if begin == end:
        raise Http2Error(FRAME_SIZE_ERROR, "frame too short for its padding")
    # RFC 9113 6.1: as long as the payload, or longer.
    if data[begin] >= end - begin:
        raise Http2Error(PROTOCOL_ERROR, "padding longer than its frame")
    return begin + 1, end - data[begin]


def _of_itself(data: bytes, at: int, stream: int) -> str:
    """What is wrong where a stream is to depend on itself (RFC 7540 5.3.1); empty where it is not."""
    depends_on = int.from_bytes(data[at : at + 4], "big") & STREAM_MOST
    return "stream that depends on itself" if depends_on == stream else ""


def _sized(kind: int, payload: bytes, size: int) -> None:
    if len(payload) != size:
        raise Http2Error(FRAME_SIZE_ERROR, f"{_NAMES[kind]} of {len(payload)} bytes")


def _on_a_stream(kind: int, stream: int) -> None:
    if not stream:
        raise Http2Error(PROTOCOL_ERROR, f"{_NAMES[kind]} on no stream")
