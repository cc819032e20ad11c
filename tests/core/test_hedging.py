"""When a request is hedged: the delay, and what a hedge needs."""

import random

import pytest
from builders import make_pool

from twisted_lb.core.ask import ANY
from twisted_lb.core.attempts import Attempts, smooth, up_to
from twisted_lb.core.hedging import Hedged, HedgeRules, Hedging, hedged_by
from twisted_lb.core.lease import Lease
from twisted_lb.core.never import NEVER
from twisted_lb.core.outcome import Outcome
from twisted_lb.core.retry import RetryRules


def measured(*seconds, rules=None, now=0.0):
    hedging = Hedging(rules or HedgeRules(95.0))
    for one in seconds:
        hedging.observe(one, now)
    return hedging


@pytest.mark.parametrize(("percentile", "least"), [(50.0, 10), (90.0, 50), (95.0, 100), (99.0, 500), (99.9, 5000)])
def test_a_percentile_means_something_when_five_are_beyond_it(percentile, least):
    """5 / (1 - share) in all."""
    rules = HedgeRules(percentile)
    assert measured(*[0.1] * (least - 1), rules=rules).delay_s(0.0) == NEVER
    assert measured(*[0.1] * (least + 1), rules=rules).delay_s(0.0) == pytest.approx(0.1, rel=0.13)


@pytest.mark.parametrize("percentile", [50.0, 90.0, 95.0, 99.0])
def test_of_exponential_answers_the_share_beyond_the_delay_is_what_was_asked_for(percentile):
    """A share of n deviates by sqrt(share * (1 - share) / n), times 4; between the edges of a slot it is taken as even, which is off by
    less than a hundredth of the share beyond.
    """
    rng, beyond = random.Random(3), 1 - percentile / 100
    hedging = measured(*(rng.expovariate(100) for _ in range(20_000)), rules=HedgeRules(percentile))
    delay_s = hedging.delay_s(0.0)
    late = sum(rng.expovariate(100) > delay_s for _ in range(20_000)) / 20_000
    assert late == pytest.approx(beyond, abs=4 * (2 * beyond * (1 - beyond) / 20_000) ** 0.5 + 0.01 * beyond)


def test_a_fixed_delay_needs_no_measuring():
    assert Hedging(HedgeRules(0.0, 0.25)).delay_s(0.0) == 0.25


def test_the_delay_is_never_less_than_the_least():
    assert measured(*[0.0001] * 200, rules=HedgeRules(95.0, 0.0, 0.003)).delay_s(0.0) == 0.003


def test_the_delay_follows_and_what_was_long_ago_is_forgotten():
    hedging = measured(*[0.1] * 200)
    assert hedging.delay_s(1.0) == pytest.approx(0.1, rel=0.13)
    for _ in range(4000):
        hedging.observe(0.01, 15.0)
    assert hedging.delay_s(16.0) == pytest.approx(0.01, rel=0.13), "95 of a hundred"
    for _ in range(200):
        hedging.observe(0.2, 56.0)
    assert hedging.delay_s(57.0) == pytest.approx(0.2, rel=0.13), "the window has gone on"
    assert hedging.delay_s(200.0) == NEVER


def test_it_is_worked_out_once_a_second():
    hedging = measured(*[0.1] * 200)
    before = hedging.delay_s(5.0)
    for _ in range(5000):
        hedging.observe(0.01, 5.0)
    assert hedging.delay_s(5.9) == before
    assert hedging.delay_s(6.0) < before


def test_other_rules_keep_what_was_measured():
    hedging = measured(*[0.1] * 600)
    assert hedged_by(HedgeRules(99.0), hedging) is hedging
    assert hedging.delay_s(0.5) == pytest.approx(0.1, rel=0.13)
    assert repr(hedging) == f"<Hedging after {hedging.known_s:g} s>"
    assert hedged_by(None, hedging) is None
    assert hedged_by(HedgeRules(99.0), None).known_s is None


# Attempts.


def begun(*texts, more=2, idempotent=True, **settings):
    """A request that waits for its first backend's answer."""
    pool, _ = make_pool(*(texts or ("a:1", "b:1", "c:1")), **settings)
    attempts = Attempts(pool, RetryRules(more, frozenset()), ANY, idempotent=idempotent)
    attempts.due = 100.0
    assert isinstance(attempts.begin(0.0), Lease)
    return attempts


def test_a_hedge_is_at_another_backend_and_beside_the_current_attempt():
    attempts = begun()
    first = attempts.current
    lease = attempts.hedge(0.1)
    assert isinstance(lease, Lease)
    assert lease.backend is not first.lease.backend
    assert (attempts.current, attempts.beside.lease, attempts.beside.hedge) == (first, lease, True)
    assert [one.lease for one in attempts.made] == [first.lease, lease]
    assert (attempts.pool.leases, attempts.count, attempts.beside.budget_left) == (2, 2, attempts.pool.budget.left)


def test_there_is_one_at_most():
    attempts = begun()
    attempts.hedge(0.1)
    assert attempts.hedge(0.2) is None
    attempts.ended(attempts.let_go(), Outcome.NO_RESPONSE, 0.3)
    assert attempts.hedge(0.4) is None
    assert attempts.pool.leases == 1


@pytest.mark.parametrize("settings", [{"budget_percent": 0, "budget_per_s": 0}], ids=["no budget"])
def test_the_budget_is_asked(settings):
    assert begun(**settings).hedge(0.1) is Hedged.NO_BUDGET


def test_it_is_paid_for_from_the_budget_that_retries_have():
    attempts = begun(budget_percent=0, budget_per_s=1)
    left = sum(attempts.pool.budget.withdraw(0.0) for _ in range(9))
    assert left == 9
    assert isinstance(attempts.hedge(0.0), Lease)
    assert not attempts.pool.budget.withdraw(0.0)


def test_where_nobody_else_has_room_nothing_is_paid():
    attempts = begun("a:1", "b:1", max_in_flight=1, max_queued=5, queue_timeout_s=9.0)
    other = attempts.pool.claim(ANY, 0.0)
    attempts.pool.budget.withdraw(0.0)
    left = attempts.pool.budget.left
    assert attempts.hedge(0.1) is Hedged.NO_ROOM
    assert (attempts.pool.budget.left, attempts.pool.waiting) == (left, 0)
    assert other.open
    assert begun("a:1").hedge(0.1) is Hedged.NO_ROOM


def test_what_must_not_be_repeated_or_has_no_attempt_or_time_left_has_no_hedge():
    assert begun(idempotent=False).hedge(0.1) is None
    assert begun(more=0).hedge(0.1) is None
    assert begun().hedge(100.0) is None
    ended = begun()
    ended.ended(ended.current, Outcome.NO_RESPONSE, 0.0)
    assert ended.hedge(0.1) is None


def test_an_ejected_backend_that_is_due_is_not_tried_out():
    attempts = begun("a:1", "b:1", checked=False)
    pool = attempts.pool
    out = next(one for one in pool.backends.values() if one is not attempts.current.lease.backend)
    pool.settle(pool.claim(ANY, 0.0, (attempts.current.lease.backend,)), Outcome.REFUSED, 0.0, "x")
    pool.tick(50.0)
    assert out.ejection.due
    assert attempts.hedge(51.0) is Hedged.NO_ROOM
    assert out.ejection.due, "its trial is still to be made"
    pool.settle(attempts.current.lease, Outcome.OK, 51.0)


def test_who_stands_in_is_the_current_attempt():
    attempts = begun()
    first = attempts.current
    attempts.hedge(0.1)
    attempts.ended(first, Outcome.NO_RESPONSE, 0.2)
    hedge = attempts.stand_in()
    assert (attempts.current, attempts.beside) == (hedge, None)
    attempts.ended(hedge, Outcome.NO_RESPONSE, 0.3)
    assert isinstance(attempts.again(Outcome.NO_RESPONSE, 0.3, replayable=True), Lease)
    assert len({one.lease.backend.name for one in attempts.made}) == 3


def test_attempts_are_told_in_the_order_in_which_they_began():
    attempts = begun()
    first = attempts.current
    attempts.hedge(0.1)
    hedge = attempts.let_go()
    attempts.ended(hedge, Outcome.CANCELLED, 0.2)
    assert up_to(attempts.current) == [first, hedge]
    assert smooth(attempts.current)
    attempts.ended(first, Outcome.OK, 0.3)


def test_what_went_wrong_is_not_smooth():
    attempts = begun()
    attempts.ended(attempts.current, Outcome.NO_RESPONSE, 0.1)
    attempts.again(Outcome.NO_RESPONSE, 0.1, replayable=True)
    assert not smooth(attempts.current)
    attempts.hedge(0.2)
    attempts.ended(attempts.let_go(), Outcome.CANCELLED, 0.3)
    assert not smooth(attempts.current)
    assert not smooth(None)
