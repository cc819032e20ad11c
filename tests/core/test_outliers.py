"""Whom traffic takes out because it serves badly: failures in a row of several clients, rates beside the others'."""

import random
from statistics import mean, pstdev

import pytest
from builders import claim, make_pool, specs

from twisted_lb.core.ask import ANY
from twisted_lb.core.backend import AdminState
from twisted_lb.core.ejection import JITTER, Ejection, EjectionRule
from twisted_lb.core.events import BackendEjected, BackendReturned, EjectionWithheld, PoolExhausted
from twisted_lb.core.outcome import CONSEQUENCE, Blame, Outcome
from twisted_lb.core.outliers import least_success_rate
from twisted_lb.core.settings import EjectionRules, PoolSettings
from twisted_lb.core.standing import Skipped
from twisted_lb.core.streak import MOST_CLIENTS, Streak
from twisted_lb.core.window import STEPS, Window

ROW = EjectionRules(consecutive_failures=5)
RATE = EjectionRules(success_rate_factor=1.9)
PERCENT = EjectionRules(failure_percent=85)
IN_A_ROW = [
    Outcome.BAD_STATUS,
    Outcome.CONNECT_TIMEOUT,
    Outcome.NO_RESPONSE,
    Outcome.BAD_RESPONSE,
    Outcome.TIMED_OUT,
]
SAYS_NOTHING = [one for one in Outcome if one not in (*IN_A_ROW, Outcome.OK, Outcome.REFUSED)]
FIVE = "a:1", "b:1", "c:1", "d:1", "e:1"


class NoChance(random.Random):
    """Adds nothing to how long somebody rests."""

    def random(self) -> float:
        return 0.0


def pool_of(*texts, rules=ROW, checked=False, chance=None, **settings):
    return make_pool(*texts, checked=checked, chance=chance or NoChance(), ejection=rules, **settings)


def lease_on(pool, name, now):
    """A lease on this backend and no other one."""
    others = tuple(one for one in pool.backends.values() if one.name != name)
    return claim(pool, now, others)


def fail(pool, name, *outcomes, now=0.0, clients=("x", "y")):
    """Attempts at a backend end so, one after the other, of these clients in turn."""
    for number, outcome in enumerate(outcomes):
        pool.settle(lease_on(pool, name, now), outcome, now, "", clients[number % len(clients)])


def serve(pool, name, good, bad, now=0.0):
    """So many requests go well, and so many not, good and bad ones mixed evenly."""
    total = good + bad
    for number in range(total):
        ends_badly = (number + 1) * bad // total > number * bad // total
        fail(pool, name, Outcome.NO_RESPONSE if ends_badly else Outcome.OK, now=now)


def ejected(pool):
    return [name for name, backend in pool.backends.items() if backend.ejection.active]


# Failures in a row.


@pytest.mark.parametrize("outcome", IN_A_ROW, ids=lambda outcome: outcome.name)
def test_five_failures_in_a_row_of_two_clients_eject(outcome):
    pool, told = pool_of("a:1", "b:1")
    fail(pool, "a:1", *[outcome] * 4)
    assert told == []
    fail(pool, "a:1", outcome, now=3.0)
    because = f"5 failures in a row of 2 clients: 5 {outcome.name}"
    assert told == [BackendEjected("p", "a:1", outcome, because, 13.0, False, 3.0, EjectionRule.CONSECUTIVE_FAILURES)]
    assert str(told[0]) == f"p/a:1 is ejected for 10 s: {because}"
    assert not pool.backends["a:1"].usable
    assert pool.backends["a:1"].standing.why is Skipped.EJECTED
    assert pool.backends["a:1"].standing.reason == because
    assert pool.backends["a:1"].standing.until == 13.0


def test_the_reason_says_which_outcomes_the_most_frequent_first():
    pool, told = pool_of("a:1", "b:1")
    fail(
        pool,
        "a:1",
        Outcome.NO_RESPONSE,
        *[Outcome.TIMED_OUT] * 3,
        Outcome.BAD_RESPONSE,
        clients=("x", "y", "z"),
    )
    assert told[0].because == "5 failures in a row of 3 clients: 3 TIMED_OUT, 1 NO_RESPONSE, 1 BAD_RESPONSE"


def test_one_client_takes_nobody_out_however_often_it_tries():
    """The query of death."""
    pool, told = pool_of("a:1", "b:1")
    fail(pool, "a:1", *[Outcome.NO_RESPONSE] * 1000, clients=("x",))
    assert told == []
    assert pool.backends["a:1"].failing == "1000 failures in a row of 1 client: 1000 NO_RESPONSE"
    fail(pool, "a:1", Outcome.TIMED_OUT, clients=("y",))
    assert told[0].because == "1001 failures in a row of 2 clients: 1000 NO_RESPONSE, 1 TIMED_OUT"


def test_how_many_clients_and_failures_is_configured():
    pool, told = pool_of("a:1", "b:1", rules=EjectionRules(consecutive_failures=2, min_clients=1))
    fail(pool, "a:1", Outcome.NO_RESPONSE, clients=("x",))
    assert told == []
    fail(pool, "a:1", Outcome.NO_RESPONSE, clients=("x",))
    assert ejected(pool) == ["a:1"]
    pool, told = pool_of("a:1", "b:1", rules=EjectionRules(consecutive_failures=2, min_clients=3))
    fail(pool, "a:1", *[Outcome.NO_RESPONSE] * 50)
    assert told == []
    fail(pool, "a:1", Outcome.NO_RESPONSE, clients=("z",))
    assert ejected(pool) == ["a:1"]


def test_a_success_in_between_begins_anew():
    pool, told = pool_of("a:1", "b:1")
    for _ in range(20):
        fail(pool, "a:1", *[Outcome.NO_RESPONSE] * 4, Outcome.OK)
        assert pool.backends["a:1"].streak is None
    assert told == []
    # Whose failures came before the success is forgotten too.
    fail(pool, "a:1", Outcome.NO_RESPONSE, Outcome.OK, clients=("y",))
    fail(pool, "a:1", *[Outcome.NO_RESPONSE] * 9, clients=("x",))
    assert told == []


@pytest.mark.parametrize("outcome", SAYS_NOTHING, ids=lambda outcome: outcome.name)
def test_what_says_nothing_neither_counts_nor_begins_anew(outcome):
    pool, told = pool_of("a:1", "b:1")
    fail(pool, "a:1", *[outcome] * 100)
    assert told == []
    assert pool.backends["a:1"].streak is None
    fail(pool, "a:1", *[Outcome.NO_RESPONSE, outcome] * 4, clients=("x", "x", "y", "y"))
    assert told == []
    fail(pool, "a:1", Outcome.NO_RESPONSE)
    assert ejected(pool) == ["a:1"]


def test_the_table_says_what_counts_and_all_of_it_is_blamed():
    assert [one for one in Outcome if CONSEQUENCE[one].in_a_row] == sorted(IN_A_ROW)
    assert all(CONSEQUENCE[one].blame is Blame.FAILURE for one in IN_A_ROW)


def test_a_refused_connection_ejects_as_ever_and_forgets_the_failures_before():
    pool, told = pool_of("a:1", "b:1")
    fail(pool, "a:1", *[Outcome.NO_RESPONSE] * 4)
    pool.settle(lease_on(pool, "a:1", 1.0), Outcome.REFUSED, 1.0, "no", "x")
    assert told == [BackendEjected("p", "a:1", Outcome.REFUSED, "no", 2.0, False, 1.0, EjectionRule.REFUSED)]
    assert pool.backends["a:1"].streak is None


def test_attempts_at_two_backends_count_at_each_once():
    """A retry."""
    pool, _ = pool_of("a:1", "b:1", "c:1")
    fail(pool, "a:1", Outcome.NO_RESPONSE)
    fail(pool, "b:1", Outcome.NO_RESPONSE)
    assert [backend.streak and backend.streak.failures for backend in pool.backends.values()] == [1, 1, None]


def test_what_was_under_way_at_an_ejection_changes_nothing_and_nor_does_it_after_the_return():
    pool, told = pool_of("a:1", "b:1")
    late = [lease_on(pool, "a:1", 0.0) for _ in range(20)]
    fail(pool, "a:1", *[Outcome.NO_RESPONSE] * 5)
    told.clear()
    for lease in late[:10]:
        pool.settle(lease, Outcome.NO_RESPONSE, 1.0, "", "z")
    pool.settle(lease_on(pool, "a:1", 10.0), Outcome.OK, 10.0)
    assert [type(one) for one in told] == [BackendReturned]
    for lease in late[10:]:
        pool.settle(lease, Outcome.TIMED_OUT, 11.0, "", "z")
    assert [type(one) for one in told] == [BackendReturned]
    assert pool.backends["a:1"].streak is None


def test_by_default_of_the_core_nobody_is_ejected():
    pool, told = make_pool("a:1", "b:1")
    fail(pool, "a:1", *[Outcome.NO_RESPONSE] * 1000)
    assert told == []
    assert pool.backends["a:1"].streak is None


def test_a_streak_knows_a_bounded_number_of_clients():
    streak = Streak()
    streak.add(Outcome.TIMED_OUT, "x")
    assert str(streak) == "1 failure of 1 client: 1 TIMED_OUT"
    for number in range(10_000):
        streak.add(Outcome.TIMED_OUT, str(number))
    assert streak.clients == MOST_CLIENTS
    assert str(streak) == "10001 failures in a row of 100 clients or more: 10001 TIMED_OUT"
    assert repr(streak) == f"<Streak {streak}>"
    assert dict(streak.outcomes) == {Outcome.TIMED_OUT: 10_001}


# How many may be out.


@pytest.mark.parametrize(
    ("members", "most", "out"),
    [(1, 50, 0), (2, 50, 1), (3, 50, 1), (4, 50, 2), (5, 50, 2), (9, 50, 4), (10, 50, 5), (10, 10, 1), (9, 10, 0), (4, 100, 3),
     (4, 0, 0), (7, 99, 6)],
)  # fmt: skip
def test_in_an_outage_of_all_no_more_than_the_share_goes_and_never_the_last_one(members, most, out):
    rules = EjectionRules(consecutive_failures=5, max_percent=most)
    pool, told = pool_of(*[f"a{n}:1" for n in range(members)], rules=rules)
    for _ in range(20):
        for name in list(pool.backends):
            if pool.backends[name].usable:
                fail(pool, name, *[Outcome.NO_RESPONSE] * 5)
    assert len(ejected(pool)) == out
    assert [type(one) for one in told].count(BackendEjected) == out
    assert not any(isinstance(one, PoolExhausted) for one in told)
    # Each of the others was told of once.
    assert [type(one) for one in told].count(EjectionWithheld) == members - out


def test_who_stays_in_is_told_once_with_the_reason_until_it_is_well():
    pool, told = pool_of("a:1", "b:1")
    fail(pool, "a:1", *[Outcome.NO_RESPONSE] * 5)
    told.clear()
    fail(pool, "b:1", *[Outcome.TIMED_OUT] * 50, now=1.0)
    because = "5 failures in a row of 2 clients: 5 TIMED_OUT"
    instead = "1 of 2 may be out by traffic, and 1 are"
    rule = EjectionRule.CONSECUTIVE_FAILURES
    assert told == [EjectionWithheld("p", "b:1", rule, because, instead, 1.0)]
    assert str(told[0]) == f"p/b:1 is not ejected, since {instead}: {because}"
    assert pool.backends["b:1"].withheld
    assert pool.backends["b:1"].failing.startswith("50 failures in a row")
    fail(pool, "b:1", Outcome.OK, now=2.0)
    assert not pool.backends["b:1"].withheld
    fail(pool, "b:1", *[Outcome.TIMED_OUT] * 5, now=3.0)
    assert len(told) == 2


def test_who_stayed_in_goes_when_others_are_back_and_it_fails_still():
    pool, told = pool_of("a:1", "b:1")
    fail(pool, "a:1", *[Outcome.NO_RESPONSE] * 5)
    fail(pool, "b:1", *[Outcome.TIMED_OUT] * 7, now=1.0)
    assert ejected(pool) == ["a:1"]
    pool.settle(lease_on(pool, "a:1", 10.0), Outcome.OK, 10.0)
    fail(pool, "b:1", Outcome.TIMED_OUT, now=11.0)
    assert ejected(pool) == ["b:1"]
    assert told[-1].because == "8 failures in a row of 2 clients: 8 TIMED_OUT"


def test_the_last_usable_one_stays_though_its_share_may_go():
    pool, told = pool_of("a:1", "b:1", "c:1", "d:1", checked=True)
    for name in ("b:1", "c:1", "d:1"):
        pool.observe_probe(pool.backends[name], False, "no", 0.0)
    told.clear()
    fail(pool, "a:1", *[Outcome.NO_RESPONSE] * 5)
    assert [(type(one), one.instead) for one in told] == [(EjectionWithheld, "nobody else is usable")]
    assert pool.backends["a:1"].usable


def test_those_that_were_refused_count_and_go_whatever_the_share():
    pool, _ = pool_of("a:1", "b:1", "c:1", "d:1", checked=True)
    for name in ("a:1", "b:1"):
        pool.settle(lease_on(pool, name, 0.0), Outcome.REFUSED, 0.0)
    fail(pool, "c:1", *[Outcome.NO_RESPONSE] * 50)
    assert ejected(pool) == ["a:1", "b:1"]
    pool.settle(lease_on(pool, "c:1", 1.0), Outcome.REFUSED, 1.0)
    pool.settle(lease_on(pool, "d:1", 1.0), Outcome.REFUSED, 1.0)
    assert ejected(pool) == ["a:1", "b:1", "c:1", "d:1"]


def test_whom_the_operator_does_not_want_is_not_in_the_share():
    pool, _ = pool_of("a:1", "b:1", "c:1", "d:1")
    for name in ("c:1", "d:1"):
        pool.command(pool.backends[name], AdminState.MAINT, 0.0)
    fail(pool, "a:1", *[Outcome.NO_RESPONSE] * 5)
    fail(pool, "b:1", *[Outcome.NO_RESPONSE] * 5)
    assert ejected(pool) == ["a:1"]


# For how long, and who brings it back.


def test_it_rests_ten_seconds_for_each_time_and_300_at_most():
    """10 s x n, to 300 s: Envoy's base time x multiplier, bounded, with other numbers."""
    ejection, now, rests = Ejection(), 0.0, []
    for _ in range(33):
        assert ejection.rest(EjectionRule.CONSECUTIVE_FAILURES, now, 10.0, 300.0, 0.0)
        rests.append(ejection.until - now)
        now = ejection.until
        ejection.wake()
        ejection.begin_trial(now)
    assert rests == [10.0 * n for n in range(1, 31)] + [300.0] * 3


def test_envoys_own_numbers_30_60_to_300():
    ejection, now, rests = Ejection(), 0.0, []
    for _ in range(12):
        ejection.rest(EjectionRule.SUCCESS_RATE, now, 30.0, 300.0, 0.0)
        rests.append(ejection.until - now)
        now = ejection.until
        ejection.end_trial(now, listens=True, checked=False)
    assert rests == [30, 60, 90, 120, 150, 180, 210, 240, 270, 300, 300, 300]


@pytest.mark.parametrize(
    ("healthy_s", "rest_s"),
    [(0.0, 40.0), (9.9, 40.0), (10.0, 30.0), (19.9, 30.0), (20.0, 20.0), (30.0, 10.0), (1e9, 10.0)],
)
def test_each_healthy_interval_takes_one_back(healthy_s, rest_s):
    """Envoy lowers its multiplier by one at each interval (10 s) at which the host is not ejected."""
    ejection, now = Ejection(), 0.0
    for _ in range(3):
        ejection.rest(EjectionRule.CONSECUTIVE_FAILURES, now, 10.0, 300.0, 0.0)
        now = ejection.until
        ejection.end_trial(now, listens=True, checked=False)
    assert ejection.times == 3
    now += healthy_s
    ejection.rest(EjectionRule.CONSECUTIVE_FAILURES, now, 10.0, 300.0, 0.0)
    assert ejection.until - now == pytest.approx(rest_s)


def test_who_was_out_for_serving_badly_and_is_refused_then_is_forgiven_from_its_return_on():
    ejection = Ejection()
    ejection.rest(EjectionRule.CONSECUTIVE_FAILURES, 0.0, 10.0, 300.0, 0.0)
    ejection.rest(EjectionRule.CONSECUTIVE_FAILURES, 10.0, 10.0, 300.0, 0.0)
    assert ejection.eject(15.0, checked=True)
    assert ejection.observe(True, 1, 100.0)
    ejection.rest(EjectionRule.CONSECUTIVE_FAILURES, 109.0, 10.0, 300.0, 0.0)
    assert ejection.times == 3
    ejection.end_trial(150.0, listens=True, checked=True)
    # Refused meanwhile, it was not out for serving badly.
    ejection.eject(155.0, checked=False)
    ejection.end_trial(156.0, listens=True, checked=False)
    ejection.rest(EjectionRule.CONSECUTIVE_FAILURES, 170.0, 10.0, 300.0, 0.0)
    assert ejection.times == 2


def test_after_long_trouble_it_is_forgiven_within_as_many_intervals_as_the_rest_grew():
    ejection, now = Ejection(), 0.0
    for _ in range(500):
        ejection.rest(EjectionRule.CONSECUTIVE_FAILURES, now, 10.0, 300.0, 0.0)
        now = ejection.until
        ejection.end_trial(now, listens=True, checked=False)
    assert ejection.times == 30
    ejection.rest(EjectionRule.CONSECUTIVE_FAILURES, now + 300.0, 10.0, 300.0, 0.0)
    assert ejection.times == 1


def test_chance_adds_a_tenth_at_most_and_spreads_those_that_went_together():
    chance = random.Random(7)
    rests = []
    for _ in range(200):
        ejection = Ejection()
        ejection.rest(EjectionRule.CONSECUTIVE_FAILURES, 100.0, 10.0, 300.0, chance.random())
        rests.append(ejection.until - 100.0)
    assert all(10.0 <= rest <= 10.0 * (1 + JITTER) for rest in rests)
    # Of 200 evenly spread over a second the first quarter has about 50; binomial, sd 6.1: five of them are 31.
    assert abs(sum(rest < 10.25 for rest in rests) - 50) <= 31
    assert len(set(rests)) == 200


def test_the_same_seed_rests_as_long_and_picks_the_same_whatever_was_ejected():
    def run(chance):
        pool, told = pool_of("a:1", "b:1", "c:1", policy="rand", chance=random.Random(chance))
        fail(pool, "a:1", *[Outcome.NO_RESPONSE] * 5)
        picks = [claim(pool, 1.0).backend.name for _ in range(20)]
        return told[0].until, picks

    one, same, other = run(3), run(3), run(4)
    assert one == same
    assert one[0] != other[0]
    assert one[1] == other[1]


def test_one_request_tries_and_a_good_answer_brings_it_back():
    pool, told = pool_of("a:1", "b:1")
    fail(pool, "a:1", *[Outcome.NO_RESPONSE] * 5)
    told.clear()
    assert {claim(pool, 9.9).backend.name for _ in range(6)} == {"b:1"}
    assert pool.explain(ANY, 9.9).picked == "b:1"
    trial = lease_on(pool, "a:1", 10.0)
    assert trial.trial
    assert {claim(pool, 10.0).backend.name for _ in range(6)} == {"b:1"}
    pool.reached(trial, 10.1)
    assert told == []
    pool.settle(trial, Outcome.OK, 10.5)
    assert told == [BackendReturned("p", "a:1", "a trial request was answered", 10.5)]
    assert pool.backends["a:1"].usable
    assert not lease_on(pool, "a:1", 10.5).trial


@pytest.mark.parametrize(
    "outcome", [one for one in Outcome if CONSEQUENCE[one].blame is Blame.FAILURE], ids=lambda one: one.name
)
def test_a_trial_that_fails_is_another_ejection_whatever_the_share(outcome):
    pool, told = pool_of("a:1", "b:1")
    fail(pool, "a:1", *[Outcome.NO_RESPONSE] * 5)
    told.clear()
    pool.settle(lease_on(pool, "a:1", 10.0), outcome, 12.0, "how it was", "x")
    rule = EjectionRule.CONSECUTIVE_FAILURES
    assert told == [BackendEjected("p", "a:1", outcome, "a trial request failed: how it was", 32.0, False, 12.0, rule)]
    assert {claim(pool, 31.9).backend.name for _ in range(6)} == {"b:1"}
    assert lease_on(pool, "a:1", 32.0).trial


@pytest.mark.parametrize(
    "outcome", [one for one in Outcome if CONSEQUENCE[one].blame is Blame.NONE and one is not Outcome.OK],
    ids=lambda one: one.name,
)  # fmt: skip
def test_a_trial_that_tells_nothing_is_repeated(outcome):
    pool, told = pool_of("a:1", "b:1", checked=True)
    fail(pool, "a:1", *[Outcome.NO_RESPONSE] * 5)
    told.clear()
    pool.settle(lease_on(pool, "a:1", 10.0), outcome, 12.0)
    assert told == []
    assert lease_on(pool, "a:1", 12.0).trial


@pytest.mark.parametrize("checked", [True, False])
def test_a_trial_that_is_refused_goes_on_as_any_other_refused_one(checked):
    pool, told = pool_of("a:1", "b:1", checked=checked)
    fail(pool, "a:1", *[Outcome.NO_RESPONSE] * 5)
    told.clear()
    pool.settle(lease_on(pool, "a:1", 10.0), Outcome.REFUSED, 10.0, "no")
    until = None if checked else 11.0
    assert told == [BackendEjected("p", "a:1", Outcome.REFUSED, "no", until, checked, 10.0, EjectionRule.REFUSED)]
    if not checked:
        trial = lease_on(pool, "a:1", 11.0)
        pool.reached(trial, 11.1)
        assert pool.backends["a:1"].usable


@pytest.mark.parametrize("checked", [True, False])
def test_who_is_refused_while_it_is_out_is_out_for_that(checked):
    pool, told = pool_of("a:1", "b:1", checked=checked)
    late = lease_on(pool, "a:1", 0.0)
    fail(pool, "a:1", *[Outcome.NO_RESPONSE] * 5)
    told.clear()
    pool.settle(late, Outcome.REFUSED, 3.0, "no")
    until = None if checked else 4.0
    assert told == [BackendEjected("p", "a:1", Outcome.REFUSED, "no", until, checked, 3.0, EjectionRule.REFUSED)]


def test_an_answer_that_may_last_ends_the_ejection_with_its_head():
    """A stream, or a tunnel."""
    pool, told = pool_of("a:1", "b:1")
    fail(pool, "a:1", *[Outcome.NO_RESPONSE] * 5)
    told.clear()
    trial = lease_on(pool, "a:1", 10.0)
    pool.answered(trial, 10.2)
    assert told == [BackendReturned("p", "a:1", "a trial request was answered", 10.2)]
    pool.settle(trial, Outcome.CUT_SHORT, 99.0)
    assert len(told) == 1
    assert pool.backends["a:1"].usable


def test_a_trial_without_an_end_is_followed_by_another_one():
    pool, told = pool_of("a:1", "b:1")
    fail(pool, "a:1", *[Outcome.NO_RESPONSE] * 5)
    told.clear()
    hangs = lease_on(pool, "a:1", 10.0)
    assert {claim(pool, 19.9).backend.name for _ in range(6)} == {"b:1"}
    second = lease_on(pool, "a:1", 20.0)
    assert second.trial
    pool.settle(second, Outcome.OK, 20.1)
    assert [type(one) for one in told] == [BackendReturned]
    # What it was the trial of is over: it is one failure now, of what began before the return.
    pool.settle(hangs, Outcome.CONNECT_TIMEOUT, 60.0, "", "x")
    assert len(told) == 1
    assert pool.backends["a:1"].usable


def test_checks_end_it_where_one_has_failed_since():
    pool, told = pool_of("a:1", "b:1", checked=True)
    backend = pool.backends["a:1"]
    fail(pool, "a:1", *[Outcome.NO_RESPONSE] * 5, now=1.0)
    assert told[0].check_wanted
    assert told[0].until == 11.0
    told.clear()
    for now in (1.5, 2.0, 2.5, 3.0):
        pool.observe_probe(backend, True, "ok", now)
    assert told == []  # they ask for something else than what traffic met
    pool.observe_probe(backend, False, "no answer", 3.5)
    pool.observe_probe(backend, True, "ok", 4.0)
    assert told == []
    pool.observe_probe(backend, True, "ok", 4.5)
    assert told == [BackendReturned("p", "a:1", "checks pass", 4.5)]
    assert backend.usable


def test_a_check_from_before_the_ejection_says_nothing_of_it():
    pool, told = pool_of("a:1", "b:1", checked=True)
    backend = pool.backends["a:1"]
    pool.observe_probe(backend, True, "ok", 0.0)
    fail(pool, "a:1", *[Outcome.NO_RESPONSE] * 5, now=1.0)
    told.clear()
    pool.observe_probe(backend, False, "no answer", 1.5, asked_at=0.5)
    for now in (2.0, 2.5, 3.0):
        pool.observe_probe(backend, True, "ok", now)
    assert told == []


def test_that_checks_end_it_can_be_turned_off():
    rules = EjectionRules(consecutive_failures=5, checks_end=False)
    pool, told = pool_of("a:1", "b:1", rules=rules, checked=True)
    pool.observe_probe(pool.backends["a:1"], True, "ok", 0.0)
    fail(pool, "a:1", *[Outcome.NO_RESPONSE] * 5, now=1.0)
    told.clear()
    pool.observe_probe(pool.backends["a:1"], False, "no answer", 1.5)
    for now in (2.0, 2.5, 3.0):
        pool.observe_probe(pool.backends["a:1"], True, "ok", now)
    assert told == []
    pool.settle(lease_on(pool, "a:1", 11.0), Outcome.OK, 11.0)
    assert [type(one) for one in told] == [BackendReturned]


def test_checks_that_are_turned_off_leave_its_time_as_it_was():
    pool, _ = pool_of("a:1", "b:1", checked=True)
    fail(pool, "a:1", *[Outcome.NO_RESPONSE] * 5, now=1.0)
    pool.configure(PoolSettings(checked=False, ejection=ROW), 5.0)
    assert pool.backends["a:1"].ejection.until == 11.0
    pool.configure(PoolSettings(checked=True, ejection=ROW), 6.0)
    assert pool.backends["a:1"].ejection.until == 11.0


def test_who_waits_while_nobody_is_usable_tries_it_soon_and_that_is_no_news():
    pool, told = pool_of("a:1", "b:1", max_queued=5, queue_timeout_s=5.0, no_backend_s=5.0)
    fail(pool, "a:1", *[Outcome.NO_RESPONSE] * 5)
    pool.settle(lease_on(pool, "b:1", 1.0), Outcome.REFUSED, 1.0)
    told.clear()
    pool.claim(ANY, 1.0)
    [(_, trial)] = [one for one in pool.grants(1.25) if one[1].backend.name == "a:1"]
    pool.settle(trial, Outcome.NO_RESPONSE, 1.25, "", "x")
    assert [one for one in told if isinstance(one, BackendEjected)] == []
    assert pool.backends["a:1"].ejection.times == 1


# Changes of the pool.


def test_who_is_removed_and_added_again_is_as_new():
    pool, told = pool_of("a:1", "b:1", "c:1")
    fail(pool, "a:1", *[Outcome.NO_RESPONSE] * 4)
    pool.update(specs("b:1", "c:1"), 1.0)
    pool.update(specs("a:1", "b:1", "c:1"), 2.0)
    told.clear()
    fail(pool, "a:1", *[Outcome.NO_RESPONSE] * 4, now=3.0)
    assert told == []
    fail(pool, "a:1", Outcome.NO_RESPONSE, now=3.0)
    assert ejected(pool) == ["a:1"]


def test_what_a_removed_one_still_fails_ejects_nobody():
    pool, told = pool_of("a:1", "b:1", "c:1")
    leases = [lease_on(pool, "a:1", 0.0) for _ in range(9)]
    pool.update(specs("b:1", "c:1"), 1.0)
    told.clear()
    for number, lease in enumerate(leases):
        pool.settle(lease, Outcome.NO_RESPONSE, 2.0, "", str(number))
    assert told == []


def test_settings_hold_from_the_next_failure_on():
    pool, told = pool_of("a:1", "b:1", "c:1", "d:1", rules=EjectionRules())
    fail(pool, "a:1", *[Outcome.NO_RESPONSE] * 9)
    pool.configure(PoolSettings(checked=False, ejection=ROW), 1.0)
    fail(pool, "a:1", *[Outcome.NO_RESPONSE] * 4, now=1.0)
    assert told == []
    pool.configure(PoolSettings(checked=False, ejection=EjectionRules(consecutive_failures=3)), 1.0)
    fail(pool, "a:1", Outcome.NO_RESPONSE, now=1.0)
    assert ejected(pool) == ["a:1"]
    fail(pool, "b:1", Outcome.NO_RESPONSE, now=1.0)
    pool.configure(PoolSettings(checked=False), 1.0)
    assert pool.backends["b:1"].streak is None
    assert ejected(pool) == ["a:1"]  # as it was told
    pool.settle(lease_on(pool, "a:1", 11.0), Outcome.OK, 11.0)
    assert ejected(pool) == []


# Rates.


def test_the_least_success_rate_is_envoys():
    """outlier_detection_impl.cc: mean - factor x standard deviation of the population; its test has these numbers."""
    assert least_success_rate([50, 100, 100, 100, 100], 1.9) == 52
    assert mean([50, 100, 100, 100, 100]) == 90
    assert pstdev([50, 100, 100, 100, 100]) == 20


def test_it_compares():
    """One of 95 % among nine of 100 %: mean 99.5, sd 1.5, least 96.65."""
    assert least_success_rate([95, *[100] * 9], 1.9) == pytest.approx(96.65)


@pytest.mark.parametrize(("n", "k"), [(2, 1), (4, 1), (5, 1), (9, 2), (10, 2), (10, 3), (100, 5)])
def test_of_n_equal_ones_k_bad_ones_are_so_many_deviations_below(n, k):
    """z = sqrt((N - k) / k): 1.9 never takes out one of four, nor two of nine."""
    rates = [20.0] * k + [99.0] * (n - k)
    z = ((n - k) / k) ** 0.5
    assert (mean(rates) - 20.0) / pstdev(rates) == pytest.approx(z)
    assert (least_success_rate(rates, 1.9) - 1e-9 > 20.0) is (z > 1.9)


def test_rates_that_are_equal_are_never_below_their_mean():
    """Added up, as floats, their mean may be more than each of them."""
    pool, told = pool_of(*FIVE, *(f"f{n}:1" for n in range(20)), rules=EjectionRules(success_rate_factor=0.001))
    pool.tick(0.0)
    for name in pool.backends:
        serve(pool, name, 99, 11, now=1.0)
    pool.tick(1.0)
    assert told == []


def look_at(pool, shares, requests, now=1.0):
    """Each backend has so many requests, of which so many of a hundred go well."""
    pool.tick(now - 1.0)
    for name, share in zip(pool.backends, shares, strict=True):
        serve(pool, name, requests * share // 100, requests - requests * share // 100, now=now)
    pool.tick(now)


def test_who_is_below_is_ejected_with_its_figures():
    pool, told = pool_of(*FIVE, rules=RATE)
    look_at(pool, [50, 100, 100, 100, 100], 100)
    assert told == [
        BackendEjected(
            "p", "a:1", None,
            "50 of 100 requests went well, 50 %, which is below 52 %: 1.9 standard deviations below the 90 % of 5 backends",
            11.0, False, 1.0, EjectionRule.SUCCESS_RATE,
        )
    ]  # fmt: skip


def test_nobody_is_ejected_who_is_just_as_good():
    pool, told = pool_of(*FIVE, rules=RATE)
    look_at(pool, [60, 60, 60, 60, 60], 100)
    assert told == []


@pytest.mark.parametrize(
    ("rules", "requests", "out"),
    [(RATE, 99, False), (RATE, 100, True), (PERCENT, 49, False), (PERCENT, 50, True)],
    ids=["rate, 99", "rate, 100", "percentage, 49", "percentage, 50"],
)
def test_fewer_requests_than_the_volume_say_nothing(rules, requests, out):
    pool, _ = pool_of(*FIVE, rules=rules)
    look_at(pool, [0, 100, 100, 100, 100], requests)
    assert ejected(pool) == (["a:1"] if out else [])


@pytest.mark.parametrize("rules", [RATE, PERCENT], ids=["rate", "percentage"])
def test_fewer_backends_than_the_minimum_say_nothing(rules):
    pool, _ = pool_of("a:1", "b:1", "c:1", "d:1", rules=rules)
    look_at(pool, [0, 100, 100, 100], 200)
    assert ejected(pool) == []
    # Nor do five, one of which had too few requests.
    pool, _ = pool_of(*FIVE, rules=rules)
    pool.tick(0.0)
    for name in FIVE[:4]:
        serve(pool, name, 0 if name == "a:1" else 200, 200 if name == "a:1" else 0, now=1.0)
    pool.tick(1.0)
    assert ejected(pool) == []


@pytest.mark.parametrize(("failed", "out"), [(84, False), (85, True), (86, True)])
def test_a_failure_percentage_is_reached_by_being_equal(failed, out):
    """Envoy: at or above the threshold, 85 %."""
    pool, told = pool_of(*FIVE, rules=PERCENT)
    look_at(pool, [100 - failed, 100, 100, 100, 100], 100)
    assert ejected(pool) == (["a:1"] if out else [])
    if out:
        assert told[0].rule is EjectionRule.FAILURE_PERCENT
        assert told[0].because == f"{failed} of 100 requests failed, {failed} %, and 85 % are enough"


def test_a_percentage_does_not_compare_and_the_worst_go_first():
    pool, told = pool_of(*FIVE, rules=PERCENT)
    look_at(pool, [14, 10, 12, 11, 13], 100)
    assert ejected(pool) == ["b:1", "d:1"]
    assert [(type(one), one.backend_name) for one in told] == [
        (BackendEjected, "b:1"),
        (BackendEjected, "d:1"),
        (EjectionWithheld, "c:1"),
        (EjectionWithheld, "e:1"),
        (EjectionWithheld, "a:1"),
    ]


def test_who_stays_in_by_its_rate_is_told_once_until_it_is_no_outlier():
    pool, told = pool_of(*FIVE, rules=EjectionRules(failure_percent=85, max_percent=0, window_s=10.0))
    look_at(pool, [10, 100, 100, 100, 100], 100)
    assert [type(one) for one in told] == [EjectionWithheld]
    assert pool.backends["a:1"].withheld
    assert pool.backends["a:1"].failing == "90 of 100 requests failed, 90 %, and 85 % are enough"
    for step in range(4, 100):
        pool.tick(step / 4)
    assert len(told) == 1
    assert not pool.backends["a:1"].withheld  # what was is not within the window any more
    look_at(pool, [10, 100, 100, 100, 100], 100, now=30.0)
    assert len(told) == 2


@pytest.mark.parametrize("outcome", Outcome, ids=lambda one: one.name)
def test_what_counts_as_failed_is_the_column_of_blame(outcome):
    pool, _ = pool_of(*FIVE, rules=EjectionRules(failure_percent=50))
    pool.tick(0.0)
    for name in FIVE:
        serve(pool, name, 50, 0, now=1.0)
    if outcome is not Outcome.REFUSED:  # which is out already
        fail(pool, "a:1", *[outcome] * 1000, now=1.0)
        pool.tick(1.0)
        assert ejected(pool) == (["a:1"] if CONSEQUENCE[outcome].blame is not Blame.NONE else [])


def test_who_came_back_is_judged_by_what_it_does_from_then_on():
    pool, told = pool_of(*FIVE, rules=PERCENT)
    look_at(pool, [0, 100, 100, 100, 100], 100)
    pool.tick(1.5)
    assert ejected(pool) == ["a:1"]
    told.clear()
    pool.tick(11.0)
    pool.settle(lease_on(pool, "a:1", 11.0), Outcome.OK, 11.0)
    for step in range(44, 160):
        pool.tick(step / 4)
    assert [type(one) for one in told] == [BackendReturned]


def test_nobody_looks_where_no_rule_does():
    pool, _ = pool_of(*FIVE, rules=ROW)
    look_at(pool, [0, 100, 100, 100, 100], 100)
    assert [one.window for one in pool.backends.values()] == [None] * 5
    pool.configure(PoolSettings(checked=False, ejection=RATE), 2.0)
    pool.tick(2.0)
    assert all(one.window is not None for one in pool.backends.values())
    pool.configure(PoolSettings(checked=False, ejection=ROW), 3.0)
    assert [one.window for one in pool.backends.values()] == [None] * 5


# The window.


def test_a_window_slides_and_does_not_jump():
    """50 failures before a boundary and 50 behind it are 100 within a window, wherever the boundary is."""
    for begins in (0.0, 3.0, 7.5, 9.75):
        window, now, bad = Window(begins, 0, 0), begins, 0
        most = 0
        while now < begins + 60:
            now += 0.25
            if begins + 25 < now <= begins + 35:
                bad += 5
            most = max(most, window.look(now, 0, bad, 30.0)[1])
        assert most == 200


def test_a_window_is_exact_to_a_step():
    """Against all moments, kept: what is counted came within the window, or less than one step before it."""
    chance = random.Random(5)
    window_s, now, good, bad = 30.0, 0.0, 0, 0
    window, told = Window(now, 0, 0), [(now, 0, 0)]
    for _ in range(4000):
        now += 0.25
        good += chance.randrange(4)
        bad += chance.randrange(2)
        found = window.look(now, good, bad, window_s)
        told.append((now, good, bad))
        exact, early = (
            next((good - g, bad - b) for at, g, b in reversed(told) if at <= begins or at == 0.0)
            for begins in (now - window_s, now - window_s - window_s / STEPS)
        )
        assert exact[0] <= found[0] <= early[0]
        assert exact[1] <= found[1] <= early[1]
    assert repr(window) in {f"<Window of {moments} moments>" for moments in range(STEPS, STEPS + 4)}


def test_failures_that_come_seldom_never_add_up():
    """nginx counts on for as long as failures are no further apart than `fail_timeout` (nginx/nginx issue 599)."""
    window, most = Window(0.0, 0, 0), 0
    for step in range(1, 20_000):
        most = max(most, window.look(step * 0.25, 0, step // 40, 30.0)[1])  # one in ten seconds
    assert most == 3


def test_after_a_long_pause_nothing_is_left():
    window = Window(0.0, 0, 0)
    for step in range(1, 200):
        window.look(step * 0.25, step, step, 30.0)
    assert window.look(1000.0, 199, 199, 30.0) == (0, 0)


def test_a_window_that_becomes_shorter_or_longer_stays_bounded():
    window, chance = Window(0.0, 0, 0), random.Random(2)
    for step in range(1, 5000):
        window.look(step * 0.25, step, 0, chance.choice([1.0, 30.0, 60.0]))
    assert int(repr(window).split()[2]) <= 4 * STEPS
