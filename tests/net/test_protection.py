"""What one client, or very many, may not do to the others: limits of connections, and turns within a batch."""

import socket
import struct

import pytest
from twisted.logger import globalLogPublisher
from world import World

from twisted_lb.core.outcome import Outcome
from twisted_lb.net.listener import bind_tcp
from twisted_lb.net.transport import RECEIVE_BYTES

GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"


class House:
    """A world whose clients come in through a real listener."""

    def __init__(self, connections: int, per_client: int = 0, **options) -> None:
        limits = {"connections": connections, "connections_per_client": per_client}
        self.world = World(limits=limits, sockets=(bind_tcp("127.0.0.1", 0),), **options)
        self.gate = self.world.engine.gate
        [self.listener] = self.world.plane.listeners["default"]
        self.clients: list[socket.socket] = []

    def connect(self, count: int = 1) -> list[socket.socket]:
        new = []
        for _ in range(count):
            sock = socket.create_connection(("127.0.0.1", self.listener.port))
            sock.settimeout(10)
            new.append(sock)
        self.clients += new
        self.world.run()
        return new

    def close(self) -> None:
        for client in self.clients:
            client.close()
        self.world.run()
        self.world.close()
        assert (self.gate.open, repr(self.gate).endswith(" 0 clients>")) == (0, True)


def test_at_the_limit_nobody_is_accepted_until_somebody_leaves():
    house = House(3)
    clients = house.connect(5)
    assert (house.listener.accepted, house.gate.open) == (3, 3)
    assert not house.world.run(), "it spins"
    clients[0].close()
    house.world.run()
    assert (house.listener.accepted, house.gate.open) == (4, 3)
    for client in clients[1:4]:
        client.close()
    house.world.run()
    assert (house.listener.accepted, house.gate.open) == (5, 1)
    house.close()


def test_who_waited_in_the_queue_is_served():
    house = House(1)
    first, second = house.connect(2)
    second.sendall(GET)
    house.world.run()
    assert house.world.backend_connections == []
    first.close()
    house.world.run()
    house.world.backend().send(OK)
    assert second.recv(100).startswith(b"HTTP/1.1 200")
    house.close()


def test_the_limit_is_said_once_until_a_tenth_of_it_has_left():
    said: list = []
    house = House(10)

    def observe(event):
        if event["log_namespace"] == "twisted_lb.net.listener":
            said.append(event)

    globalLogPublisher.addObserver(observe)
    clients = house.connect(15)
    clients[0].close()
    house.world.run()
    assert len(said) == 1
    for client in clients:
        client.close()
    house.world.run()
    house.connect(15)
    globalLogPublisher.removeObserver(observe)
    assert len(said) == 2
    house.close()


def served(house: House, *clients: socket.socket) -> None:
    """Let each have an answer, and be kept behind it."""
    for client in clients:
        client.sendall(GET)
        house.world.run()
        house.world.backend().send(OK)
        assert client.recv(100).startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize("side", ["engine", "fallback"])
def test_at_the_limit_a_kept_client_that_has_been_idle_for_a_second_makes_room(side):
    house = House(2, side=side)
    kept, busy = house.connect(2)
    served(house, kept)
    busy.sendall(GET)
    house.connect(2)
    house.world.advance(0.9)
    assert (house.listener.accepted, house.gate.open) == (2, 2)
    house.world.advance(0.4)
    assert kept.recv(100) == b""
    assert (house.listener.accepted, house.gate.open) == (3, 2)
    # Those that are in use, or have not said anything yet, do not.
    house.world.advance(5)
    assert (house.listener.accepted, house.gate.open) == (3, 2)
    house.close()


def test_nobody_makes_room_for_nobody():
    house = House(3)
    clients = house.connect(3)
    served(house, *clients)
    house.world.advance(30)
    assert (house.listener.accepted, house.gate.open) == (3, 3)
    [late] = house.connect()
    house.world.run()
    assert (house.listener.accepted, house.gate.open) == (4, 3)
    assert clients[0].recv(100) == b"", "the one that was idle for longest"
    served(house, late, *clients[1:])
    house.close()


def test_who_uses_its_connection_again_is_not_the_one_that_makes_room():
    """Who was found to be idle a moment ago may not be so any more."""
    house = House(3)
    first, second, third = house.connect(3)
    served(house, first, second, third)
    house.world.advance(10)
    house.connect()
    assert first.recv(100) == b""
    served(house, second)
    house.connect()
    assert third.recv(100) == b""
    served(house, second)
    house.close()


def test_who_waits_for_room_is_served_when_somebody_leaves_by_himself_and_nothing_asks_on():
    house = House(1)
    first, second = house.connect(2)
    second.sendall(GET)
    first.close()
    house.world.run()
    house.world.backend().send(OK)
    assert second.recv(100).startswith(b"HTTP/1.1 200")
    house.close()


def test_a_client_that_has_not_taken_its_answer_or_has_begun_another_request_does_not_make_room():
    house = House(2)
    slow, begun = house.connect(2)
    served(house, begun)
    begun.sendall(b"GET / HT")
    slow.sendall(GET)
    house.world.run()
    house.world.backend().send(b"HTTP/1.1 200 OK\r\nContent-Length: 8000000\r\n\r\n")
    for _ in range(80):
        house.world.backend().send(b"x" * 100_000)
        house.world.run()
        if any(one.full for one in house.world.engine.clients):
            break
    house.connect()
    house.world.advance(4)
    assert house.listener.accepted == 2
    house.close()


def test_a_stop_at_the_limit_takes_in_who_is_in_the_queue():
    house = House(1)
    _first, second = house.connect(2)
    second.sendall(GET)
    house.listener.stop()
    house.world.run()
    house.world.backend().send(OK)
    assert second.recv(100).startswith(b"HTTP/1.1 200")
    house.close()


def test_a_client_with_its_share_is_told_so_and_costs_nobody_else():
    house = House(100, per_client=2)
    *mine, third = house.connect(3)
    assert third.recv(1000).startswith(b"HTTP/1.1 429 Too Many Requests\r\n")
    assert third.recv(1000) == b""
    assert house.gate.turned_away == 1
    mine[0].close()
    house.world.run()
    [fourth] = house.connect()
    fourth.sendall(GET)
    house.world.run()
    house.world.backend().send(OK)
    assert fourth.recv(100).startswith(b"HTTP/1.1 200")
    house.close()


def test_a_trusted_proxy_speaks_for_many():
    house = House(100, per_client=1, forwarding={"trusted_proxies": ["127.0.0.0/8"]})
    house.connect(5)
    assert (house.gate.open, house.gate.turned_away) == (5, 0)
    house.close()


BEHIND = {"trusted_proxies": ["127.0.0.0/8", "10.0.0.0/8"]}


def of(client: bytes) -> bytes:
    return GET[:-2] + b"X-Forwarded-For: %b\r\n\r\n" % client


def test_behind_a_trusted_proxy_each_client_may_have_so_many_requests_under_way():
    """The proxy's connections are kept: the one who asks too much is told so, and the next one on it is served."""
    house = House(100, per_client=1, forwarding=BEHIND)
    first, second, third = house.connect(3)
    first.sendall(of(b"198.51.100.7"))
    second.sendall(of(b"6.6.6.6, 198.51.100.7, 10.9.9.9"))
    third.sendall(of(b"198.51.100.8"))
    house.world.run()
    assert second.recv(1000).startswith(b"HTTP/1.1 429 Too Many Requests\r\n")
    assert (len(house.world.backend_connections), house.gate.turned_away) == (2, 1)
    house.world.backend(0).send(OK)
    assert first.recv(100).startswith(b"HTTP/1.1 200")
    second.sendall(of(b"198.51.100.7"))
    house.world.run()
    house.world.backend(0).send(OK)
    assert second.recv(100).startswith(b"HTTP/1.1 200")
    second.sendall(of(b"198.51.100.7"))
    house.world.run()
    second.close()
    house.world.run()
    assert repr(house.gate) == "<Gate 2 of 100 open, 1 clients>"
    house.close()


def test_behind_a_trusted_proxy_that_names_nobody_there_is_no_limit():
    house = House(100, per_client=1, forwarding=BEHIND)
    for sock, request in zip(house.connect(4), [GET, GET, of(b"10.1.1.1"), of(b"10.1.1.1")], strict=True):
        sock.sendall(request)
    house.world.run()
    assert (len(house.world.backend_connections), house.gate.turned_away) == (4, 0)
    house.close()


@pytest.mark.parametrize("side", ["engine", "fallback"])
def test_requests_that_we_answer_ourselves_come_in_turns(side):
    """A client sends thousands of requests that need no backend; another's single one is not answered after them."""
    house = House(100, side=side)
    house.world.dial.refuse.add("a:80")
    greedy, modest = house.connect(2)
    greedy.sendall(GET * 1000)
    modest.sendall(GET)
    answered_before = 0
    for _ in range(10_000):
        if side == "engine":
            house.world.poller.doRead()
        else:
            house.world.reactor.turn()
        house.world.time.run_due()
        modest.setblocking(False)
        try:
            assert modest.recv(1000).startswith(b"HTTP/1.1 50")
            break
        except BlockingIOError:
            answered_before += 1
    greedy.setblocking(False)
    heard = greedy.recv(1 << 20)
    assert 0 < heard.count(b"HTTP/1.1 50") < 1000, "all before the other's one"
    for _ in range(1000):
        house.world.run()
        try:
            heard += greedy.recv(1 << 20)
        except BlockingIOError:
            break
    assert heard.count(b"HTTP/1.1 50") == 1000
    house.close()


def test_requests_sent_ahead_are_held_up_to_a_bound():
    house = House(100)
    house.world.dial.refuse.add("a:80")
    [greedy] = house.connect()
    greedy.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
    greedy.setblocking(False)
    sent = greedy.send(GET * 20_000)
    held = []
    for _ in range(30):
        house.world.poller.doRead()
        house.world.time.run_due()
        held += [len(one._speaker._reader.buffer) for one in house.world.engine.clients]
    # What is read ahead, and the receive that went over it.
    assert max(held) <= 65536 + RECEIVE_BYTES < sent
    greedy.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    house.close()


def test_out_of_descriptors_the_request_gets_a_503_and_the_backend_no_blame():
    world = World()
    client = world.client()
    world.run()
    world.dial.fail["a:80"] = Outcome.LOCAL_FAILURE
    client.send(GET)
    assert client.read().startswith(b"HTTP/1.1 503 ")
    assert world.outcomes() == {"LOCAL_FAILURE": 1}
    assert world.record[0].usable
    world.close()
