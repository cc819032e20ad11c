"""Probes: one question to one backend, and what its answer means. When it is asked is the business of `checks.py`."""

from collections.abc import Callable
from typing import Any, Final, Protocol

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from twisted_lb.core.address import Address, TcpAddress
from twisted_lb.core.outcome import CONSEQUENCE, Outcome
from twisted_lb.net.deadlines import Deadline, Deadlines
from twisted_lb.net.dialer import Attempt, Dial
from twisted_lb.wire.grammar import BLANK_LINE, BadMessage, Limits
from twisted_lb.wire.response import parse_response


class ProbeResult:
    """The result of one probe: whether the backend passed, and why. One that is not `conclusive` could not be made, for
    want of descriptors or ports of our own: it says nothing about the backend. A connect is conclusive where the table of
    outcomes says whether somebody listens there. `silent`: the backend gave no answer at all, as one that is not there.
    """

    def __init__(self, passed: bool, reason: str, *, conclusive: bool = True, silent: bool = False) -> None:
        self.passed: Final = passed
        self.reason: Final = reason
        self.conclusive: Final = conclusive
        self.silent: Final = silent


class Probe(Protocol):
    """A kind of probe. Its Deferred always fires with a ProbeResult: a failed probe is a result."""

    def ask(self, address: Address, timeout_s: float) -> Deferred[ProbeResult]:
        """Probe the backend at `address` once."""


class _Asking:
    """One probe under way, as the protocol of its connection: a request is written, a response judged, that is all."""

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
        self.end(ProbeResult(False, "closed without an answer", silent=True))

    def writeConnectionLost(self) -> None:
        """Twisted's IHalfCloseableProtocol asks for it."""

    def connectionLost(self, reason: Failure) -> None:
        self.end(ProbeResult(False, reason.getErrorMessage(), silent=True))

    def failed(self, outcome: Outcome, detail: str) -> None:
        conclusive = CONSEQUENCE[outcome].alive is not None
        self.end(ProbeResult(False, detail or outcome.name.lower(), conclusive=conclusive, silent=True))

    def _timed_out(self) -> None:
        self.give_up("no answer in time")

    def give_up(self, reason: str) -> None:
        if self.attempt is not None and self._transport is None:
            self.attempt.cancel()
        self.end(ProbeResult(False, reason, silent=True))

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
    """A probe over the same network, and at the same address, as traffic goes."""

    def __init__(self, dial: Dial, deadlines: Deadlines, seconds: Callable[[], float]) -> None:
        self._dial: Final = dial
        self._deadlines: Final = deadlines
        self._seconds: Final = seconds
        self._open: Final[dict[_Asking, None]] = {}  # an ordered set

    def close(self) -> None:
        """Give up the probes under way: their results are failures."""
        for asking in list(self._open):
            asking.give_up("the checks have ended")

    def request(self, address: Address) -> bytes:
        """The request to send; empty where connecting is the question."""
        return b""

    def judge(self, received: bytes) -> ProbeResult | None:
        """The result that a response amounts to; None: wait for more of it."""
        return ProbeResult(True, "connected")

    def ask(self, address: Address, timeout_s: float) -> Deferred[ProbeResult]:
        """See Probe."""
        asking = _Asking(self.request(address), self.judge)
        self._deadlines.arm(asking.deadline, self._seconds() + timeout_s)
        asking.attempt = self._dial.dial(address, asking, timeout_s, asking.failed)
        self._open[asking] = None
        return asking.result.addCallback(self._forget, asking)

    def _forget(self, result: ProbeResult, asking: _Asking) -> ProbeResult:
        self._open.pop(asking, None)
        return result


class TcpProbe(NetworkProbe):
    """A TCP probe: passes when the backend accepts a connection."""


class HttpProbe(NetworkProbe):
    """An HTTP probe: passes when GET of a path is answered by 2xx or 3xx, with a head that traffic would take too:
    `limits` are those of traffic.
    """

    def __init__(
        self, dial: Dial, deadlines: Deadlines, seconds: Callable[[], float], path: str, agent: str, limits: Limits
    ) -> None:
        super().__init__(dial, deadlines, seconds)
        self._path: Final = path.encode("ascii")
        self._agent: Final = agent.encode("ascii")
        self.limits: Limits = limits

    def request(self, address: Address) -> bytes:
        """See NetworkProbe."""
        host = str(address).encode("ascii") if isinstance(address, TcpAddress) else b"localhost"
        return b"GET %b HTTP/1.1\r\nHost: %b\r\nUser-Agent: %b\r\nAccept: */*\r\nConnection: close\r\n\r\n" % (
            self._path,
            host,
            self._agent,
        )

    def judge(self, received: bytes) -> ProbeResult | None:
        """See NetworkProbe: the first final head decides; its body does not matter, nor do the pieces it comes in."""
        limit = self.limits.head_bytes
        begin = 0
        while True:
            end = received.find(BLANK_LINE, begin)
            # From the first byte on: interim heads count, since they might never end. Of a blank line 3 bytes may be here.
            if end > limit or (end < 0 and len(received) > limit + 3):
                return ProbeResult(False, "the head of the answer is too long")
            if end < 0:
                return None
            try:
                head = parse_response(received[begin:end], self.limits)
            except BadMessage as bad:
                return ProbeResult(False, bad.reason)
            if head.status >= 200:
                return ProbeResult(head.status < 400, f"status {head.status}")
            begin = end + len(BLANK_LINE)
