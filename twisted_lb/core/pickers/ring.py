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
from twisted_lb.core.pickers.by_key import Table, TableWork
from twisted_lb.core.pickers.members import Members

_WORD: Final = 0xFFFFFFFF
# Digests for each member, on average; each gives four points.
_DIGESTS: Final = 40
# Room for the number of a member behind its point; both are below 2^62, which compiled code counts fast.
_INDEX_BITS: Final = 20
_INDEX: Final = (1 << _INDEX_BITS) - 1
_POINT_BITS: Final = 32
# What is merged is merged in arcs of the circle with 16 to 32 points each.
_ARC_BITS: Final = 5
_POINTS_OF_A_DIGEST: Final = 4
# What the digests of a ring are divided by where it has to be there at once.
_COARSER: Final = 40
# Of more points nobody looks at each to tell shares.
_MOST_MEASURED: Final = 1 << 14


def points_of(name: str, digests: int, first: int = 0) -> list[int]:
    """The points of a member of this name: four of each digest, from the `first` one on."""
    found: list[int] = []
    for number in range(first, digests):
        found.extend(unpack("<4I", md5(f"{name}-{number}".encode(), usedforsecurity=False).digest()))
    return found


def digests_of(weights: Sequence[int]) -> list[int]:
    """How many digests each member has: 40 on average, by weight, rounded down; but one at least, which libketama does not see
    to: who had none would get nothing.
    """
    total = sum(weights)
    return [max(_DIGESTS * len(weights) * weight // total, 1) for weight in weights]


class Ring(Table):
    """A ring of 160 points for each member of average weight: O(log n) a pick, O(n) past its owner. 8 bytes a point: 1.3 kB for each member, 13 MB for
    10,000 (80 MB for the moment of building all of it).

    O(n log n) to build. A ring that is made of another one costs what the digests of those that come, go or have another number of
    them cost, and beside that a copy of all points at C's speed.

    When one of n members goes, its keys move and no others, where weights are equal; with other weights the number of points that
    each has is another one, and a few more move. Shares are uneven by 8 % (standard deviation).

    `owners` are seats: a member has the same one in all rings that are made of one another, so that what stays is copied.
    """

    def __init__(
        self,
        members: Members,
        points: Sequence[int],
        owners: Sequence[int],
        digests: Sequence[int],
        seats: Sequence[int],
        places: Sequence[int],
    ) -> None:
        super().__init__(members, "ring", owners)
        self._points: Final = points
        self.digests: Final = digests
        self.seats: Final = seats  # of each member
        self._places: Final = places  # among the members, of who has each seat; -1: it is free

    @classmethod
    def built(cls, members: Members, previous: Picker | None) -> "Ring":
        """The ring of these members, all of it at once; one that is there already as it is."""
        if isinstance(previous, Ring) and previous.members.alike(members):
            return cls(members, previous._points, previous.owners, previous.digests, previous.seats, previous._places)
        work = RingWork(members, previous)
        while not work.done:
            work.work(work.cost)
        return work.ring()

    def whose(self, entries: Sequence[int]) -> list[int]:
        """See Table: by seats."""
        places = self._places
        return [places[seat] for seat in entries]

    def owner(self, key: int) -> int:
        """Whose point it is."""
        return self._places[self.owners[self.place(key)]]

    def place(self, key: int) -> int:
        """The first point at the place of a key, or behind it."""
        at = bisect_left(self._points, key & _WORD)
        return at if at < len(self._points) else 0

    def point(self, key: int) -> int:
        """Where on the circle that point is."""
        return self._points[self.place(key)]

    def between(self, first: int, end: int) -> tuple[int, int]:
        """Which points are on this arc of the circle: the first one, and the first one behind."""
        low = bisect_left(self._points, first)
        return low, bisect_left(self._points, end, low)

    def copy(self, low: int, high: int, points: "array[int]", owners: "array[int]") -> None:
        """Append these points, with their seats: at C's speed."""
        points.extend(array("I", self._points[low:high]))
        owners.extend(array("I", self.owners[low:high]))

    def packed(self, low: int, high: int, places: Sequence[int]) -> list[int]:
        """These points with the new places of their seats behind them; those left out that have none."""
        found: list[int] = []
        for at in range(low, high):
            place = places[self.owners[at]]
            if place >= 0:
                found.append(self._points[at] << _INDEX_BITS | place)
        return found

    def shares(self) -> list[tuple[Backend, float]]:
        """The members by what belongs to them of the circle; where it has many points, by how many of these they have, which is that on
        average. O(n).
        """
        all_ = self.members.all
        if len(self._points) > _MOST_MEASURED:
            whole = sum(self.digests)
            shares = [(backend, self.digests[index] / whole) for index, backend in enumerate(all_)]
        else:
            owners = self.whose(self.owners)
            arcs = [0] * len(all_)
            arcs[owners[0]] = _WORD + 1 - self._points[-1] + self._points[0]
            for at, (before, point) in enumerate(pairwise(self._points), 1):
                arcs[owners[at]] += point - before
            shares = [(backend, arcs[index] / (_WORD + 1)) for index, backend in enumerate(all_)]
        return sorted(shares, key=lambda one: -one[1])

    def fork(self) -> Picker:
        """A copy: the picker has no memory but of its last pick."""
        return Ring(self.members, self._points, self.owners, self.digests, self.seats, self._places)


class _Change:
    """A member of which digests from one number to another come, or go. `place` is -1 for one that has left."""

    __slots__ = ("comes", "first", "last", "name", "place")

    def __init__(self, name: str, place: int, first: int, last: int, *, comes: bool) -> None:
        self.name: Final = name
        self.place: Final = place
        self.first: Final = first
        self.last: Final = last
        self.comes: Final = comes


class RingWork(TableWork):
    """A ring in the making: first the points that come and go, by the arc on which they are, then one such arc after the other is
    merged with what the ring before has there; all between them is copied.
    """

    def __init__(self, members: Members, previous: Picker | None) -> None:
        super().__init__()
        self._members: Final = members
        self._before: Final = previous if isinstance(previous, Ring) else None
        self._digests: Final = digests_of(members.weights)
        self._seats: list[int] = []
        self._moved: list[int] = []  # by seat, the place of who stays on the ring before
        self._changes: Final = self._changed()
        self._next_change: int = 0
        self._next_digest: int = self._changes[0].first if self._changes else 0
        total = _POINTS_OF_A_DIGEST * sum(self._digests)
        self._shift: Final = _POINT_BITS - max(total.bit_length() - _ARC_BITS, 0)
        self._come: Final[dict[int, list[int]]] = {}
        self._go: Final[dict[int, list[int]]] = {}
        self._arcs: list[int] = []
        self._next_arc: int = 0
        self._copied: int = 0  # points of the ring before that are on this one, or not any more
        self._points: Final = array("I")
        self._owners: Final = array("I")
        # A digest is as many steps as it gives points, and each of these is another one to be merged with one or two others.
        digests = sum([one.last - one.first for one in self._changes])
        self.cost = digests * _POINTS_OF_A_DIGEST * 2

    def _changed(self) -> list[_Change]:
        """What comes and goes, and who sits where. O(n)."""
        before, all_ = self._before, self._members.all
        old = {} if before is None else {backend.name: place for place, backend in enumerate(before.members.all)}
        moved = [-1] * (0 if before is None else len(before._places))
        seats = [-1] * len(all_)
        changes: list[_Change] = []
        for place, backend in enumerate(all_):
            was, had, wants = old.pop(backend.name, -1), 0, self._digests[place]
            if was >= 0 and before is not None:
                seats[place] = before.seats[was]
                moved[seats[place]] = place
                had = before.digests[was]
            if had != wants:
                few, many = min(had, wants), max(had, wants)
                changes.append(_Change(backend.name, place, few, many, comes=wants > had))
        if before is not None:
            changes.extend([_Change(name, -1, 0, before.digests[was], comes=False) for name, was in old.items()])
        free = [seat for seat, place in enumerate(moved) if place < 0]
        more = len(moved)
        for place in range(len(all_)):
            if seats[place] < 0:
                if free:
                    seats[place] = free.pop()
                else:
                    seats[place] = more
                    more += 1
        self._seats, self._moved = seats, moved
        return changes

    def work(self, steps: int) -> int:
        """See Groundwork."""
        while steps > 0 and self.cost > 0:
            done = self._digest() if self._next_change < len(self._changes) else self._merge()
            steps -= done
            self.cost = max(self.cost - done, 1)
            if self._next_change == len(self._changes) and not self._arcs:
                self._arcs = sorted(self._come.keys())
            if self._next_arc == len(self._arcs) and self._next_change == len(self._changes):
                self.cost = 0
        return max(steps, 0)

    def _digest(self) -> int:
        """The points of one more digest."""
        change = self._changes[self._next_change]
        for point in points_of(change.name, self._next_digest + 1, self._next_digest):
            arc = point >> self._shift
            here = self._come.get(arc)
            if here is None:
                here = self._come[arc] = []
            if change.comes:
                here.append(point << _INDEX_BITS | change.place)
            elif change.place >= 0:
                self._go.setdefault(arc, []).append(point << _INDEX_BITS | change.place)
        self._next_digest += 1
        if self._next_digest == change.last:
            self._next_change += 1
            if self._next_change < len(self._changes):
                self._next_digest = self._changes[self._next_change].first
        return _POINTS_OF_A_DIGEST

    def _merge(self) -> int:
        """One more arc."""
        arc = self._arcs[self._next_arc]
        self._next_arc += 1
        packed = self._come.pop(arc)
        before = self._before
        if before is not None:
            low, high = before.between(arc << self._shift, (arc + 1) << self._shift)
            before.copy(self._copied, low, self._points, self._owners)
            self._copied = high
            stay = before.packed(low, high, self._moved)
            for one in self._go.get(arc, ()):
                stay.remove(one)
            packed += stay
        packed.sort()
        seats = self._seats
        self._points.extend([one >> _INDEX_BITS for one in packed])
        self._owners.extend([seats[one & _INDEX] for one in packed])
        return len(packed) + 1

    def ring(self) -> Ring:
        """The ring, once all is done."""
        before = self._before
        if before is not None and not self._changes:
            points, owners = before._points, before.owners
        else:
            if before is not None:
                before.copy(self._copied, len(before.owners), self._points, self._owners)
                self._copied = len(before.owners)
            points, owners = self._points, self._owners
        return Ring(self._members, points, owners, self._digests, self._seats, _places_of(self._seats))

    def table(self) -> Ring:
        """See TableWork."""
        return self.ring()

    def coarse_table(self) -> Ring:
        """See TableWork: a fortieth of the points."""
        digests = [max(number // _COARSER, 1) for number in self._digests]
        packed: list[int] = []
        for place, backend in enumerate(self._members.all):
            packed += [point << _INDEX_BITS | place for point in points_of(backend.name, digests[place])]
        packed.sort()
        points = array("I", [one >> _INDEX_BITS for one in packed])
        owners = array("I", [one & _INDEX for one in packed])
        seats = list(range(len(digests)))
        return Ring(self._members, points, owners, digests, seats, seats)


def _places_of(seats: Sequence[int]) -> list[int]:
    places = [-1] * (max(seats) + 1)
    for place, seat in enumerate(seats):
        places[seat] = place
    return places
