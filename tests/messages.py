"""Requests to hold our reading and another one's against each other, and how we read one: as the connection does it."""

from hypothesis import strategies as st

from twisted_lb.wire.chunked import ChunkDecoder
from twisted_lb.wire.grammar import BLANK_LINE, CHUNKED, CRLF, BadMessage, Limits
from twisted_lb.wire.request import parse_request, resolve_target
from twisted_lb.wire.rewrite import Forwarding, upstream_head, upstream_tail

LIMITS = Limits()
REFUSED = "refused"
INCOMPLETE = "incomplete"


def ours(data: bytes, cut: int = 0):
    """(method, target, version, host, framing, body) of one request as we read it, or why there is none; the body in two pieces if `cut` falls into it."""
    start = 2 if data.startswith(CRLF) else 0
    end = data.find(BLANK_LINE, start)
    if end < 0:
        return INCOMPLETE
    try:
        head = parse_request(data[start:end], LIMITS)
        resolve_target(head.method, head.target, head.fields)
        body = our_body(head.fields.framing, [data[end + 4 : max(cut, end + 4)], data[max(cut, end + 4) :]])
    except BadMessage:
        return REFUSED
    if body is None:
        return INCOMPLETE
    return head.method, head.target, head.fields.version, head.fields.host, head.fields.framing, body


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

# What everybody takes, and to the same end.
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

# One byte of each of these is to be any byte.
PLACES = [
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
EDITS = st.lists(
    st.tuples(
        st.integers(0, 200),
        st.integers(0, 2),
        st.sampled_from([b"\r", b"\n", CRLF, b" ", b"\t", b":", b",", b";"]) | st.binary(max_size=2),
    ),
    min_size=1,
    max_size=3,
)


def edited(data: bytes, edits: list[tuple[int, int, bytes]]) -> bytes:
    """The message with these changes: where, how many bytes less, what instead."""
    for place, removed, put in edits:
        at = place % len(data)
        data = data[:at] + put + data[at + removed :]
    return data


def head_for_backend(parsed, client, forwarding=None, upgrade: bytes = b"") -> bytes:
    """What a backend is sent behind the request line, of what `parse_request_fields` gave."""
    fields, lines = parsed
    return upstream_head(lines, upstream_tail(fields, client, forwarding or Forwarding(), upgrade))
