"""Timers on monotonic time: the order of calls, the alarm that wakes for them, and a wall clock that steps beside it."""

import os
import time
from collections.abc import Callable

import pytest
from twisted.internet.base import DelayedCall
from twisted.internet.epollreactor import EPollReactor
from twisted.internet.error import AlreadyCalled, AlreadyCancelled
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.internet.task import LoopingCall
from twisted.python.runtime import seconds as wall_seconds
from zope.interface.verify import verifyObject

from twisted_lb.net.alarm import ReactorAlarm, TimerAlarm
from twisted_lb.net.clock import Clock
from twisted_lb.net.over_reactor import make_monotonic, release, runtime_of
from twisted_lb.net.poller import EpollPoller
from twisted_lb.net.timers import MonotonicTimers
from twisted_lb.testing import HeapClock

HOUR_S = 3600.0


class Bell:
    """An alarm that tells what it was set for."""

    def __init__(self) -> None:
        self.moments: list[float] = []
        self.closed = 0

    def set(self, at: float) -> None:
        self.moments.append(at)

    def close(self) -> None:
        self.closed += 1


class Hours:
    """Timers whose time a test moves."""

    def __init__(self) -> None:
        self.now = 100.0
        self.timers = MonotonicTimers(lambda: self.now)
        self.bell = Bell()
        self.timers.wake_by(self.bell)
        self.told: list[str] = []

    def later(self, delay_s: float, name: str):
        return self.timers.callLater(delay_s, self.told.append, name)

    def ring(self, at: float) -> list[str]:
        self.now = at
        self.timers.ring()
        return self.told


@pytest.fixture
def hours():
    return Hours()


def test_it_is_a_reactors_time(hours):
    assert verifyObject(IReactorTime, hours.timers)
    assert verifyObject(IDelayedCall, hours.later(1, "a"))


def test_calls_come_in_the_order_of_their_moments_and_those_of_one_moment_in_that_of_their_making(hours):
    for delay_s, name in ((3, "c"), (1, "a"), (2, "b"), (1, "a2")):
        hours.later(delay_s, name)
    assert hours.ring(101.5) == ["a", "a2"]
    assert hours.ring(103.0) == ["a", "a2", "b", "c"]
    assert hours.timers.getDelayedCalls() == []


def test_the_alarm_is_set_for_the_first_call_only_when_that_comes_sooner(hours):
    hours.later(5, "late")
    hours.later(9, "later")
    first = hours.later(1, "first")
    assert hours.bell.moments == [105.0, 101.0]
    first.cancel()
    hours.ring(101.0)
    assert hours.told == [], "too early is a look and no more"
    assert hours.bell.moments[-1] == 105.0


def test_what_a_call_makes_for_now_is_for_the_next_time(hours):
    hours.timers.callLater(0, lambda: hours.later(0, "second"))
    assert hours.ring(100.0) == []
    assert hours.bell.moments[-1] == 100.0
    assert hours.ring(100.0) == ["second"]


def test_a_call_that_raises_does_not_keep_the_next_one_waiting(hours, logged_errors):
    hours.timers.callLater(1, lambda: 1 // 0)
    hours.later(1, "next")
    assert hours.ring(101.0) == ["next"]
    assert len(logged_errors.take()) == 1


def test_a_call_can_be_moved_and_cancelled_until_it_was_made(hours):
    one, two = hours.later(1, "one"), hours.later(1, "two")
    one.delay(2)
    two.reset(0.5)
    assert hours.bell.moments[-1] == 100.5
    assert hours.ring(100.5) == ["two"]
    with pytest.raises(AlreadyCalled):
        two.cancel()
    one.cancel()
    with pytest.raises(AlreadyCancelled):
        one.reset(1)
    assert hours.ring(200.0) == ["two"]


def test_after_a_stop_nothing_is_called_and_what_is_to_come_may_be_cancelled(hours):
    call = hours.later(1, "x")
    hours.timers.stop()
    hours.timers.stop()
    assert hours.bell.closed == 1
    call.cancel()
    hours.later(0, "y")
    assert hours.told == []


def test_nothing_is_lost_that_was_asked_for_before_there_was_an_alarm():
    timers, bell, told = MonotonicTimers(lambda: 7.0), Bell(), []
    timers.callLater(0, told.append, 1)
    timers.wake_by(bell)
    assert bell.moments == [7.0]
    timers.ring()
    assert told == [1]


# The alarm.


def rings_after(delay_s: float, before: Callable[[TimerAlarm], object] = lambda alarm: None) -> list[str]:
    """A poller that waits until an alarm has rung."""
    rung: list[str] = []
    poller = EpollPoller(Clock(time.monotonic), HeapClock().callLater, lambda: pytest.fail("lost"))
    alarm = TimerAlarm(poller, lambda: rung.append("rung"))
    before(alarm)
    alarm.set(time.monotonic() + delay_s)
    while not rung:
        poller._work(60.0)
    alarm.close()
    alarm.close()
    poller.flush()
    assert poller.watched == 0
    poller.stop()
    return rung


@pytest.mark.parametrize("delay_s", [-5.0, 0.0, 0.02])
def test_the_alarm_rings_when_its_moment_has_come_also_when_that_is_over(delay_s):
    assert rings_after(delay_s) == ["rung"]


def test_the_alarm_rings_for_the_last_moment_that_was_set():
    assert rings_after(0.01, lambda alarm: alarm.set(time.monotonic() + HOUR_S)) == ["rung"]


def test_an_alarm_that_was_set_anew_after_it_was_due_does_not_ring_for_the_old_moment():
    rung: list[str] = []
    poller = EpollPoller(Clock(time.monotonic), HeapClock().callLater, lambda: pytest.fail("lost"))
    alarm = TimerAlarm(poller, lambda: rung.append("rung"))
    alarm.set(time.monotonic() - 1.0)
    alarm.set(time.monotonic() + HOUR_S)
    alarm.ready(1)
    poller.flush()
    assert rung == []
    alarm.close()
    poller.flush()
    poller.stop()


def test_a_descriptor_that_is_gone_is_not_set_again():
    poller = EpollPoller(Clock(time.monotonic), HeapClock().callLater, lambda: pytest.fail("lost"))
    alarm = TimerAlarm(poller, lambda: pytest.fail("rung"))
    alarm.close()
    poller.flush()
    number = os.open("/dev/null", os.O_RDONLY)  # perhaps the alarm's
    alarm.set(0.0)
    os.close(number)
    poller.stop()


def test_where_there_is_no_timerfd_the_reactor_rings():
    clock, rung = HeapClock(10.0), []
    alarm = ReactorAlarm(clock.callLater, clock.seconds, lambda: rung.append(clock.seconds()))
    alarm.set(30.0)
    alarm.set(12.0)
    alarm.set(9.0)
    clock.advance(0)
    alarm.set(15.0)
    clock.advance(60)
    assert rung == [10.0, 15.0]
    alarm.set(99.0)
    alarm.close()
    assert clock.getDelayedCalls() == []


# The reactor's clock.


class Wall:
    """A wall clock that steps."""

    def __init__(self) -> None:
        self.ahead_s = 0.0

    def seconds(self) -> float:
        return time.time() + self.ahead_s


@pytest.fixture
def reactor():
    one = EPollReactor()
    yield one
    one.disconnectAll()
    one.removeAll()
    one._poller.close()


def test_a_reactor_counts_by_the_monotonic_clock_and_calls_to_come_are_moved(reactor):
    call = reactor.callLater(50, lambda: None)
    left_s = call.getTime() - reactor.seconds()
    assert make_monotonic(reactor)
    assert reactor.seconds is time.monotonic
    assert abs(call.getTime() - reactor.seconds() - left_s) < 40, "a wall clock is decades ahead"
    call.reset(70)
    assert 0 < call.getTime() - time.monotonic() <= 70
    assert isinstance(reactor.callLater(1, lambda: None), DelayedCall)
    assert 0 <= reactor.timeout() <= 1
    for one in reactor.getDelayedCalls():
        one.cancel()
    assert not make_monotonic(reactor), "it does already"


def test_a_reactor_whose_clock_somebody_has_chosen_keeps_it(reactor):
    wall = Wall()
    reactor.seconds = wall.seconds
    assert not make_monotonic(reactor)
    assert reactor.seconds == wall.seconds


def test_twisteds_reactor_still_counts_by_what_is_replaced(reactor):
    """Else the test of it would be true of nothing."""
    assert reactor.seconds is wall_seconds


@pytest.mark.parametrize("step_s", [-HOUR_S, HOUR_S])
@pytest.mark.parametrize("whole_process", [False, True])
def test_a_step_of_the_wall_clock_moves_nothing_of_ours(reactor, step_s, whole_process):
    wall = Wall()
    reactor.seconds = wall.seconds
    runtime = runtime_of(reactor, 1, lambda: pytest.fail("lost"), whole_process=whole_process)
    told: list[str] = []
    far = runtime.later(HOUR_S / 2, lambda: told.append("far"))
    looping = LoopingCall(told.append, "loop")
    looping.clock = runtime.time
    looping.start(0.01, now=False)
    wall.ahead_s += step_s
    runtime.later(0, lambda: told.append("soon"))
    while told.count("loop") < 3 or "soon" not in told:
        reactor.iterate(60.0)
    assert "far" not in told
    looping.stop()
    far.cancel()
    release(runtime, reactor)
    assert runtime.time.getDelayedCalls() == []
