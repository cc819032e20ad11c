"""How a pool chooses: its policy, and the picker that is built anew when what it was built of has changed."""

from collections.abc import Iterable, Sequence
from random import Random
from typing import Final

from twisted_lb.core.ask import Ask
from twisted_lb.core.backend import AdminState, Backend
from twisted_lb.core.pickers.base import Picker, Policy


class Selection:
    """The policy of a pool and its picker, over all backends that are READY.

    Health flips and full backends are no reason to build: `available` says who may be picked. `stale` is set by whoever
    changes a weight or what the operator wants; the next claim builds, once, or the next tick if the policy is not eager.
    """

    __slots__ = ("_backends", "_before", "picker", "policy", "rng", "stale")

    def __init__(self, policy: Policy, rng: Random) -> None:
        self.policy: Policy = policy
        self.stale: bool = False
        self.rng: Final = rng
        self._backends: list[Backend] = []
        self.picker: Picker | None = None  # None while nobody is READY
        self._before: Picker | None = None  # the one before, for what it knows of who is owed

    def follow(self, backends: Iterable[Backend]) -> None:
        """Choose among these from now on."""
        self._backends = list(backends)
        self.stale = True

    def use(self, policy: Policy) -> None:
        """Choose by this policy from now on; its picker takes over what it understands of the old one."""
        self.policy = policy
        self.stale = True

    def renewed(self, now: float) -> Picker | None:
        """The picker for a pick, when this is stale: a new one, or, from a policy that takes long, the old one still. None
        while nobody is READY.
        """
        if self.policy.eager or self.picker is None:
            self._rebuild(now)
        return self.picker

    def tick(self, now: float) -> None:
        """The time for a policy that takes long."""
        if self.stale and not self.policy.eager:
            self._rebuild(now)

    def foreseen(self, ask: Ask, now: float, tried: Sequence[Backend]) -> Backend | None:
        """Whom a claim would take: the same code, on copies of the picker and of chance. Nothing changes by it.

        A backend that is full by now, though nobody has noticed, is passed over, as a claim does.
        """
        rng = self._forked_rng()
        picker = self._picker_for(rng, now)
        if picker is None:
            return None
        fork = picker.fork()
        backend = fork.pick(ask, now, rng, tried)
        while backend is not None and backend.full:
            tried = (*tried, backend)
            backend = fork.pick(ask, now, rng, tried)
        return backend

    def ranking(self, ask: Ask, now: float) -> Sequence[tuple[Backend, float]]:
        """See Picker; what the picker of the next pick would say."""
        picker = self._picker_for(self._forked_rng(), now)
        return () if picker is None else picker.ranking(ask, now)

    def _picker_for(self, rng: Random, now: float) -> Picker | None:
        if self.stale and (self.policy.eager or self.picker is None):
            return self._build(rng, now)
        return self.picker

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
        members = [backend for backend in self._backends if backend.admin is AdminState.READY]
        previous = self._before if self.picker is None else self.picker
        return self.policy.build(members, previous, rng, now) if members else None
