"""An honest client of HTTP/2: one connection, a request every so often, each timed from when it was due."""

import contextlib
import selectors
import socket
import time

from yardstick.http2 import (
    ACK,
    DATA,
    END_HEADERS,
    END_STREAM,
    GOAWAY,
    HEADERS,
    PING,
    RST_STREAM,
    SETTINGS,
    Frames,
    begun,
    block,
    frame,
)

PER_S = 100
PATIENCE_S = 10.0


class Honest:
    """The client. `latencies_s` are those of requests that were answered; `lost`, how many were not."""

    def __init__(self, address: str, port: int) -> None:
        self.latencies_s: list[float] = []
        self.lost = 0
        self._where = (address, port)
        self._waiting: dict[int, float] = {}
        self._sock: socket.socket | None = None
        self._next = 1
        self._frames = Frames()

    def run(self, seconds: float) -> None:
        """Ask for so long, and then wait for the answers that are owed."""
        began = time.monotonic()
        asked, ends_at = 0, began + seconds + PATIENCE_S
        with selectors.DefaultSelector() as selector:
            while True:
                now = time.monotonic()
                due = began + asked / PER_S
                if due > began + seconds and (not self._waiting or now > ends_at):
                    break
                if now >= due and due <= began + seconds:
                    asked += 1
                    self._ask(selector, due)
                    continue
                for _ in selector.select(max(0.0, min(due - now, 0.05)) if due <= began + seconds else 0.05):
                    self._hear(selector)
                if not selector.get_map():
                    time.sleep(0.001)
            self.lost += len(self._waiting)
            self._close(selector)

    def _ask(self, selector: selectors.BaseSelector, due: float) -> None:
        try:
            if self._sock is None:
                self._sock = socket.create_connection(self._where, timeout=PATIENCE_S)
                self._sock.sendall(begun())
                self._sock.setblocking(False)
                self._frames, self._next = Frames(), 1
                selector.register(self._sock, selectors.EVENT_READ)
            stream, self._next = self._next, self._next + 2
            self._waiting[stream] = due
            self._sock.send(frame(HEADERS, END_HEADERS | END_STREAM, stream, block(b"honest.example")))
        except OSError:
            self._fail(selector)

    def _hear(self, selector: selectors.BaseSelector) -> None:
        sock = self._sock
        assert sock is not None
        try:
            data = sock.recv(262144)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        now, replies = time.monotonic(), b""
        for kind, flags, stream, payload in self._frames.feed(data):
            if kind == SETTINGS and not flags & ACK:
                replies += frame(SETTINGS, ACK, 0)
            elif kind == PING and not flags & ACK:
                replies += frame(PING, ACK, 0, payload)
            elif kind == RST_STREAM and self._waiting.pop(stream, None):
                self.lost += 1
            elif kind in (DATA, HEADERS) and flags & END_STREAM and stream in self._waiting:
                self.latencies_s.append(now - self._waiting.pop(stream))
            elif kind == GOAWAY:
                data = b""
        if replies:
            with contextlib.suppress(OSError):
                sock.send(replies)
        if not data:
            self._fail(selector)

    def _fail(self, selector: selectors.BaseSelector) -> None:
        """The connection is gone, and what was asked on it lost."""
        self.lost += len(self._waiting)
        self._waiting.clear()
        self._close(selector)

    def _close(self, selector: selectors.BaseSelector) -> None:
        if self._sock is not None:
            with contextlib.suppress(KeyError):
                selector.unregister(self._sock)
            self._sock.close()
            self._sock = None
