"""Flows: the requests that one listener led to one pool by one route, counted as plain integers, for metrics."""

from collections.abc import Container
from typing import Final

from mypy_extensions import mypyc_attr

from twisted_lb.core.histogram import Histogram, Reading, reading_of
from twisted_lb.core.totals import KINDS, PoolTotals, kind_of

# RFC 9110 9 and RFC 5789, as OpenTelemetry counts them; `TCP` are sessions; what else a client may invent is `_OTHER`.
METHODS: Final = ("GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH", "TCP", "_OTHER")
_GET: Final = b"GET"
_INDEX: Final = {name.encode("ascii"): at for at, name in enumerate(METHODS[:-1])}
_OTHER: Final = len(METHODS) - 1
# Who has answered.
SOURCES: Final = ("backend", "proxy")
_KINDS: Final = len(KINDS)
_CELLS_A_METHOD: Final = len(SOURCES) * _KINDS
CELLS: Final = len(METHODS) * _CELLS_A_METHOD


def cell_of(method: bytes, kind: int, *, own: bool) -> int:
    """The cell of an answer of this kind (`KINDS`) to this method in `Flow.requests`; `own`: it was one of ours, or none."""
    at = 0 if method == _GET else _INDEX.get(method, _OTHER)
    return at * _CELLS_A_METHOD + (_KINDS if own else 0) + kind


@mypyc_attr(acyclic=True)
class Flow:
    """The requests of one listener, route and pool, since they are there. `pool` is empty for what is answered before a pool is
    asked, `route` for what has no route.

    `begun` are the exchanges that have begun. How long those took that have ended, from their head to the last byte, is in
    `at_once`, where all of the answer came in one moment, on a connection that was there, and else in `lasted`; both by the
    kind of the answer. The former is all there is to count for a plain request: it is the phases' time too.

    `others` are the exchanges that are not a GET with a backend's answer, by method, source and kind: see `cell_of`. `local` are
    requests without an exchange. Bytes are those of bodies and tunnels, `up` to the backends and `down` to the clients, counted
    when a request has ended.
    """

    __slots__ = (
        "at_once", "begun", "bytes_down", "bytes_up", "lasted", "listener", "local", "others", "pool", "route",
    )  # fmt: skip

    def __init__(self, route: str, pool: str, listener: str = "") -> None:
        self.listener: Final = listener
        self.route: Final = route
        self.pool: Final = pool
        self.begun: int = 0
        # None until there was one: a route has few kinds of answers.
        self.at_once: Final[list[Histogram | None]] = [None] * _KINDS
        self.lasted: Final[list[Histogram | None]] = [None] * _KINDS
        self.others: Final[list[int]] = [0] * CELLS
        self.local: Final[list[int]] = [0] * CELLS
        self.bytes_up: int = 0
        self.bytes_down: int = 0

    def answered(self, method: bytes, status: int, bytes_down: int) -> None:
        """Count a request that was answered by us, without an exchange."""
        self.local[cell_of(method, kind_of(status), own=True)] += 1
        self.bytes_down += bytes_down

    @property
    def ended(self) -> int:
        """How many of its exchanges have ended: O(slots)."""
        return sum(sum(one.slots) for one in (*self.at_once, *self.lasted) if one is not None)

    @property
    def open(self) -> int:
        """How many of its exchanges run: O(slots)."""
        return self.begun - self.ended

    def requests(self) -> list[int]:
        """The requests that have ended, by cell: O(slots)."""
        cells = [other + local for other, local in zip(self.others, self.local, strict=True)]
        for kind in range(_KINDS):
            ended = sum(sum(one.slots) for one in (self.at_once[kind], self.lasted[kind]) if one is not None)
            cells[kind] += ended - sum(self.others[kind::_KINDS])  # GET by a backend: what is left
        return cells

    def durations(self, kind: int) -> Reading:
        """How long the exchanges took that had an answer of this kind."""
        return reading_of(self.at_once[kind]) + reading_of(self.lasted[kind])

    def __repr__(self) -> str:
        return f"<Flow by {self.route or 'no route'} to {self.pool or 'no pool'}, {self.begun} begun>"


class Flows:
    """The flows of one listener, by route and pool. `gone` are the bytes (up, down) of those that are gone, by pool."""

    def __init__(self, listener: str = "") -> None:
        self.listener: Final = listener
        self.gone: Final[dict[str, tuple[int, int]]] = {}
        self._flows: Final[dict[tuple[str, str], Flow]] = {}

    def of(self, route: str, pool: str) -> Flow:
        """The flow of a route to a pool."""
        flow = self._flows.get((route, pool))
        if flow is None:
            flow = self._flows[route, pool] = Flow(route, pool, self.listener)
        return flow

    @property
    def all(self) -> list[Flow]:
        """All of them, in the order in which they came."""
        return list(self._flows.values())

    def forget(self, kept: Container[tuple[str, str]]) -> list[Flow]:
        """Forget the flows of routes and pools that are not among these, and of which nothing runs any more; which they are."""
        gone = [flow for key, flow in self._flows.items() if key not in kept and flow.open == 0]
        for flow in gone:
            del self._flows[flow.route, flow.pool]
            up, down = self.gone.get(flow.pool, (0, 0))
            self.gone[flow.pool] = up + flow.bytes_up, down + flow.bytes_down
        return gone

    def bytes(self) -> dict[str, tuple[int, int]]:
        """The bytes (up, down) of all, also of those that are gone, by pool; where no pool was asked, by an empty name."""
        found = dict(self.gone)
        for flow in self._flows.values():
            up, down = found.get(flow.pool, (0, 0))
            found[flow.pool] = up + flow.bytes_up, down + flow.bytes_down
        return found

    def __repr__(self) -> str:
        return f"<Flows {self.all}>"


def bury(flow: Flow, totals: PoolTotals) -> None:
    """A flow is gone: what it has counted is its pool's alone from now on."""
    for kind in range(_KINDS):
        at_once, lasted = flow.at_once[kind], flow.lasted[kind]
        if at_once is not None:
            totals.durations[kind].take_in(at_once)
            totals.first_byte.take_in(at_once)
            totals.first_body.take_in(at_once)
        if lasted is not None:
            totals.durations[kind].take_in(lasted)
    totals.bytes_up += flow.bytes_up
    totals.bytes_down += flow.bytes_down
