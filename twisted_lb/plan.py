"""The plan: one generation of the configuration in the form that the running parts read. This is its only translator."""

from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import ip_network
from math import ceil
from pathlib import Path

from twisted_lb.config import HealthCheckConfig, LoadBalancerConfig
from twisted_lb.config.problems import Problem
from twisted_lb.core.backend import BackendSpec
from twisted_lb.core.never import NEVER
from twisted_lb.core.pickers import POLICIES
from twisted_lb.core.pickers.base import Policy
from twisted_lb.core.retry import RetryRules
from twisted_lb.core.settings import PoolSettings
from twisted_lb.errors import ConfigError
from twisted_lb.http_check import HttpQuestion
from twisted_lb.net.local_reply import HTML, JSON, TEXT, ErrorPage
from twisted_lb.net.settings import AUTO, ClientRules, RouteRules, UpstreamRules
from twisted_lb.wire.grammar import Limits
from twisted_lb.wire.origin import Trust
from twisted_lb.wire.rewrite import Forwarding

DEFAULT = "default"


@dataclass(frozen=True)
class ListenerPlan:
    """The plan of a listener: its rules, the route of its requests, and how many connections its clients may have
    (None: as many as there is room for; per client 0: no limit).
    """

    rules: ClientRules
    route: str
    connections: int | None
    connections_per_client: int


@dataclass(frozen=True)
class RoutePlan:
    """The plan of a route: its rules, and the pool that it leads to."""

    rules: RouteRules
    pool: str


@dataclass(frozen=True)
class CheckPlan:
    """The plan of active checks: how often, in seconds, those that are out apart, what is asked, and at which port; `http`
    None: connecting is the question; `port` None: the one that traffic goes to.
    """

    interval_s: float
    down_interval_s: float
    timeout_s: float
    http: HttpQuestion | None
    port: int | None


@dataclass(frozen=True)
class PoolPlan:
    """The plan of a pool: its members, policy and settings, the rules of connections to them, and their checks (None:
    no checks). ValueError when a name is there twice.
    """

    backends: tuple[BackendSpec, ...]
    policy: Policy
    settings: PoolSettings
    upstream: UpstreamRules
    checks: CheckPlan | None

    def __post_init__(self) -> None:
        seen: set[str] = set()
        for spec in self.backends:
            if spec.name in seen:
                raise ValueError(f"{spec.name} is there twice")
            seen.add(spec.name)


@dataclass(frozen=True)
class Plan:
    """Listeners, routes and pools, by name; ValueError when a listener or a route leads nowhere. `log_requests` is "none",
    "brief", "failed" or "all"; `drain_s` bounds a stop, `tunnel_drain_s` one that has time.
    """

    listeners: Mapping[str, ListenerPlan]
    routes: Mapping[str, RoutePlan]
    pools: Mapping[str, PoolPlan]
    log_requests: str
    drain_s: float
    tunnel_drain_s: float

    def __post_init__(self) -> None:
        for name, listener in self.listeners.items():
            if listener.route not in self.routes:
                raise ValueError(f"listener {name}: no route is called {listener.route}")
        for name, route in self.routes.items():
            if route.pool not in self.pools:
                raise ValueError(f"route {name}: no pool is called {route.pool}")


def plan_of(config: LoadBalancerConfig, pages: Mapping[int, ErrorPage] | None = None) -> Plan:
    """The plan of a configuration: one listener, one route and one pool, called `default`. `pages` are the error pages
    as they were read before; ConfigError names those that cannot be read.
    """
    pages = pages_of(config) if pages is None else pages
    listener = ListenerPlan(
        _client_rules(config, pages), DEFAULT, config.limits.connections, config.limits.connections_per_client
    )
    return Plan(
        listeners={DEFAULT: listener},
        routes={DEFAULT: RoutePlan(_route_rules(config, pages), DEFAULT)},
        pools={DEFAULT: _pool(config)},
        log_requests=config.log.requests,
        drain_s=config.timeouts.drain_s,
        tunnel_drain_s=config.timeouts.tunnel_drain_s,
    )


def _limits(config: LoadBalancerConfig, claims: tuple[bytes, ...] = ()) -> Limits:
    return Limits(
        line_bytes=config.limits.request_line_bytes,
        head_bytes=config.limits.head_bytes,
        fields=config.limits.head_fields,
        trailer_bytes=config.limits.trailer_bytes,
        claims=claims,
    )


def _claims(config: LoadBalancerConfig) -> tuple[bytes, ...]:
    """The fields that pass from trusted proxies alone, in lower case."""
    names = [name.lower().encode("ascii") for name in config.forwarding.only_from_proxies]
    if config.forwarding.real_ip:
        names.append(b"x-real-ip")  # we write it ourselves
    return tuple(names)


def _client_rules(config: LoadBalancerConfig, pages: Mapping[int, ErrorPage]) -> ClientRules:
    timeouts = config.timeouts
    return ClientRules(
        limits=_limits(config, _claims(config)),
        first_byte_s=timeouts.first_byte_s,
        head_s=timeouts.head_s,
        body_idle_s=timeouts.body_idle_s,
        idle_s=timeouts.client_idle_s,
        taking_idle_s=timeouts.response_idle_s,
        client_bytes_per_s=config.limits.client_bytes_per_s,
        trust=Trust(
            tuple(ip_network(text) for text in config.forwarding.trusted_proxies), config.forwarding.trusted_fields
        ),
        finish_half_closed=config.client_half_close == "finish",
        pages=pages,
    )


def _route_rules(config: LoadBalancerConfig, pages: Mapping[int, ErrorPage]) -> RouteRules:
    timeouts, forwarding = config.timeouts, config.forwarding
    return RouteRules(
        response_head_s=timeouts.response_head_s,
        attempt_s=NEVER if timeouts.attempt_s is None else timeouts.attempt_s,
        response_idle_s=timeouts.response_idle_s,
        tunnel_idle_s=timeouts.tunnel_idle_s,
        retries=RetryRules(config.retry.more_attempts, frozenset(config.retry.bad_statuses)),
        body_bytes=-1 if config.limits.body_bytes is None else config.limits.body_bytes,
        replay_bytes=config.limits.replay_body_bytes,
        forwarding=Forwarding(
            forwarded=forwarding.forwarded, real_ip=forwarding.real_ip, via=forwarding.via.encode("ascii")
        ),
        upgrades=frozenset(token.encode("ascii") for token in config.upgrades),
        make_request_id=forwarding.request_id == "make",
        make_traceparent=forwarding.traceparent == "make",
        pages=pages,
        retry_after_s=_retry_after_s(config.health_check),
    )


def _retry_after_s(check: HealthCheckConfig) -> int:
    """When to ask again where nobody is usable: after the next check of those that are out, or, without checks, the next trial."""
    return max(1, ceil(check.out_interval_s)) if check.enabled else 1


def _pool(config: LoadBalancerConfig) -> PoolPlan:
    check, upstream, retry = config.health_check, config.upstream, config.retry
    return PoolPlan(
        backends=tuple(config.backends),
        policy=POLICIES[config.policy],
        settings=PoolSettings(
            rise=check.rise,
            fall=check.fall,
            checked=check.enabled,
            max_queued=config.queue.most,
            queue_wait_s=config.queue.no_backend_s,
            initially_up=check.initial == "up",
            move=check.move,
            budget_percent=retry.budget_percent,
            budget_per_s=retry.budget_per_s,
        ),
        upstream=UpstreamRules(
            connect_s=config.timeouts.connect_s,
            limits=_limits(config),
            max_idle=AUTO if upstream.max_idle == "auto" else upstream.max_idle,
            idle_s=upstream.idle_s,
            max_requests=upstream.max_requests,
            max_age_s=upstream.max_age_s,
            reuse_unsafe_within_s=upstream.reuse_unsafe_within_s,
            reuse_always=upstream.reuse == "always",
            resolve=config.resolve,
            family=config.family,
        ),
        checks=_checks(check) if check.enabled else None,
    )


def _checks(check: HealthCheckConfig) -> CheckPlan:
    http = HttpQuestion(
        method=check.method.encode("ascii"),
        path=check.path.encode("ascii"),
        host=(check.host or "").encode("ascii"),
        fields=tuple(f"{name}: {value}".encode("ascii") for name, value in check.headers.items()),
        statuses=check.statuses,
        text=(check.expect_text or "").encode(),
    )
    return CheckPlan(
        check.interval_s,
        check.out_interval_s,
        check.answer_timeout_s,
        http if check.kind == "http" else None,
        check.port,
    )


def pages_of(config: LoadBalancerConfig) -> dict[int, ErrorPage]:
    """The error pages, by status, read now. ConfigError names those that cannot be read."""
    pages = {}
    problems = []
    for status, path in config.error_pages.items():
        try:
            pages[int(status)] = _page(path)
        except (OSError, ValueError) as error:
            # ValueError: a NUL in the path.
            reason = getattr(error, "strerror", None) or str(error)
            problems.append(Problem(("error_pages", status), f"{path}: {reason.lower()}"))
    if problems:
        raise ConfigError(problems)
    return pages


def _page(path: str) -> ErrorPage:
    kind = {".html": HTML, ".json": JSON}.get(Path(path).suffix, TEXT)
    return ErrorPage(kind, Path(path).read_bytes())
