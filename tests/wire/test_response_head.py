"""Response heads, with the rigour of requests."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twisted_lb.wire.grammar import CHUNKED, UNTIL_CLOSE, BadMessage, Limits
from twisted_lb.wire.response import parse_response

LIMITS = Limits()

# (head, framing, persistent); framing None: refused
HEADS = [
    (b"HTTP/1.1 200 OK\r\nContent-Length: 5", 5, True),
    (b"HTTP/1.1 200 \r\nContent-Length: 5", 5, True),
    (b"HTTP/1.1 200\r\nContent-Length: 5", 5, True),
    (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked", CHUNKED, True),
    (b"HTTP/1.1 200 OK", UNTIL_CLOSE, True),
    (b"HTTP/1.0 200 OK\r\nContent-Length: 5", 5, False),
    (b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 5", 5, True),
    (b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 5", 5, False),
    (b"HTTP/1.1 200 na\xefve", UNTIL_CLOSE, True),
    (b"HTTP/1.1 599 X", UNTIL_CLOSE, True),
    (b"HTTP/1.1 99 X", None, None),
    (b"HTTP/1.1 600 X", None, None),
    (b"HTTP/1.1 1000 X", None, None),
    (b"HTTP/1.1 2x0 X", None, None),
    (b"HTTP/1.1  200 X", None, None),
    (b"HTTP/1.1 200OK", None, None),
    (b"HTTP/2.0 200 OK", None, None),
    (b"HTTP/1.2 200 OK", None, None),
    (b"http/1.1 200 OK", None, None),
    (b"ICY 200 OK", None, None),
    (b"HTTP/1.1 200 O\x00K", None, None),
    (b"HTTP/1.1 200 O\rK", None, None),
    (b"HTTP/1.1 200 OK\nX: y", None, None),
    (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 5", None, None),
    (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6", None, None),
    (b"HTTP/1.1 200 OK\r\nContent-Length: 5, 5", None, None),
    (b"HTTP/1.1 200 OK\r\nContent-Length: -5", None, None),
    (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked", None, None),
    (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked", None, None),
    (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: identity", None, None),
    (b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked", None, None),
    (b"HTTP/1.1 200 OK\r\nX : y", None, None),
    (b"HTTP/1.1 200 OK\r\nX: y\r\n folded", None, None),
    (b"HTTP/1.1 200 OK\r\nX: \x00", None, None),
    (b"", None, None),
]


@pytest.mark.parametrize(("head", "framing", "persistent"), HEADS, ids=[repr(row[0][:60]) for row in HEADS])
def test_a_head_is_taken_or_refused(head, framing, persistent):
    if framing is None:
        with pytest.raises(BadMessage):
            parse_response(head, LIMITS)
    else:
        parsed = parse_response(head, LIMITS)
        assert (parsed.framing, parsed.persistent) == (framing, persistent)


@pytest.mark.parametrize(
    ("status", "method", "framing"),
    [(200, b"GET", 9), (200, b"HEAD", 0), (204, b"GET", 0), (304, b"GET", 0), (100, b"GET", 0), (500, b"POST", 9)],
)
def test_method_and_status_say_whether_there_is_a_body(status, method, framing):
    head = parse_response(b"HTTP/1.1 %d X\r\nContent-Length: 9" % status, LIMITS)
    assert head.body_of(method) == framing


def test_the_client_gets_the_lines_without_hop_by_hop_fields_and_framing():
    head = parse_response(
        b"HTTP/1.1 200 Fine\r\nTransfer-Encoding: chunked\r\nConnection: X, close\r\nX: 1\r\nKeep-Alive: a\r\nY: 2\r\nY: 3",
        LIMITS,
    )
    assert head.lines == b"Y: 2\r\nY: 3\r\n"
    assert head.wire == b"HTTP/1.1 200 Fine\r\nY: 2\r\nY: 3\r\nTransfer-Encoding: chunked\r\n"


@pytest.mark.parametrize("line", [b"200", b"200 ", b"200 Fine"])
def test_the_client_gets_a_whole_status_line(line):
    wanted = b"HTTP/1.1 " + (line if b" " in line else line + b" ") + b"\r\n"
    assert parse_response(b"HTTP/1.1 " + line, LIMITS).wire.startswith(wanted)
    assert parse_response(b"HTTP/1.0 " + line, LIMITS).wire.startswith(wanted)


@pytest.mark.parametrize("status", [b"101", b"204", b"304"])
def test_an_answer_that_has_no_body_is_not_called_chunked(status):
    assert b"chunked" not in parse_response(b"HTTP/1.1 " + status + b" X", LIMITS).wire


@given(st.binary(max_size=100))
def test_whatever_the_bytes_only_a_bad_message_is_raised(data):
    for head in (data, b"HTTP/1.1 200 OK\r\n" + data):
        try:
            parse_response(head, LIMITS)
        except BadMessage:
            pass
