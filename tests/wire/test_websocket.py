"""WebSocket frames: where one ends, however the bytes are cut, and the close frame."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twisted_lb.wire.websocket import GOING_AWAY, Frames, close_frame

TEXT, CLOSE, PING = 1, 8, 9


def frame(payload: bytes, opcode: int = TEXT, mask: bytes = b"") -> bytes:
    size = len(payload)
    masked = 0x80 if mask else 0
    if size < 126:
        length = bytes([masked | size])
    elif size < 65536:
        length = bytes([masked | 126]) + size.to_bytes(2, "big")
    else:
        length = bytes([masked | 127]) + size.to_bytes(8, "big")
    return bytes([0x80 | opcode]) + length + mask + payload


SIZES = (0, 1, 125, 126, 127, 65535, 65536)


@pytest.mark.parametrize("mask", [b"", b"mask"])
@pytest.mark.parametrize("size", SIZES)
def test_a_frame_ends_where_its_length_says(size, mask):
    whole = frame(b"x" * size, mask=mask)
    frames = Frames()
    assert frames.between
    for end in {1, 2, 5, len(whole) - 1} - {len(whole)}:
        frames = Frames()
        frames.feed(whole[:end])
        assert frames.between is (end > len(whole))
        frames.feed(whole[end:])
        assert frames.between


pieces = st.lists(st.tuples(st.sampled_from(SIZES[:5]), st.sampled_from([b"", b"mask"])), min_size=1, max_size=6)


@given(pieces, st.randoms(use_true_random=False))
def test_wherever_frames_are_cut_their_ends_are_the_same(parts, rng: random.Random):
    data = b"".join(frame(bytes(size), mask=mask) for size, mask in parts)
    ends = {0}
    for size, mask in parts:
        ends.add(max(ends) + len(frame(bytes(size), mask=mask)))
    frames, at = Frames(), 0
    while at < len(data):
        step = rng.choice([1, 2, 3, 50, 300])
        frames.feed(data[at : at + step])
        at = min(at + step, len(data))
        assert frames.between is (at in ends)


@given(pieces, st.integers(1, 400), st.integers(1, 400))
def test_what_completes_a_frame_ends_with_it(parts, begun, more):
    data = b"".join(frame(bytes(size), mask=mask) for size, mask in parts)
    ends = [0]
    for size, mask in parts:
        ends.append(ends[-1] + len(frame(bytes(size), mask=mask)))
    begun = min(begun, len(data))
    frames = Frames()
    frames.feed(data[:begun])
    taken = frames.feed_to_end(data[begun : begun + more])
    assert begun + taken == min(*(end for end in ends if end >= begun), begun + more, len(data))


def test_a_close_frame_is_noticed_and_no_other():
    frames = Frames()
    frames.feed(frame(b"a") + frame(b"", PING) + frame(b"b", 0))
    assert not frames.closed
    frames.feed(frame(b"\x03\xe8", CLOSE)[:1])
    assert not frames.closed
    frames.feed(frame(b"\x03\xe8", CLOSE)[1:])
    assert (frames.closed, frames.between) == (True, True)


def test_the_close_frame_of_a_server_is_plain_and_that_of_a_client_masked():
    assert close_frame(GOING_AWAY) == b"\x88\x02\x03\xe9"
    masked = close_frame(GOING_AWAY, b"\x0f\xf0\x01\x02")
    assert masked[:6] == b"\x88\x82\x0f\xf0\x01\x02"
    assert bytes([masked[6] ^ 0x0F, masked[7] ^ 0xF0]) == b"\x03\xe9"
