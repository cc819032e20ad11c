"""Shares: members drawn by chance, each in proportion to its weight."""

from collections.abc import Sequence
from random import Random
from typing import Final

from twisted_lb.core.backend import Backend
from twisted_lb.core.pickers.base import open_to, step_over

# Weights as whole numbers of this part of one: who is on its way back (slow start) has no whole weight.
_GRAIN: Final = 1 << 20
# Redraws before the rest is looked at as a whole; with one of two members out, 1 in 32 picks gets that far.
REDRAWS: Final = 4


def alias_table(weights: Sequence[int]) -> tuple[list[int], list[int]]:
    """The alias table of these weights (Walker 1977, as Vose 1991 makes it): as many columns as weights, all as high as the sum of the
    weights. A column is its own member's up to the first number, and from there on another's, which is the second. All of it is
    whole numbers, so that each member has its share exactly: its weight times the number of columns. O(n).
    """
    size, height = len(weights), sum(weights)
    own = [weight * size for weight in weights]
    other = list(range(size))
    low = [index for index in range(size) if own[index] < height]
    high = [index for index in range(size) if own[index] > height]
    while low:
        index, giver = low.pop(), high[-1]
        other[index] = giver
        own[giver] -= height - own[index]
        if own[giver] <= height:
            high.pop()
            if own[giver] < height:
                low.append(giver)
    return own, other


class Shares:
    """The shares of members by weight: O(1) a draw, by an alias table where weights differ."""

    def __init__(self, members: Sequence[Backend]) -> None:
        self.members: Final = list(members)
        self.weights: Final = [backend.weighing.effective for backend in members]
        self.equal: Final = len(set(self.weights)) == 1
        self.total: Final = sum(self.weights)
        self._size: Final = len(self.members)
        grains = [] if self.equal else [max(round(weight * _GRAIN), 1) for weight in self.weights]
        own, other = alias_table(grains)
        # Where in a column of height 1 its own share ends.
        height = sum(grains)
        self._ends: Final[list[float]] = [one / height for one in own]
        self._others: Final[list[int]] = other

    def at(self, number: float) -> int:
        """Whose share a number from 0 to 1 falls into."""
        point = number * self._size
        column = int(point)
        if self.equal or point - column < self._ends[column]:
            return column
        return self._others[column]

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
        """Who stands at this point, from 0 to `left`, of those that are left: O(n). The last one where rounding leaves something."""
        found = -1
        for index in range(len(self.members)):
            if index != but and open_to(self.members[index], tried):
                found = index
                point -= self.weights[index]
                if point < 0:
                    break
        return found

    def ranking(self) -> list[tuple[Backend, float]]:
        """The members by their share, as if all were open."""
        total = self.total or 1.0  # of a picker that is made anew soon, nobody may have any weight by now
        shares = [(backend, self.weights[index] / total) for index, backend in enumerate(self.members)]
        return sorted(shares, key=lambda one: -one[1])
