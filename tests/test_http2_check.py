"""HTTP checks over HTTP/2: the same verdicts as over HTTP/1.1, on the answers that h2, another implementation, gives."""

from collections.abc import Iterator

import pytest
from http2_backend import Http2Backend
from probing import ProbeBench, asked

from twisted_lb.core.address import parse_address
from twisted_lb.http2_check import Http2Check
from twisted_lb.probes import NetworkProbe
from twisted_lb.wire.grammar import Limits


@pytest.fixture
def bench() -> Iterator[ProbeBench]:
    one = ProbeBench()
    yield one
    for probe in one.probes:
        probe.close()
    one.clock.advance(5)


def probing(bench: ProbeBench, **differently) -> NetworkProbe:
    return bench._probe(Http2Check(asked(**differently), Limits(), secure=False))


def ask(bench: ProbeBench, script, **differently) -> list[tuple[bool, str]]:
    Http2Backend(bench.network, "a:80", [script])
    results = bench.ask(probing(bench, **differently))
    bench.clock.advance(2)
    return results


def test_the_question_is_the_one_of_http1(bench):
    backend = Http2Backend(bench.network, "a:80")
    bench.ask(probing(bench))
    bench.clock.advance(1)
    assert backend.requests[0].fields == [
        (":method", "GET"), (":scheme", "http"), (":path", "/health?x"), (":authority", "a:80"), ("user-agent", "agent/1"),
        ("accept", "*/*"),
    ]  # fmt: skip
    assert not backend.connection.open


@pytest.mark.parametrize(
    ("script", "more", "result"),
    [
        (lambda request: request.answer(), {}, (True, "status 200")),
        (lambda request: request.answer(status=404), {}, (False, "status 404")),
        (lambda request: request.head(204, ended=True), {}, (True, "status 204")),
        (lambda request: request.head(103).answer(), {}, (True, "status 200")),
        (lambda request: request.answer(b"all is well"), {"text": b"is well"}, (True, "status 200, with the expected text")),
        (lambda request: request.answer(b"all is bad"), {"text": b"is well"}, (False, "status 200, without the expected text")),
        (lambda request: request.head().data(b"is ").data(b"well", ended=True), {"text": b"is well"}, (True, "status 200, with the expected text")),
        (lambda request: request.head(ended=True), {"text": b"x"}, (False, "status 200, without the expected text")),
        (lambda request: request.answer(), {"method": b"HEAD"}, (True, "status 200")),
        (lambda request: request.give_up(2), {}, (False, "it was reset: INTERNAL_ERROR")),
        (lambda request: request.connection.go_away(0, 2), {}, (False, "the backend goes away: INTERNAL_ERROR")),
        (lambda request: request.connection.transport.loseConnection(), {}, (False, "closed without an answer")),
        (lambda request: request.connection.raw(b"\xff" * 20), {}, (False, "an answer that is no HTTP/2: frame of 16777215 bytes")),
        (lambda request: None, {}, (False, "no answer in time")),
    ],
)  # fmt: skip
def test_an_answer_is_judged_as_in_http1(bench, script, more, result):
    assert ask(bench, script, **more) == [result]


def test_a_backend_of_http1_is_said_to_be_one(bench):
    class Http1Server:
        def makeConnection(self, transport):
            self.transport = transport

        def dataReceived(self, data):
            self.transport.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")

        def readConnectionLost(self):
            self.transport.loseConnection()

        def connectionLost(self, reason):
            """It is over."""

    bench.network.listen("a:80", Http1Server)
    results = bench.ask(probing(bench))
    bench.clock.advance(2)
    assert results == [(False, "an answer in HTTP/1.1, and its pool speaks HTTP/2: protocol")]


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_an_answer_may_come_in_pieces(size):
    check = Http2Check(asked(text=b"well"), Limits(), secure=False)
    hearing = check.hear(parse_address("a:80"))
    said = bytes.fromhex("000000040000000000") + bytes.fromhex("000001010400000001") + b"\x88"
    said += bytes.fromhex("000004000100000001") + b"well"
    for at in range(0, len(said), size):
        if not hearing.over:
            hearing.feed(said[at : at + size])
    assert hearing.result is not None
    assert hearing.result.passed
    assert hearing.reply == bytes.fromhex("000000040100000000")


def test_a_flood_of_pings_is_not_answered_for_ever():
    hearing = Http2Check(asked(), Limits(), secure=False).hear(parse_address("a:80"))
    hearing.feed(bytes.fromhex("000000040000000000") + (bytes.fromhex("000008060000000000") + b"12345678") * 1000)
    assert len(hearing.reply) < 2000
