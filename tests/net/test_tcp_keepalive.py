"""TCP keep-alive: what the kernel was told of connections to clients and to backends."""

import os
import socket
from contextlib import closing

import pytest
from processes import until
from wires import queued
from world import World

from twisted_lb.core.address import TcpAddress, UnixAddress
from twisted_lb.net import sockets
from twisted_lb.net.dialer import Dialer
from twisted_lb.net.listener import Listener, bind_tcp, bind_unix
from twisted_lb.net.names import Names
from twisted_lb.net.sockets import Held, hand, inherited
from twisted_lb.net.tcp_keepalive import TcpKeepalive, set_keepalive

OFTEN = TcpKeepalive(31, 7, 3)
OPTIONS = (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT)


def told(sock: socket.socket) -> tuple[int, ...] | None:
    """How the kernel asks the peer of a socket, as it says itself; None: not at all."""
    if not sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE):
        return None
    return tuple(sock.getsockopt(socket.IPPROTO_TCP, option) for option in OPTIONS)


class Guest:
    """A protocol that keeps its transport."""

    def __init__(self) -> None:
        self.transport = None

    def makeConnection(self, transport):
        self.transport = transport

    def dataReceived(self, data):
        pass

    def readConnectionLost(self):
        pass

    def connectionLost(self, reason):
        pass


class Hall:
    """A listener on a socket, and who came in there."""

    def __init__(self, sock: socket.socket) -> None:
        self.world = World()
        self.sock = sock
        self.guests: list[Guest] = []
        self.clients: list[socket.socket] = []
        self.listener = Listener(self.world.poller, sock, self._build, self.world.time.callLater)
        self.listener.start()

    def _build(self) -> Guest:
        self.guests.append(Guest())
        return self.guests[-1]

    def accept(self) -> socket.socket:
        """The socket of a client that has come in."""
        client = socket.socket(self.sock.family)
        client.connect(self.sock.getsockname())
        self.clients.append(client)
        if self.sock.family != socket.AF_UNIX:
            until(lambda: queued(self.sock) == 1, "it is in the accept queue")
        self.world.run()
        return self.guests[-1].transport._sock

    def close(self) -> None:
        for guest in self.guests:
            guest.transport.abortConnection()
        for client in self.clients:
            client.close()
        self.listener.stop()
        self.world.close()


@pytest.fixture
def hall():
    halls = []

    def one(sock: socket.socket | None = None) -> Hall:
        halls.append(Hall(bind_tcp("127.0.0.1", 0) if sock is None else sock))
        return halls[-1]

    yield one
    for each in halls:
        each.close()


# Clients.


def test_who_is_accepted_inherits_it_from_the_socket_that_listens(hall):
    one = hall()
    assert told(one.accept()) is None
    one.listener.keep_alive(OFTEN)
    assert told(one.accept()) == (31, 7, 3)


def test_who_is_accepted_after_it_was_switched_off_has_none_and_who_was_there_keeps_it(hall):
    one = hall()
    one.listener.keep_alive(OFTEN)
    before = one.accept()
    one.listener.keep_alive(None)
    assert told(one.accept()) is None
    assert told(before) == (31, 7, 3)


def test_other_times_hold_for_who_is_accepted_from_then_on(hall):
    one = hall()
    one.listener.keep_alive(OFTEN)
    one.listener.keep_alive(TcpKeepalive(60, 10, 5))
    assert told(one.accept()) == (60, 10, 5)


def test_the_socket_of_a_service_manager_is_told_as_one_of_our_own(hall, monkeypatch):
    given = bind_tcp("127.0.0.1", 0)
    set_keepalive(given, TcpKeepalive(600, 60, 9))  # as KeepAlive= of a socket unit does
    os.dup2(given.fileno(), 200, inheritable=True)
    given.close()
    monkeypatch.setattr(sockets, "_FIRST_FD", 200)
    [held] = inherited({"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "1"}, os.getpid())
    one = hall(held.sock)
    assert told(one.accept()) == (600, 60, 9)
    one.listener.keep_alive(OFTEN)
    assert told(one.accept()) == (31, 7, 3)
    one.listener.keep_alive(None)
    assert told(one.accept()) is None


def test_the_socket_of_a_running_instance_goes_by_what_its_successor_says(hall):
    ours = bind_tcp("127.0.0.1", 0)
    set_keepalive(ours, OFTEN)
    near, far = socket.socketpair()
    with closing(near), closing(far), closing(ours):
        hand(near, [Held("web", "127.0.0.1:80", ours)])
        [held] = sockets._received(far)
    one = hall(held.sock)
    assert told(one.accept()) == (31, 7, 3)
    one.listener.keep_alive(None)
    assert told(one.accept()) is None


def test_a_unix_socket_is_told_nothing(hall, tmp_path):
    one = hall(bind_unix(str(tmp_path / "lb.sock")))
    one.listener.keep_alive(OFTEN)
    assert not one.accept().getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)


def test_a_reload_switches_it_on_and_off_at_a_socket_that_stays_open():
    listening = bind_tcp("127.0.0.1", 0)
    world = World(sockets=(listening,), tcp_keepalive={"idle_s": 31, "interval_s": 7, "probes": 3})
    try:
        assert told(listening) == (31, 7, 3)
        world.configure(tcp_keepalive=False)
        assert told(listening) is None
        world.configure(tcp_keepalive=True)
        assert told(listening) == (60, 10, 5)
        [listener] = world.plane.listeners["default"]
        assert listener.sock is listening
    finally:
        world.close()


# Backends.


class Net:
    """A dialer, and whom it has connected."""

    def __init__(self) -> None:
        self.world = World()
        names = Names(None, self.world.engine.clock)
        self.dialer = Dialer(self.world.poller, self.world.deadlines, names, self.world.time.callLater)
        self.guests: list[Guest] = []

    def dial(self, address, keepalive: TcpKeepalive | None) -> socket.socket:
        failures: list[tuple] = []
        self.guests.append(Guest())
        told_of = lambda *failure: failures.append(failure)  # noqa: E731
        self.dialer.dial(address, self.guests[-1], 5.0, told_of, 0, None, keepalive)
        until(lambda: self.world.run() or self.guests[-1].transport is not None or failures, "it is connected")
        assert failures == []
        return self.guests[-1].transport._sock

    def close(self) -> None:
        for guest in self.guests:
            guest.transport.abortConnection()
        self.world.close()


@pytest.fixture
def net():
    one = Net()
    yield one
    one.close()


def test_a_connection_to_a_backend_has_what_it_is_dialled_with(net):
    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        address = TcpAddress("127.0.0.1", server.getsockname()[1])
        assert told(net.dial(address, OFTEN)) == (31, 7, 3)
        assert told(net.dial(address, None)) is None


def test_a_backend_on_a_unix_socket_is_connected_to_as_ever(net, tmp_path):
    path = str(tmp_path / "app.sock")
    with closing(bind_unix(path)):
        made = net.dial(UnixAddress(path), OFTEN)
        assert not made.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)


def asked(world: World) -> None:
    client = world.client().send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    world.backend().send(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
    assert client.read().startswith(b"HTTP/1.1 200 ")


def test_each_new_connection_of_a_pool_goes_by_what_its_pool_says_then():
    world = World()
    try:
        asked(world)
        world.configure(tcp_keepalive={"idle_s": 31, "interval_s": 7, "probes": 3})
        asked(world)
        world.configure(tcp_keepalive={"idle_s": 32})
        asked(world)
        world.configure(tcp_keepalive=False)
        asked(world)
        found = [one and (one.idle_s, one.interval_s, one.probes) for one in world.dial.keepalives]
        assert found == [None, (31, 7, 3), (32, 10, 5), None]
    finally:
        world.close()


def test_a_connection_that_is_greeted_first_has_it_too():
    listeners = {"web": {"address": "127.0.0.1:0", "default_pool": "app"}}
    pools = {"app": {"backends": ["a:80"], "send_proxy": "v1", "tcp_keepalive": True}}
    world = World((), listeners={**listeners, "default": {"address": ":0", "default_pool": "app"}}, pools=pools)
    try:
        asked(world)
        assert [one.idle_s for one in world.dial.keepalives] == [60]
        assert [one.header for one in world.dial.greetings] != [b""]
    finally:
        world.close()
