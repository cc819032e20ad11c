"""Shares: members drawn by chance, each in proportion to its weight."""

from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate
from random import Random
from typing import Final

from twisted_lb.core.backend import Backend
from twisted_lb.core.pickers.base import open_to, step_over

# Redraws before the rest is looked at as a whole; with one of two members out, 1 in 32 picks gets that far.
REDRAWS: Final = 4


class Shares:
    """The shares of members by weight: O(1) a draw with equal weights, O(log n) with others."""

    def __init__(self, members: Sequence[Backend]) -> None:
        self.members: Final = list(members)
        self.weights: Final = [backend.weighing.effective for backend in members]
        self.equal: Final = len(set(self.weights)) == 1
        self._sums: Final = list(accumulate(self.weights))
        self.total: Final = self._sums[-1]

    def at(self, number: float) -> int:
        """Whose share a number from 0 to 1 falls into."""
        if self.equal:
            return int(number * len(self.members))
        return bisect_right(self._sums, number * self.total, 0, len(self._sums) - 1)

    def draw_open(self, rng: Random, tried: Sequence[Backend], but: int) -> int:
        """Draw a member that is open, and not this one; -1 without one. Whoever may not be drawn is drawn again, which leaves
        the shares of the rest as they are; O(n) where many may not.
        """
        for _ in range(1 + REDRAWS):
            index = self.at(rng.random())
            if index == but:
                continue
            backend = self.members[index]
            if open_to(backend, tried):
                return index
            step_over(backend)
        left = self.left(tried, but)
        return self.among(rng.random() * left, tried, but) if left else -1

    def left(self, tried: Sequence[Backend], but: int) -> float:
        """The weight of all members that are open, this one left out: O(n)."""
        total = 0.0
        for index in range(len(self.members)):
            if index != but and open_to(self.members[index], tried):
                total += self.weights[index]
        return total

    def among(self, point: float, tried: Sequence[Backend], but: int) -> int:
        """Who stands at this point, from 0 to `left`, of those that are left: O(n)."""
        for index in range(len(self.members)):
            if index != but and open_to(self.members[index], tried):
                point -= self.weights[index]
                if point < 0:
                    return index
        return -1

    def ranking(self) -> list[tuple[Backend, float]]:
        """The members by their share, as if all were open."""
        shares = [(backend, self.weights[index] / self.total) for index, backend in enumerate(self.members)]
        return sorted(shares, key=lambda one: -one[1])
