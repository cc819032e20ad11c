"""A simulated world: the data plane of production on virtual time, in front of modelled servers that may be slow, fail and die.

Pools, policies, retries, the budget, queues, ejection, checks and their schedule are the real ones, made of a configuration by the
code that makes them in production. Modelled are the servers, the network between (two constants), and of an exchange what
has nothing to decide. Not modelled: the balancer's own CPU, garbage collection, caches, clients that leave or wait for one another,
and requests that are moved from a backend that freezes.
"""

from collections.abc import Callable, Iterator
from heapq import heappop, heappush
from random import Random
from typing import Any, Final

from twisted_lb.config import LoadBalancerConfig
from twisted_lb.core.address import TcpAddress
from twisted_lb.core.ask import ANY, Ask, key_of
from twisted_lb.core.events import BackendDown, BackendEjected, Event
from twisted_lb.core.never import NEVER
from twisted_lb.data_plane import DataPlane
from twisted_lb.net.cluster import Cluster
from twisted_lb.net.settings import RouteRules
from twisted_lb.plan import DEFAULT, plan_of
from twisted_lb.planned import Plan
from twisted_lb.sim.clock import WorldClock
from twisted_lb.sim.laws import BLOCK, Arrivals, Law, stream
from twisted_lb.sim.machines import NEARBY, Errors, Machine, Network
from twisted_lb.sim.observe import Run
from twisted_lb.sim.seen import Seen
from twisted_lb.sim.servers import Server, Workers
from twisted_lb.sim.visits import Visit, Wire
from twisted_lb.testing.balanced import runtime_of
from twisted_lb.testing.network import MemoryNetwork

_Call = Callable[[Any, float], None]


class World:
    """One run: requests of a law come to a balancer with this configuration, and are served by `server`s, one for each backend of
    its `pool`: a worker, unless given. `run` lets so many come and all of them end; what happens meanwhile is said before, by `at`.

    The demand belongs to the request and is drawn before the pick: another configuration meets the same requests. `method` says
    whether they may be repeated. `abandoned`: what a server does with a request that nobody waits for any more, "finishes" it
    (WSGI) or "stops" (ASGI). `keys`: of how many different ones each request has one, for policies that hash; or `ask` is drawn for each:
    its cost, lane and urgency too. `anew`: what a hedge asks of its server is drawn anew, so that it is the server that is slow, and
    not the request.

    `observe` is told each request when it has ended; `events` are the changes of state so far.
    """

    def __init__(
        self,
        config: LoadBalancerConfig,
        arrivals: Arrivals,
        service: Law,
        *,
        seed: int = 1,
        server: Callable[[str], Server[Wire]] = Workers,
        pool: str = DEFAULT,
        network: Network = NEARBY,
        method: str = "GET",
        abandoned: str = "finishes",
        keys: int = 0,
        ask: Callable[[Random], Ask] | None = None,
        anew: bool = False,
        observe: Callable[[Visit], None] | None = None,
    ) -> None:
        if abandoned not in ("finishes", "stops"):
            raise ValueError(f"abandoned should be finishes or stops, not {abandoned!r}")
        self.seed: Final = seed
        self.clock: Final = WorldClock()
        self.network: Final = network
        self.events: Final[list[Event]] = []
        self.machines: Final[dict[str, Machine]] = {}
        self.abandoned_stops: Final = abandoned == "stops"
        self._make: Final = server
        self._pool: Final = pool
        self._method: Final = method.encode("ascii")
        self._observe: Final = observe
        self._arrivals: Final = arrivals.blocks(stream(seed, "arrivals"))
        self._demands: Final = _each(service, stream(seed, "service"))
        self._again: Final = _each(service, stream(seed, "hedges")) if anew else None
        self._asks: Final = _asks(keys, ask, stream(seed, "keys"))
        self._block: list[float] = []  # moments to come, the next one last
        self._heap: list[tuple[float, int, _Call, Any]] = []
        self._number = 0
        self._wires = 0
        # Where checks ask.
        self._doors: Final = MemoryNetwork(self.clock)
        self._under_way = 0
        self._seen: Final = Seen()
        self._runtime: Final = runtime_of(self.clock, self._doors, seed=seed)
        plan = plan_of(config)
        self.data_plane: Final = DataPlane(self._runtime, plan, hear=self._heard)
        self.rules: RouteRules = _rules_of(plan, pool)
        # Requests that are modelled are no exchanges of a frontend, and what it checks of itself would not add up: this look
        # is the only one.
        self.data_plane.self_check.tick(self.now())
        self.data_plane.self_check.every_s = NEVER
        self._follow()

    # Its parts.

    def _follow(self) -> None:
        """There is a machine for each backend."""
        check = self.data_plane.plan.pools[self._pool].checks
        port = None if check is None else check.port
        for name, backend in self.cluster.pool.backends.items():
            if name not in self.machines:
                door = backend.address
                if isinstance(door, TcpAddress) and port is not None:
                    door = TcpAddress(door.host, port)
                chance = stream(self.seed, f"errors {name}")
                self.machines[name] = Machine(self, self._make(name), self._doors, door, chance)

    def apply(self, config: LoadBalancerConfig) -> None:
        """Go by another configuration from now on (reload); there is a server for each backend that is new."""
        plan = plan_of(config, self.data_plane.plan)
        self.rules = _rules_of(plan, self._pool)
        self.data_plane.apply(plan)
        self._follow()

    def _heard(self, event: Event) -> None:
        self.events.append(event)
        if isinstance(event, BackendDown | BackendEjected):
            machine = self.machines[event.backend_name]
            machine.forget()
            if isinstance(event, BackendDown) and self.cluster.pool.backends[event.backend_name].health.silent:
                machine.hang_up()

    # What happens to it.

    def at(self, seconds: float, call: Callable[..., object], *arguments: object) -> None:
        """Make a call at a moment to come: `world.at(30, world.down, "b0:80")`."""
        self.clock.callLater(seconds - self.clock.seconds(), call, *arguments)

    def down(self, name: str) -> None:
        """A server dies: connects are refused, what it was asked is cut."""
        self.machines[name].down()

    def up(self, name: str) -> None:
        """A server comes back, with nothing to do."""
        self.machines[name].up()

    def slow(self, name: str, speed: float) -> None:
        """A server goes on at this speed; 1 is what it should be."""
        self.machines[name].server.set_speed(speed, self.now())

    def errors(self, name: str, share: float = 1.0, *, status: int = 500, within_s: float = 0.001) -> None:
        """A server fails fast (sinkhole): such a share of its requests is answered with this status, at once. 0: it is well again."""
        self.machines[name].failing = Errors(share, status, within_s) if share else None

    # The loop.

    def run(self, requests: int, warm_up: float = 0.1) -> Run:
        """Let so many requests come, and all of them end; a share of them is a warm-up, which is not counted. Only once."""
        first_counted = int(warm_up * requests)
        number, moment = 0, self._next_moment()
        while number < requests or self._under_way:
            due = self._heap[0][0] if self._heap else NEVER
            arrives = moment if number < requests else NEVER
            next_call = self.clock.next_moment()
            if next_call <= due and next_call <= arrives:
                assert next_call < NEVER, "nothing happens any more, and a request has not ended"
                self.clock.turn()
            elif due <= arrives:
                self._happen()
            else:
                self._move_to(arrives)
                if number == first_counted:
                    self._seen.begin(arrives, self._servers)
                self._arrive(number)
                number += 1
                moment = self._next_moment()
                if moment == NEVER:
                    requests = number
                self._seen.last_arrival = arrives
        run = self._seen.run(self._servers, first_counted)
        self.close()
        return run

    @property
    def _servers(self) -> dict[str, Server[Wire]]:
        return {name: machine.server for name, machine in self.machines.items()}

    def close(self) -> None:
        """Let go of the data plane."""
        self.data_plane.close()
        self._runtime.deadlines.stop()
        self.clock.settle()

    def _next_moment(self) -> float:
        block = self._block
        if not block:
            block = self._block = next(self._arrivals, [])[::-1]
        return block.pop() if block else NEVER

    def _arrive(self, number: int) -> None:
        self._under_way += 1
        idempotent = self._method in self.rules.repeatable
        Visit(self, number, next(self._asks), next(self._demands), idempotent=idempotent).begin()

    def _happen(self) -> None:
        at, _, call, argument = heappop(self._heap)
        self._move_to(at)
        call(argument, at)

    def _move_to(self, now: float) -> None:
        self.clock.move_to(now)
        self._runtime.clock.read()

    # What visits and machines ask of it.

    @property
    def cluster(self) -> Cluster:
        """The cluster that the requests go to."""
        return self.data_plane.clusters[self._pool]

    def machine(self, backend: str) -> Machine:
        """See Surroundings."""
        return self.machines[backend]

    @property
    def idle_s(self) -> float:
        """See Stage."""
        return self.cluster.upstream_rules.idle_s

    def now(self) -> float:
        """See Surroundings."""
        return self.clock.seconds()

    def event(self, at: float, call: _Call, argument: object) -> None:
        """See Stage."""
        self._number += 1
        heappush(self._heap, (at, self._number, call, argument))

    def arm(self, wire: Wire, due: float) -> None:
        """See Surroundings."""
        self._runtime.deadlines.arm(wire.deadline, due)

    def wire_number(self) -> int:
        """See Stage."""
        self._wires += 1
        return self._wires

    def demand_again(self, demand: float) -> float:
        """See Surroundings."""
        return demand if self._again is None else next(self._again)

    def over(self, visit: Visit) -> None:
        """See Surroundings."""
        self._under_way -= 1
        self._seen.note(visit)
        if self._observe is not None:
            self._observe(visit)

    def __repr__(self) -> str:
        return f"<World at {self.now():g} s: {self._under_way} under way, {self.cluster.pool!r}>"


def _rules_of(plan: Plan, pool: str) -> RouteRules:
    """The rules of the first route that leads requests to a pool."""
    listeners = plan.listeners.values()
    of_requests = {name for one in listeners if not one.tcp for name in (*one.routes, one.route)}
    of_sessions = {name for one in listeners for name in (*one.sessions, *((one.route,) if one.tcp else ()))}
    led = False
    for name, route in plan.routes.items():
        for lead in route.leads:
            if lead.pool != pool:
                continue
            if name in of_requests or name not in of_sessions:
                return lead.rules
            led = True
    if led:
        raise ValueError(
            f"connections to the pool {pool} are carried as they are (TCP), and what is modelled is requests"
        )
    raise ValueError(f"no route leads to a pool {pool}")


def _each(law: Law, rng: Random) -> Iterator[float]:
    while True:
        yield from law.block(rng, BLOCK)


def _asks(keys: int, ask: Callable[[Random], Ask] | None, rng: Random) -> Iterator[Ask]:
    while ask is not None:
        yield ask(rng)
    if not keys:
        while True:
            yield ANY
    asks = [Ask(key_of(b"%d" % number)) for number in range(keys)]
    while True:
        yield asks[int(rng.random() * keys)]
