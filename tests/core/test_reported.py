"""Reported load: what backends say, what has changed since, and what holds where they say nothing."""

import math
import random
from collections import Counter

import pytest
from builders import claim, make_pool, specs

from twisted_lb.core.counts import Counts
from twisted_lb.core.decision import recalled
from twisted_lb.core.load_report import LoadReport
from twisted_lb.core.measures import pool_measures
from twisted_lb.core.outcome import Outcome
from twisted_lb.core.pickers import policy_of
from twisted_lb.core.reported import EXPIRES_S, LEAST, Reports


class Backends:
    """Some backends of one pool."""

    def __init__(self, count, metric=""):
        self.counts = Counts()
        self.reports = Reports(self.counts, metric)
        self.slots = [self.counts.open() for _ in range(count)]
        self.loads = [self.reports.of(slot) for slot in self.slots]

    def busy(self, at, number):
        for _ in range(number):
            self.counts.claim(self.slots[at])

    def report(self, at, utilization, now=0.0, name="cpu_utilization"):
        return self.loads[at].hear(LoadReport({name: utilization}), now)

    def value(self, at, now=0.0, weight=1):
        return self.loads[at].value(weight, now)


def test_the_load_is_the_reported_utilization_as_it_would_be_with_one_more():
    backends = Backends(1)
    backends.busy(0, 4)
    assert backends.report(0, 0.8)
    assert backends.value(0) == pytest.approx(0.8 * 5 / 4)
    backends.busy(0, 3)
    assert backends.value(0) == pytest.approx(0.8 * 8 / 4)
    assert backends.value(0, weight=2) == pytest.approx(0.8)


def test_without_any_report_requests_are_compared():
    backends = Backends(2)
    backends.busy(1, 2)
    assert [backends.value(at) for at in (0, 1)] == [0.0, 2.0]


def test_where_nobody_reports_idle_members_are_alike_whatever_their_weight():
    backends = Backends(2)
    assert [backends.value(at, weight=weight) for at, weight in ((0, 1), (1, 4))] == [0.0, 0.0]


def test_a_report_that_is_too_old_counts_no_more_and_requests_do():
    backends = Backends(2)
    for at, busy in enumerate((1, 2)):
        backends.busy(at, busy)
    backends.report(0, 0.9)
    backends.report(1, 0.2)
    assert backends.value(0) > backends.value(1)
    late = EXPIRES_S - 0.001
    assert backends.value(0, late) > backends.value(1, late)
    # Nobody reports any more: as many times more as there are requests.
    assert backends.value(1, EXPIRES_S) == pytest.approx(backends.value(0, EXPIRES_S) * 2)


def test_who_is_silent_among_others_is_taken_for_one_whose_requests_are_as_usual():
    """gRPC A58: zero weight, average weight."""
    backends = Backends(3)
    for at in range(3):
        backends.busy(at, 2)
    for _ in range(100):
        backends.report(0, 0.4)
        backends.report(1, 0.8)
    assert backends.value(0) < backends.value(2) < backends.value(1)
    # Reports come by turns: half way.
    assert backends.value(2) == pytest.approx(0.3 * 3, rel=0.02)


def test_what_is_usual_is_the_reciprocal_of_the_average_weight_where_all_get_what_they_can_bear():
    """Weights 1/c of requests that are .01 and .03 of utilization: 100 and 33.3, on average 66.7; so that of a silent one is .015."""
    backends = Backends(2)
    for _ in range(200):
        for at, utilization in ((0, 0.01), (0, 0.01), (0, 0.01), (1, 0.03)):
            backends.busy(at, 1)
            backends.report(at, utilization)
            backends.counts.release(backends.slots[at])
    assert backends.reports.usual == pytest.approx(0.015, rel=0.02)


def test_little_utilization_is_bounded_below_so_that_requests_between_two_reports_are_spread():
    backends = Backends(2)
    for at in (0, 1):
        backends.busy(at, 1)
        backends.report(at, LEAST / 100)
    assert backends.value(0) == 2 * LEAST
    backends.busy(0, 1)
    assert backends.value(0) > backends.value(1)


def test_of_who_reports_nothing_at_all_a_request_is_taken_to_be_as_usual():
    """gRPC A58: a weight of 0 stands for the average of the others."""
    backends = Backends(2)
    backends.busy(0, 4)
    backends.report(0, 0.8)
    backends.report(1, 0.0)
    assert backends.value(1) == pytest.approx(backends.reports.usual)
    assert backends.reports.usual == pytest.approx(0.2)


def test_what_was_in_flight_is_averaged_so_that_one_moment_does_not_decide():
    backends = Backends(1)
    backends.busy(0, 10)
    backends.report(0, 0.5, 0.0)
    for _ in range(9):
        backends.counts.release(backends.slots[0])
    backends.report(0, 0.5, 0.1)
    kept = math.exp(-0.1)
    assert backends.value(0, 0.1) == pytest.approx(0.5 * 2 / (10 * kept + 1 * (1 - kept)))
    # After a gap that made the last one too old nothing is left of it.
    backends.report(0, 0.5, 20.0)
    assert backends.value(0, 20.0) == pytest.approx(0.5 * 2)


@pytest.mark.parametrize("metrics", [{}, {"mem_utilization": 0.5}, {"cpu_utilization": 1e7}])
def test_what_does_not_say_what_is_compared_changes_nothing(metrics):
    backends = Backends(1)
    backends.report(0, 0.5)
    assert backends.loads[0].hear(LoadReport(metrics), 1.0) is False
    assert (backends.loads[0].utilization, backends.loads[0].reported_at) == (0.5, 0.0)


def test_the_metric_that_is_named_is_compared():
    backends = Backends(1, "named_metrics.queue")
    assert not backends.report(0, 0.5)
    assert backends.report(0, 7.0, name="named_metrics.queue")
    assert backends.loads[0].utilization == 7.0


# In a pool.


def busy_pool(choose="scan", *texts):
    pool, _ = make_pool(*(texts or ("a:1", "b:1", "c:1")), policy=policy_of(choose, "reported"))
    return pool


def test_requests_go_to_the_one_that_reports_least():
    pool = busy_pool()
    for name, utilization in (("a:1", 0.9), ("b:1", 0.2), ("c:1", 0.6)):
        pool.observe_load(name, LoadReport({"application_utilization": utilization}), 0.0)
    lease = claim(pool)
    assert lease.backend.name == "b:1"
    assert recalled(lease).rule == "least of all: utilization 0.2 with one more, by weight"
    # Its next ones are counted before it reports again: .2, .4, .6, which is as much as c's.
    assert [claim(pool).backend.name for _ in range(1)] == ["b:1"]
    assert {claim(pool).backend.name for _ in range(2)} == {"b:1", "c:1"}


def test_two_choices_say_what_both_had():
    pool = busy_pool("two", "a:1", "b:1")
    pool.observe_load("a:1", LoadReport({"cpu_utilization": 0.9}), 0.0)
    pool.observe_load("b:1", LoadReport({"cpu_utilization": 0.3}), 0.0)
    lease = claim(pool)
    assert lease.backend.name == "b:1"
    assert recalled(lease).rule == (
        "two choices: utilization 0.3 with one more, by weight; a:1 has utilization 0.9 with one more, by weight"
    )


def test_reports_are_heard_in_words_and_those_that_are_none_are_counted():
    pool = busy_pool()
    a = pool.backends["a:1"]
    for said in (b"TEXT cpu_utilization=0.5", b"JSON {", b"TEXT mem_utilization=0.5", b"TEXT cpu_utilization=0.6"):
        pool.hear_load(a, said, 1.0)
    assert (a.totals.reports, a.totals.bad_reports, a.load.utilization) == (2, 2, 0.6)
    told = pool_measures(pool, (), {}, 1.0).backends
    assert [(one.utilization, one.reports) for one in told] == [(0.6, (2, 2)), (None, (0, 0)), (None, (0, 0))]
    assert [one.utilization for one in pool_measures(pool, (), {}, 1.0 + EXPIRES_S).backends] == [None] * 3
    both = told[0].merged(told[0])
    assert (both.utilization, both.reports) == (0.6, (4, 4))


def test_nobody_hears_them_where_the_policy_does_not_compare_them():
    pool, _ = make_pool("a:1", policy="least")
    a = pool.backends["a:1"]
    pool.hear_load(a, b"TEXT cpu_utilization=0.5", 1.0)
    pool.observe_load("a:1", LoadReport({"cpu_utilization": 0.5}), 1.0)
    assert (a.totals.reports, a.totals.bad_reports) == (0, 0)
    assert pool_measures(pool, (), {}, 1.0).backends[0].reports is None


def test_a_report_of_nobody_is_nobodys():
    pool = busy_pool()
    pool.observe_load("x:1", LoadReport({"cpu_utilization": 0.5}), 1.0)
    assert [one.totals.reports for one in pool.backends.values()] == [0, 0, 0]


def test_what_was_reported_is_kept_over_changes_of_members_and_a_policy_that_is_the_same():
    pool = busy_pool()
    pool.observe_load("a:1", LoadReport({"cpu_utilization": 0.5}), 0.0)
    pool.update(specs("a:1,weight=2", "b:1", "d:1"), 1.0)
    pool.choose_by(policy_of("scan", "reported"))
    assert pool.backends["a:1"].load.utilization == 0.5
    of_metric = policy_of("scan", "reported", "mem_utilization")
    assert of_metric == policy_of("scan", "reported", "mem_utilization")
    assert len({of_metric, policy_of("scan", "reported", "mem_utilization")}) == 1
    assert of_metric not in (policy_of("scan", "reported"), policy_of("two", "reported", "mem_utilization"))
    pool.choose_by(of_metric)
    assert pool.backends["a:1"].load.utilization == -1
    pool.observe_load("a:1", LoadReport({"mem_utilization": 0.25}), 1.0)
    pool.choose_by(policy_of("scan", "reported", "mem_utilization"))
    assert pool.backends["a:1"].load.utilization == 0.25


@pytest.mark.parametrize("choose", ["scan", "two"])
def test_machines_of_unequal_size_end_up_equally_utilized(choose):
    """One server of 30 places and two of 10; each reports how many of its places are taken, averaged over a second, with its answers.
    By requests in flight alone all would have as many, and the small ones would be three times as utilized.
    """
    pool = busy_pool(choose)
    places = {"a:1": 30, "b:1": 10, "c:1": 10}
    rng, now, open_, smooth = random.Random(3), 0.0, [], dict.fromkeys(places, 0.0)
    got, taken = Counter(), Counter()
    for step in range(12_000):
        now += 0.005
        for due, one in [pair for pair in open_ if pair[0] <= now]:
            open_.remove((due, one))
            name = one.backend.name
            said = b"TEXT application_utilization=%.4f" % smooth[name]
            pool.responded(one, now)
            pool.hear_load(one.backend, said, now)
            pool.settle(one, Outcome.OK, now)
        lease = claim(pool, now)
        open_.append((now + rng.expovariate(1 / 0.125), lease))  # 25 in flight on average
        for name, size in places.items():
            smooth[name] += (pool.backends[name].in_flight / size - smooth[name]) * 0.005
            taken[name] += pool.backends[name].in_flight if step > 2000 else 0
        got[lease.backend.name] += 1
    used = {name: taken[name] / 10_000 / size for name, size in places.items()}
    # Of 25 in 50 places each has .5; two choices cannot give a third more than it is drawn, two of three times.
    assert max(used.values()) / min(used.values()) < (1.15 if choose == "scan" else 1.6), used
