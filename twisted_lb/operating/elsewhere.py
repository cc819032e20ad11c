"""What other processes of the same balancer have counted, where workers move the requests: the operator shows it as their own."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from operator import add, sub
from typing import Any, Final, Protocol

from twisted.internet.defer import Deferred

from twisted_lb.admin.operator import BackendView, ConnectionsView, ListenerView, PoolView, Sample, WorkerView
from twisted_lb.core.histogram import NOTHING, Reading
from twisted_lb.core.measures import BackendMeasures, Beside, Measures, PoolMeasures, errors_in
from twisted_lb.core.outcome import Outcome
from twisted_lb.operating.seconds import COUNTED, QUANTILES, counted_in


class Elsewhere(Protocol):
    """The processes that move the requests of this balancer."""

    @property
    def measures(self) -> Measures:
        """What all of them have counted, as they have told last."""

    @property
    def beside(self) -> Beside:
        """What all of them have counted beside their data planes."""

    def workers(self) -> Sequence[WorkerView]:
        """Each of them."""

    def lags(self) -> Mapping[int, Reading]:
        """How late timers came at each of them that has told (loop lag), by its process."""

    @property
    def restarts(self) -> int:
        """How many were started in the place of one that had died."""

    def refresh(self, *, exemplars: bool) -> "Deferred[None]":
        """Ask them anew, for exemplars too if they are wanted; fires when they have told, or have had time enough."""

    def in_flight(self, pool: str, backend: str) -> int:
        """How many requests all have in flight at a backend, now; also at one that was removed."""

    @property
    def settled(self) -> bool:
        """Whether all go by what holds now."""

    def explain(self, request_id: str) -> "Deferred[Mapping[str, Any] | None]":
        """A request of any of them, explained."""

    def explained(self, kind: str, count: int, *, decisions: bool) -> "Deferred[Mapping[str, Any]]":
        """The last requests of a kind, of all of them, explained, and how many are held."""

    def explain_next(self, pool: str) -> "Deferred[Mapping[str, Any] | None]":
        """What the next claim in a pool would do at one of them; None when none says."""

    def route(
        self, method: str, url: str, headers: Sequence[tuple[str, str]], client: str, listener: str | None
    ) -> "Deferred[Mapping[str, Any] | None]":
        """Where a request would go that came to one of them; None when none says."""


class Counted:
    """The measures of other processes by name, at one moment."""

    def __init__(self, measures: Measures) -> None:
        self.listeners: Final = {one.name: one for one in measures.listeners}
        self.pools: Final = {one.name: one for one in measures.pools}
        self.backends: Final = {(pool.name, one.name): one for pool in measures.pools for one in pool.backends}

    @property
    def requests_by_route(self) -> dict[str, int]:
        """How many exchanges have begun, by route."""
        found: dict[str, int] = {}
        for listener in self.listeners.values():
            for one in listener.routes:
                found[one.route] = found.get(one.route, 0) + one.running + sum(one.requests)
        return found

    def requests_of_pool(self, pool: str) -> int:
        """How many attempts were made at the backends of a pool."""
        found = self.pools.get(pool)
        return 0 if found is None else sum(map(requests_of, found.backends))

    def tunnels(self, pool: str, backend: str) -> int:
        """How many requests at a backend have switched protocols."""
        found = self.backends.get((pool, backend))
        return 0 if found is None else found.tunnels

    def counts(self) -> dict[object, int]:
        """As `Meters.rates` has them."""
        found: dict[object, int] = {}
        for (pool, name), backend in self.backends.items():
            found["requests", pool, name] = requests_of(backend)
            found["failures", pool, name] = backend.failures
        for name, listener in self.listeners.items():
            found["accepted", name] = listener.connections_total
            found["refused", name] = sum(listener.refusals)
        for name, requests in self.requests_by_route.items():
            found["route", name] = requests
        return found

    def readings(self) -> dict[object, Reading | int]:
        """As `Meters.durations` has them."""
        found: dict[object, Reading | int] = {}
        for name, pool in self.pools.items():
            found["took", name] = sum(pool.durations, NOTHING)
        for (pool_name, name), backend in self.backends.items():
            found["took", pool_name, name] = backend.duration
            found["connected", pool_name, name] = backend.connections_total
            found["leases", pool_name, name] = sum(backend.outcomes)
        errors: dict[object, int] = {}
        for listener in self.listeners.values():
            for one in listener.routes:
                key = ("errors", one.route)
                errors[key] = errors.get(key, 0) + errors_in(one.requests)
        return found | errors

    # Views with what is counted here.

    def backend(self, view: BackendView) -> BackendView:
        """A backend's."""
        counted = self.backends.get((view.pool, view.backend))
        if counted is None:
            return view
        state, reason = view.state, view.reason
        if state == "ready" and view.limit and counted.in_flight >= view.limit:
            state, reason = "full", f"{counted.in_flight} of {view.limit} in flight"
        used, ignored = counted.reports or (0, 0)
        reported = view.reported
        return replace(
            view,
            in_flight=view.in_flight + counted.in_flight,
            tunnels=view.tunnels + counted.tunnels,
            requests=view.requests + requests_of(counted),
            failures=view.failures + counted.failures,
            outcomes={
                outcome.name: count
                for outcome in Outcome
                if (count := view.outcomes.get(outcome.name, 0) + counted.outcomes[outcome])
            },
            state=state,
            reason=reason,
            connections=view.connections.with_more(_connections_of(counted)),
            reported=None
            if reported is None
            else replace(
                reported,
                utilization=counted.utilization,
                used=reported.used + used,
                ignored=reported.ignored + ignored,
            ),
        )

    def pool(self, view: PoolView) -> PoolView:
        """A pool's, whose backends have theirs already."""
        counted = self.pools.get(view.name)
        if counted is None:
            return view
        return replace(
            view,
            queued=view.queued + counted.queued,
            in_flight=sum(one.in_flight for one in view.backends),
        )

    def listener(self, view: ListenerView) -> ListenerView:
        """A listener's."""
        counted = self.listeners.get(view.name)
        if counted is None:
            return view
        return replace(
            view,
            connections=view.connections + counted.connections,
            accepted=view.accepted + counted.connections_total,
        )

    def levels(self, here: Mapping[str, float | None]) -> dict[str, float | None]:
        """As `seconds.levels` has them, with those here."""
        found = dict(here)
        for name, more in (
            ("in_flight", sum(one.in_flight for one in self.pools.values())),
            ("queued", sum(one.queued for one in self.pools.values())),
            ("connections", sum(one.connections for one in self.listeners.values())),
        ):
            found[name] = (found.get(name) or 0) + more
        return found


class SecondsElsewhere:
    """Samples of other processes, one a second: see `Seconds`."""

    def __init__(self) -> None:
        self._before: Counted | None = None
        self._totals: Final[dict[str, int]] = dict.fromkeys(COUNTED, 0)
        self._flows: dict[tuple[str, str, str], tuple[int, ...]] = {}
        self._bytes: dict[tuple[str, str], tuple[int, int]] = {}

    def sample(self, now: Counted, levels: Mapping[str, float | None]) -> Sample:
        """What charts show of the second just gone."""
        before, self._before = self._before, now
        self._count(now)
        counts = {(name, ""): count for name, count in self._totals.items()}
        if before is None:
            return Sample(counts, now.levels(levels), {}, {f"{pool}/{name}": None for pool, name in now.backends})
        pools = list(now.pools.values())
        was = before.pools
        phases = {
            "total": [_gain(sum(one.durations, NOTHING), _durations(was.get(one.name))) for one in pools],
            "first_byte": [_gain(one.first_byte, _of(was.get(one.name), "first_byte")) for one in pools],
            "connect": [_gain(one.connect, _of(was.get(one.name), "connect")) for one in pools],
            "queue": [_gain(one.queue, _of(was.get(one.name), "queue")) for one in pools],
        }
        latencies_ms: dict[str, float | None] = {}
        for phase, gains in phases.items():
            together = sum(gains, NOTHING)
            latencies_ms |= {f"{phase}.{name}": _quantile_ms(together, q) for name, q in QUANTILES}
        backend_p99_ms = {
            f"{key[0]}/{key[1]}": _quantile_ms(
                _gain(one.duration, before.backends[key].duration if key in before.backends else NOTHING), 0.99
            )
            for key, one in now.backends.items()
        }
        return Sample(counts, now.levels(levels), latencies_ms, backend_p99_ms)

    def _count(self, now: Counted) -> None:
        flows: dict[tuple[str, str, str], tuple[int, ...]] = {}
        moved: dict[tuple[str, str], tuple[int, int]] = {}
        for listener in now.listeners.values():
            for one in listener.routes:
                flows[listener.name, one.route, one.pool] = counted_in(one.requests)
            for pool, up, down in listener.transferred:
                moved[listener.name, pool] = (up, down)
        added = [0] * len(COUNTED)
        for key, counts in flows.items():
            added[:-2] = list(map(add, added, map(sub, counts, self._flows.get(key, (0,) * len(counts)))))
        for of, (up, down) in moved.items():
            up_before, down_before = self._bytes.get(of, (0, 0))
            added[-2] += up - up_before
            added[-1] += down - down_before
        self._flows, self._bytes = flows, moved
        for name, more in zip(COUNTED, added, strict=True):
            self._totals[name] += max(more, 0)


def _connections_of(backend: BackendMeasures) -> ConnectionsView:
    every = backend.idle_connections + backend.busy_connections
    return ConnectionsView(every - backend.shared_connections, backend.shared_connections, backend.calls)


def requests_of(backend: BackendMeasures) -> int:
    """How many attempts were made there."""
    return sum(backend.outcomes) + backend.in_flight


def _durations(pool: PoolMeasures | None) -> Reading:
    return NOTHING if pool is None else sum(pool.durations, NOTHING)


def _of(pool: PoolMeasures | None, phase: str) -> Reading:
    reading = NOTHING if pool is None else getattr(pool, phase)
    assert isinstance(reading, Reading)
    return reading


def _gain(now: Reading, before: Reading) -> Reading:
    return now - before


def _quantile_ms(reading: Reading, q: float) -> float | None:
    found = reading.quantile(q)
    return None if math.isnan(found) or math.isinf(found) else round(found * 1000, 3)
