"""Scripts as a balancer asks them: who is up by them, what is said of it, and what a reload makes of them. In memory."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from twisted_lb.config import LoadBalancerConfig
from twisted_lb.plan import plan_of
from twisted_lb.testing import Balanced, HeapClock, MemoryNetwork

PING = b"*1\r\n$4\r\nPING\r\n"


class Redis:
    """A server at an address that says what `answers` has for what it is told, and notes it."""

    def __init__(self, network: MemoryNetwork, address: str) -> None:
        self.heard: list[bytes] = []
        self.answers: dict[bytes, bytes] = {PING: b"+PONG\r\n"}
        network.listen(address, lambda: _Client(self))


class _Client:
    def __init__(self, redis: Redis) -> None:
        self.redis = redis

    def makeConnection(self, transport: Any) -> None:
        self.transport = transport

    def dataReceived(self, data: bytes) -> None:
        self.redis.heard.append(data)
        self.transport.write(self.redis.answers.get(data, b""))
        if b"QUIT" in data:
            self.transport.loseConnection()

    def readConnectionLost(self) -> None:
        self.transport.loseConnection()

    def connectionLost(self, reason: object) -> None:
        pass


class Town:
    """A balancer in front of two of them, and another configuration while it runs."""

    def __init__(self, **health_check: Any) -> None:
        self.clock = HeapClock(1000.0)
        self.network = MemoryNetwork(self.clock)
        self.a, self.b = Redis(self.network, "a:6379"), Redis(self.network, "b:6379")
        self.lb = Balanced(self.configured(**health_check), self.network)

    def configured(self, **health_check: Any) -> LoadBalancerConfig:
        asked = {"interval_s": 1.0, "fall": 2, **health_check}
        return LoadBalancerConfig.model_validate({"backends": ["a:6379", "b:6379"], "health_check": asked})

    def goes_by(self, **health_check: Any) -> None:
        self.lb.data_plane.apply(plan_of(self.configured(**health_check), self.lb.data_plane.plan))

    def usable(self) -> list[str]:
        return [name for name, one in self.lb.cluster.pool.backends.items() if one.usable]

    def said(self) -> list[str]:
        return [str(event) for event in self.lb.events]

    def close(self) -> None:
        self.lb.close()
        self.clock.advance(10)
        assert self.lb.cluster.broken() == []
        assert self.clock.getDelayedCalls() == []


@pytest.fixture
def town() -> Iterator[Callable[..., Town]]:
    made: list[Town] = []

    def one(**health_check: Any) -> Town:
        made.append(Town(**health_check))
        return made[-1]

    yield one
    for each in made:
        each.close()


def test_who_answers_is_up_and_who_answers_otherwise_is_down_with_the_reason(town):
    one = town(script="redis")
    one.b.answers[PING] = b"-LOADING Redis is loading the dataset in memory\r\n"
    one.clock.advance(5)
    assert one.usable() == ["a:6379"]
    assert (
        'b:6379 is down: step 2: expected "+PONG", got "-LOADING Redis is loading the dataset in memory"' in one.said()
    )
    one.b.answers[PING] = b"+PONG\r\n"
    one.clock.advance(5)
    assert one.usable() == ["a:6379", "b:6379"]
    assert 'b:6379 is up: got "+PONG"' in one.said()


def test_who_says_nothing_is_down_by_silence(town):
    one = town(script="redis", timeout_s=0.5)
    one.a.answers.clear()
    one.clock.advance(6)
    assert one.usable() == ["b:6379"]
    assert one.lb.cluster.pool.backends["a:6379"].health.silent
    assert 'a:6379 is down: step 2: expected "+PONG", got nothing: no answer in time' in one.said()


def test_a_reload_has_the_next_check_ask_by_another_script(town):
    one = town(script="redis")
    one.clock.advance(3)
    one.a.heard.clear()
    auth = b"*2\r\n$4\r\nAUTH\r\n$6\r\ns3cret\r\n"
    one.a.answers = {auth: b"+OK\r\n", PING: b"+PONG\r\n"}
    one.goes_by(script={"preset": "redis", "password": "s3cret"})
    one.clock.advance(4)
    # What was under way is heard to its end, the loops go on in their turns.
    assert one.a.heard[one.a.heard.index(auth) :][:3] == [auth, PING, b"*1\r\n$4\r\nQUIT\r\n"]
    assert one.usable() == ["a:6379"]  # the other one knows no AUTH
    assert not any("s3cret" in line for line in one.said())


def test_a_reload_leads_from_scripts_to_other_kinds_and_back(town):
    one = town(script="redis")
    one.clock.advance(3)
    one.goes_by(kind="tcp")
    for each in (one.a, one.b):
        each.answers.clear()
        each.heard.clear()
    one.clock.advance(4)
    assert one.usable() == ["a:6379", "b:6379"]
    assert one.a.heard == []
    one.goes_by(path="/up", timeout_s=0.5)
    one.clock.advance(6)
    assert one.usable() == []
    assert one.a.heard[0].startswith(b"GET /up HTTP/1.1\r\n")
    for each in (one.a, one.b):
        each.answers[PING] = b"+PONG\r\n"
    one.goes_by(script="redis")
    one.clock.advance(6)
    assert one.usable() == ["a:6379", "b:6379"]


def test_what_a_backend_wants_may_be_said_at_a_port_beside_a_script(town):
    one = town(script="redis", agent_port=9999)

    class Agent(_Client):
        def makeConnection(self, transport: Any) -> None:
            transport.write(b"drain\n")
            transport.loseConnection()

    one.network.listen("a:9999", lambda: Agent(one.a))
    one.clock.advance(3)
    assert one.usable() == ["b:6379"]
    assert one.lb.cluster.pool.backends["a:6379"].health.up
