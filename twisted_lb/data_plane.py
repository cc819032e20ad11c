"""The data plane: a runtime and a plan become frontends, clusters and listeners. The one place where each part is made."""

import dataclasses
import socket
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Final

from twisted.internet.defer import Deferred
from twisted.internet.task import LoopingCall

from twisted_lb import __version__
from twisted_lb.access_log.around import Standing
from twisted_lb.access_log.log import AccessLog, Line
from twisted_lb.agent_check import AgentCheck
from twisted_lb.certificate_watch import CertificateWatch
from twisted_lb.checks import Checks
from twisted_lb.core.backend import AdminState, Backend, BackendSpec
from twisted_lb.core.decision import Decision
from twisted_lb.core.events import Event, LevelsShifted, LimitSpared, PoolExhausted
from twisted_lb.core.exemplars import exemplars_of
from twisted_lb.core.explaining import Explained
from twisted_lb.core.flow import Flow, bury
from twisted_lb.core.gate import Gate
from twisted_lb.core.measures import Measures, PoolMeasures, listener_measures, measuring_pool
from twisted_lb.core.never import NEVER
from twisted_lb.core.notes import Notes
from twisted_lb.core.overlay import Overlay
from twisted_lb.core.record import Observer, Observers
from twisted_lb.core.snapshot import PoolSnapshot
from twisted_lb.core.trace import Trace
from twisted_lb.draining import Drain
from twisted_lb.grpc_check import GrpcCheck
from twisted_lb.http2_check import Http2Check
from twisted_lb.http_check import HttpCheck
from twisted_lb.leaving import Leaving
from twisted_lb.net.arrival import Arrivals
from twisted_lb.net.challenges import Challenges
from twisted_lb.net.cluster import Cluster
from twisted_lb.net.frontend import Frontend
from twisted_lb.net.greeting import Greetings, server_name_of
from twisted_lb.net.listener import Listener, address_of
from twisted_lb.net.protocols import Protocols
from twisted_lb.net.routing import Action, RouteTable
from twisted_lb.net.runtime import Runtime
from twisted_lb.net.settings import H1, H2
from twisted_lb.planned import CheckPlan, ListenerPlan, Plan, PoolPlan
from twisted_lb.portions import Making, whole
from twisted_lb.probes import Connecting, NetworkProbe, ProbeResult, Question
from twisted_lb.questions import Questions, Routed
from twisted_lb.request_log import BriefRequestLog, log_request
from twisted_lb.routes import Routes
from twisted_lb.script_check import ScriptCheck
from twisted_lb.self_check import SelfCheck
from twisted_lb.severing import left_backups, sever_backups, sever_lost
from twisted_lb.target_lists import Provide, TargetLists, nobody
from twisted_lb.tls.outgoing import Outgoing
from twisted_lb.tls.serving import Serving
from twisted_lb.tls.settings import TlsSettings
from twisted_lb.tracing.spans import Tracer

# How often pools look for what time makes due: trials of ejected backends, say.
_TICK_S: Final = 0.25
_AGENT: Final = f"twisted_lb-check/{__version__}"


def _no_limit(_backends: int) -> int:
    return 1 << 62


def _not_told(_pool: str, _backend: str, _result: ProbeResult) -> None:
    """Nobody wants to know."""


def _not_said(_pool: str, _backend: str, _said: bytes | None) -> None:
    """Nobody wants to know."""


def _nowhere(_line: bytes) -> None:
    """Nobody takes lines of the access log."""


def _no_spans(_texts: bytes, _count: int) -> None:
    """Nobody takes spans."""


class DataPlane:
    """The parts that move requests, from their making to `close`. It knows no Twisted service and no global reactor.

    `sockets` are the bound ones of each listener, by its name; a listener without sockets gets its requests from a
    resource that brings them to its frontend. `room` says how many connections clients may have where the plan names no
    number, beside so many backends. `overlay`: what was changed at run time before this one began, of which `dropped` does not
    hold any more; `changed` is called whenever it is another one. `probed` is told each result of a check: pool, backend, and
    what it was; `agent_said` what an agent says at a port of its own, None where it says nothing. `provide` makes what follows a pool's target list. With `accepting` off clients are taken in from `accept` on.
    `count_descriptors`: the process has those of its poller, and hardly any others. `hear` is told every change of state of
    the backends, `observers` the record of each request that has ended, or was refused; `log_line` the lines of the access log,
    `send_spans` the spans of a request, where the plan wants any, as JSON, and their number. `whose` says who has changed a
    backend at run time, and why: `by alice: “deploy”`. `hand_on` is asked of each connection that was accepted, by its listener and
    descriptor: True where another process has it now.
    """

    def __init__(
        self,
        runtime: Runtime,
        plan: Plan,
        sockets: Mapping[str, Sequence[socket.socket]] | None = None,
        *,
        hear: Callable[[Event], None],
        observers: tuple[Observer, ...] = (),
        room: Callable[[int], int] = _no_limit,
        accepting: bool = True,
        overlay: Overlay | None = None,
        changed: Callable[[], None] = lambda: None,
        provide: Provide = nobody,
        probed: Callable[[str, str, ProbeResult], None] = _not_told,
        agent_said: Callable[[str, str, bytes | None], None] = _not_said,
        count_descriptors: bool = False,
        log_line: Line = _nowhere,
        send_spans: Callable[[bytes, int], None] = _no_spans,
        whose: Callable[[str, str], str] = lambda _pool, _backend: "",
        hand_on: Callable[[str, int], bool] | None = None,
    ) -> None:
        self.runtime: Final = runtime
        self.plan: Plan = plan
        self.leaving: Final = Leaving()
        self.overlay: Overlay = Overlay() if overlay is None else overlay
        self._changed: Final = changed
        self._whose: Final = whose
        self._hand_on: Final = hand_on
        self._probed: Final = probed
        self._agent_said: Final = agent_said
        # By pool: what the file says, or an update has; that and what its list says; and that with what was changed at run time.
        self._own: dict[str, tuple[BackendSpec, ...]] = {}
        self._bases: dict[str, tuple[BackendSpec, ...]] = {}
        self._specs: dict[str, list[BackendSpec]] = {}
        self._hear: Final = hear
        self._telling = True
        self._accepting = accepting
        self._given: Final = observers
        self._room: Final = room
        self._brief_log: BriefRequestLog | None = None
        self._standing: Final = Standing()
        self.access_log: Final = AccessLog(self._standing, runtime.wall.read, runtime.stream("access log"), log_line)
        self._tracer: Final = Tracer(send_spans, runtime.wall.read, runtime.clock.read, runtime.new_id, self._trace)
        self._probes: Final[dict[Cluster, NetworkProbe]] = {}
        self._agents: Final[dict[Cluster, NetworkProbe]] = {}  # which ask agents at a port of their own
        self.clusters: dict[str, Cluster] = {}
        self.targets: Final = TargetLists(provide, self._listed)
        self.routing: Final = Routes(runtime)
        self.notes: Final = Notes(runtime.share.number + 1, runtime.share.of)
        self.frontends: dict[str, Frontend] = {}
        self.servings: dict[str, Serving] = {}  # of those that speak TLS
        self._certificate_watch: Final = CertificateWatch(runtime.wall.read)
        self.greetings: dict[str, Greetings] = {}  # of the pools whose backends are greeted
        self.listeners: dict[str, list[Listener]] = {}
        # By listener, where workers accept for it.
        self.accepted_elsewhere: Mapping[str, Sequence[socket.socket]] = {}
        self._ticking: Final = LoopingCall(self._tick)
        self._ticking.clock = runtime.time
        self._draining: Drain | None = None
        poller = runtime.poller if count_descriptors else None
        self.self_check: Final = SelfCheck(
            lambda: (self._all_frontends, [*self.clusters.values(), *self.leaving.clusters]),
            None if poller is None else lambda: poller.watched,
        )
        self._counting: Final[dict[Frontend, None]] = {}  # those with flows that no pool has taken over, an ordered set
        self._begin(plan, None, sockets or {})
        self._ticking.start(_TICK_S, now=False)

    # The parts.

    def _observers(self, log_requests: str) -> Observers:
        """Who is told of requests: those that were given, and the log."""
        before = self._brief_log
        if (before is not None) is not (log_requests == "brief"):
            self._brief_log = BriefRequestLog() if log_requests == "brief" else None
            if before is not None:
                before.tick(NEVER)
        if log_requests == "all":
            return Observers((*self._given, log_request))
        if log_requests == "failed":
            return Observers(self._given, (log_request,))
        # Brief is what went wrong: a client that just leaves is not.
        return Observers(self._given, () if self._brief_log is None else (self._brief_log,), leavers=False)

    def _with_access_log(self, told: Observers, listener: ListenerPlan) -> Observers:
        """The same, and the access log where it has requests of this listener."""
        observer = self.access_log.observer(listener.log)
        return told if observer is None else Observers((*told.of_all, observer), told.of_failures)

    def _with_tracer(self, told: Observers, plan: Plan) -> Observers:
        """The same, and whoever makes spans, where they are wanted."""
        return told if plan.traces is None else Observers((*told.of_all, self._tracer.observe), told.of_failures)

    def _trace(self, fields: bytes) -> Trace:
        """The trace of a request that went to no backend."""
        rules = self.plan.traces
        return self.runtime.trace(fields, -1.0 if rules is None else rules.ratio)

    def _cluster(self, name: str, pool: PoolPlan) -> Cluster:
        return Cluster(
            name, self.runtime, pool.upstream, pool.policy, pool.settings, self._heard_event, pool.queue, pool.affinity
        )

    def _checks(self, cluster: Cluster, pool: PoolPlan, plan: CheckPlan) -> Checks:
        probe = self._probes[cluster] = self._probe(_question(pool))
        self._greet(probe, cluster, pool)

        def heard(backend: str, result: ProbeResult) -> None:
            self._probed(cluster.name, backend, result)
            _hear_probe(cluster, backend, result)

        return self._asking(probe, heard, f"checks {cluster.name}", plan, plan.port)

    def _probe(self, question: Question) -> NetworkProbe:
        runtime = self.runtime
        return NetworkProbe(runtime.dial, runtime.deadlines, runtime.clock.read, question)

    def _greet(self, probe: NetworkProbe, cluster: Cluster, pool: PoolPlan) -> None:
        """Have a pool's checks greet backends as its traffic does, for the host that they ask for."""
        probe.greetings = cluster.greetings
        probe.http2, probe.needs_http2 = _question_in_http2(pool), pool.upstream.protocol == H2
        asked = None if pool.checks is None else pool.checks.http
        probe.host = "" if asked is None else server_name_of(asked.host)

    def _asking(
        self,
        probe: NetworkProbe,
        heard: Callable[[str, ProbeResult], None],
        stream: str,
        plan: CheckPlan,
        port: int | None,
    ) -> Checks:
        return Checks(
            probe,
            self.runtime.time,
            heard,
            self.runtime.stream(stream),
            interval_s=plan.interval_s,
            timeout_s=plan.timeout_s,
            down_interval_s=plan.down_interval_s,
            port=port,
        )

    def _ask_agents(self, cluster: Cluster, plan: CheckPlan | None, before: CheckPlan | None) -> None:
        """Have a pool's agents asked at their port, where it has one for them; who goes on keeps its turns."""
        agents = cluster.agents
        if plan is None or plan.agent_port is None:
            if agents is not None:
                cluster.ask_agents_by(None)
                self._agents.pop(cluster).close()
        elif not isinstance(agents, Checks):
            probe = self._agents[cluster] = self._probe(AgentCheck())

            def heard(backend: str, result: ProbeResult) -> None:
                self._agent_said(cluster.name, backend, result.said)
                cluster.hear_agent(backend, result.said)

            cluster.ask_agents_by(self._asking(probe, heard, f"agents {cluster.name}", plan, plan.agent_port))
        elif plan != before:
            agents.configure(
                interval_s=plan.interval_s,
                timeout_s=plan.timeout_s,
                down_interval_s=plan.down_interval_s,
                port=plan.agent_port,
            )
            cluster.point_checks()

    def _frontend(self, name: str, listener: ListenerPlan, table: RouteTable, told: Observers) -> Frontend:
        gate = Gate(
            self._most(listener),
            listener.connections_per_client,
            name,
            self.runtime.share,
            together=listener.connections is not None,
        )
        return Frontend(name, self.runtime, listener.rules, table, gate, told, self.notes)

    def _most(self, listener: ListenerPlan) -> int:
        if listener.connections is not None:
            return listener.connections
        return self._room(sum(map(len, self._specs.values())))

    def _listener(self, frontend: Frontend, sock: socket.socket) -> Listener:
        runtime = self.runtime
        assert runtime.poller is not None, "sockets need a poller"
        return Listener(
            runtime.poller,
            sock,
            Protocols(frontend).plain,
            runtime.later,
            frontend.gate,
            frontend.make_room,
            self._arrivals(frontend),
        )

    def _arrivals(self, frontend: Frontend) -> Arrivals:
        """How the connections of a frontend arrive that have to show who they are, or speak TLS."""
        runtime = self.runtime
        assert runtime.poller is not None, "sockets need a poller"
        return Arrivals(frontend, runtime.poller, Protocols(frontend))

    # Its life.

    @property
    def accepting(self) -> bool:
        """Whether clients are taken in."""
        return self._accepting

    def accept(self) -> None:
        """Accept clients from now on. Harmless when it does."""
        if not self._accepting:
            now = self.runtime.clock.read()
            for cluster in self.clusters.values():
                cluster.pool.finish_tables(now)  # nobody waits yet
        self._accepting = True
        for listener in self._all_listeners:
            listener.start()

    def _tick(self) -> None:
        frontends = self._all_frontends
        for cluster in self.clusters.values():
            cluster.tick()
            sever_lost(cluster, frontends, self.runtime.clock.now, self._heard_event)
        plan, now = self.plan, self.runtime.clock.read()
        times = plan.drain_s, plan.tunnel_drain_s
        for cluster in self.leaving.tick(now, *times, self.frontends.values(), self.clusters.values()):
            self._end_probe(cluster)
        self.notes.tick(now)
        for news in self.routing.tick(now):
            self._hear(news)
        if self._brief_log is not None:
            self._brief_log.tick(self.runtime.clock.read())
        self.self_check.tick(now)
        self.access_log.tick(now)
        self._certificate_watch.tick(now, self.plan)
        for serving in self.servings.values():
            serving.age(now)

    def _heard_event(self, event: Event) -> None:
        # The first backends of a pool, and the last ones of one that goes, are no news.
        if self._telling and (isinstance(event, LimitSpared) or event.pool in self.clusters):
            self._hear(event)
            cluster = self.clusters.get(event.pool) if isinstance(event, LevelsShifted) else None
            if cluster is not None and left_backups(cluster, event):
                # Behind this turn, which may be that of one of those that are cut.
                self.runtime.soon(partial(self._leave_backups, cluster))

    def _leave_backups(self, cluster: Cluster) -> None:
        sever_backups(cluster, self._all_frontends, self.runtime.clock.now, self._heard_event)

    # Another generation of the configuration.

    def apply(self, plan: Plan, sockets: Mapping[str, Sequence[socket.socket]] | None = None) -> None:
        """Apply another generation of the configuration (reload), in one step.

        Which parts have changed is told by identity: what is the same object in the plan before is not touched. An exchange
        that runs keeps the route it was led by, a connection goes by its listener's rules from its next request on, pools
        claim and connect by theirs at once. What is taken away is leaving: see `Leaving`.

        `sockets` are those of each listener from now on, as at the start; left out: listeners that stay keep theirs. One that
        is open stays open, also where it is another listener's now: whom it has accepted stays where he is. One that is not
        wanted any more is accepted empty and closed.
        """
        if sockets is None:
            sockets = {name: [one.sock for one in self.listeners.get(name, ())] for name in plan.listeners}
        before, self.plan = self.plan, plan
        self._begin(plan, before, sockets)

    def fate_of_changes(self, plan: Plan) -> tuple[list[str], list[str]]:
        """Which runtime changes `apply` would keep with this plan, and which it would drop, one line each."""
        left, dropped = self._followed(plan, self._bases_by(plan, self.plan))
        return left.lines(), dropped

    def _followed(self, plan: Plan, bases: Mapping[str, Sequence[BackendSpec]]) -> tuple[Overlay, list[str]]:
        """What is left of the runtime changes where a plan's pools have these backends, and what is dropped."""
        most = {name: pool.settings.said_limit for name, pool in plan.pools.items()}
        return self.overlay.followed(bases, self.targets.unknown(plan.pools), most)

    def _bases_by(self, plan: Plan, before: Plan | None) -> dict[str, tuple[BackendSpec, ...]]:
        """By pool, the backends without runtime changes."""
        own = self._own_by(plan, before)
        return {name: self._joined(name, pool, own[name]) for name, pool in plan.pools.items()}

    def _joined(self, name: str, pool: PoolPlan, own: tuple[BackendSpec, ...]) -> tuple[BackendSpec, ...]:
        """The backends of a pool, its own and those of its list, each with its limit."""
        found, most = self.targets.joined(name, pool.targets, own), pool.settings.max_in_flight
        return (
            tuple([one if one.limit is not None else dataclasses.replace(one, limit=most) for one in found])
            if most
            else found
        )

    def _own_by(self, plan: Plan, before: Plan | None) -> dict[str, tuple[BackendSpec, ...]]:
        """By pool, the backends without those of its list. A plan that says nothing new of them leaves what an update has said."""
        own = {name: pool.backends for name, pool in plan.pools.items()}
        for name, backends in self._own.items():
            if before is not None and name in own and before.pools[name].backends == own[name]:
                own[name] = backends
        return own

    def _begin(self, plan: Plan, before: Plan | None, sockets: Mapping[str, Sequence[socket.socket]]) -> None:
        now = self.runtime.clock.read()
        own, bases = self._own_by(plan, before), self._bases_by(plan, before)
        overlay, dropped = self._followed(plan, bases)
        # First everything is made, which touches nothing that runs.
        providers = self.targets.made(plan.pools)
        made = {name: self._cluster(name, pool) for name, pool in plan.pools.items() if name not in self.clusters}
        clusters = {name: made.get(name) or self.clusters[name] for name in plan.pools}
        told = self._with_tracer(self._observers(plan.log_requests), plan)
        tables = self.routing.follow(plan, clusters)
        frontends = {
            name: self.frontends.get(name) or self._frontend(name, listener, tables[name], told)
            for name, listener in plan.listeners.items()
        }
        servings = {
            name: _serving(listener.tls, self.servings.get(name))
            for name, listener in plan.listeners.items()
            if listener.tls is not None
        }
        greetings = {
            name: _greetings(pool, self.greetings.get(name))
            for name, pool in plan.pools.items()
            if pool.tls is not None or pool.proxy
        }
        gone = [one for name, one in self.frontends.items() if name not in plan.listeners]
        retired = [one for name, one in self.clusters.items() if name not in plan.pools]
        # And now nothing can fail any more.
        self.runtime.memory.bound(plan.memory_bytes)
        self._own, self._bases, self.overlay = own, bases, overlay
        self.targets.follow(plan.pools, providers)
        self.greetings = greetings
        for name, pool in plan.pools.items():
            self._begin_pool(clusters[name], pool, None if before is None else before.pools.get(name))
        self.clusters = clusters
        for name in made:
            if clusters[name].pool.exhausted:  # as with health_check.initial "down"
                self._hear(PoolExhausted(name, now))
        for cluster in retired:
            self._specs.pop(cluster.name, None)
        self.access_log.follow(plan.access_log, {name: route.log for name, route in plan.routes.items()})
        for name, listener in plan.listeners.items():
            self._lead(frontends[name], listener, tables[name], self._with_access_log(told, listener))
            frontends[name].serving = servings.get(name)
        self.servings = servings
        self._serve_on(sockets, frontends)
        for frontend in gone:
            self.leaving.close(frontend, now)
        for cluster in retired:
            self.leaving.retire(cluster)
        self._counting.update(dict.fromkeys(frontends.values()))
        self._bury_flows()
        pools = {name: one.pool for name, one in clusters.items()}
        self._standing.follow([(one.name, one.clients) for one in self._all_frontends], pools)
        if dropped:
            self._changed()

    def _bury_flows(self) -> None:
        """Let go of what was counted for routes and listeners that are gone; their pools keep the sums."""
        kept = {(name, pool) for name, action in self.routes.items() for pool in (*action.pools, "")} | {("", "")}
        serving, present = set(self.frontends.values()), set(self._all_frontends)
        for frontend in list(self._counting):
            gone = frontend not in present
            if not gone and frontend not in serving:
                continue  # it leaves, and its clients may still ask by the routes that it had
            for flow in frontend.flows.forget(() if gone else kept):
                cluster = self.clusters.get(flow.pool)
                if cluster is not None:
                    bury(flow, cluster.pool.totals)
            for pool in [one for one in frontend.flows.gone if one and one not in self.clusters]:
                del frontend.flows.gone[pool]
            if gone and not frontend.flows.all:
                del self._counting[frontend]

    def _begin_pool(self, cluster: Cluster, pool: PoolPlan, before: PoolPlan | None) -> None:
        """Have a pool's plan in force; `before` is the one that was."""
        name = cluster.name
        specs = self.overlay.over(name, self._bases[name])
        others = None if specs == self._specs.get(name) else specs
        self._specs[name] = specs
        cluster.greet_by(self.greetings.get(name))
        if before is None:
            self._check(cluster, pool, None)
            cluster.update(specs)
        elif before is not pool:
            cluster.pool.choose_by(pool.policy)
            cluster.configure(pool.upstream, pool.settings, others, pool.queue, pool.affinity)
            self._check(cluster, pool, before.checks)
        self.targets.say_twice(name, self._own[name])
        self._command(cluster)

    def _command(self, cluster: Cluster) -> None:
        """Have the admin states in force that were set at run time, also of backends that have just come."""
        changes = self.overlay.of(cluster.name)
        for backend, admin in changes.admin.items():
            # A list or a name server may have yet to name it.
            cluster.expect(backend, admin, by=self._whose(cluster.name, backend))
        for backend in changes.weights:
            if by := self._whose(cluster.name, backend):
                cluster.weighed(backend, by)

    def _check(self, cluster: Cluster, pool: PoolPlan, before: CheckPlan | None) -> None:
        """Have a pool's checks in force; those that go on keep their turns."""
        plan, checks = pool.checks, cluster.checks
        self._ask_agents(cluster, plan, before)
        if plan is None:
            if checks is not None:
                cluster.check_by(None)
                self._end_probe(cluster)
        elif not isinstance(checks, Checks):
            cluster.check_by(self._checks(cluster, pool, plan))
        else:
            self._probes[cluster].question = _question(pool)
            self._greet(self._probes[cluster], cluster, pool)
            if plan != before:
                checks.configure(
                    interval_s=plan.interval_s,
                    timeout_s=plan.timeout_s,
                    down_interval_s=plan.down_interval_s,
                    port=plan.port,
                )
                cluster.point_checks()

    def _end_probe(self, cluster: Cluster) -> None:
        for probes in (self._probes, self._agents):
            probe = probes.pop(cluster, None)
            if probe is not None:
                probe.close()

    def _lead(self, frontend: Frontend, listener: ListenerPlan, table: RouteTable, told: Observers) -> None:
        """Have a listener's plan in force."""
        frontend.client_rules = listener.rules
        frontend.arrival_rules = listener.arrival
        frontend.handshakes.configure(listener.handshakes)
        frontend.challenges = None if listener.acme_webroot is None else Challenges(listener.acme_webroot)
        frontend.tcp = listener.tcp
        frontend.http2 = "h2" in listener.versions
        frontend.http1 = "http/1.1" in listener.versions
        frontend.sessions = self.routing.sessions.get(frontend.name)
        frontend.go_by(table)
        frontend.observers = told
        self._bound(frontend, listener)

    def _bound(self, frontend: Frontend, listener: ListenerPlan) -> None:
        together = listener.connections is not None
        frontend.gate.configure(self._most(listener), listener.connections_per_client, together=together)

    def look_elsewhere(self) -> None:
        """Other processes may have room now for clients and bodies, or need some."""
        self.runtime.memory.look_elsewhere()
        for frontend in self.frontends.values():
            frontend.gate.look_elsewhere()
            if frontend.gate.awaited_elsewhere:
                frontend.make_room()

    def _serve_on(self, sockets: Mapping[str, Sequence[socket.socket]], frontends: dict[str, Frontend]) -> None:
        """Serve clients at these sockets and no others: O(sockets)."""
        before = self.frontends
        open_ = {one.sock: (one, before[name]) for name, ones in self.listeners.items() for one in ones}
        listeners: dict[str, list[Listener]] = {}
        for name, wanted in sockets.items():
            frontend = frontends[name]
            listeners[name] = []
            for sock in wanted:
                listener, owner = open_.pop(sock, (None, None))
                if listener is None:
                    listener = self._listener(frontend, sock)
                elif owner is not frontend:
                    arrivals = self._arrivals(frontend)
                    listener.lead_to(Protocols(frontend).plain, frontend.gate, frontend.make_room, arrivals)
                listener.keep_alive(self.plan.listeners[name].tcp_keepalive)
                if self._hand_on is not None:
                    listener.hand_on = partial(self._hand_on, name)
                listeners[name].append(listener)
        self.frontends, self.listeners = frontends, listeners
        for listener, _ in open_.values():
            listener.stop()
        if self._accepting:
            self.accept()

    def update(self, pool: str, backends: Iterable[BackendSpec]) -> None:
        """Replace the backends of a pool that are its own, until a plan has others: its picker, connections and checks are told
        alike. Those of its list stay. What was changed at run time stays changed, as it does with a plan.
        """
        self._rebase(pool, tuple(backends))

    def _listed(self, pool: str) -> list[str]:
        """The list of a pool says something else: see `TargetLists`."""
        return self._rebase(pool, self._own[pool])

    def _rebase(self, pool: str, own: tuple[BackendSpec, ...]) -> list[str]:
        """Have these backends of its own in a pool, those of its list and what was changed at run time; what is dropped of that."""
        base = self._joined(pool, self.plan.pools[pool], own)
        overlay, dropped = self._followed(self.plan, {**self._bases, pool: base})
        self._have(pool, overlay.over(pool, base))
        self._own[pool], self._bases[pool], self.overlay = own, base, overlay
        self.targets.say_twice(pool, own)
        self._command(self.clusters[pool])
        if dropped:
            self._changed()
        return dropped

    def _have(self, pool: str, specs: list[BackendSpec]) -> None:
        """Have these backends in a pool, and as many clients as there is room for beside them."""
        self.clusters[pool].update(specs)
        before, self._specs[pool] = self._specs[pool], specs
        if len(specs) != len(before):
            for name, listener in self.plan.listeners.items():
                self._bound(self.frontends[name], listener)

    # What is changed at run time.

    def command(self, pool: str, backend: str, admin: AdminState, by: str = "") -> None:
        """Set what the operator wants of a backend, until it is set to READY, or reset. `by` says who it was, and why, for
        explanations: `by alice: “deploy”`. KeyError when there is none.
        """
        self._cluster_of(pool).command(backend, admin, by=by)
        self.overlay.command(pool, backend, admin)
        self._changed()

    def set_weight(self, pool: str, backend: str, weight: int, by: str = "") -> None:
        """Set a backend's weight, until the file says another one than now; 0: it gets no new requests. `by`: as above. KeyError
        when there is none, ValueError for what is no weight.
        """
        cluster = self._cluster_of(pool)
        self.overlay.weigh(pool, backend, weight, self._bases[pool])
        self._respecify(pool)
        cluster.weighed(backend, by)

    def set_limit(self, pool: str, backend: str, limit: int) -> None:
        """Set how many requests a backend may have in flight, until the file says another number than now; 0: no bound, ADAPTIVE: it is learnt. What is
        beyond a lower one goes on. KeyError when there is none, ValueError for what is no limit.
        """
        self._cluster_of(pool)
        self.overlay.limit(pool, backend, limit, self._bases[pool], self.plan.pools[pool].settings.said_limit)
        self._respecify(pool)

    def add_backend(self, pool: str, spec: BackendSpec) -> None:
        """Add a backend, or take one back that was removed at run time; once it is in the file it is the file's. ValueError
        when its name or address is there already.
        """
        self._cluster_of(pool)
        self.overlay.add(pool, spec, self._bases[pool])
        self._respecify(pool)

    def remove_backend(self, pool: str, backend: str) -> None:
        """Remove a backend, until it is added again or reset, or the file does not have it any more. KeyError when there is
        none.
        """
        self._cluster_of(pool)
        self.overlay.remove(pool, backend, self._bases[pool])
        self._respecify(pool)

    def reset(self, pool: str, backend: str) -> None:
        """Go by the file again in all that concerns a backend. KeyError when there is no such pool."""
        cluster = self._cluster_of(pool)
        if self.overlay.reset(pool, backend):
            cluster.expect(backend, self.overlay.admin(pool, backend))
            self._respecify(pool)

    def source(self, pool: str, backend: str, key: str) -> str:
        """Where a value of a backend comes from (`admin`, `weight`, `limit`, or `backend`: whether it is there): "runtime", or
        empty for what the configuration says.
        """
        return self.overlay.source(pool, backend, key)

    def _cluster_of(self, pool: str) -> Cluster:
        if pool not in self.clusters:
            raise KeyError(f"no pool is called {pool}")
        return self.clusters[pool]

    def _respecify(self, pool: str) -> None:
        """The overlay has changed: have the backends that follow from it."""
        specs = self.overlay.over(pool, self._bases[pool])
        if specs != self._specs[pool]:
            self._have(pool, specs)
        self._changed()

    # A stop.

    def drain(self, max_s: float, *, handed_on: bool = False) -> Deferred[None]:
        """Graceful drain: stop listening, let exchanges finish, fire when no client is left, after `max_s` seconds, or
        at `hurry`. Who is left then is cut by `close`. `handed_on`: see `Listener.stop`.
        """
        self.runtime.clock.read()  # nothing may have happened for a while
        self.targets.stop()
        self._accepting = False
        for frontend in self._all_frontends:
            frontend.draining = True
        for listener in self._all_listeners:
            listener.stop(handed_on=handed_on)
        if self.runtime.poller is not None:
            self.runtime.poller.flush()
        for frontend in self._all_frontends:
            frontend.drain()
        self._draining = Drain(self, self.runtime.time, max_s)
        return self._draining.done

    def hurry(self) -> None:
        """End the drain: it has lasted long enough."""
        if self._draining is not None:
            self._draining.hurry()

    def tell_good_bye(self, part: float) -> None:
        """Tell such a part of the clients of tunnels that we go away, where the protocol has words for it (WebSocket)."""
        for frontend in self._all_frontends:
            frontend.tell_good_bye(part)

    def close(self) -> None:
        """Cut the clients and exchanges that are left, and let go of everything but the runtime."""
        self.targets.stop()
        for frontend in self._all_frontends:
            frontend.kill()
        # A resource may outlive the data plane: its requests get a local reply from now on. No news of the backends.
        self._telling = False
        clusters = [*self.clusters.values(), *self.leaving.clusters]
        for cluster in clusters:
            cluster.update(())
            for checks in (cluster.checks, cluster.agents):
                if checks is not None:
                    checks.stop()
        for probe in (*self._probes.values(), *self._agents.values()):
            probe.close()
        self._ticking.stop()
        for cluster in clusters:
            cluster.close_all()
        self.runtime.pipes.close()
        self.leaving.forget()
        if self._brief_log is not None:
            self._brief_log.tick(NEVER)
        self.access_log.flush()

    def snapshot(self, pool: str) -> PoolSnapshot:
        """The state of a pool, its backends and its list now. KeyError when there is no such pool."""
        targets = self.targets.snapshot(pool, self.runtime.time.seconds())
        return dataclasses.replace(self._cluster_of(pool).snapshot(), targets=targets)

    def specs_of(self, pool: str) -> list[BackendSpec]:
        """The backends of a pool in force, as configured, listed and changed at run time."""
        return list(self._specs.get(pool, ()))

    def unsent_at(self, backend: Backend) -> int:
        """How many requests are at this backend and have not been sent to it yet: O(clients)."""
        return sum(frontend.unsent_at(backend) for frontend in self._all_frontends)

    def requests_by_route(self) -> dict[str, int]:
        """How many exchanges have begun, by route: O(routes)."""
        found: dict[str, int] = {}
        for flow in self.flows:
            found[flow.route] = found.get(flow.route, 0) + flow.begun
        return found

    @property
    def flows(self) -> list[Flow]:
        """What was counted by listener, route and pool, those among them that are gone and of which something runs."""
        return [flow for frontend in self._counting for flow in frontend.flows.all]

    def measures(self, *, exemplars: bool = False) -> Measures:
        """Everything that is counted, see `measuring`, all at once."""
        return whole(self.measuring(exemplars=exemplars))

    def measuring(self, *, exemplars: bool = False) -> Making[Measures]:
        """Everything that is counted, by listener and pool, now: O(routes, backends and connections), in portions; with exemplars of it, if
        they are wanted: O(requests that are remembered).
        """
        self._bury_flows()
        flows: dict[str, list[Flow]] = {name: [] for name in self.clusters}
        for flow in self.flows:
            if flow.pool in flows:
                flows[flow.pool].append(flow)
        epoch, now = self.runtime.epoch(), self.runtime.clock.read()
        pools: list[PoolMeasures] = []
        for name, one in list(self.clusters.items()):
            pools += [(yield from measuring_pool(one.pool, flows[name], one.connections(), now, one.shared()))]
        return Measures(
            tuple(
                listener_measures(
                    name, one.gate, one.refusals, one.flows, one.handshaken, one.handshakes.open, one.http2_counts
                )
                for name, one in self.frontends.items()
            ),
            tuple(pools),
            tuple(exemplars_of(self.notes, epoch)) if exemplars else (),
        )

    # What other processes find out.

    def hear_probe(self, pool: str, backend: str, result: ProbeResult) -> None:
        """Take the result of a check that another process has made; nothing where that has no backend here any more."""
        cluster = self.clusters.get(pool)
        if cluster is not None:
            _hear_probe(cluster, backend, result)

    # What an operator asks; nothing changes by it.

    @property
    def questions(self) -> Questions:
        """Why that backend, and where would this request go: see `Questions`."""
        return Questions(self.runtime, self.notes, self.frontends, self.clusters)

    def explain(self, request_id: str) -> Explained | None:
        """A request by its id, explained; None when it is not held any more."""
        return self.questions.explain(request_id, self.leaving.frontends)

    def explained(self, kind: str, count: int, *, decisions: bool = True) -> tuple[Explained, ...]:
        """The last requests of a kind, explained: "recent", "failed", "refused", "slowest" or "running"; with `decisions` why those
        backends, which is O(requests and backends).
        """
        return self.questions.explained(kind, count, self.leaving.frontends, decisions=decisions)

    def explain_next(self, pool: str) -> Decision:
        """What the next claim in a pool would do, and why. KeyError when there is no such pool."""
        return self.questions.next(pool)

    def route(
        self,
        method: str,
        url: str,
        headers: Sequence[tuple[str, str]] = (),
        client: str = "127.0.0.1",
        listener: str | None = None,
    ) -> Routed:
        """Where a request would go: see `Questions.route`."""
        return self.questions.route(method, url, headers, client, listener)

    @property
    def routes(self) -> dict[str, Action]:
        """What becomes of the requests of each route, by its name."""
        return self.routing.actions

    def addresses(self, listener: str) -> list[str]:
        """Where clients of a listener are accepted, here or by workers."""
        own = [one.address for one in self.listeners.get(listener, ())]
        return own or [address_of(one) for one in self.accepted_elsewhere.get(listener, ())]

    @property
    def _all_listeners(self) -> list[Listener]:
        return [listener for listeners in self.listeners.values() for listener in listeners]

    @property
    def _all_frontends(self) -> list[Frontend]:
        return [*self.frontends.values(), *self.leaving.frontends]

    @property
    def clients(self) -> int:
        """How many clients are connected, or have a request under way that a resource brought."""
        return sum([len(frontend.clients) for frontend in self._all_frontends])

    @property
    def exchanges(self) -> int:
        """How many exchanges run."""
        return sum(frontend.exchanges for frontend in self._all_frontends)

    @property
    def tunnels(self) -> int:
        """How many of the exchanges have switched protocols."""
        return sum(frontend.tunnels for frontend in self._all_frontends)

    def __repr__(self) -> str:
        return f"<DataPlane: {list(self.frontends.values())}, {list(self.clusters.values())}>"


def _hear_probe(cluster: Cluster, backend: str, result: ProbeResult) -> None:
    # First what it wants: who comes up and wants nothing gets nothing.
    if cluster.agents is None:
        cluster.hear_agent(backend, result.said)
    if result.passed:
        cluster.hear_busy(backend, result.busy, result.reason)
    cluster.observe_probe(backend, result.passed, result.reason, silent=result.silent, asked_at=result.asked_at)


def _question(pool: PoolPlan) -> Question:
    """What the backends of a pool that has checks are asked."""
    checks = pool.checks
    if checks is not None and checks.script is not None:
        return ScriptCheck(checks.script)
    asked = None if checks is None else checks.http
    http2 = _question_in_http2(pool)
    if http2 is not None and (asked is None or pool.upstream.protocol == H2):
        return http2
    return Connecting() if asked is None else HttpCheck(asked, _AGENT, pool.upstream.limits)


def _question_in_http2(pool: PoolPlan) -> Question | None:
    """What backends are asked that speak HTTP/2, where that is said in it."""
    checks, limits = pool.checks, pool.upstream.limits
    if checks is not None and checks.grpc is not None:
        return GrpcCheck(checks.grpc, _AGENT, limits, secure=pool.tls is not None)
    asked = None if checks is None else checks.http
    if asked is None or pool.upstream.protocol == H1:
        return None
    return Http2Check(HttpCheck(asked, _AGENT, limits), limits, secure=pool.tls is not None)


def _greetings(pool: PoolPlan, previous: Greetings | None) -> Greetings:
    """How a pool's backends are greeted by its plan; what is equal to what there was is that."""
    before = None if previous is None else previous.tls
    tls = None if pool.tls is None else Outgoing.of(pool.tls, before if isinstance(before, Outgoing) else None)
    if previous is not None and previous.tls is tls and previous.proxy == pool.proxy:
        return previous
    return Greetings(tls, pool.proxy)


def _serving(settings: TlsSettings, previous: Serving | None) -> Serving:
    """What a listener's plan has TLS served with; what is equal to what there was is that."""
    if previous is not None and previous.settings == settings:
        return previous
    return Serving.of(settings, previous)
