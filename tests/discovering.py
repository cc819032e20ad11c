"""A provider on virtual time: what it tells, what it logs, and a source that answers as the test says."""

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from twisted.internet.defer import Deferred, fail, succeed
from twisted.logger import formatEvent, globalLogPublisher

from twisted_lb.core.address import parse_address
from twisted_lb.core.backend import BackendSpec
from twisted_lb.discovery.following import Following, Source
from twisted_lb.discovery.provider import ListRules, Means, NoList
from twisted_lb.testing import HeapClock

START = 1000.0
RULES = {"refresh_s": 10.0, "allow_empty": False, "max_shrink": 0.5}


def specs(*names: str, weight: int = 1) -> list[BackendSpec]:
    """Backends at these hosts."""
    return [BackendSpec(f"{name}:80", parse_address(f"{name}:80"), weight) for name in names]


def means(clock: HeapClock, reactor: Any = None) -> Means:
    return Means(clock, random.Random(1), reactor)


class ScriptedSource:
    """Answers one look after the other with a list, None, or a text for a failure; the last answer again and again."""

    where = "the list"

    def __init__(self, *answers: Any) -> None:
        self.answers = list(answers)
        self.pause_s = RULES["refresh_s"]
        self.looks = 0
        self.closed = 0

    def look(self) -> Deferred[Any]:
        self.looks += 1
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Deferred):
            return answer
        error = NoList(answer) if isinstance(answer, str) else answer
        return fail(error) if isinstance(error, Exception) else succeed(answer)

    def close(self) -> None:
        self.closed += 1


class Follower:
    """A provider over a source, on virtual time; `told` is each list that it has handed on, `said` its log lines."""

    def __init__(self, source: Source, clock: HeapClock | None = None, **rules: Any) -> None:
        self.source = source
        self.clock = HeapClock(START) if clock is None else clock
        self.told: list[list[str]] = []
        self.specs: list[BackendSpec] = []
        self.said: list[str] = []
        self.provider = Following(source, ListRules(**{**RULES, **rules}), means(self.clock))
        # What whoever takes the backends does about them.
        self.take: Any = lambda specs: None

    def start(self) -> "Follower":
        globalLogPublisher.addObserver(self._hear)
        self.provider.start(self._update)
        return self

    def close(self) -> None:
        self.provider.stop()
        globalLogPublisher.removeObserver(self._hear)

    def _update(self, specs: list[BackendSpec]) -> None:
        self.take(specs)
        self.specs = specs
        self.told.append([spec.name.removesuffix(":80") for spec in specs])

    def _hear(self, event: dict[str, Any]) -> None:
        if event["log_namespace"] == "twisted_lb.discovery.following" and "log_failure" not in event:
            self.said.append(formatEvent(event) or "")

    def look(self) -> None:
        """Let the next look begin, and whatever needs no time happen."""
        at = self.clock.next_at()
        assert at is not None
        self.clock.run_until(at)
        self.clock.settle()


@contextmanager
def following(source: Source, clock: HeapClock | None = None, **rules: Any) -> Iterator[Follower]:
    """A provider that is started and stopped; nothing of it is left on its clock."""
    follower = Follower(source, clock, **rules).start()
    try:
        yield follower
    finally:
        follower.close()
    assert follower.clock.getDelayedCalls() == []
