"""Clients that ask and do not read: what is held for one is bounded, whatever it asks (pipelining), and it is cut in the end."""

import contextlib

import pytest
from wires import SIP_BYTES
from world import Peer, World

from twisted_lb.net.transport import HIGH_WATER_BYTES, RECEIVE_BYTES
from twisted_lb.wire.chunked import chunk, last_chunk

GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
CHUNKED = b"HTTP/1.1 200 OK\r\nDate: d\r\nTransfer-Encoding: chunked\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nDate: d\r\nContent-Length: 5\r\n\r\nhello"
LONG = b"HTTP/1.1 200 OK\r\nDate: d\r\nContent-Length: %d\r\n\r\n" % (1 << 30)
# Above the mark by one receive, heads and the framing of chunks included.
MOST_HELD = HIGH_WATER_BYTES + RECEIVE_BYTES + 4096
AHEAD = 65536 + RECEIVE_BYTES


@pytest.fixture(params=["engine", "fallback", "tls"])
def world(request):
    one = World(side=request.param)
    yield one
    one.close()


def held(world: World) -> int:
    """Bytes that the kernel has not taken, for all clients."""
    return sum(client.transport.unsent for client in world.engine.clients)


def flood(world: World, peer: Peer) -> int:
    """Let it send as much as anybody takes; the most that was held for clients meanwhile."""
    most = 0
    with contextlib.suppress(OSError):
        while True:
            peer.offer(b"x" * 65536)
            world.run()
            most = max(most, held(world))
    return most


def answer_over_the_mark(world: World, backend: Peer) -> None:
    """Send an answer that is complete in the very moment in which more is held for the client than the mark allows."""
    assert backend.read().startswith(b"GET / ")
    backend.send(CHUNKED)
    while held(world) <= HIGH_WATER_BYTES - 8192:
        backend.send(chunk(b"x" * 8000))
    backend.send(chunk(b"x" * 8192) + last_chunk(b""))
    assert held(world) > HIGH_WATER_BYTES


def test_what_is_held_is_bounded_when_a_second_answer_follows_one_that_is_not_taken(world):
    world.client().send(GET * 2)
    backend = world.backend()
    answer_over_the_mark(world, backend)
    if backend.read():
        backend.send(LONG)
        assert flood(world, backend) <= MOST_HELD
    assert held(world) <= MOST_HELD


def test_the_second_request_is_not_begun_before_the_client_has_taken_the_first_answer(world):
    client = world.client().send(GET * 2)
    backend = world.backend()
    answer_over_the_mark(world, backend)
    assert backend.read() == b""
    assert client.read().endswith(b"\r\n0\r\n\r\n")
    assert backend.read().startswith(b"GET / ")
    backend.send(OK)
    assert client.read() == OK


def test_many_answers_hold_no_more_than_one_large_one(world):
    world.client().send(GET * 2000)
    backend = world.backend()
    answer = OK[:-6].replace(b"5\r\n", b"16000\r\n") + b"\n" + b"x" * 16000
    while backend.read():
        backend.send(answer)
        assert held(world) <= MOST_HELD
    assert held(world) > HIGH_WATER_BYTES


def test_many_answers_of_our_own_hold_no_more(world):
    world.dial.refuse.add("a:80")
    client = world.client()
    for _ in range(200):
        with contextlib.suppress(BlockingIOError):
            client.offer(GET * 2000)
        world.run()
        assert held(world) <= MOST_HELD
    assert held(world) > HIGH_WATER_BYTES
    world.advance(200)
    assert not world.engine.clients


def test_all_that_was_sent_ahead_is_answered_when_the_client_reads_after_all(world):
    client = world.client().send(GET * 200)
    backend = world.backend()
    answer = b"HTTP/1.1 200 OK\r\nDate: d\r\nContent-Length: 60000\r\n\r\n" + b"x" * 60000
    while client.received.count(b"HTTP/1.1 200 OK") < 200:
        asked = backend.read()
        if asked:
            backend.send(answer * asked.count(b"GET / "))
        else:
            assert client.read(), "nobody is asked, and nothing is to be read"
    assert len(client.received) == len(answer) * 200
    assert held(world) == 0


def test_what_is_sent_ahead_meanwhile_is_bounded_too(world):
    client = world.client().send(GET * 2)
    answer_over_the_mark(world, world.backend())
    [connection] = world.engine.clients
    with contextlib.suppress(BlockingIOError):
        while True:
            client.offer(GET * 2000)
            world.run()
    assert len(connection._speaker._reader.buffer) <= AHEAD
    world.advance(200)
    assert not world.engine.clients


@pytest.mark.parametrize("ahead", [1, 2, 2000])
def test_a_client_that_never_reads_is_cut(world, ahead):
    client = world.client().send(GET * ahead)
    answer_over_the_mark(world, world.backend())
    world.advance(59)  # response_idle_s is 60 s
    assert world.engine.clients
    world.advance(125)  # the kernel may have taken some more meanwhile
    assert not world.engine.clients
    client.close()


@pytest.mark.parametrize("first", ["answer", "body"])
def test_nor_does_a_backend_that_does_not_read_either_keep_it(world, first):
    """Both wait for the other: an echo, and a client that only sends."""
    client = world.client().send(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % (1 << 30))
    backend = world.backend()
    backend.send(LONG)
    for peer in (backend, client) if first == "answer" else (client, backend):
        flood(world, peer)
    world.advance(185)
    assert not world.engine.clients


def test_nor_does_the_end_of_its_body(world):
    client = world.client().send(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n1")
    backend = world.backend()
    backend.send(LONG)
    flood(world, backend)
    client.send(b"2")
    world.advance(185)
    assert not world.engine.clients


def test_nor_does_a_body_that_it_sends_on_and_on(world):
    """Each byte of a body gives more time for the body, but not to take the response."""
    client = world.client().send(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % (1 << 30))
    backend = world.backend()
    backend.send(LONG)
    flood(world, backend)
    for _ in range(50):
        if not world.engine.clients:
            break
        client.send(b"x" * 5000)
        world.advance(5)
    assert not world.engine.clients


def test_a_client_of_a_resource_that_never_reads_is_cut():
    """twisted.web has no time limit while a request is answered."""
    world = World(side="resource")
    world.client().send(GET)
    backend = world.backend()
    backend.read()
    backend.send(LONG)
    with contextlib.suppress(BlockingIOError):
        while True:
            backend.sock.send(b"x" * 65536)
            world.run()
    world.advance(59)
    assert world.engine.clients
    world.advance(3)
    assert not world.engine.clients
    assert world.outcomes() == {"CLIENT_GONE": 1}
    world.close()


def test_a_client_of_a_resource_that_reads_now_and_then_is_not_cut():
    world = World(side="resource")
    client = world.client().send(GET)
    backend = world.backend()
    backend.read()
    backend.send(b"HTTP/1.1 200 OK\r\nContent-Length: 30000000\r\n\r\n")
    left = b"x" * 30_000_000
    while left:
        with contextlib.suppress(BlockingIOError):
            while left:
                left = left[backend.sock.send(left) :]
                world.run()
        world.advance(40)
        assert world.engine.clients or not left
        client.read()
    client.read()
    assert client.received.count(b"x") == 30_000_000
    world.close()


def test_a_client_that_takes_its_answers_is_not_cut_however_long_that_takes(world):
    client = world.client().send(GET)
    answer_over_the_mark(world, world.backend())
    for _ in range(2):
        client.sip(SIP_BYTES)
        world.advance(50)
    client.read()
    assert client.received.endswith(b"\r\n0\r\n\r\n")
    assert not client.closed


def test_a_kept_connection_whose_client_has_taken_everything_late_waits_like_any_other(world):
    client = world.client().send(GET)
    answer_over_the_mark(world, world.backend())
    world.advance(50)
    client.read()
    world.advance(74)  # client_idle_s is 75 s
    assert not client.closed
    world.advance(2)
    client.read()
    assert client.closed


def test_a_drain_gives_a_client_the_time_to_take_its_answer(world):
    client = world.client().send(GET)
    answer_over_the_mark(world, world.backend())
    drained = world.plane.drain(100)
    world.advance(30)
    assert not drained.called
    assert client.read().endswith(b"\r\n0\r\n\r\n")
    world.advance(1)
    client.read()
    assert (client.closed, drained.called) == (True, False)
    client.close()
    world.advance(3)
    assert drained.called


@pytest.mark.parametrize(("half_close", "answers"), [("finish", 3), ("abort", 1)])
def test_a_client_that_has_sent_its_fin_meanwhile_gets_what_the_configuration_says(half_close, answers):
    world = World(client_half_close=half_close)
    client = world.client().send(GET * 3)
    backend = world.backend()
    answer_over_the_mark(world, backend)
    client.shut()
    client.read()
    for _ in range(answers - 1):
        assert backend.read().startswith(b"GET / ")
        backend.send(OK)
    client.read()
    assert client.received.count(b"HTTP/1.1 200 OK") == answers
    assert client.closed
    world.close()
