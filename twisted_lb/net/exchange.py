"""The exchange: one request and its response, retries included, between a client side and upstream connections.

Retry, relaying, back-pressure and settling exist here and nowhere else; every byte of both directions comes through.
"""

# Over 350 lines and 20 attributes, and one job: each hot call that a split added would cross a native boundary.

from typing import Final, cast

from mypy_extensions import mypyc_attr

from twisted_lb.core.affinity import Bond
from twisted_lb.core.ask import ANY
from twisted_lb.core.attempts import Attempt as AttemptRecord
from twisted_lb.core.attempts import Attempts, Pause, Story
from twisted_lb.core.backend import Backend
from twisted_lb.core.flow import cell_of
from twisted_lb.core.grpc import DEADLINE_EXCEEDED, UNAVAILABLE, slot_of_code
from twisted_lb.core.histogram import counted_in, slot_of
from twisted_lb.core.lease import Lease
from twisted_lb.core.never import NEVER
from twisted_lb.core.notes import SHORT_BYTES, TARGET_BYTES, WORD_BYTES, Note
from twisted_lb.core.outcome import CONSEQUENCE, TOO_SLOW, Outcome, Refusal, Reply, refusal_of
from twisted_lb.core.prefix import NO_PREFIX
from twisted_lb.core.queue import Ticket
from twisted_lb.core.record import Record
from twisted_lb.core.totals import KIND_OF, kind_of
from twisted_lb.core.trace import Trace
from twisted_lb.net.client_side import ClientSide
from twisted_lb.net.cluster import Cluster
from twisted_lb.net.dialer import Attempt as Dialling
from twisted_lb.net.frontend import Frontend
from twisted_lb.net.hedge import Hedge, Hedgeable
from twisted_lb.net.local_reply import CONTINUE, safe_id
from twisted_lb.net.memory import Holding
from twisted_lb.net.mirror import Mirror, mirror_of
from twisted_lb.net.own_answers import OwnAnswer, answer_for
from twisted_lb.net.peeking import peeked
from twisted_lb.net.relay import Relay
from twisted_lb.net.replay import Replay
from twisted_lb.net.route import Fallback, Lead, Route, authority_of, told_lines
from twisted_lb.net.upstream import Upstream
from twisted_lb.net.waits import Wait
from twisted_lb.wire.edits import NO_EDITS, Words
from twisted_lb.wire.fields import tokens, without
from twisted_lb.wire.grammar import CHUNKED, BadMessage
from twisted_lb.wire.grpc import pushback_s, status_in, timeout_s
from twisted_lb.wire.request import RequestHead
from twisted_lb.wire.response import ResponseHead
from twisted_lb.wire.retry_after import retry_after_s
from twisted_lb.wire.rewrite import with_lines
from twisted_lb.wire.trace_context import trace_line

# Looked up once, not in each exchange.
_OK: Final = Outcome.OK


@mypyc_attr(free_list_len=1)
class Exchange(Hedgeable):
    """One request, from its head to the end of its response. It keeps its route, and the route's rules, to the end, unless it
    falls back to another pool, whose rules hold from there on.

    The request body is held up to the route's `replay_bytes`, so that another attempt can send it again (replay
    buffer); reading from the client stops there until a backend is connected, after that the hold is dropped and the
    body just flows.
    """

    __slots__ = (
        "_bad_status", "_client_full", "_client_paused", "_clock", "_cluster", "_delivering", "_frontend", "_hedge", "_holding", "_lead",
        "_left_status", "_local_reply", "_mirror", "_pause", "_piece_at", "_recorded", "_relay", "_replay", "_request_ended", "_trailers",
        "_upstream_head",
        "attempts", "began_at", "client", "first_byte_at", "gathered_s", "grpc_status", "head", "last_byte_at", "over", "queued_behind", "queued_s",
        "request_bytes", "request_id", "responded_at", "response_bytes", "route", "started", "status", "trace",
    )  # fmt: skip

    def __init__(
        self,
        frontend: Frontend,
        client: ClientSide,
        head: RequestHead,
        lead: Lead,
    ) -> None:
        route = lead.route
        self.route: Route = route
        self.client: Final = client
        self.head: Final = head
        self.attempts: Final = Attempts(
            route.cluster.pool,
            route.rules.retries,
            lead.ask(head) if route.rules.asks or route.cluster.pool.asks else ANY,
            idempotent=head.method in route.rules.repeatable,
        )
        # For the record: what status the client was told, 0 for none; when things happened, and how many bytes.
        self.status: int = 0
        self.grpc_status: int = -1  # how a call of gRPC has ended
        self.began_at: Final[float] = frontend.clock.now
        self.responded_at: float = NEVER
        self.first_byte_at: float = NEVER
        self.last_byte_at: float = NEVER
        self.gathered_s: float = 0.0
        self.queued_s: float = 0.0
        self.queued_behind: int = 0
        self.request_bytes: int = 0
        self.response_bytes: int = 0
        self.request_id: bytes = head.fields.request_id
        self.trace: Trace | None = None
        self.started: bool = False
        self.over: bool = False
        frontend.exchanges += 1
        lead.flow.begun += 1
        self._frontend: Final = frontend
        self._cluster: Cluster = route.cluster
        self._clock: Final = frontend.clock
        lines = head.lines
        self._upstream_head: bytes = lead.last_head if lines is lead.last_lines else lead.upstream_head(lines)
        self._lead: Lead = lead
        self._replay: Replay | None = None
        self._holding: Holding | None = None  # what it holds for a slow client (buffering)
        self._delivering: bytes | None = None  # the trailers of an answer whose end the client has still to take
        self._trailers: bytes = b""
        self._request_ended: bool = head.fields.framing == 0
        self._client_paused: bool = False
        self._client_full: bool = False
        self._bad_status: bool = False
        # While it waits for another attempt; the status of an answer that it has left for that.
        self._pause: Wait | None = None
        self._left_status: int = 0
        self._hedge: Hedge | None = None  # until somebody has answered
        # Whether there is more to be told of it than of a plain one.
        self._recorded: bool = False
        self._relay: Relay | None = None
        self._local_reply: Refusal | Outcome | Reply | None = None  # why there was a local reply
        # When a piece of an answer of unknown length came last, or its head; NEVER for other answers.
        self._piece_at: float = NEVER
        self._mirror: Mirror | None = None
        if route.mirror is not None:
            self._mirror = self._mirrored()

    # From the client side.

    def begin(self) -> None:
        """Begin the exchange: claim a backend and send the request there."""
        attempts, rules = self.attempts, self.route.rules
        if rules.gather_bytes and self._gathers():
            return
        now = self._clock.now
        attempts.due = now + rules.response_head_s
        if rules.hurries or self.head.fields.grpc:
            self._hurry(now)
        verdict = attempts.begin(now)
        attempt = attempts.current
        if attempt is not None:  # as a rule, and then without a detour
            self._attempt(attempt.lease, new_connection=False)
        else:
            self._go(verdict, new_connection=False)

    def begin_bound(self) -> None:
        """Begin the exchange of a client that has a connection to a backend of its own (NTLM): on that one, and where it has
        been closed, or its backend is not to be used, like any other exchange.
        """
        if self.route.rules.gather_bytes and self._gathers():
            return
        client = self.client
        now = self._clock.now
        own = client.take_kept()
        if own is None or not own.belongs_to(self._cluster):
            if own is not None:
                client.keep(own)  # another pool's: there it will be asked for
            self.begin()
            return
        if own.proxied and not self._goes_by(own, now):
            self.begin()
            return
        if self._mirror is not None and not own.proxied:
            self._mirror.forget()  # elsewhere its client is not logged in
        self.attempts.due = now + self.route.rules.response_head_s
        if self._hurries:
            self._hurry(now)
        verdict = self.attempts.begin_on(own.backend, now) if now < own.reuse_until else None
        if isinstance(verdict, Lease):
            self.connected(own)
        elif verdict is None:
            own.close()
            self.begin()
        else:
            client.keep(own)
            self._go(verdict, new_connection=False)

    def _goes_by(self, own: Upstream, now: float) -> bool:
        """Whether the client's own connection, its own for its PROXY header alone, says which backend is asked. It does not where each
        request has one by its key or binding: then it is kept for whoever that is.
        """
        pool = self._cluster.pool
        if pool.keyed or self._cluster.bonds is not None:
            self.client.keep(own)
            return False
        if self._cluster.may_take_own(own, own.backend, self._may_repeat, now):
            return True
        own.close()
        return False

    def _mirrored(self) -> Mirror | None:
        """The mirror of the request, where it is chosen to have one: with the id that the original has, or will have."""
        mirror = mirror_of(self.head, self._lead)
        if mirror is not None:
            rules = self.route.rules
            if rules.request_edits.wants_id:
                self.request_id = safe_id(self.request_id)
            if rules.request_edits.wants_id or rules.make_request_id:
                self.request_id = self.request_id or self._frontend.runtime.new_id()
            mirror.request_id = self.request_id
            if self._request_ended:
                mirror.complete(b"")
            greetings = mirror.cluster.greetings
            if greetings is not None and greetings.proxy:
                mirror.header = self.client.proxy_header(greetings.proxy)
        return mirror

    # A request body that is gathered before a backend is claimed (request buffering).

    def _gathers(self) -> bool:
        """Whether the body is to be gathered first: as much of it as is wanted is not here yet."""
        holding, framing = self._holding, self.head.fields.framing
        wanted = self.route.rules.gather_bytes
        if framing >= 0:
            wanted = min(wanted, framing)
        if self._request_ended or holding is not None or self._held >= wanted:
            self._peek()
            return False
        wait_s = self._cluster.pool.settings.queue_timeout_s
        holding = self._hold_more()
        if holding.gather(wanted, waits=wait_s > 0):
            self._may_gather()
            return True
        if wait_s > 0:
            # The process holds as much as it may: this body waits where it is, and for no longer than for a backend.
            self._pause_client()
            due = self._clock.now + wait_s
            if self._hurries:
                self._hurry(self._clock.now)
            if self.attempts.deadline < due:
                holding.tired.callback = self._too_late
                due = self.attempts.deadline
            else:
                holding.tired.callback = self._gives_up
            self._frontend.deadlines.arm(holding.tired, due)
            return True
        self._hold_less()
        self._peek()
        return False

    def _peek(self) -> None:
        """What is here of the body is all that its pool's policy will know of it."""
        peek = self._cluster.pool.peek
        if peek is not None and self.attempts.ask.prefix is NO_PREFIX:
            prefix = peeked(peek, self.head, self._replay, ended=self._request_ended)
            if prefix is not NO_PREFIX:
                self.attempts.ask = self.attempts.ask.with_prefix(prefix)

    def _hold_more(self) -> Holding:
        """Begin to hold what a plain exchange would not."""
        holding = self._holding = Holding(self._frontend.runtime.memory, self._may_gather)
        self._recorded = True
        return holding

    @property
    def _held(self) -> int:
        """How much of the request body is held."""
        replay = self._replay
        return 0 if replay is None else replay.bytes

    def _may_gather(self) -> None:
        """There is room for the body: it may come."""
        holding = self._holding
        if self.over or holding is None:
            return
        if self.head.fields.expects and not self.request_bytes:
            # RFC 9110 10.1.1: a proxy may say so itself; the client sends nothing before.
            holding.told = True
            self.client.inform(CONTINUE, b"")
        if self._hurries and self._waits_until_late(holding):
            return
        self._resume_client()
        if holding.gathering:
            self._fill(holding)

    def _waits_until_late(self, holding: Holding) -> bool:
        """Wait for the body until its request's deadline and no longer; whether that is over."""
        now = self._clock.now
        self._hurry(now)
        if now >= self.attempts.deadline:
            self._too_late()
        elif self.attempts.deadline != NEVER:
            holding.tired.callback = self._too_late
            self._frontend.deadlines.arm(holding.tired, self.attempts.deadline)
        return self.over

    def _too_late(self) -> None:
        """The deadline of a request is over before its body is here."""
        if not self.over:
            self._refuse(Refusal.LATE)

    def _fill(self, holding: Holding) -> None:
        """There is more of a body that is gathered, and perhaps enough."""
        held = self._held
        holding.fill(held)
        if held >= holding.wanted:
            self._gathered(holding)

    def _gathered(self, holding: Holding) -> None:
        """The body is here, or as much of it as is wanted: on to a backend."""
        holding.gathering = False
        holding.tired.end()
        self.gathered_s = self._clock.now - self.began_at
        self.begin_bound()

    def _gives_up(self) -> None:
        """The process had no room for the body in all that time: it is not gathered."""
        holding = self._holding
        if not self.over and holding is not None:
            holding.give_up()
            self._hold_less()
            self._gathered(holding)

    def _hold_less(self) -> None:
        """There was no room to gather the body: no more of it is held than of any other."""
        if self._replay is not None:
            self._replay.bound(self._most_held)

    @property
    def _most_held(self) -> int:
        """How much of the request body may be held."""
        rules = self.route.rules
        if self._holding is not None and self._holding.denied:
            return rules.replay_bytes
        return max(rules.replay_bytes, rules.gather_bytes)

    def _let_go(self) -> None:
        """The request is not held any more: it cannot be sent again."""
        if self._replay is not None:
            self._replay.drop()
        if self._holding is not None:
            self._holding.let_go()

    @property
    def _hurries(self) -> bool:
        """Whether there may be a moment by which its answer should begin."""
        return self.route.rules.hurries or self.head.fields.grpc

    def _hurry(self, now: float) -> None:
        """Find out by when the answer should begin, from when the request came; the first time, it holds for all of it."""
        attempts, rules = self.attempts, self.route.rules
        if attempts.deadline == NEVER:
            wait_s = rules.deadline_s
            if rules.deadline is not None:
                wait_s = min(wait_s, rules.deadline.seconds(told_lines(self.head, self._lead.client)))
            if self.head.fields.grpc and (within_s := timeout_s(self.head.lines)) >= 0:
                wait_s = min(wait_s, within_s)
            attempts.deadline = self.began_at + wait_s
        attempts.due = min(attempts.due, attempts.deadline)

    def _go(self, verdict: Lease | Refusal | Ticket | Pause | None, *, new_connection: bool) -> None:
        """Go where the pool's verdict says: to a backend, into the queue, to the fallback, or back to the client."""
        if isinstance(verdict, Lease):
            self._attempt(verdict, new_connection=new_connection)
        elif isinstance(verdict, Pause):
            self._pause = self._cluster.waits.until(verdict.until, self._paused)
        elif verdict is not None and self.route.fallback is not None and self._cluster.pool.exhausted:
            self._fall_back(self.route.fallback)
        elif isinstance(verdict, Ticket):
            verdict.elsewhere = self.route.fallback is not None
            self._cluster.wait(verdict, self)
        else:
            self._reply_for(verdict)

    def _paused(self) -> None:
        """The wait before another attempt is over (backoff)."""
        self._pause = None
        self._go(self.attempts.resume(self._clock.now), new_connection=False)

    def granted(self, ticket: Ticket, verdict: Lease | Refusal) -> None:
        """See Waiter: the wait in the queue is over."""
        now = self._clock.now
        self._waited(ticket, now)
        self._recorded = True
        attempts = self.attempts
        if not attempts.count:
            attempts.due = min(now + self.route.rules.response_head_s, attempts.deadline)
        before = None if attempts.current is None else attempts.current.outcome
        attempts.granted(ticket, verdict, now)
        own = self._own_connection(now) if isinstance(verdict, Lease) else None
        if own is not None and isinstance(verdict, Lease):
            if own.backend is verdict.backend:
                self.connected(own)
                return
            own.close()
        # Behind a closed kept connection another kept one is not tried, whatever it has waited for in between.
        self._go(verdict, new_connection=before is not None and CONSEQUENCE[before].new_connection)

    def _waited(self, ticket: Ticket, now: float) -> None:
        """A wait in the queue is over, however it ends."""
        waited_s = now - ticket.queued_at
        self.queued_s += waited_s
        self.queued_behind += ticket.behind
        self._cluster.pool.totals.queue.add(waited_s)

    def _fall_back(self, fallback: Fallback) -> None:
        """The pool has nobody, and waiting for one is not what the route wants: on to the other pool, or to the answer."""
        self._recorded = True
        if self.attempts.waiting is not None:
            self.attempts.withdraw()
        route = fallback.route
        if route is None:
            assert fallback.answer is not None
            self._answer_instead(fallback.answer)
            return
        flow = self._frontend.flow(route)
        flow.begun += 1
        self._lead.flow.begun -= 1
        lead = self._lead = self._lead.to(route, flow)
        self._upstream_head = lead.upstream_head(self.head.lines)
        self.route = route
        self._cluster = route.cluster
        now = self._clock.now
        self.attempts.due = min(now + route.rules.response_head_s, self.attempts.deadline)
        own = self._own_connection(now)
        backend = None if own is None else own.backend
        pool = route.cluster.pool
        ask = lead.ask(self.head)
        if pool.peek is not None:
            ask = ask.with_prefix(peeked(pool.peek, self.head, self._replay, ended=self._request_ended))
        self.attempts.idempotent = self.head.method in route.rules.repeatable
        verdict = self.attempts.fall_back(pool, route.rules.retries, ask, now, backend)
        if own is not None:
            if isinstance(verdict, Lease) and verdict.backend is backend:
                self.connected(own)
                return
            if isinstance(verdict, Ticket) or verdict is Refusal.LATE:
                self.client.keep(own)  # asked for by `granted`, or by the next request
            else:
                own.close()
        self._go(verdict, new_connection=False)

    def _own_connection(self, now: float) -> Upstream | None:
        """The client's own connection to a backend (NTLM), if it may be used here; that to another pool stays its own."""
        own = self.client.take_kept()
        if own is not None and not own.belongs_to(self._cluster):
            self.client.keep(own)
        elif own is not None and now < own.reuse_until:
            return own
        elif own is not None:
            own.close()
        return None

    def _answer_instead(self, own: OwnAnswer) -> None:
        """Answer with what the route has for the time when its pool has nobody."""
        self.request_id = safe_id(self.request_id) or self._frontend.runtime.new_id()
        head, body = answer_for(
            own, self.head, self.route.rules, self._lead.client_name(), self.request_id, https=self._lead.tls
        )
        self._send_reply(Refusal.NO_BACKEND, head, body)

    def receive(self, payload: bytes) -> None:
        """Take a piece of the request body, never empty."""
        if self.over:
            return
        self.request_bytes += len(payload)
        if self._mirror is not None:
            self._mirror.hold(payload)
        upstream = self._upstream
        if not self.started:
            self._hold(payload)
            holding = self._holding
            if holding is not None and holding.gathering:
                self._fill(holding)
                return
        if upstream is not None:
            self._postpone_response()
            upstream.send(payload)

    def _hold(self, payload: bytes) -> None:
        """Hold a piece of the request body for a retry; past the limit it is dropped, or not read before a connect."""
        replay = self._replay
        if replay is None:
            replay = self._replay = Replay(self._most_held)
        replay.keep(payload)
        if replay.full:
            if self._upstream is None:
                self._pause_client()
            else:
                self._let_go()

    def end_request(self, trailers: bytes) -> None:
        """The request is complete; `trailers` are field lines, each ended by CRLF."""
        if self.over:
            return
        self._request_ended = True
        if trailers and self.route.rules.edits_head:
            # A backend may merge them into the head.
            trailers = self.route.rules.request_edits.kept(trailers)
        self._trailers = trailers
        if self._mirror is not None:
            self._mirror.complete(trailers)
        holding = self._holding
        if holding is not None and holding.gathering:
            self._gathered(holding)
        elif self._upstream is not None:
            self._postpone_response()
            self._upstream.finish(trailers)
        if self.route.rules.hedges and not self.started and self.backend is not None:
            self._hedge_later()

    def client_full(self) -> None:
        """The client takes no more of the response for now (back-pressure)."""
        self._client_full = True
        if self._relay is not None:
            self._relay.client_full()
        elif self._upstream is not None and self.started:
            self._read_ahead(self._upstream)

    def client_drained(self) -> None:
        """The client takes more of the response."""
        self._client_full = False
        if self._holding is not None:
            self._holding.delivered()
        if self._delivering is not None:
            self._delivered(self._delivering)
        elif self._relay is not None:
            self._relay.client_drained()
        elif self._upstream is not None:
            self._upstream.resume()

    def client_gone(self, detail: str = "") -> None:
        """The client left, or was cut for what `detail` says; the request to the backend is taken back."""
        relay = self._relay
        if relay is None or self.over:
            self._drop(Outcome.CLIENT_GONE, detail)
        else:
            relay.cut()
            self._left_relay(relay, Outcome.CLIENT_GONE, detail)

    def client_fault(self, status: int, detail: str) -> tuple[ResponseHead, bytes] | None:
        """The client broke its own message, how says `detail`: what its own side tells it (a local reply), None when an
        answer has begun.
        """
        if not self.over:
            self._frontend.refused(refusal_of(status))
        return self._cut(Outcome.CLIENT_FAULT, status, detail)

    def refuse(self, detail: str) -> tuple[ResponseHead, bytes] | None:
        """The exchange is cancelled by us: what its client is told (a local reply), None when an answer has begun."""
        return self._cut(Outcome.CANCELLED, 503, detail)

    def _cut(self, outcome: Outcome, status: int, detail: str) -> tuple[ResponseHead, bytes] | None:
        reply = None
        if not (self.started or self.over):
            reply = self.local_reply(status)
            self._note_reply(outcome, status, reply[1])
        self._drop(outcome, detail)
        return reply

    def cancel(self, detail: str = "") -> None:
        """The exchange is cancelled by us; the client side sees to its connection, unless it has given it away (tunnel)."""
        relay = self._relay
        if relay is None:
            self._drop(Outcome.CANCELLED, detail)
            return
        relay.cut()  # when it is over too: its client may be taking what it was sent
        if not self.over:
            self._left_relay(relay, Outcome.CANCELLED, detail)

    def tell_good_bye(self) -> None:
        """The process is about to end: both ends of a WebSocket are told (close frame), as long as there is time."""
        if self._relay is not None:
            self._relay.tell_good_bye(bytes.fromhex(self._frontend.runtime.new_id(32).decode("ascii")))

    def _drop(self, outcome: Outcome, detail: str = "") -> None:
        if self.over:
            return
        self._end()
        if self._hedge is not None:
            self._hedge.cut(outcome, detail)
            self._hedge = None
        attempt = self.attempts.current
        way = None if attempt is None else attempt.way
        if isinstance(way, Upstream):
            if outcome is Outcome.CLIENT_GONE and attempt is not None and self._cluster.holds(way):
                self.attempts.left(attempt, outcome, self._clock.now, detail)
                self.client.left_behind(self._cluster.leave_behind(way, attempt))
            else:
                way.abandon()
        elif way is not None:
            cast(Dialling, way).cancel()
        if self.attempts.waiting is not None:
            self._waited(self.attempts.waiting, self._clock.now)
            self._cluster.leave(self.attempts.waiting)
            self.attempts.withdraw()
        elif self._pause is not None:
            self._pause.cancel()
            self.attempts.withdraw()
        self._settle(outcome, detail)
        self._tell_end(outcome, detail)

    @property
    def backend(self) -> Backend | None:
        """The backend that it is at: that of the attempt which runs."""
        attempt = self.attempts.current
        return attempt.lease.backend if attempt is not None and attempt.lease.open else None

    @property
    def said(self) -> bool:
        """Whether the backend has said its whole answer, and the client has still to take the end."""
        return self._delivering is not None

    @property
    def unsent(self) -> bool:
        """Whether its request is still to be sent to the backend that it is at: a connection is being made."""
        attempt = self.attempts.current
        return attempt is not None and attempt.lease.open and attempt.connected_at == NEVER

    # Attempts.

    def _attempt(self, lease: Lease, *, new_connection: bool) -> None:
        cluster = self._cluster
        if self.route.rules.hedges:
            self._hedge_later()
        if not new_connection:
            repeatable = self.attempts.idempotent and (self.head.fields.framing == 0 or self._body_repeatable())
            upstream = cluster.take(
                lease.backend, repeatable, self._clock.now, first=not repeatable and self.client.first
            )
            if upstream is not None:
                self.connected(upstream)
                return
            if cluster.greetings is not None:
                upstream = self._take_greeted(lease.backend)
                if upstream is not None:
                    self.connected(upstream)
                    return
        # No longer than a response is waited for, over all attempts.
        attempt = self.attempts.current
        assert attempt is not None
        attempt.dialled = True
        attempt.way = cluster.dial(lease.backend, self, self.attempts.due)

    def _take_greeted(self, backend: Backend) -> Upstream | None:
        """A kept connection that was greeted as this request wants it: for its host, or as its client's own."""
        cluster, client, now, repeatable = self._cluster, self.client, self._clock.now, self._may_repeat
        own = client.take_kept()
        if own is not None and not (own.proxied and own.belongs_to(cluster)):
            client.keep(own)
        elif own is not None:
            if cluster.may_take_own(own, backend, repeatable, now):
                return own
            own.close()
        return cluster.take_greeted(backend, self, repeatable, now, first=not repeatable and client.first)

    @property
    def _may_repeat(self) -> bool:
        """Whether the request may be sent again after a keep-alive race."""
        return self.attempts.idempotent and (self.head.fields.framing == 0 or self._body_repeatable())

    def server_name(self) -> str:
        """See Requester."""
        return self.route.rules.server_name

    def proxy_header(self, version: int) -> bytes:
        """See Requester."""
        return self.client.proxy_header(version)

    def _body_repeatable(self) -> bool:
        """Whether the request body could be sent again after a keep-alive race: all of it is held, or will be."""
        framing = self.head.fields.framing
        if framing == CHUNKED:
            return self._request_ended and self._replayable()
        return framing <= self._most_held

    def _replayable(self) -> bool:
        """Whether every byte of the request body that was taken from the client is still held."""
        return self._replay is None or not self._replay.dropped

    @property
    def _upstream(self) -> Upstream | None:
        """The connection of the attempt that is under way; None while it is being made."""
        attempt = self.attempts.current
        way = None if attempt is None else attempt.way
        return way if isinstance(way, Upstream) else None

    def connected(self, upstream: Upstream) -> None:
        """See Requester: send the head and what is held of the body."""
        now = self._clock.now
        attempts = self.attempts
        attempt = attempts.current
        assert attempt is not None
        attempt.connected_at = now
        attempt.way = upstream
        if attempt.lease.trial:
            self._cluster.pool.reached(attempt.lease, now)
        head = self.head
        # No longer than all attempts together may take, and each of them.
        due = attempt.due = min(attempts.due, now + self.route.rules.attempt_s)
        if self.route.rules.fits or not head.fields.has_host:
            upstream.begin(self, self._fitted(attempt), head, due)
        else:  # as a rule
            upstream.begin(self, head.line + self._upstream_head, head, due)
        if head.fields.framing != 0:
            self._send_held(upstream)

    def streamed(self, number: int) -> None:
        """See Requester."""
        attempt = self.attempts.current
        if attempt is not None:
            attempt.stream = number

    def _fitted(self, attempt: AttemptRecord) -> bytes:
        """The whole head for one backend, where it is not the same for all."""
        head, rules, backend = self.head, self.route.rules, attempt.lease.backend
        upstream_head = self._upstream_head
        if rules.make_request_id or rules.traces:
            upstream_head = self._stamped(upstream_head, attempt)
        if not rules.fits_backend and head.fields.has_host:
            return head.line + upstream_head
        own = authority_of(backend.address)
        return self._lead.fitted(
            head, upstream_head, self._words(backend.name, wants_id=rules.request_edits.wants_id), own
        )

    def _words(self, backend: str, *, wants_id: bool) -> Words:
        """What placeholders stand for, at this backend; an id is made where one is wanted and the client brought none."""
        if wants_id:
            self.request_id = safe_id(self.request_id) or self._frontend.runtime.new_id()
        return self._lead.words(self.request_id if wants_id else b"", backend, self.head.authority)

    def _stamped(self, upstream_head: bytes, attempt: AttemptRecord) -> bytes:
        """The upstream head with the ids that the client did not bring; request and trace are the same for every attempt."""
        rules, fields = self.route.rules, self.head.fields
        runtime = self._frontend.runtime
        if rules.make_request_id and not fields.request_id:
            self.request_id = self.request_id or runtime.new_id()
            upstream_head = with_lines(upstream_head, b"X-Request-ID: %b\r\n" % self.request_id)
        return self._traced(upstream_head, attempt) if rules.traces else upstream_head

    def _traced(self, upstream_head: bytes, attempt: AttemptRecord) -> bytes:
        """The upstream head with the attempt's span, where the trace begins here or somebody wants its spans: the backend's own
        are parts of it. A traceparent of a client passes where nobody does.
        """
        rules, runtime = self.route.rules, self._frontend.runtime
        trace = self.trace
        if trace is None:
            trace = self.trace = runtime.trace(self.head.lines if self.head.fields.traced else b"", rules.trace_ratio)
        if not rules.tells_trace:
            return upstream_head
        if not trace.sampled and (self.head.fields.traced or not rules.make_traceparent):
            return upstream_head
        span = runtime.new_id(64)
        trace.spans[attempt] = span
        if self.head.fields.traced:
            upstream_head = without(upstream_head, b"traceparent")
            if not trace.parent:
                # What was said was not right; its state belongs to no trace (W3C trace context 4.2).
                upstream_head = without(upstream_head, b"tracestate")
        return with_lines(upstream_head, trace_line(trace.trace_id, span, int(trace.sampled)))

    def _send_held(self, upstream: Upstream) -> None:
        replay = self._replay
        if replay is not None:
            for payload in replay.pieces:
                upstream.send(payload)
            if replay.full:
                self._let_go()
        if self._request_ended:
            upstream.finish(self._trailers)
        else:
            upstream.flush()
        if not upstream.full:
            self._resume_client()

    def unreachable(self, outcome: Outcome, detail: str) -> None:
        """See Requester."""
        attempt = self.attempts.current
        if attempt is not None:
            attempt.way = None
        self.failed(outcome, detail)

    def spare(self) -> None:
        """See Requester."""
        attempt = self.attempts.current
        if attempt is not None:
            attempt.lease.spared = True

    def failed(self, outcome: Outcome, detail: str) -> None:
        """See Requester: a retry, a local reply, or a response that is cut short."""
        if self.over:
            return
        if self._clock.now >= self.attempts.deadline and not self.started and outcome in TOO_SLOW:
            outcome, detail = Outcome.LATE, "the deadline of the request"
        self._settle(outcome, detail)
        if self._hedge is not None and self._handed_over():
            return
        if self.started:
            self._end()
            self._tell_end()
            self.client.abort()
            return
        self._recorded = True
        again = self.attempts.again(outcome, self._clock.now, replayable=self._replayable())
        self._go(again, new_connection=CONSEQUENCE[outcome].new_connection)

    # Hedging.

    def _hedge_later(self) -> None:
        """Have the attempt that begins hedged, unless it answers in time: its request is here and held, and may be sent twice, wherever
        it goes.
        """
        attempts, hedging = self.attempts, self._cluster.pool.hedging
        if self._hedge is not None:
            self._hedge.forget()
            self._hedge = None
        if hedging is None or not self._request_ended or not attempts.idempotent or not self._replayable():
            return
        if not (self._lead.upgrade or self.head.fields.binds or attempts.hedged):
            self._hedge = Hedge(self, self._cluster, attempts, hedging)

    def _handed_over(self) -> bool:
        """The attempt that is waited for has failed, and has ended. Whether its hedge is in its place now; else there is none any more."""
        hedge, self._hedge = self._hedge, None
        if hedge is not None and hedge.under_way:
            self._recorded = True
            hedge.stand_in()
            return True
        if hedge is not None:
            hedge.forget()
        return False

    def owes_answer(self) -> bool:
        """See Hedgeable."""
        attempt, upstream = self.attempts.current, self._upstream
        if self.over or self.started or attempt is None or attempt.outcome is not None or not self._replayable():
            return False
        return upstream is None or (upstream.owes_all and (not upstream.bound or upstream.proxied))

    def hedge_due(self) -> float:
        """See Hedgeable."""
        return min(self.attempts.due, self._clock.now + self.route.rules.attempt_s)

    def hedged(self) -> RequestHead:
        """See Hedgeable."""
        self._recorded = True
        return self.head

    def head_for(self, attempt: AttemptRecord) -> bytes:
        """See Hedgeable."""
        if self.route.rules.fits or not self.head.fields.has_host:
            return self._fitted(attempt)
        return self.head.line + self._upstream_head

    def send_again(self, upstream: Upstream) -> None:
        """See Hedgeable."""
        if self._replay is not None:
            for payload in self._replay.pieces:
                upstream.send(payload)
        upstream.finish(self._trailers)

    def refuses(self, head: ResponseHead) -> bool:
        """See Hedgeable."""
        return head.status >= 500 and head.status in self.route.rules.retries.bad_statuses

    def blaming(self, outcome: Outcome) -> str:
        """See Hedgeable."""
        return self._lead.blaming(outcome)

    def _postpone_response(self) -> None:
        """Postpone the deadline of the response: it counts from the last piece of the request."""
        self.attempts.due = min(self._clock.now + self.route.rules.response_head_s, self.attempts.deadline)
        attempt = self.attempts.current
        if self._upstream is not None and attempt is not None and not self.started:
            attempt.due = min(self.attempts.due, self._clock.now + self.route.rules.attempt_s)
            self._upstream.arm(attempt.due)

    def idle_due(self) -> float:
        """See Requester."""
        return self._clock.now + self.route.rules.response_idle_s

    # From the backend.

    def informed(self, head: ResponseHead) -> None:
        """See Requester."""
        rules = self.route.rules
        if head.status == 100 and self._holding is not None and self._holding.told:
            return  # by us, before
        if rules.edits_answers:
            # Set is what the final answer says; what is not for clients is for none of them.
            head = head.with_lines(rules.response_edits.kept(head.lines))
        self.client.inform(head, rules.response_lines)

    def response_started(self, head: ResponseHead, framing: int) -> None:
        """See Requester: from here on there is no retry."""
        rules = self.route.rules
        if head.status >= 500 and head.status in rules.retries.bad_statuses and self._retry_bad_status(head):
            return
        if framing == 0 and self.head.fields.grpc and self._call_ended(head.lines, alone=head):
            return
        if self._hedge is not None:
            self._hedge.answered()
            self._hedge = None
        self.started = True
        self.status = head.status
        self.responded_at = self._clock.now
        attempt = self.attempts.current
        if framing < 0:
            self._piece_at = self.responded_at
            if attempt is not None and attempt.lease.trial:
                self._answered(attempt)
        if self._replay is not None:
            self._let_go()
        if attempt is not None and attempt.lease.backend.told is not None:
            self._cluster.pool.responded(attempt.lease, self._clock.now)
            if head.load_report:
                self._cluster.pool.hear_load(attempt.lease.backend, head.load_report, self._clock.now)
        if rules.edits_answers:
            self._start_edited(head, framing)
        else:
            self.client.start(head, framing, rules.response_lines)
        if self._client_full and self._upstream is not None:
            self._read_ahead(self._upstream)

    def _answered(self, trial: AttemptRecord) -> None:
        """An answer to a trial request has begun whose end may be far: nobody waits for that."""
        if not self._bad_status:
            self._cluster.pool.answered(trial.lease, self.responded_at)

    def _start_edited(self, head: ResponseHead, framing: int) -> None:
        """Send the final head with what the route edits in it, and what its client is to know of affinity; its framing stays what it is."""
        rules = self.route.rules
        edits, cookie = rules.response_edits, self._bound(head) if rules.bound else b""
        if edits is NO_EDITS and not rules.hsts:
            self.client.start(head, framing, rules.response_lines + cookie)
            return
        words = self._answer_words()
        self.client.start(self._lead.answer_head(head, words), framing, edits.varying(words) + cookie)

    def _bound(self, head: ResponseHead) -> bytes:
        """Take what an answer means for affinity; the line that binds its client from now on, if it has to be told."""
        bonds, bond, attempt = self._cluster.bonds, self.attempts.ask.bond, self.attempts.current
        if bonds is None or not isinstance(bond, Bond) or attempt is None:
            return b""
        backend = attempt.lease.backend
        if not bonds.answered(bond, backend, self.head.method, head, self._clock.now):
            return b""
        return bonds.cookie_line(backend, self._cluster.wall_now(), tls=self._lead.tls)

    def _answer_words(self) -> Words:
        attempt = self.attempts.current
        assert attempt is not None
        return self._words(attempt.lease.backend.name, wants_id=self.route.rules.response_edits.wants_id)

    def _call_ended(self, lines: bytes, alone: ResponseHead | None = None) -> bool:
        """A call of gRPC has ended as these lines say, its trailers; `alone`: nothing came before them. Whether that answer is left for
        another attempt.
        """
        code = status_in(lines)
        if code < 0:
            return False
        if alone is not None and code in self.route.rules.retries.grpc:
            wait_s = pushback_s(lines)
            if (wait_s is None or wait_s >= 0) and self._retry_bad_status(alone, code, wait_s):
                return True
        self.grpc_status = code
        self._cluster.pool.totals.grpc[slot_of_code(code)] += 1
        # Of DEADLINE_EXCEEDED only what was not its client's own.
        if code == UNAVAILABLE or (code == DEADLINE_EXCEEDED and self._clock.now < self.attempts.deadline):
            self._bad_status = self._recorded = True
        return False

    def _retry_bad_status(self, head: ResponseHead, code: int = -1, told_s: float | None = None) -> bool:
        """Retry for a status that counts as a failure, and leave this response; or relay it, and blame its backend. `code`: of gRPC, whose
        backend wants so long a wait before, None: it does not say.
        """
        detail = f"status {head.status}" if code < 0 else f"grpc-status {code}"
        attempts = self.attempts
        attempt = attempts.current
        upstream = self._upstream
        self._recorded = True
        if self._hedge is not None and self._hedge.under_way and attempt is not None and upstream is not None:
            self._count_left(attempt, head)
            upstream.abandon()
            self._settle(Outcome.BAD_STATUS, detail)
            return self._handed_over()
        if code < 0:
            told_s = retry_after_s(head.lines, self._frontend.runtime.wall.read())
        again = attempts.again(
            Outcome.BAD_STATUS,
            self._clock.now,
            replayable=self._replayable(),
            told_s=-1.0 if told_s is None else told_s,
            allowed=code >= 0,
        )
        if not isinstance(again, Lease | Pause):
            attempts.withdraw()  # a response is here already: it does not wait
            self._bad_status = True
            return False
        assert attempt is not None
        self._count_left(attempt, head)
        self._leave(attempt, upstream, again, Outcome.BAD_STATUS, detail)
        return True

    def _count_left(self, attempt: AttemptRecord, head: ResponseHead) -> None:
        """Count an answer that is left after its head."""
        if head.load_report:
            self._cluster.pool.hear_load(attempt.lease.backend, head.load_report, self._clock.now)
        attempt.lease.backend.totals.unfinished[kind_of(head.status)] += 1
        self._left_status = head.status

    def _leave(
        self, attempt: AttemptRecord, upstream: Upstream | None, verdict: Lease | Pause, outcome: Outcome, detail: str
    ) -> None:
        """Leave an attempt that is under way, with this outcome, for another backend, now or after a pause."""
        self._recorded = True
        if upstream is not None and not (outcome is Outcome.BACKEND_DOWN and self._cluster.leave_at_work(upstream)):
            upstream.abandon()
        self.attempts.ended(attempt, outcome, self._clock.now, detail, self._lead.blaming(outcome))
        if self._cluster.waiting:
            self._cluster.freed()
        self._go(verdict, new_connection=False)

    def movable_since(self) -> float:
        """See Requester."""
        attempt, upstream = self.attempts.current, self._upstream
        if self.started or attempt is None or upstream is None or (upstream.bound and not upstream.proxied):
            return NEVER  # elsewhere its client is not logged in
        if self._hedge is not None and self._hedge.under_way:
            return NEVER  # it is elsewhere too
        movable = self.attempts.may_move(self._clock.now, replayable=self._replayable())
        return attempt.connected_at if movable else NEVER

    def move(self, detail: str) -> bool:
        """See Requester."""
        attempt, upstream = self.attempts.current, self._upstream
        assert attempt is not None
        lease = self.attempts.move(self._clock.now)
        if lease is None:
            return False
        self._leave(attempt, upstream, lease, Outcome.BACKEND_DOWN, detail)
        return True

    def payload(self, data: bytes) -> None:
        """See Requester."""
        if not self.response_bytes:
            self.first_byte_at = self._clock.now
        elif self._piece_at != NEVER:
            self._streamed()
        self.response_bytes += len(data)
        self.client.write(data)
        if (
            self._client_full
            and self._holding is not None
            and self._upstream is not None
            and not self._took_ahead(len(data))
        ):
            self._upstream.pause()

    # A response that is read ahead of a slow client (response buffering): it is in the buffer of the client's connection.

    def _read_ahead(self, upstream: Upstream) -> None:
        """The client takes no more for now: read on as far as the route reads ahead of it, and there is memory for that."""
        if not (self.route.rules.buffer_response_bytes and self._took_ahead(0)):
            upstream.pause()

    def _took_ahead(self, count: int) -> bool:
        """So many bytes came while the client takes none; whether more may."""
        holding = self._holding
        if holding is None:
            holding = self._hold_more()
        return holding.read_ahead(count, self.route.rules.buffer_response_bytes)

    def _delivered(self, trailers: bytes) -> None:
        """The client has taken all but the last of an answer that was complete before."""
        self._delivering = None
        self._end()
        self._tell_end()
        self.client.finish(self._told_trailers(trailers))

    def _told_trailers(self, trailers: bytes) -> bytes:
        """What the client is told of the trailers of its answer."""
        rules = self.route.rules
        return rules.response_edits.kept(trailers) if trailers and rules.edits_answers else trailers

    def _streamed(self) -> None:
        """Count the gap before a further piece of a streamed answer. What came with one look at the socket has none."""
        now = self._clock.now
        before = max(self._piece_at, self.first_byte_at)
        if now > before:
            self._piece_at = now
            self._cluster.pool.totals.stream_gap.add(now - before)

    def flush(self) -> None:
        """See Requester."""
        self.client.flush()

    def response_ended(self, trailers: bytes) -> None:
        """See Requester."""
        now = self.last_byte_at = self._clock.now
        attempts = self.attempts
        attempt = attempts.current
        assert attempt is not None
        if trailers and self.head.fields.grpc:
            self._call_ended(trailers)
        if self._bad_status:
            detail = "" if self.grpc_status < 0 else f"grpc-status {self.grpc_status}"
            attempts.ended(attempt, Outcome.BAD_STATUS, now, detail, self._lead.blaming(Outcome.BAD_STATUS))
        else:
            attempts.ended(attempt, _OK, now)
        if self._client_full and self.route.rules.buffer_response_bytes and self._request_ended:
            # Its place is free. Its record is complete when the client has taken it, or has left.
            self._delivering = trailers
            if self._cluster.waiting:
                self._cluster.freed()
            return
        self.over = True
        self._frontend.exchanges -= 1
        if self._mirror is not None:
            self._mirror.left()
        plain = (
            self.responded_at == now
            and self.first_byte_at == now
            and attempt.connected_at == self.began_at
            and not (self._recorded or self._bad_status or attempt.dialled)
        )
        if not plain:
            self._count(now)
        if self._cluster.waiting:
            self._cluster.freed()
        if plain:
            self._end_plainly(attempt, now)
        elif self._recorded:
            self._tell_end()
        else:
            self._keep(attempt, now)
        observers = self._frontend.observers
        if observers.watching and not self._recorded:
            record = self._record()
            record.ended_by = _OK
            observers.tell(record)
        self.client.finish(self._told_trailers(trailers) if trailers else trailers)

    def keep(self, upstream: Upstream) -> bool:
        """See Requester."""
        return self.client.keep(upstream)

    def upstream_full(self) -> None:
        """See Requester."""
        self._pause_client()

    def upstream_drained(self) -> None:
        """See Requester."""
        self._resume_client()

    # A switch of protocols: from there on the two connections are a relay's.

    def switched(self, head: ResponseHead, rest: bytes) -> None:
        """See Requester. The protocol must be one that the client offered, or the response is bad."""
        to = tokens(head.upgrade)
        offered = tokens(self._lead.upgrade)
        upstream = self._upstream
        if upstream is None or not to or not all(token in offered for token in to):
            raise BadMessage(502, "a switch of protocols that nobody asked for")
        self.client.check_switch(head)
        self.started = True
        self.status = head.status
        self.responded_at = self._clock.now
        attempt = self.attempts.current
        if attempt is not None and attempt.lease.trial:
            self._answered(attempt)
        switch = b"Upgrade: %b\r\nConnection: Upgrade\r\n" % b", ".join(to)
        rules = self.route.rules
        lines = rules.response_lines + switch
        if rules.edits_answers:
            edits, words = rules.response_edits, self._answer_words()
            cookie = self._bound(head) if rules.bound else b""
            head = head.with_lines(edits.kept(head.lines))
            lines += edits.constant(words) + edits.varying(words) + cookie
        self.client.inform(head, lines)
        relay = self._relay = Relay(
            self,
            self.client.release(),
            upstream.release(rest),
            idle_s=rules.tunnel_idle_s,
            half_open_s=rules.half_open_s,
            clock=self._clock,
            deadlines=self._frontend.deadlines,
            pipes=self._frontend.runtime.pipes,
            websocket=to == [b"websocket"],
        )
        self._frontend.tunnels += 1
        upstream.backend.tunnels += 1
        relay.begin(client_full=self._client_full)

    def relay_ended(self, outcome: Outcome, cut: str) -> None:
        """See RelayOwner."""
        relay = self._relay
        if self.over or relay is None:
            return
        if relay.parted:
            self._left_relay(relay, Outcome.CANCELLED)
        else:
            self._left_relay(relay, outcome, cut)

    def _left_relay(self, relay: Relay, outcome: Outcome, detail: str = "") -> None:
        self.request_bytes += relay.bytes_up
        self.response_bytes += relay.bytes_down
        self.last_byte_at = self._clock.now
        self._frontend.tunnels -= 1
        if (backend := self.backend) is not None:
            backend.tunnels -= 1
        self._end()
        self._settle(outcome, detail)
        self._tell_end()

    # Pauses, and ends.

    def _pause_client(self) -> None:
        if not self._client_paused and not self._request_ended:
            self._client_paused = True
            self.client.pause()

    def _resume_client(self) -> None:
        if self._client_paused:
            self._client_paused = False
            self.client.resume()

    def _settle(self, outcome: Outcome, detail: str) -> None:
        attempts = self.attempts
        attempt = attempts.current
        if attempt is not None and attempt.outcome is None:
            attempts.ended(attempt, outcome, self._clock.now, detail, self._lead.blaming(outcome))
            if self._cluster.waiting:
                self._cluster.freed()

    def local_reply(self, status: int, retry_after_s: int = 0) -> tuple[ResponseHead, bytes]:
        """Head and body of a local reply to this request; its id is that of the record."""
        self.request_id = safe_id(self.request_id) or self._frontend.runtime.new_id()
        reply = self.route.local_reply(status, self.head.lines, self.request_id, retry_after_s)
        if self.head.fields.grpc:
            self._call_ended(reply[0].lines)
            self._bad_status = False  # no backend has said it
        return reply

    def _reply_for(self, refusal: Refusal | None) -> None:
        """Send a local reply: for the outcome of the last attempt, or, where there was none, for the pool's refusal."""
        last = self.attempts.current
        outcome = None if last is None else last.outcome
        if outcome is not None:
            # An answer that was left for an attempt that could not be made is gone; its status is told.
            self._reply_locally(outcome, CONSEQUENCE[outcome].status or self._left_status or 502)
        else:
            assert refusal is not None
            self._refuse(refusal)

    def _refuse(self, refusal: Refusal) -> None:
        """Answer for a pool that takes no request now: one that is full says when to come again."""
        if refusal is not Refusal.ALL_FULL:
            self._reply_locally(refusal, refusal.status)
            return
        pool = self._cluster.pool
        self._reply_locally(refusal, self._cluster.full_status, pool.pace.retry_after_s(pool.waiting))

    def _note_reply(self, why: Refusal | Outcome | Reply, status: int, body: bytes) -> None:
        """What is to be known of a local reply."""
        self._local_reply = why
        self.status = status
        self.response_bytes = 0 if self.head.method == b"HEAD" else len(body)

    def _reply_locally(self, why: Refusal | Outcome, status: int, retry_after_s: int = 0) -> None:
        head, body = self.local_reply(status, retry_after_s)
        self._send_reply(why, head, body)

    def _send_reply(self, why: Refusal | Outcome | Reply, head: ResponseHead, body: bytes) -> None:
        self._note_reply(why, head.status, body)
        if isinstance(why, Refusal):
            self._frontend.refused(why)
        self._end()
        self._tell_end()
        if self.head.method == b"HEAD":
            self.client.start(head, 0, b"")
        else:
            self.client.start(head, len(body), b"")
            if body:
                self.client.write(body)
        self.client.finish(b"")

    def _end(self) -> None:
        if not self.over:
            self.over = True
            self._frontend.exchanges -= 1
            if self._mirror is not None:
                self._mirror.left()
            self._count(self._clock.now)

    def _count(self, now: float) -> None:
        """Count the exchange, which is over, for metrics: integers grow, and nothing is made or looked up by a name."""
        took_s = now - self.began_at
        if self._holding is not None:
            if self._holding.gathers:
                self.gathered_s = took_s
            self._holding.end()
        slot = slot_of(took_s)
        kind = KIND_OF[self.status]
        flow = self._lead.flow
        if self.request_bytes:
            flow.bytes_up += self.request_bytes
        flow.bytes_down += self.response_bytes
        if not self.started or self.head.method != b"GET":
            flow.others[cell_of(self.head.method, kind, own=not self.started)] += 1
        attempt = self.attempts.current
        counted_in(flow.lasted, kind).put(slot, took_s)
        if self.started and attempt is not None:
            self._count_phases(attempt, kind, now)

    def _end_plainly(self, attempt: AttemptRecord, now: float) -> None:
        """Count and keep a request that went as most do: its answer came whole in one moment, from the first backend, on a connection
        that was there. As a rule, and so in one piece, without calls: all of it takes one time.
        """
        head, lead, began, sent, status = self.head, self._lead, self.began_at, self.response_bytes, self.status
        flow, lease = lead.flow, attempt.lease
        took_s = now - began
        slot = slot_of(took_s)
        kind = KIND_OF[status]
        if self.request_bytes:
            flow.bytes_up += self.request_bytes
        flow.bytes_down += sent
        if head.method != b"GET":
            flow.others[cell_of(head.method, kind, own=False)] += 1
        ours = flow.at_once[kind]
        if ours is None:
            ours = counted_in(flow.at_once, kind)
        # In three steps, as in Histogram.put.
        slots = ours.slots
        count = slots[slot]
        slots[slot] = count + 1
        ours.total_s += took_s
        lasted = lease.backend.totals.lasted
        theirs = lasted[kind]
        if theirs is None:
            theirs = counted_in(lasted, kind)
        slots = theirs.slots
        count = slots[slot]
        slots[slot] = count + 1
        theirs.total_s += took_s
        client, frontend = lead.client, self._frontend
        notes = frontend.notes
        if client.trusted or len(head.line) > SHORT_BYTES:
            self._keep(attempt, now)
            return
        plain = notes.plain(flow, lease)
        plain.client = client.address
        plain.agreed = self.client.agreed if frontend.agreeing else None
        plain.method = head.method
        plain.target = head.target
        request_id = self.request_id
        plain.request_id = safe_id(request_id) if request_id else request_id
        plain.status = status
        plain.stream = attempt.stream
        plain.response_bytes = sent
        plain.began = began
        plain.ended_at = now
        if took_s > notes.slow_from_s:
            notes.add_slow(plain)

    def _count_phases(self, attempt: AttemptRecord, kind: int, now: float) -> None:
        """Count what took which part of the time, and the backend's part of it."""
        pool = self._cluster.pool.totals
        sent_at = attempt.connected_at
        pool.first_byte.add(self.responded_at - sent_at)
        if self.first_byte_at != NEVER:
            pool.first_body.add(self.first_byte_at - sent_at)
        totals = attempt.lease.backend.totals
        if attempt.outcome is _OK or attempt.outcome is Outcome.BAD_STATUS:
            counted_in(totals.lasted, kind).add(self.last_byte_at - attempt.began)
        else:
            totals.unfinished[kind] += 1

    def _tell_end(self, cut: Outcome | None = None, detail: str = "") -> None:
        """Tell observers the record: the exchange is over, and all that is to be known about it is known. `cut`: what cut
        it short, rather than the outcome of an attempt.
        """
        last = self.attempts.current
        ended_by = self._local_reply
        if ended_by is None:
            ended_by = cut if cut is not None or last is None else last.outcome
        detail = detail or ("" if last is None else last.detail)
        frontend = self._frontend
        note = self._note(last, self._clock.now)
        note.ended_by, note.detail = ended_by, detail
        if self.queued_s or self._holding is not None or not note.plain:
            note.story = self._story()
        frontend.notes.add(note)
        observers = frontend.observers
        if not observers.anybody:
            return
        if cut is Outcome.CLIENT_GONE and not observers.leavers and (last is None or last.told_nothing):
            return
        record = self._record()
        record.ended_by, record.detail = ended_by, detail
        observers.tell(record)

    def _keep(self, attempt: AttemptRecord, now: float) -> None:
        """Keep what somebody may ask of a request that went well."""
        note = self._note(attempt, now)
        note.ended_by = _OK
        self._frontend.notes.add(note)

    def note(self) -> Note:
        """A note of what is known so far, for somebody who asks while it runs."""
        note = self._note(self.attempts.current, NEVER)
        note.story = self._story()
        return note

    def _story(self) -> Story:
        story = self.attempts.story()
        if self._holding is not None:
            story.held = self._holding.told_of(self._held, self.gathered_s)
            if self._delivering is not None:
                story.held = "the backend has said all, and the client has still to take the end"
        return story

    def _note(self, attempt: AttemptRecord | None, ended_at: float) -> Note:
        """A note of the exchange, for somebody who may ask."""
        head, client, request_id = self.head, self._lead.client, self.request_id
        method, target = head.method, head.target
        note = Note()
        note.listener = self._frontend.name
        note.route = self.route.name
        note.pool = self._cluster.name
        note.client = self._lead.client_name().encode("ascii") if client.trusted else client.address
        note.agreed = self.client.agreed
        note.method = method if len(method) <= WORD_BYTES else method[:WORD_BYTES]
        note.target = target if len(target) <= TARGET_BYTES else target[:TARGET_BYTES]
        note.request_id = safe_id(request_id) if request_id else request_id
        note.status = self.status
        note.response_bytes = self.response_bytes
        note.began = self.began_at
        note.head_at = self.responded_at
        note.ended_at = ended_at
        note.waited_s = self.queued_s
        note.attempt = attempt
        note.story = None
        note.local_reply = note.ended_by = self._local_reply
        note.detail = ""
        note.number = 0
        return note

    def _record(self) -> Record:
        record = Record(self.began_at)
        last = record.last = self.attempts.current
        if last is not None:
            record.connected_at = last.connected_at
        record.head_at = self.responded_at
        record.first_byte_at = self.first_byte_at
        record.last_byte_at = self.last_byte_at if self.response_bytes else NEVER
        record.ended_at = self._clock.now
        record.gathered_s = self.gathered_s
        record.queued_s = self.queued_s
        record.queued_behind = self.queued_behind
        record.request_bytes = self.request_bytes
        record.response_bytes = self.response_bytes
        record.client = self._lead.client_name()
        record.peer = self.client.who()
        record.peer_port = self.client.peer_port
        record.scheme = self._lead.client.scheme
        record.agreed = self.client.agreed
        head = self.head
        record.method = head.method
        record.target = head.target
        record.version = head.fields.version
        record.host = head.authority or head.fields.host
        record.fields = head.lines
        record.trace = self.trace
        record.listener = self._frontend.name
        if self.request_id:
            record.request_id = safe_id(self.request_id)
        record.route = self.route.name
        record.pool = self._cluster.name
        record.status = self.status
        record.grpc_status = self.grpc_status
        record.local_reply = self._local_reply
        return record

    def __repr__(self) -> str:
        state = "over" if self.over else "answering" if self.started else "waiting"
        return f"<Exchange {self.head!r} {state}, {self.attempts.count} attempts>"
