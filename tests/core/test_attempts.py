"""The attempts at one request."""

from dataclasses import replace

import pytest
from builders import make_pool

from twisted_lb.core.ask import ANY
from twisted_lb.core.attempts import Attempts
from twisted_lb.core.lease import Lease
from twisted_lb.core.never import NEVER
from twisted_lb.core.outcome import CONSEQUENCE, Outcome, Refusal, Retry
from twisted_lb.core.queue import Ticket
from twisted_lb.core.retry import RetryRules

ALWAYS = {outcome for outcome in Outcome if CONSEQUENCE[outcome].retry is Retry.ALWAYS}
FREE = {Outcome.STALE_REUSE, Outcome.UNPROCESSED}
IF_IDEMPOTENT = {outcome for outcome in Outcome if CONSEQUENCE[outcome].retry is Retry.IF_IDEMPOTENT}

each_outcome = pytest.mark.parametrize("outcome", Outcome, ids=lambda outcome: outcome.name)


def attempts_at(pool, *, more: int = 2, idempotent: bool = True, bad_statuses=()) -> Attempts:
    return Attempts(pool, RetryRules(more, frozenset(bad_statuses)), ANY, idempotent=idempotent)


def begun(*texts: str, **how):
    """A request that is at its first backend."""
    pool, _ = make_pool(*(texts or ("a:1", "b:1", "c:1")))
    attempts = attempts_at(pool, **how)
    assert isinstance(attempts.begin(0.0), Lease)
    return attempts


def fails(attempts: Attempts, outcome: Outcome, now: float = 0.0, *, replayable: bool = True):
    """As an exchange does it: settle, then ask for another one."""
    attempts.ended(attempts.current, outcome, now, "x")
    return attempts.again(outcome, now, replayable=replayable)


def saved(pool, now: float = 0.0) -> int:
    """How many retries the budget still holds; it is empty then."""
    return sum(pool.budget.withdraw(now) for _ in range(1000))


def test_an_attempt_tells_how_it_went():
    attempts = begun()
    attempt = attempts.current
    attempt.way = object()
    assert (attempt.began, attempt.connected_at, attempt.due, attempt.outcome) == (0.0, NEVER, NEVER, None)
    assert repr(attempt) == f"<Attempt at {attempt.lease.backend.name}: under way>"
    attempts.ended(attempt, Outcome.TIMED_OUT, 2.0, "no answer in 2 s")
    assert (attempt.outcome, attempt.detail, attempt.way) == (Outcome.TIMED_OUT, "no answer in 2 s", None)
    assert repr(attempt) == f"<Attempt at {attempt.lease.backend.name}: TIMED_OUT>"
    assert not attempt.lease.open
    assert repr(attempts) == "<Attempts 1 made>"


def test_an_attempt_ends_once():
    attempts = begun()
    attempts.ended(attempts.current, Outcome.OK, 1.0)
    with pytest.raises(AssertionError, match="twice"):
        attempts.ended(attempts.current, Outcome.OK, 1.0)


def test_another_attempt_goes_to_another_backend_each_time():
    attempts = begun()
    assert isinstance(fails(attempts, Outcome.REFUSED), Lease)
    assert isinstance(fails(attempts, Outcome.TIMED_OUT), Lease)
    assert {attempt.lease.backend.name for attempt in attempts.made} == {"a:1", "b:1", "c:1"}
    assert attempts.made[-1] is attempts.current


def test_nobody_left_is_a_refusal():
    attempts = begun("a:1")
    assert fails(attempts, Outcome.TIMED_OUT) is Refusal.NO_BACKEND
    assert len(attempts.made) == 1


def test_a_request_that_finds_nobody_has_no_attempt():
    pool, _ = make_pool()
    attempts = attempts_at(pool)
    assert attempts.begin(0.0) is Refusal.NO_BACKEND
    assert (attempts.made, attempts.current) == ([], None)
    assert attempts.again(Outcome.REFUSED, 0.0, replayable=True) is None


@pytest.mark.parametrize("outcome", [Outcome.STALE_REUSE, Outcome.UNPROCESSED], ids=lambda outcome: outcome.name)
def test_where_only_the_connection_was_bad_the_same_backend_may_be_asked_again(outcome):
    attempts = begun("a:1")
    assert isinstance(fails(attempts, outcome), Lease)
    assert [attempt.lease.backend.name for attempt in attempts.made] == ["a:1", "a:1"]


def test_whoever_was_tried_before_is_not_asked():
    pool, _ = make_pool("a:1", "b:1")
    attempts = attempts_at(pool)
    attempts.tried = (pool.backends["a:1"],)
    attempts.begin(0.0)
    assert attempts.current.lease.backend.name == "b:1"


@each_outcome
def test_the_table_says_whether_there_is_another_attempt(outcome):
    assert isinstance(fails(begun(idempotent=True), outcome), Lease) == (outcome in ALWAYS | IF_IDEMPOTENT)
    assert isinstance(fails(begun(idempotent=False), outcome), Lease) == (outcome in ALWAYS)


def test_a_bad_status_goes_elsewhere_where_that_is_configured():
    assert fails(begun(), Outcome.BAD_STATUS) is None
    assert isinstance(fails(begun(bad_statuses=[503]), Outcome.BAD_STATUS), Lease)
    assert fails(begun(bad_statuses=[503], idempotent=False), Outcome.BAD_STATUS) is None


def test_a_bad_answer_may_be_left_for_another_attempt_before_it_has_ended():
    """Whoever has the head of an answer wants to know first whether anybody else is there to ask."""
    attempts = begun("a:1", "b:1", bad_statuses=[503])
    first = attempts.current
    assert isinstance(attempts.again(Outcome.BAD_STATUS, 0.0, replayable=True), Lease)
    assert attempts.current is not first
    assert attempts.current.lease.backend is not first.lease.backend
    attempts.ended(first, Outcome.BAD_STATUS, 0.0, "status 503")
    assert len(attempts.tried) == 1
    assert attempts.current.outcome is None


@pytest.mark.parametrize("outcome", sorted(ALWAYS | IF_IDEMPOTENT), ids=lambda outcome: outcome.name)
def test_what_cannot_be_sent_again_is_not(outcome):
    assert fails(begun(), outcome, replayable=False) is None


def test_attempts_end():
    pool, _ = make_pool("a:1", "b:1", "c:1", "d:1")
    attempts = attempts_at(pool, more=2)
    attempts.begin(0.0)
    assert isinstance(fails(attempts, Outcome.TIMED_OUT), Lease)
    assert isinstance(fails(attempts, Outcome.TIMED_OUT), Lease)
    assert fails(attempts, Outcome.TIMED_OUT) is None
    assert len(attempts.made) == 3


def test_no_more_attempts_are_none():
    assert fails(begun(more=0), Outcome.REFUSED) is None


def test_without_time_left_nobody_else_is_asked_to_be_blamed():
    attempts = begun()
    attempts.due = 5.0
    assert fails(attempts, Outcome.TIMED_OUT, 5.0) is None
    attempts = begun()
    attempts.due = 5.0
    assert isinstance(fails(attempts, Outcome.TIMED_OUT, 4.9), Lease)


def test_each_request_pays_into_the_budget_once_and_its_other_attempts_do_not():
    pool, _ = make_pool("a:1", "b:1", budget_percent=100, budget_per_s=0)
    attempts = attempts_at(pool)
    attempts.begin(0.0)
    assert isinstance(fails(attempts, Outcome.TIMED_OUT), Lease)
    assert saved(pool) == 0


def test_a_request_that_finds_nobody_pays_in_too():
    pool, _ = make_pool(budget_percent=100, budget_per_s=0)
    attempts_at(pool).begin(0.0)
    assert saved(pool) == 1


def test_an_empty_budget_allows_nothing():
    pool, _ = make_pool("a:1", "b:1", budget_percent=0, budget_per_s=0)
    attempts = attempts_at(pool)
    attempts.begin(0.0)
    assert fails(attempts, Outcome.REFUSED) is None


@each_outcome
def test_only_a_yes_is_paid_for(outcome):
    for change in ({}, {"replayable": False}, {"due": 0.0}, {"more": 0}, {"idempotent": False}):
        pool, _ = make_pool("a:1", "b:1", budget_percent=0, budget_per_s=1)
        attempts = attempts_at(pool, more=change.get("more", 2), idempotent=change.get("idempotent", True))
        attempts.begin(0.0)
        attempts.due = change.get("due", NEVER)
        verdict = fails(attempts, outcome, replayable=change.get("replayable", True))
        assert saved(pool) == 10 - (verdict is not None and outcome not in FREE)


def test_a_kept_connection_that_was_closed_costs_neither_an_attempt_nor_the_budget():
    """Keep-alive race: nobody has read the request, and its repetition loads nobody."""
    pool, _ = make_pool("a:1", budget_percent=0, budget_per_s=0)
    attempts = attempts_at(pool, more=1)
    attempts.begin(0.0)
    assert isinstance(fails(attempts, Outcome.STALE_REUSE), Lease)
    assert fails(attempts, Outcome.NO_RESPONSE) is None
    pool, _ = make_pool("a:1", "b:1", "c:1", budget_percent=0, budget_per_s=1)
    attempts = attempts_at(pool, more=1)
    attempts.begin(0.0)
    assert isinstance(fails(attempts, Outcome.STALE_REUSE), Lease)
    assert isinstance(fails(attempts, Outcome.NO_RESPONSE), Lease)
    assert fails(attempts, Outcome.NO_RESPONSE) is None
    assert len(attempts.made) == 3


def test_what_a_backend_has_not_begun_costs_neither_an_attempt_nor_the_budget_but_only_twice():
    """Whatever the method: RFC 9113 8.7 says that it may be sent again."""
    pool, _ = make_pool("a:1", budget_percent=0, budget_per_s=0)
    attempts = attempts_at(pool, more=1, idempotent=False)
    attempts.begin(0.0)
    for _ in range(2):
        assert isinstance(fails(attempts, Outcome.UNPROCESSED), Lease)
    assert fails(attempts, Outcome.UNPROCESSED) is None
    assert len(attempts.made) == 3


def test_what_a_backend_has_not_begun_leaves_the_attempts_that_there_are():
    pool, _ = make_pool("a:1", "b:1", "c:1", budget_percent=0, budget_per_s=1)
    attempts = attempts_at(pool, more=1)
    attempts.begin(0.0)
    assert isinstance(fails(attempts, Outcome.UNPROCESSED), Lease)
    assert isinstance(fails(attempts, Outcome.NO_RESPONSE), Lease)
    assert isinstance(fails(attempts, Outcome.UNPROCESSED), Lease)
    assert fails(attempts, Outcome.NO_RESPONSE) is None
    assert len(attempts.made) == 4


@pytest.mark.parametrize("outcome", sorted(FREE), ids=lambda outcome: outcome.name)
def test_who_wants_no_retries_gets_none_that_are_free_either(outcome):
    assert fails(begun("a:1", more=0), outcome) is None


def waiting():
    """A request that waits, and the lease that it waits for."""
    pool, _ = make_pool("a:1", max_in_flight=1, max_queued=1, queue_timeout_s=5.0, no_backend_s=5.0)
    lease = pool.claim(ANY, 0.0)
    attempts = attempts_at(pool)
    assert isinstance(attempts.begin(1.0), Ticket)
    return attempts, lease


def test_a_ticket_becomes_an_attempt_when_it_is_granted():
    attempts, lease = waiting()
    assert (attempts.current, repr(attempts)) == (None, "<Attempts 0 made, waiting>")
    attempts.pool.settle(lease, Outcome.OK, 2.0)
    ((ticket, verdict),) = attempts.pool.grants(2.0)
    attempts.granted(ticket, verdict, 2.0)
    assert (attempts.waiting, attempts.current.lease, attempts.current.began) == (None, verdict, 2.0)
    attempts.withdraw()


def test_a_wait_that_was_too_long_leaves_no_attempt():
    attempts, _ = waiting()
    ((ticket, verdict),) = attempts.pool.grants(6.0)
    attempts.granted(ticket, verdict, 6.0)
    assert (attempts.waiting, attempts.made) == (None, [])


def test_whose_client_left_waits_no_longer():
    attempts, _ = waiting()
    attempts.withdraw()
    attempts.withdraw()
    assert attempts.waiting is None
    assert attempts.pool.grants(100.0) == []


def test_what_is_granted_to_others_is_not_taken():
    attempts, lease = waiting()
    attempts.pool.settle(lease, Outcome.OK, 2.0)
    ((ticket, verdict),) = attempts.pool.grants(2.0)
    with pytest.raises(AssertionError, match="not what is waited for"):
        attempts_at(attempts.pool).granted(ticket, verdict, 2.0)


def test_another_attempt_may_have_to_wait_too():
    pool, _ = make_pool("a:1", "b:1", max_in_flight=1, max_queued=1, queue_timeout_s=5.0, no_backend_s=5.0)
    attempts = attempts_at(pool)
    attempts.begin(0.0)
    other = pool.claim(ANY, 0.0)
    assert isinstance(fails(attempts, Outcome.TIMED_OUT, 1.0), Ticket)
    assert pool.grants(1.0) == []  # the one that is free was tried
    pool.settle(other, Outcome.OK, 2.0)
    ((ticket, verdict),) = pool.grants(2.0)
    attempts.granted(ticket, verdict, 2.0)
    assert [attempt.lease.backend.name for attempt in attempts.made] == [
        attempts.tried[0].name,
        other.backend.name,
    ]


def test_a_request_moves_to_another_backend_once_and_pays_for_it():
    attempts = begun(more=3)
    pool, first = attempts.pool, attempts.current
    pool.budget.configure(0, 1)
    assert attempts.may_move(0.0, replayable=True)
    lease = attempts.move(0.0)
    attempts.ended(first, Outcome.BACKEND_DOWN, 0.0, "silent")
    assert lease is not None
    assert lease.backend is not first.lease.backend
    assert attempts.current.lease is lease
    assert not attempts.may_move(1.0, replayable=True)
    assert [one.outcome for one in attempts.made] == [Outcome.BACKEND_DOWN, None]
    assert saved(pool) == 9, "of ten that it holds without a share of the requests"


@pytest.mark.parametrize(
    ("how", "now", "replayable"),
    [
        ({"idempotent": False}, 1.0, True),
        ({"more": 0}, 1.0, True),
        ({}, 1.0, False),
        ({}, 10.0, True),
    ],
)
def test_what_must_not_be_sent_again_does_not_move(how, now, replayable):
    attempts = begun(**how)
    attempts.due = 10.0
    assert not attempts.may_move(now, replayable=replayable)


def test_an_attempt_that_has_ended_does_not_move():
    attempts = begun()
    attempts.ended(attempts.current, Outcome.OK, 1.0)
    assert not attempts.may_move(1.0, replayable=True)


@pytest.mark.parametrize("why", ["nobody else", "spent", "others wait"])
def test_where_a_request_cannot_move_its_attempt_goes_on(why):
    pool, _ = make_pool(
        *(["a:1"] if why == "nobody else" else ["a:1", "b:1"]), max_queued=5, queue_timeout_s=5.0, no_backend_s=5.0
    )
    attempts = attempts_at(pool)
    attempts.begin(0.0)
    if why == "spent":
        saved(pool, 0.0)
    elif why == "others wait":
        pool.configure(replace(pool.settings, max_in_flight=1), 0.0)
        assert isinstance(attempts_at(pool).begin(0.0), Lease)
        assert isinstance(attempts_at(pool).begin(0.0), Ticket)
    attempt = attempts.current
    left = pool.leases
    assert attempts.move(0.0) is None
    assert (attempts.current, attempts.waiting, attempt.outcome, pool.leases) == (attempt, None, None, left)
    if why == "nobody else":
        assert saved(pool) > 0, "nothing was paid"
