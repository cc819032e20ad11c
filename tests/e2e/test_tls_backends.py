"""TLS and PROXY headers to servers that others wrote: nginx, uvicorn and HAProxy, behind a real balancer."""

import datetime as dt
import os
import shutil
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from authority import NOW, Authority, chain_of, key_of
from ports import free_port
from processes import Running, Stage, listening, stage, until

PEERS = Path(__file__).parent / "peers"
# Debian keeps them where users do not look.
PLACES = os.environ.get("PATH", "") + ":/usr/sbin"
NGINX, HAPROXY = shutil.which("nginx", path=PLACES), shutil.which("haproxy", path=PLACES)
needs_nginx = pytest.mark.skipif(NGINX is None, reason="nginx is not installed")
needs_haproxy = pytest.mark.skipif(HAPROXY is None, reason="haproxy is not installed")
TIMEOUT_S = 15
OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


@pytest.fixture
def world(tmp_path) -> Iterator[Stage]:
    with stage(tmp_path) as one:
        yield one


@pytest.fixture
def authority(tmp_path) -> Authority:
    return Authority(tmp_path / "tls")


def start(world: Stage, words: list[object], port: int) -> None:
    log = world.folder / f"{len(world.others)}.log"
    with log.open("wb") as out:
        process = subprocess.Popen(
            [str(word) for word in words], cwd=world.folder, stdin=subprocess.DEVNULL, stdout=out, stderr=out
        )
    world.others.append(process)
    until(lambda: listening(port) or process.poll() is not None, f"{words[0]} listens")
    assert process.poll() is None, log.read_text()


SERVER = """
    server {{
        listen 127.0.0.1:{port} ssl {more};
        ssl_certificate {place}.pem;
        ssl_certificate_key {place}.pem;
        {rules}
        location / {{ return 200 "{name} $ssl_server_name $ssl_session_reused $ssl_client_verify $proxy_protocol_addr\\n"; }}
        location /close {{ keepalive_timeout 0; return 200 "{name} $ssl_session_reused\\n"; }}
    }}"""


class Nginx:
    """An nginx with TLS; each server is told by its name, and says what it has seen."""

    def __init__(self, world: Stage, authority: Authority) -> None:
        self.world, self.authority = world, authority
        self.folder = world.folder / "nginx"
        self.folder.mkdir()
        self.servers: list[str] = []
        self.ports: list[int] = []

    def server(self, name: str, *hosts: str, more: str = "", rules: str = "", **certificate: object) -> int:
        leaf = self.authority.leaf(*(hosts or (f"{name}.test",)), **certificate)
        self.authority.write(f"{name}.pem", chain_of(leaf), key_of(leaf))
        port = free_port()
        place = self.authority.folder / name
        self.servers.append(SERVER.format(port=port, place=place, name=name, more=more, rules=rules))
        self.ports.append(port)
        return port

    def start(self) -> None:
        (self.folder / "nginx.conf").write_text(
            f"daemon off; pid {self.folder}/pid; error_log {self.folder}/error.log; worker_processes 1;\n"
            f"events {{}}\nhttp {{ access_log {self.folder}/access.log; client_body_temp_path {self.folder}/b;"
            f" proxy_temp_path {self.folder}/p; fastcgi_temp_path {self.folder}/f; uwsgi_temp_path {self.folder}/u;"
            f" scgi_temp_path {self.folder}/s; {''.join(self.servers)}\n}}\n"
        )
        start(
            self.world, [NGINX, "-p", self.folder, "-e", self.folder / "error.log", "-c", "nginx.conf"], self.ports[0]
        )


@pytest.fixture
def nginx(world, authority) -> Nginx:
    return Nginx(world, authority)


def balance(
    world: Stage, *ports: int, tls: str | None = "", pool: str = "", checks: str = "interval_s = 0"
) -> tuple[Running, int, Path]:
    """A balancer in front of these ports: it, its own port, its file."""
    port = free_port()
    file = world.folder / "lb.toml"
    table = "" if tls is None else f"[pools.app.tls]\n{tls}\n"
    backends = ", ".join(f'"127.0.0.1:{one}"' for one in ports)
    file.write_text(
        f'[listeners.web]\naddress = "127.0.0.1:{port}"\ndefault_pool = "app"\n\n'
        f"[pools.app]\nbackends = [{backends}]\n{pool}\n"
        f"[pools.app.health_check]\n{checks}\n{table}"
    )
    running = world.twistd("lb", "lb", "--config", str(file))
    until(lambda: listening(port) or running.process.poll() is not None, "the balancer")
    assert running.process.poll() is None, running.log
    return running, port, file


def ask(port: int, path: str = "/") -> tuple[int, str]:
    """The status of an answer, and its body."""
    try:
        with OPENER.open(f"http://127.0.0.1:{port}{path}", timeout=TIMEOUT_S) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, ""


@needs_nginx
def test_nginx_is_verified_by_its_name_and_sessions_are_resumed(world, nginx, authority):
    server = nginx.server("a", rules="ssl_session_cache shared:one:1m; ssl_session_tickets on;")
    nginx.start()
    _, port, _ = balance(world, server, tls=f'ca = "{authority.path}"\nserver_name = "a.test"')
    assert ask(port) == (200, "a a.test . NONE \n")
    assert [ask(port, "/close")[1] for _ in range(3)][1:] == ["a r\n", "a r\n"]


@needs_nginx
@pytest.mark.parametrize("tls", ["ssl_protocols TLSv1.2;", "ssl_protocols TLSv1.3;"], ids=["1.2", "1.3"])
def test_sessions_are_resumed_in_both_versions(world, nginx, authority, tls):
    server = nginx.server("a", rules=f"{tls} ssl_session_cache shared:one:1m;")
    nginx.start()
    _, port, _ = balance(world, server, tls=f'ca = "{authority.path}"\nserver_name = "a.test"')
    assert [ask(port, "/close")[1] for _ in range(4)][1:] == ["a r\n"] * 3


@needs_nginx
@pytest.mark.parametrize(
    ("certificate", "why"),
    [
        ({"hosts": ("b.test",)}, "Hostname mismatch, certificate is not valid for 'a.test'"),
        ({"not_before": NOW - dt.timedelta(9), "not_after": NOW - dt.timedelta(1)}, "certificate has expired"),
        ({"ca": "another"}, "(self-signed certificate|unable to get local issuer certificate)"),
    ],
    ids=["a wrong name", "expired", "an unknown authority"],
)  # fmt: skip
def test_a_bad_certificate_is_refused_with_its_reason_and_another_backend_answers(
    world, nginx, authority, tmp_path_factory, certificate, why
):
    believed = authority.path
    if certificate.pop("ca", None):
        believed = Authority(tmp_path_factory.mktemp("another"), "another").path
    bad = nginx.server("a", *certificate.pop("hosts", ()), **certificate)
    nginx.start()
    plain = f'ca = "{believed}"\nserver_name = "a.test"'
    if "another" not in believed:
        good = nginx_beside(world, authority)
        running, port, _ = balance(world, bad, good, tls=plain)
        assert {ask(port) for _ in range(6)} == {(200, "good a.test . NONE \n")}
    else:
        running, port, _ = balance(world, bad, tls=plain)
        assert ask(port)[0] == 502
    running.wait_for(f"127.0.0.1:{bad} .*TLS: CERTIFICATE_VERIFY_FAILED: {why}")
    assert "Traceback" not in running.log


def nginx_beside(world: Stage, authority: Authority) -> int:
    """Another nginx, whose certificate is good."""
    beside = Stage(world.folder / "beside")
    beside.folder.mkdir()
    beside.others = world.others
    one = Nginx(beside, authority)
    port = one.server("good", "a.test")
    one.start()
    return port


@needs_nginx
def test_a_backend_that_wants_our_certificate_gets_it(world, nginx, authority):
    rules = f"ssl_verify_client on; ssl_client_certificate {authority.path};"
    server = nginx.server("a", rules=rules)
    nginx.start()
    ours = authority.leaf("lb.test")
    path = authority.write("ours.pem", chain_of(ours), key_of(ours))
    tls = f'ca = "{authority.path}"\nserver_name = "a.test"\ncertificate = "{path}"'
    _, port, _ = balance(world, server, tls=tls)
    assert ask(port) == (200, "a a.test . SUCCESS \n")


@needs_nginx
def test_checks_go_by_certificates_and_a_reload_of_the_authority_brings_backends_back(
    world, nginx, authority, tmp_path_factory
):
    server = nginx.server("a")
    nginx.start()
    believed = world.folder / "believed.pem"
    believed.write_bytes(Authority(tmp_path_factory.mktemp("another"), "another").pem)
    checks = 'interval_s = 0.2\ntimeout_s = 20\npath = "/"'
    tls = f'ca = "{believed}"\nserver_name = "a.test"'
    running, port, _ = balance(world, server, tls=tls, checks=checks, pool="queue = { no_backend_s = 0 }")
    running.wait_for(r"is down: TLS: CERTIFICATE_VERIFY_FAILED: ")
    assert ask(port)[0] == 503
    believed.write_bytes(authority.pem)
    running.signal(1)
    running.wait_for(r"tls\.ca: other content")
    running.wait_for("is up")
    assert ask(port) == (200, "a a.test . NONE \n")
    believed.write_bytes(b"no certificate")
    running.signal(1)
    running.wait_for("nothing was changed")
    assert ask(port)[0] == 200


@needs_nginx
def test_verify_false_is_warned_of_at_the_start_and_at_each_reload(world, nginx, authority):
    server = nginx.server("a")
    nginx.start()
    running, port, _ = balance(world, server, tls="verify = false")
    assert ask(port)[0] == 200
    running.wait_for(r"\[W68\]")
    running.signal(1)
    running.wait_for(r"\[W68\]", times=2)


@needs_nginx
@pytest.mark.parametrize("version", ["v1", "v2"])
def test_nginx_is_told_by_a_proxy_header_who_asks(world, nginx, authority, version):
    server = nginx.server("a", more="proxy_protocol")
    nginx.start()
    tls = f'ca = "{authority.path}"\nserver_name = "a.test"'
    checks = 'interval_s = 0.2\ntimeout_s = 20\npath = "/"'
    running, port, _ = balance(world, server, tls=tls, pool=f'send_proxy = "{version}"', checks=checks)
    for _ in range(3):
        status, body = ask(port)
        assert (status, body.split()[-1]) == (200, "127.0.0.1")
    assert " is down" not in running.log


@needs_haproxy
@pytest.mark.parametrize("version", ["v1", "v2"])
def test_haproxy_is_told_by_a_proxy_header_who_asks(world, version):
    theirs = free_port()
    file = world.folder / "haproxy.cfg"
    says = '"%[src] %[dst_port]"'
    file.write_text(
        "defaults\n mode http\n timeout client 20s\n timeout connect 5s\n timeout server 20s\n"
        f"frontend f\n bind 127.0.0.1:{theirs} accept-proxy\n"
        f" http-request return status 200 content-type text/plain lf-string {says}\n"
    )
    start(world, [HAPROXY, "-db", "-f", file], theirs)
    checks = "interval_s = 0.2\ntimeout_s = 20\n"
    running, port, _ = balance(world, theirs, tls=None, pool=f'send_proxy = "{version}"', checks=checks)
    assert ask(port) == (200, f"127.0.0.1 {port}")
    assert " is down" not in running.log


def test_uvicorn_over_tls(world, authority):
    pytest.importorskip("uvicorn", exc_type=ImportError)
    leaf = authority.leaf("app.test")
    place = authority.write("app.pem", chain_of(leaf), key_of(leaf))
    theirs = free_port()
    words = [
        "--host",
        "127.0.0.1",
        "--port",
        theirs,
        "--app-dir",
        PEERS,
        "--ssl-certfile",
        place,
        "--ssl-keyfile",
        place,
    ]
    start(world, [sys.executable, "-m", "uvicorn", *words, "asgi_app:app"], theirs)
    running, port, _ = balance(world, theirs, tls=f'ca = "{authority.path}"\nserver_name = "app.test"')
    for _ in range(3):
        status, body = ask(port)
        assert status == 200
        assert body
    assert "Traceback" not in running.log
