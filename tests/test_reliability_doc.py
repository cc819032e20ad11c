"""docs/reliability.md is what was measured, all of it was, and what it says of ours is what we promise."""

import json
from pathlib import Path

import pytest
from bad_days.closers import POSTS
from bad_days.page import PEERS, case_in_words, render, soaked_of
from bad_days.scenarios import SCENARIOS

DOCS = Path(__file__).parent.parent / "docs"
MEASURED = json.loads((DOCS / "reliability.json").read_text())


def test_the_page_is_what_was_measured():
    assert (DOCS / "reliability.md").read_text() == render(MEASURED), "benchmarks/reliability.py --render"


# Of those that have several lines: what an error may be there.
BOUNDED = {"away", "restarted", "closing POSTs", "closing GETs", "clock"}
OURS = ("ours", "ours, pure")


@pytest.mark.parametrize("name", SCENARIOS)
def test_every_scenario_was_measured_on_everybody(name):
    assert set(MEASURED["results"][name]) == set(PEERS), "benchmarks/reliability.py"


@pytest.mark.parametrize("peer", OURS)
@pytest.mark.parametrize("name", [name for name in SCENARIOS if name not in BOUNDED])
def test_our_clients_saw_no_error(name, peer):
    assert MEASURED["results"][name][peer]["errors"] == {}


def cases(name: str) -> list[tuple[str, dict]]:
    """Each line of a scenario, of both builds."""
    return [line for peer in OURS for line in MEASURED["results"][name][peer]["cases"].items()]


def test_after_an_outage_of_any_length_we_serve_within_half_a_second():
    assert [title for title, case in cases("away") if case.get("first_s", 30) > 0.5] == []


def test_after_a_restart_we_serve_within_half_a_second():
    assert [title for title, case in cases("restarted") if max(case["back_s"]) > 0.5] == []


def test_of_3000_posts_we_lost_hardly_any():
    kept = {habit.title for habit in POSTS if habit.kept}
    lost = [(title, sum(case["errors"].values())) for title, case in cases("closing POSTs")]
    assert [one for one in lost if one[1] > (30 if one[0] in kept else 5)] == []


def test_of_3000_gets_we_lost_none():
    assert [case["errors"] for _, case in cases("closing GETs") if case["errors"]] == []


def test_whatever_the_clock_did_all_happened_in_time():
    assert [title for title, case in cases("clock") if not case.get("took_s", 30) <= case["within_s"]] == []


@pytest.mark.parametrize(
    ("case", "said"),
    [
        ({"cannot": "has no active checks"}, "has no active checks"),
        ({"requests": 3, "errors": {}, "first_s": 0.05}, "0.05 s; none"),
        ({"requests": 9, "errors": {"503": 1204, "502": 1}, "note": "not in 30 s"}, "not in 30 s; 503: 1,204, 502: 1"),
        ({"errors": {}, "slowest_s": 1.0, "back_s": [0.1, 0]}, "none; waited up to 1.00 s; back after 0.10 s, 0.00 s"),
        ({"errors": {"502": 60.3, "504": 1204.0}}, "502: 60.3, 504: 1,204"),
        ({"took_s": 2.04, "within_s": 3.5}, "yes, 2.0 s"),
        ({"took_s": 8.3, "within_s": 3.5}, "no, 8.3 s"),
        ({"note": "504 after 0.0 s", "within_s": 3.5}, "no, 504 after 0.0 s"),
    ],
)
def test_a_cell_says_what_one_line_came_to(case, said):
    assert case_in_words({"requests": 1, **case}) == said


def test_the_soak_was_long_enough_and_found_nothing():
    soaked = soaked_of(MEASURED["soak"])
    assert soaked.seconds >= 600
    assert soaked.faults + soaked.growth == []
