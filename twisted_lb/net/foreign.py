"""Foreign transports: a protocol of ours on Twisted's own endpoints (TLS, `systemd:`), or on a network in memory."""

from typing import Any, Final

from twisted.python.failure import Failure

from twisted_lb.core.address import Address
from twisted_lb.net.clock import Clock
from twisted_lb.net.dialer import Attempt, Dial, Failed
from twisted_lb.net.greeting import Greeting
from twisted_lb.net.interfaces import UNKNOWN, Producer, Receiver, StreamProtocol, StreamTransport
from twisted_lb.net.resets import ResetAware
from twisted_lb.net.tcp_keepalive import TcpKeepalive


class Foreign(StreamTransport):
    """An adapter: a protocol to the foreign transport, a StreamTransport to our protocol.

    It reads the clock before each call, as the poller does for our own transports. What it cannot do it says: it does
    not half-close, it does not know what the kernel holds, and pieces are joined before they are written.
    """

    def __init__(self, clock: Clock, protocol: StreamProtocol, header: bytes = b"") -> None:
        self._header: Final = header  # that is sent before anything else
        self._clock: Final = clock
        self._transport: Any = None
        self._write: Any = None  # looked up once, not at each write
        self.protocol: StreamProtocol = protocol
        self._receiver: Receiver | None = protocol if isinstance(protocol, Receiver) else None

    # To the foreign transport: Twisted's IProtocol, IHalfCloseableProtocol.

    def makeConnection(self, transport: Any) -> None:
        """See StreamProtocol."""
        self._transport = transport
        self._write = transport.write
        self._clock.read()
        if self._header:
            transport.write(self._header)
        self.protocol.makeConnection(self)

    def dataReceived(self, data: bytes) -> None:
        """See StreamProtocol."""
        self._clock.read()
        receiver = self._receiver
        if receiver is not None:
            receiver.dataReceived(data)
        else:
            self.protocol.dataReceived(data)

    def readConnectionLost(self) -> None:
        """See StreamProtocol."""
        self._clock.read()
        self.protocol.readConnectionLost()

    def writeConnectionLost(self) -> None:
        """Twisted's IHalfCloseableProtocol asks for it."""

    def connectionBroken(self) -> None:
        """See ResetAware; a transport that knows of a reset may tell."""
        protocol = self.protocol
        if isinstance(protocol, ResetAware):
            self._clock.read()
            protocol.connectionBroken()

    def connectionLost(self, reason: Failure) -> None:
        """See StreamProtocol."""
        self._clock.read()
        self.protocol.connectionLost(reason)

    # To our protocol: StreamTransport.

    def switch(self, protocol: StreamProtocol) -> None:
        """See StreamTransport."""
        self.protocol = protocol
        self._receiver = protocol if isinstance(protocol, Receiver) else None

    def write(self, data: bytes) -> None:
        """See StreamTransport."""
        self._write(data)

    def write_pieces(self, pieces: list[bytes]) -> None:
        """See StreamTransport."""
        self._write(b"".join(pieces))

    def loseConnection(self) -> None:
        """See StreamTransport."""
        self._transport.loseConnection()

    def abortConnection(self) -> None:
        """See StreamTransport."""
        self._transport.abortConnection()

    def loseWriteConnection(self) -> None:
        """See StreamTransport: here it ends both directions."""
        self._transport.loseConnection()

    @property
    def flushed(self) -> bool:
        """See StreamTransport."""
        return False

    @property
    def can_half_close(self) -> bool:
        """See StreamTransport."""
        return False

    def pauseProducing(self) -> None:
        """See StreamTransport."""
        self._transport.pauseProducing()

    def resumeProducing(self) -> None:
        """See StreamTransport."""
        self._transport.resumeProducing()

    def registerProducer(self, producer: Producer, streaming: bool) -> None:
        """See StreamTransport."""
        self._transport.registerProducer(producer, streaming)

    def unregisterProducer(self) -> None:
        """See StreamTransport."""
        self._transport.unregisterProducer()

    def backlog(self) -> int:
        """See StreamTransport."""
        return UNKNOWN

    def peer_name(self) -> str:
        """See StreamTransport."""
        return str(getattr(self._transport.getPeer(), "host", "unknown"))

    def peer_port(self) -> int:
        """See StreamTransport."""
        return int(getattr(self._transport.getPeer(), "port", 0) or 0)

    def port_name(self) -> str:
        """See StreamTransport."""
        return str(getattr(self._transport.getHost(), "port", ""))

    def host_name(self) -> str:
        """See StreamTransport."""
        return str(getattr(self._transport.getHost(), "host", "unknown"))

    def __repr__(self) -> str:
        return f"<Foreign {self._transport!r}>"


class ForeignDial:
    """A Dial whose transports are not ours: each connection it makes is adapted by a Foreign. It greets with a header, and speaks no TLS:
    a network in memory has none, and no silence that a kernel could ask about.
    """

    def __init__(self, dial: Dial, clock: Clock) -> None:
        self._dial: Final = dial
        self._clock: Final = clock

    def dial(
        self,
        address: Address,
        protocol: StreamProtocol,
        timeout_s: float,
        failed: Failed,
        port: int = 0,
        greeting: Greeting | None = None,
        keepalive: TcpKeepalive | None = None,
    ) -> Attempt:
        """See GreetingDial."""
        clock = self._clock

        def told(outcome: Any, detail: str) -> None:
            clock.read()
            failed(outcome, detail)

        header = b"" if greeting is None else greeting.header
        return self._dial.dial(address, Foreign(clock, protocol, header), timeout_s, told, port)
