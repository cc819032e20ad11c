"""The selection of a pool: its policy, and the picker that is rebuilt when members, weights or admin states change."""

from collections.abc import Iterable, Sequence
from random import Random
from typing import Final

from twisted_lb.core.ask import Ask
from twisted_lb.core.backend import Backend
from twisted_lb.core.pickers.base import Picker, Policy
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
    weight or an admin state has changed; the next claim rebuilds, once, or the next tick if the policy is not eager.
    """

    __slots__ = ("_backends", "_before", "picker", "policy", "rng", "stale")

    def __init__(self, policy: Policy, rng: Random) -> None:
        self.policy: Policy = policy
        self.stale: bool = False
        self.rng: Final = rng
        self._backends: list[Backend] = []
        self.picker: Picker | None = None  # None while no backend is wanted
        self._before: Picker | None = None  # the last one, for what it knows of turns owed

    def follow(self, backends: Iterable[Backend]) -> None:
        """Replace the backends to choose among."""
        self._backends = list(backends)
        self.stale = True

    def use(self, policy: Policy) -> None:
        """Replace the policy; its picker takes over what it understands of the old one."""
        self.policy = policy
        self.stale = True

    def renewed(self, now: float) -> Picker | None:
        """The picker for a claim when the selection is stale: a new one, or still the old one where the policy is not
        eager. None while no backend is wanted.
        """
        if self.policy.eager or self.picker is None:
            self._rebuild(now)
        return self.picker

    def tick(self, now: float) -> bool:
        """Rebuild a stale picker whose policy is not eager: no claim waits for it. Whether it did."""
        if not self.stale or self.policy.eager:
            return False
        self._rebuild(now)
        return True

    def next_picker(self, now: float) -> Picker | None:
        """The picker that the next claim asks, or one that does as it would; nothing changes."""
        if self.stale and (self.policy.eager or self.picker is None):
            return self._build(self._forked_rng(), now)
        return self.picker

    def foreseen(self, picker: Picker, ask: Ask, now: float, tried: Sequence[Backend]) -> "Foreseen":
        """What a claim would take by this `next_picker`: the same code, on copies of picker and rng; nothing changes.

        A backend that other processes have filled meanwhile is passed over, as in a claim.
        """
        rng = self._forked_rng()
        if self.stale and (self.policy.eager or self.picker is None):
            picker = self._build(rng, now) or picker  # which draws before the pick does
        passed = [(one, one.passed_over, one.passed_as_tried) for one in self._backends]
        fork = picker.fork()
        backend = fork.pick(ask, now, rng, tried)
        while backend is not None and backend.full:
            tried = (*tried, backend)
            backend = fork.pick(ask, now, rng, tried)
        for one, over, as_tried in passed:
            one.passed_over, one.passed_as_tried = over, as_tried
        told = fork.recalled(fork.mark, backend)
        return Foreseen(backend, told.rule, unknown=told.unknown)

    def _forked_rng(self) -> Random:
        rng = Random(0)
        rng.setstate(self.rng.getstate())
        return rng

    def _rebuild(self, now: float) -> None:
        if self.picker is not None:
            self._before = self.picker
        self.picker = self._build(self.rng, now)
        self.stale = False

    def _build(self, rng: Random, now: float) -> Picker | None:
        members = [backend for backend in self._backends if backend.wanted]
        previous = self._before if self.picker is None else self.picker
        if not isinstance(self.policy, ShadowedPolicy):
            previous = unshadowed(previous)
        return self.policy.build(members, previous, rng, now) if members else None
