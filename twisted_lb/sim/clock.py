"""The clock of a simulated world: a HeapClock that a loop moves from one moment to the next."""

from twisted_lb.core.never import NEVER
from twisted_lb.testing.clock import HeapClock


class WorldClock(HeapClock):
    """A HeapClock for checks, ticks and timers of the real parts. What happens to requests has a heap of its own, which is cheaper:
    whoever runs both asks `next_moment` first.
    """

    def next_moment(self) -> float:
        """When the next call is due; NEVER where there is none."""
        at = self.next_at()
        return NEVER if at is None else at

    def turn(self) -> None:
        """Make the calls of the next moment, also those that they make for the same one."""
        at = self.next_at()
        if at is not None:
            self._run(lambda: False, at)

    def move_to(self, now: float) -> None:
        """Move to a moment before which nothing is due."""
        self._now = now
