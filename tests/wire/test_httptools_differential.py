"""Beside httptools (Node's llhttp): what it refuses we refuse, what we take means the same to it, or a table says why not."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

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
    KNOWN,
    LINES,
    METHODS,
    PLACES,
    REFUSED,
    TARGETS,
    VERSIONS,
    WEBSOCKET,
    edited,
    ours,
)

from twisted_lb.wire.grammar import BLANK_LINE, CHUNKED, CRLF

httptools = pytest.importorskip("httptools", exc_type=ImportError)

CORPUS = Path(__file__).parent / "corpus"


class Heard:
    """What httptools says while it reads."""

    def __init__(self) -> None:
        self.target = b""
        self.fields: list[tuple[bytes, bytes]] = []
        self.body = b""
        self.complete = False

    def on_url(self, piece: bytes) -> None:
        self.target += piece

    def on_header(self, name: bytes, value: bytes) -> None:
        self.fields.append((name.lower(), value))

    def on_body(self, piece: bytes) -> None:
        self.body += piece

    def on_message_complete(self) -> None:
        self.complete = True


def theirs(*pieces: bytes):
    """(method, target, version, host, framing, body) of one message as httptools reads it, or why there is none."""
    heard = Heard()
    parser = httptools.HttpRequestParser(heard)
    try:
        for piece in pieces:
            parser.feed_data(piece)
    except httptools.HttpParserUpgrade:
        heard.complete = True
    except httptools.HttpParserError:
        return REFUSED
    if not heard.complete:
        return INCOMPLETE
    fields = dict(heard.fields)
    framing = CHUNKED if b"transfer-encoding" in fields else int(fields.get(b"content-length", b"0"))
    version = int(parser.get_http_version().replace(".", ""))
    return parser.get_method(), heard.target, version, fields.get(b"host", b"").strip(), framing, heard.body


class Difference(NamedTuple):
    """A kind of message that we take and httptools does not, or not as we do.

    `plain` is the same message without what makes the difference: about that one there must be none.
    """

    what: str
    why: str
    plain: Callable[[bytes], bytes]
    example: bytes


def known_method(data: bytes) -> bytes:
    start = CRLF if data.startswith(CRLF) else b""
    method, _, rest = data.removeprefix(CRLF).partition(b" ")
    return data if method in KNOWN else start + b"GET " + rest


UPGRADE = re.compile(rb"(?i)(?<=\r\n)upgrade(?=:)")
EXTENSION = re.compile(rb"(?<=\r\n)([0-9A-Fa-f]+);[^\r\n]*[ \t][^\r\n]*(?=\r\n)")
TAB_BEHIND = re.compile(rb"(?i)(?<=\r\n)(transfer-encoding:[ \t]*chunked)[ \t]+(?=\r\n)")

DIFFERENCES = [
    Difference(
        "a method that it does not know",
        "RFC 9110 9.1: methods are defined by anybody, at any time; llhttp has a list",
        known_method,
        b"BREW / HTTP/1.1\r\nHost: a\r\n\r\n",
    ),
    Difference(
        "Upgrade with a body",
        "llhttp leaves body and tunnel to its caller; we take the Upgrade away, so that a backend sees a plain body",
        lambda data: UPGRADE.sub(b"Updated", data),
        HEAD + WEBSOCKET + b"Content-Length: 2\r\n\r\nhi",
    ),
    Difference(
        "Upgrade with a chunked body",
        "the same",
        lambda data: UPGRADE.sub(b"Updated", data),
        CHUNKED_HEAD + WEBSOCKET + b"\r\n2\r\nhi\r\n0\r\n\r\n",
    ),
    Difference(
        "white space around a chunk extension's parts",
        "RFC 9112 7.1.1 has a recipient parse it as bad white space; extensions end with us",
        lambda data: EXTENSION.sub(rb"\1", data),
        CHUNKED_HEAD + b"\r\n5; a = b ;c\r\nhello\r\n0\r\n\r\n",
    ),
    Difference(
        "a tab behind `chunked`",
        "RFC 9110 5.5 has it stripped from the value; a backend gets our own line",
        lambda data: TAB_BEHIND.sub(rb"\1", data),
        b"POST /p HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\t\r\n\r\n0\r\n\r\n",
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
    assert ours(plain)[3:] == ours(data)[3:]
    assert theirs(plain) == ours(plain)
    return "a listed difference"


@pytest.mark.parametrize("row", DIFFERENCES, ids=[row.what for row in DIFFERENCES])
def test_a_listed_difference_is_one(row):
    assert ours(row.example) not in (REFUSED, INCOMPLETE)
    assert theirs(row.example) != ours(row.example)
    assert theirs(row.plain(row.example)) == ours(row.plain(row.example))


@pytest.mark.parametrize("data", AGREED.values(), ids=list(AGREED))
def test_what_both_take_means_the_same_wherever_it_is_split(data):
    reading = ours(data)
    assert theirs(data) == reading
    assert reading not in (REFUSED, INCOMPLETE)
    for cut in range(1, len(data)):
        assert ours(data, cut) == reading, cut
        assert theirs(data[:cut], data[cut:]) == reading, cut
    assert theirs(*[data[at : at + 1] for at in range(len(data))]) == reading


# What httptools refuses, so we do too: request smuggling's usual ingredients.
REFUSED_BY_BOTH = {
    "space before the colon": HEAD + b"X : y\r\n\r\n",
    "folded": HEAD + b"X: a\r\n b\r\n\r\n",
    "folded first": b"GET / HTTP/1.1\r\n Host: a\r\n\r\n",
    "no name": HEAD + b": x\r\n\r\n",
    "no colon": HEAD + b"X\r\n\r\n",
    "bare CR": HEAD + b"X: a\rb\r\n\r\n",
    "NUL": HEAD + b"X: \x00\r\n\r\n",
    "obs-text name": HEAD + b"\xe9: x\r\n\r\n",
    "length twice": HEAD + b"Content-Length: 1\r\nContent-Length: 1\r\n\r\nx",
    "length list": HEAD + b"Content-Length: 1, 1\r\n\r\nx",
    "length with sign": HEAD + b"Content-Length: +1\r\n\r\nx",
    "length hexadecimal": HEAD + b"Content-Length: 0x1\r\n\r\nx",
    "length empty": HEAD + b"Content-Length:\r\n\r\n",
    "length too large": HEAD + b"Content-Length: 99999999999999999999\r\n\r\n",
    "both framings": CHUNKED_HEAD + b"Content-Length: 5\r\n\r\n0\r\n\r\n",
    "both framings, other order": HEAD + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "chunked, identity": HEAD + b"Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
    "xchunked": HEAD + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    "no chunk size": CHUNKED_HEAD + b"\r\n\r\n",
    "chunk size with sign": CHUNKED_HEAD + b"\r\n+5\r\nhello\r\n0\r\n\r\n",
    "chunk size with 0x": CHUNKED_HEAD + b"\r\n0x5\r\nhello\r\n0\r\n\r\n",
    "chunk size with a space": CHUNKED_HEAD + b"\r\n5 \r\nhello\r\n0\r\n\r\n",
    "chunk size too large": CHUNKED_HEAD + b"\r\nfffffffffffffffff\r\n",
    "chunk longer than its size": CHUNKED_HEAD + b"\r\n4\r\nhello\r\n0\r\n\r\n",
    "LF behind a chunk size": CHUNKED_HEAD + b"\r\n5\nhello\r\n0\r\n\r\n",
    "LF behind a chunk": CHUNKED_HEAD + b"\r\n5\r\nhello\n0\r\n\r\n",
    "version 2.0 in this form": b"GET / HTTP/2.1\r\nHost: a\r\n\r\n",
    "relative target": b"GET b HTTP/1.1\r\nHost: a\r\n\r\n",
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
}


@pytest.mark.parametrize("data", REFUSED_BY_BOTH.values(), ids=list(REFUSED_BY_BOTH))
def test_what_httptools_refuses_we_refuse_wherever_it_is_split(data):
    assert theirs(data) == REFUSED
    assert ours(data) == REFUSED
    for cut in range(1, len(data)):
        assert ours(data, cut) == REFUSED, cut
        assert theirs(data[:cut], data[cut:]) == REFUSED, cut


# What httptools leaves to whoever uses it, and we do not.
ONLY_WE_REFUSE = {
    "no Host": b"GET / HTTP/1.1\r\n\r\n",
    "two Hosts": b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
    "Host and target differ": b"GET http://a/ HTTP/1.1\r\nHost: b\r\n\r\n",
    "chunked on 1.0": b"POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "gzip, chunked": HEAD + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "framing in the trailers": CHUNKED_HEAD + b"\r\n0\r\nHost: b\r\n\r\n",
    "0.9": b"GET /\r\n\r\n",
}


@pytest.mark.parametrize("data", ONLY_WE_REFUSE.values(), ids=list(ONLY_WE_REFUSE))
def test_what_httptools_lets_through_we_refuse(data):
    assert theirs(data) not in (REFUSED, INCOMPLETE)
    assert ours(data) == REFUSED


@pytest.mark.parametrize("file", sorted(CORPUS.rglob("*.http")), ids=lambda file: f"{file.parent.name}/{file.stem}")
def test_the_corpus_of_trouble(file):
    check(file.read_bytes())


def test_every_byte_in_every_place():
    for place in PLACES:
        for byte in range(256):
            check(place % byte)


EXAMPLES = 500


@settings(max_examples=EXAMPLES)
@given(METHODS, TARGETS, VERSIONS, st.lists(LINES, max_size=5), BODIES)
def test_made_up_requests(method, target, version, lines, body):
    head = CRLF.join([b" ".join([method, target, version]), b"Host: a", *lines])
    event(check(head + BLANK_LINE + body))


@settings(max_examples=EXAMPLES)
@given(st.sampled_from([*AGREED.values()]), EDITS)
def test_messages_that_are_slightly_wrong(data, edits):
    event(check(edited(data, edits)))
