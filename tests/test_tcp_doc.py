"""docs/tcp.md says what the code does: its files are configurations, and its tables hold."""

import re
import tomllib
from pathlib import Path

import pytest
from authority import Authority, chain_of, key_of

from twisted_lb.config import LoadBalancerConfig
from twisted_lb.config.doubts import CODES, doubts
from twisted_lb.config.objects import objects_of
from twisted_lb.config.sessions import session_misfits
from twisted_lb.core.handshake_counts import Failure
from twisted_lb.net.session import TCP
from twisted_lb.net.transport import RECEIVE_BYTES
from twisted_lb.plan import plan_of

PAGE = (Path(__file__).parent.parent / "docs" / "tcp.md").read_text()
REDIS, EDGE = re.findall(r"^```toml\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)


@pytest.fixture
def edge(tmp_path) -> LoadBalancerConfig:
    house = Authority(tmp_path)
    leaf = house.leaf("www.example.com")
    house.write("tls/www.pem", chain_of(leaf), key_of(leaf))
    return LoadBalancerConfig.model_validate(tomllib.loads(EDGE.replace("/etc/twisted-lb", str(tmp_path))))


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
