"""The `Operator` of a process that balances itself, made of what runs there anyway."""

import os
import platform
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from twisted.internet.defer import Deferred, succeed

from twisted_lb import __version__
from twisted_lb.admin.history import Events, States
from twisted_lb.admin.operator import (
    Actor,
    BackendView,
    Changed,
    ChangeView,
    Command,
    ConfigValue,
    EventView,
    Hear,
    Left,
    NotFound,
    Refused,
    Reloaded,
    Sample,
    Snapshot,
    WorkerView,
)
from twisted_lb.admin.words import grave_flaws, verdict
from twisted_lb.answers import decision_json, explained_json, held_json, kind_of, routed_json
from twisted_lb.build_info import build
from twisted_lb.core.events import Event
from twisted_lb.core.histogram import NOTHING
from twisted_lb.core.measures import Beside, CertificateMeasures, Measures, ProcessMeasures
from twisted_lb.core.overlay import Overlay
from twisted_lb.data_plane import DataPlane
from twisted_lb.errors import one_line
from twisted_lb.operating.elsewhere import Counted, Elsewhere
from twisted_lb.operating.meters import Meters
from twisted_lb.operating.owner import Owner
from twisted_lb.operating.signatures import is_changed, signature_values, signatures_of
from twisted_lb.operating.steering import Steering
from twisted_lb.operating.texts import hint, quoted, shown, told
from twisted_lb.operating.views import Views
from twisted_lb.portions import Making, Portions, whole
from twisted_lb.probes import ProbeResult

# So often a snapshot in portions is begun anew, since something was changed meanwhile; then it is made at once.
_MOST_LOOKS: Final = 3


class Operating:
    """The operator of one data plane, see `Operator`. `changed` tells that runtime changes are others, `loaded` that a
    configuration is in force, `hear` and `probed` what the data plane says.
    """

    def __init__(self, owner: Owner, wall: Callable[[], float], time: Any, elsewhere: Elsewhere | None = None) -> None:
        self._owner: Final = owner
        self._elsewhere: Final = elsewhere
        self._counted: tuple[Measures, Counted] | None = None
        self._wall: Final = wall
        self._time: Final = time
        self._plane: DataPlane | None = None
        self._events: Final = Events(wall)
        self._states: Final = States(wall)
        self._meters: Final = Meters(time, self._counted_elsewhere, elsewhere)
        self._views: Final = Views(self._running, self._meters, self._states, owner.source_of, self._counted_elsewhere)
        self._steering: Final = Steering(owner, self._running, self._views, self._states, wall)
        self._portions: Final = Portions(time)
        self._began: Final = time.seconds()
        self._started_at: Final = wall()
        self._generation: int = 1
        self._changes: int = 0  # how often runtime changes were others
        self._loaded_at: float = wall()
        self._loaded_by: str = "start"
        self._asking: Final[list[str]] = []  # who has asked for the reload that is under way, or for the next one
        # All of this generation, which takes long to find out.
        self._values: list[ConfigValue] = []
        self._reloads: int = 0
        self._failed_reloads: int = 0
        self._reload_failed: bool = False

    def begin(self, plane: DataPlane, *, watched: bool = False) -> None:
        """The data plane is there. `watched`: the process does nothing else, so that a turn that takes long is worth a line."""
        self._plane = plane
        for pool, backend in list(self._states.signed):  # those of a restart before this one, as far as they still hold
            if not is_changed(plane.overlay, pool, backend):
                self._states.forget(pool, backend)
        self._meters.begin(plane, watched=watched)

    def recall(self, values: Any) -> None:
        """Who has changed what before this start, as `signatures` said then; to be called before the data plane is there."""
        for (pool, backend), by in signatures_of(values).items():
            self._states.changed(pool, backend, by)

    def signatures(self, overlay: Overlay) -> dict[str, Any]:
        """Who has made the changes of an overlay, as plain values; also after the end."""
        return signature_values(self._states.signed, overlay)

    def whose(self, pool: str, backend: str) -> str:
        """Who has changed something of a backend, for explanations: `by alice: “deploy”`; empty where nobody knows."""
        by = self._states.by(pool, backend)
        return "" if by is None else told(by.actor, by.reason)

    def end(self) -> None:
        """It is gone."""
        self._meters.end()
        self._plane = None

    def hear(self, event: Event) -> None:
        """Hear a change of state."""
        kind, subject, text = self._states.hear(event)
        actor = self._steering.whose(kind, subject)
        why = "" if actor is None else quoted(actor.reason)
        self._events.add(kind, subject, f"{text}: {why}" if why else text, "" if actor is None else actor.name)

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
        self._views.forget()
        self._values.clear()
        self._generation += 1
        self._loaded_at = self._wall()
        asking = " and ".join(dict.fromkeys(self._asking))
        self._loaded_by = asking or "reload"
        self._events.add("reload", "", f"generation {self._generation}: {'; '.join(lines)[:500]}", asking)

    def followed(self, text: str) -> None:
        """Another program was followed by this one."""
        self._events.add("upgrade", "", text, "")

    def reload_ended(self, *, failed: bool) -> None:
        """A reload is over."""
        self._reloads += not failed
        self._failed_reloads += failed
        self._reload_failed = failed

    def measures(self, *, exemplars: bool = False) -> tuple[Measures, ProcessMeasures]:
        """See Operator."""
        return whole(self._measuring(exemplars=exemplars))

    def measure(self, *, exemplars: bool = False) -> "Deferred[tuple[Measures, ProcessMeasures]]":
        """See Operator."""
        return self._portions.make(self._measuring(exemplars=exemplars))

    def _measuring(self, *, exemplars: bool) -> Making[tuple[Measures, ProcessMeasures]]:
        plane = self._running()
        beside, elsewhere = self._beside(plane), self._elsewhere
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
            loop_lag=beside.loop_lag,
            counters=(
                *beside.counters,
                ("workers", 0 if elsewhere is None else _serving(elsewhere.workers())),
                ("worker_restarts_total", 0 if elsewhere is None else elsewhere.restarts),
            ),
            certificates=tuple(
                CertificateMeasures(name, certificate, expires_at)
                for name, serving in plane.servings.items()
                for certificate, expires_at in serving.expires().items()
            ),
        )
        measures = yield from plane.measuring(exemplars=exemplars)
        return (measures if elsewhere is None else measures.merged(elsewhere.measures)), process

    def _beside(self, plane: DataPlane) -> Beside:
        """What is counted beside data planes: of workers, where there are any, what delays and holds requests is theirs."""
        memory, elsewhere = plane.runtime.memory, self._elsewhere
        own = Beside(
            (
                ("invariant_violations_total", plane.self_check.violations),
                ("log_dropped_total", self._owner.log_dropped),
                ("buffered_bytes", memory.taken),
                ("buffered_bytes_limit", memory.most),
                ("buffer_waits_total", memory.waits),
                ("buffer_denied_total", memory.denied),
                ("spans_sent_total", self._owner.spans_sent),
                ("spans_dropped_total", self._owner.spans_dropped),
            ),
            self._meters.loop_lag if elsewhere is None else NOTHING,
        )
        return own if elsewhere is None else own.merged(elsewhere.beside)

    @property
    def etag(self) -> str:
        """See Operator."""
        # What another start had is none of this one's.
        return f"{int(self._started_at * 1000):x}.{self._generation}.{self._changes}"

    def snapshot(self) -> Snapshot:
        """See Operator."""
        return whole(self._snapshot())

    def look(self) -> "Deferred[Snapshot]":
        """See Operator."""
        return self._portions.make(self._looked())

    def _looked(self) -> Making[Snapshot]:
        """A snapshot in portions: of one state, so that it is begun anew where something was changed meanwhile."""
        for _ in range(_MOST_LOOKS):
            etag = self.etag
            snapshot = yield from self._snapshot()
            if self.etag == etag:
                return snapshot
        return self.snapshot()

    def backends_called(self, pool: str, backend: str) -> Sequence[BackendView]:
        """See Operator."""
        cluster = self._running().clusters.get(pool)
        return [] if cluster is None else self._views.backends_called(cluster, backend)

    def _snapshot(self) -> Making[Snapshot]:
        plane = self._running()
        plans, pools = plane.plan.pools, []
        for name, cluster in list(plane.clusters.items()):
            pools.append((yield from self._views.pool(cluster, plans[name])))
        ready = self._owner.readiness()
        file, now = self._owner.changed_file(), self._wall()
        listeners = [self._views.listener(plane, name, now) for name in plane.frontends]
        return Snapshot(
            now=now,
            name=self._owner.operated_name,
            version=__version__,
            build=build(),
            pid=os.getpid(),
            ready=ready.ready,
            ready_text=ready.reason or "ready",
            uptime_s=self._time.seconds() - self._began,
            generation=self._generation,
            loaded_at=self._loaded_at,
            loaded_by=self._loaded_by,
            etag=self.etag,
            file=None if file is None else {"path": file[0], "changed_s": file[1], "changed": file[2]},
            verdict=verdict(pools, ready=ready.ready, why_not=ready.reason, flaws=grave_flaws(listeners)),
            listeners=listeners,
            routes=self._views.routes(plane),
            pools=pools,
            changes=list(self._views.in_force(plane)),
            warnings=self._owner.warnings,
            workers=self._workers(),
            worker_restarts=0 if self._elsewhere is None else self._elsewhere.restarts,
        )

    def _workers(self) -> Sequence[WorkerView]:
        """The workers, with what they did in the last minute."""
        if self._elsewhere is None:
            return ()
        rates, durations = self._meters.rates, self._meters.durations
        return [
            replace(
                one,
                rate=rates.per_s(("worker", one.pid)),
                lag_p99_ms=durations.quantile_ms(("worker", one.pid), 0.99),
            )
            for one in self._elsewhere.workers()
        ]

    def _running(self) -> DataPlane:
        if self._plane is None:
            raise Refused("stopping", "the balancer is not running")
        return self._plane

    def events(self, after: int) -> Sequence[EventView]:
        """See Operator."""
        return self._events.after(after)

    def listen(self, hear: Hear) -> Hear:
        """See Operator."""
        return self._events.listen(hear)

    def unlisten(self, hear: Hear) -> None:
        """See Operator."""
        self._events.unlisten(hear)

    def left(self, pool: str, backend: str, *, removed: bool = False) -> Left:
        """See Operator."""
        plane = self._running()
        cluster = self._steering.cluster(pool)
        every = [*cluster.pool.leaving, *(() if removed else cluster.pool.backends.values())]
        records = [one for one in every if backend in (one.name, one.name.rpartition("@")[0])]
        tunnels = sum(one.tunnels for one in records)
        in_flight = sum(one.in_flight for one in records)
        unsent = sum(plane.unsent_at(one) for one in records if one.in_flight)
        if self._elsewhere is not None:
            names = {one.name for one in records} or {backend}
            counted = self._counted_elsewhere()
            in_flight += sum(self._elsewhere.in_flight(pool, name) for name in names)
            tunnels = 0 if counted is None else min(sum(counted.tunnels(pool, name) for name in names), in_flight)
            # Some may not have heard of it yet.
            unsent += not self._elsewhere.settled
        return Left(
            requests=in_flight - tunnels,
            tunnels=tunnels,
            unsent=unsent,
            keeps_own=any(cluster.pool.keeps_own_s(one, plane.runtime.clock.read()) > 0 for one in records),
        )

    def _counted_elsewhere(self) -> Counted | None:
        """What other processes have counted, by name; None where there are none."""
        if self._elsewhere is None:
            return None
        measures = self._elsewhere.measures
        if self._counted is None or self._counted[0] is not measures:
            self._counted = measures, Counted(measures)
        return self._counted[1]

    def refresh(self, *, exemplars: bool = False) -> "Deferred[None]":
        """See Operator."""
        return succeed(None) if self._elsewhere is None else self._elsewhere.refresh(exemplars=exemplars)

    def explain(self, request_id: str) -> "Deferred[Mapping[str, Any] | None]":
        """See Operator."""
        plane = self._running()
        if self._elsewhere is not None:
            return self._elsewhere.explain(request_id)
        found = plane.explain(request_id)
        return succeed(None if found is None else explained_json(found))

    def explained(self, kind: str, count: int, *, decisions: bool = True) -> "Deferred[Mapping[str, Any]]":
        """See Operator."""
        plane = self._running()
        if self._elsewhere is not None:
            return self._elsewhere.explained(kind, count, decisions=decisions)
        told = plane.explained(kind_of(kind), count, decisions=decisions)
        return succeed(held_json(told, plane.questions.held()))

    def explain_next(self, pool: str) -> "Deferred[Mapping[str, Any]]":
        """See Operator."""
        self._steering.cluster(pool)
        plane = self._running()
        if self._elsewhere is not None:
            return self._elsewhere.explain_next(pool).addCallback(_said)
        return succeed(decision_json(plane.explain_next(pool)))

    def route(
        self, method: str, url: str, headers: Sequence[tuple[str, str]], client: str, listener: str | None
    ) -> "Deferred[Mapping[str, Any]]":
        """See Operator."""
        plane = self._running()
        if listener is not None and listener not in plane.frontends:
            detail = f'there is no listener "{one_line(listener)}"'
            raise NotFound("no_such_listener", detail, hint(listener, plane.frontends))
        try:
            routed = routed_json(plane.route(method, url, headers, client, listener))
        except ValueError as error:
            raise Refused("bad_value", one_line(str(error))) from None
        except KeyError:
            raise NotFound("no_such_listener", "no listener has clients of its own") from None
        names = {name: self._views.place(number) for number, name in enumerate(plane.plan.routes)}

        def placed(found: Mapping[str, Any]) -> Mapping[str, Any]:
            looked_at: Any = found["looked_at"]
            return {**found, "looked_at": [{**one, "place": names.get(one["name"], "")} for one in looked_at]}

        if self._elsewhere is not None:
            # It can be asked, as was just seen: turns, loads and limits are those of who moves requests.
            asked = self._elsewhere.route(method, url, headers, client, listener)
            return asked.addCallback(_said).addCallback(placed)
        return succeed(placed(routed))

    def config(self) -> Sequence[ConfigValue]:
        """See Operator."""
        plane = self._running()
        if not self._values:
            self._values = [
                ConfigValue(key, shown(value), source) for key, value, source in self._owner.values_in_force()
            ]
        changed = {one.key: one for one in map(self._changed, self._views.in_force(plane))}
        # Each key once: what was changed stands for what the file says.
        return [*(one for one in self._values if one.key not in changed), *changed.values()]

    def _changed(self, change: ChangeView) -> ConfigValue:
        """A runtime change as a value in force, with what the configuration says of it."""
        pool, _, backend = change.subject.partition("/")
        by = f" by {change.actor}" if change.actor else ""
        why = f", “{change.reason}”" if change.reason else ""
        key, _, value = change.change.partition(" ")
        path = f"pools.{pool}.backends.{backend}"
        else_ = self._views.said(pool, backend, key)
        said = f"; {else_}" if else_ else ""
        return ConfigValue(f"{path}.{key}" if value else path, value or key, f"runtime{by}{why}{said}")

    def plan(self) -> "Deferred[Reloaded]":
        """See Operator."""
        return self._owner.reload_now(dry_run=True)

    def apply(self, actor: Actor) -> "Deferred[Reloaded]":
        """See Operator."""
        self._steering.steerable()
        done = self._owner.reload_now(dry_run=False)
        self._steering.audit(actor, "", "reload")
        return self.asked(actor.name, done)

    def upgrade(self, actor: Actor) -> "Deferred[int]":
        """See Operator."""
        self._steering.steerable()
        self._steering.audit(actor, "", "upgrade")
        return self._owner.upgrade_now()

    def sample(self) -> Sample:
        """See Operator."""
        return self._meters.sample(self._running())

    def command(self, command: Command, actor: Actor, *, dry_run: bool = False) -> Changed:
        """See Operator."""
        return self._steering.command(command, actor, dry_run=dry_run)

    def add(self, pool: str, backend: Mapping[str, Any], actor: Actor) -> str:
        """See Operator."""
        return self._steering.add(pool, backend, actor)

    def remove(self, pool: str, backend: str, actor: Actor, *, force: bool = False) -> Changed:
        """See Operator."""
        return self._steering.remove(pool, backend, actor, force=force)

    def reset(self, pool: str | None, backend: str | None, actor: Actor, *, force: bool = False) -> Sequence[str]:
        """See Operator."""
        return self._steering.reset(pool, backend, actor, force=force)


def _serving(workers: Sequence[WorkerView]) -> int:
    return sum(one.state == "serves" for one in workers)


def _said(found: Mapping[str, Any] | None) -> Mapping[str, Any]:
    """What a process has answered; Refused where none has."""
    if found is None:
        raise Refused("busy", "no worker answers")
    return found
