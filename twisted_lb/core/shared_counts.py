"""Counts of requests in flight that several processes share: a row of a table in shared memory for each, a column for each backend.

Cells are aligned 64-bit numbers. Each process writes its own row only, and reads the others'. Whoever claims publishes its claim
first and adds up then: of more claims than there are places the one that was published last has seen all others, and is withdrawn.
"""

from _thread import allocate_lock
from collections.abc import Sequence
from typing import Final

from mypy_extensions import mypyc_attr

from twisted_lb.core.counts import Counts
from twisted_lb.core.gradient import AdaptiveRules, Gradient
from twisted_lb.core.shared_gradient import Learnt, SharedGradient


@mypyc_attr(allow_interpreted_subclasses=True)
class SharedCounts(Counts):
    """The counts of one pool in one process. `rows` are views of all rows of the table, `in_use` is a cell with how many of them anybody
    writes, the first ones; `own` is the number of the one that this process writes. A slot counts for this process alone until it is
    placed in a column. `learnt`: where all tell what they see of adaptive limits, and are told what these are; without it each learns by
    itself.
    """

    __slots__ = ("_columns", "_fence", "_in_use", "_learnt", "_row", "_rows")

    def __init__(self, rows: Sequence[memoryview], own: int, in_use: memoryview, learnt: Learnt | None = None) -> None:
        super().__init__()
        self._learnt: Final = learnt
        self._row: Final = rows[own]
        self._rows: Final = list(rows)
        self._in_use: Final = in_use
        self._columns: list[int] = []
        # One that nobody else has: taken and left, it orders what was stored before and what is loaded after (x86-64).
        self._fence: Final = allocate_lock()

    def open(self) -> int:
        """See Counts."""
        slot = super().open()
        if slot == len(self._columns):
            self._columns.append(-1)
        return slot

    def close(self, slot: int) -> None:
        """See Counts."""
        super().close(slot)
        self.place(slot, -1)

    def place(self, slot: int, column: int) -> None:
        """Count a slot in this column from now on; below zero: in none."""
        before = self._columns[slot]
        if before == column:
            return
        self._columns[slot] = column
        if before >= 0 and before not in self._columns:  # else it is another one's by now
            self._row[before] = 0
        if column >= 0:
            self._row[column] = self._own[slot]

    def column(self, slot: int) -> int:
        """The column that a slot counts in; below zero for none."""
        return self._columns[slot]

    def gradient(self, slot: int, rules: AdaptiveRules) -> Gradient:
        """See Counts."""
        return Gradient(rules) if self._learnt is None else SharedGradient(rules, self._learnt, self.column, slot)

    def claim(self, slot: int) -> bool:
        """See Counts."""
        column = self._columns[slot]
        if column < 0:
            return super().claim(slot)
        own = self._own
        count = own[slot] + 1
        self._row[column] = count
        if self.bounded and self._most[slot] > 0:
            with self._fence:
                pass
            if self._load(column) > self._most[slot]:
                self._row[column] = count - 1
                return False
        own[slot] = count
        return True

    def hold(self, slot: int) -> None:
        """See Counts."""
        super().hold(slot)
        self._publish(slot)

    def release(self, slot: int) -> None:
        """See Counts."""
        super().release(slot)
        self._publish(slot)

    def _publish(self, slot: int) -> None:
        column = self._columns[slot]
        if column >= 0:
            self._row[column] = self._own[slot]

    def elsewhere(self, slot: int) -> int:
        """See Counts."""
        column = self._columns[slot]
        if column < 0:
            return 0
        return self._load(column) - self._own[slot]

    def _load(self, column: int) -> int:
        """What all have in flight in a column, this process too."""
        rows = self._rows
        load: int = 0
        for number in range(self._in_use[0]):
            load += rows[number][column]
        return load

    def view(self) -> tuple[int, ...]:
        """See Counts: O(slots and rows)."""
        return tuple([own + self.elsewhere(slot) for slot, own in enumerate(self._own)])
