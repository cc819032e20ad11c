"""Loop lag: how late timers come, since something holds the reactor's thread; and where that was, if it was long."""

import sys
import threading
import time
import traceback
from collections.abc import Callable
from types import FrameType
from typing import Final

from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from twisted_lb.core.histogram import Histogram

# How often it is measured: a turn that takes shorter than this may go unseen, and its length is not what it costs.
INTERVAL_S: Final = 0.25
# A turn that takes longer is said with its stack.
LONG_S: Final = 0.5
# Of a stack so many of its innermost lines: in the outer ones stands a reactor.
_MOST_FRAMES: Final = 12

_log = Logger()


class LoopLag:
    """How late a timer comes that is due every `INTERVAL_S`: a histogram since `start`. `clock` is that of the data plane."""

    def __init__(self, clock: IReactorTime, beat: Callable[[], None] = lambda: None) -> None:
        self.lag: Final = Histogram()
        self._clock: Final = clock
        self._beat: Final = beat
        self._due_at: float = 0.0
        self._call: Final = LoopingCall(self._look)
        self._call.clock = clock

    def start(self) -> None:
        """Measure from now on."""
        self._due_at = self._clock.seconds() + INTERVAL_S
        self._beat()
        loop = self._call.start(INTERVAL_S, now=False)
        loop.addErrback(lambda failure: _log.failure("the lag of the loop is measured no more", failure=failure))

    def _look(self) -> None:
        now = self._clock.seconds()
        self.lag.add(max(now - self._due_at, 0.0))
        # LoopingCall keeps its grid: what was missed is not made up for.
        self._due_at += INTERVAL_S * max(1, int((now - self._due_at) / INTERVAL_S) + 1)
        self._beat()

    def stop(self) -> None:
        """Measure no more. Harmless when nothing is measured."""
        if self._call.running:
            self._call.stop()


class Watchdog:
    """Says where the thread that made it is while one of its turns takes longer than `LONG_S`, once a turn.

    It looks from a thread of its own, so that it needs no signal; `beat` is to be called every `INTERVAL_S` by the one that is
    watched. `say` is told how long the turn has lasted and the stack, in that other thread, and as soon as it is known: the
    turn may never end.
    """

    def __init__(
        self,
        say: Callable[[float, str], None] | None = None,
        seconds: Callable[[], float] = time.monotonic,
        long_s: float = LONG_S,
    ) -> None:
        self._say: Final = _say if say is None else say
        self._seconds: Final = seconds
        self._long_s: Final = long_s
        self._watched: Final = threading.get_ident()
        self._beat_at: float = seconds()
        self._said_of: float = -1.0  # the beat after which it was said
        self._over: Final = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Watch from now on."""
        self.beat()
        self._thread = threading.Thread(target=self._watch, name="twisted_lb watchdog", daemon=True)
        self._thread.start()

    def beat(self) -> None:
        """The watched thread moves."""
        self._beat_at = self._seconds()

    def _watch(self) -> None:
        looked_at = self._seconds()
        while not self._over.wait(self._long_s / 4):
            self.look_again(looked_at)
            looked_at = self._seconds()

    def look_again(self, before: float) -> None:
        """Look, having looked `before`; unless that is long ago: then nobody could move (the whole process was stopped, or
        something held Python's lock), and where the watched thread is by now says nothing.
        """
        if self._seconds() - before >= self._long_s:
            self.beat()
        else:
            self.look()

    def look(self) -> None:
        """Look whether the watched thread has moved in time, and say where it is if it has not."""
        beat_at = self._beat_at
        held_s = self._seconds() - beat_at - INTERVAL_S
        if held_s < self._long_s or beat_at == self._said_of:
            return
        frame = sys._current_frames().get(self._watched)
        if frame is not None and self._beat_at == beat_at:
            self._said_of = beat_at
            self._say(held_s, _where(frame))

    def stop(self) -> None:
        """Watch no more; returns when the thread has ended. Harmless when it does not watch."""
        self._over.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None


def _where(frame: FrameType) -> str:
    """A stack in one line, the innermost call last: `serve at a.py:7 > read at b.py:9`."""
    calls = traceback.extract_stack(frame)[-_MOST_FRAMES:]
    return " > ".join(f"{one.name} at {one.filename}:{one.lineno}" for one in calls)


def _say(held_s: float, where: str) -> None:
    _log.warn("nothing has moved for {held} s: {where}", held=f"{held_s:.2f}", where=where)
