"""Counts of requests in flight, by backend, which several processes may share.

One process counts in a list. Workers will count in a table that all of them see, behind the same methods: each writes
its own cells only, and reads the others'.
"""

from mypy_extensions import mypyc_attr

from twisted_lb.core.gradient import AdaptiveRules, Gradient


@mypyc_attr(allow_interpreted_subclasses=True)
class Counts:
    """Requests in flight by slot; a backend has a slot until it is removed and its last request has ended.

    `bounded`: whether any slot has a bound; a claim looks at the bound of its slot only then.
    """

    __slots__ = ("_bounds", "_free", "_most", "_own", "bounded")

    def __init__(self) -> None:
        self.bounded: bool = False
        self._bounds: int = 0  # how many slots have one
        self._own: list[int] = []
        self._most: list[int] = []
        self._free: list[int] = []

    def open(self) -> int:
        """Take a free slot; nothing is in flight there."""
        if self._free:
            return self._free.pop()
        self._own.append(0)
        self._most.append(0)
        return len(self._own) - 1

    def close(self, slot: int) -> None:
        """Give a slot back; an AssertionError when a request of this process is in flight there."""
        assert self._own[slot] == 0, f"slot {slot} has {self._own[slot]} in flight"
        self.bound(slot, 0)
        self._free.append(slot)

    def bound(self, slot: int, most: int) -> None:
        """Set how many requests a slot may have, those of all processes together; 0 for no bound, as a slot has none when it
        is taken. Where more are in flight, they end as they would.
        """
        self._bounds += (most > 0) - (self._most[slot] > 0)
        self._most[slot] = most
        self.bounded = self._bounds > 0

    def most(self, slot: int) -> int:
        """How many requests a slot may have; 0 for no bound."""
        return self._most[slot]

    def claim(self, slot: int) -> bool:
        """Count one more request; False, and nothing counted, when that would be more than the slot's bound.

        The own count is published first and withdrawn if the sum is over: two processes that claim the last place at
        the same time may both be refused, but never both get it.
        """
        # In three steps: compiled, the sum of two ints is then no call.
        own = self._own
        count = own[slot]
        own[slot] = count + 1
        if self.bounded and 0 < self._most[slot] < self.load(slot):
            own[slot] = count
            return False
        return True

    def hold(self, slot: int) -> None:
        """Count one more, whatever the bound: a place of this process that is held beyond the end of its request."""
        self._own[slot] += 1

    def release(self, slot: int) -> None:
        """A request of this process has ended."""
        own = self._own
        count = own[slot]
        own[slot] = count - 1

    def own(self, slot: int) -> int:
        """How many requests of this process are in flight."""
        return self._own[slot]

    @property
    def total(self) -> int:
        """How many requests of this process are in flight in all slots: O(slots)."""
        return sum(self._own)

    def elsewhere(self, slot: int) -> int:
        """How many requests of other processes are in flight: none, with one process."""
        return 0

    def load(self, slot: int) -> int:
        """How many requests of all processes are in flight: what bounds and policies go by."""
        return self._own[slot] + self.elsewhere(slot)

    def view(self) -> tuple[int, ...]:
        """The loads of all slots at this moment. O(slots), at C's speed: a claim keeps one. Who knows of other processes
        overrides it.
        """
        return tuple(self._own)

    def gradient(self, slot: int, rules: AdaptiveRules) -> Gradient:
        """What learns by these rules how many a slot may have."""
        return Gradient(rules)

    def __repr__(self) -> str:
        return f"<Counts {sum(self._own)} in flight, {len(self._own) - len(self._free)} slots>"
