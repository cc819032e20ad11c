"""Probes over a network in memory, for the tests of probes and of checks."""

from collections.abc import Iterator
from contextlib import contextmanager

from twisted_lb.core.address import parse_address
from twisted_lb.net.clock import Clock
from twisted_lb.net.deadlines import TICK_S, Deadlines
from twisted_lb.probes import HttpProbe, NetworkProbe, TcpProbe
from twisted_lb.testing import HeapClock, MemoryNetwork, ScriptedBackend
from twisted_lb.wire.grammar import Limits

START = 1000.0


class ProbeBench:
    """A network, and probes in it."""

    def __init__(self) -> None:
        self.clock = HeapClock(START)
        self.network = MemoryNetwork(self.clock)
        self.deadlines = Deadlines(Clock(self.clock.seconds), self.clock.callLater)
        self.probes: list[NetworkProbe] = []

    def backend(self, *script, address="a:80", **named) -> ScriptedBackend:
        return ScriptedBackend(self.network, address, [script] if script else (), **named)

    def http(self, head_bytes: int = 32768) -> HttpProbe:
        limits = Limits(head_bytes=head_bytes)
        probe = HttpProbe(self.network, self.deadlines, self.clock.seconds, "/health?x", "agent/1", limits)
        self.probes.append(probe)
        return probe

    def tcp(self) -> TcpProbe:
        probe = TcpProbe(self.network, self.deadlines, self.clock.seconds)
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

    def nothing_is_left(self) -> None:
        self.clock.advance(2 * TICK_S)
        assert self.network.open_connections == []
        assert all(not probe._open for probe in self.probes)


@contextmanager
def probe_bench() -> Iterator[ProbeBench]:
    """A bench on which nothing may be left."""
    one = ProbeBench()
    yield one
    one.nothing_is_left()
    one.clock.advance(100)
    assert one.clock.getDelayedCalls() == []
