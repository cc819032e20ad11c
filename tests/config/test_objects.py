"""The objects of a configuration: which key of which table is in force, for every key of every owner."""

from collections.abc import Iterator
from typing import Any

import pytest
from pydantic import ValidationError

from twisted_lb.config import LoadBalancerConfig, Model
from twisted_lb.config.inheritance import inherited
from twisted_lb.config.listeners import AddressTable, ListenerConfig, ListenerRulesConfig
from twisted_lb.config.objects import Objects, objects_of
from twisted_lb.config.pools import BackendRulesConfig, BackendTable, PoolConfig, PoolRulesConfig
from twisted_lb.config.routes import RouteConfig, RouteRulesConfig

# For each key of an owner that can be inherited: a value, and another one. Neither is the default.
ACCESS: dict[str, tuple[Any, Any]] = {
    "deny_clients": (["10.0.0.0/8"], ["::1"]),
    "allow_clients": (["10.0.0.1"], ["10.0.0.2"]),
    "rate_limits": ([{"per_s": 1.0}], [{"per_s": 2.0, "burst": 5, "key": {"header": "X-A"}, "dry_run": True}]),
    "requests_per_client": (4, 5),
}
HEADS: dict[str, tuple[Any, Any]] = {
    "limits.head_bytes": (400, 500),
    "limits.head_fields": (9, 10),
    "limits.trailer_bytes": (1, 2),
}
KEEPALIVE: dict[str, tuple[Any, Any]] = {
    "tcp_keepalive.on": (True, True),
    "tcp_keepalive.idle_s": (100, 200),
    "tcp_keepalive.interval_s": (3, 4),
    "tcp_keepalive.probes": (2, 3),
}
LISTENER: dict[str, tuple[Any, Any]] = {
    "log": (False, "json"),
    "protocol": ("tcp", "tcp"),
    "protocols": (["h2"], ["h2", "http/1.1"]),
    **ACCESS,
    **HEADS,
    "trusted_proxies": (["10.0.0.1"], ["10.0.0.2"]),
    "trusted_fields": ("forwarded", "x-forwarded"),
    "only_from_proxies": (["X-A"], ["X-B"]),
    "proxy_protocol": ("require", "require"),
    "proxy_protocol_from": (["10.0.0.1"], ["10.0.0.2"]),
    "acme_webroot": ("/tmp", "/var"),
    "default_pool": ("one", "two"),
    "client_half_close": ("finish", "finish"),
    "client_max_age_s": (10.0, 20.0),
    "client_requests": (10, 20),
    "error_pages": ({"503": "a"}, {"503": "b"}),
    "tls.certificates": (["self-signed"], ["/etc/a.pem"]),
    "tls.policy": ("modern", "modern"),
    "tls.ciphers": ("ECDHE+AESGCM", "ECDHE+CHACHA20"),
    "tls.client_certificate": ("request", "require"),
    "tls.client_ca": ("/etc/a.pem", "/etc/b.pem"),
    "tls.crl": ("/etc/a.pem", "/etc/b.pem"),
    "tls.strict_sni": (True, True),
    "tls.hosts": ({"a.b": {"policy": "modern"}}, {"a.b": {"policy": "intermediate"}}),
    **KEEPALIVE,
    "timeouts.handshake_s": (1.0, 2.0),
    "timeouts.response_idle_s": (1.0, 2.0),
    "timeouts.first_byte_s": (1.0, 2.0),
    "timeouts.head_s": (1.0, 2.0),
    "timeouts.body_idle_s": (1.0, 2.0),
    "timeouts.client_idle_s": (1.0, 2.0),
    "limits.request_line_bytes": (100, 200),
    "limits.handshakes": (5, 6),
    "limits.connections": (7, 8),
    "limits.connections_per_client": (3, 4),
    "limits.client_bytes_per_s": (1, 2),
}
ROUTE: dict[str, tuple[Any, Any]] = {
    "log": ("json", False),
    **ACCESS,
    "strip_prefix": ("/a", "/b"),
    "add_prefix": ("/a", "/b"),
    "replace_prefix": ({"/a": "/b"}, {"/c": "/d"}),
    "set_request_headers": ({"X-A": "{client}"}, {"X-A": "{pool}"}),
    "remove_request_headers": (["X-A"], ["X-B"]),
    "set_response_headers": ({"X-A": "1"}, {"X-A": "2"}),
    "remove_response_headers": (["X-A"], ["X-B"]),
    "key": ("path", {"header": "X-User"}),
    "https_only": (True, 8443),
    "hsts": ("max-age=1", "max-age=2"),
    "urgency": (1, 6),
    "repeatable": (["POST"], ["PATCH"]),
    "stream": (True, True),
    "cost": (5, "bytes"),
    "upgrades": (["chess"], ["go"]),
    "encoded_slash": ("refuse", "refuse"),
    "error_pages": ({"503": "a"}, {"503": "b"}),
    "timeouts.response_idle_s": (1.0, 2.0),
    "timeouts.response_head_s": (1.0, 2.0),
    "timeouts.attempt_s": (1.0, 2.0),
    "timeouts.deadline_s": (1.0, 2.0),
    "timeouts.deadline_header": ("X-A", "X-B"),
    "timeouts.tunnel_idle_s": (1.0, 2.0),
    "timeouts.half_open_s": (1.0, 2.0),
    "limits.replay_body_bytes": (1, 2),
    "limits.body_bytes": (1, 2),
    "forwarding.forwarded": (True, True),
    "forwarding.real_ip": (True, True),
    "forwarding.via": ("a", "b"),
    "forwarding.request_id": ("make", "make"),
    "forwarding.traceparent": ("make", "make"),
    "forwarding.host": ("backend", "app.internal"),
}
CHECK: dict[str, tuple[Any, Any]] = {
    "interval_s": (9.0, 8.0),
    "down_interval_s": (7.0, 6.0),
    "kind": ("tcp", "tcp"),
    "script": ({"preset": "redis", "password": "p"}, "smtp"),
    "path": ("/a", "/b"),
    "method": ("OPTIONS", "POST"),
    "host": ("a", "b"),
    "headers": ({"X-A": "1"}, {"X-A": "2"}),
    "expect_statuses": ([201], [202]),
    "expect_text": ("a", "b"),
    "busy_statuses": ([429], ["502-503"]),
    "agent": ("header", "body"),
    "agent_header": ("X-A", "X-B"),
    "agent_port": (1, 2),
    "port": (1, 2),
    "timeout_s": (3.0, 4.0),
    "rise": (3, 4),
    "fall": (4, 5),
    "move": (False, False),
    "initial": ("down", "down"),
}
POOL: dict[str, tuple[Any, Any]] = {
    **HEADS,
    **KEEPALIVE,
    **{f"health_check.{key}": both for key, both in CHECK.items()},
    "policy": ("rand", "rand"),
    "max_in_flight": (5, 6),
    "profile": ("wsgi", "inference"),
    "abandoned_s": (5.0, 6.0),
    "buffer_request_bytes": (4096, 8192),
    "buffer_response_bytes": (5000, 6000),
    "close_when_down": (True, True),
    "leave_backups": (True, True),
    "send_proxy": ("v1", "v2"),
    "policy_budget_us": (600, 700),
    "shadow.policy": ("least", "p2c"),
    "resolve": ("first", "first"),
    "family": ("ipv4", "ipv6"),
    "check": ("one", "two"),
    "ejection.consecutive_failures": (3, 4),
    "ejection.min_clients": (3, 4),
    "ejection.success_rate_factor": (1.0, 2.0),
    "ejection.success_rate_requests": (10, 20),
    "ejection.failure_percent": (30.0, 40.0),
    "ejection.failure_percent_requests": (10, 20),
    "ejection.min_backends": (3, 4),
    "ejection.window_s": (20.0, 40.0),
    "ejection.base_s": (5.0, 20.0),
    "ejection.longest_s": (100.0, 200.0),
    "ejection.max_percent": (20, 30),
    "ejection.checks_end": (False, False),
    "queue.timeout_s": (2.0, 3.0),
    "queue.fair_by": ("client", {"header": "X-Tenant"}),
    "queue.priority_by": ({"header": "Priority"}, {"header": "X-Class", "classes": {"batch": 6}}),
    "queue.full_status": (429, 429),
    "queue.no_backend_s": (2.0, 3.0),
    "queue.length": (2, 3),
    "affinity.cookie": ("lb", {"name": "mine"}),
    "affinity.header": ("X-A", "X-B"),
    "affinity.client": (True, True),
    "affinity.learn": ({"header": "X-A"}, {"cookie": "A"}),
    "affinity.secret": ("0123456789abcdef", "fedcba9876543210"),
    "affinity.max_age_s": (60.0, 70.0),
    "affinity.most": (10, 20),
    "affinity.when_full": ("wait", "wait"),
    "affinity.drain_s": (1.0, 2.0),
    "queue.when_full": ("spill", "spill"),
    "adaptive.least": (2, 3),
    "adaptive.most": (20, 30),
    "adaptive.tolerance_percent": (50.0, 60.0),
    "adaptive.measure_s": (20.0, 30.0),
    "slow_start.window_s": (1.0, 2.0),
    "slow_start.aggression": (2.0, 3.0),
    "slow_start.floor_percent": (20, 30),
    "panic.threshold_percent": (20, 30),
    "panic.even_down": (True, True),
    "retry.more_attempts": (3, 4),
    "retry.bad_statuses": ([500], [501]),
    "retry.grpc": (["unavailable"], ["aborted", "internal"]),
    "health_check.grpc_service": ("a.B", "c.D"),
    "retry.methods": (["POST"], ["PATCH"]),
    "retry.backoff_s": (0.25, 0.5),
    "retry.backoff_most_s": (1.0, 2.0),
    "retry.retry_after_most_s": (1.0, 2.0),
    "hedge.percentile": (90.0, 99.0),
    "hedge.delay_s": (0.5, 1.0),
    "hedge.least_delay_s": (0.5, 1.0),
    "retry.budget_percent": (30, 40),
    "retry.budget_per_s": (30, 40),
    "upstream.max_idle": (1, 2),
    "upstream.reuse": ("always", "always"),
    "upstream.idle_s": (1.0, 2.0),
    "upstream.max_requests": (1, 2),
    "upstream.max_age_s": (1.0, 2.0),
    "upstream.reuse_unsafe_within_s": (0.1, 0.2),
    "timeouts.connect_s": (1.0, 2.0),
}
BACKEND: dict[str, tuple[Any, Any]] = {
    "weight": (2, 3),
    "priority": (1, 2),
    "backup": (True, True),
    "check_port": (1, 2),
    "max_in_flight": (5, 6),
    "resolve": ("first", "auto"),
    "family": ("ipv4", "ipv6"),
    "labels": ({"zone": "a"}, {"zone": "b"}),
}
# What an object says of itself alone.
OWN = {
    "listener": {"address"},
    "pool": {"backends", "mirror", "protocol", "targets", "tls"},
    "backend": {"address", "name"},
    "route": {
        "name", "listeners", "sni", "terminate_tls", "host", "path", "path_prefix", "method", "headers", "query", "clients", "pool", "split",
        "split_by", "fallback", "redirect", "answer", "deny",
    },
}  # fmt: skip
OWNERS: dict[str, tuple[type[Model], type[Model], dict[str, tuple[Any, Any]]]] = {
    "listener": (ListenerConfig, ListenerRulesConfig, LISTENER),
    "route": (RouteConfig, RouteRulesConfig, ROUTE),
    "pool": (PoolConfig, PoolRulesConfig, POOL),
    "backend": (BackendTable, BackendRulesConfig, BACKEND),
}
KEYS = [(owner, key) for owner, (*_, values) in OWNERS.items() for key in values]


def keys_of(model: type[Model], prefix: str = "") -> Iterator[str]:
    for key, field in model.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, Model):
            yield from keys_of(kind, f"{prefix}{key}.")
        else:
            yield prefix + key


def nested(key: str, value: Any) -> dict[str, Any]:
    head, _, rest = key.partition(".")
    return {head: nested(rest, value)} if rest else {head: value}


def configured(owner: str, own: dict[str, Any], defaults: dict[str, Any]) -> LoadBalancerConfig:
    """A configuration with one object of each kind, and others that keys may name."""
    pool = own if owner == "pool" else {}
    backend = own if owner == "backend" else {}
    if "tls" in {**own, **defaults} and "certificates" not in {**own.get("tls", {}), **defaults.get("tls", {})}:
        defaults = {**defaults, "tls": {"certificates": "self-signed", **defaults.get("tls", {})}}
    return LoadBalancerConfig.model_validate(
        {
            "listeners": {"web": {"address": ":0", **(own if owner == "listener" else {})}},
            "routes": [{"name": "r", "pool": "app", **(own if owner == "route" else {})}],
            "pools": {
                "app": {"backends": [{"address": "a.internal:80", **backend}], **pool},
                "one": {"backends": ["b:80"]},
                "two": {"backends": ["c:80"]},
            },
            "checks": {"one": {}, "two": {}},
            "defaults": {owner: defaults},
        }
    )


def of(objects: Objects, owner: str, key: str) -> Any:
    """What is in force, as a file would say it."""
    if owner == "backend":
        [spec] = objects.pools["app"].backends
        return dict(spec.labels) if key == "labels" else getattr(spec, {"max_in_flight": "limit"}.get(key, key))
    one: Any = {"listener": objects.listeners, "route": objects.routes, "pool": objects.pools}[owner]
    one = one[{"listener": "web", "route": "r", "pool": "app"}[owner]]
    for part in key.split("."):
        one = getattr(one, part)
    return one


def as_read(owner: str, key: str, value: Any) -> Any:
    """A value as its model has it."""
    if owner == "backend":
        return value
    read: Any = OWNERS[owner][1].model_validate(nested(key, value))
    for part in key.split("."):
        read = getattr(read, part)
    return read


@pytest.mark.parametrize("owner", OWNERS)
def test_every_key_of_an_owner_is_here_and_all_but_its_own_can_be_inherited(owner):
    model, rules, values = OWNERS[owner]
    assert sorted(values) == sorted(keys_of(rules))
    assert set(model.model_fields) - set(rules.model_fields) == OWN[owner]


@pytest.mark.parametrize("owner", OWNERS)
def test_neither_value_is_the_default(owner):
    objects = objects_of(configured(owner, {}, {}))
    for key, values in OWNERS[owner][2].items():
        for value in values:
            assert as_read(owner, key, value) != of(objects, owner, key), key


@pytest.mark.parametrize("owner", OWNERS)
def test_a_key_in_a_table_is_in_force(owner):
    for key, (_, value) in OWNERS[owner][2].items():
        found = of(objects_of(configured(owner, nested(key, value), {})), owner, key)
        assert found == as_read(owner, key, value), key


@pytest.mark.parametrize("owner", OWNERS)
def test_a_key_of_the_defaults_is_inherited(owner):
    for key, (value, _) in OWNERS[owner][2].items():
        found = of(objects_of(configured(owner, {}, nested(key, value))), owner, key)
        assert found == as_read(owner, key, value), key


@pytest.mark.parametrize(("owner", "key"), KEYS)
def test_a_key_in_a_table_wins_over_the_defaults(owner, key):
    default, value = OWNERS[owner][2][key]
    found = of(objects_of(configured(owner, nested(key, value), nested(key, default))), owner, key)
    assert found == as_read(owner, key, value)


@pytest.mark.parametrize("key", CHECK)
def test_checks_by_name_are_in_force_where_the_pool_says_nothing_itself(key):
    named, own = CHECK[key]

    def checks(pool: dict[str, Any]) -> Any:
        config = {"pools": {"app": {"backends": ["a:80"], **pool}}, "checks": {"x": nested(key, named)}}
        return objects_of(LoadBalancerConfig.model_validate(config)).pools["app"].health_check

    assert getattr(checks({"check": "x"}), key) == getattr(checks_of({key: named}), key)
    assert getattr(checks({"check": "x", "health_check": nested(key, own)}), key) == getattr(checks_of({key: own}), key)
    assert getattr(checks({}), key) == getattr(checks_of({}), key)


def checks_of(values: dict[str, Any]) -> Any:
    return PoolRulesConfig.model_validate({"health_check": values}).health_check


def test_checks_by_name_come_before_the_defaults_and_are_filled_up_by_them():
    config = LoadBalancerConfig.model_validate(
        {
            "pools": {"app": {"backends": ["a:80"], "check": "x", "health_check": {"rise": 7}}},
            "checks": {"x": {"rise": 6, "fall": 6}},
            "defaults": {"pool": {"health_check": {"rise": 5, "fall": 5, "path": "/five"}}},
        }
    )
    check = objects_of(config).pools["app"].health_check
    assert (check.rise, check.fall, check.path) == (7, 6, "/five")


def test_the_checks_default_are_for_every_pool_that_names_none():
    config = LoadBalancerConfig.model_validate(
        {
            "pools": {"a": {"backends": ["a:80"]}, "b": {"backends": ["b:80"], "check": "x"}},
            "checks": {"default": {"rise": 6}, "x": {}},
        }
    )
    assert {name: pool.health_check.rise for name, pool in objects_of(config).pools.items()} == {"a": 6, "b": 2}


def test_flat_keys_inherit_what_they_do_not_say():
    config = LoadBalancerConfig.model_validate(
        {
            "backends": ["a:80"],
            "limits": {"head_bytes": 600},
            "defaults": {
                "listener": {"limits": {"head_bytes": 500, "head_fields": 10}},
                "pool": {"queue": {"length": 3}},
                "route": {"upgrades": ["go"]},
                "backend": {"weight": 9},
            },
        }
    )
    objects = objects_of(config)
    limits = objects.listeners["default"].limits
    assert (limits.head_bytes, limits.head_fields) == (600, 10)
    assert objects.pools["default"].queue.length == 3
    assert objects.to_default["default"].upgrades == ("go",)
    assert [spec.weight for spec in config.backends] == [9]


@pytest.mark.parametrize(
    ("key", "of_defaults", "own", "both"),
    [
        ("error_pages", {"502": "a", "503": "a"}, {"503": "b"}, {"502": "a", "503": "b"}),
        ("set_request_headers", {"X-A": "1", "X-B": "1"}, {"X-B": "2"}, {"X-A": "1", "X-B": "2"}),
        # What is put in the place of what is one thing.
        ("replace_prefix", {"/a": "/b"}, {"/c": "/d"}, {"/c": "/d"}),
        ("repeatable", ["POST"], ["PATCH"], ("PATCH",)),
    ],
)
def test_tables_are_inherited_key_by_key_and_lists_as_a_whole(key, of_defaults, own, both):
    assert of(objects_of(configured("route", {key: own}, {key: of_defaults})), "route", key) == both


def test_labels_are_inherited_one_by_one():
    config = configured("backend", {"labels": {"zone": "b"}}, {"labels": {"zone": "a", "rack": "1"}})
    assert of(objects_of(config), "backend", "labels") == {"zone": "b", "rack": "1"}


def test_a_backend_inherits_nothing_that_it_cannot_have():
    """An IP address has no name to resolve, a unix socket no port besides, and a weight behind an address stands there."""
    config = LoadBalancerConfig.model_validate(
        {
            "backends": ["10.0.0.1:80", "unix:/run/a", "a:80,weight=3"],
            "defaults": {"backend": {"resolve": "first", "family": "ipv4", "check_port": 9, "weight": 7}},
        }
    )
    said = [(spec.resolve, spec.family, spec.check_port, spec.weight) for spec in config.backends]
    assert said == [("", "", 9, 7), ("", "", None, 7), ("first", "ipv4", 9, 3)]


def test_what_does_not_go_together_with_what_it_inherits_is_an_error_there():
    with pytest.raises(ValidationError) as caught:
        LoadBalancerConfig.model_validate(
            {
                "pools": {"app": {"backends": ["a:80"], "check": "x", "health_check": {"expect_text": "ok"}}},
                "checks": {"x": {"method": "HEAD"}},
                "routes": [{"pool": "app", "strip_prefix": "/a"}],
                "defaults": {"route": {"replace_prefix": {"/a": "/b"}}},
            }
        )
    assert [(error["loc"], error["msg"].removeprefix("Value error, ")) for error in caught.value.errors()] == [
        (("routes", 0), "strip_prefix and replace_prefix are both given"),
        (("pools", "app", "health_check"), "expect_text needs another method: an answer to HEAD has no body"),
    ]


def test_who_inherits_nothing_is_the_same_object():
    own = ListenerConfig(address=(AddressTable(address=":80"),))
    assert inherited(own, ListenerRulesConfig()) is own


@pytest.mark.parametrize(
    ("tables", "there"),
    [
        ({}, {"default": "default"}),
        ({"listeners": {"web": {"address": ":0"}}}, {"default": "default"}),
        ({"listeners": {"web": {"address": ":0", "default_pool": "x"}}}, {"x": "x"}),
        ({"listeners": {"web": {"address": ":0", "default_pool": "x"}}, "listen": {"port": 0}}, {"x": "x", "default": "default"}),
        ({"defaults": {"listener": {"default_pool": "x"}}}, {"x": "x"}),
        ({"pools": {"x": {"backends": ["b:80"]}}, "backends": ()}, {}),
    ],
    ids=["flat", "a listener", "its own pool", "and a flat one", "by default", "no pool default"],
)  # fmt: skip
def test_what_no_route_takes_goes_to_the_listener_s_pool(tables, there):
    values = {"backends": ["a:80"], "pools": {"x": {"backends": ["b:80"]}}, **tables}
    found = objects_of(LoadBalancerConfig.model_validate(values)).to_default
    assert {name: route.pool for name, route in found.items()} == there
