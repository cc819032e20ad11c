"""Sessions: connections that are carried as they are, from their arrival to the end of both sides."""

import ssl

import pytest
from arriving import Gateway
from hellos import hello, server_name
from wires import SIP_BYTES
from world import Peer

from twisted_lb.core.outcome import Outcome, Refusal
from twisted_lb.core.rate_limits import Tally
from twisted_lb.wire.client_hello import UNRECOGNIZED_NAME, alert
from twisted_lb.wire.proxy_protocol import proxy_v1

MEGABYTE = b"0123456789abcdef" * 65536
SIDES = ["engine", "fallback", "tls", "tls fallback"]


@pytest.fixture
def make():
    gateways = []

    def one(side: str = "engine", **options) -> Gateway:
        options.setdefault("names", ("a:80", "b:80"))
        gateways.append(Gateway(side, protocol="tcp", **options))
        return gateways[-1]

    yield one
    for gateway in gateways:
        gateway.world.close()


def joined(gateway: Gateway, said: bytes = b"hello") -> tuple[Peer, Peer]:
    """A client that has said something, and the backend that it is joined to."""
    client = gateway.world.client()
    client.send(said)
    backend = gateway.world.backend()
    assert backend.read() == said
    return client, backend


# Carrying.


@pytest.mark.parametrize("side", SIDES)
def test_bytes_go_both_ways_as_they_are(make, side):
    gateway = make(side)
    client, backend = joined(gateway, b"GET / not HTTP at all\r\n\r\n\0\xff")
    backend.send(b"\0\1\2answer")
    assert client.read() == b"\0\1\2answer"
    client.send(b"more")
    assert backend.read() == b"more"
    assert gateway.frontend.exchanges == gateway.frontend.tunnels == 1


@pytest.mark.parametrize("side", SIDES)
def test_a_server_may_speak_first(make, side):
    gateway = make(side)
    client = gateway.world.client()
    gateway.world.backend().send(b"220 ready\r\n")
    assert client.read() == b"220 ready\r\n"


@pytest.mark.parametrize("side", SIDES)
def test_what_a_client_says_before_a_backend_has_accepted_is_held_and_bounded(make, side):
    gateway = make(side)
    gateway.world.dial.hang.update(("a:80", "b:80"))
    client = gateway.world.client()
    sent = 0
    for _ in range(200):
        try:
            sent += client.offer(MEGABYTE[:65536])
        except BlockingIOError:
            break
        gateway.run()
    assert sent < 100 * 65536  # the rest waits in the kernel
    client.close()
    gateway.advance(60)
    assert gateway.empty


@pytest.mark.parametrize("side", SIDES)
def test_a_fin_of_the_client_is_passed_on_and_the_backend_may_go_on(make, side):
    client, backend = joined(make(side))
    client.shut()
    backend.read()
    assert backend.closed
    assert not client.closed
    backend.send(b"the answer")
    assert client.read() == b"the answer"
    backend.shut()
    client.read()
    assert client.closed


def test_how_long_sessions_last_is_no_time_that_those_with_a_deadline_need(make):
    gateway = make(timeouts={"deadline_s": 1.0})
    for _ in range(4):
        client, backend = joined(gateway)
        gateway.advance(11)
        client.shut()
        backend.shut()
        gateway.advance(1)
    assert [record.ended_by for record in gateway.records] == [Outcome.OK] * 4
    assert (
        sum(backend.totals.answers()[0] for backend in gateway.world.plane.clusters["default"].pool.backends.values())
        == 4
    )


def test_a_fin_of_the_backend_is_passed_on_and_the_client_may_go_on(make):
    client, backend = joined(make())
    backend.shut()
    client.read()
    assert client.closed
    client.send(b"still here")
    assert backend.read() == b"still here"
    client.shut()
    backend.read()
    assert backend.closed


def test_a_fin_that_came_before_the_backend_had_accepted_is_passed_on_behind_what_came(make):
    gateway = make()
    client = gateway.world.client()
    client.offer(b"question")
    client.shut()
    backend = gateway.world.backend()
    assert backend.read() == b"question"
    assert backend.closed
    backend.send(b"answer").shut()
    assert client.read() == b"answer"
    assert client.closed
    assert [record.ended_by for record in gateway.records] == [Outcome.OK]


def test_a_client_that_is_reset_has_its_backend_reset(make):
    gateway = make()
    client, backend = joined(gateway)
    client.send(b"unread")
    client.reset()
    backend.read()
    assert backend.was_reset or backend.closed
    assert [record.ended_by for record in gateway.records] == [Outcome.CLIENT_GONE]


def test_a_backend_that_resets_is_seen_to_and_not_blamed(make):
    gateway = make(names=("a:80",))
    client, backend = joined(gateway)
    backend.send(b"half of it")
    client.send(b"never read")
    backend.reset()
    gateway.advance(3)
    assert client.read() == b"half of it"
    gateway.advance(3)
    client.read()
    assert client.was_reset
    [record] = gateway.records
    assert (record.ended_by, record.outcome) == (Outcome.CUT_SHORT, Outcome.OK)
    assert "reset" in record.detail
    assert gateway.world.outcomes()["OK"] == 1


@pytest.mark.parametrize("side", SIDES)
def test_a_megabyte_goes_through_whole_however_slowly_it_is_taken(make, side):
    gateway = make(side)
    client, backend = joined(gateway)
    rest = MEGABYTE
    while rest:
        try:
            rest = rest[backend.offer(rest[:100_000]) :]
        except BlockingIOError:
            pass
        client.read()
    while len(client.received) < len(MEGABYTE):
        client.read()
    assert client.received == MEGABYTE


def filled(gateway: Gateway, source: Peer, piece_bytes: int) -> int:
    """Have this end say so much that some of it waits here for the other one; how much that was."""
    [connection] = gateway.frontend.clients
    relay, sent = connection._speaker._relay, 0
    ends = relay._client.transport, relay._upstream.transport
    for _ in range(500):
        sent += source.offer(MEGABYTE[:piece_bytes])
        gateway.run()
        if any(end.unsent for end in ends):
            return sent
    raise AssertionError("nothing waits here")


@pytest.mark.parametrize("side", SIDES)
def test_a_slow_client_that_has_said_all_gets_the_last_of_what_it_is_sent(make, side):
    """Both sides have ended, and the connection is closed: how long that takes is a matter of its pace."""
    gateway = make(side)
    client, backend = joined(gateway)
    client.shut()
    backend.read()
    sent = filled(gateway, backend, 60_000)
    backend.close()
    assert [record.ended_by for record in gateway.records] == [Outcome.OK]
    while len(client.received) < sent:
        client.sip(SIP_BYTES)
        gateway.advance(5)
    client.read()
    assert (len(client.received), client.closed, client.was_reset) == (sent, True, False)


@pytest.mark.parametrize("side", SIDES)
def test_a_client_that_takes_nothing_of_the_last_is_reset(make, side):
    gateway = make(side)
    client, backend = joined(gateway)
    client.shut()
    backend.read()
    filled(gateway, backend, 60_000)
    backend.close()
    gateway.advance(120)
    client.read()
    assert client.was_reset
    assert gateway.empty


@pytest.mark.parametrize("side", ["tls", "tls fallback"])
def test_what_a_client_said_before_it_broke_off_tls_reaches_its_backend_and_then_a_reset(make, side):
    gateway = make(side)
    client, backend = joined(gateway)
    sent = len(b"hello") + filled(gateway, client, 16_384)
    Peer.shut(client)  # a FIN without close_notify: anybody could have sent it
    for _ in range(20):
        backend.read()
        gateway.advance(0.2)
    assert (len(backend.received), backend.was_reset) == (sent, True)
    assert [record.ended_by for record in gateway.records] == [Outcome.CLIENT_GONE]


# Choosing.


def test_sessions_are_balanced_as_requests_are(make):
    gateway = make()
    backends = [joined(gateway)[1].backend for _ in range(4)]
    assert sorted(backends[:2]) == ["a:80", "b:80"]
    assert backends[:2] == backends[2:]


def test_the_least_loaded_is_the_one_with_fewest_sessions(make):
    gateway = make(policy="least")
    first, _ = joined(gateway)
    _, second = joined(gateway)
    first.shut()
    taken = gateway.world.backend_connections[0]
    taken.shut()
    first.read()
    assert joined(gateway)[1].backend == taken.backend != second.backend


@pytest.mark.parametrize("policy", ["latency", "prequal"])
def test_what_is_compared_as_latency_is_the_connect_so_that_who_failed_once_does_not_draw_all(make, policy):
    gateway = make(policy=policy)
    hang = gateway.world.dial.hang
    hang.add("a:80")
    for _ in range(6):
        gateway.world.client()
    gateway.advance(10)
    assert gateway.world.outcomes()["CONNECT_TIMEOUT"] >= 1
    hang.clear()
    taken = [joined(gateway)[1].backend for _ in range(8)]
    assert "b:80" in taken


def test_a_backend_that_refuses_is_followed_by_another_one_and_nothing_is_lost(make):
    gateway = make()
    gateway.world.dial.refuse.add("a:80")
    for _ in range(2):
        client, backend = joined(gateway, b"said before anybody was there")
        assert backend.backend == "b:80"
        client.shut()
        backend.shut()
    [record] = [one for one in gateway.records if len(one.attempts) > 1]
    assert [attempt.outcome for attempt in record.attempts] == [Outcome.REFUSED, Outcome.OK]
    assert record.ended_by is Outcome.OK


@pytest.mark.parametrize("side", SIDES)
def test_without_a_backend_the_client_is_reset(make, side):
    gateway = make(side)
    gateway.world.dial.refuse.update(("a:80", "b:80"))
    client = gateway.world.client()
    client.read()
    assert client.was_reset
    [record] = gateway.records
    assert record.ended_by is Outcome.REFUSED
    assert gateway.empty


def test_a_session_waits_for_room_and_leaves_its_place_when_its_client_goes(make):
    gateway = make(names=("a:80",), max_in_flight=1, queue={"timeout_s": 5})
    first, backend = joined(gateway)
    second, third = gateway.world.client(), gateway.world.client()
    assert len(gateway.world.cluster.waiting) == 2
    second.close()
    assert len(gateway.world.cluster.waiting) == 1
    first.shut()
    backend.shut()
    third.send(b"now")
    assert gateway.world.backend().read() == b"now"
    assert [record.ended_by for record in gateway.records] == [Outcome.CLIENT_GONE, Outcome.OK]


def test_a_session_that_has_waited_too_long_is_reset(make):
    gateway = make(names=("a:80",), max_in_flight=1, queue={"timeout_s": 5})
    joined(gateway)
    second = gateway.world.client()
    gateway.advance(6)
    second.read()
    assert second.was_reset
    assert gateway.records[0].ended_by is Refusal.ALL_FULL


# Who may come.


def test_those_whom_the_listener_keeps_out_are_reset_and_counted(make):
    gateway = make(defaults={"listener": {"deny_clients": ["127.0.0.0/8", "10.0.0.0/8"]}})
    client = gateway.come(peer=("10.0.0.1", 40_000))
    client.read()
    assert client.was_reset
    assert gateway.records[0].ended_by is Refusal.FORBIDDEN
    tallies = list(gateway.world.plane.routing.denials.values())
    assert isinstance(tallies[0], Tally)
    assert sum(one.refused for one in tallies) == 1


def test_a_client_has_so_many_connections_as_it_may_have(make):
    gateway = make(limits={"connections_per_client": 1})
    joined(gateway)
    second = gateway.world.client()
    second.read()
    assert second.was_reset
    assert gateway.records[0].ended_by is Refusal.RATE_LIMITED


# Ends.


def test_silence_has_an_end(make):
    gateway = make(tunnel_idle_s=100)
    client, backend = joined(gateway)
    gateway.advance(60)
    client.send(b"x")
    gateway.advance(60)
    assert backend.read() == b"x"
    assert not client.closed
    gateway.advance(60)
    client.read()
    assert client.closed or client.was_reset
    assert gateway.empty


def test_a_client_that_takes_nothing_has_as_long_as_silence_may_last(make):
    gateway = make(tunnel_idle_s=100, response_idle_s=5)
    client, backend = joined(gateway)
    for _ in range(200):
        try:
            backend.offer(MEGABYTE[:100_000])
        except BlockingIOError:
            break
        gateway.run()
    gateway.advance(90)
    assert not gateway.empty  # a slow read of HTTP would have ended
    gateway.advance(120)
    assert gateway.empty
    assert "does not take" in gateway.records[0].detail
    client.close()


def test_a_stop_lets_sessions_go_on_and_its_end_cuts_them(make):
    gateway = make()
    client, backend = joined(gateway)
    gateway.world.plane.drain(10)
    gateway.advance(5)
    client.send(b"still")
    assert backend.read() == b"still"
    gateway.world.plane.hurry()
    gateway.frontend.kill()
    client.read()
    assert client.was_reset
    [record] = gateway.records
    assert record.ended_by is Outcome.CANCELLED


def test_what_is_counted_of_a_session(make):
    gateway = make(names=("a:80",))
    client, backend = joined(gateway, b"12345")
    backend.send(b"1234567").shut()
    client.read()
    client.shut()
    [record] = gateway.records
    assert (record.method, record.status, record.request_bytes, record.response_bytes) == (b"TCP", 0, 5, 7)
    [flow] = gateway.frontend.flows.all
    assert (flow.bytes_up, flow.bytes_down, flow.begun, flow.open) == (5, 7, 1, 0)
    assert gateway.world.outcomes()["OK"] == 1
    [told] = gateway.world.plane.explained("recent", 10)
    assert [(one.backend, one.outcome) for one in told.attempts] == [("a:80", "OK")]
    assert gateway.world.plane.explain(record.request_id.decode()) is not None


def test_a_session_that_runs_is_told_of(make):
    gateway = make(names=("a:80",))
    joined(gateway)
    [note] = gateway.frontend.running
    assert (note.method, note.pool, note.ended_at) == (b"TCP", "default", float("inf"))


# Who is behind a PROXY header, and whom a backend is told.


def test_a_session_is_of_whom_a_proxy_header_names(make):
    gateway = make(forwarding={"proxy_protocol": "require"})
    client = gateway.come(peer=("10.0.0.1", 1000))
    client.send(proxy_v1("203.0.113.9", 4000, "198.51.100.1", 5432) + b"hello")
    backend = gateway.world.backend()
    assert backend.read() == b"hello"
    client.shut()
    backend.shut()
    assert gateway.records[0].client == "203.0.113.9"


# By the name of a ClientHello.

TLS_HELLO = hello(server_name(b"db.example.com"))
POOLS = {"default": {"backends": ["a:80"]}, "db": {"backends": ["d:80"]}, "any": {"backends": ["w:80"]}}
NAMED = [
    {"sni": "db.example.com", "pool": "db"},
    {"sni": "*.example.com", "pool": "any"},
    {"sni": "ended.example.org", "terminate_tls": True, "pool": "any"},
]


def named(make_one, side: str = "engine", protocol: str = "tcp", default_pool: str = "default") -> Gateway:
    tls = {"tls": "self-signed"} if side.startswith("tls") else {}
    listener = {"address": ":1", "protocol": protocol, "default_pool": default_pool, **tls}
    pools = {name: {**pool, "queue": {"no_backend_s": 0}} for name, pool in POOLS.items()}
    gateway = Gateway(side, names=(), listeners={"default": listener}, pools=pools, routes=NAMED[: 3 if tls else 2])
    make_one.append(gateway)
    return gateway


@pytest.fixture
def gateways():
    found: list[Gateway] = []
    yield found
    for gateway in found:
        gateway.world.close()


def unverified() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def first_backend(gateway: Gateway) -> Peer:
    return gateway.world.backend()


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("protocol", ["tcp", "http"])
def test_the_name_leads_and_the_hello_stays_as_it_was_wherever_it_is_split(gateways, side, protocol):
    if protocol == "http" and not side.startswith("tls"):
        pytest.skip("a listener of plain HTTP hears no names")
    gateway = named(gateways, side, protocol)
    for at in (0, 1, 5, 6, 40, len(TLS_HELLO) - 1):
        client = gateway.come()
        if at:
            client.send(TLS_HELLO[:at])
        client.send(TLS_HELLO[at:] + b"and more")
        backend = first_backend(gateway)
        assert backend.backend == "d:80"
        assert backend.read() == TLS_HELLO + b"and more"
        backend.send(b"\x16records")
        assert client.read() == b"\x16records"
        client.close()
        backend.close()
    assert {record.host for record in gateway.records} == {b"db.example.com"}


def test_the_first_route_that_takes_a_name_has_it(gateways):
    gateway = named(gateways)
    for name, backend in ((b"www.example.com", "w:80"), (b"a.b.example.com", "w:80"), (b"DB.Example.com", "d:80")):
        gateway.come().send(hello(server_name(name)))
        assert first_backend(gateway).backend == backend


@pytest.mark.parametrize(
    "said", [hello(), hello(server_name(b"example.com")), b"no TLS at all", b"GET / HTTP/1.1\r\n\r\n"]
)
def test_whatever_no_route_takes_has_the_default_pool_of_tcp(gateways, said):
    gateway = named(gateways)
    gateway.come().send(said)
    backend = first_backend(gateway)
    assert (backend.backend, backend.read()) == ("a:80", said)


def test_who_says_nothing_is_led_to_the_default_pool_once_it_had_its_time(gateways):
    gateway = named(gateways)
    client = gateway.come()
    gateway.advance(11)
    backend = first_backend(gateway)
    backend.send(b"220 hello")
    assert client.read() == b"220 hello"


def test_an_unknown_name_is_told_so_where_there_is_no_default_pool(gateways):
    gateway = Gateway(
        "engine",
        names=(),
        listeners={"default": {"address": ":1", "protocol": "tcp"}},
        pools={"db": {"backends": ["d:80"]}},
        routes=[{"sni": "db.example.com", "pool": "db"}],
    )
    gateways.append(gateway)
    client = gateway.come()
    client.send(hello(server_name(b"other.example.com")))
    assert client.read() == alert(UNRECOGNIZED_NAME)
    assert gateway.failures == {"no_route": 1}
    stranger = gateway.come()
    stranger.send(b"no TLS at all")
    stranger.read()
    assert stranger.was_reset
    assert gateway.records[-1].ended_by is Refusal.NO_ROUTE


def test_names_that_no_route_takes_are_served_http_on_the_same_listener(gateways):
    gateway = named(gateways, "tls", "http")
    client = gateway.enter(name="localhost")
    client.send(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
    assert gateway.world.backend().read().startswith(b"GET / HTTP/1.1\r\n")


@pytest.mark.parametrize("protocol", ["tcp", "http"])
def test_tls_ends_here_where_the_route_says_so_and_what_is_in_it_is_carried(gateways, protocol):
    gateway = named(gateways, "tls", protocol)
    client = gateway.enter(name="ended.example.org", context=unverified())
    client.send(b"inside of TLS")
    backend = gateway.world.backend()
    assert (backend.backend, backend.read()) == ("w:80", b"inside of TLS")
    backend.send(b"answer").shut()
    assert client.read() == b"answer"
    client.shut()
    [record] = gateway.records
    assert (record.host, record.agreed.version, record.ended_by) == (b"ended.example.org", "TLSv1.3", Outcome.OK)


def test_routes_come_into_force_for_new_connections_by_a_reload(gateways):
    gateway = named(gateways)
    before = gateway.come()
    before.send(TLS_HELLO)
    gateway.world.configure(routes=[{"sni": "db.example.com", "pool": "any"}])
    after = gateway.come()
    after.send(TLS_HELLO)
    assert [one.backend for one in gateway.world.backend_connections] == ["d:80", "w:80"]
    before.send(b"goes on")
    assert gateway.world.backend_connections[0].read() == TLS_HELLO + b"goes on"


@pytest.mark.parametrize("protocol", ["tcp", "http"])
def test_what_our_own_tls_has_opened_goes_to_nobody_who_is_to_get_it_closed(gateways, protocol):
    """A reload while the handshake is made has the name passed on as it is: what came out of TLS here would go there in the clear."""
    gateway = named(gateways, "tls", protocol)
    client = gateway.knock(name="ended.example.org", context=unverified())
    assert not client.shake()  # it has said its ClientHello, and has an answer
    gateway.world.configure(routes=[{"sni": "ended.example.org", "pool": "db"}])
    while not client.shake():
        pass
    client.read()
    assert gateway.world.backend_connections == []
    assert client.was_reset
    assert gateway.records[-1].ended_by is Refusal.NO_ROUTE
    assert gateway.empty
