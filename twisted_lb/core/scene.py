"""Scenes: what a pool was, from one change to the next, so that claims in between need keep nothing but a reference to it."""

from collections.abc import Iterable
from typing import Final

from twisted_lb.core.backend import Backend
from twisted_lb.core.pickers.base import MOST_REMEMBERED, Picker, Policy
from twisted_lb.core.standing import Standing


class Scene:
    """A pool's members with their standings, its picker, and how much each may have in flight; it never changes.

    `small`: each claim remembers all loads.
    """

    __slots__ = ("backends", "limits", "picker", "policy", "pool", "slots", "small", "standings")

    def __init__(self, pool: str, policy: Policy, picker: Picker | None, backends: Iterable[Backend]) -> None:
        self.pool: Final = pool
        self.policy: Final = policy
        self.picker: Final = picker
        self.backends: Final[tuple[Backend, ...]] = tuple(backends)
        self.standings: Final[tuple[Standing, ...]] = tuple([one.standing for one in self.backends])
        self.slots: Final[tuple[int, ...]] = tuple([one.slot for one in self.backends])
        self.limits: Final[tuple[int, ...]] = tuple([one.limit for one in self.backends])
        self.small: Final = len(self.backends) <= MOST_REMEMBERED

    def __repr__(self) -> str:
        return f"<Scene {self.pool}: {list(self.standings)}>"
