"""Connections on their way to a listener: strangers of whom nobody knows yet what they speak, and for whom."""

import ssl
from typing import Any

from tls_peers import TlsEnd, client_context
from wires import acknowledged
from world import Peer, TlsPeer, World

from twisted_lb.core.record import Record

GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nDate: d\r\nContent-Length: 5\r\n\r\nhello"
SIDES = ("tls", "tls fallback")


class Gateway:
    """A world, and those who come to its listener."""

    def __init__(self, side: str = "tls", *, names: tuple[str, ...] = ("a:80",), **options: Any) -> None:
        self.records: list[Record] = []
        self.world = World(names, side=side, observers=(self.records.append,), **options)
        self.frontend = self.world.engine
        self.run, self.advance, self.come = self.world.run, self.world.advance, self.world.come

    def knock(
        self,
        *,
        before: bytes = b"",
        peer: tuple[str, int] = ("127.0.0.1", 40000),
        context: ssl.SSLContext | None = None,
        name: str | None = "localhost",
        session: Any = None,
    ) -> TlsPeer:
        """Somebody who is about to speak TLS, behind these bytes."""
        came = self.come(peer=peer)
        if before:
            came.send(before)
        return TlsPeer(self.world, came.sock, TlsEnd(context or client_context(), name=name, session=session))

    def enter(self, **how: Any) -> TlsPeer:
        """Somebody whose handshake is over."""
        came = self.knock(**how)
        shake(came)
        return came

    @property
    def failures(self) -> dict[str, int]:
        """Why connections did not arrive."""
        return self.frontend.handshaken.failures

    @property
    def done(self) -> int:
        """How many handshakes were completed."""
        return sum(self.frontend.handshaken.done.values())

    @property
    def empty(self) -> bool:
        """Whether nobody is here, neither a client nor one on its way."""
        handshakes = self.frontend.handshakes
        return not (self.frontend.clients or self.frontend.gate.open or handshakes.open or handshakes.waiting)

    def close(self) -> None:
        self.world.close()


def shake(peer: TlsPeer) -> None:
    """Make the handshake."""
    for _ in range(10):
        if peer.shake():
            peer.world.run()
            acknowledged(peer.sock)  # tickets: what a client has not taken is waited for
            return
    raise AssertionError("the handshake does not end")


def hello_of(peer: TlsPeer) -> bytes:
    """The ClientHello of somebody who has not said it; it is not sent."""
    assert not peer.end.shake()
    return peer.end.outbound.read()


def served(peer: Peer, request: bytes = GET) -> dict[bytes, bytes]:
    """What the backend is told of a request, which is answered."""
    peer.send(request)
    return answered(peer)


def answered(peer: Peer) -> dict[bytes, bytes]:
    """What the backend was told of the request that is under way, which is answered."""
    backend = peer.world.backend()
    before = len(backend.received)
    backend.read()
    told = backend.received[before:] or backend.received
    backend.send(OK)
    assert peer.read().endswith(b"\r\n\r\nhello"), peer.received
    lines = told.partition(b"\r\n\r\n")[0].split(b"\r\n")[1:]
    return {name.lower(): value.strip() for name, _, value in (line.partition(b":") for line in lines)}
