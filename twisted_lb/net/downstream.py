"""The client side of one HTTP/1.1 connection: requests in, one at a time, answers out in their order."""

from typing import Any, Final

from twisted.python.failure import Failure

from twisted_lb.core.gate import client_key
from twisted_lb.core.never import NEVER
from twisted_lb.core.outcome import Refusal
from twisted_lb.net.client_side import ClientSide
from twisted_lb.net.deadlines import Deadline
from twisted_lb.net.engine import Engine
from twisted_lb.net.exchange import Exchange
from twisted_lb.net.heads import RequestHeads
from twisted_lb.net.outgoing import Outgoing
from twisted_lb.net.transport import Receiver, StreamTransport, Transport
from twisted_lb.wire.chunked import ChunkDecoder
from twisted_lb.wire.fields import tokens
from twisted_lb.wire.grammar import CHUNKED, CRLF, BadMessage
from twisted_lb.wire.request import RequestHead
from twisted_lb.wire.response import ResponseHead

# What the connection is at.
_IDLE: Final = 0  # between requests, nothing of the next one is here
_HEAD: Final = 1  # a part of a head is here
_BODY: Final = 2  # an exchange runs, its request is still coming
_ANSWERING: Final = 3  # an exchange runs, its request is complete
_TUNNEL: Final = 4  # the protocol was switched: bytes are just bytes
_LINGERING: Final = 5  # everything was said; what still comes is thrown away
_GONE: Final = 6

# Requests sent ahead are kept up to here while one is answered; then the client has to wait.
_AHEAD_BYTES: Final = 65536
# Requests that can be answered at once, by ourselves, are answered so many at a time: then the others have their turn.
_MOST_AT_ONCE: Final = 16
# RFC 9112 9.6: after a last answer with bytes of the client unread, closing at once would reset the connection and
# could take that answer away from the client.
LINGER_S: Final = 2.0
# At a drain, an idle connection stays open this long: a request that is on its way is answered, not met by a close.
_LAST_REQUEST_S: Final = 0.5


class Downstream(ClientSide, Receiver):
    """One connection from a client; the transport drives it, the exchange answers through it (a ClientSide)."""

    __slots__ = (
        "_advancing", "_ahead_paused", "_asked_to_close", "_buffer", "_deadline", "_decoder", "_engine",
        "_exchange", "_going_on_later", "_heads", "_inside", "_left", "_out", "_own", "_patience_s",
        "_paused", "_persist", "_read_ended", "_scheme", "_stalled", "_started", "_state", "_transport",
        "_until_close", "_upgrading", "_version", "requests",
    )  # fmt: skip

    def __init__(self, engine: Engine, scheme: bytes = b"http") -> None:
        self.requests: int = 0
        self._engine: Final = engine
        self._scheme: Final = scheme
        self._transport: StreamTransport | None = None
        self._own: Transport | None = None
        self._heads: Final = RequestHeads(engine)
        self._deadline: Final = Deadline(self._timed_out)
        self._state: int = _IDLE
        self._exchange: Exchange | None = None
        self._buffer: bytes = b""
        self._advancing: bool = False
        self._going_on_later: bool = False
        self._inside: str | None = None  # whom the gate has counted
        # The request.
        self._left: int = 0
        self._decoder: ChunkDecoder | None = None
        self._paused: bool = False  # the exchange takes no more of the body
        self._ahead_paused: bool = False  # too much was sent ahead
        self._patience_s: float = NEVER  # what was left of the time for the body when it was paused
        self._stalled: int = -1  # bytes that it had not taken when the client stopped reading
        self._upgrading: bool = False
        self._read_ended: bool = False  # the client said that it will send no more
        # The answer.
        self._version: int = 11
        self._persist: bool = True
        self._asked_to_close: bool = False
        self._out: Final = Outgoing()
        self._started: bool = False
        self._until_close: bool = False

    # Requests in.

    def makeConnection(self, transport: Any) -> None:
        """A client connected."""
        self._transport = transport
        self._out.attach(transport)
        if isinstance(transport, Transport):
            self._own = transport
            address, port = transport.peer_name(), transport.port_name()
        else:
            self._engine.clock.read()
            address = str(getattr(transport.getPeer(), "host", "unknown"))
            port = str(getattr(transport.getHost(), "port", ""))
        self._heads.client = self._engine.rules.passing.client(address, self._scheme, port.encode("ascii"))
        self._engine.downstreams.add(self)
        if not self._enter(address):
            return
        transport.registerProducer(self, True)
        self._arm(self._engine.rules.timeouts.client_idle_s)

    def _enter(self, address: str) -> bool:
        """Whether there is room for this client; if not, it is told so and is gone."""
        gate = self._engine.gate
        # Our own proxies speak for many.
        key = client_key(address) if gate.per_client and not self._heads.client.trusted else ""
        if gate.enter(key):
            self._inside = key
            return True
        self._persist = False
        head, body = self._engine.answer(Refusal.RATE_LIMITED.status)
        self.start(head, len(body))
        self.write(body)
        self._state = _LINGERING
        if self._transport is not None:
            self._arm(LINGER_S)
            self._transport.loseConnection()
        return False

    def _arm(self, duration_s: float) -> None:
        self._engine.deadlines.arm(self._deadline, self._engine.clock.now + duration_s)

    def dataReceived(self, data: bytes) -> None:
        """Bytes from the client."""
        if self._own is None:
            self._engine.clock.read()
        if self._state <= _HEAD and not self._going_on_later:
            self._buffer = self._buffer + data if self._buffer else data
            self._advance()
        elif self._state == _BODY and not self._paused:
            self._read_body(data)
        elif self._state == _TUNNEL and not self._paused:
            if self._exchange is not None:
                self._exchange.from_client(data)
        elif self._state <= _TUNNEL:
            self._buffer += data
            if len(self._buffer) > _AHEAD_BYTES and not self._ahead_paused and self._transport is not None:
                self._ahead_paused = True
                self._transport.pauseProducing()

    def _advance(self) -> None:
        """Begin the requests that are here, one after the other: an answer made at once must not recurse."""
        if self._advancing:
            return
        self._advancing = True
        begun = 0
        while self._buffer and self._state <= _HEAD:
            if begun >= _MOST_AT_ONCE:
                self._going_on_later = True
                self._engine.soon(self._go_on)
                break
            if not self._take_head():
                break
            begun += 1
        self._advancing = False
        if self._read_ended and self._state <= _HEAD and not self._going_on_later:
            self._close()

    def _go_on(self) -> None:
        """All others had their turn."""
        self._going_on_later = False
        self._advance()

    def _take_head(self) -> bool:
        """Begin the next request; False when its head is not complete yet, or is not one."""
        heads = self._heads
        try:
            head = heads.take(self._buffer)
        except BadMessage as bad:
            self._buffer = heads.rest
            self._refuse(bad)
            return False
        if head is None:
            self._buffer = heads.rest
            self._wait_for_head()
            return False
        if 0 <= self._engine.rules.body_bytes < head.fields.framing:
            self._refuse(BadMessage(413, "body too large"), head)
            return False
        rest = heads.rest
        heads.rest = self._buffer = b""
        self._begin(head, rest)
        return True

    def _wait_for_head(self) -> None:
        self._take_more()
        # A CR alone is half of the empty line that may come between requests.
        if self._state == _IDLE and self._buffer not in (b"", b"\r"):
            self._state = _HEAD
            self._arm(self._engine.rules.timeouts.head_s)

    def _begin(self, head: RequestHead, rest: bytes) -> None:
        fields = head.fields
        self.requests += 1
        self._version = fields.version
        self._persist = fields.keep_alive
        self._asked_to_close = not fields.keep_alive
        self._upgrading = head.upgrade != b""
        self._started = False
        self._until_close = False
        self._stalled = -1
        self._deadline.due = NEVER
        exchange = Exchange(self._engine, self, head, self._heads.tail)
        self._exchange = exchange
        if fields.framing == 0:
            self._state = _ANSWERING
            self._buffer = rest
            exchange.begin()
            return
        self._state = _BODY
        self._left = 0
        if fields.framing == CHUNKED:
            self._decoder = ChunkDecoder(self._engine.rules.limits)
        else:
            self._decoder = None
            self._left = fields.framing
        self._take_more()
        self._arm(self._engine.rules.timeouts.body_idle_s)
        if rest:
            # First, so that a body broken from its first chunk on is refused before a backend hears of it; and a short
            # one leaves together with its head.
            self._read_body(rest)
        if not exchange.over:
            exchange.begin()

    def _read_body(self, data: bytes) -> None:
        exchange = self._exchange
        if exchange is None:
            return
        self._buy_time(len(data))
        decoder = self._decoder
        trailers = b""
        if decoder is None:
            left = self._left - len(data)
            ended = left <= 0
            # Cut only where it has to be: compiled, also a slice of everything is a copy.
            payload = data if left >= 0 else data[:left]
            rest = b"" if left >= 0 else data[left:]
            self._left = 0 if ended else left
        else:
            try:
                payload = decoder.feed(data)
            except BadMessage as bad:
                self._fault(bad)
                return
            ended = decoder.done
            rest = decoder.rest
            trailers = decoder.trailers
            most = self._engine.rules.body_bytes
            self._left += len(payload)
            if 0 <= most < self._left:
                self._fault(BadMessage(413, "body too large"))
                return
        if payload:
            exchange.receive(payload)
        if ended and self._exchange is exchange:
            self._state = _ANSWERING
            self._deadline.due = NEVER
            self._buffer = rest
            if self._paused:
                self.resume()
            exchange.end_request(trailers)

    def _buy_time(self, length: int) -> None:
        """Each byte of a body buys some time, never more than body_idle_s of it: who sends one now and then runs out."""
        now = self._engine.clock.now
        timeouts = self._engine.rules.timeouts
        self._deadline.due = min(
            max(self._deadline.due, now) + length * timeouts.s_per_byte, now + timeouts.body_idle_s
        )

    def pause(self) -> None:
        """See ClientSide."""
        if not self._paused and self._transport is not None:
            self._paused = True
            # It is not the client who is slow.
            self._patience_s = self._deadline.due - self._engine.clock.now
            self._deadline.due = NEVER
            self._transport.pauseProducing()

    def resume(self) -> None:
        """See ClientSide."""
        if not self._paused:
            return
        self._paused = False
        if self._state == _BODY:
            self._arm(min(self._patience_s, self._engine.rules.timeouts.body_idle_s))
            if self._buffer:
                data = self._buffer
                self._buffer = b""
                self._read_body(data)
        elif self._state == _TUNNEL:
            self._pass_on_held()
        if not self._paused and not self._ahead_paused and self._transport is not None:
            self._transport.resumeProducing()

    # Answers out.

    def who(self) -> str:
        """See ClientSide."""
        return self._heads.client.address.decode("ascii")

    def inform(self, head: ResponseHead) -> None:
        """See ClientSide. RFC 9110 15.2: not to a client of HTTP/1.0."""
        if self._version == 11 and self._transport is not None:
            self._transport.write(b"HTTP/1.1 " + head.line + CRLF + head.lines + CRLF)
            if head.status == 100 and self._state == _BODY and not self._paused:
                # What it had to wait for has come just now.
                self._arm(self._engine.rules.timeouts.body_idle_s)

    def start(self, head: ResponseHead, framing: int) -> None:
        """See ClientSide."""
        self._started = True
        if self._engine.draining or self._state == _BODY:
            self._persist = False
        out = self._out
        out.chunked = framing < 0 and self._version == 11
        if self._version == 11 and self._persist and head.dated:
            out.held = head.wire + CRLF
            return
        if framing < 0 and self._version == 10:
            self._persist = False
            self._until_close = True
        out.held = self._rewritten(head)

    def _rewritten(self, head: ResponseHead) -> bytes:
        """The head for all but the hot case."""
        parts = [head.wire if self._version == 11 else b"HTTP/1.1 " + head.line + CRLF + head.lines]
        if not head.dated:
            # RFC 9110 6.6.1: a recipient with a clock adds it.
            parts += [b"Date: ", self._engine.http_date(), CRLF]
        if not self._persist:
            parts.append(b"Connection: close\r\n")
        elif self._version == 10:
            parts.append(b"Connection: keep-alive\r\n")
        parts.append(CRLF)
        return b"".join(parts)

    def write(self, payload: bytes) -> None:
        """See ClientSide."""
        self._out.write(payload)

    def flush(self) -> None:
        """See ClientSide."""
        self._out.flush()

    def finish(self, trailers: bytes) -> None:
        """See ClientSide."""
        self._out.end(trailers)
        self._exchange = None
        if self._upgrading and self._buffer:
            # Sent ahead for a tunnel that did not come about: what it would mean as requests nobody knows.
            self._persist = False
        if self._state == _BODY or not self._persist:
            self._close()
        else:
            self._next()

    def _next(self) -> None:
        """Go on with the next request, which may be here already."""
        self._state = _IDLE
        if self._ahead_paused and len(self._buffer) <= _AHEAD_BYTES:
            self._take_more()
        engine = self._engine
        patience_s = _LAST_REQUEST_S if engine.draining else engine.rules.timeouts.client_idle_s
        engine.deadlines.arm(self._deadline, engine.clock.now + patience_s)
        if self._buffer or self._read_ended:
            self._advance()

    def _take_more(self) -> None:
        """There is room again for what is sent ahead."""
        if self._ahead_paused:
            self._ahead_paused = False
            if self._transport is not None:
                self._transport.resumeProducing()

    def tunnel(self, head: ResponseHead) -> None:
        """See ClientSide."""
        self._state = _TUNNEL
        self._deadline.due = NEVER
        if self._transport is not None:
            switch = b"Upgrade: %b\r\nConnection: Upgrade\r\n\r\n" % b", ".join(tokens(head.upgrade))
            self._transport.write(b"HTTP/1.1 " + head.line + CRLF + head.lines + switch)
            self._take_more()
        self._pass_on_held()

    def _pass_on_held(self) -> None:
        held = self._buffer
        self._buffer = b""
        if held and self._exchange is not None:
            self._exchange.from_client(held)
        if self._read_ended and self._exchange is not None and not self._paused:
            self._exchange.client_ended()

    def end_tunnel(self) -> None:
        """See ClientSide. Twisted's TLS cannot half-close: there it is the end."""
        if self._own is not None:
            self._own.loseWriteConnection()
        elif self._exchange is not None:
            self._exchange.tunnel_closed()

    def close_tunnel(self) -> None:
        """See ClientSide."""
        self._exchange = None
        self._state = _LINGERING
        if self._transport is not None:
            self._transport.unregisterProducer()
            self._arm(LINGER_S)
            self._transport.loseConnection()

    def abort(self) -> None:
        """See ClientSide: no last chunk, fewer bytes than announced, or, where the end is the end, a reset."""
        self._exchange = None
        self._state = _GONE
        if self._transport is None:
            return
        if self._until_close:
            self._transport.abortConnection()
            return
        self.flush()
        self._transport.unregisterProducer()
        self._arm(LINGER_S)
        self._transport.loseConnection()

    # Refusals and ends.

    def _refuse(self, bad: BadMessage, request: RequestHead | None = None, request_id: bytes = b"") -> None:
        """What came is not a request, or is one only as far as its head: say so once and close."""
        # RFC 9110 9.3.2: no body for a HEAD, even for one that is refused.
        heading = request.method == b"HEAD" if request is not None else self._buffer[:5] == b"HEAD "
        self._version = 11
        self._persist = False
        self._buffer = b""
        if request is not None:
            head, body = self._engine.answer(bad.status, request.fields.lines, request_id or request.fields.request_id)
        else:
            head, body = self._engine.answer(bad.status)
        self.start(head, len(body))
        if not heading:
            self.write(body)
        self.flush()
        self._close()

    def _fault(self, bad: BadMessage) -> None:
        """The client broke its own message in the middle of an exchange."""
        exchange = self._exchange
        self._exchange = None
        if exchange is not None:
            exchange.client_fault()
        if self._started:
            self.abort()
        elif exchange is not None:
            self._refuse(bad, exchange.head, exchange.request_id)

    def _close(self) -> None:
        """Everything was said. Half-close and listen on for a moment, unless the client said that it has nothing more."""
        last = self._state == _ANSWERING and self._asked_to_close and not self._buffer
        self._exchange = None
        self._buffer = b""
        self._state = _LINGERING
        self._stalled = -1
        transport = self._transport
        if transport is None:
            return
        self._arm(LINGER_S)
        transport.unregisterProducer()
        if self._paused or self._ahead_paused:
            self._paused = False
            self._ahead_paused = False
            transport.resumeProducing()
        if self._own is None or last:
            transport.loseConnection()
        else:
            transport.loseWriteConnection()

    def _timed_out(self) -> None:
        """What was waited for did not come."""
        if self._state == _HEAD:
            self._refuse(BadMessage(408, "no complete head in time"))
        elif self._state == _BODY and not self._paused and self._stalled < 0:
            self._fault(BadMessage(408, "the body stalled"))
        elif self._still_taking():
            self._arm(self._engine.rules.timeouts.response_idle_s)
        elif self._state == _IDLE:
            self._close()
        elif self._transport is not None:
            self._transport.abortConnection()

    def _still_taking(self) -> bool:
        """Whether the client has not taken everything yet but goes on taking: it reads, if slowly, but not too slowly."""
        if self._own is None:
            return False
        backlog = self._own.backlog()
        before = self._stalled
        self._stalled = backlog
        # The kernel counts a FIN of ours as one byte.
        return backlog > 1 and (before < 0 or before - backlog >= self._engine.rules.timeouts.least_taken)

    def readConnectionLost(self) -> None:
        """The client closed its side: it wants no more answers, unless the configuration believes otherwise."""
        self._read_ended = True
        exchange = self._exchange
        if self._state == _TUNNEL and exchange is not None:
            if not self._paused:
                exchange.client_ended()
            return
        if self._state == _ANSWERING and (self._engine.rules.passing.finish_half_closed):
            return
        self._exchange = None
        if exchange is not None:
            exchange.client_gone()
            if self._until_close:
                self.abort()
                return
        self._state = _LINGERING
        if self._transport is not None:
            self._transport.unregisterProducer()
            self._arm(LINGER_S)
            self._transport.loseConnection()

    def connectionBroken(self) -> None:
        """The connection was reset while reading was paused: nobody is there to answer to."""
        if self._transport is not None:
            self._transport.abortConnection()

    def writeConnectionLost(self) -> None:
        """Twisted's IHalfCloseableProtocol asks for it."""

    def connectionLost(self, reason: Failure) -> None:
        """The connection is gone."""
        exchange = self._exchange
        self._exchange = None
        self._state = _GONE
        self._transport = None
        self._own = None
        self._out.attach(None)
        self._buffer = b""
        self._deadline.end()
        self._engine.downstreams.discard(self)
        if self._inside is not None:
            self._engine.gate.leave(self._inside)
            self._inside = None
        if exchange is not None:
            exchange.client_gone()

    def drain(self) -> None:
        """Finish what has begun; each answer from now on ends its connection."""
        if self._state == _IDLE:
            self._arm(_LAST_REQUEST_S)

    def kill(self) -> None:
        """The time for finishing is over."""
        if self._transport is not None:
            self._transport.abortConnection()

    # Flow control of the answer.

    def pauseProducing(self) -> None:
        """The client does not read as fast as the backend writes."""
        self._stalled = self._own.backlog() if self._own is not None else 1 << 62
        self._arm(self._engine.rules.timeouts.response_idle_s)
        if self._exchange is not None:
            self._exchange.client_full()

    def resumeProducing(self) -> None:
        """It does again."""
        self._stalled = -1
        if self._state == _BODY and not self._paused:
            self._arm(self._engine.rules.timeouts.body_idle_s)
        elif self._state in (_ANSWERING, _TUNNEL) or self._paused:
            self._deadline.due = NEVER
        if self._exchange is not None:
            self._exchange.client_drained()

    def stopProducing(self) -> None:
        """Twisted says that the connection is lost; `connectionLost` follows."""

    def __repr__(self) -> str:
        return (
            f"<Downstream {self._heads.client.address.decode('ascii')} state={self._state}, {self.requests} requests>"
        )
