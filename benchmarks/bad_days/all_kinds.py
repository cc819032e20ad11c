"""Clients of all kinds for a soak of workers: HTTP/1.1 and HTTP/2, in the clear and over TLS, sessions of TCP mode, tunnels, bulk both
ways, and some that leave. Of each conversation that was not whole it is known which connection it was on.
"""

import asyncio
import contextlib
import random
import re
import socket
import ssl
import struct
import threading
import time
import zlib
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from yardstick.http2 import (
    ACK,
    DATA,
    END_HEADERS,
    END_STREAM,
    GOAWAY,
    HEADERS,
    RST_STREAM,
    SETTINGS,
    WINDOW_UPDATE,
    Frames,
    begun,
    block,
    frame,
    number,
)

from bad_days.backend import pattern

LARGEST = 2 << 20
_LEAVING = (
    b"GET / HT",
    b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 90\r\n\r\nhalf",
    b"GET /?size=1500000 HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET /?delay=0.5 HTTP/1.1\r\nHost: x\r\n\r\n",
)
# An answer that has not come by then was forgotten.
PATIENCE_S = 120.0


@dataclass(frozen=True)
class Ports:
    """Where a balancer listens: HTTP, HTTP over TLS, and what is carried as it is."""

    http: int
    tls: int
    tcp: int


@dataclass(frozen=True)
class Lost:
    """A conversation that was not whole: at which port of which listener, what kind it was, why, and when."""

    listener: int
    port: int
    kind: str
    why: str
    at: float


class NotWholeError(Exception):
    """What came is not what was asked for."""


class Line:
    """A connection of a client."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer
        self.kept = True  # whether it may be asked again

    async def ask(self, method: str = "GET", path: str = "/", body: bytes = b"") -> bytes:
        """The body of an answer, whole and with status 200."""
        length = f"Content-Length: {len(body)}\r\n" if body else ""
        self.writer.write(f"{method} {path} HTTP/1.1\r\nHost: x\r\n{length}\r\n".encode() + body)
        head = await self.reader.readuntil(b"\r\n\r\n")
        if not head.startswith(b"HTTP/1.1 200 "):
            raise NotWholeError(head[:60].decode("latin-1"))
        self.kept = b"\r\nconnection: close" not in head.lower()
        size = re.search(rb"(?i)\r\ncontent-length: (\d+)", head)
        return await self.reader.readexactly(int(size[1]) if size else 0)


Kind = Callable[["Crowd", random.Random], Awaitable[None]]


class Crowd:
    """The clients, in a thread of their own, from its making to `stop`. `answered` counts what was whole, by kind; `waits` are how long
    small requests took that came on connections of their own.
    """

    def __init__(self, ports: Ports, seed: int) -> None:
        self.ports = ports
        self.answered: Counter[str] = Counter()
        self.lost: list[Lost] = []
        self.cuts = 0
        self.waits: list[float] = []
        self._at: dict[asyncio.Task[None], tuple[int, int]] = {}  # the connection of each client
        self._lines: dict[asyncio.Task[None], Line] = {}
        self.tls = _context([])
        self.http2 = _context(["h2"])
        self._seed = seed
        self._over = False
        self._thread = threading.Thread(target=lambda: asyncio.run(self._live()), daemon=True)
        self._thread.start()

    @property
    def requests(self) -> int:
        """What was answered in HTTP."""
        return self.answered.total() - self.answered["session"] - self.answered["tunnel"]

    def stop(self) -> None:
        """Everything that is under way comes to its end."""
        self._over = True
        self._thread.join()

    async def _live(self) -> None:
        kinds = [one for one, count in KINDS.items() for _ in range(count)]
        await asyncio.gather(*(self._run(one, random.Random(f"{self._seed} {n}")) for n, one in enumerate(kinds)))

    async def _run(self, kind: Kind, rng: random.Random) -> None:
        while not self._over:
            try:
                async with asyncio.timeout(PATIENCE_S):
                    await kind(self, rng)
            except Exception as error:
                why = f"{type(error).__name__}: {error}"
                at = self._at.get(asyncio.current_task(), (0, 0))
                self.lost.append(Lost(*at, kind.__name__.strip("_"), why, time.monotonic()))
            finally:
                self._at.pop(asyncio.current_task(), None)
                line = self._lines.pop(asyncio.current_task(), None)
                if line is not None:
                    line.writer.close()
            await self.rest(rng)

    async def rest(self, rng: random.Random) -> None:
        await asyncio.sleep(rng.uniform(0, 0.03))

    async def line(self, listener: int, context: ssl.SSLContext | None = None) -> Line:
        """A new connection, until its conversation ends; it is the one of this client, for who asks where something was lost, in a handshake too."""
        sock = socket.socket()
        sock.setblocking(False)
        try:
            await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", listener))
            self._at[asyncio.current_task()] = listener, sock.getsockname()[1]
            name = "localhost" if context else None
            line = Line(*await asyncio.open_connection(sock=sock, ssl=context, server_hostname=name, limit=LARGEST))
        except BaseException:
            sock.close()
            raise
        self._lines[asyncio.current_task()] = line
        return line

    def whole(self, kind: str) -> None:
        self.answered[kind] += 1

    @property
    def over(self) -> bool:
        return self._over


async def _keep(crowd: Crowd, rng: random.Random, listener: int = 0, context: ssl.SSLContext | None = None) -> None:
    """A kept connection, until its end is told."""
    line = await crowd.line(listener or crowd.ports.http, context)
    for _ in range(rng.randrange(1, 80)):
        # Who drains closes idle connections after half a second, which a client on a slow machine may miss: it looks, as pools do.
        if crowd.over or not line.kept or line.reader.at_eof():
            break
        await line.ask(path=rng.choice(("/", "/?delay=0.01", "/?size=20000")))
        crowd.whole("kept")
        await crowd.rest(rng)


async def _come_anew(crowd: Crowd, _: random.Random) -> None:
    began = time.monotonic()
    line = await crowd.line(crowd.ports.http)
    await line.ask()
    crowd.waits.append(time.monotonic() - began)
    crowd.whole("new")


async def _over_tls(crowd: Crowd, rng: random.Random) -> None:
    await _keep(crowd, rng, crowd.ports.tls, crowd.tls)


async def _fetch(crowd: Crowd, rng: random.Random) -> None:
    line = await crowd.line(crowd.ports.http)
    size = rng.randrange(1, LARGEST)
    if await line.ask(path=f"/?size={size}") != b"".join(pattern(size)):
        raise NotWholeError("wrong bytes down")
    crowd.whole("down")


async def _send(crowd: Crowd, rng: random.Random) -> None:
    line = await crowd.line(crowd.ports.http)
    sent = b"".join(pattern(rng.randrange(1, LARGEST)))
    if await line.ask("POST", "/", sent) != b"%d %d\n" % (len(sent), zlib.crc32(sent)):
        raise NotWholeError("wrong bytes up")
    crowd.whole("up")


async def _session(crowd: Crowd, rng: random.Random) -> None:
    """TCP mode: some conversation, to its end."""
    line = await crowd.line(crowd.ports.tcp)
    for _ in range(rng.randrange(1, 20)):
        await line.ask(path=rng.choice(("/", "/?size=50000")))
        await crowd.rest(rng)
    line.writer.write_eof()
    crowd.whole("session")


async def _tunnel(crowd: Crowd, rng: random.Random) -> None:
    """One that is used now and then, for as long as there are clients."""
    line = await crowd.line(crowd.ports.http)
    line.writer.write(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
    head = await line.reader.readuntil(b"\r\n\r\n")
    if not head.startswith(b"HTTP/1.1 101 "):
        raise NotWholeError(head[:60].decode("latin-1"))
    ends_at = time.monotonic() + rng.uniform(0, PATIENCE_S / 4)
    while not crowd.over and time.monotonic() < ends_at:
        said = rng.randbytes(rng.randrange(1, 2000))
        line.writer.write(said)
        if await line.reader.readexactly(len(said)) != said:
            raise NotWholeError("wrong bytes in a tunnel")
        await asyncio.sleep(rng.uniform(0, 0.5))
    crowd.whole("tunnel")


async def _leave(crowd: Crowd, rng: random.Random) -> None:
    """In the middle of a head, of a body, or of the answer; in order or with a reset."""
    with contextlib.suppress(OSError):
        _, writer = await asyncio.open_connection("127.0.0.1", crowd.ports.http)
        writer.write(rng.choice(_LEAVING))
        await asyncio.sleep(rng.uniform(0, 0.02))
        if rng.random() < 0.5:
            sock = writer.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.close()
    crowd.cuts += 1


async def _calls(crowd: Crowd, rng: random.Random) -> None:
    """HTTP/2 over TLS: some requests at once, again and again, until its end is told. What is above the last stream of a GOAWAY was
    not begun, and is asked again by whoever comes next.
    """
    line = await crowd.line(crowd.ports.tls, crowd.http2)
    frames, following, running, last = Frames(), 1, set[int](), 1 << 31
    left = rng.randrange(1, 150)
    line.writer.write(begun())
    while True:
        while left and last == 1 << 31 and len(running) < 10 and not crowd.over:
            path = rng.choice((b"/", b"/?delay=0.01", b"/?size=9000"))
            line.writer.write(frame(HEADERS, END_STREAM | END_HEADERS, following, block(b"localhost", path)))
            running.add(following)
            following, left = following + 2, left - 1
        if not running:
            break
        data = await line.reader.read(65536)
        if not data:
            raise NotWholeError(f"closed with {len(running)} calls under way")
        for kind, flags, stream, payload in frames.feed(data):
            if kind == SETTINGS and not flags & ACK:
                line.writer.write(frame(SETTINGS, ACK, 0))
            elif kind == GOAWAY:
                last = int.from_bytes(payload[:4], "big")
                running = {one for one in running if one <= last}
            elif kind == RST_STREAM:
                raise NotWholeError(f"stream {stream} was reset with {int.from_bytes(payload, 'big')}")
            elif kind == HEADERS and payload[:1] != b"\x88":
                raise NotWholeError(f"not a status 200: {payload[:9]!r}")
            if kind == DATA and payload:
                line.writer.write(frame(WINDOW_UPDATE, 0, 0, number(len(payload))))
            if stream in running and flags & END_STREAM and kind in (DATA, HEADERS):
                running.discard(stream)
                crowd.whole("call")


KINDS: dict[Kind, int] = {
    _keep: 6,
    _come_anew: 4,
    _over_tls: 2,
    _calls: 2,
    _fetch: 1,
    _send: 1,
    _session: 2,
    _tunnel: 4,
    _leave: 1,
}


def _context(protocols: list[str]) -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    if protocols:
        context.set_alpn_protocols(protocols)
    return context
