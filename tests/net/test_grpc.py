"""Calls of gRPC: their trailers and timeouts, what they are told where nobody answers, and which of their statuses say what of a backend."""

from collections.abc import Iterator

import pytest
from http2_backend import Request
from http2_house import Http2House

from twisted_lb.core.grpc import DEADLINE_EXCEEDED, UNAVAILABLE, UNIMPLEMENTED, UNKNOWN, code_of
from twisted_lb.core.outcome import CONSEQUENCE, Outcome, Refusal
from twisted_lb.testing import response

HEAD = b"POST /pkg.Service/Call HTTP/1.1\r\nHost: x\r\nContent-Type: application/grpc\r\nTE: trailers\r\nConnection: te\r\n"
CALL = HEAD + b"Content-Length: 5\r\n\r\n\0\0\0\0\0"
GRPC = ("content-type", "application/grpc")


def never(request: Request) -> None:
    """Nothing is answered."""


def ends(code: int, *fields: tuple[str, str]):
    """An answer of a message, and this code behind it."""
    return lambda request: request.head(200, GRPC).data(b"\0\0\0\0\0").trail(("grpc-status", str(code)), *fields)


def ends_alone(code: int, *fields: tuple[str, str]):
    """Nothing but this code (trailers only)."""
    return lambda request: request.head(200, GRPC, ("grpc-status", str(code)), *fields, ended=True)


@pytest.fixture
def build() -> Iterator[type[Http2House]]:
    houses = []

    def built(*names, **options):
        houses.append(Http2House(*names, **options))
        return houses[-1]

    yield built
    for house in houses:
        house.close()


def counted(house) -> dict[int, int]:
    return {code: count for code, count in enumerate(house.pool.totals.grpc) if count}


def both(house, script) -> list:
    """Two backends that go by one script."""
    backends = [house.http2(name) for name in ("a:80", "b:80")]
    for backend in backends:
        backend.script = script
    return backends


# Trailers.


def test_a_status_in_trailers_passes_and_is_known(build):
    house = build()
    backend = house.http2("a:80", [ends(5, ("grpc-message", "no such thing"))])
    heard = house.ask(CALL).take()
    assert heard.endswith(b"\r\n0\r\ngrpc-status: 5\r\ngrpc-message: no such thing\r\n\r\n")
    assert backend.requests[0].field("te") == "trailers"
    assert (house.record.grpc_status, house.outcomes, house.members[0].failures) == (5, ["OK"], 0)
    assert counted(house) == {5: 1}


def test_trailers_alone_pass_as_they_are(build):
    house = build()
    house.http2("a:80", [ends_alone(12)])
    heard = house.ask(CALL).take()
    assert heard.startswith(
        b"HTTP/1.1 200 OK\r\ncontent-type: application/grpc\r\ngrpc-status: 12\r\nContent-Length: 0\r\n"
    )
    assert (house.record.grpc_status, counted(house)) == (12, {12: 1})


@pytest.mark.parametrize("code", [99, 17])
def test_a_code_that_has_no_name_is_counted_as_another_one(build, code):
    house = build()
    house.http2("a:80", [ends(code)])
    house.ask(CALL)
    assert (house.record.grpc_status, counted(house)) == (code, {17: 1})


def test_what_is_no_call_has_no_status(build):
    house = build()
    house.http2("a:80", [ends(14)])
    house.ask(CALL.replace(b"application/grpc", b"application/grpc-web"))
    assert (house.record.grpc_status, house.outcomes, counted(house)) == (-1, ["OK"], {})


# Blame.


@pytest.mark.parametrize("answer", [ends, ends_alone])
@pytest.mark.parametrize("code", range(17))
def test_unavailable_and_a_deadline_that_was_not_the_clients_blame_the_backend_and_nothing_else_does(
    build, answer, code
):
    house = build()
    house.http2("a:80", [answer(code)])
    house.ask(CALL)
    blamed = code in (4, 14)
    assert (house.outcomes, house.members[0].failures) == (["BAD_STATUS" if blamed else "OK"], int(blamed))
    assert (house.record.status, house.record.grpc_status) == (200, code)


def test_a_deadline_of_the_client_is_no_fault_of_the_backend(build):
    house = build()
    backend = house.http2("a:80", [never])
    client = house.ask(CALL.replace(b"\r\n\r\n", b"\r\ngrpc-timeout: 500m\r\n\r\n"))
    house.wait(0.45)
    assert client.take() == b""
    house.wait(0.3)
    assert b"\r\nGrpc-Status: 4\r\n" in client.take()
    assert (house.outcomes, house.members[0].failures, backend.requests[0].reset) == (["LATE"], 0, 8)


# Timeouts.


@pytest.mark.parametrize(
    ("said", "within_s"),
    [(b"2S", 2.0), (b"1500m", 1.5), (b"1M", 60.0), (b"99999999n", 0.1), (b"2", 60.0), (b"S", 60.0), (b"-1S", 60.0), (b"1s", 60.0), (b"123456789m", 60.0)],
)  # fmt: skip
def test_a_timeout_is_how_long_a_call_may_take_and_what_is_none_is_not_heeded(build, said, within_s):
    house = build(more={"defaults": {"route": {"timeouts": {"response_head_s": 60.0}}}})
    house.http2("a:80", otherwise=never)
    client = house.ask(CALL.replace(b"\r\n\r\n", b"\r\ngrpc-timeout: " + said + b"\r\n\r\n"))
    house.wait(within_s - 0.15 if within_s > 0.2 else 0.0)
    assert client.take() == b""
    house.wait(0.5)
    assert b"\r\nGrpc-Status: 4\r\n" in client.take()


def test_a_timeout_bounds_the_wait_in_the_queue(build):
    house = build(max_in_flight=1, queue={"length": 5, "timeout_s": 30.0, "no_backend_s": 0.0})
    backend = house.http2("a:80", otherwise=never)
    house.ask(CALL)
    client = house.ask(CALL.replace(b"\r\n\r\n", b"\r\ngrpc-timeout: 2S\r\n\r\n"))
    house.wait(2.5)
    assert b"\r\nGrpc-Status: 4\r\n" in client.take()
    assert len(backend.requests) == 1


# Local replies.


def test_a_call_that_nobody_takes_is_told_so_in_its_own_words(build):
    house = build()
    heard = house.ask(CALL).take()
    head, _, body = heard.partition(b"\r\n\r\n")
    assert head.startswith(
        b"HTTP/1.1 200 OK\r\nContent-Type: application/grpc\r\nGrpc-Status: 14\r\nGrpc-Message: Bad Gateway (502), request "
    )
    assert (b"\r\nContent-Length: 0\r\n" in head + b"\r\n", body) == (True, b"")
    assert (house.record.status, house.record.grpc_status, counted(house)) == (200, 14, {14: 1})


def test_a_call_that_finds_all_full_is_told_when_to_come_again(build):
    house = build(max_in_flight=1, queue={"length": 0, "full_status": 429, "no_backend_s": 0.0})
    house.http2("a:80", otherwise=never)
    house.ask(CALL)
    heard = house.ask(CALL).take()
    assert b"\r\nGrpc-Status: 8\r\n" in heard
    assert b"\r\nGrpc-Retry-Pushback-Ms: " in heard


def test_a_call_that_is_too_large_is_told_so(build):
    house = build(more={"defaults": {"route": {"limits": {"body_bytes": 3}}}})
    house.http2("a:80")
    assert b"\r\nGrpc-Status: 8\r\n" in house.ask(CALL).take()


@pytest.mark.parametrize("refusal", Refusal)
def test_each_refusal_has_a_code(refusal):
    repeated = {Refusal.OVERLOADED, Refusal.NO_BACKEND, Refusal.ALL_FULL, Refusal.MISDIRECTED}
    assert (code_of(refusal.status) == UNAVAILABLE) == (refusal in repeated)
    assert code_of(refusal.status) != UNKNOWN


@pytest.mark.parametrize("outcome", [one for one in Outcome if CONSEQUENCE[one].status])
def test_each_outcome_has_a_code(outcome):
    code = code_of(CONSEQUENCE[outcome].status)
    assert code in (UNAVAILABLE, DEADLINE_EXCEEDED, UNIMPLEMENTED)
    assert (code == DEADLINE_EXCEEDED) == (CONSEQUENCE[outcome].status == 504)


def test_who_is_no_call_is_told_in_http(build):
    house = build()
    assert house.ask(CALL.replace(b"application/grpc", b"application/grpc-web")).take().startswith(b"HTTP/1.1 502 ")


# Retries.


def test_no_code_is_retried_unless_it_is_named(build):
    house = build("a:80", "b:80")
    both(house, [ends_alone(14)])
    assert b"grpc-status: 14" in house.ask(CALL).take()
    assert house.outcomes == ["BAD_STATUS"]


def test_a_code_that_is_named_is_retried_whatever_the_method_after_trailers_alone(build):
    house = build("a:80", "b:80", retry={"grpc": ["unavailable"]})
    both(house, [ends_alone(14), ends(0)])
    assert b"grpc-status: 0\r\n" in house.ask(CALL).take()
    assert house.outcomes == ["BAD_STATUS", "OK"]
    assert house.record.attempts[0].detail == "grpc-status 14"
    assert (house.record.grpc_status, counted(house)) == (0, {0: 1})


def test_a_code_behind_a_message_is_not_retried(build):
    house = build("a:80", "b:80", retry={"grpc": ["unavailable"]})
    both(house, [ends(14), ends(0)])
    assert b"grpc-status: 14" in house.ask(CALL).take()
    assert house.outcomes == ["BAD_STATUS"]


def test_another_code_is_not_retried(build):
    house = build("a:80", "b:80", retry={"grpc": ["unavailable", "resource_exhausted"]})
    both(house, [ends_alone(8), ends_alone(5), ends(0)])
    assert b"grpc-status: 5" in house.ask(CALL).take()
    assert house.outcomes == ["BAD_STATUS", "OK"]


@pytest.mark.parametrize(("said", "codes"), [("-1", [14]), ("soon", [14]), ("0", [14, 0])])
def test_a_server_that_says_never_to_come_again_is_heeded(build, said, codes):
    house = build("a:80", "b:80", retry={"grpc": ["unavailable"]})
    both(house, [ends_alone(14, ("grpc-retry-pushback-ms", said)), ends(0)])
    house.ask(CALL)
    assert len(house.outcomes) == len(codes)
    assert house.record.grpc_status == codes[-1]


def test_a_server_that_says_when_to_come_again_is_waited_for(build):
    house = build("a:80", "b:80", retry={"grpc": ["unavailable"]})
    both(house, [ends_alone(14, ("grpc-retry-pushback-ms", "1500")), ends(0)])
    client = house.ask(CALL)
    house.wait(1.4)
    assert client.take() == b""
    house.wait(1.5)
    assert b"grpc-status: 0" in client.take()


def test_a_backend_of_http1_may_serve_calls_too(build):
    house = build(protocol="h1")
    house.backend("a:80", [response(b"", 200, b"Content-Type: application/grpc", b"grpc-status: 14")])
    assert b"grpc-status: 14" in house.ask(CALL).take()
    assert (house.record.grpc_status, house.outcomes) == (14, ["BAD_STATUS"])


def test_the_log_has_the_code(build):
    house = build(more={"log": {"file": "stdout", "format": "json"}})
    house.http2("a:80", [ends(5)])
    house.ask(CALL)
    assert b',"rpc.grpc.status_code":5' in house.balanced.log_lines[0]
