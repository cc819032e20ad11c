"""Counting: which subject is meant, what is said of a change, and that a count repeats."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import instructions
import pytest

NAMES = ["exchange, small", "exchange, browser", "exchange, browser heads, varying", "pick, rr, 2", "pick, rr, 200"]
BEFORE = {"exchange, small": {"pure": {"instructions": 1000.0, "calls": 100.0}}}


def counts(instructions: float, calls: float = 100.0) -> instructions.Counts:
    return {"exchange, small": {"pure": {"instructions": instructions, "calls": calls}}}


@pytest.mark.parametrize(
    ("part", "name"),
    [
        ("exchange, small", "exchange, small"),
        ("small", "exchange, small"),
        ("browser heads, varying", "exchange, browser heads, varying"),
        ("exchange, browser", "exchange, browser"),
        ("pick, rr, 2", "pick, rr, 2"),
    ],
)
def test_a_subject_is_named_by_a_part_of_its_name(part, name):
    assert instructions.chosen([part], NAMES) == [name]


def test_a_part_of_more_than_one_name_is_refused():
    with pytest.raises(ValueError, match=r"'pick' is ambiguous: pick, rr, 2; pick, rr, 200"):
        instructions.chosen(["pick"], NAMES)


def test_a_part_of_no_name_is_refused():
    with pytest.raises(ValueError, match="'nothing' is unknown: exchange, small; "):
        instructions.chosen(["nothing"], NAMES)


def test_the_usual_subjects_exist():
    known = run_counted().splitlines()
    assert instructions.chosen(list(instructions.USUAL), known) == list(instructions.USUAL)


def test_a_count_within_the_budget_passes():
    assert instructions.over_budget(counts(1020.0), BEFORE, 2.0) == []
    assert instructions.over_budget(counts(500.0), BEFORE, 2.0) == []


def test_a_count_over_the_budget_is_named():
    assert instructions.over_budget(counts(1021.0, 103.0), BEFORE, 2.0) == [
        "exchange, small, pure: +2.10 % instructions, the budget is 2 %",
        "exchange, small, pure: +3.00 % calls, the budget is 2 %",
    ]


def test_what_was_not_saved_has_no_budget():
    assert instructions.over_budget({"pick, rr, 2": {"pure": {"instructions": 1.0}}}, BEFORE, 2.0) == []


def test_a_line_tells_the_ratio_to_the_saved_count():
    found = counts(1013.0)["exchange, small"]["pure"]
    said = [line.split() for line in instructions.lines("s", "pure", found, {"instructions": 1000.0})]
    assert said == [
        ["s,", "pure", "1,013.0", "instructions", "1.0130"],
        ["s,", "pure", "100.0", "calls", "not", "in", "the", "saved", "run"],
    ]


def test_calls_of_functions_repeat():
    first, second = (run_counted("lease and settle", "20", "calls") for _ in range(2))
    assert first == second
    assert all(int(number) > 0 for number in first.split())


@pytest.mark.long
@pytest.mark.skipif(shutil.which("valgrind") is None, reason="needs valgrind")
def test_instructions_repeat():
    build = instructions.Build("compiled", Path(sys.executable))
    first, second = (build.count("exchange, small")["instructions"] for _ in range(2))
    assert first > 10_000
    assert second == pytest.approx(first, rel=1e-3)  # dicts and memory lie elsewhere


def run_counted(*words: str) -> str:
    """Not what is said on errors: under coverage it may be more than errors."""
    # It imports what is beside it, which the isolation of the tests forbids.
    free = {key: value for key, value in os.environ.items() if key != "PYTHONSAFEPATH"}
    done = subprocess.run(
        [sys.executable, instructions.COUNTED, *words],
        capture_output=True,
        text=True,
        check=True,
        env={**free, "PYTHONHASHSEED": "0"},
    )
    return done.stdout
