"""Beside httptools (Node's llhttp): what it refuses we refuse, what we take means the same to it, or a table says why not."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st

from twisted_lb.wire.chunked import ChunkDecoder
from twisted_lb.wire.grammar import BLANK_LINE, CHUNKED, CRLF, BadMessage, Limits
from twisted_lb.wire.request import parse_request, target_authority

httptools = pytest.importorskip("httptools", exc_type=ImportError)

LIMITS = Limits()
CORPUS = Path(__file__).parent / "corpus"

REFUSED = "refused"
INCOMPLETE = "incomplete"


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


def ours(data: bytes, cut: int = 0):
    """The same as we read it; the body in two pieces if `cut` falls into it."""
    start = 2 if data.startswith(CRLF) else 0
    end = data.find(BLANK_LINE, start)
    if end < 0:
        return INCOMPLETE
    try:
        head = parse_request(data[start:end], LIMITS)
        check_agreement(head.target, head.fields.host)
        body = our_body(head.fields.framing, [data[end + 4 : max(cut, end + 4)], data[max(cut, end + 4) :]])
    except BadMessage:
        return REFUSED
    if body is None:
        return INCOMPLETE
    return head.method, head.target, head.fields.version, head.fields.host, head.fields.framing, body


def check_agreement(target: bytes, host: bytes) -> None:
    """What the connection adds to the parser: target and Host name the same."""
    authority = target_authority(target)
    if authority and host and authority.lower() != host.lower():
        raise BadMessage(400, "target and Host disagree")


def our_body(framing: int, pieces: list[bytes]) -> bytes | None:
    """The body, None if there is not all of it; a message behind it is refused: here only one is read."""
    if framing != CHUNKED:
        body = b"".join(pieces)
        if len(body) > framing:
            raise BadMessage(400, "more than one message")
        return body if len(body) == framing else None
    decoder = ChunkDecoder(LIMITS)
    body = b""
    for piece in pieces:
        if piece and decoder.done:
            raise BadMessage(400, "more than one message")
        body += decoder.feed(piece) if piece else b""
    if decoder.rest:
        raise BadMessage(400, "more than one message")
    return body if decoder.done else None


# Every method of HTTP that llhttp knows.
KNOWN = set(
    b"ACL BIND CHECKOUT CONNECT COPY DELETE GET HEAD LINK LOCK M-SEARCH MERGE MKACTIVITY MKCALENDAR MKCOL MOVE NOTIFY "
    b"OPTIONS PATCH POST PROPFIND PROPPATCH PURGE PUT QUERY REBIND REPORT SEARCH SOURCE SUBSCRIBE TRACE UNBIND UNLINK "
    b"UNLOCK UNSUBSCRIBE".split()
)
HEAD = b"GET / HTTP/1.1\r\nHost: a\r\n"
CHUNKED_HEAD = b"POST /p HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n"
WEBSOCKET = b"Upgrade: websocket\r\nConnection: Upgrade\r\n"


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


# What both take, and to the same end.
AGREED = {
    "plain": HEAD + b"\r\n",
    "characters that browsers send": b"GET /?a=%zz&b=|{}^`~[]' HTTP/1.1\r\nHost: a\r\n\r\n",
    "absolute-form": b"GET http://a:80/b?x HTTP/1.1\r\nHost: a:80\r\n\r\n",
    "absolute-form without a path": b"GET HTTPS://a?x HTTP/1.1\r\nHost: a\r\n\r\n",
    "IPv6": b"GET http://[::1]:80/ HTTP/1.1\r\nHost: [::1]:80\r\n\r\n",
    "asterisk-form": b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n",
    "two slashes": b"GET //b/c HTTP/1.1\r\nHost: a\r\n\r\n",
    "1.0 without Host": b"GET / HTTP/1.0\r\n\r\n",
    "an empty line first": CRLF + HEAD + b"\r\n",
    "obs-text": HEAD + b"X: \xff\x80\r\n\r\n",
    "tabs and nothing": HEAD + b"X: a\tb\r\nY:\r\nZ: \t \r\n\r\n",
    "every tchar": HEAD + b"!#$%&'*+-.^_`|~09azAZ: x\r\n\r\n",
    "zeros first": HEAD + b"Content-Length: 007\r\n\r\n1234567",
    "18 digits": HEAD + b"Content-Length: 000000000000000005\r\n\r\n12345",
    "white space around a length": HEAD + b"Content-Length:\t 5 \t\r\n\r\n12345",
    "a length of 0": HEAD + b"Content-Length: 0\r\n\r\n",
    "CHUNKED": b"POST /p HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: \tCHUNKED \r\n\r\n0\r\n\r\n",
    "Upgrade": HEAD + WEBSOCKET + b"\r\n",
    "h2c": HEAD + b"Upgrade: h2c\r\nConnection: Upgrade, HTTP2-Settings\r\nHTTP2-Settings: AAA\r\n\r\n",
    "Connection with empty members": HEAD + b"Connection: close, x,,\r\n\r\n",
    "chunks": CHUNKED_HEAD + b"\r\n5\r\nhello\r\nA\r\n0123456789\r\n0\r\n\r\n",
    "chunk sizes with zeros first": CHUNKED_HEAD + b"\r\n00005\r\nhello\r\n0000\r\n\r\n",
    "trailers": CHUNKED_HEAD + b"\r\n0\r\nX: y\r\nZ:\r\n\r\n",
    "extensions": CHUNKED_HEAD + b'\r\n5;a=b;c="x y\\"\xe9";d=""\r\nhello\r\n0;e\r\n\r\n',
    "payload that looks like the end": CHUNKED_HEAD + b"\r\n5\r\n0\r\n\r\n\r\n0\r\n\r\n",
}


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
    places = [
        b"%c / HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET%c/ HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET /%c HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET /?%c HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET http://a%c/ HTTP/1.0\r\n\r\n",
        b"GET / HTTP/1.%c\r\nHost: a\r\n\r\n",
        b"GET / HTTP/1.1%c\r\nHost: a\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost:%ca\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a%c\r\n\r\n",
        HEAD + b"%c\r\n\r\n",
        HEAD + b"X%c: b\r\n\r\n",
        HEAD + b"X: a%cb\r\n\r\n",
        HEAD + b"X: a\r%c\r\n\r\n",
        HEAD + b"Content-Length:%c5\r\n\r\nhello",
        HEAD + b"Content-Length: 5%c\r\n\r\nhello",
        HEAD + b"Transfer-Encoding:%cchunked\r\n\r\n0\r\n\r\n",
        HEAD + b"Transfer-Encoding: chunked%c\r\n\r\n0\r\n\r\n",
        CHUNKED_HEAD + b"\r\n%c\r\nhello\r\n0\r\n\r\n",
        CHUNKED_HEAD + b"\r\n5%c\r\nhello\r\n0\r\n\r\n",
        CHUNKED_HEAD + b"\r\n5;%c\r\nhello\r\n0\r\n\r\n",
        CHUNKED_HEAD + b"\r\n5;a=%c\r\nhello\r\n0\r\n\r\n",
        CHUNKED_HEAD + b'\r\n5;a="%c"\r\nhello\r\n0\r\n\r\n',
        CHUNKED_HEAD + b"\r\n5\r\nhello%c\r\n0\r\n\r\n",
        CHUNKED_HEAD + b"\r\n5\r\nhello\r%c0\r\n\r\n",
        CHUNKED_HEAD + b"\r\n5\r\nhello\r\n0\r\n%c\r\n\r\n",
        CHUNKED_HEAD + b"\r\n5\r\nhello\r\n0\r\nX%c: y\r\n\r\n",
        CHUNKED_HEAD + b"\r\n5\r\nhello\r\n0\r\nX: %c\r\n\r\n",
    ]
    for place in places:
        for byte in range(256):
            check(place % byte)


EXAMPLES = 500
METHODS = st.sampled_from(sorted(KNOWN)) | st.from_regex(rb"[!-~]{1,6}", fullmatch=True)
TARGETS = (
    st.sampled_from([b"/", b"*", b"//", b"/a?b=c", b"http://a/", b"https://a?x", b"http://b/", b"a", b"/%zz", b"/a#b"])
    | st.binary(max_size=8).map(lambda some: b"/" + some)
    | st.binary(max_size=8).map(lambda some: b"http://a" + some)
)
VERSIONS = st.sampled_from([b"HTTP/1.1"] * 6 + [b"HTTP/1.0"] * 2 + [b"HTTP/2.0", b"HTTP/1.2", b"http/1.1", b"HTTP/11"])
LINES = st.sampled_from(
    [
        *[b"Host: a", b"Host:a", b"host: \ta ", b"Host: a:80", b"Host: b", b"Host:"],
        *[b"Content-Length: 5", b"Content-Length: 0", b"content-length: 005", b"Content-Length: 5, 5"],
        *[b"Content-Length: +5", b"Content-Length: 5 5", b"Content-Length: 0x5", b"Content-Length : 5"],
        *[b"Transfer-Encoding: chunked", b"transfer-encoding: Chunked", b"Transfer-Encoding: gzip, chunked"],
        *[
            b"Transfer-Encoding: identity",
            b"Transfer-Encoding:",
            b"Transfer-Encoding: chunked,",
            b"Transfer-Encoding : x",
        ],
        *[b"Connection: close", b"Connection: keep-alive", b"Connection: upgrade", b"Upgrade: websocket"],
        *[b"Expect: 100-continue", b"TE: trailers", b" folded: x", b"X: y", b"X:", b"X", b": y", b""],
    ]
) | st.tuples(st.binary(min_size=1, max_size=4), st.binary(max_size=6)).map(b":".join)
BODIES = st.sampled_from(
    [
        *[b"", b"hello", b"5\r\nhello\r\n0\r\n\r\n", b"0\r\n\r\n", b"5;a=b\r\nhello\r\n0;c\r\n\r\n"],
        *[b"5\r\nhello\r\n0\r\nX: y\r\n\r\n", b"2\r\nhello\r\n0\r\n\r\n", b"0\r\n\r\nGET / HTTP/1.1\r\n\r\n"],
        *[b"5 \r\nhello\r\n0\r\n\r\n", b"5\nhello\n0\n\n", b"-5\r\nhello\r\n0\r\n\r\n"],
    ]
)


@settings(max_examples=EXAMPLES)
@given(METHODS, TARGETS, VERSIONS, st.lists(LINES, max_size=5), BODIES)
def test_made_up_requests(method, target, version, lines, body):
    head = CRLF.join([b" ".join([method, target, version]), b"Host: a", *lines])
    event(check(head + BLANK_LINE + body))


EDITS = st.lists(
    st.tuples(
        st.integers(0, 200),
        st.integers(0, 2),
        st.sampled_from([b"\r", b"\n", CRLF, b" ", b"\t", b":", b",", b";"]) | st.binary(max_size=2),
    ),
    min_size=1,
    max_size=3,
)


@settings(max_examples=EXAMPLES)
@given(st.sampled_from([*AGREED.values()]), EDITS)
def test_messages_that_are_slightly_wrong(data, edits):
    for place, removed, put in edits:
        at = place % len(data)
        data = data[:at] + put + data[at + removed :]
    event(check(data))
