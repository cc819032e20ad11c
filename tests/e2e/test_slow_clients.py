"""A crowd of slow clients in front of gunicorn's synchronous workers: whoever is fast is served all the same, as behind NGINX."""

import contextlib
import http.client
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from ports import free_port
from processes import PATIENCE_S, Stage, listening, stage, until

PEERS = Path(__file__).parent / "peers"
WORKERS = 2
UPLOADERS = 200
READERS = 8
BODY = 32 * 1024
ANSWER_KIB = 12_000  # more than all buffers of the kernel hold, which grow to 4 and 6 MiB
CONFIG = """
backends = ["127.0.0.1:{}"]
max_in_flight = {}
health_check = {{ interval_s = 0 }}
queue = {{ timeout_s = {} }}
buffer_request_bytes = {}
buffer_response_bytes = {}
"""
NGINX = """
{user}
pid {folder}/nginx.pid;
error_log {folder}/nginx-error.log;
events {{ worker_connections 1024; }}
http {{
  access_log off;
  client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/f; uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
  server {{ listen 127.0.0.1:{port}; client_max_body_size 0; location / {{ proxy_pass http://127.0.0.1:{backend}; }} }}
}}
"""


@pytest.fixture(scope="module")
def gunicorn(tmp_path_factory) -> Iterator[int]:
    """The port of gunicorn with two synchronous workers, each of which serves one request at a time, and to its end."""
    folder, port = tmp_path_factory.mktemp("gunicorn"), free_port()
    words = ["--workers", str(WORKERS), "--timeout", "300", "--no-control-socket", "--pythonpath", str(PEERS)]
    with stage(folder) as world, (folder / "log").open("wb") as out:
        world.others.append(
            subprocess.Popen(
                [
                    sys.executable,
                    "-m",
                    "gunicorn",
                    "--bind",
                    f"127.0.0.1:{port}",
                    *words,
                    "slow_clients_app:application",
                ],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        )
        until(lambda: listening(port), "gunicorn")
        assert ask(port).status == 200
        yield port
        world.others[0].terminate()
        world.others[0].wait(PATIENCE_S)


@pytest.fixture
def world(tmp_path) -> Iterator[Stage]:
    with stage(tmp_path) as one:
        yield one


def ask(port: int, path: str = "/") -> http.client.HTTPResponse:
    """Somebody fast asks, and has the whole answer."""
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE_S)) as connection:
        connection.request("GET", path)
        response = connection.getresponse()
        response.read()
        return response


class Crowd:
    """Slow clients: some have sent half of their body, the others read nothing of a long answer."""

    def __init__(self, port: int, uploaders: int, readers: int) -> None:
        self.uploaders = [socket.create_connection(("127.0.0.1", port), PATIENCE_S) for _ in range(uploaders)]
        for one in self.uploaders:
            head = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % BODY
            one.sendall(head + b"x" * (BODY // 2))
        self.readers = []
        for _ in range(readers):
            one = socket.socket()
            one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            one.settimeout(PATIENCE_S)
            one.connect(("127.0.0.1", port))
            one.sendall(b"GET /%d HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n" % ANSWER_KIB)
            assert one.recv(1)
            self.readers.append(one)

    def finish(self) -> tuple[int, int]:
        """Send and read the rest; how many were answered whole, of both."""
        uploaded = read = 0
        for one in self.uploaders:
            one.sendall(b"x" * (BODY - BODY // 2))
            answer = http.client.HTTPResponse(one)
            answer.begin()
            uploaded += answer.status == 200 and answer.getheader("X-Read") == str(BODY)
        for one in self.readers:
            heard = 1
            while data := one.recv(1 << 20):
                heard += len(data)
            read += heard > 1024 * ANSWER_KIB
        return uploaded, read

    def close(self) -> None:
        for one in (*self.uploaders, *self.readers):
            one.close()


def balancer(world: Stage, gunicorn: int, *, timeout_s: float, request: int, response: int) -> int:
    (world.folder / "lb.toml").write_text(CONFIG.format(gunicorn, WORKERS, timeout_s, request, response))
    return world.balancer("--config", "lb.toml")[1]


def nginx(world: Stage, gunicorn: int) -> int:
    program = shutil.which("nginx")
    if program is None:
        pytest.skip("nginx is not installed")
    port = free_port()
    config = world.folder / "nginx.conf"
    config.write_text(
        NGINX.format(user="user root;" if os.getuid() == 0 else "", folder=world.folder, port=port, backend=gunicorn)
    )
    world.others.append(subprocess.Popen([program, "-c", str(config), "-g", "daemon off;"], start_new_session=True))
    until(lambda: listening(port), "nginx")
    return port


@pytest.mark.parametrize("by", ["twisted_lb", "nginx"])
def test_behind_200_slow_uploaders_and_readers_a_fast_client_is_served(world, gunicorn, by):
    if by == "nginx":
        port = nginx(world, gunicorn)
    else:
        port = balancer(world, gunicorn, timeout_s=60, request=65536, response=16 << 20)
    crowd = Crowd(port, UPLOADERS, READERS)
    # None of the crowd goes on before all of these are answered.
    assert [ask(port).status for _ in range(20)] == [200] * 20
    assert crowd.finish() == (UPLOADERS, READERS)
    crowd.close()
    if by == "nginx":
        world.others[-1].terminate()
        world.others[-1].wait(PATIENCE_S)


def test_without_buffers_two_of_them_hold_all_workers(world, gunicorn):
    port = balancer(world, gunicorn, timeout_s=0.5, request=0, response=0)
    for uploaders, readers in ((WORKERS, 0), (0, WORKERS)):
        crowd = Crowd(port, uploaders, readers)
        assert ask(port).status == 503
        assert crowd.finish() == (uploaders, readers)
        crowd.close()
