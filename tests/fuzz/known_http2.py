"""What is known to the fuzz target of HTTP/2: `python -m fuzz.known_http2 FOLDER` writes it there, a file each."""

import sys
from pathlib import Path

from fuzz.fuzz_http2 import FIELD, VALUE

from twisted_lb.wire.http2.frames import (
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    GOAWAY,
    HEADERS,
    PADDED,
    PING,
    PRIORITY,
    RST_STREAM,
    SETTINGS,
    WINDOW_UPDATE,
    WITH_PRIORITY,
    frame_head,
)


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    return frame_head(len(payload), kind, flags, stream) + payload


def text(*fields: tuple[str, str]) -> bytes:
    """Fields as the target has them."""
    return FIELD.join(name.encode("latin-1") + VALUE + value.encode("latin-1") for name, value in fields)


GET = ((":method", "GET"), (":scheme", "http"), (":authority", "app"), (":path", "/a?b"))
POST = ((":method", "POST"), *GET[1:])
SPOKEN = [
    frame(SETTINGS, 0, 0, bytes.fromhex("000400000064000100001000")),
    frame(SETTINGS, 1, 0),
    frame(HEADERS, END_HEADERS | END_STREAM, 1, bytes.fromhex("828684418cf1e3c2e5f23a6ba0ab90f4ff")),
    frame(HEADERS, 0, 3, b"\x82\x86"),
    frame(CONTINUATION, END_HEADERS, 3, b"\x84"),
    frame(HEADERS, END_HEADERS | PADDED | WITH_PRIORITY, 5, b"\2\0\0\0\7\3\x82\x86\x84\0\0"),
    frame(DATA, PADDED, 5, b"\3abc\0\0\0"),
    frame(DATA, END_STREAM, 5, b"xyz"),
    frame(PRIORITY, 0, 5, b"\0\0\0\0\1"),
    frame(RST_STREAM, 0, 3, b"\0\0\0\x08"),
    frame(PING, 0, 0, b"12345678"),
    frame(WINDOW_UPDATE, 0, 1, b"\0\0\1\0"),
    frame(0xBE, 7, 9, b"grease"),
    frame(GOAWAY, 0, 0, b"\0\0\0\1\0\0\0\0bye"),
]
KNOWN = {
    "frames of a client": b"\0\0\1" + b"".join(SPOKEN),
    "frames of a backend": b"\1\0\0" + b"".join(SPOKEN),
    "blocks": b"\2\x11\x0e" + bytes.fromhex("828684418cf1e3c2e5f23a6ba0ab90f4ff828684be5886a8eb10649cbf")
    + bytes.fromhex("828785bf408825a849e95ba97d7f8925a849e95bb8e8b4bf"),
    "blocks, a table that changes": b"\2\5\5\x3f\xe1\x1f\x82\x84\x20\x82\x40\1a\1b\xbe",
    "a request, encoded": b"\3\1\0" + bytes.fromhex("828684418cf1e3c2e5f23a6ba0ab90f4ff"),
    "a request": b"\4\1\0" + text(*GET, ("accept", "*/*"), ("cookie", "a=b"), ("cookie", "c=d"), ("te", "trailers")),
    "a request with a body": b"\4\0\0" + text(*POST, ("x-a", "b"), ("expect", "100-continue")) + b"\xff\xff5\r\nhello\r\n0\r\n\r\n",
    "a request with a length": b"\4\0\0" + text(*POST, ("content-length", "3")) + b"\xff\xffabc",
    "a request with a host": b"\4\1\0" + text(*GET[:2], GET[3], ("host", "app:80"), ("max-forwards", "7")),
    "options of all": b"\4\1\0" + text((":method", "OPTIONS"), (":scheme", "https"), (":path", "*"), ("host", "a")),
    "a tunnel": b"\4\0\0" + text((":method", "CONNECT"), *GET[1:], (":protocol", "websocket")),
    "a response, encoded": b"\5\0\0\x88\x0f\x0d\x023\x31",
    "a response": b"\6\0\0" + text((":status", "200"), ("content-length", "3"), ("set-cookie", "a=b")) + b"\xff\xffabc",
    "a response of unknown length": b"\6\0\0" + text((":status", "200"), ("date", "now")) + b"\xff\xffabc",
    "a response without a body": b"\6\1\0" + text((":status", "204"), ("x-a", "b")),
    "an empty response": b"\6\1\0" + text((":status", "404"), ("x-a", "b")),
    "trailers": b"\7\0\0" + text(("grpc-status", "0"), ("x-sum", "1")),
}  # fmt: skip


if __name__ == "__main__":
    for number, data in enumerate(KNOWN.values()):
        (Path(sys.argv[1]) / f"known-{number}").write_bytes(data)
