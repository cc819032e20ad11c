"""Which routes nobody can reach, and that only what is sure is said."""

from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given
from route_tables import MATCH, REQUESTS, TABLES
from routing_oracle import Those, expected

from twisted_lb.build_info import build
from twisted_lb.core import shadowing
from twisted_lb.core.routing import FieldRule, How, RouteMatch
from twisted_lb.core.shadowing import covers, never_reached, passed


def taking(*hosts: bytes, **rest) -> RouteMatch:
    return RouteMatch(hosts=hosts, **rest)


def field(name: bytes, how: str = "present", value: bytes = b"") -> FieldRule:
    return FieldRule(name, How(how), value)


def at(*addresses: str) -> Those:
    return Those(frozenset(addresses))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (RouteMatch(), RouteMatch()),
        (RouteMatch(), taking(b"a", paths=(b"/x",), methods=(b"GET",), headers=(field(b"h"),), clients=at("x"))),
        # Hosts.
        (taking(b"a"), taking(b"a")),
        (taking(b"b", b"a"), taking(b"a")),
        (taking(b"*.a"), taking(b"x.a")),
        (taking(b"*.a"), taking(b"x.y.a")),
        (taking(b"*.a"), taking(b"*.a")),
        (taking(b"*.a"), taking(b"*.x.a")),
        (taking(b"*.a", b"b"), taking(b"*.x.a", b"b")),
        # Paths.
        (RouteMatch(paths=(b"/a",)), RouteMatch(paths=(b"/a",))),
        (RouteMatch(paths=(b"/b", b"/a")), RouteMatch(paths=(b"/a",))),
        (RouteMatch(prefixes=(b"/a",)), RouteMatch(paths=(b"/a",))),
        (RouteMatch(prefixes=(b"/a",)), RouteMatch(paths=(b"/a/b", b"/a/"))),
        (RouteMatch(prefixes=(b"/a",)), RouteMatch(prefixes=(b"/a",))),
        (RouteMatch(prefixes=(b"/a",)), RouteMatch(prefixes=(b"/a/",))),
        (RouteMatch(prefixes=(b"/a",)), RouteMatch(prefixes=(b"/a/b", b"/a/c/"), paths=(b"/a/d",))),
        (RouteMatch(prefixes=(b"/a/",)), RouteMatch(prefixes=(b"/a/b",), paths=(b"/a/",))),
        (RouteMatch(prefixes=(b"/",)), RouteMatch(prefixes=(b"/a",), paths=(b"/",))),
        (RouteMatch(prefixes=(b"/b",), paths=(b"/a",)), RouteMatch(prefixes=(b"/b/c",), paths=(b"/a",))),
        # Conditions.
        (RouteMatch(methods=(b"GET", b"PUT")), RouteMatch(methods=(b"PUT",))),
        (RouteMatch(headers=(field(b"h"),)), RouteMatch(headers=(field(b"h", "exact", b"1"),))),
        (RouteMatch(headers=(field(b"h"),)), RouteMatch(headers=(field(b"h", "prefix", b"1"), field(b"g")))),
        (RouteMatch(query=(field(b"h", "exact", b"1"),)), RouteMatch(query=(field(b"h", "exact", b"1"),))),
        (RouteMatch(query=(field(b"h", "prefix", b"1"),)), RouteMatch(query=(field(b"h", "exact", b"12"),))),
        (RouteMatch(query=(field(b"h", "prefix", b"1"),)), RouteMatch(query=(field(b"h", "prefix", b"12"),))),
        (RouteMatch(query=(field(b"h", "prefix"),)), RouteMatch(query=(field(b"h"),))),
        (RouteMatch(clients=at("x")), RouteMatch(clients=at("x"))),
    ],
)
def test_a_route_takes_all_that_the_other_could(one, other):
    assert covers(one, other)
    assert never_reached([one, other]) == [(1, 0)]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (taking(b"a"), RouteMatch()),
        (taking(b"a"), taking(b"b")),
        (taking(b"a"), taking(b"a", b"b")),
        (taking(b"*.a"), taking(b"a")),
        (taking(b"*.x.a"), taking(b"*.a")),
        (taking(b"x.a"), taking(b"*.a")),
        (taking(b"*.a"), taking(b"xa")),
        (RouteMatch(paths=(b"/a",)), RouteMatch()),
        (RouteMatch(prefixes=(b"/",)), RouteMatch()),
        (RouteMatch(paths=(b"/a",)), RouteMatch(prefixes=(b"/a",))),
        (RouteMatch(paths=(b"/a",)), RouteMatch(paths=(b"/a", b"/b"))),
        (RouteMatch(paths=(b"/a",)), RouteMatch(paths=(b"/a",), prefixes=(b"/b",))),
        (RouteMatch(prefixes=(b"/a",)), RouteMatch(paths=(b"/ab",))),
        (RouteMatch(prefixes=(b"/a/",)), RouteMatch(paths=(b"/a",))),
        (RouteMatch(prefixes=(b"/a/",)), RouteMatch(prefixes=(b"/a",))),
        (RouteMatch(prefixes=(b"/a/b",)), RouteMatch(prefixes=(b"/a",))),
        (RouteMatch(methods=(b"GET",)), RouteMatch()),
        (RouteMatch(methods=(b"GET",)), RouteMatch(methods=(b"GET", b"PUT"))),
        (RouteMatch(headers=(field(b"h"),)), RouteMatch()),
        (RouteMatch(headers=(field(b"h"),)), RouteMatch(query=(field(b"h"),))),
        (RouteMatch(headers=(field(b"h", "exact", b"1"),)), RouteMatch(headers=(field(b"h", "prefix", b"1"),))),
        (RouteMatch(headers=(field(b"h", "prefix", b"1"),)), RouteMatch(headers=(field(b"h"),))),
        (RouteMatch(headers=(field(b"h", "prefix", b"12"),)), RouteMatch(headers=(field(b"h", "prefix", b"1"),))),
        (RouteMatch(headers=(field(b"h"), field(b"g"))), RouteMatch(headers=(field(b"h"),))),
        (RouteMatch(clients=at("x")), RouteMatch()),
        (RouteMatch(clients=at("x")), RouteMatch(clients=at("x", "y"))),
    ],
)
def test_a_route_leaves_something_to_the_other(one, other):
    assert not covers(one, other)
    assert never_reached([one, other]) == []


def test_each_route_is_told_with_the_first_that_takes_its_requests():
    matches = [
        taking(b"a", prefixes=(b"/x",)),
        taking(b"a"),
        taking(b"a", paths=(b"/x/y",)),
        taking(b"a", methods=(b"GET",)),
        taking(b"b"),
        RouteMatch(),
        taking(b"b", b"c"),
        RouteMatch(),
    ]
    assert never_reached(matches) == [(2, 0), (3, 1), (6, 5), (7, 5)]


def test_what_several_routes_take_together_is_not_sure():
    assert never_reached([taking(b"a"), taking(b"b"), taking(b"a", b"b")]) == []


@given(TABLES, REQUESTS)
def test_no_request_is_led_to_a_route_that_is_said_to_be_never_reached(matches, request_):
    assert expected(matches, request_) not in [index for index, _ in never_reached(matches)]


@given(TABLES)
def test_the_tables_find_what_comparing_each_with_each_finds(matches):
    found = []
    for index, match in enumerate(matches):
        by = next((before for before in range(index) if covers(matches[before], match)), None)
        if by is not None:
            found.append((index, by))
    assert never_reached(matches) == found


def test_a_route_is_passed_by_each_later_one_that_may_take_its_path_with_an_escaped_slash():
    matches = [
        taking(b"a", prefixes=(b"/x/y",)),
        taking(b"b"),
        taking(b"a", prefixes=(b"/x/y", b"/z")),
        taking(b"a", methods=(b"GET",)),
        taking(b"*.b", b"a", prefixes=(b"/x",)),
        RouteMatch(),
    ]
    assert list(passed(matches, 0)) == [(b"/x/y%2Fx", 3), (b"/x/y%2Fx", 4)]


def test_what_an_earlier_route_takes_in_every_spelling_is_passed_by_nobody():
    kept = taking(b"a", paths=(b"/x",), methods=(b"GET",))
    assert list(passed([taking(b"a"), kept, RouteMatch()], 1)) == []
    assert list(passed([RouteMatch(methods=(b"PUT",)), kept, RouteMatch()], 1)) == [(b"/%2Fx", 2)]


@given(TABLES, REQUESTS)
def test_no_route_is_passed_unsaid(matches, request_):
    """By a request that the route takes, when it is spelled with its last slash escaped."""
    index = expected(matches, request_)
    if index < 0 or b"%" in request_.target or b";" in request_.target or b".." in request_.target:
        return
    for spelling in {spelling for spelling, _ in passed([*matches, RouteMatch()], index)}:
        other = expected(matches, replace(request_, target=spelling))
        if other > index:
            assert (spelling, other) in passed(matches, index)


@given(MATCH)
def test_a_route_takes_what_it_takes(match):
    assert covers(match, match)


@pytest.mark.skipif(build() == "compiled", reason="compiled functions call one another directly")
def test_a_thousand_routes_are_not_compared_each_with_each(monkeypatch):
    asked: Counter[RouteMatch] = Counter()

    def counted(one, other):
        asked[other] += 1
        return covers(one, other)

    monkeypatch.setattr(shadowing, "covers", counted)
    matches = [
        *(taking(b"h%d" % n) for n in range(500)),
        *(RouteMatch(prefixes=(b"/%d" % n,)) for n in range(500)),
        taking(b"h7", paths=(b"/7/x",)),
    ]
    assert never_reached(matches) == [(1000, 7)]
    assert asked == {matches[-1]: 1}
