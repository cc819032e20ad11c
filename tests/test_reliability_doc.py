"""docs/reliability.md is what was measured, all of it was, and what it says of ours is what we promise."""

import json
from pathlib import Path

import pytest
from bad_days.page import PEERS, render, soaked_of
from bad_days.scenarios import SCENARIOS

DOCS = Path(__file__).parent.parent / "docs"
MEASURED = json.loads((DOCS / "reliability.json").read_text())


def test_the_page_is_what_was_measured():
    assert (DOCS / "reliability.md").read_text() == render(MEASURED), "benchmarks/reliability.py --render"


@pytest.mark.parametrize("name", SCENARIOS)
def test_every_scenario_was_measured_on_everybody(name):
    assert set(MEASURED["results"][name]) == set(PEERS), "benchmarks/reliability.py"


@pytest.mark.parametrize("peer", ["ours", "ours, pure"])
@pytest.mark.parametrize("name", SCENARIOS)
def test_our_clients_saw_no_error(name, peer):
    assert MEASURED["results"][name][peer]["errors"] == {}


def test_the_soak_was_long_enough_and_found_nothing():
    soaked = soaked_of(MEASURED["soak"])
    assert soaked.seconds >= 600
    assert soaked.faults + soaked.growth == []
