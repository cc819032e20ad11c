"""The policies: what load is, how to choose, and the names of what is made of both.

A new load, way to choose or name is a line below, and a module here or in `core`.
"""

from typing import Final

from twisted_lb.core.hot_cold import HOT, Heat
from twisted_lb.core.latency import UNKNOWN_S, PeakEwma
from twisted_lb.core.load import Apart, Cost, Requests
from twisted_lb.core.pickers.base import Picker, Policy
from twisted_lb.core.pickers.by_chance import RandomPolicy
from twisted_lb.core.pickers.by_key import KeyPolicy
from twisted_lb.core.pickers.by_load import LoadKind, LoadPolicy
from twisted_lb.core.pickers.by_prefix import PrefixPolicy
from twisted_lb.core.pickers.by_turns import RoundRobinPolicy
from twisted_lb.core.pickers.in_order import FirstPolicy
from twisted_lb.core.pickers.maglev import Maglev, MaglevWork
from twisted_lb.core.pickers.rendezvous import Rendezvous
from twisted_lb.core.pickers.ring import Ring, RingWork
from twisted_lb.core.prefix import Peek
from twisted_lb.core.reported import Reports


def _in_flight(value: float) -> str:
    return f"{value:.6g} in flight by weight"


def _cost(value: float) -> str:
    return f"cost {value:.6g} in flight by weight"


def _latency(value: float) -> str:
    return "no latency known, one finds out" if value > UNKNOWN_S else f"{value:.6g} s"


def _expected(value: float) -> str:
    return f"{_latency(value)} expected by weight" if value <= UNKNOWN_S else _latency(value)


def _hot_or_cold(value: float) -> str:
    return f"hot, {value - HOT:.6g} in flight by weight" if value >= HOT else f"cold, {_latency(value)}"


def _utilization(value: float) -> str:
    return f"utilization {value:.6g} with one more, by weight"


LOADS: Final[dict[str, LoadKind]] = {
    "requests": LoadKind(lambda counts: Apart(counts, Requests), _in_flight, "how many requests are in flight"),
    "cost": LoadKind(lambda counts: Apart(counts, Cost), _cost, "what all requests in flight cost, an ordinary one 1"),
    "peak_ewma": LoadKind(
        lambda counts: Apart(counts, PeakEwma),
        _expected,
        "the average latency, peaks at once, times what is in flight and one; a failure counts as slow",
    ),
    "hot_cold": LoadKind(
        Heat,
        _hot_or_cold,
        "latency of those that have no more in flight than most, what is in flight of the others, which come last; a failure counts "
        "as slow",
    ),
    "reported": LoadKind(
        Reports,
        _utilization,
        "the utilization that backends report in `endpoint-load-metrics` (ORCA, or `-json`) of their answers, as it would be with one "
        "request more; who has reported nothing for 10 s is compared by what is in flight",
    ),
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
    "prequal": ("two", "hot_cold"),
}


# Ways to choose by the key of a request (consistent hashing).
BY_KEY: Final[dict[str, str]] = {
    "ring": "ring: by key, to whoever is next on a circle with 160 points each (ketama)",
    "maglev": "maglev: by key, to whose entry of a table it falls on, in even shares",
    "rendezvous": "rendezvous: by key, to whoever draws the highest number for it (highest random weight)",
}
# What a member may have at most of its share of all that is in flight, in percent (bounded load), unless it is said.
BOUND_PERCENT: Final = 125
# As much, at most, as whoever sets one can mean.
MOST_BOUND_PERCENT: Final = 100_000


def by_key(choose: str, percent: int) -> Policy:
    """The policy of a way to choose by key, with a bound in percent, 0 for none; KeyError for what is none."""
    describe = BY_KEY[choose]
    if choose == "ring":
        return KeyPolicy(choose, describe, percent, Ring.built, RingWork)
    if choose == "maglev":
        return KeyPolicy(choose, describe, percent, Maglev.built, MaglevWork)
    return KeyPolicy(choose, describe, percent, Rendezvous.built)


# The way to choose by prefix, and the loads that it may go by: such as are numbers of requests, of which one more is one more.
BY_PREFIX: Final = "prefix"
PREFIX_LOADS: Final = ("requests", "cost")
# How much more load all of a prompt is worth, in means; blocks of so many bytes, 128 tokens of English; and of the body as much is
# looked at as others hold for retries.
LOAD_FACTOR: Final = 1.0
BLOCK_BYTES: Final = 512
PEEK_BYTES: Final = 65536
# Of each backend: 8 MiB of prompts, two million tokens.
BLOCKS: Final = 16_384


def by_prefix(
    load: str = "requests",
    factor: float = LOAD_FACTOR,
    block_bytes: int = BLOCK_BYTES,
    peek_bytes: int = PEEK_BYTES,
    blocks: int = BLOCKS,
) -> PrefixPolicy:
    """The policy by prefix; KeyError for what is no load. `blocks`: what each backend is taken to hold."""
    return PrefixPolicy(load, LOADS[load], factor, Peek(peek_bytes, block_bytes), blocks)


def _by_load(name: str, describe: str) -> Policy:
    choose, load = NAMED[name]
    return LoadPolicy(describe, choose, LOADS[load])


POLICIES: Final[dict[str, Policy]] = {
    "rr": RoundRobinPolicy(),
    "rand": RandomPolicy(),
    "least": _by_load("least", "least requests: fewest in flight for its weight, ties by chance"),
    "p2c": _by_load("p2c", "power of two choices: of two drawn by weight the one with fewer requests in flight"),
    "latency": _by_load(
        "latency", "peak ewma: of two drawn by weight the one expected to be faster, failures count as slow"
    ),
    "prequal": _by_load(
        "prequal", "prequal: of two drawn by weight the faster one, unless it has more in flight than most"
    ),
    "first": FirstPolicy(),
    **{name: by_key(name, BOUND_PERCENT) for name in BY_KEY},
    BY_PREFIX: by_prefix(),
}

# Whatever else can be made of a choice and a load. Each is one object, so that a reload sees what is equal.
_OTHERS: Final[dict[tuple[str, str], Policy]] = {
    (choose, load): LoadPolicy(f"{choose} by {load}: {BY_LOAD[choose]}", choose, kind)
    for choose in BY_LOAD
    for load, kind in LOADS.items()
    if (choose, load) not in NAMED.values()
}


def name_of(choose: str, load: str) -> str:
    """What the policy of a choice and a load is called: its name, else `two by cost`."""
    return next((name for name, parts in NAMED.items() if parts == (choose, load)), f"{choose} by {load}")


def load_of(load: str, metric: str = "") -> LoadKind:
    """The load of that name; KeyError for what is none. `metric`: as of `policy_of`."""
    kind = LOADS[load]
    if not metric:
        return kind
    assert load == "reported", f"{load} has no metric"
    return LoadKind(lambda counts: Reports(counts, metric), kind.tell, kind.describe, metric)


def policy_of(choose: str, load: str, metric: str = "") -> Policy:
    """The policy of a choice and a load; KeyError for what is neither. `metric`: of reports this one is compared, see `LoadReport`;
    such policies are equal, and not one object.
    """
    if metric:
        return LoadPolicy(f"{choose} by {load}: {BY_LOAD[choose]}", choose, load_of(load, metric))
    return POLICIES.get(name_of(choose, load)) or _OTHERS[choose, load]


__all__ = [
    "BLOCKS",
    "BLOCK_BYTES",
    "BOUND_PERCENT",
    "BY_KEY",
    "BY_LOAD",
    "BY_PREFIX",
    "LOADS",
    "LOAD_FACTOR",
    "MOST_BOUND_PERCENT",
    "PEEK_BYTES",
    "POLICIES",
    "PREFIX_LOADS",
    "Picker",
    "Policy",
    "by_key",
    "by_prefix",
    "load_of",
    "name_of",
    "policy_of",
]
