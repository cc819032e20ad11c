"""A machine of a simulated world: a modelled server, the connections to it, where checks ask it, and what goes wrong there."""

from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Any, Final, Protocol

from twisted_lb.core.address import Address
from twisted_lb.core.never import NEVER
from twisted_lb.core.outcome import Outcome
from twisted_lb.net.kept import IDLE_TIMEOUT_MARGIN, LEARNED_FOR_S, LEAST_S
from twisted_lb.sim.servers import Server
from twisted_lb.sim.visits import Guest, Wire
from twisted_lb.testing.backends import ScriptedBackend, response
from twisted_lb.testing.network import MemoryNetwork

# The connections of a server that dies are reset one after the other, as a kernel does it, the oldest first.
RESET_S: Final = 1e-6


@dataclass(frozen=True)
class Network:
    """The way to the servers, in seconds: `to_backend_s` there, and as long back, both inside the lease, where policies count them as
    load; `connect_s` more where a connection has to be made.
    """

    to_backend_s: float = 0.0
    connect_s: float = 0.0


# No way at all.
NEARBY: Final = Network()


@dataclass(frozen=True)
class Errors:
    """A server that fails fast: such a share of its requests is answered with this status, so long after they came, whatever is in
    its queue.
    """

    share: float
    status: int
    within_s: float

    def __post_init__(self) -> None:
        if not 0 <= self.share <= 1:
            raise ValueError(f"share should be between 0 and 1, not {self.share:g}")


class Stage(Protocol):
    """What machines need of their world."""

    @property
    def network(self) -> Network:
        """The way to them."""

    @property
    def abandoned_stops(self) -> bool:
        """Whether a server stops what nobody waits for any more."""

    @property
    def idle_s(self) -> float:
        """For how long idle connections are kept."""

    def now(self) -> float:
        """The time, in seconds."""

    def event(self, at: float, call: Callable[[Any, float], None], argument: object) -> None:
        """Make a call at a moment, with the argument and that moment."""

    def arm(self, wire: Wire, due: float) -> None:
        """Arm the deadline of a connection."""

    def wire_number(self) -> int:
        """The number of a new connection."""


class Machine:
    """A server and the connections to it, of which the one used last is the next (LIFO). What is learnt of how long a backend keeps
    idle ones is learnt as by `net/cluster.Cluster`. `chance` says which requests fail, while some do.
    """

    def __init__(self, stage: Stage, server: Server[Wire], doors: MemoryNetwork, door: Address, chance: Random) -> None:
        self.server: Final = server
        self.failing: Errors | None = None
        self._stage: Final = stage
        self._chance: Final = chance
        self._doors: Final = doors
        self._address: Final = door
        self._door = self._opened()
        self._idle: list[Wire] = []
        self._busy: dict[Wire, None] = {}  # an ordered set
        self._idle_timeout_s = self._learned_until = NEVER
        server.begin(self._served, lambda _, at: stage.event(at, self._turn, None))

    def _opened(self) -> ScriptedBackend:
        """Checks are answered well, at once."""
        return ScriptedBackend(self._doors, self._address, lambda _: [response(b"")])

    # What happens to it.

    def down(self) -> None:
        """Die: refuse connections, and reset those that are there."""
        now = self._stage.now()
        self._door.stop()
        self.server.kill(now)
        for number, wire in enumerate(sorted([*self._idle, *self._busy], key=_number)):
            self._stage.event(now + self._stage.network.to_backend_s + number * RESET_S, self._reset, wire)

    def up(self) -> None:
        """Come back, with nothing to do."""
        self._door = self._opened()
        self.server.start(self._stage.now())

    def _reset(self, wire: Wire, now: float) -> None:
        if wire.visit is not None:
            del self._busy[wire]
            stale = wire.requests > 1
            if stale:
                self._learn(wire, wire.idle_s, now)
            wire.visit.failed(Outcome.STALE_REUSE if stale else Outcome.NO_RESPONSE, "connection reset")
        elif wire in self._idle:
            self._learn(wire, now - wire.idle_since, now)
            self.idle_out(wire)

    def _learn(self, wire: Wire, idle_s: float, now: float) -> None:
        """See Cluster.closed_by_backend."""
        first = self._idle[0] if self._idle else wire
        if idle_s < LEAST_S or (first is not wire and now - first.idle_since > idle_s):
            return
        if idle_s * IDLE_TIMEOUT_MARGIN < self._idle_timeout_s:
            self._idle_timeout_s = idle_s * IDLE_TIMEOUT_MARGIN
            self._learned_until = now + LEARNED_FOR_S
            for one in self._idle:
                one.reuse_until = min(one.reuse_until, one.idle_since + self._idle_timeout_s)
                self._stage.arm(one, one.reuse_until)

    def forget(self) -> None:
        """It has gone away, and may come back configured otherwise."""
        self._idle_timeout_s = self._learned_until = NEVER

    def hang_up(self) -> None:
        """Close the idle connections."""
        for wire in list(self._idle):
            self.idle_out(wire)

    def idle_out(self, wire: Wire) -> None:
        """Close an idle connection."""
        wire.deadline.end()
        self._idle.remove(wire)

    # What a visit asks of it.

    def take(self) -> Wire | None:
        """An idle connection, None where a new one has to be made."""
        now = self._stage.now()
        if not self._idle or now >= self._idle[-1].reuse_until:
            return None
        wire = self._idle.pop()
        wire.idle_s = now - wire.idle_since
        return wire

    def put(self, wire: Wire) -> None:
        """A connection is idle again."""
        now = self._stage.now()
        if now >= self._learned_until:
            self.forget()
        del self._busy[wire]
        wire.idle_since = now
        wire.reuse_until = now + min(self._stage.idle_s, self._idle_timeout_s)
        self._idle.append(wire)
        self._stage.arm(wire, wire.reuse_until)

    def dial(self, visit: Guest) -> None:
        """Connect: `visit.connected` or `visit.failed` follows."""
        self._stage.event(self._stage.now() + self._stage.network.connect_s, self._connect, visit)

    def _connect(self, visit: Guest, now: float) -> None:
        if self.server.up:
            visit.connected(Wire(self, self._stage.wire_number()))
        else:
            visit.failed(Outcome.REFUSED, "connection refused")

    def send(self, visit: Guest, wire: Wire) -> None:
        """Send a request: `visit.answered` or `visit.failed` follows."""
        self._busy[wire] = None
        now, to_backend_s = self._stage.now(), self._stage.network.to_backend_s
        # Of several that are sent at one moment, as after a server has died, those overtake which need no new connection.
        if to_backend_s or now != visit.born:
            self._stage.event(now + to_backend_s, self._reach, wire)
        else:
            self._reach(wire, now)

    def leave(self, wire: Wire) -> None:
        """The answer is not wanted any more, and the connection of no use."""
        del self._busy[wire]
        if self._stage.abandoned_stops:
            self.server.leave(wire, self._stage.now())

    # The server's side.

    def _reach(self, wire: Wire, now: float) -> None:
        """A request is here."""
        visit = wire.visit
        if visit is None or not self.server.up:
            return
        self.server.asked += 1
        fault = self.failing
        if fault is not None and self._chance.random() < fault.share:
            self._stage.event(now + fault.within_s, self._fail, (wire, fault.status))
        elif not self.server.take(wire, visit.demand, now):
            self._stage.event(now, self._reset, wire)

    def _turn(self, _: None, now: float) -> None:
        if self.server.up:
            self.server.turn(now)

    def _fail(self, answer: tuple[Wire, int], now: float) -> None:
        """A request is answered fast, unless the server has died meanwhile."""
        if self.server.up:
            self._answer(*answer, now)

    def _served(self, wire: Wire, now: float) -> None:
        """The work for a request is done."""
        self._answer(wire, 200, now)

    def _answer(self, wire: Wire, status: int, now: float) -> None:
        """An answer leaves, of which nobody may want to know any more."""
        if wire.visit is None:
            return
        if self._stage.network.to_backend_s:
            self._stage.event(now + self._stage.network.to_backend_s, self._come_back, (wire, status))
        else:
            wire.visit.answered(status)

    def _come_back(self, answer: tuple[Wire, int], now: float) -> None:
        wire, status = answer
        if wire.visit is not None:
            wire.visit.answered(status)

    def __repr__(self) -> str:
        return f"<Machine {self.server!r}, {len(self._busy)} connections busy, {len(self._idle)} idle>"


def _number(wire: Wire) -> int:
    return wire.number
