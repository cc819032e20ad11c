"""The plan: one generation of the configuration in the form that the running parts read. This is its only translator.

What is made of equal parts of the configuration is the same object from one generation to the next: what is not the same is
what has changed.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import ip_network
from math import ceil
from pathlib import Path
from typing import Final, TypeVar

from twisted_lb.config import HealthCheckConfig, LoadBalancerConfig
from twisted_lb.config.addresses import ListenAddress
from twisted_lb.config.base import DEFAULT, KeyPath
from twisted_lb.config.limits import HeadLimitsConfig
from twisted_lb.config.listeners import ListenerConfig
from twisted_lb.config.objects import Objects, objects_of
from twisted_lb.config.pools import PoolConfig
from twisted_lb.config.problems import Problem
from twisted_lb.config.routes import RouteConfig
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

__all__ = ["DEFAULT", "CheckPlan", "LeadPlan", "ListenerPlan", "Plan", "PoolPlan", "RoutePlan", "plan_of"]

# Of answers, which have no request line.
_NO_LINE = 8192

# Among what a route is made of: what it takes from its pools.
OF_POOLS: Final = "pools"

P = TypeVar("P", "ListenerPlan", "RoutePlan", "PoolPlan")


@dataclass(frozen=True, eq=False)
class ListenerPlan:
    """The plan of a listener: where it listens, its rules, the names of its routes in their order, that of the route which
    takes what none of them does (None: nothing does), and how many connections its clients may have (None: as many as there
    is room for; per client 0: no limit). `made_of` is compared when the next plan is made: parts of the configuration, by the
    key that they have below it.
    """

    rules: ClientRules
    routes: tuple[str, ...] = ()
    route: str | None = None
    addresses: tuple[ListenAddress, ...] = ()
    connections: int | None = None
    connections_per_client: int = 0
    made_of: Mapping[str, object] = field(default_factory=dict, repr=False)


@dataclass(frozen=True)
class LeadPlan:
    """One way that a route leads: to a pool, with a share of the requests by weight, and the rules that hold there."""

    pool: str
    weight: int
    rules: RouteRules


@dataclass(frozen=True, eq=False)
class RoutePlan:
    """The plan of a route: the pools that it leads to. `made_of` is compared when the next plan is made."""

    leads: tuple[LeadPlan, ...]
    made_of: Mapping[str, object] = field(default_factory=dict, repr=False)


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


@dataclass(frozen=True, eq=False)
class PoolPlan:
    """The plan of a pool: its members, policy and settings, the rules of connections to them, and their checks (None:
    no checks). ValueError when a name is there twice.
    """

    backends: tuple[BackendSpec, ...]
    policy: Policy
    policy_name: str
    settings: PoolSettings
    upstream: UpstreamRules
    checks: CheckPlan | None
    made_of: Mapping[str, object] = field(default_factory=dict, repr=False)

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
            wanted = listener.routes if listener.route is None else (*listener.routes, listener.route)
            for route_name in wanted:
                if route_name not in self.routes:
                    raise ValueError(f"listener {name}: no route is called {route_name}")
        for name, route in self.routes.items():
            for lead in route.leads:
                if lead.pool not in self.pools:
                    raise ValueError(f"route {name}: no pool is called {lead.pool}")


class Files:
    """The files that a configuration names, each read once: a service that has given up its privileges cannot read again."""

    def __init__(self) -> None:
        self._read: dict[str, bytes] = {}
        self._unread: dict[str, Problem] = {}

    def read(self, path: str, place: KeyPath) -> bytes:
        """What is in a file that is named at a place; nothing of one that cannot be read, see `refuse_unread`."""
        if path not in self._read and path not in self._unread:
            try:
                self._read[path] = Path(path).read_bytes()
            except (OSError, ValueError) as error:
                # ValueError: a NUL in the path.
                reason = (getattr(error, "strerror", None) or str(error)).lower()
                self._unread[path] = Problem(place, f"{path}: {reason}")
        return self._read.get(path, b"")

    def refuse_unread(self) -> None:
        """ConfigError with all files that could not be read since the last look."""
        unread, self._unread = self._unread, {}
        if unread:
            raise ConfigError(unread.values())

    @property
    def digests(self) -> dict[str, str]:
        """The SHA-256 of each file, in hexadecimal, by path."""
        return {path: hashlib.sha256(data).hexdigest() for path, data in self._read.items()}


def plan_of(config: LoadBalancerConfig, before: Plan | None = None, files: Files | None = None) -> Plan:
    """The plan of a configuration; what is equal to a part of the plan `before` is that part. `files` are those that were
    read already. ConfigError names those that cannot be read.
    """
    objects = objects_of(config)
    files = Files() if files is None else files
    # A field that the balancer writes itself for one of its routes is taken from nobody.
    real_ip = any(one.forwarding.real_ip for one in (*objects.routes.values(), *objects.to_default.values()))
    pools = {name: _pool(pool) for name, pool in objects.pools.items()}
    routes = {
        name: _route(route, objects, files, ("routes", number))
        for number, (name, route) in enumerate(objects.routes.items())
    }
    defaults = {_default_route(pool): _route(route, objects, files, ()) for pool, route in objects.to_default.items()}
    listeners = {
        name: _listener(name, objects, files, ("listeners", name) if name in config.listeners else (), real_ip=real_ip)
        for name in objects.listeners
    }
    files.refuse_unread()
    return Plan(
        listeners=_kept(listeners, None if before is None else before.listeners),
        routes=_kept({**routes, **defaults}, None if before is None else before.routes),
        pools=_kept(pools, None if before is None else before.pools),
        log_requests=config.log.requests,
        drain_s=config.timeouts.drain_s,
        tunnel_drain_s=config.timeouts.tunnel_drain_s,
    )


def _kept(parts: dict[str, P], before: Mapping[str, P] | None) -> dict[str, P]:
    """The parts, each as it was before where it is made of the same."""
    if before is None:
        return parts
    return {
        name: before[name] if name in before and before[name].made_of == part.made_of else part
        for name, part in parts.items()
    }


def _default_route(pool: str) -> str:
    """What the route is called that leads whatever no other one takes to a pool: no route of a file can be called so."""
    return pool if pool == DEFAULT else f"to {pool}"


def _listener(name: str, objects: Objects, files: Files, place: KeyPath, *, real_ip: bool) -> ListenerPlan:
    config = objects.listeners[name]
    pages = _pages(config.error_pages, files, place)
    pool = config.default_pool or DEFAULT
    routes = tuple(one for one, route in objects.routes.items() if not route.listeners or name in route.listeners)
    route = _default_route(pool) if pool in objects.to_default else None
    return ListenerPlan(
        rules=_client_rules(config, pages, real_ip=real_ip),
        routes=routes,
        route=route,
        addresses=config.addresses,
        connections=config.limits.connections,
        connections_per_client=config.limits.connections_per_client,
        made_of={
            "": config,
            "routes": routes,
            "default_route": route,
            "real_ip": real_ip,
            "error_pages": _bytes_of(pages),
        },
    )


def _bytes_of(pages: Mapping[int, ErrorPage]) -> object:
    return {status: (page.content_type, page.body) for status, page in pages.items()}


def _limits(config: HeadLimitsConfig, line_bytes: int, claims: tuple[bytes, ...] = ()) -> Limits:
    return Limits(
        line_bytes=line_bytes,
        head_bytes=config.head_bytes,
        fields=config.head_fields,
        trailer_bytes=config.trailer_bytes,
        claims=claims,
    )


def _claims(config: ListenerConfig, *, real_ip: bool) -> tuple[bytes, ...]:
    """The fields that pass from trusted proxies alone, in lower case."""
    names = [name.lower().encode("ascii") for name in config.only_from_proxies]
    if real_ip:
        names.append(b"x-real-ip")  # we write it ourselves
    return tuple(names)


def _client_rules(config: ListenerConfig, pages: Mapping[int, ErrorPage], *, real_ip: bool) -> ClientRules:
    timeouts, limits = config.timeouts, config.limits
    return ClientRules(
        limits=_limits(limits, limits.request_line_bytes, _claims(config, real_ip=real_ip)),
        first_byte_s=timeouts.first_byte_s,
        head_s=timeouts.head_s,
        body_idle_s=timeouts.body_idle_s,
        idle_s=timeouts.client_idle_s,
        taking_idle_s=timeouts.response_idle_s,
        client_bytes_per_s=limits.client_bytes_per_s,
        trust=Trust(tuple(ip_network(text) for text in config.trusted_proxies), config.trusted_fields),
        finish_half_closed=config.client_half_close == "finish",
        pages=pages,
    )


def _route(config: RouteConfig, objects: Objects, files: Files, place: KeyPath) -> RoutePlan:
    pages = _pages(config.error_pages, files, place)
    pools = {name: objects.pools[name] for name in config.pools}
    return RoutePlan(
        leads=tuple(
            LeadPlan(name, config.pools[name], _route_rules(config, pool, pages)) for name, pool in pools.items()
        ),
        made_of={
            "": config,
            OF_POOLS: {name: (one.retry, one.health_check) for name, one in pools.items()},
            "error_pages": _bytes_of(pages),
        },
    )


def _route_rules(config: RouteConfig, pool: PoolConfig, pages: Mapping[int, ErrorPage]) -> RouteRules:
    timeouts, forwarding = config.timeouts, config.forwarding
    return RouteRules(
        response_head_s=timeouts.response_head_s,
        attempt_s=NEVER if timeouts.attempt_s is None else timeouts.attempt_s,
        response_idle_s=timeouts.response_idle_s,
        tunnel_idle_s=timeouts.tunnel_idle_s,
        retries=RetryRules(pool.retry.more_attempts, frozenset(pool.retry.bad_statuses)),
        body_bytes=-1 if config.limits.body_bytes is None else config.limits.body_bytes,
        replay_bytes=config.limits.replay_body_bytes,
        forwarding=Forwarding(
            forwarded=forwarding.forwarded, real_ip=forwarding.real_ip, via=forwarding.via.encode("ascii")
        ),
        upgrades=frozenset(token.encode("ascii") for token in config.upgrades),
        make_request_id=forwarding.request_id == "make",
        make_traceparent=forwarding.traceparent == "make",
        pages=pages,
        retry_after_s=_retry_after_s(pool.health_check),
    )


def _retry_after_s(check: HealthCheckConfig) -> int:
    """When to ask again where nobody is usable: after the next check of those that are out, or, without checks, the next trial."""
    return max(1, ceil(check.out_interval_s)) if check.enabled else 1


def _pool(config: PoolConfig) -> PoolPlan:
    check, upstream, retry = config.health_check, config.upstream, config.retry
    return PoolPlan(
        backends=tuple(config.backends),
        policy=POLICIES[config.policy],
        policy_name=config.policy,
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
            limits=_limits(config.limits, _NO_LINE),
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
        made_of={"": config},
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


def _pages(pages: Mapping[str, str], files: Files, place: KeyPath) -> dict[int, ErrorPage]:
    """The error pages, by status, of the object at a place."""
    return {
        int(status): ErrorPage(_kind(path), files.read(path, (*place, "error_pages", status)))
        for status, path in pages.items()
    }


def _kind(path: str) -> bytes:
    return {".html": HTML, ".json": JSON}.get(Path(path).suffix, TEXT)
