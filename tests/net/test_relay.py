"""A relay: bytes both ways between two connections, until one is lost, both have ended, or nothing was said for too long."""

import contextlib

import pytest
from joined import HALF_OPEN_S, IDLE_S, Joined, Owner, Unused
from wires import SIP_BYTES
from world import Peer

from twisted_lb.net.foreign import Foreign
from twisted_lb.net.relay import DELIVERY_S, Relay
from twisted_lb.net.transport import HIGH_WATER_BYTES, RECEIVE_BYTES
from twisted_lb.testing import HeapClock, MemoryNetwork, ScriptedClient
from twisted_lb.testing.balanced import runtime_of


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


@pytest.mark.parametrize("up", [True, False])
@pytest.mark.parametrize("most_pipes", [0, 2])
def test_the_second_fin_too_is_an_end_in_order_where_what_came_before_it_is_not_read_yet(join, up, most_pipes):
    """Of a connection that both sides have ended the kernel tells as it tells of one that is reset: it hangs up."""
    joined = join(most_pipes=most_pipes).begin()
    sayer, taker = (joined.client, joined.backend) if up else (joined.backend, joined.client)
    taker.send(b"all").shut()
    assert sayer.read() == b"all"
    assert sayer.closed
    sent = 0
    while joined.held <= HIGH_WATER_BYTES:
        sent += sayer.offer(b"x" * 65536)
        joined.world.run()
    sayer.send(b"the rest").shut()
    assert not joined.over
    while not (taker.closed or taker.was_reset):
        assert taker.read() or taker.closed or taker.was_reset
    assert (len(taker.received), taker.was_reset) == (sent + len(b"the rest"), False)
    assert "over" in joined.told


def test_a_client_that_is_lost_takes_the_backend_with_it(join):
    joined = join().begin()
    joined.client.reset()
    assert joined.told[0] == "over, CLIENT_GONE"
    assert "client closed" not in joined.told
    joined.backend.read()
    assert joined.backend.was_reset


def test_a_client_that_is_reset_while_it_is_not_read_is_noticed(join):
    joined = join().begin()
    flood(joined, joined.client)
    joined.client.reset()
    assert joined.told[0] == "over, CLIENT_GONE"


def rest(joined: Joined, peer: Peer) -> bytes:
    """All that still comes to somebody who reads, until a reset."""
    got = peer.read()
    while not peer.was_reset:
        joined.world.advance(0.2)
        got += peer.read()
    return got


def sip(joined: Joined, peer: Peer) -> None:
    """Take some of what is there."""
    with contextlib.suppress(BlockingIOError):
        peer.sip(SIP_BYTES)
    joined.world.run()


def reset_before_all_is_taken(joined: Joined) -> None:
    """The backend is reset, which is noticed while the client has not taken yet what came."""
    flood(joined, joined.backend)
    joined.backend.reset()
    while not joined.over:
        sip(joined, joined.client)
    assert joined.near[0].backlog() > 0


def test_of_a_backend_that_is_reset_the_client_gets_what_came_and_then_a_reset(join):
    joined = join().begin()
    joined.backend.send(b"last words")
    joined.backend.reset()
    assert joined.told[:2] == ["backend closed", "over, CUT_SHORT"]
    assert joined.cut == "the backend reset the connection"
    assert rest(joined, joined.client) == b"last words"
    assert not joined.client.closed


def test_what_is_unsent_then_is_not_lost_to_a_client_that_takes_it_slowly(join):
    joined = join().begin()
    reset_before_all_is_taken(joined)
    for _ in range(3):
        joined.world.advance(DELIVERY_S - 0.5)
        sip(joined, joined.client)
    rest(joined, joined.client)
    assert len(joined.client.received) == joined.relay.bytes_down
    assert (joined.client.closed, joined.told[1]) == (False, "over, CUT_SHORT")


def test_a_client_that_does_not_take_it_is_reset_in_the_end(join):
    joined = join().begin()
    reset_before_all_is_taken(joined)
    joined.world.advance(2 * DELIVERY_S + 0.5)
    assert joined.told[-1] == "client lost"
    joined.client.read()
    assert (joined.client.was_reset, joined.client.closed) == (True, False)


def test_a_client_that_leaves_while_it_is_sent_the_rest_is_just_gone(join):
    joined = join().begin()
    reset_before_all_is_taken(joined)
    joined.client.reset()
    assert joined.told[-1] == "client lost"


def test_what_a_client_says_meanwhile_is_thrown_away(join):
    joined = join().begin()
    reset_before_all_is_taken(joined)
    joined.client.send(b"and then")
    assert joined.relay.bytes_up == 0
    rest(joined, joined.client)


def test_a_cut_does_not_wait_for_what_is_on_its_way(join):
    joined = join().begin()
    reset_before_all_is_taken(joined)
    joined.relay.cut()
    joined.relay.cut()
    joined.world.run()
    assert "client lost" in joined.told


def test_a_backend_that_has_said_all_and_is_reset_then_has_cut_nothing(join):
    joined = join().begin()
    joined.backend.send(b"all of it").shut()
    joined.backend.reset()
    assert (joined.told[:3], joined.cut) == (["backend closed", "over", "client closed"], "")
    assert joined.client.read() == b"all of it"
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


def test_the_silence_that_ended_it_is_told(join):
    joined = join().begin()
    joined.world.advance(IDLE_S + 0.3)
    assert (joined.told[1], joined.cut) == ("over", "nothing was said for 10 s")
    joined.client.read()
    joined.backend.read()
    assert (joined.client.was_reset, joined.backend.was_reset) == (False, False)


@pytest.mark.parametrize("who", ["client", "backend"])
def test_one_side_has_said_all_and_the_other_is_not_waited_for_as_long(join, who):
    """Half-open: who has sent its FIN and waits for an answer must not take the end for it."""
    joined = join().begin()
    ended, silent = (joined.client, joined.backend) if who == "client" else (joined.backend, joined.client)
    ended.send(b"all").shut()
    joined.world.advance(HALF_OPEN_S - 0.2)
    assert joined.told == []
    joined.world.advance(0.5)
    assert (joined.over, joined.cut) == (1, f"nothing was said for 4 s after the FIN of the {who}")
    assert silent.read() == b"all"
    ended.read()
    assert (silent.closed, ended.was_reset) == (True, True)


def test_a_word_of_the_other_side_extends_it(join):
    joined = join().begin()
    joined.client.shut()
    for _ in range(4):
        joined.world.advance(HALF_OPEN_S - 0.3)
        joined.backend.send(b"more")
    assert (joined.told, joined.client.read()) == ([], b"more" * 4)
    joined.backend.shut()
    joined.client.read()
    assert (joined.told[1], joined.client.closed) == ("over", True)


def test_a_fin_does_not_give_more_time_than_there_was(join):
    joined = join().begin()
    joined.world.advance(IDLE_S - 1)
    joined.client.shut()
    joined.world.advance(1.3)
    assert joined.over == 1


def test_a_backend_that_does_not_take_what_it_was_sent_is_cut_visibly_and_so_is_the_client(join):
    joined = join().begin()
    flood(joined, joined.client)
    joined.world.advance(2 * IDLE_S + 0.5)
    assert (joined.over, joined.cut) == (1, "nothing was said for 10 s")
    joined.client.read()
    joined.backend.read()
    assert (joined.client.was_reset, joined.backend.was_reset, joined.backend.closed) == (True, True, False)


def test_a_slow_side_that_takes_what_it_was_sent_is_not_silent(join):
    """What is in the kernel's buffer may take a slow reader longer than that."""
    joined = join().begin()
    flood(joined, joined.client)
    before = joined.near[1].backlog()
    joined.world.advance(IDLE_S + 0.5)
    while joined.near[1].backlog() == before:
        sip(joined, joined.backend)
    joined.world.advance(IDLE_S)
    assert joined.told == []
    joined.world.advance(IDLE_S + 0.5)
    assert (joined.over, joined.cut) == (1, "nothing was said for 10 s")


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
        assert self.over == 1
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
