"""Adaptive limits of several processes: each tells what it sees of the answers of a backend, one learns from all of that, and all go by
what it has found.

A limit of each process would not do: unloaded latency is measured by halving what is in flight, and one that halves alone measures a
backend that the others load. Cells are aligned 64-bit numbers in shared memory, and each has one writer.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Final

from twisted_lb.core.gradient import AdaptiveRules, Gathered, Gradient, log_of
from twisted_lb.core.never import NEVER

# Words of a column: a cache line of 64 bytes.
WORDS: Final = 8
# In the row of who learns: the limit, from when on requests count (ns), the number of the window, whether unloaded latency is measured.
_LIMIT: Final = 0
_FROM: Final = 1
_WINDOW: Final = 2
_MEASURES: Final = 3
# In that of who tells: the window that the peak is of, the peak, and what there was since its process began: samples, their logarithms,
# and answers that nothing is learnt of.
_OF: Final = 0
_PEAK: Final = 1
_SAMPLES: Final = 2
_LOGS: Final = 3
_EARLY: Final = 4
# Logarithms are counted in such parts.
_LOG_PARTS: Final = 1_000_000
_NS: Final = 1_000_000_000
_NEVER_NS: Final = 1 << 60
# When a limit is lowered to measure, all go by it so much later at the latest: what begins before that is no part of it, in seconds.
GRACE_S: Final = 0.01


class Learnt:
    """What one process sees of this: `said`, the row of who learns, which it reads, and its `own`, which it writes."""

    __slots__ = ("own", "said")

    def __init__(self, said: memoryview, own: memoryview) -> None:
        self.said: Final = said
        self.own: Final = own


class SharedGradient(Gradient):
    """The adaptive limit of a backend in a process that does not learn it, but tells what it sees. Where the slot is in no column, it learns
    as one process does. Why the limit is what it is, only who learns knows.
    """

    __slots__ = ("_column", "_learnt", "_slot")

    def __init__(self, rules: AdaptiveRules, learnt: Learnt, column: Callable[[int], int], slot: int) -> None:
        super().__init__(rules)
        self._learnt: Final = learnt
        self._column: Final = column
        self._slot: Final = slot

    def configure(self, rules: AdaptiveRules) -> None:
        """See Gradient."""
        limit = self.limit
        super().configure(rules)
        if self._column(self._slot) >= 0:
            self.limit = max(rules.least, min(rules.most, limit))

    def leased(self, in_flight: int) -> None:
        """See Gradient."""
        column = self._column(self._slot)
        if column < 0:
            super().leased(in_flight)
            return
        own, at, window = self._learnt.own, column * WORDS, self._learnt.said[column * WORDS + _WINDOW]
        if own[at + _OF] != window:
            own[at + _PEAK] = in_flight
            own[at + _OF] = window
        elif own[at + _PEAK] < in_flight:
            own[at + _PEAK] = in_flight

    def observe(self, latency_s: float, in_flight: int, now: float, *, answered: bool = True) -> bool:
        """See Gradient."""
        column = self._column(self._slot)
        if column < 0:
            return super().observe(latency_s, in_flight, now, answered=answered)
        said, own, at = self._learnt.said, self._learnt.own, column * WORDS
        if int((now - latency_s) * _NS) < said[at + _FROM]:
            own[at + _EARLY] += 1
        elif answered or not said[at + _MEASURES]:
            own[at + _LOGS] += int(log_of(latency_s) * _LOG_PARTS)
            own[at + _SAMPLES] += 1
        return self.follow()

    def follow(self) -> bool:
        """See Gradient."""
        column = self._column(self._slot)
        limit: int = 0 if column < 0 else self._learnt.said[column * WORDS + _LIMIT]
        if not limit or limit == self.limit:
            return False
        self.limit = limit
        return True

    def handed_to(self, slot: int) -> Gradient:
        """See Gradient."""
        heir = SharedGradient(self.rules, self._learnt, self._column, slot)
        heir.limit = self.limit
        return heir


class Learner:
    """Who learns from what all tell: `rows` are theirs, `said` is its own."""

    __slots__ = ("_numbers", "_rows", "_said", "_seen", "_windows")

    def __init__(self, rows: Sequence[memoryview], said: memoryview) -> None:
        self._rows: Final = rows
        self._said: Final = said
        self._seen: dict[int, list[list[int]]] = {}  # by column and row: samples, logarithms, early ones
        self._windows: dict[int, int] = {}  # by column, the last one of its gradient
        self._numbers: int = 0  # of windows, whatever they are of

    def follow(self, gradients: Mapping[int, Gradient]) -> list[int]:
        """Learn for these columns, and no others: what was told there before is not theirs. Which of them begin with what another process
        has learnt, whose place this one has taken: they have another limit now.
        """
        for column in self._seen:
            if column not in gradients:
                self._said[column * WORDS + _LIMIT] = 0
        begun: list[int] = []
        for column, gradient in gradients.items():
            found: int = 0 if column in self._seen else self._said[column * WORDS + _LIMIT]
            if found and not gradient.windows:
                gradient.begin_at(found)
                begun.append(column)
        self._seen = {column: self._seen.get(column) or self._told(column) for column in gradients}
        self._windows = {column: count for column, count in self._windows.items() if column in gradients}
        for column, gradient in gradients.items():
            self.say(column, gradient)
        return begun

    def learn(self, column: int, gradient: Gradient, in_flight: int, now: float) -> bool:
        """Learn from what was told in a column since the last time. Whether the limit is another one now. O(rows)."""
        seen, told = self._seen[column], self._told(column)
        samples = logs = early = 0
        for before, after in zip(seen, told, strict=True):
            again = after[0] < before[0] or after[2] < before[2]  # another process, which began at nothing
            samples += after[0] - (0 if again else before[0])
            logs += after[1] - (0 if again else before[1])
            early += after[2] - (0 if again else before[2])
        self._seen[column] = told
        if not (samples or early):
            return False
        gathered = Gathered(samples, logs / _LOG_PARTS, early, self._peak(column))
        moved = gradient.gather(gathered, in_flight, now)
        self.say(column, gradient)
        return moved

    def say(self, column: int, gradient: Gradient) -> None:
        """Have all go by what is known now."""
        said, at = self._said, column * WORDS
        since = gradient.counted_from
        begins = _NEVER_NS if since == NEVER else int((since + (GRACE_S if gradient.measures else 0.0)) * _NS)
        said[at + _FROM] = begins
        said[at + _MEASURES] = int(gradient.measures)
        said[at + _LIMIT] = gradient.limit
        if self._windows.get(column) != gradient.windows:
            self._windows[column] = gradient.windows
            self._numbers += 1
            said[at + _WINDOW] = self._numbers

    def _told(self, column: int) -> list[list[int]]:
        at = column * WORDS
        return [[row[at + _SAMPLES], row[at + _LOGS], row[at + _EARLY]] for row in self._rows]

    def _peak(self, column: int) -> int:
        at, window = column * WORDS, self._said[column * WORDS + _WINDOW]
        return max([row[at + _PEAK] for row in self._rows if row[at + _OF] == window], default=0)
