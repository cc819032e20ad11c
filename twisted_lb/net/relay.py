"""A relay: bytes both ways between two connections (a tunnel after a 101, TCP), with back-pressure and half-close."""

from collections.abc import Callable
from typing import Final, Protocol

from twisted.python.failure import Failure

from twisted_lb.core.never import NEVER
from twisted_lb.net.clock import Clock
from twisted_lb.net.deadlines import Deadline, Deadlines
from twisted_lb.net.interfaces import Receiver, StreamTransport
from twisted_lb.wire.websocket import GOING_AWAY, Frames, close_frame


class Leg:
    """A connection given away to a Relay: its transport, and `held`, what was read of it and not used.

    `lost` is called when the connection is gone, once; `close` to have it closed in order. `ended`: the peer has sent its FIN.
    """

    def __init__(
        self,
        transport: StreamTransport,
        held: bytes,
        lost: Callable[[Failure], None],
        close: Callable[[], None],
        *,
        ended: bool,
    ) -> None:
        self.transport: Final = transport
        self.held: Final = held
        self.lost: Final = lost
        self.close: Final = close
        self.ended: Final = ended


class RelayOwner(Protocol):
    """The owner of a relay, which joined the two connections."""

    def relay_ended(self, *, client_gone: bool) -> None:
        """The relay is over: the client's connection was lost, or both sides have said everything, or time is up."""


class _End(Receiver):
    """One end of a relay: the protocol of its transport, and the producer of the other end's."""

    def __init__(self, relay: "Relay", leg: Leg, frames: Frames | None) -> None:
        self.transport: Final = leg.transport
        self.bytes_read: int = 0
        self.held: bytes = leg.held
        self.ended: bool = leg.ended
        self.paused: bool = False
        self.frames: Final = frames  # of what is sent to this end, where it speaks WebSocket
        self.parted: bool = False  # this end was sent its close frame, and gets nothing more
        self._good_bye: bytes = b""  # the close frame that it is to be sent
        self._relay: Final = relay
        self._lost: Final = leg.lost
        self.close: Final = leg.close

    def begin(self) -> None:
        """Take the connection over, and pass on what was read of it already."""
        self.transport.switch(self)
        self._pass_on_held()

    def dataReceived(self, data: bytes) -> None:
        """Bytes of this end for the other one."""
        if self.paused:
            self.held += data  # Twisted's TLS delivers what it had decrypted
            return
        self.bytes_read += len(data)
        self._relay.send(self, data)

    def _pass_on_held(self) -> None:
        held = self.held
        self.held = b""
        if held:
            self.dataReceived(held)
        if self.ended and not self.paused:
            self._relay.half_ended(self)

    def readConnectionLost(self) -> None:
        """The peer sent its FIN (half-close)."""
        self.ended = True
        if not self.paused:
            self._relay.half_ended(self)

    def connectionBroken(self) -> None:
        """The peer reset the connection while it was not read from."""
        self._relay.broken(self)

    def connectionLost(self, reason: Failure) -> None:
        """The connection is gone."""
        self._relay.lost(self)
        self._lost(reason)

    def take(self, frames: Frames, data: bytes) -> None:
        """Send this end bytes of a WebSocket: all of them; or, where it is to be told good-bye, the rest of the frame that
        has begun, and nothing after it.
        """
        if self.parted:
            frames.feed(data)
        elif not self._good_bye:
            frames.feed(data)
            self.transport.write(data)
        else:
            size = frames.feed_to_end(data)
            self.transport.write(data[:size])
            self._part(frames)
            frames.feed(data[size:])

    def tell_good_bye(self, frame: bytes) -> None:
        """Send this end a close frame, as soon as no frame is half-written; none if the other end has sent its own."""
        if self.frames is not None:
            self._good_bye = frame
            self._part(self.frames)

    def _part(self, frames: Frames) -> None:
        if frames.between:
            if not frames.closed:
                self.parted = True
                self.transport.write(self._good_bye)
            self._good_bye = b""

    def cut(self) -> None:
        """Close the connection now: with a FIN behind a good-bye, else with a reset."""
        if self.parted and self.transport.flushed:
            self.transport.loseConnection()
        else:
            self.transport.abortConnection()

    def stop_reading(self) -> None:
        """Read no more: the other end takes no more for now (back-pressure)."""
        if not self.paused:
            self.paused = True
            self.transport.pauseProducing()

    def read_on(self) -> None:
        """Read on: the other end takes more. First what is here already is passed on."""
        if self.paused:
            self.paused = False
            self._pass_on_held()
            if not self.paused:
                self.transport.resumeProducing()

    def makeConnection(self, transport: StreamTransport) -> None:
        """See StreamProtocol: the transport is connected already."""


class _Filling:
    """The producer of the upstream transport (back-pressure): a backend that does not read stops the client."""

    def __init__(self, source: _End) -> None:
        self._source: Final = source

    def pauseProducing(self) -> None:
        """See Producer."""
        self._source.stop_reading()

    def resumeProducing(self) -> None:
        """See Producer."""
        self._source.read_on()

    def stopProducing(self) -> None:
        """See Producer."""


class Relay:
    """Two connections joined until one of them is lost, both have ended, or nothing was said for `idle_s` seconds.

    The client's connection keeps its own producer, since the pace of clients is watched there; it calls `client_full` and
    `client_drained`. A FIN becomes a FIN for the other side where its transport can half-close, else it is the end. What
    the bytes mean is of no interest, but where a frame of a `websocket` ends: there `tell_good_bye` may come in between.
    """

    def __init__(
        self,
        owner: RelayOwner,
        client: Leg,
        upstream: Leg,
        *,
        idle_s: float,
        clock: Clock,
        deadlines: Deadlines,
        websocket: bool = False,
    ) -> None:
        self._owner: Final = owner
        self._idle_s: Final = idle_s
        self._clock: Final = clock
        self._deadlines: Final = deadlines
        self._deadline: Final = Deadline(self._idle)
        self._over: bool = False
        self._client: Final = _End(self, client, Frames() if websocket else None)
        self._upstream: Final = _End(self, upstream, Frames() if websocket else None)

    @property
    def bytes_up(self) -> int:
        """How many bytes came from the client."""
        return self._client.bytes_read

    @property
    def bytes_down(self) -> int:
        """How many bytes came from the backend."""
        return self._upstream.bytes_read

    def begin(self, *, client_full: bool) -> None:
        """Take over both connections; `client_full`: the client does not take what was sent to it so far."""
        self._live()
        transport = self._upstream.transport
        transport.unregisterProducer()
        transport.registerProducer(_Filling(self._client), True)
        if client_full:
            self.client_full()
        self._upstream.begin()
        if not self._over:
            self._client.begin()

    def send(self, source: _End, data: bytes) -> None:
        """Send bytes of one end to the other."""
        self._live()
        other = self._upstream if source is self._client else self._client
        frames = other.frames
        if frames is None:
            other.transport.write(data)
            return
        other.take(frames, data)
        if frames.closed and source is self._client and source.parted:
            # RFC 6455 7.1.1: once both have said good-bye, the server closes first.
            self._end(client_gone=False)

    def _live(self) -> None:
        """Extend the idle deadline: the tunnel is in use. A slow-reading client is watched by its own connection."""
        if not self._upstream.paused and not self._over:
            self._deadlines.arm(self._deadline, self._clock.now + self._idle_s)

    def client_full(self) -> None:
        """The client takes no more for now (back-pressure)."""
        if not self._over:
            self._upstream.stop_reading()
            self._deadline.due = NEVER

    def client_drained(self) -> None:
        """The client takes more."""
        if not self._over and self._upstream.paused:
            self._deadlines.arm(self._deadline, self._clock.now + self._idle_s)
            self._upstream.read_on()

    def half_ended(self, source: _End) -> None:
        """Half-close: one end will say no more, and the other is told, unless it has ended too."""
        other = self._upstream if source is self._client else self._client
        if self._over:
            return
        if other.ended and not other.paused:
            self._end(client_gone=False)
        elif other.transport.can_half_close:
            other.transport.loseWriteConnection()
        elif source is self._client:
            other.transport.loseConnection()
        else:
            self._end(client_gone=False)

    def broken(self, source: _End) -> None:
        """An end was reset while it was not read from: if that is the client, nobody is left to read for."""
        if source is self._client:
            source.transport.abortConnection()

    def lost(self, source: _End) -> None:
        """One of the connections is gone."""
        if source is self._client:
            self._end(client_gone=True)
        else:
            if source.held:
                self._client.transport.write(source.held)
                source.held = b""
            self._end(client_gone=False)

    def _idle(self) -> None:
        self._end(client_gone=False)

    # The end of the process.

    def tell_good_bye(self, mask: bytes) -> None:
        """Tell both ends of a WebSocket that we go away (close frame 1001), masked by these four bytes for the backend. The
        client's own close frame then ends the tunnel. Nothing for a tunnel that carries another protocol.
        """
        if not self._over:
            self._client.tell_good_bye(close_frame(GOING_AWAY))
            self._upstream.tell_good_bye(close_frame(GOING_AWAY, mask))

    @property
    def parted(self) -> bool:
        """Whether the client was told that we go away."""
        return self._client.parted

    def cut(self) -> None:
        """Cut the tunnel now; its owner is not told."""
        if not self._over:
            self._over = True
            self._deadline.end()
            self._upstream.cut()
            self._client.cut()

    def _end(self, *, client_gone: bool) -> None:
        if self._over:
            return
        self._over = True
        self._deadline.end()
        if client_gone:
            self._upstream.transport.abortConnection()
        else:
            self._upstream.close()
        self._owner.relay_ended(client_gone=client_gone)
        if not client_gone:
            self._client.close()

    def __repr__(self) -> str:
        return f"<Relay {'over' if self._over else 'open'}, {self.bytes_up} bytes up, {self.bytes_down} down>"
