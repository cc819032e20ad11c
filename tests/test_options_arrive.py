"""Every option, with a value that is not its default, arrives where it is used. What it does there is told elsewhere."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import pytest_twisted
from pydantic import BaseModel

from twisted_lb.config import LoadBalancerConfig
from twisted_lb.core.address import TcpAddress
from twisted_lb.core.pickers import POLICIES
from twisted_lb.probes import TcpProbe
from twisted_lb.service import LoadBalancerService


class Parts:
    """The pieces of a running service."""

    def __init__(self, service: LoadBalancerService) -> None:
        running = service._parts
        self.listener = running.listeners[0]
        self.status = running._status_port
        self.pool = running.balancer.pool
        self.retries = running.balancer.retries
        self.checks = running.checks
        self.probe = running._probe
        self.rules = running.engine.rules
        self.kept = running.connections.rules
        self.gate = running.engine.gate
        self.log = running.engine.observer
        self.config = service.config


# The option, a value, where it arrives, and as what (None: as it is).
PLACES: list[tuple[str, Any, Callable[[Parts], Any], Any]] = [
    ("backends", ["a.invalid:1", "b.invalid:2,weight=7"], lambda p: [b.weight for b in p.pool.backends.values()], [1, 7]),
    ("strategy", "rand", lambda p: p.pool.policy, POLICIES["rand"]),
    ("status", "127.0.0.1:0", lambda p: p.status.getHost().host, "127.0.0.1"),
    ("upgrades", ["chess"], lambda p: p.rules.passing.upgrades, {b"chess"}),
    ("client_half_close", "finish", lambda p: p.rules.passing.finish_half_closed, True),
    ("error_pages", {"503": __file__}, lambda p: list(p.rules.passing.pages), [503]),
    ("listen.port", 0, lambda p: p.listener.port != 80, True),
    ("listen.interface", "127.0.0.1", lambda p: p.listener.address.partition(":")[0], None),
    ("health_check.interval_s", 900.0, lambda p: p.checks.interval_s, None),
    ("health_check.kind", "http", lambda p: isinstance(p.probe, TcpProbe), False),
    ("health_check.path", "/well?", lambda p: p.probe.request(TcpAddress("a", 1)).split()[1], b"/well?"),
    ("health_check.timeout_s", 3.5, lambda p: p.checks.timeout_s, None),
    ("health_check.rise", 5, lambda p: p.pool.settings.rise, None),
    ("health_check.fall", 7, lambda p: p.pool.settings.fall, None),
    ("retry.more_attempts", 4, lambda p: p.retries.more_attempts, None),
    ("retry.bad_statuses", [599], lambda p: (p.rules.bad_statuses, p.retries.bad_statuses), ({599}, {599})),
    ("retry.budget_percent", 33, lambda p: p.pool.budget.percent, None),
    ("retry.budget_per_s", 3, lambda p: p.pool.budget.per_s, None),
    *((f"timeouts.{name}", 21.0 + i, lambda p, name=name: getattr(p.rules.timeouts, name), None)
      for i, name in enumerate(("head_s", "body_idle_s", "connect_s", "response_head_s", "attempt_s",
                                "response_idle_s", "client_idle_s", "tunnel_idle_s"))),
    ("timeouts.drain_s", 0.25, lambda p: p.config.timeouts.drain_s, None),
    ("limits.request_line_bytes", 4000, lambda p: p.rules.limits.line_bytes, None),
    ("limits.head_bytes", 5000, lambda p: p.rules.limits.head_bytes, None),
    ("limits.head_fields", 17, lambda p: p.rules.limits.fields, None),
    ("limits.trailer_bytes", 600, lambda p: p.rules.limits.trailer_bytes, None),
    ("limits.replay_body_bytes", 700, lambda p: p.rules.replay_bytes, None),
    ("limits.body_bytes", 800, lambda p: p.rules.body_bytes, None),
    ("limits.connections", 90, lambda p: p.gate.most, None),
    ("limits.connections_per_client", 9, lambda p: p.gate.per_client, None),
    ("limits.client_bytes_per_s", 50, lambda p: p.rules.timeouts.s_per_byte, 1 / 50),
    ("upstream.max_idle", 3, lambda p: p.kept.most_idle, None),
    ("upstream.idle_s", 4.5, lambda p: p.kept.idle_s, None),
    ("upstream.max_requests", 55, lambda p: p.kept.most_requests, None),
    ("upstream.max_age_s", 66.0, lambda p: p.kept.most_age_s, None),
    ("upstream.fresh_s", 0.5, lambda p: p.kept.fresh_s, None),
    ("forwarding.trusted_proxies", ["10.0.0.0/8"], lambda p: [str(one) for one in p.rules.passing.trusted], None),
    ("forwarding.forwarded", True, lambda p: p.rules.passing.told.forwarded, None),
    ("forwarding.via", "lb", lambda p: p.rules.passing.told.via, b"lb"),
    ("forwarding.request_id", "make", lambda p: p.rules.passing.make_request_id, True),
    ("forwarding.traceparent", "make", lambda p: p.rules.passing.make_traceparent, True),
    ("log.requests", "all", lambda p: p.log._everything, True),
]  # fmt: skip


def options(model: type[BaseModel], prefix: str = "") -> Iterator[str]:
    for name, field in model.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            yield from options(kind, f"{prefix}{name}.")
        else:
            yield prefix + name


def default(option: str) -> object:
    value: Any = LoadBalancerConfig(backends=["a:1"])
    for name in option.split("."):
        value = getattr(value, name)
    return value


def test_every_option_has_its_place():
    assert sorted(option for option, *_ in PLACES) == sorted(options(LoadBalancerConfig))


@pytest.mark.parametrize(("option", "value"), [place[:2] for place in PLACES], ids=[place[0] for place in PLACES])
def test_the_value_is_not_the_default(option, value):
    assert default(option) != value or option == "health_check.kind"  # a TCP check has no path; see below


@pytest_twisted.ensureDeferred
async def test_an_option_arrives_where_it_is_used():
    tables: dict[str, Any] = {}
    for option, value, *_ in PLACES:
        table, _, name = option.rpartition(".")
        (tables.setdefault(table, {}) if table else tables)[name] = value
    service = LoadBalancerService(LoadBalancerConfig.model_validate(tables))
    service.startService()
    parts = Parts(service)
    try:
        arrived = {option: place(parts) for option, _, place, _ in PLACES}
    finally:
        await service.stopService()
    assert arrived == {option: value if other is None else other for option, value, _, other in PLACES}


@pytest_twisted.ensureDeferred
async def test_a_probe_takes_what_traffic_takes():
    config = LoadBalancerConfig(backends=["a.invalid:1"], limits={"head_bytes": 65536})
    service = LoadBalancerService(config, listening=False)
    service.startService()
    probe = service._parts._probe
    await service.stopService()
    assert probe.judge(b"HTTP/1.1 200 OK\r\nX: %b\r\n\r\n" % (b"y" * 40_000)).passed
    assert probe.judge(b"HTTP/1.1 200 OK\r\nX: %b" % (b"y" * 40_000)) is None


@pytest_twisted.ensureDeferred
async def test_the_other_kind_of_check_is_another_probe():
    config = LoadBalancerConfig(backends=["a.invalid:1"], health_check={"kind": "tcp"})
    service = LoadBalancerService(config, listening=False)
    service.startService()
    probe = service._parts._probe
    await service.stopService()
    assert isinstance(probe, TcpProbe)
