"""Host names in memory: what they mean, and how they are connected to."""

import pytest

from twisted_lb.core.address import TcpAddress
from twisted_lb.core.outcome import Outcome
from twisted_lb.net.clock import Clock
from twisted_lb.net.names import Names
from twisted_lb.testing import HeapClock, MemoryNetwork
from twisted_lb.testing.names import NamedDial

APP = TcpAddress("app", 80)


class Peer:
    def __init__(self) -> None:
        self.told: list = []
        self.transport = None

    def makeConnection(self, transport):
        self.transport = transport
        self.told.append(transport.getPeer().host)

    def dataReceived(self, data):
        pass

    def readConnectionLost(self):
        pass

    def connectionLost(self, reason):
        pass

    def failed(self, outcome, detail):
        self.told.append((outcome, detail))


class Town:
    """A network with names, and somebody who dials."""

    def __init__(self) -> None:
        self.clock = HeapClock()
        self.network = MemoryNetwork(self.clock)
        self.names = Names(self.network.resolver, Clock(self.clock.seconds))
        self.dialling = NamedDial(self.network, self.names)

    def dial(self, address=APP, timeout_s: float = 6.0, port: int = 0):
        peer = Peer()
        attempt = self.dialling.dial(address, peer, timeout_s, peer.failed, port)
        assert peer.told == [], "it was told before dial returned"
        return peer, attempt

    def listen(self, *places: str) -> None:
        for place in places:
            self.network.listen(place, Peer)


@pytest.fixture
def town():
    one = Town()
    yield one
    for end in one.network.open_connections:
        end.abortConnection()
    one.clock.advance(10)
    assert one.network.open_connections == []
    assert one.clock.getDelayedCalls() == []


def told(town, *words, seconds: float = 10.0, **named) -> list:
    peer, _ = town.dial(*words, **named)
    town.clock.advance(seconds)
    return peer.told


def test_a_name_that_was_given_no_address_is_a_place(town):
    town.listen("app:80")
    assert told(town) == ["app"]


def test_the_addresses_of_a_name_are_tried_in_turn_and_the_good_one_is_remembered(town):
    town.network.name("app", "10.0.0.1", "10.0.0.2")
    town.listen("10.0.0.2:80")
    assert told(town) == told(town) == ["10.0.0.2"]
    assert [str(one) for one in town.network.dialled] == ["10.0.0.1:80", "10.0.0.2:80", "10.0.0.2:80"]


def test_where_none_works_the_mildest_outcome_is_told(town):
    town.network.name("app", "10.0.0.1", "10.0.0.2")
    town.network.hang("10.0.0.1:80")
    assert told(town) == [(Outcome.CONNECT_TIMEOUT, "connection refused")]


def test_each_address_has_its_share_of_the_time(town):
    town.network.name("app", "10.0.0.1", "10.0.0.2", "10.0.0.3")
    town.network.hang("10.0.0.1:80")
    town.network.hang("10.0.0.2:80")
    town.listen("10.0.0.3:80")
    assert told(town, seconds=3.9) == []
    assert told(town, seconds=4.1) == ["10.0.0.3"]


def test_what_is_wrong_here_is_not_tried_elsewhere(town):
    town.network.name("app", "10.0.0.1", "10.0.0.2")
    town.network.fail("10.0.0.1:80", Outcome.LOCAL_FAILURE, "no descriptors")
    assert told(town) == [(Outcome.LOCAL_FAILURE, "no descriptors")]


def test_a_name_with_no_address_does_not_resolve(town):
    town.network.name("app")
    assert told(town) == [(Outcome.REFUSED, "the name does not resolve")]


def test_another_port_is_that_of_the_server_that_is_in_force(town):
    town.network.name("app", "10.0.0.1", "10.0.0.2")
    town.listen("10.0.0.2:80", "10.0.0.1:90", "10.0.0.2:90")
    assert told(town, port=90) == ["10.0.0.1"]
    assert told(town) == told(town, port=90) == ["10.0.0.2"]


def test_an_answer_may_take_its_time_or_come_too_late(town):
    town.network.name("app", "10.0.0.1")
    town.listen("10.0.0.1:80")
    town.network.resolver.delay_s = 2.0
    late = (Outcome.CONNECT_TIMEOUT, "the name server did not answer in time")
    assert told(town, timeout_s=1.0, seconds=5) == [late]
    assert told(town) == ["10.0.0.1"]


@pytest.mark.parametrize("seconds", [0.0, 1.0, 2.0, 3.0])
def test_taken_back_at_any_moment_nothing_is_told(town, seconds):
    town.network.name("app", "10.0.0.1")
    town.network.hang("10.0.0.1:80")
    town.network.resolver.delay_s = 2.0
    peer, attempt = town.dial()
    town.clock.advance(seconds)
    attempt.cancel()
    town.clock.advance(10)
    assert peer.told == []
