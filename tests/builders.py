"""Makes the core's objects for tests."""

import random

from twisted_lb.core.ask import ANY
from twisted_lb.core.backend import Backend, BackendSpec
from twisted_lb.core.counts import Counts
from twisted_lb.core.lease import Lease
from twisted_lb.core.outcome import Outcome
from twisted_lb.core.pickers import POLICIES, Picker, Policy
from twisted_lb.core.pool import Pool
from twisted_lb.core.settings import PoolSettings


def specs(*texts: str) -> list[BackendSpec]:
    return [BackendSpec.parse(text) for text in texts]


def backends(**weights: int) -> list[Backend]:
    counts = Counts()
    return [Backend(spec, counts) for spec in specs(*(f"{n}:80,weight={w}" for n, w in weights.items()))]


def built(policy: str | Policy, members: list[Backend], rng: random.Random | None = None) -> Picker:
    """A policy's first picker over members, each of which has what measures its load."""
    made = POLICIES[policy] if isinstance(policy, str) else policy
    loads = made.loads(members[0].counts)
    for member in members:
        member.load = loads and loads.of(member.slot)
    return made.build(members, None, rng or random.Random(1), 0.0)


class Told(list):
    """The events so far; `take` empties it."""

    def take(self) -> list:
        taken = list(self)
        self.clear()
        return taken


class CountingPolicy:
    """Counts its pickers."""

    def __init__(self, policy: str = "rr", *, eager: bool = True) -> None:
        self.built = 0
        self._policy = POLICIES[policy]
        self.eager = eager
        self.keyed = self._policy.keyed

    def loads(self, counts):
        return self._policy.loads(counts)

    def build(self, members, previous, rng, now):
        self.built += 1
        return self._policy.build(members, previous, rng, now)


def make_pool(
    *texts: str,
    policy: str | Policy = "rr",
    checked: bool = True,
    chance: random.Random | None = None,
    name: str = "p",
    **settings,
) -> tuple[Pool, Told]:
    told = Told()
    chosen = POLICIES[policy] if isinstance(policy, str) else policy
    by = PoolSettings(2, 3, checked=checked, **settings)
    pool = Pool(name, chosen, by, random.Random(1), told.append, chance=chance)
    pool.update(specs(*texts), 0.0)
    told.clear()
    return pool, told


def claim(pool: Pool, now: float = 0.0, tried=()) -> Lease:
    lease = pool.claim(ANY, now, tried)
    assert isinstance(lease, Lease)
    return lease


def names(pool: Pool, count: int, now: float = 0.0) -> set[str]:
    """Who is leased; everything is settled again."""
    leases = [claim(pool, now) for _ in range(count)]
    for lease in leases:
        pool.settle(lease, Outcome.OK, now)
    return {lease.backend.name for lease in leases}
