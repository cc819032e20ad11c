"""Settling: the wait for all workers to go by what holds now."""

from collections.abc import Callable
from typing import Any, Final

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger

# So long it is waited for, in seconds.
_SETTLE_S: Final = 10.0

_log: Final = Logger(namespace="twisted_lb.workers")


class Settling:
    """Those who wait. `settled` says whether it is so; whoever changes that calls `look`."""

    def __init__(self, settled: Callable[[], bool], reactor: Any) -> None:
        self._settled: Final = settled
        self._reactor: Final = reactor
        self._waiting: Final[dict[Deferred[None], IDelayedCall]] = {}

    def wait(self) -> "Deferred[None]":
        """Fires when it is so, or has had time enough."""
        if self._settled():
            return succeed(None)
        done: Deferred[None] = Deferred()
        self._waiting[done] = self._reactor.callLater(_SETTLE_S, self._give_up, done)
        return done

    def _give_up(self, done: "Deferred[None]") -> None:
        _log.warn("some workers do not go by what holds now after {s:g} s", s=_SETTLE_S)
        del self._waiting[done]
        done.callback(None)

    def look(self, *, over: bool = False) -> None:
        """See whether it is so, or never will be: at a stop nobody is to wait for what does not come any more."""
        if self._waiting and (over or self._settled()):
            waiting = dict(self._waiting)
            self._waiting.clear()
            for done, timer in waiting.items():
                timer.cancel()
                done.callback(None)
