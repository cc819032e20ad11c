"""Hot and cold: Prequal's load, latency among those that are not crowded (Wydrowski et al., NSDI 2024)."""

from collections import deque
from math import ceil, exp
from typing import Final

from twisted_lb.core.ask import Ask
from twisted_lb.core.counts import Counts
from twisted_lb.core.latency import DECAY_S, UNKNOWN_S, charged
from twisted_lb.core.load import Load, Loads
from twisted_lb.core.outcome import Outcome

# Who has more in flight than this share of what was seen is hot: 2**-0.25, of which the paper says that .6 to .9 does as well.
HOT_ABOVE: Final = 2**-0.25
# More than any latency, and than what one that is not known yet counts for.
HOT: Final = float(1 << 20)
# What was seen in flight that is remembered of all backends, and after how many more it is sorted.
_SEEN: Final = 128
_RENEWED_AFTER: Final = 16
# Latencies that are remembered for each number in flight; there are as many kinds of those as powers of two.
_KEPT: Final = 9
# After so long without any the latencies of such a number in flight are forgotten: they are of another time.
_FORGOTTEN_AFTER_S: Final = 60.0


class Heat(Loads):
    """How crowded the backends of one pool are: each lease looks at the next one in turn, so that what was seen of late, in flight for
    each unit of weight, is a fair sample over backends and time. Backends that are out, or have left, count as idle.
    """

    def __init__(self, counts: Counts) -> None:
        self._counts: Final = counts
        self._slots: Final[list[int]] = []
        self._weights: Final[dict[int, float]] = {}
        self._turn: int = 0
        self._seen: Final[deque[float]] = deque(maxlen=_SEEN)
        self._since: int = 0
        self.limit: float = 0.0

    def of(self, slot: int) -> Load:
        """What measures it."""
        if slot not in self._weights:
            self._slots.append(slot)
        self._weights[slot] = 1.0
        return HotCold(self, self._counts, slot)

    def look(self, slot: int, weight: float) -> None:
        """A request was given to this one: see what the next in turn has in flight."""
        self._weights[slot] = weight
        self._turn = self._turn + 1 if self._turn + 1 < len(self._slots) else 0
        other = self._slots[self._turn]
        self._seen.append(self._counts.load(other) / self._weights[other])
        self._since += 1
        if self._since >= _RENEWED_AFTER:
            self._since = 0
            self.limit = quantile(list(self._seen), HOT_ABOVE)


def quantile(values: list[float], share: float) -> float:
    """The least of these values (at least one) that so great a share of them does not exceed."""
    return sorted(values)[max(ceil(share * len(values)) - 1, 0)]


class HotCold(Load):
    """Hot and cold: who has more in flight than most is hot, and among those fewest requests count; all others are cold, come before
    them, and the least latency counts.

    The latency is the median of what was seen of late with about as many in flight (the same power of two) as there are now.
    While nothing is in flight it decays, so that who was slow is tried again.

    A failure counts as slow, see `charged`. Of failures in a row each counts as if it were in flight still, less as time passes, until
    there is a response: whoever fails at once has nothing in flight, is never hot, and would have what the hot ones do not get
    (sinkhole).
    """

    __slots__ = ("_at", "_counts", "_failed_at", "_failures", "_heat", "_latencies", "_medians", "_seen_at", "_slot")

    def __init__(self, heat: Heat, counts: Counts, slot: int) -> None:
        self._heat: Final = heat
        self._counts: Final = counts
        self._slot: Final = slot
        # By the bit length of the number in flight.
        self._latencies: Final[list[list[float]]] = []
        self._medians: Final[list[float]] = []  # -1: none was seen
        self._seen_at: Final[list[float]] = []
        self._failures: int = 0  # in a row
        self._failed_at: float = 0.0

    def leased(self, weight: float, ask: Ask, now: float) -> int:
        """How many it has in flight, this one among them: what its latency belongs to."""
        self._heat.look(self._slot, weight)
        return self._counts.load(self._slot)

    def responded(self, note: int, elapsed_s: float, now: float) -> None:
        """A latency, with as many in flight as there were at its lease."""
        self._failures = 0
        self._observe(note, elapsed_s, now)

    def settled(self, note: int, outcome: Outcome, elapsed_s: float, now: float) -> None:
        """A failure is as slow as can be told; other ends say nothing of latency."""
        latency = charged(outcome, elapsed_s, self._latency(note))
        if latency >= 0:
            self._failures += 1
            self._failed_at = now
            self._observe(note, latency, now)

    def _observe(self, in_flight: int, latency_s: float, now: float) -> None:
        kind = in_flight.bit_length()
        while len(self._medians) <= kind:
            self._medians.append(-1.0)
            self._latencies.append([])
            self._seen_at.append(now)
        kept = self._latencies[kind]
        kept.append(latency_s)
        if len(kept) > _KEPT:
            del kept[0]
        self._medians[kind] = sorted(kept)[len(kept) // 2]
        self._seen_at[kind] = now
        for other in range(len(self._medians)):
            if self._seen_at[other] < now - _FORGOTTEN_AFTER_S and self._medians[other] >= 0:
                self._medians[other] = -1.0
                self._latencies[other] = []

    def _latency(self, in_flight: int) -> float:
        """With so many in flight, or the nearest number that is known, a smaller one first; -1 where none is."""
        medians = self._medians
        kind = in_flight.bit_length()
        for lower in range(min(kind, len(medians) - 1), -1, -1):
            if medians[lower] >= 0:
                return medians[lower]
        for higher in range(kind + 1, len(medians)):
            if medians[higher] >= 0:
                return medians[higher]
        return -1.0

    def value(self, weight: float, now: float) -> float:
        """HOT and what is in flight for each unit of weight; where it is cold the latency of one more, in seconds."""
        in_flight = self._counts.load(self._slot)
        crowd = in_flight / weight
        if self._failures:
            crowd += self._failures * exp((self._failed_at - now) / DECAY_S) / weight
        if crowd > self._heat.limit:
            return HOT + crowd
        latency = self._latency(in_flight + 1)
        if latency < 0:
            return UNKNOWN_S + crowd if in_flight else 0.0
        return latency if in_flight else latency * exp((max(self._seen_at) - now) / DECAY_S)
