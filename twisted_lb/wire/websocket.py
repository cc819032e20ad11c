"""WebSocket frames (RFC 6455 5.2), as far as a proxy has to know them: where one ends, and the close frame."""

from base64 import b64encode
from hashlib import sha1
from typing import Final

# RFC 6455 1.3
_GUID: Final = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
# RFC 6455 7.4.1: the server goes down, or the page is left.
GOING_AWAY: Final = 1001

_CLOSE: Final = 0x8
_OPCODE: Final = 0x0F
_MASKED: Final = 0x80
_LENGTH: Final = 0x7F
# What these stand for in place of a length: it follows, in 2 or in 8 bytes.
_SHORT: Final = 126
_LONG: Final = 127
_LAST_CLOSE: Final = b"\x88"


def close_frame(code: int, mask: bytes = b"") -> bytes:
    """A close frame with this code. A client masks what it sends with four bytes, a server does not."""
    payload = code.to_bytes(2, "big")
    if not mask:
        return _LAST_CLOSE + b"\x02" + payload
    return _LAST_CLOSE + b"\x82" + mask + bytes(one ^ mask[i % 4] for i, one in enumerate(payload))


def accept_of(key: bytes) -> bytes:
    """What a server answers to this Sec-WebSocket-Key, to show that it has understood what it is asked (RFC 6455 4.2.2)."""
    return b64encode(sha1(key + _GUID, usedforsecurity=False).digest())


class Frames:
    """The frames of one direction of a WebSocket, told from the bytes that pass; payload is skipped, not looked at.

    `closed`: a close frame has begun, after which its sender says nothing more. Extensions (compression, say) do not
    change where frames end.
    """

    __slots__ = ("_head", "_left", "closed")

    def __init__(self) -> None:
        self.closed: bool = False
        self._left: int = 0  # bytes of payload that are still to come
        self._head: bytes = b""  # a part of a frame's head

    @property
    def between(self) -> bool:
        """Whether no frame is half-written: another one may begin here, even within a message of several frames."""
        return not self._left and not self._head

    def feed(self, data: bytes) -> None:
        """Bytes that pass."""
        at = self._left
        size = len(data)
        if at >= size:
            self._left = at - size
            return
        if self._head:
            data = self._head + data
            size = len(data)
            self._head = b""
        while at < size:
            ends_at = self._frame_end(data, at)
            if ends_at < 0:
                self._head = data[at:]
                self._left = 0
                return
            at = ends_at
        self._left = at - size

    def _frame_end(self, data: bytes, at: int) -> int:
        """Where the frame ends that begins at `at`; -1 when its head is not complete."""
        have = len(data) - at
        if have < 2:
            return -1
        second = data[at + 1]
        length = second & _LENGTH
        wide = 2 if length == _SHORT else 8 if length == _LONG else 0
        head = 2 + wide + (4 if second & _MASKED else 0)
        if have < head:
            return -1
        if wide:
            length = int.from_bytes(data[at + 2 : at + 2 + wide], "big")
        if data[at] & _OPCODE == _CLOSE:
            self.closed = True
        return at + head + length

    def feed_to_end(self, data: bytes) -> int:
        """Feed only what completes the frame that has begun; returns how many bytes that was, all of them if it goes on."""
        at = 0
        while at < len(data) and not self.between:
            step = self._left or 1  # a head byte by byte: its length is not known before it ends
            self.feed(data[at : at + step])
            at += step
        return min(at, len(data))
