"""Keys of requests: what policies by key go by, on both client sides, and what becomes of a request that has none."""

import random

import pytest
from crossroads import SIDES, Crossroads, get

from twisted_lb.core.ask import ANY, Ask, key_of
from twisted_lb.core.backend import Backend, BackendSpec
from twisted_lb.core.counts import Counts
from twisted_lb.core.pickers import POLICIES, Picker
from twisted_lb.core.rate_limits import RateKey
from twisted_lb.net.request_keys import RequestKey

BOTH = pytest.mark.parametrize("side", SIDES)
BACKENDS = tuple(f"b{at}:80" for at in range(8))
PROXIES = {"trusted_proxies": ["127.0.0.0/8"]}


def owner(value: bytes, backends: tuple[str, ...] = BACKENDS) -> str:
    """Whose key it is, on a ring of our own."""
    counts = Counts()
    those = [Backend(BackendSpec.parse(name), counts) for name in backends]
    backend = (
        POLICIES["ring"].build(those, None, random.Random(1), 0.0).pick(Ask(key_of(value)), 0.0, random.Random(1), ())
    )
    assert backend is not None
    return backend.name


@pytest.fixture
def build():
    built: list[Crossroads] = []

    def one(side: str, **route) -> Crossroads:
        options = {"api": {"backends": list(BACKENDS), "policy": "ring"}}
        built.append(Crossroads(side, {"pool": "api", **route}, pool_options=options, listener=PROXIES))
        return built[-1]

    yield one
    for one_built in built:
        one_built.close()


VALUES = [f"user-{at}" for at in range(12)]


@BOTH
@pytest.mark.parametrize(
    ("key", "request_of"),
    [
        ("path", lambda value: get(f"/{value}?at={value}")),
        ({"header": "X-User"}, lambda value: get("/", "x", f"x-uSER: {value}")),
        ({"cookie": "session"}, lambda value: get("/", "x", "Cookie: a=b", f"Cookie: session={value}; c=d")),
        ({"query": "user"}, lambda value: get(f"/?a=b&user={value}&user=other")),
    ],
    ids=["path", "header", "cookie", "query"],
)
def test_requests_with_the_same_key_meet_the_backend_that_owns_it(build, side, key, request_of):
    roads = build(side, key=key)
    for value in VALUES:
        said = f"/{value}" if key == "path" else value
        assert {roads.ask(request_of(value)).asked for _ in range(3)} == {owner(said.encode())}


@BOTH
def test_clients_meet_the_backend_that_owns_their_address(build, side):
    roads = build(side)
    for host in range(12):
        request = get("/", "x", f"X-Forwarded-For: 198.51.100.{host}")
        assert {roads.ask(request).asked for _ in range(3)} == {owner(b"198.51.100.%d" % host)}


@BOTH
def test_a_connection_with_requests_of_several_keys_sends_each_to_its_own(build, side):
    """What was worked out for the last one is kept only for requests that are the same there."""
    roads = build(side, key={"header": "X-User"})
    client = roads.client()
    for value in [*VALUES, *VALUES[:1], *VALUES[:1]]:
        assert roads.ask(get("/", "x", f"X-User: {value}"), client).asked == owner(value.encode())
    roads = build(side, key={"query": "user"})
    client = roads.client()
    for value in [*VALUES, *VALUES[:1], *VALUES[:1]]:
        assert roads.ask(get(f"/?user={value}"), client).asked == owner(value.encode())


@BOTH
@pytest.mark.parametrize(
    ("key", "request_"),
    [
        ({"header": "X-User"}, get("/", "x", "X-Users: a", "X-Forwarded-For: 198.51.100.7")),
        ({"header": "X-User"}, get("/", "x", "X-User:", "X-Forwarded-For: 198.51.100.7")),
        ({"cookie": "session"}, get("/", "x", "Cookie: sessions=a; session=", "X-Forwarded-For: 198.51.100.7")),
        ({"cookie": "session"}, get("/", "x", "X-Forwarded-For: 198.51.100.7")),
        ({"query": "user"}, get("/?user", "x", "X-Forwarded-For: 198.51.100.7")),
        ({"query": "user"}, get("/", "x", "X-Forwarded-For: 198.51.100.7")),
    ],
)
def test_who_has_no_such_key_or_an_empty_one_goes_by_the_client(build, side, key, request_):
    assert build(side, key=key).ask(request_).asked == owner(b"198.51.100.7")


@BOTH
def test_a_client_of_ipv6_goes_by_its_site(build, side):
    roads = build(side)
    for site in range(6):
        asked = {roads.ask(get("/", "x", f"X-Forwarded-For: 2001:db8:0:{site}::{host}")).asked for host in range(4)}
        assert len(asked) == 1


@BOTH
def test_a_header_that_only_a_trusted_proxy_may_send_can_be_the_key(build, side):
    roads = build(side, key={"header": "X-Forwarded-For"})
    assert roads.ask(get("/", "x", "X-Forwarded-For: 192.0.2.9")).asked == owner(b"192.0.2.9")


@BOTH
def test_the_key_of_the_defaults_is_that_of_routes_that_say_none(side):
    roads = Crossroads(
        side,
        {"pool": "api", "path": "/own", "key": "client"},
        {"pool": "api"},
        pool_options={"api": {"backends": list(BACKENDS), "policy": "ring"}},
        defaults={"route": {"key": "path"}},
    )
    assert {roads.ask(get("/a")).asked, roads.ask(get("/a?x")).asked} == {owner(b"/a")}
    assert {roads.ask(get(f"/own?{at}")).asked for at in range(6)} == {roads.ask(get("/own")).asked}
    roads.close()


@BOTH
def test_a_fallback_pool_that_goes_by_keys_has_the_routes_key(side):
    roads = Crossroads(
        side,
        {"pool": "api", "fallback": "web", "key": {"header": "X-User"}},
        pool_options={"web": {"backends": list(BACKENDS), "policy": "ring"}},
    )
    roads.down("api")
    for value in VALUES:
        assert roads.ask(get("/", "x", f"X-User: {value}")).asked == owner(value.encode())
    roads.close()


@BOTH
def test_a_reload_may_name_another_key(build, side):
    roads = build(side, key="path")
    assert roads.ask(get("/a", "x", "X-User: b")).asked == owner(b"/a")
    roads.configure(
        {"pool": "api", "key": {"header": "X-User"}},
        pools={"api": {"backends": list(BACKENDS), "policy": "ring"}, "web": {"backends": ["web:80"]}},
    )
    assert roads.ask(get("/a", "x", "X-User: b")).asked == owner(b"b")


class Heard(Picker):
    """Picks the first one, and keeps what it was asked."""

    def __init__(self, backend: Backend, asks: list[Ask]) -> None:
        super().__init__()
        self._backend, self._asks = backend, asks

    def pick(self, ask, now, rng, tried):
        self._asks.append(ask)
        return self._backend


class Hearing:
    """A policy that goes by keys, or does not."""

    eager, describe = True, "hearing: what it was asked"

    def __init__(self, *, keyed: bool) -> None:
        self.keyed, self.asks = keyed, []

    def loads(self, counts):
        return None

    def build(self, members, previous, rng, now):
        return Heard(members[0], self.asks)


@BOTH
@pytest.mark.parametrize("keyed", [False, True])
def test_a_key_is_worked_out_only_where_the_policy_goes_by_it(side, keyed):
    roads = Crossroads(side, {"pool": "api", "key": {"header": "X-User"}})
    policy = Hearing(keyed=keyed)
    roads.world.plane.clusters["api"].pool.choose_by(policy)
    client = roads.client()
    for _ in range(2):
        roads.ask(get("/", "x", "X-User: a"), client)
    first, second = policy.asks
    assert (first is second) or side == "resource"  # twisted.web has no connections of its own for us
    assert (first is ANY) is not keyed
    assert not keyed or (first.key, first.by) == (key_of(b"a"), "header x-user")
    roads.close()


@pytest.mark.parametrize(
    ("key", "label", "instead"),
    [
        (RequestKey(RateKey.CLIENT), "client", "client"),
        (RequestKey(RateKey.PATH), "path", "client, without path"),
        (RequestKey(RateKey.HEADER, b"x-user"), "header x-user", "client, without header x-user"),
        (RequestKey(RateKey.QUERY, "größe".encode()), "query größe", "client, without query größe"),
    ],
)
def test_a_key_is_called_by_what_it_is_of_and_never_by_its_value(key, label, instead):
    assert (key.label, key.instead) == (label, instead)
    ask = key.ask(b"/a?gr%C3%B6%C3%9Fe=7", b"X-User: secret\r\n", "192.0.2.1")
    assert ask.by == label
    assert ask.key == key_of(
        {"client": b"192.0.2.1", "path": b"/a", "header x-user": b"secret", "query größe": b"7"}[label]
    )
    without = key.ask(b"", b"", "192.0.2.1")
    assert (without.by, without.key) == (instead, key_of(b"192.0.2.1"))
