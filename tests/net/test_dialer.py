"""Connecting: the addresses of a name in turn, and a failure named by its outcome."""

import contextlib
import errno
import os
import resource
import socket
from contextlib import closing

import pytest
from ports import free_port
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.error import ConnectionAborted
from world import World

from twisted_lb.core.address import TcpAddress, UnixAddress
from twisted_lb.core.outcome import Outcome
from twisted_lb.net import dialer as dialer_module
from twisted_lb.net.dialer import Dialer
from twisted_lb.net.names import REFRESH_S, Names


class FakeResolver:
    """Twisted's resolver: answers at once from a table, or when the test says so."""

    def __init__(self) -> None:
        self.table: dict[str, list[str]] = {}
        self.asked: list[str] = []
        self.waiting: list = []
        self.slow = False

    def resolveHostName(self, receiver, hostName, portNumber=0, addressTypes=None, transportSemantics="TCP"):
        self.asked.append(hostName)

        def answer():
            receiver.resolutionBegan(None)
            for host in self.table.get(hostName, []):
                kind = IPv6Address if ":" in host else IPv4Address
                receiver.addressResolved(kind("TCP", host, portNumber))
            receiver.resolutionComplete()

        if self.slow:
            self.waiting.append(answer)
        else:
            answer()
        return receiver


class Caller:
    """Who dials: a protocol, and what it was told."""

    def __init__(self) -> None:
        self.connected: list[tuple] = []
        self.failures: list[tuple[Outcome, str]] = []
        self.transport = None

    def makeConnection(self, transport):
        self.transport = transport
        self.connected.append(transport._sock.getpeername())

    def dataReceived(self, data):
        pass

    def readConnectionLost(self):
        pass

    def connectionLost(self, reason):
        pass


class Net:
    def __init__(self) -> None:
        self.world = World()
        self.resolver = FakeResolver()
        self.names = Names(self.resolver, self.world.engine.clock)
        self.dialer = Dialer(self.world.poller, self.world.deadlines, self.names, self.world.time.callLater)
        self.callers: list[Caller] = []

    def dial(self, address, timeout_s: float = 5.0, port: int = 0):
        caller = Caller()
        self.callers.append(caller)
        attempt = self.dialer.dial(address, caller, timeout_s, lambda *failure: caller.failures.append(failure), port)
        assert caller.failures == [], "it was told before dial returned"
        self.world.run()
        return caller, attempt

    def close(self) -> None:
        for caller in self.callers:
            if caller.transport is not None:
                caller.transport.abortConnection()
        self.world.close()


@pytest.fixture
def net():
    one = Net()
    yield one
    one.close()


@pytest.fixture
def server():
    with closing(socket.create_server(("127.0.0.1", 0))) as sock:
        yield sock.getsockname()[1]


def test_who_gave_up_on_a_name_server_does_not_wait_for_it(net):
    net.resolver.slow = True
    address = TcpAddress("app", 80)
    _, attempt = net.dial(address)
    caller, _ = net.dial(address, timeout_s=2.0)
    assert len(net.names._known[address].waiting) == 2
    attempt.cancel()
    net.world.advance(2.2)
    assert caller.failures == [(Outcome.CONNECT_TIMEOUT, "the name server did not answer in time")]
    assert not net.names._known[address].waiting


def test_a_literal_address_is_connected_without_asking_anybody(net, server):
    caller, _ = net.dial(TcpAddress("127.0.0.1", server))
    assert caller.connected == [("127.0.0.1", server)]
    assert net.resolver.asked == []


def test_nobody_listening_is_refused(net):
    caller, _ = net.dial(TcpAddress("127.0.0.1", free_port()))
    assert caller.failures == [(Outcome.REFUSED, "connection refused")]


def test_all_addresses_of_a_name_are_tried_and_the_good_one_is_remembered(net, server):
    net.resolver.table["app"] = ["127.0.0.9", "127.0.0.1"]
    address = TcpAddress("app", server)
    caller, _ = net.dial(address)
    assert caller.connected == [("127.0.0.1", server)]
    found: list = []
    net.names.find(address, found.extend)
    assert [where[0] for _, where in found] == ["127.0.0.1", "127.0.0.9"]


def test_refused_by_every_address_is_refused_and_the_name_is_asked_again(net):
    net.resolver.table["app"] = ["127.0.0.8", "127.0.0.9"]
    address = TcpAddress("app", free_port())
    for _ in range(2):
        caller, _ = net.dial(address)
        assert caller.failures == [(Outcome.REFUSED, "connection refused")]
    assert net.resolver.asked == ["app", "app"]


def test_a_name_that_does_not_resolve_is_refused(net):
    caller, _ = net.dial(TcpAddress("nowhere", 80))
    assert caller.failures == [(Outcome.REFUSED, "the name does not resolve")]


def test_a_resolver_that_raises_is_a_name_that_does_not_resolve(net, logged_errors):
    net.resolver.resolveHostName = lambda *words: 1 / 0
    caller, _ = net.dial(TcpAddress("app", 80))
    assert [outcome for outcome, _ in caller.failures] == [Outcome.REFUSED]
    assert len(logged_errors.take()) == 1


def test_a_resolver_that_never_answers_is_a_timeout(net):
    net.resolver.slow = True
    caller, _ = net.dial(TcpAddress("app", 80), timeout_s=1.0)
    net.world.advance(1.3)
    assert [outcome for outcome, _ in caller.failures] == [Outcome.CONNECT_TIMEOUT]
    net.resolver.waiting[0]()
    net.world.run()
    assert len(caller.failures) == 1


class HangingSocket:
    """A socket whose connect is never answered."""

    def __init__(self, family, kind):
        self._sock = socket.socket(family, kind)

    def __getattr__(self, name):
        return getattr(self._sock, name)

    def connect_ex(self, where):
        return errno.EINPROGRESS if where[0] == "127.0.0.66" else self._sock.connect_ex(where)


def hanging(monkeypatch):
    """127.0.0.66 swallows what is sent to it. Works where the module's names can be replaced: on the pure build."""
    if not dialer_module.__file__.endswith(".py"):
        pytest.skip("a compiled module's names cannot be replaced")

    class Fake:
        socket = HangingSocket

        def __getattr__(self, name):
            return getattr(socket, name)

    monkeypatch.setattr(dialer_module, "socket", Fake())
    # An unconnected socket is reported as hung up at once; nobody would be told anything by a real one.
    monkeypatch.setattr(dialer_module._Dialling, "ready", _ready_unless_hung)


_plain_ready = dialer_module._Dialling.ready


def _ready_unless_hung(self, flags):
    if self._trying[1][0] == "127.0.0.66":
        self._dialer.poller.park(self._sock.fileno())
    else:
        _plain_ready(self, flags)


def test_an_address_that_hangs_leaves_the_others_their_share_of_the_time(net, server, monkeypatch):
    hanging(monkeypatch)
    net.resolver.table["app"] = ["127.0.0.66", "127.0.0.1"]
    caller, _ = net.dial(TcpAddress("app", server), timeout_s=4.0)
    net.world.advance(1.9)
    assert caller.connected == []
    net.world.advance(0.4)
    assert caller.connected == [("127.0.0.1", server)]


def test_no_answer_from_any_address_is_a_timeout(net, monkeypatch):
    hanging(monkeypatch)
    caller, _ = net.dial(TcpAddress("127.0.0.66", 80), timeout_s=2.0)
    net.world.advance(1.9)
    assert caller.failures == []
    net.world.advance(0.4)
    assert caller.failures == [(Outcome.CONNECT_TIMEOUT, "no answer in time")]


def test_taken_back_nothing_is_told_any_more(net, server):
    caller = Caller()
    attempt = net.dialer.dial(
        TcpAddress("127.0.0.1", server), caller, 5.0, lambda *failure: caller.failures.append(failure)
    )
    attempt.cancel()
    net.world.advance(10)
    assert (caller.connected, caller.failures) == ([], [])


def test_a_failure_taken_back_before_it_is_told_is_not_told(net):
    caller = Caller()
    attempt = net.dialer.dial(TcpAddress("nowhere", 80), caller, 5.0, lambda *failure: caller.failures.append(failure))
    attempt.cancel()
    net.world.run()
    assert caller.failures == []


def test_a_unix_socket_is_connected(net, tmp_path):
    with closing(socket.socket(socket.AF_UNIX)) as sock:
        sock.bind(str(tmp_path / "s"))
        sock.listen()
        caller, _ = net.dial(UnixAddress(str(tmp_path / "s")))
        assert caller.connected == [str(tmp_path / "s")]
        assert caller.transport.peer_name() == "unix"


def test_a_unix_socket_that_is_not_there_is_refused(net, tmp_path):
    caller, _ = net.dial(UnixAddress(str(tmp_path / "nothing")))
    assert caller.failures == [(Outcome.REFUSED, "no such file or directory")]


def test_a_connect_that_the_kernel_does_not_permit_is_refused(net):
    # A broadcast address cannot be connected to by anybody: EACCES here, at once; elsewhere ENETUNREACH.
    caller, _ = net.dial(TcpAddress("255.255.255.255", 80))
    assert [outcome for outcome, _ in caller.failures] == [Outcome.REFUSED]


def test_an_address_that_this_machine_has_no_way_to_is_passed_over(net, server):
    """As ::1 of `localhost` is where IPv6 is switched off. A broadcast address is EACCES to everybody."""
    net.resolver.table["app"] = ["255.255.255.255", "127.0.0.1"]
    caller, _ = net.dial(TcpAddress("app", server))
    assert caller.connected == [("127.0.0.1", server)]


def test_no_way_to_one_address_and_refused_by_the_other_is_refused(net):
    net.resolver.table["app"] = ["255.255.255.255", "127.0.0.1"]
    caller, _ = net.dial(TcpAddress("app", free_port()))
    assert [outcome for outcome, _ in caller.failures] == [Outcome.REFUSED]


def test_out_of_descriptors_it_is_our_fault_and_no_address_is_blamed(net, server):
    net.resolver.table["app"] = ["127.0.0.8", "127.0.0.9"]
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    lowest = os.dup(0)
    os.close(lowest)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest, hard))
    try:
        caller = Caller()
        net.dialer.dial(TcpAddress("app", server), caller, 5.0, lambda *failure: caller.failures.append(failure))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    net.world.run()
    assert caller.failures == [(Outcome.LOCAL_FAILURE, "too many open files")]


@contextlib.contextmanager
def as_nobody():
    """Without root's right to open everything."""
    root = os.geteuid() == 0
    if root:
        os.seteuid(65534)
    try:
        yield
    finally:
        if root:
            os.seteuid(0)


def test_a_unix_socket_of_somebody_else_is_refused(net, tmp_path):
    path = str(tmp_path / "s")
    with closing(socket.socket(socket.AF_UNIX)) as sock:
        sock.bind(path)
        sock.listen()
        os.chmod(path, 0)
        with as_nobody():
            caller, _ = net.dial(UnixAddress(path))
    assert caller.failures == [(Outcome.REFUSED, "permission denied")]


@pytest.mark.parametrize(
    ("what", "text"),
    [
        ("a file where a folder should be", "not a directory"),
        ("a datagram socket", "protocol wrong type for socket"),
        ("a file", "connection refused"),
        ("nobody listens", "connection refused"),
        ("a link to itself", "too many levels of symbolic links"),
        ("a path too long for a socket", "af_unix path too long"),
    ],
)
def test_whatever_is_wrong_with_a_unix_socket_is_refused_and_said(net, tmp_path, monkeypatch, what, text):
    monkeypatch.chdir(tmp_path)
    path = "s"
    kind = socket.SOCK_DGRAM if what == "a datagram socket" else socket.SOCK_STREAM
    with closing(socket.socket(socket.AF_UNIX, kind)) as sock:
        if what.startswith("a file"):
            (tmp_path / "s").touch()
            path = "s/app.sock" if "folder" in what else "s"
        elif what == "a link to itself":
            (tmp_path / "s").symlink_to("s")
        elif what == "a path too long for a socket":
            path = "x" * 200
        else:
            sock.bind(path)
        caller, _ = net.dial(UnixAddress(path))
    assert caller.failures == [(Outcome.REFUSED, text)]


class FullServer:
    """A unix server whose backlog is full."""

    def __init__(self, path: str) -> None:
        self.address = UnixAddress(path)
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.bind(path)
        self.sock.listen(0)
        self._made: list[socket.socket] = []
        while True:
            one = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
            self._made.append(one)
            if one.connect_ex(path) == errno.EAGAIN:
                break

    def accept(self) -> None:
        """Make room for one."""
        self._made.append(self.sock.accept()[0])

    def close(self) -> None:
        for one in [self.sock, *self._made]:
            one.close()


@pytest.fixture
def full_server(tmp_path):
    with closing(FullServer(str(tmp_path / "s"))) as one:
        yield one


def test_a_full_backlog_of_a_unix_server_is_waited_for(net, full_server):
    caller, _ = net.dial(full_server.address)
    net.world.advance(1.0)
    assert (caller.connected, caller.failures) == ([], [])
    full_server.accept()
    net.world.advance(0.01)
    assert caller.connected == [full_server.address.path]


def test_a_backlog_that_stays_full_is_a_timeout_and_nobody_is_tried_any_more(net, full_server):
    caller, _ = net.dial(full_server.address, timeout_s=2.0)
    net.world.advance(1.9)
    assert caller.failures == []
    net.world.advance(0.3)
    assert caller.failures == [(Outcome.BACKLOG_FULL, "its backlog stays full")]
    full_server.accept()
    net.world.advance(1.0)
    assert caller.connected == []
    assert repr(net.dialer.backlogs) == "<Backlogs: 0 wait>"


def test_those_who_wait_for_a_full_backlog_are_connected_in_their_order(net, full_server):
    callers = [net.dial(full_server.address)[0] for _ in range(3)]
    for connected in range(1, 4):
        full_server.accept()
        net.world.advance(0.01)
        assert [bool(caller.connected) for caller in callers] == [True] * connected + [False] * (3 - connected)


def test_taken_back_while_the_backlog_is_full_nothing_is_connected(net, full_server):
    caller, attempt = net.dial(full_server.address)
    attempt.cancel()
    full_server.accept()
    net.world.advance(6)
    assert (caller.connected, caller.failures) == ([], [])


def test_a_server_that_goes_away_while_its_backlog_is_full_has_refused(net, full_server):
    caller, _ = net.dial(full_server.address)
    os.unlink(full_server.address.path)
    net.world.advance(0.02)
    assert caller.failures == [(Outcome.REFUSED, "no such file or directory")]


class Kernel:
    """A kernel that says what it is told to: an errno for an address at `connect`, later (`answers`), or for a family at
    `socket`. Works where a module's names can be replaced: on the pure build.
    """

    def __init__(self, monkeypatch) -> None:
        if not dialer_module.__file__.endswith(".py"):
            pytest.skip("a compiled module's names cannot be replaced")
        self.connects: dict[str, int] = {}
        self.answers: dict[str, int] = {}
        self.sockets: dict[int, int] = {}
        kernel = self

        class Socket:
            def __init__(self, family, kind):
                if code := kernel.sockets.get(family):
                    raise OSError(code, os.strerror(code))
                self._sock = socket.socket(family, kind)
                self._answer = 0

            def __getattr__(self, name):
                return getattr(self._sock, name)

            def connect_ex(self, where):
                self._answer = kernel.answers.get(where[0], 0)
                # An unconnected socket is reported as hung up at once: as if the answer came now.
                return (
                    errno.EINPROGRESS if self._answer else kernel.connects.get(where[0]) or self._sock.connect_ex(where)
                )

            def getsockopt(self, level, option):
                return self._answer or self._sock.getsockopt(level, option)

        class Module:
            socket = Socket

            def __getattr__(self, name):
                return getattr(socket, name)

        monkeypatch.setattr(dialer_module, "socket", Module())


@pytest.fixture
def kernel(monkeypatch):
    return Kernel(monkeypatch)


OURS = [errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.ENOSPC]
TCP_ERRORS = sorted(errno.errorcode.keys() - {errno.EINPROGRESS, errno.EALREADY, errno.EINTR})


@pytest.mark.parametrize("when", ["connects", "answers"])
@pytest.mark.parametrize("code", TCP_ERRORS, ids=errno.errorcode.__getitem__)
def test_every_error_of_a_connect_has_its_outcome_and_its_text(net, kernel, code, when):
    getattr(kernel, when)["10.0.0.1"] = code
    caller, _ = net.dial(TcpAddress("10.0.0.1", 80))
    expected = (
        Outcome.LOCAL_FAILURE
        if code in OURS
        else Outcome.CONNECT_TIMEOUT
        if code == errno.ETIMEDOUT
        else Outcome.REFUSED
    )
    assert caller.failures == [(expected, os.strerror(code).lower())]


@pytest.mark.parametrize("address", [TcpAddress("::1", 80), UnixAddress("/run/app")], ids=str)
@pytest.mark.parametrize(
    "code", [*OURS, errno.EACCES, errno.EAFNOSUPPORT, errno.EINVAL, errno.EPROTONOSUPPORT], ids=errno.errorcode.get
)
def test_every_error_of_making_a_socket_has_its_outcome_and_its_text(net, kernel, code, address):
    kernel.sockets = {socket.AF_INET6: code, socket.AF_UNIX: code}
    caller, _ = net.dial(address)
    expected = Outcome.LOCAL_FAILURE if code in OURS else Outcome.REFUSED
    assert caller.failures == [(expected, os.strerror(code).lower())]


@pytest.mark.parametrize("code", [errno.EADDRNOTAVAIL, errno.EAGAIN], ids=errno.errorcode.get)
def test_ports_that_are_used_up_are_nobodys_fault_where_a_connect_ever_succeeded(net, kernel, server, code):
    address = TcpAddress("127.0.0.1", server)
    assert net.dial(address)[0].connected
    kernel.connects["127.0.0.1"] = code
    for _ in range(2):
        caller, _ = net.dial(address)
        assert caller.failures == [(Outcome.NO_PORT, os.strerror(code).lower())]
    kernel.connects.clear()
    assert net.dial(address)[0].connected


def test_one_port_that_was_reached_says_nothing_of_another_one(net, kernel, server):
    assert net.dial(TcpAddress("127.0.0.1", server))[0].connected
    kernel.connects["127.0.0.1"] = errno.EADDRNOTAVAIL
    caller, _ = net.dial(TcpAddress("127.0.0.1", 9))
    assert [outcome for outcome, _ in caller.failures] == [Outcome.REFUSED]


def test_where_ports_to_one_address_are_used_up_the_next_one_is_tried(net, kernel, server):
    net.resolver.table["app"] = ["127.0.0.1", "127.0.0.2"]
    address = TcpAddress("app", server)
    assert net.dial(address)[0].connected
    kernel.connects = {"127.0.0.1": errno.EADDRNOTAVAIL, "127.0.0.2": errno.ECONNREFUSED}
    caller, _ = net.dial(address)
    assert caller.failures == [(Outcome.NO_PORT, "cannot assign requested address, connection refused")]


@pytest.mark.skipif(not dialer_module.__file__.endswith(".py"), reason="compiled, a method cannot be replaced")
def test_a_poller_that_can_watch_no_more_is_our_own_fault(net, server, monkeypatch):
    def add(*words):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(net.world.poller, "add", add)
    caller, _ = net.dial(TcpAddress("127.0.0.1", server))
    assert caller.failures == [(Outcome.LOCAL_FAILURE, "no space left on device")]


def test_the_time_runs_from_the_call_however_long_nothing_happened(net, monkeypatch):
    """The clock of the hot path is as old as the last event."""
    hanging(monkeypatch)
    net.world.time.now += 100.0
    caller, _ = net.dial(TcpAddress("127.0.0.66", 80), timeout_s=2.0)
    net.world.advance(1.9)
    assert caller.failures == []
    net.world.advance(0.3)
    assert [outcome for outcome, _ in caller.failures] == [Outcome.CONNECT_TIMEOUT]


def test_three_addresses_share_the_time_evenly(net, server, monkeypatch):
    hanging(monkeypatch)
    net.resolver.table["app"] = ["127.0.0.66", "127.0.0.66", "127.0.0.66"]
    monkeypatch.setattr(net.names, "find", lambda address, found: found([(socket.AF_INET, ("127.0.0.66", 1))] * 3))
    tried_at: list[float] = []
    plain = HangingSocket.connect_ex

    def connect_ex(self, where):
        tried_at.append(net.world.time.now)
        return plain(self, where)

    monkeypatch.setattr(HangingSocket, "connect_ex", connect_ex)
    began = net.world.time.now
    caller, _ = net.dial(TcpAddress("app", server), timeout_s=3.0)
    net.world.advance(4.0)
    assert [outcome for outcome, _ in caller.failures] == [Outcome.CONNECT_TIMEOUT]
    assert [at - began for at in tried_at] == pytest.approx([0.0, 1.0, 2.0], abs=0.15)


def test_a_protocol_that_cannot_start_is_closed(net, server, logged_errors):
    class Broken(Caller):
        lost = None

        def makeConnection(self, transport):
            raise ZeroDivisionError

        def connectionLost(self, reason):
            self.lost = reason

    broken = Broken()
    net.dialer.dial(TcpAddress("127.0.0.1", server), broken, 5.0, lambda *failure: broken.failures.append(failure))
    net.world.advance(6)
    assert broken.lost.check(ConnectionAborted)
    assert broken.failures == []
    assert len(logged_errors.take()) == 1


def test_taken_back_while_the_name_is_asked_for_nothing_is_connected(net, server):
    net.resolver.slow = True
    net.resolver.table["app"] = ["127.0.0.1"]
    caller, attempt = net.dial(TcpAddress("app", server))
    attempt.cancel()
    net.resolver.waiting.pop()()
    net.world.advance(6)
    assert (caller.connected, caller.failures) == ([], [])


def test_taken_back_after_it_is_connected_nothing_happens(net, server):
    caller, attempt = net.dial(TcpAddress("127.0.0.1", server))
    attempt.cancel()
    net.world.advance(6)
    assert caller.transport.connected
    assert caller.failures == []


def test_a_unix_connect_that_is_taken_back_before_it_is_told_is_not_told(net, tmp_path):
    with closing(socket.socket(socket.AF_UNIX)) as sock:
        sock.bind(str(tmp_path / "s"))
        sock.listen()
        caller = Caller()
        attempt = net.dialer.dial(
            UnixAddress(str(tmp_path / "s")), caller, 5.0, lambda *failure: caller.failures.append(failure)
        )
        attempt.cancel()
        net.world.advance(6)
        assert (caller.connected, caller.failures) == ([], [])


def found_by(net: Net, address: TcpAddress) -> list[str]:
    found: list = []
    net.world.engine.clock.read()
    net.names.find(address, found.extend)
    return [where[0] for _, where in found]


def test_answers_are_kept_and_renewed_behind_the_scenes(net):
    address = TcpAddress("app", 80)
    net.resolver.table["app"] = ["10.0.0.1"]
    assert found_by(net, address) == ["10.0.0.1"]
    assert found_by(net, address) == ["10.0.0.1"]
    assert len(net.resolver.asked) == 1
    net.resolver.slow = True
    net.resolver.table["app"] = ["10.0.0.2"]
    net.world.advance(REFRESH_S)
    assert found_by(net, address) == ["10.0.0.1"]
    net.resolver.waiting.pop()()
    assert found_by(net, address) == ["10.0.0.2"]
    assert len(net.resolver.asked) == 2


def test_a_resolver_that_is_down_takes_nobody_out(net):
    address = TcpAddress("app", 80)
    net.resolver.table["app"] = ["10.0.0.1"]
    found_by(net, address)
    net.resolver.table.clear()
    net.world.advance(REFRESH_S)
    assert found_by(net, address) == ["10.0.0.1"]


def test_those_who_wait_for_a_name_are_told_together(net):
    net.resolver.slow = True
    net.resolver.table["app"] = ["10.0.0.1", "10.0.0.1", "::1"]
    told: list[list] = [[], [], []]
    for one in told:
        net.names.find(TcpAddress("app", 80), one.extend)
    assert (told, net.resolver.asked) == ([[], [], []], ["app"])
    net.resolver.waiting.pop()()
    assert [[where[0] for _, where in one] for one in told] == [["10.0.0.1", "::1"]] * 3


def test_another_port_is_connected_to_at_the_address_that_is_in_force_and_says_nothing_of_it(net, server):
    net.resolver.table["app"] = ["127.0.0.9", "127.0.0.1"]
    caller, _ = net.dial(TcpAddress("app", free_port()), port=server)
    assert caller.connected == [("127.0.0.1", server)]
    net.resolver.table["db"] = ["127.0.0.1", "127.0.0.2"]
    address = TcpAddress("db", server)
    assert net.dial(address)[0].connected
    assert net.dial(address, port=free_port())[0].failures
    assert found_by(net, address) == ["127.0.0.1", "127.0.0.2"]
    assert net.resolver.asked.count("db") == 1, "that its other port is closed is no reason to look it up"


def test_another_port_of_an_address_is_that_port(net, server):
    caller, _ = net.dial(TcpAddress("127.0.0.1", free_port()), port=server)
    assert caller.connected == [("127.0.0.1", server)]


def test_a_unix_socket_has_no_other_port(net, tmp_path):
    with closing(socket.socket(socket.AF_UNIX)) as sock:
        sock.bind(str(tmp_path / "s"))
        sock.listen()
        assert net.dial(UnixAddress(str(tmp_path / "s")), port=9)[0].connected


def test_only_addresses_of_the_family_that_is_wanted_are_tried(net, server):
    net.resolver.table["app"] = ["::1", "127.0.0.1"]
    caller, _ = net.dial(TcpAddress("app", server, "ipv4"))
    assert caller.connected == [("127.0.0.1", server)]
    net.resolver.table["old"] = ["127.0.0.1"]
    caller, _ = net.dial(TcpAddress("old", server, "ipv6"))
    assert caller.failures == [(Outcome.REFUSED, "the name does not resolve to an IPv6 address")]
