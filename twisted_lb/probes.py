"""Probes: one question to one backend, and what its answer means. When it is asked is the business of `checks.py`."""

import dataclasses
from collections.abc import Callable
from typing import Any, Final, Protocol

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from twisted_lb.core.address import Address, TcpAddress
from twisted_lb.core.outcome import CONSEQUENCE, Outcome
from twisted_lb.net.deadlines import Deadline, Deadlines
from twisted_lb.net.dialer import TLS_FAILED, Attempt, GreetingDial
from twisted_lb.net.greeting import Greeting, Greetings


class ProbeResult:
    """The result of one probe: whether the backend passed, and why. One that is not `conclusive` could not be made, for
    want of descriptors or ports of our own: it says nothing about the backend. A connect is conclusive where the table of
    outcomes says whether somebody listens there. A `silent` one failed without an answer: refused, reset, closed, or not in
    time; a backend that says that it is not well is not silent. `asked_at`: when it was made, in monotonic seconds; None if
    nobody wrote it down. `busy`: it is well, and wants no new requests. `said`: the line that its agent says, None where it says
    none, or was not listened to.
    """

    def __init__(
        self, passed: bool, reason: str, *, conclusive: bool = True, silent: bool = False, busy: bool = False
    ) -> None:
        self.passed: Final = passed
        self.reason: Final = reason
        self.conclusive: Final = conclusive
        self.silent: Final = silent
        self.busy: Final = busy
        self.asked_at: float | None = None
        self.said: bytes | None = None


class Probe(Protocol):
    """A kind of probe. Its Deferred always fires with a ProbeResult: a failed probe is a result."""

    def ask(self, address: Address, timeout_s: float) -> Deferred[ProbeResult]:
        """Probe the backend at `address` once."""


class Hearing(Protocol):
    """One answer as it comes. `result` is there as soon as it is known, and at the latest when the hearing is `over`, that
    is, when nothing more needs to be read. `reply` is what is to be sent next, and is emptied by whoever sends it.
    """

    result: ProbeResult | None
    over: bool
    reply: bytes

    def feed(self, data: bytes) -> None:
        """Hear more of the answer. Not to be called once it is over."""

    def end(self) -> None:
        """The backend ended its answer in order, by a FIN: the hearing is over."""

    def cut(self, reason: str) -> None:
        """Nothing more will come, for this reason: the hearing is over."""


class Question(Protocol):
    """A question to a backend: what is sent, and how the answer is heard."""

    def request(self, address: Address) -> bytes:
        """The request to send; empty where connecting is the question."""

    def hear(self, address: Address) -> Hearing:
        """A hearing for one answer."""


class Connecting:
    """The question of a TCP probe: whether the backend accepts a connection."""

    def request(self, address: Address) -> bytes:
        """See Question."""
        return b""

    def hear(self, address: Address) -> Hearing:
        """See Question."""
        return _Accepted()


class _Accepted:
    """The answer to Connecting, which is complete when it begins."""

    def __init__(self) -> None:
        self.result: ProbeResult | None = ProbeResult(True, "connected")
        self.over = True
        self.reply = b""

    def feed(self, data: bytes) -> None:
        """See Hearing."""

    def end(self) -> None:
        """See Hearing."""

    def cut(self, reason: str) -> None:
        """See Hearing."""


class NetworkProbe:
    """A probe over the same network as traffic goes, and greeted as that is (`greetings`, None: not at all).

    The result is told as soon as it is known. The rest of the answer is still read, so that no backend meets a reset, for
    as long as the probe had time anyway, and until the next one to the same address: a backend never has two to serve.
    """

    def __init__(
        self,
        dial: GreetingDial,
        deadlines: Deadlines,
        seconds: Callable[[], float],
        question: Question,
    ) -> None:
        self.question: Question = question
        self.greetings: Greetings | None = None
        self.host: str = ""  # for which it asks over TLS; empty: the backend's own
        # The question to a backend that has agreed on HTTP/2 (ALPN), None: the same; and whether it has to.
        self.http2: Question | None = None
        self.needs_http2: bool = False
        self._dial: Final = dial
        self._deadlines: Final = deadlines
        self._seconds: Final = seconds
        self._open: Final[dict[_Asking, None]] = {}  # an ordered set
        self._reading: Final[dict[Address, _Asking]] = {}  # those of them whose result was told

    def ask(self, address: Address, timeout_s: float) -> Deferred[ProbeResult]:
        """See Probe."""
        port = 0
        base = address
        if isinstance(address, TcpAddress) and address.traffic_port:
            port, base = address.port, dataclasses.replace(address, port=address.traffic_port, traffic_port=0)
        before = self._reading.get(address)
        if before is not None:
            before.close()
        asking = _Asking(self, address)
        self._open[asking] = None
        self._deadlines.arm(asking.deadline, self._seconds() + timeout_s)
        if self.greetings is None:
            asking.attempt = self._dial.dial(base, asking, timeout_s, asking.failed, port)
        else:
            greeting = asking.greeting = self.greetings.of_check(base, self.host)
            asking.attempt = self._dial.dial(base, asking, timeout_s, asking.failed, port, greeting)
        return asking.told

    def close(self) -> None:
        """Give up the probes under way: their results are failures."""
        for asking in list(self._open):
            asking.give_up("the checks have ended")

    def _goes_on(self, asking: "_Asking") -> None:
        """The result of a probe is known, and its answer is still being read."""
        self._reading[asking.address] = asking

    def _ended(self, asking: "_Asking") -> None:
        self._open.pop(asking, None)
        if self._reading.get(asking.address) is asking:
            del self._reading[asking.address]


class _Asking:
    """One probe under way, as the protocol of its connection: a request is written, an answer heard, and what that asks for written."""

    def __init__(self, probe: NetworkProbe, address: Address) -> None:
        self.told: Deferred[ProbeResult] = Deferred()
        self.attempt: Attempt | None = None
        self.address: Final = address
        self.deadline: Final = Deadline(lambda: self.give_up("no answer in time"))
        self._probe: Final = probe
        self.greeting: Greeting | None = None
        self._question: Final = probe.question
        self._hearing: Hearing | None = None  # once connected
        self._transport: Any = None
        self._closed = False

    def makeConnection(self, transport: Any) -> None:
        self._transport = transport
        probe, greeting = self._probe, self.greeting
        agreed = greeting is not None and greeting.agreed == "h2"
        if probe.needs_http2 and greeting is not None and greeting.context is not None and not agreed:
            self.failed(Outcome.REFUSED, f"{TLS_FAILED}it does not take HTTP/2 (ALPN)")
            return
        question = probe.http2 if agreed and probe.http2 is not None else self._question
        self._hearing = question.hear(self.address)
        request = question.request(self.address)
        if request:
            transport.write(request)
        self._look(self._hearing)

    def dataReceived(self, data: bytes) -> None:
        if self._hearing is not None and not self._hearing.over:
            self._hearing.feed(data)
            self._look(self._hearing)

    def readConnectionLost(self) -> None:
        if self._hearing is not None and not self._hearing.over:
            self._hearing.end()
            self._look(self._hearing)

    def writeConnectionLost(self) -> None:
        """Twisted's IHalfCloseableProtocol asks for it."""

    def connectionLost(self, reason: Failure) -> None:
        self.give_up(reason.getErrorMessage())

    def failed(self, outcome: Outcome, detail: str) -> None:
        """No connection could be made."""
        conclusive = CONSEQUENCE[outcome].alive is not None
        # Who shows a certificate, if not a good one, has answered.
        silent = conclusive and TLS_FAILED not in detail
        self.close()
        self._tell(ProbeResult(False, detail or outcome.name.lower(), conclusive=conclusive, silent=silent))

    def give_up(self, reason: str) -> None:
        """End it: nothing more comes in, or is waited for."""
        hearing = self._hearing
        if hearing is None:
            self.close()
            self._tell(ProbeResult(False, reason, silent=True))
        elif not hearing.over:
            hearing.cut(reason)
            self._look(hearing)

    def _look(self, hearing: Hearing) -> None:
        if hearing.reply:
            words, hearing.reply = hearing.reply, b""
            self._transport.write(words)
        if hearing.over:
            self.close()
        if hearing.result is not None:
            self._tell(hearing.result)

    def _tell(self, result: ProbeResult) -> None:
        if self.told.called:
            return
        if not self._closed:
            self._probe._goes_on(self)
        self.told.callback(result)

    def close(self) -> None:
        """Close the connection in order, or give up making one. Harmless when that has happened."""
        if self._closed:
            return
        self._closed = True
        self.deadline.end()
        if self._transport is not None:
            # A FIN; and a reset only where not even the request was taken.
            self._transport.loseConnection()
            self._transport.abortConnection()
        elif self.attempt is not None:
            self.attempt.cancel()
        self._probe._ended(self)
