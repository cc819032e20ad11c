"""By key: what ring, Maglev and rendezvous have in common. Who owns a key, who has it instead, bounded loads, and how it is told."""

import itertools
import math
import random
import subprocess
import sys
from collections import Counter

import pytest
from builders import backends, built, claim, make_pool, specs
from keyed import ASKS, KEYS, digest, members, out, owners, unbounded
from some import some

from twisted_lb.core.ask import ANY, Ask, key_of
from twisted_lb.core.backend import AdminState
from twisted_lb.core.decision import recalled
from twisted_lb.core.lease import Lease
from twisted_lb.core.outcome import Outcome, Refusal
from twisted_lb.core.pickers import BY_KEY, POLICIES, Policy, by_key
from twisted_lb.core.pool import Pool
from twisted_lb.core.settings import PoolSettings
from twisted_lb.core.standing import Skipped

EACH = pytest.mark.parametrize("choose", BY_KEY)


@EACH
def test_a_key_meets_the_same_backend_whatever_the_order_of_the_configuration(choose):
    those = members(10, (1, 2, 5))
    in_order = owners(unbounded(choose, those))
    random.Random(5).shuffle(those)
    assert owners(unbounded(choose, those)) == in_order
    assert len(set(in_order)) == 10


# Of who owns 5,000 keys, with equal weights and with others: the same in every process and in both builds. A change of one of
# these moves the keys of all users.
DIGESTS = {
    "ring": "d751781b1e04342d7319ff82e556209b",
    "maglev": "5388bd184f2d7c34b4d53afcf7e3b62e",
    "rendezvous": "68eeb93612bff023f132055d624bc313",
}


@EACH
def test_who_owns_which_key_never_changes(choose):
    assert digest(choose) == DIGESTS[choose]


@EACH
def test_every_process_finds_the_same_owner(choose):
    code = (
        "import random; from twisted_lb.core.ask import Ask, key_of; from twisted_lb.core.backend import *\n"
        "from twisted_lb.core.counts import Counts; from twisted_lb.core.pickers import POLICIES\n"
        "counts = Counts(); those = [Backend(BackendSpec.parse(f'b{at}:80'), counts) for at in range(5)]\n"
        f"picker = POLICIES[{choose!r}].build(those, None, random.Random(), 0.0)\n"
        "print([picker.pick(Ask(key_of(b'%d' % at)), 0.0, random.Random(), ()).name for at in range(50)])"
    )
    said = {
        subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            check=True,
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": ":".join(sys.path)},
        ).stdout
        for seed in ("1", "2")
    }
    assert len(said) == 1


@EACH
@pytest.mark.parametrize("weights", [pytest.param((1,), marks=pytest.mark.long), (1, 2, 5)], ids=["equal", "unequal"])
def test_when_a_backend_fails_its_checks_no_key_of_the_healthy_ones_moves(choose, weights):
    those = members(10, weights)
    picker = unbounded(choose, those)
    before = owners(picker)
    for failed in those:
        out(failed)
        after = owners(picker)
        assert all(new == old for old, new in zip(before, after, strict=True) if old != failed.name)
        assert failed.name not in after
        out(failed, out=False)
    assert owners(picker) == before


@EACH
def test_the_keys_of_who_is_out_are_spread_over_all_others(choose):
    """By the table with the largest lumps, the ring: its 160 arcs are left to nine others, 17.8 each on average, with lengths that
    are spread exponentially: sqrt(2 / 17.8) = 34 % (standard deviation). Nobody has 2.4 times the average, 4 of these above it.
    """
    those = members(10)
    picker = unbounded(choose, those)
    before = owners(picker)
    for failed in those:
        out(failed)
        left_to = Counter(new for old, new in zip(before, owners(picker), strict=True) if old == failed.name)
        out(failed, out=False)
        assert len(left_to) == 9
        assert max(left_to.values()) < 2.4 * left_to.total() / 9


@pytest.mark.parametrize("choose", some(1, BY_KEY))
def test_with_most_out_each_key_still_has_somebody_and_always_the_same_one(choose):
    those = members(200)
    picker = unbounded(choose, those)
    for backend in those[3:]:
        out(backend)
    found = owners(picker)
    assert (len(found), found) == (len(KEYS), owners(picker))
    # Of three each should have a third, give or take the spread of 5,000 draws by 5 of sqrt(5000 * 2 / 9) = 33; of the ring, whose
    # arcs are uneven, twice that and more.
    assert min(Counter(found).values()) > 5000 / 3 * 0.6


@EACH
def test_nobody_is_found_where_all_are_out_or_were_tried(choose):
    those = members(4)
    picker = unbounded(choose, those)
    assert owners(picker, those) == []
    assert set(owners(picker, those[1:])) == {those[0].name}
    for backend in those:
        out(backend)
    assert owners(picker) == []


@EACH
def test_a_retry_goes_to_the_next_one_of_the_key_and_always_the_same(choose):
    pool, _ = make_pool("a:1", "b:1", "c:1", "d:1", policy=choose)
    for ask in ASKS[:50]:
        first = pool.claim(ask, 0.0)
        second = pool.claim(ask, 0.0, (first.backend,))
        third = pool.claim(ask, 0.0, (first.backend, second.backend))
        assert len({first.backend, second.backend, third.backend}) == 3
        for lease in (first, second, third):
            pool.settle(lease, Outcome.OK, 0.0)
        again = pool.claim(ask, 0.0, (first.backend,))
        assert again.backend is second.backend
        pool.settle(again, Outcome.OK, 0.0)


@EACH
def test_requests_without_a_key_are_spread_by_chance(choose):
    those = members(4, (1, 1, 2))
    picker = unbounded(choose, those)
    rng = random.Random(3)
    got = Counter(picker.pick(ANY, 0.0, rng, ()).name for _ in range(5000))
    for backend, share in picker.ranking(ANY, 0.0):
        # Within 5 standard deviations of what it has of all keys.
        assert abs(got[backend.name] - 5000 * share) < 5 * math.sqrt(5000 * share * (1 - share))


# Bounded load.


def filled(choose: str, percent: int, weights: tuple[int, ...], number: int, asks) -> tuple[Pool, Counter]:
    pool = Pool("p", by_key(choose, percent), PoolSettings(checked=False), random.Random(1), lambda event: None)
    texts = [f"10.0.0.{at}:80,weight={weights[at % len(weights)]}" for at in range(number)]
    pool.update(specs(*texts), 0.0)
    got = Counter(pool.claim(ask, 0.0).backend.name for ask in asks)
    return pool, got


@EACH
def test_one_hot_key_fills_13_of_each_of_ten_backends_at_125_percent(choose):
    """The paper's capacity, 1.25 * 100 / 10 rounded up, and what HAProxy's hash-balance-factor 125 gives: eight are used."""
    _, got = filled(choose, 125, (1,), 10, ASKS[:1] * 100)
    assert (max(got.values()), len(got), got.total()) == (13, 8, 100)


@EACH
def test_without_a_bound_one_hot_key_stays_where_it_is(choose):
    _, got = filled(choose, 0, (1,), 10, ASKS[:1] * 100)
    assert list(got.values()) == [100]


@EACH
@pytest.mark.parametrize("percent", [101, 125, 200])
@pytest.mark.parametrize("weights", [(1,), (1, 2, 5)], ids=["equal", "unequal"])
def test_nobody_ever_has_more_than_its_share_by_weight_of_what_is_in_flight(choose, percent, weights):
    pool = Pool("p", by_key(choose, percent), PoolSettings(checked=False), random.Random(1), lambda event: None)
    pool.update(specs(*(f"b{at}:80,weight={weights[at % len(weights)]}" for at in range(7))), 0.0)
    rng = random.Random(9)
    leases: list[Lease] = []
    whole = sum(one.weight for one in pool.backends.values())
    for _ in range(600):
        # Few keys, most of them seldom (Zipf): what bounded loads are for.
        lease = pool.claim(ASKS[int(20 ** rng.random())], 0.0)
        leases.append(lease)
        most = math.ceil(percent * len(leases) * lease.backend.weight / (100 * whole))
        assert lease.backend.in_flight <= most
        if rng.random() < 0.45:
            pool.settle(leases.pop(int(rng.random() * len(leases))), Outcome.OK, 0.0)


@EACH
def test_the_share_of_who_is_out_goes_to_all_others(choose):
    pool = Pool("p", by_key(choose, 125), PoolSettings(), random.Random(1), lambda event: None)
    pool.update(specs(*(f"b{at}:80" for at in range(10))), 0.0)
    for name in ("b0:80", "b1:80", "b2:80", "b3:80", "b4:80"):
        while pool.backends[name].health.up:
            pool.observe_probe(pool.backends[name], False, "down", 0.0)
    got = Counter(pool.claim(ask, 0.0).backend.name for ask in ASKS[:1] * 100)
    assert (len(got), max(got.values())) == (4, 25)  # 1.25 * 100 / 5


@EACH
def test_a_key_is_back_at_its_owner_as_soon_as_that_has_room(choose):
    pool, _ = filled(choose, 125, (1,), 4, ())
    owner = pool.claim(ASKS[0], 0.0)
    others = [pool.claim(ASKS[0], 0.0) for _ in range(3)]
    assert others[0].backend is not owner.backend
    pool.settle(owner, Outcome.OK, 0.0)
    assert pool.claim(ASKS[0], 0.0).backend is owner.backend


@EACH
def test_an_idle_pool_has_room_at_every_owner(choose):
    """One request at a time, however uneven the weights: a share is rounded up."""
    pool, _ = filled(choose, 101, (1, 256), 4, ())
    picker = unbounded(choose, list(pool.backends.values()))
    for ask in ASKS[:300]:
        lease = pool.claim(ask, 0.0)
        assert lease.backend is picker.pick(ask, 0.0, random.Random(1), ())
        pool.settle(lease, Outcome.OK, 0.0)


@EACH
def test_what_others_have_that_left_the_pool_is_nobodys_share(choose):
    """A backend that leaves with many tunnels would lift the bound of all others."""
    pool, _ = filled(choose, 125, (1,), 5, ())
    gone = [pool.claim_on(pool.backends["10.0.0.0:80"], ANY, 0.0) for _ in range(1000)]
    assert None not in gone
    pool.update(specs(*(f"10.0.0.{at}:80" for at in range(1, 5))), 1.0)
    pool.tick(1.0)
    got = Counter(pool.claim(ask, 1.0).backend.name for ask in ASKS[:1] * 40)
    assert max(got.values()) == 13  # 1.25 * 40 / 4, rounded up


@EACH
def test_a_limit_of_a_backend_holds_beside_the_bound(choose):
    pool = Pool(
        "p", by_key(choose, 125), PoolSettings(checked=False, max_in_flight=3), random.Random(1), lambda event: None
    )
    pool.update(specs("a:1", "b:1"), 0.0)
    got = Counter(pool.claim(ASKS[0], 0.0).backend.name for _ in range(6))
    assert set(got.values()) == {3}
    assert pool.claim(ASKS[0], 0.0) is Refusal.ALL_FULL


def test_how_often_each_was_stepped_over_is_counted_by_why():
    pool, _ = filled("ring", 125, (1,), 10, ASKS[:1] * 100)
    owner = pool.backends[recalled(pool.claim(ASKS[0], 0.0)).rule.split("owned by ")[1].split(",")[0]]
    assert owner.skipped_times == {Skipped.BOUND: owner.skipped_times[Skipped.BOUND]}
    # 13 of the first 100 were its own, and each of the others came to it; so did the last one.
    assert owner.skipped_times[Skipped.BOUND] == 101 - owner.in_flight
    before = {one.name: one.skipped_times for one in pool.backends.values()}
    pool.explain(ASKS[0], 0.0)
    assert {one.name: one.skipped_times for one in pool.backends.values()} == before


# Building.


class Watched:
    """A policy that tells when it builds."""

    def __init__(self, policy: Policy) -> None:
        self.policy, self.builds = policy, 0
        self.eager, self.keyed, self.describe = policy.eager, policy.keyed, policy.describe

    def loads(self, counts):
        return None

    def build(self, *words):
        self.builds += 1
        return self.policy.build(*words)


@pytest.mark.parametrize("choose", ["ring", "maglev"])
def test_no_claim_builds_a_table(choose):
    policy = Watched(POLICIES[choose])
    pool = Pool("p", policy, PoolSettings(), random.Random(1), lambda event: None)
    now = itertools.count()

    def claims() -> set[str]:
        builds = policy.builds
        leases = [pool.claim(ask, next(now)) for ask in ASKS[:50]]
        assert policy.builds == builds
        for lease in leases:
            pool.settle(lease, Outcome.OK, 0.0)
        return {lease.backend.name for lease in leases}

    pool.update(specs("a:1"), 0.0)
    assert claims() == {"a:1"}
    pool.command(pool.backends["a:1"], AdminState.DRAIN, 1.0)
    pool.tick(1.0)
    assert pool.claim(ASKS[0], 1.0) is Refusal.NO_BACKEND
    pool.command(pool.backends["a:1"], AdminState.READY, 2.0)
    assert claims() == {"a:1"}
    pool.update(specs("a:1", "b:1,weight=3"), 3.0)
    assert claims() == {"a:1"}
    pool.tick(3.1)
    assert claims() == {"a:1", "b:1"}


def test_rendezvous_has_nothing_to_build_and_follows_at_once():
    pool, _ = make_pool("a:1", policy="rendezvous")
    claim(pool)
    pool.update(specs("a:1", "b:1"), 1.0)
    assert {pool.claim(ask, 1.0).backend.name for ask in ASKS[:20]} == {"a:1", "b:1"}


@EACH
def test_one_policy_is_enough_for_pools_of_all_kinds(choose):
    """It has no state: two pools with the same one do not know of one another."""
    one, other = (make_pool("a:1", "b:1", policy=choose)[0] for _ in range(2))
    for _ in range(10):
        claim(one)
    owner = one.explain(ASKS[0], 0.0).picked
    assert other.claim(ASKS[0], 0.0).backend.name == owner or one.backends[owner].in_flight > 0
    assert sum(backend.in_flight for backend in other.backends.values()) == 1


# How it is told.


@EACH
def test_a_pick_is_told_with_the_name_of_its_key_and_the_hash_and_never_the_value(choose):
    pool, _ = make_pool("a:1", "b:1", "c:1", policy=choose)
    ask = Ask(key_of(b"hunter2"), by="header x-user")
    decision = recalled(pool.claim(ask, 0.0))
    # md5sum says 2ab96390c7dbe3439de74d0c9b0b1767 of hunter2: its first 8 bytes, the last one first.
    assert decision.rule == f"{choose}: key header x-user, hash 43e3dbc79063b92a, is owned by {decision.picked}"
    assert "hunter2" not in str(decision)


@EACH
def test_how_far_a_key_went_past_its_owner_is_told(choose):
    pool, _ = make_pool("a:1", "b:1", "c:1", policy=choose)
    leases = [pool.claim(ASKS[0], 0.0) for _ in range(4)]
    owner = leases[0].backend
    # One of one in flight and this one, 1.25 * 2 / 3 rounded up; then two of three.
    assert [lease.backend is owner for lease in leases] == [True, False, True, False]
    for lease, had in ((leases[1], 1), (leases[3], 2)):
        assert recalled(lease).rule.endswith(
            f"is owned by {owner.name}, which had {had} in flight of {had} (bounded load, 1.25): the next in the order of the key"
        )
    out(owner)
    down = pool.claim(ASKS[0], 0.0)
    assert f"is owned by {owner.name}, which was out" in recalled(down).rule
    out(owner, out=False)
    again = pool.claim(ASKS[0], 0.0, (owner,))
    assert f"is owned by {owner.name}, which the request had tried" in recalled(again).rule


@EACH
def test_others_that_were_passed_are_counted(choose):
    pool, _ = filled(choose, 0, (1,), 4, ())
    order = [backend for backend, _ in unbounded(choose, list(pool.backends.values())).ranking(ASKS[0], 0.0)]
    for backend in order[:3]:
        out(backend)
    lease = pool.claim(ASKS[0], 0.0)
    assert lease.backend is order[3]
    assert recalled(lease).rule.endswith("which was out: the next in the order of the key, past 2 others")


@EACH
def test_a_pick_without_a_key_says_that_it_was_chance(choose):
    pool, _ = make_pool("a:1", "b:1", policy=choose)
    assert recalled(claim(pool)).rule.startswith(f"{choose}: no key, by chance, hash ")


@EACH
def test_the_ranking_is_the_order_in_which_a_key_would_be_handed_on(choose):
    those = members(6)
    picker = unbounded(choose, those)
    for ask in ASKS[:20]:
        order = [backend for backend, _ in picker.ranking(ask, 0.0)]
        assert sorted(order, key=lambda one: one.name) == sorted(those, key=lambda one: one.name)
        for at in range(6):
            assert picker.pick(ask, 0.0, random.Random(1), order[:at]) is order[at]


@EACH
def test_a_fork_picks_what_the_picker_would(choose):
    picker = built(choose, backends(a=1, b=2, c=3))
    fork = picker.fork()
    for ask in [*ASKS[:50], ANY]:
        assert fork.pick(ask, 0.0, random.Random(4), ()) is picker.pick(ask, 0.0, random.Random(4), ())
