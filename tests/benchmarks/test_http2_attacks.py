"""Attacks on HTTP/2 as the benchmark makes them: bytes that another implementation reads, and the page that tells what they cost."""

import re
import socket
from itertools import islice

import pytest
from hpack import Decoder
from http2_attacks import page
from http2_attacks.attacks import ATTACKS, HOST
from hyperframe.frame import Frame, HeadersFrame, WindowUpdateFrame
from yardstick import http2, results

FRAMES = {name: attack for name, attack in ATTACKS.items() if attack.connections}


def read(data: bytes) -> list[Frame]:
    """The frames, as another implementation reads them."""
    found = []
    while data:
        frame, size = Frame.parse_frame_header(memoryview(data[:9]))
        if not isinstance(frame, WindowUpdateFrame):  # of which one opens nothing, and that is the attack
            frame.parse_body(memoryview(data[9 : 9 + size]))
        found.append(frame)
        data = data[9 + size :]
    return found


@pytest.mark.parametrize("name", FRAMES)
def test_each_piece_is_so_many_frames_and_streams_go_up(name):
    attack = ATTACKS[name]
    pieces = [read(attack.piece(count)) for count in range(150)]
    assert {len(piece) for piece in pieces} == {attack.frames}
    begun = [one.stream_id for piece in pieces for one in piece if isinstance(one, HeadersFrame)]
    assert begun == sorted(set(begun))
    assert len(begun) in (0, 100, 150)


@pytest.mark.parametrize("name", ["rapid-reset", "made-you-reset", "crumbs", "hpack-bomb", "stall", "never-ended"])
def test_heads_are_those_of_requests(name):
    decoder = Decoder(max_header_list_size=1 << 30)
    for count in range(3):
        head = next(one for one in read(ATTACKS[name].piece(count)) if isinstance(one, HeadersFrame))
        fields = decoder.decode(head.data, raw=True)
        assert dict(fields[:4]).keys() == {b":method", b":scheme", b":path", b":authority"}
        assert dict(fields)[b":authority"] == HOST
        more = {"crumbs": 16_000, "hpack-bomb": 4_000}.get(name)
        if more is not None:
            assert len(fields) == 4 + (more if count else 1)


def test_frames_come_in_any_pieces():
    sent = [(http2.HEADERS, 5, 1, b"abc"), (http2.DATA, 1, 3, b""), (http2.PING, 0, 0, b"12345678")]
    data = b"".join(http2.frame(*one) for one in sent)
    for size in range(1, len(data) + 1):
        frames = http2.Frames()
        assert [one for at in range(0, len(data), size) for one in frames.feed(data[at : at + size])] == sent


def test_a_stream_is_read_to_its_end_and_settings_are_acknowledged():
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.sendall(http2.frame(http2.SETTINGS, 0, 0) + http2.frame(http2.HEADERS, 4, 1, b"\x88"))
        theirs.sendall(http2.frame(http2.DATA, 0, 1, b"hel") + http2.frame(http2.DATA, 1, 1, b"lo"))
        assert http2.ended(ours, 1) == b"hello"
        assert theirs.recv(100) == http2.frame(http2.SETTINGS, http2.ACK, 0)


@pytest.mark.parametrize("last", [b"", http2.frame(http2.RST_STREAM, 0, 1, b"\0\0\0\2")])
def test_a_stream_that_is_cut_is_no_answer(last):
    ours, theirs = socket.socketpair()
    with ours:
        with theirs:
            theirs.sendall(http2.frame(http2.DATA, 0, 1, b"hel") + last)
        with pytest.raises(RuntimeError):
            http2.ended(ours, 1)


def test_the_page_shows_the_newest_run():
    between = page.PAGE.read_text().partition(page.BEGIN)[2].partition(page.END)[0]
    assert between.strip() == page.render(results.newest("http2-abuse"))
    titles = re.findall(r"^\| ([^|]+) \|", between, re.MULTILINE)
    assert {attack.title for attack in ATTACKS.values()} <= set(titles)


def told(frames: list[int], codes: dict[str, int], lost: int = 0, p99_ms: float | None = 4.0) -> dict:
    attacker = {
        "ends": len(frames),
        "codes": codes,
        "frames_until": frames,
        "frames_left": [7],
        "frames": sum(frames) + 7,
    }
    return {
        "cpu_s": 0.5, "grown_bytes": 1 << 20, "p50_ms": p99_ms and 1.0, "p99_ms": p99_ms, "answered": 9, "lost": lost, "attacker": attacker,
    }  # fmt: skip


def test_who_is_sent_away_is_told_how_and_who_is_not_how_much_he_sent():
    assert page.end([told([400, 402], {"11": 2}), told([500], {"11": 1})]) == "ENHANCE_YOUR_CALM, 402"
    assert page.end([told([9], {"-1": 1})]) == "closed, 9"
    assert page.end([told([], {}), told([], {})]) == "no: 14.0"


def test_what_was_lost_is_told():
    assert page.waits([told([], {})]) == "1.00, 4.00"
    assert page.waits([told([], {}, lost=1, p99_ms=None)]) == "-, -; 1 of 10 lost"


def test_medians_are_of_rounds_that_have_the_number():
    rounds = [told([], {}, p99_ms=one) for one in (8.0, None, 4.0, 6.0)]
    assert page.median(rounds, "p99_ms") == 6.0
    assert page.median(list(islice(rounds, 1, 2)), "p99_ms") is None
