"""Policies and pickers: a policy builds pickers, and a picker chooses a backend for each request."""

from collections.abc import Sequence
from random import Random
from typing import Final, Protocol

from mypy_extensions import mypyc_attr

from twisted_lb.core.ask import Ask
from twisted_lb.core.backend import Backend
from twisted_lb.core.counts import Counts
from twisted_lb.core.load import Loads

# Of so many backends each pick remembers what all of them had, and no more: a thousand picks are remembered.
MOST_REMEMBERED: Final = 64


class Recalled:
    """A pick, told later: the rule and the number that decided, in words, and the members as `Picker.ranking` had them then.
    `unknown`: nobody knows whom the picker would take, and the rule says why.
    """

    __slots__ = ("ranking", "rule", "unknown")

    def __init__(self, rule: str, ranking: Sequence[tuple[Backend, float]], *, unknown: bool = False) -> None:
        self.rule: Final = rule
        self.ranking: Final = ranking
        self.unknown: Final = unknown


# Of a pick whose picker is not there any more.
_NOT_KEPT: Final = "the table that it was picked by is not kept any more"


# A class and no protocol: compiled, a pick is then a call of C, and `mark` is no look-up by name.
@mypyc_attr(allow_interpreted_subclasses=True)
class Picker:
    """A picker: a snapshot of a pool's members that answers one pick after the other. A pick copies and sorts nothing.

    Members are all backends that are READY, whatever their health: `open_to` says which may be picked. Whoever is stepped over
    is told to `step_over`.

    `ramps`: whether it goes by what weighs now, and is to be built anew as slow start goes on. A picker by keys does not, and goes
    by `Weighing.steady`: keys would move, and move on.

    `large`: whether it takes much more memory than its members alone make (a table), or may: fewer of such are kept for `explain`.

    `mark`, for `explain`: what the last pick went by, small and never changed: numbers, or tuples of them, of all members where
    these are MOST_REMEMBERED at most. `recalled` reads it.
    """

    def __init__(self) -> None:
        self.mark: object = None
        self.ramps: bool = True
        self.large: bool = False

    def pick(self, ask: Ask, now: float, rng: Random, tried: Sequence[Backend]) -> Backend | None:
        """The backend for a request, one that is `open_to` it; None without one. `tried` is () in the hot case."""
        raise NotImplementedError

    def ranking(self, ask: Ask, now: float) -> Sequence[tuple[Backend, float]]:
        """For `explain`: every member, the likeliest first, with the number that puts it there. Nothing changes by it."""
        raise NotImplementedError

    def recalled(self, mark: object, picked: Backend | None) -> "Recalled":
        """For `explain`: the pick that left this mark, and took this member or none. The picker may have gone on meanwhile."""
        raise NotImplementedError

    def fork(self) -> "Picker":
        """For `explain`: a copy that picks what this one would, given the same `rng`, and leaves this one as it is."""
        raise NotImplementedError

    def bare(self) -> "Picker":
        """For `explain`, when this one is not kept any more: what tells its marks as far as they alone say how it was, and has
        neither members nor a table. It is asked for no picks.
        """
        return Bare()


class Bare(Picker):
    """What is left of a picker that is not kept any more: `told`, unless a mark says more."""

    def __init__(self, told: str = "") -> None:
        super().__init__()
        self._told: Final = told

    def told(self, mark: object, picked: Backend | None) -> str:
        """What this mark says by itself."""
        return self._told

    def recalled(self, mark: object, picked: Backend | None) -> "Recalled":
        """See Picker: nobody knows the ranking any more."""
        told = self.told(mark, picked)
        return Recalled(f"{told}; {_NOT_KEPT}" if told else _NOT_KEPT, ())

    def bare(self) -> Picker:
        """Itself."""
        return self


class Policy(Protocol):
    """A load-balancing policy, as configured: what load is, and how to choose by it. It has no state of its own."""

    @property
    def describe(self) -> str:
        """One line for help and documentation, the field's word first."""

    @property
    def eager(self) -> bool:
        """Whether a change of members is followed at the next pick. If not, `build` takes long: it is called at the
        pool's ticks, and meanwhile the old picker serves, which does not know new members.
        """

    @property
    def keyed(self) -> bool:
        """Whether it goes by the key of a request (`Ask.key`). If not, none is worked out."""

    def loads(self, counts: Counts) -> Loads | None:
        """What measures the loads of a pool, whose requests in flight are counted there; None when the policy does not look at
        load.
        """

    def build(self, members: Sequence[Backend], previous: Picker | None, rng: Random, now: float) -> Picker:
        """A picker over these members (never empty). What `previous` knows of turns owed is carried over; `previous`
        stays as it is.
        """


def open_to(backend: Backend, tried: Sequence[Backend]) -> bool:
    """Whether a request may go to a backend: available, and not one of its `tried`. The one filter of all policies."""
    return backend.available and (not tried or backend not in tried)


def step_over(backend: Backend) -> None:
    """Count that a picker has come to a backend which is not `open_to` the request: FULL and its like, or tried before."""
    if backend.available:
        backend.passed_as_tried += 1
    else:
        backend.passed_over += 1
