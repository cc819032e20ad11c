"""Loop lag: how late timers come, and what is said of a turn that takes long."""

import itertools
import threading

import pytest

from twisted_lb.loop_lag import INTERVAL_S, LONG_S, LoopLag, Watchdog
from twisted_lb.testing import HeapClock


class Late(HeapClock):
    """A clock whose timers come as late as the test says."""

    late = 0.0

    def seconds(self):
        return super().seconds() + self.late


@pytest.fixture
def clock():
    return Late(1000.0)


@pytest.fixture
def measured(clock):
    lag = LoopLag(clock)
    lag.start()
    yield lag
    lag.stop()
    assert clock.getDelayedCalls() == []


def test_timers_that_come_in_time_have_no_lag(clock, measured):
    clock.advance(4 * INTERVAL_S)
    assert measured.lag.reading().count == 4
    assert measured.lag.total_s == 0.0


def test_a_timer_that_comes_late_is_counted_with_its_lateness(clock, measured):
    clock.advance(INTERVAL_S)
    clock.late = 0.1
    clock.advance(INTERVAL_S)
    assert measured.lag.reading().count == 2
    assert measured.lag.total_s == pytest.approx(0.1)


def test_what_was_missed_in_a_long_turn_is_one_lag_and_not_many(clock, measured):
    clock.late = 10 * INTERVAL_S
    clock.advance(INTERVAL_S)
    assert measured.lag.reading().count == 1
    clock.late = 0.0
    assert measured.lag.total_s == pytest.approx(10 * INTERVAL_S)


def test_each_look_is_a_beat(clock):
    beats = []
    lag = LoopLag(clock, lambda: beats.append(clock.seconds()))
    lag.start()
    clock.advance(2 * INTERVAL_S)
    lag.stop()
    lag.stop()
    assert beats == [1000.0, 1000.0 + INTERVAL_S, 1000.0 + 2 * INTERVAL_S]


class Held:
    """A watchdog of this thread, on time that the test moves."""

    def __init__(self):
        self.now = 50.0
        self.said = []
        self.dog = Watchdog(lambda held_s, where: self.said.append((held_s, where)), lambda: self.now)

    def look_from_elsewhere(self):
        looking = threading.Thread(target=self.dog.look)
        looking.start()
        looking.join()


def test_a_turn_that_takes_long_is_said_with_where_it_is():
    held = Held()
    held.now += INTERVAL_S + LONG_S
    held.look_from_elsewhere()
    [(held_s, where)] = held.said
    assert held_s == pytest.approx(LONG_S)
    assert "test_a_turn_that_takes_long_is_said_with_where_it_is at " in where
    assert where.rindex("look_from_elsewhere at ") > where.index("test_a_turn_that_takes_long")
    assert "\n" not in where


def test_it_is_said_once_a_turn_and_again_of_the_next():
    held = Held()
    held.now += 5.0
    held.look_from_elsewhere()
    held.now += 5.0
    held.look_from_elsewhere()
    assert len(held.said) == 1
    held.dog.beat()
    held.look_from_elsewhere()
    assert len(held.said) == 1
    held.now += 5.0
    held.look_from_elsewhere()
    assert len(held.said) == 2


def test_nothing_is_said_of_a_thread_that_moves():
    held = Held()
    for _ in range(100):
        held.now += INTERVAL_S + LONG_S / 2
        held.look_from_elsewhere()
        held.dog.beat()
    assert held.said == []


def test_nothing_is_said_after_a_pause_of_the_whole_process():
    held = Held()
    before = held.now
    held.now += 60.0
    held.dog.look_again(before)
    held.look_from_elsewhere()
    assert held.said == []
    held.now += 5.0
    held.dog.look_again(held.now - LONG_S / 4)
    assert len(held.said) == 1


def test_the_watchdogs_thread_says_it_by_itself_and_ends_when_it_is_stopped():
    said = threading.Event()
    steps = itertools.count()  # time passes a little whenever it is asked for, and nobody beats
    dog = Watchdog(lambda _held_s, _where: said.set(), lambda: next(steps) * 0.001, 0.01)
    dog.start()
    before = {one.name for one in threading.enumerate()}
    assert said.wait(60)
    dog.stop()
    dog.stop()
    assert "twisted_lb watchdog" in before
    assert "twisted_lb watchdog" not in {one.name for one in threading.enumerate()}
