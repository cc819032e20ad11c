"""Programs that others wrote, through a real balancer: clients on one side, servers on the other."""

import contextlib
import hashlib
import json
import os
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from ports import free_port
from processes import TERM, Stage, listening, stage, until

PEERS = Path(__file__).parent / "peers"
BLOCK = bytes(range(256)) * 256
TIMEOUT_S = 15
# Debian keeps nginx where users do not look.
NGINX = shutil.which("nginx", path=os.environ.get("PATH", "") + ":/usr/sbin")
# Whatever proxy this machine is told to use, nobody here goes through it.
ENVIRON = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}

needs_curl = pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
needs_node = pytest.mark.skipif(shutil.which("node") is None, reason="node is not installed")
needs_nginx = pytest.mark.skipif(NGINX is None, reason="nginx is not installed")


def start(world: Stage, *words: object, ready: Callable[[], bool]) -> None:
    """A program of somebody else's, until `ready`."""
    log = world.folder / f"{len(world.others)}.log"
    with log.open("wb") as out:
        process = subprocess.Popen(
            [str(word) for word in words],
            cwd=world.folder,
            env=ENVIRON,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
        )
    world.others.append(process)
    until(lambda: ready() or process.poll() is not None, f"{words} listens")
    assert process.poll() is None, log.read_text()


def gunicorn(world: Stage) -> str:
    pytest.importorskip("gunicorn", exc_type=ImportError)
    return _gunicorn(world, f"127.0.0.1:{free_port()}")


def gunicorn_unix(world: Stage) -> str:
    pytest.importorskip("gunicorn", exc_type=ImportError)
    return _gunicorn(world, f"unix:{world.folder}/app.sock")


def _gunicorn(world: Stage, address: str) -> str:
    words = ["--worker-class", "gthread", "--threads", 8, "--no-control-socket", "--pythonpath", PEERS]
    path = Path(address.removeprefix("unix:"))
    start(
        world,
        *[sys.executable, "-m", "gunicorn", "--bind", address, *words, "wsgi_app:app"],
        ready=path.exists if address.startswith("unix:") else lambda: listening(int(address.rpartition(":")[2])),
    )
    return address


def uvicorn_h11(world: Stage) -> str:
    return _uvicorn(world, "h11")


def uvicorn_httptools(world: Stage) -> str:
    return _uvicorn(world, "httptools")


def _uvicorn(world: Stage, parser: str) -> str:
    pytest.importorskip("uvicorn", exc_type=ImportError)
    pytest.importorskip(parser, exc_type=ImportError)
    port = free_port()
    words = ["--host", "127.0.0.1", "--port", port, "--http", parser, "--app-dir", PEERS]
    start(world, sys.executable, "-m", "uvicorn", *words, "asgi_app:app", ready=lambda: listening(port))
    return f"127.0.0.1:{port}"


@pytest.fixture(scope="module", params=[gunicorn, gunicorn_unix, uvicorn_h11, uvicorn_httptools])
def origin(request, tmp_path_factory) -> Iterator[int]:
    """The port of a balancer with one backend, which answers what wsgi_app.py and asgi_app.py say."""
    with stage(tmp_path_factory.mktemp(request.param.__name__)) as world:
        balancer, port = world.balancer("-b", request.param(world))
        yield port
        assert listening(port), f"the balancer is gone:\n{balancer.log}"
        assert "Traceback" not in balancer.log


@pytest.fixture
def world(tmp_path: Path) -> Iterator[Stage]:
    with stage(tmp_path) as one:
        yield one


def run(*words: object, given: bytes | None = None) -> subprocess.CompletedProcess:
    done = subprocess.run(
        [str(word) for word in words], input=given, capture_output=True, env=ENVIRON, timeout=TIMEOUT_S, check=False
    )
    assert done.returncode == 0, done.stderr.decode(errors="replace")
    return done


def curl(*words: object, given: bytes | None = None) -> subprocess.CompletedProcess:
    return run("curl", "-q", "--silent", "--show-error", "--max-time", TIMEOUT_S, *words, given=given)


def digest_of(body: bytes) -> str:
    return f"{len(body)} {hashlib.sha256(body).hexdigest()}"


@needs_curl
def test_curl_reuses_its_connection(origin):
    url = f"http://127.0.0.1:{origin}/info?a=%20b"
    done = curl("-v", url, url, url)
    assert done.stderr.count(b"Re-using existing connection") == 2
    assert done.stdout.count(b'"/info?a=%20b"') == 3


@needs_curl
def test_the_origin_learns_who_asked_for_what(origin):
    told = json.loads(curl("-H", "X-Forwarded-For: 6.6.6.6", f"http://127.0.0.1:{origin}/info").stdout)["fields"]
    assert (told["host"], told["x-forwarded-for"]) == (f"127.0.0.1:{origin}", "127.0.0.1")


@needs_curl
def test_curl_speaks_http_1_0(origin):
    done = curl("--http1.0", "-i", f"http://127.0.0.1:{origin}/blocks?count=16")
    head, _, body = done.stdout.partition(b"\r\n\r\n")
    assert b"chunked" not in head.lower()
    assert body == BLOCK * 16


@needs_curl
def test_curl_asks_for_the_head_alone(origin):
    done = curl("-v", "--head", f"http://127.0.0.1:{origin}/info", "--next", f"http://127.0.0.1:{origin}/info")
    assert done.stdout.startswith(b"HTTP/1.1 200 ")
    assert b'"method": "GET"' in done.stdout
    assert b"Re-using existing connection" in done.stderr


@needs_curl
def test_curl_uploads_a_file_after_100_continue(origin, tmp_path):
    body = BLOCK * 48
    file = tmp_path / "body"
    file.write_bytes(body)
    expect = ["-H", "Expect: 100-continue", "--expect100-timeout", TIMEOUT_S - 1]
    done = curl("-v", *expect, "-T", file, f"http://127.0.0.1:{origin}/digest")
    assert b"HTTP/1.1 100 " in done.stderr
    assert done.stdout.decode() == digest_of(body)


@needs_curl
def test_curl_uploads_in_chunks(origin):
    body = BLOCK * 48
    done = curl("-v", "-T", "-", f"http://127.0.0.1:{origin}/digest", given=body)
    assert b"Transfer-Encoding: chunked" in done.stderr
    assert done.stdout.decode() == digest_of(body)


@needs_curl
def test_curl_asks_for_h2c_and_gets_http_1_1(origin):
    done = curl("--http2", "-i", f"http://127.0.0.1:{origin}/info")
    assert done.stdout.startswith(b"HTTP/1.1 200 ")
    assert b"http2-settings" not in done.stdout.lower()


def pieces(name: str, wait: Callable[[str], str]) -> Iterator[bytes]:
    """A body whose second piece leaves when the backend has the first one."""
    yield BLOCK
    assert wait(name) == "yes"
    for _ in range(15):
        yield BLOCK


def test_requests_keeps_its_connection_and_streams(origin):
    requests = pytest.importorskip("requests", exc_type=ImportError)
    url = f"http://127.0.0.1:{origin}"

    def get(target: str) -> str:
        with requests.Session() as other:
            other.trust_env = False
            return other.get(f"{url}{target}", timeout=TIMEOUT_S).text

    with requests.Session() as session:
        session.trust_env = False
        for n in range(5):
            assert session.get(f"{url}/info?n={n}", timeout=TIMEOUT_S).json()["target"] == f"/info?n={n}"
        pools = session.get_adapter(url).poolmanager.pools
        [pool] = [pools[key] for key in pools.keys()]  # noqa: SIM118 (not a dict)
        assert (pool.num_connections, pool.num_requests) == (1, 5)
        body = pieces("requests-up", lambda name: get(f"/wait?name={name}"))
        answer = session.post(f"{url}/digest?name=requests-up", data=body, timeout=TIMEOUT_S)
        assert answer.text == digest_of(BLOCK * 16)
        for length in ("", "&length=1"):
            with session.get(f"{url}/blocks?count=48{length}", stream=True, timeout=TIMEOUT_S) as answer:
                assert b"".join(answer.iter_content(65536)) == BLOCK * 48
        with session.get(f"{url}/drip?name=requests-down", stream=True, timeout=TIMEOUT_S) as answer:
            lines = answer.iter_lines(chunk_size=None)
            assert next(lines) == b"first"
            get("/go?name=requests-down")
            assert list(lines) == [b"last"]


def test_httpx_keeps_its_connection_and_streams(origin):
    httpx = pytest.importorskip("httpx", exc_type=ImportError)
    url = f"http://127.0.0.1:{origin}"
    settings = {"base_url": url, "timeout": TIMEOUT_S, "trust_env": False}
    with httpx.Client(**settings) as client, httpx.Client(**settings) as other:
        used = set()
        for n in range(5):
            answer = client.get(f"/info?n={n}")
            assert answer.json()["target"] == f"/info?n={n}"
            used.add(answer.extensions["network_stream"].get_extra_info("client_addr"))
        assert len(used) == 1
        body = pieces("httpx-up", lambda name: other.get(f"/wait?name={name}").text)
        assert client.post("/digest?name=httpx-up", content=body).text == digest_of(BLOCK * 16)
        for length in ("", "&length=1"):
            with client.stream("GET", f"/blocks?count=48{length}") as answer:
                assert b"".join(answer.iter_bytes()) == BLOCK * 48
        with client.stream("GET", "/drip?name=httpx-down") as answer:
            lines = answer.iter_lines()
            assert next(lines) == "first"
            other.get("/go?name=httpx-down")
            assert list(lines) == ["last"]


@needs_node
def test_node_keeps_its_connection_and_streams(origin):
    found = json.loads(run("node", PEERS / "client.js", origin).stdout)
    down = BLOCK * 48
    assert found == {
        "statuses": [200] * 5,
        "connections": 1,
        "upload_streamed": "yes",
        "uploaded": digest_of(b"x" * (3 << 20)),
        "downloaded": [len(down), hashlib.sha256(down).hexdigest()],
        "dripped": "first\nlast\n",
        "continued": True,
        "expected": digest_of(b"hello"),
        "head": 200,
    }


NGINX_CONF = """
daemon off;
master_process off;
pid {folder}/nginx.pid;
error_log {folder}/error.log warn;
events {{ worker_connections 64; }}
http {{
    log_format kept '$connection_requests $status $request';
    access_log {folder}/access.log kept;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    server {{
        listen 127.0.0.1:{port};
        root {folder}/files;
    }}
}}
"""


@pytest.fixture
def nginx(world) -> "tuple[Path, int]":
    """Its folder, and the port of a balancer before it."""
    port = free_port()
    folder = world.folder / "nginx"
    (folder / "files").mkdir(parents=True)
    (folder / "nginx.conf").write_text(NGINX_CONF.format(folder=folder, port=port))
    start(world, NGINX, "-p", folder, "-e", folder / "error.log", "-c", "nginx.conf", ready=lambda: listening(port))
    return folder, world.balancer("-b", f"127.0.0.1:{port}", "-c", "0")[1]


@needs_nginx
@needs_curl
def test_files_of_nginx_whole_in_parts_and_not_at_all(nginx):
    folder, port = nginx
    body = BLOCK * 64
    (folder / "files" / "large").write_bytes(body)
    (folder / "files" / "empty").write_bytes(b"")
    url = f"http://127.0.0.1:{port}"
    assert curl(f"{url}/large").stdout == body
    assert curl("-r", "1000-1999", f"{url}/large").stdout == body[1000:2000]
    assert curl(f"{url}/empty").stdout == b""
    head = curl("-I", f"{url}/large").stdout
    assert f"Content-Length: {len(body)}\r\n".encode() in head
    tag = next(line for line in head.split(b"\r\n") if line.startswith(b"ETag: "))[6:].decode()
    not_modified = curl("-i", "-H", f"If-None-Match: {tag}", f"{url}/large").stdout
    assert not_modified.startswith(b"HTTP/1.1 304 ")
    assert not_modified.endswith(b"\r\n\r\n")
    assert curl("-i", f"{url}/nothing").stdout.startswith(b"HTTP/1.1 404 ")
    # It refuses such a length before it has read the body.
    assert curl("-i", "-T", folder / "files" / "large", f"{url}/large").stdout.startswith(b"HTTP/1.1 413 ")


@needs_nginx
def test_connections_to_nginx_are_kept(nginx):
    requests = pytest.importorskip("requests", exc_type=ImportError)
    folder, port = nginx
    (folder / "files" / "small").write_bytes(b"small")
    for _ in range(3):  # new clients, the same connection to nginx
        with requests.Session() as session:
            session.trust_env = False
            for _ in range(5):
                assert session.get(f"http://127.0.0.1:{port}/small", timeout=TIMEOUT_S).content == b"small"
    log = folder / "access.log"
    until(lambda: len(log.read_text().splitlines()) == 15, "nginx wrote its log")
    assert [int(line.split()[0]) for line in log.read_text().splitlines()] == list(range(1, 16))


def test_one_connection_reaches_every_sibling(world):
    requests = pytest.importorskip("requests", exc_type=ImportError)
    _, port = world.balancer("-b", *[f"127.0.0.1:{world.backend()[1]}" for _ in range(2)])
    with requests.Session() as session:
        session.trust_env = False
        url = f"http://127.0.0.1:{port}/whoami.json"
        seen = [session.get(url, timeout=TIMEOUT_S).headers["X-Backend"] for _ in range(4)]
    assert len(set(seen[:2])) == 2
    assert seen[:2] == seen[2:]


def test_an_upload_of_single_bytes_is_answered(world):
    _, port = world.balancer("-b", f"127.0.0.1:{world.backend()[1]}")
    head = b"POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
    with socket.create_connection(("127.0.0.1", port), timeout=TIMEOUT_S) as client:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in head + b"2\r\nok\r\n0\r\n\r\n":
            client.sendall(bytes([byte]))
        answer = b"".join(iter(lambda: client.recv(65536), b""))
    assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b"ok" in answer.partition(b"\r\n\r\n")[2]


@needs_curl
def test_the_sibling_backend_down_and_up(world):
    _, backend_port = world.backend()
    _, port = world.balancer("-b", f"127.0.0.1:{backend_port}")
    url = f"http://127.0.0.1:{port}"
    body = BLOCK * 48
    up = curl("-T", "-", f"{url}/upload", given=body).stdout.decode()
    assert hashlib.sha256(body).hexdigest() in up
    size = len(BLOCK) * 16
    direct = curl(f"http://127.0.0.1:{backend_port}/?size={size}").stdout
    assert len(direct) == size
    for words in ([], ["--http1.0"]):
        for query in ("", "&chunked=1"):
            assert curl(*words, f"{url}/?size={size}{query}").stdout == direct


@pytest.fixture
def echo(world) -> "Iterator[tuple[int, list]]":
    """The port of a balancer before a WebSocket server that echoes, and how its connections were closed."""
    server_side = pytest.importorskip("websockets.sync.server", exc_type=ImportError)
    exceptions = pytest.importorskip("websockets.exceptions", exc_type=ImportError)
    closed: list = []

    def handler(connection) -> None:
        with contextlib.suppress(exceptions.ConnectionClosedError):  # which is what it calls 4000
            for message in connection:
                connection.send(message)
                if message == "leave":
                    connection.close(4000, "asked to")
        closed.append((connection.close_code, connection.close_reason))

    with server_side.serve(handler, "127.0.0.1", 0, max_size=None) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        port = server.socket.getsockname()[1]
        try:
            yield world.balancer("-b", f"127.0.0.1:{port}", "-c", "0")[1], closed
        finally:
            server.shutdown()
            thread.join(TIMEOUT_S)


@pytest.mark.parametrize("compression", [None, "deflate"])
def test_websocket_messages_echo_and_the_close_handshake_passes(echo, compression):
    client_side = pytest.importorskip("websockets.sync.client", exc_type=ImportError)
    port, closed = echo
    url = f"ws://127.0.0.1:{port}/chat"
    settings = {"compression": compression, "max_size": None, "proxy": None, "open_timeout": TIMEOUT_S}
    with client_side.connect(url, **settings) as connection:
        for message in ["small", b"\x00\xff", "", os.urandom(1 << 20), "x" * (1 << 20)]:
            connection.send(message)
            assert connection.recv(TIMEOUT_S) == message
        connection.ping().wait(TIMEOUT_S)
        connection.close(1000, "done")
    assert (connection.close_code, connection.close_reason) == (1000, "done")
    until(lambda: closed == [(1000, "done")], "the server saw the close")


def test_a_websocket_server_may_close_first(echo):
    client_side = pytest.importorskip("websockets.sync.client", exc_type=ImportError)
    port, closed = echo
    with client_side.connect(f"ws://127.0.0.1:{port}/", proxy=None, open_timeout=TIMEOUT_S) as connection:
        connection.send("leave")
        assert connection.recv(TIMEOUT_S) == "leave"
        with pytest.raises(Exception, match="asked to"):
            connection.recv(TIMEOUT_S)
    assert connection.close_code == 4000
    until(lambda: closed == [(4000, "asked to")], "the server saw the close")


def test_a_stop_says_good_bye_to_both_ends_of_a_websocket(world, echo):
    client_side = pytest.importorskip("websockets.sync.client", exc_type=ImportError)
    port, closed = echo
    [balancer] = world.running
    with client_side.connect(f"ws://127.0.0.1:{port}/", proxy=None, open_timeout=TIMEOUT_S) as connection:
        connection.send("hello")
        assert connection.recv(TIMEOUT_S) == "hello"
        balancer.signal(TERM)
        balancer.wait_for("drain begins: waits for 1 client, 1 tunnel")
        balancer.signal(TERM)
        with pytest.raises(Exception, match="1001"):
            connection.recv(TIMEOUT_S)
    assert connection.close_code == 1001
    until(lambda: closed == [(1001, "")], "the server was told")
    assert balancer.wait() == -TERM


def test_a_websocket_to_uvicorn(world):
    client_side = pytest.importorskip("websockets.sync.client", exc_type=ImportError)
    _, port = world.balancer("-b", uvicorn_h11(world))
    settings = {"max_size": None, "proxy": None, "open_timeout": TIMEOUT_S}
    with client_side.connect(f"ws://127.0.0.1:{port}/", **settings) as connection:
        for message in ["small", b"\x00\xff", "", os.urandom(1 << 20)]:
            connection.send(message)
            assert connection.recv(TIMEOUT_S) == message
        connection.ping().wait(TIMEOUT_S)
    assert connection.close_code == 1000
