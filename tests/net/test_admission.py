"""Who may ask, how often, how much at once, and for how long on one connection: by listener and by route."""

import re

import pytest
from crossroads import SIDES, Crossroads, get
from house import GET, House

from twisted_lb.core.outcome import Refusal
from twisted_lb.testing import NEVER_ANSWER, ScriptedClient, response

BOTH = pytest.mark.parametrize("side", SIDES)


@pytest.fixture
def build():
    built: list = []

    def one(side: str, *routes, **options) -> Crossroads:
        built.append(Crossroads(side, *routes, **options))
        return built[-1]

    yield one
    for one_built in built:
        one_built.close()


@pytest.fixture
def house():
    houses: list[House] = []

    def one(**options) -> House:
        houses.append(House(**options))
        houses[-1].backend("a:80", lambda request: [response()])
        return houses[-1]

    yield one
    for built in houses:
        built.close()


def listener(**keys) -> dict:
    """Options of the listener of a house."""
    return {"listeners": {"default": {"address": ":8080", **keys}}}


def status(client: ScriptedClient) -> int:
    return int(client.take()[9:12])


def asks(house: House, host: str, request: bytes = GET) -> int:
    """What the client at this address is told on a connection of its own."""
    return status(house.ask(request, ScriptedClient(house.network, "lb:8080", host)))


# Access.


@pytest.mark.parametrize("where", ["listener", "route"])
def test_who_is_denied_gets_403_and_no_backend_hears_of_it(house, where):
    keys = {"deny_clients": ["192.0.2.0/24", "2001:db8::/32"]}
    one = house(**({"routes": [{"pool": "default", **keys}]} if where == "route" else listener(**keys)))
    assert [asks(one, host) for host in ("192.0.2.7", "2001:db8::1", "::ffff:192.0.2.7", "198.51.100.1")] == [
        403,
        403,
        403,
        200,
    ]
    assert [record.ended_by for record in one.records[:3]] == [Refusal.FORBIDDEN] * 3
    assert sum(tally.refused for tally in one.plane.routing.denials.values()) == 3


def test_where_some_are_allowed_all_others_are_not_and_who_is_denied_stays_so(house):
    one = house(**listener(allow_clients=["192.0.2.0/24"], deny_clients=["192.0.2.9"]))
    assert [asks(one, host) for host in ("192.0.2.7", "192.0.2.9", "198.51.100.1")] == [200, 403, 403]


def test_what_a_listener_allows_a_route_may_deny(house):
    one = house(
        **listener(allow_clients=["192.0.2.0/24"]),
        routes=[{"path_prefix": "/admin", "pool": "default", "allow_clients": ["192.0.2.1"]}, {"pool": "default"}],
    )
    admin = GET.replace(b"GET /", b"GET /admin")
    assert [asks(one, host, admin) for host in ("192.0.2.1", "192.0.2.2", "198.51.100.1")] == [200, 403, 403]
    assert [asks(one, host) for host in ("192.0.2.1", "192.0.2.2", "198.51.100.1")] == [200, 200, 403]


def test_behind_a_trusted_proxy_it_is_its_client_who_counts(house):
    one = house(**listener(deny_clients=["203.0.113.0/24"], trusted_proxies=["192.0.2.1"]))
    claim = GET.replace(b"\r\n\r\n", b"\r\nX-Forwarded-For: 203.0.113.7\r\n\r\n")
    assert [asks(one, host, claim) for host in ("192.0.2.1", "192.0.2.2")] == [403, 200]
    assert (one.records[0].client, one.records[0].peer) == ("203.0.113.7", "192.0.2.1")


def test_a_route_takes_clients_that_a_file_lists(house, tmp_path):
    (tmp_path / "office").write_text("192.0.2.0/24  # the office\n\n198.51.100.1\n")
    one = house(
        routes=[
            {"clients": [{"file": str(tmp_path / "office")}, "203.0.113.5"], "answer": {"status": 201, "text": "in"}},
            {"answer": {"status": 202, "text": "out"}},
        ]
    )
    assert [asks(one, host) for host in ("192.0.2.7", "198.51.100.1", "203.0.113.5", "203.0.113.6")] == [
        201,
        201,
        201,
        202,
    ]


@BOTH
def test_an_answer_of_ours_and_an_unknown_path_are_refused_too(build, side):
    roads = build(side, {"path": "/hi", "answer": {"text": "hi"}}, listener={"allow_clients": ["192.0.2.1"]})
    assert [roads.ask(get(target)).status for target in ("/hi", "/nobody")] == [403, 403]


# Rates.


def test_beyond_the_rate_it_is_429_until_the_time_that_retry_after_says(house):
    one = house(**listener(rate_limits=[{"per_s": 0.5, "burst": 2}]))
    client = one.client()
    told = []
    for _ in range(3):
        one.ask(GET, client)
        told.append(client.take())
    assert [answer[9:12] for answer in told] == [b"200", b"200", b"429"]
    assert b"\r\nRetry-After: 2\r\n" in told[2]
    assert one.records[-1].ended_by is Refusal.RATE_LIMITED
    assert "rate limit listener default, number 1" in one.records[-1].detail
    one.wait(2)
    one.ask(GET, client)
    assert status(client) == 200


def test_each_client_has_a_rate_of_its_own_and_a_site_of_ipv6_one(house):
    one = house(**listener(rate_limits=[{"per_s": 0.001}]))
    hosts = ("192.0.2.1", "192.0.2.2", "192.0.2.1", "2001:db8::1", "2001:db8::2", "2001:db8:0:1::1")
    assert [asks(one, host) for host in hosts] == [200, 200, 429, 200, 429, 200]


@BOTH
@pytest.mark.parametrize(
    ("key", "request_of"),
    [
        ({"header": "X-Key"}, lambda key: get("/", "x", f"x-key: {key}")),
        ({"cookie": "key"}, lambda key: get("/", "x", f"Cookie: key={key}")),
        ({"cookie": "key"}, lambda key: get("/", "x", "Cookie: a=b", f"Cookie: key={key}; c=d")),
        ({"query": "key"}, lambda key: get(f"/?key={key}")),
    ],
)
def test_a_rate_may_be_of_a_header_a_cookie_or_a_parameter(build, side, key, request_of):
    roads = build(side, {"pool": "api", "rate_limits": [{"per_s": 0.001, "key": key}]})
    assert [roads.ask(request_of(one)).status for one in ("a", "b", "a", "b")] == [200, 200, 429, 429]


@BOTH
def test_a_rate_of_a_header_that_only_proxies_may_send_is_of_what_they_send(build, side):
    limit = {"pool": "api", "rate_limits": [{"per_s": 0.001, "key": {"header": "X-Auth-User"}}]}
    requests = [get("/", "x", f"X-Auth-User: {user}") for user in ("a", "b", "a")]
    listener = {"only_from_proxies": ["X-Auth-*"], "trusted_proxies": ["127.0.0.0/8"]}
    roads = build(side, limit, listener=listener)
    assert [roads.ask(one).status for one in requests] == [200, 200, 429]
    roads = build(side, limit, listener={**listener, "trusted_proxies": []})
    assert [roads.ask(one).status for one in requests] == [200, 429, 429]


@BOTH
def test_a_rate_of_a_route_is_of_all_its_requests_and_of_no_other(build, side):
    roads = build(
        side, {"path": "/a", "pool": "api", "rate_limits": [{"per_s": 0.001, "key": "route"}]}, {"pool": "web"}
    )
    assert [roads.ask(get(target)).status for target in ("/a", "/a", "/b", "/b")] == [200, 429, 200, 200]


def test_who_is_refused_by_one_limit_is_not_charged_by_another(house):
    one = house(
        **listener(rate_limits=[{"per_s": 0.001, "burst": 3}]),
        routes=[{"path": "/a", "pool": "default", "rate_limits": [{"per_s": 0.001}]}, {"pool": "default"}],
    )
    first = GET.replace(b"GET /", b"GET /a")
    assert [asks(one, "192.0.2.1", first) for _ in range(5)] == [200, 429, 429, 429, 429]
    assert [asks(one, "192.0.2.1") for _ in range(3)] == [200, 200, 429]
    tallies = {name: tally.refused for name, tally in one.plane.routing.tallies.items()}
    assert tallies == {"listener default, number 1": 1, "route routes[0], number 1": 4}


def test_a_request_is_charged_once_however_many_attempts_it_takes(house):
    one = House("a:80", "b:80", **listener(rate_limits=[{"per_s": 0.001, "burst": 2}]))
    one.backend("b:80", lambda request: [response()])
    assert [asks(one, "192.0.2.1") for _ in range(3)] == [200, 200, 429]
    assert any(len(record.attempts) > 1 for record in one.records)
    one.close()


def test_a_dry_run_refuses_nobody_and_counts_whom_it_would(house):
    one = house(**listener(rate_limits=[{"per_s": 0.001, "dry_run": True}]))
    assert [asks(one, "192.0.2.1") for _ in range(3)] == [200, 200, 200]
    assert one.plane.routing.tallies["listener default, number 1"].spared == 2
    one.wait(5)
    assert [str(event) for event in one.events] == [
        "the rate limit listener default, number 1 would have refused 2 requests (dry run)"
    ]


def test_another_configuration_forgives_nothing(house):
    one = house(**listener(rate_limits=[{"per_s": 0.001, "burst": 2}]))
    assert [asks(one, "192.0.2.1") for _ in range(3)] == [200, 200, 429]
    one.apply(**listener(rate_limits=[{"per_s": 0.001, "burst": 3}], client_requests=7))
    assert [asks(one, "192.0.2.1") for _ in range(2)] == [200, 429]
    assert one.plane.routing.tallies["listener default, number 1"].refused == 2


def test_where_nothing_is_limited_there_is_no_table(house):
    one = house()
    assert one.plane.routing.rates is None
    one.apply(**listener(rate_limits=[{"per_s": 1.0}]))
    table = one.plane.routing.rates
    one.apply(**listener(rate_limits=[{"per_s": 2.0}]))
    assert one.plane.routing.rates is table is not None


# At once.


@pytest.mark.parametrize("where", ["listener", "route"])
def test_a_client_has_so_many_requests_at_once_and_no_more(where):
    keys = {"requests_per_client": 2}
    house = House(**({"routes": [{"pool": "default", **keys}]} if where == "route" else listener(**keys)))
    house.backend("a:80", lambda request: [NEVER_ANSWER])
    running = [house.ask(GET, ScriptedClient(house.network, "lb:8080", "192.0.2.1")) for _ in range(2)]
    assert asks(house, "192.0.2.1") == 429
    house.ask(GET, ScriptedClient(house.network, "lb:8080", "192.0.2.2"))
    running[0].reset()
    house.clock.settle()
    house.ask(GET, ScriptedClient(house.network, "lb:8080", "192.0.2.1"))
    assert len([record for record in house.records if record.ended_by is Refusal.RATE_LIMITED]) == 1
    assert {len(running) for running in house.plane.routing.running.values()} == {2}
    house.close()
    assert {len(running) for running in house.plane.routing.running.values()} == {0}


@BOTH
def test_a_request_that_has_ended_is_counted_no_more(build, side):
    roads = build(side, {"pool": "api", "requests_per_client": 1}, {"pool": "web"})
    client = roads.client()
    assert [roads.ask(get(), client).status for _ in range(4)] == [200] * 4


def test_whom_a_bound_refuses_spends_nothing_of_his_rate(house):
    one = House(**listener(requests_per_client=1, rate_limits=[{"per_s": 0.001, "burst": 2}]))
    backend = one.backend("a:80", [NEVER_ANSWER])
    waiting = one.ask(GET, ScriptedClient(one.network, "lb:8080", "192.0.2.1"))
    assert [asks(one, "192.0.2.1") for _ in range(3)] == [429] * 3
    waiting.reset()
    one.clock.settle()
    one.ask(GET, ScriptedClient(one.network, "lb:8080", "192.0.2.1"))
    assert len(backend.requests) == 2
    one.close()


def test_a_tunnel_is_a_request_until_it_ends():
    house = House(**listener(requests_per_client=1))
    house.backend(
        "a:80",
        lambda request: [b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n"],
    )
    offer = get("/", "x", "Connection: upgrade", "Upgrade: websocket")
    client = ScriptedClient(house.network, "lb:8080", "192.0.2.1")
    house.ask(offer, client)
    assert status(client) == 101
    assert asks(house, "192.0.2.1") == 429
    client.reset()
    house.clock.settle()
    assert asks(house, "192.0.2.1", offer) == 101
    house.close()


# For how long.


def closes(answer: bytes) -> bool:
    return b"\r\nConnection: close\r\n" in answer


def requests_until_close(house: House) -> int:
    client = house.client()
    for count in range(1, 1000):
        house.ask(GET, client)
        answer = client.take()
        assert answer.startswith(b"HTTP/1.1 200 ")
        if closes(answer):
            house.clock.settle()
            assert client.ended
            return count
    raise AssertionError("it never ends")


def test_a_connection_ends_with_its_last_request_give_or_take_a_tenth(house):
    one = house(**listener(client_requests=100))
    counts = [requests_until_close(one) for _ in range(12)]
    assert all(90 <= count <= 110 for count in counts)
    assert len(set(counts)) > 4


def test_a_bound_of_one_request_is_one(house):
    assert {requests_until_close(house(**listener(client_requests=1))) for _ in range(3)} == {1}


def test_a_connection_ends_behind_the_first_answer_at_its_age(house):
    one = house(**listener(client_max_age_s=20.0), routes=[{"path": "/hi", "answer": {"text": "hi"}}])
    clients = [one.client() for _ in range(8)]
    ages = {}
    for second in range(30):
        for at, client in enumerate(clients):
            if at not in ages:
                one.ask(GET.replace(b"/", b"/hi", 1) if at % 2 else GET, client)
                if closes(client.take()):
                    ages[at] = second
        one.wait(1)
    assert all(18 <= age <= 22 for age in ages.values())
    assert len(ages) == 8


def test_without_a_bound_a_connection_goes_on(house):
    one = house()
    client = one.client()
    for _ in range(300):
        one.ask(GET, client)
    assert not closes(client.take())


def test_a_refused_request_counts_among_those_of_its_connection(house):
    one = house(**listener(client_requests=2), routes=[{"deny": True}])
    client = one.client()
    one.ask(GET, client)
    one.ask(GET, client)
    assert len(re.findall(rb"HTTP/1.1 403 ", client.received)) == 2
    assert client.ended


@BOTH
@pytest.mark.parametrize("target", ["/", "/hi"])
def test_the_bounds_of_a_connection_hold_on_both_sides(build, side, target):
    routes = {"path": "/hi", "answer": {"text": "hi"}}, {"pool": "api"}
    roads = build(side, *routes, listener={"client_requests": 2})
    client = roads.client()
    assert [roads.ask(get(target), client).answered("Connection") for _ in range(2)] == [None, "close"]
    roads = build(side, *routes, listener={"client_max_age_s": 10.0})
    client = roads.client()
    assert roads.ask(get(target), client).answered("Connection") is None
    roads.world.advance(12.0)
    assert roads.ask(get(target), client).answered("Connection") == "close"
