"""Switched protocols: offered, agreed, then just bytes, both ways, until both have said everything."""

import contextlib
import socket

import pytest
from wires import SIP_BYTES
from world import World

OFFER = (
    b"GET /chat HTTP/1.1\r\nHost: x\r\nConnection: keep-alive, Upgrade\r\nUpgrade: WebSocket\r\n"
    b"Sec-WebSocket-Key: k\r\n\r\n"
)
SWITCH = (
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: a\r\n\r\n"
)
OK = b"HTTP/1.1 200 OK\r\nDate: now\r\nContent-Length: 5\r\n\r\nhello"


@pytest.fixture(params=["engine", "fallback", "tls"])
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


def plain_tunnel(world: World):
    """A tunnel whose bytes nobody looks at."""
    client = world.client().send(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: upgrade\r\nUpgrade: chess\r\n\r\n")
    backend = world.backend()
    backend.read()
    backend.send(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: chess\r\nConnection: Upgrade\r\n\r\n")
    client.read()
    client.received = b""
    return client, backend


def test_a_backend_that_resets_has_cut_it_short_and_the_client_sees_that(make):
    records = []
    world = make(observers=(records.append,))
    client, backend = tunnel(world)
    backend.send(b"\x82\x04half")
    backend.reset()
    got = client.read()
    while not client.was_reset:
        world.advance(0.3)
        got += client.read()
    assert got == b"\x82\x04half"
    assert not client.closed
    (record,) = records
    assert (record.outcome.name, record.detail) == ("CUT_SHORT", "the backend reset the connection")
    assert (world.plane.tunnels, world.record[0].in_flight) == (0, 0)
    assert world.record[0].usable, "one of them takes nobody out"


def test_a_backend_that_resets_behind_its_close_frame_has_cut_nothing(make):
    records = []
    world = make(observers=(records.append,))
    client, backend = tunnel(world)
    backend.send(HELLO + b"\x88\x02\x03\xe8")
    backend.reset()
    assert client.read() == HELLO + b"\x88\x02\x03\xe8"
    assert (client.closed, client.was_reset) == (True, False)
    assert [(record.outcome.name, record.detail) for record in records] == [("OK", "")]


def test_a_process_that_ends_does_not_wait_for_who_is_sent_the_rest(make):
    world = make(upgrades=["chess"])
    client, backend = plain_tunnel(world)
    while world.run() or offered(backend):
        pass
    backend.reset()
    while world.plane.tunnels:
        with contextlib.suppress(BlockingIOError):
            client.sip(SIP_BYTES)
        world.run()
    assert len(world.engine.clients) == 1
    world.engine.kill()
    world.run()
    assert len(world.engine.clients) == 0


def offered(peer) -> int:
    """Send what the kernel takes."""
    try:
        return peer.offer(b"x" * 65536)
    except BlockingIOError:
        return 0


def test_a_client_that_does_not_take_what_it_is_sent_is_cut_and_the_tunnel_is_over(make):
    records = []
    world = make(upgrades=["chess"], observers=(records.append,), response_idle_s=20)
    _, backend = plain_tunnel(world)
    while world.run() or offered(backend):
        pass
    world.advance(45)
    (record,) = records
    assert (record.outcome.name, record.detail) == ("CLIENT_GONE", "it does not take its answer")
    assert record.response_bytes > 100_000
    assert (world.plane.tunnels, world.plane.exchanges, world.record[0].in_flight) == (0, 0, 0)
    backend.read()
    assert backend.was_reset


def test_one_that_has_said_all_waits_less_long_for_the_other(make):
    records = []
    world = make(half_open_s=30, tunnel_idle_s=100, observers=(records.append,))
    client, backend = tunnel(world)
    client.send(b"\x81\x80mask").shut()
    world.advance(29)
    assert world.plane.tunnels == 1
    world.advance(1.5)
    (record,) = records
    assert (record.outcome.name, record.detail) == ("OK", "nothing was said for 30 s after the FIN of the client")
    backend.read()
    assert (backend.closed, backend.was_reset) == (True, False)
    client.read()
    assert client.was_reset


@pytest.mark.parametrize("who", ["client", "backend"])
def test_a_reset_of_one_side_ends_the_other(make, who):
    world = make()
    client, backend = tunnel(world)
    gone, other = (client, backend) if who == "client" else (backend, client)
    gone.reset()
    other.read()
    while not other.was_reset:  # what it was sent may still be to be acknowledged
        world.advance(0.2)
        other.read()
    assert not other.closed
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
            sent += source.offer(piece[sent % len(piece) :])
        except BlockingIOError:
            if not world.run():
                break
    assert sent < 1 << 26, "everything was taken for a side that reads nothing"
    got = b""
    while len(got) < sent:
        more = sink.read()
        source.read()  # what it has not got rid of yet goes out
        assert more
        got += more
    assert got == (piece * (sent // len(piece) + 1))[:sent]


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


# The end of the process.

HELLO = b"\x81\x05hello"
WE_LEAVE = b"\x88\x02\x03\xe9"  # 1001, going away


def unmasked(frame: bytes) -> bytes:
    """A client's close frame as a server would write it."""
    assert frame[:2] == b"\x88\x82", frame
    return b"\x88\x02" + bytes(one ^ frame[2 + i] for i, one in enumerate(frame[6:]))


def stopped(world: World, most_s: float = 8.0):
    """A stop that has come to where it says good-bye."""
    done = world.plane.drain(most_s)
    world.advance(most_s - 0.9)
    return done


def test_shortly_before_the_end_of_a_stop_both_sides_are_told(make):
    world = make()
    client, backend = tunnel(world)
    backend.send(HELLO)
    assert client.read() == HELLO
    stopped(world)
    assert client.read() == WE_LEAVE
    assert unmasked(backend.read()) == WE_LEAVE
    assert not client.closed


def test_a_client_that_says_good_bye_too_ends_the_stop(make):
    records = []
    world = make(observers=(records.append,))
    client, backend = tunnel(world)
    done = stopped(world)
    client.read()
    client.send(b"\x88\x82mask" + bytes(a ^ b for a, b in zip(b"\x03\xe9", b"ma", strict=True)))
    world.advance(0.1)
    client.read()
    assert client.closed
    assert not client.was_reset
    backend.read()
    assert backend.closed
    assert done.called
    assert [record.outcome.name for record in records] == ["CANCELLED"]


def test_after_good_bye_nothing_else_is_sent(make):
    world = make()
    client, backend = tunnel(world)
    stopped(world)
    client.read()
    backend.read()
    backend.send(HELLO)
    client.send(b"\x81\x82mask..")
    assert (client.read(), backend.read()) == (b"", b"")


def test_a_frame_that_is_half_written_is_finished_first(make):
    world = make()
    client, backend = tunnel(world)
    backend.send(HELLO[:4])
    stopped(world)
    assert client.read() == HELLO[:4]
    backend.send(HELLO[4:] + HELLO)
    assert client.read() == HELLO[4:] + WE_LEAVE


def test_a_frame_that_stays_half_written_is_cut_without_a_word(make):
    world = make()
    client, backend = tunnel(world)
    backend.send(HELLO[:4])
    stopped(world)
    world.advance(2)
    world.engine.kill()
    assert client.read() == HELLO[:4]
    assert client.closed or client.was_reset


def test_a_side_that_was_told_good_bye_already_is_not_told_again(make):
    world = make()
    client, backend = tunnel(world)
    backend.send(b"\x88\x02\x03\xe8")
    stopped(world)
    assert client.read() == b"\x88\x02\x03\xe8"
    assert unmasked(backend.read()) == WE_LEAVE


def test_in_a_hurry_they_are_told_too(make):
    world = make()
    client, _ = tunnel(world)
    world.plane.drain(8)
    world.plane.hurry()
    world.engine.kill()
    assert client.read() == WE_LEAVE
    assert client.closed
    assert not client.was_reset


def test_what_is_not_a_websocket_is_cut_without_a_word(make):
    world = make(upgrades=["chess"])
    client, _ = plain_tunnel(world)
    stopped(world)
    world.advance(2)
    world.engine.kill()
    assert client.read() == b""
    assert client.closed or client.was_reset


def test_tunnels_are_counted_while_they_last(make):
    world = make()
    assert world.plane.tunnels == 0
    client, _ = tunnel(world)
    assert world.plane.tunnels == 1
    client.reset()
    assert (world.plane.tunnels, world.plane.exchanges) == (0, 0)


def test_a_tunnel_that_is_cut_is_our_doing_and_not_the_clients(make):
    records = []
    world = make(observers=(records.append,))
    client, backend = tunnel(world)
    client.send(b"12345")
    backend.send(b"123")
    world.plane.drain(0)
    world.engine.kill()
    assert [(one.status, one.outcome.name) for one in records] == [(101, "CANCELLED")]
    assert (records[0].request_bytes, records[0].response_bytes) == (5, 3)
    assert world.plane.tunnels == 0


# TLS: an end without close_notify may be anybody's.


def test_a_client_that_ends_tls_without_a_word_is_gone_and_its_backend_sees_that():
    records = []
    world = World(side="tls", observers=(records.append,))
    client, backend = tunnel(world)
    client.send(b"\x82\x84maskhalf")
    client.sock.shutdown(socket.SHUT_WR)
    got = backend.read()
    while not backend.was_reset:
        world.advance(0.3)
        got += backend.read()
    assert (got, backend.closed) == (b"\x82\x84maskhalf", False)
    assert [record.outcome.name for record in records] == ["CLIENT_GONE"]
    world.close()


def test_behind_a_close_frame_that_is_an_end_like_any_other():
    records = []
    world = World(side="tls", observers=(records.append,))
    client, backend = tunnel(world)
    good_bye = b"\x88\x82mask" + bytes(a ^ b for a, b in zip(b"\x03\xe8", b"ma", strict=True))
    client.send(good_bye)
    client.sock.shutdown(socket.SHUT_WR)
    assert (backend.read(), backend.closed) == (good_bye, True)
    backend.shut()
    client.read()
    assert [record.outcome.name for record in records] == ["OK"]
    world.close()
