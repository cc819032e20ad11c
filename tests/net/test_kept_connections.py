"""Which kept connection to a backend a request may take: how old it is, what the backend says, and what it was seen to do."""

import random
from collections import Counter

import pytest
from house import House
from world import World

from twisted_lb.testing import CLOSE, Wait, response

OK = b"HTTP/1.1 200 OK\r\nDate: now\r\nContent-Length: 5\r\n\r\nhello"
GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"


@pytest.fixture
def world():
    one = World()
    yield one
    one.close()


def serve(world: World, answer: bytes = OK, request: bytes = GET) -> int:
    """One request of a new client, answered; the number of connections made to the backend so far."""
    client = world.client().send(request)
    backend = next(one for one in reversed(world.backend_connections) if one.sock.fileno() >= 0 and one.read())
    backend.send(answer)
    assert client.read().endswith(b"hello")
    client.close()
    return len(world.backend_connections)


def announcing(timeout: bytes) -> bytes:
    return OK.replace(b"Date: now", b"Keep-Alive: " + timeout)


def close_at(world: World, idle_s: float) -> None:
    """The backend closes its newest connection once it has been idle for so long."""
    world.advance(idle_s)
    world.backend().close()


@pytest.mark.parametrize(
    ("announced", "reused_at", "replaced_at"),
    [
        (b"timeout=5", 3.9, 4.0),
        (b"max=100, Timeout=10", 7.9, 8.0),
        (b'timeout="5"', 3.9, 4.0),
        (b"timeout=1", 0.7, 0.8),
    ],
)
def test_what_a_backend_announces_is_honoured(world, announced, reused_at, replaced_at):
    serve(world, announcing(announced))
    world.advance(reused_at)
    assert serve(world, announcing(announced)) == 1
    world.advance(replaced_at)
    assert serve(world) == 2


def test_a_connection_that_is_announced_to_close_at_once_is_not_kept(world):
    serve(world, announcing(b"timeout=0"))
    assert world.cluster.idle == 0


@pytest.mark.parametrize("announced", [b"", b"timeout", b"timeout=x", b"timeout=-1", b"timeout=" + b"9" * 30, b"max=5"])
def test_an_announcement_that_says_nothing_changes_nothing(world, announced):
    serve(world, announcing(announced))
    world.advance(59)
    assert serve(world) == 1


def test_a_long_announcement_does_not_outlast_the_configuration(world):
    serve(world, announcing(b"timeout=1000"))
    world.advance(61)
    assert world.cluster.idle == 0


def test_a_backend_that_closes_idle_connections_is_not_met_late_again(world):
    serve(world)
    close_at(world, 2.0)
    assert serve(world) == 2
    world.advance(1.5)
    assert serve(world) == 2
    world.advance(1.6)
    assert serve(world) == 3


def test_what_was_seen_holds_for_those_that_are_idle_already(world):
    clients = [world.client().send(GET) for _ in range(2)]
    older, younger = world.backend_connections
    older.send(OK)
    world.advance(0.5)
    younger.send(OK)
    assert all(client.read() for client in clients)
    world.advance(1.5)
    older.close()
    world.advance(0.2)  # 1.7 s: past 0.8 of 2 s
    assert world.cluster.idle == 0


def test_what_was_seen_is_believed_for_ten_minutes(world):
    serve(world)
    close_at(world, 2.0)
    world.advance(599)
    assert serve(world) == 2
    world.advance(1.7)
    assert serve(world) == 3  # put back more than 10 minutes after it was seen
    world.advance(30)
    assert serve(world) == 3


@pytest.mark.parametrize("words", [b"", b"HTTP/1.1 408 Request Timeout\r\nConnection: close\r\n\r\n"])
def test_a_close_with_words_teaches_as_well(world, words):
    serve(world)
    world.advance(2.0)
    if words:
        world.backend().send(words)
    world.backend().close()
    serve(world)
    world.advance(1.7)
    assert serve(world) == 3


def test_a_request_that_met_the_close_teaches_as_well(world):
    serve(world)
    world.advance(2.0)
    client = world.client().send(GET)
    world.backend().read()
    world.backend().close()
    world.backend().send(OK)
    assert client.read().endswith(b"hello")
    assert world.outcomes() == {"OK": 2, "STALE_REUSE": 1}
    world.advance(1.7)
    assert serve(world) == 3


def test_a_worker_that_ends_teaches_nothing(world):
    serve(world)
    close_at(world, 0.05)
    serve(world)
    world.advance(30)
    assert serve(world) == 2


def test_a_close_teaches_nothing_while_an_older_connection_is_kept(world):
    clients = [world.client().send(GET) for _ in range(2)]
    older, younger = world.backend_connections
    older.send(OK)
    world.advance(1)
    younger.send(OK)
    assert all(client.read() for client in clients)
    world.advance(1)
    younger.close()
    world.advance(30)
    assert serve(world) == 2


def test_whoever_comes_back_is_learnt_anew(world):
    serve(world)
    close_at(world, 2.0)
    world.cluster._forget_idle_timeout("a:80")
    serve(world)
    world.advance(30)
    assert serve(world) == 2


@pytest.mark.parametrize(
    ("request_bytes", "connections"),
    [
        (GET, 1),
        (b"PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nhi", 1),
        (b"PUT / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n", 1),
        (b"PUT / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 1),
        (b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n", 2),
        (b"PATCH / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nhi", 2),
        (b"PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: 70000\r\n\r\n" + b"x" * 70000, 2),
    ],
    ids=["GET", "PUT", "chunked PUT", "empty chunked PUT", "POST", "PATCH", "long PUT"],
)
def test_only_what_could_be_sent_again_takes_a_connection_that_was_idle_for_a_second(world, request_bytes, connections):
    serve(world)
    world.advance(1.0)
    assert serve(world, request=request_bytes) == connections


def test_a_chunked_body_that_is_still_coming_cannot_be_sent_again(world):
    serve(world)
    world.advance(1.0)
    world.client().send(b"PUT / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n")
    assert len(world.backend_connections) == 2


POST = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nhi"
NO_BUDGET = {"budget_percent": 0, "budget_per_s": 0}


def closing(house: House, later_s: float, share: float = 1.0) -> None:
    """A backend that closes so long after an answer, and does not announce it; after this share of them, by chance."""
    rng = random.Random(5)

    def answer(request: bytes) -> list:
        if rng.random() >= share:
            return [response(b"ok")]
        return [response(b"ok"), *([Wait(later_s)] if later_s else []), CLOSE]

    house.backend("a:80", answer)


def statuses(house: House, request: bytes, rounds: int, *, kept: bool) -> Counter:
    """What 16 clients were told, whose requests come at different moments; `kept`: each on one connection of its own."""
    rng = random.Random(7)
    told: Counter = Counter()
    clients = [house.client() for _ in range(16)]
    for _ in range(rounds):
        for index in range(16):
            if not kept:
                clients[index].close()
                clients[index] = house.client()
            clients[index].received = b""
            clients[index].send(request)
            house.wait(rng.choice([0.0, 0.0003, 0.0011]))
        house.wait(0.02)
        told.update(client.received[9:12].decode() for client in clients)
    return told


@pytest.mark.parametrize("later_s", [0.0, 0.001, 0.01])
def test_requests_that_may_be_repeated_never_fail_before_a_backend_that_closes_just_after_answering(build, later_s):
    """The retry budget has nothing to do with it: nobody has read what met the close."""
    house = build(retry=NO_BUDGET)
    closing(house, later_s)
    assert statuses(house, GET, 60, kept=True) == {"200": 960}


@pytest.mark.parametrize("later_s", [0.0, 0.001, 0.01])
@pytest.mark.parametrize("share", [0.15, 1.0])
def test_a_clients_first_request_that_must_not_be_repeated_meets_no_close(build, later_s, share):
    house = build(retry=NO_BUDGET)
    closing(house, later_s, share)
    assert statuses(house, POST, 60, kept=False) == {"200": 960}


@pytest.mark.parametrize("later_s", [0.001, 0.01])
def test_after_one_early_close_nothing_that_must_not_be_repeated_takes_a_kept_connection_for_a_minute(build, later_s):
    house = build(retry=NO_BUDGET)
    closing(house, later_s, 0.15)
    told = statuses(house, POST, 60, kept=True)
    assert told["200"] >= 950
    assert told["502"] <= 10
    always = build("a:80", retry=NO_BUDGET, upstream={"reuse": "always"})
    closing(always, later_s, 0.15)
    assert statuses(always, POST, 60, kept=True)["502"] > 20, "else there was nothing to avoid"


def test_who_met_a_close_goes_on_by_a_new_connection_also_when_it_has_to_wait_for_its_place():
    world = World(max_in_flight=2, queue={"timeout_s": 60.0})
    for client in [world.client().send(GET) for _ in range(2)]:
        client.read()
    for one in world.backend_connections:
        one.read()
        one.send(OK)
    world.configure(max_in_flight=1, queue={"timeout_s": 60.0})
    first = world.client().send(GET)
    waits = world.client().send(GET)
    asked = next(one for one in world.backend_connections if one.read())
    asked.close()
    world.run()
    assert len(world.backend_connections) == 3, "the other kept one may be closed too"
    for _ in range(2):
        for one in world.backend_connections:
            if one.sock.fileno() >= 0 and one.read():
                one.send(OK)
    assert first.read().endswith(b"hello")
    assert waits.read().endswith(b"hello")
    world.close()


@pytest.mark.parametrize("side", ["engine", "resource"])
def test_a_later_request_of_a_client_takes_a_kept_connection_also_where_it_must_not_be_repeated(side):
    """Its client had to reckon with that on its own connection."""
    world = World(side=side)
    client = world.client()
    connections = []
    for request in (GET, POST, POST):
        client.send(request)
        backend = world.backend()
        assert backend.read()
        backend.send(OK)
        assert client.read().endswith(b"hello")
        connections.append(len(world.backend_connections))
    assert connections == [1, 1, 1]
    world.client().send(POST)
    world.run()
    assert len(world.backend_connections) == 2, "the first one of another client"
    world.close()


def posts_of_new_clients(house: House, count: int = 1) -> int:
    """How many connections the backend got for so many."""
    before = len(house.server.connections)
    for _ in range(count):
        house.ask(POST).close()
        house.clock.settle()
    return len(house.server.connections) - before


def test_a_backend_that_keeps_a_hundred_idle_for_a_second_is_trusted_until_it_closes_one_early(build):
    house = build()
    house.server = house.backend("a:80")
    house.ask()
    assert posts_of_new_clients(house, 3) == 3

    def seen(times: int) -> None:
        for _ in range(times):
            house.wait(1.1)
            house.ask()

    seen(80)
    assert posts_of_new_clients(house) == 1
    seen(40)
    assert posts_of_new_clients(house, 3) == 0
    house.ask()
    for connection in house.server.connections:
        if connection.open:
            connection.transport.loseConnection()
    house.clock.settle()
    house.ask()
    assert posts_of_new_clients(house) == 1
    seen(120)
    assert posts_of_new_clients(house, 3) == 0
    house.wait(700)
    house.ask()
    assert posts_of_new_clients(house) == 1, "what was seen is forgotten after ten minutes"


def test_as_many_are_kept_as_were_in_use_at_once_and_at_least_32(build):
    house = build(upstream={"idle_s": 3600.0, "max_age_s": 7200.0})
    house.server = house.backend("a:80", lambda request: [Wait(0.5), response(b"ok")])
    clients = [house.client() for _ in range(200)]

    def crowd(size: int) -> int:
        for client in clients[:size]:
            client.send(GET)
        house.wait(1)
        return house.cluster.idle

    assert crowd(200) == 200
    made = len(house.server.connections)
    assert crowd(200) == 200
    assert len(house.server.connections) == made, "no connection for each second request"
    house.wait(70)
    assert crowd(20) <= 200
    for _ in range(200):
        crowd(1)
    assert house.cluster.idle == 32
    assert crowd(10) == 32


def test_a_number_is_a_bound_as_ever(build):
    house = build(upstream={"max_idle": 5})
    house.backend("a:80", lambda request: [Wait(0.5), response(b"ok")])
    for client in [house.client() for _ in range(50)]:
        client.send(GET)
    house.wait(1)
    assert house.cluster.idle == 5
