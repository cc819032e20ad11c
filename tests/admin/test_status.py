"""The status site, over a connection in memory: two answers, no line in the log."""

import pytest
from twisted.internet.testing import StringTransport
from twisted.logger import globalLogPublisher

from twisted_lb.admin.readiness import Verdict
from twisted_lb.admin.status import StatusSite
from twisted_lb.testing import HeapClock


class Probe:
    """A connection to a status site."""

    def __init__(self, *verdict) -> None:
        self.clock = HeapClock()
        self.site = StatusSite(lambda: Verdict(*verdict), self.clock)
        self.transport = StringTransport()
        self.protocol = self.site.build()
        self.protocol.makeConnection(self.transport)

    def ask(self, path: bytes, method: bytes = b"GET") -> tuple[int, bytes]:
        """Status and body of one answer."""
        self.transport.clear()
        self.protocol.dataReceived(method + b" " + path + b" HTTP/1.1\r\nHost: x\r\n\r\n")
        self.clock.settle()
        head, _, body = self.transport.value().partition(b"\r\n\r\n")
        self.head = head
        return int(head[9:12]), body


def test_ready_is_what_it_is_told_with_its_reason():
    assert Probe(True, "ready\n").ask(b"/-/ready") == (200, b"ready\n")
    assert Probe(False, "not ready: stopping\n").ask(b"/-/ready") == (503, b"not ready: stopping\n")


def test_live_says_so_whatever_else_there_is():
    assert Probe(False, "not ready: stopping\n").ask(b"/-/live") == (200, b"live\n")


def test_nobody_may_keep_an_answer():
    probe = Probe(True, "ready\n")
    probe.ask(b"/-/ready")
    assert b"\r\nCache-Control: no-store" in probe.head
    assert b"\r\nserver:" not in probe.head.lower()


def test_a_head_request_gets_the_status():
    assert Probe(False, "not ready: stopping\n").ask(b"/-/ready", b"HEAD") == (503, b"")


@pytest.mark.parametrize("path", [b"/", b"/-/", b"/ready", b"/-/other"])
def test_there_is_nothing_else(path):
    assert Probe(True, "ready\n").ask(path)[0] == 404


def test_probes_write_no_log_lines():
    events = []
    globalLogPublisher.addObserver(events.append)
    probe = Probe(True, "ready\n")
    for _ in range(3):
        probe.ask(b"/-/ready")
    globalLogPublisher.removeObserver(events.append)
    assert events == []


def test_who_does_not_wait_for_his_answer_has_one_and_no_more():
    probe = Probe(True, "ready\n")
    probe.protocol.dataReceived(b"GET /-/live HTTP/1.1\r\nHost: x\r\n\r\n" * 1000)
    probe.clock.settle()
    assert probe.transport.value().count(b"HTTP/1.1 200 ") == 1
    assert probe.transport.disconnecting


def test_closed_it_cuts_its_connections():
    probe = Probe(True, "ready\n")
    probe.ask(b"/-/live")
    probe.site.close()
    assert probe.transport.disconnecting or probe.transport.disconnected
