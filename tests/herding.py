"""Policies that herd, for tests: ties to the first of equals, and loads that are read from a board which is old."""

from twisted_lb.core.load import Load, Loads
from twisted_lb.core.pickers.base import Picker
from twisted_lb.core.pickers.by_load import LoadKind, LoadPolicy


class FirstOfEquals(Picker):
    """Least of all, the first one of those with equally little."""

    def __init__(self, members):
        super().__init__()
        self.members = members

    def pick(self, ask, now, rng, tried):
        best = None
        for backend in self.members:
            if best is None or backend.in_flight < best.in_flight:
                best = backend
        return best


class FirstOfEqualsPolicy:
    """Its policy, which looks at what is in flight."""

    describe, eager, keyed = "least of all, the first of equals", True, False

    def loads(self, counts):
        return None

    def build(self, members, previous, rng, now):
        return FirstOfEquals(list(members))


FIRST_OF_EQUALS = FirstOfEqualsPolicy()


class Board(Loads):
    """What all had in flight when somebody looked last (a bulletin board), every so many seconds."""

    def __init__(self, counts, every_s):
        self.counts, self.every_s = counts, every_s
        self.told, self.until = (), 0.0

    def of(self, slot):
        return Reading(self, slot)

    def read(self, slot, now):
        if now >= self.until:
            self.told = self.counts.view()
            self.until = (now // self.every_s + 1) * self.every_s
        return self.told[slot]


class Reading(Load):
    """One backend's load by the board."""

    def __init__(self, board, slot):
        self.board, self.slot = board, slot

    def value(self, weight, now):
        return self.board.read(self.slot, now) / weight


def board(choose, every_s):
    """A policy that chooses by a board that is renewed every so many seconds."""
    kind = LoadKind(lambda counts: Board(counts, every_s), str, "an old board")
    return LoadPolicy(f"{choose} by an old board", choose, kind)
