"""Whether another attempt may be made."""

import pytest

from twisted_lb.core.outcome import Outcome
from twisted_lb.core.retry import IDEMPOTENT, RetryBudget, RetryRules

ALWAYS = {Outcome.REFUSED, Outcome.CONNECT_TIMEOUT, Outcome.UNPROCESSED, Outcome.NO_PORT, Outcome.BACKLOG_FULL}
IF_IDEMPOTENT = {
    Outcome.STALE_REUSE,
    Outcome.NO_RESPONSE,
    Outcome.BAD_RESPONSE,
    Outcome.TIMED_OUT,
    Outcome.BACKEND_DOWN,
}


def allows(outcome, *, idempotent=True, bad_statuses=()) -> bool:
    return RetryRules(2, frozenset(bad_statuses)).allow(outcome, idempotent=idempotent)


@pytest.mark.parametrize("outcome", Outcome, ids=lambda outcome: outcome.name)
def test_the_outcome_says_whether_it_is_retried(outcome):
    assert allows(outcome, idempotent=True) == (outcome in ALWAYS | IF_IDEMPOTENT)
    assert allows(outcome, idempotent=False) == (outcome in ALWAYS)


def test_a_bad_status_is_retried_only_where_that_is_configured():
    assert not allows(Outcome.BAD_STATUS)
    assert allows(Outcome.BAD_STATUS, bad_statuses=[503])
    assert not allows(Outcome.BAD_STATUS, bad_statuses=[503], idempotent=False)


def test_methods_that_may_be_repeated_are_the_rfcs():
    assert {b"GET", b"HEAD", b"OPTIONS", b"TRACE", b"PUT", b"DELETE"} == IDEMPOTENT


def test_ten_thousand_failing_requests_at_once_get_2100_retries():
    """Finagle's RetryBudgetTest: 20 % of the requests, and 10 a second for 10 s."""
    budget = RetryBudget(20, 10)
    retries = 0
    for _ in range(10_000):
        budget.deposit(5.0)
        retries += budget.withdraw(5.0)
    while budget.withdraw(5.0):
        retries += 1
    assert retries == 2100


@pytest.mark.parametrize(
    ("percent", "per_s", "retries"), [(0, 0, 0), (0, 10, 100), (100, 0, 1000), (50, 0, 500), (20, 1, 210)]
)
def test_percent_and_reserve_each_alone(percent, per_s, retries):
    budget = RetryBudget(percent, per_s)
    for _ in range(1000):
        budget.deposit(0.0)
    assert sum(budget.withdraw(0.0) for _ in range(5000)) == retries


@pytest.mark.parametrize("start", [0.0, 0.999, 123456.7])
def test_deposits_expire_after_ten_seconds(start):
    budget = RetryBudget(100, 0)
    for _ in range(10):
        budget.deposit(start)
    assert budget.withdraw(start + 8.9)
    assert not budget.withdraw(start + 10.1)


def test_the_reserve_refills_at_its_rate_and_no_further():
    budget = RetryBudget(0, 10)
    assert sum(budget.withdraw(50.0) for _ in range(200)) == 100
    assert sum(budget.withdraw(51.0) for _ in range(200)) == 10
    assert sum(budget.withdraw(1000.0) for _ in range(500)) == 100


def test_steady_traffic_gets_its_share():
    """1000 requests a second for a minute, each of which would like to be retried."""
    budget = RetryBudget(20, 0)
    retries = 0
    for millisecond in range(60_000):
        now = 77.0 + millisecond / 1000
        budget.deposit(now)
        retries += budget.withdraw(now)
    assert abs(retries - 12_000) <= 5


@pytest.mark.parametrize("step_s", [0.1, 0.001, 0.00005])
def test_the_reserve_refills_however_often_it_is_asked(step_s):
    """In whole numbers 10 a second is nothing at all in 50 µs: the rest must not be lost."""
    budget = RetryBudget(0, 10)
    while budget.withdraw(50.0):
        pass
    retries = sum(budget.withdraw(50.0 + step * step_s) for step in range(1, round(5 / step_s) + 1))
    assert 49 <= retries <= 50


def test_what_is_spent_is_what_would_expire_first():
    budget = RetryBudget(100, 0)
    for now in (0.0, 9.0):
        for _ in range(10):
            budget.deposit(now)
    assert sum(budget.withdraw(9.0) for _ in range(10)) == 10
    assert sum(budget.withdraw(15.0) for _ in range(20)) == 10


@pytest.mark.parametrize("start", [0.0, 0.5, 1e6, 1e9])
def test_the_balance_is_the_same_whenever_the_machine_was_started(start):
    """Monotonic time may begin anywhere: 10 000 failing requests in frozen time get 2 100 retries, then 10 a second."""
    budget = RetryBudget(20, 10)
    for _ in range(10_000):
        budget.deposit(start)
    assert sum(budget.withdraw(start) for _ in range(10_000)) == 2100
    # Clocks are floats: at 1e9 s they are 1e-7 s apart, which may cost the last one.
    assert 49 <= sum(budget.withdraw(start + 5) for _ in range(100)) <= 50
    assert 99 <= sum(budget.withdraw(start + 5000) for _ in range(200)) <= 100


def test_without_share_and_reserve_nothing_is_retried_at_any_time():
    budget = RetryBudget(0, 0)
    for now in (0.0, 1.0, 100.0):
        budget.deposit(now)
        assert not budget.withdraw(now)


@pytest.mark.parametrize("percent", [1, 3, 20, 33, 50, 99, 100])
def test_each_share_is_kept(percent):
    budget = RetryBudget(percent, 0)
    for _ in range(10_000):
        budget.deposit(1.0)
    retries = sum(budget.withdraw(1.0) for _ in range(20_000))
    # The price of a retry is a whole number: 1000 * 100 / percent, cut down, is 0.1 % too cheap at most.
    assert 100 * percent <= retries <= 100 * percent * 1.001 + 1


def test_deposits_expire_second_by_second():
    budget = RetryBudget(100, 0)
    for second in range(10):
        budget.deposit(second + 0.5)
    for second in range(10, 20):
        kept = RetryBudget(100, 0)
        for before in range(10):
            kept.deposit(before + 0.5)
        assert sum(kept.withdraw(second + 0.1) for _ in range(20)) == 19 - second
    assert not budget.withdraw(1000.0)


def test_what_was_refused_is_not_paid_for():
    budget = RetryBudget(0, 1)
    while budget.withdraw(5.0):
        pass
    for _ in range(1000):
        assert not budget.withdraw(5.0)
    assert sum(budget.withdraw(8.0) for _ in range(10)) == 3


def test_time_that_seems_to_go_back_gives_nothing_away():
    budget = RetryBudget(100, 1)
    budget.deposit(100.0)
    assert sum(budget.withdraw(100.0) for _ in range(50)) == 11
    budget.deposit(99.0)
    assert sum(budget.withdraw(99.0) for _ in range(50)) == 1
    assert not budget.withdraw(100.0)


def test_another_share_and_reserve_hold_from_now_on_and_what_is_saved_stays():
    budget = RetryBudget(100, 10)
    for _ in range(10):
        budget.deposit(5.0)
    budget.configure(50, 1)
    assert (budget.percent, budget.per_s) == (50, 1)
    assert sum(budget.withdraw(5.0) for _ in range(200)) == 5 + 10  # half of the ten, and a reserve of 10 s
    budget.configure(50, 10)
    assert not budget.withdraw(5.0)
    assert sum(budget.withdraw(6.0) for _ in range(200)) == 10
