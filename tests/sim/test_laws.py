"""The laws of a simulation: what they promise, and what they refuse."""

import math
from itertools import islice, pairwise
from statistics import fmean, pstdev

import pytest

from twisted_lb.sim.laws import (
    BLOCK,
    Empirical,
    Exponential,
    Fixed,
    Lognormal,
    Pareto,
    Poisson,
    Steps,
    Trace,
    stream,
)

DRAWS = 40_000


def moments(arrivals, seed=1, blocks=1000):
    return [one for block in islice(arrivals.blocks(stream(seed, "arrivals")), blocks) for one in block]


@pytest.mark.parametrize(
    ("law", "cv"),
    [
        (Exponential(0.02), 1.0),
        (Fixed(0.02), 0.0),
        (Lognormal(0.02, 0.5), 0.5),
        (Lognormal(0.02, 2.0), 2.0),
        # alpha 3: variance alpha / ((alpha - 1)^2 (alpha - 2)) of the least squared, 3/4; over the mean 3/2: sqrt(1/3).
        (Pareto(0.02, 3.0), 1 / math.sqrt(3)),
        (Empirical([0.01, 0.02, 0.03]), math.sqrt(2 / 3) / 2),
    ],
    ids=str,
)
def test_a_law_has_its_mean_and_its_variation(law, cv):
    """Of n values the mean deviates by cv / sqrt(n): 3 of that. The variation of heavy tails converges slowly: a tenth."""
    values = law.block(stream(1, "service"), DRAWS)
    assert fmean(values) == pytest.approx(0.02, rel=3 * cv / math.sqrt(DRAWS) + 1e-12)
    assert pstdev(values) / 0.02 == pytest.approx(cv, rel=0.1, abs=1e-12)
    assert law.mean == pytest.approx(0.02)


def test_a_tail_is_cut_where_it_is_said():
    assert max(Pareto(0.02, 1.2, most=1.0).block(stream(1, "service"), DRAWS)) == 1.0


def test_poisson_arrivals_have_their_rate_and_are_in_order():
    found = moments(Poisson(100.0), blocks=10)
    assert len(found) == 10 * BLOCK
    assert all(one < other for one, other in pairwise(found))
    assert found[-1] == pytest.approx(len(found) / 100, rel=3 / math.sqrt(len(found)))


def test_a_rate_holds_until_the_next_one():
    """Counts in an interval are Poisson: mean 2,000, and 4,000, by 3 of their square roots."""
    found = moments(Steps([(0.0, 100.0), (20.0, 400.0), (30.0, 0.0), (40.0, 100.0), (60.0, 0.0)]))
    counts = [sum(begin <= one < end for one in found) for begin, end in ((0, 20), (20, 30), (30, 40), (40, 60))]
    assert counts[0] == pytest.approx(2000, abs=3 * math.sqrt(2000))
    assert counts[1] == pytest.approx(4000, abs=3 * math.sqrt(4000))
    assert counts[2] == 0
    assert counts[3] == pytest.approx(2000, abs=3 * math.sqrt(2000))
    assert found == sorted(found)
    assert found[-1] < 60


def test_steps_that_never_end_go_on_at_the_last_rate():
    found = moments(Steps([(0.0, 10.0), (1.0, 1000.0)]), blocks=3)
    assert len(found) == 3 * BLOCK
    assert found[-1] == pytest.approx(1 + (len(found) - 10) / 1000, rel=0.05)


def test_a_trace_is_what_it_is():
    assert moments(Trace([0.5, 0.5, 2.0])) == [0.5, 0.5, 2.0]


def test_streams_of_different_names_have_nothing_in_common():
    assert stream(1, "arrivals").random() != stream(1, "service").random() != stream(2, "service").random()


@pytest.mark.parametrize(
    ("law", "problem"),
    [
        (lambda: Exponential(0.0), "mean should be more than 0, not 0"),
        (lambda: Fixed(math.inf), "mean should be more than 0, not inf"),
        (lambda: Lognormal(1.0, -1.0), "cv should be more than 0, not -1"),
        (lambda: Pareto(1.0, 1.0), "alpha should be more than 1, not 1"),
        (lambda: Empirical([]), "values should have one at least"),
        (lambda: Empirical([1.0, 0.0]), "each value should be more than 0"),
        (lambda: Poisson(0.0), "rate should be more than 0"),
        (lambda: Steps([(1.0, 5.0)]), "rates should begin at 0"),
        (lambda: Steps([(0.0, 5.0), (0.0, 6.0)]), "in order of time"),
        (lambda: Steps([(0.0, -5.0)]), "no rate may be less than 0"),
        (lambda: Trace([2.0, 1.0]), "moments should be in order"),
    ],
)
def test_what_is_no_law_is_refused_in_one_line(law, problem):
    with pytest.raises(ValueError, match=problem) as caught:
        law()
    assert "\n" not in str(caught.value)
