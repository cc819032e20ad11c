"""Balanced: a whole balancer on a network in memory, as users of the package have it in their tests."""

import pytest

from twisted_lb.config import LoadBalancerConfig
from twisted_lb.core.events import BackendEjected
from twisted_lb.testing import NEVER_ANSWER, Balanced, HeapClock, MemoryNetwork, ScriptedBackend, ScriptedClient

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
CONFIG = LoadBalancerConfig(backends=["a:80", "b:80"], health_check={"interval_s": 0.0}, queue={"no_backend_s": 0.0})


@pytest.fixture
def network():
    one = MemoryNetwork(HeapClock(1000.0))
    yield one
    one.clock.advance(5)
    assert one.open_connections == []
    assert one.clock.getDelayedCalls() == []


def ask(network: MemoryNetwork, address: str = "lb:8080") -> ScriptedClient:
    client = ScriptedClient(network, address).send(GET)
    network.clock.settle()
    return client


def test_it_says_what_it_is(network):
    balanced = Balanced(CONFIG, network)
    assert repr(balanced).startswith("<Balanced <DataPlane: [<Frontend default: open, 0 clients, 0 exchanges>]")
    balanced.close()


def test_it_tells_what_happened_to_backends_and_requests(network):
    balanced = Balanced(CONFIG, network, seed=2)
    ScriptedBackend(network, "b:80")
    ask(network).close()
    network.clock.settle()
    assert [(type(event), event.backend_name) for event in balanced.events] == [(BackendEjected, "a:80")]
    assert [record.status for record in balanced.records] == [200]
    assert balanced.outcomes() == {"REFUSED": 1, "OK": 1}
    balanced.close()


def test_it_may_tell_others_instead(network):
    events, records = [], []
    balanced = Balanced(CONFIG, network, hear=events.append, observers=(records.append,))
    ask(network).close()
    network.clock.settle()
    assert (len(events) > 0, [record.status for record in records]) == (True, [502])
    assert (balanced.events, balanced.records) == ([], [])
    balanced.close()


def test_two_of_them_stand_in_one_network(network):
    backends = [ScriptedBackend(network, name) for name in ("a:80", "b:80")]
    front = Balanced(LoadBalancerConfig(backends=["lb:1"], health_check={"interval_s": 0.0}), network)
    behind = Balanced(CONFIG, network, address="lb:1")
    client = ask(network)
    assert client.received.startswith(b"HTTP/1.1 200 ")
    assert sum(len(backend.requests) for backend in backends) == 1
    assert (len(front.records), len(behind.records)) == (1, 1)
    client.close()
    front.close()
    behind.close()


def test_a_seed_is_a_story_that_can_be_told_again():
    def story(seed: int) -> list[str]:
        network = MemoryNetwork(HeapClock())
        config = LoadBalancerConfig(
            backends=[f"{name}:80" for name in "abcdefgh"], policy="rand", health_check={"interval_s": 0.0}
        )
        balanced = Balanced(config, network, seed=seed)
        for _ in range(5):
            ask(network)
        return [attempt.lease.backend.name for record in balanced.records for attempt in record.attempts]

    assert story(1) == story(1) != story(2)


def test_closed_it_refuses_tells_who_waits_and_checks_no_more(network):
    checked = LoadBalancerConfig(backends=["a:80"])
    balanced = Balanced(checked, network)
    backend = ScriptedBackend(network, "a:80", [NEVER_ANSWER])
    client = ask(network)
    balanced.close()
    network.clock.advance(10)
    assert client.received.startswith(b"HTTP/1.1 503 ")
    assert client.ended
    client.close()
    assert not any(connection.open for connection in backend.connections)
    with pytest.raises(ConnectionRefusedError):
        ScriptedClient(network, "lb:8080")
