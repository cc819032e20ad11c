"""Policies that herd, for tests: ties to the first of equals, and loads that are read from a board which is old."""

from twisted_lb.core.load import Load, Loads
from twisted_lb.core.load_report import LoadReport
from twisted_lb.core.pickers.base import Picker
from twisted_lb.core.pickers.by_load import LoadKind, LoadPolicy
from twisted_lb.core.reported import Reports


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


class Post(Loads):
    """`reported`, where all backends say every so many seconds what they have in flight, and nothing in between."""

    def __init__(self, counts, every_s):
        self.counts, self.every_s = counts, every_s
        self.reports, self.until = Reports(counts), 0.0
        self.each = {}

    def of(self, slot):
        self.each[slot] = self.reports.of(slot)
        return Heard(self, self.each[slot])

    def come(self, now):
        if now >= self.until:
            for slot, one in self.each.items():
                one.hear(LoadReport({"application_utilization": float(self.counts.load(slot))}), now)
            self.until = (now // self.every_s + 1) * self.every_s


class Heard(Load):
    """One backend's load by what it has reported last."""

    def __init__(self, post, reported):
        self.post, self.reported = post, reported

    def value(self, weight, now):
        self.post.come(now)
        return self.reported.value(weight, now)


def reported(choose, every_s):
    """A policy that chooses by what is reported every so many seconds."""
    kind = LoadKind(lambda counts: Post(counts, every_s), str, "late reports")
    return LoadPolicy(f"{choose} by late reports", choose, kind)
