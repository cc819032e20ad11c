"""The arrival of connections: who is behind a header of the PROXY protocol, and what becomes of those who do not arrive."""

import socket

import pytest
from arriving import GET, OK, SIDES, Gateway, answered, hello_of, served, shake
from tls_peers import Serving
from twisted.logger import formatEvent, globalLogPublisher
from wires import stream_pair
from world import Peer, World

from twisted_lb.core.outcome import Refusal
from twisted_lb.net.arrival import Arrivals
from twisted_lb.wire.proxy_protocol import LOCAL_V2, SIGNATURE, UNKNOWN_V1, proxy_v1, proxy_v2

SOURCE, PORT = "203.0.113.7", 51_234
HEADERS = {
    "v1": proxy_v1(SOURCE, PORT, "198.51.100.1", 443),
    "v2": proxy_v2(SOURCE, PORT, "198.51.100.1", 443),
    "v2 with more": proxy_v2(SOURCE, PORT, "198.51.100.1", 443, [(1, b"h2"), (5, b"id")], checksum=True),
}
V6 = proxy_v2("2001:db8::7", PORT, "2001:db8::1", 443)
TRUSTED = {"proxy_protocol": "trusted", "proxy_protocol_from": ["10.0.0.0/8"]}
PROXY = ("10.1.2.3", 1000)
STRANGER = ("192.0.2.9", 2000)


@pytest.fixture
def make():
    gateways = []

    def one(side: str = "engine", **options) -> Gateway:
        gateways.append(Gateway(side, **options))
        return gateways[-1]

    yield one
    for gateway in gateways:
        gateway.close()


def required(make, side: str = "engine", **more) -> Gateway:
    return make(side, forwarding={"proxy_protocol": "require", **more.pop("forwarding", {})}, **more)


# The PROXY protocol.


@pytest.mark.parametrize("header", HEADERS.values(), ids=HEADERS)
@pytest.mark.parametrize("side", ["engine", "fallback"])
def test_a_header_with_the_request_right_behind_it_names_the_client(make, side, header):
    gateway = required(make, side)
    client = gateway.come(peer=PROXY).send(header + GET)
    assert answered(client)[b"x-forwarded-for"] == SOURCE.encode()
    [record] = gateway.records
    assert (record.client, record.peer, record.peer_port) == (SOURCE, SOURCE, PORT)


@pytest.mark.parametrize("header", [HEADERS["v1"], HEADERS["v2"], V6], ids=["v1", "v2", "v6"])
@pytest.mark.parametrize("side", ["engine", "fallback"])
def test_a_header_may_come_in_any_two_pieces(make, side, header):
    gateway = required(make, side)
    whole = header + GET
    source = b"2001:db8::7" if header is V6 else SOURCE.encode()
    for at in range(1, len(whole)):
        client = gateway.come(peer=PROXY).send(whole[:at])
        assert answered(client.send(whole[at:]))[b"x-forwarded-for"] == source, at
        client.close()


@pytest.mark.parametrize("header", HEADERS.values(), ids=HEADERS)
def test_a_header_may_come_byte_by_byte(make, header):
    gateway = required(make)
    client = gateway.come(peer=PROXY)
    for at in range(len(header)):
        assert not gateway.records
        client.send(header[at : at + 1])
    assert served(client)[b"x-forwarded-for"] == SOURCE.encode()


@pytest.mark.parametrize("header", [*HEADERS.values(), V6], ids=[*HEADERS, "v6"])
@pytest.mark.parametrize("side", SIDES)
def test_tls_follows_behind_the_header(make, side, header):
    gateway = required(make, side)
    client = gateway.knock(before=header, peer=PROXY)
    shake(client)
    told = served(client)
    assert told[b"x-forwarded-for"] == (b"2001:db8::7" if header is V6 else SOURCE.encode())
    assert (told[b"x-forwarded-proto"], told[b"x-forwarded-port"]) == (b"https", b"443")


def test_header_and_hello_may_come_in_any_two_pieces(make):
    gateway = required(make, "tls")
    header = HEADERS["v1"]
    for at in range(1, len(header) + 200, 3):
        client = gateway.knock(peer=PROXY)
        whole = header + hello_of(client)
        Peer.send(client, whole[:at])
        Peer.send(client, whole[at:])
        shake(client)
        assert served(client)[b"x-forwarded-for"] == SOURCE.encode(), at
        client.close()


@pytest.mark.parametrize(
    "header", [LOCAL_V2, UNKNOWN_V1, b"PROXY UNKNOWN ffff::1 ::1 1 2\r\n", SIGNATURE + b"\x21\0\0\0"]
)
@pytest.mark.parametrize("side", ["engine", "tls"])
def test_what_a_proxy_says_for_itself_comes_from_its_own_address(make, side, header):
    gateway = required(make, side)
    client = gateway.come(peer=PROXY).send(header) if side == "engine" else gateway.enter(before=header, peer=PROXY)
    told = served(client)
    assert (told[b"x-forwarded-for"], told[b"x-forwarded-port"]) == (b"10.1.2.3", b"8443")


def test_of_others_than_the_trusted_a_header_is_not_looked_for(make):
    gateway = make(forwarding=TRUSTED)
    assert served(gateway.come(peer=STRANGER))[b"x-forwarded-for"] == b"192.0.2.9"
    client = gateway.come(peer=STRANGER).send(HEADERS["v1"] + GET)
    assert client.read().startswith(b"HTTP/1.1 400 ")
    assert served(gateway.come(peer=PROXY).send(HEADERS["v1"]))[b"x-forwarded-for"] == SOURCE.encode()
    assert gateway.failures == {}


def test_of_others_than_the_trusted_tls_is_expected_at_once(make):
    gateway = make("tls", forwarding=TRUSTED)
    assert served(gateway.enter(peer=STRANGER))[b"x-forwarded-for"] == b"192.0.2.9"
    client = gateway.come(peer=STRANGER).send(HEADERS["v2"])
    assert client.read()[:1] == b"\x15"  # an alert
    assert client.closed
    assert gateway.failures == {"no_tls": 1}


@pytest.mark.parametrize("side", ["engine", "tls", "tls fallback"])
def test_where_it_is_required_strangers_are_closed_before_they_say_a_word(make, side):
    gateway = make(side, forwarding={**TRUSTED, "proxy_protocol": "require"})
    stranger = gateway.come(peer=STRANGER)
    assert stranger.read() == b""
    assert stranger.closed
    assert gateway.failures == {"not_a_proxy": 1}
    assert gateway.empty


@pytest.mark.parametrize("side", ["engine", "tls"])
@pytest.mark.parametrize(
    "data",
    [GET, b"PROXY TCP4 1.2.3.4\r\n", b"PROXY " + b"x" * 200, SIGNATURE + b"\x31", b"\x16\x03\x01\x00\x05hello", b"\0"],
)
def test_who_has_to_send_a_header_and_sends_something_else_is_closed(make, side, data):
    gateway = required(make, side)
    client = gateway.come(peer=PROXY).send(data)
    assert client.read() == b""
    assert client.closed or client.was_reset
    assert gateway.failures == {"bad_proxy_header": 1}
    assert gateway.empty


@pytest.mark.parametrize("side", ["engine", "tls", "fallback"])
@pytest.mark.parametrize("begun", [b"", b"PROXY TCP4 1.2.", SIGNATURE, SIGNATURE + b"\x21\x11\x0f\x00" + b"x" * 3000])
def test_a_header_that_does_not_end_is_waited_for_no_longer_than_a_handshake(make, side, begun):
    gateway = required(make, side, handshake_s=5)
    client = gateway.come(peer=PROXY)
    if begun:
        client.send(begun)
    gateway.advance(4.9)
    assert not client.read()
    assert not client.closed
    gateway.advance(0.2)
    client.read()
    assert client.closed or client.was_reset
    assert gateway.failures == {"timed_out": 1}
    assert gateway.empty


def test_drops_of_a_header_do_not_extend_its_time(make):
    gateway = required(make, handshake_s=5)
    client = gateway.come(peer=PROXY)
    for byte in HEADERS["v1"][:20]:
        client.send(bytes((byte,)))
        gateway.advance(0.3)
        if client.read() or client.closed:
            break
    assert gateway.failures == {"timed_out": 1}
    assert gateway.empty


@pytest.mark.parametrize("side", ["engine", "tls"])
def test_trusted_proxies_are_known_by_the_source_of_the_header(make, side):
    """Whoever brings the connection is not asked: it says for whom it speaks."""
    rules = {"proxy_protocol": "require", "trusted_proxies": [f"{SOURCE}/32"]}
    gateway = make(side, forwarding=rules)
    claims = b"GET / HTTP/1.1\r\nHost: x\r\nX-Forwarded-For: 6.6.6.6\r\n\r\n"

    def told(before: bytes) -> bytes:
        client = gateway.come(peer=PROXY).send(before) if side == "engine" else gateway.enter(before=before, peer=PROXY)
        return served(client, claims)[b"x-forwarded-for"]

    assert told(HEADERS["v2"]) == b"6.6.6.6, 203.0.113.7"
    assert told(proxy_v2("203.0.113.8", 1, "198.51.100.1", 443)) == b"203.0.113.8"
    assert [record.client for record in gateway.records] == ["6.6.6.6", "203.0.113.8"]


@pytest.mark.parametrize("side", ["engine", "tls"])
def test_a_proxy_that_is_trusted_itself_is_not_believed_for_that(make, side):
    gateway = make(side, forwarding={"proxy_protocol": "require", "trusted_proxies": ["10.0.0.0/8"]})
    client = (
        gateway.come(peer=PROXY).send(HEADERS["v1"])
        if side == "engine"
        else gateway.enter(before=HEADERS["v1"], peer=PROXY)
    )
    told = served(client, b"GET / HTTP/1.1\r\nHost: x\r\nX-Forwarded-For: 6.6.6.6\r\n\r\n")
    assert told[b"x-forwarded-for"] == SOURCE.encode()


@pytest.mark.parametrize("side", ["engine", "tls"])
def test_connections_are_bounded_by_the_client_whom_the_header_names(make, side):
    gateway = required(make, side, limits={"connections_per_client": 2})

    def come(header: bytes) -> Peer:
        if side == "engine":
            return gateway.come(peer=PROXY).send(header)
        return gateway.enter(before=header, peer=PROXY)

    here = [come(HEADERS["v2"]) for _ in range(2)]
    other = come(proxy_v2("203.0.113.8", 1, "198.51.100.1", 443))
    assert come(HEADERS["v1"]).read().startswith(b"HTTP/1.1 429 ")
    assert gateway.records[-1].local_reply is Refusal.RATE_LIMITED
    for client in (*here, other):
        assert served(client)


@pytest.mark.parametrize("side", ["engine", "tls"])
def test_a_client_of_a_unix_socket_has_to_send_a_header_too(make, side):
    gateway = make(side, forwarding=TRUSTED)
    near, far = stream_pair()
    gateway.world.arrivals.take(near, "", "", socket.AF_UNIX)
    client = Peer(gateway.world, far).send(HEADERS["v1"])
    if side == "engine":
        assert served(client)[b"x-forwarded-for"] == SOURCE.encode()
    client.close()


@pytest.mark.parametrize("side", ["engine", "tls", "tls fallback"])
@pytest.mark.parametrize("begun", [b"", b"PROXY", SIGNATURE])
@pytest.mark.parametrize("leave", ["close", "reset"])
def test_who_leaves_before_its_header_is_complete_leaves_nothing_behind(make, side, begun, leave):
    gateway = required(make, side)
    client = gateway.come(peer=PROXY)
    if begun:
        client.send(begun)
    getattr(client, leave)()
    assert gateway.failures == {"left": 1}
    assert gateway.empty


def test_a_reload_takes_hold_of_a_connection_whose_header_is_on_its_way(make):
    """From plain to TLS and back: what counts is what is served when its turn comes."""
    gateway = required(make)
    early = gateway.knock(before=HEADERS["v1"][:10], peer=PROXY)
    gateway.world.serve(Serving())
    late = gateway.come(peer=PROXY).send(HEADERS["v1"][:10])
    Peer.send(early, HEADERS["v1"][10:])
    shake(early)
    assert served(early)[b"x-forwarded-proto"] == b"https"
    gateway.world.serve(None)
    late.send(HEADERS["v1"][10:])
    assert served(late)[b"x-forwarded-proto"] == b"http"


# The gate.


@pytest.mark.parametrize("side", ["engine", "tls"])
def test_a_connection_counts_at_the_gate_from_its_beginning_to_its_end_and_once(make, side):
    gateway = required(make, side)
    gate = gateway.frontend.gate
    client = gateway.knock(peer=PROXY)
    assert (gate.open, gate.entered) == (1, 0)
    Peer.send(client, HEADERS["v2"])
    if side == "tls":
        assert (gate.open, gate.entered) == (1, 0)
        shake(client)
    assert (gate.open, gate.entered) == (1, 1)
    client.close()
    assert (gate.open, gate.entered) == (0, 1)
    assert gateway.empty


@pytest.mark.parametrize("side", ["engine", "tls"])
def test_a_kill_ends_those_who_have_not_arrived(make, side):
    gateway = required(make, side)
    clients = [gateway.come(peer=PROXY), gateway.come(peer=PROXY).send(b"PROXY ")]
    if side == "tls":
        clients.append(gateway.knock(before=HEADERS["v1"], peer=PROXY))
        clients[-1].shake()
    gateway.frontend.kill()
    gateway.run()
    for client in clients:
        Peer.read(client)
        assert client.closed or client.was_reset
    assert gateway.empty


def test_a_drain_lets_those_in_who_have_not_arrived_and_waits_no_longer_than_for_others(make):
    gateway = required(make)
    asking, silent = (gateway.come(peer=PROXY).send(HEADERS["v1"][:9]) for _ in range(2))
    drained = gateway.world.plane.drain(100)
    gateway.advance(0.1)
    asking.send(HEADERS["v1"][9:] + GET)
    gateway.world.backend().read()
    gateway.world.backend().send(OK)
    assert b"\r\nConnection: close\r\n" in asking.read()
    assert asking.closed
    silent.send(HEADERS["v1"][9:])
    gateway.advance(1)
    silent.read()
    assert silent.closed
    asking.close()
    silent.close()
    gateway.advance(3)
    assert drained.called


def test_one_that_cannot_be_taken_in_holds_neither_its_place_nor_its_descriptor():
    def build(secured, agreed=None, *, http2=False):
        raise RuntimeError("a bug")

    world = World()
    near, far = stream_pair()
    arrivals = Arrivals(world.engine, world.poller, build)
    with pytest.raises(RuntimeError, match="a bug"):
        arrivals.take(near, ("127.0.0.1", 40000), "80", socket.AF_INET)
    peer = Peer(world, far)
    peer.read()
    assert peer.was_reset
    assert (world.engine.gate.open, world.engine.clients, world.poller.watched) == (0, {}, 0)
    peer.close()
    world.close()


def test_a_flood_of_those_who_do_not_arrive_is_a_line_of_the_log_a_second(make):
    gateway = make("tls")
    lines = []

    def observe(event):
        if event.get("log_namespace") == "twisted_lb.net.arrival":
            lines.append(formatEvent(event))

    globalLogPublisher.addObserver(observe)
    try:
        for _ in range(20):
            gateway.come().send(b"no TLS at all, and nothing of HTTP\r\n").close()
            gateway.run()
        assert len(lines) == 1
        gateway.advance(1.1)
        gateway.come().send(b"no TLS at all, and nothing of HTTP\r\n").close()
        gateway.run()
    finally:
        globalLogPublisher.removeObserver(observe)
    assert lines[1:] == [f"{lines[0]} (and 19 more before)"]
    assert gateway.failures == {"no_tls": 21}
