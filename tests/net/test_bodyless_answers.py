"""Answers that have no body by their status or their method: what the client is told, and what becomes of the connection."""

import pytest
from world import World

OK = b"HTTP/1.1 200 OK\r\nDate: now\r\nContent-Length: 5\r\n\r\nhello"
GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
OFFER = b"GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
PUT = b"PUT / HTTP/1.1\r\nHost: x\r\nExpect: %b\r\nContent-Length: 3\r\n\r\n"


@pytest.fixture(params=["engine", "resource", "tls"])
def make(request):
    worlds = []

    def one(*names: str):
        world = World(names or ("a:80",), side=request.param)
        worlds.append(world)
        return world

    yield one
    for world in worlds:
        world.close()


@pytest.fixture
def world():
    one = World()
    yield one
    one.close()


@pytest.mark.parametrize(
    "answer",
    [
        b"204 No Content\r\nContent-Length: 4\r\n",
        b"204 No Content\r\nContent-Length: 0\r\n",
        b"204 No Content\r\nTransfer-Encoding: chunked\r\n",
        b"304 Not Modified\r\nTransfer-Encoding: chunked\r\n",
    ],
)
def test_an_answer_without_a_body_announces_none(make, answer):
    """RFC 9110 8.6 and RFC 9112 6.1: no length and no coding in a 204, and no body is framed by what a 304 says."""
    world = make()
    client = world.client().send(GET)
    world.backend().send(b"HTTP/1.1 " + answer + b"ETag: x\r\n\r\n")
    got = client.read().lower()
    assert got.startswith(b"http/1.1 " + answer[:3])
    assert got.endswith(b"\r\n\r\n")
    assert b"\r\netag: x\r\n" in got
    assert b"content-length" not in got
    assert b"transfer-encoding" not in got


def test_the_length_of_a_304_is_that_of_the_answer_that_was_not_sent(make):
    world = make()
    client = world.client().send(GET)
    world.backend().send(b"HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n")
    assert b"content-length: 9\r\n" in client.read().lower()
    client.send(GET)
    assert len(world.backend_connections) == 1


@pytest.mark.parametrize(
    ("answer", "kept"),
    [
        (b"HTTP/1.1 204 No Content\r\n", True),
        (b"HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n", True),
        (b"HTTP/1.1 204 No Content\r\nContent-Length: 4\r\n", False),
        (b"HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n", False),
        (b"HTTP/1.1 304 Not Modified\r\nTransfer-Encoding: chunked\r\n", False),
    ],
)
def test_a_body_that_may_not_be_there_is_not_waited_for_on_a_connection_that_is_kept(make, answer, kept):
    """What such a backend sends next may be that body: it must not be taken for the answer to another request."""
    world = make()
    client = world.client().send(GET)
    first = world.backend()
    first.read()
    first.send(answer + b"\r\n")
    client.read()
    client.send(GET)
    assert (len(world.backend_connections) == 1) is kept
    if not kept:
        first.read()
        assert first.closed


@pytest.mark.parametrize("line", [b"Content-Length: 4", b"Transfer-Encoding: chunked"])
def test_an_interim_answer_with_framing_loses_it_and_its_connection(world, line):
    client = world.client().send(GET)
    first = world.backend()
    first.read()
    first.send(b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n" + line + b"\r\n\r\n" + OK)
    assert client.read() == b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n" + OK
    first.read()
    assert first.closed


def test_a_switch_of_protocols_has_no_length(world):
    client = world.client().send(OFFER)
    world.backend().send(
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nContent-Length: 0\r\nConnection: Upgrade\r\n\r\n"
    )
    assert client.read() == b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"


# Expectations. A backend that answers one with a final status may read the body, or take it for the next request.


@pytest.mark.parametrize("expectation", [b"100-continue", b"100-Continue", b"100-continue, x", b"x"])
def test_an_expectation_that_got_its_final_answer_first_ends_the_connection_to_the_backend(make, expectation):
    world = make()
    client = world.client().send(PUT % expectation + b"abc")
    first = world.backend()
    assert first.read().endswith(b"abc")
    first.send(b"HTTP/1.1 401 Unauthorized\r\nDate: d\r\nContent-Length: 0\r\n\r\n")
    assert b" 401 " in client.read()
    first.read()
    assert first.closed


def test_an_expectation_that_was_met_keeps_the_connections(world):
    client = world.client().send(PUT % b"100-continue" + b"abc")
    first = world.backend()
    first.read()
    first.send(b"HTTP/1.1 100 Continue\r\n\r\n" + OK)
    assert client.read().endswith(b"hello")
    client.send(GET)
    assert len(world.backend_connections) == 1


def test_a_client_that_was_kept_waiting_for_its_100_has_all_its_time_for_the_body(world):
    client = world.client().send(PUT % b"100-continue")
    world.backend().read()
    world.advance(29)
    world.backend().send(b"HTTP/1.1 100 Continue\r\n\r\n")
    world.advance(29)
    client.send(b"abc")
    world.backend().send(OK)
    assert client.read() == b"HTTP/1.1 100 Continue\r\n\r\n" + OK


def test_a_client_that_expects_and_sends_nothing_is_at_fault(world):
    client = world.client().send(PUT % b"100-continue")
    world.advance(31)
    assert client.read().startswith(b"HTTP/1.1 408 ")
    assert world.outcomes() == {"CLIENT_FAULT": 1}


@pytest.mark.parametrize("lines", [b"Expect: 100-continue\r\nExpect:\r\n", b"Expect:\r\nexpect: 100-continue\r\n"])
def test_no_expectation_of_http_1_0_goes_further_on_however_many_lines(make, lines):
    world = make()
    world.client().send(b"POST / HTTP/1.0\r\nHost: x\r\n" + lines + b"Content-Length: 1\r\n\r\na")
    assert b"xpect" not in world.backend().read()
