"""The fault injector: nothing unless asked for, each fault as it is named, and the same story for the same seed."""

import random

import pytest
from twisted.internet.error import ConnectionDone, ConnectionLost

from twisted_lb.core.address import parse_address
from twisted_lb.core.outcome import Outcome
from twisted_lb.testing import Chances, Faults, HeapClock, MemoryNetwork, ScriptedBackend, ScriptedClient, response

APP = parse_address("app:80")
GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"


class Recorder:
    """Who dials; notes when what arrives."""

    def __init__(self, clock: HeapClock) -> None:
        self.clock = clock
        self.data = b""
        self.pieces: list[tuple[float, bytes]] = []
        self.told: list = []
        self.transport = None

    def makeConnection(self, transport):
        self.transport = transport
        self.told.append("made")

    def dataReceived(self, data):
        self.data += data
        self.pieces.append((self.clock.seconds(), data))

    def readConnectionLost(self):
        self.told.append("fin")

    def connectionLost(self, reason):
        self.told.append(reason.type)

    def failed(self, outcome, detail):
        self.told.append(outcome)


class Town:
    def __init__(self, seed: int = 1, **chances: float) -> None:
        self.clock = HeapClock()
        self.faults = Faults(self.clock, random.Random(seed), Chances(**chances))
        self.network = MemoryNetwork(self.clock, faults=self.faults)
        self.served: list[Recorder] = []
        self.network.listen("app:80", self._serve)

    def _serve(self) -> Recorder:
        self.served.append(Recorder(self.clock))
        return self.served[-1]

    def dial(self, within_s: float = 0.0) -> Recorder:
        one = Recorder(self.clock)
        self.network.dial(APP, one, 5.0, one.failed)
        self.clock.advance(within_s)
        return one

    def what(self) -> list[str]:
        return [fault.what for fault in self.faults.happened]


def test_by_default_nothing_happens():
    town = Town()
    one = town.dial()
    one.transport.write(b"x" * 100_000)
    town.clock.advance(0.0)
    town.served[0].transport.write(b"answer")
    town.clock.settle()
    assert len(town.served[0].data) == 100_000
    assert [data for _, data in one.pieces] == [b"answer"]
    assert town.what() == []
    assert town.clock.getDelayedCalls() == []


@pytest.mark.parametrize(
    ("chance", "outcome", "after_s"),
    [
        ("refused", Outcome.REFUSED, 0),
        ("hanging", Outcome.CONNECT_TIMEOUT, 5),
        ("local_failure", Outcome.LOCAL_FAILURE, 0),
        ("no_port", Outcome.NO_PORT, 0),
    ],
)
def test_connects_fail_in_four_ways(chance, outcome, after_s):
    town = Town(**{chance: 1.0})
    one = town.dial()
    town.clock.advance(max(after_s - 0.1, 0))
    assert one.told == ([] if after_s else [outcome])
    town.clock.advance(0.1)
    assert one.told == [outcome]
    assert town.what() == [outcome.name.lower()]
    assert str(town.faults.happened[0]) == f"app:80 {outcome.name.lower()}"


def test_what_is_sent_behind_a_reset_does_not_arrive():
    """A reader that reads late would find it behind a gap."""
    town = Town(delayed=1.0, longest_delay_s=1.0, overtaken=1.0)
    one = town.dial(within_s=1.0)
    server = town.served[0]
    server.transport.pauseProducing()
    _, outgoing = one.transport.pipes
    one.transport.write(b"taken away")
    outgoing.tear()
    one.transport.write(b"too late")
    town.clock.advance(2.0)
    server.transport.resumeProducing()
    town.clock.settle()
    assert (server.data, server.told) == (b"", ["made", ConnectionLost])


def test_a_dial_that_is_taken_back_hears_of_no_fault():
    town = Town(hanging=1.0)
    one = Recorder(town.clock)
    town.network.dial(APP, one, 5.0, one.failed).cancel()
    town.clock.advance(10)
    assert one.told == []


def test_a_connect_may_take_its_time_and_too_much_of_it():
    town = Town(3, delayed=1.0, longest_delay_s=10.0)
    dialling = [town.dial() for _ in range(20)]
    town.clock.advance(4.9)
    assert 5 < len(town.served) < 15
    town.clock.advance(10)
    assert {str(one.told) for one in dialling} == {"['made']", f"[{Outcome.CONNECT_TIMEOUT!r}]"}


def test_the_kernel_takes_a_part_and_the_rest_a_moment_later():
    town = Town(partial_write=1.0, delayed=1.0, longest_delay_s=0.1)
    one = town.dial(within_s=1.0)
    one.transport.write(b"x" * 1000)
    assert 0 < one.transport.unsent < 1000
    town.clock.advance(60)
    assert one.transport.unsent == 0
    assert town.served[0].data == b"x" * 1000


def test_it_arrives_late_in_pieces_and_in_order_and_its_end_last():
    town = Town(split=1.0, delayed=1.0, longest_delay_s=2.0)
    one = town.dial(within_s=2.0)
    data = bytes(range(256)) * 4
    for start in range(0, len(data), 64):
        one.transport.write(data[start : start + 64])
    one.transport.loseConnection()
    town.clock.settle()
    assert one.told == ["made", ConnectionDone]
    town.clock.advance(1000)
    peer = town.served[0]
    assert peer.data == data
    assert len(peer.pieces) > 16
    assert peer.pieces[-1][0] > 0
    assert peer.told == ["made", "fin"]


def test_bytes_on_their_way_fill_the_network():
    town = Town(delayed=1.0, longest_delay_s=2.0)
    one = town.dial(within_s=2.0)
    one.transport.write(b"x" * 100_000)
    assert one.transport.unsent == 100_000 - town.network.capacity_bytes
    town.clock.advance(10)
    assert len(town.served[0].data) == 100_000


def test_a_reset_hits_both_sides():
    town = Town(reset=1.0, within_s=5.0, within_bytes=1)
    one = town.dial()
    one.transport.write(b"hello")
    town.served[0].transport.write(b"hello")
    town.clock.advance(5)
    assert town.what() == ["reset"]
    assert one.told == town.served[0].told == ["made", ConnectionLost]
    assert town.network.open_connections == []


@pytest.mark.parametrize("connected_by", ["dial", "connect"])
@pytest.mark.parametrize("what", ["closed", "half_closed"])
def test_the_peer_closes_or_half_closes_not_who_is_tried(what, connected_by):
    town = Town(**{what: 1.0}, within_s=5.0, within_bytes=1)
    if connected_by == "dial":
        tried = town.dial()
        peer = town.served[0]
    else:
        peer = Recorder(town.clock)
        peer.transport = town.network.connect("app:80", peer)
        town.clock.settle()
        tried = town.served[0]
    for end in (tried, peer):
        end.transport.write(b"hello")
    town.clock.advance(5)
    assert town.what() == [what.replace("_", "-")]
    assert tried.told == ["made", "fin"]
    assert peer.told == (["made", ConnectionDone] if what == "closed" else ["made"])
    assert tried.transport.connected


def test_behind_a_byte_it_is_just_behind_it():
    """The one byte that passes is the last that both sides see."""
    seeds = [seed for seed in range(40) if behind_a_byte(seed)]
    assert seeds


def behind_a_byte(seed: int) -> bool:
    town = Town(seed, reset=1.0, within_bytes=1, within_s=1000)
    one = town.dial()
    one.transport.write(b"hello")
    town.served[0].transport.write(b"world")
    town.clock.settle()
    if not town.faults.happened:
        return False
    assert sorted([one.data, town.served[0].data]) in (
        [b"h", b"world"],
        [b"hello", b"w"],
        [b"h"],
        [b"", b"h"],
        [b"", b"w"],
    )
    return True


def test_stalled_nothing_arrives_for_a_while_and_the_sender_notices():
    town = Town(stalled=1.0, within_bytes=1, within_s=0.0, longest_stall_s=8.0)
    one = town.dial()
    one.transport.write(b"x" * 200_000)
    town.clock.settle()
    assert one.transport.unsent > 0
    assert len(town.served[0].data) <= 65536
    town.clock.advance(10)
    assert town.what() == ["stalled"]
    assert len(town.served[0].data) == 200_000


def test_calm_ends_it_for_what_exists_too():
    town = Town(reset=1.0, within_s=5.0, within_bytes=1)
    one = town.dial()
    town.faults.calm()
    one.transport.write(b"hello")
    town.clock.advance(10)
    assert town.dial().told == ["made"]
    assert one.told == ["made"]
    assert town.served[0].data == b"hello"
    assert town.what() == []


def test_chances_that_cannot_be():
    with pytest.raises(ValueError, match="probabilities"):
        Chances(refused=0.6, hanging=0.6)
    with pytest.raises(ValueError, match="probabilities"):
        Chances(reset=-0.1)


def story(seed: int) -> list:
    """Everything that a client and a backend see in a bad network."""
    clock = HeapClock()
    told: list = []
    chances = Chances(
        partial_write=0.3,
        split=0.3,
        delayed=0.3,
        reset=0.1,
        closed=0.1,
        half_closed=0.1,
        stalled=0.1,
        within_bytes=1000,
    )
    faults = Faults(clock, random.Random(seed), chances, lambda fault: told.append(str(fault)))
    network = MemoryNetwork(clock, faults=faults)
    ScriptedBackend(network, "app:80", lambda request: [response(b"y" * 300)])
    for _ in range(10):
        client = ScriptedClient(network, "app:80").send(GET * 3)
        clock.advance(7)
        told.append((client.received, client.ended, client.was_reset))
    return told


def test_a_seed_is_a_story_that_can_be_told_again():
    assert story(5) == story(5)
    assert len({str(story(seed)) for seed in range(10)}) == 10
