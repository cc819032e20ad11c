"""Learning: adaptive limits at the parent, from what its workers tell in the shared table. So what it says of them is what they go by."""

from collections.abc import Mapping
from time import perf_counter
from typing import Any, Final

from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger

from twisted_lb.core.backend import Backend
from twisted_lb.core.gradient import Gradient
from twisted_lb.core.pool import Pool
from twisted_lb.data_plane import DataPlane
from twisted_lb.workers.table import Table

# How often it is looked what was told, in seconds; a window of 50 answers at 2,500 a second lasts as long.
_LOOK_S: Final = 0.02
# With thousands of backends less often: it takes at most such a part of the parent's time.
_PART: Final = 0.05

_log = Logger(namespace="twisted_lb.workers")


class Learning:
    """The adaptive limits of a crew's pools. It looks only where there are any. The seconds of the reactor are monotonic, as those of workers."""

    def __init__(self, table: Table, reactor: Any) -> None:
        self._table: Final = table
        self._reactor: Final = reactor
        self._learner: Final = table.learner()
        self._of: dict[int, tuple[Pool, Backend, Gradient]] = {}  # by column
        self._next: IDelayedCall | None = None

    def follow(self, plane: DataPlane, columns: Mapping[tuple[str, str], int]) -> None:
        """Learn for the backends of this plane that have an adaptive limit, and a column."""
        found: dict[int, tuple[Pool, Backend, Gradient]] = {}
        for name, cluster in plane.clusters.items():
            for backend in cluster.pool.backends.values():
                column = columns.get((name, backend.name))
                if backend.gradient is not None and column is not None:
                    found[column] = cluster.pool, backend, backend.gradient
        self._of = found
        for column in self._learner.follow({column: gradient for column, (_, _, gradient) in found.items()}):
            pool, backend, _ = found[column]
            pool.limit_moved(backend, float(self._reactor.seconds()))
        if found and self._next is None:
            self._next = self._reactor.callLater(_LOOK_S, self._look)

    def stop(self) -> None:
        """Learn no more."""
        self._of = {}
        if self._next is not None:
            self._next.cancel()
            self._next = None

    def _look(self) -> None:
        self._next = None
        if not self._of:
            return
        began_at, now = perf_counter(), float(self._reactor.seconds())
        for column, (pool, backend, gradient) in self._of.items():
            try:
                in_flight = self._table.load(column)
                if self._learner.learn(column, gradient, in_flight, now) and backend.learns:
                    pool.limit_moved(backend, now)
            except Exception:
                _log.failure("the limit of {pool}/{backend} is not learnt", pool=pool.name, backend=backend.name)
        wait_s = max(_LOOK_S, (perf_counter() - began_at) / _PART)
        self._next = self._reactor.callLater(wait_s, self._look)
