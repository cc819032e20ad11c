"""Lines of a worker for the log of its parent: none is torn, what is long keeps its end, and what is too much is said."""

import pytest
from twisted.logger import LogLevel
from twisted.python.failure import Failure

from twisted_lb.testing import HeapClock
from twisted_lb.workers.lines import GATHER_S, MOST_LINES, Lines, line_of

# What one text of AMP may have, in bytes.
MOST_BYTES = 0xFFFF


def event(text: str, **more: object) -> dict:
    return {"log_format": "{text}", "text": text, "log_level": LogLevel.warn, "log_namespace": "a.b", **more}


@pytest.fixture
def clock():
    return HeapClock(0.0)


@pytest.fixture
def sent():
    return []


@pytest.fixture
def lines(clock, sent):
    return Lines(sent.append, clock.callLater)


def test_a_line_has_its_level_and_its_namespace():
    assert line_of(event("it is late")) == "warn a.b it is late"
    assert line_of({"log_format": "x"}) == "info  x"


def test_what_has_no_text_is_no_line():
    assert line_of({}) == ""
    assert line_of(event("")) == ""


def deep(left: int) -> None:
    if left:
        deep(left - 1)
    raise ValueError("the reason")


def test_of_a_long_traceback_is_told_what_failed_and_what_it_was():
    try:
        deep(60)
    except ValueError:
        failure = Failure()
    line = line_of(event("a hook has failed", log_failure=failure))
    assert line.startswith("warn a.b a hook has failed\nTraceback")
    assert line.rstrip().endswith("ValueError: the reason")
    assert " […] " in line
    assert len(line) < 2100


def test_a_line_with_a_null_is_one_line(lines, clock, sent):
    lines.add(line_of(event("a\0b")))
    clock.advance(GATHER_S)
    assert sent == ["warn a.b a\\0b"]


def test_lines_of_a_moment_go_together_and_in_order(lines, clock, sent):
    lines.add("one")
    lines.add("two")
    assert sent == []
    clock.advance(GATHER_S)
    assert sent == ["one\0two"]
    lines.add("three")
    clock.advance(GATHER_S)
    assert sent == ["one\0two", "three"]


def test_no_text_is_longer_than_the_link_takes(lines, clock, sent):
    for _ in range(30):
        lines.add(line_of(event("𝄞" * 5000)))
    clock.advance(GATHER_S)
    assert sum(text.count("\0") + 1 for text in sent) == 30
    assert max(len(text.encode()) for text in sent) <= MOST_BYTES


def test_what_is_too_much_is_dropped_and_that_is_said(lines, clock, sent):
    for number in range(MOST_LINES + 7):
        lines.add(str(number))
    clock.advance(GATHER_S)
    told = "\0".join(sent).split("\0")
    assert told[:MOST_LINES] == [str(number) for number in range(MOST_LINES)]
    assert told[MOST_LINES:] == ["warn twisted_lb.workers 7 more lines were dropped"]
    lines.add("again")
    clock.advance(GATHER_S)
    assert sent[-1] == "again"
