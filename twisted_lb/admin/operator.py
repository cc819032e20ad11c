"""The operator's side of a balancer: all that API, page, metrics and command line ask and tell, as one protocol.

A data plane fills it; with several processes their parent does, and merges what each of them answers: what is counted is
added up, what is set is the same everywhere.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, Protocol

from twisted.internet.defer import Deferred

from twisted_lb.core.backend import AdminState
from twisted_lb.core.measures import Measures, ProcessMeasures


class Refused(Exception):
    """What an operator asked for is not done. `code` is for programs, `hint` says what may help."""

    def __init__(self, code: str, detail: str, hint: str = "") -> None:
        super().__init__(detail)
        self.code: Final = code
        self.detail: Final = detail
        self.hint: Final = hint


class NotFound(Refused):
    """There is no such backend, pool or request."""


@dataclass(frozen=True)
class Actor:
    """Who asks: a user of this machine, or the name of a token; `where` he is: a process, an address; and why he does."""

    name: str
    reason: str = ""
    where: str = ""


@dataclass(frozen=True)
class By:
    """Who has changed something at run time: when (epoch seconds), and why."""

    actor: str
    at: float
    reason: str = ""


@dataclass(frozen=True)
class CheckView:
    """One check: when it was answered (epoch seconds), whether it passed, what was said, how long it took (None: nobody knows)."""

    at: float
    passed: bool
    what: str
    ms: float | None = None


@dataclass(frozen=True)
class ReportView:
    """What a backend has said of its load last (ORCA): the utilization that its pool's policy compares, so long ago; whether that
    still counts; how many reports were used, and how many ignored.
    """

    utilization: float | None
    age_s: float | None
    counts: bool
    used: int
    ignored: int


@dataclass(frozen=True)
class ConnectionsView:
    """The connections to a backend that are open, idle ones among them: `http1` of HTTP/1.1, `http2` of HTTP/2, and how many `calls` run on
    those. `chose`: with `protocol = "auto"` what the backend took last (ALPN), `h1` or `h2`; empty where it was not asked yet, or has no choice.
    """

    http1: int = 0
    http2: int = 0
    calls: int = 0
    chose: str = ""

    def with_more(self, other: "ConnectionsView") -> "ConnectionsView":
        """Those of another process too."""
        return ConnectionsView(
            self.http1 + other.http1, self.http2 + other.http2, self.calls + other.calls, self.chose or other.chose
        )


@dataclass(frozen=True)
class BackendView:
    """A backend, as an operator sees it. `name` is `POOL/BACKEND`; `state` the gravest of what the operator wants, checks say
    and traffic says, with its `reason`, for `since_s` seconds. `rate` is in requests a second, `share` and `intended` in per
    cent of the pool's requests, both of the last minute; None: nobody knows. `limit` 0: no bound; `limit_why` says of an adaptive one
    why it is what it is, empty for any other. `reported` is what it says of its load, and how old that is; None where it does not, or nobody compares that. `level` is its priority, None for a backup.
    `ejected_by` is the rule of an ejection, empty where there is none; `failing` what it has failed since it was well last, empty
    for nothing. `agent` is what holds of what it says of itself: `drain 50% maxconn:20`; empty for nothing; `agent_state`: what that makes of it
    where it takes it out. `keeps_own_s`: it is drained, and for so many seconds more it gets what is bound to it (affinity).
    """

    name: str
    pool: str
    backend: str
    address: str
    labels: Mapping[str, str]
    weight: int
    weight_effective: float
    limit: int
    in_flight: int
    tunnels: int
    requests: int
    failures: int
    outcomes: Mapping[str, int]
    admin: str
    up: bool
    known: bool
    ejected: bool
    usable: bool
    available: bool
    state: str
    since_s: float
    reason: str
    by: By | None
    rate: float | None
    share: float | None
    intended: float | None
    errors_60s: int | None
    checks: Sequence[CheckView]
    sources: Mapping[str, str]
    p50_ms: float | None = None
    p99_ms: float | None = None
    reuse: float | None = None
    reported: "ReportView | None" = None
    level: int | None = 0
    ejected_by: str = ""
    failing: str = ""
    agent: str = ""
    agent_state: str = ""
    limit_why: str = ""
    keeps_own_s: float = 0.0
    connections: ConnectionsView = ConnectionsView()

    def with_more(self, other: "BackendView") -> "BackendView":
        """The same backend as another process sees it too."""
        outcomes = {
            name: self.outcomes.get(name, 0) + other.outcomes.get(name, 0)
            for name in {**self.outcomes, **other.outcomes}
        }
        return replace(
            self,
            in_flight=self.in_flight + other.in_flight,
            tunnels=self.tunnels + other.tunnels,
            requests=self.requests + other.requests,
            failures=self.failures + other.failures,
            outcomes=outcomes,
            rate=_sum(self.rate, other.rate),
            errors_60s=_count(self.errors_60s, other.errors_60s),
            ejected=self.ejected or other.ejected,
            usable=self.usable and other.usable,
            available=self.available or other.available,
            connections=self.connections.with_more(other.connections),
        )


@dataclass(frozen=True)
class LevelView:
    """A level of a pool: its priority, None for backups; its `share` in per cent of the requests; `panic`: others than usable ones
    are used too.
    """

    level: int | None
    backends: int
    usable: int
    share: int
    panic: bool


@dataclass(frozen=True)
class PoolView:
    """A pool: `check` in words, `queued` of at most `queue` requests, `usable` backends. `levels` where it has several; `panic` in
    any. `protocol` is what is spoken with its backends: `h1`, `h2`, or `auto`: what each of them chooses.
    """

    name: str
    policy: str
    check: str
    queued: int
    queue: int
    usable: int
    in_flight: int
    rate: float | None
    errors_60s: int | None
    backends: Sequence[BackendView]
    leaving: Sequence[BackendView]
    targets: Mapping[str, Any] | None = None
    p99_ms: float | None = None
    levels: Sequence[LevelView] = ()
    panic: bool = False
    protocol: str = "h1"

    def with_more(self, other: "PoolView") -> "PoolView":
        """The same pool as another process sees it too."""
        theirs = {one.name: one for one in other.backends}
        backends = [one.with_more(theirs[one.name]) if one.name in theirs else one for one in self.backends]
        return replace(
            self,
            queued=self.queued + other.queued,
            in_flight=self.in_flight + other.in_flight,
            rate=_sum(self.rate, other.rate),
            errors_60s=_count(self.errors_60s, other.errors_60s),
            backends=backends,
            usable=sum(one.usable for one in backends),
            leaving=[*self.leaving, *other.leaving],
        )


@dataclass(frozen=True)
class FlawView:
    """What is wrong with a certificate or a revocation list in use: its `kind`, and in words. `grave`: peers refuse it, or are refused by
    it.
    """

    kind: str
    text: str
    grave: bool


@dataclass(frozen=True)
class CertificateView:
    """A certificate that a listener serves TLS with, the default one first: the hosts that it is for, its kind of key, who has issued
    it, from when on it is valid and when it, or one of its chain, expires (epoch seconds), the file that it was read from, its
    SHA-256, and what is wrong with it now.
    """

    listener: str
    names: Sequence[str]
    key_type: str
    issuer: str
    not_before: float
    expires_at: float
    file: str
    fingerprint: str
    flaws: Sequence[FlawView] = ()


@dataclass(frozen=True)
class ListenerView:
    """A listener: clients connected of at most `limit`, accepted since its start, `rate` of them in the last minute a second;
    `refused_60s`: how many of its requests were refused in that minute. `certificates` where it speaks TLS, and what is wrong with its
    revocation lists now: `flaws`.
    """

    name: str
    addresses: Sequence[str]
    connections: int
    limit: int
    accepted: int
    rate: float | None
    refused_60s: int | None = None
    certificates: Sequence[CertificateView] = ()
    flaws: Sequence[FlawView] = ()

    @property
    def every_flaw(self) -> list[FlawView]:
        """What is wrong with its certificates and revocation lists, all of it."""
        return [*(flaw for one in self.certificates for flaw in one.flaws), *self.flaws]

    def with_more(self, other: "ListenerView") -> "ListenerView":
        """The same listener as another process sees it too."""
        return replace(
            self,
            connections=self.connections + other.connections,
            limit=self.limit + other.limit,
            accepted=self.accepted + other.accepted,
            rate=_sum(self.rate, other.rate),
            refused_60s=_count(self.refused_60s, other.refused_60s),
        )


@dataclass(frozen=True)
class RouteView:
    """A route: its place in the order, what it matches, where it leads, where it stands."""

    name: str
    n: int
    listeners: Sequence[str]
    host: Sequence[str]
    path: Sequence[str]
    path_prefix: Sequence[str]
    method: Sequence[str]
    to: str
    place: str
    requests: int = 0
    errors_60s: int | None = None
    rate: float | None = None

    def with_more(self, other: "RouteView") -> "RouteView":
        """The same route as another process sees it too."""
        return replace(
            self,
            requests=self.requests + other.requests,
            errors_60s=_count(self.errors_60s, other.errors_60s),
            rate=_sum(self.rate, other.rate),
        )


@dataclass(frozen=True)
class Clause:
    """What is to be said of one backend or pool: it is in that state, for these reasons."""

    subject: str
    state: str
    text: str


@dataclass(frozen=True)
class VerdictView:
    """How it is, in words: `level` is "well", "partly" or "failing"."""

    level: str
    text: str
    clauses: Sequence[Clause] = ()


@dataclass(frozen=True)
class ChangeView:
    """A runtime change that is in force: when and by whom, to what."""

    at: float | None
    actor: str
    subject: str
    change: str
    reason: str


@dataclass(frozen=True)
class WorkerView:
    """A worker: its slot, its process (0: it has none now), `state` in a word ("serves", "starts", "drains", "hangs": nothing moves there, "waits":
    for its next start), for how long that process lives, its clients, the requests that it has under way and those that it has answered. `covered_by`: the slot of
    the worker that accepts for it meanwhile, None where nobody has to. `rate`: requests a second, and `lag_p99_ms` how late its timers came (loop lag), both in
    the last minute; None where that is not known yet. `program`: how many programs the process of the balancer was before the one that
    has started this worker (`lbctl upgrade`).
    """

    slot: int
    pid: int
    state: str
    uptime_s: float
    connections: int
    in_flight: int
    requests: int
    covered_by: int | None = None
    rate: float | None = None
    lag_p99_ms: float | None = None
    program: int = 0


@dataclass(frozen=True)
class Snapshot:
    """The state of a balancer at one moment. Moments are epoch seconds. `ready_text`: why it is not ready, on one line, or `ready`.
    `workers`: none where one process does everything; `worker_restarts` are those that were started in the place of one that had died.
    """

    now: float
    name: str
    version: str
    build: str
    pid: int
    ready: bool
    ready_text: str
    uptime_s: float
    generation: int
    loaded_at: float
    loaded_by: str
    etag: str
    file: Mapping[str, Any] | None
    verdict: VerdictView
    listeners: Sequence[ListenerView]
    routes: Sequence[RouteView]
    pools: Sequence[PoolView]
    changes: Sequence[ChangeView]
    warnings: Sequence[str] = ()
    workers: Sequence[WorkerView] = ()
    worker_restarts: int = 0

    def backend(self, name: str) -> BackendView | None:
        """The backend of this name, `POOL/BACKEND`."""
        return next((one for pool in self.pools for one in pool.backends if one.name == name), None)


def merged(snapshots: Sequence[Snapshot]) -> Snapshot:
    """What several processes say of one balancer: counts are added up, the first one tells the rest."""
    first, *others = snapshots
    for other in others:
        listeners, pools = {one.name: one for one in other.listeners}, {one.name: one for one in other.pools}
        routes = {one.name: one for one in other.routes}
        first = replace(
            first,
            ready=first.ready and other.ready,
            ready_text=first.ready_text if not first.ready else other.ready_text,
            listeners=[one.with_more(listeners[one.name]) if one.name in listeners else one for one in first.listeners],
            routes=[one.with_more(routes[one.name]) if one.name in routes else one for one in first.routes],
            pools=[one.with_more(pools[one.name]) if one.name in pools else one for one in first.pools],
        )
    return first


@dataclass(frozen=True)
class EventView:
    """Something that has happened: a number that grows, when (epoch seconds), its kind, what it is about, in words, and who did it."""

    id: int
    at: float
    kind: str
    subject: str
    text: str
    actor: str = ""


@dataclass(frozen=True)
class Sample:
    """What charts are made of, at one moment. `counts` only grow: by series and by whose they are; what begins anew, at 0, or
    has another owner, is another one. `levels` are what there is now. `latencies_ms` are quantiles of the last second, named
    `PHASE.QUANTILE`, such as `total.p99`; `backend_p99_ms` those of each backend (`POOL/BACKEND`). None: nobody knows.

    Series of counts: `ok` (answered by a backend), and where they are known `c4` and `c5` (answers of backends with such a
    status, which `ok` does not count then), `own` (errors that the balancer answered), `own_ok` (its other answers, such as
    redirects), `bytes_in`, `bytes_out`: those of bodies, counted when a request ends. Of levels: `in_flight`,
    `in_flight_limit`, `queued`, `connections`, `connections_limit`.
    """

    counts: Mapping[tuple[str, str], int]
    levels: Mapping[str, float | None]
    latencies_ms: Mapping[str, float | None] = field(default_factory=dict)
    backend_p99_ms: Mapping[str, float | None] = field(default_factory=dict)


@dataclass(frozen=True)
class Command:
    """What is wanted of one backend: an admin state, a weight, a limit of requests in flight (0: no bound; ADAPTIVE), or several of them.
    `force`: also if its pool has nobody then.
    """

    pool: str
    backend: str
    admin: AdminState | None = None
    weight: int | None = None
    limit: int | None = None
    force: bool = False


@dataclass(frozen=True)
class Changed:
    """What a change did, or would do: each one as `before → after`, and what follows from it in words."""

    changes: Sequence[str]
    follows: Sequence[str]


@dataclass(frozen=True)
class Left:
    """What still runs at a backend, and how many of its requests have not been sent there yet. `keeps_own`: what is bound to it still
    comes (affinity).
    """

    requests: int
    tunnels: int
    unsent: int = 0
    keeps_own: bool = False

    @property
    def empty(self) -> bool:
        """Whether nothing does, or will."""
        return not (self.requests or self.tunnels or self.keeps_own)


@dataclass(frozen=True)
class ConfigValue:
    """A value in force, as text, secrets hidden, and where it comes from."""

    key: str
    value: str
    source: str


@dataclass(frozen=True)
class Reloaded:
    """What a reload did, or would do: one line each. `problems`: why it did nothing, with `report` as `--check` prints it.
    `warnings`: what is doubtful about the configuration, all that `--check` says of it, one line each.
    """

    applied: bool
    lines: Sequence[str] = ()
    changed: bool = False
    problems: Sequence[Mapping[str, str]] = ()
    report: str = ""
    warnings: Sequence[str] = ()


class Operator(Protocol):
    """All that an operator can ask and do. What cannot be done raises Refused, or NotFound."""

    def snapshot(self) -> Snapshot:
        """The state now."""

    def look(self) -> "Deferred[Snapshot]":
        """The state now, where there are thousands of backends in portions, a bit at a turn of the reactor; fires with it."""

    def backends_called(self, pool: str, backend: str) -> "Sequence[BackendView]":
        """The backends of a pool that have this name, or this address before it was resolved, now; none where there is no such pool."""

    def sample(self) -> Sample:
        """What charts are made of, now; asked for once a second."""

    @property
    def etag(self) -> str:
        """Changes with everything that an operator can change, and with each start: `START.GENERATION.CHANGES`."""

    def events(self, after: int) -> Sequence[EventView]:
        """What has happened behind the event of this number, as far as it is remembered, oldest first."""

    def listen(self, hear: "Hear") -> "Hear":
        """Tell of each event from now on; what is returned goes to `unlisten`."""

    def unlisten(self, hear: "Hear") -> None:
        """Tell of no event any more."""

    def command(self, command: Command, actor: Actor, *, dry_run: bool = False) -> Changed:
        """Set what is wanted of a backend."""

    def add(self, pool: str, backend: Mapping[str, Any], actor: Actor) -> str:
        """Add a backend, a table as in the file; its name."""

    def remove(self, pool: str, backend: str, actor: Actor, *, force: bool = False) -> Changed:
        """Remove a backend."""

    def reset(self, pool: str | None, backend: str | None, actor: Actor, *, force: bool = False) -> Sequence[str]:
        """Drop the runtime changes of a backend, or all of them; one line each. Refused where a pool would have nobody usable by that,
        unless `force`.
        """

    def left(self, pool: str, backend: str, *, removed: bool = False) -> Left:
        """What runs at a backend, also when it was removed. `removed`: only at the one that was, whoever has its name by now."""

    def plan(self) -> "Deferred[Reloaded]":
        """What a reload would do."""

    def apply(self, actor: Actor) -> "Deferred[Reloaded]":
        """Reload."""

    def upgrade(self, actor: Actor) -> "Deferred[int]":
        """Become another program soon; fires with its number, see `WorkerView`, when it has shown that it can start."""

    def refresh(self, *, exemplars: bool = False) -> "Deferred[None]":
        """Have all that is counted as it is now, where other processes count, with exemplars if they are wanted; fires when it is."""

    def explain(self, request_id: str) -> "Deferred[Mapping[str, Any] | None]":
        """One request, explained; None when it is not held any more."""

    def explained(self, kind: str, count: int, *, decisions: bool = True) -> "Deferred[Mapping[str, Any]]":
        """The last requests of a kind, explained, with all candidates unless `decisions` are left out, and how many are held."""

    def explain_next(self, pool: str) -> "Deferred[Mapping[str, Any]]":
        """What the next claim in a pool would do."""

    def route(
        self, method: str, url: str, headers: Sequence[tuple[str, str]], client: str, listener: str | None
    ) -> "Deferred[Mapping[str, Any]]":
        """Where a request would go; nothing is sent."""

    def measures(self, *, exemplars: bool = False) -> tuple[Measures, ProcessMeasures]:
        """Everything that is counted, for metrics; with exemplars, if they are wanted."""

    def measure(self, *, exemplars: bool = False) -> "Deferred[tuple[Measures, ProcessMeasures]]":
        """The same, where there are thousands of backends in portions, a bit at a turn of the reactor; fires with it, or with Refused."""

    def config(self) -> Sequence[ConfigValue]:
        """The configuration in force, each value with its source."""


class Hear(Protocol):
    """Told of an event."""

    def __call__(self, event: EventView) -> None:
        """Take it."""


def _sum(one: float | None, other: float | None) -> float | None:
    return None if one is None or other is None else one + other


def _count(one: int | None, other: int | None) -> int | None:
    return None if one is None or other is None else one + other
