"""Timers on monotonic time (IReactorTime): a heap of calls, and an alarm in the poller that rings for the first of them.

Twisted's reactors count by the wall clock, which steps: back, and nothing that was to come does; forward, and all of it
does at once. What is a duration of ours is counted here.
"""

import heapq
import time
from collections.abc import Callable
from functools import partial
from typing import Any, Final, Protocol

from twisted.internet.error import AlreadyCalled, AlreadyCancelled
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from zope.interface import implementer

_log = Logger()


@implementer(IDelayedCall)
class HeapDelayedCall:
    """One delayed call, as `callLater` returns it."""

    def __init__(self, heap: "CallHeap", at: float, what: Callable[[], object]) -> None:
        self._heap: Final = heap
        self._what: Final = what
        self._at = at
        self._called = False
        self._cancelled = False

    def getTime(self) -> float:
        """When the call happens, in the heap's seconds."""
        return self._at

    def active(self) -> bool:
        """Whether the call is still going to happen."""
        return not (self._called or self._cancelled)

    def cancel(self) -> None:
        """Cancel the call. AlreadyCalled or AlreadyCancelled when that is too late."""
        self._check()
        self._cancelled = True
        self._heap._drop(self)

    def delay(self, secondsLater: float) -> None:
        """Delay the call by so many seconds more."""
        self._check()
        self._move(self._at + secondsLater)

    def reset(self, secondsFromNow: float) -> None:
        """Let the call happen so many seconds from now."""
        self._check()
        self._move(self._heap.seconds() + secondsFromNow)

    def _check(self) -> None:
        if self._cancelled:
            raise AlreadyCancelled
        if self._called:
            raise AlreadyCalled

    def _move(self, at: float) -> None:
        self._at = at
        self._heap._push(self)

    def __repr__(self) -> str:
        state = "called" if self._called else "cancelled" if self._cancelled else f"at {self._at:g}"
        return f"<HeapDelayedCall {state}: {self._what!r}>"


class CallHeap:
    """The calls that are to come, in the order of their moments, those of one moment in the order of their making. Whoever
    moves the time takes them out: `next_at`, then `pop`. O(log n) a call.
    """

    def __init__(self) -> None:
        self._made = 0
        # A call that was moved stands in the heap more than once; only the entry with its present moment counts.
        self._heap: list[tuple[float, int, HeapDelayedCall]] = []
        self._active: dict[HeapDelayedCall, int] = {}

    def seconds(self) -> float:
        """The time now, in seconds."""
        raise NotImplementedError

    def callLater(self, delay: float, callable: Callable[..., Any], *args: object, **kwargs: object) -> HeapDelayedCall:  # noqa: A002
        """See IReactorTime. With a delay of zero: soon, never before this returns."""
        assert delay >= 0, f"{delay} seconds from now is over"
        call = HeapDelayedCall(self, self.seconds() + delay, partial(callable, *args, **kwargs))
        self._push(call)
        return call

    def getDelayedCalls(self) -> list[HeapDelayedCall]:
        """All calls that are still to come, in no order."""
        return list(self._active)

    def next_at(self) -> float | None:
        """The moment of the next call, None when there is none."""
        heap = self._heap
        while heap and self._active.get(heap[0][2]) != heap[0][1]:
            heapq.heappop(heap)
        return heap[0][0] if heap else None

    def pop(self) -> Callable[[], object]:
        """Take the next call out, which is called now; only after `next_at` has given its moment."""
        call = heapq.heappop(self._heap)[2]
        del self._active[call]
        call._called = True
        return call._what

    def _push(self, call: HeapDelayedCall) -> None:
        self._made += 1
        self._active[call] = self._made
        heapq.heappush(self._heap, (call._at, self._made, call))

    def _drop(self, call: HeapDelayedCall) -> None:
        del self._active[call]
        if len(self._heap) > 64 + 2 * len(self._active):
            self._heap = [entry for entry in self._heap if self._active.get(entry[2]) == entry[1]]
            heapq.heapify(self._heap)


class Alarm(Protocol):
    """What wakes the process: one moment at a time."""

    def set(self, at: float) -> None:
        """Ring at this moment (monotonic seconds) instead of the one that was set before."""

    def close(self) -> None:
        """Ring no more."""


@implementer(IReactorTime)
class MonotonicTimers(CallHeap):
    """A reactor's time (IReactorTime) that no step of the wall clock moves. `seconds` is monotonic.

    Nothing happens before `wake_by` was told its alarm, which has to call `ring`. What a call raises is logged.
    """

    def __init__(self, seconds: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._seconds: Final = seconds
        self._alarm: Alarm | None = None
        self._set_for: float | None = None
        self._ringing = False

    def seconds(self) -> float:
        """The time now, in monotonic seconds."""
        return self._seconds()

    def wake_by(self, alarm: Alarm) -> None:
        """Let this alarm ring for the calls from now on."""
        self._alarm = alarm
        self._set()

    def ring(self) -> None:
        """Make the calls that are due now; those that they make for now are for the next time."""
        self._set_for = None
        self._ringing = True
        now = self._seconds()
        last = self._made
        try:
            while (at := self.next_at()) is not None and at <= now and self._heap[0][1] <= last:
                try:
                    self.pop()()
                except Exception:
                    _log.failure("a delayed call failed")
        finally:
            self._ringing = False
        self._set()

    def stop(self) -> None:
        """Make no calls any more. Whoever has one to come may still cancel it."""
        if self._alarm is not None:
            alarm, self._alarm = self._alarm, None
            alarm.close()

    def _push(self, call: HeapDelayedCall) -> None:
        super()._push(call)
        self._set()

    def _set(self) -> None:
        """Set the alarm for the next call, if that is sooner than what it is set for; too early costs a look."""
        if self._ringing or self._alarm is None:
            return
        at = self.next_at()
        if at is not None and (self._set_for is None or at < self._set_for):
            self._set_for = at
            self._alarm.set(at)

    def __repr__(self) -> str:
        return f"<MonotonicTimers, {len(self._active)} calls to come>"
