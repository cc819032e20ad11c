"""Deadlines: never early, at most a tick late, cheap to move, gone when nothing is due."""

import random

import pytest
from world import Time

from twisted_lb.net.clock import Clock
from twisted_lb.net.deadlines import TICK_S, Deadline, Deadlines


class Watch:
    def __init__(self) -> None:
        self.time = Time()
        self.deadlines = Deadlines(Clock(self.time.seconds), self.time.callLater)
        self.ran: list[tuple[str, float]] = []

    def deadline(self, name: str = "d") -> Deadline:
        return Deadline(lambda: self.ran.append((name, self.time.now)))

    def arm(self, deadline: Deadline, in_s: float) -> None:
        self.deadlines.arm(deadline, self.time.now + in_s)

    def advance(self, seconds: float) -> None:
        ends_at = self.time.now + seconds
        while (at := self.time.next_at()) is not None and at <= ends_at:
            self.time.now = max(at, self.time.now)
            self.time.run_due()
        self.time.now = ends_at


@pytest.fixture
def watch():
    return Watch()


@pytest.mark.parametrize("in_s", [0.0, 0.01, 0.1, 0.15, 1.0, 59.97, 3600.0])
def test_it_ends_in_time_and_never_early(watch, in_s):
    due = watch.time.now + in_s
    watch.arm(watch.deadline(), in_s)
    watch.advance(in_s + 1)
    assert len(watch.ran) == 1
    late = watch.ran[0][1] - due
    assert -1e-9 <= late <= 2 * TICK_S + 1e-9


def test_moved_later_it_ends_later_and_once(watch):
    deadline = watch.deadline()
    watch.arm(deadline, 1)
    for _ in range(50):
        watch.advance(0.9)
        watch.arm(deadline, 1)
    assert watch.ran == []
    watch.advance(1.3)
    assert len(watch.ran) == 1
    assert not deadline.armed


def test_moved_earlier_it_ends_earlier_and_once(watch):
    deadline = watch.deadline()
    watch.arm(deadline, 60)
    watch.arm(deadline, 1)
    watch.advance(1.3)
    assert len(watch.ran) == 1
    watch.advance(100)
    assert len(watch.ran) == 1


def test_disarmed_it_never_ends_until_armed_again(watch):
    deadline = watch.deadline()
    watch.arm(deadline, 1)
    deadline.disarm()
    watch.advance(5)
    assert watch.ran == []
    watch.arm(deadline, 1)
    watch.advance(1.3)
    assert len(watch.ran) == 1


def test_it_may_be_armed_again_by_its_own_callback(watch):
    times = []
    deadline = Deadline(lambda: (times.append(watch.time.now), watch.arm(deadline, 1)))
    watch.arm(deadline, 1)
    watch.advance(5.9)
    assert 4 <= len(times) <= 5
    deadline.disarm()


def test_a_callback_that_raises_stops_no_other(watch, logged_errors):
    watch.arm(Deadline(lambda: 1 / 0), 1)
    watch.arm(watch.deadline("after"), 1)
    watch.advance(2)
    assert [name for name, _ in watch.ran] == ["after"]
    assert len(logged_errors.take()) == 1


def test_the_ticking_ends_when_nothing_is_left(watch):
    deadline = watch.deadline()
    watch.arm(deadline, 2)
    assert watch.deadlines.armed == 1
    watch.advance(3)
    assert watch.time.next_at() is None
    assert watch.deadlines.armed == 0
    watch.arm(deadline, 1)
    watch.advance(2)
    assert len(watch.ran) == 2


def test_a_long_pause_of_the_process_is_made_up_for(watch):
    for index in range(20):
        watch.arm(watch.deadline(str(index)), 1 + index * 10)
    watch.time.now += 10_000
    watch.time.run_due()
    assert [name for name, _ in watch.ran] == [str(index) for index in range(20)]


def test_many_random_moves_agree_with_the_plain_rule(watch):
    rng = random.Random(5)
    deadlines = [watch.deadline(str(index)) for index in range(50)]
    due: dict[str, float] = {}
    for _ in range(2000):
        index = rng.randrange(50)
        if rng.random() < 0.2:
            deadlines[index].disarm()
            due.pop(str(index), None)
        else:
            in_s = rng.choice([0.05, 0.5, 5, 30])
            watch.arm(deadlines[index], in_s)
            due[str(index)] = watch.time.now + in_s
        watch.advance(rng.random() * 0.1)
        for name, at in watch.ran:
            assert due[name] <= at + 1e-9 <= due[name] + 3 * TICK_S
            del due[name]
        watch.ran.clear()
        assert all(at + 3 * TICK_S >= watch.time.now for at in due.values())
