"""A policy of one's own (custom policy, plugin): a class in somebody else's Python, behind a picker of ours (adapter).

The class is called with the members, and with its own object of before, and picks one of them for each request:

    class Fewest:
        def __init__(self, members, previous=None):
            self.members = members

        def pick(self, ask, now, rng, tried):
            return min((one for one in self.members if one.open_to(tried)), key=lambda one: one.in_flight, default=None)

It runs as code of this process. Whatever it does wrong, `p2c` picks in its place, and its `Minder` knows.
"""

import inspect
from collections.abc import Callable, Sequence
from random import Random
from typing import Final

from twisted_lb.core.backend import Backend
from twisted_lb.core.counts import Counts
from twisted_lb.core.load import Loads
from twisted_lb.core.pickers.base import Picker
from twisted_lb.core.pickers.minding import Minder
from twisted_lb.core.pickers.own_member import Member
from twisted_lb.core.pickers.own_picker import OwnLoad, OwnLoads, OwnPicker
from twisted_lb.core.pickers.own_shape import PICK, raised, shown, signature_of, takes, wrong_methods


class OwnPolicy:
    """A policy of one's own: whatever makes objects that pick, called with members and, if it takes that, its last object."""

    def __init__(self, target: Callable[..., object], name: str, budget_s: float, *, with_previous: bool) -> None:
        self.describe: Final = f"{name}: a policy of one's own"
        self.eager: Final = bool(getattr(target, "eager", True))
        self.keyed: Final = True
        self.name: Final = name
        self.target: Final = target
        self.budget_s: Final = budget_s
        self._with_previous: Final = with_previous

    def parts(self) -> dict[str, object]:
        """What it is made of, by the names of its parameters, for another process."""
        return {
            "target": self.target,
            "name": self.name,
            "budget_s": self.budget_s,
            "with_previous": self._with_previous,
        }

    def loads(self, counts: Counts) -> Loads | None:
        """What is minded of it in one pool."""
        return OwnLoads(Minder(self.name, self.budget_s), counts)

    def build(self, members: Sequence[Backend], previous: Picker | None, rng: Random, now: float) -> Picker:
        """A picker over these members. Where the object cannot be made the last one hears of leases further on, `p2c` picks, and the
        next build tries again.
        """
        loads: OwnLoads | None = None
        views: list[Member] = []
        for backend in members:
            load = backend.load
            assert isinstance(load, OwnLoad), f"{backend.name} has no load of {self.name}"
            loads = load.loads
            if load.member is None:
                load.member = Member(backend, loads.counts)
            views.append(load.member)
        assert loads is not None, "there are members"
        before = previous.made_by(self.target) if isinstance(previous, OwnPicker) else None
        try:
            return OwnPicker(members, loads, self.target, self.make(views, before), "")
        except BaseException as error:
            return OwnPicker(members, loads, self.target, before, f"cannot be made: it {raised(error)}")

    def make(self, members: Sequence[Member], previous: object) -> object:
        """An object of it; whatever that raises, and TypeError for one that does not pick."""
        made = self.target(tuple(members), previous) if self._with_previous else self.target(tuple(members))
        pick = getattr(made, "pick", None)
        if pick is None or not callable(pick):
            raise TypeError(f"{shown(made)} has no method pick({', '.join(PICK)})")
        return made

    def try_out(self, members: Sequence[Backend]) -> str:
        """What is wrong with an object of it over these members: made once, and thrown away; empty for nothing."""
        try:
            made = self.make([Member(one, one.counts) for one in members], None)
        except BaseException as error:
            return f"cannot be made: it {raised(error)}"
        return wrong_methods(made)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, OwnPolicy) and self._parts() == other._parts()

    def __hash__(self) -> int:
        return hash(self._parts())

    def _parts(self) -> tuple[object, ...]:
        return (self.target, self.name, self.budget_s)

    def __repr__(self) -> str:
        return f"<OwnPolicy {self.name}>"

    def __str__(self) -> str:
        return self.name


def own_policy(target: object, name: str, budget_s: float) -> OwnPolicy:
    """The policy of a class, or of a function that makes objects: called with (members, previous), or with members alone. ValueError
    says in one line what is wrong with it.
    """
    if not callable(target):
        raise ValueError(f"{name} is no class: {shown(target)} cannot be called")  # noqa: TRY004, as for any bad value
    if inspect.iscoroutinefunction(target):
        raise ValueError(f"{name} is async: a policy picks at once")
    if isinstance(target, type):
        if not callable(getattr(target, "pick", None)):
            raise ValueError(f"{name} has no method pick({', '.join(PICK)})")  # noqa: TRY004, as for any bad value
        wrong = wrong_methods(target, of_class=True)
        if wrong:
            raise ValueError(f"{name}: {wrong}")
    with_previous = takes(target, 2)
    if not with_previous and not takes(target, 1):
        raise ValueError(f"{name}{signature_of(target)} cannot be called with (members, previous), nor with (members)")
    return OwnPolicy(target, name, budget_s, with_previous=with_previous)
