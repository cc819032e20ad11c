"""Signals: what a process that only balances makes of them. None of those that daemons are sent ends it at once."""

import os
import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any, Final, Protocol

from twisted.logger import Logger

# The kernel sends SIGHUP a moment before the terminal is gone, and a shell that ends does so even earlier.
_LOOK_S: Final = 0.1

_log = Logger()

Call = Callable[[], object]


class Life(Protocol):
    """The life of a process, as far as signals change it. All of it is called by the reactor."""

    def reload(self) -> None:
        """SIGHUP: read the configuration anew."""

    def reopen_logs(self) -> None:
        """SIGUSR1: open the log files anew, which somebody has renamed (logrotate)."""

    def upgrade(self) -> None:
        """SIGUSR2: become the program that stands where this one was started from."""

    def leave(self, reason: str) -> None:
        """Stop gracefully, as at SIGTERM; `reason` is for the log."""

    def leave_patiently(self, reason: str) -> None:
        """SIGQUIT: stop gracefully, and give tunnels and endless answers their time; at once if a stop is under way."""


class Signals:
    """The signals of a process of our own: HUP, USR1, USR2, QUIT, and TERM until the reactor hears that itself.

    Handlers that were there before (twistd's, which rotates its log at USR1) are called too. A SIGHUP means another thing
    where the terminal of the process has gone with it: its user has left. `terminal` says whether there is one.

    Handlers stay to the end of the process, also after the end of the service, and none gives back what was there before:
    that would end the process while others in it still stop; a terminal that goes away sends more than one SIGHUP.
    """

    def __init__(self, life: Life, reactor: Any, terminal: Callable[[], bool] | None = None) -> None:
        self._life: Final = life
        self._reactor: Final = reactor
        self._terminal: Final = has_terminal if terminal is None else terminal
        self._had_terminal: bool = False

    def install(self) -> None:
        """Hear signals from now on. Nothing where they cannot be heard: outside of the main thread."""
        if threading.current_thread() is not threading.main_thread():
            return
        early = signal.getsignal(signal.SIGHUP)
        # Whoever ignores SIGHUP before the start (nohup) wants it to outlive its terminal.
        self._had_terminal = early is not signal.SIG_IGN and (getattr(early, "terminal", False) or self._terminal())
        self._hear(signal.SIGHUP, self._hung_up)
        self._hear(signal.SIGUSR1, self._life.reopen_logs)
        self._hear(signal.SIGUSR2, self._life.upgrade)
        self._hear(signal.SIGQUIT, lambda: self._life.leave_patiently("SIGQUIT"))
        if getattr(early, "came", False):
            self._reactor.callWhenRunning(self._hung_up)
        if not self._reactor.running:
            signal.signal(signal.SIGTERM, self._too_early)

    def _hear(self, number: int, call: Call) -> None:
        before: Any = signal.getsignal(number)
        if not callable(before) or hasattr(before, "came"):
            before = None  # there is none, or it was for the time before this one (__main__.Early)

        def handler(number: int, frame: FrameType | None) -> None:
            if before is not None:
                before(number, frame)
            self._reactor.callFromThread(call)

        signal.signal(number, handler)

    def _too_early(self, number: int, frame: FrameType | None) -> None:
        """SIGTERM between the start of the service and that of the reactor, which then takes it over."""
        self._reactor.callWhenRunning(self._reactor.sigTerm, number, frame)

    def _hung_up(self) -> None:
        if self._had_terminal:
            self._reactor.callLater(_LOOK_S, self._look_for_terminal)
        else:
            self._life.reload()

    def _look_for_terminal(self) -> None:
        if self._terminal():
            self._life.reload()
        elif self._had_terminal:
            self._had_terminal = False
            self._life.leave("its terminal is gone (SIGHUP)")


def has_terminal() -> bool:
    """Whether the process has a controlling terminal."""
    try:
        os.close(os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY))
    except OSError:
        return False
    return True


class _Hurry:
    """What SIGINT or SIGTERM does while stops are under way: all of them hear it, the services of one process that stop
    together. `before` is the handler that comes back when the last one is over.
    """

    def __init__(self, reactor: Any, before: Any) -> None:
        self.before: Final = before
        self.calls: Final[list[Call]] = []
        self._reactor: Final = reactor

    def __call__(self, _number: int, _frame: FrameType | None) -> None:
        for call in self.calls:
            self._reactor.callFromThread(call)


def while_stopping(reactor: Any, hurry: Call) -> Call:
    """While a stop is under way, let SIGINT and SIGTERM call `hurry`; returns what ends that, and puts the old handlers
    back after the last stop.

    Only in place of the reactor's own handlers, which would merely complain that it is stopping already.
    """
    heard: dict[int, _Hurry] = {}
    for number in (signal.SIGINT, signal.SIGTERM):
        handler: Any = signal.getsignal(number)
        if getattr(handler, "__self__", None) is reactor:
            handler = _Hurry(reactor, handler)
            signal.signal(number, handler)
        if isinstance(handler, _Hurry):
            handler.calls.append(hurry)
            heard[number] = handler

    def restore() -> None:
        for number, handler in heard.items():
            handler.calls.remove(hurry)
            if not handler.calls:
                signal.signal(number, handler.before)

    return restore
