"""The chunked coding: strict in, plain out, and the same however it is split."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twisted_lb.wire.chunked import ChunkDecoder, chunk, last_chunk
from twisted_lb.wire.grammar import BadMessage, Limits

LIMITS = Limits(trailer_bytes=64)


def decode(*pieces: bytes) -> tuple[bytes, bool, bytes, bytes]:
    """(payload, done, trailers, rest) of a body that comes in these pieces."""
    decoder = ChunkDecoder(LIMITS)
    payload = b""
    rest = b""
    for piece in pieces:
        if decoder.done:
            rest += piece
        else:
            payload += decoder.feed(piece)
    return payload, decoder.done, decoder.trailers, decoder.rest + rest


def outcome(*pieces: bytes):
    """What decoding gives, or that it is refused: after done only how much follows is compared."""
    try:
        return decode(*pieces)
    except BadMessage:
        return "refused"


GOOD = [
    (b"0\r\n\r\n", b"", b"", b""),
    (b"5\r\nhello\r\n0\r\n\r\n", b"hello", b"", b""),
    (b"5\r\nhello\r\n1\r\n!\r\n0\r\n\r\nGET", b"hello!", b"", b"GET"),
    (b"A\r\n0123456789\r\n0\r\n\r\n", b"0123456789", b"", b""),
    (b"a\r\n0123456789\r\n000\r\n\r\n", b"0123456789", b"", b""),
    (b"00005\r\nhello\r\n0\r\n\r\n", b"hello", b"", b""),
    (b'5;a=b;c="d"\r\nhello\r\n0;x\r\n\r\n', b"hello", b"", b""),
    (b'5;a="q\\"\xe9";b ;\tc = d\r\nhello\r\n0\r\n\r\n', b"hello", b"", b""),
    (b"5;" + b"x" * 255 + b"\r\nhello\r\n0\r\n\r\n", b"hello", b"", b""),
    (b"2\r\n\r\n\r\n0\r\n\r\n", b"\r\n", b"", b""),
    (b"1\r\na\r\n0\r\nSum: 1\r\nX: y\r\n\r\nrest", b"a", b"Sum: 1\r\nX: y\r\n", b"rest"),
]
BAD = [
    b"\r\n",
    b"g\r\n",
    b"0x5\r\nhello\r\n",
    b"+5\r\nhello\r\n",
    b"-5\r\nhello\r\n",
    b" 5\r\nhello\r\n",
    b"5 \r\nhello\r\n",
    b"5\t\r\nhello\r\n",
    b"5 ;a\r\nhello\r\n",
    b"5_0\r\n",
    b"1234567890123456\r\n",
    b"fffffffffffffffff\r\n",
    b"5\nhello\r\n",
    b"5\rhello",
    b"5\r\nhelloX\r\n",
    b"5\r\nhello\n0\r\n\r\n",
    b"5\r\nhello\r0",
    b"5;\x00\r\nhello\r\n",
    b"5;a\nb\r\nhello\r\n",
    b"5;" + b"x" * 256 + b"\r\nhello\r\n",
    b"5;" + b"x" * 1000,
    b";a\r\n",
    b"5;\r\nhello\r\n",
    b"5;;a\r\nhello\r\n",
    b"5;a=\r\nhello\r\n",
    b"5;=b\r\nhello\r\n",
    b"5;a b\r\nhello\r\n",
    b'5;a="b\r\nhello\r\n',
    b"5;a(b\r\nhello\r\n",
    b"5;a \r\nhello\r\n",
    b"0\r\n\n",
    b"0\r\nX: y\n\r\n",
    b"0\r\nX: y\r\n\n",
    b"0\r\n\rX",
    b"0\r\nX: y\rz",
    b"0\r\nX : y\r\n\r\n",
    b"0\r\n folded\r\n\r\n",
    b"0\r\nContent-Length: 5\r\n\r\n",
    b"0\r\nTransfer-Encoding: chunked\r\n\r\n",
    b"0\r\nHost: evil\r\n\r\n",
    b"0\r\nX: \x00\r\n\r\n",
    b"0\r\nX: " + b"y" * 100 + b"\r\n\r\n",
    b"0\r\n" + b"y" * 100,
]


@pytest.mark.parametrize(("body", "payload", "trailers", "rest"), GOOD)
def test_a_good_body_is_decoded(body, payload, trailers, rest):
    assert decode(body) == (payload, True, trailers, rest)


@pytest.mark.parametrize("body", BAD)
def test_a_bad_body_is_refused(body):
    assert outcome(body) == "refused"


@pytest.mark.parametrize("body", [*BAD, *[row[0] for row in GOOD]])
def test_byte_by_byte_gives_the_same(body):
    assert outcome(*[body[at : at + 1] for at in range(len(body))]) == outcome(body)


@pytest.mark.parametrize("body", [*BAD, *[row[0] for row in GOOD]])
def test_a_split_at_any_place_gives_the_same(body):
    for at in range(1, len(body)):
        assert outcome(body[:at], body[at:]) == outcome(body), at


@given(st.lists(st.binary(min_size=1, max_size=50), max_size=6), st.lists(st.integers(1, 40), max_size=20))
def test_what_is_written_is_read_again_however_it_is_split(payloads, cuts):
    body = b"".join(chunk(payload) for payload in payloads) + last_chunk(b"T: 1\r\n") + b"next"
    pieces = []
    for cut in cuts:
        pieces.append(body[:cut])
        body = body[cut:]
    pieces = [piece for piece in [*pieces, body] if piece]
    assert decode(*pieces) == (b"".join(payloads), True, b"T: 1\r\n", b"next")


@given(st.lists(st.binary(max_size=40), max_size=5))
def test_whatever_the_bytes_only_a_bad_message_is_raised(pieces):
    outcome(*[piece for piece in pieces if piece])


@given(st.text(alphabet="0123aAgG;= \r\n\tx", max_size=30), st.integers(0, 30))
def test_bytes_that_look_like_chunks_split_anywhere_mean_the_same(text, cut):
    body = text.encode()
    parts = [part for part in (body[:cut], body[cut:]) if part]
    assert outcome(*parts) == (outcome(body) if body else outcome())


def test_all_extensions_of_a_body_are_bounded():
    one = b"1;" + b"x" * 100 + b"\r\na\r\n"
    assert outcome(one * 160) != "refused"
    assert outcome(one * 170) == "refused"


def test_extensions_that_are_shorter_than_their_chunks_are_ignored_however_many_there_are():
    """A signature for each chunk, as some storage services have it."""
    signed = b"64;chunk-signature=" + b"a" * 64 + b"\r\n" + b"x" * 100 + b"\r\n"
    assert decode(signed * 2000 + b"0\r\n\r\n") == (b"x" * 200_000, True, b"", b"")


@pytest.mark.parametrize("begun", [b"0\r\n\n", b"0\r\nX: y\n", b"0\r\nX: y\r\n\n", b"0\r\n\x00", b"0\r\nX: y\rz"])
def test_trailers_that_can_end_in_nothing_good_are_not_waited_for(begun):
    for cut in range(1, len(begun)):
        assert outcome(begun[:cut], begun[cut:]) == "refused", cut


def test_long_trailers_may_come_in_any_pieces():
    section = b"".join(b"X-%d: y\r\n" % number for number in range(8))
    body = b"0\r\n" + section + b"\r\nnext"
    for size in range(1, 12):
        pieces = [body[at : at + size] for at in range(0, len(body), size)]
        assert decode(*pieces) == (b"", True, section, b"next"), size
