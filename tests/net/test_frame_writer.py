"""The frames of one connection: one write for a batch, windows, turns by bytes, and a peer that takes nothing."""

import pytest

from twisted_lb.core.glitches import Glitches
from twisted_lb.net.clock import Clock
from twisted_lb.net.foreign import Foreign
from twisted_lb.net.frame_writer import FrameWriter
from twisted_lb.wire.http2.errors import FLOW_CONTROL_ERROR, Http2Error
from twisted_lb.wire.http2.frames import (
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    FRAME_BYTES,
    HEADERS,
    PING,
    WINDOW_BYTES,
    WINDOW_MOST,
    frame_head,
    ping,
)

PINGED = ping(b"12345678")


class Turns:
    """What is to be called soon."""

    def __init__(self) -> None:
        self.calls = []

    def __call__(self, call) -> None:
        self.calls.append(call)

    def run(self) -> None:
        """Until nobody wants anything any more."""
        while self.calls:
            calls, self.calls = self.calls, []
            for call in calls:
                call()


class Wire:
    """A transport that is not ours: what was written, each write for itself; after so many it is `full`."""

    def __init__(self) -> None:
        self.writes: list[bytes] = []
        self.full_after = -1
        self.on_full = lambda: None

    def write(self, data: bytes) -> None:
        self.writes.append(data)
        if len(self.writes) == self.full_after:
            self.on_full()

    def writeSequence(self, pieces: list[bytes]) -> None:
        self.write(b"".join(pieces))


class Nobody:
    """A protocol that does nothing."""

    def makeConnection(self, transport) -> None:
        self.transport = transport


class Body:
    """A stream with so many bytes to send, in frames as large as may be."""

    def __init__(self, writer: FrameWriter, number: int, size: int = 0, window: int = 1 << 20) -> None:
        self.in_line = False
        self.writer = writer
        self.number = number
        self.left = size
        self.window = window
        self.drained = 0

    def take_turn(self) -> bool:
        size = self.writer.take_window(min(self.left, self.window, FRAME_BYTES))
        if not size:
            return False
        self.left -= size
        self.window -= size
        self.writer.send_data(self.number, b"x" * size, 0)
        return self.left > 0 and self.window > 0

    def tell_drained(self) -> None:
        self.drained += 1


class House:
    """A writer, its wire, and how far it fell behind."""

    def __init__(self) -> None:
        self.soon = Turns()
        self.wire = Wire()
        self.behind: list[int] = []
        self.glitches = Glitches()
        self.writer = FrameWriter(self.soon, self.glitches, self.behind.append)
        self.wire.on_full = self.writer.stalled
        nobody = Nobody()
        Foreign(Clock(lambda: 1.0), nobody).makeConnection(self.wire)
        self.writer.attach(nobody.transport)

    @property
    def frames(self) -> list[tuple[int, int, int, int]]:
        """Kind, flags, stream and size of what has left."""
        data, found = b"".join(self.wire.writes), []
        while data:
            size = int.from_bytes(data[:3], "big")
            found.append((data[3], data[4], int.from_bytes(data[5:9], "big"), size))
            data = data[9 + size :]
        return found


@pytest.fixture
def house():
    return House()


# Frames.


def test_all_of_a_batch_leave_in_one_write_at_its_end(house):
    house.writer.send(PINGED, b"")
    house.writer.send_block(1, b"\x88", ended=False)
    house.writer.send_data(1, b"hello", END_STREAM)
    assert house.wire.writes == []
    house.soon.run()
    assert house.wire.writes == [
        PINGED + frame_head(1, HEADERS, END_HEADERS, 1) + b"\x88" + frame_head(5, DATA, END_STREAM, 1) + b"hello"
    ]


def test_a_batch_that_becomes_large_does_not_wait_for_its_end(house):
    for _ in range(5):
        house.writer.send_data(1, b"x" * FRAME_BYTES, 0)
    assert [len(write) for write in house.wire.writes] == [4 * (9 + FRAME_BYTES)]
    house.soon.run()
    assert [len(write) for write in house.wire.writes] == [4 * (9 + FRAME_BYTES), 9 + FRAME_BYTES]


def test_of_many_small_pieces_one_write_becomes_too(house):
    for _ in range(1500):
        house.writer.send_data(1, b"x" * 20, 0)
    house.soon.run()
    assert len(house.wire.writes) == 1
    assert len(house.frames) == 1500


def test_what_was_flushed_is_not_sent_again(house):
    house.writer.send(PINGED, b"")
    house.writer.flush()
    house.writer.flush()
    house.soon.run()
    assert house.wire.writes == [PINGED]


def test_a_long_field_block_goes_on_in_continuations(house):
    house.writer.send_block(3, b"\0" * (FRAME_BYTES + 1), ended=True)
    house.soon.run()
    assert house.frames == [(HEADERS, END_STREAM, 3, FRAME_BYTES), (CONTINUATION, END_HEADERS, 3, 1)]


def test_what_a_field_block_is_to_begin_with_is_said_once(house):
    house.writer.before = b"\x20"
    house.writer.send_block(1, b"\x88", ended=False)
    house.writer.send_block(3, b"\x88", ended=False)
    house.soon.run()
    head = frame_head(2, HEADERS, END_HEADERS, 1)
    assert house.wire.writes == [head + b"\x20\x88" + frame_head(1, HEADERS, END_HEADERS, 3) + b"\x88"]


def test_the_last_frame_of_a_body_becomes_its_end_while_it_is_here(house):
    mark = house.writer.send_data(1, b"hello", 0)
    house.writer.send(PINGED, b"")
    assert house.writer.end_data(1, mark, 5)
    house.soon.run()
    assert house.frames == [(DATA, END_STREAM, 1, 5), (PING, 0, 0, 8)]


def test_a_frame_that_has_left_is_no_end_any_more_and_nothing_else_becomes_one(house):
    mark = house.writer.send_data(1, b"hello", 0)
    house.soon.run()
    other = house.writer.send_data(3, b"abc", 0)
    assert not house.writer.end_data(1, mark, 5)
    assert house.writer.end_data(3, other, 3)
    house.soon.run()
    assert house.frames == [(DATA, 0, 1, 5), (DATA, END_STREAM, 3, 3)]


def test_a_whole_answer_is_its_head_and_a_body_that_ends_its_stream(house):
    house.writer.send_answer(1, b"\x88", b"hello")
    house.writer.send_answer(3, b"\x89", b"")
    assert house.wire.writes == []
    house.soon.run()
    assert house.frames == [
        (HEADERS, END_HEADERS, 1, 1),
        (DATA, END_STREAM, 1, 5),
        (HEADERS, END_HEADERS | END_STREAM, 3, 1),
    ]
    assert len(house.wire.writes) == 1
    assert (house.writer.window, house.writer.sent, house.glitches.paid) == (WINDOW_BYTES - 5, 5, 2)


def test_a_whole_answer_with_a_head_that_is_long_or_has_something_before_it_is_one_too(house):
    house.writer.before = b"\x20"
    house.writer.send_answer(1, b"\x88", b"hello")
    house.writer.send_answer(3, b"x" * (FRAME_BYTES + 1), b"world")
    house.soon.run()
    assert house.frames == [
        (HEADERS, END_HEADERS, 1, 2),
        (DATA, END_STREAM, 1, 5),
        (HEADERS, 0, 3, FRAME_BYTES),
        (CONTINUATION, END_HEADERS, 3, 1),
        (DATA, END_STREAM, 3, 5),
    ]
    assert house.writer.sent == 10


def test_a_body_leaves_in_frames_of_which_the_last_may_become_its_end(house):
    body = bytes(range(250)) * 160  # 40,000
    assert house.writer.send_body(1, body, 1 << 20) == 40_000
    assert house.writer.end_data(1, house.writer.last_frame, house.writer.last_bytes)
    house.soon.run()
    assert house.frames == [
        (DATA, 0, 1, FRAME_BYTES),
        (DATA, 0, 1, FRAME_BYTES),
        (DATA, END_STREAM, 1, 40_000 - 2 * FRAME_BYTES),
    ]
    data = b"".join(house.wire.writes)
    assert b"".join([data[at + 9 : at + 9 + FRAME_BYTES] for at in range(0, len(data), FRAME_BYTES + 9)]) == body
    assert (house.writer.sent, house.glitches.paid) == (40_000, 2 * 3 + 39)


def test_a_body_leaves_as_far_as_the_window_of_the_connection_takes_it(house):
    assert house.writer.send_body(1, b"x" * 100_000, 1 << 20) == WINDOW_BYTES
    assert house.writer.send_body(1, b"x", 1 << 20) == 0
    house.soon.run()
    assert [one[3] for one in house.frames] == [FRAME_BYTES] * 3 + [FRAME_BYTES - 1]


@pytest.mark.parametrize(
    ("size", "most", "sent"), [(5, 3, 3), (5, 0, 0), (20_000, 16_385, 16_385), (16_384, 1 << 20, 16_384)]
)
def test_of_a_body_leaves_no_more_than_its_stream_takes(house, size, most, sent):
    assert house.writer.send_body(1, b"x" * size, most) == sent
    house.soon.run()
    assert sum(one[3] for one in house.frames) == house.writer.sent == sent


def test_where_others_wait_for_their_turns_what_is_more_than_a_frame_waits_too(house):
    house.writer.line_up(Body(house.writer, 1, 10))
    assert house.writer.send_body(3, b"x" * (FRAME_BYTES + 1), 1 << 20) == 0
    assert house.writer.send_body(5, b"x" * FRAME_BYTES, 1 << 20) == FRAME_BYTES


def test_a_peer_that_takes_nothing_gets_nothing_of_a_body(house):
    house.writer.stalled()
    assert house.writer.send_body(1, b"hello", 1 << 20) == 0


def test_when_the_connection_is_gone_nothing_is_sent_and_nothing_breaks(house):
    mark = house.writer.send_data(1, b"hello", 0)
    house.writer.detach()
    assert not house.writer.end_data(1, mark, 5)
    house.writer.send(PINGED, b"")
    house.soon.run()
    assert house.wire.writes == []


# Windows.


def test_the_window_is_what_the_peer_takes_of_all_bodies_together(house):
    assert house.writer.take_window(WINDOW_BYTES - 10) == WINDOW_BYTES - 10
    assert house.writer.take_window(100) == 10
    assert house.writer.take_window(100) == 0
    house.writer.open_window(30)
    assert house.writer.take_window(100) == 30
    assert house.writer.sent == WINDOW_BYTES + 30


def test_bodies_pay_for_frames_that_are_sent_because_of_them(house):
    for size in (1, 1000, 16384):
        house.writer.take_window(size)
    assert house.glitches.paid == 2 + 2 + 2 + 16
    house.writer.stalled()
    house.writer.take_window(16384)
    assert house.glitches.paid == 22


def test_a_window_beyond_all_bounds_is_an_error(house):
    house.writer.open_window(WINDOW_MOST - WINDOW_BYTES)
    with pytest.raises(Http2Error) as caught:
        house.writer.open_window(1)
    assert caught.value.code == FLOW_CONTROL_ERROR


# Turns.


def test_those_who_wait_have_a_frame_each_by_turns(house):
    bodies = [Body(house.writer, number, 3 * FRAME_BYTES) for number in (1, 3)]
    house.writer.open_window(1 << 20)
    for body in bodies:
        house.writer.line_up(body)
    house.soon.run()
    assert [stream for _, _, stream, _ in house.frames] == [1, 3, 1, 3, 1, 3]


def test_a_turn_is_by_bytes_so_that_the_window_is_shared_evenly(house):
    bodies = [Body(house.writer, number, 1 << 20) for number in (1, 3)]
    for body in bodies:
        house.writer.line_up(body)
    house.soon.run()
    sent = [(1 << 20) - body.left for body in bodies]
    assert sum(sent) == WINDOW_BYTES
    assert abs(sent[0] - sent[1]) <= 1
    for _ in range(10):
        house.writer.open_window(FRAME_BYTES)
        house.writer.take_turns()
    sent = [(1 << 20) - body.left for body in bodies]
    assert abs(sent[0] - sent[1]) <= FRAME_BYTES


def test_who_lines_up_twice_has_one_turn(house):
    body, other = Body(house.writer, 1, 2 * FRAME_BYTES), Body(house.writer, 3, FRAME_BYTES)
    house.writer.line_up(body)
    house.writer.line_up(body)
    house.writer.line_up(other)
    house.soon.run()
    assert [stream for _, _, stream, _ in house.frames] == [1, 3, 1]
    assert not body.in_line


def test_who_has_a_window_that_is_shut_holds_nobody_up(house):
    shut, other = Body(house.writer, 1, 100, window=0), Body(house.writer, 3, 100)
    house.writer.line_up(shut)
    house.writer.line_up(other)
    house.soon.run()
    assert house.frames == [(DATA, 0, 3, 100)]
    shut.window = 60
    house.writer.line_up(shut)
    house.soon.run()
    assert house.frames[1:] == [(DATA, 0, 1, 60)]


def test_who_is_drained_is_told_once_the_batch_is_over(house):
    body = Body(house.writer, 1)
    house.writer.drained(body)
    assert body.drained == 0
    house.soon.run()
    assert body.drained == 1


# Back-pressure.


def test_bodies_wait_while_the_peer_takes_nothing_and_go_on_after_it(house):
    body = Body(house.writer, 1, 100)
    house.writer.stalled()
    house.writer.line_up(body)
    house.soon.run()
    assert (house.frames, house.writer.take_window(10)) == ([], 0)
    assert body.in_line
    house.writer.resumed()
    house.soon.run()
    assert house.frames == [(DATA, 0, 1, 100)]
    assert not house.behind


def test_a_peer_that_stops_within_a_turn_gets_no_more_of_a_body(house):
    bodies = [Body(house.writer, number, 4 * FRAME_BYTES) for number in (1, 3)]
    house.writer.open_window(1 << 20)
    house.wire.full_after = 1
    for body in bodies:
        house.writer.line_up(body)
    house.soon.run()
    assert sum(size for *_, size in house.frames) == 4 * FRAME_BYTES
    house.writer.resumed()
    house.soon.run()
    assert sum(size for *_, size in house.frames) == 8 * FRAME_BYTES


def test_how_much_is_sent_to_a_peer_that_takes_nothing_is_told(house):
    house.writer.stalled()
    for _ in range(3):
        house.writer.send(PINGED, b"")
        house.soon.run()
    assert house.behind == [17, 34, 51]
    assert house.writer.behind == 51
    house.writer.resumed()
    house.writer.send(PINGED, b"")
    house.soon.run()
    assert (house.behind[3:], house.writer.behind) == ([], 0)


def test_a_writer_whom_nobody_asks_how_far_it_is_behind_goes_on_sending():
    soon = Turns()
    writer = FrameWriter(soon, Glitches())
    writer.stalled()
    writer.send(PINGED, b"")
    soon.run()
    assert writer.behind == 0
