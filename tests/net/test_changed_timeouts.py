"""Timeouts that are changed under load: who waits already waits as it was told, everybody else by the new ones."""

import pytest
from world import World

GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
POST = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nDate: now\r\nContent-Length: 5\r\n\r\nhello"


@pytest.fixture
def world():
    one = World()
    yield one
    one.close()


def ends_after(world: World, client, most_s: int) -> int:
    """The whole seconds that pass until the client hears something, or the end."""
    for passed in range(most_s):
        if client.read() or client.closed:
            return passed
        world.advance(1)
    return most_s


def start_of(what: bytes):
    return lambda world: world.client().send(what)


def kept(world: World):
    """A client that waits for nothing, behind an answer."""
    client = world.client().send(GET)
    world.backend().read()
    world.backend().send(OK)
    client.read()
    return client


@pytest.mark.parametrize(
    ("begin", "timeout", "before_s"),
    [
        (start_of(b"GET /"), "head_s", 10),
        (start_of(POST + b"x"), "body_idle_s", 30),
        (start_of(GET), "response_head_s", 60),
        (lambda world: world.client(), "first_byte_s", 10),
        (kept, "client_idle_s", 75),
    ],
    ids=["head", "body", "answer", "first byte", "idle"],
)
@pytest.mark.parametrize("after_s", [3, 200])
def test_a_change_is_for_those_who_come_after_it(world, begin, timeout, before_s, after_s):
    before = begin(world)
    world.set_timeouts(**{timeout: after_s})
    after = begin(world)
    world.advance(1)
    first, second = (before, after) if before_s < after_s else (after, before)
    assert ends_after(world, first, 300) in range(min(before_s, after_s) - 1, min(before_s, after_s) + 2)
    assert second.read() == b""
    assert not second.closed
    world.advance(abs(before_s - after_s) + 1)
    assert second.read() or second.closed


def test_a_connection_waits_by_the_new_ones_from_its_next_request_on(world):
    client = world.client().send(GET)
    world.set_timeouts(client_idle_s=5)
    world.backend().send(OK)
    assert client.read()
    assert ends_after(world, client, 100) in (5, 6)
    assert client.closed


def test_a_connect_and_an_answer_that_run_keep_theirs(world):
    world.dial.hang.add("a:80")
    client = world.client().send(GET)
    world.set_timeouts(connect_s=50, response_head_s=1)
    assert ends_after(world, client, 100) in (5, 6)
    assert client.received.startswith(b"HTTP/1.1 504 ")
