"""Latency at a constant rate: 70 % of what the slower of the peers can do, each request timed from when it was due."""

import statistics
from dataclasses import dataclass

from yardstick.contenders import Contender
from yardstick.loads import Running, open_loop, wrk
from yardstick.place import Backends
from yardstick.rounds import Rounds, interleaved, running
from yardstick.scenarios import RATE

SHARE = 0.7
PEERS = ("compiled", "haproxy", "nginx")
"""Whose capacity sets the rate; others take part if they can take it."""
CAPACITY_ROUNDS = 3
CAPACITY_S = 1.0


@dataclass(frozen=True)
class Steady:
    """The rounds, and what they were run at."""

    rate_per_s: float
    capacities_per_s: dict[str, float]
    rounds: Rounds


def play(contenders: list[Contender], backends: Backends, rounds: int, seconds: float) -> Steady:
    """Find the capacities in a closed loop, then go at the rate."""
    with running(contenders, backends, RATE) as (started, left_out):
        capacities = {one.contender.name: capacity(one) for one in started}
        setting = [capacities[name] for name in PEERS if name in capacities] or list(capacities.values())
        rate = SHARE * min(setting)
        for name, most in capacities.items():
            if SHARE * most < rate:
                left_out[name] = f"can take {most:,.0f} requests/s; 70 % of that is below the rate of {rate:,.0f}"
        able = [one for one in started if one.contender.name not in left_out]
        return Steady(rate, capacities, interleaved(able, left_out, RATE, rounds, seconds, open_loop(rate)))


def capacity(one: Running) -> float:
    """Requests per second when it is asked for all that it has."""
    loads = [wrk(one, RATE, CAPACITY_S).found for _ in range(CAPACITY_ROUNDS)]
    return statistics.median(found["requests"] / found["us"] * 1e6 for found in loads)
