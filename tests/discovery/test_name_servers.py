"""Name servers: which are asked, in which order, and that nothing is left behind."""

from typing import Any

import pytest
from discovering import START
from twisted.names import dns
from twisted.names.error import DNSNameError

from twisted_lb.discovery.following import LOOK_S
from twisted_lb.discovery.name_servers import NameServers, servers_of
from twisted_lb.discovery.provider import NoList
from twisted_lb.testing import HeapClock

NAME = "_http._tcp.app.internal"
FIRST, SECOND = ("10.0.0.1", 53), ("10.0.0.2", 53)


def servers(tmp_path, *lines: str) -> list[str]:
    file = tmp_path / "resolv.conf"
    file.write_text("\n".join(lines))
    found = servers_of(str(file))
    assert {port for _, port in found} == {53}
    return [host for host, _ in found]


def test_the_name_servers_are_those_of_resolv_conf(tmp_path):
    found = servers(
        tmp_path, "# nameserver 1.1.1.1", "search a b", "nameserver 10.0.0.1", "nameserver\tfe80::1%eth0", "options x"
    )
    assert found == ["10.0.0.1", "fe80::1%eth0"]


def test_three_are_the_most_and_what_is_no_address_is_none(tmp_path):
    lines = ["nameserver", "nameserver ns.internal", *(f"nameserver 10.0.0.{n}" for n in range(1, 6))]
    assert servers(tmp_path, *lines) == ["10.0.0.1", "10.0.0.2", "10.0.0.3"]


def test_without_any_this_machine_is_asked(tmp_path):
    assert servers(tmp_path, "search a") == ["127.0.0.1"]
    assert servers_of(str(tmp_path / "missing")) == [("127.0.0.1", 53)]


def test_a_resolv_conf_that_cannot_be_read_is_named(tmp_path):
    with pytest.raises(NoList, match=f"{tmp_path}: is a directory"):
        servers_of(str(tmp_path))


class Port:
    """A datagram socket in memory."""

    def __init__(self, world: "World", protocol: Any) -> None:
        self.world = world
        self.protocol = protocol
        self.open = True
        world.ports.append(self)
        protocol.makeConnection(self)

    def write(self, data: bytes, address: tuple[str, int]) -> None:
        question = dns.Message()
        question.fromStr(data)
        self.world.asked.append(address[0])
        answer = self.world.answers.get(address[0])
        if isinstance(answer, Exception):
            raise answer
        if answer is not None:
            reply = dns.Message(question.id, answer=1, rCode=answer if isinstance(answer, int) else dns.OK)
            reply.queries = question.queries
            if not isinstance(answer, int):
                reply.answers = answer
            self.world.clock.callLater(0.1, self.protocol.datagramReceived, reply.toStr(), address)

    def stopListening(self) -> None:
        self.open = False
        self.protocol.doStop()


class World:
    """Name servers in memory, as a reactor's sockets reach them: each answers with records, a code, or not at all."""

    def __init__(self, **answers: Any) -> None:
        self.clock = HeapClock(START)
        self.answers = {"10.0.0.1": answers.get("first"), "10.0.0.2": answers.get("second")}
        self.asked: list[str] = []
        self.ports: list[Port] = []
        self.found: Any = None
        self.looking = NameServers(self, self.clock, lambda: [FIRST, SECOND]).lookup_service(NAME)

    def listenUDP(self, port: int, protocol: Any, interface: str = "", maxPacketSize: int = 8192) -> Port:
        assert maxPacketSize == 65536, "no datagram is cut"
        return Port(self, protocol)

    def outcome(self) -> Any:
        """The targets that were found, or the error, once nothing is left to come."""
        self.looking.addBoth(lambda found: setattr(self, "found", found))
        self.clock.advance(20)
        assert not any(port.open for port in self.ports)
        assert self.clock.getDelayedCalls() == []
        if hasattr(self.found, "value"):
            return self.found.value
        return [str(record.payload.target) for record in self.found[0]]


RECORDS = [dns.RRHeader(NAME, dns.SRV, ttl=30, payload=dns.Record_SRV(0, 1, 80, "a.internal"))]


def test_the_first_server_that_answers_is_believed():
    world = World(first=RECORDS, second=[])
    assert world.outcome() == ["a.internal"]
    assert world.asked == ["10.0.0.1"]


@pytest.mark.parametrize("first", [dns.ESERVER, dns.EREFUSED, dns.ENOTIMP, dns.EFORMAT, 9, OSError(101, "unreachable")])
def test_a_server_that_cannot_answer_is_followed_by_the_next_one(first):
    world = World(first=first, second=RECORDS)
    assert world.outcome() == ["a.internal"]
    assert world.asked == ["10.0.0.1", "10.0.0.2"]


def test_a_silent_server_is_asked_twice_and_followed_by_the_next_one():
    world = World(second=RECORDS)
    assert world.outcome() == ["a.internal"]
    assert world.asked == ["10.0.0.1", "10.0.0.1", "10.0.0.2"]


def test_a_server_that_says_that_there_is_no_such_name_is_believed():
    world = World(first=dns.ENAME, second=RECORDS)
    assert isinstance(world.outcome(), DNSNameError)


@pytest.mark.parametrize(
    ("first", "words"),
    [
        (dns.ESERVER, "SERVFAIL"),
        (dns.EREFUSED, "REFUSED"),
        (dns.ENOTIMP, "NOTIMP"),
        (dns.EFORMAT, "FORMERR"),
        (None, "no answer"),
        (OSError(101, "Network is unreachable"), "[Errno 101] Network is unreachable"),
    ],
)
def test_where_nobody_can_say_each_servers_answer_is_named(first, words):
    found = World(first=first, second=dns.ESERVER).outcome()
    assert isinstance(found, NoList)
    assert str(found) == f"name server 10.0.0.1: {words}; name server 10.0.0.2: SERVFAIL"


def test_a_look_up_that_is_given_up_leaves_nothing_behind():
    world = World()
    world.looking.cancel()
    assert world.clock.getDelayedCalls() == []
    assert type(world.outcome()).__name__ == "CancelledError"
    assert world.asked == ["10.0.0.1"]


def test_three_silent_servers_are_done_with_before_a_look_is():
    world = World()
    ended: list[object] = []
    world.looking.addErrback(ended.append)
    world.clock.advance(LOOK_S * 2 / 3)
    assert len(ended) == 1
    assert world.asked == ["10.0.0.1", "10.0.0.1", "10.0.0.2", "10.0.0.2"]
