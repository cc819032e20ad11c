"""Probes over a network in memory, for the tests of probes and of checks."""

from collections.abc import Iterator
from contextlib import contextmanager

from twisted_lb.core.address import parse_address
from twisted_lb.http_check import HttpCheck, HttpQuestion
from twisted_lb.net.clock import Clock
from twisted_lb.net.deadlines import TICK_S, Deadlines
from twisted_lb.probes import Connecting, NetworkProbe, Question
from twisted_lb.testing import BackendConnection, HeapClock, MemoryNetwork, ScriptedBackend
from twisted_lb.testing.network import CAPACITY_BYTES
from twisted_lb.wire.grammar import Limits

START = 1000.0
PASSING = frozenset(range(200, 400))


def asked(head_bytes: int = 32768, **differently) -> HttpCheck:
    """The question of these tests, as a rule GET of a path, to be answered by 2xx or 3xx."""
    words = {"method": b"GET", "path": b"/health?x", "host": b"", "fields": (), "statuses": PASSING, "text": b""}
    return HttpCheck(HttpQuestion(**{**words, **differently}), "agent/1", Limits(head_bytes=head_bytes))


class ProbeBench:
    """A network, and probes in it."""

    def __init__(self, capacity_bytes: int = CAPACITY_BYTES) -> None:
        self.clock = HeapClock(START)
        self.network = MemoryNetwork(self.clock, capacity_bytes)
        self.deadlines = Deadlines(Clock(self.clock.seconds), self.clock.callLater)
        self.probes: list[NetworkProbe] = []
        self.backends: list[ScriptedBackend] = []

    def backend(self, *script, address="a:80", **named) -> ScriptedBackend:
        """A backend that answers once as the script says, and then as usual."""
        return self.backend_that([script] if script else (), address, **named)

    def backend_that(self, script, address="a:80", **named) -> ScriptedBackend:
        backend = ScriptedBackend(self.network, address, script, **named)
        self.backends.append(backend)
        return backend

    def http(self, head_bytes: int = 32768, **differently) -> NetworkProbe:
        return self._probe(asked(head_bytes, **differently))

    def tcp(self) -> NetworkProbe:
        return self._probe(Connecting())

    def _probe(self, question: Question) -> NetworkProbe:
        probe = NetworkProbe(self.network, self.deadlines, self.clock.seconds, question)
        self.probes.append(probe)
        return probe

    def ask(self, probe: NetworkProbe, address="a:80", timeout_s: float = 1.0) -> list[tuple[bool, str]]:
        """What it comes to, once it does."""
        results: list[tuple[bool, str]] = []
        asked = probe.ask(parse_address(address), timeout_s)
        assert not asked.called, "it was told before ask returned"
        asked.addCallback(lambda result: results.append((result.passed, result.reason)))
        self.clock.settle()
        return results

    @property
    def connections(self) -> list[BackendConnection]:
        """Those that the backends have accepted so far."""
        return [connection for backend in self.backends for connection in backend.connections]

    def nothing_is_left(self) -> None:
        """All is closed, and in order: where a backend has not closed by itself a FIN has come, to which it wakes up."""
        self.clock.advance(2 * TICK_S)
        for connection in self.connections:
            if connection.open:
                assert connection.ended, "its connection stands open"
                connection.transport.loseConnection()
        self.clock.settle()
        assert self.network.open_connections == []
        assert all(not probe._open and not probe._reading for probe in self.probes)


@contextmanager
def probe_bench(**named: int) -> Iterator[ProbeBench]:
    """A bench on which nothing may be left."""
    one = ProbeBench(**named)
    yield one
    one.nothing_is_left()
    one.clock.advance(100)
    assert one.clock.getDelayedCalls() == []
