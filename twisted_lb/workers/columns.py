"""Columns of the shared table: each backend has one, as long as anybody knows it, or has anything in flight there."""

from collections.abc import Collection, Iterable, Mapping
from typing import Final

from twisted.logger import Logger

from twisted_lb.workers.table import COLUMNS, Table

# A backend, by pool and name.
Key = tuple[str, str]

_log = Logger(namespace="twisted_lb.workers")


class Columns:
    """The columns of a table, by backends."""

    def __init__(self, table: Table) -> None:
        self._table: Final = table
        self._columns: Final[dict[Key, int]] = {}
        self._gone: Final[dict[Key, int]] = {}  # backends that have a column still, and the first version without them
        self._free: Final[list[int]] = []

    def settle(self, present: Collection[Key], version: int, taken: Iterable[int]) -> None:
        """Have a column for each backend of this version. One that is gone keeps its column until all workers go by a version
        without it (`taken`: what they go by) and none has anything there.
        """
        oldest = min(taken, default=version)
        for key in [key for key in self._columns if key not in present]:
            without = self._gone.setdefault(key, version)
            if oldest >= without and self._table.load(self._columns[key]) == 0:
                self._free.append(self._columns.pop(key))
                del self._gone[key]
        for key in present:
            self._gone.pop(key, None)
            if key not in self._columns:
                self._give(key)

    def _give(self, key: Key) -> None:
        if self._free:
            self._columns[key] = self._free.pop()
        elif self._table.given < COLUMNS:
            self._columns[key] = self._table.given
            self._table.given += 1
        else:
            _log.warn(
                "{pool}/{backend} is counted by each worker for itself: the table is full", pool=key[0], backend=key[1]
            )

    def of(self, pool: str, backend: str) -> int | None:
        """The column of a backend; None where it has none."""
        return self._columns.get((pool, backend))

    @property
    def by_key(self) -> Mapping[Key, int]:
        """The columns by backends."""
        return self._columns

    def by_pool(self) -> dict[str, dict[str, int]]:
        """The columns by pool and backend."""
        found: dict[str, dict[str, int]] = {}
        for (pool, backend), column in self._columns.items():
            found.setdefault(pool, {})[backend] = column
        return found

    def values(self) -> list[tuple[str, str, int]]:
        """All of them as plain values."""
        return [(pool, backend, column) for (pool, backend), column in self._columns.items()]

    def recall(self, values: Iterable[tuple[str, str, int]]) -> None:
        """Have these, of a parent before this one: whose backends are no more is found by `settle`."""
        for pool, backend, column in values:
            self._columns[pool, backend] = column
        taken = set(self._columns.values())
        self._free[:] = [column for column in range(self._table.given) if column not in taken]
