"""A route: what it takes, what it tells backends, and how it answers itself."""

import re

import pytest

from twisted_lb.core.flow import Flow
from twisted_lb.net.route import Lead, Route
from twisted_lb.plan import DEFAULT
from twisted_lb.wire.grammar import Limits
from twisted_lb.wire.origin import Client
from twisted_lb.wire.request import RequestFields, parse_request

CLIENT = Client(b"192.0.2.7", b"http", b"8080")


@pytest.fixture
def route_of(build):
    def one(**options) -> Route:
        return build(**options).plane.routes[DEFAULT].only

    return one


def fields(*lines: bytes) -> RequestFields:
    return parse_request(b"\r\n".join((b"GET / HTTP/1.1", b"Host: x", *lines)), Limits()).fields


def field(name: str, head) -> str | None:
    found = re.search(rf"^{name}: (.*?)\r?$", head.lines.decode(), re.MULTILINE)
    return found and found[1]


def test_a_route_says_where_it_leads(route_of):
    assert repr(route_of()) == "<Route default to default>"


@pytest.mark.parametrize(
    ("most", "size", "taken"), [(None, 1 << 40, True), (10, 10, True), (10, 11, False), (0, 0, True), (0, 1, False)]
)
def test_a_body_is_taken_up_to_the_limit(route_of, most, size, taken):
    assert route_of(limits={"body_bytes": most}).takes(size) is taken


def test_only_protocols_that_are_allowed_may_be_switched_to(route_of):
    route = route_of(upgrades=["websocket", "chess"])
    offer = fields(b"Connection: upgrade", b"Upgrade: h2c, WebSocket, chess")
    assert Lead(offer, CLIENT, route, Flow("r", "p"), may_switch=True).upgrade == b"websocket, chess"
    assert Lead(offer, CLIENT, route, Flow("r", "p"), may_switch=False).upgrade == b""
    assert Lead(fields(), CLIENT, route, Flow("r", "p"), may_switch=True).upgrade == b""


def test_a_backend_is_told_what_the_route_forwards(route_of):
    plain = Lead(fields(), CLIENT, route_of(), Flow("r", "p"), may_switch=True).upstream_head(b"Host: a\r\n")
    route = route_of(forwarding={"forwarded": True, "via": "lb"})
    telling = Lead(fields(), CLIENT, route, Flow("r", "p"), may_switch=True).upstream_head(b"Host: a\r\n")
    assert b"X-Forwarded-For: 192.0.2.7\r\n" in plain
    assert b"Forwarded: " not in plain.replace(b"X-Forwarded", b"")
    assert b"\r\nForwarded: for=192.0.2.7" in b"\r\n" + telling
    assert b"Via: 1.1 lb\r\n" in telling


def test_only_who_could_be_served_later_is_told_when_to_come_back(route_of):
    route = route_of(health_check={"interval_s": 9.0, "down_interval_s": 7.0})
    told = {status: field("Retry-After", route.local_reply(status, b"", b"")[0]) for status in (413, 502, 503, 504)}
    assert told == {413: None, 502: None, 503: "7", 504: None}


def test_an_answer_names_the_id_of_its_request_as_far_as_it_is_harmless(route_of):
    head, body = route_of().local_reply(502, b"", b'id-1"<b>')
    assert field("X-Request-ID", head) == "id-1__b_"
    assert b"id-1__b_" in body


def test_a_request_without_an_id_gets_one(route_of):
    route = route_of()
    ids = {field("X-Request-ID", route.local_reply(502, b"", b"")[0]) for _ in range(3)}
    assert len(ids) == 3
    assert all(re.fullmatch("[0-9a-f]{32}", one) for one in ids)


def test_an_answer_comes_in_the_form_that_the_client_prefers(route_of):
    head, body = route_of().local_reply(502, b"Accept: application/json\r\n", b"one")
    assert field("Content-Type", head) == "application/json; charset=utf-8"
    assert body == b'{"status": 502, "error": "Bad Gateway", "request_id": "one"}\n'
    assert head.framing == len(body)


def test_a_page_of_the_route_stands_for_the_answers_of_its_status(route_of, tmp_path):
    page = tmp_path / "sorry.html"
    page.write_text("sorry")
    route = route_of(error_pages={"502": str(page)})
    assert route.local_reply(502, b"Accept: application/json\r\n", b"")[1] == b"sorry"
    assert route.local_reply(504, b"", b"one")[1] == b"504 Gateway Timeout\nrequest one\n"
