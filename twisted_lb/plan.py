"""The plan of a configuration: one generation of it in the form that the running parts read (`planned.py`). This is its only translator.

What is made of equal parts of the configuration is the same object from one generation to the next: what is not the same is
what has changed.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from math import ceil
from mimetypes import guess_type
from pathlib import Path
from typing import Final, TypeVar

from twisted_lb.access_log.rules import LogRules
from twisted_lb.config import HealthCheckConfig, LoadBalancerConfig
from twisted_lb.config.access import AccessConfig, RateLimitConfig
from twisted_lb.config.affinity import AffinityConfig
from twisted_lb.config.base import DEFAULT, KeyPath
from twisted_lb.config.costs import ORDINARY, CostOf
from twisted_lb.config.ejection import EjectionConfig
from twisted_lb.config.files import Home, contents, digest_of, digest_of_names, entries_of, readers_of
from twisted_lb.config.keys import KeyTable
from twisted_lb.config.limits import HeadLimitsConfig
from twisted_lb.config.listeners import ListenerConfig
from twisted_lb.config.matching import match_of
from twisted_lb.config.mirror import MirrorConfig
from twisted_lb.config.objects import Objects, home_of_choice, objects_of
from twisted_lb.config.observe import LogConfig
from twisted_lb.config.policies import policy_for
from twisted_lb.config.pools import AdaptiveConfig, BackendRulesConfig, HedgeConfig, PoolConfig, QueueConfig
from twisted_lb.config.problems import Problem
from twisted_lb.config.routes import AnswerConfig, RouteConfig
from twisted_lb.config.secret import revealed
from twisted_lb.config.sessions import takes_requests, takes_sessions
from twisted_lb.config.targets import TargetsConfig
from twisted_lb.config.tcp_keepalive import TcpKeepaliveConfig
from twisted_lb.config.traces import TracesConfig
from twisted_lb.config.urgency import BY_ROUTE
from twisted_lb.core.access import AccessRule, AccessRules
from twisted_lb.core.affinity import AffinityRules
from twisted_lb.core.ask import key_of
from twisted_lb.core.backend import Backend
from twisted_lb.core.backoff import Backoff
from twisted_lb.core.counts import Counts
from twisted_lb.core.gradient import AdaptiveRules
from twisted_lb.core.grpc import NAMES as CODES
from twisted_lb.core.hedging import HedgeRules
from twisted_lb.core.mirroring import MirrorSettings
from twisted_lb.core.networks import Network, Networks, network_of, networks_in
from twisted_lb.core.never import NEVER
from twisted_lb.core.pickers.base import Policy
from twisted_lb.core.pickers.own import OwnPolicy
from twisted_lb.core.pickers.shadow import ShadowedPolicy, peek_of
from twisted_lb.core.rate import Rate
from twisted_lb.core.rate_limits import RateKey, RateLimit
from twisted_lb.core.retry import IDEMPOTENT, RetryRules
from twisted_lb.core.settings import EjectionRules, PoolSettings
from twisted_lb.core.weighing import SlowStart
from twisted_lb.discovery.provider import ListRules
from twisted_lb.errors import ConfigError
from twisted_lb.http_check import HttpQuestion
from twisted_lb.net.affinity import Affinity, By, CookieForm
from twisted_lb.net.local_reply import HTML, JSON, TEXT, ErrorPage
from twisted_lb.net.own_answers import HTTPS_PORT, Answer, OwnAnswer, Redirect
from twisted_lb.net.path_edit import PathEdit
from twisted_lb.net.queueing import Queueing, UrgencyField
from twisted_lb.net.request_cost import RequestCost
from twisted_lb.net.request_keys import RequestKey
from twisted_lb.net.settings import AUTO, EITHER, H1, ArrivalRules, ClientRules, RouteRules, UpstreamRules
from twisted_lb.net.tcp_keepalive import TcpKeepalive
from twisted_lb.plan_tls import outgoing_of, outgoing_said, own_certificate, said_of, tls_of
from twisted_lb.planned import (
    AdmissionPlan,
    CheckPlan,
    LeadPlan,
    ListenerPlan,
    Plan,
    PoolPlan,
    RoutePlan,
    TargetsPlan,
)
from twisted_lb.tls.certificate import Certificate
from twisted_lb.tls.flaws import BadCertificate
from twisted_lb.tls.known import Known
from twisted_lb.tls.outgoing import OutgoingSettings
from twisted_lb.tls.settings import TlsSettings
from twisted_lb.tracing.rules import TraceRules
from twisted_lb.wire.edits import NO_EDITS, FieldEdits
from twisted_lb.wire.grammar import Limits
from twisted_lb.wire.origin import Trust
from twisted_lb.wire.rewrite import Forwarding

__all__ = ["DEFAULT", "OF_POOLS", "TLS_FILES", "Files", "plan_of"]

# Of answers, which have no request line.
_NO_LINE = 8192

# The field of a session of MCP (streamable HTTP).
_MCP_SESSION: Final = "mcp-session-id"

# Among what a route is made of: what it takes from its pools.
OF_POOLS: Final = "pools"
# And what a listener is: what is in the files of its TLS.
TLS_FILES: Final = "files of tls"
_PROXY_VERSIONS: Final = {"off": 0, "v1": 1, "v2": 2}

P = TypeVar("P", "ListenerPlan", "RoutePlan", "PoolPlan")


class Files:
    """The files that a configuration names, each read once: a service that has given up its privileges cannot read again."""

    def __init__(self, home: Home | None = None, known: Known | None = None) -> None:
        self._home: Final = Home() if home is None else home
        # Certificates that were read before: what says the same is not parsed again.
        self.known: Final = Known() if known is None else known
        self._read: dict[str, bytes] = {}
        self._unread: dict[str, Problem] = {}
        self._missing: set[str] = set()
        self._folders: dict[str, tuple[str, ...] | None] = {}
        self._readers: dict[str, str] = {}
        # What was made of a place of certificates, or is wrong with it.
        self.certificates: Final[dict[str, tuple[Certificate, ...] | BadCertificate]] = {}

    def anew(self) -> "Files":
        """The same, to be read anew."""
        return Files(self._home, self.known)

    def read(self, path: str, place: KeyPath) -> bytes:
        """What is in a file that is named at a place; nothing of one that cannot be read, see `refuse_unread`."""
        if path not in self._read and path not in self._unread:
            try:
                self._read[path] = contents(self._home.at(Path(path)))
            except (OSError, ValueError) as error:
                # ValueError: a NUL in the path.
                reason = (getattr(error, "strerror", None) or str(error)).lower()
                self._unread[path] = Problem(place, f"{path}: {reason}")
                self._missing.add(path)
        return self._read.get(path, b"")

    def contents(self, path: str) -> bytes:
        """What is in a file; OSError or ValueError for one that cannot be read."""
        if path not in self._read:
            try:
                self._read[path] = contents(self._home.at(Path(path)))
            except (OSError, ValueError):
                self._missing.add(path)
                raise
        return self._read[path]

    def entries(self, path: str) -> tuple[str, ...] | None:
        """The names in a folder, sorted; None where there is none."""
        if path not in self._folders:
            self._folders[path] = entries_of(self._home.at(Path(path)))
        return self._folders[path]

    def folder(self, path: str, place: KeyPath) -> str:
        """Where a folder that is named at a place is, wherever this process goes; one that is not there is refused as files are."""
        found = self._home.at(Path(path)).absolute()
        if self.entries(path) is None:
            self._unread[path] = Problem(place, f"{path}: there is no such directory")
        return str(found)

    def readers(self, path: str) -> str:
        """Who may read a file beside its owner: `others`, `group`, or nobody."""
        if path not in self._readers:
            self._readers[path] = readers_of(self._home.at(Path(path)))
        return self._readers[path]

    def networks(self, path: str, place: KeyPath) -> list[Network]:
        """The networks in a file, one a line; a line that is none is refused with the files that cannot be read."""
        try:
            return networks_in(self.read(path, place).decode("utf-8", "replace"))
        except ValueError as error:
            self._unread[path] = Problem(place, f"{path}: {error}")
            return []

    def refuse(self, problems: Iterable[Problem]) -> None:
        """Have these refused with the files that cannot be read."""
        self._unread.update({f"{one.path}": one for one in problems})

    def refuse_unread(self, others: Iterable[Problem] = ()) -> None:
        """ConfigError with all files that could not be read since the last look, or are not what they should be, and with others."""
        unread, self._unread = self._unread, {}
        problems = [*unread.values(), *others]
        if problems:
            raise ConfigError(problems)

    @property
    def digests(self) -> dict[str, str]:
        """The SHA-256 of each file, and of the names in each folder, in hexadecimal, by path; empty of one that could not be read."""
        digests = {
            **dict.fromkeys(self._missing, ""),
            **{path: digest_of_names(names) for path, names in self._folders.items() if names is not None},
            **{path: digest_of(data) for path, data in self._read.items()},
        }
        return {str(self._home.at(Path(path))): digest for path, digest in digests.items()}


def plan_of(config: LoadBalancerConfig, before: Plan | None = None, files: Files | None = None) -> Plan:
    """The plan of a configuration; what is equal to a part of the plan `before` is that part. `files` are those that were
    read already. ConfigError names those that cannot be read.
    """
    objects = objects_of(config)
    files = Files() if files is None else files
    # A field that the balancer writes itself for one of its routes is taken from nobody.
    real_ip = any(one.forwarding.real_ip for one in (*objects.routes.values(), *objects.to_default.values()))
    ratio = -1.0 if config.traces.url is None else config.traces.ratio
    pools = {
        name: _pool(name, pool, config.defaults.backend, files, ("pools", name) if name in config.pools else ())
        for name, pool in objects.pools.items()
    }
    routes = {
        name: _route(name, route, objects, files, ("routes", number), ratio)
        for number, (name, route) in enumerate(objects.routes.items())
    }
    defaults = {
        _default_route(pool): _route(_default_route(pool), route, objects, files, (), ratio)
        for pool, route in objects.to_default.items()
    }
    own = None if before is None else own_certificate(one.tls for one in before.listeners.values())
    listeners = {
        name: _listener(
            name,
            objects,
            files,
            ("listeners", name) if name in config.listeners else (),
            own,
            real_ip=real_ip,
        )
        for name in objects.listeners
    }
    files.refuse_unread(_unmade(config, pools))
    return Plan(
        listeners=_kept(listeners, None if before is None else before.listeners),
        routes=_kept({**routes, **defaults}, None if before is None else before.routes),
        pools=_kept(pools, None if before is None else before.pools),
        log_requests=config.log.requests,
        drain_s=config.timeouts.drain_s,
        tunnel_drain_s=config.timeouts.tunnel_drain_s,
        memory_bytes=config.limits.memory_bytes,
        access_log=_log_rules(config.log),
        traces=_trace_rules(config.traces),
    )


def _unmade(config: LoadBalancerConfig, pools: Mapping[str, PoolPlan]) -> Iterator[Problem]:
    """The policies of one's own that cannot be made over the backends of their pools: each is made once, to see."""
    for name, pool in pools.items():
        members = [Backend(spec, Counts()) for spec in pool.backends if spec.weight]
        policies: list[tuple[KeyPath, Policy]] = [(("policy",), pool.policy)]
        if isinstance(pool.policy, ShadowedPolicy):
            policies = [(("policy",), pool.policy.policy), (("shadow", "policy"), pool.policy.shadow)]
        for key, policy in policies:
            wrong = policy.try_out(members) if isinstance(policy, OwnPolicy) and members else ""
            if wrong:
                yield Problem((*home_of_choice(config, name, key[0]), *key[1:]), f"{policy}: {wrong}")


def _log_rules(config: LogConfig) -> LogRules | None:
    if config.file is None:
        return None
    return LogRules(
        file=config.file,
        format=config.format,
        query=config.query,
        network=config.addresses == "network",
        sample=config.sample,
        slow_s=config.slow_s,
    )


def _trace_rules(config: TracesConfig) -> TraceRules | None:
    if config.url is None:
        return None
    headers = {name: revealed(value) for name, value in config.headers.items()}
    return TraceRules(endpoint=config.url, ratio=config.ratio, service=config.service, headers=headers)


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


def _listener(
    name: str, objects: Objects, files: Files, place: KeyPath, own: Certificate | None, *, real_ip: bool
) -> ListenerPlan:
    config = objects.listeners[name]
    pages = _pages(config.error_pages, files, place)
    tls = _tls(config, files, place, own)
    pool = config.default_pool or DEFAULT
    routes = tuple(one for one, route in objects.routes.items() if takes_requests(route, name, objects.listeners))
    sessions = tuple(one for one, route in objects.routes.items() if takes_sessions(route, name, objects.listeners))
    route = _default_route(pool) if pool in objects.to_default else None
    return ListenerPlan(
        rules=_client_rules(config, pages, real_ip=real_ip),
        routes=routes,
        sessions=sessions,
        route=route,
        tcp=config.protocol == "tcp",
        versions=config.versions,
        addresses=config.addresses,
        connections=config.limits.connections,
        connections_per_client=config.limits.connections_per_client,
        admission=_admission(config, f"listener {name}"),
        log=config.log,
        arrival=_arrival(config),
        acme_webroot=files.folder(config.acme_webroot, (*place, "acme_webroot")) if config.acme_webroot else None,
        tls=tls,
        handshakes=config.limits.handshakes,
        tcp_keepalive=_tcp_keepalive(config.tcp_keepalive),
        made_of={
            "": config,
            TLS_FILES: said_of(tls),
            "routes": routes,
            "sessions": sessions,
            "default_route": route,
            "real_ip": real_ip,
            "error_pages": _bytes_of(pages),
        },
    )


def _tls(config: ListenerConfig, files: Files, place: KeyPath, own: Certificate | None) -> TlsSettings | None:
    try:
        # What carries TCP agrees on nothing with its client.
        versions = () if config.protocol == "tcp" else config.versions
        return tls_of(config.tls, files, (*place, "tls"), own, versions)
    except ConfigError as error:
        files.refuse(error.problems)
        return None


# What is offered to backends in TLS, the preferred one first (ALPN).
_OFFERS: Final = {"h1": ("http/1.1",), "h2": ("h2",), "auto": ("h2", "http/1.1")}


def _outgoing(config: PoolConfig, files: Files, place: KeyPath) -> OutgoingSettings | None:
    try:
        offers = _OFFERS[config.protocol]
        return None if config.tls is None else outgoing_of(config.tls, files, (*place, "tls"), offers)
    except ConfigError as error:
        files.refuse(error.problems)
        return None


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
    names.append(b"x-forwarded-prefix")  # what a route cuts is told in it
    names.append(b"x-client-cert-*")  # whoever believes them believes that we have asked for a certificate
    if real_ip:
        names.append(b"x-real-ip")  # we write it ourselves
    return tuple(names)


def _arrival(config: ListenerConfig) -> ArrivalRules:
    return ArrivalRules(
        proxy=config.proxy_protocol != "off",
        proxy_only=config.proxy_protocol == "require",
        proxy_from=Networks(config.proxy_protocol_from) if config.proxy_protocol_from else None,
        patience_s=config.timeouts.handshake_s,
    )


def _tcp_keepalive(config: TcpKeepaliveConfig) -> TcpKeepalive | None:
    return TcpKeepalive(config.idle_s, config.interval_s, config.probes) if config.on else None


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
        max_age_s=config.client_max_age_s,
        most_requests=config.client_requests,
        trust=Trust(Networks(config.trusted_proxies), config.trusted_fields),
        finish_half_closed=config.client_half_close == "finish",
        pages=pages,
    )


def _route(
    name: str, config: RouteConfig, objects: Objects, files: Files, place: KeyPath, trace_ratio: float
) -> RoutePlan:
    pages = _pages(config.error_pages, files, place)
    fallback = config.fallback if isinstance(config.fallback, str) else None
    led = {name: objects.pools[name] for name in (*config.pools, *([fallback] if fallback else []))}
    mirrors = {one: pool.mirror.to for one, pool in led.items() if pool.mirror is not None}
    pools = {**led, **{name: objects.pools[name] for name in mirrors.values()}}
    hidden = _cookies(pools)
    rules = {one: _route_rules(config, pool, pages, trace_ratio, one, hidden) for one, pool in pools.items()}
    leads = {
        one: LeadPlan(
            one,
            config.pools.get(one, 0),
            rules[one],
            LeadPlan(mirrors[one], 0, rules[mirrors[one]]) if one in mirrors else None,
        )
        for one in led
    }
    clients, answer, other_answer = _clients(config, files, place), _answer(config, files, place), None
    if isinstance(config.fallback, AnswerConfig):
        other_answer = _fixed_answer(config.fallback, files, (*place, "fallback"))
    return RoutePlan(
        leads=tuple(leads[one] for one in config.pools),
        rules=_route_rules(config, None, pages, trace_ratio),
        match=match_of(config, Networks(clients) if config.clients else None),
        split_by=None if config.split_by is None else _key(config.split_by),
        fallback=leads[fallback] if fallback else other_answer,
        answer=answer,
        admission=_admission(config, f"route {name}"),
        log=config.log,
        server_names=config.sni,
        terminates=config.terminate_tls,
        made_of={
            "": config,
            OF_POOLS: {name: _of_pool(one) for name, one in pools.items()},
            "error_pages": _bytes_of(pages),
            "clients": clients,
            "files": _contents(config, files, place),
            "traces": trace_ratio,
        },
    )


def _of_pool(pool: PoolConfig) -> object:
    """What of a pool's configuration is in the rules of the routes that lead there."""
    return (
        pool.retry,
        pool.hedge,
        _retry_after_s(pool.health_check),
        pool.buffer_request_bytes,
        pool.buffer_response_bytes,
        _peek_bytes(pool),
        pool.affinity,
        None if pool.mirror is None else pool.mirror.to,
    )


def _clients(config: RouteConfig, files: Files, place: KeyPath) -> tuple[Network, ...]:
    """The networks that a route takes clients of, those in files among them."""
    found: list[Network] = []
    for number, one in enumerate(config.clients):
        if isinstance(one, str):
            found.append(network_of(one))
        else:
            found += files.networks(one.file, (*place, "clients", number, "file"))
    return tuple(found)


def _answer(config: RouteConfig, files: Files, place: KeyPath) -> OwnAnswer | None:
    if config.redirect is not None:
        return Redirect(config.redirect.status, config.redirect.to.encode("ascii"))
    return None if config.answer is None else _fixed_answer(config.answer, files, (*place, "answer"))


def _fixed_answer(config: AnswerConfig, files: Files, place: KeyPath) -> Answer:
    kind = config.content_type
    body: bytes | None
    if config.file is not None:
        body = files.read(config.file, (*place, "file"))
        kind = kind or guess_type(config.file)[0] or "application/octet-stream"
    else:
        body = None if config.text is None else config.text.encode()
    kind = kind or "text/plain"
    if kind.startswith("text/") and ";" not in kind:
        kind += "; charset=utf-8"
    return Answer(config.status, body, kind.encode("ascii"), config.retry_after_s)


def _contents(config: RouteConfig, files: Files, place: KeyPath) -> object:
    """What is in the files of a route's answers: where it has changed, so has the route."""
    answers = {key: getattr(config, key) for key in ("answer", "fallback")}
    return [
        files.read(one.file, (*place, key, "file"))
        for key, one in answers.items()
        if isinstance(one, AnswerConfig) and one.file is not None
    ]


def _admission(config: AccessConfig, owner: str) -> AdmissionPlan:
    rules = [
        AccessRule(Networks(texts), allow=allow)
        for texts, allow in ((config.deny_clients, False), (config.allow_clients, True))
        if texts
    ]
    return AdmissionPlan(
        access=AccessRules(rules, otherwise=not config.allow_clients) if rules else None,
        requests_per_client=config.requests_per_client,
        limits=tuple(_rate_limit(f"{owner}, number {at}", one) for at, one in enumerate(config.rate_limits, 1)),
    )


def _rate_limit(name: str, config: RateLimitConfig) -> RateLimit:
    key = _key(config.key)
    rate = Rate(config.per_s, config.burst)
    return RateLimit(name, rate, key.kind, field=key.name, dry_run=config.dry_run)


def _key(config: KeyTable) -> RequestKey:
    name = config.name.lower() if config.source == "header" else config.name
    return RequestKey(RateKey(config.source), name.encode())


def _route_rules(
    config: RouteConfig,
    pool: PoolConfig | None,
    pages: Mapping[int, ErrorPage],
    trace_ratio: float,
    pool_name: str = "",
    hidden: tuple[bytes, ...] = (),
) -> RouteRules:
    """The rules of a route where it leads to a pool; None: those of what goes to none. `hidden`: the cookies of affinity of all pools
    that it leads to.
    """
    timeouts, forwarding = config.timeouts, config.forwarding
    retry, affinity, methods = RetryRules(0, frozenset()), None, config.repeatable
    if pool is not None:
        affinity = _affinity(pool_name, pool.affinity)
        said = pool.retry
        backoff = Backoff(said.backoff_s, said.longest_s, said.retry_after_most_s)
        codes = frozenset(CODES.index(one) for one in said.grpc)
        retry = RetryRules(said.more_attempts, frozenset(said.bad_statuses), backoff, codes)
        methods = (*methods, *said.methods)
    edits = _edits(config.set_request_headers, config.remove_request_headers)
    return RouteRules(
        response_head_s=timeouts.response_head_s,
        attempt_s=NEVER if timeouts.attempt_s is None else timeouts.attempt_s,
        response_idle_s=timeouts.response_idle_s,
        tunnel_idle_s=timeouts.tunnel_idle_s,
        half_open_s=timeouts.half_open_s,
        retries=retry,
        hedges=pool is not None and retry.more_attempts > 0 and pool.hedge.on,
        body_bytes=-1 if config.limits.body_bytes is None else config.limits.body_bytes,
        replay_bytes=config.limits.replay_body_bytes,
        gather_bytes=0 if pool is None else _gather_bytes(pool, streams=config.stream),
        buffer_response_bytes=0 if pool is None or config.stream else pool.buffer_response_bytes,
        forwarding=Forwarding(
            forwarded=forwarding.forwarded,
            real_ip=forwarding.real_ip and b"x-real-ip" not in edits.removed,
            via=forwarding.via.encode("ascii"),
        ),
        upgrades=frozenset(token.encode("ascii") for token in config.upgrades),
        make_request_id=forwarding.request_id == "make",
        make_traceparent=forwarding.traceparent == "make",
        trace_ratio=trace_ratio,
        repeatable=IDEMPOTENT | {method.encode("ascii") for method in methods},
        request_edits=edits,
        response_edits=_edits(config.set_response_headers, config.remove_response_headers),
        hsts=config.hsts.encode("ascii"),
        https_port=HTTPS_PORT if config.https_only is True else int(config.https_only),
        path_edit=_path_edit(config),
        refuse_escaped_slash=config.encoded_slash == "refuse",
        host=_told_host(forwarding.host),
        cost=_cost(config.cost),
        key=_key(config.key),
        urgency=config.urgency,
        deadline_s=NEVER if config.timeouts.deadline_s is None else config.timeouts.deadline_s,
        deadline_field=(config.timeouts.deadline_header or "").lower().encode("ascii"),
        bound=affinity is not None,
        hidden_cookies=hidden,
        pages=pages,
        retry_after_s=1 if pool is None else _retry_after_s(pool.health_check),
    )


def _cost(cost: CostOf) -> RequestCost | None:
    if cost == ORDINARY:
        return None
    return RequestCost(cost.number, by_bytes=cost.by_bytes, field=cost.header.lower().encode("ascii"))


def _edits(set_: Mapping[str, str], removed: Sequence[str]) -> FieldEdits:
    if not set_ and not removed:
        return NO_EDITS
    fields = [(name.encode("ascii"), value.encode("ascii")) for name, value in set_.items()]
    return FieldEdits(fields, [name.encode("ascii") for name in removed])


def _path_edit(config: RouteConfig) -> PathEdit | None:
    cut, put = next(iter((config.replace_prefix or {}).items()), (config.strip_prefix or "", ""))
    added = config.add_prefix or ""
    return PathEdit(cut.encode(), put.encode(), added.encode()) if cut or added else None


def _told_host(host: str) -> bytes | None:
    """The Host that backends get; see RouteRules."""
    return None if host == "keep" else b"" if host == "backend" else host.encode("ascii")


def _adaptive(given: AdaptiveConfig) -> AdaptiveRules:
    return AdaptiveRules(given.least, given.most, given.tolerance_percent, given.measure_s)


def _hedge(config: HedgeConfig) -> HedgeRules | None:
    return HedgeRules(config.percentile, config.delay_s, config.least_delay_s) if config.on else None


def _retry_after_s(check: HealthCheckConfig) -> int:
    """When to ask again where nobody is usable: after the next check of those that are out, or, without checks, the next trial."""
    return max(1, ceil(check.out_interval_s)) if check.enabled else 1


def _pool(name: str, config: PoolConfig, backend: BackendRulesConfig, files: Files, place: KeyPath) -> PoolPlan:
    tls = _outgoing(config, files, place)
    check, upstream, retry = config.health_check, config.upstream, config.retry
    affinity = _affinity(name, config.affinity)
    return PoolPlan(
        backends=tuple(config.backends),
        policy=_policy(config),
        policy_name=str(config.policy),
        settings=PoolSettings(
            rise=check.rise,
            fall=check.fall,
            checked=check.enabled,
            max_in_flight=0 if config.max_in_flight == "adaptive" else config.max_in_flight,
            adaptive=_adaptive(config.adaptive) if config.max_in_flight == "adaptive" else None,
            own_adaptive=_adaptive(config.adaptive),
            abandoned_s=config.abandoned_s,
            max_queued=config.queue.length,
            queue_timeout_s=config.queue.timeout_s,
            no_backend_s=config.queue.no_backend_s,
            tells_apart=config.queue.fair_by is not None or config.queue.priority_by != BY_ROUTE,
            initially_up=check.initial == "up",
            move=check.move,
            agents=check.enabled and (check.agent != "off" or check.agent_port is not None),
            busy=check.enabled and bool(check.busy_statuses),
            ejection=_ejection(config.ejection),
            budget_percent=retry.budget_percent,
            budget_per_s=retry.budget_per_s,
            hedge=_hedge(config.hedge),
            slow_start=SlowStart(
                window_s=config.slow_start.window_s,
                aggression=config.slow_start.aggression,
                floor=config.slow_start.floor_percent / 100,
            ),
            spill=config.queue.when_full == "spill",
            panic_percent=config.panic.threshold_percent,
            panic_even_down=config.panic.even_down,
            affinity=None if affinity is None else _affinity_rules(config.affinity, affinity),
            close_when_down=config.close_when_down,
            leave_backups=config.leave_backups,
            mirror=_mirror(config.mirror),
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
            tcp_keepalive=_tcp_keepalive(config.tcp_keepalive),
            protocol=H1 if config.protocol == EITHER and config.tls is None else config.protocol,
        ),
        queue=_queue(config.queue),
        affinity=affinity,
        checks=_checks(check) if check.enabled else None,
        targets=None if config.targets is None else _targets(config.targets, backend),
        tls=tls,
        proxy=_PROXY_VERSIONS[config.send_proxy],
        # What its backends inherit is in them; those of a list come without.
        made_of={
            "": config,
            TLS_FILES: outgoing_said(tls),
            **({} if config.targets is None else {"defaults.backend": backend}),
        },
    )


def _mirror(config: MirrorConfig | None) -> MirrorSettings | None:
    if config is None:
        return None
    return MirrorSettings(
        percent=config.percent,
        most=config.most,
        body_bytes=config.body_bytes,
        timeout_s=config.timeout_s,
        methods=frozenset(method.encode("ascii") for method in config.methods),
    )


def _queue(config: QueueConfig) -> Queueing:
    by = config.priority_by
    return Queueing(
        fair=None if config.fair_by is None else _key(config.fair_by),
        urgent=UrgencyField(by.header.lower().encode("ascii"), {word.encode("ascii"): n for word, n in by.classes})
        if by.header
        else None,
        full_status=config.full_status,
    )


def _affinity(pool: str, config: AffinityConfig) -> Affinity | None:
    """By what the requests of a pool are bound; None: by nothing."""
    if config.cookie is not None:
        cookie = config.cookie
        form = CookieForm(
            # Of the name alone: neither other backends nor another secret make it another cookie.
            (cookie.name or f"lb_{key_of(pool.encode()) & 0xFFFF_FFFF:08x}").encode("ascii"),
            max_age_s=config.max_age_s,
            path=cookie.path.encode("ascii"),
            domain=(cookie.domain or "").encode("ascii"),
            secure=None if cookie.secure == "auto" else cookie.secure == "always",
            same_site=None if cookie.same_site == "auto" else cookie.same_site.capitalize().encode("ascii"),
        )
        return Affinity(By.COOKIE, cookie=form, secrets=[one.reveal().encode() for one in config.secret])
    if config.learn is not None:
        ends = config.learn.source == "header" and config.learn.name.lower() == _MCP_SESSION
        return Affinity(By.LEARNED, key=_key(config.learn), ends=ends)
    if config.header is not None:
        return Affinity(By.KEY, key=_key(KeyTable("header", config.header)))
    return Affinity(By.KEY, key=_key(KeyTable("client"))) if config.client else None


def _cookies(pools: Mapping[str, PoolConfig]) -> tuple[bytes, ...]:
    """The names of the cookies by which these pools bind their clients."""
    made = [_affinity(name, pool.affinity) for name, pool in pools.items()]
    return tuple(sorted({one.cookie.name for one in made if one is not None and one.cookie is not None}))


def _affinity_rules(config: AffinityConfig, affinity: Affinity) -> AffinityRules:
    return AffinityRules(
        by=affinity.label,
        max_age_s=config.max_age_s,
        most=config.most,
        waits=config.when_full == "wait",
        drain_s=config.drain_s,
    )


def _policy(config: PoolConfig) -> Policy:
    """The policy that routes, with its shadow if it has one."""
    policy, shadow = policy_for(config.policy, config.policy_budget_us), config.shadow.policy
    if shadow is None:
        return policy
    return ShadowedPolicy(policy, policy_for(shadow, config.policy_budget_us), str(shadow))


def _gather_bytes(pool: PoolConfig, *, streams: bool) -> int:
    """How much of a body is waited for: what the pool holds for slow clients, and what its policy looks at. A route that streams waits
    for nothing; -1: what is here is looked at.
    """
    peek = _peek_bytes(pool)
    if streams:
        return -1 if peek else 0
    return max(pool.buffer_request_bytes, peek)


def _peek_bytes(config: PoolConfig) -> int:
    """How much of a body its policy, or its shadow, looks at before a backend is picked."""
    peek = peek_of(_policy(config))
    return 0 if peek is None else peek.bytes


def _ejection(config: EjectionConfig) -> EjectionRules:
    return EjectionRules(
        consecutive_failures=config.consecutive_failures,
        min_clients=config.min_clients,
        success_rate_factor=config.success_rate_factor,
        success_rate_requests=config.success_rate_requests,
        failure_percent=config.failure_percent,
        failure_percent_requests=config.failure_percent_requests,
        min_backends=config.min_backends,
        window_s=config.window_s,
        base_s=config.base_s,
        longest_s=config.longest_s,
        max_percent=config.max_percent,
        checks_end=config.checks_end,
    )


def _targets(config: TargetsConfig, backend: BackendRulesConfig) -> TargetsPlan:
    return TargetsPlan(
        where=config.where,
        rules=ListRules(
            refresh_s=config.pause_s,
            allow_empty=config.allow_empty,
            max_shrink=config.max_shrink,
            weight=1 if backend.weight is None else backend.weight,
        ),
        check_port=backend.check_port,
        resolve=backend.resolve or "",
        family=backend.family or "",
        labels=backend.labels,
        limit=backend.limit,
        priority=backend.priority or 0,
        backup=bool(backend.backup),
    )


def _checks(check: HealthCheckConfig) -> CheckPlan:
    http = HttpQuestion(
        method=check.method.encode("ascii"),
        path=check.path.encode("ascii"),
        host=(check.host or "").encode("ascii"),
        fields=tuple(f"{name}: {revealed(value)}".encode("ascii") for name, value in check.headers.items()),
        statuses=check.statuses,
        text=(check.expect_text or "").encode(),
        busy=check.busy,
        agent_header=check.agent_header.lower().encode("ascii") if check.agent == "header" else b"",
        agent_body=check.agent == "body",
    )
    return CheckPlan(
        check.interval_s,
        check.out_interval_s,
        check.answer_timeout_s,
        http if check.kind == "http" else None,
        check.port,
        check.agent_port,
        None if check.script is None else check.script.script,
        check.grpc_service.encode("ascii") if check.kind == "grpc" else None,
    )


def _pages(pages: Mapping[str, str], files: Files, place: KeyPath) -> dict[int, ErrorPage]:
    """The error pages, by status, of the object at a place."""
    return {
        int(status): ErrorPage(_kind(path), files.read(path, (*place, "error_pages", status)))
        for status, path in pages.items()
    }


def _kind(path: str) -> bytes:
    return {".html": HTML, ".json": JSON}.get(Path(path).suffix, TEXT)
