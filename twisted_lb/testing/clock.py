"""A test's clock, which moves only when told to. A heap: Twisted's `task.Clock` sorts all its calls at every one."""

import heapq
from collections.abc import Callable
from functools import partial
from typing import Any, Final

from twisted.internet.error import AlreadyCalled, AlreadyCancelled
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from zope.interface import implementer

# Calls that make calls for the same moment: past this many it is a loop, not a test.
_MOST_AT_ONCE: Final = 1_000_000


@implementer(IDelayedCall)
class HeapDelayedCall:
    """One delayed call, as `callLater` returns it."""

    def __init__(self, clock: "HeapClock", at: float, what: Callable[[], object]) -> None:
        self._clock: Final = clock
        self._what: Final = what
        self._at = at
        self._called = False
        self._cancelled = False

    def getTime(self) -> float:
        """When the call happens, in the clock's seconds."""
        return self._at

    def active(self) -> bool:
        """Whether the call is still going to happen."""
        return not (self._called or self._cancelled)

    def cancel(self) -> None:
        """Cancel the call. AlreadyCalled or AlreadyCancelled when that is too late."""
        self._check()
        self._cancelled = True
        self._clock._drop(self)

    def delay(self, secondsLater: float) -> None:
        """Delay the call by so many seconds more."""
        self._check()
        self._move(self._at + secondsLater)

    def reset(self, secondsFromNow: float) -> None:
        """Let the call happen so many seconds from now."""
        self._check()
        self._move(self._clock.seconds() + secondsFromNow)

    def _check(self) -> None:
        if self._cancelled:
            raise AlreadyCancelled
        if self._called:
            raise AlreadyCalled

    def _move(self, at: float) -> None:
        self._at = at
        self._clock._push(self)

    def __repr__(self) -> str:
        state = "called" if self._called else "cancelled" if self._cancelled else f"at {self._at:g}"
        return f"<HeapDelayedCall {state}: {self._what!r}>"


@implementer(IReactorTime)
class HeapClock:
    """A reactor's time (IReactorTime), moved by `advance`, `run_until` and `settle`.

    Calls happen in the order of their moments, those of one moment in the order of their making, and each sees the
    clock at its own moment. What a call raises leaves `advance`; the rest happens at the next one.
    """

    def __init__(self, now: float = 0.0) -> None:
        self._now = now
        self._made = 0
        # A call that was moved stands in the heap more than once; only the entry with its present moment counts.
        self._heap: list[tuple[float, int, HeapDelayedCall]] = []
        self._active: dict[HeapDelayedCall, int] = {}

    def seconds(self) -> float:
        """The time now, in seconds."""
        return self._now

    def callLater(self, delay: float, callable: Callable[..., Any], *args: object, **kwargs: object) -> HeapDelayedCall:  # noqa: A002
        """See IReactorTime. With a delay of zero: at the next `advance`, never before this returns."""
        assert delay >= 0, f"{delay} seconds from now is over"
        call = HeapDelayedCall(self, self._now + delay, partial(callable, *args, **kwargs))
        self._push(call)
        return call

    def getDelayedCalls(self) -> list[HeapDelayedCall]:
        """All calls that are still to come, in no order."""
        return list(self._active)

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

    def next_at(self) -> float | None:
        """The moment of the next call, None when there is none."""
        heap = self._heap
        while heap and self._active.get(heap[0][2]) != heap[0][1]:
            heapq.heappop(heap)
        return heap[0][0] if heap else None

    def _run(self, condition: Callable[[], object], ends_at: float) -> bool:
        """Make calls until the condition holds or none is due any more; whether it holds."""
        at_once = 0
        while not condition():
            at = self.next_at()
            if at is None or at > ends_at:
                return False
            at_once = at_once + 1 if at <= self._now else 0
            assert at_once < _MOST_AT_ONCE, "calls make calls without end"
            call = heapq.heappop(self._heap)[2]
            self._now = max(self._now, at)
            del self._active[call]
            call._called = True
            call._what()
        return True

    def _push(self, call: HeapDelayedCall) -> None:
        self._made += 1
        self._active[call] = self._made
        heapq.heappush(self._heap, (call._at, self._made, call))

    def _drop(self, call: HeapDelayedCall) -> None:
        del self._active[call]
        if len(self._heap) > 64 + 2 * len(self._active):
            self._heap = [entry for entry in self._heap if self._active.get(entry[2]) == entry[1]]
            heapq.heapify(self._heap)

    def __repr__(self) -> str:
        return f"<HeapClock at {self._now:g}, {len(self._active)} calls to come>"
