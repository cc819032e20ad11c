"""A list behind a URL: what is asked, which answers count, and that each connection is closed."""

import json
from typing import Any

import pytest
from discovering import START, Follower, following
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.error import ConnectError, ConnectionLost, DNSLookupError
from twisted.python.failure import Failure
from twisted.web.client import ResponseDone, ResponseFailed, ResponseNeverReceived
from twisted.web.http import PotentialDataLoss
from twisted.web.http_headers import Headers
from twisted.web.iweb import UNKNOWN_LENGTH

from twisted_lb.discovery.prometheus import MOST_BYTES
from twisted_lb.discovery.url import UrlSource
from twisted_lb.testing import HeapClock

URL = "http://registry:8500/api?x=1"


def listed(*names: str) -> bytes:
    return json.dumps([{"targets": [f"{name}:80" for name in names]}]).encode()


class Answer:
    """An answer as Agent gives it: its body comes in pieces, and ends in some way, or not at all."""

    def __init__(self, body: bytes = b"", code: int = 200, end: Any = ResponseDone, **fields: str) -> None:
        self.code = code
        self.headers = Headers({name.replace("_", "-"): [value] for name, value in fields.items()})
        self.length: Any = UNKNOWN_LENGTH
        self.pieces = [body[:7], body[7:]]
        self.end = end
        self.receiver: Any = None

    def deliverBody(self, protocol: Any) -> None:
        self.receiver = protocol
        for piece in self.pieces:
            protocol.dataReceived(piece)
        if self.end is not None:
            protocol.connectionLost(Failure(self.end("over")))


class ScriptedClient:
    """Answers one request after the other; the last answer again and again."""

    def __init__(self, *answers: Any) -> None:
        self.answers = list(answers)
        self.asked: list[dict[str, str]] = []
        self.open = 0

    def request(self, method: bytes, uri: bytes, headers: Headers) -> Deferred[Any]:
        assert (method, uri) == (b"GET", URL.encode())
        assert self.open == 0, "each look has hung up"
        self.open += 1
        self.asked.append({k.decode(): v.decode() for k, (v,) in headers.getAllRawHeaders()})
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Deferred):
            return answer
        return fail(answer) if isinstance(answer, Exception) else succeed(answer)

    def hang_up(self) -> None:
        self.open = 0


def asking(client: ScriptedClient):
    return following(UrlSource(URL, client, 30.0), HeapClock(START))


def complaint(*answers: Any) -> str:
    """Why a list was not taken, without which all stays."""
    with asking(ScriptedClient(Answer(listed("a")), *answers)) as follower:
        follower.look()
        follower.look()
        assert follower.told == [["a"]]
        assert follower.provider.state.failing
        assert follower.provider.state.error.isprintable()
        return follower.provider.state.error


def conditions(client: ScriptedClient) -> list[dict[str, str]]:
    return [{k: v for k, v in asked.items() if k.startswith("If-")} for asked in client.asked]


def test_it_asks_as_prometheus_does():
    client = ScriptedClient(Answer(listed("a", "b")))
    with asking(client) as follower:
        follower.look()
        assert follower.told == [["a", "b"]]
    assert client.asked == [
        {
            "User-Agent": "twisted_lb",
            "Accept": "application/json",
            "X-Prometheus-Refresh-Interval-Seconds": "30",
        }
    ]


def test_what_an_answer_is_called_is_asked_with_and_304_is_no_change():
    client = ScriptedClient(
        Answer(listed("a"), ETag='W/"1"', Last_Modified="Sun, 06 Nov 1994 08:49:37 GMT"),
        Answer(code=304),
        Answer(listed("b"), ETag='"2"'),
        Answer(listed("b")),
    )
    with asking(client) as follower:
        for _ in range(5):
            follower.look()
        assert follower.told == [["a"], ["b"]]
        assert not follower.provider.state.failing
    first = {"If-None-Match": 'W/"1"', "If-Modified-Since": "Sun, 06 Nov 1994 08:49:37 GMT"}
    assert conditions(client) == [{}, first, first, {"If-None-Match": '"2"'}, {}]


def test_a_list_that_was_refused_is_asked_for_as_a_whole_until_it_is_right():
    """Its ETag would be answered by 304, as if all were well."""
    client = ScriptedClient(Answer(listed("a"), ETag='"1"'), Answer(b"{}", ETag='"2"'), Answer(listed("b"), ETag='"2"'))
    with asking(client) as follower:
        follower.look()
        follower.look()
        assert follower.provider.state.failing
        follower.look()
        assert follower.told == [["a"], ["b"]]
    assert conditions(client) == [{}, {"If-None-Match": '"1"'}, {"If-None-Match": '"1"'}]


def test_304_confirms_a_list_that_was_too_short_to_be_believed_at_once():
    client = ScriptedClient(Answer(listed("a", "b", "c")), Answer(b"[]", ETag='"0"'), Answer(code=304))
    with asking(client) as follower:
        follower.look()
        follower.look()
        assert len(follower.told) == 1
        follower.look()
        assert follower.told[1:] == [[]]


def test_a_failure_between_keeps_what_the_last_answer_was_called():
    client = ScriptedClient(Answer(listed("a"), ETag='"1"'), ConnectError(), Answer(code=304))
    with asking(client) as follower:
        for _ in range(3):
            follower.look()
        assert not follower.provider.state.failing
    assert conditions(client)[2] == {"If-None-Match": '"1"'}


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (Answer(b"", code=304), "status 304"),
        (Answer(listed("b"), code=404), "status 404"),
        (Answer(listed("b"), code=500), "status 500"),
        (Answer(listed("b"), code=204), "status 204"),
        (Answer(listed("b"), code=206), "status 206"),
        (Answer(listed("b"), code=301, Location="/b"), "status 301: a redirect, which is not followed"),
        (Answer(listed("b"), Content_Encoding="gzip"), "encoded as 'gzip', which nobody asked for"),
        (Answer(b"<html>"), "line 1, column 1: not JSON, which alone is read, and no YAML"),
        (
            Answer(b'[{"targets": ["unix:/run/b"]}]'),
            "[0].targets[0]: unix:/run/b is a socket of this machine, which only a",
        ),
        (Answer(b"[" + b" " * MOST_BYTES, end=None), f"longer than {MOST_BYTES} bytes"),
        (Answer(b"[" + b" " * MOST_BYTES), f"longer than {MOST_BYTES} bytes"),
        (Answer(listed("b"), end=ConnectionLost), "the answer was cut short"),
        (Answer(listed("b"), end=lambda text: ResponseFailed([])), "the answer was cut short"),
        (
            Answer(listed("b")[:-1], end=PotentialDataLoss),
            "line 1, column 23: not JSON, which alone is read, and no YAML",
        ),
        (
            ConnectError(string="no way there"),
            "An error occurred while connecting: no way there",
        ),
        (DNSLookupError("no results for hostname lookup: registry"), "no results for hostname lookup: registry"),
        (
            ResponseNeverReceived([Failure(ConnectionLost())]),
            "Connection to the other side was lost in a non-clean fashion",
        ),
        (
            ResponseNeverReceived([Failure(Exception([("SSL routines", "", "certificate verify failed")]))]),
            "TLS: certificate verify failed",
        ),
        (ResponseNeverReceived([]), "ResponseNeverReceived"),
        (NotImplementedError("SSL support unavailable"), 'https needs pyOpenSSL: pip install "twisted[tls]"'),
    ],
    ids=lambda one: one.replace(" ", "_")[:30] if isinstance(one, str) else "",
)
def test_any_other_answer_changes_nothing(answer, error):
    assert error in complaint(answer)


def test_an_answer_without_a_length_ends_with_its_connection():
    with asking(ScriptedClient(Answer(listed("b"), end=PotentialDataLoss))) as follower:
        follower.look()
        assert follower.told == [["b"]]


def test_an_answer_that_says_to_be_too_long_is_not_read():
    answer = Answer(listed("b"))
    answer.length = MOST_BYTES + 1
    assert complaint(answer) == f"{MOST_BYTES + 1} bytes, {MOST_BYTES} are the most"
    assert answer.receiver is None


@pytest.mark.parametrize("where", ["before the answer", "in its body"])
def test_a_server_that_does_not_go_on_is_given_up(where):
    hanging: Any = Deferred() if where == "before the answer" else Answer(listed("b"), end=None)
    client = ScriptedClient(Answer(listed("a")), hanging, Answer(listed("c")))
    with asking(client) as follower:
        follower.look()
        follower.look()
        follower.look()
        assert follower.provider.state.error == "no answer in 10 s"
        assert client.open == 0
        if isinstance(hanging, Answer):
            hanging.receiver.dataReceived(b" " * MOST_BYTES)
            hanging.receiver.connectionLost(Failure(ConnectionLost()))
        follower.look()
        assert follower.told == [["a"], ["c"]]


@pytest.mark.parametrize("where", ["before the answer", "in its body"])
def test_a_stop_hangs_up(where):
    client = ScriptedClient(Deferred() if where == "before the answer" else Answer(listed("b"), end=None))
    follower: Follower
    with asking(client) as follower:
        follower.look()
        assert client.open == 1
        follower.provider.stop()
        assert client.open == 0
        assert follower.clock.getDelayedCalls() == []
    assert follower.told == []
