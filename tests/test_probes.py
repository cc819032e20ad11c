"""Probes: what they ask, and what an answer means, over a network in memory."""

import itertools
from collections.abc import Iterator

import pytest
from probing import ProbeBench, probe_bench

from twisted_lb.core.address import parse_address
from twisted_lb.core.outcome import Outcome
from twisted_lb.net.deadlines import TICK_S
from twisted_lb.probes import ProbeResult
from twisted_lb.testing import CLOSE, NEVER_ANSWER, RESET, Wait, response


@pytest.fixture
def bench() -> Iterator[ProbeBench]:
    with probe_bench() as one:
        yield one


@pytest.mark.parametrize(
    ("address", "host"), [("a:80", b"a:80"), ("[::1]:8080", b"[::1]:8080"), ("unix:/run/x", b"localhost")]
)
def test_the_question_is_a_get_of_the_path(bench, address, host):
    backend = bench.backend(address=address)
    assert bench.ask(bench.http(), address) == [(True, "status 200")]
    assert backend.requests == [
        b"GET /health?x HTTP/1.1\r\nHost: " + host + b"\r\n"
        b"User-Agent: agent/1\r\nAccept: */*\r\nConnection: close\r\n\r\n"
    ]
    assert bench.network.dialled == [parse_address(address)]


ANSWERS = [
    (b"HTTP/1.1 200 OK\r\n\r\n", True, "status 200"),
    (b"HTTP/1.0 204 No Content\r\n\r\n", True, "status 204"),
    (b"HTTP/1.1 302 Found\r\nLocation: /x\r\n\r\n", True, "status 302"),
    (b"HTTP/1.1 399 Other\r\n\r\n", True, "status 399"),
    (b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\nx", True, "status 200"),
    (b"HTTP/1.1 200 OK\r\n\r\n" + b"y" * 100_000, True, "status 200"),
    (b"HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\n\r\n", True, "status 200"),
    (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 E\r\n\r\nHTTP/1.1 503 No\r\n\r\n", False, "status 503"),
    (b"HTTP/1.1 400 Bad\r\n\r\n", False, "status 400"),
    (b"HTTP/1.1 404 Not Found\r\n\r\n", False, "status 404"),
    (b"HTTP/1.1 500 Oops\r\n\r\n", False, "status 500"),
    (b"HTTP/1.1 599 Oops\r\n\r\n", False, "status 599"),
    (b"SSH-2.0-x\r\n\r\n", False, "illegal status line"),
    (b"HTTP/1.1 600 Oops\r\n\r\n", False, "illegal status"),
    (b"HTTP/1.1 200 OK\r\nX: " + b"y" * 40_000, False, "the head of the answer is too long"),
    (b"HTTP/1.1 100 Continue\r\n\r\n" * 5000, False, "the head of the answer is too long"),
]


@pytest.mark.parametrize(("answer", "passed", "reason"), ANSWERS, ids=lambda one: repr(one)[:30])
def test_an_answer_is_judged_by_its_status(bench, answer, passed, reason):
    """At once, without the end of its body or of the connection."""
    bench.backend(answer, NEVER_ANSWER)
    assert bench.ask(bench.http()) == [(passed, reason)]
    bench.nothing_is_left()


@pytest.mark.parametrize("status", range(200, 600, 7))
def test_two_and_three_hundreds_pass_and_nothing_else(bench, status):
    bench.backend(response(b"", status))
    assert bench.ask(bench.http()) == [(status < 400, f"status {status}")]


def test_an_answer_may_come_byte_by_byte(bench):
    answer = b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\nX: y\r\n\r\n"
    pieces = itertools.chain.from_iterable((bytes([byte]), Wait(0.001)) for byte in answer)
    bench.backend(*pieces, NEVER_ANSWER)
    results = bench.ask(bench.http())
    bench.clock.advance(0.001 * (len(answer) - 1) - 0.0005)
    assert results == []
    bench.clock.advance(0.001)
    assert results == [(True, "status 200")]


LONG_HEAD = b"HTTP/1.1 200 OK\r\n" + b"".join(b"X-%d: %b\r\n" % (i, b"y" * 1990) for i in range(20)) + b"\r\n"


@pytest.mark.parametrize("piece", [1000, 16384, 40_000, len(LONG_HEAD)])
@pytest.mark.parametrize(
    ("head_bytes", "verdict"), [(65536, (True, "status 200")), (32768, (False, "the head of the answer is too long"))]
)
def test_a_head_may_be_as_long_as_that_of_traffic_however_it_is_cut(bench, piece, head_bytes, verdict):
    pieces = ((LONG_HEAD[at : at + piece], Wait(0.001)) for at in range(0, len(LONG_HEAD), piece))
    bench.backend(*itertools.chain.from_iterable(pieces), NEVER_ANSWER)
    results = bench.ask(bench.http(head_bytes))
    bench.clock.advance(0.1)
    assert results == [verdict]


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (b"HTTP/1.1 200 OK\r\nX: %b\r\n\r\nbody" % (b"y" * 80), "status 200"),  # 100 bytes and the blank line
        (b"HTTP/1.1 200 OK\r\nX: %b\r\n\r\nbody" % (b"y" * 81), "the head of the answer is too long"),
        (b"HTTP/1.1 103 E\r\n\r\nHTTP/1.1 200 OK\r\nX: %b\r\n\r\n" % (b"y" * 62), "status 200"),
        (b"HTTP/1.1 103 E\r\n\r\nHTTP/1.1 200 OK\r\nX: %b\r\n\r\n" % (b"y" * 63), "the head of the answer is too long"),
        (b"HTTP/1.1 103 E\r\n\r\n" * 10, "the head of the answer is too long"),
        (b"HTTP/1.1 103 E\r\n\r\nSSH-2.0\r\n\r\n" + b"y" * 200, "illegal status line"),
    ],
    ids=["exactly", "one more", "interim, exactly", "interim, one more", "interim only", "no head"],
)
def test_the_verdict_is_the_same_however_little_is_here(bench, answer, reason):
    """Interim heads count, since they might never end."""
    judge = bench.http(head_bytes=100).judge
    verdicts = [judge(answer[:length]) for length in range(len(answer) + 1)]
    assert {verdict.reason for verdict in verdicts if verdict is not None} == {reason}


@pytest.mark.parametrize("said", [b"", b"HTTP/1.1 200 OK\r\nX: y\r\n", b"HTTP/1.1 100 Continue\r\n\r\n"])
@pytest.mark.parametrize(("end", "reason"), [(CLOSE, "closed without an answer"), (RESET, "")], ids=["closed", "reset"])
def test_an_answer_that_ends_early_is_a_failure(bench, said, end, reason):
    bench.backend(*([said] if said else []), end)
    [(passed, why)] = bench.ask(bench.http())
    assert not passed
    assert why == reason or (not reason and "lost" in why)


def test_a_refused_connection_is_a_failure_with_its_reason(bench):
    assert bench.ask(bench.http()) == [(False, "connection refused")]
    assert bench.ask(bench.tcp()) == [(False, "connection refused")]
    bench.network.fail("a:80", Outcome.REFUSED, "no route to host")
    assert bench.ask(bench.http()) == [(False, "no route to host")]
    bench.network.fail("a:80", Outcome.LOCAL_FAILURE, "")
    assert bench.ask(bench.http()) == [(False, "local_failure")]


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
    bench.backend(*itertools.chain.from_iterable((b"x", Wait(0.3)) for _ in range(20)))
    results = bench.ask(bench.http(), timeout_s=1.0)
    bench.clock.advance(1 + TICK_S)
    assert results == [(False, "no answer in time")]


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


@pytest.mark.parametrize("hang", ["connect", "answer"])
def test_a_probe_that_is_closed_lets_go_of_everything(bench, hang):
    bench.backend(NEVER_ANSWER)
    if hang == "connect":
        bench.network.hang("a:80")
    probe = bench.http()
    results = bench.ask(probe)
    probe.close()
    assert results == [(False, "the checks have ended")]
    bench.nothing_is_left()
    probe.close()
    assert len(results) == 1


@pytest.mark.parametrize(
    ("outcome", "conclusive"),
    [
        (Outcome.LOCAL_FAILURE, False),
        (Outcome.NO_PORT, False),
        (Outcome.REFUSED, True),
        (Outcome.CONNECT_TIMEOUT, True),
    ],
)
def test_only_a_connect_that_we_could_not_make_is_inconclusive(bench, outcome, conclusive):
    bench.network.fail("a:80", outcome, "made to fail")
    results: list[ProbeResult] = []
    bench.tcp().ask(parse_address("a:80"), 1.0).addCallback(results.append)
    bench.clock.advance(1 + TICK_S)
    assert [(one.passed, one.conclusive) for one in results] == [(False, conclusive)]
