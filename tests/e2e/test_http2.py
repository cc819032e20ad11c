"""HTTP/2 with real clients: what they agree on, what they are served, and what they notice of reloads and drains (nothing)."""

import contextlib
import json
import os
import re
import shutil
import signal
import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from authority import ECDSA, Authority, chain_of, key_of
from ports import free_port
from processes import PATIENCE_S, Running, Stage, listening, stage, until

from twisted_lb.sibling.behaviour import pattern

# Whatever proxy this machine is told to use, nobody here goes through it.
ENVIRON = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or ""
MIB = 1 << 20
SECURED, CLEAR = "secured", "clear"

CONFIG = """
[log]
file = "access.log"
format = "json"

[listeners.secured]
address = "127.0.0.1:{secured}"
tls = "lb.pem"
default_pool = "app"

[listeners.clear]
address = "127.0.0.1:{clear}"
protocols = ["h2", "http/1.1"]
default_pool = "app"

[pools.app]
backends = ["127.0.0.1:{one}", "127.0.0.1:{two}"]
health_check.interval_s = 0
"""


def needs(program: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(not shutil.which(program or "-"), reason=f"{program or 'chromium'} is missing")


class House:
    """A balancer whose clients may speak HTTP/2, over TLS and in the clear, and two backends that speak HTTP/1.1."""

    def __init__(self, world: Stage) -> None:
        self.folder: Path = world.folder
        self.authority = Authority(world.folder)
        leaf = self.authority.leaf("localhost", "127.0.0.1", key_type=ECDSA)
        self.authority.write("lb.pem", chain_of(leaf), key_of(leaf))
        _, one = world.backend(name="behind")
        _, two = world.backend(name="behind")
        self.ports = {SECURED: free_port(), CLEAR: free_port()}
        self.file = world.folder / "lb.toml"
        self.file.write_text(CONFIG.format(one=one, two=two, **self.ports))
        self.balancer: Running = world.twistd("lb", "lb", "--config", str(self.file))
        until(
            lambda: all(map(listening, self.ports.values())) or self.balancer.process.poll() is not None,
            "the balancer",
        )
        assert self.balancer.process.poll() is None, self.balancer.log

    def url(self, way: str, path: str = "/whoami.json") -> str:
        return f"{'https' if way == SECURED else 'http'}://localhost:{self.ports[way]}{path}"

    def logged(self, query: str) -> list[str]:
        """The versions of HTTP with which what has this query was asked for, by the access log."""
        file = self.folder / "access.log"
        until(lambda: file.exists() and query in file.read_text(), f"{query} in the log")
        lines = [json.loads(line) for line in file.read_text().splitlines()]
        return [line["network.protocol.version"] for line in lines if line.get("url.query") == query]


@pytest.fixture(scope="module")
def house(tmp_path_factory, workers) -> Iterator[House]:
    with stage(tmp_path_factory.mktemp("http2")) as world:
        yield House(world)


def run(*words: object, **more: object) -> subprocess.CompletedProcess:
    return subprocess.run(
        [str(word) for word in words], env=ENVIRON, capture_output=True, check=False, timeout=PATIENCE_S, **more
    )


# curl.


def curl(house: House, way: str, *words: object) -> subprocess.CompletedProcess:
    how = ["--cacert", house.authority.path, "--http2"] if way == SECURED else ["--http2-prior-knowledge"]
    return run("curl", "-q", "-sS", "--max-time", PATIENCE_S, *how, *words)


WAYS = [SECURED, CLEAR]


@needs("curl")
@pytest.mark.parametrize("way", WAYS)
def test_curl_speaks_it(house, way):
    done = curl(house, way, "-w", "%{http_version}", house.url(way, f"/whoami.json?{way}"))
    assert done.stdout.endswith(b"2"), done.stderr
    assert json.loads(done.stdout[:-1])["name"] == "behind"
    assert house.logged(way) == ["2"]


@needs("curl")
def test_http1_goes_on_beside_it(house):
    for way in WAYS:
        done = run(
            "curl", "-q", "-sS", "--cacert", house.authority.path, "--http1.1", "-w", "%{http_version}", house.url(way)
        )
        assert done.stdout.endswith(b"1.1"), done.stderr


@needs("curl")
@pytest.mark.parametrize("way", WAYS)
def test_curl_gets_and_sends_what_is_large(house, way, tmp_path):
    down = curl(house, way, house.url(way, f"/?size={20 * MIB}"))
    assert down.stdout == b"".join(pattern(0, 20 * MIB))
    chunked = curl(house, way, house.url(way, f"/?size={MIB}&chunked=1"))
    assert chunked.stdout == b"".join(pattern(0, MIB))
    file = tmp_path / "file"
    file.write_bytes(b"".join(pattern(0, 8 * MIB)))
    assert curl(house, way, "-T", file, house.url(way, "/echo")).stdout == file.read_bytes()
    unknown = curl(house, way, "-H", "Content-Length:", "-T", file, house.url(way, "/echo"))
    assert unknown.stdout == file.read_bytes(), "of a length that was not said"


@needs("curl")
def test_curl_asks_in_parallel_on_one_connection(house):
    way = SECURED  # in the clear, curl 7.88 fails with whatever server
    urls = [house.url(way, f"/?size=1000&n={number}") for number in range(40)]
    words = ["--parallel", "--parallel-max", 40, "-w", "%{num_connects} %{http_code}\\n"]
    done = curl(house, way, *words, *[word for url in urls for word in ("-o", os.devnull, url)])
    told = [line.split() for line in done.stdout.decode().splitlines()]
    assert [status for _, status in told] == ["200"] * 40, done.stderr
    assert sum(int(connects) for connects, _ in told) <= 2


# nghttp2's.


@needs("nghttp")
@pytest.mark.parametrize("way", WAYS)
def test_nghttp_is_served_with_continuation_and_padding(house, way):
    done = run(
        "nghttp",
        "-nv",
        "--no-verify-peer",
        "--continuation",
        "--padding=200",
        house.url(way),
        house.url(way, "/?size=100000"),
    )
    said = done.stdout.decode()
    assert len(re.findall(r":status: 200", said)) == 2, said[-3000:]
    assert "error_code=PROTOCOL_ERROR" not in said


@needs("h2load")
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("path", ["/whoami.json", "/?size=50000"])
def test_h2load_loses_nothing(house, way, path):
    done = run("h2load", "-n", 3000, "-c", 8, "-m", 50, house.url(way, path))
    said = done.stdout.decode()
    assert "3000 succeeded, 0 failed, 0 errored, 0 timeout" in said, said


@needs("h2load")
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.long
def test_reloads_lose_nothing(house, way):
    words = ["h2load", "-n", "20000", "-c", "8", "-m", "20", house.url(way)]
    with subprocess.Popen(words, env=ENVIRON, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as load:
        try:
            while load.poll() is None:
                house.balancer.signal(signal.SIGHUP)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    load.wait(0.1)
            said = load.stdout.read()
        finally:
            load.kill()
    assert "20000 succeeded, 0 failed, 0 errored, 0 timeout" in said, said


# Others.

NODE = """
const http2 = require('node:http2');
const session = http2.connect(process.argv[1], { ca: require('fs').readFileSync(process.argv[2]) });
session.on('error', error => { console.error(error); process.exit(1); });
const ask = (method, path, body) => new Promise((resolve, reject) => {
  const stream = session.request({ ':method': method, ':path': path });
  let status, size = 0;
  stream.on('response', fields => { status = fields[':status']; });
  stream.on('data', data => { size += data.length; });
  stream.on('end', () => resolve([status, size]));
  stream.on('error', reject);
  stream.end(body);
});
(async () => {
  const many = Array.from({ length: 50 }, (_, n) => ask('GET', '/?size=' + n * 1000));
  console.log(JSON.stringify([await Promise.all(many), await ask('POST', '/echo', Buffer.alloc(3000000))]));
  session.close();
})();
"""


@needs("node")
@pytest.mark.parametrize("way", WAYS)
def test_node_is_served(house, way):
    done = run("node", "-e", NODE, house.url(way, "/"), house.authority.path)
    assert done.returncode == 0, done.stderr
    many, echoed = json.loads(done.stdout)
    assert many == [[200, number * 1000] for number in range(50)]
    assert echoed == [200, 3_000_000]


def test_httpx_is_served(house):
    context = ssl.create_default_context(cafile=house.authority.path)
    with httpx.Client(http2=True, verify=context, trust_env=False, timeout=PATIENCE_S) as client:
        answer = client.get(house.url(SECURED, "/?size=300000"))
        assert (answer.http_version, answer.status_code, len(answer.content)) == ("HTTP/2", 200, 300_000)
        sent = b"".join(pattern(0, 2 * MIB))
        assert client.post(house.url(SECURED, "/echo"), content=sent).content == sent
        pieces = (sent[at : at + 10_000] for at in range(0, len(sent), 10_000))
        assert client.post(house.url(SECURED, "/echo"), content=pieces).content == sent


@needs(CHROMIUM)
@pytest.mark.long
def test_chromium_shows_the_page_over_it(house, tmp_path):
    words = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path}", "--no-first-run"]
    done = run(*words, "--ignore-certificate-errors", "--dump-dom", house.url(SECURED, "/?chromium"))
    assert b"behind" in done.stdout, done.stderr[-2000:]
    assert house.logged("chromium") == ["2"]
