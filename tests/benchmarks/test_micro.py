"""What the micro-benchmarks time does what they say; how long it takes is theirs."""

import re
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent.parent.parent / "benchmarks" / "micro"))

from subjects import BROWSER, SUBJECTS, VARIANTS, browser

from twisted_lb.core.pickers import POLICIES


@pytest.mark.parametrize("name", SUBJECTS)
def test_a_subject_can_be_called_again_and_again(name):
    run = SUBJECTS[name]()
    first = run()
    assert type(run()) is type(first)


def test_every_policy_is_picked_from():
    assert {name.split(",")[1].split()[0] for name in SUBJECTS if name.startswith("pick")} == set(POLICIES)


@pytest.mark.parametrize("name", [name for name in SUBJECTS if name.startswith("socketpairs")])
def test_no_connection_is_left_open(name):
    before = descriptors()
    run = SUBJECTS[name]()
    run()
    after_one = descriptors()
    for _ in range(50):
        run()
    assert descriptors() == after_one
    del run
    assert descriptors() == before


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def test_the_heads_of_a_browser_are_those_that_the_yardstick_sends():
    assert browser(1) == BROWSER % 31
    heads = [browser(number) for number in range(1, VARIANTS + 1)]
    assert len(set(heads)) == VARIANTS
    lua = (Path(__file__).parent.parent.parent / "benchmarks" / "yardstick" / "load.lua").read_text()
    assert f"VARIANTS = {VARIANTS}" in lua
    assert set(re.findall(r"number \* (\d+)", lua)) == {"7919", "104729", "2654435", "40503", "31"}
