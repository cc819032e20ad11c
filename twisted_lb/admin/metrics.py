"""Metrics for Prometheus: what a data plane has counted, as text, or as OpenMetrics. Rendered when somebody asks.

Each metric is declared once, in `FAMILIES`, and that table is also where `docs/metrics.md` comes from. Label values come from
the configuration and from closed sets alone: nothing that a client sends makes a series.
"""

from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from math import inf
from typing import Final

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.metrics_core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
    UnknownMetricFamily,
)
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics
from prometheus_client.samples import Exemplar as Told
from prometheus_client.utils import floatToGoString

from twisted_lb.core.agent import LABELS
from twisted_lb.core.ejection import EjectionRule
from twisted_lb.core.exemplars import Exemplar
from twisted_lb.core.flow import METHODS, SOURCES
from twisted_lb.core.grpc import NAMES, OTHER
from twisted_lb.core.hedging import Hedged
from twisted_lb.core.held import Held
from twisted_lb.core.histogram import Reading, nearest_edge
from twisted_lb.core.measures import (
    BackendMeasures,
    ListenerMeasures,
    Measures,
    MirrorMeasures,
    PoolMeasures,
    ProcessMeasures,
)
from twisted_lb.core.mirroring import Unmirrored
from twisted_lb.core.outcome import Outcome, Refusal
from twisted_lb.core.pickers.minding import Fault, PolicyMeasures, ShadowMeasures
from twisted_lb.core.prefix import SEEN_LABELS
from twisted_lb.core.prompt_cache import PrefixMeasures
from twisted_lb.core.standing import Skipped
from twisted_lb.core.totals import KINDS, Denied

PREFIX: Final = "twisted_lb_"
TEXT: Final = "text/plain; version=1.0.0; charset=utf-8"
OPENMETRICS: Final = "application/openmetrics-text; version=1.0.0; charset=utf-8"

# What is asked for: OpenTelemetry's buckets of HTTP durations, and some on both sides for proxies and for streams.
WANTED_LES: Final = (
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 30.0, 60.0, 300.0,
)  # fmt: skip
# Fewer for each backend: there may be many.
WANTED_LES_OF_BACKENDS: Final = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)
# And what is told: the nearest edges of our histograms, so that each bucket is exact.
LES: Final = tuple(nearest_edge(le) for le in WANTED_LES)
LES_OF_BACKENDS: Final = tuple(nearest_edge(le) for le in WANTED_LES_OF_BACKENDS)

# So many series are rendered at once: some milliseconds, where a pool of thousands has a hundred series for each backend.
_AT_ONCE: Final = 200

_ADMINS: Final = ("ready", "drain", "maint")
_HEALTHS: Final = ("up", "down", "unknown")
_AGENTS: Final = tuple(dict.fromkeys(LABELS.values()))

Labels = tuple[str, ...]
Bucket = tuple[str, float] | tuple[str, float, Told]
Value = float | Reading
Series = Iterator[tuple[Labels, Value]]
# The series of a histogram that a request was counted in, and the seconds that were; None for one that was not.
Exemplary = Callable[[Exemplar], tuple[Labels, float | None]]

# OpenMetrics 1.0: the labels of an exemplar have no more characters than this, names and values together.
_MOST_OF_AN_EXEMPLAR: Final = 128
_REQUEST_ID: Final = "request_id"
# HELP and TYPE, before the samples of a metric; what OpenMetrics ends with.
_HEAD_LINES: Final = 2
_END: Final = b"# EOF\n"


@dataclass(frozen=True)
class Family:
    """A metric: its name without the prefix, its kind, its labels and what it means. `les` are the buckets of a histogram, `exemplars`
    by what a request that stands for others is found in one of its series.
    """

    name: str
    kind: str
    labels: Labels
    meaning: str
    series: Callable[[Measures, ProcessMeasures], Series]
    les: tuple[float, ...] = LES
    exemplars: Exemplary | None = None


def metrics_pieces(measures: Measures, process: ProcessMeasures, *, openmetrics: bool = False) -> Iterator[bytes]:
    """All metrics of one moment, in Prometheus' text format (`TEXT`), or in OpenMetrics (`OPENMETRICS`): in pieces, none of which
    takes long to make, so that others have their turn between them.
    """
    generate = generate_openmetrics if openmetrics else generate_latest
    for metric, first in _Collector(measures, process, openmetrics=openmetrics).pieces():
        text = generate(_One([metric])).removesuffix(_END)
        # What it is and means is said once.
        yield text if first else text.split(b"\n", _HEAD_LINES)[-1]
    registry = CollectorRegistry(auto_describe=False)
    ProcessCollector(registry=registry)
    yield generate(registry)


def metrics_text(measures: Measures, process: ProcessMeasures, *, openmetrics: bool = False) -> bytes:
    """The pieces together."""
    return b"".join(metrics_pieces(measures, process, openmetrics=openmetrics))


def wants_openmetrics(accept: str) -> bool:
    """Whether whoever asks with this Accept field takes OpenMetrics, as Prometheus does by default."""
    return "application/openmetrics-text" in accept


class _One(CollectorRegistry):
    """A registry of metrics that are there already."""

    def __init__(self, metrics: Sequence[Metric]) -> None:
        super().__init__(auto_describe=False)
        self._metrics: Final = metrics

    def collect(self) -> Iterable[Metric]:
        """See CollectorRegistry."""
        return self._metrics


class _Collector:
    """The metrics of one moment."""

    def __init__(self, measures: Measures, process: ProcessMeasures, *, openmetrics: bool) -> None:
        self._measures: Final = measures
        self._process: Final = process
        self._openmetrics: Final = openmetrics
        # A counter gives its name without `_total` to its family there, and two families of one name are none.
        self._taken: Final = {one.name for one in FAMILIES if openmetrics and one.kind != "counter"}

    def pieces(self) -> Iterator[tuple[Metric, bool]]:
        """All metrics, those with many series in several pieces, and whether it is the first one of its metric. Metrics without a
        series are left out.
        """
        for family in FAMILIES:
            exemplary = family.exemplars
            told = {} if exemplary is None or not self._openmetrics else self._exemplars(family, exemplary)
            series, first = family.series(self._measures, self._process), True
            for one in series:
                yield self._metric(family, chain([one], islice(series, _AT_ONCE - 1)), told), first
                first = False

    def _exemplars(self, family: Family, exemplary: Exemplary) -> dict[Labels, dict[int, Told]]:
        """By series and bucket, the request that ended last of those that are remembered."""
        found: dict[Labels, dict[int, Told]] = {}
        for one in sorted(self._measures.exemplars, key=lambda one: one.at):
            labels, seconds = exemplary(one)
            if seconds is None or len(_REQUEST_ID) + len(one.request_id) > _MOST_OF_AN_EXEMPLAR:
                continue
            told = Told({_REQUEST_ID: one.request_id}, seconds, one.at)
            found.setdefault(labels, {})[bisect_left(family.les, seconds)] = told
        return found

    def _metric(self, family: Family, series: Series, told: Mapping[Labels, Mapping[int, Told]]) -> Metric:
        name, meaning, labels = PREFIX + family.name, family.meaning, family.labels
        if family.kind == "histogram":
            histogram = HistogramMetricFamily(name, meaning, labels=labels)
            for values, value in series:
                assert isinstance(value, Reading)
                histogram.add_metric(values, _buckets(value, family.les, told.get(values, {})), value.total_s)
            return histogram
        made: CounterMetricFamily | GaugeMetricFamily | UnknownMetricFamily
        if family.kind == "gauge":
            made = GaugeMetricFamily(name, meaning, labels=labels)
        elif family.name.removesuffix("_total") in self._taken:
            made = UnknownMetricFamily(name, meaning, labels=labels)
        else:
            made = CounterMetricFamily(name, meaning, labels=labels)
        for values, value in series:
            assert not isinstance(value, Reading)
            made.add_metric(values, value)
        return made


def _buckets(reading: Reading, les: Sequence[float], exemplars: Mapping[int, Told]) -> list[Bucket]:
    edges = (*les, inf)
    found: list[Bucket] = []
    for at, (le, count) in enumerate(zip(edges, reading.buckets(edges), strict=True)):
        bucket = floatToGoString(le), float(count)
        found.append((*bucket, exemplars[at]) if at in exemplars else bucket)
    return found


# Where the series come from.


def _listeners(value: Callable[[ListenerMeasures], float]) -> Callable[[Measures, ProcessMeasures], Series]:
    return lambda measures, _: (((one.name,), value(one)) for one in measures.listeners)


def _pools(value: Callable[[PoolMeasures], Value]) -> Callable[[Measures, ProcessMeasures], Series]:
    return lambda measures, _: (((one.name,), value(one)) for one in measures.pools)


def _backends(value: Callable[[BackendMeasures], Value]) -> Callable[[Measures, ProcessMeasures], Series]:
    return lambda measures, _: (((pool.name, one.name), value(one)) for pool in measures.pools for one in pool.backends)


def _process(value: Callable[[ProcessMeasures], Value]) -> Callable[[Measures, ProcessMeasures], Series]:
    return lambda _, process: iter([((), value(process))])


def _counter(name: str) -> Callable[[Measures, ProcessMeasures], Series]:
    return lambda _, process: (((), float(count)) for known, count in process.counters if known == name)


def _requests(measures: Measures, _: ProcessMeasures) -> Series:
    for listener in measures.listeners:
        for route in listener.routes:
            for cell, count in enumerate(route.requests):
                if count:
                    method, rest = divmod(cell, len(SOURCES) * len(KINDS))
                    source, kind = divmod(rest, len(KINDS))
                    told = (METHODS[method], KINDS[kind], SOURCES[source])
                    yield (listener.name, route.route, route.pool, *told), float(count)


def _durations(measures: Measures, _: ProcessMeasures) -> Series:
    for pool in measures.pools:
        for kind, reading in zip(KINDS, pool.durations, strict=True):
            if reading.count:
                yield (pool.name, kind), reading


def _answers(measures: Measures, _: ProcessMeasures) -> Series:
    for pool in measures.pools:
        for backend in pool.backends:
            for kind, count in zip(KINDS, backend.answers, strict=True):
                if count:
                    yield (pool.name, backend.name, kind), float(count)


def _attempts(measures: Measures, _: ProcessMeasures) -> Series:
    for pool in measures.pools:
        for backend in pool.backends:
            for outcome in Outcome:
                yield (pool.name, backend.name, outcome.name.lower()), float(backend.outcomes[outcome])


def _ejections(measures: Measures, _: ProcessMeasures) -> Series:
    for pool in measures.pools:
        for backend in pool.backends:
            for rule in EjectionRule:
                if backend.ejections[rule]:
                    yield (pool.name, backend.name, rule.name.lower()), float(backend.ejections[rule])


def _changes(measures: Measures, _: ProcessMeasures) -> Series:
    for pool in measures.pools:
        for backend in pool.backends:
            for to, count in backend.changes:
                yield (pool.name, backend.name, to), float(count)


def _retries(measures: Measures, _: ProcessMeasures) -> Series:
    for pool in measures.pools:
        for outcome in Outcome:
            if pool.retries[outcome]:
                yield (pool.name, outcome.name.lower()), float(pool.retries[outcome])


def _hedges(measures: Measures, _: ProcessMeasures) -> Series:
    for pool in measures.pools:
        if pool.hedge_delay_s is not None or any(pool.hedges):
            for what in Hedged:
                yield (pool.name, what.name.lower()), float(pool.hedges[what])


def _hedge_delays(measures: Measures, _: ProcessMeasures) -> Series:
    for pool in measures.pools:
        if pool.hedge_delay_s is not None:
            yield (pool.name,), pool.hedge_delay_s


def _denied(measures: Measures, _: ProcessMeasures) -> Series:
    for pool in measures.pools:
        for why in Denied:
            yield (pool.name, why.name.lower()), float(pool.denied[why])


def _grpc(measures: Measures, _: ProcessMeasures) -> Series:
    for pool in measures.pools:
        for code, count in enumerate(pool.grpc):
            if count:
                yield (pool.name, NAMES[code] if code < OTHER else "other"), float(count)


def _affinity(measures: Measures, _: ProcessMeasures) -> Series:
    for pool in measures.pools:
        if pool.affinity is not None:
            for held in Held:
                yield (pool.name, held.name.lower()), float(pool.affinity[held])


def _bindings(value: Callable[[PoolMeasures], float]) -> Callable[[Measures, ProcessMeasures], Series]:
    return lambda measures, _: (((one.name,), value(one)) for one in measures.pools if one.affinity is not None)


def _refusals(measures: Measures, _: ProcessMeasures) -> Series:
    for listener in measures.listeners:
        for refusal, count in zip(Refusal, listener.refusals, strict=True):
            yield (listener.name, refusal.name.lower()), float(count)


def _handshakes(measures: Measures, _: ProcessMeasures) -> Series:
    for listener in measures.listeners:
        for (version, cipher, resumed), count in listener.handshakes:
            yield (listener.name, version, cipher, "yes" if resumed else "no"), float(count)


def _not_arrived(measures: Measures, _: ProcessMeasures) -> Series:
    for listener in measures.listeners:
        for reason, count in listener.arrivals_failed:
            yield (listener.name, reason), float(count)


def _expiries(_: Measures, process: ProcessMeasures) -> Series:
    for one in process.certificates:
        yield (one.listener, one.certificate), one.expires_at


def _skips(measures: Measures, _: ProcessMeasures) -> Series:
    for pool in measures.pools:
        for backend in pool.backends:
            for why, count in zip(Skipped, backend.skips, strict=True):
                if count:
                    yield (pool.name, backend.name, why.name.lower()), float(count)


def _utilizations(measures: Measures, _: ProcessMeasures) -> Series:
    for pool in measures.pools:
        for backend in pool.backends:
            if backend.utilization is not None:
                yield (pool.name, backend.name), backend.utilization


def _load_reports(measures: Measures, _: ProcessMeasures) -> Series:
    for pool in measures.pools:
        for backend in pool.backends:
            if backend.reports is not None:
                yield (pool.name, backend.name, "used"), float(backend.reports[0])
                yield (pool.name, backend.name, "ignored"), float(backend.reports[1])


def _own(value: Callable[[PolicyMeasures], float]) -> Callable[[Measures, ProcessMeasures], Series]:
    return lambda measures, _: (
        ((pool.name, role), value(one)) for pool in measures.pools for role, one in pool.minded.own.items()
    )


def _policy_faults(measures: Measures, _: ProcessMeasures) -> Series:
    for pool in measures.pools:
        for role, one in pool.minded.own.items():
            counts = dict(one.faults)
            for fault in Fault:
                yield (pool.name, role, fault.value), float(counts.get(fault.value, 0))


def _shadows(value: Callable[[ShadowMeasures], float]) -> Callable[[Measures, ProcessMeasures], Series]:
    return lambda measures, _: (
        ((pool.name,), value(pool.minded.shadow)) for pool in measures.pools if pool.minded.shadow is not None
    )


def _mirrors(value: Callable[[MirrorMeasures], float]) -> Callable[[Measures, ProcessMeasures], Series]:
    return lambda measures, _: (
        ((pool.name,), value(pool.mirror)) for pool in measures.pools if pool.mirror is not None
    )


def _unmirrored(measures: Measures, _: ProcessMeasures) -> Series:
    for pool in measures.pools:
        if pool.mirror is not None:
            for why, count in zip(Unmirrored, pool.mirror.unsent, strict=True):
                yield (pool.name, why.name.lower()), float(count)


def _shadow_in_flight(measures: Measures, _: ProcessMeasures) -> Series:
    for pool in measures.pools:
        if pool.minded.shadow is not None:
            for backend, count in pool.minded.shadow.in_flight.items():
                yield (pool.name, backend), float(count)


def _prefixes(value: Callable[[PrefixMeasures], float]) -> Callable[[Measures, ProcessMeasures], Series]:
    return lambda measures, _: (
        ((pool.name, role), value(one)) for pool in measures.pools for role, one in pool.prefixes
    )


def _peeked(measures: Measures, _: ProcessMeasures) -> Series:
    for pool in measures.pools:
        for role, one in pool.prefixes:
            for seen, count in zip(SEEN_LABELS, one.seen, strict=True):
                yield (pool.name, role, seen), float(count)


def _states(measures: Measures, _: ProcessMeasures) -> Series:
    for pool in measures.pools:
        for one in pool.backends:
            health = ("up" if one.up else "down") if one.known else "unknown"
            for state in _ADMINS:
                yield (pool.name, one.name, state), float(one.admin == state)
            for state in _HEALTHS:
                yield (pool.name, one.name, state), float(health == state)
            yield (pool.name, one.name, "ejected"), float(one.ejected)
            for state in _AGENTS if one.agent is not None else ():
                yield (pool.name, one.name, state), float(one.agent == state)


def _garbled(measures: Measures, _: ProcessMeasures) -> Series:
    for pool in measures.pools:
        for one in pool.backends:
            if one.garbled:
                yield (pool.name, one.name), float(one.garbled)


def _level_shares(measures: Measures, _: ProcessMeasures) -> Series:
    for pool in measures.pools:
        for level, share, _usable in pool.levels:
            yield (pool.name, level), share / 100


def _level_usable(measures: Measures, _: ProcessMeasures) -> Series:
    for pool in measures.pools:
        for level, _share, usable in pool.levels:
            yield (pool.name, level), float(usable)


def _checks(measures: Measures, _: ProcessMeasures) -> Series:
    for labels, reading in _check_durations(measures, _):
        assert isinstance(reading, Reading)
        yield labels, float(reading.count)


def _check_durations(measures: Measures, _: ProcessMeasures) -> Series:
    for pool in measures.pools:
        for one in pool.backends:
            for result, reading in (("passed", one.checks_passed), ("failed", one.checks_failed)):
                if one.known or reading.count:
                    yield (pool.name, one.name, result), reading


def _shared(value: Callable[[BackendMeasures], float]) -> Callable[[Measures, ProcessMeasures], Series]:
    return lambda measures, _: (
        ((pool.name, one.name), value(one)) for pool in measures.pools if pool.shares for one in pool.backends
    )


def _upstream_connections(measures: Measures, _: ProcessMeasures) -> Series:
    for pool in measures.pools:
        for one in pool.backends:
            yield (pool.name, one.name, "idle"), float(one.idle_connections)
            yield (pool.name, one.name, "busy"), float(one.busy_connections)


def _resets(measures: Measures, _: ProcessMeasures) -> Series:
    for one in measures.listeners:
        for (by, code), count in one.resets:
            yield (one.name, by, code), float(count)


def _http2_ended(measures: Measures, _: ProcessMeasures) -> Series:
    for one in measures.listeners:
        for code, count in one.http2_ended:
            yield (one.name, code), float(count)


def _bytes(measures: Measures, _: ProcessMeasures) -> Series:
    for one in measures.listeners:
        for pool, up, down in one.transferred:
            yield (one.name, pool, "up"), float(up)
            yield (one.name, pool, "down"), float(down)


def _reloads(_: Measures, process: ProcessMeasures) -> Series:
    yield ("ok",), float(process.reloads)
    yield ("failed",), float(process.reloads_failed)


def _build(_: Measures, process: ProcessMeasures) -> Series:
    yield (process.version, process.python, "yes" if process.compiled else "no"), 1.0


_P, _PB, _L = ("pool",), ("pool", "backend"), ("listener",)

FAMILIES: Final = (
    Family(
        "requests_total", "counter", ("listener", "route", "pool", "method", "code_class", "source"),
        "Requests that have ended; source says whose answer it was, other is no answer at all", _requests,
    ),
    Family(
        "request_duration_seconds", "histogram", ("pool", "code_class"),
        "From the arrival of a request's head to the last byte of its answer", _durations,
        exemplars=lambda one: ((one.pool, one.code_class), one.took_s),
    ),
    Family("queue_seconds", "histogram", _P, "The waits of requests that had to wait for a backend", _pools(lambda one: one.queue)),
    Family("connect_seconds", "histogram", _P, "How long new connections to backends took", _pools(lambda one: one.connect)),
    Family(
        "first_byte_seconds", "histogram", _P, "From sending a request to the head of its answer",
        _pools(lambda one: one.first_byte), exemplars=lambda one: ((one.pool,), one.first_byte_s),
    ),
    Family(
        "first_body_seconds", "histogram", _P, "From sending a request to the first byte of the answer's body",
        _pools(lambda one: one.first_body),
    ),
    Family(
        "stream_gap_seconds", "histogram", _P, "The gaps between pieces of answers that came without a length, as streams do",
        _pools(lambda one: one.stream_gap),
    ),
    Family(
        "backend_requests_total", "counter", (*_PB, "code_class"), "Attempts that were answered by a backend", _answers,
    ),
    Family(
        "backend_duration_seconds", "histogram", _PB, "Attempts that were answered completely, from lease to last byte",
        _backends(lambda one: one.duration), LES_OF_BACKENDS, lambda one: ((one.pool, one.backend), one.backend_s),
    ),
    Family("attempts_total", "counter", (*_PB, "outcome"), "Attempts that have ended, by their one outcome", _attempts),
    Family(
        "retries_total", "counter", ("pool", "reason"), "Attempts after a first one, by the outcome of the one before", _retries,
    ),
    Family(
        "retries_denied_total", "counter", ("pool", "reason"), "Attempts that failed and were not repeated, by what forbade it",
        _denied,
    ),
    Family(
        "grpc_calls_total", "counter", ("pool", "code"), "Calls of gRPC that ended with a code of its own, backends' and ours, by the code",
        _grpc,
    ),
    Family(
        "affinity_claims_total", "counter", ("pool", "result"),
        "Claims of pools with affinity, by what became of the binding: kept; new; or why another backend serves the request", _affinity,
    ),
    Family(
        "affinity_bindings", "gauge", _P, "Bindings that are kept in a table: by header, by client, learned",
        _bindings(lambda one: float(one.bindings)),
    ),
    Family(
        "affinity_bindings_forgotten_total", "counter", _P, "Bindings that made room for others, since there were too many",
        _bindings(lambda one: float(one.bindings_forgotten)),
    ),
    Family(
        "hedges_total", "counter", ("pool", "result"), "Requests without an answer in time (hedging): what their hedge came to, or why "
        "they had none", _hedges,
    ),
    Family(
        "hedge_delay_seconds", "gauge", ("pool",), "After how long without an answer a request is hedged", _hedge_delays,
    ),
    Family("refusals_total", "counter", ("listener", "reason"), "Requests that were refused, and reached no backend", _refusals),
    Family(
        "skips_total", "counter", (*_PB, "reason"), "How often a policy came to a backend and stepped over it, by why", _skips,
    ),
    Family("in_flight", "gauge", _P, "Attempts under way", _pools(lambda one: float(one.in_flight))),
    Family("queued", "gauge", _P, "Requests that wait for a backend", _pools(lambda one: float(one.queued))),
    Family(
        "queue_expected_wait_seconds", "gauge", _P,
        "How long the last request that waits for a backend will have to wait, by how many ended in the last seconds; 0 where nobody "
        "waits, or that is not known", _pools(lambda one: one.expected_wait_s),
    ),
    Family("backend_in_flight", "gauge", _PB, "Attempts under way", _backends(lambda one: float(one.in_flight))),
    Family(
        "policy_faults_total", "counter", ("pool", "role", "reason"),
        "What a policy of one's own did wrong; in each case but hook a built-in picked", _policy_faults,
    ),
    Family(
        "policy_late_total", "counter", ("pool", "role"), "Picks of a policy of one's own that took longer than they may",
        _own(lambda one: float(one.late)),
    ),
    Family(
        "policy_handed_over_total", "counter", ("pool", "role"), "How often a built-in picked for a while in its place",
        _own(lambda one: float(one.handed_over)),
    ),
    Family(
        "policy_resting", "gauge", ("pool", "role"), "Whether a built-in picks in its place now",
        _own(lambda one: float(one.resting)),
    ),
    Family("shadow_claims_total", "counter", _P, "Claims that a shadow policy saw", _shadows(lambda one: float(one.claims))),
    Family(
        "shadow_agreed_total", "counter", _P, "Claims at which it would have picked the same backend",
        _shadows(lambda one: float(one.agreed)),
    ),
    Family("shadow_failed_total", "counter", _P, "Claims at which it raised", _shadows(lambda one: float(one.failed))),
    Family("shadow_in_flight", "gauge", _PB, "What it would have in flight", _shadow_in_flight),
    Family(
        "prefix_requests_total", "counter", ("pool", "role", "seen"),
        "Requests of a pool whose policy goes by how bodies begin, by how much of the body was looked at: whole; cut, where it is "
        "longer, or was not all here; encoded, and not looked into; nothing", _peeked,
    ),
    Family(
        "prefix_blocks_total", "counter", ("pool", "role"), "Blocks of the prompts of these requests",
        _prefixes(lambda one: float(one.blocks)),
    ),
    Family(
        "prefix_blocks_matched_total", "counter", ("pool", "role"), "Of these, blocks that the backend was given before that they went to",
        _prefixes(lambda one: float(one.matched)),
    ),
    Family(
        "mirrored_total", "counter", _P, "Requests that were sent to another pool too (`pool` is the one that they were for)",
        _mirrors(lambda one: float(one.sent)),
    ),
    Family(
        "mirrored_not_total", "counter", ("pool", "reason"),
        "Requests that were to be mirrored and were not: `busy`, as many as `mirror.most` were under way; `too_long`, more than "
        "`mirror.body_bytes`; `incomplete`, over before their body was complete; `no_place`, nobody in the other pool had a place at once",
        _unmirrored,
    ),
    Family(
        "mirrors_in_flight", "gauge", _P, "Mirrored requests under way, and such as are to be sent",
        _mirrors(lambda one: float(one.running)),
    ),
    Family("backend_load", "gauge", _PB, "What the pool's policy compares", _backends(lambda one: one.load)),
    Family(
        "backend_reported_utilization", "gauge", _PB,
        "The utilization that the backend reports (ORCA), where the pool's policy compares it and it is no older than 10 s",
        _utilizations,
    ),
    Family(
        "backend_load_reports_total", "counter", (*_PB, "result"),
        "Reports of load (ORCA) where the pool's policy compares them: those that were used, and those that were ignored",
        _load_reports,
    ),
    Family("backend_limit", "gauge", _PB, "How many attempts may be under way; 0: no bound", _backends(lambda one: float(one.limit))),
    Family(
        "backend_state", "gauge", (*_PB, "state"),
        "1 for what it is: what the operator wants, what checks say, what traffic says, what it says of itself", _states,
    ),
    Family(
        "agent_garbled_total", "counter", _PB, "Answers of its agent with a word that is none, which was ignored", _garbled,
    ),
    Family("backends", "gauge", _P, "Backends of a pool", _pools(lambda one: float(len(one.backends)))),
    Family("backends_usable", "gauge", _P, "Backends that may get requests", _pools(lambda one: float(one.usable))),
 Family("panic", "gauge", _P, "Whether so few backends are usable that others are used too", _pools(lambda one: float(one.panic))),
    Family(
        "level_share", "gauge", ("pool", "level"), "Which part of the requests a level has, where there are several, from 0 to 1",
        _level_shares,
    ),
    Family("level_usable", "gauge", ("pool", "level"), "Backends of a level that may get requests", _level_usable),
    Family("backend_weight", "gauge", _PB, "The weight that is configured, or was set", _backends(lambda one: float(one.weight))),
    Family(
        "backend_weight_effective", "gauge", _PB, "The weight that counts now, by slow start too; 0 while it gets no requests",
        _backends(lambda one: one.weight_effective),
    ),
    Family(
        "check_duration_seconds", "histogram", (*_PB, "result"), "How long health checks took", _check_durations, LES_OF_BACKENDS,
    ),
    Family("checks_total", "counter", (*_PB, "result"), "Health checks", _checks),
    Family("ejections_total", "counter", (*_PB, "reason"), "How often traffic took a backend out, by the rule", _ejections),
    Family(
        "ejections_withheld_total", "counter", _PB,
        "How often traffic would have, and enough others were out, or nobody else was usable",
        _backends(lambda one: float(one.withheld)),
    ),
    Family("state_changes_total", "counter", (*_PB, "to"), "Changes of a backend's state", _changes),
    Family("client_connections", "gauge", _L, "Connections of clients", _listeners(lambda one: float(one.connections))),
    Family(
        "client_connections_total", "counter", _L, "Connections of clients that were let in",
        _listeners(lambda one: float(one.connections_total)),
    ),
    Family(
        "handshakes_total", "counter", ("listener", "version", "cipher", "resumed"), "TLS handshakes that were completed", _handshakes,
    ),
    Family(
        "arrivals_failed_total", "counter", ("listener", "reason"),
        "Connections that ended before they were one of HTTP: by what was wrong, or the words of OpenSSL for a handshake that failed",
        _not_arrived,
    ),
    Family("handshakes_open", "gauge", _L, "TLS handshakes that are under way", _listeners(lambda one: float(one.handshaking))),
    Family(
        "certificate_expires_timestamp_seconds", "gauge", ("listener", "certificate"),
        "When a certificate, or one of its chain, expires, in seconds of the epoch", _expiries,
    ),
    Family(
        "http2_connections", "gauge", _L, "Connections of clients that speak HTTP/2, of client_connections",
        _listeners(lambda one: float(one.http2[0])),
    ),
    Family(
        "http2_connections_total", "counter", _L, "Connections of clients that spoke HTTP/2",
        _listeners(lambda one: float(one.http2[1])),
    ),
    Family("http2_streams", "gauge", _L, "Streams of clients that are open: requests over HTTP/2", _listeners(lambda one: float(one.http2[2]))),
    Family(
        "http2_streams_total", "counter", _L, "Requests that came over HTTP/2, malformed ones among them",
        _listeners(lambda one: float(one.http2[3])),
    ),
    Family(
        "http2_resets_total", "counter", ("listener", "by", "code"),
        "Streams that were reset, by the client or by us, and with which code", _resets,
    ),
    Family(
        "http2_ended_total", "counter", ("listener", "code"),
        "Connections of HTTP/2 that were ended for what their client did, by the code that it was told", _http2_ended,
    ),
    Family("upstream_connections", "gauge", (*_PB, "kind"), "Connections to backends, idle or busy", _upstream_connections),
    Family(
        "upstream_http2_connections", "gauge", _PB, "Of the connections to backends those of HTTP/2, which calls share",
        _shared(lambda one: float(one.shared_connections)),
    ),
    Family(
        "upstream_http2_calls", "gauge", _PB, "Calls that are under way on connections of HTTP/2", _shared(lambda one: float(one.calls)),
    ),
    Family(
        "upstream_http2_connections_total", "counter", _PB, "Of the connections to backends that were made those of HTTP/2",
        _shared(lambda one: float(one.shared_total)),
    ),
    Family(
        "upstream_http2_calls_total", "counter", _PB, "Calls that were begun on connections of HTTP/2: attempts that needed no connection of their own",
        _shared(lambda one: float(one.calls_total)),
    ),
    Family(
        "upstream_connections_total", "counter", _PB, "Connections to backends that were made",
        _backends(lambda one: float(one.connections_total)),
    ),
    Family(
        "bytes_total", "counter", ("listener", "pool", "direction"),
        "Bytes of bodies and tunnels, up to backends and down to clients, of requests that have ended", _bytes,
    ),
    Family("config_reloads_total", "counter", ("result",), "Reloads of the configuration", _reloads),
    Family(
        "config_last_reload_successful", "gauge", (), "Whether the last reload was applied, or there was none",
        _process(lambda one: float(not one.reload_failed)),
    ),
    Family(
        "config_last_reload_timestamp_seconds", "gauge", (), "When the configuration in force was applied",
        _process(lambda one: one.reloaded_at or one.started_at),
    ),
    Family("config_generation", "gauge", (), "How many configurations were in force", _process(lambda one: float(one.generation))),
    Family("loop_lag_seconds", "histogram", (), "How late timers came", _process(lambda one: one.loop_lag)),
    Family("log_dropped_total", "counter", (), "Lines of logs that were dropped", _counter("log_dropped_total")),
    Family("buffered_bytes", "gauge", (), "Bytes of bodies that are held, or may be, for slow clients", _counter("buffered_bytes")),
    Family(
        "buffered_bytes_limit", "gauge", (), "As many bytes of bodies may be held (limits.memory_bytes)",
        _counter("buffered_bytes_limit"),
    ),
    Family(
        "buffer_waits_total", "counter", (), "Request bodies that waited until others made room", _counter("buffer_waits_total"),
    ),
    Family(
        "buffer_denied_total", "counter", (), "Bodies that went on without a buffer, since there was no room",
        _counter("buffer_denied_total"),
    ),
    Family("spans_sent_total", "counter", (), "Spans that a collector of traces has taken", _counter("spans_sent_total")),
    Family(
        "spans_dropped_total",
        "counter",
        (),
        "Spans that were dropped: too many waited, or the collector did not take them",
        _counter("spans_dropped_total"),
    ),
    Family(
        "workers", "gauge", (), "Workers that serve; 0 where one process does everything",
        _counter("workers"),
    ),
    Family(
        "worker_restarts_total", "counter", (), "Workers that were started in the place of one that had died",
        _counter("worker_restarts_total"),
    ),
    Family(
        "invariant_violations_total", "counter", (), "Identities between counters that did not hold",
        _counter("invariant_violations_total"),
    ),
    Family("build_info", "gauge", ("version", "python", "compiled"), "Which program runs", _build),
    Family("start_time_seconds", "gauge", (), "When the balancer began", _process(lambda one: one.started_at)),
)  # fmt: skip
"""All metrics, but for those of the process itself (`process_*`), which prometheus_client reads."""
