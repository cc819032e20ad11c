"""Handshakes with clients: what they may send and when, how long they have, how many there may be, and what is said of those that fail."""

import contextlib
import itertools
import socket
import ssl

import pytest
from arriving import GET, OK, SIDES, Gateway, answered, hello_of, served, shake
from hellos import hello
from tls_peers import Chosen, Policy, Serving, authority, server_context
from wires import arrived, stream_pair
from world import Peer, TlsPeer

from twisted_lb.core.outcome import Refusal
from twisted_lb.net.handshakes import AT_ONCE, Handshakes, Hellos
from twisted_lb.net.listener import bind_tcp

UNRECOGNIZED_NAME, DECODE_ERROR = 112, 50
MIB = 1 << 20


@pytest.fixture(params=SIDES)
def make(request):
    gateways = []

    def one(**options) -> Gateway:
        gateways.append(Gateway(request.param, **options))
        return gateways[-1]

    yield one
    for gateway in gateways:
        gateway.close()


def client_of(version: ssl.TLSVersion, **more: object) -> ssl.SSLContext:
    """A client that speaks one version alone."""
    context = ssl.create_default_context()
    authority().configure_trust(context)
    context.minimum_version = context.maximum_version = version
    for name, value in more.items():
        getattr(context, name)(value)
    return context


VERSIONS = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}
both_versions = pytest.mark.parametrize("version", VERSIONS.values(), ids=VERSIONS)


# What comes, and how.


@both_versions
def test_both_versions_are_served_and_counted(make, version):
    gateway = make()
    client = gateway.enter(context=client_of(version))
    assert served(client)[b"x-forwarded-proto"] == b"https"
    [((name, cipher, resumed), count)] = gateway.frontend.handshaken.done.items()
    assert (name, count, resumed) == (client.end.tls.version(), 1, False)
    assert cipher == client.end.tls.cipher()[0]


@both_versions
def test_a_hello_may_come_byte_by_byte(make, version):
    gateway = make()
    client = gateway.knock(context=client_of(version))
    said = hello_of(client)
    for at in range(len(said)):
        Peer.send(client, said[at : at + 1])
    shake(client)
    assert served(client)


def test_a_hello_may_come_in_any_two_pieces(make):
    gateway = make()
    size = len(hello_of(gateway.knock()))
    for at in range(1, size, 7):
        client = gateway.knock()
        said = hello_of(client)
        Peer.send(client, said[:at])
        Peer.send(client, said[at:])
        shake(client)
        assert served(client), at
        client.close()


@both_versions
def test_all_that_a_client_says_may_come_byte_by_byte(make, version):
    gateway = make()
    client = gateway.knock(context=client_of(version))
    for _ in range(10):
        client.end.inbound.write(client._wire())
        over = client.end.shake()
        if over:
            client.end.tls.write(GET)
        for byte in client.end.outbound.read():
            Peer.send(client, bytes((byte,)))
        if over:
            break
    assert answered(client)


@both_versions
def test_a_request_may_come_in_one_segment_with_the_end_of_the_handshake(make, version):
    gateway = make()
    client = gateway.knock(context=client_of(version, set_ciphers="ECDHE+AESGCM"))
    for _ in range(3):
        client.end.inbound.write(client._wire())
        if client.end.shake():
            client.end.tls.write(GET)
        Peer.send(client, client.end.outbound.read())
        if client.end.up and version is VERSIONS["1.3"]:
            break
    if version is VERSIONS["1.2"]:
        client.send(GET)
    assert answered(client)


def test_what_comes_behind_a_hello_at_once_is_no_plain_text(make):
    """The rest of a segment is TLS's too: a request in the clear behind a hello is an error of the client's."""
    gateway = make()
    client = gateway.knock()
    Peer.send(client, hello_of(client) + GET)
    Peer.read(client)
    assert gateway.done == 0
    assert not gateway.records
    assert client.closed or client.was_reset
    client.close()
    assert gateway.failures == {"wrong_version_number": 1}


# What is no TLS.


def alert_of(data: bytes) -> int:
    """The description of the fatal alert that is all of it."""
    assert len(data) == 7, data
    assert (data[0], data[5]) == (21, 2)
    return data[6]


@pytest.mark.parametrize("address", [("203.0.113.7", 4711), ("2001:db8::7", 4711), None], ids=["v4", "v6", "unix"])
def test_plain_http_gets_an_answer_that_says_so_and_is_logged(make, address):
    gateway = make()
    near, far = stream_pair()
    if address is None:
        gateway.world.arrivals.take(near, "", "", socket.AF_UNIX)
    else:
        gateway.world.arrive(near, address)
    client = Peer(gateway.world, far)
    gateway.world._clients.append(client)
    client.send(b"GET /who HTTP/1.1\r\nHost: shop.example\r\n\r\n")
    head, _, body = client.read().partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400 Bad Request\r\n")
    assert b"\r\nConnection: close" in head
    assert b"HTTPS" in body
    assert client.closed
    assert not client.was_reset
    [record] = gateway.records
    assert (record.status, record.local_reply, record.target) == (400, Refusal.BAD_REQUEST, b"/who")
    assert (record.client, record.peer_port) == (address or ("unix", 0))
    assert "TLS" in record.detail
    assert gateway.failures == {"plain_http": 1}
    client.close()
    gateway.run()
    assert gateway.empty


@pytest.mark.parametrize(
    "data",
    [
        b"\0",
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"\x80\x2e\x01\x03\x01",  # the hello of SSL 2
        b"\x16\x03\x01\x00\x04\x02\0\0\0",
        b"\x16\x03\x01\xff\xff\x01",
        b"\x15\x03\x01\x00\x02\x02\x28",
        hello()[:-1] + b"\x17\x03\x03\0\1x",
    ],
)
def test_what_is_no_hello_gets_an_alert_and_is_counted(make, data):
    gateway = make()
    client = gateway.come().send(data)
    if not data.startswith(hello()[:-1]):
        assert alert_of(client.read()) == DECODE_ERROR
        assert gateway.failures == {"no_tls": 1}
    else:
        client.read()
    client.close()
    gateway.run()
    assert (gateway.done, gateway.empty) == (0, True)


def test_what_goes_on_sending_behind_its_refusal_is_thrown_away_for_a_moment(make):
    gateway = make()
    client = gateway.come().send(b"\0" * 100)
    for _ in range(20):
        client.send(b"\0" * 10_000)
    assert alert_of(client.read()) == DECODE_ERROR
    assert not client.was_reset
    gateway.advance(1.9)
    assert not gateway.empty
    gateway.advance(0.2)
    assert gateway.empty
    assert gateway.failures == {"no_tls": 1}


def test_a_name_that_nobody_has_is_refused_where_names_are_strict(make):
    gateway = make()
    gateway.world.serve(Serving(strict=True))
    client = gateway.knock(name="other.example")
    with pytest.raises(ssl.SSLError, match="UNRECOGNIZED_NAME"):
        shake(client)
    client.close()
    assert gateway.failures == {"no_certificate": 1}
    assert gateway.empty
    assert served(gateway.enter())


# Why handshakes fail.


REASONS = {
    "TLSV1_ALERT_UNKNOWN_CA": ssl.create_default_context,
    "NO_SHARED_CIPHER": lambda: client_of(VERSIONS["1.2"], set_ciphers="AES128-SHA"),
    "UNSUPPORTED_PROTOCOL": lambda: client_of(VERSIONS["1.2"]),
}


@pytest.mark.parametrize("reason", REASONS)
def test_failures_are_counted_by_their_reason_and_the_client_is_told(make, reason):
    gateway = make()
    policy = server_context("strict.example")
    policy.set_ciphers("ECDHE+AESGCM")
    if reason == "UNSUPPORTED_PROTOCOL":
        policy = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        policy.minimum_version = VERSIONS["1.3"]
    if reason != "TLSV1_ALERT_UNKNOWN_CA":
        gateway.world.serve(Serving(Chosen(policy, Policy())))
    client = gateway.knock(context=REASONS[reason]())
    with pytest.raises(ssl.SSLError):
        shake(client)
    Peer.read(client)
    client.close()
    gateway.run()
    assert gateway.failures == {reason.lower(): 1}
    assert gateway.empty


def test_a_client_certificate_that_is_missing_is_a_reason_too(make):
    gateway = make()
    asking = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority().issue_cert("localhost").configure_cert(asking)
    asking.verify_mode = ssl.CERT_REQUIRED
    authority().configure_trust(asking)
    gateway.world.serve(Serving(Chosen(asking, Policy(client_certificate="require"))))
    client = gateway.knock(context=client_of(VERSIONS["1.2"]))
    with pytest.raises(ssl.SSLError, match="HANDSHAKE_FAILURE"):
        shake(client)
    client.close()
    assert gateway.failures == {"peer_did_not_return_a_certificate": 1}
    assert gateway.empty


# How long it may take.


def to_stage(gateway: Gateway, stage: str, **how) -> TlsPeer:
    """A client that has come so far."""
    if stage == "waits":
        gateway.frontend.handshakes.configure(1)
        if not gateway.frontend.handshakes.open:
            to_stage(gateway, "answered")
    client = gateway.knock(**how)
    said = hello_of(client)
    if stage == "half":
        Peer.send(client, said[:100])
    elif stage in ("answered", "waits", "half finished"):
        Peer.send(client, said)
    if stage == "half finished":
        client.end.inbound.write(client._wire())
        assert client.end.shake()
        Peer.send(client, client.end.outbound.read()[:-5])
    assert gateway.done == 0
    return client


STAGES = ("silent", "half", "answered", "half finished", "waits")
every_stage = pytest.mark.parametrize("stage", STAGES)


@every_stage
def test_a_handshake_has_one_deadline_from_the_connect_on(make, stage):
    gateway = make(handshake_s=5)
    here = 2 if stage == "waits" else 1
    client = to_stage(gateway, stage)
    gateway.advance(4.9)
    assert len(gateway.frontend.clients) == here
    gateway.advance(0.2)
    Peer.read(client)
    assert client.closed or client.was_reset
    assert gateway.failures == {"timed_out": here}
    assert gateway.empty


def test_drops_of_a_hello_do_not_extend_its_time(make):
    """Slowloris."""
    gateway = make(handshake_s=5)
    client = gateway.knock()
    said = hello_of(client)
    for at in range(20):
        with contextlib.suppress(OSError):
            Peer.send(client, said[at : at + 1])
        gateway.advance(0.3)
    assert gateway.failures == {"timed_out": 1}
    assert gateway.empty


# Leaving, and being sent away.


@every_stage
@pytest.mark.parametrize("leave", ["close", "reset"])
def test_who_leaves_on_the_way_is_counted_and_leaves_nothing_behind(make, stage, leave):
    gateway = make()
    client = to_stage(gateway, stage)
    if stage == "waits":
        [first] = [one for one in gateway.world._clients if one.sock is not client.sock]
        first.close()
    getattr(client, leave)()
    gateway.run()
    assert gateway.failures == {"left": 2 if stage == "waits" else 1}
    assert gateway.empty


@every_stage
def test_a_kill_ends_handshakes(make, stage):
    gateway = make()
    client = to_stage(gateway, stage)
    gateway.frontend.kill()
    gateway.run()
    Peer.read(client)
    assert client.closed or client.was_reset
    assert gateway.empty
    assert gateway.failures == {}


@every_stage
def test_a_drain_lets_handshakes_end_and_answers_what_comes_then(make, stage):
    gateway = make()
    client = gateway.knock()
    said = hello_of(client)
    Peer.send(client, said[:100] if stage == "half" else b"" if stage in ("silent", "waits") else said)
    if stage == "waits":
        gateway.frontend.handshakes.configure(1)
        first = to_stage(gateway, "answered")
        Peer.send(client, said)
        assert gateway.frontend.handshakes.waiting == 1
    drained = gateway.world.plane.drain(100)
    gateway.advance(0.1)
    if stage == "waits":
        first.close()
    else:
        Peer.send(client, {"half": said[100:], "silent": said}.get(stage, b""))
    shake(client)
    client.send(GET)
    gateway.world.backend().read()
    gateway.world.backend().send(OK)
    assert b"\r\nConnection: close\r\n" in client.read()
    assert client.closed
    assert client.good_bye
    client.close()
    gateway.advance(3)
    assert drained.called


def test_who_says_nothing_behind_its_handshake_does_not_hold_up_a_drain(make):
    gateway = make()
    client = to_stage(gateway, "answered")
    drained = gateway.world.plane.drain(100)
    gateway.advance(0.1)
    shake(client)
    gateway.advance(1)
    client.read()
    assert client.closed
    client.close()
    gateway.advance(3)
    assert drained.called


@every_stage
def test_a_reload_to_plain_and_back_holds_for_those_whose_turn_has_not_come(make, stage):
    gateway = make()
    client = to_stage(gateway, stage)
    gateway.world.serve(None)
    gateway.frontend.handshakes.configure(10)
    gateway.run()
    if stage == "silent":
        Peer.send(client, GET)
        gateway.world.backend().send(OK)
        assert Peer.read(client).endswith(b"hello")
    elif stage == "half":
        Peer.send(client, bytes(100))
        assert Peer.read(client).startswith(b"HTTP/1.1 400 ")
    elif stage == "waits":
        assert alert_of(Peer.read(client)) == UNRECOGNIZED_NAME
    elif stage == "answered":
        shake(client)
        assert served(client)
    gateway.world.serve(Serving())
    assert served(gateway.enter())


# How many there may be.


def test_more_hellos_than_a_few_at_once_let_the_requests_of_others_run_between(make):
    gateway = make()
    other = gateway.enter()
    assert served(other)
    clients = [gateway.knock() for _ in range(20)]
    for client in clients:
        client.sock.send(hello_of(client))
    other.offer(GET)
    told: list[int] = []
    count = gateway.frontend.handshakes
    backend = gateway.world.backend_connections[-1]
    for _ in range(200):
        told.append(count.open)
        arrived_yet = _peek(backend.sock)
        if arrived_yet:
            break
        _turn(gateway)
    assert told[-1] <= AT_ONCE, told
    assert count.open + count.waiting == 20 or gateway.world.side != "tls"
    for _ in range(50):
        _turn(gateway)
    assert max((after - before for before, after in itertools.pairwise(told)), default=0) <= AT_ONCE
    assert count.open == 20
    for client in clients:
        shake(client)
    assert gateway.done == 21
    assert answered(other)


def _peek(sock: socket.socket) -> bytes:
    try:
        return sock.recv(1, socket.MSG_PEEK)
    except BlockingIOError:
        return b""


def _turn(gateway: Gateway) -> None:
    """One turn of a reactor: the calls that are due, then one batch of events."""
    world = gateway.world
    arrived()
    world.time.run_due()
    if world.side == "tls":
        world.poller.doRead()
    else:
        world.reactor.turn()


@pytest.mark.parametrize("most", [1, 2, 3])
def test_beyond_the_limit_of_handshakes_all_are_served_in_turn(make, most):
    gateway = make(limits={"handshakes": most})
    clients = [gateway.knock() for _ in range(5)]
    for client in clients:
        Peer.send(client, hello_of(client))
    handshakes = gateway.frontend.handshakes
    assert (handshakes.open, handshakes.waiting) == (most, 5 - most)
    order = []
    while len(order) < 5:
        ready = [client for client in clients if client not in order and Peer.read(client)]
        assert ready
        assert handshakes.open <= most
        for client in ready:
            order.append(client)
            data, client.received = client.received, b""
            client.end.inbound.write(data)
            assert client.end.shake()
            Peer.send(client, client.end.outbound.read())
    assert order == clients
    assert (gateway.done, handshakes.open, handshakes.waiting) == (5, 0, 0)
    for client in clients:
        assert served(client)


def test_a_limit_that_is_raised_lets_those_go_on_who_wait(make):
    gateway = make(limits={"handshakes": 1})
    clients = [gateway.knock() for _ in range(4)]
    for client in clients:
        Peer.send(client, hello_of(client))
    gateway.world.configure(limits={"handshakes": 100, "client_bytes_per_s": 0})
    gateway.run()
    assert gateway.frontend.handshakes.open == 4
    for client in clients:
        shake(client)


def test_connections_on_their_way_hold_places_at_the_gate(make):
    sock = bind_tcp("127.0.0.1", 0)
    gateway = make(limits={"connections": 3}, sockets=(sock,))
    [listener] = gateway.world.plane.listeners["default"]
    listener.start()
    here = [socket.create_connection(("127.0.0.1", listener.port)) for _ in range(5)]
    gateway.run()
    assert (gateway.frontend.gate.open, listener.accepted) == (3, 3)
    assert not gateway.run(), "it spins"
    here[0].close()
    gateway.run()
    assert (gateway.frontend.gate.open, listener.accepted) == (3, 4)
    gateway.advance(11)
    assert gateway.failures == {"left": 1, "timed_out": 3}
    assert listener.accepted == 5
    for one in here:
        one.close()
    gateway.run()


def test_an_idle_connection_makes_room_for_one_that_arrives(make):
    sock = bind_tcp("127.0.0.1", 0)
    gateway = make(limits={"connections": 1}, sockets=(sock,))
    [listener] = gateway.world.plane.listeners["default"]
    listener.start()
    idle = gateway.enter()
    assert served(idle)
    gateway.advance(2)
    newcomer = socket.create_connection(("127.0.0.1", listener.port))
    gateway.run()
    gateway.advance(0.2)
    idle.read()
    assert idle.closed
    assert listener.accepted == 1
    newcomer.close()
    gateway.run()


def test_one_client_cannot_hold_more_places_on_its_way_than_connections(make):
    gateway = make(limits={"connections_per_client": 2})
    here = [gateway.come(peer=("203.0.113.7", port)) for port in range(4)]
    other = gateway.enter(peer=("203.0.113.8", 1))
    assert [bool(one.read() or one.closed) for one in here] == [False, False, True, True]
    assert gateway.failures == {"too_many": 2}
    here[0].close()
    again = gateway.enter(peer=("203.0.113.7", 5))
    assert served(again)
    assert served(other)


def test_a_protocol_that_cannot_be_made_holds_up_nobody_who_waits(make, logged_errors):
    gateway = make(limits={"handshakes": 1})
    clients = [gateway.knock() for _ in range(3)]
    for client in clients:
        Peer.send(client, hello_of(client))
    choose = gateway.world.serving.choose

    class Broken:
        single = True
        turns = 0

        def choose(self, name):
            Broken.turns += 1
            if Broken.turns == 1:
                raise ZeroDivisionError("a bug")
            return choose(name)

    gateway.world.serve(Broken())
    clients[0].close()
    gateway.run()
    shake(clients[2])
    assert served(clients[2])
    Peer.read(clients[1])
    assert clients[1].closed or clients[1].was_reset
    assert [one["log_failure"].type for one in logged_errors.take()] == [ZeroDivisionError]


# Ends.


def test_a_complete_answer_on_a_connection_that_ends_is_followed_by_close_notify(make):
    gateway = make()
    client = gateway.enter()
    client.send(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    gateway.world.backend().send(OK)
    assert client.read().endswith(b"\r\n\r\nhello")
    assert (client.good_bye, client.closed, client.was_reset) == (True, True, False)


def test_an_answer_of_http_1_0_without_a_length_ends_with_close_notify(make):
    gateway = make()
    client = gateway.enter()
    client.send(b"GET / HTTP/1.0\r\n\r\n")
    backend = gateway.world.backend()
    backend.read()
    backend.send(b"HTTP/1.1 200 OK\r\nDate: d\r\n\r\nall of it")
    client.read()
    assert not client.good_bye
    backend.close()
    client.read()
    assert client.received.endswith(b"all of it")
    assert (client.good_bye, client.closed) == (True, True)


def test_such_an_answer_that_is_cut_has_no_close_notify(make):
    gateway = make()
    client = gateway.enter()
    client.send(b"GET / HTTP/1.0\r\n\r\n")
    backend = gateway.world.backend()
    backend.send(b"HTTP/1.1 200 OK\r\nDate: d\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n")
    client.read()
    backend.reset()
    client.read()
    assert client.received.endswith(b"hello")
    assert client.was_reset
    assert not client.good_bye


def test_an_answer_with_a_length_that_is_cut_is_shorter_than_it_says(make):
    gateway = make()
    client = gateway.enter().send(GET)
    backend = gateway.world.backend()
    backend.send(b"HTTP/1.1 200 OK\r\nDate: d\r\nContent-Length: 10\r\n\r\nhello")
    client.read()
    backend.reset()
    client.read()
    assert client.received.endswith(b"Content-Length: 10\r\n\r\nhello")
    assert client.closed or client.was_reset


@pytest.mark.parametrize("fin", [False, True], ids=["close_notify alone", "and the FIN"])
@pytest.mark.parametrize("finish", [False, True])
def test_a_client_that_says_close_notify_behind_its_request(make, fin, finish):
    """As a FIN is: it has left, unless the configuration says that it still listens."""
    gateway = make(client_half_close="finish" if finish else "abort")
    client = gateway.enter().send(GET)
    gateway.world.backend().read()
    client.end.say_good_bye()
    Peer.send(client, client.end.outbound.read())
    if fin:
        Peer.shut(client)
    if finish:
        gateway.world.backend().send(OK)
    data = _rest(client)
    assert data.endswith(b"hello") if finish else data == b""
    assert client.closed or client.was_reset
    client.close()
    assert gateway.empty


def _rest(client: TlsPeer) -> bytes:
    """What a client that has said close_notify is still sent, in plain text."""
    wire = client._wire()
    client.end.inbound.write(wire)
    plain = b""
    with contextlib.suppress(ssl.SSLError):
        while data := client.end.tls.read(16384):
            plain += data
    return plain


def test_a_fin_without_close_notify_is_an_end_as_well(make):
    gateway = make()
    client = gateway.enter().send(GET)
    gateway.world.backend().read()
    Peer.shut(client)
    gateway.run()
    client.read()
    assert client.closed or client.was_reset
    client.close()
    assert gateway.empty
    assert [record.ended_by.name for record in gateway.records] == ["CLIENT_GONE"]


@pytest.mark.parametrize("leave", ["close", "reset", "garbage"])
def test_who_leaves_while_it_is_answered_leaves_nothing_behind(make, leave):
    gateway = make()
    client = gateway.enter().send(GET)
    backend = gateway.world.backend()
    backend.send(b"HTTP/1.1 200 OK\r\nDate: d\r\nContent-Length: %d\r\n\r\n" % MIB)
    backend.send(b"x" * 1000)
    if leave == "garbage":
        Peer.send(client, b"\x17\x03\x03\x00\x20" + bytes(32))
        Peer.read(client)
        assert client.closed or client.was_reset
        client.close()
    else:
        getattr(client, leave)()
    gateway.run()
    assert gateway.empty
    assert [record.ended_by.name for record in gateway.records] == ["CLIENT_GONE"]
    assert gateway.failures == {}


# Large bodies.


@both_versions
def test_large_bodies_pass_both_ways_at_once_and_nobody_holds_them(make, version):
    gateway = make()
    client = gateway.enter(context=client_of(version))
    size = 3 * MIB
    body = bytes(range(256)) * (size // 256)
    client.send(b"PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % size)
    backend = gateway.world.backend()
    backend.read()
    backend.received = b""
    backend.send(b"HTTP/1.1 200 OK\r\nDate: d\r\nContent-Length: %d\r\n\r\n" % size)
    assert client.read().endswith(b"\r\n\r\n")
    client.received = b""
    up = down = 0
    while len(client.received) < size or len(backend.received) < size:
        before = up, down, len(client.received), len(backend.received)
        with contextlib.suppress(BlockingIOError):
            while up < size:
                up += client.offer(body[up : up + 65536])
        with contextlib.suppress(BlockingIOError):
            most = size if len(backend.received) == size else size - 1  # the answer does not end before the request
            while down < most:
                down += backend.offer(body[down : min(down + 65536, most)])
        gateway.run()
        held = sum(one.transport.unsent for one in gateway.frontend.clients)
        assert held <= 65536 + 262144 + 65536
        client.read()
        backend.read()
        assert (up, down, len(client.received), len(backend.received)) != before, "nothing moves"
    assert (client.received, backend.received) == (body, body)


# The count of handshakes, by itself.


class Turn:
    def __init__(self, begun: list[int], number: int) -> None:
        self.begun, self.number = begun, number

    def begin_handshake(self) -> None:
        self.begun.append(self.number)


def test_the_budget_of_a_turn_is_that_of_all_listeners():
    calls = []
    hellos = Hellos(lambda delay, call: calls.append(call))
    begun: list[int] = []
    listeners = [Handshakes(hellos, lambda delay, call: calls.append(call)) for _ in range(2)]
    for number in range(20):
        turn = Turn(begun, number)
        if listeners[number % 2].claim(turn):
            turn.begin_handshake()
    sizes = [len(begun)]
    while calls:
        due, calls[:] = list(calls), []
        for call in due:
            call()
        sizes.append(len(begun))
    assert sizes[:3] == [AT_ONCE, 2 * AT_ONCE, 3 * AT_ONCE]
    assert sorted(begun) == list(range(20))
