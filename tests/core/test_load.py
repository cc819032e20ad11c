"""What load is."""

import math

import pytest

from twisted_lb.core.ask import Ask
from twisted_lb.core.counts import Counts
from twisted_lb.core.latency import FAILURE_S, UNKNOWN_S, PeakEwma
from twisted_lb.core.load import Cost, Load, Requests
from twisted_lb.core.outcome import CONSEQUENCE, Blame, Outcome


class Server:
    """Leases on one backend, as a pool tells a load of them."""

    def __init__(self, kind, weight=1):
        self.counts = Counts()
        self.slot = self.counts.open()
        self.load: Load = kind(self.counts, self.slot)
        self.weight = weight

    def lease(self, now=0.0, cost=1):
        self.counts.claim(self.slot)
        return self.load.leased(self.weight, Ask(cost=cost), now), now

    def respond(self, lease, now):
        note, opened_at = lease
        self.load.responded(note, now - opened_at, now)

    def settle(self, lease, now=0.0, outcome=Outcome.OK):
        note, opened_at = lease
        self.counts.release(self.slot)
        self.load.settled(note, outcome, now - opened_at, now)

    def value(self, now=0.0):
        return self.load.value(self.weight, now)


def test_requests_in_flight_are_what_the_pool_counts_until_they_are_over():
    server = Server(Requests)
    lease = server.lease(1.0)
    server.respond(lease, 1.1)
    assert server.value(1.1) == 1
    server.settle(lease, 2.0)
    assert server.value(2.0) == 0


def test_twice_the_weight_bears_twice_as_many():
    light, heavy = Server(Requests, 1), Server(Requests, 2)
    for _ in range(3):
        light.lease()
    for _ in range(6):
        heavy.lease()
    assert light.value() == heavy.value() == 3


def test_costs_of_open_leases_add_up_and_an_ordinary_one_is_a_request():
    server = Server(Cost)
    small, large = server.lease(), server.lease(cost=12)
    assert server.value() == 13
    server.settle(large, outcome=Outcome.CLIENT_GONE)
    assert server.value() == 1
    server.settle(small)
    assert server.value() == 0


def test_a_request_from_before_its_load_was_measured_costs_one_whatever_it_is():
    server = Server(Requests)
    early = server.lease(cost=9)
    before, server.load = server.load, Cost(server.counts, server.slot)
    assert server.value() == 1
    late = server.lease(cost=3)
    assert server.value() == 4
    server.counts.release(server.slot)
    before.settled(early[0], Outcome.OK, 1.0, 1.0)  # whom its lease has told
    assert server.value() == 3
    server.settle(late)
    assert server.value() == 0


def test_other_processes_count_as_requests_of_cost_one():
    class Shared(Counts):
        def elsewhere(self, slot):
            return 5

    counts = Shared()
    slot = counts.open()
    assert Requests(counts, slot).value(1, 0.0) == Cost(counts, slot).value(1, 0.0) == 5


# Peak EWMA.


def known(average_s, now=0.0, weight=1):
    """A backend that has taken so long."""
    server = Server(PeakEwma, weight)
    answer(server, now - average_s, average_s)
    return server


def answer(server, at, latency_s):
    lease = server.lease(at)
    server.respond(lease, at + latency_s)
    server.settle(lease, at + latency_s)


def test_the_load_is_latency_times_one_more_than_is_in_flight():
    server = known(0.2)
    assert server.value(0.0) == pytest.approx(0.2)
    for pending in (1, 2, 3):
        server.lease()
        assert server.value(0.0) == pytest.approx(0.2 * (pending + 1))
    server.weight = 4
    assert server.value(0.0) == pytest.approx(0.2)


def test_a_peak_is_believed_at_once_and_what_is_below_by_the_time_that_has_passed():
    """Finagle's PeakEwma.scala: w = exp(-t/tau)."""
    server = known(0.1)
    answer(server, 0.5, 0.5)
    assert server.value(1.0) == pytest.approx(0.5)
    answer(server, 3.9, 0.1)
    kept = math.exp(-3 / 10)
    assert server.value(4.0) == pytest.approx(0.5 * kept + 0.1 * (1 - kept))
    answer(server, 3.9, 0.1)  # at the same time as the one before: no time has passed
    assert server.value(4.0) == pytest.approx(0.5 * kept + 0.1 * (1 - kept))


def test_the_averages_are_those_of_towers_tests():
    """tower's load/peak_ewma.rs, `default_decay` and `compound_decay`, with all times ten times as long: it decays in 1 s there."""
    server = known(0.1)
    assert 0.09 < server.value(1.0) < 0.1
    assert 0.08 < server.value(2.0) < 0.09
    server = known(0.2)
    first = server.lease(1.0)
    assert server.value(1.0) > 0.2
    second = server.lease(2.0)
    assert server.value(2.0) > 0.4
    server.respond(first, 3.0)
    server.settle(first, 3.0)
    assert server.value(3.0) == pytest.approx(4.0)
    server.respond(second, 4.0)
    server.settle(second, 4.0)
    assert server.value(4.0) == pytest.approx(2.0)
    assert server.value(14.0) < 1.0
    assert server.value(114.0) < 0.001


def test_one_request_finds_out_where_nothing_is_known():
    """Finagle: "Probe a node without latency history at most once"."""
    server, slow = Server(PeakEwma), known(60.0)
    assert server.value(0.0) == 0
    lease = server.lease(0.0)
    for _ in range(100):
        slow.lease(0.0)
    assert server.value(0.0) == UNKNOWN_S + 1 > slow.value(0.0)
    server.respond(lease, 0.25)
    assert server.value(0.25) == pytest.approx(0.5)


def test_who_was_slow_is_tried_again_after_a_rest_by_one_request_at_a_time():
    slow, fast = known(5.0), known(0.01)
    fast.lease(60.0)
    assert slow.value(60.0) < fast.value(60.0)
    slow.lease(60.0)
    assert slow.value(60.0) == pytest.approx(10.0)


def test_a_backend_that_hangs_does_not_look_better_with_time():
    server = known(0.1)
    for _ in range(3):
        server.lease(0.0)
    assert server.value(0.0) == server.value(1000.0) == pytest.approx(0.4)


@pytest.mark.parametrize("outcome", [one for one in Outcome if CONSEQUENCE[one].blame is not Blame.NONE])
def test_a_failure_is_slow_however_fast_it_was(outcome):
    server = known(0.01)
    lease = server.lease(1.0)
    server.settle(lease, 1.001, outcome)
    assert server.value(1.001) == pytest.approx(FAILURE_S)


def test_who_goes_on_failing_gets_slower_than_the_slowest():
    """In a pool where answers take 20 s, 1 s would be the fastest by far."""
    server = Server(PeakEwma)
    seen = []
    for _ in range(8):
        lease = server.lease(0.0)
        server.settle(lease, 0.0, Outcome.NO_RESPONSE)
        seen.append(server.value(0.0))
    assert seen == [1, 2, 4, 8, 16, 32, 60, 60]
    slow = known(90.0)
    slow.settle(slow.lease(0.0), 0.0, Outcome.NO_RESPONSE)
    assert slow.value(0.0) == pytest.approx(90)


@pytest.mark.parametrize("outcome", [one for one in Outcome if CONSEQUENCE[one].blame is Blame.NONE])
def test_what_is_nobodys_failure_says_nothing_of_latency(outcome):
    server = known(0.2)
    server.settle(server.lease(0.0), 30.0, outcome)
    assert server.value(0.0) == pytest.approx(0.2)


def test_a_failure_is_forgiven_by_answers():
    server = known(0.01)
    server.settle(server.lease(0.0), 0.0, Outcome.NO_RESPONSE)
    for second in range(1, 61):
        answer(server, second - 0.01, 0.01)
    # exp(-6) of 1 s is left.
    assert server.value(60.0) == pytest.approx(0.01 + 0.99 * math.exp(-6))


def test_connects_that_take_long_are_in_flight_as_well():
    server = known(0.01)
    for _ in range(9):
        server.lease(0.0)  # none has a response
    assert server.value(3.0) == pytest.approx(0.1)
