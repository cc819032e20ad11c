"""The shared table: one memory file that parent and workers map, with a row of counters for each life of a worker.

A cell is an aligned 64-bit number that one process writes. Row 0 is the parent's, then comes one for each slot, whose counts go on when its worker is another one, and then those of lives. Rows are far apart, so that no two processes
write to one page, and as long as there may be backends: pages that nobody writes to take no memory.
"""

import mmap
import os
from typing import Final

# Backends of all pools together that counts can be shared for.
COLUMNS: Final = 1 << 16
_CELL_BYTES: Final = 8
_ROW_BYTES: Final = COLUMNS * _CELL_BYTES


def make_table(rows: int) -> int:
    """The descriptor of a new table."""
    fd = os.memfd_create("twisted_lb table", os.MFD_CLOEXEC)
    os.ftruncate(fd, rows * _ROW_BYTES)
    return fd


# Of a slot: clients connected now, and connections that have come from other slots; then those that went to each of them.
OPEN: Final = 0
CAME: Final = 1
WENT: Final = 2


class Table:
    """The table behind a descriptor, mapped. `rows` are views of it, one a row."""

    def __init__(self, fd: int, rows: int) -> None:
        self.fd: Final = fd
        self._map: Final = mmap.mmap(fd, rows * _ROW_BYTES)
        cells = memoryview(self._map).cast("q")
        self.rows: Final = [cells[row * COLUMNS : (row + 1) * COLUMNS] for row in range(rows)]

    def leave(self, row: int, columns: int = COLUMNS) -> None:
        """Nothing of this row is in flight any more."""
        cells = self.rows[row]
        for column in range(columns):
            if cells[column]:
                cells[column] = 0

    def load(self, column: int) -> int:
        """What all have in flight in a column."""
        return sum(row[column] for row in self.rows)
