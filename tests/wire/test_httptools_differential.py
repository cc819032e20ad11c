"""Beside httptools (llhttp): what it refuses we refuse, and what both take means the same to both."""

import httptools
import pytest
from hypothesis import given
from hypothesis import strategies as st

from twisted_lb.wire.grammar import CHUNKED, BadMessage, Limits
from twisted_lb.wire.request import parse_request

LIMITS = Limits()

# What httptools refuses and we take, and why.
WE_TAKE = {
    "a method that llhttp does not list: RFC 9110 9.1 lets anybody define more": b"BREW / HTTP/1.1\r\nHost: a",
}


class Heard:
    """What httptools understood."""

    def __init__(self) -> None:
        self.url = b""
        self.fields: list[tuple[bytes, bytes]] = []
        self.complete = False

    def on_url(self, url: bytes) -> None:
        self.url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self.fields.append((name, value))

    def on_headers_complete(self) -> None:
        self.complete = True


def theirs(head: bytes) -> tuple | None:
    """(method, target, framing) as httptools reads it; None: refused."""
    heard = Heard()
    parser = httptools.HttpRequestParser(heard)
    try:
        parser.feed_data(head + b"\r\n\r\n")
    except httptools.HttpParserUpgrade:
        pass
    except httptools.HttpParserError:
        return None
    if not heard.complete:
        return None
    fields = {name.lower(): value for name, value in heard.fields}
    framing = CHUNKED if b"transfer-encoding" in fields else int(fields.get(b"content-length", 0))
    return parser.get_method(), heard.url, framing


def ours(head: bytes) -> tuple | None:
    try:
        parsed = parse_request(head, LIMITS)
    except BadMessage:
        return None
    return parsed.method, parsed.target, parsed.fields.framing


METHODS = st.sampled_from([b"GET", b"POST", b"PUT", b"DELETE", b"HEAD", b"OPTIONS", b"G ET", b"GET\x00", b""])
TARGETS = st.sampled_from([b"/", b"/a?b=c", b"*", b"http://a/", b"/\x00", b"/ x", b"", b"/%zz", b"/a#b"])
VERSIONS = st.sampled_from([b"HTTP/1.1", b"HTTP/1.0", b"HTTP/2.0", b"HTTP/1.2", b"http/1.1", b"HTTP/11", b""])
LINES = st.lists(
    st.sampled_from(
        [
            b"Host: a",
            b"Content-Length: 5",
            b"Content-Length: +5",
            b"Content-Length: 5, 5",
            b"content-length: 6",
            b"Transfer-Encoding: chunked",
            b"Transfer-Encoding: gzip",
            b"transfer-encoding: Chunked",
            b" folded: x",
            b"X: y",
            b"X : y",
            b": y",
            b"X",
            b"X:",
            b"X: \x01",
            b"X: a\nY: b",
            b"X: a\rb",
            b"X\x00: y",
            b"Connection: close",
        ]
    ),
    max_size=5,
)


@given(METHODS, TARGETS, VERSIONS, LINES)
def test_what_httptools_refuses_we_refuse_and_what_both_take_means_the_same(method, target, version, lines):
    head = b"\r\n".join([b" ".join([method, target, version]), *lines])
    their_reading, our_reading = theirs(head), ours(head)
    if our_reading is not None:
        assert their_reading == our_reading


@pytest.mark.parametrize("head", WE_TAKE.values(), ids=list(WE_TAKE))
def test_a_difference_has_its_reason(head):
    assert ours(head) is not None
    assert theirs(head) is None


@pytest.mark.parametrize(
    "head",
    [
        b"GET / HTTP/1.1",
        b"GET / HTTP/1.1\r\nHost: a\r\nHost: b",
        b"GET /x\r\nHost: a",
        b"GET / HTTP/2.0\r\nHost: a",
        b"POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked",
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked",
        b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"y" * 100_000,
    ],
    ids=["no Host", "two Hosts", "0.9", "2.0", "chunked on 1.0", "gzip, chunked", "100 kB"],
)
def test_what_httptools_lets_through_we_refuse(head):
    """The rules that libraries leave to whoever uses them."""
    if len(head) > LIMITS.head_bytes:
        return  # the downstream counts bytes before it parses; tests/net sees to that
    assert ours(head) is None
