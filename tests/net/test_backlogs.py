"""Who waits for room in the backlog of a unix socket: in their order, and cheap however many they are."""

import pytest

from twisted_lb.net.backlogs import Backlogs
from twisted_lb.testing import HeapClock


class Bench:
    """Servers with room for so many more connections, and those who would like to be let in."""

    def __init__(self) -> None:
        self.clock = HeapClock(0.0)
        self.backlogs = Backlogs(self.clock.callLater)
        self.room = {"/a": 0, "/b": 0}
        self.let_in: list[str] = []
        self.tries = 0

    def crowd(self, path: str, *names: str) -> "list[Connect]":
        return [Connect(self, path, name) for name in names]


class Connect:
    def __init__(self, bench: Bench, path: str, name: str) -> None:
        self.bench, self.path, self.name = bench, path, name
        bench.backlogs.wait(path, self)

    def try_again(self) -> bool:
        bench = self.bench
        bench.tries += 1
        if not bench.room[self.path]:
            return False
        bench.room[self.path] -= 1
        bench.let_in.append(self.name)
        return True


@pytest.fixture
def bench():
    return Bench()


def test_they_are_let_in_as_there_is_room_and_in_the_order_in_which_they_came(bench):
    bench.crowd("/a", "one", "two", "three")
    bench.clock.advance(0.05)
    assert bench.let_in == []
    bench.room["/a"] = 2
    bench.clock.advance(0.01)
    assert bench.let_in == ["one", "two"]
    bench.room["/a"] = 2
    bench.clock.advance(0.01)
    assert bench.let_in == ["one", "two", "three"]
    assert bench.clock.getDelayedCalls() == []


def test_a_crowd_that_waits_costs_one_try_a_round(bench):
    bench.crowd("/a", *map(str, range(1000)))
    bench.clock.advance(0.1001)
    assert bench.tries == 10


def test_one_full_backlog_does_not_keep_those_of_another_socket(bench):
    bench.crowd("/a", "one")
    bench.crowd("/b", "two")
    bench.room["/b"] = 1
    bench.clock.advance(0.01)
    assert bench.let_in == ["two"]
    assert repr(bench.backlogs) == "<Backlogs: 1 wait>"


def test_who_comes_later_finds_it_full_unless_all_before_it_are_let_in_at_once(bench):
    assert not bench.backlogs.full("/a")
    bench.crowd("/a", "one", "two")
    bench.room["/a"] = 1
    assert bench.backlogs.full("/a")
    assert bench.let_in == ["one"]
    bench.room["/a"] = 2
    assert not bench.backlogs.full("/a")
    assert bench.let_in == ["one", "two"]


def test_who_leaves_is_not_tried_and_the_last_one_takes_the_timer_along(bench):
    one, two = bench.crowd("/a", "one", "two")
    bench.backlogs.leave("/a", one)
    bench.backlogs.leave("/a", one)
    bench.backlogs.leave("/b", one)
    bench.room["/a"] = 1
    bench.clock.advance(0.01)
    assert bench.let_in == ["two"]
    assert bench.clock.getDelayedCalls() == []
    bench.backlogs.leave("/a", two)
    assert bench.clock.getDelayedCalls() == []


def test_one_that_raises_does_not_keep_the_others(bench):
    broken, _ = bench.crowd("/a", "broken", "two")
    broken.try_again = lambda: 1 / 0
    bench.room["/a"] = 1
    with pytest.raises(ZeroDivisionError):
        bench.clock.advance(0.01)
    bench.clock.advance(0.01)
    assert bench.let_in == ["two"]
    assert bench.clock.getDelayedCalls() == []
