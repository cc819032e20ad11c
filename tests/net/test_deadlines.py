"""Deadlines: never early, at most a tick late, cheap to move, gone when nothing is due."""

import random
import weakref

import pytest
from world import Time

from twisted_lb.net import deadlines as deadlines_module
from twisted_lb.net.clock import Clock
from twisted_lb.net.deadlines import TICK_S, Deadline, Deadlines, Expecting
from twisted_lb.testing import HeapClock


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
    assert -1e-9 <= late <= TICK_S + 0.0011


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


def test_a_long_pause_of_the_process_is_made_up_for_after_a_tick_of_grace(watch):
    for index in range(20):
        watch.arm(watch.deadline(str(index)), 1 + index * 10)
    watch.time.now += 10_000
    watch.time.run_due()
    assert watch.ran == [], "what came in the pause is read first"
    watch.advance(2 * TICK_S)
    assert [name for name, _ in watch.ran] == [str(index) for index in range(20)]


def test_what_was_read_in_the_tick_of_grace_counts(watch):
    """A client whose bytes were here before the process went on was not slow."""
    heard, silent = watch.deadline("heard"), watch.deadline("silent")
    watch.arm(heard, 2)
    watch.arm(silent, 2)
    watch.time.now += 60
    watch.time.run_due()
    watch.arm(heard, 2)
    watch.advance(2 * TICK_S)
    assert [name for name, _ in watch.ran] == ["silent"]
    watch.advance(3)
    assert [name for name, _ in watch.ran] == ["silent", "heard"]


def test_there_is_grace_after_each_pause_and_none_without(watch):
    for _ in range(2):
        watch.arm(watch.deadline("x"), 2)
        watch.time.now += 60
        watch.time.run_due()
        assert watch.ran == []
        watch.advance(2 * TICK_S)
        assert len(watch.ran) == 1
        watch.ran.clear()
    watch.arm(watch.deadline("y"), 2)
    watch.time.now += 0.9  # a busy moment is no pause
    watch.time.run_due()
    watch.time.now += 0.9
    watch.time.run_due()
    watch.time.now += 0.5
    watch.time.run_due()
    assert len(watch.ran) == 1


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
            assert due[name] <= at + 1e-9 <= due[name] + TICK_S + 0.002
            del due[name]
        watch.ran.clear()
        assert all(at + 3 * TICK_S >= watch.time.now for at in due.values())


# On a clock whose delayed calls are as strict as a reactor's: cancelling one that runs is an error.


@pytest.fixture
def strict():
    clock = HeapClock(123.456)
    return clock, Deadlines(Clock(clock.seconds), clock.callLater)


def test_whatever_the_phase_it_is_at_most_a_tick_late(strict):
    clock, deadlines = strict
    rng = random.Random(7)
    late: list[float] = []
    for _ in range(500):
        clock.advance(rng.random() * 0.3)
        due = clock.seconds() + rng.choice([rng.random(), rng.random() * 10])
        deadlines.arm(Deadline(lambda due=due: late.append(clock.seconds() - due)), due)
    clock.advance(20)
    assert len(late) == 500
    assert min(late) >= 0
    # A thousandth more: where rounding leaves nothing of a slot, the tick waits that long for it.
    assert max(late) <= TICK_S + 0.001


def test_a_moment_that_is_over_ends_with_the_next_tick(strict):
    clock, deadlines = strict
    ran: list[float] = []
    deadlines.arm(Deadline(lambda: ran.append(clock.seconds())), clock.seconds() - 100)
    assert ran == []
    clock.advance(TICK_S + 0.001)
    assert len(ran) == 1


def test_stopped_nothing_ends_and_nothing_ticks(strict):
    clock, deadlines = strict
    ran: list[int] = []
    deadline = Deadline(lambda: ran.append(1))
    deadlines.arm(deadline, clock.seconds() + 1)
    deadlines.stop()
    deadlines.stop()
    assert not deadline.armed
    assert clock.getDelayedCalls() == []
    clock.advance(5)
    assert ran == []
    deadlines.arm(deadline, clock.seconds() + 2)
    clock.advance(3)
    assert ran == [1]


def test_stopped_by_a_callback_the_others_of_that_tick_do_not_run(strict):
    clock, deadlines = strict
    ran: list[str] = []

    def end(name: str) -> None:
        ran.append(name)
        deadlines.stop()

    for name in ("first", "second"):
        deadlines.arm(Deadline(lambda name=name: end(name)), clock.seconds() + 1)
    deadlines.arm(Deadline(lambda: ran.append("later")), clock.seconds() + 2)
    clock.advance(5)
    assert ran == ["first"]
    assert clock.getDelayedCalls() == []


def test_one_tick_at_a_time_however_they_are_armed(strict):
    clock, deadlines = strict
    armed = [Deadline(lambda: None) for _ in range(20)]
    rng = random.Random(8)
    for _ in range(300):
        deadlines.arm(rng.choice(armed), clock.seconds() + rng.random() * 3)
        assert len(clock.getDelayedCalls()) == 1
        clock.advance(rng.random() * 0.2)
    clock.advance(5)
    assert clock.getDelayedCalls() == []


def test_a_deadline_moved_with_every_request_stays_one_entry(strict):
    """75 s of patience, moved a thousand times a second: the wheel holds it once, twice while it is moved on."""
    clock, deadlines = strict
    deadline = Deadline(lambda: None)
    for _ in range(1000):
        deadlines.arm(deadline, clock.seconds() + 75)
        clock.advance(0.1)
        assert sum(len(bucket) for bucket in deadlines._slots.values()) <= 2
    deadline.disarm()
    clock.advance(200)


def test_the_clock_is_up_to_date_for_the_callbacks(strict):
    clock, _ = strict
    now = Clock(clock.seconds)
    deadlines = Deadlines(now, clock.callLater)
    seen: list[float] = []
    deadlines.arm(Deadline(lambda: seen.append(now.now)), clock.seconds() + 600)
    clock.advance(601)
    assert seen[0] >= 123.456 + 600


def test_ended_it_lets_go_of_its_owner_before_its_slot_comes_by(strict):
    clock, deadlines = strict

    class Owner:
        def timed_out(self) -> None:
            raise AssertionError

    owner = Owner()
    gone = weakref.ref(owner)
    deadline = Deadline(owner.timed_out)
    deadlines.arm(deadline, clock.seconds() + 75)
    deadline.end()
    assert not deadline.armed
    del owner
    assert gone() is None
    clock.advance(80)


interpreted = pytest.mark.skipif(
    not deadlines_module.__file__.endswith(".py"), reason="a compiled Expecting takes no interpreted subclass"
)


def owner_in(watch: Watch, name: str) -> Expecting:
    class Owner(Expecting):
        def timed_out(self) -> None:
            watch.ran.append((name, watch.time.now))

    return Owner()


@interpreted
def test_a_deadline_that_is_given_back_is_for_the_next_owner_alone(watch):
    first = watch.deadlines.take(owner_in(watch, "first"))
    watch.arm(first, 1)
    ended = watch.deadlines.give(first)
    assert (watch.deadlines.armed, ended.armed) == (0, False)
    second = watch.deadlines.take(owner_in(watch, "second"))
    assert second is first
    watch.advance(2)
    assert watch.ran == []
    watch.arm(second, 1)
    watch.advance(2)
    assert [name for name, _ in watch.ran] == ["second"]


@interpreted
def test_a_deadline_that_comes_back_into_its_slot_ends_in_time(watch):
    due = watch.time.now + 1.5
    for name in ("first", "second"):
        deadline = watch.deadlines.take(owner_in(watch, name))
        watch.arm(deadline, due - watch.time.now)
        if name == "first":
            watch.deadlines.give(deadline)
            watch.advance(0.3)
    watch.advance(3)
    assert [name for name, _ in watch.ran] == ["second"]
    assert due <= watch.ran[0][1] <= due + TICK_S + 0.0011


@interpreted
def test_what_there_is_in_the_place_of_a_deadline_given_back_is_for_nobody(watch):
    ended = watch.deadlines.give(watch.deadlines.take(owner_in(watch, "first")))
    assert watch.deadlines.give(ended) is ended
    assert watch.deadlines.take(owner_in(watch, "second")) is not ended
    assert watch.deadlines.take(owner_in(watch, "third")) is not ended
    watch.arm(ended, 1)
    watch.advance(2)
    assert watch.ran == []


def test_what_is_given_back_runs_for_nobody_and_is_taken_by_the_next(watch):
    ran = []
    first = watch.deadlines.take_for(lambda: ran.append("first"))
    watch.arm(first, 1.0)
    watch.deadlines.give(first)
    assert not first.armed
    second = watch.deadlines.take_for(lambda: ran.append("second"))
    assert second is first
    assert watch.deadlines.take_for(lambda: None) is not first
    watch.arm(second, 2.0)
    watch.advance(1.9)
    assert ran == []
    watch.advance(0.3)
    assert ran == ["second"]


def test_deadlines_of_what_is_short_do_not_pile_up_in_the_wheel(strict):
    clock, deadlines = strict
    for _ in range(1000):
        deadline = deadlines.take_for(lambda: None)
        deadlines.arm(deadline, clock.seconds() + 75)
        deadlines.give(deadline)
        clock.advance(0.001)
    assert sum(len(bucket) for bucket in deadlines._slots.values()) == 1
    clock.advance(80)


def test_given_back_it_lets_go_of_its_owner(strict):
    clock, deadlines = strict

    class Owner:
        def timed_out(self) -> None:
            raise AssertionError

    owner = Owner()
    gone = weakref.ref(owner)
    deadline = deadlines.take_for(owner.timed_out)
    deadlines.arm(deadline, clock.seconds() + 75)
    deadlines.give(deadline)
    del owner
    assert gone() is None
    clock.advance(80)
