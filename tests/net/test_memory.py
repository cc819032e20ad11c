"""The memory for bodies of several processes: one bound for all, and nobody waits for what is free."""

from array import array

from twisted_lb.core.tallies import SharedAmount, Tallies
from twisted_lb.net.memory import Holding, Memory

KB = 1024


class Process:
    """One process: its memory, and what it does when others had their turn."""

    def __init__(self, rows: list[memoryview], number: int, most: int) -> None:
        self.later = []
        self.memory = Memory(self.later.append, most, SharedAmount(Tallies(rows, number), 1))
        self.ready = []

    def turn(self) -> None:
        self.memory.look_elsewhere()
        while self.later:
            self.later.pop(0)()

    def holding(self) -> Holding:
        return Holding(self.memory, lambda: self.ready.append(True))


def two(most: int) -> tuple[Process, Process]:
    rows = [memoryview(array("q", [0] * 32)) for _ in range(2)]
    return Process(rows, 0, most), Process(rows, 1, most)


def test_what_all_hold_is_bounded_together():
    one, other = two(10 * KB)
    assert one.memory.take(6 * KB)
    assert not other.memory.take(5 * KB)
    assert other.memory.take(4 * KB)
    assert (one.memory.taken, other.memory.taken) == (6 * KB, 4 * KB)
    one.memory.give(6 * KB)
    assert other.memory.take(6 * KB)
    assert not one.memory.take(1)


def test_a_single_body_is_held_however_large_it_is_and_no_other_beside_it():
    one, other = two(10 * KB)
    assert one.memory.take(50 * KB)
    assert not other.memory.take(1)
    one.memory.give(50 * KB)
    assert other.memory.take(1)
    assert not one.memory.take(50 * KB)


def test_who_waits_sees_what_another_process_has_given_back():
    one, other = two(10 * KB)
    assert one.memory.take(8 * KB)
    body = other.holding()
    assert not body.gather(5 * KB, waits=True)
    other.turn()
    assert (other.ready, body.gathering) == ([], False)
    one.memory.give(8 * KB)
    other.turn()
    assert (other.ready, body.gathering, other.memory.taken) == ([True], True, 5 * KB)
    body.end()
    assert one.memory.take(10 * KB)


def test_what_is_here_beyond_what_was_wanted_counts_for_all():
    one, other = two(10 * KB)
    body = one.holding()
    assert body.gather(4 * KB, waits=False)
    body.fill(7 * KB)
    assert not other.memory.take(4 * KB)
    body.end()
    assert other.memory.take(4 * KB)


def test_an_answer_is_read_ahead_as_far_as_there_is_room_for_all():
    one, other = two(200 * KB)
    assert other.memory.take(150 * KB)
    answer = one.holding()
    assert not answer.read_ahead(10 * KB, 1024 * KB)
    assert one.memory.denied == 1
    other.memory.give(150 * KB)
    assert answer.read_ahead(10 * KB, 1024 * KB)
    answer.delivered()
    assert (one.memory.taken, other.memory.take(200 * KB)) == (0, True)
