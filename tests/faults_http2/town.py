"""One story over HTTP/2: a balancer, clients whose requests share connections, and backends of either protocol, from one seed."""

import random
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any, cast

from faults.climate import other_settings, settings, weather
from faults.kernel import Kernel, ReactorDescriptor
from faults.servers import Server as Http1Server
from faults.tape import TownNetwork
from faults_http2.clients import Client
from faults_http2.servers import Server as Http2Server
from twisted.logger import LogLevel, globalLogPublisher

from twisted_lb.config import LoadBalancerConfig
from twisted_lb.config.objects import objects_of
from twisted_lb.core.backend import AdminState, Backend
from twisted_lb.core.record import Record
from twisted_lb.net.arrival import Arrivals
from twisted_lb.net.clock import Clock
from twisted_lb.net.foreign import Foreign
from twisted_lb.net.http2 import Http2
from twisted_lb.net.poller import EpollPoller
from twisted_lb.net.protocols import Protocols
from twisted_lb.net.secured import Secured
from twisted_lb.plan import DEFAULT, plan_of
from twisted_lb.testing import Balanced, Faults, HeapClock
from twisted_lb.testing.balanced import runtime_of

LB = "lb:8080"
START = 1000.0
LOOK_S = 0.1
# After so long a drain is known to whoever listens, where nothing stalls.
DRAIN_HEARD_S = 2.0
# A stream's window, and what has come with one receive beyond it.
HELD_MOST = 65536
# What is kept of an answer: the mark, and what was sent ahead with one receive beyond it.
KEPT_MOST = 65536 + 2 * 65536 + 32768


class Town:
    """Everything of one seed. `hear` is told what happens, as a line; `complaints` are what was wrong while it happened."""

    def __init__(self, seed: int, hear: Callable[[str], None] | None = None) -> None:
        self.seed = seed
        self.rng = rng = random.Random(f"{seed}/http2")
        self.clock = HeapClock(START)
        self._hear = hear
        self.complaints: list[str] = []
        self.records: list[Record] = []
        self.logged: list[dict[str, Any]] = []
        self.left: dict[str, object] = {}
        self.spoken: list[Http2] = []  # connections that speak it
        self.drained = self._ends = False
        self.backends: dict[int, Backend] = {}
        self.chances = weather(rng)
        self.faults = Faults(self.clock, rng, self.chances, lambda fault: self.note("network", str(fault)))
        self.network = TownNetwork(self.clock, self.faults, rng, random.Random(f"{seed}/connects"), None)
        self.network.connects.full_share = self.faults.chances.refused
        self.kernel = self.network.kernel = Kernel(self.clock, rng) if rng.random() < 0.6 else None
        self.http2_backends = rng.random() < 0.5
        names = [f"{name}:80" for name in "abc"[: rng.choice([1, 2, 2, 3])]]
        self.servers = [self._server(name) for name in names]
        bulky = rng.random() < 0.2
        for server in self.servers:
            server.bulky = bulky
        self.config = self.over(settings(rng, names, finish_half_closed=rng.random() < 0.3))
        if self.kernel is None:
            self.runtime = runtime_of(self.clock, self.network, seed=seed)
        else:
            now = Clock(self.clock.seconds)
            poller = self.kernel.poller(now, self.clock.callLater, self._poller_lost)
            self.runtime = runtime_of(self.clock, self.network, seed=seed, now=now, poller=poller)
            self.kernel.after = self.network.look_at_buffers
        self.network.now = self.runtime.clock
        self.poller = self.network.poller = cast(EpollPoller | None, self.runtime.poller)
        self.balanced = Balanced(
            self.config,
            self.network,
            address=LB,
            hear=lambda event: self.note("balancer", f"{event}"),
            observers=(self._heard_end,),
            runtime=self.runtime,
        )
        self.plane = self.balanced.data_plane
        self.frontend = self.balanced.frontend
        self.cluster = self.balanced.cluster
        if self.poller is not None:
            made = Arrivals(self.frontend, self.poller, self._speak)
            self.network.take = lambda sock, peer: made.take(sock, peer, "8080", sock.family)  # type: ignore[arg-type]
        else:
            self.balanced.listener.stop()
            self.network.listen(LB, lambda: Foreign(self.runtime.clock, self._speak(None, http2=True)))
        self._note_backends()
        self.clients = [
            Client(self.network, LB, f"c{index}", rng, self._noting(f"c{index}"), self.complaints.append)
            for index in range(rng.choice([1, 1, 2, 3, 4]))
        ]

    def over(self, config: LoadBalancerConfig) -> LoadBalancerConfig:
        """These settings, over HTTP/2."""
        keys: dict[str, Any] = {"protocols": ("h2", "http/1.1") if self.rng.random() < 0.5 else ("h2",)}
        if self.http2_backends:
            pool = objects_of(config).pools[DEFAULT].model_copy(update={"protocol": "h2"})
            keys |= {"pools": {**config.pools, DEFAULT: pool}, "backends": ()}
        return config.model_copy(update=keys)

    def _server(self, address: str) -> Http1Server | Http2Server:
        note = self._noting(address)
        if self.http2_backends:
            return Http2Server(self.network, address, self.rng, note, self.complaints.append)
        return Http1Server(self.network, address, self.rng, note)

    def _speak(self, secured: Secured | None, agreed: Any = None, *, http2: bool = False) -> Any:
        made = Protocols(self.frontend)(secured, agreed, http2=http2)
        if isinstance(made, Http2):
            self.spoken.append(made)
        return made

    def _poller_lost(self) -> None:
        raise AssertionError("the poller was lost")

    def _noting(self, who: str) -> Callable[[str], None]:
        return lambda text: self.note(who, text)

    def note(self, who: str, text: str) -> None:
        if self._hear is not None:
            self._hear(f"{self.clock.seconds() - START:8.3f}  {who:<14} {text}")

    def _heard_end(self, record: Record) -> None:
        self.records.append(record)
        self.note(
            "balancer",
            f"ends {record.target.decode()}: {record.ended_by} {record.status}, {len(record.attempts)} attempts {record.detail}",
        )

    def _heard_log(self, event: dict[str, Any]) -> None:
        if event.get("log_failure") is not None or event.get("log_level") is LogLevel.critical:
            self.logged.append(event)

    def _note_backends(self) -> None:
        self.backends |= {id(one): one for one in self.cluster.pool.backends.values()}

    # Living it.

    def run(self) -> "Town":
        """The whole story, to its end, and what is left over then."""
        globalLogPublisher.addObserver(self._heard_log)
        try:
            with nullcontext() if self.kernel is None else self.kernel.system_calls():
                self._live()
                self._end()
        finally:
            globalLogPublisher.removeObserver(self._heard_log)
        return self

    def _live(self) -> None:
        rng = self.rng
        for client in self.clients:
            self.clock.callLater(rng.uniform(0, 5.0), client.connect)
        if rng.random() < 0.3:
            self.clock.callLater(rng.uniform(0.5, 6.0), self._reload)
        if rng.random() < 0.2:
            self.clock.callLater(rng.uniform(0.5, 6.0), self._command, AdminState.DRAIN)
        if rng.random() < 0.2:
            self.clock.callLater(rng.uniform(0.5, 8.0), self._drain, rng.choice([0.05, 0.3, 3.0, 20.0]))
        self._look()
        for _ in range(40):
            self.clock.advance(5.0)
            if self.clock.seconds() > START + 8.0 and all(client.done_all for client in self.clients):
                break

    def _look(self) -> None:
        """What is held, of either direction, is bounded; what a route reads ahead of slow clients comes on top."""
        for connection in self.spoken:
            for stream in connection._streams.values():
                held, kept = sum(map(len, stream._held or ())), stream._kept_bytes
                if held > HELD_MOST or kept > KEPT_MOST + self.config.buffer_response_bytes:
                    self.complaints.append(
                        f"{stream}: {held} bytes of its request are held, {kept} of its answer are kept"
                    )
        if not self._ends:
            self.clock.callLater(LOOK_S, self._look)

    def _reload(self) -> None:
        if self.drained:
            return
        self.note("operator", "has other settings")
        config = other_settings(self.rng, self.config)
        if self.http2_backends:
            pool = config.pools[DEFAULT]
            more = {"upstream": config.upstream, "retry": config.retry, "health_check": config.health_check}
            keys = {key: value for key, value in more.items() if key in type(pool).model_fields}
            config = config.model_copy(update={"pools": {DEFAULT: pool.model_copy(update=keys)}})
            config = config.model_copy(
                update={key: getattr(self.config, key) for key in keys} | {"policy": self.config.policy}
            )
        self.config = config
        self.plane.apply(plan_of(config, self.plane.plan))
        self._note_backends()

    def _command(self, admin: AdminState) -> None:
        if not self.cluster.pool.backends:
            return
        name = self.rng.choice([*self.cluster.pool.backends])
        self.note("operator", f"{name} is to be {admin.name}")
        self.cluster.command(name, admin)
        if admin is not AdminState.READY:
            self.clock.callLater(self.rng.uniform(0, 4.0), self._command_ready, name)

    def _command_ready(self, name: str) -> None:
        if name in self.cluster.pool.backends:
            self.cluster.command(name, AdminState.READY)

    def _drain(self, within_s: float) -> None:
        self.note("operator", f"drains within {within_s} s")
        if not self.chances.stalled:
            self.clock.callLater(DRAIN_HEARD_S, self._look_at_drain, [one for one in self.clients if not one.over])
        self.drained = True
        self.balanced.listener.stop()
        self.plane.drain(within_s).addCallback(lambda _: self._drained())

    def _look_at_drain(self, clients: list[Client]) -> None:
        """Who was here when it began, and still is, has been told."""
        for client in clients:
            if client.reads_at_once and not (client.over or client.left or client.peer.went):
                self.complaints.append(f"{client} is not told of the drain")

    def _drained(self) -> None:
        self.note("operator", "has drained it")
        self.plane.close()

    def _end(self) -> None:
        """Every wait ends by itself; then the balancer is stopped, and nothing may be left."""
        self.note("town", "calms down")
        self._ends = True
        self.faults.calm()
        for server in self.servers:
            server.calm = True
        self.network.connects.full_share = 0.0
        for client in self.clients:
            client.stop()
            for asking in client.askings:
                asking.stop()
            if client.transport is not None:
                client.transport.loseConnection()
                client.transport.resumeProducing()
        self.clock.advance(12.0)
        self.clock.advance(10.0)
        backends = list(self.backends.values())
        self._leftover(
            exchanges=self.frontend.exchanges,
            clients=len(self.frontend.clients),
            inside=self.frontend.gate.open,
            in_flight=sum(backend.in_flight for backend in backends),
            handshakes=self.frontend.handshakes.open + self.frontend.handshakes.waiting,
            held=self.runtime.memory.taken,
            wait_to_be_held=self.runtime.memory.waiting,
        )
        if not self.drained:
            self.plane.close()
            self.balanced.listener.stop()
        self.clock.callLater(0, self.runtime.deadlines.stop)
        self.clock.advance(1.0)
        self._leftover(connections=self.cluster.open, idle=self.cluster.idle, deadlines=self.runtime.deadlines.armed)
        if self.kernel is not None:
            self._leftover(sockets=len(self.kernel.sockets))
        self.clock.advance(60.0)
        self._leftover(ends=self.network.open_connections, delayed_calls=list(self.clock.getDelayedCalls()))
        if self.kernel is not None and self.poller is not None:
            self.poller.stop()
            files = [file for file in self.kernel.files.values() if not isinstance(file, ReactorDescriptor)]
            self._leftover(files=files, watched=self.poller.watched)

    def _leftover(self, **things: object) -> None:
        self.left.update({name: thing for name, thing in things.items() if thing})
