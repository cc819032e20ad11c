"""An alarm in the poller: a descriptor of the kernel (timerfd) that turns readable at a moment of the monotonic clock."""

import ctypes
import os
import time
from collections.abc import Callable
from typing import Any, Final

from twisted_lb.net.clock import Later, Timer
from twisted_lb.net.poller import READ, Pollable, Poller

_MONOTONIC: Final = time.CLOCK_MONOTONIC
_TFD_TIMER_ABSTIME: Final = 1
# A moment of zero would switch the alarm off.
_SOONEST_NS: Final = 1


class TimerAlarm(Pollable):
    """An Alarm that is a timerfd of Linux, watched by the poller: it rings after the batch in which it is seen, so that
    sockets are read first. OSError where the kernel or the C library has none.
    """

    def __init__(self, poller: Poller, ring: Callable[[], None]) -> None:
        self._poller: Final = poller
        self._ring: Final = ring
        self._libc: Final[Any] = ctypes.CDLL(None, use_errno=True)
        fd = -1
        if hasattr(self._libc, "timerfd_create"):
            fd = int(self._libc.timerfd_create(_MONOTONIC, os.O_NONBLOCK | os.O_CLOEXEC))
        if fd < 0:
            raise OSError(ctypes.get_errno(), "no timerfd")
        self._fd: int = fd
        # struct itimerspec: the interval, then the moment, each as seconds and nanoseconds.
        self._spec: Final[Any] = (ctypes.c_long * 4)(0, 0, 0, 0)
        poller.add(fd, self, READ)

    def set(self, at: float) -> None:
        """See Alarm."""
        if self._fd >= 0:
            seconds = int(at)
            self._spec[2] = seconds
            self._spec[3] = max(int((at - seconds) * 1e9), _SOONEST_NS)
            self._libc.timerfd_settime(self._fd, _TFD_TIMER_ABSTIME, self._spec, None)

    def ready(self, flags: int) -> None:
        """See Pollable."""
        try:
            os.read(self._fd, 8)
        except BlockingIOError:
            return  # it was set for later meanwhile
        self._poller.soon(self._ring)

    def crashed(self) -> None:
        """See Pollable: there is nothing to close."""

    def close(self) -> None:
        """See Alarm."""
        if self._fd >= 0:
            fd, self._fd = self._fd, -1
            self._poller.remove(fd)
            self._poller.close_later(fd)


class ReactorAlarm:
    """An Alarm that a reactor rings, where there is no timerfd: as good as the reactor's own clock."""

    def __init__(self, later: Later, seconds: Callable[[], float], ring: Callable[[], None]) -> None:
        self._later: Final = later
        self._seconds: Final = seconds
        self._ring: Final = ring
        self._timer: Timer | None = None

    def set(self, at: float) -> None:
        """See Alarm."""
        self.close()
        self._timer = self._later(max(at - self._seconds(), 0.0), self._rung)

    def _rung(self) -> None:
        self._timer = None
        self._ring()

    def close(self) -> None:
        """See Alarm."""
        if self._timer is not None:
            timer, self._timer = self._timer, None
            timer.cancel()
