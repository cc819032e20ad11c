"""One story of the fault network: a balancer, its clients and its backends, all from one seed, on virtual time."""

import random
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any

from faults.clients import Client
from faults.kernel import Kernel
from faults.servers import Server
from faults.tape import TownNetwork
from twisted.logger import LogLevel, globalLogPublisher

from twisted_lb.config import LoadBalancerConfig
from twisted_lb.core import record as core_record
from twisted_lb.core.backend import AdminState
from twisted_lb.core.events import Event
from twisted_lb.core.pickers import POLICIES
from twisted_lb.net.clock import Clock
from twisted_lb.testing import Balanced, Chances, Faults, HeapClock
from twisted_lb.testing.balanced import runtime_of

LB = "lb:8080"
START = 1000.0
# Short: virtual time is cheap, but each of its seconds is ten ticks of the wheel.
TIMEOUTS = {
    "head_s": 3.0,
    "body_idle_s": 4.0,
    "connect_s": 1.0,
    "response_head_s": 6.0,
    "response_idle_s": 5.0,
    "client_idle_s": 3.0,
    "tunnel_idle_s": 8.0,
}
MORE_ATTEMPTS = 2
REPLAY_BYTES = 8192


@dataclass
class Record:
    """What the balancer says of an exchange that has ended."""

    at: int
    when: float
    name: str
    method: str
    attempts: int
    outcome: str
    status: int
    backend: str
    unread: bool  # bytes of its client's are here, and its backend has taken all that it was sent


@dataclass
class Change:
    """Who was usable from when on."""

    at: int
    when: float
    usable: frozenset[str]


@dataclass
class Left:
    """What is left over; empty when nothing is."""

    things: dict[str, object] = field(default_factory=dict)


class Town:
    """Everything of one seed. `hear` is told what happens, as a line."""

    def __init__(self, seed: int, hear: Callable[[str], None] | None = None) -> None:
        self.seed = seed
        self.rng = rng = random.Random(seed)
        self.clock = HeapClock(START)
        self._hear = hear
        self.records: list[Record] = []
        self.changes: list[Change] = []
        self.logged: list[dict[str, Any]] = []
        self.left: dict[str, object] = {}
        self.faults = Faults(self.clock, rng, self._weather(), lambda fault: self.note("network", str(fault)))
        hear_tape = None if hear is None else lambda tape, e: self.note(tape.name, f"{e.what} {_shown(e.data)}")
        self.network = TownNetwork(self.clock, self.faults, rng, hear_tape)
        names = [f"{name}:80" for name in "abcd"[: rng.choice([1, 2, 2, 3, 4])]]
        self.servers = [self._server(name) for name in names]
        self.finish_half_closed = rng.random() < 0.3
        self.now = Clock(self.clock.seconds)
        self.network.now = self.now
        self._kernel: Kernel | None = None
        if rng.random() < 0.75:
            self._kernel = self.network.kernel = Kernel(self.clock, rng)
        self._build(names)
        self.clients = [self._client(f"c{index}") for index in range(rng.choice([1, 2, 4, 6, 8]))]

    @property
    def foreign(self) -> bool:
        """Whether the balancer's transports are not its own: it cannot half-close them, nor see how much is queued."""
        return self._kernel is None

    # Making it.

    def _weather(self) -> Chances:
        """How bad the network is: mostly not very."""
        rng = self.rng
        bad = rng.choice([0.0, 0.3, 1.0])
        torn = rng.choice([0.0, 0.3, 1.0])
        return Chances(
            refused=0.05 * bad,
            hanging=0.03 * bad,
            local_failure=0.02 * bad,
            partial_write=0.3 * torn,
            split=0.3 * torn,
            delayed=0.3 * torn,
            longest_delay_s=rng.choice([0.0, 0.01, 0.3]),
            overtaken=0.5,
            reset=0.05 * bad,
            closed=0.05 * bad,
            half_closed=0.03 * bad,
            stalled=0.05 * bad,
            longest_stall_s=rng.choice([1.0, 10.0]),
            within_bytes=50_000,
        )

    def _server(self, address: str) -> Server:
        return Server(self.network, address, self.rng, lambda text: self.note(address, text))

    def _client(self, name: str) -> Client:
        return Client(self.network, LB, name, self.rng, lambda text: self.note(name, text))

    def _config(self, names: list[str]) -> LoadBalancerConfig:
        """Settings by chance; short times."""
        rng = self.rng
        checked = rng.random() < 0.7
        return LoadBalancerConfig.model_validate(
            {
                "backends": names,
                "policy": rng.choice(sorted(POLICIES)),
                "timeouts": TIMEOUTS,
                "limits": {"replay_body_bytes": REPLAY_BYTES, "client_bytes_per_s": 0},
                "retry": {"more_attempts": MORE_ATTEMPTS},
                "upstream": {
                    "max_idle": rng.choice([0, 1, 8]),
                    "idle_s": 4.0,
                    "max_requests": 8,
                    "max_age_s": 20.0,
                },
                "health_check": {
                    "interval_s": 2.0 if checked else 0.0,
                    "timeout_s": 1.0,
                    "path": "/health",
                    "rise": rng.choice([1, 2]),
                    "fall": rng.choice([1, 3]),
                },
                "client_half_close": "finish" if self.finish_half_closed else "abort",
            }
        )

    def _build(self, names: list[str]) -> None:
        poller = None
        if self._kernel is not None:
            kernel = self._kernel
            poller = self.network.poller = kernel.poller(self.now, self.clock.callLater, self._poller_lost)
            kernel.after = self.network.look_at_buffers
        self.poller = poller
        runtime = runtime_of(self.clock, self.network, seed=self.seed, now=self.now, poller=poller)
        self.balanced = Balanced(
            self._config(names),
            self.network,
            address=LB,
            hear=self._heard_event,
            observers=(self._heard_end,),
            runtime=runtime,
        )
        self.frontend = self.balanced.frontend
        self.cluster = self.balanced.cluster
        self.pool = self.cluster.pool
        self.deadlines = runtime.deadlines
        self._note_usable()

    @property
    def checked(self) -> bool:
        """Whether anybody checks the backends."""
        return self.cluster.checks is not None

    def _poller_lost(self) -> None:
        raise AssertionError("the poller was lost")

    # What is heard.

    def note(self, who: str, text: str) -> None:
        if self._hear is not None:
            self._hear(f"{self.clock.seconds() - START:8.3f}  {who:<22} {text}")

    def _heard_event(self, event: Event) -> None:
        self._note_usable()
        self.note("balancer", f"{event}")

    def _note_usable(self) -> None:
        usable = frozenset(b.name for b in self.pool.backends.values() if b.usable)
        self.changes.append(Change(self.network.tapes.tick(), self.clock.seconds(), usable))

    def _heard_end(self, ended: core_record.Record) -> None:
        name = ended.target.decode().removeprefix("/r/")
        record = Record(
            self.network.tapes.tick(),
            self.clock.seconds(),
            name,
            ended.method.decode(),
            len(ended.attempts),
            "" if ended.outcome is None else ended.outcome.name,
            ended.status,
            ended.backend_name,
            self._is_unread(name, ended.backend_name),
        )
        self.records.append(record)
        self.note(
            "balancer",
            f"ends {record.name}: {record.outcome or 'no backend'} {record.status}, {record.attempts} attempts",
        )

    def _is_unread(self, name: str, backend: str) -> bool:
        """Whether nobody but the balancer keeps a request from going on."""
        host = f"10.0.0.{1 + int(name.partition('r')[0][1:])}"
        clients = [tape for tape in self.network.tapes.all if tape.name.startswith(f"client {host}:")]
        if not clients[-1].incoming.bytes:
            return False
        backends = [tape.outgoing for tape in self.network.tapes.all if tape.name == f"backend {backend}"]
        now = self.clock.seconds()
        return not any(pipe.queued or (pipe.held_at[0] == now and pipe.held_at[1]) for pipe in backends)

    def _heard_log(self, event: dict[str, Any]) -> None:
        if event.get("log_failure") is not None or event.get("log_level") is LogLevel.critical:
            self.logged.append(event)

    # Living it.

    def run(self) -> "Town":
        """The whole story, to its end, and what is left over then."""
        globalLogPublisher.addObserver(self._heard_log)
        try:
            with nullcontext() if self._kernel is None else self._kernel.counting_what_is_queued():
                self._live()
                self._end()
        finally:
            globalLogPublisher.removeObserver(self._heard_log)
        return self

    def _live(self) -> None:
        rng = self.rng
        for client in self.clients:
            self.clock.callLater(rng.uniform(0, 6.0), client.connect)
        if rng.random() < 0.3:
            self.clock.callLater(rng.uniform(0, 5.0), self._command, rng.choice([AdminState.DRAIN, AdminState.MAINT]))
        for _ in range(30):
            self.clock.advance(5.0)
            if self._kernel is None:
                self.network.look_at_buffers()
            if self.clock.seconds() > START + 8.0 and all(client.done for client in self.clients):
                break

    def _command(self, admin: AdminState) -> None:
        name = self.rng.choice([*self.pool.backends])
        self.cluster.command(name, admin)
        if admin is not AdminState.READY:
            self.clock.callLater(self.rng.uniform(0, 4.0), self._command_ready, name)

    def _command_ready(self, name: str) -> None:
        self.cluster.command(name, AdminState.READY)

    def _end(self) -> None:
        """Every wait ends by itself; then the balancer is stopped, and nothing may be left."""
        self.note("town", "calms down")
        self.faults.calm()
        for server in self.servers:
            server.calm = True
        for client in self.clients:
            client.stop()
            if client.transport is not None:
                client.transport.loseConnection()
                client.transport.resumeProducing()
        self.clock.advance(12.0)
        self._leftover(
            exchanges=self.frontend.exchanges,
            clients=len(self.frontend.clients),
            inside=self.frontend.gate.open,
            in_flight=sum(backend.in_flight for backend in self.pool.backends.values()),
            busy_connections=self.cluster.open - self.cluster.idle,
        )
        self.balanced.data_plane.close()
        self.clock.advance(1.0)
        self._leftover(connections=self.cluster.open, idle=self.cluster.idle, deadlines=self.deadlines.armed)
        if self._kernel is not None and self.poller is not None:
            self._leftover(sockets=len(self._kernel.sockets), watched=self.poller.watched)
        self.clock.advance(60.0)
        self._leftover(
            ends=self.network.open_connections,
            wheel=self.deadlines.armed,
            delayed_calls=self.clock.getDelayedCalls(),
        )
        if self.poller is not None:
            self.poller.stop()

    def _leftover(self, **things: object) -> None:
        self.left.update({name: thing for name, thing in things.items() if thing})


def _shown(data: bytes) -> str:
    line = data.partition(b"\r\n")[0][:60]
    return f"{len(data)} bytes {line!r}" if data else ""
