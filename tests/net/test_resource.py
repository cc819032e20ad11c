"""What the twisted.web client side adds to twisted.web's own reading of a request: our grammar, as far as it can be seen."""

import pytest
from world import World

OK = b"HTTP/1.1 200 OK\r\nDate: now\r\nContent-Length: 5\r\n\r\nhello"
PLAIN = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"


@pytest.fixture
def make():
    worlds = []

    def one(**rules):
        world = World(side="resource", **rules)
        worlds.append(world)
        return world

    yield one
    for world in worlds:
        world.close()


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", b"400"),
        (b"GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", b"400"),
        (b"GET / HTTP/1.1\r\nHost: u@a\r\n\r\n", b"400"),
        (b"GET / HTTP/1.0\r\nHost: u@a\r\n\r\n", b"400"),
        (b"GET / HTTP/1.1\r\nHost: a\r\nX: \x01\r\n\r\n", b"400"),
        (b"GET http://b/ HTTP/1.1\r\nHost: a\r\n\r\n", b"400"),
        (b"GET http:///x HTTP/1.1\r\nHost: a\r\n\r\n", b"400"),
        (b"GET ftp://a/ HTTP/1.1\r\nHost: a\r\n\r\n", b"400"),
        (b"GET /#x HTTP/1.1\r\nHost: a\r\n\r\n", b"400"),
        (b"CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n", b"501"),
        (b"GET /" + b"x" * 9000 + b" HTTP/1.1\r\nHost: a\r\n\r\n", b"414"),
        (b"GET / HTTP/1.1\r\nHost: a\r\n" + b"X: y\r\n" * 200 + b"\r\n", b"431"),
        (b"POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", b"400"),
        (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: identity\r\n\r\n", b"400"),
        (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: identity\r\nContent-Length: 1\r\n\r\nx", b"400"),
        (
            b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n",
            b"400",
        ),
    ],
)
def test_what_is_not_one_request_is_refused_and_closed(make, request_bytes, status):
    world = make()
    client = world.client().send(request_bytes + PLAIN)
    answer = client.read()
    assert answer.startswith((b"HTTP/1.1 " + status + b" ", b"HTTP/1.0 " + status + b" "))
    assert answer.count(b"HTTP/1.") == 1
    assert client.closed
    assert world.backend_connections == []


def test_a_body_too_large_is_413_in_the_form_the_client_prefers_and_closed(make):
    world = make(limits={"body_bytes": 3})
    fields = b"Accept: application/json\r\nX-Request-ID: mine\r\nContent-Length: 4\r\n"
    client = world.client().send(b"POST / HTTP/1.1\r\nHost: a\r\n" + fields + b"\r\nbody" + PLAIN)
    answer = client.read()
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert answer.endswith(b'{"status": 413, "error": "Content Too Large", "request_id": "mine"}\n')
    assert client.closed
    assert world.backend_connections == []


@pytest.mark.parametrize(
    ("request_bytes", "line", "host"),
    [
        (b"GET http://a/x?y HTTP/1.1\r\nHost: a\r\n\r\n", b"GET /x?y HTTP/1.1", b"a"),
        (b"GET http://a:80/x HTTP/1.1\r\nHost: A\r\n\r\n", b"GET /x HTTP/1.1", b"A"),
        (b"GET http://outer:8/x HTTP/1.0\r\n\r\n", b"GET /x HTTP/1.1", b"outer:8"),
        (b"OPTIONS http://a HTTP/1.1\r\nHost: a\r\n\r\n", b"OPTIONS * HTTP/1.1", b"a"),
        (b"OPTIONS http://a/ HTTP/1.1\r\nHost: a\r\n\r\n", b"OPTIONS / HTTP/1.1", b"a"),
    ],
)
def test_an_absolute_target_becomes_what_the_rfc_makes_of_it(make, request_bytes, line, host):
    world = make()
    world.client().send(request_bytes)
    heard = world.backend().read()
    assert heard.startswith(line + b"\r\n")
    assert b"\r\nHost: " + host + b"\r\n" in heard


def test_an_expectation_of_http_1_0_goes_no_further(make):
    world = make()
    client = world.client().send(b"POST / HTTP/1.0\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\na")
    heard = world.backend().read()
    assert b"xpect" not in heard
    assert heard.endswith(b"\r\n\r\na")
    world.backend().send(OK)
    assert client.read().endswith(b"hello")
    assert b"100 Continue" not in client.received


def test_a_client_of_http_1_0_is_named_so_in_via(make):

    world = make(forwarding={"via": "lb"})
    world.client().send(b"GET / HTTP/1.0\r\nHost: x\r\n\r\n")
    assert b"\r\nVia: 1.0 lb\r\n" in world.backend().read()
