"""The shared table: one memory file that parent and workers map, with a row of counters for each slot and each life of a worker.

A cell is an aligned 64-bit number that one process writes. Rows of slots go on when their worker is another one. Rows are far apart, so that no two processes
write to one page, and as long as there may be backends: pages that nobody writes to take no memory. The first row is the parent's.
"""

import mmap
import os
import secrets
from typing import Final

from twisted_lb.core.rate import CELLS

# Backends of all pools together that counts can be shared for.
COLUMNS: Final = 1 << 16
_CELL_BYTES: Final = 8
_ROW_BYTES: Final = COLUMNS * _CELL_BYTES
_RATES_BYTES: Final = 16 * CELLS
_SECRET_BYTES: Final = 32
_NOTHING: Final = memoryview(bytes(_ROW_BYTES)).cast("q")


# Of the parent: the first so many rows of lives are in use, the first so many columns have been given to backends; and then the process
# of each life.
_IN_USE: Final = 0
_GIVEN: Final = 1
_PIDS: Final = 2
# Programs before this one that may have workers still, when one follows another one.
MOST_OLD: Final = 3


def lives_of(slots: int) -> int:
    """How many lives there may be at once for so many slots: those of this program, of `MOST_OLD` before it, and of the next one; and
    some that are told to end and followed by others.
    """
    return (MOST_OLD + 2) * slots + 4


def make_table(slots: int, lives: int) -> int:
    """The descriptor of a new table for so many slots and lives."""
    fd = os.memfd_create("twisted_lb table", os.MFD_CLOEXEC)
    os.ftruncate(fd, _size(slots, lives))
    table = Table(fd, slots, lives)
    table.secret[:] = secrets.token_bytes(_SECRET_BYTES)
    return fd


def _size(slots: int, lives: int) -> int:
    return (1 + slots + lives) * _ROW_BYTES + _RATES_BYTES + _SECRET_BYTES


# Of a slot: clients connected now, connections that have come from other slots, whether somebody takes them in, how often its worker
# has gone round, which is how its parent sees that it lives; and then connections that went to each of the others.
OPEN: Final = 0
CAME: Final = 1
SERVES: Final = 2
BEAT: Final = 3
WENT: Final = 4


class Table:
    """The table behind a descriptor, mapped: `slots` are views of the rows of slots, `lives` of those of lives, with what these have in
    flight at each backend; `rates` and `secret` what rate limits share.
    """

    def __init__(self, fd: int, slots: int, lives: int) -> None:
        self.fd: Final = fd
        self._map: Final = mmap.mmap(fd, _size(slots, lives))
        every, end = memoryview(self._map), (1 + slots + lives) * _ROW_BYTES
        cells = every[:end].cast("q")
        # The table of rate limits, and the secret of their keys, which the parent has made.
        self.rates: Final = every[end : end + _RATES_BYTES]
        self.secret: Final = every[end + _RATES_BYTES :]
        rows = [cells[row * COLUMNS : (row + 1) * COLUMNS] for row in range(1 + slots + lives)]
        self._head: Final = rows[0]
        self.slots: Final = rows[1 : 1 + slots]
        self.lives: Final = rows[1 + slots :]
        self.in_use: Final = self._head[_IN_USE : _IN_USE + 1]

    def take(self) -> int | None:
        """A row for a life that begins; None where all are in use. What it counts is seen by all from now on."""
        for row in range(len(self.lives)):
            if self._head[_PIDS + row] == 0:
                self._head[_PIDS + row] = -1
                self.in_use[0] = max(self.in_use[0], row + 1)
                return row
        return None

    def name(self, life: int, pid: int) -> None:
        """The process of a life."""
        self._head[_PIDS + life] = pid

    @property
    def given(self) -> int:
        """The first so many columns have been given to backends."""
        return int(self._head[_GIVEN])

    @given.setter
    def given(self, columns: int) -> None:
        self._head[_GIVEN] = columns

    def pids(self) -> dict[int, int]:
        """The processes of all lives, by their rows; -1 for one that had none yet."""
        named = ((row, self._head[_PIDS + row]) for row in range(len(self.lives)))
        return {row: pid for row, pid in named if pid}

    @property
    def full(self) -> bool:
        """Whether all rows are in use."""
        return all(self._head[_PIDS + row] for row in range(len(self.lives)))

    def leave(self, life: int) -> None:
        """A life is over: nothing of it is in flight any more."""
        columns = self.given
        self.lives[life][:columns] = _NOTHING[:columns]
        self._head[_PIDS + life] = 0
        rows = [row for row in range(len(self.lives)) if self._head[_PIDS + row]]
        self.in_use[0] = max(rows, default=-1) + 1

    def load(self, column: int) -> int:
        """What all have in flight in a column."""
        return sum(self.lives[row][column] for row in range(self.in_use[0]))
