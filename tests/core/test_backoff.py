"""How long a request waits before it is tried again."""

import math
import random

import pytest
from builders import make_pool

from twisted_lb.core.ask import ANY
from twisted_lb.core.attempts import Attempts, Pause, Stopped
from twisted_lb.core.backend import AdminState
from twisted_lb.core.backoff import Backoff, backs_off
from twisted_lb.core.lease import Lease
from twisted_lb.core.outcome import Outcome
from twisted_lb.core.queue import Ticket
from twisted_lb.core.retry import RetryBudget, RetryRules
from twisted_lb.core.totals import Denied

ENVOY = Backoff(0.025, 0.25)  # its defaults, with full jitter


def requested(*texts, backoff=ENVOY, more=2, bad_statuses=(503,), **settings):
    """A request that is at its first backend."""
    pool, _ = make_pool(*(texts or ("a:1", "b:1", "c:1")), **settings)
    attempts = Attempts(pool, RetryRules(more, frozenset(bad_statuses), backoff), ANY, idempotent=True)
    attempts.due = 100.0
    assert isinstance(attempts.begin(0.0), Lease)
    return attempts


def fails(attempts, outcome=Outcome.NO_RESPONSE, now=0.0, **how):
    attempts.ended(attempts.current, outcome, now, "x")
    return attempts.again(outcome, now, replayable=True, **how)


@pytest.mark.parametrize(("before", "bound_s"), [(0, 0.025), (1, 0.05), (2, 0.1), (3, 0.2), (4, 0.25), (9, 0.25)])
def test_a_wait_is_by_chance_up_to_a_bound_that_doubles_and_ends(before, bound_s):
    """Full jitter is uniform: its mean is half of the bound, and of 4,000 draws that deviates by bound / sqrt(12 * 4000), times 4."""
    rng = random.Random(7)
    waits = [ENVOY.wait_s(Outcome.NO_RESPONSE, before, rng) for _ in range(4_000)]
    assert 0.0 <= min(waits) < 0.01 * bound_s
    assert 0.99 * bound_s < max(waits) <= bound_s
    assert sum(waits) / len(waits) == pytest.approx(bound_s / 2, abs=4 * bound_s / math.sqrt(12 * 4_000))


def test_only_after_a_failure_of_somebody_who_listens_there_is_a_wait():
    waits = {outcome for outcome in Outcome if backs_off(outcome)}
    assert waits == {
        Outcome.BAD_STATUS,
        Outcome.NO_RESPONSE,
        Outcome.BAD_RESPONSE,
        Outcome.TIMED_OUT,
        Outcome.CUT_SHORT,  # which nothing follows
        Outcome.BACKLOG_FULL,
    }
    assert ENVOY.wait_s(Outcome.REFUSED, 0, random.Random(1)) == 0.0


def test_without_a_base_nobody_draws():
    rng = random.Random(1)
    before = rng.getstate()
    assert Backoff(0.0, 1.0, 5.0).wait_s(Outcome.NO_RESPONSE, 3, rng) == 0.0
    assert rng.getstate() == before


def test_a_pause_holds_no_lease_and_claims_when_it_is_over():
    attempts = requested()
    pause = fails(attempts)
    assert isinstance(pause, Pause)
    assert 0.0 < pause.until <= 0.025
    assert (attempts.pool.leases, attempts.pool.waiting, attempts.count) == (0, 0, 1)
    assert isinstance(attempts.resume(pause.until), Lease)
    assert (attempts.pool.leases, attempts.count, attempts.pausing) == (1, 2, None)
    assert attempts.current.pause is pause
    assert attempts.current.lease.backend is not attempts.made[0].lease.backend


def test_a_pause_is_paid_for_when_it_begins():
    attempts = requested(budget_percent=0, budget_per_s=1)
    for _ in range(9):
        attempts.pool.budget.withdraw(0.0)
    assert isinstance(fails(attempts), Pause)
    assert not attempts.pool.budget.withdraw(0.0)
    assert isinstance(attempts.resume(0.02), Lease)
    assert fails(attempts, now=0.02) is None
    assert attempts.story().stopped is Stopped.BUDGET


def test_each_further_wait_may_be_twice_as_long():
    """Of many requests: the second wait goes beyond what the first one may be."""
    firsts, seconds = [], []
    attempts = requested(budget_per_s=1000)
    for _ in range(300):
        one = Attempts(attempts.pool, attempts.retries, ANY, idempotent=True)
        one.begin(0.0)
        firsts.append(fails(one).until)
        one.resume(0.0)
        seconds.append(fails(one).until)
        one.resume(0.0)
        one.ended(one.current, Outcome.OK, 0.0)
    assert max(firsts) <= 0.025 < max(seconds) <= 0.05


def test_what_nobody_has_heard_goes_on_at_once():
    assert isinstance(fails(requested(), Outcome.REFUSED), Lease)
    assert isinstance(fails(requested(), Outcome.STALE_REUSE), Lease)


def test_who_is_the_last_one_is_not_waited_for():
    """Nobody is left to be asked after the wait."""
    attempts = requested("a:1")
    assert fails(attempts, Outcome.BAD_STATUS) not in (None, attempts.current)
    assert attempts.pausing is None
    attempts = requested("a:1", "b:1")
    other = next(one for one in attempts.pool.backends.values() if one is not attempts.current.lease.backend)
    attempts.pool.command(other, AdminState.MAINT, 0.0)
    assert not isinstance(fails(attempts, Outcome.BAD_STATUS), Pause)


def test_a_wait_that_would_be_too_late_is_not_begun_nor_paid_for():
    attempts = requested(backoff=Backoff(10.0, 10.0))
    attempts.due = 1e-6
    left = attempts.pool.budget.left
    assert fails(attempts) is None
    assert (attempts.story().stopped, attempts.pool.budget.left) == (Stopped.TIME, left)


def test_a_backend_may_ask_for_a_wait():
    """At least so long; by chance up to half as long again, so that those that were told together do not come together."""
    waits = []
    attempts = requested(backoff=Backoff(0.0, 0.0, 5.0), budget_percent=100)
    for _ in range(200):
        one = Attempts(attempts.pool, attempts.retries, ANY, idempotent=True)
        one.due = 100.0
        one.begin(0.0)
        pause = fails(one, Outcome.BAD_STATUS, told_s=2.0)
        assert pause.told
        waits.append(pause.until)
        one.withdraw()
    assert 2.0 <= min(waits) < 2.05
    assert 2.95 < max(waits) <= 3.0


def test_where_there_is_no_time_for_it_nobody_is_asked_again():
    attempts = requested(backoff=Backoff(0.0, 0.0, 5.0))
    attempts.due = 1.9
    assert fails(attempts, Outcome.BAD_STATUS, told_s=2.0) is None
    assert attempts.story().stopped is Stopped.TOLD_LATER
    assert attempts.pool.totals.denied[Denied.TOLD_LATER] == 1


@pytest.mark.parametrize("told_s", [5.001, 300.0, math.inf])
def test_what_asks_for_longer_than_anybody_waits_speaks_of_itself(told_s):
    assert isinstance(fails(requested(backoff=Backoff(0.0, 0.0, 5.0)), Outcome.BAD_STATUS, told_s=told_s), Lease)


def test_to_come_again_at_once_is_no_wait():
    assert isinstance(fails(requested(backoff=Backoff(0.0, 0.0, 5.0)), Outcome.BAD_STATUS, told_s=0.0), Lease)


def test_where_it_is_not_heeded_another_one_is_asked_at_once():
    assert isinstance(fails(requested(backoff=Backoff()), Outcome.BAD_STATUS, told_s=300.0), Lease)


def test_after_a_pause_it_may_wait_in_the_queue_and_keeps_its_right():
    attempts = requested("a:1", "b:1", max_in_flight=1, max_queued=5, queue_timeout_s=9.0)
    other = attempts.pool.claim(ANY, 0.0)
    pause = fails(attempts)
    ticket = attempts.resume(pause.until)
    assert isinstance(ticket, Ticket)
    assert ticket.again
    attempts.pool.settle(other, Outcome.OK, 1.0)
    ((granted, lease),) = attempts.pool.grants(1.0)
    assert granted is ticket
    attempts.granted(ticket, lease, 1.0)
    assert attempts.current.lease.backend is other.backend


def test_who_has_left_is_not_resumed():
    attempts = requested()
    assert isinstance(fails(attempts), Pause)
    attempts.withdraw()
    with pytest.raises(AssertionError, match="does not pause"):
        attempts.resume(1.0)


# Layers of balancers (algorithms: amplification).


def amplified(layers, requests, budget_percent):
    """How many requests come to the last layer for each one that comes to the first, when all of them fail; each layer tries three
    times, as its budget allows, all in one moment.
    """
    budgets = [RetryBudget(budget_percent, 0) for _ in range(layers)] if budget_percent else [None] * layers
    asked = 0

    def ask(layer):
        nonlocal asked
        if layer == layers:
            asked += 1
            return
        budget = budgets[layer]
        if budget is not None:
            budget.deposit(0.0)
        for tried in range(3):
            if tried and budget is not None and not budget.withdraw(0.0):
                return
            ask(layer + 1)

    for _ in range(requests):
        ask(0)
    return asked / requests


def test_three_layers_of_three_attempts_are_27_and_with_budgets_1_73():
    assert amplified(3, 10, 0) == 27.0
    assert amplified(3, 10_000, 20) == pytest.approx(1.2**3, rel=0.001)
