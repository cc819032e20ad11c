"""Prequal's rule: who is hot, and what counts then."""

import math

import pytest
from builders import claim, make_pool

from twisted_lb.core.ask import ANY
from twisted_lb.core.counts import Counts
from twisted_lb.core.decision import recalled
from twisted_lb.core.hot_cold import HOT, HOT_ABOVE, Heat, quantile
from twisted_lb.core.latency import FAILURE_S, UNKNOWN_S
from twisted_lb.core.outcome import CONSEQUENCE, Blame, Outcome


class Backends:
    """Some backends of one pool, as it tells their loads of leases."""

    def __init__(self, count, limit=None):
        self.counts = Counts()
        self.heat = Heat(self.counts)
        self.slots = [self.counts.open() for _ in range(count)]
        self.loads = [self.heat.of(slot) for slot in self.slots]
        if limit is not None:
            self.heat.limit = limit

    def busy(self, at, number):
        for _ in range(number):
            self.counts.claim(self.slots[at])

    def serve(self, at, latency_s, now=0.0, outcome=Outcome.OK, beside=0):
        """One request beside so many others, answered after so long."""
        self.busy(at, beside + 1)
        note = self.loads[at].leased(1, ANY, now - latency_s)
        if outcome is Outcome.OK:
            self.loads[at].responded(note, latency_s, now)
        for _ in range(beside + 1):
            self.counts.release(self.slots[at])
        self.loads[at].settled(note, outcome, latency_s, now)

    def value(self, at, now=0.0, weight=1):
        return self.loads[at].value(weight, now)

    def first(self, *pair):
        return min(pair, key=self.value)


@pytest.mark.parametrize(
    ("values", "share", "found"),
    [
        (list(range(1, 101)), HOT_ABOVE, 85),  # 2**-0.25 is .8409
        (list(range(1, 101)), 0.5, 50),
        ([3, 1, 2], 1.0, 3),
        ([3, 1, 2], 0.0, 1),
        ([7], HOT_ABOVE, 7),
    ],
)
def test_a_quantile_is_not_exceeded_by_its_share(values, share, found):
    assert quantile(values, share) == found


def cold_and_hot():
    """0 is cold and slow, 1 is cold and fast, 2 and 3 are hot, and 2 has less in flight."""
    them = Backends(4, limit=3.0)
    for at, latency in enumerate((0.5, 0.1, 0.001, 0.001)):
        them.serve(at, latency)
        them.busy(at, (3, 2, 4, 5)[at])
    them.heat.limit = 3.0
    return them


def test_of_two_cold_ones_the_faster_is_first_whatever_is_in_flight():
    assert cold_and_hot().first(0, 1) == 1


def test_a_cold_one_comes_before_a_hot_one_however_fast_that_is():
    them = cold_and_hot()
    assert them.first(2, 0) == them.first(0, 3) == 0


def test_of_two_hot_ones_the_one_with_fewer_in_flight_is_first():
    them = cold_and_hot()
    assert them.first(3, 2) == 2
    assert (them.value(2), them.value(3)) == (HOT + 4, HOT + 5)


def test_at_the_ends_of_the_scale_requests_or_latency_alone_decide():
    """The paper: with a quantile of 0 the rule is requests in flight, with 1 latency."""
    them = cold_and_hot()
    them.heat.limit = 0.0
    assert sorted(range(4), key=them.value) == [1, 0, 2, 3]
    them.heat.limit = 5.0
    assert them.first(0, 1, 2) == 2


def test_twice_the_weight_may_have_twice_as_many_before_it_is_hot():
    them = Backends(1, limit=3.0)
    them.busy(0, 6)
    assert them.value(0, weight=1) == HOT + 6
    assert them.value(0, weight=2) < HOT
    them.busy(0, 1)
    assert them.value(0, weight=2) == HOT + 3.5


def test_what_is_seen_is_a_fair_sample_of_all_whoever_is_leased():
    """Nine of ten have one in flight, one has seven: only that one is hot, though all leases are of the others."""
    them = Backends(10)
    for at in range(10):
        them.busy(at, 7 if at == 9 else 1)
    for _ in range(160):
        them.loads[0].leased(1, ANY, 0.0)
    assert them.heat.limit == 1
    assert [at for at in range(10) if them.value(at) >= HOT] == [9]


def test_of_two_one_can_be_hot_since_what_is_seen_is_of_many_moments():
    """The larger of two numbers is never above the larger of two: without time nobody would be hot in a small pool."""
    them = Backends(2)
    for moment in range(160):
        them.busy(0, 1)
        them.loads[moment % 2].leased(1, ANY, 0.0)
        them.counts.release(them.slots[0])
    them.busy(0, 3)
    assert them.value(0) >= HOT > them.value(1)


def test_until_something_was_seen_requests_alone_decide():
    them = Backends(2)
    them.serve(0, 0.001)
    them.busy(0, 1)
    assert them.value(0) == HOT + 1
    assert them.value(1) == 0


def test_a_latency_belongs_to_what_was_in_flight_at_its_lease():
    them = Backends(1, limit=100.0)
    them.serve(0, 0.01)
    them.serve(0, 0.2, beside=8)
    assert them.value(0) == pytest.approx(0.01)
    them.busy(0, 8)
    assert them.value(0) == pytest.approx(0.2)
    them.busy(0, 20)
    assert them.value(0) == pytest.approx(0.2)  # the nearest that is known


def test_a_number_in_flight_that_was_not_seen_goes_by_the_next_smaller_one():
    them = Backends(1, limit=100.0)
    them.serve(0, 0.01)
    them.serve(0, 0.2, beside=30)
    them.busy(0, 5)
    assert them.value(0) == pytest.approx(0.01)


def test_the_latency_is_the_median_of_the_last_nine():
    them = Backends(1, limit=100.0)
    for latency in (0.9, 0.9, 0.9, 0.9, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.05):
        them.serve(0, latency)
    assert them.value(0) == pytest.approx(0.4)


def test_while_nothing_is_in_flight_latency_decays():
    them = Backends(1, limit=100.0)
    them.serve(0, 2.0)
    assert them.value(0, 10.0) == pytest.approx(2.0 / math.e)
    them.busy(0, 1)
    assert them.value(0, 10.0) == pytest.approx(2.0)


def test_what_was_seen_of_a_crowd_is_forgotten_after_a_minute_without_one():
    them = Backends(1, limit=100.0)
    them.serve(0, 9.0, beside=30)
    them.serve(0, 0.01, now=61.0)
    them.busy(0, 30)
    assert them.value(0, 61.0) == pytest.approx(0.01)


def test_one_request_finds_out_where_nothing_is_known():
    them = Backends(1, limit=100.0)
    assert them.value(0) == 0
    them.busy(0, 1)
    assert UNKNOWN_S < them.value(0) < HOT


@pytest.mark.parametrize("outcome", [one for one in Outcome if one is not Outcome.OK])
def test_a_failure_is_slow_and_what_is_nobodys_says_nothing(outcome):
    them = Backends(1, limit=100.0)
    them.serve(0, 0.001, outcome=outcome)
    assert them.value(0) == (0 if CONSEQUENCE[outcome].blame is Blame.NONE else FAILURE_S)


def test_failures_in_a_row_count_as_in_flight_less_as_time_passes_until_there_is_a_response():
    them = Backends(1, limit=2.0)
    for _ in range(4):
        them.serve(0, 0.001, outcome=Outcome.NO_RESPONSE)
    assert them.value(0) == HOT + 4
    assert them.value(0, 5.0) == pytest.approx(HOT + 4 * math.exp(-0.5))
    assert them.value(0, 10.0) < UNKNOWN_S
    them.serve(0, 0.001)
    assert them.value(0) < UNKNOWN_S


def test_why_is_told_in_words():
    pool, _ = make_pool("a:1", "b:1", policy="prequal")
    first, second, third = (claim(pool, 1.0) for _ in range(3))
    assert recalled(first).rule.startswith("two choices: cold, 0 s; ")
    assert recalled(second).rule == f"two choices: cold, 0 s; {first.backend.name} has hot, 1 in flight by weight"
    assert "hot, 1 in flight by weight, as much" in recalled(third).rule
