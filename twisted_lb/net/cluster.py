"""A cluster (Envoy's word): a pool at work, with its backends' connections and checks. The one owner of membership."""

from collections.abc import Callable, Iterable
from functools import partial
from typing import Final, Protocol

from twisted_lb.core.address import Address, TcpAddress
from twisted_lb.core.agent import read_agent
from twisted_lb.core.attempts import Attempt as AttemptRecord
from twisted_lb.core.backend import AdminState, Backend, BackendSpec
from twisted_lb.core.endpoints import Endpoints
from twisted_lb.core.events import (
    AdminChanged,
    AgentChanged,
    BackendChanged,
    BackendDown,
    BackendEjected,
    BackendRemoved,
    BackendReturned,
    BackendUp,
    EjectionWithheld,
    Event,
    state_after,
)
from twisted_lb.core.lease import Lease
from twisted_lb.core.never import NEVER
from twisted_lb.core.outcome import Outcome, Refusal
from twisted_lb.core.pickers.base import Policy
from twisted_lb.core.pool import Pool
from twisted_lb.core.queue import Ticket
from twisted_lb.core.settings import PoolSettings
from twisted_lb.core.snapshot import PoolSnapshot
from twisted_lb.net.abandoned import Abandoned
from twisted_lb.net.affinity import Affinity, Bonds
from twisted_lb.net.clock import Timer
from twisted_lb.net.dialer import Attempt
from twisted_lb.net.greeting import Greeting, Greetings
from twisted_lb.net.http1_upstream import Http1Upstream, Keeper
from twisted_lb.net.http2_connections import Http2Connections
from twisted_lb.net.kept import EARLY_S, IDLE_TIMEOUT_MARGIN, LEARNED_FOR_S, LEAST_S, Kept
from twisted_lb.net.moving import Moving
from twisted_lb.net.queueing import NO_LANES, Queueing
from twisted_lb.net.runtime import Runtime
from twisted_lb.net.settings import AUTO, EITHER, H1, UpstreamRules
from twisted_lb.net.upstream import Requester, Upstream
from twisted_lb.net.waits import Waits


class Wires:
    """The connections to a backend, open now: how many of HTTP/1.1, how many of HTTP/2, and the calls that run on those; `chose`: what its
    backend took last (H1, H2) where it has the choice, "" where it has none, or was not asked yet.
    """

    __slots__ = ("calls", "chose", "http1", "http2")

    def __init__(self, http1: int, http2: int, calls: int, chose: str) -> None:
        self.http1: Final = http1
        self.http2: Final = http2
        self.calls: Final = calls
        self.chose: Final = chose


class Waiter(Protocol):
    """A request that waits in the pool's queue."""

    def granted(self, ticket: Ticket, verdict: Lease | Refusal) -> None:
        """The wait is over: a lease on a backend, or a refusal."""


class Mirrored(Protocol):
    """A request that nobody waits for: it was mirrored from another pool."""

    @property
    def backend(self) -> Backend | None:
        """Where it is; None while it is nowhere."""

    def cut(self, detail: str) -> None:
        """Take it back."""


class Checking(Protocol):
    """The checks of a cluster's backends, as far as the cluster steers them."""

    @property
    def port(self) -> int | None:
        """The port that is asked at a backend that has none of its own for checks; None: that of its address."""

    def update(self, backends: Iterable[tuple[str, Address]]) -> None:
        """Check these backends at these addresses, and no others, from now on."""

    def check_soon(self, name: str) -> None:
        """Probe this backend at once."""

    def check_anew(self, name: str) -> None:
        """Probe this backend, which is another server now, at once; what the old one says is not heard any more."""

    def watch_closely(self, names: Iterable[str], *, awaited: bool) -> None:
        """Probe these backends, which are out, more often; `awaited`: requests wait for them."""

    def stop(self) -> None:
        """End all checks."""


class Cluster(Keeper):
    """A cluster: one pool's members, the connections to them (connection pool) and their checks. A change of membership
    is told to all three here.

    Idle connections are kept by backend, the youngest on top: the others grow old and are closed (LIFO). None is used
    again when the backend is about to close it (keep-alive race): after 0.8 of the time that it announces (`Keep-Alive:
    timeout=N`), or after 0.8 of the time after which it was seen to close an idle one in the last 10 minutes. `hear` is
    told every event, after the cluster has done what follows from it; `checks` is None where checks are off.
    """

    def __init__(
        self,
        name: str,
        runtime: Runtime,
        rules: UpstreamRules,
        policy: Policy,
        settings: PoolSettings,
        hear: Callable[[Event], None],
        queue: Queueing = NO_LANES,
        affinity: Affinity | None = None,
    ) -> None:
        super().__init__(rules, runtime.clock, runtime.deadlines)
        self.name: Final = name
        self.runtime: Final = runtime
        self.queueing: Queueing = queue
        self.pool: Final = Pool(
            name,
            policy,
            settings,
            runtime.stream(f"pool {name}"),
            self._heard,
            runtime.share.counts(),
            stopwatch=runtime.stopwatch,
            chance=runtime.stream(f"ejection {name}"),
            jitter=runtime.stream(f"backoff {name}"),
            reserve=runtime.share.reserve(name),
            bind=partial(runtime.share.bindings, name),
            all_waiting=runtime.share.amount(f"queue of {name}"),
        )
        mirrored = runtime.share.amount(f"mirrored of {name}")
        if mirrored is not None:
            self.pool.totals.mirroring.share(mirrored)
        self.bonds: Bonds | None = None if affinity is None else Bonds(affinity, self.pool, secret=runtime.share.secret)
        self.checks: Checking | None = None
        self.agents: Checking | None = None  # at a port of their own
        self._hear: Final = hear
        self._kept: dict[object, Kept] = {}  # by `Upstream.place`, as a rule the backend
        self._open: dict[Http1Upstream, None] = {}  # an ordered set
        self._bound: dict[Http1Upstream, None] = {}  # those that belong to one client each, and were used
        # Those of HTTP/2, and whether requests go there; None: they do not.
        self._http2: Final = Http2Connections(self, runtime)
        self.http2: Http2Connections | None = None if rules.protocol == H1 else self._http2
        self._specs: list[BackendSpec] = []
        self._members: list[BackendSpec] = []  # what they and their names mean
        self._endpoints: Final = Endpoints()
        self._places: dict[str, str] = {}  # of a member that is a name: the address in force
        self._updating: bool = False
        self._closed: bool = False
        self._retired: bool = False
        self.waiting: dict[Ticket, Waiter] = {}
        # In their order; each with its attempt, if that is still to be settled.
        self.abandoned: Final[dict[Abandoned, AttemptRecord | None]] = {}
        self.mirrors: Final[dict[Mirrored, None]] = {}  # of other pools, an ordered set
        self.mirror_chance: Final = runtime.stream(f"mirror {name}")  # of its own requests
        self.hedges: int = 0  # under way, each beside the attempt of its request
        self._serving: bool = False
        self._serve_timer: Timer | None = None
        self._serve_at: float = NEVER
        self.waits: Final = Waits(runtime)
        self._moving: Final = Moving(runtime, self.pool, self._ways)

    def wall_now(self) -> float:
        """The time in seconds since 1970."""
        return self.runtime.wall.read()

    # Members.

    def update(self, backends: Iterable[BackendSpec], now: float | None = None) -> None:
        """Replace the members by these and what their names mean; see `Pool.update`, `Endpoints`. New backends are checked and
        used; those that are gone get no more requests, and idle connections to them are closed.
        """
        specs, rules, endpoints = list(backends), self.upstream_rules, self._endpoints
        now = self.clock.read() if now is None else now
        before = {name: endpoints.address_of(name) for name in self._places}
        endpoints.configure(specs, resolve=rules.resolve, family=rules.family)
        self._places = {n: place for n, place in self._places.items() if endpoints.address_of(n) == before[n]}
        self._specs = specs
        self._updating = True
        self.runtime.names.watch(self, endpoints.names)
        self._updating = False
        self._regroup(now)

    def _regroup(self, now: float) -> None:
        """Tell pool, connections and checks who the members are."""
        members, succession = self._endpoints.members()
        present = {one.name for one in members}
        self._places = {name: place for name, place in self._places.items() if name in present}
        self._members = members
        self.pool.update(members, now, succession)
        if self.bonds is not None:
            self.bonds.follow()
        self.point_checks()

    def name_answered(self, address: TcpAddress, hosts: list[str]) -> None:
        """See Watcher: other endpoints may follow, or another address of the one backend."""
        heard = hosts
        if hosts:
            changed = self._endpoints.hear(address, hosts)
            if changed and not self._updating:
                self._regroup(self.clock.now)
            if changed and (sole := self._endpoints.sole(address)) in hosts:
                hosts = [sole]  # whose record it has
                self.runtime.names.prefer(address, sole)
            for name in self._endpoints.singles(address):
                self._place(name, hosts[0], left=self._places.get(name) not in heard)

    def name_leads(self, address: TcpAddress, host: str) -> None:
        """See Watcher: connections to where it has led so far are of no use."""
        for name in self._endpoints.singles(address):
            self._place(name, host, left=False)

    def _place(self, name: str, host: str, *, left: bool) -> None:
        """A member is at this address of its name: idle connections to another one are closed, those in use are worn, and
        checks are to speak of the new one. `left`: the name does not have the old one any more.
        """
        before, self._places[name] = self._places.get(name, ""), host
        backend = self.pool.backends.get(name)
        if backend is None or not before or before == host:
            return
        self._close_kept(backend)
        for upstream in list(self._open):
            if upstream.backend is backend and upstream.peer_name() != host:
                upstream.opened_at = -NEVER
                if upstream.bound and upstream.idle:
                    upstream.close()
        self._http2.leave_others(backend, host)
        if left:
            self._moving.leave(backend)
        self.pool.moved(backend, f"address {before} -> {host}" if left else "", self.clock.now)
        if self.checks is not None and left:
            self.checks.check_anew(name)
        elif self.checks is not None:
            self.checks.check_soon(name)
        if self.agents is not None and left:
            self.agents.check_anew(name)

    @property
    def unresolved(self) -> list[str]:
        """The names of backends of which the resolver has said nothing yet."""
        return self.runtime.names.unheard(self)

    def command(self, name: str, admin: AdminState, now: float | None = None, by: str = "") -> None:
        """Set what the operator wants of a backend; of a name it is wanted of all its endpoints, those to come among them.
        `by`: see `Pool.command`. KeyError when there is no such backend.
        """
        if not self._endpoints.knows(name):
            raise KeyError(f"no backend is called {name}")
        self.expect(name, admin, now, by)

    def expect(self, name: str, admin: AdminState, now: float | None = None, by: str = "") -> None:
        """Set what the operator wants of a backend as above, or of an endpoint that may come."""
        now = self.clock.read() if now is None else now
        self.pool.command_resting(name, admin, by)
        names = list(self._endpoints.command(name, admin, by))
        for one in names:
            self.pool.command(self.pool.backends[one], admin, now, by)
        self.point_checks()
        for checks in (self.checks, self.agents) if admin is AdminState.READY else ():
            if checks is not None:
                for one in names:
                    checks.check_soon(one)  # what is known of it may be old: in maintenance it was not asked

    def weighed(self, name: str, by: str) -> None:
        """Somebody has set a backend's weight, which is that of all its endpoints: who, and why."""
        now = self.clock.read()
        for one in self._endpoints.members_of(name):
            self.pool.weighed(self.pool.backends[one], now, by)

    def observe_probe(
        self,
        name: str,
        passed: bool,
        reason: str,
        now: float | None = None,
        *,
        silent: bool = False,
        asked_at: float | None = None,
    ) -> None:
        """Take the result of a probe of this backend; nothing if it has been removed meanwhile. `silent`: it failed
        without an answer. `asked_at`: when it was made.
        """
        backend = self.pool.backends.get(name)
        if backend is not None:
            now = self.clock.read() if now is None else now
            if asked_at is not None:
                backend.totals.checked(now - asked_at, passed=passed)
            self.pool.observe_probe(backend, passed, reason, now, silent=silent, asked_at=asked_at)

    def hear_agent(self, name: str, line: bytes | None) -> None:
        """Take what the agent of this backend says, None where it was asked and not heard; nothing if it has been removed meanwhile."""
        backend = self.pool.backends.get(name)
        if backend is not None and self.pool.settings.agents:
            self.pool.hear_agent(backend, None if line is None else read_agent(line), self.clock.read())
            self.freed()  # its limit may be another one

    def hear_busy(self, name: str, busy: bool, reason: str) -> None:
        """A check of this backend has passed, by a status that means busy or by another one."""
        backend = self.pool.backends.get(name)
        if backend is not None:
            self.pool.hear_busy(backend, busy, reason, self.clock.read())

    def hear_elsewhere(self, event: BackendEjected | BackendReturned) -> None:
        """Take what the traffic of another process has found out, see `Pool`."""
        self.pool.hear_elsewhere(event, self.clock.read())
        self.freed()

    def look_elsewhere(self) -> None:
        """See whether other processes have left places free, for those that wait or come."""
        if self.pool.counts.bounded:
            self.pool.look_elsewhere()
            if self.waiting:
                self.clock.read()
                self.freed()

    def tick(self) -> None:
        """Do what time makes due: trials of ejected backends, waits in the queue, names to be resolved anew; a few times a
        second is enough.
        """
        self.pool.tick(self.clock.read())
        self.runtime.names.refresh()
        self.freed()

    def configure(
        self,
        rules: UpstreamRules,
        settings: PoolSettings,
        backends: Iterable[BackendSpec] | None = None,
        queue: Queueing = NO_LANES,
        affinity: Affinity | None = None,
    ) -> None:
        """Replace the rules and settings: they are read at each claim, probe or connect. And the backends, if there are
        others: with the rules at once, since what both say together may be what they said before.
        """
        if rules.protocol != self.upstream_rules.protocol:
            self._speak(rules.protocol)
        self.upstream_rules = rules
        self.queueing = queue
        if settings != self.pool.settings:
            self.pool.configure(settings, self.clock.read())
        self.bonds = None if affinity is None else Bonds(affinity, self.pool, self.bonds, self.runtime.share.secret)
        if backends is not None:
            self.update(backends)
        elif (rules.resolve, rules.family) != self._endpoints.by:
            self.update(self._specs)

    def greet_by(self, greetings: Greetings | None) -> None:
        """Greet backends like this from now on. Connections that were greeted otherwise are used for no other request."""
        if greetings is self.greetings:
            return
        self.greetings = greetings
        self._wear_out()

    def _wear_out(self) -> None:
        """Let no connection that there is be used for any other request."""
        self.close_idle()
        for upstream in list(self._open):
            upstream.opened_at = -NEVER
            if upstream.bound and upstream.idle:
                upstream.close()
        self._http2.leave()

    def _speak(self, protocol: str) -> None:
        """Speak this with backends from now on. What runs goes on as it began."""
        self.http2 = None if protocol == H1 else self._http2
        self._wear_out()

    def check_by(self, checks: Checking | None) -> None:
        """Have these checks from now on, or none; those before them end."""
        if self.checks is not None:
            self.checks.stop()
        self.checks = checks
        self.point_checks()
        self._watch_closely()

    def ask_agents_by(self, agents: Checking | None) -> None:
        """Have agents asked at a port of their own by these checks from now on, or by none; those before them end."""
        if self.agents is not None:
            self.agents.stop()
        self.agents = agents
        self.point_checks()

    def point_checks(self) -> None:
        """Tell the checks whom to ask, and where: members have changed, or their port has, or they are new. Who is in maintenance
        is not asked, and a unix socket has no port for an agent.
        """
        backends = self.pool.backends
        asked = [one for one in self._members if backends[one.name].admin is not AdminState.MAINT]
        if self.checks is not None:
            port = self.checks.port
            self.checks.update((one.name, one.check_address(port)) for one in asked)
        if self.agents is not None and (port := self.agents.port) is not None:
            places = [(one.name, one.agent_address(port)) for one in asked]
            self.agents.update((name, place) for name, place in places if place is not None)

    def retire(self) -> None:
        """The pool goes: it has no members any more, whoever waits for one is refused at once, and what runs goes on.
        From now on it tells no news.
        """
        self._retired = True
        self.update(())
        self.check_by(None)
        self.ask_agents_by(None)
        for ticket, refusal in self.pool.refuse_waiting():
            waiter = self.waiting.pop(ticket, None)
            if waiter is not None:
                waiter.granted(ticket, refusal)
        self._nobody_waits()

    @property
    def over(self) -> bool:
        """Whether nothing of a pool that went is left."""
        return self._retired and not (self.pool.leaving or self._open or self._http2.open or self.waits.waiting)

    def snapshot(self) -> PoolSnapshot:
        """The state of the pool and its backends now."""
        return self.pool.snapshot()

    def _heard(self, event: Event) -> None:
        """Handle an event of the pool: first it is counted, then comes what follows from it for connections and checks, then the
        news.
        """
        self._count(event)
        if isinstance(event, (BackendDown, BackendEjected)):
            self._forget_idle_timeout(event.backend_name)
            if (name := self._endpoints.name_of(event.backend_name)) is not None:
                self.runtime.names.failed(name)  # it may have moved
            if isinstance(event, BackendEjected) and event.check_wanted and self.checks is not None:
                self.checks.check_soon(event.backend_name)
            if isinstance(event, BackendDown):
                self._fallen_silent(self.pool.backends[event.backend_name], event.reason)
        elif isinstance(event, (BackendChanged, BackendRemoved)):
            self._close_removed()
        if not self._retired:
            self._hear(event)
        self._watch_closely()
        self.freed()

    def _count(self, event: Event) -> None:
        """Count a change of a backend's state."""
        to = state_after(event)
        if to and isinstance(
            event, (AdminChanged, AgentChanged, BackendDown, BackendEjected, BackendReturned, BackendUp)
        ):
            backend = self.pool.backends.get(event.backend_name)
            if backend is not None:
                backend.totals.changed(to)
                if isinstance(event, BackendEjected):
                    backend.totals.ejections[event.rule] += 1
        elif isinstance(event, EjectionWithheld):
            backend = self.pool.backends.get(event.backend_name)
            if backend is not None:
                backend.totals.withheld += 1

    def _fallen_silent(self, backend: Backend, reason: str) -> None:
        """Probes took a backend out. Was it silent (frozen, gone), nothing is kept to it, and what it owes is moved."""
        if backend.health.silent:
            for kept in self._kept_to(backend):  # what was learnt of how it keeps them holds on
                idle, kept.idle = kept.idle, []
                for upstream in idle:
                    upstream.close()
            self._http2.leave(backend)
            if self.pool.settings.move:
                self._moving.begin(backend, reason)

    def _watch_closely(self) -> None:
        """Tell the checks who is out, and whether somebody waits."""
        wanted = [one for one in self.pool.backends.values() if one.wanted] if self.checks is not None else []
        if self.checks is not None:
            out = [one.name for one in wanted if one.ejection.active or not one.health.up or one.agent.away]
            self.checks.watch_closely(out, awaited=bool(self.waiting))
        if self.agents is not None:
            self.agents.watch_closely([one.name for one in wanted if one.agent.away], awaited=bool(self.waiting))

    # The queue.

    @property
    def full_status(self) -> int:
        """The status of requests that find it full, or have waited for too long."""
        return self.queueing.full_status

    def wait(self, ticket: Ticket, waiter: Waiter) -> None:
        """Tell `waiter` when the pool has a verdict on its ticket."""
        self.waiting[ticket] = waiter
        self._serve_when_due()
        if len(self.waiting) == 1:
            self._watch_closely()

    def leave(self, ticket: Ticket) -> None:
        """Forget a ticket: its waiter is told nothing any more."""
        if self.waiting.pop(ticket, None) is not None and not self.waiting:
            self._nobody_waits()

    def _nobody_waits(self) -> None:
        if self._serve_timer is not None:
            self._serve_timer.cancel()
            self._serve_timer = None
        self._serve_at = NEVER
        self._watch_closely()

    def _serve_when_due(self) -> None:
        """Serve the queue when time alone gives a verdict: a wait is over, a trial due."""
        due = self.pool.grants_due
        if due >= self._serve_at:
            return  # a timer that runs before is a look too many
        if self._serve_timer is not None:
            self._serve_timer.cancel()
        self._serve_at = due
        self._serve_timer = self.runtime.later(max(due - self.clock.now, 0.0), self._time_is_over)

    def _time_is_over(self) -> None:
        self._serve_timer = None
        self._serve_at = NEVER
        self.clock.read()
        self.freed()

    def freed(self) -> None:
        """A backend may have room again: serve the queue, after everything else of this turn."""
        if self.waiting and not self._serving:
            self._serving = True
            self.runtime.soon(self._serve)

    def _serve(self) -> None:
        self._serving = False
        for ticket, verdict in self.pool.grants(self.clock.now):
            waiter = self.waiting.pop(ticket, None)
            if waiter is not None:
                waiter.granted(ticket, verdict)
            elif isinstance(verdict, Lease):
                # One that was served before it has made this one leave.
                self.pool.settle(verdict, Outcome.CANCELLED, self.clock.now)
        if self.waiting:
            self._serve_when_due()
        else:
            self._nobody_waits()

    # Requests that nobody waits for any more.

    def holds(self, upstream: Upstream) -> bool:
        """Whether the request on a connection holds its place at the backend when nobody waits for it any more: it is there as a whole."""
        return self.pool.settings.abandoned_s > 0 and upstream.backend.limit > 0 and upstream.sent_all

    def leave_behind(self, upstream: Upstream, attempt: AttemptRecord) -> Abandoned:
        """The client of an attempt has gone, and its backend may be at work on it: its place is held until that is over."""
        return self._leave_behind(upstream, attempt)

    def leave_at_work(self, upstream: Upstream) -> bool:
        """See Keeper. Its place is held until that is over, whatever the attempt has ended in; False where no place is held, or that
        time is over.
        """
        requester = upstream.requester
        if isinstance(requester, Abandoned) or not self.holds(upstream):
            return False
        self.pool.hold(upstream.backend)
        self._leave_behind(upstream, None)
        return True

    def _leave_behind(self, upstream: Upstream, attempt: AttemptRecord | None) -> Abandoned:
        due = self.clock.now + self.pool.settings.abandoned_s
        one = Abandoned(upstream, due, self._abandoned_ended)
        self.abandoned[one] = attempt
        one.begin()
        return one

    def _abandoned_ended(self, one: Abandoned) -> None:
        attempt = self.abandoned.pop(one)
        if attempt is None:
            self.pool.let_go(one.upstream.backend)
        else:
            outcome = attempt.outcome
            assert outcome is not None, "it has ended for its request"
            self.pool.settle(attempt.lease, outcome, self.clock.now, attempt.detail)
        if self.waiting:
            self.freed()

    # Requests that were mirrored from other pools.

    def cut_mirrored(self, backend: Backend, detail: str) -> None:
        """Take back what was mirrored to this backend."""
        for one in [one for one in self.mirrors if one.backend is backend]:
            one.cut(detail)

    # Connections.

    def take(self, place: object, repeatable: bool, now: float, *, first: bool = False) -> Upstream | None:
        """Take an idle connection, the one used last, or None when a new one has to be made.

        A request that is not `repeatable` takes one only if it was in use within `reuse_unsafe_within_s`: the backend
        may just be closing it (keep-alive race), which a retry would have to repair, and here none is allowed. Unless
        `reuse_always`, it takes none of a backend that has closed one early; nor, where it is its client's `first`, of one
        that is not known to keep them: its client has a new connection and no reason to expect a race (`http-reuse safe`).

        `place` is the backend; behind a dial that greets it may be another one, see `take_greeted`.
        """
        kept = self._kept.get(place)
        if kept is None or not kept.idle:
            return None if self.http2 is None else self.http2.take(place, now)
        upstream = kept.idle[-1]
        if now >= upstream.reuse_until:
            return None  # its deadline closes it, and those below it
        idle_s = now - upstream.idle_since
        if not repeatable:
            rules = self.upstream_rules
            if idle_s >= rules.reuse_unsafe_within_s:
                return None
            if not rules.reuse_always and (now < kept.wary_until or (first and not kept.trusted(now))):
                return None
        if idle_s >= EARLY_S:
            kept.saw_kept(now)
        upstream.idle_s = idle_s
        return kept.idle.pop()

    def take_greeted(
        self, backend: Backend, requester: Requester, repeatable: bool, now: float, *, first: bool = False
    ) -> Upstream | None:
        """Take an idle connection as above that is good for the name that a request is for, where `take` found none for the backend."""
        greetings = self.greetings
        if greetings is None:
            return None
        place = greetings.place(backend, requester.server_name())
        return None if place is backend else self.take(place, repeatable, now, first=first)

    def put(self, upstream: Http1Upstream, now: float, announced_s: int) -> bool:
        """Keep a connection alive whose exchange is over, until `upstream.reuse_until`; False, and it is to be closed,
        when it is worn or not wanted. `announced_s`: the idle timeout that the backend announces, -1 if it does not.
        """
        rules = self.upstream_rules
        if (
            self._closed
            or upstream.backend.removed
            or rules.max_idle == 0
            or upstream.requests >= rules.max_requests
            or now - upstream.opened_at >= rules.max_age_s
            or announced_s == 0
        ):
            return False
        kept = self._kept.get(upstream.place)
        if kept is None:
            kept = self._kept[upstream.place] = Kept(upstream.backend)
        elif now >= kept.learned_until:
            kept.idle_timeout_s = kept.learned_until = NEVER
        idle_timeout_s = min(rules.idle_s, kept.idle_timeout_s)
        if announced_s > 0:
            idle_timeout_s = min(idle_timeout_s, announced_s * IDLE_TIMEOUT_MARGIN)
        upstream.idle_since = now
        upstream.reuse_until = now + idle_timeout_s
        kept.idle.append(upstream)
        most = kept.most(now, upstream.backend.in_flight) if rules.max_idle == AUTO else rules.max_idle
        if len(kept.idle) > most:
            kept.idle.pop(0).close()
        return True

    def hold(self, upstream: Http1Upstream, now: float, announced_s: int) -> bool:
        """Let a connection live whose exchange is over, and which is its client's alone (NTLM): as long as that client's own,
        whatever its age and the number of its requests, since somebody is logged in on it. Not so where it is its client's for its PROXY
        header alone. False, and it is to be closed,
        when its backend was removed, or will close it at once; `announced_s` as for `put`.
        """
        if self._closed or upstream.backend.removed or upstream.opened_at == -NEVER or announced_s == 0:
            return False
        upstream.idle_since = now
        upstream.reuse_until = now + announced_s * IDLE_TIMEOUT_MARGIN if announced_s > 0 else NEVER
        if upstream.proxied:
            rules = self.upstream_rules
            worn = upstream.requests >= rules.max_requests or now - upstream.opened_at >= rules.max_age_s
            if worn or rules.max_idle == 0:
                return False
            upstream.reuse_until = min(upstream.reuse_until, now + rules.idle_s)
        self._bound[upstream] = None
        return True

    def closed_by_backend(self, upstream: Http1Upstream, idle_s: float, now: float) -> None:
        """Learn a backend's idle timeout: it has closed a connection that was idle for so long, perhaps just when it
        was used again (keep-alive race).

        Nothing is learnt while it keeps another one that has been idle for longer.
        """
        kept = self._kept.get(upstream.place)
        if kept is None or upstream in self._bound:
            return  # a login may have ended, which says nothing of others
        if idle_s < EARLY_S:
            kept.saw_early_close(now)
        if idle_s < LEAST_S:
            return
        if kept.idle and kept.idle[0] is not upstream and now - kept.idle[0].idle_since > idle_s:
            return
        idle_timeout_s = idle_s * IDLE_TIMEOUT_MARGIN
        if idle_timeout_s < kept.idle_timeout_s:
            kept.idle_timeout_s = idle_timeout_s
            kept.learned_until = now + LEARNED_FOR_S
            for one in kept.idle:
                one.keep_until(min(one.reuse_until, one.idle_since + idle_timeout_s))

    def dial(self, backend: Backend, requester: Requester, due: float) -> Attempt:
        """Have a way to a backend, until `due` at the latest; calls `requester.connected` or `unreachable`, once."""
        if self.http2 is None:
            return self.connect(backend, requester, due)
        greetings = self.greetings
        place = backend if greetings is None else greetings.place(backend, requester.server_name())
        return self.http2.dial(backend, requester, due, place)

    def connect(self, backend: Backend, requester: Requester, due: float) -> Attempt:
        """Make a connection to a backend, of HTTP/1.1 or to be given away, as `dial` does."""
        upstream = Http1Upstream(self, backend, requester)

        def failed(outcome: Outcome, detail: str) -> None:
            upstream.waiter = None
            requester.unreachable(outcome, detail)

        rules = self.upstream_rules
        within_s = min(rules.connect_s, max(due - self.clock.now, 0.0))
        keepalive = rules.tcp_keepalive
        if self.greetings is None and keepalive is None:
            return self.runtime.dial.dial(backend.address, upstream, within_s, failed)
        greeting = None if self.greetings is None else self._greeting(self.greetings, backend, requester, upstream)
        return self.runtime.dial.dial(backend.address, upstream, within_s, failed, 0, greeting, keepalive)

    def _greeting(
        self, greetings: Greetings, backend: Backend, requester: Requester, upstream: Http1Upstream
    ) -> Greeting:
        """What comes before the first request of a new connection."""
        host, header = requester.server_name(), b""
        if greetings.proxy:
            upstream.bound = True
            header = requester.proxy_header(greetings.proxy)
        upstream.greeted_by = greetings
        upstream.place = greetings.place(backend, host)
        return greetings.greeting(backend, host, header)

    def greeting_of(self, backend: Backend, requester: Requester) -> Greeting | None:
        """See Keeper."""
        greetings = self.greetings
        return None if greetings is None else greetings.greeting(backend, requester.server_name(), b"")

    def may_take_own(self, upstream: Upstream, backend: Backend, repeatable: bool, now: float) -> bool:
        """Whether a client's own connection, which is its own for its PROXY header alone, is good for its request to this backend; what
        must not be sent twice takes it only for as long as `take` would.
        """
        if not isinstance(upstream, Http1Upstream) or upstream.backend is not backend or now >= upstream.reuse_until:
            return False
        return repeatable or now - upstream.idle_since < self.upstream_rules.reuse_unsafe_within_s

    def opened(self, upstream: Http1Upstream, took_s: float) -> None:
        """A connection is up, and is counted. One that would be made otherwise now serves once."""
        self._open[upstream] = None
        if not self.counts(upstream.backend, upstream.peer_name(), took_s, upstream.greeted_by):
            upstream.opened_at = -NEVER

    def counts(self, backend: Backend, leads_to: str, took_s: float, greetings: Greetings | None) -> bool:
        """See Keeper: its backend's name leads elsewhere by now, or a reload has another greeting in force."""
        backend.totals.connections += 1
        self.pool.totals.connect.add(took_s)
        place = self._places.get(backend.name)
        return (place is None or leads_to == place) and greetings is self.greetings

    def forget(self, upstream: Http1Upstream) -> None:
        """A connection is gone, or about to go."""
        self._open.pop(upstream, None)
        if upstream.bound:
            self._bound.pop(upstream, None)
        kept = self._kept.get(upstream.place)
        if kept is not None and upstream in kept.idle:
            kept.idle.remove(upstream)
            if self.clock.now - upstream.idle_since >= EARLY_S:
                kept.saw_kept(self.clock.now)

    def _forget_idle_timeout(self, name: str) -> None:
        """Forget the idle timeout of the backend of this name: it went away, and may come back configured otherwise."""
        for kept in self._kept.values():
            if kept.backend.name == name:
                kept.idle_timeout_s = kept.learned_until = NEVER

    def close_idle(self) -> None:
        """Close all idle connections, and forget what was learnt about their backends."""
        for place in list(self._kept):
            self._close_at(place)

    def _close_removed(self) -> None:
        """Close the idle connections to where a backend was that has been removed, or has another address now."""
        for place in [place for place, kept in self._kept.items() if kept.backend.removed]:
            self._close_at(place)
        if self.greetings is not None:
            self.greetings.forget_removed()
        self._http2.leave_removed()
        for upstream in [one for one in self._bound if one.backend.removed and one.idle]:
            upstream.close()

    def _kept_to(self, backend: Backend) -> list[Kept]:
        """What is kept to a backend, by each name."""
        return [kept for kept in self._kept.values() if kept.backend is backend]

    def _close_kept(self, backend: Backend) -> None:
        """Close the idle connections to a backend, and forget what was learnt of it."""
        for place in [place for place, kept in self._kept.items() if kept.backend is backend]:
            self._close_at(place)

    def _close_at(self, place: object) -> None:
        for upstream in self._kept.pop(place).idle:
            upstream.close()

    def close_all(self) -> None:
        """Close all connections, also those in use; none is kept from now on."""
        self._closed = True
        if self._serve_timer is not None:
            self._serve_timer.cancel()
            self._serve_timer = None
        self._moving.stop()
        self.waits.stop()
        self.close_idle()
        for mirror in list(self.mirrors):
            mirror.cut("the pool is closed")
        for upstream in list(self._open):
            upstream.abandon()
        self._http2.abandon()
        for one in list(self.abandoned):
            one.end()

    def broken(self) -> list[str]:
        """Of what must be so the identities that do not hold; none, always: O(backends and tickets)."""
        found = self.pool.broken(len(self.waiting))
        if self.idle > self.open:
            found.append(f"pool {self.name}: {self.idle} of {self.open} connections are idle")
        return found

    @property
    def idle(self) -> int:
        """How many idle connections are kept: O(backends)."""
        return sum(len(kept.idle) for kept in self._kept.values())

    def connections(self) -> dict[Backend, tuple[int, int]]:
        """The connections to each backend: (open, idle). O(connections)."""
        counts: dict[Backend, tuple[int, int]] = {}
        for backend, is_idle in [
            *((one.backend, one.idle) for one in self._open),
            *((one.backend, one.idle) for one in self._http2.connections),
        ]:
            opened, idle = counts.get(backend, (0, 0))
            counts[backend] = opened + 1, idle + is_idle
        return counts

    def shared(self) -> dict[Backend, tuple[int, int]] | None:
        """Of the connections to each backend those of HTTP/2, and how many calls run on them; None where it is not spoken. O(connections)."""
        if self.http2 is None and not self._http2.open:
            return None
        counts: dict[Backend, tuple[int, int]] = {}
        for one in self._http2.connections:
            opened, calls = counts.get(one.backend, (0, 0))
            counts[one.backend] = opened + 1, calls + len(one.calls)
        return counts

    def wires(self) -> dict[Backend, Wires]:
        """The connections to each backend by what is spoken on them: O(connections). Of who has none, and was asked nothing, nothing is said."""
        chosen = self._http2.chosen() if self.upstream_rules.protocol == EITHER else {}
        shared = self.shared() or {}
        found: dict[Backend, Wires] = {}
        for backend, (opened, _) in self.connections().items():
            connections, calls = shared.get(backend, (0, 0))
            found[backend] = Wires(opened - connections, connections, calls, chosen.get(backend, ""))
        for backend, chose in chosen.items():
            found.setdefault(backend, Wires(0, 0, 0, chose))
        return found

    def _ways(self) -> list[Upstream]:
        """The connections of HTTP/1.1 and the calls of HTTP/2: O(both)."""
        return [*self._open, *self._http2.calls]

    @property
    def open(self) -> int:
        """How many connections are open, idle or in use."""
        return len(self._open) + self._http2.open

    def __repr__(self) -> str:
        return f"<Cluster {self.name}: {self.open} connections open, {self.idle} idle, {self.pool!r}>"
