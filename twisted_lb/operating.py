"""Operating a data plane: the `Operator` of a process that balances itself, made of what runs there anyway."""

import contextlib
import os
import platform
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any, Final, Protocol

from twisted.internet.defer import Deferred
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from twisted_lb import __version__
from twisted_lb.admin.history import Events, Rates, States, Windows
from twisted_lb.admin.loop_lag import LoopLag, Watchdog
from twisted_lb.admin.operator import (
    Actor,
    BackendView,
    By,
    Changed,
    ChangeView,
    Command,
    ConfigValue,
    EventView,
    Hear,
    Left,
    ListenerView,
    NotFound,
    PoolView,
    Refused,
    Reloaded,
    RouteView,
    Sample,
    Snapshot,
)
from twisted_lb.admin.readiness import Verdict
from twisted_lb.admin.words import admitted, consequences, left, verdict
from twisted_lb.answers import decision_json, explained_json, routed_json
from twisted_lb.build_info import build
from twisted_lb.config.similar import similar
from twisted_lb.core.backend import AdminState, Backend
from twisted_lb.core.events import Event
from twisted_lb.core.histogram import NOTHING, Reading
from twisted_lb.core.measures import Measures, ProcessMeasures, errors_of
from twisted_lb.core.outcome import Outcome
from twisted_lb.core.overlay import PoolOverlay
from twisted_lb.core.snapshot import snapshot_of
from twisted_lb.data_plane import DataPlane
from twisted_lb.errors import one_line
from twisted_lb.net.cluster import Cluster
from twisted_lb.plan import PoolPlan, RoutePlan
from twisted_lb.probes import ProbeResult

_SAMPLE_S: Final = 1.0
# Histograms are larger.
_SLOWLY_S: Final = 5.0
MOST_REASON: Final = 200

_log = Logger()


class Owner(Protocol):
    """The service whose data plane is operated."""

    @property
    def operated_name(self) -> str:
        """What this balancer is called."""

    @property
    def stopping(self) -> bool:
        """Whether it stops: nothing is changed any more."""

    @property
    def log_dropped(self) -> int:
        """How many lines of the access log were dropped."""

    def readiness(self) -> Verdict:
        """Whether traffic is wanted, and why not."""

    def add_backend(self, pool: str, backend: str | Mapping[str, Any]) -> None:
        """Add a backend, as the file has it."""

    def reload_now(self, *, dry_run: bool) -> "Deferred[Reloaded]":
        """Read the configuration anew, and go by it unless it is a dry run."""

    def values_in_force(self) -> Iterable[tuple[str, object, str]]:
        """All values of the configuration in force: key, value, source."""

    def changed_file(self) -> tuple[str, float | None] | None:
        """The configuration file, and for how many seconds it has said something else than what is in force."""

    def source_of(self, path: tuple[str | int, ...]) -> str:
        """Where what is in force at a path of the configuration comes from; empty where nobody knows."""


class Operating:
    """The operator of one data plane, see `Operator`. `changed` tells that runtime changes are others, `loaded` that a
    configuration is in force, `hear` and `probed` what the data plane says.
    """

    def __init__(self, owner: Owner, wall: Callable[[], float], time: Any) -> None:
        self._owner: Final = owner
        self._wall: Final = wall
        self._time: Final = time
        self._plane: DataPlane | None = None
        self._events: Final = Events(wall)
        self._states: Final = States(wall)
        self._rates: Final = Rates(self._counts, time.seconds)
        self._began: Final = time.seconds()
        self._started_at: Final = wall()
        self._generation: int = 1
        self._changes: int = 0  # how often runtime changes were others
        self._loaded_at: float = wall()
        self._loaded_by: str = "start"
        self._asking: Final[list[str]] = []  # who has asked for the reload that is under way, or for the next one
        self._acting: str = ""  # who changes something just now
        # Of this generation: where what is in force comes from, and all of it; both take long to find out.
        self._places: Final[dict[tuple[str | int, ...], str]] = {}
        self._values: list[ConfigValue] = []
        self._sampling: Final = LoopingCall(self._rates.sample)
        self._sampling.clock = time
        self._durations: Final = Windows(self._readings, time.seconds)
        self._slowly: Final = LoopingCall(self._durations.sample)
        self._slowly.clock = time
        self._watchdog: Watchdog | None = None
        self._lag: LoopLag | None = None
        self._reloads: int = 0
        self._failed_reloads: int = 0
        self._reload_failed: bool = False

    # The data plane's news.

    def begin(self, plane: DataPlane, *, watched: bool = False) -> None:
        """The data plane is there. `watched`: the process does nothing else, so that a turn that takes long is worth a line."""
        self._plane = plane
        self._sampling.start(_SAMPLE_S)
        self._slowly.start(_SLOWLY_S)
        watchdog = self._watchdog = Watchdog() if watched else None
        self._lag = LoopLag(self._time, _nothing if watchdog is None else watchdog.beat)
        self._lag.start()
        if watchdog is not None:
            watchdog.start()

    def end(self) -> None:
        """It is gone."""
        for loop in (self._sampling, self._slowly):
            if loop.running:
                loop.stop()
        if self._lag is not None:
            self._lag.stop()
        if self._watchdog is not None:
            self._watchdog.stop()
            self._watchdog = None
        self._plane = None

    def hear(self, event: Event) -> None:
        """Hear a change of state."""
        kind, subject, text = self._states.hear(event)
        self._events.add(kind, subject, text, self._acting)

    def probed(self, pool: str, backend: str, result: ProbeResult) -> None:
        """Hear the result of a check."""
        took = None if result.asked_at is None else round((self._time.seconds() - result.asked_at) * 1000, 1)
        self._states.checked(pool, backend, passed=result.passed, what=result.reason, ms=took)

    def overlay_changed(self) -> None:
        """Runtime changes are others."""
        self._changes += 1

    def asked(self, who: str, done: "Deferred[Reloaded]") -> "Deferred[Reloaded]":
        """Somebody has asked for a reload, which is over when this fires."""
        self._asking.append(who)

        def over(result: Any) -> Any:
            self._asking.remove(who)
            return result

        return done.addBoth(over)

    def loaded(self, lines: Sequence[str]) -> None:
        """Another configuration is in force."""
        self._places.clear()
        self._values.clear()
        self._generation += 1
        self._loaded_at = self._wall()
        asking = " and ".join(dict.fromkeys(self._asking))
        self._loaded_by = asking or "reload"
        self._events.add("reload", "", f"generation {self._generation}: {'; '.join(lines)[:500]}", asking)

    def reload_ended(self, *, failed: bool) -> None:
        """A reload is over."""
        self._reloads += not failed
        self._failed_reloads += failed
        self._reload_failed = failed

    def _counts(self) -> dict[object, int]:
        plane = self._plane
        if plane is None:
            return {}
        counts: dict[object, int] = {}
        for name, cluster in plane.clusters.items():
            for backend in cluster.pool.backends.values():
                counts["requests", name, backend.name] = backend.requests
                counts["failures", name, backend.name] = backend.failures
        for name, listeners in plane.listeners.items():
            counts["accepted", name] = sum(one.accepted for one in listeners)
        for name, requests in plane.requests_by_route().items():
            counts["route", name] = requests
        return counts

    def _readings(self) -> dict[object, Reading | int]:
        plane = self._plane
        if plane is None:
            return {}
        measures = plane.measures()
        found: dict[object, Reading | int] = {}
        for pool in measures.pools:
            found["took", pool.name] = sum(pool.durations, NOTHING)
            for backend in pool.backends:
                found["took", pool.name, backend.name] = backend.duration
                found["connected", pool.name, backend.name] = backend.connections_total
                found["leases", pool.name, backend.name] = sum(backend.outcomes)
        for listener in measures.listeners:
            for route in listener.routes:
                key = ("errors", route.route)
                before = found.get(key, 0)
                found[key] = errors_of(route) + (before if isinstance(before, int) else 0)
        return found

    def measures(self) -> tuple[Measures, ProcessMeasures]:
        """See Operator."""
        plane = self._running
        process = ProcessMeasures(
            version=__version__,
            python=platform.python_version(),
            compiled=build() == "compiled",
            started_at=self._started_at,
            generation=self._generation,
            reloads=self._reloads,
            reloads_failed=self._failed_reloads,
            reload_failed=self._reload_failed,
            reloaded_at=self._loaded_at,
            loop_lag=NOTHING if self._lag is None else self._lag.lag.reading(),
            counters=(
                ("invariant_violations_total", plane.self_check.violations),
                ("log_dropped_total", self._owner.log_dropped),
            ),
        )
        return plane.measures(exemplars=True), process

    # What is.

    @property
    def etag(self) -> str:
        """See Operator."""
        return f"{self._generation}.{self._changes}"

    def snapshot(self) -> Snapshot:
        """See Operator."""
        plane = self._running
        ready = self._owner.readiness()
        pools = [self._pool(cluster, plane.plan.pools[name]) for name, cluster in plane.clusters.items()]
        file = self._owner.changed_file()
        return Snapshot(
            now=self._wall(),
            name=self._owner.operated_name,
            version=__version__,
            build=build(),
            pid=os.getpid(),
            ready=ready.ready,
            ready_text=ready.text.strip(),
            uptime_s=self._time.seconds() - self._began,
            generation=self._generation,
            loaded_at=self._loaded_at,
            loaded_by=self._loaded_by,
            etag=self.etag,
            file=None if file is None else {"path": file[0], "changed_s": file[1]},
            verdict=verdict(pools, ready=ready.ready, ready_text=ready.text.partition("\n")[0]),
            listeners=[self._listener(plane, name) for name in plane.frontends],
            routes=[self._route(n, name, route) for n, (name, route) in enumerate(plane.plan.routes.items(), start=1)],
            pools=pools,
            changes=list(self._in_force(plane)),
        )

    def sample(self) -> Sample:
        """See Operator. Costs a look at each backend."""
        plane = self._running
        counts: dict[tuple[str, str], int] = {}
        in_flight = queued = room = 0
        bounded = True
        for cluster in plane.clusters.values():
            pool = cluster.pool
            for backend in (*pool.backends.values(), *pool.leaving):
                whose = f"{id(backend):x}"
                counts["ok", whose] = backend.outcomes[Outcome.OK]
                counts["failed", whose] = backend.failures
                in_flight += backend.in_flight
            queued += pool.waiting
            bounded = bounded and pool.settings.max_in_flight > 0
            room += pool.settings.max_in_flight * sum(one.usable for one in pool.backends.values())
        gates = [one.gate.most for one in plane.frontends.values()]
        limits = {"in_flight_limit": room} if bounded and plane.clusters else {}
        return Sample(
            counts,
            {
                **limits,
                "in_flight": in_flight,
                "queued": queued,
                "connections": sum(len(one.clients) for one in plane.frontends.values()),
                "connections_limit": sum(gates),
            },
        )

    @property
    def _running(self) -> DataPlane:
        if self._plane is None:
            raise Refused("stopping", "the balancer is not running")
        return self._plane

    def _listener(self, plane: DataPlane, name: str) -> ListenerView:
        listeners, frontend = plane.listeners.get(name, []), plane.frontends[name]
        return ListenerView(
            name=name,
            addresses=[one.address for one in listeners],
            connections=len(frontend.clients),
            limit=frontend.gate.most,
            accepted=sum(one.accepted for one in listeners),
            rate=self._rates.per_s(("accepted", name)),
        )

    def _route(self, n: int, name: str, route: RoutePlan) -> RouteView:
        match = route.match
        plane = self._running
        return RouteView(
            name=name,
            n=n,
            listeners=[one for one, listener in plane.plan.listeners.items() if name in listener.routes],
            host=_texts(match.hosts),
            path=_texts(match.paths),
            path_prefix=_texts(match.prefixes),
            method=_texts(match.methods),
            to=_target(route),
            requests=self._running.requests_by_route().get(name, 0),
            errors_60s=self._durations.added(("errors", name)),
            rate=self._rates.per_s(("route", name)),
            place=self._place(n - 1),
        )

    def _place(self, number: int) -> str:
        """Where in the file a route stands; empty where it does not."""
        place = self._source_of(("routes", number))
        return "" if place == "default" else place

    def _pool(self, cluster: Cluster, plan: PoolPlan) -> PoolView:
        plane, name, pool = self._running, cluster.name, cluster.pool
        labels = {spec.name: dict(spec.labels) for spec in plane.specs_of(name)}
        asked = self._requests_of(cluster)
        backends = [self._backend(cluster, one, labels, asked) for one in pool.backends.values()]
        backends = _intended(backends)
        targets = plane.snapshot(name).targets
        return PoolView(
            name=name,
            policy=plan.policy_name,
            check=_checks_of(plan),
            queued=plane.snapshot(name).waiting,
            queue=pool.settings.max_queued,
            usable=sum(one.usable for one in backends),
            in_flight=sum(one.in_flight for one in backends),
            rate=_total([one.rate for one in backends]),
            errors_60s=_total([one.errors_60s for one in backends]),
            p99_ms=self._durations.quantile_ms(("took", name), 0.99),
            backends=backends,
            leaving=[self._backend(cluster, one, labels, None) for one in pool.leaving],
            targets=None if targets is None else asdict(targets),
        )

    def _requests_of(self, cluster: Cluster) -> int | None:
        """How many requests the backends of a pool had in the last minute."""
        found = [self._rates.within(("requests", cluster.name, name)) for name in cluster.pool.backends]
        return sum(one[0] for one in found if one is not None) if any(found) else None

    def _backend(
        self, cluster: Cluster, backend: Backend, labels: Mapping[str, dict[str, str]], asked: int | None
    ) -> BackendView:
        plane, pool, name = self._running, cluster.name, backend.name
        owner = name if name in labels else name.rpartition("@")[0]
        requests = self._rates.within(("requests", pool, name))
        failures = self._rates.within(("failures", pool, name))
        state, reason = self._state(pool, backend)
        snapshot = snapshot_of(backend)
        return BackendView(
            name=f"{pool}/{name}",
            pool=pool,
            backend=name,
            address=snapshot.address,
            labels=labels.get(owner, {}),
            weight=backend.weight,
            weight_effective=float(backend.weight) if backend.usable else 0.0,
            limit=cluster.pool.settings.max_in_flight,
            in_flight=backend.in_flight,
            tunnels=backend.tunnels,
            requests=backend.requests,
            failures=backend.failures,
            outcomes=snapshot.outcomes,
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
            intended=None,
            errors_60s=None if failures is None else failures[0],
            checks=self._states.checks(pool, name),
            p50_ms=self._durations.quantile_ms(("took", pool, name), 0.5),
            p99_ms=self._durations.quantile_ms(("took", pool, name), 0.99),
            reuse=self._reuse(pool, name),
            sources={key: plane.source(pool, owner, key) or self._source(pool, owner, key) for key in _KEYS},
        )

    def _reuse(self, pool: str, backend: str) -> float | None:
        """Which part of the attempts of the last minute had a connection that was there."""
        connected = self._durations.added(("connected", pool, backend))
        leases = self._durations.added(("leases", pool, backend))
        return None if connected is None or not leases else max(0.0, round(1 - connected / leases, 4))

    def _source(self, pool: str, backend: str, key: str) -> str:
        rest = () if key == "backend" else (key,)
        return "default" if key == "admin" else self._source_of(("pools", pool, "backends", backend, *rest))

    def _source_of(self, path: tuple[str | int, ...]) -> str:
        found = self._places.get(path)
        if found is None:
            found = self._places[path] = self._owner.source_of(path)
        return found

    def _state(self, pool: str, backend: Backend) -> tuple[str, str]:
        """The gravest layer, and all reasons: operator, checks, ejection."""
        name = backend.name
        found: list[tuple[str, str]] = []
        by = self._states.by(pool, name) or self._states.by(pool, name.rpartition("@")[0])
        who = "" if by is None else by.actor + (f": “{by.reason}”" if by.reason else "")
        if backend.admin is not AdminState.READY:
            still = left(backend.in_flight - backend.tunnels, backend.tunnels)
            running = f"; {still} left" if still else ""
            found.append(({AdminState.DRAIN: "drained"}.get(backend.admin, "maint"), f"{who}{running}".lstrip("; ")))
        elif not backend.weight:
            found.append(("weight 0", who))
        if not backend.health.up:
            found.append(("down" if backend.health.known else "unknown", self._states.down(pool, name)))
        if backend.ejection.active:
            found.append(("ejected", self._states.ejected(pool, name)))
        if not found and backend.full:
            found.append(("full", f"{backend.load_now} in flight"))
        if not found:
            return "ready", ""
        others = [f"also {state}" + (f" ({reason})" if reason else "") for state, reason in found[1:]]
        return found[0][0], "; ".join(part for part in (found[0][1], *others) if part)

    def _in_force(self, plane: DataPlane) -> Iterable[ChangeView]:
        for pool, changes in plane.overlay.pools.items():
            for backend, change in _changes_of(changes):
                by = self._states.by(pool, backend)
                yield ChangeView(
                    at=None if by is None else by.at,
                    actor="" if by is None else by.actor,
                    subject=f"{pool}/{backend}",
                    change=change,
                    reason="" if by is None else by.reason,
                )

    def events(self, after: int) -> Sequence[EventView]:
        """See Operator."""
        return self._events.after(after)

    def listen(self, hear: Hear) -> Hear:
        """See Operator."""
        return self._events.listen(hear)

    def unlisten(self, hear: Hear) -> None:
        """See Operator."""
        self._events.unlisten(hear)

    def left(self, pool: str, backend: str) -> Left:
        """See Operator."""
        plane = self._running
        cluster = self._cluster(pool)
        records = [one for one in cluster.pool.backends.values() if backend in (one.name, one.name.rpartition("@")[0])]
        records += [one for one in cluster.pool.leaving if backend in (one.name, one.name.rpartition("@")[0])]
        tunnels = sum(one.tunnels for one in records)
        return Left(
            requests=sum(one.in_flight for one in records) - tunnels,
            tunnels=tunnels,
            unsent=sum(plane.unsent_at(one) for one in records),
        )

    def explain(self, request_id: str) -> Mapping[str, Any] | None:
        """See Operator."""
        found = self._running.explain(request_id)
        return None if found is None else explained_json(found)

    def explained(self, kind: str, count: int) -> Mapping[str, Any]:
        """See Operator."""
        plane = self._running
        held = plane.questions.held()
        found = [explained_json(one) for one in plane.explained("recent" if kind == "last" else kind, count)]
        return {"requests": found, "held": held.requests, "oldest_at": held.oldest_at}

    def explain_next(self, pool: str) -> Mapping[str, Any]:
        """See Operator."""
        self._cluster(pool)
        return decision_json(self._running.explain_next(pool))

    def route(
        self, method: str, url: str, headers: Sequence[tuple[str, str]], client: str, listener: str | None
    ) -> Mapping[str, Any]:
        """See Operator."""
        plane = self._running
        if listener is not None and listener not in plane.frontends:
            detail = f'there is no listener "{one_line(listener)}"'
            raise NotFound("no_such_listener", detail, _hint(listener, plane.frontends))
        try:
            routed = routed_json(plane.route(method, url, headers, client, listener))
        except ValueError as error:
            raise Refused("bad_value", one_line(str(error))) from None
        except KeyError:
            raise NotFound("no_such_listener", "no listener has clients of its own") from None
        names = {name: self._place(number) for number, name in enumerate(plane.plan.routes)}
        looked_at: Any = routed["looked_at"]
        return {**routed, "looked_at": [{**one, "place": names.get(one["name"], "")} for one in looked_at]}

    def config(self) -> Sequence[ConfigValue]:
        """See Operator."""
        plane = self._running
        if not self._values:
            self._values = [
                ConfigValue(key, _shown(value), source) for key, value, source in self._owner.values_in_force()
            ]
        values = list(self._values)
        for change in self._in_force(plane):
            pool, _, backend = change.subject.partition("/")
            why = "".join(
                (f" by {change.actor}" if change.actor else "", f", “{change.reason}”" if change.reason else "")
            )
            key, _, value = change.change.partition(" ")
            values.append(ConfigValue(f"pools.{pool}.backends.{backend}.{key}", value, f"runtime{why}"))
        return values

    # What is changed.

    def command(self, command: Command, actor: Actor, *, dry_run: bool = False) -> Changed:
        """See Operator."""
        plane = self._steerable
        pool, name = command.pool, command.backend
        cluster = self._cluster(pool)
        self._known(cluster, name)
        views = [one for one in self._pool(cluster, plane.plan.pools[pool]).backends if _is_of(one, name)]
        before = [(one.admin, one.weight) for one in views]
        follows = self._follows(cluster, views, command)
        changes = []
        if command.admin is not None and any(admin != command.admin.value for admin, _ in before):
            changes.append(f"{_one([admin for admin, _ in before])} → {command.admin.value}")
        if command.weight is not None and any(weight != command.weight for _, weight in before):
            changes.append(f"weight {_one([str(weight) for _, weight in before])} → {command.weight}")
        if dry_run:
            return Changed(changes, follows)
        by = By(actor.name, self._wall(), actor.reason)
        with self._by(actor):
            if command.weight is not None:
                try:
                    plane.set_weight(pool, name, command.weight)
                except ValueError as error:
                    raise Refused("bad_value", one_line(str(error))) from None
                except KeyError:
                    raise Refused("bad_value", f"{pool}/{name}: an endpoint has no weight of its own") from None
            if changes:
                self._states.changed(pool, name, by)
            if command.admin is not None:
                plane.command(pool, name, command.admin)
        if command.admin is AdminState.READY and not plane.source(pool, name, "weight"):
            self._states.forget(pool, name)
        self._audit(actor, f"{pool}/{name}", "; ".join(changes) or "as it was")
        return Changed(changes, follows)

    def _follows(self, cluster: Cluster, views: Sequence[BackendView], command: Command) -> list[str]:
        """What follows of it; Refused where the pool would have nobody left."""
        out = command.admin in (AdminState.DRAIN, AdminState.MAINT) or command.weight == 0
        if not views:
            return []
        pool = self._pool(cluster, self._running.plan.pools[cluster.name])
        if not out:
            wanted = views[0].admin if command.admin is None else command.admin.value
            weight = views[0].weight if command.weight is None else command.weight
            # Several endpoints of one name are not said to take parts.
            return admitted(pool, views[0], weight) if wanted == "ready" and weight and len(views) == 1 else []
        names = {one.name for one in views}
        gone = replace(
            views[0],
            in_flight=sum(one.in_flight for one in views),
            tunnels=sum(one.tunnels for one in views),
            usable=any(one.usable for one in views),
            weight_effective=sum(one.weight_effective for one in views),
        )
        rest = [one for one in pool.backends if one.name not in names or one.name == gone.name]
        said = consequences(replace(pool, backends=rest), gone)
        others = any(one.usable for one in pool.backends if one.name not in names)
        if gone.usable and not others and not command.force:
            raise Refused("last_usable", f"{said[-1]}. Nothing was changed.", "All the same: --force")
        return said

    def add(self, pool: str, backend: Mapping[str, Any], actor: Actor) -> str:
        """See Operator."""
        plane = self._steerable
        self._cluster(pool)
        before = {spec.name for spec in plane.specs_of(pool)}
        try:
            with self._by(actor):
                self._owner.add_backend(pool, backend)
        except ValueError as error:
            text = one_line(str(error))
            raise Refused("exists" if "is there already" in text else "bad_value", text) from None
        name = next(spec.name for spec in plane.specs_of(pool) if spec.name not in before)
        self._states.changed(pool, name, By(actor.name, self._wall(), actor.reason))
        self._audit(actor, f"{pool}/{name}", "added")
        return name

    def remove(self, pool: str, backend: str, actor: Actor, *, force: bool = False) -> Changed:
        """See Operator."""
        plane = self._steerable
        cluster = self._cluster(pool)
        self._known(cluster, backend)
        views = [one for one in self._pool(cluster, plane.plan.pools[pool]).backends if _is_of(one, backend)]
        follows = self._follows(cluster, views, Command(pool, backend, AdminState.DRAIN, force=force))
        try:
            with self._by(actor):
                plane.remove_backend(pool, backend)
        except KeyError:
            raise Refused("bad_value", f"{pool}/{backend}: an endpoint of a name cannot be removed alone") from None
        if plane.source(pool, backend, "backend"):  # else it was added at run time, and nothing of it is left
            self._states.changed(pool, backend, By(actor.name, self._wall(), actor.reason))
        else:
            self._states.forget(pool, backend)
        self._audit(actor, f"{pool}/{backend}", "removed")
        return Changed([f"removed {pool}/{backend}"], follows)

    def reset(self, pool: str | None, backend: str | None, actor: Actor) -> Sequence[str]:
        """See Operator."""
        plane = self._steerable
        if pool is not None:
            self._cluster(pool)
        wanted = [
            (name, one, change)
            for name, changes in plane.overlay.pools.items()
            for one, change in _changes_of(changes)
            if pool in (None, name) and (backend is None or one == backend)
        ]
        if backend is not None and not wanted:
            self._known(self._cluster(pool or ""), backend)
        lines = []
        for name, one, change in wanted:
            with self._by(actor):
                plane.reset(name, one)
            self._states.forget(name, one)
            lines.append(f"{change} of {name}/{one}")
            self._audit(actor, f"{name}/{one}", f"reset: {change}")
        return lines

    def plan(self) -> "Deferred[Reloaded]":
        """See Operator."""
        return self._owner.reload_now(dry_run=True)

    def apply(self, actor: Actor) -> "Deferred[Reloaded]":
        """See Operator."""
        self._steerable  # noqa: B018, it refuses
        done = self._owner.reload_now(dry_run=False)
        self._audit(actor, "", "reload")
        return self.asked(actor.name, done)

    @property
    def _steerable(self) -> DataPlane:
        if self._owner.stopping:
            raise Refused("stopping", "the balancer stops; nothing is changed any more")
        return self._running

    def _cluster(self, pool: str) -> Cluster:
        clusters = self._running.clusters
        if pool not in clusters:
            raise NotFound("no_such_pool", f'there is no pool "{one_line(pool)}"', _hint(pool, clusters))
        return clusters[pool]

    def _known(self, cluster: Cluster, backend: str) -> None:
        names = list(cluster.pool.backends)
        if backend not in names and backend not in {spec.name for spec in self._running.specs_of(cluster.name)}:
            full = [f"{pool.name}/{name}" for pool in self._running.clusters.values() for name in pool.pool.backends]
            wanted = f"{cluster.name}/{backend}"
            raise NotFound("no_such_backend", f'there is no backend "{one_line(wanted)}"', _hint(wanted, full))

    @contextlib.contextmanager
    def _by(self, actor: Actor) -> Iterator[None]:
        """What happens meanwhile this one has done."""
        self._acting = actor.name
        try:
            yield
        finally:
            self._acting = ""

    def _audit(self, actor: Actor, subject: str, what: str) -> None:
        """Say in the log who has changed what, and why."""
        _log.info(
            "admin: {actor}{where}: {subject}{what}{reason}",
            actor=clean(actor.name),
            where=f" ({clean(actor.where)})" if actor.where else "",
            subject=f"{clean(subject)} " if subject else "",
            what=clean(what),
            reason=f": “{clean(actor.reason)}”" if actor.reason else "",
        )


_KEYS: Final = ("admin", "weight", "backend")


# What separates the fields of an audit line, and the quotes around its reason, as text from outside has them there.
_KEPT: Final = {**dict.fromkeys(",=\t\r\n", " "), "“": '"', "”": '"'}


def _nothing() -> None:
    """Nobody watches."""


def clean(text: str) -> str:
    """Text from outside on one line, without what could pass for another field of it."""
    return "".join(_KEPT.get(c, c) if c.isprintable() or c in _KEPT else "?" for c in text)[:MOST_REASON]


def _hint(name: str, names: Iterable[str]) -> str:
    found = similar(name, names)
    return f'did you mean "{found}"?' if found else ""


def _is_of(view: BackendView, name: str) -> bool:
    return name in (view.backend, view.backend.rpartition("@")[0])


def _one(values: Sequence[str]) -> str:
    """The one value of several backends, or all of them."""
    return "/".join(dict.fromkeys(values))


def _changes_of(changes: PoolOverlay) -> list[tuple[str, str]]:
    found = [(name, f"admin {admin.value}") for name, admin in changes.admin.items()]
    found += [(name, f"weight {changes.weight_of(name)}") for name in changes.weights]
    found += [(name, "added") for name in changes.added]
    return found + [(name, "removed") for name in changes.removed]


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


def _checks_of(plan: PoolPlan) -> str:
    checks = plan.checks
    if checks is None:
        return "none"
    http = checks.http
    asked = "connect" if http is None else f"{http.method.decode('ascii')} {http.path.decode('latin-1')}"
    return f"{asked} every {checks.interval_s:g} s"


def _total(values: Sequence[Any]) -> Any:
    known = [one for one in values if one is not None]
    return sum(known) if known else None


def _intended(backends: Sequence[BackendView]) -> list[BackendView]:
    """The backends with the share that their weights mean."""
    weight = sum(one.weight_effective for one in backends)
    return [replace(one, intended=one.weight_effective * 100 / weight if weight else 0.0) for one in backends]


def _shown(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, tuple | list):
        return ", ".join(map(_shown, value))
    if isinstance(value, Mapping):
        return ", ".join(f"{key}: {_shown(one)}" for key, one in value.items())
    address = getattr(value, "address", None)
    if address is not None:  # a backend, a listener's place
        name = getattr(value, "name", "")
        return f"{name} {address}" if name not in ("", str(address)) else str(address)
    return "" if value is None else str(value)
