"""Attacks on HTTP/2, by the names under which they are known: each one is shown, and what it costs is bounded."""

from itertools import pairwise

import pytest
from http2_client import Http2Town, block_of, frame, request
from twisted.logger import LogLevel, globalLogPublisher

from twisted_lb.testing import CLOSE, NEVER_ANSWER, Wait, response
from twisted_lb.wire.http2.errors import (
    CANCEL,
    COMPRESSION_ERROR,
    ENHANCE_YOUR_CALM,
    FLOW_CONTROL_ERROR,
    PROTOCOL_ERROR,
    REFUSED_STREAM,
)
from twisted_lb.wire.http2.frames import (
    ACK,
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    GOAWAY,
    HEADERS,
    INITIAL_WINDOW_SIZE,
    PADDED,
    PING,
    PRIORITY,
    RST_STREAM,
    SETTINGS,
    WINDOW_UPDATE,
)

ENOUGH = 10_000


@pytest.fixture
def warnings():
    """What was said to operators."""
    said = []

    def hear(event):
        if event.get("log_level") is LogLevel.warn and event.get("log_namespace") == "twisted_lb.net.http2":
            said.append(event["log_format"].format(**event))

    globalLogPublisher.addObserver(hear)
    yield said
    globalLogPublisher.removeObserver(hear)


def flood(client, *frames, most=ENOUGH, at_once=50):
    """Send the same again and again, until the other side has enough of it; how often that was."""
    for sent in range(0, most, at_once):
        client.send(*frames * at_once)
        if client.goaway is not None and client.goaway[0]:
            return sent + at_once
    return most


def opened(size):
    return size.to_bytes(4, "big")


def window(name, value):
    return name.to_bytes(2, "big") + value.to_bytes(4, "big")


def never(count=400):
    return [[NEVER_ANSWER]] * count


def over(town, client):
    """The connection is closed, and nothing is left of it."""
    town.clock.advance(3)
    client.take()
    assert not client.open
    assert (len(town.frontend.clients), town.frontend.exchanges, town.frontend.gate.open) == (0, 0, 0)
    return True


# Resets.


def test_rapid_reset_is_the_end_after_two_hundred_and_a_backend_hears_little_of_it(warnings):
    town = Http2Town(*never(1000))
    client = town.raw()
    stream = 1
    while client.goaway is None and stream < 2 * ENOUGH:
        client.send(request(stream), frame(RST_STREAM, 0, stream, opened(CANCEL)))
        stream += 2
    assert client.goaway == (ENHANCE_YOUR_CALM, "more resets than requests")
    assert stream // 2 == 200
    assert len(town.requests) == 0, "what was taken back before it began is never sent"
    assert warnings == [
        "HTTP/2 with 127.0.0.1 ends, listener default: ENHANCE_YOUR_CALM, more resets than requests",
    ]
    assert over(town, client)


def test_rapid_reset_of_requests_that_are_under_way_is_the_end_too():
    town = Http2Town(*never(1000))
    client = town.raw()
    stream = 1
    while client.goaway is None and stream < 2 * ENOUGH:
        client.send(request(stream))
        client.send(frame(RST_STREAM, 0, stream, opened(CANCEL)))
        assert town.frontend.exchanges == 0
        stream += 2
    assert client.goaway[0] == ENHANCE_YOUR_CALM
    assert len(town.requests) == 200
    assert not any(connection.open for connection in town.backend.connections)
    assert over(town, client)


def test_many_that_do_the_same_are_said_once_a_second_and_counted(warnings):
    town = Http2Town()
    for _ in range(5):
        flood(town.raw(), frame(SETTINGS, 0, 0))
    town.clock.advance(1.5)
    flood(town.raw(), frame(SETTINGS, 0, 0))
    assert [line.rpartition(", ")[2] for line in warnings] == [
        "more settings than requests",
        "more settings than requests (and 4 more before)",
    ]


def test_a_page_that_is_left_again_and_again_is_no_attack():
    town = Http2Town(*never(2000))
    client = town.raw()
    for page in range(20):
        streams = range(page * 200 + 1, page * 200 + 200, 2)
        client.send(*(request(stream) for stream in streams))
        client.send(*(frame(RST_STREAM, 0, stream, opened(CANCEL)) for stream in streams))
        town.clock.advance(20)
    client.take()
    assert client.goaway is None


ON_A_STREAM = {
    "window of 0": frame(WINDOW_UPDATE, 0, 1, opened(0)),
    "window too large": frame(WINDOW_UPDATE, 0, 1, opened(0x7FFFFFFF)),
    "depends on itself": frame(PRIORITY, 0, 1, opened(1) + b"\x10"),
    "longer than was said": frame(DATA, 0, 1, b"longer"),
    "shorter than was said": frame(DATA, END_STREAM, 1, b""),
    "trailers that are none": frame(HEADERS, END_HEADERS | END_STREAM, 1, b"\x82"),
}


@pytest.mark.parametrize("how", ON_A_STREAM)
def test_who_makes_us_reset_its_streams_pays_for_each(how):
    """MadeYouReset (CVE-2025-8671): requests that begin, and frames that are an error of their stream."""
    town = Http2Town(*never(1000))
    client = town.raw()
    for stream in range(1, 2 * ENOUGH, 2):
        client.send(request(stream, ("content-length", "5"), method="POST", ended=False))
        assert town.frontend.exchanges <= 1
        bad = bytearray(ON_A_STREAM[how])
        bad[5:9] = opened(stream)
        if how == "depends on itself":
            bad[9:13] = opened(stream)
        client.send(bytes(bad))
        assert town.frontend.exchanges == 0
        if client.goaway is not None:
            break
    assert client.goaway[0] == ENHANCE_YOUR_CALM
    assert "reset" in client.goaway[1] or how == "depends on itself"
    assert len(client.resets()) == (133 if how == "depends on itself" else 200)
    assert len(town.requests) <= 200
    assert over(town, client)


def test_heads_that_are_malformed_are_reset_and_paid_for():
    town = Http2Town()
    client = town.raw()
    bad = block_of() + b"\x00\x0aconnection\x05close"
    for stream in range(1, 2 * ENOUGH, 2):
        client.send(frame(HEADERS, END_HEADERS | END_STREAM, stream, bad))
        if client.goaway is not None:
            break
    assert client.goaway == (ENHANCE_YOUR_CALM, "streams that had to be reset (PROTOCOL_ERROR)")
    assert set(client.resets().values()) == {PROTOCOL_ERROR}
    assert len(client.resets()) == 200


def test_streams_above_the_bound_are_refused_and_paid_for():
    town = Http2Town(*never(1000))
    client = town.raw()
    client.send(*(request(stream) for stream in range(1, 257, 2)))
    assert town.frontend.exchanges == 128
    client.send(request(257))
    assert client.resets() == {257: REFUSED_STREAM}
    for stream in range(259, 2 * ENOUGH, 2):
        client.send(request(stream))
        if client.goaway is not None:
            break
    assert client.goaway == (ENHANCE_YOUR_CALM, "more streams than it may have")
    assert len(client.resets()) == 399
    assert len(town.requests) == 128
    assert over(town, client)


def test_streams_behind_the_last_one_are_refused_and_paid_for():
    town = Http2Town([Wait(30.0), response()])
    client = town.raw()
    client.send(request(1))
    town.frontend.draining = True
    town.frontend.drain()
    town.clock.advance(1)
    client.take()
    stream = 3
    while client.goaway[0] == 0 and stream < 2 * ENOUGH:
        client.send(request(stream))
        stream += 2
    assert client.goaway == (ENHANCE_YOUR_CALM, "streams behind a GOAWAY")
    assert 390 < len(client.resets()) < 420


def test_what_backends_still_work_on_counts_as_streams_that_run():
    """Rapid reset, where places at backends are held for what their clients have left (`abandoned_s`)."""
    pool = {"backends": ["b:80"], "max_in_flight": 1000, "abandoned_s": 30, "health_check": {"interval_s": 0}}
    town = Http2Town(*never(1000), pools={"default": pool})
    client = town.raw()
    for stream in range(1, 257, 2):
        client.send(request(stream))
        client.send(frame(RST_STREAM, 0, stream, opened(CANCEL)))
    cluster = town.balanced.cluster
    assert (len(cluster.abandoned), town.frontend.exchanges) == (128, 0)
    client.send(request(257))
    assert client.resets() == {257: REFUSED_STREAM}
    assert len(cluster.abandoned) == 128
    town.clock.advance(31)
    client.send(request(259))
    assert (len(cluster.abandoned), town.frontend.exchanges) == (0, 1)
    town.balanced.close()


# Floods of frames.

FLOODS = {
    "SETTINGS": (frame(SETTINGS, 0, 0), "more settings than requests", 400),
    "settings that change windows": (
        frame(SETTINGS, 0, 0, window(INITIAL_WINDOW_SIZE, 1) + window(INITIAL_WINDOW_SIZE, 9)),
        "more settings than requests",
        400,
    ),
    "a frame full of settings": (
        frame(SETTINGS, 0, 0, window(INITIAL_WINDOW_SIZE, 1) * 2730),
        "more settings than requests",
        2,
    ),
    "acknowledgements": (frame(SETTINGS, ACK, 0), "more acknowledgements than settings", 402),
    "PING": (frame(PING, 0, 0, b"12345678"), "more pings than requests", 402),
    "answers to PING": (frame(PING, ACK, 0, b"12345678"), "answers to pings that nobody sent", 402),
    "PRIORITY": (frame(PRIORITY, 0, 5, opened(3) + b"\x10"), "more priorities than requests", 402),
    "PRIORITY_UPDATE": (frame(16, 0, 0, opened(5) + b"u=1"), "more unknown frames than requests", 402),
    "unknown": (frame(0xEE, 0xFF, 7, b"x" * 100), "more unknown frames than requests", 402),
    "WINDOW_UPDATE": (frame(WINDOW_UPDATE, 0, 0, opened(1)), "more windows than answers", 402),
    "resets of one that is over": (frame(RST_STREAM, 0, 1, opened(CANCEL)), "more resets than requests", 202),
    "windows of one that is over": (
        frame(WINDOW_UPDATE, 0, 1, opened(1)),
        "WINDOW_UPDATE on a stream that is closed",
        402,
    ),
    "GOAWAY": (frame(GOAWAY, 0, 0, opened(0) + opened(0)), "more than one GOAWAY", 402),
}


@pytest.mark.parametrize("what", FLOODS)
def test_a_flood_ends_after_a_few_hundred_frames_and_says_why(what, warnings):
    one, why, most = FLOODS[what]
    town = Http2Town()
    client = town.raw()
    client.send(request(1))
    heard = len(client.scripted.received)
    sent = flood(client, one, at_once=1)
    assert client.goaway == (ENHANCE_YOUR_CALM, why)
    assert most // 2 < sent <= most + 4
    assert len(client.scripted.received) - heard < 20 * most + 100
    assert warnings == [f"HTTP/2 with 127.0.0.1 ends, listener default: ENHANCE_YOUR_CALM, {why}"]
    assert over(town, client)


def test_a_whole_segment_of_a_flood_is_not_worked_off():
    town = Http2Town()
    client = town.raw()
    client.send(frame(PING, 0, 0, b"12345678") * 3000)
    assert client.goaway == (ENHANCE_YOUR_CALM, "more pings than requests")
    assert len(client.of(PING)) < 402


def test_zero_length_data_is_paid_for():
    town = Http2Town([NEVER_ANSWER])
    client = town.raw()
    client.send(request(1, method="POST", ended=False))
    assert flood(client, frame(DATA, 0, 1), at_once=1) <= 402
    assert client.goaway == (ENHANCE_YOUR_CALM, "DATA that is empty")
    assert over(town, client)


def test_zero_length_data_does_not_hide_in_padding():
    town = Http2Town([NEVER_ANSWER])
    client = town.raw()
    client.send(request(1, method="POST", ended=False))
    assert flood(client, frame(DATA, PADDED, 1, b"\0"), at_once=1) <= 402
    assert client.goaway == (ENHANCE_YOUR_CALM, "DATA that is empty")


def test_a_client_that_pings_for_each_answer_or_for_days_is_no_flood():
    town = Http2Town([response(bytes(200_000))], *never(1), timeouts={"response_head_s": 86_400})
    client = town.client()
    client.ask()
    client.begin()
    for _ in range(100):
        client.h2.ping(b"12345678")
        client.flush()
    for _ in range(5_000):
        town.clock.advance(1)
        client.h2.ping(b"12345678")
        client.flush()
    assert not client.went


# Field blocks.


@pytest.mark.parametrize("piece", [b"", b"x", b"x" * 16384])
def test_a_flood_of_continuations_ends_and_is_not_kept(piece):
    """CVE-2024-27316 and its kin; of empty ones alone no bound of bytes would stop it (CVE-2026-33871)."""
    town = Http2Town()
    client = town.raw()
    client.send(frame(HEADERS, END_STREAM, 1, b"\x82"))
    sent = flood(client, frame(CONTINUATION, 0, 1, piece), at_once=1)
    assert client.goaway == (ENHANCE_YOUR_CALM, "field block in too many parts, or too long")
    assert sent <= 9
    assert town.connections[0]._reader.held == 0
    assert over(town, client)


@pytest.mark.parametrize(
    "part",
    [
        frame(HEADERS, END_STREAM, 1, b"\x82"),
        frame(HEADERS, END_STREAM | END_HEADERS, 1, block_of())[:-1],
        frame(HEADERS, END_STREAM | END_HEADERS, 1, block_of())[:5],
    ],
)
@pytest.mark.parametrize("busy", [False, True])
def test_a_head_that_comes_slowly_has_its_time_from_its_first_byte(part, busy):
    """Slowloris: other streams do not prolong it, nor do its own bytes."""
    town = Http2Town([Wait(600.0), response()], listener={"timeouts": {"head_s": 5}})
    client = town.raw()
    if busy:
        client.send(request(3))
        part = part[:5] + opened(5) + part[9:] if len(part) >= 9 else part
    client.send(part[:4])
    town.clock.advance(3)
    client.send(part[4:])
    assert client.open
    town.clock.advance(3)
    client.take()
    assert client.goaway == (PROTOCOL_ERROR, "no complete head in time")
    assert over(town, client)


def test_who_begins_a_head_late_has_the_time_of_a_head():
    town = Http2Town(listener={"timeouts": {"head_s": 5, "client_idle_s": 10}})
    client = town.raw()
    client.send(request(1))
    town.clock.advance(9)
    whole = request(3)
    client.send(whole[:-1])
    town.clock.advance(4)
    client.send(whole[-1:])
    assert client.of(DATA, 3)
    town.clock.advance(9)
    assert client.open, "and then it may be idle again"
    town.clock.advance(3)
    client.take()
    assert client.goaway == (0, "nothing was asked for")


def test_a_header_list_is_bounded_in_bytes_however_short_it_is_on_the_wire():
    """HPACK bomb (CVE-2016-6581): a field of thousands of bytes enters the table once, and is meant by a byte each time."""
    town = Http2Town()
    client = town.raw()
    big = b"\x40\x05x-big\x7f\xa1\x1e" + b"b" * 4000
    client.send(frame(HEADERS, END_HEADERS | END_STREAM, 1, block_of() + big))
    assert client.of(DATA, 1)
    client.send(frame(HEADERS, END_HEADERS | END_STREAM, 3, block_of() + b"\xbe" * 64))
    assert client.of(HEADERS, 3)[0].find(b"431") >= 0
    assert len(town.requests) == 1
    client.send(request(5))
    assert client.of(DATA, 5), "the table is still the client's"


BIG = b"\x40\x05x-big\x7f\xa1\x1e" + b"b" * 4000
CRUMB = b"\x40\x06cookie\x03a=1"


@pytest.mark.parametrize(("field", "times", "read"), [(BIG, 16_000, 74), (CRUMB, 16_000, 1149)])
def test_of_a_bomb_no_more_is_read_than_nine_times_what_a_head_may_be(field, times, read, warnings):
    """The table is the client's no more, so that is the end of its connection; what follows would be read for nothing."""
    town = Http2Town()
    client = town.raw()
    client.send(frame(HEADERS, END_HEADERS | END_STREAM, 1, block_of() + field))
    # What no decoder passes stands where nobody comes: an index of nothing.
    client.send(
        frame(HEADERS, END_HEADERS | END_STREAM, 3, block_of() + b"\xbe" * read + b"\x80" + b"\xbe" * (times - read))
    )
    assert client.goaway == (ENHANCE_YOUR_CALM, "a head that is far too long")
    assert len(town.requests) == 1
    assert warnings == ["HTTP/2 with 127.0.0.1 ends, listener default: ENHANCE_YOUR_CALM, a head that is far too long"]
    assert over(town, client)


@pytest.mark.parametrize(("field", "times", "most"), [(BIG, 70, 22), (CRUMB, 1_000, 23)])
def test_who_sends_bombs_again_and_again_is_sent_away(field, times, most, warnings):
    """Each one costs us what it is decoded to, and its client a few bytes: what it costs is counted."""
    town = Http2Town()
    client = town.raw()
    client.send(frame(HEADERS, END_HEADERS | END_STREAM, 1, block_of() + field))
    for stream in range(3, 2 * ENOUGH, 2):
        client.send(frame(HEADERS, END_HEADERS | END_STREAM, stream, block_of() + b"\xbe" * times))
        if client.goaway is not None:
            break
    assert client.goaway == (ENHANCE_YOUR_CALM, "heads that are too long")
    answered = [one for one in client.heard if one[0] == HEADERS]
    assert len(answered) == 1 + most
    assert len(town.requests) == 1
    assert warnings == ["HTTP/2 with 127.0.0.1 ends, listener default: ENHANCE_YOUR_CALM, heads that are too long"]
    assert over(town, client)


def test_who_has_a_cookie_that_is_too_long_hears_so_each_time():
    town = Http2Town(listener={"limits": {"head_bytes": 4096}})
    client = town.raw()
    long = b"\x00\x06cookie\x7f\xa1\x1e" + b"c" * 4000
    for stream in range(1, 201, 2):  # a page with a hundred images
        client.send(frame(HEADERS, END_HEADERS | END_STREAM, stream, block_of() + long))
    assert (client.goaway, client.resets()) == (None, {})
    assert sum(b"431" in one[3] for one in client.heard if one[0] == HEADERS) == 100


def test_a_header_list_is_bounded_in_fields_and_each_crumb_of_a_cookie_is_one():
    """HTTP/2 bomb (CVE-2026-49975): of crumbs there may be thousands in a block, each a byte on the wire."""
    town = Http2Town(listener={"limits": {"head_fields": 100}})
    client = town.raw()
    crumb = b"\x40\x06cookie\x03a=1"
    client.send(frame(HEADERS, END_HEADERS | END_STREAM, 1, block_of() + crumb + b"\xbe" * 95))
    assert town.requests[0].count(b"a=1") == 96
    client.send(frame(HEADERS, END_HEADERS | END_STREAM, 3, block_of() + b"\xbe" * 97))
    assert client.of(HEADERS, 3)[0].find(b"431") >= 0
    client.send(frame(HEADERS, END_HEADERS | END_STREAM, 5, block_of() + b"\xbe" * 16_000))
    assert client.goaway == (ENHANCE_YOUR_CALM, "a head that is far too long")
    assert len(town.requests) == 1


@pytest.mark.parametrize(
    "block",
    [
        b"\xc6",  # an index behind the table
        b"\x3f\xe2\x1f",  # a table larger than was agreed
        b"\x1f\xff\xff\xff\xff\xff\xff\x00",  # an integer without end
        b"\x00\x81\xff\x00",  # padding of Huffman
        b"\x80",  # index 0
    ],
)
def test_a_block_that_cannot_be_decoded_is_the_end(block):
    town = Http2Town()
    client = town.raw()
    client.send(frame(HEADERS, END_HEADERS | END_STREAM, 1, block))
    assert client.goaway[0] == COMPRESSION_ERROR
    assert over(town, client)


# What a client can make us hold.


def test_who_never_opens_its_windows_holds_little_and_not_for_long():
    """Window stalls, internal buffering (CVE-2019-9517): the answers wait in the backends' sockets."""
    body = bytes(1_000_000)
    town = Http2Town(*[[response(body)]] * 128, listener={"timeouts": {"response_idle_s": 10}})
    client = town.raw(settings=window(INITIAL_WINDOW_SIZE, 0))
    client.send(*(request(stream) for stream in range(1, 257, 2)))
    connection = town.connections[0]
    assert town.frontend.exchanges == 128
    assert client.of(DATA) == []
    # Once much is held of all together, of each stream no more than what was read at once.
    assert connection._kept < 524_288 + 128 * 65_536
    for _ in range(11):
        town.clock.advance(1)
    client.take()
    assert set(client.resets().values()) == {CANCEL}
    assert (len(client.resets()), town.frontend.exchanges, connection._kept) == (128, 0, 0)
    assert {record.detail for record in town.balanced.records} == {"it does not take its answer"}
    assert client.open, "the connection itself has done nothing wrong"


def test_a_window_that_is_opened_byte_by_byte_is_paid_for():
    """Data dribble (CVE-2019-9511)."""
    town = Http2Town([response(bytes(100_000))])
    client = town.raw(settings=window(INITIAL_WINDOW_SIZE, 0))
    client.send(request(1))
    sent = flood(client, frame(WINDOW_UPDATE, 0, 1, opened(1)), at_once=1)
    assert client.goaway[0] == ENHANCE_YOUR_CALM
    assert sent < 402
    assert len(client.of(DATA)) < 402
    assert over(town, client)


def test_one_slow_stream_does_not_hide_behind_others_that_are_quick():
    town = Http2Town(
        [response(bytes(100_000))], [response(bytes(4_000_000))], listener={"timeouts": {"response_idle_s": 5}}
    )
    client = town.client(stingy=True, settings={INITIAL_WINDOW_SIZE: 1000})
    slow = client.begin()
    client.flush()
    quick = client.begin()
    client.flush()
    for _ in range(20):
        client.h2.increment_flow_control_window(100_000)
        client.h2.increment_flow_control_window(100_000, quick)
        town.clock.advance(0.5)
        client.flush()
    assert client.answers[slow].reset == CANCEL
    assert client.answers[quick].reset is None


def test_a_stream_that_is_taken_slowly_and_steadily_lives():
    town = Http2Town([response(bytes(60_000))], listener={"timeouts": {"response_idle_s": 5}})
    client = town.client(stingy=True, settings={INITIAL_WINDOW_SIZE: 0})
    answer = client.answers[client.begin()]
    for _ in range(20):
        client.h2.increment_flow_control_window(3_000, 1)
        client.flush()
        town.clock.advance(4.5)
    client.flush()
    assert (len(answer.body), answer.ended, answer.reset) == (60_000, True, None)


NO_CONTENT = b"HTTP/1.1 204 No Content\r\nX-Pad: %b\r\n\r\n" % (b"p" * 40)


def test_who_does_not_read_at_all_is_not_read_from_and_cut():
    """Slow read: answers without a body take no window, and pings and settings are answered."""
    town = Http2Town(*[[NO_CONTENT]] * 20_000, listener={"timeouts": {"response_idle_s": 10}})
    client = town.raw()
    client.scripted.stop_reading()
    for stream in range(1, 40_000, 100):
        client.send(*(request(number, ("x", "y" * 50)) for number in range(stream, stream + 100, 2)))
    connection = town.connections[0]
    transport = connection._connection.transport._transport
    assert connection._connection.full
    assert transport.unsent < 65_536 * 3
    assert connection.requests < 4_000, "it has asked five times as much"
    asked = client.scripted.transport.unsent
    client.send(frame(PING, 0, 0, b"12345678") * 10)
    assert client.scripted.transport.unsent == asked + 170, "nothing is taken from it"
    town.clock.advance(11)
    assert (len(town.frontend.clients), town.frontend.exchanges) == (0, 0)


def test_who_reads_again_in_time_gets_all_of_it():
    own = {"path": "/", "answer": {"status": 204}}
    town = Http2Town(routes=[own], listener={"timeouts": {"response_idle_s": 10}})
    client = town.raw()
    client.scripted.stop_reading()
    streams = range(1, 16_001, 2)
    for at in range(0, len(streams), 50):
        client.send(*(request(stream) for stream in streams[at : at + 50]))
    assert town.connections[0]._deaf
    town.clock.advance(5)
    client.scripted.go_on_reading()
    client.take()
    assert [one[2] for one in client.heard if one[0] == HEADERS and one[1] & END_STREAM] == list(streams)
    assert (client.resets(), client.goaway) == ({}, None)


def test_answers_that_are_not_read_keep_their_streams_open():
    town = Http2Town(listener={"timeouts": {"response_idle_s": 10}})
    client = town.raw()
    client.scripted.stop_reading()
    for stream in range(1, 40_000, 100):
        client.send(*(request(number) for number in range(stream, stream + 100, 2)))
    client.scripted.go_on_reading()
    client.take()
    assert client.goaway == (ENHANCE_YOUR_CALM, "more streams than it may have")
    assert town.connections[0].requests < 4_000


def test_a_full_connection_is_not_kept_by_a_request_that_comes_late():
    town = Http2Town(
        [response(bytes(200_000))], [Wait(600.0), response()], listener={"timeouts": {"response_idle_s": 10}}
    )
    client = town.raw(settings=window(INITIAL_WINDOW_SIZE, 1_000_000))
    client.send(frame(WINDOW_UPDATE, 0, 0, opened(1_000_000)))
    client.scripted.stop_reading()
    client.send(request(1))
    assert town.connections[0]._connection.full
    town.clock.advance(8)
    client.send(request(3))
    town.clock.advance(4)
    assert not town.frontend.clients


def test_bytes_one_by_one_are_put_together():
    """A body in frames of a byte each: what is held of it takes no object a byte, and its backend gets it in few pieces."""
    town = Http2Town([NEVER_ANSWER])
    client = town.raw()
    client.send(request(1, method="POST", ended=False))
    town.backend.connections[0].transport.pauseProducing()
    client.send(*[frame(DATA, 0, 1, b"xy")] * 1000)
    received = town.connections[0]._streams[1].exchange.request_bytes
    assert received == 2000
    pieces = town.connections[0]._streams[1].exchange._replay.pieces
    assert len(pieces) < 20
    client.send(frame(DATA, END_STREAM, 1, b"z"))
    town.backend.connections[0].transport.resumeProducing()
    client.take()
    assert town.requests[0].count(b"xy") >= 990


def test_what_is_held_of_a_paused_body_is_a_window_and_few_objects():
    town = Http2Town([NEVER_ANSWER])
    town.network.hang("b:80")
    client = town.raw()
    client.send(request(1, method="POST", ended=False))
    for _ in range(130):
        client.send(*[frame(DATA, 0, 1, b"xy")] * 500)
    stream = town.connections[0]._streams[1]
    assert stream.exchange.request_bytes < 70_000
    assert sum(map(len, stream._held)) <= 65_536
    assert len(stream._held) < 70
    client.send(*[frame(DATA, 0, 1, b"x" * 16_000)] * 5)
    assert client.resets() == {1: FLOW_CONTROL_ERROR}


def test_more_than_the_window_of_the_connection_is_the_end():
    town = Http2Town(*never(128))
    client = town.raw()
    connection = town.connections[0]
    connection._room = 20_000  # what it may send was 1 MiB
    client.send(request(1, method="POST", ended=False))
    client.send(frame(DATA, 0, 1, bytes(16_000)), frame(DATA, 0, 1, bytes(5_000)))
    assert client.goaway == (FLOW_CONTROL_ERROR, "more than the window of the connection takes")


def test_thousands_of_requests_in_one_segment_are_answered_by_turns():
    """Fairness: a request that gets a local reply takes a few bytes on the wire, and others wait while it is answered."""
    town = Http2Town(routes=[{"path": "/", "answer": {"status": 204}}])
    client = town.raw()
    connection = town.connections[0]
    client.scripted.send(b"".join(request(stream) for stream in range(1, 2_001, 2)))
    steps = [0]
    while steps[-1] < 1000:
        town.clock.run_until(lambda: connection.requests > steps[-1])
        steps.append(connection.requests)
    client.take()
    assert [one[2] for one in client.heard if one[0] == HEADERS] == list(range(1, 2_001, 2))
    assert max(after - before for before, after in pairwise(steps)) == 128


# Streams that are opened and never ended.


def test_a_body_that_never_comes_has_its_time():
    town = Http2Town(*never(), listener={"timeouts": {"body_idle_s": 5}})
    client = town.raw()
    client.send(*(request(stream, method="POST", ended=False) for stream in range(1, 257, 2)))
    assert town.frontend.exchanges == 128
    town.clock.advance(6)
    client.take()
    assert town.frontend.exchanges == 0
    assert {record.status for record in town.balanced.records} == {408}
    assert client.of(HEADERS, 1)[0].find(b"408") >= 0
    town.clock.advance(3)
    client.take()
    assert len(client.resets()) == 128
    assert client.open


def test_a_body_that_drips_is_too_slow():
    town = Http2Town(*never(), listener={"timeouts": {"body_idle_s": 5}, "limits": {"client_bytes_per_s": 100}})
    client = town.raw()
    client.send(request(1, method="POST", ended=False))
    for _ in range(20):
        client.send(frame(DATA, 0, 1, b"x" * 10))
        town.clock.advance(1)
    client.take()
    assert [record.status for record in town.balanced.records] == [408]


def test_a_large_frame_that_comes_slowly_is_a_body_that_moves():
    town = Http2Town([NEVER_ANSWER], listener={"timeouts": {"body_idle_s": 5}, "limits": {"client_bytes_per_s": 100}})
    client = town.raw()
    client.send(request(1, method="POST", ended=False))
    large = frame(DATA, 0, 1, bytes(16_000))
    for at in range(0, len(large), 500):
        client.send(large[at : at + 500])
        town.clock.advance(1)
    assert town.frontend.exchanges == 1
    assert town.connections[0]._streams[1].exchange.request_bytes == 16_000


def test_while_an_answer_goes_on_its_request_may_rest_and_no_longer():
    ticks = [step for _ in range(10) for step in (b"1\r\nx\r\n", Wait(4.0))]
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    town = Http2Town([head, *ticks, NEVER_ANSWER], early=True, listener={"timeouts": {"body_idle_s": 5}})
    client = town.raw()
    client.send(request(1, method="POST", ended=False))
    town.clock.advance(38)
    client.take()
    assert (len(client.of(DATA, 1)), client.resets()) == (10, {})
    town.clock.advance(12)
    client.take()
    assert client.resets() == {1: CANCEL}
    assert [record.ended_by.name for record in town.balanced.records] == ["CLIENT_FAULT"], "its backend is not to blame"


def test_a_backend_that_closes_leaves_no_stream_behind():
    town = Http2Town(*[[b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello", CLOSE]] * 300)
    client = town.raw()
    for stream in range(1, 601, 2):
        client.send(request(stream))
    assert client.goaway is None, "that is not the client's doing"
    assert len(client.resets()) == 300
    assert not town.connections[0]._streams
