"""Maglev: a table in which each member has as many entries as it should, and a key belongs to whose entry it falls on.

Eisenbud and others: Maglev: A Fast and Reliable Software Network Load Balancer (NSDI 2016), 3.4; by weight as Envoy does it.
"""

from array import array
from collections import Counter
from collections.abc import Sequence
from hashlib import md5
from heapq import heapreplace
from struct import unpack
from typing import Final

from twisted_lb.core.backend import Backend
from twisted_lb.core.pickers.base import Picker
from twisted_lb.core.pickers.by_key import Table, TableWork
from twisted_lb.core.pickers.members import Members

# A prime, and the paper's own choice.
SIZE: Final = 65537
# So many looks at an entry take as long as what else is a step of a groundwork.
_LOOKS_OF_A_STEP: Final = 8
# The logarithm of the size: looks for each entry, on average.
_LOOKS_FOR_EACH: Final = 11


class _Turns:
    """Who chooses: a member's turn comes when its weight, added up from round to round, is as much as the heaviest one has in a
    round.
    """

    def __init__(self, weights: Sequence[int]) -> None:
        self._weights: Final = weights
        self._number: Final = len(weights)
        self._heaviest: Final = max(weights)
        self._equal: Final = min(weights) == self._heaviest
        self._next: int = 0
        self._taken: Final = [0] * self._number
        # The round in which each chooses next, and who it is, in one number: the least comes first.
        self._due: Final = [self._number + index for index in range(self._number)]

    def take(self) -> int:
        """Whose turn it is."""
        if self._equal:
            index = self._next
            self._next = index + 1 if index + 1 < self._number else 0
            return index
        soonest = self._due[0]
        index = soonest % self._number
        self._taken[index] += 1
        following = -(-self._taken[index] * self._heaviest // self._weights[index])
        heapreplace(self._due, max(following, soonest // self._number + 1) * self._number + index)
        return index


class _Filling:
    """A table of this size, a prime, in the making: whose each entry is. The members choose in rounds, in their order, each the first
    entry that is free of `offset`, `offset + skip` and so on; one of less weight than the heaviest lets rounds pass.
    """

    def __init__(self, offsets: Sequence[int], skips: Sequence[int], weights: Sequence[int], size: int) -> None:
        self.table: Final = [-1] * size
        self.left: int = size
        self._next_at: Final = list(offsets)
        self._skips: Final = skips
        self._turns: Final = _Turns(weights)

    def fill(self, looks: int) -> int:
        """Fill more of it, by so many looks at an entry, or as many more as one turn takes; how many it were."""
        table, size, looked = self.table, len(self.table), 0
        while self.left and looked < looks:
            index = self._turns.take()
            at, skip = self._next_at[index], self._skips[index]
            while table[at] >= 0:
                at += skip
                if at >= size:
                    at -= size
                looked += 1
            table[at] = index
            self._next_at[index] = at
            self.left -= 1
            looked += 1
        return looked


def filled(offsets: Sequence[int], skips: Sequence[int], weights: Sequence[int], size: int) -> list[int]:
    """A whole table, see `_Filling`: O(size log size)."""
    filling = _Filling(offsets, skips, weights, size)
    while filling.left:
        filling.fill(size)
    return filling.table


def chosen(weights: Sequence[int], turns: int) -> Sequence[int]:
    """Who chooses, so many turns long."""
    by_turns = _Turns(weights)
    return [by_turns.take() for _ in range(turns)]


class Maglev(Table):
    """A table of 65,537 entries: O(1) a pick, O(n) past its owner, O(65,537 log 65,537) to build. 262 kB, however many members there are.

    Shares are even to one entry, by weight to one or two: within 1 % up to 655 members, 7 % with 10,000. When one of n members goes, its keys move, and
    a few more: 0.3 % of all with 10 members, 0.6 % with 100.
    """

    def __init__(self, members: Members, owners: Sequence[int]) -> None:
        super().__init__(members, "maglev", owners)

    @classmethod
    def built(cls, members: Members, previous: Picker | None) -> "Maglev":
        """The table of these members, which follows from their names and weights alone; where these are as before, it is that one."""
        if isinstance(previous, Maglev) and previous.members.alike(members):
            return cls(members, previous.owners)
        work = MaglevWork(members, previous)
        while not work.done:
            work.work(work.cost)
        return work.table()

    def place(self, key: int) -> int:
        """The entry that a key falls on."""
        return key % SIZE

    def shares(self) -> list[tuple[Backend, float]]:
        """The members by how many entries are theirs: O(entries)."""
        entries = Counter(self.owners)
        shares = [(backend, entries[index] / SIZE) for index, backend in enumerate(self.members.all)]
        return sorted(shares, key=lambda one: -one[1])

    def fork(self) -> Picker:
        """A copy: the picker has no memory but of its last pick."""
        return Maglev(self.members, self.owners)


class MaglevWork(TableWork):
    """A table of Maglev in the making."""

    def __init__(self, members: Members, previous: Picker | None) -> None:
        super().__init__()
        self._members: Final = members
        same = isinstance(previous, Maglev) and previous.members.alike(members)
        self._before: Final = previous if same and isinstance(previous, Maglev) else None
        self._filling: _Filling | None = None
        if self._before is None:
            offsets, skips = [], []
            for backend in members.all:
                first, second = unpack("<2Q", md5(backend.name.encode(), usedforsecurity=False).digest())
                offsets.append(first % SIZE)
                skips.append(second % (SIZE - 1) + 1)
            self._filling = _Filling(offsets, skips, members.weights, SIZE)
        self.cost = 0 if self._filling is None else SIZE * _LOOKS_FOR_EACH // _LOOKS_OF_A_STEP

    def work(self, steps: int) -> int:
        """See Groundwork."""
        filling = self._filling
        if filling is None or self.cost <= 0:
            return steps
        done = filling.fill(steps * _LOOKS_OF_A_STEP) // _LOOKS_OF_A_STEP
        self.cost = max(self.cost - done, 1) if filling.left else 0
        return max(steps - done, 0)

    def table(self) -> "Maglev":
        """See TableWork."""
        if self._before is not None:
            return Maglev(self._members, self._before.owners)
        assert self._filling is not None
        return Maglev(self._members, array("I", self._filling.table))

    def coarse_table(self) -> "Maglev":
        """See TableWork: the whole one, since a smaller one is another one for most keys. It takes as long however many members
        there are.
        """
        while not self.done:
            self.work(self.cost)
        return self.table()
