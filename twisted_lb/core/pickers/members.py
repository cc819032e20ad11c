"""Members that keys are spread over: their order, the numbers that they draw for a key, and how much each may have in flight."""

from collections.abc import Sequence
from math import log
from typing import Final

from twisted_lb.core.ask import key_of
from twisted_lb.core.backend import Backend
from twisted_lb.core.counts import Counts
from twisted_lb.core.load import Requests
from twisted_lb.core.pickers.base import open_to

_WORD: Final = 0xFFFFFFFF
_WORD_BITS: Final = 32
_MIX: Final = 0x45D9F3B
# Where an agent wants a part of its backend's weight, weights are counted in thousandths.
_PARTS: Final = 1000


class Members:
    """The members that keys are spread over, by name, whatever their order in the configuration, and their bounded loads
    (Mirrokni, Thorup, Zadimoghaddam: Consistent Hashing with Bounded Loads, 2016).

    With a bound of `percent` a member has room while it has less in flight than that part of its share by weight of all that is
    in flight, the request that is asked for included, rounded up: 100 requests of one hot key fill 13 of each of ten members at
    125. 0: there is no bound.
    """

    def __init__(self, members: Sequence[Backend], percent: int) -> None:
        self._given: Final = list(members)
        self.all: Final = sorted(members, key=lambda backend: backend.name)
        self._steady: Final = [backend.weighing.steady for backend in self.all]
        self.weights: Final = _whole(self._steady)
        self.equal: Final = len(set(self.weights)) == 1
        self.percent: Final = percent
        self._weight: Final = sum(self.weights)
        self._counts: Final[Counts] = _counts_of(self.all[0])
        self._slots: Final = [_slot_of(backend) for backend in self.all]
        # What stands for each of them where numbers are drawn, once that is asked for: two words.
        self._lows: list[int] = []
        self._highs: list[int] = []

    def alike(self, other: "Members") -> bool:
        """Whether keys are spread over the other ones as over these: names and weights are the same."""
        return self.weights == other.weights and [one.name for one in self.all] == [one.name for one in other.all]

    def over(self, members: Sequence[Backend], percent: int) -> bool:
        """Whether these would be the same ones, to the last number: O(n)."""
        return (
            percent == self.percent
            and self._given == members
            and self._steady == [backend.weighing.steady for backend in self.all]
            and self._counts is _counts_of(self.all[0])
            and self._slots == [_slot_of(backend) for backend in self.all]
        )

    def seed(self) -> None:
        """Have ready what numbers are drawn by: O(n)."""
        if not self._lows:
            keys = [key_of(backend.name.encode()) for backend in self.all]
            self._lows = [key & _WORD for key in keys]
            self._highs = [key >> _WORD_BITS for key in keys]

    def scores(self, key: int) -> list[float]:
        """The score of each for a key, the highest one wins: the number that it draws, or, where weights are not equal,
        -w / ln(u) (Schindelhauer, Schomaker 2005).
        """
        self.seed()
        numbers = drawn(key & _WORD, self._lows)
        if self.equal:
            return [float(number) for number in numbers]
        # Half a step off, since 0 has no logarithm.
        return [-self.weights[index] / log((number + 0.5) / (_WORD + 1)) for index, number in enumerate(numbers)]

    def order(self, key: int) -> list[int]:
        """All by their scores for a key; what decides between equal ones is another draw. O(n log n)."""
        scores = self.scores(key)
        others = drawn(key >> _WORD_BITS, self._highs)
        return sorted(range(len(scores)), key=lambda index: (-scores[index], -others[index]))

    def highest(self, key: int) -> int:
        """The first of `order`: O(n)."""
        scores = self.scores(key)
        best = max(scores)
        return scores.index(best) if scores.count(best) == 1 else self.order(key)[0]

    def in_flight(self) -> int:
        """What all members have in flight: O(n), at C's speed where the pool has no others."""
        view = self._counts.view()
        return sum(view) if len(view) == len(self._slots) else sum([view[slot] for slot in self._slots])

    def light(self, index: int) -> bool:
        """Whether a member has room, however many others are out: O(1) for one that has nothing in flight, else O(n)."""
        if not self.percent:
            return True
        had = self._counts.load(self._slots[index])
        return not had or had * 100 * self._weight < self.percent * (self.in_flight() + 1) * self.weights[index]

    def room(self, tried: Sequence[Backend]) -> "Room":
        """How much each may have in flight now: O(n)."""
        weight = sum([self.weights[index] for index, backend in enumerate(self.all) if open_to(backend, tried)])
        return Room(self.weights, weight, self.percent * (self.in_flight() + 1) if self.percent else 0)

    def had(self, index: int) -> int:
        """What a member has in flight."""
        return self._counts.load(self._slots[index])

    def highest_open(self, key: int, tried: Sequence[Backend], room: "Room") -> Backend | None:
        """By rendezvous one of those that are open and have room; None without one. O(n log n)."""
        for index in self.order(key):
            if open_to(self.all[index], tried) and self.had(index) < room.most(index):
                return self.all[index]
        return None


def _counts_of(backend: Backend) -> Counts:
    """Where its requests in flight are counted: for a shadow, those that it would have there."""
    load = backend.load
    return load.counts if isinstance(load, Requests) else backend.counts


def _slot_of(backend: Backend) -> int:
    load = backend.load
    return load.slot if isinstance(load, Requests) else backend.slot


def _whole(weights: Sequence[float]) -> list[int]:
    """These weights in proportion, as whole numbers of at least 1; those that are whole as they are."""
    grain = 1 if all(weight == int(weight) for weight in weights) else _PARTS
    return [max(round(weight * grain), 1) for weight in weights]


class Room:
    """How much each member may have in flight, at one moment: `weight` is that of all that are open, 0 while nobody is."""

    __slots__ = ("_hundredths", "_weights", "weight")

    def __init__(self, weights: Sequence[int], weight: int, hundredths: int) -> None:
        self._weights: Final = weights
        self.weight: Final = weight
        self._hundredths: Final = hundredths  # of requests, all together; 0: as many as they like

    def most(self, index: int) -> int:
        """What a member may have in flight: its share by weight, rounded up, so that it is never nothing."""
        if not self._hundredths:
            return _WORD
        return -(-self._hundredths * self._weights[index] // (100 * max(self.weight, 1)))


def drawn(word: int, seeds: Sequence[int]) -> list[int]:
    """A number of 32 bits for each of these seeds and a word: their bits, mixed into one another and back (Thomas Mueller's
    integer hash, of the H2 database). Whole numbers below 2^62, which are the same in both builds.
    """
    found: list[int] = []
    for seed in seeds:
        number = word ^ seed
        number = ((number >> 16) ^ number) * _MIX & _WORD
        number = ((number >> 16) ^ number) * _MIX & _WORD
        found.append((number >> 16) ^ number)
    return found
