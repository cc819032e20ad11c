"""PROXY headers to backends: in front of the first request, one client's connection each, LOCAL in checks."""

import ssl
from typing import Any

import pytest
from authority import Authority
from house import House
from tls_peers import Policy, Serving, TlsEnd
from wires import stream_pair
from world import Peer, TlsPeer, World

from twisted_lb.config.scripts import ScriptConfig
from twisted_lb.core.address import TcpAddress
from twisted_lb.core.backend import AdminState
from twisted_lb.net.greeting import Greetings
from twisted_lb.net.proxied import proxy_header
from twisted_lb.net.secured import Secured
from twisted_lb.probes import Connecting, NetworkProbe
from twisted_lb.script_check import ScriptCheck
from twisted_lb.wire.proxy_protocol import (
    CLIENT_CERT_CONN,
    CLIENT_CERT_SESS,
    CLIENT_SSL,
    LOCAL_V2,
    UNKNOWN_V1,
    proxy_v1,
    read_proxy,
)

GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
POST = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nhi"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


@pytest.fixture
def build():
    made: list[World] = []

    def world(*names: str, proxy: str = "v1", pool: dict[str, Any] | None = None, **options: Any) -> World:
        app = {
            "backends": list(names or ("a:80",)),
            "send_proxy": proxy,
            "queue": {"no_backend_s": 0.0},
            **(pool or {}),
        }
        options.setdefault("routes", [{"pool": "app"}])
        one = World((), pools={"app": app}, **options)
        made.append(one)
        return one

    yield world
    for one in made:
        one.close()


def answer(backend: Peer, client: Peer) -> bytes:
    """What the backend was sent; it answers, and the client hears it."""
    asked = backend.read()
    backend.send(OK)
    assert client.read().endswith(b"ok")
    return asked


def arrived(world: World, peer: tuple[str, int] = ("192.0.2.7", 40000)) -> Peer:
    """A client at this address, in the order of its connections."""
    near, far = stream_pair()
    world.arrive(near, peer)
    world.run()
    client = Peer(world, far)
    world._clients.append(client)
    return client


def test_a_header_stands_in_front_of_the_first_request_and_of_no_other(build):
    world = build()
    client = world.client().send(GET)
    port = client.sock.getsockname()[1]
    asked = answer(world.backend(), client)
    header, _, request = asked.partition(b"\r\n")
    assert header == b"PROXY TCP4 127.0.0.1 127.0.0.1 %d %d" % (port, client.sock.getpeername()[1])
    assert request.startswith(b"GET / HTTP/1.1\r\n")
    client.send(GET)
    assert answer(world.backend(), client).startswith(b"GET / HTTP/1.1\r\n")
    assert len(world.backend_connections) == 1


def test_header_and_request_are_one_segment(build):
    world = build()
    world.client().send(GET)
    [peer] = world.backend_connections
    first = peer.sock.recv(1 << 16)
    assert first.startswith(b"PROXY TCP4")
    assert first.endswith(b"\r\n\r\n")


def test_version_2_says_the_same_in_binary(build):
    world = build(proxy="v2")
    client = world.client().send(GET)
    asked = answer(world.backend(), client)
    header = read_proxy(asked)
    assert header is not None
    assert (header.source, header.source_port) == client.sock.getsockname()
    assert (header.destination, header.destination_port) == client.sock.getpeername()
    assert header.tlvs == ()
    assert asked[header.size :].startswith(b"GET / ")


def test_each_client_has_a_connection_of_its_own_and_none_is_pooled(build):
    world = build()
    clients = [world.client() for _ in range(2)]
    for _ in range(2):
        for client, index in zip(clients, (0, 1), strict=True):
            client.send(GET)
            answer(world.backend(index), client)
    assert len(world.backend_connections) == 2
    assert world.cluster.idle == 0
    clients[0].close()
    world.backend(0).read()
    assert world.backend(0).closed, "it goes with its client"
    assert not world.backend(1).closed


def test_a_client_stays_where_its_connection_is(build):
    world = build("a:80", "b:80", "c:80")
    client = world.client()
    for _ in range(4):
        client.send(GET)
        answer(world.backend(), client)
    assert len(world.backend_connections) == 1


def test_a_policy_by_key_is_asked_for_each_request(build):
    world = build("a:80", "b:80", "c:80", pool={"policy": "maglev"}, routes=[{"pool": "app", "key": "path"}])
    client = world.client()
    seen: dict[bytes, set[str]] = {}
    for path in (b"/1", b"/2", b"/3", b"/4", b"/5", b"/1", b"/2", b"/3", b"/4", b"/5"):
        client.send(GET.replace(b" / ", b" " + path + b" "))
        peer = world.backend()
        answer(peer, client)
        seen.setdefault(path, set()).add(peer.backend)
    assert all(len(backends) == 1 for backends in seen.values())
    assert len(set.union(*seen.values())) > 1


def test_a_backend_that_goes_to_maintenance_is_left_by_its_clients(build):
    world = build("a:80", "b:80")
    client = world.client().send(GET)
    answer(world.backend(), client)
    first = world.backend().backend
    world.cluster.command(first, AdminState.MAINT)
    client.send(GET)
    assert world.backend().backend != first
    answer(world.backend(), client)


def test_a_kept_connection_that_was_closed_meanwhile_is_made_anew_with_its_header(build):
    world = build()
    client = world.client().send(GET)
    answer(world.backend(), client)
    world.backend().close()
    client.send(GET)
    assert answer(world.backend(), client).startswith(b"PROXY TCP4 ")
    assert len(world.backend_connections) == 2


def test_what_must_not_be_sent_twice_takes_no_connection_that_was_idle_for_long(build):
    world = build()
    client = world.client().send(POST)
    answer(world.backend(), client)
    client.send(POST)
    answer(world.backend(), client)
    assert len(world.backend_connections) == 1
    world.advance(3)
    client.send(POST)
    answer(world.backend(), client)
    assert len(world.backend_connections) == 2


def test_bounds_of_connections_hold_for_them_too(build):
    world = build(pool={"upstream": {"max_requests": 2}})
    client = world.client()
    for _ in range(4):
        client.send(GET)
        answer(world.backend(), client)
    assert len(world.backend_connections) == 2


def test_a_retry_tells_the_next_backend_too(build):
    world = build("a:80", "b:80")
    client = world.client().send(GET)
    world.backend().read()
    world.backend().reset()
    assert answer(world.backend(), client).startswith(b"PROXY TCP4 ")


def test_whom_a_proxy_header_names_is_told_on_with_where_he_came_to(build):
    world = build(proxy="v2", listeners={"default": {"address": "127.0.0.1:0", "proxy_protocol": "require"}})
    client = arrived(world)
    client.send(proxy_v1("203.0.113.9", 1234, "203.0.113.1", 443) + GET)
    header = read_proxy(answer(world.backend(), client))
    assert header is not None
    assert (header.source, header.source_port) == ("203.0.113.9", 1234)
    assert (header.destination, header.destination_port) == ("203.0.113.1", 443)


def test_whom_a_field_of_a_trusted_proxy_names_is_not(build):
    world = build(forwarding={"trusted_proxies": ["127.0.0.1"]})
    client = world.client().send(GET.replace(b"Host: x", b"Host: x\r\nX-Forwarded-For: 203.0.113.9"))
    assert b"PROXY TCP4 127.0.0.1 " in answer(world.backend(), client)


def test_version_2_says_how_the_client_speaks_tls(build):
    world = build(proxy="v2", side="tls")
    client = world.client().send(GET)
    header = read_proxy(answer(world.backend(), client))
    assert header is not None
    assert header.authority == "localhost"
    assert header.ssl is not None
    assert (header.ssl.version, header.ssl.common_name, header.ssl.verified) == ("TLSv1.3", "", False)
    assert header.ssl.cipher.startswith("TLS_")


def agreed_with(authority: Authority, server_name: str) -> list[Secured]:
    """What was agreed on with a client who has shown a certificate, and again when he resumed that session."""
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.maximum_version = ssl.TLSVersion.TLSv1_2
    server.verify_mode = ssl.CERT_REQUIRED
    authority.ca.configure_trust(server)
    authority.leaf(server_name).configure_cert(server)
    client = ssl.create_default_context()
    authority.ca.configure_trust(client)
    authority.leaf("alice@example.com", common_name="älice").configure_cert(client)
    found: list[Secured] = []
    session = None
    for _ in range(2):
        theirs, ours = TlsEnd(client, name=server_name, session=session), TlsEnd(server, server_side=True)
        while not (theirs.shake() and ours.shake()):
            ours.inbound.write(theirs.outbound.read())
            ours.shake()
            theirs.inbound.write(ours.outbound.read())
        theirs.inbound.write(ours.outbound.read())
        session = theirs.tls.session
        found.append(Secured(Serving(), Policy(), server_name, ours.tls))
        found[-1].complete()
    return found


def test_version_2_names_the_certificate_of_the_client(tmp_path):
    flags = []
    for secured in agreed_with(Authority(tmp_path), "www.test"):
        header = read_proxy(proxy_header(2, ("::1", 1), ("::2", 2), secured))
        assert header is not None
        assert header.ssl is not None
        assert (header.source, header.authority) == ("::1", "www.test")
        assert (header.ssl.version, header.ssl.common_name, header.ssl.verified) == ("TLSv1.2", "älice", True)
        flags.append(header.ssl.client)
    assert flags == [CLIENT_SSL | CLIENT_CERT_CONN | CLIENT_CERT_SESS, CLIENT_SSL | CLIENT_CERT_SESS]


def test_the_header_stands_before_tls(build, tmp_path):
    authority = Authority(tmp_path)
    world = build("a.test:443", pool={"tls": {"ca": authority.path}})
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.leaf("a.test").configure_cert(context)
    world.dial.tls["a.test:443"] = context
    client = world.client().send(GET)
    backend = world.backend()
    assert isinstance(backend, TlsPeer)
    header, _, hello = backend._wire().partition(b"\r\n")
    assert header.startswith(b"PROXY TCP4 127.0.0.1 ")
    assert hello[:1] == b"\x16"
    backend.end.inbound.write(hello)
    backend.up()
    assert answer(backend, client).startswith(b"GET / HTTP/1.1\r\n")


@pytest.mark.parametrize(("proxy", "header"), [("v1", UNKNOWN_V1), ("v2", LOCAL_V2)])
def test_a_check_says_that_it_is_ours(build, proxy, header):
    world = build(proxy=proxy)
    probe = NetworkProbe(world.dial, world.deadlines, world.time.seconds, Connecting())
    probe.greetings = world.cluster.greetings
    told: list[Any] = []
    probe.ask(TcpAddress("a", 80), 2.0).addCallback(told.append)
    world.run()
    assert [one.passed for one in told] == [True]
    assert world.backend().sock.recv(100) == header


@pytest.mark.parametrize(("proxy", "header"), [("v1", UNKNOWN_V1), ("v2", LOCAL_V2)])
def test_a_script_says_first_that_it_is_ours(build, proxy, header):
    world = build(proxy=proxy)
    script = ScriptConfig(preset="memcached").script
    probe = NetworkProbe(world.dial, world.deadlines, world.time.seconds, ScriptCheck(script))
    probe.greetings = world.cluster.greetings
    told: list[Any] = []
    probe.ask(TcpAddress("a", 80), 2.0).addCallback(told.append)
    world.run()
    assert world.backend().read() == header + b"version\r\n"
    world.backend().send(b"VERSION 1.6\r\n")
    assert [(one.passed, one.reason) for one in told] == [(True, 'got "VERSION 1.6"')]
    assert world.backend().read() == b"quit\r\n"


def test_a_resource_tells_who_asks_and_closes_each_time(build):
    world = build(side="resource")
    for _ in range(2):
        client = world.client().send(GET.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
        backend = world.backend()
        asked = backend.read()
        assert asked.startswith(b"PROXY TCP4 127.0.0.1 127.0.0.1 %d " % client.sock.getsockname()[1])
        backend.send(OK)
        backend.read()
        assert backend.closed


def test_a_mirror_is_told_of_the_original_s_client(build):
    pools = {
        "app": {"backends": ["a:80"], "mirror": {"to": "next", "percent": 100.0}, "queue": {"no_backend_s": 0.0}},
        "next": {"backends": ["b:80"], "send_proxy": "v1", "queue": {"no_backend_s": 0.0}},
    }
    world = World((), pools=pools, routes=[{"pool": "app"}])
    client = world.client().send(GET)
    world.run()
    [original, mirrored] = sorted(world.backend_connections, key=lambda one: one.backend)
    assert mirrored.read().startswith(b"PROXY TCP4 127.0.0.1 127.0.0.1 %d " % client.sock.getsockname()[1])
    mirrored.send(OK)
    answer(original, client)
    mirrored.read()
    assert mirrored.closed
    world.close()


def test_a_pool_that_begins_to_send_headers_uses_no_connection_from_before(build):
    world = build(proxy="off")
    client = world.client().send(GET)
    assert answer(world.backend(), client).startswith(b"GET ")
    world.configure(pools={"app": dict(world._options["pools"]["app"], send_proxy="v1")})
    world.backend().read()
    assert world.backend().closed
    client.send(GET)
    assert answer(world.backend(), client).startswith(b"PROXY ")
    world.configure(pools={"app": dict(world._options["pools"]["app"], send_proxy="off")})
    world.backend().read()
    assert world.backend().closed
    client.send(GET)
    assert answer(world.backend(), client).startswith(b"GET ")


def test_a_pool_that_neither_greets_has_no_greetings(build):
    assert build(proxy="off").cluster.greetings is None
    assert repr(Greetings(None, 2)) == "<Greetings: PROXY 2, None>"


def test_clients_of_unix_sockets_are_not_named():
    assert proxy_header(1, ("unix", 0), ("unix", 0), None) == UNKNOWN_V1
    assert proxy_header(2, ("unix", 0), ("unix", 0), None) == LOCAL_V2


class Listening:
    """A backend in memory, which keeps what it hears and answers each time."""

    def __init__(self) -> None:
        self.heard: list[bytes] = []
        self.transport: Any = None

    def makeConnection(self, transport: Any) -> None:
        self.transport = transport

    def dataReceived(self, data: bytes) -> None:
        self.heard.append(data)
        if data.endswith(b"\r\n\r\n"):
            self.transport.write(OK)

    def readConnectionLost(self) -> None:
        self.transport.loseConnection()

    def connectionLost(self, reason: Any) -> None:
        pass


def test_in_memory_headers_are_sent_and_tls_is_not_spoken():
    app = {"backends": ["a:80"], "send_proxy": "v1", "tls": {"verify": False}}
    house = House(pools={"app": app}, routes=[{"path": "/app", "pool": "app"}])
    backend = Listening()
    house.network.listen("a:80", lambda: backend)
    client = house.ask(GET.replace(b" / ", b" /app "))
    assert client.take().endswith(b"ok")
    # In memory the listener's address is a name, `lb`, which no header can say.
    assert b"".join(backend.heard).startswith(b"PROXY UNKNOWN\r\nGET /app HTTP/1.1\r\n")
    house.close()
