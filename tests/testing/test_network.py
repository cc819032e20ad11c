"""The network in memory: who listens, who is refused, and what is left. What its transports promise: the contract suite."""

import pytest
from twisted.internet.error import ConnectionAborted, ConnectionDone, ConnectionLost

from twisted_lb.core.address import UnixAddress, parse_address
from twisted_lb.core.outcome import Outcome
from twisted_lb.testing import HeapClock, MemoryNetwork, ScriptedClient

APP = parse_address("app:80")


class Peer:
    def __init__(self) -> None:
        self.told: list = []
        self.transport = None

    def makeConnection(self, transport):
        self.transport = transport
        self.told.append("made")

    def dataReceived(self, data):
        self.told.append(data)

    def readConnectionLost(self):
        self.told.append("fin")

    def connectionLost(self, reason):
        self.told.append(reason.type)

    def failed(self, outcome, detail):
        self.told.append((outcome, detail))


class Town:
    """A network with somebody at app:80, and somebody who dials."""

    def __init__(self) -> None:
        self.clock = HeapClock()
        self.network = MemoryNetwork(self.clock)
        self.served: list[Peer] = []
        self.listener = self.network.listen("app:80", self._serve)

    def _serve(self) -> Peer:
        self.served.append(Peer())
        return self.served[-1]

    def dial(self, address=APP, timeout_s: float = 5.0):
        peer = Peer()
        attempt = self.network.dial(address, peer, timeout_s, peer.failed)
        assert peer.told == [], "it was told before dial returned"
        return peer, attempt

    def close(self) -> None:
        for end in self.network.open_connections:
            end.abortConnection()
        self.clock.advance(10)
        assert self.network.open_connections == []
        assert self.clock.getDelayedCalls() == []


@pytest.fixture
def town():
    one = Town()
    yield one
    one.close()


def test_both_sides_are_told_of_a_connection(town):
    peer, _ = town.dial()
    town.clock.settle()
    assert peer.told == town.served[0].told == ["made"]
    assert town.listener.accepted == 1
    peer.transport.write(b"hello")
    assert town.served[0].told == ["made"]
    town.clock.settle()
    assert town.served[0].told == ["made", b"hello"]


def test_nobody_there_refuses(town):
    peer, _ = town.dial(parse_address("other:80"))
    town.clock.settle()
    assert peer.told == [(Outcome.REFUSED, "connection refused")]
    with pytest.raises(ConnectionRefusedError):
        town.network.connect("other:80", Peer())


def test_made_to_refuse_to_hang_and_to_fail_until_healed(town):
    town.network.refuse("app:80")
    peer, _ = town.dial()
    town.clock.settle()
    assert peer.told == [(Outcome.REFUSED, "connection refused")]
    with pytest.raises(ConnectionRefusedError):
        town.network.connect("app:80", Peer())
    town.network.hang("app:80")
    peer, _ = town.dial(timeout_s=3.0)
    town.clock.advance(2.9)
    assert peer.told == []
    town.clock.advance(0.1)
    assert peer.told == [(Outcome.CONNECT_TIMEOUT, "no answer in time")]
    town.network.fail("app:80", Outcome.LOCAL_FAILURE, "no ports")
    peer, _ = town.dial()
    town.clock.settle()
    assert peer.told == [(Outcome.LOCAL_FAILURE, "no ports")]
    town.network.heal("app:80")
    peer, _ = town.dial()
    town.clock.settle()
    assert peer.told == ["made"]
    assert town.network.dialled == [APP] * 4


@pytest.mark.parametrize("when", ["at once", "while it hangs"])
def test_taken_back_nothing_is_told(town, when):
    if when != "at once":
        town.network.hang("app:80")
    peer, attempt = town.dial()
    if when != "at once":
        town.clock.advance(1)
    attempt.cancel()
    town.clock.advance(10)
    assert peer.told == []
    assert town.served == []


def test_stopped_it_refuses_and_what_is_accepted_lives_on(town):
    peer, _ = town.dial()
    town.clock.settle()
    waiting = ScriptedClient(town.network, "app:80")
    town.listener.stop()
    town.clock.settle()
    assert waiting.was_reset
    peer.transport.write(b"still")
    town.clock.settle()
    assert town.served[0].told == ["made", b"still"]
    late, _ = town.dial()
    town.clock.settle()
    assert late.told == [(Outcome.REFUSED, "connection refused")]
    town.network.listen("app:80", Peer)


def test_an_address_is_one_listeners(town):
    with pytest.raises(ValueError, match="in use"):
        town.network.listen(APP, Peer)


def test_addresses_are_twisteds(town):
    client = ScriptedClient(town.network, "app:80", host="192.0.2.7")
    town.clock.settle()
    near, far = client.transport, town.served[0].transport
    assert (near.getPeer().host, near.getPeer().port) == ("app", 80)
    assert near.getHost() == far.getPeer()
    assert far.getPeer().host == "192.0.2.7"
    town.network.listen("unix:/run/app", Peer)
    peer, _ = town.dial(UnixAddress("/run/app"))
    town.clock.settle()
    assert peer.transport.getPeer().name == b"/run/app"


def test_open_connections_are_those_that_nobody_closed(town):
    one, two = ScriptedClient(town.network, "app:80"), ScriptedClient(town.network, "app:80")
    town.clock.settle()
    assert len(town.network.open_connections) == 4
    one.close()
    town.clock.settle()
    assert town.served[0].told == ["made", "fin"]
    assert len(town.network.open_connections) == 3, "the other side did not close"
    town.served[0].transport.loseConnection()
    two.reset()
    town.clock.settle()
    assert town.served[0].told[-1] is ConnectionDone
    assert town.served[1].told[-1] is ConnectionLost
    assert town.network.open_connections == []


def test_what_nobody_reads_stays_in_the_network_and_then_with_the_sender(town):
    client = ScriptedClient(town.network, "app:80")
    town.clock.settle()
    client.stop_reading()
    sender = town.served[0].transport
    sender.write(b"x" * 100_000)
    town.clock.settle()
    assert sender.unsent == 100_000 - town.network.capacity_bytes
    client.go_on_reading()
    town.clock.settle()
    assert sender.unsent == 0
    assert client.take() == b"x" * 100_000
    assert client.take() == b""


def test_closing_with_something_unread_resets(town):
    client = ScriptedClient(town.network, "app:80")
    town.clock.settle()
    client.stop_reading()
    town.served[0].transport.write(b"unread")
    town.clock.settle()
    client.close()
    town.clock.settle()
    assert client.lost.check(ConnectionDone)
    assert town.served[0].told == ["made", ConnectionLost]


def test_a_client_says_how_its_connection_ended(town):
    ended, was_reset, left = (ScriptedClient(town.network, "app:80") for _ in range(3))
    town.clock.settle()
    town.served[0].transport.loseConnection()
    town.served[1].transport.abortConnection()
    left.reset()
    town.clock.settle()
    assert (ended.ended, ended.open, ended.was_reset) == (True, True, False)
    ended.half_close()
    town.clock.settle()
    assert not ended.open
    assert not ended.was_reset
    assert (was_reset.open, was_reset.was_reset) == (False, True)
    assert left.lost.check(ConnectionAborted)


def test_a_protocol_that_cannot_start_is_reset_and_logged(town, logged_errors):
    town.network.listen("broken:80", lambda: 1 // 0)
    client = ScriptedClient(town.network, "broken:80")
    town.clock.settle()
    assert client.was_reset
    assert len(logged_errors.take()) == 1
