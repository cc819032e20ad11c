"""The shared table: one memory file that parent and workers map, with a row of counters for each slot and each life of a worker.

A cell is an aligned 64-bit number that one process writes. Rows of slots go on when their worker is another one. Rows are far apart, so that no two processes
write to one page, and as long as there may be backends: pages that nobody writes to take no memory.
"""

import mmap
import os
from typing import Final

# Backends of all pools together that counts can be shared for.
COLUMNS: Final = 1 << 16
_CELL_BYTES: Final = 8
_ROW_BYTES: Final = COLUMNS * _CELL_BYTES
_NOTHING: Final = memoryview(bytes(_ROW_BYTES)).cast("q")


def make_table(slots: int, lives: int) -> int:
    """The descriptor of a new table for so many slots and lives."""
    fd = os.memfd_create("twisted_lb table", os.MFD_CLOEXEC)
    os.ftruncate(fd, (slots + lives) * _ROW_BYTES)
    return fd


# Of a slot: clients connected now, and connections that have come from other slots; then those that went to each of them.
OPEN: Final = 0
CAME: Final = 1
WENT: Final = 2


class Table:
    """The table behind a descriptor, mapped: `slots` are views of the rows of slots, `lives` of those of lives, with what these have in
    flight at each backend.
    """

    def __init__(self, fd: int, slots: int, lives: int) -> None:
        self.fd: Final = fd
        self._map: Final = mmap.mmap(fd, (slots + lives) * _ROW_BYTES)
        cells = memoryview(self._map).cast("q")
        rows = [cells[row * COLUMNS : (row + 1) * COLUMNS] for row in range(slots + lives)]
        self.slots: Final = rows[:slots]
        self.lives: Final = rows[slots:]

    def leave(self, life: int) -> None:
        """Nothing of this life is in flight any more."""
        self.lives[life][:] = _NOTHING

    def load(self, column: int) -> int:
        """What all have in flight in a column."""
        return sum(row[column] for row in self.lives)
