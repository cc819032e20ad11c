"""A request in a simulated world, in the words of `net/exchange.py`: which decisions it asks of the core, and in which order.

Bytes are left out, and decide nothing: heads, framing, back-pressure, what clients do. That both pick alike, request by request,
is a test.
"""

from typing import Final, Protocol

from twisted_lb.core.ask import Ask
from twisted_lb.core.attempts import Attempt, Attempts, Pause
from twisted_lb.core.hedging import Hedged, Hedging
from twisted_lb.core.lease import Lease
from twisted_lb.core.never import NEVER
from twisted_lb.core.outcome import CONSEQUENCE, Outcome, Refusal
from twisted_lb.core.queue import Ticket
from twisted_lb.net.cluster import Cluster
from twisted_lb.net.deadlines import Deadline
from twisted_lb.net.settings import RouteRules
from twisted_lb.net.waits import Wait

# What a request's own deadline brings about, and is then no fault of the backend.
_TOO_SLOW: Final = (Outcome.TIMED_OUT, Outcome.CONNECT_TIMEOUT)


class Guest(Protocol):
    """Whoever asks a machine: a visit, or its hedge."""

    born: float
    demand: float

    def connected(self, wire: "Wire") -> None:
        """It has a connection."""

    def failed(self, outcome: Outcome, detail: str = "") -> None:
        """Its attempt came to nothing."""

    def answered(self, status: int) -> None:
        """A complete answer is here."""

    def too_late(self) -> None:
        """The deadline of its attempt."""


class Reached(Protocol):
    """The machine that a request is sent to."""

    def take(self) -> "Wire | None":
        """An idle connection, None where a new one has to be made."""

    def put(self, wire: "Wire") -> None:
        """A connection is idle again."""

    def dial(self, visit: Guest) -> None:
        """Connect: `visit.connected` or `visit.failed` follows."""

    def send(self, visit: Guest, wire: "Wire") -> None:
        """Send a request: `visit.answered` or `visit.failed` follows."""

    def leave(self, wire: "Wire") -> None:
        """The answer is not wanted any more, and the connection of no use."""

    def idle_out(self, wire: "Wire") -> None:
        """An idle connection was not used for too long."""


class Surroundings(Protocol):
    """What a visit needs of its world."""

    rules: RouteRules

    @property
    def cluster(self) -> Cluster:
        """The cluster that it goes to."""

    def machine(self, backend: str) -> Reached:
        """The machine that is this backend."""

    def now(self) -> float:
        """The time, in seconds."""

    def arm(self, wire: "Wire", due: float) -> None:
        """Arm the deadline of a connection."""

    def over(self, visit: "Visit") -> None:
        """The request has ended."""

    @property
    def abandoned_stops(self) -> bool:
        """Whether a server stops what nobody waits for any more."""

    def demand_again(self, demand: float) -> float:
        """What the hedge of a request of this demand asks of its server."""


class Wire:
    """A connection to a machine, which carries one request at a time. `number`: which one of all it is. While it is idle: since
    when, and until when it may be used again; `idle_s` is for how long it was before its last use.
    """

    __slots__ = ("deadline", "idle_s", "idle_since", "machine", "number", "requests", "reuse_until", "visit")

    def __init__(self, machine: Reached, number: int) -> None:
        self.machine: Final = machine
        self.number: Final = number
        self.requests: int = 0
        self.visit: Guest | None = None
        self.idle_since: float = 0.0
        self.idle_s: float = 0.0
        self.reuse_until: float = NEVER
        self.deadline: Final = Deadline(self._too_late)

    def _too_late(self) -> None:
        if self.visit is not None:
            self.visit.too_late()
        else:
            self.machine.idle_out(self)


class Visit:
    """One request from its arrival to its end. `number`: the how manieth it is; `demand`: its work, in seconds of a server of speed 1.

    Once it is over: `status`, that of its backend or of a local reply; `backend`, whose answer it is, empty where nobody's;
    `latency_s`; and `attempts` knows the rest.
    """

    __slots__ = (
        "attempts",
        "backend",
        "born",
        "demand",
        "hedge",
        "latency_s",
        "left_status",
        "number",
        "status",
        "wire",
        "world",
    )

    def __init__(self, world: Surroundings, number: int, ask: Ask, demand: float, *, idempotent: bool) -> None:
        self.world: Final = world
        self.number: Final = number
        self.demand: float = demand
        self.born: float = world.now()
        self.hedge: Second | None = None
        self.attempts: Final = Attempts(world.cluster.pool, world.rules.retries, ask, idempotent=idempotent)
        self.wire: Wire | None = None
        self.status: int = 0
        self.left_status: int = 0
        self.backend: str = ""
        self.latency_s: float = 0.0

    # The same steps as Exchange's, by the same names.

    def begin(self) -> None:
        """It arrives."""
        attempts, rules = self.attempts, self.world.rules
        attempts.deadline = self.born + rules.deadline_s
        attempts.due = min(self.born + rules.response_head_s, attempts.deadline)
        self._go(self.attempts.begin(self.born), None)

    def _go(self, verdict: Lease | Refusal | Ticket | Pause | None, after: Outcome | None) -> None:
        if isinstance(verdict, Lease):
            self._attempt(verdict, new_connection=after is not None and CONSEQUENCE[after].new_connection)
        elif isinstance(verdict, Ticket):
            self.world.cluster.wait(verdict, self)
        elif isinstance(verdict, Pause):
            self.world.cluster.waits.until(verdict.until, self._paused)
        elif after is not None:
            self._end(CONSEQUENCE[after].status or self.left_status or 502)
        else:
            assert verdict is not None, "a first attempt has a verdict"
            self._end(verdict.status)

    def _paused(self) -> None:
        verdict = self.attempts.resume(self.world.now())
        self._go(verdict, None if isinstance(verdict, Lease) else self._current.outcome)

    def granted(self, ticket: Ticket, verdict: Lease | Refusal) -> None:
        """See Waiter: the wait in the queue is over."""
        now, attempts = self.world.now(), self.attempts
        if not attempts.count:
            attempts.due = min(now + self.world.rules.response_head_s, attempts.deadline)
        attempts.granted(ticket, verdict, now)
        last = attempts.current
        self._go(verdict, None if isinstance(verdict, Lease) or last is None else last.outcome)

    def _attempt(self, lease: Lease, *, new_connection: bool) -> None:
        machine = self.world.machine(lease.backend.name)
        if self.world.rules.hedges:
            self._hedge_later()
        wire = None if new_connection else machine.take()
        if wire is not None:
            self.connected(wire)
            return
        self._current.dialled = True
        machine.dial(self)

    def connected(self, wire: Wire) -> None:
        """It has a connection: it is sent."""
        now, attempt, rules = self.world.now(), self._current, self.world.rules
        attempt.connected_at = now
        if attempt.lease.trial:
            self.world.cluster.pool.reached(attempt.lease, now)
        attempt.due = min(self.attempts.due, now + rules.attempt_s)
        self.wire, wire.visit = wire, self
        wire.requests += 1
        self.world.arm(wire, attempt.due)
        wire.machine.send(self, wire)

    def failed(self, outcome: Outcome, detail: str = "") -> None:
        """An attempt came to nothing: another one, or a local reply."""
        now = self.world.now()
        if now >= self.attempts.deadline and outcome in _TOO_SLOW:
            outcome, detail = Outcome.LATE, "the deadline of the request"
        self.hang_up()
        self.attempts.ended(self._current, outcome, now, detail)
        self.freed()
        if self._handed_over():
            return
        self._go(self.attempts.again(outcome, now, replayable=True), outcome)

    def too_late(self) -> None:
        """The deadline of its attempt: the backend may go on with it, nobody listens."""
        wire = self.wire
        assert wire is not None
        wire.machine.leave(wire)
        self.failed(Outcome.TIMED_OUT, "no answer in time")

    def answered(self, status: int) -> None:
        """A complete answer is here, its head and its end at once."""
        world, attempts, attempt, now = self.world, self.attempts, self._current, self.world.now()
        wire = self.wire
        assert wire is not None
        bad = status >= 500 and status in world.rules.retries.bad_statuses
        if bad and self.hedge is not None and self.hedge.under_way:
            self.left_status = status
            self.hang_up()
            attempts.ended(attempt, Outcome.BAD_STATUS, now, f"status {status}")
            self.freed()
            self._handed_over()
            return
        if bad:
            again = attempts.again(Outcome.BAD_STATUS, now, replayable=True)
            if isinstance(again, Lease | Pause):
                self.left_status = status
                self.hang_up()
                attempts.ended(attempt, Outcome.BAD_STATUS, now, f"status {status}")
                self.freed()
                self._go(again, None)
                return
            attempts.withdraw()
        if self.hedge is not None:
            self.hedge.outrun()
            self.hedge = None
        if attempt.lease.backend.told is not None:
            world.cluster.pool.responded(attempt.lease, now)
        if attempts.deadline != NEVER:
            world.cluster.pool.totals.first_byte.add(now - attempt.connected_at)
        attempts.ended(attempt, Outcome.BAD_STATUS if bad else Outcome.OK, now)
        self.freed()
        wire.visit = self.wire = None
        wire.machine.put(wire)
        self.backend = attempt.lease.backend.name
        self._end(status)

    def _hedge_later(self) -> None:
        hedging = self.world.cluster.pool.hedging
        if self.hedge is not None:
            self.hedge.forget()
            self.hedge = None
        if hedging is not None and self.attempts.idempotent and not self.attempts.hedged:
            self.hedge = Second(self, hedging)

    def _handed_over(self) -> bool:
        hedge, self.hedge = self.hedge, None
        if hedge is not None and hedge.under_way:
            hedge.stand_in()
            return True
        if hedge is not None:
            hedge.forget()
        return False

    def hang_up(self) -> None:
        """Let go of its connection."""
        wire = self.wire
        if wire is not None:
            wire.deadline.end()
            wire.visit = self.wire = None

    def freed(self) -> None:
        """A place may be free."""
        if self.world.cluster.waiting:
            self.world.cluster.freed()

    def _end(self, status: int) -> None:
        self.status = status
        self.latency_s = self.world.now() - self.born
        self.world.over(self)

    @property
    def _current(self) -> Attempt:
        attempt = self.attempts.current
        assert attempt is not None, f"{self!r} has no attempt"
        return attempt

    @property
    def outcomes(self) -> list[tuple[str, Outcome | None]]:
        """Its attempts so far: at which backend, and how it ended."""
        return [(attempt.lease.backend.name, attempt.outcome) for attempt in self.attempts.made]

    def __repr__(self) -> str:
        return f"<Visit {self.number}: {self.status or 'under way'}, {self.attempts.count} attempts>"


class Second:
    """The hedge of a visit, in the words of `net/hedge.Hedge`."""

    __slots__ = ("_heard", "_hedging", "_since", "_wait", "born", "demand", "under_way", "visit", "wire")

    def __init__(self, visit: Visit, hedging: Hedging) -> None:
        self.visit: Final = visit
        self.born: float = -NEVER  # no moment of an arrival
        self.demand: float = 0.0
        self.under_way: bool = False
        self.wire: Wire | None = None
        self._heard: bool = False
        self._hedging: Final = hedging
        self._since: Final = visit.world.now()
        delay_s = hedging.delay_s(self._since)
        waits = visit.world.cluster.waits
        self._wait: Wait | None = None if delay_s == NEVER else waits.until(self._since + delay_s, self._overdue)

    def outrun(self) -> None:
        """The first attempt has answered."""
        if self._heard:
            return
        self._observe()
        if self.under_way:
            self._decided(Hedged.LOST)
            wire, self.wire = self.wire, None
            self._leave(self.visit.attempts.let_go(), wire, "the other one answered first")
        self.forget()

    def stand_in(self) -> None:
        """The first attempt has failed."""
        self._decided(Hedged.STOOD_IN)
        self._take_over()

    def forget(self) -> None:
        """Nobody is hedged any more."""
        if self._wait is not None:
            self._wait.cancel()
            self._wait = None

    def _overdue(self) -> None:
        self._wait = None
        visit = self.visit
        lease = visit.attempts.hedge(visit.world.now())
        if isinstance(lease, Hedged):
            visit.world.cluster.pool.totals.hedges[lease] += 1
        elif lease is not None:
            self.under_way = True
            self.demand = visit.world.demand_again(visit.demand)
            machine = visit.world.machine(lease.backend.name)
            wire = machine.take()
            if wire is not None:
                self.connected(wire)
            else:
                machine.dial(self)

    def connected(self, wire: Wire) -> None:
        """See Guest."""
        visit = self.visit
        world, attempts = visit.world, visit.attempts
        if self._heard:
            visit.demand = self.demand
            visit.connected(wire)
            return
        attempt, now = attempts.beside, world.now()
        if attempt is None:
            return  # taken back while it was connecting
        attempt.connected_at = now
        attempt.due = min(attempts.due, now + world.rules.attempt_s)
        self.wire, wire.visit = wire, self
        wire.requests += 1
        world.arm(wire, attempt.due)
        wire.machine.send(self, wire)

    def failed(self, outcome: Outcome, detail: str = "") -> None:
        """See Guest."""
        if self._heard:
            self.visit.failed(outcome, detail)
        elif self.under_way:
            self._fail(outcome, detail)

    def too_late(self) -> None:
        """See Guest."""
        assert self.wire is not None
        self.wire.machine.leave(self.wire)
        self.failed(Outcome.TIMED_OUT, "no answer in time")

    def answered(self, status: int) -> None:
        """See Guest."""
        visit = self.visit
        if status >= 500 and status in visit.world.rules.retries.bad_statuses:
            self._fail(Outcome.BAD_STATUS, f"status {status}")
            return
        first = visit.attempts.current
        assert first is not None
        self._observe()
        self._decided(Hedged.WON)
        wire, visit.wire = visit.wire, None
        self._leave(first, wire, "its hedge answered first")
        self._take_over()
        visit.answered(status)

    def _take_over(self) -> None:
        """The visit goes on with this attempt, and its connection."""
        self._heard = True
        visit = self.visit
        visit.attempts.stand_in()
        visit.hedge = None
        if self.wire is not None:
            visit.wire, self.wire.visit = self.wire, visit
            self.wire = None

    def _fail(self, outcome: Outcome, detail: str) -> None:
        self._decided(Hedged.FAILED)
        if self.wire is not None:
            self.wire.deadline.end()
            self.wire.visit = None
            self.wire = None
        self._end(self.visit.attempts.let_go(), outcome, detail)

    def _leave(self, attempt: Attempt, wire: Wire | None, detail: str) -> None:
        """Nobody hears this attempt any more."""
        world = self.visit.world
        pool = world.cluster.pool
        holds_s = pool.settings.abandoned_s if attempt.lease.backend.limit else 0.0
        if wire is not None and holds_s and not world.abandoned_stops:
            self.visit.attempts.left(attempt, Outcome.CANCELLED, world.now(), detail)
            wire.visit = LeftBehind(self.visit, attempt, wire)
            world.arm(wire, world.now() + holds_s)
            return
        if wire is not None:
            wire.machine.leave(wire)
            wire.deadline.end()
            wire.visit = None
        self._end(attempt, Outcome.CANCELLED, detail)

    def _end(self, attempt: Attempt, outcome: Outcome, detail: str) -> None:
        self.visit.attempts.ended(attempt, outcome, self.visit.world.now(), detail)
        self.visit.freed()

    def _decided(self, what: Hedged) -> None:
        self.under_way = False
        self.visit.world.cluster.pool.totals.hedges[what] += 1

    def _observe(self) -> None:
        now = self.visit.world.now()
        self._hedging.observe(now - self._since, now)


class LeftBehind:
    """An attempt that nobody hears any more, and that its server works at (`net/abandoned.Abandoned`)."""

    __slots__ = ("_attempt", "_visit", "_wire", "born", "demand")

    def __init__(self, visit: Visit, attempt: Attempt, wire: Wire) -> None:
        self.born: float = -NEVER
        self.demand: float = 0.0
        self._visit: Final = visit
        self._attempt: Final = attempt
        self._wire: Final = wire

    def connected(self, wire: Wire) -> None:
        """See Guest: it was."""

    def answered(self, status: int) -> None:
        """See Guest: its place is free."""
        wire = self._wire
        wire.visit = None
        wire.deadline.end()
        wire.machine.leave(wire)
        outcome = self._attempt.outcome
        assert outcome is not None
        self._visit.world.cluster.pool.settle(self._attempt.lease, outcome, self._visit.world.now())
        self._visit.freed()

    def failed(self, outcome: Outcome, detail: str = "") -> None:
        """See Guest."""
        self.answered(0)

    def too_late(self) -> None:
        """See Guest."""
        self.answered(0)
