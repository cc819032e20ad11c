"""Listening: in batches, through exhaustion, and to the last one in the queue."""

import errno
import os
import socket
import stat

import pytest
from world import World

from twisted_lb.net.listener import Listener, bind_tcp, bind_unix


class Greeter:
    def __init__(self) -> None:
        self.transport = None

    def makeConnection(self, transport):
        self.transport = transport
        transport.write(b"hello")

    def dataReceived(self, data):
        pass

    def connectionLost(self, reason):
        pass


class Hall:
    def __init__(self, sock=None) -> None:
        self.world = World()
        self.sock = sock or bind_tcp("127.0.0.1", 0)
        self.greeters: list[Greeter] = []
        self.clients: list[socket.socket] = []
        self.listener = Listener(self.world.poller, self.sock, self._build, self.world.time.callLater)
        self.port = self.listener.port
        self.listener.start()

    def _build(self) -> Greeter:
        greeter = Greeter()
        self.greeters.append(greeter)
        return greeter

    def connect(self, count: int) -> None:
        for _ in range(count):
            self.clients.append(socket.create_connection(("127.0.0.1", self.port)))

    def close(self) -> None:
        for client in self.clients:
            client.close()
        for greeter in self.greeters:
            greeter.transport.abortConnection()
        self.listener.stop()
        self.world.close()


@pytest.fixture
def hall():
    one = Hall()
    yield one
    one.close()


def test_each_connection_gets_a_protocol_of_its_own(hall):
    hall.connect(3)
    hall.world.run()
    assert hall.listener.accepted == 3
    assert [client.recv(10) for client in hall.clients] == [b"hello"] * 3


def test_a_batch_is_bounded(hall):
    hall.connect(100)
    hall.world.poller.doRead()
    assert hall.listener.accepted == 64
    hall.world.run()
    assert hall.listener.accepted == 100


def test_stopping_takes_in_everybody_who_is_in_the_queue(hall):
    hall.connect(100)
    hall.listener.stop()
    hall.listener.stop()
    hall.world.run()
    assert hall.listener.accepted == 100
    assert {client.recv(10) for client in hall.clients} == {b"hello"}
    with pytest.raises(ConnectionRefusedError):
        hall.connect(1)


def test_without_nodelay_on_each_it_is_inherited(hall):
    hall.connect(1)
    hall.world.run()
    assert hall.greeters[0].transport._sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


class FailingSocket:
    """Fails to accept as often as it is told to."""

    def __init__(self) -> None:
        self._sock = bind_tcp("127.0.0.1", 0)
        self.failures: list[int] = []

    def __getattr__(self, name):
        return getattr(self._sock, name)

    def accept(self):
        if self.failures:
            raise OSError(self.failures.pop(0), "made to fail")
        return self._sock.accept()


@pytest.mark.parametrize("code", [errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM])
def test_out_of_descriptors_it_rests_and_does_not_spin(code):
    hall = Hall(FailingSocket())
    hall.sock.failures = [code] * 2
    hall.connect(1)
    for _ in range(10):
        hall.world.run()
    assert len(hall.sock.failures) == 1
    hall.world.advance(0.3)
    assert len(hall.sock.failures) == 0
    hall.world.advance(0.3)
    assert hall.listener.accepted == 1
    hall.close()


def test_a_connection_that_is_gone_before_it_is_accepted_does_not_stop_the_next():
    hall = Hall(FailingSocket())
    hall.sock.failures = [errno.ECONNABORTED, errno.EPROTO]
    hall.connect(1)
    hall.world.run()
    assert hall.listener.accepted == 1
    hall.close()


def test_every_interface_is_both_families():
    with bind_tcp("", 0) as sock:
        port = sock.getsockname()[1]
        socket.create_connection(("127.0.0.1", port)).close()
        if socket.has_dualstack_ipv6():
            socket.create_connection(("::1", port)).close()


def test_a_port_that_is_taken_is_an_oserror_and_nothing_is_left():
    with bind_tcp("127.0.0.1", 0) as sock, pytest.raises(OSError, match="in use"):
        bind_tcp("127.0.0.1", sock.getsockname()[1])


def test_a_unix_socket_replaces_a_stale_one_only_and_has_its_mode(tmp_path):
    path = str(tmp_path / "s")
    old = os.umask(0o077)
    try:
        with bind_unix(path) as sock:
            assert stat.S_IMODE(os.stat(path).st_mode) == 0o666
            assert sock.getsockname() == path
            with pytest.raises(OSError, match="in use"):
                bind_unix(path)
        with bind_unix(path, 0o600):
            assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
    finally:
        os.umask(old)
    plain = tmp_path / "file"
    plain.write_text("precious")
    with pytest.raises(OSError, match="in use"):
        bind_unix(str(plain))
    assert plain.read_text() == "precious"


@pytest.mark.parametrize(("interface", "shown"), [("127.0.0.1", "127.0.0.1:"), ("::1", "[::1]:")])
def test_it_says_where_it_listens(interface, shown):
    hall = Hall(bind_tcp(interface, 0))
    assert hall.listener.address == f"{shown}{hall.listener.port}"
    hall.close()
