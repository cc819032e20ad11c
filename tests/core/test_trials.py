"""Without checks, one request at a time finds out whether an ejected backend is back."""

import pytest
from builders import claim, make_pool, specs

from twisted_lb.core.ask import ANY
from twisted_lb.core.backend import AdminState
from twisted_lb.core.events import BackendDown, BackendEjected, BackendReturned, BackendUp, PoolRecovered
from twisted_lb.core.outcome import Outcome, Refusal

LISTENS = [
    Outcome.OK,
    Outcome.BAD_STATUS,
    Outcome.NO_RESPONSE,
    Outcome.BAD_RESPONSE,
    Outcome.TIMED_OUT,
    Outcome.CUT_SHORT,
    Outcome.UNPROCESSED,
    Outcome.BACKLOG_FULL,
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
    reason = "found it busy" if outcome is Outcome.BACKLOG_FULL else "was answered"
    assert told == [BackendReturned("p", "a:1", f"a trial request {reason}", 4.0), PoolRecovered("p", 4.0)]
    pool.settle(claim(pool, 4.0), Outcome.REFUSED, 5.0)
    assert pool.claim(ANY, 5.9) is Refusal.NO_BACKEND
    assert claim(pool, 6.0).trial  # the rest is back to one second


@pytest.mark.parametrize("outcome", SILENT, ids=lambda outcome: outcome.name)
def test_a_trial_that_found_nobody_rests_twice_as_long(outcome):
    pool, told = ejected()
    pool.settle(claim(pool, 1.0), outcome, 2.0, "nobody")
    assert told == [BackendEjected("p", "a:1", outcome, "nobody", 4.0, False, 2.0)]
    assert pool.claim(ANY, 3.9) is Refusal.NO_BACKEND
    assert claim(pool, 4.0).trial


@pytest.mark.parametrize("outcome", TELLS_NOTHING, ids=lambda outcome: outcome.name)
def test_a_trial_that_told_nothing_is_followed_by_another(outcome):
    pool, told = ejected()
    trial = claim(pool, 1.0)
    assert pool.claim(ANY, 1.2) is Refusal.NO_BACKEND
    pool.settle(trial, outcome, 1.5)
    assert told == []
    assert not pool.backends["a:1"].usable
    assert claim(pool, 1.5).trial
    assert pool.claim(ANY, 1.5) is Refusal.NO_BACKEND


def test_a_refusal_from_before_the_ejection_does_not_end_the_trial():
    """EHOSTUNREACH takes 3 s to come, a rest 1 s: attempts from before the ejection end while the trial is out."""
    pool, told = make_pool("a:1", checked=False)
    first, late = claim(pool), claim(pool)
    pool.settle(first, Outcome.REFUSED, 0.0)
    trial = claim(pool, 1.0)
    assert pool.claim(ANY, 1.0) is Refusal.NO_BACKEND
    told.clear()
    pool.settle(late, Outcome.REFUSED, 2.0)
    assert told == []
    assert pool.claim(ANY, 100.0) is Refusal.NO_BACKEND  # the one trial is still out
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
    assert pool.claim(ANY, 10.0) is Refusal.NO_BACKEND
    pool.command(pool.backends["a:1"], AdminState.READY, 11.0)
    assert claim(pool, 11.0).trial


def test_who_is_down_gets_no_trial():
    pool, _ = ejected()
    pool.observe_probe(pool.backends["a:1"], False, "down", 0.5)
    assert pool.claim(ANY, 10.0) is Refusal.NO_BACKEND


def test_checks_that_flip_while_a_trial_is_out_leave_it_the_only_one():
    pool, told = ejected()
    backend = pool.backends["a:1"]
    trial = claim(pool, 1.0)
    pool.observe_probe(backend, False, "down", 1.1)
    assert pool.claim(ANY, 5.0) is Refusal.NO_BACKEND
    for now in (6.0, 7.0):
        pool.observe_probe(backend, True, "up", now)
    assert pool.claim(ANY, 8.0) is Refusal.NO_BACKEND
    pool.settle(trial, Outcome.OK, 9.0)
    assert told == [
        BackendDown("p", "a:1", "down", 1.1),
        BackendUp("p", "a:1", "up", 7.0),
        BackendReturned("p", "a:1", "a trial request was answered", 9.0),
        PoolRecovered("p", 9.0),
    ]
    assert not claim(pool, 9.0).trial


def test_a_trial_that_succeeds_does_not_overrule_checks_nor_the_operator():
    pool, told = ejected()
    backend = pool.backends["a:1"]
    trial = claim(pool, 1.0)
    pool.observe_probe(backend, False, "down", 1.1)
    pool.command(backend, AdminState.MAINT, 1.2)
    told.clear()
    pool.settle(trial, Outcome.OK, 2.0)
    assert told == [BackendReturned("p", "a:1", "a trial request was answered", 2.0)]
    assert pool.claim(ANY, 100.0) is Refusal.NO_BACKEND


@pytest.mark.parametrize("outcome", [Outcome.OK, Outcome.REFUSED, Outcome.CANCELLED], ids=lambda outcome: outcome.name)
def test_an_update_while_a_trial_is_out_changes_nothing_about_it(outcome):
    pool, _ = ejected()
    trial = claim(pool, 1.0)
    pool.update(specs("a:1,weight=7"), 1.5)
    assert pool.claim(ANY, 1.9) is Refusal.NO_BACKEND
    pool.settle(trial, outcome, 2.0)
    assert pool.backends["a:1"] is trial.backend
    assert pool.backends["a:1"].usable == (outcome is Outcome.OK)
    assert claim(pool, 4.0).trial == (outcome is not Outcome.OK)


def test_a_change_while_an_ejected_one_rests_does_not_wake_it_early():
    pool, _ = ejected()
    pool.update(specs("a:1,weight=2"), 0.5)
    assert pool.claim(ANY, 0.9) is Refusal.NO_BACKEND
    assert claim(pool, 1.0).trial


def test_many_ejected_ones_get_their_trials_each_at_its_time():
    pool, _ = make_pool("a:1", "b:1", "c:1", checked=False)
    leases = [claim(pool) for _ in range(3)]
    for lease, now in zip(leases, (0.0, 0.4, 0.8), strict=True):
        pool.settle(lease, Outcome.REFUSED, now)
    order = [lease.backend for lease in leases]
    assert pool.claim(ANY, 0.9) is Refusal.NO_BACKEND
    for backend, now in zip(order, (1.0, 1.4, 1.8), strict=True):
        assert pool.claim(ANY, now - 0.01) is Refusal.NO_BACKEND
        trial = claim(pool, now)
        assert trial.backend is backend
        assert trial.trial


def test_a_trial_is_not_made_with_a_request_that_has_tried_it():
    pool, _ = make_pool("a:1", "b:1", checked=False)
    backend = claim(pool).backend
    while (lease := claim(pool)).backend is not backend:
        pool.settle(lease, Outcome.OK, 0.0)
    pool.settle(lease, Outcome.REFUSED, 0.0)
    assert all(claim(pool, 1.0, tried=(backend,)).backend is not backend for _ in range(6))
    assert any(claim(pool, 1.0).trial for _ in range(2))


def test_with_checks_there_are_no_trials_however_long_it_takes():
    pool, _ = make_pool("a:1", checked=True)
    pool.settle(claim(pool), Outcome.REFUSED, 0.0)
    pool.tick(1e6)
    assert pool.claim(ANY, 1e6) is Refusal.NO_BACKEND


def test_rests_double_to_half_a_minute_and_begin_again_after_an_answer():
    pool, told = make_pool("a:1", checked=False)
    now, rests = 0.0, []
    for outcome in [Outcome.REFUSED] * 8 + [Outcome.OK, Outcome.REFUSED]:
        told.clear()
        pool.settle(claim(pool, now), outcome, now)
        if outcome is Outcome.REFUSED:
            rests.append(told[0].until - now)
            now = told[0].until
    assert rests == [1, 2, 4, 8, 16, 30, 30, 30, 1]


def test_without_checks_what_somebody_reports_does_not_end_an_ejection():
    pool, told = ejected()
    for now in (0.1, 0.2, 0.3):
        pool.observe_probe(pool.backends["a:1"], True, "ok", now)
    assert told == []
    assert not pool.backends["a:1"].usable
