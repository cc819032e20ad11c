"""What an operator sees: listeners, routes, pools, backends, runtime changes in force."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Final

from twisted_lb.admin.history import States
from twisted_lb.admin.operator import (
    BackendView,
    CertificateView,
    ChangeView,
    ConnectionsView,
    FlawView,
    LevelView,
    ListenerView,
    PoolView,
    ReportView,
    RouteView,
)
from twisted_lb.admin.words import left
from twisted_lb.core.agent import STATES
from twisted_lb.core.backend import LOWEST, AdminState, Backend, BackendSpec, limit_said
from twisted_lb.core.levels import Levels
from twisted_lb.core.reported import Reported
from twisted_lb.core.snapshot import outcomes_of
from twisted_lb.core.standing import Skipped
from twisted_lb.data_plane import DataPlane
from twisted_lb.net.cluster import Cluster, Wires
from twisted_lb.operating.elsewhere import Counted
from twisted_lb.operating.meters import Meters
from twisted_lb.operating.texts import changes_of
from twisted_lb.planned import PoolPlan, RoutePlan
from twisted_lb.portions import AT_ONCE, Making
from twisted_lb.tls.flaws import Flaw
from twisted_lb.tls.settings import TlsSettings

_KEYS: Final = ("admin", "weight", "limit", "backend")
# States as one says them beside another one.
_SAID: Final = {"unknown": "not checked yet"}
# Those of which the file says nothing of its own.
_RUNTIME_ONLY: Final = ("admin",)


class Views:
    """Makes the views of the plane that `running` answers. `find`: where what is in force at a path of the configuration comes
    from, which takes long to find out and is kept until `forget`. `counted`: what other processes have counted, see `elsewhere.py`.
    """

    def __init__(
        self,
        running: Callable[[], DataPlane],
        meters: Meters,
        states: States,
        find: Callable[[tuple[str | int, ...]], str],
        counted: Callable[[], Counted | None] = lambda: None,
    ) -> None:
        self._running: Final = running
        self._meters: Final = meters
        self._states: Final = states
        self._find: Final = find
        self._counted: Final = counted
        self._places: Final[dict[tuple[str | int, ...], str]] = {}
        self._sources_of: Final[dict[tuple[str, str], dict[str, str]]] = {}

    def forget(self) -> None:
        """Another configuration is in force."""
        self._places.clear()
        self._sources_of.clear()

    def listener(self, plane: DataPlane, name: str, now: float) -> ListenerView:
        """A listener, now in seconds of the epoch."""
        listeners, frontend = plane.listeners.get(name, []), plane.frontends[name]
        serving = plane.servings.get(name)
        refused = self._meters.rates.within(("refused", name))
        view = ListenerView(
            name=name,
            addresses=plane.addresses(name),
            connections=len(frontend.clients),
            limit=frontend.gate.most,
            accepted=sum(one.accepted for one in listeners),
            rate=self._meters.rates.per_s(("accepted", name)),
            refused_60s=None if refused is None else refused[0],
            certificates=[] if serving is None else _certificates(name, serving.settings, now),
            flaws=[]
            if serving is None
            else [_flaw(flaw) for policy in serving.settings.policies for flaw in policy.flaws_at(now)],
        )
        counted = self._counted()
        return view if counted is None else counted.listener(view)

    def routes(self, plane: DataPlane) -> list[RouteView]:
        """The routes, in their order: O(routes and listeners)."""
        requests, counted = plane.requests_by_route(), self._counted()
        if counted is not None:
            for route_name, more in counted.requests_by_route.items():
                requests[route_name] = requests.get(route_name, 0) + more
        listeners: dict[str, list[str]] = {}
        for listener, plan in plane.plan.listeners.items():
            for name in plan.routes:
                listeners.setdefault(name, []).append(listener)
        return [
            self._route(n, name, route, listeners.get(name, []), requests.get(name, 0))
            for n, (name, route) in enumerate(plane.plan.routes.items(), start=1)
        ]

    def _route(self, n: int, name: str, route: RoutePlan, listeners: list[str], requests: int) -> RouteView:
        """The n-th route, from 1."""
        match = route.match
        return RouteView(
            name=name,
            n=n,
            listeners=listeners,
            host=_texts(match.hosts),
            path=_texts(match.paths),
            path_prefix=_texts(match.prefixes),
            method=_texts(match.methods),
            to=_target(route),
            requests=requests,
            errors_60s=self._meters.durations.added(("errors", name)),
            rate=self._meters.rates.per_s(("route", name)),
            place=self.place(n - 1),
        )

    def place(self, number: int) -> str:
        """Where in the file a route stands; empty where it does not."""
        place = self.source_of(("routes", number))
        return "" if place == "default" else place

    def pool(self, cluster: Cluster, plan: PoolPlan) -> Making[PoolView]:
        """A pool with its backends, so many of them in each portion."""
        plane, name, pool = self._running(), cluster.name, cluster.pool
        around = self._around(cluster)
        targets = plane.targets.snapshot(name, plane.runtime.time.seconds())
        backends: list[BackendView] = []
        for number, one in enumerate(list(pool.backends.values()), start=1):
            backends.append(self._backend(one, around))
            if number % AT_ONCE == 0:
                yield
        view = PoolView(
            name=name,
            policy=plan.policy_name,
            check=_checks_of(plan),
            queued=pool.waiting,
            queue=pool.settings.max_queued,
            usable=sum(one.usable for one in backends),
            in_flight=sum(one.in_flight for one in backends),
            levels=_levels_of(pool.levels),
            panic=pool.panics,
            rate=_total([one.rate for one in backends]),
            errors_60s=_total([one.errors_60s for one in backends]),
            p99_ms=self._meters.durations.quantile_ms(("took", name), 0.99),
            backends=backends,
            leaving=[self._backend(one, replace(around, asked=None, meant={})) for one in pool.leaving],
            targets=None if targets is None else asdict(targets),
            protocol=plan.upstream.protocol,
        )
        counted = self._counted()
        return view if counted is None else counted.pool(view)

    def backends_called(self, cluster: Cluster, name: str) -> list[BackendView]:
        """The backends of this name, or of this address as it is resolved: O(backends) of the least."""
        around = self._around(cluster)
        every = cluster.pool.backends.values()
        return [self._backend(one, around) for one in every if name in (one.name, one.name.rpartition("@")[0])]

    def _around(self, cluster: Cluster) -> "_Around":
        specs = {spec.name: spec for spec in self._running().specs_of(cluster.name)}
        return _Around(
            cluster, specs, cluster.wires(), self._requests_of(cluster), cluster.pool.meant(), self._counted()
        )

    def _intended(self, backend: str, around: "_Around") -> float | None:
        """The share that the weight of a backend means: of what was asked in the last minute as weights were then, else now."""
        if around.asked and (found := self._meters.rates.within(("meant", around.cluster.name, backend))) is not None:
            return found[0] / 10 / around.asked
        now = around.meant.get(backend)
        return None if now is None else now * 100

    def _requests_of(self, cluster: Cluster) -> int | None:
        """How many requests the backends of a pool had in the last minute."""
        found = [self._meters.rates.within(("requests", cluster.name, name)) for name in cluster.pool.backends]
        return sum(one[0] for one in found if one is not None) if any(found) else None

    def _backend(self, backend: Backend, around: "_Around") -> BackendView:
        plane, cluster, asked = self._running(), around.cluster, around.asked
        pool, name = cluster.name, backend.name
        owner = name if name in around.specs else name.rpartition("@")[0]
        spec = around.specs.get(owner)
        requests = self._meters.rates.within(("requests", pool, name))
        failures = self._meters.rates.within(("failures", pool, name))
        p50_ms, p99_ms = self._meters.durations.quantiles_ms(("took", pool, name), 0.5, 0.99)
        state, reason = self._state(cluster, backend)
        view = BackendView(
            name=f"{pool}/{name}",
            pool=pool,
            backend=name,
            address=str(backend.address),
            labels={} if spec is None else dict(spec.labels),
            weight=backend.weight,
            weight_effective=backend.share,
            level=backend.level if backend.level <= LOWEST else None,
            limit=backend.most,
            in_flight=backend.in_flight,
            tunnels=backend.tunnels,
            requests=backend.requests,
            failures=backend.failures,
            outcomes=outcomes_of(backend),
            admin=backend.admin.value,
            up=backend.health.up,
            known=backend.health.known,
            ejected=backend.ejection.active,
            usable=backend.usable,
            available=backend.available,
            state=state,
            since_s=self._states.since_s(pool, name),
            reason=reason,
            by=self._states.by(pool, owner),
            rate=None if requests is None else requests[0] / requests[1],
            share=None if requests is None or not asked else requests[0] * 100 / asked,
            intended=self._intended(name, around),
            errors_60s=None if failures is None else failures[0],
            checks=self._states.checks(pool, name),
            p50_ms=p50_ms,
            p99_ms=p99_ms,
            reuse=self._reuse(pool, name),
            reported=_report_of(backend, plane.runtime.clock.now),
            ejected_by=backend.ejection.rule.name.lower() if backend.ejection.active else "",
            failing=backend.failing,
            agent=backend.agent.words,
            agent_state=STATES.get(backend.agent.word, ""),
            limit_why=backend.limit_why,
            keeps_own_s=round(cluster.pool.keeps_own_s(backend, plane.runtime.clock.now), 3),
            connections=_connections_of(around.wires.get(backend)),
            sources=self._sources(plane, pool, owner),
        )
        return view if around.counted is None else around.counted.backend(view)

    def _sources(self, plane: DataPlane, pool: str, owner: str) -> dict[str, str]:
        """Where the values of a backend come from; those of the configuration are found out once."""
        kept = self._sources_of.get((pool, owner))
        if kept is None:
            kept = self._sources_of[pool, owner] = {key: self._source(pool, owner, key) for key in _KEYS}
        if pool not in plane.overlay.pools:
            return kept.copy()
        return {key: plane.source(pool, owner, key) or said for key, said in kept.items()}

    def _reuse(self, pool: str, backend: str) -> float | None:
        """Which part of the attempts of the last minute had a connection that was there."""
        connected = self._meters.durations.added(("connected", pool, backend))
        leases = self._meters.durations.added(("leases", pool, backend))
        return None if connected is None or not leases else max(0.0, round(1 - connected / leases, 4))

    def _source(self, pool: str, backend: str, key: str) -> str:
        rest = () if key == "backend" else (key,)
        if key == "limit":
            own = self.source_of(("pools", pool, "backends", backend, "max_in_flight"))
            return own if own not in ("", "default") else self.source_of(("pools", pool, "max_in_flight"))
        return "default" if key in _RUNTIME_ONLY else self.source_of(("pools", pool, "backends", backend, *rest))

    def said(self, pool: str, backend: str, key: str) -> str:
        """What the configuration says where a value of a backend was changed at run time: `1 in lb.toml:23`, `by default 1`."""
        numbers = dict(self._running().overlay.of(pool).numbers).get(key, {})
        if backend not in numbers:
            return ""
        number, place = numbers[backend].was, self._source(pool, backend, key)
        was = limit_said(number)
        return f"{was} in {place}" if place not in ("", "default") else f"by default {was}"

    def source_of(self, path: tuple[str | int, ...]) -> str:
        """Where what is in force at a path of the configuration comes from."""
        found = self._places.get(path)
        if found is None:
            found = self._places[path] = self._find(path)
        return found

    def _state(self, cluster: Cluster, backend: Backend) -> tuple[str, str]:
        """The gravest layer, and all reasons: operator, checks, ejection."""
        pool, name = cluster.name, backend.name
        found: list[tuple[str, str]] = []
        by = self._states.by(pool, name) or self._states.by(pool, name.rpartition("@")[0])
        who = "" if by is None else by.actor + (f": “{by.reason}”" if by.reason else "")
        if backend.admin is not AdminState.READY:
            still = left(backend.in_flight - backend.tunnels, backend.tunnels)
            running = f"; {still} left" if still else ""
            found.append(({AdminState.DRAIN: "drained"}.get(backend.admin, "maint"), f"{who}{running}".lstrip("; ")))
        if not backend.weight:
            found.append(("weight 0", "" if found else who))
        if not backend.health.up:
            found.append(("down" if backend.health.known else "unknown", self._states.down(pool, name)))
        if backend.agent.away:
            agent = backend.agent
            why = Skipped.BUSY if agent.word == "busy" else Skipped.AGENT
            found.append((STATES[agent.word], backend.reasons.get(why, "")))
        if backend.ejection.active:
            found.append(("ejected", self._states.ejected(pool, name)))
        if not found and backend.standby:
            return "standby", backend.standing.reason
        if not found and backend.full:
            found.append(("full", f"{backend.load_now} of {backend.limit} in flight"))
        if not found and backend.weighing.ramping:
            rules = cluster.pool.settings.slow_start
            left_s = backend.weighing.left_s(self._running().runtime.clock.read(), rules)
            return "slow start", f"{backend.weighing.part * 100:.0f} % of its weight, full in {left_s:.0f} s"
        if not found:
            heard = f"its agent says {backend.agent.words}" if backend.agent.words else ""
            return "ready", f"would be ejected: {backend.failing}" if backend.withheld else heard
        if backend.standing.panic:
            found[0] = (found[0][0], f"used all the same, in panic{': ' if found[0][1] else ''}{found[0][1]}")
        others = [f"also {_SAID.get(one, one)}" + (f" ({reason})" if reason else "") for one, reason in found[1:]]
        return found[0][0], "; ".join(part for part in (found[0][1], *others) if part)

    def in_force(self, plane: DataPlane) -> Iterable[ChangeView]:
        """Runtime changes in force, with who made them."""
        for pool, changes in plane.overlay.pools.items():
            for backend, change in changes_of(changes):
                by = self._states.by(pool, backend)
                yield ChangeView(
                    at=None if by is None else by.at,
                    actor="" if by is None else by.actor,
                    subject=f"{pool}/{backend}",
                    change=change,
                    reason="" if by is None else by.reason,
                )


@dataclass(frozen=True)
class _Around:
    """What is known of a pool as a whole when its backends are looked at: their `specs` and connections, how many requests they had
    in the last minute, which part each should have now, and what other processes have `counted`.
    """

    cluster: Cluster
    specs: Mapping[str, BackendSpec]
    wires: Mapping[Backend, Wires]
    asked: int | None
    meant: Mapping[str, float]
    counted: Counted | None


def _certificates(listener: str, tls: TlsSettings, now: float) -> list[CertificateView]:
    return [
        CertificateView(
            listener=listener,
            names=one.names,
            key_type=one.key_type,
            issuer=one.issuer,
            not_before=one.not_before,
            expires_at=one.expires,
            file=one.where,
            fingerprint=one.fingerprint,
            flaws=[_flaw(flaw) for flaw in one.flaws_at(now)],
        )
        for one in tls.certificates
    ]


def _flaw(flaw: Flaw) -> FlawView:
    return FlawView(flaw.kind.value, flaw.text, flaw.kind.grave)


def _report_of(backend: Backend, now: float) -> ReportView | None:
    load = backend.load
    if not isinstance(load, Reported):
        return None
    said = load.utilization >= 0
    return ReportView(
        utilization=load.utilization if said else None,
        age_s=round(now - load.reported_at, 1) if said else None,
        counts=load.fresh(now),
        used=backend.totals.reports,
        ignored=backend.totals.bad_reports,
    )


def _connections_of(wires: Wires | None) -> ConnectionsView:
    return ConnectionsView() if wires is None else ConnectionsView(wires.http1, wires.http2, wires.calls, wires.chose)


def _texts(values: Iterable[bytes]) -> list[str]:
    return [one.decode("latin-1") for one in values]


def _target(route: RoutePlan) -> str:
    if route.answer is not None:
        return route.answer.kind.value
    if not route.leads:
        return "deny"
    total = sum(lead.weight for lead in route.leads)
    if len(route.leads) == 1:
        return route.leads[0].pool
    return ", ".join(f"{lead.pool} {lead.weight * 100 / total:g} %" for lead in route.leads)


def _levels_of(levels: Levels) -> list[LevelView]:
    """The levels, where there are several."""
    if not levels.several:
        return []
    return [
        LevelView(
            level=number if number <= LOWEST else None,
            backends=len(levels.members[at]),
            usable=levels.usable[at],
            share=levels.shares[at],
            panic=levels.panics[at],
        )
        for at, number in enumerate(levels.numbers)
    ]


def _checks_of(plan: PoolPlan) -> str:
    checks = plan.checks
    if checks is None:
        return "none"
    http, script = checks.http, checks.script
    if script is not None:
        asked = script.said
    else:
        asked = "connect" if http is None else f"{http.method.decode('ascii')} {http.path.decode('latin-1')}"
    return f"{asked} every {checks.interval_s:g} s"


def _total(values: Sequence[Any]) -> Any:
    known = [one for one in values if one is not None]
    return sum(known) if known else None
