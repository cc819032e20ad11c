"""docs/affinity.md: its files run without a doubt, and what it says of them is so."""

import re
import tomllib
from pathlib import Path

import pytest
from documented import blocks

from twisted_lb.config import LoadBalancerConfig
from twisted_lb.config.doubts import doubts
from twisted_lb.config.pools import PoolRulesConfig
from twisted_lb.core.held import Held
from twisted_lb.testing import Balanced, HeapClock, MemoryNetwork, ScriptedBackend, ScriptedClient, response

PAGE = (Path(__file__).parent.parent / "docs" / "affinity.md").read_text()
FILES = [text for text, _ in blocks(PAGE)]


class Running:
    """A balancer by a file of the page, whose backends answer with their addresses and these lines."""

    def __init__(self, text: str, folder: Path, *lines: bytes) -> None:
        (folder / "affinity").write_text("a secret of some length\n")
        self.config = LoadBalancerConfig.model_validate(tomllib.loads(text.replace("/etc/lb", str(folder))))
        self.clock = HeapClock(1000.0)
        self.network = MemoryNetwork(self.clock)
        self.balanced = Balanced(self.config, self.network)
        self.balanced.listen("lb:1", "web")
        [self.cluster] = self.balanced.data_plane.clusters.values()
        self.lines = lines
        for backend in self.cluster.pool.backends:
            ScriptedBackend(self.network, backend, lambda _, name=backend: [response(name.encode(), 200, *self.lines)])

    def ask(self, *lines: bytes) -> bytes:
        client = ScriptedClient(self.network, "lb:1")
        client.send(b"GET / HTTP/1.1\r\nHost: x\r\n" + b"".join(line + b"\r\n" for line in lines) + b"\r\n")
        self.clock.settle()
        return client.take()

    def close(self) -> None:
        for end in self.network.open_connections:
            end.abortConnection()
        self.clock.settle()
        self.balanced.close()
        self.clock.advance(5)


@pytest.fixture
def run(tmp_path):
    running = []

    def one(text: str, *lines: bytes) -> Running:
        running.append(Running(text, tmp_path, *lines))
        return running[-1]

    yield one
    for made in running:
        made.close()


def body(answer: bytes) -> bytes:
    return answer.rpartition(b"\r\n\r\n")[2]


@pytest.mark.parametrize("text", FILES, ids=range(len(FILES)))
def test_a_file_is_as_it_should_be(text, tmp_path):
    (tmp_path / "affinity").write_text("a secret of some length\n")
    config = LoadBalancerConfig.model_validate(tomllib.loads(text.replace("/etc/lb", str(tmp_path))))
    assert [str(one) for one in doubts(config, 20_000, 9_980)] == []


def test_the_cookie_is_as_the_page_shows_it(run):
    cookie, _, _ = FILES
    lb = run(cookie)
    answer = lb.ask()
    [line] = re.findall(rb"\r\n(Set-Cookie: [^\r]*)", answer)
    shown = re.search(r"`(Set-Cookie: [^`]*)`", PAGE)
    assert shown is not None
    assert re.sub(rb"=[\w-]{40};", "=…;".encode(), line).decode() == shown[1]
    mine = b"Cookie: " + line.partition(b": ")[2].partition(b";")[0]
    assert {body(lb.ask(mine)) for _ in range(4)} == {body(answer)}


def test_a_session_of_mcp_stays(run):
    _, mcp, _ = FILES
    lb = run(mcp, b"Mcp-Session-Id: s")
    home = body(lb.ask())
    lb.lines = ()
    assert {body(lb.ask(b"Mcp-Session-Id: s")) for _ in range(4)} == {home}


def test_clients_behind_the_proxy_are_told_apart(run):
    _, _, client = FILES
    lb = run(client.replace("10.0.0.0/8", "127.0.0.0/8"))
    homes = {name: body(lb.ask(b"X-Forwarded-For: " + name)) for name in (b"192.0.2.1", b"192.0.2.2")}
    assert len(set(homes.values())) == 2
    assert all({body(lb.ask(b"X-Forwarded-For: " + name)) for _ in range(3)} == {home} for name, home in homes.items())


def test_the_page_names_each_result_that_there_is_and_the_defaults():
    told = [
        word
        for row in re.findall(r"^\| (`[a-z`, ]+`) \|", PAGE.partition("affinity_claims_total")[2], re.MULTILINE)
        for word in re.findall("[a-z]+", row)
    ]
    assert sorted(told) == sorted(held.name.lower() for held in Held)
    affinity = PoolRulesConfig().affinity
    assert f"`drain_s` ({affinity.drain_s:g} s)" in PAGE
    assert f"`most` bindings ({affinity.most:,})" in PAGE
    assert f"Max-Age={affinity.max_age_s:.0f}" in PAGE
