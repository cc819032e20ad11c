"""Plans: one generation of the configuration in the form that the running parts read, as far as they know it. `plan.py` makes them.

It names nothing of the configuration, so that a worker reads plans without it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from twisted_lb.access_log.rules import LogRules
from twisted_lb.core.access import AccessRules
from twisted_lb.core.address import TcpAddress, is_name
from twisted_lb.core.backend import BackendSpec
from twisted_lb.core.listen_address import ListenAddress
from twisted_lb.core.pickers.base import Policy
from twisted_lb.core.rate_limits import RateLimit
from twisted_lb.core.routing import RouteMatch
from twisted_lb.core.script import Script
from twisted_lb.core.settings import PoolSettings
from twisted_lb.discovery.provider import ListRules
from twisted_lb.http_check import HttpQuestion
from twisted_lb.net.affinity import Affinity
from twisted_lb.net.own_answers import OwnAnswer
from twisted_lb.net.queueing import Queueing
from twisted_lb.net.request_keys import RequestKey
from twisted_lb.net.settings import ArrivalRules, ClientRules, RouteRules, UpstreamRules
from twisted_lb.net.tcp_keepalive import TcpKeepalive
from twisted_lb.tls.outgoing import OutgoingSettings
from twisted_lb.tls.settings import TlsSettings
from twisted_lb.tracing.rules import TraceRules

_PLAIN_ARRIVAL: Final = ArrivalRules()

ANYTHING: Final = RouteMatch()


@dataclass(frozen=True)
class AdmissionPlan:
    """What is asked of requests before they go on: access by network (None: all have it), how many of one client may run at
    once (0: any number), and how often they may come.
    """

    access: AccessRules | None = None
    requests_per_client: int = 0
    limits: tuple[RateLimit, ...] = ()


@dataclass(frozen=True, eq=False)
class ListenerPlan:
    """The plan of a listener: where it listens, its rules, the names of its routes in their order, those of requests and those of
    sessions (connections that are carried as they are), that of the route which
    takes what none of them does (None: nothing does), whether it carries TCP, else which versions of HTTP, how many connections its clients may have (None: as many as there
    is room for; per client 0: no limit), and what is asked of their requests; whether these are in the access log, or in which
    form; what comes before the first request, its certificates and what holds for TLS (None: it speaks plain HTTP), and how many handshakes may be open; how silent clients are asked
    whether they are there (None: not at all). `made_of` is compared when the next plan is made: parts of the configuration, by the key that they have below it.
    """

    rules: ClientRules
    routes: tuple[str, ...] = ()
    sessions: tuple[str, ...] = ()
    route: str | None = None
    tcp: bool = False
    versions: tuple[str, ...] = ("http/1.1",)
    addresses: tuple[ListenAddress, ...] = ()
    connections: int | None = None
    connections_per_client: int = 0
    admission: AdmissionPlan = AdmissionPlan()
    log: bool | str = True
    arrival: ArrivalRules = _PLAIN_ARRIVAL
    acme_webroot: str | None = None
    tls: TlsSettings | None = None
    handshakes: int = 1000
    tcp_keepalive: TcpKeepalive | None = None
    made_of: Mapping[str, object] = field(default_factory=dict, repr=False)


@dataclass(frozen=True)
class LeadPlan:
    """One way that a route leads: to a pool, with a share of the requests by weight, and the rules that hold there; and where they are
    mirrored to, None: nowhere.
    """

    pool: str
    weight: int
    rules: RouteRules
    mirror: "LeadPlan | None" = None


@dataclass(frozen=True, eq=False)
class RoutePlan:
    """The plan of a route: what it takes, and what becomes of that: it goes to a pool, or by weight to one of several (`split_by`: for
    the same one always to the same), and, while those have nobody, to the fallback, or it gets an answer, or 403 where there is
    neither. `rules` are those that hold for what goes to no pool. `server_names`: the names of the ClientHello that it takes; `terminates`: their TLS ends
    here. `log`: as of a listener, None: as that says. `made_of` is
    compared when the next plan is made.
    """

    leads: tuple[LeadPlan, ...]
    rules: RouteRules
    match: RouteMatch = ANYTHING
    split_by: RequestKey | None = None
    fallback: LeadPlan | OwnAnswer | None = None
    answer: OwnAnswer | None = None
    admission: AdmissionPlan = AdmissionPlan()
    log: bool | str | None = None
    server_names: tuple[str, ...] = ()
    terminates: bool = False
    made_of: Mapping[str, object] = field(default_factory=dict, repr=False)


@dataclass(frozen=True)
class CheckPlan:
    """The plan of active checks: how often, in seconds, those that are out apart, what is asked, and at which port; `http`,
    `script` and `grpc` (a service of gRPC) None: connecting is the question; `port` None: the one that traffic goes to. `agent_port`: where agents are asked besides,
    None: nowhere.
    """

    interval_s: float
    down_interval_s: float
    timeout_s: float
    http: HttpQuestion | None
    port: int | None
    agent_port: int | None = None
    script: Script | None = None
    grpc: bytes | None = None


@dataclass(frozen=True)
class TargetsPlan:
    """The plan of a target list: where it is, by which rules it is followed, and what holds for a backend in it for which it does
    not say so itself.
    """

    where: str
    rules: ListRules
    check_port: int | None = None
    resolve: str = ""
    family: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    limit: int | None = None
    priority: int = 0
    backup: bool = False

    def completed(self, spec: BackendSpec) -> BackendSpec:
        """A backend of the list with all that holds for it, as far as that means anything: a unix socket has no port to ask,
        and what is no name is not resolved.
        """
        if not (
            self.check_port
            or self.resolve
            or self.family
            or self.labels
            or self.limit is not None
            or self.priority
            or self.backup
        ):
            return spec  # of thousands
        named = is_name(spec.address)
        check_port = self.check_port if isinstance(spec.address, TcpAddress) else None
        return replace(
            spec,
            check_port=spec.check_port or check_port,
            resolve=spec.resolve or (self.resolve if named else ""),
            family=spec.family or (self.family if named else ""),
            labels=tuple({**self.labels, **dict(spec.labels)}.items()),
            limit=self.limit if spec.limit is None else spec.limit,
            priority=self.priority,
            backup=self.backup,
        )


@dataclass(frozen=True, eq=False)
class PoolPlan:
    """The plan of a pool: its members, policy and settings, the rules of connections to them, by what requests are bound to them (None:
    by nothing), their checks (None: no checks), the list that has more members (None: there is none), how TLS is spoken to them (None: it is not), and with which version of a PROXY header connections begin (0: with none). ValueError when a name is there twice.
    """

    backends: tuple[BackendSpec, ...]
    policy: Policy
    policy_name: str
    settings: PoolSettings
    upstream: UpstreamRules
    queue: Queueing
    checks: CheckPlan | None
    targets: TargetsPlan | None = None
    affinity: Affinity | None = None
    tls: OutgoingSettings | None = None
    proxy: int = 0
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
    "brief", "failed" or "all"; `access_log` None: there is none; `traces` None: no spans are made; `drain_s` bounds a stop,
    `tunnel_drain_s` one that has time; `memory_bytes` what is held of bodies for slow clients.
    """

    listeners: Mapping[str, ListenerPlan]
    routes: Mapping[str, RoutePlan]
    pools: Mapping[str, PoolPlan]
    log_requests: str
    drain_s: float
    tunnel_drain_s: float
    memory_bytes: int
    access_log: LogRules | None = None
    traces: TraceRules | None = None

    def __post_init__(self) -> None:
        for name, listener in self.listeners.items():
            named = (*listener.routes, *listener.sessions)
            wanted = named if listener.route is None else (*named, listener.route)
            for route_name in wanted:
                if route_name not in self.routes:
                    raise ValueError(f"listener {name}: no route is called {route_name}")
        for name, route in self.routes.items():
            fallback = (route.fallback,) if isinstance(route.fallback, LeadPlan) else ()
            leads = (*route.leads, *fallback)
            for lead in (*leads, *(one.mirror for one in leads if one.mirror is not None)):
                if lead.pool not in self.pools:
                    raise ValueError(f"route {name}: no pool is called {lead.pool}")
