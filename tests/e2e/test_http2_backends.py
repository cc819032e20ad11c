"""HTTP/2 to real backends: nginx, in the clear and over TLS, through a real balancer."""

import hashlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from authority import Authority
from ports import free_port
from processes import Stage, listening, stage, until

NGINX = shutil.which("nginx", path=os.environ.get("PATH", "") + ":/usr/sbin")
ENVIRON = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}

pytestmark = [
    pytest.mark.skipif(NGINX is None, reason="nginx is not installed"),
    pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed"),
]

CONFIG = """
{user} worker_processes 1; daemon off; error_log {folder}/nginx.err; pid {folder}/nginx.pid;
events {{ worker_connections 1024; }}
http {{
    client_max_body_size 100m; keepalive_requests 100;
    client_body_temp_path {folder}/b; proxy_temp_path {folder}/p; fastcgi_temp_path {folder}/f;
    uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
    log_format kind "$server_protocol $connection";
    access_log {folder}/access.log kind;
    server {{
        {listen}
        root {folder};
        location = /small {{ return 200 "hello\\n"; }}
        location = /echo {{ proxy_pass http://127.0.0.1:{plain}; }}
    }}
    server {{ listen 127.0.0.1:{plain}; access_log off; location / {{ return 200 "taken\\n"; }} }}
}}
"""


@pytest.fixture
def world(tmp_path: Path) -> Iterator[Stage]:
    with stage(tmp_path) as one:
        one.others = []
        yield one
        for process in one.others:
            process.terminate()
            process.wait()


def nginx(world: Stage, listen: str) -> int:
    """A server of HTTP/2; its port."""
    port, plain = free_port(), free_port()
    folder = world.folder
    config = folder / "nginx.conf"
    config.write_text(
        CONFIG.format(
            user="user root;" if os.geteuid() == 0 else "", folder=folder, plain=plain, listen=listen.format(port=port)
        )
    )
    (folder / "bulk").write_bytes(os.urandom(3_000_000))
    world.others.append(subprocess.Popen([NGINX, "-c", config], stderr=subprocess.DEVNULL))
    until(lambda: listening(port), "nginx listens")
    return port


def balancer(world: Stage, port: int, more: str) -> str:
    """A balancer in front of it; its address."""
    own = free_port()
    config = world.folder / "lb.toml"
    config.write_text(
        f'[listeners.web]\naddress = "127.0.0.1:{own}"\nprotocols = ["h2", "http/1.1"]\n[[routes]]\npool = "app"\n'
        f'[pools.app]\nbackends = ["127.0.0.1:{port}"]\n{more}\n[pools.app.health_check]\npath = "/small"\ninterval_s = 0.1\ntimeout_s = 20\n'
    )
    running = world.twistd("lb", "lb", "--config", str(config))
    running.wait_for("on web")
    until(lambda: curl(f"http://127.0.0.1:{own}/small") == b"hello\n", f"an answer: {running.log}")
    return f"http://127.0.0.1:{own}"


def curl(*words: str) -> bytes:
    return subprocess.run(
        ["curl", "--silent", "--max-time", "15", *words], capture_output=True, env=ENVIRON, check=False
    ).stdout


def kinds(world: Stage) -> set[str]:
    """Which versions of HTTP the server was asked in."""
    return {line.split()[0] for line in (world.folder / "access.log").read_text().splitlines()}


def exercise(world: Stage, where: str) -> None:
    bulk = (world.folder / "bulk").read_bytes()
    assert curl(f"{where}/small") == b"hello\n"
    assert curl("--http2-prior-knowledge", f"{where}/small") == b"hello\n"
    for version in ("--http1.1", "--http2-prior-knowledge"):
        assert hashlib.sha256(curl(version, f"{where}/bulk")).digest() == hashlib.sha256(bulk).digest()
        assert curl(version, "--data-binary", f"@{world.folder}/bulk", f"{where}/echo") == b"taken\n"
    assert curl("--head", f"{where}/bulk").startswith(b"HTTP/1.1 200 OK\r\n")


def test_nginx_in_the_clear(world):
    where = balancer(world, nginx(world, "listen 127.0.0.1:{port} http2;"), 'protocol = "h2"')
    exercise(world, where)
    assert kinds(world) == {"HTTP/2.0"}


@pytest.mark.parametrize(("protocol", "http2"), [("h2", "http2"), ("auto", "http2"), ("auto", "")])
def test_nginx_over_tls(world, protocol, http2):
    certificate = Authority(world.folder).leaf("localhost")
    certificate.private_key_pem.write_to_path(str(world.folder / "key.pem"))
    for number, pem in enumerate(certificate.cert_chain_pems):
        pem.write_to_path(str(world.folder / "cert.pem"), append=number > 0)
    files = f"ssl_certificate {world.folder}/cert.pem; ssl_certificate_key {world.folder}/key.pem;"
    port = nginx(world, f"listen 127.0.0.1:{{port}} ssl {http2}; {files}")
    where = balancer(world, port, f'protocol = "{protocol}"\ntls = {{ verify = false }}')
    exercise(world, where)
    assert kinds(world) == ({"HTTP/2.0"} if http2 else {"HTTP/1.1"})


def test_a_server_that_says_good_bye_after_some_requests_loses_none(world):
    where = balancer(world, nginx(world, "listen 127.0.0.1:{port} http2;"), 'protocol = "h2"')
    h2load = shutil.which("h2load")
    if h2load is None:
        pytest.skip("h2load is not installed")
    # keepalive_requests is 100: a GOAWAY every so often, while others run.
    out = subprocess.run(
        [h2load, "-n", "3000", "-c", "8", "-m", "8", f"{where}/small"],
        capture_output=True,
        text=True,
        env=ENVIRON,
        check=True,
    ).stdout
    assert "3000 succeeded, 0 failed, 0 errored, 0 timeout" in out, out
    assert "status codes: 3000 2xx" in out, out
