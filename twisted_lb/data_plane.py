"""The data plane: a runtime and a plan become frontends, clusters and listeners. The one place where each part is made."""

import socket
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final

from twisted.internet.defer import Deferred
from twisted.internet.task import LoopingCall

from twisted_lb import __version__
from twisted_lb.checks import Checks
from twisted_lb.core.backend import BackendSpec
from twisted_lb.core.events import Event, PoolExhausted
from twisted_lb.core.gate import Gate
from twisted_lb.core.never import NEVER
from twisted_lb.core.record import Observer, Observers
from twisted_lb.draining import Drain
from twisted_lb.http_check import HttpCheck
from twisted_lb.net.cluster import Cluster
from twisted_lb.net.frontend import Frontend
from twisted_lb.net.http1 import Http1
from twisted_lb.net.listener import Listener
from twisted_lb.net.routing import Action, RouteTable
from twisted_lb.net.runtime import Runtime
from twisted_lb.plan import ListenerPlan, Plan, PoolPlan
from twisted_lb.probes import Connecting, NetworkProbe, ProbeResult, Question
from twisted_lb.request_log import BriefRequestLog, log_request
from twisted_lb.routes import Routes

# How often pools look for what time makes due: trials of ejected backends, say.
_TICK_S: Final = 0.25
_NO_LIMIT: Final = 1 << 62
_AGENT: Final = f"twisted_lb-check/{__version__}"


class DataPlane:
    """The parts that move requests, from their making to `close`. It knows no Twisted service and no global reactor.

    `sockets` are the bound ones of each listener, by its name; a listener without sockets gets its requests from a
    resource that brings them to its frontend. `room` is how many connections clients may have where the plan names no
    number. With `accepting` off clients are taken in from `accept` on. `hear` is told every change of state of the
    backends, `observers` the record of each request that has ended, or was refused.
    """

    def __init__(
        self,
        runtime: Runtime,
        plan: Plan,
        sockets: Mapping[str, Sequence[socket.socket]] | None = None,
        *,
        hear: Callable[[Event], None],
        observers: tuple[Observer, ...] = (),
        room: int = _NO_LIMIT,
        accepting: bool = True,
    ) -> None:
        self.runtime: Final = runtime
        self.plan: Plan = plan
        self._hear: Final = hear
        self._telling = False  # what adds the first and removes the last backends is no news
        self._brief_log: Final = BriefRequestLog() if plan.log_requests == "brief" else None
        told = self._observers(plan.log_requests, observers)
        self._probes: Final[dict[str, NetworkProbe]] = {}
        self.clusters: Final = {name: self._cluster(name, pool) for name, pool in plan.pools.items()}
        self.routing: Final = Routes(runtime)
        tables = self.routing.follow(plan, self.clusters)
        self.frontends: Final = {
            name: self._frontend(name, listener, tables[name], told, room) for name, listener in plan.listeners.items()
        }
        self.listeners: Final = {
            name: [self._listener(self.frontends[name], sock) for sock in socks]
            for name, socks in (sockets or {}).items()
        }
        self._ticking: Final = LoopingCall(self._tick)
        self._ticking.clock = runtime.time
        self._draining: Drain | None = None
        self._start()
        if accepting:
            self.accept()

    # The parts.

    def _observers(self, log_requests: str, observers: tuple[Observer, ...]) -> Observers:
        """Who is told of requests: those that were given, and the log."""
        if log_requests == "all":
            return Observers((*observers, log_request))
        if log_requests == "failed":
            return Observers(observers, (log_request,))
        return Observers(observers, () if self._brief_log is None else (self._brief_log,))

    def _cluster(self, name: str, pool: PoolPlan) -> Cluster:
        cluster = Cluster(name, self.runtime, pool.upstream, pool.policy, pool.settings, self._heard_event)
        if pool.checks is not None:
            runtime, plan = self.runtime, pool.checks
            probe = self._probes[name] = NetworkProbe(
                runtime.dial, runtime.deadlines, runtime.clock.read, _question(pool)
            )

            def heard(backend: str, result: ProbeResult) -> None:
                cluster.observe_probe(
                    backend, result.passed, result.reason, silent=result.silent, asked_at=result.asked_at
                )

            rng = runtime.stream(f"checks {name}")
            cluster.checks = Checks(
                probe,
                runtime.time,
                heard,
                rng,
                interval_s=plan.interval_s,
                timeout_s=plan.timeout_s,
                down_interval_s=plan.down_interval_s,
                port=plan.port,
            )
        return cluster

    def _frontend(
        self, name: str, listener: ListenerPlan, table: RouteTable, observers: Observers, room: int
    ) -> Frontend:
        most = room if listener.connections is None else listener.connections
        gate = Gate(most, listener.connections_per_client)
        return Frontend(name, self.runtime, listener.rules, table, gate, observers)

    def _listener(self, frontend: Frontend, sock: socket.socket) -> Listener:
        runtime = self.runtime
        assert runtime.poller is not None, "sockets need a poller"
        return Listener(runtime.poller, sock, lambda: Http1(frontend), runtime.later, frontend.gate, frontend.make_room)

    # Its life.

    def _start(self) -> None:
        for name, pool in self.plan.pools.items():
            self.clusters[name].update(pool.backends)
        self._telling = True
        for name, cluster in self.clusters.items():
            if cluster.pool.exhausted:  # as with health_check.initial "down"
                self._hear(PoolExhausted(name, self.runtime.clock.now))
        self._ticking.start(_TICK_S, now=False)

    def accept(self) -> None:
        """Accept clients from now on. Harmless when it does."""
        for listener in self._all_listeners:
            listener.start()

    def _tick(self) -> None:
        for cluster in self.clusters.values():
            cluster.tick()
        for news in self.routing.tick(self.runtime.clock.read()):
            self._hear(news)
        if self._brief_log is not None:
            self._brief_log.tick(self.runtime.clock.read())

    def _heard_event(self, event: Event) -> None:
        if self._telling:
            self._hear(event)

    def apply(self, plan: Plan) -> None:
        """Apply another generation of the configuration (reload).

        An exchange that runs keeps the route it was led by, a connection goes by its listener's rules from its next
        request on, pools claim and connect by theirs at once. What is equal is not touched. ValueError, and nothing
        changed, when listeners or pools come or go, or for other bounds of connections, checks or logs: not yet.
        """
        old = self.plan
        if _for_good(plan) != _for_good(old):
            raise ValueError("listeners, their bounds, pools, checks and the log are only changed by a restart")
        self.plan = plan
        for name, pool in plan.pools.items():
            if name in self._probes:
                self._probes[name].question = _question(pool)
            self.clusters[name].pool.choose_by(pool.policy)
            others = pool.backends if pool.backends != old.pools[name].backends else None
            self.clusters[name].configure(pool.upstream, pool.settings, others)
        tables = self.routing.follow(plan, self.clusters)
        for name, listener in plan.listeners.items():
            frontend = self.frontends[name]
            frontend.client_rules = listener.rules
            frontend.go_by(tables[name])

    def update(self, pool: str, backends: Iterable[BackendSpec]) -> None:
        """Replace the backends of a pool: its picker, connections and checks are told alike."""
        self.clusters[pool].update(backends)

    def drain(self, max_s: float, *, handed_on: bool = False) -> Deferred[None]:
        """Graceful drain: stop listening, let exchanges finish, fire when no client is left, after `max_s` seconds, or
        at `hurry`. Who is left then is cut by `close`. `handed_on`: see `Listener.stop`.
        """
        self.runtime.clock.read()  # nothing may have happened for a while
        for frontend in self.frontends.values():
            frontend.draining = True
        for listener in self._all_listeners:
            listener.stop(handed_on=handed_on)
        if self.runtime.poller is not None:
            self.runtime.poller.flush()
        for frontend in self.frontends.values():
            frontend.drain()
        self._draining = Drain(self, self.runtime.time, max_s)
        return self._draining.done

    def hurry(self) -> None:
        """End the drain: it has lasted long enough."""
        if self._draining is not None:
            self._draining.hurry()

    def tell_good_bye(self) -> None:
        """Tell the clients of tunnels that we go away, where the protocol has words for it (WebSocket)."""
        for frontend in self.frontends.values():
            frontend.tell_good_bye()

    def close(self) -> None:
        """Cut the clients and exchanges that are left, and let go of everything but the runtime."""
        for frontend in self.frontends.values():
            frontend.kill()
        # A resource may outlive the data plane: its requests get a local reply from now on. No news of the backends.
        self._telling = False
        for cluster in self.clusters.values():
            cluster.update(())
            if cluster.checks is not None:
                cluster.checks.stop()
        for probe in self._probes.values():
            probe.close()
        self._ticking.stop()
        for cluster in self.clusters.values():
            cluster.close_all()
        if self._brief_log is not None:
            self._brief_log.tick(NEVER)

    @property
    def _all_listeners(self) -> list[Listener]:
        return [listener for listeners in self.listeners.values() for listener in listeners]

    @property
    def routes(self) -> Mapping[str, Action]:
        """The routes as they are now, by name."""
        return self.routing.actions

    @property
    def clients(self) -> int:
        """How many clients are connected, or have a request under way that a resource brought."""
        return sum(len(frontend.clients) for frontend in self.frontends.values())

    @property
    def exchanges(self) -> int:
        """How many exchanges run."""
        return sum(frontend.exchanges for frontend in self.frontends.values())

    @property
    def tunnels(self) -> int:
        """How many of the exchanges have switched protocols."""
        return sum(frontend.tunnels for frontend in self.frontends.values())

    def __repr__(self) -> str:
        return f"<DataPlane: {list(self.frontends.values())}, {list(self.clusters.values())}>"


def _question(pool: PoolPlan) -> Question:
    """What the backends of a pool that has checks are asked."""
    asked = None if pool.checks is None else pool.checks.http
    return Connecting() if asked is None else HttpCheck(asked, _AGENT, pool.upstream.limits)


def _for_good(plan: Plan) -> tuple[object, ...]:
    """The parts of a plan that cannot be changed while it runs."""
    bounds = {name: (one.connections, one.connections_per_client) for name, one in plan.listeners.items()}
    return bounds, {name: pool.checks for name, pool in plan.pools.items()}, plan.log_requests
