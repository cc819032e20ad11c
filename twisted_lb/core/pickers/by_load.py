"""By load: least of all (a full scan), and the lesser of two that were drawn (power of two choices). What is compared is the
other axis, see `load`.
"""

from collections.abc import Callable, Sequence
from random import Random
from typing import Final

from twisted_lb.core.ask import Ask
from twisted_lb.core.backend import Backend
from twisted_lb.core.counts import Counts
from twisted_lb.core.load import Load, Loads, Requests
from twisted_lb.core.pickers.base import MOST_REMEMBERED, Bare, Picker, Recalled, open_to, step_over
from twisted_lb.core.pickers.shares import REDRAWS, Shares

# In a mark, in the place of a number: a trial was due.
_TRIAL: Final = -2
_TRIED: Final = "a trial was due: one request finds out whether it is back, whatever its load is"


def loads_of(members: Sequence[Backend]) -> list[Load]:
    """What measures the load of each member; an AssertionError where the policy that builds has not given it one."""
    loads: list[Load] = []
    for backend in members:
        load = backend.load
        assert load is not None, f"{backend.name} has no load"
        loads.append(load)
    return loads


class InFlight:
    """Loads that are requests in flight and nothing else: a scan reads them all at once, and not by two calls each."""

    def __init__(self, counts: Counts, slots: Sequence[int]) -> None:
        self._counts: Final = counts
        self._slots: Final = list(slots)
        # As a rule the members are the pool's, in their order, and no slot is anybody else's.
        self._in_order: Final = self._slots == list(range(len(self._slots)))

    @classmethod
    def of(cls, loads: Sequence[Load]) -> "InFlight | None":
        """These loads, if they are that."""
        slots: list[int] = []
        counts: Counts | None = None
        for load in loads:
            if type(load) is not Requests or (counts is not None and load.counts is not counts):
                return None
            counts = load.counts
            slots.append(load.slot)
        return None if counts is None else cls(counts, slots)

    def numbers(self) -> tuple[int, ...]:
        """What each has in flight."""
        view = self._counts.view()
        if self._in_order and len(view) == len(self._slots):
            return view
        return tuple([view[slot] for slot in self._slots])

    def values(self, weights: Sequence[float]) -> list[float]:
        """What each has in flight for each unit of these weights."""
        return [number / weights[index] for index, number in enumerate(self.numbers())]


class Scan(Picker):
    """Least loaded of all (join the shortest queue, least connections): O(n) a pick.

    Of those with equally little one is drawn by weight: whoever takes the first one, as many balancers beside one another
    would, sends all of them to the same backend.
    """

    def __init__(
        self, members: Sequence[Backend], loads: Sequence[Load], weights: Sequence[float], tell: Callable[[float], str]
    ) -> None:
        super().__init__()
        self._members: Final = list(members)
        self._loads: Final = list(loads)
        self._weights: Final = list(weights)
        self._tell: Final = tell
        self._small: Final = len(members) <= MOST_REMEMBERED
        self._in_flight: Final = InFlight.of(loads)
        self._equal: Final = len(set(self._weights)) == 1
        self._values: list[float] = []  # of the last pick
        # The load of each (whole numbers: not by weight yet), nothing where there are too many, and how many had the least.
        self.mark = ((), 0)

    def pick(self, ask: Ask, now: float, rng: Random, tried: Sequence[Backend]) -> Backend | None:
        """The open member with the least load for its weight; one whose trial is due before that, since by load it might never
        be tried.
        """
        if self._in_flight is not None and self._equal and not tried:
            backend = self._pick_alike(self._in_flight, rng)
            if backend is not None:
                return backend
        values = self._values = self._now(now)
        best, alike, shares, least, trial = -1, 0, 0.0, 0.0, -1
        for index in range(len(values)):
            backend = self._members[index]
            weight = self._weights[index]
            value = values[index]
            if not backend.available or (tried and backend in tried):  # as `open_to`, without the call
                step_over(backend)
            elif not backend.usable and backend.ejection.due:  # in panic others that are not usable are open too
                trial = index
            elif best < 0 or value < least:
                best, alike, shares, least = index, 1, weight, value
            elif value == least:
                alike += 1
                shares += weight
        self.mark = (tuple(values) if self._small else (), alike if trial < 0 else _TRIAL)
        if trial >= 0:
            return self._members[trial]
        if best < 0:
            return None
        return self._members[best] if alike == 1 else self._drawn(least, rng.random() * shares, tried)

    def _pick_alike(self, in_flight: InFlight, rng: Random) -> Backend | None:
        """Requests in flight of equal weights, at C's speed: one of those with the fewest. None where the one that was drawn is
        not open, or due for a trial: then all are looked at, and the draw begins anew, so that each has its share.
        """
        numbers = in_flight.numbers()
        least = min(numbers)
        alike = numbers.count(least)
        index = numbers.index(least)
        if alike > 1:
            further = int(rng.random() * alike)
            if alike == len(numbers):
                index = further
            else:
                for _ in range(further):
                    index = numbers.index(least, index + 1)
        backend = self._members[index]
        if not (backend.available and (backend.usable or not backend.ejection.due)):
            return None
        self.mark = (numbers if self._small else (), alike)
        return backend

    def _now(self, now: float) -> list[float]:
        """The load of each member."""
        if self._in_flight is not None:
            return self._in_flight.values(self._weights)
        return [self._loads[index].value(weight, now) for index, weight in enumerate(self._weights)]

    def _drawn(self, least: float, point: float, tried: Sequence[Backend]) -> Backend | None:
        """The one at this point of the shares of those that have the least."""
        found: Backend | None = None
        for index in range(len(self._values)):
            if self._values[index] == least and open_to(self._members[index], tried):
                found = self._members[index]
                point -= self._weights[index]
                if point < 0:
                    break
        return found

    def ranking(self, ask: Ask, now: float) -> Sequence[tuple[Backend, float]]:
        """The members by their load, the least first."""
        return self._ranked(self._now(now))

    def _ranked(self, values: Sequence[float]) -> list[tuple[Backend, float]]:
        return sorted(zip(self._members, values, strict=True), key=lambda one: one[1])

    def recalled(self, mark: object, picked: Backend | None) -> Recalled:
        """See Picker: the load that it had, and how many others had as little."""
        assert isinstance(mark, tuple)
        values, alike = mark
        if values and isinstance(values[0], int):
            values = tuple([number / self._weights[0] for number in values])
        ranking = self._ranked(values) if values else ()
        if picked is None:
            return Recalled("least of all: nobody was open", ranking)
        if alike == _TRIAL:
            return Recalled(_TRIED, ranking)
        drawn = f", drawn by chance among {alike} that had as little" if alike > 1 else ""
        if not values:
            return Recalled(f"least of all{drawn}; of more than {MOST_REMEMBERED} it is not kept what each had", ())
        value = values[self._members.index(picked)]
        return Recalled(f"least of all: {self._tell(value)}{drawn}", ranking)

    def fork(self) -> Picker:
        """A copy: the picker has no memory but of its last pick."""
        return Scan(self._members, self._loads, self._weights, self._tell)

    def bare(self) -> Picker:
        """See Picker: among how many it was drawn."""
        return _BareScan()


class _BareScan(Bare):
    def told(self, mark: object, picked: Backend | None) -> str:
        assert isinstance(mark, tuple)
        alike = mark[1]
        if picked is None:
            return "least of all: nobody was open"
        if alike == _TRIAL:
            return _TRIED
        return "least of all" + (f", drawn by chance among {alike} that had as little" if alike > 1 else "")


class Two(Picker):
    """Power of two choices: two members are drawn by weight, never the same one twice, and the less loaded of them is picked,
    the first one of two that are alike. O(1); O(n) where many members are out.

    Idle backends therefore get their shares exactly by weight. Two that are distinct balance small pools better than draws
    with replacement (Mitzenmacher 2001 has the distinct ones in his tables).
    """

    def __init__(self, shares: Shares, loads: Sequence[Load], tell: Callable[[float], str]) -> None:
        super().__init__()
        self._shares: Final = shares
        self._loads: Final = list(loads)
        self._tell: Final = tell
        self._pairs: Final = len(loads) * (len(loads) - 1) if shares.equal else 0
        # Who were drawn, -1 for nobody, and their loads.
        self.mark = (-1, -1, 0.0, 0.0)

    def pick(self, ask: Ask, now: float, rng: Random, tried: Sequence[Backend]) -> Backend | None:
        """The less loaded of two open members; one whose trial is due before that, since by load it might never be tried."""
        shares = self._shares
        first = second = -1
        if self._pairs:
            first, second = self._draw_pair(rng, tried)
        if first < 0:
            first = shares.draw_open(rng, tried, -1)
            if first < 0:
                self.mark = (-1, -1, 0.0, 0.0)
                return None
            second = shares.draw_open(rng, tried, first)
        if not shares.members[first].usable and shares.members[first].ejection.due:
            return self._try(first)
        if second >= 0 and not shares.members[second].usable and shares.members[second].ejection.due:
            return self._try(second)
        value = self._loads[first].value(shares.weights[first], now)
        if second < 0:
            self.mark = (first, -1, value, 0.0)
            return shares.members[first]
        other = self._loads[second].value(shares.weights[second], now)
        self.mark = (first, second, value, other)
        return shares.members[second if other < value else first]

    def _try(self, index: int) -> Backend:
        self.mark = (index, _TRIAL, 0.0, 0.0)
        return self._shares.members[index]

    def _draw_pair(self, rng: Random, tried: Sequence[Backend]) -> tuple[int, int]:
        """Two distinct open members of equal weight, of one random number; -1 where that fails."""
        members = self._shares.members
        rest = len(members) - 1
        for _ in range(1 + REDRAWS):
            pair = int(rng.random() * self._pairs)
            first = pair // rest
            second = pair - first * rest
            if second >= first:
                second += 1
            one, other = members[first], members[second]
            if one.available and other.available and not tried:  # as `open_to`, without the calls: as a rule
                return first, second
            if open_to(one, tried):
                if open_to(other, tried):
                    return first, second
                step_over(other)
            else:
                step_over(one)
        return -1, -1

    def ranking(self, ask: Ask, now: float) -> Sequence[tuple[Backend, float]]:
        """The members by their chance to be drawn first."""
        return self._shares.ranking()

    def recalled(self, mark: object, picked: Backend | None) -> Recalled:
        """See Picker: the two that were drawn, and their loads."""
        assert isinstance(mark, tuple)
        first, second, value, other = mark
        shares = self._shares
        ranking = shares.ranking()
        if picked is None:
            return Recalled("two choices: nobody was open", ranking)
        if second == _TRIAL:
            return Recalled(_TRIED, ranking)
        if second < 0:
            return Recalled("two choices: nobody else was open", ranking)
        its, theirs, rival = (value, other, second) if picked is shares.members[first] else (other, value, first)
        alike = ", as much, and was drawn later" if its == theirs else ""
        return Recalled(
            f"two choices: {self._tell(its)}; {shares.members[rival].name} has {self._tell(theirs)}{alike}", ranking
        )

    def fork(self) -> Picker:
        """A copy: the picker has no memory but of its last pick."""
        return Two(self._shares, self._loads, self._tell)

    def bare(self) -> Picker:
        """See Picker: what the two had."""
        return _BareTwo(self._tell)


class _BareTwo(Bare):
    def __init__(self, tell: Callable[[float], str]) -> None:
        super().__init__()
        self._tell: Final = tell

    def told(self, mark: object, picked: Backend | None) -> str:
        assert isinstance(mark, tuple)
        _, second, value, other = mark
        if picked is None:
            return "two choices: nobody was open"
        if second == _TRIAL:
            return _TRIED
        if second < 0:
            return "two choices: nobody else was open"
        return f"two choices: {self._tell(min(value, other))}; the other one has {self._tell(max(value, other))}"


class LoadKind:
    """What load is: how it is measured, what a value of it is in the words of an explanation, and what load is in those of help;
    and which metric of several, if there are any.
    """

    def __init__(
        self, loads: Callable[[Counts], Loads], tell: Callable[[float], str], describe: str, metric: str = ""
    ) -> None:
        self.loads: Final = loads
        self.tell: Final = tell
        self.describe: Final = describe
        self.metric: Final = metric


class LoadPolicy:
    """A policy that compares loads: how it chooses, and what it compares. Two of the same description and metric are equal."""

    def __init__(self, describe: str, choose: str, kind: LoadKind) -> None:
        self.describe: Final = describe
        self.eager: Final = True
        self.keyed: Final = False
        self._scans: Final = choose == "scan"
        self._kind: Final = kind

    def parts(self) -> dict[str, object]:
        """What it is made of, by the names of its parameters, for another process."""
        return {"describe": self.describe, "choose": "scan" if self._scans else "two", "kind": self._kind}

    def __eq__(self, other: object) -> bool:
        return isinstance(other, LoadPolicy) and (self.describe, self._kind.metric) == (
            other.describe,
            other._kind.metric,
        )

    def __hash__(self) -> int:
        return hash((self.describe, self._kind.metric))

    def loads(self, counts: Counts) -> Loads | None:
        """What measures the backends."""
        return self._kind.loads(counts)

    def build(self, members: Sequence[Backend], previous: Picker | None, rng: Random, now: float) -> Picker:
        """A picker over these members; what is known of loads is the backends'."""
        loads = loads_of(members)
        tell = self._kind.tell
        if self._scans:
            return Scan(members, loads, [backend.weighing.effective for backend in members], tell)
        return Two(Shares(members), loads, tell)
