"""What is counted over time: rates and quantiles of the last minute, the loop's lag, values of the charts."""

from collections.abc import Collection
from typing import Any, Final

from twisted.internet.task import LoopingCall

from twisted_lb.admin.history import Rates, Windows
from twisted_lb.admin.loop_lag import LoopLag, Watchdog
from twisted_lb.admin.operator import Sample
from twisted_lb.core.backend import Backend
from twisted_lb.core.histogram import NOTHING, Reading
from twisted_lb.core.measures import errors_of
from twisted_lb.core.outcome import Outcome
from twisted_lb.data_plane import DataPlane

_SAMPLE_S: Final = 1.0
# Histograms are larger.
_SLOWLY_S: Final = 5.0


class Meters:
    """The meters of a data plane, read each second and, histograms, every five. `rates` by ("requests" or "failures", pool,
    backend), ("meant", pool, backend) in thousandths of requests, ("accepted", listener), ("route", route); `durations` by ("took", pool[, backend]), ("connected" or "leases",
    pool, backend), ("errors", route).
    """

    def __init__(self, time: Any) -> None:
        self._time: Final = time
        self._plane: DataPlane | None = None
        self.rates: Final = Rates(self._counts, time.seconds)
        self.durations: Final = Windows(self._readings, time.seconds)
        self._loops: Final = (
            (LoopingCall(self.rates.sample), _SAMPLE_S),
            (LoopingCall(self.durations.sample), _SLOWLY_S),
        )
        for loop, _ in self._loops:
            loop.clock = time
        # By pool and backend: how many requests it should have had, by the weights of each second.
        self._meant: Final[dict[tuple[str, str], float]] = {}
        self._asked: Final[dict[str, int]] = {}  # by pool, at the last look
        self._watchdog: Watchdog | None = None
        self._lag: LoopLag | None = None

    def begin(self, plane: DataPlane, *, watched: bool) -> None:
        """The data plane is there. `watched`: a turn that takes long is worth a line."""
        self._plane = plane
        for loop, interval_s in self._loops:
            loop.start(interval_s)
        watchdog = self._watchdog = Watchdog() if watched else None
        self._lag = LoopLag(self._time, _nothing if watchdog is None else watchdog.beat)
        self._lag.start()
        if watchdog is not None:
            watchdog.start()

    def end(self) -> None:
        """It is gone."""
        for loop, _ in self._loops:
            if loop.running:
                loop.stop()
        if self._lag is not None:
            self._lag.stop()
        if self._watchdog is not None:
            self._watchdog.stop()
            self._watchdog = None
        self._plane = None

    @property
    def loop_lag(self) -> Reading:
        """How late timers came."""
        return NOTHING if self._lag is None else self._lag.lag.reading()

    def _counts(self) -> dict[object, int]:
        plane = self._plane
        if plane is None:
            return {}
        counts: dict[object, int] = {}
        for name, cluster in plane.clusters.items():
            for backend in cluster.pool.backends.values():
                counts["requests", name, backend.name] = backend.requests
                counts["failures", name, backend.name] = backend.failures
            for backend_name, meant in self._meant_of(name, cluster.pool.backends.values()):
                counts["meant", name, backend_name] = round(meant * 1000)
        for gone in [one for one in self._meant if ("meant", *one) not in counts]:
            del self._meant[gone]
        for name, listeners in plane.listeners.items():
            counts["accepted", name] = sum(one.accepted for one in listeners)
        for name, requests in plane.requests_by_route().items():
            counts["route", name] = requests
        return counts

    def _meant_of(self, pool: str, backends: Collection[Backend]) -> list[tuple[str, float]]:
        """How many of a pool's requests each of its backends should have had so far, by the weights that were in force as they came."""
        asked, weights = sum(one.requests for one in backends), sum(one.weight for one in backends if one.usable)
        came = max(0, asked - self._asked.get(pool, 0))
        self._asked[pool] = asked
        for one in backends:
            part = one.weight / weights if one.usable and weights else 0.0
            self._meant[pool, one.name] = self._meant.get((pool, one.name), 0.0) + came * part
        return [(one.name, self._meant[pool, one.name]) for one in backends]

    def _readings(self) -> dict[object, Reading | int]:
        plane = self._plane
        if plane is None:
            return {}
        measures = plane.measures()
        found: dict[object, Reading | int] = {}
        for pool in measures.pools:
            found["took", pool.name] = sum(pool.durations, NOTHING)
            for backend in pool.backends:
                found["took", pool.name, backend.name] = backend.duration
                found["connected", pool.name, backend.name] = backend.connections_total
                found["leases", pool.name, backend.name] = sum(backend.outcomes)
        for listener in measures.listeners:
            for route in listener.routes:
                key = ("errors", route.route)
                before = found.get(key, 0)
                found[key] = errors_of(route) + (before if isinstance(before, int) else 0)
        return found


def _nothing() -> None:
    """Nobody watches."""


def sample_of(plane: DataPlane) -> Sample:
    """What the charts show of a second, see `Sample`. Costs a look at each backend."""
    counts: dict[tuple[str, str], int] = {}
    in_flight = queued = 0
    limits: list[int] = []  # of those that are used
    for cluster in plane.clusters.values():
        pool = cluster.pool
        for backend in (*pool.backends.values(), *pool.leaving):
            whose = f"{id(backend):x}"
            counts["ok", whose] = backend.outcomes[Outcome.OK]
            counts["failed", whose] = backend.failures
            in_flight += backend.in_flight
        queued += pool.waiting
        limits += [one.limit for one in pool.backends.values() if one.usable]
    gates = [one.gate.most for one in plane.frontends.values()]
    return Sample(
        counts,
        {
            **({"in_flight_limit": sum(limits)} if limits and all(limits) else {}),
            "in_flight": in_flight,
            "queued": queued,
            "connections": sum(len(one.clients) for one in plane.frontends.values()),
            "connections_limit": sum(gates),
        },
    )
