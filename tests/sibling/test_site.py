"""The sibling backend: what it answers, how it misbehaves, how it leaves and comes back."""

import hashlib
import json
import re
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from twisted.internet.address import IPv4Address
from twisted.internet.error import CannotListenError
from twisted.internet.testing import MemoryReactorClock, StringTransport

from twisted_lb.errors import StartError
from twisted_lb.sibling.behaviour import BLOCK, pattern, up_to
from twisted_lb.sibling.service import BackendService
from twisted_lb.sibling.site import BackendSite


class Reactor(MemoryReactorClock):
    """A reactor in memory whose ports know what they are, and can be taken by somebody else."""

    def __init__(self) -> None:
        super().__init__()
        self.taken = False
        self.open_ports: list[int] = []

    def listenTCP(self, port, factory, backlog=50, interface=""):
        if self.taken:
            raise CannotListenError(interface, port, OSError(98, "taken"))
        listener = super().listenTCP(port, factory, backlog, interface)
        listener.getHost = lambda: IPv4Address("TCP", interface or "0.0.0.0", port or 45678)
        self.open_ports.append(port)
        listener.stopListening = lambda: self.open_ports.remove(port)
        return listener


class Transport(StringTransport):
    """A connection that reports its end, as Twisted's do."""

    protocol: Any

    def __init__(self) -> None:
        super().__init__()
        self.stubborn = False

    def setTcpNoDelay(self, enabled: bool) -> None:
        pass

    def loseConnection(self) -> None:
        super().loseConnection()
        if not self.stubborn:
            self.report()

    def abortConnection(self) -> None:
        super().abortConnection()
        self.report()

    def report(self) -> None:
        from twisted.internet.protocol import connectionDone

        self.protocol.connectionLost(connectionDone)


class Sibling:
    """A running sibling backend and the ways to talk to it."""

    def __init__(self, **settings: object) -> None:
        self.reactor = Reactor()
        self.service = BackendService(8081, reactor=self.reactor, **settings)  # type: ignore[arg-type]
        self.service.privilegedStartService()
        self.service.startService()
        self.site: BackendSite = self.service.site

    def connect(self) -> Transport:
        channel = self.site.buildProtocol(IPv4Address("TCP", "127.0.0.1", 40000))
        transport = Transport()
        transport.protocol = channel
        channel.makeConnection(transport)
        return transport

    def send(self, target: str, *fields: str, method: str = "GET", body: bytes = b"", host: str = "x") -> Transport:
        transport = self.connect()
        head = "\r\n".join([f"{method} {target} HTTP/1.1", f"Host: {host}", *fields])
        if body:
            head += f"\r\nContent-Length: {len(body)}"
        transport.protocol.dataReceived(head.encode() + b"\r\n\r\n" + body)
        return transport

    def ask(self, target: str, *fields: str, **more: Any) -> "Reply":
        return Reply(self.send(target, *fields, **more))


class Reply:
    """The bytes a connection has received, taken apart."""

    def __init__(self, transport: Transport) -> None:
        head, _, self.body = transport.value().partition(b"\r\n\r\n")
        self.closed = transport.disconnecting or transport.disconnected
        line, *fields = head.decode().split("\r\n")
        self.status = int(line.split()[1]) if line else 0
        self.fields = dict(field.lower().split(": ", 1) for field in fields)

    @property
    def text(self) -> str:
        return str(self.body, "utf-8")


@pytest.fixture(autouse=True)
def _excepthook(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)


@pytest.fixture
def sibling() -> Iterator[Sibling]:
    sibling = Sibling(name="blue")
    yield sibling
    sibling.service.stopService()
    assert sibling.reactor.getDelayedCalls() == []
    assert sibling.site.channels == set()


def test_it_says_who_it_is_and_counts(sibling: Sibling) -> None:
    sibling.ask("/health")
    sibling.ask("/", "User-Agent: twisted_lb-check/1.0")
    sibling.ask("/some/page")
    reply = sibling.ask("/")
    assert re.fullmatch(r"blue on port 8081, process \d+: 2 requests, 2 checks\n", reply.text)
    assert reply.fields["x-backend"] == "blue"
    assert reply.fields["content-type"].startswith("text/plain")
    assert not reply.closed


@pytest.mark.parametrize(("target", "accept"), [("/", "application/json"), ("/whoami.json", "*/*")])
def test_programs_get_json(sibling: Sibling, target: str, accept: str) -> None:
    facts = json.loads(sibling.ask(target, f"Accept: {accept}").text)
    assert (facts["name"], facts["port"], facts["requests"]) == ("blue", 8081, 1)


def test_browsers_get_a_page_with_nothing_unescaped_in_it() -> None:
    sibling = Sibling(name="<b>&")
    reply = sibling.ask("/", "Accept: text/html,application/xhtml+xml")
    assert reply.fields["content-type"] == "text/html; charset=utf-8"
    assert "<h1>&lt;b&gt;&amp;</h1>" in reply.text
    sibling.service.stopService()


HTML = "Accept: text/html"


@pytest.mark.parametrize(
    ("host", "own"),
    [
        ("127.0.0.1:8080", "http://127.0.0.1:8081"),
        ("lb.example", "http://lb.example:8081"),
        ("[::1]:8080", "http://[::1]:8081"),
        ('x"onclick=1', ""),
        ("a/b", ""),
    ],
)
def test_the_links_of_its_page_lead_to_itself_and_not_through_the_balancer(
    sibling: Sibling, host: str, own: str
) -> None:
    links = re.findall('href="(.*?)"', sibling.ask("/", HTML, host=host).text)
    assert links[1:] == [f"{own}/down?seconds=20", f"{own}/sick?seconds=20"]


@pytest.mark.parametrize("target", ["/down?seconds=1", "/sick?seconds=1"])
@pytest.mark.parametrize(
    ("referer", "back"),
    [
        ("http://127.0.0.1:8080/", "http://127.0.0.1:8080/"),
        ('https://lb.example/a?b=1&c="', "https://lb.example/a?b=1&amp;c=&quot;"),
        ("javascript:alert(1)", "/"),
        ("", "/"),
    ],
)
def test_a_browser_that_takes_it_away_finds_a_way_back(target: str, referer: str, back: str) -> None:
    sibling = Sibling(name="<b>")
    reply = sibling.ask(target, HTML, f"Referer: {referer}")
    assert reply.fields["content-type"] == "text/html; charset=utf-8"
    assert "<p>&lt;b&gt; " in reply.text
    assert re.findall('<a href="(.*?)"', reply.text) == [back]
    sibling.service.stopService()


def test_a_connection_serves_one_request_after_the_other(sibling: Sibling) -> None:
    transport = sibling.connect()
    transport.protocol.dataReceived(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n" * 3)
    assert transport.value().count(b"HTTP/1.1 200 OK") == 3


def test_health_is_ok_until_told_otherwise(sibling: Sibling) -> None:
    assert sibling.ask("/health").text == "ok\n"
    sibling.ask("/sick?seconds=5")
    assert sibling.ask("/health").status == 503
    assert sibling.ask("/", "User-Agent: twisted_lb-check/1.0").status == 503
    assert sibling.ask("/").status == 200
    sibling.reactor.advance(5)
    assert sibling.ask("/health").status == 200


def test_checks_are_told_what_an_agent_would_say_once_it_was_told_to(sibling: Sibling) -> None:
    assert "agent-check" not in sibling.ask("/health").fields
    assert (
        sibling.ask("/agent?says=drain%2050%25%20%23%20deploy").text == "blue says 'drain 50% # deploy' to its checks\n"
    )
    assert sibling.ask("/health").fields["agent-check"] == "drain 50% # deploy"
    assert "agent-check" not in sibling.ask("/").fields
    assert sibling.ask("/agent").text == "blue says nothing to its checks\n"
    assert "agent-check" not in sibling.ask("/health").fields


@pytest.mark.parametrize("says", ["up%0d%0aX:%20y", "%ff", "x" * 201])
def test_what_no_header_can_say_is_refused(sibling: Sibling, says: str) -> None:
    assert sibling.ask(f"/agent?says={says}").status == 400
    assert "agent-check" not in sibling.ask("/health").fields


@pytest.mark.parametrize(
    ("query", "status", "fields"),
    [
        ("status=503", 503, {}),
        ("size=10", 200, {"content-length": "10"}),
        ("size=0", 200, {"content-length": "0"}),
        ("size=10&status=404", 404, {"content-length": "10"}),
        ("size=10&chunked=1", 200, {"transfer-encoding": "chunked"}),
        ("size=10&chunked=0", 200, {"content-length": "10"}),
        ("status=204&size=10", 204, {}),
        ("status=205&size=10", 205, {"content-length": "0"}),
        ("unknown=1", 200, {}),
    ],
)
def test_query_parameters_shape_the_answer(sibling: Sibling, query: str, status: int, fields: dict[str, str]) -> None:
    reply = sibling.ask(f"/any/path?{query}")
    assert reply.status == status
    assert fields.items() <= reply.fields.items()
    if status == 204:
        assert reply.body == b""
        assert "content-length" not in reply.fields


@pytest.mark.parametrize(
    "query",
    [
        "delay=61",
        "delay=-1",
        "delay=nan",
        "delay=x",
        "status=199",
        "status=600",
        "status=abc",
        "size=-1",
        "size=10737418241",
        "size=1e3",
        "size=%d9%a3",
        "chunked=2",
        "close=x",
        "close=-1",
        "size=1&size=2",
    ],
)
def test_a_wrong_parameter_is_answered_400(sibling: Sibling, query: str) -> None:
    reply = sibling.ask(f"/?{query}")
    assert reply.status == 400
    assert reply.text.startswith(query.partition("=")[0])


def test_a_head_request_gets_the_head_only(sibling: Sibling) -> None:
    reply = sibling.ask("/?size=1000", method="HEAD")
    assert (reply.fields["content-length"], reply.body) == ("1000", b"")
    assert not reply.closed


def test_a_delayed_answer_waits(sibling: Sibling) -> None:
    transport = sibling.send("/?delay=1.5")
    sibling.reactor.advance(1.4)
    assert transport.value() == b""
    sibling.reactor.advance(0.1)
    assert Reply(transport).status == 200


def test_a_client_that_leaves_is_not_waited_for(sibling: Sibling) -> None:
    sibling.send("/?delay=60").loseConnection()
    assert sibling.reactor.getDelayedCalls() == []


@pytest.mark.parametrize(
    ("query", "body", "length"),
    [("size=10&close=3", 3, "10"), ("size=10&close=0", 0, "10"), ("size=10&close=10", 10, "10")],
)
def test_it_closes_early_as_told(sibling: Sibling, query: str, body: int, length: str) -> None:
    reply = sibling.ask(f"/?{query}")
    assert (len(reply.body), reply.fields["content-length"]) == (body, length)
    assert reply.closed


def test_a_chunked_answer_closed_early_has_no_last_chunk(sibling: Sibling) -> None:
    reply = sibling.ask("/?size=10&close=3&chunked=1")
    assert reply.body.startswith(b"3\r\n")
    assert not reply.body.endswith(b"0\r\n\r\n")
    assert reply.closed


def test_it_closes_without_an_answer_as_told(sibling: Sibling) -> None:
    transport = sibling.send("/?close=head")
    assert transport.value() == b""
    assert Reply(transport).closed


def test_a_large_body_is_written_only_as_fast_as_it_is_taken(sibling: Sibling) -> None:
    transport = sibling.connect()
    taken: list[int] = []
    write = transport.write

    def write_and_pause(data: bytes) -> None:
        write(data)
        taken.append(len(data))
        if len(data) > 1000:
            transport.protocol.pauseProducing()

    transport.write = write_and_pause  # type: ignore[method-assign]
    transport.protocol.dataReceived(b"GET /?size=10737418240 HTTP/1.1\r\nHost: x\r\n\r\n")
    assert sum(taken) < 2 * BLOCK
    transport.protocol.resumeProducing()
    assert BLOCK < sum(taken) < 3 * BLOCK
    transport.abortConnection()


def test_the_pattern_is_the_same_from_wherever_it_is_read() -> None:
    whole = b"".join(pattern(0, 3 * BLOCK + 100))
    assert len(whole) == 3 * BLOCK + 100
    for start, stop in [(0, 0), (5, 20), (BLOCK - 1, BLOCK + 20), (10, 2 * BLOCK + 1)]:
        assert b"".join(pattern(start, stop)) == whole[start:stop]
    assert len({whole[i : i + BLOCK] for i in range(0, 3 * BLOCK, BLOCK)}) == 3


def test_up_to_cuts_between_and_inside_blocks() -> None:
    cuts = [b"".join(up_to(n, [b"ab", b"cd"])) for n in (0, 1, 2, 3, 4, 9)]
    assert cuts == [b"", b"a", b"ab", b"abc", b"abcd", b"abcd"]


def test_echo_gives_the_body_back_and_never_as_html(sibling: Sibling) -> None:
    body = b"<script>" * 20000
    reply = sibling.ask("/echo", "Content-Type: text/html", method="POST", body=body)
    assert reply.body == body
    assert reply.fields["content-type"] == "application/octet-stream"


def test_upload_proves_what_arrived(sibling: Sibling) -> None:
    body = b"".join(pattern(0, 200_000))
    reply = json.loads(sibling.ask("/upload", method="PUT", body=body).text)
    assert reply == {"bytes": 200_000, "sha256": hashlib.sha256(body).hexdigest()}


def test_headers_are_shown_as_they_came(sibling: Sibling) -> None:
    reply = sibling.ask("/headers", "x-ODD:  a: b ", "Cookie: 1", "cookie: 2")
    assert json.loads(reply.text) == [
        ["Host", "x"],
        ["x-ODD", "a: b"],
        ["Cookie", "1"],
        ["cookie", "2"],
    ]


def test_down_closes_the_port_and_the_connections_and_comes_back(sibling: Sibling) -> None:
    idle, slow = sibling.send("/"), sibling.send("/?delay=30")
    reply = sibling.ask("/down?seconds=20")
    assert "20 s" in reply.text
    assert all(Reply(transport).closed for transport in (idle, slow))
    assert sibling.reactor.open_ports == []
    sibling.reactor.advance(19.9)
    assert sibling.reactor.open_ports == []
    sibling.reactor.advance(0.1)
    assert sibling.reactor.open_ports == [8081]


def test_a_port_taken_in_the_meantime_is_tried_again(sibling: Sibling) -> None:
    sibling.ask("/down?seconds=1")
    sibling.reactor.taken = True
    sibling.reactor.advance(3)
    assert sibling.reactor.open_ports == []
    sibling.reactor.taken = False
    sibling.reactor.pump([1, 1])
    assert sibling.reactor.open_ports == [8081]


def test_stopping_while_down_cancels_the_return(sibling: Sibling) -> None:
    sibling.ask("/down?seconds=20")
    sibling.service.stopService()
    sibling.reactor.advance(100)
    assert sibling.reactor.open_ports == []


def test_stopping_cuts_connections_that_do_not_end(sibling: Sibling) -> None:
    transport = sibling.send("/")
    transport.stubborn = True
    ended: list[object] = []
    sibling.service.stopService().addCallback(ended.append)
    assert ended == []
    sibling.reactor.advance(1)
    assert transport.disconnected
    assert ended == [None]


def test_a_site_of_its_own_cannot_close_a_port_it_does_not_have() -> None:
    sibling = Sibling()
    sibling.site.take_down = None
    assert sibling.ask("/down").status == 501
    sibling.service.stopService()


def test_the_kernels_port_is_kept_and_named() -> None:
    service = BackendService(0, reactor=Reactor())
    service.startService()
    assert (service.site.port, service.site.name, service.where) == (45678, "be-45678", "port 45678")
    service.stopService()


def test_a_port_that_is_taken_is_a_start_error() -> None:
    reactor = Reactor()
    reactor.taken = True
    service = BackendService(8081, "127.0.0.1", reactor=reactor)
    for start in (service.privilegedStartService, service.startService):
        with pytest.raises(StartError, match=r"^127.0.0.1:8081: already in use$"):
            start()
