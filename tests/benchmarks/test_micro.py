"""What the micro-benchmarks time does what they say; how long it takes is theirs."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent.parent.parent / "benchmarks" / "micro"))

from subjects import SUBJECTS

from twisted_lb.core.pickers import POLICIES


@pytest.mark.parametrize("name", SUBJECTS)
def test_a_subject_can_be_called_again_and_again(name):
    run = SUBJECTS[name]()
    first = run()
    assert type(run()) is type(first)


def test_every_policy_is_picked_from():
    assert {name.split(",")[1].split()[0] for name in SUBJECTS if name.startswith("pick")} == set(POLICIES)
