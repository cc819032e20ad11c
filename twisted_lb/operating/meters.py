"""What is counted over time: rates and quantiles of the last minute, the loop's lag, values of the charts."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from twisted_lb.admin.history import Rates, Windows
from twisted_lb.admin.operator import Sample
from twisted_lb.core.histogram import NOTHING, Histogram, Reading, together
from twisted_lb.core.measures import errors_in
from twisted_lb.core.pool import Pool
from twisted_lb.data_plane import DataPlane
from twisted_lb.loop_lag import LoopLag, Watchdog
from twisted_lb.operating.elsewhere import Counted, Elsewhere, SecondsElsewhere
from twisted_lb.operating.seconds import Seconds, levels

_SAMPLE_S: Final = 1.0
# Histograms are larger.
_SLOWLY_S: Final = 5.0

_log = Logger()


class Meters:
    """The meters of a data plane, read each second and, histograms, every five. `rates` by ("requests" or "failures", pool,
    backend), ("meant", pool, backend) in thousandths of requests, ("accepted" or "refused", listener), ("route", route);
    `durations` by ("took", pool[, backend]), ("connected" or "leases", pool, backend), ("errors", route). Of workers, where there are
    any (`elsewhere`), both by ("worker", process): requests, and loop lag.
    """

    def __init__(
        self,
        time: Any,
        counted: Callable[[], Counted | None] = lambda: None,
        elsewhere: Elsewhere | None = None,
    ) -> None:
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
        self._seconds: Seconds = Seconds()
        self._counted: Final = counted
        self._elsewhere: Final = elsewhere
        self._seconds_elsewhere: SecondsElsewhere = SecondsElsewhere()
        # By pool and backend: how many requests it should have had, by the weights of each second.
        self._meant: Final[dict[tuple[str, str], float]] = {}
        self._asked: Final[dict[str, int]] = {}  # by pool, at the last look
        self._watchdog: Watchdog | None = None
        self._lag: LoopLag | None = None

    def begin(self, plane: DataPlane, *, watched: bool) -> None:
        """The data plane is there. `watched`: a turn that takes long is worth a line."""
        self._plane = plane
        self._seconds = Seconds()
        self._seconds_elsewhere = SecondsElsewhere()
        for loop, interval_s in self._loops:
            loop.start(interval_s).addErrback(lambda failure: _log.failure("no rates any more", failure=failure))
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

    def sample(self, plane: DataPlane) -> Sample:
        """What charts show of the second just gone."""
        counted = self._counted()
        if counted is not None:
            return self._seconds_elsewhere.sample(counted, levels(plane))
        return self._seconds.sample(plane)

    def _counts(self) -> dict[object, int]:
        plane = self._plane
        if plane is None:
            return {}
        elsewhere = self._counted()
        counts: dict[object, int] = {}
        for name, cluster in plane.clusters.items():
            for backend in cluster.pool.backends.values():
                counts["requests", name, backend.name] = backend.requests
                counts["failures", name, backend.name] = backend.failures
            for backend_name, meant in self._meant_of(cluster.pool, elsewhere):
                counts["meant", name, backend_name] = round(meant * 1000)
        for gone in [one for one in self._meant if ("meant", *one) not in counts]:
            del self._meant[gone]
        for name, listeners in plane.listeners.items():
            counts["accepted", name] = sum(one.accepted for one in listeners)
        for name, frontend in plane.frontends.items():
            counts["refused", name] = sum(frontend.refusals)
        for name, requests in plane.requests_by_route().items():
            counts["route", name] = requests
        if elsewhere is not None:
            _add(counts, elsewhere.counts())
        if self._elsewhere is not None:
            counts |= {("worker", one.pid): one.requests for one in self._elsewhere.workers() if one.pid}
        return counts

    def _meant_of(self, pool: Pool, elsewhere: Counted | None) -> list[tuple[str, float]]:
        """How many of a pool's requests each of its backends should have had so far, by the weights that were in force as they came."""
        name, asked = pool.name, sum(one.requests for one in pool.backends.values())
        if elsewhere is not None:
            asked += elsewhere.requests_of_pool(name)
        came = max(0, asked - self._asked.get(name, 0))
        self._asked[name] = asked
        for backend, part in pool.meant().items():
            self._meant[name, backend] = self._meant.get((name, backend), 0.0) + came * part
        return [(backend, self._meant[name, backend]) for backend in pool.backends]

    def _readings(self) -> dict[object, Reading | int]:
        plane = self._plane
        if plane is None:
            return {}
        # Not of all measures, which take several times as long.
        flows = plane.flows
        found: dict[object, Reading | int] = {}
        for name, cluster in plane.clusters.items():
            pool = cluster.pool
            led = [one for flow in flows if flow.pool == name for one in (*flow.at_once, *flow.lasted)]
            found["took", name] = _reading([*led, *pool.totals.durations])
            for backend in pool.backends.values():
                found["took", name, backend.name] = _reading(backend.totals.lasted)
                found["connected", name, backend.name] = backend.totals.connections
                found["leases", name, backend.name] = sum(backend.outcomes)
        # A route that nobody has asked for has none, and its first ones count.
        errors: dict[object, int] = {("errors", name): 0 for name in plane.plan.routes}
        for flow in flows:
            key = ("errors", flow.route)
            errors[key] = errors.get(key, 0) + errors_in(flow.requests())
        found |= errors
        elsewhere = self._counted()
        if elsewhere is not None:
            _add(found, elsewhere.readings())
        if self._elsewhere is not None:
            found |= {("worker", pid): lag for pid, lag in self._elsewhere.lags().items()}
        return found


def _add(counts: dict[object, Any], others: Mapping[object, Any]) -> None:
    """Add what others have counted of what is there."""
    for what, more in others.items():
        counts[what] = counts[what] + more if what in counts else more


def _nothing() -> None:
    """Nobody watches."""


def _reading(histograms: Iterable[Histogram | None]) -> Reading:
    slots = together(histograms)
    return NOTHING if slots is None else Reading(slots, 0.0)  # nobody asks for the sum
