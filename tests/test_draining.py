"""The time of grace of a stop. Drains are told with the data plane that they are of."""

import pytest
from twisted.logger import formatEvent, globalLogPublisher

from twisted_lb.draining import Grace
from twisted_lb.testing import HeapClock


@pytest.fixture
def said():
    lines: list[str] = []

    def observe(event):
        if event["log_namespace"] == "twisted_lb.draining":
            lines.append(formatEvent(event))

    globalLogPublisher.addObserver(observe)
    yield lines
    globalLogPublisher.removeObserver(observe)


def test_a_time_of_grace_ends_by_itself(said):
    clock = HeapClock()
    grace = Grace(clock.callLater, 5)
    clock.advance(4.9)
    assert not grace.done.called
    clock.advance(0.2)
    assert grace.done.result is False
    assert said == ["not ready any more, accepting for 5 s (ready_grace_s)"]
    grace.hurry()


def test_a_time_of_grace_ends_when_somebody_is_in_a_hurry():
    clock = HeapClock()
    grace = Grace(clock.callLater, 5)
    grace.hurry()
    assert grace.done.result is True
    assert clock.getDelayedCalls() == []


def test_none_is_over_at_once_and_says_nothing(said):
    assert Grace(HeapClock().callLater, 0).done.result is False
    assert said == []
