"""The generator at a constant rate does not omit what happens while a server stalls."""

import contextlib
import json
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Iterator

import pytest
from yardstick.contenders import built

pytestmark = pytest.mark.skipif(shutil.which("gcc") is None, reason="gcc is missing")

PATIENCE_S = 60
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


@pytest.fixture(scope="module")
def openloop(tmp_path_factory):
    return built("openloop", tmp_path_factory.mktemp("built"))


class Server:
    """Answers one request after the other, all connections together; at the request with that number it stalls once."""

    def __init__(self, answer: bytes = OK, stall_at: int = -1, stall_s: float = 0.0, close_after: int = 0) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.port = self._listener.getsockname()[1]
        self.answered = 0
        self._answer, self._stall_at, self._stall_s, self._close_after = answer, stall_at, stall_s, close_after
        self._turn = threading.Lock()
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                thread = threading.Thread(target=self._serve, args=(connection,))
                self._threads.append(thread)
                thread.start()

    def _serve(self, connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            served = 0
            while connection.recv(65536).endswith(b"\r\n\r\n"):
                with self._turn:
                    self.answered += 1
                    if self.answered == self._stall_at:
                        time.sleep(self._stall_s)
                    connection.sendall(self._answer)
                served += 1
                if served == self._close_after:
                    return

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for thread in self._threads:
            thread.join(PATIENCE_S)


@contextlib.contextmanager
def serving(**told) -> Iterator[Server]:
    server = Server(**told)
    try:
        yield server
    finally:
        server.close()


def generate(openloop, server: Server, *told) -> dict:
    words = [openloop, "127.0.0.1", server.port, *told]
    done = subprocess.run(
        [str(word) for word in words], input="", capture_output=True, text=True, timeout=PATIENCE_S, check=True
    )
    ready, line = done.stdout.splitlines()
    assert ready == "ready"
    return json.loads(line)


def test_what_was_due_while_the_server_stalled_is_as_late_as_it_was(openloop):
    """1,000 requests/s, and 0.5 s without an answer: each of the 300 requests that were due in its first 0.3 s took 0.2 s at
    least, however fast or slow this machine is. A generator that waits for answers would have sent none of them."""
    with serving(stall_at=200, stall_s=0.5) as server:
        found = generate(openloop, server, 1000, 1, 8)
    assert (found["requests"], found["errors"]) == (1000, 0)
    late = sum(count for greatest_us, count in found["histogram"] if greatest_us >= 200_000)
    assert late >= 299
    assert found["p90"] >= 200_000
    assert found["max"] >= 500_000


def test_the_requests_are_those_that_were_due_and_each_is_in_the_histogram(openloop):
    with serving() as server:
        found = generate(openloop, server, 500, 0.5, 4)
        assert server.answered == 250
    assert (found["requests"], found["errors"], found["reconnects"]) == (250, 0, 0)
    assert sum(count for _, count in found["histogram"]) == 250
    # Number 249 is due after 498 ms.
    assert found["us"] >= 498_000


def test_percentiles_are_those_of_the_histogram(openloop):
    with serving() as server:
        found = generate(openloop, server, 1000, 0.5, 4)
    greatest = [value for value, count in found["histogram"] for _ in range(count)]
    for key, rank in (("p50", 250), ("p90", 450), ("p99", 495)):
        assert found[key] == min(greatest[rank - 1], found["max"])
    assert greatest[-1] >= found["max"] >= greatest[-1] * 0.98


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 2\r\n\r\nno",
        b"HTTP/1.1 200 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nmuch more",
    ],
    ids=["not 200", "no length", "too long"],
)
def test_an_answer_that_is_not_the_one_is_an_error(openloop, answer):
    with serving(answer=answer) as server:
        found = generate(openloop, server, 200, 0.2, 2)
    assert (found["requests"], found["errors"]) == (40, 40)


def test_a_connection_that_the_server_closes_is_replaced(openloop):
    with serving(close_after=3) as server:
        found = generate(openloop, server, 200, 0.5, 2)
    assert found["requests"] == 100
    assert found["reconnects"] > 0


def test_a_closed_loop_has_so_many_under_way_and_goes_round_its_connections(openloop):
    with serving() as server:
        found = generate(openloop, server, 0, 0.2, 20, 2)
        assert server.answered == found["requests"] > 0
    assert found["errors"] == 0
