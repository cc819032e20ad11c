"""A cluster (Envoy's word): a pool at work, with its backends' connections and checks. The one owner of membership."""

from collections.abc import Callable, Iterable
from typing import Final, Protocol

from twisted_lb.core.address import Address
from twisted_lb.core.backend import AdminState, Backend, BackendSpec
from twisted_lb.core.events import BackendChanged, BackendDown, BackendEjected, BackendRemoved, Event
from twisted_lb.core.lease import Lease
from twisted_lb.core.never import NEVER
from twisted_lb.core.outcome import Outcome, Refusal
from twisted_lb.core.pickers.base import Policy
from twisted_lb.core.pool import Pool
from twisted_lb.core.queue import Ticket
from twisted_lb.core.settings import PoolSettings
from twisted_lb.core.snapshot import PoolSnapshot
from twisted_lb.net.dialer import Attempt
from twisted_lb.net.runtime import Runtime
from twisted_lb.net.settings import UpstreamRules
from twisted_lb.net.upstream import Keeper, Requester, Upstream

# Of the time after which a backend closes an idle connection, announced or seen, this part is used: the rest is for what
# is on its way when it does. (gunicorn closes after 2 s, uvicorn and Node after 5.)
_IDLE_TIMEOUT_MARGIN: Final = 0.8
# How long what was seen is believed: the backend may be configured anew.
_LEARNED_FOR_S: Final = 600.0
# A connection that is closed sooner was not closed for being idle, but by a worker that ends.
_LEAST_S: Final = 0.1


class _Kept:
    """The idle connections to one backend, the one used last at the end, and how long it lets them be."""

    def __init__(self) -> None:
        self.idle: list[Upstream] = []
        self.idle_timeout_s: float = NEVER
        self.learned_until: float = NEVER


class Waiter(Protocol):
    """Whoever waits in the pool's queue."""

    def granted(self, ticket: Ticket, verdict: Lease | Refusal) -> None:
        """The wait is over: a backend, or nobody."""


class Checking(Protocol):
    """The checks of a cluster's backends, as far as it steers them."""

    def update(self, backends: Iterable[tuple[str, Address]]) -> None:
        """Check just these from now on."""

    def check_soon(self, name: str) -> None:
        """Check this backend at once."""

    def stop(self) -> None:
        """End all checks."""


class Cluster(Keeper):
    """One pool's members, the connections to them, and their checks: a change of membership is told to all three here.

    Idle connections are kept by backend, the youngest on top: the others grow old and are closed (LIFO). None is used again
    when the backend is about to close it: after 0.8 of the time that it announces (`Keep-Alive: timeout=N`), or after 0.8 of
    the time after which it was seen to close an idle one in the last 10 minutes. `hear` is told every event, after the
    cluster has done what follows from it; `checks` is None where nobody checks.
    """

    def __init__(
        self,
        name: str,
        runtime: Runtime,
        rules: UpstreamRules,
        policy: Policy,
        settings: PoolSettings,
        hear: Callable[[Event], None],
    ) -> None:
        super().__init__(rules, runtime.clock, runtime.deadlines)
        self.name: Final = name
        self.runtime: Final = runtime
        self.pool: Final = Pool(name, policy, settings, runtime.stream(f"pool {name}"), self._heard)
        self.checks: Checking | None = None
        self._hear: Final = hear
        self._kept: dict[Backend, _Kept] = {}
        self._open: set[Upstream] = set()
        self._closed: bool = False
        self.waiting: dict[Ticket, Waiter] = {}
        self._serving: bool = False

    # Members.

    def update(self, backends: Iterable[BackendSpec], now: float | None = None) -> None:
        """Have just these backends from now on; see `Pool.update`. Those that are new are checked and used, those that are gone
        get no request more, and what is kept of connections to them is closed.
        """
        specs = list(backends)
        self.pool.update(specs, self.clock.read() if now is None else now)
        if self.checks is not None:
            self.checks.update((spec.name, spec.address) for spec in specs)

    def command(self, name: str, admin: AdminState, now: float | None = None) -> None:
        """The operator's word on a backend; KeyError when there is no such backend."""
        backend = self.pool.backends.get(name)
        if backend is None:
            raise KeyError(f"no backend is called {name}")
        self.pool.command(backend, admin, self.clock.read() if now is None else now)

    def observe_probe(self, name: str, passed: bool, reason: str, now: float | None = None) -> None:
        """A check of this backend ended; nothing if it has been removed meanwhile."""
        backend = self.pool.backends.get(name)
        if backend is not None:
            self.pool.observe_probe(backend, passed, reason, self.clock.read() if now is None else now)

    def tick(self) -> None:
        """Notice what time alone has changed; a few times a second is enough."""
        self.pool.tick(self.clock.read())
        self.freed()

    def configure(self, rules: UpstreamRules, settings: PoolSettings) -> None:
        """Go by these from now on: they are read at each claim, check, or connect."""
        self.upstream_rules = rules
        if settings != self.pool.settings:
            self.pool.configure(settings, self.clock.read())

    def snapshot(self) -> PoolSnapshot:
        """How everything stands."""
        return self.pool.snapshot()

    def _heard(self, event: Event) -> None:
        """An event of the pool: what follows from it for connections and checks, then the news."""
        if isinstance(event, (BackendDown, BackendEjected)):
            self._forget_idle_timeout(event.backend_name)
            if isinstance(event, BackendEjected) and event.check_wanted and self.checks is not None:
                self.checks.check_soon(event.backend_name)
        elif isinstance(event, (BackendChanged, BackendRemoved)):
            self._close_removed()
        self._hear(event)
        self.freed()

    # The queue.

    def wait(self, ticket: Ticket, waiter: Waiter) -> None:
        """Tell `waiter` when the pool has a verdict on its ticket."""
        self.waiting[ticket] = waiter

    def leave(self, ticket: Ticket) -> None:
        """Tell it nothing any more."""
        self.waiting.pop(ticket, None)

    def freed(self) -> None:
        """A backend may have room again: serve the queue, when all others had their turn."""
        if self.waiting and not self._serving:
            self._serving = True
            self.runtime.soon(self._serve)

    def _serve(self) -> None:
        self._serving = False
        for ticket, verdict in self.pool.grants(self.clock.now):
            waiter = self.waiting.pop(ticket, None)
            if waiter is not None:
                waiter.granted(ticket, verdict)

    # Connections.

    def take(self, backend: Backend, repeatable: bool, now: float) -> Upstream | None:
        """The connection used last, or None when a new one has to be made.

        A request that is not `repeatable` takes one only if it was in use this very second: the chance that the backend
        is just closing it is what a retry would have to repair, and here none is allowed.
        """
        kept = self._kept.get(backend)
        if kept is None or not kept.idle:
            return None
        upstream = kept.idle[-1]
        if now >= upstream.reuse_until:
            return None  # its deadline closes it, and those below it
        if not repeatable and now - upstream.idle_since >= self.upstream_rules.reuse_unsafe_within_s:
            return None
        upstream.idle_s = now - upstream.idle_since
        return kept.idle.pop()

    def put(self, upstream: Upstream, now: float, announced_s: int) -> bool:
        """Keep a connection whose exchange is over, until `upstream.reuse_until`; False, and it is to be closed, when it is
        worn or not wanted. `announced_s`: how long the backend says that it keeps it, -1 if it does not say.
        """
        rules = self.upstream_rules
        if (
            self._closed
            or upstream.backend.removed
            or rules.max_idle <= 0
            or upstream.requests >= rules.max_requests
            or now - upstream.opened_at >= rules.max_age_s
            or announced_s == 0
        ):
            return False
        kept = self._kept.get(upstream.backend)
        if kept is None:
            kept = self._kept[upstream.backend] = _Kept()
        elif now >= kept.learned_until:
            kept.idle_timeout_s = kept.learned_until = NEVER
        idle_timeout_s = min(rules.idle_s, kept.idle_timeout_s)
        if announced_s > 0:
            idle_timeout_s = min(idle_timeout_s, announced_s * _IDLE_TIMEOUT_MARGIN)
        upstream.idle_since = now
        upstream.reuse_until = now + idle_timeout_s
        kept.idle.append(upstream)
        if len(kept.idle) > rules.max_idle:
            kept.idle.pop(0).close()
        return True

    def closed_by_backend(self, upstream: Upstream, idle_s: float, now: float) -> None:
        """The backend has closed a connection that was idle for so long, perhaps just when it was used again.

        That tells how long it keeps them, unless it keeps one that has been idle for longer.
        """
        kept = self._kept.get(upstream.backend)
        if kept is None or idle_s < _LEAST_S:
            return
        if kept.idle and kept.idle[0] is not upstream and now - kept.idle[0].idle_since > idle_s:
            return
        idle_timeout_s = idle_s * _IDLE_TIMEOUT_MARGIN
        if idle_timeout_s < kept.idle_timeout_s:
            kept.idle_timeout_s = idle_timeout_s
            kept.learned_until = now + _LEARNED_FOR_S
            for one in kept.idle:
                one.keep_until(min(one.reuse_until, one.idle_since + idle_timeout_s))

    def dial(self, backend: Backend, requester: Requester, due: float) -> Attempt:
        """Make a connection, until `due` at the latest: `requester.connected` or `requester.unreachable` is called, once."""
        upstream = Upstream(self, backend, requester)

        def failed(outcome: Outcome, detail: str) -> None:
            upstream.waiter = None
            requester.unreachable(outcome, detail)

        left_s = max(due - self.clock.now, 0.0)
        return self.runtime.dial.dial(backend.address, upstream, min(self.upstream_rules.connect_s, left_s), failed)

    def opened(self, upstream: Upstream) -> None:
        """A connection is up."""
        self._open.add(upstream)

    def forget(self, upstream: Upstream) -> None:
        """A connection is gone, or on its way."""
        self._open.discard(upstream)
        kept = self._kept.get(upstream.backend)
        if kept is not None and upstream in kept.idle:
            kept.idle.remove(upstream)
            if not kept.idle and kept.idle_timeout_s == NEVER:
                del self._kept[upstream.backend]

    def _forget_idle_timeout(self, name: str) -> None:
        """The backend of this name went away: whoever comes back under it may be configured otherwise."""
        for backend, kept in self._kept.items():
            if backend.name == name:
                kept.idle_timeout_s = kept.learned_until = NEVER

    def close_idle(self) -> None:
        """Close all idle connections, and forget what was learnt about their backends."""
        for backend in list(self._kept):
            self._close_kept(backend)

    def _close_removed(self) -> None:
        """Close the idle connections to where a backend was that has been removed, or has another address now."""
        for backend in [one for one in self._kept if one.removed]:
            self._close_kept(backend)

    def _close_kept(self, backend: Backend) -> None:
        for upstream in self._kept.pop(backend).idle:
            upstream.close()

    def close_all(self) -> None:
        """Close everything, also what is in use; nothing is kept from now on."""
        self._closed = True
        self.close_idle()
        for upstream in list(self._open):
            upstream.abandon()

    @property
    def idle(self) -> int:
        """How many are kept: O(backends)."""
        return sum(len(kept.idle) for kept in self._kept.values())

    @property
    def open(self) -> int:
        """How many are open, idle or in use."""
        return len(self._open)

    def __repr__(self) -> str:
        return f"<Cluster {self.name}: {self.open} connections open, {self.idle} idle, {self.pool!r}>"
