"""What the data path does with the ways to backends, where these are calls of HTTP/2: hedges, mirrors, bindings, places that are held, moves."""

from collections.abc import Iterator

import pytest
from http2_backend import Request
from http2_house import Http2House

from twisted_lb.core.backend import AdminState
from twisted_lb.core.hedging import Hedged
from twisted_lb.testing import response

GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
PUT = b"PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc"


def never(request: Request) -> None:
    """Nothing is answered."""


@pytest.fixture
def build() -> Iterator[type[Http2House]]:
    houses = []

    def built(*names, **options):
        houses.append(Http2House(*names, **options))
        return houses[-1]

    yield built
    for house in houses:
        house.close()


@pytest.mark.parametrize("asked", [GET, PUT])
def test_a_hedge_is_a_call_and_the_loser_is_reset(build, asked):
    house = build("a:80", "b:80", hedge={"delay_s": 0.05})
    first, second = (
        house.http2("a:80", otherwise=never),
        house.http2("b:80", [lambda request: request.answer(b"second")]),
    )
    client = house.ask(asked)
    house.wait(0.2)
    assert client.take().endswith(b"second")
    assert house.pool.totals.hedges[Hedged.WON] == 1
    assert (first.requests[0].reset, first.connection.open) == (8, True)
    assert second.requests[0].body == (b"abc" if asked is PUT else b"")


def test_a_hedge_and_the_attempt_beside_it_tell_the_stream_of_each(build):
    house = build("a:80", "b:80", hedge={"delay_s": 0.05})
    house.http2("a:80", [lambda request: request.answer(), never])
    house.http2("b:80")
    client = house.ask(GET)
    house.ask(GET, client)
    house.ask(GET, client)
    house.wait(0.2)
    told = house.plane.explained("recent", 1)[0]
    assert [(one.backend, one.outcome, one.stream) for one in told.attempts] == [
        ("a:80", "CANCELLED", 3),
        ("b:80", "OK", 3),
    ]


def test_a_mirror_is_a_call_whose_answer_nobody_hears():
    shadow = {"backends": ["m:80"], "protocol": "h2", "health_check": {"interval_s": 0.0}}
    house = Http2House(mirror={"to": "shadow", "percent": 100}, shadow=shadow)
    backend, mirrored = house.http2("a:80"), house.http2("m:80", otherwise=lambda request: request.answer(b"nobody's"))
    assert house.ask(GET).take().endswith(b"ok\n")
    assert [request.body for request in (*backend.requests, *mirrored.requests)] == [b"", b""]
    assert mirrored.requests[0].field("x-mirrored") == "default"
    house.close()


def test_a_request_that_is_bound_goes_where_it_is_bound(build):
    house = build("a:80", "b:80", affinity={"header": "X-User"})
    backends = [house.http2(name) for name in ("a:80", "b:80")]
    for _ in range(6):
        house.ask(GET.replace(b"\r\n\r\n", b"\r\nX-User: ann\r\n\r\n"))
    assert sorted(len(backend.requests) for backend in backends) == [0, 6]


def test_a_place_is_held_until_the_backend_is_done_with_what_nobody_waits_for(build):
    house = build(max_in_flight=1, abandoned_s=10.0, queue={"length": 5, "timeout_s": 30.0, "no_backend_s": 0.0})
    backend = house.http2("a:80", otherwise=never)
    client = house.ask()
    client.close()
    house.clock.settle()
    assert (backend.requests[0].reset, house.members[0].in_flight) == (None, 1)
    waiting = house.ask()
    assert len(backend.requests) == 1
    backend.requests[0].answer()
    house.clock.settle()
    assert (len(backend.requests), waiting.take()) == (2, b"")
    backend.requests[1].answer(b"mine")
    house.clock.settle()
    assert waiting.take().endswith(b"mine")


def test_a_place_is_free_when_that_time_is_over_and_the_call_reset(build):
    house = build(max_in_flight=1, abandoned_s=10.0)
    backend = house.http2("a:80", otherwise=never)
    client = house.ask()
    client.close()
    house.wait(11)
    assert (backend.requests[0].reset, house.members[0].in_flight, backend.connection.open) == (8, 0, True)


def test_calls_are_moved_away_from_a_backend_that_has_frozen(build):
    house = build("a:80", "b:80", health_check={"interval_s": 1.0, "fall": 2, "timeout_s": 0.5})
    backends = [house.http2(name, otherwise=lambda request: request.answer()) for name in ("a:80", "b:80")]
    house.wait(3)
    for backend in backends:
        backend.otherwise = never
    clients = [house.ask() for _ in range(2)]
    for connection in backends[0].connections:
        connection.frozen = True
    house.network.hang("a:80")
    backends[1].otherwise = lambda request: request.answer(b"elsewhere" if request.path == "/" else b"ok")
    house.wait(10)
    heard = [client.take() for client in clients]
    assert any(one.endswith(b"elsewhere") for one in heard)
    moved = [record for record in house.records if len(record.attempts) > 1]
    assert [[one.outcome.name for one in record.attempts] for record in moved] == [["BACKEND_DOWN", "OK"]]
    house.network.heal("a:80")


def test_a_status_that_counts_as_a_failure_is_retried_and_its_call_reset(build):
    house = build("a:80", "b:80", retry={"bad_statuses": [503]})
    script = [lambda request: request.head(503, ("content-length", "9")), lambda request: request.answer(b"fine")]
    for name in ("a:80", "b:80"):
        house.http2(name).script = script
    assert house.ask().take().endswith(b"fine")
    assert house.outcomes == ["BAD_STATUS", "OK"]


def test_a_drained_backend_finishes_its_calls_and_gets_no_more(build):
    house = build("a:80", "b:80")
    backends = [house.http2(name, otherwise=never) for name in ("a:80", "b:80")]
    clients = [house.ask() for _ in range(2)]
    house.cluster.command("a:80", AdminState.DRAIN)
    more = [house.ask() for _ in range(3)]
    assert [len(backend.requests) for backend in backends] == [1, 4]
    for backend in backends:
        for request in backend.requests:
            request.answer()
    house.clock.settle()
    assert all(client.take().endswith(b"ok\n") for client in [*clients, *more])


def test_a_client_of_a_buffered_answer_is_read_ahead_of(build):
    house = build(buffer_response_bytes=1_000_000)
    body = b"x" * 700_000
    backend = house.http2("a:80", [lambda request: request.answer(body)])
    client = house.client()
    client.stop_reading()
    house.ask(GET, client)
    assert backend.requests[0].unsent == 0
    assert house.members[0].in_flight == 0
    client.go_on_reading()
    house.clock.settle()
    assert client.take().endswith(body)


@pytest.mark.parametrize(
    "said",
    [
        response(b"hello", 200, b"X-A: b", b"Set-Cookie: a=b", b"Set-Cookie: c=d"),
        response(b"", 404),
        response(b"x" * 100_000, 203, b"Content-Type: text/plain; charset=utf-8"),
    ],
)
def test_the_same_answer_is_the_same_to_a_client_whatever_the_backend_speaks(build, said):
    """But for names, which are in lower case, and the reason."""
    head, _, body = said.partition(b"\r\n\r\n")
    lines = head.split(b"\r\n")
    fields = [
        (name.decode().lower(), value.strip().decode()) for name, _, value in (one.partition(b":") for one in lines[1:])
    ]
    heard = []
    for protocol in ("h1", "h2"):
        house = build(protocol=protocol)
        if protocol == "h1":
            house.backend("a:80", [said])
        else:
            house.http2(
                "a:80",
                [
                    lambda request: request.head(int(lines[0][9:12]), *fields, ended=not body).data(
                        body, ended=bool(body)
                    )
                ],
            )
        head_heard, _, body_heard = house.ask().take().partition(b"\r\n\r\n")
        first, *rest = head_heard.split(b"\r\n")
        heard.append(
            (first[:12], sorted(one.partition(b":")[0].lower() + one.partition(b":")[2] for one in rest), body_heard)
        )
    assert heard[0] == heard[1]
