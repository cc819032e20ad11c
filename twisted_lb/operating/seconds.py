"""What happened in the second just gone, for the charts: requests by who answered, bytes, quantiles of phases and backends."""

import math
from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from itertools import accumulate
from operator import add, sub
from typing import Final

from twisted_lb.admin.operator import Sample
from twisted_lb.core.backend import Backend
from twisted_lb.core.flow import Flow
from twisted_lb.core.histogram import Histogram, edges
from twisted_lb.core.totals import KINDS
from twisted_lb.data_plane import DataPlane

# Quantiles of each phase, by the end of their names.
QUANTILES: Final = (("p50", 0.5), ("p90", 0.9), ("p99", 0.99))
# What is counted, in this order.
COUNTED: Final = ("ok", "c4", "c5", "own", "own_ok", "bytes_in", "bytes_out")
# Of `Flow.requests`, for each method: what backends have answered, by kind, and then what we have.
_OURS: Final = len(KINDS)
_PER_METHOD: Final = 2 * len(KINDS)
_C4: Final = KINDS.index("4xx")
_C5: Final = KINDS.index("5xx")
# Edges are for quantiles; the last one, of what is beyond all others, is told as the one before it.
_EDGES_MS: Final = [round(one * 1000, 3) for one in (*edges()[:-1], edges()[-2])]


class Seconds:
    """Samples of a data plane, one a second. What is counted is told as sums that never go down, whatever routes, listeners and
    backends come and go; quantiles are those of the time since the sample before, so that the first one has none.

    A sample costs about 10 µs for each backend that had requests, less than 1 µs for each of the others, and 15 µs for each
    flow.
    """

    def __init__(self) -> None:
        self._flows: dict[Flow, tuple[int, ...]] = {}
        self._totals: dict[str, int] = {}
        self._gains: _Gains | None = None

    def sample(self, plane: DataPlane) -> Sample:
        """What charts show of the second just gone, see `Sample`."""
        flows = plane.flows
        self._count(flows)
        latencies_ms, backend_p99_ms = self._durations(plane, flows)
        counts = {(name, ""): count for name, count in self._totals.items()}
        return Sample(counts, levels(plane), latencies_ms, backend_p99_ms)

    def _count(self, flows: Iterable[Flow]) -> None:
        before, self._flows = self._flows, {flow: _counts(flow) for flow in flows}
        added = [0] * len(COUNTED)
        for flow, counts in self._flows.items():
            was = before.get(flow)
            added = list(map(add, added, counts if was is None else map(sub, counts, was)))
        for name, more in zip(COUNTED, added, strict=True):
            self._totals[name] = self._totals.get(name, 0) + more

    def _durations(
        self, plane: DataPlane, flows: Sequence[Flow]
    ) -> tuple[dict[str, float | None], dict[str, float | None]]:
        before = self._gains
        gains = self._gains = _Gains(before)
        pools = [cluster.pool for cluster in plane.clusters.values()]
        at_once = gains.of(one for flow in flows for one in flow.at_once)
        lasted = gains.of(one for flow in flows for one in flow.lasted)
        first_byte = gains.of(pool.totals.first_byte for pool in pools)
        phases = {
            "total": _both(at_once, lasted),
            "first_byte": _both(at_once, first_byte),
            "connect": gains.of(pool.totals.connect for pool in pools),
            "queue": gains.of(pool.totals.queue for pool in pools),
        }
        latencies_ms: dict[str, float | None] = {}
        for phase, gain in phases.items():
            running = _running(gain)
            latencies_ms |= {f"{phase}.{name}": _quantile_ms(running, q) for name, q in QUANTILES}
        backend_p99_ms = {
            f"{pool.name}/{backend.name}": _quantile_ms(_running(gains.of_backend(backend)), 0.99)
            for pool in pools
            for backend in pool.backends.values()
        }
        return ({}, dict.fromkeys(backend_p99_ms)) if before is None else (latencies_ms, backend_p99_ms)


class _Gains:
    """What histograms have counted since another look at them."""

    def __init__(self, before: "_Gains | None") -> None:
        self.slots: Final[dict[Histogram, list[int]]] = {}
        self.outcomes: Final[dict[Backend, list[int]]] = {}
        self._slots_before: Final[Mapping[Histogram, list[int]]] = {} if before is None else before.slots
        self._outcomes_before: Final[Mapping[Backend, list[int]]] = {} if before is None else before.outcomes

    def of(self, histograms: Iterable[Histogram | None]) -> list[int] | None:
        """By slot, what these have counted together; None for nothing."""
        total: list[int] | None = None
        for one in histograms:
            if one is None:
                continue
            slots, was = one.slots, self._slots_before.get(one)
            if slots == was:
                self.slots[one] = was
                continue
            self.slots[one] = slots.copy()
            # Differences are small numbers, which are cheaper to make than large sums.
            total = _both(total, slots.copy() if was is None else list(map(sub, slots, was)))
        return total

    def of_backend(self, backend: Backend) -> list[int] | None:
        """The same of a backend's answers. Where no attempt has ended there was none."""
        before = self._slots_before
        outcomes, was = backend.outcomes, self._outcomes_before.get(backend)
        if outcomes != was:
            self.outcomes[backend] = outcomes.copy()
            return self.of(backend.totals.lasted)
        self.outcomes[backend] = was
        self.slots.update((one, before[one]) for one in backend.totals.lasted if one is not None and one in before)
        return None


def _both(one: list[int] | None, other: list[int] | None) -> list[int] | None:
    if one is None or other is None:
        return other if one is None else one
    return list(map(add, one, other))


def _running(slots: list[int] | None) -> list[int] | None:
    return None if slots is None else list(accumulate(slots))


def _quantile_ms(running: list[int] | None, q: float) -> float | None:
    """As `Reading.quantile` has it, in milliseconds; None for nothing."""
    if running is None or not running[-1]:
        return None
    return _EDGES_MS[bisect_left(running, max(math.ceil(q * running[-1]), 1))]


def _counts(flow: Flow) -> tuple[int, ...]:
    """What one flow has counted, in the order of `COUNTED`."""
    return (*counted_in(flow.requests()), flow.bytes_up, flow.bytes_down)


def counted_in(cells: Sequence[int]) -> tuple[int, int, int, int, int]:
    """Of requests by cell (`flow.cell_of`) those that are counted, in the order of COUNTED."""
    c4, c5 = _answers(cells, _C4), _answers(cells, _C5)
    own = _answers(cells, _OURS + _C4) + _answers(cells, _OURS + _C5)
    ok = sum(_answers(cells, kind) for kind in range(_C4))
    own_ok = sum(_answers(cells, _OURS + kind) for kind in range(1, _C4))
    return ok, c4, c5, own, own_ok


def _answers(cells: Sequence[int], at: int) -> int:
    """How many answers there were, to any method, of the kind and source at this place of each one's cells."""
    return sum(cells[at::_PER_METHOD])


def levels(plane: DataPlane) -> dict[str, float | None]:
    """What there is now: requests in flight and waiting, connections of clients, and how many of them there may be."""
    in_flight = queued = 0
    limits: list[int] = []  # of those that are used
    for cluster in plane.clusters.values():
        pool = cluster.pool
        in_flight += pool.leases + sum(one.in_flight for one in pool.leaving)
        queued += pool.waiting
        limits += [one.limit for one in pool.backends.values() if one.usable]
    found: dict[str, float | None] = {"in_flight_limit": sum(limits)} if limits and all(limits) else {}
    found |= {
        "in_flight": in_flight,
        "queued": queued,
        "connections": sum(len(one.clients) for one in plane.frontends.values()),
        "connections_limit": sum(one.gate.most for one in plane.frontends.values()),
    }
    return found
