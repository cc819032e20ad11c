"""One request and its response, retries included: the middle between a client side and the connections to backends.

Retry, relaying, back-pressure and settling exist here and nowhere else.
"""

from typing import TYPE_CHECKING, Final

from twisted_lb.core.address import TcpAddress
from twisted_lb.core.lease import Lease
from twisted_lb.core.never import NEVER
from twisted_lb.core.outcome import CONSEQUENCE, Outcome
from twisted_lb.core.retry import IDEMPOTENT
from twisted_lb.net.client_side import ClientSide
from twisted_lb.net.dialer import Attempt
from twisted_lb.net.engine import Engine
from twisted_lb.wire.grammar import CHUNKED
from twisted_lb.wire.request import RequestHead
from twisted_lb.wire.response import ResponseHead
from twisted_lb.wire.rewrite import with_host, with_lines

if TYPE_CHECKING:
    from twisted_lb.core.backend import Backend
    from twisted_lb.net.upstream import Upstream


# Looked up once, not in each exchange.
_OK: Final = Outcome.OK


class Exchange:
    """One request, from its head to the end of its answer.

    The body of the request is held up to `replay_bytes`, so that another attempt can send it again; reading from the
    client stops there until a backend is connected, after that the hold is dropped and the body just flows.
    """

    __slots__ = (
        "_backend_ended", "_bad_status", "_client_ended", "_client_full", "_client_paused", "_dialling",
        "_engine", "_held", "_held_bytes", "_idempotent", "_lease", "_request_ended", "_tail", "_trailers",
        "_tried", "_tunnelling", "_upstream", "answer_due", "attempts", "backend_name", "began_at", "client",
        "head", "outcome", "over", "request_id", "started", "status",
    )  # fmt: skip

    def __init__(self, engine: Engine, client: ClientSide, head: RequestHead, tail: bytes) -> None:
        self.client: Final = client
        self.head: Final = head
        self.attempts: int = 0
        self.answer_due: float = NEVER  # for all attempts together
        # For whoever observes the end: when it began, how the last attempt ended (None: there was none), what the client
        # was told, 0 for nothing, and which backend was last asked.
        self.began_at: Final[float] = engine.clock.now
        self.outcome: Outcome | None = None
        self.status: int = 0
        self.backend_name: str = ""
        engine.exchanges += 1
        self._engine: Final = engine
        self._tail: Final = tail
        self._idempotent: Final[bool] = head.method in IDEMPOTENT
        self._lease: Lease | None = None
        self._upstream: Upstream | None = None
        self._dialling: Attempt | None = None
        self._tried: tuple[Backend, ...] = ()
        self._held: list[bytes] | None = None
        self._held_bytes: int = 0
        self._trailers: bytes = b""
        self._request_ended: bool = head.fields.framing == 0
        self._client_paused: bool = False
        self._client_full: bool = False
        self.request_id: bytes = head.fields.request_id
        self._tunnelling: bool = False
        self._client_ended: bool = False
        self._backend_ended: bool = False
        self._bad_status: bool = False
        self.started: bool = False
        self.over: bool = False

    # The client's side of it.

    def begin(self) -> None:
        """Find a backend and send the request there."""
        engine = self._engine
        now = engine.clock.now
        self.answer_due = now + engine.rules.timeouts.response_head_s
        lease = engine.balancer.admit(None, now)
        if isinstance(lease, Lease):
            self._attempt(lease, fresh=False)
        else:
            self._answer_ourselves(lease.status)

    def receive(self, payload: bytes) -> None:
        """A piece of the request body, never empty."""
        if self.over:
            return
        upstream = self._upstream
        if self._held is None and self._held_bytes == 0:
            self._held = []
        if self._held is not None:
            self._held.append(payload)
            self._held_bytes += len(payload)
            if self._held_bytes > self._engine.rules.replay_bytes:
                if upstream is None:
                    self._pause_client()
                else:
                    self._held = None
        if upstream is not None:
            self._postpone_answer()
            upstream.send(payload)

    def end_request(self, trailers: bytes) -> None:
        """The request is complete; `trailers` are field lines, each ended by CRLF."""
        if self.over:
            return
        self._request_ended = True
        self._trailers = trailers
        if self._upstream is not None:
            self._postpone_answer()
            self._upstream.finish(trailers)

    def client_full(self) -> None:
        """The client takes no more of the answer for now."""
        self._client_full = True
        if self._upstream is not None and self.started:
            self._upstream.pause()

    def client_drained(self) -> None:
        """It does again."""
        self._client_full = False
        if self._upstream is not None:
            self._upstream.resume()

    def client_gone(self) -> None:
        """The client left; what was sent for it is taken back."""
        self._drop(Outcome.CLIENT_GONE)

    def client_fault(self) -> None:
        """The client broke its own message; it is told so by its own side."""
        self._drop(Outcome.CLIENT_FAULT)

    def cancel(self) -> None:
        """We take it back ourselves; the client side sees to its connection."""
        self._drop(Outcome.CANCELLED)

    def _drop(self, outcome: Outcome) -> None:
        if self.over:
            return
        self._end()
        upstream = self._upstream
        if upstream is not None:
            self._upstream = None
            upstream.abandon()
        if self._dialling is not None:
            self._dialling.cancel()
            self._dialling = None
        self._settle(outcome, "")
        self._tell_end()

    # An attempt.

    def _attempt(self, lease: Lease, *, fresh: bool) -> None:
        self._lease = lease
        self.attempts += 1
        engine = self._engine
        if not fresh:
            upstream = engine.connections.take_idle(lease.backend, self._repeatable(), engine.clock.now)
            if upstream is not None:
                self.connected(upstream)
                return
        self._dialling = engine.connections.connect(engine, lease.backend, self)

    def _repeatable(self) -> bool:
        """Whether it could be sent again if a kept connection turned out to be closed: the method allows it, and all of the
        body is held, or will be.
        """
        if not self._idempotent:
            return False
        framing = self.head.fields.framing
        if framing == CHUNKED:
            return self._request_ended and self._holds_all()
        return framing <= self._engine.rules.replay_bytes

    def _holds_all(self) -> bool:
        """Whether every byte of the body that was taken from the client is still here."""
        return self._held is not None or self._held_bytes == 0

    def connected(self, upstream: "Upstream") -> None:
        """A connection is there: send the head and what is held of the body."""
        self._dialling = None
        self._upstream = upstream
        head = self.head
        tail = self._tail
        if self._engine.rules.passing.stamps:
            tail = self._stamped(tail)
        if not head.fields.has_host:
            # RFC 9112 3.2.2: an absolute target stands for the Host that a client of HTTP/1.0 need not send.
            address = upstream.backend.address
            own = str(address).encode("ascii", "replace") if isinstance(address, TcpAddress) else b"localhost"
            tail = with_host(tail, head.authority or own)
        upstream.begin(self, head.line + tail, head.method, head.fields.framing)
        if head.fields.framing != 0:
            self._send_held(upstream)

    def _stamped(self, tail: bytes) -> bytes:
        """The tail with the ids that the client did not bring; the same id for every attempt."""
        passing = self._engine.rules.passing
        fields = self.head.fields
        if passing.make_request_id and not fields.request_id:
            self.request_id = self.request_id or self._engine.new_id()
            tail = with_lines(tail, b"X-Request-ID: %b\r\n" % self.request_id)
        if passing.make_traceparent and not fields.traced:
            # W3C trace context: version, trace, parent, and the flag that says nobody samples it yet.
            trace, parent = self._engine.new_id(), self._engine.new_id(64)
            tail = with_lines(tail, b"traceparent: 00-%b-%b-00\r\n" % (trace, parent))
        return tail

    def _send_held(self, upstream: "Upstream") -> None:
        held = self._held
        if held is not None:
            for payload in held:
                upstream.send(payload)
            if self._held_bytes > self._engine.rules.replay_bytes:
                self._held = None
        if self._request_ended:
            upstream.finish(self._trailers)
        else:
            upstream.flush()
        if not upstream.full:
            self._resume_client()

    def unreachable(self, outcome: Outcome, detail: str) -> None:
        """No connection could be made."""
        self._dialling = None
        self.failed(outcome, detail)

    def failed(self, outcome: Outcome, detail: str) -> None:
        """The attempt is over: another one, an answer of our own, or a cut."""
        if self.over:
            return
        self._upstream = None
        lease = self._lease
        self._settle(outcome, detail)
        if self.started:
            self._end()
            self._tell_end()
            self.client.abort()
            return
        again = self._another(outcome, lease)
        if again is not None:
            self._attempt(again, fresh=CONSEQUENCE[outcome].new_connection)
        else:
            self._answer_ourselves(CONSEQUENCE[outcome].status or 502)

    def _another(self, outcome: Outcome, lease: Lease | None) -> Lease | None:
        """A backend for another attempt after one that ended so, if there may be one and somebody is left."""
        engine = self._engine
        now = engine.clock.now
        # Without time left another backend would only be asked to be blamed.
        if (
            lease is None
            or now >= self.answer_due
            or not engine.balancer.permits_retry(
                outcome,
                self.attempts,
                idempotent=self._idempotent,
                held=self._holds_all(),
                relayed=self.started,
                now=now,
            )
        ):
            return None
        if not CONSEQUENCE[outcome].new_connection:
            self._tried = (*self._tried, lease.backend)
        again = engine.balancer.readmit(None, now, self._tried)
        return again if isinstance(again, Lease) else None

    def _postpone_answer(self) -> None:
        """The wait for the answer begins when the request was sent; until then each piece of it moves the end."""
        due = self._engine.clock.now + self._engine.rules.timeouts.response_head_s
        self.answer_due = due
        if self._upstream is not None and not self.started:
            self._upstream.arm(self.attempt_due())

    def attempt_due(self) -> float:
        """Until when the attempt that is under way is waited for."""
        return min(self.answer_due, self._engine.clock.now + self._engine.rules.timeouts.attempt_s)

    # The backend's side of it.

    def informed(self, head: ResponseHead) -> None:
        """An interim answer."""
        self.client.inform(head)

    def answer(self, head: ResponseHead, framing: int) -> None:
        """The final head: from here on there is no retry."""
        if head.status >= 500 and head.status in self._engine.rules.bad_statuses and self._goes_elsewhere(head):
            return
        self.started = True
        self.status = head.status
        self._held = None
        self._held_bytes = max(self._held_bytes, 1)
        self.client.start(head, framing)
        if self._client_full and self._upstream is not None:
            self._upstream.pause()

    def _goes_elsewhere(self, head: ResponseHead) -> bool:
        """A status that counts as a failure: leave this answer for another attempt, or relay it, and blame its backend."""
        again = self._another(Outcome.BAD_STATUS, self._lease)
        if again is None:
            self._bad_status = True
            return False
        upstream = self._upstream
        self._upstream = None
        if upstream is not None:
            upstream.abandon()
        self._settle(Outcome.BAD_STATUS, f"status {head.status}")
        self._attempt(again, fresh=False)
        return True

    def answered(self, trailers: bytes) -> None:
        """The answer is complete and the connection has let go of us."""
        self._upstream = None
        self._settle(Outcome.BAD_STATUS if self._bad_status else _OK, "")
        self._end()
        if self._engine.observer is not None:
            self._tell_end()
        self.client.finish(trailers)

    def upstream_full(self) -> None:
        """The backend does not take the request as fast as the client sends it."""
        self._pause_client()

    def upstream_drained(self) -> None:
        """It does again."""
        self._resume_client()

    # A tunnel.

    def switched(self, head: ResponseHead) -> None:
        """The backend has switched protocols, as the client asked."""
        self.started = True
        self.status = head.status
        self._tunnelling = True
        self._held = None
        self._held_bytes = max(self._held_bytes, 1)
        self.client.tunnel(head)

    def from_client(self, data: bytes) -> None:
        """Bytes for the backend."""
        if self._upstream is not None:
            self._upstream.pass_on(data)

    def client_ended(self) -> None:
        """The client will say no more."""
        self._client_ended = True
        if self._backend_ended:
            self.tunnel_closed()
        elif self._upstream is not None:
            self._upstream.end_tunnel()

    def backend_ended(self) -> None:
        """The backend will say no more."""
        self._backend_ended = True
        if self._client_ended:
            self.tunnel_closed()
        else:
            self.client.end_tunnel()

    def tunnel_closed(self) -> None:
        """Both have ended, or the backend is gone, or neither has said anything for too long."""
        if self.over:
            return
        upstream = self._upstream
        self._upstream = None
        if upstream is not None:
            upstream.exchange = None
            upstream.close()
        self._settle(Outcome.OK, "")
        self._end()
        self._tell_end()
        self.client.close_tunnel()

    # Small common things.

    def _pause_client(self) -> None:
        if not self._client_paused and (self._tunnelling or not self._request_ended):
            self._client_paused = True
            self.client.pause()

    def _resume_client(self) -> None:
        if self._client_paused:
            self._client_paused = False
            self.client.resume()

    def _settle(self, outcome: Outcome, detail: str) -> None:
        lease = self._lease
        if lease is not None:
            self._lease = None
            self.outcome = outcome
            self.backend_name = lease.backend.name
            self._engine.balancer.settle(lease, outcome, self._engine.clock.now, detail)

    def _answer_ourselves(self, status: int) -> None:
        self._end()
        self.status = status
        self._tell_end()
        head, body = self._engine.answer(status, self.head.fields.lines, self.request_id)
        if self.head.method == b"HEAD":
            self.client.start(head, 0)
        else:
            self.client.start(head, len(body))
            self.client.write(body)
        self.client.finish(b"")

    def _end(self) -> None:
        if not self.over:
            self.over = True
            self._engine.exchanges -= 1

    def _tell_end(self) -> None:
        """For logs: it is over, and all that is to be known about it is known."""
        observer = self._engine.observer
        if observer is not None:
            observer(self)

    def __repr__(self) -> str:
        state = "over" if self.over else "answering" if self.started else "waiting"
        return f"<Exchange {self.head!r} {state}, {self.attempts} attempts>"
