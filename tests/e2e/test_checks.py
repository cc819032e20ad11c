"""Health checks as a backend's own log shows them, and applications that are particular about how they are asked."""

import contextlib
import http.client
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from ports import free_port
from processes import PATIENCE_S, Running, Stage, listening, stage, until

PEERS = Path(__file__).parent / "peers"
TWO_MB = 2_000_000
# Whoever waits longer for the end of a connection than a check may take would see it end for that reason alone.
OFTEN = "interval_s = 0.05\ntimeout_s = 20"  # a busy machine is no answer too late
RARELY = 'interval_s = 60\ntimeout_s = 60\nport = {port}\nkind = "{kind}"'


@pytest.fixture
def world(tmp_path: Path) -> Iterator[Stage]:
    with stage(tmp_path) as one:
        yield one


def balancer(world: Stage, backend: int, *lines: str) -> tuple[Running, int]:
    """A balancer with one backend and these lines in its table `health_check`."""
    file = world.folder / "lb.toml"
    file.write_text("\n".join([f'backends = ["127.0.0.1:{backend}"]', "[health_check]", *lines]))
    return world.balancer("--config", str(file))


def program(world: Stage, port: int, *words: object) -> Path:
    """A program in Python that listens at `port`; the file of its log."""
    log = world.folder / f"{port}.log"
    with log.open("wb") as out:
        words = (sys.executable, "-u", *words)
        process = subprocess.Popen([str(word) for word in words], cwd=world.folder, stdout=out, stderr=out)
    world.others.append(process)
    until(lambda: listening(port) or process.poll() is not None, f"{words} listens")
    return log


# What backends see.


@pytest.mark.parametrize("page", [2, 20_000], ids=["a small page", "a page of several reads"])
def test_a_server_of_the_standard_library_complains_of_no_check(world, page):
    (world.folder / "index.html").write_bytes(b"y" * page)
    port = free_port()
    log = program(world, port, "-m", "http.server", port, "--bind", "127.0.0.1")
    balancer(world, port, OFTEN)
    until(lambda: log.read_text().count('"GET / HTTP/1.1" 200') > 20, "twenty checks")
    assert "Traceback" not in log.read_text()
    assert "Error" not in log.read_text()


class Server:
    """A server on a port of its own: `treat` gets each connection; what the peer does in the end is in `ends`."""

    def __init__(self, treat: Callable[[socket.socket], object]) -> None:
        self.ends: list[str] = []
        self._treat = treat
        self._sock = socket.create_server(("127.0.0.1", 0))
        self.port = self._sock.getsockname()[1]
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                sock, _ = self._sock.accept()
                threading.Thread(target=self._one, args=(sock,), daemon=True).start()

    def _one(self, sock: socket.socket) -> None:
        with sock:
            sock.settimeout(PATIENCE_S)
            try:
                self._treat(sock)
                self.ends.append("more" if sock.recv(1) else "fin")
            except OSError as error:
                self.ends.append(type(error).__name__)

    def close(self) -> None:
        self._sock.shutdown(socket.SHUT_RDWR)
        self._sock.close()


def head(sock: socket.socket) -> None:
    received = b""
    while not received.endswith(b"\r\n\r\n"):
        received += sock.recv(65536)


def answering(answer: bytes) -> Callable[[socket.socket], None]:
    def treat(sock: socket.socket) -> None:
        head(sock)
        sock.sendall(answer)

    return treat


PAGE = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n"


@pytest.mark.parametrize(
    ("kind", "treat"),
    [
        ("tcp", lambda sock: None),
        ("http", answering(PAGE % 5 + b"hello")),
        ("http", answering(PAGE % 65536 + b"y" * 65536)),
        ("http", answering(PAGE % TWO_MB + b"y" * 65537)),
        ("http", answering(b"HTTP/1.1 503 No\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nno\r\n0\r\n\r\n")),
        ("http", answering(b"HTTP/1.1 204 No Content\r\n\r\n")),
    ],
    ids=["connecting", "a page", "64 KiB", "64 KiB of 2 MB", "a sorry page", "no page"],
)
def test_a_check_ends_with_a_fin_when_all_is_said_that_is_read(world, kind, treat):
    """The server itself would keep the connection."""
    with closing(Server(treat)) as server:
        balancer(world, free_port(), RARELY.format(port=server.port, kind=kind))
        until(lambda: bool(server.ends), "the end of a check")
        assert server.ends[0] == "fin"


def test_a_page_of_2_mb_passes_and_is_not_read_to_its_end(world):
    sent: list[int] = []

    def treat(sock: socket.socket) -> None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 65536)
        head(sock)
        sock.sendall(PAGE % TWO_MB)
        sent.append(0)
        piece = b"y" * 16384
        while True:
            sent[-1] += sock.send(piece)

    with closing(Server(treat)) as server:
        running, _ = balancer(world, free_port(), RARELY.format(port=server.port, kind="http"), "fall = 1")
        until(lambda: bool(server.ends), "the end of a check")
        assert server.ends[0] in ("BrokenPipeError", "ConnectionResetError")
        assert 65536 < sent[0] < TWO_MB  # much of it is in buffers of the kernel
        assert "is down" not in running.log


# Applications that know their names.


def particular(world: Stage) -> int:
    """The port of an application that answers only to app.example.org, as Django does with ALLOWED_HOSTS."""
    port = free_port()
    program(world, port, PEERS / "particular.py", port)
    return port


def test_an_application_that_refuses_an_unknown_host_is_down_with_a_hint(world):
    port = particular(world)
    running, _ = balancer(world, port, OFTEN)
    running.wait_for(f"is down: status 400; if it does not know the Host 127.0.0.1:{port}: health_check.host")


def test_an_application_that_is_asked_by_its_name_serves(world):
    port = particular(world)
    running, front = balancer(world, port, OFTEN, 'initial = "down"', 'host = "app.example.org"')
    running.wait_for("is up: status 200")
    with closing(http.client.HTTPConnection("127.0.0.1", front, timeout=PATIENCE_S)) as connection:
        connection.request("GET", "/", headers={"Host": "app.example.org"})
        assert connection.getresponse().status == 200
    assert "status 400" not in running.log


def test_everything_else_that_may_be_asked_arrives(world):
    port = particular(world)
    lines = [
        'method = "OPTIONS"',
        'path = "/strict?x=1"',
        'host = "app.example.org"',
        'headers = { Authorization = "Bearer opensesame" }',
        "expect_statuses = [401, 207]",
        'expect_text = "all is well"',
        f"port = {port}",
        'initial = "down"',
    ]
    running, _ = balancer(world, free_port(), OFTEN, *lines)
    running.wait_for("is up: status 207, with the expected text")
