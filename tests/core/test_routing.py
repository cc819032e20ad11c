"""Which route a request is led to: a table of cases, and random tables, each also by a plain oracle."""

import sys
from collections import Counter
from contextlib import contextmanager
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from route_tables import OFFICE, REQUESTS, TABLES
from routing_oracle import Request, expected, routed
from some import examples

from twisted_lb.build_info import build
from twisted_lb.core import routing
from twisted_lb.core.routing import AROUND, FieldRule, How, RouteMatch, Router, parameters, without_parameters

# In order: the first one that matches counts.
ROUTES = {
    "closed": RouteMatch(paths=(b"/closed", b"/closed/too")),
    "admin of api": RouteMatch(hosts=(b"api.example.com",), prefixes=(b"/admin",), clients=OFFICE),
    "no admin": RouteMatch(hosts=(b"api.example.com",), prefixes=(b"/admin",)),
    "v1": RouteMatch(hosts=(b"api.example.com", b"*.api.example.com"), prefixes=(b"/v1",)),
    "below v2": RouteMatch(hosts=(b"api.example.com",), prefixes=(b"/v2/",)),
    "writes": RouteMatch(hosts=(b"api.example.com",), methods=(b"POST", b"PUT")),
    "api": RouteMatch(hosts=(b"api.example.com",)),
    "eu": RouteMatch(hosts=(b"*.eu.example.com",)),
    "wild": RouteMatch(hosts=(b"*.example.com",), prefixes=(b"/a", b"/c/d")),
    "wild root": RouteMatch(hosts=(b"*.example.com",), paths=(b"/",)),
    "beta": RouteMatch(hosts=(b"example.com",), headers=(FieldRule(b"x-beta", How.EXACT, b"on"),)),
    "token": RouteMatch(hosts=(b"example.com",), headers=(FieldRule(b"authorization", How.PREFIX, b"Bearer "),)),
    "debug": RouteMatch(hosts=(b"example.com",), query=(FieldRule(b"debug", How.PRESENT),)),
    "german": RouteMatch(hosts=(b"example.com",), query=(FieldRule(b"lang", How.EXACT, b"de"),)),
    "both": RouteMatch(
        hosts=(b"example.com",), headers=(FieldRule(b"x-a"),), query=(FieldRule(b"b", How.PREFIX, b"b b"),)
    ),
    "deep": RouteMatch(prefixes=(b"/a/b/c",)),
    "shallow": RouteMatch(prefixes=(b"/a",)),
    "shop": RouteMatch(hosts=(b"example.com", b"shop.example.org"), paths=(b"/shop",), prefixes=(b"/shop/items",)),
    "slashed": RouteMatch(paths=(b"/x%2Fy",)),
    "coffee": RouteMatch(prefixes=("/café".encode(),)),
    "spaces": RouteMatch(paths=(b"/a b",)),
    "v6": RouteMatch(hosts=(b"[2001:db8::1]",)),
    "v4": RouteMatch(hosts=(b"10.0.0.1",)),
    "server": RouteMatch(paths=(b"*",)),
    "matrix": RouteMatch(paths=(b"/m;v=1",)),
    "root": RouteMatch(prefixes=(b"/",), methods=(b"GET",)),
}
NAMES = [*ROUTES, "around", "none"]
MATCHES = list(ROUTES.values())
ROUTER = Router(MATCHES)

API = b"api.example.com"
CASES = [
    # Hosts: exact, with ports, in any case, with a dot at the end.
    (API, b"/", "api"),
    (b"API.Example.COM", b"/", "api"),
    (b"api.example.com:8080", b"/", "api"),
    (b"api.example.com:", b"/", "api"),
    (b"api.example.com.", b"/", "api"),
    (b"API.example.com.:80", b"/", "api"),
    (b"api.example.com..", b"/", "root"),
    (b"xapi.example.com", b"/", "wild root"),
    (b"example.org", b"/", "root"),
    (b"[2001:DB8::1]:8080", b"/", "v6"),
    (b"[2001:db8::1]", b"/z", "v6"),
    (b"[2001:db8::2]", b"/z", "root"),
    (b"10.0.0.1:81", b"/z", "v4"),
    (b"10.0.0.10", b"/z", "root"),
    # Wildcards: any depth below, never the bare domain, in order beside exact hosts.
    (b"www.example.com", b"/", "wild root"),
    (b"WWW.EXAMPLE.COM.:80", b"/", "wild root"),
    (b"a.b.c.example.com", b"/", "wild root"),
    (b"example.com", b"/", "root"),
    (b".example.com", b"/", "root"),
    (b"wwwexample.com", b"/", "root"),
    (b"www.example.com.evil.org", b"/", "root"),
    (b"www.example.com", b"/zzz", "root"),
    (b"x.eu.example.com", b"/", "eu"),
    (b"x.y.eu.example.com", b"/zzz", "eu"),
    (b"eu.example.com", b"/", "wild root"),
    (b"x.api.example.com", b"/v1", "v1"),
    (b"x.api.example.com", b"/", "wild root"),
    (b"x.api.example.com", b"/v2/a", "root"),
    # Absolute targets: their authority, whatever the client's spelling of Host.
    (API, b"http://api.example.com/v1/x", "v1"),
    (b"API.example.com:80", b"http://api.example.com:80/v1", "v1"),
    (API, b"HTTP://API.EXAMPLE.COM/admin", "no admin"),
    (API, b"http://api.example.com", "api"),
    (API, b"http://api.example.com?x", "api"),
    (b"www.example.com", b"http://www.example.com/%61", "wild"),
    (b"www.example.com", b"https://www.example.com:443/a/x/../a?q", "wild"),
    # Prefixes: on the border of segments.
    (API, b"/v1", "v1"),
    (API, b"/v1/", "v1"),
    (API, b"/v1/x", "v1"),
    (API, b"/v1?x", "v1"),
    (API, b"/v1x", "api"),
    (API, b"/v1.0", "api"),
    (API, b"/v1-", "api"),
    (API, b"/v", "api"),
    (API, b"/V1", "api"),
    (API, b"/x/v1", "api"),
    (API, b"/v2", "api"),
    (API, b"/v2/", "below v2"),
    (API, b"/v2/x", "below v2"),
    (API, b"/v2x/", "api"),
    (API, b"/v2?/v2/", "api"),
    (b"example.org", b"/a/b/c", "deep"),
    (b"example.org", b"/a/b/c/d/e", "deep"),
    (b"example.org", b"/a/b/cc", "shallow"),
    (b"example.org", b"/a/b", "shallow"),
    (b"example.org", b"/a", "shallow"),
    (b"example.org", b"/aa", "root"),
    (b"www.example.com", b"/a/b/c", "wild"),
    (b"www.example.com", b"/c/d", "wild"),
    (b"www.example.com", b"/c/d/e", "wild"),
    (b"www.example.com", b"/c", "root"),
    # Exact paths, and both kinds in one route.
    (API, b"/closed", "closed"),
    (b"example.org", b"/closed?x", "closed"),
    (b"example.org", b"/closed/", "root"),
    (b"example.org", b"/closed/too", "closed"),
    (b"example.org", b"/closed/to", "root"),
    (b"shop.example.org", b"/shop", "shop"),
    (b"shop.example.org", b"/shop/", "root"),
    (b"shop.example.org", b"/shop/items", "shop"),
    (b"shop.example.org", b"/shop/items/1", "shop"),
    (b"shop.example.org", b"/shop/itemss", "root"),
    (b"example.com", b"/shop", "shop"),
    (b"example.org", b"/shop", "root"),
    # Encoded paths, dot and empty segments.
    (API, b"/%76%31/x", "v1"),
    (API, b"/%761", "v1"),
    (API, b"//v1", "v1"),
    (API, b"/./v1/./x", "v1"),
    (API, b"/v1/x/../y", "v1"),
    (API, b"/v1/x;y/..", "v1"),
    (API, b"/x/../x", "api"),
    # To servers that resolve no dots these are another route's.
    (API, b"/x/../v1", "around"),
    (API, b"/v1/..", "around"),
    (API, b"/v1/../x", "around"),
    (API, b"/v1;x/../x", "around"),
    (API, b"/v1/../closed", "around"),
    (API, b"/%63losed", "closed"),
    (API, b"/closed/.", "api"),
    (API, b"/v1%2Fx", "api"),
    (API, b"/%2Fv1", "api"),
    (API, b"/%2576%31", "api"),
    (API, b"/v1%3Fx", "api"),
    (b"example.org", b"/x%2Fy", "slashed"),
    (b"example.org", b"/x%2fy", "slashed"),
    (b"example.org", b"/x/y", "root"),
    (b"example.org", b"/caf%C3%A9", "coffee"),
    (b"example.org", b"/caf%c3%a9/x", "coffee"),
    (b"example.org", b"/caf%E9", "root"),
    (b"example.org", b"/a%20b", "spaces"),
    (b"example.org", b"/a+b", "root"),
    # Parameters: with and without them.
    (API, b"/admin;x=1/y", "no admin"),
    (API, b"/admin;x", "no admin"),
    (API, b"/;/admin", "no admin"),
    (API, b"/admin%3Bx", "no admin"),
    (API, b"/v1;v=2", "v1"),
    (b"example.org", b"/closed;jsessionid=1", "closed"),
    (b"example.org", b"/m;v=1", "matrix"),
    (b"example.org", b"/m;v=2", "root"),
    # Rules that overlap: the first one, whatever is more specific.
    (API, b"/admin", "no admin"),
    (API, b"/admin/x", "no admin"),
    (API, b"/adminx", "api"),
]


@pytest.mark.parametrize(("host", "target", "name"), CASES)
def test_host_and_path_lead_to_the_first_route_that_matches(host, target, name):
    request = Request(host, target)
    assert NAMES[routed(ROUTER, request)] == name
    assert NAMES[expected(MATCHES, request)] == name


BARE = b"example.com"
CONDITIONAL = [
    (Request(API, b"/", b"POST"), "writes"),
    (Request(API, b"/", b"PUT"), "writes"),
    (Request(API, b"/", b"PATCH"), "api"),
    (Request(API, b"/", b"post"), "api"),
    (Request(API, b"/v1", b"POST"), "v1"),
    (Request(b"example.org", b"/", b"HEAD"), "none"),
    (Request(b"example.org", b"*", b"OPTIONS"), "server"),
    (Request(b"example.org", b"http://example.org", b"OPTIONS"), "server"),
    (Request(b"example.org", b"/", b"OPTIONS"), "none"),
    (Request(API, b"*", b"OPTIONS"), "api"),
    (Request(API, b"/admin", client="10.0.0.1"), "admin of api"),
    (Request(API, b"/admin;x", client="2001:db8::1"), "admin of api"),
    (Request(API, b"/admin", client="10.0.0.2"), "no admin"),
    (Request(API, b"/admin", client=""), "no admin"),
    (Request(BARE, fields=((b"X-Beta", b"on"),)), "beta"),
    (Request(BARE, fields=((b"x-BETA", b"\t on  "),)), "beta"),
    (Request(BARE, fields=((b"X-Beta", b"On"),)), "root"),
    (Request(BARE, fields=((b"X-Beta", b"on, on"),)), "root"),
    (Request(BARE, fields=((b"X-Beta", b"off"), (b"Y", b"on"), (b"X-Beta", b"on"))), "beta"),
    (Request(BARE, fields=((b"X-Beta2", b"on"),)), "root"),
    (Request(BARE, fields=((b"Y-X-Beta", b"on"),)), "root"),
    (Request(BARE, fields=((b"Y", b"X-Beta: on"),)), "root"),
    (Request(b"example.org", fields=((b"X-Beta", b"on"),)), "root"),
    (Request(BARE, fields=((b"Authorization", b"Bearer abc"),)), "token"),
    (Request(BARE, fields=((b"Authorization", b"bearer abc"),)), "root"),
    (Request(BARE, fields=((b"Authorization", b"Basic Bearer "),)), "root"),
    (Request(BARE, fields=((b"Authorization", b"Bearer x"), (b"X-Beta", b"on"))), "beta"),
    (Request(BARE, b"/?debug"), "debug"),
    (Request(BARE, b"/?debug="), "debug"),
    (Request(BARE, b"/?a=b&debug=1&c"), "debug"),
    (Request(BARE, b"/?%64ebug"), "debug"),
    (Request(BARE, b"/?Debug"), "root"),
    (Request(BARE, b"/?debugx"), "root"),
    (Request(BARE, b"/?x=debug"), "root"),
    (Request(BARE, b"/?a;debug"), "root"),
    (Request(BARE, b"/debug"), "root"),
    (Request(BARE, b"/?lang=de"), "german"),
    (Request(BARE, b"/?lang=en&lang=%64e"), "german"),
    (Request(BARE, b"/?lang=de+"), "root"),
    (Request(BARE, b"/?lang=d"), "root"),
    (Request(BARE, b"/?b=b+bbb", fields=((b"X-A", b""),)), "both"),
    (Request(BARE, b"/?b=b%20b", fields=((b"X-A", b"1"),)), "both"),
    (Request(BARE, b"/?b=b+b"), "root"),
    (Request(BARE, b"/?b=bb", fields=((b"X-A", b"1"),)), "root"),
    (Request(BARE, b"/a?b=b+b", fields=((b"X-B", b"1"),)), "shallow"),
]


@pytest.mark.parametrize(("request_", "name"), CONDITIONAL)
def test_conditions_lead_to_the_first_route_that_matches(request_, name):
    assert NAMES[routed(ROUTER, request_)] == name
    assert NAMES[expected(MATCHES, request_)] == name


def test_a_path_that_is_two_routes_is_the_one_with_its_dots_resolved_where_the_other_is_open():
    matches = [RouteMatch(prefixes=(b"/v1",)), RouteMatch(paths=(b"/closed",)), RouteMatch()]
    for target, open_routes, index in [
        (b"/x/../v1", (2,), 0),
        (b"/v1/../x", (0,), 2),
        (b"/v1/../closed", (0,), 1),
        (b"/x/../v1", (0, 1), AROUND),
        (b"/v1/../x", (1, 2), AROUND),
    ]:
        request = Request(target=target)
        assert routed(Router(matches, open_routes), request) == expected(matches, request, open_routes) == index


def test_a_path_that_is_nobodys_without_its_dots_resolved_is_nobodys():
    assert routed(Router([RouteMatch(prefixes=(b"/public",))], (0,)), Request(target=b"/x/../public")) == AROUND


@examples(200)
@given(TABLES, REQUESTS, st.sets(st.integers(0, 5)))
def test_random_tables_lead_where_the_oracle_does(matches, request_, open_routes):
    assert routed(Router(matches, open_routes), request_) == expected(matches, request_, tuple(open_routes))


@given(TABLES, REQUESTS)
def test_what_a_router_does_not_look_at_may_be_left_empty(matches, request_):
    router = Router(matches)
    path, _, query = request_.target.partition(b"?")
    less = replace(
        request_,
        target=(path if router.looks_at_path else b"/") + (b"?" + query if router.looks_at_query else b""),
        client=request_.client if router.looks_at_client else "",
    )
    assert routed(router, less) == routed(router, request_)
    if router.sole:
        assert routed(router, request_) == 0


@pytest.mark.parametrize(
    ("matches", "sole"),
    [
        ([], False),
        ([RouteMatch()], True),
        ([RouteMatch(), RouteMatch(hosts=(b"a",))], True),
        ([RouteMatch(hosts=(b"a",)), RouteMatch()], False),
        ([RouteMatch(prefixes=(b"/",))], False),
        ([RouteMatch(methods=(b"GET",))], False),
        ([RouteMatch(headers=(FieldRule(b"a"),))], False),
        ([RouteMatch(query=(FieldRule(b"a"),))], False),
        ([RouteMatch(clients=OFFICE)], False),
    ],
)
def test_a_router_that_takes_everything_by_its_first_route_is_sole(matches, sole):
    assert Router(matches).sole is sole


def test_no_routes_take_nothing():
    assert Router([]).find(b"a", b"/", b"GET", b"", b"", "") == -1
    assert repr(ROUTER) == "<Router 26 routes>"


@pytest.mark.parametrize(
    ("path", "without"),
    [
        (b"/a;x", b"/a"),
        (b"/a;x=1/b;y", b"/a/b"),
        (b"/a;x/", b"/a/"),
        (b"/a/;x", b"/a/"),
        (b"/;x/a", b"/a"),
        (b"/;", b"/"),
        (b"/a/;x/;y/b", b"/a/b"),
        (b"/a;b;c/d", b"/a/d"),
    ],
)
def test_a_path_is_left_without_its_parameters(path, without):
    assert without_parameters(path) == without


@pytest.mark.parametrize(
    ("query", "pairs"),
    [
        (b"", []),
        (b"&&", []),
        (b"a", [(b"a", b"")]),
        (b"a=", [(b"a", b"")]),
        (b"=b", [(b"", b"b")]),
        (b"a=b=c", [(b"a", b"b=c")]),
        (b"a+b=c%20d&%61=%3D%26", [(b"a b", b"c d"), (b"a", b"=&")]),
        (b"a=%zz%4", [(b"a", b"%zz%4")]),
        (b"a=1;b=2", [(b"a", b"1;b=2")]),
        (b"a?=?", [(b"a?", b"?")]),
    ],
)
def test_a_query_is_read_as_forms_write_it(query, pairs):
    assert parameters(query) == pairs


@contextmanager
def counted_calls():
    """How often what is called meanwhile: functions of the router, and of C."""
    made: Counter[str] = Counter()

    def note(frame, event, argument):
        if event == "call" and frame.f_code.co_filename == routing.__file__:
            made[frame.f_code.co_qualname] += 1
        elif event == "c_call" and frame.f_code.co_filename == routing.__file__:
            made[argument.__qualname__] += 1

    before = sys.getprofile()
    sys.setprofile(note)
    try:
        yield made
    finally:
        sys.setprofile(before)


def many(count: int) -> list[RouteMatch]:
    """So many hosts and as many wildcards, each with its own path and one that all have; as many paths of one host; as many
    of any host; and one host more.
    """
    return [
        *(RouteMatch(hosts=(b"h%d.com" % n, b"*.w%d.com" % n), prefixes=(b"/%d" % n, b"/p")) for n in range(count)),
        *(RouteMatch(hosts=(b"one.com",), prefixes=(b"/%d/x" % n,)) for n in range(count)),
        *(RouteMatch(prefixes=(b"/all/%d" % n,)) for n in range(count)),
        RouteMatch(hosts=(b"last.com",)),
    ]


@pytest.mark.skipif(build() == "compiled", reason="compiled functions have no frames")
@pytest.mark.parametrize(
    ("host", "path", "group", "place", "looks"),
    [
        # The host, its path and the two slashes in it that a prefix may end at; the label `com`. Then the routes of any host
        # cannot come before what is found.
        (b"h7.com", b"/7/x/y", 0, 7, 5),
        # The host, its labels `com` and `w3`; the path, and the one slash in it.
        (b"a.b.w3.com", b"/p", 0, 3, 5),
        (b"one.com", b"/3/x/y", 1, 3, 6),
        # All look-ups that there are: host and label in vain, the path, and three slashes.
        (b"nobody.org", b"/all/9/x/y/z", 2, 9, 6),
        # Of the last route the host alone; of any host, which could come before it, the path and a slash.
        (b"last.com", b"/", 3, 0, 4),
    ],
)
def test_ten_and_a_thousand_routes_and_hosts_cost_the_same_look_ups(host, path, group, place, looks):
    def counts(count: int) -> Counter[str]:
        router = Router(many(count))
        with counted_calls() as made:
            index = router.find(host, path, b"GET", b"", b"", "")
        assert index == group * count + place
        return made

    ten, thousand = counts(10), counts(1000)
    assert ten == thousand
    assert ten["dict.get"] == looks


@pytest.mark.skipif(build() == "compiled", reason="compiled functions have no frames")
def test_a_long_path_costs_no_more_look_ups_than_the_longest_prefix():
    router = Router([RouteMatch(prefixes=(b"/a/b",)), RouteMatch(paths=(b"/x",))])
    with counted_calls() as made:
        assert router.find(b"h", b"/a" * 4000, b"GET", b"", b"", "") == -1
    # The host, the path, and the slashes before `a`, `b` and what is behind.
    assert made["dict.get"] == 5


class Counting:
    """Clients that are counted, none of whom is covered."""

    def __init__(self) -> None:
        self.asked = 0

    def covers(self, address: str) -> bool:
        self.asked += 1
        return False


def test_conditions_are_asked_only_of_routes_that_could_come_first():
    clients = Counting()
    matches = [
        RouteMatch(hosts=(b"other",), clients=clients),
        RouteMatch(prefixes=(b"/other",), clients=clients),
        RouteMatch(methods=(b"POST",), clients=clients),
        RouteMatch(prefixes=(b"/a",), clients=clients),
        RouteMatch(hosts=(b"h",)),
        RouteMatch(clients=clients),
        RouteMatch(paths=(b"/a",), clients=clients),
    ]
    assert Router(matches).find(b"h", b"/a", b"GET", b"", b"", "") == 4
    assert clients.asked == 1


def test_routes_behind_one_without_conditions_are_not_kept_for_its_path():
    clients = Counting()
    router = Router([RouteMatch(paths=(b"/a",), clients=clients) for _ in range(3)] + [RouteMatch(paths=(b"/a",))] * 50)
    assert router.find(b"h", b"/a", b"GET", b"", b"", "") == 3
    assert clients.asked == 3
