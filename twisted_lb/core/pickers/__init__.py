"""The policies: what load is, how to choose, and the names of what is made of both.

A new load, way to choose or name is a line below, and a module here or in `core`.
"""

from collections.abc import Callable
from typing import Final

from twisted_lb.core.counts import Counts
from twisted_lb.core.latency import PeakEwma
from twisted_lb.core.load import Cost, Load, Requests
from twisted_lb.core.pickers.base import Picker, Policy
from twisted_lb.core.pickers.by_chance import RandomPolicy
from twisted_lb.core.pickers.by_load import LoadPolicy
from twisted_lb.core.pickers.by_turns import RoundRobinPolicy


class LoadKind:
    """What load is: how it is measured, its `unit` in the words of an explanation, and what it is in those of help."""

    def __init__(self, measure: Callable[[Counts, int], Load], unit: str, describe: str) -> None:
        self.measure: Final = measure
        self.unit: Final = unit
        self.describe: Final = describe


LOADS: Final[dict[str, LoadKind]] = {
    "requests": LoadKind(Requests, "requests in flight by weight", "how many requests are in flight"),
    "peak_ewma": LoadKind(
        PeakEwma,
        "s expected by weight",
        "the average latency, peaks at once, times what is in flight and one; a failure counts as slow",
    ),
    "cost": LoadKind(Cost, "cost in flight by weight", "what all requests in flight cost, an ordinary one 1"),
}

# Ways to choose by load.
BY_LOAD: Final[dict[str, str]] = {
    "scan": "the least loaded of all, ties by chance",
    "two": "the less loaded of two that are drawn by weight",
}

# Each name with what it is made of, where that is two things.
NAMED: Final[dict[str, tuple[str, str]]] = {
    "least": ("scan", "requests"),
    "p2c": ("two", "requests"),
    "latency": ("two", "peak_ewma"),
}


def _by_load(name: str, describe: str) -> Policy:
    choose, load = NAMED[name]
    return LoadPolicy(describe, choose, LOADS[load].measure, LOADS[load].unit)


POLICIES: Final[dict[str, Policy]] = {
    "rr": RoundRobinPolicy(),
    "rand": RandomPolicy(),
    "least": _by_load("least", "least requests: fewest in flight for its weight, ties by chance"),
    "p2c": _by_load("p2c", "power of two choices: of two drawn by weight the one with fewer requests in flight"),
    "latency": _by_load(
        "latency", "peak ewma: of two drawn by weight the one expected to be faster, failures count as slow"
    ),
}

# Whatever else can be made of a choice and a load. Each is one object, so that a reload sees what is equal.
_OTHERS: Final[dict[tuple[str, str], Policy]] = {
    (choose, load): LoadPolicy(f"{choose} by {load}: {BY_LOAD[choose]}", choose, kind.measure, kind.unit)
    for choose in BY_LOAD
    for load, kind in LOADS.items()
    if (choose, load) not in NAMED.values()
}


def name_of(choose: str, load: str) -> str:
    """What the policy of a choice and a load is called: its name, else `two by cost`."""
    return next((name for name, parts in NAMED.items() if parts == (choose, load)), f"{choose} by {load}")


def policy_of(choose: str, load: str) -> Policy:
    """The policy of a choice and a load; KeyError for what is neither."""
    return POLICIES.get(name_of(choose, load)) or _OTHERS[choose, load]


__all__ = ["BY_LOAD", "LOADS", "POLICIES", "Picker", "Policy", "name_of", "policy_of"]
