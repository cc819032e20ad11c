"""TLS to backends: verified by name, within the time of a connect, never in the clear in its place; sessions are resumed."""

import datetime as dt
import socket
import ssl
from typing import Any

import pytest
from authority import NOW, Authority, chain_of, key_of
from street import GET, OK, POST, A, B, Street, at
from world import TlsPeer, World, settings

from twisted_lb.config import LoadBalancerConfig
from twisted_lb.config.scripts import ScriptConfig
from twisted_lb.core.address import TcpAddress
from twisted_lb.core.backend import AdminState
from twisted_lb.core.events import BackendEjected
from twisted_lb.http_check import HttpCheck, HttpQuestion
from twisted_lb.net.greeting import Greetings, host_of
from twisted_lb.plan import plan_of
from twisted_lb.plan_diff import diff_of
from twisted_lb.probes import Connecting, NetworkProbe
from twisted_lb.script_check import ScriptCheck
from twisted_lb.tls.outgoing import Outgoing, OutgoingSettings
from twisted_lb.wire.grammar import Limits


@pytest.fixture
def street(tmp_path):
    one = Street(tmp_path)
    yield one
    for world in one.worlds:
        world.close()


def refused(peer: TlsPeer) -> None:
    """The handshake ends in an alert of ours."""
    with pytest.raises(ssl.SSLError):
        peer.up()


def ejections(world: World) -> list[str]:
    """Why backends were ejected."""
    return [event.because for event in world.events if isinstance(event, BackendEjected)]


def status(client: Any) -> bytes:
    return client.read()[9:12]


def test_a_request_goes_over_tls_to_a_backend_of_the_authority_by_its_name(street):
    world = street.world()
    client = world.client().send(GET)
    backend = at(world).up()
    assert backend.read().startswith(b"GET / HTTP/1.1\r\nHost: x\r\n")
    assert backend.end.tls.version() == "TLSv1.3"
    backend.send(OK)
    assert client.read().endswith(b"\r\n\r\nok")
    assert world.dial.greetings[0].name == "a.test"


def test_a_connection_over_tls_is_kept_and_used_again(street):
    world = street.world()
    client = world.client().send(GET)
    backend = at(world).up()
    for _ in range(3):
        backend.read()
        backend.send(OK)
        assert client.read().endswith(b"ok")
        client.send(GET)
    assert len(world.backend_connections) == 1
    backend.read()
    backend.send(OK)


def test_no_byte_of_a_request_is_sent_before_the_handshake_is_over(street):
    world = street.world()
    world.client().send(GET.replace(b"Host: x", b"Host: x\r\nCookie: secret"))
    peer = at(world)
    hello = peer._wire()
    assert hello[:1] == b"\x16"
    assert b"secret" not in hello
    assert b"a.test" in hello  # SNI
    peer.sock.close()
    world.run()


@pytest.mark.parametrize(
    ("names", "more", "why"),
    [
        (("b.test",), {}, "Hostname mismatch, certificate is not valid for 'a.test'."),
        (("a.test",), {"not_before": NOW - dt.timedelta(2), "not_after": NOW - dt.timedelta(1)}, "certificate has expired"),
    ],
)  # fmt: skip
def test_a_backend_with_a_wrong_certificate_is_refused_ejected_and_another_one_asked(street, names, more, why):
    world = street.world(A, B)
    world.dial.tls[A] = street.serving(*names, **more)
    client = world.client().send(GET)
    if world.dial.dialled == [B]:
        at(world).up().send(OK)
        client.read()
        client.send(GET)
    refused(at(world))
    [peer] = [one for one in world.backend_connections if one.backend == B]
    assert isinstance(peer, TlsPeer)
    if not peer.end.up:
        peer.up()
    assert peer.read().endswith(b"\r\n\r\n")
    peer.send(OK)
    assert client.read().endswith(b"ok")
    assert world.outcomes()["REFUSED"] == 1
    [ejected] = [one for one in world.record if one.ejection.active]
    assert ejected.name == A
    assert f"TLS: CERTIFICATE_VERIFY_FAILED: {why}" in ejections(world)


def test_an_unknown_authority_is_refused_and_never_spoken_to_in_the_clear(street, tmp_path_factory):
    world = street.world()
    stranger = Authority(tmp_path_factory.mktemp("else"), "else")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    stranger.leaf("a.test").configure_cert(context)
    world.dial.tls[A] = context
    client = world.client().send(GET)
    peer = at(world)
    refused(peer)
    assert status(client) == b"502"
    assert b"HTTP/1.1" not in peer._wire()
    assert len(world.backend_connections) == 1


def test_who_speaks_no_tls_is_refused(street):
    world = street.world()
    client = world.client().send(GET)
    peer = at(world)
    peer.sock.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
    world.run()
    assert status(client) == b"502"
    assert world.outcomes() == {"REFUSED": 1}


def test_who_closes_in_the_handshake_is_refused(street):
    world = street.world()
    client = world.client().send(GET)
    at(world).sock.recv(1 << 16)
    at(world).close()
    assert status(client) == b"502"
    assert ejections(world) == ["TLS: it closed the connection"]


def test_a_handshake_that_does_not_end_is_a_connect_that_takes_too_long(street):
    world = street.world(pool={"timeouts": {"connect_s": 3.0}, "retry": {"more_attempts": 0}})
    client = world.client().send(GET)
    world.advance(2.9)
    assert client.read() == b""
    world.advance(0.2)
    assert status(client) == b"504"
    assert world.outcomes() == {"CONNECT_TIMEOUT": 1}
    assert at(world).sock.recv(1 << 16)  # its hello
    assert at(world).sock.recv(1) == b""


def test_a_client_that_leaves_takes_the_handshake_with_it(street):
    world = street.world()
    client = world.client().send(GET)
    client.close()
    assert world.outcomes() == {"CLIENT_GONE": 1}
    peer = at(world)
    assert peer.sock.recv(1 << 16)
    assert peer.sock.recv(1) == b""


def test_a_request_that_waits_for_the_handshake_is_sent_with_its_body(street):
    world = street.world()
    client = world.client().send(POST[:-1])
    backend = at(world)
    client.send(POST[-1:])
    backend.up()
    assert backend.read().endswith(b"\r\n\r\nhi")
    backend.send(OK)
    assert status(client) == b"200"


def test_a_server_name_goes_before_the_backend_s_own(street):
    world = street.world(tls={"server_name": "inner.test"})
    world.dial.tls[A] = street.serving("inner.test")
    client = world.client().send(GET)
    at(world).up().send(OK)
    assert status(client) == b"200"
    assert world.dial.greetings[0].name == "inner.test"


def test_an_address_is_verified_and_not_asked_for(street):
    world = street.world("10.0.0.1:443")
    client = world.client().send(GET)
    peer = at(world)
    peer.end.tls.context.sni_callback = lambda _tls, name, _context: seen.append(name)
    seen: list[str | None] = []
    peer.up().send(OK)
    assert status(client) == b"200"
    assert seen == [None]


def test_routes_with_hosts_of_their_own_have_connections_of_their_own(street):
    routes = [
        {"path": "/one", "pool": "app", "forwarding": {"host": "one.test"}},
        {"path": "/two", "pool": "app", "forwarding": {"host": "two.test:8443"}},
        {"pool": "app"},
    ]
    world = street.world(routes=routes)
    world.dial.tls[A] = street.serving("one.test", "two.test", "a.test")
    for _ in range(2):
        for path in (b"/one", b"/two", b"/"):
            client = world.client().send(GET.replace(b" / ", b" " + path + b" "))
            index = {b"/one": 0, b"/two": 1, b"/": 2}[path]
            backend = at(world, index)
            if not backend.end.up:
                backend.up()
            assert backend.read().startswith(b"GET " + path)
            backend.send(OK)
            assert status(client) == b"200"
            client.close()
    assert [one.name for one in world.dial.greetings] == ["one.test", "two.test", "a.test"]
    assert world.cluster.idle == 3
    world.cluster.close_idle()


def test_a_backend_s_own_host_is_the_name_where_a_route_sends_that(street):
    world = street.world(routes=[{"pool": "app", "forwarding": {"host": "backend"}}])
    client = world.client().send(GET)
    backend = at(world).up()
    assert b"Host: a.test:443\r\n" in backend.read()
    backend.send(OK)
    assert status(client) == b"200"


def test_sessions_are_resumed_with_tickets_that_came_after_the_handshake(street):
    world = street.world()
    for resumed in (False, True, True):
        client = world.client().send(GET)
        backend = at(world).up()
        assert backend.end.tls.session_reused is resumed
        backend.read()
        backend.send(OK.replace(b"OK\r\n", b"OK\r\nConnection: close\r\n"))
        assert status(client) == b"200"
        client.close()
        backend.close()


def test_a_session_is_of_the_name_that_was_verified(street):
    routes = [{"path": "/one", "pool": "app", "forwarding": {"host": "one.test"}}, {"pool": "app"}]
    world = street.world(routes=routes)
    world.dial.tls[A] = street.serving("a.test")
    client = world.client().send(GET)
    at(world).up().send(OK)
    assert status(client) == b"200"
    client.send(GET.replace(b" / ", b" /one "))
    refused(at(world))
    assert status(client) == b"502"


def test_another_authority_is_in_force_for_new_connections_and_kept_ones_are_used_no_more(street, tmp_path_factory):
    world = street.world()
    clients = [world.client().send(GET) for _ in range(2)]
    kept, busy = at(world, 0).up(), at(world, 1).up()
    kept.send(OK)
    assert status(clients[0]) == b"200"
    other = Authority(tmp_path_factory.mktemp("else"), "else")
    pool = dict(world._options["pools"]["app"], tls={"ca": other.path})
    world.configure(pools={"app": pool})
    kept.read()
    assert kept.closed
    busy.send(OK)
    assert status(clients[1]) == b"200"
    busy.read()
    assert busy.closed, "it served its request, and no other"
    clients[0].send(GET)
    refused(at(world))
    assert status(clients[0]) == b"502"


def test_a_reload_that_says_the_same_keeps_connections_and_sessions(street):
    world = street.world()
    client = world.client().send(GET)
    at(world).up().send(OK)
    assert status(client) == b"200"
    before = world.cluster.greetings
    world.configure(pools={"app": dict(world._options["pools"]["app"], timeouts={"connect_s": 2.0})})
    assert world.cluster.greetings is before
    client.send(GET)
    at(world).read()
    at(world).send(OK)
    assert status(client) == b"200"
    assert len(world.backend_connections) == 1


def test_a_connection_that_was_dialled_before_a_reload_serves_once(street):
    world = street.world()
    client = world.client().send(GET)
    world.configure(pools={"app": dict(world._options["pools"]["app"], tls={"verify": False})})
    at(world).up().send(OK)
    assert status(client) == b"200"
    assert world.cluster.idle == 0


def test_verify_false_takes_whoever_answers(street):
    world = street.world(tls={"verify": False, "ca": None})
    world.dial.tls[A] = street.serving("elsewhere.test")
    client = world.client().send(GET)
    at(world).up().send(OK)
    assert status(client) == b"200"


def test_a_backend_that_asks_is_shown_our_certificate(street):
    ours = street.authority.leaf("lb.test")
    path = street.authority.write("ours.pem", chain_of(ours), key_of(ours))
    world = street.world(tls={"certificate": path})
    world.dial.tls[A].verify_mode = ssl.CERT_REQUIRED
    street.authority.ca.configure_trust(world.dial.tls[A])
    client = world.client().send(GET)
    backend = at(world).up()
    assert backend.end.tls.getpeercert()["subjectAltName"] == (("DNS", "lb.test"),)
    backend.send(OK)
    assert status(client) == b"200"


def test_a_backend_that_wants_a_certificate_of_ours_and_gets_none_is_no_good(street):
    world = street.world(pool={"retry": {"more_attempts": 0}})
    world.dial.tls[A].verify_mode = ssl.CERT_REQUIRED
    client = world.client().send(GET)
    refused(at(world))
    world.run()
    # TLS 1.3 has us done before it has looked: what it says then is an answer to the request.
    assert status(client) == b"502"
    assert world.outcomes() == {"NO_RESPONSE": 1}


def test_a_body_that_ends_with_the_connection_is_whole_only_behind_close_notify(street):
    for whole in (True, False):
        world = street.world()
        client = world.client().send(GET)
        backend = at(world).up()
        backend.read()
        backend.send(b"HTTP/1.1 200 OK\r\n\r\npart")
        if whole:
            backend.shut()
        else:
            backend.sock.shutdown(socket.SHUT_WR)
            world.run()
        answer = client.read()
        assert b"4\r\npart\r\n" in answer
        assert answer.endswith(b"0\r\n\r\n") is whole
        assert world.outcomes() == ({"OK": 1} if whole else {"CUT_SHORT": 1})


def test_a_tunnel_ends_well_only_behind_close_notify(street):
    for whole in (True, False):
        records = []
        world = street.world(observers=(records.append,))
        client = world.client().send(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n")
        backend = at(world).up()
        backend.read()
        backend.send(b"HTTP/1.1 101 Switching\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n\x82\x04half")
        if whole:
            backend.shut()
        else:
            backend.sock.shutdown(socket.SHUT_WR)
            world.run()
        client.read()
        while not (client.closed or client.was_reset):
            world.advance(0.2)
            client.read()
        assert client.received.endswith(b"\r\n\r\n\x82\x04half")
        assert (client.closed, client.was_reset) == (whole, not whole)
        if whole:
            client.shut()
        (record,) = records
        told = ("OK", "") if whole else ("CUT_SHORT", "the backend closed TLS without close_notify")
        assert (record.outcome.name, record.detail) == told


def test_a_body_of_known_length_needs_no_close_notify(street):
    world = street.world()
    client = world.client().send(GET)
    backend = at(world).up()
    backend.read()
    backend.send(OK)
    backend.close()
    assert client.read().endswith(b"ok")
    assert world.outcomes() == {"OK": 1}


def test_a_tunnel_goes_over_tls(street):
    world = street.world()
    ask = b"GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
    client = world.client().send(ask)
    backend = at(world).up()
    backend.read()
    backend.send(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nhello")
    assert client.read().endswith(b"hello")
    client.send(b"x" * 100_000)
    assert len(backend.read()) == 100_000
    backend.shut()
    client.shut()


def test_large_bodies_go_both_ways(street):
    world = street.world()
    size = 3 << 20
    client = world.client()
    client.send(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % size)
    backend = at(world).up()
    got = len(backend.read().partition(b"\r\n\r\n")[2])
    for _ in range(48):
        client.send(b"u" * 65536)
        got += len(backend.read().replace(b"POST", b""))
    assert got >= size
    backend.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size)
    got = len(client.read().partition(b"\r\n\r\n")[2])
    for _ in range(48):
        backend.send(b"d" * 65536)
        got += len(client.read())
    assert got == size


@pytest.mark.parametrize("cut", [1, 5, 100, 600, -1])
def test_a_backend_that_is_cut_anywhere_in_its_handshake_leaves_nothing(street, cut):
    world = street.world()
    client = world.client().send(GET)
    peer = at(world)
    peer.end.inbound.write(peer._wire())
    peer.end.shake()
    flight = peer.end.outbound.read()
    peer.sock.sendall(flight[:cut])
    world.run()
    peer.reset()
    assert status(client) == b"502"
    assert world.outcomes() == {"REFUSED": 1}


def test_drain_and_maintenance_close_what_is_kept(street):
    world = street.world()
    client = world.client().send(GET)
    at(world).up().send(OK)
    assert status(client) == b"200"
    world.cluster.command(A, AdminState.MAINT)
    world.cluster.close_idle()
    at(world).read()
    assert at(world).good_bye


# Checks.


def ask(world: World, question: Any, host: str = "") -> tuple[list[Any], NetworkProbe]:
    probe = NetworkProbe(world.dial, world.deadlines, world.time.seconds, question)
    probe.greetings, probe.host = world.cluster.greetings, host
    told: list[Any] = []
    probe.ask(TcpAddress("a.test", 443), 2.0).addCallback(told.append)
    world.run()
    return told, probe


def test_a_check_asks_over_tls(street):
    world = street.world()
    question = HttpQuestion(b"GET", b"/up", b"", (), frozenset((200,)), b"")
    told, _ = ask(world, HttpCheck(question, "check", Limits()))
    backend = at(world).up()
    assert backend.read().startswith(b"GET /up HTTP/1.1\r\nHost: a.test:443\r\n")
    assert told == []
    backend.send(OK)
    assert [one.passed for one in told] == [True]


def test_a_script_talks_over_tls(street):
    world = street.world()
    told, _ = ask(world, ScriptCheck(ScriptConfig(preset="redis").script))
    backend = at(world).up()
    assert backend.read() == b"*1\r\n$4\r\nPING\r\n"
    backend.send(b"+PO")
    assert told == []
    backend.send(b"NG\r\n")
    assert [(one.passed, one.reason) for one in told] == [(True, 'got "+PONG"')]
    assert backend.read() == b"*1\r\n$4\r\nQUIT\r\n"


def test_a_check_of_the_connection_wants_a_handshake(street):
    world = street.world()
    told, _ = ask(world, Connecting())
    assert told == []
    at(world).up()
    assert [(one.passed, one.reason) for one in told] == [(True, "connected")]


def test_a_check_names_what_is_wrong_with_a_certificate_and_that_is_no_silence(street):
    world = street.world()
    world.dial.tls[A] = street.serving("b.test")
    told, _ = ask(world, Connecting())
    refused(at(world))
    [result] = told
    assert (result.passed, result.silent) == (False, False)
    assert result.reason.startswith("TLS: CERTIFICATE_VERIFY_FAILED: Hostname mismatch")


def test_a_check_for_another_host_verifies_that(street):
    world = street.world()
    world.dial.tls[A] = street.serving("other.test")
    told, _ = ask(world, Connecting(), "other.test")
    at(world).up()
    assert told[0].passed


def test_a_check_never_resumes_a_session(street):
    world = street.world()
    client = world.client().send(GET)
    at(world).up().send(OK)
    client.read()
    ask(world, Connecting())
    assert not at(world).up().end.tls.session_reused


# Names.


@pytest.mark.parametrize(
    ("address", "host"),
    [
        (TcpAddress("App.Test.", 1), "app.test"),
        (TcpAddress("10.0.0.1", 1, name="app.test"), "app.test"),
        (TcpAddress("fe80::1%eth0", 1), "fe80::1"),
    ],
)
def test_the_host_of_a_backend_is_as_certificates_have_it(address, host):
    assert host_of(address) == host


def test_handshakes_with_backends_that_are_gone_are_forgotten(street):
    world = street.world()
    client = world.client().send(GET)
    at(world).up().send(OK)
    client.read()
    greetings = world.cluster.greetings
    assert greetings is not None
    assert len(greetings._last) == 1
    world.update("c.test:443")
    assert not greetings._last


def test_a_pool_with_one_name_for_all_keeps_its_connections_by_backend(street):
    world = street.world()
    [backend] = world.record
    assert Greetings(Outgoing(OutgoingSettings(server_name="x.test"))).place(backend, "y.test") is backend


def test_what_a_plan_changes_of_tls_is_said_in_a_line(street):
    world = street.world()
    pool = world._options["pools"]["app"]
    other = Authority(street.folder / "other", "other")
    for changed, line in [
        (dict(pool, tls={"ca": other.path}), "changes pool app: tls.ca"),
        (dict(pool, tls=None), "changes pool app: tls"),
        (dict(pool, send_proxy="v2"), "changes pool app: send_proxy off -> v2"),
    ]:
        options = {**world._options, "pools": {"app": changed}}
        lines = diff_of(world.plane, plan_of(settings((), options))).lines
        assert lines[0].startswith(line), lines


def test_a_pool_that_gives_up_tls_speaks_plain_and_back(street):
    world = street.world()
    pool = world._options["pools"]["app"]
    client = world.client().send(GET)
    at(world).up().send(OK)
    assert status(client) == b"200"
    world.configure(pools={"app": dict(pool, tls=None)})
    client.send(GET)
    plain = world.backend()
    assert plain.read().startswith(b"GET / HTTP/1.1")
    plain.send(OK)
    assert status(client) == b"200"
    world.configure(pools={"app": pool})
    client.send(GET)
    at(world).up().send(OK)
    assert status(client) == b"200"
    assert len(world.backend_connections) == 3


def test_a_unix_socket_needs_a_name():
    pools = {"app": {"backends": ["unix:/run/app.sock"], "tls": {}}}
    with pytest.raises(ValueError, match=r"unix:/run/app\.sock has no name that a certificate could be for"):
        LoadBalancerConfig.model_validate({"pools": pools, "routes": [{"pool": "app"}]})
    pools["app"]["tls"] = {"server_name": "app.test"}
    LoadBalancerConfig.model_validate({"pools": pools, "routes": [{"pool": "app"}]})


def test_a_hedge_goes_over_tls_too(street):
    world = street.world(A, B, pool={"hedge": {"delay_s": 0.5}})
    client = world.client().send(GET)
    first = at(world).up()
    first.read()
    world.advance(0.6)
    second = at(world)
    assert second is not first
    second.up().read()
    second.send(OK)
    assert status(client) == b"200"
