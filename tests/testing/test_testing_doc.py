"""What docs/testing.md says is run, and what it names exists."""

import re
from pathlib import Path

import pytest

import twisted_lb.testing

ROOT = Path(__file__).parent.parent.parent
TEXT = (ROOT / "docs" / "testing.md").read_text()
PYTHON = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)


def test_the_examples_hold():
    """One after the other, as a reader would type them."""
    assert len(PYTHON) == 7
    names: dict[str, object] = {"pytest": pytest}
    for block in PYTHON:
        exec(compile(block, "docs/testing.md", "exec"), names)
    tests = [name for name in names if name.startswith("test_")]
    assert len(tests) == 3
    for name in tests:
        names[name]()


@pytest.mark.parametrize("name", sorted(set(re.findall(r"^\| `(\w+)`", TEXT, re.MULTILINE)) | {"Chances", "Wait"}))
def test_a_name_of_the_package_exists(name):
    assert name in twisted_lb.testing.__all__


@pytest.mark.parametrize("chance", sorted(vars(twisted_lb.testing.Chances())))
def test_each_chance_is_told(chance):
    assert f"`{chance}`" in TEXT


@pytest.mark.parametrize("path", ["scripts/faults", "tests/faults/mutations.py", "tests/faults/test_mutations.py"])
def test_a_file_that_it_names_exists(path):
    assert path in TEXT
    assert (ROOT / path).exists()
