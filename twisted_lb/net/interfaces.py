"""What transports and protocols ask of each other: Twisted's interfaces as types, and what ours offer beyond them."""

from typing import Any, Final, Protocol

from mypy_extensions import trait
from twisted.python.failure import Failure


class Producer(Protocol):
    """Twisted's IPushProducer, as a type: told to pause and resume writing (back-pressure)."""

    def pauseProducing(self) -> None:
        """Stop writing for now: the write buffer is above its high-water mark."""

    def resumeProducing(self) -> None:
        """Write again: the write buffer is below the low-water mark."""

    def stopProducing(self) -> None:
        """The connection is gone."""


class StreamProtocol(Protocol):
    """What transports ask of a protocol: Twisted's IProtocol and IHalfCloseableProtocol, as a type."""

    def makeConnection(self, transport: Any) -> None:
        """The connection is up."""

    def dataReceived(self, data: bytes) -> None:
        """Bytes, never empty."""

    def readConnectionLost(self) -> None:
        """The peer sent its FIN (half-close); writing is still possible."""

    def connectionLost(self, reason: Failure) -> None:
        """The connection is over, for good and once."""


@trait
class StreamTransport:
    """What our protocols ask of a transport: a `Transport` of ours, or a foreign one behind a `Foreign`.

    `write`, `loseConnection` and `abortConnection` never call the protocol before they return; `pauseProducing` of a
    registered producer may be called inside `write`, `resumeProducing` never.
    """

    def write(self, data: bytes) -> None:
        """Send, now or as soon as the peer takes it."""
        raise NotImplementedError

    def write_pieces(self, pieces: list[bytes]) -> None:
        """Send several pieces as one, without a copy into one where that is possible; at most 1,024."""
        raise NotImplementedError

    def loseConnection(self) -> None:
        """Close once everything written is with the kernel."""
        raise NotImplementedError

    def abortConnection(self) -> None:
        """Close now, with a reset."""
        raise NotImplementedError

    def loseWriteConnection(self) -> None:
        """Half-close: send a FIN after what was written, and read on. Only where `can_half_close`."""
        raise NotImplementedError

    @property
    def flushed(self) -> bool:
        """Whether everything written is with the kernel, for certain."""
        raise NotImplementedError

    @property
    def can_half_close(self) -> bool:
        """Whether `loseWriteConnection` ends one direction alone: Twisted's TLS would close the TCP side under it."""
        raise NotImplementedError

    def pauseProducing(self) -> None:
        """Read no more for now."""
        raise NotImplementedError

    def resumeProducing(self) -> None:
        """Read again. Delivers nothing by itself."""
        raise NotImplementedError

    def registerProducer(self, producer: Producer, streaming: bool) -> None:
        """Let the write buffer pause and resume a producer (back-pressure)."""
        raise NotImplementedError

    def unregisterProducer(self) -> None:
        """Let go of the producer; harmless when there is none."""
        raise NotImplementedError

    def switch(self, protocol: StreamProtocol) -> None:
        """Give the connection to another protocol, which gets everything from here on, `connectionLost` included."""
        raise NotImplementedError

    def backlog(self) -> int:
        """Bytes written that the peer has not taken, here and in the kernel; UNKNOWN where that cannot be known."""
        raise NotImplementedError

    def peer_name(self) -> str:
        """The address of the peer without its port; "unix" for a unix socket."""
        raise NotImplementedError

    def peer_port(self) -> int:
        """The port of the peer; 0 for a unix socket, and where it is not known."""
        raise NotImplementedError

    def port_name(self) -> str:
        """The port that the peer connected to; empty for a unix socket."""
        raise NotImplementedError

    def host_name(self) -> str:
        """The address that the peer connected to, without its port; "unix" for a unix socket."""
        raise NotImplementedError


@trait
class Receiver:
    """A protocol that is compiled together with the transport, which calls it without looking methods up."""

    def makeConnection(self, transport: StreamTransport) -> None:
        """See StreamProtocol."""
        raise NotImplementedError

    def dataReceived(self, data: bytes) -> None:
        """See StreamProtocol."""
        raise NotImplementedError

    def connectionLost(self, reason: Failure) -> None:
        """See StreamProtocol."""
        raise NotImplementedError


UNKNOWN: Final = -1
