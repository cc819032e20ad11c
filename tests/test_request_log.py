"""What the log says of a request that is over."""

import pytest
from twisted.logger import formatEvent, globalLogPublisher
from world import World

from twisted_lb.core.outcome import Outcome

GET = b"GET /x?y HTTP/1.1\r\nHost: x\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"


@pytest.fixture
def said():
    lines: list[str] = []

    def observe(event):
        if event["log_namespace"].startswith("twisted_lb.request_log"):
            lines.append(formatEvent(event).rsplit(" ", 2)[0])

    globalLogPublisher.addObserver(observe)
    yield lines
    globalLogPublisher.removeObserver(observe)


def world(*, everything: bool = False, side: str = "engine", names=("a:80", "b:80")) -> World:
    return World(names, side=side, log={"requests": "all" if everything else "failed"})


@pytest.mark.parametrize("side", ["engine", "resource"])
def test_a_retry_shows_in_its_attempts_and_nowhere_else(said, side):
    one = world(side=side)
    one.dial.refuse.update(["a:80"])
    one.dial.fail["b:80"] = Outcome.REFUSED
    client = one.client().send(GET)
    one.dial.refuse.clear()
    one.dial.fail.clear()
    client.read()
    one.close()
    assert said == ["127.0.0.1 GET /x?y 502 REFUSED backend=b:80 attempts=2"] or said == [
        "127.0.0.1 GET /x?y 502 REFUSED backend=a:80 attempts=2"
    ]


def test_what_succeeded_at_once_is_said_only_when_everything_is_wanted(said):
    for everything in (False, True):
        one = world(everything=everything, names=("a:80",))
        client = one.client().send(GET)
        one.backend().send(OK)
        assert client.read().endswith(b"hi")
        one.close()
        assert said == (["127.0.0.1 GET /x?y 200 OK backend=a:80 attempts=1"] if everything else [])


def test_what_succeeded_at_the_second_attempt_is_said(said):
    one = world()
    one.dial.refuse.add("a:80")
    for _ in range(2):
        client = one.client().send(GET)
        one.backend().send(OK)
        assert client.read().endswith(b"hi")
        client.close()
    one.close()
    assert said == ["127.0.0.1 GET /x?y 200 OK backend=b:80 attempts=2"]


def test_a_client_that_left_is_a_499(said):
    one = world(names=("a:80",))
    client = one.client().send(GET)
    one.backend()
    client.close()
    one.close()
    assert said == ["127.0.0.1 GET /x?y 499 CLIENT_GONE backend=a:80 attempts=1"]


def test_an_answer_cut_short_keeps_its_status(said):
    one = world(names=("a:80",))
    client = one.client().send(GET)
    one.backend().send(OK[:-1]).close()
    assert client.read().endswith(b"h")
    one.close()
    assert said == ["127.0.0.1 GET /x?y 200 CUT_SHORT backend=a:80 attempts=1"]


def test_without_a_backend_none_is_named(said):
    one = world(names=("a:80",))
    for _ in range(3):
        one.pool.observe_probe(one.record[0], False, "down", 0.0)
    one.client().send(GET).read()
    one.close()
    assert said == ["127.0.0.1 GET /x?y 503 NO_BACKEND backend=- attempts=0"]
