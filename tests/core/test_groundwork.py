"""Groundwork: tables of large pools are made in slices of bounded work, and the picker before serves meanwhile. In steps, not in time."""

import random
from collections import Counter

import pytest
from builders import make_pool, specs
from keyed import ASKS, KEYS, members, owners, unbounded
from some import some

from twisted_lb.core.ask import ANY
from twisted_lb.core.backend import AdminState, Backend
from twisted_lb.core.lease import Lease
from twisted_lb.core.outcome import Refusal
from twisted_lb.core.pickers import POLICIES, by_key
from twisted_lb.core.pickers.by_key import TableWork
from twisted_lb.core.pickers.groundwork import Groundwork
from twisted_lb.core.pickers.maglev import MaglevWork
from twisted_lb.core.pickers.members import Members
from twisted_lb.core.pickers.ring import Ring, RingWork
from twisted_lb.core.pickers.shadow import ShadowedPolicy
from twisted_lb.core.selection import AT_ONCE, SLICE

# So many that a ring of them is more than is made at once.
MANY = 600
# With nothing else than keys to go by.
UNBOUND = by_key("ring", 0)
TEXTS = [f"10.1.{at >> 8}.{at & 255}:80" for at in range(MANY)]


def steps(work: Groundwork, slice_: int = SLICE) -> int:
    """How many steps a groundwork takes, done in slices; none of them does much more than it should."""
    taken = 0
    while not work.done:
        left = work.work(slice_)
        taken += slice_ - left
    return taken


def ring_of(those: list[Backend], previous: Ring | None = None) -> Ring:
    return Ring.built(Members(those, 0), previous)


def ticks(pool, most: int = 1000) -> int:
    """How many ticks it takes until all is built."""
    selection = pool._selection
    for number in range(most):
        if not (selection.stale or selection.coarse):
            return number
        pool.tick(0.0)
    raise AssertionError("it is never built")


def who(pool, asks=ASKS[:300]) -> list[str]:
    found = []
    for ask in asks:
        backend = pool._selection.picker.pick(ask, 0.0, random.Random(1), ())
        found.append(backend.name)
    return found


@pytest.mark.parametrize("change", ["one comes", "one goes"])
def test_a_change_of_one_member_costs_what_that_member_costs_however_many_there_are(change):
    """Its 160 points, and those between which they stand: 16 to 32 in each arc. Of ten times the members no more."""
    taken = []
    for number in (200, 2000):
        those = members(number + 1)
        fewer = those[:-1]
        before, after = (fewer, those) if change == "one comes" else (those, fewer)
        taken.append(steps(RingWork(Members(after, 0), ring_of(before))))
    assert max(taken) < 160 + 160 * (33 + 1)
    assert max(taken) < 2.2 * min(taken)


def test_the_ring_of_all_costs_in_proportion_to_members():
    few, many = (steps(RingWork(Members(members(number), 0), None)) for number in (100, 800))
    assert 7 < many / few < 9
    assert few < 100 * 160 * 2.2


def test_maglevs_table_costs_the_same_however_many_members_there_are():
    few, many = (steps(MaglevWork(Members(members(number), 0), None)) for number in (10, 1000))
    assert 0.5 < many / few < 2
    assert many < AT_ONCE


@pytest.mark.parametrize("made", [RingWork, MaglevWork])
def test_no_slice_does_much_more_than_it_should(made):
    work: TableWork = made(Members(members(100), 0), None)
    while not work.done:
        before = work.cost
        left = work.work(500)
        assert left == 0 or work.done
        # An arc of the ring, or a turn of Maglev's that meets many entries that are taken: at most all.
        assert before - work.cost <= 500 + 65537 / 8


@pytest.mark.parametrize("weights", [(1,), (1, 2, 5), (1, 256)], ids=str)
def test_a_ring_made_of_another_one_in_slices_of_any_size_is_the_one_that_is_made_anew(weights):
    those, rng = members(60, weights), random.Random(3)
    made: Ring | None = None
    for slice_ in (1, 7, 100, 5000) * 4:
        some = rng.sample(those, rng.randint(1, 60))
        some[0].weight = rng.choice(weights)
        work = RingWork(Members(some, 0), made)
        steps(work, slice_)
        made = work.ring()
        fresh = ring_of(some)
        assert made.whose(made.owners) == fresh.whose(fresh.owners)
        assert [made.point(key) for key in KEYS[:200]] == [fresh.point(key) for key in KEYS[:200]]


def test_a_coarse_ring_is_refined_to_the_whole_one():
    those = members(30, (1, 2, 5))
    coarse = RingWork(Members(those, 0), None).coarse_table()
    assert len(coarse.owners) < 30 * 160 / 10
    assert {one for one, _ in coarse.shares()} == set(those)
    work = RingWork(coarse.members, coarse)
    steps(work)
    assert owners(work.ring()) == owners(unbounded("ring", those))


def test_a_large_pool_serves_by_a_coarse_ring_until_ticks_have_made_the_whole_one():
    pool, _ = make_pool(*TEXTS, policy=UNBOUND, checked=False)
    assert pool._selection.coarse
    got = Counter(pool.claim(ask, 0.0).backend.name for ask in ASKS)
    assert len(got) > MANY / 2
    needed = ticks(pool)
    assert 1 < needed <= MANY * 160 * 2.2 / SLICE + 1
    assert who(pool) == owners(unbounded("ring", list(pool.backends.values())))[:300]


def test_it_can_be_made_whole_before_anybody_is_listened_to():
    pool, _ = make_pool(*TEXTS, policy=UNBOUND, checked=False)
    pool.finish_tables(0.0)
    assert ticks(pool) == 0
    assert who(pool) == owners(unbounded("ring", list(pool.backends.values())))[:300]


def test_small_pools_are_built_at_once():
    for policy in (UNBOUND, "maglev"):
        pool, _ = make_pool(*TEXTS[:100], policy=policy, checked=False)
        assert ticks(pool) == 0


def test_while_a_table_is_made_the_one_before_serves_and_who_has_left_gets_nothing():
    pool, _ = make_pool(*TEXTS[:400], policy=UNBOUND, checked=False)
    before = who(pool)
    pool.update(specs(*TEXTS[200:]), 0.0)
    pool.command(pool.backends[TEXTS[300]], AdminState.DRAIN, 0.0)
    away = {*TEXTS[:200], TEXTS[300]}
    seen = 0
    while pool._selection.stale:
        pool.tick(0.0)
        seen += 1
        found = who(pool)
        assert not away & set(found)
        if pool._selection.stale:
            # Whoever stays keeps its keys.
            assert all(new == old for new, old in zip(found, before, strict=True) if old not in away)
    assert seen > 1
    assert set(TEXTS[400:]) & set(who(pool, ASKS))


def test_another_policy_serves_until_the_ring_is_there():
    pool, _ = make_pool(*TEXTS, policy="rr", checked=False)
    pool.claim(ANY, 0.0)
    pool.choose_by(UNBOUND)
    pool.tick(0.0)
    assert type(pool._selection.picker).__name__ == "Rotation"
    ticks(pool)
    assert who(pool) == owners(unbounded("ring", list(pool.backends.values())))[:300]


def test_a_claim_that_finds_nobody_has_all_members_at_once():
    """Of all others: the old table has nobody. What it gets may be coarse, and the whole one follows."""
    pool, _ = make_pool(*TEXTS[:300], policy=UNBOUND, checked=False)
    pool.update(specs(*(f"10.2.{at >> 8}.{at & 255}:80" for at in range(MANY))), 0.0)
    assert pool.explain(ASKS[0], 0.0).picked == pool.claim(ASKS[0], 0.0).backend.name
    assert pool._selection.coarse
    ticks(pool)
    assert who(pool) == owners(unbounded("ring", list(pool.backends.values())))[:300]


def test_a_claim_that_finds_nobody_in_a_coarse_table_is_refused():
    pool, _ = make_pool(*TEXTS, policy=UNBOUND, checked=False)
    assert pool.claim(ANY, 0.0, tuple(pool.backends.values())) is Refusal.NO_BACKEND


@pytest.mark.parametrize("each", some(1, [50, 300]))
def test_changes_that_come_faster_than_they_are_followed_are_followed_in_the_end(each):
    """50 of 600 are replaced at each tick, of which a ring takes 50 * 160 * 2 * 2 steps: nearly a slice. Then 300, which is more."""
    pool, _ = make_pool(*TEXTS, policy=UNBOUND, checked=False)
    pool.finish_tables(0.0)
    followed, numbers = 0, random.Random(each)
    names = list(TEXTS)
    for turn in range(60):
        for at in numbers.sample(range(MANY), each):
            names[at] = f"10.3.{turn}.{at & 255}:{80 + (at >> 8)}"
        pool.update(specs(*names), 0.0)
        before = pool._selection.picker
        pool.tick(0.0)
        followed += pool._selection.picker is not before
    assert followed >= 2
    ticks(pool)
    assert who(pool) == owners(unbounded("ring", list(pool.backends.values())))[:300]


@pytest.mark.parametrize("policy", [("rr", "ring"), ("ring", "rr"), ("ring", "maglev")], ids=str)
def test_a_shadow_has_its_tables_made_in_slices_and_turns_go_on_meanwhile(policy):
    routes, shadow = (UNBOUND if one == "ring" else POLICIES[one] for one in policy)
    pool, _ = make_pool(*TEXTS, policy=ShadowedPolicy(routes, shadow, "shadow"), checked=False)
    assert ticks(pool) > 1
    pool.update(specs(*TEXTS[300:]), 0.0)
    assert isinstance(pool.claim(ASKS[0], 0.0), Lease)
    assert ticks(pool) > 1
    picker = pool._selection.picker
    by_ring = picker.real if policy[0] == "ring" else picker.shadow
    assert owners(by_ring)[:300] == owners(unbounded("ring", list(pool.backends.values())))[:300]
    assert pool.broken() == []


def test_a_shadow_that_is_built_at_ticks_takes_no_turn_away():
    """Turns that are taken while the shadow's ring is made are taken: nobody has one twice."""
    pool, _ = make_pool(*TEXTS[:400], policy=ShadowedPolicy(POLICIES["rr"], UNBOUND, "shadow"), checked=False)
    ticks(pool)
    pool.update(specs(*TEXTS[:400], *TEXTS[500:]), 0.0)
    got = []
    while pool._selection.stale:
        got += [pool.claim(ANY, 0.0).backend.name for _ in range(10)]
        pool.tick(0.0)
    got += [pool.claim(ANY, 0.0).backend.name for _ in range(300)]
    assert max(Counter(got).values()) == 1


def test_levels_have_tables_that_are_made_together():
    pool, _ = make_pool(policy=UNBOUND, checked=False)
    whole = [*specs(*TEXTS), *specs("standby:80")]
    object.__setattr__(whole[-1], "backup", True)
    pool.update(whole, 0.0)
    assert pool._selection.coarse
    assert ticks(pool) > 1
    first = pool._selection.picker._pickers[0]
    assert owners(first)[:300] == owners(unbounded("ring", list(pool.backends.values())[:-1]))[:300]


def test_a_ring_of_many_points_is_explained_without_a_look_at_each():
    """The next 64 entries, and then all others by rendezvous, as a pick goes on: what it costs is known by members alone."""
    made = ring_of(members(400))
    key = KEYS[0]
    ranked = [backend for backend, _ in made.ranked(key)]
    assert set(ranked) == set(made.members.all)
    assert ranked[0] is made.members.all[made.owner(key)]
    others = [made.members.all[index] for index in made.members.order(key)]
    behind = [one for one in others if one not in ranked[: len(made.following(key))]]
    assert ranked[len(made.following(key)) :] == behind
    shares = made.shares()
    assert sum(share for _, share in shares) == pytest.approx(1.0)
    assert {share for _, share in shares} == {1 / 400}
