"""Sessions of a real balancer from end to end: bulk, FINs, resets, a stop and a reload while they run, and what is counted of them."""

import contextlib
import re
import signal
import socket
import struct
import subprocess

import pytest
from carrying import ENVIRON, MIB, Carrier, Echo, End, connect, needs
from ports import free_port
from processes import PATIENCE_S, stage, until

TERM = signal.SIGTERM
RESET = struct.pack("ii", 1, 0)


@pytest.fixture
def world(tmp_path):
    with stage(tmp_path) as one:
        yield one


class Line:
    """A balancer of one listener and one backend, both ends of whose sessions are the test's."""

    def __init__(self, world, more: str = "", drain_s: float = 8) -> None:
        self.server = socket.create_server(("127.0.0.1", 0))
        self.server.settimeout(PATIENCE_S)
        self.port = free_port()
        self.config = self.to(self.server.getsockname()[1]) + more
        self.carrier = Carrier(world, self.config, drain_s=drain_s)

    def to(self, backend: int, protocol: str = "tcp") -> str:
        """The configuration that leads to a backend."""
        return f"""
[listeners.db]
address = "127.0.0.1:{self.port}"
protocol = "{protocol}"
default_pool = "db"
[pools.db]
backends = [{{ name = "one", address = "127.0.0.1:{backend}" }}]
"""

    def session(self) -> tuple[socket.socket, socket.socket]:
        """The two ends of a session."""
        client = connect(self.port)
        backend, _ = self.server.accept()
        backend.settimeout(PATIENCE_S)
        return client, backend

    def ended(self, count: int = 1) -> list[str]:
        """In what so many sessions have ended."""
        return [one["lb.outcome"] for one in self.carrier.wait_logged(count)]


@pytest.fixture
def line(world):
    one = Line(world)
    with one.server:
        yield one


def heard(sock: socket.socket) -> bytes:
    """All that comes until a FIN; a reset raises."""
    data = b""
    while more := sock.recv(65536):
        data += more
    return data


def say(sock: socket.socket, data: bytes) -> None:
    """Say all, and a FIN behind it."""
    sock.sendall(data)
    sock.shutdown(socket.SHUT_WR)


# Bulk.


def carry(line: Line, up_mib: int, down_mib: int) -> None:
    """Bulk both ways at once, byte by byte, in memory that does not grow once it has been warm."""
    before_kib = 0
    for up, down in [(8, 8), (up_mib, down_mib)]:
        client, backend = line.session()
        before_kib = line.carrier.running.memory_kib()
        ends = End(client, up), End(backend, down)
        for end in ends:
            end.begin()
        for end in ends:
            end.wait()
            end.sock.close()
        assert [(end.got, end.ok) for end in ends] == [(down * MIB, True), (up * MIB, True)]
    assert line.carrier.running.memory_kib() - before_kib < 4096
    assert line.ended(2) == ["OK", "OK"]
    last = line.carrier.logged()[-1]
    assert (last["http.request.body.size"], last["http.response.body.size"]) == (up_mib * MIB, down_mib * MIB)


@pytest.mark.long
def test_64_mib_go_both_ways_at_once_byte_by_byte(line):
    carry(line, 64, 64)


@pytest.mark.long
def test_a_gibibyte_comes_down_in_constant_memory(line):
    carry(line, 1, 1024)


# Ends.


@needs("socat")
def test_a_pipe_of_socat_hears_its_answer_behind_its_own_fin(line):
    words = ["socat", "-t", "60", "-", f"TCP:127.0.0.1:{line.port}"]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=ENVIRON) as socat:
        socat.stdin.write(b"question")
        socat.stdin.close()
        backend, _ = line.server.accept()
        with backend:
            backend.settimeout(PATIENCE_S)
            assert heard(backend) == b"question"
            backend.sendall(b"answer" * 100_000)
        assert socat.stdout.read() == b"answer" * 100_000
    assert line.ended() == ["OK"]


def test_the_fin_of_a_backend_leaves_the_client_to_say_the_rest(line):
    client, backend = line.session()
    with client, backend:
        say(backend, b"greeting")
        assert heard(client) == b"greeting"
        say(client, b"rest" * 100_000)
        assert heard(backend) == b"rest" * 100_000
    assert line.ended() == ["OK"]


@pytest.mark.parametrize("who", ["client", "backend"])
def test_a_reset_of_one_side_is_one_for_the_other(line, who):
    client, backend = line.session()
    resets, sees = (client, backend) if who == "client" else (backend, client)
    with sees:
        resets.sendall(b"some")
        assert sees.recv(4) == b"some"
        resets.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        resets.close()
        with pytest.raises(ConnectionResetError):
            heard(sees)
    assert line.ended() == ["CLIENT_GONE" if who == "client" else "CUT_SHORT"]
    assert line.carrier.metric("in_flight", pool="db") == 0


def test_a_client_whom_nobody_serves_is_reset_and_counted(line):
    line.server.close()
    with connect(line.port) as client, pytest.raises(ConnectionResetError):
        heard(client)
    [one] = line.carrier.wait_logged(1)
    assert (one["lb.outcome"], one["lb.backend"]) == ("REFUSED", "one")
    assert line.carrier.metric("attempts_total", backend="one", outcome="refused") >= 1


# A stop.


def test_sessions_that_run_end_by_themselves_within_the_drain_and_no_new_one_comes(world):
    line = Line(world, drain_s=30)
    client, backend = line.session()
    with client, backend, line.server:
        client.sendall(b"before")
        assert backend.recv(6) == b"before"
        running = line.carrier.running
        running.signal(TERM)
        running.wait_for("drain begins: waits for 1 client, 1 tunnel")
        with pytest.raises(ConnectionRefusedError):
            connect(line.port)
        say(client, b"after")
        assert heard(backend) == b"after"
        say(backend, b"answer")
        assert heard(client) == b"answer"
        assert running.wait() in (0, -TERM)
    assert "nothing was cut" in running.log
    assert line.ended() == ["OK"]


def test_at_the_end_of_the_drain_sessions_are_cut_and_both_sides_see_it(world):
    line = Line(world, drain_s=0.3)
    client, backend = line.session()
    with client, backend, line.server:
        line.carrier.running.signal(TERM)
        assert line.carrier.running.wait() in (0, -TERM)
        for sock in (client, backend):
            with pytest.raises(ConnectionResetError):
                heard(sock)
    assert line.ended() == ["CANCELLED"]


# A reload.


def test_sessions_that_run_outlive_another_configuration_and_new_ones_go_by_that(line):
    def shout(sock: socket.socket) -> None:
        while data := sock.recv(65536):
            sock.sendall(data.upper())

    client, backend = line.session()
    with client, backend, contextlib.closing(Echo(shout)) as loud:
        line.carrier.reload(line.to(loud.port))
        with connect(line.port) as other:
            say(other, b"by the new one")
            assert heard(other) == b"BY THE NEW ONE"
        client.sendall(b"by the old one")
        assert backend.recv(100) == b"by the old one"
        say(backend, b"end")
        assert heard(client) == b"end"
        say(client, b"")
        assert heard(backend) == b""
    assert line.ended(2) == ["OK", "OK"]


def test_a_listener_may_speak_http_from_a_reload_on_and_tcp_again(line, world):
    _, be = world.backend()
    client, backend = line.session()
    with client, backend:
        line.carrier.reload(line.to(be, "http"))
        with connect(line.port) as web:
            web.sendall(b"GET /whoami HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            assert heard(web).startswith(b"HTTP/1.1 200 ")
        line.carrier.reload(line.config)
        again, other = line.session()
        with again, other:
            say(again, b"\0no HTTP")
            assert heard(other) == b"\0no HTTP"
        say(client, b"still the first")
        assert heard(backend) == b"still the first"
    methods = [one["http.request.method"] for one in line.carrier.wait_logged(3)]
    assert sorted(methods) == ["GET", "TCP", "TCP"]


# What is told of them.


@pytest.mark.long
def test_the_log_the_metrics_and_lbctl_say_the_same(line):
    carrier = line.carrier
    running = [line.session() for _ in range(3)]
    until(lambda: carrier.metric("in_flight", pool="db") == 3, "three run")
    assert carrier.metric("backend_in_flight", pool="db", backend="one") == 3
    for size, (client, backend) in enumerate(running, 1):
        say(client, b"u" * size * 1000)
        assert len(heard(backend)) == size * 1000
        say(backend, b"d" * size * 7000)
        assert len(heard(client)) == size * 7000
        client.close()
        backend.close()
    logged = carrier.wait_logged(3)
    until(lambda: carrier.metric("in_flight", pool="db") == 0, "all are over")
    assert carrier.metric("requests_total", listener="db", pool="db", method="TCP") == len(logged) == 3
    assert carrier.metric("attempts_total", pool="db", outcome="ok") == 3
    for direction, key in (("up", "http.request.body.size"), ("down", "http.response.body.size")):
        said = [one[key] for one in logged]
        assert sorted(said) == [(1000 if direction == "up" else 7000) * size for size in (1, 2, 3)]
        assert carrier.metric("bytes_total", pool="db", direction=direction) == sum(said)
    assert "one" in carrier.lbctl("route", "TCP", "tcp://")
    for one in logged:
        assert "db/one" in carrier.lbctl("explain", one["http.request.id"])
    recent = carrier.lbctl("explain", "--last", "10")
    assert len(re.findall("TCP", recent)) >= 3
