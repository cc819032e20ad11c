"""The files of docs/tcp.md run: a balancer goes by each, and carries connections as it says. Their servers speak HTTP here, which nobody
looks at.
"""

import re
import socket
import ssl
from pathlib import Path

import pytest
from authority import Authority, chain_of, key_of
from processes import PATIENCE_S
from standing import Standing, standing

from twisted_lb.wire.proxy_protocol import proxy_v2

PAGE = (Path(__file__).parent.parent.parent / "docs" / "tcp.md").read_text()
FILES = {
    re.search(r"# (\S+)\.toml", text)[1]: text
    for text in re.findall(r"^```toml\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
}
GET = b"GET /a HTTP/1.0\r\n\r\n"


def running(name: str, folder: Path):
    """A balancer by this file, whose backends nobody asks whether they speak the protocol that it is for."""
    house = Authority(folder)
    leaf = house.leaf("www.example.com")
    house.write("tls/www.pem", chain_of(leaf), key_of(leaf))
    text = FILES[name].replace("/etc/twisted-lb", str(folder))
    text = text.replace('{ script = "', '{ interval_s = 0, script = "').replace(
        '\nscript = "', '\ninterval_s = 0\nscript = "'
    )
    return standing(folder, {"lb.toml": text})


def connected(one: Standing) -> socket.socket:
    host, _, port = next(iter(one.listeners.values())).rpartition(":")
    return socket.create_connection((host, int(port)), timeout=PATIENCE_S)


def said(sock: socket.socket) -> str:
    """Who answers, as the backend says itself."""
    with sock.makefile("rb") as answer:
        return re.search(r"X-Answered-By: (\S+)", answer.read().decode())[1]


@pytest.mark.parametrize(
    ("name", "backends"),
    [
        ("redis", {"127.0.0.1:6379", "127.0.0.1:6380"}),
        ("postgresql", {"10.0.0.5:5432"}),
        ("behind-l4", {"10.0.0.9:5432"}),
    ],
)
def test_a_file_carries_connections_to_its_backends(name, backends, tmp_path):
    header = proxy_v2("203.0.113.9", 4000, "198.51.100.1", 5432) if name == "behind-l4" else b""
    with running(name, tmp_path) as (one, _):
        asked = set()
        for _ in range(2):
            with connected(one) as sock:
                sock.sendall(header + GET)
                asked.add(said(sock))
    assert asked == backends


def test_tls_ends_in_front_of_redis(tmp_path):
    context = ssl._create_unverified_context()
    with (
        running("redis-tls", tmp_path) as (one, _),
        connected(one) as sock,
        context.wrap_socket(sock, server_hostname="www.example.com") as tls,
    ):
        tls.sendall(GET)
        assert said(tls) == "127.0.0.1:6379"


def test_who_ends_tls_and_who_does_not_is_told_apart_by_names(tmp_path):
    context = ssl._create_unverified_context()
    with running("edge", tmp_path) as (one, _):
        for name, backend in (("www.example.com", "10.0.0.1:8000"), ("queue.example.com", "10.0.0.4:5672")):
            with connected(one) as sock, context.wrap_socket(sock, server_hostname=name) as tls:
                tls.sendall(
                    GET.replace(b"1.0", b"1.1").replace(b"\r\n\r\n", b"\r\nHost: x\r\nConnection: close\r\n\r\n")
                )
                assert said(tls) == backend
        with connected(one) as sock, pytest.raises(ssl.SSLError, match=r"(?i)wrong version"):
            context.wrap_socket(sock, server_hostname="git.example.com")  # passed on, to whom speaks none here


def test_each_file_of_the_page_runs_but_that_of_mail_which_wants_a_proxy_header():
    assert list(FILES) == ["redis", "edge", "redis-tls", "postgresql", "smtp", "behind-l4"]
