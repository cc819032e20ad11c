"""Waits of single requests: to the moment, and one timer for all."""

import pytest

from twisted_lb.net.waits import Waits
from twisted_lb.testing import HeapClock, MemoryNetwork
from twisted_lb.testing.balanced import runtime_of


@pytest.fixture
def clock():
    return HeapClock(1000.0)


@pytest.fixture
def waits(clock):
    return Waits(runtime_of(clock, MemoryNetwork(clock), seed=1))


def test_each_is_called_at_its_moment_whatever_their_order(waits, clock):
    called = []
    for after in (0.003, 0.001, 0.0025):
        waits.until(1000.0 + after, lambda: called.append(round(clock.seconds() - 1000.0, 4)))
    assert (repr(waits), len(clock.getDelayedCalls())) == ("<Waits 3>", 1)
    clock.advance(1.0)
    assert called == [0.001, 0.0025, 0.003]
    assert len(clock.getDelayedCalls()) == 0


def test_what_is_due_already_is_called_when_all_others_had_their_turn(waits, clock):
    called = []
    waits.until(999.0, lambda: called.append("late"))
    assert called == []
    clock.settle()
    assert called == ["late"]


def test_who_was_cancelled_is_not_called_nor_held(waits, clock):
    called = []
    one = waits.until(1001.0, lambda: called.append(1))
    waits.until(1002.0, lambda: called.append(2))
    one.cancel()
    one.cancel()
    assert (one.over, waits.waiting) == (True, 1)
    clock.advance(3.0)
    assert called == [2]


def test_one_that_fails_keeps_nobody_else_waiting(waits, clock, logged_errors):
    called = []
    waits.until(1001.0, lambda: 1 / 0)
    waits.until(1001.0, lambda: called.append(2))
    clock.advance(2.0)
    assert called == [2]
    assert len(logged_errors.take()) == 1


def test_a_call_may_wait_again(waits, clock):
    called = []

    def again():
        called.append(clock.seconds())
        if len(called) < 3:
            waits.until(clock.seconds() + 0.5, again)

    waits.until(1000.5, again)
    clock.advance(5.0)
    assert called == [1000.5, 1001.0, 1001.5]


def test_after_a_stop_nobody_is_called(waits, clock):
    one = waits.until(1001.0, lambda: 1 / 0)
    waits.stop()
    assert (one.over, waits.waiting, len(clock.getDelayedCalls())) == (True, 0, 0)
    clock.advance(5.0)
