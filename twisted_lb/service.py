"""The composition root: a configuration becomes a running load balancer. The only place that names everything together.

`LoadBalancerService` is what `twistd lb` runs and what a Twisted program can add to its own services:

    LoadBalancerService(LoadBalancerConfig(backends=["127.0.0.1:8081"], listen={"port": 8080})).setServiceParent(app)
"""

import contextlib
import random
import resource
import select
import socket
import time
from collections.abc import Callable
from typing import Any, Final, cast

from twisted.application.service import MultiService
from twisted.internet.defer import inlineCallbacks, maybeDeferred
from twisted.internet.error import ReactorNotRunning
from twisted.internet.interfaces import (
    IReactorCore,
    IReactorFDSet,
    IReactorPluggableNameResolver,
    IReactorTime,
    IReadDescriptor,
)
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from twisted_lb import __version__, process
from twisted_lb.admin.status import status_site
from twisted_lb.build_info import build
from twisted_lb.checks import Checks
from twisted_lb.config import ListenConfig, LoadBalancerConfig, TimeoutsConfig
from twisted_lb.core.balancer import Balancer
from twisted_lb.core.events import DEFAULT_POOL, BackendChanged, BackendDown, BackendEjected, BackendRemoved, Event
from twisted_lb.core.gate import Gate
from twisted_lb.core.pickers import POLICIES
from twisted_lb.core.pool import Pool
from twisted_lb.core.retry import RetryRules
from twisted_lb.core.settings import PoolSettings
from twisted_lb.draining import drained
from twisted_lb.errors import listen_error, report_start_errors
from twisted_lb.event_log import log_event
from twisted_lb.net.clock import Clock
from twisted_lb.net.connections import Connections, KeepRules
from twisted_lb.net.deadlines import Deadlines
from twisted_lb.net.dialer import Dialer
from twisted_lb.net.downstream import Downstream
from twisted_lb.net.engine import Engine, Rules
from twisted_lb.net.listener import Listener, bind_tcp
from twisted_lb.net.names import Names
from twisted_lb.net.poller import EpollPoller, Poller
from twisted_lb.net.reactor_poller import ReactorPoller
from twisted_lb.probes import HttpProbe, NetworkProbe, ProbeResult, TcpProbe
from twisted_lb.request_log import RequestLog
from twisted_lb.rules import rules_of, timeouts_of

# How often the balancer looks for ejections that ended.
_TICK_S: Final = 0.25
# What the process has open beside connections (about 12: logs, epolls, listeners, the reactor's waker) or opens for a
# moment: /etc/hosts, an error page.
_OWN_DESCRIPTORS: Final = 32

_log = Logger()

Later = Callable[[float, Callable[[], None]], object]


class LoadBalancerService(MultiService):
    """A load balancer as a Twisted service.

    It binds in `privilegedStartService`, so that `twistd --uid` works, or in `startService` where nobody called that.
    `stopService` returns a Deferred: running exchanges finish first, for at most `drain_s`. `reactor` is the global one
    unless given. With `listening` off it has no port of its own: a resource brings the requests to its `engine`. With
    `whole_process` it is what the process is for, and tunes it. Raises StartError when it cannot listen.
    """

    def __init__(
        self,
        config: LoadBalancerConfig,
        reactor: Any = None,
        *,
        listening: bool = True,
        rng: random.Random | None = None,
        whole_process: bool = False,
    ) -> None:
        super().__init__()
        if reactor is None:
            from twisted.internet import reactor as global_reactor

            reactor = global_reactor
        self.config = config
        self._rules = rules_of(config)
        self.ready: bool = False
        self._reactor: Final = reactor
        self._listening: Final = listening
        self._whole_process: Final = whole_process
        self._rng: Final = random.Random() if rng is None else rng
        self._sockets: list[socket.socket] = []
        self._status_socket: socket.socket | None = None
        self._running: _Running | None = None

    def privilegedStartService(self) -> None:
        """Bind while there is still the privilege to."""
        report_start_errors()
        self._bind()
        super().privilegedStartService()

    def _bind(self) -> None:
        if self._sockets or not self._listening:
            return
        self._sockets = [_bind(self.config.listen)]
        if self.config.status is not None:
            try:
                self._status_socket = _bind(self.config.status)
            except BaseException:
                self._sockets.pop().close()
                raise

    def startService(self) -> None:
        """Begin to balance."""
        report_start_errors()
        self._bind()
        limit = _raise_descriptor_limit()
        sockets, self._sockets = self._sockets, []
        most = self.config.limits.connections or room_for_clients(limit, len(self.config.backends))
        gate = Gate(most, self.config.limits.connections_per_client)
        self._running = _Running(self.config, self._rules, self._reactor, self._rng, sockets, gate)
        if self._status_socket is not None:
            self._running.serve_status(self._status_socket, lambda: self.ready)
            self._status_socket = None
        self.ready = True
        super().startService()
        _log.info(
            "twisted_lb {version} ({build}) on {listeners}: {strategy} over {backends}; {descriptors} descriptors",
            version=__version__,
            build=build(),
            listeners=", ".join(listener.address for listener in self._running.listeners) or "no port of its own",
            strategy=self.config.strategy,
            backends=", ".join(spec.name for spec in self.config.backends),
            descriptors=limit,
        )
        if self._whole_process:
            process.tune()

    def set_timeouts(self, timeouts: TimeoutsConfig) -> None:
        """Wait as long as these say from now on, also under load: whoever waits already does so as it was told."""
        self.config = self.config.model_copy(update={"timeouts": timeouts})
        self._rules = self._rules.with_timeouts(timeouts_of(self.config))
        if self._running is not None:
            self._running.change(self.config, self._rules)

    @property
    def balancer(self) -> Balancer:
        """The core, while the service runs."""
        return self._parts.balancer

    @property
    def engine(self) -> Engine:
        """The data path, while the service runs: what a BalancedReverseProxyResource wants."""
        return self._parts.engine

    @property
    def port(self) -> int:
        """The port that clients connect to, also when the kernel chose it."""
        return self._parts.listeners[0].port

    @property
    def _parts(self) -> "_Running":
        if self._running is None:
            raise RuntimeError("the load balancer is not running")
        return self._running

    @inlineCallbacks
    def stopService(self) -> Any:
        """Not ready; listeners; exchanges; connections; checks; the rest: one after the other."""
        self.ready = False
        running, self._running = self._running, None
        if running is not None:
            yield running.stop()
        for sock in [*self._sockets, *([self._status_socket] if self._status_socket else [])]:
            sock.close()
        self._sockets, self._status_socket = [], None
        yield maybeDeferred(super().stopService)


class _Running:
    """Everything that exists only while the service runs."""

    def __init__(
        self,
        config: LoadBalancerConfig,
        rules: Rules,
        reactor: Any,
        rng: random.Random,
        sockets: list[socket.socket],
        gate: Gate,
    ) -> None:
        self._config = config
        self._reactor: Final = reactor
        self._started = False
        self._probe: NetworkProbe | None = None
        time_: IReactorTime = reactor
        later: Later = time_.callLater
        self.clock: Final = Clock(time_.seconds)
        self.poller: Final = self._make_poller(later)
        self.deadlines: Final = Deadlines(self.clock, later)
        self.balancer: Final = self._make_balancer(rng)
        names = Names(cast(IReactorPluggableNameResolver, reactor).nameResolver, self.clock)
        dialer = Dialer(self.poller, self.deadlines, names)
        upstream = config.upstream
        self.connections: Final = Connections(
            dialer,
            KeepRules(
                most_idle=upstream.max_idle,
                idle_s=upstream.idle_s,
                most_requests=upstream.max_requests,
                most_age_s=upstream.max_age_s,
                fresh_s=upstream.fresh_s,
            ),
        )
        self.engine: Final = Engine(
            self.balancer,
            self.connections,
            self.deadlines,
            self.clock,
            rules,
            Clock(time.time),
            rng,
            self.poller.soon,
            gate,
        )
        if config.log.requests != "none":
            self.engine.observer = RequestLog(self.clock, everything=config.log.requests == "all")
        self.checks: Final = self._make_checks(dialer, rng)
        self.listeners: Final = [Listener(self.poller, sock, self._build, later, gate) for sock in sockets]
        self._ticking: Final = LoopingCall(self._tick)
        self._ticking.clock = reactor
        self._status_port: Any = None
        self._start()

    def _make_poller(self, later: Later) -> Poller:
        fd_set: IReactorFDSet = self._reactor
        if not hasattr(select, "epoll"):
            return ReactorPoller(fd_set, self.clock, later)
        poller = EpollPoller(self.clock, later, self._poller_lost)
        fd_set.addReader(cast(IReadDescriptor, poller))
        return poller

    def _poller_lost(self) -> None:
        core: IReactorCore = self._reactor
        _log.critical("nothing moves any more without the poller: stopping")
        with contextlib.suppress(ReactorNotRunning):
            core.stop()

    def _make_balancer(self, rng: random.Random) -> Balancer:
        config = self._config
        settings = PoolSettings(
            rise=config.health_check.rise,
            fall=config.health_check.fall,
            checked=config.health_check.enabled,
            budget_percent=config.retry.budget_percent,
            budget_per_s=config.retry.budget_per_s,
        )
        pool = Pool(DEFAULT_POOL, POLICIES[config.strategy], settings, rng, self._heard_event)
        return Balancer(pool, RetryRules(config.retry.more_attempts, frozenset(config.retry.bad_statuses)))

    def _make_checks(self, dialer: Dialer, rng: random.Random) -> Checks | None:
        config = self._config.health_check
        if not config.enabled:
            return None
        seconds = cast(IReactorTime, self._reactor).seconds
        self._probe = (
            TcpProbe(dialer, self.deadlines, seconds)
            if config.kind == "tcp"
            else HttpProbe(
                dialer,
                self.deadlines,
                seconds,
                config.path,
                f"twisted_lb-check/{__version__}",
                self.engine.rules.limits,
            )
        )
        return Checks(
            self._probe,
            self._reactor,
            self._heard_check,
            rng,
            interval_s=config.interval_s,
            timeout_s=config.answer_timeout_s,
        )

    def _build(self) -> Downstream:
        return Downstream(self.engine)

    def _start(self) -> None:
        self.balancer.update(self._config.backends, self.clock.now)
        self._started = True
        for listener in self.listeners:
            listener.start()
        if self.checks is not None:
            self.checks.update((spec.name, spec.address) for spec in self._config.backends)
        self._ticking.start(_TICK_S, now=False)

    def _tick(self) -> None:
        self.balancer.tick(self.clock.read())

    def _heard_check(self, name: str, result: ProbeResult) -> None:
        self.balancer.observe_probe(name, result.passed, result.reason, self.clock.read())

    def _heard_event(self, event: Event) -> None:
        if not self._started:
            return  # the line at start names the backends
        log_event(event)
        if isinstance(event, (BackendDown, BackendEjected)):
            self.connections.believe_anew(event.backend_name)
        if isinstance(event, BackendEjected) and event.check_wanted and self.checks is not None:
            self.checks.check_soon(event.backend_name)
        elif isinstance(event, (BackendChanged, BackendRemoved)):
            # What is kept may lead to where it no longer is.
            self.connections.close_idle(event.backend_name)

    def change(self, config: LoadBalancerConfig, rules: Rules) -> None:
        """Go by these from now on; the backends and what listens stay as they are."""
        self._config = config
        self.engine.rules = rules

    def serve_status(self, sock: socket.socket, ready: Callable[[], bool]) -> None:
        """Answer `/-/ready` and `/-/live` on a bound socket."""
        self._status_port = self._reactor.adoptStreamPort(sock.fileno(), sock.family, status_site(ready))
        sock.close()

    @inlineCallbacks
    def stop(self) -> Any:
        """The sequence of a stop. A second signal ends the wait for exchanges."""
        self.engine.draining = True
        for listener in self.listeners:
            listener.stop()
        self.poller.flush()
        for downstream in list(self.engine.downstreams):
            downstream.drain()
        yield drained(self.engine, self._reactor, self._config.timeouts.drain_s)
        for client in [*self.engine.downstreams, *self.engine.guests]:
            client.kill()
        # A resource may outlive us: who asks it from now on hears that there is nobody. That is no news of the backends.
        self._started = False
        self.balancer.update((), self.clock.now)
        if self.checks is not None:
            self.checks.stop()
        if self._probe is not None:
            self._probe.close()
        self._ticking.stop()
        self.connections.close_all()
        # Twice: what the first round delivers may close more.
        self.poller.flush()
        self.poller.flush()
        cast(IReactorFDSet, self._reactor).removeReader(cast(IReadDescriptor, self.poller))
        self.poller.stop()
        self.deadlines.stop()
        if self._status_port is not None:
            yield maybeDeferred(self._status_port.stopListening)


def _bind(listen: ListenConfig) -> socket.socket:
    try:
        return bind_tcp(listen.interface, listen.port)
    except OSError as error:
        raise listen_error(listen.where, error) from None


def room_for_clients(descriptors: int, backends: int) -> int:
    """How many clients may be connected when each may need a connection to a backend, and each backend is being checked."""
    return max(1, (descriptors - _OWN_DESCRIPTORS - backends) // 2)


def _raise_descriptor_limit() -> int:
    """The soft limit of descriptors is often 1,024, far below the hard one; returns what it is now."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        except (OSError, ValueError) as error:
            _log.warn("the limit of {soft} descriptors cannot be raised: {error}", soft=soft, error=error)
            return soft
    return hard


class OrderedServices(MultiService):
    """Services that stop one after the other, first to last; a MultiService stops all at once."""

    @inlineCallbacks
    def stopService(self) -> Any:
        """Fires when the last one has stopped."""
        self.running = 0
        for child in list(self):
            yield maybeDeferred(child.stopService)
