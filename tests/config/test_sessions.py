"""Routes and pools of sessions: connections that are carried as they are."""

from typing import Any

import pytest
from pydantic import ValidationError

from twisted_lb.config import LoadBalancerConfig
from twisted_lb.config.objects import objects_of
from twisted_lb.plan import plan_of

TCP = {"address": ":1", "protocol": "tcp"}
WEB = {"address": ":2"}
SAFE = {"address": ":3", "tls": "self-signed"}
LISTENERS = {"db": TCP, "web": WEB, "safe": SAFE}
POOLS = {"app": {"backends": ["a:80"]}, "sql": {"backends": ["b:5432"]}}


def configured(*routes: dict[str, Any], listeners: Any = LISTENERS, pools: Any = POOLS) -> LoadBalancerConfig:
    return LoadBalancerConfig.model_validate({"listeners": listeners, "pools": pools, "routes": list(routes)})


def ways(config: LoadBalancerConfig) -> dict[str, tuple[tuple[str, ...], tuple[str, ...]]]:
    return {name: (one.routes, one.sessions) for name, one in plan_of(config).listeners.items()}


def test_a_route_without_sni_is_of_requests_and_one_with_it_of_sessions_where_names_are_said():
    config = configured({"name": "all", "pool": "app"}, {"name": "sql", "sni": "db.example.com", "pool": "sql"})
    assert ways(config) == {"db": ((), ("sql",)), "web": (("all",), ()), "safe": (("all",), ("sql",))}


def test_a_route_of_a_listener_that_carries_tcp_is_of_sessions():
    config = configured({"name": "here", "listeners": "db", "clients": "10.0.0.0/8", "pool": "sql"})
    assert ways(config) == {"db": ((), ("here",)), "web": ((), ()), "safe": ((), ())}


def test_a_route_that_names_no_listener_is_of_sessions_where_all_carry_tcp():
    listeners = {"db": TCP, "cache": {"address": ":4", "protocol": "tcp"}}
    config = configured({"name": "here", "clients": "10.0.0.0/8", "pool": "sql"}, listeners=listeners)
    assert ways(config) == {"db": ((), ("here",)), "cache": ((), ("here",))}
    config = configured({"name": "all", "clients": "10.0.0.0/8", "pool": "app"})
    assert ways(config) == {"db": ((), ()), "web": (("all",), ()), "safe": (("all",), ())}


def test_a_route_that_ends_tls_is_for_listeners_that_can():
    listeners = {"db": TCP, "safe": SAFE}
    config = configured({"name": "ends", "sni": "a.b", "terminate_tls": True, "pool": "sql"}, listeners=listeners)
    assert ways(config) == {"db": ((), ()), "safe": ((), ("ends",))}
    with pytest.raises(ValidationError) as refused:
        configured({"sni": "a.b", "terminate_tls": True, "pool": "sql"}, listeners={"db": TCP, "web": WEB})
    assert "no listener has tls.certificates to end it with" in str(refused.value)


def test_a_word_of_http_in_a_route_is_refused_where_all_listeners_carry_tcp():
    with pytest.raises(ValidationError) as refused:
        configured({"host": "a.b", "pool": "sql"}, listeners={"db": TCP})
    assert "is of HTTP: all listeners carry TCP" in str(refused.value)


def test_the_listeners_of_a_route_are_those_that_it_names():
    config = configured({"name": "sql", "sni": "db.example.com", "listeners": "safe", "pool": "sql"})
    assert ways(config) == {"db": ((), ()), "web": ((), ()), "safe": ((), ("sql",))}


@pytest.mark.parametrize(
    ("route", "error"),
    [
        ({"sni": "a.b", "path": "/x"}, "is of HTTP: nothing of HTTP is looked at where sni leads"),
        ({"listeners": "db", "host": "a.b"}, "is of HTTP: the listener db carries TCP"),
        ({"listeners": ["db", "web"]}, "db carries TCP and web speaks HTTP: a route is for one of both"),
        ({"sni": "a.b", "listeners": "web"}, "web speaks plain HTTP, and nobody says a name (SNI) there"),
        ({"terminate_tls": True}, "is for routes with sni"),
        ({"sni": "a.b", "listeners": "db", "terminate_tls": True}, "the listener db has no tls.certificates to end it"),
        ({"sni": "a.b", "split": {"app": 1, "sql": 1}, "split_by": {"header": "X"}}, 'should be "client"'),
        ({"sni": "a.b", "fallback": {"status": 503}}, "should be a pool, and no answer of HTTP"),
        ({"sni": "a.b:443"}, "should be a host name without port"),
    ],
)
def test_what_does_not_go_together_is_refused_in_a_line(route, error):
    with pytest.raises(ValidationError) as refused:
        configured({"pool": "sql", **route} if "split" not in route else route)
    assert error in str(refused.value)


@pytest.mark.parametrize("action", [{"redirect": {"to": "https://x.example/"}}, {"answer": {"status": 200}}])
def test_sessions_get_no_answers_of_http(action):
    with pytest.raises(ValidationError) as refused:
        configured({"sni": "a.b", **action})
    assert "is an answer of HTTP" in str(refused.value)


def kind(config: LoadBalancerConfig, pool: str) -> str:
    return objects_of(config).pools[pool].health_check.kind


def test_a_pool_that_has_sessions_alone_is_connected_to_where_nobody_says_what_it_is_asked():
    config = configured({"listeners": "db", "pool": "sql"}, {"listeners": "web", "pool": "app"})
    assert (kind(config, "sql"), kind(config, "app")) == ("tcp", "http")
    both = configured({"listeners": "db", "pool": "sql"}, {"listeners": "web", "pool": "sql"})
    assert kind(both, "sql") == "http"


def test_what_is_said_of_checks_holds_for_sessions_too():
    said = {"backends": ["b:5432"], "health_check": {"path": "/ready"}}
    config = configured({"listeners": "db", "pool": "sql"}, pools={**POOLS, "sql": said})
    assert kind(config, "sql") == "http"


def test_the_default_pool_of_a_listener_that_carries_tcp_has_sessions():
    listeners = {"db": {**TCP, "default_pool": "sql"}, "web": {**WEB, "default_pool": "app"}}
    config = configured(listeners=listeners)
    assert (kind(config, "sql"), kind(config, "app")) == ("tcp", "http")
    plan = plan_of(config)
    assert plan.listeners["db"].tcp
    assert plan.listeners["db"].route == "to sql"


def test_flat_keys_may_carry_tcp():
    config = LoadBalancerConfig.model_validate({"backends": ["a:6379"], "listen": {"port": 6379}, "protocol": "tcp"})
    assert plan_of(config).listeners["default"].tcp
    assert kind(config, "default") == "tcp"
