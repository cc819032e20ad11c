"""Requests that wait for a backend."""

import dataclasses

from builders import claim, make_pool, specs

from twisted_lb.core.ask import ANY, Ask
from twisted_lb.core.backend import AdminState
from twisted_lb.core.lease import Lease
from twisted_lb.core.never import NEVER
from twisted_lb.core.outcome import Outcome, Refusal
from twisted_lb.core.queue import Queue, Ticket


def waiting_pool(*texts: str, most: int = 1, max_queued: int = 3, wait_s: float = 5.0, checked: bool = True):
    pool, _ = make_pool(*texts, max_in_flight=most, max_queued=max_queued, queue_wait_s=wait_s, checked=checked)
    return pool


def wait(pool, now: float = 0.0, tried=(), ask: Ask = ANY) -> Ticket:
    ticket = pool.claim(ask, now, tried)
    assert isinstance(ticket, Ticket)
    return ticket


def test_with_the_defaults_nobody_waits():
    pool, _ = make_pool("a:1", max_in_flight=1)
    claim(pool)
    assert pool.claim(ANY, 0.0) is Refusal.NO_BACKEND
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
    assert pool.claim(ANY, 0.0) is Refusal.NO_BACKEND


def test_who_has_waited_too_long_is_refused_in_the_order_they_came():
    pool = waiting_pool("a:1", wait_s=5.0)
    claim(pool)
    tickets = [wait(pool, now) for now in (1.0, 2.0, 4.0)]
    assert pool.wait_due == 6.0
    assert pool.grants(5.9) == []
    assert pool.grants(7.0) == [(ticket, Refusal.NO_BACKEND) for ticket in tickets[:2]]
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
    assert pool.grants(0.9) == []
    ((_, verdict),) = pool.grants(1.0)
    assert isinstance(verdict, Lease)
    assert verdict.trial


def test_a_backend_that_comes_is_for_those_that_wait():
    pool = waiting_pool("a:1")
    claim(pool)
    wait(pool)
    pool.update(specs("a:1", "b:1"), 1.0)
    ((_, verdict),) = pool.grants(1.0)
    assert isinstance(verdict, Lease)
    assert verdict.backend.name == "b:1"


def test_a_shorter_wait_holds_for_whoever_comes_but_nobody_expires_before_those_in_front():
    pool = waiting_pool("a:1", wait_s=10.0)
    claim(pool)
    wait(pool)
    pool.configure(dataclasses.replace(pool.settings, queue_wait_s=1.0), 1.0)
    assert wait(pool, 1.0).until == 10.0
    assert wait(pool, 9.5).until == 10.5


def test_without_a_queue_any_more_those_in_it_wait_on_and_whoever_comes_goes_straight():
    pool = waiting_pool("a:1")
    lease = claim(pool)
    ticket = wait(pool)
    pool.configure(dataclasses.replace(pool.settings, max_queued=0), 1.0)
    assert pool.claim(ANY, 1.0) is Refusal.NO_BACKEND
    pool.settle(lease, Outcome.OK, 1.0)
    straight = claim(pool, 1.0)
    pool.settle(straight, Outcome.OK, 1.0)
    assert [one for one, _ in pool.grants(1.0)] == [ticket]


def test_it_shows_who_waits():
    queue = Queue()
    ticket = queue.join(ANY, 1.0, 5.0, ())
    assert repr(queue) == "<Queue 1 waiting>"
    assert repr(ticket) == "<Ticket 5 s from 1>"
