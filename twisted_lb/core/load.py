"""Load: the number by which a policy compares backends. How it chooses among them is another axis, see `pickers`."""

from collections.abc import Callable
from typing import Final

from mypy_extensions import mypyc_attr

from twisted_lb.core.ask import Ask
from twisted_lb.core.counts import Counts
from twisted_lb.core.outcome import Outcome


# A class and no protocol: compiled, `value` is then a call of C, and a scan makes one for each backend.
@mypyc_attr(allow_interpreted_subclasses=True)
class Load:
    """The load of one backend, for as long as the backend is in its pool and the policy compares this. All times are monotonic
    seconds.

    A lease calls `leased`, `responded` if the head of a response came, and `settled`, in this order. It keeps the load that
    it told, and the note that it got: a load hears the end of exactly those leases whose beginning it heard, while its policy or
    another one that looks at load is in force. Requests in flight need not be counted here: the pool does.
    """

    __slots__ = ()

    def leased(self, weight: float, ask: Ask, now: float) -> int:
        """A request that asks this was given to the backend, which has this weight, and is counted as in flight. What is returned
        comes back at the end.
        """
        return 0

    def responded(self, note: int, elapsed_s: float, now: float) -> None:
        """The head of a response came, so long after its lease: latency, without the time that a body takes."""

    def settled(self, note: int, outcome: Outcome, elapsed_s: float, now: float) -> None:
        """An attempt ended so long after its lease, with the last byte of its response or without."""

    def restarted(self) -> None:
        """The backend may be another process from now on: what was learnt of what it holds in memory holds no longer."""

    def value(self, weight: float, now: float) -> float:
        """The load now, of a backend of this weight (more than 0): twice the weight bears twice as much. Less is better, 0 is least.
        Nothing changes by it.
        """
        raise NotImplementedError


@mypyc_attr(allow_interpreted_subclasses=True)
class Loads:
    """What measures the loads of one pool, for as long as its policy compares this."""

    def of(self, slot: int) -> Load:
        """The load of a backend that is counted in this slot, and of which nothing is known yet."""
        raise NotImplementedError


class Apart(Loads):
    """Loads that know nothing of one another."""

    def __init__(self, counts: Counts, measure: Callable[[Counts, int], Load]) -> None:
        self._counts: Final = counts
        self._measure: Final = measure

    def of(self, slot: int) -> Load:
        """What measures it."""
        return self._measure(self._counts, slot)


class Requests(Load):
    """Least requests: the load is the number of requests in flight in all processes, from lease to end of body."""

    __slots__ = ("counts", "slot")

    def __init__(self, counts: Counts, slot: int) -> None:
        self.counts: Final = counts
        self.slot: Final = slot

    def value(self, weight: float, now: float) -> float:
        """How many requests are in flight, for each unit of weight."""
        return self.counts.load(self.slot) / weight


class Cost(Load):
    """Outstanding cost: the load is the sum of the costs of all requests in flight. Those that were in flight before, and
    those of other processes, cost 1 each.
    """

    __slots__ = ("_beyond", "_counts", "_slot")

    def __init__(self, counts: Counts, slot: int) -> None:
        self._counts: Final = counts
        self._slot: Final = slot
        self._beyond: int = 0  # what open leases cost beyond 1 each

    def leased(self, weight: float, ask: Ask, now: float) -> int:
        """Add what it costs."""
        self._beyond += ask.cost - 1
        return ask.cost

    def settled(self, note: int, outcome: Outcome, elapsed_s: float, now: float) -> None:
        """Take off what it cost."""
        self._beyond -= note - 1

    def value(self, weight: float, now: float) -> float:
        """What all requests in flight cost, for each unit of weight."""
        return (self._counts.load(self._slot) + self._beyond) / weight
