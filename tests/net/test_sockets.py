"""Listening sockets: inherited from a service manager, and handed from one process to another."""

import errno
import grp
import os
import socket
import threading
from pathlib import Path

import pytest

from twisted_lb.net import sockets
from twisted_lb.net.sockets import (
    BUSY,
    GIVE,
    TAKEN,
    Held,
    bind_tcp,
    bind_unix,
    bound_tcp,
    hand,
    inherited,
    listens,
    predecessor_at,
)
from twisted_lb.sibling.tap import _bound as sibling_bound

PID = os.getpid()


# Inherited. The first descriptor of a service manager is 3; here it is whatever is free.


@pytest.fixture
def given(monkeypatch):
    """Descriptors in a row, as a service manager would have left them: `given(a, b)` is the number of the first."""
    opened: list[int] = []

    def one(*socks) -> None:
        first = 200
        for i, sock in enumerate(socks):
            os.dup2(sock.fileno(), first + i, inheritable=True)
            opened.append(first + i)
            sock.close()
        monkeypatch.setattr(sockets, "_FIRST_FD", first)

    yield one
    for fd in opened:
        try:
            os.close(fd)
        except OSError:
            pass  # a socket that was adopted, and is closed


def environ(count: int, names: str | None = None, pid: int = PID) -> dict[str, str]:
    named = {} if names is None else {"LISTEN_FDNAMES": names}
    return {"LISTEN_PID": str(pid), "LISTEN_FDS": str(count), "OTHER": "stays", **named}


def closed(held: list[Held]) -> list[str]:
    for one in held:
        one.sock.close()
    return [one.name for one in held]


def test_sockets_of_a_service_manager_come_with_their_names_and_the_variables_go(given):
    given(bind_tcp("127.0.0.1", 0), bind_tcp("127.0.0.1", 0))
    variables = environ(2, "lb.socket:status")
    found = inherited(variables, PID)
    assert variables == {"OTHER": "stays"}
    assert [one.where for one in found] == ["", ""]
    for one in found:
        assert not one.sock.getblocking()
        assert not one.sock.get_inheritable()
        assert one.sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
    assert closed(found) == ["lb.socket", "status"]


def test_names_may_be_left_out(given):
    given(bind_tcp("127.0.0.1", 0))
    assert closed(inherited(environ(1), PID)) == [""]


def test_a_unix_socket_is_one_too(given, tmp_path):
    given(bind_unix(str(tmp_path / "lb")))
    assert closed(inherited(environ(1, "lb"), PID)) == ["lb"]


def test_who_may_not_say_who_may_connect_leaves_no_file(monkeypatch, tmp_path):
    """As a process that has given up its privileges, for a group that is not its own."""

    def refuse(path, uid, gid):
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "chown", refuse)
    with pytest.raises(PermissionError):
        bind_unix(str(tmp_path / "lb"), 0o660, grp.getgrgid(os.getgid()).gr_name)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("variables", [{}, environ(1, pid=PID + 1), environ(0), {**environ(1), "LISTEN_FDS": "many"}])
def test_none_are_taken_that_are_meant_for_others_or_are_not_there(variables):
    before = dict(variables)
    assert inherited(variables, PID) == []
    assert not {name for name in variables if name.startswith("LISTEN_")}
    assert variables.get("OTHER") == before.get("OTHER")


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (socket.socket, "LISTEN_FDS: descriptor 201 b: not a listening stream socket"),
        (lambda: socket.socket(type=socket.SOCK_DGRAM), "LISTEN_FDS: descriptor 201 b: not a listening stream socket"),
        (lambda: open(os.devnull), "LISTEN_FDS: descriptor 201 b: Socket operation on non-socket"),  # noqa: SIM115
    ],
)
def test_what_is_no_listening_socket_is_said(given, make, said):
    given(bind_tcp("127.0.0.1", 0), make())
    with pytest.raises(ValueError) as caught:
        inherited(environ(2, "a:b"), PID)
    assert str(caught.value) == said


# Handed on.


class Instance:
    """A running instance, in a thread: it takes one connection in and answers what it is told to."""

    def __init__(self, path: str, answer) -> None:
        self.path = path
        self.server = bind_unix(path, 0o600)
        self.server.setblocking(True)
        self.heard: list[bytes] = []
        self._answer = answer
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        connection, _ = self.server.accept()
        with connection:
            self.heard.append(connection.recv(64))
            self._answer(connection)
            self.heard.append(connection.recv(64))

    def end(self) -> list[bytes]:
        self._thread.join()
        self.server.close()
        return self.heard


def test_sockets_pass_from_one_process_to_another_with_what_they_are(tmp_path):
    mine = [Held("default", "port 80", bind_tcp("127.0.0.1", 0)), Held("status", "", bind_tcp("127.0.0.1", 0))]
    running = Instance(str(tmp_path / "lb"), lambda connection: hand(connection, mine))
    old = predecessor_at(running.path)
    assert old is not None
    assert old.pid == PID
    assert [(one.name, one.where) for one in old.held] == [("default", "port 80"), ("status", "")]
    assert [one.sock.getsockname() for one in old.held] == [one.sock.getsockname() for one in mine]
    closed(mine)
    with socket.create_connection(old.held[0].sock.getsockname()):
        old.held[0].sock.setblocking(True)
        old.held[0].sock.accept()[0].close()
    old.relieve()
    closed(old.held)
    assert running.end() == [GIVE, TAKEN]


def test_to_leave_a_predecessor_alone_says_nothing(tmp_path):
    mine = [Held("default", "port 80", bind_tcp("127.0.0.1", 0))]
    running = Instance(str(tmp_path / "lb"), lambda connection: hand(connection, mine))
    old = predecessor_at(running.path)
    assert old is not None
    old.close()
    assert running.end() == [GIVE, b""]
    closed([*mine, *old.held])


def test_a_predecessor_that_has_died_need_not_be_told(tmp_path):
    mine = [Held("default", "port 80", bind_tcp("127.0.0.1", 0))]
    with bind_unix(str(tmp_path / "lb")) as server:
        connection = socket.socket(socket.AF_UNIX)
        connection.connect(str(tmp_path / "lb"))
        server.accept()[0].close()
    sockets.Predecessor(connection, mine).relieve()
    closed(mine)


def test_where_nobody_listens_there_is_no_predecessor(tmp_path):
    path = str(tmp_path / "lb")
    assert (predecessor_at(path), listens(path)) == (None, False)
    server = bind_unix(path)
    assert listens(path)
    server.close()
    assert (predecessor_at(path), listens(path)) == (None, False)


def not_sockets(connection: socket.socket) -> None:
    with open(os.devnull) as file:
        socket.send_fds(connection, [b'[["default", "port 80"]]\n'], [file.fileno()])


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (lambda connection: connection.send(BUSY), "another instance is taking over already"),
        (lambda connection: connection.send(b"[]\n"), "the running instance does not hand its sockets over"),
        (lambda connection: connection.send(b"220 hello\r\n"), "the running instance does not hand its sockets over"),
        (lambda connection: connection.shutdown(socket.SHUT_WR), "the running instance does not hand its sockets over"),
        (lambda connection: connection.send(b"[1]\n"), "the running instance does not hand its sockets over"),
        (lambda connection: connection.send(b'[["default", "port 80"]]\n'), "the running instance does not hand"),
        (not_sockets, "Socket operation on non-socket"),
    ],
    ids=["busy", "none", "another program", "a close", "garbage", "no descriptor", "a file"],
)
def test_an_answer_that_is_none_is_said_and_nothing_is_left(tmp_path, answer, said):
    before = descriptors()
    running = Instance(str(tmp_path / "lb"), answer)
    with pytest.raises(ValueError, match=said):
        predecessor_at(running.path)
    running.end()
    assert descriptors() == before


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def test_one_that_does_not_answer_is_not_waited_for_long(tmp_path, monkeypatch):
    monkeypatch.setattr(sockets, "_PATIENCE_S", 0.01)
    with bind_unix(str(tmp_path / "lb")), pytest.raises(ValueError, match="the running instance does not answer"):
        predecessor_at(str(tmp_path / "lb"))


def test_another_users_is_not_trusted(tmp_path, monkeypatch):
    monkeypatch.setattr(sockets, "may_meet", lambda uid: False)
    with bind_unix(str(tmp_path / "lb")), pytest.raises(ValueError, match="another user's"):
        predecessor_at(str(tmp_path / "lb"))


@pytest.mark.parametrize(
    ("own", "other", "may"), [(1000, 1000, True), (1000, 1001, False), (0, 1000, True), (1000, 0, True)]
)
def test_sockets_pass_within_a_user_and_to_and_from_root(monkeypatch, own, other, may):
    monkeypatch.setattr(os, "geteuid", lambda: own)
    assert sockets.may_meet(other) is may


@pytest.mark.parametrize("bind", [bound_tcp, sibling_bound])
def test_who_only_looks_whether_a_port_can_be_had_does_not_let_clients_in(bind):
    with bind("127.0.0.1", 0) as looking, socket.socket() as client:
        assert client.connect_ex(looking.getsockname()) == errno.ECONNREFUSED
        assert looking.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN) == 0


@pytest.mark.parametrize("bind", [bound_tcp, sibling_bound])
def test_a_port_on_which_somebody_listens_cannot_be_had(bind):
    with bind_tcp("127.0.0.1", 0) as taken, pytest.raises(OSError, match="in use"):
        bind("127.0.0.1", taken.getsockname()[1])
