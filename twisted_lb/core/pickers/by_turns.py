"""Smooth weighted round robin: by turns, smoothly by weight (nginx's algorithm, commit 52327e0627f4). Where there are many it is
earliest deadline first, see `by_deadline`.

After k picks of total weight W, a backend of weight w that was picked n times is owed k*w/W - n turns. That number is
what survives a rebuild: the next picker goes on where this one stopped, whatever members came or left.
"""

from collections.abc import Sequence
from random import Random
from typing import Final

from twisted_lb.core.ask import Ask
from twisted_lb.core.backend import Backend
from twisted_lb.core.counts import Counts
from twisted_lb.core.load import Loads
from twisted_lb.core.pickers.base import MOST_REMEMBERED, Bare, Picker, Recalled, open_to, step_over
from twisted_lb.core.pickers.by_deadline import EarliestDeadline, phase

# Of more members with unequal weights nobody looks at all for each turn; what each was owed is told of as many.
_MOST_SMOOTH: Final = MOST_REMEMBERED
# The first snapshot of unequal weights is turned on by at most this many looks at a member: 2 ms uncompiled.
_SPIN_LOOKS: Final = 20_000
# Credits are whole numbers of this part of a turn: in floats, ties would be broken by what is left of rounding.
_GRAIN: Final = 1_000_000


class Credits:
    """The credits of smooth weighted round robin: how many turns each member is owed, by weight; O(n) a turn."""

    def __init__(self, members: Sequence[Backend], owed: dict[Backend, float]) -> None:
        self._members: list[Backend] = list(members)
        self._weights: list[int] = [max(round(backend.weighing.effective * _GRAIN), 1) for backend in members]
        self._total: int = sum(self._weights)
        self._credits: list[int] = [round(owed.get(backend, 0.0) * self._total) for backend in members]

    def take(self) -> Backend:
        """Take a turn: the member that is owed most, the earlier one of two."""
        credits_ = self._credits
        best = 0
        for index in range(len(credits_)):
            credits_[index] += self._weights[index]
            if credits_[index] > credits_[best]:
                best = index
        credits_[best] -= self._total
        return self._members[best]

    def take_open(self, tried: Sequence[Backend]) -> Backend | None:
        """Take a turn among the open members, which share it: the one that is owed most; None when none is open."""
        credits_ = self._credits
        best = -1
        total = 0
        for index in range(len(credits_)):
            if not open_to(self._members[index], tried):
                continue
            weight = self._weights[index]
            total += weight
            credits_[index] += weight
            if best < 0 or credits_[index] > credits_[best]:
                best = index
        if best < 0:
            return None
        credits_[best] -= total
        return self._members[best]

    def owed(self) -> dict[Backend, float]:
        """How many turns each member is owed."""
        return {backend: self._credits[index] / self._total for index, backend in enumerate(self._members)}

    def mark(self) -> tuple[int, ...]:
        """What each member is owed, to be told later: see `due`. Nothing where there are too many."""
        return tuple(self._credits) if len(self._credits) <= MOST_REMEMBERED else ()

    def due(self, mark: Sequence[int]) -> list[tuple[Backend, float]]:
        """What each member would be owed at the turn after this mark, most first: the first one takes it."""
        owed = [(backend, (mark[at] + self._weights[at]) / self._total) for at, backend in enumerate(self._members)]
        return sorted(owed, key=lambda one: -one[1])

    def fork(self) -> "Credits":
        """A copy of the credits, to the last digit, also where a backend's weight has changed meanwhile."""
        copy = Credits((), {})
        copy._members, copy._weights, copy._total = self._members, self._weights, self._total
        copy._credits = list(self._credits)
        return copy


class Rotation(Picker):
    """Round robin with equal weights: one member after the other, O(1) for each one looked at."""

    def __init__(self, members: Sequence[Backend], start: int = 0, owed: dict[Backend, float] | None = None) -> None:
        super().__init__()
        self._members: Final = list(members)
        self._size: Final = len(members)
        self._owed_before: Final[dict[Backend, float]] = owed or {}
        self._begun_at: Final = start
        self._next: int = start
        self.mark = start  # whose turn it was

    def pick(self, ask: Ask, now: float, rng: Random, tried: Sequence[Backend]) -> Backend | None:
        """The next member in turn. One that is not open forfeits its turn: the one that is picked instead has had its
        own, so that all others share what is forfeited.
        """
        index = self._next
        self.mark = index
        backend = self._members[index]
        if backend.available and not tried:  # as `open_to`, without the call: as a rule
            self._next = index + 1 if index + 1 < self._size else 0
            return backend
        for _ in range(self._size):
            backend = self._members[index]
            index = index + 1 if index + 1 < self._size else 0
            if open_to(backend, tried):
                self._next = index
                return backend
            step_over(backend)
        return None

    def ranking(self, ask: Ask, now: float) -> Sequence[tuple[Backend, float]]:
        """The members by how many turns away they are."""
        return self._from(self._next)

    def _from(self, start: int) -> list[tuple[Backend, float]]:
        return [(self._members[(start + away) % self._size], float(away)) for away in range(self._size)]

    def recalled(self, mark: object, picked: Backend | None) -> Recalled:
        """See Picker: whose turn it was, and how many turns further the next open one was."""
        assert isinstance(mark, int)
        first = self._members[mark]
        if picked is None:
            rule = f"in turn: it was the turn of {first.name}, and nobody was open"
        elif picked is first:
            rule = f"in turn: its turn, number {mark + 1} of {self._size}"
        else:
            further = (self._members.index(picked) - mark) % self._size
            rule = f"in turn: it was the turn of {first.name}; the next that was open stood {further} further"
        return Recalled(rule, self._from(mark))

    def bare(self) -> Picker:
        """See Picker: whose turn it was is a number."""
        return _Bare(self._size)

    def places(self) -> dict[Backend, float]:
        """Where in the round each member is, from 0 to 1: those that began it first."""
        return {self._members[(self._begun_at + step) % self._size]: step / self._size for step in range(self._size)}

    def fork(self) -> Picker:
        """A copy of the rotation at the same place."""
        copy = Rotation(self._members, self._begun_at, self._owed_before)
        copy._next = self._next
        copy.mark = self.mark
        return copy

    def owed(self) -> dict[Backend, float]:
        """How many turns each member is owed, in turn: what it was owed before this rotation, and its place in it."""
        done = (self._next - self._begun_at) % self._size
        share = done / self._size
        owed: dict[Backend, float] = {}
        for step in range(self._size):
            place = (self._next + step) % self._size
            backend = self._members[place]
            served = (place - self._begun_at) % self._size < done
            owed[backend] = self._owed_before.get(backend, 0.0) + share - served
        return owed


class _Bare(Bare):
    def __init__(self, size: int) -> None:
        super().__init__()
        self._size: Final = size

    def told(self, mark: object, picked: Backend | None) -> str:
        assert isinstance(mark, int)
        nobody = ", and nobody was open" if picked is None else ""
        return f"in turn: it was the turn of number {mark + 1} of {self._size}{nobody}"


class SmoothRotation(Picker):
    """Smooth weighted round robin with unequal weights: the member that is owed most, O(n) a pick. Weights 5, 1, 1 give
    a a b a c a a. The turn of a member that is not open goes to the one of the others that is owed most such turns.
    """

    def __init__(
        self, members: Sequence[Backend], owed: dict[Backend, float], spare: dict[Backend, float] | None = None
    ) -> None:
        super().__init__()
        self._turns: Credits = Credits(members, owed)
        self._spare: Credits = Credits(members, spare or {})
        # What all were owed: turns of their own, and of others.
        self.mark = (self._turns.mark(), self._spare.mark())

    def pick(self, ask: Ask, now: float, rng: Random, tried: Sequence[Backend]) -> Backend | None:
        """The member that is owed most; where it is not open, the one that is owed most turns of others."""
        turns = self._turns.mark()
        backend = self._turns.take()
        if open_to(backend, tried):
            self.mark = (turns, ())
            return backend
        self.mark = (turns, self._spare.mark())
        step_over(backend)
        return self._spare.take_open(tried)

    def ranking(self, ask: Ask, now: float) -> Sequence[tuple[Backend, float]]:
        """The members by what they would be owed at the next turn."""
        return self._turns.due(self._turns.mark())

    def recalled(self, mark: object, picked: Backend | None) -> Recalled:
        """See Picker: what the one was owed whose turn it was, and the one that had it instead."""
        assert isinstance(mark, tuple)
        turns, spare = mark
        if not turns:
            return Recalled(f"in turn by weight; of more than {MOST_REMEMBERED} it is not kept what each was owed", ())
        ranking = self._turns.due(turns)
        first, most = ranking[0]
        if picked is first:
            return Recalled(f"in turn by weight: it was owed most, {most:.3f} turns", ranking)
        whose = f"in turn by weight: it was the turn of {first.name}"
        if picked is None:
            return Recalled(f"{whose}, and nobody was open", ranking)
        owed = dict(self._spare.due(spare))[picked]
        return Recalled(f"{whose}; of those that were open it was owed most turns of others, {owed:.3f}", ranking)

    def bare(self) -> Picker:
        """See Picker: what a mark says is owed is by the places of members."""
        return Bare("in turn by weight")

    def fork(self) -> Picker:
        """A copy of the rotation that owes the same."""
        copy = SmoothRotation((), {})
        copy._turns = self._turns.fork()
        copy._spare = self._spare.fork()
        copy.mark = self.mark
        return copy

    def spin(self, turns: int) -> None:
        """Let that many turns pass unused."""
        for _ in range(turns):
            self._turns.take()

    def owed(self) -> dict[Backend, float]:
        """How many turns each member is owed."""
        return self._turns.owed()

    def spare(self) -> dict[Backend, float]:
        """How many turns of others each member is owed."""
        return self._spare.owed()


class RoundRobinPolicy:
    """The round robin policy: a plain rotation with equal weights; with others smooth weighted round robin, or earliest deadline
    first where there are more than 64 members: O(1), O(n) and O(log n) a pick.
    """

    def __init__(self) -> None:
        self.describe: Final = "round robin: by turns, smoothly by weight"
        self.eager: Final = True
        self.keyed: Final = False

    def loads(self, counts: Counts) -> Loads | None:
        """None: turns do not look at load."""
        return None

    def build(self, members: Sequence[Backend], previous: Picker | None, rng: Random, now: float) -> Picker:
        """A picker over these members. The very first begins at any of them by chance: many balancers must not begin
        with the same backend (thundering herd).
        """
        equal = len({backend.weighing.effective for backend in members}) == 1
        if not isinstance(previous, (Rotation, SmoothRotation, EarliestDeadline)):
            return _begin(members, rng, equal=equal)
        if not equal and isinstance(previous, EarliestDeadline) and previous.is_over(members):
            return previous.fork()  # to the last digit: nothing has changed
        owed = _carried(members, previous.owed())
        if equal:
            return Rotation(_in_turn(owed, previous), 0, owed)
        if len(members) > _MOST_SMOOTH:
            return EarliestDeadline(members, _phases(members, previous), owed)
        spare = _carried(members, previous.spare()) if isinstance(previous, SmoothRotation) else {}
        return SmoothRotation(members, owed, spare)


def _begin(members: Sequence[Backend], rng: Random, *, equal: bool) -> Picker:
    size = len(members)
    if equal:
        return Rotation(members, int(rng.random() * size))
    if size > _MOST_SMOOTH:
        earliest = EarliestDeadline(members, _phases(members, None), {})
        earliest.advance(rng.random())
        return earliest
    cycle = sum(backend.weighing.effective for backend in members)
    picker = SmoothRotation(members, {})
    picker.spin(int(rng.random() * min(cycle, _SPIN_LOOKS // size + 1)))
    return picker


def _phases(members: Sequence[Backend], previous: Picker | None) -> dict[Backend, float]:
    """The phases of these members: those that they had, or their places in a rotation, so that their turns go on as they were."""
    before: dict[Backend, float] = {}
    if isinstance(previous, EarliestDeadline):
        before = previous.phases
    elif isinstance(previous, Rotation):
        before = previous.places()
    size = len(members)
    return {backend: before.get(backend, phase(index, size)) for index, backend in enumerate(members)}


def _carried(members: Sequence[Backend], owed: dict[Backend, float]) -> dict[Backend, float]:
    """What the remaining members are owed, in turn, new ones last; what is owed to or by those that left all share."""
    stay = set(members)
    if stay == owed.keys():
        return owed  # as it is, to the last digit: nothing has changed
    kept = {backend: turns for backend, turns in owed.items() if backend in stay}
    for backend in members:
        kept.setdefault(backend, 0.0)
    surplus = sum(kept.values()) / len(kept)
    return {backend: turns - surplus for backend, turns in kept.items()}


def _in_turn(owed: dict[Backend, float], previous: Rotation | SmoothRotation | EarliestDeadline) -> list[Backend]:
    """The order of a rotation: as in the one before, and by deadlines after such, new members before those that have had their
    turn; after a smooth one by what is owed.
    """
    before = previous.owed()
    order = [backend for backend in owed if backend in before]
    if isinstance(previous, SmoothRotation):
        order.sort(key=lambda backend: -round(owed[backend], 9))
    newcomers = [backend for backend in owed if backend not in before]
    at = len(order)
    # Rounded: to be equal but for 1e-17 is to be equal.
    while newcomers and at and round(owed[order[at - 1]] - owed[newcomers[0]], 9) < 0:
        at -= 1
    return order[:at] + newcomers + order[at:]
