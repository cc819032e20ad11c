"""What backends say of themselves in answer to checks: in a header, in a body, at a port of their own; busy statuses. In memory."""

from collections import Counter

import pytest

from twisted_lb.config import LoadBalancerConfig
from twisted_lb.core.backend import AdminState
from twisted_lb.core.events import AgentChanged, AgentGarbled, BackendDown
from twisted_lb.plan import plan_of
from twisted_lb.testing import (
    CLOSE,
    NEVER_ANSWER,
    Balanced,
    HeapClock,
    MemoryNetwork,
    ScriptedBackend,
    ScriptedClient,
    Wait,
    response,
)

GET = b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
CHECK = b"GET /check "


class Agent:
    """An agent at a port of its own: whoever connects is told these pieces, then the connection is closed, unless it `holds` it."""

    def __init__(self, network: MemoryNetwork, address: str, *pieces: bytes, holds: bool = False) -> None:
        self.pieces = list(pieces)
        self.holds = holds
        self.asked = 0
        self.listener = network.listen(address, lambda: _Told(self))


class _Told:
    def __init__(self, agent: Agent) -> None:
        self.agent = agent

    def makeConnection(self, transport):
        self.transport = transport
        self.agent.asked += 1
        for piece in self.agent.pieces:
            transport.write(piece)
        if not self.agent.holds:
            transport.loseConnection()

    def dataReceived(self, data):
        raise AssertionError("an agent is asked nothing")

    def readConnectionLost(self):
        self.transport.loseConnection()

    def connectionLost(self, reason):
        pass


class Town:
    """Two backends and a balancer; what `a:80` says to checks is `said`, and to requests `answer`."""

    def __init__(self, **health_check) -> None:
        self.clock = HeapClock(1000.0)
        self.network = MemoryNetwork(self.clock)
        self.said: bytes | list = response()
        self.answer: list = [response()]
        self.a = ScriptedBackend(self.network, "a:80", self._answer_of_a)
        self.b = ScriptedBackend(self.network, "b:80", lambda _: [response(b"up\n")])
        self.lb = Balanced(self.configured(**health_check), self.network)

    def configured(self, **health_check):
        asked = {"interval_s": 1.0, "path": "/check", **health_check}
        return LoadBalancerConfig(backends=["a:80,weight=2", "b:80,weight=2"], health_check=asked)

    def _answer_of_a(self, request):
        if request.startswith(CHECK):
            return self.said if isinstance(self.said, list) else [self.said]
        return self.answer

    @property
    def record(self):
        return self.lb.cluster.pool.backends["a:80"]

    def says(self, said, seconds=2.5):
        self.said = said
        self.clock.advance(seconds)

    def ask(self, times):
        """Who got how many of so many requests."""
        before = {one: len(self.served(one)) for one in (self.a, self.b)}
        for _ in range(times):
            client = ScriptedClient(self.network, "lb:8080").send(GET)
            self.clock.settle()
            assert client.received.startswith(b"HTTP/1.1 200 ")
            client.close()
            self.clock.settle()
        return tuple(len(self.served(one)) - before[one] for one in (self.a, self.b))

    def served(self, backend):
        return [one for one in backend.requests if not one.startswith(CHECK)]

    def agent_events(self):
        return [str(one) for one in self.lb.events if isinstance(one, AgentChanged | AgentGarbled)]

    def close(self):
        self.lb.close()
        self.clock.advance(10)
        assert self.lb.cluster.broken() == []
        assert self.clock.getDelayedCalls() == []


@pytest.fixture
def town():
    made = []

    def one(**health_check):
        made.append(Town(**health_check))
        return made[-1]

    yield one
    for each in made:
        each.close()


def by_header(words, status=200):
    return response(b"ok\n", status, b"Agent-Check: " + words)


def by_body(words, status=200):
    return response(words + b"\n<p>more</p>\n", status)


PLACES = [("header", by_header), ("body", by_body)]


@pytest.mark.parametrize(("place", "says"), PLACES)
def test_a_backend_that_says_half_gets_half_of_what_it_had(town, place, says):
    one = town(agent=place)
    assert one.ask(12) == (6, 6)
    one.says(says(b"up 50%"))
    assert one.ask(30) == (10, 20)
    one.says(says(b"100%"))
    assert one.ask(12) == (6, 6)


@pytest.mark.parametrize(("place", "says"), PLACES)
def test_a_backend_that_says_drain_gets_no_new_request_while_its_running_one_ends(town, place, says):
    one = town(agent=place)
    one.answer = [Wait(6.0), response(b"late\n")]
    clients = [ScriptedClient(one.network, "lb:8080").send(GET) for _ in range(2)]
    one.clock.settle()
    one.says(says(b"drain # deploy"))
    assert (one.record.in_flight, one.record.health.up, one.record.usable) == (1, True, False)
    assert one.ask(10) == (0, 10)
    one.clock.advance(4)
    assert Counter(client.received.rpartition(b"\r\n")[2] for client in clients) == {b"late\n": 1, b"up\n": 1}
    for client in clients:
        client.close()
    one.answer = [response()]
    one.says(says(b"ready"))
    assert one.ask(10) == (5, 5)
    assert one.agent_events() == [
        "a:80 is drained by its agent: deploy",
        "a:80 is not drained by its agent any more: its agent says ready",
    ]


@pytest.mark.parametrize(("place", "says"), PLACES)
def test_a_backend_that_says_maxconn_has_no_more_in_flight(town, place, says):
    one = town(agent=place)
    one.says(says(b"maxconn:2"))
    one.answer = [NEVER_ANSWER]
    clients = [ScriptedClient(one.network, "lb:8080").send(GET) for _ in range(9)]
    one.clock.settle()
    assert (one.record.in_flight, len(one.served(one.b))) == (2, 7)
    for client in clients:
        client.reset()
    one.clock.settle()


@pytest.mark.parametrize(("place", "says"), PLACES)
def test_the_words_of_an_answer_that_fails_are_heard_too(town, place, says):
    one = town(agent=place, fall=100)
    one.says(response())
    one.says(says(b"drain", 503))
    assert (one.record.health.up, one.record.usable) == (True, False)


@pytest.mark.parametrize(("place", "says"), PLACES)
def test_who_comes_up_and_wants_nothing_gets_nothing_in_between(town, place, says):
    one = town(agent=place, initial="down", rise=1)
    one.says(says(b"drain"), 1.5)
    assert one.ask(6) == (0, 6)


def test_the_operators_drain_wins_over_ready_and_ends_without_the_agents(town):
    one = town(agent="header")
    one.lb.cluster.command("a:80", AdminState.DRAIN)
    one.says(by_header(b"ready up 100%"))
    assert one.ask(6) == (0, 6)
    one.says(by_header(b"drain"))
    one.lb.cluster.command("a:80", AdminState.READY)
    assert one.ask(6) == (0, 6)
    one.says(by_header(b"ready"))
    assert one.ask(6) == (3, 3)


def test_the_field_may_have_another_name_and_several_are_one_list(town):
    one = town(agent="header", agent_header="X-State")
    one.says(response(b"ok\n", 200, b"Agent-Check: drain", b"x-state: up", b"X-STATE: 50%"))
    assert (one.record.usable, one.record.agent.words) == (True, "50%")


@pytest.mark.parametrize("place", ["header", "body"])
def test_an_answer_that_does_not_say_it_any_more_is_as_if_it_had_said_nothing_after_fall(town, place):
    one = town(agent=place, fall=3)
    one.says(dict(PLACES)[place](b"drain"))
    assert not one.record.usable
    said = response() if place == "header" else [b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 2000, CLOSE]
    one.says(said, 1.5)
    assert not one.record.usable
    one.says(said, 4)
    assert one.record.usable
    assert one.agent_events()[-1] == "a:80 is not drained by its agent any more: its agent is not heard"


def test_a_page_that_is_no_agents_takes_nobody_out_and_is_told_once(town):
    one = town(agent="body")
    one.said = by_body(b"up")
    one.says(response(b"<!doctype html>\n<p>well</p>"), 20)
    assert one.ask(6) == (3, 3)
    assert one.agent_events() == [
        "a:80 has an agent that says what is no word of agents, and ignored: '<!doctype'",
    ]
    assert one.record.agent.garbled > 10


@pytest.mark.parametrize(
    "said",
    [
        [b"HTTP/1.1 200 OK\r\n\r\n" + b"drain " * 2_000_000, CLOSE],
        [b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n", b"dr", CLOSE],
        [b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\ndr\r\n", NEVER_ANSWER],
        [b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", CLOSE],
        [response(b"\x00drain\x00\n")],
        [response(b"")],
    ],
    ids=["12 MB", "cut off", "never ends", "broken chunk", "NUL", "empty"],
)
def test_a_body_that_says_nothing_changes_nothing_and_passes_by_its_status(town, said):
    one = town(agent="body")
    one.says(said, 12)
    assert (one.record.health.up, one.record.agent.words) == (True, "")
    one.says(by_body(b"50%"))
    assert one.record.agent.words == "50%"


@pytest.mark.parametrize("cut", range(1, 6))
def test_a_first_line_may_come_in_pieces(town, cut):
    one = town(agent="body", expect_text="more")
    line = b"drain\r"
    body = [line[:cut], Wait(0.1), line[cut:], Wait(0.1), b"\nand more\n"]
    one.says([b"HTTP/1.1 200 OK\r\n\r\n", *body, CLOSE])
    assert (one.record.health.up, one.record.agent.word) == (True, "drain")


# At a port of its own.


def test_an_agent_at_a_port_of_its_own_is_asked_beside_the_checks(town):
    one = town(agent_port=9999)
    agent = Agent(one.network, "a:9999", b"up 50%\n")
    Agent(one.network, "b:9999", b"up\n")
    one.clock.advance(5)
    assert 3 <= agent.asked <= 6
    assert one.ask(30) == (10, 20)
    agent.pieces = [b"dra", b"in\r\n", b"ready\n"]
    agent.holds = True
    one.clock.advance(2.5)
    assert one.ask(6) == (0, 6)
    assert one.record.health.up


def test_an_agent_that_says_down_takes_its_backend_out_and_only_it_brings_it_back(town):
    one = town(agent_port=9999)
    agent = Agent(one.network, "a:9999", b"stopped # disk\n")
    one.clock.advance(10)
    assert (one.record.health.up, one.record.usable, one.ask(4)) == (True, False, (0, 4))
    agent.pieces = [b"up\n"]
    one.clock.advance(2.5)
    assert one.ask(4) == (2, 2)
    assert not any(isinstance(event, BackendDown) for event in one.lb.events)


@pytest.mark.parametrize(
    ("pieces", "holds"),
    [
        ((), False),
        ((), True),
        ((b"drain",), False),
        ((b"drain",), True),
        ((b"drain " * 2_000_000,), False),
        ((b"\x00" * 5000 + b"drain\n",), False),
        ((b"\x00drain\x00\n",), False),
        ((b"drain maint down\x00" + b" " * 2000 + b"\n",), True),
    ],
    ids=["closes", "silent", "no line end", "slow", "12 MB", "NULs", "NUL", "a long line"],
)
def test_an_agent_that_says_nothing_takes_nobody_out(town, pieces, holds):
    one = town(agent_port=9999)
    agent = Agent(one.network, "a:9999", *pieces, holds=holds)
    one.clock.advance(8)
    assert agent.asked >= 3
    assert one.ask(4) == (2, 2)
    assert one.record.agent.words == ""


def test_no_agent_takes_nobody_out_and_one_that_is_gone_is_as_if_it_had_said_nothing(town):
    one = town(agent_port=9999, fall=3)
    assert one.ask(4) == (2, 2)
    agent = Agent(one.network, "a:9999", b"drain\n")
    one.clock.advance(2.5)
    assert not one.record.usable
    agent.listener.stop()
    one.clock.advance(1.5)
    assert not one.record.usable
    one.clock.advance(3)
    assert one.record.usable


def test_a_unix_socket_has_no_port_for_an_agent():
    network = MemoryNetwork(HeapClock(1000.0))
    checks = {"interval_s": 1.0, "agent_port": 9999}
    lb = Balanced(LoadBalancerConfig(backends=["unix:/run/a.sock"], health_check=checks), network)
    network.clock.advance(5)
    assert {str(address) for address in network.dialled} == {"unix:/run/a.sock"}
    lb.close()
    network.clock.advance(5)


# A reload.


def test_a_reload_keeps_what_was_said_or_forgets_it_with_the_option(town):
    one = town(agent="header")
    one.says(by_header(b"drain 50%"))
    one.lb.data_plane.apply(plan_of(one.configured(agent="header", interval_s=0.7)))
    assert one.record.agent.words == "drain 50%"
    Agent(one.network, "a:9999", b"60%\n")
    one.lb.data_plane.apply(plan_of(one.configured(agent_port=9999)))
    assert not one.record.usable
    one.clock.advance(2.5)
    assert one.record.agent.words == "drain 60%"
    one.lb.data_plane.apply(plan_of(one.configured()))
    one.clock.advance(5)
    assert (one.record.usable, one.record.agent.words, one.ask(4)) == (True, "", (2, 2))


# Busy statuses.


def test_a_busy_status_keeps_new_requests_away_and_is_no_failure(town):
    one = town(busy_statuses=[429, "502-503"], expect_text="up")
    one.answer = [Wait(9.0), response(b"late\n")]
    clients = [ScriptedClient(one.network, "lb:8080").send(GET) for _ in range(2)]
    one.clock.settle()
    one.says(response(b"", 503), 8)
    assert (one.record.health.up, one.record.usable, one.record.in_flight) == (True, False, 1)
    assert one.ask(6) == (0, 6)
    one.clock.advance(2)
    assert Counter(client.received.rpartition(b"\r\n")[2] for client in clients) == {b"late\n": 1, b"up\n": 1}
    for client in clients:
        client.close()
    one.answer = [response()]
    one.says(response(b"", 429))
    assert not one.record.usable
    one.says(response(b"up\n"))
    assert one.ask(6) == (3, 3)
    assert one.agent_events() == [
        "a:80 is busy: status 503, which means busy",
        "a:80 is not busy any more: status 200, with the expected text",
    ]


def test_a_busy_backend_that_fails_its_checks_goes_down(town):
    one = town(busy_statuses=[503])
    one.says(response(b"", 503))
    one.says(response(b"", 500), 8)
    assert (one.record.health.up, one.record.agent.busy) == (False, True)
    one.says(response(), 8)
    assert one.ask(4) == (2, 2)
