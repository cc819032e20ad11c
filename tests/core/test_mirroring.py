"""Which requests are mirrored, and how many at a time, in one process or in several."""

from array import array
from random import Random

import pytest

from twisted_lb.core.mirroring import Mirroring, MirrorSettings, Unmirrored
from twisted_lb.core.tallies import SharedAmount, Tallies

SETTINGS = MirrorSettings(100, 3, 1000, 5.0, frozenset((b"GET",)))


def chosen(one: Mirroring, body_bytes: int = 0, method: bytes = b"GET") -> bool:
    return one.chooses(SETTINGS, method, body_bytes, Random(1))


@pytest.fixture
def crew() -> list[Mirroring]:
    rows = [memoryview(array("q", [0] * 32)) for _ in range(2)]
    found = [Mirroring() for _ in rows]
    for number, one in enumerate(found):
        one.share(SharedAmount(Tallies(rows, number, memoryview(array("q", [2]))), 1))
    return found


def test_so_many_are_under_way_at_a_time():
    one = Mirroring()
    assert [chosen(one) for _ in range(5)] == [True] * 3 + [False] * 2
    assert (one.running, one.unsent[Unmirrored.BUSY]) == (3, 2)
    one.over()
    assert chosen(one)


def test_so_many_are_under_way_in_all_processes_together(crew):
    one, other = crew
    assert [chosen(one), chosen(other), chosen(other), chosen(one), chosen(other)] == [True] * 3 + [False] * 2
    assert (one.running, other.running) == (1, 2)
    other.over(Unmirrored.INCOMPLETE)
    assert chosen(one)
    assert (one.unsent[Unmirrored.BUSY], other.unsent[Unmirrored.BUSY]) == (1, 1)


def test_what_is_too_long_takes_no_place(crew):
    for one in (Mirroring(), *crew):
        assert not any(chosen(one, 1001) for _ in range(5))
        assert (one.running, one.unsent[Unmirrored.TOO_LONG]) == (0, 5)
        assert not chosen(one, method=b"POST")
    assert all(chosen(one) for one in crew)
