"""The table that workers share, in a simulation: what each of them has in flight, as the others have seen it last."""

from array import array
from typing import Final

from twisted_lb.core.pool import Pool
from twisted_lb.core.shared_counts import SharedCounts


class Table:
    """Counts of so many balancers over so many backends. Each reads what the others had when `look` was called last, or, if they are
    to see all `at_once`, what they have.
    """

    def __init__(self, balancers: int, backends: int, *, at_once: bool) -> None:
        self._rows: Final = [memoryview(array("q", [0] * backends)) for _ in range(balancers)]
        self._in_use: Final = memoryview(array("q", [balancers]))
        self._seen: Final = self._rows if at_once else [memoryview(array("q", row)) for row in self._rows]

    def counts(self, number: int) -> SharedCounts:
        """What the balancer of that number counts in."""
        rows = list(self._seen)
        rows[number] = self._rows[number]
        return SharedCounts(rows, number, self._in_use)

    def place(self, pool: Pool) -> None:
        """Have the backends of a pool counted here, as of now."""
        counts = pool.counts
        assert isinstance(counts, SharedCounts)
        for backend in pool.backends.values():
            counts.place(backend.slot, backend.slot)

    def look(self) -> None:
        """All see what all have."""
        for row, seen in zip(self._rows, self._seen, strict=True):
            seen[:] = row
