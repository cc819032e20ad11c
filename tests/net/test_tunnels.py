"""Switched protocols: offered, agreed, then just bytes, both ways, until both have said everything."""

import pytest
from world import World

OFFER = (
    b"GET /chat HTTP/1.1\r\nHost: x\r\nConnection: keep-alive, Upgrade\r\nUpgrade: WebSocket\r\n"
    b"Sec-WebSocket-Key: k\r\n\r\n"
)
SWITCH = (
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: a\r\n\r\n"
)
OK = b"HTTP/1.1 200 OK\r\nDate: now\r\nContent-Length: 5\r\n\r\nhello"


@pytest.fixture(params=["engine", "fallback"])
def make(request):
    worlds = []

    def one(*names: str, **rules):
        world = World(names or ("a:80",), side=request.param, **rules)
        worlds.append(world)
        return world

    yield one
    for world in worlds:
        world.close()


def tunnel(world: World):
    """A client and a backend that have switched."""
    client = world.client().send(OFFER)
    backend = world.backend()
    backend.read()
    backend.send(SWITCH)
    client.read()
    client.received = b""
    return client, backend


def test_an_allowed_offer_reaches_the_backend_and_its_agreement_the_client(make):
    world = make()
    client = world.client().send(OFFER)
    backend = world.backend()
    request = backend.read()
    assert request.endswith(b"\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n")
    assert b"Sec-WebSocket-Key: k\r\n" in request
    backend.send(SWITCH)
    assert client.read() == (
        b"HTTP/1.1 101 Switching Protocols\r\nSec-WebSocket-Accept: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"
    )


def test_bytes_pass_both_ways_untouched(make):
    world = make()
    client, backend = tunnel(world)
    client.send(b"\x81\x00GET / HTTP/1.1\r\n\r\n")
    assert backend.read() == b"\x81\x00GET / HTTP/1.1\r\n\r\n"
    backend.send(b"\x00\xff\r\n\r\nHTTP/1.1 200")
    assert client.read() == b"\x00\xff\r\n\r\nHTTP/1.1 200"
    assert world.record[0].in_flight == 1


def test_bytes_in_the_segment_of_the_agreement_belong_to_the_tunnel(make):
    world = make()
    client = world.client().send(OFFER)
    world.backend().send(SWITCH + b"first")
    assert client.read().endswith(b"\r\n\r\nfirst")


def test_bytes_sent_ahead_are_held_for_the_tunnel(make):
    world = make()
    client = world.client().send(OFFER + b"early")
    backend = world.backend()
    assert b"early" not in backend.read()
    client.send(b" bird")
    assert backend.read() == b""
    backend.send(SWITCH)
    assert backend.read() == b"early bird"
    client.read()


def test_bytes_sent_ahead_of_a_refused_switch_are_no_requests(make):
    world = make()
    client = world.client().send(OFFER + b"GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n")
    backend = world.backend()
    backend.read()
    backend.send(OK)
    assert client.read().endswith(b"hello")
    assert client.closed
    assert backend.read() == b""
    assert world.outcomes() == {"OK": 1}


def test_a_refused_switch_is_an_ordinary_answer(make):
    world = make()
    client = world.client().send(OFFER)
    world.backend().send(OK)
    assert client.read().endswith(b"hello")
    client.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    world.backend().send(OK)
    assert client.read().endswith(b"hello")


@pytest.mark.parametrize(
    "offer",
    [
        b"GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AA\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\n\r\n",
        b"GET / HTTP/1.0\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nContent-Length: 2\r\n\r\nab",
        b"POST / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ],
    ids=["h2c", "no option", "1.0", "length", "chunked"],
)
def test_other_offers_are_removed_and_the_request_goes_on(make, offer):
    world = make()
    client = world.client().send(offer)
    request = world.backend().read().lower()
    assert b"upgrade" not in request
    assert b"http2-settings" not in request
    world.backend().send(OK)
    assert client.read().endswith(b"hello")


def test_of_several_offers_the_allowed_one_is_passed(make):
    world = make()
    world.client().send(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: upgrade\r\nUpgrade: h2c, websocket, foo\r\n\r\n")
    assert b"\r\nUpgrade: websocket\r\n" in world.backend().read()


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket, h2c\r\nConnection: Upgrade\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\n\r\n",
    ],
)
def test_a_switch_to_what_was_not_offered_is_502(make, answer):
    world = make(*["a:80"])
    client = world.client().send(OFFER)
    world.backend().send(answer)
    assert client.read().startswith(b"HTTP/1.1 502 ")
    assert world.outcomes() == {"BAD_RESPONSE": 1}


def test_either_side_may_say_its_last_word_first(make):
    world = make()
    for first, second in (("client", "backend"), ("backend", "client")):
        client, backend = tunnel(world)
        ends = {"client": client, "backend": backend}
        ends[first].shut()
        ends[second].read()
        assert ends[second].closed
        ends[second].send(b"still talking")
        assert ends[first].read() == b"still talking"
        ends[second].shut()
        ends[first].read()
        assert ends[first].closed
    assert world.outcomes() == {"OK": 2}
    assert world.record[0].in_flight == 0


@pytest.mark.parametrize("who", ["client", "backend"])
def test_a_reset_of_one_side_ends_the_other(make, who):
    world = make()
    client, backend = tunnel(world)
    gone, other = (client, backend) if who == "client" else (backend, client)
    gone.reset()
    other.read()
    assert other.closed or other.was_reset
    assert world.record[0].in_flight == 0


def test_a_silent_tunnel_ends_after_its_time_and_any_byte_keeps_it(make):
    world = make(tunnel_idle_s=100)
    client, backend = tunnel(world)
    for _ in range(3):
        world.advance(90)
        client.send(b"x")
        world.advance(90)
        backend.send(b"y")
    assert (backend.read(), client.read()) == (b"xxx", b"yyy")
    world.advance(101)
    client.read()
    backend.read()
    assert client.closed or client.was_reset
    assert backend.closed or backend.was_reset


@pytest.mark.parametrize("writer", ["client", "backend"])
def test_a_side_that_does_not_read_stops_the_other(make, writer):
    world = make()
    client, backend = tunnel(world)
    source, sink = (client, backend) if writer == "client" else (backend, client)
    sent = 0
    piece = bytes(range(256)) * 256
    while sent < 1 << 26:
        try:
            sent += source.sock.send(piece)
        except BlockingIOError:
            if not world.run():
                break
    assert sent < 1 << 26, "everything was taken for a side that reads nothing"
    got = b""
    while len(got) < sent:
        more = sink.read()
        assert more
        got += more
    assert got == (piece * (sent // len(piece) + 1))[:sent] or len(got) == sent


def test_while_draining_a_tunnel_is_killed_in_the_end(make):
    world = make()
    client, _ = tunnel(world)
    world.engine.draining = True
    for downstream in list(world.engine.clients):
        downstream.drain()
    world.advance(3)
    client.send(b"x")
    for downstream in list(world.engine.clients):
        downstream.kill()
    client.read()
    assert client.closed or client.was_reset
