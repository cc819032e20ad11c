"""The backend of the bad days: a small HTTP server that behaves as it is told, in a process of its own.

    python backend.py PORT NAME [--address IP] [--idle-s S] [--deaf-s S] [--close-share P] [--close-later-s S]

GET answers its name, with `?size=N` that many bytes of `pattern`, with `?delay=S` later, with `?last=S` in pieces that take so
long; a body is answered with its length and CRC-32. An `Upgrade` is agreed to, and everything echoed from there on. It prints a line once it is ready. On its standard input it takes orders,
and answers each with a line when it is done:

    accept    listen, or accept again
    full      accept nobody any more, with the shortest queue there is
    close     close all connections
    fail      from now on answer requests with status 500

--idle-s          close a connection that was idle for so long
--deaf-s          as if it were half of that away: what arrives in these last seconds before it closes an idle connection is lost
--close-share     of its answers, the part after which it closes the connection without having said so
--close-later-s   how long after the answer; what arrives until then is lost
"""

import argparse
import asyncio
import contextlib
import random
import re
import socket
import sys
import zlib
from collections.abc import Iterator

BLOCK = 65536
SWITCH = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: %b\r\nConnection: Upgrade\r\n\r\n"
PIECE_S = 0.1
_NOISE = bytes((n * n ^ n >> 3) & 255 for n in range(BLOCK))


def pattern(size: int) -> Iterator[bytes]:
    """A body of that many bytes; no two blocks of it look alike."""
    for start in range(0, size, BLOCK):
        yield (b"%016d" % start + _NOISE[16:])[: size - start]


class Settings:
    """What one backend is, and who is connected to it."""

    def __init__(self, given: argparse.Namespace) -> None:
        self.name: str = given.name
        self.idle_s: float | None = given.idle_s
        self.deaf_s: float = given.deaf_s
        self.close_later_s: float = given.close_later_s
        self.status = b"200 OK"
        self.connections: set[Serving] = set()
        self._close_share: float = given.close_share
        self._rng = random.Random(given.name)

    def closes(self) -> bool:
        """Whether the answer just given is one after which the connection is closed."""
        return self._rng.random() < self._close_share


class Serving(asyncio.Protocol):
    """One connection."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._transport: asyncio.Transport
        self._unread = b""
        self._left = 0  # of the request's body
        self._length = 0
        self._sum = 0
        self._blocks: Iterator[bytes] = iter(())
        self._full = False
        self._answering = False
        self._status = settings.status
        self._leaving = False
        self._switched = False
        self._idle: asyncio.TimerHandle | None = None
        self._loop = asyncio.get_running_loop()

    def connection_made(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._settings.connections.add(self)
        transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._rest()

    def connection_lost(self, _: Exception | None) -> None:
        self._settings.connections.discard(self)
        self._blocks = iter(())
        self._wake()

    def close(self) -> None:
        self._transport.abort()

    def data_received(self, data: bytes) -> None:
        if self._leaving:
            return
        if self._switched:
            self._transport.write(data)
            return
        self._wake()
        self._unread += data
        self._advance()

    def _rest(self) -> None:
        settings = self._settings
        if settings.idle_s is not None:
            self._idle = self._loop.call_later(settings.idle_s - settings.deaf_s, self._grow_deaf)

    def _wake(self) -> None:
        if self._idle is not None:
            self._idle.cancel()
            self._idle = None

    def _grow_deaf(self) -> None:
        if self._settings.deaf_s:
            self._transport.pause_reading()
            self._idle = self._loop.call_later(self._settings.deaf_s, self._transport.close)
        else:
            self._transport.close()

    def _advance(self) -> None:
        """Take what is there, as far as the answers have come."""
        while not self._answering and not self._leaving:
            if self._left:
                self._take_body()
                if self._left:
                    return
                self._say(b"%d %d\n" % (self._length, self._sum))
            elif b"\r\n\r\n" in self._unread:
                self._take_head()
            else:
                return

    def _take_body(self) -> None:
        body = self._unread[: self._left]
        self._unread = self._unread[len(body) :]
        self._sum = zlib.crc32(body, self._sum)
        self._length += len(body)
        self._left -= len(body)

    def _take_head(self) -> None:
        head, _, self._unread = self._unread.partition(b"\r\n\r\n")
        length = re.search(rb"\r\ncontent-length: *(\d+)", head, re.IGNORECASE)
        self._status = self._settings.status
        method, target, _ = head.split(b" ", 2)
        upgrade = re.search(rb"\r\nupgrade: *(\w+)", head, re.IGNORECASE)
        if upgrade is not None:
            self._switched = True
            self._transport.write(SWITCH % upgrade[1])
            return
        if length is not None and int(length[1]):
            self._left, self._length, self._sum = int(length[1]), 0, 0
        else:
            self._answer(method, target)

    def _answer(self, method: bytes, target: bytes) -> None:
        delay = re.search(rb"delay=([\d.]+)", target)
        if delay is None:
            self._answer_now(method, target)
        else:
            self._answering = True
            self._loop.call_later(float(delay[1]), self._answer_late, method, target)

    def _answer_late(self, method: bytes, target: bytes) -> None:
        self._answering = False
        self._answer_now(method, target)
        self._advance()

    def _answer_now(self, method: bytes, target: bytes) -> None:
        size = re.search(rb"size=(\d+)", target)
        last = re.search(rb"last=([\d.]+)", target)
        if last is not None:
            self._answer_in_pieces(int(float(last[1]) / PIECE_S))
            return
        if size is None:
            self._say(self._settings.name.encode() + b"\n", with_body=method != b"HEAD")
            return
        self._answering = True
        self._transport.write(self._head(int(size[1])))
        self._blocks = pattern(int(size[1])) if method != b"HEAD" else iter(())
        self._stream()

    def _answer_in_pieces(self, count: int) -> None:
        self._answering = True
        self._transport.write(self._head(count))
        self._loop.call_later(PIECE_S, self._say_piece, count)

    def _say_piece(self, left: int) -> None:
        self._transport.write(b".")
        if left > 1 and not self._transport.is_closing():
            self._loop.call_later(PIECE_S, self._say_piece, left - 1)
        else:
            self._answering = False
            self._rest()

    def _head(self, length: int) -> bytes:
        name = self._settings.name.encode()
        return b"HTTP/1.1 %b\r\nX-Backend: %b\r\nContent-Length: %d\r\n\r\n" % (self._status, name, length)

    def _say(self, body: bytes, *, with_body: bool = True) -> None:
        self._transport.write(self._head(len(body)) + (body if with_body else b""))
        if self._settings.closes():
            self._leave()
        else:
            self._rest()

    def _leave(self) -> None:
        self._leaving = True
        if self._settings.close_later_s:
            self._loop.call_later(self._settings.close_later_s, self._transport.close)
        else:
            self._transport.close()

    def _stream(self) -> None:
        while not self._full and not self._transport.is_closing():
            block = next(self._blocks, None)
            if block is None:
                self._answering = False
                self._rest()
                return
            self._transport.write(block)

    def pause_writing(self) -> None:
        self._full = True

    def resume_writing(self) -> None:
        self._full = False
        if self._answering:
            self._stream()
            self._advance()


class Door:
    """The listening socket: not there yet, open, or with a queue that is full."""

    def __init__(self, address: str, port: int, settings: Settings) -> None:
        self._at = (address, port)
        self._settings = settings
        self._sock: socket.socket | None = None
        self._server: asyncio.Server

    async def open(self) -> None:
        if self._sock is None:
            self._sock = socket.create_server(self._at, backlog=1024)
            self._sock.setblocking(False)
        self._server = await asyncio.get_running_loop().create_server(
            lambda: Serving(self._settings), sock=self._sock.dup(), backlog=1024
        )

    def shut(self) -> None:
        """Leave the queue alone, and make it as short as it can be; the socket stays, only its duplicate is closed."""
        self._server.close()
        self._sock.listen(0)


async def obey(orders: asyncio.StreamReader, door: Door, settings: Settings) -> None:
    while order := (await orders.readline()).strip():
        if order == b"full":
            door.shut()
        elif order == b"close":
            for one in list(settings.connections):
                one.close()
        elif order == b"fail":
            settings.status = b"500 Internal Server Error"
        else:
            await door.open()
        print("done", flush=True)


async def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("port", type=int)
    parser.add_argument("name")
    parser.add_argument("--address", default="127.0.0.1")
    parser.add_argument("--idle-s", type=float)
    parser.add_argument("--deaf-s", type=float, default=0.0)
    parser.add_argument("--close-share", type=float, default=0.0)
    parser.add_argument("--close-later-s", type=float, default=0.0)
    given = parser.parse_args()
    settings = Settings(given)
    orders = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(orders), sys.stdin)
    print("ready", flush=True)
    # The end of the orders is the end of it.
    await obey(orders, Door(given.address, given.port, settings), settings)


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(main())
