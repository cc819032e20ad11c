"""How workers without a parent are found: who asks is told who they are, and gets what they have."""

import os
import secrets
import socket
import threading
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from pathlib import Path

import pytest

from twisted_lb.core.listen_address import ListenAddress
from twisted_lb.workers.meeting import (
    ALL,
    LINK,
    PROGRAM,
    Belongings,
    Control,
    Hello,
    Visitors,
    answer,
    control_socket,
    meet,
    name_of,
    orphans_at,
    place_of,
    places_of,
)

HELLO = Hello(pid=7, slot=1, row=2, slots=2, rows=14, generation=1, began_at=3.5, leaving=False, program=PROGRAM)


@pytest.fixture
def closing():
    with ExitStack() as stack:
        yield stack


@pytest.fixture
def name():
    return "\0twisted_lb test " + secrets.token_hex(8)


def orphan(closing, sock, hello=HELLO, sockets=1, columns=()):
    """A worker that takes one visitor in, in a thread; its sockets."""
    own = [closing.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(sockets)]
    ends = [closing.enter_context(one) for one in socket.socketpair()]
    table = os.open(os.devnull, os.O_RDONLY)
    closing.callback(os.close, table)

    def belongings() -> Belongings:
        return Belongings(
            table,
            sock.fileno(),
            [one.fileno() for one in own],
            {hello.slot: ends[0].fileno()},
            {0: ends[1].fileno()},
            list(columns),
        )

    def take() -> None:
        sock.setblocking(True)
        connection, _ = sock.accept()
        with connection:
            try:
                answer(connection, hello, belongings)
                connection.setblocking(True)
                connection.sendall(b"linked")
            except (OSError, ValueError) as error:
                failed.append(error)

    failed: list[Exception] = []
    thread = threading.Thread(target=take)
    thread.start()
    closing.callback(thread.join)
    return own, failed


def test_a_worker_says_who_it_is_and_the_connection_is_its_link(closing, name):
    sock = closing.enter_context(control_socket(name))
    orphan(closing, sock)
    [met] = meet(name, LINK, 1)
    assert (met.hello, met.belongings) == (HELLO, None)
    with met.connection:
        assert met.connection.recv(6) == b"linked"


def test_a_worker_hands_over_all_that_it_has_however_many_sockets_that_are(closing, name):
    sock = closing.enter_context(control_socket(name))
    own, _ = orphan(closing, sock, sockets=150, columns=[("app", "a", 3)])
    [met] = meet(name, ALL, 1)
    with met.connection:
        found = met.belongings
        assert met.connection.recv(6) == b"linked"
    assert found.columns == [("app", "a", 3)]
    for fd in found.descriptors():
        closing.callback(os.close, fd)
    assert [os.fstat(fd).st_ino for fd in found.sockets] == [os.fstat(one.fileno()).st_ino for one in own]
    assert (list(found.out), list(found.into)) == ([1], [0])
    assert len(found.descriptors()) == 154


def test_where_nobody_is_nobody_is_found(name):
    assert meet(name, LINK) == []


def test_a_parent_that_lives_sends_who_looks_for_its_workers_away(closing, name, monkeypatch):
    class Reactor:
        def addReader(self, reader):
            def take() -> None:
                while not over.is_set():
                    try:
                        reader.doRead()
                    except OSError:
                        return

            over = threading.Event()
            thread = threading.Thread(target=take)
            thread.start()
            closing.callback(thread.join)
            closing.callback(over.set)

        def removeReader(self, reader): ...

        def callLater(self, *_): ...

    told = []
    control = Control(Reactor(), told.append)
    place = secrets.token_hex(8)
    control.follow(place)
    closing.callback(control.close)
    assert told == [control.sock.fileno()]
    assert meet(name_of(place), LINK) == []


def test_who_comes_after_another_parent_has_its_name_when_that_one_is_gone(closing):
    class Reactor:
        def __init__(self):
            self.later = []

        def callLater(self, seconds, *call):
            self.later.append(call)

        def addReader(self, reader): ...

        def removeReader(self, reader): ...

    place, reactor, told = secrets.token_hex(8), Reactor(), []
    before = control_socket(name_of(place))
    control = Control(reactor, told.append)
    closing.callback(control.close)
    control.follow(place)
    assert (control.sock, told) == (None, [])
    before.close()
    [(call, *arguments)] = reactor.later
    call(*arguments)
    assert told == [control.sock.fileno()]
    # Nothing is changed where it listens there already.
    control.follow(place)
    assert told == [control.sock.fileno()]


@pytest.mark.parametrize("said", [b"", b"what\n", b"x" * 100])
def test_who_is_no_parent_gets_nothing(closing, name, said):
    sock = closing.enter_context(control_socket(name))
    _, failed = orphan(closing, sock)
    with socket.socket(socket.AF_UNIX) as stranger:
        stranger.connect(name)
        stranger.sendall(said)
        stranger.shutdown(socket.SHUT_WR)
        stranger.settimeout(60)
        with suppress(ConnectionResetError):
            assert stranger.recv(100) == b""
    closing.close()
    assert len(failed) == 1


@pytest.mark.parametrize("cut", [0, 3, 20, 120])
def test_a_worker_that_dies_while_it_answers_is_not_found_and_nothing_is_left_open(closing, name, cut):
    sock = closing.enter_context(control_socket(name))
    ours, theirs = (closing.enter_context(one) for one in socket.socketpair())
    ours.sendall(ALL)
    own = Belongings(ours.fileno(), ours.fileno(), [ours.fileno()], {}, {}, [])
    answer(theirs, HELLO, lambda: own)
    data = ours.recv(1000)

    def take() -> None:
        sock.setblocking(True)
        connection, _ = sock.accept()
        with connection:
            connection.recv(10)
            connection.sendall(data[:cut])

    def descriptors() -> int:
        return len(list(Path("/proc/self/fd").iterdir()))

    before = descriptors()
    thread = threading.Thread(target=take)
    thread.start()
    assert meet(name, ALL, 1) == []
    thread.join()
    assert descriptors() == before


@pytest.mark.parametrize(
    ("text", "places"),
    [
        ("127.0.0.1:80", ["127.0.0.1 80"]),
        ("[0:0::1]:80", ["::1 80"]),
        (":80", [":: 80", "0.0.0.0 80"]),
        ("unix:/run/x", ["/run/x"]),
    ],
)
def test_an_address_is_called_as_its_socket_is(text, places):
    assert list(places_of(ListenAddress.parse(text))) == places


def test_the_place_of_a_socket_is_one_of_those_of_its_address(closing, tmp_path):
    for sock, address in [
        (socket.create_server(("127.0.0.1", 0)), ListenAddress("127.0.0.1")),
        (socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True), ListenAddress()),
    ]:
        with sock:
            assert place_of(sock) in places_of(address.at(port=sock.getsockname()[1]))


def test_that_somebody_may_be_there_is_seen_without_a_connection(closing):
    address = ListenAddress("127.0.0.1", 1)
    assert not orphans_at(address)
    sock = closing.enter_context(control_socket(name_of("127.0.0.1 1")))
    assert orphans_at(address)
    with pytest.raises(BlockingIOError):
        sock.accept()


@contextmanager
def as_nobody():
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


@needs_root
def test_workers_of_another_user_are_none_unless_we_are_going_to_be_that_one(closing, name):
    """Anybody may have a name, and what a worker says is believed."""
    with as_nobody():
        sock = closing.enter_context(control_socket(name))
    assert meet(name, LINK) == []
    sock.accept()[0].close()
    _, failed = orphan(closing, sock)
    [met] = meet(name, LINK, 1, user=65534)
    closing.enter_context(met.connection)
    assert met.hello == HELLO
    assert met.connection.recv(6) == b"linked"
    closing.close()
    assert failed == []


@needs_root
@pytest.mark.parametrize(("ours", "theirs", "comes"), [(0, 65534, False), (65534, 0, True), (65534, 65534, True)])
def test_a_worker_takes_in_who_is_of_its_user_or_root(closing, name, ours, theirs, comes):
    """Whoever comes gets the sockets of clients."""
    came = []
    sock = closing.enter_context(control_socket(name))
    visitors = Visitors(sock, came.append, None)
    visitor = closing.enter_context(socket.socket(socket.AF_UNIX))
    with as_nobody() if theirs else nullcontext():
        visitor.connect(name)
    with as_nobody() if ours else nullcontext():
        visitors.doRead()
    assert len(came) == comes
    for one in came:
        one.close()
    if not comes:
        assert visitor.recv(1) == b""
