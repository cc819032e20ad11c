"""A farm: equal or unequal servers behind one policy, for questions of queueing. The hot case, where nothing fails."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from random import Random
from typing import Final

from twisted_lb.config.policies import PolicyTable, policy_meant
from twisted_lb.core.address import TcpAddress
from twisted_lb.core.ask import Ask, key_of
from twisted_lb.core.backend import BackendSpec
from twisted_lb.core.events import Event
from twisted_lb.core.pickers import Policy
from twisted_lb.core.pool import Pool
from twisted_lb.core.settings import PoolSettings
from twisted_lb.sim.kernel import Kernel
from twisted_lb.sim.laws import BLOCK, Arrivals, Exponential, Law, Poisson, stream
from twisted_lb.sim.observe import Run, Served
from twisted_lb.sim.table import Table

# 20 ms of a server, as a page of an ordinary site.
_SERVICE: Final = Exponential(0.02)


def _nobody_hears(_event: Event) -> None:
    """Nothing happens in a farm."""


@dataclass(frozen=True)
class Farm:
    """Backends `b0` and on behind a policy: its name, its table, or itself. Each is a FIFO queue with `workers` servers.

    `load` is the traffic's share of what all of them together can serve (rho), as Poisson arrivals; or give `arrivals`. `service`
    is the work of a request; `speeds` and `weights`, by number, are those of backends that are not as the others, which have 1.
    With several `balancers` a request comes to one of them by chance, and each knows only what it has in flight itself; with `seen_s`,
    as workers that share a table do, also what the others have, as it was up to so many seconds ago. 0: as it is.
    `keys`: of how many different keys each request has one, all alike, for policies that hash. ValueError for what is no policy.
    """

    policy: str | PolicyTable | Policy
    backends: int = 10
    load: float = 0.8
    requests: int = 100_000
    service: Law = _SERVICE
    workers: int = 1
    speeds: Mapping[int, float] = field(default_factory=dict)
    weights: Mapping[int, int] = field(default_factory=dict)
    balancers: int = 1
    seen_s: float | None = None
    keys: int = 0
    max_in_flight: int = 0
    warm_up: float = 0.1
    arrivals: Arrivals | None = None

    def __post_init__(self) -> None:
        policy_meant(self.policy)  # what is none is told here

    @property
    def rate(self) -> float:
        """How many requests come in a second, where `load` says it."""
        speeds = sum(self.speeds.get(number, 1.0) for number in range(self.backends))
        return self.load * speeds * self.workers / self.service.mean

    def run(self, seed: int = 1) -> Run:
        """One run. The same seed: the same requests, whatever the policy is."""
        speeds = [self.speeds.get(number, 1.0) for number in range(self.backends)]
        seen_s = self.seen_s
        table = None if seen_s is None else Table(self.balancers, self.backends, at_once=seen_s == 0)
        pools = [self._pool(seed, number, table) for number in range(self.balancers)]
        kernel = Kernel(pools, [self.workers] * self.backends, speeds, stream(seed, "balancers"))
        if table is not None and seen_s:
            kernel.look_every(seen_s, table.look)
        arrivals = Poisson(self.rate) if self.arrivals is None else self.arrivals
        kernel.run(
            arrivals.blocks(stream(seed, "arrivals")),
            self._demands(stream(seed, "service")),
            self._asks(stream(seed, "keys")) if self.keys else None,
            self.requests,
            int(self.warm_up * self.requests),
        )
        return self._seen(kernel)

    def _pool(self, seed: int, number: int, table: Table | None) -> Pool:
        settings = PoolSettings(checked=False, max_in_flight=self.max_in_flight)
        counts = None if table is None else table.counts(number)
        pool = Pool("farm", policy_meant(self.policy), settings, stream(seed, f"pool {number}"), _nobody_hears, counts)
        pool.update(
            [
                BackendSpec(f"b{one}", TcpAddress("farm", one + 1), self.weights.get(one, 1))
                for one in range(self.backends)
            ],
            0.0,
        )
        if table is not None:
            table.place(pool)
        return pool

    def _demands(self, rng: Random) -> Iterator[list[float]]:
        while True:
            yield self.service.block(rng, BLOCK)

    def _asks(self, rng: Random) -> Iterator[list[Ask]]:
        asks = [Ask(key_of(b"%d" % number)) for number in range(self.keys)]
        while True:
            yield [asks[int(rng.random() * self.keys)] for _ in range(BLOCK)]

    def _seen(self, kernel: Kernel) -> Run:
        seconds = kernel.ended_at - kernel.warm_at
        could = seconds * self.workers
        servers = {
            f"b{number}": Served(kernel.served[number], kernel.offered[number] / could, kernel.behind(number))
            for number in range(self.backends)
        }
        answered = len(kernel.latencies)
        return Run(kernel.latencies, servers, seconds, kernel.refused, answered, {200: answered, 503: kernel.refused})
