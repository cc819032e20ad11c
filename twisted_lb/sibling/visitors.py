"""Visitors: a small load for the demonstration, so that there is something to see. It measures nothing."""

import itertools
import math
from typing import Any, Final, cast

from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from twisted.web.client import Agent, HTTPConnectionPool, readBody
from twisted.web.http_headers import Headers
from twisted.web.iweb import IResponse

# What they ask for, one after the other: mostly pages, some large or slow, and one that is not there.
ASKED: Final = ("", "", "?delay=0.02", "", "?size=20000", "", "?delay=0.05", "", "?size=200000", "", "", "?delay=0.3")
MISSING: Final = "?status=404"
# Requests a second, on the average and more or less, in waves of a minute.
PER_S: Final = 20.0
_WAVE: Final = 0.5
_WAVE_S: Final = 60.0
# More than these at once means that nobody answers: then they wait.
MOST_AT_ONCE: Final = 50
_TICK_S: Final = 0.05
_TIMEOUT_S: Final = 5.0


_log = Logger()


class _Quietly(HTTPConnectionPool):
    """Connections without a line in the log for each."""

    def _factory(self, *args: Any) -> Any:  # type: ignore[override]
        made = HTTPConnectionPool._factory(*args)
        made.noisy = False
        return made


class Visitors(Service):
    """Visitors of the site at `url`, which ends with a slash, for as long as the service runs."""

    def __init__(self, url: str, reactor: Any = None) -> None:
        if reactor is None:
            from twisted.internet import reactor
        self._url: Final = url
        self._reactor: Final = reactor
        self._paths: Final = itertools.cycle([*ASKED * 4, MISSING])
        self._pool: HTTPConnectionPool | None = None
        self._owed: float = 0.0
        self.at_once: int = 0
        self.answered: int = 0
        self.failed: int = 0
        self._ticking: Final = LoopingCall(self._tick)
        self._ticking.clock = cast(IReactorTime, reactor)

    def startService(self) -> None:
        """Let them come."""
        super().startService()
        self._pool = _Quietly(self._reactor)
        self._pool.maxPersistentPerHost = 8
        self._ticking.start(_TICK_S, now=False).addErrback(_over)

    def stopService(self) -> "Deferred[None] | None":
        """Let nobody come any more; fires when their connections are closed."""
        super().stopService()
        if self._ticking.running:
            self._ticking.stop()
        pool, self._pool = self._pool, None
        return None if pool is None else cast("Deferred[None]", pool.closeCachedConnections())

    def _tick(self) -> None:
        wave = 1 + _WAVE * math.sin(self._reactor.seconds() * 2 * math.pi / _WAVE_S)
        self._owed += PER_S * wave * _TICK_S
        while self._owed >= 1:
            self._owed -= 1
            if self.at_once < MOST_AT_ONCE:
                self._ask(self._url + next(self._paths))

    def _ask(self, url: str) -> None:
        agent = Agent(self._reactor, connectTimeout=_TIMEOUT_S, pool=self._pool)
        self.at_once += 1
        asked = agent.request(b"GET", url.encode("ascii"), Headers({"User-Agent": ["a visitor"]}))
        asked.addCallback(self._read)
        asked.addTimeout(_TIMEOUT_S, self._reactor)
        asked.addCallbacks(self._answered, self._failed)

    def _read(self, response: IResponse) -> "Deferred[bytes]":
        return readBody(response)

    def _answered(self, _: bytes) -> None:
        self.at_once -= 1
        self.answered += 1

    def _failed(self, _: Any) -> None:
        # Whoever takes backends away to see what happens need not read of it here: the balancer says it.
        self.at_once -= 1
        self.failed += 1


def _over(failure: Any) -> None:
    _log.failure("the visitors stay away, a bug", failure=failure)
