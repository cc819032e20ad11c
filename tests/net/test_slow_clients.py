"""Clients that send or take a byte now and then: how long they may, in both directions."""

import contextlib

import pytest
from wires import SIP_BYTES
from world import World

RATE = 100
POST = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n"
CHUNKED = b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
REFUSED = b"HTTP/1.1 408 "


@pytest.fixture
def world():
    one = World(limits={"client_bytes_per_s": RATE})
    yield one
    one.close()


def drip(world: World, client, piece: bytes, every_s: float, for_s: float) -> float:
    """Send pieces until the answer comes or the time is over; how long it took."""
    for step in range(int(for_s / every_s)):
        client.send(piece)
        world.advance(every_s)
        if client.read():
            return (step + 1) * every_s
    return for_s


@pytest.mark.parametrize(("head", "piece"), [(POST, b"x"), (CHUNKED, b"1\r\nx\r\n")], ids=["length", "chunked"])
def test_a_body_that_drips_ends_in_408_though_it_never_stalls(world, head, piece):
    client = world.client().send(head)
    took_s = drip(world, client, piece, every_s=1, for_s=600)
    assert client.received.startswith(REFUSED)
    assert 30 <= took_s <= 34  # body_idle_s, and what the bytes have bought
    assert world.outcomes() == {"CLIENT_FAULT": 1}


def test_a_body_that_comes_as_slowly_as_allowed_is_taken(world):
    client = world.client().send(POST)
    drip(world, client, b"x" * RATE, every_s=1, for_s=300)
    assert client.received == b""


def test_a_body_in_bursts_is_taken(world):
    client = world.client().send(POST)
    drip(world, client, b"x" * 10_000, every_s=29, for_s=600)
    assert client.received == b""


def test_no_burst_buys_more_than_the_idle_time(world):
    client = world.client().send(POST + b"x" * 500_000)
    world.backend().read()
    world.advance(30.2)
    assert client.read().startswith(REFUSED)


def test_the_time_in_which_the_backend_does_not_take_the_body_does_not_count(world):
    client = world.client().send(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 100000000\r\n\r\n")
    flood(world, client)
    world.advance(50)
    assert client.read() == b""
    backend = world.backend()
    for _ in range(100):
        backend.read()
    world.advance(29)
    assert client.read() == b""
    world.advance(2)
    assert client.read().startswith(REFUSED)


def test_without_a_bound_a_body_may_drip():
    world = World(limits={"client_bytes_per_s": 0})
    client = world.client().send(POST)
    drip(world, client, b"x", every_s=29, for_s=600)
    assert client.received == b""
    world.close()


@pytest.mark.parametrize(("rate", "cut"), [(0, False), (50_000, True)])
def test_an_answer_that_is_sipped_is_cut_unless_there_is_no_bound(rate, cut):
    world = World(limits={"client_bytes_per_s": rate})
    client = world.client().send(GET)
    backend = world.backend()
    backend.read()
    backend.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (1 << 30))
    for _ in range(10):
        flood(world, backend)
        if not world.engine.clients:
            break
        client.sock.recv(SIP_BYTES)
        world.advance(50)
    assert (not world.engine.clients) is cut
    world.close()


def flood(world: World, peer) -> None:
    """Send as much as anybody takes."""
    with contextlib.suppress(OSError):
        while True:
            peer.sock.send(b"x" * 65536)
            world.run()
