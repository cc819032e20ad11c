"""What a pick costs by the size of the pool, in steps of Python's interpreter (bytecodes): counts, which no machine changes."""

from random import Random
from statistics import fmean, median

from twisted_lb.core.address import parse_address
from twisted_lb.core.ask import Ask, key_of
from twisted_lb.core.backend import BackendSpec
from twisted_lb.core.lease import Lease
from twisted_lb.core.outcome import Outcome
from twisted_lb.core.pickers import POLICIES
from twisted_lb.core.pool import Pool
from twisted_lb.core.settings import PoolSettings
from twisted_lb.testing.policies import Steps

STEP_SIZES = (2, 10, 50, 100, 300, 1000, 3000, 10_000)
WEIGHTS = {"equal": (1,), "unequal": (1, 2, 5)}
# Every tenth member is down, not the first one: picks have to go around them.
EVERY = 10
PICKS = 20


def steps(policy: str, size: int, weights: tuple[int, ...], *, all_in: bool = False) -> dict[str, int]:
    """Of claims among so many members, weights by turns and a tenth of them down, each with another key: the `mean`, and the
    `median`, which picks that meet somebody who is down do not move.
    """
    pool = idle(policy, size, weights, all_in=all_in)
    for number in range(PICKS):
        pool.settle(claim(pool, number), Outcome.OK, 1.0)
    seen = []
    for number in range(PICKS, 2 * PICKS):
        with Steps() as counted:
            lease = claim(pool, number)
        seen.append(counted.count)
        pool.settle(lease, Outcome.OK, 1.0)
    return {"mean": round(fmean(seen)), "median": round(median(seen))}


def idle(policy: str, size: int, weights: tuple[int, ...], *, all_in: bool) -> Pool:
    """A pool in which nothing is in flight."""
    pool = Pool("counted", POLICIES[policy], PoolSettings(1, 1), Random(1), lambda _event: None)
    specs = [
        BackendSpec(f"m{at}", parse_address(f"10.0.{at >> 8}.{at & 255}:80"), weights[at % len(weights)])
        for at in range(size)
    ]
    pool.update(specs, 0.0)
    for at, backend in enumerate([*pool.backends.values()]):
        if at % EVERY == EVERY - 1 and not all_in:
            pool.observe_probe(backend, False, "down", 0.0)
    pool.tick(0.5)
    return pool


def claim(pool: Pool, number: int) -> Lease:
    lease = pool.claim(Ask(key_of(b"%d" % number), by="client"), 1.0)
    if not isinstance(lease, Lease):
        raise TypeError(f"nobody is usable: {lease}")
    return lease


def steps_of(policy: str) -> dict:
    """By whether weights are equal, and by size."""
    return {kind: {str(size): steps(policy, size, weights) for size in STEP_SIZES} for kind, weights in WEIGHTS.items()}
