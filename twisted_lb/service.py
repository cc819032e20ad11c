"""The composition root: a configuration becomes a running load balancer. The only place that names everything together.

`LoadBalancerService` is what `twistd lb` runs and what a Twisted program can add to its own services:

    LoadBalancerService(LoadBalancerConfig(backends=["127.0.0.1:8081"], listen={"port": 8080})).setServiceParent(app)
"""

import contextlib
import random
import resource
import signal
import socket
from collections.abc import Callable, Iterable
from typing import Any, Final

from twisted.application.service import MultiService
from twisted.internet.defer import inlineCallbacks, maybeDeferred
from twisted.internet.error import ReactorNotRunning
from twisted.logger import Logger

from twisted_lb import __version__, process
from twisted_lb.admin.status import status_site
from twisted_lb.build_info import build
from twisted_lb.config import ListenConfig, LoadBalancerConfig, TimeoutsConfig
from twisted_lb.config.doubts import doubts
from twisted_lb.core.address import TcpAddress
from twisted_lb.core.backend import BackendSpec, refuse_twice, specs_of
from twisted_lb.data_plane import DataPlane
from twisted_lb.errors import listen_error, report_start_errors
from twisted_lb.event_log import log_event
from twisted_lb.net.cluster import Cluster
from twisted_lb.net.frontend import Frontend
from twisted_lb.net.listener import bind_tcp
from twisted_lb.net.over_reactor import release, runtime_of
from twisted_lb.plan import DEFAULT, Plan, pages_of, plan_of

# What the process has open beside connections (about 12: logs, epolls, listeners, the reactor's waker) or opens for a
# moment: /etc/hosts, an error page.
_OWN_DESCRIPTORS: Final = 32
_SEED_BITS: Final = 32

_log = Logger()


class LoadBalancerService(MultiService):
    """A load balancer as a Twisted service.

    It binds in `privilegedStartService`, so that `twistd --uid` works, or in `startService` where nobody called that.
    `stopService` returns a Deferred: running exchanges finish first, for at most `drain_s`. `reactor` is the global one
    unless given. With `listening` off it has no port of its own: a resource brings the requests to its `engine`. With
    `whole_process` it is what the process is for, and tunes it. Everything that is decided by chance follows from `seed`,
    which the line at start names. Raises StartError when it cannot listen.
    """

    def __init__(
        self,
        config: LoadBalancerConfig,
        reactor: Any = None,
        *,
        listening: bool = True,
        seed: int | None = None,
        whole_process: bool = False,
    ) -> None:
        super().__init__()
        if reactor is None:
            from twisted.internet import reactor as global_reactor

            reactor = global_reactor
        self.config = config
        self.ready: bool = False
        self._pages: Final = pages_of(config)
        self._plan: Plan = plan_of(config, self._pages)
        self._reactor: Final = reactor
        self._listening: Final = listening
        self._whole_process: Final = whole_process
        self._seed: Final = random.getrandbits(_SEED_BITS) if seed is None else seed
        self._sockets: list[socket.socket] = []
        self._status_socket: socket.socket | None = None
        self._status_port: Any = None
        self._plane: DataPlane | None = None

    def privilegedStartService(self) -> None:
        """Bind the listeners while the process still has the privilege to."""
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
        runtime = runtime_of(self._reactor, self._seed, self._nothing_moves, whole_process=self._whole_process)
        room = room_for_clients(limit, len(self.config.backends))
        plane = self._plane = DataPlane(runtime, self._plan, {DEFAULT: sockets}, hear=log_event, room=room)
        status = ""
        if self._status_socket is not None:
            status = f"status on {TcpAddress(*self._status_socket.getsockname()[:2])}, "
            self._serve_status(self._status_socket)
            self._status_socket = None
        self.ready = True
        super().startService()
        _log.info(
            "twisted_lb {version} ({build}) on {listeners}: {policy} over {backends}; {status}{descriptors} descriptors, seed {seed}",
            version=__version__,
            build=build(),
            listeners=", ".join(one.address for one in plane.listeners[DEFAULT]) or "no port of its own",
            policy=self.config.policy,
            backends=", ".join(spec.name for spec in self.config.backends),
            status=status,
            descriptors=limit,
            seed=self._seed,
        )
        for doubt in doubts(self.config, limit, room):
            _log.warn("{doubt}", doubt=doubt)
        if self._whole_process:
            process.tune()

    def _serve_status(self, sock: socket.socket) -> None:
        """Answer `/-/ready` and `/-/live` on a bound socket."""
        site = status_site(lambda: self.ready)
        self._status_port = self._reactor.adoptStreamPort(sock.fileno(), sock.family, site)
        sock.close()

    def _nothing_moves(self) -> None:
        _log.critical("nothing moves any more without the poller: stopping")
        with contextlib.suppress(ReactorNotRunning):
            self._reactor.stop()

    def set_timeouts(self, timeouts: TimeoutsConfig) -> None:
        """Replace the timeouts, also under load: a wait that has begun lasts as long as it was told."""
        self._apply(self.config.model_copy(update={"timeouts": timeouts}))

    def update(self, backends: Iterable[BackendSpec | str]) -> None:
        """Replace the backends (`"host:port,weight=2"` or specs): new ones are checked and used, those that are gone
        finish what they have. ValueError, and nothing changed, for one that is none or is there twice, or for no backend.
        """
        specs = tuple(specs_of(backends, "backends"))
        if not specs:
            raise ValueError("no backend: at least one is needed")
        refuse_twice(specs)
        self._apply(self.config.model_copy(update={"backends": specs}))

    def _apply(self, config: LoadBalancerConfig) -> None:
        plan = plan_of(config, self._pages)
        if self._plane is not None:
            self._plane.apply(plan)
        self.config = config
        self._plan = plan

    @property
    def data_plane(self) -> DataPlane:
        """The data plane: frontends, routes and clusters by name, while the service runs."""
        if self._plane is None:
            raise RuntimeError("the load balancer is not running")
        return self._plane

    @property
    def balancer(self) -> Cluster:
        """The cluster `default`: its pool at work, while the service runs."""
        return self.data_plane.clusters[DEFAULT]

    @property
    def engine(self) -> Frontend:
        """The frontend `default`, while the service runs: what a BalancedReverseProxyResource wants."""
        return self.data_plane.frontends[DEFAULT]

    @property
    def port(self) -> int:
        """The port of the listener `default`, also when the kernel chose it."""
        return self.data_plane.listeners[DEFAULT][0].port

    @inlineCallbacks
    def stopService(self) -> Any:
        """Stop gracefully: not ready; listeners; exchanges; connections; checks; the rest: one after the other."""
        self.ready = False
        plane, self._plane = self._plane, None
        if plane is not None:
            yield self._drained(plane)
            plane.close()
            release(plane.runtime)
        if self._status_port is not None:
            port, self._status_port = self._status_port, None
            yield maybeDeferred(port.stopListening)
        for sock in [*self._sockets, *([self._status_socket] if self._status_socket else [])]:
            sock.close()
        self._sockets, self._status_socket = [], None
        yield maybeDeferred(super().stopService)

    @inlineCallbacks
    def _drained(self, plane: DataPlane) -> Any:
        """Drain the data plane; a second signal ends the drain."""
        restore = _on_signal(self._reactor, plane.hurry)
        try:
            yield plane.drain(self._plan.drain_s)
        finally:
            restore()


def _on_signal(reactor_: Any, hurry: Callable[[], None]) -> Callable[[], None]:
    """While draining, let SIGINT and SIGTERM call `hurry`; returns what puts the old handlers back.

    Only where the reactor installed its own handlers, which would merely complain that it is stopping already.
    """
    old: dict[int, Any] = {}
    call = reactor_.callFromThread
    for number in (signal.SIGINT, signal.SIGTERM):
        handler = signal.getsignal(number)
        installed_by: Any = getattr(handler, "__self__", None)
        if installed_by is not reactor_:
            continue
        old[number] = handler
        signal.signal(number, lambda *_: call(hurry))

    def restore() -> None:
        for number, handler in old.items():
            signal.signal(number, handler)

    return restore


def _bind(listen: ListenConfig) -> socket.socket:
    try:
        return bind_tcp(listen.interface, listen.port)
    except OSError as error:
        raise listen_error(listen.where, error) from None


def room_for_clients(descriptors: int, backends: int) -> int:
    """How many clients may be connected when each may need a connection to a backend, and each backend a probe."""
    return max(1, (descriptors - _OWN_DESCRIPTORS - backends) // 2)


def _raise_descriptor_limit() -> int:
    """Raise the soft limit of descriptors, often 1,024, to the hard one, far above it; returns what it is now."""
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
