"""Probes: how they connect, wait, tell and close, over a network in memory. What HTTP ones ask: test_http_check.py."""

import itertools
from collections.abc import Iterator

import pytest
from probing import ProbeBench, probe_bench
from twisted.internet.error import ConnectionDone, ConnectionLost

from twisted_lb.core.address import parse_address
from twisted_lb.core.outcome import Outcome
from twisted_lb.net.deadlines import TICK_S
from twisted_lb.probes import ProbeResult
from twisted_lb.testing import CLOSE, NEVER_ANSWER, RESET, Wait, response

HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n"


@pytest.fixture
def bench() -> Iterator[ProbeBench]:
    with probe_bench() as one:
        yield one


def asked(bench: ProbeBench, probe, address="a:80", timeout_s=1.0) -> ProbeResult:
    """All of its result, which needs no time."""
    results: list[ProbeResult] = []
    probe.ask(parse_address(address), timeout_s).addCallback(results.append)
    bench.clock.settle()
    [result] = results
    return result


# Connecting.


def test_a_refused_connection_is_a_failure_with_its_reason(bench):
    assert bench.ask(bench.http()) == [(False, "connection refused")]
    assert bench.ask(bench.tcp()) == [(False, "connection refused")]
    bench.network.fail("a:80", Outcome.REFUSED, "no route to host")
    assert bench.ask(bench.http()) == [(False, "no route to host")]
    bench.network.fail("a:80", Outcome.LOCAL_FAILURE, "")
    assert bench.ask(bench.http()) == [(False, "local_failure")]


def test_the_tcp_form_passes_on_a_connection_and_says_nothing(bench):
    backend = bench.backend(NEVER_ANSWER)
    assert bench.ask(bench.tcp()) == [(True, "connected")]
    assert [connection.received for connection in backend.connections] == [b""]


def test_the_tcp_form_gives_up_on_a_connect_that_hangs(bench):
    bench.backend()
    bench.network.hang("a:80")
    results = bench.ask(bench.tcp(), timeout_s=0.5)
    bench.clock.advance(0.5 + TICK_S)
    assert results == [(False, "no answer in time")]


# Waiting.


@pytest.mark.parametrize("hang", ["connect", "answer", "in the head"])
def test_silence_is_a_failure_after_the_timeout(bench, hang):
    bench.backend(*([b"HTTP/1.1 2"] if hang == "in the head" else []), NEVER_ANSWER)
    if hang == "connect":
        bench.network.hang("a:80")
    results = bench.ask(bench.http(), timeout_s=1.0)
    bench.clock.advance(0.99)
    assert results == []
    bench.clock.advance(2 * TICK_S)
    assert results == [(False, "no answer in time")]
    bench.clock.advance(10)
    assert len(results) == 1


def test_a_backend_that_dribbles_is_not_waited_for_longer(bench):
    """The timeout is of the whole answer, not of its next byte."""
    bench.backend(*itertools.chain.from_iterable((bytes([byte]), Wait(0.3)) for byte in HEAD))
    results = bench.ask(bench.http(), timeout_s=1.0)
    bench.clock.advance(1 + TICK_S)
    assert results == [(False, "no answer in time")]


# What a failure says about the backend.


@pytest.mark.parametrize(
    ("outcome", "conclusive"),
    [
        (Outcome.LOCAL_FAILURE, False),
        (Outcome.NO_PORT, False),
        (Outcome.REFUSED, True),
        (Outcome.CONNECT_TIMEOUT, True),
        (Outcome.BACKLOG_FULL, True),
    ],
)
def test_only_a_connect_that_we_could_not_make_is_inconclusive(bench, outcome, conclusive):
    bench.network.fail("a:80", outcome, "made to fail")
    results: list[ProbeResult] = []
    bench.tcp().ask(parse_address("a:80"), 1.0).addCallback(results.append)
    bench.clock.advance(1 + TICK_S)
    assert [(one.passed, one.conclusive, one.silent) for one in results] == [(False, conclusive, conclusive)]


@pytest.mark.parametrize(
    ("answer", "silent"),
    [
        ((NEVER_ANSWER,), True),
        ((b"HTTP/1.1 200 OK\r\n", NEVER_ANSWER), True),
        ((b"HTTP/1.1 100 Continue\r\n\r\n", NEVER_ANSWER), True),
        ((CLOSE,), True),
        ((RESET,), True),
        ((response(b"", 503),), False),
        ((response(b"not well"),), False),
        ((HEAD, NEVER_ANSWER), False),
        ((HEAD, RESET), False),
        ((b"SSH-2.0\r\n", NEVER_ANSWER), False),
    ],
    ids=lambda one: repr(one)[:40],
)
def test_who_answers_is_not_silent_whatever_it_says(bench, answer, silent):
    bench.backend(*answer)
    results: list[ProbeResult] = []
    bench.http(text=b"all well").ask(parse_address("a:80"), 1.0).addCallback(results.append)
    bench.clock.advance(1 + 2 * TICK_S)
    assert [(one.passed, one.silent) for one in results] == [(False, silent)]


def test_who_refuses_is_silent_and_who_passes_or_could_not_be_asked_is_not(bench):
    assert asked(bench, bench.tcp()).silent
    bench.backend()
    assert not asked(bench, bench.tcp()).silent
    bench.network.fail("a:80", Outcome.LOCAL_FAILURE, "too many open files")
    assert not asked(bench, bench.tcp()).silent


# Reading to the end, and closing in order.

ALL_OF_IT = [
    (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", b"hello"),
    (b"HTTP/1.1 503 No\r\nContent-Length: 5\r\n\r\n", b"hello"),
    (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"5\r\nhello\r\n0\r\nX: y\r\n\r\n"),
    (b"HTTP/1.1 200 OK\r\nContent-Length: 65536\r\n\r\n", b"y" * 65536),
    (b"HTTP/1.1 204 No Content\r\n\r\n", b""),
    (b"HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n", b""),
]


@pytest.mark.parametrize(("head", "body"), ALL_OF_IT, ids=lambda one: repr(one)[:40])
def test_the_result_is_told_with_the_head_and_the_connection_closed_with_the_last_byte(bench, head, body):
    pieces = [body[at : at + 4096] for at in range(0, len(body), 4096)]
    backend = bench.backend(head, *itertools.chain.from_iterable((Wait(0.01), one) for one in pieces), NEVER_ANSWER)
    results = bench.ask(bench.http())
    assert results == [(head[9:10] in b"23", f"status {head[9:12].decode()}")]
    [connection] = backend.connections
    for _ in pieces:
        assert not connection.ended
        bench.clock.advance(0.01)
    assert connection.ended
    assert connection.lost is None  # a FIN, and no reset


@pytest.mark.parametrize("end", [CLOSE, NEVER_ANSWER], ids=["the backend closes", "it does not"])
@pytest.mark.parametrize("answer", [*(head + body for head, body in ALL_OF_IT), b"HTTP/1.0 200 OK\r\n\r\nhello"])
def test_a_backend_meets_no_reset(bench, answer, end):
    backend = bench.backend(answer, Wait(0.1), end)
    bench.ask(bench.http())
    bench.clock.advance(1.5)
    bench.nothing_is_left()
    [connection] = backend.connections
    assert connection.lost is not None
    assert connection.lost.check(ConnectionDone)


def test_a_backend_meets_no_reset_when_connecting_is_the_question(bench):
    backend = bench.backend(NEVER_ANSWER)
    bench.ask(bench.tcp())
    [connection] = backend.connections
    assert connection.ended
    bench.nothing_is_left()
    assert connection.lost is not None
    assert connection.lost.check(ConnectionDone)


@pytest.mark.parametrize(
    "answer",
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 70\r\n\r\nx", NEVER_ANSWER),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n", NEVER_ANSWER),
        (b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n", *[b"data: x\n\n", Wait(0.1)] * 20, CLOSE),
        (b"HTTP/1.1 200 OK\r\n\r\n", NEVER_ANSWER),
    ],
    ids=["with a length", "chunked", "an event stream", "without a length"],
)
def test_an_answer_that_does_not_end_is_read_for_as_long_as_the_probe_had_time(bench, answer):
    backend = bench.backend(*answer)
    assert bench.ask(bench.http(), timeout_s=1.0) == [(True, "status 200")]
    [connection] = backend.connections
    bench.clock.advance(0.99)
    assert not connection.ended
    bench.clock.advance(2 * TICK_S)
    assert connection.ended
    bench.clock.advance(2)


@pytest.mark.parametrize(
    ("head", "body"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2000000\r\n\r\n", b"y" * 1000),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"3e8\r\n" + b"y" * 1000 + b"\r\n"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\ny\r\n" * 1000),
        (b"HTTP/1.1 200 OK\r\n\r\n", b"y" * 1000),
    ],
    ids=["with a length", "chunked", "in tiny chunks", "without a length"],
)
def test_no_more_than_64_kib_of_an_answer_are_read(bench, head, body):
    pieces = itertools.chain.from_iterable([(body, Wait(0.001))] * 100)
    backend = bench.backend(head, *pieces, NEVER_ANSWER)
    assert bench.ask(bench.http(), timeout_s=1.0) == [(True, "status 200")]
    [connection] = backend.connections
    bench.clock.advance(0.064)
    assert connection.open
    assert not connection.ended
    bench.clock.advance(0.002)  # 65 and 66 kB
    assert connection.ended or not connection.open
    bench.clock.advance(0.1)


def test_a_backend_never_has_two_checks_to_serve(bench):
    """The rest of an answer is read until the next probe to the same address."""
    slow = bench.backend_that(lambda request: [HEAD, NEVER_ANSWER])
    other = bench.backend_that(lambda request: [HEAD, NEVER_ANSWER], "b:80")
    probe = bench.http()
    bench.ask(probe, timeout_s=10.0)
    bench.ask(probe, "b:80", timeout_s=10.0)
    assert bench.ask(probe, timeout_s=10.0) == [(True, "status 200")]
    assert [one.ended for one in slow.connections] == [True, False]
    assert [one.ended for one in other.connections] == [False]
    bench.clock.advance(10 + TICK_S)


def test_a_probe_whose_result_is_not_known_is_not_ended_by_the_next(bench):
    backend = bench.backend_that(lambda request: [NEVER_ANSWER])
    probe = bench.http()
    first, second = bench.ask(probe), bench.ask(probe)
    assert [one.ended for one in backend.connections] == [False, False]
    bench.clock.advance(1 + TICK_S)
    assert first == second == [(False, "no answer in time")]


# The end of all.


@pytest.mark.parametrize("hang", ["connect", "answer", "body"])
def test_a_probe_that_is_closed_lets_go_of_everything(bench, hang):
    bench.backend(*([HEAD] if hang == "body" else []), NEVER_ANSWER)
    if hang == "connect":
        bench.network.hang("a:80")
    probe = bench.http()
    results = bench.ask(probe)
    probe.close()
    assert results == [(True, "status 200") if hang == "body" else (False, "the checks have ended")]
    bench.nothing_is_left()
    probe.close()
    assert len(results) == 1


def test_a_listener_may_close_the_probe_that_it_hears_of(bench):
    bench.backend(HEAD, NEVER_ANSWER)
    probe = bench.http()
    probe.ask(parse_address("a:80"), 1.0).addCallback(lambda result: probe.close())
    bench.clock.settle()
    bench.nothing_is_left()


class Deaf:
    """A backend's connection on which nothing is read until `wake`."""

    def makeConnection(self, transport) -> None:
        self.transport = transport
        self.lost = None
        transport.pauseProducing()

    def dataReceived(self, data: bytes) -> None:
        """Whatever it is."""

    def connectionLost(self, reason) -> None:
        self.lost = reason


def test_a_backend_that_does_not_even_take_the_request_is_reset():
    """Else what is not sent would keep the connection, and nobody would ever close it."""
    with probe_bench(capacity_bytes=10) as bench:
        deaf = Deaf()
        bench.network.listen("a:80", lambda: deaf)
        results = bench.ask(bench.http(), timeout_s=1.0)
        bench.clock.advance(1 + TICK_S)
        assert results == [(False, "no answer in time")]
        deaf.transport.resumeProducing()
        bench.clock.settle()
        assert deaf.lost.check(ConnectionLost)
