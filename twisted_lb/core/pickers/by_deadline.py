"""Earliest deadline first (EDF): turns by weight among many, as Envoy and gRPC take them.

The deadlines of a member of weight w are (phase + k)/w for whole k, one for each of its turns, so that any span of time 1 has
exactly w of them. Phases are 0.5 + i/n, less 1 from there on: those of equal weight take turns evenly, where Envoy's, which all
begin at 1/w, come in bunches. Members are picked in the order of their deadlines.
"""

from collections.abc import Sequence
from heapq import heapify, heapreplace
from math import floor
from random import Random
from typing import Final

from twisted_lb.core.ask import Ask
from twisted_lb.core.backend import Backend
from twisted_lb.core.pickers.base import MOST_REMEMBERED, Bare, Picker, Recalled, open_to, step_over

# After so many turns of members that are not open all are looked at: of a pool that is half out, one pick in 2**32.
_MOST_LOOKS: Final = 32


def phase(index: int, size: int) -> float:
    """The phase of this one of so many members: evenly over a turn, beginning in its middle."""
    return (0.5 + index / size) % 1.0


class EarliestDeadline(Picker):
    """Earliest deadline first: O(log n) a pick, O(n) where most members are out.

    A member that is not open forfeits its turn. Whoever is picked instead has had its own, earlier, so that all others share
    what is forfeited, each by its weight.

    `owed`: how many turns each member is owed, together 0: it has its turns so much earlier.
    """

    def __init__(self, members: Sequence[Backend], phases: dict[Backend, float], owed: dict[Backend, float]) -> None:
        super().__init__()
        self._members: list[Backend] = list(members)
        self._weights: list[float] = [backend.weighing.effective for backend in members]
        self._total: float = sum(self._weights)
        self.phases: dict[Backend, float] = phases
        self._owed: dict[Backend, float] = owed
        # Turns taken and forfeited, of each and of all. A deadline is made of their number, not added to: nothing is rounded twice.
        self._turns: list[int] = [0] * len(self._members)
        self._passed: int = 0
        self._firsts: list[float] = [phases[backend] - owed.get(backend, 0.0) for backend in members]
        # Of two that are due at once the one with fewer turns is first: in Envoy's heap, the one that has waited longer.
        self._heap: list[tuple[float, int, int]] = [
            (first / self._weights[index], 0, index) for index, first in enumerate(self._firsts)
        ]
        heapify(self._heap)
        # Whose turn it was, and how many turns were forfeited.
        self.mark = (self._heap[0][2] if members else -1, 0)

    def pick(self, ask: Ask, now: float, rng: Random, tried: Sequence[Backend]) -> Backend | None:
        """The member with the earliest deadline; each that is not open forfeits its turn."""
        first = self._heap[0][2]
        for forfeited in range(_MOST_LOOKS):
            index = self._heap[0][2]
            backend = self._members[index]
            self._take(index)
            if open_to(backend, tried):
                self.mark = (first, forfeited)
                return backend
            step_over(backend)
        return self._pick_of_all(first, tried)

    def _take(self, index: int) -> None:
        """The first in the heap, this one, takes its turn."""
        turns = self._turns[index] + 1
        self._turns[index] = turns
        self._passed += 1
        heapreplace(self._heap, ((self._firsts[index] + turns) / self._weights[index], turns, index))

    def _pick_of_all(self, first: int, tried: Sequence[Backend]) -> Backend | None:
        """As `pick`, when that would take long: the open one with the earliest deadline, before which all others forfeit theirs."""
        due = [entry for entry in self._heap if open_to(self._members[entry[2]], tried)]
        if not due:
            self.mark = (first, _MOST_LOOKS)
            return None
        earliest = min(due)
        at, index = earliest[0], earliest[2]
        forfeited = _MOST_LOOKS
        for place, entry in enumerate(self._heap):
            other = entry[2]
            if entry < earliest:
                late = max(floor(at * self._weights[other] - self._firsts[other]) + 1 - self._turns[other], 1)
                turns = self._turns[other] + late
                self._turns[other] = turns
                forfeited += late
                self._heap[place] = ((self._firsts[other] + turns) / self._weights[other], turns, other)
                step_over(self._members[other])
        self._passed += forfeited - _MOST_LOOKS
        heapify(self._heap)
        self._take(index)
        self.mark = (first, forfeited)
        return self._members[index]

    def advance(self, span: float) -> None:
        """Let a span of time pass, of which 1 has everybody's turns: O(n). To be called before the first pick."""
        for entry in self._heap:
            index = entry[2]
            turns = max(floor(span * self._weights[index] - self._firsts[index]) + 1, 0)
            self._turns[index] = turns
            self._passed += turns
        self._heap = [
            ((self._firsts[index] + turns) / self._weights[index], turns, index)
            for index, turns in enumerate(self._turns)
        ]
        heapify(self._heap)

    def ranking(self, ask: Ask, now: float) -> Sequence[tuple[Backend, float]]:
        """The members by their deadlines, as time from the next one on: 1 has everybody's turns."""
        next_at = self._heap[0][0]
        return [(self._members[index], at - next_at) for at, _, index in sorted(self._heap)]

    def recalled(self, mark: object, picked: Backend | None) -> Recalled:
        """See Picker: whose turn it was, and how many turns were forfeited."""
        assert isinstance(mark, tuple)
        first, forfeited = mark
        owner = self._members[first]
        where = "in turn by weight, the earliest deadline first"
        if picked is None:
            rule = f"{where}: it was the turn of {owner.name}, and nobody was open"
        elif not forfeited:
            rule = f"{where}: its turn"
        else:
            rule = f"{where}: it was the turn of {owner.name}; {forfeited} {'turn was' if forfeited == 1 else 'turns were'} forfeited"
        return Recalled(f"{rule}; of more than {MOST_REMEMBERED} it is not kept when each was due", ())

    def bare(self) -> Picker:
        """See Picker: no mark says more by itself."""
        return Bare("in turn by weight, the earliest deadline first")

    def fork(self) -> Picker:
        """A copy with the same deadlines."""
        copy = EarliestDeadline((), {}, {})
        copy._members, copy._weights, copy._total = self._members, self._weights, self._total
        copy.phases, copy._owed, copy._firsts = self.phases, self._owed, self._firsts
        copy._turns, copy._passed, copy._heap = list(self._turns), self._passed, list(self._heap)
        copy.mark = self.mark
        return copy

    def is_over(self, members: Sequence[Backend]) -> bool:
        """Whether it is over these members, with the weights that they have."""
        return self._members == members and self._weights == [backend.weighing.effective for backend in members]

    def owed(self) -> dict[Backend, float]:
        """How many turns each member is owed, those that are due first before others."""
        owed: dict[Backend, float] = {}
        next_at = self._heap[0][0]
        for _, _, index in sorted(self._heap, key=lambda entry: (entry[0] - next_at) * self._weights[entry[2]]):
            backend = self._members[index]
            share = self._weights[index] * self._passed / self._total
            owed[backend] = self._owed.get(backend, 0.0) + share - self._turns[index]
        return owed
