"""What the record of a request says, for each way in which one can end. The balancer is a whole one, in memory."""

import dataclasses

import pytest
from house import GET, House

from twisted_lb.core.never import NEVER
from twisted_lb.core.outcome import Outcome, Refusal
from twisted_lb.core.record import Record
from twisted_lb.testing import CLOSE, NEVER_ANSWER, RESET, Wait, response

START = 1000.0
POST = b"POST /up?x HTTP/1.1\r\nHost: x\r\nX-Request-ID: mine\r\nContent-Length: 5\r\n\r\nhello"
OFFER = GET[:-2] + b"Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
SWITCH = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"


def moments(record: Record) -> list[float | None]:
    """Seconds since the start: connected, head, first byte, last byte, end; None for what never was."""
    all_moments = (
        record.connected_at, record.head_at, record.first_byte_at, record.last_byte_at, record.ended_at,
    )  # fmt: skip
    return [None if at == NEVER else round(at - START, 3) for at in all_moments]


def outcomes(record: Record) -> list[tuple[str, str]]:
    return [(one.lease.backend.name, one.outcome.name) for one in record.attempts]


def test_a_plain_answer(build):
    house = build()
    house.backend("a:80", [response(b"some body")])
    house.ask(POST)
    [record] = house.records
    assert (record.method, record.target, record.request_id) == (b"POST", b"/up?x", b"mine")
    assert (record.client, record.peer, record.route, record.pool) == ("127.0.0.1", "127.0.0.1", "default", "default")
    assert (record.status, record.local_reply, record.outcome) == (200, None, Outcome.OK)
    assert outcomes(record) == [("a:80", "OK")]
    assert (record.request_bytes, record.response_bytes) == (5, 9)
    assert (record.queued_s, record.took_s) == (0, 0)
    assert repr(record) == "<Record POST /up?x 200, 1 attempts>"


@pytest.mark.parametrize(
    ("claims", "client"),
    [
        (b"X-Forwarded-For: 6.6.6.6, 198.51.100.7, 10.9.9.9\r\n", "198.51.100.7"),
        (b'Forwarded: for="[2001:db8::7]:4711"\r\n', "2001:db8::7"),
        (b"X-Forwarded-For: forged GET / 200\r\n", "127.0.0.1"),
        (b"", "127.0.0.1"),
    ],
)
def test_behind_a_trusted_proxy_the_client_is_whom_it_names_and_the_peer_is_the_proxy(build, claims, client):
    house = build(forwarding={"trusted_proxies": ["127.0.0.1", "10.0.0.0/8"]})
    house.backend("a:80", [response(b"")] * 2)
    house.ask(GET[:-2] + claims + b"\r\n")
    assert (house.record.client, house.record.peer) == (client, "127.0.0.1")
    house.apply(forwarding={"trusted_proxies": ["10.0.0.0/8"]})
    house.ask(GET[:-2] + claims + b"\r\n")
    assert (house.record.client, house.record.peer) == ("127.0.0.1", "127.0.0.1")


def test_the_moments_of_an_answer_are_in_their_order(build):
    house = build()
    whole = response(b"0123456789")
    house.backend("a:80", [[Wait(1), whole[:-10], Wait(2), whole[-10:-5], Wait(3), whole[-5:]]])
    house.ask()
    house.wait(10)
    assert moments(house.record) == [0, 1, 3, 6, 6]
    assert (house.record.began, house.record.took_s) == (START, 6)


def test_an_answer_without_a_body_has_no_first_and_no_last_byte(build):
    house = build()
    house.backend("a:80", [response(b"")])
    house.ask()
    assert moments(house.record) == [0, 0, None, None, 0]
    assert house.record.response_bytes == 0


def test_bytes_are_those_of_the_bodies_without_their_framing(build):
    house = build()
    house.backend(
        "a:80", [b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n1\r\nd\r\n0\r\nT: 1\r\n\r\n"]
    )
    house.ask(b"PUT / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n2;e=f\r\nhi\r\n0\r\n\r\n")
    assert (house.record.request_bytes, house.record.response_bytes) == (2, 4)


def test_a_retry_shows_each_attempt_and_the_moments_of_the_last_one(build):
    house = build("a:80", "b:80")
    house.backend("a:80", [[Wait(1), RESET]])
    house.backend("b:80", [[Wait(2), response(b"fine")]])
    house.ask()
    house.wait(5)
    record = house.record
    assert outcomes(record) == [("a:80", "NO_RESPONSE"), ("b:80", "OK")]
    assert (record.status, record.backend_name) == (200, "b:80")
    assert record.attempts[0].detail != ""
    assert [attempt.began - START for attempt in record.attempts] == [0, 1]
    assert moments(record) == [1, 3, 3, 3, 3]


def test_a_status_that_counts_as_a_failure_shows_as_one_whether_it_was_retried_or_passed_on(build):
    house = build("a:80", "b:80", retry={"bad_statuses": [500], "more_attempts": 1})
    for name in ("a:80", "b:80"):
        house.backend(name, [response(b"broken", 500)])
    house.ask()
    record = house.record
    assert outcomes(record) == [("a:80", "BAD_STATUS"), ("b:80", "BAD_STATUS")]
    assert (record.status, record.local_reply, record.response_bytes) == (500, None, 6)


def test_an_answer_of_our_own_says_why(build):
    house = build(retry={"more_attempts": 0})
    client = house.ask(POST)
    record = house.record
    assert (record.status, record.local_reply, record.outcome) == (502, Outcome.REFUSED, Outcome.REFUSED)
    assert moments(record) == [None, None, None, None, 0]
    assert client.received.startswith(b"HTTP/1.1 502 ")


def test_an_answer_of_our_own_is_counted_as_what_the_client_was_given(build):
    house = build(retry={"more_attempts": 0})
    client = house.ask()
    assert house.record.response_bytes == len(client.received.partition(b"\r\n\r\n")[2]) > 0
    house.ask(GET.replace(b"GET", b"HEAD"))
    assert house.record.response_bytes == 0


def test_where_nobody_was_asked_the_refusal_is_the_reason(build):
    house = build()
    house.plane.update("default", [])
    house.ask()
    record = house.record
    assert (record.status, record.local_reply, record.outcome) == (503, Refusal.NO_BACKEND, None)
    assert (record.attempts, record.backend_name) == ([], "")


def test_an_answer_that_was_cut_short_has_no_last_byte(build):
    house = build()
    house.backend("a:80", [[response(b"0123456789")[:-4], Wait(2), CLOSE]])
    house.ask()
    house.wait(5)
    record = house.record
    assert (record.status, record.outcome, record.response_bytes) == (200, Outcome.CUT_SHORT, 6)
    assert record.local_reply is None
    assert moments(record) == [0, 0, 0, None, 2]


def test_a_client_that_leaves_before_the_answer_was_told_nothing(build):
    house = build()
    house.backend("a:80", [NEVER_ANSWER])
    client = house.ask()
    house.wait(3)
    client.reset()
    house.clock.settle()
    record = house.record
    assert (record.status, record.outcome, record.local_reply) == (0, Outcome.CLIENT_GONE, None)
    assert moments(record) == [0, None, None, None, 3]


def test_a_client_that_leaves_in_the_middle_of_an_answer_was_told_its_status(build):
    house = build()
    house.backend("a:80", [[response(b"0123456789")[:-4], NEVER_ANSWER]])
    house.ask().reset()
    house.clock.settle()
    record = house.record
    assert (record.status, record.outcome, record.response_bytes) == (200, Outcome.CLIENT_GONE, 6)


@pytest.mark.parametrize(
    ("rest", "status"),
    [(b"x\r\n", 400), (b"b\r\nabcdefghijk\r\n", 413), (b"", 408)],
    ids=["broken", "large", "stalled"],
)
def test_a_client_that_breaks_its_own_message_was_told_so(build, rest, status):
    house = build(limits={"body_bytes": 10}, timeouts={"body_idle_s": 5.0})
    house.backend("a:80")
    client = house.ask(b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n1\r\ny\r\n")
    client.send(rest)
    house.wait(6)
    record = house.record
    assert client.received.startswith(b"HTTP/1.1 %d " % status)
    assert (record.status, record.outcome, record.local_reply) == (status, Outcome.CLIENT_FAULT, Outcome.CLIENT_FAULT)


def test_a_client_that_breaks_it_before_a_backend_was_asked_was_told_so_too(build):
    house = build()
    house.ask(b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n")
    record = house.record
    assert (record.status, record.attempts, record.local_reply) == (400, [], Outcome.CLIENT_FAULT)


def test_a_tunnel_counts_all_bytes_both_ways_and_ends_with_it(build):
    house = build()
    backend = house.backend("a:80", [SWITCH + b"first"])
    client = house.ask(OFFER + b"early")
    house.wait(2)
    house.ask(b" bird", client)
    backend.connections[0].transport.write(b", last")
    house.wait(2)
    assert house.records == []
    client.close()
    house.clock.settle()
    backend.connections[0].transport.loseConnection()
    house.clock.settle()
    [record] = house.records
    assert (record.status, record.outcome) == (101, Outcome.OK)
    assert (record.request_bytes, record.response_bytes) == (len(b"early bird"), len(b"first, last"))
    assert (record.head_at - START, record.took_s) == (0, 4)


def test_a_tunnel_that_its_client_broke_says_so(build):
    house = build()
    house.backend("a:80", [SWITCH])
    house.ask(OFFER + b"up").reset()
    house.clock.settle()
    record = house.record
    assert (record.status, record.outcome, record.request_bytes) == (101, Outcome.CLIENT_GONE, 2)


def test_what_is_cut_at_the_end_is_told_too():
    house = House()
    house.backend("a:80", [NEVER_ANSWER])
    house.ask()
    house.balanced.close()
    house.clock.settle()
    assert outcomes(house.record) == [("a:80", "CANCELLED")]
    house.wait(5)


def test_a_record_is_told_once_for_each_request_also_on_one_connection(build):
    house = build()
    house.backend()
    house.ask(GET * 3 + POST)
    assert [record.method for record in house.records] == [b"GET"] * 3 + [b"POST"]


def test_a_record_is_told_before_the_client_hears_the_end_of_its_answer(build):
    """Who asks again at once finds the first one in the log."""
    heard: list[bytes] = []
    house = build(observers=(lambda record: heard.append(client.received),))
    house.backend("a:80", [[response(b"0123456789")[:-4], Wait(1), b"6789"]])
    client = house.ask()
    house.wait(1)
    assert heard[0].endswith(b"012345")
    assert client.received.endswith(b"0123456789")


def test_the_id_that_we_make_is_the_one_that_the_backend_got(build):
    house = build(forwarding={"request_id": "make"})
    backend = house.backend()
    house.ask()
    assert house.record.request_id != b""
    assert b"\r\nX-Request-ID: %b\r\n" % house.record.request_id in backend.requests[0]


def test_a_record_may_be_kept(build):
    house = build()
    house.backend()
    client = house.ask()
    first = house.record
    house.wait(1)
    house.ask(POST, client)
    assert (first.method, first.ended_at, outcomes(first)) == (b"GET", START, [("a:80", "OK")])


def test_who_is_refused_behind_a_trusted_proxy_is_whom_it_names_too(build):
    limits = {"connections_per_client": 1, "body_bytes": 10}
    house = build(forwarding={"trusted_proxies": ["127.0.0.0/8"]}, limits=limits)
    house.backend("a:80", [NEVER_ANSWER])
    named = b"Host: x\r\nX-Forwarded-For: 192.0.2.9\r\n"
    house.ask(b"POST / HTTP/1.1\r\n" + named + b"Content-Length: 11\r\n\r\n")
    assert (house.record.status, house.record.client, house.record.peer) == (413, "192.0.2.9", "127.0.0.1")
    under_way = house.ask(b"GET /1 HTTP/1.1\r\n" + named + b"\r\n")
    house.ask(b"GET /2 HTTP/1.1\r\n" + named + b"\r\n")
    record = house.record
    assert (record.status, record.client, record.peer) == (429, "192.0.2.9", "127.0.0.1")
    assert (record.target, record.local_reply) == (b"/2", Refusal.RATE_LIMITED)
    under_way.reset()


# What an access log wants of it.


def test_it_says_how_the_request_came_and_what_it_was(build):
    house = build()
    house.backend()
    house.ask(
        b"GET /x HTTP/1.0\r\nHost: shop.example.com:8080\r\nUser-Agent: me \xff\r\nConnection: keep-alive\r\n\r\n"
    )
    record = house.record
    assert (record.listener, record.version, record.scheme, record.host) == (
        "default", 10, b"http", b"shop.example.com:8080",
    )  # fmt: skip
    assert b"User-Agent: me \xff\r\n" in record.fields
    assert record.peer_port == house.frontend.clients.popitem()[0].peer_port > 0


def test_an_absolute_target_says_which_host_was_asked(build):
    house = build()
    house.backend()
    house.ask(b"GET http://a.example/x HTTP/1.1\r\nHost: a.example\r\n\r\n")
    assert (house.record.host, house.record.target) == (b"a.example", b"/x")


@pytest.mark.parametrize(
    ("request_", "status", "version", "host"),
    [
        (b"POST /x HTTP/1.1\r\nHost: x\r\nUser-Agent: me\r\nContent-Length: 11\r\n\r\n", 413, 11, b"x"),
        (b"GET /denied HTTP/1.0\r\nHost: y\r\nUser-Agent: me\r\n\r\n", 403, 10, b"y"),
        (b"OPTIONS /x HTTP/1.1\r\nHost: x\r\nUser-Agent: me\r\nMax-Forwards: 0\r\n\r\n", 200, 11, b"x"),
        (b"GET /x HTTP/3.0\r\nHost: x\r\nUser-Agent: me\r\n\r\n", 505, 0, b""),
    ],
    ids=["too large", "denied", "final recipient", "no head"],
)
def test_so_does_that_of_what_got_no_exchange(build, request_, status, version, host):
    house = build(limits={"body_bytes": 10}, routes=[{"path": "/denied", "deny": True}])
    house.ask(request_)
    record = house.record
    assert (record.status, record.version, record.host, record.listener) == (status, version, host, "default")
    assert (b"User-Agent: me\r\n" in record.fields) == bool(version)
    assert (record.peer_port > 0, record.scheme) == (True, b"http")


def test_the_trace_that_we_begin_is_the_one_that_the_backend_got(build):
    house = build(forwarding={"traceparent": "make"})
    backend = house.backend()
    house.ask()
    assert len(house.record.trace_id) == 32
    assert b"\r\ntraceparent: 00-%b-" % house.record.trace_id in backend.requests[0]


def test_a_failed_attempt_says_when_it_ended(build):
    house = build("a:80", "b:80")
    house.backend("a:80", [[Wait(1), RESET]])
    house.backend("b:80", [[Wait(2), response(b"fine")]])
    house.ask()
    house.wait(5)
    assert [one.ended_at for one in house.record.attempts] == [START + 1, NEVER]


def test_it_says_how_many_were_in_front_in_the_queue_and_how_long_it_waited_also_when_its_client_leaves(build):
    house = build(queue={"no_backend_s": 10.0})
    house.pool.configure(dataclasses.replace(house.pool.settings, max_in_flight=1), START)
    house.backend("a:80", [[Wait(2), response(b"")]] * 3)
    waiting = [house.ask() for _ in range(4)]
    house.wait(1)
    waiting[3].reset()
    house.wait(9)
    assert [(one.queued_behind, one.queued_s, one.ended_by) for one in house.records] == [
        (2, 1.0, Outcome.CLIENT_GONE),
        (0, 0.0, Outcome.OK),
        (0, 2.0, Outcome.OK),
        (1, 4.0, Outcome.OK),
    ]
