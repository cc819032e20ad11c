"""Beside h11 (uvicorn's and httpx's): what it refuses we refuse, what we take means the same to it, or a table says why not.

Requests and answers. h11 itself takes more than we do: bare LF, folded lines, both framings, an equal length repeated.
"""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import h11
import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st
from messages import (
    AGREED,
    BODIES,
    CHUNKED_HEAD,
    EDITS,
    HEAD,
    INCOMPLETE,
    LINES,
    METHODS,
    PLACES,
    REFUSED,
    TARGETS,
    VERSIONS,
    edited,
    ours,
)

from twisted_lb.wire.chunked import ChunkDecoder
from twisted_lb.wire.grammar import BLANK_LINE, CHUNKED, CRLF, UNTIL_CLOSE, BadMessage, Limits
from twisted_lb.wire.response import parse_response

CORPUS = Path(__file__).parent / "corpus"
LIMITS = Limits()
# So that it is our limits that count, and not the one it has for what is incomplete.
H11_BYTES = 1 << 20


def rest_of(reader: h11.Connection) -> tuple[bytes, str]:
    """The body, and whether it is complete: "" or why not."""
    body = b""
    while True:
        try:
            event = reader.next_event()
        except h11.RemoteProtocolError:
            return body, REFUSED
        if isinstance(event, h11.Data):
            body += bytes(event.data)
        elif isinstance(event, h11.EndOfMessage):
            return body, ""
        else:
            return body, INCOMPLETE


def theirs(*pieces: bytes):
    """(method, target, version, host, framing, body) of one request as h11 reads it, or why there is none."""
    reader = h11.Connection(h11.SERVER, max_incomplete_event_size=H11_BYTES)
    for piece in pieces:
        reader.receive_data(piece)
    try:
        request = reader.next_event()
    except h11.RemoteProtocolError:
        return REFUSED
    if not isinstance(request, h11.Request):
        return INCOMPLETE
    fields = dict(request.headers)
    body, problem = rest_of(reader)
    if problem:
        return problem
    if reader.trailing_data[0]:
        return REFUSED  # more than one message
    framing = CHUNKED if b"transfer-encoding" in fields else int(fields.get(b"content-length", b"0"))
    version = int(request.http_version.replace(b".", b""))
    return request.method, request.target, version, fields.get(b"host", b""), framing, body


class Difference(NamedTuple):
    """A kind of request that we take and h11 does not; `plain` is the same without what makes the difference."""

    what: str
    why: str
    plain: Callable[[bytes], bytes]
    example: bytes


DIFFERENCES = [
    Difference(
        "an empty line first",
        "RFC 9112 2.2 asks a server to ignore one; h11 has no request line then",
        lambda data: data.removeprefix(CRLF),
        CRLF + HEAD + b"\r\n",
    ),
]


def check(data: bytes) -> str:
    """Hold both readings together; which of the three cases it was."""
    if ours(data) in (REFUSED, INCOMPLETE):
        return "we do not take it"
    if theirs(data) == ours(data):
        return "both take it"
    plain = data
    for row in DIFFERENCES:
        plain = row.plain(plain)
    assert plain != data, (ours(data), theirs(data))
    assert theirs(plain) == ours(plain) == ours(data)
    return "a listed difference"


@pytest.mark.parametrize("row", DIFFERENCES, ids=[row.what for row in DIFFERENCES])
def test_a_listed_difference_is_one(row):
    assert ours(row.example) not in (REFUSED, INCOMPLETE)
    assert theirs(row.example) != ours(row.example)
    assert theirs(row.plain(row.example)) == ours(row.plain(row.example))


@pytest.mark.parametrize("data", AGREED.values(), ids=list(AGREED))
def test_what_both_take_means_the_same_wherever_it_is_split(data):
    reading = ours(data)
    assert check(data) != "we do not take it"
    data = data.removeprefix(CRLF)
    for cut in range(1, len(data)):
        assert theirs(data[:cut], data[cut:]) == ours(data, cut) == reading, cut


# What h11 refuses, so we do too. What of this httptools takes is in its own table.
REFUSED_BY_BOTH = {
    "space before the colon": HEAD + b"X : y\r\n\r\n",
    "folded first": b"GET / HTTP/1.1\r\n Host: a\r\n\r\n",
    "no name": HEAD + b": x\r\n\r\n",
    "no colon": HEAD + b"X\r\n\r\n",
    "bare CR": HEAD + b"X: a\rb\r\n\r\n",
    "NUL": HEAD + b"X: \x00\r\n\r\n",
    "obs-text name": HEAD + b"\xe9: x\r\n\r\n",
    "no Host": b"GET / HTTP/1.1\r\n\r\n",
    "two Hosts": b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
    "lengths differ": HEAD + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\nx",
    "length with sign": HEAD + b"Content-Length: +1\r\n\r\nx",
    "length hexadecimal": HEAD + b"Content-Length: 0x1\r\n\r\nx",
    "length empty": HEAD + b"Content-Length:\r\n\r\n",
    "xchunked": HEAD + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    "gzip, chunked": HEAD + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "chunked and identity": CHUNKED_HEAD + b"Transfer-Encoding: identity\r\n\r\n0\r\n\r\n",
    "no chunk size": CHUNKED_HEAD + b"\r\n\r\n",
    "chunk size with sign": CHUNKED_HEAD + b"\r\n+5\r\nhello\r\n0\r\n\r\n",
    "chunk size with 0x": CHUNKED_HEAD + b"\r\n0x5\r\nhello\r\n0\r\n\r\n",
    "chunk longer than its size": CHUNKED_HEAD + b"\r\n4\r\nhello\r\n0\r\n\r\n",
    "0.9": b"GET /\r\n\r\n",
}
# What h11 lets through, and we do not.
ONLY_WE_REFUSE = {
    "bare LF": b"GET / HTTP/1.1\nHost: a\r\n\r\n",
    "folded": HEAD + b"X: a\r\n b\r\n\r\n",
    "length twice": HEAD + b"Content-Length: 1\r\nContent-Length: 1\r\n\r\nx",
    "length list": HEAD + b"Content-Length: 1, 1\r\n\r\nx",
    "both framings": CHUNKED_HEAD + b"Content-Length: 5\r\n\r\n0\r\n\r\n",
    "chunked on 1.0": b"POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "chunk size with a space": CHUNKED_HEAD + b"\r\n5 \r\nhello\r\n0\r\n\r\n",
    "framing in the trailers": CHUNKED_HEAD + b"\r\n0\r\nHost: b\r\n\r\n",
    "version 2.0": b"GET / HTTP/2.0\r\nHost: a\r\n\r\n",
    "control character": HEAD + b"X: a\x01b\r\n\r\n",
    "Host and target differ": b"GET http://a/ HTTP/1.1\r\nHost: b\r\n\r\n",
    "relative target": b"GET b HTTP/1.1\r\nHost: a\r\n\r\n",
}


@pytest.mark.parametrize("data", REFUSED_BY_BOTH.values(), ids=list(REFUSED_BY_BOTH))
def test_what_h11_refuses_we_refuse(data):
    assert theirs(data) == REFUSED
    assert ours(data) == REFUSED


@pytest.mark.parametrize("data", ONLY_WE_REFUSE.values(), ids=list(ONLY_WE_REFUSE))
def test_what_h11_lets_through_we_refuse(data):
    assert theirs(data) not in (REFUSED, INCOMPLETE)
    assert ours(data) in (REFUSED, INCOMPLETE)


@pytest.mark.parametrize("file", sorted(CORPUS.rglob("*.http")), ids=lambda file: f"{file.parent.name}/{file.stem}")
def test_the_corpus_of_trouble(file):
    check(file.read_bytes())


def test_every_byte_in_every_place():
    for place in PLACES:
        for byte in range(256):
            check(place % byte)


EXAMPLES = 300


@settings(max_examples=EXAMPLES)
@given(METHODS, TARGETS, VERSIONS, st.lists(LINES, max_size=5), BODIES)
def test_made_up_requests(method, target, version, lines, body):
    head = CRLF.join([b" ".join([method, target, version]), b"Host: a", *lines])
    event(check(head + BLANK_LINE + body))


@settings(max_examples=EXAMPLES)
@given(st.sampled_from([*AGREED.values()]), EDITS)
def test_messages_that_are_slightly_wrong(data, edits):
    event(check(edited(data, edits)))


# Answers, up to the close of the connection.


def our_answer(method: bytes, data: bytes):
    """(status, body) of the answer to a request of this method as we read it, or why there is none."""
    end = data.find(BLANK_LINE)
    if end < 0:
        return INCOMPLETE
    rest = data[end + 4 :]
    try:
        head = parse_response(data[:end], LIMITS)
        framing = head.body_of(method)
        if framing == UNTIL_CLOSE:
            return head.status, rest
        if framing != CHUNKED:
            return (head.status, rest[:framing]) if len(rest) >= framing else INCOMPLETE
        decoder = ChunkDecoder(LIMITS)
        body = decoder.feed(rest)
    except BadMessage:
        return REFUSED
    return (head.status, body) if decoder.done else INCOMPLETE


def their_answer(method: bytes, data: bytes):
    """The same as h11 reads it."""
    reader = h11.Connection(h11.CLIENT, max_incomplete_event_size=H11_BYTES)
    reader.send(h11.Request(method=method, target="/", headers=[("Host", "a")]))
    reader.send(h11.EndOfMessage())
    reader.receive_data(data)
    reader.receive_data(b"")
    try:
        head = reader.next_event()
    except h11.RemoteProtocolError:
        return REFUSED
    if not isinstance(head, h11.Response):
        return INCOMPLETE
    body, problem = rest_of(reader)
    return INCOMPLETE if problem else (head.status_code, body)


def check_answer(method: bytes, data: bytes) -> str:
    reading = our_answer(method, data)
    if reading in (REFUSED, INCOMPLETE):
        return "we do not take it"
    if reading[0] < 200:
        return "interim: another reader's business"
    assert their_answer(method, data) == reading
    return "both take it"


ANSWER = b"HTTP/1.1 200 OK\r\n"
ANSWERS = [
    ANSWER + b"Content-Length: 2\r\n\r\nok",
    ANSWER + b"Content-Length: 2\r\n\r\nok and more",
    ANSWER + b"Transfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nSum: 1\r\n\r\n",
    ANSWER + b"\r\nuntil the end",
    b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\n\r\nuntil the end",
    b"HTTP/1.1 200\r\nContent-Length: 0\r\n\r\n",
    b"HTTP/1.1 204 No Content\r\nContent-Length: 2\r\n\r\n",
    b"HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n",
    b"HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n",
    b"HTTP/1.1 404 N\xf6\r\nX: \xff\r\nContent-Length: 1\r\n\r\nx",
]


@pytest.mark.parametrize("method", [b"GET", b"HEAD"])
@pytest.mark.parametrize("data", ANSWERS)
def test_an_answer_that_both_take_is_the_same(method, data):
    assert check_answer(method, data) == "both take it"


def test_every_byte_in_every_place_of_an_answer():
    for data in ANSWERS:
        for at in range(len(data)):
            for byte in b"\r\n\0 \t:,;0+x\x7f\xff":
                for method in (b"GET", b"HEAD"):
                    check_answer(method, data[:at] + bytes([byte]) + data[at:])
                    check_answer(method, data[:at] + bytes([byte]) + data[at + 1 :])


ANSWER_LINES = LINES | st.sampled_from([b"Content-Length: 2", b"Date: d", b"Connection: close", b"Upgrade: h2c"])


@settings(max_examples=EXAMPLES)
@given(
    st.sampled_from([b"GET", b"HEAD"]),
    st.sampled_from(
        [ANSWER, b"HTTP/1.0 200 OK\r\n", b"HTTP/1.1 204 \r\n", b"HTTP/1.1 304\r\n", b"HTTP/2.0 200 OK\r\n"]
    ),
    st.lists(ANSWER_LINES, max_size=5),
    BODIES,
)
def test_made_up_answers(method, line, lines, body):
    event(check_answer(method, line + b"".join(one + CRLF for one in lines) + CRLF + body))
