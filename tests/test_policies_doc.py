"""docs/policies.md is what was measured, of every policy, and what it says in words is so."""

import json
from pathlib import Path

import pytest
from policy_table.page import EXCHANGES, LOADS, SIZES, WHEN, render

from twisted_lb.core.pickers import BY_KEY, BY_LOAD, POLICIES
from twisted_lb.core.pickers import LOADS as LOAD_KINDS
from twisted_lb.sim import theory

DOCS = Path(__file__).parent.parent / "docs"
MEASURED = json.loads((DOCS / "policies.json").read_text())


def test_the_page_is_what_was_measured():
    assert (DOCS / "policies.md").read_text() == render(MEASURED), "benchmarks/policies.py --render"


def test_every_policy_was_measured_and_is_what_it_was():
    described = {name: one["described"] for name, one in MEASURED.items()}
    assert described == {name: policy.describe for name, policy in POLICIES.items()}, "benchmarks/policies.py"


@pytest.mark.parametrize("name", POLICIES)
def test_each_has_advice_when_to_use_it(name):
    assert WHEN.get(name), "benchmarks/policy_table/page.py"


@pytest.mark.parametrize("part", [*BY_LOAD, *LOAD_KINDS, *BY_KEY])
def test_every_part_of_a_table_is_told(part):
    section = (DOCS / "policies.md").read_text().partition("## Tables of two parts")[2].partition("\n## ")[0]
    assert f"`{part}`" in section


@pytest.mark.parametrize("plot", ["10", "100", "shares", "steps"])
def test_a_plot_that_it_shows_is_there(plot):
    assert f"(policies-{plot}.svg)" in (DOCS / "policies.md").read_text()
    assert (DOCS / f"policies-{plot}.svg").read_text().startswith("<?xml")


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("load", LOADS)
def test_the_figures_are_those_of_theory(size, load):
    """5 runs, t = 2.776: 1.5 half widths are 4.2 standard errors, and 0.005 what rounding leaves."""
    for name, should in (
        ("rand", theory.m_m_1(float(load))),
        ("rr", theory.round_robin(int(size), float(load))),
    ):
        mean, half = MEASURED[name]["even"][size][load]["mean"]
        assert abs(mean - should) < 1.5 * half + 0.005, name


def test_a_slow_backend_is_overloaded_by_those_that_look_at_nothing():
    unstable = {name for name, one in MEASURED.items() if "unstable" in one["slow"]}
    assert {"rr", "rand"} <= unstable
    assert not unstable & {"least", "p2c", "latency", "prequal"}


def test_failures_that_count_keep_those_out_of_a_sinkhole_that_look_at_latency():
    """An even share is 10 %."""
    for name in ("latency", "prequal"):
        assert MEASURED[name]["sinkhole"]["counts"]["share"] < 0.03


def test_a_small_request_costs_little_more_by_load_than_by_turns():
    assert all(count <= 1.05 * EXCHANGES["rr"] for count in EXCHANGES.values())
