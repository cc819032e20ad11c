"""Nobody gets around a route by another spelling of its path (path confusion, ACL bypass).

For each of the ways in which servers resolve a path, and any spelling: where a server resolves it to a protected path, the
request is refused, or led to the route that protects it.
"""

import re
from itertools import product
from urllib.parse import unquote_to_bytes

import pytest
from hypothesis import given
from hypothesis import strategies as st
from some import examples

from twisted_lb.core.routing import AROUND, RouteMatch, Router
from twisted_lb.wire.grammar import BadMessage
from twisted_lb.wire.paths import escaped_slash, matching_path, unresolved_path

PROTECTED = (b"/admin", b"/a/admin")
# What is closed stands before what is open to all (deny list), or what is open before all that is closed (allow list).
CLOSED_FIRST = Router([RouteMatch(prefixes=PROTECTED), RouteMatch(paths=(b"/secret",)), RouteMatch()], open_routes=(2,))
OPEN_FIRST = Router([RouteMatch(prefixes=(b"/x", b"/a/x")), RouteMatch()], open_routes=(0,))


def leads_to(router: Router, target: bytes) -> int:
    try:
        path = matching_path(target)
    except BadMessage:
        return AROUND
    return router.find(b"h", path, b"GET", b"", b"", "", unresolved_path(target))


def unprotected(target: bytes) -> bool:
    """Whether a request gets past the routes that protect."""
    return leads_to(CLOSED_FIRST, target) == 2 or leads_to(OPEN_FIRST, target) == 0


def is_protected(path: bytes) -> bool:
    return path == b"/secret" or any(path == one or path.startswith(one + b"/") for one in PROTECTED)


# Steps of servers, from bytes to bytes.
def decode(path):
    return unquote_to_bytes(path)


def decode_but_slashes(path):
    return b"%2F".join(unquote_to_bytes(part) for part in re.split(rb"%2[fF]", path))


def decode_dots(path):
    return re.sub(rb"%2[eE]", b".", path)


def merge_slashes(path):
    return re.sub(rb"/+", b"/", path)


def turn_backslashes(path):
    return path.replace(b"\\", b"/")


def drop_parameters(path):
    return re.sub(rb";[^/]*", b"", path)


def cut_at_nul(path):
    return path.partition(b"\0")[0]


def trim(path):
    return path.rstrip(bytes(range(0x20)) + b"\x7f")


def overlong(path):
    return path.replace(b"\xc0\xae", b".").replace(b"\xc0\xaf", b"/")


def resolve_dots(path):
    """RFC 3986 5.2.4: empty segments are segments; what is too much above the root is dropped."""
    kept: list[bytes] = []
    segments = path.split(b"/")[1:]
    for segment in segments:
        if segment == b"..":
            del kept[-1:]
        elif segment != b".":
            kept.append(segment)
    if segments and segments[-1] in (b".", b".."):
        kept.append(b"")
    return b"/" + b"/".join(kept)


SERVERS = {
    "takes it as it is": [decode_but_slashes],
    "RFC 3986": [decode_but_slashes, resolve_dots],
    "resolves, then decodes": [resolve_dots, decode_but_slashes],
    "resolves twice": [resolve_dots, decode_but_slashes, resolve_dots, merge_slashes],
    "merges, then resolves": [decode_but_slashes, merge_slashes, resolve_dots],
    "resolves, then merges": [decode_but_slashes, resolve_dots, merge_slashes],
    "Tomcat": [drop_parameters, decode_but_slashes, merge_slashes, resolve_dots],
    "parameters last": [decode_but_slashes, resolve_dots, drop_parameters, merge_slashes],
    "escaped parameters": [decode_but_slashes, drop_parameters, merge_slashes, resolve_dots],
    "IIS": [decode_but_slashes, turn_backslashes, merge_slashes, resolve_dots],
    "C": [decode_but_slashes, cut_at_nul, merge_slashes, resolve_dots],
    "trims": [decode_but_slashes, merge_slashes, resolve_dots, trim],
    "lenient UTF-8": [decode_but_slashes, overlong, merge_slashes, resolve_dots],
    "another proxy in between": [decode_dots, decode_dots, resolve_dots, merge_slashes, decode_but_slashes],
}
# Where an escaped slash separates, as in WSGI servers, it takes a route that refuses escaped slashes.
SEPARATING = {
    "WSGI": [decode],
    "WSGI, resolving": [decode, merge_slashes, resolve_dots],
    "WSGI, resolving first": [resolve_dots, decode, merge_slashes, resolve_dots],
    "WSGI, with parameters": [decode, drop_parameters, merge_slashes, resolve_dots],
}


def seen(steps, target):
    path = target.partition(b"?")[0]
    for step in steps:
        path = step(path)
    return path


PIECES = (
    *(b"/admin", b"/%61dmin", b"/secret", b"/sec%72et", b"/a", b"/a/admin", b"/a%2Fadmin"),
    *(b"/..", b"/.", b"/", b"//", b"/x", b"/..;", b"/.;x", b"/;x", b"/x;y=1"),
    *(b"/%2e%2e", b"/.%2E", b"/%2e", b"%2f", b"%2F..", b"..%2f", b"/%252e%252e", b"/..%2fadmin"),
    *(
        b"\\",
        b"%5c",
        b"..\\",
        b"%00",
        b"%0a",
        b"%09",
        b"%7f",
        b";",
        b";x",
        b"%3b",
        b"%c0%ae",
        b"%c0%af",
        b"/%c0%ae%c0%ae",
    ),
    *(b"x", b".", b"..", b"?", b"?/admin"),
)


def target_of(pieces):
    return b"/" + b"".join(pieces).lstrip(b"/")


def ways_around(target):
    """The servers that are reached on a protected path past the routes that protect it."""
    if not unprotected(target):
        return []
    servers = SERVERS if escaped_slash(target) else SERVERS | SEPARATING
    return [name for name, steps in servers.items() if is_protected(seen(steps, target))]


@pytest.mark.parametrize("first", PIECES)
def test_no_three_pieces_get_around_a_route(first):
    for pieces in product([b"", *PIECES], repeat=2):
        assert ways_around(target_of((first, *pieces))) == []


@examples(500)
@given(st.lists(st.sampled_from(PIECES), min_size=4, max_size=8))
def test_no_spelling_gets_around_a_route(pieces):
    assert ways_around(target_of(pieces)) == []


@pytest.mark.parametrize(
    "target",
    [
        b"/admin",
        b"/admin/x",
        b"//admin",
        b"/./admin",
        b"/x/../admin",
        b"/%61dmin",
        b"/%2561dmin/../admin",
        b"/admin/",
        b"/admin?x",
        b"/admin;x",
        b"/;/admin",
        b"/admin;x/../admin/y",
        b"/..;/admin",
        b"/x/..;/admin",
        b"/%2e/admin",
        b"/x/%2e%2e/admin",
        b"/x/..%2fadmin",
        b"/x%2f../admin",
        b"/x\\..\\admin",
        b"/x%5c..%5cadmin",
        b"/admin%00",
        b"/admin%09",
        b"/../admin",
        b"/x//../admin",
        b"/a//../admin",
        b"/x/;/../admin",
        b"/%c0%ae%c0%ae/admin",
        b"/x/%252e%252e/admin",
    ],
)
def test_known_ways_around_lead_nowhere(target):
    assert not unprotected(target)


@pytest.mark.parametrize(
    "target", [b"/", b"/x", b"/adminx", b"/x/admin", b"/a", b"/.well-known/admin", b"/x;y=/admin?/admin", b"/x/../a"]
)
def test_others_are_led_on(target):
    assert leads_to(CLOSED_FIRST, target) == 2


@pytest.mark.parametrize(
    "target", [b"/x/../admin", b"/admin/../x", b"/x/../../x", b"/x;y/../admin", b"/x/..", b"/y/../x", b"/x/y/../../z"]
)
def test_what_is_open_is_no_way_to_what_is_not(target):
    assert leads_to(OPEN_FIRST, target) != 0


@pytest.mark.parametrize("target", [b"/x", b"/x/../x", b"/x/y/..", b"/x/./y", b"//x", b"/x;y"])
def test_what_is_open_stays_open(target):
    assert leads_to(OPEN_FIRST, target) == 0
