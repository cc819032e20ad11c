"""Scripted backends and clients, alone and on both sides of a real data path: the way users of the package would test."""

import random

import pytest
from twisted.internet.error import ConnectionDone

from twisted_lb.config import LoadBalancerConfig
from twisted_lb.testing import (
    CLOSE,
    NEVER_ANSWER,
    RESET,
    Balanced,
    HeapClock,
    MemoryNetwork,
    ScriptedBackend,
    ScriptedClient,
    Wait,
    response,
)
from twisted_lb.wire.chunked import chunk, last_chunk

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
HEAD = b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n"
POST = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello"
CHUNKED = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n" + chunk(b"hello") + last_chunk(b"")
OK = response()


class Town:
    """A network with nobody in it yet."""

    def __init__(self) -> None:
        self.clock = HeapClock(1000.0)
        self.network = MemoryNetwork(self.clock)

    def backend(self, *words, **named) -> ScriptedBackend:
        return ScriptedBackend(self.network, *words, **named)

    def client(self, address: str = "app:80", **named) -> ScriptedClient:
        return ScriptedClient(self.network, address, **named)

    def close(self) -> None:
        for end in self.network.open_connections:
            end.abortConnection()
        self.clock.advance(100)
        assert self.network.open_connections == []
        assert self.clock.getDelayedCalls() == []


@pytest.fixture
def town():
    one = Town()
    yield one
    one.close()


# A backend by itself.


def test_without_a_script_it_answers_200_and_keeps_the_connection(town):
    backend, client = town.backend("app:80"), town.client()
    for request in (GET, POST, CHUNKED):
        client.send(request)
        town.clock.settle()
        assert client.take() == OK
    client.send(HEAD)
    town.clock.settle()
    assert client.take() == OK[:-3]
    assert backend.requests == backend.connections[0].requests == [GET, POST, CHUNKED, HEAD]
    assert len(backend.connections) == 1


def test_a_request_is_complete_when_it_is_however_it_comes(town):
    backend, client = town.backend("app:80"), town.client()
    for byte in GET + POST + CHUNKED + GET:
        client.send(bytes([byte]))
        town.clock.settle()
    assert backend.requests == [GET, POST, CHUNKED, GET]
    assert client.received == OK * 4


def test_requests_sent_at_once_are_answered_one_after_the_other(town):
    backend, client = town.backend("app:80", [[Wait(1), b"HTTP/1.1 204 A\r\n\r\n"]]), town.client()
    client.send(POST + CHUNKED + GET)
    town.clock.advance(0.9)
    assert client.received == b""
    assert backend.requests == [POST]
    town.clock.advance(0.1)
    assert client.received == b"HTTP/1.1 204 A\r\n\r\n" + OK * 2


def test_a_list_is_followed_step_by_step_whatever_the_connection(town):
    backend = town.backend("app:80", [response(b"1"), [b"HTTP/1.1 200 A\r\nContent-Length: 2\r\n\r\n", Wait(2), b"22"]])
    one, two = town.client(), town.client()
    one.send(GET)
    town.clock.settle()
    two.send(GET)
    town.clock.advance(1)
    assert one.received.endswith(b"1")
    assert two.received.endswith(b"\r\n\r\n")
    town.clock.advance(1)
    assert two.received.endswith(b"\r\n\r\n22")
    backend.script.append(response(b"3"))
    one.send(GET)
    two.send(GET)
    town.clock.settle()
    assert one.take().endswith(b"3")
    assert two.take().endswith(OK)


def test_a_callable_is_asked_with_each_request(town):
    town.backend("app:80", lambda request: [response(request.split()[0])])
    client = town.client()
    client.send(POST + GET)
    town.clock.settle()
    assert client.received == response(b"POST") + response(b"GET")


def test_it_can_close_reset_or_never_answer(town):
    town.backend("app:80", [[b"HTTP/1.1 200 A\r\n\r\nuntil close", CLOSE], RESET, NEVER_ANSWER])
    closed, was_reset, waiting = town.client(), town.client(), town.client()
    for client in (closed, was_reset, waiting):
        client.send(GET)
        town.clock.settle()
    assert closed.received.endswith(b"until close")
    assert (closed.ended, closed.was_reset) == (True, False)
    assert was_reset.was_reset
    town.clock.advance(1000)
    assert (waiting.received, waiting.open, waiting.ended) == (b"", True, False)


def test_it_closes_when_the_request_asks_for_it_and_when_the_client_has_nothing_more_to_say(town):
    backend = town.backend("app:80")
    asking, leaving = town.client(), town.client()
    asking.send(GET[:-2] + b"Connection: close\r\n\r\n")
    leaving.send(GET).half_close()
    town.clock.settle()
    assert asking.ended
    assert leaving.received == OK
    assert leaving.ended
    assert backend.connections[1].ended
    assert backend.connections[1].lost.check(ConnectionDone)


def test_early_it_answers_before_the_body_has_come(town):
    backend, client = town.backend("app:80", early=True), town.client()
    client.send(POST[:-3])
    town.clock.settle()
    assert client.take() == OK
    assert backend.requests == []
    client.send(POST[-3:] + GET)
    town.clock.settle()
    assert client.take() == OK
    assert backend.requests == [POST, GET]


def test_after_a_switch_of_protocols_bytes_are_just_received(town):
    backend = town.backend("app:80", [b"HTTP/1.1 101 Switching\r\nUpgrade: x\r\n\r\n"])
    client = town.client()
    client.send(GET)
    town.clock.settle()
    client.send(b"not http\r\n\r\n")
    town.clock.settle()
    (connection,) = backend.connections
    assert connection.received == GET + b"not http\r\n\r\n"
    connection.transport.write(b"nor this")
    town.clock.settle()
    assert client.received.endswith(b"nor this")


def test_what_is_no_request_is_a_bug_of_the_sender(town, logged_errors):
    backend, client = town.backend("app:80"), town.client()
    client.send(b"GET / HTTP/1.1\r\nHost : a\r\n\r\n")
    town.clock.settle()
    assert client.was_reset
    assert backend.requests == []
    assert len(logged_errors.take()) == 1


def test_dead_it_refuses_and_resets(town):
    backend, client = town.backend("app:80"), town.client()
    town.clock.settle()
    backend.stop()
    town.clock.settle()
    assert client.was_reset
    with pytest.raises(ConnectionRefusedError):
        town.client()


# Around a balancer: the transports are not its own, as with TLS.


class BalancedTown(Town):
    """A balancer at lb:8080, in front of backends that the test puts there. Nobody checks them."""

    def __init__(self, *names: str) -> None:
        super().__init__()
        config = LoadBalancerConfig(backends=list(names), health_check={"interval_s": 0.0})
        self.balanced = Balanced(config, self.network, seed=2)  # with it the first of them is asked first
        self.outcomes = self.balanced.outcomes

    def ask(self, request: bytes = GET, within_s: float = 0) -> ScriptedClient:
        client = self.client("lb:8080")
        client.send(request)
        self.clock.advance(within_s)
        return client

    def close(self) -> None:
        balanced = self.balanced
        for end in self.network.open_connections:
            end.abortConnection()
        self.clock.settle()
        assert (balanced.frontend.exchanges, len(balanced.frontend.clients)) == (0, 0)
        assert balanced.cluster.open == 0
        assert all(backend.in_flight == 0 for backend in balanced.cluster.snapshot().backends)
        balanced.close()
        super().close()
        assert balanced.runtime.deadlines.armed == 0


@pytest.fixture
def balanced():
    one = BalancedTown("a:80", "b:80")
    yield one
    one.close()


def test_requests_are_spread_and_answers_come_back(balanced):
    backends = [balanced.backend(f"{name}:80", lambda request, name=name: [response(name.encode())]) for name in "ab"]
    client = balanced.client("lb:8080", host="192.0.2.7")
    for _ in range(4):
        client.send(GET)
        balanced.clock.settle()
    assert [len(backend.requests) for backend in backends] == [2, 2]
    assert client.received.count(b"HTTP/1.1 200 OK") == 4
    assert b"X-Forwarded-For: 192.0.2.7\r\n" in backends[0].requests[0]
    assert [len(backend.connections) for backend in backends] == [1, 1]


def test_a_dead_backend_is_passed_over(balanced):
    alive = balanced.backend("b:80")
    for _ in range(4):
        assert balanced.ask().received.startswith(b"HTTP/1.1 200 ")
    assert len(alive.requests) == 4


def test_a_backend_that_never_answers_costs_all_the_time_there_is(balanced):
    balanced.backend("a:80", [NEVER_ANSWER])
    balanced.backend("b:80")
    client = balanced.ask(within_s=59)
    assert client.received == b""
    balanced.clock.advance(2)
    assert client.received.startswith(b"HTTP/1.1 504 ")
    assert balanced.outcomes() == {"TIMED_OUT": 1}


def test_an_address_that_hangs_costs_its_time_and_the_next_is_asked(balanced):
    balanced.network.hang("a:80")
    balanced.backend("b:80")
    client = balanced.ask(within_s=4.9)
    assert client.received == b""
    balanced.clock.advance(0.2)
    assert client.received.startswith(b"HTTP/1.1 200 ")


def test_an_answer_that_is_cut_short_is_visibly_so(balanced):
    for name in ("a:80", "b:80"):
        balanced.backend(name, [[b"HTTP/1.1 200 A\r\nTransfer-Encoding: chunked\r\n\r\n" + chunk(b"half"), RESET]])
    client = balanced.ask()
    assert client.received.endswith(chunk(b"half"))
    assert client.ended or client.was_reset
    assert balanced.outcomes() == {"CUT_SHORT": 1}


def test_a_slow_client_slows_the_backend_and_gets_everything(balanced):
    body = random.Random(5).randbytes(3 << 20)
    backend = balanced.backend("a:80", [response(body)])
    client = balanced.client("lb:8080")
    client.stop_reading()
    client.send(GET)
    balanced.clock.advance(1)
    (connection,) = backend.connections
    assert connection.transport.unsent > 2 << 20
    client.go_on_reading()
    balanced.clock.advance(1)
    assert client.received.endswith(b"\r\n\r\n" + body)


def test_a_slow_backend_slows_the_client_and_gets_everything(balanced):
    body = random.Random(6).randbytes(3 << 20)
    backend = balanced.backend("a:80")
    client = balanced.client("lb:8080")
    client.send(b"PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % len(body))
    balanced.clock.settle()
    (connection,) = backend.connections
    connection.transport.pauseProducing()
    client.send(body)
    balanced.clock.advance(1)
    assert client.transport.unsent > 2 << 20
    connection.transport.resumeProducing()
    balanced.clock.advance(1)
    assert backend.requests[0].endswith(body)
    assert client.received.startswith(b"HTTP/1.1 200 ")


def test_a_client_that_leaves_takes_its_request_with_it(balanced):
    backend = balanced.backend("a:80", [NEVER_ANSWER])
    client = balanced.ask()
    client.reset()
    balanced.clock.advance(1)
    assert not backend.connections[0].open
    assert balanced.outcomes() == {"CLIENT_GONE": 1}


def test_an_upgrade_becomes_a_tunnel(balanced):
    switch = b"HTTP/1.1 101 Switching\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"
    backend = balanced.backend("a:80", [switch])
    client = balanced.ask(GET[:-2] + b"Upgrade: websocket\r\nConnection: Upgrade\r\n\r\n")
    assert client.take().startswith(b"HTTP/1.1 101 ")
    client.send(b"ping")
    balanced.clock.settle()
    (connection,) = backend.connections
    assert connection.received.endswith(b"ping")
    connection.transport.write(b"pong")
    balanced.clock.settle()
    assert client.take() == b"pong"
    client.close()
    connection.transport.loseConnection()
    balanced.clock.advance(1)
    assert balanced.network.open_connections == []
    assert balanced.outcomes() == {"OK": 1}


def test_hundreds_of_clients_at_once(balanced):
    backends = [balanced.backend(f"{name}:80", lambda request: [Wait(0.5), response()]) for name in "ab"]
    clients = [balanced.client("lb:8080") for _ in range(300)]
    for client in clients:
        client.send(GET)
    balanced.clock.advance(1)
    assert all(client.received.startswith(b"HTTP/1.1 200 ") for client in clients)
    assert [len(backend.requests) for backend in backends] == [150, 150]
