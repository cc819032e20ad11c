"""Time in the hands of a test."""

import random

import pytest
from twisted.internet.error import AlreadyCalled, AlreadyCancelled
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.internet.task import Clock, LoopingCall
from zope.interface.verify import verifyObject

from twisted_lb.testing import HeapClock


@pytest.fixture
def clock():
    return HeapClock(10.0)


def test_it_is_what_twisted_calls_time(clock):
    assert verifyObject(IReactorTime, clock)
    assert verifyObject(IDelayedCall, clock.callLater(1, print))


def test_calls_come_in_the_order_of_their_moments_and_see_them(clock):
    told: list[tuple[str, float]] = []
    for name, delay in (("c", 3), ("a", 1), ("b", 2), ("a too", 1)):
        clock.callLater(delay, lambda name=name: told.append((name, clock.seconds())))
    clock.advance(2.5)
    assert told == [("a", 11.0), ("a too", 11.0), ("b", 12.0)]
    assert clock.seconds() == 12.5
    clock.advance(1)
    assert told[-1] == ("c", 13.0)


def test_arguments_are_passed_on(clock):
    told: list = []
    clock.callLater(0, lambda *words, **named: told.append((words, named)), 1, 2, three=3)
    assert told == []
    clock.settle()
    assert told == [((1, 2), {"three": 3})]


def test_what_is_made_on_the_way_happens_too(clock):
    told: list[float] = []

    def again() -> None:
        told.append(clock.seconds())
        clock.callLater(1, again)

    clock.callLater(1, again)
    clock.advance(4)
    assert told == [11.0, 12.0, 13.0, 14.0]
    assert len(clock.getDelayedCalls()) == 1


def test_calls_that_make_calls_for_now_are_a_loop(clock, monkeypatch):
    monkeypatch.setattr("twisted_lb.testing.clock._MOST_AT_ONCE", 1000)

    def again() -> None:
        clock.callLater(0, again)

    again()
    with pytest.raises(AssertionError, match="without end"):
        clock.settle()


def test_a_call_can_be_taken_back_and_moved(clock):
    told: list[str] = []
    later, sooner, never = (clock.callLater(5, told.append, name) for name in ("later", "sooner", "never"))
    later.delay(2)
    sooner.reset(1)
    never.cancel()
    assert (later.getTime(), sooner.getTime()) == (17.0, 11.0)
    clock.advance(1)
    assert told == ["sooner"]
    clock.advance(5.5)
    assert told == ["sooner"]
    assert later.active()
    clock.advance(0.5)
    assert told == ["sooner", "later"]
    assert clock.getDelayedCalls() == []


@pytest.mark.parametrize("what", ["cancel", "delay", "reset"])
def test_too_late_is_an_error_as_in_a_reactor(clock, what):
    words = [] if what == "cancel" else [1]
    called, cancelled = clock.callLater(0, int), clock.callLater(0, int)
    cancelled.cancel()
    clock.settle()
    assert not called.active()
    assert not cancelled.active()
    with pytest.raises(AlreadyCalled):
        getattr(called, what)(*words)
    with pytest.raises(AlreadyCancelled):
        getattr(cancelled, what)(*words)


def test_what_a_call_raises_is_seen_and_the_rest_still_comes(clock):
    told: list[str] = []
    clock.callLater(1, lambda: 1 // 0)
    clock.callLater(1, told.append, "rest")
    with pytest.raises(ZeroDivisionError):
        clock.advance(5)
    clock.advance(0)
    assert told == ["rest"]


def test_it_runs_until_something_is_so(clock):
    told: list[int] = []
    ticking = LoopingCall(lambda: told.append(1))
    ticking.clock = clock
    ticking.start(1.0)
    clock.run_until(lambda: len(told) == 5)
    assert clock.seconds() == 14.0
    clock.run_until(20.0)
    assert clock.seconds() == 20.0
    with pytest.raises(AssertionError, match="did not come about within 7 s"):
        clock.run_until(lambda: False, within_s=7)
    ticking.stop()
    with pytest.raises(AssertionError, match="did not come about"):
        clock.run_until(lambda: False)


def test_time_does_not_go_backwards(clock):
    with pytest.raises(AssertionError):
        clock.advance(-1)
    with pytest.raises(AssertionError):
        clock.callLater(-1, int)


def test_it_agrees_with_twisteds_clock():
    rng = random.Random(4)
    ours, theirs = HeapClock(), Clock()
    told: dict[str, list] = {"ours": [], "theirs": []}
    calls: list[tuple] = []
    for number in range(3000):
        dice = rng.random()
        if dice < 0.5 or not calls:
            delay = rng.randrange(50) / 8
            calls.append(
                (
                    ours.callLater(delay, told["ours"].append, number),
                    theirs.callLater(delay, told["theirs"].append, number),
                )
            )
        elif dice < 0.7:
            pair = calls.pop(rng.randrange(len(calls)))
            if pair[0].active():
                for call in pair:
                    call.cancel()
        elif dice < 0.85:
            pair = rng.choice(calls)
            if pair[0].active():
                what, much = rng.choice(["delay", "reset"]), rng.randrange(20) / 8
                for call in pair:
                    getattr(call, what)(much)
        else:
            for clock in (ours, theirs):
                clock.advance(0.25)
        assert ours.seconds() == theirs.seconds()
        assert sorted(call.getTime() for call in ours.getDelayedCalls()) == sorted(
            call.getTime() for call in theirs.getDelayedCalls()
        )
    # Within one moment Twisted's order follows what its sort leaves; the moments agree.
    assert sorted(told["ours"]) == sorted(told["theirs"])


def test_calls_that_were_taken_back_do_not_pile_up(clock):
    for _ in range(10_000):
        clock.callLater(1000, int).cancel()
    assert len(clock._heap) < 200
