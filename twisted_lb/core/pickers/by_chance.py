"""Weighted random: each pick by chance, in proportion to weight, with no memory."""

from collections.abc import Sequence
from random import Random
from typing import Final

from twisted_lb.core.ask import Ask
from twisted_lb.core.backend import Backend
from twisted_lb.core.counts import Counts
from twisted_lb.core.load import Loads
from twisted_lb.core.pickers.base import Bare, Picker, Recalled, open_to, step_over
from twisted_lb.core.pickers.shares import REDRAWS, Shares


class Chance(Picker):
    """A weighted random picker: O(1), by an alias table where weights differ; O(n) where many members are out."""

    def __init__(self, shares: Shares) -> None:
        super().__init__()
        self._shares: Final = shares
        # A number that was drawn; with a total, where it was one among those that were left.
        self.mark = 0.0

    def pick(self, ask: Ask, now: float, rng: Random, tried: Sequence[Backend]) -> Backend | None:
        """A member by chance. One that is out is drawn again, which leaves the shares of the rest as they are."""
        shares = self._shares
        for _ in range(1 + REDRAWS):
            number = rng.random()
            backend = shares.members[shares.at(number)]
            if open_to(backend, tried):
                self.mark = number
                return backend
            step_over(backend)
        left = shares.left(tried, -1)
        if not left:
            self.mark = (0.0, 0)
            return None
        number = rng.random()
        self.mark = (number, left)
        index = shares.among(number * left, tried, -1)
        return shares.members[index] if index >= 0 else None

    def ranking(self, ask: Ask, now: float) -> Sequence[tuple[Backend, float]]:
        """The members by their chance, as if all were open."""
        return self._shares.ranking()

    def recalled(self, mark: object, picked: Backend | None) -> Recalled:
        """See Picker: the number that was drawn, and the share of the one that it led to."""
        shares = self._shares
        ranking = shares.ranking()
        if picked is None:
            return Recalled("by chance: none of them was open", ranking)
        weight = shares.weights[shares.members.index(picked)]
        if isinstance(mark, tuple):
            number, total = mark
            return Recalled(
                f"by chance, among those that were left: drew {number:.4f}, its share is {weight / total:.4f}", ranking
            )
        return Recalled(f"by chance: drew {mark:.4f}, its share is {weight / shares.total:.4f}", ranking)

    def fork(self) -> Picker:
        """A copy: the picker has no memory but of its last draw."""
        return Chance(self._shares)

    def bare(self) -> Picker:
        """See Picker: the number that was drawn."""
        return _Bare()


class _Bare(Bare):
    def told(self, mark: object, picked: Backend | None) -> str:
        if picked is None:
            return "by chance: none of them was open"
        if isinstance(mark, tuple):
            return f"by chance, among those that were left: drew {mark[0]:.4f}"
        assert isinstance(mark, float)
        return f"by chance: drew {mark:.4f}"


class RandomPolicy:
    """The random policy: by chance, in proportion to weight."""

    def __init__(self) -> None:
        self.describe: Final = "random: by chance, in proportion to weight"
        self.eager: Final = True
        self.keyed: Final = False

    def loads(self, counts: Counts) -> Loads | None:
        """None: chance does not look at load."""
        return None

    def build(self, members: Sequence[Backend], previous: Picker | None, rng: Random, now: float) -> Picker:
        """A picker over these members; chance has nothing to carry over."""
        return Chance(Shares(members))
