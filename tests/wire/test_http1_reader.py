"""The reader of a client's bytes: heads and bodies by turns, the same wherever they are cut."""

from collections.abc import Iterable
from itertools import pairwise
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st
from some import examples

from twisted_lb.wire.chunked import chunk
from twisted_lb.wire.grammar import BLANK_LINE, CHUNKED, CRLF, BadMessage, Limits
from twisted_lb.wire.http1_reader import Http1Reader, SharedFields
from twisted_lb.wire.request import RequestHead, parse_request, resolve_target

LIMITS = Limits()
SMALL = Limits(line_bytes=40, head_bytes=120, fields=4, trailer_bytes=30)
GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
DONE, INCOMPLETE, REFUSED = "done", "incomplete", "refused"


class Said(NamedTuple):
    """One request, taken apart."""

    head: tuple[object, ...]
    body: bytes
    trailers: bytes


def meaning(head: RequestHead) -> tuple[object, ...]:
    fields = head.fields
    return (
        head.method, head.target, head.line, head.lines, head.authority, fields.version, fields.host, fields.has_host,
        fields.framing, fields.keep_alive, fields.expects, fields.upgrade, fields.te_trailers, fields.request_id,
        fields.traced, fields.claims,
    )  # fmt: skip


class Conversation:
    """A reader, driven as a connection drives it."""

    def __init__(self, limits: Limits = LIMITS, shared: SharedFields | None = None) -> None:
        self.reader = Http1Reader(SharedFields() if shared is None else shared)
        self.said: list[Said] = []
        self._limits = limits
        self._head: RequestHead | None = None  # whose body is coming
        self._body = b""

    def feed(self, data: bytes) -> None:
        """BadMessage when it is none."""
        if self._head is None:
            self.reader.buffer += data
        else:
            self._take_body(data)
        while self._head is None and self.reader.buffer:
            head = self.reader.take_head(self._limits)
            if head is None:
                return
            if not head.fields.framing:
                self.said.append(Said(meaning(head), b"", b""))
                continue
            self._head = head
            self.reader.begin_body(head.fields.framing, self._limits)
            rest, self.reader.buffer = self.reader.buffer, b""
            if rest:
                self._take_body(rest)

    def _take_body(self, data: bytes) -> None:
        self._body += self.reader.take_body(data)
        assert self.reader.body_bytes == len(self._body)
        if self.reader.body_ended and self._head is not None:
            self.said.append(Said(meaning(self._head), self._body, self.reader.trailers))
            self._head, self._body = None, b""


def read(
    pieces: Iterable[bytes], limits: Limits = LIMITS, shared: SharedFields | None = None
) -> tuple[list[Said], str]:
    """What was said, and how it ends."""
    conversation = Conversation(limits, shared)
    try:
        for piece in pieces:
            conversation.feed(piece)
    except BadMessage:
        return conversation.said, REFUSED
    done = conversation._head is None and not conversation.reader.buffer
    return conversation.said, DONE if done else INCOMPLETE


def plainly(data: bytes, limits: Limits = LIMITS) -> tuple[list[Said], str]:
    """The same, by somebody who has all of it and remembers nothing. It knows complete requests only."""
    said: list[Said] = []
    while data:
        data = data.removeprefix(CRLF)
        block, blank, rest = data.partition(BLANK_LINE)
        if data.startswith(CRLF):
            return said, REFUSED
        if not blank:
            return said, INCOMPLETE
        try:
            head, body, trailers, data = plain_request(block, rest, limits)
        except BadMessage:
            return said, REFUSED
        except EOFError:
            return said, INCOMPLETE
        said.append(Said(meaning(head), body, trailers))
    return said, DONE


def plain_request(block: bytes, rest: bytes, limits: Limits) -> tuple[RequestHead, bytes, bytes, bytes]:
    if len(block) > limits.head_bytes:
        raise BadMessage(431, "head too long")
    head = parse_request(block, limits)
    target, authority = resolve_target(head.method, head.target, head.fields)
    head = RequestHead(head.method, target, head.fields, head.lines, authority)
    framing = head.fields.framing
    if framing != CHUNKED:
        if len(rest) < framing:
            raise EOFError
        return head, rest[:framing], b"", rest[framing:]
    return head, *plain_chunks(rest)


def plain_chunks(rest: bytes) -> tuple[bytes, bytes, bytes]:
    """(payload, trailers, what is behind); of chunks that are known to be well-formed, or cut off."""
    body = b""
    while True:
        line, ended, rest = rest.partition(CRLF)
        if not ended:
            raise EOFError
        size = int(line.partition(b";")[0], 16)
        if not size:
            break
        if len(rest) < size + 2:
            raise EOFError
        body, rest = body + rest[:size], rest[size + 2 :]
    if rest.startswith(CRLF):
        return body, b"", rest[2:]
    trailers, blank, rest = rest.partition(BLANK_LINE)
    if not blank:
        raise EOFError
    return body, trailers + CRLF, rest


# Streams.

LINES = [
    b"User-Agent: curl/8.5.0",
    b"Accept: */*",
    b"Cookie: session=%d",
    b"X-Request-ID: id-%d",
    b"X-Forwarded-For: 10.0.0.%d",
    b"Connection: close",
    b"Connection: X-Hop, keep-alive",
    b"X-Hop: %d",
    b"Expect: 100-continue",
    b"TE: trailers",
    b"traceparent: 00-%032d-0000000000000001-00",
    b"Connection: Upgrade\r\nUpgrade: websocket",
]
TARGETS = [b"/", b"/a?b=%d", b"http://x/%d", b"*", b"/%d" + b"y" * 60]
PIECES = st.lists(st.binary(min_size=1, max_size=40), max_size=4)


@st.composite
def requests(draw) -> bytes:
    """One request: mostly of the same few lines as others, with other numbers in them."""
    number = draw(st.integers(0, 3))
    target = draw(st.sampled_from(TARGETS))
    method = b"OPTIONS" if target == b"*" else draw(st.sampled_from([b"GET", b"GET", b"POST", b"HEAD"]))
    lines = [b"Host: x", *draw(st.lists(st.sampled_from(LINES), max_size=5, unique=True))]
    version = draw(st.sampled_from([b"1.1", b"1.1", b"1.1", b"1.0"]))
    line = b"%b %b HTTP/%b" % (method, target % number if b"%d" in target else target, version)
    kind = draw(st.sampled_from(["", "", "length", "chunks"] if version == b"1.1" else ["", "length"]))
    body = b""
    if kind == "length":
        body = b"".join(draw(PIECES))
        lines.append(b"Content-Length: %d" % len(body))
    elif kind == "chunks":
        trailers = draw(st.sampled_from([b"", b"T: 1\r\n", b"T: 1\r\nU: 2\r\n"]))
        extension = draw(st.sampled_from([b"", b";e=f"]))
        body = b"".join(chunk(piece).replace(CRLF, extension + CRLF, 1) for piece in draw(PIECES))
        body += b"0\r\n" + trailers + CRLF
        lines.append(b"Transfer-Encoding: chunked")
    head = CRLF.join([line, *(one % number if b"%" in one else one for one in lines)])
    return draw(st.sampled_from([b"", b"", b"", CRLF, CRLF * 2])) + head + BLANK_LINE + body


STREAMS = st.lists(requests(), min_size=1, max_size=5).map(b"".join)
CUTS = st.lists(st.integers(0, 2000), max_size=12)


def cut(data: bytes, places: Iterable[int]) -> list[bytes]:
    edges = [0, *sorted({place % (len(data) + 1) for place in places}), len(data)]
    return [data[start:end] for start, end in pairwise(edges) if start < end]


@examples(500)
@given(STREAMS, CUTS)
def test_requests_are_what_they_are_wherever_they_are_cut(stream, places):
    assert read(cut(stream, places)) == plainly(stream)


@examples(100)
@given(STREAMS)
def test_and_byte_by_byte(stream):
    assert read(bytes([byte]) for byte in stream) == plainly(stream)


@examples(300)
@given(STREAMS, CUTS)
def test_limits_are_the_same_wherever_it_is_cut(stream, places):
    assert read(cut(stream, places), SMALL) == read([stream], SMALL)
    said, end = plainly(stream, SMALL)
    assert (read([stream], SMALL)[0], read([stream], SMALL)[1] == REFUSED) == (said, end == REFUSED)


@examples(300)
@given(STREAMS, CUTS, st.integers(0, 2000))
def test_a_stream_that_breaks_off_has_said_what_was_complete(stream, places, end):
    stream = stream[: end % len(stream)]
    assert read(cut(stream, places)) == plainly(stream)


@examples(500)
@given(STREAMS, CUTS, st.integers(0, 2000), st.sampled_from([b"\r", b"\n", b" ", b"\0", b":", b"x", b"\r\n\r\n", b"0"]))
def test_a_broken_stream_is_broken_at_the_same_request_wherever_it_is_cut(stream, places, where, what):
    where %= len(stream)
    stream = stream[:where] + what + stream[where + 1 :]
    assert read(cut(stream, places)) == read([stream])


@examples(200)
@given(st.lists(STREAMS, min_size=2, max_size=4))
def test_what_other_connections_have_sent_changes_nothing(streams):
    shared = SharedFields()
    for stream in streams:
        assert read([stream], shared=shared) == plainly(stream)


# One sentence each.


def reader(data: bytes) -> Http1Reader:
    one = Http1Reader(SharedFields())
    one.buffer = data
    return one


def test_a_head_is_taken_out_of_the_buffer():
    one = reader(GET + b"GET /next")
    head = one.take_head(LIMITS)
    assert head is not None
    assert (head.line, one.buffer) == (b"GET / HTTP/1.1\r\n", b"GET /next")
    assert one.take_head(LIMITS) is None
    assert one.buffer == b"GET /next"


def test_the_same_head_again_is_the_same_object():
    one = reader(GET * 2)
    assert one.take_head(LIMITS) is one.take_head(LIMITS)


def test_another_target_is_another_head_with_the_same_fields():
    one = reader(GET + GET.replace(b"/ ", b"/other "))
    first, second = one.take_head(LIMITS), one.take_head(LIMITS)
    assert (first.target, second.target) == (b"/", b"/other")
    assert first.fields is second.fields


def test_other_limits_are_for_the_same_head_too():
    """They are compared by identity: what was checked is true for as long as they are the same."""
    head = GET.replace(b"\r\n\r\n", b"\r\nX: %b\r\n\r\n" % (b"y" * 100))
    one = reader(head * 2)
    one.take_head(LIMITS)
    with pytest.raises(BadMessage) as caught:
        one.take_head(SMALL)
    assert caught.value.status == 431


def block(cookie: bytes, framing: bytes = b"Transfer-Encoding: chunked") -> bytes:
    return b"Host: x\r\nConnection: keep-alive\r\nCookie: %b\r\n%b\r\n\r\n" % (cookie, framing)


def test_a_block_that_fitted_a_pattern_means_nothing_for_another_version():
    """RFC 9112 6.1: Transfer-Encoding on HTTP/1.0 is not to be trusted. Parsed anew it is refused."""
    post = b"POST / HTTP/%b\r\n"
    learnt = [post % b"1.1" + block(b"a"), post % b"1.1" + block(b"b")]
    between = post % b"1.0" + block(b"c", b"Content-Length: 0")
    one = reader(b"".join([*learnt, between, post % b"1.1" + block(b"d"), post % b"1.0" + block(b"d")]))
    assert [one.take_head(LIMITS).fields.framing for _ in range(4)] == [CHUNKED, CHUNKED, 0, CHUNKED]
    with pytest.raises(BadMessage) as caught:
        one.take_head(LIMITS)
    assert caught.value.status == 400


def test_nor_does_a_pattern_outlive_the_limits_it_was_learnt_under():
    post, few = b"POST / HTTP/1.1\r\n", Limits(fields=3)
    one = reader(post + block(b"a") + post + block(b"b") + GET + post + block(b"c"))
    assert [one.take_head(limits) is not None for limits in (LIMITS, LIMITS, few)] == [True] * 3
    with pytest.raises(BadMessage) as caught:
        one.take_head(few)
    assert caught.value.status == 431


def test_one_empty_line_before_a_request_is_ignored():
    assert reader(CRLF + GET).take_head(LIMITS) is not None


@pytest.mark.parametrize("pieces", [[CRLF + CRLF], [CRLF, CRLF], [b"\r", b"\n", b"\r", b"\n"], [b"\r\n\r", b"\n"]])
def test_two_are_no_request(pieces):
    one = reader(b"")
    with pytest.raises(BadMessage) as caught:  # noqa: PT012
        for piece in pieces:
            one.buffer += piece
            one.take_head(LIMITS)
    assert caught.value.status == 400


@pytest.mark.parametrize(
    ("part", "status"),
    [
        (b"GET / HTTP/1.1\r\nHost: x\n", 400),
        (b"GET /\0", 400),
        (b"\x16\x03\x01\x02\x00\x01", 400),
        (b"GET  / HTTP/1.1\r\n", 400),
        (b"GET / HTTP/2.0\r\n", 505),
        (b"GET /" + b"x" * 40, 414),
        (b"GET / HTTP/1.1\r\nX: " + b"y" * 120, 431),
    ],
    ids=["bare LF", "control", "TLS", "two spaces", "version", "long line", "long head"],
)
def test_what_can_no_longer_become_a_head_is_refused_at_once_and_left_in_the_buffer(part, status):
    one = reader(part)
    with pytest.raises(BadMessage) as caught:
        one.take_head(SMALL)
    assert (caught.value.status, one.buffer) == (status, part)


def test_a_body_of_a_known_length_leaves_what_is_behind_it_in_the_buffer():
    one = reader(b"")
    one.begin_body(5, LIMITS)
    assert (one.take_body(b"hel"), one.body_ended, one.body_bytes) == (b"hel", False, 3)
    assert (one.take_body(b"lo" + GET), one.body_ended, one.body_bytes) == (b"lo", True, 5)
    assert one.buffer == GET


def test_a_chunked_body_is_its_payload_and_its_trailers():
    one = reader(b"")
    one.begin_body(CHUNKED, LIMITS)
    assert (one.take_body(b"5\r\nhel"), one.body_bytes) == (b"hel", 3)
    assert (one.take_body(b"lo\r\n0\r\nT: 1\r\n"), one.body_ended) == (b"lo", False)
    assert (one.take_body(CRLF + GET), one.body_ended) == (b"", True)
    assert (one.body_bytes, one.trailers, one.buffer) == (5, b"T: 1\r\n", GET)


def test_the_next_body_begins_from_nothing():
    one = reader(b"")
    one.begin_body(CHUNKED, LIMITS)
    one.take_body(b"1\r\nx\r\n0\r\nT: 1\r\n\r\n")
    one.begin_body(2, LIMITS)
    assert (one.body_bytes, one.body_ended, one.trailers) == (0, False, b"")


@pytest.mark.parametrize(
    "body", [b"x\r\n", b"5\r\nhello!", b"0\r\nnot a field\r\n\r\n", b"0\r\nT: " + b"x" * 40 + CRLF]
)
def test_a_chunk_or_a_trailer_that_is_none_is_a_bad_message(body):
    one = reader(b"")
    one.begin_body(CHUNKED, SMALL)
    with pytest.raises(BadMessage):
        one.take_body(body)


def test_the_first_head_of_a_connection_is_the_same_object_where_another_began_with_it_to_the_byte():
    shared = SharedFields()
    heads = []
    for _ in range(2):
        one = Http1Reader(shared)
        one.buffer = GET
        heads.append(one.take_head(LIMITS))
        assert one.buffer == b""
    assert heads[0] is heads[1] is not None


def test_the_first_head_of_another_connection_counts_only_under_the_same_limits():
    shared = SharedFields()
    one = Http1Reader(shared)
    one.buffer = GET
    assert one.take_head(LIMITS) is not None
    other = Http1Reader(shared)
    other.buffer = GET
    with pytest.raises(BadMessage):
        other.take_head(Limits(line_bytes=3))


def test_behind_the_first_head_of_another_connection_the_next_ones_are_read_on():
    shared = SharedFields()
    for _ in range(2):
        one = Http1Reader(shared)
        one.buffer = GET
        first = one.take_head(LIMITS)
        one.buffer = GET
        assert one.take_head(LIMITS) is first
        one.buffer = GET.replace(b"GET / ", b"PUT /x ")
        other = one.take_head(LIMITS)
        assert first is not None
        assert other is not None
        assert (other.line, other.fields) == (b"PUT /x HTTP/1.1\r\n", first.fields)
