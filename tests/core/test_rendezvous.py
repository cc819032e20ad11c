"""Rendezvous: exact movement, shares as even as chance is, by weight too."""

import math
from collections import Counter

import pytest
from keyed import KEYS, members, owners, unbounded

from twisted_lb.core.pickers.members import Members, drawn

NUMBER = len(KEYS)


def within(count: int, share: float) -> bool:
    """A binomial count, within 5 standard deviations."""
    return abs(count - NUMBER * share) < 5 * math.sqrt(NUMBER * share * (1 - share))


@pytest.mark.parametrize("weights", [(1,), (1, 2, 5), (256, 1)])
def test_shares_are_those_of_chance_by_weight(weights):
    those = members(12, weights)
    got = Counter(owners(unbounded("rendezvous", those)))
    total = sum(one.weight for one in those)
    for backend in those:
        assert within(got[backend.name], backend.weight / total)


@pytest.mark.parametrize("weights", [(1,), (1, 2, 5)], ids=["equal", "unequal"])
def test_exactly_the_keys_of_who_leaves_move(weights):
    those = members(20, weights)
    before = owners(unbounded("rendezvous", those))
    for gone in those[:6]:
        rest = [one for one in those if one is not gone]
        if len({one.weight for one in rest}) == len(set(weights)):
            after = owners(unbounded("rendezvous", rest))
            assert all(new == old for old, new in zip(before, after, strict=True) if old != gone.name)


def test_keys_move_to_who_has_more_weight_and_nowhere_else():
    """And as many as its share grows by: from 1 of 11 to 3 of 13."""
    those = members(10, (1, 2))[:-1]
    before = owners(unbounded("rendezvous", those))
    total = sum(one.weight for one in those)
    those[0].weight += 2
    after = owners(unbounded("rendezvous", those))
    moved = [new for old, new in zip(before, after, strict=True) if old != new]
    assert set(moved) == {those[0].name}
    assert within(len(moved), 3 / (total + 2) - 1 / total)


def test_that_weights_become_unequal_moves_no_key_of_those_whose_share_they_keep():
    """Numbers and logarithms have the same order, where weights are equal."""
    equal, unequal = members(8), members(9, (1,))
    unequal[8].weight = 2
    before, after = owners(unbounded("rendezvous", equal)), owners(unbounded("rendezvous", unequal))
    assert all(new in (old, unequal[8].name) for old, new in zip(before, after, strict=True))


def test_two_that_draw_the_same_number_are_told_apart_by_another_one():
    """Of 10,000 names two may well share 32 bits of their hash; without that the later one would never have a key."""
    those = Members(members(2), 0)
    those.seed()
    those._lows[1] = those._lows[0]
    got = Counter(those.highest(key) for key in KEYS)
    assert within(got[0], 0.5)
    assert [those.order(key)[0] for key in KEYS[:200]] == [those.highest(key) for key in KEYS[:200]]


def test_a_draw_spreads_each_bit_over_all_others():
    """Strict avalanche: a flipped bit of the word flips each bit of the number in half of 2,000 cases, within 6 standard deviations of
    sqrt(2000) / 2 = 22, in each of the 1,024 pairs of bits; but for what a hash of two multiplications leaves, 5 % more.
    """
    words = [key & 0xFFFFFFFF for key in KEYS[:2000]]
    for bit in range(32):
        flips = [drawn(word, [7])[0] ^ drawn(word ^ (1 << bit), [7])[0] for word in words]
        for place in range(32):
            flipped = sum(flip >> place & 1 for flip in flips)
            assert abs(flipped - 1000) < 6 * 22 + 100, (bit, place, flipped)


def test_each_number_is_drawn_for_one_word_only():
    assert len({drawn(word, [12345])[0] for word in range(20_000)}) == 20_000
