"""Which kept connection to a backend a request may take: how old it is, what the backend says, and what it was seen to do."""

import pytest
from world import World

OK = b"HTTP/1.1 200 OK\r\nDate: now\r\nContent-Length: 5\r\n\r\nhello"
GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"


@pytest.fixture
def world():
    one = World()
    yield one
    one.close()


def serve(world: World, answer: bytes = OK, request: bytes = GET) -> int:
    """One request of a new client, answered; the number of connections made to the backend so far."""
    client = world.client().send(request)
    backend = next(one for one in reversed(world.backend_connections) if one.sock.fileno() >= 0 and one.read())
    backend.send(answer)
    assert client.read().endswith(b"hello")
    client.close()
    return len(world.backend_connections)


def announcing(timeout: bytes) -> bytes:
    return OK.replace(b"Date: now", b"Keep-Alive: " + timeout)


def close_at(world: World, idle_s: float) -> None:
    """The backend closes its newest connection once it has been idle for so long."""
    world.advance(idle_s)
    world.backend().close()


@pytest.mark.parametrize(
    ("announced", "reused_at", "replaced_at"),
    [
        (b"timeout=5", 3.9, 4.0),
        (b"max=100, Timeout=10", 7.9, 8.0),
        (b'timeout="5"', 3.9, 4.0),
        (b"timeout=1", 0.7, 0.8),
    ],
)
def test_what_a_backend_announces_is_honoured(world, announced, reused_at, replaced_at):
    serve(world, announcing(announced))
    world.advance(reused_at)
    assert serve(world, announcing(announced)) == 1
    world.advance(replaced_at)
    assert serve(world) == 2


def test_a_connection_that_is_announced_to_close_at_once_is_not_kept(world):
    serve(world, announcing(b"timeout=0"))
    assert world.cluster.idle == 0


@pytest.mark.parametrize("announced", [b"", b"timeout", b"timeout=x", b"timeout=-1", b"timeout=" + b"9" * 30, b"max=5"])
def test_an_announcement_that_says_nothing_changes_nothing(world, announced):
    serve(world, announcing(announced))
    world.advance(59)
    assert serve(world) == 1


def test_a_long_announcement_does_not_outlast_the_configuration(world):
    serve(world, announcing(b"timeout=1000"))
    world.advance(61)
    assert world.cluster.idle == 0


def test_a_backend_that_closes_idle_connections_is_not_met_late_again(world):
    serve(world)
    close_at(world, 2.0)
    assert serve(world) == 2
    world.advance(1.5)
    assert serve(world) == 2
    world.advance(1.6)
    assert serve(world) == 3


def test_what_was_seen_holds_for_those_that_are_idle_already(world):
    clients = [world.client().send(GET) for _ in range(2)]
    older, younger = world.backend_connections
    older.send(OK)
    world.advance(0.5)
    younger.send(OK)
    assert all(client.read() for client in clients)
    world.advance(1.5)
    older.close()
    world.advance(0.2)  # 1.7 s: past 0.8 of 2 s
    assert world.cluster.idle == 0


def test_what_was_seen_is_believed_for_ten_minutes(world):
    serve(world)
    close_at(world, 2.0)
    world.advance(599)
    assert serve(world) == 2
    world.advance(1.7)
    assert serve(world) == 3  # put back more than 10 minutes after it was seen
    world.advance(30)
    assert serve(world) == 3


@pytest.mark.parametrize("words", [b"", b"HTTP/1.1 408 Request Timeout\r\nConnection: close\r\n\r\n"])
def test_a_close_with_words_teaches_as_well(world, words):
    serve(world)
    world.advance(2.0)
    if words:
        world.backend().send(words)
    world.backend().close()
    serve(world)
    world.advance(1.7)
    assert serve(world) == 3


def test_a_request_that_met_the_close_teaches_as_well(world):
    serve(world)
    world.advance(2.0)
    client = world.client().send(GET)
    world.backend().read()
    world.backend().close()
    world.backend().send(OK)
    assert client.read().endswith(b"hello")
    assert world.outcomes() == {"OK": 2, "STALE_REUSE": 1}
    world.advance(1.7)
    assert serve(world) == 3


def test_a_worker_that_ends_teaches_nothing(world):
    serve(world)
    close_at(world, 0.05)
    serve(world)
    world.advance(30)
    assert serve(world) == 2


def test_a_close_teaches_nothing_while_an_older_connection_is_kept(world):
    clients = [world.client().send(GET) for _ in range(2)]
    older, younger = world.backend_connections
    older.send(OK)
    world.advance(1)
    younger.send(OK)
    assert all(client.read() for client in clients)
    world.advance(1)
    younger.close()
    world.advance(30)
    assert serve(world) == 2


def test_whoever_comes_back_is_learnt_anew(world):
    serve(world)
    close_at(world, 2.0)
    world.cluster._forget_idle_timeout("a:80")
    serve(world)
    world.advance(30)
    assert serve(world) == 2


@pytest.mark.parametrize(
    ("request_bytes", "connections"),
    [
        (GET, 1),
        (b"PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nhi", 1),
        (b"PUT / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n", 1),
        (b"PUT / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 1),
        (b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n", 2),
        (b"PATCH / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nhi", 2),
        (b"PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: 70000\r\n\r\n" + b"x" * 70000, 2),
    ],
    ids=["GET", "PUT", "chunked PUT", "empty chunked PUT", "POST", "PATCH", "long PUT"],
)
def test_only_what_could_be_sent_again_takes_a_connection_that_was_idle_for_a_second(world, request_bytes, connections):
    serve(world)
    world.advance(1.0)
    assert serve(world, request=request_bytes) == connections


def test_a_chunked_body_that_is_still_coming_cannot_be_sent_again(world):
    serve(world)
    world.advance(1.0)
    world.client().send(b"PUT / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n")
    assert len(world.backend_connections) == 2
