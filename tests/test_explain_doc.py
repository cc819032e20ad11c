"""What docs/explain.md says: its numbers and words are those of the code."""

import re
from pathlib import Path

import pytest

from twisted_lb import data_plane, questions
from twisted_lb.core import notes
from twisted_lb.core.pickers.base import MOST_REMEMBERED
from twisted_lb.core.standing import Skipped

PAGE = (Path(__file__).parent.parent / "docs" / "explain.md").read_text()
ROWS = dict(re.findall(r"^\| (\w+) \| ([\d,]+) \|", PAGE, re.MULTILINE))


@pytest.mark.parametrize(
    ("kind", "number"),
    [("recent", notes.RECENT), ("failed", notes.FAILED), ("refused", notes.FAILED), ("slowest", notes.SLOWEST)],
)
def test_so_many_are_kept(kind, number):
    assert ROWS[kind] == f"{number:,}"


def test_each_kind_is_named():
    assert set(ROWS) | {"running"} == set(questions.KINDS)
    assert all(f'"{kind}"' in PAGE for kind in questions.KINDS)


def test_each_reason_has_its_row():
    assert re.findall(
        r"^\| ((?:taken|of weight|of a level|down|busy|ejected|as many|tried|more than)[^|]*) \|", PAGE, re.MULTILINE
    ) == [reason.value for reason in Skipped]


def test_the_numbers_are_those_of_the_code():
    assert f"({notes.TARGET_BYTES:,} bytes of it" in PAGE
    assert f"more than {MOST_REMEMBERED} backends" in PAGE


@pytest.mark.parametrize("name", ["explain", "explained", "explain_next", "route", "questions"])
def test_each_question_is_there(name):
    assert f"{name}(" in PAGE or f".{name}." in PAGE
    assert hasattr(data_plane.DataPlane, name)
