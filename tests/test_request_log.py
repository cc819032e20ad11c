"""What the log says of a request that is over, and of what was refused before it was one."""

import contextlib
import re

import pytest
from house import GET as GET_ROOT
from house import House
from twisted.logger import formatEvent, globalLogPublisher
from world import World

from twisted_lb.core.outcome import Outcome
from twisted_lb.core.record import Record
from twisted_lb.request_log import log_request
from twisted_lb.testing import CLOSE, NEVER_ANSWER, response

GET = b"GET /x?y HTTP/1.1\r\nHost: x\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"
POST = b"POST / HTTP/1.1\r\nHost: x\r\n"


@pytest.fixture
def events():
    """The events of the request log."""
    heard: list[dict] = []

    def observe(event):
        if event["log_namespace"].startswith("twisted_lb.request_log"):
            heard.append(event)

    globalLogPublisher.addObserver(observe)
    yield heard
    globalLogPublisher.removeObserver(observe)


class Said:
    """The lines so far, without what they take (a time), and with `ID` for an id that was made."""

    def __init__(self, events: list[dict]) -> None:
        self._events = events

    @property
    def lines(self) -> list[str]:
        lines = [re.sub(r" [0-9.]+ ms id=", " id=", formatEvent(event)) for event in self._events]
        return [re.sub("id=[0-9a-f]{32}", "id=ID", line) for line in lines]


@pytest.fixture
def said(events):
    return Said(events)


@pytest.fixture
def build(build):
    """Houses that log as they are told, by default `failed`."""

    def one(*names: str, requests: str = "failed", **options) -> House:
        return build(*names, log={"requests": requests}, **options)

    return one


@contextlib.contextmanager
def world(requests: str = "failed", *, side: str = "engine", names=("a:80", "b:80"), **options):
    one = World(names, side=side, log={"requests": requests}, **options)
    yield one
    one.close()


def shown_id(answer: bytes) -> str:
    """The id in the body of an error page."""
    return re.search(rb"request (\S+)\n\Z", answer)[1].decode()


# Attempts.


@pytest.mark.parametrize("side", ["engine", "resource"])
def test_each_attempt_is_told_with_its_backend_its_outcome_and_what_was_wrong(said, side):
    with world(side=side) as one:
        one.dial.refuse.add("a:80")
        one.dial.fail["b:80"] = Outcome.CONNECT_TIMEOUT
        for _ in range(2):
            client = one.client().send(GET)
            client.read()
            client.close()
    whys = {"a:80": "REFUSED connection refused", "b:80": "CONNECT_TIMEOUT made to fail"}
    assert said.lines[0] in [
        f"127.0.0.1 GET /x?y {status} {whys[last].split()[0]} backend={last} attempts=2 id=ID: "
        f"{first} {whys[first]}; {last} {whys[last]}"
        for first, last, status in (("a:80", "b:80", 504), ("b:80", "a:80", 502))
    ]


def test_the_id_is_that_of_the_error_page(build, events):
    house = build(retry={"more_attempts": 0})
    client = house.ask()
    assert events[-1]["request_id"] == shown_id(client.received)
    client = house.ask(GET_ROOT[:-2] + b"X-Request-ID: what-i-say\r\n\r\n")
    assert events[-1]["request_id"] == shown_id(client.received) == "what-i-say"


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n", "both Content-Length"),
        (b"HTTP/1.1 200 OK\r\nA: b\r\n c: d\r\n\r\n", "folded field line"),
        (b"HTTP/1.1 200 OK\r\nA: " + b"x" * 40_000 + b"\r\n\r\n", "response head too long"),
        (b"SSH-2.0-OpenSSH_9.2\r\n\r\n", "illegal status line"),
    ],
    ids=["both framings", "folded line", "head too long", "another protocol"],
)
def test_what_a_parser_found_wrong_with_an_answer_is_in_the_log(build, said, answer, why):
    for requests in ("brief", "failed"):
        house = build(requests=requests)
        house.backend("a:80", [[answer, NEVER_ANSWER]])
        house.ask(POST + b"Content-Length: 0\r\n\r\n")
    assert len(said.lines) == 2
    for line in said.lines:
        assert line.startswith(
            f"127.0.0.1 POST / 502 BAD_RESPONSE backend=a:80 attempts=1 id=ID: a:80 BAD_RESPONSE {why}"
        )


def test_a_backend_that_closes_without_an_answer_is_named(build, said):
    house = build()
    house.backend("a:80", [[CLOSE]])
    house.ask(POST + b"Content-Length: 0\r\n\r\n")
    assert re.search("502 NO_RESPONSE backend=a:80 attempts=1 id=ID: a:80 NO_RESPONSE .*clos", said.lines[0])


@pytest.mark.parametrize("requests", ["brief", "failed", "all"])
def test_what_succeeded_at_the_second_attempt_is_said_with_what_was_wrong_with_the_first(said, requests):
    with world(requests) as one:
        one.dial.refuse.add("a:80")
        for _ in range(2):
            client = one.client().send(GET)
            one.backend().send(OK)
            assert client.read().endswith(b"hi")
            client.close()
    line = "127.0.0.1 GET /x?y 200 OK backend=b:80 attempts=2 id=-: a:80 REFUSED connection refused; b:80 OK"
    assert [one for one in said.lines if "attempts=2" in one] == [line]
    assert len(said.lines) == (2 if requests == "all" else 1)


def test_what_succeeded_at_once_is_said_only_when_everything_is_wanted(said):
    for requests in ("none", "brief", "failed", "all"):
        with world(requests, names=("a:80",)) as one:
            client = one.client().send(GET)
            one.backend().send(OK)
            assert client.read().endswith(b"hi")
            assert one.engine.observers.watching is (requests == "all"), "a record costs"
    assert said.lines == ["127.0.0.1 GET /x?y 200 OK backend=a:80 attempts=1 id=-"]


def test_a_status_that_counts_as_a_failure_is_said_also_when_another_backend_had_a_better_one(build, said):
    house = build("a:80", "b:80", requests="brief", retry={"bad_statuses": [503]})
    house.backend("a:80", [response(b"", 503)])
    house.backend("b:80")
    house.ask()
    assert said.lines == [
        "127.0.0.1 GET / 200 OK backend=b:80 attempts=2 id=-: a:80 BAD_STATUS status 503; b:80 OK",
    ]


def test_an_answer_cut_short_keeps_its_status(said):
    with world(names=("a:80",)) as one:
        client = one.client().send(GET)
        one.backend().send(OK[:-1]).close()
        assert client.read().endswith(b"h")
    assert said.lines[0].startswith("127.0.0.1 GET /x?y 200 CUT_SHORT backend=a:80 attempts=1 id=-: a:80 CUT_SHORT ")


def test_a_session_has_no_status_whoever_ended_it(said):
    for outcome in (Outcome.CUT_SHORT, Outcome.CLIENT_GONE):
        record = Record(0.0)
        record.method, record.scheme, record.client, record.ended_by = b"TCP", b"tcp", "127.0.0.1", outcome
        record.ended_at = 1.0
        log_request(record)
    assert said.lines == [
        "127.0.0.1 TCP - - CUT_SHORT backend=- attempts=0 id=-",
        "127.0.0.1 TCP - - CLIENT_GONE backend=- attempts=0 id=-",
    ]


def test_a_client_that_left_is_a_499_but_nothing_that_went_wrong(said):
    for requests in ("none", "brief", "failed"):
        with world(requests, names=("a:80",)) as one:
            client = one.client().send(GET)
            one.backend()
            client.close()
    assert said.lines == [
        "127.0.0.1 GET /x?y 499 CLIENT_GONE backend=a:80 attempts=1 id=-: a:80 CLIENT_GONE",
    ]


@pytest.mark.parametrize("side", ["engine", "resource"])
def test_a_client_that_was_cut_because_it_reads_nothing_is_told_from_one_that_left(said, side):
    with world(names=("a:80",), side=side, response_idle_s=5) as one:
        one.client().send(GET)
        backend = one.backend().send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (1 << 30))
        with contextlib.suppress(OSError):
            while backend.sock.send(b"x" * 65536):
                one.run()
        one.advance(12)
    assert said.lines == [
        "127.0.0.1 GET /x?y 200 CLIENT_GONE backend=a:80 attempts=1 id=-: a:80 CLIENT_GONE it does not take its answer"
    ]


def test_without_a_backend_none_is_named(said):
    with world(names=("a:80",)) as one:
        for _ in range(3):
            one.pool.observe_probe(one.record[0], False, "down", 0.0)
        one.client().send(GET).read()
    assert said.lines == ["127.0.0.1 GET /x?y 503 NO_BACKEND backend=- attempts=0 id=ID"]


# What is refused.

REFUSED = {
    "400": (b"GET / HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n", "GET / 400 BAD_REQUEST", "more than one Host"),
    "400 with a method of its own": (b"G(T / HTTP/1.1\r\nHost: x\r\n\r\n", "G(T / 400 BAD_REQUEST", "illegal method"),
    "413": (POST + b"Content-Length: 999\r\n\r\n", "POST / 413 BODY_TOO_LARGE", "Content-Length is beyond the limit"),
    "414": (b"GET /" + b"x" * 9000, f"GET /{'x' * 1023} 414 URI_TOO_LONG", "request line too long"),
    "431": (GET[:-2] + b"A: " + b"x" * 40_000, "GET /x?y 431 HEAD_TOO_LARGE", "head too long"),
    "501": (b"CONNECT x:443 HTTP/1.1\r\nHost: x:443\r\n\r\n", "CONNECT x:443 501 NOT_IMPLEMENTED", "CONNECT is not offered"),
    "505": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "PRI * 505 VERSION", "HTTP version not supported"),
    "TLS": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n", "___________ - 400 BAD_REQUEST", "illegal character in the head"),
}  # fmt: skip


@pytest.mark.parametrize("requests", ["brief", "failed", "all"])
@pytest.mark.parametrize("what", REFUSED)
def test_what_is_refused_before_it_is_a_request_is_said_with_the_reason_and_the_id(build, said, events, what, requests):
    house = build(requests=requests, limits={"body_bytes": 10})
    sent, line, why = REFUSED[what]
    client = house.ask(sent)
    method, target, rest = line.split(" ", 2)
    assert said.lines == [f"127.0.0.1 {method} {target} {rest} backend=- attempts=0 id=ID: {why}"]
    assert events[0]["request_id"] == shown_id(client.received)


TOO_LATE = {
    "half a head": (b"HEAD / HT", "HEAD / 408 TOO_SLOW backend=- attempts=0 id=ID: no complete head in time"),
    "half a body": (
        POST + b"Content-Length: 9\r\n\r\nab",
        "POST / 408 CLIENT_FAULT backend=a:80 attempts=1 id=ID: a:80 CLIENT_FAULT the body stalled",
    ),
    "a broken chunk": (
        POST + b"Transfer-Encoding: chunked\r\n\r\n1\r\na\r\nx\r\n",
        "POST / 400 CLIENT_FAULT backend=- attempts=0 id=ID: illegal chunk size",
    ),
    "too many chunks": (
        POST + b"Transfer-Encoding: chunked\r\n\r\nb\r\nabcdefghijk\r\n",
        "POST / 413 CLIENT_FAULT backend=- attempts=0 id=ID: body too large",
    ),
}


@pytest.mark.parametrize(("sent", "line"), TOO_LATE.values(), ids=TOO_LATE)
def test_a_client_that_is_too_slow_or_breaks_its_body_is_told_why_and_so_is_the_log(build, said, events, sent, line):
    house = build(limits={"body_bytes": 10})
    house.backend("a:80", [NEVER_ANSWER])
    client = house.ask(sent)
    house.wait(40)
    assert said.lines == [f"127.0.0.1 {line}"]
    assert events[0]["request_id"].encode() in client.received


def test_a_client_over_its_limit_is_in_the_log(build, said, events):
    house = build(requests="brief", limits={"connections_per_client": 1})
    house.client()
    client = house.ask()
    assert said.lines == [
        "127.0.0.1 - - 429 RATE_LIMITED backend=- attempts=0 id=ID: too many connections of one client"
    ]
    assert events[0]["request_id"] == shown_id(client.received)


@pytest.mark.parametrize("what", ["400", "413"])
def test_what_a_resource_refuses_is_said_too(said, events, what):
    with world(side="resource", limits={"body_bytes": 10}) as one:
        two_hosts = b"GET / HTTP/1.1\r\nHost: x\r\nHost: z\r\n\r\n"
        sent = two_hosts if what == "400" else POST + b"Content-Length: 12\r\n\r\nabcdefghijkl"
        answer = one.client().send(sent).read()
    assert answer.startswith(b"HTTP/1.1 %b " % what.encode())
    [event] = events
    assert (event["request_id"], event["status"]) == (shown_id(answer), int(what))
    assert event["detail"] == ("more than one Host" if what == "400" else "the body is beyond the limit")


def test_a_request_that_a_stop_cuts_at_a_resource_has_its_id_in_the_log(events):
    one = World(("a:80",), side="resource", log={"requests": "failed"})
    client = one.client().send(GET)
    backend = one.backend()
    one.plane.close()
    answer = client.read()
    assert answer.startswith(b"HTTP/1.1 503 ")
    assert [(event["status"], event["ended_by"], event["request_id"]) for event in events] == [
        (503, "CANCELLED", shown_id(answer))
    ]
    client.close()
    backend.close()
    one.advance(5)
    one.poller.stop()


# A line is a line.


@pytest.mark.parametrize(
    "sent",
    [
        b"GET / HTTP/1.1\r\nHost: x\r\nX-Request-ID: 1 200 OK\xe2\x80\xa8127.0.0.1 GET /forged\r\n\r\n",
        b"GET /\x1b[2J\x07 HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /\n127.0.0.1 GET /forged 200 OK HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET\t/forged\x0b200\x85\xe2\x80\xa8 / HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /{log_time}{0.__class__} HTTP/1.1\r\nHost: x\r\n\r\n",
        b"\x00" * 500 + b"\r\n\r\n",
    ],
)
def test_whatever_a_client_sends_it_is_one_line_of_as_many_words(build, said, sent):
    house = build(retry={"more_attempts": 0})
    house.ask(sent)
    [line] = said.lines
    assert line.isascii()
    assert line.isprintable()
    assert len(line.partition(": ")[0].split(" ")) == 8
    assert " /forged" not in line


def test_whatever_stands_in_a_record_it_is_one_line(said):
    record = Record(0.0)
    record.client = "10.0.0.1\n10.0.0.2 x"
    record.method, record.target, record.request_id = b"\x9bA", b"/ \r\n", b"\xff"
    record.detail = "what\u2028says \x1b[1m"
    record.ended_at = 1.0
    log_request(record)
    [line] = said.lines
    assert line.isprintable()
    assert "\n" not in line
    assert line == r"10.0.0.1\n10.0.0.2_x \x9bA /_\r\n - - backend=- attempts=0 id=ÿ: what\u2028says \x1b[1m"


def test_the_peer_is_known_beside_the_client(build, events):
    house = build(requests="all")
    house.backend("a:80")
    house.ask()
    assert (events[0]["client"], events[0]["peer"]) == ("127.0.0.1", "127.0.0.1")
    assert events[0]["tried"] == [("a:80", "OK", "")]


# The default.


def test_by_default_the_same_is_said_once_a_second_with_the_number_left_out(build, said):
    house = build(requests="brief", retry={"more_attempts": 0})
    for _ in range(10):
        house.ask(b"junk\r\n\r\n")
        house.wait(0.05)
    line = "127.0.0.1 junk - 400 BAD_REQUEST backend=- attempts=0 id=ID: request line is not three words"
    assert said.lines == [line]
    house.wait(1)
    assert said.lines == [line, f"{line} (and 8 more BAD_REQUEST)"]
    house.wait(5)
    assert len(said.lines) == 2
    house.ask(b"junk\r\n\r\n")
    assert said.lines[2:] == [line]


def test_each_kind_at_each_backend_is_said_by_itself(build, said):
    house = build("a:80", "b:80", requests="brief", retry={"more_attempts": 0})
    for name, bad in (("a:80", b"no\r\n\r\n"), ("b:80", b"HTTP/1.1 999999 no\r\n\r\n")):
        house.backend(name, [[bad, NEVER_ANSWER]] * 3)
    for _ in range(6):
        house.ask()
    house.ask(b"junk\r\n\r\n")
    assert sorted(line.partition("id=")[0] for line in said.lines) == [
        "127.0.0.1 GET / 502 BAD_RESPONSE backend=a:80 attempts=1 ",
        "127.0.0.1 GET / 502 BAD_RESPONSE backend=b:80 attempts=1 ",
        "127.0.0.1 junk - 400 BAD_REQUEST backend=- attempts=0 ",
    ]
    house.wait(2)
    assert [line.partition(" (and ")[2] for line in said.lines[3:]] == [
        "1 more BAD_RESPONSE at a:80)",
        "1 more BAD_RESPONSE at b:80)",
    ]


def test_a_client_that_just_leaves_is_not_said(build, said):
    house = build(requests="brief")
    house.backend("a:80", [NEVER_ANSWER])
    house.ask().close()
    house.wait(2)
    assert said.lines == []


def test_a_client_that_leaves_behind_a_backend_that_failed_is_said_with_what_went_wrong_there(build, said):
    house = build("a:80", "b:80", requests="brief", retry={"backoff_s": 5.0})
    house.backend("a:80", [CLOSE])
    house.backend("b:80")
    client = house.ask()
    house.wait(0.01)
    client.close()
    house.wait(0.01)
    [line] = said.lines
    assert line.startswith("127.0.0.1 GET / 499 CLIENT_GONE backend=a:80 attempts=1 ")
    assert line.endswith(": a:80 NO_RESPONSE the backend closed the connection")


def test_the_end_leaves_nothing_unsaid(said):
    house = House(log={"requests": "brief"})
    for _ in range(3):
        house.ask(b"junk\r\n\r\n")
    house.close()
    assert said.lines[1].endswith(" (and 1 more BAD_REQUEST)")


def test_a_request_that_knocked_several_times_is_said_and_its_knocks_are_counted(build, said):
    house = build(requests="brief", queue={"no_backend_s": 1.0})
    house.ask()
    house.wait(2)
    [line] = [one for one in said.lines if " 502 " in one]
    assert line.endswith("a:80 REFUSED connection refused (5 times)"), line


# Routes.


def test_the_route_and_the_pool_are_named_where_they_are_not_the_default_ones(build, said):
    house = build(
        requests="all",
        pools={"api": {"backends": ["api:80"], "health_check": {"interval_s": 0.0}}},
        routes=[
            {"name": "front", "path": "/x", "pool": "api"},
            {"path": "/go", "redirect": {"to": "/x"}},
            {"path": "/no", "deny": True},
        ],
    )
    house.backend("a:80")
    house.backend("api:80")
    for target in (b"/x", b"/go", b"/no", b"/"):
        house.ask(b"GET %b HTTP/1.1\r\nHost: x\r\n\r\n" % target)
    assert said.lines == [
        "127.0.0.1 GET /x 200 OK route=front pool=api backend=api:80 attempts=1 id=-",
        "127.0.0.1 GET /go 308 REDIRECT route=routes[1] backend=- attempts=0 id=ID: host x",
        "127.0.0.1 GET /no 403 FORBIDDEN route=routes[2] backend=- attempts=0 id=ID: its route denies all, host x",
        "127.0.0.1 GET / 200 OK backend=a:80 attempts=1 id=-",
    ]


def test_the_host_is_named_of_each_request_that_goes_to_no_backend(build, said):
    house = build(
        requests="all",
        routes=[
            {"path": "/hi", "answer": {"text": "hi"}},
            {"path": "/no", "pool": "default", "allow_clients": ["10.0.0.1"]},
            {"path": "/once", "pool": "default", "rate_limits": {"per_s": 0.1}},
            {"path_prefix": "/slash", "encoded_slash": "refuse", "pool": "default"},
        ],
    )
    house.backend("a:80")
    for target in (b"/hi", b"/no", b"/once", b"/once", b"/slash/%2F"):
        house.ask(b"GET %b HTTP/1.1\r\nHost: Shop.Example.com:80\r\n\r\n" % target)
    assert [line.partition("id=")[2].partition(": ")[2] for line in said.lines] == [
        "host shop.example.com",
        "the client has no access, host shop.example.com",
        "",
        "beyond the rate limit route routes[2], number 1, host shop.example.com",
        "escaped slash in the path, host shop.example.com",
    ]


@pytest.mark.parametrize("requests", ["brief", "failed"])
def test_what_a_route_answers_itself_is_no_failure(build, said, requests):
    house = build(requests=requests, routes=[{"path": "/hi", "answer": {"status": 503}}, {"redirect": {"to": "/hi"}}])
    for target in (b"/hi", b"/"):
        house.ask(b"GET %b HTTP/1.1\r\nHost: x\r\n\r\n" % target)
    assert said.lines == []
