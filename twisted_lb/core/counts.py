"""Counts of requests in flight, by backend, which several processes may share.

One process counts in a list. Workers will count in a table that all of them see, behind the same methods: each writes
its own cells only, and reads the others'.
"""

from mypy_extensions import mypyc_attr


@mypyc_attr(allow_interpreted_subclasses=True)
class Counts:
    """Requests in flight by slot; a backend has a slot until it is removed and its last request has ended.

    `most`: how many a slot may have, all processes together; 0 for no bound.
    """

    __slots__ = ("_free", "_own", "most")

    def __init__(self) -> None:
        self.most: int = 0
        self._own: list[int] = []
        self._free: list[int] = []

    def open(self) -> int:
        """Take a free slot; nothing is in flight there."""
        if self._free:
            return self._free.pop()
        self._own.append(0)
        return len(self._own) - 1

    def close(self, slot: int) -> None:
        """Give a slot back; an AssertionError when a request of this process is in flight there."""
        assert self._own[slot] == 0, f"slot {slot} has {self._own[slot]} in flight"
        self._free.append(slot)

    def claim(self, slot: int) -> bool:
        """Count one more request; False, and nothing counted, when that would be more than `most`.

        The own count is published first and withdrawn if the sum is over: two processes that claim the last place at
        the same time may both be refused, but never both get it.
        """
        # In three steps: compiled, the sum of two ints is then no call.
        own = self._own
        count = own[slot]
        own[slot] = count + 1
        if self.most and self.load(slot) > self.most:
            own[slot] = count
            return False
        return True

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

    def __repr__(self) -> str:
        return f"<Counts {sum(self._own)} in flight, {len(self._own) - len(self._free)} slots>"
