"""Restarts under load: a new instance takes the sockets of the running one over, and no client notices."""

import http.client
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from ports import free_port
from processes import PATIENCE_S, Running, Stage, listening, stage, until

QUIT, TERM, KILL = signal.SIGQUIT, signal.SIGTERM, signal.SIGKILL


@pytest.fixture
def world(tmp_path):
    with stage(tmp_path) as one:
        yield one


class Caller(threading.Thread):
    """Asks again and again until it is told to stop, on connections that it keeps or not; notes whatever went wrong."""

    def __init__(self, port: int, path: str, *, keeps: bool) -> None:
        super().__init__(daemon=True)
        self.port, self.path, self.keeps = port, path, keeps
        self.answered = 0
        self.failures: list[str] = []
        self.enough = threading.Event()

    def run(self) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE_S)
        while not self.enough.is_set():
            try:
                connection.request("GET", self.path)
                response = connection.getresponse()
                body = response.read()
            except (OSError, http.client.HTTPException) as error:
                self.failures.append(repr(error))
                connection.close()
                continue
            if response.status != 200 or not body:
                self.failures.append(f"status {response.status}")
            self.answered += 1
            if not self.keeps:
                connection.close()
            self.enough.wait(0.005)  # instances that start need the machine too
        connection.close()


class Succession:
    """Instances that follow one another at one address, under load."""

    def __init__(self, world: Stage, *words: str) -> None:
        self.world = world
        self.port, self.status = free_port(), free_port()
        self.path = world.folder / "takeover"
        self.backends = [world.backend()[1] for _ in range(2)]
        self.words = words
        self.count = 0
        self.callers: list[Caller] = []

    def start(self, *more: str) -> Running:
        """Another instance."""
        self.count += 1
        addresses = [f"127.0.0.1:{port}" for port in self.backends]
        words = ["-p", str(self.port), "--interface", "127.0.0.1", "--status", f"127.0.0.1:{self.status}"]
        return self.world.twistd(
            f"lb-{self.count}", "lb", "-b", *addresses, *words, "--takeover", str(self.path), *self.words, *more
        )

    def load(self) -> None:
        """From now on clients ask, on new connections and on kept ones."""
        paths = ("/", "/?delay=0.05", "/?size=200000", "/?size=20000&chunked=1")
        self.callers = [Caller(self.port, path, keeps=keeps) for path in paths for keeps in (True, False)]
        for caller in self.callers:
            caller.start()
        self.more_answers()

    def more_answers(self) -> None:
        """Every client is answered a few times more."""
        wanted = [caller.answered + 3 for caller in self.callers]
        until(lambda: all(c.answered >= n for c, n in zip(self.callers, wanted, strict=True)), "more answers")

    def failures(self) -> list[str]:
        """What went wrong, when it is over."""
        for caller in self.callers:
            caller.enough.set()
        for caller in self.callers:
            caller.join(PATIENCE_S)
        return [failure for caller in self.callers for failure in caller.failures]

    def succeed(self, times: int) -> None:
        """Start one instance after the other, each when the one before it has taken over."""
        running = self.start()
        until(lambda: listening(self.port), "the first one")
        self.load()
        for _ in range(times):
            old, running = running, self.start()
            wanted = f"took over from process {old.pid}\n"
            until(lambda one=running, line=wanted: line in one.log or one.process.poll() is not None, "the next one")
            assert wanted in running.log, running.log
            assert old.wait() == 0, old.log
            assert f"process {running.pid} has taken over" in old.log
            for log in (old.log, running.log):
                assert "Traceback" not in log
            self.more_answers()
            old.end()
        failures = self.failures()
        assert failures == []
        running.signal(TERM)
        assert running.wait() == -TERM
        assert not self.path.exists()


def test_restarts_under_load_are_not_noticed(world):
    Succession(world, "-c", "0.2").succeed(3)


@pytest.mark.long
def test_two_hundred_restarts_under_load_are_not_noticed(world):
    Succession(world, "-c", "0.2").succeed(200)


def test_the_socket_is_its_users_alone(world):
    instances = Succession(world)
    instances.start()
    until(lambda: listening(instances.port) and instances.path.exists(), "it runs")
    assert instances.path.stat().st_mode & 0o777 == 0o600


@pytest.fixture
def preparing(world):
    """One that runs, and one that prepares to take over, until the silent backend answers its first check."""
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        instances = Succession(world)
        old = instances.start("-c", "0")
        until(lambda: listening(instances.port) and instances.path.exists(), "the first one")
        instances.load()
        config = world.folder / "patient.toml"
        config.write_text("ready_start_s = 60\n[health_check]\ninterval_s = 60\ntimeout_s = 60\n")
        instances.backends.append(silent.getsockname()[1])
        new = instances.start("--config", str(config))
        old.wait_for(f"process {new.pid} prepares to take over")
        yield instances, old, new, silent
        assert instances.failures() == []


def test_a_new_one_takes_over_when_its_checks_have_said_something_and_not_before(preparing):
    instances, old, new, silent = preparing
    connection, _ = silent.accept()
    instances.more_answers()
    assert "took over" not in new.log
    connection.close()
    new.wait_for(f"took over from process {old.pid}")
    assert old.wait() == 0


@pytest.mark.long
def test_one_that_dies_before_it_takes_over_changes_nothing(preparing):
    instances, old, new, _ = preparing
    new.signal(KILL)
    old.wait_for(f"process {new.pid} left before it took over")
    instances.more_answers()
    assert old.process.poll() is None
    assert instances.path.exists()


@pytest.mark.long
def test_one_that_is_stopped_before_it_takes_over_changes_nothing(preparing):
    instances, old, new, _ = preparing
    new.signal(TERM)
    assert new.wait() == -TERM
    old.wait_for(f"process {new.pid} left before it took over")
    instances.more_answers()
    assert "Traceback" not in new.log


@pytest.mark.long
def test_a_third_one_is_refused(preparing):
    instances, _, _, _ = preparing
    third = instances.start()
    assert third.wait() == 1
    assert third.log.splitlines()[-1] == (
        f"twistd lb: takeover {instances.path}: another instance is taking over already"
    )


@pytest.mark.long
def test_one_whose_predecessor_dies_meanwhile_serves_all_the_same(world):
    instances = Succession(world, "-c", "30")
    old = instances.start()
    until(lambda: listening(instances.port) and instances.path.exists(), "the first one")
    new = instances.start()
    old.wait_for(f"process {new.pid} prepares to take over")
    old.signal(KILL)
    client = http.client.HTTPConnection("127.0.0.1", instances.port, timeout=PATIENCE_S)
    client.request("GET", "/")
    assert client.getresponse().status == 200
    client.close()
    new.wait_for("took over")


def tunnel_through(port: int, server: socket.socket) -> tuple[socket.socket, socket.socket]:
    """Both ends of a tunnel through the balancer at this port."""
    client = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_S)
    client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n")
    backend, _ = server.accept()
    backend.recv(65536)
    backend.sendall(b"HTTP/1.1 101 Switching\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n")
    assert client.recv(65536).startswith(b"HTTP/1.1 101 ")
    return client, backend


@pytest.mark.long
def test_a_tunnel_outlives_its_instance(world):
    """What QUIT gives it, a takeover does too."""
    instances = Succession(world, "-c", "0")
    instances.words = (*instances.words, "--config", str(short_drain(world)))
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        instances.backends = [server.getsockname()[1]]
        old = instances.start()
        until(lambda: listening(instances.port) and instances.path.exists(), "the first one")
        client, backend = tunnel_through(instances.port, server)
        new = instances.start()
        new.wait_for("took over")
        time.sleep(0.5)  # longer than drain_s
        # While the old one drains, for an hour perhaps, whoever asks hears the new one.
        assert {ready(instances.status) for _ in range(20)} == {200}
        backend.sendall(b"\x81\x02hi")
        assert client.recv(100) == b"\x81\x02hi"
        assert old.process.poll() is None
        old.signal(QUIT)
        assert client.recv(100) == b"\x88\x02\x03\xe9"
        assert old.wait() == 0
        client.close()
        backend.close()


def ready(port: int) -> int:
    """The status that a probe is told."""
    client = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE_S)
    client.request("GET", "/-/ready")
    status = client.getresponse().status
    client.close()
    return status


def short_drain(world: Stage) -> Path:
    file = world.folder / "short.toml"
    file.write_text("[timeouts]\ndrain_s = 0.1\n")
    return file


# Two balancers in one process.

TWO = """
from twisted.application.service import Application

from twisted_lb.tap import load_balancer

application = Application("two")
for words in {words!r}:
    load_balancer(*words).setServiceParent(application)
"""


def two(world: Stage, name: str, ports: list[int], backends: list[int], paths: list[str]) -> Running:
    """A twistd with two balancers, each with its port, its backend and its path."""
    config = str(short_drain(world))
    words = [
        [*("-b", f"127.0.0.1:{backend}"), *("-p", str(port)), *("--interface", "127.0.0.1"), *("-c", "0"),
         *("--takeover", str(world.folder / path)), *("--config", config)]
        for port, backend, path in zip(ports, backends, paths, strict=True)
    ]  # fmt: skip
    file = world.folder / f"{name}.tac"
    file.write_text(TWO.format(words=words))
    return world.twistd(name, "-y", str(file))


@pytest.mark.long
def test_two_balancers_of_one_process_hand_over_both_and_neither_is_cut_short(world):
    ports = [free_port(), free_port()]
    _, sibling = world.backend()
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        backends = [sibling, server.getsockname()[1]]
        old = two(world, "old", ports, backends, ["one", "other"])
        until(lambda: all(listening(port) for port in ports), "both listen")
        callers = [Caller(ports[0], "/", keeps=keeps) for keeps in (True, False)]
        for caller in callers:
            caller.start()
        client, backend = tunnel_through(ports[1], server)
        new = two(world, "new", ports, backends, ["one", "other"])
        new.wait_for(f"took over from process {old.pid}\n", times=2)
        old.wait_for("drain begins: waits for 1 client, 1 tunnel, at most 3600 s")
        time.sleep(0.5)  # longer than drain_s
        backend.sendall(b"\x81\x02hi")
        assert client.recv(100) == b"\x81\x02hi"
        client.close()
        assert backend.recv(65536) == b""
        backend.close()
        assert old.wait() == 0
        again = tunnel_through(ports[1], server)
        for caller in callers:
            caller.enough.set()
            caller.join(PATIENCE_S)
        assert [caller.failures for caller in callers] == [[], []]
        for sock in again:
            sock.close()
    assert "Traceback" not in old.log + new.log


def test_a_path_that_two_balancers_of_one_process_have_is_one_line(world):
    one = two(world, "twice", [free_port(), free_port()], [1, 1], ["one", "one"])
    assert one.wait() == 1
    assert one.log.splitlines()[-1] == (
        f"twistd lb: takeover {world.folder / 'one'}: two balancers of one process have it, each needs a path of its own"
    )
    assert "Traceback" not in one.log
    assert not (world.folder / "one").exists()


@pytest.mark.long
def test_a_path_that_cannot_be_is_one_line(world):
    plain = world.folder / "plain"
    plain.write_text("mine\n")
    running = world.twistd("lb", "lb", "-b", "127.0.0.1:1", "-p", "0", "--takeover", str(plain))
    assert running.wait() == 1
    assert running.log.splitlines()[-1] == f"twistd lb: takeover {plain}: not a socket"
    assert plain.read_text() == "mine\n"


# A service manager.

ACTIVATE = """
import os, socket, sys

sock = socket.socket()
sock.bind(("127.0.0.1", int(sys.argv[1])))
sock.listen()
os.dup2(sock.fileno(), 3)
os.set_inheritable(3, True)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS="1", LISTEN_FDNAMES="lb.socket")
os.execv(sys.executable, [sys.executable, "-m", "twisted_lb", "lb", *sys.argv[2:]])
"""


@pytest.mark.long
def test_it_serves_on_the_socket_of_a_service_manager_and_tells_it(world, tmp_path):
    _, backend = world.backend()
    port = free_port()
    told_at = tmp_path / "notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(told_at))
        manager.settimeout(PATIENCE_S)
        words = [sys.executable, "-c", ACTIVATE, str(port), "-b", f"127.0.0.1:{backend}", "-c", "0.2"]
        environment = {**os.environ, "NOTIFY_SOCKET": str(told_at), "WATCHDOG_USEC": "200000"}
        with subprocess.Popen(words, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:
            try:
                told = heard_until(manager, b"READY=1")
                client = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE_S)
                client.request("GET", "/")
                assert client.getresponse().status == 200
                client.close()
                told += heard_until(manager, b"WATCHDOG=1")
                process.send_signal(signal.SIGHUP)
                reload = heard_until(manager, b"RELOADING=1")
                assert b"\nMONOTONIC_USEC=" in reload[-1]
                heard_until(manager, b"READY=1")
                process.terminate()
                heard_until(manager, b"STOPPING=1")
            finally:
                process.terminate()
            out = process.stdout.read()
            assert process.wait(PATIENCE_S) == -TERM
    assert b"Traceback" not in out
    assert f" on 127.0.0.1:{port}: ".encode() in out


def heard_until(manager: socket.socket, word: bytes) -> list[bytes]:
    """What a service manager is told, up to a message that begins so."""
    told = [manager.recv(4096)]
    while not told[-1].startswith(word):
        told.append(manager.recv(4096))
    return told
