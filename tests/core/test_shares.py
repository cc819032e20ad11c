"""Shares: the alias table gives each member its weight, exactly, and draws go by it."""

import math
import random
from collections import Counter
from fractions import Fraction

import pytest
from builders import backends
from hypothesis import example, given
from hypothesis import strategies as st
from some import examples

from twisted_lb.core.pickers.shares import Shares, alias_table

WEIGHTS = st.lists(st.integers(1, 256), min_size=1, max_size=60)


@examples(300)
@given(weights=WEIGHTS)
@example(weights=[1] * 7)
@example(weights=[256, *([1] * 999)])
@example(weights=[*([1] * 999), 256])
def test_the_probabilities_in_the_table_sum_up_to_each_ones_share_exactly(weights):
    own, other = alias_table(weights)
    height = sum(weights)
    assert all(0 < one <= height for one in own)
    shares = Counter()
    for column, (until, alias) in enumerate(zip(own, other, strict=True)):
        shares[column] += Fraction(until, height * len(weights))
        shares[alias] += Fraction(height - until, height * len(weights))
    assert [shares[index] for index in range(len(weights))] == [Fraction(weight, height) for weight in weights]


def test_a_table_by_hand():
    """Weights 1, 2, 3: columns as high as 6; a's has 3 of its own, b's is its own, c fills up what is left."""
    assert alias_table([1, 2, 3]) == ([3, 6, 6], [2, 1, 2])


@pytest.mark.parametrize("weights", [(1, 1, 1), (5, 3, 2), (1, 255), (7,)])
def test_numbers_that_are_evenly_spread_fall_into_the_shares(weights):
    """As many as make each share a whole number of them, each in the middle of its part."""
    members = backends(**{f"b{index}": weight for index, weight in enumerate(weights)})
    shares = Shares(members)
    parts = sum(weights) * len(weights)
    got = Counter(shares.at((part + 0.5) / parts) for part in range(parts))
    assert [got[index] for index in range(len(weights))] == [weight * len(weights) for weight in weights]


@pytest.mark.parametrize("number", [0.0, math.nextafter(1.0, 0.0)])
@pytest.mark.parametrize("size", [1, 2, 3, 7, 10, 255, 256, 257, 1000])
def test_the_ends_of_the_range_fall_into_somebodys_share(number, size):
    members = backends(**{f"b{index}": 1 + index % 3 for index in range(size)})
    assert 0 <= Shares(members).at(number) < size
    assert 0 <= Shares(backends(**{f"b{index}": 1 for index in range(size)})).at(number) < size


def test_who_is_out_leaves_its_share_to_all_others_by_weight():
    members = backends(a=5, b=3, c=2)
    members[0].available = False
    shares, rng = Shares(members), random.Random(5)
    got = Counter(shares.draw_open(rng, (), -1) for _ in range(10_000))
    # Binomial(10000, .6): sd 49; five of them.
    assert abs(got[1] - 6000) < 245
    assert got[1] + got[2] == 10_000
