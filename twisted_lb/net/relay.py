"""A relay: bytes both ways between two connections (a tunnel after a 101, TCP), with back-pressure and half-close; bulk by splice."""

from collections.abc import Callable
from typing import Final, Protocol

from twisted.internet.error import ConnectionDone
from twisted.python.failure import Failure

from twisted_lb.core.never import NEVER
from twisted_lb.core.outcome import Outcome
from twisted_lb.net.clock import Clock
from twisted_lb.net.deadlines import TICK_S, Deadline, Deadlines
from twisted_lb.net.interfaces import UNKNOWN, Receiver, StreamTransport
from twisted_lb.net.pipes import Pipes
from twisted_lb.net.tls import TlsTransport
from twisted_lb.net.transport import RECEIVE_BYTES, Transport
from twisted_lb.wire.websocket import GOING_AWAY, Frames, close_frame

# Before it is reset an end has so long, again for each part of it that it takes, to take what it was sent.
DELIVERY_S: Final = 2.0

_OK: Final = Outcome.OK


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

    def relay_ended(self, outcome: Outcome, cut: str) -> None:
        """The relay is over, once: OK where both sides have said everything, or time is up; CLIENT_GONE; or CUT_SHORT, where the
        backend has reset its connection. `cut` says what cut it, in words, empty where that was nobody, or the client. What was sent to
        the client may still be under way.
        """


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
        self._relay.send(self, data)
        if len(data) == RECEIVE_BYTES:
            self._relay.splice(self)

    def passed(self, count: int) -> None:
        """So many bytes of this end go to the other one, and not through us."""
        self.bytes_read += count
        self._relay.live()

    @property
    def truncated(self) -> bool:
        """Whether its end came in a way that anybody could have made on the way: TLS without close_notify."""
        transport = self.transport
        return isinstance(transport, TlsTransport) and transport.truncated

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
        self._relay.lost(self, reason)
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


class _Delivery:
    """The end of a connection whose stream was cut short: what it was sent is delivered, and then it is reset, so that its peer cannot
    take the cut for the end. It has DELIVERY_S for that, again for each part that it takes, and `most_s` at the most.
    """

    def __init__(self, transport: StreamTransport, clock: Clock, deadlines: Deadlines, most_s: float) -> None:
        self.transport: Final = transport
        self._clock: Final = clock
        self._deadlines: Final = deadlines
        self._deadline: Final = Deadline(self.look)
        now = clock.now
        self._ends_at: Final[float] = now + most_s
        self._due: float = now + DELIVERY_S
        self._backlog: int = UNKNOWN
        self.look()

    def look(self) -> None:
        """Look how much is left to be taken."""
        backlog, now = self.transport.backlog(), self._clock.now
        if 0 <= backlog < self._backlog:
            self._due = now + DELIVERY_S
        self._backlog = backlog
        if backlog and now < min(self._due, self._ends_at):
            self._deadlines.arm(self._deadline, now + TICK_S)
        else:
            self.cut()

    def cut(self) -> None:
        """Reset it now."""
        self._deadline.end()
        self.transport.abortConnection()

    def end(self) -> None:
        """The connection is gone."""
        self._deadline.end()


class Relay:
    """Two connections joined until one of them is lost, both have ended, or nothing was said for `idle_s` seconds; once one side has
    sent its FIN, `half_open_s`.

    The client's connection keeps its own producer, since the pace of clients is watched there; it calls `client_full` and
    `client_drained`. A FIN becomes a FIN for the other side where its transport can half-close, else it is the end. A reset becomes a
    reset: no side may take what was cut short for all of it. What the bytes mean is of no interest, but where a frame of a `websocket`
    ends: there `tell_good_bye` may come in between. Where nobody looks at them bulk goes through one of the `pipes`.
    """

    def __init__(
        self,
        owner: RelayOwner,
        client: Leg,
        upstream: Leg,
        *,
        idle_s: float,
        half_open_s: float = NEVER,
        clock: Clock,
        deadlines: Deadlines,
        pipes: Pipes | None = None,
        websocket: bool = False,
    ) -> None:
        self._owner: Final = owner
        self._idle_s: Final = idle_s
        self._half_open_s: Final = min(half_open_s, idle_s)
        self._pipes: Final = None if websocket else pipes
        self._clock: Final = clock
        self._deadlines: Final = deadlines
        self._deadline: Final = Deadline(self._silent)
        self._over: bool = False
        self._told: bool = False  # both ends, that we go away
        self._backlog: int = UNKNOWN  # of both sides, when nobody had said anything for long
        self._delivery: _Delivery | None = None
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
        self.live()
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
        if self._over:
            return  # an end that is about to be reset still says something
        source.bytes_read += len(data)
        self.live()
        other = self._other(source)
        frames = other.frames
        if frames is None:
            other.transport.write(data)
            return
        other.take(frames, data)
        if frames.closed and source is self._client and source.parted:
            # RFC 6455 7.1.1: once both have said good-bye, the server closes first.
            self._end(_OK)

    def splice(self, source: _End) -> None:
        """Bulk comes from this end: let the kernel move it, if it can."""
        pipes, near, far = self._pipes, source.transport, self._other(source).transport
        if pipes is None or self._over or source.paused:
            return
        if isinstance(near, Transport) and isinstance(far, Transport):
            near.splice_to(far, pipes, source.passed)

    def _other(self, source: _End) -> _End:
        return self._upstream if source is self._client else self._client

    @property
    def _patience_s(self) -> float:
        """How long nobody may say anything: less where one side has said all."""
        return self._half_open_s if self._client.ended or self._upstream.ended else self._idle_s

    def live(self) -> None:
        """Extend the idle deadline: the tunnel is in use. A slow-reading client is watched by its own connection."""
        if not self._upstream.paused and not self._over:
            self._backlog = UNKNOWN
            self._deadlines.arm(self._deadline, self._clock.now + self._patience_s)

    def client_full(self) -> None:
        """The client takes no more for now (back-pressure)."""
        if not self._over:
            self._upstream.stop_reading()
            self._deadline.due = NEVER

    def client_drained(self) -> None:
        """The client takes more."""
        if not self._over and self._upstream.paused:
            self._backlog = UNKNOWN
            self._deadlines.arm(self._deadline, self._clock.now + self._patience_s)
            self._upstream.read_on()

    def half_ended(self, source: _End) -> None:
        """Half-close: one end will say no more, and the other is told, unless it has ended too."""
        other = self._other(source)
        if self._over:
            if self._delivery is not None and self._delivery.transport is source.transport:
                self._delivery.look()
        elif source.truncated and not self._has_closed(source):
            self._cut_by(source, f"the {self._name(source)} closed TLS without close_notify")
        elif other.ended and not other.paused:
            self._end(_OK)
        elif other.transport.can_half_close:
            other.transport.loseWriteConnection()
            self._await_other()
        elif source is self._client:
            other.transport.loseConnection()
            self._await_other()
        else:
            self._end(_OK)

    def _await_other(self) -> None:
        """One side has sent its FIN (half-open): the other one is not waited for as long as before, which began with the last byte."""
        deadline = self._deadline
        if deadline.due != NEVER:
            self._deadlines.arm(deadline, min(deadline.due, self._clock.now + self._half_open_s))

    def _has_closed(self, source: _End) -> bool:
        """Whether it has sent its close frame: RFC 6455 5.5.1 has it say nothing after that, however its connection ends."""
        frames = self._other(source).frames
        return frames is not None and frames.closed and frames.between

    def _name(self, end: _End) -> str:
        return "client" if end is self._client else "backend"

    def broken(self, source: _End) -> None:
        """An end was reset while it was not read from: if that is the client, nobody is left to read for."""
        if source is self._client:
            source.transport.abortConnection()

    def lost(self, source: _End, reason: Failure) -> None:
        """One of the connections is gone."""
        if self._over:
            if self._delivery is not None and self._delivery.transport is source.transport:
                self._delivery.end()
        elif source is self._client:
            self._end(Outcome.CLIENT_GONE)
        else:
            if source.held:
                self._client.transport.write(source.held)
                source.held = b""
            if source.ended or self._has_closed(source) or reason.check(ConnectionDone):
                # What it had to say is here, whatever became of the rest of what it was sent.
                self._end(_OK)
            else:
                self._cut_by(source, _words(reason))

    def _cut_by(self, source: _End, words: str) -> None:
        """An end broke its stream off: of what it said the other one gets what came, and then a reset."""
        if source is self._client:
            self._end(Outcome.CLIENT_GONE, delivered=self._upstream)
        else:
            self._end(Outcome.CUT_SHORT, words, delivered=self._client)

    def _silent(self) -> None:
        """Nobody has said anything for long. While a slow side still takes what it was sent, that is no silence."""
        down, up = _unread(self._client.transport), _unread(self._upstream.transport)
        before = self._backlog
        backlog = self._backlog = down + up
        if backlog and (before == UNKNOWN or backlog < before):
            self._deadlines.arm(self._deadline, self._clock.now + self._patience_s)
            return
        words = f"nothing was said for {self._patience_s:g} s"
        if self._client.ended or self._upstream.ended:
            words += f" after the FIN of the {'client' if self._client.ended else 'backend'}"
        elif not backlog:
            self._end(_OK, words)
            return
        # Whose stream is not at its end, or who has not got all of it, must not take this for the end.
        if down or not self._upstream.ended:
            self._client.transport.abortConnection()
        if up or not self._client.ended:
            self._upstream.transport.abortConnection()
        self._end(_OK, words)

    # The end of the process.

    def tell_good_bye(self, mask: bytes) -> None:
        """Tell both ends of a WebSocket that we go away (close frame 1001), masked by these four bytes for the backend. The
        client's own close frame then ends the tunnel. Nothing for a tunnel that carries another protocol.
        """
        if not self._over and not self._told:
            self._told = True
            self._client.tell_good_bye(close_frame(GOING_AWAY))
            self._upstream.tell_good_bye(close_frame(GOING_AWAY, mask))

    @property
    def parted(self) -> bool:
        """Whether the client was told that we go away."""
        return self._client.parted

    def cut(self) -> None:
        """Cut the tunnel now, what is still on its way among it; its owner is not told."""
        if not self._over:
            self._over = True
            self._deadline.end()
            self._upstream.cut()
            self._client.cut()
        if self._delivery is not None:
            self._delivery.cut()

    def _end(self, outcome: Outcome, cut: str = "", *, delivered: _End | None = None) -> None:
        """End it for its owner and both sides. `delivered`: the end that gets what it was sent, and then a reset."""
        if self._over:
            return
        self._over = True
        self._deadline.end()
        upstream, client = self._upstream, self._client
        if delivered is upstream:
            self._deliver(upstream)
        elif outcome is Outcome.CLIENT_GONE:
            upstream.transport.abortConnection()
        else:
            upstream.close()
        self._owner.relay_ended(outcome, cut)
        if delivered is client:
            self._deliver(client)
        elif delivered is upstream or outcome is not Outcome.CLIENT_GONE:
            client.close()

    def _deliver(self, end: _End) -> None:
        self._delivery = _Delivery(end.transport, self._clock, self._deadlines, self._idle_s)

    def __repr__(self) -> str:
        return f"<Relay {'over' if self._over else 'open'}, {self.bytes_up} bytes up, {self.bytes_down} down>"


def _unread(transport: StreamTransport) -> int:
    """What its peer has not taken, as far as is known; the kernel counts a FIN of ours as one byte."""
    backlog = transport.backlog()
    return backlog if backlog > 1 else 0


def _words(reason: Failure) -> str:
    """How the connection of a backend was lost."""
    told = str(reason.value).rstrip(".").rpartition(": ")[2].lower()
    if "reset by peer" in told:
        return "the backend reset the connection"
    return f"the connection to the backend was lost: {told.rpartition('] ')[2]}"
