"""The selection of a pool: its policy, and the picker that is rebuilt when members, weights or admin states change."""

from collections.abc import Iterable, Sequence
from random import Random
from typing import Final

from twisted_lb.core.ask import Ask
from twisted_lb.core.backend import Backend
from twisted_lb.core.levels import Levels
from twisted_lb.core.pickers.base import Picker, Policy
from twisted_lb.core.pickers.by_level import ByLevel
from twisted_lb.core.pickers.shadow import ShadowedPolicy, unshadowed


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
    weight or an admin state has changed; the next claim rebuilds, once, or the next tick if the policy is not eager: then a claim
    does so only where it finds nobody, since the one who came may not be in the table yet.

    Each of several levels has a picker of its own, built with the others, so that no claim waits for that of a backup.
    """

    __slots__ = ("_backends", "_before", "_over", "levels", "picker", "policy", "rng", "stale")

    def __init__(self, policy: Policy, rng: Random) -> None:
        self.policy: Policy = policy
        self.stale: bool = False
        self.rng: Final = rng
        self.levels: Final = Levels()
        self._backends: list[Backend] = []
        self.picker: Picker | None = None  # None while no backend is wanted
        self._before: Picker | None = None  # the last one, for what it knows of turns owed
        self._over: list[int] = []  # the levels that the picker is over

    def follow(self, backends: Iterable[Backend]) -> None:
        """Replace the backends to choose among."""
        self._backends = list(backends)
        self.levels.follow(self._backends)
        self.stale = True

    def use(self, policy: Policy) -> None:
        """Replace the policy; its picker takes over what it understands of the old one."""
        self.policy = policy
        self.stale = True

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
        """Rebuild a stale picker whose policy is not eager: no claim waits for it. Whether it did."""
        if not self.stale or self.policy.eager:
            return False
        self.rebuild(now)
        return True

    def next_picker(self, now: float) -> Picker | None:
        """The picker that the next claim asks, or one that does as it would; nothing changes."""
        if self.stale and self._at_once:
            return self._build(self._forked_rng(), now)
        return self.picker

    def foreseen(self, picker: Picker, ask: Ask, now: float, tried: Sequence[Backend]) -> "Foreseen":
        """What a claim would take by this `next_picker`: the same code, on copies of picker and rng; nothing changes.

        A backend that other processes have filled meanwhile is passed over, as in a claim.
        """
        rng = self._forked_rng()
        if self.stale and self._at_once:
            picker = self._build(rng, now) or picker  # which draws before the pick does
        passed = [(one, one.passed_over, one.passed_as_tried, one.passed_by_bound) for one in self._backends]
        fork, backend = self._picked(picker.fork(), ask, now, rng, tried)
        if backend is None and self.stale and not self.policy.eager:
            rebuilt = self._build(rng, now, fork)  # which has had its turn, in vain
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
        """Build the picker anew, whatever that takes."""
        if self.picker is not None:
            self._before = self.picker
        self.picker = self._build(self.rng, now)
        self._over = self.levels.numbers
        self.stale = False

    def _build(self, rng: Random, now: float, previous: Picker | None = None) -> Picker | None:
        """A picker that follows the `previous` one: the one there is, or was last, unless it is given."""
        if previous is None:
            previous = self._before if self.picker is None else self.picker
        if self.levels.several:
            return self._build_each(previous, rng, now)
        if isinstance(previous, ByLevel):
            previous = previous.known.get(self.levels.numbers[0]) if self.levels.numbers else None
        members = [backend for backend in self._backends if backend.wanted]
        previous = self._understood(previous)
        return self.policy.build(members, previous, rng, now) if members else None

    def _build_each(self, previous: Picker | None, rng: Random, now: float) -> Picker | None:
        """The pickers of several levels."""
        known = previous.known if isinstance(previous, ByLevel) else {}
        if previous is not None and not known:
            known = {self.levels.numbers[0]: previous}
        pickers: list[Picker | None] = []
        for at, number in enumerate(self.levels.numbers):
            members = [backend for backend in self.levels.members[at] if backend.wanted]
            before = self._understood(known.get(number))
            pickers.append(self.policy.build(members, before, rng, now) if members else None)
        return ByLevel(self.levels, pickers, known) if any(one is not None for one in pickers) else None

    def _understood(self, previous: Picker | None) -> Picker | None:
        """The picker before, as the policy knows it: without the shadow that it has none of."""
        return previous if isinstance(self.policy, ShadowedPolicy) else unshadowed(previous)
