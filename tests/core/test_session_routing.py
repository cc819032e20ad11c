"""Routing of sessions: the first route in order that takes a connection, by its name and its client, and why."""

import pytest

from twisted_lb.core.networks import Networks
from twisted_lb.core.session_routing import SessionMatch, SessionRouter

INSIDE = Networks(["10.0.0.0/8"])
ROUTER = SessionRouter(
    [
        SessionMatch(("a.example.com", "b.example.com"), INSIDE),
        SessionMatch(("*.example.com",)),
        SessionMatch((), INSIDE),
        SessionMatch(("a.example.com",)),
    ]
)


@pytest.mark.parametrize(
    ("name", "address", "place"),
    [
        ("a.example.com", "10.1.2.3", 0),
        ("A.Example.COM.", "10.1.2.3", 0),
        ("a.example.com", "192.0.2.1", 1),
        ("x.y.example.com", "192.0.2.1", 1),
        ("example.com", "192.0.2.1", -1),
        ("example.com", "10.1.2.3", 2),
        ("", "10.1.2.3", 2),
        ("", "192.0.2.1", -1),
        ("other.example", "192.0.2.1", -1),
    ],
)
def test_the_first_in_order_that_takes_name_and_client_has_a_connection(name, address, place):
    assert ROUTER.find(name, address) == place
    assert [not ROUTER.why_not(index, name, address) for index in range(place)] == [False] * max(place, 0)
    assert place < 0 or not ROUTER.why_not(place, name, address)


def test_why_one_takes_it_names_what_it_asks():
    assert ROUTER.why(0, "10.1.2.3") == "it is one of its names and client 10.1.2.3 is one of its clients"
    assert ROUTER.why(1, "10.1.2.3") == "it is one of its names"
    assert ROUTER.why(2, "10.1.2.3") == "client 10.1.2.3 is one of its clients"
    assert SessionRouter([SessionMatch()]).why(0, "10.1.2.3") == ""


def test_why_one_does_not_names_what_is_not_met():
    assert ROUTER.why_not(0, "c.example.com", "10.1.2.3") == (
        "the name is c.example.com, not a.example.com or b.example.com"
    )
    assert ROUTER.why_not(1, "", "10.1.2.3") == "it says no name, not *.example.com"
    assert ROUTER.why_not(0, "a.example.com", "192.0.2.1") == "client 192.0.2.1 is not one of its clients"
    many = SessionRouter([SessionMatch(tuple(f"{number}.example.com" for number in range(9)))])
    assert many.why_not(0, "x", "10.1.2.3").endswith("2.example.com or 6 more")
