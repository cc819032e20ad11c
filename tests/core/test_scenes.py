"""What pools keep of what they were, for who asks later: bounded, however often they change."""

import gc
import weakref
from dataclasses import replace
from math import inf

import pytest
from builders import claim, make_pool, specs

from twisted_lb.build_info import build
from twisted_lb.core.backend import Backend
from twisted_lb.core.decision import recalled
from twisted_lb.core.flow import Flow
from twisted_lb.core.notes import Notes
from twisted_lb.core.outcome import Outcome
from twisted_lb.core.pickers import POLICIES
from twisted_lb.core.pickers.base import MOST_REMEMBERED
from twisted_lb.core.pickers.own import own_policy
from twisted_lb.core.pickers.shadow import ShadowedPolicy
from twisted_lb.core.scene import KEPT_MEMBERS, KEPT_S, KEPT_SCENES, LEAST_LARGE_SIZE, LEAST_SIZE

NOT_KEPT = "the table that it was picked by is not kept any more"


class Watched:
    """A policy that remembers, weakly, which pickers it has built."""

    def __init__(self, policy):
        self._policy = policy
        self.built = weakref.WeakSet()
        self.describe, self.eager, self.keyed = policy.describe, True, policy.keyed

    def loads(self, counts):
        return self._policy.loads(counts)

    def build(self, members, previous, rng, now):
        picker = self._policy.build(members, previous, rng, now)
        self.built.add(picker)
        return picker


class First:
    def __init__(self, members, previous=None):
        self._members = members

    def pick(self, ask, now, rng, tried):
        return next((one for one in self._members if one.open_to(tried)), None)


WATCHED = {
    "ring": (POLICIES["ring"], 20, True),
    "maglev": (POLICIES["maglev"], 20, True),
    "rr": (POLICIES["rr"], 2000, False),
    "own": (own_policy(First, "first", inf), 2000, True),
    "shadow": (ShadowedPolicy(POLICIES["rr"], own_policy(First, "first", inf), "first"), 2000, True),
}


@pytest.mark.skipif(build() != "pure", reason="compiled objects have no weak references")
@pytest.mark.parametrize("levels", [1, 2])
@pytest.mark.parametrize(("policy", "times", "large"), WATCHED.values(), ids=WATCHED)
def test_of_many_changes_with_a_request_each_the_last_pickers_are_kept(policy, times, large, levels):
    watched = Watched(policy)
    pool, _ = make_pool("a:1", "b:1", policy=watched, checked=False)
    notes, flow = Notes(), Flow("l", "p")
    for at in range(times):
        members = specs("a:1", f"b:1,weight={2 + at % 7}")
        pool.update([members[0], replace(members[1], priority=levels - 1)], float(at % 2))
        lease = claim(pool, float(at % 2))
        notes.plain(flow, lease)
        pool.settle(lease, Outcome.OK, float(at % 2))
    del lease
    gc.collect()
    most = KEPT_MEMBERS // (LEAST_LARGE_SIZE if large else LEAST_SIZE)
    # One for each level, the one before, and the one that is in use.
    assert len(watched.built) <= levels * (most + 2)


def test_of_a_large_pool_the_last_scenes_are_kept_whoever_still_asks():
    pool, _ = make_pool(*(f"a{at}:1" for at in range(MOST_REMEMBERED + 1)))
    leases = []
    for at in range(3 * KEPT_SCENES):
        pool.weighed(pool.backends["a0:1"], 1.0, f"by {at}")
        pool.command(pool.backends["a1:1"], list(type(pool.backends["a1:1"].admin))[at % 2], 1.0)
        leases.append(claim(pool, 1.0))
    assert [one.scene.forgotten for one in leases] == [True] * 2 * KEPT_SCENES + [False] * KEPT_SCENES
    old, new = recalled(leases[0]), recalled(leases[-1])
    assert (old.picked, old.candidates) == (leases[0].backend.name, ())
    assert old.rule.endswith("of 65 members it is not kept any more how each stood")
    assert len(new.candidates) == 65


def test_records_that_have_left_are_not_kept_by_notes_of_others():
    pool, _ = make_pool("a:1", "b0:1", policy="first")
    leases = []
    for at in range(1, 1000):
        pool.update(specs("a:1", f"b{at}:1"), 1.0)
        leases.append(claim(pool, 1.0))
    gc.collect()
    pool.tick(1.0)
    left = [one for one in gc.get_objects() if isinstance(one, Backend) and one.name.startswith("b") and one.removed]
    assert len(left) <= KEPT_MEMBERS // LEAST_SIZE + 2
    assert [one.backend_name for one in recalled(leases[0]).candidates] == ["a:1", "b1:1"]


def test_what_has_been_over_for_long_is_forgotten_and_what_is_in_use_is_not():
    pool, _ = make_pool("a:1", "b:1", policy="rand")
    first = claim(pool, 0.0)
    pool.update(specs("a:1", "b:1,weight=3"), 10.0)
    second = claim(pool, 10.0)
    pool.tick(9.0 + KEPT_S)
    assert NOT_KEPT not in recalled(first).rule
    pool.tick(10.0 + KEPT_S)
    assert recalled(first).rule == f"by chance: drew 0.1344; {NOT_KEPT}"
    assert [one.rank for one in recalled(first).candidates] == [None, None]
    assert NOT_KEPT not in recalled(second).rule


@pytest.mark.parametrize("policy", POLICIES)
def test_what_a_mark_says_alone_is_still_told(policy):
    pool, _ = make_pool("a:1", "b:1,weight=2", "c:1", policy=policy)
    lease = claim(pool, 0.0)
    before = recalled(lease)
    pool.update(specs("a:1", "b:1,weight=3", "c:1"), 1.0)
    pool.finish_tables(1.0)
    claim(pool, 1.0)
    pool.tick(2.0 + KEPT_S)
    after = recalled(lease)
    assert after.rule.endswith(NOT_KEPT)
    assert (
        after.rule.partition(":")[0].partition(",")[0].partition(";")[0]
        == before.rule.partition(":")[0].partition(",")[0]
    )
    assert {(one.backend_name, one.skipped, one.load) for one in after.candidates} == {
        (one.backend_name, one.skipped, one.load) for one in before.candidates
    }
