"""The shared table: one memory file that parent and workers map, with a row of counters for each slot and each life of a worker.

A cell is an aligned 64-bit number that one process writes, but for rates, reserves and bindings, which all write. Rows of slots go on
when their worker is another one. Rows are far apart, so that no two processes write to one page, and as long as there may be backends:
pages that nobody writes to take no memory. The first row is the parent's.
"""

import mmap
import os
import secrets
import sys
from typing import Final

from twisted_lb.core.rate import CELLS, Rates
from twisted_lb.core.share import Share
from twisted_lb.core.shared_bindings import BYTES as _BINDINGS_BYTES
from twisted_lb.core.shared_gradient import WORDS, Learner, Learnt
from twisted_lb.core.tallies import Tallies

# Backends of all pools together that counts can be shared for.
COLUMNS: Final = 1 << 16
_CELL_BYTES: Final = 8
_ROW_BYTES: Final = COLUMNS * _CELL_BYTES
_RATES_BYTES: Final = 16 * CELLS
# Of retries: pools that have spent any of theirs in the last ten seconds.
_RESERVES: Final = 1 << 12
_RESERVES_BYTES: Final = 16 * _RESERVES
_SECRET_BYTES: Final = 32
# Of each life, what it has of each client, and of what is counted in sums.
_CLIENTS_BYTES: Final = 16 << 16
_SUMS_BYTES: Final = 16 << 12
_TALLIES_BYTES: Final = _CLIENTS_BYTES + _SUMS_BYTES
# Of adaptive limits, what each life sees, and what its parent says.
_LEARNT_BYTES: Final = COLUMNS * WORDS * _CELL_BYTES


# Of the parent: the first so many rows of lives are in use, the first so many columns have been given to backends; and then the process
# of each life.
_IN_USE: Final = 0
_GIVEN: Final = 1
_LAYOUT_IS: Final = 2
_PIDS: Final = 3
# What stands where: another number whenever that changes, so that another program takes no table that it misreads.
LAYOUT: Final = 2
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
    table.head[_LAYOUT_IS] = LAYOUT
    table.secret[:] = secrets.token_bytes(_SECRET_BYTES)
    return fd


def is_understood(fd: int, slots: int, lives: int) -> bool:
    """Whether this is a table of so many slots and lives, as this program lays them out."""
    if os.fstat(fd).st_size != _size(slots, lives):
        return False
    at = _LAYOUT_IS * _CELL_BYTES
    return os.pread(fd, _CELL_BYTES, at) == LAYOUT.to_bytes(_CELL_BYTES, sys.byteorder)


def _size(slots: int, lives: int) -> int:
    rows = (1 + slots + lives) * _ROW_BYTES + lives * _TALLIES_BYTES + (lives + 1) * _LEARNT_BYTES
    return rows + _BINDINGS_BYTES + _RATES_BYTES + _RESERVES_BYTES + _SECRET_BYTES


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

    In this order, from the first byte: the parent's row, rows of slots, rows of lives, tallies of each life (clients, sums), what each has
    seen of adaptive limits, and what these are, bindings, rates, reserves, secret.
    """

    def __init__(self, fd: int, slots: int, lives: int) -> None:
        self.fd: Final = fd
        self._map: Final = mmap.mmap(fd, _size(slots, lives))
        every, end = memoryview(self._map), (1 + slots + lives) * _ROW_BYTES
        cells = every[:end].cast("q")
        self._tallies_begin: Final = end
        tallies = [every[end + life * _TALLIES_BYTES :][:_TALLIES_BYTES] for life in range(lives)]
        self._clients: Final = [one[:_CLIENTS_BYTES].cast("q") for one in tallies]
        self._sums: Final = [one[_CLIENTS_BYTES:].cast("q") for one in tallies]
        end += lives * _TALLIES_BYTES
        self._learnt_begin: Final = end
        self._learnt: Final = [every[end + row * _LEARNT_BYTES :][:_LEARNT_BYTES].cast("q") for row in range(lives + 1)]
        end += (lives + 1) * _LEARNT_BYTES
        self.bindings: Final = every[end : end + _BINDINGS_BYTES]
        end += _BINDINGS_BYTES
        # The table of rate limits, and the secret of their keys, which the parent has made.
        self.rates: Final = every[end : end + _RATES_BYTES]
        end += _RATES_BYTES
        self._reserves: Final = every[end : end + _RESERVES_BYTES]
        self.secret: Final = every[end + _RESERVES_BYTES :]
        rows = [cells[row * COLUMNS : (row + 1) * COLUMNS] for row in range(1 + slots + lives)]
        self.head: Final = rows[0]
        self.slots: Final = rows[1 : 1 + slots]
        self.lives: Final = rows[1 + slots :]
        self.in_use: Final = self.head[_IN_USE : _IN_USE + 1]

    def take(self) -> int | None:
        """A row for a life that begins; None where all are in use. What it counts is seen by all from now on."""
        for row in range(len(self.lives)):
            if self.head[_PIDS + row] == 0:
                self.head[_PIDS + row] = -1
                self.in_use[0] = max(self.in_use[0], row + 1)
                return row
        return None

    def name(self, life: int, pid: int) -> None:
        """The process of a life."""
        self.head[_PIDS + life] = pid

    @property
    def given(self) -> int:
        """The first so many columns have been given to backends."""
        return int(self.head[_GIVEN])

    @given.setter
    def given(self, columns: int) -> None:
        self.head[_GIVEN] = columns

    def pids(self) -> dict[int, int]:
        """The processes of all lives, by their rows; -1 for one that had none yet."""
        named = ((row, self.head[_PIDS + row]) for row in range(len(self.lives)))
        return {row: pid for row, pid in named if pid}

    @property
    def full(self) -> bool:
        """Whether all rows are in use."""
        return all(self.head[_PIDS + row] for row in range(len(self.lives)))

    def leave(self, life: int) -> None:
        """A life is over: nothing of it is in flight any more, and it has no clients."""
        # Zeros again, and no memory: most of it was never written to.
        for begin, size in (
            ((1 + len(self.slots) + life) * _ROW_BYTES, _ROW_BYTES),
            (self._tallies_begin + life * _TALLIES_BYTES, _TALLIES_BYTES),
            (self._learnt_begin + life * _LEARNT_BYTES, _LEARNT_BYTES),
        ):
            self._map.madvise(mmap.MADV_REMOVE, begin, size)
        self.head[_PIDS + life] = 0
        rows = [row for row in range(len(self.lives)) if self.head[_PIDS + row]]
        self.in_use[0] = max(rows, default=-1) + 1

    def clients(self, life: int) -> Tallies:
        """The tallies by client of this life, for its process."""
        return Tallies(self._clients, life, self.in_use)

    def reserves(self) -> Rates:
        """What was spent of the reserves of retries, for one process."""
        return Rates(_RESERVES, self._reserves)

    def sums(self, life: int) -> Tallies:
        """The tallies of one thing each of this life, for its process."""
        return Tallies(self._sums, life, self.in_use)

    def of_parent(self) -> Share:
        """What the parent shares with its workers."""
        return Share(secret=bytes(self.secret), bindings=self.bindings, counts_bindings=True)

    def learnt(self, life: int) -> Learnt:
        """What this life sees of adaptive limits, for its process."""
        return Learnt(self._learnt[-1], self._learnt[life])

    def learner(self) -> Learner:
        """Who learns adaptive limits, for the parent."""
        return Learner(self._learnt[:-1], self._learnt[-1])

    def load(self, column: int) -> int:
        """What all have in flight in a column."""
        return sum(self.lives[row][column] for row in range(self.in_use[0]))
