"""OPTIONS and TRACE count the proxies on their way (Max-Forwards): each takes one off, and at nothing it answers itself."""

import pytest
from crossroads import SIDES, Crossroads, get
from world import World

OK = b"HTTP/1.1 200 OK\r\nDate: now\r\nContent-Length: 5\r\n\r\nhello"
PLAIN = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"


@pytest.fixture(params=["engine", "resource", "tls"])
def world(request):
    one = World(side=request.param)
    yield one
    one.close()


def ask(method: bytes, *lines: bytes) -> bytes:
    return b"\r\n".join([method + b" /x?y HTTP/1.1", b"Host: a", *lines, b"", b""])


@pytest.mark.parametrize("method", [b"OPTIONS", b"TRACE"])
@pytest.mark.parametrize(
    ("hops", "left"),
    [(b"1", b"0"), (b"10", b"9"), (b"0010", b"9"), (b"9" * 18, b"9" * 17 + b"8"), (b"9" * 400, b"9" * 18)],
)
def test_a_proxy_takes_one_off(world, method, hops, left):
    client = world.client().send(ask(method, b"A: b", b"max-Forwards:" + hops, b"C: d"))
    heard = world.backend().read()
    assert b"ax-Forwards: " + left + b"\r\n" in heard
    assert heard.lower().count(b"max-forwards") == 1
    world.backend().send(OK)
    assert client.read().endswith(b"hello")


@pytest.mark.parametrize("method", [b"GET", b"DELETE"])
@pytest.mark.parametrize("hops", [b"0", b"7", b"many", b"-1"])
def test_of_other_methods_it_is_not_looked_at(world, method, hops):
    client = world.client().send(ask(method, b"Max-Forwards: " + hops))
    assert b"Max-Forwards: " + hops + b"\r\n" in world.backend().read()
    world.backend().send(OK)
    assert client.read().endswith(b"hello")


@pytest.mark.parametrize(
    "lines", [[b"Max-Forwards: many"], [b"Max-Forwards:"], [b"Max-Forwards: -1"], [b"Max-Forwards: 1"] * 2]
)
def test_what_is_not_one_number_is_refused(world, lines):
    client = world.client().send(ask(b"OPTIONS", *lines))
    assert client.read().startswith(b"HTTP/1.1 400 ")
    assert client.closed
    assert world.backend_connections == []


def test_at_nothing_options_is_answered_here_and_the_connection_goes_on(world):
    client = world.client().send(ask(b"OPTIONS", b"Max-Forwards: 0") * 2)
    answer = client.read()
    assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
    assert answer.count(b"\r\nContent-Length: 0\r\n") == answer.count(b"HTTP/1.1 200") == 2
    assert world.backend_connections == []
    client.send(PLAIN)
    world.backend().send(OK)
    assert client.read().endswith(b"hello")


def test_at_nothing_a_trace_gets_back_what_came_less_what_is_secret(world):
    secrets = (b"Cookie: secret", b"authorization: secret", b"Proxy-Authorization: secret")
    client = world.client().send(ask(b"TRACE", b"A: b", *secrets, b"Max-Forwards: 0"))
    head, _, body = client.read().partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b"\r\nContent-Type: message/http" in head
    assert b"\r\nContent-Length: %d" % len(body) in head
    assert body.startswith(b"TRACE /x?y HTTP/1.1\r\n")
    assert b"\r\nA: b\r\n" in body
    assert b"secret" not in body
    assert world.backend_connections == []


def test_pipelined_behind_others_the_answer_of_our_own_keeps_its_place(world):
    client = world.client().send(PLAIN + ask(b"OPTIONS", b"Max-Forwards: 0") + PLAIN)
    for _ in range(2):
        world.backend().read()
        world.backend().send(OK)
    answers = client.read()
    assert [part[:12] for part in answers.split(b"HTTP/1.1 ")[1:]] == [
        b"200 OK\r\nDate",
        *[answers.split(b"HTTP/1.1 ")[2][:12]],
        b"200 OK\r\nDate",
    ]
    assert answers.count(b"Content-Length: 0\r\n") == 1
    assert answers.index(b"Content-Length: 0") < answers.rindex(b"hello")


def test_an_answer_of_our_own_to_a_request_with_a_body_ends_the_connection():
    one = World()
    client = one.client().send(ask(b"OPTIONS", b"Max-Forwards: 0", b"Content-Length: 3") + b"abc" + PLAIN)
    answer = client.read()
    assert answer.count(b"HTTP/1.1 ") == 1
    assert b"\r\nConnection: close\r\n" in answer
    assert client.closed
    one.close()


def test_the_same_block_is_counted_for_one_method_and_passed_for_another():
    """The header block is remembered, and the method is not a part of it."""
    one = World()
    client = one.client()
    for method, hops in ((b"GET", b"3"), (b"OPTIONS", b"2"), (b"GET", b"3"), (b"TRACE", b"2"), (b"OPTIONS", b"2")):
        client.send(ask(method, b"Max-Forwards: 3"))
        assert b"Max-Forwards: " + hops + b"\r\n" in one.backend().read()
        one.backend().send(OK)
        client.read()
    one.close()


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("method", ["OPTIONS", "TRACE"])
@pytest.mark.parametrize(
    ("options", "status"),
    [
        ({"listener": {"deny_clients": "127.0.0.1"}}, 403),
        ({"listener": {"rate_limits": {"per_s": 0.001}}}, 429),
        ({"routes": [{"method": ["OPTIONS", "TRACE"], "deny": True}]}, 403),
        ({"routes": [{"host": "other", "pool": "api"}]}, 404),
        ({"routes": [{"path": "/", "answer": {"status": 410}}]}, 410),
    ],
)
def test_at_nothing_only_who_would_be_let_through_is_answered(side, method, options, status):
    routes = options.get("routes", [{"pool": "api"}])
    roads = Crossroads(side, *routes, listener=options.get("listener", {}))
    request = get("/", "x", "Max-Forwards: 0", method=method)
    seen = [roads.ask(request).status for _ in range(2)]
    assert seen == [200 if status == 429 else status, status]
    roads.close()


@pytest.mark.parametrize("side", SIDES)
def test_at_nothing_the_answer_of_our_own_is_counted_for_its_client_while_it_runs(side):
    roads = Crossroads(side, {"pool": "api", "requests_per_client": 1})
    request = get("/", "x", "Max-Forwards: 0", method="OPTIONS")
    assert [roads.ask(request).status for _ in range(3)] == [200, 200, 200]
    roads.close()
