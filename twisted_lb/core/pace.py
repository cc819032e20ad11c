"""The pace of a pool: how many requests it ends in a second, by which a wait in its queue is foretold, and how quickly it answers at best."""

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from math import ceil
from typing import Final

from twisted_lb.core.backend import Backend
from twisted_lb.core.histogram import Histogram, together, upper_edge
from twisted_lb.core.never import NEVER

# Requests that have ended are counted so often, and over so many of these pauses.
_EVERY_S: Final = 1.0
_SAMPLES: Final = 10
# How long it is held for true how quickly a pool answers at best; the last such time is looked at too.
_QUICKEST_FOR_S: Final = 10.0
# Of more backends it is not looked at: that would take longer than a request may.
_MOST_LOOKED_AT: Final = 512
# The longest wait that anybody is told.
_LONGEST_S: Final = 3600


class Pace:
    """The pace of a pool. All times are monotonic seconds."""

    __slots__ = ("_before", "_counted", "_last", "_looked_at", "_quickest_s", "_samples", "_usual_s")

    def __init__(self) -> None:
        # When was counted how many have ended: the oldest in front.
        self._samples: Final[deque[tuple[float, int]]] = deque()
        self._counted: float = -_EVERY_S
        # What histograms had counted at the last look, and what was the quickest answer then and before.
        self._before: Sequence[int] = ()
        self._looked_at: float = -_QUICKEST_FOR_S
        self._quickest_s: float = NEVER
        self._last: float = NEVER
        self._usual_s: float = NEVER

    def count(self, backends: Iterable[Backend], now: float) -> None:
        """Count what has ended, once a second: O(backends). To be called as long as somebody waits."""
        if now - self._counted < _EVERY_S:
            return
        if now - self._counted > _SAMPLES * _EVERY_S:
            self._samples.clear()  # nobody has waited for a while
        self._counted = now
        self._samples.append((now, sum([one.requests - one.in_flight for one in backends])))
        if len(self._samples) > _SAMPLES:
            self._samples.popleft()

    @property
    def per_s(self) -> float:
        """How many requests have ended in a second, over the last ten; 0 while that is not known."""
        if len(self._samples) < 2:
            return 0.0
        (began, first), (ended, last) = self._samples[0], self._samples[-1]
        return max(last - first, 0) / (ended - began)

    def wait_s(self, behind: int) -> float:
        """How long a request waits behind so many others, at this pace; 0 while it is not known."""
        pace = self.per_s
        return (behind + 1) / pace if pace else 0.0

    def retry_after_s(self, waiting: int) -> int:
        """When to come again where so many wait: when they will have been served. At least a second, and that where it is not known."""
        return min(max(ceil(self.wait_s(waiting)), 1), _LONGEST_S)

    def quickest_s(self, backends: Mapping[str, Backend], first_byte: Histogram, now: float) -> float:
        """How quickly a request was answered at best of late, the head of its answer being what counts: nobody can be
        expected to answer in less. 0 while that is not known, and in pools of more than 512 backends. O(backends), each ten seconds.
        """
        if now - self._looked_at >= _QUICKEST_FOR_S:
            self._look(list(backends.values()), first_byte)
            self._looked_at = now
        quickest_s = min(self._quickest_s, self._last)
        return 0.0 if quickest_s == NEVER else quickest_s

    def reserve_s(self, left_s: float) -> float:
        """Of the time that a request has left, how much it should still have when its wait ends: as long as nine of ten answers took
        of late, or half of it where that is not known, or more than it has. As of the last `quickest_s`.

        The time of the quickest would not do: where more come than can be served all wait until hardly anything is left, and
        nearly all that is sent is then sent in vain.
        """
        return self._usual_s if self._usual_s < left_s else left_s / 2

    def _look(self, backends: Sequence[Backend], first_byte: Histogram) -> None:
        self._last = self._quickest_s
        self._quickest_s = NEVER
        if len(backends) > _MOST_LOOKED_AT:
            return
        slots = together([first_byte, *(one for backend in backends for one in backend.totals.lasted)]) or []
        before = self._before or [0] * len(slots)
        self._before = slots
        # Less than before: a backend has left with what it had counted.
        new = [max(count - before[slot], 0) for slot, count in enumerate(slots)]
        rest = 0.9 * sum(new)
        if not rest:
            return
        quickest = next(slot for slot, count in enumerate(new) if count)
        self._quickest_s = upper_edge(quickest - 1) if quickest else 0.0
        for slot, count in enumerate(new):
            rest -= count
            if rest <= 0:
                self._usual_s = upper_edge(slot)
                return
