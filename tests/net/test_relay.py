"""A relay: bytes both ways between two connections, until one is lost, both have ended, or nothing was said for too long."""

import contextlib

import pytest
from wires import stream_pair
from world import Peer, World

from twisted_lb.net.foreign import Foreign
from twisted_lb.net.relay import Leg, Relay
from twisted_lb.net.transport import HIGH_WATER_BYTES, RECEIVE_BYTES, Transport
from twisted_lb.testing import HeapClock, MemoryNetwork, ScriptedClient
from twisted_lb.testing.balanced import runtime_of

IDLE_S = 10.0


class Owner:
    """Whoever joined two connections: notes what it is told, and what becomes of its legs, in one list."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def relay_ended(self, *, client_gone):
        self.told.append("over, client gone" if client_gone else "over")

    def leg(self, name: str, transport, held: bytes = b"", *, ended: bool = False) -> Leg:
        def close() -> None:
            self.told.append(f"{name} closed")
            transport.loseConnection()

        return Leg(transport, held, lambda reason: self.told.append(f"{name} lost"), close, ended=ended)


class Unused:
    """The protocol of a connection before it is given away; the producer of the client's."""

    def __init__(self) -> None:
        self.relay: Relay | None = None
        self.transport = None

    def makeConnection(self, transport):
        self.transport = transport
        transport.registerProducer(self, True)

    def pauseProducing(self):
        if self.relay is not None:
            self.relay.client_full()

    def resumeProducing(self):
        if self.relay is not None:
            self.relay.client_drained()

    def stopProducing(self):
        pass

    def dataReceived(self, data):
        raise AssertionError("it was given away")

    def connectionLost(self, reason):
        raise AssertionError("it was given away")


class Joined(Owner):
    """A client and a backend, over real transports, and a relay between them."""

    def __init__(self, *, from_client: bytes = b"", from_backend: bytes = b"", client_ended: bool = False) -> None:
        super().__init__()
        self.world = World()
        self.near: list[Transport] = []
        self.client, self.backend = self._connection(), self._connection()
        client, backend = self.near
        self.relay = client.protocol.relay = Relay(
            self,
            self.leg("client", client, from_client, ended=client_ended),
            self.leg("backend", backend, from_backend),
            idle_s=IDLE_S,
            clock=self.world.runtime.clock,
            deadlines=self.world.deadlines,
        )

    def _connection(self) -> Peer:
        near, far = stream_pair()
        transport = Transport(self.world.poller, near)
        transport.open(Unused())
        self.near.append(transport)
        return Peer(self.world, far)

    def begin(self, *, client_full: bool = False) -> "Joined":
        self.world.runtime.clock.read()
        self.relay.begin(client_full=client_full)
        self.world.run()
        return self

    @property
    def held(self) -> int:
        return sum(transport.unsent for transport in self.near)

    def close(self) -> None:
        for peer in (self.client, self.backend):
            peer.sock.close()
        self.world.advance(1)
        assert self.told.count("over") + self.told.count("over, client gone") == 1
        assert (self.told.count("client lost"), self.told.count("backend lost")) == (1, 1)
        self.world.close()


@pytest.fixture
def join():
    all_joined: list[Joined] = []

    def one(**options) -> Joined:
        all_joined.append(Joined(**options))
        return all_joined[-1]

    yield one
    for joined in all_joined:
        joined.close()


def test_bytes_pass_both_ways_and_are_counted(join):
    joined = join().begin()
    joined.client.send(b"up")
    joined.backend.send(b"down, too")
    assert (joined.backend.read(), joined.client.read()) == (b"up", b"down, too")
    assert (joined.relay.bytes_up, joined.relay.bytes_down) == (2, 9)
    assert repr(joined.relay) == "<Relay open, 2 bytes up, 9 down>"


def test_what_was_read_before_goes_first(join):
    joined = join(from_client=b"early up, ", from_backend=b"early down, ").begin()
    joined.client.send(b"up")
    joined.backend.send(b"down")
    assert (joined.backend.read(), joined.client.read()) == (b"early up, up", b"early down, down")
    assert (joined.relay.bytes_up, joined.relay.bytes_down) == (12, 16)


def flood(joined: Joined, peer: Peer) -> int:
    """Send as much as anybody takes; how much it was."""
    sent = 0
    with contextlib.suppress(BlockingIOError):
        while True:
            sent += peer.sock.send(b"x" * 65536)
            joined.world.run()
    return sent


@pytest.mark.parametrize("up", [True, False])
def test_a_side_that_does_not_read_slows_the_other_one_and_gets_everything(join, up):
    joined = join().begin()
    sender, reader = (joined.client, joined.backend) if up else (joined.backend, joined.client)
    sent = flood(joined, sender)
    assert HIGH_WATER_BYTES < joined.held <= HIGH_WATER_BYTES + RECEIVE_BYTES
    while len(reader.received) < sent:
        assert reader.read(), "it is not read on"
    assert joined.held == 0
    sender.send(b"!")
    assert reader.read() == b"!"


def test_each_side_may_be_slow_without_the_other_direction_being_so(join):
    joined = join().begin()
    flood(joined, joined.client)
    joined.backend.send(b"down")
    assert joined.client.read() == b"down"


def test_a_client_that_is_full_from_the_start_is_sent_what_was_read_and_the_backend_is_not_read(join):
    joined = join(from_backend=b"early").begin(client_full=True)
    joined.backend.send(b", late")
    assert joined.client.read() == b""
    joined.relay.client_drained()
    assert joined.client.read() == b"early, late"


# Ends.


def test_a_fin_is_passed_on_and_the_other_direction_lives_on(join):
    joined = join().begin()
    joined.client.send(b"last words").shut()
    assert joined.backend.read() == b"last words"
    assert (joined.backend.closed, joined.told) == (True, [])
    joined.backend.send(b"an answer")
    assert joined.client.read() == b"an answer"


def test_when_both_have_ended_it_is_over(join):
    joined = join().begin()
    joined.backend.shut()
    joined.client.shut()
    joined.world.run()
    assert joined.told[:3] == ["backend closed", "over", "client closed"]
    joined.client.read()
    joined.backend.read()
    assert (joined.client.closed, joined.backend.closed) == (True, True)
    assert repr(joined.relay) == "<Relay over, 0 bytes up, 0 down>"


def test_a_fin_that_came_before_is_passed_on_behind_what_was_read_before(join):
    joined = join(from_client=b"early", client_ended=True)
    joined.begin()
    assert joined.backend.read() == b"early"
    assert joined.backend.closed


def test_a_fin_behind_what_nobody_takes_yet_is_passed_on_behind_it(join):
    joined = join().begin()
    sent = flood(joined, joined.client)
    joined.client.sock.shutdown(1)
    joined.world.run()
    while len(joined.backend.received) < sent:
        assert joined.backend.read()
    joined.backend.read()
    assert joined.backend.closed


def test_a_client_that_is_lost_takes_the_backend_with_it(join):
    joined = join().begin()
    joined.client.reset()
    assert joined.told[0] == "over, client gone"
    assert "client closed" not in joined.told
    joined.backend.read()
    assert joined.backend.was_reset


def test_a_client_that_is_reset_while_it_is_not_read_is_noticed(join):
    joined = join().begin()
    flood(joined, joined.client)
    joined.client.reset()
    assert joined.told[0] == "over, client gone"


def test_a_backend_that_is_lost_ends_it_in_order_for_the_client(join):
    joined = join().begin()
    joined.backend.send(b"last words")
    joined.backend.reset()
    assert joined.told[:3] == ["backend closed", "over", "client closed"]
    assert joined.client.read() == b"last words"
    assert (joined.client.closed, joined.client.was_reset) == (True, False)


# Time.


def test_after_a_time_in_which_nobody_says_anything_it_is_over_for_both(join):
    joined = join().begin()
    joined.world.advance(IDLE_S - 0.1)
    assert joined.told == []
    joined.world.advance(0.3)
    assert joined.told[:3] == ["backend closed", "over", "client closed"]
    joined.client.read()
    joined.backend.read()
    assert (joined.client.closed, joined.backend.closed) == (True, True)


@pytest.mark.parametrize("up", [True, False])
def test_a_word_of_either_side_is_enough(join, up):
    joined = join().begin()
    for _ in range(5):
        joined.world.advance(IDLE_S - 1)
        (joined.client if up else joined.backend).send(b"x")
    assert joined.told == []


def test_a_fin_alone_is_no_word(join):
    joined = join().begin()
    joined.world.advance(IDLE_S / 2)
    joined.client.shut()
    joined.world.advance(IDLE_S / 2 + 0.2)
    assert "over" in joined.told


def test_a_client_that_does_not_read_is_not_the_relays_to_judge(join):
    """Its own connection knows how long it may take nothing; the relay's time does not run meanwhile."""
    joined = join().begin()
    flood(joined, joined.backend)
    joined.world.advance(5 * IDLE_S)
    assert joined.told == []
    while joined.client.read():
        pass
    joined.world.advance(IDLE_S - 1)
    assert joined.told == []
    joined.world.advance(2)
    assert "over" in joined.told


# Transports of others: they cannot half-close.


class Elsewhere(Owner):
    """A client and a backend in memory, over transports that are not ours."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = HeapClock()
        self.network = MemoryNetwork(self.clock)
        self.runtime = runtime_of(self.clock, self.network)
        self.client, near_client = self._connection("client:1")
        self.backend, near_backend = self._connection("backend:1")
        self.relay = near_client.protocol.relay = Relay(
            self, self.leg("client", near_client), self.leg("backend", near_backend), idle_s=IDLE_S,
            clock=self.runtime.clock, deadlines=self.runtime.deadlines,
        )  # fmt: skip
        self.relay.begin(client_full=False)
        self.clock.settle()

    def _connection(self, address: str) -> tuple[ScriptedClient, Foreign]:
        foreign = Foreign(self.runtime.clock, Unused())
        self.network.listen(address, lambda: foreign)
        far = ScriptedClient(self.network, address)
        self.clock.settle()
        return far, foreign

    def close(self) -> None:
        for far in (self.client, self.backend):
            far.close()
        self.clock.advance(1)
        assert self.told.count("over") + self.told.count("over, client gone") == 1
        assert self.network.open_connections == []
        assert self.runtime.deadlines.armed == 0


@pytest.fixture
def elsewhere():
    one = Elsewhere()
    yield one
    one.close()


def test_there_too_bytes_pass_both_ways(elsewhere):
    elsewhere.client.send(b"up")
    elsewhere.backend.send(b"down")
    elsewhere.clock.settle()
    assert (elsewhere.backend.take(), elsewhere.client.take()) == (b"up", b"down")


def test_there_the_fin_of_a_client_is_the_end_of_the_backends_connection(elsewhere):
    elsewhere.client.send(b"last words").half_close()
    elsewhere.clock.settle()
    assert elsewhere.backend.take() == b"last words"
    assert elsewhere.backend.ended
    elsewhere.backend.close()
    elsewhere.clock.settle()
    assert "over" in elsewhere.told


def test_there_the_fin_of_a_backend_is_the_end(elsewhere):
    elsewhere.backend.send(b"last words").half_close()
    elsewhere.clock.settle()
    assert elsewhere.client.take() == b"last words"
    assert elsewhere.told[:3] == ["backend closed", "over", "client closed"]


def test_there_a_slow_client_slows_the_backend_and_gets_everything(elsewhere):
    body = bytes(range(256)) * 8192
    elsewhere.client.stop_reading()
    elsewhere.backend.send(body)
    elsewhere.clock.advance(1)
    assert elsewhere.backend.transport.unsent > len(body) // 2
    elsewhere.client.go_on_reading()
    elsewhere.clock.advance(1)
    assert elsewhere.client.take() == body
