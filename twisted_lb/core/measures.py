"""Measures: everything that is counted, at one moment and as plain data, for metrics and pages. Those of workers add up.

Counters only grow; a window is the difference of two moments, of readings as of numbers.
"""

from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, TypeVar

from twisted_lb.core.agent import LABELS
from twisted_lb.core.backend import BACKUP, Backend
from twisted_lb.core.exemplars import Exemplar
from twisted_lb.core.flow import Flow, Flows
from twisted_lb.core.gate import Gate
from twisted_lb.core.grpc import OTHER
from twisted_lb.core.handshake_counts import HandshakeCounts
from twisted_lb.core.histogram import NOTHING, Reading, reading_of, together
from twisted_lb.core.http2_counts import Http2Counts
from twisted_lb.core.levels import Levels
from twisted_lb.core.pickers.minding import NOT_MINDED, MindedMeasures
from twisted_lb.core.pool import Pool
from twisted_lb.core.prompt_cache import PrefixMeasures
from twisted_lb.core.reported import Reported
from twisted_lb.core.standing import Skipped
from twisted_lb.core.totals import KINDS

Numbers = tuple[int, ...]
_One = TypeVar("_One")


@dataclass(frozen=True)
class RouteMeasures:
    """What one listener led to one pool by one route. `requests` by cell (`flow.cell_of`), `durations` by `totals.KINDS`; `running`
    are exchanges under way.
    """

    route: str
    pool: str
    running: int
    requests: Numbers
    durations: tuple[Reading, ...]

    def merged(self, other: "RouteMeasures") -> "RouteMeasures":
        """What two processes have counted."""
        return replace(
            self,
            running=self.running + other.running,
            requests=_sums(self.requests, other.requests),
            durations=_readings(self.durations, other.durations),
        )


@dataclass(frozen=True)
class ListenerMeasures:
    """What a listener has: connections open now and since it is there, refusals in the order of `outcome.Refusal`, `transferred`
    bytes of bodies as (pool, up to backends, down to clients). `handshakes` of TLS that were completed, by (version, cipher, whether a
    session was resumed), and connections that did not arrive by reason, see `HandshakeCounts`; `handshaking` are under way. `http2`:
    connections of HTTP/2 now and since it is there, and streams likewise; `resets` of streams by (who, code), and `http2_ended` by code, see
    `Http2Counts`.
    """

    name: str
    connections: int
    connections_total: int
    refusals: Numbers
    transferred: tuple[tuple[str, int, int], ...]
    routes: tuple[RouteMeasures, ...]
    handshakes: tuple[tuple[tuple[str, str, bool], int], ...] = ()
    arrivals_failed: tuple[tuple[str, int], ...] = ()
    handshaking: int = 0
    http2: tuple[int, int, int, int] = (0, 0, 0, 0)
    resets: tuple[tuple[tuple[str, str], int], ...] = ()
    http2_ended: tuple[tuple[str, int], ...] = ()

    def merged(self, other: "ListenerMeasures") -> "ListenerMeasures":
        """What two processes have counted."""
        return replace(
            self,
            connections=self.connections + other.connections,
            connections_total=self.connections_total + other.connections_total,
            refusals=_sums(self.refusals, other.refusals),
            transferred=_merged(
                self.transferred,
                other.transferred,
                lambda one: one[0],
                lambda a, b: (a[0], a[1] + b[1], a[2] + b[2]),
            ),
            routes=_merged(self.routes, other.routes, lambda one: (one.route, one.pool), RouteMeasures.merged),
            handshakes=_merged(self.handshakes, other.handshakes, lambda one: one[0], lambda a, b: (a[0], a[1] + b[1])),
            arrivals_failed=_merged(
                self.arrivals_failed, other.arrivals_failed, lambda one: one[0], lambda a, b: (a[0], a[1] + b[1])
            ),
            handshaking=self.handshaking + other.handshaking,
            http2=_four(self.http2, other.http2),
            resets=_merged(self.resets, other.resets, lambda one: one[0], lambda a, b: (a[0], a[1] + b[1])),
            http2_ended=_merged(
                self.http2_ended, other.http2_ended, lambda one: one[0], lambda a, b: (a[0], a[1] + b[1])
            ),
        )


@dataclass(frozen=True)
class BackendMeasures:
    """How a backend stands, and what it has done. `load` is what its policy compares, `limit` how much it may have in flight, 0
    for no bound. `answers` by `KINDS`, `outcomes` in the order of `outcome.Outcome`; `ejections` in that of `ejection.EjectionRule`,
    and how many were `withheld`; `changes` of its state by what it became; `skips` in the order of `standing.Skipped`, how often a
    policy came to it and stepped over it. `duration` is that of its complete answers, from lease to last byte. `utilization` is
    what it reports, None where no report counts; `reports` those that counted and those that did not, None where nobody compares
    them. `shared_connections`: how many of its connections are of HTTP/2, and how many `calls` run on them; `shared_total` and `calls_total` since it is there. `agent`: what takes it out by its own word (`agent.LABELS`), empty for nothing, None where nobody listens; `garbled`: how often its agent said what is no
    word. `tunnels`: how many of its requests have switched protocols; `failures`: outcomes that blame it.
    """

    name: str
    admin: str
    up: bool
    known: bool
    ejected: bool
    usable: bool
    weight: int
    weight_effective: float
    in_flight: int
    load: float
    limit: int
    idle_connections: int
    busy_connections: int
    connections_total: int
    shared_connections: int
    calls: int
    answers: Numbers
    outcomes: Numbers
    duration: Reading
    checks_passed: Reading
    checks_failed: Reading
    ejections: Numbers
    changes: tuple[tuple[str, int], ...]
    skips: Numbers
    withheld: int
    utilization: float | None = None
    reports: tuple[int, int] | None = None
    agent: str | None = None
    garbled: int = 0
    tunnels: int = 0
    failures: int = 0
    shared_total: int = 0
    calls_total: int = 0

    def merged(self, other: "BackendMeasures") -> "BackendMeasures":
        """What two processes have counted. What is known of its state is this one's."""
        changes = dict(self.changes)
        for to, count in other.changes:
            changes[to] = changes.get(to, 0) + count
        return replace(
            self,
            in_flight=self.in_flight + other.in_flight,
            load=max(self.load, other.load),  # what they compare is counted over all of them
            idle_connections=self.idle_connections + other.idle_connections,
            busy_connections=self.busy_connections + other.busy_connections,
            shared_connections=self.shared_connections + other.shared_connections,
            calls=self.calls + other.calls,
            connections_total=self.connections_total + other.connections_total,
            answers=_sums(self.answers, other.answers),
            outcomes=_sums(self.outcomes, other.outcomes),
            duration=self.duration + other.duration,
            checks_passed=self.checks_passed + other.checks_passed,
            checks_failed=self.checks_failed + other.checks_failed,
            ejections=_sums(self.ejections, other.ejections),
            changes=tuple(changes.items()),
            skips=_sums(self.skips, other.skips),
            utilization=other.utilization if self.utilization is None else self.utilization,
            reports=other.reports
            if self.reports is None or other.reports is None
            else (self.reports[0] + other.reports[0], self.reports[1] + other.reports[1]),
            withheld=self.withheld + other.withheld,
            tunnels=self.tunnels + other.tunnels,
            failures=self.failures + other.failures,
            garbled=self.garbled + other.garbled,
            shared_total=self.shared_total + other.shared_total,
            calls_total=self.calls_total + other.calls_total,
        )


@dataclass(frozen=True)
class MirrorMeasures:
    """What was mirrored of a pool's requests: how many were `sent` to the other pool, how many are under way (`running`), those among
    them that are to be sent, and how many were not, in the order of `mirroring.Unmirrored`.
    """

    sent: int
    running: int
    unsent: Numbers

    def merged(self, other: "MirrorMeasures") -> "MirrorMeasures":
        """What two processes have counted."""
        return MirrorMeasures(self.sent + other.sent, self.running + other.running, _sums(self.unsent, other.unsent))


@dataclass(frozen=True)
class PoolMeasures:
    """What a pool has, and has done since it is there. `durations` of its exchanges by `KINDS`, from head to last byte; `queue` how
    long those waited that had to; `connect` how long new connections took; `first_byte` and `first_body` from when a request
    was sent; `stream_gap` between the pieces of streamed answers. `retries` by `outcome.Outcome`, `denied` by `totals.Denied`, `hedges` by
    `hedging.Hedged`; `hedge_delay_s` after which requests are hedged, None where they are not, or it is not known (the longest, of several processes).
    `panic`: others than usable backends are used too; `levels`, where there are several: (name, share in percent, usable).
    `outcomes` of all attempts and `backend_durations` are sums that no removed backend takes away. `minded`: what is known of a
    policy of one's own, and of a shadow; `mirror`: of its requests that are sent to another pool too, None where none ever was to be; `prefixes` what is counted of how bodies begin, by role, as there. `affinity`: claims in which it had a say, by `held.Held`, `bindings` those of its table now, and
    `bindings_forgotten` how many made room for others; None where requests are bound by nothing. `grpc`: how calls of gRPC ended, by
    `core/grpc.NAMES`, and the last one with other codes. `shares`: it speaks HTTP/2 with backends, where calls share connections.
    """

    name: str
    in_flight: int
    queued: int
    expected_wait_s: float
    usable: int
    panic: bool
    levels: tuple[tuple[str, int, int], ...]
    durations: tuple[Reading, ...]
    queue: Reading
    connect: Reading
    first_byte: Reading
    first_body: Reading
    stream_gap: Reading
    retries: Numbers
    denied: Numbers
    hedges: Numbers
    hedge_delay_s: float | None
    bytes_up: int
    bytes_down: int
    outcomes: Numbers
    backend_durations: Reading
    backends: tuple[BackendMeasures, ...]
    minded: MindedMeasures = NOT_MINDED
    prefixes: tuple[tuple[str, PrefixMeasures], ...] = ()
    affinity: Numbers | None = None
    bindings: int = 0
    bindings_forgotten: int = 0
    mirror: MirrorMeasures | None = None
    grpc: Numbers = (0,) * (OTHER + 1)
    shares: bool = False

    def merged(self, other: "PoolMeasures") -> "PoolMeasures":
        """What two processes have counted. Who is usable is this one's."""
        return replace(
            self,
            in_flight=self.in_flight + other.in_flight,
            queued=self.queued + other.queued,
            expected_wait_s=max(self.expected_wait_s, other.expected_wait_s),
            durations=_readings(self.durations, other.durations),
            queue=self.queue + other.queue,
            connect=self.connect + other.connect,
            first_byte=self.first_byte + other.first_byte,
            first_body=self.first_body + other.first_body,
            stream_gap=self.stream_gap + other.stream_gap,
            retries=_sums(self.retries, other.retries),
            denied=_sums(self.denied, other.denied),
            hedges=_sums(self.hedges, other.hedges),
            hedge_delay_s=_longer(self.hedge_delay_s, other.hedge_delay_s),
            bytes_up=self.bytes_up + other.bytes_up,
            bytes_down=self.bytes_down + other.bytes_down,
            outcomes=_sums(self.outcomes, other.outcomes),
            backend_durations=self.backend_durations + other.backend_durations,
            backends=_merged(self.backends, other.backends, lambda one: one.name, BackendMeasures.merged),
            minded=self.minded.merged(other.minded),
            prefixes=_merged(self.prefixes, other.prefixes, lambda one: one[0], lambda a, b: (a[0], a[1].merged(b[1]))),
            affinity=self.affinity or other.affinity
            if self.affinity is None or other.affinity is None
            else _sums(self.affinity, other.affinity),
            bindings=self.bindings + other.bindings,
            bindings_forgotten=self.bindings_forgotten + other.bindings_forgotten,
            mirror=self.mirror if self.mirror is None or other.mirror is None else self.mirror.merged(other.mirror),
            grpc=_sums(self.grpc, other.grpc),
        )


@dataclass(frozen=True)
class Measures:
    """What a data plane has counted, by listener and by pool, in the order of the configuration. `exemplars` are requests that
    it remembers, where they are asked for.
    """

    listeners: tuple[ListenerMeasures, ...]
    pools: tuple[PoolMeasures, ...]
    exemplars: tuple[Exemplar, ...] = ()

    def merged(self, other: "Measures") -> "Measures":
        """What two processes have counted: numbers add up, states are this one's."""
        return Measures(
            _merged(self.listeners, other.listeners, lambda one: one.name, ListenerMeasures.merged),
            _merged(self.pools, other.pools, lambda one: one.name, PoolMeasures.merged),
            self.exemplars + other.exemplars,
        )


@dataclass(frozen=True)
class Beside:
    """What a process has counted beside its data plane: `counters` of other parts, by the name of the metric, and how late timers came
    (loop lag).
    """

    counters: tuple[tuple[str, int], ...] = ()
    loop_lag: Reading = NOTHING

    def merged(self, other: "Beside") -> "Beside":
        """What two processes have counted."""
        return Beside(
            _merged(self.counters, other.counters, lambda one: one[0], lambda a, b: (a[0], a[1] + b[1])),
            self.loop_lag + other.loop_lag,
        )


@dataclass(frozen=True)
class CertificateMeasures:
    """When the certificate of a listener, or one of its chain, expires, in seconds of the epoch; `certificate` is what it is called."""

    listener: str
    certificate: str
    expires_at: float


@dataclass(frozen=True)
class ProcessMeasures:
    """What is known of the process: its versions, when it began (seconds of the epoch), reloads since then (the first
    configuration is generation 1), how late timers came (loop lag), when certificates in use expire, and `counters` of other
    parts, by the name of the metric.
    """

    version: str
    python: str
    compiled: bool
    started_at: float
    generation: int = 1
    reloads: int = 0
    reloads_failed: int = 0
    reload_failed: bool = False
    reloaded_at: float = 0.0
    loop_lag: Reading = NOTHING
    counters: tuple[tuple[str, int], ...] = ()
    certificates: tuple[CertificateMeasures, ...] = ()


def listener_measures(
    name: str,
    gate: Gate,
    refusals: Sequence[int],
    flows: Flows,
    handshaken: HandshakeCounts,
    handshaking: int,
    http2: Http2Counts,
) -> ListenerMeasures:
    """The measures of a listener, of which so many handshakes are under way: O(flows)."""
    every = flows.all
    return ListenerMeasures(
        name,
        gate.open,
        gate.entered,
        tuple(refusals),
        tuple((pool, up, down) for pool, (up, down) in flows.bytes().items()),
        tuple(_route_measures(one) for one in every),
        tuple(handshaken.done.items()),
        tuple(handshaken.failures.items()),
        handshaking,
        (http2.connections, http2.connections_total, http2.streams, http2.streams_total),
        tuple(http2.resets.items()),
        tuple(http2.ended.items()),
    )


def _longer(a: float | None, b: float | None) -> float | None:
    """The longer of two delays, of which none may be known: processes measure each for itself."""
    return b if a is None else a if b is None else max(a, b)


def _four(a: tuple[int, int, int, int], b: tuple[int, int, int, int]) -> tuple[int, int, int, int]:
    """The sums, place by place."""
    return a[0] + b[0], a[1] + b[1], a[2] + b[2], a[3] + b[3]


def errors_in(requests: Sequence[int]) -> int:
    """How many of these, by cell, got a 5xx, whoever said it."""
    return sum(requests[KINDS.index("5xx") :: len(KINDS)])


def _route_measures(flow: Flow) -> RouteMeasures:
    durations = tuple(flow.durations(kind) for kind in range(len(KINDS)))
    return RouteMeasures(flow.route, flow.pool, flow.open, tuple(flow.requests()), durations)


def pool_measures(
    pool: Pool,
    flows: Iterable[Flow],
    connections: Mapping[Backend, tuple[int, int]],
    now: float,
    shared: Mapping[Backend, tuple[int, int]] | None = None,
) -> PoolMeasures:
    """The measures of a pool, see `measuring_pool`, all at once."""
    making = measuring_pool(pool, flows, connections, now, shared)
    while True:
        try:
            next(making)
        except StopIteration as over:
            measures = over.value
            assert isinstance(measures, PoolMeasures)
            return measures


def measuring_pool(
    pool: Pool,
    flows: Iterable[Flow],
    connections: Mapping[Backend, tuple[int, int]],
    now: float,
    shared: Mapping[Backend, tuple[int, int]] | None = None,
) -> Generator[None, None, PoolMeasures]:
    """The measures of a pool, to which these flows led; it yields behind each portion of the backends. `connections` to each backend are
    (open, idle), `shared` of them those of HTTP/2 (open, calls on them), None where it speaks none.
    """
    totals = pool.totals
    durations = [one.reading() for one in totals.durations]
    first_byte, first_body = totals.first_byte.reading(), totals.first_body.reading()
    bytes_up, bytes_down = totals.bytes_up, totals.bytes_down
    for flow in flows:
        bytes_up += flow.bytes_up
        bytes_down += flow.bytes_down
        for kind in range(len(KINDS)):
            at_once = reading_of(flow.at_once[kind])
            durations[kind] += flow.durations(kind)
            first_byte += at_once
            first_body += at_once
    members, heard = list(pool.backends.values()), pool.settings.agents or pool.settings.busy
    everybody = [*members, *pool.leaving, *pool.resting]
    bindings = pool.bindings
    outcomes = tuple(map(sum, zip(totals.gone_outcomes, *(one.outcomes for one in everybody), strict=True)))
    lasted = together([totals.gone_durations, *(one for backend in everybody for one in backend.totals.lasted)])
    lasted_s = totals.gone_durations.total_s + sum(
        one.total_s for backend in everybody for one in backend.totals.lasted if one is not None
    )
    backends: list[BackendMeasures] = []
    for one in members:
        backends.append(
            _backend_measures(one, connections.get(one, (0, 0)), (shared or {}).get(one, (0, 0)), now, heard=heard)
        )
        if len(backends) % _AT_ONCE == 0:
            yield
    return PoolMeasures(
        name=pool.name,
        in_flight=pool.leases,
        queued=pool.waiting,
        expected_wait_s=pool.pace.wait_s(pool.waiting - 1) if pool.waiting else 0.0,
        usable=sum(one.usable for one in members),
        panic=pool.panics,
        levels=_levels(pool.levels),
        durations=tuple(durations),
        queue=totals.queue.reading(),
        connect=totals.connect.reading(),
        first_byte=first_byte,
        first_body=first_body,
        stream_gap=totals.stream_gap.reading(),
        retries=tuple(totals.retries),
        denied=tuple(totals.denied),
        grpc=tuple(totals.grpc),
        shares=shared is not None,
        hedges=tuple(totals.hedges),
        hedge_delay_s=None if pool.hedging is None else pool.hedging.known_s,
        bytes_up=bytes_up,
        bytes_down=bytes_down,
        outcomes=outcomes,
        backend_durations=Reading(lasted or NOTHING.counts, lasted_s),
        backends=tuple(backends),
        minded=pool.minded or NOT_MINDED,
        prefixes=tuple(pool.prefixes.items()),
        affinity=None if bindings is None else tuple(totals.affinity),
        bindings=0 if bindings is None else bindings.count(now),
        bindings_forgotten=0 if bindings is None else bindings.forgotten,
        mirror=_mirror_measures(pool),
    )


def _mirror_measures(pool: Pool) -> MirrorMeasures | None:
    mirroring = pool.totals.mirroring
    if pool.settings.mirror is None and not (mirroring.sent or any(mirroring.unsent)):
        return None
    return MirrorMeasures(mirroring.sent, mirroring.running, tuple(mirroring.unsent))


def _levels(levels: Levels) -> tuple[tuple[str, int, int], ...]:
    if not levels.several:
        return ()
    names = ["backup" if number == BACKUP else str(number) for number in levels.numbers]
    return tuple(zip(names, levels.shares, levels.usable, strict=True))


# So many backends are one portion: some milliseconds.
_AT_ONCE: Final = 100
_NO_SKIPS: Final[Numbers] = (0,) * len(Skipped)


def _backend_measures(
    backend: Backend, connections: tuple[int, int], shared: tuple[int, int], now: float, *, heard: bool
) -> BackendMeasures:
    totals, skipped, load = backend.totals, backend.skipped_times, backend.load
    checks = totals.checks
    opened, idle = connections
    return BackendMeasures(
        name=backend.name,
        admin=backend.admin.value,
        up=backend.health.up,
        known=backend.health.known,
        ejected=backend.ejection.active,
        usable=backend.usable,
        weight=backend.weight,
        weight_effective=backend.share,
        in_flight=backend.in_flight,
        load=float(backend.load_now) if load is None else load.value(backend.weighing.effective or 1.0, now),
        limit=backend.limit,
        idle_connections=idle,
        busy_connections=opened - idle,
        shared_connections=shared[0],
        calls=shared[1],
        connections_total=totals.connections,
        shared_total=totals.shared_connections,
        calls_total=totals.calls,
        answers=tuple(totals.answers()),
        outcomes=tuple(backend.outcomes),
        duration=_duration(backend),
        checks_passed=reading_of(checks[True]),
        checks_failed=reading_of(checks[False]),
        ejections=tuple(totals.ejections),
        changes=tuple(totals.changes.items()),
        skips=tuple(skipped.get(why, 0) for why in Skipped) if skipped else _NO_SKIPS,
        utilization=load.utilization if isinstance(load, Reported) and load.fresh(now) else None,
        reports=(totals.reports, totals.bad_reports) if isinstance(load, Reported) else None,
        withheld=totals.withheld,
        agent=LABELS.get(backend.agent.word, "") if heard else None,
        garbled=backend.agent.garbled,
        tunnels=backend.tunnels,
        failures=backend.failures,
    )


def _duration(backend: Backend) -> Reading:
    return _total([one.reading() for one in backend.totals.lasted if one is not None])


def _total(readings: Iterable[Reading]) -> Reading:
    total = NOTHING
    for one in readings:
        total += one
    return total


def _sums(one: Numbers, other: Numbers) -> Numbers:
    return tuple(a + b for a, b in zip(one, other, strict=True))


def _readings(one: tuple[Reading, ...], other: tuple[Reading, ...]) -> tuple[Reading, ...]:
    return tuple(a + b for a, b in zip(one, other, strict=True))


def _merged(
    some: tuple[_One, ...], others: tuple[_One, ...], key: Callable[[_One], object], merge: Callable[[_One, _One], _One]
) -> tuple[_One, ...]:
    """Those of both, in the order of the first; who is in both is merged."""
    found = {key(one): one for one in some}
    for other in others:
        mine = found.get(key(other))
        found[key(other)] = other if mine is None else merge(mine, other)
    return tuple(found.values())
