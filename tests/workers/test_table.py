"""The shared table: rows are apart, what is one process's is seen by all that map it."""

import os

from twisted_lb.workers.table import COLUMNS, Table, make_table


def test_all_who_map_it_see_the_same():
    fd = make_table(2, 3)
    one, other = Table(fd, 2, 3), Table(fd, 2, 3)
    assert [one.take(), one.take()] == [0, 1]
    one.lives[1][7] = 5
    one.slots[1][0] = 9
    one.rates[0] = 1
    assert (other.lives[1][7], other.slots[1][0], other.rates[0]) == (5, 9, 1)
    assert other.load(7) == 5
    assert bytes(one.secret) == bytes(other.secret) != bytes(len(one.secret))
    os.close(fd)


def test_no_row_is_anothers():
    fd = make_table(2, 2)
    table = Table(fd, 2, 2)
    for number, row in enumerate([*table.slots, *table.lives], start=1):
        row[0] = row[COLUMNS - 1] = number
    assert [row[0] for row in table.slots + table.lives] == [1, 2, 3, 4]
    assert [row[COLUMNS - 1] for row in table.slots + table.lives] == [1, 2, 3, 4]
    assert not any(table.rates)
    os.close(fd)


def test_who_has_ended_has_nothing_in_flight():
    fd = make_table(1, 2)
    table = Table(fd, 1, 2)
    assert [table.take(), table.take()] == [0, 1]
    table.given = 4
    table.lives[0][3], table.lives[1][3], table.slots[0][3] = 2, 4, 6
    table.leave(0)
    assert (table.load(3), table.slots[0][3]) == (4, 6)
    os.close(fd)


def test_who_has_ended_has_no_clients_and_takes_no_memory_for_them():
    fd = make_table(1, 3)
    table = Table(fd, 1, 3)
    assert [table.take() for _ in range(3)] == [0, 1, 2]
    one, other = table.clients(0), table.clients(1)
    for tag in range(1, 1000):
        one.add(tag, 1)
        other.add(tag, 2)
    table.sums(0).add(5, 7)
    secret, held = bytes(table.secret), os.fstat(fd).st_blocks
    table.leave(0)
    assert (other.elsewhere(7), table.clients(2).elsewhere(7), table.sums(1).elsewhere(5)) == (0, 2, 0)
    assert os.fstat(fd).st_blocks < held
    assert bytes(table.secret) == secret
    assert table.clients(0).take(7, 1, 3)
    assert other.elsewhere(7) == 1
    os.close(fd)


def test_what_nobody_writes_to_takes_no_memory():
    fd = make_table(4, 12)
    assert os.fstat(fd).st_blocks * 512 < 65_536
    os.close(fd)
