"""Sessions between two real HAProxies in `mode tcp`: whom the client was is told in front and behind, by PROXY headers."""

import contextlib
import socket
from collections.abc import Iterator

import pytest
from carrying import Carrier, Echo, connect, found, needs, start
from ports import free_port
from processes import PATIENCE_S, Stage, stage, until

from twisted_lb.wire.proxy_protocol import ProxyHeader, read_proxy

pytestmark = needs("haproxy")

HAPROXY = """
defaults
  mode tcp
  unique-id-format %ci-%cp
  timeout client {patience}s
  timeout server {patience}s
  timeout connect {patience}s
frontend front
  bind 127.0.0.1:{front}
  default_backend balancer
backend balancer
  server lb 127.0.0.1:{trusts} send-proxy-v2 proxy-v2-options crc32c,unique-id
frontend behind
  bind 127.0.0.1:{behind} accept-proxy
  default_backend end
backend end
  server end 127.0.0.1:{end} send-proxy
"""

CONFIG = """
[listeners.trusts]
address = "127.0.0.1:{trusts}"
protocol = "tcp"
default_pool = "v2"
proxy_protocol = "require"
[listeners.v1]
address = "127.0.0.1:{v1}"
protocol = "tcp"
default_pool = "v1"
[listeners.v2]
address = "127.0.0.1:{v2}"
protocol = "tcp"
default_pool = "v2"
[pools.v1]
backends = ["127.0.0.1:{behind}"]
send_proxy = "v1"
[pools.v2]
backends = ["127.0.0.1:{behind}"]
send_proxy = "v2"
health_check.interval_s = 0.2
"""


class Chain:
    """A client, HAProxy, a balancer, HAProxy again, and a server that answers with whom it is told of."""

    def __init__(self, world: Stage) -> None:
        self.ports = {name: free_port() for name in ("front", "trusts", "behind", "v1", "v2")}
        self.end = Echo(self._tell)
        self.heard: list[ProxyHeader] = []
        file = world.folder / "haproxy.cfg"
        file.write_text(HAPROXY.format(patience=int(PATIENCE_S), end=self.end.port, **self.ports))
        start(world, found("haproxy"), "-db", "-f", file, port=self.ports["behind"], log=world.folder / "haproxy.log")
        self.carrier = Carrier(world, CONFIG.format(**self.ports))

    def _tell(self, sock: socket.socket) -> None:
        with contextlib.suppress(ConnectionResetError):  # as checks leave
            self._hear(sock)

    def _hear(self, sock: socket.socket) -> None:
        data = b""
        while (header := read_proxy(data)) is None:
            more = sock.recv(4096)
            if not more:
                return
            data += more
        rest = data[header.size :]
        while more := sock.recv(65536):
            rest += more
        self.heard.append(header)
        sock.sendall(f"{header.source} {header.source_port} {len(rest)}".encode())

    def ask(self, name: str, data: bytes = b"hello") -> tuple[str, tuple[str, int]]:
        """Whom the server was told of, with how much came, and who it was."""
        with connect(self.ports[name]) as client:
            ours = client.getsockname()
            client.sendall(data)
            client.shutdown(socket.SHUT_WR)
            answer = b""
            while more := client.recv(4096):
                answer += more
        return answer.decode(), ours


@pytest.fixture(scope="module")
def chain(tmp_path_factory) -> Iterator[Chain]:
    with stage(tmp_path_factory.mktemp("chain")) as world:
        one = Chain(world)
        with contextlib.closing(one.end):
            yield one


@pytest.mark.parametrize("name", ["front", "v1", "v2"])
def test_the_server_behind_all_of_them_is_told_who_the_client_is(chain, name):
    before = len(chain.carrier.logged())
    for size in (1, 5, 1 << 20):
        said, (address, port) = chain.ask(name, b"x" * size)
        assert said == f"{address} {port} {size}"
    logged = chain.carrier.wait_logged(before + 3)[-3:]
    assert [one["http.request.body.size"] for one in logged] == [1, 5, 1 << 20]  # without any header
    assert [one["client.port"] for one in logged][-1] == port


def test_the_header_of_haproxy_is_logged_and_explained(chain):
    before = len(chain.carrier.logged())
    _, (address, port) = chain.ask("front")
    one = chain.carrier.wait_logged(before + 1)[-1]
    assert (one["client.address"], one["client.port"]) == (address, port)
    assert one["lb.proxy.unique_id"] == f"{address}-{port}"
    assert f"told by its proxy: id {address}-{port}" in chain.carrier.lbctl("explain", one["http.request.id"])


def test_who_sends_no_header_where_one_is_required_reaches_nobody(chain):
    with connect(chain.ports["trusts"]) as client:
        _, port = client.getsockname()
        client.sendall(b"not a header at all\r\n" * 20)
        with contextlib.suppress(ConnectionResetError):
            assert client.recv(100) == b""
    assert port not in [header.source_port for header in chain.heard]


def test_checks_of_a_pool_that_sends_headers_are_taken_by_haproxy(chain):
    until(lambda: chain.carrier.metric("checks_total", pool="v2", result="passed") >= 2, "checks are passed")
    assert chain.carrier.metric("checks_total", pool="v2", result="failed") == 0
