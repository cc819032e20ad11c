"""Listening: in batches, through exhaustion, and to the last one in the queue."""

import errno
import os
import resource
import socket
import stat
import struct

import pytest
from processes import until
from twisted.logger import globalLogPublisher
from wires import queued
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
        before = queued(self.sock) if self.sock.fileno() >= 0 else 0
        for _ in range(count):
            self.clients.append(socket.create_connection(("127.0.0.1", self.port)))
        until(lambda: queued(self.sock) == before + count, "they are in the accept queue")

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


def test_the_queue_of_a_socket_that_is_handed_on_is_left_to_the_other_process(hall):
    with hall.sock.dup() as theirs:
        hall.connect(3)
        hall.listener.stop(handed_on=True)
        hall.world.run()
        assert (hall.listener.accepted, hall.sock.fileno()) == (0, -1)
        assert queued(theirs) == 3
        hall.clients.append(socket.create_connection(("127.0.0.1", hall.port)))
    assert hall.greeters == []


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

    def _accept(self):
        if self.failures:
            raise OSError(self.failures.pop(0), "made to fail")
        return self._sock._accept()


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


@pytest.mark.parametrize("code", [errno.EMFILE, errno.EINVAL, errno.EBADF])
def test_an_error_that_stays_does_not_hang_a_stop_and_leaves_nothing(code):
    hall = Hall(FailingSocket())
    hall.sock.failures = [code] * 1000
    hall.connect(1)
    hall.world.run()
    resting = hall.world.time.to_come
    hall.listener.stop()
    hall.world.run()
    assert hall.world.time.to_come == resting - 1, "it did not rest"
    hall.close()


def test_a_queue_that_never_empties_does_not_hang_a_stop():
    hall = Hall(FailingSocket())
    hall.sock.failures = [errno.ECONNABORTED] * 50_000
    hall.listener.stop()
    assert len(hall.sock.failures) > 40_000
    hall.close()


def test_resting_again_and_again_is_said_once():
    said: list = []
    hall = Hall(FailingSocket())
    hall.sock.failures = [errno.EMFILE] * 4
    hall.connect(1)

    def observe(event):
        if event["log_namespace"] == "twisted_lb.net.listener":
            said.append(event)

    globalLogPublisher.addObserver(observe)
    hall.world.advance(2)
    globalLogPublisher.removeObserver(observe)
    assert hall.listener.accepted == 1
    assert len(said) == 1
    hall.close()


def test_out_of_descriptors_for_real_it_goes_on_when_there_are_some(hall):
    hall.connect(3)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    lowest = os.dup(0)
    os.close(lowest)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest, hard))
    try:
        hall.world.poller.doRead()
        assert hall.listener.accepted == 0
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    hall.world.advance(0.3)
    assert hall.listener.accepted == 3


@pytest.mark.parametrize("when", ["built", "started"])
def test_a_protocol_that_cannot_start_costs_its_own_connection_only(hall, logged_errors, when):
    class Broken(Greeter):
        def makeConnection(self, transport):
            if when == "started":
                raise ZeroDivisionError
            super().makeConnection(transport)

    made: list[Greeter] = []

    def build():
        made.append(Broken() if len(made) == 1 else Greeter())
        if len(made) == 2 and when == "built":
            raise ZeroDivisionError
        return made[-1]

    hall.listener.stop()
    hall.sock = bind_tcp("127.0.0.1", 0)
    listener = Listener(hall.world.poller, hall.sock, build, hall.world.time.callLater)
    listener.start()
    hall.port = listener.port
    hall.connect(3)
    hall.world.run()
    hall.connect(1)
    listener.stop()
    hall.world.run()
    heard = []
    for client in hall.clients:
        client.settimeout(10)
        try:
            heard.append(client.recv(10))
        except ConnectionResetError:
            heard.append(b"")
    assert heard == [b"hello", b"", b"hello", b"hello"]
    assert len(logged_errors.take()) == 1
    hall.greeters += [greeter for greeter in made if greeter.transport is not None]


def test_a_protocol_that_cannot_start_does_not_stop_a_stop(hall, logged_errors):
    broken = Listener(hall.world.poller, bind_tcp("127.0.0.1", 0), lambda: 1 // 0, hall.world.time.callLater)
    broken.start()
    with socket.create_connection(("127.0.0.1", broken.port)) as client:
        broken.stop()
        hall.world.run()
        assert client.recv(10) == b""
    assert len(logged_errors.take()) == 1


def test_a_unix_server_whose_queue_is_full_is_not_stale_and_not_waited_for(tmp_path):
    path = str(tmp_path / "s")
    with socket.socket(socket.AF_UNIX) as busy:
        busy.bind(path)
        busy.listen(0)
        waiting = []
        for _ in range(5):
            client = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
            client.connect_ex(path)
            waiting.append(client)
        with pytest.raises(OSError, match="in use"):
            bind_unix(path)
        for client in waiting:
            client.close()


def test_who_reset_before_it_was_accepted_still_has_an_address(hall):
    hall.connect(1)
    name = hall.clients[0].getsockname()
    hall.clients[0].setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    hall.clients[0].close()
    hall.world.poller.doRead()
    transport = hall.greeters[0].transport
    assert (transport.peer_name(), transport.getPeer().port) == name
