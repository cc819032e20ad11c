"""A whole data path in one process, driven by hand: real transports over socketpairs, time that the test moves.

`World` holds the engine; `client()` gives the far end of a client's connection, on one of the two client sides; each
connection that the balancer makes to a backend appears in `world.backend_connections`.
"""

import contextlib
import dataclasses
import heapq
import itertools
import select
import socket
import ssl
import struct
from collections.abc import Callable
from typing import Any

from tls_peers import Serving, TlsEnd, client_context
from twisted.web.server import Site
from wires import acknowledged, arrived, stream_pair

from twisted_lb.config import LoadBalancerConfig
from twisted_lb.core.address import Address, UnixAddress
from twisted_lb.core.agreed import Agreed
from twisted_lb.core.backend import Backend, BackendSpec
from twisted_lb.core.events import Event
from twisted_lb.core.outcome import Outcome
from twisted_lb.core.record import Observer
from twisted_lb.data_plane import DataPlane
from twisted_lb.net.arrival import Arrivals
from twisted_lb.net.clock import Clock
from twisted_lb.net.dialer import Dialer
from twisted_lb.net.greeting import Greeting
from twisted_lb.net.http1 import Http1
from twisted_lb.net.http2 import Http2
from twisted_lb.net.names import Names
from twisted_lb.net.poller import EpollPoller, Poller
from twisted_lb.net.reactor_poller import ReactorPoller
from twisted_lb.net.secured import Secured
from twisted_lb.net.session import Session
from twisted_lb.net.tcp_keepalive import TcpKeepalive
from twisted_lb.net.transport import Transport
from twisted_lb.plan import DEFAULT, plan_of
from twisted_lb.testing.balanced import runtime_of


class Call:
    """A delayed call, in Twisted's form."""

    def __init__(self, at: float, what: Callable[[], object]) -> None:
        self.at = at
        self.what = what
        self.over = False

    def active(self) -> bool:
        return not self.over

    def cancel(self) -> None:
        self.over = True

    def reset(self, seconds: float) -> None:
        raise NotImplementedError

    def getTime(self) -> float:
        return self.at


class Time:
    """Time as a reactor gives it, moved by hand."""

    def __init__(self) -> None:
        self.now = 1000.0
        self._calls: list[tuple[float, int, Call]] = []
        self._order = itertools.count()

    def seconds(self) -> float:
        return self.now

    def callLater(self, delay: float, what: Callable[..., object], *args: Any, **kw: Any) -> Call:
        call = Call(self.now + delay, lambda: what(*args, **kw))
        heapq.heappush(self._calls, (call.at, next(self._order), call))
        return call

    def run_due(self) -> bool:
        """Run what is due now; whether anything was."""
        ran = False
        last = next(self._order)  # what these calls make for now is for the next time, as of all reactors
        while self._calls and self._calls[0][0] <= self.now and self._calls[0][1] < last:
            _, _, call = heapq.heappop(self._calls)
            if not call.over:
                call.over = True
                call.what()
                ran = True
        return ran

    @property
    def to_come(self) -> int:
        """How many calls are still to come."""
        return sum(not call.over for _, _, call in self._calls)

    def next_at(self) -> float | None:
        while self._calls and self._calls[0][2].over:
            heapq.heappop(self._calls)
        return self._calls[0][0] if self._calls else None


class FakeReactor:
    """An IReactorFDSet over `select.poll`, level-triggered as Twisted's are."""

    def __init__(self) -> None:
        self.readers: set = set()
        self.writers: set = set()

    def addReader(self, one):
        self.readers.add(one)

    def removeReader(self, one):
        self.readers.discard(one)

    def addWriter(self, one):
        self.writers.add(one)

    def removeWriter(self, one):
        self.writers.discard(one)

    def turn(self) -> bool:
        poll = select.poll()
        fds = {one.fileno(): one for one in self.readers | self.writers if one.fileno() >= 0}
        for fd, one in fds.items():
            poll.register(
                fd, (select.POLLIN if one in self.readers else 0) | (select.POLLOUT if one in self.writers else 0)
            )
        events = poll.poll(0)
        for fd, flags in events:
            one = fds[fd]
            if flags & (select.POLLIN | select.POLLHUP | select.POLLERR) and one in self.readers:
                one.doRead()
            if flags & (select.POLLOUT | select.POLLHUP | select.POLLERR) and one in self.writers:
                one.doWrite()
        return bool(events)


class Peer:
    """The far end of a connection, in the hands of the test."""

    def __init__(self, world: "World", sock: socket.socket, backend: str = "") -> None:
        self.world = world
        self.sock = sock
        self.backend = backend
        self.received = b""
        self.closed = False  # a FIN came
        self.was_reset = False

    def send(self, data: bytes) -> "Peer":
        """Send, and let the world react."""
        self.sock.setblocking(True)
        self.sock.sendall(data)
        self.sock.setblocking(False)
        self.world.run()
        return self

    def offer(self, data: bytes) -> int:
        """Send what the kernel takes, and let nobody react; how much of it that was. BlockingIOError: nothing."""
        return self.sock.send(data)

    def sip(self, most: int) -> int:
        """Take so many bytes off the wire, and let nobody react; how many there were. BlockingIOError: none."""
        data = self.sock.recv(most)
        self.received += data
        return len(data)

    def read(self) -> bytes:
        """Everything that has arrived since the last read."""
        self.world.run()
        before = len(self.received)
        while True:
            try:
                data = self.sock.recv(1 << 20)
            except BlockingIOError:
                if not self.world.run():
                    break
                continue
            except ConnectionResetError:
                self.was_reset = True
                break
            if not data:
                self.closed = True
                break
            self.received += data
            self.world.run()
        return self.received[before:]

    def shut(self) -> None:
        """Send a FIN."""
        self.sock.shutdown(socket.SHUT_WR)
        self.world.run()

    def close(self) -> None:
        self.sock.close()
        self.world.run()

    def reset(self) -> None:
        """A hard close; what is unread at our end makes a socketpair reset."""
        with contextlib.suppress(OSError):
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()
        self.world.run()


class TlsPeer(Peer):
    """A client, or a backend, that speaks TLS: plain text in its hands, records on the wire. `closed`: it was told close_notify, and the FIN came."""

    def __init__(self, world: "World", sock: socket.socket, end: TlsEnd, backend: str = "") -> None:
        super().__init__(world, sock, backend)
        self.end = end
        self.good_bye = False  # it was told that nothing more comes
        self._unsent = b""  # records that the kernel has not taken yet

    def shake(self) -> bool:
        """Go on with the handshake; whether it is over."""
        self.end.inbound.write(self._wire())
        try:
            return self.end.shake()
        finally:
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # it may be closed at once
                super().send(self.end.outbound.read())

    def up(self) -> "TlsPeer":
        """End the handshake."""
        for _ in range(10):
            if self.shake():
                self.world.run()
                return self
        raise AssertionError("the handshake does not end")

    def offer(self, data: bytes) -> int:
        """See Peer. What is encrypted counts as sent: its last record may wait for the next call, or for `read`."""
        if not self._push():
            raise BlockingIOError
        self._encrypt(data)
        self._push()
        return len(data)

    def _encrypt(self, data: bytes) -> None:
        for at in range(0, len(data), 16384):
            self.end.tls.write(data[at : at + 16384])
        self._unsent += self.end.outbound.read()

    def _push(self) -> bool:
        """Whether the kernel has taken all records."""
        with contextlib.suppress(BlockingIOError):
            while self._unsent:
                self._unsent = self._unsent[self.sock.send(self._unsent) :]
        return not self._unsent

    def sip(self, most: int) -> int:
        """See Peer."""
        data = self.sock.recv(most)
        self.end.inbound.write(data)
        self.received += self.end.read()
        return len(data)

    def _wire(self) -> bytes:
        before = len(self.received)
        super().read()
        data, self.received = self.received[before:], self.received[:before]
        return data

    def send(self, data: bytes) -> "Peer":
        """See Peer."""
        self._encrypt(data)
        records, self._unsent = self._unsent, b""
        return super().send(records)

    def read(self) -> bytes:
        """See Peer."""
        self._push()
        self.end.inbound.write(self._wire())
        plain = self.end.read()
        self.good_bye = self.end.ended
        self.received += plain
        return plain

    def shut(self) -> None:
        """Say close_notify, and send a FIN."""
        self.end.say_good_bye()
        super().send(self.end.outbound.read())
        super().shut()


class FakeDial:
    """The network to the backends: `refuse`, `hang` and `fail` hold addresses. What TLS is spoken on a Dialer makes, over unix sockets;
    `tls` has the contexts of those who answer, by address. `greetings` and `keepalives`: those so far.
    """

    def __init__(self, world: "World") -> None:
        self.world = world
        self.refuse: set[str] = set()
        self.hang: set[str] = set()
        self.fail: dict[str, Outcome] = {}
        self.dialled: list[str] = []
        self.greetings: list[Greeting] = []
        self.keepalives: list[TcpKeepalive | None] = []
        self.tls: dict[str, ssl.SSLContext] = {}

    def dial(
        self,
        address: Address,
        protocol: Any,
        timeout_s: float,
        failed: Callable[[Outcome, str], None],
        port: int = 0,
        greeting: Greeting | None = None,
        keepalive: TcpKeepalive | None = None,
    ) -> Any:
        name = str(address)
        if greeting is not None:
            self.greetings.append(greeting)
        self.dialled.append(name)
        self.keepalives.append(keepalive)
        attempt = FakeAttempt()

        def tell(outcome: Outcome, detail: str) -> None:
            # As the real one does: from the poller's queue, with the clock up to date.
            self.world.poller.soon(lambda: None if attempt.cancelled else failed(outcome, detail))

        later = self.world.time.callLater
        if name in self.refuse:
            later(0, lambda: tell(Outcome.REFUSED, "connection refused"))
        elif name in self.fail:
            outcome = self.fail[name]
            later(0, lambda: tell(outcome, "made to fail"))
        elif name in self.hang:
            later(timeout_s, lambda: tell(Outcome.CONNECT_TIMEOUT, "no answer in time"))
        elif greeting is not None and greeting.context is not None:
            return self._connect_tls(name, protocol, timeout_s, failed, greeting)
        else:
            later(0, lambda: attempt.cancelled or self._connect(name, protocol, greeting))
        return attempt

    def _connect(self, name: str, protocol: Any, greeting: Greeting | None) -> None:
        near, far = stream_pair()
        self.world.backend_connections.append(Peer(self.world, far, name))
        transport = Transport(self.world.poller, near)
        if greeting is None:
            transport.open(protocol)
        else:
            transport.open_behind(greeting.header, protocol, apart=greeting.apart)

    def _connect_tls(self, name: str, protocol: Any, timeout_s: float, failed: Any, greeting: Greeting) -> Any:
        world = self.world
        with socket.socket(socket.AF_UNIX) as server:
            server.bind("")  # Linux gives it a name that is no file
            server.listen(1)
            place = "\0" + server.getsockname()[1:].decode()
            dialer = Dialer(world.poller, world.deadlines, Names(None, world.engine.clock), world.time.callLater)
            attempt = dialer.dial(UnixAddress(place), protocol, timeout_s, failed, 0, greeting)
            far, _ = server.accept()
        far.setblocking(False)
        end = TlsEnd(self.tls[name], server_side=True)
        world.backend_connections.append(TlsPeer(world, far, end, name))
        return attempt


class FakeAttempt:
    def __init__(self) -> None:
        self.cancelled = False

    def cancel(self) -> None:
        self.cancelled = True


def settings(names: tuple[str, ...], options: dict[str, Any]) -> LoadBalancerConfig:
    """A configuration of these backends. An option is a table (`limits={"head_bytes": 300}`),
    a key of the top level, or one of the timeouts (`head_s=3`).
    """
    known = LoadBalancerConfig.model_fields
    timeouts = {name: float(value) for name, value in options.items() if name not in known}
    tables = {name: value for name, value in options.items() if name in known}
    # A body or an answer may drip, unless a test is about that.
    if "listeners" not in tables:
        tables["limits"] = {"client_bytes_per_s": 0, **tables.get("limits", {})}
    if names:
        tables["backends"] = list(names)
    if timeouts:
        tables["timeouts"] = timeouts
    return LoadBalancerConfig.model_validate(tables)


class World:
    """The data plane over `names`' backends; keywords are options of the configuration.

    `side` is "engine" or "resource", the two client sides, "tls": the engine behind TLS, or "fallback" and "tls fallback": where
    there is no epoll. `checked`: as
    if the backends were checked; nobody asks them, the test tells what a check would have found. Clients that come through a
    listener come through `sockets`.
    """

    def __init__(
        self,
        names: tuple[str, ...] = ("a:80",),
        *,
        side: str = "engine",
        checked: bool = True,
        observers: tuple[Observer, ...] = (),
        sockets: tuple[socket.socket, ...] = (),
        **options: Any,
    ) -> None:
        self.side = side
        self.time = Time()
        self.events: list[Event] = []
        self.backend_connections: list[Peer] = []
        clock = Clock(self.time.seconds)
        self.reactor = FakeReactor()
        self.poller: Poller = (
            ReactorPoller(self.reactor, clock, self.time.callLater)
            if side.endswith("fallback")
            else EpollPoller(clock, self.time.callLater, self._lost, 1)
        )
        self.dial = FakeDial(self)
        self.runtime = runtime_of(self.time, self.dial, now=clock, poller=self.poller, seed=3)
        self.deadlines = self.runtime.deadlines
        if "pools" not in options:
            options.setdefault("queue", {"no_backend_s": 0.0})
        self._names, self._options, self._checked = names, options, checked
        self.plane = DataPlane(
            self.runtime, self._plan(), {DEFAULT: sockets}, hear=self.events.append, observers=observers
        )
        self.engine = self.plane.frontends[DEFAULT]
        self.cluster = self.plane.clusters.get(DEFAULT) or next(iter(self.plane.clusters.values()))
        self.pool = self.cluster.pool
        self.arrivals = Arrivals(self.engine, self.poller, self._protocol)
        self.scheme = b"https" if side.startswith("tls") else b"http"
        self.serving: Any = Serving() if side.startswith("tls") else None
        self.engine.serving = self.serving
        self._clients: list[Peer] = []
        self._site: Any = None

    def _protocol(
        self, secured: Secured | None = None, agreed: Agreed | None = None, *, http2: bool = False
    ) -> Http1 | Http2 | Session:
        if http2:
            return Http2(self.engine, self.scheme, secured, agreed)
        if self.engine.tcp:
            return Session(self.engine, secured, "" if secured is None else secured.server_name, agreed=agreed)
        return Http1(self.engine, b"http" if secured is None else b"https", secured, agreed)

    def _plan(self) -> Any:
        plan = plan_of(settings(self._names, self._options))
        pools = {
            name: dataclasses.replace(
                pool, settings=dataclasses.replace(pool.settings, checked=self._checked), checks=None
            )
            for name, pool in plan.pools.items()
        }
        return dataclasses.replace(plan, pools=pools)

    def configure(self, **options: Any) -> None:
        """Have other options from now on."""
        self._options = {**self._options, **options}
        self._apply()

    def _apply(self) -> None:
        self.plane.apply(self._plan())
        self.engine.serving = self.serving  # which no configuration says

    def set_timeouts(self, **timeouts: float) -> None:
        """Have other timeouts from now on."""
        self._options = {**self._options, **timeouts}
        self._apply()

    def _lost(self) -> None:
        raise AssertionError("the poller was lost")

    # People.

    def client(self) -> Peer:
        """A client that has just connected."""
        near, far = stream_pair()
        if self.serving is not None:
            return self.tls_client(near, TlsPeer(self, far, TlsEnd(client_context())))
        protocol: Any = self._web().buildProtocol(None) if self.side == "resource" else self._protocol()
        Transport(self.poller, near).open(protocol)
        peer = Peer(self, far)
        self._clients.append(peer)
        self.run()
        return peer

    def tls_client(self, near: socket.socket, peer: TlsPeer) -> TlsPeer:
        """A client that speaks TLS, and whose handshake is over."""
        self.arrive(near)
        self._clients.append(peer)
        peer.up()
        acknowledged(peer.sock)  # tickets: what a client has not taken is waited for
        return peer

    def come(self, *, peer: tuple[str, int] = ("127.0.0.1", 40000)) -> Peer:
        """Somebody whose connection has just arrived from this address, and who has said nothing."""
        near, far = stream_pair()
        self.arrive(near, peer)
        self._clients.append(Peer(self, far))
        return self._clients[-1]

    def serve(self, serving: Any) -> None:
        """Serve new connections with this from now on; None: in the clear."""
        self.serving = self.engine.serving = serving

    def arrive(self, near: socket.socket, peer: tuple[str, int] = ("127.0.0.1", 40000)) -> None:
        """Let a connection arrive, whose other end has this address."""
        self.arrivals.take(near, peer, "8443", socket.AF_INET6 if ":" in peer[0] else socket.AF_INET)

    def _web(self) -> Any:
        from twisted_lb.net.resource import BalancedReverseProxyResource

        if self._site is None:
            self._site = Site(BalancedReverseProxyResource(self.engine), reactor=self.time, timeout=None)
        return self._site

    def backend(self, index: int = -1) -> Peer:
        """A connection that the balancer has made, the newest by default."""
        self.run()
        return self.backend_connections[index]

    @property
    def record(self) -> list[Backend]:
        return list(self.pool.backends.values())

    def update(self, *names: str) -> None:
        """Have these backends from now on."""
        self.cluster.update(BackendSpec.parse(name) for name in names)

    def outcomes(self) -> dict[str, int]:
        """How the attempts ended, over all backends."""
        total: dict[str, int] = {}
        for backend in self.cluster.snapshot().backends:
            for name, count in backend.outcomes.items():
                total[name] = total.get(name, 0) + count
        return total

    # Time.

    def run(self) -> bool:
        """Let everything happen that can happen without time passing, what is under way in the kernel among it; whether
        anything did.
        """
        anything = False
        for _ in range(10_000):
            something = self.time.run_due()
            if not isinstance(self.poller, EpollPoller):
                something = self.reactor.turn() or something
            elif select.select([self.poller.fileno()], [], [], 0)[0]:
                self.poller.doRead()
                something = True
            if not something and not arrived():
                return anything
            anything = True
        raise AssertionError("it never rests")

    def advance(self, seconds: float) -> None:
        """Let time pass, and everything in it happen."""
        ends_at = self.time.now + seconds
        self.run()
        while (at := self.time.next_at()) is not None and at <= ends_at:
            self.time.now = max(at, self.time.now)
            self.run()
        self.time.now = ends_at
        self.run()

    def close(self) -> None:
        """End everything, and see that nothing is left."""
        for cluster in self.plane.clusters.values():
            self.dial.refuse.update(cluster.pool.backends)
        for peer in [*self._clients, *self.backend_connections]:
            peer.sock.close()
        for listener in self.plane.listeners[DEFAULT]:
            listener.stop()
        self.run()
        running = {"exchanges": self.engine.exchanges, "clients": len(self.engine.clients)}
        running["by count"] = sum(flow.open for flow in self.engine.flows.all)
        self.plane.close()
        self.advance(5)
        left = {
            **running,
            "connections": sum(cluster.open for cluster in self.plane.clusters.values()),
            "descriptors": self.poller.watched,
            "in flight": sum(cluster.pool.leases for cluster in self.plane.clusters.values()),
            "deadlines": self.deadlines.armed,
            "arrivals": self.engine.gate.open,
            "handshakes": self.engine.handshakes.open + self.engine.handshakes.waiting,
            "counted requests": sum(len(running) for running in self.plane.routing.running.values()),
        }
        self.poller.stop()
        assert not any(left.values()), left
