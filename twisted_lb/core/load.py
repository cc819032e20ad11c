"""What load is: the number by which a policy compares backends. How it chooses among them is another axis, `pickers`."""

from typing import Final, Protocol

from twisted_lb.core.counts import Counts
from twisted_lb.core.outcome import Outcome


class Load(Protocol):
    """The load of one backend, for as long as the backend is in its pool. All times are monotonic seconds.

    Each lease tells it `leased`, `responded` if the head of an answer came, and `settled`, in this order. A policy that
    was changed leaves leases from before: then the first that is heard of one is `responded` or `settled`.
    """

    def leased(self, now: float) -> None:
        """A request was given to the backend."""

    def responded(self, elapsed_s: float, now: float) -> None:
        """The head of its answer is here, so long after the lease: latency, without the time that a body takes."""

    def settled(self, outcome: Outcome, now: float) -> None:
        """The request is over, with the last byte of its answer or without."""

    def value(self, now: float) -> float:
        """The load; less is better."""


class Requests:
    """The plain measure: requests in flight, from the lease to the end of the body, those of other processes among them."""

    __slots__ = ("_counts", "_slot")

    def __init__(self, counts: Counts, slot: int) -> None:
        self._counts: Final = counts
        self._slot: Final = slot

    def leased(self, now: float) -> None:
        """The pool counts it."""

    def responded(self, elapsed_s: float, now: float) -> None:
        """A request counts until it is over."""

    def settled(self, outcome: Outcome, now: float) -> None:
        """The pool counts it."""

    def value(self, now: float) -> float:
        """How many are in flight."""
        return self._counts.load(self._slot)
