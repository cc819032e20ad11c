"""The tables of docs/retries.md, computed: what hedging brings and costs, on virtual time."""

from typing import Any

from twisted_lb.config import LoadBalancerConfig
from twisted_lb.core.hedging import Hedged
from twisted_lb.sim.laws import Exponential, Lognormal, Poisson
from twisted_lb.sim.servers import Workers
from twisted_lb.sim.world import World

NAMES = [f"b{number}:80" for number in range(4)]
REQUESTS = 30_000
HEDGES: dict[str, dict[str, Any]] = {
    "none": {},
    "90": {"percentile": 90.0},
    "95": {"percentile": 95.0},
    "99": {"percentile": 99.0},
}

IDLE = {"workers": 1000, "arrives": 400.0}
BUSY = {"workers": 4, "arrives": 1280.0, "stops": True}
# What is not said: requests of 10 ms, exponential and drawn anew for the hedge, at four servers that are alike.
CASES: dict[str, dict[str, Any]] = {
    "exponential, nobody waits": {**IDLE},
    "lognormal (cv 2), nobody waits": {**IDLE, "law": Lognormal(0.01, 2.0)},
    "one of four ten times slower, nobody waits": {**IDLE, "speed": 0.1},
    "it is the request that is much work": {**IDLE, "anew": False},
    "four workers each at 0.5": {**BUSY, "arrives": 800.0},
    "four workers each at 0.8": {**BUSY},
    "four workers each at 0.8, `max_in_flight = 4`": {**BUSY, "options": {"max_in_flight": 4}},
    "the same, which finish what is taken back": {**BUSY, "stops": False},
    "the same, `max_in_flight = 4`, `abandoned_s = 30`": {
        **BUSY,
        "stops": False,
        "options": {"max_in_flight": 4, "abandoned_s": 30.0},
    },
}


def row(case: str, hedge: str) -> str:
    """A row of the table."""
    how = {"law": Exponential(0.01), "speed": 1.0, "anew": True, "stops": True, "options": {}} | CASES[case]
    options = {"backends": NAMES, "policy": "least", "health_check": {"interval_s": 0.0}, "hedge": HEDGES[hedge]}
    world = World(
        LoadBalancerConfig.model_validate(options | {"queue": {"length": 100_000, "timeout_s": 60.0}} | how["options"]),
        Poisson(how["arrives"]),
        how["law"],
        seed=7,
        server=lambda name: Workers(name, how["workers"]),
        abandoned="stops" if how["stops"] else "finishes",
        anew=how["anew"],
    )
    if how["speed"] != 1.0:
        world.slow(NAMES[-1], how["speed"])
    run = world.run(REQUESTS)
    hedges = world.cluster.pool.totals.hedges
    sent = hedges[Hedged.WON] + hedges[Hedged.LOST]
    won = f"{100 * hedges[Hedged.WON] / sent:.0f} %" if sent else "–"
    more = 100 * sent / REQUESTS
    quantiles = " | ".join(f"{1000 * run.quantile(share):.1f}" for share in (0.5, 0.95, 0.99, 0.999))
    return f"| {case} | {hedge} | {quantiles} | {more:.1f} % | {won} |"


if __name__ == "__main__":
    for case in CASES:
        for hedge in HEDGES:
            print(row(case, hedge))
