"""Groundwork: tables that take long to make are made in slices of bounded work, at a pool's ticks, while the picker before serves."""

from collections.abc import Sequence

from mypy_extensions import mypyc_attr, trait

from twisted_lb.core.backend import Backend
from twisted_lb.core.pickers.base import Picker


@mypyc_attr(allow_interpreted_subclasses=True)
class Groundwork:
    """What a build of a picker needs first, in the making. `cost` is how many steps of it are left, as far as is known: a step is about
    a microsecond, uncompiled.
    """

    def __init__(self) -> None:
        self.cost: int = 0

    @property
    def done(self) -> bool:
        """Whether nothing of it is left."""
        return self.cost <= 0

    def work(self, steps: int) -> int:
        """Do so many steps of it, or somewhat more; how many are left over, 0 as a rule while it is not done."""
        raise NotImplementedError

    def under(self, picker: Picker | None) -> Picker | None:
        """What the build is to go on from once all is done, in the place of this picker: one with the tables that were made, and with
        what this one knows of turns.
        """
        raise NotImplementedError

    def coarse(self, picker: Picker | None) -> Picker | None:
        """The same, where the build cannot wait: coarser tables of the same members, made at once. O(n)."""
        raise NotImplementedError


@trait
class Gradual:
    """A policy whose builds need a groundwork. A build without it does all of that at once."""

    def begin(self, members: Sequence[Backend], previous: Picker | None) -> Groundwork | None:
        """Begin what a build over these members (never empty) needs, with what `previous` has of it; None for nothing."""
        raise NotImplementedError
