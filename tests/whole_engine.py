"""The referee of the simulation: the same requests through the whole engine, byte by byte, on a network in memory."""

from collections import deque
from dataclasses import dataclass, field
from itertools import islice

from twisted_lb.config import LoadBalancerConfig
from twisted_lb.core.outcome import Outcome
from twisted_lb.core.record import Record
from twisted_lb.sim.laws import BLOCK, Arrivals, Law, stream
from twisted_lb.sim.machines import RESET_S
from twisted_lb.testing import (
    RESET,
    Balanced,
    HeapClock,
    MemoryNetwork,
    ScriptedBackend,
    ScriptedClient,
    Wait,
    response,
)


@dataclass
class Told:
    """What became of one request."""

    status: int
    attempts: list[tuple[str, Outcome | None]]
    latency_s: float


@dataclass
class Faults:
    """What happens to servers: moments with the name, and a speed, or a share of errors."""

    down: list[tuple[float, str]] = field(default_factory=list)
    up: list[tuple[float, str]] = field(default_factory=list)
    slow: list[tuple[float, str, float]] = field(default_factory=list)
    errors: list[tuple[float, str, float]] = field(default_factory=list)


class Queue:
    """A server with one worker, as a script: FIFO, each request at the speed that holds when it begins. Who comes while its backlog
    is full is reset.
    """

    def __init__(self, whole, name, seed, backlog):
        self.whole, self.name = whole, name
        self.most = 1 + backlog
        self.ends = deque()  # of those who are there, when they will have been served
        self.free, self.share = 0.0, 0.0
        self.speeds = [(0.0, 1.0)]
        self.chance = stream(seed, f"errors {name}")
        self.backend = None
        self.up()

    def up(self):
        self.free = self.whole.clock.seconds()
        self.ends.clear()
        self.backend = ScriptedBackend(self.whole.network, self.name, self.answer)

    def down(self):
        self.backend.listener.stop()
        for number, connection in enumerate([one for one in self.backend.connections if one.open]):
            connection.fall_silent()
            self.whole.clock.callLater(number * RESET_S, connection.transport.abortConnection)

    def answer(self, request):
        target = request.split(b" ", 2)[1]
        if not target.startswith(b"/n/"):
            return [response(b"")]
        if self.share and self.chance.random() < self.share:
            return [Wait(0.001), response(b"", 500)]
        now = self.whole.clock.seconds()
        while self.ends and self.ends[0] <= now:
            self.ends.popleft()
        if len(self.ends) >= self.most:
            return [RESET]
        begins = max(self.free, now)
        speed = [speed for at, speed in self.speeds if at <= begins][-1]
        self.free = begins + self.whole.demands[int(target[3:])] / speed
        self.ends.append(self.free)
        return [Wait(self.free - now), response(b"")]


class Whole:
    """A run of the whole engine: `told` is what became of each request, by number. Each has one of so many `keys`, in X-Key. So many
    may wait in the `backlog` of each server.
    """

    def __init__(
        self,
        config: LoadBalancerConfig,
        arrivals: Arrivals,
        service: Law,
        *,
        requests: int,
        seed: int,
        keys: int = 1,
        backlog: int = 2048,
    ):
        self.clock = HeapClock()
        self.network = MemoryNetwork(self.clock)
        self.told: dict[int, Told] = {}
        blocks = arrivals.blocks(stream(seed, "arrivals"))
        self.moments = [one for block in islice(blocks, -(-requests // BLOCK)) for one in block][:requests]
        rng = stream(seed, "service")
        self.demands = [one for _ in range(0, requests, BLOCK) for one in service.block(rng, BLOCK)]
        chance = stream(seed, "keys")
        self.keys = [int(chance.random() * keys) for _ in range(requests)]
        self.balanced = Balanced(config, self.network, seed=seed, observers=(self.ended,))
        self.servers = {name: Queue(self, name, seed, backlog) for name in self.balanced.cluster.pool.backends}
        self.idle: list[ScriptedClient] = []
        self.busy: dict[int, ScriptedClient] = {}

    def happen(self, faults: Faults) -> None:
        for at, name in faults.down:
            self.clock.callLater(at, self.servers[name].down)
        for at, name in faults.up:
            self.clock.callLater(at, self.servers[name].up)
        for at, name, speed in faults.slow:
            self.servers[name].speeds.append((at, speed))
        for at, name, share in faults.errors:
            self.clock.callLater(at, setattr, self.servers[name], "share", share)

    def ended(self, record: Record) -> None:
        number = int(record.target[3:])
        attempts = [(one.lease.backend.name, one.outcome) for one in record.attempts]
        self.told[number] = Told(record.status, attempts, record.took_s)
        self.idle.append(self.busy.pop(number))

    def run(self) -> dict[int, Told]:
        for number, moment in enumerate(self.moments):
            self.clock.run_until(moment)
            client = self.idle.pop() if self.idle else None
            if client is None or not client.open or len(client.received) > 1 << 16:
                client = ScriptedClient(self.network, "lb:8080")
            self.busy[number] = client
            client.send(b"GET /n/%d HTTP/1.1\r\nHost: a\r\nX-Key: %d\r\n\r\n" % (number, self.keys[number]))
        self.clock.run_until(lambda: len(self.told) == len(self.moments))
        self.balanced.close()
        self.clock.settle()
        return self.told
