"""WebSockets over HTTP/2 (RFC 8441): an extended CONNECT is a GET with Upgrade to a backend, and from its 101 on the stream is a tunnel."""

import base64
import hashlib

import pytest
from http2_client import HOST, Http2Town, frame

from twisted_lb.testing import response
from twisted_lb.wire.http2.errors import CANCEL, FLOW_CONTROL_ERROR, NO_ERROR, PROTOCOL_ERROR
from twisted_lb.wire.http2.frames import (
    DATA,
    ENABLE_CONNECT_PROTOCOL,
    END_HEADERS,
    END_STREAM,
    HEADERS,
    INITIAL_WINDOW_SIZE,
    RST_STREAM,
    WINDOW_UPDATE,
)
from twisted_lb.wire.http2.hpack import HpackDecoder, literal
from twisted_lb.wire.websocket import close_frame

GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


def key_of(request):
    (line,) = [line for line in request.split(b"\r\n") if line.lower().startswith(b"sec-websocket-key:")]
    return line.partition(b":")[2].strip()


def switch(request, *lines):
    """A backend that speaks WebSocket."""
    accept = base64.b64encode(hashlib.sha1(key_of(request) + GUID).digest())
    head = [b"HTTP/1.1 101 Switching Protocols", b"Upgrade: websocket", b"Connection: Upgrade"]
    return [b"\r\n".join([*head, b"Sec-WebSocket-Accept: " + accept, *lines]) + b"\r\n\r\n"]


def connect(stream, *more, protocol="websocket", ended=False, **other):
    pseudo = {":method": "CONNECT", ":protocol": protocol, ":scheme": "http", ":path": "/chat", ":authority": HOST}
    pseudo.update({f":{name}": value for name, value in other.items()})
    fields = [*pseudo.items(), ("sec-websocket-version", "13"), *more]
    block = b"".join(literal(name.encode(), value.encode()) for name, value in fields)
    return frame(HEADERS, END_HEADERS | (END_STREAM if ended else 0), stream, block)


def window(size):
    return size.to_bytes(4, "big")


def told(client, stream):
    """The fields of the answer on a stream."""
    (block,) = client.of(HEADERS, stream)
    return [(entry.name, entry.value) for entry in HpackDecoder().decode(block, 1 << 16, 100)]


def tunnel(*more, answer=switch, settings=b"", **options):
    """A town, a client with a tunnel on stream 1, and its backend."""
    town = Http2Town(**options)
    town.backend.answer = answer
    client = town.raw(settings=settings)
    client.send(connect(1, *more))
    return town, client, town.backend.connections[-1]


def data(client, stream=1):
    return b"".join(client.of(DATA, stream))


def ended(client, stream=1):
    return any(one[1] & END_STREAM for one in client.heard if one[2] == stream and one[0] in (DATA, HEADERS))


def announced(client):
    payload = client.heard[0][3]
    return {int.from_bytes(payload[at : at + 2], "big") for at in range(0, len(payload), 6)}


def test_it_is_announced_where_a_route_lets_clients_switch_and_nowhere_else():
    assert ENABLE_CONNECT_PROTOCOL in announced(Http2Town().raw())
    assert ENABLE_CONNECT_PROTOCOL not in announced(Http2Town(routes=[{"pool": "default", "upgrades": []}]).raw())
    assert ENABLE_CONNECT_PROTOCOL not in announced(
        Http2Town(routes=[{"pool": "default", "upgrades": ["other"]}]).raw()
    )
    some = [{"path_prefix": "/chat", "pool": "default"}, {"pool": "default", "upgrades": []}]
    assert ENABLE_CONNECT_PROTOCOL in announced(Http2Town(routes=some).raw())


def test_a_connect_is_a_get_with_an_upgrade_and_a_key_of_our_own():
    town, client, backend = tunnel(
        ("sec-websocket-protocol", "chat"), ("sec-websocket-key", "mine"), ("origin", "http://x")
    )
    head = backend.received
    assert head.startswith(b"GET /chat HTTP/1.1\r\nhost: www.example.com\r\n")
    assert b"\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n" in head
    assert b"\r\nsec-websocket-version: 13\r\nsec-websocket-protocol: chat\r\norigin: http://x\r\n" in head
    assert b"transfer-encoding" not in head.lower()
    assert len(base64.b64decode(key_of(head))) == 16
    assert told(client, 1)[0] == (b":status", b"200")
    assert {name for name, _ in told(client, 1)} == {b":status", b"date"}
    assert (town.frontend.tunnels, ended(client)) == (1, False)
    client.send(connect(3))
    assert key_of(town.backend.connections[-1].received) != key_of(head)


def test_what_the_backend_says_of_it_passes_but_for_what_is_of_http_1():
    _, client, _ = tunnel(answer=lambda asked: switch(asked, b"Sec-WebSocket-Protocol: chat", b"Set-Cookie: a=b"))
    assert dict(told(client, 1)) == {
        b":status": b"200",
        b"sec-websocket-protocol": b"chat",
        b"set-cookie": b"a=b",
        b"date": dict(told(client, 1))[b"date"],
    }


def test_bytes_pass_both_ways_and_the_ends_too():
    town, client, backend = tunnel()
    before = len(backend.received)
    client.send(frame(DATA, 0, 1, b"hello"), frame(DATA, 0, 1, b" "), frame(DATA, 0, 1, b"world"))
    assert backend.received[before:] == b"hello world"
    backend.transport.write(b"and back")
    client.take()
    assert data(client) == b"and back"
    client.send(frame(DATA, END_STREAM, 1, b"!"))
    assert (backend.received[before:], backend.ended) == (b"hello world!", True)
    town.clock.advance(1)
    client.take()
    assert (ended(client), client.resets(), town.frontend.tunnels) == (True, {}, 0)


def test_what_was_sent_ahead_comes_behind_the_head_and_not_in_it():
    town = Http2Town()
    town.backend.answer = switch
    client = town.raw()
    client.send(connect(1), frame(DATA, 0, 1, b"ahead"))
    backend = town.backend.connections[0]
    assert backend.received.partition(b"\r\n\r\n")[2] == b"ahead"
    client.send(frame(DATA, 0, 1, b" and on"))
    assert backend.received.endswith(b"ahead and on")


def test_the_end_of_the_backend_is_the_end_of_the_stream():
    town, client, backend = tunnel()
    backend.transport.write(b"bye")
    backend.transport.loseConnection()
    client.take()
    assert (data(client), ended(client), client.resets()) == (b"bye", True, {})
    client.send(frame(DATA, END_STREAM, 1))
    town.clock.advance(3)
    client.take()
    assert (town.frontend.exchanges, town.frontend.tunnels, len(town.frontend.clients)) == (0, 0, 1)
    assert [record.ended_by.name for record in town.balanced.records] == ["OK"]
    assert client.goaway is None
    client.send(connect(3))
    assert told(client, 3)[0] == (b":status", b"200"), "the connection goes on"


def test_a_backend_that_is_reset_resets_the_stream_behind_what_it_said():
    town, client, backend = tunnel()
    backend.transport.write(b"half a fr")
    client.take()
    backend.transport.abortConnection()
    town.clock.advance(3)
    client.take()
    assert (data(client), ended(client), client.resets()) == (b"half a fr", False, {1: CANCEL})
    assert [record.ended_by.name for record in town.balanced.records] == ["CUT_SHORT"]
    assert town.connections[0]._glitches.count <= 1, "that is not the client's doing"


def test_a_client_that_resets_the_stream_cuts_its_backend():
    town, client, backend = tunnel()
    client.send(frame(RST_STREAM, 0, 1, window(CANCEL)))
    town.clock.advance(1)
    assert not backend.open
    assert (town.frontend.exchanges, town.frontend.tunnels, len(town.frontend.clients)) == (0, 0, 1)
    assert [record.ended_by.name for record in town.balanced.records] == ["CLIENT_GONE"]


def test_a_client_that_leaves_cuts_all_its_tunnels():
    town, client, backend = tunnel()
    client.send(connect(3))
    client.scripted.reset()
    town.clock.advance(1)
    assert not any(one.open for one in town.backend.connections)
    assert (town.frontend.exchanges, town.frontend.tunnels, len(town.frontend.clients)) == (0, 0, 0)
    assert backend is town.backend.connections[0]


# Who may, and what is refused.


@pytest.mark.parametrize(
    ("asked", "status"),
    [
        (connect(1, protocol="connect-udp"), b"501"),
        (connect(1, protocol="WebSocket"), b"501"),
    ],
)
def test_another_protocol_is_not_offered(asked, status):
    town = Http2Town()
    client = town.raw()
    client.send(asked)
    assert dict(told(client, 1))[b":status"] == status
    assert town.requests == []


def test_a_route_that_lets_nobody_switch_refuses():
    town = Http2Town(
        routes=[{"path_prefix": "/chat", "pool": "default", "upgrades": []}, {"path": "/other", "pool": "default"}]
    )
    client = town.raw()
    client.send(connect(1))
    assert dict(told(client, 1))[b":status"] == b"501"
    assert town.requests == []
    assert [record.detail for record in town.balanced.records] == [
        "its route lets nobody switch to WebSocket (upgrades)"
    ]


@pytest.mark.parametrize(
    "asked",
    [connect(1, ended=True), connect(1, ("content-length", "0")), connect(1, path=""), connect(1, method="GET")],
)
def test_a_malformed_one_is_reset(asked):
    town = Http2Town()
    client = town.raw()
    client.send(asked)
    assert client.resets() == {1: PROTOCOL_ERROR}
    assert town.requests == []


def test_a_refusal_of_the_backend_passes():
    town, client, _ = tunnel(answer=lambda _: [response(b"no", 403)])
    client.send(frame(DATA, 0, 1, b"sent ahead"))
    assert dict(told(client, 1))[b":status"] == b"403"
    assert (data(client), ended(client)) == (b"no", True)
    town.clock.advance(3)
    client.take()
    assert (client.resets(), client.goaway) == ({1: NO_ERROR}, None)
    assert not [one for one in town.backend.connections if b"sent ahead" in one.received]


def test_a_page_in_place_of_a_switch_is_no_success():
    """A 200 would be a tunnel to whoever has asked for one."""
    town, client, _ = tunnel(answer=lambda _: [response(b"<html>")])
    assert dict(told(client, 1))[b":status"] == b"502"
    assert (data(client), ended(client)) == (b"", True)
    assert [record.status for record in town.balanced.records] == [502]


@pytest.mark.parametrize("lines", [(), (b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=",)])
def test_a_switch_that_does_not_answer_our_key_is_a_bad_response(lines):
    head = [b"HTTP/1.1 101 Switching Protocols", b"Upgrade: websocket", b"Connection: Upgrade", *lines]
    town, client, _ = tunnel(answer=lambda _: [b"\r\n".join(head) + b"\r\n\r\n"])
    assert dict(told(client, 1))[b":status"] == b"502"
    assert [record.ended_by.name for record in town.balanced.records] == ["BAD_RESPONSE"]
    assert town.frontend.tunnels == 0


# Back-pressure, and time.


def test_what_the_client_does_not_take_is_not_read_from_the_backend():
    town, client, backend = tunnel(settings=INITIAL_WINDOW_SIZE.to_bytes(2, "big") + window(1000))
    backend.transport.write(bytes(1_000_000))
    client.take()
    assert len(data(client)) == 1000
    assert town.connections[0]._kept < 200_000
    assert backend.transport.unsent > 500_000
    for _ in range(100):
        client.send(frame(WINDOW_UPDATE, 0, 1, window(10_000)), frame(WINDOW_UPDATE, 0, 0, window(10_000)))
    assert len(data(client)) == 1_000_000
    assert client.goaway is None


def test_what_the_backend_does_not_take_is_not_credited():
    town, client, backend = tunnel()
    backend.transport.pauseProducing()
    sent = 0
    while sent < 2_000_000:
        stream = town.connections[0]._streams[1]
        if stream._credit + 16_000 > 65_536:
            break
        client.send(frame(DATA, 0, 1, bytes(16_000)))
        sent += 16_000
    assert 100_000 < sent < 500_000
    backend.transport.resumeProducing()
    client.take()
    assert len(backend.received.partition(b"\r\n\r\n")[2]) == sent
    assert town.connections[0]._streams[1]._credit < 40_000, "and then it may go on"


def test_more_than_the_window_cuts_the_tunnel():
    town, client, backend = tunnel()
    backend.transport.pauseProducing()
    for _ in range(40):
        client.send(frame(DATA, 0, 1, bytes(16_000)))
    assert client.resets() == {1: FLOW_CONTROL_ERROR}
    assert town.frontend.tunnels == 0


def test_a_silent_tunnel_ends_by_its_own_timeout_and_by_no_other():
    town, client, backend = tunnel(
        timeouts={"tunnel_idle_s": 500},
        listener={"timeouts": {"body_idle_s": 5, "client_idle_s": 1000, "response_idle_s": 7}},
    )
    town.clock.advance(490)
    backend.transport.write(b"x")
    town.clock.advance(490)
    client.take()
    assert town.frontend.tunnels == 1
    town.clock.advance(20)
    client.take()
    assert (town.frontend.tunnels, client.open) == (0, True)
    assert ended(client) or client.resets()


def test_who_takes_nothing_of_a_tunnel_loses_it():
    town, client, backend = tunnel(
        settings=INITIAL_WINDOW_SIZE.to_bytes(2, "big") + window(0), listener={"timeouts": {"response_idle_s": 7}}
    )
    backend.transport.write(bytes(1000))
    town.clock.advance(8)
    client.take()
    assert client.resets() == {1: CANCEL}
    assert [record.detail for record in town.balanced.records] == ["it does not take its answer"]
    assert not backend.open


# Drains.


def test_at_the_end_of_a_drain_both_ends_are_told_good_bye():
    town, client, backend = tunnel()
    client.send(connect(3))
    before = len(backend.received)
    town.frontend.draining = True
    town.frontend.drain()
    town.clock.advance(2)
    client.take()
    assert (client.goaway[0], town.frontend.tunnels, client.open) == (NO_ERROR, 2, True)
    town.frontend.tell_good_bye()
    client.take()
    assert data(client) == data(client, 3) == close_frame(1001)
    assert backend.received[before:][:2] == b"\x88\x82"
    client.send(frame(DATA, END_STREAM, 1, b"\x88\x82\0\0\0\0\x03\xe9"))
    town.clock.advance(1)
    client.take()
    assert (ended(client), town.frontend.tunnels) == (True, 1)
    town.frontend.kill()
    client.take()
    assert (town.frontend.tunnels, len(town.frontend.clients)) == (0, 0)
    assert ended(client, 3)
    assert not client.open


def test_requests_are_cut_before_tunnels_on_the_same_connection():
    town, client, _ = tunnel()
    town.backend.answer = lambda _: [b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf"]
    client.send(frame(HEADERS, END_HEADERS | END_STREAM, 3, b"\x82\x86\x84" + literal(b":authority", HOST.encode())))
    assert town.frontend.exchanges == 2
    town.frontend.cut_requests("the time for requests is over")
    client.take()
    assert (town.frontend.exchanges, town.frontend.tunnels, client.open) == (1, 1, True)
    assert list(client.resets()) == [3]


def test_a_backend_that_went_down_takes_its_tunnels_along_and_no_others():
    town, client, _ = tunnel()
    (backend,) = town.balanced.cluster.pool.backends.values()
    assert town.frontend.cut_relayed_at(backend, "it went down") == 1
    client.take()
    assert (list(client.resets()), client.open, town.frontend.tunnels) == ([1], True, 0)
