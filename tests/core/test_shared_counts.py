"""Counts that processes share: never more than the bound, and what is elsewhere is seen."""

import mmap
import os
import random
from array import array

import pytest

from twisted_lb.core.counts import Counts
from twisted_lb.core.shared_counts import SharedCounts


def rows(count: int, columns: int = 8) -> list[memoryview]:
    return [memoryview(array("q", [0] * columns)) for _ in range(count)]


def in_use(count: int) -> memoryview:
    """The cell that says that so many rows are in use."""
    return memoryview(array("q", [count]))


def several(count: int, column: int = 3, most: int = 0) -> list[SharedCounts]:
    table = rows(count)
    found = []
    for number in range(count):
        counts = SharedCounts(table, number, in_use(count))
        slot = counts.open()
        assert slot == 0
        counts.place(slot, column)
        counts.bound(slot, most)
        found.append(counts)
    return found


def test_without_a_column_it_counts_for_itself_as_one_process_does():
    shared, own = SharedCounts(rows(2), 0, in_use(2)), Counts()
    for counts in (shared, own):
        slot = counts.open()
        counts.bound(slot, 2)
        assert [counts.claim(slot) for _ in range(3)] == [True, True, False]
        counts.release(slot)
        assert (counts.own(slot), counts.load(slot), counts.elsewhere(slot), counts.view()) == (1, 1, 0, (1,))


def test_what_others_have_in_flight_is_elsewhere_and_in_the_load():
    one, other, third = several(3)
    assert one.claim(0)
    assert one.claim(0)
    assert other.claim(0)
    assert (one.own(0), one.elsewhere(0), one.load(0)) == (2, 1, 3)
    assert (third.own(0), third.elsewhere(0), third.view()) == (0, 3, (3,))
    one.release(0)
    assert third.load(0) == 2


def test_a_bound_holds_for_all_together():
    one, other = several(2, most=3)
    assert [one.claim(0), other.claim(0), one.claim(0)] == [True, True, True]
    assert not one.claim(0)
    assert not other.claim(0)
    assert (one.own(0), other.own(0), one.load(0)) == (2, 1, 3)
    one.release(0)
    assert other.claim(0)


def test_what_is_held_beyond_its_end_counts_for_all():
    one, other = several(2, most=1)
    one.hold(0)
    assert not other.claim(0)
    one.release(0)
    assert other.claim(0)


def test_a_slot_that_is_placed_later_brings_what_it_has():
    table = rows(2)
    one, other = SharedCounts(table, 0, in_use(2)), SharedCounts(table, 1, in_use(2))
    slot = one.open()
    assert one.claim(slot)
    one.place(slot, 5)
    there = other.open()
    other.place(there, 5)
    assert other.elsewhere(there) == 1
    one.place(slot, 6)
    assert other.elsewhere(there) == 0
    one.release(slot)
    one.close(slot)
    assert [row.tolist() for row in table] == [[0] * 8, [0] * 8]


def test_a_slot_that_is_taken_again_is_in_no_column():
    one, other = several(2)
    one.close(0)
    assert one.open() == 0
    assert one.claim(0)
    assert other.elsewhere(0) == 0


@pytest.mark.parametrize("seed", range(20))
def test_whatever_happens_all_of_them_agree(seed):
    rng = random.Random(seed)
    all_ = several(3, most=rng.choice([0, 2, 5]))
    most = all_[0].most(0)
    for _ in range(300):
        one = rng.choice(all_)
        if rng.random() < 0.5:
            before = one.load(0)
            assert one.claim(0) is (not most or before < most)
        elif one.own(0):
            one.release(0)
        assert {counts.load(0) for counts in all_} == {sum(counts.own(0) for counts in all_)}


def _hammer(fd: int, number: int, count: int, most: int, turns: int) -> int:
    """In a process of its own: claim and release; how often more than the bound were inside, as everybody's own marks tell."""
    table = mmap.mmap(fd, 2 * count * 4096)
    cells = memoryview(table).cast("q")
    columns = 4096 // 8
    shared = [cells[row * columns : (row + 1) * columns] for row in range(count)]
    inside = [cells[(count + row) * columns : (count + row + 1) * columns] for row in range(count)]
    counts = SharedCounts(shared, number, in_use(count))
    slot = counts.open()
    counts.place(slot, 0)
    counts.bound(slot, most)
    over = 0
    for _ in range(turns):
        if counts.claim(slot):
            inside[number][0] = 1
            over += sum(row[0] for row in inside) > most
            inside[number][0] = 0
            counts.release(slot)
    return over


def test_processes_that_claim_at_the_same_moment_are_never_more_than_the_bound():
    count, most, turns = 4, 2, 20_000
    fd = os.memfd_create("hammer")
    os.ftruncate(fd, 2 * count * 4096)
    children = []
    for number in range(count):
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                status = min(_hammer(fd, number, count, most, turns), 100)
            finally:
                os._exit(status)
        children.append(pid)
    assert [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in children] == [0] * count
    os.close(fd)


def test_only_rows_that_are_in_use_are_looked_at():
    table, used = rows(4), in_use(2)
    one = SharedCounts(table, 0, used)
    slot = one.open()
    one.place(slot, 3)
    table[2][3] = 7  # of somebody who is not there yet
    assert one.elsewhere(slot) == 0
    used[0] = 3
    assert one.elsewhere(slot) == 7
