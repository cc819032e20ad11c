"""Intervals of replications, and differences of paired seeds."""

from array import array
from random import Random

import pytest

from twisted_lb.sim.observe import Run, Served, Unstable
from twisted_lb.sim.stats import Estimate, batch_means, difference, estimate, replicate, student_t


@pytest.mark.parametrize(
    ("freedom", "value"),
    [(1, 12.706), (2, 4.303), (3, 3.182), (4, 2.776), (9, 2.262), (19, 2.093), (30, 2.042), (120, 1.980)],
)
def test_student_t(freedom, value):
    """Any table of the two-sided 95 %."""
    assert student_t(freedom) == pytest.approx(value, abs=0.0006)


def test_an_estimate_is_a_mean_and_its_interval():
    found = estimate([1.0, 2.0, 3.0])
    assert found.value == 2.0
    assert found.half == pytest.approx(4.303 / 3**0.5, abs=1e-3)  # the deviation is 1
    assert found.low + 0.01 in found
    assert found.high + 0.01 not in found


def test_one_value_has_no_interval():
    with pytest.raises(ValueError, match="two runs at least"):
        estimate([1.0])


def test_an_interval_of_95_percent_has_the_truth_in_95_of_100():
    """2,000 intervals of 5 normal values: 1,900 expected, the deviation is sqrt(2000 * .95 * .05), below 10; by 3 of them."""
    rng = Random(1)
    inside = sum(0.0 in estimate([rng.normalvariate() for _ in range(5)]) for _ in range(2000))
    assert abs(inside - 1900) < 30


def test_a_difference_of_pairs_knows_nothing_of_what_they_have_in_common():
    before = [1.0, 50.0, 9.0]
    assert difference(before, [one + 2.0 for one in before]) == Estimate(2.0, 0.0)


def test_pairs_have_to_be_pairs():
    with pytest.raises(ValueError, match="zip"):
        difference([1.0, 2.0], [1.0])


def test_batches_of_independent_values_are_replications():
    rng = Random(2)
    assert 0.5 in batch_means([rng.random() for _ in range(20_000)])


def run(latencies, offered=0.5, behind_s=0.0):
    return Run(array("d", latencies), {"a": Served(len(latencies), offered, behind_s)}, 10.0)


def test_a_quantile_is_a_latency_that_was_seen():
    seen = run([float(one) for one in range(100, 0, -1)])
    assert (seen.p50, seen.p99, seen.quantile(1.0), seen.mean) == (50.0, 99.0, 100.0, 50.5)


def test_one_unstable_run_of_several_is_said():
    runs = replicate(lambda seed: run([1.0] * 100, 2.0 if seed == 2 else 0.5, 5.0), (1, 2, 3))
    assert runs.unstable == "a is offered 200 % of what it can serve"
    with pytest.raises(Unstable, match="a is offered 200 %"):
        runs.mean  # noqa: B018
    assert "unstable: a is offered" in repr(runs)
    assert runs.share("a") == Estimate(1.0, 0.0)


def test_a_run_in_which_nobody_was_answered_has_no_latency():
    with pytest.raises(Unstable, match="no request was answered"):
        run([]).mean  # noqa: B018


def test_runs_are_compared_seed_by_seed():
    slow = replicate(lambda seed: run([seed * 10.0 + 3.0]), (1, 2, 3))
    fast = replicate(lambda seed: run([seed * 10.0]), (1, 2, 3))
    assert fast.against(slow, lambda one: one.mean) == Estimate(-3.0, 0.0)
    assert str(fast.against(slow, lambda one: one.mean)) == "-3 ± 0"
