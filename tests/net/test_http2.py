"""HTTP/2 with a client: what h2, another implementation, asks of it and hears of it."""

import pytest
from http2_backend import Http2Backend
from http2_client import Http2Town, frame, request

from twisted_lb.testing import CLOSE, NEVER_ANSWER, RESET, Wait, response
from twisted_lb.wire.http2.frames import DATA, END_STREAM, HEADERS, WINDOW_UPDATE


def test_a_get_is_answered():
    town = Http2Town([response(b"hello\n", 200, b"X-Y: z", b"Date: now")])
    client = town.client()
    answer = client.ask("GET", "/a?b=c", ("accept", "*/*"))
    assert (answer.status, answer.body, answer.ended) == (200, b"hello\n", True)
    assert answer.fields == {":status": "200", "x-y": "z", "date": "now", "content-length": "6"}
    (request,) = town.requests
    assert request.startswith(b"GET /a?b=c HTTP/1.1\r\nhost: www.example.com\r\naccept: */*\r\n")
    assert town.frontend.exchanges == 0
    assert [record.version for record in town.balanced.records] == [20]


def test_many_requests_run_at_a_time_and_leave_nothing():
    town = Http2Town(*[[Wait(1.0), response(b"%d" % number)] for number in range(50)])
    client = town.client()
    streams = [client.begin("GET", f"/{number}") for number in range(50)]
    client.flush()
    assert town.frontend.exchanges == 50
    town.clock.advance(1.0)
    client.flush()
    assert {client.answers[stream].ended for stream in streams} == {True}
    assert sorted(client.answers[stream].body for stream in streams) == sorted(b"%d" % n for n in range(50))
    assert (town.frontend.exchanges, len(town.frontend.clients)) == (0, 1)


@pytest.mark.parametrize("size", [1, 100, 65_535, 65_536, 300_000, 2_000_000])
def test_a_body_up_is_whole_and_one_down_too(size):
    body = bytes(range(256)) * (size // 256 + 1)
    body = body[:size]
    town = Http2Town([response(body)])
    client = town.client()
    answer = client.ask("POST", "/", ("content-length", str(size)), body=body)
    assert (answer.body == body, answer.ended) == (True, True)
    (request,) = town.requests
    assert request.partition(b"\r\n\r\n")[2] == body


def test_a_body_without_a_length_is_chunked_and_leaves_with_its_head():
    town = Http2Town([response()])
    client = town.client()
    stream = client.begin("POST", "/", ended=False)
    client.h2.send_data(stream, b"hello", end_stream=True)
    client.flush()
    (request,) = town.requests
    assert b"Transfer-Encoding: chunked\r\n" in request
    assert request.endswith(b"\r\n\r\n5\r\nhello\r\n0\r\n\r\n")
    assert client.answers[stream].ended


def test_what_has_come_of_a_body_with_one_batch_goes_to_its_backend_at_once_and_opens_no_window_behind_its_end():
    town = Http2Town([response()])
    client = town.raw()
    pieces = [bytes([at]) * 16_000 for at in range(4)]
    client.send(
        request(1, ("content-length", "64000"), method="POST", ended=False),
        *[frame(DATA, END_STREAM if at == 3 else 0, 1, piece) for at, piece in enumerate(pieces)],
    )
    (sent,) = town.requests
    assert sent.endswith(b"\r\n\r\n" + b"".join(pieces))
    assert client.of(WINDOW_UPDATE, 1) == []


def test_a_body_that_goes_on_has_its_window_opened_by_what_has_come():
    town = Http2Town([NEVER_ANSWER])
    client = town.raw()
    client.send(request(1, method="POST", ended=False), *[frame(DATA, 0, 1, b"x" * 16_000)] * 2)
    assert client.of(WINDOW_UPDATE, 1) == []
    client.send(frame(DATA, 0, 1, b"x" * 16_000))
    assert client.of(WINDOW_UPDATE, 1) == [(48_000).to_bytes(4, "big")]


def test_an_answer_that_breaks_with_the_bytes_of_its_head_is_begun_and_then_cut():
    town = Http2Town([b"HTTP/1.1 200 OK\r\nDate: now\r\nTransfer-Encoding: chunked\r\n\r\nbroken\r\n"])
    answer = town.client().ask("GET")
    assert (answer.status, answer.body, answer.ended, answer.reset) == (200, b"", False, 2)


def test_a_head_is_answered_without_a_body():
    town = Http2Town()
    answer = town.client().ask("HEAD")
    assert (answer.status, answer.body, answer.ended) == (200, b"", True)
    assert answer.fields["content-length"] == "3"


def test_trailers_pass_both_ways():
    town = Http2Town([b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nX-Sum: 5\r\n\r\n"])
    client = town.client()
    stream = client.begin("POST", "/", ("te", "trailers"), ended=False)
    client.h2.send_data(stream, b"hi")
    client.h2.send_headers(stream, [("x-end", "1")], end_stream=True)
    client.flush()
    assert town.requests[0].endswith(b"2\r\nhi\r\n0\r\nx-end: 1\r\n\r\n")
    answer = client.answers[stream]
    assert (answer.body, answer.trailers, answer.ended) == (b"ok", {"x-sum": "5"}, True)


def test_news_come_before_the_answer():
    town = Http2Town([b"HTTP/1.1 103 Early Hints\r\nLink: </s.css>\r\n\r\n", response()])
    answer = town.client().ask()
    assert (answer.informed, answer.status) == ([103], 200)


def test_an_expectation_is_met_and_the_body_follows():
    town = Http2Town([b"HTTP/1.1 100 Continue\r\n\r\n", response()])
    town.backend.early = True
    client = town.client()
    stream = client.begin("POST", "/", ("expect", "100-continue"), ("content-length", "5"), ended=False)
    client.flush()
    assert client.answers[stream].informed == [100]
    client.send_body(stream, b"hello")
    town.clock.advance(1.0)
    client.flush()
    assert client.answers[stream].ended


# Cut visibly.


def test_an_answer_that_breaks_off_is_reset_and_never_ended():
    town = Http2Town([b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello", RESET])
    answer = town.client().ask()
    assert (answer.status, answer.body, answer.ended, answer.reset) == (200, b"hello", False, 2)
    assert [record.ended_by.name for record in town.balanced.records] == ["CUT_SHORT"]


def test_a_backend_that_says_nothing_is_a_local_reply():
    town = Http2Town([CLOSE], [CLOSE], [CLOSE])
    answer = town.client().ask("POST", "/", ("content-length", "1"), body=b"x")
    assert (answer.status, answer.ended) == (502, True)


def test_a_reset_of_the_client_takes_its_request_back():
    town = Http2Town([NEVER_ANSWER])
    client = town.client()
    stream = client.begin()
    client.flush()
    assert town.frontend.exchanges == 1
    client.h2.reset_stream(stream, 8)
    client.flush()
    assert (town.frontend.exchanges, len(town.frontend.clients)) == (0, 1)
    assert [record.ended_by.name for record in town.balanced.records] == ["CLIENT_GONE"]
    assert not town.backend.connections[0].open


def test_who_leaves_takes_all_its_requests_along():
    town = Http2Town([NEVER_ANSWER], [NEVER_ANSWER])
    client = town.client()
    client.begin()
    client.begin()
    client.flush()
    client.scripted.reset()
    town.clock.settle()
    assert (town.frontend.exchanges, len(town.frontend.clients)) == (0, 0)
    assert [record.ended_by.name for record in town.balanced.records] == ["CLIENT_GONE"] * 2


# Flow control, back-pressure.


def test_what_a_client_does_not_take_is_not_read_from_the_backend():
    body = bytes(4_000_000)
    town = Http2Town([response(body)])
    client = town.client(stingy=True)
    answer = client.ask()
    assert len(answer.body) == 65_535
    (connection,) = town.connections
    assert connection._kept < 400_000
    client.h2.increment_flow_control_window(1_000_000)
    client.h2.increment_flow_control_window(1_000_000, 1)
    client.flush()
    assert len(answer.body) == 1_065_535
    client.h2.increment_flow_control_window(10_000_000)
    client.h2.increment_flow_control_window(10_000_000, 1)
    client.flush()
    assert (len(answer.body), answer.ended) == (4_000_000, True)


def test_what_a_backend_does_not_take_is_not_credited():
    town = Http2Town([NEVER_ANSWER])
    client = town.client()
    stream = client.begin("POST", "/", ended=False)
    client.flush()
    town.backend.connections[0].transport.pauseProducing()
    left = client.send_body(stream, bytes(3_000_000))
    assert 1_000_000 < len(left) < 3_000_000
    town.backend.connections[0].transport.resumeProducing()
    client.flush()
    assert client.send_body(stream, left) == b""


def test_streams_take_turns_by_bytes():
    body = bytes(400_000)
    town = Http2Town([response(body)], [response(body)])
    client = town.client(stingy=True, settings={4: 400_000})
    streams = [client.begin(), client.begin()]
    client.flush()
    client.h2.increment_flow_control_window(200_000)
    client.flush()
    first, second = (len(client.answers[stream].body) for stream in streams)
    assert first + second == 265_535
    assert abs(first - second) <= 2 * 65_535


def test_who_takes_nothing_of_one_answer_loses_that_one():
    town = Http2Town([response(bytes(500_000))], [response(b"ok")], listener={"timeouts": {"client_idle_s": 5}})
    client = town.client(stingy=True)
    answer = client.ask()
    client.h2.increment_flow_control_window(100_000)
    client.flush()
    for _ in range(300):
        town.clock.advance(0.5)
        client.flush()
    assert answer.reset == 8
    assert town.balanced.records[0].detail == "it does not take its answer"


# Early answers linger.


def test_the_rest_of_a_request_that_was_answered_early_is_thrown_away_and_then_reset():
    town = Http2Town(response(b"enough", 413), early=True)
    client = town.client()
    stream = client.begin("POST", "/", ("content-length", "1000000"), ended=False)
    client.flush()
    answer = client.answers[stream]
    assert (answer.status, answer.body, answer.ended, answer.reset) == (413, b"enough", True, None)
    left = client.send_body(stream, bytes(200_000), ended=False)
    assert (left, answer.reset) == (b"", None)
    town.clock.advance(2.5)
    client.flush()
    assert answer.reset == 0
    assert client.ask().status == 200


# Ends of connections.


def test_a_drain_says_goaway_twice_and_loses_no_request():
    town = Http2Town([Wait(2.0), response(b"late")], [response(b"on its way")])
    client = town.client()
    client.begin()
    client.flush()
    town.frontend.draining = True
    town.frontend.drain()
    client.flush()
    assert client.went == [(2**31 - 1, 0, b"")]
    client.begin()  # it was on its way
    client.flush()
    assert (client.answers[3].body, client.answers[3].ended) == (b"on its way", True)
    town.clock.advance(1.0)
    client.flush()
    assert client.went[1:] == [(3, 0, b"")]
    town.clock.advance(5.0)
    client.flush()
    assert (client.answers[1].body, client.answers[1].ended) == (b"late", True)
    assert not town.frontend.clients


def test_who_asks_nothing_is_let_go_in_order():
    town = Http2Town()
    client = town.client()
    assert client.ask().ended
    town.clock.advance(600)
    client.flush()
    assert client.went[-1][:2] == (1, 0)
    assert client.scripted.lost or client.scripted.ended


def test_a_request_too_many_is_the_last_one():
    town = Http2Town(listener={"client_requests": 3})
    client = town.client()
    for _ in range(5):
        if not client.went:
            assert client.ask().ended
    assert client.ask().ended  # it was on its way
    town.clock.advance(3)
    client.flush()
    assert client.went[0] == (2**31 - 1, 0, b"")
    assert client.went[-1][1] == 0
    assert not town.frontend.clients


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"\0\0\x05\x06\0\0\0\0\0hello", 6),
        (b"\0\0\0\0\1\0\0\0\5", 1),
        (b"\0\0\0\0\1\0\0\0\1", 5),
        (b"\0\0\x04\x08\0\0\0\0\0\x7f\xff\xff\xff", 3),
        (b"\0\0\1\1\5\0\0\0\3\x80", 9),
        (b"\0\0\1\1\5\0\0\0\2\x82", 1),
        (b"\0\0\4\3\0\0\0\0\7\0\0\0\0", 1),
    ],
)
def test_who_breaks_the_protocol_is_told_how(data, code):
    town = Http2Town()
    client = town.client()
    assert client.ask().ended
    client.raw(data)
    assert (client.went[-1][0], client.went[-1][1]) in {(1, code), (3, code)}
    assert client.went[-1][2]
    town.clock.advance(3)
    assert not town.frontend.clients


def test_rapid_resets_are_the_end():
    town = Http2Town(*[[NEVER_ANSWER]] * 400)
    client = town.client()
    for _ in range(300):
        stream = client.begin()
        client.flush()
        if client.went:
            break
        client.h2.reset_stream(stream, 8)
    assert client.went[-1][1] == 11
    assert town.frontend.exchanges == 0


def test_connections_streams_and_resets_are_counted():
    town = Http2Town([response(b"a")], [NEVER_ANSWER])
    client = town.client()
    client.ask("GET", "/")
    stream = client.begin("GET", "/never")
    client.flush()
    counts = town.frontend.http2_counts
    assert (counts.connections, counts.connections_total, counts.streams, counts.streams_total) == (1, 1, 1, 2)
    client.h2.reset_stream(stream, 8)
    client.flush()
    assert (counts.streams, counts.resets) == (0, {("client", "CANCEL"): 1})
    client.scripted.close()
    town.clock.advance(1.0)
    assert (counts.connections, counts.connections_total, counts.ended) == (0, 1, {})


def data_of(client, stream=1):
    """The frames of an answer, as (bytes, whether it is the end)."""
    return [
        (len(payload), bool(flags & END_STREAM))
        for kind, flags, number, payload in client.heard
        if (kind, number) == (DATA, stream)
    ]


def test_an_answer_that_is_here_ends_with_its_last_frame():
    town = Http2Town([response(b"hello")], [response(b"x" * 40_000)], [response(b"")])
    client = town.raw()
    client.send(request(1))
    client.send(request(3))
    client.send(request(5))
    client.take()
    assert data_of(client) == [(5, True)]
    assert data_of(client, 3) == [(16_384, False), (16_384, False), (7_232, True)]
    assert data_of(client, 5) == []


def test_the_end_that_comes_later_is_an_empty_frame():
    town = Http2Town([b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n", Wait(1.0), b"0\r\n\r\n"])
    client = town.raw()
    client.send(request(1))
    assert data_of(client) == [(5, False)]
    town.clock.advance(1.0)
    client.take()
    assert data_of(client) == [(5, False), (0, True)]


def test_trailers_are_the_end_and_no_frame_before_them():
    chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nX-T: y\r\n\r\n"
    town = Http2Town([chunked])
    client = town.raw()
    client.send(request(1))
    assert data_of(client) == [(5, False)]
    assert [flags & END_STREAM for kind, flags, *_ in client.heard if kind == HEADERS] == [0, END_STREAM]


def test_answers_of_one_batch_each_end_with_their_own_frame():
    town = Http2Town(*([[response(b"%d" % number * 3)] for number in range(4)]))
    client = town.raw()
    client.send(*(request(number) for number in (1, 3, 5, 7)))
    client.take()
    assert [data_of(client, number) for number in (1, 3, 5, 7)] == [[(3, True)]] * 4


# HTTP/2 on both sides.


def both(*script, **options):
    pool = {"backends": ["c:80"], "protocol": "h2", "health_check": {"interval_s": 0}, **options}
    town = Http2Town(pools={"default": pool})
    return town, Http2Backend(town.network, "c:80", script)


@pytest.mark.parametrize("method", ["HEAD", "GET"])
def test_an_answer_whose_end_was_told_is_not_reset_behind_it(method):
    """Of a HEAD the head is all of it, whatever becomes of its stream at the backend."""

    def die(asked):
        asked.head(304 if method == "GET" else 200, ("etag", '"x"'))
        asked.connection.transport.abortConnection()

    town, _ = both(die)
    client = town.client()
    answer = client.ask(method)
    town.clock.advance(3)
    client.flush()
    assert (answer.ended, answer.reset) == (True, None)
    assert town.frontend.exchanges == 0
    assert not town.connections[0]._streams


def test_a_reset_of_the_client_reaches_a_backend_of_http_2():
    town, backend = both(lambda asked: None)
    client = town.client()
    stream = client.begin()
    client.flush()
    client.h2.reset_stream(stream, 8)
    client.flush()
    (request,) = backend.requests
    assert (request.reset, town.frontend.exchanges) == (8, 0)
    assert backend.connection.open


@pytest.mark.parametrize("size", [0, 100])
def test_a_client_with_a_smaller_table_is_told_that_we_go_by_it(size):
    """RFC 9113 4.3.1: with the next field block, and not again; else nghttp2 and h2 end the connection."""
    town = Http2Town([response(b"a")], [response(b"b")])
    client = town.raw(settings=(1 << 32 | size).to_bytes(6, "big"))
    client.send(request(1))
    client.send(request(3))
    (first,), (second,) = client.of(HEADERS, 1), client.of(HEADERS, 3)
    assert (first[0], first[1:]) == (0x20, second)


def test_an_answer_without_a_body_ends_with_its_head():
    town = Http2Town([response(b"", 204)])
    client = town.raw()
    client.send(request(1))
    assert [(kind, flags & END_STREAM) for kind, flags, stream, _ in client.heard if stream == 1] == [
        (HEADERS, END_STREAM)
    ]
    assert not client.of(DATA)


def an_http2_backend(answer):
    """A town whose only backend speaks HTTP/2, and answers so."""
    pool = {"backends": ["h:80"], "protocol": "h2", "health_check": {"interval_s": 0}}
    town = Http2Town(pools={"default": pool})
    return town, Http2Backend(town.network, "h:80", [answer])


def test_trailers_follow_an_answer_without_a_body():
    """The length alone is no end."""
    town, _ = an_http2_backend(lambda asked: asked.head(200, ("content-length", "0")).trail(("x-sum", "1")))
    answer = town.client().ask()
    assert (answer.status, answer.trailers, answer.ended) == (200, {"x-sum": "1"}, True)


def test_an_answer_without_a_body_is_heard_before_its_end_and_cut_visibly():
    town, backend = an_http2_backend(lambda asked: asked.head(200, ("content-length", "0")))
    client = town.client()
    answer = client.ask()
    assert (answer.status, answer.ended, answer.reset) == (200, False, None)
    backend.connection.transport.abortConnection()
    client.flush()
    assert (answer.ended, answer.reset) == (False, 2)


def test_a_request_that_ends_while_it_waits_for_memory_begins_when_there_is_some():
    """Request buffering: its client has said everything by then."""
    pool = {"backends": ["b:80"], "health_check": {"interval_s": 0}, "queue": {"timeout_s": 3.0}}
    pools = {"default": {**pool, "buffer_request_bytes": 4096}}
    town = Http2Town([response(b"a")], [response(b"b")], pools=pools, limits={"memory_bytes": 5000})
    client = town.client()
    first, second = client.begin("PUT", "/1", ended=False), client.begin("PUT", "/2", ended=False)
    client.flush()
    client.h2.send_data(second, b"", end_stream=True)
    client.flush()
    assert not town.requests
    client.h2.send_data(first, b"", end_stream=True)
    client.flush()
    assert [client.answers[one].body for one in (first, second)] == [b"a", b"b"]


def test_each_head_has_its_time_also_where_the_next_one_has_begun():
    town = Http2Town([response(b"a")], [response(b"b")], [response(b"c")], listener={"timeouts": {"head_s": 3.0}})
    client = town.raw()
    heads = [request(1), request(3), request(5)]
    client.send(heads[0][:12])
    for at in range(2):
        town.clock.advance(2.0)
        client.send(heads[at][12:], heads[at + 1][:12])
    assert client.goaway is None
    assert len(client.of(HEADERS)) == 2
    town.clock.advance(3.5)  # the last one has no end
    client.take()
    assert client.goaway == (1, "no complete head in time")
