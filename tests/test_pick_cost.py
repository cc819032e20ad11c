"""What a pick costs by the size of the pool, in steps of the interpreter: it grows as promised."""

import json
import math
from collections.abc import Callable
from pathlib import Path

import pytest
from policy_table.page import PROMISED
from policy_table.steps import STEP_SIZES, WEIGHTS, steps

from twisted_lb.build_info import build
from twisted_lb.core.pickers import POLICIES

STORED = json.loads((Path(__file__).parent.parent / "docs" / "policies.json").read_text())


def constant(_size: int) -> float:
    return 1.0


def logarithm(size: int) -> float:
    return math.log2(size)


def linear(size: int) -> float:
    return float(size)


Growth = Callable[[int], float]
# By policy: with equal weights, and with unequal ones in pools of more than 64.
GROWTH: dict[str, tuple[Growth, Growth]] = {
    "rr": (constant, logarithm),
    "rand": (constant, constant),
    "least": (linear, linear),
    "p2c": (constant, constant),
    "latency": (constant, constant),
    "prequal": (constant, constant),
    "first": (constant, constant),
    "ring": (logarithm, logarithm),
    "maglev": (constant, constant),
    "rendezvous": (linear, linear),
    "prefix": (linear, linear),
}
# Picks differ by what they draw, and who is out is passed: a fifth more, and so many steps.
MORE, STEPS_MORE = 1.2, 150


def most(few: int, small: int, large: int, growth: Growth, more: float = MORE) -> float:
    """What a pick in a large pool may cost by what it costs in a small one."""
    return few * growth(large) / growth(small) * more + STEPS_MORE


@pytest.mark.skipif(build() != "pure", reason="compiled code takes no steps of the interpreter")
@pytest.mark.parametrize("kind", WEIGHTS)
@pytest.mark.parametrize("policy", POLICIES)
def test_a_pick_grows_as_promised_while_all_are_in(policy, kind):
    growth = GROWTH[policy][kind == "unequal"]
    few, many = (steps(policy, size, WEIGHTS[kind], all_in=True)["mean"] for size in (100, 800))
    assert many <= most(few, 100, 800, growth)


@pytest.mark.parametrize("kind", WEIGHTS)
@pytest.mark.parametrize("policy", POLICIES)
def test_it_does_so_to_ten_thousand_with_a_tenth_of_them_down(policy, kind):
    """The median: of ten picks by key one meets somebody who is down."""
    growth, seen = GROWTH[policy][kind == "unequal"], STORED[policy]["steps"][kind]
    few = seen["100"]["median"]
    assert all(seen[str(size)]["median"] <= most(few, 100, size, growth) for size in STEP_SIZES if size > 100), seen


@pytest.mark.parametrize("kind", WEIGHTS)
@pytest.mark.parametrize("policy", POLICIES)
def test_none_costs_more_than_in_proportion(policy, kind):
    """Twice as much by chance: how many of those who are equal are drawn among, and how many of 20 keys meet somebody who is down."""
    seen = STORED[policy]["steps"][kind]
    few = seen["100"]["mean"]
    assert all(seen[str(size)]["mean"] <= most(few, 100, size, linear, 2.0) for size in STEP_SIZES if size > 100), seen


def test_smooth_turns_by_weight_cost_in_proportion_to_64_members_and_then_little():
    """The border: above it deadlines are in a heap."""
    seen = STORED["rr"]["steps"]["unequal"]
    assert seen["50"]["mean"] > 2 * seen["100"]["mean"]


def test_the_promise_of_each_is_said():
    assert list(PROMISED) == list(POLICIES)
