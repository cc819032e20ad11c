"""Deadlines without timers: a wheel of 100 ms slots that is looked at only while something is in it.

A connection owns one Deadline for life and moves it with every request. Moving it later costs an attribute: it stays
in its slot and is put into the right one when the wheel comes by (Varghese and Lauck's hashed wheel, lazily).
"""

from collections.abc import Callable
from typing import Final

from mypy_extensions import mypyc_attr, trait
from twisted.logger import Logger

from twisted_lb.core.never import NEVER
from twisted_lb.net.clock import Clock, Later, Timer

TICK_S: Final = 0.1
_NOWHERE: Final = 1 << 62
# Slots ahead at the most: a later deadline is looked at and put further on meanwhile. So the wheel holds on to a connection
# that is gone for 3.2 s and not for the 75 it might have been idle, and a waiting one costs a look every 3.2 s.
_FARTHEST: Final = 32
# After a pause of the whole process (a machine that was suspended, SIGSTOP) of so many ticks all that is due gets one tick of
# grace: what has come meanwhile is read first.
_PAUSE_TICKS: Final = 10
# What is left of a slot after rounding may be nothing at all, and would be waited for again and again.
_SHORTEST_S: Final = TICK_S / 100

_log = Logger("twisted_lb.net.deadlines")  # by name: compiled, there is no frame to learn it from


# So many deadlines of connections, streams and calls that are gone wait for new ones.
_SPARE_MOST: Final = 4096


def _nothing() -> None:
    """The callback of a deadline that has ended: nothing."""


@trait
class Expecting:
    """Who is told of a deadline without a callback that would have to be made for it."""

    def timed_out(self) -> None:
        """The deadline has passed: what it waited for did not come."""
        raise NotImplementedError


@mypyc_attr(free_list_len=1)
class Deadline:
    """A moment at which `callback` runs, or `owner` is told, unless it was moved or disarmed before. Not armed when made."""

    __slots__ = ("callback", "due", "owner", "settled_from", "slot", "spare")

    def __init__(self, callback: Callable[[], None]) -> None:
        self.callback: Callable[[], None] = callback
        self.owner: Expecting | None = None
        self.spare: Deadline | None = None  # the next one that nobody has
        self.due: float = NEVER
        self.slot: int = _NOWHERE
        # A moment before this one belongs into an earlier slot.
        self.settled_from: float = NEVER

    def disarm(self) -> None:
        """Disarm the deadline; the callback will not run. Harmless when not armed."""
        self.due = NEVER

    def end(self) -> None:
        """Disarm the deadline for good, and let go of the callback's owner: the wheel holds a deadline until its slot
        comes by, which may be long after a connection is gone.
        """
        self.due = NEVER
        self.callback = _nothing

    @property
    def armed(self) -> bool:
        """Whether the callback is going to run."""
        return self.due != NEVER


class Deadlines:
    """All deadlines of a process. `later(delay_s, f)` calls f once; the clock is read at each tick, for the callbacks.

    Those that expire together in a pause of the whole process run a tick later: sockets are read before.
    """

    def __init__(self, clock: Clock, later: Later) -> None:
        self._clock: Final = clock
        self._later: Final = later
        self._slots: dict[int, list[Deadline]] = {}
        self._visited: int = 0
        self._ticking: bool = False
        self._graced: bool = False  # the last tick was one of grace
        self._next_tick: Timer | None = None
        # Those that were given back, a chain: most are in the wheel, where a new one's is to be, and are not put there again.
        self._spare: Deadline | None = None
        self._spares: int = 0
        self._ended: Final = Deadline(_nothing)

    def take(self, owner: Expecting) -> Deadline:
        """A deadline for this owner, mostly one that another has given back. Not armed; `give` ends it."""
        deadline = self._taken()
        deadline.owner = owner
        return deadline

    def take_for(self, callback: Callable[[], None]) -> Deadline:
        """The same for a callback."""
        deadline = self._taken()
        deadline.callback = callback
        return deadline

    def _taken(self) -> Deadline:
        deadline = self._spare
        if deadline is None:
            return Deadline(_nothing)
        self._spares -= 1
        self._spare = deadline.spare
        deadline.spare = None
        return deadline

    def give(self, deadline: Deadline) -> Deadline:
        """Give back a deadline that was taken, exactly once, for one to have in its place that is for nobody; harmless with that one."""
        if deadline is not self._ended:
            deadline.due = NEVER
            deadline.owner = None
            deadline.callback = _nothing
            if self._spares < _SPARE_MOST:
                self._spares += 1
                deadline.spare = self._spare
                self._spare = deadline
        return self._ended

    def stop(self) -> None:
        """Forget all deadlines: nothing runs any more."""
        slots = self._slots
        self._slots = {}  # a tick that runs sees by this that it is over
        for bucket in slots.values():
            for deadline in bucket:
                deadline.due = deadline.settled_from = NEVER
                deadline.slot = _NOWHERE
        if self._ticking:
            self._ticking = False
            if self._next_tick is not None:
                self._next_tick.cancel()

    def arm(self, deadline: Deadline, due: float) -> None:
        """Let the deadline end at `due` (monotonic seconds, at most one tick late), whatever it was before."""
        deadline.due = due
        if due < deadline.settled_from and due != NEVER:
            # Rounding up: a deadline never runs early.
            self._put(deadline, int(due / TICK_S) + 1)

    def _put(self, deadline: Deadline, slot: int) -> None:
        if not self._ticking:
            self._ticking = True
            now = self._clock.read()
            self._visited = int(now / TICK_S)
            self._schedule(now)
        # A moment already past is looked at by the next tick.
        slot = min(max(slot, self._visited + 1), self._visited + _FARTHEST)
        deadline.slot = slot
        deadline.settled_from = (slot - 1) * TICK_S
        bucket = self._slots.get(slot)
        if bucket is None:
            self._slots[slot] = [deadline]
        else:
            bucket.append(deadline)

    def _schedule(self, now: float) -> None:
        """Schedule the tick for where the next slot begins: a tick in the middle of slots would be late twice."""
        to_next = (int(now / TICK_S) + 1) * TICK_S - now
        self._next_tick = self._later(max(to_next, _SHORTEST_S), self.tick)

    def tick(self) -> None:
        """Run the deadlines that are due; ticks on for as long as anything is in the wheel."""
        self._next_tick = None
        wheel = self._slots
        now = self._clock.read()
        current = int(now / TICK_S)
        self._graced = current - self._visited > _PAUSE_TICKS and not self._graced
        if self._graced:
            self._schedule(now)
            return
        if current - self._visited > len(self._slots):
            slots = sorted(slot for slot in self._slots if slot <= current)
        else:
            slots = list(range(self._visited + 1, current + 1))
        self._visited = max(current, self._visited)
        for slot in slots:
            for deadline in wheel.pop(slot, ()):
                if self._slots is wheel:
                    self._visit(deadline, slot, now)
        if self._slots is wheel:
            self._ticking = bool(wheel)
            if self._ticking:
                self._schedule(now)

    def _visit(self, deadline: Deadline, slot: int, now: float) -> None:
        if deadline.slot != slot:
            return  # it was put into an earlier slot meanwhile
        deadline.slot = _NOWHERE
        deadline.settled_from = NEVER
        if deadline.due > now:
            if deadline.due != NEVER:
                self._put(deadline, int(deadline.due / TICK_S) + 1)
            return
        deadline.due = NEVER
        owner = deadline.owner
        try:
            if owner is not None:
                owner.timed_out()
            else:
                deadline.callback()
        except Exception:
            _log.failure("a deadline's callback failed")

    @property
    def armed(self) -> int:
        """How many deadlines are going to run: O(n), for tests and leak checks."""
        return sum(d.slot == slot and d.armed for slot, bucket in self._slots.items() for d in bucket)
