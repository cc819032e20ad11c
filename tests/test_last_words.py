"""What a program has said that could not start, in short."""

import subprocess
import sys

import pytest

from twisted_lb.service.last_words import gist


@pytest.mark.parametrize("said", ["lb.toml:1: no backend", "  two lines\nof text\n", ""])
def test_what_is_said_to_be_read_is_as_it_is(said):
    assert gist(said) == said.strip()


@pytest.mark.parametrize(
    ("program", "line", "error"),
    [
        ("import no_such_module\n", 1, "ModuleNotFoundError: No module named 'no_such_module'"),
        ("\n\nraise ValueError('first\\nsecond')\n", 3, "ValueError: first"),
        ("try:\n    1 / 0\nexcept ZeroDivisionError:\n    raise KeyError(7)\n", 4, "KeyError: 7"),
    ],
)
def test_of_a_traceback_the_error_and_its_place_are_left(tmp_path, program, line, error):
    file = tmp_path / "program.py"
    file.write_text(program)
    done = subprocess.run([sys.executable, str(file)], capture_output=True, text=True, check=False)
    assert gist(f"a warning before\n{done.stderr}") == f"{error} ({file}, line {line})"


def test_a_traceback_that_is_cut_is_said_to_be_one():
    assert gist("Traceback (most recent call last):\n") == "a traceback without an end"
