"""Requests that wait for a backend."""

import dataclasses

import pytest
from builders import claim, make_pool, specs

from twisted_lb.core.ask import ANY, Ask
from twisted_lb.core.attempts import Attempts
from twisted_lb.core.backend import AdminState
from twisted_lb.core.histogram import Histogram
from twisted_lb.core.lease import Lease
from twisted_lb.core.never import NEVER
from twisted_lb.core.outcome import Outcome, Refusal
from twisted_lb.core.pool import Pool
from twisted_lb.core.queue import Queue, Ticket
from twisted_lb.core.retry import RetryRules


def waiting_pool(*texts: str, most: int = 1, max_queued: int = 3, wait_s: float = 5.0, checked: bool = True):
    pool, _ = make_pool(
        *texts, max_in_flight=most, max_queued=max_queued, queue_timeout_s=wait_s, no_backend_s=wait_s, checked=checked
    )
    return pool


def wait(pool, now: float = 0.0, tried=(), ask: Ask = ANY) -> Ticket:
    ticket = pool.claim(ask, now, tried)
    assert isinstance(ticket, Ticket)
    return ticket


def test_with_the_defaults_nobody_waits():
    pool, _ = make_pool("a:1", max_in_flight=1)
    claim(pool)
    assert pool.claim(ANY, 0.0) is Refusal.ALL_FULL
    assert pool.grants(0.0) == []
    assert pool.wait_due == NEVER


def test_who_finds_everybody_full_waits_and_goes_when_somebody_has_ended():
    pool = waiting_pool("a:1")
    lease = claim(pool)
    ask = Ask(7)
    ticket = wait(pool, 1.0, ask=ask)
    assert (ticket.ask, ticket.queued_at, ticket.until) == (ask, 1.0, 6.0)
    assert pool.grants(2.0) == []
    pool.settle(lease, Outcome.OK, 3.0)
    ((granted, verdict),) = pool.grants(3.0)
    assert granted is ticket
    assert isinstance(verdict, Lease)
    assert verdict.backend.in_flight == 1
    assert pool.grants(3.0) == []


def test_who_came_first_is_served_first():
    pool = waiting_pool("a:1", "b:1")
    leases = [claim(pool), claim(pool)]
    tickets = [wait(pool, now) for now in (1.0, 2.0, 3.0)]
    for lease in leases:
        pool.settle(lease, Outcome.OK, 4.0)
    assert [ticket for ticket, _ in pool.grants(4.0)] == tickets[:2]


def test_whoever_comes_waits_behind_those_that_wait():
    pool = waiting_pool("a:1")
    lease = claim(pool)
    first = wait(pool)
    pool.settle(lease, Outcome.OK, 1.0)
    second = wait(pool, 1.0)
    assert [ticket for ticket, _ in pool.grants(1.0)] == [first]
    assert pool.snapshot().waiting == 1
    pool.withdraw(second)
    assert pool.snapshot().waiting == 0


def test_the_queue_is_bounded():
    pool = waiting_pool("a:1", max_queued=2)
    claim(pool)
    wait(pool)
    wait(pool)
    assert pool.claim(ANY, 0.0) is Refusal.ALL_FULL


def test_who_has_waited_too_long_is_refused_in_the_order_they_came():
    pool = waiting_pool("a:1", wait_s=5.0)
    claim(pool)
    tickets = [wait(pool, now) for now in (1.0, 2.0, 4.0)]
    assert pool.wait_due == 6.0
    assert pool.grants(5.9) == []
    assert pool.grants(7.0) == [(ticket, Refusal.ALL_FULL) for ticket in tickets[:2]]
    assert pool.wait_due == 9.0


def test_a_backend_that_is_there_at_the_last_moment_is_taken():
    pool = waiting_pool("a:1", wait_s=5.0)
    lease = claim(pool)
    wait(pool)
    pool.settle(lease, Outcome.OK, 5.0)
    ((_, verdict),) = pool.grants(5.0)
    assert isinstance(verdict, Lease)


def test_who_withdrew_is_gone_and_takes_nobodys_turn():
    pool = waiting_pool("a:1")
    lease = claim(pool)
    gone, next_ = wait(pool), wait(pool)
    pool.withdraw(gone)
    pool.withdraw(gone)
    pool.settle(lease, Outcome.OK, 1.0)
    assert [ticket for ticket, _ in pool.grants(1.0)] == [next_]
    pool.withdraw(next_)


def test_who_has_tried_the_free_one_lets_others_go_first():
    pool = waiting_pool("a:1", "b:1")
    leases = {lease.backend.name: lease for lease in (claim(pool), claim(pool))}
    a = pool.backends["a:1"]
    picky, other = wait(pool, 0.0, (a,)), wait(pool)
    pool.settle(leases["a:1"], Outcome.OK, 1.0)
    assert [ticket for ticket, _ in pool.grants(1.0)] == [other]
    pool.settle(leases["b:1"], Outcome.OK, 2.0)
    assert [ticket for ticket, _ in pool.grants(2.0)] == [picky]


def test_who_has_tried_everybody_does_not_wait():
    pool = waiting_pool("a:1")
    lease = claim(pool)
    assert pool.claim(ANY, 0.0, (lease.backend,)) is Refusal.NO_BACKEND


def test_nobody_waits_for_those_that_the_operator_took_out():
    pool = waiting_pool("a:1")
    pool.command(pool.backends["a:1"], AdminState.DRAIN, 0.0)
    assert pool.claim(ANY, 0.0) is Refusal.NO_BACKEND


def test_a_wait_for_a_backend_that_is_down_ends_when_it_is_up():
    pool = waiting_pool("a:1")
    a = pool.backends["a:1"]
    pool.observe_probe(a, False, "x", 0.0)
    wait(pool)
    pool.observe_probe(a, True, "x", 1.0)
    assert pool.grants(1.0) == []
    pool.observe_probe(a, True, "x", 2.0)
    assert len(pool.grants(2.0)) == 1


def test_a_waiting_request_is_the_trial():
    pool = waiting_pool("a:1", checked=False)
    pool.settle(claim(pool), Outcome.REFUSED, 0.0)
    wait(pool)
    wait(pool)
    assert pool.grants_due == 0.25, "not after the whole rest of 1 s: somebody waits, and nobody is usable"
    assert pool.grants(0.24) == []
    ((_, verdict),) = pool.grants(0.25)
    assert isinstance(verdict, Lease)
    assert verdict.trial
    assert pool.grants(0.5) == [], "one at a time"
    pool.settle(verdict, Outcome.REFUSED, 0.5)
    assert pool.grants_due == 0.75
    assert len(pool.grants(0.75)) == 1


def test_where_others_are_usable_trials_come_at_the_end_of_their_rest():
    pool = waiting_pool("a:1", "b:1", checked=False)
    refused = claim(pool)
    pool.settle(refused, Outcome.REFUSED, 0.0)
    claim(pool)
    wait(pool)
    assert pool.grants(0.9) == []
    ((_, verdict),) = pool.grants(1.0)
    assert isinstance(verdict, Lease)
    assert verdict.trial


def test_after_a_long_outage_the_first_request_is_the_trial_at_once():
    pool = waiting_pool("a:1", checked=False)
    pool.settle(claim(pool), Outcome.REFUSED, 0.0)
    for now in (1.0, 3.0, 7.0, 15.0, 31.0):
        pool.tick(now)
        pool.settle(claim(pool, now), Outcome.REFUSED, now)
    wait(pool, 40.0)
    ((_, verdict),) = pool.grants(40.0)
    assert isinstance(verdict, Lease)


def test_a_trial_that_is_connected_ends_the_ejection_whatever_becomes_of_it():
    pool = waiting_pool("a:1", checked=False, most=0)
    pool.settle(claim(pool), Outcome.REFUSED, 0.0)
    wait(pool)
    wait(pool)
    ((_, verdict),) = pool.grants(0.25)
    assert isinstance(verdict, Lease)
    pool.reached(verdict, 0.3)
    assert pool.backends["a:1"].usable
    assert len(pool.grants(0.3)) == 1
    pool.reached(verdict, 0.4)
    pool.settle(verdict, Outcome.CLIENT_GONE, 0.5)
    assert pool.backends["a:1"].usable


def test_with_checks_nobody_is_a_trial():
    pool = waiting_pool("a:1")
    pool.settle(claim(pool), Outcome.REFUSED, 0.0)
    wait(pool)
    assert pool.grants_due == pool.wait_due
    assert pool.grants(3.0) == []


def test_while_nobody_is_usable_one_good_check_is_enough_for_who_was_silent():
    pool = waiting_pool("a:1", "b:1")
    a, b = pool.backends.values()
    for now in (0.0, 1.0, 2.0):
        pool.observe_probe(a, False, "refused", now, silent=True)
        pool.observe_probe(b, False, "status 503", now)
    assert (a.usable, b.usable) == (False, False)
    pool.observe_probe(b, True, "ok", 3.0)
    assert not b.usable, "it was there and said no"
    pool.observe_probe(a, True, "ok", 3.0)
    assert a.usable


def test_who_said_no_once_while_it_was_down_is_not_merely_silent():
    pool = waiting_pool("a:1")
    a = pool.backends["a:1"]
    pool.observe_probe(a, False, "refused", 0.0, silent=True)
    pool.observe_probe(a, False, "status 503", 1.0)
    pool.observe_probe(a, False, "refused", 2.0, silent=True)
    pool.observe_probe(a, True, "ok", 3.0)
    assert not a.usable
    pool.observe_probe(a, True, "ok", 4.0)
    assert a.usable
    for now in (5.0, 6.0, 7.0):
        pool.observe_probe(a, False, "refused", now, silent=True)
    pool.observe_probe(a, True, "ok", 8.0)
    assert a.usable, "what was before it was up does not count"


def test_while_somebody_else_is_usable_as_many_checks_as_ever_are_needed():
    pool = waiting_pool("a:1", "b:1")
    a = pool.backends["a:1"]
    for now in (0.0, 1.0, 2.0):
        pool.observe_probe(a, False, "refused", now, silent=True)
    pool.observe_probe(a, True, "ok", 3.0)
    assert not a.usable


def test_a_queue_that_is_about_to_be_served_is_not_full():
    """Between the return of a backend and the end of that turn whoever came was told 503."""
    pool = waiting_pool("a:1", max_queued=1, most=0)
    pool.observe_probe(pool.backends["a:1"], False, "refused", 0.0, silent=True)
    first = wait(pool)
    assert pool.claim(ANY, 1.0) is Refusal.NO_BACKEND
    pool.observe_probe(pool.backends["a:1"], True, "status 200", 1.0)
    second = wait(pool, 1.0)
    granted = pool.grants(1.0)
    assert [ticket for ticket, _ in granted] == [first, second]
    assert all(isinstance(verdict, Lease) for _, verdict in granted)


def test_nor_is_one_whose_backend_has_room_again():
    pool = waiting_pool("a:1", max_queued=1)
    lease = claim(pool)
    first = wait(pool)
    assert pool.claim(ANY, 1.0) is Refusal.ALL_FULL
    pool.settle(lease, Outcome.OK, 1.0)
    second = wait(pool, 1.0)
    assert pool.claim(ANY, 1.0) is Refusal.ALL_FULL, "there is room for one, and one waits for that"
    assert [ticket for ticket, _ in pool.grants(1.0)] == [first]
    assert pool.claim(ANY, 1.0) is Refusal.ALL_FULL
    pool.withdraw(second)


def test_nor_is_one_that_waits_for_a_trial_which_is_due():
    pool = waiting_pool("a:1", checked=False, max_queued=1, most=0)
    pool.settle(claim(pool), Outcome.REFUSED, 0.0)
    first = wait(pool)
    pool.tick(0.25)
    second = wait(pool, 0.25)
    assert pool.claim(ANY, 0.25) is Refusal.NO_BACKEND
    assert [ticket for ticket, _ in pool.grants(0.25)] == [first]
    pool.withdraw(second)


# A wait in the place of an attempt.


def tries(pool: Pool, more_attempts: int = 2) -> Attempts:
    return Attempts(pool, RetryRules(more_attempts, frozenset()), ANY, idempotent=False)


def test_a_request_that_nobody_listened_to_waits_like_a_new_one_and_no_attempt_is_counted():
    pool = waiting_pool("a:1", checked=False)
    request = tries(pool)
    request.begin(0.0)
    verdict: object = None
    for number in range(8):
        now = number * 0.25
        assert request.current is not None
        request.ended(request.current, Outcome.REFUSED, now)
        verdict = request.again(Outcome.REFUSED, now, replayable=True)
        assert isinstance(verdict, Ticket), number
        ((_, lease),) = pool.grants(now + 0.25)
        request.granted(verdict, lease, now + 0.25)
    assert request.count == 9
    assert request.current is not None
    request.ended(request.current, Outcome.OK, 3.0)


def test_its_waits_together_are_no_longer_than_one():
    pool = waiting_pool("a:1", checked=False, wait_s=0.6)
    request = tries(pool)
    request.begin(0.0)
    untils = []
    for now in (0.0, 0.25, 0.5):
        assert request.current is not None
        request.ended(request.current, Outcome.REFUSED, now)
        verdict = request.again(Outcome.REFUSED, now, replayable=True)
        assert isinstance(verdict, Ticket)
        untils.append(verdict.until)
        ((_, lease),) = pool.grants(now + 0.25)
        request.granted(verdict, lease, now + 0.25)
    assert untils == [0.6, 0.6, 0.6]
    assert request.current is not None
    request.ended(request.current, Outcome.REFUSED, 0.75)
    assert request.again(Outcome.REFUSED, 0.75, replayable=True) is Refusal.NO_BACKEND


def test_who_waits_again_stands_where_it_would_have_stood():
    pool = waiting_pool("a:1", checked=False, wait_s=2.0)
    request = tries(pool)
    request.begin(0.0)
    assert request.current is not None
    request.ended(request.current, Outcome.REFUSED, 0.0)
    first = request.again(Outcome.REFUSED, 0.0, replayable=True)
    second = pool.claim(ANY, 0.1)
    ((ticket, lease),) = pool.grants(0.25)
    assert ticket is first
    request.granted(ticket, lease, 0.25)
    request.ended(request.current, Outcome.REFUSED, 0.25)
    third = pool.claim(ANY, 0.3)
    again = request.again(Outcome.REFUSED, 0.3, replayable=True)
    assert pool.wait_due == 2.0
    verdicts = [ticket for ticket, _ in pool.grants(9.0)]
    assert verdicts == [again, second, third]


@pytest.mark.parametrize("outcome", [Outcome.NO_RESPONSE, Outcome.TIMED_OUT])
def test_who_was_listened_to_does_not_wait_in_the_place_of_an_attempt(outcome):
    pool = waiting_pool("a:1", checked=False)
    request = tries(pool)
    request.begin(0.0)
    assert request.current is not None
    request.ended(request.current, outcome, 0.0)
    assert request.again(outcome, 0.0, replayable=True) is None


def test_without_retries_nobody_waits_after_an_attempt():
    pool = waiting_pool("a:1", checked=False)
    request = tries(pool, more_attempts=0)
    request.begin(0.0)
    assert request.current is not None
    request.ended(request.current, Outcome.REFUSED, 0.0)
    assert request.again(Outcome.REFUSED, 0.0, replayable=True) is None


def test_a_backend_that_comes_is_for_those_that_wait():
    pool = waiting_pool("a:1")
    claim(pool)
    wait(pool)
    pool.update(specs("a:1", "b:1"), 1.0)
    ((_, verdict),) = pool.grants(1.0)
    assert isinstance(verdict, Lease)
    assert verdict.backend.name == "b:1"


def test_a_shorter_wait_holds_for_whoever_comes_and_who_waits_keeps_the_time_that_it_was_given():
    pool = waiting_pool("a:1", wait_s=10.0)
    claim(pool)
    before = wait(pool)
    pool.configure(dataclasses.replace(pool.settings, queue_timeout_s=1.0), 1.0)
    after = wait(pool, 1.0)
    assert (before.until, after.until, pool.wait_due) == (10.0, 2.0, 2.0)
    assert pool.grants(2.0) == [(after, Refusal.ALL_FULL)]


def test_without_a_queue_any_more_those_in_it_wait_on_and_whoever_comes_goes_straight():
    pool = waiting_pool("a:1")
    lease = claim(pool)
    ticket = wait(pool)
    pool.configure(dataclasses.replace(pool.settings, max_queued=0), 1.0)
    assert pool.claim(ANY, 1.0) is Refusal.ALL_FULL
    pool.settle(lease, Outcome.OK, 1.0)
    straight = claim(pool, 1.0)
    pool.settle(straight, Outcome.OK, 1.0)
    assert [one for one, _ in pool.grants(1.0)] == [ticket]


def test_it_shows_who_waits():
    queue = Queue()
    ticket = Ticket(ANY, 1.0, 6.0)
    queue.join(ticket)
    assert repr(queue) == "<Queue 1 waiting>"
    assert repr(ticket) == "<Ticket 5 s from 1>"


def test_who_waits_while_nobody_is_usable_waits_as_long_as_that_says():
    pool, _ = make_pool("a:1", max_in_flight=1, max_queued=3, queue_timeout_s=10.0, no_backend_s=2.0)
    a = pool.backends["a:1"]
    pool.observe_probe(a, False, "x", 0.0, silent=True)
    for _ in range(3):
        pool.observe_probe(a, False, "x", 0.0, silent=True)
    first = wait(pool)
    assert first.until == 2.0
    assert pool.grants(2.0) == [(first, Refusal.NO_BACKEND)]


def test_who_came_while_nobody_was_usable_waits_as_long_as_others_once_somebody_is():
    pool, _ = make_pool("a:1", max_in_flight=1, max_queued=3, queue_timeout_s=10.0, no_backend_s=2.0)
    a = pool.backends["a:1"]
    for _ in range(3):
        pool.observe_probe(a, False, "x", 0.0, silent=True)
    first, second = wait(pool), wait(pool)
    pool.observe_probe(a, True, "x", 1.0)
    ((served, lease),) = pool.grants(1.0)
    assert (served, isinstance(lease, Lease)) == (first, True)
    assert pool.grants(2.0) == []
    assert pool.wait_due == 10.0
    assert pool.grants(10.0) == [(second, Refusal.ALL_FULL)]


def test_what_nobody_could_answer_in_time_any_more_is_not_sent():
    pool = waiting_pool("a:1", wait_s=10.0)
    pool.backends["a:1"].totals.lasted[2] = Histogram()
    pool.backends["a:1"].totals.lasted[2].add(1.0)
    lease = claim(pool)
    assert pool.claim(ANY, 0.0, deadline=0.9) is Refusal.LATE
    ticket = pool.claim(ANY, 0.0, deadline=5.0)
    assert (ticket.until, ticket.late) == (pytest.approx(4.0, abs=0.15), True)
    pool.settle(lease, Outcome.OK, 4.5)
    assert pool.grants(4.5) == [(ticket, Refusal.LATE)]
    assert pool.leases == 0


def test_a_deadline_that_is_far_shortens_no_wait():
    pool = waiting_pool("a:1", wait_s=10.0)
    claim(pool)
    ticket = pool.claim(ANY, 0.0, deadline=60.0)
    assert (ticket.until, ticket.late) == (10.0, False)


def test_the_wait_is_foretold_by_how_many_end_in_a_second():
    pool = waiting_pool("a:1", max_queued=10)
    lease = claim(pool)
    for _ in range(5):
        wait(pool)
    assert pool.pace.retry_after_s(pool.waiting) == 1, "nothing is known yet"
    for now in range(1, 6):
        pool.tick(float(now))
        pool.settle(lease, Outcome.OK, now + 0.5)
        ((_, lease),) = pool.grants(now + 0.5)
    assert pool.pace.per_s == 1.0
    for _ in range(7):
        wait(pool, 6.0)
    assert pool.pace.retry_after_s(pool.waiting) == 8


def test_a_knock_in_vain_is_no_news_and_makes_no_rest_longer():
    pool, told = make_pool("a:1", max_queued=3, queue_timeout_s=5.0, no_backend_s=5.0, checked=False)
    pool.settle(claim(pool), Outcome.REFUSED, 0.0)
    told.clear()
    wait(pool)
    for now in (0.25, 0.5, 0.75):
        ((_, lease),) = pool.grants(now)
        assert isinstance(lease, Lease)
        pool.settle(lease, Outcome.REFUSED, now)
        last = wait(pool, now)
    assert told == []
    pool.withdraw(last)
    pool.settle(claim(pool, 1.0), Outcome.REFUSED, 1.0)
    assert pool.backends["a:1"].ejection.until == 2.0, "the rest is as long as it was"


def test_who_waits_for_one_backend_alone_delays_nobody_who_would_take_another():
    pool = waiting_pool("a:1", "b:1", "c:1", most=2)
    a, b, c = pool.backends.values()
    leases = [pool.claim_on(a, ANY, 0.0) for _ in range(2)]
    ticket = pool.claim_on(a, ANY, 1.0)
    assert ticket.only is a
    assert {claim(pool, 1.0).backend for _ in range(4)} == {b, c}
    behind = wait(pool, 2.0)
    assert isinstance(pool.claim_on(b, ANY, 2.0), Ticket), "now somebody waits for whoever is free first"
    pool.settle(leases[0], Outcome.OK, 3.0)
    ((first, lease),) = pool.grants(3.0)
    assert (first, lease.backend) == (ticket, a)
    pool.settle(leases[1], Outcome.OK, 4.0)
    assert [one for one, _ in pool.grants(4.0)] == [behind]


def test_where_nobody_waits_a_full_backend_is_not_claimed():
    pool, _ = make_pool("a:1", "b:1", max_in_flight=1)
    a, _ = pool.backends.values()
    assert isinstance(pool.claim_on(a, ANY, 0.0), Lease)
    assert pool.claim_on(a, ANY, 0.0) is None
    assert a.in_flight == 1


def out(pool, how: str) -> None:
    """Take the first backend out."""
    a = next(iter(pool.backends.values()))
    if how == "down":
        for _ in range(3):
            pool.observe_probe(a, False, "x", 0.0)
    elif how == "ejected":
        pool.settle(
            claim(pool, tried=tuple(one for one in pool.backends.values() if one is not a)), Outcome.REFUSED, 0.0
        )
    elif how == "removed":
        pool.update(specs("b:1"), 0.0)
    elif how == "moved":
        pool.update([dataclasses.replace(specs("c:1")[0], name="a:1"), *specs("b:1")], 0.0)
    else:
        pool.command(a, AdminState(how), 0.0)


@pytest.mark.parametrize("how", ["drain", "maint", "down", "ejected", "removed", "moved"])
def test_a_backend_that_is_out_is_not_claimed_for_anybody(how):
    pool, _ = make_pool("a:1", "b:1", max_in_flight=1, max_queued=3, queue_timeout_s=5.0, no_backend_s=5.0)
    a, _ = pool.backends.values()
    out(pool, how)
    assert pool.claim_on(a, ANY, 0.0) is None
    attempts = Attempts(pool, RetryRules(1, frozenset()), ANY, idempotent=True)
    assert attempts.begin_on(a, 0.0) is None
    assert (attempts.count, attempts.current, attempts.waiting) == (0, None, None)
    assert isinstance(attempts.begin(0.0), Lease)


def test_an_attempt_that_waits_for_its_backend_is_the_first():
    pool = waiting_pool("a:1", "b:1")
    a, _ = pool.backends.values()
    first = pool.claim_on(a, ANY, 0.0)
    attempts = Attempts(pool, RetryRules(1, frozenset()), ANY, idempotent=True)
    ticket = attempts.begin_on(a, 0.0)
    assert attempts.waiting is ticket
    pool.settle(first, Outcome.OK, 1.0)
    ((_, lease),) = pool.grants(1.0)
    attempts.granted(ticket, lease, 1.0)
    assert (attempts.count, attempts.current.lease.backend) == (1, a)
    attempts.ended(attempts.current, Outcome.OK, 2.0)
    assert a.in_flight == 0


def test_whoever_comes_takes_no_place_from_a_retry_that_waits_for_it():
    pool = waiting_pool("a:1", "b:1")
    a, b = pool.backends.values()
    leases = {lease.backend: lease for lease in (claim(pool), claim(pool))}
    retry = pool.claim(ANY, 0.0, (a,), again=True)
    pool.settle(leases[b], Outcome.OK, 1.0)
    new = pool.claim(ANY, 1.0)
    assert isinstance(new, Ticket), "as where one connection sends its requests ahead"
    assert pool.grants_due == -NEVER
    ((first, lease),) = pool.grants(1.0)
    assert (first, lease.backend) == (retry, b)
    assert pool.grants_due == pool.wait_due
    pool.settle(leases[a], Outcome.OK, 2.0)
    assert [one for one, _ in pool.grants(2.0)] == [new]


def test_whoever_comes_takes_what_a_retry_has_tried():
    pool = waiting_pool("a:1", "b:1")
    a, _ = pool.backends.values()
    leases = {lease.backend: lease for lease in (claim(pool), claim(pool))}
    retry = pool.claim(ANY, 0.0, (a,), again=True)
    pool.settle(leases[a], Outcome.OK, 1.0)
    assert claim(pool, 1.0).backend is a
    pool.withdraw(retry)


@pytest.mark.parametrize("bound", [True, False])
def test_whoever_comes_takes_no_place_from_one_that_waits_for_this_backend_alone(bound):
    pool = waiting_pool("a:1", "b:1")
    a, _ = pool.backends.values()
    leases = {lease.backend: lease for lease in (claim(pool), claim(pool))}
    own = pool.claim_on(a, ANY, 0.0)
    pool.settle(leases[a], Outcome.OK, 1.0)
    new = pool.claim_on(a, ANY, 1.0) if bound else pool.claim(ANY, 1.0)
    assert isinstance(new, Ticket)
    assert pool.grants_due == -NEVER
    ((first, lease),) = pool.grants(1.0)
    assert (first, lease.backend) == (own, a)
    pool.withdraw(new)


def test_nobody_is_moved_to_a_place_that_somebody_waits_for():
    pool = waiting_pool("a:1", "b:1")
    a, b = pool.backends.values()
    leases = {lease.backend: lease for lease in (claim(pool), claim(pool))}
    own = pool.claim_on(b, ANY, 0.0)
    pool.settle(leases[b], Outcome.OK, 1.0)
    assert not pool.has_room((a,))
    pool.grants(1.0)
    pool.withdraw(own)


def test_a_wait_that_became_longer_ends_before_the_deadline():
    pool, _ = make_pool("a:1", max_in_flight=1, max_queued=3, queue_timeout_s=10.0, no_backend_s=1.0)
    a = pool.backends["a:1"]
    for _ in range(3):
        pool.observe_probe(a, False, "x", 0.0, silent=True)
    first, second = wait(pool), pool.claim(ANY, 0.0, deadline=6.0)
    assert (second.until, second.late) == (1.0, False)
    pool.observe_probe(a, True, "x", 0.5)
    ((_, lease),) = pool.grants(0.5)
    assert pool.grants(1.0) == []
    assert (second.until, second.late) == (3.0, True)
    pool.settle(lease, Outcome.OK, 3.5)
    assert pool.grants(3.5) == [(second, Refusal.LATE)]
    assert first.joined == 0


def test_what_is_over_at_once_is_sent_to_nobody():
    pool = waiting_pool("a:1")
    a = pool.backends["a:1"]
    assert pool.claim(ANY, 1.0, deadline=1.0) is Refusal.LATE
    assert pool.claim_on(a, ANY, 1.0, deadline=1.0) is Refusal.LATE
    lease = claim(pool, 1.0)
    ticket = pool.claim(ANY, 1.0, deadline=2.0)
    pool.settle(lease, Outcome.OK, 2.0)
    assert pool.grants(2.0) == [(ticket, Refusal.LATE)]
    assert a.requests == 1


def test_a_bound_attempt_that_is_late_is_refused_and_not_made():
    pool = waiting_pool("a:1")
    attempts = Attempts(pool, RetryRules(1, frozenset()), ANY, idempotent=True)
    attempts.deadline = 1.0
    assert attempts.begin_on(pool.backends["a:1"], 1.0) is Refusal.LATE
    assert (attempts.count, attempts.waiting, pool.leases) == (0, None, 0)


def test_who_waits_has_as_long_left_as_nine_of_ten_answers_took():
    pool = waiting_pool("a:1", wait_s=60.0)
    pool.totals.first_byte.add(0.1)
    for _ in range(9):
        pool.totals.first_byte.add(2.0)
    pool.totals.first_byte.add(30.0)
    claim(pool)
    assert pool.claim(ANY, 0.0, deadline=10.0).until == pytest.approx(8.0, abs=0.3)
    assert pool.claim(ANY, 0.0, deadline=1.0).until == 0.5, "half, where it takes longer than that"
    assert pool.claim(ANY, 0.0, deadline=0.05) is Refusal.LATE


def test_where_nothing_is_known_who_waits_has_half_of_its_time_left():
    pool = waiting_pool("a:1", wait_s=60.0)
    claim(pool)
    ticket = pool.claim(ANY, 1.0, deadline=5.0)
    assert (ticket.until, ticket.late) == (3.0, True)


def impatient_pool(*texts: str, most: int = 0):
    """Nobody waits for who is full, and for a second while nobody is usable."""
    pool, _ = make_pool(*texts, max_in_flight=most, max_queued=9, queue_timeout_s=0.0, no_backend_s=1.0)
    for one in pool.backends.values():
        for _ in range(3):
            pool.observe_probe(one, False, "x", 0.0, silent=True)
    return pool


def test_whoever_comes_in_the_turn_in_which_a_backend_returns_is_served_in_it_though_nobody_waits_for_who_is_full():
    pool = impatient_pool("a:1")
    first = wait(pool)
    pool.observe_probe(pool.backends["a:1"], True, "x", 0.5)
    second = wait(pool, 0.5)
    assert (second.until, pool.grants_due) == (0.5, 0.5)
    verdicts = pool.grants(0.5)
    assert [(ticket, isinstance(lease, Lease)) for ticket, lease in verdicts] == [(first, True), (second, True)]


def test_it_is_refused_in_that_turn_where_there_was_no_place_for_it():
    pool = impatient_pool("a:1", most=1)
    first = wait(pool)
    pool.observe_probe(pool.backends["a:1"], True, "x", 0.5)
    second = wait(pool, 0.5)
    assert [one for one, _ in pool.grants(0.5)] == [first, second]
    assert second.joined == 0
    assert pool.claim(ANY, 0.6) is Refusal.ALL_FULL


def test_a_wait_of_no_time_is_none_and_a_request_may_wait_afterwards():
    pool = impatient_pool("a:1")
    first = wait(pool)
    pool.observe_probe(pool.backends["a:1"], True, "x", 0.5)
    request = tries(pool)
    ticket = request.begin(0.5)
    (_, other), (served, lease) = pool.grants(0.5)
    assert (served, ticket) == (ticket, request.waiting)
    request.granted(ticket, lease, 0.5)
    request.ended(request.current, Outcome.REFUSED, 0.6)
    again = request.again(Outcome.REFUSED, 0.6, replayable=True)
    assert (again.until, first.joined) == (1.6, 0)
    pool.withdraw(again)
    pool.settle(other, Outcome.OK, 0.7)


def test_who_has_waited_for_as_long_as_it_may_and_met_a_closed_connection_has_its_place_again():
    pool = waiting_pool("a:1")
    other = claim(pool)
    request = Attempts(pool, RetryRules(2, frozenset()), ANY, idempotent=True)
    ticket = request.begin(0.0)
    behind = wait(pool, 2.0)
    pool.settle(other, Outcome.OK, 5.0)
    ((served, lease),) = pool.grants(5.0)
    request.granted(ticket, lease, 5.0)
    request.ended(request.current, Outcome.STALE_REUSE, 5.0)
    again = request.again(Outcome.STALE_REUSE, 5.0, replayable=True)
    assert (served, again.until) == (ticket, 5.0), "it stands behind others, and would be before them"
    ((first, _),) = pool.grants(5.0)
    assert (first, behind.joined > 0) == (again, True)


# When those that are waited for are lost.


def test_when_the_last_usable_backend_goes_who_has_another_place_to_go_to_is_told_at_once():
    pool = waiting_pool("a:1", "b:1", max_queued=9)
    a, b = pool.backends.values()
    leases = [claim(pool), claim(pool)]
    retry = pool.claim(ANY, 0.0, (a,), again=True)
    own = pool.claim_on(b, ANY, 0.0)
    new, stays = wait(pool), wait(pool)
    for ticket in (retry, own, new):
        ticket.elsewhere = True
    pool.settle(leases[0], Outcome.REFUSED, 1.0)
    assert pool.grants(1.0) == [], "somebody is usable, and full"
    pool.settle(leases[1], Outcome.REFUSED, 2.0)
    assert pool.grants(2.0) == [(one, Refusal.NO_BACKEND) for one in (retry, own, new)]
    assert stays.joined
    late = wait(pool, 2.0)
    late.elsewhere = True
    assert pool.grants(2.1) == [], "whoever comes then is asked when it comes"


def test_the_trial_comes_before_anybody_goes_elsewhere():
    pool = waiting_pool("a:1", checked=False)
    lease = claim(pool)
    first, second = wait(pool), wait(pool)
    first.elsewhere = second.elsewhere = True
    pool.settle(lease, Outcome.REFUSED, 1.0)
    pool.moved(pool.backends["a:1"], "", 1.0)
    verdicts = dict(pool.grants(1.0))
    assert verdicts[first].trial
    assert verdicts[second] is Refusal.NO_BACKEND


def test_nobody_goes_elsewhere_where_somebody_is_back_before_the_turn_is_over():
    pool = waiting_pool("a:1")
    lease = claim(pool)
    ticket = wait(pool)
    ticket.elsewhere = True
    a = pool.backends["a:1"]
    pool.command(a, AdminState.MAINT, 1.0)
    pool.command(a, AdminState.READY, 1.0)
    assert pool.grants(1.0) == []
    pool.settle(lease, Outcome.OK, 1.0)
    assert [one for one, _ in pool.grants(1.0)] == [ticket]


@pytest.mark.parametrize("how", ["drain", "maint", "down", "removed"])
def test_who_waits_for_a_backend_that_is_lost_has_whoever_is_free_first(how):
    pool = waiting_pool("a:1", "b:1")
    a, b = pool.backends.values()
    leases = {lease.backend: lease for lease in (claim(pool), claim(pool))}
    own = pool.claim_on(a, ANY, 0.0)
    behind = wait(pool, 1.0)
    out(pool, how)
    assert (pool.grants(1.0), own.only) == ([], None)
    pool.settle(leases[b], Outcome.OK, 2.0)
    ((first, lease),) = pool.grants(2.0)
    assert (first, lease.backend) == (own, b), "it is the older one"
    pool.withdraw(behind)


def test_who_waits_for_a_backend_that_is_lost_goes_elsewhere_at_once_where_there_is_room():
    pool = waiting_pool("a:1", "b:1")
    a, b = pool.backends.values()
    held = pool.claim_on(a, ANY, 0.0)
    own = pool.claim_on(a, ANY, 0.0)
    pool.settle(held, Outcome.REFUSED, 1.0)
    ((first, lease),) = pool.grants(1.0)
    assert (first, lease.backend) == (own, b)
