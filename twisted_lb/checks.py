"""Active health checks: a LoopingCall for each backend asks it again and again, and tells the balancer what it heard."""

import random
from collections.abc import Callable, Iterable
from typing import Any, Final, Protocol

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from twisted_lb.core.address import Address, TcpAddress
from twisted_lb.core.outcome import Outcome
from twisted_lb.net.deadlines import Deadline, Deadlines
from twisted_lb.net.dialer import Attempt, Dial
from twisted_lb.wire.grammar import BLANK_LINE, BadMessage, Limits
from twisted_lb.wire.response import parse_response

# Probes that stay in step would hit all backends, and from all balancers, at once (HAProxy advises 2 to 5 %).
JITTER: Final = 0.10
# The first check of each backend comes within this time, spread.
FIRST_WITHIN_S: Final = 1.0
# How soon a backend is asked that traffic found closed.
_AT_ONCE_S: Final = 0.01

_log = Logger()


class ProbeResult:
    """What one probe found: whether the backend passed, and why. One that is not `conclusive` could not be made, for want
    of descriptors or ports of our own: it says nothing about the backend.
    """

    def __init__(self, passed: bool, reason: str, *, conclusive: bool = True) -> None:
        self.passed: Final = passed
        self.reason: Final = reason
        self.conclusive: Final = conclusive


class Probe(Protocol):
    """One way of asking. The Deferred always fires with a ProbeResult: a failed probe is a result."""

    def ask(self, address: Address, timeout_s: float) -> Deferred[ProbeResult]:
        """Ask the backend at `address` once."""


class _Asking:
    """One probe under way, as the protocol of its connection: a request is written, an answer judged, that is all."""

    def __init__(self, request: bytes, judge: Callable[[bytes], ProbeResult | None]) -> None:
        self.result: Deferred[ProbeResult] = Deferred()
        self.attempt: Attempt | None = None
        self.deadline: Final = Deadline(self._timed_out)
        self._request: Final = request
        self._judge: Final = judge
        self._transport: Any = None
        self._received = b""
        self._over = False

    def makeConnection(self, transport: Any) -> None:
        self._transport = transport
        if self._request:
            transport.write(self._request)
        self._look()

    def dataReceived(self, data: bytes) -> None:
        self._received += data
        self._look()

    def _look(self) -> None:
        if not self._over:
            result = self._judge(self._received)
            if result is not None:
                self.end(result)

    def readConnectionLost(self) -> None:
        self.end(ProbeResult(False, "closed without an answer"))

    def writeConnectionLost(self) -> None:
        """Twisted's IHalfCloseableProtocol asks for it."""

    def connectionLost(self, reason: Failure) -> None:
        self.end(ProbeResult(False, reason.getErrorMessage()))

    def failed(self, outcome: Outcome, detail: str) -> None:
        conclusive = outcome is not Outcome.LOCAL_FAILURE
        self.end(ProbeResult(False, detail or outcome.name.lower(), conclusive=conclusive))

    def _timed_out(self) -> None:
        self.give_up("no answer in time")

    def give_up(self, reason: str) -> None:
        if self.attempt is not None and self._transport is None:
            self.attempt.cancel()
        self.end(ProbeResult(False, reason))

    def end(self, result: ProbeResult) -> None:
        if self._over:
            return
        self._over = True
        self.deadline.end()
        if self._transport is not None:
            # Everything was heard; a reset leaves nothing behind on either side.
            self._transport.abortConnection()
        self.result.callback(result)


class NetworkProbe:
    """Asks over the same network, and at the same address, as traffic goes."""

    def __init__(self, dial: Dial, deadlines: Deadlines, seconds: Callable[[], float]) -> None:
        self._dial: Final = dial
        self._deadlines: Final = deadlines
        self._seconds: Final = seconds
        self._open: Final[set[_Asking]] = set()

    def close(self) -> None:
        """Give up what is being asked: whoever waits hears a failure."""
        for asking in list(self._open):
            asking.give_up("the checks have ended")

    def request(self, address: Address) -> bytes:
        """What is sent; nothing: connecting is the question."""
        return b""

    def judge(self, received: bytes) -> ProbeResult | None:
        """What it means; None: wait for more."""
        return ProbeResult(True, "connected")

    def ask(self, address: Address, timeout_s: float) -> Deferred[ProbeResult]:
        """See Probe."""
        asking = _Asking(self.request(address), self.judge)
        self._deadlines.arm(asking.deadline, self._seconds() + timeout_s)
        asking.attempt = self._dial.dial(address, asking, timeout_s, asking.failed)
        self._open.add(asking)
        return asking.result.addCallback(self._forget, asking)

    def _forget(self, result: ProbeResult, asking: _Asking) -> ProbeResult:
        self._open.discard(asking)
        return result


class TcpProbe(NetworkProbe):
    """Passes when the backend accepts a connection."""


class HttpProbe(NetworkProbe):
    """Passes when GET of a path is answered by 2xx or 3xx."""

    def __init__(self, dial: Dial, deadlines: Deadlines, seconds: Callable[[], float], path: str, agent: str) -> None:
        super().__init__(dial, deadlines, seconds)
        self._path: Final = path.encode("ascii")
        self._agent: Final = agent.encode("ascii")
        self._limits: Final = Limits()

    def request(self, address: Address) -> bytes:
        """See NetworkProbe."""
        host = str(address).encode("ascii") if isinstance(address, TcpAddress) else b"localhost"
        return b"GET %b HTTP/1.1\r\nHost: %b\r\nUser-Agent: %b\r\nAccept: */*\r\nConnection: close\r\n\r\n" % (
            self._path,
            host,
            self._agent,
        )

    def judge(self, received: bytes) -> ProbeResult | None:
        """See NetworkProbe: the first final head decides, its body does not matter."""
        bytes_in_all = len(received)
        while True:
            end = received.find(BLANK_LINE)
            if end < 0:
                too_long = bytes_in_all > self._limits.head_bytes  # interim heads count: they might never end
                return ProbeResult(False, "the head of the answer is too long") if too_long else None
            try:
                head = parse_response(received[:end], self._limits)
            except BadMessage as bad:
                return ProbeResult(False, bad.reason)
            if head.status >= 200:
                return ProbeResult(head.status < 400, f"status {head.status}")
            received = received[end + 4 :]


class Checks:
    """The loops. `heard(name, result)` is told every conclusive result; a backend whose probe hangs delays only its own
    loop.
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
    ) -> None:
        self.interval_s: Final = interval_s
        self.timeout_s: Final = timeout_s
        self._probe: Final = probe
        self._clock: Final = clock
        self._heard: Final = heard
        self._rng: Final = rng
        self._loops: dict[str, _Loop] = {}

    def update(self, backends: Iterable[tuple[str, Address]]) -> None:
        """Check just these from now on; loops of those that stay go on undisturbed."""
        wanted = dict(backends)
        for name in [n for n, loop in self._loops.items() if wanted.get(n) != loop.address]:
            self._loops.pop(name).stop()
        new = [name for name in wanted if name not in self._loops]
        within = min(self.interval_s, FIRST_WITHIN_S)
        for index, name in enumerate(new):
            loop = self._loops[name] = _Loop(self, name, wanted[name])
            # One in each slice, at random within it: spread, however many there are.
            loop.start(within * (index + self._rng.random()) / len(new))

    def check_soon(self, name: str) -> None:
        """Ask this backend at once, because something happened; nothing if it is being asked."""
        loop = self._loops.get(name)
        if loop is not None:
            loop.hurry()

    def stop(self) -> None:
        """End all loops; results still under way are not told."""
        self.update(())

    def pause_s(self) -> float:
        """The jittered time between two checks."""
        return self.interval_s * self._rng.uniform(1 - JITTER, 1 + JITTER)

    def ask(self, address: Address) -> Deferred[ProbeResult]:
        """One probe that cannot raise: what blows up is a failed probe, and a bug that is logged."""
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
        """Pass a result on; a listener that raises does not end the loop."""
        if not result.conclusive:
            _log.warn("a check of {backend} could not be made: {reason}", backend=name, reason=result.reason)
            return
        try:
            self._heard(name, result)
        except Exception:
            _log.failure("the result of a check of {backend} was not taken", backend=name)


class _Loop:
    """One backend's checks. Its LoopingCall is started anew for each pause, because each pause has its own length:
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

    def start(self, pause_s: float) -> None:
        """Check after `pause_s` seconds, and on and on from there."""
        self._pause_s = pause_s
        self._call.start(pause_s, now=False).addCallbacks(self._next, self._died)

    def _check(self) -> Deferred[None]:
        self._asking = True
        began = self._checks._clock.seconds()
        return self._checks.ask(self.address).addCallback(self._hear, began)

    def _hear(self, result: ProbeResult, began: float) -> None:
        if not self._stopped:
            self._checks.hear(self._name, result)
        self._asking = False  # only now: who wants a check while hearing of one is content with it
        if self._stopped:
            return
        took = self._checks._clock.seconds() - began
        self._pause_s = max(self._checks.pause_s() - took, 0.0)
        self._call.stop()

    def _next(self, _call: object) -> None:
        if not self._stopped:
            self.start(self._pause_s)

    def _died(self, failure: Failure) -> None:
        """It cannot: every result is a value. If it does all the same, it goes on, loudly."""
        self._asking = False
        _log.failure("the checks of {backend} stumbled and go on", failure=failure, backend=self._name)
        if not self._stopped:
            self.start(self._checks.pause_s())

    def hurry(self) -> None:
        if not self._asking and self._call.running and self._pause_s > _AT_ONCE_S:
            self._pause_s = _AT_ONCE_S
            self._call.stop()

    def stop(self) -> None:
        self._stopped = True
        if self._call.running:
            self._call.stop()
