"""Who is in, who may be used, who has a claim on whom."""

import random
from collections import Counter

import pytest
from builders import CountingPolicy, claim, make_pool, names, specs

from twisted_lb.core.address import parse_address
from twisted_lb.core.ask import ANY, Ask
from twisted_lb.core.backend import AdminState, BackendSpec
from twisted_lb.core.counts import Counts
from twisted_lb.core.events import (
    AdminChanged,
    BackendAdded,
    BackendChanged,
    BackendDown,
    BackendEjected,
    BackendRemoved,
    BackendReturned,
    BackendUp,
    PoolExhausted,
    PoolRecovered,
)
from twisted_lb.core.lease import Lease
from twisted_lb.core.load import Apart, Load, Requests
from twisted_lb.core.outcome import Outcome, Refusal
from twisted_lb.core.pickers import POLICIES
from twisted_lb.core.pool import Pool
from twisted_lb.core.settings import PoolSettings


def test_leases_are_counted_from_claim_to_settlement():
    pool, told = make_pool("a:1", "b:1")
    leases = [claim(pool) for _ in range(4)]
    assert [backend.in_flight for backend in pool.backends.values()] == [2, 2]
    assert repr(pool) == "<Pool p: 2 usable of 2, 4 in flight>"
    for lease in leases:
        pool.settle(lease, Outcome.OK, 1.0)
    assert [backend.in_flight for backend in pool.backends.values()] == [0, 0]
    assert [backend.outcomes[Outcome.OK] for backend in pool.backends.values()] == [2, 2]
    assert told == []


def test_a_lease_is_settled_exactly_once():
    pool, _ = make_pool("a:1")
    lease = claim(pool)
    pool.settle(lease, Outcome.OK, 0.0)
    with pytest.raises(AssertionError, match="twice"):
        pool.settle(lease, Outcome.OK, 0.0)
    assert pool.backends["a:1"].in_flight == 0


def test_an_empty_pool_refuses():
    pool, _ = make_pool()
    assert pool.claim(ANY, 0.0) is Refusal.NO_BACKEND


def test_those_already_tried_are_avoided_and_all_tried_is_a_refusal():
    pool, _ = make_pool("a:1", "b:1")
    a, b = pool.backends.values()
    assert {claim(pool, tried=(a,)).backend.name for _ in range(5)} == {"b:1"}
    assert pool.claim(ANY, 0.0, (a, b)) is Refusal.NO_BACKEND


def test_an_update_keeps_the_record_of_who_stays():
    pool, told = make_pool("a:1", "b:1")
    backend = pool.backends["b:1"]
    lease = claim(pool)
    pool.update(specs("c:1", "b:1,weight=2"), 5.0)
    assert list(pool.backends) == ["c:1", "b:1"]
    assert pool.backends["b:1"] is backend
    assert backend.weight == 2
    assert told == [
        BackendAdded("p", "c:1", 5.0),
        BackendChanged("p", "b:1", "weight 1 -> 2", 5.0),
        BackendRemoved("p", "a:1", 5.0),
    ]
    pool.settle(lease, Outcome.OK, 6.0)
    assert lease.backend.in_flight == 0


def test_a_new_address_under_an_old_name_is_another_server():
    pool, told = make_pool("a:1")
    pool.observe_probe(pool.backends["a:1"], False, "no", 0.0)
    told.clear()
    old = pool.backends["a:1"]
    pool.update([BackendSpec("a:1", BackendSpec.parse("z:9").address)], 1.0)
    assert pool.backends["a:1"] is not old
    assert pool.backends["a:1"].usable
    assert told.take() == [BackendChanged("p", "a:1", "address a:1 -> z:9", 1.0), PoolRecovered("p", 1.0)]


def test_a_change_of_address_and_weight_is_told_as_one():
    pool, told = make_pool("a:1")
    pool.command(pool.backends["a:1"], AdminState.DRAIN, 0.0)
    told.clear()
    pool.update([BackendSpec("a:1", BackendSpec.parse("z:9").address, 3)], 1.0)
    assert told == [BackendChanged("p", "a:1", "address a:1 -> z:9, weight 1 -> 3", 1.0)]
    assert pool.backends["a:1"].weight == 3
    assert pool.backends["a:1"].admin is AdminState.DRAIN  # what the operator wants is of the name


def test_a_backend_that_is_there_twice_changes_nothing():
    pool, told = make_pool("a:1")
    with pytest.raises(ValueError, match="twice"):
        pool.update(specs("b:1", "a:1,weight=5", "b:1"), 1.0)
    assert list(pool.backends) == ["a:1"]
    assert pool.backends["a:1"].weight == 1
    assert told == []


def test_an_update_is_told_when_all_of_it_has_happened():
    seen = []

    def look(event):
        seen.append([(backend.name, backend.weight) for backend in pool.backends.values()])

    pool = Pool("p", POLICIES["rr"], PoolSettings(), random.Random(1), look)
    pool.update(specs("a:1", "b:1", "c:1"), 0.0)
    seen.clear()
    pool.update(specs("b:1,weight=2", "a:1,weight=3", "d:1"), 1.0)
    assert seen == [[("b:1", 2), ("a:1", 3), ("d:1", 1)]] * 4


def test_the_same_again_is_no_news():
    pool, told = make_pool("a:1", "b:1,weight=2")
    pool.update(specs("a:1", "b:1,weight=2"), 1.0)
    pool.update(specs("b:1,weight=2", "a:1"), 1.0)
    assert list(pool.backends) == ["b:1", "a:1"]
    assert told == []


def test_an_update_that_leaves_nobody_and_one_that_brings_somebody_are_told():
    pool, told = make_pool("a:1")
    pool.update([], 1.0)
    assert told.take() == [BackendRemoved("p", "a:1", 1.0), PoolExhausted("p", 1.0)]
    assert pool.claim(ANY, 1.0) is Refusal.NO_BACKEND
    pool.update(specs("b:1"), 2.0)
    assert told.take() == [BackendAdded("p", "b:1", 2.0), PoolRecovered("p", 2.0)]
    assert claim(pool, 2.0).backend.name == "b:1"


def test_a_weight_that_changes_changes_the_shares_of_the_next_requests():
    pool, _ = make_pool("a:1", "b:1")
    pool.update(specs("a:1,weight=3", "b:1"), 1.0)
    turns = [claim(pool).backend.name for _ in range(40)]
    assert turns.count("a:1") == 30


def test_who_left_and_came_back_is_a_new_record():
    """The old lease ends with the old one: it neither counts for, nor takes out, the new one."""
    pool, told = make_pool("a:1", "b:1")
    lease = claim(pool)
    name = lease.backend.name
    pool.update([spec for spec in specs("a:1", "b:1") if spec.name != name], 1.0)
    pool.update(specs("a:1", "b:1"), 2.0)
    told.clear()
    again = pool.backends[name]
    assert again is not lease.backend
    pool.settle(lease, Outcome.REFUSED, 3.0)
    assert (again.in_flight, sum(again.outcomes), again.usable) == (0, 0, True)
    assert told == []


def test_a_refusal_from_where_it_was_before_says_nothing_of_where_it_is_now():
    pool, told = make_pool("a:1")
    lease = claim(pool)
    pool.update([BackendSpec("a:1", BackendSpec.parse("z:9").address)], 1.0)
    told.clear()
    pool.settle(lease, Outcome.REFUSED, 2.0)
    assert told == []
    assert pool.backends["a:1"].usable


def test_a_refused_lease_takes_only_its_own_backend_out():
    pool, _ = make_pool("a:1", "b:1", "c:1")
    lease = claim(pool)
    pool.settle(lease, Outcome.REFUSED, 0.0)
    assert names(pool, 9) == {"a:1", "b:1", "c:1"} - {lease.backend.name}


def test_a_late_refusal_does_not_take_out_who_was_found_well_meanwhile():
    """EHOSTUNREACH takes 3 s to come; by then checks may have brought the backend back."""
    pool, told = make_pool("a:1")
    first, late = claim(pool, 0.0), claim(pool, 0.0)
    pool.settle(first, Outcome.REFUSED, 1.0)
    backend = pool.backends["a:1"]
    pool.observe_probe(backend, True, "ok", 1.5)
    pool.observe_probe(backend, True, "ok", 2.0)
    told.clear()
    pool.settle(late, Outcome.REFUSED, 3.0)
    assert told == []
    pool.settle(claim(pool, 3.0), Outcome.REFUSED, 3.1, "no")
    assert told[0] == BackendEjected("p", "a:1", Outcome.REFUSED, "no", None, True, 3.1)


def test_both_probes_and_traffic_can_take_out_and_each_change_is_told_once():
    pool, told = make_pool("a:1", "b:1")
    lease = claim(pool)
    backend = lease.backend
    pool.observe_probe(backend, True, "ok", 0.0)
    pool.settle(lease, Outcome.REFUSED, 1.0, "no")
    for now in (2.0, 3.0, 4.0, 5.0):
        pool.observe_probe(backend, False, "status 500", now)
    for now in (6.0, 7.0, 8.0):
        pool.observe_probe(backend, True, "status 200", now)
    assert told == [
        BackendEjected("p", backend.name, Outcome.REFUSED, "no", None, True, 1.0),
        BackendDown("p", backend.name, "status 500", 4.0),
        BackendUp("p", backend.name, "status 200", 7.0),
        BackendReturned("p", backend.name, "checks pass", 7.0),
    ]
    assert names(pool, 6, 8.0) == {"a:1", "b:1"}


def test_exhaustion_is_told_after_its_cause_and_recovery_after_its_own():
    pool, told = make_pool("a:1")
    backend = pool.backends["a:1"]
    pool.settle(claim(pool), Outcome.REFUSED, 1.0, "no")
    pool.command(backend, AdminState.DRAIN, 2.0)
    pool.observe_probe(backend, True, "ok", 3.0)
    pool.observe_probe(backend, True, "ok", 4.0)
    pool.command(backend, AdminState.READY, 5.0)
    assert told == [
        BackendEjected("p", "a:1", Outcome.REFUSED, "no", None, True, 1.0),
        PoolExhausted("p", 1.0),
        AdminChanged("p", "a:1", AdminState.READY, AdminState.DRAIN, 2.0),
        BackendReturned("p", "a:1", "checks pass", 3.0),
        AdminChanged("p", "a:1", AdminState.DRAIN, AdminState.READY, 5.0),
        PoolRecovered("p", 5.0),
    ]


@pytest.mark.parametrize("admin", [AdminState.DRAIN, AdminState.MAINT])
def test_a_running_request_of_one_that_is_taken_out_ends_as_it_would(admin):
    pool, told = make_pool("a:1")
    lease = claim(pool)
    pool.command(lease.backend, admin, 1.0)
    told.clear()
    assert lease.backend.in_flight == 1
    pool.settle(lease, Outcome.OK, 2.0)
    assert lease.backend.in_flight == 0
    assert lease.backend.outcomes[Outcome.OK] == 1
    assert told == []


def test_its_lease_shows_how_it_stands():
    pool, _ = make_pool("a:1")
    lease = claim(pool)
    assert repr(lease) == "<Lease a:1 open>"
    pool.settle(lease, Outcome.OK, 0.0)
    assert repr(lease) == "<Lease a:1 settled>"


def test_a_removed_backend_gets_nobody_and_its_late_news_are_no_news():
    pool, told = make_pool("a:1", "b:1", checked=False)
    lease = claim(pool)
    gone = lease.backend
    pool.update([BackendSpec.parse(name) for name in pool.backends if name != gone.name], 1.0)
    told.clear()
    pool.settle(lease, Outcome.REFUSED, 2.0, "refused")
    assert told == []
    assert gone.name not in names(pool, 6, 2.0)


@pytest.mark.parametrize("admin", [AdminState.DRAIN, AdminState.MAINT])
def test_what_the_operator_takes_out_gets_nobody_until_it_is_ready(admin):
    pool, told = make_pool("a:1", "b:1")
    a = pool.backends["a:1"]
    pool.command(a, admin, 1.0)
    pool.command(a, admin, 1.5)
    assert names(pool, 6) == {"b:1"}
    pool.command(a, AdminState.READY, 2.0)
    assert names(pool, 6) == {"a:1", "b:1"}
    assert told == [
        AdminChanged("p", "a:1", AdminState.READY, admin, 1.0),
        AdminChanged("p", "a:1", admin, AdminState.READY, 2.0),
    ]


def test_probes_take_out_and_bring_back_with_the_reason():
    pool, told = make_pool("a:1", "b:1")
    a = pool.backends["a:1"]
    pool.observe_probe(a, False, "status 500", 1.0)
    assert names(pool, 6) == {"b:1"}
    pool.observe_probe(a, True, "status 200", 2.0)
    assert names(pool, 6) == {"b:1"}
    pool.observe_probe(a, True, "status 200", 3.0)
    assert names(pool, 6) == {"a:1", "b:1"}
    assert told == [BackendDown("p", "a:1", "status 500", 1.0), BackendUp("p", "a:1", "status 200", 3.0)]


def test_who_is_taken_for_down_gets_nobody_before_its_first_good_probe():
    pool, told = make_pool("a:1", "b:1", initially_up=False)
    a, b = pool.backends.values()
    assert pool.claim(ANY, 0.0) is Refusal.NO_BACKEND
    pool.observe_probe(a, False, "status 500", 1.0)
    pool.observe_probe(b, True, "status 200", 2.0)
    assert names(pool, 4) == {"b:1"}
    pool.observe_probe(a, True, "status 200", 3.0)
    assert names(pool, 4) == {"b:1"}  # it was down, and `rise` counts from here on
    pool.observe_probe(a, True, "status 200", 4.0)
    assert names(pool, 4) == {"a:1", "b:1"}
    assert [str(event) for event in told] == [
        "p/a:1 is down: status 500",
        "p/b:1 is up: status 200",
        "pool p has a usable backend again",
        "p/a:1 is up: status 200",
    ]


@pytest.mark.parametrize("checked", [True, False])
@pytest.mark.parametrize("how", ["added", "moved"])
def test_who_comes_later_is_taken_for_down_too_unless_nobody_checks(how, checked):
    pool, _ = make_pool("b:1", initially_up=False, checked=checked)
    pool.observe_probe(pool.backends["b:1"], True, "well", 1.0)
    now = specs("a:1", "b:1") if how == "added" else [BackendSpec("b:1", parse_address("c:1"))]
    pool.update(now, 2.0)
    newcomer = pool.backends["a:1" if how == "added" else "b:1"]
    assert (newcomer.usable, newcomer.available) == (not checked, not checked)
    pool.observe_probe(newcomer, True, "well", 3.0)
    assert newcomer.usable
    assert newcomer.available


def test_the_last_one_gone_and_the_first_one_back_are_told():
    pool, told = make_pool("a:1", "b:1")
    a, b = pool.backends.values()
    pool.observe_probe(a, False, "x", 1.0)
    pool.command(b, AdminState.MAINT, 2.0)
    assert pool.claim(ANY, 2.0) is Refusal.NO_BACKEND
    pool.command(b, AdminState.READY, 3.0)
    assert [event for event in told if isinstance(event, (PoolExhausted, PoolRecovered))] == [
        PoolExhausted("p", 2.0),
        PoolRecovered("p", 3.0),
    ]


def test_refused_ejects_at_once_and_asks_for_a_check():
    pool, told = make_pool("a:1", "b:1")
    leases = [claim(pool) for _ in range(4)]
    victim = leases[0].backend
    for lease in leases:
        pool.settle(lease, Outcome.REFUSED if lease.backend is victim else Outcome.OK, 1.0, "connection refused")
    assert victim.name not in names(pool, 6, 1.0)
    # The second refusal of the same moment says nothing new.
    assert told.take() == [BackendEjected("p", victim.name, Outcome.REFUSED, "connection refused", None, True, 1.0)]
    pool.observe_probe(victim, True, "ok", 2.0)
    assert victim.name not in names(pool, 6, 2.0)
    pool.observe_probe(victim, True, "ok", 3.0)
    assert victim.name in names(pool, 6, 3.0)
    assert told.take() == [BackendReturned("p", victim.name, "checks pass", 3.0)]


@pytest.mark.parametrize("outcome", [o for o in Outcome if o is not Outcome.REFUSED], ids=lambda o: o.name)
def test_no_other_outcome_ejects(outcome):
    pool, told = make_pool("a:1")
    for _ in range(10):
        pool.settle(claim(pool), outcome, 1.0)
    assert pool.backends["a:1"].usable
    assert told == []


@pytest.mark.parametrize("outcome", Outcome, ids=lambda outcome: outcome.name)
def test_a_backend_counts_the_failures_that_it_is_blamed_for(outcome):
    pool, _ = make_pool("a:1")
    for _ in range(3):
        pool.settle(claim(pool), outcome, 0.0)
        pool.observe_probe(pool.backends["a:1"], True, "ok", 0.0)
        pool.observe_probe(pool.backends["a:1"], True, "ok", 0.0)
    unreached = {"REFUSED", "CONNECT_TIMEOUT", "BACKLOG_FULL"}
    blames = unreached | {"BAD_STATUS", "NO_RESPONSE", "BAD_RESPONSE", "TIMED_OUT", "CUT_SHORT"}
    assert pool.backends["a:1"].failures == (3 if outcome.name in blames else 0)


def test_without_checks_one_request_at_a_time_tries_an_ejected_one():
    pool, told = make_pool("a:1", checked=False)
    a = pool.backends["a:1"]
    pool.settle(claim(pool), Outcome.REFUSED, 10.0, "no")
    assert told.take() == [
        BackendEjected("p", "a:1", Outcome.REFUSED, "no", 11.0, False, 10.0),
        PoolExhausted("p", 10.0),
    ]
    assert pool.claim(ANY, 10.9) is Refusal.NO_BACKEND
    trial = claim(pool, 11.0)
    assert trial.trial
    assert pool.claim(ANY, 11.0) is Refusal.NO_BACKEND
    pool.settle(trial, Outcome.REFUSED, 11.5, "no")
    assert told.take() == [BackendEjected("p", "a:1", Outcome.REFUSED, "no", 13.5, False, 11.5)]
    assert pool.claim(ANY, 13.4) is Refusal.NO_BACKEND
    trial = claim(pool, 13.5)
    pool.settle(trial, Outcome.OK, 14.0)
    assert told.take() == [BackendReturned("p", "a:1", "a trial request was answered", 14.0), PoolRecovered("p", 14.0)]
    assert not claim(pool, 14.0).trial
    assert a.usable


def test_two_leases_before_a_rebuild_are_one_trial():
    pool, _ = make_pool("a:1", "b:1", checked=False)
    a = pool.backends["a:1"]
    while (lease := claim(pool)).backend is not a:
        pool.settle(lease, Outcome.OK, 0.0)
    pool.settle(lease, Outcome.REFUSED, 0.0)
    trials = [lease for lease in (claim(pool, 1.0) for _ in range(10)) if lease.backend is a]
    assert len(trials) == 1


def counted(*texts: str, checked: bool = True):
    policy = CountingPolicy()
    pool = Pool("p", policy, PoolSettings(1, 1, checked=checked), random.Random(1), lambda event: None)
    pool.update(specs(*texts), 0.0)
    return pool, policy


def test_many_changes_between_two_picks_are_one_rebuild():
    pool, policy = counted("a:1", "b:1", "c:1")
    for backend in list(pool.backends.values()):
        pool.observe_probe(backend, False, "x", 0.0)
        pool.observe_probe(backend, True, "x", 0.0)
        pool.command(backend, AdminState.DRAIN, 0.0)
        pool.command(backend, AdminState.READY, 0.0)
    pool.update(specs("a:1,weight=2", "b:1", "d:1"), 0.0)
    pool.tick(0.0)
    assert policy.built == 0
    for _ in range(5):
        pool.settle(claim(pool), Outcome.OK, 0.0)
    assert policy.built == 1


def test_what_checks_and_traffic_say_rebuilds_nothing():
    """A hash that was built anew with each flap would move the keys of everybody."""
    pool, policy = counted("a:1", "b:1", checked=False)
    for now in range(10):
        for backend in pool.backends.values():
            pool.observe_probe(backend, bool(now % 2), "x", now)
            pool.command(backend, AdminState.READY, now)
        for outcome in Outcome:
            lease = pool.claim(ANY, now + 0.5)
            if isinstance(lease, Lease):
                pool.settle(lease, outcome, now + 0.5)
        pool.tick(now)
    pool.tick(1000.0)
    assert isinstance(pool.claim(ANY, 1000.0), Lease)
    assert policy.built == 1


@pytest.mark.parametrize(
    "change",
    [
        lambda pool: pool.update(specs("a:1", "b:1", "c:1"), 0.0),
        lambda pool: pool.update(specs("a:1", "b:1,weight=2"), 0.0),
        lambda pool: pool.command(pool.backends["a:1"], AdminState.MAINT, 0.0),
        lambda pool: pool.choose_by(CountingPolicy("rand")),
    ],
    ids=["members", "weight", "admin", "policy"],
)
def test_what_changes_the_members_or_the_policy_rebuilds_once(change):
    pool, policy = counted("a:1", "b:1")
    claim(pool)
    change(pool)
    for _ in range(3):
        claim(pool)
    built = policy.built - 1 if pool.policy is policy else pool.policy.built
    assert built == 1


def test_the_same_policy_again_changes_nothing():
    pool, policy = counted("a:1", "b:1")
    claim(pool)
    pool.choose_by(policy)
    claim(pool)
    assert policy.built == 1


def test_a_pool_where_nobody_is_ready_builds_nothing():
    pool, policy = counted("a:1")
    pool.command(pool.backends["a:1"], AdminState.MAINT, 0.0)
    for _ in range(3):
        assert pool.claim(ANY, 0.0) is Refusal.NO_BACKEND
    assert policy.built == 0


def lazy(*texts: str):
    policy = CountingPolicy(eager=False)
    pool = Pool("p", policy, PoolSettings(), random.Random(1), lambda event: None)
    pool.update(specs(*texts), 0.0)
    return pool, policy


def test_a_policy_that_takes_long_builds_in_a_claim_only_if_there_is_no_picker_yet():
    pool, policy = lazy("a:1", "b:1")
    assert names(pool, 4) == {"a:1", "b:1"}
    assert policy.built == 1


def test_a_policy_that_takes_long_follows_a_change_at_the_next_tick():
    pool, policy = lazy("a:1", "b:1")
    claim(pool)
    pool.update(specs("a:1", "b:1", "c:1"), 1.0)
    assert names(pool, 8) == {"a:1", "b:1"}
    assert policy.built == 1
    pool.tick(1.25)
    pool.tick(1.5)
    assert names(pool, 8) == {"a:1", "b:1", "c:1"}
    assert policy.built == 2


def test_until_then_nobody_goes_to_who_was_removed_or_taken_out():
    pool, _ = lazy("a:1", "b:1", "c:1")
    claim(pool)
    pool.update(specs("b:1", "c:1"), 1.0)
    pool.command(pool.backends["b:1"], AdminState.DRAIN, 1.0)
    assert names(pool, 8) == {"c:1"}


class Sensed(Load):
    """A measure that tells what it was told, and counts its leases in its notes."""

    def __init__(self, told):
        self.told = told

    def leased(self, weight, ask, now):
        self.told.append(("leased", weight, ask.cost, now))
        return len(self.told)

    def responded(self, note, elapsed_s, now):
        self.told.append(("responded", note, elapsed_s, now))

    def settled(self, note, outcome, elapsed_s, now):
        self.told.append(("settled", note, outcome, elapsed_s, now))


def test_a_load_is_told_of_each_lease_its_answer_and_its_end():
    told = []
    policy = CountingPolicy()
    policy.loads = lambda counts: Apart(counts, lambda *_: Sensed(told))
    pool = Pool("p", policy, PoolSettings(), random.Random(1), lambda event: None)
    pool.update(specs("a:1"), 0.0)
    lease = claim(pool, 1.0)
    pool.responded(lease, 1.5)
    pool.settle(lease, Outcome.CUT_SHORT, 4.0)
    assert told == [("leased", 1, 1, 1.0), ("responded", 1, 0.5, 1.5), ("settled", 1, Outcome.CUT_SHORT, 3.0, 4.0)]


def test_a_lease_tells_the_load_that_it_was_leased_under_whatever_the_policy_is_by_then():
    first, second = [], []
    one, other = CountingPolicy(), CountingPolicy()
    one.loads = lambda counts: Apart(counts, lambda *_: Sensed(first))
    other.loads = lambda counts: Apart(counts, lambda *_: Sensed(second))
    pool = Pool("p", CountingPolicy(), PoolSettings(), random.Random(1), lambda event: None)
    pool.update(specs("a:1"), 0.0)
    before = claim(pool, 1.0)  # of turns, which know no load
    pool.choose_by(one)
    lease = claim(pool, 2.0)
    pool.choose_by(other)
    pool.responded(lease, 3.0)
    pool.settle(before, Outcome.OK, 4.0)
    pool.settle(lease, Outcome.OK, 5.0)
    assert first == [("leased", 1, 1, 2.0), ("responded", 1, 1.0, 3.0), ("settled", 1, Outcome.OK, 3.0, 5.0)]
    assert second == []


def test_a_client_on_a_connection_of_its_own_is_a_load_too():
    told = []
    policy = CountingPolicy()
    policy.loads = lambda counts: Apart(counts, lambda *_: Sensed(told))
    pool = Pool("p", policy, PoolSettings(), random.Random(1), lambda event: None)
    pool.update(specs("a:1"), 0.0)
    lease = pool.claim_on(pool.backends["a:1"], Ask(cost=7), 1.0)
    assert isinstance(lease, Lease)
    pool.settle(lease, Outcome.OK, 2.0)
    assert told == [("leased", 1, 7, 1.0), ("settled", 1, Outcome.OK, 1.0, 2.0)]


@pytest.mark.parametrize("policy", ["rr", "rand"])
def test_turns_and_chance_look_at_no_load(policy):
    pool, _ = make_pool("a:1", policy=policy)
    lease = claim(pool)
    assert lease.backend.load is None
    pool.responded(lease, 0.0)
    pool.settle(lease, Outcome.OK, 0.0)


def test_another_policy_brings_its_own_load():
    pool, _ = counted("a:1")
    assert pool.backends["a:1"].load is None
    other = CountingPolicy()
    other.loads = lambda counts: Apart(counts, Requests)
    pool.choose_by(other)
    lease = claim(pool)
    assert lease.backend.load.value(1, 0.0) == 1
    pool.settle(lease, Outcome.OK, 0.0)
    assert lease.backend.load.value(1, 0.0) == 0


class Table(Counts):
    """As with workers: somebody else counts too, and is faster now and then."""

    def __init__(self):
        super().__init__()
        self.others = {}

    def elsewhere(self, slot):
        return self.others.get(slot, 0)


def test_who_was_filled_by_another_process_is_passed_over_and_seen_again_at_a_tick():
    table = Table()
    pool = Pool("p", POLICIES["rr"], PoolSettings(max_in_flight=2), random.Random(1), lambda event: None, table)
    pool.update(specs("a:1", "b:1"), 0.0)
    a, b = pool.backends.values()
    table.others[a.slot] = 2
    assert {claim(pool).backend for _ in range(2)} == {b}
    assert pool.claim(ANY, 0.0) is Refusal.ALL_FULL
    pool.tick(0.25)
    assert not a.available
    table.others[a.slot] = 1
    pool.tick(0.5)
    assert claim(pool, 0.5).backend is a
    assert not a.available


def test_the_shares_of_who_is_out_go_to_all_others():
    pool, _ = make_pool("a:1", "b:1", "c:1,weight=2", "d:1,weight=2")
    pool.observe_probe(pool.backends["d:1"], False, "x", 0.0)
    got = Counter(claim(pool).backend.name for _ in range(400))
    assert abs(got["a:1"] - 100) <= 1
    assert abs(got["b:1"] - 100) <= 1
    assert abs(got["c:1"] - 200) <= 1


def test_changes_between_two_requests_do_not_make_the_rotation_begin_again():
    """A rotation that began again at each change would give everything to the first few."""
    pool, _ = make_pool("a:1", "b:1", "c:1", "d:1")
    turns = [claim(pool).backend.name for _ in range(4)]
    got = []
    for _ in range(12):
        for weight in (2, 1):
            pool.update(specs("a:1", "b:1", "c:1", f"d:1,weight={weight}"), 0.0)
        got.append(claim(pool).backend.name)
    assert got == turns * 3
