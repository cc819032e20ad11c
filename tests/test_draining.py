"""The time of grace of a stop, and drains of a process that is paused. Others are told with the data plane that they are of."""

from itertools import pairwise
from types import SimpleNamespace

import pytest
from twisted.logger import formatEvent, globalLogPublisher

from twisted_lb.draining import Drain, Grace
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


# Drains.


class HeldClock(HeapClock):
    """The time of a process that is paused now and then."""

    def hold(self, seconds: float) -> None:
        """The process goes on so much later, and finds everything due."""
        self._now += seconds
        self.settle()


@pytest.fixture
def clock():
    return HeldClock(1000.0)


@pytest.fixture
def told():
    return []


@pytest.fixture
def drain(clock, told):
    """One of 5 seconds, with a client who does not leave."""
    return Drain(
        SimpleNamespace(clients=1, exchanges=1, tunnels=1, tell_good_bye=lambda part: told.append("good-bye")), clock, 5
    )


def test_after_a_pause_of_the_process_a_drain_ends_a_look_later(clock, drain, told):
    clock.advance(1)
    clock.hold(60)
    assert (drain.done.called, told) == (False, ["good-bye"])
    clock.advance(0.02)
    assert (drain.done.called, told) == (True, ["good-bye"])


def test_a_drain_of_a_process_that_is_always_late_ends_all_the_same(clock, drain):
    clock.hold(60)
    clock.hold(60)
    assert drain.done.called


def test_a_busy_moment_is_no_pause_for_a_drain(clock, drain):
    clock.advance(4.5)
    clock.hold(0.9)
    assert drain.done.called


def test_a_hurry_ends_a_drain_whatever_there_was(clock, drain):
    clock.hold(60)
    drain.hurry()
    assert drain.done.called


def test_of_a_long_drain_clients_are_told_a_few_at_a_time(clock):
    told: list[float] = []
    Drain(SimpleNamespace(clients=1, exchanges=1, tunnels=1, tell_good_bye=told.append), clock, 3600)
    clock.advance(3538.9)
    assert told == []
    for _ in range(62):
        clock.advance(1)
    assert len(told) > 50
    assert told == sorted(told)
    assert all(later - part < 0.05 for part, later in pairwise(told))
    assert (told[0] < 0.02, told[-1], told.count(1.0)) == (True, 1.0, 1)


def test_a_hurry_tells_all_that_are_left(clock):
    told: list[float] = []
    drain = Drain(SimpleNamespace(clients=1, exchanges=1, tunnels=1, tell_good_bye=told.append), clock, 3600)
    clock.advance(3570)
    drain.hurry()
    assert 0 < told[-2] < told[-1] == 1.0
