"""The upstream of HTTP/1.1: one connection to a backend. It sends requests, reads responses, and is kept alive in between."""

# Over 350 lines and 20 attributes: `Keeper` is the interface of this one class, and names it.

import enum
from typing import Final

from twisted.internet.error import ConnectionDone
from twisted.python.failure import Failure

from twisted_lb.core.backend import Backend
from twisted_lb.core.never import NEVER
from twisted_lb.core.outcome import STALLED, Outcome
from twisted_lb.net.clock import Clock
from twisted_lb.net.deadlines import Deadline, Deadlines
from twisted_lb.net.greeting import Greeting, Greetings
from twisted_lb.net.interfaces import UNKNOWN, Receiver, StreamTransport
from twisted_lb.net.outgoing import Outgoing
from twisted_lb.net.relay import Leg
from twisted_lb.net.settings import UpstreamRules
from twisted_lb.net.tls import TlsTransport
from twisted_lb.net.upstream import Requester, Upstream
from twisted_lb.wire.chunked import ChunkDecoder
from twisted_lb.wire.grammar import CHUNKED, UNTIL_CLOSE, BadMessage
from twisted_lb.wire.request import RequestHead
from twisted_lb.wire.response import ResponseHead
from twisted_lb.wire.response_heads import ResponseHeads


class State(enum.Enum):
    """What an upstream connection is at: which part of a response it reads."""

    IDLE = "between exchanges: not used yet, or kept alive"
    HEAD = "a request is on its way, the head of its response has not come"
    LENGTH = "a response body of known length"
    CHUNKS = "a chunked response body"
    UNTIL_CLOSE = "a response body that ends with the connection"
    GONE = "closed, or given away to a tunnel"


# Looked up once, not at each response.
_IDLE: Final = State.IDLE
_HEAD: Final = State.HEAD
_LENGTH: Final = State.LENGTH
_CHUNKS: Final = State.CHUNKS
_UNTIL_CLOSE: Final = State.UNTIL_CLOSE
_GONE: Final = State.GONE

# The rest of a request whose response is complete, or of a tunnel: for how long a backend may leave it, and leave it again after
# each part that it takes.
_CLOSING_S: Final = 10.0


class Keeper:
    """The owner of the connections to a pool's backends: what a connection reads there, and tells of itself."""

    def __init__(self, rules: UpstreamRules, clock: Clock, deadlines: Deadlines) -> None:
        self.upstream_rules: UpstreamRules = rules
        self.clock: Final = clock
        self.deadlines: Final = deadlines
        # What comes before the first request of a connection; None where nothing does.
        self.greetings: Greetings | None = None

    def opened(self, upstream: "Http1Upstream", took_s: float) -> None:
        """A connection is up, so long after it was dialled."""
        raise NotImplementedError

    def put(self, upstream: "Http1Upstream", now: float, announced_s: int) -> bool:
        """Keep a connection alive whose exchange is over; False, and it is to be closed, when worn or not wanted."""
        raise NotImplementedError

    def hold(self, upstream: "Http1Upstream", now: float, announced_s: int) -> bool:
        """Let a connection live whose exchange is over, and which is its client's alone; False, and it is to be closed, when
        its backend is gone or would close it at once.
        """
        raise NotImplementedError

    def forget(self, upstream: "Http1Upstream") -> None:
        """A connection is gone, or about to go."""
        raise NotImplementedError

    def counts(self, backend: Backend, leads_to: str, took_s: float, greetings: Greetings | None) -> bool:
        """Count a connection that is up, so long after it was dialled, to this address and greeted so; False, and it is worn from the
        beginning, where that is not how it would be made now.
        """
        raise NotImplementedError

    def greeting_of(self, backend: Backend, requester: Requester) -> Greeting | None:
        """What comes before the first request of a new connection, for this one; None: nothing."""
        raise NotImplementedError

    def leave_at_work(self, upstream: Upstream) -> bool:
        """Nobody waits any more for the answer that is owed on a connection: whether its backend may be at work on it, and whoever
        has the connection now sees to its end; else it is to be abandoned.
        """
        raise NotImplementedError

    def closed_by_backend(self, upstream: "Http1Upstream", idle_s: float, now: float) -> None:
        """The backend has closed a kept connection that was idle for so long (keep-alive race)."""
        raise NotImplementedError


class Http1Upstream(Upstream, Receiver):
    """A connection to one backend. It lives from the connect to `connectionLost` and serves one exchange at a time.

    It is written to through `begin`, `send`, `finish`; the response is told to the requester. A requester that wants no
    more calls `abandon`; after the response is complete the connection lets go of the requester by itself.

    `bound`: it is its client's alone, since a request on it may have authenticated it, or it has asked for that (NTLM,
    Negotiate), or a PROXY header has said so (`proxied`): whoever else came on it would have that client's rights. It is never among the
    kept ones again. `place`: among which others it is kept else; see `Greetings.place`.
    """

    __slots__ = (
        "_buffer", "_clock", "_deadline", "_deadlines", "_decoder", "_heads", "_informed", "_interim_bytes", "_keeper", "_left",
        "_method", "_out", "_paused", "_persistent", "_request_ended", "_state", "_transport", "_unmet", "_unread",
        "dialled_at", "greeted_by", "idle_s", "idle_since", "place", "requests", "waiter",
    )  # fmt: skip

    def __init__(self, keeper: Keeper, backend: Backend, waiter: Requester | None) -> None:
        super().__init__(backend)
        self.waiter: Requester | None = waiter  # who waits for the connect
        self.dialled_at: float = keeper.clock.now
        self.idle_since: float = NEVER
        self.idle_s: float = 0.0  # how long it was idle before it was used last
        self.requests: int = 0
        self.greeted_by: Greetings | None = None
        self.place: object = backend
        self._keeper: Final = keeper
        self._clock: Final = keeper.clock
        self._deadlines: Final = keeper.deadlines
        self._transport: StreamTransport | None = None
        self._deadline: Final = Deadline(self._timed_out)
        self._state: State = _IDLE
        self._method: bytes = b""
        self._out: Final = Outgoing()
        self._request_ended: bool = True
        self._heads: Final = ResponseHeads()
        self._buffer: bytes = b""
        self._informed: bool = False  # an interim response (1xx) came
        self._interim_bytes: int = 0  # of interim responses since anything of the request was sent
        self._left: int = 0
        self._decoder: ChunkDecoder | None = None
        self._persistent: bool = True
        self._unmet: bool = False  # an expectation of the request that no interim response has met
        self._paused: bool = False
        self._unread: int = UNKNOWN  # what the backend had not taken at the last look, once it is closed

    # The request.

    def begin(self, requester: Requester, head: bytes, request: RequestHead, due: float) -> None:
        """Send the head of a request, and wait for the head of its response until `due`. A head with a body waits for
        `send`, `finish` or `flush`, so that both leave together.
        """
        self.requester = requester
        self._method = request.method
        self._state = _HEAD
        self._informed = False
        self._interim_bytes = 0
        self._persistent = True
        fields = request.fields
        self._unmet = fields.expects
        self.bound = self.bound or fields.binds
        deadline = self._deadline
        deadline.due = due
        if due < deadline.settled_from:
            self._deadlines.arm(deadline, due)
        if fields.framing == 0:
            self._request_ended = True
            transport = self._transport
            if transport is not None:
                transport.write(head)
        else:
            self._request_ended = False
            self._out.held = head
            self._out.chunked = fields.framing == CHUNKED

    def send(self, payload: bytes) -> None:
        """Send a piece of the request body, never empty."""
        self._interim_bytes = 0
        self._out.write(payload)
        self._out.flush()

    def finish(self, trailers: bytes) -> None:
        """End the request body: it is complete."""
        self._request_ended = True
        self._out.end(trailers)

    def flush(self) -> None:
        """Send a request head whose body is not there yet."""
        self._out.flush()

    def arm(self, due: float) -> None:
        """Move the deadline of the wait for this backend."""
        self._deadlines.arm(self._deadline, due)

    # The response.

    def dataReceived(self, data: bytes) -> None:
        """Bytes from the backend."""
        requester = self.requester
        if requester is None:
            # Nobody asked: bytes that come now must never reach a client as a response to another request. Mostly they
            # are a 408, and a close behind it.
            self._closed_while_idle()
            self.close()
            return
        if self._paused:
            self._buffer += data  # Twisted's TLS delivers what it had decrypted
            return
        try:
            if self._state is _HEAD:
                self._read_head(requester, data)
            else:
                self._read_body(requester, data)
        except BadMessage as bad:
            self._fail(Outcome.BAD_RESPONSE if self._state is _HEAD else Outcome.CUT_SHORT, bad.reason)
            return
        if self.requester is requester:
            requester.flush()

    def _read_head(self, requester: Requester, data: bytes) -> None:
        if self._buffer:
            data = self._buffer + data
            self._buffer = b""
        heads = self._heads
        limits = self._keeper.upstream_rules.limits
        while True:
            head = heads.take(data, limits)
            if head is None:
                self._buffer = data
                return
            end = heads.end
            self._persistent = self._persistent and head.persistent
            if head.status >= 200:
                break
            data = data[end:]
            self._interim_bytes += end
            self._pass_interim(requester, head, data)
            if self._state is not _HEAD or self.requester is not requester or not data:
                return
        self.bound = self.bound or head.binds
        framing = head.body_of(self._method)
        # RFC 9110 10.1.1: a backend that refuses an expectation may read the body or not, and misread what comes next.
        self._persistent = self._persistent and not self._unmet
        if framing == len(data) - end:
            # All of it has come at once, as small responses do.
            self._state = _LENGTH
            requester.response_started(head, framing)
            if framing and self.requester is requester:
                requester.payload(data[end:])
            if self.requester is requester:
                self._complete(requester, b"", b"")
            return
        self._begin_body(requester, framing)
        requester.response_started(head, framing)
        if self.requester is not requester or end == len(data):
            return
        if framing == CHUNKED:
            self._read_chunks(requester, data, end)
        elif framing == 0:
            self._complete(requester, data[end:], b"")
        else:
            self._read_body(requester, data[end:])

    def _pass_interim(self, requester: Requester, head: ResponseHead, data: bytes) -> None:
        """Pass on a response before the final one (1xx), and what came behind it. There may be any number of them during an
        upload (102 Processing); while nothing of the request is sent all together may be as long as one head.
        """
        self._informed = True
        if head.status == 101:
            requester.switched(head, data)
            return
        if self._interim_bytes > self._keeper.upstream_rules.limits.head_bytes:
            raise BadMessage(502, "interim answers without end")
        self._unmet = self._unmet and head.status != 100
        requester.informed(head)

    def release(self, rest: bytes) -> Leg:
        """Give the connection to a tunnel; `rest` is what was read last. From here on only its end is told."""
        transport = self._transport
        assert transport is not None
        self.requester = None
        self._state = _GONE
        self._deadline.due = NEVER
        return Leg(transport, rest, self.connectionLost, self.close, ended=False)

    def _begin_body(self, requester: Requester, framing: int) -> None:
        if framing >= 0:
            self._state = _LENGTH
            self._left = framing
        elif framing == CHUNKED:
            self._state = _CHUNKS
            self._decoder = ChunkDecoder(self._keeper.upstream_rules.limits)
        else:
            assert framing == UNTIL_CLOSE
            self._state = _UNTIL_CLOSE
        self.arm(requester.idle_due())

    def _read_body(self, requester: Requester, data: bytes) -> None:
        if not self._paused:
            self._deadline.due = requester.idle_due()
        if self._state is _LENGTH:
            left = self._left - len(data)
            if left > 0:
                self._left = left
                requester.payload(data)
                return
            payload = data if left == 0 else data[: self._left]
            rest = b"" if left == 0 else data[self._left :]
            self._left = 0
            requester.payload(payload)
            if self.requester is requester:
                self._complete(requester, rest, b"")
        elif self._state is _CHUNKS:
            self._read_chunks(requester, data, 0)
        else:
            requester.payload(data)

    def _read_chunks(self, requester: Requester, data: bytes, begin: int) -> None:
        decoder = self._decoder
        assert decoder is not None
        payload = decoder.feed(data, begin)
        if payload:
            requester.payload(payload)
        if decoder.done and self.requester is requester:
            self._decoder = None
            self._complete(requester, decoder.rest, decoder.trailers)

    def _complete(self, requester: Requester, rest: bytes, trailers: bytes) -> None:
        """The response is complete. Let go before the exchange ends: its client's next request may come at once."""
        self.requester = None
        self._state = _IDLE
        self.requests += 1
        self._deadline.due = NEVER
        head = self._heads.last
        announced_s = head.keep_s if head is not None else -1
        reusable = not rest and self._persistent and self._request_ended and not self.full
        if reusable:
            now = self._clock.now
            if self.bound:
                reusable = self._keeper.hold(self, now, announced_s) and requester.keep(self)
            else:
                reusable = self._keeper.put(self, now, announced_s)
        if reusable:
            if self._paused:
                self._paused = False
                if self._transport is not None:
                    self._transport.resumeProducing()
            deadline = self._deadline
            deadline.due = self.reuse_until
            if self.reuse_until < deadline.settled_from:
                self._deadlines.arm(deadline, self.reuse_until)
        else:
            self.close()
        requester.response_ended(trailers)

    @property
    def owes_all(self) -> bool:
        """Whether a request is on its way, and not one byte of its answer has come."""
        return self._state is _HEAD and self.requester is not None and not (self._buffer or self._informed)

    @property
    def sent_all(self) -> bool:
        """Whether the request was sent whole: its backend may be at work on it."""
        return self._request_ended and not self.full

    @property
    def proxied(self) -> bool:
        """Whether it is its client's alone since it began with a PROXY header."""
        return self.greeted_by is not None and self.greeted_by.proxy > 0

    def belongs_to(self, keeper: object) -> bool:
        """See Upstream."""
        return self._keeper is keeper

    @property
    def idle(self) -> bool:
        """Whether it is open, and nothing is asked of it."""
        return self._state is _IDLE

    def peer_name(self) -> str:
        """The address it leads to, without its port; empty when it is gone."""
        return "" if self._transport is None else self._transport.peer_name()

    def keep_until(self, due: float) -> None:
        """Take the connection for no request after `due`."""
        self.reuse_until = due
        self.arm(due)

    def _closed_while_idle(self) -> None:
        """The backend has closed a kept connection while nothing was asked of it."""
        if self._state is _IDLE and self.requests:
            now = self._clock.now
            self._keeper.closed_by_backend(self, now - self.idle_since, now)

    # Ends and failures.

    def _fail(self, outcome: Outcome, detail: str) -> None:
        """The exchange cannot be finished on this connection."""
        requester = self.requester
        self.abandon()
        if requester is not None:
            requester.failed(outcome, detail)

    def _broken(self, detail: str) -> None:
        """The backend closed the connection, or it was lost, before the response was complete."""
        if self._state is not _HEAD:
            self._fail(Outcome.CUT_SHORT, detail)
        elif self.requests and not self._buffer and not self._informed:
            # The keep-alive race: the backend closed an idle connection while our request was on its way.
            self._keeper.closed_by_backend(self, self.idle_s, self._clock.now)
            self._fail(Outcome.STALE_REUSE, detail)
        else:
            self._fail(Outcome.NO_RESPONSE, detail)

    def _timed_out(self) -> None:
        if self._state is _GONE:
            self._await_rest()
        elif self.requester is None:
            self.close()
        elif self._state is _HEAD:
            self._give_up(Outcome.TIMED_OUT, "no response head in time")
        else:
            self._give_up(Outcome.CUT_SHORT, STALLED)

    def _give_up(self, outcome: Outcome, detail: str) -> None:
        """The time of the exchange is over, and its backend may be at work on it."""
        requester = self.requester
        assert requester is not None
        if not self._keeper.leave_at_work(self):
            self.abandon()
        requester.failed(outcome, detail)

    def readConnectionLost(self) -> None:
        """The backend closed its side: the end of a response that is framed by the close, too early for all others."""
        requester = self.requester
        if requester is None:
            self._closed_while_idle()
            self.close()
        elif self._state is _UNTIL_CLOSE:
            transport = self._transport
            if isinstance(transport, TlsTransport) and transport.truncated:
                # RFC 9112 9.8: somebody else may have cut it there.
                self._broken("the backend closed TLS without close_notify")
                return
            self._persistent = False
            self._complete(requester, b"", b"")
        else:
            self._broken("the backend closed the connection")

    def connectionLost(self, reason: Failure) -> None:
        """The connection is gone."""
        if self._paused and self._buffer:
            self._persistent = False
            self.resume()
        if self.requester is not None:
            if self._state is _UNTIL_CLOSE and reason.check(ConnectionDone):
                self.readConnectionLost()
            else:
                self._broken(reason.getErrorMessage())
        else:
            self._closed_while_idle()
        self._release()
        self._deadline.end()
        self._transport = None
        self._out.attach(None)

    def leave_behind(self, requester: Requester, due: float) -> None:
        """Tell what still comes to another requester, until `due`: nobody waits for it. The backend is told by a FIN, where the
        connection can say so without ending both directions.
        """
        self.requester = requester
        self._persistent = False
        transport = self._transport
        if transport is not None and transport.can_half_close:
            transport.loseWriteConnection()
        self.resume()
        self.arm(due)

    def close(self) -> None:
        """Close the connection in order; only one without an exchange. A backend that does not take what is unsent has
        `_CLOSING_S` for it, again for each part that it takes.
        """
        self._release()
        transport = self._transport
        if transport is not None:
            if not transport.flushed:
                self._unread = transport.backlog()
            transport.loseConnection()
            self.arm(self._clock.now + _CLOSING_S)

    def _await_rest(self) -> None:
        """It is closed, and its backend has not taken all of the rest in time: one that is slow has the time again."""
        transport = self._transport
        backlog, before = UNKNOWN if transport is None else transport.backlog(), self._unread
        self._unread = backlog
        # The kernel counts a FIN of ours as one byte.
        if 1 < backlog < before:
            self.arm(self._clock.now + _CLOSING_S)
        else:
            self.abandon()

    def abandon(self) -> None:
        """Close the connection now: what is still to come is of no use."""
        self.requester = None
        self._release()
        if self._transport is not None:
            self._transport.abortConnection()

    def _release(self) -> None:
        self._state = _GONE
        self._deadline.due = NEVER
        self._keeper.forget(self)

    # Flow control.

    def pause(self) -> None:
        """Read no more (back-pressure): the client takes no more. The backend is not blamed for the wait."""
        if not self._paused:
            self._paused = True
            self._deadline.due = NEVER
            if self._transport is not None:
                self._transport.pauseProducing()

    def resume(self) -> None:
        """Read on: the client takes more. First what is here already."""
        if not self._paused:
            return
        self._paused = False
        requester = self.requester
        if requester is None:
            return
        self.arm(requester.idle_due())
        if self._buffer and self._state is not _HEAD:
            data = self._buffer
            self._buffer = b""
            self.dataReceived(data)
        if not self._paused and self._transport is not None:
            self._transport.resumeProducing()

    def pauseProducing(self) -> None:
        """The transport's write buffer is above its high-water mark."""
        self.full = True
        if self.requester is not None:
            self.requester.upstream_full()

    def resumeProducing(self) -> None:
        """The transport's write buffer has emptied."""
        self.full = False
        if self.requester is not None:
            self.requester.upstream_drained()

    def stopProducing(self) -> None:
        """Twisted says that the connection is lost; `connectionLost` follows."""

    def makeConnection(self, transport: StreamTransport) -> None:
        """The connect succeeded: the connection is up."""
        self._transport = transport
        self._out.attach(transport)
        transport.registerProducer(self, True)
        self.opened_at = self._clock.now
        self._keeper.opened(self, self.opened_at - self.dialled_at)
        waiter = self.waiter
        self.waiter = None
        if waiter is None:
            self.close()
        else:
            waiter.connected(self)

    def __repr__(self) -> str:
        return f"<Http1Upstream {self.backend.name} {self._state.name}, {self.requests} requests>"
