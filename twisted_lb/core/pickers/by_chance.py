"""Random: each pick by chance, in proportion to weight, with no memory."""

from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate
from random import Random
from typing import Final

from twisted_lb.core.ask import Ask
from twisted_lb.core.backend import Backend
from twisted_lb.core.pickers.base import Picker

# Redraws before the rest is looked at as a whole; with one of two avoided, 1 in 16 picks gets that far.
_REDRAWS: Final = 4


class Chance:
    """Equal weights O(1), unequal ones O(log n); O(n) where many are avoided."""

    def __init__(self, members: Sequence[Backend]) -> None:
        self._members: Final = list(members)
        self._equal: Final = len({backend.weight for backend in members}) == 1
        self._sums: Final = list(accumulate(backend.weight for backend in members))
        self._total: Final = self._sums[-1]

    def pick(self, ask: Ask, now: float, rng: Random, tried: Sequence[Backend]) -> Backend | None:
        """A member by chance; avoided ones are drawn again, which leaves the weights of the rest as they are."""
        backend = self._draw(rng)
        if not tried or backend not in tried:
            return backend
        for _ in range(_REDRAWS):
            backend = self._draw(rng)
            if backend not in tried:
                return backend
        rest = [member for member in self._members if member not in tried]
        return Chance(rest)._draw(rng) if rest else None

    def _draw(self, rng: Random) -> Backend:
        if self._equal:
            return self._members[int(rng.random() * len(self._members))]
        return self._members[bisect_right(self._sums, rng.random() * self._total, 0, len(self._sums) - 1)]


class RandomPolicy:
    """Builds it."""

    describe: str = "random: by chance, in proportion to weight"

    def build(self, backends: Sequence[Backend], previous: Picker | None, rng: Random) -> Picker:
        """See Policy; chance has nothing to carry over."""
        return Chance(backends)
