"""Ring (ketama): each member has many points on a circle of 32 bits, and a key belongs to the next point behind its own place.

The points are libketama's (Richard Jones, 2007; its test data is that of our tests), so that whoever uses that for the same
names and weights finds the same backends.
"""

from array import array
from bisect import bisect_left
from collections.abc import Sequence
from hashlib import md5
from itertools import pairwise
from struct import unpack
from typing import Final

from twisted_lb.core.backend import Backend
from twisted_lb.core.pickers.base import Picker
from twisted_lb.core.pickers.by_key import Table
from twisted_lb.core.pickers.members import Members

_WORD: Final = 0xFFFFFFFF
# Digests for each member, on average; each gives four points.
_DIGESTS: Final = 40
# Room for the number of a member behind its point; both are below 2^62, which compiled code counts fast.
_INDEX_BITS: Final = 20


def points_of(name: str, digests: int) -> list[int]:
    """The points of a member of this name: four of each digest."""
    found: list[int] = []
    for number in range(digests):
        found.extend(unpack("<4I", md5(f"{name}-{number}".encode(), usedforsecurity=False).digest()))
    return found


def digests_of(weights: Sequence[int]) -> list[int]:
    """How many digests each member has: 40 on average, by weight, rounded down; but one at least, which libketama does not see
    to: who had none would get nothing.
    """
    total = sum(weights)
    return [max(_DIGESTS * len(weights) * weight // total, 1) for weight in weights]


class Ring(Table):
    """A ring of 160 points for each member of average weight: O(log n) a pick, O(n log n) to build, of which the points of who
    stays are taken over. 8 bytes a point: 1.3 kB for each member, 13 MB for 10,000 (80 MB for the moment of building).

    When one of n members goes, its keys move and no others, where weights are equal; with other weights the number of points that
    each has is another one, and a few more move. Shares are uneven by 8 % (standard deviation).
    """

    def __init__(self, members: Members, points: Sequence[int], owners: Sequence[int], digests: Sequence[int]) -> None:
        super().__init__(members, "ring", owners)
        self._points: Final = points
        self._digests: Final = digests

    @classmethod
    def built(cls, members: Members, previous: Picker | None) -> "Ring":
        """The ring of these members; what stands on the one before and is to stand on this one is not made anew."""
        if isinstance(previous, Ring) and previous.members.alike(members):
            return cls(members, previous._points, previous.owners, previous._digests)
        digests = digests_of(members.weights)
        packed: list[int] = []
        fresh = list(range(len(digests)))
        if isinstance(previous, Ring):
            places = {(backend.name, digests[index]): index for index, backend in enumerate(members.all)}
            packed = previous.kept(places)
            there = previous.named()
            fresh = [index for name, index in places.items() if name not in there]
        for index in fresh:
            packed += [point << _INDEX_BITS | index for point in points_of(members.all[index].name, digests[index])]
        packed.sort()
        mask = (1 << _INDEX_BITS) - 1
        points = array("I", [one >> _INDEX_BITS for one in packed])
        return cls(members, points, array("I", [one & mask for one in packed]), digests)

    def named(self) -> set[tuple[str, int]]:
        """Who is on the ring, and with how many digests."""
        return {(backend.name, self._digests[index]) for index, backend in enumerate(self.members.all)}

    def kept(self, places: dict[tuple[str, int], int]) -> list[int]:
        """The points of those that have a place, with its number, in their order."""
        moved = [places.get((backend.name, self._digests[at]), -1) for at, backend in enumerate(self.members.all)]
        return [
            point << _INDEX_BITS | moved[owner]
            for point, owner in zip(self._points, self.owners, strict=True)
            if moved[owner] >= 0
        ]

    def place(self, key: int) -> int:
        """The first point at the place of a key, or behind it."""
        at = bisect_left(self._points, key & _WORD)
        return at if at < len(self._points) else 0

    def point(self, key: int) -> int:
        """Where on the circle that point is."""
        return self._points[self.place(key)]

    def shares(self) -> list[tuple[Backend, float]]:
        """The members by what belongs to them of the circle: O(points)."""
        arcs = [0] * len(self.members.all)
        arcs[self.owners[0]] = _WORD + 1 - self._points[-1] + self._points[0]
        for at, (before, point) in enumerate(pairwise(self._points), 1):
            arcs[self.owners[at]] += point - before
        shares = [(backend, arcs[index] / (_WORD + 1)) for index, backend in enumerate(self.members.all)]
        return sorted(shares, key=lambda one: -one[1])

    def fork(self) -> Picker:
        """A copy: the picker has no memory but of its last pick."""
        return Ring(self.members, self._points, self.owners, self._digests)
