"""HTTP/1.1 with a client: requests in, one at a time (pipelining is read ahead), responses out in their order."""

# Over 350 lines: reading is `wire/http1_reader.py`, the connection `client_connection.py`; what is left is one state machine.

import enum
from typing import Final

from mypy_extensions import mypyc_attr
from twisted.python.failure import Failure

from twisted_lb.core.agreed import Agreed
from twisted_lb.core.backend import Backend
from twisted_lb.core.notes import Note
from twisted_lb.core.outcome import Refusal, refusal_of
from twisted_lb.net.client_connection import LAST_REQUEST_S, LINGER_S, ClientConnection, Speaker
from twisted_lb.net.client_side import ClientSide
from twisted_lb.net.exchange import Exchange
from twisted_lb.net.frontend import STOPS, Frontend
from twisted_lb.net.interfaces import Receiver, StreamTransport
from twisted_lb.net.outgoing import Outgoing
from twisted_lb.net.reception import Reception
from twisted_lb.net.relay import Leg
from twisted_lb.net.route import Lead
from twisted_lb.net.secured import Secured
from twisted_lb.net.upstream import Upstream
from twisted_lb.wire.grammar import CRLF, BadMessage
from twisted_lb.wire.http1_reader import Http1Reader
from twisted_lb.wire.request import RequestHead
from twisted_lb.wire.response import ResponseHead


class State(enum.Enum):
    """What a client's HTTP/1.1 connection is at."""

    IDLE = "between requests, nothing of the next one is here"
    HEAD = "a part of a head is here"
    BODY = "an exchange runs, its request is still coming"
    ANSWERING = "an exchange runs, its request is complete"
    RELEASED = "the protocol was switched, and the connection given away"
    LINGERING = "everything was said; what still comes is thrown away"
    GONE = "the connection is lost, or on its way"


# Looked up once, not at each request.
_IDLE: Final = State.IDLE
_HEAD: Final = State.HEAD
_BODY: Final = State.BODY
_ANSWERING: Final = State.ANSWERING
_LINGERING: Final = State.LINGERING

# What ends the head of the last answer on a connection.
_LAST: Final = b"Connection: close\r\n\r\n"

# Read-ahead: pipelined requests are kept up to here while one is answered; then the client has to wait (head-of-line).
_AHEAD_BYTES: Final = 65536
# Fairness: of requests that get a local reply at once so many are answered at a time; then others have their turn.
_MOST_AT_ONCE: Final = 16


@mypyc_attr(free_list_len=1)
class Http1(ClientSide, Receiver, Speaker):
    """HTTP/1.1 on one connection of a client, driven by its transport and by the exchange (a ClientSide)."""

    __slots__ = (
        "_advancing", "_agreed", "_ahead_paused", "_connection", "_exchange", "_frontend", "_going_on_later",
        "_lead", "_out", "_paused", "_persist", "_read_ended", "_reader", "_reception", "_scheme", "_secured", "_started", "_state",
        "_until_close", "_version", "requests",
    )  # fmt: skip

    def __init__(
        self,
        frontend: Frontend,
        scheme: bytes = b"http",
        secured: Secured | None = None,
        agreed: Agreed | None = None,
    ) -> None:
        self.requests: int = 0
        self._frontend: Final = frontend
        self._scheme: Final = scheme
        self._secured: Final = secured  # by our own TLS, and how
        self._agreed: Final = agreed if secured is None else secured.agreed
        self._connection: Final = ClientConnection(frontend, self)
        self._reader: Final = Http1Reader(frontend.shared_fields)
        self._out: Final = Outgoing()
        self._state: State = _IDLE
        self._exchange: Exchange | None = None
        self._advancing: bool = False
        self._going_on_later: bool = False
        self._reception: Final = Reception(frontend, self._connection, secured, self._agreed)
        self._lead: Lead | None = None  # of the request
        self._paused: bool = False  # the exchange takes no more of the body
        self._ahead_paused: bool = False  # too much was sent ahead
        self._read_ended: bool = False  # the client said that it will send no more
        # The response.
        self._version: int = 11
        self._persist: bool = True
        self._started: bool = False
        self._until_close: bool = False

    # Requests in.

    def makeConnection(self, transport: StreamTransport) -> None:
        """A client connected."""
        self._out.attach(transport)
        certificate = b"" if self._secured is None else self._secured.certificate
        if not self._connection.open(transport, self._scheme, self, certificate):
            self._persist = False
            detail = "too many connections of one client"
            self._say(*self._frontend.refuse(Refusal.RATE_LIMITED, detail, self._reception.claim_of_none(b"")))
            self._state = _LINGERING
            self._connection.arm(LINGER_S)
            transport.loseConnection()

    def dataReceived(self, data: bytes) -> None:
        """Bytes from the client."""
        state = self._state
        reader = self._reader
        if (state is _IDLE or state is _HEAD) and not self._going_on_later and not self._connection.full:
            reader.buffer = reader.buffer + data if reader.buffer else data
            self._advance()
        elif state is _BODY and not self._paused:
            self._read_body(data)
        elif state in (_IDLE, _HEAD, _BODY, _ANSWERING):
            reader.buffer += data
            if len(reader.buffer) > _AHEAD_BYTES and not self._ahead_paused:
                transport = self._connection.transport
                if transport is not None:
                    self._ahead_paused = True
                    transport.pauseProducing()

    def _advance(self) -> None:
        """Begin the requests that are here, one after the other (pipelining): immediate answers must not recurse."""
        if self._advancing:
            return
        self._advancing = True
        begun = 0
        connection = self._connection
        # A client that has not taken its last response gets no other one begun: what is held for it stays bounded.
        while self._reader.buffer and (self._state is _IDLE or self._state is _HEAD) and not connection.full:
            if begun >= _MOST_AT_ONCE:
                self._going_on_later = True
                self._frontend.runtime.soon(self._go_on)
                break
            if not self._take_head():
                break
            begun += 1
        self._advancing = False
        if self._read_ended and (self._state is _IDLE or self._state is _HEAD) and not self._has_more:
            self._close()

    @property
    def _has_more(self) -> bool:
        """Whether requests are here that have to wait, for others or for their client to take what it was sent."""
        return self._going_on_later or (self._connection.full and self._reader.buffer != b"")

    def _go_on(self) -> None:
        """Begin more requests of this client: all others had their turn (fairness)."""
        self._going_on_later = False
        self._advance()

    def _take_head(self) -> bool:
        """Begin the next request; False when its head is not complete yet, or is not one."""
        # The rules as they are now: they hold until the exchange is over.
        rules = self._frontend.client_rules
        if rules is not self._connection.rules:
            self._connection.go_by(rules)
        try:
            head = self._reader.take_head(rules.limits)
        except BadMessage as bad:
            self._refuse(bad)
            return False
        if head is None:
            self._wait_for_head()
            return False
        lead = self._reception.lead(head, self._connection)
        if lead is None:
            self._turn_away(head)
        else:
            self._begin(head, lead)
        return True

    def _turn_away(self, head: RequestHead) -> None:
        """Answer a request that the reception has turned away."""
        reply = self._reception.reply
        assert reply is not None
        if self._reception.broken:
            self._refuse_with(reply, heading=head.method == b"HEAD")
        else:
            self._answer(head, reply)

    def _wait_for_head(self) -> None:
        """Slow-head (slowloris) protection: a head has `head_s` from its first byte, however slowly it comes."""
        self._take_more()
        # An empty line that comes between requests, or half of it, is nothing of the next one.
        if self._state is _IDLE and self._reader.buffer.strip(CRLF):
            self._state = _HEAD
            self._connection.arm(self._connection.rules.head_s)

    def _begin(self, head: RequestHead, lead: Lead) -> None:
        fields = head.fields
        connection = self._connection
        self._lead = lead
        if connection.shared and not connection.admits(lead.client_name()):
            self._answer(head, self._reception.refuse_one_more(head, lead.route))
            return
        self.requests += 1
        self._version = fields.version
        self._persist = fields.keep_alive and (connection.rules.lasting or connection.lasts(self.requests))
        self._started = False
        self._until_close = False
        connection.begin_request()
        exchange = Exchange(self._frontend, self, head, lead)
        self._exchange = exchange
        if fields.framing == 0:
            self._state = _ANSWERING
            if connection.bound is None:
                exchange.begin()
            else:
                exchange.begin_bound()
            return
        self._state = _BODY
        reader = self._reader
        reader.begin_body(fields.framing, connection.rules.limits)
        rest = reader.buffer
        reader.buffer = b""
        self._take_more()
        connection.arm(connection.rules.body_idle_s)
        if rest:
            # Read first, so that a body broken from its first chunk on is refused before a backend hears of it; and a
            # short one leaves together with its head.
            self._read_body(rest)
        if exchange.over:
            return
        if connection.bound is None:
            exchange.begin()
        else:
            exchange.begin_bound()

    def _read_body(self, data: bytes) -> None:
        exchange = self._exchange
        if exchange is None:
            return
        self._connection.extend_body_deadline(len(data))
        reader = self._reader
        try:
            payload = reader.take_body(data)
        except BadMessage as bad:
            self._fault(bad)
            return
        if not exchange.route.takes(reader.body_bytes):
            self._fault(BadMessage(413, "body too large"))
            return
        if payload:
            exchange.receive(payload)
        if reader.body_ended and self._exchange is exchange:
            self._state = _ANSWERING
            if not self._connection.full:
                self._connection.disarm()
            if self._paused:
                self.resume()
            exchange.end_request(reader.trailers)

    def pause(self) -> None:
        """See ClientSide."""
        transport = self._connection.transport
        if not self._paused and transport is not None:
            self._paused = True
            self._connection.pause_body()
            transport.pauseProducing()

    def resume(self) -> None:
        """See ClientSide."""
        if not self._paused:
            return
        self._paused = False
        if self._state is _BODY:
            self._connection.resume_body()
            data = self._reader.buffer
            if data:
                self._reader.buffer = b""
                self._read_body(data)
            if self._state is _BODY:
                self._ahead_paused = False  # all of that was body
        if not self._paused and not self._ahead_paused:
            self._read_on()

    def _read_on(self) -> None:
        transport = self._connection.transport
        if transport is not None:
            transport.resumeProducing()

    # Responses out.

    @property
    def first(self) -> bool:
        """See ClientSide."""
        return self.requests == 1

    def who(self) -> str:
        """See ClientSide."""
        return self._connection.client.name

    @property
    def peer_port(self) -> int:
        """See ClientSide."""
        return self._connection.peer_port

    @property
    def agreed(self) -> Agreed | None:
        """See ClientSide."""
        return self._agreed

    def inform(self, head: ResponseHead, extra: bytes) -> None:
        """See ClientSide. RFC 9110 15.2: not to a client of HTTP/1.0. One that does not take what it was sent gets no more of
        them: there may be any number, and nothing else stops them. A 101 is no news but the answer.
        """
        if self._version == 11 and (head.status == 101 or not self._connection.full):
            self._out.send(b"HTTP/1.1 " + head.line + CRLF + head.lines + extra + CRLF)
            if head.status == 100 and self._state is _BODY and not self._paused:
                # The 100 that it waits for has come just now.
                self._connection.arm(self._connection.rules.body_idle_s)

    def start(self, head: ResponseHead, framing: int, extra: bytes) -> None:
        """See ClientSide."""
        self._started = True
        if self._frontend.draining or self._state is _BODY:
            self._persist = False
        out = self._out
        out.chunked = framing < 0 and self._version == 11
        if self._version == 11 and head.dated and not extra:
            out.held = head.wire + (CRLF if self._persist else _LAST)
            return
        if framing < 0 and self._version == 10:
            self._persist = False
            self._until_close = True
        out.held = self._rewritten(head, extra)

    def _rewritten(self, head: ResponseHead, extra: bytes) -> bytes:
        """The response head for all but the hot case."""
        parts = [b"HTTP/1.1 ", head.line, CRLF, head.lines, extra]
        if self._version == 11:
            parts.append(head.framed)
        if not head.dated:
            # RFC 9110 6.6.1: a recipient with a clock adds it.
            parts += [b"Date: ", self._frontend.runtime.http_date(), CRLF]
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
        out = self._out
        if out.held or out.chunked:
            out.end(trailers)
        self._exchange = None
        if self._reader.buffer and self._lead is not None and self._lead.upgrade:
            # Sent ahead for a tunnel that did not come about: it must not be read as requests (smuggling).
            self._persist = False
        if self._state is _BODY or not self._persist:
            self._close()
            return
        # Keep-alive: the next request may be here already (pipelining).
        self._state = _IDLE
        buffer = self._reader.buffer
        if self._ahead_paused and len(buffer) <= _AHEAD_BYTES:
            self._take_more()
        self._connection.await_request()
        if buffer or self._read_ended:
            self._advance()

    def _take_more(self) -> None:
        """Read ahead again: there is room for what is pipelined."""
        if self._ahead_paused:
            self._ahead_paused = False
            self._read_on()

    def keep(self, upstream: Upstream) -> bool:
        """See ClientSide."""
        self._connection.keep(upstream, self._client_name())
        return True

    def proxy_header(self, version: int) -> bytes:
        """See ClientSide."""
        return self._connection.proxy_header(version, self._secured)

    def take_kept(self) -> Upstream | None:
        """See ClientSide."""
        return self._connection.take_kept(self._client_name())

    def _client_name(self) -> str:
        """Whose request it is: behind a trusted proxy that may be another client each time."""
        return "" if self._lead is None else self._lead.client_name()

    def release(self) -> Leg:
        """See ClientSide."""
        connection = self._connection
        transport = connection.transport
        assert transport is not None
        self._state = State.RELEASED
        if not connection.full:
            connection.disarm()
        self._take_more()
        held = self._reader.buffer
        self._reader.buffer = b""
        return Leg(transport, held, self.connectionLost, self._linger, ended=self._read_ended)

    def _linger(self) -> None:
        """Lingering close: both sides of a tunnel have said everything, or one is gone."""
        self._exchange = None
        self._state = _LINGERING
        self._connection.linger(half_close=False)

    def abort(self) -> None:
        """See ClientSide: no last chunk, fewer bytes than announced, or, where the end is the close, a reset."""
        self._exchange = None
        self._state = State.GONE
        if self._until_close:
            self._connection.abort()
            return
        self.flush()
        self._connection.linger(half_close=False)

    # Refusals and ends.

    def _refuse(self, bad: BadMessage) -> None:
        """Refuse what came, which is no request: a local reply, and the close."""
        # RFC 9110 9.3.2: no body for a HEAD, even for one that is refused.
        claim = self._reception.claim_of_none(self._reader.buffer)
        reply = self._frontend.refuse(refusal_of(bad.status), bad.reason, claim)
        self._refuse_with(reply, heading=claim.method == b"HEAD")

    def _answer(self, head: RequestHead, reply: tuple[ResponseHead, bytes]) -> None:
        """Send a local reply to a request that goes nowhere, and keep the connection, unless a body comes behind it, or what was
        sent ahead for a tunnel: it must not be read as requests (smuggling).
        """
        fields = head.fields
        self.requests += 1
        self._version = fields.version
        ends = fields.framing != 0 or (fields.upgrade and self._reader.buffer)
        self._persist = fields.keep_alive and not ends and self._connection.lasts(self.requests)
        reply_head, body = reply
        self._say(reply_head, b"" if head.method == b"HEAD" else body, len(body))
        if self._persist:
            self._state = _IDLE
            self._connection.await_request()
        else:
            self._close()

    def _refuse_with(self, reply: tuple[ResponseHead, bytes], *, heading: bool) -> None:
        """Send this local reply and close."""
        self._version = 11
        self._persist = False
        self._reader.buffer = b""
        head, body = reply
        self._say(head, b"" if heading else body, len(body))
        self._close()

    def _say(self, head: ResponseHead, body: bytes, framing: int = 0) -> None:
        """Send a local reply at once."""
        self.start(head, framing or len(body), b"")
        if body:
            self.write(body)
        self.flush()

    def _fault(self, bad: BadMessage) -> None:
        """The client broke its own message in the middle of an exchange."""
        exchange = self._exchange
        self._exchange = None
        if exchange is None:
            return
        reply = exchange.client_fault(bad.status, bad.reason)
        if reply is None:
            self.abort()
        else:
            self._refuse_with(reply, heading=exchange.head.method == b"HEAD")

    def _close(self) -> None:
        """Lingering close: everything was said. Half-close and listen on for a moment, unless no more can come: of a client that says so
        and sends more all the same, a reset would take away what it has not taken yet.
        """
        reader, transport = self._reader, self._connection.transport
        last = self._state is _ANSWERING and self._asked_to_close and not reader.buffer
        last = last and transport is not None and transport.flushed
        self._exchange = None
        reader.buffer = b""
        self._state = _LINGERING
        resume = self._paused or self._ahead_paused
        self._paused = False
        self._ahead_paused = False
        if resume:
            self._read_on()
        self._connection.linger(half_close=not last)

    @property
    def _asked_to_close(self) -> bool:
        """Whether the client said, with its last request, that it will send no more."""
        return self._lead is not None and not self._lead.fields.keep_alive

    def timed_out(self) -> None:
        """See Speaker."""
        state = self._state
        connection = self._connection
        if state is _HEAD:
            self._refuse(BadMessage(408, "no complete head in time"))
        elif state is _BODY and not self._paused and not connection.full:
            self._fault(BadMessage(408, "the body stalled"))
        elif connection.keeps_up():
            pass  # it has got the time again
        elif state is _IDLE and not connection.full and not self.requests:
            self.retire()  # it has said nothing, and lingering would keep its place for longer
        elif state is _IDLE and not connection.full:
            self._close()
        else:
            if self._exchange is not None:
                self._exchange.client_gone("it does not take its answer")
            connection.abort()

    def readConnectionLost(self) -> None:
        """The client closed its side (half-close): it has left, unless the configuration says that it still listens."""
        self._read_ended = True
        if (self._state is _ANSWERING or self._has_more) and self._connection.rules.finish_half_closed:
            return
        exchange = self._exchange
        self._exchange = None
        if exchange is not None:
            exchange.client_gone()
            if self._until_close:
                self.abort()
                return
        self._linger()

    def connectionBroken(self) -> None:
        """See ResetAware: nobody is left to respond to."""
        self._connection.abort()

    def connectionLost(self, reason: Failure) -> None:
        """The connection is gone."""
        exchange = self._exchange
        self._exchange = None
        self._state = State.GONE
        self._out.attach(None)
        self._reader.buffer = b""
        self._connection.lost()
        if exchange is not None:
            exchange.client_gone()

    def drain(self) -> None:
        """See Speaker. Who has not taken its answer yet is waited for as before."""
        if self._state is _IDLE and not self._connection.full:
            self._connection.arm(LAST_REQUEST_S)

    def tell_good_bye(self) -> None:
        """See Speaker."""
        if self._exchange is not None:
            self._exchange.tell_good_bye()

    def at(self) -> Backend | None:
        """See Speaker."""
        return None if self._exchange is None else self._exchange.backend

    def unsent(self) -> bool:
        """See Speaker."""
        return self._exchange is not None and self._exchange.unsent

    def note(self) -> Note | None:
        """See Speaker."""
        return None if self._exchange is None else self._exchange.note()

    def relayed(self) -> bool:
        """See Speaker."""
        return self._state is State.RELEASED

    def kill(self, why: str = STOPS) -> None:
        """See Speaker: a local reply where nothing was said, a cut where something was."""
        exchange = self._exchange
        self._exchange = None
        connection = self._connection
        if self._state is State.RELEASED:
            if exchange is not None:
                exchange.cancel(why)
        elif exchange is None:
            connection.end()
        else:
            self._refuse_at_last(exchange, why)
        self._state = State.GONE

    def _refuse_at_last(self, exchange: Exchange, why: str) -> None:
        """End an exchange whose time is over: whatever is said is said now, and nothing is waited for."""
        connection = self._connection
        reply = None
        if connection.takes_more:
            reply = exchange.refuse(why)
        else:
            exchange.cancel(why)
        if reply is None:
            connection.abort()
            return
        self._persist = False
        head, body = reply
        self._say(head, b"" if exchange.head.method == b"HEAD" else body, len(body))
        connection.end(told=True)

    def kept(self) -> bool:
        """See Speaker."""
        return self._state is _IDLE and self.requests > 0 and not self._connection.full and not self._reader.buffer

    def retire(self) -> None:
        """See Speaker. Nothing was said that a reset could take away, so that it need not linger."""
        self._state = _LINGERING
        self._connection.linger(half_close=False)

    # Flow control of the response.

    def pauseProducing(self) -> None:
        """The client does not read as fast as the backend writes (back-pressure)."""
        self._connection.stalled()
        if self._exchange is not None:
            self._exchange.client_full()

    def resumeProducing(self) -> None:
        """The client has taken enough of what was written (back-pressure ends)."""
        connection = self._connection
        connection.full = False
        if self._state is _BODY and not self._paused:
            connection.arm(connection.rules.body_idle_s)
        elif self._state is _ANSWERING or self._state is State.RELEASED or self._paused:
            connection.disarm()
        if self._exchange is not None:
            self._exchange.client_drained()
        elif self._state is _IDLE:
            connection.await_request()
            self._advance()

    def stopProducing(self) -> None:
        """Twisted says that the connection is lost; `connectionLost` follows."""

    def __repr__(self) -> str:
        return f"<Http1 {self.who()} {self._state.name}, {self.requests} requests>"
