"""Without checks, one request at a time finds out whether an ejected backend is back."""

import pytest
from builders import claim, make_pool, specs

from twisted_lb.core.backend import AdminState
from twisted_lb.core.events import BackendEjected, BackendReturned, PoolRecovered
from twisted_lb.core.outcome import Outcome, Refusal

LISTENS = [
    Outcome.OK,
    Outcome.BAD_STATUS,
    Outcome.NO_RESPONSE,
    Outcome.BAD_RESPONSE,
    Outcome.TIMED_OUT,
    Outcome.CUT_SHORT,
]
SILENT = [Outcome.REFUSED, Outcome.CONNECT_TIMEOUT]
TELLS_NOTHING = [outcome for outcome in Outcome if outcome not in LISTENS + SILENT]


def ejected():
    """A pool of one backend that was refused at 0 s."""
    pool, told = make_pool("a:1", checked=False)
    pool.settle(claim(pool), Outcome.REFUSED, 0.0)
    told.clear()
    return pool, told


@pytest.mark.parametrize("outcome", LISTENS, ids=lambda outcome: outcome.name)
def test_a_trial_that_found_somebody_listening_ends_the_ejection(outcome):
    pool, told = ejected()
    pool.settle(claim(pool, 1.0), Outcome.REFUSED, 1.0)
    told.clear()
    pool.settle(claim(pool, 3.0), outcome, 4.0)
    assert told == [BackendReturned("a:1", "a trial request was answered", 4.0), PoolRecovered("p", 4.0)]
    pool.settle(claim(pool, 4.0), Outcome.REFUSED, 5.0)
    assert pool.lease(None, 5.9) is Refusal.NO_BACKEND
    assert claim(pool, 6.0).trial  # the rest is back to one second


@pytest.mark.parametrize("outcome", SILENT, ids=lambda outcome: outcome.name)
def test_a_trial_that_found_nobody_rests_twice_as_long(outcome):
    pool, told = ejected()
    pool.settle(claim(pool, 1.0), outcome, 2.0, "nobody")
    assert told == [BackendEjected("a:1", outcome, "nobody", 4.0, False, 2.0)]
    assert pool.lease(None, 3.9) is Refusal.NO_BACKEND
    assert claim(pool, 4.0).trial


@pytest.mark.parametrize("outcome", TELLS_NOTHING, ids=lambda outcome: outcome.name)
def test_a_trial_that_told_nothing_is_followed_by_another(outcome):
    pool, told = ejected()
    trial = claim(pool, 1.0)
    assert pool.lease(None, 1.2) is Refusal.NO_BACKEND
    pool.settle(trial, outcome, 1.5)
    assert told == []
    assert not pool.backends["a:1"].usable
    assert claim(pool, 1.5).trial
    assert pool.lease(None, 1.5) is Refusal.NO_BACKEND


def test_a_refusal_from_before_the_ejection_does_not_end_the_trial():
    """EHOSTUNREACH takes 3 s to come, a rest 1 s: attempts from before the ejection end while the trial is out."""
    pool, told = make_pool("a:1", checked=False)
    first, late = claim(pool), claim(pool)
    pool.settle(first, Outcome.REFUSED, 0.0)
    trial = claim(pool, 1.0)
    assert pool.lease(None, 1.0) is Refusal.NO_BACKEND
    told.clear()
    pool.settle(late, Outcome.REFUSED, 2.0)
    assert told == []
    assert pool.lease(None, 100.0) is Refusal.NO_BACKEND  # the one trial is still out
    pool.settle(trial, Outcome.OK, 101.0)
    assert pool.backends["a:1"].usable


def test_a_good_end_from_before_the_ejection_does_not_end_it():
    pool, _ = make_pool("a:1", checked=False)
    first, late = claim(pool), claim(pool)
    pool.settle(first, Outcome.REFUSED, 0.0)
    pool.settle(late, Outcome.OK, 0.5)
    assert not pool.backends["a:1"].usable


@pytest.mark.parametrize("outcome", Outcome, ids=lambda outcome: outcome.name)
def test_the_trial_of_a_removed_backend_is_no_news(outcome):
    pool, told = ejected()
    trial = claim(pool, 1.0)
    pool.update(specs("b:1"), 1.0)
    told.clear()
    pool.settle(trial, outcome, 2.0)
    assert told == []
    assert trial.backend.in_flight == 0


@pytest.mark.parametrize("admin", [AdminState.DRAIN, AdminState.MAINT])
def test_who_the_operator_took_out_gets_no_trial(admin):
    pool, _ = ejected()
    pool.command(pool.backends["a:1"], admin, 0.5)
    assert pool.lease(None, 10.0) is Refusal.NO_BACKEND
    pool.command(pool.backends["a:1"], AdminState.READY, 11.0)
    assert claim(pool, 11.0).trial


def test_who_is_down_gets_no_trial():
    pool, _ = ejected()
    pool.observe_probe(pool.backends["a:1"], False, "down", 0.5)
    assert pool.lease(None, 10.0) is Refusal.NO_BACKEND
