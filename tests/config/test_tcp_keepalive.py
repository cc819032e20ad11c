"""`tcp_keepalive`: a switch or a table, of listeners and of pools."""

from typing import Any

import pytest

from twisted_lb.config import LoadBalancerConfig
from twisted_lb.config.load import load_toml
from twisted_lb.config.objects import objects_of
from twisted_lb.config.tcp_keepalive import TcpKeepaliveConfig
from twisted_lb.errors import ConfigError

USUAL = (True, 60, 10, 5)
OFF = (False, 60, 10, 5)


def said(one: TcpKeepaliveConfig) -> tuple[bool, int, int, int]:
    return one.on, one.idle_s, one.interval_s, one.probes


def both(**tables: Any) -> list[tuple[bool, int, int, int]]:
    """What the listener and the pool of a configuration say."""
    objects = objects_of(LoadBalancerConfig.model_validate(tables))
    [listener], [pool] = objects.listeners.values(), objects.pools.values()
    return [said(listener.tcp_keepalive), said(pool.tcp_keepalive)]


@pytest.mark.parametrize(
    ("value", "found"),
    [
        (False, OFF),
        (True, USUAL),
        ({}, USUAL),
        ({"idle_s": 30}, (True, 30, 10, 5)),
        ({"on": False, "idle_s": 30}, (False, 30, 10, 5)),
        ({"idle_s": 32767, "interval_s": 1, "probes": 127}, (True, 32767, 1, 127)),
    ],
    ids=str,
)
def test_a_switch_or_a_table_says_it_for_clients_and_backends(value, found):
    assert both(backends=["a:80"], tcp_keepalive=value) == [found, found]


def test_it_is_off_unless_somebody_says_otherwise():
    assert both(backends=["a:80"]) == [OFF, OFF]


@pytest.mark.parametrize(
    ("default", "own", "found"),
    [
        (True, False, OFF),
        ({"idle_s": 30}, False, (False, 30, 10, 5)),
        (False, {"idle_s": 30}, (True, 30, 10, 5)),
        ({"idle_s": 30, "probes": 9}, True, (True, 30, 10, 9)),
        ({"idle_s": 30, "probes": 9}, {"idle_s": 40}, (True, 40, 10, 9)),
    ],
    ids=str,
)
def test_a_table_of_its_own_wins_over_the_defaults_key_by_key(default, own, found):
    tables = {
        "defaults": {"listener": {"tcp_keepalive": default}, "pool": {"tcp_keepalive": default}},
        "listeners": {"web": {"address": ":80", "tcp_keepalive": own}},
        "pools": {"app": {"backends": ["a:80"], "tcp_keepalive": own}},
    }
    assert both(**tables) == [found, found]


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        ("5", "lb.toml:2:17: tcp_keepalive: should be true, false or a table, not 5"),
        ('"on"', "lb.toml:2:17: tcp_keepalive: should be true, false or a table, not 'on'"),
        ("{ idle_s = 0 }", "lb.toml:2:28: tcp_keepalive.idle_s: should be greater than or equal to 1, not 0"),
        ("{ idle_s = 32768 }", "lb.toml:2:28: tcp_keepalive.idle_s: should be less than or equal to 32767, not 32768"),
        ("{ idle_s = 0.5 }", "lb.toml:2:28: tcp_keepalive.idle_s: should be a valid integer, not 0.5"),
        ("{ probes = 128 }", "lb.toml:2:28: tcp_keepalive.probes: should be less than or equal to 127, not 128"),
        ("{ idle = 30 }", 'lb.toml:2:19: tcp_keepalive.idle: unknown key; did you mean "idle_s"?'),
    ],
)
def test_what_the_kernel_would_not_take_is_refused_where_it_stands(tmp_path, value, problem):
    file = tmp_path / "lb.toml"
    file.write_text(f'backends = ["a:80"]\ntcp_keepalive = {value}\n')
    with pytest.raises(ConfigError) as caught:
        load_toml(file)
    assert [str(one).replace(f"{tmp_path}/", "") for one in caught.value.problems] == [problem]
