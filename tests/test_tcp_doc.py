"""docs/tcp.md says what the code does: its files are configurations, and its tables hold."""

import re
import time
import tomllib
from pathlib import Path

import pytest
from authority import Authority, chain_of, key_of
from twisted.internet.protocol import Protocol

from twisted_lb.config import LoadBalancerConfig
from twisted_lb.config.doubts import CODES, doubts
from twisted_lb.config.objects import objects_of
from twisted_lb.config.sessions import session_misfits
from twisted_lb.core.handshake_counts import Failure
from twisted_lb.net.session import TCP
from twisted_lb.net.transport import RECEIVE_BYTES
from twisted_lb.plan import plan_of
from twisted_lb.testing import Balanced, HeapClock, MemoryNetwork, ScriptedClient

PAGE = (Path(__file__).parent.parent / "docs" / "tcp.md").read_text()
FILES = re.findall(r"^```toml\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
REDIS, EDGE = FILES[:2]


@pytest.fixture
def certified(tmp_path) -> Path:
    """The folder that the files name, with a certificate."""
    house = Authority(tmp_path)
    leaf = house.leaf("www.example.com")
    house.write("tls/www.pem", chain_of(leaf), key_of(leaf))
    return tmp_path


@pytest.fixture
def edge(certified) -> LoadBalancerConfig:
    return LoadBalancerConfig.model_validate(tomllib.loads(EDGE.replace("/etc/twisted-lb", str(certified))))


def test_the_first_file_carries_tcp_and_asks_redis():
    config = LoadBalancerConfig.model_validate(tomllib.loads(REDIS))
    plan = plan_of(config)
    assert plan.listeners["default"].tcp
    assert objects_of(config).pools["default"].health_check.kind == "script"
    assert list(doubts(config, 20_000, 9_000)) == []


def test_the_names_of_the_second_file_lead_where_it_says(edge):
    plan = plan_of(edge)
    assert list(doubts(edge, 20_000, 9_000)) == []
    assert plan.listeners["edge"].sessions == ("routes[0]", "routes[1]")
    assert [plan.routes[one].terminates for one in plan.listeners["edge"].sessions] == [False, True]
    assert [one.pool for name in plan.listeners["edge"].sessions for one in plan.routes[name].leads] == ["git", "queue"]


def test_a_route_that_ends_tls_without_certificates_is_a_mistake(edge):
    listeners = objects_of(edge).listeners
    plain = {"edge": listeners["edge"].model_copy(update={"protocol": "tcp", "tls": type(listeners["edge"].tls)()})}
    routes = [one.model_copy(update={"listeners": ("edge",)}) for one in edge.routes]
    [misfit] = session_misfits(plain, routes)
    assert misfit.path == ("routes", 1, "terminate_tls")


def test_a_pool_of_sessions_is_connected_to_where_nobody_says_more(edge):
    kinds = {name: pool.health_check.kind for name, pool in objects_of(edge).pools.items()}
    assert kinds == {"site": "http", "git": "tcp", "queue": "tcp"}


def test_its_numbers_and_words_are_those_of_the_code():
    rules = plan_of(LoadBalancerConfig(backends=["a:80"])).routes["default"].leads[0].rules
    assert (rules.tunnel_idle_s, rules.half_open_s) == (3600, 300)
    assert f"{RECEIVE_BYTES >> 10} KiB" in PAGE
    assert f"the method `{TCP.decode()}`" in PAGE
    assert f"`{Failure.NO_ROUTE.value}`" in PAGE
    assert set(re.findall(r"W[0-9]{2}", PAGE)) <= set(CODES)


# What is logged.


class Pong(Protocol):
    """A server that answers whatever it is told."""

    def dataReceived(self, data: bytes) -> None:
        self.transport.write(b"+PONG\r\n")


def logged(form: str) -> str:
    """The line of one session, as the log has it."""
    clock = HeapClock(1000.0)
    network = MemoryNetwork(clock)
    network.listen("127.0.0.1:6379", Pong)
    config = LoadBalancerConfig(
        backends=["127.0.0.1:6379"],
        protocol="tcp",
        health_check={"interval_s": 0},
        log={"file": "stdout", "format": form},
    )
    balanced = Balanced(config, network)
    client = ScriptedClient(network, "lb:8080").send(b"PING\r\n")
    clock.advance(0.25)
    assert client.received == b"+PONG\r\n"
    client.close()
    clock.settle()
    balanced.close()
    clock.advance(100)
    [line] = balanced.log_lines
    return line.decode("ascii").rstrip("\n")


TEMPLATE = "{time} {client} {method} {host} {backend} {outcome} {state} {request_bytes} {response_bytes} {took_ms}"


@pytest.mark.parametrize("form", ["haproxy", "combined", "json", TEMPLATE])
def test_its_lines_of_the_log_are_those_that_are_logged(form, monkeypatch):
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    try:
        assert f"\n{logged(form)}\n" in PAGE
    finally:
        monkeypatch.undo()
        time.tzset()
    assert form != TEMPLATE or f"`{form}`" in PAGE


# The recipes.


@pytest.mark.parametrize("text", FILES, ids=range(len(FILES)))
def test_its_files_are_configurations_without_a_doubt(text, certified):
    config = LoadBalancerConfig.model_validate(tomllib.loads(text.replace("/etc/twisted-lb", str(certified))))
    assert list(doubts(config, 20_000, 9_000)) == []
    assert any(one.tcp or one.sessions for one in plan_of(config).listeners.values())


def test_the_recipes_say_what_they_are_for(certified):
    configs = [
        LoadBalancerConfig.model_validate(tomllib.loads(text.replace("/etc/twisted-lb", str(certified))))
        for text in FILES[2:]
    ]
    secured, sql, mail, behind = map(plan_of, configs)
    assert secured.listeners["redis"].tls is not None
    asked = [objects_of(one).pools for one in configs]
    presets = [pool.health_check.script and pool.health_check.script.preset for one in asked for pool in one.values()]
    assert presets == ["redis", "postgresql", "smtp", None]
    settings = sql.pools["default"].settings
    assert (settings.close_when_down, settings.leave_backups) == (True, True)
    assert [one.backup for one in objects_of(configs[1]).pools["default"].backends] == [False, True]
    assert mail.pools["mail"].proxy == 2
    assert behind.listeners["db"].tcp
