"""A protocol of ours on somebody else's transport, and the other way round."""

import pytest
from twisted.internet.address import IPv4Address, UNIXAddress
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IHalfCloseableProtocol, IProtocol
from twisted.python.failure import Failure

from twisted_lb.core.address import parse_address
from twisted_lb.core.outcome import Outcome
from twisted_lb.net.clock import Clock
from twisted_lb.net.foreign import Foreign, ForeignDial
from twisted_lb.net.interfaces import UNKNOWN

DONE = Failure(ConnectionDone())


class Between:
    """A Foreign, with a protocol and a transport that note their calls in one list, each with the time that is known then."""

    def __init__(self, protocol: type["Protocol"] | None = None) -> None:
        self.told: list[tuple[object, ...]] = []
        self.seconds = 0.0
        self.clock = Clock(lambda: self.seconds)
        self.protocol = (protocol or Protocol)("protocol", self)
        self.transport = Transport(self)
        self.foreign = Foreign(self.clock, self.protocol)

    def note(self, *words: object) -> None:
        self.told.append(words)

    def take(self) -> list[tuple[object, ...]]:
        taken, self.told = self.told, []
        return taken


class Protocol:
    """One that knows of half-closed connections."""

    def __init__(self, name: str, between: Between) -> None:
        self.name, self.between = name, between

    def makeConnection(self, transport):
        self.between.note(self.name, "made", self.between.clock.now)

    def dataReceived(self, data):
        self.between.note(self.name, data, self.between.clock.now)

    def readConnectionLost(self):
        self.between.note(self.name, "read ended", self.between.clock.now)

    def connectionLost(self, reason):
        self.between.note(self.name, "lost", self.between.clock.now)


class Aware(Protocol):
    """One that hears of resets."""

    def connectionBroken(self):
        self.between.note(self.name, "broken", self.between.clock.now)


class Transport:
    """Somebody else's."""

    def __init__(self, between: Between) -> None:
        self.between = between
        self.peer = IPv4Address("TCP", "192.0.2.7", 4711)
        self.host = IPv4Address("TCP", "192.0.2.1", 8080)

    def __getattr__(self, name):
        return lambda *words: self.between.note(name, *words)

    def getPeer(self):
        return self.peer

    def getHost(self):
        return self.host


@pytest.fixture
def between():
    one = Between()
    one.foreign.makeConnection(one.transport)
    one.take()
    return one


def test_it_is_what_twisted_asks_of_a_protocol():
    foreign = Between().foreign
    assert IProtocol.providedBy(foreign)
    assert IHalfCloseableProtocol.providedBy(foreign)


def test_the_clock_is_read_before_the_protocol_is_told_anything():
    one = Between(Aware)
    foreign = one.foreign
    calls = [
        lambda: foreign.makeConnection(one.transport),
        lambda: foreign.dataReceived(b"data"),
        foreign.connectionBroken,
        foreign.readConnectionLost,
        lambda: foreign.connectionLost(DONE),
    ]
    for call in calls:
        one.seconds += 1
        call()
    assert one.take() == [
        ("protocol", "made", 1.0),
        ("protocol", b"data", 2.0),
        ("protocol", "broken", 3.0),
        ("protocol", "read ended", 4.0),
        ("protocol", "lost", 5.0),
    ]


def test_a_protocol_that_does_not_ask_for_resets_hears_of_none(between):
    between.foreign.connectionBroken()
    assert between.take() == []


def test_the_end_of_our_own_writing_is_no_news(between):
    between.foreign.writeConnectionLost()
    assert between.take() == []


def test_what_the_protocol_does_reaches_the_transport(between):
    foreign, producer = between.foreign, object()
    foreign.write(b"one")
    foreign.write_pieces([b"two", b"three"])
    foreign.pauseProducing()
    foreign.resumeProducing()
    foreign.registerProducer(producer, True)
    foreign.unregisterProducer()
    foreign.loseConnection()
    foreign.abortConnection()
    assert between.take() == [
        ("write", b"one"),
        ("write", b"twothree"),
        ("pauseProducing",),
        ("resumeProducing",),
        ("registerProducer", producer, True),
        ("unregisterProducer",),
        ("loseConnection",),
        ("abortConnection",),
    ]


def test_it_cannot_half_close_and_says_so(between):
    """Over Twisted's TLS the FIN would be that of the connection under it."""
    assert not between.foreign.can_half_close
    between.foreign.loseWriteConnection()
    assert between.take() == [("loseConnection",)]


def test_it_does_not_know_what_the_peer_has_not_taken(between):
    assert between.foreign.backlog() == UNKNOWN


def test_it_names_the_peer_and_the_port(between):
    assert (between.foreign.peer_name(), between.foreign.port_name()) == ("192.0.2.7", "8080")


def test_a_peer_without_an_address_is_unknown(between):
    between.transport.peer = between.transport.host = UNIXAddress(b"/run/lb.sock")
    assert (between.foreign.peer_name(), between.foreign.port_name()) == ("unknown", "")


def test_given_to_another_protocol_everything_from_there_on_is_its_own(between):
    between.foreign.switch(Aware("other", between))
    between.foreign.dataReceived(b"data")
    between.foreign.connectionBroken()
    between.foreign.connectionLost(DONE)
    assert [words[:2] for words in between.take()] == [("other", b"data"), ("other", "broken"), ("other", "lost")]


# Connections that are made.


class Dial:
    """A network that keeps what it is asked for."""

    def dial(self, address, protocol, timeout_s, failed, port=0):
        self.asked = (address, timeout_s)
        self.protocol, self.failed = protocol, failed
        return self


def dialled(between: Between) -> tuple[Dial, list[tuple[object, ...]]]:
    network, told = Dial(), []
    dial = ForeignDial(network, between.clock)
    attempt = dial.dial(
        parse_address("a:80"), between.protocol, 5.0, lambda *words: told.append((*words, between.clock.now))
    )
    assert attempt is network
    return network, told


def test_a_connection_that_is_made_is_one_of_its_protocol(between):
    network, _ = dialled(between)
    assert network.asked == (parse_address("a:80"), 5.0)
    network.protocol.makeConnection(between.transport)
    assert between.take() == [("protocol", "made", 0.0)]


def test_the_clock_is_read_before_a_failure_is_told(between):
    network, told = dialled(between)
    between.seconds = 3.0
    network.failed(Outcome.REFUSED, "connection refused")
    assert told == [(Outcome.REFUSED, "connection refused", 3.0)]
