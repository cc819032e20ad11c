"""Every option, with a value that is not its default, arrives in its place in the plan. What it does there is told elsewhere."""

import ssl
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
import trustme
from pydantic import BaseModel

from twisted_lb.config import LoadBalancerConfig
from twisted_lb.config.mirror import MirrorConfig
from twisted_lb.config.objects import objects_of
from twisted_lb.config.pools import BackendRulesConfig
from twisted_lb.config.references import FLAT
from twisted_lb.config.targets import TargetsConfig
from twisted_lb.config.tls import PoolTls
from twisted_lb.core.pickers import POLICIES
from twisted_lb.plan import DEFAULT, plan_of
from twisted_lb.planned import Plan, TargetsPlan
from twisted_lb.service import LoadBalancerService
from twisted_lb.tls.outgoing import Outgoing
from twisted_lb.tls.serving import Serving
from twisted_lb.wire.grammar import Limits
from twisted_lb.wire.request import parse_request

# A certificate with its key, which a fixture writes: nobody else may be able to read it.
OWN = "own.pem"
CA, CRL = (str(Path(__file__).parent / "tls" / name) for name in ("ca.pem", "crl.pem"))
HEAD = parse_request(b"GET / HTTP/1.1\r\nHost: x", Limits())


class Places:
    """The parts of a plan, by their owner."""

    def __init__(self, config: LoadBalancerConfig) -> None:
        self.config = objects_of(config)
        self.plan = plan_of(config)
        self.listener = self.plan.listeners[DEFAULT]
        self.queue = self.plan.pools[DEFAULT].queue
        self.client = self.listener.rules
        tls = self.listener.tls
        self.serving = None if tls is None else Serving.of(tls)
        self.tls = None if tls is None else tls.policy
        [lead] = self.plan.routes[self.listener.route].leads
        self.route = lead.rules
        self.pool = self.plan.pools[lead.pool]
        self.settings = self.pool.settings
        self.upstream = self.pool.upstream
        self.checks = self.pool.checks
        # Of clients and of backends.
        self.tcp_keepalives = (self.listener.tcp_keepalive, self.upstream.tcp_keepalive)
        # Heads of requests and those of answers.
        self.limits = (self.client.limits, self.upstream.limits)


# The option, a value, where it arrives, and as what (None: as it is).
PLACES: list[tuple[str, Any, Callable[[Places], Any], Any]] = [
    ("backends", ["a.invalid:1", "b.invalid:2,weight=7"], lambda p: [(b.name, b.weight) for b in p.pool.backends],
     [("a.invalid:1", 1), ("b.invalid:2", 7)]),
    ("policy", "rand", lambda p: p.pool.policy.policy, POLICIES["rand"]),
    ("shadow.policy", "p2c", lambda p: (p.pool.policy.shadow, p.pool.policy.shadow_name), (POLICIES["p2c"], "p2c")),
    ("policy_budget_us", 700, lambda p: p.config.pools[DEFAULT].policy_budget_us, None),
    ("close_when_down", True, lambda p: p.settings.close_when_down, None),
    ("leave_backups", True, lambda p: p.settings.leave_backups, None),
    ("send_proxy", "v2", lambda p: p.pool.proxy, 2),
    ("max_in_flight", 12, lambda p: p.settings.max_in_flight, None),
    ("profile", "wsgi", lambda p: p.config.pools[DEFAULT].profile, None),
    ("abandoned_s", 30.5, lambda p: p.settings.abandoned_s, None),
    ("buffer_request_bytes", 4321, lambda p: p.route.gather_bytes, None),
    ("buffer_response_bytes", 54321, lambda p: p.route.buffer_response_bytes, None),
    ("limits.memory_bytes", 7654321, lambda p: p.plan.memory_bytes, None),
    ("resolve", "first", lambda p: p.upstream.resolve, None),
    ("family", "ipv6", lambda p: p.upstream.family, None),
    ("queue.when_full", "spill", lambda p: p.settings.spill, True),
    ("adaptive.least", 3, lambda p: p.config.pools[DEFAULT].adaptive.least, None),
    ("adaptive.most", 77, lambda p: p.config.pools[DEFAULT].adaptive.most, None),
    ("adaptive.tolerance_percent", 60.5, lambda p: p.config.pools[DEFAULT].adaptive.tolerance_percent, None),
    ("adaptive.measure_s", 33.0, lambda p: p.config.pools[DEFAULT].adaptive.measure_s, None),
    ("slow_start.window_s", 60.0, lambda p: p.settings.slow_start.window_s, None),
    ("slow_start.aggression", 2.0, lambda p: p.settings.slow_start.aggression, None),
    ("slow_start.floor_percent", 25, lambda p: p.settings.slow_start.floor, 0.25),
    ("panic.threshold_percent", 40, lambda p: p.settings.panic_percent, None),
    ("panic.even_down", True, lambda p: p.settings.panic_even_down, True),
    ("upgrades", ["chess"], lambda p: p.route.upgrades, {b"chess"}),
    ("key", {"header": "X-User"}, lambda p: (p.route.key.kind.value, p.route.key.name), ("header", b"x-user")),
    ("cost", 7, lambda p: p.route.cost.ask(HEAD, b"").cost, None),
    ("protocol", "tcp", lambda p: p.listener.tcp, True),
    ("acme_webroot", "/tmp", lambda p: p.listener.acme_webroot, None),
    ("client_half_close", "finish", lambda p: p.client.finish_half_closed, True),
    ("error_pages", {"503": __file__}, lambda p: (list(p.client.pages), list(p.route.pages)), ([503], [503])),
    ("health_check.interval_s", 900.0, lambda p: p.checks.interval_s, None),
    ("health_check.down_interval_s", 33.0, lambda p: (p.checks.down_interval_s, p.route.retry_after_s), (33.0, 33)),
    ("health_check.kind", "http", lambda p: p.checks.http is None, False),
    ("health_check.grpc_service", "a.B", lambda p: p.config.pools[DEFAULT].health_check.grpc_service, None),
    ("health_check.path", "/well?", lambda p: p.checks.http.path, b"/well?"),
    ("health_check.method", "OPTIONS", lambda p: p.checks.http.method, b"OPTIONS"),
    ("health_check.host", "app.example.org", lambda p: p.checks.http.host, b"app.example.org"),
    ("health_check.headers", {"X-A": "b"}, lambda p: p.checks.http.fields, (b"X-A: b",)),
    ("health_check.expect_statuses", ["201-203", 401], lambda p: p.checks.http.statuses, {201, 202, 203, 401}),
    ("health_check.expect_text", "gut gemacht, süß", lambda p: p.checks.http.text, "gut gemacht, süß".encode()),
    ("health_check.busy_statuses", [429, "502-503"], lambda p: (p.checks.http.busy, p.settings.busy), ({429, 502, 503}, True)),
    ("health_check.agent", "off", lambda p: (p.checks.http.agent_body, p.checks.http.agent_header), (False, b"")),
    ("health_check.agent_header", "X-State", lambda p: p.config.pools[DEFAULT].health_check.agent_header, None),
    ("health_check.agent_port", 9, lambda p: (p.checks.agent_port, p.settings.agents), (9, True)),
    ("health_check.port", 9, lambda p: p.checks.port, None),
    ("health_check.timeout_s", 3.5, lambda p: p.checks.timeout_s, None),
    ("health_check.rise", 5, lambda p: p.settings.rise, None),
    ("health_check.fall", 7, lambda p: p.settings.fall, None),
    ("health_check.move", False, lambda p: p.settings.move, None),
    ("health_check.initial", "down", lambda p: p.settings.initially_up, False),
    ("ejection.consecutive_failures", 7, lambda p: p.settings.ejection.consecutive_failures, None),
    ("ejection.min_clients", 3, lambda p: p.settings.ejection.min_clients, None),
    ("ejection.success_rate_factor", 2.5, lambda p: p.settings.ejection.success_rate_factor, None),
    ("ejection.success_rate_requests", 11, lambda p: p.settings.ejection.success_rate_requests, None),
    ("ejection.failure_percent", 12.5, lambda p: p.settings.ejection.failure_percent, None),
    ("ejection.failure_percent_requests", 13, lambda p: p.settings.ejection.failure_percent_requests, None),
    ("ejection.min_backends", 4, lambda p: p.settings.ejection.min_backends, None),
    ("ejection.window_s", 14.5, lambda p: p.settings.ejection.window_s, None),
    ("ejection.base_s", 15.5, lambda p: p.settings.ejection.base_s, None),
    ("ejection.longest_s", 160.5, lambda p: p.settings.ejection.longest_s, None),
    ("ejection.max_percent", 17, lambda p: p.settings.ejection.max_percent, None),
    ("ejection.checks_end", False, lambda p: p.settings.ejection.checks_end, None),
    ("queue.timeout_s", 3.5, lambda p: p.settings.queue_timeout_s, None),
    ("queue.fair_by", {"header": "X-Tenant"}, lambda p: (p.queue.fair.label, p.settings.tells_apart), ("header x-tenant", True)),
    ("queue.priority_by", {"header": "X-Class", "classes": {"batch": 6}},
     lambda p: p.queue.urgent.urgency(b"X-Class: Batch\r\n", 3), 6),
    ("queue.full_status", 429, lambda p: p.queue.full_status, None),
    ("queue.no_backend_s", 2.5, lambda p: p.settings.no_backend_s, None),
    ("queue.length", 17, lambda p: p.settings.max_queued, None),
    ("affinity.cookie", {"name": "mine", "domain": "x.org", "path": "/a", "same_site": "strict", "secure": "always"},
     lambda p: (p.pool.affinity.cookie.line(b"v", tls=False), p.route.hidden_cookies, p.route.bound),
     (b"Set-Cookie: mine=v; Path=/a; Domain=x.org; Max-Age=77; HttpOnly; SameSite=Strict; Secure\r\n", (b"mine",), True)),
    ("affinity.secret", ["0123456789abcdef", "fedcba9876543210"], lambda p: p.pool.affinity.secrets,
     (b"0123456789abcdef", b"fedcba9876543210")),
    ("affinity.max_age_s", 77.0, lambda p: p.settings.affinity.max_age_s, None),
    ("affinity.most", 78, lambda p: p.settings.affinity.most, None),
    ("affinity.when_full", "wait", lambda p: p.settings.affinity.waits, True),
    ("affinity.drain_s", 79.0, lambda p: p.settings.affinity.drain_s, None),
    ("retry.more_attempts", 4, lambda p: p.route.retries.more_attempts, None),
    ("retry.grpc", ["unavailable", "aborted"], lambda p: p.route.retries.grpc, {14, 10}),
    ("retry.bad_statuses", [599], lambda p: p.route.retries.bad_statuses, {599}),
    ("retry.methods", ["POST"], lambda p: b"POST" in p.route.repeatable, True),
    ("retry.backoff_s", 0.5, lambda p: p.route.retries.backoff.base_s, None),
    ("retry.backoff_most_s", 0.75, lambda p: p.route.retries.backoff.most_s, None),
    ("retry.retry_after_most_s", 7.5, lambda p: p.route.retries.backoff.told_most_s, None),
    ("hedge.percentile", 90.5, lambda p: (p.settings.hedge.percentile, p.route.hedges), (90.5, True)),
    ("hedge.delay_s", 0.125, lambda p: (p.settings.hedge.delay_s, p.route.hedges), (0.125, True)),
    ("hedge.least_delay_s", 0.003, lambda p: p.config.pools[DEFAULT].hedge.least_delay_s, None),
    ("retry.budget_percent", 33, lambda p: p.settings.budget_percent, None),
    ("retry.budget_per_s", 3, lambda p: p.settings.budget_per_s, None),
    ("timeouts.first_byte_s", 20.5, lambda p: p.client.first_byte_s, None),
    ("tls.certificates", "self-signed", lambda p: [one.where for one in p.serving.certificates], ["self-signed"]),
    ("tls.policy", "modern", lambda p: p.tls.preset, None),
    ("tls.ciphers", "ECDHE+AESGCM", lambda p: p.tls.ciphers, None),
    ("tls.client_certificate", "require", lambda p: p.serving.choose("localhost").context.verify_mode, ssl.CERT_REQUIRED),
    ("tls.client_ca", CA, lambda p: b"".join(p.tls.client_ca.split()), b"".join(Path(CA).read_bytes().split())),
    ("tls.crl", CRL, lambda p: b"".join(p.tls.crl.split()), b"".join(Path(CRL).read_bytes().split())),
    ("tls.strict_sni", True, lambda p: p.serving.choose("elsewhere.test") is None, None),
    ("tls.hosts", {"*.example.com": {"policy": "intermediate"}}, lambda p: p.serving.policy_of("a.example.com").settings.preset,
     "intermediate"),
    ("tcp_keepalive.on", True, lambda p: [one is not None for one in p.tcp_keepalives], [True, True]),
    ("tcp_keepalive.idle_s", 300, lambda p: [one.idle_s for one in p.tcp_keepalives], [300, 300]),
    ("tcp_keepalive.interval_s", 7, lambda p: [one.interval_s for one in p.tcp_keepalives], [7, 7]),
    ("tcp_keepalive.probes", 3, lambda p: [one.probes for one in p.tcp_keepalives], [3, 3]),
    ("timeouts.handshake_s", 20.75, lambda p: p.listener.arrival.patience_s, None),
    ("timeouts.head_s", 21.0, lambda p: p.client.head_s, None),
    ("timeouts.body_idle_s", 22.0, lambda p: p.client.body_idle_s, None),
    ("timeouts.client_idle_s", 23.0, lambda p: p.client.idle_s, None),
    ("timeouts.response_head_s", 24.0, lambda p: p.route.response_head_s, None),
    ("timeouts.attempt_s", 25.0, lambda p: p.route.attempt_s, None),
    ("timeouts.deadline_s", 25.5, lambda p: p.route.deadline_s, None),
    ("timeouts.deadline_header", "X-Wait", lambda p: p.route.deadline.seconds(b"X-Wait: 250\r\n"), 0.25),
    # Of the backend, which sends nothing, and of the client, which takes nothing.
    ("timeouts.response_idle_s", 26.0, lambda p: (p.route.response_idle_s, p.client.taking_idle_s), (26.0, 26.0)),
    ("timeouts.tunnel_idle_s", 27.0, lambda p: p.route.tunnel_idle_s, None),
    ("timeouts.half_open_s", 27.5, lambda p: p.route.half_open_s, None),
    ("timeouts.connect_s", 28.0, lambda p: p.upstream.connect_s, None),
    ("timeouts.drain_s", 0.25, lambda p: p.plan.drain_s, None),
    ("timeouts.tunnel_drain_s", 1.25, lambda p: p.plan.tunnel_drain_s, None),
    ("limits.request_line_bytes", 4000, lambda p: p.client.limits.line_bytes, None),
    ("limits.head_bytes", 5000, lambda p: [limits.head_bytes for limits in p.limits], [5000, 5000]),
    ("limits.head_fields", 17, lambda p: [limits.fields for limits in p.limits], [17, 17]),
    ("limits.trailer_bytes", 600, lambda p: [limits.trailer_bytes for limits in p.limits], [600, 600]),
    ("limits.replay_body_bytes", 700, lambda p: p.route.replay_bytes, None),
    ("limits.body_bytes", 800, lambda p: p.route.body_bytes, None),
    ("limits.handshakes", 77, lambda p: p.listener.handshakes, None),
    ("limits.connections", 90, lambda p: p.listener.connections, None),
    ("limits.connections_per_client", 9, lambda p: p.listener.connections_per_client, None),
    ("limits.client_bytes_per_s", 50, lambda p: (p.client.seconds_per_byte, p.client.min_bytes_per_idle),
     (1 / 50, 50 * 26)),
    ("upstream.max_idle", 3, lambda p: p.upstream.max_idle, None),
    ("upstream.idle_s", 4.5, lambda p: p.upstream.idle_s, None),
    ("upstream.max_requests", 55, lambda p: p.upstream.max_requests, None),
    ("upstream.max_age_s", 66.0, lambda p: p.upstream.max_age_s, None),
    ("upstream.reuse", "always", lambda p: p.upstream.reuse_always, True),
    ("upstream.reuse_unsafe_within_s", 0.5, lambda p: p.upstream.reuse_unsafe_within_s, None),
    ("forwarding.trusted_proxies", ["10.0.0.0/8"], lambda p: [str(one) for one in p.client.trust.proxies.networks],
     None),
    ("protocols", ["h2"], lambda p: list(p.listener.versions), None),
    ("forwarding.proxy_protocol", "require", lambda p: p.listener.arrival.proxy_only, True),
    ("forwarding.proxy_protocol_from", ["10.1.0.0/16"], lambda p: p.listener.arrival.speaks_for_others("10.1.2.3"), True),
    ("forwarding.trusted_fields", "forwarded", lambda p: p.client.trust.family, None),
    ("forwarding.only_from_proxies", ["X-Mine", "Their-*"], lambda p: p.client.limits.claims,
     (b"x-mine", b"their-*", b"x-forwarded-prefix", b"x-client-cert-*", b"x-real-ip")),
    ("forwarding.real_ip", True, lambda p: p.route.forwarding.real_ip, None),
    ("forwarding.forwarded", True, lambda p: p.route.forwarding.forwarded, None),
    ("forwarding.via", "lb", lambda p: p.route.forwarding.via, b"lb"),
    ("forwarding.request_id", "make", lambda p: p.route.make_request_id, True),
    ("forwarding.traceparent", "make", lambda p: p.route.make_traceparent, True),
    ("forwarding.host", "backend", lambda p: p.config.to_default[DEFAULT].forwarding.host, None),
    ("log.requests", "all", lambda p: p.plan.log_requests, None),
    ("log.file", "/dev/null", lambda p: p.plan.access_log.file, None),
    ("log.format", "{client}", lambda p: p.plan.access_log.format, None),
    ("log.query", False, lambda p: p.plan.access_log.query, None),
    ("log.addresses", "network", lambda p: p.plan.access_log.network, True),
    ("log.sample", 0.5, lambda p: p.plan.access_log.sample, None),
    ("log.slow_s", 7.5, lambda p: p.plan.access_log.slow_s, None),
    ("traces.endpoint", "http://c:4318", lambda p: p.plan.traces.endpoint, "http://c:4318/v1/traces"),
    ("traces.ratio", 0.5, lambda p: (p.plan.traces.ratio, p.route.trace_ratio), (0.5, 0.5)),
    ("traces.service", "edge", lambda p: p.plan.traces.service, None),
    ("traces.headers", {"X-Key": "k"}, lambda p: p.plan.traces.headers, None),
]  # fmt: skip

# Those of which there may be only one, and which stand in the place of another one above.
INSTEAD: list[tuple[str, Any, Callable[[Places], Any], Any]] = [
    ("health_check.script", {"preset": "redis", "password": "s3cret"},
     lambda p: (p.checks.script.preset, p.checks.script.secrets, p.checks.http), ("redis", (b"s3cret",), None)),
    ("health_check.script", [{"send": "a\xff"}, {"expect": "\0b", "unless": "^c"}, {"matches": "d."}],
     lambda p: [(one.send, one.expect, one.matches, one.unless) for one in p.checks.script.steps],
     [(b"a\xff", b"", b"", b""), (b"", b"\0b", b"", b"^c"), (b"", b"", b"d.", b"")]),
    ("affinity.header", "X-User", lambda p: (p.pool.affinity.label, p.route.hidden_cookies), ("the header x-user", ())),
    ("affinity.client", True, lambda p: (p.pool.affinity.label, p.route.bound), ("the client", True)),
    ("affinity.learn", {"cookie": "SID"}, lambda p: (p.pool.affinity.label, p.settings.affinity.by),
     ("the learned cookie SID", "the learned cookie SID")),
]  # fmt: skip

# What the service itself goes by: where it listens.
AT_THE_SERVICE: list[tuple[str, Any, Callable[[LoadBalancerService], Any], Any]] = [
    ("status", "127.0.0.1:0", lambda s: s._status.listeners[0].address.partition(":")[0], "127.0.0.1"),
    ("takeover", "/run/lb.sock", lambda s: s.config.takeover, None),
    ("watch", True, lambda s: s.config.watch, None),
    ("name", "edge-1", lambda s: s.operator.snapshot().name, None),
    ("admin.socket", "", lambda s: s._doors(s._openings).path, None),
    ("admin.mode", "0660", lambda s: s._doors(s._openings).mode, 0o660),
    ("admin.group", "www", lambda s: s._doors(s._openings).group, None),
    ("admin.address", "127.0.0.1:0", lambda s: s._doors(s._openings).where, None),
    ("admin.hosts", ["lb.example"], lambda s: s._doors(s._openings).hosts, {"lb.example"}),
    ("admin.tokens", {"ops": "0123456789abcdef"}, lambda s: s._doors(s._openings).tokens, None),
    ("admin.read_tokens", {"see": "0123456789abcdef"}, lambda s: s._doors(s._openings).read_tokens, None),
    ("state_file", "/nowhere/lb.state", lambda s: s._state.path, None),
    ("ready_start_s", 2.5, lambda s: s.config.ready_start_s, None),
    ("ready_requires", ["default"], lambda s: s.config.ready_requires, ("default",)),
    ("ready_grace_s", 0.01, lambda s: s.config.ready_grace_s, None),
    ("listen.port", 0, lambda s: s.port != 80, True),
    ("log.file_bytes", 20_000, lambda s: s._log_files.most_bytes, None),
    ("log.old_files", 7, lambda s: s._log_files.old_files, None),
    ("listen.interface", "127.0.0.1", lambda s: s.data_plane.listeners[DEFAULT][0].address.partition(":")[0], None),
]

ALL = [*PLACES, *AT_THE_SERVICE]

# What a table of its owner calls what a flat table has together with others' keys.
HOMES = {
    "forwarding.trusted_proxies": "trusted_proxies",
    "forwarding.trusted_fields": "trusted_fields",
    "forwarding.proxy_protocol": "proxy_protocol",
    "forwarding.proxy_protocol_from": "proxy_protocol_from",
    "forwarding.only_from_proxies": "only_from_proxies",
}

# Of a pool's target list, which has no flat keys: the place of the list, and what is said beside it.
TARGETS: list[tuple[str, Any, Callable[[TargetsPlan], Any], Any]] = [
    ("file", "/lists/api.json", lambda t: (t.where, t.rules.refresh_s), ("file:/lists/api.json", 2.0)),
    ("url", "http://registry/api", lambda t: (t.where, t.rules.refresh_s), ("http://registry/api", 30.0)),
    ("srv", "_http._tcp.app.internal", lambda t: t.where, "srv:_http._tcp.app.internal"),
    ("refresh_s", 7.5, lambda t: t.rules.refresh_s, None),
    ("allow_empty", True, lambda t: t.rules.allow_empty, None),
    ("max_shrink", 0.25, lambda t: t.rules.max_shrink, None),
]

# Of a pool's mirror, which has no flat keys either: where it leads, and what holds there.
MIRROR: list[tuple[str, Any, Callable[[Plan], Any], Any]] = [
    ("to", "next", lambda p: p.routes["to api"].leads[0].mirror.pool, None),
    ("percent", 12.5, lambda p: p.pools["api"].settings.mirror.percent, None),
    ("most", 7, lambda p: p.pools["api"].settings.mirror.most, None),
    ("body_bytes", 800, lambda p: p.pools["api"].settings.mirror.body_bytes, None),
    ("timeout_s", 3.5, lambda p: p.pools["api"].settings.mirror.timeout_s, None),
    ("methods", ["PUT", "POST"], lambda p: p.pools["api"].settings.mirror.methods, {b"PUT", b"POST"}),
]

# Of a pool's TLS, which has no flat keys either.
POOL_TLS: list[tuple[str, Any, Callable[[Plan], Any], Any]] = [
    ("verify", False, lambda p: Outgoing(p.pools["api"].tls).context.verify_mode, ssl.CERT_NONE),
    ("ca", CA, lambda p: [ca["serialNumber"] for ca in Outgoing(p.pools["api"].tls).context.get_ca_certs()], ["01"]),
    ("server_name", "inner.example.com", lambda p: Outgoing(p.pools["api"].tls).server_name("b"), None),
    ("certificate", OWN, lambda p: p.pools["api"].tls.certificate.label, "lb.internal"),
]

# What holds for a backend of a list for which it says nothing.
LISTED: list[tuple[str, Any, Callable[[TargetsPlan], Any], Any]] = [
    ("weight", 7, lambda t: t.rules.weight, None),
    ("priority", 3, lambda t: t.priority, None),
    ("backup", True, lambda t: t.backup, None),
    ("check_port", 9, lambda t: t.check_port, None),
    ("resolve", "first", lambda t: t.resolve, None),
    ("family", "ipv6", lambda t: t.family, None),
    ("max_in_flight", 8, lambda t: t.limit, None),
    ("labels", {"zone": "a"}, lambda t: t.labels, None),
]

# What is no flat key of an object called `default`.
BY_NAME = ("version", "listeners", "pools", "routes", "checks", "defaults")


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


def configured() -> LoadBalancerConfig:
    tables: dict[str, Any] = {}
    for option, value, *_ in ALL:
        table, _, name = option.rpartition(".")
        (tables.setdefault(table, {}) if table else tables)[name] = value
    return LoadBalancerConfig.model_validate(tables)


def test_every_option_has_its_place():
    flat = [one for one in options(LoadBalancerConfig) if one.partition(".")[0] not in BY_NAME]
    # Workers are for a process that does nothing else: e2e/test_workers.py.
    assert sorted({option for option, *_ in [*ALL, *INSTEAD]} | {"workers"}) == sorted(flat)


def test_no_value_is_the_default():
    # A TCP check has no path, see test_plan; and agents that have a port are not in answers, see test_agents.
    same = {option for option, value, *_ in ALL if default(option) == value}
    assert same <= {"health_check.kind", "health_check.agent"}


@pytest.mark.parametrize(("option", "value", "place", "other"), PLACES, ids=[place[0] for place in PLACES])
def test_an_option_arrives_in_the_plan(option, value, place, other):
    assert place(places("flat")) == (value if other is None else other)


@pytest.mark.parametrize(("option", "value", "place", "other"), INSTEAD, ids=[place[0] for place in INSTEAD])
def test_an_option_that_stands_alone_arrives_in_the_plan(option, value, place, other):
    table, _, name = option.partition(".")
    assert default(option) != value
    for config in (
        {"backends": ["a:1"], table: {name: value}},
        {"pools": {DEFAULT: {"backends": ["a:1"], table: {name: value}}}},
        {"backends": ["a:1"], "defaults": {"pool": {table: {name: value}}}},
    ):
        assert place(Places(LoadBalancerConfig.model_validate(config))) == other


def in_tables(*, inherited: bool) -> LoadBalancerConfig:
    """The same options in the tables of their owners, or in what those inherit."""
    tables: dict[str, Any] = {
        "listeners": {DEFAULT: {"address": ":0"}},
        "pools": {DEFAULT: {"backends": []}},
        "defaults": {"listener": {}, "route": {}, "pool": {}},
    }
    for option, value, *_ in PLACES:
        for kind, one in (("listeners", "listener"), ("routes", "route"), ("pools", "pool")):
            if option == "backends":
                tables["pools"][DEFAULT]["backends"] = value
            elif option in FLAT[kind] or option.partition(".")[0] in FLAT[kind]:
                # The route that leads to a pool by itself has no table.
                own = tables["defaults"][one] if inherited or kind == "routes" else tables[kind][DEFAULT]
                table, _, name = HOMES.get(option, option).rpartition(".")
                (own.setdefault(table, {}) if table else own)[name] = value
    flat: dict[str, dict[str, Any]] = {
        "timeouts": {"drain_s": 0.25, "tunnel_drain_s": 1.25},
        "limits": {"memory_bytes": 7654321},
        "log": {},
        "traces": {},
    }
    for option, value, *_ in PLACES:
        table, _, name = option.partition(".")
        if table in ("log", "traces"):
            flat[table][name] = value
    return LoadBalancerConfig.model_validate({**flat, **tables})


@pytest.mark.parametrize(("option", "value", "place", "other"), PLACES, ids=[place[0] for place in PLACES])
def test_an_option_arrives_in_the_plan_from_its_owner_s_table_and_from_defaults(option, value, place, other):
    expected = value if other is None else other
    assert {said: place(places(said)) for said in ("table", "defaults")} == {"table": expected, "defaults": expected}


@cache
def places(said: str) -> Places:
    """All options at once, said in one of three ways: each test looks at one of them, and none changes anything."""
    return Places(configured() if said == "flat" else in_tables(inherited=said == "defaults"))


def targets_plan(targets: dict[str, Any], backend: dict[str, Any]) -> TargetsPlan:
    pools = {"api": {"targets": targets}}
    plan = plan_of(LoadBalancerConfig.model_validate({"pools": pools, "defaults": {"backend": backend}}))
    found = plan.pools["api"].targets
    assert found is not None
    return found


def test_every_option_of_a_target_list_and_of_its_backends_has_its_place():
    assert [option for option, *_ in TARGETS] == list(TargetsConfig.model_fields)
    assert [option for option, *_ in LISTED] == list(BackendRulesConfig.model_fields)


@pytest.mark.parametrize(("option", "value", "place", "other"), TARGETS, ids=[place[0] for place in TARGETS])
def test_an_option_of_a_target_list_arrives_in_the_plan(option, value, place, other):
    somewhere = {} if option in ("file", "url", "srv") else {"file": "/lists/api.json"}
    assert place(targets_plan({**somewhere, option: value}, {})) == (value if other is None else other)


@pytest.mark.parametrize(("option", "value", "place", "other"), LISTED, ids=[place[0] for place in LISTED])
def test_a_default_of_backends_arrives_in_the_plan_of_a_target_list(option, value, place, other):
    assert place(targets_plan({"file": "/lists/api.json"}, {option: value})) == value


def test_every_option_of_the_tls_of_a_pool_has_its_place():
    assert [option for option, *_ in POOL_TLS] == list(PoolTls.model_fields)


@pytest.mark.parametrize(("option", "value", "place", "other"), POOL_TLS, ids=[place[0] for place in POOL_TLS])
def test_an_option_of_the_tls_of_a_pool_arrives_in_the_plan(tmp_path, option, value, place, other):
    if value == OWN:
        leaf = trustme.CA().issue_cert("lb.internal")
        value = str(tmp_path / OWN)
        leaf.private_key_and_cert_chain_pem.write_to_path(value)
        Path(value).chmod(0o600)
    pools = {"api": {"backends": ["a:443"], "tls": {option: value}}}
    listeners = {"web": {"address": ":80", "default_pool": "api"}}
    plan = plan_of(LoadBalancerConfig.model_validate({"pools": pools, "listeners": listeners}))
    assert place(plan) == (value if other is None else other)


@pytest.mark.parametrize(("said", "version"), [("off", 0), ("v1", 1), ("v2", 2)])
def test_the_version_of_the_headers_that_a_pool_s_backends_get_arrives_in_the_plan(said, version):
    config = {
        "pools": {"api": {"backends": ["a:80"], "send_proxy": said}},
        "listeners": {"web": {"default_pool": "api"}},
    }
    config["listeners"]["web"]["address"] = ":80"
    assert plan_of(LoadBalancerConfig.model_validate(config)).pools["api"].proxy == version


def named(**pool: Any) -> Any:
    """The plan of a pool that has keys which flat ones have not."""
    listeners = {"web": {"address": ":80", "default_pool": "api"}}
    config = {"pools": {"api": {"backends": ["a:80"], **pool}}, "listeners": listeners}
    return plan_of(LoadBalancerConfig.model_validate(config)).pools["api"]


@pytest.mark.parametrize(
    ("said", "tls", "spoken", "offered"),
    [
        ("h1", None, "h1", None),
        ("h2", None, "h2", None),
        ("auto", None, "h1", None),
        ("h1", {}, "h1", ("http/1.1",)),
        ("h2", {}, "h2", ("h2",)),
        ("auto", {}, "auto", ("h2", "http/1.1")),
    ],
)
def test_what_a_pool_speaks_arrives_in_the_plan(said, tls, spoken, offered):
    plan = named(protocol=said, **({} if tls is None else {"tls": tls}))
    assert (plan.upstream.protocol, plan.tls and plan.tls.protocols) == (spoken, offered)


def test_the_service_that_a_check_of_grpc_asks_for_arrives_in_the_plan():
    checks = named(protocol="h2", health_check={"kind": "grpc", "grpc_service": "a.B"}).checks
    assert (checks.grpc, checks.http, checks.script) == (b"a.B", None, None)


def test_every_option_of_a_mirror_has_its_place():
    assert [option for option, *_ in MIRROR] == list(MirrorConfig.model_fields)


@pytest.mark.parametrize(("option", "value", "place", "other"), MIRROR, ids=[place[0] for place in MIRROR])
def test_an_option_of_a_mirror_arrives_in_the_plan(option, value, place, other):
    mirror = {"to": "next", option: value}
    pools = {"api": {"backends": ["a:80"], "mirror": mirror}, "next": {"backends": ["b:80"]}}
    listeners = {"web": {"address": ":80", "default_pool": "api"}}
    plan = plan_of(LoadBalancerConfig.model_validate({"pools": pools, "listeners": listeners}))
    assert place(plan) == (value if other is None else other)


@pytest_twisted.ensureDeferred
async def test_where_to_listen_arrives_at_the_service():
    service = LoadBalancerService(configured())
    service.startService()
    try:
        arrived = {option: place(service) for option, _, place, _ in AT_THE_SERVICE}
    finally:
        await service.stopService()
    assert arrived == {option: value if other is None else other for option, value, _, other in AT_THE_SERVICE}
