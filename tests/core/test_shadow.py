"""A shadow: it sees the same claims, routes nothing, and harms nobody."""

import random

import pytest
from builders import make_pool, specs
from some import some

from twisted_lb.core.ask import ANY, Ask, key_of
from twisted_lb.core.backend import AdminState
from twisted_lb.core.decision import recalled
from twisted_lb.core.lease import Lease
from twisted_lb.core.outcome import Outcome
from twisted_lb.core.pickers import BY_KEY, POLICIES, policy_of
from twisted_lb.core.pickers.base import Picker
from twisted_lb.core.pickers.own import own_policy
from twisted_lb.core.pickers.shadow import ShadowedPolicy
from twisted_lb.testing import check_policy


class First:
    """Picks the first one that is open, and hears of its leases."""

    def __init__(self, members, previous=None):
        self.members = members
        self.heard = previous.heard if previous else []

    def pick(self, ask, now, rng, tried):
        return next((one for one in self.members if one.open_to(tried)), None)

    def leased(self, member, cost, now):
        self.heard.append(("leased", member.name, member.in_flight))

    def responded(self, member, elapsed_s, now):
        self.heard.append(("responded", member.name, elapsed_s))

    def settled(self, member, cost, outcome, elapsed_s, now):
        self.heard.append((outcome.name, member.name, elapsed_s))


class Raises(First):
    def pick(self, ask, now, rng, tried):
        raise ValueError("no")


FIRST = own_policy(First, "first", 1.0)


def shadowed(policy, shadow, name="shadow"):
    of = lambda one: POLICIES[one] if isinstance(one, str) else one  # noqa: E731
    return ShadowedPolicy(of(policy), of(shadow), name)


def leased(pool, now=0.0, tried=()):
    lease = pool.claim(ANY, now, tried)
    assert isinstance(lease, Lease)
    return lease


def test_what_it_would_pick_is_compared_and_what_it_would_have_is_counted():
    pool, _ = make_pool("a:80", "b:80", policy=shadowed("rr", FIRST))
    leases = [leased(pool) for _ in range(6)]
    shadow = pool.minded.shadow
    assert (shadow.name, shadow.claims, shadow.agreed, shadow.failed) == ("shadow", 6, 3, 0)
    assert shadow.in_flight == {"a:80": 6, "b:80": 0}
    assert {one.name: one.in_flight for one in pool.backends.values()} == {"a:80": 3, "b:80": 3}
    for lease in leases[:4]:
        pool.settle(lease, Outcome.OK, 1.0)
    assert pool.minded.shadow.in_flight == {"a:80": 2, "b:80": 0}
    for lease in leases[4:]:
        pool.settle(lease, Outcome.NO_RESPONSE, 1.0)
    assert pool.minded.shadow.in_flight == {"a:80": 0, "b:80": 0}
    assert pool.broken() == []


def test_it_learns_of_answers_only_where_both_have_picked_the_same():
    pool, _ = make_pool("a:80", "b:80", policy=shadowed("rr", FIRST))
    leases = [leased(pool) for _ in range(2)]
    for lease in leases:
        pool.responded(lease, 1.0)
        pool.settle(lease, Outcome.OK, 2.0)
    made = pool._selection.picker.shadow._made
    ends = [("responded", "a:80", 1.0), ("OK", "a:80", 2.0)]
    none = [("CANCELLED", "a:80", 2.0)]
    mine = ends + none if leases[0].backend.name == "a:80" else none + ends
    assert made.heard == [("leased", "a:80", 1), ("leased", "a:80", 2), *mine]


@pytest.mark.parametrize("shadow", some(4, [Raises, *POLICIES]), ids=str)
@pytest.mark.parametrize("name", POLICIES)
def test_with_a_shadow_the_same_is_picked_counted_and_skipped_as_without(name, shadow):
    other = own_policy(Raises, "raises", 1.0) if shadow is Raises else shadow
    stories = []
    for policy in (POLICIES[name], shadowed(name, other)):
        pool, _ = make_pool("a:80", "b:80,weight=2", "c:80", "d:80", policy=policy, checked=False)
        chance, open_, story = random.Random(5), [], []
        for step in range(300):
            now = step * 0.01
            if chance.random() < 0.6:
                lease = leased(pool, now, tuple(chance.sample(list(pool.backends.values()), chance.choice((0, 0, 1)))))
                open_.append(lease)
                story.append((lease.backend.name, lease.backend.load and lease.backend.load.value(1, now)))
            elif open_:
                pool.responded(open_[0], now)
                pool.settle(open_.pop(0), chance.choice((Outcome.OK, Outcome.TIMED_OUT)), now)
            if step % 60 == 30:
                pool.command(pool.backends["b:80"], chance.choice((AdminState.READY, AdminState.DRAIN)), now)
                pool.tick(now)
                pool.finish_tables(now)  # where one of the two takes long to build both are built at ticks
            if step == 150:
                pool.observe_probe(pool.backends["c:80"], False, "", now)
        stories.append(([one for one, _ in story], [one.skipped_times for one in pool.backends.values()]))
        assert pool.broken() == []
    assert stories[0] == stories[1]


def test_one_that_raises_is_counted_as_what_it_is():
    pool, _ = make_pool("a:80", "b:80", policy=shadowed("rr", own_policy(Raises, "raises", 1.0)))
    for _ in range(4):
        leased(pool)
    assert dict(pool.minded.own["shadow"].faults) == {"raised": 4}
    assert "policy" not in pool.minded.own
    assert pool.minded.shadow.claims == 4


class Bad(Picker):
    """Raises, and has nobody between the pool and itself."""

    def pick(self, ask, now, rng, tried):
        raise ValueError("no")


def test_one_that_nobody_guards_harms_nobody_either():
    class Broken:
        describe, eager, keyed = "broken", True, False

        def loads(self, counts):
            return None

        def build(self, members, previous, rng, now):
            return Bad()

    pool, _ = make_pool("a:80", "b:80", policy=shadowed("rr", Broken()))
    lease = leased(pool)
    pool.settle(lease, Outcome.OK, 1.0)
    assert (pool.minded.shadow.failed, pool.minded.shadow.claims, pool.minded.shadow.agreed) == (1, 1, 0)
    assert recalled(lease).rule.endswith("; the shadow shadow would have picked nobody")


def test_what_it_would_have_done_is_explained():
    pool, _ = make_pool("a:80", "b:80", policy=shadowed("rr", FIRST, "first"))
    told = []
    for _ in range(2):
        foreseen = pool.explain(ANY, 0.0)
        lease = leased(pool)
        assert foreseen.rule == recalled(lease).rule
        assert foreseen.picked == lease.backend.name
        told.append(recalled(lease).rule.partition("; ")[2])
    assert sorted(told) == [
        "the shadow first agrees: policy first",
        "the shadow first would have picked a:80: policy first",
    ]


def test_turns_go_on_when_a_shadow_comes_and_goes():
    pool, _ = make_pool("a:80", "b:80", "c:80")
    order = [leased(pool).backend.name for _ in range(4)]
    pool.choose_by(shadowed("rr", "least"))
    order += [leased(pool).backend.name for _ in range(4)]
    pool.update(specs("a:80", "b:80", "c:80"), 1.0)
    order += [leased(pool).backend.name for _ in range(3)]
    pool.choose_by(POLICIES["rr"])
    order += [leased(pool).backend.name for _ in range(4)]
    assert order == (order[:3] * 5)
    assert pool.minded is None


def test_leases_of_before_end_where_they_began():
    pool, _ = make_pool("a:80", "b:80", policy="least")
    before = leased(pool)
    pool.choose_by(shadowed("least", FIRST))
    during = leased(pool)
    pool.settle(before, Outcome.OK, 1.0)
    assert sum(pool.minded.shadow.in_flight.values()) == 1
    pool.choose_by(POLICIES["least"])
    pool.settle(during, Outcome.OK, 1.0)
    assert pool.broken() == []


def test_a_connection_of_a_client_is_where_it_is_for_the_shadow_too():
    pool, _ = make_pool("a:80", "b:80", policy=shadowed("rr", FIRST))
    own = pool.claim_on(pool.backends["b:80"], ANY, 0.0)
    leased(pool)
    assert pool.minded.shadow.claims == 1
    assert pool.minded.shadow.in_flight == {"a:80": 1, "b:80": 1}
    pool.settle(own, Outcome.OK, 0.0)
    assert pool.minded.shadow.in_flight == {"a:80": 1, "b:80": 0}


def test_a_member_that_leaves_takes_what_it_would_have_with_it():
    pool, _ = make_pool("a:80", "b:80", policy=shadowed("rr", FIRST))
    leases = [leased(pool) for _ in range(4)]
    pool.update(specs("b:80", "c:80"), 1.0)
    leases += [leased(pool, 1.0) for _ in range(2)]
    for lease in leases:
        pool.settle(lease, Outcome.OK, 2.0)
    assert pool.minded.shadow.in_flight == {"b:80": 0, "c:80": 0}
    assert pool.broken() == []


@pytest.mark.parametrize("shadow", ["least", FIRST])
def test_a_shadowed_policy_holds_what_every_policy_has_to(shadow):
    check_policy(shadowed("p2c", shadow))


def test_shadowed_policies_are_equal_where_both_are():
    assert shadowed("rr", FIRST) == shadowed("rr", own_policy(First, "first", 1.0))
    assert len({shadowed("rr", "least"), shadowed("rr", "least"), shadowed("least", "rr")}) == 2
    assert shadowed("rr", "least") != POLICIES["rr"]
    assert shadowed("rr", policy_of("two", "cost")) != shadowed("rr", "least")


@pytest.mark.parametrize("choose", BY_KEY)
def test_a_shadow_by_key_bounds_what_it_would_have_itself(choose):
    """One hot key: the shadow fills 13 of each of ten at 125 percent, as it would if it routed; all that is really somewhere else."""
    pool, _ = make_pool(*(f"b{at}:80" for at in range(10)), policy=shadowed("first", choose), checked=False)
    ask = Ask(key_of(b"hot"))
    for _ in range(100):
        assert isinstance(pool.claim(ask, 0.0), Lease)
    would = pool.minded.shadow.in_flight
    assert (max(would.values()), sum(1 for one in would.values() if one), sum(would.values())) == (13, 8, 100)
    assert pool.backends["b0:80"].in_flight == 100


@pytest.mark.parametrize("shadow", ["least", "latency", FIRST], ids=str)
def test_who_has_the_slot_of_one_that_has_left_inherits_nothing(shadow):
    pool, _ = make_pool("a:80", "b:80", policy=shadowed("rr", shadow))
    leases = [leased(pool) for _ in range(8)]
    a = pool.backends["a:80"]
    for lease in [one for one in leases if one.backend is a]:
        pool.settle(lease, Outcome.OK, 1.0)
    assert shadow is not FIRST or pool.minded.shadow.in_flight["a:80"] == 4
    slot = a.slot
    pool.update(specs("b:80"), 2.0)
    pool.update(specs("b:80", "c:80"), 3.0)
    assert pool.backends["c:80"].slot == slot
    assert pool.minded.shadow.in_flight["c:80"] == 0
    for lease in leases:
        if lease.open:
            pool.settle(lease, Outcome.OK, 4.0)
    assert pool.minded.shadow.in_flight == {"b:80": 0, "c:80": 0}
    assert pool._loads.counts.total == 0
    for at in range(20):
        pool.update(specs("b:80", f"d{at}:80"), 5.0)
    assert len(pool._loads.counts.view()) <= 3


@pytest.mark.parametrize("policy", [FIRST, shadowed("rr", FIRST)], ids=["routes", "shadow"])
def test_a_policy_that_may_take_longer_has_the_same_members_and_hears_of_all_that_is_open(policy):
    pool, _ = make_pool("a:80", "b:80", policy=policy)
    lease = leased(pool)

    def made():
        picker = pool._selection.picker
        return (picker.shadow if policy is not FIRST else picker)._made

    before = made()
    slower = own_policy(First, "first", 2.0)
    pool.choose_by(slower if policy is FIRST else shadowed("rr", slower))
    other = leased(pool)
    assert [new is old for new, old in zip(made().members, before.members, strict=True)] == [True, True]
    for one in (lease, other):
        pool.settle(one, Outcome.OK, 1.0)
    assert sum(one[0] != "leased" for one in made().heard) == 2
    loads = pool._loads if policy is FIRST else pool._loads.shadow
    assert loads.minder.budget_s == 2.0
