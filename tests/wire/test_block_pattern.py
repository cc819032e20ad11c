"""Blocks that differ in a few lines: what is recognized means what the parser says, and nothing else is recognized."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twisted_lb.wire.block_pattern import BlockPattern, learn
from twisted_lb.wire.grammar import BadMessage, Limits
from twisted_lb.wire.http1_reader import Http1Reader, SharedFields
from twisted_lb.wire.request import parse_request, parse_request_fields

LIMITS = Limits()


def learnt(before: bytes, block: bytes, known: BlockPattern | None = None) -> BlockPattern | None:
    parse_request_fields(11, before[:-2], LIMITS)
    fields, lines = parse_request_fields(11, block[:-2], LIMITS)
    return learn(11, fields, block, lines, before, known)


def block(*lines: bytes) -> bytes:
    return b"".join(line + b"\r\n" for line in lines)


def filled(pattern: BlockPattern, text: bytes) -> bytes | None:
    """What goes on of a block: it stands between the LF of the first line and the blank line."""
    return pattern.fill(b"\n" + text + b"\r\n")


HOST, ACCEPT, CLOSE = b"Host: a", b"Accept: */*", b"Connection: close"


def test_a_line_that_varies_is_filled_in_and_the_rest_is_as_it_was():
    pattern = learnt(block(HOST, b"Cookie: 1", ACCEPT), block(HOST, b"Cookie: 2", ACCEPT))
    assert filled(pattern, block(HOST, b"Cookie: xyz", ACCEPT)) == block(HOST, b"Cookie: xyz", ACCEPT)
    assert pattern.fields.host == b"a"


def test_what_ends_here_is_left_out_also_when_the_pattern_fills_it():
    pattern = learnt(block(HOST, CLOSE, b"Cookie: 1"), block(HOST, CLOSE, b"Cookie: 2"))
    assert filled(pattern, block(HOST, CLOSE, b"Cookie: 3")) == block(HOST, b"Cookie: 3")
    assert not pattern.fields.keep_alive


def test_a_line_that_varied_before_may_vary_again():
    first = learnt(block(HOST, b"Cookie: 1", b"Referer: 1"), block(HOST, b"Cookie: 2", b"Referer: 1"))
    both = learnt(block(HOST, b"Cookie: 2", b"Referer: 1"), block(HOST, b"Cookie: 2", b"Referer: 2"), first)
    assert filled(both, block(HOST, b"Cookie: 9", b"Referer: 9")) == block(HOST, b"Cookie: 9", b"Referer: 9")


@pytest.mark.parametrize(
    "other",
    [
        block(HOST, b"Cookie: 1"),
        block(HOST, b"Cookie: 1", ACCEPT, ACCEPT),
        block(HOST, b"cookie: 1", ACCEPT),
        block(HOST, b"Cookie : 1", ACCEPT),
        block(b"Host: b", b"Cookie: 1", ACCEPT),
        block(ACCEPT, b"Cookie: 1", HOST),
        block(HOST, b"Cookie: 1\x00", ACCEPT),
        block(HOST, b"Cookie: 1\r", ACCEPT),
        block(HOST, b"Cookie: 1\n folded", ACCEPT),
        block(HOST, b"Cookie: 1", b" folded", ACCEPT),
        block(HOST, b"Cookie: 1", b"Content-Length: 5", ACCEPT),
        block(HOST, b"Cookie: 1", b"Accept: */*x"),
        b"",
        b"\r\n",
    ],
)
def test_anything_else_is_left_to_the_parser(other):
    pattern = learnt(block(HOST, b"Cookie: 1", ACCEPT), block(HOST, b"Cookie: 2", ACCEPT))
    assert filled(pattern, other) is None


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (b"Content-Length: 1", b"Content-Length: 2"),
        (b"X-Request-ID: 1", b"X-Request-ID: 2"),
        (b"Connection: close", b"Connection: keep-alive"),
        (b"Cookie: 1", b"Referer: 1"),
        (b"X-Forwarded-For: 1.1.1.1", b"X-Forwarded-For: 2.2.2.2"),
        (b"X_Forwarded_For: 1.1.1.1", b"X_Forwarded_For: 2.2.2.2"),
    ],
)
def test_only_lines_that_mean_nothing_to_a_proxy_may_vary(before, after):
    assert learnt(block(HOST, before), block(HOST, after)) is None


AUTHORIZED = [block(HOST, b"Authorization: " + value, ACCEPT) for value in (b"Bearer 1", b"Bearer 2")]


def test_credentials_may_vary_but_not_those_that_authenticate_a_connection():
    pattern = learnt(*AUTHORIZED)
    assert filled(pattern, block(HOST, b"Authorization: Digest 3", ACCEPT)) is not None
    for value in (b"NTLM x", b" \tnegotiate x", b"Nego2"):
        assert filled(pattern, block(HOST, b"Authorization: " + value, ACCEPT)) is None
        bound = block(HOST, b"Authorization: " + value, ACCEPT)
        assert learnt(AUTHORIZED[0], bound) is None
    assert not pattern.fields.binds


def test_one_line_of_credentials_may_vary():
    two = [block(HOST, b"Authorization: a" + n, b"authorization: b" + n) for n in (b"1", b"2")]
    assert learnt(*two) is None


def test_a_line_that_connection_takes_away_may_not_vary():
    named = b"Connection: x-secret"
    assert learnt(block(HOST, named, b"X-Secret: 1"), block(HOST, named, b"X-Secret: 2")) is None


PLAIN = st.sampled_from(
    [b"Cookie: %d" % number for number in range(5)] + [b"Referer: %d" % number for number in range(4)]
)
SPECIAL = st.sampled_from(
    [
        *[b"Connection: close", b"Connection: keep-alive", b"Connection: cookie", b"Connection: te", b"TE: trailers"],
        *[b"Content-Length: 3", b"Content-Length: 0", b"Transfer-Encoding: chunked", b"Expect: 100-continue"],
        *[b"X-Forwarded-For: 1.1.1.1", b"Keep-Alive: 5", b"Upgrade: websocket", b"Connection: upgrade", b"Date: now"],
    ]
)
BROKEN = st.sampled_from(
    [b"X: bad\x07", b" folded", b"no colon", b"Cookie: \xff", b"Cookie:", b"Cookie: \x00", b"Host: b"]
)
# Mostly lines that pass: what is broken ends a connection.
LINES = st.sampled_from([PLAIN] * 12 + [SPECIAL] * 3 + [BROKEN]).flatmap(lambda kind: kind)


@st.composite
def related_blocks(draw) -> list[list[bytes]]:
    """Blocks of which each is the one before with a line or two exchanged, and now and then quite another one."""
    lines = draw(st.lists(LINES, min_size=1, max_size=5))
    blocks = [lines]
    for _ in range(draw(st.integers(2, 9))):
        lines = list(lines)
        if draw(st.integers(0, 5)) == 0:
            lines = draw(st.lists(LINES, min_size=1, max_size=5))
        for _ in range(draw(st.integers(0, 2))):
            lines[draw(st.integers(0, len(lines) - 1))] = draw(LINES)
        blocks.append(lines)
    return blocks


def outcome(read) -> list | int | None:
    """What a head means, or the status that refuses it; None where there is none yet."""
    try:
        head = read()
    except BadMessage as bad:
        return bad.status
    if head is None:
        return None
    fields = head.fields
    names = [name for name in dir(fields) if not name.startswith("_")]
    return [head.method, head.target, head.lines, [getattr(fields, name) for name in names]]


@given(related_blocks(), st.booleans())
def test_a_connection_that_learns_reads_what_one_that_does_not_would(blocks, first_has_host):
    """Each head on a connection of its own is the oracle, whatever came before it on this one."""
    shared = SharedFields()
    reader = Http1Reader(shared)
    for lines in blocks:
        head = b"\r\n".join([b"GET /x HTTP/1.1", *([b"Host: a"] if first_has_host else []), *lines])
        expected = outcome(lambda head=head: parse_request(head, LIMITS))
        reader.buffer = head + b"\r\n\r\n"
        assert outcome(lambda reader=reader: reader.take_head(LIMITS)) == expected
        if isinstance(expected, int):
            reader = Http1Reader(shared)  # such a connection is closed


FRAGMENTS = st.sampled_from(
    [b"\r", b"\n", b"\r\n", b"\r\n\r\n", b"\n\n", b"\r\r", b"\0", b" ", b":", b"x", b"Cookie: 7\r\n", b"GET / HTTP/1.1"]
)
FIRST_LINES = st.sampled_from([b"GET /x HTTP/1.1"] * 6 + [b"GET /y HTTP/1.1", b"POST /x HTTP/1.0", b"GET /x", b""])
BEHIND = st.sampled_from([b""] * 6 + [b"GET /next HTTP/1.1\r\n\r\n", b"body\r\n\r\n", b"\r\n\r\n", b"x"])


@given(related_blocks(), st.data())
def test_a_connection_that_learns_ends_a_head_where_one_that_does_not_would(blocks, data):
    """Whatever stands in a buffer, broken at any place: the same head or refusal, and the same bytes left over."""
    shared = SharedFields()
    reader = Http1Reader(shared)
    for lines in blocks:
        head = b"\r\n".join([data.draw(FIRST_LINES), b"Host: a", *lines]) + b"\r\n\r\n"
        if data.draw(st.integers(0, 3)) == 0:
            at = data.draw(st.integers(0, len(head)))
            head = head[:at] + data.draw(FRAGMENTS) + head[at + data.draw(st.integers(0, 2)) :]
        buffer = head + data.draw(BEHIND)
        oracle = Http1Reader(SharedFields())
        oracle.buffer = reader.buffer = buffer
        expected = outcome(lambda oracle=oracle: oracle.take_head(LIMITS))
        assert outcome(lambda reader=reader: reader.take_head(LIMITS)) == expected
        assert reader.buffer == oracle.buffer
        if not isinstance(expected, list):
            reader = Http1Reader(shared)  # such a connection is closed, or waits for more
