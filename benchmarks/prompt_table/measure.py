"""What docs/inference.md says in figures: policies before engines with prompt caches, with the same requests, on virtual time."""

from dataclasses import replace

from twisted_lb.config.policies import PolicyTable
from twisted_lb.sim.prompts import Prompted, PromptFarm, Prompts
from twisted_lb.sim.stats import estimate

POLICIES = {
    "least": "least",
    "p2c": "p2c",
    "ring": "ring",
    "ring, no bound": PolicyTable("ring", "requests", bound_percent=0),
    "maglev": "maglev",
    "prefix": "prefix",
    "prefix, load_factor 0.5": PolicyTable("prefix", "requests", load_factor=0.5),
    "prefix, load_factor 2": PolicyTable("prefix", "requests", load_factor=2.0),
}
# What is asked, and how much of it: as a share of what the engines could serve with nothing cached.
WORKLOADS = {
    "hot": (Prompts(shared=4, skew=1.0), 1.6),
    "mixed": (Prompts(shared=64, hot=0.9, skew=1.0), 1.2),
    "cold": (Prompts(hot=0.0), 0.9),
}
SEEDS = range(1, 6)
REQUESTS = 20_000


def measured() -> dict:
    """By workload and policy."""
    facts: dict = {}
    for name, (prompts, load) in WORKLOADS.items():
        facts[name] = {}
        for policy in POLICIES:
            print(name, policy, flush=True)
            facts[name][policy] = told(policy, prompts, load)
    return facts


def told(policy: str, prompts: Prompts, load: float) -> dict:
    farm = PromptFarm(POLICIES[policy], prompts, load=load, requests=REQUESTS)
    return of([farm.run(seed) for seed in SEEDS])


def once(policy: str, workload: str, requests: int) -> Prompted:
    """One run, as long as wanted."""
    prompts, load = WORKLOADS[workload]
    return replace(PromptFarm(POLICIES[policy], prompts, load=load), requests=requests).run(1)


def of(runs: list[Prompted]) -> dict:
    """The means over runs; of times to the first token in seconds with half the width of their intervals."""
    found = {
        "cached": estimate([run.cached for run in runs]),
        "hotspot": estimate([run.hotspot for run in runs]),
        "offered": estimate([run.offered for run in runs]),
        "mean_first_s": estimate([run.mean_first_s for run in runs]),
        "p99_first_s": estimate([run.first_quantile(0.99) for run in runs]),
        "p99_whole_s": estimate([run.whole_quantile(0.99) for run in runs]),
    }
    return {name: [rounded(one.value), rounded(one.half)] for name, one in found.items()}


def rounded(value: float) -> float:
    """To four digits."""
    return float(f"{value:.4g}")
