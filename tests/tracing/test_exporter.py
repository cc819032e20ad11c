"""The exporter: what a collector is sent, and what becomes of spans when it is down, slow, full, or says no."""

import json
from random import Random
from typing import Any

import pytest
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.error import ConnectionRefusedError as Refused
from twisted.logger import formatEvent, globalLogPublisher
from twisted.python.failure import Failure
from twisted.web.client import ResponseDone
from twisted.web.http_headers import Headers

from twisted_lb.testing import HeapClock
from twisted_lb.tracing.exporter import (
    BATCH_BYTES,
    BATCH_SPANS,
    INTERVAL_S,
    LAST_S,
    MOST_SPANS,
    MOST_TRIES,
    TIMEOUT_S,
    Exporter,
)
from twisted_lb.tracing.rules import TraceRules

WALL = 784111777.0
RULES = TraceRules("http://collector:4318/v1/traces", 1.0, "edge", {"Authorization": "Bearer x"})


class Answer:
    def __init__(self, code: int = 200, body: bytes = b"{}", **fields: str) -> None:
        self.code, self.body = code, body
        self.headers = Headers({name.replace("_", "-"): [value] for name, value in fields.items()})

    def deliverBody(self, protocol: Any) -> None:
        protocol.dataReceived(self.body)
        protocol.connectionLost(Failure(ResponseDone()))


class Collector:
    """Answers in turn, the last one again and again; a Deferred is an answer that has yet to come."""

    def __init__(self, *answers: Any) -> None:
        self.answers = list(answers) or [Answer()]
        self.heard: list[tuple[bytes, bytes, dict[str, str], Any]] = []
        self.hung_up = 0

    def request(self, method, uri, headers, bodyProducer=None):
        body: list[bytes] = []

        class Consumer:
            write = body.append

        bodyProducer.startProducing(Consumer())
        whole = b"".join(body)
        assert len(whole) == bodyProducer.length
        fields = {name.decode(): values[0].decode() for name, values in headers.getAllRawHeaders()}
        self.heard.append((method, uri, fields, json.loads(whole)))
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Deferred):
            return answer
        return fail(answer) if isinstance(answer, Exception) else succeed(answer)

    def hang_up(self) -> None:
        self.hung_up += 1

    @property
    def batches(self) -> list[list[str]]:
        """The names of the spans of each request."""
        return [
            [span["name"] for span in told["resourceSpans"][0]["scopeSpans"][0]["spans"]]
            for _, _, _, told in self.heard
        ]


class Office:
    """An exporter, its clock and its collector."""

    def __init__(self, *answers: Any) -> None:
        self.clock = HeapClock(1000.0)
        self.collector = Collector(*answers)
        wall = lambda: WALL + self.clock.seconds() - 1000.0  # noqa: E731
        self.exporter = Exporter(RULES, self.collector, self.clock, wall, Random(1))
        self.said: list[str] = []
        globalLogPublisher.addObserver(self._hear)

    def _hear(self, event: dict[str, Any]) -> None:
        if event["log_namespace"] == "twisted_lb.tracing.exporter":
            self.said.append(formatEvent(event))

    def take(self, *names: str, size: int = 0) -> None:
        text = ",".join(json.dumps({"name": name, "more": "x" * size}) for name in names)
        self.exporter.take(text.encode(), len(names))

    def wait(self, seconds: float) -> None:
        self.clock.advance(seconds)

    def close(self) -> None:
        self.exporter.close()
        self.clock.advance(LAST_S + 1)
        globalLogPublisher.removeObserver(self._hear)
        assert self.clock.getDelayedCalls() == []
        assert self.exporter.waiting == 0


@pytest.fixture
def office():
    offices: list[Office] = []

    def one(*answers: Any) -> Office:
        offices.append(Office(*answers))
        return offices[-1]

    yield one
    for each in offices:
        each.close()


def test_spans_are_sent_together_after_a_while_as_otlp_has_them(office):
    one = office()
    one.take("a", "b")
    one.wait(INTERVAL_S - 1)
    one.take("c")
    assert one.collector.heard == []
    one.wait(1)
    [(method, uri, fields, told)] = one.collector.heard
    assert (method, uri) == (b"POST", b"http://collector:4318/v1/traces")
    assert fields["Content-Type"] == "application/json"
    assert fields["Authorization"] == "Bearer x"
    assert one.collector.batches == [["a", "b", "c"]]
    resource = told["resourceSpans"][0]["resource"]["attributes"]
    assert resource[0] == {"key": "service.name", "value": {"stringValue": "edge"}}
    assert told["resourceSpans"][0]["scopeSpans"][0]["scope"]["name"] == "twisted_lb"
    assert (one.exporter.sent, one.exporter.dropped, one.exporter.waiting) == (3, 0, 0)
    assert one.collector.hung_up == 1
    one.wait(10 * INTERVAL_S)
    assert len(one.collector.heard) == 1


def test_a_full_batch_is_sent_at_once_and_is_no_longer_than_its_bound(office):
    one = office()
    for n in range(BATCH_SPANS + 5):
        one.take(str(n))
    one.wait(0)
    assert [len(batch) for batch in one.collector.batches] == [BATCH_SPANS]
    one.wait(INTERVAL_S)
    assert [len(batch) for batch in one.collector.batches] == [BATCH_SPANS, 5]
    for n in range(5):
        one.take(str(n), size=BATCH_BYTES // 2)
    one.wait(3 * INTERVAL_S)
    assert [len(batch) for batch in one.collector.batches[2:]] == [1] * 5


def test_what_finds_no_room_is_dropped_and_counted(office):
    one = office(Deferred())
    for n in range(BATCH_SPANS):
        one.take(str(n))
    one.wait(0)
    for n in range(MOST_SPANS + 7):
        one.take(str(n))
    assert (one.exporter.waiting, one.exporter.dropped) == (MOST_SPANS, 7)
    one.take("long", size=5 * 1024 * 1024)
    assert one.exporter.dropped == 8


def test_a_collector_that_is_down_is_asked_again_later_and_later_and_said_to_be_down_once(office):
    one = office(Refused("refused"), Refused("refused"), Refused("refused"), Answer())
    one.take("a")
    one.wait(INTERVAL_S)
    assert len(one.collector.heard) == 1
    one.wait(1.0)
    assert len(one.collector.heard) == 2
    one.wait(0.9)
    assert len(one.collector.heard) == 2
    one.wait(1.1)
    assert len(one.collector.heard) == 3
    one.wait(4.0)
    assert one.collector.batches == [["a"]] * 4
    assert (one.exporter.sent, one.exporter.dropped) == (1, 0)
    assert len(one.said) == 2
    assert one.said[0].startswith("traces: http://collector:4318/v1/traces does not take spans: ")
    assert one.said[1] == "traces: http://collector:4318/v1/traces takes spans again"


def test_a_batch_that_nobody_takes_is_dropped_after_some_tries_and_the_next_one_goes_on(office):
    one = office(*[Refused("refused")] * MOST_TRIES, Answer())
    one.take("a")
    one.wait(INTERVAL_S + 60)
    assert len(one.collector.heard) == MOST_TRIES
    assert (one.exporter.sent, one.exporter.dropped) == (0, 1)
    one.take("b")
    one.wait(INTERVAL_S)
    assert one.collector.batches[-1] == ["b"]
    assert (one.exporter.sent, one.exporter.dropped) == (1, 1)


@pytest.mark.parametrize(
    "said", ["7", "Sun, 06 Nov 1994 08:49:49 GMT"]
)  # that is 12 s behind WALL, and 7 behind the answer
def test_who_is_busy_says_when_to_come_again(office, said):
    one = office(Answer(429, b"", Retry_After=said), Answer())
    one.take("a")
    one.wait(INTERVAL_S)
    one.wait(6.9)
    assert len(one.collector.heard) == 1
    one.take("b")
    one.wait(0.2)
    assert one.collector.batches == [["a"], ["a", "b"]]
    assert (one.exporter.sent, one.exporter.dropped) == (2, 0)


@pytest.mark.parametrize("said", ["soon", "-1", "99999999999999999999", ""])
def test_a_pause_that_makes_no_sense_is_bounded(office, said):
    one = office(Answer(503, b"", Retry_After=said), Answer())
    one.take("a")
    one.wait(INTERVAL_S)
    one.wait(60)
    assert one.exporter.sent == 1


@pytest.mark.parametrize("code", [400, 401, 404, 413, 500])
def test_what_is_refused_for_good_is_not_sent_again(office, code):
    one = office(Answer(code), Answer())
    one.take("a")
    one.wait(INTERVAL_S)
    one.take("b")
    one.wait(INTERVAL_S)
    assert one.collector.batches == [["a"], ["b"]]
    assert (one.exporter.sent, one.exporter.dropped) == (1, 1)
    assert f"status {code}" in one.said[0]


def test_spans_that_were_rejected_are_counted_as_dropped(office):
    one = office(Answer(200, b'{"partialSuccess": {"rejectedSpans": "2", "errorMessage": "no"}}'), Answer(200, b"[1"))
    one.take("a", "b", "c")
    one.wait(INTERVAL_S)
    assert (one.exporter.sent, one.exporter.dropped) == (1, 2)
    assert "2 of 3 spans were rejected" in one.said[0]
    one.take("d")
    one.wait(INTERVAL_S)
    assert (one.exporter.sent, one.exporter.dropped) == (2, 2)


@pytest.mark.parametrize(
    "body",
    [
        b"<html>",
        b"\xff",
        b"[" * 60_000,
        b'{"partialSuccess": {"rejectedSpans": 1e999}}',
        b'{"partialSuccess": {"rejectedSpans": NaN}}',
        b'{"partialSuccess": {"rejectedSpans": -3}}',
        b'{"partialSuccess": []}',
    ],
)
def test_what_was_taken_is_sent_once_whatever_else_the_collector_says(office, body):
    one = office(Answer(200, body))
    one.take("a", "b")
    one.wait(INTERVAL_S)
    one.wait(60)
    assert one.collector.batches == [["a", "b"]]
    assert (one.exporter.sent, one.exporter.dropped, one.said) == (2, 0, [])


def test_a_slow_collector_is_given_up_and_hung_up_on(office):
    one = office(Deferred(), Answer())
    one.take("a")
    one.wait(INTERVAL_S)
    one.wait(TIMEOUT_S)
    assert one.collector.hung_up == 1
    assert "no answer within 10 s" in one.said[0]
    one.wait(1.0)
    assert one.exporter.sent == 1


def test_at_the_end_what_is_left_is_sent_and_nothing_after_that(office):
    one = office()
    one.take("a")
    over: list[object] = []
    one.exporter.close().addCallback(over.append)
    assert (one.collector.batches, over) == ([["a"]], [None])
    one.take("b")
    assert one.exporter.dropped == 1


def test_the_end_waits_for_nobody_for_long(office):
    one = office(Deferred())
    one.take("a")
    over: list[object] = []
    one.exporter.close().addCallback(over.append)
    one.wait(LAST_S - 0.1)
    assert over == []
    one.wait(0.2)
    assert over == [None]
    assert (one.exporter.sent, one.exporter.dropped) == (0, 1)


def test_the_end_does_not_wait_for_a_collector_that_was_down_just_now(office):
    one = office(Refused("refused"))
    one.take("a")
    one.wait(INTERVAL_S)
    over: list[object] = []
    one.exporter.close().addCallback(over.append)
    assert over == [None]
    assert one.exporter.dropped == 1


def test_nothing_secret_is_in_what_is_logged_or_shown(office):
    assert "Bearer" not in repr(RULES)
