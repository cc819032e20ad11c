"""What a policy is: it builds pickers, and a picker answers picks."""

from collections.abc import Sequence
from random import Random
from typing import Protocol

from twisted_lb.core.ask import Ask
from twisted_lb.core.backend import Backend
from twisted_lb.core.counts import Counts
from twisted_lb.core.load import Load


class Picker(Protocol):
    """A snapshot of the members that answers one pick after the other. It copies and sorts nothing.

    Members are all that the operator has READY, whatever their health: it is for `open_to` to say who may be picked.
    """

    def pick(self, ask: Ask, now: float, rng: Random, tried: Sequence[Backend]) -> Backend | None:
        """The backend for a request, one that is `open_to` it; None when nobody is. `tried` is () in the hot case."""

    def ranking(self, ask: Ask, now: float) -> Sequence[tuple[Backend, float]]:
        """For `explain`: every member, the likeliest first, with the number that puts it there. Nothing changes by it."""

    def fork(self) -> "Picker":
        """For `explain`: a copy that picks what this one would, given the same `rng`, and leaves this one as it is."""


class Policy(Protocol):
    """The configured way of choosing: what load is, and how to choose by it. It has no state of its own."""

    @property
    def describe(self) -> str:
        """One line for help and documentation, the field's word first."""

    @property
    def eager(self) -> bool:
        """Whether a change of members is followed at the next pick. If not, `build` takes long: it is called at the pool's
        ticks, and meanwhile the old picker serves, which knows nobody that is new.
        """

    def load(self, counts: Counts, slot: int) -> Load | None:
        """The measure for one backend, which is counted there; None when the policy does not look at load."""

    def build(self, members: Sequence[Backend], previous: Picker | None, rng: Random, now: float) -> Picker:
        """A picker over these (never empty). What `previous` knows of who is owed a turn is carried over; `previous` stays
        as it is.
        """


def open_to(backend: Backend, tried: Sequence[Backend]) -> bool:
    """Whether a request may go there: available, and not one of those that it has tried. The one filter of all policies."""
    return backend.available and (not tried or backend not in tried)
