"""A connection to a backend whose requester takes nothing for now: what it waits for then, and how it ends."""

import pytest
from twisted.internet.address import IPv4Address
from twisted.internet.error import ConnectionDone
from twisted.python.failure import Failure
from wires import SIP_BYTES
from world import World

from twisted_lb.net.foreign import Foreign
from twisted_lb.net.http1_upstream import Http1Upstream
from twisted_lb.net.upstream import Requester
from twisted_lb.wire.grammar import Limits
from twisted_lb.wire.request import parse_request

REQUEST = parse_request(b"GET / HTTP/1.1\r\nHost: x", Limits())
HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n"


class Full(Requester):
    """A requester whose client is full from the beginning; it notes what it is told."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.told: list[object] = []

    def connected(self, upstream):
        self.upstream = upstream
        upstream.begin(self, b"GET / HTTP/1.1\r\n\r\n", REQUEST, self.idle_due())

    def response_started(self, head, framing):
        self.upstream.pause()

    def payload(self, data):
        self.told.append(data)

    def flush(self):
        pass

    def response_ended(self, trailers):
        self.told.append("ended")
        self.told.append(self.world.cluster.take(self.upstream.backend, False, self.world.time.now))

    def failed(self, outcome, detail):
        self.told.append(outcome)

    def idle_due(self):
        return self.world.time.now + 60


class Deaf:
    """A transport of somebody else's, which delivers while it is paused: what a TLS layer had decrypted already."""

    def __init__(self) -> None:
        self.paused = False

    def __getattr__(self, name):
        return lambda *words: None

    def pauseProducing(self):
        self.paused = True

    def resumeProducing(self):
        self.paused = False

    def getPeer(self):
        return IPv4Address("TCP", "192.0.2.7", 4711)

    getHost = getPeer


@pytest.fixture
def world():
    one = World()
    yield one
    one.close()


def test_a_backend_is_not_blamed_for_a_client_that_was_full_before_its_answer_began(world):
    """The first bytes of the body armed the deadline again that the pause had taken away."""
    requester = Full(world)
    world.cluster.dial(world.record[0], requester, world.time.now + 5)
    world.backend().send(HEAD + b"hello")
    world.advance(120)
    assert requester.told == [b"hello"]
    requester.upstream.abandon()


def test_a_connection_that_is_lost_behind_a_complete_answer_is_given_to_nobody(world):
    requester = Full(world)
    foreign = Foreign(world.runtime.clock, Http1Upstream(world.cluster, world.record[0], requester))
    foreign.makeConnection(Deaf())
    for piece in (HEAD + b"hello", b"there"):
        foreign.dataReceived(piece)
    foreign.connectionLost(Failure(ConnectionDone()))
    assert requester.told == [b"hello", b"there", "ended", None]


class Releasing(Full):
    """A requester that gives the connection away, with much that its backend has not taken, and closes it."""

    def connected(self, upstream):
        self.transport = upstream._transport
        self.transport.write(b"x" * BULK)
        upstream.release(b"").close()


BULK = 3_000_000
# Less than a backend has for taking nothing.
PACE_S = 4.0


def test_a_backend_that_takes_the_rest_slowly_gets_all_of_it(world):
    world.cluster.dial(world.record[0], Releasing(world), world.time.now + 5)
    backend = world.backend()
    while len(backend.received) < BULK:
        backend.sip(SIP_BYTES)
        world.advance(PACE_S)
    backend.read()
    assert (len(backend.received), backend.closed, backend.was_reset) == (BULK, True, False)


def test_a_backend_that_takes_nothing_of_the_rest_is_not_waited_for(world):
    world.cluster.dial(world.record[0], Releasing(world), world.time.now + 5)
    backend = world.backend()
    world.advance(25)  # what its kernel has taken since the close is a part, too
    backend.read()
    assert backend.was_reset
    assert len(backend.received) < BULK
