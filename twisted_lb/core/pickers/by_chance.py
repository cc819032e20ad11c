"""Weighted random: each pick by chance, in proportion to weight, with no memory."""

from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate
from random import Random
from typing import Final

from twisted_lb.core.ask import ANY, Ask
from twisted_lb.core.backend import Backend
from twisted_lb.core.counts import Counts
from twisted_lb.core.load import Load
from twisted_lb.core.pickers.base import Picker, Recalled, open_to, step_over

# Redraws before the rest is looked at as a whole; with one of two members out, 1 in 32 picks gets that far.
_REDRAWS: Final = 4


class Chance(Picker):
    """A weighted random picker: O(1) with equal weights, O(log n) with others, O(n) where many members are out."""

    def __init__(self, members: Sequence[Backend]) -> None:
        super().__init__()
        self._members: Final = list(members)
        self._weights: Final = [backend.weight for backend in members]
        self._equal: Final = len(set(self._weights)) == 1
        self._sums: Final = list(accumulate(self._weights))
        self._total: Final = self._sums[-1]
        # A number that was drawn; with a total, where it was one among those that were left.
        self.mark = 0.0

    def pick(self, ask: Ask, now: float, rng: Random, tried: Sequence[Backend]) -> Backend | None:
        """A member by chance. One that is out is drawn again, which leaves the shares of the rest as they are."""
        for _ in range(1 + _REDRAWS):
            number = rng.random()
            backend = self._drawn(number)
            if open_to(backend, tried):
                self.mark = number
                return backend
            step_over(backend)
        return self._draw_from_rest(rng, tried)

    def _drawn(self, number: float) -> Backend:
        if self._equal:
            return self._members[int(number * len(self._members))]
        return self._members[bisect_right(self._sums, number * self._total, 0, len(self._sums) - 1)]

    def _draw_from_rest(self, rng: Random, tried: Sequence[Backend]) -> Backend | None:
        total = 0
        for index in range(len(self._members)):
            if open_to(self._members[index], tried):
                total += self._weights[index]
        if not total:
            self.mark = (0.0, 0)
            return None
        number = rng.random()
        self.mark = (number, total)
        point = number * total
        for index in range(len(self._members)):
            if open_to(self._members[index], tried):
                point -= self._weights[index]
                if point < 0:
                    return self._members[index]
        return None

    def ranking(self, ask: Ask, now: float) -> Sequence[tuple[Backend, float]]:
        """The members by their chance, as if all were open."""
        chances = [(backend, self._weights[index] / self._total) for index, backend in enumerate(self._members)]
        return sorted(chances, key=lambda one: -one[1])

    def recalled(self, mark: object, picked: Backend | None) -> Recalled:
        """See Picker: the number that was drawn, and the share that it fell into."""
        ranking = self.ranking(ANY, 0.0)
        if picked is None:
            return Recalled("by chance: none of them was open", ranking)
        if isinstance(mark, tuple):
            number, total = mark
            share = self._weights[self._members.index(picked)] / total
            return Recalled(
                f"by chance, among those that were left: drew {number:.4f}, its share is {share:.4f}", ranking
            )
        share = self._weights[self._members.index(picked)] / self._total
        return Recalled(f"by chance: drew {mark:.4f}, its share is {share:.4f}", ranking)

    def fork(self) -> Picker:
        """A copy: the picker has no memory but of its last draw."""
        return Chance(self._members)


class RandomPolicy:
    """The random policy: by chance, in proportion to weight."""

    def __init__(self) -> None:
        self.describe: Final = "random: by chance, in proportion to weight"
        self.eager: Final = True

    def load(self, counts: Counts, slot: int) -> Load | None:
        """None: chance does not look at load."""
        return None

    def build(self, members: Sequence[Backend], previous: Picker | None, rng: Random, now: float) -> Picker:
        """A picker over these members; chance has nothing to carry over."""
        return Chance(members)
