"""Numbers that several processes may share."""

import pytest

from twisted_lb.core.counts import Counts


class Table(Counts):
    """As with workers: somebody else counts too."""

    def __init__(self):
        super().__init__()
        self.others = {}

    def elsewhere(self, slot):
        return self.others.get(slot, 0)


def test_slots_are_counted_apart():
    counts = Counts()
    one, two = counts.open(), counts.open()
    assert counts.claim(one)
    assert counts.claim(one)
    assert counts.claim(two)
    counts.release(one)
    assert (counts.own(one), counts.own(two)) == (1, 1)
    assert (counts.load(one), counts.elsewhere(one)) == (1, 0)
    assert repr(counts) == "<Counts 2 in flight, 2 slots>"


def test_a_slot_that_was_given_back_is_used_again_and_empty():
    counts = Counts()
    slot = counts.open()
    counts.claim(slot)
    counts.release(slot)
    counts.close(slot)
    assert counts.open() == slot
    assert counts.own(slot) == 0
    assert counts.open() != slot


def test_a_slot_where_something_is_in_flight_is_not_given_back():
    counts = Counts()
    slot = counts.open()
    counts.claim(slot)
    with pytest.raises(AssertionError, match="1 in flight"):
        counts.close(slot)


def test_a_bound_holds_and_a_claim_that_is_refused_counts_nothing():
    counts = Counts()
    slot = counts.open()
    counts.bound(slot, 2)
    assert [counts.claim(slot) for _ in range(4)] == [True, True, False, False]
    assert counts.own(slot) == 2
    counts.release(slot)
    assert counts.claim(slot)


def test_each_slot_has_a_bound_of_its_own_until_it_is_given_back():
    counts = Counts()
    one, two = counts.open(), counts.open()
    counts.bound(one, 1)
    assert [counts.claim(one), counts.claim(one), counts.claim(two), counts.claim(two)] == [True, False, True, True]
    assert (counts.bounded, counts.most(one), counts.most(two)) == (True, 1, 0)
    counts.release(one)
    counts.close(one)
    assert (counts.bounded, counts.open(), counts.most(one)) == (False, one, 0)
    assert [counts.claim(one), counts.claim(one)] == [True, True]


def test_a_lower_bound_than_what_is_in_flight_takes_nothing_away():
    counts = Counts()
    slot = counts.open()
    for _ in range(3):
        counts.claim(slot)
    counts.bound(slot, 1)
    assert (counts.own(slot), counts.claim(slot)) == (3, False)
    for _ in range(3):
        counts.release(slot)
    assert [counts.claim(slot), counts.claim(slot)] == [True, False]
    counts.bound(slot, 0)
    assert (counts.bounded, counts.claim(slot)) == (False, True)


def test_without_a_bound_everybody_is_let_in():
    counts = Counts()
    slot = counts.open()
    assert all(counts.claim(slot) for _ in range(1000))


def test_a_bound_counts_what_others_have_too():
    table = Table()
    slot = table.open()
    table.bound(slot, 3)
    table.others[slot] = 2
    assert [table.claim(slot), table.claim(slot)] == [True, False]
    assert (table.own(slot), table.load(slot)) == (1, 3)
    table.others[slot] = 0
    assert table.claim(slot)
