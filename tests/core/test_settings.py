"""What a pool is configured to do is read at use, so that other settings hold at once."""

from dataclasses import replace

import pytest
from builders import claim, make_pool, names

from twisted_lb.core.ask import ANY
from twisted_lb.core.backend import BackendSpec
from twisted_lb.core.events import BackendDown, BackendEjected, BackendReturned, BackendUp, PoolExhausted, PoolRecovered
from twisted_lb.core.outcome import Outcome, Refusal
from twisted_lb.core.settings import PoolSettings


def change(pool, now=0.0, **settings):
    pool.configure(replace(pool.settings, **settings), now)


@pytest.mark.parametrize(
    ("name", "default"),
    [
        ("rise", 2),
        ("fall", 3),
        ("checked", True),
        ("initially_up", True),
        ("max_in_flight", 0),
        ("max_queued", 0),
        ("queue_timeout_s", 0.0),
        ("no_backend_s", 0.0),
        ("budget_percent", 20),
        ("budget_per_s", 10),
    ],
)
def test_a_setting_has_its_default_and_survives(name, default):
    assert getattr(PoolSettings(), name) == default
    pool, _ = make_pool("a:1")
    change(pool, **{name: type(default)(7)})
    assert getattr(pool.settings, name) == type(default)(7)


def test_another_fall_and_rise_count_for_the_next_check():
    pool, told = make_pool("a:1")
    a = pool.backends["a:1"]
    pool.observe_probe(a, True, "ok", 0.0)
    pool.observe_probe(a, False, "no", 0.0)
    change(pool, fall=2, rise=1)
    pool.observe_probe(a, False, "no", 1.0)
    pool.observe_probe(a, True, "ok", 2.0)
    assert [type(event) for event in told] == [BackendDown, PoolExhausted, BackendUp, PoolRecovered]


def test_another_rise_counts_for_an_ejection_that_is_there_already():
    pool, told = make_pool("a:1", "b:1")
    lease = claim(pool)
    pool.settle(lease, Outcome.REFUSED, 0.0)
    told.clear()
    change(pool, rise=1)
    pool.observe_probe(lease.backend, True, "ok", 1.0)
    assert told == [BackendReturned("p", lease.backend.name, "checks pass", 1.0)]


def test_without_checks_what_they_said_is_forgotten():
    pool, told = make_pool("a:1")
    pool.observe_probe(pool.backends["a:1"], False, "no", 0.0)
    told.clear()
    change(pool, 1.0, checked=False)
    assert told == [BackendUp("p", "a:1", "nobody checks any more", 1.0), PoolRecovered("p", 1.0)]
    assert names(pool, 2, 1.0) == {"a:1"}


def test_without_checks_who_is_ejected_gets_a_trial_after_its_rest():
    pool, _ = make_pool("a:1")
    pool.settle(claim(pool), Outcome.REFUSED, 0.0)
    change(pool, 50.0, checked=False)
    assert pool.claim(ANY, 50.9) is Refusal.NO_BACKEND
    assert claim(pool, 51.0).trial


def test_with_checks_who_is_ejected_waits_for_them():
    pool, told = make_pool("a:1", checked=False)
    pool.settle(claim(pool), Outcome.REFUSED, 0.0)
    change(pool, 0.5, checked=True)
    assert pool.claim(ANY, 100.0) is Refusal.NO_BACKEND
    told.clear()
    pool.observe_probe(pool.backends["a:1"], True, "ok", 101.0)
    assert told == [BackendReturned("p", "a:1", "checks pass", 101.0), PoolRecovered("p", 101.0)]


def test_a_trial_that_is_under_way_when_checks_begin_ends_as_it_would():
    pool, told = make_pool("a:1", checked=False)
    pool.settle(claim(pool), Outcome.REFUSED, 0.0)
    trial = claim(pool, 1.0)
    change(pool, 1.5, checked=True)
    told.clear()
    pool.settle(trial, Outcome.REFUSED, 2.0, "no")
    assert told == [BackendEjected("p", "a:1", Outcome.REFUSED, "no", None, True, 2.0)]
    assert pool.claim(ANY, 100.0) is Refusal.NO_BACKEND


def test_other_settings_of_the_budget_hold_at_once():
    pool, _ = make_pool("a:1")
    change(pool, budget_percent=0, budget_per_s=1)
    assert sum(pool.budget.withdraw(1.0) for _ in range(30)) == 10


def test_the_same_settings_again_change_nothing():
    pool, told = make_pool("a:1")
    pool.observe_probe(pool.backends["a:1"], False, "no", 0.0)
    told.clear()
    change(pool)
    assert told == []
    assert not pool.backends["a:1"].usable


def test_nobody_gets_more_at_a_time_than_the_bound_and_others_get_the_rest():
    pool, _ = make_pool("a:1,weight=9", "b:1", max_in_flight=2)
    leases = [claim(pool) for _ in range(4)]
    assert [backend.in_flight for backend in pool.backends.values()] == [2, 2]
    assert pool.claim(ANY, 0.0) is Refusal.ALL_FULL
    pool.settle(leases[0], Outcome.OK, 0.0)
    assert claim(pool).backend is leases[0].backend


def limited(pool, now=0.0, **limits):
    """Give backends limits of their own, None for that of the pool."""
    found = [BackendSpec(one.name, one.address, one.weight, limit=one.own_limit) for one in pool.backends.values()]
    pool.update([replace(one, limit=limits.get(one.name[0], one.limit)) for one in found], now)


def test_a_limit_of_its_own_that_is_its_pool_s_is_no_news():
    pool, told = make_pool("a:1", "b:1", max_in_flight=2)
    limited(pool, a=2)
    assert told == []
    assert [one.own_limit for one in pool.backends.values()] == [2, None]


def test_a_limit_of_its_own_wins_over_that_of_the_pool_in_both_directions():
    pool, told = make_pool("a:1", "b:1", "c:1", max_in_flight=2)
    limited(pool, a=1, b=3)
    assert [str(event) for event in told] == ["p/a:1 has changed: limit 2 -> 1", "p/b:1 has changed: limit 2 -> 3"]
    for _ in range(6):
        claim(pool)
    assert pool.claim(ANY, 0.0) is Refusal.ALL_FULL
    assert [one.in_flight for one in pool.backends.values()] == [1, 3, 2]
    limited(pool, a=None, b=0)
    assert [one.limit for one in pool.backends.values()] == [2, 0, 2]
    claim(pool, tried=(pool.backends["b:1"],))
    assert {claim(pool).backend.name for _ in range(5)} == {"b:1"}


def test_who_is_limited_costs_the_others_nothing():
    pool, _ = make_pool("a:1", "b:1")
    limited(pool, a=1)
    assert [claim(pool).backend.name for _ in range(4)].count("b:1") == 3
    assert [one.full for one in pool.backends.values()] == [True, False]


def test_a_limit_below_what_is_in_flight_cuts_nobody_and_lets_nobody_in_before_there_is_room():
    pool, _ = make_pool("a:1")
    leases = [claim(pool) for _ in range(3)]
    limited(pool, a=2)
    assert pool.backends["a:1"].in_flight == 3
    for lease in leases[:2]:
        assert pool.claim(ANY, 0.0) is Refusal.ALL_FULL
        pool.settle(lease, Outcome.OK, 0.0)
    claim(pool)
    assert pool.claim(ANY, 0.0) is Refusal.ALL_FULL


def test_a_higher_limit_lets_in_who_waits():
    pool, _ = make_pool("a:1", max_queued=3, queue_timeout_s=5.0, no_backend_s=5.0)
    limited(pool, a=1)
    claim(pool)
    tickets = [pool.claim(ANY, 0.0) for _ in range(2)]
    limited(pool, a=2)
    assert [ticket for ticket, _ in pool.grants(0.0)] == tickets[:1]
    limited(pool, a=0)
    assert [ticket for ticket, _ in pool.grants(0.0)] == tickets[1:]


def test_whoever_comes_back_has_the_limit_of_its_new_spec():
    pool, _ = make_pool("a:1", "b:1")
    limited(pool, a=1)
    a, b = pool.backends.values()
    pool.update([BackendSpec(b.name, b.address)], 0.0)
    pool.update([BackendSpec(b.name, b.address), BackendSpec(a.name, a.address, limit=2)], 0.0)
    assert [one.limit for one in pool.backends.values()] == [0, 2]
    assert pool.counts.bounded
    limited(pool, a=0)
    assert not pool.counts.bounded


def test_another_bound_holds_for_the_next_requests():
    pool, _ = make_pool("a:1", max_in_flight=1)
    leases = [claim(pool)]
    change(pool, max_in_flight=3)
    leases += [claim(pool), claim(pool)]
    change(pool, max_in_flight=2)
    pool.settle(leases.pop(), Outcome.OK, 0.0)
    assert pool.claim(ANY, 0.0) is Refusal.ALL_FULL
    pool.settle(leases.pop(), Outcome.OK, 0.0)
    assert claim(pool)
