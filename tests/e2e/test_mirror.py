"""A real mirror that hangs, is refused, and is gone: no client notices it, and a stop waits for none of it."""

import http.client
import re
import socket
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from ports import free_port
from processes import PATIENCE_S, TERM, listening, stage, until

LONG = bytes(range(256)) * 200  # 51,200 bytes


class Hanging:
    """A server that takes connections and what is sent on them, and never answers."""

    def __init__(self) -> None:
        self.heard: list[bytearray] = []
        self.open = 0
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port = self._socket.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            self.heard.append(bytearray())
            self.open += 1
            threading.Thread(target=self._listen, args=(connection, self.heard[-1]), daemon=True).start()

    def _listen(self, connection: socket.socket, heard: bytearray) -> None:
        with closing(connection):
            try:
                while data := connection.recv(65536):
                    heard += data
            except ConnectionError:
                pass
            self.open -= 1

    def close(self) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()


@contextmanager
def hanging() -> Iterator[Hanging]:
    server = Hanging()
    try:
        yield server
    finally:
        server.close()


def balancer(folder: Path, port: int, live: int, mirror: int, more: str = "") -> None:
    (folder / "lb.toml").write_text(
        f'[listeners.web]\naddress = "127.0.0.1:{port}"\ndefault_pool = "live"\n'
        f'[pools.live]\nbackends = ["127.0.0.1:{live}"]\n'
        f'[pools.live.mirror]\nto = "next"\nmethods = "*"\n{more}\n'
        f'[pools.next]\nbackends = ["127.0.0.1:{mirror}"]\n'
        "[defaults.pool]\nhealth_check = { interval_s = 0 }\n[timeouts]\ndrain_s = 30\n"
    )


def ask(port: int, method: str, path: str, body: bytes | None = None) -> tuple[int, bytes]:
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE_S)) as connection:
        connection.request(method, path, body)
        response = connection.getresponse()
        return response.status, response.read()


def test_a_mirror_that_hangs_gets_everything_and_no_client_notices_and_no_stop_waits(tmp_path):
    port = free_port()
    with stage(tmp_path) as world, hanging() as mirror:
        _, live = world.backend()
        balancer(tmp_path, port, live, mirror.port, "most = 3\ntimeout_s = 3600")
        lb = world.twistd("lb", "lb", "--config", "lb.toml")
        until(lambda: listening(port), "the balancer")
        for number in range(20):
            assert ask(port, "POST", f"/{number}", LONG)[0] == 200
        until(lambda: [one.endswith(LONG) for one in mirror.heard] == [True] * 3, "three are mirrored, and no more")
        assert all(b"\r\nX-Mirrored: live\r\n" in one for one in mirror.heard)
        assert mirror.open == 3
        lb.signal(TERM)
        lb.wait()
        assert re.search("drain ended after [0-9.]+ s, nothing was cut", lb.log), lb.log
        until(lambda: mirror.open == 0, "their connections are closed")


def test_a_mirror_that_nobody_answers_for_is_no_reason_for_anything(tmp_path):
    port, nobody = free_port(), free_port()
    with stage(tmp_path) as world:
        _, live = world.backend()
        balancer(tmp_path, port, live, nobody)
        world.twistd("lb", "lb", "--config", "lb.toml")
        until(lambda: listening(port), "the balancer")
        assert [ask(port, "GET", "/")[0] for _ in range(20)] == [200] * 20


def test_a_mirror_gets_each_long_body_whole(tmp_path):
    port, body = free_port(), LONG * 20
    with stage(tmp_path) as world, hanging() as mirror:
        _, live = world.backend()
        balancer(tmp_path, port, live, mirror.port, "body_bytes = 2_000_000")
        world.twistd("lb", "lb", "--config", "lb.toml")
        until(lambda: listening(port), "the balancer")
        for _ in range(5):
            assert ask(port, "POST", "/", body)[0] == 200
        until(lambda: [one.partition(b"\r\n\r\n")[2] == body for one in mirror.heard] == [True] * 5, "all of it")
