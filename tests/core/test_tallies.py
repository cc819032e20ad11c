"""Tallies that processes share: never more than the bound, nothing lost, and what nobody has any more makes room."""

import mmap
import os
import random
from array import array
from collections.abc import Callable

import pytest

from twisted_lb.core.ask import ANY
from twisted_lb.core.backend import BackendSpec
from twisted_lb.core.lease import Lease
from twisted_lb.core.outcome import Outcome, Refusal
from twisted_lb.core.pickers import POLICIES
from twisted_lb.core.pool import Pool
from twisted_lb.core.queue import Ticket
from twisted_lb.core.rate import Hashes
from twisted_lb.core.settings import PoolSettings
from twisted_lb.core.shared_running import SharedRunning
from twisted_lb.core.tallies import Amount, SharedAmount, Tallies

SECRET = bytes(32)


def tables(count: int, cells: int = 64) -> list[memoryview]:
    return [memoryview(array("q", [0] * 2 * cells)) for _ in range(count)]


def several(count: int, cells: int = 64) -> list[Tallies]:
    rows = tables(count, cells)
    return [Tallies(rows, number) for number in range(count)]


def running(count: int, most: int) -> list[SharedRunning]:
    return [SharedRunning(most, one, Hashes("clients", SECRET)) for one in several(count)]


def test_what_others_have_counts():
    one, other = several(2)
    assert one.take(7, 2, 5)
    assert other.take(7, 3, 5)
    assert not one.take(7, 1, 5)
    assert not other.take(7, 1, 5)
    assert (one.own(7), one.elsewhere(7), other.elsewhere(7)) == (2, 3, 2)
    other.add(7, -1)
    assert one.take(7, 1, 5)


def test_tags_do_not_share_also_in_one_bucket():
    one, other = several(2, cells=8)
    assert one.take(8, 1, 1)
    assert one.take(16, 1, 1)
    assert not other.take(8, 1, 1)
    assert other.take(24, 1, 1)
    assert [other.elsewhere(tag) for tag in (8, 16, 24)] == [1, 1, 0]


def test_what_nobody_has_any_more_makes_room_for_others():
    one, other = several(2, cells=8)
    for tag in range(1, 2000):
        one.add(tag, 1)
        assert other.elsewhere(tag) == 1
        one.add(tag, -1)
        assert other.elsewhere(tag) == 0
    assert (len(one), one.unshared) == (0, 0)


def test_what_finds_no_cell_counts_for_its_own_process_and_gets_one_later():
    one, other = several(2, cells=8)
    for tag in range(1, 9):
        one.add(tag, 1)
    assert one.take(9, 1, 1)
    assert not one.take(9, 1, 1)
    assert (one.unshared, one.own(9), other.elsewhere(9)) == (1, 1, 0)
    one.add(9, -1)
    one.add(3, -1)
    assert one.take(9, 1, 1)
    assert (one.unshared, other.elsewhere(9)) == (0, 1)


def test_what_is_refused_leaves_nothing():
    one, other = several(2)
    assert other.take(5, 1, 1)
    assert not one.take(5, 1, 1)
    assert (len(one), other.elsewhere(5)) == (0, 0)
    other.add(5, -1)
    assert one.take(5, 1, 1)


@pytest.mark.parametrize("seed", range(20))
def test_whatever_happens_all_of_them_agree(seed):
    rng = random.Random(seed)
    crew = several(3, cells=64)
    most = rng.choice([1, 3])
    tags = [rng.getrandbits(61) | 1 for _ in range(12)]
    for _ in range(2000):
        one, tag = rng.choice(crew), rng.choice(tags)
        if rng.random() < 0.6:
            before = sum(each.own(tag) for each in crew)
            assert one.take(tag, 1, most) is (before < most)
        elif one.own(tag):
            one.add(tag, -1)
        assert {each.own(tag) + each.elsewhere(tag) for each in crew} == {sum(each.own(tag) for each in crew)}
    assert not any(one.unshared for one in crew)


def test_an_amount_is_one_of_all_that_share_it_or_of_one_process():
    one, other = several(2)
    here, there = SharedAmount(one, 3), SharedAmount(other, 3)
    assert here.take(10, 15)
    assert not there.take(6, 15)
    there.add(20)
    assert (here.own, here.elsewhere, there.elsewhere) == (10, 20, 10)
    alone = Amount()
    assert [alone.take(10, 15), alone.take(6, 15), alone.own, alone.elsewhere] == [True, False, 10, 0]


def test_a_key_may_have_so_many_in_all_of_them():
    one, other = running(2, 3)
    assert [one.claim("a"), other.claim("a"), one.claim("a"), other.claim("a")] == [True, True, True, False]
    assert other.claim("b")
    assert (one.full("a"), other.full("a"), one.full("b")) == (True, True, False)
    assert (one.of("a"), other.of("a"), other.refused) == (3, 3, 1)
    one.release("a")
    assert other.claim("a")
    for _ in range(2):
        other.release("a")
    one.release("a")
    assert (len(one), one.of("a"), other.of("a")) == (0, 0, 0)


def test_what_is_held_counts_beyond_the_bound():
    one, other = running(2, 1)
    assert one.claim("a")
    other.hold("a")
    assert one.of("a") == 2
    other.release("a")
    assert other.full("a")
    one.release("a")
    assert other.claim("a")


def test_an_empty_key_is_never_limited_and_never_counted_by_any_of_them():
    one, _ = running(2, 1)
    assert [one.claim("") for _ in range(3)] == [True] * 3
    one.hold("")
    one.release("")
    assert (len(one), one.full(""), one.refused) == (0, False, 0)


def test_what_was_never_granted_cannot_be_given_back_to_any_of_them():
    one, other = running(2, 2)
    other.claim("a")
    with pytest.raises(KeyError):
        one.release("a")


# Hammers.

PAGE = 4096


def _in_processes(count: int, fd: int, work: Callable[[int, list[memoryview]], int]) -> list[int]:
    """What each process says: `work` with its number and the rows, two pages of cells each, of which the second half is marks."""
    children = []
    for number in range(count):
        pid = os.fork()
        if pid == 0:
            status = 99
            try:
                cells = memoryview(mmap.mmap(fd, 2 * count * PAGE)).cast("q")
                rows = [cells[at * PAGE // 8 : (at + 1) * PAGE // 8] for at in range(2 * count)]
                status = min(work(number, rows), 98)
            finally:
                os._exit(status)
        children.append(pid)
    return [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in children]


@pytest.fixture
def memory():
    fd = os.memfd_create("hammer")
    os.ftruncate(fd, 8 * PAGE)
    yield fd
    os.close(fd)


def test_processes_that_claim_for_one_client_are_never_more_than_the_bound(memory):
    count, most = 4, 2

    def work(number: int, rows: list[memoryview]) -> int:
        table, marks = rows[:count], rows[count:]
        clients = SharedRunning(most, Tallies(table, number), Hashes("clients", SECRET))
        over = inside = 0
        for _ in range(20_000):
            if clients.claim("192.0.2.1"):
                marks[number][0] = 1
                over += sum(row[0] for row in marks) > most
                marks[number][0] = 0
                clients.release("192.0.2.1")
                inside += 1
        return over if inside else 97

    assert _in_processes(count, memory, work) == [0] * count


def test_processes_whose_clients_come_and_go_in_one_bucket_take_nothing_for_anothers(memory):
    """Cells change hands all the time. Only who has a tag may be seen to have it."""
    count = 4

    def work(number: int, rows: list[memoryview]) -> int:
        tallies = Tallies([row[:16] for row in rows[:count]], number)
        wrong = 0
        for turn in range(20_000):
            tag = 1 + number + count * (turn % 50)
            tallies.add(tag, 1)
            # Nobody else ever has this one, however often its cells are written anew.
            wrong += tallies.elsewhere(tag) != 0
            if turn % 3:
                tallies.add(tag, -1)
            elif len(tallies) > 4:
                for one in [1 + number + count * step for step in range(50)]:
                    tallies.add(one, -tallies.own(one))
        return wrong

    assert _in_processes(count, memory, work) == [0] * count


def test_a_queue_is_as_long_as_it_may_be_in_all_of_them_together():
    def pool(tallies: Tallies) -> Pool:
        settings = PoolSettings(checked=False, max_in_flight=1, max_queued=2, queue_timeout_s=5.0)
        amount = SharedAmount(tallies, 9)
        one = Pool("p", POLICIES["rr"], settings, random.Random(1), lambda event: None, all_waiting=amount)
        one.update([BackendSpec.parse("a:1")], 0.0)
        return one

    one, other = map(pool, several(2))
    leases = [each.claim(ANY, 0.0) for each in (one, other)]
    tickets = [each.claim(ANY, 0.0) for each in (one, other)]
    assert all(isinstance(ticket, Ticket) for ticket in tickets)
    assert [each.claim(ANY, 0.0) for each in (one, other)] == [Refusal.ALL_FULL] * 2
    # Who leaves makes room, and who is served, and who has waited for too long.
    assert isinstance(tickets[0], Ticket)
    one.withdraw(tickets[0])
    assert isinstance(other.claim(ANY, 1.0), Ticket)
    assert one.claim(ANY, 1.0) is Refusal.ALL_FULL
    assert isinstance(leases[1], Lease)
    other.settle(leases[1], Outcome.OK, 1.0)
    assert len(other.grants(1.0)) == 1
    assert isinstance(one.claim(ANY, 1.0), Ticket)
    assert len(other.grants(6.5)) == 1
    assert isinstance(one.claim(ANY, 6.0), Ticket)
    assert one.claim(ANY, 6.0) is Refusal.ALL_FULL
    assert len(one.refuse_waiting()) == 2
    assert isinstance(other.claim(ANY, 6.0), Ticket)
