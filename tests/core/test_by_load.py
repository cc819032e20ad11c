"""By load: exact laws of a scan and of two choices, and what others have published of them."""

import math
import random
from collections import Counter
from fractions import Fraction
from itertools import pairwise

import pytest
from builders import backends, built, claim, make_pool, specs

from twisted_lb.core.ask import ANY, Ask
from twisted_lb.core.backend import Backend
from twisted_lb.core.counts import Counts
from twisted_lb.core.decision import recalled
from twisted_lb.core.lease import Lease
from twisted_lb.core.outcome import Outcome
from twisted_lb.core.pickers import LOADS, POLICIES, name_of, policy_of
from twisted_lb.core.pickers.base import MOST_REMEMBERED


def busy(members, *loads):
    for member, load in zip(members, loads, strict=True):
        for _ in range(load):
            member.counts.claim(member.slot)
    return members


def shares(picker, count, seed=1, avoid=()):
    rng = random.Random(seed)
    return Counter(picker.pick(ANY, 0.0, rng, avoid).name.partition(":")[0] for _ in range(count))


def near(found, count, share):
    """Binomial: five standard deviations, 6e-7 for each."""
    return abs(found - count * share) < 5 * math.sqrt(count * share * (1 - share)) + 1


# A scan.


def test_a_scan_takes_whoever_has_the_fewest_in_flight():
    members = busy(backends(a=1, b=1, c=1, d=1), 3, 1, 2, 2)
    assert set(shares(built("least", members), 50)) == {"b"}


def test_a_scan_goes_by_what_is_in_flight_for_each_unit_of_weight():
    members = busy(backends(a=1, b=4), 1, 3)
    assert set(shares(built("least", members), 20)) == {"b"}
    busy(members, 0, 2)
    assert set(shares(built("least", members), 20)) == {"a"}


def test_without_ends_a_scan_fills_all_alike():
    """Whoever is filled by least requests differs by one at most, at any time."""
    pool, _ = make_pool(*(f"b{at}:1" for at in range(10)), policy="least")
    for _ in range(137):
        claim(pool)
        loads = [backend.in_flight for backend in pool.backends.values()]
        assert max(loads) - min(loads) <= 1


def test_without_ends_a_scan_fills_by_weight():
    pool, _ = make_pool("a:1", "b:1,weight=2", "c:1,weight=5", policy="least")
    for count in range(1, 161):
        claim(pool)
        if count % 8 == 0:
            assert [backend.in_flight for backend in pool.backends.values()] == [count // 8, count // 4, count * 5 // 8]


@pytest.mark.parametrize("weights", [{"a": 1, "b": 1, "c": 1}, {"a": 5, "b": 3, "c": 2}], ids=["equal", "unequal"])
@pytest.mark.parametrize("avoid", ["", "b"])
@pytest.mark.parametrize("policy", ["least", "p2c"])
def test_idle_backends_get_their_shares_by_weight(policy, weights, avoid):
    """Ties are drawn by weight: with deterministic ones many balancers would herd to the same backend, and a backend of weight
    1 beside one of 256 would starve.
    """
    members = backends(**weights)
    avoided = [member for member in members if member.name[0] in avoid]
    got = shares(built(policy, members), 20_000, avoid=avoided)
    rest = {name: weight for name, weight in weights.items() if name not in avoid}
    assert set(got) == set(rest)
    for name, weight in rest.items():
        assert near(got[name], 20_000, weight / sum(rest.values()))


def test_only_those_with_the_least_are_drawn_among():
    members = busy(backends(a=1, b=2, c=3, d=1), 1, 0, 0, 0)
    got = shares(built("least", members), 12_000)
    assert set(got) == {"b", "c", "d"}
    for name, weight in {"b": 2, "c": 3, "d": 1}.items():
        assert near(got[name], 12_000, weight / 6)


def test_of_more_than_are_remembered_a_scan_picks_alike_and_keeps_nothing():
    names = {f"b{at}": 1 for at in range(MOST_REMEMBERED + 1)}
    members = busy(backends(**names), *(1 for _ in range(MOST_REMEMBERED)), 0)
    picker = built("least", members)
    picked = picker.pick(ANY, 0.0, random.Random(1), ())
    assert picked is members[-1]
    told = picker.recalled(picker.mark, picked)
    assert (told.rule, told.ranking) == ("least of all; of more than 64 it is not kept what each had", ())


# Two choices.


def test_of_ten_with_distinct_loads_two_choices_pick_by_rank():
    """The k-th of n is picked with 2 (n - k) / (n (n - 1)): .2, .178 ... .022, and the most loaded one never."""
    members = busy(backends(**dict.fromkeys("abcdefghij", 1)), *range(10))
    count = 45_000
    got = shares(built("p2c", members), count)
    for rank, name in enumerate("abcdefghij", 1):
        assert near(got[name], count, 2 * (10 - rank) / 90)
    assert got["j"] == 0


def test_every_pair_is_drawn_alike_and_nobody_twice():
    """One random number gives both: of each of the n (n - 1) ordered pairs an equal part."""

    class Numbers:
        def __init__(self, number):
            self.number = number

        def random(self):
            return self.number

    members = backends(**dict.fromkeys("abcd", 1))
    picker = built("p2c", members)
    drawn = Counter()
    for part in range(1200):
        picker.pick(ANY, 0.0, Numbers((part + 0.5) / 1200), ())
        drawn[picker.mark[:2]] += 1
    assert drawn == {(one, other): 100 for one in range(4) for other in range(4) if one != other}


@pytest.mark.parametrize(("size", "published"), [(2, 1.0), (3, 0.609), (4, 0.559), (6, 0.531), (10, 0.516)], ids=str)
def test_a_backend_of_half_the_weight_is_drawn_as_often_as_finagle_says(size, published):
    """Finagle's P2C, in its comment on weights: 1.0, .61, .56, .53, .52 of what its peers get, as one of 2, 3, 4, 6, 10."""
    light, total = Fraction(1), Fraction(2 * size - 1)
    peer = 2 * light
    others = size - 1
    drawn_light = light / total + others * (peer / total) * light / (total - peer)
    drawn_peer = (2 - drawn_light) / others
    assert float(drawn_light / drawn_peer) == pytest.approx(published, abs=0.0006)
    members = backends(light=1, **{f"peer{at}": 2 for at in range(others)})
    picker = built("p2c", members)
    rng, count, seen = random.Random(3), 20_000, 0
    for _ in range(count):
        picker.pick(ANY, 0.0, rng, ())
        seen += 0 in picker.mark[:2]
    assert near(seen, count, float(drawn_light))


def test_with_one_of_two_out_the_other_has_it_all_and_with_both_nobody():
    members = backends(a=1, b=1)
    picker = built("p2c", members)
    assert set(shares(picker, 50, avoid=members[:1])) == {"b"}
    assert picker.pick(ANY, 0.0, random.Random(1), members) is None


@pytest.mark.parametrize("weights", [dict.fromkeys("abcdef", 1), {**dict.fromkeys("abcde", 2), "f": 4}])
def test_those_that_are_out_leave_the_draws_of_the_rest_as_if_they_were_not_there(weights):
    """Also where an open one was drawn beside one that is out: it is compared with another one, not taken."""
    members = busy(backends(**weights), 0, 0, 1, 2, 3, 9)
    whole, rest = built("p2c", members), built("p2c", members[2:])
    count = 20_000
    got, expected = shares(whole, count, avoid=members[:2]), shares(rest, count, seed=2)
    assert set(got) == set(expected)
    for name in expected:
        share = expected[name] / count
        # Two samples: the variances add up.
        assert abs(got[name] - expected[name]) < 5 * math.sqrt(2 * count * share * (1 - share)) + 1


def test_a_giant_beside_a_dwarf_is_compared_with_it_too():
    """The second draw hits the giant 255 times of 256: what is left is looked at then."""
    members = busy(backends(a=255, b=1), 255, 0)
    assert set(shares(built("p2c", members), 200)) == {"b"}


# Both.


@pytest.mark.parametrize("policy", ["least", "p2c"])
def test_whoever_leaves_frees_its_place(policy):
    """No count is left behind, however an attempt ends."""
    pool, _ = make_pool("a:1", "b:1", policy=policy)
    for outcome in (Outcome.OK, Outcome.CLIENT_GONE, Outcome.CANCELLED, Outcome.TIMED_OUT, Outcome.CLIENT_FAULT):
        pool.settle(claim(pool), outcome, 0.0)
    assert [backend.load.value(1, 0.0) for backend in pool.backends.values()] == [0, 0]


@pytest.mark.parametrize("choose", ["scan", "two"])
def test_one_heavy_request_weighs_as_many_light_ones(choose):
    pool, _ = make_pool("a:1", "b:1", policy=policy_of(choose, "cost"))
    first = pool.claim(Ask(cost=5), 0.0)
    assert isinstance(first, Lease)
    assert {claim(pool).backend for _ in range(4)} == set(pool.backends.values()) - {first.backend}
    pool.settle(first, Outcome.OK, 1.0)
    assert claim(pool).backend is first.backend


@pytest.mark.parametrize("policy", ["least", "p2c"])
def test_a_weight_that_changes_changes_what_is_compared(policy):
    pool, _ = make_pool("a:1", "b:1", policy=policy)
    for _ in range(4):
        claim(pool)
    backend = pool.backends["b:1"]
    backend.weight = 2
    pool._selection.stale = True
    assert [claim(pool).backend for _ in range(2)] == [backend] * 2


def test_what_was_compared_is_told_later_though_it_has_changed_since():
    pool, _ = make_pool("a:1", "b:1", policy="p2c")
    first = claim(pool)
    second = claim(pool)
    while pool.leases < 9:
        claim(pool)
    assert first.backend is not second.backend
    assert (
        recalled(second).rule == f"two choices: 0 in flight by weight; {first.backend.name} has 1 in flight by weight"
    )


def test_a_scan_ranks_by_load():
    pool, _ = make_pool("a:1", "b:1", "c:1", policy="least")
    for _ in range(4):
        claim(pool)
    ranks = [one.rank for one in pool.explain(ANY, 0.0).candidates]
    assert ranks == [1.0, 1.0, 2.0]
    assert all(one <= other for one, other in pairwise(ranks))


@pytest.mark.parametrize("policy", ["least", "p2c", "latency", "prequal"])
def test_a_trial_that_is_due_is_made_though_others_have_less_load(policy):
    """Who was refused is slow to a policy that compares latency, and might be left alone for long."""
    pool, _ = make_pool("a:1", "b:1", policy=policy, checked=False)
    first = claim(pool, 0.0)
    for at in (0.0, 1.0):
        other = claim(pool, at)
        pool.responded(other, at)
        pool.settle(other, Outcome.OK, at)
    pool.settle(first, Outcome.REFUSED, 1.0)
    assert {claim(pool, 1.5).backend for _ in range(4)} == set(pool.backends.values()) - {first.backend}
    trial = claim(pool, 2.0)
    assert (trial.backend, trial.trial) == (first.backend, True)
    assert recalled(trial).rule == "a trial was due: one request finds out whether it is back, whatever its load is"


def test_what_is_made_of_a_choice_and_a_load_has_its_name():
    assert {name_of(choose, load) for choose in ("scan", "two") for load in LOADS} >= {"least", "p2c", "two by cost"}
    assert policy_of("scan", "requests") is POLICIES["least"]
    assert policy_of("two", "cost") is policy_of("two", "cost")
    with pytest.raises(KeyError):
        policy_of("two", "luck")


@pytest.mark.parametrize("policy", ["latency", "prequal"])
def test_a_backend_ten_times_as_slow_is_left_to_the_others(policy):
    """One request at a time: in flight is nothing then, and latency all. Of the pairs the slow one is in one of two; it is tried
    when it is expected to be as fast as the others, once in 10 s * ln(10).
    """
    pool, _ = make_pool("slow:1", "b:1", "c:1", "d:1", policy=policy)
    now, got = 0.0, Counter()
    for _ in range(3000):
        lease = claim(pool, now)
        got[lease.backend.name] += 1
        now += 0.1 if lease.backend.name == "slow:1" else 0.01
        pool.responded(lease, now)
        pool.settle(lease, Outcome.OK, now)
    assert 1 <= got["slow:1"] <= 1 + now / (10 * math.log(10)) + 1
    assert min(got[name] for name in ("b:1", "c:1", "d:1")) > 600


@pytest.mark.parametrize("policy", ["latency", "prequal"])
def test_who_fails_at_once_draws_no_requests_by_being_fast(policy):
    """Sinkhole: by requests in flight alone it would get more than its share."""
    pool, _ = make_pool(*(f"b{at}:1" for at in range(10)), policy=policy)
    rng, now, got, open_ = random.Random(5), 0.0, Counter(), []
    for _ in range(5000):
        now += 0.002
        lease = claim(pool, now)
        got[lease.backend.name] += 1
        if lease.backend.name == "b0:1":
            pool.settle(lease, Outcome.BAD_RESPONSE, now + 0.0001)
        else:
            open_.append((now + rng.expovariate(1 / 0.01), lease))
        for due, one in [pair for pair in open_ if pair[0] <= now]:
            pool.responded(one, due)
            pool.settle(one, Outcome.OK, due)
            open_.remove((due, one))
    # In ten seconds of 500 requests each fails for a second at least: it is looked at again a few times.
    assert got["b0:1"] < 5000 * 0.02


def test_what_is_read_all_at_once_is_what_each_load_says():
    """Other processes count too: `Counts.view` has them as `Counts.load` does."""

    class Shared(Counts):
        def elsewhere(self, slot):
            return 3 * slot

        def view(self):
            return tuple(self.load(slot) for slot in range(len(super().view())))

    counts = Shared()
    members = [Backend(spec, counts) for spec in specs("a:1,weight=2", "b:1", "c:1,weight=5")]
    loads = POLICIES["least"].loads(counts)
    for member in members:
        member.load = loads.of(member.slot)
    busy(members, 3, 1, 4)
    picker = POLICIES["least"].build(members, None, random.Random(1), 0.0)
    ranking = picker.ranking(ANY, 0.0)
    assert dict(ranking) == {member: member.load.value(member.weight, 0.0) for member in members}
    assert [member.name for member, _ in ranking] == ["a:1", "c:1", "b:1"]
