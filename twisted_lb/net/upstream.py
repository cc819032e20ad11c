"""One connection to a backend: sends a request, takes the answer apart, and is kept for the next exchange."""

from typing import TYPE_CHECKING, Any, Final

from twisted.internet.error import ConnectionDone
from twisted.python.failure import Failure

from twisted_lb.core.backend import Backend
from twisted_lb.core.never import NEVER
from twisted_lb.core.outcome import Outcome
from twisted_lb.net.deadlines import Deadline
from twisted_lb.net.heads import ResponseHeads
from twisted_lb.net.outgoing import Outgoing
from twisted_lb.net.transport import Receiver, StreamTransport, Transport
from twisted_lb.wire.chunked import ChunkDecoder
from twisted_lb.wire.fields import tokens
from twisted_lb.wire.grammar import CHUNKED, UNTIL_CLOSE, BadMessage
from twisted_lb.wire.response import ResponseHead

if TYPE_CHECKING:
    from twisted_lb.net.engine import Engine
    from twisted_lb.net.exchange import Exchange

# What the answer is at.
_IDLE: Final = 0
_HEAD: Final = 1
_LENGTH: Final = 2
_CHUNKS: Final = 3
_TO_THE_END: Final = 4
_TUNNEL: Final = 5
_GONE: Final = 6

# More interim answers than this before the final one are no help to anybody.
_MOST_INTERIM: Final = 64


class Upstream(Receiver):
    """A connection to one backend. It lives from the connect to `connectionLost` and serves one exchange at a time.

    It is written to through `begin`, `send`, `finish`; what comes back is told to the exchange. An exchange that wants no
    more calls `abandon`; after the answer is complete the connection lets go of the exchange by itself.
    """

    __slots__ = (
        "_buffer", "_deadline", "_decoder", "_engine", "_heads", "_interim", "_left", "_method", "_out",
        "_own", "_paused", "_persistent", "_request_ended", "_state", "_transport", "_unmet", "backend",
        "exchange", "full", "idle_s", "idle_since", "opened_at", "requests", "reuse_until", "waiter",
    )  # fmt: skip

    def __init__(self, engine: "Engine", backend: Backend, waiter: "Exchange") -> None:
        self.backend: Final = backend
        self.waiter: Exchange | None = waiter  # who waits for the connect
        self.exchange: Exchange | None = None
        self.opened_at: float = NEVER
        self.idle_since: float = NEVER
        self.idle_s: float = 0.0  # how long it was idle before it was used last
        self.reuse_until: float = NEVER
        self.requests: int = 0
        self.full: bool = False  # the backend does not take what was written
        self._engine: Final = engine
        self._transport: StreamTransport | None = None
        self._own: Transport | None = None
        self._deadline: Final = Deadline(self._timed_out)
        self._state: int = _IDLE
        self._method: bytes = b""
        self._out: Final = Outgoing()
        self._request_ended: bool = True
        self._heads: Final = ResponseHeads(engine)
        self._buffer: bytes = b""
        self._interim: int = 0
        self._left: int = 0
        self._decoder: ChunkDecoder | None = None
        self._persistent: bool = True
        self._unmet: bool = False  # an expectation of the request that no interim answer has met
        self._paused: bool = False

    # The request.

    def begin(self, exchange: "Exchange", head: bytes, method: bytes, framing: int) -> None:
        """Send a request head; one with a body waits for `send`, `finish` or `flush` so that both leave together."""
        self.exchange = exchange
        self._method = method
        self._state = _HEAD
        self._interim = 0
        self._persistent = True
        self._unmet = exchange.head.fields.expects
        self._engine.deadlines.arm(self._deadline, exchange.attempt_due())
        if framing == 0:
            self._request_ended = True
            self._out.send(head)
        else:
            self._request_ended = False
            self._out.held = head
            self._out.chunked = framing == CHUNKED

    def send(self, payload: bytes) -> None:
        """A piece of the request body, never empty."""
        self._out.write(payload)
        self._out.flush()

    def finish(self, trailers: bytes) -> None:
        """The request body is complete."""
        self._request_ended = True
        self._out.end(trailers)

    def flush(self) -> None:
        """Send a head whose body is not there yet."""
        self._out.flush()

    def arm(self, due: float) -> None:
        """Move the moment at which the exchange's patience ends."""
        self._engine.deadlines.arm(self._deadline, due)

    # The answer.

    def dataReceived(self, data: bytes) -> None:
        """Bytes from the backend."""
        if self._own is None:
            self._engine.clock.read()
        exchange = self.exchange
        if exchange is None:
            # Nobody asked: what is said here must never reach a client as an answer to another request. Mostly it is a
            # 408, and a close behind it.
            self._left_idle()
            self.close()
            return
        if self._paused:
            self._buffer += data  # Twisted's TLS delivers what it had decrypted
            return
        try:
            if self._state == _HEAD:
                self._read_head(exchange, data)
            else:
                self._read_body(exchange, data)
        except BadMessage as bad:
            self._fail(Outcome.BAD_RESPONSE if self._state == _HEAD else Outcome.CUT_SHORT, bad.reason)
            return
        if self.exchange is exchange:
            exchange.client.flush()

    def _read_head(self, exchange: "Exchange", data: bytes) -> None:
        if self._buffer:
            data = self._buffer + data
            self._buffer = b""
        heads = self._heads
        while True:
            head = heads.take(data)
            if head is None:
                self._buffer = data
                return
            end = heads.end
            self._persistent = self._persistent and head.persistent
            if head.status >= 200:
                break
            data = data[end:]
            self._pass_interim(exchange, head, data)
            if self._state != _HEAD or self.exchange is not exchange or not data:
                return
        framing = head.body_of(self._method)
        # Who refuses an expectation may read the body or not (RFC 9110 10.1.1): what comes next may be misunderstood.
        self._persistent = self._persistent and not self._unmet
        if framing == len(data) - end:
            # All of it has come at once, as small answers do.
            self._state = _LENGTH
            exchange.answer(head, framing)
            if framing and self.exchange is exchange:
                exchange.client.write(data[end:])
            if self.exchange is exchange:
                self._complete(exchange, b"", b"")
            return
        self._begin_body(framing)
        exchange.answer(head, framing)
        if self.exchange is not exchange or end == len(data):
            return
        if framing == CHUNKED:
            self._read_chunks(exchange, data, end)
        elif framing == 0:
            self._complete(exchange, data[end:], b"")
        else:
            self._read_body(exchange, data[end:])

    def _pass_interim(self, exchange: "Exchange", head: ResponseHead, data: bytes) -> None:
        """An answer before the final one, and what came behind it."""
        self._interim += 1
        if head.status == 101:
            self._switch(exchange, head, data)
            return
        if self._interim > _MOST_INTERIM:
            raise BadMessage(502, "too many interim answers")
        self._unmet = self._unmet and head.status != 100
        exchange.informed(head)

    def _switch(self, exchange: "Exchange", head: ResponseHead, data: bytes) -> None:
        """The backend says that it has switched protocols: to what the client offered, or it is lying."""
        to = tokens(head.upgrade)
        offered = tokens(exchange.head.upgrade)
        if not to or not all(token in offered for token in to):
            raise BadMessage(502, "a switch of protocols that nobody asked for")
        self._state = _TUNNEL
        self._live()
        exchange.switched(head)
        if data and self.exchange is exchange:
            exchange.client.write(data)

    def pass_on(self, data: bytes) -> None:
        """Bytes of a tunnel."""
        self._live()
        self._out.send(data)

    def end_tunnel(self) -> None:
        """The client's side of a tunnel has ended."""
        if self._transport is None:
            return
        if self._own is not None:
            self._transport.loseWriteConnection()
        else:
            self._transport.loseConnection()  # Twisted's TLS cannot half-close

    def _live(self) -> None:
        """The tunnel is in use."""
        if not self._paused:
            self.arm(self._engine.clock.now + self._engine.rules.timeouts.tunnel_idle_s)

    def _begin_body(self, framing: int) -> None:
        if framing >= 0:
            self._state = _LENGTH
            self._left = framing
        elif framing == CHUNKED:
            self._state = _CHUNKS
            self._decoder = ChunkDecoder(self._engine.rules.limits)
        else:
            assert framing == UNTIL_CLOSE
            self._state = _TO_THE_END
        self.arm(self._engine.clock.now + self._engine.rules.timeouts.response_idle_s)

    def _read_body(self, exchange: "Exchange", data: bytes) -> None:
        if self._state == _TUNNEL:
            self._live()
            exchange.client.write(data)
            return
        self._deadline.due = self._engine.clock.now + self._engine.rules.timeouts.response_idle_s
        if self._state == _LENGTH:
            left = self._left - len(data)
            if left > 0:
                self._left = left
                exchange.client.write(data)
                return
            payload = data if left == 0 else data[: self._left]
            rest = b"" if left == 0 else data[self._left :]
            self._left = 0
            exchange.client.write(payload)
            if self.exchange is exchange:
                self._complete(exchange, rest, b"")
        elif self._state == _CHUNKS:
            self._read_chunks(exchange, data, 0)
        else:
            exchange.client.write(data)

    def _read_chunks(self, exchange: "Exchange", data: bytes, begin: int) -> None:
        decoder = self._decoder
        assert decoder is not None
        payload = decoder.feed(data, begin)
        if payload:
            exchange.client.write(payload)
        if decoder.done and self.exchange is exchange:
            self._decoder = None
            self._complete(exchange, decoder.rest, decoder.trailers)

    def _complete(self, exchange: "Exchange", rest: bytes, trailers: bytes) -> None:
        """The answer is complete. Let go before the exchange ends: its client's next request may come at once."""
        self.exchange = None
        self._state = _IDLE
        self.requests += 1
        self._deadline.due = NEVER
        if rest or not (self._persistent and self._request_ended) or self.full or not self._keep():
            self.close()
        exchange.answered(trailers)

    def _keep(self) -> bool:
        head = self._heads.last
        if not self._engine.connections.put(self, self._engine.clock.now, head.keep_s if head is not None else -1):
            return False
        if self._paused:
            self._paused = False
            if self._transport is not None:
                self._transport.resumeProducing()
        self._engine.deadlines.arm(self._deadline, self.reuse_until)
        return True

    def keep_until(self, due: float) -> None:
        """Use it for no request after `due`."""
        self.reuse_until = due
        self.arm(due)

    def _left_idle(self) -> None:
        """The backend has closed it while nothing was asked of it."""
        if self._state == _IDLE and self.requests:
            now = self._engine.clock.now
            self._engine.connections.closed_by_backend(self, now - self.idle_since, now)

    # Ends and failures.

    def _fail(self, outcome: Outcome, detail: str) -> None:
        """The exchange cannot be finished on this connection."""
        exchange = self.exchange
        self.abandon()
        if exchange is not None:
            exchange.failed(outcome, detail)

    def _broken(self, detail: str) -> None:
        """The backend closed, or was lost, before the answer was complete."""
        if self._state != _HEAD:
            self._fail(Outcome.CUT_SHORT, detail)
        elif self.requests and not self._buffer and not self._interim:
            self._engine.connections.closed_by_backend(self, self.idle_s, self._engine.clock.now)
            self._fail(Outcome.STALE_REUSE, detail)
        else:
            self._fail(Outcome.NO_RESPONSE, detail)

    def _timed_out(self) -> None:
        if self.exchange is None:
            self.close()
        elif self._state == _TUNNEL:
            self.exchange.tunnel_closed()
        elif self._state == _HEAD:
            self._fail(Outcome.TIMED_OUT, "no response head in time")
        else:
            self._fail(Outcome.CUT_SHORT, "the response stalled")

    def readConnectionLost(self) -> None:
        """The backend closed its side: the end of an answer that is framed by it, too early for all others."""
        exchange = self.exchange
        if exchange is None:
            self._left_idle()
            self.close()
        elif self._state == _TUNNEL:
            exchange.backend_ended()
        elif self._state == _TO_THE_END:
            self._persistent = False
            self._complete(exchange, b"", b"")
        else:
            self._broken("the backend closed the connection")

    def writeConnectionLost(self) -> None:
        """Twisted's IHalfCloseableProtocol asks for it; we never half-close this side."""

    def connectionLost(self, reason: Failure) -> None:
        """The connection is gone."""
        if self._paused and self._buffer:
            self.resume()
        exchange = self.exchange
        if exchange is not None:
            if self._state == _TUNNEL:
                exchange.tunnel_closed()
            elif self._state == _TO_THE_END and reason.check(ConnectionDone):
                self.readConnectionLost()
            else:
                self._broken(reason.getErrorMessage())
        else:
            self._left_idle()
        self._release()
        self._deadline.end()
        self._transport = None
        self._out.attach(None)

    def close(self) -> None:
        """Close in order; for a connection without an exchange."""
        self._release()
        if self._transport is not None:
            self._transport.loseConnection()

    def abandon(self) -> None:
        """Close now: what is still to come is of no use to anybody."""
        self.exchange = None
        self._release()
        if self._transport is not None:
            self._transport.abortConnection()

    def _release(self) -> None:
        self._state = _GONE
        self._deadline.due = NEVER
        self._engine.connections.forget(self)

    # Flow control.

    def pause(self) -> None:
        """The client does not take more: read no more, and do not blame the backend for the wait."""
        if not self._paused:
            self._paused = True
            self._deadline.due = NEVER
            if self._transport is not None:
                self._transport.pauseProducing()

    def resume(self) -> None:
        """The client takes more: first what is here already."""
        if not self._paused:
            return
        self._paused = False
        exchange = self.exchange
        if exchange is None:
            return
        timeouts = self._engine.rules.timeouts
        patience_s = timeouts.tunnel_idle_s if self._state == _TUNNEL else timeouts.response_idle_s
        self.arm(self._engine.clock.now + patience_s)
        if self._buffer and self._state != _HEAD:
            data = self._buffer
            self._buffer = b""
            self.dataReceived(data)
        if not self._paused and self._transport is not None:
            self._transport.resumeProducing()

    def pauseProducing(self) -> None:
        """The transport's write buffer is full."""
        self.full = True
        if self.exchange is not None:
            self.exchange.upstream_full()

    def resumeProducing(self) -> None:
        """It has emptied."""
        self.full = False
        if self.exchange is not None:
            self.exchange.upstream_drained()

    def stopProducing(self) -> None:
        """Twisted says that the connection is lost; `connectionLost` follows."""

    def makeConnection(self, transport: Any) -> None:
        """The connect succeeded."""
        self._transport = transport
        self._out.attach(transport)
        if isinstance(transport, Transport):
            self._own = transport
        transport.registerProducer(self, True)
        now = self._engine.clock.now if self._own is not None else self._engine.clock.read()
        self.opened_at = now
        self._engine.connections.opened(self)
        waiter = self.waiter
        self.waiter = None
        if waiter is None:
            self.close()
        else:
            waiter.connected(self)

    def __repr__(self) -> str:
        use = "idle" if self.exchange is None else "in use"
        return f"<Upstream {self.backend.name} {use}, {self.requests} requests>"
