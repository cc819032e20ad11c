"""Histograms of durations: log-linear arrays (HDR histogram), 8 slots per factor of two from 1 µs to 17 minutes."""

import math
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from itertools import accumulate
from typing import Final

from mypy_extensions import mypyc_attr

# Units of 2**-20 s, 0.95 µs: to multiply a float by a power of two is exact, and so is each edge as a float.
_UNITS_PER_S: Final = 1048576.0
_PER_DOUBLING_BITS: Final = 3
# Up to 1,024 s; the last slot holds what is longer.
LONGEST_S: Final = 1024.0
_SHORT: Final = 4096
SLOTS: Final = ((30 - _PER_DOUBLING_BITS) << _PER_DOUBLING_BITS) + 9


def slot_of(seconds: float) -> int:
    """The slot of a duration, O(1): the first one whose upper edge is not below it. What is below zero counts as zero."""
    if seconds > LONGEST_S:
        return SLOTS - 1
    scaled = seconds * _UNITS_PER_S
    units = int(scaled)
    if float(units) == scaled:
        units -= 1  # rounded up, less one: an edge belongs to the slot below it, as `le` has it
    if units < 0:
        return 0
    doubled = 0
    while units >= _SHORT:
        units >>= 4
        doubled += 4 << _PER_DOUBLING_BITS
    return doubled + _SLOT_OF_SHORT[units]


def _slots_of_short() -> bytes:
    """The slots of all durations up to 4 ms, by their units: most durations are such, and all others so many doublings of one."""
    slots = []
    for units in range(_SHORT):
        doublings = max(units.bit_length() - 1 - _PER_DOUBLING_BITS, 0)
        slots.append((doublings << _PER_DOUBLING_BITS) + (units >> doublings))
    return bytes(slots)


_SLOT_OF_SHORT: Final = _slots_of_short()


def upper_edge(slot: int) -> float:
    """The longest duration of a slot, in seconds; infinite for the last one."""
    if slot >= SLOTS - 1:
        return math.inf
    if slot < 8:
        return (slot + 1) / _UNITS_PER_S
    shift = (slot >> _PER_DOUBLING_BITS) - 1
    return ((slot - (shift << _PER_DOUBLING_BITS) + 1) << shift) / _UNITS_PER_S


_EDGES: Final = tuple(upper_edge(slot) for slot in range(SLOTS))


def edges() -> tuple[float, ...]:
    """The upper edges of all slots, in seconds, each in its slot; the last one is infinite."""
    return _EDGES


def nearest_edge(seconds: float) -> float:
    """The edge that is nearest to a duration."""
    after = min(bisect_left(_EDGES, seconds), SLOTS - 2)
    before = max(after - 1, 0)
    return min(_EDGES[before], _EDGES[after], key=lambda edge: abs(edge - seconds))


@mypyc_attr(acyclic=True)
class Histogram:
    """How often durations occurred, by slot, and their sum in seconds. It is made once and counts for good."""

    __slots__ = ("slots", "total_s")

    def __init__(self) -> None:
        self.slots: Final[list[int]] = [0] * SLOTS
        self.total_s: float = 0.0

    def add(self, seconds: float) -> None:
        """Count a duration."""
        self.put(slot_of(seconds), seconds)

    def put(self, slot: int, seconds: float) -> None:
        """Count a duration whose slot is known: one look serves several histograms."""
        # In three steps: compiled, the sum of two ints is then no call.
        slots = self.slots
        count = slots[slot]
        slots[slot] = count + 1
        self.total_s += seconds

    def take_in(self, other: "Histogram") -> None:
        """Count all that another one has counted too."""
        for slot, count in enumerate(other.slots):
            if count:
                self.slots[slot] += count
        self.total_s += other.total_s

    def reading(self) -> "Reading":
        """What is counted now; it stays what it is."""
        return Reading(tuple(self.slots), self.total_s)

    def __repr__(self) -> str:
        return f"<Histogram of {sum(self.slots)}>"


class Reading:
    """A histogram as it was at one moment: a value. Readings of several sources add up; the later one of two moments less the
    earlier one is the time between (window).
    """

    __slots__ = ("counts", "total_s")

    def __init__(self, counts: Sequence[int], total_s: float) -> None:
        self.counts: Final = tuple(counts)
        self.total_s: Final = total_s

    @property
    def count(self) -> int:
        """How many durations."""
        return sum(self.counts)

    def __add__(self, other: "Reading") -> "Reading":
        if other is NOTHING or self is NOTHING:  # as of most of thousands of backends
            return self if other is NOTHING else other
        counts = [one + another for one, another in zip(self.counts, other.counts, strict=True)]
        return Reading(counts, self.total_s + other.total_s)

    def __sub__(self, earlier: "Reading") -> "Reading":
        counts = [one - another for one, another in zip(self.counts, earlier.counts, strict=True)]
        return Reading(counts, self.total_s - earlier.total_s)

    def up_to(self, edge: float) -> int:
        """How many were no longer than this, exactly; ValueError where that is no edge of a slot."""
        slot = bisect_left(_EDGES, edge)
        if slot == SLOTS or _EDGES[slot] != edge:
            raise ValueError(f"{edge!r} s is no edge of a histogram")
        return sum(self.counts[: slot + 1])

    def buckets(self, les: Sequence[float]) -> list[int]:
        """How many were no longer than each of these edges (cumulative buckets): O(slots). They ascend."""
        found: list[int] = []
        running = 0
        slot = 0
        for le in les:
            while slot < SLOTS and _EDGES[slot] <= le:
                running += self.counts[slot]
                slot += 1
            found.append(running)
        return found

    def quantile(self, q: float) -> float:
        """The duration that a share `q` of all are not beyond, in seconds, at most an eighth too long: the upper edge of its slot.
        NaN where nothing was counted, infinite beyond the longest edge. ValueError for what is no share.
        """
        if not 0.0 <= q <= 1.0:
            raise ValueError(f"{q!r} is no share between 0 and 1")
        running = list(accumulate(self.counts))
        slot = bisect_left(running, max(math.ceil(q * running[-1]), 1))
        return _EDGES[slot] if slot < SLOTS else math.nan

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Reading) and (self.counts, self.total_s) == (other.counts, other.total_s)

    def __hash__(self) -> int:
        return hash((self.counts, self.total_s))

    def __repr__(self) -> str:
        return f"<Reading of {self.count}>"


# A list: the type of a tuple times a constant is one of so many items, which a compiler takes minutes for.
NOTHING: Final = Reading([0] * SLOTS, 0.0)


def reading_of(histogram: Histogram | None) -> Reading:
    """What a histogram has counted now, if there is one."""
    return NOTHING if histogram is None else histogram.reading()


def together(histograms: Iterable[Histogram | None]) -> list[int] | None:
    """By slot, what these have counted now, all of them together; None where there is none of them. For many of them that is
    several times cheaper than to add up their readings.
    """
    slots = [one.slots for one in histograms if one is not None]
    if not slots:
        return None
    return slots[0].copy() if len(slots) == 1 else list(map(sum, zip(*slots, strict=True)))


def counted_in(histograms: list[Histogram | None], at: int) -> Histogram:
    """The histogram of this place, which is made when it is wanted."""
    histogram = histograms[at]
    if histogram is None:
        histogram = histograms[at] = Histogram()
    return histogram
