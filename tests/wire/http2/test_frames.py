"""Frames: what is told of those of another implementation, however their bytes are cut, and what ends the connection."""

import pytest
from hyperframe import frame as theirs
from hypothesis import given
from hypothesis import strategies as st

from twisted_lb.wire.http2 import frames
from twisted_lb.wire.http2.errors import (
    ENHANCE_YOUR_CALM,
    FLOW_CONTROL_ERROR,
    FRAME_SIZE_ERROR,
    PROTOCOL_ERROR,
    Http2Error,
    error_name,
)
from twisted_lb.wire.http2.frames import (
    BLOCK_BYTES,
    PREFACE,
    SETTINGS_ACK,
    FrameReader,
    FrameReceiver,
    frame_head,
    goaway,
    headers_frames,
    ping,
    reset_frame,
    settings_frame,
    window_update,
)

EMPTY_SETTINGS = frame_head(0, frames.SETTINGS, 0, 0)


class Told(FrameReceiver):
    """What was told, in its order."""

    def __init__(self) -> None:
        self.said = []

    def block_received(self, stream, block, *, ended):
        self.said.append(("block", stream, block, ended))

    def data_received(self, stream, data, size, *, ended):
        self.said.append(("data", stream, data, size, ended))

    def reset_received(self, stream, code):
        self.said.append(("reset", stream, code))

    def settings_received(self, settings):
        self.said.append(("settings", settings))

    def settings_acknowledged(self):
        self.said.append(("acknowledged",))

    def ping_received(self, payload, *, ack):
        self.said.append(("ping", payload, ack))

    def goaway_received(self, last, code, reason):
        self.said.append(("goaway", last, code, reason))

    def window_opened(self, stream, more):
        self.said.append(("window", stream, more))

    def priority_received(self, stream, fault):
        self.said.append(("priority", stream, fault))

    def unknown_received(self, kind):
        self.said.append(("unknown", kind))


def told(data: bytes, *, of_client: bool = True, sizes: list[int] | None = None) -> list[tuple]:
    """What is told of bytes behind a preface and SETTINGS, in pieces of these sizes, by turns."""
    receiver, reader = Told(), FrameReader(of_client=of_client)
    data = (PREFACE if of_client else b"") + EMPTY_SETTINGS + data
    at = turn = 0
    while at < len(data):
        size = sizes[turn % len(sizes)] if sizes else len(data)
        reader.feed(data[at : at + size], receiver)
        at += size
        turn += 1
    assert receiver.said.pop(0) == ("settings", [])
    assert reader.held == 0
    return receiver.said


def refused(data: bytes, *, of_client: bool = True) -> int:
    """The error that ends the connection."""
    with pytest.raises(Http2Error) as caught:
        told(data, of_client=of_client)
    assert caught.value.reason == str(caught.value)
    return caught.value.code


streams = st.integers(1, 2**31 - 1)
padding = st.integers(0, 255)
payloads = st.binary(max_size=300)


@st.composite
def frame_of_theirs(draw):
    """(a frame of another implementation, what is to be told of it)."""
    stream, kind = draw(streams), draw(st.integers(0, 8))
    match kind:
        case 0:
            frame = theirs.DataFrame(
                stream, draw(payloads), flags=draw(st.sets(st.sampled_from(["END_STREAM", "PADDED"])))
            )
            frame.pad_length = draw(padding) if "PADDED" in frame.flags else 0
            size = len(frame.data) + (frame.pad_length + 1 if "PADDED" in frame.flags else 0)
            return frame, ("data", stream, frame.data, size, "END_STREAM" in frame.flags)
        case 1:
            flags = draw(st.sets(st.sampled_from(["END_STREAM", "PADDED", "PRIORITY"])))
            frame = theirs.HeadersFrame(stream, draw(payloads), flags=flags | {"END_HEADERS"})
            frame.pad_length = draw(padding) if "PADDED" in flags else 0
            frame.depends_on = draw(streams.filter(lambda other: other != stream))
            return frame, ("block", stream, frame.data, "END_STREAM" in flags)
        case 2:
            frame = theirs.RstStreamFrame(stream, draw(st.integers(0, 2**32 - 1)))
            return frame, ("reset", stream, frame.error_code)
        case 3:
            values = draw(st.dictionaries(st.sampled_from([1, 3, 6, 8, 9, 77]), st.integers(0, 1)))
            return theirs.SettingsFrame(0, values), ("settings", list(values.items()))
        case 4:
            frame = theirs.PingFrame(0, draw(st.binary(min_size=8, max_size=8)), flags=draw(st.sets(st.just("ACK"))))
            return frame, ("ping", frame.opaque_data, "ACK" in frame.flags)
        case 5:
            frame = theirs.GoAwayFrame(0, draw(streams), draw(st.integers(0, 2**32 - 1)), draw(payloads))
            return frame, ("goaway", frame.last_stream_id, frame.error_code, frame.additional_data)
        case 6:
            frame = theirs.WindowUpdateFrame(draw(st.sampled_from([0, stream])), draw(streams))
            return frame, ("window", frame.stream_id, frame.window_increment)
        case 7:
            frame = theirs.PriorityFrame(stream, draw(streams.filter(lambda other: other != stream)))
            return frame, ("priority", stream, "")
        case _:
            frame = theirs.ExtensionFrame(type=draw(st.integers(10, 255)), stream_id=stream, body=draw(payloads))
            frame.body_len = len(frame.body)
            return frame, ("unknown", frame.type)


@given(st.lists(frame_of_theirs(), max_size=12), st.lists(st.integers(1, 400), min_size=1, max_size=5))
def test_frames_of_another_implementation_are_told_however_they_are_cut(made, sizes):
    data = b"".join(frame.serialize() for frame, _ in made)
    assert told(data, sizes=sizes) == [expected for _, expected in made]


def long_data(stream: int, size: int, flags: int = 0) -> bytes:
    """DATA of that size, each byte of which is another than its neighbours."""
    return frame_head(size, frames.DATA, flags, stream) + (bytes(range(251)) * (size // 251 + 1))[:size]


@given(
    st.lists(st.tuples(st.integers(1, 5), st.integers(0, 16_384)), min_size=1, max_size=8),
    st.lists(st.integers(1, 40_000), min_size=1, max_size=5),
)
def test_long_frames_are_told_however_they_are_cut(made, sizes):
    data = b"".join(long_data(stream, size) for stream, size in made)
    expected = [("data", stream, long_data(stream, size)[9:], size, False) for stream, size in made]
    assert told(data, sizes=sizes) == expected


@pytest.mark.parametrize("cut", [1, 9, 10, 16_000])
def test_who_holds_within_a_frame_that_was_cut_is_told_the_rest_later(cut):
    class Holding(Told):
        def data_received(self, stream, data, size, *, ended):
            super().data_received(stream, data, size, ended=ended)
            reader.hold()

    receiver, reader = Holding(), FrameReader(of_client=True)
    data = long_data(1, 16_384) + long_data(3, 5_000) + long_data(5, 6_000)
    reader.feed(PREFACE + EMPTY_SETTINGS + data[:cut], receiver)
    reader.feed(data[cut:], receiver)
    assert [one[1] for one in receiver.said[1:]] == [1]
    assert reader.held == 11_018
    reader.go_on(receiver)
    reader.go_on(receiver)
    assert [one[1:4:2] for one in receiver.said[1:]] == [(1, 16_384), (3, 5_000), (5, 6_000)]


def test_a_frame_that_is_too_large_ends_the_connection_also_where_it_was_cut():
    reader = FrameReader(of_client=True)
    data = long_data(1, 16_385)
    reader.feed(PREFACE + EMPTY_SETTINGS + data[:5], Told())
    with pytest.raises(Http2Error) as caught:
        reader.feed(data[5:10_000], Told())
    assert caught.value.code == FRAME_SIZE_ERROR


@given(st.integers(1, 2**31 - 1), st.binary(max_size=60_000), st.booleans())
def test_a_field_block_of_ours_is_read_by_ours_and_by_another_implementation(stream, block, ended):
    data = b"".join(headers_frames(stream, block, ended=ended))
    assert told(data) == [("block", stream, block, ended)]
    parts, at = [], 0
    while at < len(data):
        frame, length = theirs.Frame.parse_frame_header(memoryview(data[at : at + 9]))
        frame.parse_body(memoryview(data[at + 9 : at + 9 + length]))
        parts.append(frame)
        at += 9 + length
    assert b"".join(part.data for part in parts) == block
    assert ["END_HEADERS" in part.flags for part in parts] == [False] * (len(parts) - 1) + [True]
    assert ("END_STREAM" in parts[0].flags) is ended


@pytest.mark.parametrize(
    ("ours", "other"),
    [
        (settings_frame({3: 128, 4: 65536}), theirs.SettingsFrame(0, {3: 128, 4: 65536})),
        (SETTINGS_ACK, theirs.SettingsFrame(0, flags=["ACK"])),
        (window_update(5, 1000), theirs.WindowUpdateFrame(5, 1000)),
        (reset_frame(7, 8), theirs.RstStreamFrame(7, 8)),
        (goaway(2**31 - 1, 0), theirs.GoAwayFrame(0, 2**31 - 1, 0)),
        (goaway(9, 11, b"calm"), theirs.GoAwayFrame(0, 9, 11, b"calm")),
        (ping(b"12345678"), theirs.PingFrame(0, b"12345678")),
        (ping(b"12345678", ack=True), theirs.PingFrame(0, b"12345678", flags=["ACK"])),
    ],
)
def test_what_we_send_is_what_another_implementation_would_send(ours, other):
    assert ours == other.serialize()


# Beginnings.


@pytest.mark.parametrize("at", range(1, len(PREFACE)))
def test_a_preface_may_come_in_pieces_and_its_neighbour_is_none(at):
    receiver, reader = Told(), FrameReader(of_client=True)
    reader.feed(PREFACE[:at], receiver)
    assert reader.held == at
    reader.feed(PREFACE[at:] + EMPTY_SETTINGS, receiver)
    assert receiver.said == [("settings", [])]
    wrong = PREFACE[:at] + bytes((PREFACE[at] ^ 1,))
    with pytest.raises(Http2Error, match="no preface"):
        FrameReader(of_client=True).feed(wrong, receiver)


@pytest.mark.parametrize("of_client", [True, False])
@pytest.mark.parametrize(
    "first",
    [ping(b"12345678"), SETTINGS_ACK, b"".join(headers_frames(1, b"\x82", ended=True)), frame_head(0, 99, 0, 0)],
)
def test_settings_come_first(first, of_client):
    with pytest.raises(Http2Error) as caught:
        FrameReader(of_client=of_client).feed((PREFACE if of_client else b"") + first, Told())
    assert caught.value.code == PROTOCOL_ERROR


def test_who_has_stopped_reads_no_more_not_even_what_is_here():
    class Stopping(Told):
        def ping_received(self, payload, *, ack):
            super().ping_received(payload, ack=ack)
            reader.stop()

    receiver, reader = Stopping(), FrameReader(of_client=True)
    reader.feed(PREFACE + EMPTY_SETTINGS + ping(b"first000") + ping(b"second00") + b"x", receiver)
    reader.feed(ping(b"third000"), receiver)
    assert receiver.said == [("settings", []), ("ping", b"first000", False)]
    assert reader.held == 0


# What a frame may not be.

HEAD = b"".join(headers_frames(1, b"\x82\x84", ended=True))
BEGUN = frame_head(1, frames.HEADERS, 0, 1) + b"\x82"


@pytest.mark.parametrize(
    ("data", "code"),
    [
        pytest.param(frame_head(16385, frames.DATA, 0, 1), FRAME_SIZE_ERROR, id="longer than agreed"),
        pytest.param(frame_head(0, frames.DATA, 0, 0), PROTOCOL_ERROR, id="DATA on no stream"),
        pytest.param(frame_head(0, frames.HEADERS, 4, 0), PROTOCOL_ERROR, id="HEADERS on no stream"),
        pytest.param(frame_head(5, frames.PRIORITY, 0, 0) + bytes(5), PROTOCOL_ERROR, id="PRIORITY on no stream"),
        pytest.param(frame_head(4, frames.RST_STREAM, 0, 0) + bytes(4), PROTOCOL_ERROR, id="RST_STREAM on no stream"),
        pytest.param(frame_head(3, frames.RST_STREAM, 0, 1) + bytes(3), FRAME_SIZE_ERROR, id="RST_STREAM of 3 bytes"),
        pytest.param(frame_head(0, frames.SETTINGS, 0, 1), PROTOCOL_ERROR, id="SETTINGS on a stream"),
        pytest.param(frame_head(5, frames.SETTINGS, 0, 0) + bytes(5), FRAME_SIZE_ERROR, id="SETTINGS of 5 bytes"),
        pytest.param(frame_head(6, frames.SETTINGS, 1, 0) + bytes(6), FRAME_SIZE_ERROR, id="acknowledged with settings"),
        pytest.param(settings_frame({2: 2}), PROTOCOL_ERROR, id="ENABLE_PUSH of 2"),
        pytest.param(settings_frame({4: 2**31}), FLOW_CONTROL_ERROR, id="window of 2 GiB"),
        pytest.param(settings_frame({5: 16383}), PROTOCOL_ERROR, id="MAX_FRAME_SIZE too small"),
        pytest.param(settings_frame({5: 1 << 24}), PROTOCOL_ERROR, id="MAX_FRAME_SIZE too large"),
        pytest.param(settings_frame({8: 2}), PROTOCOL_ERROR, id="ENABLE_CONNECT_PROTOCOL of 2"),
        pytest.param(frame_head(8, frames.PING, 0, 1) + bytes(8), PROTOCOL_ERROR, id="PING on a stream"),
        pytest.param(frame_head(7, frames.PING, 0, 0) + bytes(7), FRAME_SIZE_ERROR, id="PING of 7 bytes"),
        pytest.param(frame_head(8, frames.GOAWAY, 0, 1) + bytes(8), PROTOCOL_ERROR, id="GOAWAY on a stream"),
        pytest.param(frame_head(7, frames.GOAWAY, 0, 0) + bytes(7), FRAME_SIZE_ERROR, id="GOAWAY of 7 bytes"),
        pytest.param(window_update(0, 0), PROTOCOL_ERROR, id="WINDOW_UPDATE of 0"),
        pytest.param(frame_head(3, frames.WINDOW_UPDATE, 0, 1) + bytes(3), FRAME_SIZE_ERROR, id="WINDOW_UPDATE of 3 bytes"),
        pytest.param(frame_head(4, frames.PUSH_PROMISE, 4, 1) + bytes(4), PROTOCOL_ERROR, id="PUSH_PROMISE"),
        pytest.param(frame_head(0, frames.CONTINUATION, 4, 1), PROTOCOL_ERROR, id="CONTINUATION of nothing"),
        pytest.param(HEAD + frame_head(0, frames.CONTINUATION, 4, 1), PROTOCOL_ERROR, id="CONTINUATION behind the end"),
        pytest.param(BEGUN + frame_head(0, frames.CONTINUATION, 4, 3), PROTOCOL_ERROR, id="CONTINUATION of another stream"),
        pytest.param(BEGUN + ping(bytes(8)), PROTOCOL_ERROR, id="PING within a block"),
        pytest.param(BEGUN + frame_head(0, frames.DATA, 0, 1), PROTOCOL_ERROR, id="DATA within a block"),
        pytest.param(BEGUN + HEAD, PROTOCOL_ERROR, id="HEADERS within a block"),
        pytest.param(BEGUN + frame_head(0, 99, 0, 1), PROTOCOL_ERROR, id="an unknown frame within a block"),
        pytest.param(frame_head(0, frames.DATA, 8, 1), FRAME_SIZE_ERROR, id="no room for padding"),
        pytest.param(frame_head(2, frames.DATA, 8, 1) + b"\x02x", PROTOCOL_ERROR, id="padding of more than there is"),
        pytest.param(frame_head(1, frames.HEADERS, 12, 1) + b"\x01", PROTOCOL_ERROR, id="padding of HEADERS"),
        pytest.param(frame_head(4, frames.HEADERS, 36, 1) + bytes(4), FRAME_SIZE_ERROR, id="HEADERS without its priority"),
        pytest.param(
            frame_head(6, frames.HEADERS, 32, 1) + b"\0\0\0\1\0\x82", PROTOCOL_ERROR, id="a block of one that depends on itself"
        ),
    ],
)  # fmt: skip
def test_what_no_peer_may_send_ends_the_connection(data, code):
    assert error_name(refused(data)) == error_name(code)


def test_a_server_asks_for_no_pushes():
    assert refused(settings_frame({2: 1}), of_client=False) == PROTOCOL_ERROR
    assert told(settings_frame({2: 0}), of_client=False) == [("settings", [(2, 0)])]
    assert told(settings_frame({2: 1})) == [("settings", [(2, 1)])]


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (frame_head(5, frames.PRIORITY, 0, 3) + b"\0\0\0\3\0", [("priority", 3, "stream that depends on itself")]),
        (frame_head(4, frames.PRIORITY, 0, 3) + bytes(4), [("priority", 3, "PRIORITY of 4 bytes")]),
        (
            frame_head(6, frames.HEADERS, 36, 3) + b"\0\0\0\3\0\x82",
            [("block", 3, b"\x82", False), ("priority", 3, "stream that depends on itself")],
        ),
        (window_update(3, 0), [("window", 3, 0)]),
    ],
)
def test_what_is_an_error_of_a_stream_is_told_as_one(data, said):
    assert told(data) == said


def test_the_highest_bit_of_a_stream_and_of_a_window_does_not_count():
    data = frame_head(1, frames.DATA, 1, 1 | 1 << 31) + b"x" + frame_head(4, frames.WINDOW_UPDATE, 0, 0) + b"\x80\0\0\5"
    assert told(data) == [("data", 1, b"x", 1, True), ("window", 0, 5)]


# Floods of CONTINUATION: by number, also of empty ones, and by bytes.


@pytest.mark.parametrize("size", [0, 1])
def test_a_block_in_more_parts_than_anybody_needs_is_refused(size):
    part = frame_head(size, frames.CONTINUATION, 0, 1) + bytes(size)
    last = frame_head(0, frames.CONTINUATION, 4, 1)
    assert told(BEGUN + part * 7 + last) == [("block", 1, b"\x82" + bytes(7 * size), False)]
    assert refused(BEGUN + part * 9) == ENHANCE_YOUR_CALM


def test_a_block_of_too_many_bytes_is_refused_before_its_end():
    full = frame_head(16384, frames.CONTINUATION, 0, 1) + bytes(16384)
    assert told(BEGUN + full * 3 + frame_head(0, frames.CONTINUATION, 4, 1))[0][2] == b"\x82" + bytes(3 * 16384)
    assert BLOCK_BYTES < 4 * 16384 + 1
    assert refused(BEGUN + full * 4) == ENHANCE_YOUR_CALM
