"""A process of our own: what it has beyond the service in it: signals, a service manager, and a successor."""

import os
from collections.abc import Callable, Iterable
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
        """Another process has taken over from this one: stop, with time for what runs."""


class OwnProcess:
    """The process that a service has for itself. `hear_signals`, `begin` and `stopping` come once for each start of the service, `ended`
    when it has stopped. `takeover` is the path of a unix socket on which a successor may ask for our sockets.

    Several services may share one, each with a path of its own; `everybody` gives those of all of them. They are taken over
    one by one, and when the last one is that a successor prepares for, the whole process ends. `handed_on`: another process
    accepts on the sockets of this service.
    """

    def __init__(
        self, owner: Owner, reactor: Any, takeover: str | None, everybody: Callable[[], Iterable["OwnProcess"]]
    ) -> None:
        self._owner: Final = owner
        self._reactor: Final = reactor
        self._path: Final = takeover
        self._everybody: Final = everybody
        self._taken_by: int = 0  # the process that accepts on the sockets of this service
        self._succeeded: bool = False  # another process stands in for this one
        self._signals: Signals | None = None
        self._notify: Notify = Notify({}, 0)
        self._takeover: Takeover | None = None
        self._looking: LoopingCall | None = None
        self._watchdog: LoopingCall | None = None

    def refuse_shared(self) -> None:
        """Refuse a path that another service of this process has as well: StartError."""
        path = self._path
        if path is not None and sum(one.listens_at(path) for one in self._everybody()) > 1:
            raise StartError(f"takeover {path}: two balancers of one process have it, each needs a path of its own")

    def listens_at(self, path: str) -> bool:
        """Whether this is the path on which it may be asked for its sockets."""
        return self._path is not None and os.path.realpath(self._path) == os.path.realpath(path)

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
            self._takeover = Takeover(self._path, self._reactor, lambda: openings.held, self._taken, self._left)
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

    # A successor of ours.

    @property
    def handed_on(self) -> bool:
        """Whether another process accepts on the sockets of this service."""
        return self._taken_by != 0

    @property
    def preparing(self) -> bool:
        """Whether a successor has the sockets of this service and is going to accept on them."""
        return self._takeover is not None and self._takeover.successor is not None

    def _taken(self, pid: int) -> None:
        """A process accepts on our sockets. This one ends, unless one prepares to take over another of its services."""
        self._taken_by = pid
        everybody = list(self._everybody())
        if any(one.preparing for one in everybody):
            _log.info("process {pid} has taken over one balancer of this process, another one is to follow", pid=pid)
            return
        for one in everybody:
            one.succeed(pid)

    def succeed(self, pid: int) -> None:
        """A process stands in for this one from now on, also where it has not asked for all that is here."""
        self._succeeded = True
        self._owner.taken_over(pid)

    def _left(self, pid: int) -> None:
        """A process has left that was to take this service over: this one goes on, with all of its services."""
        for one in self._everybody():
            one.go_on_after(pid)

    def go_on_after(self, pid: int) -> None:
        """If that process had taken over: it is leaving, and its successor has to ask us again."""
        if self._taken_by != pid:
            return
        self._taken_by = 0
        if self._takeover is not None:
            try:
                self._open(self._takeover)
            except StartError as error:
                _log.error("{error}", error=error)

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

    def stopping(self) -> None:
        """The service stops: nobody takes over from it any more, nor does it from others. Where another process has taken
        over, that one is the service now, and the only one that speaks to the service manager.
        """
        if self._succeeded or any(one.handed_on for one in self._everybody()):
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
        self._taken_by, self._succeeded = 0, False
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
