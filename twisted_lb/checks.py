"""Active health checks: the schedule on which each backend is probed, with jitter, by a LoopingCall of its own."""

import random
from collections.abc import Callable, Iterable
from typing import Final

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from twisted_lb.core.address import Address
from twisted_lb.probes import Probe, ProbeResult

# Jitter: probes in step would hit all backends, and from all balancers, at once (thundering herd). HAProxy advises 2 to
# 5 %.
JITTER: Final = 0.10
# The first probe of each backend comes within this time, spread; sooner where requests wait.
FIRST_WITHIN_S: Final = 1.0
# How soon a backend is probed that traffic found closed.
_AT_ONCE_S: Final = 0.01
# How often a backend that is out is probed while requests wait for one.
_AWAITED_S: Final = 0.2

_log = Logger()


class Checks:
    """The checks of a pool's backends. `heard(name, result)` is told every conclusive result; a backend whose probe
    hangs delays only its own loop. Backends that are out are probed every `down_interval_s`, and several times a second
    while requests wait for one. `port`: see net.cluster.Checking.
    """

    def __init__(
        self,
        probe: Probe,
        clock: IReactorTime,
        heard: Callable[[str, ProbeResult], None],
        rng: random.Random,
        *,
        interval_s: float,
        timeout_s: float,
        down_interval_s: float | None = None,
        port: int | None = None,
    ) -> None:
        self.interval_s: float = interval_s
        self.down_interval_s: float = interval_s if down_interval_s is None else down_interval_s
        self.timeout_s: float = timeout_s
        self.port: int | None = port
        self._probe: Final = probe
        self._clock: Final = clock
        self._heard: Final = heard
        self._rng: Final = rng
        self._loops: dict[str, _Loop] = {}
        self._out: frozenset[str] = frozenset()
        self._awaited = False

    def update(self, backends: Iterable[tuple[str, Address]]) -> None:
        """Check these backends at these addresses, and no others, from now on; loops of those that stay go on undisturbed."""
        wanted = dict(backends)
        for name in [n for n, loop in self._loops.items() if wanted.get(n) != loop.address]:
            self._loops.pop(name).stop()
        new = [name for name in wanted if name not in self._loops]
        within = min(self.interval_s, _AWAITED_S if self._awaited else FIRST_WITHIN_S)
        for index, name in enumerate(new):
            loop = self._loops[name] = _Loop(self, name, wanted[name])
            # One in each slice, at random within it: spread, however many there are.
            loop.start(within * (index + self._rng.random()) / len(new))

    def configure(self, *, interval_s: float, timeout_s: float, down_interval_s: float, port: int | None) -> None:
        """Ask by another schedule: a pause that has begun is over after the new one at the latest. Another `port` holds with
        the next `update`.
        """
        self.interval_s, self.down_interval_s, self.timeout_s, self.port = interval_s, down_interval_s, timeout_s, port
        for name, loop in self._loops.items():
            loop.shorten(self.pause_s(name))

    def check_soon(self, name: str) -> None:
        """Probe this backend at once, because something happened; nothing if a probe is under way."""
        loop = self._loops.get(name)
        if loop is not None:
            loop.hurry()

    def check_anew(self, name: str) -> None:
        """Probe this backend at once, whatever is under way: its name leads to another server, and what the old one says
        is not heard any more.
        """
        loop = self._loops.get(name)
        if loop is not None:
            loop.stop()
            loop = self._loops[name] = _Loop(self, name, loop.address)
            loop.start(_AT_ONCE_S)

    def watch_closely(self, names: Iterable[str], *, awaited: bool) -> None:
        """Probe these backends, which are out, more often from now on, and no others; `awaited`: requests wait for them."""
        before, was_awaited = self._out, self._awaited
        self._out, self._awaited = frozenset(names), awaited
        for name in sorted(self._out if awaited and not was_awaited else self._out - before):
            loop = self._loops.get(name)
            if loop is not None:
                loop.shorten(self.pause_s(name))

    def stop(self) -> None:
        """End all checks; results of probes under way are not told."""
        self.update(())

    def pause_s(self, name: str) -> float:
        """The time from one probe of this backend to its next, with jitter."""
        pause_s = self.interval_s
        if name in self._out:
            pause_s = min(self.down_interval_s, _AWAITED_S) if self._awaited else self.down_interval_s
        return pause_s * self._rng.uniform(1 - JITTER, 1 + JITTER)

    def ask(self, address: Address) -> Deferred[ProbeResult]:
        """Make one probe, which cannot raise: an exception is a failed probe, and a bug that is logged."""
        try:
            result = self._probe.ask(address, self.timeout_s)
        except Exception:
            result = Deferred()
            result.errback(Failure())
        return result.addErrback(self._blew_up)

    def _blew_up(self, failure: Failure) -> ProbeResult:
        _log.failure("a probe raised; counted as failed", failure=failure)
        return ProbeResult(False, "the probe itself failed")

    def hear(self, name: str, result: ProbeResult) -> None:
        """Pass the result of a probe on; a listener that raises does not end the loop."""
        if not result.conclusive:
            _log.warn("a check of {backend} could not be made: {reason}", backend=name, reason=result.reason)
            return
        try:
            self._heard(name, result)
        except Exception:
            _log.failure("the result of a check of {backend} was not taken", backend=name)


class _Loop:
    """The checks of one backend. Its LoopingCall is started anew for each pause, because each pause has its own length:
    changing the interval of a running one moves its grid and gives gaps of any size.
    """

    def __init__(self, checks: Checks, name: str, address: Address) -> None:
        self.address: Final = address
        self._checks: Final = checks
        self._name: Final = name
        self._call: Final = LoopingCall(self._check)
        self._call.clock = checks._clock
        self._stopped = False
        self._asking = False
        self._pause_s = 0.0
        self._due_at = 0.0

    def start(self, pause_s: float) -> None:
        """Probe after `pause_s` seconds, and again and again from there."""
        self._pause_s = pause_s
        self._due_at = self._checks._clock.seconds() + pause_s
        self._call.start(pause_s, now=False).addCallbacks(self._next, self._died)

    def _check(self) -> Deferred[None]:
        self._asking = True
        began = self._checks._clock.seconds()
        return self._checks.ask(self.address).addCallback(self._hear, began)

    def _hear(self, result: ProbeResult, began: float) -> None:
        result.asked_at = began
        if not self._stopped:
            self._checks.hear(self._name, result)
        self._asking = False  # only now: a probe that is wanted because of this result is this one
        if self._stopped:
            return
        took = self._checks._clock.seconds() - began
        self._pause_s = max(self._checks.pause_s(self._name) - took, 0.0)
        self._call.stop()

    def _next(self, _call: object) -> None:
        if not self._stopped:
            self.start(self._pause_s)

    def _died(self, failure: Failure) -> None:
        """Go on after an exception, loudly. There should be none: every result is a value."""
        self._asking = False
        _log.failure("the checks of {backend} stumbled and go on", failure=failure, backend=self._name)
        if not self._stopped:
            self.start(self._checks.pause_s(self._name))

    def hurry(self) -> None:
        self.shorten(_AT_ONCE_S)

    def shorten(self, pause_s: float) -> None:
        """Probe after `pause_s` seconds at the latest, unless that is being done."""
        if not self._asking and self._call.running and self._due_at - self._checks._clock.seconds() > pause_s:
            self._pause_s = pause_s
            self._call.stop()

    def stop(self) -> None:
        self._stopped = True
        if self._call.running:
            self._call.stop()
