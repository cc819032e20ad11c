"""Weighing and slow start: what a backend's weight is now, on its way back to all of it."""

import math
from collections import Counter

import pytest
from builders import claim, make_pool, specs

from twisted_lb.core.ask import ANY
from twisted_lb.core.backend import AdminState
from twisted_lb.core.decision import recalled
from twisted_lb.core.outcome import Outcome
from twisted_lb.core.pickers import POLICIES
from twisted_lb.core.settings import PoolSettings
from twisted_lb.core.weighing import AT_ONCE, SlowStart, Weighing

MINUTE = SlowStart(60.0)


@pytest.mark.parametrize(
    ("age_s", "window_s", "aggression", "part"),
    [(5, 60, 2, 0.2887), (6, 60, 2, 0.3162), (26, 60, 2, 0.6583), (9, 10, 1.5, 0.9322)],
)
def test_a_ramp_bends_as_envoys_does(age_s, window_s, aggression, part):
    """The formula of Envoy's `slow_start.rst`."""
    assert SlowStart(window_s, aggression).part(age_s) == pytest.approx(part, abs=5e-5)


def test_a_ramp_is_a_straight_line_from_its_floor_to_all_of_it():
    parts = [MINUTE.part(age_s) for age_s in (0, 3, 6, 15, 30, 59.4, 60, 100, math.inf)]
    assert parts == pytest.approx([0.1, 0.1, 0.1, 0.25, 0.5, 0.99, 1, 1, 1])
    assert SlowStart(60.0, floor=0.5).part(0) == 0.5


def test_the_least_age_is_a_millisecond():
    """Envoy's documentation says a second; its code has a millisecond. With a floor of next to nothing it shows."""
    assert SlowStart(1.0, floor=1e-9).part(0.0) == SlowStart(1.0, floor=1e-9).part(0.001) == pytest.approx(0.001)


def test_without_a_window_there_is_no_ramp():
    assert AT_ONCE.part(0.0) == 1.0
    one = Weighing(3)
    assert not one.begin(7.0, AT_ONCE)
    assert (one.ramping, one.effective) == (False, 3.0)


def test_the_weight_now_is_what_is_configured_times_what_the_agent_says_times_slow_start():
    one = Weighing(8)
    one.say(0.5)
    assert (one.steady, one.effective) == (4.0, 4.0)
    assert one.begin(0.0, MINUTE)
    assert one.follow(15.0, MINUTE)
    assert (one.configured, one.steady, one.effective) == (8, 4.0, 1.0)
    one.configure(16)
    assert (one.steady, one.effective) == (8.0, 2.0)
    assert not one.follow(15.0, MINUTE)
    assert (one.ramping, one.left_s(15.0, MINUTE)) == (True, 45.0)
    assert one.follow(60.0, MINUTE)
    assert (one.ramping, one.effective, one.left_s(60.0, MINUTE)) == (False, 8.0, 0.0)


# In a pool.


def slow(*texts, policy="rr", window_s=60.0, **settings):
    pool, told = make_pool(*texts, policy=policy, slow_start=SlowStart(window_s), **settings)
    return pool, told


def parts(pool):
    return [round(one.weighing.part, 4) for one in pool.backends.values()]


def fall_and_return(pool, name, now):
    backend = pool.backends[name]
    for _ in range(3):
        pool.observe_probe(backend, False, "x", now)
    assert not backend.usable
    for _ in range(2):
        pool.observe_probe(backend, True, "x", now)
    assert backend.usable


def test_nobody_starts_slowly_at_the_start_of_the_process():
    pool, _ = slow("a:1", "b:1", "c:1")
    for backend in pool.backends.values():
        pool.observe_probe(backend, True, "x", 0.0)
    assert parts(pool) == [1, 1, 1]


def test_nobody_starts_slowly_after_the_first_checks_of_a_pool_that_waits_for_them():
    pool, _ = slow("a:1", "b:1", "c:1", initially_up=False)
    for at, backend in enumerate(pool.backends.values()):
        pool.observe_probe(backend, True, "x", float(at))
        assert backend.usable
    assert parts(pool) == [1, 1, 1]


def test_whoever_was_down_starts_slowly_and_has_all_of_it_after_the_window():
    pool, _ = slow("a:1", "b:1", "c:1")
    fall_and_return(pool, "b:1", 100.0)
    found = []
    for now in (100.0, 106.0, 115.0, 130.0, 159.0, 160.0):
        pool.tick(now)
        found.append(pool.backends["b:1"].weighing.effective)
    assert found == pytest.approx([0.1, 0.1, 0.25, 0.5, 59 / 60, 1.0])


def test_whoever_fails_its_first_check_is_down_and_comes_back_slowly():
    pool, _ = slow("a:1", "b:1", "c:1", initially_up=False)
    for name, passed in (("a:1", True), ("b:1", True), ("c:1", False)):
        pool.observe_probe(pool.backends[name], passed, "x", 0.0)
    for _ in range(2):
        pool.observe_probe(pool.backends["c:1"], True, "x", 50.0)
    assert parts(pool) == [1, 1, 0.1]


def ejected(pool):
    lease = claim(pool, 10.0)
    pool.settle(lease, Outcome.REFUSED, 10.0)
    return lease.backend


def test_whoever_was_ejected_starts_slowly():
    pool, _ = slow("a:1", "b:1", "c:1", checked=False)
    backend = ejected(pool)
    pool.tick(20.0)
    while not backend.usable:
        pool.settle(claim(pool, 20.0), Outcome.OK, 20.0)
    assert sorted(parts(pool)) == [0.1, 1, 1]
    assert backend.weighing.part == 0.1


@pytest.mark.parametrize("admin", [AdminState.MAINT, AdminState.DRAIN])
def test_whoever_was_out_for_its_operator_starts_slowly(admin):
    pool, _ = slow("a:1", "b:1", "c:1")
    pool.command(pool.backends["c:1"], admin, 10.0)
    pool.command(pool.backends["c:1"], AdminState.READY, 500.0)
    assert parts(pool) == [1, 1, 0.1]


def test_whoever_had_no_weight_starts_slowly_and_who_has_more_of_it_does_not():
    pool, _ = slow("a:1", "b:1", "c:1,weight=0")
    pool.update(specs("a:1", "b:1,weight=7", "c:1,weight=2"), 10.0)
    assert parts(pool) == [1, 1, 0.1]
    assert pool.backends["c:1"].weighing.effective == pytest.approx(0.2)


def test_whoever_is_added_or_replaced_by_another_server_starts_slowly():
    pool, _ = slow("a:1", "b:1", "c:1", "d:1")
    pool.update(specs("a:1", "b:1", "c:1", "d:1", "e:1"), 10.0)
    assert parts(pool) == [1, 1, 1, 1, 0.1]
    moved = [
        one if one.name != "b:1" else type(one)("b:1", specs("z:1")[0].address)
        for one in specs("a:1", "b:1", "c:1", "d:1")
    ]
    pool.update(moved, 100.0)
    assert parts(pool) == [1, 0.1, 1, 1]


def test_whoever_is_added_comes_to_its_weight_though_another_one_loses_its_own_with_the_same_change():
    pool, _ = slow("a:1,weight=8", "c:1")
    pool.update(specs("a:1,weight=8", "b:1", "c:1,weight=0"), 10.0)
    assert parts(pool) == [1, 0.1, 1]
    pool.tick(70.0)
    assert parts(pool) == [1, 1, 1]


def test_whoever_is_added_and_waits_for_its_first_check_starts_slowly_with_that():
    pool, _ = slow("a:1", "b:1", initially_up=False)
    for backend in pool.backends.values():
        pool.observe_probe(backend, True, "x", 0.0)
    pool.update(specs("a:1", "b:1", "c:1"), 10.0)
    pool.observe_probe(pool.backends["c:1"], True, "x", 12.0)
    assert parts(pool) == [1, 1, 0.1]


def test_where_fewer_than_half_of_the_usable_weight_is_warm_nobody_is_slowed():
    """To spare some would burden others that are as cold."""
    pool, _ = slow("a:1", "b:1", "c:1", "d:1")
    for name in ("a:1", "b:1"):
        pool.command(pool.backends[name], AdminState.MAINT, 0.0)
        pool.command(pool.backends[name], AdminState.READY, 1.0)
    assert parts(pool) == [0.1, 0.1, 1, 1], "two of four are half"
    pool.command(pool.backends["d:1"], AdminState.MAINT, 2.0)
    assert parts(pool)[:3] == [1, 1, 1], "one of three is not"


def test_that_half_is_of_weight_and_not_of_heads():
    pool, _ = slow("a:1,weight=3", "b:1", "c:1")
    fall_and_return(pool, "a:1", 0.0)
    assert parts(pool) == [1, 1, 1]
    fall_and_return(pool, "b:1", 1.0)
    fall_and_return(pool, "c:1", 1.0)
    assert parts(pool) == [1, 0.1, 0.1]


def test_a_ramp_ends_when_whoever_was_warm_goes():
    pool, _ = slow("a:1", "b:1", "c:1")
    fall_and_return(pool, "a:1", 0.0)
    assert parts(pool) == [0.1, 1, 1]
    pool.command(pool.backends["b:1"], AdminState.MAINT, 1.0)
    assert parts(pool) == [0.1, 1, 1], "one of two is half"
    pool.command(pool.backends["c:1"], AdminState.MAINT, 1.0)
    assert pool.backends["a:1"].weighing.part == 1.0


def test_the_only_backend_is_never_slow():
    pool, _ = slow("a:1")
    fall_and_return(pool, "a:1", 5.0)
    assert parts(pool) == [1]


def test_a_shorter_window_holds_for_ramps_that_have_begun():
    pool, _ = slow("a:1", "b:1", "c:1")
    fall_and_return(pool, "a:1", 0.0)
    pool.configure(PoolSettings(slow_start=AT_ONCE), 1.0)
    assert parts(pool) == [1, 1, 1]


def run(pool, count, now=0.0):
    found = Counter()
    for _ in range(count):
        lease = claim(pool, now)
        pool.responded(lease, now + 0.01)
        pool.settle(lease, Outcome.OK, now + 0.01)
        found[lease.backend.name] += 1
    return found


def cold_pool(policy, now=15.0):
    pool, _ = slow("a:1", "b:1", "c:1", "d:1", policy=policy)
    run(pool, 400)  # so that latencies are known
    fall_and_return(pool, "a:1", 0.0)
    pool.tick(now)
    return pool


@pytest.mark.parametrize("policy", sorted(POLICIES.keys() - {"first", "ring", "maglev", "rendezvous"}))
def test_no_policy_by_weight_or_load_gives_a_cold_backend_more_than_its_weight_is_worth(policy):
    """A quarter of its weight, among three others: 0.25 of 3.25. Binomial: five standard deviations."""
    pool, count, share = cold_pool(policy), 2000, 0.25 / 3.25
    found = run(pool, count, 15.0)["a:1"]
    assert 0 < found <= count * share + 5 * math.sqrt(count * share * (1 - share)) + 1


@pytest.mark.parametrize("policy", ["rr", "rand", "least", "p2c"])
def test_shares_follow_the_effective_weights_where_nothing_but_weight_decides(policy):
    pool, count, share = cold_pool(policy), 3250, 0.25 / 3.25
    within = 1 if policy == "rr" else 5 * math.sqrt(count * share * (1 - share))
    assert abs(run(pool, count, 15.0)["a:1"] - count * share) <= within


@pytest.mark.parametrize("policy", ["least", "p2c"])
def test_a_cold_backend_with_nothing_in_flight_does_not_attract_everything(policy):
    """Least requests without weights would give it the next 40 (thundering herd on join)."""
    pool, _ = slow("a:1", "b:1", "c:1", "d:1", policy=policy)
    for _ in range(160):
        claim(pool)
    for lease_of_a in [one for one in [pool.backends["a:1"]] for _ in range(one.in_flight)]:
        pool.counts.release(lease_of_a.slot)
    fall_and_return(pool, "a:1", 0.0)
    found = Counter(claim(pool, 0.0).backend.name for _ in range(20))
    assert found["a:1"] <= 5, "a tenth of 40 each, and one"


def test_turns_are_smooth_on_the_way_and_nobody_begins_anew():
    """With a quarter: in 13 turns one for the cold one and four for each other, and after the ramp plain turns again."""
    pool, _ = slow("a:1", "b:1", "c:1", "d:1")
    fall_and_return(pool, "a:1", 0.0)
    pool.tick(15.0)
    for _ in range(3):
        assert run(pool, 13, 15.0) == {"a:1": 1, "b:1": 4, "c:1": 4, "d:1": 4}
        pool.tick(15.0)
    pool.tick(60.0)
    assert run(pool, 4, 60.0) == {"a:1": 1, "b:1": 1, "c:1": 1, "d:1": 1}
    picker = pool._selection.picker
    assert type(picker).__name__ == "Rotation", "equal weights are on the cheap path again"


def test_over_a_whole_ramp_four_rebuilds_a_second_lose_no_turn():
    """The weight of the ramp is an integral: from 0.1 for 6 s on to 1 at 60 s it is 0.1 * 6 + (1 - 0.01) / 2 * 60 = 30.3 of 60; with
    ten requests a tick it is in the shares of those ticks.
    """
    pool, _ = slow("a:1", "b:1")
    fall_and_return(pool, "a:1", 0.0)
    expected, found = 0.0, 0
    for tick in range(240):
        now = tick / 4
        pool.tick(now)
        part = pool.backends["a:1"].weighing.part
        expected += 10 * part / (1 + part)
        found += run(pool, 10, now)["a:1"]
    assert abs(found - expected) < 2


def test_the_limit_of_requests_in_flight_ramps_too():
    """As HAProxy's does: a backend that bounds itself would be full at once."""
    pool, _ = slow("a:1", "b:1", "c:1", max_in_flight=25)
    fall_and_return(pool, "a:1", 0.0)
    limits = []
    for now in (0.0, 30.0, 60.0):
        pool.tick(now)
        limits.append(pool.backends["a:1"].limit)
    assert limits == [3, 13, 25]
    assert {one.most for one in pool.backends.values()} == {25}


def test_an_explanation_says_what_the_weight_was():
    pool, _ = slow("a:1,weight=4", "b:1,weight=4", "c:1,weight=4")
    fall_and_return(pool, "a:1", 0.0)
    pool.tick(15.0)
    lease = claim(pool, 15.0)
    for told in (pool.explain(ANY, 15.0), recalled(lease)):
        found = {one.backend_name: (one.weight, one.weight_effective) for one in told.candidates}
        assert found == {"a:1": (4, 1.0), "b:1": (4, 4.0), "c:1": (4, 4.0)}


def test_an_agent_that_wants_nothing_is_as_a_weight_of_0():
    pool, _ = make_pool("a:1", "b:1")
    backend = pool.backends["a:1"]
    pool.hear_weight(backend, 0.0, 1.0, "its agent")
    assert (backend.wanted, backend.usable) == (False, False)
    assert set(run(pool, 6, 1.0)) == {"b:1"}
    [told] = [one for one in pool.explain(ANY, 1.0).candidates if one.backend_name == "a:1"]
    assert (told.weight, told.weight_effective, told.reason) == (1, 0.0, "its agent")
    pool.hear_weight(backend, 0.5, 2.0, "its agent")
    assert run(pool, 6, 2.0) == {"a:1": 2, "b:1": 4}
