"""The selection of a pool: its policy, and the picker that is rebuilt when members, weights or admin states change."""

from collections.abc import Iterable, Sequence
from random import Random
from typing import Final

from twisted_lb.core.ask import Ask
from twisted_lb.core.backend import Backend
from twisted_lb.core.levels import Levels
from twisted_lb.core.pickers.base import Picker, Policy
from twisted_lb.core.pickers.by_level import ByLevel
from twisted_lb.core.pickers.groundwork import Gradual, Groundwork
from twisted_lb.core.pickers.shadow import ShadowedPolicy, unshadowed

# So many steps of a groundwork are done at a tick: 10 to 20 ms uncompiled.
SLICE: Final = 40_000
# So many where nobody can wait: a ring of 500 members, all of it.
AT_ONCE: Final = 160_000


class Foreseen:
    """What a claim would take, and by which rule; `unknown`: nobody knows, and the rule says why."""

    __slots__ = ("picked", "rule", "unknown")

    def __init__(self, picked: Backend | None, rule: str, *, unknown: bool = False) -> None:
        self.picked: Final = picked
        self.rule: Final = rule
        self.unknown: Final = unknown


class Selection:
    """The policy of a pool and its picker, over all backends that are READY and have a weight.

    Health flips and full backends are no reason to rebuild: `available` says which may be picked. `stale` is set when a
    weight or an admin state has changed; the next claim rebuilds, once, or a tick if the policy is not eager: then a claim
    does so only where it finds nobody, since the one who came may not be in the table yet.

    A policy that is Gradual is built when its groundwork is done, a slice of it at each tick. Who cannot wait for that, a claim that
    finds nobody or a pool that had no picker, has all of it at once, or, where that is more than AT_ONCE steps, `coarse` tables until it is done.

    Each of several levels has a picker of its own, built with the others, so that no claim waits for that of a backup.
    """

    __slots__ = (
        "_backends", "_before", "_outdated", "_over", "_slice", "_works", "coarse", "levels", "picker", "policy", "rng", "stale",
    )  # fmt: skip

    def __init__(self, policy: Policy, rng: Random) -> None:
        self.policy: Policy = policy
        self.stale: bool = False
        self.coarse: bool = False
        self.rng: Final = rng
        self.levels: Final = Levels()
        self._backends: list[Backend] = []
        self.picker: Picker | None = None  # None while no backend is wanted
        self._before: Picker | None = None  # the last one, for what it knows of turns owed
        self._over: list[int] = []  # the levels that the picker is over
        # By level what its picker needs first; `_outdated`: something has changed since it was begun.
        self._works: dict[int, Groundwork] = {}
        self._outdated: bool = False
        self._slice: int = SLICE

    def follow(self, backends: Iterable[Backend]) -> None:
        """Replace the backends to choose among."""
        self._backends = list(backends)
        self.levels.follow(self._backends)
        self.outdate()

    def use(self, policy: Policy) -> None:
        """Replace the policy; its picker takes over what it understands of the old one."""
        self.policy = policy
        self._works = {}
        self.outdate()

    def outdate(self) -> None:
        """Weights, admin states or members are others than the picker was made of."""
        self.stale = self._outdated = True

    @property
    def _at_once(self) -> bool:
        """Whether a stale picker is built anew before the next claim: the policy is eager, there is none yet, or it is over other levels
        than there are, which it would look up by their places.
        """
        return self.policy.eager or self.picker is None or self._over != self.levels.numbers

    def renewed(self, now: float) -> Picker | None:
        """The picker for a claim when the selection is stale: a new one, or still the old one where the policy is not
        eager. None while no backend is wanted.
        """
        if self._at_once:
            self.rebuild(now)
        return self.picker

    def prepare(self, now: float) -> None:
        """Build the picker of a policy that is not eager where the next claim would have to."""
        if not self.policy.eager and self._at_once:
            self.rebuild(now)

    def tick(self, now: float) -> bool:
        """Go on with a stale picker whose policy is not eager: no claim waits for it. Whether there is a new one."""
        if self.policy.eager or not (self.stale or self.coarse):
            return False
        if not self._laid(self._slice):
            return False
        self.rebuild(now)
        self._slice = SLICE
        return True

    def whole(self, now: float) -> None:
        """Build all that was to be built in slices, however long that takes: before anybody is listened to."""
        if not self.policy.eager and (self.stale or self.coarse):
            while not self._laid(self._slice):
                pass
            self.rebuild(now)
            self._slice = SLICE

    def _laid(self, steps: int) -> bool:
        """Whether the groundwork of a build is done, after so many more steps of it."""
        if self._outdated and not self._unfinished:
            self._works = self._begun()
        steps = self._work(steps)
        if self._unfinished:
            return False
        if self._outdated:
            # Something has changed meanwhile. To follow that takes less, as a rule; where changes come faster than they are
            # followed, twice as much is done at a tick until they are.
            self._works = self._begun()
            self._work(steps)
            if self._unfinished:
                self._slice *= 2
        return not self._unfinished

    def _work(self, steps: int) -> int:
        for work in self._works.values():
            steps = work.work(steps)
        return steps

    def _begun(self) -> dict[int, Groundwork]:
        """The groundwork of a build, begun upon what is there of it, by level. O(backends)."""
        self._outdated = False
        begun: dict[int, Groundwork] = {}
        policy = self.policy
        if policy.eager or not isinstance(policy, Gradual):
            return begun
        for number, members, picker in self._parts(self._previous):
            there = self._works.get(number)
            before = there.under(picker) if there is not None and there.done else picker
            work = policy.begin(members, before) if members else None
            if work is not None:
                begun[number] = work
        return begun

    def next_picker(self, now: float) -> Picker | None:
        """The picker that the next claim asks, or one that does as it would; nothing changes."""
        if self.stale and self._at_once:
            return self._build(self._forked_rng(), now)[0]
        return self.picker

    def foreseen(self, picker: Picker, ask: Ask, now: float, tried: Sequence[Backend]) -> "Foreseen":
        """What a claim would take by this `next_picker`: the same code, on copies of picker and rng; nothing changes.

        A backend that other processes have filled meanwhile is passed over, as in a claim.
        """
        rng = self._forked_rng()
        if self.stale and self._at_once:
            picker = self._build(rng, now)[0] or picker  # which draws before the pick does
        passed = [(one, one.passed_over, one.passed_as_tried, one.passed_by_bound) for one in self._backends]
        fork, backend = self._picked(picker.fork(), ask, now, rng, tried)
        if backend is None and self.stale and not self.policy.eager:
            rebuilt = self._build(rng, now, fork)[0]  # which has had its turn, in vain
            if rebuilt is not None:
                fork, backend = self._picked(rebuilt.fork(), ask, now, rng, tried)
        for one, over, as_tried, by_bound in passed:
            one.passed_over, one.passed_as_tried, one.passed_by_bound = over, as_tried, by_bound
        told = fork.recalled(fork.mark, backend)
        return Foreseen(backend, told.rule, unknown=told.unknown)

    def _picked(
        self, picker: Picker, ask: Ask, now: float, rng: Random, tried: Sequence[Backend]
    ) -> tuple[Picker, Backend | None]:
        backend = picker.pick(ask, now, rng, tried)
        while backend is not None and backend.full:
            tried = (*tried, backend)
            backend = picker.pick(ask, now, rng, tried)
        return picker, backend

    def _forked_rng(self) -> Random:
        rng = Random(0)
        rng.setstate(self.rng.getstate())
        return rng

    def rebuild(self, now: float) -> None:
        """Build the picker anew, with coarse tables where others would take too long."""
        if self.picker is not None:
            self._before = self.picker
        if self._outdated and not self._unfinished:
            self._works = self._begun()  # what ticks go on with, if it takes longer
        self.picker, self.coarse = self._build(self.rng, now)
        self._over = self.levels.numbers
        self.stale = False
        if not self.coarse:
            self._works, self._outdated = {}, False

    @property
    def _unfinished(self) -> bool:
        return any(not work.done for work in self._works.values())

    @property
    def _previous(self) -> Picker | None:
        return self._before if self.picker is None else self.picker

    def _parts(self, previous: Picker | None) -> list[tuple[int, list[Backend], Picker | None]]:
        """What is built apart: the levels, with whom the operator wants of each, and the picker before."""
        numbers = self.levels.numbers
        if not self.levels.several:
            if isinstance(previous, ByLevel):
                previous = previous.known.get(numbers[0]) if numbers else None
            members = [backend for backend in self._backends if backend.wanted]
            return [(numbers[0] if numbers else 0, members, self._understood(previous))]
        known = previous.known if isinstance(previous, ByLevel) else {}
        if previous is not None and not known:
            known = {numbers[0]: previous}
        return [
            (number, [one for one in self.levels.members[at] if one.wanted], self._understood(known.get(number)))
            for at, number in enumerate(numbers)
        ]

    def _build(self, rng: Random, now: float, previous: Picker | None = None) -> tuple[Picker | None, bool]:
        """A picker of what is there now, and whether its tables are coarse; it follows the `previous` one: the one there is, or was
        last, unless it is given.
        """
        works, outdated = self._works, self._outdated
        if outdated:
            works = self._begun()
            self._outdated = True
        coarse = False
        previous = self._previous if previous is None else previous
        pickers: list[Picker | None] = []
        for number, members, before in self._parts(previous):
            work = works.get(number)
            if work is not None:
                if work.cost <= AT_ONCE:
                    _finish(work)
                base = work.under(before) if work.done else work.coarse(before)
                coarse = coarse or not work.done
            else:
                base = before
            pickers.append(self.policy.build(members, base, rng, now) if members else None)
        if not self.levels.several:
            return pickers[0], coarse
        known = previous.known if isinstance(previous, ByLevel) else {}
        if previous is not None and not known:
            known = {self.levels.numbers[0]: previous}
        picker = ByLevel(self.levels, pickers, known) if any(one is not None for one in pickers) else None
        return picker, coarse

    def _understood(self, previous: Picker | None) -> Picker | None:
        """The picker before, as the policy knows it: without the shadow that it has none of."""
        return previous if isinstance(self.policy, ShadowedPolicy) else unshadowed(previous)


def _finish(work: Groundwork) -> None:
    while not work.done:
        work.work(SLICE)
