"""Reports: what the workers have counted, of those that run and of those that have ended, as one.

What they count again that the parent counts, since they follow it, is left out: checks, and changes of the state of backends.
"""

from collections.abc import Callable, Hashable, Mapping
from dataclasses import replace
from time import perf_counter
from typing import Any, Final

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from twisted_lb.core.histogram import NOTHING
from twisted_lb.core.measures import BackendMeasures, Beside, ListenerMeasures, Measures, PoolMeasures
from twisted_lb.workers.codec import loaded

_log = Logger(namespace="twisted_lb.workers")

_NOBODY: Final = Measures((), ())
# What there is beside a data plane, and not any more when the process has ended.
_OF_NOW: Final = ("buffered_bytes", "buffered_bytes_limit")

# Asks all workers a question: fires with their answers, by whose they are.
Ask = Callable[[str, Mapping[str, Any]], "Deferred[dict[Hashable, bytes]]"]


class Reports:
    """The measures of all workers together, as they were told last. `ask` asks them."""

    def __init__(self, ask: Ask) -> None:
        self._ask: Final = ask
        self._told: Final[dict[Hashable, Measures]] = {}
        self._ended: Measures = _NOBODY
        self._told_beside: Final[dict[Hashable, Beside]] = {}
        self._ended_beside: Beside = Beside()
        self._together: Measures | None = None
        self.cost_s: float = 0.0  # of reading what was told last
        self._waiting: Final[list[Deferred[None]]] = []
        self._ending: Final[
            list[Hashable]
        ] = []  # who has ended while it was asked: what it has told last is still to come
        self._last: Final[set[Hashable]] = set()  # who has told all that it ever will

    def refresh(self, *, exemplars: bool = False) -> "Deferred[None]":
        """Ask anew; fires when all have told, or have had time enough. Who asks meanwhile waits for the same answers, unless exemplars are
        wanted, which are not told each time.
        """
        if exemplars:
            return self._ask("measures", {"exemplars": True}).addCallback(self._heard).addErrback(_failed)
        waiting: Deferred[None] = Deferred()
        self._waiting.append(waiting)
        if len(self._waiting) == 1:
            self._ask("measures", {"exemplars": False}).addCallback(self._heard).addErrback(_failed).addBoth(self._over)
        return waiting

    def _over(self, _: object) -> None:
        for whose in self._ending:
            self._end(whose)
        self._ending.clear()
        waiting = self._waiting.copy()
        self._waiting.clear()
        for one in waiting:
            one.callback(None)

    def _heard(self, answers: Mapping[Hashable, bytes]) -> None:
        began_at = perf_counter()
        for whose, answer in answers.items():
            if whose not in self._last:
                self._take(whose, answer)
        self._together = None
        self.cost_s = perf_counter() - began_at

    def _take(self, whose: Hashable, answer: bytes) -> None:
        measures, beside = loaded(answer)
        assert isinstance(measures, Measures)
        assert isinstance(beside, Beside)
        self._told[whose], self._told_beside[whose] = _of_a_worker(measures), beside

    def hear_last(self, whose: Hashable, answer: bytes) -> None:
        """A worker ends in order, and has counted this. What it has answered before, and is still to be read, is older."""
        self._take(whose, answer)
        self._last.add(whose)
        self._together = None

    def end(self, whose: Hashable) -> None:
        """A worker has ended: what it has counted stays counted."""
        if self._waiting:
            self._ending.append(whose)
        else:
            self._end(whose)

    def _end(self, whose: Hashable) -> None:
        self._last.discard(whose)
        told = self._told.pop(whose, None)
        if told is not None:
            self._ended = self._ended.merged(_at_its_end(told))
            self._ended_beside = self._ended_beside.merged(_beside_at_its_end(self._told_beside.pop(whose)))
            self._together = None

    @property
    def measures(self) -> Measures:
        """What all have counted."""
        if self._together is None:
            self._together = self._ended
            for told in self._told.values():
                self._together = self._together.merged(told)
        return self._together

    @property
    def beside(self) -> Beside:
        """What all have counted beside their data planes."""
        together = self._ended_beside
        for told in self._told_beside.values():
            together = together.merged(told)
        return together

    def of(self, whose: Hashable) -> Measures:
        """What one of them has counted."""
        return self._told.get(whose, _NOBODY)


def _failed(failure: Failure) -> None:
    _log.failure("a report of a worker cannot be read", failure=failure)


def _of_a_worker(measures: Measures) -> Measures:
    return replace(
        measures, pools=tuple(replace(one, backends=tuple(map(_told_of, one.backends))) for one in measures.pools)
    )


def _told_of(backend: BackendMeasures) -> BackendMeasures:
    return replace(
        backend,
        checks_passed=NOTHING,
        checks_failed=NOTHING,
        changes=(),
        ejections=(0,) * len(backend.ejections),
        garbled=0,
    )


def _at_its_end(measures: Measures) -> Measures:
    """What only grows; nothing of it is there now."""
    return Measures(tuple(map(_listener_at_its_end, measures.listeners)), tuple(map(_pool_at_its_end, measures.pools)))


def _beside_at_its_end(beside: Beside) -> Beside:
    return replace(beside, counters=tuple(one for one in beside.counters if one[0] not in _OF_NOW))


def _listener_at_its_end(one: ListenerMeasures) -> ListenerMeasures:
    _, connections, _, streams = one.http2
    return replace(
        one,
        connections=0,
        handshaking=0,
        http2=(0, connections, 0, streams),
        routes=tuple(replace(route, running=0) for route in one.routes),
    )


def _pool_at_its_end(one: PoolMeasures) -> PoolMeasures:
    return replace(
        one,
        in_flight=0,
        queued=0,
        expected_wait_s=0.0,
        bindings=0,
        mirror=None if one.mirror is None else replace(one.mirror, running=0),
        backends=tuple(
            replace(
                backend,
                in_flight=0,
                tunnels=0,
                load=0.0,
                idle_connections=0,
                busy_connections=0,
                shared_connections=0,
                calls=0,
            )
            for backend in one.backends
        ),
    )
