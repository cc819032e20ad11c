"""Mirroring (shadow traffic): which requests of a pool are sent once more, to another pool, and how many were not."""

import enum
from dataclasses import dataclass
from random import Random
from typing import Final

from twisted_lb.core.tallies import Amount

# Among the methods: all of them.
EVERY_METHOD: Final = b"*"


class Unmirrored(enum.IntEnum):
    """Why a request that was chosen to be mirrored was not sent."""

    BUSY = 0  # as many as may be under way at a time were
    TOO_LONG = 1  # its body is longer than what is held of one
    INCOMPLETE = 2  # it was over before its body was complete
    NO_PLACE = 3  # nobody in the other pool had a place for it at once


@dataclass(frozen=True)
class MirrorSettings:
    """The settings of a pool's mirror: `percent` of its requests with one of these `methods`, `most` at a time, with bodies of up to
    `body_bytes`; each has `timeout_s` for all of its answer.
    """

    percent: float
    most: int
    body_bytes: int
    timeout_s: float
    methods: frozenset[bytes]

    def takes(self, method: bytes) -> bool:
        """Whether requests with this method are mirrored at all."""
        return method in self.methods or EVERY_METHOD in self.methods


class Mirroring:
    """The requests of one pool that are mirrored: those under way (`running`), all that were `sent`, and those that were not, by
    `Unmirrored`. Under way is each from when it is chosen to its end, so that what is held of bodies is bounded too.
    """

    __slots__ = ("_running", "sent", "unsent")

    def __init__(self) -> None:
        self._running: Amount = Amount()
        self.sent: int = 0
        self.unsent: Final[list[int]] = [0] * len(Unmirrored)

    def share(self, running: Amount) -> None:
        """Count those under way with other processes, for all of which a bound is one; none is under way yet."""
        self._running = running

    @property
    def running(self) -> int:
        """How many are under way in this process."""
        return self._running.own

    def chooses(self, settings: MirrorSettings, method: bytes, body_bytes: int, rng: Random) -> bool:
        """Whether a request is mirrored, which is under way then, until `over`. `body_bytes` is what it says of its body, less than
        zero where that is not known. Chance decides, and not turns: with those a page and its pictures would keep step with them.
        """
        if not settings.takes(method) or (settings.percent < 100 and rng.random() * 100 >= settings.percent):
            return False
        if not self._running.take(1, settings.most):
            self.unsent[Unmirrored.BUSY] += 1
            return False
        if body_bytes > settings.body_bytes:
            self.over(Unmirrored.TOO_LONG)
            return False
        return True

    def over(self, why: Unmirrored | None = None) -> None:
        """One is not under way any more; `why` it was not sent."""
        self._running.add(-1)
        if why is not None:
            self.unsent[why] += 1

    def __repr__(self) -> str:
        return f"<Mirroring: {self.running} under way, {self.sent} sent, {sum(self.unsent)} not sent>"
