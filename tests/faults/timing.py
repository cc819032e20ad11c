"""A town's time: durations, the wall clock beside them, which steps, and the process, which is suspended now and then.

At the beginning both clocks say the same: whoever takes one for the other is found out by a step alone.
"""

import ctypes
import math
import random
import select
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from itertools import pairwise
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

from faults.kernel import Kernel
from twisted.internet.base import DelayedCall

from twisted_lb.net import over_reactor
from twisted_lb.net.clock import Clock
from twisted_lb.net.dialer import GreetingDial
from twisted_lb.net.names import Names
from twisted_lb.net.runtime import Runtime
from twisted_lb.net.timers import MonotonicTimers
from twisted_lb.testing import HeapClock, MemoryNetwork
from twisted_lb.testing.names import NamedDial

HOUR_S = 3600.0
# After a pause of more than a second what has come meanwhile is read before anything expires.
SHORT_S, LONG_S = 0.9, 1.3
GRACE_S = 0.11


class Hours:
    """What a town's clocks do, from a stream of its own. `kind` is whose process it is: `given` are the timers of a test,
    `embedded` and `own` those of production, beside a reactor of somebody else's and of ours.
    """

    def __init__(self, seed: int, *, sockets: bool, web: bool) -> None:
        rng = random.Random(f"{seed}/time")
        kind, steps, pauses = rng.choice(["given", "embedded", "own"]), rng.random() < 0.5, rng.random() < 0.4
        self.kind = kind if sockets else "given"
        self.steps = [(rng.uniform(0, 8), _step(rng)) for _ in range(rng.choice([1, 2, 3]))] if steps else []
        long = rng.random() < 0.7
        length_s = rng.uniform(LONG_S, 9.0) if long else rng.uniform(0.05, SHORT_S)
        # Only a process that does everything by its poller can be held.
        self.pause = (rng.uniform(0.2, 7.0), length_s) if pauses and self.kind != "given" and not web else None
        if sockets and web and rng.random() < 0.7:
            self.kind = "own"  # the one in which twisted.web goes by our time


def _step(rng: random.Random) -> float:
    return rng.choice([-HOUR_S, HOUR_S, rng.uniform(-HOUR_S, HOUR_S), rng.uniform(-5, 5)])


class WallClock:
    """What the time of day would be. `stepped` are told of a step."""

    def __init__(self, clock: HeapClock) -> None:
        self.stepped: list[Callable[[], None]] = []
        self.ahead_s = [(-math.inf, 0.0)]  # from when on, and how far
        self._clock = clock
        self.read: Callable[[], float] = lambda: clock.seconds() + self.ahead_s[-1][1]

    def step(self, by_s: float) -> None:
        self.ahead_s.append((self._clock.seconds(), self.ahead_s[-1][1] + by_s))
        for tell in self.stepped:
            tell()

    def shown(self, since: float, until: float) -> Iterator[tuple[float, float]]:
        """What it showed between two moments, from and to, step by step."""
        for (begins, ahead_s), (ends, _) in pairwise([*self.ahead_s, (math.inf, 0.0)]):
            first, last = max(begins, since), min(ends, until)
            if first <= last:
                yield first + ahead_s, last + ahead_s


class Reactor:
    """A reactor as Twisted's are: it sleeps until its clock, the wall's, has come to its next call, as it thinks."""

    nameResolver = None

    def __init__(self, clock: HeapClock, wall: WallClock, kernel: Kernel) -> None:
        self.seconds = wall.read
        self._clock = clock
        self._kernel = kernel
        self._calls: list[DelayedCall] = []
        self._alarm: Any = None
        self._poller: Any = None  # its epoll, if it has one
        wall.stepped.append(self._run)

    def addReader(self, reader: Any) -> None:
        self._kernel.turn = reader.doRead

    def removeReader(self, reader: Any) -> None:
        self._kernel.turn = lambda: None

    def doIteration(self, delay_s: float) -> None:
        pass

    def callLater(self, delay_s: float, what: Callable[..., object], *args: object, **kwargs: object) -> DelayedCall:
        forget, moved = self._calls.remove, lambda call: self._doze()
        call = DelayedCall(self.seconds() + delay_s, what, args, kwargs, forget, moved, self.seconds)
        self._calls.append(call)
        self._doze()
        return call

    def getDelayedCalls(self) -> list[DelayedCall]:
        return list(self._calls)

    def _run(self) -> None:
        for call in sorted(self._calls, key=DelayedCall.getTime):
            if call in self._calls and call.getTime() <= self.seconds():
                self._calls.remove(call)
                call.called = 1
                call.func(*call.args, **call.kw)
        self._doze()

    def _doze(self) -> None:
        if self._alarm is not None and self._alarm.active():
            self._alarm.cancel()
        if self._calls:
            left_s = min(call.getTime() for call in self._calls) - self.seconds()
            self._alarm = self._clock.callLater(max(left_s, 1e-9), self._run)


def production_runtime(kind: str, reactor: Reactor, clock: HeapClock, wall: WallClock, kernel: Kernel) -> Runtime:
    """The runtime that production makes over a reactor, on a kernel in memory; nothing of it can dial."""

    def lost() -> None:
        raise AssertionError("the poller was lost")

    time = SimpleNamespace(time=wall.read, monotonic=clock.seconds, perf_counter=clock.seconds)
    epoll = kernel.epoll_class()
    with ExitStack() as patches:
        for where, name, instead in (
            (select, "epoll", epoll),
            (ctypes, "CDLL", lambda *args, **kwargs: kernel),
            (over_reactor, "time", time),
            (over_reactor, "wall_seconds", wall.read),
            (over_reactor, "MonotonicTimers", lambda seconds=clock.seconds: MonotonicTimers(seconds)),
        ):
            patches.enter_context(patch.object(where, name, instead))
        if kind == "own":
            reactor._poller = epoll.of_a_reactor()
            over_reactor.make_monotonic(reactor)
        runtime = over_reactor.runtime_of(reactor, 0, lost, whole_process=kind == "own")
    if kind == "own":
        kernel.turn = lambda: reactor.doIteration(0.0)
    kernel.exact = runtime.time.next_at
    return runtime


def with_dial(
    runtime: Runtime,
    wall: WallClock,
    seed: int,
    network: MemoryNetwork | None = None,
    greeting: GreetingDial | None = None,
) -> Runtime:
    """The same, with this wall clock and seed, and, if given, with a way to the network, and one that greets."""
    names, dial = runtime.names, runtime.dial
    if network is not None:
        names = Names(network.resolver, runtime.clock)
        dial = NamedDial(network, names)
    if greeting is not None:
        dial = greeting
    return Runtime(
        clock=runtime.clock,
        wall=Clock(wall.read),
        later=runtime.later,
        soon=runtime.soon,
        time=runtime.time,
        dial=dial,
        names=names,
        deadlines=runtime.deadlines,
        poller=runtime.poller,
        seed=seed,
    )


class Process:
    """The balancer's process, which is held for a while (a machine that was suspended, SIGSTOP): `run` waits then. `tell`
    is told when it is held, and when it goes on.
    """

    def __init__(self, clock: HeapClock, tell: Callable[[bool], None]) -> None:
        self.held: list[tuple[float, float]] = []  # from when until when
        self._clock = clock
        self._tell = tell
        self._holds = False
        self._waiting: list[Callable[[], object]] = []

    def hold(self, seconds: float) -> None:
        now = self._clock.seconds()
        self.held.append((now, now + seconds))
        self._holds = True
        self._tell(True)
        self._clock.callLater(seconds, self._resume)

    def run(self, what: Callable[[], object]) -> None:
        """Now, or when the process goes on."""
        if self._holds:
            self._waiting.append(what)
        else:
            what()

    def _resume(self) -> None:
        self._holds = False
        self._tell(False)
        waiting, self._waiting = self._waiting, []
        for what in waiting:
            what()

    def lost_s(self, since: float, until: float) -> float:
        """How much of a time the process was held, with the grace of a tick behind it."""
        lost = sum(max(min(until, ends) - max(since, begins), 0.0) for begins, ends in self.held)
        return lost + GRACE_S if lost else 0.0
