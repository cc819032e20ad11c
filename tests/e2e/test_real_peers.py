"""Clients and servers that others wrote, through the balancer."""

import hashlib
import json
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from processes import PATIENCE_S, Stage, free_port, listening, stage, until

PEERS = Path(__file__).parent / "peers"


def needs(program: str):
    return pytest.mark.skipif(shutil.which(program) is None, reason=f"{program} is not installed")


@pytest.fixture
def world(tmp_path: Path):
    with stage(tmp_path) as one:
        yield one


def start(world: Stage, words: list, port: int) -> None:
    """Some server, until it listens."""
    out = (world.folder / f"{port}.log").open("wb")
    process = subprocess.Popen(words, cwd=PEERS, stdin=subprocess.DEVNULL, stdout=out, stderr=out)
    out.close()
    world.others.append(process)
    until(lambda: listening(port), f"{words}: {(world.folder / f'{port}.log').read_text()}")


def siblings(world: Stage, count: int = 2) -> int:
    """A balancer over sibling backends; its port."""
    return world.balancer("-b", *[f"127.0.0.1:{world.backend()[1]}" for _ in range(count)])[1]


def uvicorn(world: Stage) -> int:
    pytest.importorskip("uvicorn")
    port = free_port()
    words = [sys.executable, "-m", "uvicorn", "asgi_app:application", "--port", str(port), "--log-level", "error"]
    start(world, words, port)
    return port


def curl(*words: str) -> "subprocess.CompletedProcess[bytes]":
    return subprocess.run(["curl", "-sS", "--max-time", "20", *words], capture_output=True, check=True)


# Clients.


@needs("curl")
def test_curl(world, tmp_path):
    url = f"http://127.0.0.1:{siblings(world)}"
    assert b"requests" in curl(f"{url}/").stdout
    assert b"requests" in curl("--http1.0", f"{url}/").stdout
    assert curl("-I", f"{url}/").stdout.startswith(b"HTTP/1.1 200 OK\r\n")
    # Two on one connection; curl says how many it opened.
    assert curl("-w", "%{num_connects}", "-o", "/dev/null", "-o", "/dev/null", f"{url}/", f"{url}/").stdout == b"10"
    big = tmp_path / "big"
    big.write_bytes(bytes(range(256)) * 20000)
    digest = hashlib.sha256(big.read_bytes()).hexdigest().encode()
    # Over a megabyte curl asks before it sends.
    assert digest in curl("-T", str(big), f"{url}/upload").stdout
    assert digest in curl("-H", "Expect: 100-continue", "-T", str(big), f"{url}/upload").stdout
    assert digest in curl("-H", "Transfer-Encoding: chunked", "-T", str(big), f"{url}/upload").stdout
    assert len(curl(f"{url}/?size=5000000&chunked=1").stdout) == 5_000_000
    assert len(curl("--http1.0", f"{url}/?size=5000000").stdout) == 5_000_000


def test_requests(world):
    requests = pytest.importorskip("requests")
    url = f"http://127.0.0.1:{siblings(world)}"
    with requests.Session() as session:
        seen = {session.get(f"{url}/whoami.json").headers["X-Backend"] for _ in range(4)}
        assert len(seen) == 2
        body = bytes(range(256)) * 4000
        answer = session.post(f"{url}/upload", data=(body[at : at + 10000] for at in range(0, len(body), 10000)))
        assert hashlib.sha256(body).hexdigest() in answer.text
        with session.get(f"{url}/?size=3000000", stream=True) as response:
            assert sum(map(len, response.iter_content(65536))) == 3_000_000
        assert session.head(f"{url}/").status_code == 200


def test_httpx(world):
    httpx = pytest.importorskip("httpx")
    with httpx.Client(base_url=f"http://127.0.0.1:{siblings(world)}", timeout=PATIENCE_S, trust_env=False) as client:
        assert client.get("/").status_code == 200
        body = b"y" * 300_000
        answer = client.put("/upload", content=iter([body[:1000], body[1000:]]))
        assert hashlib.sha256(body).hexdigest() in answer.text
        with client.stream("GET", "/?size=2000000&chunked=1") as response:
            assert sum(map(len, response.iter_bytes())) == 2_000_000


@needs("node")
def test_nodes_http(world):
    port = siblings(world, 1)
    done = subprocess.run(["node", PEERS / "client.js", str(port)], capture_output=True, timeout=30, check=False)
    assert done.returncode == 0, done.stderr
    results = json.loads(done.stdout)
    assert [result[0] for result in results] == [200, 200, 200, 200]
    assert [result[1] for result in results[1:]] == [200_000, 3_000_000, 0]
    assert [result[2] for result in results] == [False, True, True, True]


# Servers.


@pytest.mark.parametrize("unix", [False, True], ids=["tcp", "unix"])
def test_gunicorn(world, unix):
    pytest.importorskip("gunicorn")
    requests = pytest.importorskip("requests")
    port = free_port()
    path = f"{world.folder}/g"
    bind = ["--bind", f"127.0.0.1:{port}"] + (["--bind", f"unix:{path}"] if unix else [])
    start(world, [sys.executable, "-m", "gunicorn", "--threads", "4", *bind, "wsgi_app:application"], port)
    _, front = world.balancer("-b", f"unix:{path}" if unix else f"127.0.0.1:{port}")
    url = f"http://127.0.0.1:{front}"
    with requests.Session() as session:
        for _ in range(3):
            assert session.get(url).text == f"gunicorn 127.0.0.1 127.0.0.1:{front}"
        assert session.post(url, data=b"z" * 200_000).content == b"z" * 200_000
        assert session.post(url, data=iter([b"one", b"two"])).content == b"onetwo"
        assert session.get(f"{url}/stream").text == "".join(f"{number}," for number in range(1000))


def test_uvicorn(world):
    requests = pytest.importorskip("requests")
    _, front = world.balancer("-b", f"127.0.0.1:{uvicorn(world)}")
    with requests.Session() as session:
        for body in (b"", b"x" * 100, b"y" * 1_000_000):
            assert session.post(f"http://127.0.0.1:{front}", data=body).content == body + b"|uvicorn"
        assert session.post(f"http://127.0.0.1:{front}", data=iter([b"a", b"b"])).content == b"ab|uvicorn"


@needs("nginx")
@needs("curl")
def test_nginx(world):
    port = free_port()
    folder = world.folder / "nginx"
    folder.mkdir(mode=0o755)
    world.folder.chmod(0o755)
    (folder / "file").write_bytes(bytes(range(256)) * 40000)
    conf = folder / "nginx.conf"
    temp = "".join(
        f"{name}_temp_path {folder}/{name}; " for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    conf.write_text(
        f"daemon off; pid {folder}/pid; error_log {folder}/error; events {{ }} http {{ access_log off; {temp} "
        f"server {{ listen 127.0.0.1:{port}; location / {{ return 200 ok; }} location = /file {{ root {folder}; }} }} }}"
    )
    if subprocess.run(["id", "-u"], capture_output=True, check=True).stdout == b"0\n":
        conf.write_text("user root;" + conf.read_text())
    start(world, ["nginx", "-c", str(conf)], port)
    _, front = world.balancer("-b", f"127.0.0.1:{port}")
    url = f"http://127.0.0.1:{front}"
    assert curl(url).stdout == b"ok"
    assert curl(f"{url}/file").stdout == (folder / "file").read_bytes()
    assert curl("-r", "100-199", f"{url}/file").stdout == (folder / "file").read_bytes()[100:200]
    assert b"304" in curl("-w", "%{http_code}", "-z", str(folder / "file"), f"{url}/file").stdout


# WebSockets.


def test_websockets_on_both_ends(world):
    sync = pytest.importorskip("websockets.sync.client")
    _, front = world.balancer("-b", f"127.0.0.1:{uvicorn(world)}")
    with sync.connect(f"ws://127.0.0.1:{front}/chat", proxy=None, max_size=1 << 22) as peer:
        for message in ("hello", "", b"\x00\xff", "x" * 100_000, bytes(range(256)) * 4096):
            peer.send(message)
            assert peer.recv(timeout=PATIENCE_S) == message
        peer.ping().wait(timeout=PATIENCE_S)
    assert peer.close_code == 1000


def test_an_upload_over_a_raw_socket_that_says_nothing_more_is_answered(world):
    """What a client sends last, and slowest."""
    front = siblings(world, 1)
    with socket.create_connection(("127.0.0.1", front), timeout=PATIENCE_S) as client:
        for byte in b"POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n2\r\nok\r\n0\r\n\r\n":
            client.sendall(bytes([byte]))
        answer = b""
        while data := client.recv(65536):
            answer += data
    assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b"ok" in answer.partition(b"\r\n\r\n")[2]
