"""A process of our own: what it has beyond the service in it: signals, a service manager, and a successor."""

import os
from collections.abc import Callable
from typing import Any, Final, Protocol

from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from twisted_lb import process
from twisted_lb.errors import StartError
from twisted_lb.notify import Notify
from twisted_lb.openings import Openings
from twisted_lb.signals import Life, Signals
from twisted_lb.takeover import Takeover

# How often it is looked whether the first checks are in.
_LOOK_S: Final = 0.05

_log = Logger()


class Owner(Life, Protocol):
    """The service that a process is for."""

    def taken_over(self, pid: int) -> None:
        """Another process accepts in our place: stop, with time for what runs."""


class OwnProcess:
    """The process that a service has for itself. `hear_signals`, `begin` and `stopping` come once for each start of the service, `ended`
    when it has stopped. `takeover` is the path of a unix socket on which a successor may ask for our sockets.
    """

    def __init__(self, owner: Owner, reactor: Any, takeover: str | None) -> None:
        self._owner: Final = owner
        self._reactor: Final = reactor
        self._path: Final = takeover
        self._signals: Signals | None = None
        self._notify: Notify = Notify({}, 0)
        self._takeover: Takeover | None = None
        self._looking: LoopingCall | None = None
        self._watchdog: LoopingCall | None = None

    def hear_signals(self) -> None:
        """Hear signals from now on: before anything listens, and after twistd has installed its own handlers."""
        if self._signals is None:
            self._signals = Signals(self._owner, self._reactor)
            self._signals.install()

    def begin(
        self, time: IReactorTime, openings: Openings, starting: Callable[[], bool], accept: Callable[[], None]
    ) -> None:
        """The service has started. Once it is not `starting` any more it begins to `accept`, and a predecessor is
        relieved. StartError when nobody could take over from us.
        """
        self._notify = Notify(os.environ, os.getpid())
        if self._path is not None:
            self._takeover = Takeover(self._path, self._reactor, lambda: openings.held, self._owner.taken_over)
            if openings.predecessor is None:
                self._open(self._takeover)
        if self._notify.watchdog_s:
            self._watchdog = _repeat(self._notify.alive, self._notify.watchdog_s, time)
        process.tune()

        def look() -> None:
            if not starting() and self._looking is not None:
                self._looking.stop()
                self._ready(openings, accept)

        self._looking = _repeat(look, _LOOK_S, time)

    def _ready(self, openings: Openings, accept: Callable[[], None]) -> None:
        """The first checks are in: this instance is the one that clients come to."""
        predecessor = openings.predecessor
        if predecessor is not None:
            accept()
            try:
                if self._takeover is not None:
                    self._open(self._takeover)
            except StartError as error:
                _log.error("{error}", error=error)
        # First of all who is the main process now: the end of the predecessor is no news of the service.
        self._notify.ready(took_over=predecessor is not None)
        if predecessor is not None:
            predecessor.relieve()
            _log.info("took over from process {pid}", pid=predecessor.pid)

    def _open(self, takeover: Takeover) -> None:
        try:
            takeover.open()
        except OSError as error:
            raise StartError(f"takeover {takeover.path}: {error.strerror or error}") from None

    def reloading(self) -> None:
        """A reload begins."""
        self._notify.reloading()

    def reloaded(self) -> None:
        """A reload is over."""
        self._notify.ready()

    def stopping(self, *, succeeded: bool = False) -> None:
        """The service stops: nobody takes over from it any more, nor does it from others. `succeeded`: its successor is the
        service now, and the only one that speaks to the service manager.
        """
        if succeeded:
            self._end_watchdog()
        else:
            self._notify.stopping()
        if self._looking is not None and self._looking.running:
            self._looking.stop()
        self._looking = None
        if self._takeover is not None:
            self._takeover.close()
            self._takeover = None

    def ended(self) -> None:
        """The service has stopped."""
        self._end_watchdog()

    def _end_watchdog(self) -> None:
        if self._watchdog is not None:
            self._watchdog.stop()
            self._watchdog = None


def _repeat(call: Callable[[], None], interval_s: float, time: IReactorTime) -> LoopingCall:
    """Call it now and again and again. It must not raise."""
    loop = LoopingCall(call)
    loop.clock = time
    loop.start(interval_s, now=False)
    return loop
