"""Waits: moments at which single requests go on, backoff and hedging. One timer for all of a pool, and none while nobody waits."""

from collections.abc import Callable
from heapq import heappop, heappush
from typing import Final

from twisted.logger import Logger

from twisted_lb.core.never import NEVER
from twisted_lb.net.clock import Timer
from twisted_lb.net.runtime import Runtime

_log = Logger("twisted_lb.net.waits")  # by name: compiled, there is no frame to learn it from


class Wait:
    """One wait, until `due`: `Waits.until` makes it. `over`: its call was made, or will not be."""

    __slots__ = ("_call", "due", "over")

    def __init__(self, due: float, call: Callable[[], None]) -> None:
        self.due: Final = due
        self.over: bool = False
        self._call: Callable[[], None] | None = call

    def cancel(self) -> None:
        """The call will not be made, and whoever was to be called is let go; harmless when it was made."""
        self.over = True
        self._call = None

    def end(self) -> None:
        """Make the call, unless it was made or cancelled."""
        call, self._call, self.over = self._call, None, True
        if call is not None:
            call()


class Waits:
    """All waits of a pool, to the moment: the wheel of `Deadlines` is too coarse for what lasts milliseconds. Most of them are cancelled,
    since answers come first: that costs an attribute, and the entry is dropped when its turn comes. O(log n) each.
    """

    def __init__(self, runtime: Runtime) -> None:
        self._runtime: Final = runtime
        self._heap: list[tuple[float, int, Wait]] = []
        self._number: int = 0
        self._timer: Timer | None = None
        self._timer_due: float = NEVER

    def until(self, due: float, call: Callable[[], None]) -> Wait:
        """Call at `due` (monotonic seconds), never before this returns."""
        wait = Wait(due, call)
        self._number += 1
        heappush(self._heap, (due, self._number, wait))
        if due < self._timer_due:
            self._schedule(due)
        return wait

    def _schedule(self, due: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer_due = due
        self._timer = self._runtime.later(max(due - self._runtime.clock.read(), 0.0), self._ring)

    def _ring(self) -> None:
        self._timer = None
        self._timer_due = NEVER
        now = self._runtime.clock.read()
        while self._heap and (self._heap[0][2].over or self._heap[0][0] <= now):
            wait = heappop(self._heap)[2]
            try:
                wait.end()
            except Exception:
                _log.failure("what waited failed")
        if self._heap and self._heap[0][0] < self._timer_due:
            self._schedule(self._heap[0][0])

    def stop(self) -> None:
        """Call nobody any more."""
        for _, _, wait in self._heap:
            wait.cancel()
        self._heap.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
            self._timer_due = NEVER

    @property
    def waiting(self) -> int:
        """How many are going to be called: O(n)."""
        return sum(not wait.over for _, _, wait in self._heap)

    def __repr__(self) -> str:
        return f"<Waits {self.waiting}>"
