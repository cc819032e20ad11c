"""Tallies: how much there is of something, by tag, in several processes together: each writes a table of its own in shared memory,
and reads those of the others.

A table is cells of two aligned 64-bit numbers, a tag and how much this process has of it, in buckets of 8. It has one writer, so that
nothing is ever lost; and when that has ended, all that it had goes with its table. Whoever takes publishes first and adds up then, as
`SharedCounts` does: of more takers than there is room for, the one that was published last has seen all others.
"""

from _thread import allocate_lock
from collections.abc import Sequence
from typing import Final

# Words of a bucket: 8 cells, two cache lines of 64 bytes.
_BUCKET: Final = 16


class _Cell:
    """A cell of one's own: where it begins, below 0 for none, and how much there is."""

    __slots__ = ("amount", "at")

    def __init__(self, at: int) -> None:
        self.at: Final = at
        self.amount: int = 0


class Tallies:
    """The tallies of one process among several. `rows` are the tables of all, zeros at first, `own` is the number of the one that this
    process writes, and the cell `in_use` has how many anybody writes, the first ones; all of them without it. A tag is a number of up to 62 bits, and not 0; who shares a table makes them alike.

    A tag that finds its bucket full of others counts for this process alone (`unshared`): with 8,192 buckets that is one in a
    hundred while a process has 30,000 tags at a time. What is too many locks nobody out.
    """

    __slots__ = ("_buckets", "_cells", "_fence", "_in_use", "_number", "_own", "_rows", "unshared")

    def __init__(self, rows: Sequence[memoryview], own: int, in_use: memoryview | None = None) -> None:
        self._own: Final = rows[own]
        self._rows: Final = list(rows)
        self._number: Final = own
        self._in_use: Final = in_use
        self._buckets: Final = len(self._own) // _BUCKET
        self._cells: Final[dict[int, _Cell]] = {}
        # One that nobody else has: taken and left, it orders what was stored before and what is loaded after (x86-64).
        self._fence: Final = allocate_lock()
        self.unshared: int = 0

    def take(self, tag: int, amount: int, most: int) -> bool:
        """Have so much more; False, and nothing had, where that would be more than `most` of all processes together. Of two that
        take the last at the same moment both may be refused, and never both have it.
        """
        cell = self._cell(tag)
        wanted = cell.amount + amount
        self._publish(cell, wanted)
        with self._fence:
            pass
        if wanted + self.elsewhere(tag) > most:
            self._publish(cell, cell.amount)
            self._drop(tag, cell)
            return False
        cell.amount = wanted
        return True

    def add(self, tag: int, amount: int) -> None:
        """Have so much more, or less, however much there is."""
        cell = self._cell(tag)
        cell.amount += amount
        self._publish(cell, cell.amount)
        self._drop(tag, cell)

    def own(self, tag: int) -> int:
        """How much this process has."""
        cell = self._cells.get(tag)
        return 0 if cell is None else cell.amount

    def elsewhere(self, tag: int) -> int:
        """How much other processes have. O(rows)."""
        begin = tag % self._buckets * _BUCKET
        found = 0
        used: int = len(self._rows) if self._in_use is None else self._in_use[0]
        for number in range(used):
            if number == self._number:
                continue
            row = self._rows[number]
            for at in range(begin, begin + _BUCKET, 2):
                there = row[at]
                if there == tag:
                    amount = row[at + 1]
                    if row[at] == tag:  # else it was given up meanwhile: that is another one's
                        found += amount
                    break
                if not there:
                    break  # cells are taken in their order: behind an empty one there is nobody
        return found

    def __len__(self) -> int:
        return len(self._cells)

    def _cell(self, tag: int) -> _Cell:
        cell = self._cells.get(tag)
        if cell is None:
            cell = self._cells[tag] = _Cell(self._place(tag))
            self.unshared += cell.at < 0
        return cell

    def _drop(self, tag: int, cell: _Cell) -> None:
        if not cell.amount:
            del self._cells[tag]
            self.unshared -= cell.at < 0

    def _publish(self, cell: _Cell, amount: int) -> None:
        if cell.at >= 0:
            self._own[cell.at + 1] = amount

    def _place(self, tag: int) -> int:
        """Where a tag is counted: in the cell that it had last, one of which nothing is left, or one that is empty; -1 for none."""
        own = self._own
        begin = tag % self._buckets * _BUCKET
        free = -1
        for at in range(begin, begin + _BUCKET, 2):
            there = own[at]
            if there == tag:
                return at
            if not there:
                if free < 0:
                    free = at
                break
            if free < 0 and not own[at + 1]:
                free = at
        if free >= 0:
            own[free] = tag
        return free

    def __repr__(self) -> str:
        return f"<Tallies {len(self._cells)} tags, {self.unshared} unshared>"


class Amount:
    """How much there is of one thing, of all processes that share it, and of how many it may be: that of one process, and nobody's else."""

    __slots__ = ("own",)

    def __init__(self) -> None:
        self.own: int = 0

    def take(self, amount: int, most: int) -> bool:
        """Have so much more; False, and nothing had, where that would be more than `most` of all together."""
        if self.own + amount > most:
            return False
        self.own += amount
        return True

    def add(self, amount: int) -> None:
        """Have so much more, or less, however much there is."""
        self.own += amount

    @property
    def elsewhere(self) -> int:
        """How much other processes have."""
        return 0

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.own}, {self.elsewhere} elsewhere>"


class SharedAmount(Amount):
    """One of several processes', under this tag of their tallies."""

    __slots__ = ("_tag", "_tallies")

    def __init__(self, tallies: Tallies, tag: int) -> None:
        super().__init__()
        self._tallies: Final = tallies
        self._tag: Final = tag

    def take(self, amount: int, most: int) -> bool:
        """See Amount."""
        if not self._tallies.take(self._tag, amount, most):
            return False
        self.own += amount
        return True

    def add(self, amount: int) -> None:
        """See Amount."""
        self.own += amount
        self._tallies.add(self._tag, amount)

    @property
    def elsewhere(self) -> int:
        """See Amount."""
        return self._tallies.elsewhere(self._tag)
