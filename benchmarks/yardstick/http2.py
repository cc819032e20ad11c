"""Frames of HTTP/2 as bytes (RFC 9113), for clients that no packaged tool is: those that stand still, and those that attack."""

import socket
import struct
from collections.abc import Iterator

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, _, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = range(10)
END_STREAM = ACK = 1
END_HEADERS = 4
HEAD_BYTES = 9
MAX_CONCURRENT_STREAMS, INITIAL_WINDOW_SIZE = 3, 4


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    """A frame."""
    return struct.pack(">I", len(payload))[1:] + bytes((kind, flags)) + struct.pack(">I", stream) + payload


def number(value: int) -> bytes:
    """Four bytes."""
    return struct.pack(">I", value)


def setting(name: int, value: int) -> bytes:
    """One of SETTINGS."""
    return struct.pack(">HI", name, value)


def literal(name: bytes, value: bytes, kind: int = 0x00) -> bytes:
    """A field with its name (HPACK); of `kind` 0x40 it enters the table."""
    return bytes((kind, len(name))) + name + bytes((len(value),)) + value


def block(authority: bytes, path: bytes = b"/", method: bytes = b"GET") -> bytes:
    """The pseudo-fields of a request, which leave the table as it is."""
    verb = b"\x82" if method == b"GET" else b"\x83"
    return verb + b"\x86" + bytes((0x04, len(path))) + path + bytes((0x01, len(authority))) + authority


def begun(*settings: bytes) -> bytes:
    """What a client begins with."""
    return PREFACE + frame(SETTINGS, 0, 0, b"".join(settings))


class Frames:
    """The frames of a byte stream that comes in pieces."""

    def __init__(self) -> None:
        self._left = b""

    def feed(self, data: bytes) -> Iterator[tuple[int, int, int, bytes]]:
        """Those that are whole: kind, flags, stream, payload."""
        data = self._left + data
        at = 0
        while at + HEAD_BYTES <= len(data):
            end = at + HEAD_BYTES + int.from_bytes(data[at : at + 3], "big")
            if end > len(data):
                break
            stream = int.from_bytes(data[at + 5 : at + HEAD_BYTES], "big") & 0x7FFFFFFF
            yield data[at + 3], data[at + 4], stream, data[at + HEAD_BYTES : end]
            at = end
        self._left = data[at:]


def ended(connection: socket.socket, stream: int) -> bytes:
    """Read up to the end of a stream; its body. RuntimeError: it was closed, or the stream reset, before."""
    frames, body = Frames(), b""
    while True:
        got = connection.recv(65536)
        if not got:
            raise RuntimeError("a connection was closed")
        for kind, flags, where, payload in frames.feed(got):
            if kind == SETTINGS and not flags & ACK:
                connection.sendall(frame(SETTINGS, ACK, 0))
            elif kind == GOAWAY:
                raise RuntimeError(f"a request met a GOAWAY of code {int.from_bytes(payload[4:8], 'big')}")
            elif kind == RST_STREAM and where == stream:
                raise RuntimeError(f"a request was reset with code {int.from_bytes(payload, 'big')}")
            elif where == stream:
                body += payload if kind == DATA else b""
                if flags & END_STREAM and kind in (DATA, HEADERS):
                    return body
