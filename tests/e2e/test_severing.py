"""A real process cuts tunnels whose backend its checks find down, and both sides see a reset."""

import socket
import threading
from collections.abc import Iterator
from contextlib import closing

import pytest
from ports import free_port
from processes import Stage, listening, stage, until

OFFER = b"GET /chat HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: chess\r\n\r\n"
SWITCH = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: chess\r\nConnection: Upgrade\r\n\r\n"
PATIENCE_S = 30


class Server:
    """A backend that switches whoever offers it, echoes from then on, and answers its checks with a status."""

    def __init__(self) -> None:
        self.status = b"200 OK"
        self.ends: list[str] = []  # how tunnels ended, as the backend saw it
        self._sock = socket.create_server(("127.0.0.1", 0))
        self.port = self._sock.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self._sock.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(sock,), daemon=True).start()

    def _serve(self, sock: socket.socket) -> None:
        with closing(sock):
            head = b""
            while not head.endswith(b"\r\n\r\n"):
                data = sock.recv(65536)
                if not data:
                    return
                head += data
            if b"\r\nUpgrade: " not in head:
                sock.sendall(b"HTTP/1.1 %b\r\nContent-Length: 0\r\nConnection: close\r\n\r\n" % self.status)
                return
            sock.sendall(SWITCH)
            try:
                while data := sock.recv(65536):
                    sock.sendall(data)
                self.ends.append("fin")
            except ConnectionResetError:
                self.ends.append("reset")

    def close(self) -> None:
        self._sock.close()


@pytest.fixture
def server() -> Iterator[Server]:
    one = Server()
    yield one
    one.close()


@pytest.fixture
def world(tmp_path) -> Iterator[Stage]:
    with stage(tmp_path) as one:
        yield one


def test_a_tunnel_is_reset_on_both_sides_when_its_backend_is_down(world, server):
    port, access_log = free_port(), world.folder / "access.log"
    file = world.folder / "lb.toml"
    file.write_text(
        f"""
backends = ["127.0.0.1:{server.port}"]
close_when_down = true
upgrades = ["chess"]
listen = {{ port = {port}, interface = "127.0.0.1" }}
health_check = {{ interval_s = 0.2, kind = "http", path = "/well", fall = 1, rise = 1 }}
log = {{ file = "{access_log}", format = "{{status}} {{outcome}} {{state}} {{detail}}" }}
"""
    )
    balancer = world.twistd("lb", "lb", "--config", str(file))
    until(lambda: listening(port), "the balancer")
    with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_S) as client:
        client.sendall(OFFER)
        assert client.recv(65536).startswith(b"HTTP/1.1 101 ")
        client.sendall(b"e2e4")
        assert client.recv(65536) == b"e2e4"
        server.status = b"503 Service Unavailable"
        with pytest.raises(ConnectionResetError):
            client.recv(65536)
    until(lambda: server.ends == ["reset"], "the backend sees it too")
    balancer.wait_for(f"127.0.0.1:{server.port}: a tunnel is cut: its backend is down: status 503")
    until(lambda: access_log.exists() and "CANCELLED" in access_log.read_text(), "it is in the access log")
    assert "101 CANCELLED KD-- its\\x20backend\\x20is\\x20down:\\x20status\\x20503\n" in access_log.read_text()
