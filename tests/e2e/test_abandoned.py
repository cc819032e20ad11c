"""A real backend whose client has gone: it is told by a FIN, may answer all the same, and has its place until then."""

import socket

import pytest
from ports import free_port
from processes import listening, stage, until

GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nok\n"


@pytest.fixture
def backend():
    with socket.socket() as listener:
        listener.settimeout(20)
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield listener


def accepted(listener: socket.socket) -> socket.socket:
    connection, _ = listener.accept()
    connection.settimeout(20)
    while not connection.recv(65536).endswith(b"\r\n\r\n"):
        pass
    return connection


def test_a_worker_hears_that_its_client_has_gone_and_has_its_place_until_it_has_answered(tmp_path, backend):
    port = free_port()
    where = backend.getsockname()[1]
    (tmp_path / "lb.toml").write_text(
        f'backends = ["127.0.0.1:{where}"]\nmax_in_flight = 1\nabandoned_s = 60\n'
        f'listen = {{ interface = "127.0.0.1", port = {port} }}\nhealth_check = {{ interval_s = 0 }}\n'
    )
    with stage(tmp_path) as world:
        world.twistd("lb", "-n", "lb", "--config", "lb.toml")
        until(lambda: listening(port), "it listens")
        leaves = socket.create_connection(("127.0.0.1", port), 20)
        leaves.sendall(GET)
        worker = accepted(backend)
        leaves.close()
        assert worker.recv(1) == b"", "a FIN, and no reset"
        with socket.create_connection(("127.0.0.1", port), 20) as waits:
            waits.sendall(GET)
            backend.settimeout(0.5)
            with pytest.raises(TimeoutError):
                backend.accept()
            worker.sendall(ANSWER)
            backend.settimeout(20)
            with accepted(backend) as again:
                again.sendall(ANSWER)
                assert waits.recv(65536).startswith(b"HTTP/1.1 200 OK")
        worker.close()
