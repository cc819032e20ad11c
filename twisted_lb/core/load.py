"""Load: the number by which a policy compares backends. How it chooses among them is another axis, see `pickers`."""

from typing import Final, Protocol

from twisted_lb.core.counts import Counts
from twisted_lb.core.outcome import Outcome


class Load(Protocol):
    """The load of one backend, for as long as the backend is in its pool. All times are monotonic seconds.

    Each lease calls `leased`, `responded` if the head of a response came, and `settled`, in this order. For a lease
    from before a change of policy the first call is `responded` or `settled`.
    """

    def leased(self, now: float) -> None:
        """A request was given to the backend."""

    def responded(self, elapsed_s: float, now: float) -> None:
        """The head of a response came, so long after its lease: latency, without the time that a body takes."""

    def settled(self, outcome: Outcome, now: float) -> None:
        """An attempt ended, with the last byte of its response or without."""

    def value(self, now: float) -> float:
        """The load now; less is better."""


class Requests:
    """Least requests: the load is the number of requests in flight in all processes, from lease to end of body."""

    __slots__ = ("_counts", "_slot")

    def __init__(self, counts: Counts, slot: int) -> None:
        self._counts: Final = counts
        self._slot: Final = slot

    def leased(self, now: float) -> None:
        """Nothing to do: the pool counts requests in flight."""

    def responded(self, elapsed_s: float, now: float) -> None:
        """Nothing to do: a request is in flight until its response is complete."""

    def settled(self, outcome: Outcome, now: float) -> None:
        """Nothing to do: the pool counts requests in flight."""

    def value(self, now: float) -> float:
        """How many requests are in flight."""
        return self._counts.load(self._slot)
