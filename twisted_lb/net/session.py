"""The session: one connection of a client that is carried as it is (TCP, TLS passthrough), from its arrival to the end of both sides.

It is balanced as a request is, by the same pools, and retried as one, as long as no backend has accepted it: nothing is sent before.
"""

from typing import Final, cast

from mypy_extensions import mypyc_attr
from twisted.python.failure import Failure

from twisted_lb.core.agreed import Agreed
from twisted_lb.core.ask import ANY, USUAL, Ask
from twisted_lb.core.attempts import Attempts, Pause
from twisted_lb.core.backend import Backend
from twisted_lb.core.flow import Flow, cell_of
from twisted_lb.core.gate import client_key
from twisted_lb.core.histogram import counted_in, slot_of
from twisted_lb.core.lease import Lease
from twisted_lb.core.never import NEVER
from twisted_lb.core.notes import Note
from twisted_lb.core.outcome import CONSEQUENCE, Outcome, Refusal
from twisted_lb.core.queue import Ticket
from twisted_lb.core.rate_limits import RateKey
from twisted_lb.core.record import Record
from twisted_lb.net.client_connection import ClientConnection, Speaker
from twisted_lb.net.cluster import Cluster
from twisted_lb.net.dialer import Attempt as Dialling
from twisted_lb.net.frontend import STOPS, Frontend
from twisted_lb.net.interfaces import UNKNOWN, Receiver, StreamTransport
from twisted_lb.net.local_reply import Claim
from twisted_lb.net.relay import Leg, Relay
from twisted_lb.net.request_keys import RequestKey
from twisted_lb.net.route import Route
from twisted_lb.net.secured import Secured
from twisted_lb.net.session_table import Way
from twisted_lb.net.settings import RouteRules
from twisted_lb.net.upstream import Requester, Upstream
from twisted_lb.net.waits import Wait

# What stands for the method of a request in all that is told of sessions.
TCP: Final = b"TCP"
_SCHEME: Final = b"tcp"
_BY_CLIENT: Final = RequestKey(RateKey.CLIENT)


@mypyc_attr(free_list_len=1)
class Session(Requester, Receiver, Speaker):
    """One session. `server_name` is what its client asked for in the ClientHello, empty where it said none or nobody looked; `way` the one
    that was found for it, None: it is to be found.

    What comes before a backend has accepted is held: one receive, then no more is read (back-pressure). A FIN is passed on, a reset
    too: each side sees how the other one has ended.
    """

    __slots__ = (
        "_agreed", "_attempts", "_client_ended", "_cluster", "_connection", "_flow", "_frontend", "_held", "_over", "_pause",
        "_paused", "_refusal", "_relay", "_route", "_secured", "_server_name", "_started", "_unread", "_way", "began_at", "bytes_down",
        "bytes_up", "queued_behind", "queued_s", "request_id",
    )  # fmt: skip

    def __init__(
        self,
        frontend: Frontend,
        secured: Secured | None = None,
        server_name: str = "",
        way: Way | None = None,
        agreed: Agreed | None = None,
    ) -> None:
        self.began_at: Final[float] = frontend.clock.now
        self.request_id: Final[bytes] = frontend.runtime.new_id()
        self.queued_s: float = 0.0
        self.queued_behind: int = 0
        self.bytes_up: int = 0
        self.bytes_down: int = 0
        self._frontend: Final = frontend
        self._secured: Final = secured  # by our own TLS, and how
        # That, and what a PROXY header has told.
        self._agreed: Final[Agreed | None] = agreed if secured is None else secured.agreed
        self._server_name: Final = server_name
        self._way: Way | None = way
        self._connection: Final = ClientConnection(frontend, self)
        self._held: bytes = b""
        self._client_ended: bool = False  # the client has sent its FIN
        self._paused: bool = False  # nothing more is read until a backend has accepted
        self._unread: int = UNKNOWN
        # From here on they are there once it has a route.
        self._route: Route | None = None
        self._cluster: Cluster | None = None
        self._flow: Flow | None = None
        self._attempts: Attempts | None = None
        self._pause: Wait | None = None
        self._relay: Relay | None = None
        self._started: bool = False
        self._over: bool = False
        self._refusal: Refusal | Outcome | None = None  # why no backend has it

    # The client.

    def makeConnection(self, transport: StreamTransport) -> None:
        """The client has connected."""
        connection = self._connection
        if not connection.open(transport, _SCHEME, self):
            self._turn_away(Refusal.RATE_LIMITED, "too many connections of one client")
            return
        connection.disarm()
        self._begin()

    def dataReceived(self, data: bytes) -> None:
        """Bytes of the client before a backend has accepted it: the first piece is held, and no more is read."""
        if self._over:
            return
        self._held += data
        transport = self._connection.transport
        if not self._paused and transport is not None:
            self._paused = True
            transport.pauseProducing()

    def readConnectionLost(self) -> None:
        """The client will say no more (half-close): its backend is told so. Who waits for one in the queue, and has said nothing, has left."""
        self._client_ended = True
        if self._attempts is not None and self._attempts.waiting is not None:
            self._leave_queue()

    def _leave_queue(self) -> None:
        if not self._held:
            self._drop(Outcome.CLIENT_GONE)
            self._connection.end()

    def connectionBroken(self) -> None:
        """See ResetAware: the client has reset the connection while it was not read from."""
        self._connection.abort()

    def connectionLost(self, reason: Failure) -> None:
        """The client's connection is gone. What its backend is still to get, when that is over, is not taken from it."""
        self._held = b""
        if not self._over:
            self._drop(Outcome.CLIENT_GONE)
        self._connection.lost()

    def _client_address(self) -> str:
        return self._connection.client.name

    # The way to a backend.

    def _begin(self) -> None:
        """Find the way, ask whether it is open to this client, and claim a backend."""
        frontend, connection = self._frontend, self._connection
        address = self._client_address()
        way = self._way
        if way is None:
            table = frontend.sessions
            way = self._way = None if table is None else table.find(self._server_name, address)
        if self._secured is not None and way is not None and not way.terminates:
            # A reload has come during the handshake: what our TLS has opened goes to nobody who is to get it closed.
            way = self._way = None
        if way is None:
            frontend.unrouted += 1
            self._turn_away(Refusal.NO_ROUTE, f"no route of listener {frontend.name} takes it")
            return
        now = frontend.clock.now
        denial = way.denied(address, now)
        if denial is not None:
            self._turn_away(denial.refusal, denial.detail)
            return
        if way.action.forbidden:
            self._turn_away(Refusal.FORBIDDEN, "its route denies all")
            return
        if way.admission is not None and way.admission.running:
            connection.count(way.admission.running, client_key(address))
        route = way.route(address)
        rules = route.rules
        flow = frontend.flow(route)
        flow.begun += 1
        frontend.exchanges += 1
        self._route, self._cluster, self._flow = route, route.cluster, flow
        attempts = self._attempts = Attempts(route.cluster.pool, rules.retries, self._ask(route), idempotent=True)
        attempts.deadline = now + rules.deadline_s
        attempts.due = min(now + rules.response_head_s, attempts.deadline)
        self._go(attempts.begin(now))

    def _turn_away(self, refusal: Refusal, detail: str) -> None:
        """Close a session that goes to no pool."""
        self._over = True
        frontend, connection = self._frontend, self._connection
        transport = connection.transport
        address = "" if transport is None else transport.peer_name()
        claim = Claim(address, b"%b %b" % (TCP, self._target)).over(connection.client, connection.peer_port)
        claim.request_id, claim.host, claim.agreed = self.request_id, self._target, self._agreed
        where = self._server_name or "without a name"
        action = None if self._way is None else self._way.action
        frontend.turn_session_away(refusal, f"{detail}, {where}" if frontend.by_name else detail, claim, action)
        connection.abort()

    @property
    def _joined_at(self) -> float:
        """When a backend has accepted it; NEVER while none has."""
        attempt = None if self._attempts is None else self._attempts.current
        return NEVER if attempt is None or not self._started else attempt.connected_at

    @property
    def _target(self) -> bytes:
        return self._server_name.encode("ascii", "replace")

    def _ask(self, route: Route) -> Ask:
        """What the session asks of its pool: by its client, for all that goes by keys."""
        rules, cluster = route.rules, route.cluster
        if not (rules.asks or cluster.pool.asks):
            return ANY
        address = self._client_address()
        keyed = _BY_CLIENT.ask(b"", b"", address) if cluster.pool.keyed else ANY
        fair = cluster.queueing.fair
        lane = 0 if fair is None else fair.ask(b"", b"", address).key
        if lane or rules.urgency != USUAL:
            keyed = Ask(keyed.key, keyed.cost, by=keyed.by, lane=lane, urgency=rules.urgency)
        bonds = cluster.bonds
        if bonds is None:
            return keyed
        return bonds.ask(keyed, b"", address if bonds.by_client else "", cluster.clock.now, cluster.wall_now())

    def _go(self, verdict: Lease | Refusal | Ticket | Pause | None) -> None:
        """Go where the pool's verdict says: to a backend, into the queue, to the fallback, or away."""
        cluster, route, attempts = self._known
        if isinstance(verdict, Lease):
            attempt = attempts.current
            assert attempt is not None
            attempt.dialled = True
            attempt.way = cluster.connect(verdict.backend, self, attempts.due)
        elif isinstance(verdict, Pause):
            self._pause = cluster.waits.until(verdict.until, self._paused_enough)
        elif verdict is not None and route.fallback is not None and cluster.pool.exhausted:
            self._fall_back()
        elif isinstance(verdict, Ticket):
            verdict.elsewhere = route.fallback is not None
            cluster.wait(verdict, self)
            if self._client_ended:
                self._leave_queue()
        else:
            last = attempts.current
            outcome = None if last is None else last.outcome
            self._refuse(verdict if outcome is None else outcome)

    @property
    def _known(self) -> tuple[Cluster, Route, Attempts]:
        """Where it goes; it has a route."""
        cluster, route, attempts = self._cluster, self._route, self._attempts
        assert cluster is not None
        assert route is not None
        assert attempts is not None
        return cluster, route, attempts

    def _paused_enough(self) -> None:
        """The wait before another attempt is over (backoff)."""
        self._pause = None
        _, _, attempts = self._known
        self._go(attempts.resume(self._frontend.clock.now))

    def granted(self, ticket: Ticket, verdict: Lease | Refusal) -> None:
        """See Waiter: the wait in the queue is over."""
        _, route, attempts = self._known
        now = self._frontend.clock.now
        self._waited(ticket, now)
        if not attempts.count:
            attempts.due = min(now + route.rules.response_head_s, attempts.deadline)
        attempts.granted(ticket, verdict, now)
        self._go(verdict)

    def _waited(self, ticket: Ticket, now: float) -> None:
        cluster, _, _ = self._known
        waited_s = now - ticket.queued_at
        self.queued_s += waited_s
        self.queued_behind += ticket.behind
        cluster.pool.totals.queue.add(waited_s)

    def _fall_back(self) -> None:
        """The pool has nobody, and waiting for one is not what the route wants: on to the other pool."""
        cluster, before, attempts = self._known
        if attempts.waiting is not None:
            attempts.withdraw()
        fallback = before.fallback
        route = None if fallback is None else fallback.route
        flow = self._flow
        assert flow is not None
        if route is None:
            self._refuse(Refusal.NO_BACKEND)
            return
        flow.begun -= 1
        flow = self._flow = self._frontend.flow(route)
        flow.begun += 1
        self._route = route
        cluster = self._cluster = route.cluster
        now = self._frontend.clock.now
        attempts.due = min(now + route.rules.response_head_s, attempts.deadline)
        self._go(attempts.fall_back(cluster.pool, route.rules.retries, self._ask(route), now))

    def server_name(self) -> str:
        """See Requester."""
        return "" if self._route is None else self._route.rules.server_name

    def proxy_header(self, version: int) -> bytes:
        """See Requester."""
        return self._connection.proxy_header(version, self._secured)

    def unreachable(self, outcome: Outcome, detail: str) -> None:
        """See Requester: another backend is tried, where one is left."""
        if self._over:
            return
        _, _, attempts = self._known
        attempt = attempts.current
        if attempt is not None:
            attempt.way = None
        self._settle(outcome, detail)
        self._go(attempts.again(outcome, self._frontend.clock.now, replayable=True))

    def connected(self, upstream: Upstream) -> None:
        """See Requester: a backend has accepted, and both sides are joined."""
        cluster, route, attempts = self._known
        now = self._frontend.clock.now
        attempt, connection = attempts.current, self._connection
        transport = connection.transport
        assert attempt is not None
        if transport is None:
            upstream.abandon()
            return
        attempt.connected_at = now
        attempt.way = upstream
        # No answer is known to be one: how quickly a backend accepts is the latency that policies compare.
        cluster.pool.responded(attempt.lease, now)
        if attempt.lease.trial:
            # That it accepts is all that there is to know of it.
            cluster.pool.reached(attempt.lease, now)
            cluster.pool.answered(attempt.lease, now)
        self._started = True
        held = self._held
        self._held = b""
        if self._paused:
            self._paused = False
            transport.resumeProducing()
        relay = self._relay = self._joined(route.rules, transport, held, upstream)
        self._frontend.tunnels += 1
        upstream.backend.tunnels += 1
        relay.begin(client_full=connection.full)

    def _joined(self, rules: RouteRules, transport: StreamTransport, held: bytes, upstream: Upstream) -> Relay:
        return Relay(
            self,
            Leg(transport, held, self.connectionLost, self._close, ended=self._client_ended),
            upstream.release(b""),
            idle_s=rules.tunnel_idle_s,
            half_open_s=rules.half_open_s,
            pipes=self._frontend.runtime.pipes,
            clock=self._frontend.clock,
            deadlines=self._frontend.deadlines,
        )

    # Ends.

    def _close(self) -> None:
        """Both sides have said everything, or the backend's is gone."""
        self._connection.linger(half_close=False)

    def _refuse(self, why: Refusal | Outcome | None) -> None:
        """No backend has it: the client's connection is reset, since nothing else can be said."""
        self._refusal = why
        if isinstance(why, Refusal):
            self._frontend.refused(why)
        self._end()
        self._tell_end()
        self._connection.abort()

    def relay_ended(self, outcome: Outcome, cut: str) -> None:
        """See RelayOwner."""
        if not self._over:
            self._left(outcome, cut)

    def _left(self, outcome: Outcome, detail: str = "") -> None:
        relay = self._relay
        assert relay is not None
        self.bytes_up, self.bytes_down = relay.bytes_up, relay.bytes_down
        self._frontend.tunnels -= 1
        backend = self.at()
        if backend is not None:
            backend.tunnels -= 1
        self._end()
        # Many servers reset connections whose clients have said good-bye in their own words: none is to blame for how one ends.
        self._settle(Outcome.OK if outcome is Outcome.CUT_SHORT else outcome, detail)
        self._tell_end(outcome, detail)

    def _drop(self, outcome: Outcome, detail: str = "") -> None:
        """It ends before a backend has accepted it, or is cut."""
        if self._relay is not None:
            self._relay.cut()  # when it is over too: its client may be taking what it was sent
        if self._over or self._attempts is None:
            self._over = True
            return
        if self._relay is not None:
            self._left(outcome, detail)
            return
        self._end()
        cluster, _, attempts = self._known
        attempt = attempts.current
        way = None if attempt is None else attempt.way
        if way is not None:
            cast(Dialling, way).cancel()
        if attempts.waiting is not None:
            self._waited(attempts.waiting, self._frontend.clock.now)
            cluster.leave(attempts.waiting)
            attempts.withdraw()
        elif self._pause is not None:
            self._pause.cancel()
            attempts.withdraw()
        self._settle(outcome, detail)
        self._tell_end(outcome, detail)

    def _settle(self, outcome: Outcome, detail: str) -> None:
        cluster, _, attempts = self._known
        attempt = attempts.current
        if attempt is not None and attempt.outcome is None:
            blaming = client_key(self._client_address()) if CONSEQUENCE[outcome].in_a_row else ""
            attempts.ended(attempt, outcome, self._frontend.clock.now, detail, blaming)
            if cluster.waiting:
                cluster.freed()

    def _end(self) -> None:
        """It is over: count it."""
        self._over = True
        frontend, flow, attempts = self._frontend, self._flow, self._attempts
        assert flow is not None
        assert attempts is not None
        frontend.exchanges -= 1
        took_s = frontend.clock.now - self.began_at
        flow.bytes_up += self.bytes_up
        flow.bytes_down += self.bytes_down
        flow.others[cell_of(TCP, 0, own=not self._started)] += 1
        counted_in(flow.lasted, 0).put(slot_of(took_s), took_s)
        attempt = attempts.current
        if self._started and attempt is not None:
            # As of a tunnel: how long it lasts is no time that an answer takes, by which deadlines are foreseen.
            attempt.lease.backend.totals.unfinished[0] += 1

    def _tell_end(self, cut: Outcome | None = None, detail: str = "") -> None:
        """Tell observers the record. `cut`: what cut it short, rather than the outcome of an attempt."""
        _, _, attempts = self._known
        last = attempts.current
        ended_by: Refusal | Outcome | None = self._refusal
        if ended_by is None:
            ended_by = cut if cut is not None or last is None else last.outcome
        detail = detail or ("" if last is None else last.detail)
        frontend = self._frontend
        note = self._note(frontend.clock.now)
        note.ended_by, note.detail = ended_by, detail
        if self.queued_s or not note.plain:
            note.story = attempts.story()
        frontend.notes.add(note)
        if frontend.observers.anybody:
            record = self._record()
            record.ended_by, record.detail = ended_by, detail
            frontend.observers.tell(record)

    def _note(self, ended_at: float) -> Note:
        cluster, route, attempts = self._known
        note = Note()
        note.listener = self._frontend.name
        note.route = route.name
        note.pool = cluster.name
        note.client = self._connection.client.address
        note.agreed = self._agreed
        note.method = TCP
        note.target = self._target
        note.request_id = self.request_id
        note.status = 0
        note.response_bytes = self.bytes_down
        note.began = self.began_at
        note.head_at = self._joined_at
        note.ended_at = ended_at
        note.waited_s = self.queued_s
        note.attempt = attempts.current
        note.story = None
        note.local_reply = note.ended_by = self._refusal
        note.detail = ""
        note.number = 0
        return note

    def _record(self) -> Record:
        cluster, route, attempts = self._known
        connection = self._connection
        record = Record(self.began_at)
        last = record.last = attempts.current
        if last is not None:
            record.connected_at = last.connected_at
        record.head_at = self._joined_at
        record.ended_at = record.last_byte_at = self._frontend.clock.now
        record.queued_s = self.queued_s
        record.queued_behind = self.queued_behind
        record.request_bytes = self.bytes_up
        record.response_bytes = self.bytes_down
        record.client = record.peer = self._client_address()
        record.peer_port = connection.peer_port
        record.scheme = _SCHEME
        record.agreed = self._agreed
        record.method = TCP
        record.target = record.host = self._target
        record.listener = self._frontend.name
        record.request_id = self.request_id
        record.route = route.name
        record.pool = cluster.name
        record.local_reply = self._refusal
        return record

    # What the client's connection asks: see Speaker.

    def timed_out(self) -> None:
        """See Speaker: the client has taken nothing of what it was sent for the time that nothing may be said in."""
        connection = self._connection
        if self._over and connection.keeps_up():
            return  # it goes on taking the last of what it was sent, and has got the time again
        transport = connection.transport
        if not connection.full or transport is None or self._route is None:
            connection.abort()
            return
        backlog, before = transport.backlog(), self._unread
        self._unread = backlog
        if backlog != before:
            connection.arm(self._route.rules.tunnel_idle_s)
            return
        self._drop(Outcome.CLIENT_GONE, "it does not take what it is sent")
        connection.abort()

    def drain(self) -> None:
        """See Speaker: what has begun goes on, as tunnels do."""

    def tell_good_bye(self) -> None:
        """See Speaker: nobody knows the words."""

    def kill(self, why: str = STOPS) -> None:
        """See Speaker."""
        self._drop(Outcome.CANCELLED, why)
        self._connection.abort()

    def at(self) -> Backend | None:
        """See Speaker."""
        attempt = None if self._attempts is None else self._attempts.current
        return attempt.lease.backend if attempt is not None and attempt.lease.open else None

    def unsent(self) -> bool:
        """See Speaker."""
        return self.at() is not None and not self._started

    def note(self) -> Note | None:
        """See Speaker."""
        if self._over or self._attempts is None:
            return None
        relay = self._relay
        if relay is not None:
            self.bytes_down = relay.bytes_down
        note = self._note(NEVER)
        note.story = self._attempts.story()
        return note

    def relayed(self) -> bool:
        """See Speaker."""
        return self._relay is not None

    def kept(self) -> bool:
        """See Speaker."""
        return False

    def retire(self) -> None:
        """See Speaker: it is never just kept alive."""

    # Flow control of what the backend sends.

    def pauseProducing(self) -> None:
        """The client does not take as fast as the backend sends (back-pressure)."""
        connection = self._connection
        connection.full = True
        transport, route = connection.transport, self._route
        self._unread = UNKNOWN if transport is None else transport.backlog()
        if route is not None:
            connection.arm(route.rules.tunnel_idle_s)
        if self._relay is not None:
            self._relay.client_full()

    def resumeProducing(self) -> None:
        """The client has taken enough of what it was sent (back-pressure ends)."""
        self._connection.full = False
        self._connection.disarm()
        if self._relay is not None:
            self._relay.client_drained()

    def stopProducing(self) -> None:
        """Twisted says that the connection is lost; `connectionLost` follows."""

    def __repr__(self) -> str:
        state = "over" if self._over else "open" if self._started else "waiting"
        return f"<Session of {self._client_address()} {state}>"
