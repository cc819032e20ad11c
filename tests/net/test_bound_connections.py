"""Connections to a backend on which somebody is logged in (NTLM, Negotiate): one client's alone, until one of the two closes."""

import dataclasses
import re

import pytest
from house import House
from world import World

from twisted_lb.core.backend import AdminState
from twisted_lb.core.never import NEVER
from twisted_lb.testing import CLOSE, BackendConnection, ScriptedBackend, ScriptedClient, Wait, response

GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
POST = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nhi"
OFFERS = (b"WWW-Authenticate: Negotiate", b"WWW-Authenticate: NTLM", b'WWW-Authenticate: Basic realm="x"')


def with_credentials(credentials: bytes, request: bytes = GET) -> bytes:
    return request.replace(b"Host: x\r\n", b"Host: x\r\nAuthorization: %b\r\n" % credentials)


class Domain:
    """A backend that logs users in on their connections, as IIS does: whatever else comes on one has that user's rights."""

    def __init__(self, house: House, address: str = "a:80", *fields: bytes) -> None:
        self.users: dict[BackendConnection, bytes] = {}
        self.fields = fields
        self.then: list = []
        self.before: list = []
        self.server: ScriptedBackend = house.backend(address, self.answer)

    def answer(self, request: bytes) -> list:
        connection = next(one for one in self.server.connections if one.requests and one.requests[-1] is request)
        credentials = re.search(rb"Authorization: (NTLM|Negotiate) (\S+)", request)
        if credentials is not None and credentials[2] == b"hello":
            answer = response(b"?", 401, b"WWW-Authenticate: NTLM challenge", *self.fields)
        elif credentials is not None:
            self.users[connection] = credentials[2]
            answer = response(credentials[2], 200, *self.fields)
        elif connection in self.users:
            answer = response(self.users[connection], 200, *self.fields)
        else:
            answer = response(b"?", 401, *OFFERS, *self.fields)
        return [*self.before, answer, *self.then]

    @property
    def open(self) -> int:
        return sum(connection.open for connection in self.server.connections)


def told(house: House, client: ScriptedClient, request: bytes = GET) -> str:
    """What the client is told for this request: the user that it is taken for, "?" for nobody."""
    client.take()
    house.ask(request, client)
    return client.take().rpartition(b"\r\n\r\n")[2].decode()


def logged_in(house: House, user: bytes, request: bytes = GET) -> ScriptedClient:
    """A client that has logged in, in the three steps of NTLM."""
    client = house.client()
    assert told(house, client, request) == "?"
    assert told(house, client, with_credentials(b"NTLM hello")) == "?"
    assert told(house, client, with_credentials(b"NTLM " + user, request)) == user.decode()
    return client


@pytest.mark.parametrize("names", [("a:80",), ("a:80", "b:80", "c:80")])
def test_each_is_who_he_is_however_their_requests_come(build, names):
    house = build(*names)
    domains = [Domain(house, name) for name in names]
    clients = {user: house.client() for user in ("alice", "bob", "carol", "dave")}
    for client in clients.values():
        assert told(house, client) == "?"
    for client in clients.values():
        assert told(house, client, with_credentials(b"NTLM hello")) == "?"
    for user, client in reversed(clients.items()):
        assert told(house, client, with_credentials(b"NTLM " + user.encode())) == user
    for order in ([*clients], [*clients][::-1], ["bob", "bob", "carol", "alice", "bob"]):
        for user in order:
            assert told(house, clients[user], POST if user == "dave" else GET) == user
            assert told(house, house.client()) == "?"
    for user, client in clients.items():
        on = [one for domain in domains for one in domain.server.connections if domain.users.get(one) == user.encode()]
        assert len(on) == 1, f"{client!r} of {user} was on {on}"


def test_requests_sent_ahead_are_the_users_too(build):
    house = build()
    Domain(house)
    client = logged_in(house, b"alice")
    stranger = house.client()
    client.send(POST + GET * 20)
    stranger.send(GET * 20)
    house.clock.settle()
    assert client.take().count(b"\r\n\r\nalice") == 21
    assert stranger.take().count(b"\r\n\r\n?") == 20


@pytest.mark.parametrize("how", ["close", "reset", "half_close"])
def test_when_the_client_leaves_its_connection_goes_with_it(build, how):
    house = build()
    domain = Domain(house)
    client = logged_in(house, b"alice")
    assert (domain.open, house.cluster.open, house.cluster.idle) == (1, 1, 0)
    getattr(client, how)()
    house.clock.settle()
    assert (domain.open, house.cluster.open) == (0, 0)
    assert told(house, house.client()) == "?"


@pytest.mark.parametrize("how", ["close", "reset", "half_close"])
def test_nobody_gets_it_after_a_client_that_left_while_it_was_answered(build, how):
    house = build()
    domain = Domain(house)
    client = logged_in(house, b"alice")
    domain.before = [Wait(1)]
    client.send(GET)
    house.wait(0.5)
    getattr(client, how)()
    house.wait(5)
    assert (domain.open, house.cluster.open, house.cluster.idle) == (0, 0, 0)


@pytest.mark.parametrize("last", [b"Connection: close\r\n", b"HTTP/1.0"])
def test_a_last_request_ends_both(build, last):
    house = build()
    domain = Domain(house)
    client = logged_in(house, b"alice")
    request = (
        GET.replace(b"HTTP/1.1", last) if last == b"HTTP/1.0" else GET.replace(b"\r\n\r\n", b"\r\n" + last + b"\r\n")
    )
    assert told(house, client, request) == "alice"
    house.clock.settle()
    assert (domain.open, house.cluster.open) == (0, 0)


def test_a_client_that_is_idle_for_too_long_ends_both(build):
    house = build(timeouts={"client_idle_s": 100.0})
    domain = Domain(house)
    client = logged_in(house, b"alice")
    house.wait(99)
    assert told(house, client) == "alice", "upstream.idle_s is for those that are kept for whoever comes"
    house.wait(101)
    assert client.ended
    assert client.open, "it lingers"
    assert domain.open == 0


def test_age_and_number_of_requests_log_nobody_out(build):
    house = build(upstream={"max_requests": 3, "max_age_s": 30.0, "max_idle": 0})
    domain = Domain(house)
    client = logged_in(house, b"alice")
    for _ in range(10):
        house.wait(10)
        assert told(house, client, POST) == "alice"
    assert len(domain.server.connections) == 1


def test_when_the_backend_closes_the_next_request_goes_like_any_other(build):
    house = build()
    domain = Domain(house)
    client = logged_in(house, b"alice")
    domain.server.connections[0].transport.loseConnection()
    house.clock.settle()
    assert house.cluster.open == 0
    assert told(house, client) == "?"
    assert told(house, client, with_credentials(b"NTLM alice")) == "alice"
    assert told(house, client) == "alice"


@pytest.mark.parametrize("idle_s", [0.5, 5.0])
def test_a_backend_that_ends_logins_says_nothing_of_other_connections(build, idle_s):
    house = build()
    domain = Domain(house)
    domain.server.script.append(response(b"x"))
    house.ask()
    client = logged_in(house, b"alice")
    (connection,) = domain.users
    house.wait(idle_s)
    connection.transport.loseConnection()
    house.clock.settle()
    assert told(house, client) == "?"
    (kept,) = house.cluster._kept.values()
    assert (kept.wary_until, kept.idle_timeout_s) == (-NEVER, NEVER)


def test_a_close_that_meets_the_first_credentials_on_it_is_a_lesson_since_nobody_was_logged_in_there(build):
    house = build()
    domain = Domain(house)
    domain.server.script.append(response(b"x"))
    house.ask()
    house.wait(0.2)
    domain.server.script.append([CLOSE])
    assert b" 401 " in house.ask(with_credentials(b"NTLM hello")).take()
    (kept,) = house.cluster._kept.values()
    assert kept.wary_until > house.clock.seconds()


def met_a_close(house: House, domain: Domain, request: bytes) -> str:
    """What a client is told whose own connection is closed just when its request arrives there."""
    client = logged_in(house, b"alice")
    domain.server.answer = lambda request: [CLOSE] if domain.users else domain.answer(request)
    client.take()
    client.send(request)
    connection = domain.server.connections[-1]
    connection.transport.loseConnection()
    domain.users.clear()
    house.clock.settle()
    return client.take().decode()


def test_a_request_that_met_the_close_is_repeated_once_on_a_new_connection(build):
    house = build(retry={"budget_percent": 0, "budget_per_s": 0})
    domain = Domain(house)
    heard = met_a_close(house, domain, GET)
    assert heard.startswith("HTTP/1.1 401 ")
    assert len(domain.server.connections) == 2


def test_one_that_must_not_be_repeated_is_not(build):
    house = build()
    domain = Domain(house)
    assert met_a_close(house, domain, POST).startswith("HTTP/1.1 502 ")
    assert len(domain.server.connections) == 1


@pytest.mark.parametrize("how", ["drain", "maint", "down", "ejected"])
def test_a_backend_that_is_taken_out_gets_nothing_more_on_it(build, how):
    """As HAProxy does: a login is no reason to use a server that is drained."""
    house = build("a:80", "b:80", health_check={"interval_s": 0.0})
    a, b = Domain(house, "a:80"), Domain(house, "b:80")
    client = logged_in(house, b"alice")
    assert a.open == 1
    member, _ = house.members
    if how == "down":
        house.pool.configure(
            house.plan(health_check={"interval_s": 5.0}).pools["default"].settings, house.clock.seconds()
        )
        for _ in range(3):
            house.cluster.observe_probe("a:80", False, "x")
    elif how == "ejected":
        a.server.listener.stop()
        for _ in range(4):
            house.ask(GET, house.client())
        assert member.ejection.active
    else:
        house.cluster.command("a:80", AdminState(how))
    assert a.open == 1, "it is not cut"
    assert told(house, client) == "?"
    assert b.server.requests
    house.clock.settle()
    assert a.open == 0
    assert told(house, client, with_credentials(b"NTLM alice")) == "alice"
    assert set(b.users.values()) == {b"alice"}


def test_a_backend_that_goes_is_left_at_once_and_what_runs_there_ends(build):
    house = build("a:80", "b:80")
    a = Domain(house, "a:80")
    b = Domain(house, "b:80")
    idle = logged_in(house, b"alice")
    assert a.open == 1
    house.apply(backends=["b:80"])
    house.clock.settle()
    assert a.open == 0
    assert told(house, idle) == "?"
    assert told(house, idle, with_credentials(b"NTLM alice")) == "alice"
    b.before = [Wait(2)]
    idle.send(GET)
    house.wait(1)
    house.apply(backends=["a:80"])
    house.wait(2)
    assert idle.take().endswith(b"alice")
    assert b.open == 0


@pytest.mark.parametrize("scheme", [b"Negotiate", b"NTLM"])
def test_credentials_that_nobody_asked_for_make_a_connection_the_clients_too(build, scheme):
    """A Kerberos ticket comes with the first request, and is answered by a 200."""
    house = build()
    domain = Domain(house)
    assert told(house, house.client(), with_credentials(scheme + b" alice")) == "alice"
    assert house.cluster.idle == 0
    client = house.client()
    assert told(house, client, with_credentials(scheme + b" bob")) == "bob"
    assert told(house, client) == "bob"
    assert told(house, house.client()) == "?"
    assert len(set(domain.users)) == 2


def plain(*fields: bytes, status: int = 401):
    return lambda request: [response(b"x", status, *fields)]


@pytest.mark.parametrize(
    ("answer", "request_", "shared"),
    [
        (plain(*OFFERS), GET, False),
        (plain(b'www-authenticate: Basic realm="x", nEGOTIATE'), GET, False),
        (plain(b"Proxy-Authenticate: NTLM", status=407), GET, False),
        (plain(b'WWW-Authenticate: Basic realm="NTLM, Negotiate"'), GET, True),
        (plain(b"WWW-Authenticate: Bearer"), GET, True),
        (plain(b"WWW-Authenticate: NTLM", status=200), GET, True),
        (plain(status=200), with_credentials(b"Basic YTpi"), True),
        (plain(status=200), with_credentials(b"Bearer NTLM"), True),
        (plain(status=200), with_credentials(b"Negotiate YII="), False),
        (plain(status=200), GET, True),
    ],
)
def test_only_who_may_be_logged_in_has_a_connection_of_his_own(build, answer, request_, shared):
    house = build()
    house.backend("a:80", answer)
    client = house.ask(request_)
    assert client.take().endswith(b"x")
    assert (house.cluster.open, house.cluster.idle) == (1, int(shared))
    house.ask(GET, client)
    house.ask(GET)
    assert house.cluster.open == (1 if shared else 2)


def test_a_connection_that_was_everybodys_may_become_one_clients(build):
    house = build()
    house.backend("a:80", [response(b"x"), response(b"x", 401, *OFFERS)])
    first, second = house.ask(), house.client()
    house.ask(GET, second)
    assert (house.cluster.open, house.cluster.idle) == (1, 0)
    house.ask(GET, first)
    assert house.cluster.open == 2


@pytest.mark.parametrize(
    ("timeout", "waits", "user"), [(b"5", 3.5, "alice"), (b"5", 4.05, "?"), (b"5", 4.5, "?"), (b"0", 0.0, "?")]
)
def test_what_a_backend_announces_is_honoured(build, timeout, waits, user):
    house = build()
    domain = Domain(house, "a:80", b"Keep-Alive: timeout=" + timeout)
    client = house.client()
    assert told(house, client, with_credentials(b"Negotiate alice")) == "alice"
    house.wait(waits)
    assert told(house, client) == user
    assert len(domain.server.connections) == (1 if user == "alice" else 2)


def full_but_for(house: House, most: int, wait_s: float) -> None:
    settings = dataclasses.replace(
        house.pool.settings, max_in_flight=most, max_queued=10, queue_timeout_s=wait_s, no_backend_s=wait_s
    )
    house.pool.configure(settings, house.clock.seconds())


def test_a_backend_that_is_full_is_waited_for(build):
    house = build("a:80", "b:80")
    a, b = Domain(house, "a:80"), Domain(house, "b:80")
    client, other = logged_in(house, b"alice"), logged_in(house, b"bob")
    third = logged_in(house, b"carol")
    assert [len(a.users), len(b.users)] == [2, 1]
    full_but_for(house, 1, 5.0)
    a.before = [Wait(2)]
    third.take()
    house.ask(GET, client)
    house.ask(POST, third)
    assert house.cluster.snapshot().waiting == 1
    assert max(backend.in_flight for backend in house.members) == 1
    assert told(house, other) == "bob", "nobody who goes elsewhere is held up"
    house.wait(2.1)
    assert client.take().endswith(b"alice")
    house.wait(2.1)
    assert third.take().endswith(b"carol")
    assert (a.open, b.open) == (2, 1)


@pytest.mark.parametrize("how", ["drained", "removed", "down"])
def test_whoever_waits_for_a_backend_that_is_lost_meanwhile_does_not_wait_in_vain(build, how):
    house = build("a:80", "b:80")
    a, b = Domain(house, "a:80"), Domain(house, "b:80")
    client, _, third = (logged_in(house, user) for user in (b"alice", b"bob", b"carol"))
    full_but_for(house, 1, 100.0)
    a.before = [Wait(50)]
    third.take()
    house.ask(GET, client)
    house.ask(GET, third)
    assert house.cluster.snapshot().waiting == 1
    backend = house.pool.backends["a:80"]
    if how == "drained":
        house.plane.command("default", "a:80", AdminState.DRAIN)
    elif how == "removed":
        house.apply(backends=["b:80"])
    else:
        for _ in range(3):
            house.pool.observe_probe(backend, False, "refused", house.clock.seconds())
    house.clock.settle()
    house.wait(1)
    assert third.take().endswith(b"?"), "it is at another one, where nobody is logged in"
    assert b.open >= 1
    house.wait(60)


def test_whoever_waits_for_a_backend_is_served_as_soon_as_another_request_leaves_it(build):
    house = build("a:80", "b:80", retry={"bad_statuses": [503]})
    a, b = Domain(house, "a:80"), Domain(house, "b:80")
    client = logged_in(house, b"alice")
    full_but_for(house, 1, 5.0)
    a.server.script.append([Wait(1.05), response(b"", 503)])
    while not house.members[0].in_flight:
        house.ask()
    b.before = [Wait(2)]
    client.take()
    house.ask(GET, client)
    assert house.cluster.snapshot().waiting == 1
    asked = len(b.server.requests)
    house.clock.run_until(lambda: len(b.server.requests) > asked)
    house.clock.settle()
    assert client.take().endswith(b"alice")


def behind_another(house: House, wait_s: float) -> tuple[Domain, ScriptedClient]:
    """A client that is logged in at a backend which is full for 3 s, as it will be when it asks; it may wait for so long."""
    domain = Domain(house)
    client, other = logged_in(house, b"alice"), logged_in(house, b"bob")
    full_but_for(house, 1, wait_s)
    domain.before = [Wait(3)]
    house.ask(GET, other)
    return domain, client


def test_who_waits_in_vain_stays_logged_in(build):
    house = build()
    domain, client = behind_another(house, 1.0)
    client.take()
    house.ask(GET, client)
    house.wait(1.5)
    assert client.take().startswith(b"HTTP/1.1 503 ")
    house.wait(2)
    domain.before = []
    assert told(house, client) == "alice"


def test_who_leaves_the_queue_leaves_nothing_behind(build):
    house = build()
    domain, client = behind_another(house, 5.0)
    house.ask(GET, client)
    client.close()
    house.clock.settle()
    assert (domain.open, house.cluster.snapshot().waiting) == (1, 0)
    house.wait(4)


def test_who_waited_for_a_backend_that_closed_meanwhile_begins_anew(build):
    house = build()
    domain, client = behind_another(house, 5.0)
    client.take()
    house.ask(GET, client)
    domain.server.connections[0].transport.loseConnection()
    house.wait(7)
    assert client.take().endswith(b"?")


def test_who_waits_for_a_backend_that_is_taken_out_is_served_elsewhere_at_once_and_logs_in_anew(build):
    house = build("a:80", "b:80")
    a, b = Domain(house, "a:80"), Domain(house, "b:80")
    client, _, third = logged_in(house, b"alice"), logged_in(house, b"bob"), logged_in(house, b"carol")
    assert [len(a.users), len(b.users)] == [2, 1]
    full_but_for(house, 1, 60.0)
    a.before = [Wait(3)]
    house.ask(GET, client)
    third.take()
    house.ask(GET, third)
    assert house.cluster.snapshot().waiting == 1
    house.cluster.command("a:80", AdminState.DRAIN)
    house.clock.settle()
    assert house.cluster.snapshot().waiting == 0
    assert third.take().endswith(b"?"), "nobody there knows who this is"
    house.wait(4)
    assert (client.take()[-5:], a.open) == (b"alice", 1)


def test_an_exchange_that_is_retried_leaves_the_login_behind(build):
    house = build("a:80", "b:80", retry={"bad_statuses": [503]})
    a, b = Domain(house, "a:80"), Domain(house, "b:80")
    client = logged_in(house, b"alice")
    a.server.script.append(response(b"", 503))
    assert told(house, client) == "?"
    assert b.server.requests
    house.clock.settle()
    assert a.open == 0


def test_a_drain_ends_idle_ones_and_waits_for_the_rest(build):
    house = build()
    domain = Domain(house)
    idle, busy = logged_in(house, b"alice"), logged_in(house, b"bob")
    domain.before = [Wait(2)]
    busy.send(GET)
    house.wait(0.1)
    done = house.plane.drain(10)
    house.wait(1)
    assert idle.ended
    assert (domain.open, done.called) == (1, False)
    house.wait(4)
    assert busy.take().endswith(b"bob")
    assert done.called
    assert (domain.open, house.cluster.open) == (0, 0)


def test_the_end_closes_them_all():
    house = House()
    domain = Domain(house)
    logged_in(house, b"alice")
    waiting = logged_in(house, b"bob")
    domain.before = [Wait(60)]
    house.ask(GET, waiting)
    assert house.cluster.open == 2
    house.balanced.close()
    house.wait(5)
    assert (domain.open, house.cluster.open, house.balanced.runtime.deadlines.armed) == (0, 0, 0)


def test_it_is_closed_as_soon_as_everything_was_said_to_the_client():
    world = World(client_idle_s=10)
    client = world.client().send(with_credentials(b"Negotiate alice"))
    backend = world.backend()
    backend.read()
    backend.send(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nalice")
    assert client.read().endswith(b"alice")
    world.advance(10.5)
    client.read()
    assert client.closed
    assert world.engine.clients, "it lingers"
    backend.read()
    assert backend.closed
    world.close()


def test_a_proxy_that_brings_another_clients_request_does_not_bring_it_there(build):
    house = build(forwarding={"trusted_proxies": ["127.0.0.1"]})
    domain = Domain(house)
    proxy = house.client()

    def of(client: bytes, request: bytes = GET) -> bytes:
        return request.replace(b"Host: x\r\n", b"Host: x\r\nX-Forwarded-For: %b\r\n" % client)

    for _ in range(2):
        assert told(house, proxy, of(b"192.0.2.1", with_credentials(b"NTLM alice"))) == "alice"
        assert told(house, proxy, of(b"192.0.2.1")) == "alice"
        assert told(house, proxy, of(b"192.0.2.2")) == "?"
        assert told(house, proxy, of(b"192.0.2.1")) == "?"
    assert domain.open == 1


def test_a_resource_does_not_know_whose_the_next_request_is_and_keeps_none():
    world = World(side="resource")
    client = world.client().send(with_credentials(b"Negotiate alice"))
    backend = world.backend()
    backend.read()
    backend.send(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nalice")
    assert client.read().endswith(b"alice")
    backend.read()
    assert backend.closed
    assert world.cluster.open == 0
    client.send(GET)
    assert len(world.backend_connections) == 2
    world.close()
