"""Connections of HTTP/2 from their first byte to their end: idle timeouts, pings, drains, lingering."""

import pytest
from http2_client import Http2Town, block_of, frame, request
from world import World

from twisted_lb.testing import NEVER_ANSWER, Wait, response
from twisted_lb.wire.http2.errors import CANCEL, NO_ERROR
from twisted_lb.wire.http2.frames import (
    ACK,
    DATA,
    END_HEADERS,
    END_STREAM,
    GOAWAY,
    HEADERS,
    PING,
    PREFACE,
    RST_STREAM,
    SETTINGS,
)

BEGIN = PREFACE + frame(SETTINGS, 0, 0)
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
STREAM = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


def frames(data):
    """What was heard: (kind, flags, stream, payload)."""
    heard = []
    while len(data) >= 9:
        size = 9 + int.from_bytes(data[:3], "big")
        heard.append((data[3], data[4], int.from_bytes(data[5:9], "big"), data[9:size]))
        data = data[size:]
    return heard


def goaways(peer):
    return [
        (int.from_bytes(one[3][:4], "big"), int.from_bytes(one[3][4:8], "big"))
        for one in frames(peer.received)
        if one[0] == GOAWAY
    ]


def world_of(**options):
    world = World(**options)
    world.engine.http2 = True
    return world


def begun(world, *more):
    """Somebody who has begun to speak HTTP/2, over a real transport."""
    peer = world.come()
    peer.send(BEGIN + b"".join(more))
    peer.read()
    return peer


def gone(world):
    return not world.engine.clients and not world.engine.gate.open


# Before there is a request.


@pytest.mark.parametrize("said", [b"", PREFACE[:10], BEGIN, BEGIN + frame(PING, 0, 0, bytes(8))])
def test_who_asks_nothing_at_first_has_its_time(said):
    world = world_of(first_byte_s=4, head_s=20, client_idle_s=100, handshake_s=3)
    peer = world.come()
    if said:
        peer.send(said)
    world.advance(8)
    peer.read()
    assert goaways(peer) == ([(0, NO_ERROR)] if said.startswith(PREFACE) else [])
    world.advance(3)
    assert gone(world)
    world.close()


def test_who_pings_and_asks_nothing_does_not_stay_longer():
    town = Http2Town(listener={"timeouts": {"first_byte_s": 4}})
    client = town.raw()
    for _ in range(10):
        client.send(frame(PING, 0, 0, bytes(8)))
        town.clock.advance(0.5)
    client.take()
    assert client.goaway == (NO_ERROR, "nothing was asked for")


# Between requests.


def test_an_idle_connection_is_let_go_in_order_and_its_client_has_time_to_close():
    world = world_of(client_idle_s=5)
    peer = begun(world, request(1))
    world.backend().send(OK)
    peer.read()
    world.advance(4)
    peer.read()
    assert goaways(peer) == []
    world.advance(2)
    peer.read()
    assert (goaways(peer), peer.closed, len(world.engine.clients)) == ([(1, NO_ERROR)], True, 1)
    peer.close()
    assert gone(world)
    world.close()


def test_who_does_not_close_what_is_over_is_closed():
    """Lingering ends: what still comes is thrown away, and not for ever."""
    world = world_of(client_idle_s=5)
    peer = begun(world, request(1))
    world.backend().send(OK)
    world.advance(6)
    peer.send(request(3))
    assert len(world.engine.clients) == 1
    world.advance(3)
    assert gone(world)
    assert len(world.backend_connections) == 1, "nothing of it was asked"
    world.close()


def test_who_breaks_the_protocol_and_stays_is_closed_too():
    world = world_of()
    peer = begun(world, frame(HEADERS, END_HEADERS | END_STREAM, 1, b"\x80"))
    assert goaways(peer) == [(0, 9)]
    for _ in range(3):
        peer.send(frame(HEADERS, END_HEADERS, 1, block_of())[:-20])
        world.advance(0.5)
    world.advance(1)
    assert gone(world)
    world.close()


def test_requests_one_after_the_other_keep_it_for_as_long_as_they_come():
    town = Http2Town(listener={"timeouts": {"client_idle_s": 5}})
    client = town.raw()
    for number in range(20):
        client.send(request(2 * number + 1))
        town.clock.advance(4)
    client.take()
    assert client.goaway is None
    town.clock.advance(2)
    client.take()
    assert client.goaway == (NO_ERROR, "nothing was asked for")


# While streams run.


def pings(client):
    return [one for one in client.heard if one[0] == PING and not one[1] & ACK]


def test_who_listens_to_a_stream_and_says_nothing_is_asked_and_stays():
    ticks = [step for _ in range(200) for step in (b"1\r\nx\r\n", Wait(3.0))]
    town = Http2Town([STREAM, *ticks], listener={"timeouts": {"client_idle_s": 20}})
    client = town.raw()
    client.send(request(1))
    for _ in range(500):
        town.clock.advance(1)
        client.take()
        if len(pings(client)) > client.pinged:
            client.pinged += 1
            client.send(frame(PING, ACK, 0, pings(client)[-1][3]))
    assert (client.goaway, client.open, client.resets()) == (None, True, {})
    assert 20 < len(pings(client)) < 26, "about one in twenty seconds"
    assert town.connections[0]._glitches.count <= 1


def test_who_is_gone_without_a_word_is_asked_three_times_and_its_work_is_cancelled():
    town = Http2Town(
        *[[NEVER_ANSWER]] * 3, listener={"timeouts": {"client_idle_s": 20}}, timeouts={"response_head_s": 3600}
    )
    client = town.raw()
    client.send(request(1), request(3), request(5))
    assert town.frontend.exchanges == 3
    town.clock.advance(19)
    client.take()
    assert pings(client) == []
    town.clock.advance(27)
    client.take()
    assert (len(pings(client)), town.frontend.exchanges) == (3, 3)
    town.clock.advance(5)
    assert (town.frontend.exchanges, len(town.frontend.clients)) == (0, 0)
    assert {(one.ended_by.name, one.detail) for one in town.balanced.records} == {
        ("CLIENT_GONE", "it does not answer to pings")
    }
    assert not any(connection.open for connection in town.backend.connections)


def test_whatever_a_client_says_is_an_answer():
    town = Http2Town(
        *[[NEVER_ANSWER]] * 30, listener={"timeouts": {"client_idle_s": 20}}, timeouts={"response_head_s": 3600}
    )
    client = town.raw()
    for number in range(20):
        client.send(request(2 * number + 1))
        town.clock.advance(45)
    assert town.frontend.exchanges == 20


def test_who_has_closed_its_side_cannot_answer_and_is_not_asked():
    world = world_of(
        listeners={
            "default": {"address": "127.0.0.1:0", "client_half_close": "finish", "timeouts": {"client_idle_s": 5}}
        }
    )
    peer = begun(world, request(1))
    peer.shut()
    world.advance(50)
    assert world.engine.exchanges == 1
    world.backend().send(OK)
    peer.read()
    heard = [one[:3] for one in frames(peer.received) if one[0] in (HEADERS, DATA, PING)]
    assert heard[0] == (HEADERS, END_HEADERS, 1)
    assert peer.closed
    assert gone(world)
    world.close()


def test_what_a_client_has_not_said_to_its_end_is_over_with_its_side():
    world = world_of(listeners={"default": {"address": "127.0.0.1:0", "client_half_close": "finish"}})
    post = frame(HEADERS, END_HEADERS, 3, block_of("POST"))
    peer = begun(world, request(1), post, frame(DATA, 0, 3, b"a part"))
    assert world.engine.exchanges == 2
    peer.shut()
    assert world.engine.exchanges == 1
    world.backend(0).send(OK)
    peer.read()
    assert {one[2] for one in frames(peer.received) if one[0] == HEADERS} == {1}
    assert gone(world)
    world.close()


def test_who_closes_its_side_has_left_by_default():
    world = world_of()
    peer = begun(world, request(1))
    peer.shut()
    assert world.engine.exchanges == 0
    assert gone(world)
    world.close()


# Bounds of a connection's life.


def test_age_ends_a_connection_with_the_next_request():
    town = Http2Town(listener={"client_max_age_s": 100})
    client = town.raw()
    client.send(request(1))
    for number in range(1, 4):
        town.clock.advance(40)
        client.send(request(2 * number + 1))
    assert client.goaway == (NO_ERROR, "")
    town.clock.advance(1)
    client.take()
    assert [int.from_bytes(one[:4], "big") for one in client.of(GOAWAY)] == [2**31 - 1, 7]
    assert not client.open


def test_room_for_others_is_made_by_who_is_idle_and_not_by_who_runs():
    town = Http2Town([response()], [Wait(500.0), response()])
    idle, busy = town.raw(), town.raw()
    idle.send(request(1))
    busy.send(request(1))
    town.clock.advance(2)
    assert town.frontend.make_room()
    idle.take()
    assert (idle.goaway, idle.open, busy.open) == ((NO_ERROR, ""), False, True)
    town.clock.advance(1)
    assert not town.frontend.make_room()


def test_who_comes_while_the_frontend_drains_is_served_and_let_go():
    town = Http2Town()
    town.frontend.draining = True
    town.frontend.drain()
    client = town.raw()
    client.send(request(1))
    assert client.of(HEADERS, 1)
    town.clock.advance(1)
    client.take()
    assert [int.from_bytes(one[:4], "big") for one in client.of(GOAWAY)] == [2**31 - 1, 1]
    assert not client.open


def test_who_comes_while_the_frontend_drains_and_asks_nothing_is_let_go_soon():
    town = Http2Town()
    town.frontend.draining = True
    client = town.raw()
    town.clock.advance(1)
    client.take()
    assert not client.open
    assert not town.frontend.clients


def test_the_end_of_a_drain_tells_who_is_left():
    town = Http2Town(*[[NEVER_ANSWER]] * 2)
    client = town.raw()
    client.send(request(1), request(3))
    town.frontend.draining = True
    town.frontend.drain()
    town.clock.advance(5)
    client.take()
    assert client.open
    town.frontend.kill()
    client.take()
    assert b"503" in client.of(HEADERS, 1)[0]
    assert b"503" in client.of(HEADERS, 3)[0]
    assert not client.open
    assert {one.ended_by.name for one in town.balanced.records} == {"CANCELLED"}
    assert (town.frontend.exchanges, len(town.frontend.clients)) == (0, 0)


def test_what_had_begun_is_cut_visibly_at_the_end_of_a_drain():
    town = Http2Town([STREAM, b"1\r\nx\r\n", NEVER_ANSWER])
    client = town.raw()
    client.send(request(1))
    town.frontend.kill()
    client.take()
    assert client.resets() == {1: 2}
    assert not [one for one in client.heard if one[2] == 1 and one[1] & END_STREAM and one[0] == DATA]
    assert not client.open


def test_a_second_goaway_comes_though_streams_run_for_long():
    town = Http2Town([Wait(100.0), response()])
    client = town.raw()
    client.send(request(1))
    town.frontend.draining = True
    town.frontend.drain()
    town.clock.advance(1)
    client.take()
    assert [int.from_bytes(one[:4], "big") for one in client.of(GOAWAY)] == [2**31 - 1, 1]
    town.clock.advance(100)
    client.take()
    assert client.of(HEADERS, 1)
    assert not client.open


def test_who_says_goaway_itself_is_served_to_the_end():
    town = Http2Town([Wait(5.0), response()])
    client = town.raw()
    client.send(request(1), frame(GOAWAY, 0, 0, bytes(8)))
    town.clock.advance(6)
    client.take()
    assert client.of(HEADERS, 1)
    assert not client.open


def test_too_many_connections_of_one_client_are_told_so():
    town = Http2Town(listener={"limits": {"connections_per_client": 2}})
    kept = [town.raw() for _ in range(2)]
    third = town.raw()
    assert third.goaway == (11, "too many connections of one client")
    third.take()
    assert not third.open
    assert len(town.frontend.clients) == 2
    kept[0].scripted.close()
    town.clock.advance(1)
    assert town.raw().goaway is None


def test_a_reset_while_a_request_waits_for_a_place_takes_it_back():
    pool = {"backends": ["b:80"], "max_in_flight": 1, "health_check": {"interval_s": 0}}
    town = Http2Town(*[[NEVER_ANSWER]] * 3, pools={"default": pool})
    client = town.raw()
    client.send(request(1), request(3), request(5))
    assert (town.frontend.exchanges, len(town.requests)) == (3, 1)
    client.send(frame(RST_STREAM, 0, 3, CANCEL.to_bytes(4, "big")))
    assert town.frontend.exchanges == 2
    client.send(frame(RST_STREAM, 0, 1, CANCEL.to_bytes(4, "big")))
    town.clock.advance(1)
    assert len(town.requests) == 2
