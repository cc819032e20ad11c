"""What docs/policies.md says in figures: each policy in the same situations, with the same requests, on virtual time."""

import math
from typing import Any

from policy_table.steps import steps_of
from twisted_lb.config import LoadBalancerConfig
from twisted_lb.core.pickers import POLICIES
from twisted_lb.sim import Exponential, Farm, Poisson, Replications, Run, Workers, World, replicate

SERVICE = Exponential(0.02)
LOADS = (0.5, 0.8, 0.9)
# How many requests a run has by the number of backends, and how many runs.
REQUESTS = {10: 40_000, 100: 100_000}
SEEDS = range(1, 6)
# Policies that hash need something to hash: so many keys, each as likely as any other.
KEYS = 10_000
NAMES = [f"b{number}:80" for number in range(10)]
# What a backend may have in flight for each of its workers, with policies that are of no use without a limit.
PLACES = {"first": 4}


def policies() -> list[str]:
    """The names of all policies."""
    return list(POLICIES)


def measured(policy: str) -> dict:
    """All that is measured of a policy."""
    return {
        "described": POLICIES[policy].describe,
        "even": {str(size): {str(load): cell(farm(policy, size, load)) for load in LOADS} for size in REQUESTS},
        "slow": slow(policy),
        "sinkhole": {"counts": sinkhole(policy, [500]), "does not": sinkhole(policy, [])},
        "join": join(policy),
        "steps": steps_of(policy),
    }


def farm(policy: str, size: int, load: float, **options: Any) -> Farm:
    """So many backends behind the policy."""
    places = PLACES.get(policy, 0)
    return Farm(policy, size, load, REQUESTS[size], SERVICE, keys=KEYS, max_in_flight=places, **options)


def cell(farm: Farm) -> dict:
    return told(replicate(farm.run, SEEDS))


def told(runs: Replications) -> dict:
    """Mean and p99 in mean service times, each with half the width of its interval; or why there are none."""
    if runs.unstable:
        return {"unstable": runs.unstable}
    unit = SERVICE.mean
    mean, tail = runs.mean, runs.quantile(0.99)
    return {
        "mean": [rounded(mean.value / unit), rounded(mean.half / unit)],
        "p99": [rounded(tail.value / unit), rounded(tail.half / unit)],
    }


def rounded(value: float) -> float:
    """To four digits."""
    return float(f"{value:.4g}")


def slow(policy: str) -> dict:
    """One backend of ten is ten times slower, at half of what all can do."""
    runs = replicate(farm(policy, 10, 0.5, speeds={9: 0.1}).run, SEEDS)
    return told(runs) | {"share": rounded(runs.share("b9").value)}


def config(policy: str, names: list[str], workers: int = 1, **options: object) -> LoadBalancerConfig:
    given = {"backends": names, "policy": policy, "health_check": {"interval_s": 0.0}}
    if policy in PLACES:
        given["max_in_flight"] = PLACES[policy] * workers
    return LoadBalancerConfig.model_validate(given | options)


def sinkhole(policy: str, bad_statuses: list[int]) -> dict:
    """One backend of ten answers 500 after 0.2 ms: its share of the requests, where that status counts as a failure or not."""
    retry = {"bad_statuses": bad_statuses, "more_attempts": 0}

    def run(seed: int) -> Run:
        world = World(config(policy, NAMES, retry=retry), Poisson(250.0), SERVICE, seed=seed, keys=KEYS)
        world.errors("b9:80", within_s=0.0002)
        return world.run(10_000)

    runs = replicate(run, range(1, 4))
    return {"share": rounded(runs.share("b9:80").value)}


# A cold backend joins: when, and for how long it is cold.
JOINS_S, COLD_S = 0.5, 0.5
RATE = 0.7 * 9 * 16 / SERVICE.mean


def join(policy: str) -> dict:
    """A tenth backend joins nine, 16 workers each, at 0.7 of what nine can do, and does a tenth of that for half a second. Of the
    requests of that time: how many of the first hundred went there, and the latency that one in a hundred exceeds.
    """
    seen = []
    world = World(
        config(policy, NAMES[:9], 16),
        Poisson(RATE),
        SERVICE,
        server=lambda name: Workers(name, 16, speed=0.1 if name == "b9:80" else 1.0),
        observe=seen.append,
        keys=KEYS,
    )
    world.at(JOINS_S, world.apply, config(policy, NAMES, 16))
    world.at(JOINS_S + COLD_S, world.slow, "b9:80", 1.0)
    world.run(int((JOINS_S + COLD_S) * RATE), warm_up=0.0)
    since = sorted((one for one in seen if one.born >= JOINS_S), key=lambda one: one.number)
    latencies = sorted(one.latency_s for one in since)
    return {
        "first": [one.backend for one in since[:100]].count("b9:80"),
        "p99": rounded(latencies[math.ceil(0.99 * len(latencies)) - 1] / SERVICE.mean),
    }
