"""The socket on which a running instance hands its own to the next: who gets them, when, and what is left at the path."""

import os
import socket
import stat
from pathlib import Path

import pytest
from twisted.logger import formatEvent, globalLogPublisher
from world import FakeReactor

from twisted_lb import takeover as module
from twisted_lb.net.sockets import BUSY, GIVE, TAKEN, Held, bind_tcp
from twisted_lb.takeover import Takeover


class Instance:
    """A running instance with one listening socket; `taken` are the processes that have taken over."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.reactor = FakeReactor()
        self.taken: list[int] = []
        self.left: list[int] = []
        self.held = [Held("default", "port 80", bind_tcp("127.0.0.1", 0))]
        self.takeover = Takeover(path, self.reactor, lambda: self.held, self.taken.append, self.left.append)
        self.others: list[socket.socket] = []

    def open(self) -> "Instance":
        self.takeover.open()
        return self

    def run(self) -> None:
        while self.reactor.turn():
            pass

    def successor(self, *words: bytes) -> socket.socket:
        """A process that has connected and said this."""
        sock = socket.socket(socket.AF_UNIX)
        self.others.append(sock)
        sock.settimeout(5)
        sock.connect(self.path)
        for word in words:
            self.say(sock, word)
        self.run()
        return sock

    def say(self, sock: socket.socket, word: bytes) -> None:
        sock.sendall(word)
        self.run()

    def close(self) -> None:
        self.takeover.close()
        for sock in [*self.others, *(one.sock for one in self.held)]:
            sock.close()
        self.run()
        assert not self.reactor.readers


def received(sock: socket.socket) -> tuple[bytes, int]:
    """A message, and how many descriptors came with it."""
    data, fds, _, _ = socket.recv_fds(sock, 4096, 8)
    for fd in fds:
        os.close(fd)
    return data, len(fds)


@pytest.fixture
def start(tmp_path):
    made: list[Instance] = []

    def one(path: str = "lb") -> Instance:
        made.append(Instance(str(tmp_path / path)))
        return made[-1]

    yield one
    for instance in made:
        instance.close()


@pytest.fixture
def said():
    lines: list[str] = []

    def observe(event):
        if event["log_namespace"] == "twisted_lb.takeover":
            lines.append(formatEvent(event).replace(str(os.getpid()), "N"))

    globalLogPublisher.addObserver(observe)
    yield lines
    globalLogPublisher.removeObserver(observe)


def test_who_asks_gets_the_sockets_and_has_taken_over_when_it_says_so(start, said):
    instance = start().open()
    sock = instance.successor(GIVE)
    assert received(sock) == (b'[["default", "port 80"]]\n', 1)
    assert instance.taken == []
    instance.say(sock, TAKEN)
    assert instance.taken == [os.getpid()]
    assert said == ["process N prepares to take over"]


def test_words_may_come_in_pieces(start):
    instance = start().open()
    sock = instance.successor(GIVE[:3], GIVE[3:])
    assert received(sock)[1] == 1
    instance.say(sock, TAKEN[:2])
    instance.say(sock, TAKEN[2:])
    assert instance.taken == [os.getpid()]


def test_who_leaves_before_changes_nothing_and_the_next_one_may(start, said):
    instance = start().open()
    instance.successor(GIVE).close()
    instance.run()
    assert said[1:] == ["process N left before it took over: nothing has changed"]
    sock = instance.successor(GIVE)
    assert received(sock)[1] == 1
    assert (instance.taken, instance.left) == ([], [os.getpid()])


def test_who_only_looks_is_not_spoken_of(start, said):
    instance = start().open()
    instance.successor().close()
    instance.run()
    assert said == []


def test_one_at_a_time(start):
    instance = start().open()
    first, second = instance.successor(GIVE), instance.successor(GIVE)
    assert received(first)[1] == 1
    assert received(second) == (BUSY, 0)
    assert second.recv(1) == b""


def test_who_has_not_asked_cannot_take_over(start):
    instance = start().open()
    instance.successor(TAKEN)
    assert instance.taken == []


def test_who_says_something_else_is_hung_up_on(start):
    instance = start().open()
    sock = instance.successor(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n" * 9)
    assert closed(sock)
    assert instance.takeover.successor is None


def closed(sock: socket.socket) -> bool:
    try:
        return sock.recv(1) == b""
    except ConnectionResetError:
        return True


def test_another_users_process_is_refused(start, said, monkeypatch):
    monkeypatch.setattr(module, "may_meet", lambda uid: False)
    sock = start().open().successor()
    assert sock.recv(1) == b""
    assert said == [f"takeover refused: process N is of user {os.getuid()}"]


# The path.


def test_the_file_is_its_users_alone_and_goes_at_the_end(start):
    instance = start().open()
    assert stat.S_IMODE(os.stat(instance.path).st_mode) == 0o600
    instance.takeover.close()
    assert not any(Path(instance.path).parent.iterdir())


def test_a_successor_puts_its_own_in_its_place_and_that_stays(start):
    first, second = start(), start()
    first.open()
    second.open()
    first.takeover.close()
    sock = second.successor(GIVE)
    assert received(sock)[1] == 1


def test_in_place_of_a_successor_that_has_left_it_listens_again(start):
    first, second = start(), start()
    first.open()
    second.open()
    first.open()
    second.takeover.close()
    assert received(first.successor(GIVE))[1] == 1
    first.takeover.close()
    assert not any(Path(first.path).parent.iterdir())


def test_a_stale_one_is_replaced(start, tmp_path):
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(tmp_path / "lb"))
    assert received(start().open().successor(GIVE))[1] == 1


@pytest.mark.parametrize("path", ["plain", "none/lb"])
def test_where_it_cannot_be_nothing_is_left(start, tmp_path, path):
    (tmp_path / "plain").write_text("mine")
    instance = start(path)
    with pytest.raises(OSError, match=r"not a socket|No such file"):
        instance.open()
    assert (tmp_path / "plain").read_text() == "mine"
    assert [path.name for path in tmp_path.iterdir()] == ["plain"]


def test_closed_it_lets_a_successor_that_prepares_go(start):
    instance = start().open()
    sock = instance.successor(GIVE)
    received(sock)
    instance.takeover.close()
    assert sock.recv(1) == b""
    instance.takeover.close()
