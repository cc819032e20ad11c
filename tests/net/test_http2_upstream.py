"""HTTP/2 to backends: what h2, another implementation, is asked, and what becomes of what it answers."""

from collections.abc import Iterator

import pytest
from h2.settings import SettingCodes
from http2_backend import Request
from http2_house import Http2House

from twisted_lb.core.events import BackendEjected
from twisted_lb.testing import Wait, response
from twisted_lb.wire.http2.frames import DATA, END_STREAM, PREFACE

GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
POST = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nhi"
PUT = POST.replace(b"POST", b"PUT")


def never(request: Request) -> None:
    """Nothing is answered."""


class Http1Server:
    """Who understands no preface."""

    def makeConnection(self, transport):
        self.transport = transport

    def dataReceived(self, data):
        self.transport.write(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
        self.transport.loseConnection()

    def readConnectionLost(self):
        self.transport.loseConnection()

    def connectionLost(self, reason):
        """It is over."""


@pytest.fixture
def build() -> Iterator[type[Http2House]]:
    houses = []

    def built(*names, **options):
        houses.append(Http2House(*names, **options))
        return houses[-1]

    yield built
    for house in houses:
        house.close()


# Requests and answers.


def test_a_request_is_asked_in_http2_and_answered_in_http1(build):
    house = build()
    backend = house.http2("a:80", [lambda request: request.answer(b"hello\n", 200, ("x-y", "z"), ("date", "now"))])
    client = house.ask(b"GET /a?b=c HTTP/1.1\r\nHost: www.example.com\r\nAccept: */*\r\nX-Mine: 1\r\n\r\n")
    assert client.take() == b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\nx-y: z\r\ndate: now\r\n\r\nhello\n"
    (request,) = backend.requests
    assert request.fields == [
        (":method", "GET"), (":scheme", "http"), (":path", "/a?b=c"), (":authority", "www.example.com"), ("accept", "*/*"),
        ("x-mine", "1"), ("x-forwarded-for", "127.0.0.1"), ("x-forwarded-proto", "http"),
        ("x-forwarded-host", "www.example.com"), ("x-forwarded-port", "8080"),
    ]  # fmt: skip
    assert house.outcomes == ["OK"]


def test_requests_of_many_clients_share_one_connection(build):
    house = build()
    backend = house.http2("a:80", otherwise=never)
    clients = [house.client() for _ in range(100)]
    for client in clients:
        client.send(GET)
    house.clock.settle()
    assert (len(backend.connections), len(backend.requests)) == (1, 100)
    assert house.cluster.shared() == {house.members[0]: (1, 100)}
    for request in reversed(backend.requests):
        request.answer(b"%d" % request.stream)
    house.clock.settle()
    assert [client.take().rpartition(b"\n")[2] for client in clients] == [b"%d" % (2 * n + 1) for n in range(100)]
    assert house.cluster.connections() == {house.members[0]: (1, 1)}


def test_one_more_than_a_connection_takes_has_another_one_made(build):
    house = build()
    backend = house.http2("a:80", otherwise=never)
    for _ in range(101):
        house.client().send(GET)
    house.clock.settle()
    assert [len(one.requests) for one in backend.connections] == [100, 1]


def test_a_backend_says_how_many_calls_it_takes_at_a_time(build):
    house = build()
    backend = house.http2("a:80", otherwise=never, settings={SettingCodes.MAX_CONCURRENT_STREAMS: 3})
    house.ask()
    for _ in range(6):
        house.ask()
    assert [len(one.requests) for one in backend.connections] == [3, 3, 1]


def test_connections_that_are_not_needed_are_closed_when_they_are_idle(build):
    house = build(upstream={"idle_s": 600.0})
    backend = house.http2("a:80", otherwise=never, settings={SettingCodes.MAX_CONCURRENT_STREAMS: 1})
    for _ in range(3):
        house.ask()
    assert len(backend.connections) == 3
    for request in backend.requests:
        request.answer()
    house.clock.settle()
    assert [one.open for one in backend.connections] == [False, False, True]
    assert [one.went for one in backend.connections] == [0, 0, None]


def test_an_idle_connection_is_closed_after_its_time(build):
    house = build(upstream={"idle_s": 20.0})
    backend = house.http2()
    house.ask()
    house.wait(15)
    house.ask()
    house.wait(19)
    assert backend.connection.open
    house.wait(2)
    assert (len(backend.connections), backend.connection.open, backend.connection.went) == (1, False, 0)


@pytest.mark.parametrize("options", [{"max_requests": 3}, {"max_age_s": 10.0}])
def test_a_worn_connection_ends_with_its_last_call(build, options):
    house = build(upstream=options)
    backend = house.http2("a:80", [never], otherwise=lambda request: request.answer())
    slow = house.ask()
    house.ask()
    house.ask()
    house.wait(11)
    house.ask()
    assert len(backend.connections) == 2
    first, second = backend.connections
    assert (first.open, second.open) == (True, True)
    backend.requests[0].answer()
    house.clock.settle()
    assert slow.take().endswith(b"ok\n")
    assert (first.open, first.went, second.open) == (False, 0, True)


@pytest.mark.parametrize("size", [1, 100, 16_384, 65_535, 65_536, 300_000, 2_500_000])
def test_a_body_up_is_whole_and_one_down_too(build, size):
    body = (bytes(range(256)) * (size // 256 + 1))[:size]
    house = build()
    backend = house.http2("a:80", [lambda request: request.answer(request.body)])
    client = house.ask(b"PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % size + body)
    assert backend.requests[0].body == body
    assert client.take().partition(b"\r\n\r\n")[2] == body
    assert backend.requests[0].field("content-length") == str(size)


def test_a_chunked_body_has_no_length_and_no_coding(build):
    house = build()
    backend = house.http2()
    head = b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nTE: trailers\r\nConnection: te, x-hop\r\nX-Hop: 1\r\n\r\n"
    client = house.ask(head + b"2\r\nhi\r\n0\r\nX-Sum: 5\r\n\r\n")
    (request,) = backend.requests
    names = {name for name, _ in request.fields}
    assert (request.body, request.trailers) == (b"hi", {"x-sum": "5"})
    assert not names & {"transfer-encoding", "content-length", "connection", "x-hop"}
    assert request.field("te") == "trailers"
    assert client.take().endswith(b"ok\n")


def test_an_answer_without_a_length_is_chunked_and_keeps_its_trailers(build):
    house = build()
    house.http2("a:80", [lambda request: request.head().data(b"hello").trail(("x-sum", "5"))])
    heard = house.ask().take()
    assert heard.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b"Transfer-Encoding: chunked\r\n" in heard
    assert heard.endswith(b"\r\n\r\n5\r\nhello\r\n0\r\nx-sum: 5\r\n\r\n")


def test_an_answer_without_a_body_says_so_to_a_client_of_http1(build):
    house = build()
    house.http2("a:80", [lambda request: request.head(404, ("x-y", "z"), ended=True)])
    client = house.ask()
    assert client.take().partition(b"\r\nDate")[0] == b"HTTP/1.1 404 Not Found\r\nx-y: z\r\nContent-Length: 0"
    house.ask(GET, client)
    assert client.take().endswith(b"ok\n")


@pytest.mark.parametrize("status", [204, 304])
def test_a_bodiless_answer_has_none(build, status):
    house = build()
    house.http2("a:80", [lambda request: request.head(status, ("etag", "x"), ended=True)])
    client = house.ask()
    heard = client.take()
    assert heard.startswith(b"HTTP/1.1 %d " % status)
    assert b"ength" not in heard
    assert b"hunked" not in heard
    house.ask(GET, client)
    assert client.take().endswith(b"ok\n")


def test_a_head_is_answered_without_a_body_whatever_length_is_said(build):
    house = build()
    backend = house.http2()
    client = house.ask(GET.replace(b"GET", b"HEAD"))
    heard = client.take()
    assert b"content-length: 3\r\n" in heard
    assert heard.endswith(b"\r\n\r\n")
    house.ask(GET, client)
    assert client.take().endswith(b"ok\n")
    assert len(backend.connections) == 1


def test_interim_answers_pass(build):
    house = build()
    house.http2("a:80", [lambda request: request.head(103, ("link", "</s.css>")).answer()])
    heard = house.ask().take()
    assert heard.startswith(b"HTTP/1.1 103 Early Hints\r\nlink: </s.css>\r\n\r\nHTTP/1.1 200 OK\r\n")


def test_an_expectation_is_met_by_the_backend(build):
    house = build()
    backend = house.http2("a:80", [lambda request: request.head(100)], early=True)
    client = house.ask(POST.replace(b"\r\n\r\nhi", b"\r\nExpect: 100-continue\r\n\r\n"))
    assert client.take() == b"HTTP/1.1 100 Continue\r\n\r\n"
    client.send(b"hi")
    house.clock.settle()
    assert (backend.requests[0].body, backend.requests[0].ended) == (b"hi", True)
    backend.requests[0].answer()
    house.clock.settle()
    assert client.take().endswith(b"ok\n")


def test_an_answer_that_ends_before_its_request_stops_the_rest_of_it(build):
    house = build()
    backend = house.http2("a:80", [lambda request: request.answer(b"too much", 413)], early=True)
    client = house.ask(b"PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\nbegun")
    assert client.take().endswith(b"too much")
    assert backend.requests[0].reset == 0
    assert backend.connection.open


def test_who_offers_to_switch_protocols_is_told_that_there_is_none(build):
    house = build()
    backend = house.http2()
    client = house.ask(GET.replace(b"\r\n\r\n", b"\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n"))
    assert client.take().startswith(b"HTTP/1.1 501 ")
    assert house.outcomes == ["NO_SWITCH"]
    assert house.records[-1].detail == "a switch of protocols (Upgrade), and the backend speaks HTTP/2"
    assert not backend.requests
    house.ask(GET)
    assert house.members[0].failures == 0


# Back-pressure.


def test_a_client_that_does_not_read_holds_a_window_and_no_other_client(build):
    house = build()
    bulk = b"x" * 8_000_000
    backend = house.http2(
        "a:80", otherwise=lambda request: request.answer(bulk if request.path == "/bulk" else b"ok\n")
    )
    slow = house.client()
    slow.stop_reading()
    house.ask(GET.replace(b"/ ", b"/bulk "), slow)
    assert backend.requests[0].unsent >= len(bulk) - 2_000_000
    assert house.ask().take().endswith(b"ok\n")
    slow.go_on_reading()
    house.clock.settle()
    assert slow.take().partition(b"\r\n\r\n")[2] == bulk
    assert len(backend.connections) == 1


def test_twenty_slow_clients_do_not_stop_another_one(build):
    house = build()
    bulk = b"x" * 3_000_000
    backend = house.http2(
        "a:80", otherwise=lambda request: request.answer(bulk if request.path == "/bulk" else b"ok\n")
    )
    for _ in range(20):
        slow = house.client()
        slow.stop_reading()
        house.ask(GET.replace(b"/ ", b"/bulk "), slow)
    assert house.ask().take().endswith(b"ok\n")
    assert len(backend.connections) == 1


def test_a_backend_whose_window_is_shut_slows_its_client(build):
    house = build()
    backend = house.http2("a:80", otherwise=never, stingy=True)
    client = house.ask(b"PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: 3000000\r\n\r\n")
    client.send(b"x" * 3_000_000)
    house.clock.settle()
    (request,) = backend.requests
    assert len(request.body) == 65_535
    assert house.ask().open  # the head of another one passes
    assert len(backend.requests) == 2
    connection = backend.connection
    backend.stingy = False
    connection.h2.increment_flow_control_window(3_000_000)
    connection.h2.increment_flow_control_window(3_000_000, request.stream)
    connection.send()
    house.clock.settle()
    assert (len(request.body), request.ended) == (3_000_000, True)
    request.answer()
    house.clock.settle()
    assert client.take().endswith(b"ok\n")


# Outcomes.


def test_a_stream_that_is_refused_was_not_processed_and_goes_elsewhere_whatever_its_method(build):
    house = build("a:80", "b:80")
    first = house.http2("a:80", [lambda request: request.give_up(7)])
    second = house.http2("b:80", [lambda request: request.give_up(7)])
    client = house.ask(POST)
    assert client.take().endswith(b"ok\n")
    assert house.outcomes[0] == "UNPROCESSED"
    assert house.outcomes[-1] == "OK"
    assert sum(one.failures for one in house.members) == 0
    assert not [event for event in house.events if isinstance(event, BackendEjected)]
    assert len(first.requests) + len(second.requests) == len(house.outcomes)


def test_who_refuses_every_stream_is_asked_three_times(build):
    house = build()
    backend = house.http2("a:80", otherwise=lambda request: request.give_up(7))
    assert house.ask(POST).take().startswith(b"HTTP/1.1 502 ")
    assert house.outcomes == ["UNPROCESSED"] * 3
    assert len(backend.requests) == 3


@pytest.mark.parametrize(("asked", "outcomes"), [(GET, ["NO_RESPONSE", "OK"]), (POST, ["NO_RESPONSE"])])
def test_another_reset_is_no_response(build, asked, outcomes):
    house = build("a:80", "b:80")
    script = [lambda request: request.give_up(2)]
    for name in ("a:80", "b:80"):
        house.http2(name).script = script
    house.ask(asked)
    assert house.outcomes == outcomes
    assert house.record.attempts[0].detail == "the backend reset it: INTERNAL_ERROR"


def test_a_reset_within_an_answer_cuts_it_visibly(build):
    house = build()
    house.http2("a:80", [lambda request: request.head(200, ("content-length", "10")).data(b"hello").give_up(2)])
    client = house.ask()
    assert client.take().endswith(b"hello")
    assert client.ended
    assert house.outcomes == ["CUT_SHORT"]
    assert house.ask().take().endswith(b"ok\n")  # the connection serves on


def test_calls_above_the_last_id_of_a_goaway_go_elsewhere_and_those_below_are_finished(build):
    house = build()
    backend = house.http2("a:80", otherwise=never)
    clients = [house.ask(POST) for _ in range(3)]
    first = backend.connections[0]
    backend.otherwise = lambda request: request.answer(b"anew")
    first.go_away(3)
    house.clock.settle()
    assert [client.take()[-4:] for client in clients] == [b"", b"", b"anew"]
    assert house.outcomes == ["UNPROCESSED", "OK"]
    assert len(backend.connections) == 2


def test_a_client_that_leaves_has_its_call_cancelled_and_the_connection_kept(build):
    house = build()
    backend = house.http2("a:80", [never])
    client = house.ask()
    client.close()
    house.clock.settle()
    assert backend.requests[0].reset == 8
    assert backend.connection.open
    assert house.outcomes == ["CLIENT_GONE"]


def test_an_answer_that_does_not_come_in_time_is_504_and_its_call_cancelled(build):
    house = build(timeouts={"connect_s": 5.0}, more={"defaults": {"route": {"timeouts": {"response_head_s": 7.0}}}})
    backend = house.http2("a:80", [never])
    client = house.ask(POST)
    house.wait(8)
    assert client.take().startswith(b"HTTP/1.1 504 ")
    assert (house.outcomes, backend.requests[0].reset, backend.connection.open) == (["TIMED_OUT"], 8, True)


def test_a_connection_that_dies_is_one_failure_and_each_call_has_its_outcome(build):
    house = build(ejection={"consecutive_failures": 5})
    backend = house.http2("a:80", otherwise=never)
    house.ask(POST)
    backend.requests[0].answer()
    house.clock.settle()
    for _ in range(20):
        house.ask(POST)
    backend.requests[1].head(200, ("content-length", "9"))
    backend.connection.transport.abortConnection()
    house.clock.settle()
    outcomes = [record.attempts[-1].outcome.name for record in house.records[1:]]
    assert sorted(outcomes) == ["CUT_SHORT"] + ["NO_RESPONSE"] * 19
    assert house.members[0].failures == 1
    assert not [event for event in house.events if isinstance(event, BackendEjected)]


def test_a_connection_that_dies_while_it_was_idle_is_the_keep_alive_race(build):
    house = build()
    backend = house.http2()
    house.ask()
    backend.connection.frozen = True
    client = house.ask()
    backend.connection.transport.abortConnection()
    house.clock.settle()
    assert client.take().endswith(b"ok\n")
    assert house.outcomes == ["STALE_REUSE", "OK"]
    assert house.members[0].failures == 0


def test_a_refused_connect_is_one_failure_however_many_wait_for_it(build):
    house = build()
    for _ in range(20):
        house.client().send(GET)
    house.clock.settle()
    assert len(house.network.dialled) == 1
    assert {record.attempts[-1].outcome.name for record in house.records} == {"REFUSED"}
    assert house.members[0].failures == 1


def test_who_leaves_while_a_connection_is_made_for_several_leaves_alone(build):
    house = build()
    backend = house.http2()
    house.network.hang("a:80")
    first, second = house.ask(), house.ask()
    first.close()
    house.clock.settle()
    assert len(house.network.dialled) == 1
    second.close()
    house.clock.settle()
    house.network.heal("a:80")
    house.wait(10)
    assert not backend.connections


def test_a_silent_backend_is_asked_whether_it_is_there(build):
    house = build(more={"defaults": {"route": {"timeouts": {"response_head_s": 300.0}}}})
    backend = house.http2("a:80", otherwise=never)
    house.ask()
    house.wait(31)
    assert backend.connection.pongs == 0
    assert b"twistdlb" in backend.connection.received
    house.wait(30)
    backend.connection.frozen = True
    house.wait(100)
    assert house.outcomes[0] == "NO_RESPONSE"
    assert "PING" in house.records[-1].attempts[0].detail


def test_a_reload_to_http1_lets_calls_finish_and_speaks_http1(build):
    house = build()
    backend = house.http2("a:80", [never])
    client = house.ask()
    house.apply(protocol="h1")
    backend.listener.stop()
    old = house.backend("a:80", [response(b"old\n")])
    assert house.ask().take().endswith(b"old\n")
    backend.requests[0].answer()
    house.clock.settle()
    assert client.take().endswith(b"ok\n")
    assert not backend.connection.open
    assert len(old.requests) == 1


def test_a_reload_to_http2_speaks_it(build):
    house = build(protocol="h1")
    old = house.backend("a:80", [[Wait(1.0), response(b"old\n")]])
    client = house.ask()
    house.apply(protocol="h2")
    old.listener.stop()
    house.http2()
    assert house.ask().take().endswith(b"ok\n")
    house.wait(2)
    assert client.take().endswith(b"old\n")
    assert not old.connections[0].open


def test_a_backend_that_is_removed_finishes_its_calls(build):
    house = build("a:80", "b:80")
    backends = [house.http2(name, otherwise=never) for name in ("a:80", "b:80")]
    clients = [house.ask() for _ in range(2)]
    house.apply(backends=["b:80"])
    assert [backend.connection.open for backend in backends] == [True, True]
    for backend in backends:
        backend.requests[0].answer()
    house.clock.settle()
    assert [client.take()[-3:] for client in clients] == [b"ok\n"] * 2
    assert [backend.connection.open for backend in backends] == [False, True]


def test_a_backend_of_http1_is_said_to_be_one(build):
    house = build()
    house.network.listen("a:80", Http1Server)
    assert house.ask(POST).take().startswith(b"HTTP/1.1 502 ")
    assert house.outcomes == ["BAD_RESPONSE"]
    assert house.records[-1].detail == "PROTOCOL_ERROR: it speaks HTTP/1.1"


def test_limits_of_requests_at_a_time_stay_exact(build):
    house = build(max_in_flight=2, queue={"length": 10, "timeout_s": 5.0, "no_backend_s": 0.0})
    backend = house.http2("a:80", otherwise=never)
    clients = [house.ask() for _ in range(4)]
    assert len(backend.requests) == 2
    backend.requests[0].answer()
    house.clock.settle()
    assert len(backend.requests) == 3
    clients[1].close()
    house.clock.settle()
    assert len(backend.requests) == 4


def bodies(connection) -> list[tuple[int, bool]]:
    """The frames of DATA that a backend was sent, as (bytes, whether it is the end)."""
    received, found, at = connection.received, [], len(PREFACE)
    while at < len(received):
        size = int.from_bytes(received[at : at + 3], "big")
        if received[at + 3] == DATA:
            found.append((size, bool(received[at + 4] & END_STREAM)))
        at += 9 + size
    return found


def test_a_request_that_is_here_ends_with_its_last_frame(build):
    house = build()
    backend = house.http2("a:80")
    house.ask(POST)
    assert bodies(backend.connection) == [(2, True)]
    large = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 40000\r\n\r\n" + b"x" * 40_000
    house.ask(large)
    assert bodies(backend.connection)[1:] == [(16_384, False), (16_384, False), (7_232, True)]


def test_one_whose_end_comes_later_ends_with_an_empty_frame(build):
    house = build()
    backend = house.http2("a:80")
    client = house.ask(b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n")
    house.clock.settle()
    assert bodies(backend.connection) == [(2, False)]
    client.send(b"0\r\n\r\n")
    house.clock.settle()
    assert bodies(backend.connection) == [(2, False), (0, True)]
