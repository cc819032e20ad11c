"""A transport in memory: one end of a connection, with the manners of `net.transport.Transport`."""

from collections.abc import Callable, Iterable
from typing import Final

from twisted.internet.address import IPv4Address, UNIXAddress
from twisted.internet.error import ConnectionAborted, ConnectionDone, ConnectionLost
from twisted.internet.interfaces import IConsumer, IPushProducer, IReactorTime, ITransport
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import classImplements

from twisted_lb.net.interfaces import Producer, StreamProtocol
from twisted_lb.net.resets import ResetAware
from twisted_lb.net.transport import HIGH_WATER_BYTES, LOW_WATER_BYTES, RECEIVE_BYTES
from twisted_lb.testing.pipe import Pipe

_log = Logger()


class MemoryTransport:
    """A transport from connected to closed. `open` gives it its protocol; `standing` holds it until it is closed.

    The contract is that of `net.interfaces.StreamTransport`. As there, a protocol without `readConnectionLost` is told
    that all is over at the peer's FIN, and one that is ResetAware hears of a reset even while it reads nothing.
    """

    def __init__(
        self,
        clock: IReactorTime,
        *,
        incoming: Pipe,
        outgoing: Pipe,
        host: IPv4Address | UNIXAddress,
        peer: IPv4Address | UNIXAddress,
        standing: dict["MemoryTransport", None],
    ) -> None:
        self.protocol: StreamProtocol | None = None
        self._clock: Final = clock
        self._incoming: Final = incoming
        self._outgoing: Final = outgoing
        self._host: Final = host
        self._peer: Final = peer
        self._standing: Final = standing
        standing[self] = None
        incoming.when_readable = self._wake
        outgoing.when_room = self._wake
        self._pending = bytearray()
        self._producer: Producer | None = None
        self._producer_paused = False
        self._due = False  # a turn is coming
        self._paused = False
        self._read_ended = False
        self._write_ended = False
        self._half_closing = False
        self._closing = False
        self._broken = False  # the peer takes no more
        self._told_broken = False
        self._gone = False

    def open(self, protocol: StreamProtocol) -> None:
        """Give the connection to its protocol and start reading."""
        self.protocol = protocol
        protocol.makeConnection(self)
        self._wake()

    @property
    def pipes(self) -> tuple[Pipe, Pipe]:
        """The pipes of both directions: what comes in, what goes out."""
        return self._incoming, self._outgoing

    @property
    def unsent(self) -> int:
        """Bytes for which there was no room in the network yet."""
        return len(self._pending)

    # Turns.

    def _wake(self) -> None:
        if not self._due and not self._gone and self.protocol is not None:
            self._due = True
            self._clock.callLater(0, self._turn)

    def _turn(self) -> None:
        self._due = False
        if self._gone:
            return
        try:
            self._flush()
            self._look()
        except Exception:
            _log.failure("an event handler failed; its connection is closed")
            self.abortConnection()

    def _look(self) -> None:
        """Look at what came from the peer."""
        if self._gone:
            return
        if self._closing or self._read_ended:
            if self._incoming.reset:
                self._lose(ConnectionLost("connection reset by peer"))
            elif self._read_ended and self._write_ended:
                self._lose(ConnectionDone())
        elif self._paused:
            self._notice_reset()
        else:
            self._read()

    def _notice_reset(self) -> None:
        if self._incoming.reset and not self._told_broken:
            self._told_broken = True
            if isinstance(self.protocol, ResetAware):
                self.protocol.connectionBroken()

    def _read(self) -> None:
        assert self.protocol is not None
        data = self._incoming.take(RECEIVE_BYTES)
        if data:
            self._wake()  # there may be more
            self.protocol.dataReceived(data)
        elif self._incoming.ended and not self._broken:
            ended = getattr(self.protocol, "readConnectionLost", None)
            if ended is None:
                self._lose(ConnectionDone())
                return
            self._read_ended = True
            self._wake()
            ended()
        elif self._incoming.ended or self._incoming.reset:
            self._lose(ConnectionLost("connection reset by peer"))

    # Writing.

    def write(self, data: bytes) -> None:
        """Send what there is room for and keep the rest; nothing, silently, once closing or gone."""
        if self._closing or self._gone or self._half_closing or self._broken:
            return
        taken = 0 if self._pending else self._put(data)
        if taken == len(data):
            return
        self._pending += data[taken:]
        if self.unsent > HIGH_WATER_BYTES and self._producer is not None and not self._producer_paused:
            self._producer_paused = True
            self._producer.pauseProducing()

    def writeSequence(self, data: Iterable[bytes]) -> None:
        """Send several pieces as one."""
        self.write(b"".join(data))

    def _put(self, data: bytes | bytearray) -> int:
        if self._incoming.reset:
            self._fail_writing()
            return len(data)
        return self._outgoing.put(data)

    def _fail_writing(self) -> None:
        """Sending failed: the peer takes no more. What it sent before is still to be read, and then it is over."""
        self._broken = True
        self._pending.clear()
        self._wake()

    def _flush(self) -> None:
        if self._pending:
            taken = self._put(self._pending)
            del self._pending[:taken]
        if self._gone or self._pending:
            return
        if self._closing:
            self._lose(ConnectionDone())
            return
        if self._half_closing and not self._write_ended:
            self._end_writing()
        self._resume_producer()

    def _resume_producer(self) -> None:
        if self._producer_paused and self.unsent <= LOW_WATER_BYTES:
            self._producer_paused = False
            if self._producer is not None:
                self._producer.resumeProducing()

    def registerProducer(self, producer: Producer, streaming: bool) -> None:
        """Let the write buffer pause and resume a producer (back-pressure); only streaming ones."""
        if self._producer is not None or not streaming:
            raise RuntimeError("one streaming producer at a time")
        self._producer = producer

    def unregisterProducer(self) -> None:
        """Let go of the producer; harmless when there is none."""
        self._producer = None
        self._producer_paused = False

    # Reading.

    def pauseProducing(self) -> None:
        """Read no more until `resumeProducing`."""
        self._paused = True

    def resumeProducing(self) -> None:
        """Read again. Delivers nothing by itself."""
        if self._paused:
            self._paused = False
            self._wake()

    def stopProducing(self) -> None:
        """Twisted's word for `loseConnection`."""
        self.loseConnection()

    # Closing.

    def loseConnection(self) -> None:
        """Read no more, send what is kept, close; `connectionLost` comes later."""
        if self._closing or self._gone:
            return
        self._closing = True
        if not self._pending:
            self._lose(ConnectionDone())

    def loseWriteConnection(self) -> None:
        """Half-close: send a FIN after what is kept; reading goes on."""
        if self._closing or self._gone or self._half_closing:
            return
        self._half_closing = True
        if not self._pending:
            self._end_writing()

    def _end_writing(self) -> None:
        self._write_ended = True
        self._outgoing.end()
        self._wake()

    def abortConnection(self) -> None:
        """Close now with a reset, whatever is kept; `connectionLost` comes later."""
        if not self._gone:
            self._outgoing.cut()
            self._lose(ConnectionAborted())

    def _lose(self, reason: Exception) -> None:
        if self._gone:
            return
        self._gone = True
        self._standing.pop(self)
        self._pending.clear()
        # As the kernel does: unread bytes are answered by a reset, and a reset by nothing.
        if self._incoming.bytes or self._incoming.reset:
            self._outgoing.cut()
        else:
            self._outgoing.end()
        self._incoming.close()
        if self.protocol is not None:
            self._clock.callLater(0, self._deliver_lost, Failure(reason))

    def _deliver_lost(self, reason: Failure) -> None:
        producer, self._producer = self._producer, None
        if producer is not None:
            producer.stopProducing()
        protocol, self.protocol = self.protocol, None
        if protocol is not None:
            protocol.connectionLost(reason)

    @property
    def disconnecting(self) -> bool:
        """Whether `loseConnection` was called."""
        return self._closing

    @property
    def connected(self) -> bool:
        """Whether the connection is not gone."""
        return not self._gone

    def getPeer(self) -> IPv4Address | UNIXAddress:
        """The address of the peer."""
        return self._peer

    def getHost(self) -> IPv4Address | UNIXAddress:
        """The address of this end."""
        return self._host

    def __repr__(self) -> str:
        state = "gone" if self._gone else "closing" if self._closing else "paused" if self._paused else "open"
        return f"<MemoryTransport {self._host} to {self._peer}: {state}, unsent={self.unsent}>"


# Under a name of our own mypy-zope does not compare signatures: ours are narrower types of the same calls.
_declare: Callable[..., None] = classImplements
_declare(MemoryTransport, ITransport, IConsumer, IPushProducer)
