"""Lines of a worker for the log of its parent: none is torn, what is long keeps its end, and what is too much is said."""

import pytest
from twisted.logger import LogLevel
from twisted.python.failure import Failure

from twisted_lb.testing import HeapClock
from twisted_lb.workers.lines import GATHER_S, MOST_LINES, Lines, line_of
from twisted_lb.workers.messages import packed, unpacked

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
    assert line_of(event("it is late")) == ("warn", "a.b", "it is late")
    assert line_of({"log_format": "x"}) == ("info", "", "x")


def test_what_has_no_text_is_no_line():
    assert line_of({}) is None
    assert line_of(event("")) is None


def deep(left: int) -> None:
    if left:
        deep(left - 1)
    raise ValueError("the reason")


def test_of_a_long_traceback_is_told_what_failed_and_what_it_was():
    try:
        deep(60)
    except ValueError:
        failure = Failure()
    _, _, line = line_of(event("a hook has failed", log_failure=failure))
    assert line.startswith("a hook has failed\nTraceback")
    assert line.rstrip().endswith("ValueError: the reason")
    assert " […] " in line
    assert len(line) < 2100


def line(text: str) -> tuple[str, str, str]:
    return "info", "a.b", text


def test_lines_of_a_moment_go_together_and_in_order(lines, clock, sent):
    lines.add(line("one"))
    lines.add(line("two"))
    assert sent == []
    clock.advance(GATHER_S)
    assert sent == [[line("one"), line("two")]]
    lines.add(line("three"))
    clock.advance(GATHER_S)
    assert sent[1:] == [[line("three")]]


@pytest.mark.parametrize("text", ["a\0b", "𝄞" * 5000, "\ud800", "a\nb", ""])
def test_whatever_is_in_a_line_it_comes_whole_and_no_text_is_longer_than_the_link_takes(text):
    told = [line(text[:2000])] * 30
    texts = packed(told)
    assert max(map(len, texts)) <= MOST_BYTES
    assert [one for data in texts for one in unpacked(data)] == told


def test_what_is_too_much_is_dropped_and_that_is_said(lines, clock, sent):
    for number in range(MOST_LINES + 7):
        lines.add(line(str(number)))
    clock.advance(GATHER_S)
    [told] = sent
    assert told[:MOST_LINES] == [line(str(number)) for number in range(MOST_LINES)]
    assert told[MOST_LINES:] == [("warn", "twisted_lb.workers", "7 more lines were dropped")]
    lines.add(line("again"))
    clock.advance(GATHER_S)
    assert sent[-1] == [line("again")]
