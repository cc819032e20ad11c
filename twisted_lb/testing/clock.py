"""A test's clock, which moves only when told to. A heap: Twisted's `task.Clock` sorts all its calls at every one."""

from collections.abc import Callable
from typing import Final

from twisted.internet.interfaces import IReactorTime
from zope.interface import implementer

from twisted_lb.net.timers import CallHeap

# Calls that make calls for the same moment: past this many it is a loop, not a test.
_MOST_AT_ONCE: Final = 1_000_000


@implementer(IReactorTime)
class HeapClock(CallHeap):
    """A reactor's time (IReactorTime), moved by `advance`, `run_until` and `settle`.

    Calls happen in the order of their moments, those of one moment in the order of their making, and each sees the
    clock at its own moment. What a call raises leaves `advance`; the rest happens at the next one.
    """

    def __init__(self, now: float = 0.0) -> None:
        super().__init__()
        self._now = now

    def seconds(self) -> float:
        """The time now, in seconds."""
        return self._now

    def advance(self, seconds: float) -> None:
        """Let time pass, and everything happen that is due in it, also what is made on the way."""
        assert seconds >= 0, "time does not go backwards"
        ends_at = self._now + seconds
        self._run(lambda: False, ends_at)
        self._now = max(self._now, ends_at)

    def settle(self) -> None:
        """Let everything happen that needs no time to pass."""
        self.advance(0)

    def run_until(self, condition: Callable[[], object] | float, within_s: float = 3600.0) -> None:
        """Run to a moment, or until the condition holds: looked at before the first call and after each.

        AssertionError when it does not hold within `within_s` seconds, or nothing is left that could make it.
        """
        if not callable(condition):
            self.advance(max(condition - self._now, 0.0))
            return
        if not self._run(condition, self._now + within_s):
            raise AssertionError(f"it did not come about within {within_s:g} s; to come: {sorted(self._heap)[:5]}")

    def _run(self, condition: Callable[[], object], ends_at: float) -> bool:
        """Make calls until the condition holds or none is due any more; whether it holds."""
        at_once = 0
        while not condition():
            at = self.next_at()
            if at is None or at > ends_at:
                return False
            at_once = at_once + 1 if at <= self._now else 0
            assert at_once < _MOST_AT_ONCE, "calls make calls without end"
            call = self.pop()
            self._now = max(self._now, at)
            call()
        return True

    def __repr__(self) -> str:
        return f"<HeapClock at {self._now:g}, {len(self._active)} calls to come>"
