"""Measures the adaptive limit: saturated servers, and pools with a queue under open arrivals."""

from collections.abc import Callable, Iterator
from statistics import mean
from typing import Any

from concurrency_table.limits import Envoy, Gradient2
from twisted_lb.config import LoadBalancerConfig
from twisted_lb.core.gradient import AdaptiveRules, Gradient
from twisted_lb.sim.laws import BLOCK, Fixed, Law, Lognormal, Poisson, stream
from twisted_lb.sim.servers import Batches, Server, Sharing, Workers
from twisted_lb.sim.world import World

S = 0.1
LAWS: dict[str, Law] = {"all alike": Fixed(S), "lognormal": Lognormal(S, 1.0)}
SERVERS: dict[str, tuple[Callable[[str], Server[Any]], int]] = {
    "1 worker": (lambda name: Workers(name, 1), 1),
    "4 workers": (lambda name: Workers(name, 4), 4),
    "8 workers": (lambda name: Workers(name, 8), 8),
    "32 workers": (lambda name: Workers(name, 32), 32),
    "4 shared cores": (lambda name: Sharing(name, 4), 4),
    "GPU, batch of 32": (lambda name: Batches(name, 32), 32),
}
FORMS: dict[str, Callable[[], Any]] = {
    "adaptive": lambda: Gradient(AdaptiveRules()),
    "Envoy": Envoy,
    "Gradient2": Gradient2,
}
REQUESTS, WARM_UP = 30_000, 5_000


class Saturated:
    """A server with as many requests in flight as a limit lets it have, always."""

    def __init__(self, server: Server[float], law: Law, limit: Any, seed: int = 1) -> None:
        self.server, self.limit, self.now, self.in_flight = server, limit, 0.0, 0
        self.limits: list[int] = []
        self._demands = _each(law, seed)
        self._due: list[float] = []
        server.begin(self._done, lambda _, at: self._due.append(at))

    def _done(self, began: float, now: float) -> None:
        self.limit.observe(now - began, self.in_flight, now)
        self.in_flight -= 1
        self.limits.append(self.limit.limit)

    def run(self, requests: int) -> "Saturated":
        ends = len(self.limits) + requests
        while len(self.limits) < ends:
            while self.in_flight < self.limit.limit:
                self.in_flight += 1
                self.server.take(self.now, next(self._demands), self.now)
                self.limit.leased(self.in_flight)
            self.now = min(self._due)
            self._due = [at for at in self._due if at > self.now]
            self.server.turn(self.now)
        return self


def _each(law: Law, seed: int) -> Iterator[float]:
    rng = stream(seed, "service")
    while True:
        yield from law.block(rng, BLOCK)


def found(make: Callable[[str], Server[float]], law: Law, limit: Any) -> dict[str, Any]:
    """What a limit comes to, and how much of what the server can do it lets it do."""
    one = Saturated(make("w"), law, limit).run(WARM_UP)
    began, work = one.now, one.server.work_s
    one.run(REQUESTS)
    limits = sorted(one.limits[WARM_UP:])
    done = (one.server.work_s - work) / (one.now - began)
    return {
        "mean": round(mean(limits), 1),
        "from": limits[len(limits) // 20],
        "to": limits[-len(limits) // 20],
        "percent": round(100 * done / one.server.capacity, 1),
    }


def followed(before: int, after: int) -> int:
    """After how many answers the limit is within a quarter of where it stays, when workers come or go."""
    one = Saturated(Workers("w", before), Fixed(S), Gradient(AdaptiveRules())).run(WARM_UP)
    assert isinstance(one.server, Workers)
    one.server.count = after
    one.run(5000)
    limits = one.limits[WARM_UP:]
    stays = mean(limits[-1000:])
    return next(at for at, limit in enumerate(limits) if abs(limit - stays) <= stays / 4)


def waited(policy: str, load: float, limit: int | str, seed: int = 1) -> dict[str, float]:
    """Four backends of four workers each under Poisson arrivals: latencies in multiples of the mean time of service."""
    config = LoadBalancerConfig(
        backends=[f"b{number}:80" for number in range(4)],
        policy=policy,
        max_in_flight=limit,
        health_check={"interval_s": 0},
        queue={"length": 100_000, "timeout_s": 3600},
    )
    law = Lognormal(S, 1.0)
    world = World(config, Poisson(load * 16 / S), law, seed=seed, server=lambda name: Workers(name, 4))
    latencies = sorted(world.run(REQUESTS, 0.2).latencies)
    assert len(latencies) == REQUESTS * 0.8
    at = len(latencies)
    return {"p50": round(latencies[at // 2] / S, 2), "p99": round(latencies[at * 99 // 100] / S, 2)}


def measured() -> dict[str, Any]:
    """All figures of the page."""
    return {
        "found": {
            server: {
                law: {form: found(make, LAWS[law], of()) for form, of in FORMS.items()} | {"right": right}
                for law in LAWS
            }
            for server, (make, right) in SERVERS.items()
        },
        "followed": {
            f"{before} → {after}": followed(before, after) for before, after in ((8, 4), (4, 8), (4, 16), (32, 8))
        },
        "waited": {
            policy: {
                str(load): {str(limit): waited(policy, load, limit) for limit in (0, 4, "adaptive")}
                for load in (0.5, 0.8, 0.9)
            }
            for policy in ("rr", "least")
        },
    }
