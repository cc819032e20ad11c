"""What was reached is remembered, within a bound."""

import socket

from twisted_lb.net.reached import Reached


def where(number: int):
    return socket.AF_INET, ("10.0.0.1", number)


def test_an_address_is_known_once_it_was_reached():
    reached = Reached()
    assert where(1) not in reached
    reached.add(where(1))
    assert where(1) in reached
    assert where(2) not in reached
    assert (socket.AF_INET6, ("10.0.0.1", 1)) not in reached


def test_beyond_the_bound_the_one_reached_longest_ago_is_forgotten():
    reached = Reached(most=3)
    for number in (1, 2, 3, 1, 4):
        reached.add(where(number))
    assert [number for number in range(5) if where(number) in reached] == [1, 3, 4]
    assert repr(reached) == "<Reached 3 addresses>"
